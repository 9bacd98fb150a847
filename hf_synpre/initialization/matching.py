"""A model's parameters and a checkpoint's tensors -> the source tensor of each parameter.

The model may have another size than the checkpoint. With n layers in the model and m in the
checkpoint, layer i takes the statistics of the layer nearest to i (m - 1) / (n - 1). A linear map
is scaled by sqrt(fan-in in the checkpoint / fan-in in the model), so that its outputs keep their
scale.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, apply_renamings

from hf_synpre.errors import UsageError
from hf_synpre.initialization.build import body_name, check_shape
from hf_synpre.initialization.checkpoints import STATISTICS_FILE, architecture
from hf_synpre.initialization.moments import Moments, pool
from hf_synpre.initialization.parameters import Parameter
from hf_synpre.initialization.schemes import Scheme
from hf_synpre.initialization.statistics import ParameterStatistics
from hf_synpre.initialization.stored_tensors import StoredTensors, outer_prefix


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of a checkpoint, seen as a parameter of the model."""

    # Its name in the checkpoint's files.
    stored_name: str

    # Its shape in the checkpoint.
    shape: tuple[int, ...]

    # The model's parameter, but in the checkpoint's layer: a scheme reads the tensor's group from
    # it.
    parameter: Parameter


class Matching:
    """Which tensor of a checkpoint belongs to which parameter of a model.

    Args:
        model: the model; its weights are not read, so it may be on the meta device.
        parameters: name -> role and layer of the model's parameters, as read_parameters returns
            them.
        stored_shapes: the name of each tensor of the checkpoint -> its shape.

    Attributes:
        source_tensors: template of a parameter -> its source tensors by their layer in the
            checkpoint (None outside the layers).
        stored_names: name in the base model, as this version of transformers writes it -> name in
            the checkpoint.
        model_depths: stack of layers -> number of layers in the model.
        checkpoint_depths: stack of layers -> number of layers in the checkpoint.
        left_over: names in the checkpoint of the tensors that the model has no place for.
        joins_tensors: whether transformers joins or splits some of the stored tensors when it loads
            this model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        parameters: Mapping[str, Parameter],
        stored_shapes: Mapping[str, tuple[int, ...]],
    ):
        self.model = model
        self.parameters = parameters

        # The model's stacks of layers.
        self.model_depths: dict[str, int] = {}
        for parameter in parameters.values():
            if parameter.layer is not None:
                stack = body_name(model, parameter.stack)
                depth = max(self.model_depths.get(stack, 0), parameter.layer + 1)
                self.model_depths[stack] = depth

        # The same parameter in all layers is one template, as layers.*.mlp.weight. A tied parameter
        # has one for each of its names: a checkpoint may have stored it under any of them.
        templates = {body_name(model, p.template): p for p in parameters.values()}
        for other_name, name in tied_names(model).items():
            templates.setdefault(body_name(model, other_name), parameters[name])

        # The checkpoint's names, old ones renamed as transformers does on loading, without what a
        # module around the model put before them.
        conversions = get_model_conversion_mapping(model)
        renamings = [each for each in conversions if isinstance(each, WeightRenaming)]
        self.joins_tensors = len(renamings) < len(conversions)

        def is_known(name: str) -> bool:
            stack, layer = find_layer(name, self.model_depths)
            return name.replace(f"{stack}.{layer}.", f"{stack}.*.", 1) in templates

        def new_name(stored_name: str) -> str:
            name = body_name(model, stored_name)
            if is_known(name):  # statistics of a model in memory have its own names
                return name
            return body_name(model, apply_renamings(stored_name, renamings))

        def fits(stored_name: str) -> bool:
            return is_known(new_name(stored_name))

        prefix = outer_prefix("The checkpoint", stored_shapes, fits)
        self.stored_names: dict[str, str] = {}
        for stored_name in stored_shapes:
            self.stored_names[new_name(stored_name.removeprefix(prefix))] = stored_name

        # Each tensor of the checkpoint belongs to the template that its name fits. One without a
        # parameter in the model still counts for the depth.
        buffers = {body_name(model, name) for name, _ in model.named_buffers()}
        self.left_over: list[str] = []
        self.checkpoint_depths: dict[str, int] = {}
        self.source_tensors: dict[str, dict[int | None, SourceTensor]] = defaultdict(dict)
        for name, stored_name in self.stored_names.items():
            stack, layer = find_layer(name, self.model_depths)
            template = name
            if layer is not None:
                template = name.replace(f"{stack}.{layer}.", f"{stack}.*.", 1)
                depth = max(self.checkpoint_depths.get(stack, 0), layer + 1)
                self.checkpoint_depths[stack] = depth
            if template not in templates:
                if name not in buffers:
                    self.left_over.append(stored_name)
                continue

            # The model's parameter as it would be in the checkpoint's layer.
            parameter = templates[template]
            name_in_layer = parameter.name
            if parameter.layer is not None:
                name_in_layer = parameter.template.replace("*", str(layer))
            source = SourceTensor(
                stored_name,
                tuple(stored_shapes[stored_name]),
                replace(parameter, name=name_in_layer, layer=layer),
            )
            # Of two names of a tied parameter that are both stored, its first one counts.
            by_layer = self.source_tensors[parameter.template]
            if layer not in by_layer or template == body_name(model, parameter.template):
                by_layer[layer] = source

    def all_source_tensors(self) -> Iterator[SourceTensor]:
        """Yield every tensor of the checkpoint that belongs to a parameter, in any layer."""
        for by_layer in self.source_tensors.values():
            yield from by_layer.values()

    def source_tensor(self, parameter: Parameter, resize: str) -> SourceTensor | None:
        """Return the source tensor of one parameter, None where the checkpoint has none.

        Args:
            parameter: one of the model's parameters.
            resize: "none" takes the same layer; "depth" and "fan_in" the one at the same relative
                depth where the checkpoint has another number of layers.
        """
        by_layer = self.source_tensors.get(parameter.template, {})
        if parameter.layer is None or not by_layer or resize == "none":
            return by_layer.get(parameter.layer)

        stack = body_name(self.model, parameter.stack)
        model_depth = self.model_depths[stack]
        checkpoint_depth = self.checkpoint_depths.get(stack)
        if checkpoint_depth is None or checkpoint_depth == model_depth:
            return by_layer.get(parameter.layer)

        # The nearest layer at the same relative depth, the lower one of two that are equally near.
        # A single layer of the model is its first.
        position = parameter.layer * (checkpoint_depth - 1) / max(model_depth - 1, 1)
        layers = [layer for layer in by_layer if layer is not None]
        return by_layer[min(layers, key=lambda layer: (abs(layer - position), layer))]

    def check_shapes(self) -> None:
        """Raise UsageError where a number of layers differs, or a shape but that of embeddings."""
        for stack, checkpoint_depth in self.checkpoint_depths.items():
            model_depth = self.model_depths[stack]
            if checkpoint_depth != model_depth:
                raise UsageError(
                    f"The checkpoint has {checkpoint_depth} layers in {stack}, the model "
                    f"{model_depth}; give a config with the checkpoint's number of layers."
                )
        for parameter in self.parameters.values():
            if parameter.part == "embedding":
                continue
            source = self.source_tensors.get(parameter.template, {}).get(parameter.layer)
            if source is not None:
                check_shape(parameter.name, source.shape, parameter.shape)


def match_parameters(
    selected: Iterable[Parameter],
    matching: Matching,
    source: ParameterStatistics | StoredTensors,
    resize: str,
    checkpoint: object = None,
    hub: Mapping[str, Any] | None = None,
) -> list[tuple[Parameter, SourceTensor]]:
    """Return the parameters that are filled, each with its source tensor.

    Args:
        selected: the parameters that the scheme fills.
        matching: which tensor belongs to which parameter.
        source: the statistics or weights, for the text of errors.
        resize: one of RESIZE.
        checkpoint: what `source` was read of: a folder or Hub id, for the text of errors.
        hub: where and how the Hub is asked.

    Returns:
        Pairs; heads and projections that the checkpoint lacks are left out, and stay fresh.

    Raises:
        UsageError: the checkpoint lacks another parameter, or a tensor's shape does not fit.
    """
    pairs, missing = [], []
    for parameter in selected:
        source_tensor = matching.source_tensor(parameter, resize)
        if source_tensor is not None:
            pairs.append((parameter, source_tensor))
        elif parameter.part not in ("head", "projection") and not parameter.fixed:
            missing.append(parameter.name)

    if missing or not pairs:
        missing = missing or [parameter.name for parameter in selected]
        raise missing_error(sorted(missing), matching, source, resize, checkpoint, hub)
    if resize == "none":
        matching.check_shapes()
    for parameter, source_tensor in pairs:
        if len(source_tensor.shape) != len(parameter.shape):
            check_shape(parameter.name, source_tensor.shape, parameter.shape)
    return pairs


def name_of_source(source: ParameterStatistics | StoredTensors, checkpoint: object) -> str:
    """Return how statistics or weights are called in texts: by the id or folder that was given.

    Args:
        source: the statistics or weights.
        checkpoint: what they were read of: a folder, a Hub id or something else.
    """
    return str(checkpoint) if isinstance(checkpoint, str | Path) else source.source


def missing_error(
    missing: list[str],
    matching: Matching,
    source: ParameterStatistics | StoredTensors,
    resize: str,
    checkpoint: object = None,
    hub: Mapping[str, Any] | None = None,
) -> UsageError:
    """Return the error on parameters that a checkpoint lacks: which ones, and what to do.

    Args:
        missing: the names of the parameters, sorted.
        matching: which tensor belongs to which parameter.
        source: the statistics or weights.
        resize: one of RESIZE.
        checkpoint: what `source` was read of: a folder, a Hub id or something else.
        hub: where and how the Hub is asked.
    """
    name = name_of_source(source, checkpoint)
    lacks = f"The statistics of {name} lack"
    if isinstance(source, StoredTensors):
        lacks = f"{name} lacks"

    listed = missing[0]
    if len(missing) > 1:
        listed += f" and {len(missing) - 1} more"

    remedy = "use a config of the same architecture."
    if resize == "none":
        remedy = "use a config of the same architecture and depth."
    if matching.joins_tensors:
        remedy = (
            "transformers joins stored tensors on loading; put "
            "ParameterStatistics.from_model(the loaded model)"
            f".save('{STATISTICS_FILE}') into the folder and take a scheme of statistics, or "
            f"{remedy}"
        )
    stored_type, model_type = architecture(checkpoint, hub or {}), matching.model.config.model_type
    if stored_type not in (None, model_type):
        remedy = f"it has the architecture {stored_type}, the model has {model_type}: {remedy}"
    return UsageError(f"{lacks} {listed} of the model's parameters; {remedy}")


def source_shapes(
    source: ParameterStatistics | StoredTensors,
) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor of a checkpoint."""
    if isinstance(source, StoredTensors):
        return source.shapes
    return {name: moments.shape for name, moments in source.parameters.items()}


