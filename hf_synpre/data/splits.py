"""Splits: a folder, file or Hub id -> the splits of a dataset; a split -> the texts of its rows."""

import re
from collections.abc import Collection
from fnmatch import fnmatch
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, load_dataset, load_from_disk
from datasets.info import DatasetInfosDict
from datasets.table import table_cast
from huggingface_hub import HfApi, constants, snapshot_download

from hf_synpre.data.connection import one_line_cause, read_error
from hf_synpre.data.folders import configured_patterns, is_data, split_files, usual_case
from hf_synpre.data.readers import (
    READERS,
    as_dataset,
    join_tables,
    one_line,
    plain_dataset,
    read_file,
)
from hf_synpre.data.text_files import content_suffix
from hf_synpre.errors import UsageError

# Files of a folder that `save_to_disk` of the datasets library wrote.
SAVED_TO_DISK = ("dataset_dict.json", "state.json")

# Suffixes of files that hold Arrow's tables, whose types say how they are read; others are text.
ARROW_TABLES = (".parquet", ".arrow", ".feather")
TEXT_TABLES = tuple(suffix for suffix in READERS if suffix not in ARROW_TABLES)

# Columns that hold no text to train on, whatever their values look like.
NOT_TEXT = re.compile(
    r"(^|_)(id|idx|index|guid|uid|url|label|labels|split|source|source_id|tag|tags|type|ind)$", re.I
)
# Characters of scripts that write words without blanks: Chinese, Japanese, Thai, Lao, Khmer and
# Burmese. Names of classes have less than two words of so many characters.
UNPARTED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\U00020000-\U0003ffff]"
)
CHARACTERS_A_WORD = 4
# Rows whose values say whether a column looks like text.
SAMPLE_ROWS = 200
# Characters of a library's error that are quoted.
QUOTED = 200


def open_splits(source: str, config: str | None = None, revision: str | None = None) -> DatasetDict:
    """Return the splits of a dataset.

    Args:
        source: a folder, a file (it becomes the split train), or a Hub id. folders.py says which
            files of a folder make which split, readers.py which files can be read.
        config: the configuration of a dataset that has several.
        revision: the revision of a dataset on the Hub.

    Raises:
        UsageError: there is no dataset, it cannot be read, or its split train has no rows.
    """
    splits = _open_splits(source, config, revision)
    if "train" in splits and not len(splits["train"]):
        columns = ", ".join(splits["train"].column_names)
        below = f": there is nothing below the names of its columns, {columns}" if columns else ""
        raise UsageError(f"{source} has no rows of train{below}; give a file that has rows.")
    return splits


def _open_splits(source: str, config: str | None, revision: str | None) -> DatasetDict:
    """Return the splits of a dataset, whatever they hold; see `open_splits`."""
    path = Path(source)
    if not path.exists():
        tables = hub_tables(source, config, revision)
        if tables is None:
            return _hub_splits(source, config, revision)
        path, revision = tables, None
    if revision is not None:
        raise UsageError(
            f"{source} is on this machine, and the revision {revision} is one of the Hub; leave it "
            "out."
        )
    is_saved = any((path / name).is_file() for name in SAVED_TO_DISK)
    if config is not None and (is_saved or path.is_file()):
        raise UsageError(f"{source} has no configurations, and {config} was given; leave it out.")
    if path.is_file():
        return DatasetDict(train=read_file(path))
    if is_saved:
        return _saved_splits(path)

    files_by_split = split_files(path, config)
    features = _described_features(path, config)
    splits = {}
    for split, files in files_by_split.items():
        parts = [read_file(file) for file in files]
        where = f"{path}, split {split}"
        splits[split] = with_features(join_rows(parts, where), features, where)
    return DatasetDict(splits)


def _saved_splits(folder: Path) -> DatasetDict:
    """Return the splits of a folder that `save_to_disk` wrote; rows alone are the split train."""
    try:
        saved = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UsageError(f"{folder} cannot be read as a dataset: {one_line(error)}.") from error
    if isinstance(saved, Dataset):
        saved = DatasetDict(train=saved)
    return DatasetDict({usual_case(split): plain_dataset(rows) for split, rows in saved.items()})


def _described_features(folder: Path, config: str | None) -> Features | None:
    """Return the types of the columns that a folder's README describes, such as names of labels."""
    try:
        infos = DatasetInfosDict.from_directory(str(folder))
    except Exception:  # whatever the library raises on what a README says
        return None
    if config is None and len(infos) == 1:
        return next(iter(infos.values())).features
    info = infos.get(config or "default")
    return None if info is None else info.features


def join_rows(parts: list[Dataset], where: str) -> Dataset:
    """Return the rows of several files in order.

    Raises UsageError if their columns differ, or there is no file.
    """
    if not parts:
        raise UsageError(f"{where} has no files of rows; name some, or leave the split out.")
    if len(parts) == 1:
        return parts[0]
    names = set(parts[0].column_names)
    for part in parts:
        if set(part.column_names) != names:
            raise UsageError(
                f"{where}: its files have different columns, {', '.join(parts[0].column_names)} "
                f"and {', '.join(part.column_names)}; give files of one table."
            )
    return as_dataset(join_tables([part.data.table for part in parts], where))


