"""The synthetic tasks: integers in, integers out, without torch. What happens from a name to rows:

1. `get_task(name)` (here) gives a `Task` (task.py), or a `Mixture` (mixture.py) for a name like
   "set:2,identity:1".
2. `task.open_stream(split, seed, vocabulary, parameters)` checks all of them and gives a
   `RowStream` (streams.py): an endless sequence of rows with a `key` of its own.
3. `stream.rows(indices)` seeds the generator of each row with hash(key, index) (rng.py).
4. The task's sampler draws the input, its function computes the target, both compiled: samplers.py
   and functions.py for the paper's simple tasks (with sets of ids from id_sets.py), lime.py,
   nonsense.py and languages.py. kernels.py says what they get and give.
5. `generate(name, start, stop)` (here) returns rows as a pyarrow.Table of `input_ids` and `labels`,
   for encoder-decoders or, as one sequence, for decoders (layouts.py).
6. `task.solve(row)` gives the target of a row, `task.score(row, answer)` says whether an answer is
   right.

A new task is one decorated function: `register_task` in registry.py. `import_tasks` (imports.py)
imports a file that has some.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from hf_synpre.errors import UsageError, as_integer, in_message
from hf_synpre.tasks.base import SyntheticTask, VocabularyLike
from hf_synpre.tasks.layouts import with_layout
from hf_synpre.tasks.mixture import make_mixture, read_mixture, register_mixture
from hf_synpre.tasks.registry import list_tasks, register_task, registered_task
from hf_synpre.tasks.shuffled import PREFIX, make_shuffled
from hf_synpre.tasks.streams import Rows, RowStream

# Rows of a table that are generated in one compiled call, and the most ids they may take.
ROWS_A_CALL = 8192
IDS_A_CALL = 2**25
SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])

__all__ = [
    "SCHEMA",
    "RowStream",
    "SyntheticTask",
    "VocabularyLike",
    "generate",
    "get_task",
    "iter_row_blocks",
    "iter_rows",
    "list_tasks",
    "open_stream",
    "record_batch",
    "register_mixture",
    "register_task",
]


def get_task(name: str | Mapping[str, int]) -> SyntheticTask:
    """Return a task by name, or a mixture of tasks.

    Args:
        name: a name of `list_tasks()`; or a mixture with its weights: {"set": 2, "identity": 1} or
            "set:2,identity:1"; or a control, "shuffled-set": the rows of a task with their tokens
            in random order.

    Returns:
        The task; `solve`, `score`, `text` and `open_stream` are its methods.

    Raises:
        UsageError: there is no such task (the error names the closest one), or a weight is no
            integer >= 1.

    Examples:
        >>> get_task("set").solve([356, 32099, 5, 6, 5]).tolist()
        [5, 6]
    """
    if isinstance(name, str) and ("," in name or ":" in name):
        name = read_mixture(name)
    if isinstance(name, Mapping):
        return make_mixture(name)
    if isinstance(name, str) and name.startswith(PREFIX):
        return make_shuffled(registered_task(name.removeprefix(PREFIX)))
    return registered_task(name)


def open_stream(
    task: str | Mapping[str, int],
    *,
    split: str = "train",
    seed: int = 0,
    vocabulary: VocabularyLike = None,
    curriculum_rows: int = 0,
    layout: str = "seq2seq",
    **parameters: int | str,
) -> RowStream:
    """Return the endless stream of a task's rows.

    Args:
        task: a name, or a mixture with its weights, as for `get_task`.
        split: train, validation or test; their rows are independent.
        seed: an integer >= 0; every seed is another stream.
        vocabulary: whose ids the rows have: None (the paper's T5 ids), a size, a tokenizer or a
            Vocabulary.
        curriculum_rows: a length curriculum: over this many first rows the longest input grows from
            the shortest possible to max_length. 0 is none.
        layout: what a row holds: "seq2seq" (the input, and the target) or "causal" (one sequence
            for a decoder: input, end of sequence, target, end of sequence).
        parameters: the task's parameters, where they differ from the paper's.

    Returns:
        A stream; `stream.rows(indices)` gives the rows at any indices >= 0 as flat arrays.

    Raises:
        UsageError: a name is unknown, or a value does not fit the task.

    Examples:
        >>> stream = open_stream("reverse", max_length=20)
        >>> x, x_ends, y, y_ends = stream.rows(np.arange(1000))
    """
    stream = get_task(task).open_stream(
        split=split,
        seed=seed,
        vocabulary=vocabulary,
        curriculum_rows=curriculum_rows,
        **parameters,
    )
    return with_layout(stream, layout)


def generate(
    task: str | Mapping[str, int],
    start: int,
    stop: int,
    *,
    split: str = "train",
    seed: int = 0,
    vocabulary: VocabularyLike = None,
    curriculum_rows: int = 0,
    layout: str = "seq2seq",
    **parameters: int | str,
) -> pa.Table:
    """Return rows `start` to `stop - 1` of a task's stream.

    Args:
        task: a name, or a mixture with its weights, as for `get_task`.
        start: the first row, an integer >= 0.
        stop: one past the last row.
        split: train, validation or test; their rows are independent.
        seed: an integer >= 0; every seed is another stream.
        vocabulary: whose ids the rows have: None (the paper's T5 ids), a size, a tokenizer or a
            Vocabulary.
        curriculum_rows: a length curriculum, as for `open_stream`.
        layout: what a row holds: "seq2seq" (`input_ids` is the input, `labels` the target, both
            without end-of-sequence) or "causal" (for a decoder: `input_ids` is input, end of
            sequence, target, end of sequence; `labels` is as long and -100 before the target).
        parameters: the task's parameters, where they differ from the paper's.

    Returns:
        A pyarrow.Table of `input_ids` and `labels`, list<int32>.

    Raises:
        UsageError: a name is unknown, or a value does not fit the task.

    Examples:
        >>> generate("reverse", 0, 2, min_length=2, max_length=4).to_pylist()  # doctest: +SKIP
        [{'input_ids': [7211, 32099, ...], 'labels': [...]}, ...]
    """
    stream = open_stream(
        task,
        split=split,
        seed=seed,
        vocabulary=vocabulary,
        curriculum_rows=curriculum_rows,
        layout=layout,
        **parameters,
    )
    return pa.Table.from_batches(iter_rows(stream, start, stop), schema=SCHEMA)


def iter_rows(stream: RowStream, start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Return rows `start` to `stop - 1` of a stream in batches that fit into memory.

    A batch is made when it is asked for, so that any number of rows can be written somewhere.

    Args:
        stream: the stream, as `open_stream` gives it.
        start: the first row, an integer >= 0.
        stop: one past the last row.

    Raises:
        UsageError: they are no such integers.
    """
    first, end = as_integer(start), as_integer(stop)
    if first is None or end is None or not 0 <= first <= end < 2**63:
        raise UsageError(
            f"Rows {in_message(start)} to {in_message(stop)} were asked for; "
            "give integers, 0 <= start <= stop < 2**63."
        )

    # Some thousand rows at once; fewer where a row may be very long.
    rows_a_call = max(1, min(ROWS_A_CALL, IDS_A_CALL // max(stream.bounds)))
    return iter_row_blocks(stream, first, end, rows_a_call)


def iter_row_blocks(
    stream: RowStream, start: int, stop: int, size: int
) -> Iterator[pa.RecordBatch]:
    """Yield rows of a stream in blocks, each generated in one compiled call.

    Args:
        stream: the stream, as `open_stream` gives it.
        start: the first row, an integer >= 0.
        stop: one past the last row.
        size: rows of a block; the last one may be shorter.
    """
    for block_start in range(start, stop, size):
        block_stop = min(block_start + size, stop)
        yield record_batch(stream.rows(np.arange(block_start, block_stop, dtype=np.int64)))


def record_batch(rows: Rows) -> pa.RecordBatch:
    """Return the rows of a stream as a batch of `input_ids` and `labels`; nothing is copied."""
    x, x_ends, y, y_ends = rows
    inputs = pa.ListArray.from_arrays(pa.array(x_ends), pa.array(x))
    labels = pa.ListArray.from_arrays(pa.array(y_ends), pa.array(y))
    return pa.RecordBatch.from_arrays([inputs, labels], schema=SCHEMA)
