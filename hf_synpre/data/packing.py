"""Packing: examples -> rows of a model with few padding positions.

1. A layout (Seq2SeqLayout, CausalLayout) turns one example, or several side by side, into one row.
2. RowDataset gives each example a row of its own, in the order of buckets.py for example.
3. PackedDataset, instead, puts several examples in each row; all rows have one shape.

An example is {input_ids, labels}. A row of an encoder-decoder is {input_ids, segments, labels,
target_segments}, that of a decoder-only or encoder-only model {input_ids, segments, labels}; all
are int32. A segment is the number (1, 2, ...) of the example within its row: masks, restarted
positions and padding (segment 0) follow from it.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numba import njit

from hf_synpre.data.rows import IGNORED, MULTIPLE, BatchDataset, MapDataset, Row, read_block
from hf_synpre.errors import UsageError
from hf_synpre.tasks import rng

# Consecutive examples that are packed together: enough to fill rows well, few enough to be packed
# in milliseconds.
BLOCK_EXAMPLES = 4096
# Blocks whose examples decide the shape of the rows.
SAMPLE_BLOCKS = 4
# Without a length a row has room for so many examples of mean length.
EXAMPLES_A_ROW = 4
# Rows have room for examples longer than the longest of the sample by this factor.
HEADROOM = 1.05
# Shares of a block's positions that are tried as its filling, the fullest first.
FILLS = (0.985, 0.98, 0.975, 0.97, 0.965, 0.96, 0.95, 0.94, 0.92, 0.9, 0.85, 0.8, 0.7)
# The share of a block's ids that is packed. Lengths differ from block to block; what is left out of
# the first block is the reserve by which later blocks, whose examples are shorter, still have
# enough to fill their rows.
PACKED_SHARE = 0.985
# How often fewer examples are tried where some found no room, each time one in 200 less.
RETRIES = 1000
# How much an uneven filling of inputs and targets costs a row, beside its filling.
IMBALANCE_COST = 2.0
# Sums of shares of a row may exceed 1 by rounding errors alone.
TOLERANCE = 1e-9


class RowLayout(Protocol):
    """How examples lie in a row."""

    # The padding id.
    @property
    def pad(self) -> int: ...

    def sizes(self, example: Row) -> tuple[int, int]:
        """Return the positions that an example takes, of the inputs and of the targets.

        The second is 0 where targets lie beside their inputs.
        """
        ...

    def within(self, source: int, target: int, /) -> "RowLayout":
        """Return the layout that also cuts examples at these limits."""
        ...

    def row(self, examples: list[Row]) -> Row:
        """Return examples side by side as one row."""
        ...


@dataclass(frozen=True)
class Seq2SeqLayout:
    """Rows of an encoder-decoder: inputs and targets apart, an end-of-sequence id after each.

    What is longer than its limit is cut there and loses that id.
    """

    # The ids of the end of a sequence and of padding.
    eos: int
    pad: int = 0
    # Limits of an example's inputs and targets, in positions.
    max_source: int = 512
    max_target: int = 512

    def sizes(self, example: Row) -> tuple[int, int]:
        """Return the positions that an example takes in the inputs and in the targets."""
        source = min(len(example["input_ids"]) + 1, self.max_source)
        target = min(len(example["labels"]) + 1, self.max_target)
        return source, target

    def within(self, source: int, target: int, /) -> "Seq2SeqLayout":
        """Return the layout that also cuts examples at these limits."""
        max_source = min(source, self.max_source)
        max_target = min(target, self.max_target)
        return replace(self, max_source=max_source, max_target=max_target)

    def row(self, examples: list[Row]) -> Row:
        """Return examples side by side as one row."""
        sources, targets = [], []
        for example in examples:
            sources.append(np.append(example["input_ids"], self.eos)[: self.max_source])
            targets.append(np.append(example["labels"], self.eos)[: self.max_target])
        return {
            "input_ids": np.concatenate(sources).astype(np.int32),
            "segments": segment_numbers(sources),
            "labels": np.concatenate(targets).astype(np.int32),
            "target_segments": segment_numbers(targets),
        }


@dataclass(frozen=True)
class CausalLayout:
    """Rows of a decoder-only or encoder-only model: inputs, separator, targets, end of sequence.

    Labels are the next ids. The separator is the end-of-sequence id. What is longer than the limit
    is cut.
    """

    # The ids of the end of a sequence and of padding.
    eos: int
    pad: int = 0
    # Limit of an example, in positions.
    max_length: int = 2048
    # "targets" leaves the inputs out of the loss, "all" does not.
    loss_on: str = "targets"

    def sizes(self, example: Row) -> tuple[int, int]:
        """Return the positions that an example takes, and 0: targets lie beside their inputs."""
        length = len(example["input_ids"]) + len(example["labels"]) + 2
        return min(length, self.max_length), 0

    def within(self, length: int, _: int, /) -> "CausalLayout":
        """Return the layout that also cuts examples at this limit."""
        return replace(self, max_length=min(length, self.max_length))

    def row(self, examples: list[Row]) -> Row:
        """Return examples side by side as one row."""
        sequences, labels = [], []
        for example in examples:
            eos = np.array([self.eos], np.int32)
            ids = np.concatenate([example["input_ids"], eos, example["labels"], eos])
            ids = ids[: self.max_length]

            # Each position predicts the next id.
            next_ids = np.append(ids[1:], IGNORED)
            if self.loss_on == "targets":
                next_ids[: len(example["input_ids"])] = IGNORED
            sequences.append(ids)
            labels.append(next_ids)

        return {
            "input_ids": np.concatenate(sequences).astype(np.int32),
            "segments": segment_numbers(sequences),
            "labels": np.concatenate(labels).astype(np.int32),
        }


@dataclass(frozen=True)
class SequenceLayout:
    """Rows of a decoder-only or encoder-only model of examples that are one sequence each.

    Such an example has labels beside its ids, IGNORED where a position is not scored. Labels of the
    row are the next ids, of scored positions. What is longer than the limit is cut.
    """

    # The padding id.
    pad: int = 0
    # Limit of an example, in positions.
    max_length: int = 2**20
    # "targets" for a loss at scored positions, "all" for one at every position.
    loss_on: str = "targets"

    def sizes(self, example: Row) -> tuple[int, int]:
        """Return the positions that an example takes, and 0: labels lie beside the ids."""
        return min(len(example["input_ids"]), self.max_length), 0

    def within(self, length: int, _: int, /) -> "SequenceLayout":
        """Return the layout that also cuts examples at this limit."""
        return replace(self, max_length=min(length, self.max_length))

    def row(self, examples: list[Row]) -> Row:
        """Return examples side by side as one row."""
        sequences, labels = [], []
        for example in examples:
            ids = example["input_ids"][: self.max_length]
            scored = ids if self.loss_on == "all" else example["labels"][: self.max_length]
            sequences.append(ids)
            labels.append(np.append(scored[1:], IGNORED))
        return {
            "input_ids": np.concatenate(sequences).astype(np.int32),
            "segments": segment_numbers(sequences),
            "labels": np.concatenate(labels).astype(np.int32),
        }


def segment_numbers(sequences: list[np.ndarray]) -> np.ndarray:
    """Return the segments of a row (int32): the number of its example at every position."""
    numbers = [np.full(len(ids), k + 1, np.int32) for k, ids in enumerate(sequences)]
    return np.concatenate(numbers)


def fill_value(name: str, pad: int) -> int:
    """Return the value that fills an array of a row after its examples.

    Args:
        name: the name of the array: "input_ids", "labels" ...
        pad: the padding id.
    """
    if name == "input_ids":
        return pad
    if name in ("labels", "originals", "targets"):
        return IGNORED
    return 0


class RowDataset:
    """Every example of a dataset as a row of its own.

    Args:
        dataset: the examples; those of several indices are made together where it has
            `__getitems__`.
        layout: how an example becomes a row.
    """

    def __init__(self, dataset: MapDataset[Row], layout: RowLayout):
        self.dataset, self.layout = dataset, layout

    def __repr__(self) -> str:
        return f"RowDataset({self.layout}, {len(self)} rows of {self.dataset})"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Row:
        return self.layout.row([self.dataset[index]])

    def __getitems__(self, indices: list[int]) -> list[Row]:
        """Return the rows at `indices`."""
        read_many = getattr(self.dataset, "__getitems__", None)
        if read_many is None:
            examples = [self.dataset[index] for index in indices]
        else:
            examples = read_many(indices)
        return [self.layout.row([example]) for example in examples]


class PackedDataset:
    """Rows that hold several examples each and are filled on both sides, all of one shape.

    A block of consecutive examples fills `block_rows` rows. It takes its examples in order while
    they fill the share `fill` of its positions. The last few per cent of the examples are left out,
    whatever their lengths. Row i is a function of i alone: it belongs to block i // block_rows.

    `shape` is (input positions, target positions), both multiples of 8; it follows from the first
    16,384 examples, see `row_shape`. A later example is cut where it is more than 5 % longer than
    the longest of these.

    Args:
        dataset: the examples.
        layout: how examples become a row.
        size: the number of rows.
        length: the input positions of a row, approximately; without it room for four examples of
            mean length.

    Raises:
        UsageError: the dataset has too few examples.
    """

    def __init__(
        self, dataset: BatchDataset, layout: RowLayout, *, size: int, length: int | None = None
    ):
        self.dataset, self.layout, self.size = dataset, layout, size
        self.block_examples = min(BLOCK_EXAMPLES, len(dataset))

        # The shape of the rows, from the lengths of a sample.
        sample_blocks = min(SAMPLE_BLOCKS, len(dataset) // self.block_examples)
        sample = [self._sizes(self._examples(block)) for block in range(sample_blocks)]
        sizes = np.concatenate(sample)  # [examples, 2]
        if length is None:
            length = round_up(EXAMPLES_A_ROW * sizes[:, 0].mean())
        self.shape = row_shape(sizes, length)
        self.layout = layout.within(*self.shape)

        # How many rows a block fills, and how full.
        self.block_rows, self.fill = choose_fill(sizes[: self.block_examples], self.shape)
        needed = -(-size // self.block_rows) * self.block_examples
        if needed > len(dataset):
            raise UsageError(
                f"{size} packed rows take {needed} examples; the dataset has {len(dataset)}."
            )

        # The block that was asked for last, and the examples of each of its rows.
        self._block = -1
        self._packed: list[list[Row]] = []

    @property
    def examples_per_row(self) -> float:
        """How many examples a row of the first block holds on average."""
        return sum(map(len, self._pack(0))) / self.block_rows

    def __repr__(self) -> str:
        return f"PackedDataset({self.layout}, {self.size} rows of {self.shape}, {self.dataset})"

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        if not -self.size <= index < self.size:
            raise IndexError(f"Row {index} was asked for; the dataset has {self.size}.")
        block, position = divmod(index % self.size, self.block_rows)
        if self._block != block:
            self._packed = self._pack(block)
            self._block = block

        row = self.layout.row(self._packed[position])
        return {name: self._padded(name, ids) for name, ids in row.items()}

    def _padded(self, name: str, ids: np.ndarray) -> np.ndarray:
        """Return an array of a row, padded to the rows' shape."""
        source_width, target_width = self.shape
        width = source_width
        if target_width and name in ("labels", "target_segments"):
            width = target_width
        fill = fill_value(name, self.layout.pad)
        return np.pad(ids, (0, width - len(ids)), constant_values=fill)

    def _examples(self, block: int) -> list[Row]:
        """Return the examples of a block."""
        return read_block(self.dataset, block, self.block_examples)

    def _sizes(self, examples: list[Row]) -> np.ndarray:
        """Return the positions that examples take: int [examples, 2], inputs and targets."""
        return np.array([self.layout.sizes(example) for example in examples])

    def _pack(self, block: int) -> list[list[Row]]:
        """Return the examples of every row of a block."""
        examples = self._examples(block)
        row_of_example = pack_examples(
            self._sizes(examples), self.shape, self.block_rows, self.fill
        )
        packed: list[list[Row]] = [[] for _ in range(self.block_rows)]
        for example, row in zip(examples, row_of_example, strict=False):
            packed[row].append(example)

        # Shuffle the rows: packing puts the longest examples into the first ones.
        first = block * self.block_rows
        hashes = [rng.mix(np.uint64(first + row)) for row in range(self.block_rows)]
        return [packed[row] for row in np.argsort(hashes)]


