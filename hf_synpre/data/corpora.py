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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, load_dataset_builder

from hf_synpre.data import stdlib
from hf_synpre.data.connection import one_line_cause, read_error
from hf_synpre.data.documents import column_texts, folder_texts, refuse_texts, split_token_files
from hf_synpre.data.readers import is_data_file
from hf_synpre.data.splits import (
    guess_columns,
    hub_answer,
    hub_tables,
    open_splits,
    row_texts,
)
from hf_synpre.data.text_spec import STDLIB, TextSpec, check_stdlib
from hf_synpre.data.token_files import folder_digest
from hf_synpre.errors import UsageError

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
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
        digest = texts_digest(itertools.chain(stdlib.texts("train"), stdlib.texts("validation")))
        return Corpus(stdlib.texts, {"name": name}, source={"digest": digest})

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

    # Read the texts of every row.
    columns = text.columns or guess_columns(splits["train"])
    rows = {split: row_texts(data, columns) for split, data in splits.items()}

    # Leave out the train rows that are also rows of another split.
    candidates: list[list[str]] = []
    excluded: set[str] = set()
    for split, split_rows in rows.items():
        if split == "train" or text.with_test:
            candidates += [row for row in split_rows if row]
        else:
            excluded.update(normalized_text(row) for row in split_rows)
    allowed = [row for row in candidates if normalized_text(row) not in excluded]

    # Hold rows out for a validation loss, and put the others in order.
    train, held_out = hold_out(limit_size(allowed, text), text)
    documents = {
        "train": order_texts(train, text),
        "validation": texts_not_in(train, held_out),
    }
    if not documents["train"]:
        problem = "no text"
        if candidates:
            problem = "no text but what is also in another split, or one text throughout,"
        raise UsageError(
            f"{name} has {problem} in the columns {', '.join(columns)} of its train split: "
            "an empty corpus."
        )
    if not held_out:
        raise UsageError(
            f"{name} has one row with text, and one is held out for a loss; "
            "cut its text into several rows."
        )
    check_leakage(train, excluded, name)

    # Say what the corpus is.
    checked_against = {}
    if excluded:
        checked_against = {split: len(rows[split]) for split in rows if split != "train"}
    duplicates = 0
    if text.deduplicate:
        texts = [part for row in train for part in row]
        duplicates = len(texts) - len(set(texts))
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
        "bytes": sum(len(document.encode()) for document in documents["train"]),
        "sha256": texts_digest(documents["train"]),
    }
    source = {split: texts_digest(texts) for split, texts in documents.items()}
    return Corpus(documents.__getitem__, metadata, source=source)


def normalized_text(texts: Iterable[str]) -> str:
    """Return a row's text as rows are compared: small letters, single spaces."""
    return " ".join(" ".join(texts).casefold().split())


def limit_size(rows: list[list[str]], text: TextSpec) -> list[list[str]]:
    """Return rows that have `limit_mb` million bytes together.

    Args:
        rows: the texts of each row.
        text: its `limit_mb`; in the order "natural" the first rows are taken, else random ones.
    """
    if text.limit_mb is None:
        return rows
    if text.order != "natural":
        rows = shuffled(rows, text.seed)
    sizes = [sum(len(part.encode()) for part in row) for row in rows]
    rows_within = int(np.searchsorted(np.cumsum(sizes), text.limit_mb * 1e6))
    return rows[: rows_within + 1]


def shuffled(items: list, seed: int) -> list:
    """Return the items in the order that a seed draws."""
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))]


def hold_out(rows: list[list[str]], text: TextSpec) -> tuple[list[list[str]], list[list[str]]]:
    """Return (rows to train on, rows held out for a loss).

    Args:
        rows: the texts of each row.
        text: its `held_out` is the share of rows held out, which are drawn with a fixed seed. There
            are 1 to 500 of them. Rows with the same text as one of them are in neither list.
    """
    count = min(max(1, round(len(rows) * text.held_out)), MOST_HELD_OUT, max(len(rows) - 1, 0))
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    held_out = [rows[i] for i in sorted(chosen.tolist())]
    held_out_texts = {normalized_text(row) for row in held_out}
    train = [row for row in rows if normalized_text(row) not in held_out_texts]
    return train, held_out


def texts_not_in(train: list[list[str]], held_out: list[list[str]]) -> list[str]:
    """Return the texts of held-out rows that no train row has; all of them if none is left.

    Rows may share a text: a context, for example, has many questions.
    """
    texts = [part for row in held_out for part in row]
    held_out_texts = set(texts)
    shared = {part for row in train for part in row if part in held_out_texts}
    return [part for part in texts if part not in shared] or texts


def order_texts(rows: list[list[str]], text: TextSpec) -> list[str]:
    """Return the texts of rows as documents.

    Args:
        rows: the texts of each row.
        text: its `order`, the seed of that, and whether each text is kept once (`deduplicate`).
    """
    if text.order == "shuffled_rows":
        rows = shuffled(rows, text.seed)
    texts = [part for row in rows for part in row]
    if text.deduplicate:
        texts = list(dict.fromkeys(texts))
    if text.order == "shuffled_sentences":
        sentences = [sentence for part in texts for sentence in SENTENCE_END.split(part)]
        texts = shuffled(sentences, text.seed)
    return texts


def check_leakage(train: list[list[str]], excluded: Iterable[str], name: str) -> None:
    """Raise UsageError where a train row is also a row of another split.

    Args:
        train: the texts of each train row.
        excluded: the normalized texts of the rows of other splits.
        name: the name of the dataset, for the message.
    """
    for row in train:
        if normalized_text(row) in excluded:
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
    documents = {normalized_text([text]) for text in corpus.texts("train")}
    count = 0
    for row in rows:
        if row and all(normalized_text([part]) in documents for part in row):
            count += 1
    return count


def texts_digest(texts: Iterable[str]) -> str:
    """Return the sha256 of texts in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
