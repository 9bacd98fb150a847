"""Trainer's log of a run -> early stopping, warnings, and the weights of the best evaluation."""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState

from hf_synpre.training.arguments import WATCHABLE

logger = logging.getLogger(__name__)

# Values in Trainer's log of an evaluation that the curve of a pre-training run leaves out: times,
# and the score (the share of rows without any error), which only fine-tuning reports.
NOT_IN_CURVE = ("runtime", "samples_per_second", "steps_per_second", "score")

# Balanced accuracy of a discriminator: 0.5 is chance.
HAS_LEARNED = 0.55  # above this it has learned to tell replaced tokens from original ones
HAS_COLLAPSED = 0.51  # below this it is at chance (again)
# A discriminator that finds a smaller share of the replaced tokens calls every token original.
MAJORITY_RECALL = 0.01
# Nats by which noise of the evaluation alone may raise the held-out loss above its lowest value.
LOSS_RISE = 1.0


def evaluation_curve(
    log_history: list[dict[str, Any]], metrics: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Return the evaluations of a run, in their order.

    Args:
        log_history: Trainer's log (`trainer.state.log_history`), of training steps and evaluations.
        metrics: the metrics to keep, as "loss"; None keeps all but those of time and "score".

    Returns:
        One dict an evaluation: "step", then each metric without its prefix "eval_".
    """
    curve = []
    for log in log_history:
        if "eval_loss" not in log:
            continue

        # The metrics of one evaluation.
        point = {"step": log["step"]}
        for name, value in log.items():
            metric = name.removeprefix("eval_")
            if metric == name:
                continue
            if metrics is None:
                is_kept = metric not in NOT_IN_CURVE
            else:
                is_kept = metric in metrics
            if is_kept:
                point[metric] = value
        curve.append(point)
    return curve


def divergence_warnings(curve: list[dict[str, Any]]) -> list[str]:
    """Return a warning, one line, for each problem of a pre-training run.

    Args:
        curve: its evaluations so far, as `evaluation_curve` returns them. Those of a discriminator
            also have "balanced_accuracy", "replaced_recall" and "generator_loss".
    """
    if not curve:
        return []
    last = curve[-1]
    warnings = []

    # The loss. Of a generator and discriminator the generator's counts: the discriminator's rises
    # as the generator gets better.
    held_out_losses = [point.get("generator_loss", point["loss"]) for point in curve]
    if not all(math.isfinite(point["loss"]) for point in curve):
        warnings.append("the loss is not finite; give a smaller learning_rate")
    elif held_out_losses[-1] > min(held_out_losses) + LOSS_RISE:
        warnings.append(
            "the held-out loss has risen by more than 1 nat; the run diverges or memorises"
        )
    if "balanced_accuracy" not in last:
        return warnings

    # The discriminator.
    best = max(point["balanced_accuracy"] for point in curve)
    if best > HAS_LEARNED and last["balanced_accuracy"] < HAS_COLLAPSED:
        warnings.append(
            "the discriminator has collapsed: balanced accuracy "
            f"{last['balanced_accuracy']:.3f} after {best:.3f}"
        )
    elif len(curve) > 2 and last["replaced_recall"] < MAJORITY_RECALL and best < HAS_LEARNED:
        warnings.append(
            "the discriminator still calls every token original, as the majority floor does; it "
            "needs more steps, or objective mlm serves a budget of this size better"
        )
    return warnings


class DivergenceChecks(TrainerCallback):
    """Logs each warning of `divergence_warnings` once, at the evaluation that shows it first."""

    def __init__(self) -> None:
        self.logged: set[str] = set()

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs: Any
    ) -> None:
        for line in divergence_warnings(evaluation_curve(state.log_history)):
            if line not in self.logged:
                self.logged.add(line)
                logger.warning("step %d: %s", state.global_step, line)


class StopAtTargetAccuracy(TrainerCallback):
    """Early stopping: ends training once an evaluation reaches the target accuracy.

    Wu et al. (2022) pre-train to 99 % token accuracy; docs/papers.md, "Pre-training".

    Args:
        target: the metric's value that is enough, a share; above 1 nothing ends the run early.
        metric: its name in Trainer's log.
    """

    def __init__(self, target: float, metric: str = "eval_token_accuracy"):
        self.target, self.metric = target, metric

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs: Any
    ) -> None:
        if metrics[self.metric] >= self.target:
            control.should_training_stop = True


class StopAtLoss(TrainerCallback):
    """Early stopping: ends training once an evaluation's loss is small enough.

    Args:
        limit: the loss that is enough, in nats per target token.

    Attributes:
        has_stopped: whether it has ended training.
    """

    def __init__(self, limit: float):
        self.limit = limit
        self.has_stopped = False

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs: Any
    ) -> None:
        if metrics["eval_loss"] <= self.limit:
            control.should_training_stop = True
            self.has_stopped = True


class Deadline(TrainerCallback):
    """Ends training, with an evaluation, once it has taken a number of seconds.

    The seconds are those in Trainer's log: they are equal in all processes (`Meter.totals`), so
    that all stop at the same step, and a resumed run goes on counting.

    Args:
        seconds: the limit. Only training steps count, no evaluations and no waiting for rows.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict, **kwargs: Any
    ) -> None:
        if logs.get("train_s", 0.0) >= self.seconds:
            control.should_training_stop = True
            control.should_evaluate = True


