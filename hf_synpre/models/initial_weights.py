"""Weights before the first step: a fresh model -> the same with some weights drawn again.

| weights | tensors                          | distribution                                   |
| ------- | -------------------------------- | ---------------------------------------------- |
| t5x     | matrices of the MLP              | normal cut at 2 deviations, variance 1 / inputs |
| t5x     | relative position embeddings     | uniform in +-sqrt(6 / (rows + columns))        |
| local   | position embeddings              | sinusoids, amplitude 2 x deviation of words'   |
| local   | queries of half the heads        | normal; mean score with itself is LOCAL_SCORE  |
| local   | keys of those heads              | equal to the queries                           |

All other tensors stay as transformers drew them.
"""

import math

import torch
from transformers import PreTrainedModel

from hf_synpre.errors import UsageError
from hf_synpre.initialization import read_parameters
from hf_synpre.models.families import longest_input

# The standard deviation of a standard normal that is cut at two deviations.
TRUNCATED_DEVIATION = 0.87962566103423978
# The mean attention score (logit) of a position with itself in a local head.
LOCAL_SCORE = 6.5
# The longest sinusoid is so many times as long as the shortest, which has 2 pi positions. It spans
# some hundreds of positions, as the inputs of these encoders do.
SINUSOID_BASE = 100.0


def t5x_weights(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Draw again, in place, the weights of a T5 that T5X draws differently from transformers.

    Args:
        model: a T5 or a model with T5's parameter names.
        generator: the source of all numbers drawn.

    Source: docs/papers.md, "Pre-training".
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".DenseReluDense." in name:
                inputs = weight.shape[1]
                deviation = inputs**-0.5 / TRUNCATED_DEVIATION
                torch.nn.init.trunc_normal_(
                    weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator
                )
            elif name.endswith("relative_attention_bias.weight"):
                bound = math.sqrt(6 / sum(weight.shape))
                weight.uniform_(-bound, bound, generator=generator)


def local_weights(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Let half of an encoder's heads attend to near positions from the first step, in place.

    Position embeddings become sinusoids. In half of the heads of every layer the keys equal the
    queries, with a deviation so large that a position attends most to itself and its neighbours.
    The other heads attend to all positions alike, as in a fresh model. It helps where embeddings
    are as wide as the layers (examples/LOG.md). In a pair of generator and discriminator both are
    changed.

    Args:
        model: an encoder with learned position embeddings, or a pair of them (models/electra.py).
        generator: the source of all numbers drawn.

    Raises:
        UsageError: the model has no learned position embeddings, no queries, or no keys.
    """
    generator_part = getattr(model, "generator", None)
    if generator_part is not None:
        _make_half_the_heads_local(generator_part.base_model, generator)
    discriminator = getattr(model, "discriminator", model)
    _make_half_the_heads_local(discriminator.base_model, generator)


def _make_half_the_heads_local(body: PreTrainedModel, generator: torch.Generator) -> None:
    """Apply `local_weights` to one model without its head."""
    position_tables = [
        module
        for name, module in body.named_modules()
        if name.endswith("position_embeddings") and hasattr(module, "weight")
    ]
    attention_maps = [
        body.get_submodule(parameter.name.removesuffix(".weight"))
        for parameter in read_parameters(body).values()
        if parameter.role in ("query", "key") and not parameter.bias
    ]
    if not position_tables or not attention_maps:
        raise UsageError(
            f"{type(body).__name__} has no learned position embeddings beside matrices of queries "
            "and keys, so initial_weights local cannot apply; give transformers."
        )

    # Run the body once with transformers' own weights; note the squared length of each map's input.
    # Dropout is off: it would draw from numbers that no seed decides.
    squared_lengths: dict[torch.nn.Module, torch.Tensor] = {}

    def note_input_length(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        states = inputs[0]  # [rows, length, width]
        squared_lengths[module] = states.square().sum(-1).mean()

    hooks = [module.register_forward_pre_hook(note_input_length) for module in attention_maps]
    is_training = body.training
    body.eval()
    with torch.no_grad():
        word_deviation = body.get_input_embeddings().weight.std()
        _fill_with_sinusoids(position_tables[0].weight, 2 * word_deviation)
        length = longest_input(body)
        assert length is not None  # there are position embeddings
        ids = torch.arange(length).remainder(body.config.vocab_size // 2) + 5  # no special tokens
        body(input_ids=ids[None])

        # Queries and keys come in the order of the layers, a query before its key.
        for query, key in zip(attention_maps[::2], attention_maps[1::2], strict=True):
            heads = body.config.num_attention_heads
            head_width = query.out_features // heads
            local_rows = slice(0, head_width * max(1, heads // 2))
            # A state of squared length L scores variance * L * sqrt(head_width) with itself, on
            # average.
            variance = LOCAL_SCORE / (head_width**0.5 * squared_lengths[query])
            query.weight[local_rows].normal_(0, variance**0.5, generator=generator)
            key.weight[local_rows] = query.weight[local_rows]
    body.train(is_training)
    for hook in hooks:
        hook.remove()


def _fill_with_sinusoids(table: torch.Tensor, size: torch.Tensor) -> None:
    """Fill position embeddings [positions, width] with sinusoids of falling frequency, in place."""
    positions, width = table.shape
    column = torch.arange(width)
    # [width], the same for a sine and its cosine
    frequency = SINUSOID_BASE ** -(column // 2 * 2 / width)
    angle = torch.arange(positions)[:, None] * frequency  # [positions, width]
    table.copy_(size * torch.where(column % 2 == 0, angle.sin(), angle.cos()))
