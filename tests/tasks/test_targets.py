"""Targets, solutions and scores of every registered task, against plain-Python oracles.

Run: pytest tests/tasks/test_targets.py
"""

import random

import oracles
import pytest
import sequence_oracles
from task_rows import RANGED, SET_OPERATIONS, SHORT, SMALL, TASKS, body_of, is_right, pairs

from hf_synpre.tasks import generate, get_task, nonsense
from hf_synpre.vocabulary import Vocabulary


@pytest.mark.parametrize("task", TASKS)
def test_targets_equal_the_oracles(task):
    samples = [(Vocabulary.t5(), {})]
    if task in RANGED:
        samples.append((SMALL, SHORT))
    for v, parameters in samples:
        settings = {"vocabulary": v, **parameters}
        for row, target in pairs(task, stop=100, **settings):
            labels = set(target)
            if get_task(task).is_sequence:
                assert len(target) == len(row)
                labels.discard(-100)
            assert is_right(task, row, target, v)
            assert get_task(task).score(row, target, **settings)

            solved = get_task(task).solve(row, **settings).tolist()
            assert solved == target or is_right(task, row, solved, v)

            too_long = [*target, v.special_ids["colon"]]
            assert not get_task(task).score(row, too_long, **settings)
            assert min(*row, *labels) >= 0
            assert max(*row, *labels) < v.size


@pytest.mark.slow
@pytest.mark.parametrize("task", [*sequence_oracles.ORACLES, "uniform"])
def test_ten_thousand_targets_equal_the_oracles(task):
    v = Vocabulary.t5()
    for start in range(0, 10_000, 500):
        for row, target in pairs(task, start=start, stop=start + 500):
            assert is_right(task, row, target, v), (task, start)


@pytest.mark.parametrize("task", SET_OPERATIONS)
def test_reference_order_is_that_of_cpython(task):
    v = Vocabulary.t5()
    for lengths in ({}, {"max_length": 2000}):
        for row, target in pairs(task, stop=60, order="reference", **lengths):
            expected = oracles.REFERENCE_ORDER[task](body_of(task, row, v), v)
            assert target == (expected or [v.special_ids["empty"]])
            assert get_task(task).solve(row, order="reference", **lengths).tolist() == target


def test_hand_written_rows_have_their_targets():
    union = [7021, 32099, 5, 3, 5, 32097, 4, 3]
    difference = [356, 834, 536, 834, 14078, 834, 357, 32099, 6, 2, 32097, 33]
    intersection = [27806, 32099, 5, 6, 32097, 7]
    rows = [
        ("union", union, [5, 3, 4], [3, 4, 5]),
        ("set1_minus_set2", difference, [6, 2], [2, 6]),
        ("intersect", intersection, [32096], [32096]),
    ]
    for task, row, by_appearance, by_reference in rows:
        assert get_task(task).solve(row).tolist() == by_appearance
        assert get_task(task).solve(row, order="reference").tolist() == by_reference

    assert get_task("sort").solve([1843, 32099, 5, 6, 5, 32097, 5, 6, 5]).tolist() == [6, 5, 5]
    assert get_task("length").solve([2475, 32099, *[9] * 220]).tolist() == [204, 1755]
    assert get_task("length").solve([2475, 32099, *[9] * 221]).tolist() == [204, 204, 209]
    assert get_task("count").solve([3476, 32099, 9, 8, 9, 32097, 7]).tolist() == [632]


def test_every_right_summary_is_accepted():
    row = (
        "__d18__src_2__ aaa baa . __d5__keyword_1__ caa . daa __d5__keyword_2__ . "
        "eaa __d5__keyword_0__ . __d14__7__ faa ."
    )
    numbers = [*range(502, 5502), *range(502)]
    ids = dict(zip(nonsense.random_words(5000) + nonsense.SYMBOL_WORDS, numbers, strict=True))

    def encode(text):
        """Return the ids of a text in a plain vocabulary."""
        return [2 + ids[word] for word in text.split()]

    def score(text):
        """Return whether a summary of the row is right."""
        return get_task("nonsense_summary").score(encode(row), encode(text), vocabulary=6000)

    for summary in random.Random(0).sample(list(oracles.summaries(row)), 40):
        assert score(summary)
        assert not score(summary.replace("caa", "daa", 1))


def test_every_right_answer_of_lime_is_accepted():
    m = Vocabulary.t5().special_ids
    head = [m["upper"], 10, 11, m["lower"], 20, 21, m["math"], 30, 31, m["separator"]]

    def entry(upper, *string):
        """Return the ids of `A : [ x y ]`."""
        return [upper, m["colon"], m["open"], *string, m["close"]]

    induct = [*head, 30, 20, 21, m["separator"], *entry(10, 30), *entry(11, 20, 21)]
    assert get_task("lime_induct").score(induct, [10, 11])
    assert get_task("lime").score(induct, [30, 11])
    assert not get_task("lime_induct").score(induct, [30, 20, 21])

    abduct = [*head, 10, 31, 11, m["separator"], 20, 31, 31, 21]
    for first, second in (([20], [31, 21]), ([20, 31], [21])):
        answer = [*entry(10, *first), *entry(11, *second)]
        assert get_task("lime_abduct").score(abduct, answer)


def test_rows_of_a_table_are_rows():
    table = generate("set", 0, 2)
    assert get_task("set").score(table["input_ids"][1], table["labels"][1])
    assert get_task("set").solve(table["input_ids"][1]).tolist() == table["labels"][1].as_py()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_paper_a_line_and_a_drawn_example(task):
    entry = get_task(task)
    assert len(entry.paper) > 10
    line, _, drawn = entry.function.__doc__.partition("\n\n")
    assert line.endswith(".")
    assert [part.split()[0] for part in drawn.strip().splitlines()] == ["input", "target"]
