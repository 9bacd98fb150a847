"""Files and folders that are written completely or not at all, and locks for their writers."""

import base64
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from hf_synpre.errors import TemporaryError, UsageError, system_error, write_error

# The largest JSON file that is read at once: as Python's objects it takes up to 20 times as much.
MOST_JSON_BYTES = 64 * 2**20
# Lists and objects of a JSON text inside each other.
MOST_LEVELS = 100
# How a file begins whose content a clone without Git LFS has left out.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def parse_json(text: str | bytes) -> Any:
    """Return the value of a text of JSON. NaN and Infinity are read: config.json files have them.

    Raises ValueError where it is no JSON, is nested too deep, or has a number of too many digits.
    """
    too_deep = ValueError(
        f"it is nested too deep: more than {MOST_LEVELS} lists or objects inside each other"
    )
    try:
        value = json.loads(text)
    except RecursionError:
        raise too_deep from None
    if is_deeper(value, MOST_LEVELS):
        raise too_deep
    return value


def is_deeper(value: Any, most_levels: int) -> bool:
    """Say whether a value has more lists and dicts inside each other than allowed."""
    containers = [value] if isinstance(value, dict | list) else []
    for _ in range(most_levels):
        inner: list[Any] = []
        for container in containers:
            parts = container.values() if isinstance(container, dict) else container
            inner += [part for part in parts if isinstance(part, dict | list)]
        if not inner:
            return False
        containers = inner
    return True


def read_json(file: str | Path) -> Any:
    """Read a JSON file.

    Raises UsageError, with the file's name, if it is missing, broken, nested too deep or too large.
    """
    path = Path(file)
    if path.exists() and not path.is_file():  # a pipe or a device would never end
        raise UsageError(f"{file} is no file; give a JSON file.")
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise UsageError(
                f"{file} is larger than {MOST_JSON_BYTES >> 20} MB; give another file."
            )
        return parse_json(path.read_bytes())
    except FileNotFoundError as error:  # also where another process has just deleted it
        raise UsageError(f"There is no file {file}.") from error
    except ValueError as error:
        raise UsageError(
            f"{file} is not valid JSON ({error}); make it again, or give another file."
        ) from error


def refuse_pointer(file: Path) -> None:
    """Raise UsageError where Git LFS has left the name of a file's content in its place."""
    if not file.is_file():
        return
    with file.open("rb") as stream:
        beginning = stream.read(len(LFS_POINTER))
    if beginning == LFS_POINTER:
        raise UsageError(
            f"{file} is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`."
        )


