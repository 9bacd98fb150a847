"""Layer 4: generation of a split's targets: batched by length, and batches shrink as their rows end."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

SHRINK = 0.75  # a batch is cut to its open rows once fewer than this share of it is open


def batches_by_length(lengths: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield the row numbers of batches of `size` rows, the longest sources first."""
    order = np.argsort(-lengths, kind="stable")
    for first in range(0, len(order), size):
        yield order[first : first + size]


@torch.inference_mode()
def generate_ids(
    model: PreTrainedModel,
    rows: Any,
    collate: Callable[[list], dict[str, torch.Tensor]],
    *,
    limit: int,
    batch_size: int = 64,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    bf16: bool = False,
) -> list[list[int]]:
    """Return the generated ids of every row, in order: at most `limit`, cut before the end-of-sequence id."""
    model.eval()
    found: list[list[int]] = [[] for _ in range(len(rows))]
    lengths = np.array([len(rows[i]["input_ids"]) for i in range(len(rows))])
    beam = {
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "do_sample": False,
        "max_new_tokens": limit,
    }
    for chosen in batches_by_length(lengths, batch_size):
        batch = collate([rows[int(i)] for i in chosen])
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            ids = (
                greedy(model, **inputs, limit=limit)
                if num_beams == 1
                else model.generate(**inputs, **beam)[:, 1:]
            )
        for row, generated in zip(chosen, ids.tolist(), strict=True):
            end = model.config.eos_token_id
            found[row] = generated[: generated.index(end)] if end in generated else generated
    return found


def greedy(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, limit: int
) -> torch.Tensor:
    """Return the ids (rows x up to `limit`) of greedy decoding: those of `model.generate`, which computes ended rows on.

    Rows that have ended leave the batch: transformers keeps them until the last row ends.
    """
    encoded = model.get_encoder()(
        input_ids=input_ids, attention_mask=attention_mask
    ).last_hidden_state
    cache = EncoderDecoderCache(
        DynamicCache(config=model.config), DynamicCache(config=model.config)
    )
    out = torch.full((len(input_ids), limit), model.config.eos_token_id, device=input_ids.device)
    open_rows = torch.arange(len(input_ids), device=input_ids.device)
    last = torch.full(
        (len(input_ids), 1), model.config.decoder_start_token_id, device=input_ids.device
    )
    for step in range(limit):
        state = {
            "encoder_outputs": BaseModelOutput(encoded),
            "attention_mask": attention_mask,
            "past_key_values": cache,
        }
        last = model(**state, decoder_input_ids=last, use_cache=True).logits[:, -1:].argmax(-1)
        out[open_rows, step] = last[:, 0]
        going = (out[open_rows] == model.config.eos_token_id)[:, : step + 1].sum(1) == 0
        if not going.any():
            break
        if going.float().mean() < SHRINK:
            kept = going.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            open_rows, last, encoded, attention_mask = (
                t[kept] for t in (open_rows, last, encoded, attention_mask)
            )
    return out
