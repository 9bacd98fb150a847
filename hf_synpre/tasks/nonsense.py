"""Nonsense summarisation: random bits come in, documents and their summaries go out.

See docs/papers.md, "Nonsense summaries".

A document is sentences of random words. Three operations of sixteen (nonsense_operations.py) mark
it with keywords; its summary is what the three make of it. Compiled code works on the numbers of
words: SYMBOL_WORDS first (keywords, the words of phrases), then the random words. The table behind
`p` turns a word into ids: a tokenizer's pieces (T5's, the default, are stored in nonsense_t5.npz),
or one id a word in vocabularies without text.

Deviation: a full stop is never replaced by a keyword, where the authors' code may replace one
inside a quotation at a sentence's end (rows could not be cut into sentences again).
"""

import functools
import itertools
import string
from pathlib import Path

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.tasks.kernels import ARGUMENTS
from hf_synpre.tasks.nonsense_operations import (
    BREAK_SENTENCE,
    COPY_BULLETED,
    COPY_QUOTED,
    COPY_SHUFFLED,
    COPY_SORTED,
    COPY_THREE,
    FIND_LARGEST,
    FIRST_KEYWORD,
    FIRST_RANDOM,
    FIRST_TARGET,
    FULL_STOP,
    JOIN_CLAUSES,
    KEYWORD_COUNTS,
    KEYWORDS,
    LIST_TOPICS,
    MAJORITY,
    NUMBER_OF,
    OPERATIONS,
    PARAPHRASE,
    PARAPHRASES,
    SYMBOL_WORDS,
    summarize,
)
from hf_synpre.tasks.registry import Parameters, register_task
from hf_synpre.tasks.rng import below, between, fill_between, kernel
from hf_synpre.vocabulary import Tokenizer, Vocabulary

PAPER = "Krishna, Bigham, Lipton 2021, arXiv 2109.04953"
T5_PIECES = Path(__file__).with_name("nonsense_t5.npz")
# Random words whose pieces are stored.
STORED_WORDS = 5000
# The most ids of one word: one a character of the longest, __d11__class_0_kw_0__ (21), and two for
# what a tokenizer puts before a word.
IDS_A_WORD = 23
LONGEST_DOCUMENT = 2**16  # words
LARGEST_TARGET = FIRST_TARGET + 20 * PARAPHRASES - 1

# Where compiled code finds the parameters and the ids of the words in `p`.
WORDS, MIN_SENTENCES, MAX_SENTENCES, MIN_WORDS, MAX_WORDS, CHOSEN, TABLE = range(
    ARGUMENTS, ARGUMENTS + 7
)
OPERATION_NUMBERS = np.array(OPERATIONS, np.int64)
BEGIN_QUOTE = NUMBER_OF["__d7__begin_quote__"]
END_QUOTE = NUMBER_OF["__d7__end_quote__"]

# The ids of every word by its number.
Pieces = list[tuple[int, ...]]

# --- the ids of words -----------------------------------------------------------------------------


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


