"""Rows that cannot be learned or scored: no gold label, ids as labels, answers that are not there.

Run: pytest tests/finetuning/test_unjudged_rows.py
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from encoder_examples import labelled, write_dataset
from label_examples import TASKS, TRAINING, fresh, spans
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.trainer_pt_utils import LabelSmoother

from hf_synpre import UsageError
from hf_synpre.finetuning import FinetuningSpec, LabelTask, find_head, finetune, prepare
from hf_synpre.finetuning.label_encoding import Answers, label_values
from hf_synpre.finetuning.label_head import unlearned_labels
from hf_synpre.finetuning.label_names import LabelNames, gold_splits
from hf_synpre.finetuning.scores import CHECKS, Labels, prediction_notes
from hf_synpre.finetuning.tasks import complete_splits

CLASSES = TASKS["classes"][0]


def rows_of(labels, column="label"):
    return Dataset.from_dict({"text": ["a"] * len(labels), column: labels})


def gold(train, test, task=CLASSES, **options):
    """Return the labels of train and test that are left."""
    splits = gold_splits(task, {"train": rows_of(train), "test": rows_of(test)}, "label", **options)
    return [list(rows["label"]) for rows in splits.values()]


# --- rows without a gold label --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test", "left"),
    [
        ([0, 1, 2, -1], [2, -1, 1], [[0, 1, 2], [2, 1]]),
        ([1, 2, -1], [1, 2], [[1, 2], [1, 2]]),
        ([0, 1], [-1, 1], [[0, 1], [1]]),  # train has no -1: no class of it
        ([-1, 1], [1, -1], [[-1, 1], [1, -1]]),  # two classes
        ([-2, -1, 0, 1], [-1], [[-2, -1, 0, 1], [-1]]),
        (["0", "1", "2", "-1"], ["1", "-1"], [["0", "1", "2"], ["1"]]),
        (["yes", "no", "-"], ["-", "no"], [["yes", "no"], ["no"]]),
        (["yes", "no", ""], ["no"], [["yes", "no"], ["no"]]),
        (["+", "-"], ["-", "+"], [["+", "-"], ["-", "+"]]),
        ([0, 1, None], [None, 1], [[0, 1], [1]]),
        (["yes", None, "no"], ["no"], [["yes", "no"], ["no"]]),
    ],
)
def test_rows_without_a_gold_label_are_left_out(train, test, left, caplog):
    assert gold(train, test) == left
    lost = len(train) - len(left[0])
    said = f"{lost} of {len(train)} rows of train have no gold label"
    assert (said in caplog.text) == bool(lost)


def test_minus_one_beside_two_classes_is_asked_for():
    remedy = r"are 0, 1 and -1, .* give kept_labels: \[-1, 0, 1\] or kept_labels"
    with pytest.raises(UsageError, match=remedy):
        gold([0, 1, -1], [1])
    kept = replace(CLASSES, kept_labels=[-1, 0, 1])
    assert gold([0, 1, -1], [1], kept) == [[0, 1, -1], [1]]
    named = replace(CLASSES, label_names=["no", "yes"])
    assert gold([0, 1, -1], [1], named) == [[0, 1], [1]]
    assert gold([0, 1, -1], [1], are_numbers=True) == [[0, 1], [1]]
    with pytest.raises(UsageError, match="no row of test has a gold label, all have -1"):
        gold([0, 1, 2], [-1, -1])


@pytest.mark.parametrize("name", ["classes", "choices", "number"])
def test_rows_with_an_empty_cell_for_a_label_are_left_out(name, tmp_path, caplog):
    task, rows, _ = TASKS[name]
    train, test = rows(0, 40), rows(40, 4)
    train["label"][7] = None
    if name == "number":
        train["label"][9] = float("nan")
    write_dataset(tmp_path / name, train=train, validation=test, test=test)
    data = prepare(task, tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)
    lost = 2 if name == "number" else 1
    assert f"{lost} of 40 rows of train have no gold label (an empty cell" in caplog.text
    assert data.metadata["splits"]["train"]["rows"] == 40 - lost
    assert data.metadata["found"]["train"]["rows_left_out"] == lost


def test_a_split_without_any_label_is_refused():
    with pytest.raises(UsageError, match="no row of test has a gold label, all have an empty cell"):
        gold([0, 1, 2], [None, None])


def test_the_count_of_rows_left_out_is_in_the_prepared_task(tmp_path):
    train = labelled(0, 60)
    train["label"] = [-1 if i == 7 else i % 3 for i in range(60)]
    test = labelled(60, 9) | {"label": [0, 1] * 4 + [-1]}
    write_dataset(tmp_path / "classes", train=train, validation=test, test=test)
    data = prepare(CLASSES, tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)
    facts = data.metadata
    assert facts["labels"] == [0, 1, 2]
    assert (facts["splits"]["train"]["rows"], facts["splits"]["test"]["rows"]) == (59, 8)
    assert facts["found"]["train"] == {
        "label_counts": {"0": 20, "1": 19, "2": 20},
        "rows_left_out": 1,
    }
    assert facts["found"]["test"]["label_counts"] == {"0": 4, "1": 4, "2": 0}


# --- columns that are no classes, and labels of other splits --------------------------------------


def test_columns_of_ids_and_measurements_are_no_classes():
    head = find_head("classes")
    ids = rows_of([f"row {i}" for i in range(300)])
    with pytest.raises(UsageError, match=r"column label has 300 different values among 300 labels"):
        head.label_names(CLASSES, ids)
    prices = rows_of([(i * 7) % 90 for i in range(300)])
    with pytest.raises(UsageError, match="--head number to predict a number, or label_names"):
        head.label_names(CLASSES, prices)
    assert len(head.label_names(CLASSES, rows_of([f"c{i % 90}" for i in range(300)]))) == 90


def test_a_split_with_its_own_order_of_names_is_read_by_its_names():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["good", "bad"])})
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features)
    names = LabelNames(["bad", "good"])
    values = list(label_values(CLASSES, rows, names))
    assert [names.number(value) for value in values] == [1, 0]
    assert list(label_values(CLASSES, rows, ["good", "bad"])) == [0, 1]


def test_a_few_rows_of_train_hold_out_one():
    splits = complete_splits("mine", {"train": rows_of([0] * 9), "test": rows_of([0])})
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 8,
        "validation": 1,
        "test": 1,
    }


# --- metrics that cannot judge the test -----------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "test", "message"),
    [
        ("accuracy_f1", [0] * 8, "cannot judge the rows of test: none has the positive class 1"),
        (
            "matthews",
            [1] * 8,
            r"all have the label 1; give other rows of test or another metric \(accuracy, acc",
        ),
    ],
)
def test_a_test_that_a_metric_cannot_judge_is_refused(metric, test, message, tmp_path):
    write_dataset(
        tmp_path / "classes",
        train=labelled(0, 40),
        validation=labelled(40, 8),
        test=labelled(50, 8) | {"label": test},
    )
    task = replace(CLASSES, metric=metric)
    data = prepare(task, tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)
    with pytest.raises(UsageError, match=message):
        find_head("classes").check_scoring(data, FinetuningSpec())


def test_splits_that_a_metric_cannot_judge_are_found():
    names = Labels(("a", "b"))
    same = {"lowest": 1.0, "highest": 1.0}
    assert CHECKS["pearson_spearman"](Labels(), same, 4) == "all have the number 1.0"
    assert CHECKS["auc"](names, {"label_counts": {"a": 4, "b": 0}}, 4) == "no label varies"
    assert CHECKS["auc"](names, {"label_counts": {"a": 3, "b": 0}}, 4) is None
    tags = Labels(("O", "B-a"))
    assert CHECKS["span_f1"](tags, {"label_counts": {"O": 4, "B-a": 0}}, 4).startswith("no word")
    assert CHECKS["span_f1"](tags, {"label_counts": {"O": 4, "B-a": 1}}, 4) is None
    three = Labels(("a", "b", "c"))
    assert CHECKS["accuracy_f1"](three, {"label_counts": {"a": 1, "b": 0, "c": 0}}, 1) is None


def test_labels_that_train_lacks_are_noted():
    counts = {"train": {"a": 4, "b": 0}, "validation": {"a": 1, "b": 0}, "test": {"a": 1, "b": 2}}
    found = {split: {"label_counts": labels} for split, labels in counts.items()}
    assert unlearned_labels(found) == ["test has 1 labels that no row of train has, such as b"]
    assert unlearned_labels({"train": {"lowest": 1.0}, "test": {}}) == []


def test_predictions_that_never_vary_are_noted():
    assert prediction_notes("matthews", np.ones(4))[0].startswith("all predictions of test are")
    assert prediction_notes("matthews", np.arange(4)) == prediction_notes("f1", ["", ""]) == []


def test_a_result_says_how_it_was_scored(prepared, tmp_path):
    data = prepared["pairs"]
    spec = FinetuningSpec(TRAINING | {"max_steps": 1}, evaluations=1)
    outcome = finetune(fresh(data), data, spec, seed=0, output_dir=tmp_path)
    assert outcome["scoring"] == {"f1": "binary, the positive class is 1"}
    assert outcome["score"] == 0.5
    (note,) = outcome["notes"]  # after one step the model gives one answer
    assert note.startswith("all predictions of test are the same")


# --- answers that are not there -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ({"text": ["old"], "answer_start": [4]}, Answers(["old"], 4)),
        ({"text": ["old"], "answer_start": [0]}, Answers(["old"], 4)),  # its place is wrong
        ({"text": ["old"], "answer_start": [15]}, Answers(["old"], 17)),
        ({"text": ["new"], "answer_start": [4]}, Answers(["new"], -1)),
        ({"text": [], "answer_start": []}, Answers([], -1)),
        ([{"text": "old", "answer_start": 4}, {"text": "hat"}], Answers(["old", "hat"], 4)),
        (["hat"], Answers(["hat"], 8)),
        ([], Answers([], -1)),
        (None, Answers([], -1)),
    ],
)
def test_answers_are_read_from_what_datasets_have(value, answers):
    assert Answers.read(value, "the old hat, the old town") == answers


def test_squad_2_is_learned_and_scored(tmp_path, caplog):
    task = TASKS["span"][0]
    splits = {}
    for split, (first, count) in {"train": (0, 40), "test": (40, 12)}.items():
        rows = spans(first, count)
        for index in range(0, count, 2):
            rows["answers"][index] = {"text": [], "answer_start": []}
        splits[split] = rows
    splits["train"]["answers"][1] = {"text": ["nowhere"], "answer_start": [3]}
    write_dataset(tmp_path / "span", **splits)
    data = prepare(task, tmp_path / "ids", data_dir=str(tmp_path), vocab_size=400)
    assert "have an answer that is not in their context and are left out" in caplog.text
    assert data.metadata["found"]["test"] == {"without_answer": 6}

    spec = FinetuningSpec(TRAINING | {"max_steps": 1}, evaluations=1)
    outcome = finetune(fresh(data), data, spec, seed=0, output_dir=tmp_path / "model")
    assert {"has_answer_f1", "no_answer_f1"} <= outcome["scores"].keys()
    assert "6 of 12 test questions have no answer" in outcome["scoring"]["f1"]

    # A model that is sure of position 0 predicts no answer, and is right for half of the rows
    rows = data.rows("test")
    logits = torch.zeros(2, len(rows), 48).numpy()
    logits[:, :, 0] = 9
    scores, _ = find_head("span").score(data, rows, logits)
    assert (scores["f1"], scores["no_answer_f1"], scores["has_answer_f1"]) == (0.5, 1, 0)


def test_answers_that_are_nowhere_are_refused():
    task = LabelTask("qa", "span", [["context", "question"]], [["answers"]])
    rows = Dataset.from_dict(spans(0, 4) | {"context": ["nothing"] * 4})
    with pytest.raises(UsageError, match="no row of train has an answer in its context"):
        find_head("span").usable_splits(task, {"train": rows})


# --- label smoothing ------------------------------------------------------------------------------


def test_smoothed_labels_are_those_of_transformers():
    spec = FinetuningSpec({"label_smoothing_factor": 0.3})
    loss = find_head("classes").smoothed_loss(spec)
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    outputs = SequenceClassifierOutput(logits=logits)
    expected = LabelSmoother(epsilon=0.3)({"logits": logits}, labels)
    assert loss(outputs, labels) == pytest.approx(expected.item())
    assert loss(outputs, labels) != pytest.approx(find_head("classes").loss(outputs, labels).item())

    tokens = SequenceClassifierOutput(logits=torch.randn(2, 4, 9))
    targets = torch.tensor([[1, 2, -100, -100], [3, 4, 5, -100]])
    expected = LabelSmoother(epsilon=0.3)({"logits": tokens.logits}, targets)
    for name in ("tags", "text"):
        smoothed = find_head(name).smoothed_loss(spec)(tokens, targets)
        assert smoothed == pytest.approx(expected.item())


@pytest.mark.parametrize("name", ["labels", "number", "span"])
def test_losses_without_smoothing_refuse_it(name):
    spec = FinetuningSpec({"label_smoothing_factor": 0.1})
    with pytest.raises(UsageError, match=f"{name} has no loss with smoothed labels; leave label_s"):
        find_head(name).smoothed_loss(spec)
    assert find_head(name).smoothed_loss(FinetuningSpec()) == find_head(name).loss


def test_a_factor_of_smoothing_is_a_share():
    with pytest.raises(UsageError, match=r"label_smoothing_factor is 1.5; give a share"):
        find_head("classes").smoothed_loss(FinetuningSpec({"label_smoothing_factor": 1.5}))
