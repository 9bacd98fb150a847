"""A Python interpreter with large libraries, which becomes each program that it is asked to run.

`processes.py` starts it and writes a line of JSON for each program. The largest libraries take most
of the time in which a program starts. Those that read variables of the environment when they are
imported, such as the Hub's, are imported by each program itself.
"""

import atexit
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

import pandas  # noqa: F401
import pyarrow.dataset  # noqa: F401
import torch._dynamo
import torch.distributed.tensor
import torch.export  # noqa: F401


def next_program():
    """Return the next program to run, in a new process; the server itself does not come back."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how its children ended
    program = next((json.loads(line) for line in sys.stdin if os.fork() == 0), None)
    if program is None:  # the tests have ended
        os._exit(0)

    # This is a child of the server. Its own child is the program; it tells how that ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    folder = Path(program["folder"])
    pid = os.fork()
    if pid:
        tell(folder / "pid", pid)
        tell(folder / "code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    return program


def tell(file, number):
    """Write a file that has its number as soon as it is there."""
    file.with_suffix(".new").write_text(str(number))
    file.with_suffix(".new").rename(file)


def run(words, env, cwd, folder):
    """Run a program in this process, with a session of its own; its outputs go to files."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)

    kind, *rest = words
    first_path = "" if kind in ("-c", "-m") else str(Path(kind).parent)
    sys.path[0] = first_path  # in place of the folder of this file
    sys.path[1:1] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")


def exit_code(program):
    """Run a program; return its exit code, and print the traceback of an error as Python does."""
    try:
        run(**program)
    except SystemExit as ended:
        return ended.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = exit_code(next_program())
    # To take the libraries apart, as Python does at the end, would cost seconds.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
