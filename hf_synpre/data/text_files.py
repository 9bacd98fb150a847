"""Text files: a file in any Unicode encoding, compressed or not -> its characters, or a refusal.

A file that begins with a byte-order mark is read in the encoding that the mark names, any other
file as UTF-8. Nothing is replaced: bytes that are no text of that encoding are refused.
"""

import bz2
import codecs
import gzip
import io
import logging
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any, TextIO, cast

import pyarrow as pa

from hf_synpre.errors import UsageError
from hf_synpre.files import refuse_pointer

logger = logging.getLogger(__name__)

# Byte-order mark -> encoding. The mark of UTF-32 begins with that of UTF-16, so it comes first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def open_zstandard(file: Path) -> IO[bytes]:
    """Return the unpacked bytes of a .zst file."""
    return cast(IO[bytes], pa.CompressedInputStream(pa.OSFile(str(file)), "zstd"))


# Suffix of a compressed file -> what opens it.
OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": open_zstandard,
}
COMPRESSED = tuple(OPENERS)
# What a file may unpack to: so many bytes, or so many times its size on disk if that is more.
# Text of a language is packed to a fifth at best; a file beyond both is made to exhaust a machine.
MOST_BYTES = 2**30
MOST_TIMES = 100


def most_bytes(file: Path) -> int:
    """Return how many bytes a file may unpack to."""
    return max(MOST_BYTES, MOST_TIMES * file.stat().st_size)


def check_unpacked(file: Path, size: int) -> None:
    """Raise UsageError where a file unpacks to more bytes than it may."""
    if size > most_bytes(file):
        raise UsageError(
            f"{file} has {file.stat().st_size:,} bytes and unpacks to more than "
            f"{most_bytes(file):,}; give it unpacked, or a part of it."
        )


def content_suffix(file: str | PurePath) -> str:
    """Return the suffix of a file's format in small letters: .csv for rows.CSV.gz."""
    path = Path(file)
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix.lower()


class UnpackedStream(io.RawIOBase):
    """The unpacked bytes of a file, up to as many as it may have.

    Args:
        file: the file, for messages.
        source: its unpacked bytes.
    """

    def __init__(self, file: Path, source: IO[bytes]):
        self.file, self.source, self.size = file, source, 0

    def readable(self) -> bool:
        """Say that the stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return how many bytes it has. Raises UsageError where there are too many.

        Raises:
            UsageError: the file unpacks to more than `most_bytes`.
        """
        content = self.source.read(len(buffer))
        buffer[: len(content)] = content
        self.size += len(content)
        check_unpacked(self.file, self.size)
        return len(content)

    def close(self) -> None:
        """Close the file."""
        self.source.close()
        super().close()


def open_bytes(file: Path) -> io.BufferedReader:
    """Return the unpacked bytes of a file; its last suffix says how it is packed."""
    refuse_pointer(file)
    opener = OPENERS.get(file.suffix.lower())
    if opener is None:
        return file.open("rb")
    return io.BufferedReader(UnpackedStream(file, opener(file)))


def is_empty(file: Path) -> bool:
    """Say whether a file of text has no bytes, unpacked; a line is logged if so."""
    with open_bytes(file) as content:
        if content.peek(1):
            return False
    logger.warning("%s is empty, so it gives no text.", file)
    return True


@contextmanager
def open_text(file: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file.

    Args:
        file: the file.
        newline: as for `open`; "" leaves the ends of lines as they are.

    Yields:
        Its characters, without a byte-order mark.

    Raises:
        UsageError: the file is empty, is not text of its encoding, cannot be unpacked, or unpacks
            to too many bytes. What a reader of the characters raises is not touched.
    """
    try:
        with open_bytes(file) as content:
            beginning = content.peek(4)[:4]
            if not beginning:
                raise UsageError(
                    f"{file} cannot be read as a dataset: it is empty; give a file that has rows."
                )
            encoding = "utf-8"
            for mark, marked_encoding in MARKS.items():
                if beginning.startswith(mark):
                    encoding = marked_encoding
                    break
            with io.TextIOWrapper(content, encoding, errors="strict", newline=newline) as text:
                yield text
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file} cannot be read as a dataset: its bytes are no {error.encoding} text "
            f"({error.reason}, byte 0x{error.object[error.start]:02x}); save it as UTF-8."
        ) from error
    except UnicodeError as error:
        raise UsageError(
            f"{file} cannot be read as a dataset: {error}; save it as UTF-8."
        ) from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UsageError(f"{file} cannot be read as a dataset: {error}.") from error


def check_characters(file: Path, text: str) -> None:
    """Raise UsageError where a text has the character 0, as UTF-16 without a mark has."""
    if "\0" in text:
        raise UsageError(
            f"{file} cannot be read as a dataset: it has bytes of value 0, so it is binary, or "
            "UTF-16 without a byte-order mark; save it as UTF-8."
        )


def read_lines(file: Path, newline: str | None = None) -> Iterator[str]:
    """Yield the lines of a text file with their ends. Arguments and errors as for `open_text`."""
    with open_text(file, newline) as lines:
        for line in lines:
            check_characters(file, line)
            yield line


def read_blocks(file: Path, characters: int) -> Iterator[str]:
    """Yield the characters of a text file, so many at a time. Errors as for `open_text`."""
    with open_text(file) as content:
        while block := content.read(characters):
            check_characters(file, block)
            yield block


def read_text(file: Path) -> str:
    """Return all characters of a text file. Errors as for `open_text`."""
    with open_text(file) as content:
        text = content.read()
    check_characters(file, text)
    return text
