"""Rows of labelled tasks: the ids of an encoded split -> rows of a model with a head.

A row has the ids of one text or two, with the special tokens of the tokenizer, and its label. Tasks
of choices have a row for each continuation, tasks of spans a row for each window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.data.rows import IGNORED, Row
from hf_synpre.errors import UsageError
from hf_synpre.vocabulary import padding_and_end

COLUMNS = ["label", "pieces"]  # what LabelRows reads of an encoded split
WINDOW_OVERLAP = 128  # ids that two windows of a long context share (Devlin et al. 2019)
LONGEST_QUESTION = 64  # ids of a question that a window holds (Devlin et al. 2019)


@dataclass(frozen=True)
class SpecialTokensTemplate:
    """How a tokenizer puts its special tokens around one text or two, and how long rows may be."""

    before: tuple[int, ...]  # ids before the first text
    between: tuple[int, ...]  # ids between two texts
    after: tuple[int, ...]  # ids after the last text
    has_types: bool  # whether rows have token_type_ids
    length: int  # the most ids of a row

    @classmethod
    def from_tokenizer(
        cls, tokenizer: PreTrainedTokenizerBase, length: int
    ) -> "SpecialTokensTemplate":
        """Return the template of a tokenizer, read from its ids of a pair of texts.

        Many tokenizers of decoders put nothing between two texts; then the end of a sequence does.

        Args:
            tokenizer: any tokenizer that encodes pairs of texts.
            length: the most ids of a row, special tokens included.
        """
        text = tokenizer("a", add_special_tokens=False)["input_ids"]
        pair = tokenizer("a", text_pair="a")["input_ids"]

        width = len(text)
        starts = [i for i in range(len(pair) - width + 1) if pair[i : i + width] == text]
        first, second = starts[0], starts[-1]
        between = pair[first + width : second] or [padding_and_end(tokenizer)[1]]
        return cls(
            before=tuple(pair[:first]),
            between=tuple(between),
            after=tuple(pair[second + width :]),
            has_types="token_type_ids" in tokenizer.model_input_names,
            length=length,
        )

    def room(self, pair: bool) -> int:
        """Return how many ids of text fit into a row of one text, or of a pair."""
        room = self.length - len(self.before) - len(self.after)
        if pair:
            room -= len(self.between)
        return room

    def second_start(self, first_length: int) -> int:
        """Return where the second text begins in a row whose first text has so many ids."""
        return len(self.before) + first_length + len(self.between)

    def row(self, first: np.ndarray, second: np.ndarray | None = None) -> Row:
        """Return one text or a pair as a row of a model.

        Args:
            first: the ids of the first text; cut where the row would be too long.
            second: the ids of the second text; of a pair the longer text is cut first.

        Returns:
            input_ids, attention_mask and, where the tokenizer makes them, token_type_ids.
        """
        if second is None:
            first = first[: self.room(pair=False)]
            parts = [self.before, first, self.after]
            second_start = None
        else:
            first, second = cut(first, second, self.room(pair=True))
            parts = [self.before, first, self.between, second, self.after]
            second_start = self.second_start(len(first))

        ids = np.concatenate([np.array(part, np.int32) for part in parts])  # [ids]
        row = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        if self.has_types:
            row["token_type_ids"] = np.zeros_like(ids)
            if second_start is not None:
                row["token_type_ids"][second_start:] = 1
        return row


def cut(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two texts with at most `room` ids together; the longer one is cut first."""
    half = room - room // 2  # the first text has the odd id
    first_length = min(len(first), max(room - len(second), half))
    return first[:first_length], second[: room - first_length]


class LabelRows:
    """Map-style rows with one class, several labels, or a number."""

    def __init__(self, encoded: pa.Table, template: SpecialTokensTemplate):
        """Make the rows of an encoded split.

        Args:
            encoded: a table with `pieces`, the ids of each text of a row, and `label`.
            template: the special tokens around the texts, and the length of rows.
        """
        self.encoded = encoded
        self.template = template
        self.labels = encoded["label"].to_pylist()

        # The ids of all texts are in one array: a row is a range of texts, a text a range of ids.
        pieces = encoded["pieces"].combine_chunks()
        self.row_offsets = pieces.offsets.to_numpy()  # [rows + 1]
        self.text_offsets = pieces.values.offsets.to_numpy()  # [texts + 1]
        self.ids = pieces.values.values.to_numpy()  # [ids]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Row:
        label = self.labels[index]
        dtype = np.float32 if isinstance(label, float | list) else np.int32
        row = self.template.row(*self.pieces(index))
        row["labels"] = np.array(label, dtype)
        return row

    def pieces(self, index: int) -> list[np.ndarray]:
        """Return the ids of each text of an example."""
        texts = range(self.row_offsets[index], self.row_offsets[index + 1])
        return [self.ids[self.text_offsets[k] : self.text_offsets[k + 1]] for k in texts]

    def text_length(self, index: int) -> int:
        """Return the ids of the texts of an example, uncut, without special tokens."""
        return sum(len(piece) for piece in self.pieces(index))

    @property
    def true_labels(self) -> Any:
        """The labels of all examples, as the score functions take them."""
        return np.array(self.labels)


