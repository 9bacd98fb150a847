"""What compiled task code gets and gives: the layout of the vector `p`, signatures, compilation.

A task is two compiled functions over integer arrays:

    sampler(state, x, y, p) -> (n, m)   fills x with the body of an input of n tokens. m = -1 leaves
                                        the target to the function; m >= 0 says that the sampler
                                        wrote m tokens of target to y itself (tasks that invert a
                                        function); until then y is scratch space
    function(x, y, p) -> m              fills y with the target of the body x, m tokens

    state   uint64[1]               the state of the random generator (rng.py)
    x, y    int32[longest body], int32[longest target]
    p       int64[...]              the vocabulary and the parameters:

    p[FIRST_REGULAR], p[REGULAR_COUNT]      the regular tokens are the ids p[FIRST_REGULAR] ..
                                            p[FIRST_REGULAR] + p[REGULAR_COUNT] - 1
    p[MIN_LENGTH], p[MAX_LENGTH]            bounds of the body's length, 0 for tasks without them
    p[NAME_DIVIDER] .. p[CLOSE]             the ids of the special tokens
    p[ARGUMENTS + k]                        the task's k-th parameter besides its lengths
    behind them                             the task's table: ids of numbers, ids of words
"""

import functools
from collections.abc import Callable

from numba import njit, types

from hf_synpre.vocabulary import SPECIAL_TOKENS

FIRST_REGULAR, REGULAR_COUNT, MIN_LENGTH, MAX_LENGTH = range(4)
# In the order of SPECIAL_TOKENS.
NAME_DIVIDER, WORD_DIVIDER, ARGUMENT_DIVIDER, EMPTY, YES, NO = range(4, 10)
COLON, SEPARATOR, UPPER, OPEN, LOWER, MATH, CLOSE = range(10, 17)
ARGUMENTS = 4 + len(SPECIAL_TOKENS)

# The types of arrays in compiled signatures: ids, and the int64 vector `p`.
IDS = types.int32[::1]
PARAMETER_VECTOR = types.int64[::1]
STATE = types.uint64[::1]

SAMPLER = types.FunctionType(
    types.UniTuple(types.int64, 2)(STATE, IDS, IDS, PARAMETER_VECTOR)  # (state, x, y, p) -> (n, m)
)
FUNCTION = types.FunctionType(types.int64(IDS, IDS, PARAMETER_VECTOR))  # (x, y, p) -> m


@functools.cache
def compile_sampler(sampler: Callable) -> Callable:
    """Return the sampler in machine code: compiled on first use, then read from the disk cache."""
    return njit(SAMPLER.signature, cache=True)(sampler)


@functools.cache
def compile_function(function: Callable) -> Callable:
    """Return the function in machine code: compiled on first use, then read from the disk cache."""
    return njit(FUNCTION.signature, cache=True)(function)


def target_of_the_sampler(x, y, p):
    """Stand for the function of tasks solved in Python: their samplers write every target."""
    return 0
