"""Rows of LIME in plain Python: a row's ids come in, its parts, solutions and text go out.

A row is `<UPPER> uppers <LOWER> lowers <MATH> maths <sep> first <sep> second`: a header that says
which symbol is what, then the two parts of rule, case and result that are not asked (lime.py).
"""

import itertools
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.task import only_regular_tokens
from hf_synpre.vocabulary import Vocabulary

# The three kinds of task, by what they ask: the rule, the result, the case.
INDUCT, DEDUCT, ABDUCT = range(3)

# The special tokens of a row, in their order, and how often each is there.
ROW_TOKENS = {"upper": 1, "lower": 1, "math": 1, "separator": 2}
# The parts of a row behind each of them.
ROW_PARTS = ("upper", "lower", "math", "first", "second")
# How people read the symbols of each part of the header.
HEADER_SIGNS = (string.ascii_uppercase, string.ascii_lowercase, "+-*/=<>^&%~!?@#$;.'_")

# Guesses of `find_case` before it gives up: its search is exponential in the worst case.
SEARCH_STEPS = 50_000

# The string of every upper symbol.
Case = dict[int, list[int]]


@dataclass
class LimeRow:
    """A row taken apart. Of rule, case and result the one that is asked is empty."""

    uppers: list[int]
    lowers: set[int]
    maths: set[int]
    rule: list[int] = field(default_factory=list)
    case: Case = field(default_factory=dict)
    result: list[int] = field(default_factory=list)

    @property
    def string_symbols(self) -> set[int]:
        """The symbols of strings and results."""
        return self.lowers | self.maths

    @property
    def rule_symbols(self) -> set[int]:
        """The symbols of rules."""
        return self.maths | set(self.uppers)


# --- from ids to parts ----------------------------------------------------------------------------


def split_row(body: np.ndarray, vocabulary: Vocabulary) -> list[list[int]]:
    """Return the five parts of a row, ROW_PARTS. Raises UsageError where its form is broken."""
    ids = body.tolist()

    # The special tokens: how many, and in which order.
    positions = []
    for name, count in ROW_TOKENS.items():
        token = vocabulary.special_ids[name]
        token_positions = [i for i in range(len(ids)) if ids[i] == token]
        if len(token_positions) != count:
            raise UsageError(
                f"LIME: malformed row: the special token {name} ({token}) is there "
                f"{len(token_positions)} times, not {count}."
            )
        positions += token_positions
    if positions[0] != 0 or positions != sorted(positions):
        raise UsageError(
            "LIME: malformed row: its special tokens are not in the order "
            "upper, lower, math, separator, separator."
        )

    # The parts between them.
    parts = []
    for position, end in itertools.pairwise([*positions, len(ids)]):
        parts.append(ids[position + 1 : end])
    for name, part in zip(ROW_PARTS, parts, strict=True):
        if not part:
            raise UsageError(f"LIME: malformed row: its {name} part is empty.")

    # The header: different regular tokens.
    symbols = parts[0] + parts[1] + parts[2]
    if len(set(symbols)) < len(symbols):
        raise UsageError("LIME: malformed row: a symbol is twice in its header.")
    problem = only_regular_tokens(np.array(symbols), vocabulary, {})
    if problem:
        raise UsageError(f"LIME: malformed row: in its header {problem}")
    return parts


def read_row(body: np.ndarray, vocabulary: Vocabulary, kind: int) -> LimeRow:
    """Return a row taken apart.

    Args:
        body: the ids of the row, int32[n].
        vocabulary: the vocabulary of the row.
        kind: INDUCT, DEDUCT or ABDUCT: which of its parts is asked.

    Raises:
        UsageError: the row is malformed.
    """
    uppers, lowers, maths, first, second = split_row(body, vocabulary)
    row = LimeRow(uppers, set(lowers), set(maths))

    # Shown first: the rule, or the result where the rule is asked.
    if kind == INDUCT:
        check_symbols(first, row.string_symbols, "result")
        row.result = first
    else:
        check_symbols(first, row.rule_symbols, "rule")
        row.rule = first

    # Shown second: the case, or the result where the case is asked.
    if kind == ABDUCT:
        check_symbols(second, row.string_symbols, "result")
        row.result = second
        return row
    case = read_case(second, row, vocabulary)
    if case is None:
        raise UsageError(
            "LIME: malformed row: its case is not `A : [ x y ] B : [ z ]` over all upper symbols."
        )
    row.case = case
    return row


