"""Data of one's own: columns are guessed or asked for, rows are held out, names are understood.

Run: pytest tests/finetuning/test_own_data.py
"""

import json

import pytest
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_synpre.data.text_spec import TextSpec
from hf_synpre.errors import UsageError
from hf_synpre.finetuning import (
    TASKS,
    LabelTask,
    choose_task,
    label_tasks,
    own_corpus,
    own_data,
    task_from_fields,
)
from hf_synpre.finetuning.guess import guess_fields
from hf_synpre.finetuning.own_data import reads_lower_case, task_name
from hf_synpre.finetuning.tasks import complete_splits

ROWS = 30
TEXTS = [f"row {i} has words of its own" for i in range(ROWS)]
OTHERS = [f"another text {i}" for i in range(ROWS)]
CLASSES = [i % 3 for i in range(ROWS)]
WORDS = [f"word{i} and more".split() for i in range(ROWS)]
TAGS = [["B-X", "O", "O"] for _ in range(ROWS)]
ANSWERS = [{"text": ["row"], "answer_start": [0]} for _ in range(ROWS)]
LISTS_OF_ANSWERS = [[{"text": "row", "answer_start": 0}]] * ROWS


def classes(text, label="label"):
    return {"head": "classes", "text": text, "label": [label]}


GUESSES = [
    ({"review": TEXTS, "stars": CLASSES}, classes(["review"], "stars")),
    ({"idx": list(range(ROWS)), "sentence": TEXTS, "label": CLASSES}, classes(["sentence"])),
    ({"Text": TEXTS, "Label": [f"c{i}" for i in CLASSES]}, classes(["Text"], "Label")),
    (
        {"sentence1": TEXTS, "sentence2": OTHERS, "label": CLASSES},
        classes(["sentence1", "sentence2"]),
    ),
    ({"title": OTHERS, "body": TEXTS, "topic": CLASSES}, classes(["title", "body"], "topic")),
    ({"a": TEXTS, "b": [f"c{i}" for i in CLASSES]}, classes(["a"], "b")),
    (
        {"text": TEXTS, "user": [f"user{i}" for i in range(ROWS)], "sentiment": CLASSES},
        classes(["text"], "sentiment"),
    ),
    ({"question": TEXTS, "answer": ["yes", "no"] * 15}, classes(["question"], "answer")),
    (
        {"sentence1": TEXTS, "sentence2": OTHERS, "score": [i / 7 for i in range(ROWS)]},
        {"head": "number", "text": ["sentence1", "sentence2"], "label": ["score"]},
    ),
    (
        {"smiles": TEXTS, "logS": [i / 7 for i in range(ROWS)]},
        {"head": "number", "text": ["smiles"], "label": ["logS"]},
    ),
    (
        {"text": TEXTS, "labels": [[0, 1, 1]] * 15 + [[1, 0, 0]] * 15},
        {"head": "labels", "text": ["text"], "label": ["labels"]},
    ),
    (
        {"tokens": WORDS, "pos_tags": TAGS, "ner_tags": TAGS},
        {"head": "tags", "text": ["tokens"], "label": ["ner_tags"]},
    ),
    (
        {"id": TEXTS, "context": TEXTS, "question": OTHERS, "answers": ANSWERS},
        {"head": "span", "text": ["context", "question"], "label": ["answers"]},
    ),
    (
        {
            "context": TEXTS,
            "question": OTHERS,
            "answers": [[{"text": "row", "answer_start": 0}]] * ROWS,
        },
        {"head": "span", "text": ["context", "question"], "label": ["answers"]},
    ),
    (
        {"ctx": TEXTS, "endings": WORDS, "label": CLASSES},
        {"head": "choices", "text": ["ctx"], "label": ["label"], "choices": ["endings"]},
    ),
    ({"question": TEXTS, "answer": OTHERS}, {"source": ["question"], "target": ["answer"]}),
    ({"java": TEXTS, "cs": OTHERS}, {"source": ["java"], "target": ["cs"]}),
    (
        {"product": TEXTS, "reactants": OTHERS, "reaction_class": CLASSES},
        {"source": ["product"], "target": ["reactants"]},
    ),
    ({"english": TEXTS, "danish": OTHERS}, {"source": ["english"], "target": ["danish"]}),
]


@pytest.mark.parametrize(("columns", "expected"), GUESSES, ids=lambda v: " ".join(v))
def test_columns_are_guessed(columns, expected):
    assert guess_fields(Dataset.from_dict(columns), {}, "rows.csv") == expected