def with_features(rows: Dataset, features: Features | None, where: str) -> Dataset:
    """Return rows whose columns have the types that a README describes, where it names them all.

    Raises UsageError where a value does not fit its type.
    """
    if features is None or set(features) != set(rows.column_names):
        return rows
    ordered = Features({name: features[name] for name in rows.column_names})
    try:
        return plain_dataset(as_dataset(table_cast(rows.data.table, ordered.arrow_schema)))
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UsageError(
            f"{where}: its README describes other columns ({one_line(error)}); mend its "
            "dataset_info."
        ) from error


def hub_tables(
    hub_id: str,
    config: str | None = None,
    revision: str | None = None,
    suffixes: Collection[str] = TEXT_TABLES,
) -> Path | None:
    """Return a local copy of a dataset on the Hub whose files are text, such as .csv.

    The datasets library reads .csv and .tsv with pandas, which takes words like NA for missing
    values and joins lines between quotation marks. readers.py reads them as they are written.

    Args:
        hub_id: the dataset.
        config: its configuration; None where it has only one or a default.
        revision: a branch, tag or commit.
        suffixes: the formats of which a copy is made, of .csv, .tsv, .json, .jsonl, .txt ...

    Returns:
        The folder; None where the files are of another format, where the README has options that
        only the datasets library knows, or where the Hub does not answer.
    """
    hub: dict[str, Any] = {"repo_type": "dataset", "revision": revision}
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=["README.md"], **hub))
        if constants.HF_HUB_OFFLINE:  # what an earlier run has downloaded
            names = [file.relative_to(folder).as_posix() for file in folder.rglob("*")]
        else:
            names = HfApi().list_repo_files(hub_id, **hub)
    except (OSError, ValueError):
        return None

    # The files of the configuration, or all files of data.
    names = [name for name in names if is_data(PurePosixPath(name))]
    try:
        patterns = configured_patterns(folder, config)
    except UsageError:
        return None
    if patterns is not None:
        names = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    if not names or not all(content_suffix(name) in suffixes for name in names):
        return None
    wanted = ["README.md", *map(escape, names)]
    return Path(snapshot_download(hub_id, allow_patterns=wanted, **hub))


def hub_answer(hub_id: str, revision: str | None = None) -> Exception | None:
    """Ask the Hub for a dataset that could not be read; return its refusal, None without one."""
    try:
        HfApi().dataset_info(hub_id, revision=revision)
    except (OSError, ValueError) as error:
        return error
    return None


def _hub_splits(hub_id: str, config: str | None, revision: str | None) -> DatasetDict:
    """Return the splits of a dataset on the Hub."""
    try:
        splits = load_dataset(hub_id, config, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        answer = hub_answer(hub_id, revision) or error
        cause = one_line_cause(answer)[:QUOTED]
        message = (
            f"The dataset '{hub_id}' could not be read from the Hub ({cause}); "
            "give a local copy, of a downstream task as --data_dir."
        )
        raise read_error(message, answer) from error
    return DatasetDict({usual_case(split): plain_dataset(rows) for split, rows in splits.items()})


def is_text(column_type: pa.DataType) -> bool:
    """Return whether a column holds strings; readers.py leaves no other types of them."""
    return pa.types.is_string(column_type) or pa.types.is_large_string(column_type)


def type_words(column_type: pa.DataType) -> str:
    """Return in words what a column of an Arrow type holds, for messages."""
    if is_text(column_type):
        return "text"
    if pa.types.is_integer(column_type):
        return "whole numbers"
    if pa.types.is_floating(column_type) or pa.types.is_decimal(column_type):
        return "numbers"
    if pa.types.is_boolean(column_type):
        return "true and false"
    if pa.types.is_list(column_type) or pa.types.is_large_list(column_type):
        return f"lists of {type_words(column_type.value_type)}"
    return str(column_type)


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
        if isinstance(value, list):
            value = " ".join(part for part in value if part)
        if value:
            word_counts.append(count_words(value))
    return bool(word_counts) and float(np.median(word_counts)) > 1


def count_words(text: str) -> int:
    """Return how many words a text has; where words are not parted, some characters are one."""
    unparted = len(UNPARTED.findall(text))
    return max(len(text.split()), unparted // CHARACTERS_A_WORD)


def row_texts(rows: Dataset, columns: list[str]) -> list[list[str]]:
    """Return the texts of every row, column by column.

    Args:
        rows: the rows of a split.
        columns: the names of columns of strings, of choices (each is a text) or of tokens (they are
            joined).

    Raises:
        UsageError: a column is missing or holds something else.
    """
    return table_texts(rows.with_format("arrow")[:] if len(rows) else rows.data.table, columns)


def table_texts(table: pa.Table, columns: list[str]) -> list[list[str]]:
    """Return the texts of every row of a table. Arguments and errors as for `row_texts`."""
    table = table.flatten()
    for name in columns:
        if name not in table.column_names:
            raise UsageError(
                f"Column {name} is not in the dataset; it has {', '.join(table.column_names)}."
            )
        if not is_text(table[name].type) and not is_list_of_text(table[name].type):
            raise UsageError(
                f"Column {name} holds {type_words(table[name].type)}; a corpus is made of text. "
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
        are_tokens = all(count_words(part or "") <= 1 for part in value)
        texts = [" ".join(part for part in value if part)] if are_tokens else value
    else:
        texts = [value]
    return [text.strip() for text in texts if text and text.strip()]
