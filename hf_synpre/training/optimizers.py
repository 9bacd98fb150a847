"""Optimizers and learning-rate schedules that transformers lacks.

ELECTRA's Adam (`UncorrectedAdamW`), the schedules of T5X and ELECTRA (`SCHEDULES`: step -> factor),
and a learning rate for each layer (`layer_groups`: a model -> groups of parameters).
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel


class UncorrectedAdamW(Optimizer):
    """AdamW without the correction of the moments' bias, as BERT and ELECTRA were trained.

    After google-research/electra; docs/papers.md, "Self-pretraining: recipes".

    Args:
        params: parameters, or groups of them, as for every optimizer of torch.
        lr: the learning rate.
        betas: how much of the first and of the second moment is kept in a step.
        eps: added to the root of the second moment.
        weight_decay: the share of a weight that a step takes away, times the learning rate.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:
        """Take one step: m, v <- moments; w <- w - lr (m / (sqrt(v) + eps) + weight_decay w)."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params)
        return loss

    def _update(self, group: dict[str, Any], params: list[torch.Tensor]) -> None:
        """Update a group's parameters that have a gradient, in one call of torch an operation."""
        for p in params:
            if not self.state[p]:
                self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        grads = [p.grad for p in params]
        first_moments = [self.state[p]["m"] for p in params]
        second_moments = [self.state[p]["v"] for p in params]
        first_beta, second_beta = group["betas"]

        # The moments.
        torch._foreach_lerp_(first_moments, grads, 1 - first_beta)
        torch._foreach_mul_(second_moments, second_beta)
        torch._foreach_addcmul_(second_moments, grads, grads, 1 - second_beta)

        # The step.
        scales = torch._foreach_sqrt(second_moments)
        torch._foreach_add_(scales, group["eps"])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(params, first_moments, scales, -group["lr"])


def rsqrt(step: int, warmup: int, total: int) -> float:
    """T5X's schedule: one over the root of the step, constant for 10,000 steps."""
    return max(step, 10_000) ** -0.5


def electra(step: int, warmup: int, total: int) -> float:
    """ELECTRA's schedule: linear warm-up times linear decay over all steps; they overlap."""
    warmup_share = min(1.0, step / max(warmup, 1))
    left_share = max(0.0, 1 - step / max(total, 1))
    return warmup_share * left_share


class Schedule(Protocol):
    """A learning-rate schedule: a step -> the factor of the learning rate."""

    def __call__(self, step: int, warmup: int, total: int) -> float:
        """Return the factor at a step of a run of `total` steps, `warmup` of them warm-up."""
        ...


SCHEDULES: dict[str, Schedule] = {"rsqrt": rsqrt, "electra": electra}

# A layer's number in the name of a parameter, and the names of embeddings (T5's, GPT-2's).
LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block|blocks)\.(\d+)\.")
EMBEDDING = re.compile(r"embedding|(^|\.)(shared|wte|wpe)\.")


def layer_depth(name: str, layers: int) -> int:
    """Return how deep a parameter lies.

    Args:
        name: the parameter's, as "encoder.layer.3.output.dense.weight".
        layers: how many layers the model has.

    Returns:
        0 for embeddings, 1 to `layers` for those, `layers` + 1 for what comes after them.
    """
    layer = LAYER.search(name)
    if layer is not None:
        return int(layer[1]) + 1
    return 0 if EMBEDDING.search(name) else layers + 1


def layer_groups(
    model: PreTrainedModel,
    decayed: Iterable[str],
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float,
) -> list[dict[str, Any]]:
    """Return an optimizer's groups of parameters, with a learning rate for each layer.

    Clark et al. 2020 mean this; their code decays twice as fast (google-research/electra#51).

    Args:
        model: the model; its frozen parameters are left out.
        decayed: names of the parameters that have weight decay.
        lr: the learning rate of the head.
        weight_decay: the weight decay of those parameters.
        layer_decay: the rate of a layer over that of the layer above it.

    Returns:
        Dicts of params, lr and weight_decay, from the embeddings to the head.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with_decay = set(decayed)
    layers = max((layer_depth(name, 0) for name in trained if LAYER.search(name)), default=0)

    params_by_group: dict[tuple[int, bool], list[torch.Tensor]] = {}
    for name, parameter in trained.items():
        group = layer_depth(name, layers), name in with_decay
        params_by_group.setdefault(group, []).append(parameter)

    groups = []
    for (depth, has_decay), params in sorted(params_by_group.items()):
        layers_above = layers + 1 - depth
        group_decay = weight_decay if has_decay else 0.0
        rate = lr * layer_decay**layers_above
        groups.append({"params": params, "lr": rate, "weight_decay": group_decay})
    return groups
