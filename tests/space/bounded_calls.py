"""What test_space_files.py lets another process do. It imports little: that process is new."""

import os
import resource
import signal

import limits

from hf_synpre.errors import UsageError


def refuses(folder):
    raise UsageError(f"{folder}/cell.json is broken; {folder} is empty.")


def fails(folder):
    raise ZeroDivisionError("a fault")


def takes_memory(folder):
    return bytearray(limits.MOST_MEMORY + 2**30)


def takes_time(folder):
    os.kill(os.getpid(), signal.SIGXCPU)  # what the system does at the limit


def is_killed(folder):
    os.kill(os.getpid(), signal.SIGKILL)


def own_limits(folder):
    (folder / "file").touch()
    kinds = (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE)
    return folder, [resource.getrlimit(kind)[0] for kind in kinds]
