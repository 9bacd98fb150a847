"""Grids of learning rates: trials choose one on the validation rows; the others are not tested.

Run: pytest tests/experiments/test_learning_rates.py
"""

import copy
import json
import shutil

import pytest
from small_models import TINY
from transformers import TrainingArguments

from hf_synpre.cli import main
from hf_synpre.config import build_spec, stored_form
from hf_synpre.errors import UsageError
from hf_synpre.experiments import ArmSpec, Cell, Experiment, ExperimentSpec
from hf_synpre.experiments.cell import initial_model
from hf_synpre.experiments.learning_rates import choose_trial
from hf_synpre.experiments.spec import TRIAL_SEED
from hf_synpre.files import lock
from hf_synpre.finetuning import FinetuningSpec, finetune
from hf_synpre.report import write_report

GRID = [1e-3, 1e-2]
TRAINING = {"per_device_train_batch_size": 8, "use_cpu": True, "max_steps": 4}


def spec_of(**changes):
    values = {
        "name": "rates",
        "model": {"overrides": TINY},
        "tasks": {"mtop": {"vocab_size": 400, "max_target": 24}},
        "arms": {"random": {}},
        "finetuning": {
            "learning_rates": GRID,
            "training": TRAINING,
            "evaluations": 2,
            "validation_examples": 8,
            "test_examples": 8,
        },
        "seeds": [0, 1],
        "jobs": 1,
    }
    return build_spec(ExperimentSpec, values | changes, "x.yaml")


def test_the_trials_of_a_grid_are_cells():
    spec = spec_of(arms={"random": {}, "fixed": {"learning_rates": [0.1]}})
    names = [cell.name for cell in spec.cells()]
    assert names == [
        *("mtop--random--lr0.001", "mtop--random--lr0.01", "mtop--random--0", "mtop--random--1"),
        *("mtop--fixed--0", "mtop--fixed--1"),
    ]
    one = Experiment(spec, "x")
    chosen = {cell.name for cell in one.cells(["*--random--1"])}
    assert chosen == {"mtop--random--1", "mtop--random--lr0.001", "mtop--random--lr0.01"}
    assert not [cell for cell in spec_of(finetuning={}).cells() if cell.rate is not None]

    # No pre-training is made for trials alone.
    arms = {"random": {}, "synthetic": {"init": "weights", "checkpoint": "set"}}
    runs = {"set": {"task": "set", "training": {"max_steps": 1}}}
    paired = spec_of(paired_pretraining=True, seeds=[5, 6], arms=arms, pretraining=runs)
    assert {paired.added_seed(cell) for cell in paired.cells()} == {5, 6}


def test_an_arm_and_a_task_may_have_rates_of_their_own():
    tasks = {"mtop": {}, "cola": {"finetuning": {"learning_rates": [0.5, 0.7]}}}
    spec = spec_of(tasks=tasks, arms={"random": {}, "other": {"learning_rates": [0.9]}})
    assert spec.learning_rates("mtop", "random") == GRID
    assert spec.learning_rates("cola", "random") == [0.5, 0.7]
    assert spec.learning_rates("cola", "other") == [0.9]
    assert spec.recipe(Cell("cola", "other", 0)).training["learning_rate"] == 0.9
    assert spec.recipe(Cell("cola", "random", 0), 0.7).training["learning_rate"] == 0.7
    assert spec.recipe(Cell("cola", "random", 0), 0.7).learning_rates is None

    # A preset's rate gives way.
    spec = spec_of(preset="small", tasks={"mtop": {}}, finetuning={"learning_rates": GRID})
    assert "learning_rate" not in spec.finetuning_spec("mtop").training


def test_the_recipes_of_before_stay_as_they_are():
    assert "learning_rates" not in stored_form(FinetuningSpec())
    assert not {"learning_rates", "initial_scales"} & stored_form(ArmSpec()).keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"random": {"learning_rates": []}}}, "An arm has learning_rates .*; give distin"),
        ({"finetuning": {"learning_rates": [1e-3, 1e-3]}}, "finetuning has learning_rates .*; giv"),
        ({"finetuning": {"learning_rates": [0.0]}}, "finetuning has learning_rates .*; give dist"),
        (
            {"finetuning": {"learning_rates": GRID, "training": {"learning_rate": 0.1}}},
            "finetuning has learning_rates and the training argument learning_rate; give one",
        ),
        (
            {"tasks": {"mtop": {"finetuning": {"training": {"learning_rate": 0.1}}}}},
            "on mtop has learning_rates and the training argument learning_rate; give one",
        ),
        (
            {"arms": {"random": {"initial_scales": []}}},
            "An arm has initial_scales .*; give distinc",
        ),
        (
            {"arms": {"random": {"initial_scales": [0]}}},
            "An arm has initial_scales .*; give distin",
        ),
        ({"arms": {"random": {"initial_scales": [1, 1]}}}, "An arm has initial_scales .*; give di"),
        (
            {"arms": {"x": {"initial_scales": [2], "init": "weights", "checkpoint": "y"}}},
            "initial_scales.* init random",
        ),
        ({"seeds": [TRIAL_SEED]}, f"The seed {TRIAL_SEED} is that with which learning rates are"),
    ],
)
def test_a_grid_that_is_not_allowed_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        spec_of(**changes)


