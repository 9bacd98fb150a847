"""Corpora: a name -> documents to pre-train on, for training and for a validation loss.

A name is "stdlib" (Python's own sources), a folder or file, or a Hub id. With a TextSpec the corpus
is the text of the dataset's train split, and no row of another split is in it; without one it is
the text of the splits as they are.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset_builder

from hf_synpre.data import stdlib
from hf_synpre.data.cache import folder_digest, mapped_tables
from hf_synpre.data.connection import one_line_cause, read_error
from hf_synpre.data.documents import (
    column_texts,
    folder_size,
    folder_texts,
    refuse_texts,
    split_token_files,
)
from hf_synpre.data.readers import as_dataset, is_data_file
from hf_synpre.data.row_hashes import (
    RowDocuments,
    TextRows,
    first_of_each,
    normalized_text,
    text_hashes,
)
from hf_synpre.data.splits import guess_columns, hub_answer, hub_tables, open_splits
from hf_synpre.data.text_spec import STDLIB, TextSpec, check_stdlib
from hf_synpre.errors import UsageError

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
# Sentences that are in memory at once.
SENTENCES_A_TABLE = 10_000
# With so many rows held out the validation loss is exact enough.
MOST_HELD_OUT = 500


@dataclass(frozen=True)
class Corpus:
    """Documents to pre-train on."""

    # Split ("train", or "validation" for a loss) -> its documents.
    texts: Callable[[str], Iterable[str]]
    # What results say of the corpus: its name, and a digest or the keys that `dataset_corpus`
    # lists.
    metadata: dict[str, Any] = field(default_factory=dict)
    # All that decides the documents, by which their ids are found again; None where it is not
    # known.
    source: dict[str, Any] | None = None
    # The folder whose files' digest is in `source`.
    path: Path | None = None
    # For a corpus that is token ids already: split -> its token files, see token_files.py.
    token_files: Callable[[str], list[Path]] | None = None

    @property
    def name(self) -> str:
        """The name, without the folders before it."""
        return Path(str(self.metadata.get("name", "corpus"))).name

    def size(self, split: str) -> int | None:
        """Return about how many bytes the texts of a split have, None where that is not known."""
        if self.path is not None:
            return folder_size(self.path, split)
        return self.metadata.get("bytes") if split == "train" else None


# --- from a name to documents -------------------------------------------------------------------


def open_corpus(name: str, data_dir: str | None = None, text: TextSpec | None = None) -> Corpus:
    """Return the corpus of a name.

    Args:
        name: "stdlib", a folder (in `data_dir` or not), a file, or a Hub id NAMESPACE/NAME.
        data_dir: the folder of local copies.
        text: what is taken from the dataset's train split. Without it the corpus is the column text
            of both splits, or the text of a folder's files, as they are. stdlib reads none of it.

    Raises:
        UsageError: there is no such corpus, it has no text, or it does not read an option of
            `text`.
    """
    if name == STDLIB:
        check_stdlib(text)
        return Corpus(stdlib.texts, {"name": name}, source={"digest": stdlib_digest()})

    source = corpus_source(name, data_dir, files=text is not None)
    path = Path(source)
    if text is not None:
        shown_name = Path(name).name if path.exists() else name
        splits = open_splits(source, text.config)
        return dataset_corpus(splits, replace(text, config=None), shown_name)

    if not path.exists():
        return hub_corpus(source)
    digest = folder_digest(path)
    metadata = {"name": name, "digest": digest}
    if any(path.rglob("*.ds")):
        return Corpus(
            partial(refuse_texts, path), metadata, token_files=partial(split_token_files, path)
        )
    return Corpus(partial(folder_texts, path), metadata, source={"digest": digest}, path=path)


def corpus_source(name: str, data_dir: str | None = None, *, files: bool = False) -> str:
    """Return where a corpus is: the path of a folder or file, or a Hub id.

    Args:
        name: a folder or file, in `data_dir` or not, or a Hub id.
        data_dir: the folder of local copies.
        files: allow a file.

    Raises:
        UsageError: it is nowhere.
    """
    for path in (Path(data_dir or ".") / name, Path(name)):
        if path.is_file() and not files:
            raise UsageError(
                f"corpus '{name}' is a file; give its folder, with train*.txt and validation*.txt."
            )
        if path.exists():
            return str(path)

    if is_data_file(name):
        raise UsageError(
            f"There is no file {name}; "
            "give one that exists, or a folder, or a Hub id NAMESPACE/NAME."
        )
    is_hub_id = name.count("/") == 1 and not name.startswith(("/", "."))
    if not is_hub_id:
        folder = f"a folder in {data_dir}" if data_dir else "a folder (see --data_dir)"
        raise UsageError(
            f"Unknown corpus '{name}'. Allowed: stdlib, {folder}, a Hub id NAMESPACE/NAME."
        )
    return name


def hub_corpus(name: str) -> Corpus:
    """Return the text of a dataset on the Hub, as it is read from there.

    Raises UsageError if it cannot be found.
    """
    tables = hub_tables(name, suffixes=(".csv", ".tsv"))
    if tables is not None:
        source = {"digest": folder_digest(tables)}
        return Corpus(partial(folder_texts, tables), {"name": name}, source=source)
    try:
        builder = load_dataset_builder(name)
    except (OSError, ValueError, KeyError) as error:
        answer = hub_answer(name) or error
        message = f"corpus '{name}': it could not be read from the Hub ({one_line_cause(answer)})."
        raise read_error(message, answer) from error
    source = {"hub": name, "config": builder.config.name, "revision": str(builder.hash)}
    return Corpus(partial(column_texts, builder, name), {"name": name}, source=source)


# --- the text of a dataset's train split --------------------------------------------------------


def dataset_corpus(splits: DatasetDict | Dataset, text: TextSpec, name: str = "dataset") -> Corpus:
    """Return the text of the train split as a corpus; no row of another split is in it.

    Args:
        splits: the splits of a dataset, or the rows of the train split alone.
        text: what is taken, and in which order; its `config` cannot be chosen any more.
        name: the dataset's name in errors and metadata.

    Returns:
        The corpus. Its metadata: name; columns; rows trained on; held_out_rows, for the loss;
        dropped_rows_of_other_splits (train rows whose text is also a row of another split);
        checked_against (rows of each other split); with_test; order; duplicates_dropped (texts);
        bytes and sha256 of the train documents.

    Raises:
        UsageError: the split train or its text is missing, or an option of `text` is not read.
    """
    if isinstance(splits, Dataset):
        splits = {"train": splits}
    text.check_options(name, has_splits=len(splits) > 1, has_configs=False)
    if "train" not in splits:
        raise UsageError(f"{name} has no train split; it has {', '.join(splits)}.")

    # Hash every row: those to train on, if they have text, and those of other splits.
    columns = text.columns or guess_columns(splits["train"])
    used = [split for split in splits if split == "train" or text.with_test]
    others = [split for split in splits if split not in used]
    rows = TextRows([splits[split] for split in used], columns)
    hashes, sizes = rows.hashes()
    excluded, _ = TextRows([splits[split] for split in others], columns).hashes()

    # Leave out the train rows that are also rows of another split.
    candidates = np.flatnonzero(sizes)
    allowed = candidates[~np.isin(hashes[candidates], excluded)]

    # Hold rows out for a validation loss.
    train, held_out = hold_out(limit_size(allowed, sizes, text), hashes, text)
    if not len(train):
        problem = "no text"
        if len(candidates):
            problem = "no text but what is also in another split, or one text throughout,"
        raise UsageError(
            f"{name} has {problem} in the columns {', '.join(columns)} of its train split: "
            "an empty corpus."
        )
    if not len(held_out):
        raise UsageError(
            f"{name} has one row with text, and one is held out for a loss; "
            "cut its text into several rows."
        )
    check_leakage(rows, train, excluded, name)

    # Put the others in order.
    if text.order == "shuffled_rows":
        train = shuffled(train, text.seed)
    documents = RowDocuments(rows, train)
    duplicates = 0
    if text.deduplicate:
        is_first = first_of_each(documents)
        duplicates = int(len(is_first) - is_first.sum())
        documents = replace(documents, kept=is_first)
    texts: dict[str, Iterable[str]] = {
        "train": documents,
        "validation": texts_not_in(documents, list(RowDocuments(rows, held_out))),
    }
    if text.order == "shuffled_sentences":
        sentences = sentence_rows(documents)
        order = shuffled(np.arange(len(sentences)), text.seed)
        texts["train"] = RowDocuments(sentences, order)

    # Say what the corpus is.
    checked_against = {}
    if len(excluded):
        checked_against = {split: len(splits[split]) for split in splits if split != "train"}
    train_digest, size = digest_and_size(texts["train"])
    metadata = {
        "name": name,
        "columns": columns,
        "rows": len(train),
        "held_out_rows": len(held_out),
        "dropped_rows_of_other_splits": len(candidates) - len(allowed),
        "checked_against": checked_against,
        "with_test": text.with_test,
        "order": text.order,
        "duplicates_dropped": duplicates,
        "bytes": size,
        "sha256": train_digest,
    }
    source = {"train": train_digest, "validation": texts_digest(texts["validation"])}
    return Corpus(texts.__getitem__, metadata, source=source)


def limit_size(rows: np.ndarray, sizes: np.ndarray, text: TextSpec) -> np.ndarray:
    """Return the numbers of rows that have `limit_mb` million bytes together.

    Args:
        rows: the numbers of rows.
        sizes: the bytes of every row.
        text: its `limit_mb`; in the order "natural" the first rows are taken, else random ones.
    """
    if text.limit_mb is None:
        return rows
    if text.order != "natural":
        rows = shuffled(rows, text.seed)
    rows_within = int(np.searchsorted(np.cumsum(sizes[rows]), text.limit_mb * 1e6))
    return rows[: rows_within + 1]


def shuffled(items: np.ndarray, seed: int) -> np.ndarray:
    """Return the items in the order that a seed draws."""
    return items[np.random.default_rng(seed).permutation(len(items))]


def hold_out(rows: np.ndarray, hashes: np.ndarray, text: TextSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of (rows to train on, rows held out for a loss).

    Args:
        rows: the numbers of rows.
        hashes: the hash of every row.
        text: its `held_out` is the share of rows held out, which are drawn with a fixed seed. There
            are 1 to 500 of them. Rows with the same text as one of them are in neither array.
    """
    count = min(max(1, round(len(rows) * text.held_out)), MOST_HELD_OUT, max(len(rows) - 1, 0))
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    held_out = rows[np.sort(chosen)]
    train = rows[~np.isin(hashes[rows], hashes[held_out])]
    return train, held_out


