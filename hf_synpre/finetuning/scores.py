"""Scores of labels: predictions and labels -> scores by name, and for each example.

SCORES compare the predictions of a head with labels: classes, numbers, tags, answers; the first
score of each is the one that is reported. SCORINGS say in words how: which average, which positive
class, which scheme of tags (docs/metrics.md).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_synpre.finetuning.metrics import METRICS, normalized_answer
from hf_synpre.finetuning.tag_schemes import WRITINGS, TagScheme, find_scheme

# The scores by name, the reported one first; and the reported score of each example, None if it is
# no mean over examples.
Scores = tuple[dict[str, float], np.ndarray | None]

# The metrics of numbers of which a lower score is better.
ERROR_METRICS = ("rmse", "mae")
# The scheme by which tags are read that mark no entities: none is found.
NO_ENTITIES = TagScheme("no entities", WRITINGS[0])


@dataclass(frozen=True)
class Labels:
    """What a score function knows of the labels: their names, and which class is positive."""

    # The names in the order of their numbers; empty where labels have none.
    names: tuple[Any, ...] = ()
    # The number of the class whose F1 is that of two classes.
    positive: int = 1

    def count(self, *numbers: np.ndarray) -> int:
        """Return how many classes there are; without names those up to the largest number."""
        return len(self.names) or int(max(part.max(initial=0) for part in numbers)) + 1


UNNAMED = Labels()


def accuracy(predictions: np.ndarray, labels: np.ndarray, known: Labels = UNNAMED) -> Scores:
    """Return the share of right classes; both arguments are int[examples]."""
    correct = (predictions == labels).astype(float)
    return {"accuracy": float(correct.mean())}, correct


def accuracy_f1(predictions: np.ndarray, labels: np.ndarray, known: Labels = UNNAMED) -> Scores:
    """Return accuracy, and F1 beside it: MRPC and QQP (Wang et al. 2018).

    Of two classes it is the F1 of the positive one. Of more it is the mean over the classes that
    are predicted or true (macro); "f1_weighted" weighs it by their true rows.
    """
    scores, correct = accuracy(predictions, labels)
    if known.count(predictions, labels) <= 2:
        scores["f1"] = class_f1(predictions, labels, known.positive)
        return scores, correct

    present = np.union1d(predictions, labels)
    by_class = [class_f1(predictions, labels, number) for number in present]
    true_rows = [int((labels == number).sum()) for number in present]
    scores["f1"] = float(np.mean(by_class))
    scores["f1_weighted"] = float(np.average(by_class, weights=true_rows))
    return scores, correct


def class_f1(predictions: np.ndarray, labels: np.ndarray, number: int) -> float:
    """Return the F1 of one class, 0 where it is neither predicted nor true."""
    true_positives = ((predictions == number) & (labels == number)).sum()
    positives = (predictions == number).sum() + (labels == number).sum()
    if not positives:
        return 0.0
    return float(2 * true_positives / positives)


def matthews(predictions: np.ndarray, labels: np.ndarray, known: Labels = UNNAMED) -> Scores:
    """Return Matthews' correlation, 0 where predictions or labels never vary: CoLA.

    Of more than two classes it is Gorodkin's R_K.
    """
    if known.count(predictions, labels) <= 2:
        coefficient = correlation(predictions, labels)
    else:
        coefficient = class_correlation(predictions, labels)
    scores = {
        "matthews_corr": coefficient,
        "accuracy": float((predictions == labels).mean()),
    }
    return scores, None


def class_correlation(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the correlation R_K of several classes (Gorodkin 2004), which is Matthews' of two."""
    numbers = np.union1d(predictions, labels)
    predicted = (predictions[:, None] == numbers).astype(float)  # [examples, classes]
    true = (labels[:, None] == numbers).astype(float)  # [examples, classes]
    predicted -= predicted.mean(axis=0)
    true -= true.mean(axis=0)

    variances = (predicted**2).sum() * (true**2).sum()
    if not variances:
        return 0.0
    return float((predicted * true).sum() / np.sqrt(variances))


def pearson_spearman(
    predictions: np.ndarray, labels: np.ndarray, known: Labels = UNNAMED
) -> Scores:
    """Return the mean of Pearson's and Spearman's correlation of float[examples]: STS-B.

    The errors stand beside it: predictions may be in the right order and all too small.
    """
    pearson = correlation(predictions, labels)
    spearman = correlation(ranks(predictions), ranks(labels))
    scores = {
        "pearson_spearman_corr": (pearson + spearman) / 2,
        "pearson_corr": pearson,
        "spearman_corr": spearman,
    }
    return scores | errors(predictions, labels), None


