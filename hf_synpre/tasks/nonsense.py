"""Layer 1: nonsense summarisation (Krishna et al. 2021; spec, section 2.3): sentences of random words and three operations.

Compiled code works on word numbers: SYMBOL_WORDS first (keywords, the words of phrases), then the random words. The table
behind `p` turns a word number into ids: a tokenizer's pieces (T5's, the default, are stored in nonsense_t5.npz), or one id
a word in vocabularies without text. Deviation: a full stop is never replaced by a keyword, where the authors' code may
replace one inside a quotation at a sentence's end (rows could not be cut into sentences again).
"""

import functools
import itertools
import string
from pathlib import Path
from typing import Any

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.tasks.kernels import (
    ARGUMENTS,
)
from hf_synpre.tasks.nonsense_operations import (
    COUNT_OF,
    FIRST_OF,
    FIRST_TARGET,
    FULL_STOP,
    NUMBER_OF,
    OPERATIONS,
    PLACES,
    SPECIALS,
    SYMBOL_WORDS,
    summarize,
)
from hf_synpre.tasks.registry import (
    register_task,
)
from hf_synpre.tasks.rng import below, between, fill_between, kernel
from hf_synpre.vocabulary import Vocabulary

PAPER = "Krishna, Bigham, Lipton 2021, arXiv 2109.04953"
T5_PIECES = Path(__file__).with_name("nonsense_t5.npz")
STORED_WORDS = 5000
WIDEST, LONGEST_DOCUMENT = 23, 2**16
WORDS, MIN_SENTENCES, MAX_SENTENCES, MIN_WORDS, MAX_WORDS, CHOSEN, TABLE = range(
    ARGUMENTS, ARGUMENTS + 7
)
OP_NUMBERS = np.array(OPERATIONS, np.int64)
END_QUOTE = NUMBER_OF["__d7__end_quote__"]


