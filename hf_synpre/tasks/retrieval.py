"""Tasks that look things up far back in a row: copying, keys with their values, repeated lists."""

import math

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.id_sets import contains, insert, new_bits
from hf_synpre.tasks.kernels import (
    ARGUMENT_DIVIDER,
    ARGUMENTS,
    CLOSE,
    FIRST_REGULAR,
    IGNORED,
    MAX_LENGTH,
    MIN_LENGTH,
    OPEN,
    REGULAR_COUNT,
)
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, between, copy, kernel
from hf_synpre.tasks.samplers import NO_TARGET, draw_by_weight, fill_tokens
from hf_synpre.tasks.task import only_regular_tokens
from hf_synpre.vocabulary import Vocabulary

COPY_PAPER = "Hu et al. 2025, arXiv 2502.19249"
NEEDLE_PAPER = "Jiang et al. 2026, arXiv 2601.21725"
MQAR_PAPER = "Arora et al. 2023, arXiv 2312.04927"
VERBATIM_PAPER = "of hf_synpre, after a measure of arXiv 2609.39827"


# --- copy -----------------------------------------------------------------------------------------


def doubled(state, x, y, p):
    """Draw n = U{min..max} uniform tokens, the divider, and the tokens again."""
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    fill_tokens(state, x[:n], p)
    x[n] = p[ARGUMENT_DIVIDER]
    copy(x[:n], x[n + 1 :])
    return 2 * n + 1, NO_TARGET


def doubled_surprisal(x, out, p):
    """Write the surprisal of each token: that of the first half and of its length."""
    n = len(x) // 2
    for i in range(len(x)):
        # Whether the divider comes is uncertain between the shortest and the longest length.
        ends = 0.0
        if p[MIN_LENGTH] <= i <= p[MAX_LENGTH]:
            ends = 1.0 / (p[MAX_LENGTH] - i + 1)
        if i < n:
            out[i] = math.log(p[REGULAR_COUNT]) - math.log(1 - ends)
        elif i == n:
            out[i] = -math.log(ends)
        else:
            out[i] = 0.0