class BestModel(TrainerCallback):
    """Keeps the weights of the best evaluation in memory, and the curve.

    Args:
        training_cost: returns the cost of the run so far, of which tokens and FLOPs go into the
            curve (`SynpreTrainer.training_cost`).
        patience: so many evaluations without a better one end the run; 0 never ends it early.
        criterion: what is compared: "token_accuracy" or "score", of which the highest is best, or
            "loss", of which the lowest is.

    Attributes:
        curve: one dict an evaluation: step, tokens, flops, loss, score; token_accuracy, where
            tokens are predicted.
        weights: the state dict of the best evaluation.
        seconds: the duration of all evaluations together.
        stopped: what ended the run: "budget" or "patience".
    """

    def __init__(
        self,
        training_cost: Callable[[], Mapping[str, Any]],
        patience: int = 0,
        criterion: str = "token_accuracy",
    ):
        self.training_cost, self.patience = training_cost, patience
        self.criterion = criterion
        self.curve: list[dict[str, float]] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.seconds = 0.0
        self.stopped = "budget"
        self._evaluations_since_best = 0

    @property
    def chosen(self) -> dict[str, float]:
        """The evaluation whose weights are kept."""
        return max(self.curve, key=self._quality)

    def _quality(self, point: dict[str, float]) -> float:
        """Return the criterion of an evaluation, higher where it is better."""
        value = point[self.criterion]
        return -value if self.criterion == "loss" else value

    def on_evaluate(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Add the evaluation to the curve; keep the weights where they are the best so far."""
        cost = self.training_cost()
        point = {"step": state.global_step, "tokens": cost["tokens"], "flops": cost["flops"]}
        for name in WATCHABLE:
            if f"eval_{name}" in metrics:
                point[name] = metrics[f"eval_{name}"]

        best = max(map(self._quality, self.curve), default=-math.inf)
        if self._quality(point) > best:
            state_dict = model.state_dict()
            self.weights = {name: tensor.detach().clone() for name, tensor in state_dict.items()}
            self._evaluations_since_best = 0
        else:
            self._evaluations_since_best += 1

        self.curve.append(point)
        self.seconds += metrics.get("eval_runtime", 0.0)

        # At the last step the budget ends the run, not impatience.
        impatient = self.patience and self._evaluations_since_best >= self.patience
        if impatient and state.global_step < args.max_steps:
            control.should_training_stop = True
            self.stopped = "patience"