def test_a_class_label_is_a_label_whatever_its_name():
    features = Features({"words": Value("string"), "kind_of": ClassLabel(names=["x", "y"])})
    rows = Dataset.from_dict({"words": TEXTS, "kind_of": [0] * 29 + [1]}, features)
    assert guess_fields(rows, {}, "rows") == classes(["words"], "kind_of")
    tags = Features({"tokens": List(Value("string")), "ner": List(ClassLabel(names=["O", "B-X"]))})
    rows = Dataset.from_dict({"tokens": [["a"]] * ROWS, "ner": [[1]] * ROWS}, tags)
    assert guess_fields(rows, {}, "rows")["head"] == "tags"


def test_what_is_given_wins_and_completes_the_guess():
    rows = Dataset.from_dict({"a": TEXTS, "b": OTHERS, "c": CLASSES, "d": CLASSES})
    assert guess_fields(rows, {"label": ["d"], "text": ["b"]}, "r") == classes(["b"], "d")
    assert guess_fields(rows, {"label": ["c", "d"], "text": ["a"]}, "r")["head"] == "labels"
    assert guess_fields(rows, {"label": ["c"], "head": "number"}, "r") == {
        "head": "number",
        "text": ["a", "b"],
        "label": ["c"],
    }
    assert guess_fields(rows, {"source": ["{a} of {c}"]}, "r")["target"] == ["b"]
    assert guess_fields(rows, {"target": ["a"]}, "r")["source"] == ["b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "which are meant is not clear. Give --text and --label"),
        ({"label": ["e"]}, "Unknown column of r.csv 'e'. Allowed: a, b, c, d, f"),
        (
            {"head": "classes"},
            r"r.csv has the columns a \(text\), b \(text\), c \(whole numbers that repeat\)",
        ),
    ],
)
def test_an_unclear_or_wrong_column_is_refused(given, message):
    columns = {"a": TEXTS, "b": OTHERS, "c": CLASSES, "d": CLASSES, "f": OTHERS}
    with pytest.raises(UsageError, match=message):
        guess_fields(Dataset.from_dict(columns), given, "r.csv")


def test_case_is_kept_in_data_of_one_s_own():
    assert not LabelTask("mine", "classes", [["text"]], [["label"]]).lowercase
    assert TASKS["ag_news"].lowercase


