"""Layer 0: files that appear whole or not at all."""

import base64
import functools
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from hf_synpre.errors import UsageError


def read_json(file: str | Path) -> Any:
    """Read a JSON file. Raises UsageError naming the file where it is missing or broken."""
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {file}.") from None
    except ValueError as error:
        raise UsageError(
            f"{file} is not valid JSON ({error}); make it again, or give another."
        ) from None


def content_digest(place: str | Path) -> str:
    """Return a digest of the names and bytes of a file or of a folder's files; what has not changed is not read again."""
    root = Path(place)
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    stamps = [
        (file.stat().st_size, file.stat().st_mtime_ns, file.stat().st_ctime_ns) for file in files
    ]
    return _content_digest(root, tuple(files), tuple(stamps))


@functools.lru_cache(maxsize=256)
def _content_digest(root: Path, files: tuple[Path, ...], stamps: tuple) -> str:
    found = hashlib.blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "blake2b").hexdigest()
        found.update(f"{file.relative_to(root)} {content}\n".encode())
    return found.hexdigest()


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
        raise UsageError(
            f"Cannot write {target} ({error.strerror or error}); give another place."
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink()


def pack_fractions(values: np.ndarray) -> str:
    """Return fractions in 0..1 as text for JSON, to 1 / 65,535: 0 and 1 are exact, a thousand of those take 200 bytes."""
    return base64.b64encode(
        zlib.compress(np.round(np.asarray(values) * 65535).astype("<u2").tobytes(), 9)
    ).decode()


def unpack_fractions(text: str) -> np.ndarray:
    """Return what pack_fractions packed (float64[n]). Raises ValueError on anything else."""
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), "<u2") / 65535
    except zlib.error as error:
        raise ValueError(f"no packed fractions: {error}") from None


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


def lock(target: Path, wait: bool = True) -> FileLock:
    """Return the lock of one product; the system releases it when its holder dies. Timeout at once if not to `wait`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(target.with_name(f".{target.name}.lock"), timeout=-1 if wait else 0)


@contextmanager
def held(target: Path) -> Iterator[None]:
    """Hold the lock of one product. Raises UsageError where another process does."""
    try:
        with lock(target, wait=False):
            yield
    except Timeout:
        raise UsageError(
            f"Another command is at work on {target}; wait for it, or choose another folder."
        ) from None
