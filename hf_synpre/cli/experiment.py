"""`synpre finetune`, `run`, `report`: a task or a YAML in, scores and a report out."""

import shlex
import signal
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, ImportOptions, Verb
from hf_synpre.config import build_spec, option, read_yaml
from hf_synpre.errors import UsageError
from hf_synpre.files import read_json

# Steps of a run of `synpre finetune` without a preset or a number of epochs.
USUAL_STEPS = 1000

# --- one fine-tuning run --------------------------------------------------------------------------


@dataclass
class FinetuneOptions:
    """What `synpre finetune` takes beside its arm, its task, its recipe and its architecture."""

    task: str = option(
        "The downstream task, or a YAML file: its name and the fields of its definition.",
        "stdlib_ast",
    )
    preset: str | None = option(
        "The task's recipe and lengths: small or paper. Every other flag wins over it.", None
    )
    seed: int = option("Seed of fresh weights and of the order of the rows.", 0)
    output_dir: str = option("Folder of the result.", "runs/finetuned")


def finetune_flags() -> list[FlagSet]:
    """Return the flags of `synpre finetune`."""
    from hf_synpre.experiments import ArmSpec, TaskSpec
    from hf_synpre.finetuning import FinetuningSpec
    from hf_synpre.models.spec import ModelSpec

    experiment_only = "it names another part of an experiment"
    own = FlagSet(
        FinetuneOptions,
        "data",
        groups={"training": ("preset", "seed"), "output": ("output_dir",)},
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
        left_out={"match_flops_of": experiment_only, "tasks": experiment_only},
    )
    model = FlagSet(
        ModelSpec,
        "model",
        names={"overrides": "config_overrides"},
        defaults={"model_type": "that of the task, as t5 or electra"},
    )
    recipe = FlagSet(
        FinetuningSpec,
        "training",
        left_out={"training": "every training argument is a flag of its own"},
    )
    return [own, task, IMPORT_FLAG, arm, model, recipe]


def finetune(arguments: Arguments) -> int:
    """Compute one cell of an experiment and print its score."""
    from hf_synpre.experiments import ArmSpec, Experiment, ExperimentSpec, TaskSpec
    from hf_synpre.finetuning import FinetuningSpec, usual_model_type
    from hf_synpre.models.spec import ModelSpec

    # The task and its recipe.
    options = arguments.build(FinetuneOptions)
    name, definition = read_task(options.task)
    training = dict(arguments.training)
    if options.preset is None and "num_train_epochs" not in training:
        training.setdefault("max_steps", USUAL_STEPS)
    task = arguments.of(TaskSpec)
    task["finetuning"] = {**arguments.of(FinetuningSpec), "training": training}
    if definition is not None:
        task["define"] = definition

    # The model and where its weights come from.
    model = arguments.of(ModelSpec)
    model.setdefault("model_type", usual_model_type(name, definition))
    arm = arguments.of(ArmSpec)
    arm_name = arm.get("init", "random")

    # An experiment of one cell.
    values = {
        "name": "finetune",
        "tasks": {name: task},
        "arms": {arm_name: arm},
        "model": model,
        "preset": options.preset,
        "seeds": [options.seed],
        "jobs": 1,
    }
    experiment = Experiment(build_spec(ExperimentSpec, values, "options"), options.output_dir)
    failures = experiment.run(retry=True)
    if failures:
        print_failures(failures)
        return 1
    for cell in experiment.cells():
        print(score_line(read_json(experiment.folder / cell.file_name), cell.file_name))
    return 0


def read_task(task: str) -> tuple[str, dict[str, Any] | None]:
    """Return the name of a task, and its definition where that is in a YAML file.

    Args:
        task: a name, or a file that ends in .yaml or .yml.

    Raises:
        UsageError: the file cannot be read or has no name.
    """
    if not task.endswith((".yaml", ".yml")):
        return task, None
    definition = read_yaml(task)
    name = definition.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(f"{task} lacks the key 'name'; give the task a name.")
    return name, definition


def score_line(result: dict[str, Any], file_name: str) -> str:
    """Return the scores of a result file in one line, that of the task's metric first."""
    line = f"{result['metric']} {result['score']:.4f} on {result['test_examples']} test examples"
    for metric, score in result["scores"].items():
        if metric != result["metric"]:
            line += f", {metric} {score:.4f}"
    return f"{line}, {file_name}"


FINETUNE = Verb(
    name="finetune",
    summary="Fine-tune one model on one downstream task.",
    run=finetune,
    flag_sets=finetune_flags,
    positional="task",
    needs_positional=False,
    examples=(
        "stdlib_ast --init weights --checkpoint runs/set",
        "cola --model_type electra --max_steps 500 --seed 3",
    ),
    takes_training=True,
)


# --- an experiment --------------------------------------------------------------------------------


@dataclass
class RunOptions:
    """What `synpre run` takes beside the YAML file."""

    config: str = option("The YAML file of the experiment.", "")
    output_dir: str | None = option("Folder of the results; runs/NAME without it.", None)
    work_dir: str | None = option(
        "Folder of data and checkpoints, which experiments may share; work/ in the folder of the "
        "results without it.",
        None,
    )
    only: str | None = option(
        "Compute these cells alone: TASK--ARM--SEED with * and ?, several by commas.", None
    )
    list: bool = option(
        "Print one self-contained command a missing cell and stop: for Slurm arrays or GNU "
        "parallel.",
        False,
    )
    retry: bool = option("Compute the failed cells again.", False)
    backend: str = option(
        "loky (processes of this machine) or ray (the cluster of RAY_ADDRESS, else a local one).",
        "loky",
    )


