"""Python programs in processes of their own, and which of several processes this is."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import distributed

PAUSE_S = 0.02  # between two looks at a program


@functools.cache
def program_server():
    """Start the server of programs of this process of tests (program_server.py)."""
    file = Path(__file__).with_name("program_server.py")
    return subprocess.Popen([sys.executable, file], stdin=subprocess.PIPE, text=True)


class Program:
    """A Python program in a session of its own.

    Args:
        words: what follows `python`: a script, or "-m" and a module, or "-c" and code.
        env: its variables, in place of those of the test.
        cwd: its folder, in place of that of the test.
    """

    def __init__(self, *words, env=None, cwd=None):
        self.words = list(map(str, words))
        self._temporary = TemporaryDirectory()
        self.folder = Path(self._temporary.name)
        request = {
            "words": self.words,
            "env": dict(env or os.environ),
            "cwd": str(cwd or Path.cwd()),
            "folder": str(self.folder),
        }
        print(json.dumps(request), file=program_server().stdin, flush=True)
        self.pid = self._read("pid")

    def _read(self, name):
        """Wait for a number that the server writes into a file."""
        while not (self.folder / name).exists():
            assert program_server().poll() is None, "the server of programs has ended"
            time.sleep(PAUSE_S)
        return int((self.folder / name).read_text())

    def is_running(self):
        """Say whether the program has not ended."""
        return not (self.folder / "code").exists()

    def send(self, number):
        """Send a signal to the program."""
        os.kill(self.pid, number)

    def wait(self):
        """Wait for the end of the program; return its exit code, output and errors."""
        code = self._read("code")
        output, errors = ((self.folder / name).read_text() for name in ("output", "errors"))
        self._temporary.cleanup()
        return subprocess.CompletedProcess(self.words, code, output, errors)


def run_python(*words, **options):
    """Run a Python program to its end; the arguments are those of Program."""
    return Program(*words, **options).wait()


def rank():
    """Return this process's number; accelerate's debug_launcher sets no RANK."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def kill_after_a_checkpoint(words, folder):
    """Start a pre-training run into `folder`; kill it once it has left a complete checkpoint.

    Args:
        words: what follows `python`.
        folder: of the run.
    """
    program = Program(*words)
    while not list(folder.glob("checkpoint-*")):
        assert program.is_running(), "the run ended before it could be killed"
        time.sleep(PAUSE_S)
    program.send(signal.SIGKILL)
    program.wait()
    assert not (folder / "pretraining.json").exists()
