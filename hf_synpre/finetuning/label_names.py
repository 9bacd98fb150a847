"""Names of labels: a column of a dataset -> its classes in order, the positive one, their numbers.

Rows without a gold label are found here too: a mark such as -1 stands where a label would.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import ClassLabel, Dataset
from datasets import Sequence as SequenceFeature
from datasets.features import List

from hf_synpre.errors import UsageError, counted, in_message

if TYPE_CHECKING:
    from hf_synpre.finetuning.label_tasks import LabelTask

logger = logging.getLogger(__name__)

# Columns with more different values than these are checked to be classes, and no ids or numbers.
MANY_CLASSES = 50
# Rows of a class, on average, that a column of many classes has at the least; bare numbers that are
# classes repeat more often than numbers that are measured.
ROWS_OF_A_NAME = 2
ROWS_OF_A_NUMBER = 10

# Names of the positive one of two classes, in lower case.
POSITIVE_NAMES = ("1", "true", "yes", "y", "positive", "pos", "+", "t")
# What stands before the name of one class in the name of the other: not_duplicate, non-toxic.
NEGATIONS = ("not", "no", "non", "un", "in")

# A number with its unit: 315 K, 12.5 %, $3.
MEASUREMENT = re.compile(
    r"([$€£¥]?\s*)([-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?)((?:\s*[^\d\s][^\d]{0,14})?)"
)

# What stands for a label that is missing; a number or the text of a number.
MISSING_NUMBERS = (-1, -100)
MISSING_WORDS = ("-", "?")


class LabelNames(list[Any]):
    """The names of labels in the order of their numbers.

    Args:
        names: the names.
        declared: whether the dataset or the task says their order; else they are sorted.
    """

    def __init__(self, names: Iterable[Any], declared: bool = True):
        super().__init__(names)
        self.declared = declared
        # Whether a number is the position of a name.
        self.names_numbers = declared and all(isinstance(name, str) for name in self)
        self.numbers = {name: number for number, name in enumerate(self)}
        self.numbers_of_texts = {str(name): number for number, name in enumerate(self)}

    def number(self, value: Any) -> int:
        """Return the number of a label.

        That is its position among the names, or the value itself if it is a number and the names
        are declared. An integer and its text are the same label where the names are not declared:
        the splits of a dataset may be files of different formats.

        Raises:
            ValueError: the value is none of these labels.
        """
        if value in self.numbers:
            return self.numbers[value]
        is_label = isinstance(value, int | str)
        if is_label and not self.declared and str(value) in self.numbers_of_texts:
            return self.numbers_of_texts[str(value)]

        if isinstance(value, int) and self.names_numbers and 0 <= value < len(self):
            return int(value)
        raise ValueError(value)


def class_names(task: "LabelTask", rows: Dataset, column: str, values: Iterable[Any]) -> LabelNames:
    """Return the names of classes in the order of their numbers.

    Args:
        task: the task; its `label_names` name classes that are bare integers.
        rows: the train split.
        column: the column of labels, or of lists of labels.
        values: all labels of the split.

    Returns:
        The names in the dataset's ClassLabel; else the task's `label_names`, if the labels are
        integers; else the distinct labels in order.

    Raises:
        UsageError: every row has the same label, or the labels are ids or measured numbers.
    """
    if (names := declared_names(rows, column)) is not None:
        return LabelNames(names)

    labels = [value for value in values if value is not None]
    ordered = sorted(set(labels), key=lambda value: (isinstance(value, str), value))
    if len(ordered) == 1:
        raise UsageError(
            f"{task.name}: every row of train has the label {ordered[0]!r}; give rows of two "
            "labels or more."
        )
    are_numbers = all(isinstance(value, int) for value in ordered)
    texts = texts_among_numbers(labels)
    if task.label_names and are_numbers:
        return LabelNames(task.label_names)

    say_variants(task, ordered)
    least = ROWS_OF_A_NUMBER if are_numbers or texts else ROWS_OF_A_NAME
    if len(ordered) > MANY_CLASSES and len(labels) < least * len(ordered):
        remedy = "; name the column of the classes"
        if are_numbers:
            remedy += ", or give --head number to predict a number, or label_names"
        elif texts:
            remedy += f", or mend {describe_texts(texts)}, and give --head number"
        raise UsageError(
            f"{task.name}: column {column} has {len(ordered):,} different values among "
            f"{len(labels):,} labels of train, too many for classes: these are ids or "
            f"measurements{remedy}."
        )
    return LabelNames(ordered, declared=False)


def say_variants(task: "LabelTask", names: Iterable[Any]) -> None:
    """Log a warning where names of classes differ in capitals or spaces alone."""
    by_plain: dict[str, list[Any]] = {}
    for name in names:
        by_plain.setdefault(" ".join(str(name).casefold().split()), []).append(name)
    for variants in by_plain.values():
        if len(variants) > 1:
            logger.warning(
                "%s: %s are different classes; write them alike if one is meant.",
                task.name,
                " and ".join(map(repr, variants)),
            )


def declared_names(rows: Dataset, column: str) -> list[str] | None:
    """Return the names in the ClassLabel of a column, None if it is no ClassLabel."""
    feature = rows.features[column]
    if isinstance(feature, SequenceFeature | List):
        feature = feature.feature
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def class_number(value: Any, names: list[Any]) -> int:
    """Return the number of a class (`LabelNames.number`); names of a list are declared."""
    if not isinstance(names, LabelNames):
        names = LabelNames(names)
    return names.number(value)


# --- two classes ----------------------------------------------------------------------------------


def positive_number(task: "LabelTask", names: Sequence[Any], declared: bool) -> int:
    """Return the number of the positive one of two classes, of which F1 is the score.

    It is the task's `positive_class`; else the one with a name such as 1, true, yes or positive;
    else the one whose name the other negates, as not_duplicate negates duplicate; else the larger
    number; else the second name, if the dataset declares their order.

    Args:
        task: the task, for its `positive_class`.
        names: the names of the two classes.
        declared: whether the dataset or the task says their order.

    Raises:
        UsageError: none of these says which one it is, or `positive_class` is neither.
    """
    texts = [str(name).strip().lower() for name in names]
    if task.positive_class is not None:
        given = str(task.positive_class).strip().lower()
        if given not in texts:
            raise UsageError(
                f"{task.name}: positive_class is {task.positive_class!r}, and the classes are "
                f"{names[0]} and {names[1]}; give one of them."
            )
        return texts.index(given)

    positive = [number for number, text in enumerate(texts) if text in POSITIVE_NAMES]
    if len(positive) == 1:
        return positive[0]
    for number, other in ((0, 1), (1, 0)):
        if negates(texts[other], texts[number]):
            return number
    if all(as_number(text) is not None for text in texts):
        return max((0, 1), key=lambda number: as_number(texts[number]) or 0)
    if declared:
        return 1
    raise UsageError(
        f"{task.name}: accuracy_f1 is the F1 of the positive class, and neither {names[0]!r} nor "
        f"{names[1]!r} says that it is that; give positive_class, or the metric accuracy."
    )


def negates(text: str, other: str) -> bool:
    """Say whether a name is another name with a negation before it."""
    for negation in NEGATIONS:
        rest = text.removeprefix(negation)
        if rest != text and rest.lstrip("-_ ") == other:
            return True
    return False


def texts_among_numbers(values: Iterable[Any]) -> list[str]:
    """Return the texts of a column that spell no number, where most of its texts spell one.

    A slip in a file of measurements: "decomposes" in a column of boiling points.

    Args:
        values: the values of a column; those that are no text are passed over.
    """
    texts = [value for value in values if isinstance(value, str)]
    others = [text for text in texts if not spells_number(text)]
    return others if 2 * len(others) < len(texts) else []


def spells_number(text: str) -> bool:
    """Say whether a text is a number, as 315, -1.5 or 2e-6."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def unit_of_numbers(values: Iterable[Any]) -> str | None:
    """Return what all texts of a column have behind or before a number, as "K" of "315 K".

    Args:
        values: the values of a column.

    Returns:
        The unit; None where they have several or none, where a value is no such text, and where
        they are two numbers or fewer, which may be names.
    """
    units, numbers = set(), set()
    for value in values:
        found = MEASUREMENT.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            return None
        before, number, behind = found.groups()
        units.add((before.strip(), behind.strip()))
        numbers.add(number)
    if len(units) != 1 or len(numbers) <= 2:
        return None
    ((before, behind),) = units
    return before + behind or None


