"""Cores -> threads of this process; a launcher's environment -> whether it started all processes.

Threads of OpenMP, which torch computes with, wait for each other by spinning. Where another run
needs the core, they spin in its place: a step of a small model then costs ten times the CPU, and
two runs at once crawl. Threads that sleep while they wait cost no more than one thread does, so
that each run may have all cores and several runs share them fairly.
"""

import atexit
import gc
import os
import stat
import sys
import warnings

from hf_synpre.errors import UsageError

# Names that torchrun and MPI have for the number of processes on this machine.
LOCAL_PROCESSES = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")

# New objects after which Python searches the youngest for unused ones.
NEW_OBJECTS = 10_000


def share_cores() -> None:
    """Set the threads of this process, and how they wait, before torch is imported.

    OMP_NUM_THREADS and OMP_WAIT_POLICY are kept where they are set. The number of threads depends
    on the machine and the launcher alone, not on its load: a run that goes on after it was
    interrupted must have the threads that it had, because the last bits of sums depend on them.
    """
    if "torch" in sys.modules:  # it has read the environment
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(1, available_cores() // local_processes()))


def collect_seldom() -> None:
    """Search for unused objects after every 10,000 new ones instead of 700, and not at the end.

    Most objects of a command are made when libraries are imported, and are used to its end. To
    search them again and again takes seconds where a command starts and where it ends.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def hide_bars() -> None:
    """Leave out transformers' and datasets' progress bars where nobody sees them: they fill logs.

    Call it before these libraries are imported. What the environment says of bars is kept.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def check_compiled_code() -> None:
    """Check the folder that NUMBA_CACHE_DIR names: numba unpickles what lies there, which runs it.

    Raises:
        UsageError: the folder belongs to another user, or everybody may write to it.
    """
    folder = os.environ.get("NUMBA_CACHE_DIR", "")
    if not folder or not hasattr(os, "getuid") or not os.path.isdir(folder):
        return
    status = os.stat(folder)
    if status.st_uid not in (os.getuid(), 0):
        reason = "which belongs to another user"
    elif status.st_mode & stat.S_IWOTH:
        reason = "where everybody may write"
    else:
        return
    raise UsageError(
        f"NUMBA_CACHE_DIR is {folder}, {reason}; compiled code that others leave there would run "
        "as yours. Give a folder of your own, such as ~/.cache/numba."
    )


def available_cores() -> int:
    """Return how many physical cores this process may use, by its affinity and its cgroup."""
    from joblib import cpu_count

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the physical cores are not known, all are counted
        return int(cpu_count(only_physical_cores=True))


def local_processes() -> int:
    """Return how many processes a launcher has started on this machine, 1 without one."""
    for name in LOCAL_PROCESSES:
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return int(value)
    return 1


def say_if_alone() -> None:
    """Say on standard error where accelerate was asked for several processes and started one.

    On a CPU without MPI it does so in silence. It has set the address where the processes of a run
    meet, and not their number.
    """
    environ = os.environ
    is_accelerate = "ACCELERATE_MIXED_PRECISION" in environ
    if is_accelerate and "MASTER_ADDR" in environ and "WORLD_SIZE" not in environ:
        print(
            "synpre: the launcher was asked for several processes and has started one; this run "
            "has one. On a CPU give `accelerate launch --config_file "
            "examples/configs/two_cpu_processes.yaml`, or `torchrun --nproc_per_node 2`.",
            file=sys.stderr,
        )
