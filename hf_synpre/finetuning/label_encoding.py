"""Columns of a labelled dataset -> ids of texts, and labels as numbers.

Functions that several heads of label_heads.py share.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import ClassLabel, Dataset, Sequence
from datasets.features import List
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.errors import UsageError

if TYPE_CHECKING:
    from hf_synpre.finetuning.label_tasks import LabelTask

IDS_OF_TEXTS = pa.list_(pa.list_(pa.int32()))  # the ids of each text of each row


def text_columns(task: "LabelTask", rows: Dataset) -> list[str]:
    """Return all columns of text, those of choices too; a corpus of the dataset is made of them."""
    columns = list(task.find_columns(rows, "text"))
    if task.choices:
        columns += task.find_columns(rows, "choices")
    return columns


def column_texts(task: "LabelTask", rows: Dataset) -> list[tuple[Any, ...]]:
    """Return the values of the text columns, row by row."""
    columns = [rows[name] for name in task.find_columns(rows, "text")]
    return list(zip(*columns, strict=True))


def label_values(task: "LabelTask", rows: Dataset) -> Iterator[Any]:
    """Yield the label of each row, a list of values where several columns hold it."""
    columns = task.find_columns(rows, "label")
    if len(columns) == 1:
        yield from rows[columns[0]]
        return
    for values in zip(*(rows[name] for name in columns), strict=True):
        yield list(values)


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, rows: list[list[str]]
) -> list[list[list[int]]]:
    """Return the ids of every text of every row. A text without ids becomes the unknown id.

    Args:
        tokenizer: called once for all texts, without special tokens.
        rows: the texts of each row.
    """
    texts = [text or "" for row in rows for text in row]
    ids: list[list[int]] = []
    if texts:
        ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    remaining = iter(ids)
    encoded = []
    for row in rows:
        encoded.append([next(remaining) or [tokenizer.unk_token_id] for _ in row])
    return encoded


def class_names(task: "LabelTask", rows: Dataset, column: str, values: Iterable[Any]) -> list[Any]:
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
        UsageError: every row has the same label.
    """
    if (names := declared_names(rows, column)) is not None:
        return names

    distinct = {value for value in values if value is not None}
    ordered = sorted(distinct, key=lambda value: (isinstance(value, str), value))
    if len(ordered) == 1:
        raise UsageError(
            f"{task.name}: every row of train has the label {ordered[0]!r}; give rows of two "
            "labels or more."
        )
    if task.label_names and all(isinstance(value, int) for value in ordered):
        return task.label_names
    return ordered


def declared_names(rows: Dataset, column: str) -> list[str] | None:
    """Return the names in the ClassLabel of a column, None if it is no ClassLabel."""
    feature = rows.features[column]
    if isinstance(feature, Sequence | List):
        feature = feature.feature
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def class_number(value: Any, names: list[Any]) -> int:
    """Return the number of a class.

    Args:
        value: the class as the dataset has it.
        names: the names of the classes in order.

    Returns:
        Its position among the names; the value itself if it is a number of a ClassLabel.

    Raises:
        ValueError: the value is none of these classes.
    """
    if value in names:
        return names.index(value)
    are_names = all(isinstance(name, str) for name in names)
    if isinstance(value, int) and 0 <= value < len(names) and are_names:
        return value
    raise ValueError(value)


def check_tags_are_bio(task: "LabelTask", names: list[Any] | None) -> None:
    """Raise UsageError where entities are scored and no tag is one of an entity: the F1 were 0."""
    if task.metric_name != "span_f1":
        return
    if not any(str(name).startswith(("B-", "I-")) for name in names or ()):
        raise UsageError(
            f"{task.name}: the tags {str(names)[:60]} are not BIO, as B-PER, I-PER, O; give "
            "label_names."
        )


def check_word_tags(
    task: "LabelTask", words: list[list[str]], tags: Iterable[list[Any]], split: str
) -> None:
    """Raise UsageError where a row of a split has no words, or not a tag for each."""
    for row_words, row_tags in zip(words, tags, strict=True):
        if not row_words or len(row_words) != len(row_tags):
            raise UsageError(
                f"{task.name}: a row of {split} has {len(row_words)} words and {len(row_tags)} "
                "tags; give one tag for each word."
            )


