"""The 18 simple tasks of Wu, Li, Liang 2022: an input comes in, its target goes out.

They are described in docs/papers.md, "Simple tasks".

Each function is compiled and gets (x, y, p): the body of an input, room for its target, and the
vector of vocabulary and parameters (kernels.py). How inputs are drawn is in samplers.py.

The set operations answer in order of first appearance, a deviation: the reference has CPython's
iteration order of sets, which order="reference" gives.

Where a task has the parameter `law`, "uniform" gives the inputs of Jiang et al. 2026: independent
uniform tokens (docs/papers.md, "Tasks since 2022").
"""

from typing import Any

import numpy as np

from hf_synpre.tasks import samplers
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.id_sets import (
    add_distinct,
    find_slot,
    keep_where,
    new_bits,
    new_table,
    reference_difference,
    reference_intersection,
    reference_union,
)
from hf_synpre.tasks.kernels import ARGUMENT_DIVIDER, ARGUMENTS, NO, WORD_DIVIDER, YES
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import copy, kernel
from hf_synpre.tasks.row_checks import (
    check_order,
    check_query,
    check_two_arguments,
    check_words,
)
from hf_synpre.tasks.samplers import LAWS, UNIFORM
from hf_synpre.tasks.task import only_regular_tokens
from hf_synpre.vocabulary import Vocabulary

PAPER = "Wu, Li, Liang 2022, arXiv 2206.10139"
# Of tasks that have the law of a second paper too.
PAPERS = f"{PAPER}; Jiang et al. 2026, arXiv 2601.21725"

# The choices of the set operations' parameter `order`; compiled code knows them by their numbers.
ORDER = ("appearance", "reference")
REFERENCE_ORDER = 1


def query_fits(parameters: Parameters) -> int:
    """Return the smallest max_length of tasks with a query, whose sequence may be twice as long."""
    if parameters.get("law") == "uniform":
        return parameters["min_length"]
    return 2 * parameters["min_length"] + 2


