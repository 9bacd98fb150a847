"""Endless sequences of rows: indices come in, token ids of inputs and targets go out.

Row i is a pure function of (task, version, parameters, vocabulary, split, seed, i): the same in
every process, in every order, in every batch. A `RowStream` is what opens a task: a `Stream` of one
task, a `MixtureStream` of several.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numba import njit, types

from hf_synpre.errors import UsageError
from hf_synpre.tasks import rng
from hf_synpre.tasks.kernels import (
    EMPTY,
    FUNCTION,
    IDS,
    IGNORED,
    MAX_LENGTH,
    PARAMETER_VECTOR,
    SAMPLER,
)
from hf_synpre.vocabulary import Vocabulary

if TYPE_CHECKING:
    from hf_synpre.tasks.base import Parameters, SyntheticTask
    from hf_synpre.tasks.mixture import Mixture
    from hf_synpre.tasks.task import Task

# n rows: the inputs' ids one row after the other, int32; their offsets, int32[n + 1], row i being
# ids[offsets[i]:offsets[i + 1]]; the targets' ids and offsets likewise.
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

# Rows of a task of one's own that are tried before it is run as machine code, and the most ids of
# one: Python is slow.
TRIAL_ROWS = 8
LONGEST_TRIAL = 4096
UNWRITTEN = -(2**31)  # in a trial's target

FILL_ROWS = types.int64(
    SAMPLER,
    FUNCTION,
    types.uint64,  # key
    types.int64[::1],  # indices
    PARAMETER_VECTOR,  # p
    types.int64,  # curriculum_rows
    types.int64,  # shortest
    IDS,  # prefix
    types.int64,  # longest_body
    types.int64,  # longest_target
    IDS,  # x
    IDS,  # y
    IDS,  # x_ends
    IDS,  # y_ends
)


class RowStream(Protocol):
    """One endless sequence of rows, whatever it comes from."""

    @property
    def task(self) -> "SyntheticTask":
        """The task of the rows, or a mixture of tasks."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the rows."""
        ...

    @property
    def key(self) -> np.uint64:
        """The hash of all that names the stream: streams of different keys share no rows."""
        ...

    @property
    def bounds(self) -> tuple[int, int]:
        """The tokens of the longest input row and of the longest target."""
        ...

    def rows(self, indices: np.ndarray) -> Rows:
        """Return the rows at some indices.

        Args:
            indices: the numbers of the rows, int64[n], in any order.

        Returns:
            (input ids, input offsets, target ids, target offsets), flat int32; see `Rows`.

        Raises:
            UsageError: the rows are too many for offsets of 32 bits.
        """
        ...


@dataclass(frozen=True, repr=False)
class Stream:
    """The rows of one task.

    Raises UsageError where split, seed, vocabulary or curriculum do not fit the task.
    """

    task: "Task"
    # All parameters of the task, as `Task.resolve` gives them.
    parameters: "Parameters"
    vocabulary: Vocabulary
    # train, validation or test.
    split: str = "train"
    seed: int = 0
    # The length curriculum: over this many first rows the longest body grows linearly from the
    # shortest possible to max_length; 0 is none.
    curriculum_rows: int = 0
    # Text in the key by which the streams of a mixture differ from those of its tasks.
    salt: str = ""

    def __post_init__(self) -> None:
        if self.curriculum_rows and self.task.lowest_max_length is None:
            raise UsageError(
                f"{self.task.name} has no range of lengths, so a length curriculum cannot apply; "
                "leave it out."
            )
        # Compute both now: what is wrong raises here, and not at the first row.
        _ = self.key
        _ = self.parameter_vector
        if not str(self.task.function.__module__).startswith("hf_synpre."):
            try_rows(self)

    def __repr__(self) -> str:
        return describe_stream(self, self.parameters)

    @functools.cached_property
    def key(self) -> np.uint64:
        """The hash of all that names the stream."""
        # These words are part of the published rows' keys: they stay, whatever the code calls the
        # fields.
        named = self.task.named_parameters(self.parameters)
        if self.curriculum_rows:
            named["ramp"] = self.curriculum_rows
        if self.salt:
            named["salt"] = self.salt
        return rng.stream_key(self.task.name, self.task.version, named, self.split, self.seed)

    @functools.cached_property
    def parameter_vector(self) -> np.ndarray:
        """The vector `p` of compiled code, int64 (kernels.py)."""
        return self.task.parameter_vector(self.vocabulary, self.parameters)

    @functools.cached_property
    def prefix(self) -> np.ndarray:
        """The ids at the start of every row, int32."""
        return self.task.prefix(self.vocabulary)

    @functools.cached_property
    def bounds(self) -> tuple[int, int]:
        """The tokens of the longest input row and of the longest target."""
        body, target = self.task.bounds(self.parameters)
        return len(self.prefix) + body, target

    def rows(self, indices: np.ndarray) -> Rows:
        """Return the rows at some indices; see `RowStream.rows`."""
        indices = writable_indices(indices)
        longest_row, longest_target = self.bounds
        n, longest = len(indices), max(self.bounds)
        if n * longest >= 2**31:
            raise UsageError(
                f"{n} rows at once overflow 32-bit offsets; ask for at most {2**31 // longest}."
            )

        # Room for n rows of full length; what is written is cut off at the end.
        x = np.empty(n * longest_row, np.int32)
        y = np.empty(n * longest_target, np.int32)
        x_ends = np.zeros(n + 1, np.int32)
        y_ends = np.zeros(n + 1, np.int32)

        # The length from which a curriculum grows.
        shortest = 0
        if self.task.lowest_max_length is not None:
            shortest = self.task.lowest_max_length(self.parameters)

        sampler, function = self.task.compiled
        with np.errstate(over="ignore"):  # random bits overflow where NUMBA_DISABLE_JIT is set
            wrong_row = _compiled_fill_rows()(
                sampler,
                function,
                self.key,
                indices,
                self.parameter_vector,
                self.curriculum_rows,
                shortest,
                self.prefix,
                longest_row - len(self.prefix),
                longest_target,
                x,
                y,
                x_ends,
                y_ends,
            )
        if wrong_row >= 0:
            raise UsageError(
                f"{self.task.name}: row {indices[wrong_row]} is longer than register_task says "
                f"(an input of {longest_row - len(self.prefix)} ids, a target of "
                f"{longest_target}); give bounds=."
            )
        return x[: x_ends[-1]], x_ends, y[: y_ends[-1]], y_ends


