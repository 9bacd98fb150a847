"""Separated values: a .csv or .tsv file -> its rows, whichever way its writer quoted them.

Three ways of quoting are known (DIALECTS). The one is taken under which every line has as many
fields as the header. If a file can be read in two ways with another number of rows, quotation marks
are characters of the text: no row may vanish between two of them.
"""

import csv
import itertools
import logging
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hf_synpre.data.cache import mapped_tables
from hf_synpre.data.text_files import read_lines
from hf_synpre.errors import UsageError

logger = logging.getLogger(__name__)

# Name -> options of csv.reader. With "quoted" a mark within quotes is doubled, as spreadsheets
# write; with "escaped" it has a backslash before it; with "plain" marks are characters.
DIALECTS: dict[str, dict[str, Any]] = {
    "quoted": {"strict": True},
    "escaped": {"strict": True, "doublequote": False, "escapechar": "\\"},
    "plain": {"quoting": csv.QUOTE_NONE},
}
# Rows that are Python objects at once.
ROWS_A_CHUNK = 10_000
# Words for a missing number. In a column of anything else they are text.
NOT_A_NUMBER = ("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "<NA>")
TRUTH_VALUES = ("True", "TRUE", "true", "False", "FALSE", "false")
INTEGER = r"^\s*[+-]?[0-9]+\s*$"
# A number of this kind is a name, such as a postal code: as a number it would lose its zeros.
LEADING_ZERO = r"^\s*[+-]?0[0-9]"
NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$|^\s*[+-]?inf(inity)?\s*$"
# A name of a column has fewer words; the first line of a file without header has more.
MOST_WORDS_OF_A_NAME = 8
# How a first line begins that has no names: Excel's hint at the separator, or a page of the web.
NO_NAMES = ("sep=", "<!doctype", "<html", "<?xml")


class TableError(ValueError):
    """A file is no table under a dialect; the text says which line."""


def read_separated(file: Path, separator: str) -> pa.Table:
    """Return the rows of a file of separated values.

    An empty field is null. A column whose values are all numbers, or words for a missing one, is a
    column of numbers, and one of truth values is one of bool; every other is text as it stands,
    also one of numbers with leading zeros.

    Args:
        file: the file; its first line names the columns.
        separator: what is between two fields.

    Raises:
        UsageError: it cannot be read as text, lines differ in their number of fields, a name comes
            twice, or its first line holds values.
    """
    try:
        table = best_table(file, separator)
    except TableError as error:
        raise UsageError(f"{file} cannot be read as a table: {error}") from error
    check_names(file, table)
    columns = [convert_column(column) for column in table.columns]
    return pa.table(columns, names=table.column_names)


def best_table(file: Path, separator: str) -> pa.Table:
    """Return a file's fields as strings, under the dialect that fits it. TableError: none does."""
    if not any('"' in line for line in read_lines(file)):
        return table_of(file, separator, "plain")

    plain = try_dialect(file, separator, "plain")
    quoted = try_dialect(file, separator, "quoted")
    if isinstance(quoted, TableError) and any('\\"' in line for line in read_lines(file)):
        quoted = try_dialect(file, separator, "escaped")
    if isinstance(plain, TableError):
        if isinstance(quoted, TableError):
            raise quoted
        return quoted

    # Marks are characters where as quotes they are unbalanced, or swallow the ends of lines. The
    # lines of a text that was written in quotes would not have all the fields of the header.
    if isinstance(quoted, TableError) or (
        plain.num_columns > 1 and quoted.num_rows < plain.num_rows
    ):
        logger.warning(
            "%s: quotation marks are read as characters of its text; as quotes they would join "
            "lines or be unbalanced",
            file,
        )
        return plain
    if separator == "\t" and not marks_are_quotes(file):
        return plain
    return quoted


def marks_are_quotes(file: Path) -> bool:
    """Say whether the marks of a file of tabs are quotes: some are doubled, or names have them."""
    lines = read_lines(file)
    return next(lines).startswith('"') or any('""' in line for line in lines)


def try_dialect(file: Path, separator: str, dialect: str) -> "pa.Table | TableError":
    """Return the table of a file under a dialect, or the error that says why it is none."""
    try:
        return table_of(file, separator, dialect)
    except TableError as error:
        return error


def table_of(file: Path, separator: str, dialect: str) -> pa.Table:
    """Return a file's fields as strings, an empty one as null.

    Raises:
        TableError: a line has another number of fields than the header, or a quotation mark is not
            closed.
    """
    rows = read_rows(file, separator, dialect)
    names = next(rows, None)
    if names is None:
        raise UsageError(
            f"{file} cannot be read as a dataset: it is empty; give a file that has rows."
        )
    if len(names) == 1:
        check_separator(file, names[0])
    names = [name.strip() or f"Unnamed: {index}" for index, name in enumerate(names)]
    schema = pa.schema([(name, pa.string()) for name in names])
    return pa.concat_tables([schema.empty_table(), *mapped_tables(row_tables(rows, schema))])


def row_tables(rows: Iterator[list[str]], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the fields of lines as tables, some lines at a time; an empty field is null."""
    while batch := list(itertools.islice(rows, ROWS_A_CHUNK)):
        columns = []
        for values in zip(*batch, strict=True):
            columns.append(pa.array([value or None for value in values], pa.string()))
        yield pa.table(columns, schema=schema)


def read_rows(file: Path, separator: str, dialect: str) -> Iterator[list[str]]:
    """Yield the fields of every line that is not blank, the header first; errors as `table_of`."""
    # A field may be a book: the limit of the csv module is for other uses.
    csv.field_size_limit(sys.maxsize)
    lines = read_lines(file, newline="")
    reader = csv.reader(lines, delimiter=separator, **DIALECTS[dialect])
    expected = 0
    try:
        for fields in reader:
            if not fields:
                continue
            expected = expected or len(fields)
            if len(fields) != expected:
                raise TableError(
                    f"line {reader.line_num} and the header differ in their number of fields, "
                    f"{len(fields)} and {expected}; save it with one field a column and quotation "
                    "marks doubled, or as .jsonl."
                )
            yield fields
    except csv.Error as error:
        raise TableError(
            f"a quotation mark before line {reader.line_num} is not closed or not doubled "
            f"({error}); save it with quotation marks doubled, or as .jsonl."
        ) from error


def check_separator(file: Path, header: str) -> None:
    """Raise UsageError where a header of one name is one of several with another separator."""
    for separator in (";", "\t", "|"):
        if separator in header:
            raise UsageError(
                f"{file} has the columns {header}: another separator than its suffix says; save it "
                "with commas (.csv) or tabs (.tsv) and one field a column."
            )


def check_names(file: Path, table: pa.Table) -> None:
    """Raise UsageError where the first line of a table cannot be the names of its columns."""
    names = table.column_names
    are_values = names[0].lower().startswith(NO_NAMES)
    for name, column in zip(names, table.columns, strict=True):
        is_number = re.match(NUMBER, name) is not None
        are_values |= len(name.split()) >= MOST_WORDS_OF_A_NAME
        has_sentence = any(len(other.split()) > 2 for other in names)
        are_values |= is_number and has_sentence and is_numeric(column)
    if are_values:
        raise UsageError(
            f"{file} has no header: its first line is {' | '.join(names)[:100]}; the first line "
            "must be the names of the columns."
        )


def convert_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of strings as numbers or truth values where all values are such."""
    if column.null_count == len(column):
        return column
    if all_values(column, partial(pc.is_in, value_set=pa.array(TRUTH_VALUES))):
        return pc.utf8_lower(column).cast(pa.bool_())
    if not is_numeric(column):
        return column
    if not all_values(column, lambda values: pc.invert(matches(values, LEADING_ZERO))):
        return column

    # Words for a missing number become null.
    missing = pc.is_in(column, value_set=pa.array(NOT_A_NUMBER))
    numbers = pc.if_else(missing, pa.scalar(None, pa.string()), column)
    numbers = pc.replace_substring_regex(pc.utf8_trim_whitespace(numbers), r"^\+", "")
    if all_values(numbers, partial(matches, pattern=INTEGER)):
        try:
            return numbers.cast(pa.int64())
        except pa.ArrowInvalid:  # more digits than an integer holds: a name, not a number
            return column
    return numbers.cast(pa.float64())


def is_numeric(column: pa.ChunkedArray) -> bool:
    """Say whether all values of a column are numbers or words for a missing one, and one is."""
    is_word = partial(pc.is_in, value_set=pa.array(NOT_A_NUMBER))
    if not all_values(column, lambda values: pc.or_(matches(values, NUMBER), is_word(values))):
        return False
    return not all_values(column, is_word)


def all_values(column: pa.ChunkedArray, test: Callable[[pa.Array], pa.Array]) -> bool:
    """Say whether a test holds for all values of a column that are not null, chunk by chunk."""
    return all(pc.all(test(chunk.drop_null()), min_count=0).as_py() for chunk in column.chunks)


def matches(values: pa.Array, pattern: str) -> pa.Array:
    """Return which strings a pattern matches."""
    return pc.match_substring_regex(values, pattern)
