"""Layer 3: tokenizers of encoders: stock ones by name, or trained on the text that is pre-trained on ("strict")."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from hf_synpre.errors import UsageError

NAMES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
LEAST = 300


def read_tokenizer(name: str, data_dir: str | None = None) -> Any:
    """Return the tokenizer of a folder (also tokenizers/NAME in `data_dir`) or Hub id. UsageError where there is none.

    A bare vocab.txt is taken for BERT's, lower case.
    """
    local = Path(data_dir or ".") / "tokenizers" / name
    name = str(local) if local.is_dir() else name
    if (Path(name) / "vocab.txt").exists() and not (Path(name) / "tokenizer_config.json").exists():
        return BertTokenizer.from_pretrained(name, do_lower_case=True)
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"tokenizer '{name}' cannot be read: {' '.join(str(error).split())}"
        ) from None


def train_encoder_tokenizer(
    texts: Iterable[str], vocab_size: int, source: str = "the corpus alone"
) -> PreTrainedTokenizerFast:
    """Return a tokenizer ([CLS] a [SEP] b [SEP], lower case, byte-level BPE) trained on these texts, said to be of `source`.

    Byte-level BPE because it is a function of the texts; word pieces are not, their trainer breaks ties by hash order.
    """
    check_vocab_size(vocab_size)
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {
        "special_tokens": [*NAMES.values()],
        "initial_alphabet": alphabet,
        "show_progress": False,
    }
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, **options))
    ends = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends
    )
    origin = f"strict: trained on {source}, {backend.get_vocab_size()} ids"
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, origin=origin, model_input_names=inputs, **NAMES
    )


def check_vocab_size(vocab_size: int) -> None:
    """Raise UsageError where the bytes, the control tokens and the marks of synthetic tasks do not fit."""
    if vocab_size < LEAST:
        raise UsageError(
            f"vocab_size is {vocab_size}; a byte-level tokenizer of an encoder needs {LEAST} ids at least."
        )
