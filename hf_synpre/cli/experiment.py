"""Layer 6: the verbs of experiments: finetune, run, report."""

import json
import shlex
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_synpre.cli.options import option, pairs
from hf_synpre.config import build_spec, read_yaml
from hf_synpre.errors import UsageError


@dataclass
class FinetuneOptions:
    """Fine-tune one start on one downstream task."""

    task: str = option(
        "the downstream task, or a YAML file: its name and the fields of its definition",
        "stdlib_ast",
    )
    output_dir: str = option("folder of the result", "runs/finetuned")
    init: str = option("random, weights or statistics", "random")
    checkpoint: str | None = option("folder or Hub id of the checkpoint for weights and statistics")
    scheme: str = option("scheme of init statistics", "per_param_mean_sd")
    embeddings: str = option("token embeddings: fresh or kept", "fresh")
    lora: str | None = option(
        "train LoRA adapters only: fields of peft's LoraConfig, as r=8,lora_alpha=16"
    )
    data_dir: str | None = option("folder of a local copy of the dataset in Hub layout")
    tokenizer: str | None = option(
        "folder or Hub id of a tokenizer; one is trained on the train split without it"
    )
    vocab_size: int = option("ids of the tokenizer trained on the train split", 1024)
    preset: str | None = option(
        "the task's recipe and lengths: small or paper; every other flag overrides it"
    )
    model_type: str | None = option(
        "architecture, as in transformers; t5 without it, electra for a labelled task"
    )
    config_name: str | None = option("folder or Hub id of a config, instead of --model_type")
    config_overrides: str | None = option("fields of the config, as d_model=128,num_layers=2")
    seed: int = option("seed of fresh weights and of the order of the rows", 0)
    training: dict[str, Any] = field(default_factory=dict, init=False)


def finetune(options: FinetuneOptions) -> int:
    """Compute one cell of an experiment and print its score."""
    from hf_synpre import experiments as experiment
    from hf_synpre.finetuning import usual_model_type

    arm = {name: getattr(options, name) for name in ("init", "checkpoint", "scheme", "embeddings")}
    arm["lora"] = None if options.lora is None else pairs(options.lora, "lora")
    budget = {} if options.preset or "num_train_epochs" in options.training else {"max_steps": 1000}
    training = budget | options.training
    task = {name: getattr(options, name) for name in ("data_dir", "tokenizer", "vocab_size")}
    name, defined = defined_task(options.task)
    model_type = options.model_type or usual_model_type(name, defined.get("define"))
    model = {"model_type": model_type, "config_name": options.config_name}
    given = {
        "name": "finetune",
        "tasks": {name: task | defined | {"finetuning": {"training": training}}},
        "arms": {options.init: arm},
        "model": model | {"overrides": pairs(options.config_overrides, "config_overrides")},
        "preset": options.preset,
        "seeds": [options.seed],
        "jobs": 1,
    }
    run_of = experiment.Experiment(
        build_spec(experiment.ExperimentSpec, given, "options"), options.output_dir
    )
    failures = run_of.run(retry=True)
    for line in failures:
        print(line, file=sys.stderr)
    for cell in run_of.cells() if not failures else ():
        result = json.loads((run_of.folder / cell.file_name).read_text())
        beside = "".join(
            f", {k} {v:.4f}" for k, v in result["scores"].items() if k != result["metric"]
        )
        where = f"on {result['test_examples']} test examples"
        print(f"{result['metric']} {result['score']:.4f} {where}{beside}, {cell.file_name}")
    return 1 if failures else 0


def defined_task(task: str) -> tuple[str, dict[str, Any]]:
    """Return a task's name and, where `task` is a YAML file, its definition. Raises UsageError on a file without a name."""
    if not task.endswith((".yaml", ".yml")):
        return task, {}
    fields = read_yaml(task)
    if not isinstance(fields.get("name"), str):
        raise UsageError(f"{task} lacks the key 'name'; give the task a name.")
    return fields.pop("name"), {"define": fields}


@dataclass
class RunOptions:
    """Run an experiment: arms x tasks x seeds -> one JSON a cell, report and plots."""

    config: str = option("the YAML file of the experiment", "")
    output_dir: str | None = option("folder of the results; runs/NAME without it")
    work_dir: str | None = option(
        "folder of data and checkpoints, may be shared by experiments; work/ of the results' without it"
    )
    data_dir: str | None = option(
        "folder of local copies of the datasets in Hub layout, corpora too"
    )
    jobs: int | None = option("parallel jobs, 0 for one a core; the YAML's without it")
    only: str | None = option(
        "compute these cells alone: TASK--ARM--SEED with * and ?, several by commas"
    )
    list: bool = option(
        "print one self-contained command a missing cell and stop: for Slurm arrays or GNU parallel",
        False,
    )
    retry: bool = option("compute the failed cells again", False)
    backend: str = option(
        "loky (processes of this machine) or ray (the cluster of RAY_ADDRESS, else a local one)",
        "loky",
    )


def run(options: RunOptions) -> int:
    """Compute the missing cells, write the report, print the table."""
    if not options.config:
        raise UsageError(
            "No experiment was given; write `synpre run CONFIG.yaml`, for instance examples/quickstart.yaml."
        )
    from hf_synpre import experiments as experiment

    given = read_yaml(options.config)
    given |= {
        name: value
        for name in ("jobs", "data_dir")
        if (value := getattr(options, name)) is not None
    }
    spec = build_spec(experiment.ExperimentSpec, given, options.config)
    one = experiment.Experiment(
        spec, options.output_dir or Path("runs") / spec.name, options.work_dir
    )
    only = [pattern for pattern in (options.only or "").split(",") if pattern]
    if options.list:
        one.open_folder()
        for cell in one.missing(one.cells(only), options.retry):
            print(command_of(options, one.folder, cell.name))
        return 0
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # as Ctrl-C: the workers end too, when a scheduler says so
    failures = one.run(only, retry=options.retry, backend=options.backend)
    if not only or not one.missing(one.cells()):
        print_report(one.folder)
    for line in failures:
        print(line, file=sys.stderr)
    if failures:
        print(
            "The failed cells are kept; the same command with --retry computes them again.",
            file=sys.stderr,
        )
    return 1 if failures else 0


def command_of(options: RunOptions, folder: Path, cell: str) -> str:
    """Return the shell command that computes one cell and nothing else."""
    kept = {
        name: value
        for name in ("work_dir", "data_dir")
        if (value := getattr(options, name)) is not None
    }
    words = [word for name, value in kept.items() for word in (f"--{name}", value)] + [
        "--retry"
    ] * options.retry
    first = [
        sys.executable,
        "-m",
        "hf_synpre",
        "run",
        options.config,
        "--output_dir",
        str(folder),
        *words,
    ]
    return shlex.join([*first, "--jobs", "1", "--only", cell])


def print_report(folder: Path) -> None:
    """Write the report of a folder and print its table."""
    from hf_synpre.report import table, write_report

    print(table(write_report(folder)))
    print(f"\nReport: {folder / 'report.md'}")


@dataclass
class ReportOptions:
    """Render the report of an experiment's folder again."""

    directory: str = option("the folder of the cells", "")
    output_dir: str | None = option("where the report goes; the folder itself without it")


def report(options: ReportOptions) -> int:
    """Write report.md, report.json and the plots; print the table."""
    from hf_synpre.report import table, write_report

    if not options.directory:
        raise UsageError(
            "No folder was given; write `synpre report DIR`, the output folder of `synpre run`."
        )
    print(table(write_report(options.directory, options.output_dir)))
    return 0
