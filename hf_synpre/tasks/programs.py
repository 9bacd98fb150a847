"""Programs and what they print: random bits come in, a program goes out, and its run is the target.

The language is Brainfuck without input and with an instruction that halts. Every string of
instructions is a program: see `run`. See docs/papers.md, "Tasks since 2022".
"""

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR, MAX_LENGTH, MIN_LENGTH
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import between, fill_between, kernel
from hf_synpre.tasks.samplers import NO_TARGET
from hf_synpre.vocabulary import Vocabulary

PAPER = "Grau-Moya et al. 2024, arXiv 2401.14953"

# Where compiled code finds the parameters in `p`.
CELLS, VALUES, MOST_STEPS, MOST_OUTPUT = range(ARGUMENTS, ARGUMENTS + 4)
# The instructions are the first regular tokens, in this order; the values follow.
SIGNS = "><+-[].!"
RIGHT, LEFT, UP, DOWN, OPEN_LOOP, CLOSE_LOOP, PRINT, HALT = range(8)
INSTRUCTIONS = 8
LARGEST_TAPE, LONGEST_RUN = 4096, 2**20


@kernel
def matching(x, start, first):
    """Return where the bracket at `start` has its partner; -1 where it has none."""
    is_opening = x[start] == first + OPEN_LOOP
    i, depth = start, 0
    while 0 <= i < len(x):
        if x[i] == first + OPEN_LOOP:
            depth += 1
        elif x[i] == first + CLOSE_LOOP:
            depth -= 1
        if depth == 0:
            return i
        i += 1 if is_opening else -1
    return -1


@kernel
def run(x, y, p):
    """Run a program on a tape of zeros that is a ring; write what it prints to y, return how much.

    A loop that is opened at a cell of 0 is jumped over, one without an end ends the program there;
    a loop's end jumps back to its opening unless the cell is 0, one without an opening does
    nothing. The program ends behind its last instruction, at a halt, and at its limits of steps
    and of printed values.
    """
    first, values = p[FIRST_REGULAR], p[VALUES]
    tape = np.zeros(p[CELLS], np.int64)
    at = cell = printed = 0
    for _ in range(p[MOST_STEPS]):
        if at >= len(x) or printed >= p[MOST_OUTPUT]:
            break

        instruction = x[at] - first
        if instruction == RIGHT:
            cell = (cell + 1) % len(tape)
        elif instruction == LEFT:
            cell = (cell + len(tape) - 1) % len(tape)
        elif instruction == UP:
            tape[cell] = (tape[cell] + 1) % values
        elif instruction == DOWN:
            tape[cell] = (tape[cell] + values - 1) % values
        elif instruction == PRINT:
            y[printed] = first + INSTRUCTIONS + tape[cell]
            printed += 1
        elif instruction == OPEN_LOOP and tape[cell] == 0:
            end = matching(x, at, first)
            at = end if end >= 0 else len(x)
        elif instruction == CLOSE_LOOP and tape[cell] != 0:
            begin = matching(x, at, first)
            at = begin if begin >= 0 else at
        elif instruction == HALT:
            break
        at += 1
    return printed


def printing_program(state, x, y, p):
    """Draw n = U{min..max} uniform instructions, until the program prints something."""
    while True:
        n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
        fill_between(state, x[:n], p[FIRST_REGULAR], p[FIRST_REGULAR] + INSTRUCTIONS - 1)
        if run(x[:n], y, p) > 0:
            return n, NO_TARGET


def check_parameters(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    if not 1 <= parameters["cells"] <= LARGEST_TAPE:
        return f"cells is {parameters['cells']}; give 1 to {LARGEST_TAPE}."
    if parameters["values"] < 2:
        return f"values is {parameters['values']}; give an integer >= 2."
    for name in ("max_steps", "max_output"):
        if not 1 <= parameters[name] <= LONGEST_RUN:
            return f"{name} is {parameters[name]}; give 1 to {LONGEST_RUN}."
    return None


def check_program(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row, or None."""
    first, last = vocabulary.first_regular, vocabulary.first_regular + INSTRUCTIONS - 1
    wrong = body[(body < first) | (body > last)]
    if len(wrong):
        return f"id {wrong[0]} is no instruction ({first}..{last})."
    return None


def decode_program(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return instructions as their signs and values as numbers."""
    words = []
    for token in ids.tolist():
        number = token - vocabulary.first_regular
        if 0 <= number < INSTRUCTIONS:
            words.append(SIGNS[number])
        elif INSTRUCTIONS <= number < INSTRUCTIONS + parameters["values"]:
            words.append(str(number - INSTRUCTIONS))
        else:
            words.append(vocabulary.decode(token))
    return " ".join(words)


@register_task(
    printing_program,
    paper=PAPER,
    bounds=lambda parameters: (parameters["max_length"], parameters["max_output"]),
    check_parameters=check_parameters,
    regular_tokens=lambda parameters: INSTRUCTIONS + parameters["values"],
    row_check=check_program,
    decode=decode_program,
    named=False,
    min_length=8,
    max_length=64,
    cells=16,
    values=64,
    max_steps=1000,
    max_output=64,
)
def brainfuck(x, y, p):
    """Return what a program prints: uniform instructions, run on a ring of cells that are 0 first.
    The instructions move to the next or the last cell (> <), count it up or down (+ -, modulo
    `values`), repeat while it is not 0 ([ ]), print it (.), and halt (!). Every string runs; those
    that print nothing are drawn again. A run ends after max_steps instructions or max_output
    values.

    input   + + . [ - . ] !
    target  2 1 0
    """
    return run(x, y, p)