@functools.cache
def _compiled_fill_rows() -> Callable:
    """Return the loop over rows in machine code, which lets other Python threads run meanwhile."""
    return njit(FILL_ROWS, cache=True, nogil=True)(_fill_rows)


def _fill_rows(
    sampler,
    function,
    key,
    indices,
    p,
    curriculum_rows,
    shortest,
    prefix,
    longest_body,
    longest_target,
    x,
    y,
    x_ends,
    y_ends,
):
    """Fill x and y with rows one after the other, and x_ends[1:] and y_ends[1:] with their ends.

    Returns -1, or the number of the first row that is longer than there is room.
    """
    state = np.empty(1, np.uint64)
    p = p.copy()  # the curriculum changes p[MAX_LENGTH]
    full_length = p[MAX_LENGTH]
    a = b = 0  # tokens written to x and to y
    for row in range(len(indices)):
        rng.start_row(state, key, indices[row])
        if curriculum_rows > 0:
            growth = (full_length - shortest) * min(indices[row], curriculum_rows)
            p[MAX_LENGTH] = shortest + growth // curriculum_rows

        # The input: the prefix, then a body of n tokens.
        for token in prefix:
            x[a] = token
            a += 1
        target = y[b : b + longest_target]  # [longest target]
        n, m = sampler(state, x[a : a + longest_body], target, p)

        # The target: m tokens of the sampler or of the function, or the sign of an empty target.
        if m < 0:
            m = function(x[a : a + n], target, p)
        if m == 0:
            target[0] = p[EMPTY]
            m = 1
        if n > longest_body or m > longest_target:
            return row

        a += n
        b += m
        x_ends[row + 1] = a
        y_ends[row + 1] = b
    return -1


@dataclass(frozen=True, repr=False)
class MixtureStream:
    """The rows of several tasks: row i is row i of the one that hash(key, i) draws."""

    task: "Mixture"
    # One stream a task of the mixture, in its order.
    streams: tuple[Stream, ...]
    vocabulary: Vocabulary
    split: str = "train"
    seed: int = 0

    def __repr__(self) -> str:
        return describe_stream(self, {})

    @functools.cached_property
    def key(self) -> np.uint64:
        """The hash of all that names the stream."""
        named: dict[str, int | list[int]] = {}
        for stream in self.streams:
            named[stream.task.name] = int(stream.key)
        named["weights"] = list(self.task.weights)
        return rng.stream_key(self.task.name, self.task.version, named, self.split, self.seed)

    @functools.cached_property
    def bounds(self) -> tuple[int, int]:
        """The tokens of the longest input row and of the longest target."""
        longest_rows, longest_targets = zip(
            *(stream.bounds for stream in self.streams), strict=True
        )
        return max(longest_rows), max(longest_targets)

    def choices(self, indices: np.ndarray) -> np.ndarray:
        """Return the number of the task that each row comes from, int64[n]."""
        weights = np.array(self.task.weights, np.int64)
        with np.errstate(over="ignore"):  # random bits overflow where NUMBA_DISABLE_JIT is set
            return _choose_tasks(self.key, indices, np.cumsum(weights))

    def rows(self, indices: np.ndarray) -> Rows:
        """Return the rows at some indices; see `RowStream.rows`."""
        indices = writable_indices(indices)
        choices = self.choices(indices)  # [n]
        inputs, targets = [], []
        for number, stream in enumerate(self.streams):
            x, x_ends, y, y_ends = stream.rows(indices[choices == number])
            inputs.append((x, x_ends))
            targets.append((y, y_ends))
        return (*_merge_rows(choices, inputs), *_merge_rows(choices, targets))