def test_the_field_lowercase_is_read_by_self_pretraining_too(tmp_path, monkeypatch):
    rows = "".join(f"word {i},{'no' if i % 2 else 'yes'}\n" for i in range(40))
    (tmp_path / "train.csv").write_text("a,b\n" + rows)
    definition = {"head": "classes", "text": "a", "label": "b", "lowercase": True}
    for name, fields in {"lower": definition, "kept": definition | {"lowercase": False}}.items():
        value = {"name": name, "data_dir": str(tmp_path)} | fields
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(value))
    assert reads_lower_case(str(tmp_path / "lower.yaml"), None)
    assert not reads_lower_case(str(tmp_path / "kept.yaml"), None)
    assert not reads_lower_case(str(tmp_path), None)

    # A folder of a task's name is the folder.
    assert reads_lower_case("ag_news", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ag_news").mkdir()
    assert not reads_lower_case("ag_news", None)


def test_whole_numbers_that_may_tell_rows_apart_are_not_predicted():
    rows = Dataset.from_dict({"number": list(range(ROWS)), "smiles": TEXTS})
    with pytest.raises(UsageError, match=r"number \(whole number\), smiles \(text\); which are m"):
        guess_fields(rows, {}, "r")
    assert guess_fields(rows, {"label": ["number"]}, "r")["head"] == "number"


def test_choices_that_cannot_be_read_are_not_left_out_of_a_question():
    choices = {"text": ["a b", "c d"], "label": ["A", "B"]}
    columns = {
        "question": TEXTS,
        "choices": [choices] * ROWS,
        "answerKey": ["A", "B"] * (ROWS // 2),
    }
    rows = Dataset.from_dict(columns)
    with pytest.raises(UsageError, match="the column choices looks like the choices of a question"):
        guess_fields(rows, {}, "r")
    given = {"text": ["question"], "label": ["answerKey"]}
    assert guess_fields(rows, given, "r") == classes(["question"], "answerKey")


def test_a_file_becomes_a_task_whose_rows_are_held_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"{text},{label}" for text, label in zip(TEXTS, CLASSES, strict=True)]
    (tmp_path / "my reviews.csv").write_text("\n".join(["review,stars", *lines]))
    choice = choose_task("my reviews.csv", {})
    assert choice.name == "my-reviews"
    assert choice.definition == {"hold_out": True, **classes(["review"], "stars")}
    assert "predicts stars (one of its classes) from review" in choice.remarks[0]
    assert "Of the 30 rows of train 3 for validation and 3 for the test" in choice.remarks[2]

    splits = task_from_fields(choice.name, choice.definition).load(choice.data_dir)
    rows = [row["review"] for split in splits.values() for row in split]
    assert sorted(rows) == sorted(TEXTS)
    assert choice.train_rows == len(splits["train"]) == 24


def test_a_folder_of_a_known_task_is_ones_own_data_and_the_task_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        rows = [{"sentence": t, "label": c} for t, c in zip(TEXTS, CLASSES, strict=True)]
        file = tmp_path / "cola" / f"{split}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(json.dumps(row) for row in rows))
    choice = choose_task("./cola", {})
    assert choice.name == "own-cola"
    assert choice.remarks[1].startswith("Of the 30 rows of train 3 for validation are held out")
    assert choice.remarks[2] == (
        "hf_synpre has a task cola, so this one is called own-cola. `synpre finetune cola "
        "--data_dir ./cola` is that one, with its metric."
    )
    assert choose_task("cola", {}).data_dir == "cola"
    with pytest.raises(UsageError, match="cola is a task of hf_synpre, whose fields are known"):
        choose_task("cola", {"metric": "accuracy"})


def test_no_command_is_named_that_the_known_task_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["source,target", *(f"say {i} twice,{i} {i}" for i in range(30))]
    (tmp_path / "mtop.csv").write_text("\n".join(lines))
    choice = choose_task("mtop.csv", {})
    assert choice.name == "own-mtop"
    assert choice.remarks[-1] == "hf_synpre has a task mtop, so this one is called own-mtop."


def test_a_dataset_on_the_hub_is_asked_for_with_its_configuration(monkeypatch):
    asked = []

    def open_splits(*arguments):
        asked.append(arguments)
        rows = Dataset.from_dict({"text": TEXTS, "label": CLASSES})
        return DatasetDict(train=rows, validation=rows, test=rows)

    for module in (own_data, label_tasks):
        monkeypatch.setattr(module, "open_splits", open_splits)
    choice = choose_task("someone/tweets", {"hub_config": "english"})
    assert set(asked) == {("someone/tweets", "english", None)}
    assert choice.data_dir is None
    assert choice.definition["hub_id"] == "someone/tweets"
    assert len(choice.remarks) == 1


def test_a_task_is_named_by_its_file_folder_or_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("pets/train.csv", "pets/my list.2.csv.gz", "cola/rows.csv"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    names = {
        "pets": "pets",
        "pets/train.csv": "pets-train",
        "pets/my list.2.csv.gz": "my-list",
        "cola": "own-cola",
        "someone/tweets": "tweets",
    }
    assert {data: task_name(data) for data in names} == names


def test_a_yaml_file_may_say_where_its_rows_are(tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"a": a, "b": b}) for a, b in zip(TEXTS, OTHERS, strict=True))
    )
    (tmp_path / "task.yaml").write_text("name: mine\nsource: a\ntarget: b\ndata_dir: rows.jsonl\n")
    choice = choose_task(str(tmp_path / "task.yaml"), {"metric": "token_f1"})
    assert choice.data_dir == str(tmp_path / "rows.jsonl")
    task = task_from_fields(choice.name, choice.definition)
    assert (task.source, task.target, task.metric) == (["a"], ["b"], "token_f1")
    assert choice.train_rows == 24


