"""Layer 2: text, natural or drawn, as pre-training rows: span corruption (Raffel et al. 2020), masks, streams."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numba import njit

from hf_synpre.data.rows import IGNORED, Row
from hf_synpre.errors import UsageError
from hf_synpre.tasks import rng


@njit(cache=True)
def fill_segments(state, sizes, total):
    """Fill `sizes` with a uniform composition of `total` into len(sizes) parts >= 1 (cut points without replacement)."""
    sizes[:] = 1
    left, slots = len(sizes) - 1, total - 1
    part = 0
    for slot in range(slots):
        if rng.below(state, slots - slot) < left:
            left -= 1
            part += 1
        else:
            sizes[part] += 1


@njit(cache=True)
def corrupt(state, tokens, x, y, sentinel, spans, noise):
    """Replace `spans` spans, `noise` ids in all, by descending sentinels; the target lists sentinels and what they hide."""
    kept, hidden = np.empty(spans, np.int64), np.empty(spans, np.int64)
    fill_segments(state, kept, len(tokens) - noise)
    fill_segments(state, hidden, noise)
    n = m = t = 0
    for span in range(spans):
        x[n : n + kept[span]] = tokens[t : t + kept[span]]
        n, t = n + kept[span], t + kept[span]
        x[n] = y[m] = sentinel - span
        y[m + 1 : m + 1 + hidden[span]] = tokens[t : t + hidden[span]]
        n, m, t = n + 1, m + 1 + hidden[span], t + hidden[span]
    return n, m


def noise_counts(length: int, density: float = 0.15, mean_span: float = 3.0) -> tuple[int, int]:
    """Return (ids hidden, spans) for a window of `length` ids, by T5's formula."""
    noise = min(max(round(length * density), 1), length - 1)
    return noise, max(round(noise / mean_span), 1)


class TextWindows:
    """Map-style windows of `length` ids of a stream of ids: window i begins at a place drawn from hash(key, i).

    `tokens` is the corpus as int32[n]. Raises UsageError where it is shorter than one window.
    """

    def __init__(
        self, tokens: np.ndarray, *, size: int, length: int, split: str = "train", seed: int = 0
    ):
        check_length(tokens, length)
        self.tokens, self.size, self.length = tokens, size, length
        self.epoch_rows = len(tokens) / length
        self.key = rng.stream_key("text_windows", 1, {"length": length}, split, seed)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> np.ndarray:
        state = np.empty(1, np.uint64)
        rng.start_row(state, self.key, index)
        start = rng.below(state, len(self.tokens) - self.length + 1)
        return self.tokens[start : start + self.length]


class SentenceWindows:
    """Map-style windows of `length` ids of a dataset's input rows, joined end to end (the reference joins 128 of them).

    A block of `examples` rows gives 16 windows; what remains of it is left out.
    """

    def __init__(self, dataset: Any, *, size: int, length: int):
        self.dataset, self.size, self.length = dataset, size, length
        sample = [
            len(row["input_ids"])
            for row in dataset.__getitems__(list(range(min(1024, len(dataset)))))
        ]
        self.windows = 16
        self.examples = int(self.windows * length / np.mean(sample) * 1.1) + 8
        self._kept: tuple[int, np.ndarray] = (-1, np.empty(0, np.int32))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> np.ndarray:
        block, window = divmod(index, self.windows)
        if self._kept[0] != block:
            rows = self.dataset.__getitems__(
                list(range(block * self.examples, (block + 1) * self.examples))
            )
            ids = np.concatenate([row["input_ids"] for row in rows])
            self._kept = block, np.resize(ids, self.windows * self.length)
        return self._kept[1][window * self.length : (window + 1) * self.length]


