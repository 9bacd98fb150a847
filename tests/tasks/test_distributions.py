"""Inputs follow the papers' distributions: lengths, tokens, shares, means of the reference.

Run: pytest tests/tasks/test_distributions.py
"""

import math
import random

import numpy as np
import oracles
import pytest
from task_rows import body_of, chi_square, lengths, pairs, same_distribution

from hf_synpre.tasks import get_task
from hf_synpre.vocabulary import Vocabulary


def test_lengths_are_uniform():
    n = lengths("identity", 50_000)[0] - 2
    chi_square(np.bincount(n)[10:], np.full(211, 50_000 / 211))


def test_regular_tokens_are_uniform():
    ids = lengths("first_token", 200_000, vocabulary=100)[3]
    assert (ids.min(), ids.max()) == (2, 86)
    chi_square(np.bincount(ids - 2), np.full(85, 200_000 / 85))


def test_runs_are_uniform_and_their_sizes_multinomial():
    x_length, parts, *_ = lengths("deduplicate", 50_000, min_length=40, max_length=40)
    assert set(x_length - 5) == {40}
    chi_square(np.bincount(parts)[1:], np.full(40, 50_000 / 40))
    rows = [
        row[5:]
        for row, target in pairs("deduplicate", stop=40_000, min_length=12, max_length=12)
        if len(target) == 4
    ]
    first = [next((i for i, token in enumerate(row) if token != row[0]), 12) for row in rows]
    binomial = [math.comb(8, k) * 0.25**k * 0.75 ** (8 - k) * len(rows) for k in range(9)]
    seen = np.bincount(first, minlength=10)[1:]
    chi_square([*seen[:5], seen[5:].sum()], [*binomial[:5], sum(binomial[5:])])


def test_set_is_the_shuffled_runs():
    parts = lengths("set", 50_000, min_length=40, max_length=40)[1]
    chi_square(np.bincount(parts)[1:], np.full(40, 50_000 / 40))
    halves = [
        (len(set(row[2:12])), len(set(row[12:22])))
        for row, _ in pairs("set", stop=20_000, min_length=20, max_length=20)
    ]
    same_distribution(*map(np.array, zip(*halves, strict=True)), 10)


@pytest.mark.parametrize("task", ["delete", "search"])
def test_hits_and_misses_follow_their_distribution(task):
    v, source = Vocabulary.t5(), random.Random(0)
    drawn = np.array([oracles.SAMPLES[task](source) for _ in range(20_000)])
    seen = []
    for row, _ in pairs(task, stop=20_000):
        seq, query = oracles.halves(body_of(task, row, v), v)
        hits = seq.count(query[0]) if query[0] in seq and oracles.positions(seq, query) else 0
        seen.append((len(seq), len(query), hits))
    for column in range(3):
        same_distribution(drawn[:, column], np.array(seen)[:, column], 30)


# Mean lengths, measured by running the reference: ids in (with the task's name) and out.
MEANS = {
    "identity": (117, 115),
    "set": (117, 58),
    "deduplicate": (119.5, 58),
    "duplicate": (117, 230),
    "reverse": (117, 115),
    "sort": (170, 110),
    "union": (117, 49),
    "intersect": (117, 15.5),
    "set1_minus_set2": (123, 17),
    "set2_minus_set1": (123, 17),
    "delete": (160, 89),
    "replace": (117, 112),
    "longest_word": (169, 8.2),
    "search": (150, 1),
    "count": (117, 1),
    "length": (117, 1.1),
    "first_token": (119, 1),
    "last_token": (119, 1),
    "lime_induct": (137, 20),
    "lime_deduct": (105, 52),
    "lime_abduct": (125, 32),
}


@pytest.mark.parametrize("task", MEANS)
def test_mean_lengths_are_those_of_the_reference(task):
    x, y, *_ = lengths(task, 40_000)
    for seen, expected in zip((x, y), MEANS[task], strict=True):
        slack = 0.6 + 4.5 * seen.std() / math.sqrt(20_000)
        assert abs(seen.mean() - expected) < slack


def test_shares_of_answers_are_those_of_the_reference():
    assert abs((lengths("search", 50_000)[3] == 4273).mean() - 0.603) < 0.012
    v = Vocabulary.t5()
    changed = [
        target != oracles.halves(body_of("delete", row, v), v)[0]
        for row, target in pairs("delete", stop=10_000)
    ]
    assert abs(np.mean(changed) - 0.82) < 0.02
    for task, empty in (
        ("intersect", 0.034),
        ("set1_minus_set2", 0.085),
        ("set2_minus_set1", 0.085),
        ("union", 0),
    ):
        assert (
            abs((lengths(task, 50_000)[3] == v.special_ids["empty"]).sum() / 50_000 - empty) < 0.006
        )
    assert lengths("lime_induct")[0].max() <= 212


def test_the_header_of_lime_does_not_tell_how_often_a_symbol_is_used():
    m, counts = Vocabulary.t5().special_ids, []
    for row, _ in pairs("lime_deduct", stop=10_000):
        uppers = row[1 : row.index(m["lower"])]
        rule = row[row.index(m["separator"]) :]
        rule = rule[1 : rule.index(m["separator"], 1)]
        counts.append((rule.count(uppers[0]), rule.count(uppers[-1])))
    first, last = np.mean(counts, axis=0)
    assert abs(first - last) < 0.06


def test_nonsense_summaries_have_as_many_words_as_the_reference():
    text = get_task("nonsense_summary").text
    rows = [
        [len(text(ids, vocabulary=6000).split()) for ids in pair]
        for pair in pairs("nonsense_summary", vocabulary=6000, stop=600)
    ]
    words_in, words_out = np.mean(rows, axis=0)
    assert abs(words_in - 111) < 4
    assert abs(words_out - 49) < 4
    applied = [
        op
        for row, _ in pairs("nonsense_summary", vocabulary=6000, stop=600)
        for op in operations(text(row, vocabulary=6000))
    ]
    chi_square([applied.count(op) for op in sorted(set(applied))], np.full(16, 600 * 3 / 16))


def operations(document):
    """Return the operations whose keywords a document has."""
    return {word.split("__")[1] for word in document.split() if word.startswith("__d")}


def test_nesting_follows_its_parameters():
    v = Vocabulary.t5()
    half = v.regular_count // 2
    rows = [np.array(row) - v.first_regular for row, _ in pairs("nesting_language", stop=4000)]
    sizes = np.array([len(row) for row in rows])
    assert (sizes.min(), sizes.max(), set(sizes % 2)) == (6, 60, {0})
    opened = np.concatenate([row[1:] < half for row in rows if len(row) == 60])
    assert 0.45 < opened.mean() < 0.52
    heads = np.concatenate([row[row < half] for row in rows])
    weights = half // np.arange(1, half + 1)
    counts = np.bincount(heads, minlength=half)
    expected = weights / weights.sum() * len(heads)
    chi_square([*counts[:20], counts[20:].sum()], [*expected[:20], expected[20:].sum()])

    uniform_rows = pairs("nesting_language", stop=2000, distribution="uniform", vocabulary=75)
    uniform = np.concatenate([np.array(row) for row, _ in uniform_rows])
    chi_square(np.bincount(uniform - 2)[:30], np.full(30, len(uniform) / 60))

    closed_at_once = pairs("nesting_language", stop=50, open_percent=0)
    assert all(row[1::2] == [token + half for token in row[::2]] for row, _ in closed_at_once)
    assert get_task("nesting_language").solve([5, 6]).tolist() == [5, 6, 6 + half, 5 + half]
