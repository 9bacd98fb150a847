"""Training arguments: each is obeyed or refused by name.

Run: pytest tests/training/test_arguments.py
"""

import dataclasses

import pytest
import torch
from pretraining_runs import MODEL, SPEC
from safetensors.torch import load_file
from transformers import Seq2SeqTrainingArguments

from hf_synpre import UsageError
from hf_synpre.finetuning.finetuning import FinetuningSpec
from hf_synpre.training.argument_table import (
    FINETUNING,
    NEEDS,
    OBEYED,
    OBEYED_IN,
    PRETRAINING,
    REFUSED,
    REFUSED_IN,
    SET_BY_A_RUN,
)
from hf_synpre.training.arguments import default_of, refusal, training_arguments
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec

FIELDS = {field.name: field for field in dataclasses.fields(Seq2SeqTrainingArguments)}
RUNS = (PRETRAINING, FINETUNING)
TINY_RUN = {"max_steps": 2, "learning_rate": 5e-2, "use_cpu": True}
TINY_RUN |= {"per_device_train_batch_size": 4}


def spec_with(training, run=PRETRAINING):
    """A spec of a run with training arguments."""
    if run == FINETUNING:
        return FinetuningSpec(training)
    return PretrainingSpec("set", training={"max_steps": 2} | training)


def other_value(name):
    """A value of a training argument that is not its default."""
    default = default_of(name)
    if name == "metric_for_best_model":
        return "score"
    if name == "save_total_limit":
        return 3
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 1
    return "other"


@pytest.mark.parametrize("run", RUNS)
def test_every_training_argument_is_in_the_table_once(run):
    tables = (OBEYED, OBEYED_IN[run], SET_BY_A_RUN[run], REFUSED, REFUSED_IN[run])
    listed = [name for table in tables for name in table]
    assert sorted(listed) == sorted(FIELDS)
    assert NEEDS.keys() <= OBEYED | OBEYED_IN[PRETRAINING]


@pytest.mark.parametrize("run", RUNS)
def test_every_argument_that_is_not_obeyed_is_refused_by_name(run):
    for name in FIELDS:
        if refusal(name, run) is None:
            continue
        with pytest.raises(UsageError, match=rf"^The training argument {name} ") as error:
            spec_with({name: other_value(name)}, run)
        assert str(error.value).endswith(".")


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_an_argument_that_is_read_with_another_one_only_is_refused_without_it(name):
    part = name.partition("_")[0]
    lacking = {f"{part}_strategy": "no"} if part in ("logging", "save") else {}
    with pytest.raises(UsageError, match=rf"{name} is not read.*; give .*, or leave {name} out"):
        spec_with({name: other_value(name)} | lacking)


def test_an_argument_that_asks_for_nothing_is_taken():
    spec_with({"remove_unused_columns": False, "data_seed": None, "push_to_hub": False})


def test_arguments_of_a_preset_that_a_flag_makes_needless_are_taken():
    fields = PretrainingSpec.defaults({"task": "set", "preset": "small"})
    fields["training"] |= {"lr_scheduler_type": "constant"}
    assert PretrainingSpec(**fields).training["warmup_steps"] == 0.02


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rat": 1.0}, "Did you mean 'learning_rate'"),
        ({"eval_strategy": "no"}, "set by hf_synpre itself"),
        ({"lr_scheduler_type": "bogus"}, "were refused"),
        ({"optim": "adamw_bnb_8bit"}, "optim is adamw_bnb_8bit, .*install `bitsandbytes`"),
        ({"optim": "galore_adamw"}, "optim is galore_adamw, .*install"),
        ({"optim": "sgd", "optim_args": "momentum"}, "optim is sgd, which cannot be used here"),
        ({"report_to": "clearml"}, "report_to is clearml, whose package is not installed"),
        ({"debug": "x"}, "were refused"),
        ({"fp16": True, "use_cpu": True}, "fp16 is for GPUs"),
        ({"accelerator_config": "nowhere.json"}, "were refused"),
    ],
)
def test_wrong_training_arguments_are_named(given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        training_arguments(tmp_path, given, eval_strategy="steps")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label_smoothing_factor": 1.0}, "give a share of at least 0 and below 1"),
        ({"metric_for_best_model": "bleu"}, "Unknown metric_for_best_model 'bleu'"),
        (
            {"resume_from_checkpoint": False},
            "is false, which no run obeys: a folder.s own run",
        ),
        ({"resume_from_checkpoint": 3}, "There is no checkpoint 3 to resume from"),
        ({"save_strategy": "epoch"}, "save_strategy is epoch; give steps or no, because"),
        ({"save_total_limit": 0}, "save_total_limit is 0; give training.save_total_limit >= 1"),
        ({"save_total_limit": "all"}, "save_total_limit is 'all'; give a number of checkpoints"),
        ({"save_steps": 0}, "save_steps is 0; give training.save_steps >= 1"),
        ({"bf16": 3}, "bf16 is 3; give true or false"),
    ],
)
def test_wrong_values_are_named(given, message):
    with pytest.raises(UsageError, match=message):
        spec_with(given)


@pytest.mark.parametrize(
    ("given", "model", "message"),
    [
        ({"neftune_noise_alpha": 5.0}, MODEL, "neftune_noise_alpha out"),
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"pow": 2}},
            MODEL,
            "lr_scheduler_type polynomial refuses lr_scheduler_kwargs",
        ),
    ],
)
def test_what_a_model_or_schedule_cannot_obey_is_refused_before_the_first_step(
    given, model, message, tmp_path
):
    spec = PretrainingSpec(**vars(SPEC) | {"training": TINY_RUN | given})
    with pytest.raises(UsageError, match=message):
        pretrain(spec, model, tmp_path / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function: training arguments -> the weights after two steps."""
    folder = tmp_path_factory.mktemp("trained")
    known = {}

    def weights(**given):
        name = repr(sorted(given.items()))
        if name not in known:
            run = folder / str(len(known))
            changes = {"evaluations": 1, "validation_examples": 8, "training": TINY_RUN | given}
            pretrain(PretrainingSpec(**vars(SPEC) | changes), MODEL, run)
            known[name] = load_file(run / "model.safetensors")
        return known[name]

    return weights


@pytest.mark.parametrize(
    ("given", "without"),
    [
        ({"label_smoothing_factor": 0.3}, {}),
        ({"max_grad_norm": 0.01}, {}),
        ({"weight_decay": 0.5}, {}),
        ({"optim": "adamw_torch", "adam_beta1": 0.5}, {"optim": "adamw_torch"}),
        ({"optim": "sgd", "optim_args": "momentum=0.9"}, {"optim": "sgd"}),
    ],
)
def test_an_obeyed_argument_changes_the_weights(given, without, trained):
    changed, plain = trained(**given), trained(**without)
    assert any(not torch.equal(changed[name], plain[name]) for name in plain)


def test_label_smoothing_is_refused_where_the_loss_has_none():
    training = TINY_RUN | {"label_smoothing_factor": 0.1}
    with pytest.raises(UsageError, match="objective rtd have no smoothed labels"):
        PretrainingSpec("set", objective="rtd", training=training)
