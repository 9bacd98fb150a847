"""The languages of Delétang et al. 2022, from regular to context-sensitive: strings and answers.

The signs of the strings are the first regular tokens: the digits 0 to 4, + - x ( ) =, what is
hidden, and the three operations of a stack. Their laws are described in docs/papers.md, "Tasks
since 2022". Reversing a string is the task `reverse`, repeating it the task `copy`.
"""

import re

import numpy as np

from hf_synpre.tasks.arithmetic import (
    HIDDEN,
    MINUS,
    MODULUS,
    PLUS,
    TIMES,
    bracketed_value,
    draw_bracketed,
    draw_equation,
    draw_flat,
    draw_number,
    draw_two_numbers,
    flat_value,
    solution,
    write_product,
    write_square_root,
    write_sum,
)
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR, MAX_LENGTH, MIN_LENGTH
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, between, copy, fill_between, kernel
from hf_synpre.tasks.samplers import NO_TARGET
from hf_synpre.tasks.task import only_regular_tokens
from hf_synpre.vocabulary import Vocabulary

PAPER = "Delétang et al. 2022, arXiv 2207.02098"

# The signs as text, by their numbers; the operations of a stack come last.
SIGNS = ("0", "1", "2", "3", "4", "+", "-", "x", "(", ")", "=", "?", "pop", "push0", "push1")
POP = SIGNS.index("pop")

# Language -> its shortest string, the form of a string (with p, q, r for the operations of a
# stack), and an example of one.
LANGUAGES = {
    "parity": (1, "[01]+", "0 1 1"),
    "even_pairs": (1, "[01]+", "0 1 1"),
    "cycle_navigation": (1, "[-0+]+", "+ 0 -"),
    "modular_arithmetic": (1, "[0-4]([-+x][0-4])*", "1 + 2 x 3"),
    "modular_arithmetic_brackets": (
        1,
        r"\(*-?[0-4]\)*([-+]\(*-?[0-4]\)*)*",
        "( 1 - ( 2 + 3 ) )",
    ),
    "solve_equation": (3, r"\(*-?[0-4?]\)*([-+]\(*-?[0-4?]\)*)*=[0-4]", "( 1 - ? ) = 3"),
    "stack_manipulation": (2, "[01]+[pqr]+", "0 1 pop push0"),
    "missing_duplicate": (2, "[01?]+", "0 1 0 ?"),
    "odds_first": (1, "[01]+", "0 1 1"),
    "bucket_sort": (1, "[0-4]+", "3 0 2"),
    "binary_addition": (3, r"[01]*1[01]*\+[01]*1[01]*", "0 1 + 1"),
    "binary_multiplication": (3, "[01]*1[01]*x[01]*1[01]*", "0 1 x 1"),
    "square_root": (1, "[01]+", "1 0 1"),
}
(
    PARITY,
    EVEN_PAIRS,
    CYCLE,
    FLAT,
    BRACKETED,
    EQUATION,
    STACK,
    DUPLICATE,
    ODDS_FIRST,
    SORT,
    ADDITION,
    MULTIPLICATION,
    SQUARE_ROOT,
) = range(len(LANGUAGES))
# Where compiled code finds the language in `p`.
LANGUAGE = ARGUMENTS


