"""Oracles of the tasks since 2022, in plain Python, from the papers' definitions.

ORACLES: (body, vocabulary) -> the target, or of a sequence its labels, -100 where it is not scored.
They are for rows of the default parameters.
"""

import itertools
from collections import Counter

IGNORED = -100


def shuffled_brackets(body, v):
    """Check a string of k_shuffle_dyck: 64 kinds, depth up to 8, balanced at its end."""
    open_kinds = Counter()
    for token in body:
        kind = token - v.first_regular
        open_kinds[kind % 64] += 1 if kind < 64 else -1
        assert min(open_kinds.values()) >= 0
        assert 0 <= sum(open_kinds.values()) <= 8
    assert not any(open_kinds.values())
    return body


def nested_brackets(body, v):
    """Check a string of k_dyck: a bracket closes the last open one of its kind."""
    stack = []
    for token in body:
        kind = token - v.first_regular
        if kind < 64:
            stack.append(kind)
        else:
            assert stack.pop() == kind - 64
    assert not stack
    return body


def automaton(body, v):
    """Compute the history of rule 110 from the first state of 32 cells."""
    table = {"111": 0, "110": 1, "101": 1, "100": 0, "011": 1, "010": 1, "001": 1, "000": 0}
    ids = {0: v.first_regular, 1: v.first_regular + 1}
    cells = [token - v.first_regular for token in body[:32]]
    labels = [IGNORED] * 33
    assert body[32] == v.special_ids["separator"]
    for _ in range(16):
        text = "".join(map(str, [cells[-1], *cells, cells[0]]))
        cells = [table[text[i : i + 3]] for i in range(32)]
        labels += [*map(ids.get, cells), v.special_ids["separator"]]
    return labels[:-1]


def neural_automaton(body, v):
    """Check frames of 12 x 12 cells of 10 states: equal surroundings have one next state."""
    assert len(body) == 27 * 37 - 1
    separator = v.special_ids["separator"]
    ended = [*body, separator]
    labels, frames = [], []
    for step in range(27):
        *patches, end = ended[37 * step : 37 * step + 37]
        assert end == separator
        labels += [IGNORED] * 37 if step == 0 else [*patches, IGNORED]
        cells = {}
        for place, token in enumerate(patches):
            for k, digit in enumerate(f"{token - v.first_regular:04}"[::-1]):
                cells[2 * (place // 6) + k // 2, 2 * (place % 6) + k % 2] = digit
        frames.append(cells)

    rule = {}
    for now, after in itertools.pairwise(frames):
        for row, column in now:
            around = [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            seen = "".join(now[i % 12, j % 12] for i, j in around)
            assert rule.setdefault(seen, after[row, column]) == after[row, column]
    return labels[:-1]


def network_string(body, v):
    assert len(body) == 256
    assert all(0 <= token - v.first_regular < 128 for token in body)
    return body


def copied(body, v):
    half = body[: len(body) // 2]
    assert body == [*half, v.special_ids["argument_divider"], *half]
    assert 10 <= len(half) <= 510
    return body


def value_of_key(body, v):
    pairs = dict(zip(body[:-1:2], body[1:-1:2], strict=True))
    assert len(pairs) == len(body) // 2
    return [pairs[body[-1]]]


def recalled(body, v):
    """Return the values of the 8 keys where they are asked for, once each, in 128 ids."""
    pairs = dict(zip(body[:16:2], body[1:16:2], strict=True))
    assert len(pairs) == len(set(pairs.values())) == 8
    assert len(body) == 128
    labels = [IGNORED] * 16
    for before, token in itertools.pairwise(body[15:]):
        labels.append(token if before in pairs and len(labels) > 16 else IGNORED)
    assert sum(token in pairs for token in body[16:]) == 8
    assert all(label == pairs[body[i - 1]] for i, label in enumerate(labels) if label != IGNORED)
    return labels


def repeated(body, v):
    first = body.index(v.special_ids["open"])
    items = body[first + 1 : body.index(v.special_ids["close"])]
    again = len(body) - len(items)
    assert body[again - 1] == v.special_ids["open"]
    assert 8 <= len(items) <= 32
    return [IGNORED] * again + items


def clause(body, v):
    """Check a sentence of mp_struct: brackets of phrases, and links that meet their like."""
    signs = [token - v.first_regular for token in body]
    depth = 0
    for i, sign in enumerate(signs):
        depth += (sign == 0) - (sign == 5)
        assert depth > 0 or i == len(signs) - 1
    assert depth == 0

    # Two pairs, one agreement of either kind, one movement or none; a head of each kind.
    counts = Counter(signs)
    assert [counts[4], counts[9]] == [2, 2]
    assert sorted([counts[2], counts[3]]) == [0, 1]
    assert [counts[7], counts[8], counts[6]] == [counts[2], counts[3], counts[1]]
    assert counts[1] <= 1
    assert [sign for sign in signs if sign in (10, 11, 12)] == [10, 11, 12]
    assert len(body) == (41 if counts[1] else 37)
    return body


def run_stack(body, v):
    stack = []
    for token in body:
        if token == v.first_regular:
            stack.pop()
        else:
            assert token not in stack
            stack.append(token)
    assert len(body) == 64
    return stack[::-1]


ORACLES = {
    "k_shuffle_dyck": shuffled_brackets,
    "k_dyck": nested_brackets,
    "eca": automaton,
    "nca": neural_automaton,
    "linear_rnn": network_string,
    "copy": copied,
    "needle": value_of_key,
    "mqar": recalled,
    "verbatim": repeated,
    "stack": run_stack,
    "mp_struct": clause,
    "chomsky": lambda body, v: [v.first_regular + sum(t - v.first_regular for t in body) % 2],
    "zipf": lambda body, v: body,
}
