"""Languages of brackets of several kinds: random bits come in, balanced strings go out.

`k_shuffle_dyck`: the brackets of each kind are balanced, and kinds may cross. `k_dyck`: a bracket
closes the last open one. Bracket kinds are regular tokens: kind i opens with token i and closes
with token types + i. Their laws are described in docs/papers.md, "Tasks since 2022".

A string ends balanced: from the position where as many tokens are left as brackets are open, it
only closes. The originals are cut where they are; truncated="yes" does that.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hf_synpre.errors import counted
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, copy, kernel, two_below
from hf_synpre.vocabulary import Vocabulary

SHUFFLE_PAPER = "Papadimitriou, Jurafsky 2023, arXiv 2304.13060; Hu et al. 2025, arXiv 2502.19249"
DYCK_PAPER = "Jiang et al. 2026, arXiv 2601.21725"

# Where compiled code finds the parameters in `p`.
LENGTH, TYPES, OPEN_PERCENT, MAX_DEPTH, TRUNCATED = range(ARGUMENTS, ARGUMENTS + 5)
# Kinds are drawn with 32 random bits.
MOST_TYPES = 2**15


@kernel
def open_percent(depth, left, p):
    """Return the per cent with which the next bracket opens one.

    `depth` brackets are open, and `left` tokens of the string are to come.
    """
    must_close = (depth == left) & (p[TRUNCATED] == 0)
    must_close |= (p[MAX_DEPTH] > 0) & (depth >= p[MAX_DEPTH])
    percent = 0 if must_close else p[OPEN_PERCENT]
    return 100 if depth == 0 else percent


def shuffled_brackets(state, x, y, p):
    """Draw a string in which the brackets of each kind are balanced.

    An opening bracket is of a uniform kind; a closing one is uniform among the kinds that are open.
    Which one comes is a coin, which no processor foresees, so there are no branches.
    """
    n, types, first = p[LENGTH], p[TYPES], p[FIRST_REGULAR]
    counts, kinds = y[:types], y[types:]  # open brackets of each kind; the kinds that are open
    counts[:] = 0
    depth = open_kinds = 0
    for i in range(n):
        coin, new_kind = two_below(state, 100, types)
        opens = coin < open_percent(depth, n - i, p)
        chosen = below(state, max(open_kinds, 1))
        kind = new_kind if opens else kinds[chosen]

        # The bracket; `kinds` ends with the new one, or loses the chosen one to its last.
        before = counts[kind]
        counts[kind] = before + (1 if opens else -1)
        is_first, is_last = opens & (before == 0), (not opens) & (before == 1)
        kinds[open_kinds] = kind
        last = kinds[max(open_kinds - 1, 0)]
        kinds[chosen] = last if is_last else kinds[chosen]
        open_kinds += is_first
        open_kinds -= is_last
        depth += 1 if opens else -1
        x[i] = first + kind + (0 if opens else types)
    return n, -1


def shuffled_surprisal(x, out, p):
    """Write the surprisal of each bracket of a string of `shuffled_brackets`."""
    types, first = p[TYPES], p[FIRST_REGULAR]
    counts = np.zeros(types, np.int64)
    depth = open_kinds = 0
    for i in range(len(x)):
        opening = open_percent(depth, p[LENGTH] - i, p) / 100
        kind = x[i] - first
        if kind < types:
            out[i] = -math.log(opening) + math.log(types)
            open_kinds += counts[kind] == 0
            counts[kind] += 1
            depth += 1
        else:
            kind -= types
            out[i] = -math.log(1 - opening) + math.log(open_kinds)
            counts[kind] -= 1
            open_kinds -= counts[kind] == 0
            depth -= 1


def nested_brackets(state, x, y, p):
    """Draw a string in which each closing bracket closes the last open one."""
    n, types, first = p[LENGTH], p[TYPES], p[FIRST_REGULAR]
    depth = 0
    for i in range(n):
        coin, new_kind = two_below(state, 100, types)
        opens = coin < open_percent(depth, n - i, p)
        level = depth if opens else depth - 1
        kind = new_kind if opens else y[level]
        y[level] = kind  # the stack of open kinds
        x[i] = first + kind + (0 if opens else types)
        depth += 1 if opens else -1
    return n, -1


def nested_surprisal(x, out, p):
    """Write the surprisal of each bracket of a string of `nested_brackets`."""
    types, first = p[TYPES], p[FIRST_REGULAR]
    depth = 0
    for i in range(len(x)):
        opening = open_percent(depth, p[LENGTH] - i, p) / 100
        if x[i] - first < types:
            out[i] = -math.log(opening) + math.log(types)
            depth += 1
        else:
            out[i] = -math.log(1 - opening)
            depth -= 1


def check_parameters(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    if parameters["length"] < 1:
        return f"length is {parameters['length']}; give an integer >= 1."
    if not 1 <= parameters["types"] <= MOST_TYPES:
        return f"types is {parameters['types']}; give 1 to {MOST_TYPES}."
    if parameters["length"] % 2 and parameters["truncated"] == "no":
        return f"length is {parameters['length']}; give an even one, or truncated=yes."
    if not 0 <= parameters["open_percent"] <= 100:
        return f"open_percent is {parameters['open_percent']}; give 0 to 100."
    return None


def check_string(
    nested: bool,
) -> Callable[[np.ndarray, Vocabulary, Parameters], str | None]:
    """Return the check of a row: every closing bracket closes an open one.

    Args:
        nested: it closes the last open one.
    """

    def check(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
        """Return what is malformed in a string, or None."""
        types = parameters["types"]
        open_kinds: list[int] = []
        for position, kind in enumerate((body - vocabulary.first_regular).tolist()):
            if not 0 <= kind < 2 * types:
                first = vocabulary.first_regular
                return f"id {kind + first} is no bracket ({first}..{first + 2 * types - 1})."
            if kind < types:
                open_kinds.append(kind)
            elif nested and open_kinds[-1:] == [kind - types]:
                open_kinds.pop()
            elif not nested and kind - types in open_kinds:
                open_kinds.remove(kind - types)
            else:
                return f"the bracket at position {position} closes none that it may close."
        if open_kinds and parameters["truncated"] == "no":
            still_open = counted(len(open_kinds), "open bracket")
            return f"it ends with {still_open}; close all, or give truncated=yes."
        return None

    return check


def decode_brackets(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return a string with its opening brackets as `(a` and its closing ones as `a)`."""
    types = parameters["types"]
    words = []
    for token in ids.tolist():
        if token < vocabulary.first_regular + types:
            words.append(f"({vocabulary.decode(token)}")
        else:
            words.append(f"{vocabulary.decode(token - types)})")
    return " ".join(words)


