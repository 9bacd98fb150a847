"""Synthetic datasets: the rows of `generate`, map-style, in the cache and streamed.

Run: pytest tests/data/test_synthetic.py
"""

import collections
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hf_synpre
from hf_synpre import SyntheticDataset, UsageError, generate, list_tasks, load_synthetic

PACKAGE = str(Path(hf_synpre.__file__).parent)


def test_map_style_rows_are_the_generated_rows():
    table = generate("set", 0, 50, seed=3).to_pylist()
    dataset = SyntheticDataset("set", size=50, seed=3)
    rows = dataset.__getitems__(list(range(50)))
    assert [{k: v.tolist() for k, v in row.items()} for row in rows] == table
    assert dataset[17]["labels"].tolist() == table[17]["labels"]
    assert dataset[-1]["labels"].tolist() == table[-1]["labels"]
    with pytest.raises(IndexError, match="has 50"):
        dataset[50]


@pytest.mark.parametrize("size", [0, -1, True, 2.5])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(UsageError, match="size is"):
        SyntheticDataset("set", size=size)


def test_load_synthetic_gives_the_rows_of_generate(tmp_path):
    keywords = {"seed": 5, "vocabulary": 300, "min_length": 4, "max_length": 9}
    table = generate("reverse", 0, 25_000, split="validation", **keywords)
    more = {"split": "validation", "size": 25_000, "cache_dir": str(tmp_path)}
    cached = load_synthetic("reverse", **more, **keywords)
    assert cached.with_format("arrow")[:].cast(table.schema).equals(table)
    assert load_synthetic("reverse", **more, **keywords | {"seed": 6})[0] != cached[0], (
        "another recipe, another cache"
    )
    streamed = load_synthetic("reverse", streaming=True, **more, **keywords)
    assert (streamed.num_shards, list(streamed)) == (3, table.to_pylist())
    mixed = load_synthetic("set:2,identity:1", size=50, cache_dir=str(tmp_path))
    assert mixed.to_list() == generate("set:2,identity:1", 0, 50).to_pylist()


@pytest.mark.parametrize("position", [1, 4321, 10_000, 14_999])
def test_a_stream_goes_on_exactly_where_it_stopped(position, tmp_path):
    def stream():
        return load_synthetic(
            "length",
            size=15_000,
            streaming=True,
            vocabulary=64,
            max_length=12,
            cache_dir=str(tmp_path),
        )

    first = stream()
    rows = iter(first)
    for _ in range(position):
        next(rows)
    state, second = json.loads(json.dumps(first.state_dict())), stream()
    second.load_state_dict(state)
    assert (
        list(second)
        == list(rows)
        == generate("length", position, 15_000, vocabulary=64, max_length=12).to_pylist()
    )


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"size": 0}, "size 0; give a number of rows"),
        ({"split": "dev"}, "Unknown split"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_load_synthetic_refuses(keywords, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        load_synthetic("set", cache_dir=str(tmp_path), **keywords)


def test_no_function_is_entered_four_times_on_the_way_to_the_first_row(tmp_path):
    list_tasks()  # what is done once a process: the registry
    generate("set", 0, 1)  # and the paper's vocabulary
    entered: collections.Counter[str] = collections.Counter()

    def count(frame, event, argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and "<" not in code.co_name:
            entered[f"{code.co_filename}: {code.co_qualname}"] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        next(iter(load_synthetic("set", streaming=True, cache_dir=str(tmp_path))))
    finally:
        sys.setprofile(before)
    assert max(entered.values()) < 4, entered.most_common(3)
    assert entered[f"{PACKAGE}/tasks/__init__.py: get_task"] == 1


def test_generating_imports_no_torch():
    code = (
        "import sys; from hf_synpre import generate; generate('set', 0, 3); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
