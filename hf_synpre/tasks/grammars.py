"""What grammars derive: prefix expressions with their value, and sentences of a random grammar.

Both are tasks of "Physics of Language Models" (docs/papers.md, "Tasks since 2022").

A sentence of `lano` is derived level by level. The root is level 0, the terminals are the last
level, and a rule replaces a symbol by two or three of the next level. So how likely the next token
is can be computed exactly, from the spans that each symbol may have derived (Stolcke 1995,
cmp-lg/9411029): `sentence_surprisal`.
"""

import functools
import math

import numpy as np

from hf_synpre.errors import counted
from hf_synpre.tasks import rng
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR
from hf_synpre.tasks.registry import register_task, registered_task
from hf_synpre.tasks.rng import below, between, copy, kernel, two_below
from hf_synpre.tasks.samplers import NO_TARGET
from hf_synpre.tasks.task import Task, surprisals_of
from hf_synpre.vocabulary import Vocabulary

MANO_PAPER = "Allen-Zhu 2025, arXiv 2512.17351"
LANO_PAPER = "Allen-Zhu, Li 2023, arXiv 2305.13673"


# --- mano -----------------------------------------------------------------------------------------

MODULUS, MIN_OPERATIONS, MAX_OPERATIONS = range(ARGUMENTS, ARGUMENTS + 3)
# The operators are the regular tokens behind the numbers, in this order.
SIGNS = ("+", "-", "*")
ADD, SUBTRACT, OPERATORS = 0, 1, len(SIGNS)
LARGEST_MODULUS, MOST_OPERATIONS = 2**15, 2**15


def expression(state, x, y, p):
    """Draw n = U{min..max} operations, as a token; then a prefix expression that has so many.

    An operator is uniform. Of the other operations U{0..n - 1} are in its first operand, the rest
    in its second one. An operand without operations is a uniform number.
    """
    n = between(state, p[MIN_OPERATIONS], p[MAX_OPERATIONS])
    first, modulus = p[FIRST_REGULAR], p[MODULUS]
    x[0] = first + modulus + OPERATORS + n - 1

    # A stack of how many operations the operands to come have.
    y[0], depth, end = n, 1, 1
    while depth > 0:
        depth -= 1
        operations = y[depth]
        if operations == 0:
            x[end] = first + below(state, modulus)
        else:
            operator, in_first = two_below(state, OPERATORS, operations)
            x[end] = first + modulus + operator
            y[depth], y[depth + 1] = operations - 1 - in_first, in_first
            depth += 2
        end += 1
    return end, NO_TARGET


