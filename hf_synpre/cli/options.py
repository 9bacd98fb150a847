"""Layer 6: what the verbs' options share: how they are declared, and what their texts mean."""

import dataclasses
from dataclasses import field
from typing import Any

import yaml

from hf_synpre.config import Loader
from hf_synpre.errors import UsageError


def option(help_text: str, default: Any = None) -> Any:
    """Return a dataclass field with a help text."""
    return field(default=default, metadata={"help": help_text})


def option_names(options: type) -> list[str]:
    """Return the options of a verb as they are written."""
    return [f"--{f.name}" for f in dataclasses.fields(options) if f.init]


def pairs(text: str | None, what: str) -> dict[str, Any]:
    """Read "a=1,b=x" as a mapping with YAML's types. Raises UsageError on anything else."""
    found = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"--{what} has '{part}'; write name=value,name=value.")
        try:
            found[name.strip()] = yaml.load(value, Loader)
        except yaml.YAMLError:
            raise UsageError(
                f"--{what} has '{part}', whose value is no number, word or list."
            ) from None
    return found


def vocabulary_of(text: str | None, name: str = "vocabulary") -> Any:
    """Return what --vocabulary means: None, a size, or a tokenizer."""
    if text is None or (text.isascii() and text.isdecimal()):
        return text and int(text)
    from hf_synpre.data.tokenizers import read_tokenizer

    try:
        return read_tokenizer(text)
    except UsageError as error:
        size = "a size, or " if name == "vocabulary" else ""
        cause = str(error)[:160]
        raise UsageError(
            f"--{name} is '{text}'; give {size}the folder or Hub id of a tokenizer ({cause})."
        ) from None
