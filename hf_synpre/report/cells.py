"""A folder of an experiment -> its cells, read and checked: complete, and of one experiment."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from hf_synpre.errors import UsageError
from hf_synpre.files import parse_json, unpack_fractions
from hf_synpre.report.schema import NATURAL, CellResult, LeftOut

FORMAT = 1
# The note of an estimate begins with this if its arm has no finished cell.
ABSENT = "no finished cell"
# The recipe of an experiment, in the folder of its cells.
RECIPE_FILE = "experiment.json"
# So begins the last part of the name of a trial (experiments/spec.py, `Cell`).
TRIAL = "lr"

KEYS = ("experiment", "task", "arm", "seed", "status")
KEYS_OF_FINISHED = (*KEYS, "score", "metric", "higher_is_better")
PACKED_KEYS = ("example_scores", "probabilities")

# What no cell of a real experiment comes near; files beyond are not read.
MOST_BYTES = 256 * 2**20
# Numbers beyond this count as infinite: their squares would be.
MOST = 1e100

RUN_AGAIN = "Delete it and run again: only missing cells run"


class FolderOfCells(NamedTuple):
    """What `read_folder` found in the folder of an experiment."""

    cells: list[CellResult]
    left_out: list[LeftOut]  # the files that could not be used
    reference: str = NATURAL  # the arm whose gain over random is 100 % of a benefit


class _BadCellError(Exception):
    """A file is no cell that can be used: the reason, and what to do about it."""

    def __init__(self, reason: str, remedy: str = RUN_AGAIN) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


# --- Folders --------------------------------------------------------------------------------------


def read_cells(directory: str | Path) -> list[CellResult]:
    """Return the cells of an experiment, sorted by file name; every one of them must be usable.

    Args:
        directory: the output folder of `synpre run`, with files <task>--<arm>--<seed>.json.

    Returns:
        A dict for each cell, with "file" and "sha256"; its scores of single examples are unpacked.

    Raises:
        UsageError: the folder holds no cells, one is unreadable, or two contradict each other.
    """
    cells, left_out, _ = read_folder(directory)
    if left_out:
        raise UsageError(_why_unusable(directory, left_out[0]))
    return cells


def read_folder(directory: str | Path) -> FolderOfCells:
    """Return the usable cells of an experiment, and the files that are left out with the reasons.

    Args:
        directory: the output folder of `synpre run`, with files <task>--<arm>--<seed>.json.

    Raises:
        UsageError: the folder holds no usable cell, or two cells contradict each other.
    """
    directory = Path(directory)
    paths = cell_files(directory)
    if not paths:
        reason = "is not a directory"
        if directory.is_dir():
            reason = "holds no cells <task>--<arm>--<seed>.json"
        raise UsageError(
            f"'{directory}' {reason}. Give the output folder of `synpre run CONFIG.yaml`."
        )

    cells: list[CellResult] = []
    left_out: list[LeftOut] = []
    for path in paths:
        try:
            cells.append(_read_cell(path))
        except _BadCellError as error:
            left_out.append({"file": path.name, "reason": error.reason, "remedy": error.remedy})

    if not cells:
        raise UsageError(_why_unusable(directory, left_out[0]))
    check_together(cells)
    return FolderOfCells(cells, left_out, reference_of(directory))


def reference_of(directory: Path) -> str:
    """Return the arm that an experiment's recipe names as its reference; "natural" without one."""
    return read_recipe(directory).get("reference") or NATURAL


def read_recipe(directory: Path) -> dict[str, Any]:
    """Return the recipe in the folder of an experiment, {} where there is none.

    Raises:
        UsageError: the file is no recipe.
    """
    file = directory / RECIPE_FILE
    if not file.exists():
        return {}
    try:
        recipe = parse_json(file.read_bytes())
    except (ValueError, OSError) as error:
        raise UsageError(
            f"'{file}' is not readable JSON ({error}). Run again to write it."
        ) from None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("reference"), str | None):
        raise UsageError(f"'{file}' is not the recipe of an experiment. Run again to write it.")
    return recipe


def cell_files(directory: Path) -> list[Path]:
    """Return the files of a folder that are named as cells, without trials of learning rates."""
    return sorted(
        path
        for path in directory.glob("*--*--*.json")
        if not path.name.startswith(".") and not path.stem.rpartition("--")[2].startswith(TRIAL)
    )


def _why_unusable(directory: str | Path, left_out: LeftOut) -> str:
    """Return the message of an error about a file that cannot be used."""
    return f"'{Path(directory) / left_out['file']}' {left_out['reason']}. {left_out['remedy']}."


def name_of_cell(cell: CellResult) -> str:
    """Return the name of a cell in messages; no two cells of an experiment are called the same."""
    name = f"cell {cell['task']}, {cell['arm']}, seed {cell['seed']}"
    if cell.get("pretraining_seed"):
        name += f", pre-training seed {cell['pretraining_seed']}"
    return name


