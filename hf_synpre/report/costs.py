"""Cells of one arm -> its curve of validation scores, and what its runs cost."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from hf_synpre.report.cells import is_finite
from hf_synpre.report.intervals import estimate
from hf_synpre.report.schema import CellResult, Curve, CurvePoint
from hf_synpre.report.seeds import arranged

# With fewer seeds a curve's band is the range of its scores, not a t-interval.
LEAST_SEEDS = 3


def distinct(values: Iterable[Any]) -> list:
    """Return the distinct values that are not None, sorted."""
    return sorted({value for value in values if value is not None})


def mean_curve(cells: list[CellResult]) -> Curve:
    """Return the mean validation score of an arm's cells on a task, of those that have a curve.

    Its steps are those that all cells evaluated. Where they share less than half of their steps, as
    under equal compute, whose runs end at different steps, each cell's curve is interpolated
    linearly at the steps of all cells, within the span that all of them cover.

    The band is the t-interval over seeds; with one or two seeds it is the range of the scores.
    "flops" is the mean cost up to each step, pre-training included; absent if a cell lacks it.
    """
    points_of_cells, before = [], []
    used, shape = arranged([cell for cell in cells if finite_points(cell)])
    for cell in used:
        points_of_cells.append({point["step"]: point for point in finite_points(cell)})
        before.append([pretraining_flops(cell)])
    curve: Curve = {"step": [], "mean": [], "low": [], "high": [], "seeds": len(before)}
    if not points_of_cells:
        return curve

    # Scores, and FLOPs with NaN where a cell does not have them: [cells, steps] each.
    steps, interpolated = common_steps([set(points) for points in points_of_cells])
    scores = np.array([values_at(steps, points, "score") for points in points_of_cells])
    finetuning = np.array([values_at(steps, points, "flops") for points in points_of_cells])
    curve["step"] = steps
    curve["mean"] = scores.mean(0).tolist()
    for of_seeds in scores.T:
        low, high = float(of_seeds.min()), float(of_seeds.max())
        if len(of_seeds) >= LEAST_SEEDS:
            interval = estimate(of_seeds.tolist(), shape=shape)
            if interval["low"] is not None and interval["high"] is not None:
                low, high = interval["low"], interval["high"]
        curve["low"].append(low)
        curve["high"].append(high)
    if interpolated:
        curve["interpolated"] = True

    flops = np.mean(np.array(before) + finetuning, axis=0).tolist()
    if steps and all(math.isfinite(value) for value in flops):
        curve["flops"] = flops
    return curve


def finite_points(cell: CellResult) -> list[CurvePoint]:
    """Return the evaluations of a cell whose score is finite."""
    return [point for point in cell.get("curve") or [] if is_finite(point["score"])]


def common_steps(steps_of_cells: list[set[int]]) -> tuple[list[int], bool]:
    """Return the steps of a mean curve, and whether cells must be interpolated there."""
    shared = set.intersection(*steps_of_cells)
    if 2 * len(shared) >= min(len(steps) for steps in steps_of_cells):
        return sorted(shared), False

    first = max(min(steps) for steps in steps_of_cells)
    last = min(max(steps) for steps in steps_of_cells)
    every = set.union(*steps_of_cells)
    return sorted(step for step in every if first <= step <= last), True


def values_at(steps: list[int], points: dict[int, CurvePoint], key: str) -> np.ndarray:
    """Return one number of a cell's curve at the given steps, NaN where the cell lacks it."""
    known_steps = sorted(points)
    values = np.array([points[step].get(key) for step in known_steps], dtype=float)
    return np.interp(steps, known_steps, values)


def pretraining_flops(cell: CellResult) -> float:
    """Return the FLOPs of a cell's pre-training: 0 without one, NaN where they are not known."""
    runs = collect_runs([cell], "pretraining")
    if not runs:
        return 0.0
    flops = runs[0].get("flops")
    return math.nan if flops is None else flops


def collect_runs(cells: list[CellResult], phase: str) -> list[dict[str, Any]]:
    """Return the costs of a phase in the cells that have it.

    Tokens and FLOPs include those of the earlier runs that a run started from ("before").
    """
    runs = []
    for cell in cells:
        run = (cell.get("phases") or {}).get(phase)
        if not run:
            continue
        run = dict(run)
        for name, earlier in (run.get("before") or {}).items():
            if run.get(name) is not None:
                run[name] += earlier
        runs.append(run)
    return runs


def pretraining_seed(run: dict[str, Any]) -> int | None:
    """Return the seed of a pre-training run, None where it is not known."""
    recipe = run.get("recipe")
    fields = recipe.get("pretraining") if isinstance(recipe, dict) else None
    seed = fields.get("seed") if isinstance(fields, dict) else None
    return seed if isinstance(seed, int) else None


def mean_run(cells: list[CellResult], phase: str) -> dict[str, Any] | None:
    """Return the mean of each number in the costs of a phase, None where no cell has the phase.

    Further keys are the number of runs ("runs"), their names ("names"), how many runs each reason
    has stopped ("stopped"), and the number of their seeds where there are several ("seeds").
    """
    runs = collect_runs(cells, phase)
    if not runs:
        return None

    result: dict[str, Any] = {}
    for key in sorted(set().union(*runs)):
        numbers = [run[key] for run in runs if is_finite(run.get(key))]
        if numbers:
            result[key] = math.fsum(numbers) / len(numbers)

    reasons = Counter(str(run["stopped"]) for run in runs if run.get("stopped"))
    result["runs"] = len(runs)
    result["names"] = distinct(run.get("name") for run in runs)
    result["stopped"] = dict(sorted(reasons.items()))
    seeds = distinct(map(pretraining_seed, runs))
    if len(seeds) > 1:
        result["seeds"] = len(seeds)
    return result
