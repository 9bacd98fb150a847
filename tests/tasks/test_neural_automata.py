"""Neural cellular automata: rows are those of a rule that is computed anew, in NumPy's floats.

Run: pytest tests/tasks/test_neural_automata.py
"""

import gzip
import itertools
import math
import statistics

import numpy as np
import pytest
from random_bits import Draws
from task_rows import chi_square, flat_rows, pairs

from hf_synpre import UsageError
from hf_synpre.tasks import get_task, open_stream
from hf_synpre.tasks.exact_numbers import UNIT, normal_quantiles
from hf_synpre.vocabulary import Vocabulary

FIRST = 2  # regular tokens of a plain vocabulary begin here
SIZES = {"grid": 12, "states": 10, "patch": 2, "frames": 27, "burn_in": 10}
# Parameters besides the defaults.
SETTINGS = {
    "default": {},
    "all rules": {"min_complexity": 0},
    "middle band": {"min_complexity": 440, "max_complexity": 540},
    "padded": {"channel_padding": "yes", "min_complexity": 0},
    "two states": {"grid": 6, "states": 2, "patch": 1, "frames": 5, "min_complexity": 0},
    "large patches": {"grid": 9, "states": 2, "patch": 3, "frames": 12, "min_complexity": 100},
    "padded, two states": {
        **{"states": 2, "channel_padding": "yes", "burn_in": 0, "min_complexity": 0},
        "frames": 3,
    },
}


def phrases(tokens):
    """Return the number of phrases of Lempel and Ziv 1978, with a set of tuples."""
    known, phrase, count = set(), (), 0
    for token in tokens:
        phrase += (token,)
        if phrase not in known:
            known.add(phrase)
            phrase, count = (), count + 1
    return count + bool(phrase)


