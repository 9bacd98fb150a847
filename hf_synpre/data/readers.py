"""Readers: a file -> its rows as a table. Every file of data is opened here, whoever asks.

text_files.py knows encodings and compression, separated.py the quoting of .csv and .tsv. This
module knows the formats, and makes Arrow's many types of text and of lists one each.
"""

import itertools
import json
import logging
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, LargeList, List, Value
from datasets.table import table_cast

from hf_synpre.data.cache import mapped_tables
from hf_synpre.data.separated import read_separated
from hf_synpre.data.text_files import (
    COMPRESSED,
    check_unpacked,
    content_suffix,
    is_empty,
    read_lines,
    read_text,
)
from hf_synpre.errors import UsageError
from hf_synpre.files import parse_json, refuse_pointer

logger = logging.getLogger(__name__)

# Rows of text that are Python objects at once.
ROWS_A_CHUNK = 10_000
# Rows of Parquet that are unpacked at once: a row may be a book, or be made to exhaust a machine.
ROWS_A_BATCH = 64


def read_file(file: Path) -> Dataset:
    """Return the rows of a file.

    Args:
        file: a .parquet, .arrow, .csv, .tsv, .json, .jsonl or .txt file; those of text may be
            compressed (.gz, .bz2, .xz, .zst).

    Returns:
        Its rows. Strings and lists have one type each, whatever Arrow's type for them in the file.

    Raises:
        UsageError: the file is missing, is of another format, or cannot be read.
    """
    reader = READERS.get(content_suffix(file))
    packed_table = file.suffix.lower() in COMPRESSED and reader in (read_parquet, read_arrow)
    if reader is None or packed_table:
        raise UsageError(
            f"{file} is no dataset; give a folder in Hub layout or a file: {', '.join(READERS)}; "
            f"text may be packed ({', '.join(COMPRESSED)})."
        )
    if not file.is_file():
        raise UsageError(f"There is no file {file}.")
    refuse_pointer(file)
    try:
        return plain_dataset(as_dataset(plain_table(reader(file), file)))
    except UsageError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{file} cannot be read as a dataset: {one_line(error)}.") from error


def is_data_file(name: str | PurePath) -> bool:
    """Say whether the name of a file is that of a format that can be read."""
    return content_suffix(name) in READERS


# --- formats ------------------------------------------------------------------------------------


def read_parquet(file: Path) -> pa.Table:
    """Return the rows of a Parquet file."""
    tables = mapped_tables(pa.Table.from_batches([batch]) for batch in parquet_batches(file))
    table = pa.concat_tables([pq.read_schema(file).empty_table(), *tables])
    table.validate(full=True)
    return table


def parquet_columns(file: Path) -> list[str]:
    """Return the names of a Parquet file's columns. UsageError: it is no Parquet file."""
    try:
        return pq.read_schema(file).names
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{file} cannot be read as a dataset: {one_line(error)}.") from error


def parquet_size(file: Path) -> int:
    """Return about how many bytes a Parquet file unpacks to."""
    metadata = pq.read_metadata(file)
    # The chunks of a group are not asked: those of a broken file end the process.
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    return sum(group.total_byte_size for group in groups)