def check_symbols(ids: list[int], allowed: set[int], part: str) -> None:
    """Raise UsageError where a part of a row has another symbol than the allowed ones."""
    for token in ids:
        if token not in allowed:
            raise UsageError(f"LIME: malformed row: id {token} cannot be in its {part}.")


def read_case(ids: list[int], row: LimeRow, vocabulary: Vocabulary) -> Case | None:
    """Return the case that ids write, `A : [ x y ] B : [ z ]`.

    Args:
        ids: the ids.
        row: the row, for its symbols.
        vocabulary: the vocabulary of the row.

    Returns:
        The string of every upper symbol; None where one is missing or twice there, a string is
        empty, or the form broken.
    """
    colon, opening, closing = (vocabulary.special_ids[name] for name in ("colon", "open", "close"))
    case: Case = {}
    i = 0
    while i < len(ids):
        # `A : [`
        upper, start = ids[i], i + 3
        if upper not in row.uppers or upper in case or ids[i + 1 : start] != [colon, opening]:
            return None

        # `x y ]`
        end = start
        while end < len(ids) and ids[end] in row.string_symbols:
            end += 1
        if end == start or ids[end : end + 1] != [closing]:
            return None
        case[upper] = ids[start:end]
        i = end + 1
    return case if len(case) == len(row.uppers) else None


def write_case_ids(case: Case, uppers: list[int], vocabulary: Vocabulary) -> list[int]:
    """Return the ids of a case, `A : [ x y ] B : [ z ]`, its upper symbols in this order."""
    special_ids = vocabulary.special_ids
    ids = []
    for upper in uppers:
        ids += [upper, special_ids["colon"], special_ids["open"], *case[upper]]
        ids.append(special_ids["close"])
    return ids


