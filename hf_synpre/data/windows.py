"""Windows: a corpus or sentences -> windows of ids -> rows of a decoder or an encoder.

A window is int32[length], a row a dict of int32 arrays. Every class here is a map-style dataset
whose item i is a function of i: what is random is drawn from hash(key, i). Masks and corrupted
spans come after this, see masking.py.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from hf_synpre.data.encoding import encoded_documents
from hf_synpre.data.rows import IGNORED, BatchDataset, MapDataset, Row, read_block
from hf_synpre.errors import UsageError
from hf_synpre.tasks import rng

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_synpre.data.token_files import Tokens

# ELECTRA leaves one row in ten in one segment (Clark et al. 2020).
ONE_SEGMENT_IN = 10


def encode_corpus(
    texts: Iterable[str],
    tokenizer: "PreTrainedTokenizerBase",
    enough: int,
    eos: int,
    *,
    special_tokens: bool = False,
) -> np.ndarray:
    """Return the ids of the texts in order, an end-of-sequence id after each text.

    Args:
        texts: the documents; none is read after the limit is reached.
        tokenizer: what turns a text into ids.
        enough: the limit, in ids.
        eos: the end-of-sequence id.
        special_tokens: read special tokens that a text spells out, such as [MASK], as these tokens;
            otherwise they are text.

    Returns:
        int32[n] with n <= enough.
    """
    parts, count = [np.empty(0, np.int32)], 0
    for ids, _ in encoded_documents(texts, tokenizer, eos, special_tokens=special_tokens):
        parts.append(ids)
        count += len(ids)
        if count >= enough:
            break
    return np.concatenate(parts)[:enough]


def check_corpus_length(tokens: "np.ndarray | Tokens", length: int) -> None:
    """Raise UsageError where a corpus is shorter than one window."""
    if len(tokens) < length:
        raise UsageError(
            f"The corpus has {len(tokens)} ids, fewer than one window of {length}; give more text."
        )


class TextWindows:
    """Windows that start anywhere in a corpus: the start of window i is drawn from hash(key, i).

    Args:
        tokens: the corpus, int32[n] or `Tokens`.
        size: the number of windows.
        length: ids of a window.
        split: train, validation or test; each has draws of its own.
        seed: the seed of the draws.

    Raises:
        UsageError: the corpus is shorter than one window.
    """

    def __init__(
        self,
        tokens: "np.ndarray | Tokens",
        *,
        size: int,
        length: int,
        split: str = "train",
        seed: int = 0,
    ):
        check_corpus_length(tokens, length)
        self.tokens, self.size, self.length = tokens, size, length
        # Windows that have as many ids as the corpus.
        self.epoch_rows = len(tokens) / length
        self.key = rng.stream_key("text_windows", 1, {"length": length}, split, seed)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> np.ndarray:
        state = np.empty(1, np.uint64)
        rng.start_row(state, self.key, index)
        start = rng.below(state, len(self.tokens) - self.length + 1)
        return self.tokens[start : start + self.length]


class FullWindows:
    """Windows of a corpus cut end to end: every id comes once an epoch.

    The corpus is a ring. Every epoch begins its cuts at another id and has its windows in another
    order, both drawn from hash(key, epoch).

    Args:
        tokens: the corpus, int32[n] or `Tokens`.
        size: the number of windows.
        length: the most ids of a window.
        wrap: the last cut of an epoch runs on over the epoch's first ids, so that it is as long as
            the others; without it that window is shorter.
        split: train, validation or test; each has draws of its own.
        seed: the seed of the draws.

    Raises:
        UsageError: the corpus is shorter than one window.
    """

    def __init__(
        self,
        tokens: "np.ndarray | Tokens",
        *,
        size: int,
        length: int,
        wrap: bool = False,
        split: str = "train",
        seed: int = 0,
    ):
        check_corpus_length(tokens, length)
        self.tokens, self.size, self.length, self.wrap = tokens, size, length, wrap
        self.epoch_rows = -(-len(tokens) // length)
        self.key = rng.stream_key("full_windows", 1, {"length": length}, split, seed)
        # The epoch that was asked for last, with its first id and its order of windows.
        self._epoch, self._first, self._order = -1, 0, np.empty(0, np.int64)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> np.ndarray:
        epoch, position = divmod(index, self.epoch_rows)
        if self._epoch != epoch:
            self._begin_epoch(epoch)

        start = self._order[position] * self.length
        stop = start + self.length
        if not self.wrap:
            stop = min(stop, len(self.tokens))
        ring = np.arange(self._first + start, self._first + stop)
        return self.tokens.take(ring, mode="wrap")

    def _begin_epoch(self, epoch: int) -> None:
        """Draw the first id of an epoch's cuts and the order of its windows."""
        state, order = np.empty(1, np.uint64), np.arange(self.epoch_rows)
        rng.start_row(state, self.key, epoch)
        self._first = rng.below(state, len(self.tokens))
        rng.shuffle(state, order, np.empty_like(order))
        self._epoch, self._order = epoch, order


