"""Programs that are run: the operations of a stack come in, what is left on it goes out."""

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR, REGULAR_COUNT
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below
from hf_synpre.tasks.samplers import NO_TARGET
from hf_synpre.tasks.task import only_regular_tokens
from hf_synpre.vocabulary import Vocabulary

PAPER = "Jiang et al. 2026, arXiv 2601.21725"

STEPS = ARGUMENTS
# Of 100 steps that may push or pop, how many push: in the first two thirds of a program, and after.
PUSH_PERCENT_EARLY, PUSH_PERCENT_LATE = 75, 25


def operations(state, x, y, p):
    """Draw a program: it pushes a token that is not on the stack, or pops, which is token 0.

    With at most one token on the stack it pushes. The last step pops where there are two or more.
    """
    n, depth = p[STEPS], 0
    for i in range(n):
        percent = PUSH_PERCENT_EARLY if 3 * i < 2 * n else PUSH_PERCENT_LATE
        if i == n - 1 and depth > 1:
            pushes = False
        else:
            pushes = depth <= 1 or below(state, 100) < percent
        if not pushes:
            x[i] = p[FIRST_REGULAR]
            depth -= 1
            continue

        # A uniform token among those that are not on the stack y[:depth].
        is_new = False
        while not is_new:
            x[i] = p[FIRST_REGULAR] + 1 + below(state, p[REGULAR_COUNT] - 1)
            is_new = True
            for k in range(depth):
                is_new &= y[k] != x[i]
        y[depth] = x[i]
        depth += 1
    return n, NO_TARGET


def check_steps(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    if parameters["steps"] < 1:
        return f"steps is {parameters['steps']}; give an integer >= 1."
    return None


def check_operations(
    body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str | None:
    """Return what is malformed in a program, or None."""
    problem = only_regular_tokens(body, vocabulary, parameters)
    if problem:
        return problem
    depths = np.cumsum(np.where(body == vocabulary.first_regular, -1, 1))
    if depths.min() < 0:
        return f"step {int(np.argmin(depths >= 0))} pops from an empty stack."
    return None


@register_task(
    operations,
    paper=PAPER,
    bounds=lambda parameters: (parameters["steps"], parameters["steps"]),
    check_parameters=check_steps,
    lowest_max_length=None,
    regular_tokens=lambda parameters: parameters["steps"] + 2,
    row_check=check_operations,
    named=False,
    steps=64,
)
def stack(x, y, p):
    """Return what is left on a stack, from its top.
    The first regular token pops; every other is pushed. In the first two thirds of a program three
    of four steps push, then one of four; what is pushed is not on the stack.

    input   b c pop d
    target  d b
    """
    depth = 0
    for token in x:
        if token == p[FIRST_REGULAR]:
            depth -= 1
        else:
            y[depth] = token
            depth += 1
    for i in range(depth // 2):
        y[i], y[depth - 1 - i] = y[depth - 1 - i], y[i]
    return depth
