"""Intervals of means and differences: equal to hand calculations, and they cover in simulations.

Run: pytest tests/report/test_intervals.py
"""

import numpy as np
import pytest
from simulated_cells import by_seed, simulate_scores

from hf_synpre.report.intervals import (
    difference,
    estimate,
    fraction_estimate,
    wilson_interval,
)
from hf_synpre.report.student import t_quantile


@pytest.mark.parametrize(
    ("df", "expected"),
    [
        (1, 12.7062),
        (2, 4.302653),
        (3, 3.182446),
        (4, 2.776445),
        (10, 2.228139),
        (30, 2.042272),
        (1000, 1.962339),
    ],
)
def test_t_quantile_equals_the_printed_tables(df, expected):
    assert t_quantile(0.975, df) == pytest.approx(expected, rel=1e-6)
    assert t_quantile(0.025, df) == pytest.approx(-expected, rel=1e-6)


def test_t_quantile_is_smooth_in_df():
    assert t_quantile(0.5, 3) == pytest.approx(0, abs=1e-12)
    assert t_quantile(0.95, 5) == pytest.approx(2.015048, rel=1e-6)
    assert t_quantile(0.975, 3) < t_quantile(0.975, 2.5) < t_quantile(0.975, 2)


def test_estimate_by_hand():
    e = estimate([1.0, 2.0, 3.0])
    assert (e["value"], e["n"]) == (2.0, 3)
    assert e["high"] - 2 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert estimate([2.0]) == {
        "value": 2.0,
        "low": None,
        "high": None,
        "se": None,
        "note": "one seed: no interval",
        "n": 1,
    }
    assert estimate([0.1, 0.1, 0.1])["note"] == "the seeds do not differ: no interval"


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_of_means_cover(n):
    samples = np.random.default_rng(n).normal(size=(2000, n))
    covered = [e["low"] < 0 < e["high"] for e in map(estimate, samples)]
    assert 0.935 < np.mean(covered) < 0.965


# The same seeds in both arms: paired. No seed shared: Welch.
@pytest.mark.parametrize("shift", [0, 100])
def test_null_difference_is_rarely_found_and_a_planted_one_is(shift):
    rng = np.random.default_rng(1)
    significant = {0.0: [], 6.0: []}  # by the planted effect
    for effect, hits in significant.items():
        for a, b in rng.normal(size=(600, 2, 4)):
            d = difference(by_seed(a + effect, shift), by_seed(b))
            assert d["paired"] == (shift == 0)
            hits.append(d["excludes_zero"])
    assert 0.025 < np.mean(significant[0.0]) < 0.07
    assert np.mean(significant[6.0]) > 0.95


def test_pairing_takes_the_noise_of_the_seed_out():
    noise = [0.0, 0.3, -0.2]
    shifted = [x + 0.1 + 0.001 * s for s, x in enumerate(noise)]
    reference, scores = by_seed(noise), by_seed(shifted)
    assert difference(scores, reference)["excludes_zero"]
    assert not difference(by_seed(shifted, shift=10), reference)["excludes_zero"]
    assert difference(by_seed([0.5]), reference)["low"] is None
    assert not difference(reference, reference)["excludes_zero"]


# --- Scores without spread ------------------------------------------------------------------------


def test_wilson_s_interval_equals_published_values():
    # Newcombe 1998, Statistics in Medicine 17, 857: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    expected = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, size), ends in expected.items():
        assert wilson_interval(successes / size, size) == pytest.approx(ends, abs=5e-5)


def test_nothing_right_under_every_seed_is_not_known_to_be_nothing():
    none_right = fraction_estimate([0.0, 0.0], np.zeros((2, 100)), [100])
    assert none_right["low"] == 0
    assert none_right["high"] == pytest.approx(0.0370, abs=1e-4)
    assert "Wilson" in none_right["note"]
    all_right = fraction_estimate([1.0, 1.0, 1.0], None, [100])
    assert (all_right["low"], all_right["high"]) == pytest.approx((0.9630, 1.0), abs=1e-4)
    hardly_any = fraction_estimate([0.0, 0.0, 1e-5], None, [100])
    assert hardly_any["high"] > none_right["high"]
    unknown = fraction_estimate([0.0, 0.0], None, [])
    assert (unknown["low"], unknown["high"]) == (None, None)
    assert unknown["note"] == "the seeds do not differ: no interval"


