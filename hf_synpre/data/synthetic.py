"""Layer 2: generated rows as datasets."""

from typing import Any

import numpy as np

from hf_synpre.data.rows import Row
from hf_synpre.errors import UsageError
from hf_synpre.tasks import open_stream
from hf_synpre.tasks.rng import mix


class SyntheticDataset:
    """A map-style dataset of a task's rows: {"input_ids", "labels"} as int32 arrays, without end-of-sequence ids.

    Row i is the same in every process and for every size; a list of indices is one compiled call. The keywords are those
    of `generate`. Raises UsageError on bad input, IndexError past the end.
    """

    def __init__(self, task: str, *, size: int = 1_000_000, **stream: Any):
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size < 2**63:
            raise UsageError(f"size is {size!r}; give the number of rows, an integer >= 1.")
        self.stream = open_stream(task, **stream)
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Row]:
        """Return the rows at `indices`, generated together."""
        rows = np.asarray(indices, np.int64)
        if len(rows) and not (-self.size <= rows.min() and rows.max() < self.size):
            raise IndexError(f"Row {rows.max()} was asked for; the dataset has {self.size}.")
        x, x_ends, y, y_ends = self.stream.rows(rows % self.size)
        return [
            {"input_ids": x[a:b], "labels": y[c:d]}
            for a, b, c, d in zip(x_ends, x_ends[1:], y_ends, y_ends[1:], strict=False)
        ]


class LengthBuckets:
    """Reorders a dataset so that each batch of `batch_size` consecutive rows has similar lengths: less padding.

    Rows move only inside windows of `batches` batches, so row i stays a function of the index; the batches of a window
    come in a fixed random order. Every row of the dataset appears once; what the size leaves over keeps its place.
    """

    def __init__(self, dataset: Any, batch_size: int, batches: int = 64):
        self.dataset, self.batch_size, self.window = dataset, batch_size, batch_size * batches
        self._kept: tuple[int, list[Row]] = (-1, [])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Row:
        window, place = divmod(index, self.window)
        return (
            self._rows(window)[place]
            if (window + 1) * self.window <= len(self)
            else self.dataset[index]
        )

    def _rows(self, window: int) -> list[Row]:
        if self._kept[0] != window:
            rows = self.dataset.__getitems__(
                list(range(window * self.window, (window + 1) * self.window))
            )
            order = by_length(
                [(len(row["input_ids"]), len(row["labels"])) for row in rows], self.batch_size
            )
            starts = range(0, self.window, self.batch_size)
            batches = np.argsort([mix(np.uint64(window * self.window + start)) for start in starts])
            self._kept = (
                window,
                [rows[order[starts[b] + i]] for b in batches for i in range(self.batch_size)],
            )
        return self._kept[1]


def by_length(sizes: list[tuple[int, int]], batch_size: int) -> np.ndarray:
    """Return an order whose neighbours have similar (input, target) lengths: groups by the first, sorted by the second."""
    source, target = np.array(sizes).T
    group = batch_size * round((len(sizes) / batch_size) ** 0.5)
    rank = np.argsort(np.argsort(source, kind="stable"), kind="stable") // group
    return np.lexsort((source, target, rank))
