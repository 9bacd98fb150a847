"""Layer 3: rows -> batches of a model. Few shapes: kernels are prepared anew for each that they meet."""

from dataclasses import dataclass

import numpy as np
import torch

from hf_synpre.data.packing import Seq2SeqLayout, filler
from hf_synpre.data.synthetic import Row


@dataclass
class RowCollator:
    """Stack laid-out rows (see packing): their arrays padded to the longest, in multiples of `multiple`; int64.

    Encoder-decoders get decoder_input_ids too: the labels one place later, each example begun with the id `start`. They
    are there because a loss outside the model takes the labels away from it. With `alone` every row is one example
    and an attention_mask, which any model takes, replaces the segments.
    """

    pad: int
    start: int | None = None
    multiple: int = 8
    alone: bool = False

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Return the batch of rows."""
        hidden = {"places", "labels", "originals", "draws"} if "places" in rows[0] else set()
        batch = {
            name: self._stack(name, [row[name] for row in rows], name in hidden) for name in rows[0]
        }
        if "target_segments" in batch:
            batch["decoder_input_ids"] = self._shifted(batch["labels"], batch["target_segments"])
        if self.alone:
            batch["attention_mask"] = (batch.pop("segments") > 0).astype(np.int64)
            batch.pop("target_segments", None)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _stack(self, name: str, arrays: list[np.ndarray], hidden: bool) -> np.ndarray:
        multiple = self.multiple if not hidden else 1  # hidden ids are as many in every full row
        width = -(-max(map(len, arrays)) // multiple) * multiple
        out = np.full((len(arrays), width), filler(name, self.pad), np.int64)
        for row, array in zip(out, arrays, strict=True):
            row[: len(array)] = array
        return out

    def _shifted(self, labels: np.ndarray, segments: np.ndarray) -> np.ndarray:
        shifted = np.roll(labels, 1, axis=1)
        shifted[segments != np.roll(segments, 1, axis=1)] = self.start
        shifted[:, 0] = self.start
        return np.where(segments == 0, self.pad, shifted)


@dataclass
class Seq2SeqCollator:
    """Pad rows {input_ids, labels} of one example each to the longest of the batch, for any encoder-decoder.

    Both sides are cut to their limit with the end-of-sequence id appended (as the reference does, the cut comes last: a
    cut row loses it).
    """

    pad: int
    eos: int
    start: int
    max_source: int = 512
    max_target: int = 512
    multiple: int = 8

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Return the batch of rows: input_ids, attention_mask, labels, decoder_input_ids."""
        layout = Seq2SeqLayout(self.eos, self.pad, self.max_source, self.max_target)
        stack = RowCollator(self.pad, self.start, multiple=self.multiple, alone=True)
        return stack([layout.row([row]) for row in rows])