def check_lime_row(kind: int) -> Callable[[np.ndarray, Vocabulary, Parameters], str | None]:
    """Return the row check of one kind of task: `read_row` raises what is wrong."""

    def check(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
        read_row(body, vocabulary, kind)
        return None

    return check


# --- solutions ------------------------------------------------------------------------------------


def apply_rule(rule: list[int], case: Case) -> list[int]:
    """Return the rule with every upper symbol replaced by its string."""
    result = []
    for symbol in rule:
        result += case.get(symbol, [symbol])
    return result


def shortest_rule(result: list[int], case: Case, maths: set[int]) -> list[int] | None:
    """Return a shortest rule that gives the result under the case, None where there is none."""
    # From the end: best[i] is a shortest rule for result[i:].
    best: list[list[int] | None] = [None] * len(result) + [[]]
    for i in range(len(result) - 1, -1, -1):
        # The symbols that result[i:] may start with, and how much of it they give.
        steps = []
        for upper, symbols in case.items():
            if result[i : i + len(symbols)] == symbols:
                steps.append((upper, len(symbols)))
        if result[i] in maths:
            steps.append((result[i], 1))

        for symbol, size in steps:
            rest, shortest = best[i + size], best[i]
            if rest is None:
                continue
            if shortest is None or 1 + len(rest) < len(shortest):
                best[i] = [symbol, *rest]
    return best[0]


def find_case(row: LimeRow, longest: int) -> Case | None:
    """Return a case under which the row's rule gives its result, long strings first.

    Args:
        row: a row that asks the case.
        longest: the most symbols of a string.

    Returns:
        The strings of the upper symbols that are in the rule; None where there is no such case.

    Raises:
        UsageError: none was found in SEARCH_STEPS guesses.
    """
    rule, result = row.rule, row.result

    # A rule that ends in math symbols needs a result that ends in the same.
    for symbol, token in zip(reversed(rule), reversed(result), strict=False):
        if symbol in row.uppers:
            break
        if symbol != token:
            return None

    # Depth first. A guess: rule[:i] gives result[:j] under the case, and the string of rule[i] has
    # `size` symbols (0 at the start, where nothing is guessed).
    guesses: list[tuple[int, int, Case, int]] = [(0, 0, {}, 0)]
    for _ in range(SEARCH_STEPS):
        if not guesses:
            return None
        i, j, case, size = guesses.pop()
        if size:
            case = case | {rule[i]: result[j : j + size]}

        # Go on to the next unknown symbol, unless the result is another than the case says.
        next_unknown = follow_case(row, i, j, case)
        if next_unknown is None:
            continue
        i, j = next_unknown
        if i == len(rule) and j == len(result):
            return case
        for next_size in sizes_to_try(row, i, j, case, longest):
            guesses.append((i, j, case, next_size))
    raise UsageError(
        f"lime_abduct: no case was found for this row in {SEARCH_STEPS} guesses; it may have none."
    )


def follow_case(row: LimeRow, i: int, j: int, case: Case) -> tuple[int, int] | None:
    """Return (i, j): the next upper symbol of rule[i:] without a string, and where it starts.

    None where result[j:] is not what the symbols before it give.
    """
    while i < len(row.rule) and (row.rule[i] in case or row.rule[i] not in row.uppers):
        symbols = case.get(row.rule[i], [row.rule[i]])
        if row.result[j : j + len(symbols)] != symbols:
            return None
        i += 1
        j += len(symbols)
    return i, j


def sizes_to_try(row: LimeRow, i: int, j: int, case: Case, longest: int) -> list[int]:
    """Return the possible sizes of the string of rule[i], ascending; it starts at result[j].

    Only one is possible where rule[i] is the last unknown symbol.
    """
    counts = Counter(row.rule[i:])
    if not counts:
        return []

    # The symbols of the result that are left for the strings of rule[i]. Other unknown ones take at
    # least one each.
    unknown = row.rule[i]
    room = len(row.result) - j
    is_last = True
    for symbol, count in counts.items():
        if symbol == unknown:
            continue
        room -= len(case.get(symbol, [symbol])) * count
        if symbol in row.uppers and symbol not in case:
            is_last = False

    largest, rest = divmod(room, counts[unknown])
    if not is_last:
        return list(range(1, min(longest, largest) + 1))
    if 1 <= largest <= longest and rest == 0:
        return [largest]
    return []


# --- scores and text ------------------------------------------------------------------------------


def score_induct(
    body: np.ndarray, answer: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> bool:
    """Return whether an answer is a rule that gives the result under the case."""
    row = read_row(body, vocabulary, INDUCT)
    rule = answer.tolist()
    return set(rule) <= row.rule_symbols and apply_rule(rule, row.case) == row.result


def score_abduct(
    body: np.ndarray, answer: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> bool:
    """Return whether an answer is a case under which the rule gives the result."""
    row = read_row(body, vocabulary, ABDUCT)
    case = read_case(answer.tolist(), row, vocabulary)
    return case is not None and apply_rule(row.rule, case) == row.result


def decode_lime(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return ids as text, named by their row's header: A, B, ... and a, b, ... and signs."""
    row_ids = row.tolist()
    header = []
    for name in ROW_TOKENS:
        token = vocabulary.special_ids[name]
        if token in row_ids:
            header.append(row_ids.index(token))

    names = {token: vocabulary.decode(token) for token in ids.tolist()}
    parts = itertools.pairwise(header)
    for (position, end), signs in zip(parts, HEADER_SIGNS, strict=False):
        for number, token in enumerate(row_ids[position + 1 : end]):
            names[token] = signs[number % len(signs)]
    return " ".join(names[token] for token in ids.tolist())
