"""The operations of nonsense summarisation: a marked document comes in, summaries go out.

An operation goes by its number in the authors' code. Words are numbers into SYMBOL_WORDS; random
words have the numbers behind them. In compiled code a document is `x`, int32[words], with `starts`,
int64[sentences + 1]: sentence s is x[starts[s]:starts[s + 1]]. A summary is `y`, int32[...],
written from its start; y[:m] is there already.
"""

import numpy as np
from numba import njit

from hf_synpre.tasks.rng import below, kernel, shuffle

# --- the operations and their words ---------------------------------------------------------------

COPY_ONE = 3  # copy the sentence with a keyword
COPY_THREE = 4  # copy three sentences, in order
COPY_SHUFFLED = 5  # copy three sentences, in random order
COPY_SORTED = 6  # copy three sentences, sorted by keyword
COPY_QUOTED = 7  # copy what is quoted
COPY_BULLETED = 8  # copy the bulleted sentence
CLASSIFY = 10  # classify a keyword: 0-4 positive, 5-9 negative
COPY_WITH_CLASS = 11  # copy a sentence, its keyword replaced by its class
MAJORITY = 12  # say which keyword is in the majority
LIST_TOPICS = 13  # list sentences under their keywords' classes
COMPARE = 14  # compare a number with the threshold
FIND_LARGEST = 16  # say which number is the largest
PARAPHRASE = 18  # copy a sentence, a word paraphrased
JOIN_CLAUSES = 19  # join the clauses that follow three joiners
BREAK_SENTENCE = 20  # break a sentence with two joiners into two
CUT_OFF = 21  # cut a sentence off at a keyword

THRESHOLD = 50
POSITIVE_KEYWORDS = 5  # of ten
PARAPHRASES = 3  # of each word
CLASSES = 3
KEYWORDS_OF_A_CLASS = 3

_ten_keywords = [f"keyword_{i}" for i in range(10)]
_class_names = [f"class_{c}" for c in range(CLASSES)]
_class_keywords = [f"{name}_kw_{k}" for name in _class_names for k in range(KEYWORDS_OF_A_CLASS)]
_joiners = [f"join_{i}" for i in range(5)]
_numbers = [str(n) for n in range(100)]

# The names of every operation's keywords; the word of a keyword is __d3__keyword_0__.
KEYWORD_NAMES = {
    COPY_ONE: _ten_keywords,
    COPY_THREE: _ten_keywords,
    COPY_SHUFFLED: _ten_keywords,
    COPY_SORTED: _ten_keywords,
    COPY_QUOTED: ["begin_quote", "end_quote"],
    COPY_BULLETED: ["bullet"],
    CLASSIFY: _ten_keywords,
    COPY_WITH_CLASS: _class_keywords,
    MAJORITY: ["keyword_1", "keyword_2"],
    LIST_TOPICS: _class_keywords,
    COMPARE: _numbers,
    FIND_LARGEST: _numbers,
    PARAPHRASE: [f"src_{i}" for i in range(20)],
    JOIN_CLAUSES: _joiners,
    BREAK_SENTENCE: _joiners,
    CUT_OFF: _ten_keywords,
}
OPERATIONS = tuple(KEYWORD_NAMES)

# How many keywords a document may have of each operation.
KEYWORD_COUNTS: dict[int, tuple[int, ...]] = {
    **dict.fromkeys(OPERATIONS, (1,)),
    COPY_THREE: (3,),
    COPY_SHUFFLED: (3,),
    COPY_SORTED: (3,),
    COPY_QUOTED: (2,),
    MAJORITY: (3, 5),
    LIST_TOPICS: (2, 3, 4, 5),
    FIND_LARGEST: (1, 2, 3, 4),
    JOIN_CLAUSES: (3,),
    BREAK_SENTENCE: (2,),
}

# What operations say in the summary, and the numbers of these phrases.
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
POSITIVE, NEGATIVE, FIRST_MORE, SECOND_MORE, ABOVE, BELOW = range(6)
LARGEST, COMBINED, SECTION = range(6, 9)

# --- the numbers of the words ---------------------------------------------------------------------

