"""Benefits: a planted share of natural's gain is recovered, a null one is not, and what is refused.

Run: pytest tests/report/test_benefits.py
"""

import numpy as np
import pytest
from simulated_cells import HIGHER, MEANS, make_experiment, simulate_scores, summary

from hf_synpre.report import benefit, table
from hf_synpre.report.intervals import REFUSED as REFUSED_BESIDE
from hf_synpre.report.intervals import estimate

REFUSED = REFUSED_BESIDE.format("natural")


def simulate_benefits(seeds, tasks, share=0.5, runs=150, sd=0.02, natural=0.5):
    """Yield benefits of an arm that truly recovers `share` of natural - random."""
    rng = np.random.default_rng(seeds)
    summaries = {f"t{i}": HIGHER for i in range(tasks)}
    means = {"random": 0.1, "natural": natural, "synthetic": 0.1 + share * (natural - 0.1)}
    for _ in range(runs):
        scores = {
            task: {arm: estimate(mean + sd * rng.normal(size=seeds)) for arm, mean in means.items()}
            for task in summaries
        }
        yield benefit("synthetic", scores, summaries)


@pytest.mark.parametrize(("seeds", "tasks"), [(3, 1), (5, 1), (5, 3)])
def test_intervals_of_benefits_cover_and_err_on_the_wide_side(seeds, tasks):
    results = list(simulate_benefits(seeds, tasks))
    for key in ("mean_of_ratios", "ratio_of_means"):
        covered = [r[key]["low"] < 0.5 < r[key]["high"] for r in results]
        assert np.mean(covered) >= 0.95
        widest = 0.4 if seeds == 3 else 0.2
        assert np.median([r[key]["high"] - r[key]["low"] for r in results]) < widest


def test_a_null_benefit_is_rarely_found():
    results = [r["tasks"]["t0"] for r in simulate_benefits(4, 1, share=0.0)]
    assert np.mean([e["low"] > 0 or e["high"] < 0 for e in results]) < 0.06


def test_benefit_is_refused_where_natural_is_no_better_than_random():
    refused = [r["tasks"]["t0"] for r in simulate_benefits(3, 1, natural=0.1)]
    share = np.mean([e["value"] is None and e["note"] == REFUSED for e in refused])
    assert 0.75 < share < 0.98  # P(|t| < 2) at 4 degrees of freedom is 0.88
    # What is neither refused nor called rough.
    assert np.mean([e["note"] is None for e in refused]) < 0.05


def test_the_two_aggregates_by_hand():
    scores = {
        "a": {"random": [0.0, 0.002], "synthetic": [0.1, 0.102], "natural": [0.2, 0.202]},
        "b": {"random": [0.2, 0.202], "synthetic": [0.1, 0.102], "natural": [0.6, 0.602]},
        "c": {"random": [0.2, 0.202], "synthetic": [0.3, 0.302], "natural": [0.2, 0.202]},
    }
    scores = {
        task: {arm: estimate(values) for arm, values in row.items()} for task, row in scores.items()
    }
    result = benefit("synthetic", scores, dict.fromkeys(scores, HIGHER))
    assert result["tasks"]["a"]["value"] == pytest.approx(0.5)
    assert result["tasks"]["b"]["value"] == pytest.approx(-0.25)  # signs are kept
    assert result["tasks"]["c"] == {"value": None, "low": None, "high": None, "note": REFUSED}
    assert result["mean_of_ratios"]["value"] == pytest.approx(0.125)
    assert "over 2 of 3 tasks" in result["mean_of_ratios"]["note"]
    assert result["ratio_of_means"]["value"] == pytest.approx(0.1 / 0.6)


def test_lower_is_better_mirrors_the_benefit():
    up = summary(make_experiment())
    down = summary(
        [c | {"score": 1 - c["score"], "higher_is_better": False} for c in make_experiment()]
    )
    for arm in ("synthetic", "statistics"):
        a, b = (r["benefits"][arm]["tasks"]["stdlib_ast"] for r in (up, down))
        assert a["value"] == pytest.approx(b["value"])
        assert (a["low"], a["high"]) == pytest.approx((b["low"], b["high"]), abs=0.03)
    assert down["differences"]["stdlib_ast"]["synthetic"]["value"] < 0


def test_tasks_of_both_directions_pool_and_different_units_do_not():
    error = [
        c | {"task": "e", "score": 1 - c["score"], "higher_is_better": False}
        for c in make_experiment()
    ]
    pooled = summary(make_experiment() + error)["benefits"]["synthetic"]["ratio_of_means"]
    assert pooled["value"] == pytest.approx(0.5, abs=0.1)
    loss = [
        c | {"task": "lm", "metric": "loss", "higher_is_better": False, "score": 3 - c["score"]}
        for c in make_experiment()
    ]
    result = summary(make_experiment() + loss)["benefits"]["synthetic"]
    assert result["ratio_of_means"]["note"] == "the metrics of the tasks have different units"
    assert result["mean_of_ratios"]["value"] == pytest.approx(0.5, abs=0.1)


def test_intervals_of_correlations_stay_within_their_bounds():
    changes = {"metric": "pearson_spearman_corr", "scores": {"pearson_corr": 0.9}}
    cells = make_experiment({"random": 0.1, "natural": 0.9}, seeds=2, sd=0.5, **changes)
    result = summary([cell | {"example_scores": None} for cell in cells])
    for score in result["scores"]["stdlib_ast"].values():
        assert score["low"] >= -1
        assert score["high"] <= 1


@pytest.mark.parametrize("missing", ["random", "natural"])
def test_a_missing_end_is_a_reason_not_a_number(missing):
    result = summary(make_experiment({arm: m for arm, m in MEANS.items() if arm != missing}))
    benefits = result["benefits"]["synthetic"]
    for e in (*benefits["tasks"].values(), benefits["ratio_of_means"]):
        assert (e["value"], e["note"]) == (None, f"no finished cell of the arm '{missing}'")


def test_one_seed_has_values_and_no_interval():
    result = summary(make_experiment(seeds=1))
    share = result["benefits"]["synthetic"]["tasks"]["stdlib_ast"]
    assert share["value"] is not None
    assert share["low"] is None
    assert "one seed" in share["note"]
    assert "one seed" in table(result)
    flat = summary(make_experiment(dict.fromkeys(MEANS, 0.2), seeds=1, sd=0))
    assert flat["benefits"]["synthetic"]["tasks"]["stdlib_ast"]["note"] == REFUSED


@pytest.mark.parametrize("seeds", [3, 5])
def test_benefits_over_seeds_and_examples_cover_null_and_planted_shares(seeds):
    rng = np.random.default_rng(seeds)
    for share in (0.0, 0.5):
        means = {"random": 0.1, "natural": 0.5, "synthetic": 0.1 + 0.4 * share}
        covered = []
        for _ in range(200):
            single = simulate_scores(rng, seeds, means)
            scores = {arm: estimate([*x.mean(1)], x) for arm, x in single.items()}
            examples = {"t": {arm: x.mean(0) for arm, x in single.items()}}
            result = benefit("synthetic", {"t": scores}, {"t": HIGHER}, examples)["tasks"]["t"]
            covered.append(result["low"] < share < result["high"])
        assert np.mean(covered) >= 0.945
