"""Rows as they are counted: ids or texts come in, a `Row` goes out; what a source of rows is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from hf_synpre.audit.schema import BayesLossFacts
from hf_synpre.data.row_hashes import normalized_text
from hf_synpre.tasks.kernels import IGNORED

INPUTS, ANSWERS, SEQUENCES = "inputs", "answers", "sequences"


class Row(NamedTuple):
    """One row, as it is counted."""

    # The parts that are measured, by name: inputs and answers, or sequences. Each is a vector of
    # integers.
    parts: dict[str, np.ndarray]
    # What a model reads before it answers, and its answer; None where nothing is answered.
    input: np.ndarray
    answer: np.ndarray | None
    # What rows are compared by.
    input_key: bytes
    answer_key: bytes


class SplitRows(NamedTuple):
    """The rows of a split that are read."""

    read: Callable[[], Iterator[Row]]
    all_rows: int | None  # how many rows the split has; None: they do not end


@dataclass(frozen=True)
class Source:
    """What is audited. Each split is compared with those before it."""

    kind: Literal["task", "dataset"]
    unit: Literal["token", "byte"]
    # What is read: parameters and vocabulary of a task, columns of a dataset.
    facts: dict[str, Any]
    splits: Mapping[str, SplitRows]
    bayes_loss: BayesLossFacts | None = None


def pair_row(source: np.ndarray, answer: np.ndarray) -> Row:
    """Return a row of an input and an answer, both int64[n]."""
    parts = {INPUTS: source, ANSWERS: answer}
    return Row(parts, source, answer, source.tobytes(), answer.tobytes())


def sequence_row(ids: np.ndarray, labels: np.ndarray | None = None) -> Row:
    """Return a row that is one sequence. Where only its end is scored, that is its answer.

    Args:
        ids: the tokens, int64[n].
        labels: each token itself, or IGNORED where it is not scored; None: all are scored.
    """
    if labels is None:
        return Row({SEQUENCES: ids}, ids, None, ids.tobytes(), b"")
    scored = labels != IGNORED
    start = len(ids) - int(scored.sum())
    if 0 < start < len(ids) and scored[start:].all():
        source, answer = ids[:start], ids[start:]
        return Row({SEQUENCES: ids}, source, answer, source.tobytes(), answer.tobytes())
    return Row({SEQUENCES: ids}, ids, None, ids.tobytes(), labels.tobytes())


def text_row(source: str, answer: str | None) -> Row:
    """Return a row of text; its tokens are the bytes of UTF-8.

    Rows are compared in small letters and with single spaces.
    """
    source_key = normalized_text([source]).encode()
    source_bytes = np.frombuffer(source.encode(), np.uint8)
    if answer is None:
        return Row({SEQUENCES: source_bytes}, source_bytes, None, source_key, b"")
    answer_bytes = np.frombuffer(answer.encode(), np.uint8)
    parts = {INPUTS: source_bytes, ANSWERS: answer_bytes}
    return Row(parts, source_bytes, answer_bytes, source_key, normalized_text([answer]).encode())
