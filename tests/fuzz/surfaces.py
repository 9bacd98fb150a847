"""What may come from outside: the table of surfaces, each with its inputs and the command it meets.

A surface writes a file of a drawn value and returns the words of a command that reads it, or calls
a reader. The only ways out are success and UsageError.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hypothesis import strategies as st

from hf_synpre import ParameterStatistics
from hf_synpre.config import read_header, read_yaml
from hf_synpre.data.folders import split_files
from hf_synpre.data.readers import read_file
from hf_synpre.files import read_json
from hf_synpre.hub import rebuild
from hf_synpre.hub.checks import check_repo_id
from hf_synpre.initialization.weight_files import indexed_files
from hf_synpre.report import read_cells
from hf_synpre.tasks import get_task

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**300, -(10**300)]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "train", "t5", "set", "../x", "/etc/x", "\x1b[2J", "1e999"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts),
    max_leaves=6,
)


def mapping(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return dicts in which any of the names has any value."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, VALUES))


def mutated(valid: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a valid mapping with some of its values replaced, at the top or one level below."""
    fields = {
        name: st.just(value)
        | VALUES
        | (mutated(value) if isinstance(value, dict) else st.nothing())
        for name, value in valid.items()
    }
    return st.fixed_dictionaries(fields)


CARD = {
    "default": {
        "task": "set",
        "version": 1,
        "vocabulary": 128,
        "seed": 0,
        "parameters": {"min_length": 4, "max_length": 8},
        "splits": {"train": {"rows": 5, "ids": 50, "shards": 1, "sha256": "0" * 64}},
    }
}
CELL = {
    "format": 1,
    "experiment": "e",
    "task": "t",
    "arm": "random",
    "seed": 0,
    "status": "done",
    "score": 0.5,
    "metric": "accuracy",
    "test_examples": 10,
    "config": {"arm": {"init": "random"}},
}
STATISTICS = {
    "format": 1,
    "source": "x",
    "parameters": [{"name": "w", "shape": [2, 3], "numel": 6, "mean": 0.0, "sd": 1.0}],
}
ROWS = st.lists(mapping("text", "label", "input_ids"), max_size=4)
TEXTS = st.text(max_size=60) | st.sampled_from(["[" * 5000, "a: &a [*a]", "{", "---\n", "\ufeff"])


class Surface(NamedTuple):
    """A kind of input from outside."""

    # Its inputs.
    values: st.SearchStrategy[Any]
    # Called with a folder and an input.
    read: Callable[[Path, Any], Any]


def written(folder: Path, name: str, text: str) -> Path:
    """Write a file of a text and return it."""
    file = folder / name
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return file


def card(folder: Path, configs: Any) -> Any:
    """Rebuild the dataset of a card."""
    text = yaml.safe_dump({"synpre": {"configs": configs}})
    written(folder, "README.md", f"---\n{text}---\n")
    return rebuild(folder, say=str)


def statistics(folder: Path, content: Any) -> Any:
    """Read a statistics file."""
    return ParameterStatistics.load(written(folder, "p.json", json.dumps(content)))


def index(folder: Path, content: Any) -> Any:
    """Read the index of a checkpoint in several files."""
    return indexed_files(written(folder, "model.safetensors.index.json", json.dumps(content)))


def cell(folder: Path, content: Any) -> Any:
    """Read a folder of results with one cell."""
    written(folder, "t--random--0.json", json.dumps(content))
    return read_cells(folder)


def rows(folder: Path, content: Any) -> Any:
    """Read JSON rows, as a list and a row a line."""
    lines = "\n".join(json.dumps(row) for row in content)
    return read_file(written(folder, "train.jsonl", lines))


def readme(folder: Path, content: Any) -> Any:
    """Look for the files of a folder whose README describes them."""
    written(folder, "train.csv", "text\nx\n")
    written(folder, "README.md", f"---\n{yaml.safe_dump(content)}---\n")
    return split_files(folder)


# Name -> surface.
SURFACES: dict[str, Surface] = {
    "YAML": Surface(TEXTS, lambda folder, text: read_yaml(written(folder, "a.yaml", text))),
    "headers of READMEs": Surface(
        TEXTS, lambda folder, text: read_header(written(folder, "a.md", f"---\n{text}\n---\n"))
    ),
    "JSON": Surface(TEXTS, lambda folder, text: read_json(written(folder, "a.json", text))),
    "CSV": Surface(TEXTS, lambda folder, text: read_file(written(folder, "a.csv", text))),
    "text": Surface(TEXTS, lambda folder, text: read_file(written(folder, "a.txt", text))),
    "JSON lines": Surface(ROWS, rows),
    "READMEs of datasets": Surface(
        st.fixed_dictionaries(
            {"configs": st.lists(mapping("config_name", "data_files", "data_dir"), max_size=2)}
        ),
        readme,
    ),
    "cards": Surface(mutated(CARD), card),
    "cells": Surface(mutated(CELL), cell),
    "statistics": Surface(mutated(STATISTICS), statistics),
    "indexes": Surface(
        st.fixed_dictionaries({"weight_map": VALUES | st.dictionaries(st.text(), SCALARS)}), index
    ),
    "repo ids": Surface(st.text(max_size=20), lambda folder, name: check_repo_id(name)),
    "ids to solve": Surface(
        st.lists(st.integers(-(2**33), 2**33), max_size=12),
        lambda folder, ids: get_task("set").solve(ids),
    ),
}
