"""Sentences of a small grammar with movement and agreement: random bits come in, trees go out.

`mp_struct` writes trees of clauses as brackets, after MP-STRUCT-CORE and MP-STRUCT of LAD
(docs/papers.md, "Tasks since 2022"). The signs of both grammars are the first regular tokens.

A sentence of the core is made by a stack of signs and rules. A sign on top is written; a rule is
replaced by what it stands for, after a choice that is drawn, or read where a sentence is valued.
"""

import functools
import math
import re

import numpy as np
from numba import njit

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, copy, kernel
from hf_synpre.tasks.samplers import NO_TARGET
from hf_synpre.tasks.task import only_regular_tokens
from hf_synpre.vocabulary import Vocabulary

PAPER = "Mita et al. 2026, arXiv 2605.16758"

# Where compiled code finds the parameters in `p`.
GRAMMAR, COMPLEX, RECURSION, MAX_DEPTH = range(ARGUMENTS, ARGUMENTS + 4)
FULL = 1  # the number of "full" among the grammars

# --- the core -------------------------------------------------------------------------------------

# Signs: brackets of phrases, the four links (two kinds of agreement), heads; for people.
OPEN, MOVE, AGREE, _, SELECT = range(5)
CLOSE, MOVED, AGREED, _, SELECTED = range(5, 10)
HEAD_C, HEAD_T, HEAD_V = range(10, 13)
CORE_SIGNS = ("[", "m(", "a(", "b(", "s(", "]", ")m", ")a", ")b", ")s", "C", "T", "V")

# Rules, above all signs: FIRST_RULE + kind + KINDS * (flags + FLAGS * depth of the clause).
FIRST_RULE, KINDS, FLAGS = 32, 8, 64
CLAUSE, TENSE_PHRASE, VERB_PHRASE, SUBJECT, PAIR = range(5)
# Flags: whether the subject has moved, how it agrees; what a verb phrase has already (two bits are
# the number of its objects).
HAS_MOVED, AGREES, HAS_HEAD, HAS_SLOT, ONE_OBJECT = 1, 2, 4, 8, 16
# Choices of a verb phrase: what comes next in it.
TAKES_HEAD, TAKES_SLOT, TAKES_OBJECT, ENDS = range(4)


@kernel
def rule(kind, flags, depth):
    """Return the number of a rule on the stack."""
    return FIRST_RULE + kind + KINDS * (flags + FLAGS * depth)


@kernel
def parts_of_rule(number):
    """Return the kind of a rule, its flags and the depth of its clause."""
    rest = (number - FIRST_RULE) // KINDS
    return (number - FIRST_RULE) % KINDS, rest % FLAGS, rest // FLAGS


@kernel
def orders_left(elements, objects, is_complex):
    """Return in how many ways a verb phrase may go on, weighted by how likely each is.

    It has a head, a slot for the subject, and one object, or 0 to 2 of equal probability; all their
    orders are equally likely. `elements` of the first two and `objects` were written.
    """
    total = 0
    for n in range(objects if is_complex else 1, 3 if is_complex else 2):
        # (n + 2)! / n! orders have n objects: their weights are 6, 2 and 1.
        weight = 6 if n == 0 else 3 - n
        for i in range(2 - elements):
            weight *= n - objects + 1 + i
        total += weight
    return total


@kernel
def verb_phrase_weights(flags, is_complex):
    """Return the weights of what comes next in a verb phrase: head, slot, object, the end."""
    has_head, has_slot = flags // HAS_HEAD % 2, flags // HAS_SLOT % 2
    objects = flags // ONE_OBJECT
    elements = has_head + has_slot
    most = 2 if is_complex else 1

    one_more = orders_left(elements + 1, objects, is_complex) if elements < 2 else 0
    head = 0 if has_head else one_more
    slot = 0 if has_slot else one_more
    noun = orders_left(elements, objects + 1, is_complex) if objects < most else 0
    end = 0
    if elements == 2 and (is_complex or objects == 1):
        end = 6 if objects == 0 else 3 - objects
    return head, slot, noun, end


