"""Layer 4: scores of labels, numbers, spans and tags: predictions and truths -> scores by name, and of each example."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hf_synpre.finetuning.metrics import METRICS

Scored = tuple[dict[str, float], np.ndarray | None]


def accuracy(said: np.ndarray, true: np.ndarray) -> Scored:
    """The share of right answers."""
    right = (said == true).astype(float)
    return {"accuracy": float(right.mean())}, right


def accuracy_f1(said: np.ndarray, true: np.ndarray) -> Scored:
    """Accuracy, and F1 of class 1 beside it: MRPC and QQP (Wang et al. 2018)."""
    both, either = ((said == 1) & (true == 1)).sum(), (said == 1).sum() + (true == 1).sum()
    scores, right = accuracy(said, true)
    return scores | {"f1": float(2 * both / either) if either else 0.0}, right


def matthews(said: np.ndarray, true: np.ndarray) -> Scored:
    """Matthews' correlation of two binary labels, 0 where one of them never varies: CoLA."""
    return {
        "matthews_corr": correlation(said, true),
        "accuracy": float((said == true).mean()),
    }, None


def pearson_spearman(said: np.ndarray, true: np.ndarray) -> Scored:
    """The mean of Pearson's and Spearman's correlation: STS-B."""
    found = {
        "pearson_corr": correlation(said, true),
        "spearman_corr": correlation(ranks(said), ranks(true)),
    }
    return {"pearson_spearman_corr": sum(found.values()) / 2} | found, None


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation, 0 where an array does not vary."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values, equal ones with the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]


def auc(said: np.ndarray, true: np.ndarray) -> Scored:
    """The mean over labels of the area under the ROC curve (Kaggle's for Jigsaw); a label that never varies is left out."""
    columns = [column_auc(said[:, k], true[:, k] > 0.5) for k in range(true.shape[1])]
    known = [value for value in columns if value is not None]
    exact = float(((said > 0) == (true > 0.5)).all(axis=1).mean())
    return {"auc": float(np.mean(known)) if known else 0.5, "exact_match": exact}, None


def column_auc(said: np.ndarray, true: np.ndarray) -> float | None:
    """Return how often a positive row has the higher score of two (Mann-Whitney), None where all rows are alike."""
    positive, negative = true.sum(), (~true).sum()
    if not positive or not negative:
        return None
    return float((ranks(said)[true].sum() - positive * (positive + 1) / 2) / (positive * negative))


def span_f1(said: list[list[str]], true: list[list[str]]) -> Scored:
    """F1 of whole entities (CoNLL's), and the accuracy of tags."""
    found, wanted = ([entities(tags) for tags in rows] for rows in (said, true))
    shared = sum(len(a & b) for a, b in zip(found, wanted, strict=True))
    total = sum(map(len, found)) + sum(map(len, wanted))
    same = [
        a == b
        for row, truth in zip(said, true, strict=True)
        for a, b in zip(row, truth, strict=True)
    ]
    return {
        "span_f1": 2 * shared / total if total else 0.0,
        "tag_accuracy": float(np.mean(same)),
    }, None


def entities(tags: Iterable[str]) -> set[tuple[str, int, int]]:
    """Return (kind, first, last) of the entities of BIO tags; an I- that continues nothing begins one, as in conlleval."""
    found, kind, first = set(), "", 0
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.add((kind, first, i - 1))
            kind = ""
        if prefix in ("B", "I") and not kind:
            kind, first = name, i
    return found


def f1(said: list[str], true: list[list[str]]) -> Scored:
    """Exact match and F1 of normalised answers, the best over all gold answers (Rajpurkar et al. 2016)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = METRICS["squad"](keep_in_memory=True).each(said, true)
    return {name: float(each[name].mean()) for name in ("f1", "exact_match")}, each["f1"]


SCORES: dict[str, Callable[[Any, Any], Scored]] = {
    function.__name__: function
    for function in (accuracy, accuracy_f1, matthews, pearson_spearman, auc, span_f1, f1)
}
