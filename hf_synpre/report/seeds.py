"""Both kinds of seeds: the cells of an arm -> a grid of pre-training seeds x fine-tuning seeds.

Where an arm has several pre-training seeds, each of them is fine-tuned with the same seeds. A mean
over such a grid has two sources of error, and `intervals.seed_error` estimates both. An arm with
one pre-training run, or with one for each seed of fine-tuning, is a grid of one row.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hf_synpre.report.schema import CellResult


class Seeds(NamedTuple):
    """The seeds of a cell."""

    pretraining: int  # what was added to the seed of its pre-training run; 0 without one
    finetuning: int


class Shape(NamedTuple):
    """How many seeds of each kind a grid has; its values are listed row by row."""

    pretraining: int
    finetuning: int

    @property
    def is_crossed(self) -> bool:
        """Whether there are several of both kinds."""
        return self.pretraining > 1 and self.finetuning > 1


def seeds_of(cell: CellResult) -> Seeds:
    """Return the seeds of a cell."""
    return Seeds(cell.get("pretraining_seed", 0), cell["seed"])


def are_several(seeds: Iterable[Seeds]) -> bool:
    """Say whether cells have several pre-training seeds."""
    return len({one.pretraining for one in seeds}) > 1


def complete_grid(seeds: Iterable[Seeds]) -> tuple[list[Seeds], Shape]:
    """Return a large part of some seeds in which each row has the same seeds of fine-tuning.

    While an experiment runs, some cells of a grid are missing. A mean over what there is would mix
    the two kinds of seeds, so the cells beyond the complete part wait. It is the largest part where
    the rows fill one after the other, in the order of the same seeds, as experiments compute them.

    Args:
        seeds: those of an arm's cells; each stands there once.

    Returns:
        The seeds of the grid, row by row, and its shape.
    """
    rows: dict[int, set[int]] = {}  # pre-training seed -> its seeds of fine-tuning
    for one in seeds:
        rows.setdefault(one.pretraining, set()).add(one.finetuning)

    # The rows with the most cells come first; each further row leaves what all of them share.
    names = sorted(rows, key=lambda name: (-len(rows[name]), name))
    best: tuple[list[int], set[int]] = ([], set())
    for count in range(1, len(names) + 1):
        shared = set.intersection(*(rows[name] for name in names[:count]))
        if count * len(shared) >= len(best[0]) * len(best[1]):
            best = (sorted(names[:count]), shared)
    grid = [Seeds(row, column) for row in best[0] for column in sorted(best[1])]
    return grid, Shape(len(best[0]), len(best[1]))


def arranged(cells: list[CellResult]) -> tuple[list[CellResult], Shape]:
    """Return the cells of an arm on a task that make a complete grid, row by row, and its shape."""
    by_seeds = {seeds_of(cell): cell for cell in cells}
    grid, shape = complete_grid(by_seeds)
    return [by_seeds[seeds] for seeds in grid], shape


def pair_seeds(one: Iterable[Seeds], other: Iterable[Seeds]) -> dict[Seeds, tuple[Seeds, Seeds]]:
    """Return which cells of two arms are compared with each other.

    They have the same seed of fine-tuning. Of two arms with several pre-training seeds they have
    the same one of these too; otherwise the cells of all rows are compared with the other arm's.

    Args:
        one: the seeds of the cells of the first arm.
        other: those of the second arm.

    Returns:
        The seeds of a pair -> those of its cell of the first arm, and of the second. It is empty
        where both arms have several pre-training seeds and share less than two of them.
    """
    one, other = list(one), list(other)
    if are_several(one) and are_several(other):
        shared = [seeds for seeds in one if seeds in other]
        return {seeds: (seeds, seeds) for seeds in shared} if are_several(shared) else {}
    if are_several(other):
        return {seeds: pair[::-1] for seeds, pair in pair_seeds(other, one).items()}
    partners = {seeds.finetuning: seeds for seeds in other}
    return {
        seeds: (seeds, partners[seeds.finetuning]) for seeds in one if seeds.finetuning in partners
    }