_keyword_words = [f"__d{op}__{name}__" for op, names in KEYWORD_NAMES.items() for name in names]
_target_words = [f"__d18__target_{i}_{k}__" for i in range(20) for k in range(PARAPHRASES)]
_class_words = [
    f"__d{op}__{name}__" for op in (COPY_WITH_CLASS, LIST_TOPICS) for name in _class_names
]
_phrase_words = dict.fromkeys(
    word for phrase in PHRASES for word in phrase.split() if not word.isdigit()
)
SYMBOL_WORDS = (*_keyword_words, *_target_words, *_class_words, *_numbers, *_phrase_words)
NUMBER_OF = {word: i for i, word in enumerate(SYMBOL_WORDS)}

# Random words have the numbers from here on.
FIRST_RANDOM = len(SYMBOL_WORDS)

FULL_STOP = NUMBER_OF["."]
FIRST_NUMBER = NUMBER_OF["0"]
FIRST_TARGET = NUMBER_OF[_target_words[0]]
LAST_TARGET = NUMBER_OF[_target_words[-1]]
BEGIN_QUOTE = NUMBER_OF["__d7__begin_quote__"]
END_QUOTE = NUMBER_OF["__d7__end_quote__"]
FIRST_CLASS_TO_COPY = NUMBER_OF[_class_words[0]]
FIRST_CLASS_TO_LIST = NUMBER_OF[_class_words[CLASSES]]

# By operation: the number of its first keyword, and how many it has. int64[operation]
FIRST_KEYWORD = np.zeros(max(OPERATIONS) + 1, np.int64)
KEYWORDS = np.zeros(max(OPERATIONS) + 1, np.int64)
for _op, _names in KEYWORD_NAMES.items():
    FIRST_KEYWORD[_op] = NUMBER_OF[f"__d{_op}__{_names[0]}__"]
    KEYWORDS[_op] = len(_names)

# The words of all phrases one after the other, and where each phrase starts: int32[words],
# int64[phrases + 1].
PHRASE_WORDS = np.array(
    [NUMBER_OF[word] for phrase in PHRASES for word in phrase.split()], np.int32
)
PHRASE_STARTS = np.cumsum([0] + [len(phrase.split()) for phrase in PHRASES])

# --- what each operation adds to a summary --------------------------------------------------------


@kernel
def find_keywords(x, op, positions):
    """Write the positions of an operation's keywords in x to `positions`; return how many."""
    k = 0
    for i in range(len(x)):
        if FIRST_KEYWORD[op] <= x[i] < FIRST_KEYWORD[op] + KEYWORDS[op]:
            positions[k] = i
            k += 1
    return k


@kernel
def sentence_at(starts, position):
    """Return the number of the sentence that holds a position."""
    s = 0
    while starts[s + 1] <= position:
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
    """Append the words of a phrase to y[:m]; return the new m."""
    words = PHRASE_WORDS[PHRASE_STARTS[phrase] : PHRASE_STARTS[phrase + 1]]
    return append(y, m, words)


@kernel
def append_word(y, m, word):
    """Append one word to y[:m]; return the new m."""
    y[m] = word
    return m + 1


@kernel
def copy_sentences(state, x, starts, op, positions, y, m, random):
    """Append the sentences with the keywords (operations 3, 4, 5, 6, 8, 11, 18); return the new m.

    A bullet is dropped; a keyword of 11 is replaced by its class, one of 18 by a paraphrase.
    """
    for position in positions:
        s = sentence_at(starts, position)
        start = starts[s] + (op == COPY_BULLETED)
        end = append(y, m, x[start : starts[s + 1]])

        copied = m + position - start  # where the keyword is in y
        keyword = x[position] - FIRST_KEYWORD[op]
        if op == COPY_WITH_CLASS:
            y[copied] = FIRST_CLASS_TO_COPY + keyword // KEYWORDS_OF_A_CLASS
        if op == PARAPHRASE:
            choice = below(state, PARAPHRASES) if random else 0
            y[copied] = FIRST_TARGET + PARAPHRASES * keyword + choice
        m = end
    return m


