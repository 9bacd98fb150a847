"""PretrainingSpec: fields with help, former names, presets, the stored form of recipes.

Run: pytest tests/training/test_pretraining_spec.py
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from encoder_examples import spec_of

from hf_synpre import UsageError
from hf_synpre.config import build_spec, current_names, read_yaml, stored_form
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.experiments import Experiment, ExperimentSpec
from hf_synpre.training.pretraining_spec import PretrainingSpec

ROOT = Path(__file__).parents[2]
FORMER = {
    "competence": "target_accuracy",
    "ramp_steps": "curriculum_steps",
    "budget_of": "match_tokens_of",
}
# The hashes of an example's runs, for its first task, before three fields were renamed.
STORED_HASHES = {
    "quickstart": {"set": "1a605d61", "stdlib": "1ce3124a"},
    "self_pretraining": {
        "self": "2e7ea410",
        "ag_news": "2e7ea410",
        "hellaswag": "0709bce2",
        "novels": "0f1c25d9",
        "tapt": "2cd913ea",
        "local": "c86958f6",
        "rtd": "69be9dfb",
        "set": "64119f1d",
        "set_self": "fbebf4cf",
    },
}


def recipe_hash(recipe):
    """The hash in the names of an experiment's folders."""
    return hashlib.blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=4).hexdigest()


def example(name):
    return build_spec(ExperimentSpec, read_yaml(ROOT / "examples" / f"{name}.yaml"), name)


@pytest.mark.parametrize("name", STORED_HASHES)
def test_folders_of_runs_are_found_under_the_hashes_they_were_made_with(name, tmp_path):
    spec = example(name)
    experiment = Experiment(spec, tmp_path)
    first_task = next(iter(spec.tasks))
    hashes = {}
    for run in spec.pretraining:
        recipe = [
            stored_form(experiment.artifacts.run_spec(run, first_task)),
            stored_form(spec.model),
        ]
        hashes[run] = recipe_hash(recipe)
    assert hashes == STORED_HASHES[name]


@pytest.mark.parametrize("name", STORED_HASHES)
def test_committed_results_are_those_of_the_examples(name):
    file = ROOT / "results" / name / "experiment.json"
    committed = build_spec(ExperimentSpec, json.loads(file.read_text()), str(file))
    assert stored_form(committed)["pretraining"] == stored_form(example(name))["pretraining"]


def test_former_names_are_read():
    old = {"task": "set", "competence": 0.5, "ramp_steps": 3, "training": {"max_steps": 1}}
    spec = build_spec(PretrainingSpec, old, "here")
    assert (spec.target_accuracy, spec.curriculum_steps) == (0.5, 3)
    assert stored_form(spec).keys() >= FORMER.keys()
    assert not stored_form(spec).keys() & set(FORMER.values())


@pytest.mark.parametrize(("former", "name"), FORMER.items())
def test_a_field_given_under_both_names_is_refused(former, name):
    with pytest.raises(UsageError, match=f"here has {name} and {former}, which is its former name"):
        current_names(PretrainingSpec, {former: 1, name: 1}, "here")


def test_every_field_has_help():
    assert all(field.metadata["help"] for field in dataclasses.fields(PretrainingSpec))


def test_presets_are_what_the_paper_did_and_give_way():
    given = {"task": "set", "preset": "paper", "evaluations": 4, "training": {"max_steps": 10}}
    spec = build_spec(PretrainingSpec, given, "here")
    assert (spec.batch_size, spec.schedule, spec.initial_weights, spec.validation_examples) == (
        128,
        "rsqrt",
        "t5x",
        2560,
    )
    assert (spec.evaluations, spec.training) == (
        4,
        {"max_steps": 10, "optim": "adafactor", "learning_rate": 1.0},
    )


# Runs on a task and on text.
ON_TASK = {"task": "set", "training": {"max_steps": 1}}
ON_TEXT = {"corpus": "stdlib", "training": {"max_steps": 1}}


@pytest.mark.parametrize(
    ("objective", "fields"),
    [
        ("seq2seq", ON_TASK | {"loss_on": "all"}),
        ("causal", ON_TEXT | {"corpus": "rows", "text": TextSpec(), "pairs": True}),
        ("mlm", ON_TEXT | {"corpus": "rows", "pairs": True}),
        ("span_corruption", ON_TASK | {"batching": "packed"}),
    ],
)
def test_an_option_that_a_model_does_not_read_is_refused_when_the_model_is_known(objective, fields):
    spec = PretrainingSpec(**fields)
    with pytest.raises(UsageError, match=r"is read with .* only"):
        spec.check_options(objective, is_final=True)


def test_what_a_preset_gives_may_stay_unread():
    build_spec(PretrainingSpec, {"corpus": "stdlib", "preset": "fast"}, "here")
    given = {"task": "set", "preset": "paper", "training": {"lr_scheduler_type": "linear"}}
    assert build_spec(PretrainingSpec, given, "here").schedule is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"corpus": "stdlib", "budget_tokens": 9, "budget_flops": 9.0, "training": {}},
            "has the budgets budget_tokens and budget_flops; give one of them",
        ),
        (ON_TEXT | {"budget_tokens": 9}, "budget_tokens and training.max_steps; give one"),
        (
            {"task": "set", "evaluations": 3, "training": {"max_steps": 9, "eval_steps": 2}},
            "training.eval_steps is given too",
        ),
        (
            {
                "task": "set",
                "budget_seconds": 9.0,
                "training": {"max_steps": 9, "logging_strategy": "no"},
            },
            "leave logging_strategy out",
        ),
        (
            {
                "task": "set",
                "schedule": "rsqrt",
                "training": {"max_steps": 9, "warmup_steps": 2},
            },
            "warmup_steps is not read with lr_scheduler_type rsqrt",
        ),
    ],
)
def test_two_ways_to_say_one_thing_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        PretrainingSpec(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget_tokens": -1}, "budget_tokens is -1; give a number > 0"),
        (
            {"bias_correction": False, "training": {"optim": "adafactor"}},
            "give training.optim adamw_torch",
        ),
        ({"generator_fraction": 0.0}, "generator_fraction is 0.0"),
        (
            {"corpus": None, "task": "set", "batching": "packed"},
            "do not reach a discriminator",
        ),
        (
            {"corpus": None, "task": "set", "budget_tokens": 9},
            "rows of set have no fixed length, so budget_tokens",
        ),
        (
            {"corpus": None, "task": "set", "match_tokens_of": "self"},
            "budget_flops and match_tokens_of cannot apply",
        ),
    ],
)
def test_bad_recipes_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        spec_of("rtd", **fields)