def sentence_rows(documents: Iterable[str]) -> TextRows:
    """Return the sentences of documents as rows; where they are many, they lie on the disk."""
    sentences = itertools.chain.from_iterable(map(SENTENCE_END.split, documents))
    blocks = iter(lambda: list(itertools.islice(sentences, SENTENCES_A_TABLE)), [])
    tables = mapped_tables(pa.table({"text": pa.array(block, pa.string())}) for block in blocks)
    return TextRows([as_dataset(pa.concat_tables(tables))], ["text"])


def texts_not_in(train: Iterable[str], held_out: list[str]) -> list[str]:
    """Return the held-out texts that no train row has; all of them if none is left.

    Rows may share a text: a context, for example, has many questions.
    """
    held_out_texts = set(held_out)
    shared = {text for text in train if text in held_out_texts}
    return [text for text in held_out if text not in shared] or held_out


def check_leakage(rows: TextRows, train: np.ndarray, excluded: np.ndarray, name: str) -> None:
    """Raise UsageError where a train row is also a row of another split.

    The rows are read and hashed again: the check is of what is trained on.

    Args:
        rows: the rows.
        train: the numbers of those that are trained on.
        excluded: the hashes of the rows of other splits.
        name: the name of the dataset, for the message.
    """
    leaked = train[np.isin(rows.hashes(train)[0], excluded)]
    if len(leaked):
        (row,) = rows.read(leaked[:1])
        raise UsageError(
            f"{name}: the corpus holds a row of another split: '{normalized_text(row)[:80]}'. "
            "This is a defect; report it."
        )


