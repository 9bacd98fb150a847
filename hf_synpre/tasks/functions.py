"""Layer 1: the 18 simple functions of Wu, Li, Liang 2022 (appendix; spec, section 2.1). Their input laws: samplers.py.

The set operations answer in order of first appearance, a deviation: the reference has CPython's iteration order of sets,
which order="reference" gives.
"""

import numpy as np

from hf_synpre.tasks import samplers
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
from hf_synpre.tasks.registry import (
    ARGUMENT_DIVIDER,
    ARGUMENTS,
    NO,
    WORD_DIVIDER,
    YES,
    only_content,
    register_task,
)
from hf_synpre.tasks.rng import copy, kernel
from hf_synpre.vocabulary import Vocabulary

PAPER = "Wu, Li, Liang 2022, arXiv 2206.10139"
ORDER = ("appearance", "reference")


def one_answer(parameters: dict) -> tuple[int, int]:
    """Bounds where the target is one id; the room beyond is the samplers' scratch."""
    return parameters["max_length"], parameters["max_length"]


def number_room(parameters: dict) -> tuple[int, int]:
    """Bounds where the target is a number."""
    return parameters["max_length"], parameters["max_length"] + len(
        str(parameters["max_length"])
    ) + 2


def number_table(vocabulary: Vocabulary, parameters: dict) -> np.ndarray:
    """The ids of the numbers 0..max_length, one row each, -1 behind the shorter ones; the row's width comes first."""
    ids = [vocabulary.number_ids(n) for n in range(parameters["max_length"] + 1)]
    width = max(map(len, ids))
    return np.array(
        [width] + [i for row in ids for i in (*row, *[-1] * (width - len(row)))], np.int64
    )


@kernel
def write_number(n, y, p):
    """Write the ids of the number n from the table at p[ARGUMENTS]; return how many."""
    width, m = p[ARGUMENTS], 0
    start = ARGUMENTS + 1 + n * width
    while m < width and p[start + m] >= 0:
        y[m] = p[start + m]
        m += 1
    return m


@kernel
def divider_place(x, p):
    """Return the place of the argument divider, looked for from the end."""
    s = len(x) - 1
    while x[s] != p[ARGUMENT_DIVIDER]:
        s -= 1
    return s


def check_words(body: np.ndarray, words: Vocabulary, parameters: dict) -> str | None:
    """Words of content ids with single word dividers between them."""
    at = np.flatnonzero(body == words.marks["word_divider"])
    edges = np.concatenate([[-1], at, [len(body)]])
    if (np.diff(edges) == 1).any():
        return f"an empty word beside the word divider {words.marks['word_divider']}."
    return only_content(np.delete(body, at), words, parameters)


def two_arguments(second: str, fits=lambda n: True):
    """A row check: content ids, exactly one argument divider, and a second argument whose length `fits`."""

    def check(body: np.ndarray, words: Vocabulary, parameters: dict) -> str | None:
        divider = words.marks["argument_divider"]
        at = np.flatnonzero(body == divider)
        if len(at) != 1:
            return f"{len(at)} argument dividers ({divider}); give exactly one."
        if not fits(len(body) - 1 - at[0]):
            return f"{len(body) - 1 - at[0]} ids after the argument divider; give {second}."
        return only_content(np.delete(body, at), words, parameters)

    return check


def check_order(body: np.ndarray, words: Vocabulary, parameters: dict) -> str | None:
    """Two arguments, every id of the first in the second."""
    if problem := two_arguments("an order of at least one", lambda n: n >= 1)(
        body, words, parameters
    ):
        return problem
    at = int(np.flatnonzero(body == words.marks["argument_divider"])[0])
    missing = np.setdiff1d(body[:at], body[at + 1 :])
    return f"id {missing[0]} of the sequence is not in the order." if len(missing) else None


@register_task(samplers.uniform, paper=PAPER)
def identity(x, y, p):
    """Return the input.

    input   a b c d
    target  a b c d
    """
    copy(x, y)
    return len(x)


@register_task(samplers.shuffled_runs, paper=PAPER)
def set_(x, y, p):
    """Return the distinct ids in order of first appearance.

    input   b a c a b
    target  b a c
    """
    return add_distinct(x, y, 0, new_bits(p))


@register_task(
    samplers.query_in_three_quarters,
    paper=PAPER,
    shortest=lambda low: 2 * low + 2,
    row_check=two_arguments("a query of at least one", lambda n: n >= 1),
)
def delete(x, y, p):
    """Return the sequence without the first occurrence of the query; the sequence itself where there is none.

    input   a b c b c | b c
    target  a b c
    """
    s = divider_place(x, p)
    query = x[s + 1 :]
    cut = samplers.find(x[:s], query)
    if cut < 0:
        copy(x[:s], y)
        return s
    copy(x[:cut], y)
    copy(x[cut + len(query) : s], y[cut:])
    return s - len(query)


