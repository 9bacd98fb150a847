"""Graphs whose nodes are words: `depo` steps along a cycle, `brevo` sorts what a node depends on.

Both are tasks of "Physics of Language Models" (docs/papers.md, "Tasks since 2022"). What words are,
and how many nodes a graph has, is in graph_words.py.
"""

import graphlib
import itertools
import math

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.graph_words import (
    LETTERS,
    MAX_NODES,
    MIN_NODES,
    Word,
    check_words,
    decode_words,
    draw_words,
    ends_word,
    node_table,
    read_edges,
    read_words,
    write_word,
)
from hf_synpre.tasks.id_sets import find_slot, new_table
from hf_synpre.tasks.kernels import ARGUMENT_DIVIDER, FIRST_REGULAR, IGNORED
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, between, kernel, shuffle
from hf_synpre.tasks.samplers import NO_TARGET, draw_by_weight
from hf_synpre.vocabulary import Vocabulary

PAPER = "Allen-Zhu 2025, arXiv 2512.17351"

# Where compiled code finds the parameters of depo in `p`, and the tables of both.
MIN_HOPS, MAX_HOPS, QUERIES, CYCLE_TABLE = range(MAX_NODES + 1, MAX_NODES + 5)
GRAPH_TABLE = MAX_NODES + 1
# A node of brevo has so many parents at the most, and so many children.
MOST_EDGES = 4


# --- depo -----------------------------------------------------------------------------------------


def cycle_and_questions(state, x, y, p):
    """Draw the edges of a random cycle in random order, then questions with their answers.

    A question: how many steps, U{min_hops..max_hops}, as a token; a node that was not asked yet.
    """
    n = p[MIN_NODES] + draw_by_weight(state, p[CYCLE_TABLE:])
    words = draw_words(state, n, p)
    nodes, scratch = y[:n], y[n:]
    for i in range(n):
        nodes[i] = i

    # The edges. Words are in random order, so node i + 1 may follow node i.
    shuffle(state, nodes, scratch)
    end = 0
    for node in nodes:
        end = write_word(words, node, x, end)
        end = write_word(words, (node + 1) % n, x, end)

    shuffle(state, nodes, scratch)
    for node in nodes[: min(n, p[QUERIES])]:
        hops = between(state, p[MIN_HOPS], p[MAX_HOPS])
        x[end] = p[FIRST_REGULAR] + 2 * p[LETTERS] + hops - 1
        end = write_word(words, node, x, end + 1)
        x[end] = p[ARGUMENT_DIVIDER]
        end = write_word(words, (node + hops) % n, x, end + 1)
    return end, NO_TARGET


def cycle_bounds(parameters: Parameters) -> tuple[int, int]:
    """Return the longest row of `depo`, twice: as ids and as labels."""
    nodes, longest = parameters["max_nodes"], parameters["max_word_length"]
    n = 2 * nodes * longest + min(nodes, parameters["queries"]) * (2 + 2 * longest)
    return n, n


