"""Nonsense summarisation: random bits come in, documents and their summaries go out.

See docs/papers.md, "Nonsense summaries".

A document is sentences of random words. Three operations of sixteen (nonsense_operations.py) mark
it with keywords; its summary is what the three make of it. Compiled code works on the numbers of
words, and the table behind `p` turns them into ids (nonsense_words.py). Rows are read and solved in
nonsense_rows.py.

Deviation: a full stop is never replaced by a keyword, where the authors' code may replace one
inside a quotation at a sentence's end (rows could not be cut into sentences again).
"""

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import ARGUMENTS
from hf_synpre.tasks.nonsense_operations import (
    BEGIN_QUOTE,
    BREAK_SENTENCE,
    COPY_BULLETED,
    COPY_QUOTED,
    COPY_SHUFFLED,
    COPY_SORTED,
    COPY_THREE,
    END_QUOTE,
    FIND_LARGEST,
    FIRST_KEYWORD,
    FIRST_RANDOM,
    FULL_STOP,
    JOIN_CLAUSES,
    KEYWORDS,
    LIST_TOPICS,
    MAJORITY,
    OPERATIONS,
    SYMBOL_WORDS,
    summarize,
)
from hf_synpre.tasks.nonsense_rows import (
    check_document,
    decode_words,
    parse_document,
    right_outputs,
    score_summary,
)
from hf_synpre.tasks.nonsense_words import (
    IDS_A_WORD,
    STORED_WORDS,
    piece_table,
    random_words,
    t5_pieces,
    tokenizer_pieces,
    word_pieces,
)
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, between, fill_between, kernel

# The words and their pieces are also read from here.
__all__ = [
    "STORED_WORDS",
    "SYMBOL_WORDS",
    "nonsense_summary",
    "random_words",
    "t5_pieces",
    "tokenizer_pieces",
]

PAPER = "Krishna, Bigham, Lipton 2021, arXiv 2109.04953"
LONGEST_DOCUMENT = 2**16  # words

# Where compiled code finds the parameters and the ids of the words in `p`.
WORDS, MIN_SENTENCES, MAX_SENTENCES, MIN_WORDS, MAX_WORDS, CHOSEN, TABLE = range(
    ARGUMENTS, ARGUMENTS + 7
)
OPERATION_NUMBERS = np.array(OPERATIONS, np.int64)


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
    """Quote a uniform span of sentence s (operation 7), without a keyword at its very start."""
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

    # A document without room for all keywords is drawn again.
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
