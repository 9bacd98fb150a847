"""An experiment on a synthetic task of one's own: workers know it, a changed file is noticed.

Run: pytest tests/experiments/test_own_synthetic_task.py
"""

import json
import sys

import pytest
from small_models import TINY

from hf_synpre.cli import main
from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.experiments import Experiment, ExperimentSpec, artifacts
from hf_synpre.files import write_json
from hf_synpre.tasks import get_task, imports, registry

ROTATE = '''from hf_synpre import register_task
from hf_synpre.tasks import samplers


@register_task(samplers.uniform, paper="mine", min_length=4, max_length=8)
def own_rotate(x, y, p):
    """Return the input rotated by one."""
    n = len(x)
    for i in range(n):
        y[i] = x[(i + 1) % n]
    return n
'''
EXPERIMENT = {
    "name": "own",
    "imports": ["my_tasks.py"],
    "model": {"overrides": TINY},
    "pretraining": {
        "own": {
            "task": "own_rotate",
            "vocabulary": 64,
            "evaluations": 1,
            "validation_examples": 8,
            "training": {"per_device_train_batch_size": 8, "use_cpu": True, "max_steps": 1},
        }
    },
    "tasks": {"mtop": {"vocab_size": 400, "max_target": 24}},
    "arms": {"random": {}, "synthetic": {"init": "weights", "checkpoint": "own"}},
}


@pytest.fixture
def forget():
    """Return the function that forgets all imported files, as a new process has none."""
    registry.load_families()
    before = dict(registry.REGISTRY)

    def forget_all():
        registry.REGISTRY.clear()
        registry.REGISTRY.update(before)
        imports.IMPORTED.clear()

    yield forget_all
    forget_all()


@pytest.fixture
def make(tmp_path, forget):
    """Return the function that reads the experiment as `synpre run` does, with a file of tasks."""

    def make_experiment(source):
        forget()
        (tmp_path / "my_tasks.py").write_text(source)
        imports.import_tasks_of(EXPERIMENT, tmp_path / "own.yaml")
        spec = build_spec(ExperimentSpec, EXPERIMENT, "own.yaml")
        return Experiment(spec, tmp_path / "out")

    return make_experiment


def test_a_changed_file_is_not_mixed_with_the_results_of_the_old_one(make, tmp_path, monkeypatch):
    experiment = make(ROTATE)
    experiment.open_folder()
    first = experiment.artifacts.checkpoint("own", "mtop")
    stored = json.loads((tmp_path / "out" / "experiment.json").read_text())
    recipe = json.loads((first / "pretraining.json").read_text())["recipe"]
    assert "imports" not in stored, "where the file is decides nothing"
    assert stored["task_files"]["own"] == recipe["task_files"]
    assert list(recipe["task_files"]) == ["my_tasks.py"]

    # The same file, with a finished cell that depends on it; then another definition.
    cell = {"status": "done", "task": "mtop", "arm": "synthetic", "seed": 0}
    write_json(tmp_path / "out" / "mtop--synthetic--0.json", cell)
    same = make(ROTATE)
    same.open_folder()
    assert same.artifacts.checkpoint("own", "mtop") == first
    changed = make(ROTATE.replace("(i + 1)", "(i + 2)"))
    with pytest.raises(UsageError, match=r"\(task_files\.own\.my_tasks\.py: "):
        changed.open_folder()
    monkeypatch.setattr(artifacts, "pretrain", lambda *arguments, **keywords: None)
    assert changed.artifacts.checkpoint("own", "mtop") != first


def test_a_worker_imports_what_the_process_that_started_it_had_imported(make, forget):
    experiment = make(ROTATE)
    files = imports.imported_files()
    forget()
    assert experiment._work(files, lambda: get_task("own_rotate").name) == "own_rotate"


def test_a_task_of_a_notebook_is_refused_where_workers_would_need_it(make, monkeypatch, tmp_path):
    make(ROTATE)
    names = {"__name__": "__main__"}
    del registry.REGISTRY["own_rotate"]
    exec(ROTATE, names)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    spec = build_spec(ExperimentSpec, EXPERIMENT, "own.yaml")
    with pytest.raises(
        UsageError, match=r"own_rotate' is defined in a notebook, .* or give jobs 1"
    ):
        Experiment(spec, tmp_path / "notebook").open_folder()
    spec.jobs = 1
    Experiment(spec, tmp_path / "notebook").open_folder()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("[none.py]", "none.py to import"),
        ("my_tasks.py", "own.yaml.imports is 'my_tasks.py'; give a list of Python files"),
        ("[]", "Unknown task 'own_rotate'"),
    ],
)
def test_wrong_imports_are_said_in_one_line(named, message, tmp_path, capsys, forget):
    values = json.dumps(EXPERIMENT | {"imports": "HERE"}).replace('"HERE"', named)
    (tmp_path / "own.yaml").write_text(values)
    assert main(["run", str(tmp_path / "own.yaml"), "--output_dir", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_list_of_cells_repeats_the_flag(make, tmp_path, capsys):
    make(ROTATE)
    values = {name: value for name, value in EXPERIMENT.items() if name != "imports"}
    (tmp_path / "own.yaml").write_text(json.dumps(values))
    file = str(tmp_path / "my_tasks.py")
    words = [str(tmp_path / "own.yaml"), "--import", file, "--output_dir", str(tmp_path / "out")]
    assert main(["run", *words, "--list"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 6
    assert all(command.endswith(f"--import {file}") for command in commands)