def check_depo(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of `depo`, or None."""
    low, high = parameters["min_hops"], parameters["max_hops"]
    if not 1 <= low <= high:
        return f"min_hops is {low} and max_hops {high}; give 1 <= min_hops <= max_hops."
    if parameters["queries"] < 1:
        return f"queries is {parameters['queries']}; give an integer >= 1."
    return check_words(parameters)


def read_cycle(edges: list[tuple[Word, Word]]) -> list[Word]:
    """Return the nodes of a cycle in order. Raises ValueError where edges are no single cycle."""
    follows = dict(edges)
    cycle: list[Word] = []
    node = edges[0][0] if edges else None
    while node is not None and node not in cycle:
        cycle.append(node)
        node = follows.get(node)
    if not len(cycle) == len(follows) == len(edges) or node != cycle[0]:
        raise ValueError("its edges are no cycle through all of its nodes.")
    return cycle


def check_depo_row(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row of `depo`, or None."""
    divider = vocabulary.special_ids["argument_divider"]
    one_hop = vocabulary.first_regular + 2 * parameters["letters"]
    is_hop = (body >= one_hop) & (body < one_hop + parameters["max_hops"])

    # First the edges, then the questions: hops, node, divider, answer.
    edge_tokens, *questions = np.split(body, np.flatnonzero(is_hop))
    try:
        cycle = read_cycle(read_edges(edge_tokens, vocabulary, parameters))
        for question in questions:
            hops = int(question[0]) - one_hop + 1
            parts = np.split(question[1:], np.flatnonzero(question[1:] == divider))
            if len(parts) != 2:
                return f"a question has {len(parts) - 1} argument dividers ({divider}), not one."

            asked = read_words(parts[0], vocabulary, parameters)
            answer = read_words(parts[1][1:], vocabulary, parameters)
            if len(asked) != 1 or asked[0] not in cycle:
                return "a question asks for no node of the cycle."
            if answer != [cycle[(cycle.index(asked[0]) + hops) % len(cycle)]]:
                return f"an answer is not the node {hops} steps on."
    except ValueError as error:
        return str(error)
    return None


@register_task(
    cycle_and_questions,
    paper=PAPER,
    bounds=cycle_bounds,
    check_parameters=check_depo,
    lowest_max_length=None,
    regular_tokens=lambda parameters: 2 * parameters["letters"] + parameters["max_hops"],
    vocabulary_table=node_table,
    row_check=check_depo_row,
    decode=decode_words,
    named=False,
    sequence=True,
    letters=50,
    min_word_length=1,
    max_word_length=2,
    min_nodes=3,
    max_nodes=225,
    min_hops=1,
    max_hops=8,
    queries=10,
)
def depo(x, y, p):
    """Return the nodes that are so many steps further along a cycle (reasoning depth).
    A row has the edges of a cycle of n words in random order, two words each; then up to `queries`
    questions, each of another node: a number of steps, U{min_hops..max_hops}, the node, a divider
    and the answer, which is scored. In training n has the weight 1 / (n + sqrt(max_nodes)) from
    min_nodes on; the paper's tests have min_nodes=max_nodes. Depo1 is the default and 300 or 375
    nodes; Depo2 has words of 5 to 7 tokens, letters=3, 16 hops and 75, 100 or 125 nodes.

    input   b c  c a  a b  2: b | a
    target  .....................a
    """
    is_answer = False
    for i in range(len(x)):
        y[i] = x[i] if is_answer else IGNORED
        is_answer &= not ends_word(x[i], p)
        is_answer |= x[i] == p[ARGUMENT_DIVIDER]
    return len(x)


# --- brevo ----------------------------------------------------------------------------------------


@kernel
def draw_graph(state, n):
    """Return a random graph without cycles: the parents of each node, and its children.

    U{1..(n - 1) // 4 + 1} first nodes have no parents. Each later one takes U{1..4} of the nodes
    before it that have less than 4 children, uniformly, or as many as there are.

    Returns:
        (parents, how many each node has, children, how many): int32[n, 4] and int64[n], twice.
    """
    parents, children = np.empty((n, MOST_EDGES), np.int32), np.empty((n, MOST_EDGES), np.int32)
    parent_counts, child_counts = np.zeros(n, np.int64), np.zeros(n, np.int64)
    leaves = between(state, 1, (n - 1) // MOST_EDGES + 1)

    # The nodes that may still get children are free[:count].
    free, count = np.arange(n), leaves
    for node in range(leaves, n):
        drawn = between(state, 1, min(count, MOST_EDGES))
        for k in range(drawn):
            other = k + below(state, count - k)
            free[k], free[other] = free[other], free[k]
            parent = free[k]
            parents[node, k] = parent
            children[parent, child_counts[parent]] = node
            child_counts[parent] += 1
        parent_counts[node] = drawn

        # Nodes that are full leave, from the last one on, and the new node comes.
        for k in range(drawn - 1, -1, -1):
            if child_counts[free[k]] == MOST_EDGES:
                count -= 1
                free[k] = free[count]
        free[count] = node
        count += 1
    return parents, parent_counts, children, child_counts


def graph_and_order(state, x, y, p):
    """Draw the edges of a graph in random order and its last node; and an order of its ancestors.

    The order is drawn from its start: each next node is uniform among the ancestors, the asked one
    included, whose parents stand before it.
    """
    n = p[MIN_NODES] + draw_by_weight(state, p[GRAPH_TABLE:])
    words = draw_words(state, n, p)
    parents, parent_counts, children, child_counts = draw_graph(state, n)

    # The edges, as 4 * node + number of the parent.
    edges, m = np.empty(MOST_EDGES * n, np.int64), 0
    for node in range(n):
        for k in range(parent_counts[node]):
            edges[m] = MOST_EDGES * node + k
            m += 1
    shuffle(state, edges[:m], np.empty(m, np.int64))
    end = 0
    for edge in edges[:m]:
        node = edge // MOST_EDGES
        end = write_word(words, parents[node, edge % MOST_EDGES], x, end)
        end = write_word(words, node, x, end)
    x[end] = p[ARGUMENT_DIVIDER]
    end = write_word(words, n - 1, x, end + 1)

    # What the last node depends on: parents have smaller numbers. What may come is ready[:count].
    is_needed = np.zeros(n, np.bool_)
    is_needed[n - 1] = True
    ready, count = np.empty(n, np.int64), 0
    for node in range(n - 1, -1, -1):
        if is_needed[node]:
            for k in range(parent_counts[node]):
                is_needed[parents[node, k]] = True
            if parent_counts[node] == 0:
                ready[count] = node
                count += 1

    target_end = 0
    while count > 0:
        chosen = below(state, count)
        node = ready[chosen]
        count -= 1
        ready[chosen] = ready[count]
        target_end = write_word(words, node, y, target_end)
        for k in range(child_counts[node]):
            child = children[node, k]
            parent_counts[child] -= 1
            if is_needed[child] and parent_counts[child] == 0:
                ready[count] = child
                count += 1
    return end, target_end


@kernel
def number_words(x, p):
    """Return the words of a row: the node of each, where it starts, which one is asked.

    Equal words are one node, and the last result is how many nodes there are. The word behind the
    divider is the asked one.
    """
    known = new_table(len(x))
    numbers = np.empty(len(known), np.int64)
    nodes, starts = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    words = count = asked = start = 0

    # The digits of a word so far are a number, as in `draw_words`.
    digits = 1
    for i in range(len(x)):
        if x[i] == p[ARGUMENT_DIVIDER]:
            asked, start = words, i + 1
            continue

        # At the end of a word: is it known?
        digits = digits * p[LETTERS] + (x[i] - p[FIRST_REGULAR]) % p[LETTERS]
        if ends_word(x[i], p):
            slot = find_slot(known, digits)
            if known[slot] == 0:
                known[slot], numbers[slot] = digits + 1, count
                count += 1
            nodes[words], starts[words] = numbers[slot], start
            words, start, digits = words + 1, i + 1, 1
    return nodes[:words], starts[:words], asked, count


def order_surprisal(x, out, p):
    """Write the surprisal of each token of an order, which stands behind the graph.

    The next node is uniform among those that may come: of these words those go on that have the
    token, so its probability is their share.
    """
    nodes, starts, asked, count = number_words(x, p)
    word_at = np.empty(count, np.int64)  # where each node has its word
    for word in range(len(nodes)):
        word_at[nodes[word]] = starts[word]

    # The ancestors of the asked node, and of how many parents each node has.
    is_needed, waits = np.zeros(count, np.bool_), np.zeros(count, np.int64)
    is_needed[nodes[asked]] = is_growing = True
    while is_growing:
        is_growing = False
        for edge in range(0, asked, 2):
            if is_needed[nodes[edge + 1]] and not is_needed[nodes[edge]]:
                is_needed[nodes[edge]] = is_growing = True
    for edge in range(0, asked, 2):
        waits[nodes[edge + 1]] += 1

    for i in range(len(out)):
        out[i] = 0.0
    candidates = np.empty(count, np.int64)
    for word in range(asked + 1, len(nodes)):
        n = 0
        for node in range(count):
            if is_needed[node] and waits[node] == 0:
                candidates[n] = node
                n += 1

        # Token by token, those whose words begin like this one.
        i, is_ended = starts[word], False
        while not is_ended:
            kept = 0
            for c in range(n):
                node = candidates[c]
                if x[word_at[node] + i - starts[word]] == x[i]:
                    candidates[kept] = node
                    kept += 1
            out[i] = math.log(n / kept)
            is_ended = ends_word(x[i], p)
            n, i = kept, i + 1

        is_needed[nodes[word]] = False
        for edge in range(0, asked, 2):
            if nodes[edge] == nodes[word]:
                waits[nodes[edge + 1]] -= 1


# The parents of each ancestor of a node, the node itself included.
Ancestors = dict[Word, list[Word]]


def read_graph(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> Ancestors:
    """Return what the asked node of a row depends on.

    Raises ValueError where the row is malformed.
    """
    divider = vocabulary.special_ids["argument_divider"]
    places = np.flatnonzero(body == divider)
    if len(places) != 1:
        raise ValueError(f"{len(places)} argument dividers ({divider}); give exactly one.")
    edges = read_edges(body[: places[0]], vocabulary, parameters)
    asked = read_words(body[places[0] + 1 :], vocabulary, parameters)
    if len(asked) != 1 or asked[0] not in itertools.chain(*edges):
        raise ValueError("it asks for no node of its edges.")

    ancestors: Ancestors = {}
    waiting = asked
    while waiting:
        node = waiting.pop()
        if node not in ancestors:
            ancestors[node] = [parent for parent, child in edges if child == node]
            waiting += ancestors[node]
    return ancestors


def check_graph(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row of `brevo`, or None."""
    try:
        graphlib.TopologicalSorter(read_graph(body, vocabulary, parameters)).prepare()
    except graphlib.CycleError:
        return "what its node depends on has a cycle."
    except ValueError as error:
        return str(error)
    return None


def is_order(
    body: np.ndarray, answer: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> bool:
    """Return whether an answer has the ancestors, each once and behind all of its parents."""
    ancestors = read_graph(body, vocabulary, parameters)
    try:
        order = read_words(answer, vocabulary, parameters)
    except ValueError:
        return False
    if len(order) != len(ancestors) or set(order) != set(ancestors):
        return False
    place = {node: number for number, node in enumerate(order)}
    return all(
        place[parent] < place[node] for node, parents in ancestors.items() for parent in parents
    )


def graph_bounds(parameters: Parameters) -> tuple[int, int]:
    """Return the longest input and target of `brevo`."""
    nodes, longest = parameters["max_nodes"], parameters["max_word_length"]
    return (2 * MOST_EDGES * (nodes - 1) + 1) * longest + 1, nodes * longest


@register_task(
    graph_and_order,
    paper=PAPER,
    bounds=graph_bounds,
    check_parameters=check_words,
    lowest_max_length=None,
    regular_tokens=lambda parameters: 2 * parameters["letters"],
    vocabulary_table=node_table,
    row_check=check_graph,
    score_function=is_order,
    decode=decode_words,
    named=False,
    in_python=True,
    surprisal=order_surprisal,
    letters=70,
    min_word_length=1,
    max_word_length=1,
    min_nodes=3,
    max_nodes=70,
)
def brevo(body, vocabulary, parameters):
    """Return what a node depends on, sorted such that parents come first (reasoning breadth).
    The input has the edges of a graph without cycles in random order, two words each, parent and
    child; a divider; and a node. The target is the node with all of its ancestors, each behind its
    parents. Every such order is right. That of a row is drawn from its start: each next node is
    uniform among those that may come, from which follows the lowest loss. In training the number
    of nodes n has the weight 1 / (n + sqrt(max_nodes)) from min_nodes on; the paper's tests have
    min_nodes=max_nodes. Brevo1 is the default and 90 or 110 nodes, with as many letters; Brevo2 has
    words of 2 to 4 tokens, letters=4 and 30, 40 or 50 nodes.

    input   a c  b c  a d  c e | c
    target  b a c
    """
    ancestors = read_graph(body, vocabulary, parameters)
    return list(itertools.chain(*graphlib.TopologicalSorter(ancestors).static_order()))
