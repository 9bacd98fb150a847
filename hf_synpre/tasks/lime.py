"""LIME (Wu et al. 2021): random bits come in, rows that ask for a rule, a case or a result go out.

Rule: a string of upper and math symbols. Case: a string of lower and math symbols for every upper
symbol. Result: the rule with every upper symbol replaced by its string. Of the three two are shown
and the third is asked: `lime_induct` asks the rule, `lime_deduct` the result, `lime_abduct` the
case. See docs/papers.md, "LIME".

A row is `<UPPER> uppers <LOWER> lowers <MATH> maths <sep> shown <sep> shown`, without a task name.
The reference draws 24 upper symbols and shows at most five, in the arbitrary order of a set: here
only those shown are drawn, and their order has nothing to do with how often each is used. Rows are
read and solved in lime_rows.py.
"""

from typing import Any

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import (
    ARGUMENTS,
    CLOSE,
    COLON,
    LOWER,
    MATH,
    MAX_LENGTH,
    OPEN,
    SEPARATOR,
    UPPER,
)
from hf_synpre.tasks.lime_rows import (
    ABDUCT,
    DEDUCT,
    INDUCT,
    apply_rule,
    check_lime_row,
    decode_lime,
    find_case,
    read_row,
    score_abduct,
    score_induct,
    shortest_rule,
    write_case_ids,
)
from hf_synpre.tasks.mixture import register_mixture
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import between, copy, fill_between, kernel, shuffle
from hf_synpre.tasks.samplers import fill_distinct

PAPER = "Wu et al. 2021, arXiv 2101.06223"
PARAMETERS = {
    "max_length": 220,
    "min_symbols": 3,
    "max_symbols": 5,
    "min_math": 5,
    "max_math": 19,
    "min_string": 2,
    "max_string": 8,
    "lower": 24,
    "math": 20,
}
# Where compiled code finds them in `p`, MAX_LENGTH besides.
MIN_SYMBOLS, MAX_SYMBOLS, MIN_MATH, MAX_MATH, MIN_STRING, MAX_STRING, LOWERS, MATHS = range(
    ARGUMENTS, ARGUMENTS + 8
)
# The parameters with a min_ and a max_.
RANGES = ("symbols", "math", "string")

# An entry of a case in tokens, besides its string: `A : [ ]` and, in the reference, a comma behind
# it.
ENTRY = 5
# The special tokens of a row: upper, lower, math and two separators.
ROW_TOKENS = 5
# Problems are drawn until one fits. A smaller chance to fit would take more than a hundred thousand
# draws.
LEAST_CHANCE = 1e-5


