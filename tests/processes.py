"""Processes of tests: which of several this is, and one that dies between two checkpoints."""

import signal
import subprocess
import time
from pathlib import Path

from torch import distributed


def rank() -> int:
    """Return this process's number; accelerate's debug_launcher sets no RANK."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def kill_after_a_checkpoint(command: list[str], folder: Path) -> None:
    """Start a pre-training run into `folder`; kill it once it has left a complete checkpoint."""
    process = subprocess.Popen(command)
    while not list(folder.glob("checkpoint-*")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "pretraining.json").exists()
