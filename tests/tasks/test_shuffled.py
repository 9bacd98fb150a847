"""Rows of a task with their tokens in random order, as a control.

Run: pytest tests/tasks/test_shuffled.py
"""

import pickle

import numpy as np
import pytest
from pretraining_runs import run_of
from task_rows import chi_square, pairs

from hf_synpre import SyntheticDataset, UsageError
from hf_synpre.tasks import get_task, open_stream
from hf_synpre.tasks.shuffled import SALT
from hf_synpre.tasks.streams import Stream
from hf_synpre.training.pretraining import pretrain
from hf_synpre.vocabulary import as_vocabulary


@pytest.mark.parametrize("task", ["set", "mqar", "k_dyck", "sort"])
def test_a_row_keeps_its_tokens_and_its_name(task):
    own = get_task(task)
    vocabulary = as_vocabulary(None)
    stream = Stream(own, own.resolve({}), vocabulary, salt=SALT)
    shuffled = open_stream(f"shuffled-{task}")
    x, x_ends, y, y_ends = stream.rows(np.arange(20))
    rows = shuffled.rows(np.arange(20))
    assert not np.array_equal(rows[0], x)
    prefix = own.prefix(vocabulary).tolist()
    for i in range(20):
        before, after = (ids[x_ends[i] : x_ends[i + 1]] for ids in (x, rows[0]))
        assert sorted(before) == sorted(after)
        assert after[: len(prefix)].tolist() == prefix
        if own.is_sequence:
            assert np.array_equal(rows[2], rows[0])
        else:
            targets = (ids[y_ends[i] : y_ends[i + 1]] for ids in (y, rows[2]))
            assert sorted(next(targets)) == sorted(next(targets))

    # Rows are pure functions of their index, also in another process.
    again = pickle.loads(pickle.dumps(get_task(f"shuffled-{task}"))).open_stream()
    one = again.rows(np.array([7]))[0]
    assert np.array_equal(one, rows[0][x_ends[7] : x_ends[8]])


def test_the_order_is_uniform():
    settings = {"length": 4, "types": 2, "open_percent": 100, "vocabulary": 24}
    rows = [row for row, _ in pairs("shuffled-k_dyck", stop=6000, **settings)]
    # Two brackets open and two close, in any of six orders.
    orders = [tuple(token >= 4 for token in row) for row in rows]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    chi_square(counts, [1000] * 6)


def test_a_model_trains_on_it(tmp_path):
    spec, model = run_of("t5 packed", task="shuffled-identity")
    result = pretrain(spec, model, tmp_path / "run")
    assert result["recipe"]["pretraining"]["task"] == "shuffled-identity"
    assert "bayes_loss" not in result


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UsageError, match="shuffled-set are in random order, so nothing follows"):
        get_task("shuffled-set").solve([356, 32099, 5])
    with pytest.raises(UsageError, match="shuffled-lime would permute the rows of a mixture; give"):
        SyntheticDataset("shuffled-lime")
    with pytest.raises(UsageError, match="Unknown task 'sett'"):
        get_task("shuffled-sett")
