"""Synthetic datasets: the rows of `generate`, map-style, in the cache and streamed.

Run: pytest tests/data/test_synthetic.py
"""

import collections
import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest

import hf_synpre
from hf_synpre import (
    SyntheticDataset,
    UsageError,
    Vocabulary,
    generate,
    get_task,
    list_tasks,
    load_synthetic,
)
from hf_synpre.data.packing import RowDataset, Seq2SeqLayout

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
    of_numpy = SyntheticDataset("set", size=np.int32(3), vocabulary=np.int64(64))
    assert len(of_numpy) == 3
    with pytest.raises(UsageError, match=r"The rows array\(\[ ?True, False, [^\n]* were asked"):
        of_numpy[np.array([True, False] * 30)]


def test_rows_are_indexed_as_in_a_dataset_of_hugging_face():
    reference = datasets.Dataset.from_list(generate("set", 0, 20).to_pylist())
    dataset = SyntheticDataset("set", size=20)
    for index in (slice(2, 5), slice(None, None, -7), [3, -1], range(4), np.array([5, 6]), []):
        columns = {name: [list(ids) for ids in rows] for name, rows in dataset[index].items()}
        assert columns == reference[index], index
    assert dataset[np.int64(4)]["labels"].tolist() == reference[4]["labels"]
    for index in ("labels", 1.5, [0, "x"], None, [True]):
        with pytest.raises(
            UsageError, match=r"were asked for; give an integer, a slice, or a list"
        ):
            dataset[index]
    for index in ([0, -21], 20, np.array([20])):
        with pytest.raises(IndexError, match=r"Row (-21|20) was asked for; the dataset has 20"):
            dataset[index]


def test_read_only_arrays_are_indices_and_rows():
    indices = np.array([5, 2])
    indices.flags.writeable = False
    dataset = SyntheticDataset("set:1,identity:1", size=20)
    assert len(dataset[indices]["labels"]) == 2
    assert len(dataset.stream.rows(indices)[1]) == 3
    row = generate("set", 3, 4)
    ids, labels = (row[name].chunk(0).flatten().to_numpy() for name in row.column_names)
    assert not ids.flags.writeable
    assert get_task("set").solve(ids).tolist() == labels.tolist()
    assert get_task("set").score(ids, labels)


def test_objects_say_what_they_are():
    dataset = SyntheticDataset("set", size=20, seed=3, vocabulary=64)
    for part in ("'set'", "seed=3", "vocabulary of 64 ids", "['input_ids', 'labels']", "rows: 20"):
        assert part in repr(dataset)
    rows = RowDataset(dataset, Seq2SeqLayout(1))
    assert repr(rows).startswith("RowDataset(Seq2SeqLayout(eos=1, pad=0")
    assert repr(get_task("search")).startswith("Task('search', version=1, ")
    assert repr(get_task("set:2,identity:1")).startswith("Mixture('set:2,identity:1', version=1, ")
    assert "Mixture" not in repr(get_task("set:2,identity:1").open_stream(seed=4)).replace(
        "MixtureStream('set:2,identity:1', split='train', seed=4", ""
    )
    assert repr(Vocabulary.plain(64)) == (
        "Vocabulary(size=64, pad=0, eos=1, regular tokens 2..50, 13 special tokens)"
    )
    for shown in (dataset, rows, get_task("lime"), get_task("lime").open_stream(), Vocabulary.t5()):
        assert " at 0x" not in repr(shown)
        assert len(repr(shown)) < 500


def test_a_notebook_shows_the_first_rows():
    shown = SyntheticDataset("reverse", size=3, min_length=2, max_length=40)._repr_html_()
    assert shown.count("<tr>") == 4, "a head and three rows"
    first = generate("reverse", 0, 1, min_length=2, max_length=40).to_pylist()[0]["input_ids"]
    assert " ".join(map(str, first[:16])) in shown
    assert f"... ({len(first)} ids)" in shown


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
