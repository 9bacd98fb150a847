"""Errors of the synthetic tasks say in one line what was given, what is allowed, what to do.

Run: pytest tests/tasks/test_task_errors.py
"""

import pytest

from hf_synpre.errors import UsageError
from hf_synpre.tasks import generate, get_task
from hf_synpre.vocabulary import Vocabulary


def abduction(rule, result):
    """A row of lime_abduct with uppers 100-104, lowers 200-223 and maths 300-319."""
    m = Vocabulary.t5().special_ids
    head = [
        m["upper"],
        *range(100, 105),
        m["lower"],
        *range(200, 224),
        m["math"],
        *range(300, 320),
        m["separator"],
    ]
    return [*head, *rule, m["separator"], *result]


ERRORS = [
    (lambda: generate("sett", 0, 1), "Unknown task 'sett'. Did you mean 'set'?"),
    (
        lambda: generate("set", 0, 1, max_lenght=3),
        "Unknown parameter of set 'max_lenght'. Did you mean 'max_length'?",
    ),
    (
        lambda: generate("length", 0, 1, min_length=300, max_length=10),
        "min_length 300 exceeds max_length 10; swap them.",
    ),
    (
        lambda: generate("delete", 0, 1, max_length=12),
        "max_length 12 is too short for min_length 10; give max_length >= 22.",
    ),
    (lambda: generate("replace", 0, 1, min_length=2), "replace: min_length is 2; give at least 4."),
    (
        lambda: generate("union", 0, 1, order="referense"),
        "Unknown order of union 'referense'. Did you mean 'reference'?",
    ),
    (lambda: generate("set", 0, 1, seed=-1), "seed is -1; give an integer >= 0, below 2**63."),
    (
        lambda: generate("set", 0, 1, min_length=1.5),
        "set: min_length is 1.5; give an integer >= 0.",
    ),
    (
        lambda: generate("set", 0, 1, split="dev"),
        "Unknown split 'dev'. Allowed: train, validation, test.",
    ),
    (
        lambda: generate("set", 0, 1, curriculum_rows=2**60),
        "give the number of rows over which lengths grow, up to 2**42, or 0 for no curriculum.",
    ),
    (
        lambda: generate("set", 5, 1),
        "Rows 5 to 1 were asked for; give integers, 0 <= start <= stop < 2**63.",
    ),
    (
        lambda: generate("set", 0.0, 2),
        "Rows 0.0 to 2 were asked for; give integers, 0 <= start <= stop < 2**63.",
    ),
    (lambda: generate("set", 0, 2.5), "Rows 0 to 2.5 were asked for; give integers"),
    (lambda: generate("set", "0", 2), "Rows '0' to 2 were asked for; give integers"),
    (lambda: generate("set", None, 2), "Rows None to 2 were asked for; give integers"),
    (lambda: generate("set", 0, 1, seed=1.0), "seed is 1.0; give an integer >= 0, below 2**63."),
    (
        lambda: generate("lime", 0, 1, curriculum_rows=5),
        "lime_induct has no range of lengths, so a length curriculum cannot apply; leave it out.",
    ),
    (
        lambda: generate("lime", 0, 1, min_length=5),
        "Unknown parameter of lime 'min_length'. Did you mean 'max_length'?",
    ),
    (lambda: generate("lime_deduct", 0, 1, max_length=50), "max_length is 50; give at least"),
    (
        lambda: generate("lime_deduct", 0, 1, min_math=20),
        "min_math 20 to max_math 19 is no range from 1 up; swap them.",
    ),
    (
        lambda: generate("lime", 0, 1, vocabulary=50),
        "draws from 49 regular tokens and the vocabulary has 35",
    ),
    (
        lambda: generate("nonsense_summary", 0, 1, vocabulary=50),
        "give a larger vocabulary or fewer words.",
    ),
    (
        lambda: generate("nonsense_summary", 0, 1, words=6000),
        "T5's pieces are stored for 5000; give the tokenizer.",
    ),
    (
        lambda: generate("nesting_language", 0, 1, open_percent=101),
        "open_percent is 101; give 0 to 100.",
    ),
    (
        lambda: generate({"set": 0}, 0, 1),
        "The weight of set is 0; give an integer from 1 to 2**31 - 1.",
    ),
    (
        lambda: generate({"lime": 1}, 0, 1),
        "'lime' is a mixture itself; give its tasks: lime_induct, lime_deduct, lime_abduct.",
    ),
    (
        lambda: generate({}, 0, 1),
        "A mixture needs at least one task; give {'set': 2, 'identity': 1}.",
    ),
    (
        lambda: generate({"set": 2**31 - 1, "sort": 2**31 - 1, "union": 9}, 0, 1),
        "give smaller ones, with a sum below 2**32.",
    ),
    (
        lambda: generate("set,identity,last_token", 0, 1, vocabulary=19),
        "identity and last_token have the same name ids in this vocabulary; give a larger one.",
    ),
    (
        lambda: generate("set", 0, 1, max_length=2**63),
        "set: max_length is 9223372036854775808; give at most 2147483647.",
    ),
    (
        lambda: generate("lime_induct", 0, 50, max_math=10**9),
        "max_math is 1000000000; give at most max_length, which is 220.",
    ),
    (
        lambda: generate("lime", 0, 50, max_string=10**6),
        "max_string is 1000000; give at most max_length, which is 220.",
    ),
    (
        lambda: generate("lime_abduct", 0, 1, max_symbols=2**20),
        "max_symbols is 1048576; give at most max_length",
    ),
    (
        lambda: generate("lime_deduct", 0, 1, min_symbols=5, max_string=220),
        "lime_deduct: hardly any problem fits max_length 220; give a larger one, "
        "or smaller max_string and max_math.",
    ),
    (
        lambda: generate("nonsense_summary", 0, 1, max_sentences=10**6),
        "max_sentences * (max_words + 1) exceeds 65536 words; "
        "give fewer sentences or shorter ones.",
    ),
    (
        lambda: generate("nonsense_summary", 0, 1, max_words=10**7),
        "max_sentences * (max_words + 1) exceeds 65536 words",
    ),
    (
        lambda: generate("set:x,identity", 0, 1),
        "'set:x' in 'set:x,identity' is no new task with an integer weight",
    ),
    (lambda: generate("set,revers", 0, 1), "Unknown task 'revers'. Did you mean 'reverse'?"),
    (lambda: get_task("set").solve([356, 32099]), "set: a row needs a body"),
    (
        lambda: get_task("set").solve([355, 32099, 5]),
        "set: a row starts with [356, 32099]; got [355, 32099].",
    ),
    (
        lambda: get_task("set").solve([[356, 32099, 5]]),
        "set: a row is a flat list of ids; got shape (1, 3)",
    ),
    (
        lambda: get_task("set").solve([[356], [32099, 5]]),
        "set: a row is a flat list of ids; got a ragged one.",
    ),
    (
        lambda: get_task("set").score([356, 32099, 5], [[5], []]),
        "set: an answer is a flat list of ids; got a ragged one.",
    ),
    (
        lambda: get_task("set").solve([356, 32099, 5, 1]),
        "the row ends with the end-of-sequence id 1; give it without.",
    ),
    (
        lambda: get_task("set").solve([356, 32099, 32050]),
        "malformed row: id 32050 is no regular token (2..31999).",
    ),
    (
        lambda: get_task("union").solve([7021, 32099, 5]),
        "union: malformed row: 0 argument dividers (32097); give exactly one.",
    ),
    (
        lambda: get_task("union").score([7021, 32099, 32097, 5, 32097], [5]),
        "2 argument dividers (32097)",
    ),
    (
        lambda: get_task("count").solve([3476, 32099, 5, 32097, 5, 6]),
        "2 ids after the argument divider; give exactly one",
    ),
    (
        lambda: get_task("delete").solve([9268, 32099, 5, 32097]),
        "0 ids after the argument divider; give a query",
    ),
    (
        lambda: get_task("sort").solve([1843, 32099, 5, 6, 32097, 5]),
        "id 6 of the sequence is not in the order.",
    ),
    (
        lambda: get_task("longest_word").solve([14783, 834, 6051, 32099, 5, 32098]),
        "an empty word beside the word divider",
    ),
    (
        lambda: get_task("nesting_language").solve([5, 16006]),
        "the tail at position 1 does not close the last open head.",
    ),
    (lambda: get_task("nonsense_summary").solve([5, 6]), "nonsense_summary: malformed row"),
    (
        lambda: get_task("lime_induct").solve([32002, 5, 6]),
        "LIME: malformed row: the special token lower (32004) is there 0 times, not 1.",
    ),
    (
        lambda: get_task("lime_abduct").solve(
            abduction([100, 101, 102, 103, 104, 300], [200] * 120 + [301])
        ),
        "lime_abduct: no case turns this row's rule into its result.",
    ),
    (
        lambda: get_task("lime_abduct").solve(
            abduction([100, 101, 102, 103, 104, 300, 100], [200] * 120 + [301, 200])
        ),
        "lime_abduct: no case was found for this row in 50000 guesses; it may have none.",
    ),
    (
        lambda: get_task("lime_deduct").solve(
            [32002, 1, 32004, 20, 32005, 30, 32001, 1, 32001, 1, 32000, 32003, 20, 32006]
        ),
        "LIME: malformed row: in its header id 1 is no regular token (2..31999).",
    ),
    (
        lambda: get_task("lime_induct").solve(
            [32002, 9, 32004, 32000, 32005, 30, 32001, 30, 32001, 9, 32000, 32003, 30, 32006]
        ),
        "LIME: malformed row: in its header id 32000 is no regular token (2..31999).",
    ),
    (
        lambda: get_task("lime").solve([5, 6]),
        "lime: no component accepts the row: LIME: malformed row",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_errors_say_what_and_what_to_do(call, message):
    with pytest.raises(UsageError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["seed", "vocabulary", "curriculum_rows", "max_length", "start"])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_integer_that_python_does_not_write_out_is_refused(name, sign):
    arguments = {"start": 0, "stop": 1} | {name: sign * 10**5000}
    with pytest.raises(UsageError, match=r"an integer of more than 4,300 digits.* give"):
        generate("set", **arguments)
    with pytest.raises(UsageError, match=r"an integer of more than 4,300 digits.* give"):
        generate({"set": sign * 10**5000}, 0, 1)
    with pytest.raises(UsageError, match="is no new task with an integer weight"):
        generate(f"set:{'9' * 5000}", 0, 1)
