"""Layer 1: LIME (Wu et al. 2021; spec, section 2.2): of a rule, a case and their result two are given, the third is asked.

Rule: upper and math symbols. Case: a string of lower and math symbols for every upper symbol. Result: the rule with every
upper symbol replaced by its string. A row is `<UPPER> uppers <LOWER> lowers <MATH> maths <sep> given <sep> given`, without a
task name. The reference draws 24 upper symbols and shows at most five, in the arbitrary order of a set: here only those
shown are drawn, and their order has nothing to do with how often each is used.
"""

import itertools
import string
from collections import Counter
from typing import Any

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.tasks.kernels import (
    ARGUMENTS,
    CLOSE,
    COLON,
    MATH,
    MAX_LENGTH,
    OPEN,
    SEPARATOR,
)
from hf_synpre.tasks.kernels import LOWER as LOWER_MARK
from hf_synpre.tasks.kernels import UPPER as UPPER_MARK
from hf_synpre.tasks.mixture import register_mixture
from hf_synpre.tasks.registry import (
    only_regular_tokens,
    register_task,
)
from hf_synpre.tasks.rng import between, copy, fill_between, kernel, shuffle
from hf_synpre.tasks.samplers import fill_distinct
from hf_synpre.vocabulary import Vocabulary

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
RANGES = ("symbols", "math", "string")
LEAST_CHANCE = 1e-5
SEARCH_STEPS = 50_000
MIN_SYMBOLS, MAX_SYMBOLS, MIN_MATH, MAX_MATH, MIN_STRING, MAX_STRING, LOWERS, MATHS = range(
    ARGUMENTS, ARGUMENTS + 8
)
INDUCT, DEDUCT, ABDUCT = range(3)
UPPER_LETTERS, LOWER_LETTERS = string.ascii_uppercase, string.ascii_lowercase
MATH_SIGNS = "+-*/=<>^&%~!?@#$;.'_"