def check_doubled(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row of `copy`, or None."""
    n = len(body) // 2
    divider = vocabulary.special_ids["argument_divider"]
    if len(body) != 2 * n + 1 or body[n] != divider:
        return f"the argument divider {divider} is not in the middle."
    if (body[:n] != body[n + 1 :]).any():
        return "the second half is no copy of the first."
    return only_regular_tokens(body[:n], vocabulary, parameters)


def twice_and_one(parameters: Parameters) -> tuple[int, int]:
    """Return the longest row of `copy`, twice: as ids and as labels."""
    n = 2 * parameters["max_length"] + 1
    return n, n


@register_task(
    doubled,
    paper=COPY_PAPER,
    bounds=twice_and_one,
    row_check=check_doubled,
    named=False,
    sequence=True,
    surprisal=doubled_surprisal,
    min_length=10,
    max_length=510,
)
def copy_(x, y, p):
    """Return the sequence: uniform tokens, a divider, the same tokens.
    Every token is scored, so half of the loss cannot be learnt. It is a control that looks useful:
    the paper found no gain from it.

    input   a b c | a b c
    target  a b c | a b c
    """
    copy(x, y)
    return len(x)


# --- needle ---------------------------------------------------------------------------------------

PAIRS = ARGUMENTS


@kernel
def draw_keys(state, keys, p):
    """Fill `keys` with different tokens of the upper half of the regular ones."""
    half = p[REGULAR_COUNT] // 2
    bits = new_bits(p)
    for i in range(len(keys)):
        keys[i] = p[FIRST_REGULAR] + half + below(state, half)
        while not insert(bits, keys[i]):
            keys[i] = p[FIRST_REGULAR] + half + below(state, half)


def pairs_and_query(state, x, y, p):
    """Draw n = U{1..pairs} pairs of a key and a value, and one of the keys again."""
    n = between(state, 1, p[PAIRS])
    keys = y[:n]
    draw_keys(state, keys, p)
    for i in range(n):
        x[2 * i] = keys[i]
        x[2 * i + 1] = p[FIRST_REGULAR] + below(state, p[REGULAR_COUNT] // 2)
    x[2 * n] = keys[below(state, n)]
    return 2 * n + 1, NO_TARGET


def check_pairs(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of `needle`, or None."""
    if parameters["pairs"] < 1:
        return f"pairs is {parameters['pairs']}; give an integer >= 1."
    return None


def check_needle(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row of `needle`, or None."""
    if len(body) % 2 == 0 or len(body) < 3:
        return f"it has {len(body)} ids; give pairs of a key and a value, then a key."
    if body[-1] not in body[:-1:2]:
        return f"the last id {body[-1]} is none of the keys."
    return only_regular_tokens(body, vocabulary, parameters)


@register_task(
    pairs_and_query,
    paper=NEEDLE_PAPER,
    bounds=lambda parameters: (2 * parameters["pairs"] + 1, parameters["pairs"]),
    check_parameters=check_pairs,
    lowest_max_length=None,
    regular_tokens=lambda parameters: max(4, 2 * parameters["pairs"]),
    row_check=check_needle,
    named=False,
    pairs=30,
)
def needle(x, y, p):
    """Return the value of the last key.
    The input has up to `pairs` pairs of a key, which is a token of the upper half of the regular
    ones, and a value, which is one of the lower half; then one of the keys again.

    input   x a y b z a y
    target  b
    """
    i = 0
    while x[i] != x[len(x) - 1]:
        i += 2
    y[0] = x[i + 1]
    return 1


# --- mqar -----------------------------------------------------------------------------------------

LENGTH, KEYS, TABLE = range(ARGUMENTS, ARGUMENTS + 3)
# The weight of the first gap; that of gap g is its g-th part.
GAP_WEIGHT = 2**24


def gap_table(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the cumulative weights of the gaps between the pairs and a query, int64[gaps]."""
    gaps = (parameters["length"] - 2 * parameters["keys"]) // 2
    return np.cumsum(GAP_WEIGHT // np.arange(1, gaps + 1, dtype=np.int64))


def pairs_and_queries(state, x, y, p):
    """Draw pairs of a key and a value; then each key once more, with its value, among filler.

    Keys are of the upper half of the regular tokens, values different ones of the lower half. A
    gap is drawn for each key, without replacement. Filler is uniform, and no key of the row.
    """
    n, keys = p[LENGTH], p[KEYS]
    half, first = p[REGULAR_COUNT] // 2, p[FIRST_REGULAR]
    gap_weights = p[TABLE : TABLE + (n - 2 * keys) // 2]

    # The pairs; bits hold the keys and the values that are taken.
    bits, taken = new_bits(p), new_bits(p)
    for i in range(keys):
        x[2 * i] = first + half + below(state, half)
        while not insert(bits, x[2 * i]):
            x[2 * i] = first + half + below(state, half)
        x[2 * i + 1] = first + below(state, half)
        while not insert(taken, x[2 * i + 1]):
            x[2 * i + 1] = first + below(state, half)

    # Filler, then the queries over it.
    for i in range(2 * keys, n):
        x[i] = first + below(state, p[REGULAR_COUNT])
        while contains(bits, x[i]):
            x[i] = first + below(state, p[REGULAR_COUNT])
    for i in range(keys):
        at = 2 * keys + 2 * draw_by_weight(state, gap_weights)
        while contains(bits, x[at]):
            at = 2 * keys + 2 * draw_by_weight(state, gap_weights)
        x[at], x[at + 1] = x[2 * i], x[2 * i + 1]
    return n, NO_TARGET


def check_mqar(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of `mqar`, or None."""
    length, keys = parameters["length"], parameters["keys"]
    if keys < 1:
        return f"keys is {keys}; give an integer >= 1."
    if length % 2 or length < 4 * keys:
        return f"length is {length}; give an even one, at least {4 * keys} for {keys} keys."
    return None


def check_mqar_row(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row of `mqar`, or None."""
    start = 2 * parameters["keys"]
    if len(body) < start or len(set(body[:start:2].tolist())) < parameters["keys"]:
        return f"it does not begin with {parameters['keys']} pairs of different keys."
    return only_regular_tokens(body, vocabulary, parameters)


@register_task(
    pairs_and_queries,
    paper=MQAR_PAPER,
    bounds=lambda parameters: (parameters["length"], parameters["length"]),
    check_parameters=check_mqar,
    lowest_max_length=None,
    regular_tokens=lambda parameters: max(4, 4 * parameters["keys"]),
    vocabulary_table=gap_table,
    row_check=check_mqar_row,
    named=False,
    sequence=True,
    length=128,
    keys=8,
)
def mqar(x, y, p):
    """Return the values behind the keys that are asked for (multi-query associative recall).
    A row begins with `keys` pairs of a key and a value. Each key stands once more among filler, at
    a gap g with the weight 1 / g, and its value follows. The values that follow are scored.

    input   x a y b c y b d x a
    target  . . . . . . b . . a
    """
    keys = p[KEYS]
    for i in range(len(x)):
        y[i] = IGNORED
    for i in range(2 * keys, len(x) - 1):
        for k in range(keys):
            if x[i] == x[2 * k]:
                y[i + 1] = x[2 * k + 1]
    return len(x)


# --- verbatim -------------------------------------------------------------------------------------

MIN_ITEMS, MAX_ITEMS, GAP = range(ARGUMENTS, ARGUMENTS + 3)


def list_and_again(state, x, y, p):
    """Draw filler, a list of n = U{min_items..max_items} tokens, filler, and the list again.

    Each filler has U{0..gap} tokens. All tokens are uniform. The list stands in brackets.
    """
    n = between(state, p[MIN_ITEMS], p[MAX_ITEMS])
    before, after = between(state, 0, p[GAP]), between(state, 0, p[GAP])
    again = before + n + after + 3
    fill_tokens(state, x[: again + n], p)
    x[before] = x[again - 1] = p[OPEN]
    x[before + n + 1] = p[CLOSE]
    copy(x[before + 1 : before + 1 + n], x[again:])
    return again + n, NO_TARGET


def verbatim_bounds(parameters: Parameters) -> tuple[int, int]:
    """Return the longest row of `verbatim`, twice: as ids and as labels."""
    n = 2 * (parameters["max_items"] + parameters["gap"]) + 3
    return n, n


def check_items(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of `verbatim`, or None."""
    low, high = parameters["min_items"], parameters["max_items"]
    if not 1 <= low <= high:
        return f"min_items is {low} and max_items {high}; give 1 <= min_items <= max_items."
    return None


def check_verbatim(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row of `verbatim`, or None."""
    opening = np.flatnonzero(body == vocabulary.special_ids["open"])
    closing = np.flatnonzero(body == vocabulary.special_ids["close"])
    if len(opening) != 2 or len(closing) != 1 or not opening[0] < closing[0] < opening[1]:
        return "it has no list in brackets before the bracket that opens it again."
    marks = [*opening, *closing]
    return only_regular_tokens(np.delete(body, marks), vocabulary, parameters)


@register_task(
    list_and_again,
    paper=VERBATIM_PAPER,
    bounds=verbatim_bounds,
    check_parameters=check_items,
    lowest_max_length=None,
    row_check=check_verbatim,
    named=False,
    sequence=True,
    min_items=8,
    max_items=32,
    gap=32,
)
def verbatim(x, y, p):
    """Return a list that stands further back in the row, from where its bracket opens again.
    Before the list and behind it are up to `gap` tokens of filler. The list is scored where it
    stands the second time.

    input   d [ a b c ] e d [ a b c
    target  . . . . . . . . . a b c
    """
    start, again = 0, len(x) - 1
    while x[start] != p[OPEN]:
        start += 1
    while x[again] != p[OPEN]:
        again -= 1
    for i in range(again + 1):
        y[i] = IGNORED
    copy(x[start + 1 : start + len(x) - again], y[again + 1 :])
    return len(x)
