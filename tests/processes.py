"""Python programs in processes of their own, and which of several processes this is.

A program is a fork of a server that has imported the largest libraries, which takes most of the
time that a program needs to start. Libraries that read variables of the environment when they are
imported, such as those of the Hub, are imported by each program itself.
"""

import atexit
import os
import runpy
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import distributed

SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(
    ["torch._dynamo", "torch.distributed.tensor", "torch.export", "pandas", "pyarrow.dataset"]
)


class Program:
    """A Python program in a session of its own; it answers as subprocess.Popen does.

    Args:
        words: what follows `python`: a script, or "-m" and a module, or "-c" and code.
        env: its variables, in place of those of the test.
        cwd: its folder, in place of that of the test.
    """

    def __init__(self, *words, env=None, cwd=None):
        self.words = list(map(str, words))
        self.folder = TemporaryDirectory()
        self.process = SERVER.Process(
            target=run_program,
            args=(self.words, dict(env or os.environ), str(cwd or Path.cwd()), self.folder.name),
        )
        self.process.start()
        self.pid = self.process.pid
        self.terminate, self.kill = self.process.terminate, self.process.kill

    def poll(self):
        """Return the exit code, or None as long as the program runs."""
        return self.process.exitcode

    def wait(self):
        """Wait for the end of the program; return its exit code, output and errors."""
        self.process.join()
        output, errors = ((Path(self.folder.name) / n).read_text() for n in ("output", "errors"))
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.words, self.process.exitcode, output, errors)


def run_program(words, env, cwd, folder):
    """Run a program in this process, a fork of the server; its outputs go to files of a folder."""
    os.setsid()
    for stream, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    kind, *rest = words
    folder_of_script = "" if kind in ("-c", "-m") else str(Path(kind).parent)
    sys.path[:0] = [folder_of_script, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        if kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        elif kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(kind, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


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
        assert program.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    program.kill()
    program.wait()
    assert not (folder / "pretraining.json").exists()