@kernel
def replace_rule(stack, top, number, choice):
    """Put what a rule stands for on the stack, its end first; return the new top."""
    kind, flags, depth = parts_of_rule(number)
    moved, agrees = flags % 2, flags // AGREES % 2
    if kind == CLAUSE:
        flags = choice  # of HAS_MOVED and AGREES
        moved = flags % 2
        top = push(stack, top, CLOSE)
        top = push(stack, top, rule(TENSE_PHRASE, flags, depth))
        top = push(stack, top, CLOSE)
        if moved:
            top = push(stack, top, MOVE)
        top = push_three(stack, top, CLOSE, OPEN, HEAD_C)
        if moved:
            top = push(stack, top, rule(SUBJECT, flags, depth))
        return push_two(stack, top, OPEN, OPEN)
    if kind == TENSE_PHRASE:
        top = push(stack, top, CLOSE)
        top = push_two(stack, top, OPEN, rule(VERB_PHRASE, moved, depth))
        top = push_two(stack, top, AGREED + agrees, CLOSE)
        top = push_two(stack, top, OPEN, HEAD_T)
        if moved:
            top = push_two(stack, top, OPEN, CLOSE)
        else:
            top = push(stack, top, rule(SUBJECT, flags, depth))
        return push(stack, top, OPEN)
    if kind == SUBJECT:
        top = push_two(stack, top, rule(PAIR, 0, depth), CLOSE)
        return push_two(stack, top, OPEN, AGREE + agrees)
    if kind == PAIR:
        if choice:
            return push(stack, top, rule(CLAUSE, 0, depth + 1))
        top = push_three(stack, top, OPEN, SELECTED, CLOSE)
        return push_three(stack, top, OPEN, SELECT, CLOSE)

    # A verb phrase: its next part, and itself again.
    if choice == ENDS:
        return push(stack, top, CLOSE)
    taken = HAS_HEAD if choice == TAKES_HEAD else HAS_SLOT
    if choice == TAKES_OBJECT:
        taken = ONE_OBJECT
    top = push_two(stack, top, CLOSE, rule(VERB_PHRASE, flags + taken, depth))
    if choice == TAKES_HEAD:
        top = push(stack, top, HEAD_V)
    elif choice == TAKES_OBJECT:
        top = push(stack, top, rule(PAIR, 0, depth))
    elif moved:
        top = push(stack, top, MOVED)
    return push(stack, top, OPEN)


@kernel
def push(stack, top, a):
    """Put one number on the stack; return the new top."""
    stack[top] = a
    return top + 1


@kernel
def push_two(stack, top, a, b):
    """Put two numbers on the stack, `a` above `b`; return the new top."""
    return push(stack, push(stack, top, b), a)


@kernel
def push_three(stack, top, a, b, c):
    """Put three numbers on the stack, `a` above all; return the new top."""
    return push(stack, push_two(stack, top, b, c), a)


@kernel
def clause_percent(depth, p):
    """Return the per cent with which a pair at a depth is a clause."""
    return p[RECURSION] if depth < p[MAX_DEPTH] else 0


@kernel
def drawn_choice(state, number, p):
    """Draw the choice of a rule."""
    kind, flags, depth = parts_of_rule(number)
    if kind == CLAUSE:
        return below(state, 4)
    if kind == PAIR:
        return 1 if below(state, 100) < clause_percent(depth, p) else 0
    if kind != VERB_PHRASE:
        return 0
    head, slot, noun, end = verb_phrase_weights(flags, p[COMPLEX])
    ticket = below(state, head + slot + noun + end)
    if ticket < head:
        return TAKES_HEAD
    if ticket < head + slot:
        return TAKES_SLOT
    return TAKES_OBJECT if ticket < head + slot + noun else ENDS


def sentence(state, x, y, p):
    """Draw a sentence."""
    if p[GRAMMAR] == FULL:
        # Number, order, and whether subject, object and C are of questions.
        n = write_full(
            x, below(state, 2), below(state, 2), below(state, 5), below(state, 5), below(state, 5)
        )
    else:
        n, top = 0, push(y, 0, rule(CLAUSE, 0, 0))
        while top > 0:
            top -= 1
            number = np.int64(y[top])
            if number < FIRST_RULE:
                x[n] = number
                n += 1
            else:
                top = replace_rule(y, top, number, drawn_choice(state, number, p))
    for i in range(n):
        x[i] += p[FIRST_REGULAR]
    return n, NO_TARGET


