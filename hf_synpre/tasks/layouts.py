"""Layouts of rows: what a row's `input_ids` and `labels` hold.

- "seq2seq", for encoder-decoders: the input, and the target. Neither has an end of sequence.
- "causal", for decoders: one sequence of the input, an end of sequence, the target and another end
  of sequence. The labels are as long: the target and its end at their own positions, -100 before.
  transformers' decoders shift labels themselves, so a stock Trainer takes these rows as they are.

Tasks whose rows are sequences (`is_sequence`) have one layout: the sequence, and labels as long,
-100 at positions that are not scored. "causal" also leaves out the label of the first token, which
nothing predicts.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_synpre.errors import choose
from hf_synpre.tasks.kernels import IGNORED
from hf_synpre.tasks.streams import Rows, RowStream, copy_rows
from hf_synpre.vocabulary import Vocabulary

if TYPE_CHECKING:
    from hf_synpre.tasks.base import SyntheticTask

LAYOUTS = ("seq2seq", "causal")


def with_layout(stream: RowStream, layout: str) -> RowStream:
    """Return a stream with the same rows in a layout.

    Args:
        stream: a task's stream.
        layout: a name of LAYOUTS.

    Raises:
        UsageError: there is no such layout.
    """
    if choose("layout", layout, LAYOUTS) == "seq2seq":
        return stream
    return CausalStream(stream)


@dataclass(frozen=True, repr=False)
class CausalStream:
    """The rows of a stream in the layout "causal"."""

    # The stream of inputs and targets, or of sequences.
    stream: RowStream

    def __repr__(self) -> str:
        return f"CausalStream({self.stream!r})"

    @property
    def task(self) -> "SyntheticTask":
        """The task of the rows."""
        return self.stream.task

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the rows; its end of sequence ends inputs and targets."""
        return self.stream.vocabulary

    @property
    def key(self) -> np.uint64:
        """The key of the stream of inputs and targets."""
        return self.stream.key

    @property
    def bounds(self) -> tuple[int, int]:
        """The tokens of the longest sequence, and as many labels."""
        if self.task.is_sequence:
            return self.stream.bounds
        longest = sum(self.stream.bounds) + 2
        return longest, longest

    def rows(self, indices: np.ndarray) -> Rows:
        """Return the rows at some indices; see `RowStream.rows`."""
        x, x_ends, y, y_ends = self.stream.rows(indices)
        if self.task.is_sequence:
            y[y_ends[:-1]] = IGNORED
            return x, x_ends, y, y_ends

        input_lengths, target_lengths = np.diff(x_ends), np.diff(y_ends)  # [n]
        ends = np.zeros(len(x_ends), np.int32)  # [n + 1]
        np.cumsum(input_lengths + target_lengths + 2, out=ends[1:])
        starts = ends[:-1]
        target_starts = starts + input_lengths + 1

        # What is neither input nor target is an end of sequence.
        sequences = np.full(ends[-1], self.vocabulary.eos, np.int32)
        copy_rows(sequences, starts, x, x_ends)
        copy_rows(sequences, target_starts, y, y_ends)

        labels = np.full(ends[-1], IGNORED, np.int32)
        copy_rows(labels, target_starts, y, y_ends)
        labels[ends[1:] - 1] = self.vocabulary.eos
        return sequences, ends, labels, ends