def arm_option(cell: CellResult, name: str) -> str | None:
    """Return an option of a cell's arm, None where the cell does not hold it."""
    options = (cell.get("config") or {}).get("arm") or {}
    value = options.get(name)
    return value if isinstance(value, str) else None


def finetuning_budget(cell: CellResult) -> float:
    """Return how many times as many steps of fine-tuning as the recipe has a cell's arm gets."""
    options = (cell.get("config") or {}).get("arm") or {}
    budget = options.get("finetuning_budget")
    return budget if is_finite(budget) else 1.0


def matched_run(cell: CellResult) -> str | None:
    """Return the pre-training run whose FLOPs a cell got as further steps, None without one."""
    return arm_option(cell, "compute_of") or arm_option(cell, "match_flops_of")


# --- A cell ---------------------------------------------------------------------------------------


def _read_cell(path: Path) -> CellResult:
    """Return one cell. Raises _BadCellError where the file is no finished or failed cell."""
    # Read the bytes, of which the report holds a digest, and their JSON.
    content = _read_bytes(path)
    try:
        cell = parse_json(content)
    except ValueError as error:
        raise _BadCellError(f"is not readable JSON ({error})") from None

    # The keys that the report needs, and the type of every key that it reads.
    if not isinstance(cell, dict) or cell.get("format") != FORMAT:
        raise _BadCellError(
            f"is not a cell of format {FORMAT}",
            "Use the hf_synpre that wrote it, or move it elsewhere",
        )
    finished = cell.get("status") == "done"
    missing = [key for key in (KEYS_OF_FINISHED if finished else KEYS) if key not in cell]
    if missing:
        raise _BadCellError(f"lacks {', '.join(missing)}")
    _check_types(cell)

    # A run that diverged has no score, whatever its file says.
    if finished and not is_finite(cell["score"]):
        cell["error"] = f"the score is {cell['score']}"
        cell["status"] = "failed"
        cell["score"] = None
    if not is_finite(cell.get("validation_score")):
        cell["validation_score"] = None

    _unpack(cell)
    cell["file"] = path.name
    cell["sha256"] = hashlib.sha256(content).hexdigest()
    return cell  # type: ignore[return-value]  # the keys were checked above


def _read_bytes(path: Path) -> bytes:
    """Return the bytes of a cell's file. Raises _BadCellError where it is none to read."""
    try:
        if not path.is_file():  # a pipe or a device would never end
            raise _BadCellError("is not a file", "Move it elsewhere")
        if path.stat().st_size > MOST_BYTES:
            raise _BadCellError(f"is larger than {MOST_BYTES // 2**20} MB", "Move it elsewhere")
        return path.read_bytes()
    except OSError as error:
        raise _BadCellError(f"cannot be read ({error.strerror})") from None


def _unpack(cell: dict[str, Any]) -> None:
    """Replace the packed scores and probabilities of single examples by arrays.

    Raises _BadCellError where their number is not that of the test examples.
    """
    for key in PACKED_KEYS:
        if key not in cell:
            continue
        try:
            cell[key] = unpack_fractions(cell[key])
        except (ValueError, TypeError) as error:
            raise _BadCellError(f"has {key} that cannot be read ({error})") from None

    scores, examples = cell.get("example_scores"), cell.get("test_examples")
    if scores is not None and examples is not None and len(scores) != examples:
        raise _BadCellError(f"has {len(scores)} example_scores for {examples} test_examples")

    if "probabilities" in cell:
        count, truths = len(cell["probabilities"]), cell.get("truths")
        if not truths or not count or count % len(truths):
            raise _BadCellError(f"has {count} probabilities for {len(truths or ())} truths")


# --- Types ----------------------------------------------------------------------------------------


def is_finite(value: object) -> TypeGuard[float]:
    """Say whether a value of JSON is a finite number; one whose square is infinite is not."""
    return _is_number(value) and abs(value) <= MOST  # NaN is not


def _is_number(value: object) -> TypeGuard[float]:
    """Say whether a value of JSON is a number, which may be NaN or infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    """Say whether a value is a whole number of a usual size."""
    return isinstance(value, int) and is_finite(value)


def _is_text(value: object) -> bool:
    """Say whether a value is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())


def _are_texts(value: object) -> bool:
    """Say whether a value is a list of texts."""
    return isinstance(value, list) and all(map(_is_text, value))


def _is_absent_or_finite(value: object) -> bool:
    """Say whether a value is null or a finite number."""
    return value is None or is_finite(value)


def _is_curve(value: object) -> bool:
    """Say whether a value is a list of evaluations during fine-tuning."""
    if not isinstance(value, list):
        return False
    for point in value:
        if not isinstance(point, dict) or not is_finite(point.get("step")):
            return False
        if not _is_number(point.get("score")) or not _is_absent_or_finite(point.get("flops")):
            return False
    return True