def random_words(n: int) -> tuple[str, ...]:
    """The first n random words: three letters, the digits of the word's number in base 26, least significant first."""
    letters = string.ascii_lowercase
    return tuple(letters[i % 26] + letters[i // 26 % 26] + letters[i // 676] for i in range(n))


@functools.cache
def t5_pieces() -> list[tuple[int, ...]]:
    """The stored T5 ids of SYMBOL_WORDS and of 5,000 random words."""
    with np.load(T5_PIECES, allow_pickle=False) as stored:
        ends = np.cumsum(stored["lengths"], dtype=np.int64)
        return [
            tuple(part.tolist()) for part in np.split(stored["ids"].astype(np.int64), ends[:-1])
        ]


def store_t5_pieces(tokenizer: Any) -> None:
    """Write nonsense_t5.npz from the real T5 tokenizer; benchmarks/published_rows.py checks it."""
    pieces = tokenizer_pieces(tokenizer, STORED_WORDS)
    lengths, ids = (
        np.array([len(p) for p in pieces], np.uint8),
        np.array(list(itertools.chain(*pieces)), np.uint16),
    )
    np.savez_compressed(T5_PIECES, lengths=lengths, ids=ids)


@functools.lru_cache(maxsize=4)
def tokenizer_pieces(tokenizer: Any, n: int) -> list[tuple[int, ...]]:
    """Return a tokenizer's ids of SYMBOL_WORDS and n random words, as they are inside a text of words between spaces."""
    before = tokenizer.encode("a", add_special_tokens=False)
    texts = [f"a {word}" for word in SYMBOL_WORDS + random_words(n)]
    return [
        tuple(ids[len(before) :]) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]
    ]


def word_pieces(vocabulary: Vocabulary, n: int) -> list[tuple[int, ...]]:
    """Return the ids of every word number. Raises UsageError where the vocabulary cannot say."""
    t5 = vocabulary == Vocabulary.t5()
    if t5 and n <= STORED_WORDS:
        return t5_pieces()[: SPECIALS + n]
    if vocabulary.tokenizer is not None:
        return tokenizer_pieces(vocabulary.tokenizer, n)
    if t5:
        raise UsageError(
            f"nonsense_summary: words is {n}; T5's pieces are stored for {STORED_WORDS}; give the tokenizer."
        )
    if SPECIALS + n > vocabulary.regular_count:
        raise UsageError(
            f"nonsense_summary has {SPECIALS} words of its own and {n} random ones and the vocabulary has "
            f"{vocabulary.regular_count} regular tokens; give a larger vocabulary or fewer words."
        )
    return [(vocabulary.first_regular + i,) for i in range(SPECIALS + n)]


def piece_table(vocabulary: Vocabulary, parameters: dict) -> np.ndarray:
    """Places in the table: for every word where its ids start, one place more for the end, then the ids."""
    ids = word_pieces(vocabulary, parameters["words"])
    starts = np.cumsum([0, *map(len, ids)]) + len(ids) + 1
    return np.concatenate([starts, np.fromiter(itertools.chain(*ids), np.int64)])


def check(p: dict) -> str | None:
    """What is wrong with the parameters."""
    for low, high, least in (("min_sentences", "max_sentences", 5), ("min_words", "max_words", 5)):
        if not least <= p[low] <= p[high]:
            return f"{low} {p[low]} to {high} {p[high]} is no range from {least} up; give {low} >= {least} and {high} >= {low}."
    if p["max_sentences"] * (p["max_words"] + 1) > LONGEST_DOCUMENT:
        return f"max_sentences * (max_words + 1) exceeds {LONGEST_DOCUMENT} words; give fewer sentences or shorter ones."
    if not 1 <= p["words"] <= 26**3:
        return f"words is {p['words']}; words have three letters, so give 1 to {26**3}."
    return None if 1 <= p["operations"] <= 8 else f"operations is {p['operations']}; give 1 to 8."


def bounds(p: dict) -> tuple[int, int]:
    """Longest row and summary in ids."""
    document = p["max_sentences"] * (p["max_words"] + 1) + 3
    return document * WIDEST, p["operations"] * (5 * (p["max_words"] + 4) + 8) * WIDEST


@kernel
def draw_document(state, words, starts, p):
    """Fill words with U{min..max} sentences of U{min..max} random words and a full stop; return (words, sentences)."""
    sentences, n = between(state, p[MIN_SENTENCES], p[MAX_SENTENCES]), 0
    for s in range(sentences):
        size = between(state, p[MIN_WORDS], p[MAX_WORDS])
        fill_between(state, words[n : n + size], SPECIALS, SPECIALS + p[WORDS] - 1)
        words[n + size] = FULL_STOP
        starts[s] = n
        n += size + 1
    starts[sentences] = n
    return n, sentences


@kernel
def sentences_to_mark(state, op):
    """How many sentences an operation marks."""
    if op == 12:
        return 2 * between(state, 1, 2) + 1
    if op == 13:
        return between(state, 2, 5)
    if op == 16:
        return between(state, 1, 4)
    return 3 if op in (4, 5, 6, 19) else 1


@kernel
def put_keyword(state, words, start, end, keyword):
    """Replace a uniform one of the random words in words[start:end] by a keyword; return False where there is none."""
    free = 0
    for i in range(start, end):
        free += words[i] >= SPECIALS
    if free == 0:
        return False
    skip = below(state, free)
    while words[start] < SPECIALS or skip > 0:
        skip -= words[start] >= SPECIALS
        start += 1
    words[start] = keyword
    return True


@kernel
def insert(words, starts, sentences, s, place, keyword):
    """Insert a keyword at a place of sentence s."""
    for i in range(starts[sentences], place, -1):
        words[i] = words[i - 1]
    words[place] = keyword
    for later in range(s + 1, sentences + 1):
        starts[later] += 1


@kernel
def quote(state, words, starts, sentences, s):
    """Operation 7: quote a uniform span of sentence s; the first word only where it is no keyword."""
    size = starts[s + 1] - starts[s]
    begin = between(state, 0 if words[starts[s]] >= SPECIALS else 1, size - 1)
    end = between(state, begin + 1, size)
    insert(words, starts, sentences, s, starts[s] + end, END_QUOTE)
    insert(words, starts, sentences, s, starts[s] + begin, END_QUOTE - 1)


@kernel
def new_keyword(state, op, used, k):
    """Draw a keyword; one that is not in used[:k] for the operations that need different ones. Put it at used[k]."""
    distinct, again = op in (6, 16, 19, 20), True
    while again:
        used[k] = FIRST_OF[op] + below(state, COUNT_OF[op])
        again = False
        for i in range(k):
            again = again or (distinct and used[i] == used[k])
    return used[k]


@kernel
def mark(state, words, starts, sentences, op):
    """Put an operation's keywords into the document; return False where no word is left to replace."""
    wanted = sentences_to_mark(state, op)
    used, k = np.empty(8, np.int64), np.int64(0)
    for s in range(sentences):
        if below(state, sentences - s) >= wanted:
            continue
        wanted -= 1
        if op == 7:
            quote(state, words, starts, sentences, s)
        elif op == 8:
            insert(words, starts, sentences, s, starts[s], FIRST_OF[8])
        else:
            for _ in range(2 if op == 20 else 1):
                end = starts[s + 1] - (2 if op == 19 else 1)
                if not put_keyword(state, words, starts[s], end, new_keyword(state, op, used, k)):
                    return False
                k += 1
    return True


@kernel
def expand(words, ids, p):
    """Write the ids of the words; return how many."""
    n = 0
    for word in words:
        for i in range(TABLE + p[TABLE + word], TABLE + p[TABLE + word + 1]):
            ids[n] = p[i]
            n += 1
    return n


def document(state, x, y, p):
    """A document of random words; different operations in random order first mark it, then write the summary in turn."""
    words, summary = np.empty(len(x) // WIDEST, np.int32), np.empty(len(y) // WIDEST, np.int32)
    starts, ops = np.empty(p[MAX_SENTENCES] + 1, np.int64), OP_NUMBERS.copy()
    sentences, marked = 0, False
    while not marked:
        _, sentences = draw_document(state, words, starts, p)
        marked = True
        for i in range(p[CHOSEN]):
            j = between(state, i, len(ops) - 1)
            ops[i], ops[j] = ops[j], ops[i]
            marked = marked and mark(state, words, starts, sentences, ops[i])
    m, text = np.int64(0), words[: starts[sentences]]
    for op in ops[: p[CHOSEN]]:
        m = summarize(state, text, starts, op, summary, m, True)
    return expand(text, x, p), expand(summary[:m], y, p)


@functools.lru_cache(maxsize=4)
def _inverse(vocabulary: Vocabulary, tokenizer: Any, n: int) -> dict[tuple[int, ...], int]:
    return {ids: number for number, ids in enumerate(word_pieces(vocabulary, n))}


def read_words(ids: np.ndarray, vocabulary: Vocabulary, parameters: dict) -> list[int]:
    """Return the word numbers of ids. Raises UsageError where the ids are not words of the task."""
    numbers, ids = (
        _inverse(vocabulary, vocabulary.tokenizer, parameters["words"]),
        tuple(ids.tolist()),
    )
    size_at: list[int] = [0] * len(ids) + [1]
    for i in range(len(ids) - 1, -1, -1):
        sizes = range(min(WIDEST, len(ids) - i), 0, -1)
        size_at[i] = next((n for n in sizes if size_at[i + n] and ids[i : i + n] in numbers), 0)
    if not size_at[0]:
        raise UsageError("nonsense_summary: malformed row: its ids are not words of the task.")
    words, i = [], 0
    while i < len(ids):
        words.append(numbers[ids[i : i + size_at[i]]])
        i += size_at[i]
    return words


def parse_row(
    body: np.ndarray, vocabulary: Vocabulary, parameters: dict
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return (words, starts, operations) of a row. Raises UsageError on anything that the law cannot have made."""
    words = read_words(body, vocabulary, parameters)
    ends = [i + 1 for i, word in enumerate(words) if word == FULL_STOP]
    ends = [end + (words[end : end + 1] == [END_QUOTE]) for end in ends]
    if not ends or ends[-1] != len(words):
        raise UsageError("nonsense_summary: malformed row: its last sentence has no full stop.")
    counts = {
        op: sum(FIRST_OF[op] <= w < FIRST_OF[op] + COUNT_OF[op] for w in words) for op in OPERATIONS
    }
    found = [op for op in OPERATIONS if counts[op]]
    if wrong := [op for op in found if counts[op] not in PLACES[op]]:
        number = counts[wrong[0]]
        raise UsageError(
            f"nonsense_summary: malformed row: operation d{wrong[0]} cannot have {number} keywords."
        )
    if len(found) != parameters["operations"]:
        needed = parameters["operations"]
        raise UsageError(
            f"nonsense_summary: malformed row: it has keywords of {len(found)} operations, not {needed}."
        )
    return np.array(words, np.int32), np.array([0, *ends], np.int64), found


def row_check(body: np.ndarray, vocabulary: Vocabulary, parameters: dict) -> str | None:
    """The row check: `parse_row` raises what is wrong."""
    parse_row(body, vocabulary, parameters)
    return None


def variants(words: np.ndarray, starts: np.ndarray, op: int) -> list[list[int]]:
    """Return every right output of one operation, the one without chance first."""
    state, out = np.zeros(1, np.uint64), np.empty(6 * len(words) + 64, np.int32)
    plain = out[: summarize(state, words, starts, op, out, 0, False)].tolist()
    if op == 18:
        target = next(w for w in plain if FIRST_TARGET <= w < FIRST_TARGET + 60)
        return [[target + k if w == target else w for w in plain] for k in range(3)]
    if op == 5:
        sentences = np.split(words, starts[1:-1])
        marked = [
            s.tolist()
            for s in sentences
            if ((s >= FIRST_OF[5]) & (s < FIRST_OF[5] + COUNT_OF[5])).any()
        ]
        return [list(itertools.chain(*order)) for order in itertools.permutations(marked)]
    return [plain]


def judge(body: np.ndarray, answer: np.ndarray, vocabulary: Vocabulary, parameters: dict) -> bool:
    """Is the answer the operations' outputs in any order of operations, any order for d5, any paraphrase for d18?"""
    words, starts, found = parse_row(body, vocabulary, parameters)
    pieces = word_pieces(vocabulary, parameters["words"])
    outputs = {
        op: [[i for word in output for i in pieces[word]] for output in variants(words, starts, op)]
        for op in found
    }

    def matches(rest: list[int], left: frozenset[int]) -> bool:
        if not left:
            return not rest
        fitting = ((op, out) for op in left for out in outputs[op] if rest[: len(out)] == out)
        return any(matches(rest[len(out) :], left - {op}) for op, out in fitting)

    return matches(answer.tolist(), frozenset(found))


def read(ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: dict) -> str:
    """Return ids as text."""
    names = SYMBOL_WORDS + random_words(parameters["words"])
    return " ".join(names[word] for word in read_words(ids, vocabulary, parameters))


@register_task(
    document,
    paper=PAPER,
    bounds=bounds,
    check_parameters=check,
    lowest_max_length=None,
    vocabulary_table=piece_table,
    row_check=row_check,
    score_function=judge,
    decode=read,
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
    """Return the summary that the marked operations make (solve: in the order of their numbers; score: in any order).

    input   __d8__bullet__ abc dee . fgh __d21__keyword_4__ ijk . lmn __d14__60__ .
    target  abc dee . the number was above or equal to threshold . fgh .
    """
    words, starts, found = parse_row(body, vocabulary, parameters)
    pieces = word_pieces(vocabulary, parameters["words"])
    return [i for op in found for word in variants(words, starts, op)[0] for i in pieces[word]]