@kernel
def copy_clauses(x, starts, op, positions, y, m):
    """Append parts of sentences (operations 7, 19, 20, 21); return the new m."""
    if op == COPY_QUOTED:
        m = append(y, m, x[positions[0] + 1 : positions[1]])
        return m if y[m - 1] == FULL_STOP else append_word(y, m, FULL_STOP)

    if op == JOIN_CLAUSES:
        m = append_phrase(y, m, COMBINED)
        for position in positions:
            end = starts[sentence_at(starts, position) + 1] - 1
            m = append(y, m, x[position:end])
        return append_word(y, m, FULL_STOP)

    # A sentence cut off at its first keyword; broken in two, the second part starts like the first.
    s = sentence_at(starts, positions[0])
    before = x[starts[s] : positions[0]]
    m = append(y, m, before)
    if op == BREAK_SENTENCE:
        m = append(y, m, x[positions[0] : positions[1]])
        m = append_word(y, m, FULL_STOP)
        m = append(y, m, before)
        m = append(y, m, x[positions[1] : starts[s + 1] - 1])
    return append_word(y, m, FULL_STOP)


@kernel
def list_topics(x, starts, positions, y, m):
    """Append every class's section, and in it the sentences with its keywords (operation 13).

    Return the new m.
    """
    for c in range(CLASSES):
        m = append_phrase(y, m, SECTION)
        m = append_word(y, m, FIRST_CLASS_TO_LIST + c)
        for position in positions:
            keyword = x[position] - FIRST_KEYWORD[LIST_TOPICS]
            if keyword // KEYWORDS_OF_A_CLASS == c:
                s = sentence_at(starts, position)
                m = append(y, m, x[starts[s] : starts[s + 1]])
    return m


@kernel
def conclude(x, op, positions, y, m):
    """Append a phrase about the keywords (operations 10, 12, 14, 16); return the new m."""
    first = x[positions[0]] - FIRST_KEYWORD[op]
    if op == CLASSIFY:
        return append_phrase(y, m, POSITIVE if first < POSITIVE_KEYWORDS else NEGATIVE)
    if op == COMPARE:
        return append_phrase(y, m, ABOVE if first >= THRESHOLD else BELOW)

    # Of two keywords, numbered 0 and 1, the sum counts the second.
    largest = total = 0
    for position in positions:
        keyword = x[position] - FIRST_KEYWORD[op]
        largest = max(largest, keyword)
        total += keyword
    if op == MAJORITY:
        return append_phrase(y, m, SECOND_MORE if 2 * total > len(positions) else FIRST_MORE)
    m = append_phrase(y, m, LARGEST)
    m = append_word(y, m, FIRST_NUMBER + largest)
    return append_word(y, m, FULL_STOP)


@kernel
def sort_positions(x, positions):
    """Sort positions by the words there (insertion sort: there are three)."""
    for i in range(1, len(positions)):
        j = i
        while j > 0 and x[positions[j - 1]] > x[positions[j]]:
            positions[j - 1], positions[j] = positions[j], positions[j - 1]
            j -= 1


@njit(cache=True)
def summarize(state, x, starts, op, y, m, random):
    """Append to y[:m] what an operation makes of a document; return the new m.

    Args:
        state: the random generator, uint64[1].
        x: the document's words, int32[words].
        starts: where its sentences start, int64[sentences + 1].
        op: the operation's number.
        y: the summary, int32[...], of which y[:m] is written.
        m: the words in the summary.
        random: whether order and paraphrases are drawn; False takes the first of all that are
            right.
    """
    positions = np.empty(len(x), np.int64)
    positions = positions[: find_keywords(x, op, positions)]  # [keywords]
    if op == COPY_SHUFFLED and random:
        shuffle(state, positions, np.empty(len(positions), np.int64))
    if op == COPY_SORTED:
        sort_positions(x, positions)

    if op in (CLASSIFY, MAJORITY, COMPARE, FIND_LARGEST):
        return conclude(x, op, positions, y, m)
    if op == LIST_TOPICS:
        return list_topics(x, starts, positions, y, m)
    if op in (COPY_QUOTED, JOIN_CLAUSES, BREAK_SENTENCE, CUT_OFF):
        return copy_clauses(x, starts, op, positions, y, m)
    return copy_sentences(state, x, starts, op, positions, y, m, random)
