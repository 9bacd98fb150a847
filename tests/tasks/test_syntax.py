"""Sentences of `mp_struct`: how many there are, their links, and how likely each is.

Run: pytest tests/tasks/test_syntax.py
"""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from task_rows import chi_square, pairs

from hf_synpre import UsageError
from hf_synpre.tasks import get_task
from hf_synpre.vocabulary import Vocabulary

V = Vocabulary.plain(40)
PAIR = "[ s( ] [ )s ]"


def sentences(rows, **parameters):
    """Return rows as text."""
    settings = {"vocabulary": V, **parameters}
    text = get_task("mp_struct").text
    return [text(row, **settings) for row, _ in pairs("mp_struct", stop=rows, **settings)]


def clauses(objects, nouns):
    """Return the clauses of the core and their probabilities, written from its definition.

    Args:
        objects: how many objects a verb phrase may have, all equally likely.
        nouns: what may stand in the place of a subject or an object, with probabilities.
    """
    found = Counter()
    choices = itertools.product((False, True), "ab", objects)
    for moves, agrees, count in choices:
        for filled in itertools.product(nouns.items(), repeat=1 + count):
            subject, *others = (text for text, _ in filled)
            share = math.prod(p for _, p in filled) / 4 / len(objects)
            whole = f"[ {agrees}( {subject} ]"
            parts = ["[ V ]", "[ )m ]" if moves else "[ ]", *(f"[ {noun} ]" for noun in others)]
            orders = list(itertools.permutations(parts))
            for order in orders:
                phrase = f"[ {' '.join(order)} ]"
                tense = f"[ {'[ ]' if moves else whole} [ T ){agrees} ] {phrase} ]"
                start = f"[ [ {whole} ] [ C m( ]" if moves else "[ [ ] [ C ]"
                found[f"{start} {tense} ]"] += share / len(orders)
    return found


CORE = clauses((1,), {PAIR: 1.0})
COMPLEX = clauses((0, 1, 2), {PAIR: 1.0})
NESTED = clauses((1,), {PAIR: 0.7} | {text: 0.3 * p for text, p in CORE.items()})


@pytest.mark.parametrize(
    ("parameters", "count", "expected"),
    [({}, 24, CORE), ({"complex": "yes"}, 80, COMPLEX)],
)
def test_the_core_has_24_sentences_and_80_with_0_to_2_objects(parameters, count, expected):
    assert len(expected) == count
    drawn = Counter(sentences(8000, **parameters))
    assert drawn.keys() == expected.keys()
    chi_square([drawn[text] for text in expected], [8000 * p for p in expected.values()])
    if not parameters:
        assert {len(text.split()) for text in expected} == {37, 41}


def full_shares():
    """Return the probabilities of the full grammar's sentences by what can be seen in each."""
    shares = Counter()
    for number, order in itertools.product(("sg", "pl"), (0, 1)):
        for subject, noun, c in itertools.product((0.2, 0.8), repeat=3):
            share = subject * noun * c / 4
            is_moved = c == 0.2 and noun == 0.2
            # Where both are traces of questions their order cannot be seen.
            seen = None if is_moved and subject == 0.2 else order
            shares[number, seen, subject == 0.2, noun == 0.2, c == 0.2] += share
    return shares


def what_is_seen(text):
    """Return the same of a sentence."""
    head, phrase = text.split(" [ VP V ")
    first, second = phrase.removesuffix(" ] ] ] ]").split(" ] [ ", 1)
    traces = [part for part in (first, second) if "TR" in part and "DP" not in part]
    if " [ D ] " in phrase:
        parts = "trace first" if phrase.startswith("[ TR") else "object first"
        subject, noun = "TR-wh" in phrase, phrase.count("-wh") > phrase.count("TR-wh")
    else:
        assert len(traces) == 2
        parts = "object first" if phrase.startswith("[ TR-wh ] [ TR ") else "trace first"
        subject, noun = phrase.count("TR-wh") == 2, True
        parts = None if subject else parts
    number = "sg" if "T.sg" in head else "pl"
    assert text.count(f"DP.{number}") == text.count("DP.") == text.count("[ D ]")
    order = {"object first": 0, "trace first": 1, None: None}[parts]
    # A moved phrase stands before C, whole; a moved subject is at its own place too.
    is_question = "[ C+wh ]" in head
    assert ("MOV" in head) == (is_question and (subject or noun))
    specifier = head.split("[ TP ")[1].split(" [ T.")[0]
    assert ("-wh" in specifier) == subject
    return number, order, subject, noun, is_question


