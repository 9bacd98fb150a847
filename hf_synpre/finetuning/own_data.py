"""What a user names as data -> the task that is meant: name, definition, where its rows are.

A word may name a task of hf_synpre, a YAML file with the definition of a task, a folder or file of
rows, or a dataset on the Hub. The columns of the last three are guessed where they are not given.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict

from hf_synpre.config import read_yaml
from hf_synpre.data.corpora import Corpus, corpus_source, dataset_corpus
from hf_synpre.data.folders import split_of_word
from hf_synpre.data.readers import READERS, is_data_file
from hf_synpre.data.splits import is_text, open_splits
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.errors import UsageError, choose, in_message, similar_path
from hf_synpre.finetuning.catalog import TASKS
from hf_synpre.finetuning.definitions import task_from_fields
from hf_synpre.finetuning.guess import (
    CLASS_NAMES,
    COUNTS,
    SAMPLE_ROWS,
    column_kinds,
    describe,
    guess_fields,
)
from hf_synpre.finetuning.label_names import unit_of_numbers
from hf_synpre.finetuning.label_tasks import LabelTask
from hf_synpre.finetuning.language_tasks import LanguageTask
from hf_synpre.finetuning.tasks import complete_splits
from hf_synpre.finetuning.text_tasks import COLUMN

YAML_SUFFIXES = (".yaml", ".yml")
# What stands before the name of data that are called as a task of hf_synpre.
OWN = "own-"
# The fields of a task that name columns.
COLUMN_FIELDS = ("text", "label", "choices", "source", "target")


@dataclass(frozen=True)
class TaskChoice:
    """A downstream task as an experiment's YAML has it, and what the user is told of it."""

    # The name of the task, which files are named by.
    name: str
    # The fields of its definition; None for a task of hf_synpre.
    definition: dict[str, Any] | None = None
    # The folder or file of its rows; None for the Hub.
    data_dir: str | None = None
    # What was guessed, in sentences for the user.
    remarks: list[str] = field(default_factory=list)
    # Rows that are trained on, where they were counted.
    train_rows: int | None = None


def choose_task(data: str, given: Mapping[str, Any], data_dir: str | None = None) -> TaskChoice:
    """Return the task that a user means.

    Args:
        data: a task of hf_synpre, a YAML file, a folder or file of rows, or a Hub id.
        given: fields of the task that the user has given, columns as lists.
        data_dir: the folder of the rows of a task or of a YAML file.

    Raises:
        UsageError: there is nothing of that name, or its columns are not clear, or a field is given
            for a task of hf_synpre.

    Examples:
        >>> choose_task("reviews.csv", {}).definition
        {'hold_out': True, 'head': 'classes', 'text': ['review'], 'label': ['stars']}
    """
    path = Path(data)
    if path.suffix in YAML_SUFFIXES:
        return task_of_yaml(path, given, data_dir)
    if data in TASKS:
        if given:
            raise UsageError(
                f"{data} is a task of hf_synpre, whose fields are known; leave "
                f"--{next(iter(given))} out, or give a folder, a file or a YAML file instead."
            )
        # A folder of the task's name is a copy of its data.
        local = data if data_dir is None and path.is_dir() else data_dir
        return TaskChoice(data, data_dir=local)

    check_exists(data)
    datasets.disable_progress_bars()
    if data_dir is not None:
        raise UsageError(f"{data} and --data_dir {data_dir} are both data; leave one of them out.")
    return task_of_rows(data, given)


def task_of_yaml(file: Path, given: Mapping[str, Any], data_dir: str | None) -> TaskChoice:
    """Return the task that a YAML file defines; fields that were given win over those in it.

    The file's key `data_dir` is a path relative to the file.

    Raises:
        UsageError: the file cannot be read or has no name.
    """
    definition = read_yaml(file)
    name = definition.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(f"{file} lacks the key 'name'; give the task a name.")

    local = definition.pop("data_dir", None)
    if local is not None and not isinstance(local, str):
        raise UsageError(f"{file} has data_dir {local!r}; give the path of a folder or file.")
    if data_dir is None and local is not None:
        data_dir = str(file.parent / local)
    definition = {"hold_out": True, **definition, **given}

    # The definition is checked here, before anything is read.
    task = task_from_fields(name, definition)
    train_rows = None
    if data_dir is not None and Path(data_dir).exists():
        rows = task.load(data_dir)["train"]
        train_rows = len(rows)
    return TaskChoice(name, definition, data_dir, train_rows=train_rows)


