"""Random LSTMs: rows are those of networks that are computed anew, and almost those of torch's.

Run: pytest tests/tasks/test_lstm.py
"""

import itertools
import math

import numpy as np
import pytest
import torch
from random_bits import Draws
from task_rows import chi_square, pairs

from hf_synpre import UsageError
from hf_synpre.tasks import get_task, lstm, open_stream
from hf_synpre.tasks.exact_numbers import UNIT, normal_quantiles

FIRST = 2  # regular tokens of a plain vocabulary begin here
SIZES = {"length": 256, "tokens": 32, "hidden": 8, "mean_depth": 4}
SPREADS = {"input_sd": 25, "recurrent_sd": 200}
# Parameters besides the defaults.
SETTINGS = {
    "default": {},
    "one network": {"mean_depth": 1, "length": 100},
    "deep": {"mean_depth": 10, "length": 60, "hidden": 4, "tokens": 2},
    "weak": {"input_sd": 100, "recurrent_sd": 60, "tokens": 40, "hidden": 20, "length": 64},
    "strong": {"input_sd": 1000, "recurrent_sd": 1000, "length": 64, "hidden": 16},
}


def drawn_row(key, index, settings):
    """Return what decides a row: its uniform tokens, and of each pass the integer weights.

    Weights are those of inputs [tokens, 4 hidden], of the state [hidden, 4 hidden], and of scores
    [hidden, tokens], in 1 / 2**14.
    """
    values = SIZES | SPREADS | settings
    tokens, hidden = values["tokens"], values["hidden"]
    draws = Draws(key, index)
    passes = 1
    while draws.below(values["mean_depth"]):
        passes += 1
    row = [draws.below(tokens) for _ in range(values["length"])]

    def matrix(rows, columns, sd):
        """Return independent normal numbers, rounded."""
        numbers = draws.many_below(4096, rows * columns).reshape(rows, columns)
        normal = normal_quantiles(4096)[numbers] / UNIT
        return np.round(normal * sd * 2**14).astype(np.int64)

    networks = []
    for _ in range(passes):
        inputs = matrix(tokens, 4 * hidden, values["input_sd"] / 100)
        recurrent = matrix(hidden, 4 * hidden, values["recurrent_sd"] / 100 / hidden**0.5)
        networks.append((inputs, recurrent, matrix(hidden, tokens, 1)))
    return row, networks


def logistic(numbers):
    """Return the logistic function of integers in 1 / 2**26, in 1 / 2**12: by steps of 1 / 64."""
    steps = np.clip(numbers >> 20, -512, 511)
    return np.round(4096 / (1 + np.exp(-(steps + 0.5) / 64))).astype(np.int64)


def passed(rows, networks):
    """Return the tokens that LSTMs put in the place of those of rows, with integers alone.

    Rows are int64[rows, tokens], and each has a network of its own.
    """
    inputs, recurrent, outputs = (np.array(weights) for weights in zip(*networks, strict=True))
    count, hidden = recurrent.shape[:2]
    h = cells = np.zeros((count, hidden), np.int64)
    written = np.empty_like(rows)
    for i, tokens in enumerate(rows.T):
        sums = inputs[np.arange(count), tokens] * 4096 + np.einsum("rh,rhg->rg", h, recurrent)
        gates = sums.reshape(count, 4, hidden).swapaxes(0, 1)
        keep, take, show = logistic(gates[:3])
        new = 2 * logistic(2 * gates[3]) - 4096
        cells = (keep * cells + take * new + 2048) >> 12
        h = (show * (2 * logistic(2 * (cells << 14)) - 4096) + 2048) >> 12
        written[:, i] = np.einsum("rh,rht->rt", h, outputs).argmax(axis=1)
    return written


@pytest.mark.parametrize("name", SETTINGS)
def test_a_row_is_what_its_networks_make_of_its_uniform_tokens(name):
    settings = SETTINGS[name]
    stream = open_stream("random_lstm", seed=3, **settings)
    indices = [7, 0, 1, 2, 10**12, 7]
    x, ends, y, _ = stream.rows(np.array(indices))
    assert (x == y).all()
    rows = [x[start:stop] - FIRST for start, stop in itertools.pairwise(ends)]
    assert (rows[0] == rows[-1]).all()
    for index, row in zip(indices, rows, strict=True):
        drawn, networks = drawn_row(stream.key, index, settings)
        expected = np.array([drawn])
        for network in networks:
            expected = passed(expected, [network])
        assert (row == expected[0]).all()


@pytest.mark.slow
def test_ten_thousand_rows_are_what_their_networks_make_of_them():
    stream = open_stream("random_lstm")
    for indices in np.arange(10_000).reshape(-1, 250):
        drawn = [drawn_row(stream.key, index, {}) for index in indices.tolist()]
        expected = np.array([tokens for tokens, _ in drawn])
        networks = [left for _, left in drawn]
        while any(networks):
            left = [i for i, some in enumerate(networks) if some]
            expected[left] = passed(expected[left], [networks[i].pop(0) for i in left])
        assert (stream.rows(indices)[0].reshape(expected.shape) - FIRST == expected).all()


