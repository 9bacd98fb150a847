"""Layer 4: metrics that need no download, as `evaluate.Metric`: each is the mean of a judgement of single examples."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

PUNCTUATION = str.maketrans("", "", string.punctuation)


def same(prediction: str, reference: str) -> float:
    """Return 1 where the strings are equal, else 0."""
    return float(prediction == reference)


def token_f1(prediction: str, reference: str) -> float:
    """Return the F1 of the bags of whitespace tokens; 0 where they share none (spec, section 4)."""
    said, wanted = prediction.split(), reference.split()
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


def normalized(answer: str) -> str:
    """Return an answer as SQuAD compares it: lower case, no punctuation, no articles, single spaces."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(PUNCTUATION)).split())


@cache
def rouge_scorer() -> RougeScorer:
    """Return rouge-score's scorer of unigrams, without stemming as in the paper."""
    return RougeScorer(["rouge1"])


def rouge1(prediction: str, reference: str) -> float:
    """Return the F-measure of ROUGE-1."""
    return rouge_scorer().score(reference, prediction)["rouge1"].fmeasure


class TextMetric(evaluate.Metric):
    """The mean over examples of every judge, in 0..1; with several references for an example, the best one counts.

    `references` holds one string, or a list of strings, an example. The first judge is the metric that is reported.
    """

    judges: ClassVar[dict[str, Callable[[str, str], float]]] = {}

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        kinds = [
            datasets.Features(predictions=text, references=r)
            for r in (datasets.Sequence(text), text)
        ]
        return evaluate.MetricInfo(description=self.__doc__, citation="", features=kinds)

    @property
    def main(self) -> str:
        """The name of the judge that is reported."""
        return next(iter(self.judges))

    def each(self, predictions: Sequence[str], references: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return every judge's score of every example (float64[n])."""
        golds = [[r] if isinstance(r, str) else r for r in references]
        pairs = list(zip(predictions, golds, strict=True))
        return {
            name: np.array([max(judge(p, r) for r in gold) for p, gold in pairs])
            for name, judge in self.judges.items()
        }

    def whole(self, predictions: Sequence[str], references: Sequence[Any]) -> dict[str, float]:
        """Return the scores that only a whole test set has."""
        return {}

    def _compute(self, predictions: Sequence[str], references: Sequence[Any]) -> dict[str, float]:
        means = {
            name: float(scores.mean())
            for name, scores in self.each(predictions, references).items()
        }
        return means | self.whole(predictions, references)


class ExactMatch(TextMetric):
    """The share of predictions that equal their reference as strings (spec, section 4)."""

    judges: ClassVar = {"exact_match": same}


class ExactMatchF1(TextMetric):
    """Exact match, and F1 of whitespace tokens beside it: MTOP and WebQSP (spec, section 4)."""

    judges: ClassVar = {"exact_match": same, "f1": token_f1}


class TokenF1(TextMetric):
    """F1 of whitespace tokens."""

    judges: ClassVar = {"f1": token_f1}


class Squad(TextMetric):
    """Exact match and F1 of normalised answers, the best over all gold answers (Rajpurkar et al. 2016)."""

    judges: ClassVar = {
        "exact_match": lambda p, r: same(normalized(p), normalized(r)),
        "f1": lambda p, r: token_f1(normalized(p), normalized(r)),
    }


class Rouge1(TextMetric):
    """ROUGE-1 F-measure by rouge-score, the mean over examples."""

    judges: ClassVar = {"rouge1": rouge1}


class ExactMatchBleu(ExactMatch):
    """Exact match, and sacrebleu's corpus BLEU in 0..1 beside it: code."""

    def whole(self, predictions: Sequence[str], references: Sequence[Any]) -> dict[str, float]:
        """Return BLEU; with several references an example all of them count, a missing one as None."""
        golds = [[r] if isinstance(r, str) else r for r in references]
        columns = [
            [gold[i] if i < len(gold) else None for gold in golds]
            for i in range(max(map(len, golds)))
        ]
        return {"bleu": sacrebleu.corpus_bleu(list(predictions), columns).score / 100}


METRICS: dict[str, type[TextMetric]] = {
    "exact_match": ExactMatch,
    "exact_match_f1": ExactMatchF1,
    "exact_match_bleu": ExactMatchBleu,
    "token_f1": TokenF1,
    "squad": Squad,
    "rouge1": Rouge1,
}