@kernel
def core_surprisal(x, out, p):
    """Write the surprisal of each sign of the core: a choice counts where it is first seen."""
    first = p[FIRST_REGULAR]
    stack = np.empty(len(x) + 8, np.int64)
    n, top = 0, push(stack, 0, rule(CLAUSE, 0, 0))
    while top > 0:
        top -= 1
        number = stack[top]
        if number < FIRST_RULE:
            n += 1
            continue

        kind, flags, depth = parts_of_rule(number)
        choice = 0
        if kind == CLAUSE:
            # A clause starts with [ [ [ a( where its subject has moved, else [ [ ] [ C ] [ [ a(.
            moved = 1 if x[n + 2] - first == OPEN else 0
            place = n + 3 if moved else n + 8
            choice = moved + AGREES * (x[place] - first - AGREE)
            out[n + 2] = math.log(2)
            out[place] = math.log(2)
        elif kind == PAIR:
            share = clause_percent(depth, p) / 100
            choice = 1 if x[n + 1] - first == OPEN else 0
            out[n + 1] -= math.log(share if choice else 1 - share)
        elif kind == VERB_PHRASE:
            choice = read_verb_phrase(x, n, flags, out, p)
        top = replace_rule(stack, top, number, choice)


@kernel
def read_verb_phrase(x, n, flags, out, p):
    """Return what comes next in a verb phrase from position n on; write its surprisal."""
    first = p[FIRST_REGULAR]
    head, slot, noun, end = verb_phrase_weights(flags, p[COMPLEX])
    goes_on = head + slot + noun
    if x[n] - first == CLOSE:
        out[n] += math.log((goes_on + end) / end)
        return ENDS
    out[n] += math.log((goes_on + end) / goes_on)
    sign = x[n + 1] - first
    if sign == HEAD_V:
        choice, weight = TAKES_HEAD, head
    elif sign == OPEN:
        choice, weight = TAKES_OBJECT, noun
    else:
        choice, weight = TAKES_SLOT, slot
    out[n + 1] += math.log(goes_on / weight)
    return choice


# --- the full grammar -----------------------------------------------------------------------------

LEFT, RIGHT, CP, TP, VP, C, C_WH, MOV, T_SINGULAR, T_PLURAL, DP_SINGULAR, DP_PLURAL = range(12)
D, N, V, WH, TRACE, TRACE_WH = range(12, 18)
FULL_SIGNS = (
    *("[", "]", "CP", "TP", "VP", "C", "C+wh", "MOV", "T.sg", "T.pl", "DP.sg", "DP.pl"),
    *("D", "N", "V", "-wh", "TR", "TR-wh"),
)
LONGEST_FULL = 58
# The two numbers, the two orders, and whether each of subject, object and C is of a question: one
# of five is.
FULL_CASES = 32


@njit(cache=True)
def write_signs(out, n, signs):
    """Write signs at out[n:]; return what comes after them."""
    for sign in signs:
        out[n] = sign
        n += 1
    return n


@njit(cache=True)
def write_noun_phrase(out, n, number, is_wh):
    """Write a noun phrase at out[n:]; return what comes after it."""
    n = write_signs(out, n, (LEFT, DP_SINGULAR + number, LEFT, D, RIGHT, LEFT, N, RIGHT, RIGHT))
    return write_signs(out, n, (WH,)) if is_wh else n


