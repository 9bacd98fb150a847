"""Layer 3: what transformers lacks of optimizers and schedules: ELECTRA's Adam and decay, a rate of its own for a layer."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel


class UncorrectedAdamW(Optimizer):
    """AdamW without the correction of the moments' bias, as BERT and ELECTRA were trained (google-research/electra)."""

    def __init__(
        self,
        params: Any,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:
        """Take one step: m, v <- moments; w <- w - lr (m / (sqrt(v) + eps) + weight_decay w)."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params, [p.grad for p in params])
        return loss

    def _update(
        self, group: dict[str, Any], params: list[torch.Tensor], grads: list[torch.Tensor]
    ) -> None:
        for p in params:
            self.state[p] = self.state[p] or {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        (first, second), m, v = (
            group["betas"],
            *([self.state[p][name] for p in params] for name in ("m", "v")),
        )
        torch._foreach_lerp_(m, grads, 1 - first)
        torch._foreach_mul_(v, second)
        torch._foreach_addcmul_(v, grads, grads, 1 - second)
        scale = torch._foreach_sqrt(v)
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(params, m, scale, -group["lr"])


def rsqrt(step: int, warmup: int, total: int) -> float:
    """T5X's: one over the root of the step, constant for 10,000 steps."""
    return max(step, 10_000) ** -0.5


def electra(step: int, warmup: int, total: int) -> float:
    """ELECTRA's: linear warm-up times linear decay over all steps, so that they overlap."""
    return min(1.0, step / max(warmup, 1)) * max(0.0, 1 - step / max(total, 1))


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {"rsqrt": rsqrt, "electra": electra}

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block|blocks)\.(\d+)\.")


def depth_of(name: str, layers: int) -> int:
    """Return how deep a parameter lies: 0 embeddings, 1.. the layers, layers + 1 what comes after them."""
    if found := LAYER.search(name):
        return int(found[1]) + 1
    return 0 if "embedding" in name or re.search(r"(^|\.)(shared|wte|wpe)\.", name) else layers + 1


def layer_groups(
    model: PreTrainedModel,
    decayed: Iterable[str],
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float,
) -> list[dict[str, Any]]:
    """Return an optimizer's groups: the rate of a layer is `layer_decay` times that of the one above it.

    The head has the whole rate (Clark et al. 2020, who mean this; their code decays twice as fast: electra#51).
    """
    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    layers = max((depth_of(name, 0) for name in names if LAYER.search(name)), default=0)
    wanted, groups = set(decayed), {}
    for name, parameter in names.items():
        key = depth_of(name, layers), name in wanted
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": found,
            "lr": lr * layer_decay ** (layers + 1 - depth),
            "weight_decay": weight_decay if decay else 0.0,
        }
        for (depth, decay), found in sorted(groups.items())
    ]
