"""Elementary cellular automata (Wolfram's): random bits come in, the history of a ring goes out.

Cells are the first two regular tokens; a separator stands between the states of two steps.
"""

import math

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR, IGNORED, SEPARATOR
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, copy, fill_between, kernel
from hf_synpre.vocabulary import Vocabulary

PAPER = "Zhang et al. 2024, arXiv 2410.02536"

# Where compiled code finds the parameters in `p`.
WIDTH, STEPS, RULE = range(ARGUMENTS, ARGUMENTS + 3)
# The value of the parameter `rule` by which each row draws one of the 256 rules.
ANY_RULE = 256


@kernel
def neighbourhood(cells, i):
    """Return the number 0..7 of the cells left of, at and right of position i of a ring."""
    n = len(cells)
    return 4 * cells[i - 1] + 2 * cells[i] + cells[(i + 1) % n]


def history(state, x, y, p):
    """Draw the first state, each cell 1 with probability 1/2, and compute the others."""
    width, steps, rule = p[WIDTH], p[STEPS], p[RULE]
    if rule == ANY_RULE:
        rule = below(state, 256)
    fill_between(state, x[:width], 0, 1)

    # The cells as 0 and 1, then as ids.
    n = (steps + 1) * (width + 1) - 1
    for step in range(1, steps + 1):
        start = step * (width + 1)
        before = x[start - width - 1 : start - 1]
        x[start - 1] = p[SEPARATOR]
        for i in range(width):
            x[start + i] = rule >> neighbourhood(before, i) & 1
    for step in range(steps + 1):
        start = step * (width + 1)
        for i in range(start, start + width):
            x[i] += p[FIRST_REGULAR]
    return n, -1


def surprisal(x, out, p):
    """Write the surprisal of each token: of a known rule that of the first state alone.

    A drawn rule has eight independent bits. Each is uncertain where it is used first.
    """
    width, is_known = p[WIDTH], p[RULE] != ANY_RULE
    was_used = np.zeros(8, np.bool_)
    cells = np.empty(width, np.int64)
    for i in range(len(x)):
        step, column = i // (width + 1), i % (width + 1)
        out[i] = 0.0
        if column == width:  # a separator
            for k in range(width):
                cells[k] = x[i - width + k] - p[FIRST_REGULAR]
        elif step == 0:
            out[i] = math.log(2)
        elif not is_known:
            bit = neighbourhood(cells, column)
            if not was_used[bit]:
                out[i] = math.log(2)
            was_used[bit] = True


def check_parameters(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    if parameters["width"] < 3:
        return f"width is {parameters['width']}; give 3 cells or more."
    if parameters["steps"] < 1:
        return f"steps is {parameters['steps']}; give an integer >= 1."
    if parameters["rule"] > ANY_RULE:
        return f"rule is {parameters['rule']}; give 0 to 255, or {ANY_RULE} for one a row."
    return None


def check_history(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row, or None."""
    width, first = parameters["width"], vocabulary.first_regular
    if (len(body) + 1) % (width + 1):
        return f"it has {len(body)} ids; states have {width}, with a separator between them."
    states = np.append(body, vocabulary.special_ids["separator"]).reshape(-1, width + 1)
    if (states[:, width] != vocabulary.special_ids["separator"]).any():
        return f"a separator is missing behind a state of {width} cells."
    cells = states[:, :width]
    if ((cells != first) & (cells != first + 1)).any():
        return f"a cell is neither {first} nor {first + 1}."
    return None


def longest(parameters: Parameters) -> tuple[int, int]:
    """Return the length of a row, twice: as ids and as labels."""
    n = (parameters["steps"] + 1) * (parameters["width"] + 1) - 1
    return n, n


def decode_history(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return states as 0 and 1; labels that are not scored are dots."""
    signs = {
        vocabulary.special_ids["separator"]: " ",
        vocabulary.first_regular: "0",
        vocabulary.first_regular + 1: "1",
        IGNORED: ".",
    }
    return "".join(signs.get(token, vocabulary.decode(token)) for token in ids.tolist())


@register_task(
    history,
    paper=PAPER,
    bounds=longest,
    check_parameters=check_parameters,
    lowest_max_length=None,
    regular_tokens=lambda parameters: 2,
    row_check=check_history,
    decode=decode_history,
    named=False,
    sequence=True,
    surprisal=surprisal,
    width=32,
    steps=16,
    rule=110,
)
def eca(x, y, p):
    """Return the history of an elementary cellular automaton on a ring.
    Cell i of the next state is bit 4 l + 2 c + r of the rule, where c is the cell and l and r are
    its neighbours. The rule 256 draws one for each row. All after the first state is scored.

    input   0 1 1 <sep> 1 1 1
    target  . . . . 1 1 1
    """
    copy(x, y)
    for i in range(p[WIDTH] + 1):
        y[i] = IGNORED
    return len(x)
