"""Labelled tasks: the table, splits without labels, names of labels, bad datasets in one line.

Run: pytest tests/finetuning/test_label_tasks.py
"""

import json

import pytest
from encoder_examples import labelled, write_dataset
from label_examples import TASKS, numbers, tags

from hf_synpre import UsageError
from hf_synpre.cli import main
from hf_synpre.config import build_spec
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.finetuning import TASKS as ALL_TASKS
from hf_synpre.finetuning import FinetuningSpec, LabelTask, find_head, prepare
from hf_synpre.finetuning.catalog import LABEL_TASKS, LANGUAGE_TASKS, TEXT_TO_TEXT_TASKS
from hf_synpre.finetuning.label_rows import ChoiceRows


def test_the_table_has_the_papers_datasets():
    ten = {
        "ag_news",
        "qqp",
        "jigsaw",
        "mnli",
        "sentiment140",
        "paws",
        "dbpedia_14",
        "discovery",
        "yahoo_answers_topics",
    }
    others = {"amazon_polarity", "squad_span", "swag", "hellaswag", "conll2012"}
    labelled_tasks = {task.name for task in LABEL_TASKS}
    assert ten | others <= labelled_tasks
    assert {"cola", "sst2", "mrpc", "stsb", "qnli", "rte", "wnli"} <= labelled_tasks
    assert len(ALL_TASKS) == len((*LABEL_TASKS, *TEXT_TO_TEXT_TASKS, *LANGUAGE_TASKS))
    assert all(task.hub_id for task in LABEL_TASKS)
    for task in LABEL_TASKS:
        for recipe in task.presets.values():
            build_spec(FinetuningSpec, recipe["finetuning"], task.name)


def opened(tmp_path, task, **splits):
    write_dataset(tmp_path / task.name, **splits)
    return task.load(str(tmp_path))


def test_hidden_test_labels_make_validation_the_test(tmp_path):
    rows = labelled(0, 100)
    hidden = {"text": rows["text"][:10], "label": [-1] * 10}
    splits = opened(
        tmp_path, TASKS["classes"][0], train=rows, validation=labelled(100, 20), test=hidden
    )
    counts = {split: len(rows) for split, rows in splits.items()}
    assert counts == {"train": 90, "validation": 10, "test": 20}


def test_a_hidden_test_is_not_pre_trained_on_either(tmp_path):
    rows, hidden, other = labelled(0, 100), labelled(20, 10) | {"label": [-1] * 10}, labelled(40, 5)
    write_dataset(
        tmp_path / "classes",
        train=rows,
        validation=labelled(100, 20),
        test=hidden,
        validation_mismatched=other,
    )
    metadata = TASKS["classes"][0].corpus(str(tmp_path), TextSpec()).metadata
    unused = {"unused test": 10, "unused validation_mismatched": 5}
    assert metadata["checked_against"] == {"validation": 10, "test": 20} | unused
    assert (
        metadata["rows"] + metadata["held_out_rows"]
        == 90 - metadata["dropped_rows_of_other_splits"]
    )
    assert metadata["dropped_rows_of_other_splits"] > 10


def test_a_label_of_the_test_alone_may_be_left_out(tmp_path):
    train = {"text": labelled(0, 100)["text"], "sentiment": [0, 4] * 50}
    test = {"text": labelled(100, 9)["text"], "sentiment": [0, 2, 4] * 3}
    write_dataset(tmp_path / "sentiment140", train=train, test=test)
    data = prepare(
        ALL_TASKS["sentiment140"], tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400
    )
    assert data.rows("test").true_labels.tolist() == [0, 1] * 3
    assert data.metadata["labels"] == [0, 4]


def test_tags_that_are_numbers_have_the_names_of_their_task(tmp_path):
    rows = tags(0, 40)
    numbered = {
        "tokens": rows["tokens"],
        "tags": [[int(tag != "O") for tag in row] for row in rows["ner_tags"]],
    }
    write_dataset(tmp_path / "conll2012", train=numbered, test=numbered)
    data = prepare(ALL_TASKS["conll2012"], tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)
    assert data.metadata["labels"][:3] == ["O", "B-CARDINAL", "B-DATE"]
    assert len(data.metadata["labels"]) == 37 == len(set(data.metadata["labels"]))
    numbered["ner_tags"] = numbered.pop("tags")
    write_dataset(tmp_path / "wnut_17", train=numbered, test=numbered)
    with pytest.raises(
        UsageError, match=r"the tags \[0, 1\] are not BIO, as B-PER, I-PER, O; give label_names"
    ):
        prepare(ALL_TASKS["wnut_17"], tmp_path / "others", data_dir=str(tmp_path), vocab_size=400)


