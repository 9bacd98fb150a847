"""The languages of `chomsky`: strings by their laws, answers by Python's own arithmetic.

Run: pytest tests/tasks/test_chomsky.py
"""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from task_rows import chi_square, pairs

from hf_synpre import UsageError
from hf_synpre.tasks import get_task
from hf_synpre.vocabulary import Vocabulary

V = Vocabulary.plain(40)
SIGNS = ["0", "1", "2", "3", "4", "+", "-", "*", "(", ")", "=", "?", "pop", "push0", "push1"]
LANGUAGES = get_task("chomsky").parameters["language"]
TWO_NUMBERS = ("binary_addition", "binary_multiplication")
# The paper's lengths, and some of those that it tests on.
LENGTHS = ({}, {"min_length": 41, "max_length": 130})


def rows_of(language, rows=300, **parameters):
    """Return strings of a language and their answers, as lists of signs."""
    settings = {"vocabulary": V, "language": language, **parameters}
    for row, target in pairs("chomsky", stop=rows, **settings):
        # Of the empty stack the answer is a special token.
        is_empty = target == [V.special_ids["empty"]]
        signs = [SIGNS[token - V.first_regular] for token in row]
        yield signs, [] if is_empty else [SIGNS[token - V.first_regular] for token in target]


def value(signs):
    """Return the value of an expression modulo 5, by Python."""
    return str(eval("".join(signs)) % 5)


def run(signs):
    stack = []
    for sign in signs:
        if sign == "pop":
            stack = stack[:-1]
        else:
            stack.append(sign[-1])
    return stack[::-1]


def solve(signs):
    """Return the one digit that makes an equation right."""
    left, right = signs[:-2], signs[-1]
    (digit,) = (d for d in "01234" if value([d if s == "?" else s for s in left]) == right)
    return [digit]


def twice(signs):
    half = len(signs) // 2
    (at,) = (i for i, sign in enumerate(signs) if sign == "?")
    assert [a for a, b in zip(signs, signs[half:] + signs[:half], strict=True) if a == "?"] == ["?"]
    return [signs[at - half]]


def lowest_first(digits):
    return int("".join(digits)[::-1], 2)


def of_two_numbers(signs, operator, compute):
    """Return the digits of a result, the lowest first."""
    at = signs.index(operator)
    result = compute(lowest_first(signs[:at]), lowest_first(signs[at + 1 :]))
    return list(f"{result:b}"[::-1])


