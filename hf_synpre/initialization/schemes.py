"""Schemes: a parameter -> the name of its group, and what fills it (Wu et al. 2022, section 5).

A scheme's group function maps a parameter to the name of its group, or to None where the parameter
keeps the model's random init. The moments of a group are those of its tensors in the checkpoint
taken together; each tensor of the model is then drawn separately.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hf_synpre.errors import choose
from hf_synpre.initialization.parameters import PARTS, Parameter

# Where a scheme is defined that is in no paper.
OURS = "hf_synpre"

GroupFunction = Callable[[Parameter], str | None]


@dataclass(frozen=True, repr=False)
class Scheme:
    """Which parameters share their moments, and what fills a tensor."""

    # A parameter -> the name of its group; None if it keeps the model's random init.
    group: GroupFunction

    # What fills a tensor of a group with moments (mean, sd):
    # "mean_sd"   N(mean, sd);
    # "scale"     N(0, sd), but for norms the constant mean;
    # "constant"  the constant `value` of StatisticsInit, without a checkpoint;
    # "weights"   the checkpoint's own values;
    # "permuted"  the checkpoint's own values, in random order within each tensor;
    # "start"     what a function of learning_free.py draws, without a checkpoint.
    # FILLS has them all in words.
    fill: Literal[
        "mean_sd",
        "scale",
        "generalized_gaussian",
        "constant",
        "start",
        "weights",
        "permuted",
        "permuted_rows",
        "permuted_columns",
        "rescaled",
        "row_column_norms",
        "spectral",
        "per_head",
    ]

    # Whether the roles of all parameters must be known.
    by_role: bool = True

    # Whether token embeddings are filled without being named in `include`.
    embeddings: bool = False

    # Where the scheme is defined.
    paper: str = "Wu, Li, Liang 2022, arXiv 2206.10139"

    def __repr__(self) -> str:
        """Return its name, and what fills a tensor."""
        names = [name for name, scheme in SCHEMES.items() if scheme is self]
        return f"<Scheme {' '.join(names)}: {FILLS[self.fill]}>"

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the scheme reads statistics or weights of a checkpoint."""
        return self.fill not in ("constant", "start")

    @property
    def reads_statistics(self) -> bool:
        """Whether the scheme can draw from the checkpoint's statistics, its values not needed."""
        return self.fill in ("mean_sd", "scale", "generalized_gaussian", "spectral")

    @property
    def reads_weights(self) -> bool:
        """Whether the scheme needs the checkpoint's values, not only their statistics."""
        return self.needs_checkpoint and not self.reads_statistics

    @property
    def copies(self) -> bool:
        """Whether each tensor is made of the values of one of the same size."""
        return self.reads_weights and self.fill != "per_head"


def check_scheme(name: str) -> str:
    """Return the name of a scheme. Raises UsageError, which lists all, where there is none."""
    return choose("scheme", name, SCHEMES, most_listed=len(SCHEMES))


def per_param(p: Parameter) -> str:
    """Every tensor by itself."""
    return p.name


def whole_model(p: Parameter) -> str:
    """All matrices together, all norms, all position tables; heads and the rest by themselves."""
    if p.part in ("attention", "mlp", "projection"):
        return pooled_group(p, "matrices")
    if p.part == "norm":
        return pooled_group(p, "norms")
    if p.part == "position":
        return pooled_group(p, "positions")
    return p.name


def across_layers(p: Parameter) -> str:
    """One group a role over all layers and stacks: queries, keys, values, outputs, MLP ..."""
    if p.part in ("embedding", "head", "other") or p.role is None:
        return p.name
    return pooled_group(p, p.role)


def per_layer(p: Parameter) -> str:
    """The matrices of a layer together, and its norms; everything else by itself."""
    if p.layer is None:
        return p.name
    if p.part in ("attention", "mlp"):
        return pooled_group(p, f"{p.stack}.{p.layer}.matrices")
    if p.part == "norm":
        return pooled_group(p, f"{p.stack}.{p.layer}.norms")
    return p.name


def pre_attention_gains(p: Parameter) -> str | None:
    """The gains of the norms before attention, without their biases."""
    if p.role == "pre_attention_norm" and not p.bias:
        return p.name
    return None


def matrices(*parts: str) -> GroupFunction:
    """Return the group function that takes the matrices of these parts, each by itself."""

    def group(p: Parameter) -> str | None:
        return p.name if p.part in parts and not p.bias else None

    return group


