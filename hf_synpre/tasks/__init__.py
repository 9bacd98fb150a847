"""Layer 1: what a synthetic task is, the registry, and `generate`.

A task is a *sampler* (the law of the input) and a *function* (the target of an input), both compiled:

    sampler(state, x, y, p) -> (n, m)   fills x with an input body of n ids; m = -1 leaves the target to the function,
                                        m >= 0 says that the sampler wrote it to y itself (tasks that invert a function)
    function(x, y, p) -> m              fills y with the target of the body x

`p` (int64) holds the vocabulary and the parameters: p[FIRST] .. p[FIRST] + p[CONTENT] - 1 are the content ids, p[MIN_LENGTH]
and p[MAX_LENGTH] bound the body, p[NAME_DIVIDER] ... are the marks, p[ARGUMENTS + k] is the task's k-th own parameter.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types

from hf_synpre import rng
from hf_synpre.errors import UsageError, choose
from hf_synpre.vocabulary import SYMBOLS, Vocabulary, as_vocabulary

FIRST, CONTENT, MIN_LENGTH, MAX_LENGTH = range(4)
NAME_DIVIDER, WORD_DIVIDER, ARGUMENT_DIVIDER, EMPTY, YES, NO = range(4, 10)
COLON, SEPARATOR, UPPER, OPEN, LOWER, MATH, CLOSE = range(10, 17)
ARGUMENTS = 4 + len(SYMBOLS)
FAMILIES = ("functions",)
CHUNK = 8192

_ids, _words = types.int32[::1], types.int64[::1]
_lengths = types.UniTuple(types.int64, 2)
SAMPLER = types.FunctionType(_lengths(types.uint64[::1], _ids, _ids, _words))
FUNCTION = types.FunctionType(types.int64(_ids, _ids, _words))
FILL = types.void(
    SAMPLER, FUNCTION, types.uint64, _words, _words, types.int64, _ids, types.int64, types.int64, _ids, _ids, _ids, _ids
)


@dataclass(frozen=True)
class Task:
    """A registered task: its law, its function, its paper. `bounds(parameters)` gives the longest body and target."""

    name: str
    version: int
    paper: str
    sampler: Callable
    function: Callable
    parameters: Mapping[str, int]
    bounds: Callable[[dict], tuple[int, int]]
    check: Callable[[dict], str | None]
    named: bool

    @functools.cached_property
    def compiled(self) -> tuple[Callable, Callable]:
        """The sampler and the function in machine code; compiled on first use, then read from the disk cache."""
        return (
            njit(SAMPLER.signature, cache=True)(self.sampler),
            njit(FUNCTION.signature, cache=True)(self.function),
        )

    def resolve(self, parameters: Mapping[str, Any]) -> dict[str, int]:
        """Return all parameters, defaults included. Raises UsageError on an unknown name or an impossible value."""
        for name, value in parameters.items():
            choose(f"parameter of {self.name}", name, self.parameters)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise UsageError(f"{self.name}: {name} is {value!r}; give an integer >= 0.")
        full = dict(self.parameters) | {k: int(v) for k, v in parameters.items()}
        if full["min_length"] > full["max_length"]:
            raise UsageError(
                f"{self.name}: min_length {full['min_length']} exceeds max_length {full['max_length']}; swap them."
            )
        if problem := self.check(full):
            raise UsageError(f"{self.name}: {problem}")
        return full

    def prefix(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return the ids before the body: the task's name and the divider (spec, section 2.0); none for unnamed tasks."""
        ids = (*vocabulary.name_ids(self.name), vocabulary.marks["name_divider"]) if self.named else ()
        return np.array(ids, np.int32)

    def solve(self, input_ids: Any, *, vocabulary: Any = None, **parameters: int) -> np.ndarray:
        """Return the target ids (int32, without end-of-sequence) of one input row. Raises UsageError on a malformed row."""
        words = as_vocabulary(vocabulary)
        full = self.resolve(parameters)
        body = self._body(input_ids, words)
        room = self.bounds(full | {"max_length": max(full["max_length"], len(body))})[1]
        target = np.empty(max(room, 1), np.int32)
        size = self.compiled[1](body, target, parameter_vector(self, words, full))
        return target[:size] if size else np.array([words.marks["empty"]], np.int32)

    def score(self, input_ids: Any, answer_ids: Any, *, vocabulary: Any = None, **parameters: int) -> bool:
        """Return True where `answer_ids` (without end-of-sequence) is a right answer to the row `input_ids`."""
        target = self.solve(input_ids, vocabulary=vocabulary, **parameters)
        return np.array_equal(target, np.asarray(answer_ids))

    def _body(self, input_ids: Any, words: Vocabulary) -> np.ndarray:
        ids = np.asarray(input_ids)
        prefix = self.prefix(words)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise UsageError(f"{self.name}: a row is a flat list of ids; got shape {ids.shape} of {ids.dtype}.")
        if not np.array_equal(ids[: len(prefix)], prefix):
            raise UsageError(f"{self.name}: a row starts with {prefix.tolist()}; got {ids[: len(prefix)].tolist()}.")
        if len(ids) == len(prefix) or ids.min() < 0 or ids.max() >= words.size:
            raise UsageError(f"{self.name}: a row needs a body of ids in 0..{words.size - 1} after {prefix.tolist()}.")
        return np.ascontiguousarray(ids[len(prefix) :], np.int32)


_REGISTRY: dict[str, Task] = {}


