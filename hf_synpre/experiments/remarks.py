"""What somebody should know of an experiment and its folder, although it is no error."""

from collections import Counter
from pathlib import Path

from hf_synpre.errors import counted
from hf_synpre.experiments.spec import ExperimentSpec


def remarks(spec: ExperimentSpec, folder: Path) -> list[str]:
    """Return a sentence for each thing in an experiment that nothing reads.

    Args:
        spec: the experiment.
        folder: that of its results, which need not exist.
    """
    return [*runs_without_readers(spec), *cells_left_over(spec, folder)]


def runs_without_readers(spec: ExperimentSpec) -> list[str]:
    """Return a sentence for each pre-training run from which no arm starts."""
    read: set[str] = set()
    for arm in spec.arms.values():
        run = arm.needed_checkpoint
        if run in spec.pretraining:
            read.update(spec.dependencies(run))
    return [
        f"No arm starts from the pre-training run '{run}', so it is not made."
        for run in spec.pretraining
        if run not in read
    ]


def cells_left_over(spec: ExperimentSpec, folder: Path) -> list[str]:
    """Return a sentence on the cells in a folder that the experiment does not have any more."""
    known = {cell.file_name for cell in spec.cells()}
    left: Counter[tuple[str, str]] = Counter()
    for file in sorted(folder.glob("*--*--*.json")):
        task, arm, seed = file.stem.split("--", maxsplit=2)
        is_trial = not seed[:1].isdigit()  # which the report does not show
        if file.name not in known and not is_trial:
            left[task, arm] += 1
    if not left:
        return []

    names = ", ".join(f"{arm} on {task}" for task, arm in left)
    return [
        f"{folder} has {counted(left.total(), 'cell')} that the experiment has no more ({names}). "
        "The report shows them too; move their files away where it should not."
    ]
