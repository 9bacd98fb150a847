"""Cells of labelled tasks -> the matrix of gains, arms on tasks, and pairs of arms as ensembles."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np

from hf_synpre.report.schema import (
    RANDOM,
    CellResult,
    Estimate,
    GainMatrix,
    Pair,
    Report,
    Transfer,
)
from hf_synpre.report.seeds import Seeds, pair_seeds, seeds_of

# The name of the second arm in the pair of an arm with itself, which shows what an ensemble of two
# seeds gains without another initialisation.
SAME_ARM = "two seeds"


def summarize_transfer(cells: list[CellResult], report: Report) -> Transfer | None:
    """Return the matrix and the ensembles of an experiment, None where no cell has labels."""
    if not any("labels" in (cell.get("data") or {}) for cell in cells):
        return None
    return {"matrix": gain_matrix(report), "ensembles": ensembles(cells)}


# --- The matrix -----------------------------------------------------------------------------------


def gain_matrix(report: Report) -> GainMatrix:
    """Return the gain of each arm on each task, and its mean over tasks.

    A gain is the share of the reference arm's gain over random (100 % is natural text, 0 is random;
    Krishna et al. 2022). Without that arm, and where that share is refused for most of the matrix,
    it is the difference to random in points of the metric.
    """
    arms = [arm for arm in report["arms"] if arm != RANDOM]
    arms_between = [arm for arm in arms if arm != report["reference"]]
    differences = {
        arm: {task: row.get(arm) for task, row in report["differences"].items()} for arm in arms
    }
    shares: dict[str, dict[str, Estimate | None]] = {
        arm: {**report["benefits"][arm]["tasks"]} for arm in arms_between
    }

    # Shares, if at least half of the gains that are known as differences are known as shares too.
    known_shares = count_known(shares)
    known_differences = count_known({arm: differences[arm] for arm in arms_between})
    if 2 * known_shares >= max(known_differences, 1):
        unit, gains = f"% of {report['reference']}'s gain", shares
        estimates: dict[str, Estimate | None] = {
            arm: report["benefits"][arm]["mean_of_ratios"] for arm in arms_between
        }
    else:
        # Differences otherwise; only an arm with a gain on every task has a mean.
        unit, gains = "points over random", in_percent(report, differences)
        estimates = {arm: mean_over_tasks(row) for arm, row in gains.items()}

    means = {arm: mean["value"] if mean else None for arm, mean in estimates.items()}
    return {
        "unit": unit,
        "scale": 100,
        "gains": gains,
        "means": means,
        "mean_estimates": estimates,
    }


def in_percent(
    report: Report, differences: dict[str, dict[str, Estimate | None]]
) -> dict[str, dict[str, Estimate | None]]:
    """Return the differences on tasks whose scores are in per cent: others have no points."""
    tasks = {task for task, summary in report["tasks"].items() if summary["unit"] == "%"}
    kept = {}
    for arm, row in differences.items():
        kept[arm] = {task: gain for task, gain in row.items() if task in tasks}
    return {arm: row for arm, row in kept.items() if row}


def mean_over_tasks(row: Mapping[str, Estimate | None]) -> Estimate | None:
    """Return the mean of an arm's differences over tasks, None unless all are known.

    The half widths of the tasks' intervals, squared, add up: the tasks are independent.
    """
    values = known_values(row)
    if not values or len(values) < len(row):
        return None

    mean: Estimate = {"value": float(np.mean(values)), "low": None, "high": None, "note": None}
    lows = [gain["low"] for gain in row.values() if gain is not None and gain["low"] is not None]
    highs = [gain["high"] for gain in row.values() if gain is not None and gain["high"] is not None]
    if len(lows) == len(highs) == len(values):
        below = [value - low for value, low in zip(values, lows, strict=True)]
        above = [high - value for value, high in zip(values, highs, strict=True)]
        mean["low"] = float(np.mean(values)) - math.hypot(*below) / len(values)
        mean["high"] = float(np.mean(values)) + math.hypot(*above) / len(values)
    return mean


def known_values(row: Mapping[str, Estimate | None]) -> list[float]:
    """Return the values of the estimates that are neither absent nor refused."""
    return [
        estimate["value"]
        for estimate in row.values()
        if estimate is not None and estimate["value"] is not None
    ]


def count_known(gains: Mapping[str, Mapping[str, Estimate | None]]) -> int:
    """Return how many gains have a value."""
    return sum(len(known_values(row)) for row in gains.values())


def matrix_columns(matrix: GainMatrix) -> tuple[list[str], list[str]]:
    """Return the tasks on which any arm has a gain, and the columns: these tasks and the mean.

    A single task has no mean beside it, nor has a matrix in which no arm has one.
    """
    rows = matrix["gains"].values()
    every_task = dict.fromkeys(task for row in rows for task in row)
    tasks = [task for task in every_task if any(known_values({task: r.get(task)}) for r in rows)]
    with_mean = any(value is not None for value in matrix["means"].values())
    return tasks, [*tasks, "mean"] if with_mean and len(tasks) > 1 else tasks


def matrix_row(matrix: GainMatrix, arm: str, tasks: list[str]) -> list[Estimate | None]:
    """Return an arm's gains on the tasks and their mean."""
    return [*(matrix["gains"][arm].get(task) for task in tasks), matrix["mean_estimates"][arm]]


