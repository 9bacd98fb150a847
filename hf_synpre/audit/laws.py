"""Laws of published generators, written anew from their papers and code: what they draw.

Nothing here uses the tasks of this package: an audit of a law must not share its mistakes.
"""

import functools
import gzip
import itertools
from collections import defaultdict
from typing import NamedTuple

import numpy as np

# Probability of each sentence, a sequence of symbols.
Sentences = dict[tuple[str, ...], float]

# --- MP-STRUCT (Mita et al. 2026, arXiv 2605.16758) --------------------------------------------

# With which probability a noun, and the head C, asks for movement.
WH_SHARE = 0.2


def core_sentences() -> Sentences:
    """Return the sentences of MP-STRUCT-CORE with its default options, and their probabilities.

    Two fair coins say whether the subject moves and which of two kinds of agreement it has; the
    three parts of the VP come in any order. `[` and `]` are structure, `<m m>` a movement, `<a a>`
    and `<b b>` agreement, `<s s>` selection.
    """
    pair = bracketed("<s") + bracketed("s>")
    sentences: Sentences = defaultdict(float)
    orders = list(itertools.permutations(range(3)))
    for moves, kind, order in itertools.product((False, True), "ab", orders):
        subject = bracketed(f"<{kind}", *pair)
        above, below = (subject, ()) if moves else ((), subject)
        trace = ("m>",) if moves else ()
        parts = (bracketed("V"), bracketed(*trace), bracketed(*pair))
        verb_phrase = bracketed(*itertools.chain(*(parts[place] for place in order)))
        specifier = bracketed() if moves else below
        tense_phrase = bracketed(*specifier, *bracketed("T", f"{kind}>"), *verb_phrase)
        head = bracketed("C", *(("<m",) if moves else ()))
        sentence = bracketed(*bracketed(*above), *head, *tense_phrase)
        sentences[sentence] += 1 / (4 * len(orders))
    return dict(sentences)


def full_sentences() -> Sentences:
    """Return the sentences of MP-STRUCT with its default options, and their probabilities.

    Both nouns have one number. The subject always moves to the specifier of TP. Where C asks for
    it, the object moves if it may, otherwise the subject; object and subject of the VP come in
    either order.
    """
    sentences: Sentences = defaultdict(float)
    coins = (False, True)
    choices = itertools.product(("sg", "pl"), coins, coins, coins, coins)
    for number, subject_asks, object_asks, moves, is_subject_first in choices:
        asked = [subject_asks, object_asks, moves]
        share = np.prod([WH_SHARE if ask else 1 - WH_SHARE for ask in asked]) / 4

        object_moves = moves and object_asks
        noun = noun_phrase(number, object_asks)
        in_place = ("trace -wh",) if object_moves else noun
        subject_trace = ("trace -wh",) if subject_asks else ("trace",)
        arguments = [bracketed(*in_place), bracketed(*subject_trace)]
        if is_subject_first:
            arguments.reverse()
        verb_phrase = bracketed("VP", "V", *arguments[0], *arguments[1])

        subject = bracketed(*noun_phrase(number, subject_asks))
        tense = bracketed(f"T {number}")
        tense_phrase = bracketed("TP", *subject, *tense, *bracketed(*verb_phrase))
        moved: tuple[str, ...] = ()
        if moves and (subject_asks or object_asks):
            moved = ("MOV", *bracketed(*noun_phrase(number, False)))
        head = bracketed("C +wh" if moves else "C")
        sentence = bracketed("CP", *moved, *head, *bracketed(*tense_phrase))
        sentences[sentence] += float(share)
    return dict(sentences)


def bracketed(*symbols: str) -> tuple[str, ...]:
    """Return symbols between brackets of structure."""
    return ("[", *symbols, "]")


def noun_phrase(number: str, asks: bool) -> tuple[str, ...]:
    """Return a noun phrase of full MP-STRUCT, with its mark where it may be asked for."""
    phrase = bracketed(f"DP {number}", *bracketed("D"), *bracketed("N"))
    return (*phrase, "-wh") if asks else phrase


