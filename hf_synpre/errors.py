"""Layer 0: the one exception for bad input, and the guess at what was meant."""

import difflib
import operator
from collections.abc import Iterable
from typing import Any

MOST_LISTED = 60  # names: more of them hide the guess


class UsageError(ValueError):
    """Bad input in one line: what was given, what is allowed, what to do. The CLI exits with code 2."""


def as_integer(given: Any) -> int | None:
    """Return an integer of Python or NumPy as int, None for anything else, True and False included."""
    try:
        return None if isinstance(given, bool) else operator.index(given)
    except TypeError:
        return None


def choose(kind: str, given: str, allowed: Iterable[str], do: str = "") -> str:
    """Return `given` if it is one of `allowed`; raise UsageError naming the closest otherwise."""
    names = list(allowed)
    if given in names:
        return given
    close = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    guess = f" Did you mean '{close[0]}'?" if close else ""
    listed = (
        f" Allowed: {', '.join(sorted(set(names))) or 'none'}." if len(names) <= MOST_LISTED else ""
    )
    raise UsageError(f"Unknown {kind} '{given}'.{guess}{listed}{do and ' ' + do}")
