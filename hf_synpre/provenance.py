"""Where saved weights come from: facts in their files, a digest of them, a hash of their recipe.

A safetensors file begins with a header of JSON, in which texts may stand beside the tensors. A
model's task, tokens and commit stand there, and `safe_open(file, "pt").metadata()` reads them.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from safetensors import SafetensorError

from hf_synpre.errors import UsageError
from hf_synpre.files import atomic_file, open_safetensors

# An absolute path inside a sentence: /a/b, ~/a/b or C:\a\b, and no URL.
PATH_IN_TEXT = re.compile(
    r"(?<![\w.:/\\<])(?:~?/|[A-Za-z]:[\\/])(?:[^\s/\\\"'<>|]+[\\/])+[^\s\"'<>|]*"
)
# The key of the texts in the header of a safetensors file.
METADATA = "__metadata__"
# The header's length is a multiple of this, so that the tensors after it are aligned.
ALIGNMENT = 8
# Bytes of a file that are in memory at once.
CHUNK = 2**24


# --- recipes --------------------------------------------------------------------------------------


def without_local_paths(value: Any) -> Any:
    """Return a value of JSON in which absolute paths are replaced by their last name.

    Args:
        value: what json.loads returns. Names of fields stay as they are.
    """
    if isinstance(value, dict):
        return {key: without_local_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_local_paths(item) for item in value]
    if not isinstance(value, str):
        return value

    # A path may hold blanks where it is the whole text.
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(value)
        if path.is_absolute() and len(path.parts) > 2 and "\n" not in value:
            return path.name
    return PATH_IN_TEXT.sub(lambda found: last_name(found.group()), value)


def last_name(path: str) -> str:
    """Return the last name of a path with slashes or backslashes."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def recipe_sha256(recipe: Any) -> str:
    """Return the sha256 of a recipe as it is published: as JSON, without paths of this machine.

    Args:
        recipe: any value of JSON; the order of its keys does not matter.

    Examples:
        >>> card = ModelCard.load("me/t5-set")
        >>> recipe_sha256(card.data.synpre["recipe"]) == metadata["recipe_sha256"]
        True
    """
    plain = json.loads(json.dumps(recipe))  # tuples become lists, as in a file
    text = json.dumps(without_local_paths(plain), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# --- safetensors files ----------------------------------------------------------------------------


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write facts into the header of every safetensors file of a folder; no tensor changes.

    Args:
        folder: what `save_pretrained` wrote; the weights may be in several files.
        facts: name -> text or number; None leaves a fact out. "format", by which transformers
            knows who wrote a file, stays.

    Raises:
        UsageError: the system refuses to write there.
    """
    texts = {name: str(value) for name, value in facts.items() if value is not None}
    for file in sorted(folder.glob("*.safetensors")):
        header, begin = read_header(file)
        header[METADATA] = header.get(METADATA, {}) | texts
        content = json.dumps(header, separators=(",", ":")).encode()
        content += b" " * (-len(content) % ALIGNMENT)

        with atomic_file(file) as partial, file.open("rb") as old, partial.open("wb") as new:
            new.write(len(content).to_bytes(8, "little") + content)
            old.seek(begin)
            shutil.copyfileobj(old, new, CHUNK)


def tensors_sha256(folder: Path) -> str:
    """Return a sha256 of all tensors in the safetensors files of a folder.

    It is over the name, type, shape and bytes of each tensor, in the order of the names. So it
    does not depend on how many files the tensors are in, nor on the facts in their headers.

    Raises:
        UsageError: a file is damaged.
    """
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        header, begin = read_header(file)
        header.pop(METADATA, None)
        tensors.update({name: (file, begin, entry) for name, entry in header.items()})

    digest = hashlib.sha256()
    for name, (file, begin, entry) in sorted(tensors.items()):
        start, stop = entry["data_offsets"]
        digest.update(f"{name} {entry['dtype']} {entry['shape']}\n".encode())
        for chunk in read_chunks(file, begin + start, begin + stop):
            digest.update(chunk)
    return digest.hexdigest()


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and the byte at which its tensors begin.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        with open_safetensors(file, "np"):
            pass  # it checks that the header is whole and the file as long as it says
    except SafetensorError as error:
        raise UsageError(
            f"{file} is not a complete safetensors file ({error}); save the model again."
        ) from None
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        return json.loads(opened.read(length)), 8 + length


def read_chunks(file: Path, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` to `stop`, some at a time."""
    with file.open("rb") as opened:
        opened.seek(start)
        while start < stop:
            chunk = opened.read(min(CHUNK, stop - start))
            start += len(chunk)
            yield chunk
