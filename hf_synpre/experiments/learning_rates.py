"""The trials of a cell -> the one that is the best on the validation rows.

A trial has a learning rate, and in an arm with `initial_scales` a factor of the random weights.

A trial is a run of the arm on the task that is not tested. Its seed is that of no cell, so that the
choice favours none of the seeds that a report is made of.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def choose_trial(trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the best trial; of equal ones that of the lowest loss.

    Args:
        trials: the contents of their files.

    Raises:
        FloatingPointError: the loss of every trial is not finite.
    """
    best = max(trials, key=quality)
    if quality(best)[0] == -math.inf:
        rates = ", ".join(dict.fromkeys(str(trial["learning_rate"]) for trial in trials))
        raise FloatingPointError(
            f"no learning rate of {rates} has a finite loss; give smaller learning_rates"
        )
    return best


def quality(trial: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return what trials are compared by: more is better.

    The first number is the one that also chooses the weights of a run (`BestModel`); then come the
    loss, and the lower rate.
    """
    best = trial["best"]
    if best is None:  # the loss was not finite
        return -math.inf, -math.inf, -trial["learning_rate"]
    value, loss = best[trial["criterion"]], best["loss"]
    if trial["criterion"] == "loss":
        value = -value
    return value, -loss, -trial["learning_rate"]


def rates_tried(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a cell's file says of its trials: each rate and its best evaluation.

    The rates rise; the evaluation is None where the loss was not finite. Where scales were tried,
    each has its "initial_scale" too.
    """
    tried = [
        {key: trial[key] for key in ("learning_rate", "initial_scale", "best") if key in trial}
        for trial in trials
    ]
    return sorted(tried, key=lambda one: (one["learning_rate"], one.get("initial_scale", 1.0)))


def values_tried(cell: Mapping[str, Any]) -> set[tuple[float, float | None]]:
    """Return the learning rates and initial scales of the trials that a cell's file names.

    Args:
        cell: the content of the file.
    """
    return {
        (trial["learning_rate"], trial.get("initial_scale"))
        for trial in cell.get("learning_rates", [])
    }


def chosen_again(
    cell: Mapping[str, Any], header: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return the result of a cell after a change of its grid, where the choice is the same.

    Args:
        cell: the content of the cell's file, {} where there is none.
        header: what its file says of the arm and the task today.
        trials: the contents of the files of today's trials.

    Returns:
        The content of the file with today's trials. None where the cell has to be computed,
        because it has no result or the trials choose another rate or scale.
    """
    if cell.get("status") != "done" or not trials:
        return None
    best = choose_trial(trials)
    training = cell["config"]["finetuning"]["training"]
    choice = training["learning_rate"], cell.get("initial_scale")
    if choice != (best["learning_rate"], best.get("initial_scale")):
        return None
    config = {**cell["config"], **{part: header["config"][part] for part in ("arm", "task")}}
    return {**cell, "learning_rates": rates_tried(trials), "config": config}
