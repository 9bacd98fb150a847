"""A model -> the same, which takes packed rows: several examples in one row, apart from each other.

A packed row comes with `segments` [rows, length]: which example of the row a position belongs to,
counted from 1; 0 is padding. `accept_packed_rows` replaces a model's `forward` by one that builds
block-diagonal attention masks and restarted position ids from the segments, and then proves on a
small row that examples do not see each other.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_synpre.errors import UsageError
from hf_synpre.models.families import first_position, model_family
from hf_synpre.models.trial_rows import equal_logits, trial_ids

# The largest difference of logits that rounding explains, as a share of the largest logit. It is
# wide, because packed rows go through other matrix products than single ones. Where an example sees
# another one, logits differ by far more.
TOLERANCE = 1e-3
# The two examples of the row on which a model is tried: their lengths.
TRIAL_EXAMPLES = (5, 7)


def block_mask(
    queries: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype, *, causal: bool = False
) -> torch.Tensor:
    """Return the additive attention mask with which a position sees its own example only.

    Args:
        queries: segments of the positions that look, [rows, queries].
        keys: segments of the positions that are looked at, [rows, keys].
        dtype: type of the mask; a forbidden pair has the type's lowest number.
        causal: forbid later positions too.

    Returns:
        The mask, [rows, 1, queries, keys]. Padding (segment 0) sees everything, so that no softmax
        runs over an empty set.
    """
    visible = queries[:, :, None] == keys[:, None, :]  # [rows, queries, keys]
    visible |= (queries == 0)[:, :, None]
    if causal:
        visible = visible.tril()

    mask = torch.zeros_like(visible, dtype=dtype)
    mask.masked_fill_(~visible, torch.finfo(dtype).min)
    return mask[:, None]  # [rows, 1, queries, keys]


def restarted_positions(segments: torch.Tensor) -> torch.Tensor:
    """Return position ids [rows, length] that begin at 0 again with every example of a row."""
    positions = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)

    # The start of the example that a position belongs to is the last start at or before it.
    is_start = torch.ones_like(segments, dtype=torch.bool)  # [rows, length]
    is_start[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = torch.where(is_start, positions, 0).cummax(dim=1).values
    return positions - starts


def accept_packed_rows(model: PreTrainedModel) -> PreTrainedModel:
    """Make a model take packed rows, in place: its forward understands `segments` from now on.

    A batch without segments goes through the forward that the model had.

    Args:
        model: any language model of the three families.

    Returns:
        The same model. The logits of an example in a packed row equal those that it has alone.

    Raises:
        UsageError: the logits differ, because this architecture's attention does not follow the
            mask, or its positions do not follow the position ids.
    """
    packed: Callable[..., ModelOutput]
    if model.config.is_encoder_decoder:
        packed = packed_encoder_decoder
    else:
        packed = functools.partial(packed_single_stack, first=first_position(model))
    model.forward = functools.partial(dispatch, model, model.forward, packed)

    try:
        separate = keeps_examples_apart(model)
    except (RuntimeError, ValueError, TypeError):  # takes no mask per query, or no position ids
        separate = False
    if not separate:
        raise UsageError(
            f"{type(model).__name__} cannot take several examples in a row (its masks or positions "
            'do not allow it); give batching "padded" or "bucketed".'
        )
    return model


def dispatch(
    model: PreTrainedModel,
    original_forward: Callable[..., ModelOutput],
    packed_forward: Callable[..., ModelOutput],
    *args: Any,
    segments: torch.Tensor | None = None,
    **batch: Any,
) -> ModelOutput:
    """Call the original forward, or for a batch with segments the one for packed rows.

    Args:
        model: the model whose forward this replaces.
        original_forward: the forward that it had.
        packed_forward: `packed_encoder_decoder` or `packed_single_stack`.
        *args: inputs of the original forward by position.
        segments: the segments of packed rows, [rows, length]; None for other batches.
        **batch: all other inputs by name.
    """
    if segments is None:
        return original_forward(*args, **batch)
    return packed_forward(model, original_forward, segments=segments, **batch)


def packed_encoder_decoder(
    model: PreTrainedModel,
    original_forward: Callable[..., ModelOutput],
    *,
    input_ids: torch.Tensor,
    segments: torch.Tensor,
    decoder_input_ids: torch.Tensor,
    target_segments: torch.Tensor,
    **_: Any,
) -> ModelOutput:
    """Run an encoder-decoder on packed rows with three block-diagonal masks.

    Relative positions need no restart, because examples do not see each other.

    Args:
        model: an encoder-decoder.
        original_forward: the forward that it had.
        input_ids: ids of the sources, [rows, source].
        segments: their segments, [rows, source].
        decoder_input_ids: ids of the targets, [rows, target].
        target_segments: their segments, [rows, target].
        **_: other inputs, such as the labels that Trainer adds; they are not used.
    """
    encoded = model.get_encoder()(
        input_ids=input_ids,  # [rows, source]
        attention_mask=block_mask(segments, segments, model.dtype),
    )
    return original_forward(
        encoder_outputs=encoded,
        attention_mask=block_mask(target_segments, segments, model.dtype),
        decoder_input_ids=decoder_input_ids,  # [rows, target]
        decoder_attention_mask=block_mask(
            target_segments, target_segments, model.dtype, causal=True
        ),
        use_cache=False,
    )


def packed_single_stack(
    model: PreTrainedModel,
    original_forward: Callable[..., ModelOutput],
    *,
    input_ids: torch.Tensor,
    segments: torch.Tensor,
    first: int,
    masked_positions: torch.Tensor | None = None,
    **_: Any,
) -> ModelOutput:
    """Run a decoder or an encoder on packed rows with one block-diagonal mask.

    Args:
        model: a decoder-only or encoder-only model.
        original_forward: the forward that it had.
        input_ids: ids, [rows, length].
        segments: their segments, [rows, length].
        first: the position id at which the positions of every example start.
        masked_positions: where a masked head runs (masked_head.py), [rows, masked].
        **_: other inputs, such as the labels that Trainer adds; they are not used.
    """
    causal = model_family(model.config) == "causal"
    inputs: dict[str, Any] = {
        "input_ids": input_ids,  # [rows, length]
        "attention_mask": block_mask(segments, segments, model.dtype, causal=causal),
    }
    if causal:
        inputs["use_cache"] = False
    if masked_positions is not None:
        inputs["masked_positions"] = masked_positions  # [rows, masked]
    if "position_ids" in inspect.signature(type(model).forward).parameters:
        inputs["position_ids"] = restarted_positions(segments) + first
    return original_forward(**inputs)


def keeps_examples_apart(model: PreTrainedModel) -> bool:
    """Say whether two examples in one row have the logits that each has in a row of its own."""
    ids = trial_ids(model)  # [1, 12]
    first, second = TRIAL_EXAMPLES
    segments = torch.tensor([[1] * first + [2] * second], device=model.device)  # [1, 12]
    examples = (slice(0, first), slice(first, first + second))

    was_training = model.training
    model.eval()
    with torch.no_grad():
        together = model(**_packed_batch(model, ids, segments)).logits  # [1, 12, vocabulary]
        separate = [
            model(**_packed_batch(model, ids[:, part], segments[:, part])).logits
            for part in examples
        ]
    model.train(was_training)
    return equal_logits(together, torch.cat(separate, dim=1), TOLERANCE)


def _packed_batch(
    model: PreTrainedModel, ids: torch.Tensor, segments: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return a batch of packed rows whose targets, if the model has any, are the inputs."""
    batch = {"input_ids": ids, "segments": segments}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids
        batch["target_segments"] = segments
    return batch