@njit(cache=True)
def write_full(out, number, order, subject_ticket, object_ticket, c_ticket):
    """Write a sentence of the full grammar; return its length.

    Args:
        out: room for LONGEST_FULL signs.
        number: 0 or 1, of both nouns.
        order: 0 where the object stands before the trace of the subject, else 1.
        subject_ticket: 0 where the subject is of a question, likewise the next two.
        object_ticket: of the object.
        c_ticket: of C, to which the object moves if it is of a question, else the subject.
    """
    subject_wh, object_wh, c_wh = subject_ticket == 0, object_ticket == 0, c_ticket == 0

    # What has moved to C.
    n = write_signs(out, 0, (LEFT, CP))
    if c_wh and (subject_wh or object_wh):
        n = write_signs(out, n, (MOV, LEFT))
        n = write_noun_phrase(out, n, number, False)
        n = write_signs(out, n, (RIGHT,))

    # The subject, and the verb.
    n = write_signs(out, n, (LEFT, C_WH if c_wh else C, RIGHT, LEFT, LEFT, TP, LEFT))
    n = write_noun_phrase(out, n, number, subject_wh)
    n = write_signs(out, n, (RIGHT, LEFT, T_SINGULAR + number, RIGHT, LEFT, LEFT, VP, V))

    # The object, or its trace, and the trace of the subject.
    for place in range(2):
        n = write_signs(out, n, (LEFT,))
        if place != order:
            n = write_signs(out, n, (TRACE_WH if subject_wh else TRACE,))
        elif object_wh and c_wh:
            n = write_signs(out, n, (TRACE_WH,))
        else:
            n = write_noun_phrase(out, n, number, object_wh)
        n = write_signs(out, n, (RIGHT,))
    return write_signs(out, n, (RIGHT, RIGHT, RIGHT, RIGHT, RIGHT))


@njit(cache=True)
def write_case(out, case):
    """Write the sentence of a case 0..FULL_CASES-1; return its length and its probability."""
    bits = (case & 1, case >> 1 & 1, case >> 2 & 1, case >> 3 & 1, case >> 4)
    share = 0.25
    for ticket in bits[2:]:
        share *= 0.8 if ticket else 0.2
    return write_full(out, *bits), share


@kernel
def full_surprisal(x, out, p):
    """Write the surprisal of each sign: of the cases that begin as the sentence, those left."""
    cases = np.full((FULL_CASES, LONGEST_FULL), -1, np.int32)  # [cases, signs]
    shares = np.empty(FULL_CASES)
    for case in range(FULL_CASES):
        shares[case] = write_case(cases[case], case)[1]
    total = shares.sum()
    for i in range(len(x)):
        left = 0.0
        for case in range(FULL_CASES):
            if cases[case, i] != x[i] - p[FIRST_REGULAR]:
                shares[case] = 0.0
            left += shares[case]
        out[i] = math.log(total / left)
        total = left


# --- the task -------------------------------------------------------------------------------------


def surprisal(x, out, p):
    """Write the surprisal of each sign of a sentence."""
    for i in range(len(x)):
        out[i] = 0.0
    if p[GRAMMAR] == FULL:
        full_surprisal(x, out, p)
    else:
        core_surprisal(x, out, p)


