"""Length buckets: rows of examples in an order in which those of a batch have similar lengths."""

import numpy as np

from hf_synpre.data.rows import BatchDataset, MapDataset, Row, read_block
from hf_synpre.tasks import rng

# Batches that LengthBuckets reorders together.
MEGABATCH = 64


class LengthBuckets:
    """A dataset in another order: the rows of a batch have similar lengths and need less padding.

    Rows move only inside a megabatch, so row i stays a function of i; the batches of a megabatch
    come in a fixed random order. Every row of a whole megabatch appears once. The rows after the
    last whole megabatch stay where they are.

    Args:
        dataset: the rows.
        batch_size: rows of a batch.
        batches: batches of a megabatch.
        apart: inputs and targets are padded apart, as an encoder-decoder's are; else they lie in
            one row, and its whole length counts.
        size: how many rows there are in the new order, if not all: the first ones.
    """

    def __init__(
        self,
        dataset: BatchDataset,
        batch_size: int,
        batches: int = MEGABATCH,
        apart: bool = True,
        size: int | None = None,
    ):
        self.dataset, self.batch_size, self.apart = dataset, batch_size, apart
        self.size = len(dataset) if size is None else size
        self.megabatch_rows = batch_size * batches
        # The megabatch that was asked for last, and its rows in their new order.
        self._megabatch = -1
        self._ordered: list[Row] = []

    def __repr__(self) -> str:
        return f"LengthBuckets(batch_size={self.batch_size}, {self.dataset})"

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        megabatch, position = divmod(index, self.megabatch_rows)
        if (megabatch + 1) * self.megabatch_rows > len(self.dataset):
            return self.dataset[index]
        if self._megabatch != megabatch:
            self._ordered = self._order_rows(megabatch)
            self._megabatch = megabatch
        return self._ordered[position]

    def _order_rows(self, megabatch: int) -> list[Row]:
        """Return the rows of a megabatch in their new order."""
        rows = read_block(self.dataset, megabatch, self.megabatch_rows)
        lengths = np.array([(len(row["input_ids"]), len(row["labels"])) for row in rows])
        if not self.apart:
            lengths = lengths.sum(axis=1, keepdims=True) * (1, 0)  # [rows, 2]
        by_length = length_order(lengths, self.batch_size).reshape(-1, self.batch_size)

        # Shuffle the batches: else short ones would come first in every megabatch.
        first = megabatch * self.megabatch_rows
        starts = range(first, first + self.megabatch_rows, self.batch_size)
        hashes = [rng.mix(np.uint64(start)) for start in starts]
        order = by_length[np.argsort(hashes)].flatten()
        return [rows[k] for k in order]


class RowsByLength:
    """The rows of an evaluation from the shortest to the longest, so that its batches pad little.

    They are made once and kept in memory.

    Args:
        rows: the rows, with input_ids and labels.
    """

    def __init__(self, rows: MapDataset[Row]):
        made = [rows[index] for index in range(len(rows))]
        self._rows = sorted(made, key=lambda row: len(row["input_ids"]) + len(row["labels"]))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self._rows[index]


def length_order(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """Return an order of rows whose neighbours have similar lengths on both sides.

    Rows are parted into groups by their input length, and each group is sorted by target length. A
    group has about as many batches as there are groups, so that both lengths differ little within a
    batch.

    Args:
        lengths: int [rows, 2], inputs and targets; (whole length, 0) sorts by the whole length.
        batch_size: rows of a batch.
    """
    source, target = lengths.T
    batches = len(lengths) / batch_size
    group_rows = batch_size * round(batches**0.5)
    rank = np.argsort(np.argsort(source, kind="stable"), kind="stable")
    return np.lexsort((source, target, rank // group_rows))
