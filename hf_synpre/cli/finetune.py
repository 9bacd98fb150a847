"""`synpre finetune`: a task, or data of one's own -> a fine-tuned model, its scores, its card."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_synpre.cli.experiment import point_to_report, print_failures
from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb
from hf_synpre.config import build_spec, option
from hf_synpre.digits import write_number
from hf_synpre.errors import UsageError, counted
from hf_synpre.files import read_json

if TYPE_CHECKING:
    from hf_synpre.experiments import Experiment
    from hf_synpre.finetuning import TaskChoice
    from hf_synpre.models.spec import ModelSpec

# Without a preset, a number of steps or of epochs, a run has so many epochs, within these steps.
USUAL_EPOCHS = 10
FEWEST_STEPS, USUAL_STEPS = 300, 1000
# Rows of a step, where neither they nor a preset are given.
USUAL_BATCH = 32
# Adafactor's rate for generated text: of small models, and of models that are larger or start from
# weights with their token embeddings. A small model has at most so many parameters without them.
SMALL_MODEL_RATE, USUAL_RATE = 3e-2, 1e-3
SMALL_MODEL_PARAMETERS = 10_000_000
# AdamW's rate for labels: of small models, whatever their weights, so that starts compare; of
# larger ones with weights that are trained, and with others.
LABELS_RATE_SMALL, LABELS_RATE_TRAINED, LABELS_RATE = 1e-3, 1e-4, 5e-4
# AdamW's rate for the next token of text: of small models, and of others.
LANGUAGE_RATE_SMALL, LANGUAGE_RATE = 2e-3, 5e-4
# The share of the steps in which the rate rises; then it falls in a line to 0.
WARM_UP = 0.05

# Without a checkpoint and a preset the model is as small as that of this preset, which is for text.
SMALL_PRESET = "electra_smoke"


@dataclass
class FinetuneOptions:
    """What `synpre finetune` takes beside its arm, its task, its recipe and its architecture."""

    task: str = option(
        "A downstream task by name; or your own data: a folder, a file (.csv, .tsv, .jsonl, "
        ".parquet), a Hub id, or a YAML file that defines a task.",
        "",
    )
    metric: str | None = option(
        "The metric that is reported for your own data, instead of the usual one of its kind.",
        None,
    )
    preset: str | None = option(
        "The task's recipe and lengths: small or paper. Every other flag wins over it.", None
    )
    seed: int = option("Seed of fresh weights and of the order of the rows.", 0)
    output_dir: str | None = option(
        "Folder of the scores and of the model; without it runs/finetuned, or runs/NAME for your "
        "own data.",
        None,
    )
    no_save_model: bool = option("Keep the scores alone, and no model.", False)


def finetune_flags() -> list[FlagSet]:
    """Return the flags of `synpre finetune`."""
    from hf_synpre.experiments import ArmSpec, TaskSpec
    from hf_synpre.finetuning import FinetuningSpec, LabelTask, LanguageTask, TextToTextTask
    from hf_synpre.models.spec import ModelSpec

    experiment_only = "it names another part of an experiment"
    in_yaml = "a YAML file given as the task has it"
    elsewhere = "the flags of another dataclass have it"
    own = FlagSet(
        FinetuneOptions,
        "data",
        groups={"training": ("preset", "seed"), "output": ("output_dir", "no_save_model")},
    )
    both_kinds = {
        **dict.fromkeys(("name", "hub_id", "hold_out"), "it follows from the data"),
        **dict.fromkeys(("metric", "max_source"), elsewhere),
        "presets": in_yaml,
    }
    labelled = FlagSet(
        LabelTask,
        "your own data",
        left_out={
            **both_kinds,
            "hub_corpus": "it is pre-trained on, not fine-tuned on",
            **dict.fromkeys(("kept_labels", "positive_class"), in_yaml),
        },
    )
    text_to_text = FlagSet(
        TextToTextTask,
        "your own data",
        left_out={
            **both_kinds,
            **dict.fromkeys(("hub_config", "hub_revision", "rows", "max_target"), elsewhere),
            **dict.fromkeys(("special_tokens", "chat_template"), elsewhere),
        },
    )
    language = FlagSet(
        LanguageTask,
        "your own data",
        left_out={
            **{name: reason for name, reason in both_kinds.items() if name != "metric"},
            **dict.fromkeys(("hub_config", "hub_revision", "rows", "special_tokens"), elsewhere),
        },
    )
    task = FlagSet(
        TaskSpec,
        "data",
        left_out={
            "define": "a YAML file given as the task has its fields",
            "finetuning": "its fields are flags",
            "seeds": "it is --seed",
        },
    )
    arm = FlagSet(
        ArmSpec,
        "model",
        groups={"training": ("lora",)},
        defaults={"embeddings": "fresh; kept with init weights and the checkpoint's tokenizer"},
        left_out=dict.fromkeys(
            (
                *("match_flops_of", "finetuning_budget", "tasks", "learning_rates"),
                *("initial_scales", "pretraining_seeds"),
            ),
            experiment_only,
        ),
    )
    model = FlagSet(
        ModelSpec,
        "model",
        names={"overrides": "config_overrides"},
        defaults={
            "model_type": "that of the checkpoint, else t5 or electra, as the task asks, and small"
        },
    )
    recipe = FlagSet(
        FinetuningSpec,
        "training",
        left_out={
            "training": "every training argument is a flag of its own",
            "learning_rates": "they are a grid of an experiment; one run has --learning_rate",
        },
    )
    return [own, labelled, text_to_text, language, task, IMPORT_FLAG, arm, model, recipe]


def finetune(arguments: Arguments) -> int:
    """Fine-tune one model on one task; print what was guessed, the score and where all lies."""
    from hf_synpre.experiments import ArmSpec, Experiment, ExperimentSpec, TaskSpec
    from hf_synpre.experiments.cell import check_heads
    from hf_synpre.finetuning import FinetuningSpec, choose_task
    from hf_synpre.models.spec import ModelSpec

    # Where the weights come from: checked before any data are read.
    options = arguments.build(FinetuneOptions)
    if not options.task:
        raise UsageError(
            "No data were given; write `synpre finetune DATA`, as `synpre finetune reviews.csv`, "
            "or name a task, as `synpre finetune stdlib_ast`, which needs no file."
        )
    arm = arguments.of(ArmSpec)
    checkpoint = build_spec(ArmSpec, arm, "options").checkpoint
    arm_name = arm.get("init", "random")
    if checkpoint is not None:
        check_checkpoint(checkpoint, needs_weights=arm_name == "weights")

    # The task.
    task_values = arguments.of(TaskSpec)
    choice = choose_task(options.task, own_fields(arguments), task_values.get("data_dir"))
    task_values["data_dir"] = choice.data_dir
    task_values["define"] = choice.definition

    # The model, its tokenizer and the recipe.
    model = model_values(arguments.of(ModelSpec), choice, checkpoint, options.preset)
    use_tokenizer_of_checkpoint(task_values, arm, checkpoint)
    training = dict(arguments.training)
    if options.preset is None:
        is_small = is_small_model(build_spec(ModelSpec, model, "options"))
        add_usual_training(training, choice, arm, is_small)
    task_values["finetuning"] = {**arguments.of(FinetuningSpec), "training": training}

    # An experiment of one cell.
    values = {
        "name": "finetune",
        "tasks": {choice.name: task_values},
        "arms": {arm_name: arm},
        "model": model,
        "preset": options.preset,
        "seeds": [options.seed],
        "jobs": 1,
        "save_models": not options.no_save_model,
    }
    spec = build_spec(ExperimentSpec, values, "options")
    check_heads(spec)
    no_size = checkpoint is None and options.preset is None and not arguments.of(ModelSpec)
    print_plan(choice, arm, model, training, task_values, no_size)

    usual_folder = "runs/finetuned" if choice.definition is None else f"runs/{choice.name}"
    folder = options.output_dir or usual_folder
    experiment = Experiment(spec, folder, threads=None)
    was_finished = not experiment.missing(experiment.cells(), retry=True)
    failures = experiment.run(retry=True)
    if failures:
        print_failures(failures)
        return 1
    if was_finished:
        print(f"{folder} holds this run already finished: nothing was computed.")
    print_result(experiment)
    return 0


# --- what was given, and what is usual ------------------------------------------------------------


def own_fields(arguments: Arguments) -> dict[str, Any]:
    """Return the fields of a task that were given as flags; columns are lists of names."""
    from hf_synpre.finetuning import LabelTask, LanguageTask, TextToTextTask

    fields = arguments.of(LabelTask) | arguments.of(TextToTextTask) | arguments.of(LanguageTask)
    for name in ("source", "target"):
        if name in fields:
            fields[name] = [",".join(fields[name])]  # one column or template, commas included
    metric = arguments.build(FinetuneOptions).metric
    if metric is not None:
        fields["metric"] = metric
    return fields


def check_checkpoint(name: str, needs_weights: bool) -> None:
    """Raise UsageError where a checkpoint is not there, or has statistics alone and weights are
    needed.

    Args:
        name: a folder, a file of statistics, or a Hub id.
        needs_weights: whether its weights are read.
    """
    from hf_synpre.initialization import bundled_checkpoints, find_config

    path = Path(name)
    has_statistics_alone = path.is_file() or (name in bundled_checkpoints() and not path.is_dir())
    if needs_weights and has_statistics_alone:
        raise UsageError(
            f"{name} has the statistics of a model and not its weights; give --init statistics, or "
            "a checkpoint with weights."
        )
    if not path.is_file():
        find_config(name)


def model_values(
    values: dict[str, Any], choice: "TaskChoice", checkpoint: str | None, preset: str | None
) -> dict[str, Any]:
    """Return the fields of the ModelSpec: those that were given, completed.

    The architecture is that of the checkpoint, in its sizes, also where --model_type names it.
    Without a checkpoint it is a small model of the type that was given, or of the task's usual
    type; with a preset it has the published size.

    Args:
        values: the fields that were given; they are changed.
        choice: the task.
        checkpoint: the checkpoint that the weights come from.
        preset: the recipe by name.
    """
    from hf_synpre.finetuning import usual_model_type
    from hf_synpre.initialization import checkpoint_config
    from hf_synpre.training.presets import small_model

    if checkpoint is not None and "config_name" not in values:
        named, path = values.get("model_type"), Path(checkpoint)
        folder = str(path.parent) if path.is_file() else checkpoint
        is_same = named is not None and named == checkpoint_config(folder).model_type
        if named is None or (is_same and preset is None):
            values.pop("model_type", None)
            values["config_name"] = folder

    if "config_name" not in values:
        values.setdefault("model_type", usual_model_type(choice.name, choice.definition))
    if checkpoint is None and preset is None:
        return small_model(SMALL_PRESET, values)
    return values


def use_tokenizer_of_checkpoint(
    task: dict[str, Any], arm: dict[str, Any], checkpoint: str | None
) -> None:
    """Take a checkpoint's tokenizer, and with its weights its token embeddings too.

    Args:
        task: the fields of the TaskSpec; they are changed where none is about the tokenizer.
        arm: the fields of the ArmSpec; they are changed.
        checkpoint: the checkpoint that the weights come from.
    """
    from hf_synpre.initialization.checkpoints import has_tokenizer

    is_described = any(name in task for name in ("tokenizer", "vocab_size", "tokenizer_corpora"))
    if checkpoint is None or is_described or not has_tokenizer(checkpoint):
        return
    task["tokenizer"] = checkpoint
    if arm.get("init") == "weights":
        arm.setdefault("embeddings", "kept")


def add_usual_training(
    training: dict[str, Any], choice: "TaskChoice", arm: Mapping[str, Any], is_small: bool
) -> None:
    """Add training arguments that were not given, where no preset has them.

    Args:
        training: the training arguments that were given; they are changed.
        choice: the task, and how many rows it trains on.
        arm: the fields of the ArmSpec.
        is_small: whether the model has few parameters (`is_small_model`).
    """
    from hf_synpre.finetuning import usual_model_type

    training.setdefault("per_device_train_batch_size", USUAL_BATCH)
    is_usual_schedule = training.setdefault("lr_scheduler_type", "linear") == "linear"

    # Labels and the next token take AdamW, as usual for their models, generated text Adafactor.
    usual_model = usual_model_type(choice.name, choice.definition)
    has_labels, is_language = usual_model == "electra", usual_model == "llama"
    has_weights = arm.get("init") == "weights"
    is_trained = has_weights and arm.get("embeddings", "fresh") != "fresh"
    if has_labels:
        training.setdefault("optim", "adamw_torch")
        large_rate = LABELS_RATE_TRAINED if has_weights else LABELS_RATE
        training.setdefault("learning_rate", LABELS_RATE_SMALL if is_small else large_rate)
    elif is_language:
        training.setdefault("optim", "adamw_torch")
        training.setdefault("learning_rate", LANGUAGE_RATE_SMALL if is_small else LANGUAGE_RATE)
    else:
        rate = SMALL_MODEL_RATE if is_small and not is_trained else USUAL_RATE
        training.setdefault("learning_rate", rate)
    if is_usual_schedule and not has_labels:  # other schedules may read no warm-up
        training.setdefault("warmup_steps", WARM_UP)

    # Steps. Generated text is learnt late by a model that does not know the tokens.
    if "num_train_epochs" in training or "max_steps" in training:
        return
    steps = USUAL_STEPS
    if choice.train_rows is not None and (has_labels or is_trained):
        epochs = USUAL_EPOCHS * choice.train_rows / rows_of_step(training)
        steps = min(max(math.ceil(epochs), FEWEST_STEPS), USUAL_STEPS)
    training["max_steps"] = steps


def rows_of_step(training: Mapping[str, Any]) -> int:
    """Return the rows of a step, as numbers that were given and are right have it."""
    batch = training["per_device_train_batch_size"]
    accumulated = training.get("gradient_accumulation_steps", 1)
    counts = (batch, accumulated)
    is_right = all(isinstance(count, int) and count > 0 for count in counts)
    return batch * accumulated if is_right else USUAL_BATCH


def is_small_model(model: "ModelSpec") -> bool:
    """Say whether a model has at most SMALL_MODEL_PARAMETERS parameters without its embeddings.

    Raises UsageError where there is no such model.
    """
    from hf_synpre.initialization import skeleton
    from hf_synpre.models.families import AUTO_CLASSES, model_family
    from hf_synpre.models.spec import TRIAL_VOCABULARY
    from hf_synpre.vocabulary import Vocabulary

    model.validate()
    config = model.config(Vocabulary.plain(TRIAL_VOCABULARY))
    network = skeleton(AUTO_CLASSES[model_family(config)], config)
    return network.num_parameters() <= SMALL_MODEL_PARAMETERS


# --- what is printed ------------------------------------------------------------------------------


def print_plan(
    choice: "TaskChoice",
    arm: Mapping[str, Any],
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    task: Mapping[str, Any],
    no_size: bool,
) -> None:
    """Print what was guessed of the data, and what will be trained for how long.

    Args:
        choice: the task.
        arm: the fields of the ArmSpec.
        model: the fields of the ModelSpec.
        training: the training arguments.
        task: the fields of the TaskSpec.
        no_size: whether nothing says how large the model is.
    """
    from hf_synpre.training.arguments import TRAINING_DEFAULTS

    for remark in choice.remarks:
        print(remark)

    start = {"random": "random weights", "weights": "weights of", "statistics": "statistics of"}
    words = start[arm.get("init", "random")]
    if arm.get("checkpoint"):
        words += f" {arm['checkpoint']}"
    if arm.get("scheme") and arm.get("checkpoint"):
        words += f", scheme {arm['scheme']}"
    elif arm.get("scheme"):
        words = f"scheme {arm['scheme']}, no checkpoint"
    if "tokenizer" in task:
        words += f", tokenizer of {task['tokenizer']}"
    architecture = model.get("config_name") or model["model_type"]
    if architecture != arm.get("checkpoint"):
        words = f"{architecture}, {words}"
    if no_size:
        words = f"a small {words} (--config_name or --checkpoint give another size)"
    line = f"{choice.name}: {words}"
    if training.get("max_steps") == 0:
        line += "; no training, the model is tested as it is"
    elif "max_steps" in training:
        line += f"; {counted(training['max_steps'], 'step')}"
        if choice.train_rows and "per_device_train_batch_size" in training:
            epochs = training["max_steps"] * rows_of_step(training) / choice.train_rows
            line += f" of {counted(rows_of_step(training), 'row')} ({epochs:.3g} epochs)"
    if training.get("max_steps") != 0 and "learning_rate" in training:
        optimizer = training.get("optim", TRAINING_DEFAULTS["optim"])
        line += f"; learning rate {training['learning_rate']} ({optimizer})"
    print(f"{line}.", flush=True)


def print_result(experiment: "Experiment") -> None:
    """Print the score of a finished run, where everything lies, and what to do next."""
    from transformers import AutoConfig

    from hf_synpre.finetuning.card import first_texts, loading_code

    cell = experiment.cells()[0]
    scores = experiment.folder / cell.file_name
    result = read_json(scores)
    print(score_line(result, cell.file_name))
    for metric, meaning in result.get("scoring", {}).items():
        print(f"{metric}: {meaning}")
    point_to_report(experiment.folder)

    folder = experiment.model_folder(cell)
    if folder is None:
        print(f"Scores: {scores}. No model was kept; without --no_save_model it is.")
        return
    data = experiment.artifacts.prepared_task(cell.task)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    code = loading_code(data, folder.as_posix(), config, first_texts(data))
    command = "; ".join(line for line in code.splitlines() if line)
    print(
        f"Scores: {scores}. Model, tokenizer and card: {folder}. Try it:\n"
        f"python -c {shlex.quote(command)}"
    )


def score_line(result: dict[str, Any], file_name: str) -> str:
    """Return the scores of a result file in one line, that of the task's metric first."""
    tested = counted(result["test_examples"], "test example")
    line = f"{result['metric']} {write_number(result['score'], 4)} on {tested}"
    for metric, score in result["scores"].items():
        if metric != result["metric"]:
            line += f", {metric} {write_number(score, 4)}"
    return f"{line}, {file_name}"


FINETUNE = Verb(
    name="finetune",
    summary="Fine-tune one model on one downstream task, or on your own data.",
    run=finetune,
    flag_sets=finetune_flags,
    positional="task",
    needs_positional=True,
    examples=(
        "reviews.csv --init weights --checkpoint runs/self",
        "texts/ --head lm --model_type llama --max_steps 500",
    ),
    takes_training=True,
    when_stopped="a fine-tuning has no checkpoints, so the same command begins it again",
)
