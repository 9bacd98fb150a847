"""Threads, progress bars in logs, and launchers that start one process.

Run: pytest tests/cli/test_processes.py
"""

import os
import subprocess
import sys

import pytest
from processes import run_python

from hf_synpre.cli import processes

LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}
VARIABLE = "HF_HUB_DISABLE_PROGRESS_BARS"
SHOW = """
import os
from hf_synpre.cli import main, processes
processes.available_cores = lambda: 8
assert main(["tasks", "set"]) == 0
print(os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "8 PASSIVE"),
        ({"LOCAL_WORLD_SIZE": "2"}, "4 PASSIVE"),
        ({"LOCAL_WORLD_SIZE": "16"}, "1 PASSIVE"),
        ({"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE"}, "3 ACTIVE"),
    ],
)
def test_a_verb_runs_with_its_share_of_the_cores(given, expected):
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment | given, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == expected, done.stderr


def test_a_command_searches_for_unused_objects_seldom():
    code = (
        "import atexit, gc; from hf_synpre.cli import main; is_frozen = gc.get_freeze_count\n"
        "before = is_frozen()\n"
        "atexit.register(lambda: print(gc.get_threshold()[0], is_frozen() > before))\n"
        "main({})"
    )
    searches = [
        run_python("-c", code.format(words), "tasks", "set").stdout.splitlines()[-1]
        for words in ("", ["tasks", "set"])
    ]
    assert searches == ["10000 True", "700 False"], "a caller's process is left as it is"


def test_a_log_has_no_progress_bars(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    words = ["init", "--from", "synpre/llama-mini-set", "-o", str(tmp_path / "model")]
    done = run_python("-m", "hf_synpre", *words, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Writing model shards" not in done.stderr


def test_the_cores_are_those_that_this_process_may_use():
    assert 1 <= processes.available_cores() <= len(os.sched_getaffinity(0))


def test_where_torch_is_there_nothing_is_changed(monkeypatch):
    import torch  # noqa: F401

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    processes.share_cores()
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(("size", "is_said"), [(None, True), ("2", False)])
def test_one_process_instead_of_several_is_said(size, is_said, monkeypatch, capsys):
    """accelerate launch --cpu --num_processes 2 sets these variables, and starts one process."""
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    processes.say_if_alone()
    assert ("was asked for several processes" in capsys.readouterr().err) == is_said
