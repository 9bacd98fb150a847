"""The words that nodes of `depo` and `brevo` are, and how many nodes there are: drawn, read, shown.

A word has min_word_length to max_word_length tokens: each is one of `letters` regular tokens, and
the last one of as many others, so that a word's end is seen. The words of a row are different; each
is drawn by a uniform length, then by uniform letters.

The number of nodes n has the weight 1 / (n + sqrt(max_nodes)), n = min_nodes..max_nodes.
"""

import math

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.id_sets import find_slot, new_table
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR, IGNORED
from hf_synpre.tasks.rng import below, between, kernel
from hf_synpre.vocabulary import Vocabulary

# Where compiled code finds the parameters of both tasks in `p`.
LETTERS, MIN_WORD, MAX_WORD, MIN_NODES, MAX_NODES = range(ARGUMENTS, ARGUMENTS + 5)

# Limits: of nodes, of letters, and of the words that there may be, which are kept as int32.
MOST_NODES = 4096
LONGEST_WORD = 30
MOST_WORDS = 2**30
# The weight of n nodes is the whole part of this over n + sqrt(max_nodes).
NODE_WEIGHT = 2**24

# A word of a row: its ids.
Word = tuple[int, ...]


def node_table(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the cumulative weights of the numbers of nodes, int64[max_nodes - min_nodes + 1]."""
    low, high = parameters["min_nodes"], parameters["max_nodes"]
    weights = NODE_WEIGHT / (np.arange(low, high + 1) + math.sqrt(high))
    return np.cumsum(weights.astype(np.int64))


# --- words in compiled code -----------------------------------------------------------------------


@kernel
def draw_words(state, n, p):
    """Return n different words, int32[n, 1 + longest]: the length of each, then its ids."""
    letters, first = p[LETTERS], p[FIRST_REGULAR]
    words = np.empty((n, 1 + p[MAX_WORD]), np.int32)
    taken = new_table(n)
    for node in range(n):
        # A word is a number of so many digits; a digit 1 before them tells 0 from 00.
        is_new = False
        length, digits = 0, 0
        while not is_new:
            length, numbers = between(state, p[MIN_WORD], p[MAX_WORD]), 1
            for _ in range(length):
                numbers *= letters
            digits = below(state, numbers)
            slot = find_slot(taken, numbers + digits)
            is_new = taken[slot] == 0
            taken[slot] = numbers + digits + 1

        words[node, 0] = length
        for i in range(length, 0, -1):
            words[node, i] = first + digits % letters
            digits //= letters
        words[node, length] += letters
    return words


@kernel
def write_word(words, node, x, at):
    """Write the word of a node to x[at:]; return where it ends."""
    for i in range(words[node, 0]):
        x[at + i] = words[node, 1 + i]
    return at + words[node, 0]


@kernel
def ends_word(token, p):
    """Return whether a token is the last of a word."""
    return p[LETTERS] <= token - p[FIRST_REGULAR] < 2 * p[LETTERS]


# --- words in Python ------------------------------------------------------------------------------


def read_words(tokens: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> list[Word]:
    """Return the words of some ids.

    Raises ValueError where they are no words of the parameters.
    """
    letters = parameters["letters"]
    lengths = range(parameters["min_word_length"], parameters["max_word_length"] + 1)
    words, start = [], 0
    for end, letter in enumerate((tokens - vocabulary.first_regular).tolist(), 1):
        if not 0 <= letter < 2 * letters:
            raise ValueError(f"id {letter + vocabulary.first_regular} is no part of a word.")
        if letter >= letters:
            if end - start not in lengths:
                raise ValueError(
                    f"a word has {end - start} tokens, not {lengths[0]} to {lengths[-1]}."
                )
            words.append(tuple(tokens[start:end].tolist()))
            start = end
    if start < len(tokens):
        raise ValueError("the last word has no end.")
    return words


def read_edges(
    tokens: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> list[tuple[Word, Word]]:
    """Return the edges of some ids, two words each. Raises ValueError as `read_words` does."""
    words = read_words(tokens, vocabulary, parameters)
    if len(words) % 2:
        raise ValueError(f"its edges have {len(words)} words; give two for each.")
    return list(zip(words[::2], words[1::2], strict=True))


def check_words(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of words and nodes, or None."""
    low, high = parameters["min_nodes"], parameters["max_nodes"]
    if not 3 <= low <= high <= MOST_NODES:
        return (
            f"min_nodes is {low} and max_nodes {high}; "
            f"give 3 <= min_nodes <= max_nodes <= {MOST_NODES}."
        )
    shortest, longest = parameters["min_word_length"], parameters["max_word_length"]
    if not 1 <= shortest <= longest <= LONGEST_WORD:
        return (
            f"min_word_length is {shortest} and max_word_length {longest}; "
            f"give 1 <= min_word_length <= max_word_length <= {LONGEST_WORD}."
        )
    letters = parameters["letters"]
    if letters < 2:
        return f"letters is {letters}; give an integer >= 2."
    words = sum(letters**length for length in range(shortest, longest + 1))
    if not high <= words <= MOST_WORDS:
        return (
            f"{letters} letters make {words} words of {shortest} to {longest} tokens; give letters "
            f"and lengths that make at least max_nodes, which is {high}, and at most {MOST_WORDS}."
        )
    return None


def decode_words(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return words as letters, `a- b` for one of two; the numbers of steps as `2:`.

    Labels that are not scored are dots.
    """
    letters = parameters["letters"]
    texts = []
    for token in ids.tolist():
        letter = token - vocabulary.first_regular
        if token == IGNORED:
            texts.append(".")
        elif 0 <= letter < letters:
            texts.append(f"{vocabulary.decode(token)}-")
        elif letters <= letter < 2 * letters:
            texts.append(vocabulary.decode(token - letters))
        elif 0 <= letter - 2 * letters < parameters.get("max_hops", 0):
            texts.append(f"{letter - 2 * letters + 1}:")
        else:
            texts.append(vocabulary.decode(token))
    return " ".join(texts)
