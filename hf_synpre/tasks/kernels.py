"""What compiled task code gets and gives: the layout of the vector `p`, signatures, compilation.

A task is two compiled functions over integer arrays:

    sampler(state, x, y, p) -> (n, m)   fills x with the body of an input of n tokens. m = -1 leaves
                                        the target to the function; m >= 0 says that the sampler
                                        wrote m tokens of target to y itself (tasks that invert a
                                        function); until then y is scratch space
    function(x, y, p) -> m              fills y with the target of the body x, m tokens

Where a row is one sequence (`sequence` of register_task), the function writes n labels: at a
position that is scored its token, elsewhere IGNORED. A task may have a third function:

    surprisal(x, out, p)                fills out with -log p of each token of x given those before:
                                        of a sequence, or of an input with its target behind it

    state   uint64[1]               the state of the random generator (rng.py)
    x, y    int32[longest body], int32[longest target]
    out     float64[body]           in nats
    p       int64[...]              the vocabulary and the parameters:

    p[FIRST_REGULAR], p[REGULAR_COUNT]      the regular tokens are the ids p[FIRST_REGULAR] ..
                                            p[FIRST_REGULAR] + p[REGULAR_COUNT] - 1
    p[MIN_LENGTH], p[MAX_LENGTH]            bounds of the body's length, 0 for tasks without them
    p[NAME_DIVIDER] .. p[CLOSE]             the ids of the special tokens
    p[ARGUMENTS + k]                        the task's k-th parameter besides its lengths
    behind them                             the task's table: ids of numbers, ids of words
"""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core.errors import NumbaError

from hf_synpre.errors import UsageError
from hf_synpre.vocabulary import SPECIAL_TOKENS

FIRST_REGULAR, REGULAR_COUNT, MIN_LENGTH, MAX_LENGTH = range(4)
# In the order of SPECIAL_TOKENS.
NAME_DIVIDER, WORD_DIVIDER, ARGUMENT_DIVIDER, EMPTY, YES, NO = range(4, 10)
COLON, SEPARATOR, UPPER, OPEN, LOWER, MATH, CLOSE = range(10, 17)
ARGUMENTS = 4 + len(SPECIAL_TOKENS)

# A compiler's error is quoted up to so many characters.
LONGEST_CAUSE = 200
# The colours that it has in a terminal.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# The types of arrays in compiled signatures: ids, and the int64 vector `p`.
IDS = types.int32[::1]
PARAMETER_VECTOR = types.int64[::1]
STATE = types.uint64[::1]

SAMPLER = types.FunctionType(
    types.UniTuple(types.int64, 2)(STATE, IDS, IDS, PARAMETER_VECTOR)  # (state, x, y, p) -> (n, m)
)
FUNCTION = types.FunctionType(types.int64(IDS, IDS, PARAMETER_VECTOR))  # (x, y, p) -> m
SURPRISAL = types.void(IDS, types.float64[::1], PARAMETER_VECTOR)  # (x, out, p)

# The label of a position that no loss counts (transformers' own value).
IGNORED = -100


@functools.cache
def compile_sampler(sampler: Callable) -> Callable:
    """Return the sampler in machine code: compiled on first use, then read from the disk cache.

    Raises UsageError where Numba cannot compile it.
    """
    return compiled(sampler, SAMPLER.signature)


@functools.cache
def compile_function(function: Callable) -> Callable:
    """Return the function in machine code: compiled on first use, then read from the disk cache.

    Raises UsageError where Numba cannot compile it.
    """
    return compiled(function, FUNCTION.signature)


@functools.cache
def compile_surprisal(surprisal: Callable) -> Callable:
    """Return the function of surprisal in machine code.

    Raises UsageError where Numba cannot compile it.
    """
    return compiled(surprisal, SURPRISAL)


def compiled(function: Callable, signature: Any) -> Callable:
    """Return a function of a task in machine code.

    Args:
        function: the function.
        signature: the types of its arguments and of its result.

    Raises:
        UsageError: Numba cannot compile it; the message has the line and the cause.
    """
    try:
        try:
            return njit(signature, cache=True)(function)
        except RuntimeError as error:
            # Code from standard input or exec has no file, so its machine code has no cache.
            if "cannot cache function" not in str(error):
                raise
            return njit(signature)(function)
    except NumbaError as error:
        # The first line says only in which step of the compiler it was.
        plain = COLOUR.sub("", str(error))
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        cause = " ".join(lines[1:2] or lines)[:LONGEST_CAUSE]
        line = getattr(getattr(error, "loc", None), "line", None)
        place = f"{inspect.getfile(function)}, line {line}" if line else "its code"
        raise UsageError(
            f"The function {function.__name__} of a task cannot be compiled: {cause} ({place}). "
            "It may use integers, arrays and functions made by numba.njit alone, and is written "
            "for the arguments in hf_synpre/tasks/kernels.py."
        ) from error


def target_of_the_sampler(x, y, p):
    """Stand for the function of tasks solved in Python: their samplers write every target."""
    return 0
