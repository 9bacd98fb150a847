"""Text-to-text tasks: columns of a dataset -> source, target and all accepted references."""

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from datasets import Dataset, DatasetDict

from hf_synpre.config import option
from hf_synpre.data import stdlib
from hf_synpre.data.corpora import Corpus, dataset_corpus
from hf_synpre.data.readers import as_dataset
from hf_synpre.data.splits import is_text, open_splits, type_words
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.errors import UsageError, choose
from hf_synpre.finetuning.metrics import METRICS
from hf_synpre.finetuning.tasks import (
    PRESET_NAMES,
    FinetuningTask,
    complete_splits,
    naming_data,
)

EMBEDDED_TASK = "stdlib_ast"  # its rows are made from Python's standard library
# The first rows, of which texts are read where columns are checked.
CHECKED_ROWS = 20
COLUMN = re.compile(r"\{([\w.]+)\}")  # a column in a template; {a.b} is the field b of the struct a
TEXT_SCHEMA = pa.schema(
    [("source", pa.string()), ("target", pa.string()), ("references", pa.list_(pa.string()))]
)


def one_line(text: str) -> str:
    """Return the lines of a text as one line."""
    return " ".join(text.split("\n"))


def pad_punctuation(text: str) -> str:
    """Return a text with spaces around punctuation, as T5 reads SQuAD."""
    return " ".join(re.sub(r"([^\s\w])", r" \1 ", text).split())


CLEANERS: dict[str, Callable[[str], str]] = {
    "lowercase": str.lower,
    "one_line": one_line,
    "pad_punctuation": pad_punctuation,
}


