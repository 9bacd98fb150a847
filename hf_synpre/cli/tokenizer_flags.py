"""Flags that name a tokenizer or a vocabulary -> what they name."""

import textwrap
from typing import TYPE_CHECKING

from hf_synpre.errors import TemporaryError, UsageError, read_integer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A library's error is quoted up to so many characters.
LONGEST_CAUSE = 160


def read_vocabulary(text: str | None) -> "int | PreTrainedTokenizerBase | None":
    """Return what --vocabulary means: a size, a tokenizer, or None for the paper's T5 ids."""
    if text is None:
        return None
    size = read_integer(text.removeprefix("-"))
    if size is not None:
        return -size if text.startswith("-") else size
    return tokenizer_of_flag(text, "vocabulary", "a size, or the folder or Hub id of a tokenizer")


def tokenizer_of_flag(
    name: str, flag: str, allowed: str = "the folder or Hub id of a tokenizer"
) -> "PreTrainedTokenizerBase":
    """Return the tokenizer that a flag names.

    Args:
        name: a folder or a Hub id.
        flag: the flag, for messages.
        allowed: what the flag takes, for messages.

    Raises:
        UsageError: there is no such tokenizer.
    """
    from hf_synpre.data.tokenizers import read_tokenizer

    try:
        return read_tokenizer(name)
    except UsageError as error:
        cause = textwrap.shorten(str(error), LONGEST_CAUSE, placeholder=" ...")
        kind = TemporaryError if isinstance(error, TemporaryError) else UsageError
        raise kind(f"--{flag} is '{name}'; give {allowed} ({cause}).") from error
