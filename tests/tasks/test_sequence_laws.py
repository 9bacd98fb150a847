"""What the tasks since 2022 are drawn from, where another law would have rows of the same form.

Run: pytest tests/tasks/test_sequence_laws.py
"""

import numpy as np
import pytest
from task_rows import chi_square, pairs

from hf_synpre.tasks import get_task, list_tasks
from hf_synpre.vocabulary import Vocabulary

FIRST = 2  # regular tokens of a plain vocabulary begin here
SEEDS = (0, 1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bracket_closes_a_uniform_kind_and_not_a_uniform_bracket(seed):
    rows = pairs("k_shuffle_dyck", stop=3000, seed=seed, length=24, types=2, vocabulary=24)
    of_the_kind_with_more = []
    for row, _ in rows:
        counts = [0, 0]
        for token in row:
            kind = token - FIRST
            if kind >= 2 and min(counts) > 0 and counts[0] != counts[1]:
                of_the_kind_with_more.append(counts[kind - 2] == max(counts))
            counts[kind % 2] += 1 if kind < 2 else -1
    chi_square(np.bincount(of_the_kind_with_more), np.full(2, len(of_the_kind_with_more) / 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stack_grows_in_two_thirds_of_its_steps_and_shrinks_after(seed):
    early, late = [], []
    for row, _ in pairs("stack", stop=2000, seed=seed, steps=30, vocabulary=64):
        depth = 0
        for step, token in enumerate(row):
            if depth > 1 and step < 29:
                (early if step < 20 else late).append(token != FIRST)
            depth += 1 if token != FIRST else -1
    for pushes, share in ((early, 0.75), (late, 0.25)):
        chi_square(np.bincount(pushes), np.array([1 - share, share]) * len(pushes))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_question_of_mqar_has_a_gap_by_its_inverse(seed):
    rows = pairs("mqar", stop=6000, seed=seed, length=18, keys=1, vocabulary=64)
    gaps = [row[2::2].index(row[0]) for row, _ in rows]
    weights = 1 / np.arange(1, 9)
    chi_square(np.bincount(gaps, minlength=8), weights / weights.sum() * len(rows))


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_of_pairs_lists_and_filler_are_uniform(seed):
    rows = pairs("needle", stop=4000, seed=seed, pairs=5, vocabulary=64)
    chi_square(np.bincount([len(row) // 2 for row, _ in rows])[1:], np.full(5, len(rows) / 5))
    of_five = [row[:-1:2].index(row[-1]) for row, _ in rows if len(row) == 11]
    chi_square(np.bincount(of_five), np.full(5, len(of_five) / 5))

    lists = {"min_items": 2, "max_items": 5, "gap": 3, "vocabulary": 64}
    brackets = Vocabulary.plain(64).special_ids
    opening, closing = brackets["open"], brackets["close"]
    rows = pairs("verbatim", stop=4000, seed=seed, **lists)
    before = [row.index(opening) for row, _ in rows]
    items = [row.index(closing) - row.index(opening) - 1 for row, _ in rows]
    after = [row.index(opening, row.index(closing)) - row.index(closing) - 1 for row, _ in rows]
    for drawn, low in ((before, 0), (items, 2), (after, 0)):
        chi_square(np.bincount(drawn)[low:], np.full(4, len(rows) / 4))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_automaton_starts_from_fair_cells(seed):
    settings = {"width": 4, "steps": 1, "rule": 256, "vocabulary": 24}
    rows = [row for row, _ in pairs("eca", stop=6000, seed=seed, **settings)]
    states = [int("".join(str(token - FIRST) for token in row[:4]), 2) for row in rows]
    chi_square(np.bincount(states), np.full(16, len(rows) / 16))

    # A drawn rule sends each neighbourhood to 0 or 1 by a fair coin.
    after = [row[5] - FIRST for row, state in zip(rows, states, strict=True) if state == 0]
    chi_square(np.bincount(after), np.full(2, len(after) / 2))


# Short rows of the tasks whose tokens have probabilities, where rows are long by default.
SHORT = {
    "k_shuffle_dyck": {"length": 32, "types": 4},
    "k_dyck": {"length": 32, "types": 4},
    "eca": {"width": 8, "steps": 4, "rule": 256},
    "linear_rnn": {"length": 32, "tokens": 32, "hidden": 16},
    "brevo": {"letters": 12, "max_nodes": 10},
    "lano": {"levels": 4},
}
WITH_LAW = [task for task in list_tasks() if callable(getattr(get_task(task), "surprisal", None))]


@pytest.mark.parametrize("task", WITH_LAW)
def test_the_lowest_loss_is_that_of_other_rows(task):
    settings = {"vocabulary": 64, **SHORT.get(task, {})}
    loss = get_task(task).bayes_loss(**settings)
    sums, counts = [], []
    for row, target in pairs(task, stop=1000, seed=1, **settings):
        if get_task(task).is_sequence:
            surprisals = get_task(task).surprisals(row, **settings)
            is_scored = np.array(target) != -100
            is_scored[0] &= get_task(task).is_text  # a sentence stands before it
            sums.append(surprisals[is_scored].sum())
            counts.append(is_scored.sum())
        else:
            sums.append(get_task(task).surprisals(row, target, **settings).sum())
            counts.append(len(target) + 1)
    mean = sum(sums) / sum(counts)
    residuals = np.array(sums) - mean * np.array(counts)
    error = residuals.std() / np.mean(counts) / len(counts) ** 0.5
    assert abs(mean - loss.value) < 0.01 * loss.value + 4 * np.hypot(error, loss.standard_error)