def parquet_batches(
    file: Path, columns: list[str] | None = None, rows: int = ROWS_A_BATCH, *, bounded: bool = True
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file, a few at a time.

    Args:
        file: the file.
        columns: the columns that are read; None for all.
        rows: how many rows a batch has.
        bounded: raise where all batches together have too many bytes.

    Raises:
        UsageError: it is no Parquet file, or unpacks to too many bytes.
    """
    try:
        reader = pq.ParquetFile(file)
        if columns is None:
            # The chunks of a group are not asked: those of a broken file end the process.
            for group in range(reader.metadata.num_row_groups):
                check_unpacked(file, reader.metadata.row_group(group).total_byte_size)

        size = 0
        for batch in reader.iter_batches(batch_size=rows, columns=columns):
            size = size + batch.nbytes if bounded else batch.nbytes
            check_unpacked(file, size)
            yield batch
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{file} cannot be read as a dataset: {one_line(error)}.") from error


def read_arrow(file: Path) -> pa.Table:
    """Return the rows of an Arrow file, as a stream or with random access (Feather)."""
    try:
        with pa.memory_map(str(file)) as source:
            try:
                table = pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid:
                source.seek(0)
                table = pa.ipc.open_stream(source).read_all()
            check_unpacked(file, table.nbytes)
            # Offsets of a broken file may lead anywhere in memory.
            table.validate(full=True)
            return table
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{file} cannot be read as a dataset: {one_line(error)}.") from error


def read_commas(file: Path) -> pa.Table:
    """Return the rows of a .csv file."""
    return read_separated(file, ",")


def read_tabs(file: Path) -> pa.Table:
    """Return the rows of a .tsv file."""
    return read_separated(file, "\t")


def read_text_lines(file: Path) -> pa.Table:
    """Return the lines of a text file as the column text. An empty file has none, which is said."""
    if is_empty(file):
        return pa.table({"text": pa.array([], pa.string())})
    lines = (line.removesuffix("\n") for line in read_lines(file))
    blocks = iter(lambda: list(itertools.islice(lines, ROWS_A_CHUNK)), [])
    tables = (pa.table({"text": pa.array(block, pa.string())}) for block in blocks)
    return pa.concat_tables(mapped_tables(tables))


def read_json_lines(file: Path) -> pa.Table:
    """Return the rows of a file with one JSON object a line. Blank lines are skipped."""
    return join_tables(mapped_tables(json_line_tables(file, ROWS_A_CHUNK)), file)


def json_line_tables(file: Path, rows_a_table: int) -> Iterator[pa.Table]:
    """Yield the rows of a file with one JSON object a line, some at a time; at least one table."""
    rows: list[dict[str, Any]] = []
    is_first = True
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        rows.append(json_row(json_value(line, f"{file} line {number}"), f"{file} line {number}"))
        if len(rows) == rows_a_table:
            yield rows_table(rows, file)
            rows, is_first = [], False
    if rows or is_first:
        yield rows_table(rows, file)


def read_json(file: Path) -> pa.Table:
    """Return the rows of a .json file: a list of objects, columns by name, or an object a line."""
    text = read_text(file)
    try:
        content = parse_json(text)
    except ValueError as error:
        first_line = text.lstrip().partition("\n")[0]
        if first_line.rstrip().endswith("}") and first_line.startswith("{"):
            return read_json_lines(file)
        raise UsageError(f"{file} cannot be read as a dataset: {error}.") from error

    if isinstance(content, dict):
        check_orientation(content, file)
        columns = list(content.values())
        lengths = {len(column) for column in columns if isinstance(column, list)}
        if len(lengths) != 1 or not all(isinstance(column, list) for column in columns):
            return rows_table([content], file)
        content = [dict(zip(content, values, strict=True)) for values in zip(*columns, strict=True)]
    if not isinstance(content, list):
        raise UsageError(f"{file} holds {type(content).__name__}; give a list of objects.")
    rows = [json_row(row, f"{file} row {number}") for number, row in enumerate(content)]
    return rows_table(rows, file)


def check_orientation(content: dict[str, Any], file: Path) -> None:
    """Raise UsageError where the rows of a JSON object seem to be below one of its keys.

    They may also be objects below keys of their own, or lists beside the names of the columns, as
    pandas writes them.
    """
    remedy = "give a list of rows alone (in pandas orient='records'), or one row a line as .jsonl."
    if content and all(isinstance(value, dict) for value in content.values()):
        raise UsageError(f"{file} holds an object of objects; {remedy}")
    if {"columns", "data"} <= set(content):
        raise UsageError(f"{file} holds the names of the columns apart from the rows; {remedy}")
    are_columns = len(content) > 1 and all(isinstance(value, list) for value in content.values())
    for name, value in content.items():
        if not are_columns and isinstance(value, list) and value and isinstance(value[0], dict):
            raise UsageError(
                f"{file} holds one object, whose key {name} has a list of objects; {remedy}"
            )


# Suffix -> its reader.
READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".parquet": read_parquet,
    ".csv": read_commas,
    ".tsv": read_tabs,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".txt": read_text_lines,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}


# --- JSON values as columns -----------------------------------------------------------------------


def json_value(text: str, where: str) -> Any:
    """Return the value of a text of JSON. Raises UsageError if there is none."""
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(f"{where} cannot be read as JSON: {error}.") from error


def json_row(value: Any, where: str) -> dict[str, Any]:
    """Return a row of JSON. Raises UsageError if it is no object."""
    if not isinstance(value, dict):
        raise UsageError(
            f"{where} holds {type(value).__name__}; give an object a row, with the columns as keys."
        )
    return value


def rows_table(rows: list[dict[str, Any]], file: Path) -> pa.Table:
    """Return JSON rows as a table. A key that a row lacks is null."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise UsageError(
            f"{file} cannot be read as a dataset: it is empty; give a file that has rows."
        )
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        columns.append(json_column(values, name, file))
    return pa.table(columns, names=names)


def json_column(values: list[Any], name: str, file: Path) -> pa.Array:
    """Return the values of a key as a column; values of several types as JSON, strings as they are.

    Raises:
        UsageError: a string is no text: it has half of a surrogate pair.
    """
    try:
        return pa.array(values)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{file}: the column {name} has half of a surrogate pair ({error.reason}); write the "
            "file as UTF-8."
        ) from error
    except (pa.ArrowException, OverflowError):
        logger.warning("%s: the column %s has values of several types, read as text", file, name)
    texts = []
    for value in values:
        is_text = value is None or isinstance(value, str)
        texts.append(value if is_text else json.dumps(value, ensure_ascii=False))
    return pa.array(texts, pa.string())


