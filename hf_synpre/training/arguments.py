"""Training arguments by name (YAML, flags) -> checked Seq2SeqTrainingArguments."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.integrations import get_available_reporting_integrations

from hf_synpre.config import fits, in_words
from hf_synpre.errors import UsageError, choose, in_message
from hf_synpre.training.argument_table import (
    FINETUNING,
    NEEDS,
    OBEYED,
    OBEYED_IN,
    REFUSED,
    REFUSED_IN,
    SET_BY_A_RUN,
    value_of,
)

# What differs from transformers' own defaults. The papers train with Adafactor at a constant rate.
TRAINING_DEFAULTS = {
    "optim": "adafactor",
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 128,
    "logging_steps": 50,
    "remove_unused_columns": False,  # collators take all columns
    "report_to": [],
    "disable_tqdm": True,
    "dataloader_pin_memory": torch.cuda.is_available(),
    "use_cpu": not torch.accelerator.is_available(),  # else bf16 is refused on a CPU
}
# Training arguments that must be 1 at least; max_steps of a fine-tuning may be 0.
COUNTS = (
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "save_steps",
    "save_total_limit",
)
# Parts of the names of optimizers that can be made for a model only, so that a wrong option of
# theirs shows where the Trainer is made.
NEED_A_MODEL = ("galore", "apollo", "lomo")
# What a schedule that watches a metric may watch: evaluations have these.
WATCHABLE = ("loss", "token_accuracy", "score")


def training_arguments(
    output_dir: str | Path, chosen: dict[str, Any], **fixed: Any
) -> Seq2SeqTrainingArguments:
    """Return transformers' training arguments for a run.

    Args:
        output_dir: the folder of its checkpoints.
        chosen: arguments that the user has set, by name; they replace `TRAINING_DEFAULTS`.
        **fixed: arguments that the run sets itself; `chosen` may not name them.

    Raises:
        UsageError: a name that is not allowed, a value that this package or transformers refuses,
            or a package that is not installed.
    """
    for name in chosen:
        choose("training argument", name, Seq2SeqTrainingArguments.__dataclass_fields__)
        if name in fixed or name == "output_dir":
            raise UsageError(
                f"The training argument {name} is set by hf_synpre itself; leave it out."
            )

    # Trainer would look for the labels of all heads that a model has, such as LUKE's of entities.
    arguments = TRAINING_DEFAULTS | chosen | {"label_names": ["labels"]}
    arguments.update(fixed)
    for name, value in arguments.items():
        if name.endswith("_strategy") and value is False:  # YAML's reading of the word no
            arguments[name] = "no"
    try:
        args = Seq2SeqTrainingArguments(output_dir=str(output_dir), **arguments)
    except (ValueError, TypeError, ImportError, OSError, NotImplementedError) as error:
        cause = " ".join(str(error).split())
        raise UsageError(f"The training arguments {chosen} were refused: {cause}") from error
    if args.fp16 and args.device.type == "cpu":
        raise UsageError("fp16 is for GPUs; leave it out on a CPU.")
    check_loggers(args.report_to)
    check_optimizer(args)
    return args


def check_optimizer(args: Seq2SeqTrainingArguments) -> None:
    """Raise UsageError where an optimizer cannot be made, as without its package."""
    try:
        Seq2SeqTrainer.get_optimizer_cls_and_kwargs(args)
    except (ValueError, TypeError, ImportError) as error:
        needs_model = any(part in args.optim.value for part in NEED_A_MODEL)
        if isinstance(error, ImportError) or not needs_model:
            cause = " ".join(str(error).split())
            raise UsageError(
                f"optim is {args.optim.value}, which cannot be used here: {cause}"
            ) from error


def check_loggers(names: Any) -> None:
    """Raise UsageError where the package of a logger is not installed.

    Args:
        names: the value of report_to: a name or several; "all" and "none" are no packages.
    """
    if not isinstance(names, list | tuple):
        names = [names]
    available = get_available_reporting_integrations()
    for name in names:
        if name in (*available, "all", "none", None):
            continue
        known = ", ".join(sorted(available)) or "none"
        install = "install it"
        if name == "trackio":
            install += " with `pip install trackio` (the extra track of hf_synpre)"
        raise UsageError(
            f"report_to is {name}, whose package is not installed; {install}, or give one of "
            f"those that are: {known}."
        )


def default_of(name: str) -> Any:
    """Return the value that a training argument has in a run where it is not given."""
    if name in TRAINING_DEFAULTS:
        return TRAINING_DEFAULTS[name]
    field = Seq2SeqTrainingArguments.__dataclass_fields__[name]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def is_off(name: str, value: Any) -> bool:
    """Say whether a training argument asks for nothing: it is at a default that is no number."""
    default = default_of(name)
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    return value == default and not is_number


def refusal(name: str, run: str) -> str | None:
    """Return why a kind of run refuses a training argument that is not at its default.

    Args:
        name: a field of transformers' Seq2SeqTrainingArguments.
        run: PRETRAINING or FINETUNING.

    Returns:
        The end of the sentence "The training argument NAME ..."; None where the run obeys it.
    """
    if name in SET_BY_A_RUN[run]:
        return "is set by hf_synpre itself; leave it out."
    if name in OBEYED or name in OBEYED_IN[run]:
        return None
    unknown = "is not known to this version of hf_synpre; leave it out."
    return REFUSED.get(name) or REFUSED_IN[run].get(name, unknown)


def given_training(fields: Any, where: str) -> Mapping[str, Any]:
    """Return the training arguments of a recipe of fine-tuning, {} where it has none.

    Args:
        fields: the recipe, as a YAML file has it.
        where: its keys, for the message.

    Raises:
        UsageError: the recipe, or what it has as training arguments, has no keys.
    """
    training = fields.get("training") or {} if isinstance(fields, Mapping) else fields
    if not isinstance(training, Mapping):
        raise UsageError(
            f"{where} has {in_message(training)} where a recipe has keys; give "
            "{training: {max_steps: 500}}."
        )
    return training


def check_training(chosen: Mapping[str, Any], run: str) -> None:
    """Raise UsageError on a training argument that a run does not obey, or a value it cannot have.

    Args:
        chosen: training arguments by name.
        run: PRETRAINING or FINETUNING.
    """
    fields = Seq2SeqTrainingArguments.__dataclass_fields__
    for name, value in chosen.items():
        # The name.
        choose("training argument", name, fields)
        reason = refusal(name, run)
        if reason is not None and not (name not in SET_BY_A_RUN[run] and is_off(name, value)):
            raise UsageError(f"The training argument {name} {reason}")

        # The type, where transformers' default shows it.
        expected = expected_type(name, fields[name].default)
        if expected is not None and not fits(expected, value):
            raise UsageError(
                f"The training argument {name} is {value!r}; give {in_words(expected)}."
            )

        # The range.
        if name == "report_to":
            check_loggers(value)
        if name == "save_total_limit" and not isinstance(value, int | None):
            raise UsageError(f"save_total_limit is {value!r}; give a number of checkpoints.")
        # A fine-tuning of no steps tests the model as it is.
        least = 0 if name == "max_steps" and run == FINETUNING else 1
        if name in COUNTS and value is not None and value < least:
            raise UsageError(f"{name} is {value}; give training.{name} >= {least}.")
        if name == "dataloader_num_workers" and value < 0:
            raise UsageError(f"dataloader_num_workers is {value}; give 0 or more.")
        if name == "learning_rate" and value <= 0:
            raise UsageError(f"learning_rate is {value}; give training.learning_rate > 0.")
        if name == "label_smoothing_factor" and not 0 <= value < 1:
            raise UsageError(
                f"label_smoothing_factor is {value}; give a share of at least 0 and below 1."
            )
        if name == "metric_for_best_model" and value is not None:
            choose("metric_for_best_model", str(value).removeprefix("eval_"), WATCHABLE)
        if name == "save_strategy" and value_of(chosen, name) not in ("steps", "no"):
            raise UsageError(
                f"save_strategy is {value_of(chosen, name)}; give steps or no, because a "
                "pre-training counts steps and keeps its last weights."
            )
        if name == "resume_from_checkpoint" and value is False:
            raise UsageError(
                "resume_from_checkpoint is false, which no run obeys: a folder's own run goes on, "
                "and in an empty folder it begins. Leave it out; to begin anew give another folder."
            )
        if name == "resume_from_checkpoint" and value not in (True, None):
            check_is_folder(value)


def check_is_folder(checkpoint: Any) -> None:
    """Raise UsageError where there is no folder that resume_from_checkpoint names."""
    if not isinstance(checkpoint, str | Path) or not Path(checkpoint).is_dir():
        raise UsageError(
            f"There is no checkpoint {checkpoint} to resume from; leave resume_from_checkpoint out."
        )


def check_needs(chosen: Iterable[str], training: Mapping[str, Any]) -> None:
    """Raise UsageError on a training argument that is not read without another one.

    Args:
        chosen: the names to check. Those of a preset may be left out: a flag that makes them
            needless does not make them wrong.
        training: all training arguments of the run that are given, those of presets too.
    """
    arguments = TRAINING_DEFAULTS | dict(training)
    for name in chosen:
        need = NEEDS.get(name)
        if need is None or arguments[name] == default_of(name) or need.is_met(arguments):
            continue
        decisive = f" with {need.of} {value_of(arguments, need.of)}" if need.of else ""
        raise UsageError(
            f"The training argument {name} is not read{decisive}; {need.remedy}, or leave {name} "
            "out."
        )


def expected_type(name: str, default: Any) -> type | None:
    """Return the type that a training argument's default shows, None where it shows no number."""
    if name == "warmup_steps":  # below 1 it is a share of all steps
        return float
    for number in (bool, int, float):  # True is an int too, so bool comes first
        if isinstance(default, number):
            return number
    return None
