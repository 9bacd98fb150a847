"""Strings of linear recurrent networks: rows are those of networks that are computed in floats.

Run: pytest tests/tasks/test_recurrent.py
"""

import math

import numpy as np
import pytest
from random_bits import Draws
from task_rows import pairs

from hf_synpre import UsageError
from hf_synpre.tasks import get_task, open_stream, recurrent
from hf_synpre.tasks.base import BayesLoss
from hf_synpre.tasks.exact_numbers import UNIT, normal_quantiles

FIRST = 2  # regular tokens of a plain vocabulary begin here


def network(model, tokens=128, hidden=64, sd=2.0, weights="scaled"):
    """Return A [hidden, tokens], W, C of a model, float64, by their definition."""
    draws, quantiles = Draws(hidden, model), normal_quantiles(2**16) / UNIT

    def matrix(rows, columns, variance):
        """Return independent normal numbers."""
        numbers = draws.many_below(2**16, rows * columns).reshape(rows, columns)
        return quantiles[numbers] * math.sqrt(variance)

    a, w = matrix(hidden, tokens, 1 / tokens), matrix(hidden, hidden, 1 / hidden)
    c = matrix(tokens, hidden, 1 / hidden)
    if weights == "reference":
        vector = matrix(1, hidden, 1)[0]
        for _ in range(51):
            vector, before = w @ vector, np.linalg.norm(vector)
        return a, w * 0.9 / (np.linalg.norm(vector) / before), c
    w *= 0.9 / np.abs(np.linalg.eigvals(w)).max()

    # The deviation of the logits among tokens, on a long string of uniform ones.
    h, squares = np.zeros(hidden), []
    for step, token in enumerate(np.random.default_rng(0).integers(0, tokens, 4000)):
        h = a[:, token] + w @ h
        if step > 50:
            squares.append((c @ h).var())
    return a, w, c * sd / math.sqrt(np.mean(squares))


def probabilities(rows, matrices):
    """Return the probabilities of all tokens at each position, float64[rows, ids, tokens]."""
    a, w, c = matrices
    h, shares = np.zeros((len(rows), len(w))), []
    for tokens in rows.T:
        logits = h @ c.T
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares.append(powers / powers.sum(axis=1, keepdims=True))
        h = a.T[tokens - FIRST] + h @ w.T
    return np.array(shares).swapaxes(0, 1)


def assert_drawn(rows, shares, key, indices, slack):
    """Assert that each token is the one under the draw of its row and place."""
    for row, share, index in zip(rows - FIRST, shares, indices, strict=True):
        draws = Draws(key, index)
        draws.below(1)  # the model
        at, places = draws.shares(len(row)), np.arange(len(row))
        above = np.cumsum(share, axis=1)[places, row]
        assert (above - share[places, row] - slack < at).all()
        assert (at < above + slack).all()


@pytest.mark.parametrize("weights", ["scaled", "reference"])
def test_tokens_are_drawn_from_the_softmax_of_the_network(weights):
    settings = {"vocabulary": 160, "weights": weights}
    stream = open_stream("linear_rnn", seed=5, **settings)
    matrices = network(0, weights=weights)
    deviations = []
    for index in (0, 10**12):
        row = stream.rows(np.array([index]))[0]
        (shares,) = probabilities(row[None], matrices)
        # The calibration alone differs, by a per cent.
        assert_drawn(row[None], shares[None], stream.key, [index], slack=0.02)

        surprisals = get_task("linear_rnn").surprisals(row, **settings)
        expected = -np.log(shares[np.arange(256), row - FIRST])
        assert np.abs(surprisals - expected).max() < 0.25
        assert surprisals.mean() == pytest.approx(expected.mean(), abs=0.02)
        deviations += [np.log(share).std() for share in shares[30:]]
    if weights == "scaled":
        assert np.mean(deviations) == pytest.approx(2, rel=0.08)