def test_the_full_grammar_has_30_sentences_of_4_16_bits():
    expected = full_shares()
    assert len(expected) == 30
    rows = sentences(20_000, grammar="full")
    assert len(set(rows)) == 30
    drawn = Counter(map(what_is_seen, rows))
    assert drawn.keys() == expected.keys()
    chi_square([drawn[key] for key in expected], [20_000 * p for p in expected.values()])


def likelihoods(rows, **parameters):
    """Return sentences as text with the sum of their surprisals, and how many tokens they have."""
    settings = {"vocabulary": V, **parameters}
    task = get_task("mp_struct")
    for row, labels in pairs("mp_struct", stop=rows, **settings):
        assert labels == row
        surprisals = task.surprisals(row, **settings)
        assert surprisals.min() >= 0
        yield task.text(row, **settings), surprisals.sum(), len(row)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, CORE),
        ({"complex": "yes"}, COMPLEX),
        ({"recursion": 30, "max_depth": 1}, NESTED),
    ],
)
def test_surprisals_are_those_of_the_grammar(parameters, expected):
    assert sum(expected.values()) == pytest.approx(1)
    for text, surprisal, _ in likelihoods(300, **parameters):
        assert surprisal == pytest.approx(-math.log(expected[text]))


def test_surprisals_of_the_full_grammar_are_those_of_its_sentences():
    expected = full_shares()
    for text, surprisal, _ in likelihoods(400, grammar="full"):
        assert surprisal == pytest.approx(-math.log(expected[what_is_seen(text)]))


def test_losses_are_081_and_063_nats_a_token():
    core = get_task("mp_struct").bayes_loss()
    assert core.value == pytest.approx(math.log(24) / 39, abs=4 * core.standard_error)
    assert core.value == pytest.approx(0.081, abs=0.001)
    full = get_task("mp_struct").bayes_loss(grammar="full")
    # Number, order and three coins of 1 in 5, less the orders that cannot be seen.
    coin = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
    entropy = 2 * math.log(2) + 3 * coin - 0.2**3 * math.log(2)
    assert entropy / math.log(2) == pytest.approx(4.16, abs=0.01)
    mean_length = np.mean([n for *_, n in likelihoods(4000, grammar="full")])
    assert full.value == pytest.approx(entropy / mean_length, abs=4 * full.standard_error)
    assert full.value == pytest.approx(0.063, abs=0.001)


def test_a_pair_is_a_clause_as_often_as_recursion_says():
    settings = {"complex": "yes", "recursion": 40, "max_depth": 3}
    clauses_inside = places = 0
    for text in sentences(2000, **settings):
        count = text.count(" C ") - 1
        clauses_inside += count
        places += count + text.count(PAIR)
    # Pairs at max_depth are no clauses, so the share is below 40 of 100.
    assert 0.2 < clauses_inside / places < 0.4
    one_level = sentences(4000, recursion=40, max_depth=1)
    inside = sum(text.count(" C ") - 1 for text in one_level)
    assert abs(inside / (2 * 4000) - 0.4) < 4.5 * math.sqrt(0.24 / 8000)


ERRORS = [
    ({"recursion": 101}, "recursion is 101; give 0 to 100."),
    ({"max_depth": 5}, "max_depth is 5; give at most 4."),
    ({"grammar": "full", "complex": True}, "leave them out with grammar=full."),
]


@pytest.mark.parametrize(("parameters", "message"), ERRORS)
def test_parameters_that_do_not_fit_are_one_line(parameters, message):
    with pytest.raises(UsageError) as error:
        pairs("mp_struct", stop=1, vocabulary=V, **parameters)
    assert message in str(error.value)


def test_what_is_no_sentence_is_refused():
    task, first = get_task("mp_struct"), V.first_regular
    row, _ = pairs("mp_struct", stop=1, vocabulary=V)[0]
    for i in range(len(row)):
        for sign in range(13):
            if first + sign != row[i]:
                with pytest.raises(UsageError, match="it is no sentence of the grammar"):
                    task.solve([*row[:i], first + sign, *row[i + 1 :]], vocabulary=V)
    with pytest.raises(UsageError, match="is no sign of the grammar"):
        task.solve([first + 13], vocabulary=V)
    with pytest.raises(UsageError, match="it is no sentence of the grammar"):
        task.solve([first, first + 4, first + 5, first, first + 9, first + 5], vocabulary=V)

    # A row of other parameters is one only under those.
    nested = {"recursion": 100, "max_depth": 1, "vocabulary": V}
    deep, _ = pairs("mp_struct", stop=1, **nested)[0]
    assert task.solve(deep, **nested).tolist() == deep
    with pytest.raises(UsageError, match="it is no sentence of the grammar"):
        task.solve(deep, vocabulary=V)
    with pytest.raises(UsageError, match="it is no sentence of the grammar"):
        task.solve(row, vocabulary=V, grammar="full")
