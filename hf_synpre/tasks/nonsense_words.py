"""The ids of nonsense words: a vocabulary comes in, the ids of every word by its number go out.

Numbers of words are those of nonsense_operations.py: SYMBOL_WORDS first, then the random words. A
tokenizer gives a word's pieces (T5's, the default, are stored in nonsense_t5.npz); a vocabulary
without text has one regular token a word.
"""

import functools
import itertools
import string
from pathlib import Path

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.nonsense_operations import FIRST_RANDOM, SYMBOL_WORDS
from hf_synpre.vocabulary import Tokenizer, Vocabulary

T5_PIECES = Path(__file__).with_name("nonsense_t5.npz")
# Random words whose pieces are stored.
STORED_WORDS = 5000
# The most ids of one word: one a character of the longest, __d11__class_0_kw_0__ (21), and two for
# what a tokenizer puts before a word.
IDS_A_WORD = 23

# The ids of every word by its number.
Pieces = list[tuple[int, ...]]


def random_words(n: int) -> tuple[str, ...]:
    """Return the first n random words: three letters.

    They are the digits of the word's number in base 26, the least significant first.
    """
    letters = string.ascii_lowercase
    return tuple(letters[i % 26] + letters[i // 26 % 26] + letters[i // 676] for i in range(n))


@functools.cache
def t5_pieces() -> Pieces:
    """Return the stored T5 ids of SYMBOL_WORDS and of 5,000 random words."""
    with np.load(T5_PIECES, allow_pickle=False) as stored:
        ends = np.cumsum(stored["lengths"], dtype=np.int64)
        pieces = np.split(stored["ids"].astype(np.int64), ends[:-1])
    return [tuple(ids.tolist()) for ids in pieces]


def store_t5_pieces(tokenizer: Tokenizer) -> None:
    """Write nonsense_t5.npz from the real T5 tokenizer; benchmarks/published_rows.py checks it."""
    pieces = tokenizer_pieces(tokenizer, STORED_WORDS)
    lengths = np.array([len(ids) for ids in pieces], np.uint8)
    ids = np.array(list(itertools.chain(*pieces)), np.uint16)
    np.savez_compressed(T5_PIECES, lengths=lengths, ids=ids)


@functools.lru_cache(maxsize=4)
def tokenizer_pieces(tokenizer: Tokenizer, n: int) -> Pieces:
    """Return a tokenizer's ids of SYMBOL_WORDS and n random words, as they are inside a text."""
    texts = [f"a {word}" for word in SYMBOL_WORDS + random_words(n)]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    before = tokenizer.encode("a", add_special_tokens=False)
    return [tuple(ids[len(before) :]) for ids in encoded]


def word_pieces(vocabulary: Vocabulary, n: int) -> Pieces:
    """Return the ids of SYMBOL_WORDS and n random words.

    Raises UsageError where the vocabulary cannot say.
    """
    is_t5 = vocabulary == Vocabulary.t5()
    if is_t5 and n <= STORED_WORDS:
        return t5_pieces()[: FIRST_RANDOM + n]
    if vocabulary.tokenizer is not None:
        return tokenizer_pieces(vocabulary.tokenizer, n)
    if is_t5:
        raise UsageError(
            f"nonsense_summary: words is {n}; T5's pieces are stored for {STORED_WORDS}; "
            "give the tokenizer."
        )

    # Without text a word is one regular token.
    if FIRST_RANDOM + n > vocabulary.regular_count:
        raise UsageError(
            f"nonsense_summary has {FIRST_RANDOM} words of its own and {n} random ones and the "
            f"vocabulary has {vocabulary.regular_count} regular tokens; give a larger vocabulary "
            "or fewer words."
        )
    return [(vocabulary.first_regular + i,) for i in range(FIRST_RANDOM + n)]


def piece_table(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the table of the words' ids for compiled code.

    Returns:
        int64[words + 1 + ids]: for every word where its ids start in the table, where the last
        one's end, then the ids.
    """
    pieces = word_pieces(vocabulary, parameters["words"])
    starts = np.cumsum([0, *map(len, pieces)]) + len(pieces) + 1  # [words + 1]
    ids = np.fromiter(itertools.chain(*pieces), np.int64)
    return np.concatenate([starts, ids])
