"""Parts of a model and roles of its parameters; `Parameter`: one parameter, its role and layer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

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

    # One of ROLES; None if no rule of roles.py decides it.
    role: str | None

    # The name of the stack of layers that it is in, as "encoder.block", and the layer's index; ""
    # and None outside.
    stack: str
    layer: int | None

    bias: bool

    # The axes that a linear map sums over; () for a parameter that is no linear map.
    summed_axes: tuple[int, ...]

    # A matrix that is no module's weight (those of experts): over which axes it sums is not known.
    axes_unknown: bool = False

    # A table that is computed, as sinusoids, and not learned.
    fixed: bool = False

    # Of the matrices of experts, whether they are stored as [experts, inputs, outputs]; None where
    # the module does not say.
    transposed: bool | None = None

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

    def as_maps(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a view of a tensor of the parameter's shape as linear maps.

        Args:
            tensor: of two axes or more. The axes of a convolution's kernel count as inputs. A table
                of positions is seen as it is, a map from columns to rows; so are the matrices of
                experts where the module does not say which of their axes are inputs.

        Returns:
            [maps, outputs, inputs]; one map but for experts, which have one each.
        """
        if self.axes_unknown and tensor.dim() == 3:
            return tensor.transpose(1, 2) if self.transposed else tensor
        if self.summed_axes == (0,):  # Conv1D stores [inputs, outputs]
            return tensor.T[None]
        return tensor.flatten(1)[None]

    def fan_in_scale(self, source_shape: tuple[int, ...]) -> float:
        """Return the factor of mean and sd when a parameter comes from another size.

        Args:
            source_shape: the shape of the tensor in the checkpoint, with as many axes as the
                parameter.

        Returns:
            sqrt(inputs of an output in the checkpoint / in the model); 1 for a parameter that is no
            linear map.

        Raises:
            UsageError: over which axis the map sums is not known, and the axes change by different
                ratios.
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
    """Raise UsageError where roles are not known; the text names the parameters and the remedy.

    Args:
        parameters: name -> parameter.
        purpose: what needs the roles; the error begins with it.
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
