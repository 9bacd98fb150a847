"""Folders of one experiment, as several machines computed them -> their cells together.

Each cell is taken once. Two folders may hold the same cell where its result is the same; then the
first one counts. A cell that is finished in one folder and failed in another is finished. Results
that differ, and folders of different recipes, are refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_synpre.config import differences
from hf_synpre.errors import UsageError
from hf_synpre.report.cells import (
    FolderOfCells,
    check_together,
    name_of_cell,
    read_folder,
    read_recipe,
)
from hf_synpre.report.schema import NATURAL, CellResult, LeftOut

# Keys of a recipe that machines may have differently: they decide which cells there are, or how
# the report reads them.
FREE_KEYS = ("jobs", "seeds", "pretraining_seeds", "reference", "learning_rates", "initial_scales")
# Parts of a recipe that have a name for each of their own parts.
NAMED_PARTS = ("tasks", "arms", "pretraining")
# What makes the result of a cell, beside its example scores.
RESULT_KEYS = ("status", "metric", "score", "scores", "config")


def read_folders(directories: Sequence[str | Path]) -> FolderOfCells:
    """Return the cells of the folders of one experiment, each of them once.

    Args:
        directories: output folders of `synpre run`.

    Raises:
        UsageError: a folder cannot be read, or two of them contradict each other.
    """
    folders = [Path(directory) for directory in directories]
    if len(folders) == 1:
        return read_folder(folders[0])

    cells: dict[str, tuple[CellResult, Path]] = {}
    left_out: list[LeftOut] = []
    references: dict[str, Path] = {}
    for number, folder in enumerate(folders):
        for earlier in folders[:number]:
            check_recipes(earlier, folder)
        found = read_folder(folder)
        left_out += [one | {"file": f"{folder.name}/{one['file']}"} for one in found.left_out]
        if found.reference != NATURAL:
            references[found.reference] = folder
        for cell in found.cells:
            add_cell(cells, cell, folder)

    if len(references) > 1:
        (one, first), (other, second), *_ = references.items()
        raise UsageError(
            f"'{first}' has the reference {one} and '{second}' {other}; give both the same."
        )
    merged = sorted((cell for cell, _ in cells.values()), key=lambda cell: cell["file"])
    check_together(merged)
    return FolderOfCells(merged, left_out, next(iter(references), NATURAL))


def add_cell(cells: dict[str, tuple[CellResult, Path]], cell: CellResult, folder: Path) -> None:
    """Add a cell to those of earlier folders.

    Args:
        cells: what a cell is called -> the cell and its folder; it is changed.
        cell: the cell.
        folder: the folder that it is in.

    Raises:
        UsageError: an earlier folder has another result of the cell.
    """
    name = name_of_cell(cell)
    known, where = cells.setdefault(name, (cell, folder))
    if known is cell or cell["status"] != "done":
        return
    if known["status"] != "done":
        cells[name] = (cell, folder)
    elif not are_equal(known, cell):
        raise UsageError(
            f"'{where / known['file']}' and '{folder / cell['file']}' hold different results of "
            f"the {name} ({what_differs(known, cell)}). Move one of them elsewhere."
        )


def what_differs(one: CellResult, other: CellResult) -> str:
    """Return in which parts the results of two cells differ; example scores are only named."""
    first, second = ({key: cell.get(key) for key in RESULT_KEYS} for cell in (one, other))
    return differences(first, second) or "example_scores"


def are_equal(one: CellResult, other: CellResult) -> bool:
    """Say whether two cells have the same result, whatever they took and wherever they ran."""
    examples, others = (np.array(cell.get("example_scores", [])) for cell in (one, other))
    results = [
        {key: without_free_keys(cell.get(key)) for key in RESULT_KEYS} for cell in (one, other)
    ]
    return np.array_equal(examples, others) and results[0] == results[1]


def check_recipes(first: Path, second: Path) -> None:
    """Raise UsageError where two folders are not of one recipe, as far as both have its parts."""
    recipes = [read_recipe(folder) for folder in (first, second)]
    one, other = (common_parts(recipes[i], recipes[1 - i]) for i in (0, 1))
    if one != other:
        raise UsageError(
            f"'{first}' and '{second}' hold results of different recipes "
            f"({differences(one, other)}); merge folders of one recipe."
        )


def common_parts(recipe: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a recipe that another one has too, without the keys that may differ.

    Of its tasks, arms and pre-training runs those count that both have.
    """
    parts: dict[str, Any] = {}
    for key in sorted(recipe.keys() & other.keys()):
        value, other_value = recipe[key], other[key]
        if key not in NAMED_PARTS:
            if key not in FREE_KEYS:
                parts[key] = without_free_keys(value)
        elif isinstance(value, dict) and isinstance(other_value, dict):
            shared = sorted(value.keys() & other_value.keys())
            parts[key] = {name: without_free_keys(value[name]) for name in shared}
    return parts


def without_free_keys(part: Any) -> Any:
    """Return a part of a recipe without the keys that may differ."""
    if not isinstance(part, dict):
        return part
    return {name: without_free_keys(value) for name, value in part.items() if name not in FREE_KEYS}
