"""Tokenizers: texts -> a tokenizer trained on them; a folder or Hub id -> its tokenizer.

Every tokenizer trained here is a byte-level BPE, because that is a function of the texts. Word
pieces are not: their trainer breaks ties by hash order. Two templates of special tokens exist:

- train_tokenizer, for encoder-decoders and decoders: T5's <pad>, </s>, <unk> and sentinels.
- train_encoder_tokenizer, for encoders: BERT's [CLS] a [SEP] b [SEP], in lower case or not.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    GPT2Tokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from hf_synpre.data.connection import one_line_cause, read_error
from hf_synpre.errors import UsageError

# Characters of a library's error that are quoted.
QUOTED = 400
# T5's special tokens, ids 0 to 2, and the number of sentinels <extra_id_*> at the end of the
# vocabulary.
T5_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
SENTINELS = 32
# BERT's special tokens, ids 0 to 4.
BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
# What special tokens are usually called, in a file that does not say what they are for.
USUAL_NAMES = {
    "bos_token": ("<s>", "<bos>", "<|begin_of_text|>"),
    "eos_token": ("</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>"),
    "pad_token": ("<pad>", "[PAD]"),
    "unk_token": ("<unk>", "[UNK]"),
    "mask_token": ("<mask>", "[MASK]"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
}
# The fewest ids. The 256 bytes and the special tokens must fit; an encoder's ids leave room for the
# special tokens of synthetic tasks too.
LEAST_IDS = len(T5_TOKENS) + 256 + SENTINELS
LEAST_IDS_OF_ENCODER = 300


def read_tokenizer(name: str, data_dir: str | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or of the Hub.

    Args:
        name: a folder, a Hub id, or the name of a folder tokenizers/NAME in `data_dir`. A folder
            with a bare vocab.txt is taken for BERT's, lower case, and one with vocab.json and
            merges.txt alone for GPT-2's. In one with tokenizer.json alone the usual names of
            special tokens say what they are for.
        data_dir: the folder of local copies.

    Raises:
        UsageError: there is no tokenizer of this name.
    """
    local = Path(data_dir or ".") / "tokenizers" / name
    folder = local if local.is_dir() else Path(name)
    is_bare = (folder / "vocab.txt").exists() and not (folder / "tokenizer_config.json").exists()
    is_bare_bpe = (folder / "merges.txt").exists() and not any(folder.glob("*config.json"))
    source = str(folder) if local.is_dir() else name
    try:
        if is_bare:
            tokenizer = BertTokenizer.from_pretrained(source, do_lower_case=True)
        elif is_bare_bpe and not (folder / "tokenizer.json").exists():
            tokenizer = GPT2Tokenizer.from_pretrained(source)
        else:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            name_special_tokens(tokenizer)
        tokenizer.encode("a 1", add_special_tokens=False)
    except (KeyboardInterrupt, SystemExit, UsageError):
        raise
    except BaseException as error:  # a broken file may end in a panic of compiled code
        cause = one_line_cause(error)[:QUOTED]
        message = f"tokenizer '{source}' cannot be read: {cause or type(error).__name__}"
        raise read_error(message, error) from error

    # A folder with a config alone gives a tokenizer of special tokens.
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.added_tokens_decoder):
        raise UsageError(
            f"tokenizer '{source}' cannot be read: it has no tokens but special ones; its "
            "vocabulary's file is missing."
        )
    return tokenizer


def name_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Say what the special tokens of a bare tokenizer.json are for, which that file does not.

    A tokenizer that knows what one of them is for is left as it is.

    Args:
        tokenizer: the tokenizer, changed in place.
    """
    if tokenizer.all_special_tokens:
        return
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    for purpose, names in USUAL_NAMES.items():
        # Without a mask <s> and </s> are those of a decoder, which has no class of a row.
        is_of_encoder = purpose in ("cls_token", "sep_token")
        if is_of_encoder and tokenizer.mask_token is None:
            continue
        named = [name for name in names if name in special]
        if named:
            setattr(tokenizer, purpose, named[0])


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer with T5's special tokens, trained on these texts.

    Args:
        texts: the documents.
        vocab_size: ids of the tokenizer, the 32 sentinels included; as in T5 <extra_id_0> is the
            last id.

    Raises:
        UsageError: vocab_size is too small.
    """
    check_vocab_size(vocab_size)
    backend = _byte_level_bpe(add_prefix_space=False)
    _train(backend, texts, vocab_size - SENTINELS, T5_TOKENS)

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **T5_TOKENS
    )
    sentinels = [f"<extra_id_{number}>" for number in reversed(range(SENTINELS))]
    tokenizer.add_special_tokens({"additional_special_tokens": sentinels})
    return tokenizer


# The end of the origin of an encoder's tokenizer that reads no lower case.
CASE_KEPT = ", case kept"


def train_encoder_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    source: str = "the corpus alone",
    *,
    lowercase: bool = False,
) -> PreTrainedTokenizerFast:
    """Return a tokenizer with BERT's special tokens, trained on these texts.

    Args:
        texts: the documents.
        vocab_size: ids of the tokenizer.
        source: what the texts are, for `origin`, which the tokenizer's files and the results carry.
        lowercase: whether texts are read in lower case, as uncased BERT and ELECTRA read them. Case
            tells molecules apart, and names in code.

    Raises:
        UsageError: vocab_size is too small.
    """
    check_vocab_size(vocab_size, encoder=True)

    backend = _byte_level_bpe(add_prefix_space=True)
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    _train(backend, texts, vocab_size, BERT_TOKENS)

    # The ids of the template's tokens are known only after training.
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B:1 [SEP]:1",
        [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )

    origin = f"strict: trained on {source}, {backend.get_vocab_size()} ids"
    if not lowercase:
        origin += CASE_KEPT
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        origin=origin,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **BERT_TOKENS,
    )


def check_vocab_size(vocab_size: int, *, encoder: bool = False) -> None:
    """Raise UsageError where no tokenizer of so many ids can be trained.

    Args:
        vocab_size: ids of the tokenizer.
        encoder: it is for train_encoder_tokenizer, which needs more ids than train_tokenizer.
    """
    least, whose = LEAST_IDS, ""
    if encoder:
        least, whose = LEAST_IDS_OF_ENCODER, " of an encoder"
    if vocab_size < least:
        raise UsageError(
            f"vocab_size is {vocab_size}; a byte-level tokenizer{whose} needs {least} ids at least."
        )


def _byte_level_bpe(*, add_prefix_space: bool) -> Tokenizer:
    """Return an untrained BPE of bytes; a prefix space makes a first word like all others."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def _train(
    backend: Tokenizer, texts: Iterable[str], vocab_size: int, special_tokens: dict[str, str]
) -> None:
    """Train a BPE in place: ids of special tokens first, then of bytes, then of merged pairs."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
