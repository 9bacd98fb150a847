"""Language modelling as a downstream task: a corpus with train, validation and test text."""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from datasets import DatasetDict

from hf_synpre.config import option
from hf_synpre.data import stdlib
from hf_synpre.data.corpora import Corpus, dataset_corpus
from hf_synpre.data.documents import folder_texts, text_column
from hf_synpre.data.folders import SPLIT_WORDS, split_files
from hf_synpre.data.readers import as_dataset
from hf_synpre.data.splits import open_splits, row_texts
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.errors import UsageError
from hf_synpre.finetuning.tasks import LEAST_ROWS, FinetuningTask, complete_splits

EMBEDDED_CORPUS = "lm"  # its text is the source code of Python's standard library
# The metrics: of decoders, and of masked models.
BITS_PER_BYTE, MASKED_LOSS = "bits_per_byte", "masked_loss"
# Of one or two documents train has so much, and train and validation together.
SHARES_BEFORE_CUTS = (0.8, 0.9)
TEXT_SCHEMA = pa.schema([("text", pa.string())])


@dataclass(frozen=True)
class LanguageTask(FinetuningTask):
    """A corpus, of whose test text the tokens are predicted: the next one, or masked ones.

    Examples:
        >>> LanguageTask("mine", document="body", max_source=512)
    """

    _: KW_ONLY
    document: str | None = option(
        "The column of the documents; guessed without it. Text files need none.", None
    )
    max_source: int = option(
        "Token ids of a training sequence; those around a masked model's text count.", 256
    )

    embedded: ClassVar[str | None] = EMBEDDED_CORPUS

    def __post_init__(self) -> None:
        self.check_fields([BITS_PER_BYTE])
        if self.max_source < 1:
            raise UsageError(
                f"{self.name}: max_source is {self.max_source}; give the ids of a sequence, 1 or "
                "more."
            )

    @property
    def head_name(self) -> str:
        """The name of the head that answers the task."""
        return "lm"

    @property
    def metric_name(self) -> str:
        """The metric that decoders report: bits per byte of text, in which tokenizers compare."""
        return BITS_PER_BYTE

    def load(self, data_dir: str | None = None) -> dict[str, pa.Table]:
        """Return train, validation and test as tables of one column, text.

        Args:
            data_dir: the folder of the corpus, or a folder that holds it under the task's name;
                None for the Hub. The task lm needs none.

        Raises:
            UsageError: there is no such corpus, a split is missing, or it has no text.
        """
        folder = self.data_folder(data_dir)
        if folder is None and self.name == EMBEDDED_CORPUS:
            splits = {
                split: as_dataset(text_table(list(stdlib.texts(split)))) for split in SPLIT_WORDS
            }
        else:
            documents = self._documents(folder)
            is_undivided = list(documents) == ["train"] and self.hold_out
            if is_undivided and len(documents["train"]) < LEAST_ROWS:
                documents = cut_documents(documents["train"]["text"])
            splits = complete_splits(self.name, documents, self.hold_out)

        tables = {}
        for split, rows in splits.items():
            table = self.sample_rows(rows, split).with_format("arrow")[:]
            if not any(table["text"].to_pylist()):
                raise UsageError(f"{self.name}: the split {split} has no text; give some.")
            tables[split] = table
        return tables

    def check_columns(self, data_dir: str | None = None) -> None:
        """Raise UsageError where the corpus or its column is missing, or it has no text."""
        if self.data_folder(data_dir) is not None or self.name != EMBEDDED_CORPUS:
            self.load(data_dir)

    def _documents(self, folder: Path | None) -> DatasetDict:
        """Return the splits of the corpus, a document in each row of the column text."""
        if folder is not None and folder.is_dir() and self.document is None:
            documents = {split: list(folder_texts(folder, split)) for split in split_files(folder)}
            return DatasetDict(
                {split: as_dataset(text_table(documents[split])) for split in documents}
            )

        if folder is None and self.hub_id is None:
            raise UsageError(
                f"{self.name} has no Hub id; give the folder or file of its text as --data_dir."
            )
        where = str(folder or self.hub_id)
        splits = {}
        for split, rows in open_splits(where, self.hub_config, self.hub_revision).items():
            column = self.document or self._text_column(rows.column_names, where)
            texts = [text for row in row_texts(rows, [column]) for text in row]
            splits[split] = as_dataset(text_table(texts))
        return DatasetDict(splits)

    def _text_column(self, names: list[str], where: str) -> str:
        """Return the column of the documents by its name. UsageError: no name is usual."""
        try:
            return text_column(names, where)
        except UsageError:
            raise UsageError(
                f"{where} has the columns {', '.join(names)}, and which holds the documents is not "
                f"clear; give --document {names[0]} (in YAML document: {names[0]})."
            ) from None

    def corpus(self, data_dir: str | None, text: TextSpec) -> Corpus:
        """Return the text of the train split."""
        splits = {split: as_dataset(table) for split, table in self.load(data_dir).items()}
        return dataset_corpus(DatasetDict(splits), replace(text, columns=["text"]), self.name)

    def test_texts(self, data_dir: str | None) -> list[list[str]]:
        """Return every test document."""
        return [[text] for text in self.load(data_dir)["test"]["text"].to_pylist()]


def cut_documents(texts: Iterable[str]) -> DatasetDict:
    """Return the splits of few documents: of each its last two tenths are held out.

    A cut is at the next end of a line, where there is one. Validation lies before test.
    """
    pieces: dict[str, list[str]] = {split: [] for split in SPLIT_WORDS}
    for text in texts:
        ends = [0]
        for share in SHARES_BEFORE_CUTS:
            place = max(int(share * len(text)), 1)
            ends.append(text.find("\n", place - 1) + 1 or place)
        ends.append(len(text))
        for split, start, end in zip(SPLIT_WORDS, ends, ends[1:], strict=False):
            pieces[split].append(text[start:end])
    return DatasetDict({split: as_dataset(text_table(pieces[split])) for split in pieces})


def text_table(texts: list[str]) -> pa.Table:
    """Return documents as a table of one column, text."""
    return pa.table({"text": texts}, schema=TEXT_SCHEMA)