def square_root(signs):
    root = math.isqrt(int("".join(signs), 2))
    return list(f"{root:b}".zfill((len(signs) + 1) // 2))


ORACLES = {
    "parity": lambda s: [str(s.count("1") % 2)],
    "even_pairs": lambda s: [str(sum(a != b for a, b in itertools.pairwise(s)) % 2)],
    "cycle_navigation": lambda s: [str((s.count("+") - s.count("-")) % 5)],
    "modular_arithmetic": lambda s: [value(s)],
    "modular_arithmetic_brackets": lambda s: [value(s)],
    "solve_equation": solve,
    "stack_manipulation": run,
    "missing_duplicate": twice,
    "odds_first": lambda s: s[::2] + s[1::2],
    "bucket_sort": sorted,
    "binary_addition": lambda s: of_two_numbers(s, "+", lambda a, b: a + b),
    "binary_multiplication": lambda s: of_two_numbers(s, "*", lambda a, b: a * b),
    "square_root": square_root,
}


@pytest.mark.parametrize("rows", [300, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_equal_the_oracles(language, rows):
    for lengths in LENGTHS:
        for signs, answer in rows_of(language, rows, **lengths):
            assert answer == ORACLES[language](signs)
            low, high = lengths.get("min_length", 3), lengths.get("max_length", 40)
            assert low - 1 <= len(signs) <= high


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_row_is_solved_and_shown_again(language):
    settings = {"vocabulary": V, "language": language}
    task = get_task("chomsky")
    for row, target in pairs("chomsky", stop=60, **settings):
        assert task.score(row, target, **settings)
        text = task.text(row, **settings).split()
        assert text == [SIGNS[t - V.first_regular].replace("*", "x") for t in row]


def counted(values):
    """Return how often each of some values comes, in the order of the values."""
    counts = Counter(values)
    return [counts[value] for value in sorted(counts)]


def test_lengths_are_uniform_or_one_less():
    of_parity = counted(len(signs) for signs, _ in rows_of("parity", 8000))
    chi_square(of_parity, np.full(38, 8000 / 38))
    odd = counted(len(signs) for signs, _ in rows_of("modular_arithmetic", 8000))
    chi_square(odd, np.full(19, 8000 / 19))
    even = counted(len(signs) for signs, _ in rows_of("missing_duplicate", 8000))
    chi_square(even, 8000 / 38 * np.array([1, *[2] * 18, 1]))


@pytest.mark.parametrize(
    ("language", "signs"),
    [("parity", "01"), ("even_pairs", "01"), ("cycle_navigation", "-0+"), ("bucket_sort", "01234")],
)
def test_signs_are_uniform(language, signs):
    rows = list(rows_of(language, 2000))
    drawn = counted(sign for row, _ in rows for sign in row)
    chi_square(drawn, np.full(len(signs), sum(drawn) / len(signs)))
    # Those side by side are independent.
    together = counted(pair for row, _ in rows for pair in itertools.pairwise(row))
    chi_square(together, np.full(len(signs) ** 2, sum(together) / len(signs) ** 2))


def test_flat_expressions_have_uniform_digits_and_operators():
    rows = [signs for signs, _ in rows_of("modular_arithmetic", 2000)]
    for start, kinds in ((0, 5), (1, 3)):
        drawn = counted(sign for signs in rows for sign in signs[start::2])
        chi_square(drawn, np.full(kinds, sum(drawn) / kinds))


def bracketed_strings(n):
    """Return the expressions of n signs with d for any digit, and their probabilities."""
    if n <= 4:
        return {[None, "d", "-d", "(d)", "(-d)"][n]: 1.0}
    strings = Counter()
    for left in range(1, n - 3):
        parts = itertools.product(
            bracketed_strings(left).items(), "+-", bracketed_strings(n - 3 - left).items()
        )
        for (a, p), operator, (b, q) in parts:
            strings[f"({a}{operator}{b})"] += p * q / 2 / (n - 4)
    return strings


def test_bracketed_expressions_follow_their_grammar():
    lengths = {"min_length": 10, "max_length": 10}
    rows = ["".join(s) for s, _ in rows_of("modular_arithmetic_brackets", 20_000, **lengths)]
    expected = bracketed_strings(10)
    drawn = Counter(re.sub("[0-4]", "d", text) for text in rows)
    assert drawn.keys() <= expected.keys()
    chi_square([drawn[text] for text in expected], [20_000 * p for p in expected.values()])
    digits = counted("".join(re.findall("[0-4]", "".join(rows))))
    chi_square(digits, np.full(5, sum(digits) / 5))


def test_a_stack_has_up_to_all_but_one_sign():
    lengths = {"min_length": 9, "max_length": 9}
    rows = [signs for signs, _ in rows_of("stack_manipulation", 8000, **lengths)]
    sizes = counted(sum(sign in "01" for sign in signs) for signs in rows)
    chi_square(sizes, np.full(8, 1000))
    operations = counted(sign for signs in rows for sign in signs if sign not in "01")
    chi_square(operations, np.full(3, sum(operations) / 3))


def test_what_is_hidden_is_anywhere():
    lengths = {"min_length": 12, "max_length": 12}
    places = counted(signs.index("?") for signs, _ in rows_of("missing_duplicate", 6000, **lengths))
    chi_square(places, np.full(12, 500))
    # ( d + d ) = d: the first digit from a uniform sign on, of signs 0 and 4 the next one.
    lengths = {"min_length": 7, "max_length": 7}
    places = counted(signs.index("?") for signs, _ in rows_of("solve_equation", 6000, **lengths))
    chi_square(places, [3600, 2400])


@pytest.mark.parametrize("language", TWO_NUMBERS)
def test_numbers_are_uniform_and_not_zero(language):
    lengths = {"min_length": 6, "max_length": 6}
    operator = "+" if language == "binary_addition" else "*"
    drawn = Counter()
    for signs, _ in rows_of(language, 12_000, **lengths):
        at = signs.index(operator)
        drawn[at, lowest_first(signs[:at]), lowest_first(signs[at + 1 :])] += 1
    expected = {
        (k, a, b): 3000 / (2**k - 1) / (2 ** (5 - k) - 1)
        for k in range(1, 5)
        for a in range(1, 2**k)
        for b in range(1, 2 ** (5 - k))
    }
    assert drawn.keys() <= expected.keys()
    chi_square([drawn[key] for key in expected], list(expected.values()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language": "binary_addition", "min_length": 2}, "give at least 3 for binary_addition."),
        ({"language": "paritty"}, "Unknown language of chomsky 'paritty'. Did you mean 'parity'?"),
    ],
)
def test_parameters_that_do_not_fit_are_one_line(settings, message):
    with pytest.raises(UsageError) as error:
        pairs("chomsky", stop=1, vocabulary=V, **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("language", "text", "message"),
    [
        ("parity", "0 1 2", "it is no string of parity, as 0 1 1 is."),
        ("modular_arithmetic", "1 + +", "it is no string of modular_arithmetic, as 1 + 2 * 3 is."),
        ("modular_arithmetic_brackets", "( 1 + 2", "( 1 - ( 2 + 3 ) ) is."),
        ("modular_arithmetic_brackets", ") 1 + 2 (", "( 1 - ( 2 + 3 ) ) is."),
        ("solve_equation", "( ? - ? ) = 2", "as ( 1 - ? ) = 3 is."),
        ("missing_duplicate", "0 1 1 ?", "as 0 1 0 ? is."),
        ("missing_duplicate", "0 1 ?", "as 0 1 0 ? is."),
        ("binary_addition", "0 0 + 1", "as 0 1 + 1 is."),
    ],
)
def test_a_malformed_string_is_one_line(language, text, message):
    row = [V.first_regular + SIGNS.index(sign) for sign in text.split()]
    with pytest.raises(UsageError) as error:
        get_task("chomsky").solve(row, vocabulary=V, language=language)
    assert message.replace("*", "x") in str(error.value)
    with pytest.raises(UsageError, match="is no sign of the languages"):
        get_task("chomsky").solve([V.first_regular + 15], vocabulary=V)
