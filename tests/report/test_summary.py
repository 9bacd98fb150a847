"""The numbers of a report besides intervals: arms, curves, costs of the phases.

Run: pytest tests/report/test_summary.py
"""

import pytest
from simulated_cells import equal_compute_cells, make_cell, make_experiment, summary

from hf_synpre.report import markdown


def test_arms_are_ordered_and_failed_cells_are_kept():
    cells = [make_cell(arm=arm) for arm in ("natural", "synthetic", "random", "equal_compute")]
    cells += [
        make_cell(arm="self", status="failed", score=None, error="out of memory"),
        make_cell(arm="natural", seed=1),
    ]
    result = summary(cells)
    assert result["arms"] == ["random", "synthetic", "equal_compute", "self", "natural"]
    assert [(f["arm"], f["error"]) for f in result["failed"]] == [("self", "out of memory")]
    assert result["scores"]["stdlib_ast"]["natural"]["seeds"] == [0, 1]
    assert "self" not in result["scores"]["stdlib_ast"]


def test_curves_keep_the_steps_that_all_seeds_have():
    cells = [make_cell(seed=seed, score=0.1 * (seed + 1)) for seed in range(2)]
    cells[1]["curve"] = [
        *cells[1]["curve"][:2],
        {"step": 100, "score": float("nan")},
        {"step": 150, "score": 0.3},
    ]
    curve = summary(cells)["curves"]["stdlib_ast"]["random"]
    assert curve["step"] == [0, 50]
    assert (curve["low"][1], curve["mean"][1], curve["high"][1]) == pytest.approx(
        (0.05, 0.075, 0.1)
    )


def test_seeds_that_end_at_different_steps_have_a_curve():
    curve = summary(equal_compute_cells())["curves"]["stdlib_ast"]["equal_compute"]
    assert curve["interpolated"]
    assert (curve["step"][0], curve["step"][-1], curve["seeds"]) == (270, 1329, 3)
    assert curve["step"] == sorted(set(curve["step"]))
    # Straight lines stay what they are.
    assert curve["mean"] == pytest.approx([step / 2000 for step in curve["step"]])
    assert curve["flops"] == pytest.approx([2e12 + 1e9 * step for step in curve["step"]])


def test_a_cell_without_a_curve_does_not_hide_those_of_other_seeds():
    cells = [make_cell(seed=0), make_cell(seed=1, curve=[]), make_cell(seed=2)]
    curve = summary(cells)["curves"]["stdlib_ast"]["random"]
    assert (curve["step"], curve["seeds"]) == ([0, 50, 100], 2)
    assert "interpolated" not in curve


def test_the_curve_says_what_it_shows():
    def shown(**changes):
        return summary([make_cell(**changes)])["tasks"]["stdlib_ast"]["curve_score"]

    assert shown() == "teacher-forced exact match"
    assert shown(metric="accuracy", data={"labels": ["a", "b"]}) == "accuracy"


def test_phases_are_the_mean_run():
    cells = [make_cell(arm="synthetic", seed=seed) for seed in range(2)]
    cells[0]["phases"]["pretraining"] |= {"tokens": 10, "stopped": "budget", "accuracy": None}
    cells[1]["phases"]["pretraining"] |= {"tokens": 20}
    run = summary(cells)["phases"]["synthetic"]["pretraining"]
    assert (run["tokens"], run["accuracy"], run["runs"], run["names"]) == (15, 0.99, 2, ["set"])
    assert run["stopped"] == {"budget": 1, "competence": 1}


def test_curves_count_the_flops_of_pretraining():
    curves = summary(make_experiment())["curves"]["stdlib_ast"]
    assert curves["random"]["flops"] == [0.0, 5e10, 1e11]
    assert curves["synthetic"]["flops"] == pytest.approx([2e12, 2e12 + 5e10, 2e12 + 1e11])


def test_a_run_that_went_on_from_another_has_that_one_s_cost_too():
    alone, chained = make_experiment(), make_experiment()
    for cell in chained:
        if cell["arm"] == "synthetic":
            cell["phases"]["pretraining"]["before"] = {"flops": 1e12, "tokens": 5}
    longer = summary(chained)
    assert longer["curves"]["stdlib_ast"]["synthetic"]["flops"][0] == pytest.approx(3e12)
    tokens, tokens_alone = (
        report["phases"]["synthetic"]["pretraining"]["tokens"]
        for report in (longer, summary(alone))
    )
    assert tokens - tokens_alone == pytest.approx(5)


def test_a_checkpoint_without_a_cost_has_no_curve_over_flops():
    phases = {"pretraining": {"name": "a checkpoint"}}
    released = summary([cell | {"phases": phases} for cell in make_experiment()])
    assert "flops" not in released["curves"]["stdlib_ast"]["natural"]
    assert "| natural | pretraining: a checkpoint | fresh |" in markdown(released, "here")