def find_layer(name: str, stacks: Collection[str]) -> tuple[str, int | None]:
    """Return the stack of layers that a name is in, and the layer; ("", None) outside of all."""
    for stack in stacks:
        match = re.match(re.escape(stack) + r"\.(\d{1,9})\.", name)
        if match:
            return stack, int(match.group(1))
    return "", None


def tied_names(model: PreTrainedModel) -> dict[str, str]:
    """Return further name -> first name of the parameters that have several names."""
    first_names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        name: first_names[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name != first_names[id(parameter)]
    }


def pool_groups(
    scheme: Scheme, matching: Matching, measured: Mapping[str, Moments]
) -> dict[str | None, tuple[float, float]]:
    """Pool the moments of the checkpoint's tensors by group.

    Args:
        scheme: gives the group of a tensor.
        matching: which tensor belongs to which parameter; tensors that the model lacks are not
            pooled.
        measured: the name of a tensor in the checkpoint -> its moments.

    Returns:
        Name of the group -> mean and standard deviation of its tensors taken together.
    """
    members: dict[str | None, list[Moments]] = defaultdict(list)
    for source_tensor in matching.all_source_tensors():
        group = scheme.group(source_tensor.parameter)
        if group is not None:
            members[group].append(measured[source_tensor.stored_name])
    return {group: pool(moments) for group, moments in members.items()}
