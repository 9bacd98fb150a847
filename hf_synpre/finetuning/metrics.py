"""Metrics of generated texts: predictions and references -> scores by name, and for each example.

METRICS has them, as `evaluate.Metric`s that need no download. The first score of each is the one
that is reported. docs/metrics.md says how each cuts texts into words.
"""

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

from hf_synpre.errors import UsageError
from hf_synpre.finetuning.text_units import (
    UNSPACED,
    bleu_tokenizer,
    needs_unicode_words,
    space_characters,
    strip_punctuation,
    unicode_words,
)

PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, reference: str) -> float:
    """Return 1 where the strings are equal, else 0."""
    return float(prediction == reference)


def token_f1(prediction: str, reference: str) -> float:
    """Return the F1 of the bags of whitespace tokens, 0 where they share none.

    A character of a script without spaces is a token (docs/papers.md, "Fine-tuning").
    """
    predicted = space_characters(prediction).split()
    expected = space_characters(reference).split()
    shared = sum((Counter(predicted) & Counter(expected)).values())
    if not shared:
        return 0.0
    return 2 * shared / (len(predicted) + len(expected))


def normalized_answer(answer: str) -> str:
    """Return an answer as SQuAD compares it: lower case, no punctuation or articles, one space.

    In scripts without spaces the punctuation is all that of Unicode, as in MLQA.
    """
    without_punctuation = answer.lower().translate(PUNCTUATION)
    if UNSPACED.search(answer):
        without_punctuation = strip_punctuation(without_punctuation)
    without_articles = re.sub(r"\b(a|an|the)\b", " ", without_punctuation)
    return " ".join(without_articles.split())


def normalized_exact_match(prediction: str, reference: str) -> float:
    """Return 1 where SQuAD's normalised answers are equal, else 0."""
    return exact_match(normalized_answer(prediction), normalized_answer(reference))


def normalized_token_f1(prediction: str, reference: str) -> float:
    """Return the F1 of the tokens of SQuAD's normalised answers."""
    return token_f1(normalized_answer(prediction), normalized_answer(reference))


class UnicodeWords:
    """A tokenizer of rouge-score that keeps the words of any script."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return unicode_words(text)


@cache
def rouge_scorer(of_any_script: bool = False) -> RougeScorer:
    """Return rouge-score's scorer of unigrams, without stemming as in Wu et al. 2022.

    Args:
        of_any_script: words are those of any script; without it those of a-z and 0-9 alone.
    """
    return RougeScorer(["rouge1"], tokenizer=UnicodeWords() if of_any_script else None)


def rouge1(prediction: str, reference: str) -> float:
    """Return the F-measure of ROUGE-1.

    Where most words of the reference are beyond a-z and 0-9, words are those of any script.
    """
    scorer = rouge_scorer(needs_unicode_words(reference))
    return scorer.score(reference, prediction)["rouge1"].fmeasure


class TextMetric(evaluate.Metric):
    """The mean over examples of each score of a generated text, in 0..1.

    `references` holds one string an example, or a list of strings of which the best one counts.

    Examples:
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

        Raises:
            UsageError: there are no examples, or one has no accepted text.
        """
        pairs = list(zip(predictions, as_lists(references), strict=True))
        if not pairs:
            raise UsageError("There are no predictions to score; give one at least.")
        scores = {}
        for name, score in self.score_functions.items():
            scores[name] = np.array([self.best(score, text, accepted) for text, accepted in pairs])
        return scores

    def best(
        self, score: Callable[[str, str], float], prediction: str, accepted: Sequence[str]
    ) -> float:
        """Return the highest score of a prediction against the accepted texts.

        Raises UsageError where no text is accepted.
        """
        if not accepted:
            raise UsageError(
                f"The prediction {prediction[:40]!r} has no reference; give one text at least for "
                "each."
            )
        return max(score(prediction, reference) for reference in accepted)

    def corpus_scores(
        self, predictions: Sequence[str], references: Sequence[Any]
    ) -> dict[str, float]:
        """Return the scores that are no means over examples."""
        return {}

    def scoring(self, references: Sequence[Any]) -> dict[str, str]:
        """Return for some scores how texts of these references are cut into words."""
        texts = [text for accepted in as_lists(references) for text in accepted]
        unspaced = sum(UNSPACED.search(text) is not None for text in texts)
        if "f1" not in self.score_functions or not unspaced:
            return {}
        words = "words between spaces; single characters of scripts without spaces"
        return {"f1": f"{words} ({unspaced} of {len(texts)} references)"}

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
    """Exact match and F1 of normalised answers; the best reference counts.

    Without references an empty prediction is right, as in SQuAD 2.0.
    """

    score_functions: ClassVar = {"exact_match": normalized_exact_match, "f1": normalized_token_f1}

    def best(
        self, score: Callable[[str, str], float], prediction: str, accepted: Sequence[str]
    ) -> float:
        """Return the highest score against the accepted answers, or that of no answer."""
        if not accepted:
            return float(not normalized_answer(prediction))
        return super().best(score, prediction, accepted)


class Rouge1(TextMetric):
    """ROUGE-1 F-measure by rouge-score, the mean over examples."""

    score_functions: ClassVar = {"rouge1": rouge1}

    def scoring(self, references: Sequence[Any]) -> dict[str, str]:
        """Return whose words are counted."""
        texts = [text for accepted in as_lists(references) for text in accepted]
        of_any_script = sum(map(needs_unicode_words, texts))
        words = "rouge-score's words (a-z, 0-9)"
        if of_any_script:
            words += f"; words of any script in {of_any_script} of {len(texts)} references"
        return {"rouge1": words}


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
        bleu = sacrebleu.corpus_bleu(
            list(predictions),
            columns,
            tokenize=bleu_tokenizer(text for row in lists for text in row),
        )
        return {"bleu": bleu.score / 100}

    def scoring(self, references: Sequence[Any]) -> dict[str, str]:
        """Return the tokenizer of BLEU."""
        texts = [text for accepted in as_lists(references) for text in accepted]
        return {"bleu": f"sacrebleu's corpus BLEU, tokenizer {bleu_tokenizer(texts)}"}


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
