"""Metrics of downstream tasks: predictions and labels -> scores by name, and for each example.

METRICS compare generated texts with their references, as `evaluate.Metric`s that need no download.
SCORES compare the predictions of a head with labels: classes, numbers, tags, answers.
In both, the first score is the one that is reported.
"""

import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

PUNCTUATION = str.maketrans("", "", string.punctuation)

# The scores by name, the reported one first; and the reported score of each example, None if it is
# no mean over examples.
Scores = tuple[dict[str, float], np.ndarray | None]


def exact_match(prediction: str, reference: str) -> float:
    """Return 1 where the strings are equal, else 0."""
    return float(prediction == reference)


def token_f1(prediction: str, reference: str) -> float:
    """Return the F1 of the bags of whitespace tokens, 0 where they share none.

    docs/papers.md, "Fine-tuning".
    """
    predicted = prediction.split()
    expected = reference.split()
    shared = sum((Counter(predicted) & Counter(expected)).values())
    if not shared:
        return 0.0
    return 2 * shared / (len(predicted) + len(expected))


def normalized_answer(answer: str) -> str:
    """Return an answer as SQuAD compares it: lower case, no punctuation or articles, one space."""
    without_punctuation = answer.lower().translate(PUNCTUATION)
    without_articles = re.sub(r"\b(a|an|the)\b", " ", without_punctuation)
    return " ".join(without_articles.split())


def normalized_exact_match(prediction: str, reference: str) -> float:
    """Return 1 where SQuAD's normalised answers are equal, else 0."""
    return exact_match(normalized_answer(prediction), normalized_answer(reference))


def normalized_token_f1(prediction: str, reference: str) -> float:
    """Return the F1 of the tokens of SQuAD's normalised answers."""
    return token_f1(normalized_answer(prediction), normalized_answer(reference))


@cache
def rouge_scorer() -> RougeScorer:
    """Return rouge-score's scorer of unigrams, without stemming as in Wu et al. 2022."""
    return RougeScorer(["rouge1"])


def rouge1(prediction: str, reference: str) -> float:
    """Return the F-measure of ROUGE-1."""
    return rouge_scorer().score(reference, prediction)["rouge1"].fmeasure


