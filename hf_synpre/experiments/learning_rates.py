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
