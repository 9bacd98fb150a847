"""Seeds of pre-training and of fine-tuning: grids, pairs of cells, and intervals that cover both.

Run: pytest tests/report/test_seeds.py
"""

from pathlib import Path

import numpy as np
import pytest
from simulated_cells import make_crossed, page, save, summary

from hf_synpre.report import table, write_report
from hf_synpre.report.intervals import difference, estimate, fraction_estimate, seed_error
from hf_synpre.report.seeds import Seeds, Shape, complete_grid, pair_seeds

SHAPE = Shape(3, 3)
PAGE = Path(__file__).parents[2] / "docs" / "experiments.md"


def simulate(sds, count, shape=SHAPE):
    """Return scores, [count, P, F], whose true mean is 0.

    Args:
        sds: the standard deviations of the effects of pre-training seeds, of fine-tuning seeds, and
            of the two together.
        count: number of experiments.
        shape: how many seeds there are of each kind.
    """
    rng = np.random.default_rng(3)
    rows, columns = shape
    effects = (count, rows, 1), (count, 1, columns), (count, rows, columns)
    return sum(sd * rng.normal(size=size) for sd, size in zip(sds, effects, strict=True))


def coverage(intervals):
    """Return the share of estimates whose interval holds 0."""
    return np.mean([one["low"] < 0 < one["high"] for one in intervals])


# Rows of the table of docs/experiments.md: the three standard deviations.
DESIGNS = [(1, 0.01, 0.01), (0.01, 1, 0.01), (1, 1, 0.3), (1, 0.3, 0.3), (0.3, 1, 0.5), (0, 0, 1)]


@pytest.mark.parametrize("sds", DESIGNS)
def test_intervals_over_both_kinds_of_seeds_cover(sds):
    scores = simulate(sds, 1000)
    crossed = coverage(estimate([*one.ravel()], shape=SHAPE) for one in scores)
    assert 0.94 < crossed < (0.98 if any(sds[:2]) else 0.995)
    as_independent = coverage(estimate([*one.ravel()]) for one in scores)
    of_runs = coverage(estimate([*one.mean(1)]) for one in scores)

    # What the page says was measured here.
    row = [f"{100 * share:.0f}" for share in (as_independent, of_runs, crossed)]
    named = ", ".join(f"{sd:g}" for sd in sds)
    assert f"| {named} | {' | '.join(row)} |" in PAGE.read_text(encoding="utf-8")


def test_two_runs_have_an_interval_that_covers():
    # Satterthwaite's degrees of freedom alone cover 89 %: two runs tell little of their spread.
    shape = Shape(2, 5)
    scores = simulate((1, 0.3, 0.3), 1000, shape)
    assert 0.94 < coverage(estimate([*one.ravel()], shape=shape) for one in scores) < 0.97


def test_the_error_of_a_grid_by_hand():
    # Rows 1 and 3, columns 1.5 and 2.5, the rest 0: mean squares 4, 1 and 0. The rows alone have
    # the widest interval, because two of them have one degree of freedom.
    assert seed_error([0.5, 1.5, 2.5, 3.5], Shape(2, 2)) == pytest.approx((1, 1))
    # Five rows and five columns of one spread: both together have the widest one.
    both = seed_error([row + column for row in range(5) for column in range(5)], Shape(5, 5))
    assert both == pytest.approx(((12.5 + 12.5) ** 0.5 / 5, 8))
    assert seed_error([1.0, 0.0, 0.0, 1.0], Shape(2, 2)).se == pytest.approx(0.5)  # the rest alone
    one_row = seed_error([1.0, 2.0, 3.0], Shape(1, 3))
    assert one_row == seed_error([1.0, 2.0, 3.0])


def test_cells_beyond_the_complete_grid_wait():
    cells = [Seeds(0, 0), Seeds(0, 1), Seeds(0, 2), Seeds(1, 0), Seeds(1, 1), Seeds(2, 0)]
    grid, shape = complete_grid(cells)
    assert shape == (2, 2)
    assert grid == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert complete_grid(cells[:3]) == (cells[:3], (1, 3))
    assert complete_grid([]) == ([], (0, 0))


