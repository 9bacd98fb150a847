"""Layer 3: what transformers lacks: rows of several examples through stock models, and T5X's initial weights."""

import functools
import inspect
import math
from typing import Any

import torch
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from hf_synpre.errors import UsageError
from hf_synpre.initialization import read_parameters

AUTO_CLASSES = {
    "seq2seq": AutoModelForSeq2SeqLM,
    "mlm": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
}

NEARNESS = 6.5  # the mean logit of a place with itself, if it had the same vector in both roles


def kind_of(config: PreTrainedConfig) -> str:
    """Return what a model of this config is pre-trained as: "seq2seq", "mlm" (encoder-only) or "causal" (decoder-only).

    Raises UsageError where transformers has no such model.
    """
    if config.is_encoder_decoder:
        kind = "seq2seq"
    else:
        kind = (
            "mlm"
            if type(config) in MODEL_FOR_MASKED_LM_MAPPING
            and not getattr(config, "is_decoder", False)
            else "causal"
        )
    if type(config) not in AUTO_CLASSES[kind]._model_mapping:
        raise UsageError(
            f"{type(config).__name__} has no language model in transformers; give another model_type."
        )
    return kind


def has_segments(config: PreTrainedConfig) -> bool:
    """Say whether a model tells two texts apart by token_type_ids (RoBERTa and decoders do not, GPT-2 reads them as ids)."""
    return (getattr(config, "type_vocab_size", None) or 0) > 1


def block_mask(
    queries: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype, *, causal: bool = False
) -> torch.Tensor:
    """Return the additive mask [rows, 1, queries, keys] that lets a position see its own segment only.

    `queries` and `keys` are segments [rows, length]. Padding queries (segment 0) see something, so no row is empty.
    """
    seen = (queries[:, :, None] == keys[:, None, :]) | (queries == 0)[:, :, None]
    if causal:
        seen = seen.tril()
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def positions(segments: torch.Tensor) -> torch.Tensor:
    """Return position ids [rows, length] that begin anew with every segment."""
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return places - torch.where(begins, places, 0).cummax(dim=1).values


def accept_rows(model: PreTrainedModel) -> PreTrainedModel:
    """Make `model` take laid-out rows: a forward with `segments` sees each example alone; others are as before.

    The logits of an example equal those it has alone. Raises UsageError where this architecture's do not: positions or
    attention that masks and position ids do not reach.
    """
    two = model.config.is_encoder_decoder
    rows_forward = (
        two_streams if two else functools.partial(one_stream, first=first_position(model))
    )
    model.forward = functools.partial(forward, model, model.forward, rows_forward)
    try:
        alone = sees_examples_alone(model)
    except (
        RuntimeError,
        ValueError,
        TypeError,
    ):  # masks of four dimensions or position ids are not taken
        alone = False
    if not alone:
        raise UsageError(
            f"{type(model).__name__} cannot take several examples in a row (its masks or positions do not allow it); "
            'give batching "padded" or "bucketed".'
        )
    return model


def forward(
    model: PreTrainedModel,
    stock: Any,
    rows_forward: Any,
    *args: Any,
    segments: Any = None,
    **batch: Any,
) -> Any:
    """Call the stock forward, or for rows the one that sees segments and drops what Trainer adds for the model's loss."""
    return (
        stock(*args, **batch)
        if segments is None
        else rows_forward(model, stock, segments=segments, **batch)
    )


def two_streams(
    model: PreTrainedModel,
    stock: Any,
    *,
    input_ids: torch.Tensor,
    segments: torch.Tensor,
    decoder_input_ids: torch.Tensor,
    target_segments: torch.Tensor,
    **_: Any,
) -> Any:
    """Run an encoder-decoder on rows: three block-diagonal masks; relative positions need no restart."""
    encoded = model.get_encoder()(
        input_ids=input_ids, attention_mask=block_mask(segments, segments, model.dtype)
    )
    return stock(
        encoder_outputs=encoded,
        attention_mask=block_mask(target_segments, segments, model.dtype),
        decoder_input_ids=decoder_input_ids,
        decoder_attention_mask=block_mask(
            target_segments, target_segments, model.dtype, causal=True
        ),
        use_cache=False,
    )


