"""What a language model returns for a batch -> its loss and its accuracy, by target tokens."""

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
            total = cross_entropy(
                outputs.logits.flatten(0, 1).float(),  # [rows * length, ids]
                labels.flatten(),  # [rows * length]
                ignore_index=IGNORED,
                reduction="sum",
                label_smoothing=self.label_smoothing,
            )
        if num_items_in_batch is None:
            num_items_in_batch = (labels != IGNORED).sum()
        return total / num_items_in_batch


token_loss = TokenLoss()


def most_likely(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return the ids of the highest logits, [rows, length]: what token accuracy needs of them.

    Trainer calls it on every evaluated batch (`preprocess_logits_for_metrics`), so that no logits
    are kept.
    """
    if isinstance(logits, tuple):  # encoder-decoders return hidden states too
        logits = logits[0]
    if not logits.is_floating_point():  # a SummedLoss has the ids
        return logits
    return logits.argmax(-1)


def teacher_forced(prediction: EvalPrediction) -> dict[str, float]:
    """Return two metrics of an evaluation under teacher forcing (`compute_metrics` of a Trainer).

    Args:
        prediction: predictions and label_ids, ids [rows, length]. End-of-sequence ids count.

    Returns:
        `token_accuracy`: the share of target tokens that are predicted.
        `score`: the share of rows in which all target tokens are predicted; these are the rows that
            greedy decoding would reproduce.
    """
    is_target = prediction.label_ids != IGNORED
    is_right = prediction.predictions == prediction.label_ids
    return {
        "token_accuracy": float(is_right[is_target].mean()),
        "score": float(np.all(is_right | ~is_target, axis=1).mean()),
    }