def sentence_entropy(sentences: Sentences) -> tuple[float, float]:
    """Return the entropy of a sentence in nats, and that of a token of such sentences in a row."""
    shares = np.array(list(sentences.values()))
    lengths = np.array([len(sentence) for sentence in sentences])
    entropy = float(-(shares * np.log(shares)).sum())
    return entropy, entropy / float((shares * lengths).sum())


def distinct_of(sentences: Sentences, draws: np.ndarray) -> np.ndarray:
    """Return how many distinct sentences are expected in so many draws, float64[n]."""
    shares = np.array(list(sentences.values()))[:, None]  # [sentences, 1]
    return (1 - (1 - shares) ** draws).sum(axis=0)


# --- The linear RNN (Guo et al. 2026, arXiv 2605.10129) -------------------------------------------

HIDDEN, VOCABULARY = 64, 50_277
RADIUS, ITERATIONS = 0.9, 50
SQUARINGS = 14  # of W, in the sum over all steps: 2**14 of them
# Its corpus: 100 rows of 2,048 tokens of each of 1,000 models.
CORPUS_MODELS, CORPUS_SEED, ROW_LENGTH = 1000, 300, 2048


class LinearRNN(NamedTuple):
    """A model: h <- W h + A[token], and its logits are C h."""

    embedding: np.ndarray  # A, float64[H, V], from N(0, 1/V)
    recurrent: np.ndarray  # W, float64[H, H], from N(0, 1/H) and scaled
    source: np.random.Generator  # what draws C, float64[V, H], from N(0, 1/H)


def corpus_model(number: int) -> LinearRNN:
    """Return a model of the corpus, 0 to 999, by the seeds of the script that makes it.

    W is multiplied by 0.9 over an estimate of its spectral radius: what one more step does to the
    length of a vector after 50 steps of the power iteration. That is the radius where the largest
    eigenvalue is real; it is not where it is one of a complex pair.
    """
    seeds = np.random.default_rng(CORPUS_SEED).integers(0, 2**31 - 1, size=CORPUS_MODELS)
    source = np.random.default_rng(int(seeds[number]))
    embedding = source.normal(scale=VOCABULARY**-0.5, size=(HIDDEN, VOCABULARY))
    recurrent = source.normal(scale=HIDDEN**-0.5, size=(HIDDEN, HIDDEN))

    vector = np.random.default_rng(0).normal(size=HIDDEN)
    for _ in range(ITERATIONS):
        vector = recurrent @ (vector / np.linalg.norm(vector))
    estimate = np.linalg.norm(recurrent @ (vector / np.linalg.norm(vector)))
    return LinearRNN(embedding, recurrent * (RADIUS / estimate), source)


def spectral_radii(matrices: np.ndarray) -> np.ndarray:
    """Return the largest absolute value of an eigenvalue of each matrix, float64[count]."""
    return np.abs(np.linalg.eigvals(matrices)).max(axis=1)


def logit_variances(matrices: np.ndarray) -> np.ndarray:
    """Return the variance of the logits of stable models in the long run, float64[count].

    It follows from the law: the state is a sum of W^k a over past tokens, whose vectors a are
    drawn from N(0, 1/V), and logits are C h with C from N(0, 1/H). So it is the sum over k of
    |W^k|^2 / (H V), where |W| is the Frobenius norm.
    """
    total = np.tile(np.eye(HIDDEN), (len(matrices), 1, 1))  # sum of W^k W^kT over k < 2**i
    power = matrices  # W^(2**i)
    for _ in range(SQUARINGS):
        total = total + power @ total @ power.transpose(0, 2, 1)
        power = power @ power
    return np.trace(total, axis1=1, axis2=2) / HIDDEN / VOCABULARY


