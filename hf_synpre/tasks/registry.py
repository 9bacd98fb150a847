"""Layer 1: what a synthetic task is, and the registry.

A task is a *sampler* (the law of the input) and a *function* (the target of an input), both compiled:

    sampler(state, x, y, p) -> (n, m)   fills x with an input body of n ids; m = -1 leaves the target to the function,
                                        m >= 0 says that the sampler wrote it to y itself (tasks that invert a function);
                                        until then y is scratch space
    function(x, y, p) -> m              fills y with the target of the body x

`p` (int64) holds the vocabulary and the parameters: p[FIRST] .. p[FIRST] + p[CONTENT] - 1 are the content ids, p[MIN_LENGTH]
and p[MAX_LENGTH] bound the body, p[NAME_DIVIDER] ... are the marks, p[ARGUMENTS + k] is the task's k-th own parameter, and
the task's table of facts about the vocabulary (the ids of numbers, of words) follows.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from hf_synpre.errors import UsageError, as_integer, choose
from hf_synpre.vocabulary import SYMBOLS, Vocabulary, as_vocabulary

FIRST, CONTENT, MIN_LENGTH, MAX_LENGTH = range(4)
NAME_DIVIDER, WORD_DIVIDER, ARGUMENT_DIVIDER, EMPTY, YES, NO = range(4, 10)
COLON, SEPARATOR, UPPER, OPEN, LOWER, MATH, CLOSE = range(10, 17)
ARGUMENTS = 4 + len(SYMBOLS)
LENGTHS = ("min_length", "max_length")
LONGEST, LARGEST = 2**20, 2**31 - 1

_ids, _words = types.int32[::1], types.int64[::1]
SAMPLER = types.FunctionType(types.UniTuple(types.int64, 2)(types.uint64[::1], _ids, _ids, _words))
FUNCTION = types.FunctionType(types.int64(_ids, _ids, _words))

Parameters = Mapping[str, int | str]


def sampler_wrote_it(x, y, p):
    """The compiled function of tasks that are solved in Python: their samplers write every target."""
    return 0


@functools.cache
def compile_sampler(sampler: Callable) -> Callable:
    """Return the sampler in machine code: compiled on first use, then read from the disk cache."""
    return njit(SAMPLER.signature, cache=True)(sampler)


@functools.cache
def compile_function(function: Callable) -> Callable:
    """Return the function in machine code: compiled on first use, then read from the disk cache."""
    return njit(FUNCTION.signature, cache=True)(function)


@dataclass(frozen=True)
class Task:
    """A registered task: its law, its function, its paper, and what its rows must look like.

    parameters  defaults; a tuple of strings stands for a choice, its first the default
    bounds      (parameters) -> longest body and longest target
    check       (parameters) -> what is wrong with them, or None
    least       the smallest min_length that works
    shortest    (min_length) -> the smallest max_length that works; None where the task has no range of lengths
    symbols     (parameters) -> how many content ids the task needs
    table       (vocabulary, parameters) -> facts appended to `p`
    row_check   (body, vocabulary, parameters) -> what is malformed in a row, or None
    judge       (body, answer, vocabulary, parameters) -> is the answer right; None where only one answer is
    reader      (ids, their row, vocabulary, parameters) -> text; None for the plain spelling
    in_python   the function is function(body, vocabulary, parameters) -> ids, not compiled
    """

    name: str
    version: int
    paper: str
    sampler: Callable
    function: Callable
    parameters: Mapping[str, int | tuple[str, ...]]
    bounds: Callable[[dict], tuple[int, int]]
    check: Callable[[dict], str | None]
    least: int
    shortest: Callable[[int], int] | None
    symbols: Callable[[dict], int]
    table: Callable[[Vocabulary, dict], np.ndarray] | None
    row_check: Callable[[np.ndarray, Vocabulary, dict], str | None]
    judge: Callable | None
    reader: Callable | None
    named: bool
    in_python: bool

    def __reduce__(self):
        return get_registered, (self.name,)

    @functools.cached_property
    def compiled(self) -> tuple[Callable, Callable]:
        """The sampler and the function in machine code."""
        return compile_sampler(self.sampler), compile_function(
            sampler_wrote_it if self.in_python else self.function
        )

    def resolve(self, parameters: Mapping[str, Any]) -> dict[str, int | str]:
        """Return all parameters, defaults included. Raises UsageError on an unknown name or an impossible value."""
        full = {
            name: default[0] if isinstance(default, tuple) else default
            for name, default in self.parameters.items()
        }
        for name, value in parameters.items():
            choose(f"parameter of {self.name}", name, self.parameters)
            full[name] = self._value(name, value)
        if problem := self._length_problem(full) or self.check(full):
            raise UsageError(f"{self.name}: {problem}")
        return full

    def _value(self, name: str, value: Any) -> int | str:
        default = self.parameters[name]
        if isinstance(default, tuple):
            return choose(f"{name} of {self.name}", value, default)
        number = as_integer(value)
        if number is None or number < 0:
            raise UsageError(f"{self.name}: {name} is {value!r}; give an integer >= 0.")
        if number > LARGEST:
            raise UsageError(f"{self.name}: {name} is {value}; give at most {LARGEST}.")
        return number

    def _length_problem(self, full: dict) -> str | None:
        if full.get("max_length", 0) > LONGEST:
            return f"max_length is {full['max_length']}; give at most {LONGEST}."
        if self.shortest is None:
            return None
        low, high = (full[name] for name in LENGTHS)
        if low > high:
            return f"min_length {low} exceeds max_length {high}; swap them."
        if low < self.least:
            return f"min_length is {low}; give at least {self.least}."
        if high < self.shortest(low):
            return f"max_length {high} is too short for min_length {low}; give max_length >= {self.shortest(low)}."
        return None

    def prefix(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return the ids before the body: the task's name and the divider (spec, section 2.0); none for unnamed tasks."""
        ids = (
            (*vocabulary.name_ids(self.name), vocabulary.marks["name_divider"])
            if self.named
            else ()
        )
        return np.array(ids, np.int32)

    def parameter_vector(self, vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
        """Return `p`, what compiled code knows (int64). Raises UsageError where the vocabulary is too small for the task."""
        if self.symbols(parameters) > vocabulary.content:
            raise UsageError(
                f"{self.name} draws from {self.symbols(parameters)} content symbols and the vocabulary has "
                f"{vocabulary.content}; give a larger vocabulary or smaller parameters."
            )
        values = {
            k: v if isinstance(v, int) else self.parameters[k].index(v)
            for k, v in parameters.items()
        }
        head = [vocabulary.first, vocabulary.content, *(values.get(name, 0) for name in LENGTHS)]
        marks = [vocabulary.marks[symbol] for symbol in SYMBOLS]
        own = [value for name, value in values.items() if name not in LENGTHS]
        known = np.array([*head, *marks, *own], np.int64)
        return np.concatenate([known, self.table(vocabulary, parameters)]) if self.table else known

    def solve(
        self, input_ids: Any, *, vocabulary: Any = None, **parameters: int | str
    ) -> np.ndarray:
        """Return the target ids (int32, without end-of-sequence) of one input row. Raises UsageError on a malformed row."""
        words, full = as_vocabulary(vocabulary), self.resolve(parameters)
        body = self._body(input_ids, words, full)
        if self.in_python:
            return np.array(self.function(body, words, full), np.int32)
        widest = full | {"max_length": max(full.get("max_length", 0), len(body))}
        target = np.empty(self.bounds(widest)[1], np.int32)
        with np.errstate(over="ignore"):
            size = self.compiled[1](body, target, self.parameter_vector(words, widest))
        return target[:size] if size else np.array([words.marks["empty"]], np.int32)

    def score(
        self, input_ids: Any, answer_ids: Any, *, vocabulary: Any = None, **parameters: int | str
    ) -> bool:
        """Return True where `answer_ids` (without end-of-sequence) is a right answer to the row `input_ids`."""
        words, full = as_vocabulary(vocabulary), self.resolve(parameters)
        answer = flat_ids(self.name, "an answer", answer_ids)
        if self.judge:
            return bool(self.judge(self._body(input_ids, words, full), answer, words, full))
        return np.array_equal(self.solve(input_ids, vocabulary=words, **parameters), answer)

    def text(
        self, ids: Any, *, row: Any = None, vocabulary: Any = None, **parameters: int | str
    ) -> str:
        """Return ids of this task for people: letters for content ids, signs for marks, words where the task has words.

        `row` is the input row that a target belongs to (LIME names symbols by its header).
        """
        words, full = as_vocabulary(vocabulary), self.resolve(parameters)
        ids, row = (
            flat_ids(self.name, "a row", given) for given in (ids, ids if row is None else row)
        )
        return (
            self.reader(ids, row, words, full)
            if self.reader
            else " ".join(words.spell(i) for i in ids.tolist())
        )

    def _body(self, input_ids: Any, words: Vocabulary, full: dict) -> np.ndarray:
        ids = flat_ids(self.name, "a row", input_ids)
        prefix = self.prefix(words)
        if not np.array_equal(ids[: len(prefix)], prefix):
            raise UsageError(
                f"{self.name}: a row starts with {prefix.tolist()}; got {ids[: len(prefix)].tolist()}."
            )
        if len(ids) == len(prefix) or ids.min() < 0 or ids.max() >= words.size:
            raise UsageError(
                f"{self.name}: a row needs a body of ids in 0..{words.size - 1} after {prefix.tolist()}."
            )
        body = np.ascontiguousarray(ids[len(prefix) :], np.int32)
        if words.eos in body[-1:]:
            raise UsageError(
                f"{self.name}: the row ends with the end-of-sequence id {words.eos}; give it without."
            )
        if problem := self.row_check(body, words, full):
            raise UsageError(f"{self.name}: malformed row: {problem}")
        return body


def flat_ids(task: str, what: str, given: Any) -> np.ndarray:
    """Return a list, array or pyarrow list of ids as an integer vector. Raises UsageError on any other shape or type."""
    try:
        ids = np.asarray(given.as_py() if hasattr(given, "as_py") else given)
    except ValueError:
        raise UsageError(f"{task}: {what} is a flat list of ids; got a ragged one.") from None
    if ids.ndim != 1 or not (len(ids) == 0 or np.issubdtype(ids.dtype, np.integer)):
        raise UsageError(
            f"{task}: {what} is a flat list of ids; got shape {ids.shape} of {ids.dtype}."
        )
    return ids.astype(np.int64)


def only_content(body: np.ndarray, words: Vocabulary, parameters: dict) -> str | None:
    """The row check of most tasks: every id of the body is a content id."""
    stray = body[(body < words.first) | (body >= words.first + words.content)]
    last = words.first + words.content - 1
    return f"id {stray[0]} is no content id ({words.first}..{last})." if len(stray) else None


REGISTRY: dict[str, Any] = {}


def get_registered(name: str) -> Any:
    """Return the entry of a name, of those loaded first. Raises UsageError with the closest name when there is none."""
    from hf_synpre.tasks import get_task

    return REGISTRY[name] if name in REGISTRY else get_task(name)


def enter(name: str, entry: Any) -> None:
    """Put a task or a mixture in the registry. Raises UsageError when the name is taken."""
    if name in REGISTRY:
        raise UsageError(f"A task '{name}' is registered already; choose another name.")
    REGISTRY[name] = entry


def register_task(
    sampler: Callable,
    *,
    paper: str,
    version: int = 1,
    bounds: Callable[[dict], tuple[int, int]] = lambda p: (p["max_length"], p["max_length"]),
    check: Callable[[dict], str | None] = lambda p: None,
    least: int = 1,
    shortest: Callable[[int], int] | None = lambda low: low,
    symbols: Callable[[dict], int] = lambda p: 1,
    table: Callable[[Vocabulary, dict], np.ndarray] | None = None,
    row_check: Callable[[np.ndarray, Vocabulary, dict], str | None] = only_content,
    judge: Callable | None = None,
    reader: Callable | None = None,
    named: bool = True,
    in_python: bool = False,
    **parameters: int | tuple[str, ...],
) -> Callable[[Callable], Callable]:
    """Register the decorated function as the task of its name (a trailing underscore dropped) with this input law.

    Keywords that are no field of Task are the task's parameters and their defaults; a task with a range of lengths has
    min_length = 10 and max_length = 220 besides, where it names no others.
    """
    lengths = {"min_length": 10, "max_length": 220} if shortest else {}

    def register(function: Callable) -> Callable:
        name = function.__name__.rstrip("_")
        fields = (
            bounds,
            check,
            least,
            shortest,
            symbols,
            table,
            row_check,
            judge,
            reader,
            named,
            in_python,
        )
        enter(name, Task(name, version, paper, sampler, function, lengths | parameters, *fields))
        return function

    return register
