"""Downstream tasks: where the rows of a task are -> its splits, its corpus, its test texts.

`FinetuningTask` is the base of all tasks; text_tasks.py and label_tasks.py have its two subclasses.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict

from hf_synpre.config import option
from hf_synpre.data.corpora import Corpus
from hf_synpre.data.folders import SPLIT_WORDS
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.errors import UsageError, choose

# Rows that are held out of train for a split that a dataset lacks; at most 1 in 10 (1 of 2 to 9).
HELD_OUT_ROWS = 1000
# The fewest rows of which both a validation and a test can be held out.
LEAST_ROWS = 3
PRESET_NAMES = ("small", "paper")

# Fields that do not decide a task's rows: ids are the same with other lengths or another metric.
NOT_OF_THE_ROWS = ("presets", "metric", "positive_class", "max_source", "max_target")


@dataclass(frozen=True)
class FinetuningTask(ABC):
    """A downstream task: where its rows are, how it is scored, how long its texts are.

    A subclass adds the columns that it reads.
    """

    name: str = option("The name of the task, and of its folder in --data_dir.")
    _: KW_ONLY
    hub_id: str | None = option("The dataset on the Hub; without it rows are in --data_dir.", None)
    hub_config: str | None = option("The dataset's configuration on the Hub.", None)
    hub_revision: str | None = option("The branch, tag or commit on the Hub.", None)
    rows: dict[str, int] = option(
        "For a split, how many of its rows are used, taken from a fixed shuffle.",
        default_factory=dict,
    )
    max_source: int = option("Token ids of an input, which is cut to them.", 512)
    hold_out: bool = option(
        "If the dataset has the split train alone, hold out a tenth of its rows (1,000 at most) as "
        "validation, and as many as test, by a fixed shuffle; else such a dataset is refused.",
        False,
    )
    special_tokens: bool = option(
        "Read special tokens that a text spells out, such as <sep>, as these tokens; without it "
        "they are text.",
        False,
    )
    presets: dict[str, Any] = option(
        "Recipes by name (small, paper), with the keys finetuning, max_source and max_target.",
        default_factory=dict,
    )

    # Whether rows have target texts, which are cut to max_target.
    has_target_texts: ClassVar[bool] = False
    # The task of its kind whose rows are made from Python's standard library, if there is one.
    embedded: ClassVar[str | None] = None

    @property
    @abstractmethod
    def head_name(self) -> str:
        """The name of the head that answers the task, of the table HEADS."""

    @property
    @abstractmethod
    def metric_name(self) -> str:
        """The metric that is reported."""

    @abstractmethod
    def load(self, data_dir: str | None = None) -> Mapping[str, pa.Table | Dataset]:
        """Return the rows of train, validation and test, from a folder or the Hub.

        Args:
            data_dir: a local copy of the dataset, or a folder of copies; None for the Hub.

        Raises:
            UsageError: a folder, a split or a column is missing, or a column holds something else.
        """

    @abstractmethod
    def check_columns(self, data_dir: str | None = None) -> None:
        """Raise UsageError where a folder, a split or a column is missing; little is read.

        Args:
            data_dir: as in `load`.
        """

    def data_folder(self, data_dir: str | None) -> Path | None:
        """Return the folder with the task's name in `data_dir`, or `data_dir` itself.

        Return None if the rows are on the Hub or made from the standard library.
        """
        if data_dir is None:
            return None
        named = Path(data_dir) / self.name
        if named.is_dir():
            return named
        return None if self.name == self.embedded else Path(data_dir)

    @abstractmethod
    def corpus(self, data_dir: str | None, text: TextSpec) -> Corpus:
        """Return the text of the train split, for pre-training or a tokenizer.

        Args:
            data_dir: a local copy of the dataset, or a folder of copies; None for the Hub.
            text: what is taken from it; if it names no columns, those that the task reads.
        """

    @abstractmethod
    def test_texts(self, data_dir: str | None) -> list[list[str]]:
        """Return the texts of every test row, which no corpus should hold."""

    def check_fields(self, metrics: Iterable[str]) -> None:
        """Raise UsageError where the metric is none of these, or `rows` is not allowed."""
        choose(f"metric of the head {self.head_name}", self.metric_name, metrics)
        for split, count in self.rows.items():
            choose("split", split, SPLIT_WORDS)
            if not isinstance(count, int) or count < 1:
                raise UsageError(
                    f"{self.name}: rows of {split} is {count!r}; give an integer >= 1."
                )

    def sample_rows(self, rows: Dataset, split: str) -> Dataset:
        """Return the rows of a split that the task uses: all, or the first of a fixed shuffle."""
        if split not in self.rows:
            return rows
        order = np.random.default_rng(0).permutation(len(rows))
        return rows.select(order[: self.rows[split]])

    def with_lengths(self, max_source: int | None, max_target: int | None) -> Self:
        """Return the task with other limits of its texts.

        Args:
            max_source: the most ids of a source text; None leaves the limit as it is.
            max_target: the most ids of a target text; None leaves the limit as it is.

        Raises:
            UsageError: max_target is given for a task without target texts.
        """
        changes: dict[str, Any] = {}
        if max_source is not None:
            changes["max_source"] = max_source
        if max_target is not None:
            if not self.has_target_texts:
                raise UsageError(f"The task {self.name} has no target texts; leave max_target out.")
            changes["max_target"] = max_target
        return replace(self, **changes)

    def rows_recipe(self) -> dict[str, Any]:
        """Return the fields that decide the rows; folders of prepared tasks are named by them."""
        recipe = {
            name: value for name, value in asdict(self).items() if name not in NOT_OF_THE_ROWS
        }

        # Folders that were made before these fields existed keep their names.
        for name in ("hold_out", "special_tokens", "chat_template"):
            if recipe.get(name) is False:
                del recipe[name]
        if recipe.get("lowercase"):  # as all did before that field existed
            del recipe["lowercase"]
        return recipe


@contextmanager
def naming_data(path: Path | None) -> Iterator[None]:
    """Name the folder or file of a task's rows in the errors of a block.

    Args:
        path: the folder or file; None for rows of the Hub, and nothing is named.
    """
    try:
        yield
    except UsageError as error:
        is_named = path and re.search(rf"(?<![\w/]){re.escape(str(path))}(?!\w)", str(error))
        if path is None or is_named:
            raise
        raise UsageError(f"{path}: {error}") from error


def complete_splits(task: str, dataset: DatasetDict, hold_out: bool = False) -> dict[str, Dataset]:
    """Return train, validation and test of a dataset; it may lack one of the last two.

    Then the one that it has is the test, and HELD_OUT_ROWS rows of train are the validation. A
    dataset that lacks both gets both from train, if `hold_out` allows it.

    Args:
        task: the name of the task, for messages.
        dataset: the dataset's splits by name.
        hold_out: whether a test may be made of rows of train.

    Raises:
        UsageError: train is missing, or both of the others are and `hold_out` is false, or train
            has too few rows.
    """
    named = {name.lower(): rows for name, rows in dataset.items()}
    splits = {}
    for split, names in SPLIT_WORDS.items():
        there = [name for name in names if name in named]
        if there:
            splits[split] = named[there[0]]

    if "train" not in splits:
        raise UsageError(f"{task} has no train split; it has {', '.join(dataset)}.")
    if len(splits) == 1 and not hold_out:
        raise UsageError(
            f"{task} has no validation split; it has {', '.join(dataset)}. Give one, or hold_out: "
            "true in the definition of a task of your own."
        )
    if len(splits) == 3:
        return splits

    # Hold out the first rows of a fixed shuffle of train, and leave the others in their order.
    train = splits["train"]
    if len(splits) == 1 and len(train) < LEAST_ROWS:
        raise UsageError(
            f"{task} has {len(train)} rows in train, of which some are held out; give "
            f"{LEAST_ROWS} or more, or the splits validation and test."
        )
    order = np.random.default_rng(0).permutation(len(train))
    count = min(HELD_OUT_ROWS, max(len(train) // 10, 1), len(train) - 1)
    if "test" in splits:
        test, first_kept = splits["test"], count
    elif "validation" in splits:
        test, first_kept = splits["validation"], count
    else:
        return held_out_splits(task, train, order, count)
    return {
        "train": train.select(np.sort(order[first_kept:])),
        "validation": train.select(order[:count]),
        "test": test,
    }


def held_out_splits(task: str, rows: Dataset, order: np.ndarray, count: int) -> dict[str, Dataset]:
    """Return the splits of data that have only one: `count` rows each for validation and test.

    Rows of train that are equal to one of these, in all columns, are left out: a model would have
    learnt the test.

    Args:
        task: the name of the task, for messages.
        rows: all rows.
        order: int64[rows], the shuffle whose first rows are held out.
        count: rows of the validation split and of the test split.

    Raises:
        UsageError: every row is equal to one that is held out.
    """
    held_out = order[: 2 * count]
    kept = np.sort(order[2 * count :])

    # Equal rows have equal keys.
    keys = np.array([hash(repr(row)) for row in rows])  # int64[rows]
    kept = kept[~np.isin(keys[kept], keys[held_out])]
    if not len(kept):
        raise UsageError(
            f"{task}: every row of train is equal to one that is held out for validation or test; "
            "give these splits in files of their own."
        )
    return {
        "train": rows.select(kept),
        "validation": rows.select(held_out[:count]),
        "test": rows.select(held_out[count:]),
    }
