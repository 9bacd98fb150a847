"""Encoding: texts -> ids of a tokenizer; documents -> their ids, one after the other.

Special tokens in a text are text, unless asked for.

A tokenizer takes the characters [MASK] or </s> of a text for its control token. In a corpus, and in
the texts of a downstream task, they were written by somebody who meant the characters.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_synpre.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A document of more characters is cut into parts of at most PART_CHARACTERS, each a document of its
# own: the tokens of a whole one would take 50 times its memory. No book is so long.
LONGEST_DOCUMENT = 2**22
PART_CHARACTERS = 2**19
# Characters that a tokenizer is given in one call for each core: enough that all of its threads
# are busy even where documents are books, few enough to stop soon after a limit.
CHARACTERS_A_CORE = 2**19
# More cores are not counted: the tokens of a call take 50 times the memory of its characters.
MOST_CORES = 16


def encoded_documents(
    texts: Iterable[str],
    tokenizer: "PreTrainedTokenizerBase",
    eos: int,
    *,
    special_tokens: bool = False,
    skip: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids of documents in order, an end-of-sequence id after each, some at a time.

    A thread has the next documents encoded while the caller uses these; a fast tokenizer encodes
    them on all cores.

    Args:
        texts: the documents; `document_parts` says what becomes of the longest.
        tokenizer: what turns a text into ids.
        eos: the end-of-sequence id.
        special_tokens: as for `encode_texts`.
        skip: so many documents at the beginning are left out; each part of a long one is counted.

    Yields:
        The ids of one document or more, int32[n], and how many ids each has, int64[documents].
    """
    documents = itertools.chain.from_iterable(document_parts([text]) for text in texts)
    batches = batched_by_size(itertools.islice(documents, skip, None))

    def encode_next() -> list[list[int]] | None:
        batch = next(batches, None)
        if batch is None:
            return None
        return encode_texts(tokenizer, batch, special_tokens=special_tokens)["input_ids"]

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(encode_next)
        while (rows := pending.result()) is not None:
            pending = pool.submit(encode_next)
            for row in rows:
                row.append(eos)
            ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32)
            yield ids, np.array([len(row) for row in rows], np.int64)


def batched_by_size(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in lists of about CHARACTERS_A_CORE characters a core, or of one longer text."""
    characters_a_call = CHARACTERS_A_CORE * min(os.cpu_count() or 1, MOST_CORES)
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= characters_a_call:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def document_parts(blocks: Iterable[str]) -> Iterator[str]:
    """Yield a document, whole, or in parts if it has more than LONGEST_DOCUMENT characters.

    A part ends at the end of a line, or at a blank, where there is one.

    Args:
        blocks: the characters of the document; no more of them are held than a document may have.
    """
    text, is_long = "", False
    for block in blocks:
        text += block
        is_long = is_long or len(text) > LONGEST_DOCUMENT
        if not is_long:
            continue

        begin = 0
        while len(text) - begin > PART_CHARACTERS:
            stop = begin + PART_CHARACTERS
            last = text.rfind("\n", begin, stop)
            if last < 0:
                last = text.rfind(" ", begin, stop)
            end = stop if last < 0 else last + 1
            yield text[begin:end]
            begin = end
        text = text[begin:]
    if text or not is_long:
        yield text


def encode_texts(
    tokenizer: "PreTrainedTokenizerBase",
    texts: list[str],
    *,
    offsets: bool = False,
    special_tokens: bool = False,
) -> dict[str, list[Any]]:
    """Return the ids of texts, without special tokens before, between or after them.

    Texts that spell no special token have the ids that the tokenizer gives them.

    Args:
        tokenizer: what turns a text into ids.
        texts: the texts.
        offsets: return where each id begins and ends, in characters; it takes a fast tokenizer.
        special_tokens: read special tokens that a text spells out as these tokens, as a tokenizer
            does.

    Returns:
        `input_ids`, a list of ids for each text, none of them that of a special token (the unknown
        one aside) unless they are asked for; and `offset_mapping`, a list of (begin, end) for each
        text.

    Raises:
        UsageError: the tokenizer spells characters of a text with a special token alone.
    """
    options: dict[str, Any] = {
        "add_special_tokens": False,
        "return_attention_mask": False,
        "return_token_type_ids": False,
        "verbose": False,
    }
    if offsets:
        options["return_offsets_mapping"] = True
    keys = ["input_ids", "offset_mapping"] if offsets else ["input_ids"]
    if not texts:
        return {key: [] for key in keys}
    encoded = tokenizer(texts, **options)
    columns = {key: list(encoded[key]) for key in keys}
    if special_tokens:
        return columns

    # Encode the texts again whose ids have special tokens, as text.
    control_ids = special_ids(tokenizer)
    unknown = tokenizer.unk_token
    for index, text in enumerate(texts):
        is_clean = control_ids.isdisjoint(columns["input_ids"][index])
        if is_clean and not (unknown and unknown in text):
            continue
        as_text = tokenizer([text], split_special_tokens=True, **options)
        row = {key: as_text[key][0] for key in keys}
        if not control_ids.isdisjoint(row["input_ids"]):
            row = _encode_in_parts(tokenizer, text, control_ids, options, keys)
        for key in keys:
            columns[key][index] = row[key]
    return columns


def special_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Return the ids of a tokenizer's special tokens, without that of unknown text."""
    ids = set(tokenizer.all_special_ids)
    for token_id, token in tokenizer.added_tokens_decoder.items():
        if token.special:
            ids.add(token_id)
    return ids - {tokenizer.unk_token_id}


def _encode_in_parts(
    tokenizer: "PreTrainedTokenizerBase",
    text: str,
    control_ids: set[int],
    options: dict[str, Any],
    keys: list[str],
) -> dict[str, list[Any]]:
    """Return the ids of a text that is cut within every special token that it spells.

    Some tokenizers have the special tokens among their words, and know them as words too.
    """
    cuts = [0]
    for match in _spelled(tokenizer, control_ids).finditer(text):
        cuts.append(match.start() + 1)
    cuts.append(len(text))

    row: dict[str, list[Any]] = {key: [] for key in keys}
    for begin, end in itertools.pairwise(cuts):
        part = tokenizer([text[begin:end]], split_special_tokens=True, **options)
        for position, token in enumerate(part["input_ids"][0]):
            if token in control_ids:
                token = tokenizer.unk_token_id
            if token is None:
                raise UsageError(
                    f"The tokenizer has special tokens alone for the characters "
                    f"{text[begin:end][:40]!r} of a text, and no unknown token; give another "
                    "tokenizer, or special_tokens true, which reads them as these tokens."
                )
            row["input_ids"].append(token)
            if "offset_mapping" in row:
                first, last = part["offset_mapping"][0][position]
                row["offset_mapping"].append((first + begin, last + begin))
    return row


def _spelled(tokenizer: "PreTrainedTokenizerBase", ids: set[int]) -> re.Pattern[str]:
    """Return a pattern of the special tokens of ids as they are spelled, the longest first."""
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(sorted(ids))]
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))
