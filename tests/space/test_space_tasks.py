"""The page of synthetic tasks: rows, colours, answers; what it says where something is wrong.

Run: pytest tests/space/test_space_tasks.py
"""

import re
from html import unescape

import pytest
import tasks_page
from tasks_page import Choice, describe, judge, read_row, show_rows, small_sizes

from hf_synpre import UsageError, generate, list_tasks
from hf_synpre.data.collators import CausalCollator, Seq2SeqCollator
from hf_synpre.tasks import get_task

WITH_ANSWERS = [name for name in list_tasks() if Choice(name).has_answers]


def small(task, layout="seq2seq"):
    return Choice(task, *small_sizes(task), layout)


def test_every_parameter_has_a_meaning():
    names = {name for task in list_tasks() for name in get_task(task).parameters}
    assert names == set(tasks_page.MEANINGS)


@pytest.mark.parametrize("task", list_tasks())
def test_rows_are_those_of_generate(task):
    shown = show_rows(small(task), 3, 2)
    call = unescape(re.search(r'<pre class="call">(.*?)</pre>', shown)[1])
    rows = eval(call, {"generate": generate}).to_pylist()
    assert len(rows) == 2
    for number, row in enumerate(rows, start=3):
        lines = dict(read_row(small(task), number))
        if task in WITH_ANSWERS:
            assert [token.token for token in lines["answer"]] == [*row["labels"], 1]
            assert [token.token for token in lines["input"]] == [*row["input_ids"], 1]
        else:
            tokens = lines["sequence"]
            assert [token.token for token in tokens] == row["input_ids"]
            counted = [token.token if token.counted else -100 for token in tokens]
            assert counted == row["labels"]
            assert not any(token.text.startswith("<") for token in tokens)


@pytest.mark.parametrize("task", WITH_ANSWERS)
def test_its_own_answer_is_right_and_another_is_not(task):
    choice = small(task)
    _, answer = read_row(choice, 1)[1]
    text = " ".join(token.text for token in answer)
    assert "Right: row 1." in judge(choice, 1, text)
    wrong = judge(choice, 1, "no " + text)
    assert "verdict wrong" in wrong
    assert "Not right: token 1 is no, and should be " in wrong


def test_loss_positions_are_those_of_the_collators():
    choice = small("set")
    row = generate("set", 0, 1, vocabulary=choice.ids, **choice.parameters).to_pylist()[0]
    batch = Seq2SeqCollator(pad=0, eos=1, start=0, multiple=1)([row])
    (_, source), (_, answer) = read_row(choice, 0)
    assert [token.token for token in source] == batch["input_ids"][0].tolist()
    assert [token.token for token in answer if token.counted] == batch["labels"][0].tolist()
    assert not any(token.counted for token in source)

    causal = small("set", "causal")
    options = {"vocabulary": causal.ids, "layout": "causal", **causal.parameters}
    row = generate("set", 0, 1, **options).to_pylist()[0]
    labels = CausalCollator(pad=0, eos=1, multiple=1)([row])["labels"][0].tolist()
    ((_, line),) = read_row(causal, 0)
    assert [token.token if token.counted else -100 for token in line] == labels
    assert [token.role for token in line if token.counted][-1] == "end"


def test_colours_tell_name_input_and_answer():
    shown = show_rows(small("set"), 0, 1)
    assert shown.count("token name") == 3  # two ids, and the legend
    assert 'class="token answer counted" title="id 19">h</span>' in shown
    assert 'class="token end counted"' in shown
    assert "&lt;UPPER&gt;" in show_rows(small("lime_induct"), 0, 1)
    assert "token of a sequence" in show_rows(small("uniform"), 0, 1)


@pytest.mark.parametrize("layout", ["seq2seq", "causal"])
def test_hidden_answers_are_not_on_the_page(layout):
    shown = show_rows(small("length", layout), 0, 1, hidden=True)
    assert shown.count("answer counted") == 1
    assert 'title="to be found">?<' in shown


def test_another_right_answer_is_right():
    choice = small("lime_abduct")
    ids, target = choice.row(0)
    words = choice.texts(target, ids)
    starts = [i - 1 for i, word in enumerate(words) if word == ":"]
    parts = [words[i:j] for i, j in zip(starts, [*starts[1:], len(words)], strict=True)]
    other = " ".join(word for part in reversed(parts) for word in part)
    assert "It differs from the one of the row, and is as good." in judge(choice, 0, other)


def test_a_description_has_definition_example_and_paper():
    text = describe("set")
    assert "<p>Return the distinct tokens in order of first appearance." in text
    assert "target  b a c</pre>" in text
    assert "2206.10139" in text


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (Choice("set", {"max_length": 2**20}), "Such rows may have 1,048,"),
        (Choice("set", {"min_length": 9, "max_length": 4}), "min_length 9 exceeds max_length 4"),
        (Choice("set", ids=3), "A vocabulary size is 3"),
        (Choice("set", seed=-1), "seed"),
        (Choice("lime", layout="other"), "Unknown layout 'other'"),
        (Choice("sett"), "Did you mean 'set'?"),
    ],
)
def test_impossible_rows_are_refused(choice, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        show_rows(choice, 0, 1)


@pytest.mark.parametrize(
    ("task", "answer", "text"),
    [
        ("set", " ", "There is no answer yet"),
        ("set", "h <b>", "'<b>' is no token of this row or its vocabulary"),
        ("set", "h " * 20_000, "more than 20,000 letters"),
        ("uniform", "a", "sequences without an answer"),
    ],
)
def test_impossible_answers_are_refused(task, answer, text):
    with pytest.raises(UsageError, match=text):
        judge(small(task), 0, answer)


@pytest.mark.parametrize(("start", "count"), [(0, 0), (0, 11), (-1, 1), (2**60, 1)])
def test_impossible_numbers_of_rows_are_refused(start, count):
    with pytest.raises(UsageError, match="give"):
        show_rows(small("set"), start, count)