def check_lime(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None.

    That is an empty range, or a max_length that hardly any problem fits.
    """
    longest = parameters["max_length"]
    sizes = {}
    for name in RANGES:
        low, high = parameters[f"min_{name}"], parameters[f"max_{name}"]
        if not 1 <= low <= high:
            return f"min_{name} {low} to max_{name} {high} is no range from 1 up; swap them."
        if high > longest:
            return f"max_{name} is {high}; give at most max_length, which is {longest}."
        sizes[name] = high - low + 1
    if min(parameters["lower"], parameters["math"]) < 1:
        return "lower and math are numbers of symbols; give at least 1."

    # The shortest row with the fewest symbols: header, result, case.
    c, string = parameters["min_symbols"], parameters["min_string"]
    header = ROW_TOKENS + c + parameters["lower"] + parameters["math"]
    result = 2 * c * string + parameters["min_math"]
    case = c * (ENTRY + string) - 1
    shortest = header + result + case
    if longest < shortest:
        return f"max_length is {longest}; give at least {shortest}."

    # A lower bound of the chance to fit: the fewest symbols are drawn, and half of the room that is
    # left goes to math symbols, half to the strings, each of which is about three times in a row.
    room = (longest - shortest) // 2
    math_fits = min(1, (room + 1) / sizes["math"])
    string_fits = min(1, (room // (3 * c) + 1) / sizes["string"])
    chance = math_fits * string_fits**c / sizes["symbols"]
    if chance < LEAST_CHANCE:
        return (
            f"hardly any problem fits max_length {longest}; give a larger one, "
            "or smaller max_string and max_math."
        )
    return None


# --- drawing a problem ----------------------------------------------------------------------------
# Symbols have numbers while a problem is drawn: the u used upper ones 0..u-1, then the lower ones,
# then the math ones; `symbols` gives their ids. A rule is numbers; strings are ids, that of upper
# symbol i strings[ends[i]:ends[i + 1]].


@kernel
def draw_sizes(state, rule, counts, sizes, p):
    """Draw c symbols, the 2c upper symbols of the rule, k math symbols and the strings' sizes.

    Return (c, u used, k).

    rule[:2c] become numbers 0..u-1, counts[:u] how often each is there, sizes[:u] the strings'
    sizes. Numbers keep the order of the c symbols, not of first appearance: the header would tell
    which symbol is the most frequent.
    """
    c = between(state, p[MIN_SYMBOLS], p[MAX_SYMBOLS])
    k = between(state, p[MIN_MATH], p[MAX_MATH])
    fill_between(state, rule[: 2 * c], 0, c - 1)
    counts[:c] = 0
    for i in range(2 * c):
        counts[rule[i]] += 1

    # Number the used symbols; new_number shares its memory with the sizes, which are drawn later.
    u, new_number = 0, sizes
    for symbol in range(c):
        new_number[symbol] = u
        counts[u] = counts[symbol]
        u += counts[u] > 0
    for i in range(2 * c):
        rule[i] = new_number[rule[i]]

    fill_between(state, sizes[:u], p[MIN_STRING], p[MAX_STRING])
    return c, u, k


@kernel
def problem_fits(counts, sizes, c, u, k, kind, p):
    """Return whether row and target are within max_length.

    The commas between the case's entries count, as in the reference.
    """
    rule = 2 * c + k
    result, case = k, -1
    for i in range(u):
        result += counts[i] * sizes[i]
        case += sizes[i] + ENTRY

    header = ROW_TOKENS + u + p[LOWERS] + p[MATHS]
    if kind == INDUCT:
        row, target = header + result + case, rule
    elif kind == DEDUCT:
        row, target = header + rule + case, result
    else:
        row, target = header + rule + result, case
    return max(row, target) <= p[MAX_LENGTH]


@kernel
def write_header(x, n, special_id, symbols):
    """Append a special token and the symbols that it announces to x[:n]; return the new n."""
    x[n] = special_id
    copy(symbols, x[n + 1 :])
    return n + 1 + len(symbols)


@kernel
def write_rule(x, n, rule, symbols):
    """Append the rule to x[:n]; return the new n."""
    for symbol in rule:
        x[n] = symbols[symbol]
        n += 1
    return n


@kernel
def write_result(x, n, rule, strings, ends, u, symbols):
    """Append the result to x[:n]; return the new n."""
    for symbol in rule:
        if symbol >= u:
            x[n] = symbols[symbol]
            n += 1
        else:
            for i in range(ends[symbol], ends[symbol + 1]):
                x[n] = strings[i]
                n += 1
    return n


@kernel
def write_case(x, n, strings, ends, u, symbols, p):
    """Append the case, `A : [ x y ] B : [ z ]`, to x[:n]; return the new n."""
    for i in range(u):
        x[n], x[n + 1], x[n + 2] = symbols[i], p[COLON], p[OPEN]
        n += 3
        for j in range(ends[i], ends[i + 1]):
            x[n] = strings[j]
            n += 1
        x[n] = p[CLOSE]
        n += 1
    return n


@kernel
def draw_problem(state, x, y, p, kind):
    """Draw a rule and a case that fit; write the row of this kind to x and its target to y.

    Return their lengths.
    """
    # Room for all that is drawn, in one piece.
    most = p[MAX_SYMBOLS]
    work = np.empty(2 * most + p[MAX_MATH] + 3 * most + 1 + p[MAX_LENGTH], np.int32)
    counts = work[:most]  # [used uppers]
    sizes = work[most : 2 * most]  # [used uppers]
    ends = work[2 * most : 3 * most + 1]  # [used uppers + 1]
    rest = work[3 * most + 1 :]  # [rule + strings]

    c, u, k = draw_sizes(state, rest, counts, sizes, p)
    while not problem_fits(counts, sizes, c, u, k, kind, p):
        c, u, k = draw_sizes(state, rest, counts, sizes, p)
    rule, strings = rest[: 2 * c + k], rest[2 * c + k :]
    lower_end = u + p[LOWERS]
    symbol_end = lower_end + p[MATHS]

    # The rule: 2c upper symbols and k math ones, shuffled.
    fill_between(state, rule[2 * c :], lower_end, symbol_end - 1)
    shuffle(state, rule, y)

    # The symbols' ids, and the strings of lower and math symbols.
    ends[0] = 0
    for i in range(u):
        ends[i + 1] = ends[i] + sizes[i]
    symbols = np.empty(symbol_end, np.int32)  # [uppers + lowers + maths]
    fill_distinct(state, symbols, p)
    fill_between(state, strings[: ends[u]], u, symbol_end - 1)
    for i in range(ends[u]):
        strings[i] = symbols[strings[i]]

    # The row: header, then what is shown.
    n = write_header(x, np.int64(0), p[UPPER], symbols[:u])
    n = write_header(x, n, p[LOWER], symbols[u:lower_end])
    n = write_header(x, n, p[MATH], symbols[lower_end:])
    x[n] = p[SEPARATOR]
    if kind == INDUCT:
        n = write_result(x, n + 1, rule, strings, ends, u, symbols)
    else:
        n = write_rule(x, n + 1, rule, symbols)
    x[n] = p[SEPARATOR]
    if kind == ABDUCT:
        n = write_result(x, n + 1, rule, strings, ends, u, symbols)
    else:
        n = write_case(x, n + 1, strings, ends, u, symbols, p)

    # The target: what is asked.
    if kind == INDUCT:
        m = write_rule(y, np.int64(0), rule, symbols)
    elif kind == DEDUCT:
        m = write_result(y, np.int64(0), rule, strings, ends, u, symbols)
    else:
        m = write_case(y, np.int64(0), strings, ends, u, symbols, p)
    return n, m


def induct(state, x, y, p):
    """Draw rule and case until they fit; show result and case."""
    return draw_problem(state, x, y, p, INDUCT)


def deduct(state, x, y, p):
    """Draw rule and case until they fit; show rule and case."""
    return draw_problem(state, x, y, p, DEDUCT)


def abduct(state, x, y, p):
    """Draw rule and case until they fit; show rule and result."""
    return draw_problem(state, x, y, p, ABDUCT)


# --- the tasks ------------------------------------------------------------------------------------


def lime_symbols(parameters: Parameters) -> int:
    """Return how many different symbols a row may have."""
    return parameters["max_symbols"] + parameters["lower"] + parameters["math"]


# What the three tasks have in common.
LIME: dict[str, Any] = {
    "paper": PAPER,
    "version": 2,
    "check_parameters": check_lime,
    "lowest_max_length": None,
    "regular_tokens": lime_symbols,
    "decode": decode_lime,
    "named": False,
    "in_python": True,
    **PARAMETERS,
}


@register_task(induct, row_check=check_lime_row(INDUCT), score_function=score_induct, **LIME)
def lime_induct(body, vocabulary, parameters):
    """Return a rule that gives the result under the case (solve: a shortest; score: any).

    input   <UPPER> A B <LOWER> x y z <MATH> + = <sep> x y + z = x y <sep> A : [ x y ] B : [ z ]
    target  A + B = A
    """
    row = read_row(body, vocabulary, INDUCT)
    rule = shortest_rule(row.result, row.case, row.maths)
    if rule is None:
        raise UsageError("lime_induct: no rule gives this row's result under its case.")
    return rule


@register_task(deduct, row_check=check_lime_row(DEDUCT), **LIME)
def lime_deduct(body, vocabulary, parameters):
    """Return the result of the rule under the case.

    input   <UPPER> A B <LOWER> x y z <MATH> + = <sep> A + B = A <sep> A : [ x y ] B : [ z ]
    target  x y + z = x y
    """
    row = read_row(body, vocabulary, DEDUCT)
    return apply_rule(row.rule, row.case)


@register_task(abduct, row_check=check_lime_row(ABDUCT), score_function=score_abduct, **LIME)
def lime_abduct(body, vocabulary, parameters):
    """Return a case under which the rule gives the result.
    solve: one with strings no longer than in drawn rows, if there is one; score: any.

    input   <UPPER> A B <LOWER> x y z <MATH> + = <sep> A + B = A <sep> x y + z = x y
    target  A : [ x y ] B : [ z ]
    """
    row = read_row(body, vocabulary, ABDUCT)
    case = find_case(row, longest=parameters["max_string"])
    if not case:
        case = find_case(row, longest=len(row.result))
    if case is None or set(case) != set(row.uppers):
        raise UsageError("lime_abduct: no case turns this row's rule into its result.")
    return write_case_ids(case, row.uppers, vocabulary)


@register_mixture({"lime_induct": 1, "lime_deduct": 1, "lime_abduct": 1}, paper=PAPER, version=2)
def lime():
    """Return what is missing of rule, case and result.
    The uniform mixture of lime_induct, lime_deduct and lime_abduct.

    input   <UPPER> A B <LOWER> x y z <MATH> + = <sep> A + B = A <sep> A : [ x y ] B : [ z ]
    target  x y + z = x y
    """
