"""Saved models: what their folder needs for transformers, pipelines and other clients.

`complete_tokenizer` gives the saved tokenizer what the config knows; `usual_use_cache` undoes what
a Trainer did to the config; `refuse_tokenizer` marks a folder whose ids no tokenizer has.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from hf_synpre.files import write_json
from hf_synpre.models.families import longest_input
from hf_synpre.vocabulary import padding_and_end

# The class that tokenizer_config.json names in a folder without a tokenizer. There is no such
# class, so that AutoTokenizer raises an error where it would else hand out a tokenizer that knows
# no word.
NO_TOKENIZER = {
    "tokenizer_class": "NoTokenizer",
    "note": "This model has no tokenizer: its ids are those of synthetic tasks, or of no text at "
    "all. Fine-tune it with a tokenizer of your own and fresh token embeddings.",
}


@contextmanager
def usual_use_cache(model: nn.Module) -> Iterator[None]:
    """Let use_cache be as the model's config class has it; transformers' Trainer switches it off.

    A model that is saved in this block so has what generation wants; the training goes on without.
    """
    configs = [part.config for part in model.modules() if isinstance(part, PreTrainedModel)]
    changed = []
    for config in configs:
        usual = getattr(type(config), "use_cache", None)
        if hasattr(config, "use_cache") and isinstance(usual, bool):
            changed.append((config, config.use_cache))
            config.use_cache = usual
    try:
        yield
    finally:
        for config, value in reversed(changed):
            config.use_cache = value


def complete_tokenizer(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> PreTrainedTokenizerBase:
    """Return a copy of a tokenizer that says what the model's config does.

    Args:
        tokenizer: the tokenizer whose ids the model has.
        model: the model. Its pad_token_id becomes the tokenizer's, if that has none, and the number
            of its position embeddings the length at which texts are cut, if that has no limit.
    """
    complete = copy.deepcopy(tokenizer)

    pad = model.config.pad_token_id
    if complete.pad_token is None and pad is not None:
        complete.pad_token = complete.convert_ids_to_tokens(pad)

    limit = longest_input(model)
    if limit is not None and limit > 0 and complete.model_max_length >= VERY_LARGE_INTEGER:
        complete.model_max_length = limit
    return complete


def append_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a fast tokenizer end every text with the end of sequence, as the rows of a model do.

    Nothing else is added to a text then. A separator stands for a missing end of sequence.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    _, eos = padding_and_end(tokenizer)
    end = tokenizer.convert_ids_to_tokens(eos)
    backend.post_processor = TemplateProcessing(f"$A {end}", f"$A $B {end}", [(end, eos)])


def refuse_tokenizer(folder: Path) -> None:
    """Let AutoTokenizer refuse a model's folder in which there is no tokenizer."""
    write_json(folder / "tokenizer_config.json", NO_TOKENIZER)
