"""Layer 3: the schemes: which parameters share their moments, and what a tensor becomes (Wu et al. 2022, section 5).

A scheme is a key function: a parameter -> the name of its group, None where it stays the model's own random init. The
moments of a group are those of its tensors in the checkpoint taken together; each tensor of the model is then filled by
itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hf_synpre.initialization.roles import PARTS, Parameter

Key = Callable[[Parameter], str | None]


@dataclass(frozen=True)
class Scheme:
    """A key function and what fills a tensor.

    `fill`: "mean_sd" is N(mean, sd) everywhere; "scale" is N(0, sd), but for norms the constant mean; "constant" is the
    constant `value` of StatisticsInit, without a checkpoint; "weights" copies the checkpoint's values. `by_role`: whether
    roles must be known; `embeddings`: whether token embeddings are taken without being asked for.
    """

    key: Key
    fill: str
    by_role: bool = True
    embeddings: bool = False

    @property
    def needs_checkpoint(self) -> bool:
        """Whether there is something to read from a checkpoint."""
        return self.fill != "constant"


def per_param(p: Parameter) -> str:
    """Every tensor by itself."""
    return p.name


def whole_model(p: Parameter) -> str:
    """All matrices of attention, MLP and projections together, all norms, all position tables; heads by themselves."""
    pooled = {
        "attention": "matrices",
        "mlp": "matrices",
        "projection": "matrices",
        "norm": "norms",
        "position": "positions",
    }
    return pooled_name(p, pooled.get(p.part))


def across_layers(p: Parameter) -> str:
    """One group a role, over all layers and stacks: queries, keys, values, outputs, MLP, three kinds of norms, positions."""
    return pooled_name(p, None if p.part in ("embedding", "head", "other") else p.role)


def per_layer(p: Parameter) -> str:
    """The matrices of a layer together, and its norms; what is no layer's, and position tables, by themselves."""
    kind = {"attention": "matrices", "mlp": "matrices", "norm": "norms"}.get(p.part)
    return pooled_name(
        p, None if p.layer is None or kind is None else f"{p.stack}.{p.layer}.{kind}"
    )


def pooled_name(p: Parameter, group: str | None) -> str:
    """Return the name of a group, biases apart; the parameter's own where there is none."""
    return p.name if group is None else group + " biases" * p.bias


def only(*roles: str) -> Key:
    """Return the key function of a scheme that takes the tensors of these roles by themselves."""
    return lambda p: p.name if p.role in roles else None


SCHEMES: dict[str, Scheme] = {
    "per_param_mean_sd": Scheme(per_param, "mean_sd", by_role=False),
    "per_param_scale": Scheme(per_param, "scale"),
    "whole_model_scale": Scheme(whole_model, "scale"),
    "across_layers_scale": Scheme(across_layers, "scale"),
    "per_layer_scale": Scheme(per_layer, "scale"),
    "pre_attn_ln_scale": Scheme(only("pre_attention_norm"), "scale"),
    "pre_mlp_ln_scale": Scheme(only("pre_mlp_norm"), "scale"),
    "attention_scale": Scheme(only(*PARTS["attention"]), "scale"),
    "mlp_scale": Scheme(only("mlp"), "scale"),
    "constant_pre_attn_ln": Scheme(
        lambda p: None if p.bias else only("pre_attention_norm")(p), "constant"
    ),
    "weights": Scheme(per_param, "weights", by_role=False, embeddings=True),
    "body_weights": Scheme(per_param, "weights", by_role=False),
    "attention_weights": Scheme(only(*PARTS["attention"]), "weights"),
    "mlp_weights": Scheme(only("mlp"), "weights"),
    "norm_weights": Scheme(only(*PARTS["norm"]), "weights"),
}