def round_up(positions: float) -> int:
    """Return the least multiple of 8 that is no less."""
    return math.ceil(positions / MULTIPLE) * MULTIPLE


def row_shape(sizes: np.ndarray, length: int) -> tuple[int, int]:
    """Return the shape of packed rows: (input positions, target positions), multiples of 8.

    The mean lengths of targets and inputs have some ratio. Of the shapes that hold the longest
    example, the one whose sides come nearest to it is taken: then both sides fill up together.

    Args:
        sizes: int [examples, 2], the positions that examples take.
        length: the input positions, approximately; there are more where an example or its target is
            longer.

    Returns:
        The shape; target positions are 0 where `sizes` has none.
    """
    longest_source, longest_target = (round_up(most * HEADROOM) for most in sizes.max(axis=0))
    wanted_source = max(longest_source, length)
    if not longest_target:
        return wanted_source, 0

    # The longest target may ask for longer rows, at most twice as long; from there a quarter less
    # is tried.
    ratio = sizes[:, 1].mean() / sizes[:, 0].mean()
    widest = min(max(wanted_source, round_up(longest_target / ratio)), 2 * wanted_source)
    three_quarters = widest * 3 // 4 // MULTIPLE * MULTIPLE
    narrowest = max(longest_source, three_quarters)

    shapes = []
    for source in range(narrowest, widest + 1, MULTIPLE):
        target = max(longest_target, round_up(source * ratio))
        shapes.append((source, target))
    return min(shapes, key=lambda shape: abs(shape[1] / shape[0] / ratio - 1))


