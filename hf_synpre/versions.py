"""Layer 0: which versions made a result."""

import importlib.metadata
import importlib.util
import platform
import subprocess
from pathlib import Path

import hf_synpre

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "numpy", "numba")


def versions() -> dict[str, str]:
    """Return the versions that decide a result: interpreter, packages, and the commit where hf_synpre is a checkout."""
    found = {p: importlib.metadata.version(p) for p in PACKAGES if importlib.util.find_spec(p)}
    return {
        "python": platform.python_version(),
        "hf_synpre": hf_synpre.__version__,
        "commit": commit(),
        **found,
    }


def commit() -> str:
    """Return the commit of the checkout that hf_synpre runs from, "+" where it was changed since, or "none"."""
    git = ["git", "-C", str(Path(hf_synpre.__file__).parent)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        return head + "+" * bool(
            subprocess.run([*git, "status", "--porcelain", "."], capture_output=True).stdout
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
