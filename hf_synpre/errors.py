"""Errors: a value and the allowed ones -> the value, or an error of one line on what to do."""

import difflib
import errno
import operator
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsIndex

# A message lists so many allowed names; a longer list would hide the guess.
MOST_LISTED = 10
# How similar an allowed name must be to be guessed: 1 is equal; one wrong letter in three still
# passes.
CLOSE = 0.65

# The letters of a message; of a longer one, which quotes a file at length, the middle is left out.
LONGEST_MESSAGE = 2000
# The letters of a value that a message quotes.
LONGEST_VALUE = 300
# The digits of an integer in a text; the largest number of floating point has 309.
MOST_DIGITS = 400
# Python does not write out an integer of more digits.
DIGITS_WRITTEN = 4300

# What the system says where something has run out, which may pass -> what to do.
WHAT_TO_DO = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files (ulimit -n)",
    errno.ENOMEM: "free memory",
    errno.EIO: "check the disk",
}


class UsageError(ValueError):
    """Bad input. The text is one line: what was given, what is allowed, what to do.

    The text may quote names and values of files from elsewhere: `one_line` makes it printable and
    bounds its length. The command line prints it and exits with code 2.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


class TemporaryError(UsageError):
    """Nothing is wrong with the input, and what stopped the command may pass: a full disk, too many
    open files, another command at work in the same folder. The same command goes on later.

    The command line prints it and exits with code 1.
    """


class MissingCheckpointError(UsageError, OSError):
    """A checkpoint that is no folder and that the Hub does not give.

    It is bad input, and the OSError that transformers raises too.
    """


class PushError(RuntimeError):
    """A transfer that broke off. The Hub has all of it or nothing; run the same command again.

    The command line prints it and exits with code 1.
    """


def system_error(error: BaseException) -> int | None:
    """Return the system's number of an error (`errno`), None where the system has not raised it.

    safetensors and tokenizers write the number into their texts. torch writes the system's words at
    best; where it says no more than that writing has failed, that is taken for a full disk.
    """
    if isinstance(error, OSError):
        return error.errno
    text = str(error)
    written = re.search(r"\(os error (\d+)\)", text)
    if written:
        return int(written[1])
    for number in WHAT_TO_DO:
        if os.strerror(number) in text:
            return number
    torch_failed = isinstance(error, RuntimeError) and (
        "PytorchStreamWriter failed" in text or "inline_container" in text
    )
    return errno.ENOSPC if torch_failed else None


def write_error(target: Any, error: BaseException) -> UsageError:
    """Return the error to raise where a file or folder cannot be written, or not even opened.

    Args:
        target: what is written or opened.
        error: what the system, safetensors or torch has raised.

    Returns:
        A TemporaryError if the same command may work later, else a UsageError.
    """
    number = system_error(error)
    cause = os.strerror(number) if number else " ".join(str(error).split())[:200]
    if number in WHAT_TO_DO:
        done = "open" if number in (errno.EMFILE, errno.ENFILE) else "write"
        return TemporaryError(
            f"Cannot {done} {target} ({cause}); {WHAT_TO_DO[number]}, and the same command goes on."
        )
    return UsageError(f"Cannot write {target} ({cause}); give another folder.")


def as_integer(value: Any) -> int | None:
    """Return an integer of Python or NumPy as int, None for anything else, also for a bool."""
    is_bool = isinstance(value, bool) or getattr(value, "dtype", None) == "bool"
    if is_bool or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of several numbers
        return None


def read_integer(text: str) -> int | None:
    """Return the integer that a text spells in at most MOST_DIGITS digits, None for others."""
    is_integer = text.isdecimal() and len(text) <= MOST_DIGITS
    return int(text) if is_integer else None


def choose(
    kind: str,
    value: str,
    allowed: Iterable[str],
    do: str = "",
    most_listed: int = MOST_LISTED,
    common: tuple[str, ...] = (),
) -> str:
    """Return a name if it is one of those allowed.

    Args:
        kind: what is named, for the message: "task", "key in bad.yaml".
        value: the name that was given.
        allowed: the allowed names.
        do: a sentence at the end of the message, for example where all names are listed.
        most_listed: of more names than this the message has those most like the value.
        common: allowed names with which the list of the message begins.

    Raises:
        UsageError: the name is not allowed. The message suggests an allowed one that is similar.

    Examples:
        >>> choose("task", "sett", ["set", "sort"])
        Traceback (most recent call last):
        hf_synpre.errors.UsageError: Unknown task 'sett'. Did you mean 'set'? Allowed: set, sort.
    """
    names = list(allowed)
    if value in names:
        return value

    name = str(value)[:LONGEST_VALUE]  # to compare long texts takes long
    message = f"Unknown {kind} '{name}'."
    close = difflib.get_close_matches(name, names, n=1, cutoff=CLOSE)
    if close:
        message += f" Did you mean '{close[0]}'?"
    message += f" Allowed: {_listed(names, name, most_listed, common)}."
    if do:
        message += f" {do}"
    raise UsageError(message)


def _listed(names: list[str], value: str, most: int, common: tuple[str, ...]) -> str:
    """Return the common names, and the others in alphabetical order: of many those most like the
    value.

    Private names, with an underscore before them, are not shown.
    """
    distinct = sorted({name for name in names if not name.startswith("_")})
    if not distinct:
        return "none"
    if len(distinct) <= most:
        return ", ".join([*common, *(name for name in distinct if name not in common)])

    def similarity(name: str) -> float:
        return difflib.SequenceMatcher(None, value, name).ratio()

    others = [name for name in distinct if name not in common]
    similar = sorted(others, key=similarity, reverse=True)[: most - len(common)]
    return f"{', '.join([*common, *sorted(similar)])} and {len(distinct) - most} more"


def in_message(value: Any) -> str:
    """Return a value as a message quotes it: the start of its repr.

    An integer of very many digits, which Python does not write out, is described.
    """
    try:
        text = repr(value)
    except ValueError:
        return f"a value with an integer of more than {DIGITS_WRITTEN:,} digits"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} ..."


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun, in the plural where it is not 1: "1 cell", "1,200 cells".

    Args:
        number: how many there are.
        noun: what is counted, in the singular.
        nouns: its plural, where it is not the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def one_line(text: str) -> str:
    """Return a text on one printable line of at most LONGEST_MESSAGE letters."""
    text = printable(text)
    if len(text) <= LONGEST_MESSAGE:
        return text
    half = LONGEST_MESSAGE // 2 - 5
    return f"{text[:half]} ... {text[-half:]}"


def printable(text: str) -> str:
    r"""Return a text on one line, with each character that is not printable as its code: \x1b."""
    if text.isprintable():
        return text
    letters = []
    for letter in text:
        if letter.isprintable():
            letters.append(letter)
        elif letter.isspace():
            letters.append(" ")
        else:
            letters.append(letter.encode("unicode_escape").decode("ascii"))
    return "".join(letters)


def similar_path(path: Path) -> str:
    """Return a guess at what a path that does not exist should have been; "" without one."""
    if not path.parent.is_dir() or not os.access(path.parent, os.R_OK):
        return ""
    names = [entry.name for entry in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / close[0]}?" if close else ""
