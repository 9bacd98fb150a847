"""Pretrained weights: a model and a checkpoint -> the model with the checkpoint's weights."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_synpre.errors import UsageError
from hf_synpre.initialization import checkpoint_folder, embedding_names


def take_weights(
    model: PreTrainedModel, source: str | Path, embeddings: str = "kept", *, head: bool = False
) -> list[str]:
    """Copy the weights of a checkpoint into a model of the same architecture, in place.

    Args:
        model: the model that gets the weights.
        source: the checkpoint: a folder or a Hub id.
        embeddings: "kept" copies the token embeddings too, "fresh" leaves the model's own.
        head: copy the head too, if the checkpoint has the same one and embeddings are kept, as for
            further pre-training. Otherwise the model keeps its own head, and its own pooler if the
            checkpoint was not trained with one.

    Returns:
        The names of the tensors that did not come from the checkpoint.

    Raises:
        UsageError: the checkpoint cannot be read, is of another architecture, has a tensor of
            another shape, or holds numbers that are not finite.
    """
    with_head = head and embeddings == "kept"
    target = model if with_head else model_body(model)
    checkpoint_class = type(model) if with_head else AutoModel
    stored, missing = read_weights(source, target.config, checkpoint_class)

    # Choose the tensors that both have. With fresh embeddings these stay, and their biases.
    current = target.state_dict()
    fresh_modules = set()
    if embeddings == "fresh":
        fresh_modules = {name.rpartition(".")[0] for name in embedding_names(target)}
    copied = {
        name: tensor
        for name, tensor in stored.items()
        if name in current and name.rpartition(".")[0] not in fresh_modules
    }

    # Check all of them before the first is copied.
    for name, tensor in copied.items():
        shape = current[name].shape
        if shape != tensor.shape:
            raise UsageError(
                f"{source}: {name} has shape {list(tensor.shape)}, the model's has {list(shape)}; "
                'give the same architecture and vocabulary, or embeddings "fresh".'
            )
        if not torch.isfinite(tensor).all():
            raise UsageError(
                f"{source}: {name} holds numbers that are not finite; "
                "give a checkpoint that was not broken."
            )
    with torch.no_grad():
        for name, tensor in copied.items():
            current[name].copy_(tensor)
    return sorted(current.keys() - copied.keys()) + missing


def model_body(model: PreTrainedModel) -> PreTrainedModel:
    """Return the body of a model, or the model itself where it has no head."""
    return getattr(model, model.base_model_prefix, model)


def read_weights(
    source: str | Path, config: PreTrainedConfig, model_class: Any
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Read a checkpoint as a model class.

    Args:
        source: the checkpoint: a folder or a Hub id.
        config: the config of the model that takes the weights, of the checkpoint's model_type.
        model_class: the class, with or without a head, whose names the tensors get.

    Returns:
        The tensors in float32 by name, and the names of those that the checkpoint lacks.

    Raises:
        UsageError: it cannot be read, or is of another architecture.
    """
    try:
        stored_config = AutoConfig.from_pretrained(source)
        if stored_config.model_type != config.model_type:
            raise UsageError(
                f"{source} is a {stored_config.model_type}, the model a {config.model_type}; "
                "give one architecture."
            )
        model, report = model_class.from_pretrained(
            source, config=stored_config, dtype=torch.float32, output_loading_info=True
        )
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UsageError(f"The checkpoint '{source}' cannot be read: {cause}") from error

    missing = set(report["missing_keys"])
    tensors = {name: t for name, t in model.state_dict().items() if name not in missing}
    return tensors, sorted(missing)


def check_ids(source: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the token embeddings of a checkpoint belong to the ids of a tokenizer.

    A checkpoint without a tokenizer.json passes, because its ids are not known.

    Args:
        source: the checkpoint: a folder or a Hub id.
        tokenizer: the tokenizer of the model that takes the weights.

    Raises:
        UsageError: the checkpoint's tokenizer has other ids.
    """
    file = tokenizer_file(source)
    if file is None:
        return
    stored_ids = Tokenizer.from_file(str(file)).get_vocab()
    if stored_ids != tokenizer.get_vocab():
        raise UsageError(
            f"{source} has embeddings for the ids of another tokenizer; "
            'give that tokenizer, or embeddings "fresh".'
        )


def tokenizer_file(source: str | Path) -> Path | None:
    """Return the tokenizer.json of a checkpoint, None where it has none."""
    try:
        file = checkpoint_folder(source, ("tokenizer.json",)) / "tokenizer.json"
    except (OSError, UsageError):
        return None
    return file if file.exists() else None
