"""Layer 2: text, natural or drawn, as pre-training rows: span corruption (Raffel et al. 2020), masks, streams."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import njit

from hf_synpre import rng
from hf_synpre.datasets import IGNORED, Row
from hf_synpre.errors import UsageError


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


def window_length(inputs: int) -> int:
    """Return the longest window whose corrupted input, end of sequence included, has at most `inputs` ids (512 -> 568)."""
    fitting = [n for n in range(2, 2 * inputs) if n - noise_counts(n)[0] + noise_counts(n)[1] + 1 <= inputs]
    if not fitting:
        raise UsageError(f"Inputs of {inputs} ids hold no span corruption; give 4 or more.")
    return fitting[-1]


class TextWindows:
    """Map-style windows of `length` ids of a stream of ids: window i begins at a place drawn from hash(key, i).

    `tokens` is the corpus as int32[n]. Raises UsageError where it is shorter than one window.
    """

    def __init__(self, tokens: np.ndarray, *, size: int, length: int, split: str = "train", seed: int = 0):
        if len(tokens) < length:
            raise UsageError(f"The corpus has {len(tokens)} ids, fewer than one window of {length}; give more text.")
        self.tokens, self.size, self.length = tokens, size, length
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
        sample = [len(row["input_ids"]) for row in dataset.__getitems__(list(range(min(1024, len(dataset)))))]
        self.windows = 16
        self.examples = int(self.windows * length / np.mean(sample) * 1.1) + 8
        self._kept: tuple[int, np.ndarray] = (-1, np.empty(0, np.int32))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> np.ndarray:
        block, window = divmod(index, self.windows)
        if self._kept[0] != block:
            rows = self.dataset.__getitems__(list(range(block * self.examples, (block + 1) * self.examples)))
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


class MaskedDataset:
    """Laid-out rows for masked language modelling: 15 % of the ids are to be guessed, chosen anew for every row index.

    Of these, 80 % become `mask`, 10 % a random id of `content` (first, count), 10 % stay (Devlin et al. 2019; dynamic as
    in Liu et al. 2019). `never` are ids that are not chosen: end of sequence, padding.
    """

    def __init__(
        self,
        rows: Any,
        *,
        mask: int,
        content: tuple[int, int],
        never: tuple[int, ...],
        split: str = "train",
        seed: int = 0,
        density: float = 0.15,
    ):
        self.rows, self.mask, self.content, self.density = rows, mask, content, density
        self.never = np.array(never, np.int32)
        self.key = rng.stream_key("masked_language_model", 1, {"density": density}, split, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        state = np.empty(1, np.uint64)
        rng.start_row(state, self.key, index)
        ids = row["input_ids"].copy()
        labels = np.full_like(ids, IGNORED)
        candidates = ~np.isin(ids, self.never)
        hide(state, ids, labels, candidates, int(self.density * 2**20), self.mask, *self.content)
        return {"input_ids": ids, "segments": row["segments"], "labels": labels}


@njit(cache=True)
def hide(state, ids, labels, candidates, share, mask, first, count):
    """Choose `share` / 2**20 of the candidates; write them to `labels`, and a mask, a random id or the same to `ids`."""
    for i in range(len(ids)):
        if candidates[i] and rng.below(state, 1 << 20) < share:
            labels[i] = ids[i]
            kind = rng.below(state, 10)
            if kind < 8:
                ids[i] = mask
            elif kind == 8:
                ids[i] = first + rng.below(state, count)


def encode_corpus(texts: Iterable[str], tokenizer: Any, enough: int, eos: int) -> np.ndarray:
    """Return the ids (int32[n]) of the texts in order, the id `eos` after each; stops at `enough` ids."""
    parts, count = [], 0
    for text in texts:
        parts.append(np.array([*tokenizer(text, add_special_tokens=False)["input_ids"], eos], np.int32))
        count += len(parts[-1])
        if count >= enough:
            break
    return np.concatenate(parts)[:enough]