def test_self_pretraining_reads_the_rows_that_finetuning_trains_on(tmp_path, monkeypatch):
    """The rows that are held out of a single file are in no corpus, however it is named."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{text},{label}" for text, label in zip(TEXTS, CLASSES, strict=True)]
    (tmp_path / "reviews.csv").write_text("\n".join(["review,stars", *lines]))
    (tmp_path / "task.yaml").write_text(
        "name: mine\nhead: classes\ntext: review\nlabel: stars\ndata_dir: reviews.csv\n"
    )
    choice = choose_task("reviews.csv", {})
    train = task_from_fields(choice.name, choice.definition).load(choice.data_dir)["train"]
    for data in ("reviews.csv", "task.yaml"):
        corpus, remarks = own_corpus(data, None, TextSpec(order="natural"))
        texts = [*corpus.texts("train"), *corpus.texts("validation")]
        assert sorted(texts) == sorted(train["review"])
        assert corpus.metadata["checked_against"] == {"validation": 3, "test": 3}
        if data == "reviews.csv":
            assert "reviews.csv: the text is review, as synpre finetune reads it;" in remarks[1]
            assert corpus.metadata["rows"] + corpus.metadata["held_out_rows"] == ROWS

    # Texts of one word are read as finetune reads them; columns that are named win.
    (tmp_path / "words.csv").write_text(
        "\n".join(["name,kind", *(f"n{i},k{kind}" for i, kind in enumerate(CLASSES))])
    )
    assert own_corpus("words.csv", None, TextSpec())[0].metadata["columns"] == ["name"]
    named = TextSpec(columns=["kind", "name"])
    assert own_corpus("words.csv", None, named)[0].metadata["columns"] == ["kind", "name"]

    # Rows that no task is made of are all read.
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    corpus, remarks = own_corpus("texts.txt", None, TextSpec())
    assert corpus.metadata["rows"] + corpus.metadata["held_out_rows"] == ROWS
    assert remarks == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("own.yam", r"There is no file or folder own.yam. Did you mean own.yaml\?"),
        (
            "folder/revues.csv",
            "There is no file or folder folder/revues.csv. Did you mean folder/r",
        ),
        ("notes.md", r"notes.md is neither the definition of a task \(.yaml, .yml\) nor data"),
        ("colla", r"Unknown downstream task 'colla'. Did you mean 'cola'\?"),
    ],
)
def test_data_that_do_not_exist_are_one_clear_line(data, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for file in ("own.yaml", "notes.md", "folder/reviews.csv"):
        (tmp_path / file).write_text("")
    with pytest.raises(UsageError, match=message):
        choose_task(data, {})


def test_columns_may_be_a_word_a_list_or_a_list_of_lists():
    def text_of(text, label="c"):
        return task_from_fields("mine", {"head": "classes", "text": text, "label": label})

    assert text_of("a").text == [["a"]]
    assert text_of(["a", "b"]).text == [["a", "b"]]
    assert text_of([["a", "b"], ["a"]]).text == [["a", "b"], ["a"]]
    assert text_of("a", ["x", "y"]).label == [["x", "y"]]
    assert task_from_fields("mine", {"head": "text", "source": "a", "target": "b"}).source == ["a"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"source": "a", "target": "b", "label": "c"},
            "is a text-to-text task .*, and its key 'label' belongs to a labelled task",
        ),
        (
            {"head": "classes", "text": "a", "label": "b", "clean": ["lowercase"]},
            "is a labelled task .*, and its key 'clean' belongs to a text-to-text task",
        ),
        (
            {"text": "a", "label": "b"},
            "tasks.mine.define has a label and no head, .*; give head: classes, labels, number, ",
        ),
    ],
)
def test_a_key_of_the_other_kind_of_task_names_that_kind(fields, message):
    with pytest.raises(UsageError, match=message):
        task_from_fields("mine", fields)


def test_a_column_of_one_label_is_said():
    rows = Dataset.from_dict({"text": [f"text {i}" for i in range(9)], "label": ["good"] * 9})
    said = "d.csv: all 9 rows of train have the label 'good' in the column label, so there is noth"
    with pytest.raises(UsageError, match=said):
        guess_fields(rows, {"head": "classes"}, "d.csv")
    with pytest.raises(UsageError, match=said):
        guess_fields(
            rows.add_column("other", ["more " * i for i in range(9)]), {"text": ["text"]}, "d.csv"
        )


def test_language_modelling_refuses_columns_of_labels_in_the_words_of_the_command(tmp_path):
    file = tmp_path / "d.csv"
    file.write_text("text,label\na,b\n")
    said = "--head lm predicts the tokens of a text, and does not read --text; .* by --document"
    with pytest.raises(UsageError, match=said):
        choose_task(str(file), {"head": "lm", "text": ["text"]})


def test_no_held_out_row_is_in_train_again():
    texts = [f"text {i % 60}" for i in range(300)]  # every row stands there five times
    dataset = DatasetDict(train=Dataset.from_dict({"text": texts, "label": [1] * 300}))
    splits = complete_splits("own", dataset, hold_out=True)
    seen = set(splits["train"]["text"])
    assert seen
    assert seen.isdisjoint(splits["validation"]["text"])
    assert seen.isdisjoint(splits["test"]["text"])

    same = DatasetDict(train=Dataset.from_dict({"text": ["one"] * 30, "label": [1] * 30}))
    with pytest.raises(UsageError, match="own: every row of train is equal to one that is held"):
        complete_splits("own", same, hold_out=True)


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "train.csv"])
def test_a_header_without_rows_is_said(name, tmp_path):
    (tmp_path / name).write_text("text\tlabel\n" if name.endswith("tsv") else "text,label\n")
    data = tmp_path if name == "train.csv" else tmp_path / name
    said = f"{data} has no rows of train: there is nothing below the names of its columns, text, la"
    for read in (
        lambda: choose_task(str(data), {}),
        lambda: own_corpus(str(data), None, TextSpec()),
    ):
        with pytest.raises(UsageError) as error:
            read()
        assert str(error.value).startswith(said)
