"""A model -> a small row to try its forward on, and whether two results of it are equal.

`packed_forward`, `masked_head` and `chunked_head` change how a model's forward runs. Each then runs
the model on this row in two ways, the changed and the original one, and compares the logits.
"""

import torch
from transformers import PreTrainedModel

# The ids of the row: 12 different ones. The first five ids of a vocabulary are left out, because
# padding and other special tokens are among them, and a model may treat those in its own way.
FIRST_ID, LENGTH = 5, 12
# Logits differ by this much through rounding alone, even where all of them are about zero.
SMALLEST_DIFFERENCE = 1e-6


def trial_ids(model: PreTrainedModel) -> torch.Tensor:
    """Return one row of ids on the model's device, int64 [1, 12]."""
    ids = torch.arange(FIRST_ID, FIRST_ID + LENGTH)
    ids = ids.remainder(model.config.vocab_size)  # a vocabulary may be smaller
    return ids[None].to(model.device)


def equal_logits(expected: torch.Tensor, computed: torch.Tensor, tolerance: float) -> bool:
    """Say whether two results are equal but for rounding.

    Args:
        expected: logits of any shape; the largest of them is the measure.
        computed: the logits of the other way, of the same shape.
        tolerance: the largest difference that rounding explains, as a share of the largest logit.
    """
    difference = (expected - computed).abs().max()
    return bool(difference <= tolerance * expected.abs().max() + SMALLEST_DIFFERENCE)
