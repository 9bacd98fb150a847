"""Splits: a folder, file or Hub id -> the splits of a dataset; a split -> the texts of its rows."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError

from hf_synpre.errors import UsageError

# File suffix -> the reader of the datasets library.
READERS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
}
# Columns that hold no text to train on, whatever their values look like.
NOT_TEXT = re.compile(
    r"(^|_)(id|idx|index|guid|uid|url|label|labels|split|source|source_id|tag|tags|type|ind)$", re.I
)
# Rows whose values say whether a column looks like text.
SAMPLE_ROWS = 200
# Characters of a library's error that are quoted.
QUOTED = 200


def open_splits(source: str, config: str | None = None, revision: str | None = None) -> DatasetDict:
    """Return the splits of a dataset.

    Args:
        source: a folder in Hub layout, a file (it becomes the split train), or a Hub id.
        config: the configuration of a dataset on the Hub that has several.
        revision: the revision of a dataset on the Hub.

    Raises:
        UsageError: there is no dataset, or it cannot be read.
    """
    path = Path(source)
    if not path.exists():
        return _hub_splits(source, config, revision)
    if path.is_file():
        return _file_splits(path)
    return _load_local(path, str(path))


def _hub_splits(hub_id: str, config: str | None, revision: str | None) -> DatasetDict:
    """Return the splits of a dataset on the Hub."""
    try:
        return load_dataset(hub_id, config, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:QUOTED]
        raise UsageError(
            f"The dataset '{hub_id}' could not be read from the Hub ({cause}); "
            "give a local copy as --data_dir."
        ) from error


def _file_splits(file: Path) -> DatasetDict:
    """Return the rows of a file as the split train."""
    reader = READERS.get(file.suffix)
    if reader is None:
        raise UsageError(
            f"{file} is no dataset; give a folder in Hub layout or a file: {', '.join(READERS)}."
        )

    options: dict[str, Any] = {"data_files": {"train": str(file)}}
    if file.suffix == ".tsv":
        options["sep"] = "\t"
    splits = _load_local(file, reader, **options)

    # A table with another separator is read without an error, into wrong columns.
    if reader == "csv":
        check_columns(file, splits["train"].column_names)
    return splits


def _load_local(path: Path, reader: str, **options: Any) -> DatasetDict:
    """Return what the datasets library reads of a file or a folder."""
    # A cache of its own: offline, the shared one may give another folder of the same name.
    with tempfile.TemporaryDirectory() as cache:
        try:
            return load_dataset(reader, cache_dir=cache, keep_in_memory=True, **options)
        except (OSError, ValueError, TypeError, StopIteration, DatasetGenerationError) as error:
            cause = " ".join(str(error.__cause__ or error).split()) or "it is empty"
            raise UsageError(
                f"{path} cannot be read as a dataset: {cause}; give one in Hub layout."
            ) from error


def check_columns(file: Path, names: list[str]) -> None:
    """Raise UsageError where a table of text was cut in other columns than its writer meant."""
    for name in names:
        if name.startswith("__index_level_") or ";" in name or "\t" in name:
            raise UsageError(
                f"{file} has the columns {', '.join(names)}: rows with more fields than the "
                "header, or another separator; save it with commas (.csv) or tabs (.tsv) and one "
                "field a column."
            )


def is_text(column_type: pa.DataType) -> bool:
    """Return whether a column holds strings."""
    return pa.types.is_string(column_type) or pa.types.is_large_string(column_type)


def is_list_of_text(column_type: pa.DataType) -> bool:
    """Return whether a column holds lists of strings: tokens, or the choices of a question."""
    is_list = pa.types.is_list(column_type) or pa.types.is_large_list(column_type)
    return is_list and is_text(column_type.value_type)


def guess_columns(rows: Dataset) -> list[str]:
    """Return the columns that hold text: strings, or lists of them, of mostly several words.

    Columns named like labels or ids (NOT_TEXT) are left out.

    Raises:
        UsageError: no column is left.
    """
    sample = rows.with_format("arrow")[: min(SAMPLE_ROWS, len(rows))]
    columns = []
    for name in sample.column_names:
        if not NOT_TEXT.search(name) and looks_like_text(sample[name]):
            columns.append(name)
    if not columns:
        raise UsageError(
            f"No column looks like text among {', '.join(rows.column_names)}; name them as columns."
        )
    return columns


def looks_like_text(column: pa.ChunkedArray) -> bool:
    """Return whether a column's values mostly have several words."""
    if not is_text(column.type) and not is_list_of_text(column.type):
        return False
    word_counts = []
    for value in column.to_pylist():
        if value:
            text = " ".join(value) if isinstance(value, list) else value
            word_counts.append(len(text.split()))
    return bool(word_counts) and float(np.median(word_counts)) > 1


def row_texts(rows: Dataset, columns: list[str]) -> list[list[str]]:
    """Return the texts of every row, column by column.

    Args:
        rows: the rows of a split.
        columns: the names of columns of strings, of choices (each is a text) or of tokens (they are
            joined).

    Raises:
        UsageError: a column is missing or holds something else.
    """
    table = rows.with_format("arrow")[:].flatten() if len(rows) else rows.data.table
    for name in columns:
        if name not in table.column_names:
            raise UsageError(
                f"Column {name} is not in the dataset; it has {', '.join(table.column_names)}."
            )
        if not is_text(table[name].type) and not is_list_of_text(table[name].type):
            raise UsageError(
                f"Column {name} holds {table[name].type}; a corpus is made of text. "
                "Name other columns."
            )

    values_by_column = [table[name].to_pylist() for name in columns]
    texts = []
    for values in zip(*values_by_column, strict=True):
        row: list[str] = []
        for value in values:
            row += value_texts(value)
        texts.append(row)
    return texts


def value_texts(value: str | list[str | None] | None) -> list[str]:
    """Return the non-empty texts of one value: a string, choices, or tokens, which are joined.

    A list is one of choices where one of its strings has several words.
    """
    if isinstance(value, list):
        are_tokens = all(len((part or "").split()) <= 1 for part in value)
        texts = [" ".join(part for part in value if part)] if are_tokens else value
    else:
        texts = [value]
    return [text.strip() for text in texts if text and text.strip()]
