"""The words for a model's parameters: parts, roles; one parameter with its role and layer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hf_synpre.errors import UsageError

# Part of a model -> the roles of its parameters.
PARTS = {
    "attention": ("query", "key", "value", "output", "qkv"),
    "mlp": ("mlp",),
    "norm": ("pre_attention_norm", "pre_mlp_norm", "qk_norm", "final_norm", "embedding_norm"),
    "position": ("position",),
    "projection": ("projection",),
    "other": ("other",),
    "embedding": ("embedding",),
    "head": ("head",),
}
ROLES = tuple(role for roles in PARTS.values() for role in roles)

MOST_LISTED = 8  # parameters in an error


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model: its role, its layer, its shape."""

    name: str
    shape: tuple[int, ...]

    # One of ROLES, None where no rule tells it.
    role: str | None

    # The name of the stack of layers that it is in, as "encoder.block", and the layer's index; ""
    # and None outside.
    stack: str
    layer: int | None

    bias: bool

    # The axes that a linear map sums over; () for what is no linear map.
    summed_axes: tuple[int, ...]

    # A matrix without a module of its own (of experts): it has summed axes, and nothing tells
    # which.
    axes_unknown: bool = False

    # A table that is computed, as sinusoids, and not learned.
    fixed: bool = False

    @property
    def part(self) -> str | None:
        """The part of the model that the role belongs to, a key of PARTS."""
        for part, roles in PARTS.items():
            if self.role in roles:
                return part
        return None

    @property
    def template(self) -> str:
        """The name with * for the index of its layer: the same in every layer."""
        if self.layer is None:
            return self.name
        return self.name.replace(f"{self.stack}.{self.layer}.", f"{self.stack}.*.", 1)

    def fan_in_scale(self, source_shape: tuple[int, ...]) -> float:
        """Return the factor of mean and sd when a parameter comes from another size.

        Args:
            source_shape: the shape of the tensor in the checkpoint, with as many axes as the
                parameter.

        Returns:
            sqrt(inputs that an output sums in the checkpoint / in the model); 1 for what is no
            linear map.

        Raises:
            UsageError: nothing tells which side the map sums over, and the sides change
                differently.
        """
        candidates = [self.summed_axes]
        if self.axes_unknown:
            candidates = [(-2,), (-1,)]

        ratios = set()
        for axes in candidates:
            source_inputs = math.prod(source_shape[axis] for axis in axes)
            ratios.add(source_inputs / math.prod(self.shape[axis] for axis in axes))
        if len(ratios) > 1:
            raise UsageError(
                f"{self.name} goes from {list(source_shape)} to {list(self.shape)}, and nothing "
                "tells which side it sums over; give resize='depth' or sizes that change alike."
            )
        return math.sqrt(ratios.pop())


def require_roles(parameters: Mapping[str, Parameter], purpose: str) -> None:
    """Raise UsageError where a role is not known: of which parameters, and how to give it.

    Args:
        parameters: name -> parameter.
        purpose: what needs the roles, the first words of the error.
    """
    templates = sorted({p.template for p in parameters.values() if p.role is None})
    if not templates:
        return
    listed = ", ".join(templates[:MOST_LISTED])
    if len(templates) > MOST_LISTED:
        listed += f" and {len(templates) - MOST_LISTED} more"
    raise UsageError(
        f"{purpose} needs the role of every parameter, and the modules do not tell that of "
        f"{listed}; pass roles={{'{templates[0]}': ROLE, ...}} with roles of: {', '.join(ROLES)}."
    )
