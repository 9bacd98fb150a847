"""The simple functions of Wu, Li, Liang 2022 (appendix; spec, section 2.1): input laws first, then one function a task."""

import numpy as np
from numba import njit

from hf_synpre.rng import below, between, fill_between, shuffle
from hf_synpre.tasks import CONTENT, FIRST, MAX_LENGTH, MIN_LENGTH, register_task

PAPER = "Wu, Li, Liang 2022, arXiv 2206.10139"


@njit(cache=True)
def fill_content(state, x, p):
    """Fill x with content ids, uniform and independent."""
    fill_between(state, x, p[FIRST], p[FIRST] + p[CONTENT] - 1)


def uniform(state, x, y, p):
    """n = U{min..max}; n uniform content ids."""
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    fill_content(state, x[:n], p)
    return n, -1


def shuffled_runs(state, x, y, p):
    """n = U{min..max}; k = U{1..n} parts, each an independent uniform id; part sizes 1 + Multinomial(n - k); shuffled.

    Once shuffled, the parts' sizes are k tokens followed by n - k uniform choices among them.
    """
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    k = between(state, 1, n)
    fill_content(state, x[:k], p)
    for i in range(k, n):
        x[i] = x[below(state, k)]
    shuffle(state, x[:n])
    return n, -1


@register_task(uniform, paper=PAPER)
def identity(x, y, p):
    """Return the input.

    input   a b c d
    target  a b c d
    """
    y[: len(x)] = x
    return len(x)


@register_task(shuffled_runs, paper=PAPER)
def set_(x, y, p):
    """Return the distinct ids in order of first appearance.

    input   b a c a b
    target  b a c
    """
    slots = 512
    while slots < 2 * len(x):
        slots *= 2
    table = np.zeros(slots, np.int32)
    m = 0
    for token in x:
        slot = (np.int64(token) * 2654435769 >> 15) & (slots - 1)
        while table[slot] != 0 and y[table[slot] - 1] != token:
            slot = (slot + 1) & (slots - 1)
        if table[slot] == 0:
            y[m] = token
            m += 1
            table[slot] = m
    return m
