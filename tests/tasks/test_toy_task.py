"""A toy task teaches the interface: registered here, generated, solved, scored, shown.

Run: pytest tests/tasks/test_toy_task.py
"""

import numpy as np
import pytest

from hf_synpre.errors import UsageError
from hf_synpre.tasks import (
    generate,
    get_task,
    list_tasks,
    open_stream,
    register_task,
    registry,
    samplers,
)
from hf_synpre.vocabulary import Vocabulary

# 60 ids: padding, end of sequence, 45 regular tokens (the digits first), 13 special tokens.
VOCABULARY = Vocabulary.plain(60)


def toy_rotate(x, y, p):
    """Return the input rotated by one.

    input   a b c d
    target  b c d a
    """
    n = len(x)
    for i in range(n):
        y[i] = x[(i + 1) % n]
    return n


@pytest.fixture
def task():
    """The toy task, registered while a test runs. Its parts:

    - `samplers.uniform` draws the input: min_length to max_length uniform regular tokens.
    - `toy_rotate` writes the target of the body x (int32 ids) to y and returns its length. It is
      compiled, so it is written for integers and arrays. p holds the ids of the vocabulary and the
      parameters (tasks/kernels.py).
    - The function's name is the task's; as ids, with a divider behind it, it starts every row.
    - The docstring describes the task in one line and draws an example: list and gallery show it.
    - `paper` says where the task is defined.
    - min_length and max_length are parameters of every task with a range of lengths.
    """
    register_task(samplers.uniform, paper="nowhere: a toy", max_length=12, min_length=4)(toy_rotate)
    yield get_task("toy_rotate")
    del registry.REGISTRY["toy_rotate"]


def test_a_registered_task_is_listed_last(task):
    assert list_tasks()[-1] == "toy_rotate"
    assert task.parameters == {"min_length": 4, "max_length": 12}


def test_its_rows_are_generated_and_have_their_targets(task):
    for row in generate("toy_rotate", 0, 20, vocabulary=VOCABULARY).to_pylist():
        name, divider, *body = row["input_ids"]
        assert [name, divider] == task.prefix(VOCABULARY).tolist()
        assert 4 <= len(body) <= 12
        assert row["labels"] == body[1:] + body[:1]


def test_it_solves_a_row_and_scores_answers(task):
    row = [*task.prefix(VOCABULARY), 5, 6, 7]
    assert task.solve(row, vocabulary=VOCABULARY).tolist() == [6, 7, 5]
    assert task.score(row, [6, 7, 5], vocabulary=VOCABULARY)
    assert not task.score(row, [5, 6, 7], vocabulary=VOCABULARY)


def test_it_shows_ids_to_people(task):
    assert task.text([12, 13, 14], vocabulary=VOCABULARY) == "a b c"


def test_row_i_is_the_same_in_any_batch(task):
    stream = open_stream("toy_rotate", split="validation", seed=7)
    x, x_ends, *_ = stream.rows(np.arange(10))
    alone, *_ = stream.rows(np.array([3]))
    assert x[x_ends[3] : x_ends[4]].tolist() == alone.tolist()


def test_a_name_is_registered_once(task):
    with pytest.raises(UsageError, match="is registered already; choose another name"):
        register_task(samplers.uniform, paper="nowhere: a toy")(toy_rotate)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"least": 3}, "has no keyword least; it is now lowest_min_length"),
        ({"judge": print}, "has no keyword judge; it is now score_function"),
        ({"depth": 1.5}, "The parameter depth of the new task is 1.5; give an integer"),
        ({"depth": print}, "The parameter depth of the new task is <built-in function print>"),
        (
            {"depth": 1, "names_in_key": {"deph": "size"}},
            "Unknown parameter in names_in_key 'deph'. Did you mean 'depth'",
        ),
        (
            {"depth": 1, "size": 2, "names_in_key": {"depth": "size"}},
            "Two parameters of the new task have the name size in the key of a stream; give each",
        ),
    ],
)
def test_what_is_no_parameter_is_refused_before_a_task_is_registered(keywords, message):
    with pytest.raises(UsageError, match=message):
        register_task(samplers.uniform, paper="nowhere: a toy", **keywords)
