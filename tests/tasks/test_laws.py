"""The probabilities of sequences: that of each token is the one with which it is drawn.

Run: pytest tests/tasks/test_laws.py
"""

import math

import numpy as np
import pytest
from task_rows import pairs

from hf_synpre import UsageError
from hf_synpre.tasks import get_task, list_tasks
from hf_synpre.tasks.base import BayesLoss


def bracket_choices(row, v, types, max_depth, nested):
    """Return how many tokens may stand at each position of a balanced string."""
    choices = []
    open_kinds = []
    for i, token in enumerate(row):
        kind = token - v
        closing = open_kinds[-1:] if nested else open_kinds
        may_open = len(open_kinds) < min(len(row) - i, max_depth or len(row))
        choices.append(types * may_open + len(set(closing)))
        if kind < types:
            open_kinds.append(kind)
        elif nested:
            open_kinds.pop()
        else:
            open_kinds.remove(kind - types)
    return choices


def nesting_choices(row, v, half, max_pairs):
    """Return how many tokens may stand at each position of a sentence that goes on."""
    choices, opened, depth = [], 0, 0
    for token in row:
        choices.append(half * (opened < max_pairs) + (depth > 0))
        is_head = token - v < half
        opened, depth = opened + is_head, depth + (1 if is_head else -1)
    return choices


def copy_choices(row, v, count, lengths):
    """Return how many tokens may stand at each position of a sequence and its copy."""
    low, high = lengths
    half = len(row) // 2
    first = [count * (i < high) + (i >= low) for i in range(half + 1)]
    return first + [1] * half


DYCK = {"length": 12, "types": 3, "vocabulary": 24}
NETWORK = {"length": 6, "tokens": 8, "hidden": 4, "logit_sd": 80, "vocabulary": 24}
FIRST = 2  # regular tokens of a plain vocabulary begin here
# Task, its settings -> how many tokens may stand at each position of a row.
LAWS = {
    "shuffled": (
        "k_shuffle_dyck",
        DYCK | {"max_depth": 3},
        lambda row: bracket_choices(row, FIRST, 3, 3, nested=False),
    ),
    "shuffled, biased, no limit": (
        "k_shuffle_dyck",
        DYCK | {"max_depth": 0, "open_percent": 70},
        lambda row: bracket_choices(row, FIRST, 3, 0, nested=False),
    ),
    "nested": ("k_dyck", DYCK, lambda row: bracket_choices(row, FIRST, 3, 0, nested=True)),
    "nested, limited": (
        "k_dyck",
        DYCK | {"max_depth": 2, "open_percent": 30},
        lambda row: bracket_choices(row, FIRST, 3, 2, nested=True),
    ),
    "nesting": (
        "nesting_language",
        {"vocabulary": 23, "min_length": 4, "max_length": 7, "distribution": "uniform"},
        lambda row: nesting_choices(row, FIRST, 4, 4),
    ),
    "copy": (
        "copy",
        {"vocabulary": 19, "min_length": 2, "max_length": 4},
        lambda row: copy_choices(row, FIRST, 4, (2, 4)),
    ),
    "network": ("linear_rnn", NETWORK, lambda row: [8] * 6),
    "one of three networks": ("linear_rnn", NETWORK | {"models": 3}, lambda row: [8] * 6),
}


@pytest.mark.parametrize("law", LAWS)
def test_a_token_is_drawn_with_its_probability(law):
    """The mean of 1 / p over drawn tokens is the number of tokens that may be drawn."""
    task, settings, choices_of = LAWS[law]
    deviations = []
    for row, _ in pairs(task, stop=4000, **settings):
        inverse = np.exp(get_task(task).surprisals(row, **settings))
        deviations.append(inverse - choices_of(row))
    by_position = {}
    for deviation in deviations:
        for position, value in enumerate(deviation):
            by_position.setdefault(position, []).append(value)
    for position, values in by_position.items():
        error = np.std(values) / math.sqrt(len(values))
        assert abs(np.mean(values)) < 4.5 * error + 1e-9, position


def test_bayes_losses_are_those_that_the_field_has_measured():
    cut = {"truncated": "yes"}  # as the published rows of this one are
    shuffled, nested = get_task("k_shuffle_dyck"), get_task("k_dyck")
    assert shuffled.bayes_loss(**cut).value == pytest.approx(3.32, abs=0.01)
    assert shuffled.bayes_loss(max_depth=16, **cut).value == pytest.approx(3.63, abs=0.01)
    assert nested.bayes_loss().value == pytest.approx(2.75, abs=0.01)


def test_bayes_losses_of_controls_are_entropies():
    uniform = get_task("uniform").bayes_loss(vocabulary=100)
    assert uniform.value == pytest.approx(math.log(85))
    weights = 85 // np.arange(1, 86)
    shares = weights / weights.sum()
    zipf = get_task("zipf").bayes_loss(vocabulary=100)
    entropy = -(shares * np.log(shares)).sum()
    assert abs(zipf.value - entropy) < 4 * zipf.standard_error
    assert 0 < zipf.standard_error < 0.01


def test_a_rule_that_is_drawn_is_uncertain_once_a_neighbourhood():
    settings = {"rule": 256, "width": 8, "steps": 4, "vocabulary": 24}
    for row, _ in pairs("eca", stop=50, **settings):
        surprisals = get_task("eca").surprisals(row, **settings)
        assert surprisals[:8] == pytest.approx([math.log(2)] * 8)
        states = [row[9 * step : 9 * step + 8] for step in range(4)]
        used = {(s[i - 1], s[i], s[(i + 1) % 8]) for s in states for i in range(8)}
        assert surprisals[8:].sum() == pytest.approx(len(used) * math.log(2))


@pytest.mark.parametrize("task", list_tasks())
def test_every_task_says_what_it_knows_of_its_loss(task):
    loss = get_task(task).bayes_loss()
    if not callable(getattr(get_task(task), "surprisal", None)):
        assert loss in (BayesLoss(0.0), None)
    if loss is not None:
        assert 0 <= loss.value < 12


def test_a_string_that_is_cut_may_have_an_odd_length():
    settings = {"length": 7, "types": 2, "vocabulary": 24}
    with pytest.raises(UsageError, match="length is 7; give an even one, or truncated=yes"):
        pairs("k_dyck", stop=1, **settings)
    rows = pairs("k_dyck", stop=20, truncated="yes", **settings)
    assert {len(row) for row, _ in rows} == {7}
    # YAML reads the word yes as a boolean.
    assert pairs("k_dyck", stop=20, truncated=True, **settings) == rows
    with pytest.raises(UsageError, match="Unknown order of union 'True'"):
        pairs("union", stop=1, order=True)


def test_what_has_no_law_is_refused():
    with pytest.raises(UsageError, match="set gives no probabilities of its tokens; see bayes_l"):
        get_task("set").surprisals([356, 32099, 5, 6])
    assert get_task("set:2,identity:1").bayes_loss() == BayesLoss(0.0)
    assert get_task("k_dyck,uniform").bayes_loss(vocabulary=200) is None
    with pytest.raises(UsageError, match="rows of set have a target and those of mqar are sequen"):
        get_task("set,mqar")