def test_a_network_is_torch_s_lstm():
    """Of one pass with weak recurrence, where the steps of the gates do not grow."""
    settings = {"mean_depth": 1, "recurrent_sd": 60, "input_sd": 100}
    stream = open_stream("random_lstm", seed=1, **settings)
    equal = []
    for index in range(8):
        row, [(inputs, recurrent, outputs)] = drawn_row(stream.key, index, settings)
        network = torch.nn.LSTM(32, 8, bias=False)
        # torch's gates: input, forget, new, output.
        for name, weights in (("weight_ih_l0", inputs), ("weight_hh_l0", recurrent)):
            forget, take, show, new = np.split(weights.T / 2**14, 4)
            parts = np.concatenate([take, forget, new, show])
            getattr(network, name).data = torch.tensor(parts, dtype=torch.float32)
        with torch.no_grad():
            states = network(torch.eye(32)[row])[0].numpy()
        written = (states @ outputs).argmax(axis=1)
        equal.append(written == stream.rows(np.array([index]))[0] - FIRST)
    assert np.mean(equal) > 0.95


def test_the_depth_is_geometric():
    """A row of one token and of one network is drawn after so many draws of the depth."""
    depths = []
    for index in range(4000):
        _, networks = drawn_row(5, index, {"length": 1, "tokens": 2, "hidden": 1, "mean_depth": 4})
        depths.append(min(len(networks), 8))
    shares = [0.25 * 0.75 ** (r - 1) for r in range(1, 8)]
    chi_square(np.bincount(depths)[1:], 4000 * np.array([*shares, 1 - sum(shares)]))


def entropy(tokens):
    """Return the entropy of the frequencies of tokens, nats."""
    counts = np.bincount(tokens)
    shares = counts[counts > 0] / len(tokens)
    return -(shares * np.log(shares)).sum()


def test_rows_range_from_noise_to_simple_strings():
    mean, spread = {}, {}
    for depth in (1, 4, 16):
        rows = [row for row, _ in pairs("random_lstm", stop=100, mean_depth=depth)]
        entropies = [entropy(row) for row in rows]
        mean[depth], spread[depth] = np.mean(entropies), np.ptp(entropies)
    assert mean[1] > mean[4] + 0.2 > mean[16] + 0.4
    assert spread[4] > 2

    # A token tells of the next one: more than those of the same row in random order.
    source, gain = np.random.default_rng(0), []
    for row, _ in pairs("random_lstm", stop=100, tokens=8):
        ordered = np.array(row) - FIRST
        mixed = source.permutation(ordered)
        joint = [entropy(8 * part[:-1] + part[1:]) for part in (mixed, ordered)]
        gain.append(joint[0] - joint[1])
    assert np.mean(gain) > 0.1


def test_the_gates_are_looked_up_as_the_logistic_function():
    table = lstm.tables(16, 25, 200)
    middles = (np.arange(-512, 512) + 0.5) / 64
    exact = 4096 / (1 + np.exp(-middles))
    assert np.abs(table[:1024] - exact).max() <= 0.5
    # None is so near to the middle of two integers that another library rounds it otherwise.
    assert (np.abs(exact % 1 - 0.5) > 1e-8).all()
    # The weights behind it.
    for part, sd in zip(np.split(table[1024:], 3), (0.25, 0.5, 1), strict=True):
        assert (part / 2**14).std() == pytest.approx(sd, rel=2e-3)
    assert math.isclose(table[:1024].sum(), 512 * 4096, rel_tol=1e-6)


ERRORS = [
    ({"length": 0}, "length is 0; give 1 to 1048576"),
    ({"tokens": 1}, "tokens is 1; give 2 to 4096"),
    ({"hidden": 6}, "hidden is 6; give a multiple of 4 up to 256"),
    ({"mean_depth": 0}, "mean_depth is 0; give 1 to 64 networks"),
    ({"input_sd": 0}, "input_sd is 0; give 1 to 1000 hundredths"),
    ({"recurrent_sd": 1001}, "recurrent_sd is 1001; give 1 to 1000 hundredths"),
    ({"tokens": 100, "vocabulary": 64}, "draws from 100 regular tokens and the vocabulary has"),
]


@pytest.mark.parametrize(("settings", "message"), ERRORS)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        pairs("random_lstm", stop=1, **settings)


def test_a_row_of_other_tokens_is_refused_and_no_loss_is_claimed():
    with pytest.raises(UsageError, match=r"id 34 is no token of the networks \(2\.\.33\)"):
        get_task("random_lstm").solve([2, 34])
    assert get_task("random_lstm").bayes_loss() is None
