"""The workers of an experiment: they end with their command, and say in a line how a job failed."""

import contextlib
import ctypes
import gc
import os
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

from hf_synpre.errors import (
    WHAT_TO_DO,
    MissingCheckpointError,
    UsageError,
    system_error,
    write_error,
)

# Characters of an error's text that a failed cell keeps.
LONGEST_ERROR = 300
# A worker looks so often, in seconds, whether its command still runs.
PARENT_CHECK_S = 0.5


def end_with_parent(parent: int) -> None:
    """End this worker process soon after its parent has ended; loky calls it before the first job.

    A worker whose command was killed would otherwise compute its cell to the end, or wait for ever.

    Args:
        parent: the process id of the parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def failure_message(job: Callable[[], Any]) -> str | None:
    """Run a job; return None, or a line that says how it failed.

    Raises:
        UsageError: the job raised it, or the disk is full: it concerns all cells. A checkpoint that
            the Hub does not give fails the cells of its arm alone.
    """
    try:
        job()
    except Exception as error:  # a cell that fails must not take the others with it
        if isinstance(error, UsageError) and not isinstance(error, MissingCheckpointError):
            raise
        if system_error(error) in WHAT_TO_DO:  # a full disk stops the others too
            raise write_error(getattr(error, "filename", None) or "a file", error) from error
        text = textwrap.shorten(str(error), LONGEST_ERROR, placeholder=" ...")
        return f"{type(error).__name__}: {text}"
    return None


def release_memory() -> None:
    """Give freed memory back to the system, if its C library can.

    Otherwise joblib takes the worker for one that leaks memory, and replaces it. What a job leaves
    are libraries: later searches for unused objects, of which a Trainer makes one a cell, do not go
    through them again, until `gc.unfreeze` is called.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
