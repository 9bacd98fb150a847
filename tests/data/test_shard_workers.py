"""The tasks since 2022: shards have the same bytes from any number of processes, killed ones too.

Run: pytest tests/data/test_shard_workers.py
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sequence_oracles

from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import build_shards

HOME = Path(__file__).parents[2]
SHARDS = 7
TASKS = [*sequence_oracles.ORACLES, *sequence_oracles.ACCEPTS, "uniform", "shuffled-k_dyck"]
# Those of the default run: brackets, several answers, weights of a row's own, a graph.
SOME = ["k_dyck", "mqar", "nca", "brevo"]
# Runs in a process of its own: some shards of tasks.
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_shard_workers import build
build(sys.argv[2], *json.loads(sys.argv[3]))
"""


def small_recipes(tasks):
    """Return the recipes of tasks at the sizes of the preset `small`."""
    from hf_synpre.training.presets import preset_fields  # with transformers, for this alone

    recipes = []
    for task in tasks:
        fields = preset_fields("small", task)
        parameters, vocabulary = fields.get("parameters", {}), fields.get("vocabulary", "t5")
        recipe = {"task": task, "parameters": parameters, "vocabulary": vocabulary}
        recipes.append({**recipe, "splits": {"train": 1000 * SHARDS}})
    return recipes


def build(folder, recipes, shards):
    """Write some shards of recipes, where they are missing."""
    for shard in shards:
        for fields in recipes:
            name = fields["task"].replace("-", "_")
            build_shards(Recipe(**fields), name, folder, num_shards=SHARDS, shard_index=shard)


def started(folder, recipes, shards):
    """Return a process that writes some shards of recipes."""
    command = [sys.executable, "-c", CODE, str(Path(__file__).parent), str(folder)]
    path = os.pathsep.join([str(HOME), str(HOME / "tests")])
    return subprocess.Popen(
        [*command, json.dumps([recipes, list(shards)])], env=os.environ | {"PYTHONPATH": path}
    )


def written(folder):
    """Return the bytes of all complete shards."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.parquet")}


@pytest.mark.parametrize(
    ("workers", "tasks"),
    [
        (2, SOME),
        pytest.param(2, TASKS, marks=pytest.mark.slow),
        pytest.param(7, TASKS, marks=pytest.mark.slow),
    ],
    ids=["2, some tasks", "2, all tasks", "7, all tasks"],
)
def test_several_processes_one_of_which_is_killed_write_the_bytes_of_one(workers, tasks, tmp_path):
    recipes = small_recipes(tasks)
    build(tmp_path / "one", recipes, range(SHARDS))
    whole = written(tmp_path / "one")

    # The first of them is killed as soon as there are some shards.
    folder = tmp_path / "several"
    processes = [started(folder, recipes, range(k, SHARDS, workers)) for k in range(workers)]
    while processes[0].poll() is None and len(written(folder)) < 2:
        time.sleep(0.01)
    processes[0].send_signal(signal.SIGKILL)
    assert processes[0].wait() == -signal.SIGKILL
    assert len(written(folder)) < len(whole) == SHARDS * len(tasks)

    processes[0] = started(folder, recipes, range(0, SHARDS, workers))
    assert [process.wait() for process in processes] == [0] * workers
    assert written(folder) == whole