def errors(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the root of the mean squared error, and the mean absolute one, of float[examples]."""
    differences = np.asarray(predictions, float) - labels
    return {
        "rmse": float(np.sqrt((differences**2).mean())),
        "mae": float(np.abs(differences).mean()),
    }


def rmse(predictions: np.ndarray, labels: np.ndarray, known: Labels = UNNAMED) -> Scores:
    """Return the root of the mean squared error, then the other scores of numbers."""
    scores, _ = pearson_spearman(predictions, labels)
    return {"rmse": scores["rmse"]} | scores, None


def mae(predictions: np.ndarray, labels: np.ndarray, known: Labels = UNNAMED) -> Scores:
    """Return the mean absolute error, then the other scores of numbers."""
    scores, _ = pearson_spearman(predictions, labels)
    return {"mae": scores["mae"]} | scores, None


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation, 0 where an array does not vary."""
    if len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0:
        return float(np.corrcoef(a, b)[0, 1])
    return 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values from 1; equal values get the mean of their ranks."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(sizes)  # [groups of equal values]
    mean_ranks = last_ranks - (sizes - 1) / 2
    return mean_ranks[group]  # [values]


def auc(predictions: np.ndarray, labels: np.ndarray, known: Labels = UNNAMED) -> Scores:
    """Return the mean over labels of the area under the ROC curve (Kaggle's score for Jigsaw).

    Args:
        predictions: logits, float[examples, labels].
        labels: shares in 0..1, float[examples, labels]; more than 0.5 counts as present.
        known: not read.

    Returns:
        "auc", which leaves out labels that never vary; "exact_match", the share of examples all of
        whose labels are right.
    """
    areas = []
    for column in range(labels.shape[1]):
        area = roc_area(predictions[:, column], labels[:, column] > 0.5)
        if area is not None:
            areas.append(area)

    mean_area = float(np.mean(areas)) if areas else 0.5
    all_right = ((predictions > 0) == (labels > 0.5)).all(axis=1)  # [examples]
    return {"auc": mean_area, "exact_match": float(all_right.mean())}, None


def roc_area(scores: np.ndarray, is_positive: np.ndarray) -> float | None:
    """Return how often a positive row has a higher score than a negative one (Mann-Whitney).

    Return None if all rows are positive, or none is.
    """
    positives = is_positive.sum()
    negatives = (~is_positive).sum()
    if not positives or not negatives:
        return None
    rank_sum = ranks(scores)[is_positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def span_f1(
    predictions: list[list[str]], labels: list[list[str]], known: Labels = UNNAMED
) -> Scores:
    """Return the F1 of entities (CoNLL's), and the accuracy of tags.

    Args:
        predictions: the predicted tags of the words of each example.
        labels: the true tags of the same words.
        known: the names of all tags, which say the scheme; without them those that occur.
    """
    scheme = scheme_of(known, predictions, labels)
    shared = total = 0
    for predicted_tags, true_tags in zip(predictions, labels, strict=True):
        predicted, true = scheme.entities(predicted_tags), scheme.entities(true_tags)
        shared += len(predicted & true)
        total += len(predicted) + len(true)

    accuracy_of_tags, _ = tag_accuracy(predictions, labels)
    scores = {"span_f1": 0.0, **accuracy_of_tags}
    if total:
        scores["span_f1"] = 2 * shared / total
    return scores, None


def scheme_of(known: Labels, *tagged: list[list[str]]) -> TagScheme:
    """Return the scheme of all names of tags, or of the tags that occur where they have none."""
    names = [str(name) for name in known.names]
    if not names:
        names = [tag for texts in tagged for tags in texts for tag in tags]
    return find_scheme(set(names)) or NO_ENTITIES


def tag_accuracy(
    predictions: list[list[str]], labels: list[list[str]], known: Labels = UNNAMED
) -> Scores:
    """Return the share of words with the right tag, as for parts of speech."""
    matches = []
    for predicted_tags, true_tags in zip(predictions, labels, strict=True):
        matches += [a == b for a, b in zip(predicted_tags, true_tags, strict=True)]
    return {"tag_accuracy": float(np.mean(matches))}, None


def f1(predictions: list[str], labels: list[list[str]], known: Labels = UNNAMED) -> Scores:
    """Return F1 and exact match of SQuAD's normalised answers (Rajpurkar et al. 2016).

    A question without an answer is right where nothing is predicted (SQuAD 2.0, Rajpurkar et al.
    2018); then the F1 of the questions with and without an answer is beside it.

    Args:
        predictions: the answers that were extracted; "" for no answer.
        labels: for each of them the list of accepted answers, of which the best counts; empty where
            the question has none.
        known: not read.
    """
    # As the official script of SQuAD 2.0 has it, an answer of articles alone is none there.
    has_unanswerable = not all(labels)
    if has_unanswerable:
        labels = [list(filter(normalized_answer, accepted)) for accepted in labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = METRICS["squad"](keep_in_memory=True).each(predictions, labels)

    scores = {name: float(each[name].mean()) for name in ("f1", "exact_match")}
    if has_unanswerable:
        has_answer = np.array(list(map(bool, labels)))  # [examples]
        for name, rows in (("has_answer_f1", has_answer), ("no_answer_f1", ~has_answer)):
            if rows.any():
                scores[name] = float(each["f1"][rows].mean())
    return scores, each["f1"]


SCORES: dict[str, Callable[..., Scores]] = {
    "accuracy": accuracy,
    "accuracy_f1": accuracy_f1,
    "matthews": matthews,
    "pearson_spearman": pearson_spearman,
    "rmse": rmse,
    "mae": mae,
    "auc": auc,
    "span_f1": span_f1,
    "tag_accuracy": tag_accuracy,
    "f1": f1,
}


def f1_scoring(known: Labels) -> dict[str, str]:
    """Return which average the F1 of classes is."""
    if len(known.names) > 2:
        count = len(known.names)
        return {
            "f1": f"macro: the mean over the classes that are predicted or true, of {count}",
            "f1_weighted": "the mean over classes, weighted by their true rows",
        }
    return {"f1": f"binary, the positive class is {known.names[known.positive]}"}


def matthews_scoring(known: Labels) -> dict[str, str]:
    """Return which correlation of classes it is."""
    if len(known.names) > 2:
        return {"matthews_corr": f"Gorodkin's R_K of {len(known.names)} classes"}
    return {"matthews_corr": "of two classes"}


def auc_scoring(known: Labels) -> dict[str, str]:
    """Return which average the area is."""
    return {"auc": f"macro: the mean over the labels that vary, of {len(known.names)}"}


def span_scoring(known: Labels) -> dict[str, str]:
    """Return the average of entities, and the scheme of tags."""
    return {"span_f1": f"micro: over all entities; tags are {scheme_of(known).description()}"}


# Metric -> function from labels to what the result says on how they are scored.
SCORINGS: dict[str, Callable[[Labels], dict[str, str]]] = {
    "accuracy_f1": f1_scoring,
    "matthews": matthews_scoring,
    "auc": auc_scoring,
    "span_f1": span_scoring,
}


def one_class(known: Labels, found: dict[str, Any], rows: int) -> str | None:
    """Return what is wrong where all rows have one class."""
    present = [name for name, count in found["label_counts"].items() if count]
    if len(present) == 1:
        return f"all have the label {present[0]}"
    return None


def no_positive(known: Labels, found: dict[str, Any], rows: int) -> str | None:
    """Return what is wrong where no row has the positive one of two classes."""
    if len(known.names) > 2:
        return None
    name = str(known.names[known.positive])
    return None if found["label_counts"][name] else f"none has the positive class {name}"


def one_number(known: Labels, found: dict[str, Any], rows: int) -> str | None:
    """Return what is wrong where all rows have one number."""
    if found["lowest"] == found["highest"]:
        return f"all have the number {found['lowest']}"
    return None


def no_varying_label(known: Labels, found: dict[str, Any], rows: int) -> str | None:
    """Return what is wrong where each label is that of all rows, or of none."""
    if all(count in (0, rows) for count in found["label_counts"].values()):
        return "no label varies"
    return None


def no_entity(known: Labels, found: dict[str, Any], rows: int) -> str | None:
    """Return what is wrong where no word is in an entity."""
    scheme = scheme_of(known)
    present = [name for name, count in found["label_counts"].items() if count]
    if any(scheme.read(name) for name in present):
        return None
    return "no word is in an entity"


def prediction_notes(metric: str, predictions: Any) -> list[str]:
    """Return what must be known of scores because of the predictions, a sentence each."""
    if metric in ("matthews", "pearson_spearman") and np.ptp(predictions) == 0:
        return ["all predictions of test are the same: a correlation is not defined, and 0 here"]
    if metric in ("accuracy", "accuracy_f1") and len(set(map(str, predictions))) == 1:
        return ["all predictions of test are the same: the model has learnt no difference"]
    return []


# Metric -> function from labels, what was found of a split, and its number of rows, to what is
# wrong with the split, if anything is.
CHECKS: dict[str, Callable[[Labels, dict[str, Any], int], str | None]] = {
    "accuracy_f1": no_positive,
    "matthews": one_class,
    "pearson_spearman": one_number,
    "auc": no_varying_label,
    "span_f1": no_entity,
}
