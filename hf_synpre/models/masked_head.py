"""A masked language model -> the same, with its head at masked positions only: 15 % of the work.

`compute_masked_logits_only` makes a model's forward take `masked_positions` [rows, masked]; it then
returns logits [rows, masked, vocabulary]. The body still runs over the whole row; of its last
hidden states those at masked positions go into the head.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_synpre.models.trial_rows import equal_logits, trial_ids

# The largest difference of logits that rounding explains, as a share of the largest logit.
TOLERANCE = 1e-4
# Two positions of the row on which a model is tried, not in their order and far apart: a head that
# mixes positions, or reads their order, gives other logits.
TRIAL_POSITIONS = (7, 2)


def compute_masked_logits_only(model: PreTrainedModel) -> bool:
    """Make a masked language model's forward take `masked_positions` [rows, masked], in place.

    Args:
        model: a masked language model, with weights or on the meta device.

    Returns:
        True where the forward with these positions returns logits [rows, masked, vocabulary].
        False, with the model unchanged, where the head does not work position by position on what
        the body returns.
    """
    body = model.base_model
    original_forwards = model.forward, body.forward
    add_masked_positions(model)

    # On the meta device there are no numbers to compare.
    works = body is not model and (model.device.type == "meta" or head_works_by_position(model))
    if not works:
        model.forward, body.forward = original_forwards
        del model.target_inputs
    return works


def add_masked_positions(model: PreTrainedModel) -> None:
    """Do what `compute_masked_logits_only` does without its check, which needs weights."""
    body = model.base_model
    body.forward = functools.partial(forward_body, body, body.forward)
    model.forward = functools.partial(forward_with_head, model, model.forward)
    # Inputs beside input_ids that a forward pass needs; all are [rows, masked]. training/flops.py
    # counts what a pass with them costs.
    model.target_inputs = ("masked_positions",)


def forward_with_head(
    model: PreTrainedModel,
    original_forward: Callable[..., ModelOutput],
    *args: Any,
    masked_positions: torch.Tensor | None = None,
    **batch: Any,
) -> ModelOutput:
    """Call a model's forward while its body knows the masked positions.

    Args:
        model: the masked language model.
        original_forward: the forward that it had.
        *args: inputs by position.
        masked_positions: where the head runs, [rows, masked]; None for all positions.
        **batch: all other inputs by name.
    """
    model.base_model.masked_positions = masked_positions
    try:
        return original_forward(*args, **batch)
    finally:
        model.base_model.masked_positions = None


def forward_body(
    body: PreTrainedModel,
    original_forward: Callable[..., ModelOutput],
    *args: Any,
    **batch: Any,
) -> ModelOutput:
    """Call a body's forward; with masked positions keep only the last hidden states there.

    Args:
        body: the model without its head; `forward_with_head` sets its masked_positions.
        original_forward: the forward that it had.
        *args: inputs by position.
        **batch: inputs by name.
    """
    outputs = original_forward(*args, **batch)
    positions = getattr(body, "masked_positions", None)  # [rows, masked]
    if positions is None:
        return outputs

    states = outputs.last_hidden_state  # [rows, length, width]
    rows, length, width = states.shape
    row_starts = torch.arange(rows, device=states.device)[:, None] * length  # [rows, 1]
    flat_positions = (positions + row_starts).flatten()  # [rows * masked]
    picked = states.flatten(0, 1).index_select(0, flat_positions)
    outputs.last_hidden_state = picked.view(*positions.shape, width)  # [rows, masked, width]
    return outputs


def head_works_by_position(model: PreTrainedModel) -> bool:
    """Say whether logits at masked positions alone equal those of the head on the whole row."""
    ids = trial_ids(model)  # [1, 12]
    positions = torch.tensor([TRIAL_POSITIONS], device=model.device)  # [1, 2]

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            expected = model(input_ids=ids).logits[:, positions[0]]  # [1, 2, vocabulary]
            computed = model(input_ids=ids, masked_positions=positions).logits
    except (RuntimeError, TypeError, AttributeError):  # the head or the body takes something else
        return False
    finally:
        model.train(was_training)

    return expected.shape == computed.shape and equal_logits(expected, computed, TOLERANCE)