class TextMetric(evaluate.Metric):
    """The mean over examples of each score of a generated text, in 0..1.

    `references` holds one string an example, or a list of strings of which the best one counts.

    Example:
        >>> METRICS["token_f1"](keep_in_memory=True).compute(predictions=["a b"], references=["a"])
        {'f1': 0.6666666666666666}
    """

    # Name -> score of one prediction and one reference; the first is the one that is reported.
    score_functions: ClassVar[dict[str, Callable[[str, str], float]]] = {}

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        several = datasets.Features(predictions=text, references=datasets.Sequence(text))
        single = datasets.Features(predictions=text, references=text)
        return evaluate.MetricInfo(
            description=self.__doc__, citation="", features=[several, single]
        )

    @property
    def main(self) -> str:
        """The name of the score that is reported."""
        return next(iter(self.score_functions))

    def each(self, predictions: Sequence[str], references: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return every score of every example.

        Args:
            predictions: the generated texts.
            references: for each of them the accepted text, or a list of accepted texts.

        Returns:
            The name of a score -> float64[examples].
        """
        pairs = list(zip(predictions, as_lists(references), strict=True))
        scores = {}
        for name, score in self.score_functions.items():
            best = [max(score(text, reference) for reference in lists) for text, lists in pairs]
            scores[name] = np.array(best)
        return scores

    def corpus_scores(
        self, predictions: Sequence[str], references: Sequence[Any]
    ) -> dict[str, float]:
        """Return the scores that are no means over examples."""
        return {}

    def _compute(self, predictions: Sequence[str], references: Sequence[Any]) -> dict[str, float]:
        scores = {}
        for name, values in self.each(predictions, references).items():
            scores[name] = float(values.mean())
        scores.update(self.corpus_scores(predictions, references))
        return scores


def as_lists(references: Sequence[Any]) -> list[list[str]]:
    """Return the references of each example as a list; a single string becomes a list of one."""
    return [[entry] if isinstance(entry, str) else entry for entry in references]


class ExactMatch(TextMetric):
    """The share of predictions that equal their reference as strings."""

    score_functions: ClassVar = {"exact_match": exact_match}


class ExactMatchF1(TextMetric):
    """Exact match, and F1 of whitespace tokens beside it: MTOP and WebQSP."""

    score_functions: ClassVar = {"exact_match": exact_match, "f1": token_f1}


class TokenF1(TextMetric):
    """F1 of whitespace tokens."""

    score_functions: ClassVar = {"f1": token_f1}


class Squad(TextMetric):
    """Exact match and F1 of normalised answers; the best reference counts."""

    score_functions: ClassVar = {"exact_match": normalized_exact_match, "f1": normalized_token_f1}


class Rouge1(TextMetric):
    """ROUGE-1 F-measure by rouge-score, the mean over examples."""

    score_functions: ClassVar = {"rouge1": rouge1}


class ExactMatchBleu(ExactMatch):
    """Exact match, and sacrebleu's corpus BLEU in 0..1 beside it: code."""

    def corpus_scores(
        self, predictions: Sequence[str], references: Sequence[Any]
    ) -> dict[str, float]:
        """Return BLEU. All references of an example count."""
        lists = as_lists(references)

        # sacrebleu takes a list of the first references of all examples, a list of the second ones
        # and so on, with None where an example has no more.
        columns = []
        for position in range(max(map(len, lists))):
            columns.append([entry[position] if position < len(entry) else None for entry in lists])
        return {"bleu": sacrebleu.corpus_bleu(list(predictions), columns).score / 100}


METRICS: dict[str, type[TextMetric]] = {
    "exact_match": ExactMatch,
    "exact_match_f1": ExactMatchF1,
    "exact_match_bleu": ExactMatchBleu,
    "token_f1": TokenF1,
    "squad": Squad,
    "rouge1": Rouge1,
}


def score_texts(
    metric: str, predictions: list[str], references: list[Any]
) -> tuple[dict[str, float], np.ndarray]:
    """Return the scores of generated texts.

    Args:
        metric: a name of METRICS.
        predictions: the generated texts.
        references: for each of them the accepted text, or a list of accepted texts.

    Returns:
        The scores by name, the reported one first, and the reported one of each example.
    """
    scorer = METRICS[metric](keep_in_memory=True)
    scores = scorer.compute(predictions=predictions, references=references)
    return scores, scorer.each(predictions, references)[scorer.main]


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the share of right classes; both arguments are int[examples]."""
    correct = (predictions == labels).astype(float)
    return {"accuracy": float(correct.mean())}, correct


def accuracy_f1(predictions: np.ndarray, labels: np.ndarray) -> Scores:
    """Return accuracy, and F1 of class 1 beside it: MRPC and QQP (Wang et al. 2018)."""
    scores, correct = accuracy(predictions, labels)

    true_positives = ((predictions == 1) & (labels == 1)).sum()
    positives = (predictions == 1).sum() + (labels == 1).sum()
    scores["f1"] = 0.0
    if positives:
        scores["f1"] = float(2 * true_positives / positives)
    return scores, correct


def matthews(predictions: np.ndarray, labels: np.ndarray) -> Scores:
    """Return Matthews' correlation of two binary labels, 0 where one never varies: CoLA."""
    scores = {
        "matthews_corr": correlation(predictions, labels),
        "accuracy": float((predictions == labels).mean()),
    }
    return scores, None


def pearson_spearman(predictions: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the mean of Pearson's and Spearman's correlation of float[examples]: STS-B."""
    pearson = correlation(predictions, labels)
    spearman = correlation(ranks(predictions), ranks(labels))
    scores = {
        "pearson_spearman_corr": (pearson + spearman) / 2,
        "pearson_corr": pearson,
        "spearman_corr": spearman,
    }
    return scores, None


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation, 0 where an array does not vary."""
    if np.ptp(a) > 0 and np.ptp(b) > 0:
        return float(np.corrcoef(a, b)[0, 1])
    return 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values from 1; equal values get the mean of their ranks."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(sizes)  # [groups of equal values]
    mean_ranks = last_ranks - (sizes - 1) / 2
    return mean_ranks[group]  # [values]


def auc(predictions: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the mean over labels of the area under the ROC curve (Kaggle's score for Jigsaw).

    Args:
        predictions: logits, float[examples, labels].
        labels: shares in 0..1, float[examples, labels]; more than 0.5 counts as present.

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


def span_f1(predictions: list[list[str]], labels: list[list[str]]) -> Scores:
    """Return the F1 of entities (CoNLL's), and the accuracy of tags.

    Args:
        predictions: the predicted BIO tags of the words of each example.
        labels: the true BIO tags of the same words.
    """
    shared = total = 0
    tag_matches = []
    for predicted_tags, true_tags in zip(predictions, labels, strict=True):
        predicted, true = entities(predicted_tags), entities(true_tags)
        shared += len(predicted & true)
        total += len(predicted) + len(true)
        tag_matches += [a == b for a, b in zip(predicted_tags, true_tags, strict=True)]

    scores = {"span_f1": 0.0, "tag_accuracy": float(np.mean(tag_matches))}
    if total:
        scores["span_f1"] = 2 * shared / total
    return scores, None


def entities(tags: Iterable[str]) -> set[tuple[str, int, int]]:
    """Return (type, first word, last word) of the entities of BIO tags.

    An I- tag that continues nothing begins an entity, as in conlleval.
    """
    spans = set()
    entity, first = "", 0  # the type and first word of the open entity; "": none is open
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if entity and (prefix != "I" or name != entity):
            spans.add((entity, first, position - 1))
            entity = ""
        if prefix in ("B", "I") and not entity:
            entity, first = name, position
    return spans


def f1(predictions: list[str], labels: list[list[str]]) -> Scores:
    """Return F1 and exact match of SQuAD's normalised answers (Rajpurkar et al. 2016).

    Args:
        predictions: the answers that were extracted.
        labels: for each of them the list of accepted answers, of which the best counts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = METRICS["squad"](keep_in_memory=True).each(predictions, labels)
    scores = {name: float(each[name].mean()) for name in ("f1", "exact_match")}
    return scores, each["f1"]


SCORES: dict[str, Callable[[Any, Any], Scores]] = {
    "accuracy": accuracy,
    "accuracy_f1": accuracy_f1,
    "matthews": matthews,
    "pearson_spearman": pearson_spearman,
    "auc": auc,
    "span_f1": span_f1,
    "f1": f1,
}
