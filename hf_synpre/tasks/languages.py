"""Formal languages to pre-train on: random bits come in, sentences without a target go out.

`nesting_language` is that of Ri, Tsuruoka 2022 (docs/papers.md, "Nesting language"): pairs of
brackets of many kinds, each head closed by its tail. Regular tokens are cut in two: the first half
are heads, and the tail of head h is h + half.

`uniform` and `zipf` are controls: sentences of independent tokens, in which there is nothing to
learn but how frequent each token is.
"""

import functools
import math

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
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, between, copy, fill_between, kernel
from hf_synpre.tasks.task import only_regular_tokens
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


def frequent_tokens(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the table of Zipf's distribution over all regular tokens."""
    return alias_table(vocabulary.regular_count)


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


def nesting_surprisal(x, out, p):
    """Write the surprisal of each token of a sentence.

    How many pairs a sentence has is not known before its end. A tail may be drawn, or due because
    all pairs are open; the two weigh as likely as what was read makes them.
    """
    half, first = p[REGULAR_COUNT] // 2, p[FIRST_REGULAR]
    opens = p[OPEN_PERCENT] / 100

    # at_least[k]: the probability that a sentence has k pairs or more.
    most = (p[MAX_LENGTH] + 1) // 2
    at_least = np.zeros(most + 2)
    for length in range(p[MIN_LENGTH], p[MAX_LENGTH] + 2):
        # Lengths U{min..max}, rounded up or down: (length + 0) // 2 and (length + 1) // 2.
        share = 0.5 * (length <= p[MAX_LENGTH]) + 0.5 * (length > p[MIN_LENGTH])
        at_least[length // 2] += share / (p[MAX_LENGTH] - p[MIN_LENGTH] + 1)
    for pairs in range(most, -1, -1):
        at_least[pairs] += at_least[pairs + 1]

    opened = depth = 0
    all_open, more_to_come = 0.0, 1.0
    for i in range(len(x)):
        head = x[i] - first
        if depth == 0:  # the sentence goes on, so another pair opens
            all_open, more_to_come = 0.0, 1.0
        opening = (1.0 if depth == 0 else opens) * more_to_come / (all_open + more_to_come)
        if head < half:
            out[i] = -math.log(opening) - math.log(head_probability(head, p))
            opened, depth = opened + 1, depth + 1
            more_to_come = at_least[opened + 1]
            all_open = at_least[opened] - more_to_come
        else:
            out[i] = -math.log(1 - opening)
            more_to_come *= 1 - opens
            depth -= 1


@kernel
def head_probability(head, p):
    """Return the probability of a head, as `draw_heads` draws it."""
    half = p[REGULAR_COUNT] // 2
    if p[DISTRIBUTION] == ZIPF:
        return half // (head + 1) / p[TABLE]
    return 1 / half


def uniform_surprisal(x, out, p):
    """Write the surprisal of each token of a sentence of uniform tokens."""
    for i in range(len(x)):
        out[i] = math.log(p[REGULAR_COUNT])


def zipf_tokens(state, x, y, p):
    """Draw n = U{min..max} independent tokens, the one of rank r with the weight int(count / r)."""
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    count = p[REGULAR_COUNT]
    fill_between(state, x[:n], 0, count - 1)
    for i in range(n):
        column = ARGUMENTS + 1 + 3 * np.int64(x[i])
        takes_alias = below(state, p[ARGUMENTS]) >= p[column]
        x[i] = p[FIRST_REGULAR] + p[column + 1 + takes_alias]
    return n, samplers.NO_TARGET


def zipf_surprisal(x, out, p):
    """Write the surprisal of each token of a sentence of `zipf_tokens`."""
    for i in range(len(x)):
        rank = x[i] - p[FIRST_REGULAR] + 1
        out[i] = math.log(p[ARGUMENTS]) - math.log(p[REGULAR_COUNT] // rank)


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
    sequence=True,
    text_like=True,
    surprisal=nesting_surprisal,
    min_length=6,
    max_length=60,
    open_percent=40,
    distribution=("zipf", "uniform"),
)
def nesting_language(x, y, p):
    """Return the sentence, with what its open heads still need.
    Every token is scored, and pre-training reads the sentences as text. Lengths are even, as in the
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
    sequence=True,
    text_like=True,
    surprisal=uniform_surprisal,
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


@register_task(
    zipf_tokens,
    paper="a control, of no paper",
    vocabulary_table=frequent_tokens,
    named=False,
    sequence=True,
    text_like=True,
    surprisal=zipf_surprisal,
    min_length=6,
    max_length=60,
)
def zipf(x, y, p):
    """Return the sentence: independent tokens, the one of rank r drawn with a weight of 1 / r.
    It is a control, as `uniform` is: a model can learn how frequent each token is, and no more.
    Weights are int(count / rank) of `count` regular tokens.

    input   a a c a
    target  a a c a
    """
    copy(x, y)
    return len(x)
