"""Inputs that nobody should give: any value, a right value with parts of it changed, torn bytes."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

# Texts that mean something to a shell, a path, a terminal, a format string or a parser.
ODD_TEXTS = (
    *("", " ", "0", "-1", "1e999", "nan", "null", "true", "[", "{}", "%s", "a=b", "a,b", "--x"),
    *("../x", "/dev/zero", "/etc/hosts", "~/x", ".", "*", "a/b", "a/b/c", "//", "\\", "C:\\x"),
    *("\0", "a\0b", "\n", "a\nb", "\x1b[2J", "\u202e", "\ud800", "é", "²", "漢字", "$(id)"),
    *("x" * 300, "x" * 5000, "9" * 5000, "train", "t5", "set", "random", "stdlib"),
)
ODD_NUMBERS = (
    *(0, 1, -1, 2, 7, 255, 2**15, 2**20, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64),
    *(-(2**31), -(2**63), 10**300, 10**400, 0.0, 0.5, -0.5, 1e-300, 1e300, 2.5),
    *(float("nan"), float("inf"), -float("inf")),
)
TEXT = st.sampled_from(ODD_TEXTS) | st.text(max_size=8)
NUMBER = st.sampled_from(ODD_NUMBERS) | st.integers(-9, 99) | st.floats()
SCALAR = st.none() | st.booleans() | NUMBER | TEXT
VALUE = st.recursive(
    SCALAR,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXT, parts, max_size=3),
    max_leaves=6,
)
# Texts of YAML and JSON that are none, or unfold to very much.
BOMB = "a0: &a0 [1, 1]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 10)
)
DOCUMENT = st.text(max_size=60) | st.sampled_from(
    [*ODD_TEXTS, "[" * 5000, "{" * 5000, '{"a":' * 3000, "a: &a [*a]", BOMB, "---\n", "\ufeff"]
)


@st.composite
def edited(draw: st.DrawFn, value: Any) -> Any:
    """Return a value of dicts, lists and scalars with up to two of its parts changed."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        holders = holders_in(value)
        if not holders:
            return draw(VALUE)
        holder = draw(st.sampled_from(holders))
        key = draw(
            st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder)))
        )
        change = draw(st.sampled_from(["replace", "replace", "replace", "near", "drop", "add"]))
        if change == "drop":
            del holder[key]
        elif change == "near":
            holder[key] = draw(st.sampled_from(near(holder[key])))
        elif change == "replace":
            holder[key] = draw(VALUE)
        elif isinstance(holder, dict):
            holder[draw(TEXT)] = draw(VALUE)
        else:
            holder.insert(key, draw(VALUE))
    return value


def holders_in(value: Any) -> list[Any]:
    """Return the dicts and lists in a value, itself included, that are not empty."""
    holders = []
    if isinstance(value, dict | list) and value:
        holders.append(value)
        for part in value.values() if isinstance(value, dict) else value:
            holders += holders_in(part)
    return holders


def near(value: Any) -> list[Any]:
    """Return values that are almost a value: of another type, or a little off."""
    values = [[value], {"a": value}, str(value), None]
    if isinstance(value, str):
        values += [value.upper(), f"{value}x", f" {value}", f"{value}\0", value[:-1]]
    if isinstance(value, int | float):
        values += [value + 1, value - 1, -value, value * 1000, value + 0.5, bool(value)]
    if isinstance(value, list):
        values += [value + value, value * 100, [*value, None], dict(enumerate(map(str, value)))]
    if isinstance(value, dict):
        values += [list(value), list(value.items()), {**value, "": value}]
    return values


@st.composite
def torn(draw: st.DrawFn, content: bytes) -> bytes:
    """Return bytes with up to three places changed: bytes replaced, left out, put in, cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        stop = min(start + draw(st.sampled_from([1, 1, 4, 8, len(data)])), len(data))
        change = draw(st.sampled_from(["replace", "drop", "insert", "repeat"]))
        if change == "replace":
            data[start:stop] = draw(st.binary(min_size=1, max_size=8))
        elif change == "drop":
            del data[start:stop]
        elif change == "insert":
            data[start:start] = draw(st.binary(min_size=1, max_size=8))
        else:
            data[start:start] = data[start:stop] * draw(st.sampled_from([1, 100]))
    return bytes(data)


def as_json(value: Any) -> str:
    """Return a value as JSON; integers that Python does not write become 1e400."""
    try:
        return json.dumps(value)
    except ValueError:
        return json.dumps(value, default=str)
