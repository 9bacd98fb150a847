"""Generation: a model and rows of source ids -> the generated ids of every row.

Rows are batched by length, the longest first, and a batch shrinks as its rows end.
"""

import functools
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

if TYPE_CHECKING:
    from hf_synpre.finetuning.heads import Collator
    from hf_synpre.finetuning.text_head import TokenRows

logger = logging.getLogger(__name__)

# Padding before a prompt on which a decoder is tried, and the largest difference of its logits that
# rounding explains, as a share of the largest.
TRIED_PADDING, TOLERANCE = 8, 1e-3
# A batch is cut to its open rows when fewer than this share of its rows is open. It is not cut more
# often, because that copies the cache.
SHRINK_BELOW = 0.75


def batches_by_length(lengths: np.ndarray, size: int, equal: bool = False) -> Iterator[np.ndarray]:
    """Yield the row numbers of batches of `size` rows, the longest sources first.

    Args:
        lengths: the ids of each row.
        size: the rows of a batch; some have fewer.
        equal: a batch has rows of one length alone.
    """
    order = np.argsort(-lengths, kind="stable")
    groups = [order]
    if equal:
        groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    for group in groups:
        for first in range(0, len(group), size):
            yield group[first : first + size]


@functools.cache
def say_once(message: str, *values: str) -> None:
    """Log a warning; the same one only once."""
    logger.warning(message, *values)


def generate(model: PreTrainedModel, **inputs: Any) -> Any:
    """Return what `model.generate` does; without a cache where transformers has none for the model.

    Its cache fails where no layer of a model is one of attention. The model's generation_config
    then says that there is none.
    """
    try:
        return model.generate(**inputs)
    except ValueError as error:
        if "get_seq_length" not in str(error):
            raise
    name = type(model).__name__
    say_once("%s has no layer of attention, so text is generated without a cache, slower.", name)
    model.generation_config.use_cache = False
    return model.generate(**inputs)


def sees_padding(model: PreTrainedModel, prompt: torch.Tensor) -> bool:
    """Say whether a decoder's logits differ where padding is before a prompt, despite its mask.

    Args:
        model: the decoder.
        prompt: the ids of a prompt, int64[1, length].
    """
    mask = torch.ones_like(prompt)
    pad = torch.full((1, TRIED_PADDING), model.config.pad_token_id, device=prompt.device)
    padded = torch.cat([pad, prompt], 1), torch.cat([torch.zeros_like(pad), mask], 1)

    logits = []
    for input_ids, attention_mask in ((prompt, mask), padded):
        outputs = generate(
            model,
            input_ids=input_ids,
            attention_mask=attention_mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=1,
            return_dict_in_generate=True,
            output_logits=True,
        )
        logits.append(outputs.logits[0].float())  # [1, vocabulary]
    return bool((logits[0] - logits[1]).abs().max() > TOLERANCE * logits[0].abs().max())


