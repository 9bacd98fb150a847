"""Bad input: a value and what is allowed -> the value, or one line that says what to do."""

import difflib
import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

# So many allowed names are listed; more of them would hide the guess.
MOST_LISTED = 10
# How alike a name must be to be guessed; 1 is equal, one wrong letter in three is close enough.
CLOSE = 0.65


class UsageError(ValueError):
    """Bad input, said in one line: what was given, what is allowed, what to do.

    The command line prints it and exits with code 2.
    """


class PushError(RuntimeError):
    """A transfer that broke off. The Hub has all of it or nothing; the same command goes on.

    The command line prints it and exits with code 1.
    """


def as_integer(value: Any) -> int | None:
    """Return an integer of Python or NumPy as int, None for anything else, also for a bool."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of several numbers
        return None


def choose(kind: str, value: str, allowed: Iterable[str], do: str = "") -> str:
    """Return a name if it is one of those allowed.

    Args:
        kind: what the name is of, as the message says it: "task", "key in bad.yaml".
        value: the name that was given.
        allowed: the names that may be given.
        do: a sentence that ends the message, such as where all names are listed.

    Raises:
        UsageError: it is none of them. The message guesses the name meant, where one is close.

    Example:
        >>> choose("task", "sett", ["set", "sort"])
        Traceback (most recent call last):
        hf_synpre.errors.UsageError: Unknown task 'sett'. Did you mean 'set'? Allowed: set, sort.
    """
    names = list(allowed)
    if value in names:
        return value

    message = f"Unknown {kind} '{value}'."
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=CLOSE)
    if close:
        message += f" Did you mean '{close[0]}'?"
    message += f" Allowed: {_listed(names)}."
    if do:
        message += f" {do}"
    raise UsageError(message)


def _listed(names: list[str]) -> str:
    """Return the first names in alphabetical order, and how many there are beside them."""
    distinct = sorted(set(names))
    if not distinct:
        return "none"
    text = ", ".join(distinct[:MOST_LISTED])
    if len(distinct) > MOST_LISTED:
        text += f" and {len(distinct) - MOST_LISTED} more"
    return text