def count_seen(rows: Iterable[list[str]], corpus: Corpus) -> int:
    """Return how many rows have all their texts among the train documents of a corpus.

    Args:
        rows: the texts of each row; they are compared as `normalized_text` gives them.
        corpus: the corpus.
    """
    documents = text_hashes(normalized_text([text]) for text in corpus.texts("train"))
    with_text = [row for row in rows if row]
    if not with_text:
        return 0
    texts = text_hashes(normalized_text([text]) for row in with_text for text in row)
    first_texts = np.cumsum([0, *map(len, with_text[:-1])])
    return int(np.logical_and.reduceat(np.isin(texts, documents), first_texts).sum())


@cache
def stdlib_digest() -> str:
    """Return the `texts_digest` of the standard library's text, which a process reads once."""
    return texts_digest(itertools.chain(stdlib.texts("train"), stdlib.texts("validation")))


def texts_digest(texts: Iterable[str]) -> str:
    """Return the sha256 of texts in order."""
    return digest_and_size(texts)[0]


def digest_and_size(texts: Iterable[str]) -> tuple[str, int]:
    """Return the sha256 of texts in order, and their bytes."""
    digest = hashlib.sha256()
    size = 0
    for text in texts:
        content = text.encode()
        digest.update(content + b"\0")
        size += len(content)
    return digest.hexdigest(), size
