"""Training arguments by name (YAML, flags) -> checked Seq2SeqTrainingArguments."""

from pathlib import Path
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments

from hf_synpre.config import fits
from hf_synpre.errors import UsageError, choose

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
# Training arguments that must be 1 at least.
COUNTS = (
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
)


def training_arguments(
    output_dir: str | Path, chosen: dict[str, Any], **fixed: Any
) -> Seq2SeqTrainingArguments:
    """Return transformers' training arguments for a run.

    Args:
        output_dir: the folder of its checkpoints.
        chosen: arguments that the user has set, by name; they replace `TRAINING_DEFAULTS`.
        **fixed: arguments that the run sets itself; `chosen` may not name them.

    Raises:
        UsageError: a name that is not allowed, or a value that this package or transformers
            refuses.
    """
    check_training(chosen)
    for name in chosen:
        if name in fixed:
            raise UsageError(
                f"The training argument {name} is set by hf_synpre itself; leave it out."
            )

    arguments = TRAINING_DEFAULTS | chosen
    arguments.update(fixed)
    try:
        return Seq2SeqTrainingArguments(output_dir=str(output_dir), **arguments)
    except (ValueError, TypeError) as error:
        cause = " ".join(str(error).split())
        raise UsageError(f"The training arguments {chosen} were refused: {cause}") from error


def check_training(chosen: dict[str, Any]) -> None:
    """Raise UsageError on a name that is no training argument, or a value that it cannot have."""
    fields = Seq2SeqTrainingArguments.__dataclass_fields__
    for name, value in chosen.items():
        # Names that a run sets itself or does not store.
        if name == "output_dir":
            raise UsageError(
                "The training argument output_dir is set by hf_synpre itself; leave it out."
            )
        if name.startswith("hub_") or name == "push_to_hub":
            raise UsageError(
                f"The training argument {name} is not kept with a run; publish with `synpre push`."
            )
        choose("training argument", name, fields)

        # The type, where transformers' default shows it.
        expected = expected_type(name, fields[name].default)
        if expected is not None and not fits(expected, value):
            raise UsageError(
                f"The training argument {name} is {value!r}; give {expected.__name__}."
            )

        # The range.
        if name in COUNTS and value < 1:
            raise UsageError(f"{name} is {value}; give training.{name} >= 1.")
        if name == "dataloader_num_workers" and value < 0:
            raise UsageError(f"dataloader_num_workers is {value}; give 0 or more.")
        if name == "learning_rate" and value <= 0:
            raise UsageError(f"learning_rate is {value}; give training.learning_rate > 0.")
        if name == "resume_from_checkpoint" and isinstance(value, str) and not Path(value).is_dir():
            raise UsageError(
                f"There is no checkpoint {value} to resume from; leave resume_from_checkpoint out."
            )


def expected_type(name: str, default: Any) -> type | None:
    """Return the type that a training argument's default shows, None where it shows no number."""
    if name == "warmup_steps":  # below 1 it is a share of all steps
        return float
    for number in (bool, int, float):  # True is an int too, so bool comes first
        if isinstance(default, number):
            return number
    return None
