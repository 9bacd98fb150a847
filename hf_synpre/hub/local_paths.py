"""JSON files and cards of a model's folder -> the same without paths of this machine.

A recipe names the files that a run has read, as /home/me/clients/letters.csv. What is published
names letters.csv alone.
"""

import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from hf_synpre.files import parse_json

# Files whose texts are a vocabulary: there "/" begins tokens, not paths.
VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
# An absolute path inside a sentence: /a/b, ~/a/b or C:\a\b, and no URL.
PATH_IN_TEXT = re.compile(
    r"(?<![\w.:/\\<])(?:~?/|[A-Za-z]:[\\/])(?:[^\s/\\\"'<>|]+[\\/])+[^\s\"'<>|]*"
)


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


def published_content(file: Path) -> Path | bytes:
    """Return what a push sends for a file: the file, or its JSON without paths of this machine."""
    if file.suffix != ".json" or file.name in VOCABULARIES:
        return file
    try:
        value = parse_json(file.read_bytes())
    except ValueError:  # the push refuses what must be JSON in words of its own
        return file
    clean = without_local_paths(value)
    if clean == value:
        return file
    return (json.dumps(clean, indent=1) + "\n").encode()


def published_card(text: str) -> str:
    """Return the text of a folder's own README.md; paths that exist here become their last name."""

    def shorten(found: re.Match[str]) -> str:
        path = found.group()
        is_here = Path(path.rstrip(".,;:)`")).expanduser().exists()
        return last_name(path) if is_here else path

    return PATH_IN_TEXT.sub(shorten, text)