@register_task(
    samplers.sequence_and_order,
    paper=PAPER,
    least=2,
    shortest=lambda low: max(low, 2 * (low // 2) + 1),
    row_check=check_order,
)
def sort(x, y, p):
    """Return the sequence stably sorted by the place of its ids in the order; of a doubled id the last place counts.

    input   a c b a c | c b a
    target  c c b a a
    """
    s = divider_place(x, p)
    order = x[s + 1 :]
    table, ends = new_table(len(order)), np.zeros(len(order) + 1, np.int32)
    places, at = np.empty(len(table), np.int32), np.empty(s, np.int32)
    for i in range(len(order)):
        slot = find_slot(table, order[i])
        table[slot], places[slot] = order[i] + 1, i
    for i in range(s):
        at[i] = places[find_slot(table, x[i])]
        ends[at[i] + 1] += 1
    for i in range(len(order)):
        ends[i + 1] += ends[i]
    for i in range(s):
        y[ends[at[i]]] = x[i]
        ends[at[i]] += 1
    return s


SET_OPERATION = {
    "paper": PAPER,
    "least": 3,
    "symbols": lambda p: p["max_length"] // 2,
    "row_check": two_arguments("any number"),
    "order": ORDER,
}


@register_task(samplers.two_sequences, **SET_OPERATION)
def union(x, y, p):
    """Return the distinct ids of both sequences by first appearance (a deviation; order="reference": as the paper).

    input   b a b | c a
    target  b a c
    """
    s = divider_place(x, p)
    if p[ARGUMENTS] == 1:
        return reference_union(x[:s], x[s + 1 :], y)
    bits = new_bits(p)
    return add_distinct(x[s + 1 :], y, add_distinct(x[:s], y, 0, bits), bits)


@register_task(
    samplers.sequence_and_pair,
    paper=PAPER,
    least=4,
    row_check=two_arguments("exactly two: the id to replace and its replacement", lambda n: n == 2),
)
def replace(x, y, p):
    """Return the sequence with every occurrence of the first id after the divider replaced by the second.

    input   a b c b | b d
    target  a d c d
    """
    s = len(x) - 3
    for i in range(s):
        y[i] = x[s + 2] if x[i] == x[s + 1] else x[i]
    return s


@register_task(
    samplers.uniform, paper=PAPER, bounds=lambda p: (p["max_length"], 2 * p["max_length"])
)
def duplicate(x, y, p):
    """Return the input with every id twice in place.

    input   a b c
    target  a a b b c c
    """
    for i in range(len(x)):
        y[2 * i] = x[i]
        y[2 * i + 1] = x[i]
    return 2 * len(x)


@register_task(samplers.two_sequences, **SET_OPERATION)
def intersect(x, y, p):
    """Return the distinct ids in both sequences by first appearance (a deviation; order="reference": as the paper).

    input   b a b c | c b
    target  b c
    """
    s = divider_place(x, p)
    if p[ARGUMENTS] == 1:
        return reference_intersection(x[:s], x[s + 1 :], y)
    m = add_distinct(x[:s], y, 0, new_bits(p))
    return keep_where(y, m, x[s + 1 :], True, p)


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
    """Return the input with every run of equal ids collapsed to one; an id may recur later.

    input   a a b c c a
    target  a b c a
    """
    y[0] = x[0]
    m = 1
    for i in range(1, len(x)):
        y[m] = x[i]
        m += x[i] != x[i - 1]
    return m


@register_task(
    samplers.query_in_half,
    paper=PAPER,
    bounds=one_answer,
    shortest=lambda low: 2 * low + 2,
    row_check=two_arguments("a query of at least one", lambda n: n >= 1),
)
def search(x, y, p):
    """Return yes where the query occurs in the sequence, else no.

    input   a b c d | b c
    target  yes
    """
    s = divider_place(x, p)
    y[0] = p[YES] if samplers.find(x[:s], x[s + 1 :]) >= 0 else p[NO]
    return 1


@register_task(samplers.words, paper=PAPER, shortest=lambda low: max(low, 2), row_check=check_words)
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
    samplers.uniform, paper=PAPER, bounds=number_room, symbols=lambda p: 10, table=number_table
)
def length(x, y, p):
    """Return the number of ids, as the ids of that number (Vocabulary.number_ids).
    Beyond 220 the T5 default spells it digit by digit; a T5 tokenizer as vocabulary gives its own pieces.

    input   a b c d
    target  4
    """
    return write_number(len(x), y, p)


@register_task(
    samplers.sequence_and_one,
    paper=PAPER,
    least=3,
    bounds=number_room,
    symbols=lambda p: 10,
    table=number_table,
    row_check=two_arguments("exactly one, the id to count", lambda n: n == 1),
)
def count(x, y, p):
    """Return how often the id after the divider occurs in the sequence, as the ids of that number.
    Beyond 220 the T5 default spells it digit by digit; a T5 tokenizer as vocabulary gives its own pieces.

    input   a b a c | a
    target  2
    """
    n, query = -1, x[len(x) - 1]
    for token in x:
        n += token == query
    return write_number(n, y, p)


@register_task(samplers.uniform, paper=PAPER)
def first_token(x, y, p):
    """Return the first id.

    input   a b c d
    target  a
    """
    y[0] = x[0]
    return 1


@register_task(samplers.uniform, paper=PAPER)
def last_token(x, y, p):
    """Return the last id.

    input   a b c d
    target  d
    """
    y[0] = x[len(x) - 1]
    return 1


@kernel
def difference(a, b, y, p):
    """Write the distinct ids of a that b lacks; return how many."""
    if p[ARGUMENTS] == 1:
        return reference_difference(a, b, y)
    return keep_where(y, add_distinct(a, y, 0, new_bits(p)), b, False, p)


@register_task(samplers.two_sequences, **SET_OPERATION)
def set1_minus_set2(x, y, p):
    """Return the first's distinct ids not in the second by first appearance (a deviation; order="reference": as the paper).

    input   b a b c | c d
    target  b a
    """
    s = divider_place(x, p)
    return difference(x[:s], x[s + 1 :], y, p)


@register_task(samplers.two_sequences, **SET_OPERATION)
def set2_minus_set1(x, y, p):
    """Return the second's distinct ids not in the first by first appearance (a deviation; order="reference": as the paper).

    input   b a b c | c d
    target  d
    """
    s = divider_place(x, p)
    return difference(x[s + 1 :], x[:s], y, p)
