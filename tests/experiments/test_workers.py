"""Workers end with their command; one that is lost is a line, and its cells are computed again.

Run: pytest tests/experiments/test_workers.py
"""

import errno
import gc
import logging
import subprocess
import sys
import time

import psutil
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError

from hf_synpre.config import build_spec
from hf_synpre.errors import TemporaryError
from hf_synpre.experiments import Experiment, ExperimentSpec, workers
from hf_synpre.experiments.runner import FROZEN_BY_PYTHON
from hf_synpre.experiments.workers import failure_message, release_memory

# A worker, which imports nothing but what it tests.
WORKER = """
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("workers", sys.argv[1])
workers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(workers)
workers.end_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(60)
"""
COMMAND = """
import subprocess, sys
subprocess.run([sys.executable, "-c", *sys.argv[1:]])
"""


def test_a_worker_ends_when_its_command_is_killed():
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, WORKER, workers.__file__],
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = psutil.Process(int(command.stdout.readline()))
    assert worker.is_running()
    command.kill()
    command.communicate()
    until = time.monotonic() + 10
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the worker still runs"
        time.sleep(0.05)


class LosesWorkers(Experiment):
    """An experiment of one cell, whose worker is killed a number of times."""

    def __init__(self, losses):
        self.losses = losses

    def missing(self, cells, retry=False):
        return ["cell"]

    def _compute(self, cells, wait, backend):
        self.losses -= 1
        if self.losses >= 0:
            raise TerminatedWorkerError("exit codes: SIGKILL(-9)")
        return [f"{cell} was computed" for cell in cells]


def test_the_cells_of_a_lost_worker_are_computed_again(caplog):
    with caplog.at_level(logging.WARNING):
        lines = LosesWorkers(1)._compute_missing([], False, False, "loky")
    assert lines == ["cell was computed"]
    assert "A worker process was killed" in caplog.text
    with pytest.raises(TemporaryError, match=r"killed 3 times.*Give a smaller --jobs"):
        LosesWorkers(3)._compute_missing([], False, False, "loky")


def test_a_full_disk_is_no_failure_of_a_cell_and_stops_the_experiment():
    def fail():
        raise OSError(errno.ENOSPC, "No space left on device", "work/data.arrow")

    with pytest.raises(TemporaryError, match=r"Cannot write work/data\.arrow .*goes on"):
        failure_message(fail)
    assert failure_message(lambda: 1 / 0) == "ZeroDivisionError: division by zero"


def test_what_somebody_has_frozen_stays_frozen(tmp_path):
    """Only what a run has frozen itself is let go at its end."""
    fields = {"name": "mini", "tasks": {"stdlib_ast": {}}, "arms": {"random": {}}, "jobs": 1}
    experiment = Experiment(build_spec(ExperimentSpec, fields, "here"), tmp_path)
    experiment._work = lambda *_: release_memory()
    cells = experiment.cells()
    try:
        gc.unfreeze()
        experiment._compute(cells, wait=True, backend="loky")
        assert gc.get_freeze_count() < FROZEN_BY_PYTHON
        gc.freeze()
        experiment._compute(cells, wait=True, backend="loky")
        assert gc.get_freeze_count() > FROZEN_BY_PYTHON
    finally:
        gc.unfreeze()


def test_libraries_are_searched_for_unused_objects_once():
    try:
        release_memory()
        assert len(gc.get_objects()) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()
