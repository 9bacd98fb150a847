"""Guesses: the rows of one's own data, and what was said of them -> the fields of a task.

1. `column_kinds`: each column of the rows -> what it seems to hold (text, classes, a number ...).
2. `guess_fields`: those kinds and the names of the columns -> head, text and label, or source and
   target. Fields that were given stay as they are.
3. `describe`: the fields -> a sentence for the user.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset
from datasets.features import List

from hf_synpre.data.splits import is_list_of_text, is_text
from hf_synpre.errors import UsageError, choose, in_message
from hf_synpre.finetuning.catalog import TEXT_TO_TEXT_TASKS
from hf_synpre.finetuning.label_names import describe_texts, texts_among_numbers
from hf_synpre.finetuning.number_head import NumberHead

# Fields of a LabelTask alone, beside its head.
LABEL_FIELDS = ("text", "label", "choices", "label_names", "splits")

# Rows of a fixed shuffle that are looked at; files are often sorted by label.
SAMPLE_ROWS = 2000
# A column has classes if it has at most so many values, each of them twice on average or more.
MOST_CLASSES = 200

# Names of columns that tell rows apart; they are no text.
ID_NAME = re.compile(r"(^|_)(id|idx|index|guid|uid|uuid|url|date|time)$", re.I)

# What a column can seem to hold.
TEXT, CLASSES, NUMBER, WHOLE = "text", "classes", "number", "whole number"
COUNTS = "whole numbers that repeat"  # classes without names, or counts
WORDS, LISTS, FLAGS, ANSWERS = "lists of words", "lists", "lists of 0 and 1", "answers"
OTHER = "something else"

# Usual names of columns, the more telling ones first.
LABEL_NAMES = (
    *("label", "labels", "class", "classes", "category", "target", "sentiment", "topic", "intent"),
    *("emotion", "stars", "rating", "score", "similarity", "label_text", "label_name", "tag", "y"),
)
# Names of columns whose whole numbers are classes, and no counts.
CLASS_NAMES = ("label", "labels", "class", "classes", "category", "sentiment", "topic", "intent")
TAG_NAMES = ("ner_tags", "tags", "ner", "labels", "pos_tags", "pos", "upos", "chunk_tags")
WORD_NAMES = ("tokens", "words", "text", "sentence")
CHOICE_NAMES = ("endings", "choices", "options", "continuations")
TEXT_NAMES = (
    *("text", "sentence", "content", "review", "body", "comment", "comment_text", "tweet"),
    *("utterance", "message", "document", "question", "query"),
)
TITLE_NAMES = ("title", "headline", "subject")
TEXT_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("query", "passage"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
)
# Columns of a source text and of its target text.
TARGET_PAIRS = (
    *(("source", "target"), ("src", "tgt"), ("input", "output"), ("inputs", "targets")),
    *(("input_text", "target_text"), ("prompt", "completion"), ("prompt", "response")),
    *(("instruction", "output"), ("question", "answer"), ("text", "summary")),
    *(("document", "summary"), ("dialogue", "summary"), ("article", "summary")),
    *((task.source[0], task.target[0]) for task in TEXT_TO_TEXT_TASKS),
)


# --- what columns hold ----------------------------------------------------------------------------


def column_kinds(rows: Dataset) -> dict[str, str]:
    """Return for every column what it seems to hold, by a sample of its values.

    Args:
        rows: the train split.
    """
    order = np.random.default_rng(0).permutation(len(rows))[:SAMPLE_ROWS]
    table = rows.select(order).with_format("arrow")[:]
    kinds = {}
    for name in table.column_names:
        kinds[name] = column_kind(name, table[name], rows.features.get(name))
    return kinds


def column_kind(name: str, column: pa.ChunkedArray, feature: Any) -> str:
    """Return what a column seems to hold.

    Args:
        name: its name, which tells ids from texts.
        column: some of its values.
        feature: its type in the datasets library.
    """
    if isinstance(feature, ClassLabel):
        return CLASSES
    values = [value for value in column.to_pylist() if value is not None]
    if not values:
        return OTHER
    column_type = column.type

    first = values[0]
    if isinstance(first, list) and first and isinstance(first[0], dict):
        first = first[0]
    if isinstance(first, dict) and {"text", "answer_start"} <= set(first):
        return ANSWERS
    if pa.types.is_struct(column_type):
        return OTHER
    if isinstance(values[0], list):
        return list_kind(column_type, values, feature)

    # A column of one value says nothing; one of few values has classes.
    distinct = len(set(values))
    repeated = 2 <= distinct <= MOST_CLASSES and 2 * distinct <= len(values)
    if is_text(column_type):
        if repeated:
            return CLASSES
        is_id = ID_NAME.search(name) is not None
        return OTHER if is_id or distinct == 1 else TEXT
    if pa.types.is_floating(column_type):
        return NUMBER
    if pa.types.is_integer(column_type) or pa.types.is_boolean(column_type):
        is_count = repeated and pa.types.is_integer(column_type)
        if is_count:
            return COUNTS
        return CLASSES if repeated else WHOLE  # which may tell rows apart
    return OTHER


def list_kind(column_type: pa.DataType, values: list[list[Any]], feature: Any) -> str:
    """Return what a column of lists seems to hold; the arguments are those of `column_kind`."""
    if is_list_of_text(column_type):
        return WORDS
    parts = {part for value in values for part in value if not isinstance(part, list | dict)}
    is_named = isinstance(feature, List) and isinstance(feature.feature, ClassLabel)
    lengths = {len(value) for value in values}
    if not is_named and parts <= {0, 1} and len(lengths) == 1:
        return FLAGS
    return LISTS


# --- from kinds to fields -------------------------------------------------------------------------


def guess_fields(
    rows: Dataset, given: Mapping[str, Any], name: str, hint: str = ""
) -> dict[str, Any]:
    """Return the fields of a task on one's own rows: those that were given, the others guessed.

    Args:
        rows: the train split.
        given: fields of a LabelTask or TextToTextTask, with lists of columns as `text` and `label`.
        name: the name of the data, for messages.
        hint: a sentence at the end of the message where the columns are not clear.

    Returns:
        The fields, complete for the kind of task: head, text and label (and choices), or source and
        target.

    Raises:
        UsageError: which columns are meant is not clear, or one that was given is missing.
    """
    for field in ("text", "label", "choices"):
        for column in given.get(field, ()):
            choose(f"column of {name}", column, rows.column_names)
    kinds = column_kinds(rows)
    if predicts_number(given):
        kinds |= dict.fromkeys(number_columns(rows), NUMBER)

    # Fields that were given decide the kind of task.
    of_text = [field for field in ("source", "target") if field in given]
    of_labels = [field for field in LABEL_FIELDS if field in given]
    if of_text and of_labels:
        raise UsageError(
            f"{name}: {of_text[0]} is of generated text, {of_labels[0]} of labels; leave one out."
        )
    is_text_to_text = bool(of_text) or given.get("head") == "text"
    is_labelled = bool(of_labels) or ("head" in given and not is_text_to_text)
    found: dict[str, Any] | None = None
    if is_labelled:
        found = guess_special(kinds, given) or guess_label(kinds, given)
    elif is_text_to_text:
        found = guess_target(kinds, given, surely=True)
    else:
        check_choices_column(kinds, rows, name)
        found = (
            guess_special(kinds, given)
            or guess_target(kinds, given)
            or guess_label(kinds, given)
            or guess_target(kinds, given, surely=True)
        )
    if found is not None and "target" in found and "target" not in given:
        check_target(rows, found["target"][0], name)
    if found is None:
        check_several_labels(rows, kinds, given, name)
        columns = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
        raise UsageError(
            f"{name} has the columns {columns}; which are meant is not clear. Give --text and "
            f"--label for labels, --source and --target for generated text, or --head lm for text "
            f"whose tokens are predicted. {hint}".rstrip()
        )
    return {**found, **given}


def predicts_number(given: Mapping[str, Any]) -> bool:
    """Say whether the fields that were given ask for a number: the head, or a metric of it."""
    if "head" in given:
        return bool(given["head"] == NumberHead.name)
    return given.get("metric") in NumberHead.metrics


def number_columns(rows: Dataset) -> list[str]:
    """Return the columns of numbers, but for those that are called as ids.

    One with text in a few rows is among them: its rows are refused later, and the text is named.
    """
    table = rows.with_format("arrow")[:]
    names = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        if is_text(column.type):
            is_number = bool(texts_among_numbers(column.to_pylist()))
        if is_number and not ID_NAME.search(name):
            names.append(name)
    return names


def check_target(rows: Dataset, target: str, name: str) -> None:
    """Raise UsageError where a target that was guessed has numbers, and text in a few rows.

    Args:
        rows: the train split.
        target: the column.
        name: the name of the data, for the message.
    """
    texts = texts_among_numbers(rows.with_format("arrow")[:][target].to_pylist())
    if texts:
        raise UsageError(
            f"{name}: the column {target} has numbers but for {describe_texts(texts)}, so what is "
            f"predicted is not clear; mend them and give --head number --label {target}, or give "
            f"--target {target} to generate text."
        )


def check_choices_column(kinds: Mapping[str, str], rows: Dataset, name: str) -> None:
    """Raise UsageError where a column is called choices, or the like, and is no list of texts.

    Without them a label such as A would be taken for a class of the question.
    """
    for column, kind in kinds.items():
        is_struct = isinstance(rows.features[column], dict)
        if column.lower() in CHOICE_NAMES and (is_struct or kind == LISTS):
            raise UsageError(
                f"{name}: the column {column} looks like the choices of a question, and holds "
                f"{rows.features[column]}; give a list of texts in every row and the number of the "
                "right one, from 0, or name other columns as --text and --label."
            )


def check_several_labels(
    rows: Dataset, kinds: Mapping[str, str], given: Mapping[str, Any], name: str
) -> None:
    """Raise UsageError where the column of labels has one label in all rows.

    Args:
        rows: the train split.
        kinds: what each column holds.
        given: the fields that were given.
        name: the name of the data, for the message.
    """
    if "source" in given or "target" in given:
        return
    for column, kind in kinds.items():
        if kind != OTHER or column.lower() not in LABEL_NAMES:
            continue
        values = rows.with_format("arrow")[:][column].unique().drop_null()
        if len(values) == 1:
            raise UsageError(
                f"{name}: all {len(rows)} rows of train have the label "
                f"{in_message(values[0].as_py())} in the column {column}, so there is nothing to "
                "predict; give rows of two labels or more, or name another column as --label."
            )


def guess_special(kinds: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields of tags, spans or choices, whose columns have shapes of their own."""
    words = given.get("text") or named_first(kinds, WORD_NAMES, WORDS)
    tags = given.get("label") or named_first(kinds, TAG_NAMES, WORDS, LISTS, FLAGS)
    head = given.get("head")

    if head in (None, "tags") and words and tags and words != tags:
        are_lists = kinds[words[0]] == WORDS and kinds[tags[0]] in (WORDS, LISTS, FLAGS)
        if are_lists:
            return {"head": "tags", "text": words, "label": tags}

    answers = named_first(kinds, ("answers",), ANSWERS)
    is_squad = answers and kinds.get("context") == kinds.get("question") == TEXT
    if head in (None, "span") and is_squad:
        return {"head": "span", "text": ["context", "question"], "label": answers}

    endings = given.get("choices") or named_first(kinds, CHOICE_NAMES, WORDS)
    if head in (None, "choices") and endings:
        rest = {name: kind for name, kind in kinds.items() if name not in endings}
        others = guess_label(rest, given)
        if others is not None:
            return {**others, "head": "choices", "choices": endings}
    return None


