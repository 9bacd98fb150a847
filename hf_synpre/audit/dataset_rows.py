"""A folder, a file or a Hub id -> the rows of its splits, of token ids or of text."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from hf_synpre.audit.rows import Row, Source, SplitRows, pair_row, sequence_row, text_row
from hf_synpre.data.readers import is_data_file
from hf_synpre.data.splits import guess_columns, open_splits
from hf_synpre.errors import UsageError, choose, similar_path
from hf_synpre.finetuning.guess import guess_fields
from hf_synpre.tasks import list_tasks
from hf_synpre.tasks.kernels import IGNORED

# Rows of each split that are read at most.
DATASET_ROWS = 1_000_000
ROWS_A_READ = 1000
# Columns of token ids, and of their labels.
TOKENS = "input_ids"
LABELS = ("labels", "label")


def open_dataset(
    data: str,
    rows: int | None,
    source: list[str],
    target: list[str],
    config: str | None,
    revision: str | None,
) -> Source:
    """Return the splits of a dataset.

    Args:
        data: a folder, a file or a Hub id.
        rows: how many rows of each split are read at most; DATASET_ROWS without it.
        source: the columns of the inputs; guessed where there are none.
        target: the columns of the answers; guessed where `source` has none either.
        config: its configuration, where it has several.
        revision: its revision on the Hub.

    Raises:
        UsageError: there is no such dataset, or which columns are meant is not clear.
    """
    check_name(data)
    dataset = open_splits(data, config, revision)
    if not dataset:
        raise UsageError(f"{data} has no splits; give data with rows.")
    first = next(iter(dataset.values()))
    for column in (*source, *target):
        choose(f"column of {data}", column, first.column_names)
    inputs, answers = choose_columns(data, first, source, target)
    are_ids = is_list_of_integers(first, inputs[0])
    if are_ids and max(len(inputs), len(answers)) > 1:
        raise UsageError(
            f"{data}: {', '.join([*inputs, *answers])} were given as columns; of token ids give "
            "one column as --source and one as --target."
        )

    splits = {}
    limit = DATASET_ROWS if rows is None else rows
    for name, split in dataset.items():
        for column in inputs:
            choose(f"column of {data}, split {name},", column, split.column_names)
        # Test rows of many datasets come without answers.
        columns = (inputs, answers if set(answers) <= set(split.column_names) else [])
        if are_ids:
            read = partial(id_rows, split, f"{data}, split {name}", columns, limit)
        else:
            read = partial(text_rows, split, columns, limit)
        splits[name] = SplitRows(read, len(split))
    return Source(
        kind="dataset",
        unit="token" if are_ids else "byte",
        facts={"inputs": inputs, "answers": answers},
        splits=splits,
    )


def check_name(data: str) -> None:
    """Raise UsageError where a word names no file or folder and can be no Hub id."""
    path = Path(data)
    if path.exists():
        return
    is_path = data.startswith((".", "/", "~")) or data.count("/") > 1 or is_data_file(path)
    if is_path:
        raise UsageError(
            f"There is no file or folder {data}.{similar_path(path)} Give a synthetic task, a "
            "folder, a file of rows or a Hub id NAMESPACE/NAME."
        )
    if "/" not in data:
        choose("task", data, list_tasks(), do="Or give a folder, a file of rows or a Hub id.")


def choose_columns(
    data: str, rows: Dataset, source: list[str], target: list[str]
) -> tuple[list[str], list[str]]:
    """Return the columns of inputs and of answers; none of the latter where nothing is answered.

    Args:
        data: the dataset, for messages.
        rows: its first split.
        source: the columns of the inputs, where they were named.
        target: the columns of the answers, where they were named.

    Raises:
        UsageError: which columns are meant is not clear.
    """
    if source:
        return source, target
    if TOKENS in rows.column_names and is_list_of_integers(rows, TOKENS):
        labels = [name for name in LABELS if name in rows.column_names]
        return [TOKENS], target or labels[:1]

    # Text: an input and an answer, or text alone; or ids in a column of another name.
    given = {"target": target} if target else {}
    try:
        fields = guess_fields(rows, given, data)
    except UsageError:
        if target:
            raise
        lists = [name for name in rows.column_names if is_list_of_integers(rows, name)]
        return (lists, []) if len(lists) == 1 else (text_columns(data, rows), [])
    if "source" in fields:
        return fields["source"], fields["target"]
    return [*fields["text"], *fields.get("choices", ())], fields["label"]


def text_columns(data: str, rows: Dataset) -> list[str]:
    """Return the columns of text of rows without answers. UsageError: there are none."""
    try:
        return guess_columns(rows)
    except UsageError as error:
        raise UsageError(
            f"{data} has the columns {', '.join(rows.column_names)}; which are meant is not clear. "
            "Give those of the inputs as --source, and of the answers as --target."
        ) from error


def is_list_of_integers(rows: Dataset, column: str) -> bool:
    """Say whether a column holds lists of integers, as of token ids."""
    column_type = rows.data.schema.field(column).type
    is_list = pa.types.is_list(column_type) or pa.types.is_large_list(column_type)
    return is_list and pa.types.is_integer(column_type.value_type)


def tables(rows: Dataset, limit: int) -> Iterator[pa.Table]:
    """Yield the first rows of a split, some at a time."""
    arrow = rows.with_format("arrow")
    for start in range(0, min(limit, len(rows)), ROWS_A_READ):
        yield arrow[start : min(start + ROWS_A_READ, limit, len(rows))]


# --- token ids ------------------------------------------------------------------------------------


def id_rows(
    rows: Dataset, where: str, columns: tuple[list[str], list[str]], limit: int
) -> Iterator[Row]:
    """Yield rows of token ids.

    Args:
        rows: a split.
        where: what it is, for messages.
        columns: the column of inputs, and that of answers or none.
        limit: how many rows are read at most.

    Raises:
        UsageError: a row has something else than integers.
    """
    (source,), targets = columns
    if not targets:
        for table in tables(rows, limit):
            for ids in integers(table[source], where, source):
                yield sequence_row(ids)
        return

    target = targets[0]
    are_sequences = labels_lie_beside(rows, where, source, target)
    for table in tables(rows, limit):
        inputs, answers = (
            integers(table[source], where, source),
            integers(table[target], where, target),
        )
        for ids, labels in zip(inputs, answers, strict=True):
            if are_sequences and len(ids) == len(labels):
                yield sequence_row(ids, labels)
            else:
                yield pair_row(ids, labels)


def labels_lie_beside(rows: Dataset, where: str, source: str, target: str) -> bool:
    """Say whether rows are sequences for a decoder: a label is its token, or says it is not scored.

    The first ROWS_A_READ rows decide.
    """
    for table in tables(rows, min(ROWS_A_READ, len(rows))):
        inputs, answers = (
            integers(table[source], where, source),
            integers(table[target], where, target),
        )
        for ids, labels in zip(inputs, answers, strict=True):
            if len(ids) != len(labels) or not ((labels == ids) | (labels == IGNORED)).all():
                return False
    return True


def integers(column: pa.ChunkedArray, where: str, name: str) -> Iterator[np.ndarray]:
    """Yield the lists of a column, int64[n] each; a number alone is a list of one.

    Raises UsageError on anything else.
    """
    for value in column.to_pylist():
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(token) is int for token in ids):
            raise UsageError(
                f"{where}: the column {name} holds {column.type}, and no integer in some place; "
                "give columns of token ids, or of text, as --source and --target."
            )
        yield np.array(ids, np.int64)


# --- text -----------------------------------------------------------------------------------------


def text_rows(rows: Dataset, columns: tuple[list[str], list[str]], limit: int) -> Iterator[Row]:
    """Yield rows of text.

    Args:
        rows: a split.
        columns: the columns of inputs and of answers; several are joined by line breaks.
        limit: how many rows are read at most.
    """
    inputs, answers = columns
    for table in tables(rows, limit):
        flat = table.select([*inputs, *answers]).to_pylist()
        for row in flat:
            answer = joined(row, answers) if answers else None
            yield text_row(joined(row, inputs), answer)


def joined(row: dict[str, Any], columns: list[str]) -> str:
    """Return the values of columns as one text: strings as they are, others as JSON."""
    texts = []
    for column in columns:
        value = row[column]
        is_text = isinstance(value, str)
        texts.append(value if is_text else "" if value is None else json.dumps(value, default=str))
    return "\n".join(texts)
