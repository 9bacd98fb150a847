"""`synpre pretrain`: flags in, a pre-trained model in a folder out; and what runs print."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb
from hf_synpre.cli.processes import say_if_alone
from hf_synpre.cli.tokenizer_flags import tokenizer_of_flag
from hf_synpre.config import build_spec, option
from hf_synpre.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_synpre.models.spec import ModelSpec
    from hf_synpre.training.pretraining_spec import PretrainingSpec

# The preset of `synpre pretrain` without --preset.
USUAL_PRESET = "small"
# The help of --preset.
PRESET_OF_TASKS = (
    "A named recipe; every other flag wins over it. paper: what the paper did, for days of a GPU. "
    "fast: what learns Set soonest. small: a small model (unless --config_name names one) on short "
    "examples, some minutes on a CPU. smoke: the same for 100 steps, to see that it runs."
)
# The help of --output_dir.
OUTPUT_DIR = (
    "Folder of the model, its statistics and pretraining.json. While the run goes on its last two "
    "checkpoints are in it (checkpoint-STEP, which from_pretrained loads); the last one stays. "
    "--save_total_limit N keeps the last N."
)
# What a result holds beside the numbers that are printed.
NOT_PRINTED = (
    *("curve", "recipe", "versions", "device", "accumulation", "tokenizer", "weights_sha256"),
)
TRAINING_FLAGS = "every training argument is a flag of its own"


@dataclass
class PretrainOptions:
    """What `synpre pretrain` takes beside the recipe and the architecture."""

    output_dir: str = option(OUTPUT_DIR, "runs/pretrained")
    tokenizer_name: str | None = option(
        "Folder or Hub id of a tokenizer whose ids are used, instead of --vocabulary.", None
    )
    push_to_hub: bool = option(
        "Publish the folder when the run is done; needs --hub_model_id.", False
    )
    hub_model_id: str | None = option("The repository on the Hub, namespace/name.", None)
    require_learnt: bool = option(
        "Exit with code 1 where the task was not learnt. Without it a run that has trained to its "
        "end exits with 0; its last lines and `learnt` in pretraining.json say what was learnt.",
        False,
    )


def pretrain_flags() -> list[FlagSet]:
    """Return the flags of `synpre pretrain`."""
    from hf_synpre.models.spec import ModelSpec
    from hf_synpre.training.pretraining_spec import PretrainingSpec

    recipe = FlagSet(
        PretrainingSpec,
        "training",
        groups={
            "data": (
                *("task", "parameters", "vocabulary", "curriculum_steps", "corpus", "window"),
                *("batching", "row_length"),
            ),
            "model": ("initial_weights", "start", "start_embeddings", "generator_fraction"),
        },
        defaults={"task": "set, without --corpus", "preset": USUAL_PRESET},
        helps={"preset": PRESET_OF_TASKS},
        left_out={
            "text": "`synpre self-pretrain` has its fields",
            "pairs": "it needs text",
            "match_tokens_of": "it names another run of an experiment",
            "training": TRAINING_FLAGS,
        },
    )
    own = FlagSet(PretrainOptions, "output", groups={"data": ("tokenizer_name",)})
    model = FlagSet(ModelSpec, "model", names={"overrides": "config_overrides"})
    return [recipe, IMPORT_FLAG, model, own]


def pretrain(arguments: Arguments) -> int:
    """Pre-train into a folder, print what it took, and publish the folder if that is asked for."""
    from hf_synpre.hub import check_repo_id, push
    from hf_synpre.models.spec import ModelSpec
    from hf_synpre.training.presets import small_model
    from hf_synpre.training.pretraining import pretrain as pretrain_model
    from hf_synpre.training.pretraining_spec import PretrainingSpec
    from hf_synpre.training.run_folder import RESULT_FILE, check_run_folder

    # Flags that need or exclude each other.
    options = arguments.build(PretrainOptions)
    values = arguments.of(PretrainingSpec)
    if options.push_to_hub or options.hub_model_id is not None:
        check_repo_id(options.hub_model_id or "")
    if options.hub_model_id is not None and not options.push_to_hub:
        raise UsageError("--hub_model_id was given without --push_to_hub; give both or none.")
    if options.tokenizer_name is not None and "vocabulary" in values:
        raise UsageError(
            "--tokenizer_name and --vocabulary were given; the ids come from one of them, leave "
            "the other out."
        )

    # The recipe, and the model in the preset's size.
    if "corpus" not in values:
        values.setdefault("task", "set")
    is_usual = "preset" not in values
    values.setdefault("preset", USUAL_PRESET)
    values["training"] = dict(arguments.training)
    check_schedule(values)
    if options.tokenizer_name is not None:
        values["vocabulary"] = None  # not the preset's either
    spec = build_spec(PretrainingSpec, values, "options")
    model = build_spec(ModelSpec, small_model(spec.preset, arguments.of(ModelSpec)), "options")
    folder = Path(options.output_dir)
    check_run_folder(folder)
    say_if_alone()

    # The ids, where they are not those of --vocabulary.
    tokenizer = None
    if options.tokenizer_name is not None:
        tokenizer = tokenizer_of_flag(options.tokenizer_name, "tokenizer_name")
    if options.require_learnt:
        check_judged(spec, model, tokenizer)

    # Train and save, then publish.
    remark = ""
    if is_usual and spec.task is not None:  # text has no short examples, and no paper's run here
        remark = (
            f"No --preset was given, so it is {USUAL_PRESET}: a small model and short examples, "
            "some minutes on a CPU. --preset smoke ends in a minute; "
            "--preset paper --config_name google-t5/t5-small is the paper's run, for a GPU."
        )
    was_finished = (folder / RESULT_FILE).exists()
    with shown(f"pre-training on {spec.task or spec.corpus}", remark):
        result = pretrain_model(spec, model, folder, tokenizer=tokenizer, quiet=not has_terminal())
    if was_finished:
        say_finished(folder)
    print_numbers(result)
    say_where(folder)
    if options.push_to_hub and is_first_process():
        print(push(folder, options.hub_model_id or ""))
    exit_code = int(options.require_learnt and result.get("learnt") is not True)
    if spec.task is not None:
        say_verdict(spec.task, result, exit_code)
    return exit_code


def check_judged(
    spec: "PretrainingSpec", model: "ModelSpec", tokenizer: "PreTrainedTokenizerBase | None"
) -> None:
    """Raise UsageError where a run cannot tell whether its task was learnt, before it begins.

    Args:
        spec: the run.
        model: its architecture.
        tokenizer: whose ids it has, instead of those of `spec.vocabulary`.
    """
    from hf_synpre.models.families import model_family
    from hf_synpre.training.excess_loss import lowest_loss
    from hf_synpre.vocabulary import as_vocabulary

    spec.validate()
    model.validate()
    vocabulary = as_vocabulary(tokenizer if tokenizer is not None else spec.vocabulary)
    objective = spec.objective_for(model_family(model.config(vocabulary)))
    lowest = lowest_loss(spec, objective, vocabulary)
    if isinstance(lowest, str):
        raise UsageError(
            f"--require_learnt was given, and whether {spec.task or spec.corpus} is learnt is not "
            f"judged: {lowest}. Leave it out."
        )


PRETRAIN = Verb(
    name="pretrain",
    summary="Pre-train a fresh model on a synthetic task or on text.",
    run=pretrain,
    flag_sets=pretrain_flags,
    positional="task",
    needs_positional=False,
    examples=(
        "sort --output_dir runs/sort",
        "--corpus stdlib --tokenizer_name t5-small --max_steps 2000",
    ),
    takes_training=True,
)


# --- what other verbs share -----------------------------------------------------------------------


def is_first_process() -> bool:
    """Say whether this is the one process of a launcher that prints and publishes."""
    return int(os.environ.get("RANK", 0)) == 0


def has_terminal() -> bool:
    """Say whether people see standard error on a terminal, where transformers draws its bar."""
    return sys.stderr.isatty()


def check_schedule(values: Mapping[str, Any]) -> None:
    """Raise UsageError where --schedule and a flag of transformers' schedules were given."""
    for name in ("lr_scheduler_type", "lr_scheduler_kwargs"):
        if values.get("schedule") is not None and name in values["training"]:
            raise UsageError(
                f"--schedule and --{name} were given; the learning rate follows one schedule, "
                "leave one out."
            )


