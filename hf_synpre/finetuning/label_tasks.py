"""Labelled tasks: columns of a dataset -> the rows of its splits, their text and labels checked."""

import logging
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from hf_synpre.config import option
from hf_synpre.data.corpora import Corpus, dataset_corpus
from hf_synpre.data.readers import is_data_file
from hf_synpre.data.splits import is_list_of_text, is_text, open_splits, row_texts, type_words
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.errors import UsageError, choose
from hf_synpre.finetuning.label_encoding import text_columns
from hf_synpre.finetuning.label_heads import LABEL_HEADS
from hf_synpre.finetuning.label_names import describe_texts, texts_among_numbers
from hf_synpre.finetuning.scores import SCORES
from hf_synpre.finetuning.tasks import FinetuningTask, complete_splits, naming_data

logger = logging.getLogger(__name__)

# Heads that read a text or two, of which one may be missing.
HEADS_OF_TEXTS = ("classes", "labels", "number")
PROBE_ROWS = 1000  # rows by which a split is found to have labels or not


@dataclass(frozen=True)
class LabelTask(FinetuningTask):
    """A task that is answered by a head on an encoder or a decoder.

    `text`, `label` and `choices` list alternatives, each a list of columns. The first alternative
    is used whose columns all exist.

    Examples:
        >>> LabelTask("mine", "classes", [["title", "body"], ["text"]], [["label"]])
    """

    head: str = option(
        f"What is predicted. Allowed: {', '.join(LABEL_HEADS)}; lm for the tokens of text, "
        "which is a task of its own kind."
    )
    text: list[list[str]] = option(
        "The column of the text, or a list of two columns; of a list of lists the first one whose "
        "columns exist. For spans they are context and question, for choices the context (and the "
        "beginning of every continuation)."
    )
    label: list[list[str]] = option(
        "The column of labels, or a list with a column for each of several labels; of a list of "
        "lists the first one whose columns exist."
    )
    choices: list[list[str]] = option(
        "The columns of the continuations, for the head choices.", default_factory=list
    )
    _: KW_ONLY
    hub_corpus: str | None = option(
        "The configuration on the Hub whose text is pre-trained on, if it is another.", None
    )
    splits: dict[str, str] = option(
        "For train, validation or test, the name of that split in the dataset.",
        default_factory=dict,
    )
    kept_labels: list[Any] = option(
        "The labels of the rows that are used; all rows without it.", default_factory=list
    )
    label_names: list[str] = option(
        "The names of labels that are bare numbers, in order.", default_factory=list
    )
    metric: str | None = option(
        f"The metric that is reported, instead of the head's. Allowed: {', '.join(SCORES)}.", None
    )
    positive_class: Any = option(
        "The class of which accuracy_f1 is the F1, for two classes; found by their names without "
        "it (docs/metrics.md).",
        None,
    )
    lowercase: bool = option(
        "A tokenizer that is trained on the texts reads them in lower case, as uncased BERT does.",
        False,
    )
    max_source: int = option(
        "Token ids of a row, special tokens included; longer texts are cut.", 128
    )

    def __post_init__(self) -> None:
        choose("head", self.head, LABEL_HEADS)
        if self.head == "number" and any(len(columns) > 1 for columns in self.label):
            raise UsageError(
                f"{self.name} has the head number and the label {' + '.join(self.label[0])}; a "
                "model predicts one number, name one column."
            )
        self.check_fields(LABEL_HEADS[self.head].metrics)
        if (self.head == "choices") != bool(self.choices):
            raise UsageError(
                f"{self.name} has the head {self.head} and choices {self.choices}; give columns of "
                "choices with the head choices, and with no other."
            )

    @property
    def head_name(self) -> str:
        """The name of the head that answers the task."""
        return self.head

    @property
    def metric_name(self) -> str:
        """The metric that is reported."""
        return self.metric or LABEL_HEADS[self.head].metrics[0]

    def load(self, data_dir: str | None = None) -> dict[str, Dataset]:
        """Return the rows of train, validation and test that the task uses.

        A split without labels, such as a hidden test, counts as absent.

        Args:
            data_dir: a local copy of the dataset, or a folder of copies; None for the Hub.

        Raises:
            UsageError: a folder, a split or a column is missing, or a column holds something else.
        """
        with naming_data(self.data_folder(data_dir)):
            labelled, _ = self.read_splits(data_dir)
            splits = {split: self.select_rows(rows, split) for split, rows in labelled.items()}
            for split, rows in splits.items():
                self.check_split(rows, split)
        return splits

    def check_columns(self, data_dir: str | None = None) -> None:
        """Raise UsageError where a folder, a split or a column is missing."""
        with naming_data(self.data_folder(data_dir)):
            for rows in self.read_splits(data_dir)[0].values():
                text_columns(self, rows)
                self.find_columns(rows, "label")

    def read_splits(
        self, data_dir: str | None = None
    ) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
        """Return train, validation and test with all their rows, and all other splits.

        The others, such as a hidden test, are called "unused NAME".
        """
        dataset = self.open(data_dir)
        labelled = {split: rows for split, rows in dataset.items() if self._has_labels(rows, split)}
        splits = complete_splits(self.name, DatasetDict(labelled), self.hold_out)

        unused = {}
        for name, rows in dataset.items():
            is_used = name == "train" or any(rows is taken for taken in splits.values())
            if not is_used:
                unused[f"unused {name}"] = rows
        return splits, unused

    def select_rows(self, rows: Dataset, split: str) -> Dataset:
        """Return the rows of a split that have a kept label, as many of them as the task uses."""
        if self.kept_labels:
            labels = rows[self.find_columns(rows, "label")[0]]
            row_numbers = [i for i, label in enumerate(labels) if label in self.kept_labels]
            rows = rows.select(row_numbers)
        return self.sample_rows(rows, split)

    def open(self, data_dir: str | None = None, config: str | None = None) -> DatasetDict:
        """Return all splits of the dataset, renamed as the field `splits` says.

        Args:
            data_dir: a local copy of the dataset, or a folder of copies; None for the Hub.
            config: a configuration on the Hub, instead of the task's.
        """
        if data_dir is not None:
            folder = self.data_folder(data_dir)
            if folder is None:
                raise UsageError(
                    f"{data_dir} holds no dataset {self.name}; give the folder of a dataset in Hub "
                    "layout as --data_dir."
                )
            dataset = open_splits(str(folder), None, None)
        elif self.hub_id is not None:
            dataset = open_splits(self.hub_id, config or self.hub_config, self.hub_revision)
        else:
            raise UsageError(
                f"{self.name} has no Hub id; give the folder of a dataset in Hub layout as "
                "--data_dir."
            )

        # A renamed split replaces a split that has its new name.
        replaced = set(self.splits.values())
        splits = {name: rows for name, rows in dataset.items() if name not in replaced}
        for new_name, name in self.splits.items():
            if name in dataset:
                splits[new_name] = dataset[name]
        return DatasetDict(splits)

    def data_folder(self, data_dir: str | None) -> Path | None:
        """Return the folder in `data_dir` with the task's or dataset's name, or `data_dir` itself.

        Return None if neither is a dataset, or the rows are on the Hub.
        """
        if data_dir is None:
            return None
        folder = Path(data_dir)
        repository = (self.hub_id or self.name).rpartition("/")[2]
        for name in (self.name, repository):
            if (folder / name).exists():
                return folder / name
        return folder if folder.is_file() or is_one_dataset(folder) else None

    def corpus(self, data_dir: str | None, text: TextSpec) -> Corpus:
        """Return the text of the train split, as it is fine-tuned on.

        It has no row that is held out for validation, and none of an unused split, such as a hidden
        test. If the task has a `hub_corpus`, it is the train split of that configuration, without
        the rows of all these splits.
        """
        splits, unused = self.read_splits(data_dir)
        if self.hub_corpus and data_dir is None:
            train = self.open(config=self.hub_corpus)["train"]
        else:
            train = self.select_rows(splits["train"], "train")

        dataset = DatasetDict(splits | unused)
        dataset["train"] = train
        columns = text.columns or text_columns(self, train)
        return dataset_corpus(dataset, replace(text, columns=columns), self.name)

    def test_texts(self, data_dir: str | None) -> list[list[str]]:
        """Return the texts of every test row."""
        rows = self.load(data_dir)["test"]
        return row_texts(rows, text_columns(self, rows))

    def find_columns(self, rows: Dataset, field: str) -> list[str]:
        """Return the columns of the dataset that hold a field of the task.

        Args:
            rows: any split of the dataset.
            field: "text", "label" or "choices".

        Raises:
            UsageError: the dataset has the columns of none of the alternatives.
        """
        alternatives = getattr(self, field)
        for columns in alternatives:
            if set(columns) <= set(rows.column_names):
                return columns
        expected = " or ".join(" + ".join(columns) for columns in alternatives)
        raise UsageError(
            f"{self.name}: column {expected} is not in the dataset; it has "
            f"{', '.join(rows.column_names)}."
        )

    def check_split(self, rows: Dataset, split: str) -> None:
        """Raise UsageError where a split is empty, or a column cannot be text or labels."""
        if not len(rows):
            raise UsageError(f"{self.name}: the split {split} has no rows.")
        table = rows.with_format("arrow")[:]
        head = LABEL_HEADS[self.head]

        expected = "a list of words" if head.reads_words else "text"
        for column in text_columns(self, rows):
            column_type = table[column].type
            fits = is_list_of_text(column_type)
            if not head.reads_words:
                fits = fits or is_text(column_type)
            if not fits:
                raise UsageError(
                    f"{self.name}: column {column} of {split} holds {type_words(column_type)}; "
                    f"give {expected} in every row."
                )
            self.check_nulls(table[column], column, split)

        label_column = self.find_columns(rows, "label")[0]
        label_type = table[label_column].type
        if not head.accepts_label_type(label_type):
            texts = texts_among_numbers(table[label_column].to_pylist())
            remedy = f"; mend or empty {describe_texts(texts)}" if texts else ""
            raise UsageError(
                f"{self.name}: column {label_column} of {split} holds {type_words(label_type)}, no "
                f"labels of the head {self.head}{remedy}."
            )

    def check_nulls(self, texts: pa.ChunkedArray, column: str, split: str) -> None:
        """Say where rows have no text; UsageError where the head needs one in every row."""
        missing = texts.null_count
        if pa.types.is_list(texts.type):
            missing += pc.list_flatten(texts).null_count
        if not missing:
            return
        said = f"{self.name}: {missing} of {len(texts)} rows of {split} have no text in {column}"
        if self.head not in HEADS_OF_TEXTS:
            raise UsageError(f"{said}; give text in every row.")
        logger.warning("%s, and are read as empty.", said)

    def _has_labels(self, rows: Dataset, split: str) -> bool:
        """Say whether a split's rows have labels: those of a hidden test are all -1 on the Hub."""
        column = self.find_columns(rows, "label")[0]
        is_unknown = True
        if len(rows):
            first_rows = rows.with_format("arrow")[:PROBE_ROWS]
            is_unknown = all(map(is_hidden, first_rows[column].to_pylist()))
        # Rows may be sorted by their label, and -1 may be a class.
        if is_unknown and len(rows) > PROBE_ROWS:
            is_unknown = all(map(is_hidden, rows[column]))
        if is_unknown and split == "train":
            raise UsageError(
                f"{self.name}: the rows of train have no labels; give labels in every row."
            )
        return not is_unknown


def is_hidden(label: Any) -> bool:
    """Say whether a label is none: a mark of a hidden test, or answers without a text."""
    if isinstance(label, dict) and "text" in label:
        label = label["text"]
    return label in (-1, None, "", [])


def is_one_dataset(path: Path) -> bool:
    """Say whether a folder or file is one dataset, rather than a folder of several datasets."""
    names = []
    if path.is_file():
        names = [path.name]
    elif path.is_dir():
        names = [entry.name for entry in path.iterdir()]

    beginnings = ("data", "train", "readme")
    return any(is_data_file(name) or name.lower().startswith(beginnings) for name in names)