def check(p: dict) -> str | None:
    """What is wrong with the parameters: an empty range, or a max_length that hardly any problem fits.

    A lower bound of the chance to fit: the fewest symbols, and math symbols and strings that share the room left fairly.
    """
    for name in RANGES:
        if not 1 <= p[f"min_{name}"] <= p[f"max_{name}"]:
            return f"min_{name} {p[f'min_{name}']} to max_{name} {p[f'max_{name}']} is no range from 1 up; swap them."
        if p[f"max_{name}"] > p["max_length"]:
            return f"max_{name} is {p[f'max_{name}']}; give at most max_length, which is {p['max_length']}."
    if min(p["lower"], p["math"]) < 1:
        return "lower and math are numbers of symbols; give at least 1."
    c, size = p["min_symbols"], p["min_string"]
    shortest = 5 + c + p["lower"] + p["math"] + 2 * c * size + p["min_math"] + c * (5 + size) - 1
    if p["max_length"] < shortest:
        return f"max_length is {p['max_length']}; give at least {shortest}."
    room, (symbols, math, strings) = (
        (p["max_length"] - shortest) // 2,
        (p[f"max_{n}"] - p[f"min_{n}"] + 1 for n in RANGES),
    )
    chance = min(1, (room + 1) / math) * min(1, (room // (3 * c) + 1) / strings) ** c / symbols
    if chance < LEAST_CHANCE:
        return f"hardly any problem fits max_length {p['max_length']}; give a larger one, or smaller max_string and max_math."
    return None


def bounds(p: dict) -> tuple[int, int]:
    """Longest row and target: both are rejected beyond max_length."""
    return p["max_length"], p["max_length"]


@kernel
def draw_sizes(state, chars, counts, sizes, p):
    """Draw c, the rule's 2c upper places, the math symbols' number k and the strings' sizes; return (c, u used, k).

    chars[:2c] become numbers 0..u-1 of the used upper symbols, counts how often each is there. Numbers keep the order of
    the c symbols, not of first appearance: the header would tell which symbol is the most frequent.
    """
    c = between(state, p[MIN_SYMBOLS], p[MAX_SYMBOLS])
    k = between(state, p[MIN_MATH], p[MAX_MATH])
    fill_between(state, chars[: 2 * c], 0, c - 1)
    counts[:c] = 0
    u, place = 0, sizes
    for i in range(2 * c):
        counts[chars[i]] += 1
    for char in range(c):
        place[char], counts[u] = u, counts[char]
        u += counts[u] > 0
    for i in range(2 * c):
        chars[i] = place[chars[i]]
    fill_between(state, sizes[:u], p[MIN_STRING], p[MAX_STRING])
    return c, u, k


@kernel
def fits(counts, sizes, c, u, k, kind, p):
    """Are row and target within max_length, the commas between the case's entries counted?"""
    result, case = k, -1
    for i in range(u):
        result += counts[i] * sizes[i]
        case += sizes[i] + 5
    rule, row = 2 * c + k, 5 + u + p[LOWERS] + p[MATHS]
    if kind == INDUCT:
        row, target = row + result + case, rule
    elif kind == DEDUCT:
        row, target = row + rule + case, result
    else:
        row, target = row + rule + result, case
    return max(row, target) <= p[MAX_LENGTH]


@kernel
def write_part(x, n, mark, symbols):
    """Append a mark and symbols to x[:n]; return the new n."""
    x[n] = mark
    copy(symbols, x[n + 1 :])
    return n + 1 + len(symbols)


@kernel
def write_result(x, n, rule, strings, ends, u, symbols):
    """Append the result to x[:n]; return the new n."""
    for char in rule:
        if char >= u:
            x[n] = symbols[char]
            n += 1
        else:
            for i in range(ends[char], ends[char + 1]):
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
def write_rule(x, n, rule, symbols):
    """Append the rule to x[:n]; return the new n."""
    for char in rule:
        x[n] = symbols[char]
        n += 1
    return n


@kernel
def problem(state, x, y, p, kind):
    """Draw a rule and a case that fit; write the row of this kind to x and its target to y; return their lengths.

    Symbols are numbered: the used uppers 0..u-1, then the lowers, then the maths.
    """
    most = p[MAX_SYMBOLS]
    work = np.empty(2 * most + p[MAX_MATH] + 3 * most + 1 + p[MAX_LENGTH], np.int32)
    counts, sizes, ends, rest = (
        work[:most],
        work[most : 2 * most],
        work[2 * most : 3 * most + 1],
        work[3 * most + 1 :],
    )
    c, u, k = draw_sizes(state, rest, counts, sizes, p)
    while not fits(counts, sizes, c, u, k, kind, p):
        c, u, k = draw_sizes(state, rest, counts, sizes, p)
    rule, strings = rest[: 2 * c + k], rest[2 * c + k :]
    lower_end, symbol_end = u + p[LOWERS], u + p[LOWERS] + p[MATHS]
    fill_between(state, rule[2 * c :], lower_end, symbol_end - 1)
    shuffle(state, rule, y)
    ends[0] = 0
    for i in range(u):
        ends[i + 1] = ends[i] + sizes[i]
    symbols = np.empty(symbol_end, np.int32)
    fill_distinct(state, symbols, p)
    fill_between(state, strings[: ends[u]], u, symbol_end - 1)
    for i in range(ends[u]):
        strings[i] = symbols[strings[i]]
    n = write_part(x, np.int64(0), p[UPPER_MARK], symbols[:u])
    n = write_part(x, n, p[LOWER_MARK], symbols[u:lower_end])
    n = write_part(x, n, p[MATH], symbols[lower_end:])
    x[n] = p[SEPARATOR]
    if kind == INDUCT:
        n, m = (
            write_result(x, n + 1, rule, strings, ends, u, symbols),
            write_rule(y, np.int64(0), rule, symbols),
        )
    else:
        n, m = write_rule(x, n + 1, rule, symbols), 0
    x[n] = p[SEPARATOR]
    if kind == ABDUCT:
        n, m = (
            write_result(x, n + 1, rule, strings, ends, u, symbols),
            write_case(y, np.int64(0), strings, ends, u, symbols, p),
        )
        return n, m
    if kind == DEDUCT:
        m = write_result(y, np.int64(0), rule, strings, ends, u, symbols)
    return write_case(x, n + 1, strings, ends, u, symbols, p), m


def induct(state, x, y, p):
    """Rule and case drawn until they fit; shown: result and case."""
    return problem(state, x, y, p, INDUCT)


def deduct(state, x, y, p):
    """Rule and case drawn until they fit; shown: rule and case."""
    return problem(state, x, y, p, DEDUCT)


def abduct(state, x, y, p):
    """Rule and case drawn until they fit; shown: rule and result."""
    return problem(state, x, y, p, ABDUCT)


Case = dict[int, list[int]]


def parse_row(
    body: np.ndarray, words: Vocabulary
) -> tuple[list[int], set[int], set[int], list[int], list[int]]:
    """Return (uppers, lowers, maths, first given, second given) of a row. Raises UsageError where the form is broken."""
    marks, ids = words.special_ids, body.tolist()
    places = []
    for name, times in (("upper", 1), ("lower", 1), ("math", 1), ("separator", 2)):
        at = [i for i, token in enumerate(ids) if token == marks[name]]
        if len(at) != times:
            raise UsageError(
                f"LIME: malformed row: the mark {name} ({marks[name]}) is there {len(at)} times, not {times}."
            )
        places += at
    if places[0] != 0 or places != sorted(places):
        raise UsageError(
            "LIME: malformed row: its marks are not in the order upper, lower, math, separator, separator."
        )
    parts = [ids[a + 1 : b] for a, b in zip(places, [*places[1:], len(ids)], strict=True)]
    empty = [
        name
        for name, part in zip(("upper", "lower", "math", "first", "second"), parts, strict=True)
        if not part
    ]
    symbols = parts[0] + parts[1] + parts[2]
    if empty or len(set(symbols)) < len(symbols):
        fault = f"its {empty[0]} part is empty" if empty else "a symbol is twice in its header"
        raise UsageError(f"LIME: malformed row: {fault}.")
    if stray := only_regular_tokens(np.array(symbols), words, {}):
        raise UsageError(f"LIME: malformed row: in its header {stray}")
    return parts[0], set(parts[1]), set(parts[2]), parts[3], parts[4]


def parse_case(
    ids: list[int], uppers: list[int], string_symbols: set[int], words: Vocabulary
) -> dict[int, list[int]] | None:
    """Return {upper: its string} of a case that has every upper symbol once and no empty string; None of anything else."""
    marks, case, i = words.special_ids, {}, 0
    while i < len(ids):
        if (
            ids[i] not in uppers
            or ids[i] in case
            or ids[i + 1 : i + 3] != [marks["colon"], marks["open"]]
        ):
            return None
        end = i + 3
        while end < len(ids) and ids[end] in string_symbols:
            end += 1
        if end == i + 3 or ids[end : end + 1] != [marks["close"]]:
            return None
        case[ids[i]] = ids[i + 3 : end]
        i = end + 1
    return case if len(case) == len(uppers) else None


def apply_rule(rule: list[int], case: Case) -> list[int]:
    """Return the rule with every upper symbol replaced by its string."""
    return [token for char in rule for token in case.get(char, [char])]


def read_row(
    body: np.ndarray, words: Vocabulary, kind: int
) -> tuple[Any, list[int], list[int], set[int], set[int]]:
    """Return (case or result, rule or result, uppers, lowers, maths) of a row of this kind: what is given second, first."""
    uppers, lowers, maths, first, second = parse_row(body, words)
    allowed = {INDUCT: lowers | maths, DEDUCT: maths | set(uppers), ABDUCT: maths | set(uppers)}[
        kind
    ]
    what = "result" if kind == INDUCT else "rule"
    if stray := [token for token in first if token not in allowed]:
        raise UsageError(f"LIME: malformed row: id {stray[0]} cannot be in its {what}.")
    if kind == ABDUCT:
        if stray := [token for token in second if token not in lowers | maths]:
            raise UsageError(f"LIME: malformed row: id {stray[0]} cannot be in its result.")
        return second, first, uppers, lowers, maths
    case = parse_case(second, uppers, lowers | maths, words)
    if case is None:
        raise UsageError(
            "LIME: malformed row: its case is not `A : [ x y ] B : [ z ]` over all upper symbols."
        )
    return case, first, uppers, lowers, maths


def row_check(kind: int):
    """The row check of one kind."""

    def check_row(body: np.ndarray, words: Vocabulary, parameters: dict) -> str | None:
        read_row(body, words, kind)
        return None

    return check_row


def shortest_rule(result: list[int], case: Case, maths: set[int]) -> list[int] | None:
    """Return a shortest rule that gives the result under the case, None where there is none: best[i] is for result[i:]."""
    best: list[list[int] | None] = [None] * len(result) + [[]]
    for i in range(len(result) - 1, -1, -1):
        steps = [
            (char, len(string))
            for char, string in case.items()
            if result[i : i + len(string)] == string
        ]
        steps += [(result[i], 1)] if result[i] in maths else []
        rules = [[char, *best[i + size]] for char, size in steps if best[i + size] is not None]
        best[i] = min(rules, key=len) if rules else None
    return best[0]


def find_case(rule: list[int], result: list[int], uppers: set[int], longest: int) -> Case | None:
    """Return a case with strings of at most `longest` that turns the rule into the result, long strings first, or None.

    Raises UsageError after SEARCH_STEPS guesses: the search is exponential in the worst case.
    """
    for char, token in zip(reversed(rule), reversed(result), strict=False):
        if char in uppers:
            break
        if char != token:
            return None
    guesses: list[tuple[int, int, Case, int]] = [(0, 0, {}, 0)]
    for _ in range(SEARCH_STEPS):
        if not guesses:
            return None
        place, at, case, size = guesses.pop()
        if size:
            case = case | {rule[place]: result[at : at + size]}
        while place < len(rule) and (rule[place] in case or rule[place] not in uppers):
            string = case.get(rule[place], [rule[place]])
            if result[at : at + len(string)] != string:
                break
            place, at = place + 1, at + len(string)
        else:
            if place == len(rule) and at == len(result):
                return case
            guesses += [
                (place, at, case, size)
                for size in sizes_to_try(rule[place:], len(result) - at, case, uppers, longest)
            ]
    raise UsageError(
        f"lime_abduct: no case was found for this row in {SEARCH_STEPS} guesses; it may have none."
    )


def sizes_to_try(
    rest: list[int], room: int, case: Case, uppers: set[int], longest: int
) -> list[int]:
    """Return the possible sizes of the string of rest[0], ascending; only one where it is the last unknown symbol."""
    times = Counter(rest)
    if not times:
        return []
    room -= sum(len(case.get(char, [0])) * n for char, n in times.items() if char != rest[0])
    most, over = divmod(room, times[rest[0]])
    if all(char in case or char not in uppers or char == rest[0] for char in times):
        return [most] if 1 <= most <= longest and not over else []
    return list(range(1, min(longest, most) + 1))


def judge_induct(body: np.ndarray, answer: np.ndarray, words: Vocabulary, parameters: dict) -> bool:
    """Is the answer a rule over upper and math symbols that gives the result under the case?"""
    case, result, uppers, _, maths = read_row(body, words, INDUCT)
    rule = answer.tolist()
    return set(rule) <= maths | set(uppers) and apply_rule(rule, case) == result


def judge_abduct(body: np.ndarray, answer: np.ndarray, words: Vocabulary, parameters: dict) -> bool:
    """Is the answer a case over lower and math symbols under which the rule gives the result?"""
    result, rule, uppers, lowers, maths = read_row(body, words, ABDUCT)
    case = parse_case(answer.tolist(), uppers, lowers | maths, words)
    return case is not None and apply_rule(rule, case) == result


def read(ids: np.ndarray, row: np.ndarray, words: Vocabulary, parameters: dict) -> str:
    """Return ids as text, named by their row's header: uppers A, B, ..., lowers a, b, ..., maths as signs."""
    names, row = {i: words.decode(i) for i in ids.tolist()}, row.tolist()
    places = [
        row.index(words.special_ids[name])
        for name in ("upper", "lower", "math", "separator")
        if words.special_ids[name] in row
    ]
    for (a, b), signs in zip(
        itertools.pairwise(places), (UPPER_LETTERS, LOWER_LETTERS, MATH_SIGNS), strict=False
    ):
        names |= {i: signs[n % len(signs)] for n, i in enumerate(row[a + 1 : b])}
    return " ".join(names[i] for i in ids.tolist())


LIME = {
    "paper": PAPER,
    "version": 2,
    "bounds": bounds,
    "check_parameters": check,
    "lowest_max_length": None,
    "regular_tokens": lambda p: p["max_symbols"] + p["lower"] + p["math"],
    "decode": read,
    "named": False,
    "in_python": True,
    **PARAMETERS,
}


@register_task(induct, row_check=row_check(INDUCT), score_function=judge_induct, **LIME)
def lime_induct(body, words, parameters):
    """Return a rule that gives the result under the case (solve: a shortest; score: any).

    input   <UPPER> A B <LOWER> x y z <MATH> + = <sep> x y + z = x y <sep> A : [ x y ] B : [ z ]
    target  A + B = A
    """
    case, result, _, _, maths = read_row(body, words, INDUCT)
    rule = shortest_rule(result, case, maths)
    if rule is None:
        raise UsageError("lime_induct: no rule gives this row's result under its case.")
    return rule


@register_task(deduct, row_check=row_check(DEDUCT), **LIME)
def lime_deduct(body, words, parameters):
    """Return the result of the rule under the case.

    input   <UPPER> A B <LOWER> x y z <MATH> + = <sep> A + B = A <sep> A : [ x y ] B : [ z ]
    target  x y + z = x y
    """
    case, rule, *_ = read_row(body, words, DEDUCT)
    return apply_rule(rule, case)


@register_task(abduct, row_check=row_check(ABDUCT), score_function=judge_abduct, **LIME)
def lime_abduct(body, words, parameters):
    """Return a case under which the rule gives the result (solve: one with strings as long as the law's; score: any).

    input   <UPPER> A B <LOWER> x y z <MATH> + = <sep> A + B = A <sep> x y + z = x y
    target  A : [ x y ] B : [ z ]
    """
    result, rule, uppers, *_ = read_row(body, words, ABDUCT)
    case = find_case(rule, result, set(uppers), parameters["max_string"]) or find_case(
        rule, result, set(uppers), len(result)
    )
    if case is None or set(case) != set(uppers):
        raise UsageError("lime_abduct: no case turns this row's rule into its result.")
    marks = words.special_ids
    return [
        i
        for char in uppers
        for i in (char, marks["colon"], marks["open"], *case[char], marks["close"])
    ]


@register_mixture({"lime_induct": 1, "lime_deduct": 1, "lime_abduct": 1}, paper=PAPER, version=2)
def lime():
    """Return what is missing of rule, case and result; the uniform mixture of lime_induct, lime_deduct and lime_abduct.

    input   <UPPER> A B <LOWER> x y z <MATH> + = <sep> A + B = A <sep> A : [ x y ] B : [ z ]
    target  x y + z = x y
    """