@pytest.mark.parametrize(
    ("name", "splits", "message"),
    [
        (
            "classes",
            {"train": {"text": ["a b"]}, "test": {"text": ["c d"]}},
            "column label is not in the dataset; it has text",
        ),
        ("classes", {"test": labelled(0, 4)}, "classes has no train split; it has test"),
        ("classes", {"train": labelled(0, 4)}, "classes has no validation split; it has train"),
        (
            "classes",
            {"train": {"text": [1, 2], "label": [0, 1]}, "test": {"text": [1], "label": [0]}},
            "column text of train holds whole numbers; give text",
        ),
        (
            "classes",
            {"train": {"text": ["a", "b"], "label": [-1, -1]}, "test": labelled(0, 4)},
            "the rows of train have no labels",
        ),
        (
            "tags",
            {"train": labelled(0, 4), "test": labelled(0, 4)},
            "column ner_tags is not in the dataset",
        ),
        (
            "tags",
            {
                "train": {"tokens": ["a b"], "ner_tags": [["O", "O"]]},
                "test": {"tokens": ["a b"], "ner_tags": [["O", "O"]]},
            },
            "tokens of train holds text; give a list of words",
        ),
        (
            "number",
            {"train": numbers(0, 4) | {"label": ["x"] * 4}, "test": numbers(0, 4)},
            "label of train holds text, no labels of the head number",
        ),
    ],
)
def test_bad_datasets_are_refused_in_one_line(name, splits, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, TASKS[name][0], **splits)


def test_another_dataset_of_the_folder_is_not_taken(tmp_path):
    write_dataset(tmp_path / "other", train=labelled(0, 40), test=labelled(40, 4))
    with pytest.raises(
        UsageError, match="holds no dataset classes; give the folder of a dataset in Hub layout"
    ):
        TASKS["classes"][0].load(str(tmp_path))
    assert len(TASKS["classes"][0].load(str(tmp_path / "other"))["test"]) == 4


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "choices",
            {"label": ["4"]},
            "the label '4' and 4 choices; give the number of the right one, 0 to 3",
        ),
        ("choices", {"label": ["²"]}, "the label '²' and 4 choices; give the number of the right"),
        (
            "choices",
            {"endings": [["a b", "c d"]]},
            "rows of train have 4 and 2 choices; give the same number in every row",
        ),
        (
            "labels",
            {"labels": [[1, 0]]},
            r"a row of train has the labels \[1.0, 0.0\]; give 3 of 0 or 1 in every row",
        ),
        ("labels", {"labels": [None]}, r"a row of train has no label \(None\); give one in every"),
        ("labels", {"labels": [[27, 3, 1]]}, r"a row of train has the labels \[27.0, 3.0, 1.0\]"),
        ("number", {"label": [float("inf")]}, "has the label inf; give a finite number in every"),
        (
            "choices",
            {"endings": [["a b", None, "c d", "e"]]},
            "1 of 4[0-9] rows of train have no text in endings; give text in every row",
        ),
        ("span", {"context": [None]}, "1 of 4[0-9] rows of train have no text in context; give"),
        ("tags", {"tokens": [["a", None]]}, "rows of train have no text in tokens; give text"),
        (
            "tags",
            {"tokens": [[]], "ner_tags": [[]]},
            "a row of train has 0 words and 0 tags; give one tag for each word",
        ),
        ("tags", {"ner_tags": [["O"]]}, "a row of train has 7 words and 1 tags"),
    ],
)
def test_rows_that_no_head_can_read_are_refused(name, change, message, tmp_path):
    task, rows, _ = TASKS[name]
    good, test = rows(0, 40), rows(40, 4)
    bad = {
        column: [*values[:-1], *change.get(column, values[-1:])] for column, values in good.items()
    }
    write_dataset(tmp_path / name, train=bad, validation=test, test=test)
    with pytest.raises(UsageError, match=message):
        prepare(task, tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)


