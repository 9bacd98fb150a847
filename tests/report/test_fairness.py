"""Planted cheats: a random start with too low a rate, or a schedule that was cut short, is flagged.

Run: pytest tests/report/test_fairness.py
"""

import pytest
from simulated_cells import make_cell, make_experiment, summary
from test_exchange import lm_cell

from hf_synpre.finetuning.scores import prediction_notes
from hf_synpre.report.findings import write_findings
from hf_synpre.report.markdown_page import markdown
from hf_synpre.report.render import table

GRID = [1e-3, 3e-3, 1e-2]
HONEST = {"rate": 3e-3, "grid": GRID}


def tuned(cell, rate=3e-3, grid=(), schedule="cosine", steps=10, end=10, arm=None, training=None):
    """Return a cell that was fine-tuned so; it was evaluated last at the step `end`."""
    cell["schedule"] = {"learning_rate": rate, "type": schedule, "warmup_steps": 0, "steps": steps}
    if len(grid) > 1:
        cell["learning_rates"] = [{"learning_rate": one, "best": {"loss": 1.0}} for one in grid]
    cell["config"] = {"arm": arm or {}, "finetuning": {"training": training or {}}}
    cell["curve"] = [point for point in cell["curve"] if point["step"] <= end]
    return cell


def experiment(**arms):
    """Return cells of language modelling: arm -> how it was fine-tuned, beside a beaten control."""
    speeds = {"random": 1.0, "uniform": 0.9}
    return [
        tuned(lm_cell(arm, seed, rate=speeds.get(arm, 0.6), noise=0.02), **how)
        for arm, how in arms.items()
        for seed in range(3)
    ]


def claim_of(page, arm="synthetic"):
    """Return the last column of the row of an arm, of the table of exchange rates."""
    section = page.split("## Natural tokens saved")[1]
    row = next(line for line in section.splitlines() if line.startswith(f"| {arm} "))
    return row.split("|")[-2].strip()


