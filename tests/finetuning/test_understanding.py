"""Heads: every kind of label learned from a tiny dataset, scores against known values, arms, gains, ensembles."""

import json

import numpy as np
import pytest
import torch
from selfpre import ENCODER, WORDS, labelled, sentence, write_dataset

from hf_synpre import UsageError
from hf_synpre.cli import main
from hf_synpre.config import build_spec
from hf_synpre.data.collators import LabelCollator
from hf_synpre.data.corpora import TextSpec
from hf_synpre.experiments import Experiment, ExperimentSpec
from hf_synpre.finetuning import TASKS as ALL_TASKS
from hf_synpre.finetuning import FinetuningSpec, LabelTask, find_head, finetune, prepare
from hf_synpre.finetuning.catalog import LABEL_TASKS, TEXT_TASKS
from hf_synpre.finetuning.finetuning import finetuning_trainer, planned_steps
from hf_synpre.finetuning.label_encoding import span_ids
from hf_synpre.finetuning.label_rows import ChoiceRows, SpecialTokensTemplate, cut
from hf_synpre.finetuning.metrics import (
    accuracy_f1,
    auc,
    entities,
    matthews,
    pearson_spearman,
    ranks,
    span_f1,
)
from hf_synpre.finetuning.span_answers import best_span
from hf_synpre.initialization import build
from hf_synpre.models.spec import ModelSpec
from hf_synpre.report import write_report
from hf_synpre.report.transfer import couple, gain_matrix, transfer
from hf_synpre.vocabulary import as_vocabulary

MODEL = ModelSpec("electra", overrides=ENCODER | {"embedding_size": 16})
TRAINING = {
    "optim": "adamw_torch",
    "learning_rate": 5e-3,
    "use_cpu": True,
    "per_device_train_batch_size": 16,
}


def pairs_of(first, count):
    one, two = ([sentence(i * k) for i in range(first, first + count)] for k in (1, 1))
    same = [i % 2 for i in range(first, first + count)]
    return {
        "sentence1": one,
        "sentence2": [f"{t} yes" if s else f"{t} no" for t, s in zip(two, same, strict=True)],
        "label": same,
    }


def multi(first, count):
    told = [[(i >> k) & 1 for k in range(3)] for i in range(first, first + count)]
    texts = [
        " ".join(w for w, on in zip(("red", "green", "blue"), row, strict=True) if on) or "none"
        for row in told
    ]
    return {"text": texts, "labels": told}


def numbers(first, count):
    shares = [i % 6 for i in range(first, first + count)]
    return {
        "sentence1": ["very " * n + "good" for n in shares],
        "sentence2": ["good"] * count,
        "label": [float(n) for n in shares],
    }


def choices(first, count):
    rights = [i % 4 for i in range(first, first + count)]
    endings = [
        ["ends right" if k == r else f"ends {WORDS[(i + k) % 16]}" for k in range(4)]
        for i, r in enumerate(rights)
    ]
    return {
        "ctx": [sentence(i) for i in range(first, first + count)],
        "endings": endings,
        "label": [str(r) for r in rights],
    }


def spans(first, count):
    contexts = [
        f"{sentence(i)} the hero is {WORDS[i % 5 + 2]}." for i in range(first, first + count)
    ]
    words = [WORDS[i % 5 + 2] for i in range(first, first + count)]
    starts = [len(c) - len(w) - 1 for c, w in zip(contexts, words, strict=True)]
    answers = [{"text": [w], "answer_start": [s]} for w, s in zip(words, starts, strict=True)]
    return {"context": contexts, "question": ["who is the hero?"] * count, "answers": answers}


def tags(first, count):
    words = [sentence(i).split() for i in range(first, first + count)]
    return {
        "tokens": words,
        "ner_tags": [["B-pet" if w in ("dog", "cat") else "O" for w in row] for row in words],
    }