def describe_texts(texts: list[str]) -> str:
    """Return the words for texts among numbers: the 2 cells that hold text, such as '>300'."""
    cells = counted(len(texts), "cell that holds text", "cells that hold text")
    return f"the {cells}, such as {in_message(texts[0])}"


def as_number(text: str) -> int | None:
    """Return the integer that a text spells, None if it spells none."""
    try:
        return int(text)
    except ValueError:
        return None


# --- rows without a gold label --------------------------------------------------------------------


def gold_splits(
    task: "LabelTask", splits: Mapping[str, Dataset], column: str, *, are_numbers: bool = False
) -> dict[str, Dataset]:
    """Return the rows of each split that have a gold label.

    A mark such as -1, "-" or an empty text or cell stands for a label that annotators did not agree
    on, or that is hidden. Labels that the task's `kept_labels` names are classes in any case.

    Args:
        task: the task.
        splits: train, validation and test.
        column: the column of labels.
        are_numbers: labels are the numbers of choices from 0, so that no negative one is a class.

    Raises:
        UsageError: -1 may be a class or a mark, or no row of a split has a gold label.
    """
    declared = are_numbers or declared_names(splits["train"], column) is not None
    declared = declared or bool(task.label_names)
    train_labels = set(splits["train"].unique(column))

    kept = {}
    for split, rows in splits.items():
        marks = missing_marks(task, set(rows.unique(column)), train_labels, declared)
        kept[split] = gold_rows(task, rows, split, column, marks)
    return kept


