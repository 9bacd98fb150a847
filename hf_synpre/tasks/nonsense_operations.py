"""Layer 1: the sixteen operations of nonsense summarisation: their words and, compiled, what each adds to a summary.

An operation goes by its number in the authors' code. Words are numbers into SYMBOL_WORDS, random words follow; a document is
words x with `starts[s]` the place where sentence s starts (one start more marks the end).
"""

import numpy as np
from numba import njit

from hf_synpre.tasks.rng import below, kernel, shuffle

CLASSES = [f"class_{c}" for c in range(3)]
TEN = [f"keyword_{i}" for i in range(10)]
KINDS = [f"{name}_kw_{k}" for name in CLASSES for k in range(3)]
JOINERS = [f"join_{i}" for i in range(5)]
NUMBERS = [str(n) for n in range(100)]
NAMES = {
    3: TEN,  # copy the sentence with a keyword
    4: TEN,  # copy three sentences, in order
    5: TEN,  # copy three sentences, in random order
    6: TEN,  # copy three sentences, sorted by keyword
    7: ["begin_quote", "end_quote"],  # copy what is quoted
    8: ["bullet"],  # copy the bulleted sentence
    10: TEN,  # classify a keyword: 0-4 positive, 5-9 negative
    11: KINDS,  # copy a sentence, its keyword replaced by its class
    12: ["keyword_1", "keyword_2"],  # say which keyword is in the majority
    13: KINDS,  # list sentences under their keywords' classes
    14: NUMBERS,  # compare a number with the threshold 50
    16: NUMBERS,  # say which number is the largest
    18: [f"src_{i}" for i in range(20)],  # copy a sentence, a word paraphrased
    19: JOINERS,  # join the clauses that follow three joiners
    20: JOINERS,  # break a sentence with two joiners into two
    21: TEN,  # cut a sentence off at a keyword
}
OPERATIONS = tuple(NAMES)
# The numbers of keywords that a document has for each operation.
PLACES = dict.fromkeys(NAMES, (1,)) | {
    4: (3,),
    5: (3,),
    6: (3,),
    7: (2,),
    12: (3, 5),
    13: (2, 3, 4, 5),
    16: (1, 2, 3, 4),
}
PLACES |= {19: (3,), 20: (2,)}
PHRASES = (
    "the keyword was positive .",
    "the keyword was negative .",
    "The keyword 1 occurred more number of times .",
    "The keyword 2 occurred more number of times .",
    "the number was above or equal to threshold .",
    "the number was below threshold .",
    "The largest number is",
    "The combined sentence is",
    "section",
)
POSITIVE, NEGATIVE, FIRST_MORE, SECOND_MORE, ABOVE, BELOW, LARGEST, COMBINED, SECTION = range(
    len(PHRASES)
)

_keywords = [f"__d{op}__{name}__" for op, names in NAMES.items() for name in names]
_targets = [f"__d18__target_{i}_{k}__" for i in range(20) for k in range(3)]
_classes = [f"__d{op}__{name}__" for op in (11, 13) for name in CLASSES]
_phrase_words = dict.fromkeys(
    word for phrase in PHRASES for word in phrase.split() if not word.isdigit()
)
SYMBOL_WORDS = (*_keywords, *_targets, *_classes, *NUMBERS, *_phrase_words)
NUMBER_OF = {word: i for i, word in enumerate(SYMBOL_WORDS)}
SPECIALS = len(SYMBOL_WORDS)
FULL_STOP, FIRST_TARGET, FIRST_NUMBER = (NUMBER_OF[word] for word in (".", _targets[0], "0"))
CLASS_11, CLASS_13 = NUMBER_OF[_classes[0]], NUMBER_OF[_classes[3]]
FIRST_OF, COUNT_OF = np.zeros(22, np.int64), np.zeros(22, np.int64)
for _op, _names in NAMES.items():
    FIRST_OF[_op], COUNT_OF[_op] = NUMBER_OF[f"__d{_op}__{_names[0]}__"], len(_names)
PHRASE_WORDS = np.array(
    [NUMBER_OF[word] for phrase in PHRASES for word in phrase.split()], np.int32
)
PHRASE_ENDS = np.cumsum([0] + [len(phrase.split()) for phrase in PHRASES])


@kernel
def keyword_places(x, op, at):
    """Write the places of an operation's keywords to `at`; return how many."""
    k = 0
    for i in range(len(x)):
        if FIRST_OF[op] <= x[i] < FIRST_OF[op] + COUNT_OF[op]:
            at[k] = i
            k += 1
    return k


