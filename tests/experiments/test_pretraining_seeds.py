"""Several seeds of pre-training, each fine-tuned with all seeds: their cells, names and runs.

Run: pytest tests/experiments/test_pretraining_seeds.py
"""

import copy
import json

import pytest
from small_models import TINY

from hf_synpre.config import build_spec, stored_form
from hf_synpre.errors import UsageError
from hf_synpre.experiments import ArmSpec, Experiment, ExperimentSpec, artifacts
from hf_synpre.experiments.cell import cell_header, experiment_recipe
from hf_synpre.experiments.stored_recipe import read_stored_recipe

RUN = {"task": "set", "vocabulary": 64, "training": {"max_steps": 2}}
ARMS = {
    "random": {},
    "equal_compute": {"match_flops_of": "set"},
    "synthetic": {"init": "weights", "checkpoint": "set"},
    "released": {"init": "statistics", "checkpoint": "synpre/t5-mini-set"},
}


def spec_of(**changes):
    values = {
        "name": "seeds",
        "model": {"overrides": TINY},
        "pretraining": {"set": RUN},
        "tasks": {"stdlib_ast": {"vocab_size": 400}},
        "arms": ARMS,
        "seeds": [0, 1],
        "jobs": 1,
    }
    return build_spec(ExperimentSpec, copy.deepcopy(values) | changes, "x.yaml")


def names(spec, arm):
    return [cell.name for cell in spec.cells() if cell.arm == arm]


def test_arms_that_start_from_a_run_have_a_cell_for_each_pair_of_seeds():
    spec = spec_of(pretraining_seeds=[0, 7])
    expected = [f"stdlib_ast--synthetic--{last}" for last in ("0", "1", "0-p7", "1-p7")]
    assert names(spec, "synthetic") == expected
    for arm in ("random", "equal_compute", "released"):
        assert names(spec, arm) == [f"stdlib_ast--{arm}--{seed}" for seed in (0, 1)]

    # An arm may have its own, and trials of learning rates start from the first of them.
    arms = ARMS | {"synthetic": ARMS["synthetic"] | {"pretraining_seeds": [3, 4]}}
    spec = spec_of(arms=arms, finetuning={"learning_rates": [1e-3, 1e-2]})
    trials = [cell for cell in spec.cells() if cell.arm == "synthetic" and cell.rate]
    assert [(cell.name, spec.added_seed(cell)) for cell in trials] == [
        ("stdlib_ast--synthetic--lr0.001", 3),
        ("stdlib_ast--synthetic--lr0.01", 3),
    ]
    # Without the number 0 a random start gets the FLOPs of the first run.
    equal = next(cell for cell in spec_of(pretraining_seeds=[2]).cells() if cell.arm[0] == "e")
    assert spec_of(pretraining_seeds=[2]).added_seed(equal) == 2


def test_each_pretraining_seed_is_a_run_of_its_own(tmp_path, monkeypatch):
    made, titles = [], []

    def note(spec, model, folder, *, title, **_):
        made.append((spec.seed, folder))
        titles.append(title)

    monkeypatch.setattr(artifacts, "pretrain", note)
    spec = spec_of(pretraining_seeds=[0, 7])
    experiment = Experiment(spec, tmp_path)
    assert {seed for _, _, seed in experiment._runs_needed(spec.cells())} == {0, 7}
    before = spec_of()
    for cell in (before.cells()[-4], spec.cells()[-6], spec.cells()[-4]):
        assert cell.arm == "synthetic"
        experiment.artifacts.checkpoint("set", "stdlib_ast", spec.added_seed(cell))
    assert [seed for seed, _ in made] == [0, 0, 7]
    assert [titles[0], titles[2]] == ["pre-training set, seed 0", "pre-training set, seed 7"]
    assert made[0][1] == made[1][1] != made[2][1]  # the run of before is kept


def test_cells_say_their_pretraining_seed_and_those_of_before_stay(tmp_path):
    one, several = spec_of(), spec_of(pretraining_seeds=[0, 7])
    Experiment(one, tmp_path).open_folder()
    for cell in one.cells():
        content = {**cell_header(cell, one), "status": "done"}
        (tmp_path / cell.file_name).write_text(json.dumps(content))
        assert "pretraining_seed" not in content

    # Numbers are added in the folder, for the experiment or for one arm, and only those run.
    arms = ARMS | {"synthetic": ARMS["synthetic"] | {"pretraining_seeds": [0, 7]}}
    for spec in (several, spec_of(arms=arms), several):
        experiment = Experiment(spec, tmp_path)
        experiment.open_folder()
        missing = experiment.missing(experiment.cells())
        assert [cell.name for cell in missing] == [f"stdlib_ast--synthetic--{s}-p7" for s in (0, 1)]
        assert cell_header(missing[0], spec)["pretraining_seed"] == 7
        assert read_stored_recipe(tmp_path / "experiment.json") == experiment_recipe(spec)
    assert "pretraining_seeds" not in str(experiment_recipe(one))
    assert "pretraining_seeds" not in stored_form(ArmSpec())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretraining_seeds": []}, r"pretraining_seeds is \[\]; give distinct seeds in 0"),
        ({"pretraining_seeds": [1, 1]}, r"pretraining_seeds is \[1, 1\]; give distinct seeds"),
        (
            {"pretraining_seeds": [0, 1], "paired_pretraining": True},
            r"pretraining_seeds is \[0, 1\], and paired_pretraining gives .*; give one of them",
        ),
        (
            {"pretraining_seeds": [0, 1], "arms": {"random": {}}},
            r"pretraining_seeds is \[0, 1\], and no arm starts from a pre-tr.*; leave it out",
        ),
        (
            {"paired_pretraining": True, "arms": {"random": {}}},
            "paired_pretraining gives each seed .*, and no arm starts from a pre-tr.*; leave it",
        ),
        (
            {"arms": {"random": {"pretraining_seeds": [0, 1]}}},
            "The arm 'random' has pretraining_seeds and starts from no .*; give the checkpoint of",
        ),
    ],
)
def test_seeds_of_pretraining_that_nothing_reads_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        spec_of(**changes)


# --- Budgets of fine-tuning -----------------------------------------------------------------------


def test_an_arm_may_have_several_times_the_steps_of_fine_tuning():
    arms = {"random": {}, "longer": {"finetuning_budget": 2.5}}
    spec = spec_of(arms=arms, finetuning={"training": {"max_steps": 10}})
    steps = {c.arm: spec.recipe(c).training["max_steps"] for c in spec.cells()}
    assert steps == {"random": 10, "longer": 25}
    rates = spec_of(arms=arms, finetuning={"training": {"max_steps": 10}, "learning_rates": [0.1]})
    assert [rates.recipe(c).training["max_steps"] for c in rates.cells()] == [10, 10, 25, 25]
    epochs = spec_of(arms=arms, finetuning={"training": {"num_train_epochs": 2}})
    assert epochs.recipe(epochs.cells()[-1]).training["num_train_epochs"] == 5
    assert "finetuning_budget" not in stored_form(ArmSpec())
    with pytest.raises(UsageError, match="An arm has finetuning_budget 0; give a number above 0"):
        ArmSpec(finetuning_budget=0)