def check_parameters(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    if parameters["recursion"] > 100:
        return f"recursion is {parameters['recursion']}; give 0 to 100."
    if parameters["max_depth"] > 4:
        return f"max_depth is {parameters['max_depth']}; give at most 4."
    if parameters["grammar"] == "full" and (
        parameters["complex"] == "yes" or parameters["recursion"]
    ):
        return "complex and recursion are of the grammar core; leave them out with grammar=full."
    return None


def longest(parameters: Parameters) -> tuple[int, int]:
    """Return the length of the longest sentence, twice: as ids and as labels."""
    if parameters["grammar"] == "full":
        return LONGEST_FULL, LONGEST_FULL

    # A clause with a moved subject and its pairs of 6 signs; any pair may be a clause.
    objects = 2 if parameters["complex"] == "yes" else 1
    n = 33 + 8 * objects
    for _ in range(parameters["max_depth"] if parameters["recursion"] else 0):
        n = 33 + 8 * objects + (objects + 1) * (n - 6)
    return n, n


# The signs of the core as letters, and clauses in them; P is a pair or a clause in its place.
LETTERS = "(mabs)MABSctv"
CLAUSES = (
    re.compile(r"\(\(\)\(c\)\(\(([ab])P\)\(t([AB])\)\(((?:\(v\)|\(\)|\(P\))*)\)\)\)"),
    re.compile(r"\(\(\(([ab])P\)\)\(cm\)\(\(\)\(t([AB])\)\(((?:\(v\)|\(M\)|\(P\))*)\)\)\)"),
)


def reduced(match: re.Match[str], objects: tuple[int, ...]) -> str:
    """Return P for a clause whose links are right, else the clause as it is."""
    agree, agreed, verb_phrase = match.groups()
    parts = re.findall(r"\((.?)\)", verb_phrase)
    if agree.upper() != agreed or parts.count("v") != 1:
        return match[0]
    counted = parts.count("P")
    is_whole = len(parts) == counted + 2 and counted in objects
    return "P" if is_whole else match[0]


@functools.cache
def full_sentences() -> frozenset[tuple[int, ...]]:
    """Return all sentences of the full grammar."""
    out, found = np.empty(LONGEST_FULL, np.int32), set()
    for case in range(FULL_CASES):
        n, _ = write_case(out, case)
        found.add(tuple(out[:n].tolist()))
    return frozenset(found)


def check_sentence(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a sentence, or None."""
    problem = only_regular_tokens(body, vocabulary, parameters)
    if problem:
        return problem
    signs = (body - vocabulary.first_regular).tolist()
    if parameters["grammar"] == "full":
        return None if tuple(signs) in full_sentences() else "it is no sentence of the grammar."
    if max(signs) >= len(LETTERS):
        return f"id {max(signs) + vocabulary.first_regular} is no sign of the grammar."

    # Clauses become P from the innermost on, as many levels as may be.
    objects = (0, 1, 2) if parameters["complex"] == "yes" else (1,)
    text = "".join(LETTERS[sign] for sign in signs).replace("(s)(S)", "P")
    levels = 1 + (parameters["max_depth"] if parameters["recursion"] else 0)
    is_pair = text == "P"
    for _ in range(levels):
        for clause in CLAUSES:
            text = clause.sub(lambda match: reduced(match, objects), text)
    return None if text == "P" and not is_pair else "it is no sentence of the grammar."


def decode_sentence(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return signs as they are written, with blanks between them."""
    words = FULL_SIGNS if parameters["grammar"] == "full" else CORE_SIGNS
    first = vocabulary.first_regular
    shown = []
    for token in ids.tolist():
        is_sign = first <= token < first + len(words)
        shown.append(words[token - first] if is_sign else vocabulary.decode(token))
    return " ".join(shown)


@register_task(
    sentence,
    paper=PAPER,
    bounds=longest,
    check_parameters=check_parameters,
    lowest_max_length=None,
    regular_tokens=lambda parameters: len(
        FULL_SIGNS if parameters["grammar"] == "full" else CORE_SIGNS
    ),
    row_check=check_sentence,
    decode=decode_sentence,
    named=False,
    sequence=True,
    text_like=True,
    surprisal=surprisal,
    grammar=("core", "full"),
    complex=("no", "yes"),
    recursion=0,
    max_depth=2,
)
def mp_struct(x, y, p):
    """Return the sentence: a clause as brackets, with links of movement, agreement and selection.
    A clause of the core has 37 signs, or 41 where its subject has moved to its start and left m( )m
    behind; a( or b( of the subject comes again as )a or )b of the tense. Subject and object are
    pairs s( )s. The parts of the verb phrase are in any order. There are 24 sentences. complex=yes
    has 0 to 2 objects: 80 sentences. A pair is a clause in `recursion` of 100 cases, at most
    max_depth levels deep. grammar=full has 30 sentences of 18 signs, in which agreement tells
    nothing and a moved subject is written twice. Every token is scored.

    input   [ [ ] [ C ] [ [ a( [ s( ] [ )s ] ] [ T )a ] [ [ V ] [ ] [ [ s( ] [ )s ] ] ] ] ]
    target  [ [ ] [ C ] [ [ a( [ s( ] [ )s ] ] [ T )a ] [ [ V ] [ ] [ [ s( ] [ )s ] ] ] ] ]
    """
    copy(x, y)
    return len(x)
