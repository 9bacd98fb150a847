"""Rows of text as hashes: which rows are trained on, kept once, or held out, without their texts.

A row takes 16 bytes of memory here, whatever its text: the hash of the text and its size. Of a
billion rows two different ones have the same hash of 64 bits with a probability of 3 %; the later
one would then be left out.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from hf_synpre.data.splits import table_texts

# Rows whose texts are in memory at once.
ROWS_A_READ = 1000


class TextRows:
    """The rows of datasets, one after the other; their texts are read whenever they are asked for.

    Args:
        datasets: the datasets.
        columns: the columns that hold the text.

    Raises:
        UsageError: a dataset lacks a column, or it holds something else.
    """

    def __init__(self, datasets: list[Dataset], columns: list[str]):
        self.columns = columns
        self._tables = [rows.with_format("arrow") for rows in datasets]
        for rows in datasets:
            table_texts(rows.data.table.slice(0, 0), columns)
        # The number of the first row of each dataset, and how many rows all have.
        self._offsets = np.cumsum([0, *map(len, datasets)])

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def read(self, numbers: np.ndarray) -> Iterator[list[str]]:
        """Yield the texts of rows.

        Args:
            numbers: the rows' numbers in the order in which they are read, int64[n].
        """
        for begin in range(0, len(numbers), ROWS_A_READ):
            block = numbers[begin : begin + ROWS_A_READ]
            parts = np.searchsorted(self._offsets, block, "right") - 1
            texts: list[list[str]] = [[]] * len(block)
            for part in np.unique(parts):
                places = np.flatnonzero(parts == part)
                rows = block[places] - self._offsets[part]
                are_consecutive = rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all()
                key = slice(rows[0], rows[-1] + 1) if are_consecutive else rows.tolist()
                found = table_texts(self._tables[part][key], self.columns)
                for place, row in zip(places, found, strict=True):
                    texts[place] = row
            yield from texts

    def hashes(self, numbers: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the hashes of rows as they are compared, uint64[n], and their bytes, int64[n].

        A row without text has 0 bytes.

        Args:
            numbers: the rows' numbers; all rows without it.
        """
        hashes, sizes = array("Q"), array("q")
        for row in self.read(np.arange(len(self)) if numbers is None else numbers):
            hashes.append(text_hash(normalized_text(row)))
            sizes.append(sum(len(text.encode()) for text in row))
        return np.array(hashes, np.uint64), np.array(sizes, np.int64)


@dataclass(frozen=True)
class RowDocuments:
    """The texts of rows as documents. Every iteration reads them again."""

    rows: TextRows
    # The numbers of the rows, in order.
    numbers: np.ndarray
    # Which of their texts are documents, bool[texts]; None for all.
    kept: np.ndarray | None = None

    def __iter__(self) -> Iterator[str]:
        texts = (text for row in self.rows.read(self.numbers) for text in row)
        if self.kept is None:
            return texts
        return (text for text, is_kept in zip(texts, self.kept, strict=True) if is_kept)


def normalized_text(texts: Iterable[str]) -> str:
    """Return a row's text as rows are compared: small letters, single spaces."""
    return " ".join(" ".join(texts).casefold().split())


def text_hash(text: str) -> int:
    """Return the hash of a text, 64 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """Return the hashes of texts, uint64[n]."""
    hashes = array("Q", map(text_hash, texts))
    return np.array(hashes, np.uint64)


def first_of_each(texts: Iterable[str]) -> np.ndarray:
    """Return which texts come for the first time, bool[n]."""
    hashes = text_hashes(texts)
    _, first = np.unique(hashes, return_index=True)
    is_first = np.zeros(len(hashes), bool)
    is_first[first] = True
    return is_first