TASKS = {
    "classes": (LabelTask("classes", "classes", [["text"]], [["label"]]), labelled, 0.9),
    "pairs": (
        LabelTask(
            "pairs", "classes", [["sentence1", "sentence2"]], [["label"]], metric="accuracy_f1"
        ),
        pairs_of,
        0.9,
    ),
    "labels": (LabelTask("labels", "labels", [["text"]], [["labels"]]), multi, 0.9),
    "number": (
        LabelTask("number", "number", [["sentence1", "sentence2"]], [["label"]]),
        numbers,
        0.8,
    ),
    "choices": (
        LabelTask("choices", "choices", [["ctx"]], [["label"]], [["endings"]]),
        choices,
        0.8,
    ),
    "span": (
        LabelTask("span", "span", [["context", "question"]], [["answers"]], max_source=48),
        spans,
        0.6,
    ),
    "tags": (LabelTask("tags", "tags", [["tokens"]], [["ner_tags"]]), tags, 0.9),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Every task as ids."""
    folder = tmp_path_factory.mktemp("tasks")
    made = {}
    for name, (task, rows, _) in TASKS.items():
        parts = {"train": rows(0, 192), "validation": rows(192, 32), "test": rows(224, 32)}
        write_dataset(folder / name, **parts)
        made[name] = prepare(task, folder / f"{name}.ids", data_dir=str(folder), vocab_size=400)
    return made


def fresh(data, seed=0):
    return headed(data, MODEL, seed)


def headed(data, model, seed=0):
    config = model.config(as_vocabulary(data.tokenizer))
    head = data.head_for(config)
    return build(head.model_class, head.configure(config, data), {}, seed)


@pytest.mark.parametrize("name", TASKS)
def test_every_head_learns(name, prepared, tmp_path):
    data, least = prepared[name], TASKS[name][2]
    slow = {"max_steps": 400, "learning_rate": 2e-3} if name == "labels" else {"max_steps": 160}
    spec = FinetuningSpec(TRAINING | slow, evaluations=4)
    outcome = finetune(fresh(data), data, spec, seed=0, output_dir=tmp_path)
    assert outcome["score"] >= least, outcome["scores"]
    assert outcome["metric"] == next(iter(outcome["scores"]))
    assert outcome["test_examples"] == 32
    assert outcome["spent"]["flops"] > 0
    assert 0 < outcome["spent"]["tokens"] <= outcome["spent"]["positions"]


def first_step(data, batch, accumulation, folder):
    training = TRAINING | {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
    }
    trainer = finetuning_trainer(
        fresh(data),
        data,
        FinetuningSpec(training | {"max_steps": 1, "logging_steps": 1}),
        0,
        folder,
    )
    trainer.args.train_sampling_strategy = "sequential"
    trainer.train()
    return [trainer.state.log_history[0][name] for name in ("loss", "grad_norm")]


@pytest.mark.parametrize("name", TASKS)
def test_accumulation_changes_neither_loss_nor_gradient(name, prepared, tmp_path):
    whole, parts = (first_step(prepared[name], *cut_in, tmp_path) for cut_in in ((16, 1), (4, 4)))
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("name", ["classes", "labels", "number", "choices", "span", "tags"])
def test_losses_are_the_models_own(name, prepared):
    data = prepared[name]
    model, rows = fresh(data).eval(), data.rows("train")
    batch = LabelCollator(0, name == "tags")([rows[i] for i in range(8)])
    own = (
        {"start_positions": batch["labels"][:, 0], "end_positions": batch["labels"][:, 1]}
        if name == "span"
        else {}
    )
    labels = batch.pop("labels")
    outputs = model(**batch)
    wanted = model(**batch, **own or {"labels": labels}).loss
    torch.testing.assert_close(find_head(data.task.head).loss(outputs, labels), wanted)


@pytest.mark.parametrize(
    ("kind", "shape", "types"),
    [
        ("roberta", {"type_vocab_size": 1}, False),
        ("gpt2", {}, False),
        ("electra", {"embedding_size": 16}, True),
    ],
)
def test_a_model_without_segments_gets_none(kind, shape, types, prepared, tmp_path):
    data = prepared["pairs"]
    model = ModelSpec(
        kind,
        overrides=shape
        | ({"n_embd": 32, "n_layer": 2, "n_head": 2} if kind == "gpt2" else ENCODER),
    )
    made = headed(data, model)
    trainer = finetuning_trainer(made, data, FinetuningSpec(TRAINING | {"max_steps": 1}), 0, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    assert ("token_type_ids" in batch) == types
    assert torch.isfinite(trainer.compute_loss(made, batch))


def test_rows_are_framed_as_the_tokenizer_does(prepared):
    data = prepared["pairs"]
    tokenizer, row = data.tokenizer, data.rows("train")[3]
    text = pairs_of(3, 1)
    wanted = tokenizer(text["sentence1"][0], text["sentence2"][0])
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert row[name].tolist() == wanted[name]
    assert row["labels"] == 1
    short = SpecialTokensTemplate.from_tokenizer(tokenizer, 12).row(*data.rows("train").pieces(3))
    assert len(short["input_ids"]) == 12


@pytest.mark.parametrize(
    ("first", "second", "room", "wanted"),
    [
        (100, 10, 50, (40, 10)),
        (10, 100, 50, (10, 40)),
        (100, 100, 50, (25, 25)),
        (5, 6, 50, (5, 6)),
        (30, 26, 51, (26, 25)),
    ],
)
def test_the_longer_text_is_cut_first(first, second, room, wanted):
    assert tuple(map(len, cut(np.zeros(first), np.zeros(second), room))) == wanted


def test_a_span_is_found_in_any_window(prepared):
    data = prepared["span"]
    rows = data.rows("test")
    logits = np.full((2, len(rows), 48), -10.0)
    for i in range(len(rows)):
        logits[0, i, rows[i]["labels"][0]] = logits[1, i, rows[i]["labels"][1]] = 10.0
    assert find_head(data.task.head).score(data, rows, logits)[0] == {"f1": 1.0, "exact_match": 1.0}
    question, context = map(len, rows.pieces(0))
    narrow = type(rows)(
        rows.encoded, SpecialTokensTemplate.from_tokenizer(data.tokenizer, 3 + question + context // 2 + 2)
    )
    assert len(narrow) > len(rows)
    covered = {
        window.example for k, window in enumerate(narrow.windows) if narrow[k]["labels"][1]
    }
    assert covered == set(range(32))
    assert span_ids([(0, 3), (4, 7), (8, 11)], {"text": ["def g"], "answer_start": [4]}) == [1, 2]
    assert best_span(np.array([0.0, 5.0, 1.0]), np.array([9.0, 0.0, 2.0])) == (9.0, 0, 0)
    assert best_span(np.array([0.0, 5.0, 1.0]), np.array([1.0, 0.0, 3.0])) == (8.0, 1, 2)


def test_words_beyond_the_length_are_said_to_be_outside(prepared):
    data = prepared["tags"]
    rows = type(data.rows("test"))(
        data.rows("test").encoded, SpecialTokensTemplate.from_tokenizer(data.tokenizer, 6)
    )
    logits = np.zeros((32, 8, 2))
    logits[:, :, data.metadata["labels"].index("B-pet")] = 1.0
    scores, _ = find_head(data.task.head).score(data, rows, logits)
    assert scores["tag_accuracy"] < 0.7
    assert all(len(row) == 7 for row in rows.true_labels)


def test_scores_have_known_values():
    said, true = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])
    assert accuracy_f1(said, true)[0] == {"accuracy": 0.5, "f1": 0.5}
    assert matthews(said, true)[0]["matthews_corr"] == 0.0
    assert matthews(true, true)[0]["matthews_corr"] == pytest.approx(1.0)
    assert matthews(np.ones(4), true)[0]["matthews_corr"] == 0.0
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]
    curved = pearson_spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 11.0]))[0]
    assert curved["spearman_corr"] == pytest.approx(1.0)
    assert curved["pearson_corr"] < 0.95
    two = auc(
        np.array([[0.1, 0.0], [0.4, 0.0], [0.35, 0.0], [0.8, 0.0]]),
        np.array([[0, 1], [0, 1], [1, 1], [1, 1]]),
    )[0]
    assert two["auc"] == 0.75  # the second label never varies
    assert entities(["B-a", "I-a", "I-b", "O", "I-a", "B-a"]) == {
        ("a", 0, 1),
        ("b", 2, 2),
        ("a", 4, 4),
        ("a", 5, 5),
    }
    assert span_f1([["B-a", "O"]], [["B-a", "B-b"]])[0] == {
        "span_f1": pytest.approx(2 / 3),
        "tag_accuracy": 0.5,
    }


def test_the_registry_has_the_papers_datasets():
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
    assert len(ALL_TASKS) == len(LABEL_TASKS) + len(TEXT_TASKS)
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
    found = opened(
        tmp_path, TASKS["classes"][0], train=rows, validation=labelled(100, 20), test=hidden
    )
    assert {split: len(data) for split, data in found.items()} == {
        "train": 90,
        "validation": 10,
        "test": 20,
    }


def test_a_hidden_test_is_not_pre_trained_on_either(tmp_path):
    rows, hidden, other = labelled(0, 100), labelled(20, 10) | {"label": [-1] * 10}, labelled(40, 5)
    write_dataset(
        tmp_path / "classes",
        train=rows,
        validation=labelled(100, 20),
        test=hidden,
        validation_mismatched=other,
    )
    facts = TASKS["classes"][0].corpus(str(tmp_path), TextSpec()).metadata
    unused = {"unused test": 10, "unused validation_mismatched": 5}
    assert facts["checked_against"] == {"validation": 10, "test": 20} | unused
    assert facts["rows"] + facts["held_out_rows"] == 90 - facts["dropped_rows_of_other_splits"]
    assert facts["dropped_rows_of_other_splits"] > 10


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
    found = {
        "tokens": rows["tokens"],
        "tags": [[int(tag != "O") for tag in row] for row in rows["ner_tags"]],
    }
    write_dataset(tmp_path / "conll2012", train=found, test=found)
    data = prepare(
        ALL_TASKS["conll2012"], tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400
    )
    assert data.metadata["labels"][:3] == ["O", "B-CARDINAL", "B-DATE"]
    assert len(data.metadata["labels"]) == 37 == len(set(data.metadata["labels"]))
    found["ner_tags"] = found.pop("tags")
    write_dataset(tmp_path / "wnut_17", train=found, test=found)
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
            "column text of train holds int64; give text",
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
            "tokens of train holds string; give a list of words",
        ),
        (
            "number",
            {"train": numbers(0, 4) | {"label": ["x"] * 4}, "test": numbers(0, 4)},
            "label of train holds string, no labels of the head number",
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
            "a row of train has the label '4' of 4 choices; give 0 or more",
        ),
        ("choices", {"label": [None]}, "a row of train has the label None of 4 choices"),
        (
            "choices",
            {"endings": [["a b", "c d"]]},
            "rows of train have 4 and 2 choices; give all as many",
        ),
        (
            "labels",
            {"labels": [[1, 0]]},
            r"a row of train has the labels \[1.0, 0.0\]; give 3 of 0 or 1 in every row",
        ),
        ("labels", {"labels": [[27, 3, 1]]}, r"a row of train has the labels \[27.0, 3.0, 1.0\]"),
        (
            "number",
            {"label": [float("nan")]},
            r"a row of train has no label \(nan\); give one in every row",
        ),
        (
            "classes",
            {"label": [None]},
            r"a row of train has no label \(None\); give one in every row",
        ),
        (
            "tags",
            {"tokens": [[]], "ner_tags": [[]]},
            "a row of train has 0 words and 0 tags; give a tag a word",
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


def test_a_label_that_train_lacks_is_refused(tmp_path):
    with pytest.raises(
        UsageError,
        match="a row of train has the label 'red'; give a list of 3 times 0 or 1 in every row",
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
        ({"head": "choices"}, "choices need columns"),
        ({"metric": "f2"}, "Did you mean 'f1'"),
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
    found = data.rows("train")
    assert isinstance(found, ChoiceRows)
    row = next(
        i for i in range(len(found)) if data.tokenizer.decode(found.pieces(i)[0]).endswith(" 3.")
    )
    words = [data.tokenizer.decode(piece).strip() for piece in found.pieces(row)]
    assert words == ["a man sits 3.", "he end 0", "he end 1", "he end 2", "he end 3"]


# Arms of an experiment.

RUN = {
    "objective": "rtd",
    "window": 24,
    "batch_size": 8,
    "target_accuracy": 2.0,
    "evaluations": 1,
    "validation_examples": 8,
}
STEPS = {"max_steps": 4, "optim": "adamw_torch", "learning_rate": 1e-3, "use_cpu": True}
DEFINED = {"head": "classes", "text": [["text"]], "label": [["label"]]}


def campaign(tmp_path, **changes):
    for name, first in (("one", 0), ("two", 500)):
        if not (tmp_path / name).exists():
            train, test = labelled(first, 80), labelled(first + 80, 20)
            if name == "two":  # a corpus may hold another task's test rows
                test["text"][:3] = labelled(0, 80)["text"][10:13]
            write_dataset(tmp_path / name, train=train, test=test)
    own = RUN | {"corpus": "self", "training": STEPS}
    given = {
        "name": "small",
        "model": {"model_type": "electra", "overrides": ENCODER | {"embedding_size": 16}},
        "pretraining": {
            "self": own,
            "one": own | {"corpus": "one"},
            "books": own | {"corpus": "two", "text": {"limit_mb": 0.002}},
            "tapt": own | {"start": "books"},
            "set": {
                "task": "set",
                "vocabulary": 64,
                "objective": "mlm",
                "batching": "packed",
                "evaluations": 1,
                "row_length": 64,
            }
            | {
                "parameters": {"min_length": 4, "max_length": 8},
                "training": STEPS | {"per_device_train_batch_size": 4},
            },
            "set_self": own | {"start": "set", "start_embeddings": "fresh"},
        },
        "tasks": {name: {"define": DEFINED, "vocab_size": 400} for name in ("one", "two")},
        "arms": {"random": {}, "equal_compute": {"compute_of": "tapt"}}
        | {
            run: {"init": "weights", "checkpoint": run, "embeddings": "kept"}
            for run in ("self", "one", "tapt", "set_self")
        }
        | {"natural": {"init": "weights", "checkpoint": "books", "embeddings": "kept"}}
        | {"synthetic": {"init": "weights", "checkpoint": "set"}},
        "finetuning": {"training": TRAINING | {"max_steps": 4}, "evaluations": 1},
        "seeds": [0, 1],
        "jobs": 1,
        "data_dir": str(tmp_path),
    }
    return build_spec(ExperimentSpec, given | changes, "x")


def test_every_arm_of_self_pretraining_runs_and_is_reported(tmp_path):
    experiment = Experiment(campaign(tmp_path), tmp_path / "results")
    assert experiment.run() == []
    cells = {f.stem: json.loads(f.read_text()) for f in (tmp_path / "results").glob("*--*--*.json")}
    assert len(cells) == 2 * 8 * 2
    runs = sorted(
        p.name.rpartition("-")[0]
        for p in (tmp_path / "results" / "work" / "pretraining").iterdir()
        if p.is_dir()
    )
    assert (
        runs.count("rtd-one") == 4
    )  # on its own text from scratch, which is arm one too, TAPT, after Set; for task two
    own = cells["two--self--0"]["phases"]["pretraining"]
    assert own["recipe"]["corpus"]["name"] == "two"
    assert own["recipe"]["corpus"]["checked_against"] == {"validation": 8, "test": 20}
    assert str(tmp_path) not in json.dumps(own)
    other = cells["two--one--0"]["phases"]["pretraining"]
    assert other["recipe"]["corpus"]["name"] == "one"
    assert other["test_rows_seen"] == {"one": 3}  # put there by `campaign`
    assert own["test_rows_seen"] == {"two": 0}
    tapt, natural = (
        cells[f"one--{arm}--0"]["phases"]["pretraining"] for arm in ("tapt", "natural")
    )
    assert tapt["before"]["flops"] == natural["flops"]
    spent = {
        arm: cells[f"one--{arm}--0"]["phases"]["finetuning"]["flops"]
        for arm in ("random", "equal_compute")
    }
    assert spent["equal_compute"] - spent["random"] == pytest.approx(
        tapt["flops"] + natural["flops"], rel=0.2
    )
    report = write_report(tmp_path / "results")
    matrix = report["transfer"]["matrix"]
    assert matrix["gains"].keys() >= set(report["arms"]) - {"random", "natural"}
    pairs = {tuple(row["arms"]): row for row in report["transfer"]["ensembles"]["one"]}
    assert ("random", "self") in pairs or ("self", "random") in pairs
    assert ("random", "two seeds") in pairs
    assert (tmp_path / "results" / "gains.png").stat().st_size > 5000
    text = (tmp_path / "results" / "report.md").read_text()
    assert "## Gain by start and task" in text
    assert "### Pairs on two" in text


def test_rows_of_another_task_are_found_in_shuffled_sentences_too(tmp_path):
    experiment = Experiment(campaign(tmp_path), tmp_path / "results")
    for order in ("natural", "shuffled_sentences"):
        experiment.spec.pretraining["one"].text = TextSpec(order=order)
        assert experiment.test_rows_seen("one", "two") == {"one": 3}


def test_tasks_share_a_tokenizer_and_so_a_pre_training(tmp_path):
    shared = {"define": DEFINED, "vocab_size": 400, "tokenizer_corpora": ["two", "one"]}
    experiment = Experiment(
        campaign(tmp_path, tasks=dict.fromkeys(("one", "two"), shared)), tmp_path / "results"
    )
    first, second = (experiment.data(name) for name in ("one", "two"))
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    assert first.metadata["tokenizer"] == "strict: trained on two, one, 400 ids"
    assert experiment.checkpoint("one", "one") == experiment.checkpoint("one", "two")
    alone = Experiment(campaign(tmp_path), tmp_path / "alone")
    assert alone.data("one").tokenizer.get_vocab() != first.tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"tokenizer": "bert", "tokenizer_corpora": ["one"]},
            "tokenizer 'bert' and tokenizer_corpora to train one on; leave",
        ),
        (
            {"tokenizer_corpora": []},
            "tokenizer_corpora is empty; name a task or a corpus, or leave it out",
        ),
        (
            {"tokenizer_corpora": ["three"]},
            "Unknown corpus 'three'.* Or a task of the experiment: one",
        ),
    ],
)
def test_a_shared_tokenizer_needs_text(given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        Experiment(
            campaign(tmp_path, tasks={"one": {"define": DEFINED} | given}), tmp_path / "results"
        ).claim()


def test_tasks_without_probabilities_have_a_matrix_too():
    cell = {
        "status": "done",
        "task": "tags",
        "arm": "self",
        "seed": 0,
        "data": {"labels": ["O", "B-pet"]},
    }
    report = {
        "tasks": {"tags": {}},
        "arms": ["random", "self"],
        "benefits": {"self": {"tasks": {"tags": {"value": None}}}},
    }
    found = transfer([cell], report | {"differences": {"tags": {"self": {"value": 0.25}}}})[
        "transfer"
    ]
    assert found["matrix"]["means"] == {"self": 0.25}
    assert found["ensembles"] == {}
    for known, arms in (
        (0, {"self", "natural"}),
        (1, {"self"}),
    ):  # of two shares one is refused, or both
        shares = {"a": {"value": 0.8 if known else None}, "b": {"value": None}}
        given = {
            "tasks": {"a": {}, "b": {}},
            "arms": ["random", "self", "natural"],
            "benefits": {"self": {"tasks": shares, "mean_of_ratios": {"value": 0.8}}},
        }
        rows = {task: {"self": {"value": 0.2}, "natural": {"value": 0.1}} for task in "ab"}
        assert gain_matrix(given | {"differences": rows})["gains"].keys() == arms
    assert transfer([cell | {"data": {"tokenizer": "x"}}], report) == {}


def test_runs_that_need_each_other_are_refused(tmp_path):
    own = RUN | {"corpus": "self", "training": STEPS}
    with pytest.raises(
        UsageError, match="The runs a, b need each other; start one of them from something else"
    ):
        campaign(
            tmp_path,
            pretraining={"a": own | {"start": "b"}, "b": own | {"start": "a"}},
            arms={"random": {}},
        )


def test_a_pair_of_arms_has_known_overlap():
    truths = [0, 1, 1, 0]
    one = {
        "truths": truths,
        "probabilities": np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]).ravel(),
    }
    two = {
        "truths": truths,
        "probabilities": np.array([[0.6, 0.4], [0.05, 0.95], [0.6, 0.4], [0.45, 0.55]]).ravel(),
    }
    assert couple(one, two) == {
        "ensemble": 0.75,
        "better": 0.5,
        "both_wrong": 0.25,
        "one_right": 0.5,
    }


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        (
            "t5",
            {},
            "classes is answered by a head on an encoder, and t5 is an encoder-decoder; give model_type electra",
        ),
        (
            "electra",
            {"max_position_embeddings": 8},
            r"Rows of classes take up to \d+ positions, the model's table has 8",
        ),
    ],
)
def test_models_that_do_not_fit_a_task_are_refused(model, overrides, message, prepared):
    with pytest.raises(UsageError, match=message):
        headed(prepared["classes"], ModelSpec(model, overrides=overrides))
    headed(prepared["classes"], MODEL)


def test_finetuning_on_labels_takes_an_encoder_unless_told_otherwise(tmp_path):
    rows = {split: labelled(first, 30) for split, first in (("train", 0), ("validation", 50))}
    rows = {
        split: {"sentence": columns["text"], "label": columns["label"]}
        for split, columns in rows.items()
    }
    write_dataset(tmp_path / "cola", **rows)
    words = [
        "finetune",
        "cola",
        "--data_dir",
        tmp_path,
        "--output_dir",
        tmp_path / "out",
        "--vocab_size",
        400,
    ]
    words += ["--max_steps", 1]
    shape = "hidden_size=32,embedding_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32"
    assert (
        main(
            [str(word) for word in (*words, "--config_overrides", shape, "--optim", "adamw_torch")]
        )
        == 0
    )
    cell = json.loads((tmp_path / "out" / "cola--random--0.json").read_text())
    assert cell["config"]["model"]["model_type"] == "electra"


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_a_checkpoint_of_the_hub_is_an_arm(kind, tmp_path, prepared):
    """A body without a head, as the published kundank/dspt-* are (in the old format), by its id or folder."""
    from transformers import ElectraModel

    data = prepared["classes"]
    body = ElectraModel(MODEL.config(as_vocabulary(data.tokenizer)))
    body.save_pretrained(tmp_path / "dspt")
    arms = {
        "published": {"init": "weights", "checkpoint": str(tmp_path / "dspt"), "embeddings": "kept"}
    }
    spec = campaign(tmp_path, arms=arms, pretraining={}, seeds=[0])
    task = next(iter(spec.tasks))
    experiment = Experiment(spec, tmp_path / "results")
    made = experiment.data(task)
    body.resize_token_embeddings(len(made.tokenizer))
    body.save_pretrained(tmp_path / "dspt")
    if kind == "pytorch_model.bin":
        (tmp_path / "dspt" / "model.safetensors").unlink()
        torch.save(body.state_dict(), tmp_path / "dspt" / kind)
    model, facts = experiment.model(experiment.cells()[0], made)
    assert facts == {"name": str(tmp_path / "dspt")}
    assert torch.equal(
        model.electra.encoder.layer[0].output.dense.weight,
        body.encoder.layer[0].output.dense.weight,
    )
    assert torch.equal(model.get_input_embeddings().weight, body.get_input_embeddings().weight)


def test_the_length_of_training_may_be_given_in_epochs(prepared, tmp_path):
    data = prepared["classes"]
    made = [
        finetuning_trainer(
            fresh(data), data, FinetuningSpec(TRAINING | {"num_train_epochs": n}), 0, tmp_path
        )
        for n in (1, 2)
    ]
    assert [planned_steps(trainer) for trainer in made] == [12, 24]
    made[1].args.max_steps = 7
    assert planned_steps(made[1]) == 7