def _is_phases(value: object) -> bool:
    """Say whether a value maps the names of phases to their costs, None where there is none."""
    if not isinstance(value, dict):
        return False
    for phase in value.values():
        if phase is None:
            continue
        if not isinstance(phase, dict) or not isinstance(phase.get("name", ""), str | None):
            return False
        earlier = phase.get("before") or {}
        if not isinstance(earlier, dict):
            return False
        if not all(_is_absent_or_finite(phase.get(key)) for key in ("tokens", "flops", *earlier)):
            return False
        if not all(is_finite(number) for number in earlier.values()):
            return False
    return True


def _is_data(value: object) -> bool:
    """Say whether a value describes the rows of a task."""
    return isinstance(value, dict) and isinstance(value.get("hub_id"), str | None)


def _is_config(value: object) -> bool:
    """Say whether a value holds the specs of a cell."""
    if not isinstance(value, dict) or not isinstance(value.get("arm"), dict | None):
        return False
    recipe = value.get("finetuning") or {}
    return isinstance(recipe, dict) and isinstance(recipe.get("training"), dict | None)


def _is_schedule(value: object) -> bool:
    """Say whether a value holds the learning rate, the type and the steps of a schedule."""
    if not isinstance(value, dict) or not _is_text(value.get("type")):
        return False
    return is_finite(value.get("learning_rate")) and is_finite(value.get("steps"))


def _are_rates(value: object) -> bool:
    """Say whether a value is a list of learning rates that were tried."""
    if not isinstance(value, list):
        return False
    return all(isinstance(one, dict) and is_finite(one.get("learning_rate")) for one in value)


class _Shape(NamedTuple):
    """What the value of a key must be."""

    fits: Callable[[Any], bool]
    words: str
    may_be_null: bool = False


SHAPES = {
    "experiment": _Shape(_is_text, "a text"),
    "task": _Shape(_is_text, "a text"),
    "arm": _Shape(_is_text, "a text"),
    "seed": _Shape(_is_count, "a whole number"),
    "pretraining_seed": _Shape(_is_count, "a whole number"),
    "status": _Shape(_is_text, "a text"),
    "error": _Shape(lambda value: isinstance(value, str), "a text", True),
    "metric": _Shape(_is_text, "a text", True),
    "higher_is_better": _Shape(lambda value: isinstance(value, bool), "true or false", True),
    "score": _Shape(_is_number, "a number", True),
    "scores": _Shape(
        lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
        "an object of numbers",
        True,
    ),
    "test_examples": _Shape(
        lambda value: _is_count(value) and value >= 0, "a whole number from 0", True
    ),
    "example_scores": _Shape(_is_text, "a text"),
    "notes": _Shape(_are_texts, "a list of texts"),
    "probabilities": _Shape(_is_text, "a text"),
    "truths": _Shape(
        lambda value: isinstance(value, list) and all(map(_is_count, value)),
        "a list of whole numbers",
        True,
    ),
    "curve": _Shape(_is_curve, "a list of objects with the numbers step and score", True),
    "data": _Shape(_is_data, "an object, its hub_id a text", True),
    "phases": _Shape(_is_phases, "an object of objects, their tokens and flops numbers", True),
    "embeddings": _Shape(_is_text, "a text", True),
    "config": _Shape(_is_config, "an object, its arm and its training objects", True),
    "schedule": _Shape(_is_schedule, "an object of a type and numbers", True),
    "learning_rates": _Shape(_are_rates, "a list of objects with a learning_rate", True),
    "initial_scale": _Shape(_is_number, "a number"),
    "versions": _Shape(lambda value: isinstance(value, dict), "an object", True),
    "threads": _Shape(_is_count, "a whole number", True),
    "device": _Shape(_is_text, "a text"),
}


def _check_types(cell: dict[str, Any]) -> None:
    """Raise _BadCellError on a key whose value is of another type than the report can read."""
    for key, shape in SHAPES.items():
        value = cell.get(key)
        if key not in cell or (value is None and shape.may_be_null):
            continue
        if not shape.fits(value):
            given = json.dumps(value)
            if len(given) > 60:
                given = given[:57] + "..."
            raise _BadCellError(f"has {key} {given}, which must be {shape.words}")


# --- Cells together -------------------------------------------------------------------------------


def check_together(cells: list[CellResult]) -> None:
    """Raise UsageError on cells that cannot be compared.

    These are two cells with one name, cells of two experiments, and cells of one task that differ
    in their metric or in their rows.
    """
    first_seen: dict[str, tuple[Any, str]] = {}  # property -> its value, and the file that had it
    for cell in cells:
        name = name_of_cell(cell)
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