def order_fits(parameters: Parameters) -> int:
    """Return the smallest max_length of `sort`, whose order needs an odd length."""
    min_length = parameters["min_length"]
    return (
        min_length if parameters["law"] == "uniform" else max(min_length, min_length // 2 * 2 + 1)
    )


def number_bounds(parameters: Parameters) -> tuple[int, int]:
    """Return the bounds of tasks whose target is a number: longest body, longest target.

    Samplers use the room for the target as scratch space, so it is as long as the body.
    """
    longest = parameters["max_length"]
    return longest, longest + len(str(longest)) + 2


def ten_digits(parameters: Parameters) -> int:
    """Return how many regular tokens a task with numbers needs: one for each digit."""
    return 10


def number_table(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the ids of the numbers 0..max_length for compiled code.

    Returns:
        int64[1 + (max_length + 1) * width]: the width of a row, then a row a number, -1 behind the
        shorter ones.
    """
    numbers = [vocabulary.number_ids(number) for number in range(parameters["max_length"] + 1)]
    width = max(map(len, numbers))
    table = np.full((len(numbers), width), -1, np.int64)  # [numbers, width]
    for number, ids in enumerate(numbers):
        table[number, : len(ids)] = ids
    return np.concatenate([[width], table.ravel()])


@kernel
def write_number(number, y, p):
    """Write the ids of a number from the table at p[ARGUMENTS] to y; return how many."""
    width = p[ARGUMENTS]
    start = ARGUMENTS + 1 + number * width
    m = 0
    while m < width and p[start + m] >= 0:
        y[m] = p[start + m]
        m += 1
    return m


@kernel
def find_divider(x, p):
    """Return the index of the argument divider in x, looked for from the end."""
    i = len(x) - 1
    while x[i] != p[ARGUMENT_DIVIDER]:
        i -= 1
    return i


@register_task(samplers.uniform, paper=PAPER)
def identity(x, y, p):
    """Return the input.

    input   a b c d
    target  a b c d
    """
    copy(x, y)
    return len(x)


@register_task(
    samplers.shuffled_runs,
    paper=PAPERS,
    added_parameters=("law",),
    law=LAWS,
)
def set_(x, y, p):
    """Return the distinct tokens in order of first appearance.
    law="uniform" has independent uniform tokens instead of shuffled runs.

    input   b a c a b
    target  b a c
    """
    return add_distinct(x, y, 0, new_bits(p))


def check_delete(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of `delete`, or None."""
    if parameters["hit"] > 100:
        return f"hit is {parameters['hit']}; give 0 to 100."
    if parameters["law"] == "uniform" and parameters["min_length"] < 3:
        return f"min_length is {parameters['min_length']}; give at least 3 with law=uniform."
    return None


@register_task(
    samplers.sequence_and_deleted,
    paper=PAPERS,
    lowest_max_length=query_fits,
    check_parameters=check_delete,
    regular_tokens=lambda parameters: 2 if parameters["law"] == "uniform" else 1,
    row_check=check_query,
    added_parameters=("law", "hit"),
    law=LAWS,
    hit=75,
)
def delete(x, y, p):
    """Return the sequence without the first occurrence of the query, where it has one.
    The query is drawn to be in the sequence in `hit` of 100 rows; rows whose length does not fit
    are drawn anew, which makes them 82 of 100 by default. law="uniform" has a sequence of
    independent uniform tokens and a query of one token, which is in exactly `hit` of 100.

    input   a b c b c | b c
    target  a b c
    """
    s = find_divider(x, p)
    query = x[s + 1 :]
    start = samplers.find(x[:s], query)
    if start < 0:
        copy(x[:s], y)
        return s

    # Copy what is before the occurrence, then what is after it.
    copy(x[:start], y)
    copy(x[start + len(query) : s], y[start:])
    return s - len(query)


def check_sort(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Check a row of `sort`: a sequence alone, or with its order."""
    check = only_regular_tokens if parameters["law"] == "uniform" else check_order
    return check(body, vocabulary, parameters)


@register_task(
    samplers.sequence_and_order,
    paper=PAPERS,
    lowest_min_length=2,
    lowest_max_length=order_fits,
    row_check=check_sort,
    added_parameters=("law",),
    law=LAWS,
)
def sort(x, y, p):
    """Return the sequence stably sorted by the position of its tokens in the order.
    Of a token that is twice in the order the last position counts. law="uniform" has a sequence of
    independent uniform tokens and no order: it is sorted by the numbers of the tokens.

    input   a c b a c | c b a
    target  c c b a a
    """
    if p[samplers.LAW] == UNIFORM:
        copy(x, y)
        y[: len(x)].sort()
        return len(x)
    s = find_divider(x, p)
    order = x[s + 1 :]

    # The position of every token of the order, by its slot in a hash table.
    table = new_table(len(order))
    slot_positions = np.empty(len(table), np.int32)  # [slots]
    for i in range(len(order)):
        slot = find_slot(table, order[i])
        table[slot] = order[i] + 1
        slot_positions[slot] = i

    # Counting sort: first how many tokens have each position, then where each position starts.
    positions = np.empty(s, np.int32)  # [sequence]
    starts = np.zeros(len(order) + 1, np.int32)  # [order + 1]
    for i in range(s):
        positions[i] = slot_positions[find_slot(table, x[i])]
        starts[positions[i] + 1] += 1
    for i in range(len(order)):
        starts[i + 1] += starts[i]
    for i in range(s):
        y[starts[positions[i]]] = x[i]
        starts[positions[i]] += 1
    return s


# What the four set operations have in common.
SET_OPERATION: dict[str, Any] = {
    "paper": PAPERS,
    "lowest_min_length": 3,
    "regular_tokens": lambda parameters: (
        1 if parameters["law"] == "uniform" else parameters["max_length"] // 2
    ),
    "row_check": check_two_arguments("any number"),
    "added_parameters": ("law",),
    "order": ORDER,
    "law": LAWS,
}


@register_task(samplers.two_sequences, **SET_OPERATION)
def union(x, y, p):
    """Return the distinct tokens of both sequences by first appearance.
    The order is a deviation; order="reference" gives the paper's. law="uniform" has two halves of
    independent uniform tokens, instead of sequences of any lengths from one small pool.

    input   b a b | c a
    target  b a c
    """
    s = find_divider(x, p)
    left, right = x[:s], x[s + 1 :]
    if p[ARGUMENTS] == REFERENCE_ORDER:
        return reference_union(left, right, y)
    bits = new_bits(p)
    m = add_distinct(left, y, 0, bits)
    return add_distinct(right, y, m, bits)


@register_task(
    samplers.sequence_and_pair,
    paper=PAPER,
    lowest_min_length=4,
    row_check=check_two_arguments(
        "exactly two: the id to replace and its replacement", range(2, 3)
    ),
)
def replace(x, y, p):
    """Return the sequence with the first token after the divider replaced by the second.

    input   a b c b | b d
    target  a d c d
    """
    s = len(x) - 3
    replaced, replacement = x[s + 1], x[s + 2]
    for i in range(s):
        y[i] = replacement if x[i] == replaced else x[i]
    return s


@register_task(
    samplers.uniform,
    paper=PAPER,
    bounds=lambda parameters: (parameters["max_length"], 2 * parameters["max_length"]),
)
def duplicate(x, y, p):
    """Return the input with every token twice in place.

    input   a b c
    target  a a b b c c
    """
    for i in range(len(x)):
        y[2 * i] = x[i]
        y[2 * i + 1] = x[i]
    return 2 * len(x)


@register_task(samplers.two_sequences, **SET_OPERATION)
def intersect(x, y, p):
    """Return the distinct tokens in both sequences by first appearance.
    The order is a deviation; order="reference" gives the paper's. law="uniform" is that of `union`.

    input   b a b c | c b
    target  b c
    """
    s = find_divider(x, p)
    left, right = x[:s], x[s + 1 :]
    if p[ARGUMENTS] == REFERENCE_ORDER:
        return reference_intersection(left, right, y)
    m = add_distinct(left, y, 0, new_bits(p))
    return keep_where(y, m, right, True, p)


@register_task(samplers.uniform, paper=PAPER)
def reverse(x, y, p):
    """Return the input from its end to its start.

    input   a b c d
    target  d c b a
    """
    n = len(x)
    for i in range(n):
        y[i] = x[n - 1 - i]
    return n


@register_task(samplers.runs, paper=PAPER)
def deduplicate(x, y, p):
    """Return the input with every run of equal tokens collapsed to one; a token may recur later.

    input   a a b c c a
    target  a b c a
    """
    y[0] = x[0]
    m = 1
    for i in range(1, len(x)):
        y[m] = x[i]
        m += x[i] != x[i - 1]  # the next token is written over one that repeats
    return m


@register_task(
    samplers.sequence_and_searched,
    paper=PAPER,
    lowest_max_length=query_fits,
    row_check=check_query,
)
def search(x, y, p):
    """Return yes where the query occurs in the sequence, else no.

    input   a b c d | b c
    target  yes
    """
    s = find_divider(x, p)
    y[0] = p[YES] if samplers.find(x[:s], x[s + 1 :]) >= 0 else p[NO]
    return 1


@register_task(
    samplers.words,
    paper=PAPER,
    lowest_max_length=lambda parameters: max(parameters["min_length"], 2),
    row_check=check_words,
)
def longest_word(x, y, p):
    """Return the longest word between word dividers, the first of equals.

    input   a b / c d e / f g h
    target  c d e
    """
    start = best = size = 0
    for i in range(len(x) + 1):
        if i == len(x) or x[i] == p[WORD_DIVIDER]:
            if i - start > size:
                best, size = start, i - start
            start = i + 1
    copy(x[best : best + size], y)
    return size


@register_task(
    samplers.uniform,
    paper=PAPER,
    bounds=number_bounds,
    regular_tokens=ten_digits,
    vocabulary_table=number_table,
)
def length(x, y, p):
    """Return the number of tokens, as the ids of that number (Vocabulary.number_ids).
    Beyond 220 the T5 default spells it digit by digit; a T5 tokenizer as vocabulary gives its own
    pieces.

    input   a b c d
    target  4
    """
    return write_number(len(x), y, p)


@register_task(
    samplers.sequence_and_one,
    paper=PAPER,
    lowest_min_length=3,
    bounds=number_bounds,
    regular_tokens=ten_digits,
    vocabulary_table=number_table,
    row_check=check_two_arguments("exactly one, the id to count", range(1, 2)),
)
def count(x, y, p):
    """Return how often the token after the divider occurs, as the ids of that number.
    Beyond 220 the T5 default spells it digit by digit; a T5 tokenizer as vocabulary gives its own
    pieces.

    input   a b a c | a
    target  2
    """
    query = x[len(x) - 1]
    number = -1  # the query itself is counted below
    for token in x:
        number += token == query
    return write_number(number, y, p)


@register_task(samplers.uniform, paper=PAPER)
def first_token(x, y, p):
    """Return the first token.

    input   a b c d
    target  a
    """
    y[0] = x[0]
    return 1


@register_task(samplers.uniform, paper=PAPER)
def last_token(x, y, p):
    """Return the last token.

    input   a b c d
    target  d
    """
    y[0] = x[len(x) - 1]
    return 1


@kernel
def set_difference(left, right, y, p):
    """Write the distinct tokens of `left` that `right` lacks to y; return how many."""
    if p[ARGUMENTS] == REFERENCE_ORDER:
        return reference_difference(left, right, y)
    m = add_distinct(left, y, 0, new_bits(p))
    return keep_where(y, m, right, False, p)


@register_task(samplers.two_sequences, **SET_OPERATION)
def set1_minus_set2(x, y, p):
    """Return the first's distinct tokens that are not in the second, by first appearance.
    The order is a deviation; order="reference" gives the paper's. law="uniform" is that of `union`.

    input   b a b c | c d
    target  b a
    """
    s = find_divider(x, p)
    return set_difference(x[:s], x[s + 1 :], y, p)


@register_task(samplers.two_sequences, **SET_OPERATION)
def set2_minus_set1(x, y, p):
    """Return the second's distinct tokens that are not in the first, by first appearance.
    The order is a deviation; order="reference" gives the paper's. law="uniform" is that of `union`.

    input   b a b c | c d
    target  d
    """
    s = find_divider(x, p)
    return set_difference(x[s + 1 :], x[:s], y, p)