def task_of_rows(data: str, given: Mapping[str, Any]) -> TaskChoice:
    """Return a task on the rows of a folder, a file or a dataset on the Hub, columns guessed."""
    is_local = Path(data).exists()
    if given.get("head") == "lm" or ("document" in given and "head" not in given):
        check_language_fields(given)
        return task_of_text(data, {**given, "head": "lm"}, is_local)
    dataset = open_splits(data, given.get("hub_config"), given.get("hub_revision"))
    train = complete_splits(data, dataset, hold_out=True)["train"]
    check_given_columns(train, given, data)

    # The task.
    name = task_name(data)
    hint = hint_of_name(name, data)
    definition = {"hold_out": True, **guess_fields(train, given, data, hint)}
    if not is_local:
        definition["hub_id"] = data
    task = task_from_fields(name, definition)
    task.check_columns(data if is_local else None)

    # What the user is told.
    remarks = [
        f"{data}: predicts {describe(definition)}; --text and --label, or --source and --target, "
        "name other columns."
    ]
    data_dir = data if is_local else None
    if isinstance(task, LabelTask):
        splits = task.read_splits(data_dir)[0]
    else:
        splits = complete_splits(data, dataset, hold_out=True)
    if "head" not in given and has_counts(definition, train):
        remarks.append(
            f"{definition['label'][0]} holds whole numbers, which are taken for classes; --head "
            "number predicts a number."
        )
    if not {"head", "target"} & given.keys():
        remarks += unit_remarks(definition, train)
    remarks += held_out_remarks(len(dataset["train"]), splits)
    if hint:
        remarks.append(hint)
    return TaskChoice(name, definition, data_dir, remarks, len(splits["train"]))


def has_counts(definition: Mapping[str, Any], train: Dataset) -> bool:
    """Say whether the classes of a task are three whole numbers or more, which may be counts."""
    if definition.get("head") != "classes":
        return False
    column = definition["label"][0]
    kind = column_kinds(train.select_columns(column))[column]
    if column.lower() in CLASS_NAMES or kind != COUNTS:
        return False
    return len(train.unique(column)) > 2


def unit_remarks(definition: Mapping[str, Any], train: Dataset) -> list[str]:
    """Return a remark where numbers with a unit are taken for classes or for text to generate."""
    column = (definition.get("target") or definition["label"])[0]
    if column not in train.column_names:
        return []
    values = train.with_format("arrow")[:SAMPLE_ROWS][column].drop_null()
    unit = unit_of_numbers(values.to_pylist()) if is_text(values.type) else None
    if unit is None:
        return []
    taken = "a text to generate" if "target" in definition else "classes"
    return [
        f"{column} holds numbers with {in_message(unit)}, such as {in_message(values[0].as_py())}, "
        f"which are taken for {taken}; --head number predicts a number, from a column without it."
    ]


def check_language_fields(given: Mapping[str, Any]) -> None:
    """Raise UsageError where a field was given that language modelling does not have."""
    allowed = {field.name for field in fields(LanguageTask)} | {"head"}
    others = [f"--{name}" for name in given if name not in allowed]
    if others:
        asked = "--head lm" if "head" in given else "--document"
        raise UsageError(
            f"{asked} predicts the tokens of a text, and does not read {', '.join(others)}; leave "
            "it out, and name the column of the text by --document."
        )


def check_given_columns(rows: Dataset, given: Mapping[str, Any], data: str) -> None:
    """Raise UsageError where a column that was given is not in the rows; templates name several."""
    names = rows.with_format("arrow")[:1].flatten().column_names
    for name in COLUMN_FIELDS:
        for word in given.get(name) or ():
            for column in COLUMN.findall(word) or [word]:
                choose(f"column of {data}", column, names)


def hint_of_name(name: str, data: str) -> str:
    """Return what to say where data have the name of a task of hf_synpre; "" where they do not.

    Its command is named where the task can read the data.

    Args:
        name: the name of the task on the data (`task_name`).
        data: a folder, a file or a Hub id.
    """
    known = name.removeprefix(OWN)
    if name == known or known not in TASKS:
        return ""
    hint = f"hf_synpre has a task {known}, so this one is called {name}."
    if Path(data).exists():
        try:
            TASKS[known].load(data)
        except UsageError:
            return hint
    return f"{hint} `synpre finetune {known} --data_dir {data}` is that one, with its metric."


def task_of_text(data: str, given: Mapping[str, Any], is_local: bool) -> TaskChoice:
    """Return language modelling on the text of a folder, a file or a dataset on the Hub."""
    definition = {"hold_out": True, **given}
    if not is_local:
        definition["hub_id"] = data
    name = task_name(data)
    data_dir = data if is_local else None
    splits = task_from_fields(name, definition).load(data_dir)
    rows = ", ".join(f"{len(table):,} of {split}" for split, table in splits.items())
    remark = f"{data}: predicts the tokens of its text; documents: {rows}."
    return TaskChoice(name, definition, data_dir, [remark])