def divergences(model: LinearRNN, rows: int, length: int) -> np.ndarray:
    """Return how far the law of each token is from uniform, in nats, float64[rows, length].

    The model is run as released: each token is drawn from its law, of 50,277 ids.

    Args:
        model: the model.
        rows: how many sequences are drawn.
        length: their tokens.
    """
    source = model.source
    readout = source.normal(scale=HIDDEN**-0.5, size=(VOCABULARY, HIDDEN))
    tokens = source.integers(VOCABULARY, size=rows)
    state = np.zeros((rows, HIDDEN))
    result = np.empty((rows, length))
    for step in range(length):
        state = state @ model.recurrent.T + model.embedding[:, tokens].T  # [rows, H]
        logits = state @ readout.T  # [rows, V]
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        totals = weights.sum(axis=1)
        entropies = np.log(totals) - (weights * logits).sum(axis=1) / totals
        result[:, step] = np.log(VOCABULARY) - entropies

        # A token of each row, by its cumulative weights.
        ends = np.cumsum(weights, axis=1)
        tickets = source.random(rows) * ends[:, -1]
        tokens = (ends <= tickets[:, None]).sum(axis=1)
    return result


# --- Rows by seed + index, and delete (Jiang et al. 2026, arXiv 2601.21725) -----------------------

# The configuration of the paper's delete: symbols 1..99, 64 of them, 2,501 steps of 64 rows.
DELETE_SYMBOLS, DELETE_LENGTH = 99, 64
DELETE_ROWS, VALIDATION_ROWS = 2501 * 64, 10 * 64
TRAIN_SEED, VALIDATION_SEED = 42, 42 + 10_000


@functools.lru_cache(maxsize=4)
def delete_rows(seed: int, count: int) -> np.ndarray:
    """Return rows of delete as there: row i has a generator of its own, seeded with seed + i.

    Args:
        seed: the seed of a split.
        count: number of rows.

    Returns:
        uint8[count, 65]: the symbols of each row, and behind them the one that is to be deleted.
    """
    rows = np.empty((count, DELETE_LENGTH + 1), np.uint8)
    for index, row in enumerate(rows):
        source = np.random.RandomState(seed + index)
        row[:-1] = source.randint(1, DELETE_SYMBOLS + 1, size=DELETE_LENGTH)
        row[-1] = source.randint(1, DELETE_SYMBOLS + 1, size=1)[0]
    return rows


# --- k-Shuffle Dyck, cut (Hu et al. 2025, arXiv 2502.19249, and later) ----------------------------


def open_brackets(length: int, open_share: float, max_depth: int) -> np.ndarray:
    """Return the probability of each number of open brackets where a string is cut.

    A bracket opens where none is open, closes at max_depth, and else opens with a probability of
    open_share. Which kinds there are does not matter.

    Args:
        length: tokens before the cut.
        open_share: the probability.
        max_depth: the most open brackets.

    Returns:
        float64[max_depth + 1].
    """
    opening = np.full(max_depth + 1, open_share)
    opening[0], opening[-1] = 1, 0
    shares = np.zeros(max_depth + 1)
    shares[0] = 1
    for _ in range(length):
        opened, closed = shares * opening, shares * (1 - opening)
        shares = np.append(0, opened[:-1]) + np.append(closed[1:], 0)
    return shares


# --- Filler that is a key (Arora et al. 2023, arXiv 2312.04927) -----------------------------------


def repeated_key_share(length: int, keys: int, vocabulary: int = 8192) -> float:
    """Return the share of MQAR rows in which filler is one of the row's keys.

    Filler is uniform over the whole vocabulary. A row of `length` tokens has `keys` pairs of a key
    and a value, then each key once more; the rest is filler.
    """
    return 1 - (1 - keys / vocabulary) ** (length - 3 * keys)


# --- The gzip ratio of cellular automata (Lee et al. 2026, arXiv 2603.10055) ----------------------

# Patches of two times two cells, of ten frames of six times six patches.
PATCH_CELLS, PATCHES = 4, 360


def noise_ratios(states: int, strings: int, seed: int = 0) -> np.ndarray:
    """Return the compression ratios of noise, which the filter of rules would measure.

    As there: gzip at its strongest on patches as int32.

    Args:
        states: states of a cell; each cell is uniform.
        strings: how many strings are compressed.
        seed: of the cells.

    Returns:
        float64[strings].
    """
    source = np.random.default_rng(seed)
    ratios = []
    for _ in range(strings):
        patches = source.integers(states**PATCH_CELLS, size=PATCHES).astype("<i4").tobytes()
        ratios.append(len(gzip.compress(patches, 9)) / len(patches))
    return np.array(ratios)
