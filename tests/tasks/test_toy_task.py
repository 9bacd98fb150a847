"""A toy task teaches the interface: registered here, then generated, solved, scored, shown and
streamed.

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

    - `samplers.uniform` draws the input: U{min_length..max_length} uniform regular tokens.
    - `toy_rotate` writes the target of the body x (int32 ids) to y and returns its length. p holds
    the ids of the
      vocabulary and the parameters (tasks/kernels.py). It is compiled, so it is written for
      integers and arrays.
    - The function's name is the task's. It also starts every row, as ids, with a divider behind it.
    - The docstring describes the task in one line and draws an example; list, gallery and cards
    show both. - `paper` says where the task is defined; min_length and max_length are parameters of
    every task with a range.
    """
    register_task(samplers.uniform, paper="nowhere: a toy", max_length=12, min_length=4)(toy_rotate)
    yield get_task("toy_rotate")
    del registry.REGISTRY["toy_rotate"]


def test_a_registered_task_is_listed_last(task):
    assert list_tasks()[-1] == "toy_rotate"
    assert task.parameters == {"min_length": 4, "max_length": 12}


def test_its_rows_are_generated_and_have_their_targets(task):
    for row in generate("toy_rotate", 0, 20, vocabulary=60).to_pylist():
        name, divider, *body = row["input_ids"]
        assert [name, divider] == task.prefix(task_vocabulary()).tolist()
        assert 4 <= len(body) <= 12
        assert row["labels"] == body[1:] + body[:1]


def task_vocabulary():
    """Return the plain vocabulary of 60 ids: regular tokens from 2 on, special tokens at the
    end.
    """
    return open_stream("toy_rotate", vocabulary=60).vocabulary


def test_it_solves_a_row_and_scores_answers(task):
    row = [*task.prefix(task_vocabulary()), 5, 6, 7]
    assert task.solve(row, vocabulary=60).tolist() == [6, 7, 5]
    assert task.score(row, [6, 7, 5], vocabulary=60)
    assert not task.score(row, [5, 6, 7], vocabulary=60)


def test_it_shows_ids_to_people(task):
    assert task.text([12, 13, 14], vocabulary=60) == "a b c"


def test_row_i_is_the_same_in_any_batch(task):
    stream = open_stream("toy_rotate", split="validation", seed=7)
    x, x_ends, *_ = stream.rows(np.arange(10))
    alone, *_ = stream.rows(np.array([3]))
    assert x[x_ends[3] : x_ends[4]].tolist() == alone.tolist()


def test_a_name_is_registered_once(task):
    with pytest.raises(UsageError, match="is registered already; choose another name"):
        register_task(samplers.uniform, paper="nowhere: a toy")(toy_rotate)
