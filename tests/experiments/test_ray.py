"""Ray: two nodes of this machine compute what one process computes, also when one is lost.

Run: pytest tests/experiments/test_ray.py
"""

import functools
import importlib.util
import json
import os
import sys
import threading
import time

import psutil
import pytest
from light_jobs import end_worker_once, refuse
from small_models import TINY

from hf_synpre.cli import main
from hf_synpre.config import build_spec
from hf_synpre.errors import TemporaryError, UsageError
from hf_synpre.experiments import Experiment, ExperimentSpec
from hf_synpre.experiments.cluster import import_ray, joined_cluster, run_on_cluster
from hf_synpre.tasks import imports, registry

TRAINING = {"per_device_train_batch_size": 8, "use_cpu": True}
TASK = '''from hf_synpre.tasks import register_task, samplers


@register_task(samplers.uniform, paper="mine", min_length=3, max_length=6)
def own_task(x, y, p):
    """Return the input.

    input   a b c
    target  a b c
    """
    for i in range(len(x)):
        y[i] = x[i]
    return len(x)
'''
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def experiment(folder, data_dir, **changes):
    value = {
        "name": "ray",
        "model": {"overrides": TINY},
        "tasks": {"mtop": {"vocab_size": 400, "max_target": 24}},
        "arms": {"random": {}},
        "finetuning": {
            "training": TRAINING | {"max_steps": 40},
            "evaluations": 2,
            "validation_examples": 8,
            "test_examples": 8,
        },
        "seeds": [0, 1],
        "data_dir": str(data_dir),
    }
    return Experiment(build_spec(ExperimentSpec, value | changes, "x"), folder)


def results(folder):
    cells = {file.name: json.loads(file.read_text()) for file in folder.glob("*--*--*.json")}
    keys = ("status", "score", "curve", "example_scores")
    return {name: [cell[key] for key in keys] for name, cell in cells.items()}


@pytest.fixture
def write_tasks(tmp_path):
    """A file with a task; what it registers is forgotten later."""
    registry.load_families()
    before = dict(registry.REGISTRY), dict(imports.IMPORTED)
    file = tmp_path / "my_tasks.py"
    file.write_text(TASK)
    yield file
    for table, entries in zip((registry.REGISTRY, imports.IMPORTED), before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture(scope="module")
def nodes():
    """Two nodes with one CPU each in the cluster of RAY_ADDRESS; the second may be killed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed; pip install hf_synpre[test]")
    import_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    cluster.add_node(**NODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    cluster.shutdown()


def test_jobs_of_lost_workers_start_again_and_bad_input_ends_them(nodes, tmp_path, capfd):
    with joined_cluster():
        jobs = {"one": functools.partial(end_worker_once, tmp_path / "begun"), "two": os.getcwd}
        assert list(run_on_cluster(jobs)) == [os.getcwd()] * 2
        assert list(run_on_cluster({})) == []
        with pytest.raises(UsageError, match=r"^No such thing; give another\.$"):
            list(run_on_cluster({"bad": refuse, "long": functools.partial(time.sleep, 100)}))
        with pytest.raises(TemporaryError, match=r"^Lost 3 times .*: end \(WorkerCrashedError\);"):
            list(run_on_cluster({"end": functools.partial(os._exit, 1)}))
    printed = capfd.readouterr()
    assert printed.out == ""
    lines = [f"Lost with a worker or node of the Ray cluster: {name}." for name in ("one", "end")]
    assert printed.err.splitlines() == [lines[0], *[lines[1]] * 3]


def test_a_dataset_is_built_on_the_cluster_with_the_same_bytes(nodes, tmp_path, write_tasks):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("configs: {default: {task: own_task, splits: {train: 3000}}}")
    words = ["build", str(recipe), "--num_shards", "3", "--import", str(write_tasks)]
    for name, backend in (("one", "local"), ("ray", "ray")):
        folder = ["--output_dir", str(tmp_path / name), "--backend", backend]
        assert main([*words, *folder]) == 0
        shards = [file.read_bytes() for file in sorted((tmp_path / name).glob("data/*.parquet"))]
        assert len(shards) == 3
        if name == "one":
            expected = shards
    assert shards == expected


def test_a_node_that_dies_costs_the_cells_it_held_which_go_to_the_others(
    nodes, tmp_path, tiny_dataset, capfd
):
    undisturbed = experiment(tmp_path / "one", tiny_dataset, jobs=1)
    assert undisturbed.run() == []

    disturbed = experiment(tmp_path / "ray", tiny_dataset)
    disturbed.artifacts.folder = undisturbed.artifacts.folder
    raylet = nodes.list_all_nodes()[1].all_processes["raylet"][0].process.pid

    def kill():
        while len(list((disturbed.folder / ".progress").glob("mtop--*.json"))) < 2:
            time.sleep(0.01)
        node = psutil.Process(raylet)
        for process in [node, *node.children(recursive=True)]:
            process.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    capfd.readouterr()
    assert disturbed.run(backend="ray") == []
    killer.join(10)
    assert not killer.is_alive()
    assert results(disturbed.folder) == results(undisturbed.folder)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "Lost with a worker or node of the Ray cluster: mtop--random--" in printed.err
    assert "state-dump" not in printed.err


def test_ray_is_an_extra_and_says_so(tmp_path, tiny_dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install hf_synpre\[ray\]"):
        experiment(tmp_path / "out", tiny_dataset).run(backend="ray")