# What random and the arm had -> what the report says, and whether the claim is refused.
CHEATS = {
    "random's rate was not tuned": (
        {"rate": 1e-4},
        HONEST,
        "its learning rate was tuned, and that of random was not",
    ),
    "random has a lower rate": (
        {"rate": 1e-4},
        {"rate": 3e-3},
        "its learning rate is 0.003 and that of random 0.0001, which was not tuned",
    ),
    "random's grid is too low": (
        {"rate": 3e-4, "grid": [3e-5, 1e-4, 3e-4]},
        HONEST,
        "random has the highest learning rate of its grid, and this arm was tried at higher ones",
    ),
    "random's grid is too high": (
        {"rate": 0.3, "grid": [0.3, 1.0, 3.0]},
        HONEST,
        "random has the lowest learning rate of its grid, and this arm was tried at lower ones",
    ),
    "random's schedule is shorter": (
        HONEST | {"steps": 6, "end": 6},
        HONEST,
        "its schedule has 10 steps and that of random 6",
    ),
    "random was stopped before its end": (
        HONEST | {"end": 6},
        HONEST,
        "random was stopped before its cosine schedule ended",
    ),
    "random has another schedule": (
        HONEST | {"schedule": "constant"},
        HONEST,
        "its schedule is cosine and that of random constant",
    ),
    "random has smaller batches": (
        HONEST | {"training": {"per_device_train_batch_size": 4}},
        HONEST | {"training": {"per_device_train_batch_size": 8}},
        "its fine-tuning differs from that of random in per_device_train_batch_size",
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_planted_cheat_is_refused_with_its_reason(cheat):
    random, arm, reason = CHEATS[cheat]
    report = summary(experiment(random=random, synthetic=arm, uniform=arm))
    assert reason in report["fairness"]["lm"]["synthetic"]["refused"]
    page = markdown(report, "runs/x")
    refused = report["fairness"]["lm"]["synthetic"]["refused"]
    assert claim_of(page) == f"none: {refused[0]}"
    assert f"- On lm, for synthetic, uniform: no fair comparison, because {reason}" in page
    assert f"On lm, for synthetic, uniform: no fair comparison, because {reason}" in table(report)
    assert "it is no fair comparison, because the arms were not fine-tuned alike" in page


def test_where_a_cell_was_computed_is_no_part_of_how_it_was_fine_tuned():
    on_a_cpu = HONEST | {"training": {"use_cpu": True, "bf16": True}}
    elsewhere = HONEST | {"training": {"bf16": True}}
    report = summary(experiment(random=on_a_cpu, synthetic=elsewhere))
    assert report["fairness"] == {}


def test_arms_that_predict_the_same_for_all_rows_are_named():
    cells = experiment(random=HONEST, synthetic=HONEST)
    assert "constant" not in summary(cells)
    cells[0]["notes"] = prediction_notes("accuracy", ["a", "a"])
    cells[1]["notes"] = ["targets are cut", cells[0]["notes"][0]]
    cells[-1]["notes"] = ["targets are cut"]
    report = summary(cells)
    assert report["constant"] == {"lm": {"random": 2}}
    for text in (markdown(report, "runs/x"), table(report)):
        assert "tells rows apart (number of cells): random (2)" in text


def test_arms_of_a_task_that_was_not_learnt_are_named():
    cells = experiment(random=HONEST, synthetic=HONEST, other=HONEST)
    assert "unlearnt" not in summary(cells)
    for cell in cells:
        if cell["arm"] != "random":
            cell["phases"]["pretraining"] |= {"name": "set", "learnt": cell["arm"] == "other"}
    report = summary(cells)
    assert report["unlearnt"] == {"lm": {"synthetic": "set"}}
    for text in (markdown(report, "runs/x"), table(report)):
        assert "had not learnt its task" in text
        assert "(name of the run): synthetic (set)" in text


def test_random_weights_with_more_steps_have_them_by_their_purpose():
    more = HONEST | {"steps": 20, "arm": {"init": "random", "finetuning_budget": 2}}
    start = HONEST | {"steps": 20, "arm": {"init": "weights", "finetuning_budget": 2}}
    report = summary(
        experiment(random=HONEST, synthetic=HONEST, random_2x=more, synthetic_2x=start)
    )
    assert [*report["fairness"]["lm"]] == ["synthetic_2x"]  # it is ahead by its steps, too
    page = markdown(report, "runs/x")
    assert claim_of(page, "random_2x") == "a control of 2 times the steps"

    # Its steps are all that is exempt.
    report = summary(experiment(random=HONEST, random_2x=more | {"schedule": "constant"}))
    (reason,) = report["fairness"]["lm"]["random_2x"]["refused"]
    assert reason == "its schedule is constant and that of random cosine"


@pytest.mark.parametrize("how", [HONEST, {"rate": 3e-3}, {"schedule": "constant"}])
def test_an_honest_experiment_is_not_doubted(how):
    report = summary(experiment(random=how, synthetic=how, uniform=how))
    assert report["fairness"] == {}
    page = markdown(report, "runs/x")
    assert claim_of(page).startswith("saves natural tokens")
    is_tuned = "Learning rates were not tuned: every arm has 0.003 on lm." not in page
    assert is_tuned == ("grid" in how)
    assert ("All schedules are cosine over 10 steps." in page) == ("schedule" not in how)
    assert ("All learning rates are constant" in page) == ("schedule" in how)


def test_cells_without_training_have_no_learning_rate():
    how = {"rate": 3e-3, "steps": 0}
    report = summary(experiment(random=how, synthetic=how, uniform=how))
    assert report["fairness"] == {}
    assert {tuple(recipe["rates"]) for recipe in report["recipes"]["lm"].values()} == {()}
    assert "0.003" not in markdown(report, "runs/x")


def test_only_random_being_tuned_is_no_cheat():
    report = summary(experiment(random=HONEST, synthetic={"rate": 1e-2}, uniform={"rate": 1e-2}))
    assert report["fairness"] == {}
    assert "| synthetic | 0.01, not tuned |" in markdown(report, "runs/x")


def test_the_end_of_the_grid_is_a_caveat():
    at_end = {"rate": 1e-2, "grid": GRID}
    report = summary(experiment(random=at_end, synthetic=HONEST, uniform=HONEST))
    caveat = "random has the highest learning rate of its grid, and may be better with a higher one"
    assert report["fairness"]["lm"]["synthetic"] == {"refused": [], "caveats": [caveat]}
    page = markdown(report, "runs/x")
    assert claim_of(page).startswith("saves natural tokens")
    assert claim_of(page).endswith(f"; but {caveat}")
    assert "| random | 0.01, the highest of 0.001, 0.003, 0.01 |" in page
    assert "| synthetic | 0.003 of 0.001, 0.003, 0.01 |" in page


def test_the_end_of_the_scales_of_random_weights_is_a_caveat():
    cells = experiment(random=HONEST, synthetic=HONEST, tuned=HONEST)
    for cell in cells:
        if cell["arm"] == "tuned":
            cell["initial_scale"] = 2.0
            cell["learning_rates"] = [
                {"learning_rate": rate, "initial_scale": scale, "best": {"loss": 1.0}}
                for rate in GRID
                for scale in (1.0, 2.0)
            ]
    report = summary(cells)
    assert report["fairness"]["lm"]["synthetic"]["caveats"] == [
        "tuned has the highest of its initial_scales, 2.0, and may be better with a larger one"
    ]
    assert "0.003 with weights times 2.0 of 0.001, 0.003, 0.01" in markdown(report, "runs/x")


def test_a_run_of_constant_rate_that_ended_early_is_a_caveat():
    how = {"schedule": "constant"}
    report = summary(experiment(random=how | {"end": 8}, synthetic=how, uniform=how))
    assert report["fairness"]["lm"]["synthetic"] == {
        "refused": [],
        "caveats": ["random was stopped early, and may have got further"],
    }


def test_a_control_that_was_not_tuned_takes_the_claim():
    report = summary(experiment(random=HONEST, synthetic=HONEST, uniform={"rate": 1e-5}))
    reason = "its learning rate was tuned, and that of uniform was not"
    assert report["fairness"]["lm"] == {"synthetic": {"refused": [reason], "caveats": []}}


def test_equal_compute_has_a_longer_schedule_by_its_purpose():
    longer = HONEST | {"steps": 30, "arm": {"match_flops_of": "set"}}
    report = summary(experiment(random=HONEST, synthetic=HONEST, equal_compute=longer))
    assert report["fairness"] == {}
    page = markdown(report, "runs/x")
    assert claim_of(page, "equal_compute") == "a control of equal compute"

    # Its rate counts, but no claim rests on it.
    longer |= {"grid": ()}
    report = summary(experiment(random=HONEST, synthetic=HONEST, equal_compute=longer))
    assert report["fairness"]["lm"]["synthetic"]["refused"] == []
    assert "equal_compute" in report["fairness"]["lm"]["synthetic"]["caveats"][0]


def test_other_tasks_are_doubted_too():
    cells = []
    for cell in make_experiment(tasks=("stdlib_ast", "mtop")):
        rate = 1e-4 if cell["arm"] == "random" and cell["task"] == "mtop" else 1e-2
        cells.append(tuned(cell, rate=rate, steps=100, end=100))
    page = markdown(summary(cells), "runs/x")
    assert "On mtop arms were not fine-tuned as random was" in page
    assert (
        "- On mtop, for synthetic, statistics, natural: no fair comparison, because its learning"
        in page
    )


def test_random_weights_that_were_tuned_make_no_task_unfair():
    arms = {"random": HONEST | {"grid": ()}, "tuned_rate": HONEST | {"arm": {"init": "random"}}}
    report = summary(experiment(**arms))
    assert report["fairness"]["lm"]["tuned_rate"]["refused"] != []
    assert "were not fine-tuned as random was" not in " ".join(write_findings(report))


def test_cells_of_before_say_their_rates_in_their_recipe():
    cells = []
    for arm, rate in (("random", 1e-3), ("synthetic", 1e-2)):
        training = {"learning_rate": rate, "lr_scheduler_type": "linear"}
        cells.append(make_cell(arm=arm, config={"finetuning": {"training": training}}))
    report = summary(cells)
    assert report["recipes"]["stdlib_ast"]["random"] == {
        "rates": [1e-3],
        "tried": [],
        "edge": None,
        "schedules": ["linear"],
        "steps": [100],
        "cut_short": 0,
        "matches_flops": False,
    }
    (reason,) = report["fairness"]["stdlib_ast"]["synthetic"]["refused"]
    assert reason.startswith("its learning rate is 0.01 and that of random 0.001")


def test_without_the_arm_natural_nothing_is_said_of_it():
    cells = [cell for cell in make_experiment() if cell["arm"] != "natural"]
    page = markdown(summary(cells), "runs/x", ["benefit.png"])
    assert "natural" not in page.lower().replace("natural tokens", "")
    assert "![Differences to random](benefit.png)" in page
