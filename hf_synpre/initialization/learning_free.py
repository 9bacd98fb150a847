"""Starts without a checkpoint: a model with its random init -> the same, some weights drawn anew.

d is the width of a block's input, h the number of heads, d_k the width of one; maps are written as
transformers stores them, [outputs, inputs], so that a head's scores are x W_Q^T W_K y. Whether such
a start helps a language model is not shown: what was published is named at each.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_synpre.errors import UsageError, choose
from hf_synpre.initialization.attention_blocks import AttentionBlock, read_attention_blocks
from hf_synpre.initialization.build import body_name, tensor_generator
from hf_synpre.initialization.loading import fill_with_constant
from hf_synpre.initialization.parameters import Parameter
from hf_synpre.initialization.selection import check_number
from hf_synpre.initialization.unigrams import UNIGRAM_SCHEME, log_unigram_head

# A model with its random init, its parameters by name, the names of those that may be filled, a
# seed and the options of the scheme -> the names of the parameters that were filled, in place.
Start = Callable[
    [PreTrainedModel, Mapping[str, Parameter], Collection[str], int, Mapping[str, Any]],
    set[str],
]


def constant(
    model: PreTrainedModel,
    parameters: Mapping[str, Parameter],
    selected: Collection[str],
    seed: int,
    options: Mapping[str, Any],
) -> set[str]:
    """Set the gains of the selected norms to `value`."""
    fill_with_constant(model, [parameters[name] for name in selected], options["value"])
    return set(selected)


def gamma(
    model: PreTrainedModel,
    parameters: Mapping[str, Parameter],
    selected: Collection[str],
    seed: int,
    options: Mapping[str, Any],
) -> set[str]:
    """Draw matrices with the deviation d_in ** -gamma: 0.5 keeps the scale of states, 1 shrinks it.

    Matrices of experts whose module does not say which of their axes are inputs stay as they are.
    Published with norms of epsilon 1e-12 and gated attention, which it needs to pay (arXiv
    2606.17945).
    """
    filled = set()
    for name in selected:
        parameter, tensor = parameters[name], model.get_parameter(name)
        if tensor.dim() < 2 or (parameter.axes_unknown and parameter.transposed is None):
            continue
        inputs = parameter.as_maps(tensor).shape[-1]
        generator = tensor_generator(seed, body_name(model, name))
        tensor.normal_(0, inputs ** -options["gamma"], generator=generator)
        filled.add(name)
    return filled


def symmetric_qk(
    model: PreTrainedModel,
    parameters: Mapping[str, Parameter],
    selected: Collection[str],
    seed: int,
    options: Mapping[str, Any],
) -> set[str]:
    """Let the keys of self-attention equal its queries: W_K = W_Q, so that scores are symmetric.

    With grouped heads a key head is the mean of the query heads that it serves. Biases follow where
    queries and keys both have them. Published for encoders (arXiv 2502.10927).
    """
    filled = set()
    for block in read_attention_blocks(model, parameters):
        if block.is_cross or not names_of(block, "key") <= set(selected):
            continue
        for views in (block.weights, block.biases):
            if not {"query", "key"} <= views.keys():
                continue
            queries = views["query"](model.get_parameter(views["query"].parameter.name))
            keys = views["key"](model.get_parameter(views["key"].parameter.name))
            keys.copy_(queries.unflatten(0, (block.key_value_heads, block.group)).mean(1))
            filled.add(views["key"].parameter.name)
    return filled


def mimetic(
    model: PreTrainedModel,
    parameters: Mapping[str, Parameter],
    selected: Collection[str],
    seed: int,
    options: Mapping[str, Any],
) -> set[str]:
    """Draw the maps of self-attention so that their products are a multiple of I and noise.

    With Z of independent normal numbers of variance 1 / d, for each head
    W_Q^T W_K = truncation of query_key_noise Z + query_key_identity I to rank d_k, and for all
    heads together W_V^T W_O^T = truncation of value_output_noise Z + value_output_identity I.
    The factors share the singular values evenly. Heads of one key head share the right factor.

    Published for vision (Trockman and Kolter 2023, arXiv 2305.09828); which sign the identities
    should have for text is not known. With rotary positions or norms of queries and keys the
    identity of scores loses its meaning.
    """
    filled = set()
    for block in read_attention_blocks(model, parameters):
        names = names_of(block, "query", "key", "value", "output")
        if block.is_cross or not names <= set(selected):
            continue
        generator = tensor_generator(seed, f"{body_name(model, block.path)}/mimetic")
        weights = {
            role: view(model.get_parameter(view.parameter.name))
            for role, view in block.weights.items()
        }
        draw_scores(weights["query"], weights["key"], generator, options)
        draw_outputs(weights["value"], weights["output"], generator, options)
        filled |= names
    return filled


def draw_scores(
    query: torch.Tensor,
    key: torch.Tensor,
    generator: torch.Generator,
    options: Mapping[str, float],
) -> None:
    """Draw queries and keys, in place, whose scores are the truncation of a noisy identity.

    The best common right factor of the group's products M, one a query head, spans the first d_k
    right singular vectors V of the M on top of each other: W_K = s V^T and W_Q = (M V / s)^T, with
    s^2 the singular values over the root of the group.

    Args:
        query: [heads, d_k, inputs], a view.
        key: [key heads, d_k, inputs], a view.
        generator: the source of the noise.
        options: query_key_noise and query_key_identity.
    """
    heads, head_width, inputs = query.shape
    group = heads // len(key)
    rank = min(head_width, inputs)
    for number in range(len(key)):
        shape = (group, inputs, key.shape[2])
        products = noisy_identity(
            shape, options["query_key_noise"], options["query_key_identity"], generator
        )
        _, singular_values, right = torch.linalg.svd(products.flatten(0, 1), full_matrices=False)
        root = (singular_values[:rank] / group**0.5).sqrt()  # [rank]
        right = right[:rank]  # [rank, inputs]
        key[number].zero_()
        key[number, :rank] = (root[:, None] * right).to(key.dtype)
        left = products @ right.T / root  # [group, inputs, rank]
        served = query[number * group : (number + 1) * group]
        served.zero_()
        served[:, :rank] = left.transpose(1, 2).to(query.dtype)


def draw_outputs(
    value: torch.Tensor,
    output: torch.Tensor,
    generator: torch.Generator,
    options: Mapping[str, float],
) -> None:
    """Draw values and outputs, in place, whose product over all heads is a noisy identity.

    Query heads that share a value head share its output evenly.

    Args:
        value: [value heads, d_v, inputs], a view.
        output: [heads, outputs, d_v], a view.
        generator: the source of the noise.
        options: value_output_noise and value_output_identity.
    """
    value_heads, width, inputs = value.shape
    group = len(output) // value_heads
    outputs = output.shape[1]
    noise, identity = options["value_output_noise"], options["value_output_identity"]
    product = noisy_identity((inputs, outputs), noise, identity, generator)
    left, singular_values, right = torch.linalg.svd(product, full_matrices=False)
    rank = min(len(singular_values), value_heads * width)
    root = singular_values[:rank].sqrt()

    columns = torch.zeros(value_heads * width, inputs, dtype=torch.float64)
    columns[:rank] = (left[:, :rank] * root).T
    value.copy_(columns.unflatten(0, (value_heads, width)))

    rows = torch.zeros(value_heads * width, outputs, dtype=torch.float64)
    rows[:rank] = root[:, None] * right[:rank]
    shared = rows.unflatten(0, (value_heads, width)) / group  # [value heads, d_v, outputs]
    output.copy_(shared.transpose(1, 2).repeat_interleave(group, 0))


def noisy_identity(
    shape: tuple[int, ...], noise: float, identity: float, generator: torch.Generator
) -> torch.Tensor:
    """Return noise Z + identity I in float64; Z has variance 1 / the last axis.

    Args:
        shape: [..., rows, columns].
        noise: the factor of Z.
        identity: the factor of the identity.
        generator: the source of Z.
    """
    z = torch.empty(shape, dtype=torch.float64).normal_(0, shape[-1] ** -0.5, generator=generator)
    return noise * z + identity * torch.eye(*shape[-2:], dtype=torch.float64)


def names_of(block: AttentionBlock, *roles: str) -> set[str]:
    """Return the names of the parameters that hold the weights of some roles of a block."""
    return {block.weights[role].parameter.name for role in roles}


# Scheme -> how it draws.
STARTS: dict[str, Start] = {
    "constant_pre_attn_ln": constant,
    "gamma": gamma,
    "symmetric_qk": symmetric_qk,
    "mimetic": mimetic,
    UNIGRAM_SCHEME: log_unigram_head,
}
# Scheme -> its options with their usual values.
OPTIONS: dict[str, dict[str, float]] = {
    "gamma": {"gamma": 1.0},
    "mimetic": {
        "query_key_noise": 0.7,
        "query_key_identity": 0.7,
        "value_output_noise": 0.4,
        "value_output_identity": -0.4,
    },
}


def check_options(scheme: str, given: Mapping[str, float] | None) -> dict[str, float]:
    """Return the options of a scheme, the usual values where none is given.

    Raises UsageError where the scheme has no such option, or one is no allowed number.
    """
    options = {**OPTIONS.get(scheme, {})}
    for name, number in (given or {}).items():
        if not options:
            raise UsageError(
                f"Scheme {scheme} has no options, and {name} was given; leave it out. The schemes "
                f"with options are {', '.join(OPTIONS)}."
            )
        choose(f"option of scheme {scheme}", name, options)
        options[name] = check_number(name, number)
        if name == "gamma" and options[name] < 0:
            raise UsageError(
                f"gamma is {options[name]:g}, which makes weights larger the more inputs they "
                "have; give 0 or more (0.5: the usual deviation)."
            )
    return options