@torch.inference_mode()
def generate_ids(
    model: PreTrainedModel,
    rows: "TokenRows",
    collate: "Collator",
    *,
    limit: int,
    batch_size: int = 64,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    bf16: bool = False,
) -> list[list[int]]:
    """Return the generated ids of every row, in the order of the rows.

    Args:
        model: an encoder-decoder or a decoder; it is set to evaluation mode.
        rows: map-style rows with input_ids.
        collate: makes a batch of rows; its input_ids and attention_mask are used. A decoder's are
            padded on the left.
        limit: the most ids that are generated for a row.
        batch_size: rows that are generated together.
        num_beams: beams of the search; 1 decodes greedily.
        length_penalty: a beam's score is divided by its length to this power.
        bf16: whether matrix products are computed in bfloat16.

    Returns:
        For each row at most `limit` ids, cut before the end-of-sequence id.
    """
    model.eval()
    end_id = model.config.eos_token_id
    is_encoder_decoder = model.config.is_encoder_decoder
    lengths = np.array([len(rows[index]["input_ids"]) for index in range(len(rows))])

    # Of a recurrent decoder that reads padding, prompts of one length are generated together.
    equal = False
    if not is_encoder_decoder and len(rows):
        equal = sees_padding(model, without_padding(collate([rows[0]]))[0].to(model.device))
        if equal:
            say_once(
                "%s reads the padding before a prompt; prompts of one length are generated "
                "together, slower.",
                type(model).__name__,
            )

    generated: list[list[int]] = [[] for _ in range(len(rows))]
    for row_numbers in batches_by_length(lengths, batch_size, equal):
        batch = collate([rows[int(index)] for index in row_numbers])
        input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]  # [rows, source]
        if equal:
            input_ids, attention_mask = without_padding(batch)
        input_ids, attention_mask = input_ids.to(model.device), attention_mask.to(model.device)

        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            if is_encoder_decoder and num_beams == 1:
                ids = greedy(model, input_ids, attention_mask, limit)  # [rows, limit]
            else:
                ids = generate(
                    model,
                    input_ids=input_ids,
                    attention_mask=attention_mask,
                    num_beams=num_beams,
                    length_penalty=length_penalty if num_beams > 1 else None,
                    do_sample=False,
                    max_new_tokens=limit,
                )  # [rows, what comes before + up to limit]
                # Before what was generated stands the start id, or a decoder's prompt.
                before = 1 if is_encoder_decoder else input_ids.shape[1]
                ids = ids[:, before:]

        for row_number, row_ids in zip(row_numbers, ids.tolist(), strict=True):
            if end_id in row_ids:
                row_ids = row_ids[: row_ids.index(end_id)]
            generated[row_number] = row_ids
    return generated


def without_padding(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input_ids and attention_mask without the positions that are padding in all rows."""
    used = batch["attention_mask"].any(0)  # [source]
    return batch["input_ids"][:, used], batch["attention_mask"][:, used]


def greedy(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, limit: int
) -> torch.Tensor:
    """Return the ids of greedy decoding, which are those of `model.generate`.

    To save time, rows that have ended leave the batch here; `model.generate` computes them until
    the last row ends.

    Args:
        model: an encoder-decoder in evaluation mode.
        input_ids: the padded source ids, int64[rows, source].
        attention_mask: 1 where a source id is real, int64[rows, source].
        limit: the most ids that are generated for a row.

    Returns:
        int64[rows, limit], filled with the end-of-sequence id after a row's end.
    """
    device = input_ids.device
    end_id = model.config.eos_token_id
    encoder_output = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
    encoded = encoder_output.last_hidden_state  # [rows, source, width]
    output_class = type(encoder_output)  # that of a mixture of experts has more fields

    cache = EncoderDecoderCache(
        DynamicCache(config=model.config), DynamicCache(config=model.config)
    )
    generated = torch.full((len(input_ids), limit), end_id, device=device)  # [rows, limit]
    open_rows = torch.arange(len(input_ids), device=device)  # [open rows]
    start_id = model.config.decoder_start_token_id
    last_ids = torch.full((len(input_ids), 1), start_id, device=device)  # [open rows, 1]

    for step in range(limit):
        logits = model(
            encoder_outputs=output_class(last_hidden_state=encoded),
            attention_mask=attention_mask,
            past_key_values=cache,
            decoder_input_ids=last_ids,
            use_cache=True,
        ).logits  # [open rows, 1, vocabulary]
        last_ids = logits[:, -1:].argmax(-1)  # [open rows, 1]
        generated[open_rows, step] = last_ids[:, 0]

        # A row is open as long as it has no end-of-sequence id.
        ends = generated[open_rows] == end_id  # [open rows, limit]
        is_open = ends[:, : step + 1].sum(1) == 0  # [open rows]
        if not is_open.any():
            break

        # Cut the batch to its open rows.
        if is_open.float().mean() < SHRINK_BELOW:
            remaining = is_open.nonzero()[:, 0]  # [still open rows]
            cache.batch_select_indices(remaining)
            open_rows = open_rows[remaining]
            last_ids = last_ids[remaining]
            encoded = encoded[remaining]
            attention_mask = attention_mask[remaining]
    return generated
