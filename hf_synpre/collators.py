"""Layer 3: rows -> batches of a model."""

from dataclasses import dataclass

import numpy as np
import torch

from hf_synpre.datasets import Row

IGNORED = -100


@dataclass
class Seq2SeqCollator:
    """Pad rows to the longest of the batch: input_ids, attention_mask, labels, decoder_input_ids (int64, rows x length).

    Lengths are rounded up to a multiple of `multiple`: kernels are prepared anew for each shape they meet.

    Both sides are cut to their limit with the end-of-sequence id appended (as the reference does, the cut comes last: a
    cut row loses it). decoder_input_ids are there because a loss outside the model takes the labels away from it.
    """

    pad: int
    eos: int
    start: int
    max_source: int = 512
    max_target: int = 512
    multiple: int = 8

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        inputs = self._pad([r["input_ids"] for r in rows], self.max_source, self.pad)
        labels = self._pad([r["labels"] for r in rows], self.max_target, IGNORED)
        shifted = np.concatenate([np.full((len(rows), 1), self.start), labels[:, :-1]], axis=1)
        shifted[shifted == IGNORED] = self.pad
        lengths = np.array([min(len(r["input_ids"]) + 1, self.max_source) for r in rows])
        mask = np.arange(inputs.shape[1]) < lengths[:, None]
        arrays = {
            "input_ids": inputs,
            "attention_mask": mask.astype(np.int64),
            "labels": labels,
            "decoder_input_ids": shifted,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _pad(self, sequences: list[np.ndarray], limit: int, filler: int) -> np.ndarray:
        width = min(-(-(max(map(len, sequences)) + 1) // self.multiple) * self.multiple, limit)
        out = np.full((len(sequences), width), filler, np.int64)
        for row, ids in zip(out, sequences, strict=True):
            cut = min(len(ids), width)
            row[:cut] = ids[:cut]
            if cut < width:
                row[cut] = self.eos
        return out
