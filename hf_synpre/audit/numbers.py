"""Numbers of an audit: errors of means, and rounding that makes equal runs write equal bytes."""

import math
from typing import Any, TypeVar

import numpy as np

Value = TypeVar("Value")

# Digits that are kept: the order of sums, which differs between machines, changes later ones.
DIGITS = 6


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of independent values."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def share_error(hits: np.ndarray) -> float:
    """Return the standard error of the share of hits, bool[n]."""
    share = float(np.mean(hits))
    return math.sqrt(share * (1 - share) / len(hits))


def rounded(value: Value) -> Value:
    """Return a JSON value whose fractions have DIGITS significant digits."""
    result: Any = value
    if isinstance(value, dict):
        result = {name: rounded(part) for name, part in value.items()}
    elif isinstance(value, list | tuple):
        result = [rounded(part) for part in value]
    elif isinstance(value, float):
        result = float(f"{value:.{DIGITS}g}")
    return result