def check_nonsense(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    for name in ("sentences", "words"):
        low, high = f"min_{name}", f"max_{name}"
        if not 5 <= parameters[low] <= parameters[high]:
            return (
                f"{low} {parameters[low]} to {high} {parameters[high]} is no range from 5 up; "
                f"give {low} >= 5 and {high} >= {low}."
            )
    if parameters["max_sentences"] * (parameters["max_words"] + 1) > LONGEST_DOCUMENT:
        return (
            f"max_sentences * (max_words + 1) exceeds {LONGEST_DOCUMENT} words; "
            "give fewer sentences or shorter ones."
        )
    if not 1 <= parameters["words"] <= 26**3:
        return f"words is {parameters['words']}; words have three letters, so give 1 to {26**3}."
    if not 1 <= parameters["operations"] <= 8:
        return f"operations is {parameters['operations']}; give 1 to 8."
    return None


def nonsense_bounds(parameters: Parameters) -> tuple[int, int]:
    """Return the longest row and the longest summary, in ids.

    A document may get a bullet and two quotes besides its words. An operation copies at most five
    sentences, each with its words, full stop, quotes and bullet, or with a phrase.
    """
    document = parameters["max_sentences"] * (parameters["max_words"] + 1) + 3
    summary = parameters["operations"] * (5 * (parameters["max_words"] + 4) + 8)
    return document * IDS_A_WORD, summary * IDS_A_WORD


# --- documents: words, int32[...], and starts, int64[sentences + 1], as in nonsense_operations.py -


@kernel
def draw_document(state, words, starts, p):
    """Draw U{min..max} sentences of U{min..max} random words and a full stop to words and starts.

    Return how many.
    """
    sentences = between(state, p[MIN_SENTENCES], p[MAX_SENTENCES])
    n = 0
    for s in range(sentences):
        size = between(state, p[MIN_WORDS], p[MAX_WORDS])
        fill_between(state, words[n : n + size], FIRST_RANDOM, FIRST_RANDOM + p[WORDS] - 1)
        words[n + size] = FULL_STOP
        starts[s] = n
        n += size + 1
    starts[sentences] = n
    return sentences


@kernel
def sentences_to_mark(state, op):
    """Draw how many sentences an operation marks."""
    if op == MAJORITY:
        return 2 * between(state, 1, 2) + 1
    if op == LIST_TOPICS:
        return between(state, 2, 5)
    if op == FIND_LARGEST:
        return between(state, 1, 4)
    return 3 if op in (COPY_THREE, COPY_SHUFFLED, COPY_SORTED, JOIN_CLAUSES) else 1


@kernel
def put_keyword(state, words, start, end, keyword):
    """Replace a uniform one of the random words in words[start:end] by a keyword.

    Return False where there is none.
    """
    free = 0
    for i in range(start, end):
        free += words[i] >= FIRST_RANDOM
    if free == 0:
        return False

    # The random word that has `skip` others before it.
    skip = below(state, free)
    while words[start] < FIRST_RANDOM or skip > 0:
        skip -= words[start] >= FIRST_RANDOM
        start += 1
    words[start] = keyword
    return True


@kernel
def insert_word(words, starts, sentences, s, position, word):
    """Insert a word at a position of sentence s."""
    for i in range(starts[sentences], position, -1):
        words[i] = words[i - 1]
    words[position] = word
    for later in range(s + 1, sentences + 1):
        starts[later] += 1


@kernel
def quote(state, words, starts, sentences, s):
    """Quote, for operation 7, a uniform span of sentence s; a keyword never starts it at s's
    start.
    """
    size = starts[s + 1] - starts[s]
    begin = between(state, 0 if words[starts[s]] >= FIRST_RANDOM else 1, size - 1)
    end = between(state, begin + 1, size)
    insert_word(words, starts, sentences, s, starts[s] + end, END_QUOTE)
    insert_word(words, starts, sentences, s, starts[s] + begin, BEGIN_QUOTE)


@kernel
def draw_keyword(state, op, used, k):
    """Draw a keyword to used[k] and return it.

    For operations that need different ones it is not in used[:k].
    """
    distinct = op in (COPY_SORTED, FIND_LARGEST, JOIN_CLAUSES, BREAK_SENTENCE)
    again = True
    while again:
        used[k] = FIRST_KEYWORD[op] + below(state, KEYWORDS[op])
        again = False
        for i in range(k):
            again = again or (distinct and used[i] == used[k])
    return used[k]


@kernel
def mark_document(state, words, starts, sentences, op):
    """Put an operation's keywords into the document.

    Return False where no word is left to replace.
    """
    to_mark = sentences_to_mark(state, op)
    used, k = np.empty(8, np.int64), np.int64(0)  # the keywords so far
    for s in range(sentences):
        # Each sentence with the probability that leaves a uniform choice of `to_mark` sentences.
        if below(state, sentences - s) >= to_mark:
            continue
        to_mark -= 1

        if op == COPY_QUOTED:
            quote(state, words, starts, sentences, s)
        elif op == COPY_BULLETED:
            insert_word(words, starts, sentences, s, starts[s], FIRST_KEYWORD[COPY_BULLETED])
        else:
            # No keyword at the full stop; a joiner needs a word behind it.
            end = starts[s + 1] - (2 if op == JOIN_CLAUSES else 1)
            for _ in range(2 if op == BREAK_SENTENCE else 1):
                keyword = draw_keyword(state, op, used, k)
                if not put_keyword(state, words, starts[s], end, keyword):
                    return False
                k += 1
    return True


@kernel
def write_ids(words, ids, p):
    """Write the ids of the words; return how many."""
    n = 0
    for word in words:
        for i in range(TABLE + p[TABLE + word], TABLE + p[TABLE + word + 1]):
            ids[n] = p[i]
            n += 1
    return n


def document(state, x, y, p):
    """Draw a document and its summary.

    Different operations in random order mark the document, then write the summary in turn.
    """
    words = np.empty(len(x) // IDS_A_WORD, np.int32)
    summary = np.empty(len(y) // IDS_A_WORD, np.int32)
    starts = np.empty(p[MAX_SENTENCES] + 1, np.int64)
    operations = OPERATION_NUMBERS.copy()

    # A document without room for all keywords is drawn anew.
    sentences, marked = 0, False
    while not marked:
        sentences = draw_document(state, words, starts, p)
        marked = True
        for i in range(p[CHOSEN]):
            j = between(state, i, len(operations) - 1)
            operations[i], operations[j] = operations[j], operations[i]
            marked = marked and mark_document(state, words, starts, sentences, operations[i])

    m = np.int64(0)
    text = words[: starts[sentences]]
    for op in operations[: p[CHOSEN]]:
        m = summarize(state, text, starts, op, summary, m, True)
    return write_ids(text, x, p), write_ids(summary[:m], y, p)


# --- rows: from ids back to words, operations and answers -----------------------------------------


@functools.lru_cache(maxsize=4)
def _word_of_ids(
    vocabulary: Vocabulary, tokenizer: Tokenizer | None, n: int
) -> dict[tuple[int, ...], int]:
    """Return the number of a word by its ids.

    `tokenizer` is the vocabulary's: equal vocabularies may differ in it.
    """
    return {ids: number for number, ids in enumerate(word_pieces(vocabulary, n))}


def read_words(ids: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> list[int]:
    """Return the numbers of the words that ids spell.

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
        first = next(word for word in output if FIRST_TARGET <= word <= LARGEST_TARGET)
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


@register_task(
    document,
    paper=PAPER,
    bounds=nonsense_bounds,
    check_parameters=check_nonsense,
    lowest_max_length=None,
    vocabulary_table=piece_table,
    row_check=check_document,
    score_function=score_summary,
    decode=decode_words,
    named=False,
    in_python=True,
    words=5000,
    min_sentences=7,
    max_sentences=13,
    min_words=5,
    max_words=15,
    operations=3,
)
def nonsense_summary(body, vocabulary, parameters):
    """Return the summary that the marked operations make.
    solve: in the order of their numbers; score: in any order.

    input   __d8__bullet__ abc dee . fgh __d21__keyword_4__ ijk . lmn __d14__60__ .
    target  abc dee . the number was above or equal to threshold . fgh .
    """
    words, starts, operations = parse_document(body, vocabulary, parameters)
    pieces = word_pieces(vocabulary, parameters["words"])
    summary: list[int] = []
    for op in operations:
        first_output = right_outputs(words, starts, op)[0]
        for word in first_output:
            summary.extend(pieces[word])
    return summary