def shown(name: str, remark: str = "") -> AbstractContextManager[None]:
    """Print what the run in this block is, how long it takes and, without a bar, how far it is.

    Args:
        name: the name of the run.
        remark: a line before the first.
    """
    from hf_synpre.training.progress import LINE_EVERY_S, ProgressLines, reported_to

    every_s = None if has_terminal() else LINE_EVERY_S
    return reported_to(ProgressLines(name, every_s, remark))


def say_finished(folder: Path) -> None:
    """Say that a run was finished by an earlier command, and nothing is computed."""
    say(f"{folder} holds this run already finished: nothing was computed. These are its numbers.")


def say_where(folder: Path) -> None:
    """Say where a finished run lies, and what may come next."""
    say(
        f"The model, its statistics and pretraining.json are in {folder}. Next: "
        f"`synpre finetune DATA --init weights --checkpoint {folder}` (encoder-decoders "
        "and decoders answer with a target text, encoders and decoders with labels), "
        f"`synpre push {folder} --repo_id NAMESPACE/NAME`."
    )


def say_verdict(task: str, result: Mapping[str, Any], exit_code: int) -> None:
    """Say whether a task was learnt, as the last line of a run. An old result may not tell.

    Args:
        task: its name.
        result: of the run, or the facts of a warm-up.
        exit_code: that of the command.
    """
    learnt = result.get("learnt")
    if learnt is None:
        reason = result.get("not_judged", "the run was finished by an earlier version")
        say(f"Whether {task} was learnt is not judged: {reason}.")
        return
    excess = f"the loss ended {result['excess_loss']:.2f} above the lowest possible one"
    if learnt:
        say(f"{task} was learnt: {excess}.")
        return
    also = "" if exit_code else ", and --require_learnt makes it 1"
    say(
        f"{task} was NOT learnt: {excess}. Train longer, on shorter examples, or with another "
        f"learning rate or optimizer. The exit code is {exit_code}{also}."
    )


def say(line: str) -> None:
    """Print a line for people on standard error, in the first process."""
    if is_first_process():
        print(f"synpre: {line}", file=sys.stderr, flush=True)


def print_numbers(result: Mapping[str, Any]) -> None:
    """Print what a corpus or a run is as JSON, in the first process, without its long parts."""
    if is_first_process():
        shown = {name: value for name, value in result.items() if name not in NOT_PRINTED}
        print(json.dumps(shown, indent=1))
