"""Jobs for workers of a Ray cluster, which import no torch for them."""

import os
from pathlib import Path

from hf_synpre.errors import UsageError


def end_worker_once(file):
    """End the worker, and say in a file that it was done; later return the folder of the worker."""
    if not Path(file).exists():
        Path(file).touch()
        os._exit(1)
    return os.getcwd()


def refuse():
    raise UsageError("No such thing; give another.")