# What both tasks have in common. Compiled code knows the parameters by their order.
BRACKETS: dict[str, Any] = {
    "check_parameters": check_parameters,
    "lowest_max_length": None,
    "regular_tokens": lambda parameters: 2 * parameters["types"],
    "decode": decode_brackets,
    "named": False,
    "sequence": True,
    "length": 2048,
    "types": 64,
    "open_percent": 50,
    "max_depth": 0,
    "truncated": ("no", "yes"),
}


def room_of_shuffled(parameters: Parameters) -> tuple[int, int]:
    """Return the length of a row, and room for its labels and for the kinds that are open."""
    length = parameters["length"]
    return length, max(length, 2 * parameters["types"] + 1)


@register_task(
    shuffled_brackets,
    paper=SHUFFLE_PAPER,
    bounds=room_of_shuffled,
    row_check=check_string(nested=False),
    surprisal=shuffled_surprisal,
    **BRACKETS | {"max_depth": 8},
)
def k_shuffle_dyck(x, y, p):
    """Return the string: the brackets of each kind are balanced, and kinds may cross.
    A bracket opens with a probability of open_percent / 100, of a uniform kind, and closes
    otherwise, of a uniform kind among those that are open; at max_depth open brackets it closes (0:
    no limit). Every token is scored.

    input   (a (b a) (a b) a)
    target  (a (b a) (a b) a)
    """
    copy(x, y)
    return len(x)


@register_task(
    nested_brackets,
    paper=DYCK_PAPER,
    bounds=lambda parameters: (parameters["length"], parameters["length"]),
    row_check=check_string(nested=True),
    surprisal=nested_surprisal,
    **BRACKETS,
)
def k_dyck(x, y, p):
    """Return the string: each closing bracket closes the last open one.
    A bracket opens with a probability of open_percent / 100, of a uniform kind, and closes
    otherwise; at max_depth open brackets it closes (0: no limit). Every token is scored.

    input   (a (b b) (a a) a)
    target  (a (b b) (a a) a)
    """
    copy(x, y)
    return len(x)