def guess_target(
    kinds: Mapping[str, str], given: Mapping[str, Any], surely: bool = False
) -> dict[str, Any] | None:
    """Return the columns of source and target text.

    Args:
        kinds: what each column holds.
        given: the fields that were given.
        surely: the task is known to be text-to-text. Otherwise only pairs of usual names count.
    """
    texts = [name for name, kind in kinds.items() if kind == TEXT]
    for source, target in TARGET_PAIRS:
        if kinds.get(source) in (TEXT, WORDS) and kinds.get(target) in (TEXT, WORDS):
            pair = {"source": [source], "target": [target]}
            if all(given.get(field, column) == column for field, column in pair.items()):
                return pair
    if not surely:
        return None

    # One column is known, and one other has text; or there are two in all.
    known = [column for field in ("source", "target") for column in given.get(field, ())]
    others = [name for name in texts if not any(name in column for column in known)]
    if "source" in given and "target" in given:
        return {}
    if "source" in given and len(others) == 1:
        return {"target": others}
    if "target" in given and len(others) == 1:
        return {"source": others}
    if not known and len(texts) == 2:
        return {"source": texts[:1], "target": texts[1:]}
    return None


def guess_label(kinds: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the columns of text and label, and the head that the labels ask for."""
    is_number = predicts_number(given)
    label = given.get("label") or guess_label_column(kinds, given.get("text", ()), is_number)
    if not label:
        return None
    text = given.get("text") or guess_text_columns(
        {name: kind for name, kind in kinds.items() if name not in label}
    )
    if not text:
        return None

    heads = {NUMBER: "number", WHOLE: "number", FLAGS: "labels", LISTS: "labels"}
    head = "number" if is_number else heads.get(kinds[label[0]], "classes")
    if len(label) > 1:
        head = "labels"
    return {"head": head, "text": text, "label": label}


def guess_label_column(
    kinds: Mapping[str, str], text: Any, is_number: bool = False
) -> list[str] | None:
    """Return the column of labels: one of a usual name, else the only one with classes.

    Beside text alone it is the only one with numbers. It is not clear which one is meant where
    whole numbers, which may be classes, stand beside numbers that are no whole ones.

    Args:
        kinds: what each column holds.
        text: the columns of text, which have no labels.
        is_number: labels are known to be numbers.
    """
    rest = {name: kind for name, kind in kinds.items() if name not in text}
    allowed = (NUMBER,) if is_number else (CLASSES, COUNTS, NUMBER, WHOLE, FLAGS)
    named = named_first(rest, LABEL_NAMES, *allowed)
    if named:
        return named

    classes = [name for name, kind in rest.items() if kind in (CLASSES, COUNTS)]
    numbers = [name for name, kind in rest.items() if kind == NUMBER]
    if is_number:
        return numbers if len(numbers) == 1 else None
    if len(classes) == 1:
        may_be_either = numbers and rest[classes[0]] == COUNTS
        return None if may_be_either else classes
    others = {kind for kind in rest.values() if kind != NUMBER}
    return numbers if len(numbers) == 1 and others <= {TEXT} else None


def guess_text_columns(kinds: Mapping[str, str]) -> list[str] | None:
    """Return the column of text, or two that belong together; None if it is not clear."""
    texts = {name.lower(): name for name, kind in kinds.items() if kind == TEXT}
    for first, second in TEXT_PAIRS:
        if first in texts and second in texts:
            return [texts[first], texts[second]]

    # A text of a usual name, with its title if it has one.
    for usual in TEXT_NAMES:
        if usual in texts:
            titles = [texts[name] for name in TITLE_NAMES if name in texts]
            return [*titles[:1], texts[usual]]
    if len(texts) in (1, 2):
        return list(texts.values())
    return None


def named_first(
    kinds: Mapping[str, str], names: tuple[str, ...], *allowed: str
) -> list[str] | None:
    """Return the column whose name stands first in `names`, capitals aside, in a list.

    Args:
        kinds: what each column holds.
        names: the names, in small letters.
        *allowed: the kinds that the column may be of.
    """
    columns = {name.lower(): name for name, kind in kinds.items() if kind in allowed}
    for name in names:
        if name in columns:
            return [columns[name]]
    return None


def describe(fields: Mapping[str, Any]) -> str:
    """Return the words that say what a task predicts from what."""
    if "source" in fields:
        return f"{fields['target'][0]} (text) from {fields['source'][0]}"
    answers = {
        "classes": "one of its classes",
        "labels": "any of several labels",
        "number": "a number",
        "choices": "the number of the right choice",
        "span": "a part of the text",
        "tags": "a tag for each word",
    }
    columns = [*fields["text"], *fields.get("choices", ())]
    label = ", ".join(fields["label"])
    return f"{label} ({answers[fields['head']]}) from {' and '.join(columns)}"
