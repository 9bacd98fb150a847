"""A synthetic task, a mixture or a control -> the rows of its splits and of another seed."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from hf_synpre.audit.rows import Row, Source, SplitRows, pair_row, sequence_row
from hf_synpre.audit.schema import BayesLossFacts
from hf_synpre.tasks import RowStream, VocabularyLike, get_task, list_tasks
from hf_synpre.tasks.shuffled import PREFIX
from hf_synpre.vocabulary import as_vocabulary

# Rows of a task's training split that are read; a tenth as many of its other splits.
TASK_ROWS = 10_000
ROWS_A_CALL = 500


def is_task_name(source: str) -> bool:
    """Say whether a word names a synthetic task, a mixture or a control."""
    return source in list_tasks() or source.startswith(PREFIX) or "," in source or ":" in source


def open_task(
    name: str,
    rows: int | None,
    seed: int,
    vocabulary: VocabularyLike,
    parameters: Mapping[str, Any],
) -> Source:
    """Return a task's splits: train, validation, test, and train of the next seed.

    Args:
        name: a task, a mixture with its weights, or a control.
        rows: how many rows of train are read; TASK_ROWS without it.
        seed: the seed of the rows.
        vocabulary: that of the rows.
        parameters: the task's parameters, where they differ from the paper's.

    Raises:
        UsageError: there is no such task, or a value does not fit it.
    """
    task = get_task(name)
    train_rows = TASK_ROWS if rows is None else rows
    other_rows = max(train_rows // 10, 1)
    streams = {
        "train": ("train", seed, train_rows),
        "validation": ("validation", seed, other_rows),
        "test": ("test", seed, other_rows),
        f"train of seed {seed + 1}": ("train", seed + 1, other_rows),
    }

    splits = {}
    for shown, (split, split_seed, count) in streams.items():
        stream = task.open_stream(split=split, seed=split_seed, vocabulary=vocabulary, **parameters)
        splits[shown] = SplitRows(partial(stream_rows, stream, count), None)

    loss = task.bayes_loss(vocabulary=vocabulary, **parameters)
    facts: BayesLossFacts | None = None
    if loss is not None:
        facts = {"value": loss.value, "standard_error": loss.standard_error}
    return Source(
        kind="task",
        unit="token",
        facts={
            "seed": seed,
            "vocabulary": as_vocabulary(vocabulary).size,
            "parameters": task.resolve(parameters),
        },
        splits=splits,
        bayes_loss=facts,
    )


def stream_rows(stream: RowStream, count: int) -> Iterator[Row]:
    """Yield the first rows of a task's stream, as many as are asked for."""
    make = sequence_row if stream.task.is_sequence else pair_row
    for start in range(0, count, ROWS_A_CALL):
        indices = np.arange(start, min(start + ROWS_A_CALL, count), dtype=np.int64)
        x, x_ends, y, y_ends = stream.rows(indices)
        x, y = x.astype(np.int64), y.astype(np.int64)
        for row in range(len(indices)):
            yield make(x[x_ends[row] : x_ends[row + 1]], y[y_ends[row] : y_ends[row + 1]])
