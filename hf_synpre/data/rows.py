"""What a row is, what a dataset of rows offers, and which rows of a task a dataset has."""

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from hf_synpre.errors import UsageError, as_integer, choose, in_message
from hf_synpre.tasks import RowStream, SyntheticTask, get_task
from hf_synpre.tasks.kernels import IGNORED as IGNORED
from hf_synpre.tasks.layouts import with_layout
from hf_synpre.tasks.rng import SPLITS

# One row: name of an array -> int32[length]. Every dataset of this room says which names its rows
# have.
Row = dict[str, np.ndarray]

# Widths of batches and rows are multiples of this, because a GPU prepares new kernels for every
# width.
MULTIPLE = 8


def padded_width(longest: int) -> int:
    """Return the width of a batch whose longest row has so many positions.

    It is a multiple of MULTIPLE; for short rows of a half, a quarter or an eighth of it, so that
    rounding up adds less than an eighth. Few widths occur: 15 below 16, then 8 up to each doubling
    of 64.
    """
    multiple = MULTIPLE
    while multiple > 1 and longest < 8 * multiple:
        multiple //= 2
    return -(-longest // multiple) * multiple


def padded_to_multiple(length: int) -> int:
    """Return the width of a batch whose longest row has so many positions, with MULTIPLE."""
    return -(-length // MULTIPLE) * MULTIPLE


# Rows of each split where nothing else is said (Wu et al. 2022, appendix).
SPLIT_SIZES = {"train": 1_000_000, "validation": 10_000}
# One more than the most rows of a split.
ROWS_LIMIT = 2**40

Item = TypeVar("Item", covariant=True)


class MapDataset(Protocol[Item]):
    """A dataset with a length whose item i depends on i alone."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class BatchDataset(MapDataset[Row], Protocol):
    """A map-style dataset that also makes many rows in one call, which is faster."""

    def __getitems__(self, indices: list[int], /) -> list[Row]: ...


def read_block(dataset: BatchDataset, number: int, size: int) -> list[Row]:
    """Return a block of consecutive rows, made in one call.

    Args:
        dataset: the dataset.
        number: the number of the block, from 0.
        size: rows of a block.
    """
    first = number * size
    return dataset.__getitems__(list(range(first, first + size)))


@dataclass
class RowsConfig:
    """Which rows of a synthetic task the splits of a dataset have.

    The task is looked up once and every split's stream is opened once, when the object is made.

    Raises:
        UsageError: an unknown task, split or parameter, a value that does not fit the task, or a
            bad number of rows.
    """

    # A task's name, or a mixture with its weights, "set:2,identity:1".
    task: str = "set"
    # The task's parameters, where they differ from the paper's.
    parameters: dict[str, Any] = field(default_factory=dict)
    # Whose ids the rows have; subclasses say what they take.
    vocabulary: Any = None
    # An integer >= 0; every seed is another stream.
    seed: int = 0
    # Split -> number of rows, the first of the split's endless stream.
    splits: dict[str, int] = field(default_factory=lambda: dict(SPLIT_SIZES))
    # What a row holds: "seq2seq" or "causal" (hf_synpre/tasks/layouts.py).
    layout: str = "seq2seq"

    def __post_init__(self) -> None:
        self.opened_task: SyntheticTask = get_task(self.task)
        self.check_fields()
        for split, rows in self.splits.items():
            choose("split", split, SPLITS)
            if as_integer(rows) is None or not 1 <= rows < ROWS_LIMIT:
                raise UsageError(
                    f"The split {split} has size {in_message(rows)}; give a number of rows >= 1."
                )

        # Opening a stream checks the task's parameters, the vocabulary and the seed.
        self._streams: dict[str, RowStream] = {}
        for split in self.splits:
            stream = self.opened_task.open_stream(
                split=split, seed=self.seed, vocabulary=self.stream_vocabulary(), **self.parameters
            )
            self._streams[split] = with_layout(stream, self.layout)

    def stream(self, split: str) -> RowStream:
        """Return the endless stream that the split's rows are the first of."""
        return self._streams[split]

    def check_fields(self) -> None:
        """Check and complete the fields of a subclass. It runs before the streams are opened."""

    def stream_vocabulary(self) -> Any:
        """Return the vocabulary as `open_stream` takes it."""
        return self.vocabulary