def test_cells_are_paired_by_the_seeds_that_both_arms_have():
    crossed = [Seeds(row, seed) for row in (0, 1) for seed in (0, 1)]
    random = [Seeds(0, 0), Seeds(0, 1)]
    assert pair_seeds(crossed, random)[Seeds(1, 0)] == ((1, 0), (0, 0))
    assert pair_seeds(random, crossed)[Seeds(1, 0)] == ((0, 0), (1, 0))
    assert pair_seeds(crossed, crossed[1:]).keys() == set(crossed[1:])
    # Arms with other pre-training runs but for one are compared as independent.
    assert pair_seeds(crossed, [Seeds(0, 0), Seeds(5, 0)]) == {}


def test_a_report_covers_both_kinds_of_seeds_and_says_so(tmp_path, undrawn):
    cells = make_crossed()
    result = write_report(save(tmp_path, cells))
    scores = result["scores"]["stdlib_ast"]
    assert scores["synthetic"]["grid"] == [3, 3]
    assert "grid" not in scores["random"]
    assert "(3 × 3)" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "3 × 3" in table(result)

    # Runs differ by 5 points and seeds by 1: nine independent scores would claim too much.
    synthetic = [cell["score"] for cell in cells if cell["arm"] == "synthetic"]
    plain, crossed = estimate(synthetic), scores["synthetic"]
    assert crossed["high"] - crossed["low"] > 1.5 * (plain["high"] - plain["low"])
    difference = result["differences"]["stdlib_ast"]["synthetic"]
    assert difference["paired"]
    assert difference["grid"] == [3, 3]

    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Each pre-training seed of statistics, synthetic, natural is fine-tuned" in text
    assert "is shared by the seeds" not in text


def test_arms_without_several_runs_are_named_as_such():
    cells = [c for c in make_crossed() if c["arm"] != "natural" or "pretraining_seed" not in c]
    cells = [
        c for c in cells if (c["arm"], c.get("pretraining_seed"), c["seed"]) != ("statistics", 2, 2)
    ]
    text = page(cells)
    assert "A pre-training run is shared by the seeds of natural:" in text
    assert "statistics on stdlib_ast: 2 cells are left out" in text


def test_one_seed_of_fine_tuning_is_said():
    cells = make_crossed(seeds=1)
    scores = summary(cells)["scores"]["stdlib_ast"]
    assert scores["synthetic"]["grid"] == [3, 1]
    assert "one seed of fine-tuning" in scores["synthetic"]["note"]
    text = page(cells)
    assert "The pre-training seeds of synthetic, statistics, natural are fine-tuned with" in text
    assert "hold the variance of both" not in text


def test_runs_of_one_seed_that_are_all_right_have_the_interval_of_the_means():
    mean = fraction_estimate([1.0] * 3, None, [100], Shape(3, 1))
    runs = {Seeds(row, 0): 1.0 for row in range(3)}
    nothing = difference(runs, {Seeds(0, 0): 1.0}, means=(mean, mean))
    assert nothing["low"] < 0 < nothing["high"]


def test_language_modelling_pairs_every_run_with_the_random_start_of_its_seed():
    cells = make_crossed({"random": 2.0, "synthetic": 1.5}, of_pretraining=0.1)
    for cell in cells:
        curve = [
            {"step": s, "tokens": 100 * s, "score": 3 - (3 - cell["score"]) * s / 4}
            for s in (1, 2, 4)
        ]
        cell |= {"metric": "bits_per_byte", "higher_is_better": False, "curve": curve}
    rate = summary(cells)["exchange"]["stdlib_ast"]["synthetic"]
    assert (rate["reached"], rate["seeds"]) == (9, 9)
    assert rate["natural"]["grid"] == [3, 3]
