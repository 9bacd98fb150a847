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
    row_lengths, *_ = lengths("identity", 50_000)
    n = row_lengths - 2  # without name and divider
    chi_square(np.bincount(n)[10:], np.full(211, 50_000 / 211))


def test_regular_tokens_are_uniform():
    *_, ids = lengths("first_token", 200_000, vocabulary=100)
    assert (ids.min(), ids.max()) == (2, 86)
    chi_square(np.bincount(ids - 2), np.full(85, 200_000 / 85))


def test_runs_are_uniform_and_their_sizes_multinomial():
    row_lengths, runs, *_ = lengths("deduplicate", 50_000, min_length=40, max_length=40)
    assert set(row_lengths - 5) == {40}
    chi_square(np.bincount(runs)[1:], np.full(40, 50_000 / 40))

    # Of four runs of twelve tokens the first has 1 + Binomial(8, 1/4).
    first_sizes = []
    for row, target in pairs("deduplicate", stop=40_000, min_length=12, max_length=12):
        body = row[5:]
        if len(target) == 4:
            size = next((i for i, token in enumerate(body) if token != body[0]), 12)
            first_sizes.append(size)
    rows = len(first_sizes)
    binomial = [math.comb(8, k) * 0.25**k * 0.75 ** (8 - k) * rows for k in range(9)]
    counts = np.bincount(first_sizes, minlength=10)[1:]
    chi_square([*counts[:5], counts[5:].sum()], [*binomial[:5], sum(binomial[5:])])


def test_set_is_the_shuffled_runs():
    _, runs, *_ = lengths("set", 50_000, min_length=40, max_length=40)
    chi_square(np.bincount(runs)[1:], np.full(40, 50_000 / 40))

    # Both halves of a shuffled row have equally many distinct tokens.
    first_half, second_half = [], []
    for row, _ in pairs("set", stop=20_000, min_length=20, max_length=20):
        first_half.append(len(set(row[2:12])))
        second_half.append(len(set(row[12:22])))
    same_distribution(np.array(first_half), np.array(second_half), 10)


@pytest.mark.parametrize("task", ["delete", "search"])
def test_hits_and_misses_follow_their_distribution(task):
    source = random.Random(0)
    expected = np.array([oracles.SAMPLES[task](source) for _ in range(20_000)])

    v = Vocabulary.t5()
    generated = []
    for row, _ in pairs(task, stop=20_000):
        seq, query = oracles.halves(body_of(task, row, v), v)
        hits = seq.count(query[0]) if query[0] in seq and oracles.positions(seq, query) else 0
        generated.append((len(seq), len(query), hits))
    for column in range(3):
        same_distribution(expected[:, column], np.array(generated)[:, column], 30)


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
    v = Vocabulary.t5()
    *_, answers = lengths("search", 50_000)
    assert abs((answers == v.special_ids["yes"]).mean() - 0.603) < 0.012

    changed = []
    for row, target in pairs("delete", stop=10_000):
        sequence, _ = oracles.halves(body_of("delete", row, v), v)
        changed.append(target != sequence)
    assert abs(np.mean(changed) - 0.82) < 0.02

    empty_shares = {
        "intersect": 0.034,
        "set1_minus_set2": 0.085,
        "set2_minus_set1": 0.085,
        "union": 0,
    }
    for task, share in empty_shares.items():
        *_, targets = lengths(task, 50_000)
        empty = (targets == v.special_ids["empty"]).sum() / 50_000
        assert abs(empty - share) < 0.006

    row_lengths, *_ = lengths("lime_induct")
    assert row_lengths.max() <= 212


def test_the_header_of_lime_does_not_tell_how_often_a_symbol_is_used():
    m = Vocabulary.t5().special_ids
    counts = []
    for row, _ in pairs("lime_deduct", stop=10_000):
        uppers = row[1 : row.index(m["lower"])]
        rule = row[row.index(m["separator"]) :]
        rule = rule[1 : rule.index(m["separator"], 1)]
        counts.append((rule.count(uppers[0]), rule.count(uppers[-1])))
    first, last = np.mean(counts, axis=0)
    assert abs(first - last) < 0.06


def test_nonsense_summaries_have_as_many_words_as_the_reference():
    text = get_task("nonsense_summary").text
    word_counts, applied = [], []
    for row, target in pairs("nonsense_summary", vocabulary=6000, stop=600):
        document = text(row, vocabulary=6000)
        summary = text(target, vocabulary=6000)
        word_counts.append((len(document.split()), len(summary.split())))
        applied += operations(document)

    words_in, words_out = np.mean(word_counts, axis=0)
    assert abs(words_in - 111) < 4
    assert abs(words_out - 49) < 4

    # Every operation is applied equally often.
    counts = [applied.count(op) for op in sorted(set(applied))]
    chi_square(counts, np.full(16, 600 * 3 / 16))


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
