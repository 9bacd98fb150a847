"""A folder of an experiment -> its cells, read and checked: complete, and of one experiment."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, TypeGuard

from hf_synpre.errors import UsageError
from hf_synpre.files import unpack_fractions
from hf_synpre.report.schema import CellResult

FORMAT = 1
# The note of an estimate begins with this if its arm has no finished cell.
ABSENT = "no finished cell"

KEYS = ("experiment", "task", "arm", "seed", "status")
KEYS_OF_FINISHED = (*KEYS, "score", "metric", "higher_is_better")
PACKED_KEYS = ("example_scores", "probabilities")


def read_cells(directory: str | Path) -> list[CellResult]:
    """Return the cells of an experiment, sorted by file name.

    Args:
        directory: a folder results/<experiment> with files <task>--<arm>--<seed>.json.

    Returns:
        A dict for each cell, with "file" and "sha256"; its scores of single examples are unpacked.

    Raises:
        UsageError: the folder holds no cells, one is unreadable, or two contradict each other.
    """
    directory = Path(directory)
    paths = sorted(path for path in directory.glob("*--*--*.json") if not path.name.startswith("."))
    if not paths:
        reason = "is not a directory"
        if directory.is_dir():
            reason = "holds no cells <task>--<arm>--<seed>.json"
        raise UsageError(
            f"'{directory}' {reason}. Give a directory results/<experiment> that "
            "`synpre run CONFIG.yaml` filled."
        )

    cells = [_read_cell(path) for path in paths]
    _check_together(cells)
    return cells


def _read_cell(path: Path) -> CellResult:
    """Return one cell. Raises UsageError where the file is no finished or failed cell."""
    # Read the bytes, of which the report holds a digest, and their JSON.
    try:
        content = path.read_bytes()
        cell = json.loads(content)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"'{path}' is not readable JSON ({error}). Delete it and run again: only missing cells "
            "run."
        ) from None

    # The keys that the report needs.
    if not isinstance(cell, dict) or cell.get("format") != FORMAT:
        raise UsageError(
            f"'{path}' is not a cell of format {FORMAT}. Use the hf_synpre that wrote it, or move "
            "it elsewhere."
        )
    needed = KEYS_OF_FINISHED if cell.get("status") == "done" else KEYS
    missing = [key for key in needed if key not in cell]
    if missing:
        raise UsageError(
            f"'{path}' lacks {', '.join(missing)}. Delete it and run again: only missing cells run."
        )

    # A run that diverged has no score, whatever its file says.
    if cell["status"] == "done" and not is_finite(cell["score"]):
        cell["error"] = f"the score is {cell['score']}"
        cell["status"] = "failed"
        cell["score"] = None
    if not is_finite(cell.get("validation_score")):
        cell["validation_score"] = None

    # Scores and probabilities of single examples are packed as text.
    for key in PACKED_KEYS:
        if key not in cell:
            continue
        try:
            cell[key] = unpack_fractions(cell[key])
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"'{path}' has {key} that cannot be read ({error}). Delete it and run again."
            ) from None

    cell["file"] = path.name
    cell["sha256"] = hashlib.sha256(content).hexdigest()
    return cell  # type: ignore[return-value]  # the keys were checked above


def is_finite(value: object) -> TypeGuard[float]:
    """Say whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_together(cells: list[CellResult]) -> None:
    """Raise UsageError on cells that cannot be compared.

    These are two cells with one name, cells of two experiments, and cells of one task that differ
    in their metric or in their rows.
    """
    first_seen: dict[str, tuple[Any, str]] = {}  # property -> its value, and the file that had it
    for cell in cells:
        name = f"cell {cell['task']}, {cell['arm']}, seed {cell['seed']}"
        properties: dict[str, Any] = {"experiment": cell["experiment"], name: cell["file"]}
        if cell["status"] == "done":
            data = cell.get("data") or {}
            properties[f"metric of {cell['task']}"] = (cell["metric"], cell["higher_is_better"])
            properties[f"data of {cell['task']}"] = data.get("splits")

        for what, value in properties.items():
            first_value, file = first_seen.setdefault(what, (value, cell["file"]))
            if first_value != value:
                raise UsageError(
                    f"'{file}' and '{cell['file']}' clash in their {what}. Move one of them "
                    "elsewhere."
                )
