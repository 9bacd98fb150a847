"""Layer 2: corpora: the embedded one, text in a folder or on the Hub, and the text of a labelled dataset's train split."""

import hashlib
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError

from hf_synpre.config import option
from hf_synpre.data import stdlib
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import content_digest

READERS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
}
ORDERS = ("natural", "shuffled_rows", "shuffled_sentences")
NOT_TEXT = re.compile(
    r"(^|_)(id|idx|index|guid|uid|url|label|labels|split|source|source_id|tag|tags|type|ind)$", re.I
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Corpus:
    """Documents to pre-train on: `texts(split)` yields those of "train" and "validation" (for a loss); and their facts."""

    texts: Callable[[str], Iterable[str]]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class TextSpec:
    """What is taken from the train split of a dataset, and in which order.

    Raises:
        UsageError: an order that does not exist, or a share or limit outside its bounds.
    """

    columns: list[str] | None = option(
        "Columns that hold the text, as premise,hypothesis; guessed without it.", None
    )
    order: str = option("natural, shuffled_rows or shuffled_sentences.", "natural")
    deduplicate: bool = option("Keep a text once, in whatever column it stands.", False)
    held_out: float = option("Share of the rows held out for a validation loss.", 0.02)
    limit_mb: float | None = option("End the corpus after so many million bytes.", None)
    with_test: bool = option(
        "Add the text of the other splits: an ablation, which the result names.", False
    )
    config: str | None = option("Configuration of a dataset on the Hub that has several.", None)
    seed: int = option("Seed of the shuffled orders.", 0)

    def __post_init__(self) -> None:
        choose("order of text", self.order, ORDERS)
        if not 0 < self.held_out < 1:
            raise UsageError(
                f"text: held_out is {self.held_out}; give the share of the rows, between 0 and 1."
            )
        if self.limit_mb is not None and not 0 < self.limit_mb < math.inf:
            raise UsageError(f"text: limit_mb is {self.limit_mb}; give a number > 0.")


def open_corpus(name: str, data_dir: str | None = None, text: TextSpec | None = None) -> Corpus:
    """Return the corpus of this name: "stdlib", a folder (in `data_dir` or not) or file, or a Hub id NAMESPACE/NAME.

    With `text` it is the text of the dataset's train split by that recipe; without, the splits' column text as it is.
    Raises UsageError where there is none.
    """
    if name == "stdlib":
        return Corpus(stdlib.texts, {"name": name})
    place = corpus_place(name, data_dir, files=text is not None)
    if text is not None:
        return dataset_corpus(
            open_splits(place, text.config), text, Path(name).name if Path(place).exists() else name
        )
    folder = Path(place)
    plain = folder.is_dir() and text_files(folder, "train")
    facts = {"name": name} | ({"digest": content_digest(folder)} if folder.exists() else {})
    return Corpus(partial(folder_texts, folder) if plain else partial(dataset_texts, place), facts)


def corpus_place(name: str, data_dir: str | None = None, *, files: bool = False) -> str:
    """Return where a corpus is: a folder or, with `files`, a file (`name` in `data_dir`, or itself), or a Hub id.

    Raises UsageError where it is nowhere.
    """
    for place in (Path(data_dir or ".") / name, Path(name)):
        if place.is_file() and not files:
            raise UsageError(
                f"corpus '{name}' is a file; give its folder, with train*.txt and validation*.txt."
            )
        if place.exists():
            return str(place)
    if Path(name).suffix in READERS:
        raise UsageError(
            f"There is no file {name}; give one that is there, or a folder, or a Hub id NAMESPACE/NAME."
        )
    if name.count("/") != 1 or name.startswith(("/", ".")):
        where = f"a folder in {data_dir}" if data_dir else "a folder (see --data_dir)"
        raise UsageError(
            f"Unknown corpus '{name}'. Allowed: stdlib, {where}, a Hub id NAMESPACE/NAME."
        )
    return name


def dataset_texts(name: str, split: str) -> Iterator[str]:
    """Yield the column text of a split of a dataset, as it is read. Raises UsageError where there is none."""
    try:
        yield from (row["text"] for row in load_dataset(name, split=split, streaming=True))
    except (OSError, ValueError, KeyError) as error:
        cause = " ".join(str(error).split())
        raise UsageError(
            f"corpus '{name}': no column text of a split {split} could be read ({cause})"
        ) from None


def folder_texts(folder: Path, split: str) -> Iterator[str]:
    """Yield the documents of a split: data/SPLIT*.parquet with a column text (else its first of strings) or SPLIT*.txt."""
    files = text_files(folder, split)
    if not files:
        raise UsageError(
            f"corpus '{folder}' has no data/{split}*.parquet and no {split}*.txt; give stdlib or a folder that has one."
        )
    for file in files:
        if file.suffix == ".txt":
            yield file.read_text(encoding="utf-8", errors="replace")
            continue
        reader = pq.ParquetFile(file)
        strings = [f.name for f in reader.schema_arrow if is_text(f.type)]
        if not strings:
            raise UsageError(f"{file} has no column of text.")
        column = "text" if "text" in strings else strings[0]
        for batch in reader.iter_batches(batch_size=8, columns=[column]):
            yield from batch.column(0).to_pylist()


def text_files(folder: Path, split: str) -> list[Path]:
    """Return the files that hold a split's text."""
    return [*sorted(folder.glob(f"data/{split}*.parquet")), *sorted(folder.glob(f"{split}*.txt"))]


def open_splits(place: str, config: str | None = None, revision: str | None = None) -> DatasetDict:
    """Return the splits of a dataset: a folder in Hub layout, a file (as split train), or a Hub id. UsageError: none."""
    path = Path(place)
    if not path.exists():
        try:
            return load_dataset(place, config, revision=revision)
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"The dataset '{place}' could not be read from the Hub ({' '.join(str(error).split())[:200]}); "
                "give a local copy as --data_dir."
            ) from None
    files = {"data_files": {"train": str(path)}} if path.is_file() else {}
    reader = READERS.get(path.suffix, "") if path.is_file() else str(path)
    if not reader:
        raise UsageError(
            f"{path} is no dataset; give a folder in Hub layout or a file: {', '.join(READERS)}."
        )
    more = {"sep": "\t"} if path.suffix == ".tsv" else {}
    with (
        tempfile.TemporaryDirectory() as cache
    ):  # offline, the shared cache may give another folder of the same name
        try:
            found = load_dataset(reader, cache_dir=cache, keep_in_memory=True, **files, **more)
        except (OSError, ValueError, TypeError, StopIteration, DatasetGenerationError) as error:
            cause = " ".join(str(error.__cause__ or error).split()) or "it is empty"
            raise UsageError(
                f"{path} cannot be read as a dataset: {cause}; give one in Hub layout."
            ) from None
    if path.suffix in (".csv", ".tsv"):
        check_columns(path, found["train"].column_names)
    return found


