"""Streams: rows depend on their index alone, differ between streams, and stay (golden.json).

Run: pytest tests/tasks/test_streams.py
"""

import json
import os
import pickle
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from golden import FILE, digest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_rows import RANGED, TASKS, chi_square, flat_rows, pairs

from hf_synpre.tasks import get_task, open_stream, rng

# A row of these takes a second without a compiler.
SLOW_IN_PYTHON = ("nca", "linear_rnn", "random_lstm")
# Parameters under which a task runs other code than under its defaults.
OTHER_LAWS = [
    *(("chomsky", {"language": word}) for word in get_task("chomsky").parameters["language"]),
    ("mp_struct", {"grammar": "full"}),
    ("mp_struct", {"complex": "yes", "recursion": 30}),
    *((task, {"law": "uniform"}) for task in ("set", "sort", "union", "delete")),
]


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=8, deadline=None)
@given(start=st.integers(0, 2**40), size=st.integers(2, 9), data=st.data())
def test_a_row_is_the_same_in_any_batch_and_order(task, start, size, data):
    stream = open_stream(task, curriculum_rows=start + 4 if task in RANGED else 0)
    x, x_ends, y, y_ends = stream.rows(np.arange(start, start + size))
    for i in data.draw(st.permutations(range(size))):
        input_alone, _, target_alone, _ = stream.rows(np.array([start + i]))
        assert input_alone.tolist() == x[x_ends[i] : x_ends[i + 1]].tolist()
        assert target_alone.tolist() == y[y_ends[i] : y_ends[i + 1]].tolist()


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_rows_without_a_compiler_are_the_same(times):
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from golden import digest;"
        "cases = json.loads(sys.argv[2]);"
        "print(json.dumps([digest(task, rows, **law) for task, rows, law in cases]))"
    )
    cases = [(task, times * (1 if task in SLOW_IN_PYTHON else 3), {}) for task in TASKS]
    cases += [(task, 3 * times, law) for task, law in OTHER_LAWS]
    command = [sys.executable, "-W", "error", "-c", code, str(Path(__file__).parents[1])]
    command.append(json.dumps(cases))
    done = subprocess.run(
        command,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [digest(task, rows, **law) for task, rows, law in cases]


@pytest.mark.parametrize("task", TASKS)
def test_golden_rows(task):
    key = f"{task} v{get_task(task).version}"
    assert digest(task) == json.loads(FILE.read_text())[key], (
        "rows changed: raise the task's version, run make golden"
    )


@pytest.mark.parametrize(
    ("task", "parameters", "before"),
    [
        ("linear_rnn", {"weights": "reference"}, {"law": "reference"}),
        ("lano", {"grammar_seed": 5}, {"grammar": 5}),
    ],
)
def test_a_parameter_that_was_renamed_leaves_rows_as_they_were(task, parameters, before):
    stream = open_stream(task, **parameters)
    others = {name: v for name, v in stream.parameters.items() if name not in parameters}
    assert stream.key == rng.stream_key(task, 1, others | before, "train", 0)


def test_a_parameter_has_the_same_choices_in_all_tasks():
    kinds = defaultdict(set)
    for task in TASKS:
        for name, default in get_task(task).parameters.items():
            kinds[name].add(default if isinstance(default, tuple) else "a number")
    assert [name for name in kinds if len(kinds[name]) > 1] == []


STREAMS = [
    {},
    {"split": "validation"},
    {"split": "test"},
    {"seed": 1},
    {"max_length": 29},
    {"min_length": 11},
    {"curriculum_rows": 5},
    {"task": "reverse"},
    {"task": {"identity": 1, "reverse": 1}},
]


def test_streams_are_disjoint_over_a_million_rows():
    heads = [
        first_ids(start, **{"task": "identity", "max_length": 30} | kwargs)
        for kwargs in STREAMS
        for start in range(20)
    ]
    assert np.diff(np.sort(np.concatenate(heads))).min() > 0


def first_ids(part, rows=50_000, **stream):
    """A 64-bit hash of the first eight body ids of each row of a part of a stream."""
    x, ends, *_ = open_stream(**stream).rows(np.arange(part * rows, (part + 1) * rows))
    total = np.zeros(rows, np.uint64)
    for i in range(2, 10):
        total = total * np.uint64(0x9E3779B97F4A7C15) + x[ends[:-1] + i].astype(np.uint64)
    return total


def test_keys_and_first_states_are_disjoint():
    names = [
        rng.stream_key(task, 1, {}, split, seed)
        for task in TASKS
        for split in rng.SPLITS
        for seed in range(50)
    ]
    assert len(set(names)) == len(TASKS) * 3 * 50


def test_a_mixture_has_its_weights_and_the_same_rows_in_any_part():
    rows = pairs({"set": 3, "reverse": 1}, stop=8000)
    share = np.mean([row[0] == 356 for row, _ in rows])
    assert abs(share - 0.75) < 0.02
    assert pairs("set:3,reverse", start=100, stop=200) == rows[100:200]
    kinds = open_stream("lime").choices(np.arange(30_000))
    chi_square(np.bincount(kinds), np.full(3, 10_000))


@pytest.mark.parametrize("task", [*RANGED, "set:1,delete:2"])
def test_a_length_curriculum_starts_short_and_ends_at_full_length(task):
    early, late = (
        np.diff(flat_rows(task, np.arange(200) + start, curriculum_rows=100_000)[1])
        for start in (0, 100_000)
    )
    assert early.max() < late.max() / 2


def test_the_former_name_of_a_length_curriculum_gives_the_same_rows():
    assert pairs("set", 0, 5, ramp=3) == pairs("set", 0, 5, curriculum_rows=3)


def test_integers_of_numpy_are_integers():
    three = np.int32(3)
    assert pairs("set", np.int64(0), three, seed=three, curriculum_rows=three) == pairs(
        "set", 0, 3, seed=3, curriculum_rows=3
    )
    assert pairs("lime", 0, 3, seed=three) == pairs("lime", 0, 3, seed=3)


def test_a_stream_survives_pickling():
    for task in ("set", "lime", "nonsense_summary", {"set": 1, "length": 2}):
        stream = open_stream(task, seed=3)
        again = pickle.loads(pickle.dumps(stream))
        assert all(
            (a == b).all()
            for a, b in zip(stream.rows(np.arange(9)), again.rows(np.arange(9)), strict=True)
        )