def check_mano(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of `mano`, or None."""
    low, high = parameters["min_operations"], parameters["max_operations"]
    if not 1 <= low <= high <= MOST_OPERATIONS:
        return (
            f"min_operations is {low} and max_operations {high}; "
            f"give 1 <= min_operations <= max_operations <= {MOST_OPERATIONS}."
        )
    if not 2 <= parameters["modulus"] <= LARGEST_MODULUS:
        return f"modulus is {parameters['modulus']}; give 2 to {LARGEST_MODULUS}."
    return None


def check_expression(
    body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str | None:
    """Return what is malformed in a row of `mano`, or None."""
    modulus = parameters["modulus"]
    symbols = (body - vocabulary.first_regular).tolist()
    operations = symbols[0] - modulus - OPERATORS + 1
    if not 1 <= operations <= parameters["max_operations"]:
        return f"id {body[0]} is no number of operations, which is the first token."

    # Each token is an operand; an operator needs two more.
    missing = 1
    for position, symbol in enumerate(symbols[1:], 1):
        if missing == 0:
            return f"its expression ends before position {position}."
        if not 0 <= symbol < modulus + OPERATORS:
            return f"id {body[position]} is neither a number nor an operator."
        missing += 1 if symbol >= modulus else -1
    if missing:
        return f"its expression lacks {counted(missing, 'operand')}."
    if len(symbols) != 2 * operations + 2:
        return f"it has {(len(symbols) - 2) // 2} operations, not {operations}."
    return None


def decode_expression(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return an expression with its numbers in decimals, the number of operations as `3:`."""
    modulus = parameters["modulus"]
    words = []
    for token in ids.tolist():
        symbol = token - vocabulary.first_regular
        if 0 <= symbol < modulus:
            words.append(str(symbol))
        elif modulus <= symbol < modulus + OPERATORS:
            words.append(SIGNS[symbol - modulus])
        elif 0 <= symbol - modulus - OPERATORS < parameters["max_operations"]:
            words.append(f"{symbol - modulus - OPERATORS + 1}:")
        else:
            words.append(vocabulary.decode(token))
    return " ".join(words)


@register_task(
    expression,
    paper=MANO_PAPER,
    bounds=lambda parameters: (
        2 * parameters["max_operations"] + 2,
        parameters["max_operations"] + 2,
    ),
    check_parameters=check_mano,
    lowest_max_length=None,
    regular_tokens=lambda parameters: (
        parameters["modulus"] + OPERATORS + parameters["max_operations"]
    ),
    row_check=check_expression,
    decode=decode_expression,
    named=False,
    modulus=23,
    min_operations=1,
    max_operations=10,
)
def mano(x, y, p):
    """Return the value of a prefix expression of + - * modulo a number (knowledge manipulation).
    The input is the number of operations, as a token of its own, and the expression. In training
    the number is U{min_operations..max_operations}; the paper's tests have
    min_operations=max_operations, which is 10, 13 or 16.

    input   2: + 20 * 2 3
    target  3
    """
    depth = 0
    for i in range(len(x) - 1, 0, -1):
        symbol = np.int64(x[i]) - p[FIRST_REGULAR]
        if symbol < p[MODULUS]:
            y[depth] = symbol
            depth += 1
            continue

        # The first operand was pushed last.
        depth -= 1
        left, right = np.int64(y[depth]), np.int64(y[depth - 1])
        if symbol - p[MODULUS] == ADD:
            value = left + right
        elif symbol - p[MODULUS] == SUBTRACT:
            value = left - right + p[MODULUS]
        else:
            value = left * right
        y[depth - 1] = value % p[MODULUS]
    y[0] += p[FIRST_REGULAR]
    return 1


# --- lano: grammars and sentences -----------------------------------------------------------------

LEVELS, GRAMMAR, MIN_RULES, MAX_RULES, TABLE = range(ARGUMENTS, ARGUMENTS + 5)
# Every level but that of the root has so many symbols, and a rule two or three.
SYMBOLS, SHORTEST_RULE, LONGEST_RULE = 3, 2, 3
MOST_LEVELS, MOST_RULES = 8, 12
# The table at p[TABLE] has for each symbol how many rules it has; then of each its length and its
# symbols.
RULE_WIDTH = 1 + LONGEST_RULE
SYMBOL_WIDTH = 1 + MOST_RULES * RULE_WIDTH


def grammar_table(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the rules of the grammar that the parameters name, int64[...]."""
    return random_grammar(
        *(parameters[name] for name in ("levels", "grammar_seed", "min_rules", "max_rules"))
    )


@functools.lru_cache(maxsize=64)
def random_grammar(levels: int, grammar_seed: int, min_rules: int, max_rules: int) -> np.ndarray:
    """Draw the rules of a grammar: they depend on the arguments alone.

    A symbol has U{min_rules..max_rules} rules, of U{2..3} uniform symbols each; those of a level
    are different.

    Returns:
        int64[(levels - 1) * SYMBOLS * SYMBOL_WIDTH], the table at p[TABLE].
    """
    named = {"levels": levels, "min_rules": min_rules, "max_rules": max_rules}
    key = rng.stream_key("grammar of lano", 1, named, "train", grammar_seed)
    state = np.empty(1, np.uint64)

    # Each symbol's number of rules, then the rules: their lengths and symbols.
    table = np.zeros((levels - 1, SYMBOLS, SYMBOL_WIDTH), np.int64)
    with np.errstate(over="ignore"):  # random bits overflow where NUMBA_DISABLE_JIT is set
        rng.start_row(state, key, 0)
        for level in table:
            drawn: set[tuple[int, ...]] = set()
            for symbol in level:
                symbol[0] = between(state, min_rules, max_rules)
                for start in range(1, 1 + RULE_WIDTH * symbol[0], RULE_WIDTH):
                    rule: tuple[int, ...] = ()
                    while not rule or rule in drawn:
                        length = between(state, SHORTEST_RULE, LONGEST_RULE)
                        rule = tuple(below(state, SYMBOLS) for _ in range(length))
                    drawn.add(rule)
                    symbol[start] = len(rule)
                    symbol[start + 1 : start + 1 + len(rule)] = rule
    return table.ravel()


@kernel
def expand(state, source, n, out, level, p):
    """Replace each of the symbols source[:n] of a level by one of its rules, all as likely."""
    end = 0
    for i in range(n):
        symbol = TABLE + (level * SYMBOLS + source[i]) * SYMBOL_WIDTH
        rule = symbol + 1 + RULE_WIDTH * below(state, p[symbol])

        # The next rule is written over the third symbol of one that has two.
        for k in range(LONGEST_RULE):
            out[end + k] = p[rule + 1 + k]
        end += p[rule]
    return end


def derived_sentence(state, x, y, p):
    """Derive a sentence from the root, level by level."""
    # x and y hold the levels by turns, so that the last one is in x.
    steps = p[LEVELS] - 1
    source, out = (x, y) if steps % 2 == 0 else (y, x)
    source[0], n = 0, 1
    for level in range(steps):
        n = expand(state, source, n, out, level, p)
        source, out = out, source
    for i in range(n):
        x[i] += p[FIRST_REGULAR]
    return n, NO_TARGET


# --- lano: probabilities --------------------------------------------------------------------------


@kernel
def read_rules(p):
    """Return the rules of each level: int64[steps, rules, 4] and their probabilities.

    A rule is its symbol, then two or three of the next level; -1 stands for a missing third one.
    Behind the last rule of a level stands one of probability 0.
    """
    steps = p[LEVELS] - 1
    rules = np.zeros((steps, SYMBOLS * MOST_RULES + 1, 1 + LONGEST_RULE), np.int64)
    shares = np.zeros((steps, SYMBOLS * MOST_RULES + 1))
    for level in range(steps):
        number = 0
        for symbol in range(SYMBOLS):
            start = TABLE + (level * SYMBOLS + symbol) * SYMBOL_WIDTH
            for k in range(p[start]):
                rule = start + 1 + RULE_WIDTH * k
                rules[level, number, 0] = symbol
                rules[level, number, LONGEST_RULE] = -1
                for i in range(p[rule]):
                    rules[level, number, 1 + i] = p[rule + 1 + i]
                shares[level, number] = 1 / p[start]
                number += 1
    return rules, shares


@kernel
def predict(level, j, rules, shares, forward, chart):
    """Add up how likely each symbol of a level is to begin at position j, after what was read."""
    ranges, _, one_starts, ones, two_starts, twos = chart
    before, here = forward[level - 1], forward[level, j]
    its_rules, its_shares = rules[level - 1], shares[level - 1]
    k = 0
    while its_shares[k] > 0:
        symbol, first, second, third = its_rules[k]
        share = its_shares[k]
        here[first] += share * before[j, symbol]
        for one in range(ranges[level, j, 0], ranges[level, j, 1]):
            here[second] += share * before[one_starts[one], symbol] * ones[one, first]
        if third >= 0:
            for two in range(ranges[level, j, 2], ranges[level, j, 3]):
                here[third] += share * before[two_starts[two], symbol] * twos[two, first, second]
        k += 1


@kernel
def complete(level, end, rules, shares, forward, chart, spans, seconds, parents):
    """Find what the symbols of a level that end at a position are part of.

    `spans` has how likely each symbol is to have derived the tokens from a start to `end`. The
    chart gets those that may be the first symbol of a rule, and pairs of a first and a second one
    (in `seconds` until all are added up); `parents` get the spans of the level above.
    """
    ranges, sizes, one_starts, ones, two_starts, twos = chart
    one, two = sizes
    ranges[level, end, 0], ranges[level, end, 2] = one, two
    before = forward[level - 1]
    its_rules, its_shares = rules[level - 1], shares[level - 1]
    width = LONGEST_RULE ** (len(forward) - 1 - level)  # of the longest span
    for middle in range(max(0, end - width), end):
        span = spans[middle]
        if span[0] + span[1] + span[2] == 0:
            continue
        if before[middle, 0] + before[middle, 1] + before[middle, 2] > 0:
            one_starts[one] = middle
            copy(span, ones[one])
            one += 1
        for first in range(ranges[level, middle, 0], ranges[level, middle, 1]):
            whole = seconds[one_starts[first]]
            for a in range(SYMBOLS):
                for b in range(SYMBOLS):
                    whole[a, b] += ones[first, a] * span[b]
        for pair in range(ranges[level, middle, 2], ranges[level, middle, 3]):
            k = 0
            while its_shares[k] > 0:
                symbol, a, b, c = its_rules[k]
                if c >= 0:
                    parents[two_starts[pair], symbol] += its_shares[k] * twos[pair, a, b] * span[c]
                k += 1
        for a in range(SYMBOLS):
            span[a] = 0

    # Pairs are whole rules of two symbols.
    for start in range(max(0, end - 2 * width), end):
        total = 0.0
        for a in range(SYMBOLS):
            for b in range(SYMBOLS):
                total += seconds[start, a, b]
        if total == 0:
            continue
        k = 0
        while its_shares[k] > 0:
            symbol, a, b, c = its_rules[k]
            if c < 0:
                parents[start, symbol] += its_shares[k] * seconds[start, a, b]
            k += 1
        two_starts[two] = start
        for a in range(SYMBOLS):
            copy(seconds[start, a], twos[two, a])
            for b in range(SYMBOLS):
                seconds[start, a, b] = 0
        two += 1
    ranges[level, end, 1], ranges[level, end, 3] = one, two
    sizes[0], sizes[1] = one, two

    # Only symbols that may begin where they do.
    for start in range(max(0, end - LONGEST_RULE * width), end):
        for symbol in range(SYMBOLS):
            if before[start, symbol] == 0:
                parents[start, symbol] = 0


def sentence_surprisal(x, out, p):
    """Write the surprisal of each token of a sentence that goes on.

    The regular token behind the terminals stands for the end of a sentence. What is impossible, and
    all behind it, has the surprisal infinity.

    Everything is relative to the probability of what was read, so that no number becomes too small:
    a terminal derives itself with 1 / (its probability).
    """
    n, last = len(x), p[LEVELS] - 1
    rules, shares = read_rules(p)
    for j in range(n):
        out[j] = math.inf

    # forward[level, j, symbol]: how likely the symbol begins at j.
    forward = np.zeros((last + 1, n + 1, SYMBOLS))
    forward[0, 0, 0] = 1.0

    # The chart: of each level and end, which entries belong to it; entries of first symbols of
    # rules, and of first and second ones: where they start, and how likely they are from there.
    most_ones = most_twos = 0
    for level in range(1, last + 1):
        most_ones += n * min(n, LONGEST_RULE ** (last - level))
        most_twos += n * min(n, 2 * LONGEST_RULE ** (last - level))
    chart = (
        np.zeros((last + 1, n + 1, 4), np.int64),
        np.zeros(2, np.int64),
        np.empty(most_ones, np.int64),
        np.empty((most_ones, SYMBOLS)),
        np.empty(most_twos, np.int64),
        np.empty((most_twos, SYMBOLS, SYMBOLS)),
    )
    spans, parents = np.zeros((n + 1, SYMBOLS)), np.zeros((n + 1, SYMBOLS))
    seconds = np.zeros((n + 1, SYMBOLS, SYMBOLS))

    ending = 0.0
    for j in range(n):
        for level in range(1, last + 1):
            predict(level, j, rules, shares, forward, chart)
        token = x[j] - p[FIRST_REGULAR]
        if token == SYMBOLS and ending > 0:
            out[j] = -math.log(ending)
        if not 0 <= token < SYMBOLS or forward[last, j, token] == 0:
            return
        probability = forward[last, j, token]
        going_on = forward[last, j, 0] + forward[last, j, 1] + forward[last, j, 2]
        out[j] = math.log(going_on / probability)

        # From the terminal up: `spans` are those of a level that end behind it.
        spans[j, token] = 1 / probability
        for level in range(last, 0, -1):
            complete(level, j + 1, rules, shares, forward, chart, spans, seconds, parents)
            spans, parents = parents, spans
        ending = spans[0, 0]
        spans[0, 0] = 0.0


def check_lano(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of `lano`, or None."""
    if not 2 <= parameters["levels"] <= MOST_LEVELS:
        return f"levels is {parameters['levels']}; give 2 to {MOST_LEVELS}."
    low, high = parameters["min_rules"], parameters["max_rules"]
    if not 1 <= low <= high <= MOST_RULES:
        return (
            f"min_rules is {low} and max_rules {high}; "
            f"give 1 <= min_rules <= max_rules <= {MOST_RULES}."
        )
    return None


def check_sentence(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return why the grammar does not derive a sentence, or None."""
    task = registered_task("lano")
    assert isinstance(task, Task)
    end = vocabulary.first_regular + SYMBOLS
    vector = task.parameter_vector(vocabulary, parameters)
    tokens = np.append(body, np.int32(end))
    impossible = np.flatnonzero(np.isinf(surprisals_of(sentence_surprisal, tokens, vector)))
    if len(impossible) == 0:
        return None
    number = parameters["grammar_seed"]
    if impossible[0] == len(body):
        return f"no sentence of grammar {number} ends with its last token."
    return (
        f"no sentence of grammar {number} has id {body[impossible[0]]} at position "
        f"{impossible[0]}, behind what stands before."
    )


def longest_sentence(parameters: Parameters) -> tuple[int, int]:
    """Return the length of the longest sentence, twice: as ids and as labels."""
    n = LONGEST_RULE ** (parameters["levels"] - 1)
    return n, n


@register_task(
    derived_sentence,
    paper=LANO_PAPER,
    bounds=longest_sentence,
    check_parameters=check_lano,
    lowest_max_length=None,
    regular_tokens=lambda parameters: SYMBOLS,
    vocabulary_table=grammar_table,
    row_check=check_sentence,
    named=False,
    sequence=True,
    surprisal=sentence_surprisal,
    names_in_key={"grammar_seed": "grammar"},
    levels=7,
    grammar_seed=0,
    min_rules=3,
    max_rules=4,
)
def lano(x, y, p):
    """Return the sentence of a random context-free grammar (hierarchical structure).
    The grammar has `levels` levels, with the root in the first one and three symbols in each of the
    others; the terminals are the first three regular tokens. A symbol has min_rules to max_rules
    rules, of two or three symbols of the next level, and each is as likely. The rules are
    drawn with `grammar_seed`. Every token is scored, but not the end of a sentence.

    input   a b b a c
    target  a b b a c
    """
    copy(x, y)
    return len(x)
