"""Layer 2: natural text as pre-training rows: span corruption (Raffel et al. 2020; spec, section 2.4)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_dataset
from numba import njit

from hf_synpre import rng
from hf_synpre.datasets import Row
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


class SpanCorruptionDataset:
    """Map-style rows of span corruption over a stream of ids: row i hides spans of a window drawn from hash(key, i).

    `tokens` is the corpus as int32[n]; windows have `length` ids; sentinels descend from the id `sentinel`. All rows are
    equally long. Raises UsageError where the corpus is shorter than one window.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        *,
        size: int,
        length: int,
        sentinel: int,
        split: str = "train",
        seed: int = 0,
        density: float = 0.15,
        mean_span: float = 3.0,
    ):
        if len(tokens) < length:
            raise UsageError(f"The corpus has {len(tokens)} ids, fewer than one window of {length}; give more text.")
        self.tokens, self.size, self.length, self.sentinel = tokens, size, length, sentinel
        self.noise, self.spans = noise_counts(length, density, mean_span)
        recipe = {"length": length, "density": density, "mean_span": mean_span}
        self.key = rng.stream_key("span_corruption", 1, recipe, split, seed)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        state = np.empty(1, np.uint64)
        x = np.empty(self.length - self.noise + self.spans, np.int32)
        y = np.empty(self.noise + self.spans, np.int32)
        rng.start_row(state, self.key, index)
        start = rng.below(state, len(self.tokens) - self.length + 1)
        corrupt(state, self.tokens[start : start + self.length], x, y, self.sentinel, self.spans, self.noise)
        return {"input_ids": x, "labels": y}


def encode_corpus(texts: Iterable[str], tokenizer: Any, enough: int) -> np.ndarray:
    """Return the ids (int32[n]) of the texts in order, an end-of-sequence id after each; stops at `enough` ids."""
    parts, count = [], 0
    for text in texts:
        parts.append(np.array([*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id], np.int32))
        count += len(parts[-1])
        if count >= enough:
            break
    return np.concatenate(parts)[:enough]


def corpus_place(name: str, data_dir: str | None) -> str:
    """Return where a corpus is: the folder `name` in `data_dir`, a folder, or a Hub id A/B. UsageError: nowhere."""
    folders = [folder for folder in (Path(data_dir or ".") / name, Path(name)) if folder.is_dir()]
    if not folders and name.count("/") != 1:
        where = f"a folder in {data_dir}" if data_dir else "a folder (see --data_dir)"
        raise UsageError(f"Unknown corpus '{name}'. Allowed: stdlib, {where}, a Hub id NAMESPACE/NAME.")
    return str(folders[0]) if folders else name


def corpus_texts(name: str, data_dir: str | None, split: str) -> Iterator[str]:
    """Yield the texts (column "text") of a split of a corpus; see corpus_place. UsageError where it has none."""
    try:
        rows = load_dataset(corpus_place(name, data_dir), split=split, streaming=True)
        yield from (row["text"] for row in rows)
    except UsageError:
        raise
    except (OSError, ValueError, KeyError) as error:
        cause = " ".join(str(error).split())
        raise UsageError(f"corpus '{name}': no column text of a split {split} could be read ({cause})") from None
