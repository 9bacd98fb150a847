"""`synpre run`, `report`: a YAML in, scores and a report out."""

import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, ImportOptions, Verb
from hf_synpre.config import build_spec, option, read_yaml
from hf_synpre.errors import UsageError

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
    from hf_synpre.experiments.remarks import remarks
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
        missing = experiment.missing(experiment.cells(only), options.retry)
        on_the_hub = experiment.check_columns(missing)
        experiment.check_folder()
        if on_the_hub:
            names = ", ".join(on_the_hub)
            print(f"Columns of the Hub's data were not checked: {names}.", file=sys.stderr)
        for remark in remarks(spec, experiment.folder):
            print(remark, file=sys.stderr)
        for cell in missing:
            words = cell_command(options, flags.get("data_dir"), experiment.folder, cell.name)
            print(shlex.join(words + import_words(arguments)))
        return 0

    was_finished = not experiment.missing(experiment.cells(only), options.retry)
    failures = experiment.run(only, retry=options.retry, backend=options.backend)
    if not only or not experiment.missing(experiment.cells()):
        print_report(experiment.folder)
    else:
        point_to_report(experiment.folder)

    for remark in remarks(spec, experiment.folder):
        print(remark, file=sys.stderr)
    if was_finished:
        print("All cells were there already: nothing was computed.", file=sys.stderr)

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
    print(f"\nReport: {folder / 'report.md'}, and report.html for a browser")


def point_to_report(folder: Path) -> None:
    """Print which command writes the report of a folder with several results, or an old report."""
    from hf_synpre.report.cells import cell_files

    if (folder / "report.md").exists():
        print(f"{folder}/report.md is older than this; `synpre report {folder}` writes it again.")
    elif len(cell_files(folder)) > 1:
        print(f"`synpre report {folder}` compares the results so far.")


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
    when_stopped=(
        "the same command goes on from here: finished cells stay, unfinished ones begin again"
    ),
)


# --- a report -------------------------------------------------------------------------------------


@dataclass
class ReportOptions:
    """What `synpre report` takes."""

    directory: list[str] = option(
        "The folder of an experiment's results; several folders of one recipe, as of several "
        "machines, make one report.",
        default_factory=list,
    )
    output_dir: str | None = option(
        "Where the report goes; the folder itself without it. Of several folders it must be given.",
        None,
    )


def report(arguments: Arguments) -> int:
    """Write report.md, report.html, report.json and the plots; print the table."""
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
    summary="Write the report of an experiment's folder again, or one of several folders.",
    run=report,
    flag_sets=lambda: [FlagSet(ReportOptions)],
    positional="directory",
    needs_positional=True,
    takes_several=True,
    examples=("runs/quickstart", "runs/one runs/other --output_dir runs/report"),
)