def one_stream(
    model: PreTrainedModel,
    stock: Any,
    *,
    input_ids: torch.Tensor,
    segments: torch.Tensor,
    first: int,
    masked_positions: Any = None,
    **_: Any,
) -> Any:
    """Run a decoder or an encoder on rows: one block-diagonal mask, positions restarted."""
    causal = is_causal(model)
    mask = block_mask(segments, segments, model.dtype, causal=causal)
    more = ({"use_cache": False} if causal else {}) | (
        {} if masked_positions is None else {"masked_positions": masked_positions}
    )
    if "position_ids" in inspect.signature(type(model).forward).parameters:
        more["position_ids"] = positions(segments) + first
    return stock(input_ids=input_ids, attention_mask=mask, **more)


def is_causal(model: PreTrainedModel) -> bool:
    """Say whether a model of one stream predicts the next id (GPT-2) rather than a hidden one (BERT)."""
    return kind_of(model.config) == "causal"


def first_position(model: PreTrainedModel) -> int:
    """Return the id of the first position: RoBERTa keeps the ids up to padding's for padding."""
    tables = [m for name, m in model.named_modules() if name.endswith("position_embeddings")]
    padding = getattr(tables[0], "padding_idx", None) if tables else None
    return 0 if padding is None else padding + 1


def longest_input(model: PreTrainedModel) -> int | None:
    """Return how many positions the model's table has for one example, None where it has no table."""
    table = getattr(model.config, "max_position_embeddings", None)
    return table and table - first_position(model)


def sees_examples_alone(model: PreTrainedModel) -> bool:
    """Compare the logits of two examples in one row with those of each alone, to 1e-3 of the largest."""
    ids = torch.arange(5, 17).remainder(model.config.vocab_size)[None].to(model.device)
    segments = torch.tensor([[1] * 5 + [2] * 7], device=model.device)
    training = model.training
    with torch.no_grad():
        together = model.eval()(**probe(model, ids, segments)).logits
        alone = [
            model(**probe(model, ids[:, part], segments[:, part])).logits
            for part in (slice(0, 5), slice(5, 12))
        ]
    model.train(training)
    apart = (together - torch.cat(alone, dim=1)).abs().max()
    return bool(apart <= 1e-3 * together.abs().max() + 1e-6)


def accept_places(model: PreTrainedModel) -> bool:
    """Make a masked language model's forward take `masked_positions` [rows, n]: it returns the logits there alone, [rows, n, ids].

    The head so computes 15 % of what it would. Returns False, with the model as it was, where the architecture's head
    does not take what the body returns position by position.
    """
    base = model.base_model
    stock = model.forward, base.forward
    look_at_places(model)
    if base is model or not (model.device.type == "meta" or heads_places_alone(model)):
        model.forward, base.forward = stock
        del model.second_inputs
        return False
    return True


def look_at_places(model: PreTrainedModel) -> None:
    """Do what accept_places does without its check, which needs weights."""
    base = model.base_model
    base.forward = functools.partial(body_at_places, base, base.forward)
    model.forward = functools.partial(forward_at_places, model, model.forward)
    model.second_inputs = ("masked_positions",)


def forward_at_places(
    model: PreTrainedModel,
    stock: Any,
    *args: Any,
    masked_positions: torch.Tensor | None = None,
    **batch: Any,
) -> Any:
    """Call the forward with the body told where its hidden states are wanted."""
    model.base_model.masked_positions = masked_positions
    try:
        return stock(*args, **batch)
    finally:
        model.base_model.masked_positions = None


def body_at_places(base: PreTrainedModel, stock: Any, *args: Any, **batch: Any) -> Any:
    """Call a body's forward and keep its last hidden states at the wanted places [rows, n, width]."""
    outputs = stock(*args, **batch)
    if (masked_positions := getattr(base, "masked_positions", None)) is not None:
        hidden = outputs.last_hidden_state
        starts = torch.arange(len(hidden), device=hidden.device)[:, None] * hidden.shape[1]
        picked = hidden.flatten(0, 1).index_select(0, (masked_positions + starts).flatten())
        outputs.last_hidden_state = picked.view(*masked_positions.shape, -1)
    return outputs