def own_corpus(data: str, data_dir: str | None, text: TextSpec) -> tuple[Corpus, list[str]]:
    """Return the text that a fine-tuning on the same data trains on, and what the user is told.

    It has no row that a fine-tuning holds out of train for validation or test.

    Args:
        data: a YAML file that defines a task, a folder or file of rows, or a Hub id.
        data_dir: the folder of local copies, or of the rows of the YAML file.
        text: what is taken from the train split.

    Raises:
        UsageError: there is no such data, or they have no text.
    """
    if Path(data).suffix in YAML_SUFFIXES:
        choice = task_of_yaml(Path(data), {}, data_dir)
        task = task_from_fields(choice.name, choice.definition or {})
        return task.corpus(choice.data_dir, text), []

    source = corpus_source(data, data_dir, files=True)
    shown_name = Path(data).name if Path(source).exists() else data
    dataset = open_splits(source, text.config)
    text = replace(text, config=None)  # it is chosen
    if "train" not in dataset:
        return dataset_corpus(dataset, text, shown_name), []  # it says what is missing

    # The columns are those that a fine-tuning on the same data would read.
    columns = columns_of_task(dataset["train"], data)
    splits, remarks = dataset, []
    if set(dataset) == {"train"} and columns:
        splits = DatasetDict(complete_splits(data, dataset, hold_out=True))
        remarks = held_out_remarks(len(dataset["train"]), splits)
    if columns and text.columns is None:
        remarks.append(
            f"{data}: the text is {' and '.join(columns)}, as synpre finetune reads it; --columns "
            "names other columns."
        )
        text = replace(text, columns=columns)
    corpus = dataset_corpus(splits, text, shown_name)
    # All rows of the file are counted: those of a fine-tuning's validation and test are held out.
    corpus.metadata["held_out_rows"] += len(dataset["train"]) - len(splits["train"])
    return corpus, remarks


def reads_lower_case(data: str, data_dir: str | None) -> bool:
    """Say whether a tokenizer that is trained on the text of data reads it in lower case.

    A labelled task says it in its field `lowercase`; of other data case is kept.

    Args:
        data: a downstream task of hf_synpre, the YAML file of one, or any other data.
        data_dir: the folder of local copies, or of the rows of the YAML file.
    """
    task = None
    if Path(data).suffix in YAML_SUFFIXES:
        choice = task_of_yaml(Path(data), {}, data_dir)
        task = task_from_fields(choice.name, choice.definition or {})
    elif not Path(data).exists():
        task = TASKS.get(data)
    return isinstance(task, LabelTask) and task.lowercase


def columns_of_task(rows: Dataset, data: str) -> list[str]:
    """Return the columns of text of the downstream task that rows make, by a guess.

    Args:
        rows: the train split.
        data: its name, for messages.

    Returns:
        The text of a labelled task with its choices, or source and target; [] where the rows make
        no task, such as those of plain text.
    """
    try:
        fields = guess_fields(rows, {}, data)
    except UsageError:
        return []
    if "source" in fields:
        return [*fields["source"], *fields["target"]]
    return [*fields["text"], *fields.get("choices", ())]


def held_out_remarks(rows: int, splits: Mapping[str, Dataset]) -> list[str]:
    """Return a sentence on the rows that are held out of train; none where all splits are there.

    Args:
        rows: how many rows the split train of the dataset has.
        splits: train, validation and test as they are used.
    """
    held_out = rows - len(splits["train"])
    if not held_out:
        return []
    what = f"{len(splits['validation']):,} for validation"
    if held_out > len(splits["validation"]):
        what += f" and {len(splits['test']):,} for the test"
    return [
        f"Of the {rows:,} rows of train {what} are held out by a fixed shuffle, and rows equal to "
        "one of these are left out; files or splits called validation and test replace them."
    ]


def check_exists(data: str) -> None:
    """Raise UsageError where data is no path that exists and cannot be a Hub id."""
    path = Path(data)
    if path.is_file() and not is_data_file(path):
        raise UsageError(
            f"{data} is neither the definition of a task ({', '.join(YAML_SUFFIXES)}) nor data "
            f"({', '.join(READERS)}); give a file that ends so, or a folder."
        )
    if path.exists():
        return

    # A path of this machine, rather than a name of the Hub.
    slashes = data.count("/")
    is_file_name = is_data_file(path) or (not slashes and path.suffix != "")
    is_in_folder = slashes == 1 and path.parent.is_dir()
    if data.startswith((".", "/", "~")) or slashes > 1 or is_file_name or is_in_folder:
        raise UsageError(
            f"There is no file or folder {data}.{similar_path(path)} Give a task of hf_synpre, a "
            "YAML file, a folder, a data file or a Hub id NAMESPACE/NAME."
        )
    if "/" not in data:
        choose(
            "downstream task",
            data,
            TASKS,
            do="Data of your own are a folder, a file or a Hub id NAMESPACE/NAME.",
        )


def task_name(data: str) -> str:
    """Return a name for the task on a file, folder or Hub id: letters, digits, _ and hyphens.

    A file with the name of a split gets the name of its folder too; the name of a task of hf_synpre
    gets "own-" before it.
    """
    path = Path(data).resolve()
    stem = path.name if path.exists() else data.rpartition("/")[2]
    for suffix in reversed(Path(stem).suffixes):
        stem = stem.removesuffix(suffix)
    if path.is_file() and split_of_word(stem):
        stem = f"{path.parent.name}-{stem}"
    name = "-".join(re.findall(r"\w+", stem)) or "own"
    return f"{OWN}{name}" if name in TASKS else name