def check_choices(
    task: "LabelTask", rows: list[list[str]], labels: Iterable[Any], split: str
) -> None:
    """Check the continuations of a split's rows and their labels.

    Args:
        task: the task, for messages.
        rows: the context and the continuations of each row.
        labels: the number of the right continuation of each row.
        split: the name of the split, for messages.

    Raises:
        UsageError: rows have different numbers of continuations, or a label is none of them.
    """
    expected = len(rows[0]) - 1
    for row, label in zip(rows, labels, strict=True):
        count = len(row) - 1
        if count != expected:
            raise UsageError(
                f"{task.name}: rows of {split} have {expected} and {count} choices; give the same "
                "number in every row."
            )

        # A label is the number of a continuation, from 0, as an integer or as text.
        if not str(label).isdigit() or int(label) >= count:
            raise UsageError(
                f"{task.name}: a row of {split} has the label {label!r} and {count} choices; give "
                f"the number of the right one, 0 to {count - 1}."
            )


def choice_texts(task: "LabelTask", rows: Dataset) -> list[list[str]]:
    """Return the context and the continuations of each row.

    With two columns of context the second is the beginning of every continuation.
    """
    contexts = column_texts(task, rows)
    columns = [rows[name] for name in task.find_columns(rows, "choices")]

    texts = []
    for context, choices in zip(contexts, zip(*columns, strict=True), strict=True):
        # One column of lists, or a column for each continuation.
        endings = choices[0] if isinstance(choices[0], list) else choices
        beginning = f"{context[1]} " if len(context) > 1 else ""
        texts.append([context[0], *(beginning + ending for ending in endings)])
    return texts


def encode_spans(task: "LabelTask", rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> pa.Table:
    """Return a span task's rows as a table.

    Args:
        task: its text columns are context and question, its label column has answers as in SQuAD.
        rows: a split of the dataset.
        tokenizer: a fast tokenizer, which gives the characters of each id.

    Returns:
        `pieces` (the ids of question and context), `label` (first and last id of the answer in the
        context), `context`, `offsets` (begin and end of each id in characters) and `answers`.
    """
    context_column, question_column = task.find_columns(rows, "text")
    contexts, questions = list(rows[context_column]), list(rows[question_column])
    answers = list(rows[task.find_columns(rows, "label")[0]])
    encoded = tokenizer(
        contexts, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    question_ids = tokenizer(questions, add_special_tokens=False, verbose=False)["input_ids"]

    pieces, spans, offsets = [], [], []
    for index, answer in enumerate(answers):
        id_offsets = encoded["offset_mapping"][index]
        pieces.append([question_ids[index], encoded["input_ids"][index]])
        spans.append(span_ids(id_offsets, answer))
        offsets.append([end for begin_and_end in id_offsets for end in begin_and_end])
    return pa.table(
        {
            "pieces": pa.array(pieces, IDS_OF_TEXTS),
            "label": spans,
            "context": contexts,
            "offsets": pa.array(offsets, pa.list_(pa.int32())),
            "answers": [list(answer["text"]) for answer in answers],
        }
    )


def span_ids(offsets: list[tuple[int, int]], answer: dict[str, list[Any]]) -> list[int]:
    """Return the positions of the first and last id that overlap with an answer.

    Args:
        offsets: where each id of the context begins and ends, in characters.
        answer: the accepted answers as in SQuAD, `text` and `answer_start`; the first is used.

    Returns:
        Two positions in the ids of the context; [-1, -1] where there is no answer.
    """
    if not answer["text"]:
        return [-1, -1]
    begin = answer["answer_start"][0]
    end = begin + len(answer["text"][0])

    touched = []
    for index, (id_begin, id_end) in enumerate(offsets):
        if id_begin < end and id_end > begin:
            touched.append(index)
    if not touched:
        return [-1, -1]
    return [touched[0], touched[-1]]


def ids_digest(encoded: pa.Table) -> str:
    """Return the sha256 of a split's ids and labels, row by row."""
    digest = hashlib.sha256()
    pieces, labels = encoded["pieces"].to_pylist(), encoded["label"].to_pylist()
    for row in zip(pieces, labels, strict=True):
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()