def heads_places_alone(model: PreTrainedModel) -> bool:
    """Compare the logits at places with those places of all logits, to 1e-4 of the largest."""
    ids = torch.arange(5, 17).remainder(model.config.vocab_size)[None].to(model.device)
    masked_positions = torch.tensor([[7, 2]], device=model.device)
    training = model.training
    try:
        with torch.no_grad():
            whole = model.eval()(input_ids=ids).logits[:, masked_positions[0]]
            alone = model(input_ids=ids, masked_positions=masked_positions).logits
    except (RuntimeError, TypeError, AttributeError):  # the head or the body wants something else
        return False
    finally:
        model.train(training)
    return whole.shape == alone.shape and bool(
        (whole - alone).abs().max() <= 1e-4 * whole.abs().max() + 1e-6
    )


def probe(
    model: PreTrainedModel, ids: torch.Tensor, segments: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return a batch of one row for `sees_examples_alone`; the targets are the inputs."""
    batch = {"input_ids": ids, "segments": segments}
    return batch | (
        {"decoder_input_ids": ids, "target_segments": segments}
        if model.config.is_encoder_decoder
        else {}
    )


def t5x_weights(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Draw a T5's weights anew where T5X draws them otherwise than transformers (spec, section 3): in place.

    MLP matrices from a normal truncated at two deviations with the same variance, tables of relative positions
    from the uniform distribution of Glorot's rule.
    """
    truncated = 0.87962566103423978  # the deviation of a standard normal cut at +-2
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".DenseReluDense." in name:
                sd = weight.shape[1] ** -0.5 / truncated
                torch.nn.init.trunc_normal_(weight, 0.0, sd, -2 * sd, 2 * sd, generator=generator)
            elif name.endswith("relative_attention_bias.weight"):
                bound = math.sqrt(6 / sum(weight.shape))
                weight.uniform_(-bound, bound, generator=generator)


def local_weights(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Let half the heads of an encoder with a learned table of positions look nearby from the first step: in place.

    Positions become sinusoids (the shortest wave six ids, the longest some hundreds) with twice the deviation of words; in
    those heads keys equal queries, drawn so wide that a place prefers itself and its neighbours. The other heads look
    everywhere alike, as a fresh model's do. It helps where embeddings are as wide as the layers (LOG.md). A pair has both
    models changed. Raises UsageError where there is no such table, or no matrices of queries and keys.
    """
    for part in getattr(model, "generator", None), getattr(model, "discriminator", model):
        if part is not None:
            look_nearby(part.base_model, generator)


def look_nearby(body: PreTrainedModel, generator: torch.Generator) -> None:
    """Do what `local_weights` says for one model without its head."""
    tables = [
        m
        for name, m in body.named_modules()
        if name.endswith("position_embeddings") and hasattr(m, "weight")
    ]
    matrices = [
        p for p in read_parameters(body).values() if p.role in ("query", "key") and not p.bias
    ]
    linear = [body.get_submodule(p.name.removesuffix(".weight")) for p in matrices]
    if not tables or not linear:
        raise UsageError(
            f"{type(body).__name__} has no learned table of positions beside matrices of queries and keys, so "
            "initial_weights local cannot apply; give transformers."
        )
    lengths: dict[torch.nn.Module, float] = {}
    hooks = [
        m.register_forward_pre_hook(lambda m, x: lengths.update({m: x[0].square().sum(-1).mean()}))
        for m in linear
    ]
    with torch.no_grad():
        wave(tables[0].weight, 2 * body.get_input_embeddings().weight.std())
        body(
            input_ids=torch.arange(longest_input(body)).remainder(body.config.vocab_size // 2)[None]
            + 5
        )
        for query, key in zip(linear[::2], linear[1::2], strict=True):
            heads = body.config.num_attention_heads
            width = query.out_features // heads
            rows = slice(0, width * max(1, heads // 2))
            query.weight[rows].normal_(
                0, (NEARNESS / (width**0.5 * lengths[query])) ** 0.5, generator=generator
            )
            key.weight[rows] = query.weight[rows]
    for hook in hooks:
        hook.remove()


def wave(table: torch.Tensor, size: torch.Tensor) -> None:
    """Fill a table of positions with sines and cosines of falling frequency, in place."""
    frequency = 100.0 ** -(torch.arange(table.shape[1]) // 2 * 2 / table.shape[1])
    angle = torch.arange(len(table))[:, None] * frequency
    table.copy_(size * torch.where(torch.arange(table.shape[1]) % 2 == 0, angle.sin(), angle.cos()))
