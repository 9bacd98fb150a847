"""Compiled counter-based random draws: a key and a row number come in, integers go out.

Row i of a stream starts at hash(key, i); nothing is global. The generator is SplitMix64 (Steele,
Lea, Flood 2014): the state advances by a constant and each output is a bijective mix of it, so a
run of draws has no serial dependency and compiles to vector code. A bounded draw is the high word
of (64 random bits) x n, for n < 2**32: its bias is below n / 2**64 and it needs no rejection.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from numba import njit

from hf_synpre.errors import UsageError, as_integer, in_message

# SplitMix64's constants: the increment of the state, then the multipliers and shifts of the mix.
GAMMA = np.uint64(0x9E3779B97F4A7C15)
MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
MULTIPLY_2 = np.uint64(0x94D049BB133111EB)
SHIFT_27, SHIFT_30, SHIFT_31 = np.uint64(27), np.uint64(30), np.uint64(31)

# A product with a number of 32 bits is taken in two halves, because it has up to 96 bits.
LOW_WORD = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)

SPLITS = ("train", "validation", "test")

# For functions that only compiled code calls: without entries for Python they compile in half the
# time.
kernel = njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@njit(cache=True)
def mix(z):
    """Return the SplitMix64 output of a state: uint64 -> uint64, a bijection."""
    z = (z ^ (z >> SHIFT_30)) * MULTIPLY_1
    z = (z ^ (z >> SHIFT_27)) * MULTIPLY_2
    return z ^ (z >> SHIFT_31)


@njit(cache=True)
def start_row(state, key, index):
    """Put `state` (uint64[1]) at the start of row `index` of the stream `key`."""
    state[0] = mix(key ^ mix(np.uint64(index) + GAMMA))


@njit(cache=True)
def scale(bits, n):
    """Map 64 random bits to 0..n-1 (int64), n < 2**32."""
    n = np.uint64(n)
    high = (bits >> SHIFT_32) * n
    low = (bits & LOW_WORD) * n
    return np.int64((high + (low >> SHIFT_32)) >> SHIFT_32)


@njit(cache=True)
def below(state, n):
    """Return one uniform integer in 0..n-1."""
    state[0] += GAMMA
    return scale(mix(state[0]), n)


@njit(cache=True)
def two_below(state, m, n):
    """Return two uniform integers in 0..m-1 and 0..n-1, of one draw: for m and n below 2**16.

    Each is made of 32 bits, with a bias below its bound / 2**32.
    """
    state[0] += GAMMA
    bits = mix(state[0])
    high, low = bits >> SHIFT_32, bits & LOW_WORD
    return (
        np.int64(high * np.uint64(m) >> SHIFT_32),
        np.int64(low * np.uint64(n) >> SHIFT_32),
    )


@njit(cache=True)
def between(state, low, high):
    """Return one uniform integer in low..high, both ends included (the papers' U{low..high})."""
    return low + below(state, high - low + 1)


@njit(cache=True)
def fill_between(state, out, low, high):
    """Fill `out` with independent uniform integers in low..high, as repeated `between` does."""
    base = state[0]
    for i in range(len(out)):
        out[i] = low + scale(mix(base + np.uint64(i + 1) * GAMMA), high - low + 1)
    state[0] = base + np.uint64(len(out)) * GAMMA


@njit(cache=True)
def copy(x, y):
    """Write x to the start of y.

    A plain loop compiles in a tenth of the time of y[:n] = x and runs as fast.
    """
    for i in range(len(x)):
        y[i] = x[i]


@njit(cache=True)
def shuffle(state, x, scratch):
    """Permute `x` uniformly in place (Fisher-Yates).

    `scratch`, no shorter, takes all draws first, so that they compile to vector code.
    """
    n, base = len(x), state[0]
    for i in range(1, n):
        scratch[i] = scale(mix(base + np.uint64(n - i) * GAMMA), i + 1)
    for i in range(n - 1, 0, -1):
        j = scratch[i]
        x[i], x[j] = x[j], x[i]
    if n > 1:
        state[0] = base + np.uint64(n - 1) * GAMMA


def stream_key(
    task: str, version: int, parameters: Mapping[str, object], split: str, seed: int
) -> np.uint64:
    """Return the 64-bit key of a stream: a hash of all that names it.

    Args:
        task: the name of the task or mixture.
        version: its version.
        parameters: what else tells the stream from others, by name: numbers, words, lists of
            numbers.
        split: train, validation or test.
        seed: an integer >= 0, below 2**63.

    Raises:
        UsageError: there is no such split, or the seed is no such integer.
    """
    if split not in SPLITS:
        raise UsageError(f"Unknown split '{split}'. Allowed: {', '.join(SPLITS)}.")
    number = as_integer(seed)
    if number is None or not 0 <= number < 2**63:
        raise UsageError(f"seed is {in_message(seed)}; give an integer >= 0, below 2**63.")
    identity = json.dumps([task, version, dict(sorted(parameters.items())), split, number])
    digest = hashlib.blake2b(identity.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
