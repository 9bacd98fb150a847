"""The recipe in an experiment's folder, and what of it must stay when a run goes on there."""

import copy
from pathlib import Path
from typing import Any

from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.experiments.cell import experiment_recipe
from hf_synpre.experiments.spec import ExperimentSpec
from hf_synpre.files import read_json

# The options of which each value is a trial where there are several; see `without_grids`.
GRIDS = ("learning_rates", "initial_scales")
A_GRID = "a grid"
# An option of which each value is a cell, so that values may be added.
SEEDS = "pretraining_seeds"
# An option that decides nothing of cells that start from no pre-training run.
PAIRED = "paired_pretraining"


def read_stored_recipe(file: Path) -> dict[str, Any]:
    """Return the recipe in an experiment's folder.

    Options that did not exist when it was written get their defaults.

    Raises:
        UsageError: the file is not an experiment's.
    """
    stored = read_json(file)
    try:
        recipe = experiment_recipe(spec_of_recipe(stored, str(file)))
    except UsageError as error:
        raise UsageError(
            f"{file} is not an experiment's; choose another --output_dir. ({error})"
        ) from error
    task_files = stored.get("task_files")
    recipe["task_files"] = task_files if isinstance(task_files, dict) else {}
    return recipe


def spec_of_recipe(stored: Any, source: str) -> ExperimentSpec:
    """Return the experiment of a stored recipe.

    Args:
        stored: the recipe as JSON holds it.
        source: the name of its file, for messages.

    Raises:
        UsageError: it is no recipe of an experiment.
    """
    fields = copy.deepcopy(stored)
    if isinstance(fields, dict):
        fields.pop("task_files", None)
        model = fields.get("model")
        # The default of model_type is stored too; beside config_name it stands for nothing.
        if isinstance(model, dict) and model.get("config_name"):
            model.pop("model_type", None)
    return build_spec(ExperimentSpec, fields, source)


def parts_that_must_stay(
    recipe: dict[str, Any], other: dict[str, Any], in_use: dict[str, set[str]]
) -> dict[str, Any]:
    """Return what must be equal in two recipes, for one folder to hold the results of both.

    Args:
        recipe: the recipe whose parts are returned.
        other: the recipe that it is compared with.
        in_use: for a part that is a dict of names, those that finished cells depend on; names that
            one of the recipes does not have may differ. Other parts must be equal as a whole, but
            for the tasks on which an arm is tried, which decide what cells there are and no cell,
            and for `paired_pretraining` where no cell starts from a pre-training run.
    """
    parts = {}
    for part, value in recipe.items():
        if part == PAIRED and not in_use["pretraining"]:
            continue
        if part not in in_use:
            parts[part] = value
        elif isinstance(value, dict):
            names = in_use[part] & value.keys() & other.get(part, {}).keys()
            parts[part] = {name: value[name] for name in sorted(names)}
    for name, arm in parts["arms"].items():
        parts["arms"][name] = {key: value for key, value in arm.items() if key != "tasks"}
    return parts


def without_grids(part: Any) -> Any:
    """Return a recipe, or a part of it, that is equal for all grids of two values or more.

    A trial is the same run whatever other values its grid has, so a grid may change in a folder
    with results. Cells whose trials then choose another value are computed again. Pre-training
    seeds may change too: each has its own cells.
    """
    if not isinstance(part, dict):
        return part
    parts = {}
    for name, value in part.items():
        if name == SEEDS:
            continue
        is_grid = name in GRIDS and isinstance(value, list) and len(value) > 1
        parts[name] = A_GRID if is_grid else without_grids(value)
    return parts


def narrowed_grid(before: Any, now: Any) -> str | None:
    """Return the name of an option that was a grid and is none any more; None where there is none.

    Args:
        before: what `without_grids` returns of the recipe in the folder, or a part of it.
        now: the same of this run's recipe.
    """
    if not isinstance(before, dict) or not isinstance(now, dict):
        return None
    for name, value in before.items():
        if value == A_GRID and now.get(name) != A_GRID:
            return name
        narrowed = narrowed_grid(value, now.get(name))
        if narrowed is not None:
            return narrowed
    return None


def keep_parts_in_use(
    recipe: dict[str, Any], stored: dict[str, Any], in_use: dict[str, set[str]]
) -> None:
    """Add to a recipe what it has no more and finished cells in the folder were made with.

    A task that is taken out of the YAML and comes back later with other options is recognised so.

    Args:
        recipe: the recipe of this run; it is changed.
        stored: the recipe in the folder.
        in_use: for each part, the names that finished cells depend on.
    """
    for part, names in in_use.items():
        for name in sorted(names):
            if name in stored[part] and name not in recipe[part]:
                recipe[part][name] = stored[part][name]