def test_one_fine_tuning_has_no_grid(finished, tmp_path):
    data = finished.artifacts.prepared_task("mtop")
    model, _ = initial_model(Cell("mtop", "random", 0), finished.spec, finished.artifacts, data)
    with pytest.raises(UsageError, match="are the grid of an experiment, and one fine-tuning has"):
        finetune(model, data, FinetuningSpec(learning_rates=GRID), seed=0, output_dir=tmp_path)


def trial(rate, criterion="token_accuracy", **best):
    return {"learning_rate": rate, "criterion": criterion, "best": best or None}


def test_the_best_on_validation_is_chosen():
    better = trial(0.1, token_accuracy=0.5, loss=1.0)
    assert choose_trial([better, trial(0.2)]) is better
    same = [trial(r, token_accuracy=0.0, loss=3.0 - r) for r in (0.1, 0.3, 0.2)]
    assert choose_trial(same)["learning_rate"] == 0.3
    losses = [trial(r, "loss", loss=abs(r - 0.2)) for r in (0.1, 0.2, 0.3)]
    assert choose_trial(losses)["learning_rate"] == 0.2
    with pytest.raises(FloatingPointError, match=r"no learning rate of 0\.1, 0\.2 has a finite l"):
        choose_trial([trial(0.1), trial(0.2), trial(0.2)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_dataset):
    """An experiment with a rate of which nothing comes, and one that diverges."""
    folder = tmp_path_factory.mktemp("rates") / "out"
    one = Experiment(spec_of(data_dir=str(tiny_dataset), seeds=[0]), folder)
    one.spec.finetuning.learning_rates = [1e-9, 1e-2, 1e30]
    assert one.run() == []
    return one


def content(experiment, name):
    return json.loads((experiment.folder / f"{name}.json").read_text())


def test_a_cell_has_the_rate_that_its_trials_chose(finished):
    cell = content(finished, "mtop--random--0")
    assert cell["config"]["finetuning"]["training"]["learning_rate"] == 0.01
    assert cell["schedule"] == {
        "learning_rate": 0.01,
        "type": "constant",
        "warmup_steps": 0,
        "steps": 4,
    }
    tried = {one["learning_rate"]: one["best"] for one in cell["learning_rates"]}
    assert list(tried) == [1e-9, 1e-2, 1e30]
    assert tried[1e-2]["loss"] < tried[1e-9]["loss"]
    assert tried[1e30] is None


def test_a_trial_is_not_tested_and_is_no_result_of_the_report(finished, capsys):
    result = content(finished, "mtop--random--lr0.01")
    assert result["seed"] == TRIAL_SEED
    assert not {"score", "scores", "test_examples"} & result.keys()
    assert result["phases"]["finetuning"]["test_s"] == 0
    assert main(["report", str(finished.folder)]) == 0
    assert "1 cell found, 0 of them failed" in capsys.readouterr().out


def test_what_is_missing_is_computed_again_and_nothing_else(finished):
    files = {file: file.stat().st_mtime_ns for file in finished.folder.glob("*--*--*.json")}
    for name in ("mtop--random--0", "mtop--random--lr0.01"):
        (finished.folder / f"{name}.json").unlink()
    assert finished.run(["*--0"]) == []
    now = {file: file.stat().st_mtime_ns for file in finished.folder.glob("*--*--*.json")}
    again = {file.stem for file in files if files[file] != now[file]}
    assert again == {"mtop--random--0", "mtop--random--lr0.01"}


def test_a_grid_may_change_and_only_what_it_changes_is_computed(finished, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns("work"))
    one = Experiment(copy.deepcopy(finished.spec), folder, finished.artifacts.folder)
    before = content(one, "mtop--random--0")

    # A worse rate is added, and another left out: the choice and its scores stay.
    one.spec.finetuning.learning_rates = [1e-9, 1e-8, 1e-2]
    assert [cell.name for cell in one.missing(one.cells())] == [
        *("mtop--random--lr1e-08", "mtop--random--0"),
    ]
    assert one.run() == []
    after = content(one, "mtop--random--0")
    assert [trial["learning_rate"] for trial in after["learning_rates"]] == [1e-9, 1e-8, 1e-2]
    assert after | {"learning_rates": before["learning_rates"]} == before
    assert not one.missing(one.cells())

    # Without the chosen rate, another one is chosen and the cell computed anew.
    one.spec.finetuning.learning_rates = [1e-9, 1e-8]
    assert one.run() == []
    again = content(one, "mtop--random--0")
    assert again["schedule"]["learning_rate"] < 1e-7

    # One rate is not chosen but given, which is another recipe.
    one.spec.finetuning.learning_rates = [1e-2]
    remedy = "give learning_rates two values or more, as before, or choose another --output_dir"
    with pytest.raises(UsageError, match=f"holds results of another configuration .*; {remedy}"):
        one.run()


def test_without_a_trial_there_is_no_choice(finished, tmp_path):
    one = Experiment(finished.spec, tmp_path, finished.artifacts.folder)
    one.open_folder()
    failed = tmp_path / "mtop--random--lr0.01.json"
    failed.write_text(json.dumps({"status": "failed", "error": "no disk"}))
    failures = one.run()
    assert "mtop--random--lr0.01.json: no disk" in failures
    message = "the learning rate was not chosen, because mtop--random--lr0.01.json failed: no disk"
    assert any(line.startswith("mtop--random--0.json") and message in line for line in failures)
    assert one.run(retry=True) == []


def test_a_cell_whose_trial_another_process_computes_is_left_for_later(finished, tmp_path):
    one = Experiment(finished.spec, tmp_path, finished.artifacts.folder)
    one.open_folder()
    *trials, cell = one.cells()
    with lock(tmp_path / ".locks" / trials[0].file_name):
        assert one.compute_and_store(cell, wait=False) is None
    assert not (tmp_path / cell.file_name).exists()


def test_cheats_on_the_random_start_are_refused_in_real_cells(finished, tmp_path, tiny_dataset):
    # A random start of a low rate beside an arm that was tuned.
    constant = {"init": "statistics", "scheme": "constant_pre_attn_ln"}
    arms = {"random": {"learning_rates": [1e-9]}, "constant": constant}
    whole = Experiment(
        spec_of(data_dir=str(tiny_dataset), seeds=[0], arms=arms),
        tmp_path / "whole",
        finished.artifacts.folder,
    )
    assert whole.run() == []
    (doubts,) = write_report(whole.folder)["fairness"].values()
    assert doubts["constant"]["refused"] == [
        "its learning rate was tuned, and that of random was not"
    ]

    # A random start whose run was shorter, from the folder of another experiment.
    short = Experiment(
        spec_of(
            data_dir=str(tiny_dataset),
            seeds=[0],
            finetuning=stored_form(whole.spec.finetuning)
            | {"learning_rates": [1e-2], "training": TRAINING | {"max_steps": 2}},
        ),
        tmp_path / "short",
        finished.artifacts.folder,
    )
    assert short.run() == []
    shutil.copy(short.folder / "mtop--random--0.json", whole.folder)
    (doubts,) = write_report(whole.folder)["fairness"].values()
    assert "its schedule has 4 steps and that of random 2" in doubts["constant"]["refused"]


def test_the_scale_of_random_weights_is_chosen_with_the_rate(finished, tmp_path, tiny_dataset):
    arms = {"random": {}, "tuned": {"initial_scales": [0.5, 1e-6]}, "wide": {"initial_scales": [3]}}
    spec = spec_of(data_dir=str(tiny_dataset), seeds=[0], arms=arms)
    spec.finetuning.learning_rates = [1e-2]
    one = Experiment(spec, tmp_path / "scales", finished.artifacts.folder)
    assert one.run(["*--tuned--*", "*--wide--*"]) == []
    trials = [content(one, f"mtop--tuned--lr0.01-scale{scale}") for scale in (0.5, 1e-6)]
    assert [trial["initial_scale"] for trial in trials] == [0.5, 1e-6]

    cell = content(one, "mtop--tuned--0")
    best = choose_trial(trials)["initial_scale"]
    assert cell["initial_scale"] == best
    assert [trial["initial_scale"] for trial in cell["learning_rates"]] == [1e-6, 0.5]
    assert content(one, "mtop--wide--0")["initial_scale"] == 3
    assert cell["config"]["finetuning"]["training"]["learning_rate"] == 0.01


def test_scales_alone_are_tried_at_the_rate_of_the_recipe():
    arms = {"random": {"initial_scales": [1, 2]}}
    spec = spec_of(arms=arms, finetuning={"training": TRAINING | {"learning_rate": 0.5}})
    (first, *_) = spec.cells()
    assert first.name == "mtop--random--lr0.5-scale1.0"
    spec = spec_of(arms=arms, finetuning={"training": TRAINING})
    assert spec.cells()[0].rate == TrainingArguments.learning_rate
