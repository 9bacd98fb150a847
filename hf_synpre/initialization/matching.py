"""Layer 3: which tensor of a checkpoint belongs to which parameter of a model, of the same size or of another.

Another size of the same family: layer i of n takes the statistics of the layer of the checkpoint's m that is nearest to
i (m - 1) / (n - 1), and a linear map is scaled by sqrt(fan-in there / fan-in here), so that its outputs keep their scale.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, apply_renamings

from hf_synpre.errors import UsageError
from hf_synpre.initialization.roles import Parameter


def bare_names(model: PreTrainedModel) -> Callable[[str], str]:
    """Return the function that takes the name of the base model off a parameter's name."""
    return lambda name: (
        name.removeprefix(f"{model.base_model_prefix}.") if model.base_model_prefix else name
    )


def check_shape(name: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise UsageError where a tensor does not fit."""
    if stored != wanted:
        raise UsageError(f"{name} has shape {list(stored)}, the model wants {list(wanted)}.")


@dataclass(frozen=True)
class Twin:
    """What a checkpoint has for a parameter: its stored name, its shape there, and its place as the model would name it."""

    stored: str
    shape: tuple[int, ...]
    place: Parameter


class Matching:
    """The twins of a model's parameters among a checkpoint's tensors, given as name -> shape."""

    def __init__(
        self,
        model: PreTrainedModel,
        parameters: dict[str, Parameter],
        shapes: Mapping[str, tuple[int, ...]],
    ):
        bare = bare_names(model)
        conversions = get_model_conversion_mapping(model)
        renamings = [r for r in conversions if isinstance(r, WeightRenaming)]
        self.fused = len(renamings) < len(
            conversions
        )  # transformers joins or splits some stored tensors on loading
        found = {bare(apply_renamings(name, renamings)): name for name in shapes}
        self.depth_here, self.depth_there = depths(parameters, bare), {}
        self.twins: dict[str, dict[int | None, Twin]] = defaultdict(
            dict
        )  # template -> layer -> twin
        templates = {bare(p.template): p for p in parameters.values()}
        templates |= {
            bare(alias): parameters[name]
            for alias, name in tied_names(model).items()
            if bare(alias) not in templates
        }
        stacks = {bare(p.stack) for p in parameters.values() if p.layer is not None}
        for name, stored in found.items():
            stack, layer = next(
                ((s, i) for s in stacks if (i := index_in(name, s)) is not None), ("", None)
            )
            template = (
                name if layer is None else name.replace(f"{stack}.{layer}.", f"{stack}.*.", 1)
            )
            if layer is not None:
                self.depth_there[stack] = max(self.depth_there.get(stack, 0), layer + 1)
            if template in templates:
                p = templates[template]
                place = replace(
                    p,
                    name=p.template.replace("*", str(layer)) if p.layer is not None else p.name,
                    layer=layer,
                )
                self.twins[p.template].setdefault(layer, Twin(stored, tuple(shapes[stored]), place))
        self.bare, self.parameters, self.found = bare, parameters, found

    def check_shapes(self) -> None:
        """Raise UsageError where a tensor does not fit its parameter, or layers are too many; the vocabulary may differ."""
        for stack, there in self.depth_there.items():
            if there != (here := self.depth_here[stack]):
                raise UsageError(
                    f"The checkpoint has {there} layers in {stack}, the model wants {here}."
                )
        for p in self.parameters.values():
            if p.part != "embedding" and (twin := self.twins.get(p.template, {}).get(p.layer)):
                check_shape(p.name, twin.shape, p.shape)

    def all(self) -> Iterable[Twin]:
        """Return all twins."""
        return (twin for layers in self.twins.values() for twin in layers.values())

    def twin(self, p: Parameter, resize: str) -> Twin | None:
        """Return the twin of a parameter: in the same layer, or at the same relative depth where sizes may differ."""
        layers, stack = self.twins.get(p.template, {}), self.bare(p.stack)
        here, there = self.depth_here.get(stack), self.depth_there.get(stack)
        if p.layer is None or resize == "none" or here == there or not layers:
            return layers.get(p.layer)
        wanted = p.layer * (there - 1) / max(here - 1, 1)
        return layers[min(layers, key=lambda i: (abs(i - wanted), i))]


def index_in(name: str, stack: str) -> int | None:
    """Return the layer that a name says within a stack, None where it is not in it."""
    found = re.match(re.escape(stack) + r"\.(\d+)\.", name)
    return found and int(found.group(1))


def depths(parameters: Mapping[str, Parameter], bare: Callable[[str], str]) -> dict[str, int]:
    """Return stack -> number of layers."""
    found: dict[str, int] = {}
    for p in parameters.values():
        if p.layer is not None:
            found[bare(p.stack)] = max(found.get(bare(p.stack), 0), p.layer + 1)
    return found


def tied_names(model: PreTrainedModel) -> dict[str, str]:
    """Return further name -> first name of the parameters that have several."""
    first = {id(p): name for name, p in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if name != first[id(p)]}
