"""Layer 2: examples laid out as rows of a model, several of them in one row: a position is a real token or not computed.

A row is a dict of int32 arrays. Encoder-decoders get input_ids and segments, labels and target_segments; models
of one stream input_ids, segments and labels. A segment is the number (1, 2, ...) of the example within its row: masks,
restarted positions and padding (segment 0) follow from it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit

from hf_synpre.data.rows import IGNORED, Row
from hf_synpre.errors import UsageError
from hf_synpre.tasks import rng

BLOCK = 4096
HEADROOM = 1.05
FILLS = (0.985, 0.98, 0.975, 0.97, 0.965, 0.96, 0.95, 0.94, 0.92, 0.9, 0.85, 0.8, 0.7)


@dataclass(frozen=True)
class Seq2SeqLayout:
    """Inputs and targets as two streams, an end-of-sequence id after each; a stream beyond its limit is cut and loses it."""

    eos: int
    pad: int = 0
    max_source: int = 512
    max_target: int = 512

    def sizes(self, example: Row) -> tuple[int, int]:
        """Return the positions that an example takes in either stream."""
        return min(len(example["input_ids"]) + 1, self.max_source), min(
            len(example["labels"]) + 1, self.max_target
        )

    def within(self, source: int, target: int) -> "Seq2SeqLayout":
        """Return the layout that cuts at these limits too."""
        return replace(
            self, max_source=min(source, self.max_source), max_target=min(target, self.max_target)
        )

    def row(self, examples: list[Row]) -> Row:
        """Lay examples side by side in one row."""
        source = [np.append(e["input_ids"], self.eos)[: self.max_source] for e in examples]
        target = [np.append(e["labels"], self.eos)[: self.max_target] for e in examples]
        streams = {
            "input_ids": source,
            "segments": numbered(source),
            "labels": target,
            "target_segments": numbered(target),
        }
        return {name: np.concatenate(parts).astype(np.int32) for name, parts in streams.items()}


@dataclass(frozen=True)
class CausalLayout:
    """One stream: inputs, separator (the end-of-sequence id), targets, end of sequence; labels are the next ids.

    `loss_on` "targets" leaves the inputs out of the loss, "all" does not. What goes beyond `max_length` is cut.
    """

    eos: int
    pad: int = 0
    max_length: int = 2048
    loss_on: str = "targets"

    def sizes(self, example: Row) -> tuple[int, int]:
        """Return the positions that an example takes, and 0 for the second stream that is not there."""
        return min(len(example["input_ids"]) + len(example["labels"]) + 2, self.max_length), 0

    def within(self, length: int, _: int) -> "CausalLayout":
        """Return the layout that cuts at this limit too."""
        return replace(self, max_length=min(length, self.max_length))

    def row(self, examples: list[Row]) -> Row:
        """Lay examples side by side in one row."""
        streams = [joined(e, self.eos)[: self.max_length] for e in examples]
        labels = [np.append(stream[1:], IGNORED) for stream in streams]
        if self.loss_on == "targets":
            for example, ids in zip(examples, labels, strict=True):
                ids[: len(example["input_ids"])] = IGNORED
        found = {"input_ids": streams, "segments": numbered(streams), "labels": labels}
        return {name: np.concatenate(parts).astype(np.int32) for name, parts in found.items()}


def filler(name: str, pad: int) -> int:
    """Return what fills an array of a row after its examples."""
    return {"input_ids": pad, "labels": IGNORED, "originals": IGNORED}.get(name, 0)


def joined(example: Row, eos: int) -> np.ndarray:
    """Return inputs, end of sequence, targets, end of sequence as one stream."""
    return np.concatenate([example["input_ids"], [eos], example["labels"], [eos]])


def numbered(streams: list[np.ndarray]) -> list[np.ndarray]:
    """Return the segments of a row: the number of its example at every position."""
    return [np.full(len(stream), number + 1) for number, stream in enumerate(streams)]


class RowDataset:
    """Every example of a dataset in a row of its own, by a layout."""

    def __init__(self, dataset: Any, layout: Any):
        self.dataset, self.layout = dataset, layout

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Row:
        return self.layout.row([self.dataset[index]])

    def __getitems__(self, indices: list[int]) -> list[Row]:
        """Return the rows at `indices`, their examples made together where the dataset can."""
        many = getattr(
            self.dataset, "__getitems__", lambda wanted: [self.dataset[i] for i in wanted]
        )
        return [self.layout.row([example]) for example in many(indices)]


class PackedDataset:
    """Map-style rows that hold several examples each and are filled on both sides: `size` rows of `shape` positions.

    A block of consecutive examples fills `rows` rows. It takes its examples in order while they fill the share `fill` of
    its positions; the few per cent after that are left out, for their place and not for their length. Row i is a
    function of i alone: block i // rows. `shape` follows from the first block: about `length` inputs (four mean examples
    without it), and targets in the proportion of the mean lengths, both multiples of 8. What is longer than any of the
    first 16,384 examples by more than 5 % is cut there. Raises UsageError where the dataset has too few examples.
    """

    def __init__(self, dataset: Any, layout: Any, *, size: int, length: int | None = None):
        self.dataset, self.layout, self.size = dataset, layout, size
        self.block = min(BLOCK, len(dataset))
        sizes = np.concatenate(
            [
                self._sizes(self._examples(block))
                for block in range(min(4, len(dataset) // self.block))
            ]
        )
        self.shape = row_shape(sizes, length or math.ceil(sizes[:, 0].mean() / 2) * 8)
        self.layout = layout.within(*self.shape)
        self.rows, self.fill = density(sizes[: self.block], self.shape)
        self._kept: tuple[int, list[list[Row]]] = (-1, [])
        if (taken := -(-size // self.rows) * self.block) > len(dataset):
            raise UsageError(
                f"{size} packed rows take {taken} examples; the dataset has {len(dataset)}."
            )

    @property
    def examples_per_row(self) -> float:
        """How many examples a row of the first block holds on average."""
        return sum(map(len, self._pack(0))) / self.rows

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        if not -self.size <= index < self.size:
            raise IndexError(f"Row {index} was asked for; the dataset has {self.size}.")
        block, row = divmod(index % self.size, self.rows)
        if self._kept[0] != block:
            self._kept = block, self._pack(block)
        return {
            name: self._filled(name, ids)
            for name, ids in self.layout.row(self._kept[1][row]).items()
        }

    def _filled(self, name: str, ids: np.ndarray) -> np.ndarray:
        width = self.shape[self.shape[1] > 0 and name in ("labels", "target_segments")]
        return np.pad(ids, (0, width - len(ids)), constant_values=filler(name, self.layout.pad))

    def _examples(self, block: int) -> list[Row]:
        return self.dataset.__getitems__(list(range(block * self.block, (block + 1) * self.block)))

    def _sizes(self, examples: list[Row]) -> np.ndarray:
        return np.array([self.layout.sizes(example) for example in examples])

    def _pack(self, block: int) -> list[list[Row]]:
        examples = self._examples(block)
        homes = fit(self._sizes(examples), self.shape, self.rows, self.fill)
        packed: list[list[Row]] = [[] for _ in range(self.rows)]
        for example, home in zip(examples, homes, strict=False):
            packed[home].append(example)
        order = np.argsort(
            [rng.mix(np.uint64(block * self.rows + row)) for row in range(self.rows)]
        )
        return [packed[row] for row in order]


def row_shape(sizes: np.ndarray, length: int) -> tuple[int, int]:
    """Return the multiples of 8 (at most `length`, unless an example is longer) that waste least on sizes like these.

    The second is 0 for layouts of one stream.
    """
    longest = np.ceil(sizes.max(axis=0) * HEADROOM / 8).astype(int) * 8
    if not longest[1]:
        return max(int(longest[0]), length), 0
    ratio = sizes[:, 1].mean() / sizes[:, 0].mean()
    narrow = max(int(longest[0]), length)
    widest = min(max(narrow, math.ceil(longest[1] / ratio / 8) * 8), 2 * narrow)
    narrowest = max(int(longest[0]), widest * 3 // 32 * 8)
    pairs = [
        (s, max(int(longest[1]), math.ceil(s * ratio / 8) * 8))
        for s in range(narrowest, widest + 1, 8)
    ]
    return min(pairs, key=lambda pair: abs(pair[1] / pair[0] / ratio - 1))


def density(sizes: np.ndarray, shape: tuple[int, int]) -> tuple[int, float]:
    """Return how many rows a block fills, and how full, so that nothing that was taken fails to find a place."""
    needed = max(
        total / width for total, width in zip(sizes.sum(axis=0), shape, strict=True) if width
    )
    for fill in FILLS:
        rows = max(1, int(0.985 * needed / fill))
        if len(fit(sizes, shape, rows, fill, patience=1)):
            return rows, fill
    return max(1, int(0.985 * needed / FILLS[-1])), FILLS[-1]


def fit(
    sizes: np.ndarray, shape: tuple[int, int], rows: int, fill: float, patience: int = 1000
) -> np.ndarray:
    """Return the row of each of the first examples of a block, as many as fill `fill` of `rows` rows and all find room.

    Where one finds none, fewer are tried, `patience` times.
    """
    shares = sizes / np.maximum(shape, 1)
    taken = int((shares.cumsum(axis=0).max(axis=1) <= fill * rows).sum())
    for _ in range(patience):
        homes = place(np.argsort(-shares[:taken].max(axis=1), kind="stable"), shares[:taken], rows)
        if taken and homes.min() >= 0:
            return homes
        taken = taken * 199 // 200
    return homes[:0]


@njit(cache=True)
def place(order, shares, rows):
    """Put each example in the row that stays least full and best balanced; return its row, -1 where none has room."""
    load = np.zeros((rows, 2))
    homes = np.full(len(shares), -1)
    for example in order:
        a, b = shares[example]
        least = np.inf
        for row in range(rows):
            first, second = load[row, 0] + a, load[row, 1] + b
            cost = first + second + 2.0 * abs(first - second)
            if first <= 1.0 + 1e-9 and second <= 1.0 + 1e-9 and cost < least:
                least, homes[example] = cost, row
        if homes[example] >= 0:
            load[homes[example]] += shares[example]
    return homes
