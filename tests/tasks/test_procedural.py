"""Uniform inputs, as Jiang et al. 2026 draw them: tokens, halves, how often a token is deleted.

Run: pytest tests/tasks/test_procedural.py
"""

import math

import numpy as np
import oracles
import pytest
from task_rows import chi_square, is_right, pairs

from hf_synpre import UsageError
from hf_synpre.cli.build import PROCEDURAL, PROCEDURAL_VOCABULARY
from hf_synpre.tasks import get_task, open_stream
from hf_synpre.vocabulary import Vocabulary

V = Vocabulary.plain(PROCEDURAL_VOCABULARY)
TOKENS = 99


def bodies(task, rows, **parameters):
    """Return the bodies of rows and their targets, numbers 0..98 for tokens."""
    prefix = len(get_task(task).prefix(V))
    first = V.first_regular
    found = []
    for row, target in pairs(task, stop=rows, vocabulary=V, **PROCEDURAL[task] | parameters):
        body = [token - first for token in row[prefix:]]
        found.append((body, [token - first for token in target]))
    return found


def sequences(task, rows):
    """Return the tokens of rows without what is not a part of their sequences, int64[rows, 64]."""
    divider = V.special_ids["argument_divider"] - V.first_regular
    kept = []
    for body, _ in bodies(task, rows):
        kept.append([token for token in body if token != divider][:64])
    return np.array(kept)


@pytest.mark.parametrize("task", PROCEDURAL)
def test_sequences_are_64_uniform_tokens_of_99(task):
    assert V.regular_count == TOKENS
    tokens = sequences(task, 2000)
    assert tokens.shape == (2000, 64)
    chi_square(np.bincount(tokens.ravel(), minlength=TOKENS), np.full(TOKENS, 128_000 / TOKENS))
    # Tokens side by side are equal as often as chance has it, also those around a divider.
    equal = (tokens[:, 1:] == tokens[:, :-1]).sum(axis=0)
    chi_square(equal, np.full(63, equal.sum() / 63))
    assert abs(equal.sum() / (2000 * 63) * TOKENS - 1) < 0.12


@pytest.mark.parametrize("rows", [500, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", PROCEDURAL)
def test_targets_are_those_of_lists(task, rows):
    expected = {
        "identity": lambda body: body,
        "reverse": lambda body: body[::-1],
        "sort": sorted,
        "set": oracles.first_seen,
        "union": lambda body: oracles.first_seen(body[:32] + body[33:]),
        "delete": lambda body: without_first(body[:64], body[65]),
    }
    for body, target in bodies(task, rows):
        assert target == expected[task](body)


def without_first(tokens, token):
    """Return a list without the first occurrence of a token."""
    at = tokens.index(token) if token in tokens else len(tokens)
    return tokens[:at] + tokens[at + 1 :]


def test_52_of_100_rows_lack_the_token_that_is_deleted():
    lacking = np.mean([len(target) == 64 for _, target in bodies("delete", 20_000)])
    assert abs(lacking - 0.52) < 0.015
    assert abs(lacking - (1 - 1 / TOKENS) ** 64) < 0.015  # independent, as the paper draws it
    for hit in (0, 100):
        lengths = {len(target) for _, target in bodies("delete", 500, hit=hit)}
        assert lengths == ({63} if hit else {64})


def test_a_deleted_token_is_where_chance_puts_it():
    """Given that it occurs: its first position, and how often it occurs, are those of chance."""
    first, counts = np.zeros(64), np.zeros(65)
    for body, _ in bodies("delete", 20_000, hit=100):
        first[body.index(body[65])] += 1
        counts[body[:64].count(body[65])] += 1
    others = 1 - 1 / TOKENS
    positions = others ** np.arange(64)
    chi_square(first, 20_000 * positions / positions.sum())
    binomial = [math.comb(64, k) * others ** (64 - k) / TOKENS**k for k in range(1, 65)]
    expected = 20_000 * np.array(binomial) / sum(binomial)
    chi_square([*counts[1:4], counts[4:].sum()], [*expected[:3], expected[3:].sum()])


def test_the_share_of_hits_of_the_first_law_is_a_parameter():
    def changed(**parameters):
        v = Vocabulary.t5()
        rows = pairs("delete", stop=2000, **parameters)
        return np.mean([target != oracles.halves(row, v)[0][2:] for row, target in rows])

    assert changed() == changed(hit=75) == changed(law="wu")
    assert changed(hit=100) == 1
    assert changed(hit=0) == 0


def test_a_parameter_that_was_added_leaves_earlier_rows_as_they_were():
    for task in ("set", "sort", "delete", "union"):
        key = open_stream(task).key
        assert open_stream(task, law="wu").key == key
        assert open_stream(task, law="uniform").key != key


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("delete", {"hit": 101}, "delete: hit is 101; give 0 to 100."),
        (
            "delete",
            {"law": "uniform", "min_length": 2},
            "delete: min_length is 2; give at least 3 with law=uniform.",
        ),
        ("set", {"law": "unifrom"}, "Unknown law of set 'unifrom'. Did you mean 'uniform'?"),
        ("sort", {"min_length": 64, "max_length": 64}, "give max_length >= 65."),
    ],
)
def test_what_does_not_fit_is_one_line(task, settings, message):
    with pytest.raises(UsageError) as error:
        pairs(task, stop=1, **settings)
    assert message in str(error.value)


def test_a_row_of_the_other_law_is_malformed():
    settings = {"vocabulary": V, **PROCEDURAL["sort"]}
    row, target = pairs("sort", stop=1, **settings)[0]
    assert get_task("sort").score(row, target, **settings)
    with pytest.raises(UsageError, match="0 argument dividers"):
        get_task("sort").solve(row, vocabulary=V)
    assert is_right("set", *pairs("set", stop=1, vocabulary=V, **PROCEDURAL["set"])[0], V)
