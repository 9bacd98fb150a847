"""JSON files and cards of a model's folder -> the same without paths of this machine.

A recipe names the files that a run has read, as /home/me/clients/letters.csv. What is published
names letters.csv alone.
"""

import json
import re
from pathlib import Path

from hf_synpre.files import parse_json
from hf_synpre.provenance import PATH_IN_TEXT, last_name, without_local_paths

# Files whose texts are a vocabulary: there "/" begins tokens, not paths.
VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")


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
