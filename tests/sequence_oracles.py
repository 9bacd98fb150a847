"""Oracles of the tasks since 2022, in plain Python, from the papers' definitions.

ORACLES: (body, vocabulary) -> the target, or of a sequence its labels, -100 where it is not scored.
ACCEPTS: (body, target, vocabulary) -> whether the target is right, for tasks with several.
They are for rows of the default parameters.
"""

import functools
import itertools
import operator
from collections import Counter

from hf_synpre.tasks import grammars

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


def passed_string(body, v):
    assert len(body) == 256
    assert all(0 <= token - v.first_regular < 32 for token in body)
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


def run_program(body, v):
    """Run Brainfuck: 16 cells of 64 values, 1000 steps, 64 values."""
    program = "".join("><+-[].!"[token - v.first_regular] for token in body)
    partner, opened = {}, []
    for i, sign in enumerate(program):
        if sign == "[":
            opened.append(i)
        elif sign == "]" and opened:
            partner[i] = opened.pop()
            partner[partner[i]] = i
    tape, cell, at, printed = [0] * 16, 0, 0, []
    for _ in range(1000):
        if at >= len(program) or program[at] == "!" or len(printed) == 64:
            break
        sign = program[at]
        cell = (cell + {">": 1, "<": -1}.get(sign, 0)) % 16
        tape[cell] = (tape[cell] + {"+": 1, "-": -1}.get(sign, 0)) % 64
        if sign == ".":
            printed.append(v.first_regular + 8 + tape[cell])
        elif sign == "[" and not tape[cell]:
            at = partner.get(at, len(program))
        elif sign == "]" and tape[cell]:
            at = partner.get(at, at)
        at += 1
    assert printed
    return printed


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


def walked(body, v):
    """Walk along the cycle of depo: words of 1 or 2 of 50 symbols, 1 to 8 steps."""
    symbols = [token - v.first_regular for token in body]
    at = 0

    def word():
        """Read the next word."""
        nonlocal at
        start = at
        at += 1 if symbols[at] >= 50 else 2
        assert max(symbols[start : at - 1], default=0) < 50 <= symbols[at - 1] < 100
        return body[start:at]

    # The cycle.
    follows = {}
    while symbols[at] < 100:
        node = tuple(word())
        assert node not in follows
        follows[node] = tuple(word())
    assert 3 <= len(follows) <= 225
    nodes = list(itertools.islice(walk(follows, next(iter(follows))), len(follows) + 1))
    assert nodes[0] == nodes[-1]
    assert len(set(nodes)) == len(follows)

    # The questions.
    labels, asked = [IGNORED] * at, set()
    while at < len(body):
        hops, start = symbols[at] - 99, at
        assert 1 <= hops <= 8
        at += 1
        node = tuple(word())
        assert node not in asked
        asked.add(node)
        answer = next(itertools.islice(walk(follows, node), hops, None))
        assert body[at] == v.special_ids["argument_divider"]
        at += 1
        labels += [IGNORED] * (at - start) + list(answer)
        assert tuple(word()) == answer
    assert len(asked) == min(10, len(follows))
    return labels


def walk(follows, node):
    """Yield a node and those that follow it, without end."""
    while True:
        yield node
        node = follows[node]


def is_order(body, target, v):
    """Check an order of brevo: one token a node, up to 70 nodes, 4 parents and 4 children."""
    *edge_tokens, divider, asked = body
    assert divider == v.special_ids["argument_divider"]
    edges = list(zip(edge_tokens[::2], edge_tokens[1::2], strict=True))
    assert len(set(edges)) == len(edges)
    parents, children = zip(*edges, strict=True)
    assert max(*Counter(parents).values(), *Counter(children).values()) <= 4
    assert 2 <= len({*parents, *children}) <= 70
    assert asked not in parents

    ancestors = {asked}
    for _ in range(70):
        ancestors |= {parent for parent, child in edges if child in ancestors}
    if sorted(target) != sorted(ancestors):
        return False
    return all(
        target.index(parent) < target.index(child) for parent, child in edges if child in ancestors
    )


def evaluated(body, v):
    """Evaluate a prefix expression of mano, with up to 10 operations modulo 23."""
    operations = {23: operator.add, 24: operator.sub, 25: operator.mul}
    number, *symbols = [token - v.first_regular for token in body]
    assert 1 <= number - 25 == sum(symbol in operations for symbol in symbols) <= 10
    waiting = []  # operators, each with the operands that are there
    for position, symbol in enumerate(symbols):
        if symbol in operations:
            waiting.append([symbol])
            continue
        value = symbol
        assert 0 <= value < 23
        while waiting and len(waiting[-1]) == 2:
            sign, left = waiting.pop()
            value = operations[sign](left, value) % 23
        if waiting:
            waiting[-1].append(value)
        else:
            assert position == len(symbols) - 1
            return [v.first_regular + value]
    raise AssertionError("an operand is missing")


@functools.cache
def rules_of(levels=7, grammar_seed=0, min_rules=3, max_rules=4):
    """Return the rules of a grammar: of each level, of each symbol, tuples of symbols."""
    table = grammars.random_grammar(levels, grammar_seed, min_rules, max_rules)
    rules = []
    for level in table.reshape(levels - 1, 3, -1).tolist():
        rules.append([])
        for count, *cells in level:
            parts = [cells[4 * k : 4 * k + 4] for k in range(count)]
            rules[-1].append([tuple(symbols[:length]) for length, *symbols in parts])
            assert min_rules <= count <= max_rules
            assert {length for length, *_ in parts} <= {2, 3}
        drawn = list(itertools.chain(*rules[-1]))
        assert len(set(drawn)) == len(drawn)
    return rules


def derived(body, v):
    """Check that the default grammar derives a sentence, from the root down."""
    rules = rules_of()
    terminals = [token - v.first_regular for token in body]

    @functools.cache
    def ends(level, symbol, start):
        """Return where what a symbol derives from a start may end."""
        if level == len(rules):
            return {start + 1} if terminals[start : start + 1] == [symbol] else set()
        found = set()
        for rule in rules[level][symbol]:
            places = {start}
            for part in rule:
                places = set().union(*(ends(level + 1, part, place) for place in places))
            found |= places
        return found

    assert len(body) in ends(0, 0, 0)
    return body


ORACLES = {
    "k_shuffle_dyck": shuffled_brackets,
    "k_dyck": nested_brackets,
    "eca": automaton,
    "nca": neural_automaton,
    "linear_rnn": network_string,
    "random_lstm": passed_string,
    "brainfuck": run_program,
    "copy": copied,
    "needle": value_of_key,
    "mqar": recalled,
    "verbatim": repeated,
    "stack": run_stack,
    "mp_struct": clause,
    "chomsky": lambda body, v: [v.first_regular + sum(t - v.first_regular for t in body) % 2],
    "zipf": lambda body, v: body,
    "depo": walked,
    "mano": evaluated,
    "lano": derived,
}
ACCEPTS = {"brevo": is_order}