class ChoiceRows(LabelRows):
    """Map-style rows of a context with each of its continuations."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        context, *choices = self.pieces(index)
        return {
            "choices": [self.template.row(context, choice) for choice in choices],
            "labels": np.array(self.labels[index], np.int32),
        }

    def text_length(self, index: int) -> int:
        """Return the ids of the context and its longest continuation, uncut."""
        context, *choices = self.pieces(index)
        return len(context) + max(len(choice) for choice in choices)


class LikelihoodRows(LabelRows):
    """Map-style rows of a context with each of its continuations, for a decoder.

    A row of a continuation has its `input_ids` and, at the position that predicts it, each id of
    the continuation as `targets`; other targets are IGNORED. Where a row would be too long, the
    beginning of the context is cut, and the end of a continuation that fills the row alone.
    """

    def __init__(self, encoded: pa.Table, template: SpecialTokensTemplate, eos: int):
        """Make the rows of an encoded split.

        Args:
            encoded: a table with `joined`, `starts` (`label_encoding.join_choices`) and `label`.
            template: the special tokens before a text, and the length of rows.
            eos: the id of the end of a sequence; it begins a row without anything before the
                continuation, whose first id is predicted too.
        """
        super().__init__(encoded.select(["label", "joined"]).rename_columns(COLUMNS), template)
        self.starts = encoded["starts"].to_pylist()
        self.eos = eos

    def __getitem__(self, index: int) -> dict[str, Any]:
        choices = zip(self.pieces(index), self.starts[index], strict=True)
        return {
            "choices": [self.choice_row(ids, start) for ids, start in choices],
            "labels": np.array(self.labels[index], np.int32),
        }

    def choice_row(self, ids: np.ndarray, start: int) -> Row:
        """Return the row of one continuation.

        Args:
            ids: the ids of the context and the continuation.
            start: the first id of the continuation.
        """
        before = self.template.before
        if not before and not start:
            before = (self.eos,)

        # The last id predicts nothing, so that a row has one id more than positions.
        room = self.template.length + 1 - len(before)
        continuation = ids[start:][: room - (1 if start else 0)]
        context = ids[:start][max(0, start + len(continuation) - room) :]
        row_ids = np.concatenate([np.array(before, np.int32), context, continuation])

        inputs, targets = row_ids[:-1], row_ids[1:].copy()  # [positions] each
        targets[: len(targets) - len(continuation)] = IGNORED
        return {"input_ids": inputs, "attention_mask": np.ones_like(inputs), "targets": targets}

    def text_length(self, index: int) -> int:
        """Return the ids of the context with its longest continuation, uncut."""
        return max(map(len, self.pieces(index)))


class TagRows(LabelRows):
    """Map-style rows of words with a tag each.

    The first id of a word has its label. Words that do not fit into a row are cut.
    """

    def __getitem__(self, index: int) -> Row:
        words, tags = self.pieces(index), self.labels[index]
        row = self.template.row(np.concatenate(words))

        positions = self.word_positions(words)
        labels = np.full_like(row["input_ids"], IGNORED)  # [ids]
        labels[positions] = tags[: len(positions)]
        row["labels"] = labels
        return row

    def word_positions(self, words: list[np.ndarray]) -> np.ndarray:
        """Return the first position of each word that fits into the row, int[words that fit]."""
        starts = np.cumsum([0, *(len(word) for word in words)])[:-1]
        fitting = starts[starts < self.template.room(pair=False)]
        return fitting + len(self.template.before)

    @property
    def true_labels(self) -> list[list[int]]:
        """The tags of every example."""
        return self.labels


@dataclass(frozen=True)
class Window:
    """A part of the context of a span task's example; each makes one row."""

    example: int  # the number of the example
    first: int  # the first id of the context that the window holds
    count: int  # how many ids of the context it holds


class SpanRows(LabelRows):
    """Map-style windows of a question and its context.

    The label is the first and last position of the answer; both are 0, the start of the row, where
    the answer is not in the window.
    """

    def __init__(self, encoded: pa.Table, template: SpecialTokensTemplate):
        super().__init__(encoded, template)
        self.windows = list(self._cut_windows())

    def _cut_windows(self) -> Iterator[Window]:
        """Yield the windows of all examples. Raises UsageError where a question fills a row."""
        for example in range(len(self.labels)):
            question, context = self.pieces(example)
            room = self.template.room(pair=True) - min(len(question), LONGEST_QUESTION)
            if room < 2:
                raise UsageError(
                    f"A length of {self.template.length} ids leaves no room beside a question; "
                    "give max_source >= 96."
                )

            step = max(room - WINDOW_OVERLAP, room // 2)
            last_start = max(1, len(context) - room + step)
            for first in range(0, last_start, step):
                yield Window(example, first, min(room, len(context) - first))

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        window = self.windows[index]
        question, context = self.pieces(window.example)
        question = question[:LONGEST_QUESTION]
        row = self.template.row(question, context[window.first : window.first + window.count])

        # The answer's positions in the row, if it lies in this window.
        answer_first, answer_last = self.labels[window.example]
        start, end = answer_first - window.first, answer_last - window.first
        context_start = self.template.second_start(len(question))
        positions = [0, 0]
        if 0 <= start <= end < window.count:
            positions = [context_start + start, context_start + end]
        row["labels"] = np.array(positions, np.int32)
        return row

    def context_start(self, index: int) -> int:
        """Return the position in the row at which a window's part of the context begins."""
        question = self.pieces(self.windows[index].example)[0]
        return self.template.second_start(min(len(question), LONGEST_QUESTION))

    @property
    def true_labels(self) -> list[list[str]]:
        """The accepted answers of every example."""
        return self.encoded["answers"].to_pylist()
