"""A batch -> parts of it that are computed one after the other, so that each fits into memory.

Rows of similar length come into one part, and each part is cut to its own longest row. Losses that
are sums over the rows, divided by a number for the whole step, add up to that of the batch.
"""

import numpy as np
import torch

from hf_synpre.data.rows import IGNORED, padded_width

# Arrays that are as long as the targets, where these are apart from the inputs: a decoder's, or
# the masked positions of an encoder.
TARGETS = (
    *("labels", "decoder_input_ids", "target_segments"),
    *("masked_positions", "originals", "draws"),
)

Batch = dict[str, torch.Tensor]


def computed_positions(batch: Batch) -> int:
    """Return the positions that a model computes for a batch: tokens and padding.

    They are those of the inputs and of a decoder's targets.
    """
    positions = batch["input_ids"].numel()
    if "decoder_input_ids" in batch:
        positions += batch["decoder_input_ids"].numel()
    return positions


def row_lengths(batch: Batch) -> np.ndarray:
    """Return the lengths of the rows of a batch without their padding: int64 [rows, 2].

    They are those of the inputs and of the targets; the second is 0 where labels lie beside their
    inputs, or are none of positions.
    """
    is_real = batch["segments" if "segments" in batch else "attention_mask"] > 0
    lengths = [last_true(is_real)]
    if "decoder_input_ids" in batch or "masked_positions" in batch:
        lengths.append(last_true(batch["labels"] != IGNORED))
    else:
        lengths.append(torch.zeros_like(lengths[0]))
    return torch.stack(lengths, dim=1).cpu().numpy()


def last_true(flags: torch.Tensor) -> torch.Tensor:
    """Return for every row the number of the positions up to its last true one: int64 [rows].

    Args:
        flags: bool [rows, width] or [rows, choices, width].
    """
    numbers = torch.arange(1, flags.shape[-1] + 1, device=flags.device)
    return (flags * numbers).flatten(1).amax(dim=1)


def fewest_parts(batch: Batch, limit: int) -> int:
    """Return how many parts a batch needs so that each has at most `limit` positions.

    A part that is one row may have more.

    Args:
        batch: the batch.
        limit: positions, those of padding included, as `computed_positions` counts them.
    """
    positions, rows = computed_positions(batch), len(batch["input_ids"])
    if positions <= limit:
        return 1
    lengths = row_lengths(batch)
    counted = 2 if "decoder_input_ids" in batch else 1  # masked positions are computed already
    choices = batch["input_ids"][0].numel() // batch["input_ids"].shape[-1]

    for parts in range(2, rows):
        largest = 0
        for part in divided(lengths, parts):
            longest = lengths[part].max(axis=0)[:counted]
            widths = [padded_width(int(length)) for length in longest]
            largest = max(largest, len(part) * choices * sum(widths))
        if largest <= limit:
            return parts
    return rows


def divided(lengths: np.ndarray, parts: int) -> list[np.ndarray]:
    """Return the numbers of the rows of every part: sorted by length, as many rows in each."""
    return np.array_split(np.argsort(lengths.sum(axis=1), kind="stable"), parts)


def cut_batch(batch: Batch, parts: int) -> list[Batch]:
    """Return a batch as a number of parts, from the shortest rows to the longest.

    Args:
        batch: name -> [rows], [rows, width] or [rows, choices, width]; rows are padded on their
            right.
        parts: how many, at most the number of rows. One part is the batch itself.
    """
    if parts == 1:
        return [batch]
    lengths = row_lengths(batch)
    has_targets = bool(lengths[:, 1].any())
    width = batch["input_ids"].shape[-1]

    cut = []
    for part in divided(lengths, parts):
        source, target = (padded_width(int(longest)) for longest in lengths[part].max(axis=0))
        rows = torch.from_numpy(part).to(batch["input_ids"].device)
        tensors = {}
        for name, tensor in batch.items():
            # Labels are answers of rows where they are one a row, or numbers, or not as many as
            # positions.
            is_answer = tensor.dim() == 1 or tensor.is_floating_point() or tensor.shape[-1] != width
            tensors[name] = tensor[rows]
            if has_targets and name in TARGETS:
                tensors[name] = tensors[name][..., :target]
            elif not is_answer:
                tensors[name] = tensors[name][..., :source]
        cut.append(tensors)
    return cut
