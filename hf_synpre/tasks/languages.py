"""Layer 1: formal languages (Ri, Tsuruoka 2022; spec, section 2.4): sentences to pre-train on, without a task inside."""

import functools

import numpy as np

from hf_synpre.tasks.kernels import (
    ARGUMENTS,
    FIRST_REGULAR,
    MAX_LENGTH,
    MIN_LENGTH,
    REGULAR_COUNT,
)
from hf_synpre.tasks.registry import (
    only_regular_tokens,
    register_task,
)
from hf_synpre.tasks.rng import below, between, copy, fill_between, kernel
from hf_synpre.vocabulary import Vocabulary

PAPER = "Ri, Tsuruoka 2022, arXiv 2203.10326"
OPEN_PERCENT, DISTRIBUTION, TABLE = range(ARGUMENTS, ARGUMENTS + 3)
ZIPF = 0


def zipf_table(vocabulary: Vocabulary, parameters: dict) -> np.ndarray:
    """The facts behind `p` that draw_pair reads."""
    return alias_table(vocabulary.regular_count // 2)


@functools.lru_cache(maxsize=4)
def alias_table(pairs: int) -> np.ndarray:
    """Walker's alias table of the weights int(V / rank) over V pairs: the total; of each pair a threshold, it, its alias."""
    weights = pairs // np.arange(1, pairs + 1, dtype=np.int64)
    total, share, alias = int(weights.sum()), weights * pairs, np.arange(pairs)
    small, large = np.flatnonzero(share < total).tolist(), np.flatnonzero(share >= total).tolist()
    while small and large:
        poor, rich = small.pop(), large[-1]
        alias[poor] = rich
        share[rich] -= total - share[poor]
        if share[rich] < total:
            small.append(large.pop())
    return np.concatenate([[total], np.stack([share, np.arange(pairs), alias], axis=1).ravel()])


@kernel
def draw_heads(state, heads, p):
    """Fill heads with the heads of pairs, uniform or with weights int(V / rank)."""
    fill_between(state, heads, 0, p[REGULAR_COUNT] // 2 - 1)
    if p[DISTRIBUTION] == ZIPF:
        for i in range(len(heads)):
            column = TABLE + 1 + 3 * np.int64(heads[i])
            heads[i] = p[column + 1 + (below(state, p[TABLE]) >= p[column])]
    for i in range(len(heads)):
        heads[i] += p[FIRST_REGULAR]


def nested(state, x, y, p):
    """n = U{min..max}; n/2 pairs (up or down at random); open the next head with open_percent, else close the last."""
    pairs = (between(state, p[MIN_LENGTH], p[MAX_LENGTH]) + below(state, 2)) // 2
    heads, stack, tail = y[:pairs], y[pairs:], p[REGULAR_COUNT] // 2
    draw_heads(state, heads, p)
    fill_between(state, x[: 2 * pairs], 0, 99)
    opened = depth = size = 0
    while opened < pairs:
        opens = (depth == 0) | (x[size] < p[OPEN_PERCENT])
        depth -= 1 - opens
        head, last = heads[opened], stack[depth]
        stack[depth] = head if opens else last
        x[size] = stack[depth] + (0 if opens else tail)
        opened += opens
        depth += opens
        size += 1
    for level in range(depth - 1, -1, -1):
        x[size] = stack[level] + tail
        size += 1
    return size, -1


def check(p: dict) -> str | None:
    """What is wrong with the parameters."""
    if p["open_percent"] > 100:
        return f"open_percent is {p['open_percent']}; give 0 to 100."
    return None


def row_check(body: np.ndarray, words: Vocabulary, parameters: dict) -> str | None:
    """Every tail must close the last open head."""
    pairs, stack = words.regular_count // 2, []
    for place, token in enumerate((body - words.first_regular).tolist()):
        if 0 <= token < pairs:
            stack.append(token)
        elif not pairs <= token < 2 * pairs:
            return (
                only_regular_tokens(body, words, parameters)
                or f"id {token + words.first_regular} is neither a head nor a tail."
            )
        elif not stack or stack.pop() != token - pairs:
            return f"the tail at place {place} does not close the last open head."
    return None


def read(ids: np.ndarray, row: np.ndarray, words: Vocabulary, parameters: dict) -> str:
    """Return a sentence with its heads as `(a` and its tails as `a)`."""
    pairs, tails = words.regular_count // 2, words.first_regular + words.regular_count // 2
    return " ".join(
        f"({words.decode(i)}" if i < tails else f"{words.decode(i - pairs)})" for i in ids.tolist()
    )


@register_task(
    nested,
    paper=PAPER,
    bounds=lambda p: (p["max_length"] + 1, 2 * p["max_length"] + 2),
    check_parameters=check,
    lowest_min_length=2,
    regular_tokens=lambda p: 4,
    vocabulary_table=zipf_table,
    row_check=row_check,
    decode=read,
    named=False,
    min_length=6,
    max_length=60,
    open_percent=40,
    distribution=("zipf", "uniform"),
)
def nesting_language(x, y, p):
    """Return the sentence, with what its open heads still need; labels equal the row (pre-training corrupts spans of it).
    Lengths are even, as in the authors' law: an odd base length n becomes n - 1 or n + 1, so a row has up to max_length + 1.
    Deviations: base lengths are U{min..max} where the authors have a histogram of Wikipedia sentences; heads are the first
    half of the content ids, tails the second (how the reference lays them out in T5's ids is not known).

    input   (a (b b) (c c) a)
    target  (a (b b) (c c) a)
    """
    n, tail = len(x), p[REGULAR_COUNT] // 2
    copy(x, y)
    depth, m = 0, n
    for i in range(n - 1, -1, -1):
        if x[i] >= p[FIRST_REGULAR] + tail:
            depth += 1
        elif depth > 0:
            depth -= 1
        else:
            y[m] = x[i] + tail
            m += 1
    return m
