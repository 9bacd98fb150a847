"""Layer 4: is a pre-training run well? Its curve of evaluations is asked, while it runs and at its end."""

import logging
import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

logger = logging.getLogger(__name__)
LEARNED, LOST = (
    0.55,
    0.51,
)  # balanced accuracy of a discriminator that has learned something, and of one that knows nothing


def alarms(curve: list[dict[str, Any]]) -> list[str]:
    """Return one line for everything that is wrong with a run, by its evaluations so far."""
    if not curve:
        return []
    last, losses = curve[-1], [point["loss"] for point in curve]
    found = []
    if not all(map(math.isfinite, losses)):
        found.append("the loss is not finite; give a smaller learning_rate")
    elif (
        last.get("generator_loss", last["loss"])
        > min(p.get("generator_loss", p["loss"]) for p in curve) + 1
    ):
        found.append(
            "the held-out loss has risen by more than 1 nat; the run diverges or memorises"
        )
    if "balanced_accuracy" in last:
        best = max(point["balanced_accuracy"] for point in curve)
        if best > LEARNED and last["balanced_accuracy"] < LOST:
            found.append(
                f"the discriminator has collapsed: balanced accuracy {last['balanced_accuracy']:.3f} after {best:.3f}"
            )
        elif len(curve) > 2 and last["replaced_recall"] < 0.01 and best < LEARNED:
            found.append(
                "the discriminator still calls every token original, as the majority floor does; it needs more steps, or "
                "objective mlm serves a budget of this size better"
            )
    return found


class HealthWatch(TrainerCallback):
    """Warns at an evaluation of what is newly wrong by then; see `alarms`."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs: Any
    ) -> None:
        points = [log for log in state.log_history if "eval_loss" in log]
        curve = [
            {name.removeprefix("eval_"): value for name, value in log.items()} for log in points
        ]
        for line in set(alarms(curve)) - self.said:
            self.said.add(line)
            logger.warning("step %d: %s", state.global_step, line)