def test_the_interval_of_a_fraction_stays_a_fraction():
    unbounded, bounded = estimate([0.0, 0.01]), fraction_estimate([0.0, 0.01], None, [])
    assert unbounded["low"] < 0 == bounded["low"]
    assert bounded["high"] == unbounded["high"]


def test_differences_without_spread_have_the_interval_of_the_means():
    none, every = (fraction_estimate([x, x], None, [100]) for x in (0.0, 1.0))
    scores = {x: by_seed([x, x]) for x in (0.0, 1.0)}
    nothing = difference(scores[0.0], scores[0.0], means=(none, none))
    assert (nothing["low"], nothing["high"]) == pytest.approx((-0.0370, 0.0370), abs=1e-4)
    assert not nothing["excludes_zero"]
    # Newcombe's interval of 1 - 0: the root of both squared distances below it.
    gap = difference(scores[1.0], scores[0.0], means=(every, none))
    assert (gap["low"], gap["high"]) == pytest.approx((1 - 0.0370 * 2**0.5, 1.0), abs=1e-4)
    assert gap["excludes_zero"]
    assert difference(scores[0.0], scores[0.0])["low"] is None
    apart = by_seed([0.0, 0.0], shift=5)
    assert difference(apart, scores[0.0], means=(none, none))["high"] > 0  # not paired


# --- Seeds and examples ---------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.03), (5, 0.03), (3, 0.0), (5, 0.1)])
def test_intervals_over_seeds_and_examples_cover(seeds, seed_sd):
    rng = np.random.default_rng(seeds)
    runs = [simulate_scores(rng, seeds, {"a": 0.5}, seed_sd=seed_sd)["a"] for _ in range(800)]
    covered = [e["low"] < 0.5 < e["high"] for e in (estimate([*x.mean(1)], x) for x in runs)]
    assert 0.94 < np.mean(covered) < 0.985
    if seed_sd < 0.1:  # seeds alone leave the draw of the examples out
        by_seeds = [estimate([*x.mean(1)]) for x in runs]
        assert np.mean([e["low"] < 0.5 < e["high"] for e in by_seeds]) < 0.93


def test_the_variance_of_seeds_and_examples_by_hand():
    scores = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    e = estimate([*scores.mean(1)], scores)  # mean squares: seeds 1/6, examples 1/2, rest 1/6
    assert e["se"] == pytest.approx((1 / 6 / 6 + (1 / 2 - 1 / 6) / 6) ** 0.5)
    assert e["se_seeds"] == pytest.approx(1 / 6)


def test_seeds_that_agree_by_chance_have_an_interval():
    # Both seeds have half of the examples right.
    scores = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    e = estimate([0.5, 0.5], scores)  # mean squares: seeds 0, examples 0, rest 2 / 3
    assert e["se_seeds"] == pytest.approx((2 / 3 / 8) ** 0.5)
    assert e["high"] - 0.5 == pytest.approx(t_quantile(0.975, 3) * e["se_seeds"])


def paired_difference(scores):
    """Return the difference of the arms a and b from their scores, [seeds, examples] each."""
    means = {arm: by_seed(scores[arm].mean(1)) for arm in ("a", "b")}
    examples = {arm: by_seed(scores[arm]) for arm in ("a", "b")}
    return difference(means["a"], means["b"], examples["a"], examples["b"])


def test_paired_examples_find_planted_effects_and_no_null_ones():
    rng = np.random.default_rng(2)
    significant = {0.0: [], 0.15: []}  # by the planted effect
    for effect, hits in significant.items():
        for _ in range(500):
            scores = simulate_scores(rng, 4, {"a": 0.5 + effect, "b": 0.5})
            hits.append(paired_difference(scores)["excludes_zero"])
    assert 0.02 < np.mean(significant[0.0]) < 0.07
    assert np.mean(significant[0.15]) > 0.9
