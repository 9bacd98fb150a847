"""Rows of nonsense summaries in plain Python: a row's ids come in, its parts and text go out.

The parts are its words, where its sentences start, and the operations that mark it. Of these follow
the right outputs of every operation, and the score of an answer.
"""

import functools
import itertools

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.nonsense_operations import (
    COPY_SHUFFLED,
    END_QUOTE,
    FIRST_KEYWORD,
    FIRST_TARGET,
    FULL_STOP,
    KEYWORD_COUNTS,
    KEYWORDS,
    LAST_TARGET,
    OPERATIONS,
    PARAPHRASE,
    PARAPHRASES,
    SYMBOL_WORDS,
    summarize,
)
from hf_synpre.tasks.nonsense_words import IDS_A_WORD, random_words, word_pieces
from hf_synpre.vocabulary import Tokenizer, Vocabulary


@functools.lru_cache(maxsize=4)
def _word_of_ids(
    vocabulary: Vocabulary, tokenizer: Tokenizer | None, n: int
) -> dict[tuple[int, ...], int]:
    """Return the number of a word by its ids.

    `tokenizer` is the vocabulary's: equal vocabularies may differ in it.
    """
    return {ids: number for number, ids in enumerate(word_pieces(vocabulary, n))}


def read_words(ids: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> list[int]:
    """Return the numbers of the words that ids consist of.

    Raises UsageError where they are no words of the task.
    """
    word_of_ids = _word_of_ids(vocabulary, vocabulary.tokenizer, parameters["words"])
    tokens = tuple(ids.tolist())

    # From the end: size_at[i] is the length of the longest word at i from which words reach the
    # end, 0 for none.
    size_at = [0] * len(tokens) + [1]
    for i in range(len(tokens) - 1, -1, -1):
        for size in range(min(IDS_A_WORD, len(tokens) - i), 0, -1):
            if size_at[i + size] and tokens[i : i + size] in word_of_ids:
                size_at[i] = size
                break
    if not size_at[0]:
        raise UsageError("nonsense_summary: malformed row: its ids are not words of the task.")

    words, i = [], 0
    while i < len(tokens):
        words.append(word_of_ids[tokens[i : i + size_at[i]]])
        i += size_at[i]
    return words


def is_keyword(word: int, op: int) -> bool:
    """Return whether a word is a keyword of an operation."""
    return bool(FIRST_KEYWORD[op] <= word < FIRST_KEYWORD[op] + KEYWORDS[op])


def parse_document(
    body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return (words, starts, operations) of a row.

    Raises UsageError on rows that the sampler cannot have drawn.
    """
    words = read_words(body, vocabulary, parameters)

    # A sentence ends with a full stop, and with the end of a quotation behind it.
    starts = [0]
    for i, word in enumerate(words):
        if word == FULL_STOP:
            is_quoted = words[i + 1 : i + 2] == [END_QUOTE]
            starts.append(i + 2 if is_quoted else i + 1)
    if len(starts) == 1 or starts[-1] != len(words):
        raise UsageError("nonsense_summary: malformed row: its last sentence has no full stop.")

    # The operations whose keywords are there.
    operations = []
    for op in OPERATIONS:
        count = sum(is_keyword(word, op) for word in words)
        if count == 0:
            continue
        if count not in KEYWORD_COUNTS[op]:
            raise UsageError(
                f"nonsense_summary: malformed row: operation d{op} cannot have {count} keywords."
            )
        operations.append(op)
    if len(operations) != parameters["operations"]:
        raise UsageError(
            f"nonsense_summary: malformed row: it has keywords of {len(operations)} operations, "
            f"not {parameters['operations']}."
        )
    return np.array(words, np.int32), np.array(starts, np.int64), operations


def check_document(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Check a row: `parse_document` raises what is wrong."""
    parse_document(body, vocabulary, parameters)
    return None


def right_outputs(words: np.ndarray, starts: np.ndarray, op: int) -> list[list[int]]:
    """Return every right output of one operation, in words.

    The first of them takes the first of all choices.

    Args:
        words: the document, int32[words].
        starts: where its sentences start, int64[sentences + 1].
        op: the operation's number.
    """
    state = np.zeros(1, np.uint64)
    # At most five sentences of the document and the words of phrases.
    out = np.empty(6 * len(words) + 64, np.int32)
    length = summarize(state, words, starts, op, out, 0, False)
    output = out[:length].tolist()

    if op == PARAPHRASE:
        first = next(word for word in output if FIRST_TARGET <= word <= LAST_TARGET)
        outputs = []
        for k in range(PARAPHRASES):
            outputs.append([first + k if word == first else word for word in output])
        return outputs

    if op == COPY_SHUFFLED:
        marked = []
        for sentence in np.split(words, starts[1:-1]):
            if any(is_keyword(word, op) for word in sentence):
                marked.append(sentence.tolist())
        return [list(itertools.chain(*order)) for order in itertools.permutations(marked)]

    return [output]


def score_summary(
    body: np.ndarray, answer: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> bool:
    """Return whether an answer is the operations' outputs, in any order, any right one of each."""
    words, starts, operations = parse_document(body, vocabulary, parameters)
    pieces = word_pieces(vocabulary, parameters["words"])
    outputs: dict[int, list[list[int]]] = {}
    for op in operations:
        outputs[op] = []
        for output in right_outputs(words, starts, op):
            outputs[op].append(list(itertools.chain(*(pieces[word] for word in output))))

    def is_made_of(rest: list[int], unused: frozenset[int]) -> bool:
        """Return whether the rest of the answer is outputs of the unused operations, each once."""
        if not unused:
            return not rest
        for op in unused:
            for output in outputs[op]:
                starts_with = rest[: len(output)] == output
                if starts_with and is_made_of(rest[len(output) :], unused - {op}):
                    return True
        return False

    return is_made_of(answer.tolist(), frozenset(operations))


def decode_words(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return ids as the text of their words."""
    texts = SYMBOL_WORDS + random_words(parameters["words"])
    return " ".join(texts[word] for word in read_words(ids, vocabulary, parameters))
