"""Recipes of fine-tuning: presets, which of several wins, bad ones in one clear line.

Run: pytest tests/finetuning/test_recipes.py
"""

import pytest

from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.experiments import ExperimentSpec
from hf_synpre.finetuning import (
    get_finetuning_task,
)
from hf_synpre.finetuning.catalog import TEXT_TO_TEXT_TASKS


def experiment(**changes):
    return build_spec(
        ExperimentSpec,
        {"name": "x", "tasks": {"mtop": {}}, "arms": {"random": {}}} | changes,
        "x.yaml",
    )


@pytest.mark.parametrize("name", [task.name for task in TEXT_TO_TEXT_TASKS])
def test_presets_are_whole_recipes(name):
    for preset in get_finetuning_task(name).presets:
        spec = experiment(tasks={name: {}}, preset=preset)
        assert spec.finetuning_spec(name).training["max_steps"] >= 600
        assert spec.finetuning_spec(name).num_beams == (4 if preset == "paper" else 1)


def test_the_task_s_recipe_wins_over_the_preset_s_and_that_over_the_experiment_s():
    general = {"training": {"max_steps": 7, "use_cpu": True, "learning_rate": 0.5}, "patience": 2}
    own = {"training": {"learning_rate": 0.25}}
    found = experiment(
        preset="paper", finetuning=general, tasks={"mtop": {"finetuning": own, "max_source": 9}}
    )
    recipe = found.finetuning_spec("mtop")
    assert (
        recipe.training["max_steps"],
        recipe.training["learning_rate"],
        recipe.training["use_cpu"],
    ) == (
        100_000,
        0.25,
        True,
    )
    assert (recipe.patience, recipe.num_beams, recipe.test_examples) == (2, 4, None)
    task = found.finetuning_task("mtop")
    assert (task.max_source, task.max_target) == (9, 128)


def test_epochs_of_the_task_win_over_the_steps_of_a_preset():
    own = {"finetuning": {"training": {"num_train_epochs": 3}}}
    recipe = experiment(preset="paper", tasks={"mtop": own}).finetuning_spec("mtop")
    assert "max_steps" not in recipe.training


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"max_steps": 5, "num_train_epochs": 3}, "has max_steps and num_train_epochs"),
        ({"warmup_steps": 5}, "warmup_steps is not read with lr_scheduler_type constant"),
        ({"adam_beta1": 0.5}, "adam_beta1 is not read with optim adafactor"),
        (63, r"tasks\.mtop\.finetuning has 63 where a recipe has keys; give .training: .max_steps"),
    ],
)
def test_training_arguments_that_a_fine_tuning_does_not_read_are_refused(training, message):
    with pytest.raises(UsageError, match=message):
        experiment(tasks={"mtop": {"finetuning": {"training": training}}})


BAD = [
    ({"preset": "papr"}, "Unknown preset 'papr'. Did you mean 'paper'?"),
    ({"preset": "paper", "tasks": {"stdlib_ast": {}}}, "Unknown preset of stdlib_ast 'paper'"),
    (
        {"tasks": {"mine": {"define": {"source": ["a"], "target": ["b"], "metric": "rouge"}}}},
        "Unknown metric of the head text 'rouge'",
    ),
    (
        {"tasks": {"mine": {"define": {"source": ["a"]}}}},
        "tasks.mine.define lacks the key 'target'",
    ),
    (
        {"tasks": {"mine": {"define": {"source": ["a"], "target": ["b"], "clean": ["lower"]}}}},
        "Did you mean 'lowercase'?",
    ),
    (
        {"tasks": {"mine": {"define": {"source": ["a"], "target": ["b"], "rows": {"train": 0}}}}},
        "rows of train is 0",
    ),
    (
        {"tasks": {"mtop": {"define": {"source": ["a"], "target": ["b"]}}}},
        "give your task another name",
    ),
    ({"tasks": {"mtop": {"finetuning": {"num_beam": 3}}}}, "Did you mean 'num_beams'?"),
    ({"tasks": {"mtop": {"seeds": [1, 1]}}}, "give distinct seeds"),
    (
        {"arms": {"random": {"tasks": ["mtip"]}}},
        "Unknown task of the arm 'random' 'mtip'. Did you mean 'mtop'?",
    ),
    (
        {"arms": {"more": {"match_flops_of": "set"}}},
        "Unknown run that 'more' takes its compute from 'set'",
    ),
    (
        {"arms": {"a": {"init": "weights", "checkpoint": "set", "match_flops_of": "set"}}},
        "The option match_flops_of is read with init random only, which an arm with init weights",
    ),
    (
        {"arms": {"a": {"init": "weights", "checkpoint": "x", "scheme": "mlp_scale"}}},
        "The option scheme is read with init statistics only, which an arm with init weights does",
    ),
    (
        {"arms": {"a": {"init": "statistics", "checkpoint": "x", "value": 0.5}}},
        "The option value is read with scheme constant_pre_attn_ln only, which an arm with init st",
    ),
    (
        {"arms": {"a": {"embeddings": "kept"}}},
        "The option embeddings is read with a checkpoint or lora only, which an arm with init rand",
    ),
    (
        {"arms": {"a": {"tasks": []}}},
        "An arm has tasks []; name at least one, or leave it out for all",
    ),
    (
        {
            "arms": {
                "a": {"init": "statistics", "scheme": "constant_pre_attn_ln", "value": float("nan")}
            }
        },
        "value is nan; give a",
    ),
    (
        {"finetuning": {"training": {"learning_rate": float("inf")}}},
        "training.learning_rate is inf; give a finite number",
    ),
    ({"finetuning": {"training": {"output_dir": "x"}}}, "output_dir is set by hf_synpre itself"),
    ({"arms": {"a": {"lora": {"r": 0}}}}, "The field r of lora is 0; give an integer >= 1"),
    ({"arms": {"a": {"lora": {"rank": 3}}}}, "Unknown field of lora 'rank'"),
    (
        {
            "pretraining": {"tapt": {"task": "set", "training": {"max_steps": 1}}},
            "arms": {"a": {"init": "weights", "checkpoint": "tap"}},
        },
        "The arm 'a' has checkpoint 'tap'; did you mean the run 'tapt'?",
    ),
    ({"arms": {"a": {"resize": "width"}}}, "Unknown resize 'width'"),
    ({"finetuning": {"patience": -1}}, "patience is -1"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[m[:40] for _, m in BAD])
def test_bad_experiments_are_one_clear_line(changes, message):
    with pytest.raises(UsageError) as caught:
        experiment(**changes)
    assert message in str(caught.value)