# --- Ensembles ------------------------------------------------------------------------------------


def ensembles(cells: list[CellResult]) -> dict[str, list[Pair]]:
    """Return task -> pairs of arms: the accuracy of their averaged probabilities, their errors.

    Two arms are compared over all seeds that both have, an arm with itself by its first two seeds.
    """
    known = [cell for cell in cells if cell["status"] == "done" and "probabilities" in cell]
    return {
        task: list(arm_pairs([cell for cell in known if cell["task"] == task]))
        for task in dict.fromkeys(cell["task"] for cell in known)
    }


def arm_pairs(cells: list[CellResult]) -> Iterator[Pair]:
    """Yield every pair of arms of one task's cells that has at least two cells to compare."""
    runs: dict[str, dict[Seeds, CellResult]] = {}  # arm -> seeds -> cell
    for cell in cells:
        runs.setdefault(cell["arm"], {})[seeds_of(cell)] = cell

    for one, other in itertools.combinations_with_replacement(runs, 2):
        if one == other:
            first_two = list(runs[one].values())[:2]
            couples = [(first_two[0], first_two[1])] if len(first_two) == 2 else []
        else:
            pairs = sorted(pair_seeds(runs[one], runs[other]).items())
            couples = [(runs[one][a], runs[other][b]) for _, (a, b) in pairs]
        couples = [couple for couple in couples if fit_together(*couple)]
        if not couples:
            continue

        overlaps = [error_overlap(*couple) for couple in couples]
        pair = {"arms": [one, SAME_ARM if one == other else other], "seeds": len(couples)}
        for name in overlaps[0]:
            pair[name] = float(np.mean([overlap[name] for overlap in overlaps]))
        yield cast(Pair, pair)


def fit_together(one: CellResult, other: CellResult) -> bool:
    """Say whether two cells have probabilities of the same labels of the same examples."""
    same_size = len(one["probabilities"]) == len(other["probabilities"])
    return same_size and one["truths"] == other["truths"]


def error_overlap(one: CellResult, other: CellResult) -> dict[str, float]:
    """Return the numbers of a `Pair` for two cells of one task: shares of test examples."""
    labels = np.array(one["truths"])  # [examples]
    probabilities = [
        cell["probabilities"].reshape(len(labels), -1) for cell in (one, other)
    ]  # [examples, labels] each
    one_right, other_right = (p.argmax(1) == labels for p in probabilities)  # [examples] each
    ensemble_right = (probabilities[0] + probabilities[1]).argmax(1) == labels

    return {
        "ensemble": float(ensemble_right.mean()),
        "better": float(max(one_right.mean(), other_right.mean())),
        "both_wrong": float((~one_right & ~other_right).mean()),
        "one_right": float((one_right != other_right).mean()),
    }
