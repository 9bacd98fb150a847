"""`synpre statistics`: a checkpoint in, the statistics of its parameters in a file out."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_synpre.cli.options import Arguments, FlagSet, Verb
from hf_synpre.config import option
from hf_synpre.errors import UsageError, counted
from hf_synpre.files import atomic_folder, lock

if TYPE_CHECKING:
    from hf_synpre.initialization import ParameterStatistics


@dataclass
class StatisticsOptions:
    """What `synpre statistics` takes."""

    checkpoint: str = option("Folder or Hub id of a checkpoint with safetensors.", "")
    output_file: str | None = option(
        "Where parameter_statistics.json goes; without it into the checkpoint's folder, or for a "
        "Hub id into the current one.",
        None,
    )
    output_dir: str | None = option(
        "A folder for the file and the config: all that StatisticsInit.from_pretrained needs.",
        None,
    )
    absolute: bool = option(
        "Measure the mean absolute deviations too, from which the scheme generalized_gaussian fits "
        "its shapes; the weights are read twice.",
        False,
    )
    spectrum: bool = option(
        "Measure quantiles of the singular values of matrices too, from which the scheme spectral "
        "draws without the weights: seven seconds of a core for one of 4,096 x 4,096.",
        False,
    )


def statistics(arguments: Arguments) -> int:
    """Write the statistics file of a checkpoint, and its config if a folder is given for both."""
    from hf_synpre import initialization

    options = arguments.build(StatisticsOptions)
    if not options.checkpoint:
        raise UsageError("No checkpoint was given; write `synpre statistics FOLDER_OR_HUB_ID`.")

    # Measure local weights anew; of the Hub's, take the file beside them if there is one.
    checkpoint = Path(options.checkpoint)
    try:
        if any(checkpoint.glob("*.safetensors")):
            measured = initialization.ParameterStatistics.measured(
                checkpoint, options.checkpoint, options.absolute, options.spectrum
            )
        else:
            measured = initialization.ParameterStatistics.from_pretrained(
                options.checkpoint, absolute=options.absolute
            )
    except OSError as error:  # from the Hub
        raise UsageError(str(error)) from error

    # Where the file goes.
    if options.output_dir and options.output_file:
        raise UsageError(
            "--output_dir and --output_file were given; give one, a folder for config and "
            "statistics or a file."
        )
    if options.output_dir:
        file = Path(options.output_dir) / initialization.STATISTICS_FILE
        write_statistics_folder(file.parent, measured, options.checkpoint)
    else:
        file = (checkpoint if checkpoint.is_dir() else Path(".")) / initialization.STATISTICS_FILE
        if options.output_file:
            file = Path(options.output_file)
        if file != checkpoint / initialization.STATISTICS_FILE:
            check_statistics_file(file, measured)
        measured.save(file)
    print(f"{file}: {counted(len(measured.parameters), 'parameter')} of {measured.source}")
    return 0


def write_statistics_folder(folder: Path, measured: "ParameterStatistics", checkpoint: str) -> None:
    """Write statistics and the config of their checkpoint; a new folder appears with both at once.

    Args:
        folder: the folder. One with statistics of the same checkpoint gets the new ones.
        measured: the statistics.
        checkpoint: the folder or Hub id of the checkpoint.

    Raises:
        UsageError: the folder holds something else.
    """
    from hf_synpre import initialization

    config, _ = initialization.read_config(initialization.find_config(checkpoint), {})
    with lock(folder):
        check_statistics_folder(folder, measured)
        is_new = not folder.exists() or not any(folder.iterdir())
        with atomic_folder(folder) if is_new else nullcontext(folder) as place:
            config.save_pretrained(place)
            measured.save(place / initialization.STATISTICS_FILE)


def check_statistics_file(file: Path, measured: "ParameterStatistics") -> None:
    """Check that writing statistics replaces nothing but older ones of the same checkpoint.

    Args:
        file: where they go.
        measured: the statistics.

    Raises:
        UsageError: the file holds something else, or lies beside the weights of another model.
    """
    if file.name == "parameter_statistics.json" and any(file.parent.glob("*.safetensors")):
        raise UsageError(
            f"{file.parent} holds the weights of another model; give another --output_file or "
            "--output_dir."
        )
    try:
        is_free = not file.exists() or type(measured).load(file).source == measured.source
    except UsageError:
        is_free = False
    if not is_free:
        raise UsageError(f"{file} is there and holds something else; give another --output_file.")


def check_statistics_folder(folder: Path, measured: "ParameterStatistics") -> None:
    """Raise UsageError where a folder holds anything but statistics of the same checkpoint."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"--output_dir is {folder}, a file; give a folder.")
    if not any(folder.iterdir()):
        return

    stored = folder / "parameter_statistics.json"
    if not stored.exists() or type(measured).load(stored).source != measured.source:
        raise UsageError(
            f"{folder} holds something else than the statistics of {measured.source}; choose "
            "another --output_dir."
        )


STATISTICS = Verb(
    name="statistics",
    summary="Measure the statistics of a checkpoint's parameters.",
    run=statistics,
    flag_sets=lambda: [FlagSet(StatisticsOptions)],
    positional="checkpoint",
    needs_positional=True,
    examples=("runs/set", "t5-small --output_dir runs/t5-statistics"),
)