def join_tables(tables: list[pa.Table], where: object) -> pa.Table:
    """Return the rows of tables in order; a column that some of them lack is null there.

    Args:
        tables: at least one.
        where: what they are, for messages.

    Raises:
        UsageError: a column has types that do not fit together.
    """
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UsageError(
            f"{where}: the parts have columns of other types ({one_line(error)}); give every "
            "column one type."
        ) from error


# --- one type for text, one for lists -------------------------------------------------------------


def plain_table(table: pa.Table, file: Path) -> pa.Table:
    """Return a table without Arrow's types for special layouts.

    Dictionaries and views become what they stand for. Columns of types that the datasets library
    does not know, such as maps, are left out with a warning.

    Raises:
        UsageError: a name comes twice, or no column is left.
    """
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"{file} has several columns named {', '.join(twice)}; give every column a name of "
            "its own."
        )

    columns, fields = [], []
    for column, field in zip(table.columns, table.schema, strict=True):
        try:
            field = field.with_type(plain_type(field.type))
            Features.from_arrow_schema(pa.schema([field]))
            columns.append(plain_column(column, field.type))
        except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
            logger.warning("%s: the column %s is left out: %s", file, field.name, one_line(error))
            continue
        fields.append(field)
    if table.num_columns and not columns:
        raise UsageError(
            f"{file} cannot be read as a dataset: no column has a type that can be read; it has "
            f"{', '.join(f'{field.name} ({field.type})' for field in table.schema)}."
        )
    return pa.table(columns, schema=pa.schema(fields, table.schema.metadata))


def plain_column(column: pa.ChunkedArray, column_type: pa.DataType) -> pa.ChunkedArray:
    """Return a column in its plain type."""
    if not has_views(column.type):
        return column.cast(column_type)
    # Arrow's cast of a view of lists forgets its last offset, and that of categories lacks views.
    chunks = [pa.array(chunk.to_pylist(), column_type) for chunk in column.chunks]
    return pa.chunked_array(chunks, column_type)


def has_views(column_type: pa.DataType) -> bool:
    """Say whether a type has a view of lists in it, or categories that are views of strings."""
    if pa.types.is_dictionary(column_type):
        return pa.types.is_string_view(column_type.value_type)
    if pa.types.is_list_view(column_type) or pa.types.is_large_list_view(column_type):
        return True
    children = [column_type.field(index).type for index in range(column_type.num_fields)]
    return any(map(has_views, children))


def plain_type(column_type: pa.DataType) -> pa.DataType:
    """Return the type that a type stands for: string of a view or of a dictionary of strings.

    Raises ValueError where the fields of a struct have no names of their own.
    """
    if pa.types.is_dictionary(column_type):
        return plain_type(column_type.value_type)
    if pa.types.is_string_view(column_type):
        return pa.string()
    if pa.types.is_struct(column_type):
        names = [field.name for field in column_type]
        ends = [name.partition("\0")[0] for name in names]  # where the datasets library ends them
        if len(set(ends)) < len(names):
            raise ValueError(f"a struct has several fields of one name ({', '.join(ends)})")
        return pa.struct([field.with_type(plain_type(field.type)) for field in column_type])
    is_view = pa.types.is_list_view(column_type) or pa.types.is_large_list_view(column_type)
    if is_view or pa.types.is_list(column_type) or pa.types.is_fixed_size_list(column_type):
        return pa.list_(plain_type(column_type.value_type))
    if pa.types.is_large_list(column_type):
        return pa.large_list(plain_type(column_type.value_type))
    return column_type


def as_dataset(table: pa.Table) -> Dataset:
    """Return a table as a dataset.

    It gets a random fingerprint: for one of its content the datasets library would copy all of it
    into memory, and nothing here is cached by it.
    """
    return Dataset(table, fingerprint=secrets.token_hex(8))


def plain_dataset(rows: Dataset) -> Dataset:
    """Return rows whose lists have any length and whose strings are strings.

    The features of a dataset may say otherwise: lists of a fixed length, lists and strings with
    64-bit offsets. ClassLabel and all others stay.
    """
    features = Features({name: plain_feature(value) for name, value in rows.features.items()})
    if features == rows.features:
        return rows
    return as_dataset(table_cast(rows.data.table, features.arrow_schema))


def plain_feature(feature: Any) -> Any:
    """Return a feature with lists of any length and with strings; see `plain_dataset`."""
    if isinstance(feature, List | LargeList):
        return List(plain_feature(feature.feature))
    if isinstance(feature, dict):
        return {name: plain_feature(value) for name, value in feature.items()}
    if isinstance(feature, Value) and feature.dtype in ("string_view", "large_string"):
        return Value("string")
    return feature


def one_line(error: BaseException) -> str:
    """Return a library's error in one line."""
    return " ".join(str(error).split()).rstrip(".")
