"""Documents: a folder, a file or a split on the Hub -> its texts one after the other.

What is in memory at once is a part of a file, whatever its size, where its format allows that.
"""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from datasets import DatasetBuilder

from hf_synpre.data.connection import one_line_cause, read_error
from hf_synpre.data.encoding import PART_CHARACTERS, document_parts
from hf_synpre.data.folders import split_files, split_of
from hf_synpre.data.readers import (
    json_line_tables,
    parquet_batches,
    parquet_columns,
    parquet_size,
    plain_table,
    read_file,
)
from hf_synpre.data.splits import is_text, type_words
from hf_synpre.data.text_files import COMPRESSED, content_suffix, is_empty, read_blocks
from hf_synpre.errors import UsageError
from hf_synpre.files import refuse_pointer

logger = logging.getLogger(__name__)

# Names of a column of documents; the first that a table has is taken.
TEXT_COLUMNS = ("text", "content", "document", "article", "body", "passage", "raw_content")
# Rows of a file that are in memory at once; a row may be a book.
ROWS_A_READ = 64


def column_texts(builder: DatasetBuilder, source: str, split: str) -> Iterator[str]:
    """Yield the text of a split of a dataset on the Hub, as it is read.

    Raises UsageError if it has no such split or no column of text.
    """
    try:
        rows = iter(builder.as_streaming_dataset(split))
        first = next(rows, None)
        if first is None:
            return
        column = text_column(list(first), source)
        for row in itertools.chain([first], rows):
            text = row[column]
            if isinstance(text, str):
                yield text
            elif text is not None:
                raise UsageError(
                    f"corpus '{source}': the column {column} holds {type(text).__name__}, no text."
                )
    except UsageError:
        raise
    except (OSError, ValueError, KeyError) as error:
        cause = one_line_cause(error)
        message = f"corpus '{source}': no text of a split {split} could be read ({cause})."
        raise read_error(message, error) from error


def folder_texts(folder: Path, split: str) -> Iterator[str]:
    """Yield the documents of a split of a folder, in the order of the names of its files.

    A .txt file is one document. Of every other file the column of text has one in each row; nulls
    are left out.

    Raises:
        UsageError: the folder has no file of the split, or a file has no column of text.
    """
    for file in files_of_split(folder, split):
        yield from file_texts(file)


def files_of_split(folder: Path, split: str) -> list[Path]:
    """Return the files of a split of a folder. UsageError: it has none."""
    splits = split_files(folder)
    if split not in splits:
        raise UsageError(
            f"corpus '{folder}' has no {split} split (it has {', '.join(splits)}); put some of its "
            f"files into a folder {split}/ in it, or let their names begin with {split}."
        )
    return splits[split]


def check_splits(folder: Path) -> None:
    """Raise UsageError where a folder of text lacks the text to train on, or that of the loss."""
    if any(folder.rglob("*.ds")):  # token files, which have splits of their own
        return
    for split in ("train", "validation"):
        files_of_split(folder, split)


def folder_size(folder: Path, split: str) -> int | None:
    """Return about how many bytes of text the files of a split have, None where they are packed."""
    size = 0
    for file in files_of_split(folder, split):
        if file.suffix.lower() in COMPRESSED:
            return None
        size += parquet_size(file) if file.suffix == ".parquet" else file.stat().st_size
    return size


def file_texts(file: Path) -> Iterator[str]:
    """Yield the documents of a file: the texts of its column of text, or all of a .txt file.

    Of .txt, .parquet and lines of JSON a part is in memory at once; of other formats all.
    """
    refuse_pointer(file)
    suffix = content_suffix(file)
    if suffix == ".txt":
        if not is_empty(file):
            yield from document_parts(read_blocks(file, PART_CHARACTERS))

    elif suffix in (".jsonl", ".ndjson"):
        column = None
        for table in json_line_tables(file, ROWS_A_READ):
            column = column or text_column(table.column_names, str(file))
            if column in table.column_names:
                yield from texts_of(table, column, file)

    elif suffix == ".parquet":
        column = text_column(parquet_columns(file), str(file))
        for batch in parquet_batches(file, [column], ROWS_A_READ, bounded=False):
            yield from texts_of(pa.Table.from_batches([batch]), column, file)

    else:  # all in memory
        rows = read_file(file)
        column = text_column(rows.column_names, str(file))
        for batch in rows.data.table.select([column]).to_batches(max_chunksize=ROWS_A_READ):
            yield from texts_of(pa.Table.from_batches([batch]), column, file)


def split_token_files(folder: Path, split: str) -> list[Path]:
    """Return the token files of a split in a folder, by name. UsageError: there is none."""
    files = [file for file in sorted(folder.rglob("*.ds")) if split_of(file, folder) == split]
    if not files:
        raise UsageError(
            f"corpus '{folder}' has token files (.ds), and none whose name or folder says {split}, "
            f"as {split}_00000.ds does."
        )
    return files


def refuse_texts(folder: Path, split: str) -> Iterator[str]:
    """Raise UsageError, because a corpus of token files has no text."""
    raise UsageError(
        f"corpus '{folder}' has token files (.ds), no text to train a tokenizer on; give "
        "--tokenizer_name, the tokenizer that made them."
    )


def texts_of(table: pa.Table, column: str, file: Path) -> Iterator[str]:
    """Yield the texts of a column, without nulls. UsageError: it holds something else."""
    values = plain_table(table.select([column]), file)[column]
    if values.null_count == len(values):
        return
    if not is_text(values.type):
        raise UsageError(f"{file}: the column {column} holds {type_words(values.type)}, no text.")
    for text in values.to_pylist():
        if text is not None:
            yield text


def text_column(names: list[str], where: str) -> str:
    """Return the column that holds a corpus' text.

    Args:
        names: the names of the columns.
        where: the file or dataset, for messages.

    Raises:
        UsageError: none is one of TEXT_COLUMNS, and there are several.
    """
    for name in TEXT_COLUMNS:
        for column in names:
            if column.lower() == name:
                if name != TEXT_COLUMNS[0]:
                    logger.warning("%s: the text is its column %s", where, column)
                return column
    if len(names) == 1:
        logger.warning("%s: the text is its column %s", where, names[0])
        return names[0]
    raise UsageError(
        f"{where} has no column of text named {', '.join(TEXT_COLUMNS)}; it has "
        f"{', '.join(names)}. Rename one, or give the dataset to synpre self-pretrain, which has "
        "--columns."
    )
