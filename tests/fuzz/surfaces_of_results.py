"""Surfaces: JSON files that runs have left, in folders that others may have edited."""

import contextlib
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from hypothesis import strategies as st
from inputs import as_json, edited
from surface import (
    Surface,
    list_cells,
    run_command,
)
from surfaces_of_models import HEADER, STATISTICS, T5, safetensors

from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.experiments import ExperimentSpec
from hf_synpre.experiments.cell import experiment_recipe
from hf_synpre.report import table, write_report
from hf_synpre.training.pretraining import accumulated_cost
from hf_synpre.training.run_folder import load_finished_run

CELL = {
    "format": 1,
    "experiment": "e",
    "task": "t",
    "arm": "random",
    "seed": 0,
    "status": "done",
    "error": None,
    "score": 0.5,
    "scores": {"accuracy": 0.5},
    "metric": "accuracy",
    "higher_is_better": True,
    "test_examples": 10,
    "curve": [{"step": 1, "score": 0.5, "flops": 1e9, "loss": 0.1}],
    "data": {"hub_id": None, "splits": {"test": {"rows": 10, "sha256": "0"}}},
    "phases": {"pretraining": None, "finetuning": {"tokens": 10, "flops": 1e9, "name": "x"}},
    "config": {"arm": {"init": "random"}, "task": {}, "model": {}, "finetuning": {}},
    "versions": {"hf_synpre": "1"},
}
BEGUN_CELL = {**CELL, "experiment": "x", "task": "mine"}
CELLS = [CELL, {**CELL, "arm": "set", "score": 0.7}, {**CELL, "seed": 1, "score": 0.4}]


def write_cells(folder: Path, cells: Any) -> None:
    """Write cells, as `run` does."""
    for number, cell in enumerate(cells if isinstance(cells, list) else [cells]):
        (folder / f"t--a{number}--0.json").write_text(as_json(cell))


def report(folder: Path, _: Any) -> None:
    """Make the report of a folder of cells, in all forms but plots."""
    with mock.patch("hf_synpre.report.draw_plots", return_value={}):
        table(write_report(folder, "output"))


RUN = {
    "tokens": 100,
    "flops": 1e9,
    "train_s": 1.0,
    "stopped": "budget",
    "accuracy": 0.5,
    "curve": [{"step": 1, "accuracy": 0.5}],
    "before": {"tokens": 5, "flops": 1e8},
    "recipe": {
        "pretraining": {"task": "set", "vocabulary": 64, "seed": 0, "parameters": {}, "text": None},
        "model": {"model_type": "t5", "overrides": {}},
    },
    "versions": {"hf_synpre": "1", "torch": "2"},
}


def write_run(folder: Path, files: tuple[Any, Any, Any]) -> None:
    """Write the folder of a finished pre-training."""
    for name, content in zip(
        ("pretraining.json", "parameter_statistics.json", "config.json"), files, strict=True
    ):
        (folder / name).write_text(as_json(content))
    (folder / "model.safetensors").write_bytes(safetensors(HEADER))


def read_run(folder: Path, _: Any) -> None:
    """Read the folder of a finished run: its cost, whether it is the one asked for, its card."""
    for read in (
        lambda: accumulated_cost(folder),
        lambda: load_finished_run(folder, {"pretraining": {}}),
    ):
        with contextlib.suppress(UsageError):
            read()
    run_command("push", ".", "--repo_id", "me/x", "--dry_run")


BEGUN = {
    "name": "x",
    "tasks": {"mine": {"define": {"source": ["a"], "target": ["b"]}}},
    "arms": {"random": {}, "more": {"match_flops_of": "set"}},
    "pretraining": {"set": {"task": "set", "training": {"max_steps": 3}}},
    "seeds": [0],
}
EXPERIMENT_JSON = experiment_recipe(build_spec(ExperimentSpec, BEGUN, "begun"))


def write_results(folder: Path, content: Any) -> None:
    """Write the folder of an experiment that was begun: its recipe and a cell."""
    (folder / "e.yaml").write_text(yaml.safe_dump(BEGUN))
    (folder / "output").mkdir()
    (folder / "output" / "experiment.json").write_text(as_json(content[0]))
    (folder / "output" / "mine--random--0.json").write_text(as_json(content[1]))
    (folder / "output" / "mine--more--0.json").write_text(as_json(content[2]))


# Name -> surface.
RESULTS: dict[str, Surface] = {
    "cells": Surface(edited(CELLS), write_cells, report),
    "pretraining.json": Surface(
        st.tuples(edited(RUN), edited(STATISTICS), edited(T5)), write_run, read_run
    ),
    "experiment.json": Surface(
        st.tuples(
            edited(EXPERIMENT_JSON), edited(BEGUN_CELL), st.just({**BEGUN_CELL, "arm": "more"})
        ),
        write_results,
        list_cells,
        own_file="input/output/experiment.json",
    ),
}
