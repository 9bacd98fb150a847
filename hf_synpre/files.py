"""Layer 0: files that appear whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_synpre.errors import UsageError


def read_json(file: str | Path) -> Any:
    """Read a JSON file. Raises UsageError naming the file where it is missing or broken."""
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {file}.") from None
    except ValueError as error:
        raise UsageError(f"{file} is not valid JSON ({error}); delete it or make it again.") from None


def write_json(file: str | Path, value: Any) -> None:
    """Write JSON so that a reader, or a run killed now, sees the old file or the whole new one."""
    write_text(file, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(file: str | Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(file, text.encode())


def write_bytes(file: str | Path, content: bytes) -> None:
    """Write a file atomically: a temporary file in the same folder, then a rename. UsageError where that is refused."""
    with whole_file(file) as partial:
        partial.write_bytes(content)


@contextmanager
def whole_file(file: str | Path) -> Iterator[Path]:
    """Yield the name of a file to write, which becomes `file` when the block ends well and is deleted when it does not.

    The name is this process's own. What a killed process leaves begins with a dot and is no part of anything.
    """
    target = Path(file)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, target)
    except OSError as error:
        raise UsageError(f"Cannot write {target} ({error.strerror or error}); give another place.") from None
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well, and is deleted when it does not.

    One process at a time may make a folder: hold a lock.
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    partial.mkdir()
    try:
        yield partial
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