def test_texts_that_are_missing_and_labels_that_differ_in_spelling_are_said(tmp_path, caplog):
    rows = {"text": [*(f"some text {i}" for i in range(39)), None], "label": ["a", "b"] * 20}
    rows["label"][:2] = ["A", "b "]
    write_dataset(tmp_path / "own", train=rows, test=rows)
    task = LabelTask("own", "classes", [["text"]], [["label"]])
    data = prepare(task, tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)
    assert "own: 1 of 40 rows of test have no text in text, and are read as empty." in caplog.text
    assert "'A' and 'a' are different classes; write them alike if one is meant" in caplog.text
    assert "'b' and 'b ' are different classes" in caplog.text
    assert len(data.rows("test").pieces(39)[0]) == 1


def test_a_label_that_train_lacks_is_refused(tmp_path):
    with pytest.raises(
        UsageError,
        match="a row of train has the label 'red'; give a list of 3 numbers, 0 or 1, in every row",
    ):
        find_head("labels").read_label(TASKS["labels"][0], "red", ["a", "b", "c"], "train")
    rows = {"train": labelled(0, 40), "test": labelled(0, 4) | {"label": [0, 1, 0, 7]}}
    write_dataset(tmp_path / "classes", **rows)
    with pytest.raises(
        UsageError, match="a row of test has the label 7, which no row of train has"
    ):
        prepare(TASKS["classes"][0], tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)
    alone = labelled(0, 40) | {"label": [1] * 40}
    write_dataset(tmp_path / "one" / "classes", train=alone, test=labelled(0, 4))
    with pytest.raises(
        UsageError, match="every row of train has the label 1; give rows of two labels or more"
    ):
        prepare(
            TASKS["classes"][0],
            tmp_path / "one ids",
            data_dir=str(tmp_path / "one"),
            vocab_size=400,
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": "class"}, "Did you mean 'classes'"),
        ({"head": "choices"}, "give columns of choices with the head choices"),
        ({"metric": "accuracy_f2"}, "Did you mean 'accuracy_f1'"),
        ({"rows": {"dev": 10}}, "Unknown split 'dev'"),
        ({"rows": {"train": 0}}, "rows of train is 0; give an integer >= 1"),
    ],
)
def test_bad_tasks_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        LabelTask(
            **{"name": "x", "head": "classes", "text": [["text"]], "label": [["label"]]} | fields
        )


def test_swag_continues_with_the_beginning_of_its_second_sentence(tmp_path):
    columns = {f"ending{k}": [f"end {k}"] * 30 for k in range(4)}
    rows = {
        "sent1": [f"A man sits {i}." for i in range(30)],
        "sent2": ["He"] * 30,
        "label": [i % 4 for i in range(30)],
    } | columns
    write_dataset(tmp_path / "swag", train=rows, test=rows)
    data = prepare(ALL_TASKS["swag"], tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)
    train = data.rows("train")
    assert isinstance(train, ChoiceRows)
    texts = []
    for index in range(len(train)):
        texts.append([data.tokenizer.decode(ids).strip() for ids in train.pieces(index)])
    third = next(row for row in texts if row[0].endswith(" 3."))
    assert third == ["a man sits 3.", "he end 0", "he end 1", "he end 2", "he end 3"]


def test_finetuning_on_labels_takes_an_encoder_unless_another_model_is_given(tmp_path):
    rows = {split: labelled(first, 30) for split, first in (("train", 0), ("validation", 50))}
    rows = {
        split: {"sentence": columns["text"], "label": columns["label"]}
        for split, columns in rows.items()
    }
    write_dataset(tmp_path / "cola", **rows)
    shape = "hidden_size=32,embedding_size=16,num_hidden_layers=1,num_attention_heads=2"
    argv = ["finetune", "cola", f"--data_dir={tmp_path}", f"--output_dir={tmp_path / 'out'}"]
    argv += ["--vocab_size=400", "--max_steps=1", "--optim=adamw_torch"]
    argv += [f"--config_overrides={shape},intermediate_size=32"]
    assert main(argv) == 0
    cell = json.loads((tmp_path / "out" / "cola--random--0.json").read_text())
    assert cell["config"]["model"]["model_type"] == "electra"