def gold_rows(
    task: "LabelTask", rows: Dataset, split: str, column: str, marks: set[Any]
) -> Dataset:
    """Return the rows of a split that have a gold label; a warning says how many have none.

    Args:
        task: the task, for messages.
        rows: the rows.
        split: the name of the split, for messages.
        column: the column of labels.
        marks: the values that stand for a missing label, beside empty cells and NaN.

    Raises:
        UsageError: no row has a gold label.
    """
    labels = rows[column]
    has_gold = [i for i, label in enumerate(labels) if not is_null(label) and label not in marks]
    if len(has_gold) == len(rows):
        return rows

    shown = sorted(map(repr, marks))
    if any(map(is_null, labels)):
        shown.append("an empty cell, or one that says n/a")
    if not has_gold:
        raise UsageError(
            f"{task.name}: no row of {split} has a gold label, all have {' or '.join(shown)}; give "
            "labels."
        )
    logger.warning(
        "%s: %d of %d rows of %s have no gold label (%s) and are left out.",
        task.name,
        len(rows) - len(has_gold),
        len(rows),
        split,
        " or ".join(shown),
    )
    return rows.select(has_gold)


def is_null(label: Any) -> bool:
    """Say whether a label is an empty cell or NaN."""
    return label is None or label != label


def missing_marks(
    task: "LabelTask", values: set[Any], train_labels: set[Any], declared: bool
) -> set[Any]:
    """Return the values of a split that stand for a missing label.

    Args:
        task: the task, for its `kept_labels`.
        values: the values of the split.
        train_labels: the values of train, which decide whether -1 can be a class.
        declared: whether the names of all classes are known.

    Raises:
        UsageError: -1 may be a class or a mark.
    """
    kept = {str(label) for label in task.kept_labels}
    marks = set()
    for value in values:
        if is_null(value) or isinstance(value, bool) or str(value) in kept:
            continue
        number = as_number(str(value))
        if (
            value == ""
            or (number in MISSING_NUMBERS and (declared or is_mark(task, number, train_labels)))
            or (value in MISSING_WORDS and are_words(train_labels - {value, ""}))
        ):
            marks.add(value)
    return marks


def is_mark(task: "LabelTask", number: int, train_labels: set[Any]) -> bool:
    """Say whether -1 or -100 stands for a missing label, by the other labels of train.

    Raises:
        UsageError: it may be either.
    """
    numbers = {as_number(str(label)) for label in train_labels - {None, ""}}
    numbers -= set(MISSING_NUMBERS)
    others = sorted(other for other in numbers if other is not None)
    is_class_of_train = any(as_number(str(label)) == number for label in train_labels)
    if number != -1 or not is_class_of_train or None in numbers:
        return True

    # -1 and 1 are two classes, and other negative classes make it one of them. Beside the numbers
    # of three classes or more it is a mark.
    if others == [1] or (others and others[0] < 0):
        return False
    is_range = bool(others) and others == list(range(others[0], others[0] + len(others)))
    if is_range and (others[0] == 1 or (others[0] == 0 and len(others) > 2)):
        return True
    listed = ", ".join(map(str, others))
    raise UsageError(
        f"{task.name}: the labels of train are {listed} and -1, which may be a class or stand for "
        f"rows without a gold label; give kept_labels: [-1, {listed}] or kept_labels: [{listed}]."
    )


def are_words(labels: set[Any]) -> bool:
    """Say whether labels are several words, so that a sign among them is no label."""
    texts = [str(label) for label in labels if label is not None]
    return len(texts) > 1 and all(any(letter.isalpha() for letter in text) for text in texts)
