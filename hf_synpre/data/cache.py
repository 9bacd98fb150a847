"""The cache: what is made once, digests of large folders, tables larger than the memory."""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from huggingface_hub import constants

from hf_synpre.errors import UsageError
from hf_synpre.files import content_digest, file_stamps, temporary_name, write_text, writing

# The environment variable that names another folder for what is kept between runs.
CACHE_VARIABLE = "SYNPRE_CACHE"
# Digests of folders with more bytes than this are kept; smaller ones are read again.
LARGE_FOLDER = 10**8
# A file that changed less than this many nanoseconds ago may change again at the same time stamp.
SETTLED_NS = 2 * 10**9
# Bytes of tables that are in memory; more of them lie on the disk.
MOST_TABLE_BYTES = 2**28


def cache_folder() -> Path:
    """Return the folder of what is kept between runs: SYNPRE_CACHE, or synpre in HF_HOME."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path(constants.HF_HOME) / "synpre"


def folder_digest(path: Path) -> str:
    """Return the `content_digest` of a file or folder.

    That of much data is kept in the cache, until the size or a time of a file changes.
    """
    stamps = file_stamps(path)
    if sum(size for _, size, _, _ in stamps) < LARGE_FOLDER:
        return content_digest(path)

    key = hashlib.blake2b(repr((path.resolve(), stamps)).encode(), digest_size=16).hexdigest()
    file = cache_folder() / "digests" / key
    with suppress(OSError):
        return file.read_text()
    digest = content_digest(path)
    last_change = max(max(times) for _, _, *times in stamps)
    if time.time_ns() - last_change > SETTLED_NS:
        write_text(file, digest)
    return digest


def recipe_key(recipe: dict[str, Any]) -> str:
    """Return a short hash of a recipe, by which files of the cache are named."""
    text = json.dumps(recipe, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def changed(path: Path) -> UsageError:
    """Return the error of files that change while they are read."""
    return UsageError(
        f"{path} changed while it was read; wait until its files are whole, and run the same "
        "command again."
    )


def mapped_tables(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """Return tables whose rows are on the disk, mapped into memory, where they are many.

    Each MOST_TABLE_BYTES of them make a file in the cache. It has no name any more when it is
    returned, so that the system deletes it when the process ends.

    Args:
        tables: tables as they are read, of one schema or of several.

    Raises:
        TemporaryError: the disk is full.
    """
    result: list[pa.Table] = []
    pending: list[pa.Table] = []
    size = 0
    for table in tables:
        pending.append(table)
        size += table.nbytes
        if size >= MOST_TABLE_BYTES:
            result += [mapped_table(part) for part in joined(pending)]
            pending, size = [], 0
    return result + pending


def joined(tables: list[pa.Table]) -> list[pa.Table]:
    """Return tables with those that follow each other in one schema made one."""
    groups: list[list[pa.Table]] = []
    for table in tables:
        if groups and groups[-1][0].schema == table.schema:
            groups[-1].append(table)
        else:
            groups.append([table])
    return [pa.concat_tables(group).combine_chunks() for group in groups]


def mapped_table(table: pa.Table) -> pa.Table:
    """Return a table with its rows in a file without a name, mapped into memory."""
    file = temporary_name(cache_folder() / "table")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        finally:
            file.unlink(missing_ok=True)
