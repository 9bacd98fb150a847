"""depo, brevo, mano and lano: what their rows are drawn from, which answers are right, errors.

Run: pytest tests/tasks/test_graphs_and_grammars.py
"""

import functools
import itertools
import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import sequence_oracles
from task_rows import chi_square, pairs, same_distribution

from hf_synpre import UsageError
from hf_synpre.tasks import get_task

FIRST, DIVIDER = 2, 61  # of a plain vocabulary of 64 ids
SEEDS = (0, 1, 2)
ONE_TOKEN = {"letters": 12, "min_word_length": 1, "max_word_length": 1, "vocabulary": 64}


def node_weights(low, high):
    weights = 1 / (np.arange(low, high + 1) + math.sqrt(high))
    return weights / weights.sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_depo_has_the_law_that_it_states(seed):
    settings = ONE_TOKEN | {"max_nodes": 9, "queries": 2, "max_hops": 5}
    rows = [row for row, _ in pairs("depo", stop=6000, seed=seed, **settings)]

    # Nodes; steps, which are the tokens behind those of words; the asked node among the others.
    nodes = [(len(row) - 8) // 2 for row in rows]
    expected = node_weights(3, 9) * len(rows)
    chi_square(np.bincount(nodes, minlength=10)[3:], expected)
    hops = [token - FIRST - 23 for row in rows for token in (row[-8], row[-4])]
    chi_square(np.bincount(hops, minlength=6)[1:], np.full(5, len(hops) / 5))
    asked = [row[: 2 * n : 2].index(row[-7]) for row, n in zip(rows, nodes, strict=True) if n == 3]
    chi_square(np.bincount(asked), np.full(3, len(asked) / 3))

    # Of 3 edges in random order a second one follows the first in half of the rows; a word may be
    # any of 12.
    follows = [row[1] == row[2] for row, n in zip(rows, nodes, strict=True) if n == 3]
    chi_square(np.bincount(follows), np.full(2, len(follows) / 2))
    chi_square(np.bincount([row[0] for row in rows])[14:], np.full(12, len(rows) / 12))


def test_words_are_of_uniform_lengths_and_tokens():
    words = {"letters": 3, "min_word_length": 3, "max_word_length": 5, "vocabulary": 64}
    rows = [row for row, _ in pairs("depo", stop=4000, max_nodes=3, **words)]
    lengths, tokens = [], []
    for row in rows:
        symbols = np.array(row) - FIRST
        length = int(np.argmax(symbols >= 3)) + 1  # of the first word
        lengths.append(length)
        tokens += (symbols[:length] % 3).tolist()
    chi_square(np.bincount(lengths)[3:], np.full(3, len(rows) / 3))
    chi_square(np.bincount(tokens), np.full(3, len(tokens) / 3))


def drawn_graph(rng, n):
    """Return (edges, ancestors of the last node) of a graph as brevo's are defined."""
    parents, children = {}, Counter()
    for node in range(rng.randint(1, (n - 1) // 4 + 1), n):
        free = [other for other in range(node) if children[other] < 4]
        parents[node] = rng.sample(free, rng.randint(1, min(4, len(free))))
        children.update(parents[node])
    ancestors = {n - 1}
    for node in range(n - 1, -1, -1):
        if node in ancestors:
            ancestors |= set(parents.get(node, []))
    return sum(map(len, parents.values())), len(ancestors)


@pytest.mark.parametrize("seed", SEEDS)
def test_brevo_has_the_graphs_that_it_states(seed):
    settings = ONE_TOKEN | {"min_nodes": 11, "max_nodes": 11}
    drawn = [
        ((len(row) - 2) // 2, len(target))
        for row, target in pairs("brevo", stop=8000, seed=seed, **settings)
    ]
    rng = random.Random(seed)
    expected = [drawn_graph(rng, 11) for _ in range(8000)]
    for column in range(2):
        same_distribution(np.array(expected)[:, column], np.array(drawn)[:, column], 12)


@functools.cache
def orders(edges):
    """Return all orders of the nodes of some edges that put parents first."""
    nodes = sorted(set(itertools.chain(*edges)))
    return [
        order
        for order in itertools.permutations(nodes)
        if all(order.index(parent) < order.index(child) for parent, child in edges)
    ]


def small_graphs(most=6, **settings):
    """Yield rows of brevo of up to `most` ancestors: the row, its target, the edges among them."""
    for row, target in pairs("brevo", **settings):
        edges = list(zip(row[:-2:2], row[1:-2:2], strict=True))
        if 3 <= len(target) <= most:
            yield row, target, tuple(edge for edge in edges if edge[1] in target)


def test_brevo_accepts_every_topological_order_and_no_other():
    settings = ONE_TOKEN | {"max_nodes": 7, "stop": 120}
    score = functools.partial(get_task("brevo").score, **ONE_TOKEN, max_nodes=7)
    several = 0
    for row, target, edges in small_graphs(most=5, **settings):
        right = set(orders(edges))
        several += len(right) > 1
        for order in itertools.permutations(target):
            assert score(row, order) == (order in right)
        assert not score(row, target[1:])
        assert not score(row, [*target, target[-1]])
        assert not score(row, [*target[:-1], FIRST])
    assert several > 8


def test_the_order_of_a_row_of_brevo_is_drawn_with_its_probability():
    """The mean of 1 / p over drawn orders is the number of orders; each has its own share."""
    settings = ONE_TOKEN | {"max_nodes": 7}
    surprisals = functools.partial(get_task("brevo").surprisals, **settings)
    deviations = []
    for row, target, edges in small_graphs(stop=3000, **settings):
        deviations.append(math.exp(surprisals(row, target).sum()) - len(orders(edges)))
    error = np.std(deviations) / math.sqrt(len(deviations))
    assert abs(np.mean(deviations)) < 4 * error
    assert error > 0

    # x -> z, y -> z: both orders are as likely. With a word that goes on the second token is sure.
    words = {"letters": 4, "min_word_length": 1, "max_word_length": 2, "vocabulary": 64}
    x, y, z = [3, 7], [3, 8], [9]
    graph = [*x, *z, *y, *z, DIVIDER, *z]
    surprisals = get_task("brevo").surprisals(graph, [*y, *x, *z], max_nodes=7, **words)
    assert surprisals == pytest.approx([0, math.log(2), 0, 0, 0])
    graph = [6, *z, *y, *z, DIVIDER, *z]
    surprisals = get_task("brevo").surprisals(graph, [*y, 6, *z], max_nodes=7, **words)
    assert surprisals == pytest.approx([math.log(2), 0, 0, 0])


def test_the_lowest_loss_of_brevo_counts_the_end_of_its_targets():
    settings = ONE_TOKEN | {"max_nodes": 7}
    surprisals = functools.partial(get_task("brevo").surprisals, **settings)
    rows = pairs("brevo", stop=2000, split="validation", **settings)
    total = sum(surprisals(row, target).sum() for row, target in rows)
    tokens = sum(len(target) + 1 for _, target in rows)
    loss = get_task("brevo").bayes_loss(**settings)
    assert loss.value == pytest.approx(total / tokens)
    assert 0 < loss.standard_error < loss.value / 10


@pytest.mark.parametrize("seed", SEEDS)
def test_mano_has_the_law_that_it_states(seed):
    rows = [row for row, _ in pairs("mano", stop=6000, seed=seed, max_operations=4, vocabulary=64)]
    symbols = [np.array(row) - FIRST for row in rows]
    operations = [int(row[0]) - 25 for row in symbols]
    chi_square(np.bincount(operations)[1:], np.full(4, len(rows) / 4))
    tokens = np.concatenate([row[1:] for row in symbols])
    chi_square(np.bincount(tokens[tokens >= 23] - 23), np.full(3, (tokens >= 23).sum() / 3))
    chi_square(np.bincount(tokens[tokens < 23]), np.full(23, (tokens < 23).sum() / 23))

    # Of 4 operations the first operand has U{0..3}: as many operators up to where it ends.
    firsts = []
    for row in symbols:
        if row[0] == 29:
            missing = 1 + np.cumsum(np.where(row[2:] >= 23, 1, -1))
            firsts.append(int((row[2 : 3 + int(np.argmax(missing == 0))] >= 23).sum()))
    chi_square(np.bincount(firsts), np.full(4, len(firsts) / 4))


def sentences(levels, **drawn):
    """Return the sentences of a grammar with their probabilities."""
    rules = sequence_oracles.rules_of(levels, **drawn)

    @functools.cache
    def derived(level, symbol):
        if level == levels - 1:
            return {(symbol,): 1.0}
        shares = defaultdict(float)
        for rule in rules[level][symbol]:
            for parts in itertools.product(*(derived(level + 1, part).items() for part in rule)):
                string = sum((part for part, _ in parts), ())
                shares[string] += math.prod(p for _, p in parts) / len(rules[level][symbol])
        return shares

    return derived(0, 0)


@pytest.mark.parametrize("drawn", [{}, {"grammar_seed": 5}, {"min_rules": 2, "max_rules": 12}])
def test_surprisals_of_lano_are_those_of_all_sentences(drawn):
    rules = {"min_rules": 3, "max_rules": 4} | drawn
    shares = sentences(3, **rules)
    assert sum(shares.values()) == pytest.approx(1)
    begins = defaultdict(float)
    for string, share in shares.items():
        for end in range(len(string) + 1):
            begins[string[:end]] += share

    settings = {"levels": 3, "vocabulary": 64, **rules}
    for string in random.Random(0).sample(sorted(shares), 60):
        row = [token + FIRST for token in string]
        surprisals = get_task("lano").surprisals(row, **settings)
        for i, surprisal in enumerate(surprisals):
            goes_on = begins[string[:i]] - shares.get(string[:i], 0)
            assert surprisal == pytest.approx(math.log(goes_on / begins[string[: i + 1]]))


@pytest.mark.parametrize("seed", SEEDS)
def test_sentences_of_lano_have_their_probabilities(seed):
    settings = {"levels": 3, "grammar_seed": 1, "min_rules": 2, "max_rules": 2}
    shares = sentences(**settings)
    rows = pairs("lano", stop=20_000, seed=seed, vocabulary=64, **settings)
    counts = Counter(tuple(token - FIRST for token in row) for row, _ in rows)
    assert counts.keys() <= shares.keys()
    expected = {string: share * len(rows) for string, share in shares.items()}
    frequent = [string for string in expected if expected[string] >= 10]
    rare = len(rows) - sum(expected[string] for string in frequent)
    chi_square(
        [*(counts[string] for string in frequent), len(rows) - sum(map(counts.get, frequent))]
        if rare
        else [counts[string] for string in frequent],
        [*(expected[string] for string in frequent), rare]
        if rare
        else [expected[string] for string in frequent],
    )


def test_grammars_differ_by_their_number():
    drawn = [str(sequence_oracles.rules_of(grammar_seed=number)) for number in range(20)]
    assert len(set(drawn)) == 20


DEPO = ONE_TOKEN | {"max_nodes": 5}
CYCLE = [14, 15, 15, 16, 16, 14]
GRAPH = [14, 15, 15, 16, DIVIDER, 16]
PROBLEMS = [
    ("depo", {"min_nodes": 2}, "min_nodes is 2 and max_nodes 225; give 3 <= min_nodes <= max_"),
    ("depo", {"min_hops": 9}, "min_hops is 9 and max_hops 8; give 1 <= min_hops <= max_hops."),
    ("depo", {"queries": 0}, "queries is 0; give an integer >= 1."),
    ("depo", {"min_word_length": 3}, "min_word_length is 3 and max_word_length 2; give 1 <="),
    ("brevo", {"letters": 1}, "letters is 1; give an integer >= 2."),
    ("brevo", {"max_nodes": 90}, "70 letters make 70 words of 1 to 1 tokens; give letters and len"),
    ("brevo", {"max_word_length": 9}, "at least max_nodes, which is 70, and at most 1073741824."),
    ("mano", {"min_operations": 0}, "min_operations is 0 and max_operations 10; give 1 <= min_"),
    ("mano", {"modulus": 1}, "modulus is 1; give 2 to 32768."),
    ("lano", {"levels": 9}, "levels is 9; give 2 to 8."),
    ("lano", {"min_rules": 5}, "min_rules is 5 and max_rules 4; give 1 <= min_rules <= max_rules"),
]


@pytest.mark.parametrize(("task", "parameters", "message"), PROBLEMS)
def test_impossible_parameters_are_refused(task, parameters, message):
    with pytest.raises(UsageError) as caught:
        get_task(task).resolve(parameters)
    assert message in str(caught.value)


ROWS = [
    ("depo", DEPO, [*CYCLE[:4]], "its edges are no cycle through all of its nodes."),
    ("depo", DEPO, [*CYCLE[:5]], "its edges have 5 words; give two for each."),
    ("depo", DEPO, [*CYCLE[:5], 3], "the last word has no end."),
    ("depo", DEPO, [5, *CYCLE], "a word has 2 tokens, not 1 to 1."),
    ("depo", DEPO, [*CYCLE, 50], "id 50 is no part of a word."),
    ("depo", DEPO, [*CYCLE, 26, 14], "a question has 0 argument dividers (61), not one."),
    ("depo", DEPO, [*CYCLE, 26, 17, DIVIDER, 15], "a question asks for no node of the cycle."),
    ("depo", DEPO, [*CYCLE, 27, 14, DIVIDER, 15], "an answer is not the node 2 steps on."),
    ("brevo", DEPO, [14, 15], "0 argument dividers (61); give exactly one."),
    ("brevo", DEPO, [14, 15, DIVIDER, 16], "it asks for no node of its edges."),
    ("brevo", DEPO, [14, 15, 15, 14, DIVIDER, 14], "what its node depends on has a cycle."),
    ("mano", {}, [5, 5], "id 5 is no number of operations, which is the first token."),
    ("mano", {}, [28, 25, 3, 4, 5], "its expression ends before position 4."),
    ("mano", {}, [28, 25, 3], "its expression lacks 1 operand."),
    ("mano", {}, [29, 25, 3, 4], "it has 1 operations, not 2."),
    ("mano", {}, [28, 28, 3, 4], "id 28 is neither a number nor an operator."),
    ("lano", {"levels": 3}, [2, 9], "no sentence of grammar 0 has id 9 at position 1, behind"),
]


@pytest.mark.parametrize(("task", "settings", "row", "message"), ROWS)
def test_malformed_rows_are_refused(task, settings, row, message):
    with pytest.raises(UsageError) as caught:
        get_task(task).solve(row, **{"vocabulary": 64} | settings)
    assert message in str(caught.value)


def test_hand_written_rows_have_their_targets():
    solve = get_task("depo").solve
    asked = [*CYCLE, 27, 14, DIVIDER, 16]
    assert solve(asked, **DEPO).tolist() == [-100] * 9 + [16]
    assert get_task("brevo").solve(GRAPH, **DEPO).tolist() == [14, 15, 16]

    # (20 - (2 * 3)), and (2 - 20) modulo 23.
    symbols = {"+": 23, "-": 24, "*": 25}
    for text, value in (("2 - 20 * 2 3", 14), ("1 - 2 20", 5), ("1 * 22 22", 1)):
        operations, *words = text.split()
        row = [25 + int(operations), *(symbols.get(word) or int(word) for word in words)]
        assert get_task("mano").solve([FIRST + symbol for symbol in row]).tolist() == [2 + value]


def test_a_sentence_of_lano_that_ends_early_is_refused():
    row = pairs("lano", stop=1, levels=4, vocabulary=64)[0][0]
    assert get_task("lano").solve(row, levels=4, vocabulary=64).tolist() == row
    with pytest.raises(UsageError, match="no sentence of grammar 0 ends with its last token"):
        get_task("lano").solve(row[:3], levels=4, vocabulary=64)


def test_a_wrong_target_has_no_surprisals():
    with pytest.raises(UsageError, match="brevo: surprisals are those of a right target; the giv"):
        get_task("brevo").surprisals(GRAPH, [15, 14, 16], **DEPO)
    with pytest.raises(UsageError, match="surprisals are those of a right target"):
        get_task("brevo").surprisals(GRAPH, **DEPO)


def test_rows_read_well():
    text = get_task("depo").text
    assert text([*CYCLE, 27, 14, DIVIDER, 16], **DEPO) == "0 1 1 2 2 0 2: 0 | 2"
    assert text([-100, 16], row=CYCLE, **DEPO) == ". 2"
    words = {"letters": 3, "max_word_length": 2, "max_nodes": 5, "vocabulary": 64}
    assert get_task("brevo").text([3, 7, 5, DIVIDER, 5], **words) == "1- 2 0 | 0"
    assert get_task("mano").text([29, 26, 22, 27, 4, 5], vocabulary=64) == "2: - 20 * 2 3"