def frames_of(row, sizes):
    """Return the patch numbers of a row, int64[frames, patches]."""
    length = (sizes["grid"] // sizes["patch"]) ** 2 + 1
    return np.append(row, 0).reshape(-1, length)[:, :-1] - FIRST


def history(key, index, settings):
    """Return the patch numbers of a row: draw its weights, compute its frames, judge them."""
    sizes = SIZES | settings
    grid, states, patch = sizes["grid"], sizes["states"], sizes["patch"]
    padded = 2 * (settings.get("channel_padding") == "yes")
    quantiles = normal_quantiles(4096, 2.0) / UNIT
    draws = Draws(key, index)

    def weights(*shape, inputs):
        """Return weights of the variance 1 / inputs, rounded to 1 / 4096."""
        drawn = quantiles[draws.many_below(4096, math.prod(shape))]
        sd = math.sqrt(1 / inputs) / 0.87962566103423978
        return np.floor(drawn * sd * 4096 + 0.5).reshape(shape) / 4096

    while True:
        features = weights(3, 3, states + padded, 4, inputs=9 * (states + padded))
        units, scores = weights(16, 4, inputs=4), weights(states, 16, inputs=16)
        cells = np.array([draws.below(states) for _ in range(grid**2)]).reshape(grid, grid)
        tokens = []
        for step in range(sizes["burn_in"] + sizes["frames"]):
            if step >= sizes["burn_in"]:
                parts = cells.reshape(grid // patch, patch, grid // patch, patch)
                places = states ** np.arange(patch**2)
                tokens.append(parts.swapaxes(1, 2).reshape(-1, patch**2) @ places)
            one_hot = np.eye(states)[cells]
            if padded:  # as numpy.pad wraps: the last channel before the first, and the first again
                one_hot = np.pad(one_hot, ((0, 0), (0, 0), (1, 1)), mode="wrap")
            seen = sum(
                np.roll(one_hot, (1 - i, 1 - j), axis=(0, 1)) @ features[i, j]
                for i in range(3)
                for j in range(3)
            )
            cells = (np.maximum(seen @ units.T, 0) @ scores.T).argmax(axis=-1)
        judged = np.concatenate(tokens[:10]).tolist()
        complexity = 1000 * phrases(judged) // len(judged)
        if sizes.get("min_complexity", 650) <= complexity <= sizes.get("max_complexity", 1000):
            return np.array(tokens)


@pytest.mark.parametrize("name", SETTINGS)
def test_frames_follow_from_the_rule_of_their_row(name):
    settings = SETTINGS[name]
    stream = open_stream("nca", vocabulary=20_000, seed=3, **settings)
    x, ends, y, _ = stream.rows(np.array([7, 0, 10**12, 7]))
    rows = [x[start:stop] for start, stop in itertools.pairwise(ends)]
    assert (rows[0] == rows[3]).all()
    for index, row in zip((7, 0, 10**12), rows, strict=False):
        expected = history(stream.key, index, settings)
        assert (frames_of(row, SIZES | settings) == expected).all()

    # The labels: all patches after the first frame.
    scored = y[: ends[1]] != -100
    is_patch = rows[0] != stream.vocabulary.special_ids["separator"]
    is_patch[: len(expected[0])] = False
    assert (scored == is_patch).all()
    assert (y[: ends[1]][scored] == rows[0][scored]).all()


@pytest.mark.slow
def test_ten_thousand_rows_follow_from_their_rules():
    stream = open_stream("nca", vocabulary=20_000)
    for indices in np.arange(10_000).reshape(-1, 250):
        x, ends, *_ = stream.rows(indices)
        for index, row in zip(indices.tolist(), np.split(x, ends[1:-1]), strict=True):
            assert (frames_of(row, SIZES) == history(stream.key, index, {})).all()


def test_complexities_of_rules_are_those_that_were_measured():
    """Shares by gzip's ratio on 1,500 rules of another implementation with the same law."""
    rows, *_ = flat_rows("nca", range(1500), frames=10, min_complexity=0, vocabulary=20_000)
    ratios, complexities = [], []
    for row in rows.reshape(1500, -1):
        tokens = np.delete(row, np.arange(36, 360, 37)).astype("<i4") - FIRST
        ratios.append(len(gzip.compress(tokens.tobytes(), 9)) / (4 * len(tokens)))
        complexities.append(phrases(tokens.tolist()) / len(tokens))
    counts = np.histogram(ratios, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 1])[0]
    measured = np.array([0.149, 0.053, 0.057, 0.086, 0.2, 0.455])
    error = np.sqrt(2 * measured * (1 - measured) / 1500)
    assert (np.abs(counts / 1500 - measured) < 4 * error).all()

    # The default band is that of ratios above one half.
    in_band = np.array(complexities) >= 0.65
    assert (in_band == (np.array(ratios) > 0.5)).mean() > 0.95


def test_the_first_states_are_uniform():
    settings = {"burn_in": 0, "frames": 2, "min_complexity": 0, "grid": 3, "patch": 1}
    x, *_ = flat_rows("nca", range(3000), states=5, vocabulary=40, **settings)
    cells = x.reshape(3000, -1)[:, :9] - FIRST
    chi_square(np.bincount(cells.reshape(-1)), np.full(5, 3000 * 9 / 5))
    neighbours = 5 * cells[:, 0] + cells[:, 1]
    chi_square(np.bincount(neighbours, minlength=25), np.full(25, 3000 / 25))


def test_quantiles_are_those_of_the_normal_distribution():
    normal = statistics.NormalDist()
    cut, whole = normal_quantiles(4096, 2.0), normal_quantiles(2**16)
    assert (cut == -cut[::-1]).all()
    assert (cut / UNIT).std() == pytest.approx(0.87962566, abs=1e-5)
    assert (whole / UNIT).std() == pytest.approx(1, abs=1e-3)
    inside = 1 - 2 * normal.cdf(-2)
    ranks = [(normal.cdf(z / UNIT) - normal.cdf(-2)) / inside for z in cut[::64]]
    assert ranks == pytest.approx(((np.arange(0, 4096, 64) + 0.5) / 4096).tolist(), abs=1e-5)

    # None is so near to the middle of two integers that another library rounds it otherwise.
    for count, cut_off in ((4096, normal.cdf(-2)), (2**16, 0.0)):
        for k in range(0, count, count // 4096):
            exact = UNIT * normal.inv_cdf(cut_off + (1 - 2 * cut_off) * (k + 0.5) / count)
            assert abs(exact % 1 - 0.5) > 1e-8


def test_patches_are_read_as_the_digits_of_their_cells():
    settings = {"grid": 4, "states": 3, "frames": 2, "min_complexity": 0, "vocabulary": 128}
    separator = Vocabulary.plain(128).special_ids["separator"]
    row = [2 + 5, 2, 2, 2 + 80, separator, 2, 2, 2 + 27, 2]
    assert get_task("nca").text(row, **settings) == "2100 0000 0000 2222 | " + (
        "0000 0000 0001 0000"
    )
    labels = get_task("nca").solve(row, **settings)
    text = get_task("nca").text(labels, row=row, **settings)
    assert text == ". . . . . 0000 0000 0001 0000"
    assert get_task("nca").bayes_loss() is None


ERRORS = [
    ({"grid": 2}, "grid is 2; give 3 to 32 cells a side"),
    ({"states": 17}, "states is 17; give 2 to 16"),
    ({"patch": 5}, "patch is 5; give a divisor of grid, which is 12"),
    ({"burn_in": 101}, "burn_in is 101; give at most 100 steps"),
    ({"grid": 32, "patch": 32}, "patch is 32: its cells of 10 states have too many tokens"),
    ({"frames": 1}, "frames is 1; give an integer >= 2"),
    ({"frames": 2**20}, "a row has 38797311 tokens; give fewer frames or a larger patch"),
    ({"min_complexity": 700, "max_complexity": 600}, "min_complexity is 700 and max_complexity"),
    ({"states": 2}, "none of 500 rules has a complexity of 650 to 1000; give a wider band"),
    ({"vocabulary": 5000}, "draws from 10,000 regular tokens and the vocabulary has 4985"),
]


@pytest.mark.parametrize(("settings", "message"), ERRORS)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        pairs("nca", stop=1, **settings)


def test_malformed_rows_are_refused():
    settings = {"grid": 4, "states": 2, "frames": 2, "min_complexity": 0, "vocabulary": 128}
    separator = Vocabulary.plain(128).special_ids["separator"]
    row = [2, 3, 4, 5, separator, 2, 3, 4, 5]
    problems = [
        (row[:-1], "it has 8 ids; frames have 4, with a separator between them"),
        ([*row[:4], 2, *row[5:]], "a separator is missing behind a frame of 4 patches"),
        ([*row[:-1], 18], "id 18 is no patch"),
    ]
    for wrong, message in problems:
        with pytest.raises(UsageError, match=message):
            get_task("nca").solve(wrong, **settings)
