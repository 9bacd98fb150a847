"""Collators: a list of rows -> one batch of int64 tensors, padded to a multiple of 8 ids."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig

from hf_synpre.data.packing import Seq2SeqLayout, fill_value
from hf_synpre.data.rows import IGNORED, MULTIPLE, Row, padded_width
from hf_synpre.errors import UsageError, as_integer, choose


def pad_arrays(arrays: list[np.ndarray], fill: int, multiple: int | None = 1) -> np.ndarray:
    """Return arrays as the rows of one matrix, padded on the right.

    Args:
        arrays: integers [length], one array a row.
        fill: the value after the end of a row.
        multiple: the width is the longest length, rounded up to a multiple of this; None for
            `padded_width`.

    Returns:
        int64 [rows, width].
    """
    longest = max(map(len, arrays))
    width = -(-longest // multiple) * multiple if multiple else padded_width(longest)
    padded = np.full((len(arrays), width), fill, np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


@dataclass
class RowCollator:
    """Rows of a layout (see packing.py) -> a batch: every array padded to the longest.

    Encoder-decoders also get decoder_input_ids: the labels one position later, each example begun
    with the id `start`. They are made here because a loss outside the model takes the labels away
    from it.
    """

    # The padding id.
    pad: int
    # The id that begins a decoder's input; needed where rows have target_segments.
    start: int | None = None
    # Widths are multiples of this, or `padded_width` where it is None; the arrays of masked tokens,
    # as long in every full row, are not rounded up.
    multiple: int | None = MULTIPLE
    # Every row holds one example: an attention_mask, which any model takes, replaces the segments.
    alone: bool = False

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Return the batch of rows: name -> int64 [rows, width]."""
        # Rows with masked positions have one label a masked token, not one a position.
        compact: tuple[str, ...] = ()
        if "masked_positions" in rows[0]:
            compact = ("masked_positions", "labels", "originals", "draws")

        batch = {}
        for name in rows[0]:
            multiple = 1 if name in compact else self.multiple
            arrays = [row[name] for row in rows]
            batch[name] = pad_arrays(arrays, fill_value(name, self.pad), multiple)

        if "target_segments" in batch:
            batch["decoder_input_ids"] = self._shifted(batch["labels"], batch["target_segments"])
        if self.alone:
            batch["attention_mask"] = (batch.pop("segments") > 0).astype(np.int64)
            batch.pop("target_segments", None)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _shifted(self, labels: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """Return the labels [rows, width] one position to the right within their segments."""
        shifted = np.roll(labels, 1, axis=1)
        begins = segments != np.roll(segments, 1, axis=1)
        begins[:, 0] = True
        shifted[begins] = self.start
        return np.where(segments == 0, self.pad, shifted)


@dataclass
class Seq2SeqCollator:
    """Rows {input_ids, labels} of one example each -> a batch for any encoder-decoder.

    The end-of-sequence id is appended to inputs and labels, then each is cut to its limit: a row
    that is cut loses that id, as in the reference implementation. Inputs are padded with `pad`,
    labels with -100, which no loss counts. transformers' own Trainer takes it as `data_collator`.

    Args:
        pad: the padding id.
        eos: the id of the end of a sequence.
        start: the id that begins a decoder's input.
        max_source: the limit of a row's inputs, in ids.
        max_target: the limit of a row's targets, in ids.
        multiple: widths of batches are multiples of this.
        vocab_size: the ids that the model has; rows with another are refused. None for no check.

    Examples:
        >>> collator = Seq2SeqCollator(pad=0, eos=1, start=0, multiple=1)
        >>> collator([{"input_ids": [5, 6], "labels": [6]}])["labels"].tolist()
        [[6, 1]]
    """

    pad: int
    eos: int
    start: int
    max_source: int = 512
    max_target: int = 512
    multiple: int = MULTIPLE
    vocab_size: int | None = None

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **options: int) -> "Seq2SeqCollator":
        """Return the collator of a model.

        Args:
            config: the model's; it says which ids pad, end and begin a sequence.
            options: max_source, max_target, multiple, vocab_size, where they differ from
                their defaults.

        Raises:
            UsageError: the config lacks an id, or its vocabulary is too small for it.
        """
        return cls(
            pad=config_id(config, "pad_token_id"),
            eos=config_id(config, "eos_token_id"),
            start=config_id(config, "decoder_start_token_id"),
            **{"vocab_size": config.vocab_size, **options},
        )

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Return the batch of rows: input_ids, attention_mask, labels, decoder_input_ids.

        Raises UsageError where the model has no such id, or the rows are a decoder's.
        """
        if any(len(row["labels"]) and row["labels"][0] == IGNORED for row in rows):
            raise UsageError(
                "The rows have the layout causal, one sequence for a decoder; give rows of the "
                "layout seq2seq, or a decoder with CausalCollator."
            )
        layout = Seq2SeqLayout(self.eos, self.pad, self.max_source, self.max_target)
        collator = RowCollator(self.pad, self.start, multiple=self.multiple, alone=True)
        batch = collator([layout.row([row]) for row in rows])
        check_largest_id(batch, self.vocab_size)
        return batch


@dataclass
class CausalCollator:
    """Rows {input_ids, labels} of one example each -> a batch for any decoder (GPT-2, Llama ...).

    A sequence is the input, an end-of-sequence id, the target, an end-of-sequence id. The labels
    are the ids themselves, since transformers' decoders shift them; padding is -100 in them, and so
    is the input unless `loss_on` is "all". transformers' own Trainer takes it as `data_collator`.
    Rows of the layout "causal" are such sequences already, and are padded only.

    Args:
        pad: the padding id.
        eos: the id of the end of a sequence; the model learns to write it behind the target.
        max_length: the positions that the model has. A longer row is an error.
        loss_on: "targets" for loss on the target and its end alone, or "all".
        multiple: widths of batches are multiples of this.
        vocab_size: the ids that the model has; rows with another are refused. None for no check.

    Examples:
        >>> collator = CausalCollator(pad=0, eos=1, multiple=1)
        >>> batch = collator([{"input_ids": [5, 6], "labels": [7]}])
        >>> batch["input_ids"].tolist(), batch["labels"].tolist()
        ([[5, 6, 1, 7, 1]], [[-100, -100, -100, 7, 1]])
    """

    pad: int
    eos: int
    max_length: int | None = None
    loss_on: str = "targets"
    multiple: int = MULTIPLE
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        choose("loss_on", self.loss_on, ("targets", "all"))

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **options: Any) -> "CausalCollator":
        """Return the collator of a model.

        Args:
            config: the model's; it says which id ends a sequence, and which pads it if one does.
            options: max_length, loss_on, multiple, vocab_size, where they differ from
                their defaults.

        Raises:
            UsageError: the config lacks the id, or its vocabulary is too small for it.
        """
        # Decoders often have no padding id. Any id will do: the attention mask hides it.
        eos = config_id(config, "eos_token_id")
        pad = eos if config.pad_token_id is None else config_id(config, "pad_token_id")
        positions = getattr(config, "max_position_embeddings", None)
        limits = {"max_length": positions, "vocab_size": config.vocab_size}
        return cls(pad=pad, eos=eos, **{**limits, **options})

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        """Return the batch of rows: input_ids, attention_mask, labels.

        Raises UsageError where a row is longer than `max_length`, or the model has no such id.
        """
        sequences, labels = [], []
        for row in rows:
            # As RowDataset lays examples out, but with labels that the model still shifts. Rows of
            # the layout "causal" are laid out already.
            is_laid_out = len(row["labels"]) and row["labels"][0] == IGNORED
            if is_laid_out:
                sequence = np.asarray(row["input_ids"])
                is_scored = np.asarray(row["labels"]) != IGNORED
            else:
                end = np.array([self.eos])
                sequence = np.concatenate([row["input_ids"], end, row["labels"], end])
                is_scored = np.arange(len(sequence)) > len(row["input_ids"])
            if self.max_length is not None and len(sequence) > self.max_length:
                raise UsageError(
                    f"A row takes {len(sequence)} ids and the model has {self.max_length} "
                    "positions; give a model with more, or rows with a smaller max_length."
                )
            label = sequence.copy()
            if self.loss_on == "targets":
                label[~is_scored] = IGNORED
            sequences.append(sequence)
            labels.append(label)

        batch = {
            "input_ids": pad_arrays(sequences, self.pad, self.multiple),
            "attention_mask": pad_arrays(list(map(np.ones_like, sequences)), 0, self.multiple),
            "labels": pad_arrays(labels, IGNORED, self.multiple),
        }
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        check_largest_id(tensors, self.vocab_size)
        return tensors


def check_largest_id(batch: dict[str, torch.Tensor], vocab_size: int | None) -> None:
    """Raise UsageError where a batch holds an id that a model of `vocab_size` ids does not have."""
    largest = max(int(batch[name].max()) for name in ("input_ids", "labels"))
    if vocab_size is not None and largest >= vocab_size:
        raise UsageError(
            f"The rows hold the id {largest} and the model's vocabulary has {vocab_size} ids; give "
            "the model the vocab_size of the rows (32100 for the paper's ids), or rows of another "
            "vocabulary."
        )


def config_id(config: PreTrainedConfig, name: str) -> int:
    """Return a special id of a model's config.

    Args:
        config: the config.
        name: pad_token_id, eos_token_id or decoder_start_token_id.

    Raises:
        UsageError: the config has none, or its vocabulary has no such id.
    """
    value = getattr(config, name, None)
    if isinstance(value, list) and value:  # several ids may end a sequence
        value = value[0]
    token = as_integer(value)
    if token is None:
        raise UsageError(
            f"The config of {config.model_type} has {name} {value!r}; the paper's rows and plain "
            f"vocabularies pad with 0 and end with 1. Set config.{name}, or make the collator from "
            "the ids themselves."
        )
    if not 0 <= token < config.vocab_size:
        raise UsageError(
            f"The config of {config.model_type} has {name} {token} and a vocabulary of "
            f"{config.vocab_size} ids; set config.{name} to an id below that."
        )
    return token


@dataclass
class LabelCollator:
    """Rows of a labelled task -> a batch: ids padded to the longest, labels stacked.

    A row is {input_ids, attention_mask, token_type_ids (where the tokenizer has them), labels}, or
    for a choice between texts {choices: such rows without labels, labels}; choices become one more
    dimension, [rows, choices, width]. Where texts have `targets`, these are padded with IGNORED.
    """

    # The padding id.
    pad: int
    # Every position has a label (tags): labels are padded with IGNORED like the ids.
    tags: bool = False
    # False where the model has no segments: token_type_ids are left out, whatever the tokenizer
    # makes.
    types: bool = True
    # Texts are padded on the left.
    left: bool = False
    # Widths are multiples of this.
    multiple: int = MULTIPLE

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of rows.

        Labels are float32 where they are numbers or several yes-no answers, else int64.
        """
        texts = []
        for row in rows:
            texts += row.get("choices", [row])

        # Pad the ids.
        batch = {}
        for name in texts[0]:
            if name == "labels" or (name == "token_type_ids" and not self.types):
                continue
            fill = fill_value(name, self.pad)
            arrays = [text[name] for text in texts]
            if self.left:
                reversed_arrays = [array[::-1] for array in arrays]
                batch[name] = pad_arrays(reversed_arrays, fill, self.multiple)[:, ::-1].copy()
            else:
                batch[name] = pad_arrays(arrays, fill, self.multiple)
            if "choices" in rows[0]:
                width = batch[name].shape[1]
                batch[name] = batch[name].reshape(len(rows), -1, width)  # [rows, choices, width]

        # Stack the labels.
        labels = [row["labels"] for row in rows]
        if self.tags:
            batch["labels"] = pad_arrays(labels, IGNORED, self.multiple)
        else:
            stacked = np.stack(labels)
            is_number = stacked.dtype == np.float32
            batch["labels"] = stacked if is_number else stacked.astype(np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}