class SpanCorruptionDataset:
    """Map-style rows of span corruption: row i hides spans of window i, drawn from hash(key, i).

    `windows` are as above; sentinels descend from the id `sentinel`. All rows are equally long.
    """

    def __init__(
        self,
        windows: Any,
        *,
        sentinel: int,
        split: str = "train",
        seed: int = 0,
        density: float = 0.15,
        mean_span: float = 3.0,
    ):
        self.windows, self.sentinel = windows, sentinel
        self.noise, self.spans = noise_counts(windows.length, density, mean_span)
        recipe = {"length": windows.length, "density": density, "mean_span": mean_span}
        self.key = rng.stream_key("span_corruption", 2, recipe, split, seed)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        state = np.empty(1, np.uint64)
        x = np.empty(self.windows.length - self.noise + self.spans, np.int32)
        y = np.empty(self.noise + self.spans, np.int32)
        rng.start_row(state, self.key, index)
        corrupt(state, self.windows[index], x, y, self.sentinel, self.spans, self.noise)
        return {"input_ids": x, "labels": y}


class StreamDataset:
    """Windows as rows of a model of one stream: input_ids, segments (all 1), labels (the next ids)."""

    def __init__(self, windows: Any):
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        ids = np.ascontiguousarray(self.windows[index], np.int32)
        labels = np.append(ids[1:], IGNORED).astype(np.int32)
        return {"input_ids": ids, "segments": np.ones_like(ids), "labels": labels}


