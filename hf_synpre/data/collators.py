"""Collators: a list of rows -> one batch of int64 tensors, padded to a multiple of 8 ids."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_synpre.data.packing import Seq2SeqLayout, fill_value
from hf_synpre.data.rows import IGNORED, MULTIPLE, Row


def pad_arrays(arrays: list[np.ndarray], fill: int, multiple: int = 1) -> np.ndarray:
    """Return arrays as the rows of one matrix, padded on the right.

    Args:
        arrays: integers [length], one array a row.
        fill: the value after the end of a row.
        multiple: the width is the longest length, rounded up to a multiple of this.

    Returns:
        int64 [rows, width].
    """
    longest = max(map(len, arrays))
    width = -(-longest // multiple) * multiple
    padded = np.full((len(arrays), width), fill, np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


@dataclass
class RowCollator:
    """Rows of a layout (see packing.py) -> a batch: every array padded to the longest.

    Encoder-decoders also get decoder_input_ids: the labels one position later, each example begun
    with the id `start`. They are made here because a loss outside the model takes the labels away
    from it.
    """

    # The padding id.
    pad: int
    # The id that begins a decoder's input; needed where rows have target_segments.
    start: int | None = None
    # Widths are multiples of this; the arrays of masked tokens, as long in every full row, are not
    # rounded up.
    multiple: int = MULTIPLE
    # Every row holds one example: an attention_mask, which any model takes, replaces the segments.
    alone: bool = False

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Return the batch of rows: name -> int64 [rows, width]."""
        # Rows with masked positions have one label a masked token, not one a position.
        compact: tuple[str, ...] = ()
        if "masked_positions" in rows[0]:
            compact = ("masked_positions", "labels", "originals", "draws")

        batch = {}
        for name in rows[0]:
            multiple = 1 if name in compact else self.multiple
            arrays = [row[name] for row in rows]
            batch[name] = pad_arrays(arrays, fill_value(name, self.pad), multiple)

        if "target_segments" in batch:
            batch["decoder_input_ids"] = self._shifted(batch["labels"], batch["target_segments"])
        if self.alone:
            batch["attention_mask"] = (batch.pop("segments") > 0).astype(np.int64)
            batch.pop("target_segments", None)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _shifted(self, labels: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """Return the labels [rows, width] one position to the right within their segments."""
        shifted = np.roll(labels, 1, axis=1)
        begins = segments != np.roll(segments, 1, axis=1)
        begins[:, 0] = True
        shifted[begins] = self.start
        return np.where(segments == 0, self.pad, shifted)


@dataclass
class Seq2SeqCollator:
    """Rows {input_ids, labels} of one example each -> a batch for any encoder-decoder.

    The end-of-sequence id is appended to both sides, then each is cut to its limit: a row that is
    cut loses that id, as in the reference implementation.
    """

    # The ids of padding, of the end of a sequence, and of the beginning of a decoder's input.
    pad: int
    eos: int
    start: int
    # Limits of a row's inputs and targets, in ids.
    max_source: int = 512
    max_target: int = 512
    # Widths are multiples of this.
    multiple: int = MULTIPLE

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Return the batch of rows: input_ids, attention_mask, labels, decoder_input_ids."""
        layout = Seq2SeqLayout(self.eos, self.pad, self.max_source, self.max_target)
        collator = RowCollator(self.pad, self.start, multiple=self.multiple, alone=True)
        return collator([layout.row([row]) for row in rows])


@dataclass
class LabelCollator:
    """Rows of a labelled task -> a batch: ids padded to the longest, labels stacked.

    A row is {input_ids, attention_mask, token_type_ids (where the tokenizer has them), labels}, or
    for a choice between texts {choices: such rows without labels, labels}; choices become one more
    dimension, [rows, choices, width].
    """

    # The padding id.
    pad: int
    # Every position has a label (tags): labels are padded with IGNORED like the ids.
    tags: bool = False
    # False where the model has no segments: token_type_ids are left out, whatever the tokenizer
    # makes.
    types: bool = True
    # Widths are multiples of this.
    multiple: int = MULTIPLE

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of rows.

        Labels are float32 where they are numbers or several yes-no answers, else int64.
        """
        texts = []
        for row in rows:
            texts += row.get("choices", [row])

        # Pad the ids.
        batch = {}
        for name in texts[0]:
            if name == "labels" or (name == "token_type_ids" and not self.types):
                continue
            fill = self.pad if name == "input_ids" else 0
            batch[name] = pad_arrays([text[name] for text in texts], fill, self.multiple)
            if "choices" in rows[0]:
                width = batch[name].shape[1]
                batch[name] = batch[name].reshape(len(rows), -1, width)  # [rows, choices, width]

        # Stack the labels.
        labels = [row["labels"] for row in rows]
        if self.tags:
            batch["labels"] = pad_arrays(labels, IGNORED, self.multiple)
        else:
            stacked = np.stack(labels)
            is_number = stacked.dtype == np.float32
            batch["labels"] = stacked if is_number else stacked.astype(np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}