@kernel
def sentence_at(starts, place):
    """Return the number of the sentence that holds a place."""
    s = 0
    while starts[s + 1] <= place:
        s += 1
    return s


@kernel
def append(y, m, words):
    """Append words to y[:m]; return the new m."""
    for word in words:
        y[m] = word
        m += 1
    return m


@kernel
def append_phrase(y, m, phrase):
    """Append a phrase to y[:m]; return the new m."""
    return append(y, m, PHRASE_WORDS[PHRASE_ENDS[phrase] : PHRASE_ENDS[phrase + 1]])


@kernel
def append_word(y, m, word):
    """Append one word to y[:m]; return the new m."""
    y[m] = word
    return m + 1


@kernel
def copy_sentences(state, x, starts, op, at, y, m, random):
    """Operations 3, 4, 5, 6, 8, 11 and 18: the sentences of the keywords, the keyword dropped (8) or replaced (11, 18)."""
    for place in at:
        s = sentence_at(starts, place)
        start = starts[s] + (op == 8)
        end = append(y, m, x[start : starts[s + 1]])
        if op == 11:
            y[m + place - start] = CLASS_11 + (x[place] - FIRST_OF[11]) // 3
        if op == 18:
            choice = below(state, 3) if random else 0
            y[m + place - start] = FIRST_TARGET + 3 * (x[place] - FIRST_OF[18]) + choice
        m = end
    return m


@kernel
def copy_clauses(x, starts, op, at, y, m):
    """Operations 7, 19, 20 and 21: parts of sentences."""
    if op == 7:
        m = append(y, m, x[at[0] + 1 : at[1]])
        return m if y[m - 1] == FULL_STOP else append_word(y, m, FULL_STOP)
    if op == 19:
        m = append_phrase(y, m, COMBINED)
        for place in at:
            m = append(y, m, x[place : starts[sentence_at(starts, place) + 1] - 1])
        return append_word(y, m, FULL_STOP)
    s = sentence_at(starts, at[0])
    before = x[starts[s] : at[0]]
    m = append(y, m, before)
    if op == 20:
        m = append_word(y, append(y, m, x[at[0] : at[1]]), FULL_STOP)
        m = append(y, append(y, m, before), x[at[1] : starts[s + 1] - 1])
    return append_word(y, m, FULL_STOP)


@kernel
def list_topics(x, starts, at, y, m):
    """Operation 13: every class's section and, under it, the sentences with its keywords."""
    for c in range(3):
        m = append_word(y, append_phrase(y, m, SECTION), CLASS_13 + c)
        for place in at:
            if (x[place] - FIRST_OF[13]) // 3 == c:
                s = sentence_at(starts, place)
                m = append(y, m, x[starts[s] : starts[s + 1]])
    return m


@kernel
def conclude(x, op, at, y, m):
    """Operations 10, 12, 14 and 16: a phrase about the keywords."""
    first = x[at[0]] - FIRST_OF[op]
    if op == 10:
        return append_phrase(y, m, POSITIVE if first < 5 else NEGATIVE)
    if op == 14:
        return append_phrase(y, m, ABOVE if first >= 50 else BELOW)
    largest = second = 0
    for place in at:
        largest = max(largest, x[place] - FIRST_OF[op])
        second += x[place] - FIRST_OF[op]
    if op == 12:
        return append_phrase(y, m, SECOND_MORE if 2 * second > len(at) else FIRST_MORE)
    m = append_word(y, append_phrase(y, m, LARGEST), FIRST_NUMBER + largest)
    return append_word(y, m, FULL_STOP)


@kernel
def sort_places(x, at):
    """Sort places by the words there (insertion sort: there are three)."""
    for i in range(1, len(at)):
        j = i
        while j > 0 and x[at[j - 1]] > x[at[j]]:
            at[j - 1], at[j] = at[j], at[j - 1]
            j -= 1


@njit(cache=True)
def summarize(state, x, starts, op, y, m, random):
    """Append to y[:m] what the operation makes of the document x; return the new m. random = False: the first of choices."""
    at = np.empty(len(x), np.int64)
    at = at[: keyword_places(x, op, at)]
    if op == 5 and random:
        shuffle(state, at, np.empty(len(at), np.int64))
    if op == 6:
        sort_places(x, at)
    if op in (10, 12, 14, 16):
        return conclude(x, op, at, y, m)
    if op == 13:
        return list_topics(x, starts, at, y, m)
    if op in (7, 19, 20, 21):
        return copy_clauses(x, starts, op, at, y, m)
    return copy_sentences(state, x, starts, op, at, y, m, random)
