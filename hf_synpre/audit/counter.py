"""Rows of a split come in one after the other; its figures go out.

What is kept of a row is its hashes and its lengths, and of the first rows their tokens too.
"""

import hashlib
import zlib
from array import array
from collections import Counter

import numpy as np

from hf_synpre.audit.rows import Row
from hf_synpre.audit.schema import Part, Split

# Tokens of a part by which entropies are estimated, and those of them that are compressed.
MOST_TOKENS = 2**22
MOST_COMPRESSED = 2**20
# An entropy is given where there are so many tokens for each distinct one (or pair).
TOKENS_A_VALUE = 10


class SplitCounter:
    """The figures of a split, row by row."""

    def __init__(self) -> None:
        self.rows = 0
        self._parts: dict[str, PartCounter] = {}
        self._inputs, self._rows = array("Q"), array("Q")
        self._answers: Counter[int] = Counter()
        self._copied = self._empty = 0

    def add(self, row: Row) -> None:
        """Count one row."""
        self.rows += 1
        for name, ids in row.parts.items():
            self._parts.setdefault(name, PartCounter()).add(ids)
        self._inputs.append(digest(row.input_key))
        self._rows.append(digest(row.input_key, row.answer_key))
        if row.answer is not None:
            self._answers[digest(row.answer_key)] += 1
            self._empty += len(row.answer) == 0
            self._copied += is_copy(row.input, row.answer)

    @property
    def row_hashes(self) -> np.ndarray:
        """The hashes of the rows, uint64[rows]."""
        return np.array(self._rows, np.uint64)

    def figures(self, all_rows: int | None) -> Split:
        """Return the figures of the split.

        Args:
            all_rows: how many rows the split has, of which perhaps not all were counted.
        """
        return {
            "rows": self.rows,
            "all_rows": all_rows,
            "distinct_rows": len(set(self._rows)),
            "parts": {name: part.figures() for name, part in self._parts.items()},
            "with_answer": self._answers.total(),
            "copied": self._copied,
            "empty": self._empty,
            "commonest": max(self._answers.values(), default=0),
            "contradicted": self._contradicted() if self._answers else 0,
        }

    def _contradicted(self) -> int:
        """Return how many rows have an input that stands elsewhere with another answer."""
        inputs = np.array(self._inputs, np.uint64)
        pairs = np.unique(np.stack([inputs, self.row_hashes], axis=1), axis=0)  # [distinct, 2]
        values, answers = np.unique(pairs[:, 0], return_counts=True)
        return int(np.isin(inputs, values[answers > 1]).sum())


class PartCounter:
    """The figures of one part of a split's rows."""

    def __init__(self) -> None:
        self._lengths = array("q")
        self._kept: list[np.ndarray] = []
        self._kept_tokens = 0

    def add(self, ids: np.ndarray) -> None:
        """Count the tokens of one row, int64[n]."""
        self._lengths.append(len(ids))
        if self._kept_tokens < MOST_TOKENS:
            self._kept.append(ids)
            self._kept_tokens += len(ids)

    def figures(self) -> Part:
        """Return the figures of the part."""
        lengths = np.array(self._lengths, np.int64)
        ids = np.concatenate(self._kept)
        alphabet, ranks = np.unique(ids, return_inverse=True)  # [distinct], [tokens]

        # Pairs of neighbours, none of them from two rows.
        ends = np.cumsum([len(row) for row in self._kept])
        is_pair = np.ones(max(len(ids) - 1, 0), bool)
        is_pair[ends[(ends > 0) & (ends < len(ids))] - 1] = False
        first, second = ranks[:-1][is_pair], ranks[1:][is_pair]
        pairs = first * len(alphabet) + second

        of_pairs, of_firsts = entropy(pairs), entropy(first)
        conditional = None
        if of_pairs is not None and of_firsts is not None:
            conditional = of_pairs - of_firsts
        ratio, noise = compression(ranks[:MOST_COMPRESSED], len(alphabet))
        return {
            "tokens": int(lengths.sum()),
            "shortest": int(lengths.min()),
            "mean_length": float(lengths.mean()),
            "longest": int(lengths.max()),
            "alphabet": len(alphabet),
            "unigram_entropy": entropy(ranks),
            "bigram_entropy": conditional,
            "compressed": ratio,
            "compressed_noise": noise,
        }


def entropy(values: np.ndarray) -> float | None:
    """Return the entropy of values in nats, by Miller and Madow's estimate.

    Args:
        values: the values, int64[n].

    Returns:
        None where there are too few values for so many distinct ones.
    """
    _, counts = np.unique(values, return_counts=True)
    if not len(counts) or len(values) < TOKENS_A_VALUE * len(counts):
        return None
    shares = counts / len(values)
    return float(-(shares * np.log(shares)).sum() + (len(counts) - 1) / (2 * len(values)))


def compression(ranks: np.ndarray, alphabet: int) -> tuple[float | None, float | None]:
    """Return what zlib at its strongest makes of tokens, and of uniform noise of their alphabet.

    Args:
        ranks: the tokens, as numbers below `alphabet`; each takes as few bytes as all fit in.
        alphabet: how many distinct ones there are.

    Returns:
        Bytes after over bytes before, of both; None where there are no tokens.
    """
    if not len(ranks):
        return None, None
    width = np.min_scalar_type(alphabet - 1).newbyteorder("<")
    noise = np.random.default_rng(0).integers(alphabet, size=len(ranks))
    ratios = []
    for values in (ranks, noise):
        plain = values.astype(width).tobytes()
        ratios.append(len(zlib.compress(plain, 9)) / len(plain))
    return ratios[0], ratios[1]


def is_copy(source: np.ndarray, answer: np.ndarray) -> bool:
    """Say whether an answer stands in its input in one piece, and is at least half of it."""
    if len(answer) == 0 or 2 * len(answer) < len(source) or len(answer) > len(source):
        return False
    text, wanted = source.tobytes(), answer.tobytes()
    place = text.find(wanted)
    while place % source.itemsize > 0:  # -1 % itemsize too, for there is no such piece
        if place < 0:
            return False
        place = text.find(wanted, place + 1)
    return place >= 0


def digest(*parts: bytes) -> int:
    """Return a hash of 64 bits."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return int.from_bytes(state.digest(), "little")