def run_flags() -> list[FlagSet]:
    """Return the flags of `synpre run`: its own, and the keys that a machine decides."""
    from hf_synpre.experiments import ExperimentSpec

    flags = ("jobs", "data_dir")
    keys = [field.name for field in fields(ExperimentSpec) if field.name not in flags]
    own = FlagSet(RunOptions, groups={"output": ("output_dir", "work_dir")})
    yaml_keys = FlagSet(
        ExperimentSpec,
        defaults={"jobs": "that of the YAML file", "data_dir": "that of the YAML file"},
        left_out=dict.fromkeys(keys, "the YAML file has it"),
    )
    return [own, yaml_keys, IMPORT_FLAG]


def run(arguments: Arguments) -> int:
    """Compute the missing cells, write the report, print its table."""
    options = arguments.build(RunOptions)
    if not options.config:
        raise UsageError(
            "No experiment was given; write `synpre run CONFIG.yaml`, for instance "
            "examples/quickstart.yaml."
        )
    from hf_synpre.experiments import Experiment, ExperimentSpec
    from hf_synpre.tasks.imports import import_tasks_of

    # The experiment: flags win over the YAML.
    values = read_yaml(options.config)
    import_tasks_of(values, options.config)
    flags = arguments.of(ExperimentSpec)
    values.update(flags)
    spec = build_spec(ExperimentSpec, values, options.config)
    folder = options.output_dir or Path("runs") / spec.name
    experiment = Experiment(spec, folder, options.work_dir)
    only = [pattern for pattern in (options.only or "").split(",") if pattern]

    # Only commands for others to run.
    if options.list:
        experiment.open_folder()
        for cell in experiment.missing(experiment.cells(only), options.retry):
            words = cell_command(options, flags.get("data_dir"), experiment.folder, cell.name)
            print(shlex.join(words + import_words(arguments)))
        return 0

    # A scheduler's signal is taken as Ctrl-C: the workers end too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failures = experiment.run(only, retry=options.retry, backend=options.backend)
    if not only or not experiment.missing(experiment.cells()):
        print_report(experiment.folder)

    if failures:
        print_failures(failures)
        print(
            "The failed cells are kept; the same command with --retry computes them again.",
            file=sys.stderr,
        )
        return 1
    return 0


def cell_command(options: RunOptions, data_dir: str | None, folder: Path, cell: str) -> list[str]:
    """Return the words of the shell command that computes one cell and nothing else.

    Args:
        options: the flags of the command that lists the cells.
        data_dir: its --data_dir.
        folder: the folder of the results.
        cell: the cell's name, TASK--ARM--SEED.
    """
    words = [sys.executable, "-m", "hf_synpre", "run", options.config]
    words += ["--output_dir", str(folder)]
    if options.work_dir is not None:
        words += ["--work_dir", options.work_dir]
    if data_dir is not None:
        words += ["--data_dir", data_dir]
    if options.retry:
        words.append("--retry")
    words += ["--jobs", "1", "--only", cell]
    return words


def import_words(arguments: Arguments) -> list[str]:
    """Return the words of the flag --import as it was given."""
    files = arguments.build(ImportOptions).imports
    return ["--import", ",".join(files)] if files else []


def print_failures(lines: list[str]) -> None:
    """Print what failed, a line each, on standard error."""
    for line in lines:
        print(line, file=sys.stderr)


def print_report(folder: Path) -> None:
    """Write the report of a folder and print its table."""
    from hf_synpre.report import table, write_report

    print(table(write_report(folder)))
    print(f"\nReport: {folder / 'report.md'}")


RUN = Verb(
    name="run",
    summary="Run an experiment: arms x tasks x seeds -> one JSON file each, report and plots.",
    run=run,
    flag_sets=run_flags,
    positional="config",
    needs_positional=True,
    examples=(
        "examples/quickstart.yaml",
        "examples/mtop.yaml --data_dir DATA --jobs 4 --only 'mtop--*--0'",
    ),
)


# --- a report -------------------------------------------------------------------------------------


@dataclass
class ReportOptions:
    """What `synpre report` takes."""

    directory: str = option("The folder of an experiment's results.", "")
    output_dir: str | None = option("Where the report goes; the folder itself without it.", None)


def report(arguments: Arguments) -> int:
    """Write report.md, report.json and the plots; print the table."""
    from hf_synpre.report import table, write_report

    options = arguments.build(ReportOptions)
    if not options.directory:
        raise UsageError(
            "No folder was given; write `synpre report DIR`, the output folder of `synpre run`."
        )
    print(table(write_report(options.directory, options.output_dir)))
    return 0


REPORT = Verb(
    name="report",
    summary="Write the report of an experiment's folder again.",
    run=report,
    flag_sets=lambda: [FlagSet(ReportOptions)],
    positional="directory",
    needs_positional=True,
    examples=("runs/quickstart", "results/quickstart --output_dir report"),
)
