"""Layer 1: endless sequences of rows. Row i is a pure function of (task, version, parameters, split, seed, i)."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from hf_synpre.errors import UsageError
from hf_synpre.tasks import rng
from hf_synpre.tasks.registry import EMPTY, FUNCTION, MAX_LENGTH, SAMPLER, Parameters, Task
from hf_synpre.vocabulary import Vocabulary

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_ids, _words = types.int32[::1], types.int64[::1]
FILL = types.void(
    SAMPLER,
    FUNCTION,
    types.uint64,
    _words,
    _words,
    types.int64,
    types.int64,
    _ids,
    types.int64,
    types.int64,
    *[_ids] * 4,
)


@functools.cache
def _driver() -> Callable:
    return njit(FILL, cache=True, nogil=True)(_fill_rows)


def _fill_rows(
    sampler,
    function,
    key,
    indices,
    p,
    ramp,
    low,
    prefix,
    body_bound,
    target_bound,
    x,
    y,
    x_ends,
    y_ends,
):
    state = np.empty(1, np.uint64)
    p = p.copy()
    high = p[MAX_LENGTH]
    a = b = 0
    for row in range(len(indices)):
        rng.start_row(state, key, indices[row])
        if ramp > 0:
            p[MAX_LENGTH] = low + (high - low) * min(indices[row], ramp) // ramp
        for token in prefix:
            x[a] = token
            a += 1
        target = y[b : b + target_bound]
        n, m = sampler(state, x[a : a + body_bound], target, p)
        if m < 0:
            m = function(x[a : a + n], target, p)
        if m == 0:
            target[0] = p[EMPTY]
            m = 1
        a += n
        b += m
        x_ends[row + 1] = a
        y_ends[row + 1] = b


@dataclass(frozen=True)
class Stream:
    """One endless sequence of rows: row i depends on (task, version, parameters, split, seed, i) and on nothing else.

    `ramp` > 0 is a curriculum: the longest body grows linearly from the shortest possible to max_length over the first
    `ramp` rows. `salt` tells the streams inside a mixture from those outside.
    """

    task: Task
    parameters: Parameters
    vocabulary: Vocabulary
    split: str = "train"
    seed: int = 0
    ramp: int = 0
    salt: str = ""

    @functools.cached_property
    def key(self) -> np.uint64:
        """The hash that names this stream."""
        more = ({"ramp": self.ramp} if self.ramp else {}) | (
            {"salt": self.salt} if self.salt else {}
        )
        return rng.stream_key(
            self.task.name, self.task.version, dict(self.parameters) | more, self.split, self.seed
        )

    @functools.cached_property
    def _fixed(self) -> tuple:
        task, full = self.task, dict(self.parameters)
        if self.ramp and task.shortest is None:
            raise UsageError(
                f"{task.name} has no range of lengths, so ramp cannot apply; give ramp 0."
            )
        low = task.shortest(full["min_length"]) if task.shortest else 0
        return task.parameter_vector(self.vocabulary, full), low, task.prefix(self.vocabulary)

    @functools.cached_property
    def bounds(self) -> tuple[int, int]:
        """The longest input row and the longest target."""
        body, target = self.task.bounds(dict(self.parameters))
        return body + len(self.task.prefix(self.vocabulary)), target

    def validate(self) -> "Stream":
        """Return the stream itself. Raises UsageError now where split, seed, ramp or vocabulary do not fit."""
        self.key, self._fixed  # noqa: B018 - computing them is the check
        return self

    def rows(self, indices: np.ndarray) -> Rows:
        """Return (inputs, input offsets, targets, target offsets), flat int32, of the rows at `indices` (int64[n])."""
        p, low, prefix = self._fixed
        n, (longest, target) = len(indices), self.bounds
        if n * max(longest, target) >= 2**31:
            raise UsageError(
                f"{n} rows at once overflow 32-bit offsets; ask for at most {2**31 // max(longest, target)}."
            )
        x, y = np.empty(n * longest, np.int32), np.empty(n * target, np.int32)
        x_ends, y_ends = np.zeros(n + 1, np.int32), np.zeros(n + 1, np.int32)
        sampler, function = self.task.compiled
        body, out = longest - len(prefix), (x, y, x_ends, y_ends)
        with np.errstate(over="ignore"):
            _driver()(
                sampler, function, self.key, indices, p, self.ramp, low, prefix, body, target, *out
            )
        return x[: x_ends[-1]], x_ends, y[: y_ends[-1]], y_ends


@dataclass(frozen=True)
class MixtureStream:
    """Rows of several streams: row i is row i of the component that hash(key, i) chooses with the mixture's weights."""

    task: Any
    parameters: Mapping[str, Parameters]
    vocabulary: Vocabulary
    streams: tuple[Stream, ...]
    split: str = "train"
    seed: int = 0
    ramp: int = 0

    @functools.cached_property
    def key(self) -> np.uint64:
        """The hash that names this stream."""
        names = {stream.task.name: int(stream.key) for stream in self.streams} | {
            "weights": list(self.task.weights)
        }
        return rng.stream_key(self.task.name, self.task.version, names, self.split, self.seed)

    @functools.cached_property
    def bounds(self) -> tuple[int, int]:
        """The longest input row and the longest target."""
        longest, target = zip(*(stream.bounds for stream in self.streams), strict=True)
        return max(longest), max(target)

    def choices(self, indices: np.ndarray) -> np.ndarray:
        """Return which component each row comes from (int64[n])."""
        with np.errstate(over="ignore"):
            return _choose(self.key, indices, np.cumsum(np.array(self.task.weights, np.int64)))

    def rows(self, indices: np.ndarray) -> Rows:
        """Return (inputs, input offsets, targets, target offsets), flat int32, of the rows at `indices` (int64[n])."""
        chosen = self.choices(indices)
        parts = [stream.rows(indices[chosen == k]) for k, stream in enumerate(self.streams)]
        return (
            *_merge(chosen, [part[:2] for part in parts]),
            *_merge(chosen, [part[2:] for part in parts]),
        )


@njit(cache=True)
def _choose(key, indices, ends):
    state, chosen = np.empty(1, np.uint64), np.empty(len(indices), np.int64)
    for row in range(len(indices)):
        rng.start_row(state, key, indices[row])
        ticket, k = rng.below(state, ends[-1]), 0
        while ticket >= ends[k]:
            k += 1
        chosen[row] = k
    return chosen


def _merge(
    chosen: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the parts' rows out in the order of `chosen`; each part's own rows are in order already."""
    lengths = np.empty(len(chosen), np.int32)
    for k, (_, ends) in enumerate(parts):
        lengths[chosen == k] = np.diff(ends)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = np.empty(ends[-1], np.int32)
    for k, (ids, own) in enumerate(parts):
        _scatter(flat, ends[:-1][chosen == k], ids, own)
    return flat, ends


@njit(cache=True)
def _scatter(flat, starts, ids, ends):
    for row in range(len(starts)):
        rng.copy(ids[ends[row] : ends[row + 1]], flat[starts[row] :])
