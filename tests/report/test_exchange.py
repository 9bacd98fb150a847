"""The exchange rate of language modelling, on simulated curves of a known rate.

Run: pytest tests/report/test_exchange.py
"""

import numpy as np
import pytest
from simulated_cells import make_cell, summary

from hf_synpre.report.exchange import exchange_rates
from hf_synpre.report.markdown_page import markdown

TOKENS = [2e5 * k for k in range(1, 11)]
SYNTHETIC = 5e5


def lm_cell(arm, seed, rate=1.0, noise=0.0, tail=0.0):
    """Return a cell whose loss after t tokens is that of random after t / rate tokens.

    `noise` is the deviation of the cell's log rate; `tail` is added to the last losses.
    """
    rng = np.random.default_rng([seed, *arm.encode()])
    shift = np.log(rate) + noise * rng.normal()
    curve = []
    for step, tokens in enumerate(TOKENS):
        loss = 4.0 - 0.3 * (np.log(tokens) - shift - np.log(TOKENS[0]))
        loss += tail * max(0, step - 6)
        point = {"step": step + 1, "tokens": tokens, "flops": 6e5 * tokens, "score": loss}
        curve.append(point)
    finetuning = {"steps": 10, "tokens": TOKENS[-1], "flops": 6e5 * TOKENS[-1]}
    pretraining = None
    if arm != "random":
        pretraining = {"name": "set", "tokens": SYNTHETIC, "flops": 3e5 * SYNTHETIC}
    return make_cell(
        "lm",
        arm,
        seed,
        score=curve[-1]["score"],
        metric="bits_per_byte",
        higher_is_better=False,
        curve=curve,
        phases={"pretraining": pretraining, "finetuning": finetuning},
    )


def rates_of(**arms):
    """Return the rates of arms: name -> keywords of `lm_cell`, three seeds each."""
    by_arm = {arm: [lm_cell(arm, s, **options) for s in range(3)] for arm, options in arms.items()}
    return exchange_rates({"random": [lm_cell("random", s) for s in range(3)], **by_arm})


def test_a_rate_is_read_off_the_curves():
    rate = rates_of(synthetic={"rate": 0.6})["synthetic"]
    assert rate["natural"]["value"] == pytest.approx(0.6)
    assert rate["with_synthetic"]["value"] == pytest.approx(0.6 + SYNTHETIC / TOKENS[-1])
    # Half of the FLOPs a token: s c / T = 0.25 * 0.5.
    assert rate["net_gain"]["value"] == pytest.approx(0.4 - 0.125)
    assert rate["crossover"] is None


def test_what_is_not_reached_has_no_rate():
    rate = rates_of(synthetic={"rate": 1.3})["synthetic"]
    assert (rate["reached"], rate["seeds"]) == (0, 3)
    assert rate["natural"]["value"] is None
    cells = [
        lm_cell(arm, s, rate=1.3 if arm != "random" else 1.0)
        for arm in ("random", "set")
        for s in (0, 1)
    ]
    page = markdown(summary(cells), "runs/x")
    assert "not reached (0 of 2 seeds)" in page
    assert "No arm is a control" in page


def test_a_loss_that_is_reached_before_the_first_evaluation_asks_for_more_of_them():
    cells = [
        lm_cell(arm, seed, rate=1.0 if arm == "random" else 0.001)
        for arm in ("random", "set")
        for seed in (0, 1)
    ]
    page = markdown(summary(cells), "runs/x")
    assert "reached before the first evaluation; give more evaluations" in page


def test_the_interval_covers_the_rate_at_its_level():
    covered, trials = 0, 400
    for trial in range(trials):
        cells = [lm_cell("set", 3 * trial + s, rate=0.5, noise=0.15) for s in range(3)]
        baseline = [lm_cell("random", 3 * trial + s) for s in range(3)]
        estimate = exchange_rates({"random": baseline, "set": cells})["set"]["natural"]
        covered += estimate["low"] <= 0.5 <= estimate["high"]
    assert 0.93 <= covered / trials <= 0.97


def test_a_control_that_is_as_good_takes_the_claim():
    rates = rates_of(
        synthetic={"rate": 0.6, "noise": 0.02},
        uniform={"rate": 0.6, "noise": 0.02},
        permuted={"rate": 0.9, "noise": 0.02},
    )
    assert rates["synthetic"]["controls"] == ["uniform"]
    assert rates["uniform"]["controls"] == []

    cells = []
    for arm, rate in (("random", 1.0), ("synthetic", 0.6), ("uniform", 0.6)):
        cells += [lm_cell(arm, s, rate=rate, noise=0.02) for s in range(3)]
    page = markdown(summary(cells), "runs/x")
    assert "none: not ahead of uniform" in page
    assert "No arm is a control" not in page


def test_without_a_control_nothing_is_claimed():
    cells = []
    for arm, rate in (("random", 1.0), ("synthetic", 0.6), ("uniform", 0.9)):
        cells += [lm_cell(arm, s, rate=rate, noise=0.02) for s in range(3)]
    assert "| saves natural tokens" in markdown(summary(cells), "runs/x")
    page = markdown(summary([cell for cell in cells if cell["arm"] != "uniform"]), "runs/x")
    assert "none: no control was run" in page
    assert "| saves natural tokens" not in page


@pytest.mark.parametrize(("rate", "ahead_again"), [(0.6, "never"), (1.5, "–")])
def test_random_is_not_ahead_again_of_an_arm_that_it_was_never_behind(rate, ahead_again):
    cells = []
    for arm, of_arm in (("random", 1.0), ("synthetic", rate)):
        cells += [lm_cell(arm, s, rate=of_arm) for s in range(3)]
    (row,) = (
        line
        for line in markdown(summary(cells), "runs/x").splitlines()
        if line.startswith("| synthetic") and "none: " in line
    )
    assert row.split("|")[5].strip() == ahead_again


def test_masked_losses_have_rates_and_are_better_where_they_are_lower():
    cells = []
    for arm, rate in (("random", 1.0), ("synthetic", 0.6)):
        of_arm = [lm_cell(arm, s, rate=rate) for s in range(3)]
        for cell in of_arm:
            cell["metric"], cell["score"] = "masked_loss", cell["curve"][-1]["score"] / 9
        cells += of_arm
    report = summary(cells)
    assert report["exchange"]["lm"]["synthetic"]["natural"]["value"] == pytest.approx(0.6)
    task = report["tasks"]["lm"]
    assert (task["unit"], task["curve_score"]) == ("masked_loss", "masked_loss"), "no fraction"
    page = markdown(report, "runs/x")
    assert "synthetic has the best masked loss" in page
    assert "## Natural tokens saved on lm" in page


def test_a_metric_beside_the_score_has_its_own_unit():
    cells = [lm_cell("random", s) for s in (0, 1)]
    for cell in cells:
        cell["scores"] = {"bits_per_byte": 2.0, "loss": 4.9, "token_accuracy": 0.25}
    page = markdown(summary(cells), "runs/x")
    assert "lm, loss beside it: random 4.900" in page
    assert "accuracy beside it, in %: random 25.0" in page


def test_random_may_be_ahead_again():
    """An arm whose loss rises at the end keeps its lowest loss, which random passes."""
    rate = rates_of(synthetic={"rate": 0.8, "tail": 0.1})["synthetic"]
    assert TOKENS[6] < rate["crossover"] <= TOKENS[9]
    assert rate["reached"] == 0