def pooled_group(p: Parameter, group: str) -> str:
    """Return the name of a parameter's group: biases are pooled with biases only."""
    if p.bias:
        return f"{group} biases"
    return group


def only(*roles: str) -> GroupFunction:
    """Return the group function that takes the tensors of these roles, each by itself."""

    def group(p: Parameter) -> str | None:
        return p.name if p.role in roles else None

    return group


# What fills a tensor -> in words.
FILLS = {
    "mean_sd": "normal numbers of the group's mean and deviation",
    "scale": "normal numbers of mean 0 and the group's deviation; norms its mean",
    "constant": "a constant",
    "generalized_gaussian": "generalised normal numbers of the tensor's mean, deviation and shape",
    "start": "numbers that need no checkpoint",
    "weights": "the checkpoint's own values",
    "permuted": "the checkpoint's own values, in random order within each tensor",
    "permuted_rows": "the checkpoint's own values, in random order within each row",
    "permuted_columns": "the checkpoint's own values, in random order within each column",
    "rescaled": "the checkpoint's own values, matrices scaled to the deviation 0.02",
    "row_column_norms": "normal numbers with the norms of the checkpoint's rows and columns",
    "spectral": "the checkpoint's singular values between random singular vectors",
    "per_head": "normal numbers of the mean and deviation of each attention head",
}

SCHEMES: dict[str, Scheme] = {
    # Wu et al. 2022
    "per_param_mean_sd": Scheme(per_param, "mean_sd", by_role=False),
    "per_param_scale": Scheme(per_param, "scale"),
    "whole_model_scale": Scheme(whole_model, "scale"),
    "across_layers_scale": Scheme(across_layers, "scale"),
    "per_layer_scale": Scheme(per_layer, "scale"),
    "pre_attn_ln_scale": Scheme(only("pre_attention_norm"), "scale"),
    "pre_mlp_ln_scale": Scheme(only("pre_mlp_norm"), "scale"),
    "attention_scale": Scheme(only(*PARTS["attention"]), "scale"),
    "mlp_scale": Scheme(only("mlp"), "scale"),
    "constant_pre_attn_ln": Scheme(pre_attention_gains, "constant"),
    # Copies of the checkpoint's values, whole or by part
    "weights": Scheme(per_param, "weights", by_role=False, embeddings=True, paper=OURS),
    "body_weights": Scheme(per_param, "weights", by_role=False, paper=OURS),
    "attention_weights": Scheme(only(*PARTS["attention"]), "weights", paper=OURS),
    "mlp_weights": Scheme(only("mlp"), "weights", paper=OURS),
    "norm_weights": Scheme(only(*PARTS["norm"]), "weights", paper=OURS),
    # Controls: every tensor, row or column keeps its values, and loses what was in their places
    "permuted_weights": Scheme(per_param, "permuted", by_role=False, paper=OURS),
    "permuted_rows": Scheme(per_param, "permuted_rows", by_role=False, paper=OURS),
    "permuted_columns": Scheme(per_param, "permuted_columns", by_role=False, paper=OURS),
    # A control: the direction of each matrix without its scale
    "rescaled_weights": Scheme(per_param, "rescaled", by_role=False, paper=OURS),
    # Finer statistics than a mean and a deviation a tensor
    "generalized_gaussian": Scheme(
        per_param,
        "generalized_gaussian",
        by_role=False,
        paper="arXiv 2506.00486 (the shape), and Wu et al. 2022 (mean and deviation)",
    ),
    "per_head": Scheme(per_param, "per_head", paper=OURS),
    "row_column_norms": Scheme(per_param, "row_column_norms", by_role=False, paper=OURS),
    "spectral": Scheme(per_param, "spectral", by_role=False, paper=OURS),
    # Without a checkpoint
    "mimetic": Scheme(
        matrices("attention"),
        "start",
        by_role=False,
        paper="Trockman and Kolter 2023, arXiv 2305.09828",
    ),
    "symmetric_qk": Scheme(only("key", "qkv"), "start", by_role=False, paper="arXiv 2502.10927"),
    "gamma": Scheme(matrices("attention", "mlp", "projection"), "start", paper="arXiv 2606.17945"),
    "log_unigram_head": Scheme(
        only("embedding", "final_norm"), "start", embeddings=True, paper=OURS
    ),
}
