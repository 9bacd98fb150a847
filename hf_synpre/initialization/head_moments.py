"""Mean and deviation of each attention head of a checkpoint -> normal numbers, head by head.

A model may have another number of heads than the checkpoint. Then the checkpoint's heads are sorted
by their deviation, and the model's heads take them at the same relative rank: of 8 heads for 4 the
second, the fourth, the sixth and the last; of 4 for 8 each twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_synpre.errors import UsageError
from hf_synpre.initialization.attention_blocks import HeadView, heads_by_parameter
from hf_synpre.initialization.build import skeleton
from hf_synpre.initialization.checkpoints import checkpoint_config
from hf_synpre.initialization.matching import SourceTensor
from hf_synpre.initialization.moments import Moments
from hf_synpre.initialization.parameters import Parameter
from hf_synpre.initialization.roles import read_parameters

# The view of the heads of one role in the model, and in the checkpoint.
HeadPair = tuple[HeadView, HeadView]


def match_heads(
    model: PreTrainedModel,
    parameters: Mapping[str, Parameter],
    pairs: Iterable[tuple[Parameter, SourceTensor]],
    checkpoint: Any,
    hub: Mapping[str, Any],
) -> dict[str, list[HeadPair]]:
    """Return name of a parameter -> the heads of the model in it, each role with the checkpoint's.

    Args:
        model: the model, without weights.
        parameters: name -> parameter.
        pairs: the parameters that are drawn, and their tensors in the checkpoint.
        checkpoint: the checkpoint's folder or Hub id.
        hub: where and how the Hub is asked for its config.

    Raises:
        UsageError: the checkpoint is of another architecture, or its heads cannot be told apart.
    """
    config = checkpoint_config(checkpoint, **hub)
    if config.model_type != model.config.model_type:
        raise UsageError(
            f"{checkpoint} is a {config.model_type}, the model a {model.config.model_type}; give "
            "one architecture."
        )
    stored_model = skeleton(type(model), config)
    views = heads_by_parameter(model, parameters)
    stored_views = heads_by_parameter(stored_model, read_parameters(stored_model))

    matched = {}
    for parameter, tensor in pairs:
        heads = views.get(parameter.name, [])
        stored_heads = stored_views.get(tensor.parameter.name, [])
        if len(heads) != len(stored_heads):
            raise UsageError(
                f"Scheme per_head: the heads in {tensor.stored_name} of {checkpoint} are not "
                f"those in {parameter.name}; give a checkpoint of the same kind of attention."
            )
        matched[parameter.name] = list(zip(heads, stored_heads, strict=True))
    return matched


def draw_by_head(
    parameter: Parameter,
    values: torch.Tensor,
    heads: Sequence[HeadPair],
    scale: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return normal numbers with the mean and deviation of each head of a checkpoint's tensor.

    Args:
        parameter: the parameter of the model.
        values: the checkpoint's tensor.
        heads: the views of its heads; none for a tensor outside of attention, which gets the mean
            and deviation of the whole.
        scale: the factor of mean and deviation that makes up for another fan-in.
        generator: the source of the numbers, on the CPU.
    """
    result = torch.empty(parameter.shape).normal_(generator=generator)
    if not heads:
        moments = Moments.of(values)
        return result.mul_(moments.sd * scale).add_(moments.mean * scale)
    for view, stored_view in heads:
        source = stored_view(values).flatten(1).double()  # [checkpoint's heads, numbers of a head]
        sds, means = source.std(1, correction=0) * scale, source.mean(1) * scale
        drawn = view(result)  # [heads, ...]
        taken = matched_heads(sds, len(drawn))
        shape = (-1, *[1] * (drawn.dim() - 1))
        drawn.mul_(sds[taken].view(shape)).add_(means[taken].view(shape))
    return result


def matched_heads(sds: torch.Tensor, heads: int) -> torch.Tensor:
    """Return for each head of a model the head of the checkpoint whose moments it takes.

    Args:
        sds: the deviation of each of the checkpoint's heads.
        heads: how many heads the model has.

    Examples:
        matched_heads(torch.tensor([0.3, 0.1, 0.2, 0.4]), 2)   # [2, 3]: of the sorted the 2nd, 4th
    """
    if heads == len(sds):
        return torch.arange(heads)
    ranks = (2 * torch.arange(heads) + 1) * len(sds) // (2 * heads)
    return sds.argsort()[ranks]
