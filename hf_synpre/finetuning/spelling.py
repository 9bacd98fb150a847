"""Targets that a tokenizer cannot spell: ids of references -> what a perfect model would score.

A tokenizer without braces or line ends writes other text than the target. Validation compares ids,
so it would call such a row right; the test compares texts, and cannot.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
import pyarrow as pa
from transformers import EvalPrediction
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.data.rows import IGNORED
from hf_synpre.errors import UsageError
from hf_synpre.finetuning.metrics import score_texts

# A perfect model with a lower score than this is refused: the tokenizer loses most targets.
LEAST_CEILING = 0.5
SHOWN_CHARACTERS = 5  # lost characters that a message shows

Metrics = Callable[[EvalPrediction], dict[str, float]]


@dataclass(frozen=True)
class Spelling:
    """How well a tokenizer spells the targets of a split."""

    metric: str  # the name of the score
    ceiling: float  # the score of a model that predicts the ids of every target
    rows: int  # targets that were spelled
    wrong_rows: int  # targets that no model can get right
    lost: list[str]  # the characters that are lost most often

    @classmethod
    def of(
        cls, decode: Callable[[list[list[int]]], list[str]], rows: pa.Table, metric: str
    ) -> "Spelling":
        """Decode the ids of targets as those of predictions, and score the texts.

        Args:
            decode: makes texts of the ids of predictions.
            rows: `labels`, the ids of each target, and `references`, its accepted texts.
            metric: a name of METRICS.
        """
        ids, references = rows["labels"].to_pylist(), rows["references"].to_pylist()
        spelled = decode(ids)
        scores, of_rows = score_texts(metric, spelled, references)

        # A target that is spelled counts as right, also one without words, whose ROUGE is 0.
        lost: Counter[str] = Counter()
        for row, (text, accepted) in enumerate(zip(spelled, references, strict=True)):
            if text == accepted[0]:
                of_rows[row] = 1.0
            elif of_rows[row] < 1:
                lost.update(lost_characters(accepted[0], text))
        return cls(
            metric=next(iter(scores)),
            ceiling=float(of_rows.mean()),
            rows=len(ids),
            wrong_rows=int((of_rows < 1).sum()),
            lost=[character for character, _ in lost.most_common(SHOWN_CHARACTERS)],
        )

    def note(self) -> str:
        """Return how many targets cannot be spelled, and what is lost."""
        text = (
            f"the tokenizer cannot spell {self.wrong_rows} of {self.rows} validation targets: a "
            f"perfect model would score {self.metric} {self.ceiling:.3f}"
        )
        if self.lost:
            text += f"; it loses {', '.join(map(repr, self.lost))}"
        return text


def lost_characters(target: str, spelled: str) -> set[str]:
    """Return the characters of a target that its spelling lacks, or has others instead of."""
    missing = set(target) - set(spelled)
    if missing:
        return missing
    matcher = SequenceMatcher(None, target, spelled, autojunk=False)
    lost = set()
    for operation, begin, end, *_ in matcher.get_opcodes():
        if operation in ("delete", "replace"):
            lost |= set(target[begin:end])
    return lost


def check_spelling(task: str, spelling: Spelling, accepted: bool) -> None:
    """Raise UsageError where a tokenizer loses most targets, unless that is accepted."""
    if spelling.ceiling < LEAST_CEILING and not accepted:
        raise UsageError(
            f"{task}: {spelling.note()}; give another tokenizer, or leave tokenizer out to have "
            "one trained on the task (accept_unspellable fine-tunes all the same)."
        )


def without_unknown(metrics: Metrics, tokenizer: PreTrainedTokenizerBase) -> Metrics:
    """Return metrics of validation that count no row right whose target has the unknown id.

    Args:
        metrics: a function that returns "token_accuracy" and "score", the share of right rows.
        tokenizer: the tokenizer; without an unknown id of its own the metrics stay as they are.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        return metrics

    def scored(prediction: EvalPrediction) -> dict[str, float]:
        scores = metrics(prediction)
        is_target = prediction.label_ids != IGNORED  # [rows, length]
        has_unknown = (is_target & (prediction.label_ids == unknown)).any(axis=1)  # [rows]
        if has_unknown.any():
            ids, _ = prediction.predictions
            is_right = (ids == prediction.label_ids) | ~is_target
            scores["score"] = float(np.mean(is_right.all(axis=1) & ~has_unknown))
        return scores

    return scored