def read_object(file: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises UsageError where it holds something else."""
    value = read_json(file)
    if not isinstance(value, dict):
        raise UsageError(f"{file} holds no JSON object; make it again, or give another file.")
    return value


def content_digest(path: str | Path) -> str:
    """Return a digest of the names and contents of a file, or of all files of a folder.

    Hidden files and folders, such as .DS_Store, are left out: they come and go, and are no data.
    A file is read again only if its size or one of its times has changed.
    """
    return _content_digest(Path(path), file_stamps(path))


def file_stamps(path: str | Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return what shows that files have changed, of one file or of all files of a folder.

    Hidden files and folders are left out.

    Returns:
        Of each file its name within the folder, its size, and the nanoseconds of its two times.
    """
    root = Path(path)
    files = [root]
    if root.is_dir():
        files = []
        for file in sorted(root.rglob("*")):
            is_hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
            if file.is_file() and not is_hidden:
                files.append(file)

    stamps = []
    for file in files:
        status = file.stat()
        name = str(file.relative_to(root))
        stamps.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(stamps)


@functools.lru_cache(maxsize=256)
def _content_digest(root: Path, stamps: tuple[tuple[str, int, int, int], ...]) -> str:
    """Return the digest of files; it is cached until a file changes, which `stamps` show."""
    digest = hashlib.blake2b(digest_size=16)
    for name, *_ in stamps:
        with (root / name).open("rb") as stream:
            content = hashlib.file_digest(stream, "blake2b").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def write_json(file: str | Path, value: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one."""
    write_text(file, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(file: str | Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(file, text.encode())


def write_bytes(file: str | Path, content: bytes) -> None:
    """Write a file atomically. Raises UsageError if the system refuses."""
    with atomic_file(file) as partial:
        partial.write_bytes(content)


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Say in one line where the block cannot write: TemporaryError if that may pass, as for a full
    disk, else UsageError.

    Args:
        target: the file or folder that the block writes, for the message.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if system_error(error) is None:
            raise
        raise write_error(target, error) from error


@contextmanager
def atomic_file(file: str | Path) -> Iterator[Path]:
    """Write a file atomically: under a temporary name in the same folder, then renamed.

    Yields:
        The temporary name, of an empty file that no other process knows. It is renamed to `file` if
        the block ends without an error, and deleted otherwise. A killed process may leave the
        temporary file behind; its name begins with a dot, so that no reader takes it for a result.

    Raises:
        UsageError: the system refuses to write there.
    """
    target = Path(file)
    partial = temporary_name(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        # The name must be new: a link that somebody put there is not followed.
        partial.touch(exist_ok=False)
        try:
            yield partial
            os.replace(partial, target)
        finally:
            with suppress(OSError):
                partial.unlink()


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Make a folder that appears with all its files at once.

    Only one process at a time may make a folder, so hold its lock.

    Yields:
        A temporary folder. It is renamed to `folder` if the block ends without an error, and
        deleted otherwise.

    Raises:
        UsageError: the system refuses to write there.
    """
    target = Path(folder)
    partial = temporary_name(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        delete_temporary_folders(target)  # what a killed run left
        partial.mkdir()
        try:
            yield partial
            os.replace(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def temporary_name(target: Path) -> Path:
    """Return a name beside a file or folder for what is still being written.

    It begins with a dot, and is random: in a folder where others may write, nobody can foresee it.
    """
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")


def delete_temporary_folders(target: Path) -> None:
    """Delete the temporary folders that killed processes left of a folder."""
    name = re.compile(re.escape(f".{target.name}.") + r"([0-9a-f]{8}\.)?partial")
    for entry in target.parent.iterdir():
        if name.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def lock(target: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file or folder, which one process at a time can hold.

    The system releases it when its holder dies.

    Args:
        target: the file or folder; its lock is a hidden file beside it.
        wait: wait for the lock; without it filelock's Timeout is raised if another process has it.

    Raises:
        UsageError: the system refuses to write there.
    """
    file = lock_file(target)
    file_lock = FileLock(file, timeout=-1 if wait else 0)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file_lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        raise write_error(target.parent, error) from error
    try:
        yield
    finally:
        file_lock.release()


def lock_file(target: Path) -> Path:
    """Return the file that is locked for a file or folder."""
    return target.with_name(f".{target.name}.lock")


@contextmanager
def held(target: Path, shown: Path | None = None) -> Iterator[None]:
    """Hold the lock of a file or folder, and leave no file of it behind.

    Args:
        target: the file or folder.
        shown: what the message names instead of it, as the user knows it.

    Raises:
        TemporaryError: another process holds the lock.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(target, wait=False))
        except Timeout:
            raise TemporaryError(
                f"Another command is writing {shown or target}; wait for it, or choose another "
                "folder."
            ) from None
        try:
            yield
        finally:
            # It is still locked: filelock sees that a file which it has locked is gone.
            lock_file(target).unlink(missing_ok=True)


def open_safetensors(file: str | Path, framework: str = "pt") -> Any:
    """Open a safetensors file, to be used as a context.

    Raises:
        SafetensorError: it is damaged.
        OSError: the system does not open it. safetensors alone would call it missing whatever the
            cause, such as too many open files.
    """
    with Path(file).open("rb"):
        return safe_open(file, framework=framework)


# Fractions are stored as integers from 0 to this: 0 and 1 exactly, others to within 1 / 65,535.
FRACTION_STEPS = 65535
# No more fractions are read from a text: a few bytes could unpack to all of the memory.
MOST_FRACTIONS = 20_000_000


def pack_fractions(values: np.ndarray) -> str:
    """Return fractions in 0..1 as text for JSON; a thousand zeros and ones take 200 bytes."""
    steps = np.round(np.asarray(values) * FRACTION_STEPS).astype("<u2")
    return base64.b64encode(zlib.compress(steps.tobytes(), level=9)).decode()


def unpack_fractions(text: str) -> np.ndarray:
    """Return the fractions of a text by pack_fractions, float64[n].

    Raises ValueError where it is another text, or holds more than MOST_FRACTIONS.
    """
    unpacker = zlib.decompressobj()
    try:
        packed = unpacker.decompress(base64.b64decode(text, validate=True), 2 * MOST_FRACTIONS)
    except zlib.error as error:
        raise ValueError(f"no packed fractions: {error}") from error
    if not unpacker.eof:
        raise ValueError(f"no end of the packed fractions after {len(packed) // 2:,} of them")
    return np.frombuffer(packed, "<u2") / FRACTION_STEPS
