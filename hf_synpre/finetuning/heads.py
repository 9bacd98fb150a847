"""Layer 4: a labelled split's ids as the rows of a model with a head, and their batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hf_synpre.data.rows import IGNORED, Row
from hf_synpre.errors import UsageError

STRIDE = 128  # ids that two windows of a long context share (Devlin et al. 2019)
LONGEST_QUESTION = 64


@dataclass(frozen=True)
class Frame:
    """How a tokenizer puts its control ids around one text or two, and how long the result may be."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: bool
    length: int

    @classmethod
    def of(cls, tokenizer: Any, length: int) -> "Frame":
        """Read the frame off what the tokenizer makes of two texts."""
        alone, ids = (
            tokenizer("a", **more)["input_ids"]
            for more in ({"add_special_tokens": False}, {"text_pair": "a"})
        )
        starts = [i for i in range(len(ids) - len(alone) + 1) if ids[i : i + len(alone)] == alone]
        first, second, n = starts[0], starts[-1], len(alone)
        parts = ids[:first], ids[first + n : second], ids[second + n :]
        return cls(*map(tuple, parts), "token_type_ids" in tokenizer.model_input_names, length)

    def room(self, two: bool) -> int:
        """Return how many ids of text fit."""
        return self.length - len(self.before) - len(self.after) - (len(self.between) if two else 0)

    def row(self, first: np.ndarray, second: np.ndarray | None = None) -> Row:
        """Return one text or two as the ids of a model, the longer one cut first where they are too long."""
        texts = (
            [first[: self.room(False)]] if second is None else cut(first, second, self.room(True))
        )
        middle = [] if second is None else [self.between, texts[1]]
        ids = np.concatenate(
            [np.array(part, np.int32) for part in (self.before, texts[0], *middle, self.after)]
        )
        row = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        begin = len(self.before) + len(texts[0]) + len(self.between) if middle else len(ids)
        return row | (
            {"token_type_ids": (np.arange(len(ids)) >= begin).astype(np.int32)}
            if self.types
            else {}
        )


def cut(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both texts within `room` ids together, the longer one cut until it is the shorter one."""
    left = min(len(first), max(room - len(second), room - room // 2))
    return first[:left], second[: room - left]


class LabelRows:
    """Map-style rows with one label, several, or a number; `truths` are the labels by row."""

    def __init__(self, table: pa.Table, frame: Frame, *, train: bool):
        self.frame, self.train = frame, train
        pieces = table["pieces"].combine_chunks()
        self.ends, self.inner, self.ids = (
            pieces.offsets.to_numpy(),
            pieces.values.offsets.to_numpy(),
            pieces.values.values.to_numpy(),
        )
        self.labels = table["label"].to_pylist()
        self.table = table

    def __len__(self) -> int:
        return len(self.labels)

    def pieces(self, index: int) -> list[np.ndarray]:
        """Return the ids of each text of a row."""
        return [
            self.ids[self.inner[k] : self.inner[k + 1]]
            for k in range(self.ends[index], self.ends[index + 1])
        ]

    def size(self, index: int) -> int:
        """Return the ids of the texts of a row, uncut."""
        return sum(map(len, self.pieces(index)))

    def __getitem__(self, index: int) -> Row:
        label = self.labels[index]
        kind = np.float32 if isinstance(label, float | list) else np.int32
        return self.frame.row(*self.pieces(index)) | {"labels": np.array(label, kind)}

    @property
    def truths(self) -> np.ndarray:
        """The labels of all rows."""
        return np.array(self.labels)


class ChoiceRows(LabelRows):
    """Map-style rows of a context with each of its continuations."""

    def size(self, index: int) -> int:
        """Return the ids of the context and its longest continuation, uncut."""
        context, *choices = map(len, self.pieces(index))
        return context + max(choices)

    def __getitem__(self, index: int) -> Row:
        context, *choices = self.pieces(index)
        rows = [self.frame.row(context, choice) for choice in choices]
        return {"choices": rows, "labels": np.array(self.labels[index], np.int32)}


class TagRows(LabelRows):
    """Map-style rows of words with a tag each: the label stands at a word's first id; words beyond the length are cut."""

    def __getitem__(self, index: int) -> Row:
        words, tags = self.pieces(index), self.labels[index]
        ids = np.concatenate(words)[: self.frame.room(False)]
        row = self.frame.row(ids)
        labels = np.full_like(row["input_ids"], IGNORED)
        starts = self.starts(words)
        labels[starts + len(self.frame.before)] = tags[: len(starts)]
        return row | {"labels": labels}

    def starts(self, words: list[np.ndarray]) -> np.ndarray:
        """Return where the words that fit begin among the ids."""
        starts = np.cumsum([0, *map(len, words)])[:-1]
        return starts[starts < self.frame.room(False)]

    @property
    def truths(self) -> list:
        """The tags of every row."""
        return self.labels


class SpanRows(LabelRows):
    """Map-style windows of a question and its context; `windows` are (example, first id of the context, ids).

    The label is the first and last place of the answer, 0 and 0 (the start of the row) where it is not in the window.
    """

    def __init__(self, table: pa.Table, frame: Frame, *, train: bool):
        super().__init__(table, frame, train=train)
        self.windows = list(self._windows())

    def _windows(self) -> Iterator[tuple[int, int, int]]:
        for example in range(len(self.labels)):
            question, context = self.pieces(example)
            room = self.frame.room(True) - min(len(question), LONGEST_QUESTION)
            if room < 2:
                raise UsageError(
                    f"A length of {self.frame.length} ids leaves no room beside a question; give max_source >= 96."
                )
            step = max(room - STRIDE, room // 2)
            for first in range(0, max(1, len(context) - room + step), step):
                yield example, first, min(room, len(context) - first)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        example, first, count = self.windows[index]
        question, context = self.pieces(example)
        question = question[:LONGEST_QUESTION]
        row = self.frame.row(question, context[first : first + count])
        begin = len(self.frame.before) + len(question) + len(self.frame.between)
        start, end = (place - first for place in self.labels[example])
        inside = 0 <= start <= end < count
        return row | {
            "labels": np.array([begin + start, begin + end] if inside else [0, 0], np.int32)
        }

    def context(self, index: int) -> tuple[int, int, int, int]:
        """Return (example, first place of the context in the row, places, first id of the context) of a window."""
        example, first, count = self.windows[index]
        question = min(len(self.pieces(example)[0]), LONGEST_QUESTION)
        return example, len(self.frame.before) + question + len(self.frame.between), count, first

    @property
    def truths(self) -> list[list[str]]:
        """The gold answers of every example."""
        return self.table["answers"].to_pylist()