def check_columns(file: Path, names: list[str]) -> None:
    """Raise UsageError where a table of text was cut in other columns than its writer meant."""
    for name in names:
        if name.startswith("__index_level_") or ";" in name or "\t" in name:
            raise UsageError(
                f"{file} has the columns {', '.join(names)}: rows with more fields than the header, or another separator; "
                "save it with commas (.csv) or tabs (.tsv) and one field a column."
            )


def is_text(kind: pa.DataType) -> bool:
    """Say whether a column holds strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_list_of_text(kind: pa.DataType) -> bool:
    """Say whether a column holds lists of strings: tokens, or the choices of a question."""
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_text(kind.value_type)


def guess_columns(rows: Dataset) -> list[str]:
    """Return the columns that hold text: strings, or lists of them, that are mostly longer than a word and no labels.

    Raises UsageError where there are none.
    """
    sample = rows.with_format("arrow")[: min(200, len(rows))]
    found = [
        name for name in sample.column_names if not NOT_TEXT.search(name) and speaks(sample[name])
    ]
    if not found:
        raise UsageError(
            f"No column looks like text among {', '.join(rows.column_names)}; name them as columns."
        )
    return found


def speaks(column: pa.ChunkedArray) -> bool:
    """Say whether a column's values mostly have several words."""
    if not is_text(column.type) and not is_list_of_text(column.type):
        return False
    texts = [
        " ".join(value) if isinstance(value, list) else value
        for value in column.to_pylist()
        if value
    ]
    return bool(texts) and float(np.median([len(text.split()) for text in texts])) > 1


def row_texts(rows: Dataset, columns: list[str]) -> list[list[str]]:
    """Return the texts of every row, column by column; of choices each is one, tokens are joined.

    Raises UsageError where a column is missing or holds something else.
    """
    table = rows.with_format("arrow")[:].flatten() if len(rows) else rows.data.table
    for name in columns:
        if name not in table.column_names:
            raise UsageError(
                f"Column {name} is not in the dataset; it has {', '.join(table.column_names)}."
            )
        if not is_text(table[name].type) and not is_list_of_text(table[name].type):
            raise UsageError(
                f"Column {name} holds {table[name].type}; a corpus is made of text. Name other columns."
            )
    return [
        [text for value in values for text in parts(value)]
        for values in zip(*map(table_column(table), columns), strict=True)
    ]


def table_column(table: pa.Table) -> Callable[[str], list]:
    """Return a function that gives a column as a Python list."""
    return lambda name: table[name].to_pylist()


def parts(value: Any) -> list[str]:
    """Return the non-empty texts of one value: a string, choices (several words in one of them) or tokens (joined)."""
    if isinstance(value, list):
        tokens = all(len((part or "").split()) <= 1 for part in value)
        value = [" ".join(part for part in value if part)] if tokens else value
    texts = value if isinstance(value, list) else [value]
    return [text.strip() for text in texts if text and text.strip()]


def normalized(texts: Iterable[str]) -> str:
    """Return a row's text as rows are compared: small letters, single spaces."""
    return " ".join(" ".join(texts).casefold().split())


