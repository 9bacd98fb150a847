"""Layer 3: tokenizers of encoders: stock ones by name, or trained on the text that is pre-trained on ("strict")."""

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from hf_synpre.errors import UsageError

NAMES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
LEAST = 300


def read_tokenizer(name: str) -> Any:
    """Return the tokenizer of a folder (a bare vocab.txt is BERT's, uncased) or Hub id. UsageError where there is none."""
    if (Path(name) / "vocab.txt").exists() and not (Path(name) / "tokenizer_config.json").exists():
        return BertTokenizer.from_pretrained(name, do_lower_case=True)
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UsageError(f"tokenizer '{name}' cannot be read: {' '.join(str(error).split())}") from None


def train_wordpieces(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return BERT's kind of tokenizer (lower case, WordPiece, [CLS] a [SEP] b [SEP]) trained on these texts alone."""
    if vocab_size < LEAST:
        raise UsageError(f"vocab_size is {vocab_size}; a tokenizer of word pieces needs {LEAST} ids at least.")
    backend = Tokenizer(models.WordPiece(unk_token=NAMES["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=[*NAMES.values()], show_progress=False)
    )
    ends = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    origin = f"strict: trained on the corpus alone, {backend.get_vocab_size()} ids"
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, origin=origin, model_input_names=inputs, **NAMES)


@contextlib.contextmanager
def quiet(name: str = "transformers"):
    """Silence a library's warnings in a block: loading a body without its head is what is wanted here."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