def try_rows(stream: Stream) -> None:
    """Compute some targets of a task of one's own in plain Python.

    There a write outside of an array is an error; compiled code would write over other memory.

    Raises:
        UsageError: the function reads or writes outside of its arrays, leaves a part of the target
            unwritten, writes what is no id, or scores no token of a sequence.
    """
    task = stream.task
    longest_body, longest_target = task.bounds(stream.parameters)
    if task.in_python or max(longest_body, longest_target) > LONGEST_TRIAL:
        return

    sampler = task.compiled[0]
    function = getattr(task.function, "py_func", task.function)
    state = np.empty(1, np.uint64)
    scored = 0
    for index in range(TRIAL_ROWS):
        body = np.empty(longest_body, np.int32)
        target = np.full(longest_target, UNWRITTEN, np.int32)
        p = stream.parameter_vector.copy()
        with np.errstate(all="ignore"):
            rng.start_row(state, stream.key, index)
            n, m = sampler(state, body, target, p)
            try:
                # A copy of the input has its own length, so that its end is an end for Python too.
                m = function(body[:n].copy(), target, p) if m < 0 else m
            except IndexError as error:
                raise UsageError(
                    f"{task.name}: its function leaves its arrays on an input of {n} ids "
                    f"({error}); y has room for {longest_target} ids, which bounds= of "
                    "register_task can change."
                ) from error

        if task.is_sequence and m != n:
            raise UsageError(
                f"{task.name}: its function writes {m} labels for a sequence of {n} ids; write one "
                "for each id, -100 where it is not scored."
            )
        for position, token in enumerate(target[:m].tolist()):
            if task.is_sequence and token == IGNORED:
                continue
            scored += 1
            if not 0 <= token < stream.vocabulary.size:
                wrong = "is not written" if token == UNWRITTEN else f"is {token}"
                raise UsageError(
                    f"{task.name}: y[{position}] {wrong} on an input of {n} ids, whose target has "
                    f"{m}; write ids of 0..{stream.vocabulary.size - 1}."
                )
    if not scored:
        raise UsageError(
            f"{task.name}: its function scores no token of the first {TRIAL_ROWS} rows; write the "
            "token to y where it is to be predicted, and -100 elsewhere."
        )


def writable_indices(indices: np.ndarray) -> np.ndarray:
    """Return indices as compiled code takes them: int64[n], contiguous, not read-only."""
    return np.require(indices, np.int64, ["C", "W"])


def describe_stream(stream: "Stream | MixtureStream", parameters: "Parameters") -> str:
    """Return what a stream's rows are: task, split, seed, vocabulary and parameters."""
    parts = [repr(stream.task.name), f"split={stream.split!r}", f"seed={stream.seed}"]
    parts.append(f"vocabulary of {stream.vocabulary.size} ids")
    parts += [f"{name}={value!r}" for name, value in parameters.items()]
    return f"{type(stream).__name__}({', '.join(parts)})"


@njit(cache=True)
def _choose_tasks(key, indices, cumulative_weights):
    """Return the number of the task that each row comes from, int64[n]."""
    state = np.empty(1, np.uint64)
    choices = np.empty(len(indices), np.int64)
    for row in range(len(indices)):
        rng.start_row(state, key, indices[row])
        ticket = rng.below(state, cumulative_weights[-1])
        number = 0
        while ticket >= cumulative_weights[number]:
            number += 1
        choices[row] = number
    return choices


def _merge_rows(
    choices: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids, offsets) of the rows of several parts in the order of `choices`.

    Args:
        choices: the number of the part that each row comes from, int64[n].
        parts: (ids, offsets) of each part's rows, in order.
    """
    lengths = np.empty(len(choices), np.int32)  # [n]
    for number, (_, part_ends) in enumerate(parts):
        lengths[choices == number] = np.diff(part_ends)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)  # [n + 1]

    ids = np.empty(ends[-1], np.int32)
    for number, (part_ids, part_ends) in enumerate(parts):
        starts = ends[:-1][choices == number]  # [rows of the part]
        copy_rows(ids, starts, part_ids, part_ends)
    return ids, ends


@njit(cache=True)
def copy_rows(out, starts, ids, ends):
    """Copy row k of (ids, ends) to out[starts[k]:], for all k."""
    for row in range(len(starts)):
        rng.copy(ids[ends[row] : ends[row + 1]], out[starts[row] :])