def dataset_corpus(splits: DatasetDict | Dataset, text: TextSpec, name: str = "dataset") -> Corpus:
    """Return the text of the train split as a corpus: no row of another split is in it, and that is proved.

    A train row whose text is also a row of another split is left out and counted. Raises UsageError where the split
    train or text is missing.
    """
    splits = {"train": splits} if isinstance(splits, Dataset) else splits
    if "train" not in splits:
        raise UsageError(f"{name} has no train split; it has {', '.join(splits)}.")
    columns = text.columns or guess_columns(splits["train"])
    rows = {split: row_texts(data, columns) for split, data in splits.items()}
    barred = (
        {}
        if text.with_test
        else {normalized(row) for split in rows if split != "train" for row in rows[split]}
    )
    taken = [
        row for split in rows if split == "train" or text.with_test for row in rows[split] if row
    ]
    kept = [row for row in taken if normalized(row) not in barred]
    train, held = hold_out(limited(kept, text), text)
    documents = {"train": arranged(train, text), "validation": unseen(held, train)}
    if not documents["train"]:
        cause = (
            "no text but what is also in another split, or one text throughout,"
            if taken
            else "no text"
        )
        raise UsageError(
            f"{name} has {cause} in the columns {', '.join(columns)} of its train split: an empty corpus."
        )
    if not held:
        raise UsageError(
            f"{name} has one row with text, and one is held out for a loss; cut its text into several rows."
        )
    guard(train, barred, name)
    facts = {
        "name": name,
        "columns": columns,
        "rows": len(train),
        "held_out_rows": len(held),
        "dropped_rows_of_other_splits": len(taken) - len(kept),
        "checked_against": {
            split: len(found) for split, found in rows.items() if split != "train" and barred
        },
        "with_test": text.with_test,
        "order": text.order,
        "duplicates_dropped": sum(map(len, train)) - len({part for row in train for part in row})
        if text.deduplicate
        else 0,
        "bytes": sum(len(part.encode()) for part in documents["train"]),
        "sha256": digest(documents["train"]),
    }
    return Corpus(documents.__getitem__, facts)


def limited(rows: list[list[str]], text: TextSpec) -> list[list[str]]:
    """Return rows that have `limit_mb` million bytes together: the first, or any where their order is shuffled."""
    if text.limit_mb is None:
        return rows
    rows = rows if text.order == "natural" else shuffled(rows, text.seed)
    ends = np.cumsum([sum(len(part.encode()) for part in row) for row in rows])
    return rows[: int(np.searchsorted(ends, text.limit_mb * 1e6)) + 1]


def shuffled(items: list, seed: int) -> list:
    """Return the items in the order that a seed draws."""
    return [items[i] for i in np.random.default_rng(seed).permutation(len(items))]


def hold_out(rows: list[list[str]], text: TextSpec) -> tuple[list[list[str]], list[list[str]]]:
    """Return (rows to train on, rows for a loss): the latter a fixed random share, 1 to 500 of them.

    Rows that read like one held out are in neither.
    """
    count = min(max(1, round(len(rows) * text.held_out)), 500, max(len(rows) - 1, 0))
    chosen = set(np.random.default_rng(0).permutation(len(rows))[:count].tolist())
    held = [rows[i] for i in sorted(chosen)]
    seen = {normalized(row) for row in held}
    return [row for row in rows if normalized(row) not in seen], held


def unseen(held: list[list[str]], train: list[list[str]]) -> list[str]:
    """Return the held-out rows' texts that no row to train on has (a context has many questions); all if none is left."""
    texts = [part for row in held for part in row]
    wanted = set(texts)
    shared = {part for row in train for part in row if part in wanted}
    return [part for part in texts if part not in shared] or texts


def arranged(rows: list[list[str]], text: TextSpec) -> list[str]:
    """Return the texts of the rows in the order that is wanted, each once if so."""
    if text.order == "shuffled_rows":
        rows = shuffled(rows, text.seed)
    texts = [part for row in rows for part in row]
    texts = list(dict.fromkeys(texts)) if text.deduplicate else texts
    if text.order == "shuffled_sentences":
        texts = shuffled(
            [sentence for part in texts for sentence in SENTENCE_END.split(part)], text.seed
        )
    return texts


def guard(rows: list[list[str]], barred: Iterable[str], name: str) -> None:
    """Prove that no row of another split is among the rows. Raises UsageError naming the first that is."""
    if leaked := next((text for text in map(normalized, rows) if text in barred), None):
        raise UsageError(
            f"{name}: the corpus holds a row of another split: '{leaked[:80]}'. This is a defect; report it."
        )


def count_seen(rows: Iterable[list[str]], corpus: Corpus) -> int:
    """Return how many rows have all their texts among the documents that are trained on, as rows are compared."""
    documents = {normalized([text]) for text in corpus.texts("train")}
    return sum(
        bool(row) and documents.issuperset(normalized([part]) for part in row) for row in rows
    )


def digest(texts: Iterable[str]) -> str:
    """Return the sha256 of texts in order."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode() + b"\0")
    return found.hexdigest()
