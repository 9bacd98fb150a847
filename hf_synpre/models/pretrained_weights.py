"""Layer 3: the weights of any checkpoint of an architecture, with or without a head, put into a model."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from hf_synpre.errors import UsageError
from hf_synpre.initialization import checkpoint_folder, embedding_names


def take_weights(
    model: PreTrainedModel, source: str | Path, embeddings: str = "kept", *, head: bool = False
) -> list[str]:
    """Copy a checkpoint's body into `model`, in place; token embeddings stay fresh if so wanted. Returns what it lacks.

    With `head` and kept embeddings the head comes along where the checkpoint has this one: pre-training goes on. Else the
    head, and a pooler that the checkpoint was not trained with, keep the model's own weights. Raises UsageError
    where the checkpoint cannot be read, is of another architecture, or has tensors of another shape.
    """
    whole = head and embeddings == "kept"
    body = model if whole else base_of(model)
    fresh = (
        {name.rpartition(".")[0] for name in embedding_names(body)}
        if embeddings == "fresh"
        else set()
    )
    stored, missing = stored_weights(source, body.config, type(model) if whole else AutoModel)
    own = body.state_dict()
    taken = {
        name: tensor
        for name, tensor in stored.items()
        if name in own and name.rpartition(".")[0] not in fresh
    }
    for name, tensor in taken.items():
        if own[name].shape != tensor.shape:
            raise UsageError(
                f"{source}: {name} has shape {list(tensor.shape)}, the model wants {list(own[name].shape)}; give the same "
                'architecture and vocabulary, or embeddings "fresh".'
            )
        if not torch.isfinite(tensor).all():
            raise UsageError(
                f"{source}: {name} holds numbers that are not finite; give a checkpoint that was not broken."
            )
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    return sorted(own.keys() - taken.keys()) + missing


def base_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the body of a model, or the model itself where it has no head."""
    return getattr(model, model.base_model_prefix, model)


def stored_weights(
    source: str | Path, wanted: PreTrainedConfig, kind: Any
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return (tensors of a checkpoint as this class by name, names that it lacks). UsageError where it cannot be read."""
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type != wanted.model_type:
            raise UsageError(
                f"{source} is a {config.model_type}, the model a {wanted.model_type}; give one architecture."
            )
        body, report = kind.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"The checkpoint '{source}' cannot be read: {' '.join(str(error).split())[:200]}"
        ) from None
    missing: Any = report["missing_keys"]
    return {
        name: tensor for name, tensor in body.state_dict().items() if name not in missing
    }, sorted(missing)


def check_ids(source: str | Path, tokenizer: Any) -> None:
    """Raise UsageError where a checkpoint's tokenizer has other ids than `tokenizer`: its embeddings mean other tokens."""
    stored = own_tokenizer(source)
    if stored is not None and Tokenizer.from_file(str(stored)).get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            f"{source} has embeddings for the ids of its own tokenizer, which are others; give that tokenizer, or "
            'embeddings "fresh".'
        )


def own_tokenizer(source: str | Path) -> Path | None:
    """Return the tokenizer.json of a checkpoint, None where it has none."""
    try:
        file = checkpoint_folder(source, ("tokenizer.json",)) / "tokenizer.json"
    except (OSError, UsageError):
        return None
    return file if file.exists() else None