@dataclass(frozen=True)
class TextToTextTask(FinetuningTask):
    """A task that is answered with text.

    `source` and `target` list alternatives: columns, or templates such as "question: {question}".
    The first alternative is used whose columns all exist.

    Examples:
        >>> TextToTextTask("mine", ["question: {q}"], ["answer"], rows={"train": 500})
    """

    source: list[str] = option(
        "A column or template of the input; of a list of them the first one whose columns exist."
    )
    target: list[str] = option(
        "A column or template of the target; of a list of them the first one whose columns exist. "
        "Of a column of lists the first text is learned, and all are accepted as answers."
    )
    _: KW_ONLY
    only: dict[str, str] = option(
        "For a column, the value that the used rows have there.", default_factory=dict
    )
    clean: list[str] = option(
        f"What is done to all texts, in order. Allowed: {', '.join(CLEANERS)}.",
        default_factory=list,
    )
    metric: str = option(
        f"The metric that is reported. Allowed: {', '.join(METRICS)}.", "exact_match"
    )
    max_target: int = option("Token ids of a target, which is cut to them.", 512)
    chat_template: bool = option(
        "Write rows as chats by the tokenizer's chat template, for a decoder: the source is the "
        "user's turn, the target the assistant's.",
        False,
    )

    has_target_texts: ClassVar[bool] = True
    embedded: ClassVar[str | None] = EMBEDDED_TASK

    def __post_init__(self) -> None:
        self.check_fields(METRICS)
        for name in self.clean:
            choose("cleaning of text", name, CLEANERS)
        for name in self.presets:
            choose("preset", name, PRESET_NAMES)

    @property
    def head_name(self) -> str:
        """The name of the head that answers the task."""
        return "text"

    @property
    def metric_name(self) -> str:
        """The metric that is reported."""
        return self.metric

    def check_chat(self, decodes: bool) -> None:
        """Raise UsageError where rows are chats, and the model is no decoder."""
        if self.chat_template and not decodes:
            raise UsageError(
                f"{self.name} has chat_template, which decoders alone read; leave chat_template "
                "out, or give a decoder (model_type llama or gpt2)."
            )

    def load(self, data_dir: str | None = None) -> dict[str, pa.Table]:
        """Return train, validation and test as tables of source, target and references.

        If there is no test split, validation is the test, and rows to choose weights on are held
        out of train.

        Args:
            data_dir: the folder of the dataset, or a folder that holds it under the task's name;
                None for the Hub. stdlib_ast needs none; a folder stdlib_ast in it replaces its
                rows.

        Raises:
            UsageError: the folder, a split or a column is missing, or a column has no text.
        """
        folder = self.data_folder(data_dir)
        if folder is None and self.name == EMBEDDED_TASK:
            return embedded_splits()

        with naming_data(folder):
            splits = complete_splits(self.name, self._open(folder), self.hold_out)
            for split, rows in splits.items():
                if not len(rows):
                    raise UsageError(f"{self.name}: the split {split} has no rows; give some.")
            return {split: self._read_texts(rows, split) for split, rows in splits.items()}

    def check_columns(self, data_dir: str | None = None) -> None:
        """Raise UsageError where a folder, a split or a column is missing.

        The texts of the first rows alone are read.
        """
        folder = self.data_folder(data_dir)
        if folder is None and self.name == EMBEDDED_TASK:
            return
        with naming_data(folder):
            splits = complete_splits(self.name, self._open(folder), self.hold_out)
            for split, rows in splits.items():
                first_rows = rows.select(range(min(len(rows), CHECKED_ROWS)))
                table = first_rows.with_format("arrow")[:].flatten()
                for alternatives in (self.source, self.target):
                    self._fill_first(table, alternatives, split)

    def _open(self, folder: Path | None) -> DatasetDict:
        """Return the dataset in a folder, or that on the Hub if `folder` is None."""
        if folder is None:
            if self.hub_id is None:
                raise UsageError(
                    f"{self.name} has no Hub id; give the folder of its rows as --data_dir."
                )
            return open_splits(self.hub_id, self.hub_config, self.hub_revision)

        if not folder.exists():
            raise UsageError(
                f"There is no folder {folder}; give the folder of a dataset in Hub layout as "
                "--data_dir."
            )
        return open_splits(str(folder))

    def corpus(self, data_dir: str | None, text: TextSpec) -> Corpus:
        """Return the text of the train split, inputs and targets."""
        splits = {split: as_dataset(table) for split, table in self.load(data_dir).items()}
        columns = text.columns or ["source", "target"]
        return dataset_corpus(DatasetDict(splits), replace(text, columns=columns), self.name)

    def test_texts(self, data_dir: str | None) -> list[list[str]]:
        """Return the input of every test row."""
        return [[source] for source in self.load(data_dir)["test"]["source"].to_pylist()]

    def _read_texts(self, rows: Dataset, split: str) -> pa.Table:
        """Return source, target and references of the rows of a split that the task uses."""
        for column, expected in self.only.items():
            if column in rows.column_names:
                rows = rows.filter(
                    lambda value, expected=expected: value == expected, input_columns=column
                )
        rows = self.sample_rows(rows, split)

        table = rows.with_format("arrow")[:].flatten()
        sources = [" ".join(texts) for texts in self._fill_first(table, self.source, split)]
        return text_table(sources, self._fill_first(table, self.target, split))

    def _fill_first(self, table: pa.Table, alternatives: list[str], split: str) -> list[list[str]]:
        """Return the texts of each row, by the first alternative whose columns exist.

        Args:
            table: the rows, structs flattened: the field b of the struct a is the column a.b.
            alternatives: names of columns, or templates.
            split: the name of the split, for messages.

        Returns:
            A list for each row, of several texts if the column holds lists.
        """
        for alternative in alternatives:
            columns = COLUMN.findall(alternative) or [alternative]
            if not set(columns) <= set(table.column_names):
                continue
            texts = {name: self._read_column(table[name], name, split) for name in columns}
            if alternative in texts:
                return texts[alternative]
            return fill_template(alternative, texts, table.num_rows)

        raise UsageError(
            f"{self.name}: column {' or '.join(alternatives)} is not in the dataset; it has "
            f"{', '.join(table.column_names)}."
        )

    def _read_column(self, column: pa.ChunkedArray, name: str, split: str) -> list[list[str]]:
        """Return the cleaned texts of a column, a list for each row.

        Raises UsageError if it holds something else than text, or a row has none.
        """
        if pa.types.is_integer(column.type):  # as sums in a .csv file are
            column = column.cast(pa.string())
        values = column.to_pylist()
        text_type = column.type
        if pa.types.is_list(column.type):
            text_type = column.type.value_type
        else:
            values = [[value] for value in values]

        if not is_text(text_type) and not pa.types.is_null(text_type):
            raise UsageError(
                f"{self.name}: column {name} of {split} holds {type_words(column.type)}; give text "
                "in every row, or --head number with --text and --label to predict a number."
            )
        empty = [number for number, texts in enumerate(values) if not texts or None in texts]
        if empty:
            raise UsageError(
                f"{self.name}: {len(empty)} of {len(values)} rows of {split} have no text in "
                f"column {name}, the first is row {empty[0] + 1}; give text in every row, or leave "
                "these rows out."
            )
        return [[self._clean(text) for text in texts] for texts in values]

    def _clean(self, text: str) -> str:
        """Return a text after all functions in `clean`."""
        for name in self.clean:
            text = CLEANERS[name](text)
        return text


def fill_template(
    template: str, texts: dict[str, list[list[str]]], row_count: int
) -> list[list[str]]:
    """Return the template of each row with every {column} replaced by the row's text.

    Args:
        template: a text with {column} in it.
        texts: column -> the texts of each row; several of a row are joined by spaces.
        row_count: how many rows there are.

    Returns:
        A list with one text for each row.
    """
    filled = []
    for index in range(row_count):
        row = {name: " ".join(column[index]) for name, column in texts.items()}
        filled.append([fill_row(template, row)])
    return filled


def fill_row(template: str, row: dict[str, str]) -> str:
    """Return the template with every {column} replaced by the row's text."""

    def column_text(match: re.Match[str]) -> str:
        return row[match[1]]

    return COLUMN.sub(column_text, template)


def text_table(sources: list[str], targets: list[Any]) -> pa.Table:
    """Return rows as a table of source, target and references.

    Args:
        sources: the input of each row.
        targets: for each row the expected text, or a list of accepted texts; the first is learned.
    """
    references = [[target] if isinstance(target, str) else target for target in targets]
    columns = {
        "source": sources,
        "target": [accepted[0] for accepted in references],
        "references": references,
    }
    return pa.table(columns, schema=TEXT_SCHEMA)


def embedded_splits() -> dict[str, pa.Table]:
    """Return the splits of stdlib_ast: functions of the standard library and their syntax trees."""
    splits = {}
    for split, table in stdlib.syntax_trees().items():
        sources, trees = (column.to_pylist() for column in table.columns)
        splits[split] = text_table(sources, trees)
    return splits
