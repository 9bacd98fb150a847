"""The steps of StatisticsInit around the draw: constants, copied weights and buffers, loading."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from hf_synpre.initialization.build import body_name, check_shape
from hf_synpre.initialization.load_report import refuse_redrawn, tensor_sums
from hf_synpre.initialization.matching import Matching, SourceTensor
from hf_synpre.initialization.parameters import Parameter
from hf_synpre.initialization.stored_tensors import StoredTensors


def fill_with_constant(model: PreTrainedModel, selected: Iterable[Parameter], value: float) -> None:
    """Set the gains of the selected norms to a constant, in place.

    A norm whose gain starts at 0 (Gemma's) adds 1 to it, so it gets `value` - 1.
    """
    named = dict(model.named_parameters())
    with torch.no_grad():
        for parameter in selected:
            gain = named[parameter.name]
            starts_at_zero = not gain.any()
            gain.fill_(value - 1 if starts_at_zero else value)


def copy_buffers(model: PreTrainedModel, source: StoredTensors, matching: Matching) -> None:
    """Copy a checkpoint's buffers, such as BatchNorm's running means, into a model in place."""
    parameter_names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    with torch.no_grad():
        for name in model.state_dict().keys() - parameter_names:
            stored_name = matching.stored_names.get(body_name(model, name))
            if stored_name is None:
                continue
            buffer = model.get_buffer(name)
            check_shape(name, source.shapes[stored_name], tuple(buffer.shape))
            buffer.copy_(source.stored(stored_name))


def check_vocabulary(pairs: Iterable[tuple[Parameter, SourceTensor]]) -> None:
    """Raise UsageError where token embeddings are copied that have another vocabulary."""
    for parameter, source_tensor in pairs:
        if parameter.part == "embedding":
            check_shape(
                parameter.name,
                source_tensor.shape,
                parameter.shape,
                "for another vocabulary give scheme='body_weights' or exclude=['embedding'], with "
                "which token embeddings stay fresh; else a config with the checkpoint's sizes.",
            )


def finish_loading(
    model: PreTrainedModel, config: PreTrainedConfig, folder: Path | None, kwargs: dict[str, Any]
) -> Any:
    """Return a model as transformers' loader would: its dtype, device, attention, in eval mode.

    Args:
        model: the float32 model on the CPU, with its load_report.
        config: the config that it was made of, which says the dtype that the caller wants.
        folder: the checkpoint's folder, for its generation config.
        kwargs: the keywords of from_pretrained that concern loading.

    Returns:
        The model; with output_loading_info=True in `kwargs`, the model and the loading info, in
        which missing_keys are the parameters with a fresh random init.
    """
    report = model.load_report
    with_info = kwargs.pop("output_loading_info", False)
    state = model.state_dict()
    sums = tensor_sums(state)
    loaded, info = type(model).from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True, **kwargs
    )
    refuse_redrawn(report.source, state, sums, loaded.state_dict())
    loaded.load_report = report
    # transformers would call it "None".
    loaded.name_or_path = loaded.config._name_or_path = ""
    if folder and (folder / "generation_config.json").exists() and loaded.can_generate():
        loaded.generation_config = GenerationConfig.from_pretrained(folder)

    if not with_info:
        return loaded
    info["missing_keys"] = {*report.missing, *report.fresh}
    return loaded, info