@pytest.mark.parametrize("rows", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_rows_are_drawn_as_floats_draw_them(rows):
    """With the one number that was estimated here, the scale of the logits, from the package."""
    stream, (a, w, c) = open_stream("linear_rnn", vocabulary=160), network(0)
    whole = recurrent.network_weights(0, 128, 64, 2.0)[-64 * 128 :].reshape(64, 128).T
    outputs = whole / 2**14 / math.log2(math.e)
    scale = (outputs * c).sum() / (c * c).sum()
    assert scale == pytest.approx(1, abs=0.03)
    assert np.abs(outputs - scale * c).max() < 2**-14

    for indices in np.arange(rows).reshape(-1, 100):
        drawn = stream.rows(indices)[0].reshape(100, 256)
        shares = probabilities(drawn, (a, w, scale * c))
        assert_drawn(drawn, shares, stream.key, indices.tolist(), slack=1e-3)


@pytest.mark.parametrize("model", range(4))
def test_the_radius_is_exact_and_the_logits_have_their_deviation(model):
    weights = recurrent.network_weights(model, 64, 32, 0.5)
    a, w, c = np.split(weights.astype(float), [64 * 32, 64 * 32 + 32 * 32])
    assert (weights == np.round(weights)).all()
    matrix = w.reshape(32, 32).T / 2**14
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(0.9, abs=1e-3)
    inputs = a.reshape(64, 32).T / 2**20
    outputs = c.reshape(32, 64).T / 2**14 / math.log2(math.e)
    assert recurrent.logit_sd(inputs, matrix, outputs) == pytest.approx(0.5, rel=1e-2)


def test_the_published_radius_is_off_as_it_was_measured():
    """After its scaling 5, 50, 95 % of 1,000 networks were measured below .825, .900, .999."""
    radii = []
    for model in range(300):
        w = recurrent.network_weights(model, 2, 64, None)[128 : 128 + 64**2].reshape(64, 64)
        radii.append(recurrent.spectral_radius(w / 2**14))
    assert np.quantile(radii, [0.05, 0.5, 0.95]) == pytest.approx([0.825, 0.9, 0.999], abs=0.025)
    assert 0.01 < (np.array(radii) > 1).mean() < 0.1


def test_published_strings_are_nearly_uniform_noise():
    """The deviation of the logits falls as 1 / sqrt(tokens): .01 at the published 50,277."""
    sizes = {"tokens": 512, "hidden": 32, "length": 32, "vocabulary": 600}
    published = get_task("linear_rnn").bayes_loss(weights="reference", **sizes)
    assert math.log(512) - published.value == pytest.approx(0.0035, abs=0.0025)
    scaled = get_task("linear_rnn").bayes_loss(**sizes)
    assert scaled.value < math.log(512) - 1


def test_more_networks_are_told_apart_by_their_strings():
    sizes = {"tokens": 32, "hidden": 8, "length": 64, "vocabulary": 60}
    one, four = (get_task("linear_rnn").bayes_loss(models=n, **sizes) for n in (1, 4))
    assert isinstance(one, BayesLoss)
    first, last = [], []
    for row, _ in pairs("linear_rnn", stop=300, models=4, **sizes):
        alone = [get_task("linear_rnn").surprisals(row, **sizes)]
        mixed = get_task("linear_rnn").surprisals(row, models=4, **sizes)
        first.append(mixed[1:6].mean())
        last.append(mixed[-20:].mean())
        # A mixture loses at most ln 4 on the whole string to its best part.
        assert mixed.sum() < alone[0].sum() + math.log(4) + 1e-9
    assert np.mean(first) > np.mean(last)
    assert four.standard_error < 0.05


ERRORS = [
    ({"length": 0}, "length is 0; give 1 to 1048576"),
    ({"tokens": 1}, "tokens is 1; give an integer >= 2"),
    ({"hidden": 6}, "hidden is 6; give a multiple of 4 up to 256"),
    ({"models": 65}, "models is 65; give 1 to 64"),
    ({"logit_sd": 0}, "logit_sd is 0; give 1 to 1000 hundredths"),
    ({"models": 64, "tokens": 5000}, "all models have 41222144 weights; give fewer models"),
    ({"weights": "theirs"}, "Unknown weights of linear_rnn 'theirs'"),
    ({"vocabulary": 100}, "draws from 128 regular tokens and the vocabulary has 85"),
]


@pytest.mark.parametrize(("settings", "message"), ERRORS)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        pairs("linear_rnn", stop=1, **settings)


def test_a_row_of_other_tokens_is_refused():
    with pytest.raises(UsageError, match=r"id 130 is no token of the networks \(2\.\.129\)"):
        get_task("linear_rnn").solve([2, 130], vocabulary=160)
