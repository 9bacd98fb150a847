"""Formal languages to pre-train on: random bits come in, sentences without a target go out.

`nesting_language` is that of Ri, Tsuruoka 2022 (docs/papers.md, "Nesting language"): pairs of
brackets of many kinds, each head closed by its tail. Regular tokens are cut in two: the first half
are heads, and the tail of head h is h + half.

`uniform` is a control: sentences of independent uniform tokens, in which there is nothing to learn.
"""

import functools

import numpy as np

from hf_synpre.tasks import samplers
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import (
    ARGUMENTS,
    FIRST_REGULAR,
    MAX_LENGTH,
    MIN_LENGTH,
    REGULAR_COUNT,
)
from hf_synpre.tasks.registry import only_regular_tokens, register_task
from hf_synpre.tasks.rng import below, between, copy, fill_between, kernel
from hf_synpre.vocabulary import Vocabulary

PAPER = "Ri, Tsuruoka 2022, arXiv 2203.10326"

# Where compiled code finds the parameters and the table of Zipf's distribution in `p`.
OPEN_PERCENT, DISTRIBUTION, TABLE = range(ARGUMENTS, ARGUMENTS + 3)
# The number of "zipf" among the choices of the parameter `distribution`.
ZIPF = 0


def zipf_table(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the table at p[TABLE] that `draw_heads` reads."""
    return alias_table(vocabulary.regular_count // 2)


@functools.lru_cache(maxsize=4)
def alias_table(pairs: int) -> np.ndarray:
    """Return Walker's alias table of the weights int(pairs / rank) over that many pairs.

    A draw takes a uniform column and a uniform number below the total weight: below the column's
    threshold it is the column itself, else the column's alias.

    Returns:
        int64[1 + 3 * pairs]: the total weight, then of each column its threshold, itself, its
        alias.
    """
    weights = pairs // np.arange(1, pairs + 1, dtype=np.int64)  # [pairs]
    total = int(weights.sum())
    threshold = weights * pairs  # [pairs], `total` on average
    alias = np.arange(pairs)

    # A column with room takes what it lacks from one with too much, which may then have room
    # itself.
    with_room = np.flatnonzero(threshold < total).tolist()
    too_much = np.flatnonzero(threshold >= total).tolist()
    while with_room and too_much:
        column, giver = with_room.pop(), too_much[-1]
        alias[column] = giver
        threshold[giver] -= total - threshold[column]
        if threshold[giver] < total:
            with_room.append(too_much.pop())
    columns = np.stack([threshold, np.arange(pairs), alias], axis=1)  # [pairs, 3]
    return np.concatenate([[total], columns.ravel()])


@kernel
def draw_heads(state, heads, p):
    """Fill `heads` with heads of pairs, uniform or with the weights int(pairs / rank)."""
    fill_between(state, heads, 0, p[REGULAR_COUNT] // 2 - 1)
    if p[DISTRIBUTION] == ZIPF:
        for i in range(len(heads)):
            column = TABLE + 1 + 3 * np.int64(heads[i])
            takes_alias = below(state, p[TABLE]) >= p[column]
            heads[i] = p[column + 1 + takes_alias]
    for i in range(len(heads)):
        heads[i] += p[FIRST_REGULAR]


def nested(state, x, y, p):
    """Draw a sentence: open a head with probability open_percent / 100, else close the last one.

    n = U{min..max}; n/2 pairs, rounded up or down at random.
    """
    pairs = (between(state, p[MIN_LENGTH], p[MAX_LENGTH]) + below(state, 2)) // 2
    heads, open_heads = y[:pairs], y[pairs:]  # scratch space: the heads to come, the stack
    half = p[REGULAR_COUNT] // 2
    draw_heads(state, heads, p)

    # x[i] first holds the number that decides whether token i opens or closes, then the token.
    fill_between(state, x[: 2 * pairs], 0, 99)

    opened = depth = size = 0
    while opened < pairs:
        opens = (depth == 0) | (x[size] < p[OPEN_PERCENT])
        depth -= 1 - opens
        next_head, last_head = heads[opened], open_heads[depth]  # both, so that no branch is needed
        token = next_head if opens else last_head
        open_heads[depth] = token
        x[size] = token + (0 if opens else half)
        opened += opens
        depth += opens
        size += 1

    # All pairs are open: close what is still to close.
    for level in range(depth - 1, -1, -1):
        x[size] = open_heads[level] + half
        size += 1
    return size, -1


def nesting_bounds(parameters: Parameters) -> tuple[int, int]:
    """Return the longest sentence and target; y is the sampler's scratch space too."""
    return parameters["max_length"] + 1, 2 * parameters["max_length"] + 2


def check_open_percent(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    if parameters["open_percent"] > 100:
        return f"open_percent is {parameters['open_percent']}; give 0 to 100."
    return None


def check_nesting(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Check a row: every tail must close the last open head."""
    pairs = vocabulary.regular_count // 2
    open_heads: list[int] = []
    for position, token in enumerate((body - vocabulary.first_regular).tolist()):
        if 0 <= token < pairs:
            open_heads.append(token)
        elif pairs <= token < 2 * pairs:
            if not open_heads or open_heads.pop() != token - pairs:
                return f"the tail at position {position} does not close the last open head."
        else:
            problem = only_regular_tokens(body, vocabulary, parameters)
            return problem or f"id {token + vocabulary.first_regular} is neither head nor tail."
    return None


def decode_nesting(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return a sentence with its heads as `(a` and its tails as `a)`."""
    pairs = vocabulary.regular_count // 2
    words = []
    for token in ids.tolist():
        if token < vocabulary.first_regular + pairs:
            words.append(f"({vocabulary.decode(token)}")
        else:
            words.append(f"{vocabulary.decode(token - pairs)})")
    return " ".join(words)


@register_task(
    nested,
    paper=PAPER,
    bounds=nesting_bounds,
    check_parameters=check_open_percent,
    lowest_min_length=2,
    regular_tokens=lambda parameters: 4,
    vocabulary_table=zipf_table,
    row_check=check_nesting,
    decode=decode_nesting,
    named=False,
    min_length=6,
    max_length=60,
    open_percent=40,
    distribution=("zipf", "uniform"),
)
def nesting_language(x, y, p):
    """Return the sentence, with what its open heads still need.
    Labels equal the row, and pre-training corrupts spans of it. Lengths are even, as in the
    authors' distribution: an odd base length n becomes n - 1 or n + 1, so a row has up to
    max_length + 1. Deviations: base lengths are U{min..max} where the authors have a histogram of
    Wikipedia sentences; heads are the first half of the regular tokens, tails the second (how the
    reference lays them out in T5's ids is not known).

    input   (a (b b) (c c) a)
    target  (a (b b) (c c) a)
    """
    n, half = len(x), p[REGULAR_COUNT] // 2
    copy(x, y)

    # From the end: a head that no later tail closes gets its tail behind the sentence.
    depth, m = 0, n
    for i in range(n - 1, -1, -1):
        if x[i] >= p[FIRST_REGULAR] + half:
            depth += 1
        elif depth > 0:
            depth -= 1
        else:
            y[m] = x[i] + half
            m += 1
    return m


@register_task(
    samplers.uniform,
    paper="a control, of no paper",
    named=False,
    min_length=6,
    max_length=60,
)
def uniform(x, y, p):
    """Return the sentence: independent uniform tokens, of which none tells anything of another.
    It is a control. What pre-training on it gives is not due to a task: its lowest loss is the
    logarithm of the number of tokens. Labels equal the row, as those of `nesting_language` do.

    input   c a a d
    target  c a a d
    """
    copy(x, y)
    return len(x)