class FullWindows:
    """Map-style windows of at most `length` ids of a corpus (int32[n]), cut end to end: every id once an epoch.

    The corpus is a ring; an epoch begins its cuts at a place of its own and has its windows in an order of its own, both
    drawn from hash(key, epoch). One window an epoch is shorter, or if `whole` runs on to where the cuts began. Raises
    UsageError where the corpus has less than one.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        *,
        size: int,
        length: int,
        whole: bool = False,
        split: str = "train",
        seed: int = 0,
    ):
        check_length(tokens, length)
        self.tokens, self.size, self.length, self.whole = tokens, size, length, whole
        self.count = self.epoch_rows = -(-len(tokens) // length)
        self.key = rng.stream_key("full_windows", 1, {"length": length}, split, seed)
        self._kept: tuple[int, int, np.ndarray] = (-1, 0, np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> np.ndarray:
        epoch, place = divmod(index, self.count)
        if self._kept[0] != epoch:
            self._kept = epoch, *self._epoch(epoch)
        _, begin, order = self._kept
        start = order[place] * self.length
        stop = start + self.length if self.whole else min(start + self.length, len(self.tokens))
        return self.tokens.take(np.arange(begin + start, begin + stop), mode="wrap")

    def _epoch(self, epoch: int) -> tuple[int, np.ndarray]:
        state, order = np.empty(1, np.uint64), np.arange(self.count)
        rng.start_row(state, self.key, epoch)
        begin = rng.below(state, len(self.tokens))
        rng.shuffle(state, order, np.empty_like(order))
        return begin, order


class ReplacedRows:
    """Masked rows (with `places`) for replaced-token detection: the hidden ids, and an integer drawn for each of them.

    The integers, below 2**24, are drawn from hash(key, i): by them the generator's guesses are drawn.
    """

    def __init__(self, rows: Any, *, split: str = "train", seed: int = 0):
        self.rows = rows
        self.key = rng.stream_key("replaced_tokens", 1, {}, split, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        state, draws = np.empty(1, np.uint64), np.empty(len(row["places"]), np.int64)
        rng.start_row(state, self.key, index)
        rng.fill_between(state, draws, 0, (1 << 24) - 1)
        return row | {"originals": row["labels"], "draws": draws.astype(np.int32)}


def check_length(tokens: np.ndarray, length: int) -> None:
    """Raise UsageError where a corpus is shorter than one window."""
    if len(tokens) < length:
        raise UsageError(
            f"The corpus has {len(tokens)} ids, fewer than one window of {length}; give more text."
        )


class EncoderRows:
    """Windows as rows of an encoder: `start`, the window, `end`. Row i is a function of i.

    With `pairs` the window is cut in two segments at a place drawn from hash(key, i), an `end` after each and
    token_type_ids 0 and 1; one row in ten stays whole, as in ELECTRA (Clark et al. 2020). Unlike theirs the cut is at any
    id, uniformly, not at the line's end next to the middle, and no row in twenty is shortened at random.
    """

    def __init__(
        self,
        windows: Any,
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
        state = np.empty(1, np.uint64)
        rng.start_row(state, self.key, index)
        two = self.pairs and len(window) > 1 and rng.below(state, 10) > 0
        cut = 1 + rng.below(state, len(window) - 1) if two else len(window)
        ids = np.concatenate(
            [[self.start], window[:cut], [self.end], window[cut:], [self.end] * two]
        ).astype(np.int32)
        row = {"input_ids": ids, "segments": np.ones_like(ids)}
        return row | (
            {"token_type_ids": (np.arange(len(ids)) > cut + 1).astype(np.int32)}
            if self.pairs
            else {}
        )


class MaskedDataset:
    """Laid-out rows for masked language modelling: 15 % of the ids are to be guessed, chosen anew for every row index.

    Of these, `masked` % become `mask`, `random` % a random id of `content` (first, count), the others stay (80 and 10:
    Devlin et al. 2019; dynamic as in Liu et al. 2019; 85 and 0: Clark et al. 2020). `never` are ids that are not chosen:
    end of sequence, padding. A row of n candidates has 0.15 n, rounded up or down at random, as in fairseq (ELECTRA rounds
    to the nearest, of all ids of a row, and may draw a place twice). With `places`
    the labels are those of the hidden ids alone and `places` their positions; else IGNORED stands at all others.
    """

    def __init__(
        self,
        rows: Any,
        *,
        mask: int,
        content: tuple[int, int],
        never: tuple[int, ...],
        places: bool = False,
        masked: int = 80,
        random: int = 10,
        split: str = "train",
        seed: int = 0,
        density: float = 0.15,
    ):
        self.rows, self.mask, self.content, self.places = rows, mask, content, places
        self.kinds, self.density = (masked, masked + random), density
        self.never = np.array(never, np.int32)
        recipe = {"density": density, "masked": masked, "random": random}
        self.key = rng.stream_key("masked_language_model", 2, recipe, split, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        state = np.empty(1, np.uint64)
        rng.start_row(state, self.key, index)
        ids = row["input_ids"].copy()
        chosen = hide(state, ids, self.never, self.density, self.mask, *self.kinds, *self.content)
        answers = row["input_ids"][chosen]
        if self.places:
            return row | {"input_ids": ids, "places": chosen.astype(np.int32), "labels": answers}
        labels = np.full_like(ids, IGNORED)
        labels[chosen] = answers
        return row | {"input_ids": ids, "labels": labels}


@njit(cache=True)
def hide(state, ids, never, density, mask, masked, changed, first, count):
    """Choose a share of the ids not in `never`; replace `masked` % by a mask, up to `changed` % by a random id, in place.

    Returns the positions chosen, ascending; one at least where there is a candidate.
    """
    candidates = np.empty(len(ids), np.int64)
    n = 0
    for i in range(len(ids)):
        allowed = True
        for word in never:
            allowed &= ids[i] != word
        candidates[n] = i
        n += allowed
    wanted = min(n, max(1, int(density * n + rng.below(state, 1 << 20) / (1 << 20))))
    for i in range(wanted):
        j = i + rng.below(state, n - i)
        candidates[i], candidates[j] = candidates[j], candidates[i]
    chosen = np.sort(candidates[:wanted])
    for place in chosen:
        kind = rng.below(state, 100)
        if kind < masked:
            ids[place] = mask
        elif kind < changed:
            ids[place] = first + rng.below(state, count)
    return chosen


def encode_corpus(texts: Iterable[str], tokenizer: Any, enough: int, eos: int) -> np.ndarray:
    """Return the ids (int32[n]) of the texts in order, the id `eos` after each; stops at `enough` ids."""
    parts, count = [np.empty(0, np.int32)], 0
    for some in batched(texts, 256):
        for ids in tokenizer(list(some), add_special_tokens=False, verbose=False)["input_ids"]:
            parts.append(np.array([*ids, eos], np.int32))
            count += len(parts[-1])
        if count >= enough:
            break
    return np.concatenate(parts)[:enough]


def batched(items: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    """Yield tuples of `size` items, the last one shorter."""
    rest = iter(items)
    while some := tuple(itertools.islice(rest, size)):
        yield some
