"""The versions that decide a result: of Python, of hf_synpre and of the packages it uses."""

import importlib.metadata
import importlib.util
import platform
import subprocess
from functools import cache
from pathlib import Path

import hf_synpre

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "numpy", "numba")


def versions() -> dict[str, str]:
    """Return the version of Python, hf_synpre (with its commit) and each package in PACKAGES."""
    installed = {
        package: importlib.metadata.version(package)
        for package in PACKAGES
        if importlib.util.find_spec(package)
    }
    return {
        "python": platform.python_version(),
        "hf_synpre": hf_synpre.__version__,
        "commit": commit(),
        **installed,
    }


@cache  # what was imported is what runs, whatever is committed meanwhile
def commit() -> str:
    """Return the commit of the checkout that hf_synpre runs from, "none" without a checkout.

    A "+" follows where files of the package were changed since. It is that of the first call in a
    process.
    """
    git = ["git", "-C", str(Path(hf_synpre.__file__).parent)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):  # git is not installed, or this is no checkout
        return "none"
    return f"{head}+" if changes else head