class SentenceWindows:
    """Windows of a dataset's input rows, which are joined end to end in blocks.

    A block of `examples` consecutive rows gives `WINDOWS` windows; the ids after them are left out.
    (The reference joins 128 sentences.)

    Args:
        dataset: rows with input_ids, one sentence each, at least as many as the windows need.
        size: the number of windows.
        length: ids of a window.
    """

    # Windows of a block: so many that little of a block is left out, so few that they are made at
    # once.
    WINDOWS = 16
    # Rows whose mean length says how many rows a block needs; a tenth more and 8 keep it from being
    # too short.
    SAMPLE, SPARE_SHARE, SPARE_ROWS = 1024, 1.1, 8

    def __init__(self, dataset: BatchDataset, *, size: int, length: int):
        self.dataset, self.size, self.length = dataset, size, length
        sample = read_block(dataset, 0, min(self.SAMPLE, len(dataset)))
        mean_length = np.mean([len(row["input_ids"]) for row in sample])
        needed = self.WINDOWS * length / mean_length * self.SPARE_SHARE
        self.examples = int(needed) + self.SPARE_ROWS
        # The block that was asked for last, and its ids.
        self._block, self._ids = -1, np.empty(0, np.int32)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> np.ndarray:
        block, window = divmod(index, self.WINDOWS)
        if self._block != block:
            rows = read_block(self.dataset, block, self.examples)
            ids = np.concatenate([row["input_ids"] for row in rows])
            self._block, self._ids = block, np.resize(ids, self.WINDOWS * self.length)
        return self._ids[window * self.length : (window + 1) * self.length]


class NextTokenDataset:
    """Windows as rows of a decoder-only or encoder-only model.

    A row is {input_ids, segments (all 1), labels (the next ids)}.
    """

    def __init__(self, windows: MapDataset[np.ndarray]):
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        ids = np.ascontiguousarray(self.windows[index], np.int32)
        labels = np.append(ids[1:], IGNORED).astype(np.int32)
        return {"input_ids": ids, "segments": np.ones_like(ids), "labels": labels}


class EncoderRows:
    """Windows as rows of an encoder: the id `start`, the window, the id `end`.

    With `pairs` a window is cut in two segments at an id drawn from hash(key, i); each segment ends
    with `end`, and token_type_ids are 0 in the first, 1 in the second. One row in ten has one
    segment, as in ELECTRA (Clark et al. 2020). Two things differ from ELECTRA: the cut is at any
    id, uniformly, not at the end of the line next to the middle, and no row in twenty is shortened
    at random.

    Args:
        windows: the windows, int32[length] each.
        start: the id that a row begins with ([CLS]).
        end: the id that ends a segment ([SEP]).
        pairs: cut windows in two segments.
        split: train, validation or test; each has draws of its own.
        seed: the seed of the draws.
    """

    def __init__(
        self,
        windows: MapDataset[np.ndarray],
        *,
        start: int,
        end: int,
        pairs: bool = False,
        split: str = "train",
        seed: int = 0,
    ):
        self.windows, self.start, self.end, self.pairs = windows, start, end, pairs
        self.key = rng.stream_key("encoder_rows", 1, {"pairs": pairs}, split, seed)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        window = self.windows[index]
        cut = self._cut(index, len(window))
        start, end = np.array([self.start], np.int32), np.array([self.end], np.int32)
        parts = [start, window[:cut], end]
        if cut < len(window):
            parts += [window[cut:], end]
        ids = np.concatenate(parts).astype(np.int32)

        row = {"input_ids": ids, "segments": np.ones_like(ids)}
        if self.pairs:
            # The first segment holds `start`, the ids before the cut, and `end`.
            row["token_type_ids"] = (np.arange(len(ids)) > cut + 1).astype(np.int32)
        return row

    def _cut(self, index: int, length: int) -> int:
        """Return how many ids the first segment has: all of the window where it is the only one."""
        if not self.pairs or length <= 1:
            return length
        state = np.empty(1, np.uint64)
        rng.start_row(state, self.key, index)
        if rng.below(state, ONE_SEGMENT_IN) == 0:
            return length
        return 1 + rng.below(state, length - 1)