def choose_fill(sizes: np.ndarray, shape: tuple[int, int]) -> tuple[int, float]:
    """Return (rows, fill) of a block: the fullest rows in which all its examples find room.

    Args:
        sizes: int [examples, 2], the positions that the examples of a block take.
        shape: the positions of a row.
    """
    # Rows that the examples would need if no position stayed empty.
    totals = sizes.sum(axis=0)
    needed = max(total / width for total, width in zip(totals, shape, strict=True) if width)

    for fill in FILLS:
        rows = max(1, int(PACKED_SHARE * needed / fill))
        if len(pack_examples(sizes, shape, rows, fill, retries=1)):
            break
    return rows, fill


def pack_examples(
    sizes: np.ndarray, shape: tuple[int, int], rows: int, fill: float, retries: int = RETRIES
) -> np.ndarray:
    """Return the row of each of the first examples of a block.

    As many examples are taken as fill the share `fill` of the rows. Where one of them finds no
    room, fewer are tried.

    Args:
        sizes: int [examples, 2], the positions that the examples of a block take.
        shape: the positions of a row.
        rows: the number of rows.
        fill: the share of the rows' positions that is to be filled.
        retries: how many numbers of examples are tried.

    Returns:
        int64 [taken]; empty where none of them worked.
    """
    shares = sizes / np.maximum(shape, 1)  # [examples, 2], of a row
    filled = shares.cumsum(axis=0).max(axis=1)
    taken = int((filled <= fill * rows).sum())
    for _ in range(retries):
        largest_first = np.argsort(-shares[:taken].max(axis=1), kind="stable")
        row_of_example = best_fit(largest_first, shares[:taken], rows)
        if taken and row_of_example.min() >= 0:
            return row_of_example
        taken = taken * 199 // 200
    return np.empty(0, np.int64)


@njit(cache=True)
def best_fit(order, shares, rows):
    """Put each example in the row that stays least full and most balanced (a vector bin packing).

    `order` (int64[examples]) is the order in which they are put, `shares` (float64[examples, 2])
    what they fill of a row's inputs and targets. Returns the row of each example, -1 where none has
    room.
    """
    filled = np.zeros((rows, 2))  # of each row's inputs and targets
    row_of_example = np.full(len(shares), -1)
    for example in order:
        source, target = shares[example]

        # The cheapest row that has room.
        least = np.inf
        for row in range(rows):
            a, b = filled[row, 0] + source, filled[row, 1] + target
            has_room = a <= 1.0 + TOLERANCE and b <= 1.0 + TOLERANCE
            cost = a + b + IMBALANCE_COST * abs(a - b)
            if has_room and cost < least:
                least, row_of_example[example] = cost, row

        if row_of_example[example] >= 0:
            filled[row_of_example[example]] += shares[example]
    return row_of_example