def register_task(
    sampler: Callable,
    *,
    paper: str,
    version: int = 1,
    min_length: int = 10,
    max_length: int = 220,
    bounds: Callable[[dict], tuple[int, int]] = lambda p: (p["max_length"], p["max_length"]),
    check: Callable[[dict], str | None] = lambda p: None if p["min_length"] else "min_length is 0; give at least 1.",
    named: bool = True,
    **parameters: int,
) -> Callable[[Callable], Callable]:
    """Register the decorated function as the task of its name (a trailing underscore dropped) with this input law."""

    def register(function: Callable) -> Callable:
        name = function.__name__.rstrip("_")
        if name in _REGISTRY:
            raise UsageError(f"A task '{name}' is registered already; choose another name.")
        defaults = MappingProxyType({"min_length": min_length, "max_length": max_length, **parameters})
        _REGISTRY[name] = Task(name, version, paper, sampler, function, defaults, bounds, check, named)
        return function

    return register


@functools.cache
def _load_families() -> None:
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")


def list_tasks() -> list[str]:
    """Return the names of all registered tasks, in the order of registration."""
    _load_families()
    return list(_REGISTRY)


def get_task(name: str) -> Task:
    """Return a task by name. Raises UsageError with the closest name when there is none."""
    return _REGISTRY[choose("task", name, list_tasks())]


def parameter_vector(task: Task, vocabulary: Vocabulary, parameters: dict[str, int]) -> np.ndarray:
    """Return `p`, what compiled code knows: vocabulary, length bounds, the task's own parameters (int64)."""
    own = [v for k, v in parameters.items() if k not in ("min_length", "max_length")]
    lengths = [parameters["min_length"], parameters["max_length"]]
    return np.array(
        [vocabulary.first, vocabulary.content, *lengths, *(vocabulary.marks[s] for s in SYMBOLS), *own], np.int64
    )


@functools.cache
def _driver() -> Callable:
    return njit(FILL, cache=True)(_fill_rows)


def _fill_rows(sampler, function, key, indices, p, ramp, prefix, body_bound, target_bound, x, y, x_ends, y_ends):
    state = np.empty(1, np.uint64)
    p = p.copy()
    low, high = p[MIN_LENGTH], p[MAX_LENGTH]
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

    `ramp` > 0 is a curriculum: the longest body grows linearly from min_length to max_length over the first `ramp` rows.
    """

    task: Task
    parameters: Mapping[str, int]
    vocabulary: Vocabulary
    split: str = "train"
    seed: int = 0
    ramp: int = 0

    @functools.cached_property
    def key(self) -> np.uint64:
        """The hash that names this stream."""
        curriculum = {"ramp": self.ramp} if self.ramp else {}
        return rng.stream_key(self.task.name, self.task.version, dict(self.parameters) | curriculum, self.split, self.seed)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return (inputs, input offsets, targets, target offsets), flat int32, of the rows at `indices` (int64[n])."""
        prefix = self.task.prefix(self.vocabulary)
        body, target = self.task.bounds(dict(self.parameters))
        n, body, target = len(indices), max(body, 1), max(target, 1)
        x, y = np.empty(n * (body + len(prefix)), np.int32), np.empty(n * target, np.int32)
        x_ends, y_ends = np.zeros(n + 1, np.int32), np.zeros(n + 1, np.int32)
        p = parameter_vector(self.task, self.vocabulary, dict(self.parameters))
        with np.errstate(over="ignore"):
            _driver()(*self.task.compiled, self.key, indices, p, self.ramp, prefix, body, target, x, y, x_ends, y_ends)
        return x[: x_ends[-1]], x_ends, y[: y_ends[-1]], y_ends


def open_stream(
    task: str, *, split: str = "train", seed: int = 0, vocabulary: Any = None, ramp: int = 0, **parameters: int
) -> Stream:
    """Return the Stream of a task; unknown names and impossible values raise UsageError."""
    found = get_task(task)
    if isinstance(ramp, bool) or not isinstance(ramp, int) or ramp < 0:
        raise UsageError(f"ramp is {ramp!r}; give the number of rows of the curriculum, 0 for none.")
    stream = Stream(found, found.resolve(parameters), as_vocabulary(vocabulary), split, seed, ramp)
    stream.key  # noqa: B018 - validates split and seed now
    return stream


def generate(
    task: str,
    start: int,
    stop: int,
    *,
    split: str = "train",
    seed: int = 0,
    vocabulary: Any = None,
    ramp: int = 0,
    **parameters: int,
) -> pa.Table:
    """Return rows start .. stop-1 of a task's stream: pyarrow.Table of input_ids and labels, list<int32>, no EOS.

    T5 ids of the paper by default; `vocabulary` takes a size, a tokenizer or a Vocabulary. Raises UsageError on bad input.
    """
    stream = open_stream(task, split=split, seed=seed, vocabulary=vocabulary, ramp=ramp, **parameters)
    if not 0 <= start <= stop < 2**63:
        raise UsageError(f"Rows {start} to {stop} were asked for; give 0 <= start <= stop < 2**63.")
    cuts = range(start, stop, CHUNK)
    batches = [_record_batch(stream.rows(np.arange(a, min(a + CHUNK, stop), dtype=np.int64))) for a in cuts]
    return pa.Table.from_batches(batches, schema=SCHEMA)


SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


def _record_batch(rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> pa.RecordBatch:
    x, x_ends, y, y_ends = rows
    columns = [pa.ListArray.from_arrays(pa.array(e), pa.array(v)) for e, v in ((x_ends, x), (y_ends, y))]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
