"""What a language model returns for a batch -> its loss and its accuracy, by target tokens.

Trainer's loss of an evaluation is a mean over batches, which depends on their size. Here each row
has its sum: `TokenLoss.by_row` makes it of every evaluated batch, Trainer gathers the rows of all
batches and processes, each once, and `teacher_forced` divides by their target tokens.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction

from hf_synpre.data.rows import IGNORED
from hf_synpre.models.chunked_head import SummedLoss


@dataclass(frozen=True)
class TokenLoss:
    """The cross-entropy per target token of the whole step, in nats.

    It does not depend on how the step is divided among batches and processes. The models' own
    losses do: each is the mean over one batch, and Trainer adds them up
    (https://github.com/huggingface/transformers/issues/47688).

    Args:
        label_smoothing: the share of a target that is spread over all ids.
    """

    label_smoothing: float = 0.0

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            outputs: a model's, with logits [rows, length, ids], or a SummedLoss.
            labels: ids [rows, length]; IGNORED where there is no target.
            num_items_in_batch: target tokens of the whole step; None where this batch is all of it.
        """
        if isinstance(outputs, SummedLoss):
            total = outputs.loss
        else:
            total = self._cross_entropy(outputs.logits, labels, "sum")
        if num_items_in_batch is None:
            num_items_in_batch = (labels != IGNORED).sum()
        return total / num_items_in_batch

    def by_row(self, outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what an evaluation keeps of a batch: the most likely ids, and each row's loss.

        Trainer calls it on every evaluated batch (`preprocess_logits_for_metrics`), so that no
        logits are kept.

        Args:
            outputs: the fields that a model returned, but for the loss: of a SummedLoss its
                predictions and losses, else logits [rows, length, ids], alone or before others.
            labels: ids [rows, length]; IGNORED where there is no target.

        Returns:
            The ids with the highest logits, [rows, length], and the loss summed over the target
            tokens of each row, in nats, [rows].
        """
        first, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        if first.is_floating_point():
            ids, losses = first.argmax(-1), self._cross_entropy(first, labels, "none")
        else:
            ids, losses = first, others[0]
        losses = losses.view(labels.shape).where(labels != IGNORED, 0.0)  # [rows, length]
        return ids, losses.sum(1)

    def _cross_entropy(
        self, logits: torch.Tensor, labels: torch.Tensor, reduction: str
    ) -> torch.Tensor:
        """Return the cross-entropy of logits [rows, length, ids], reduced as torch calls it."""
        return cross_entropy(
            logits.flatten(0, 1).float(),  # [rows * length, ids]
            labels.flatten(),  # [rows * length]
            ignore_index=IGNORED,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )


token_loss = TokenLoss()


def teacher_forced(prediction: EvalPrediction) -> dict[str, float]:
    """Return the metrics of an evaluation under teacher forcing (`compute_metrics` of a Trainer).

    Args:
        prediction: predictions, as `TokenLoss.by_row` returns them, and label_ids [rows, length].
            End-of-sequence ids count.

    Returns:
        `loss`: in nats per target token of all rows; Trainer takes it in place of its own.
        `token_accuracy`: the share of target tokens that are predicted.
        `score`: the share of rows in which all target tokens are predicted; these are the rows that
            greedy decoding would reproduce.
    """
    ids, nats = prediction.predictions
    is_target = prediction.label_ids != IGNORED
    is_right = ids == prediction.label_ids
    return {
        "loss": float(nats.sum(dtype=np.float64) / is_target.sum()),
        "token_accuracy": float(is_right[is_target].mean()),
        "score": float(np.all(is_right | ~is_target, axis=1).mean()),
    }