def strings(state, x, y, p):
    """Draw a string of n = U{min..max} signs, or n - 1 where it must be odd or even."""
    n = between(state, p[MIN_LENGTH], p[MAX_LENGTH])
    language = p[LANGUAGE]
    if language == FLAT:
        n -= 1 - n % 2
    elif language == DUPLICATE:
        n -= n % 2

    out = x[:n]
    if language == CYCLE:
        fill_between(state, out, 0, 2)
        for i in range(n):
            out[i] = 0 if out[i] == 0 else PLUS + out[i] - 1
    elif language == FLAT:
        draw_flat(state, out)
    elif language == BRACKETED:
        draw_bracketed(state, out, y)
    elif language == EQUATION:
        draw_equation(state, out, y)
    elif language == STACK:
        size = between(state, 1, n - 1)
        fill_between(state, out[:size], 0, 1)
        fill_between(state, out[size:], POP, POP + 2)
    elif language == DUPLICATE:
        fill_between(state, out[: n // 2], 0, 1)
        copy(out[: n // 2], out[n // 2 :])
        out[below(state, n)] = HIDDEN
    elif language == SORT:
        fill_between(state, out, 0, MODULUS - 1)
    elif language == ADDITION:
        draw_two_numbers(state, out, PLUS)
    elif language == MULTIPLICATION:
        draw_two_numbers(state, out, TIMES)
    elif language == SQUARE_ROOT:
        draw_number(state, out)
    else:
        fill_between(state, out, 0, 1)

    for i in range(n):
        out[i] += p[FIRST_REGULAR]
    return n, NO_TARGET


@kernel
def run_operations(x, y, first):
    """Write what is left on a stack from its top; return how many. Popping nothing is allowed."""
    depth = 0
    for token in x:
        sign = token - first
        if sign == POP:
            depth = max(depth - 1, 0)
        else:
            y[depth] = sign if sign < POP else sign - POP - 1
            depth += 1
    for i in range(depth // 2):
        y[i], y[depth - 1 - i] = y[depth - 1 - i], y[i]
    return depth


@kernel
def missing(x, first):
    """Return the digit that is hidden in a string that stands there twice."""
    half, i = len(x) // 2, 0
    while x[i] - first != HIDDEN:
        i += 1
    return x[(i + half) % len(x)] - first


@kernel
def write_sorted(x, y, first):
    """Write digits in order, by counting each."""
    m = 0
    for digit in range(MODULUS):
        for token in x:
            y[m] = digit  # written over where it was none
            m += token - first == digit


def check_lengths(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    language = parameters["language"]
    shortest = LANGUAGES[language][0]
    if parameters["min_length"] < shortest:
        return f"min_length is {parameters['min_length']}; give at least {shortest} for {language}."
    return None


def check_string(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a string, or None."""
    problem = only_regular_tokens(body, vocabulary, parameters)
    if problem:
        return problem
    signs = body - vocabulary.first_regular
    if signs.max() >= len(SIGNS):
        return f"id {body[signs.argmax()]} is no sign of the languages."

    language = parameters["language"]
    letters = "01234+-x()=?pqr"
    text = "".join(letters[sign] for sign in signs.tolist())
    _, form, example = LANGUAGES[language]
    is_right = re.fullmatch(form, text) is not None and are_balanced(text)
    if language in ("solve_equation", "missing_duplicate"):
        is_right = is_right and text.count("?") == 1
    if language == "missing_duplicate":
        half = len(text) // 2
        pairs = zip(text[:half], text[half:], strict=len(text) % 2 == 0)
        is_right = is_right and len(text) % 2 == 0 and all(a == b or "?" in a + b for a, b in pairs)
    if not is_right:
        return f"it is no string of {language}, as {example} is."
    return None


def are_balanced(text: str) -> bool:
    """Return whether each bracket that closes closes one, and none stays open."""
    depth = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            return False
    return depth == 0


def decode_signs(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return signs as they are written, with blanks between them."""
    first = vocabulary.first_regular
    words = []
    for token in ids.tolist():
        is_sign = first <= token < first + len(SIGNS)
        words.append(SIGNS[token - first] if is_sign else vocabulary.decode(token))
    return " ".join(words)


@register_task(
    strings,
    paper=PAPER,
    bounds=lambda parameters: (parameters["max_length"], parameters["max_length"] + 1),
    check_parameters=check_lengths,
    regular_tokens=lambda parameters: len(SIGNS),
    row_check=check_string,
    decode=decode_signs,
    named=False,
    min_length=3,
    max_length=40,
    language=tuple(LANGUAGES),
)
def chomsky(x, y, p):
    """Return the answer to a string of a language.
    parity: the ones, modulo 2. even_pairs: the pairs of unlike neighbours, modulo 2.
    cycle_navigation: where steps on a ring of 5 end. modular_arithmetic: the value modulo 5 of
    digits and + - x; with brackets of + and - alone. solve_equation: the digit that is hidden.
    stack_manipulation: what operations leave on a stack, from its top; nothing is popped from an
    empty one. missing_duplicate: the bit that is hidden in a string and its copy. odds_first: the
    signs at odd places, then the others. bucket_sort: digits in order. binary_addition,
    binary_multiplication: of two numbers, lowest digits first. square_root: its floor, highest
    digits first. The paper trains on up to 40 signs and tests on 41 to 500.

    input   0 1 1 0 1
    target  1
    """
    language, first, n = p[LANGUAGE], p[FIRST_REGULAR], len(x)
    m = 1  # signs of the answer

    if language == PARITY:
        ones = 0
        for token in x:
            ones += token - first
        y[0] = ones % 2
    elif language == EVEN_PAIRS:
        y[0] = x[0] != x[n - 1]  # each unlike pair changes the bit
    elif language == CYCLE:
        place = 0
        for token in x:
            place += int(token - first == PLUS) - int(token - first == MINUS)
        y[0] = place % MODULUS
    elif language == FLAT:
        y[0] = flat_value(x, first)
    elif language == BRACKETED:
        y[0] = bracketed_value(x, first, y[1:])[0]
    elif language == EQUATION:
        y[0] = solution(x, first, y[1:])
    elif language == STACK:
        m = run_operations(x, y, first)
    elif language == DUPLICATE:
        y[0] = missing(x, first)
    elif language == ODDS_FIRST:
        m = n
        for i in range(n):
            y[i // 2 + i % 2 * ((n + 1) // 2)] = x[i] - first
    elif language == SORT:
        write_sorted(x, y, first)
        m = n
    elif language == ADDITION:
        m = write_sum(x, y, first)
    elif language == MULTIPLICATION:
        m = write_product(x, y, first)
    else:
        m = write_square_root(x, y, first)
    for i in range(m):
        y[i] += first
    return m
