"""Columns of a labelled dataset -> ids of texts, and labels as numbers.

Functions that several heads of label_heads.py share.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.data.encoding import encode_texts
from hf_synpre.errors import UsageError, read_integer
from hf_synpre.finetuning.label_names import declared_names
from hf_synpre.finetuning.tag_schemes import find_scheme
from hf_synpre.vocabulary import padding_and_end

if TYPE_CHECKING:
    from hf_synpre.finetuning.label_tasks import LabelTask

logger = logging.getLogger(__name__)

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


def label_values(task: "LabelTask", rows: Dataset, names: list[Any] | None = None) -> Iterator[Any]:
    """Yield the label of each row, a list of values where several columns hold it.

    Args:
        task: the task, for its columns of labels.
        rows: the rows of a split.
        names: the names of the labels of train. If the split declares others, or another order,
            its numbers are replaced by its own names.
    """
    columns = task.find_columns(rows, "label")
    if len(columns) > 1:
        for values in zip(*(rows[name] for name in columns), strict=True):
            yield list(values)
        return

    own_names = declared_names(rows, columns[0])
    if names is None or own_names is None or own_names == list(names):
        yield from rows[columns[0]]
        return
    for value in rows[columns[0]]:
        yield own_name(value, own_names)


def own_name(value: Any, names: list[str]) -> Any:
    """Return the name of the number of a class, the names of a list of them; others as they are."""
    if isinstance(value, list):
        return [own_name(part, names) for part in value]
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, rows: list[list[str]], *, special_tokens: bool = False
) -> list[list[list[int]]]:
    """Return the ids of every text of every row.

    A text without ids becomes the unknown id, or that of the end where the tokenizer has none.

    Args:
        tokenizer: called once for all texts, without special tokens.
        rows: the texts of each row.
        special_tokens: as for `encode_texts`.
    """
    texts = [text or "" for row in rows for text in row]
    remaining = iter(encode_texts(tokenizer, texts, special_tokens=special_tokens)["input_ids"])
    filler = tokenizer.unk_token_id
    if filler is None:
        filler = padding_and_end(tokenizer)[1]
    encoded = []
    for row in rows:
        encoded.append([next(remaining) or [filler] for _ in row])
    return encoded


def check_tags(task: "LabelTask", names: list[Any] | None) -> None:
    """Raise UsageError where entities are scored and no tag is one of an entity: the F1 were 0."""
    if task.metric_name != "span_f1":
        return
    if find_scheme({str(name) for name in names or ()}) is None:
        raise UsageError(
            f"{task.name}: the tags {str(names)[:60]} are not BIO, as B-PER, I-PER, O; give "
            "label_names, tags in a scheme such as BIO, IOBES or BILOU, or the metric tag_accuracy "
            "(the share of right tags, as for parts of speech)."
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
        number = read_integer(str(label))
        if number is None or number >= count:
            raise UsageError(
                f"{task.name}: a row of {split} has the label {label!r} and {count} choices; give "
                f"the number of the right one, 0 to {count - 1}."
            )


def read_choices(task: "LabelTask", rows: Dataset) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield the texts of the context of each row, one or two, and its continuations.

    The second text of a context is the beginning of every continuation.
    """
    contexts = column_texts(task, rows)
    columns = [rows[name] for name in task.find_columns(rows, "choices")]
    for context, choices in zip(contexts, zip(*columns, strict=True), strict=True):
        # One column of lists, or a column for each continuation.
        endings = choices[0] if isinstance(choices[0], list) else choices
        yield context, list(endings)


def choice_texts(task: "LabelTask", rows: Dataset) -> list[list[str]]:
    """Return the context and the continuations of each row, each with its beginning."""
    texts = []
    for context, endings in read_choices(task, rows):
        beginning = f"{context[1]} " if len(context) > 1 else ""
        texts.append([context[0], *(beginning + ending for ending in endings)])
    return texts


def join_choices(
    task: "LabelTask", rows: Dataset, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[list[list[int]]], list[list[int]]]:
    """Return the ids of the context with each continuation, as a decoder reads them.

    A space stands between the two unless the continuation begins with one. They are encoded as one
    text, because the ids of a word depend on what is before it.

    Args:
        task: the task, for its columns.
        rows: the rows of a split.
        tokenizer: makes the ids, without special tokens.

    Returns:
        For each row and each of its continuations the ids of the whole text, and the first id of
        the continuation: the first one that the context alone does not have.
    """
    prompts, counts, wholes = [], [], []
    for context, endings in read_choices(task, rows):
        prompt = " ".join(context).rstrip()
        prompts.append(prompt)
        counts.append(len(endings))
        for ending in endings:
            whole = prompt
            if ending.strip():
                space = " " if prompt and not ending[0].isspace() else ""
                whole += space + ending
            wholes.append(whole)

    options = {"special_tokens": task.special_tokens}
    prompt_ids = encode_texts(tokenizer, prompts, **options)["input_ids"]
    whole_ids = iter(encode_texts(tokenizer, wholes, **options)["input_ids"])
    joined, starts = [], []
    for ids, count in zip(prompt_ids, counts, strict=True):
        joined.append([next(whole_ids) for _ in range(count)])
        starts.append([common_length(ids, whole) for whole in joined[-1]])
    return joined, starts


def common_length(first: list[int], second: list[int]) -> int:
    """Return how many ids two lists have in common from their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(first), len(second)))


@dataclass(frozen=True)
class Answers:
    """The accepted answers to a question about a context."""

    texts: list[str]  # empty where the question has none
    start: int  # the first character of the first answer in the context; -1: it is not there

    @classmethod
    def read(cls, value: Any, context: str) -> "Answers":
        """Read the answers of a row.

        Args:
            value: {text: [...], answer_start: [...]} as in SQuAD, a list of {text, answer_start},
                or a list of texts.
            context: the text that should hold the answers. Where the first one does not begin at
                its answer_start, its nearest occurrence is taken.
        """
        if value is None:
            return cls([], -1)
        if isinstance(value, dict):
            texts, starts = value.get("text"), value.get("answer_start")
        else:
            are_structs = [isinstance(answer, dict) for answer in value]
            texts = [a["text"] if s else a for a, s in zip(value, are_structs, strict=True)]
            starts = [a.get("answer_start") for a, s in zip(value, are_structs, strict=True) if s]

        # An empty text is no answer.
        accepted = [text for text in as_list(texts) if text]
        if not accepted:
            return cls([], -1)
        given = [start for start in as_list(starts) if start is not None]
        return cls(accepted, nearest(context, accepted[0], given[0] if given else 0))


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, a single value as a list of one, and None as an empty list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def nearest(context: str, answer: str, start: int) -> int:
    """Return where an answer begins in a context, the place nearest to `start`; -1: nowhere."""
    if start >= 0 and context.startswith(answer, start):
        return start
    places = [match.start() for match in re.finditer(re.escape(answer), context)]
    return min(places, key=lambda place: abs(place - start), default=-1)


def answers_in_context(task: "LabelTask", rows: Dataset) -> list[Answers]:
    """Return the answers of each row of a span task."""
    contexts = rows[task.find_columns(rows, "text")[0]]
    values = rows[task.find_columns(rows, "label")[0]]
    return [Answers.read(value, context) for value, context in zip(values, contexts, strict=True)]


def findable_rows(task: "LabelTask", rows: Dataset) -> Dataset:
    """Return the rows of train without those whose answer is not in their context.

    The number of the rows that are left out is said. Raises UsageError if they are most rows, or
    if no other row has an answer.
    """
    answers = answers_in_context(task, rows)
    if all(answer.start < 0 for answer in answers):
        raise UsageError(
            f"{task.name}: no row of train has an answer in its context; give answers as in SQuAD, "
            "{text: [...], answer_start: [...]}."
        )
    kept = [i for i, answer in enumerate(answers) if not answer.texts or answer.start >= 0]
    left_out = len(rows) - len(kept)
    if not left_out:
        return rows
    said = f"{left_out} of {len(rows)} rows of train have an answer that is not in their context"
    if 2 * left_out > len(rows):
        raise UsageError(f"{task.name}: {said}; give contexts that hold their answers.")
    logger.warning("%s: %s and are left out.", task.name, said)
    return rows.select(kept)


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
    answers = answers_in_context(task, rows)
    options = {"special_tokens": task.special_tokens}
    encoded = encode_texts(tokenizer, contexts, offsets=True, **options)
    question_ids = encode_texts(tokenizer, questions, **options)["input_ids"]

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
            "answers": pa.array([answer.texts for answer in answers], pa.list_(pa.string())),
        }
    )


def span_ids(offsets: list[tuple[int, int]], answer: Answers) -> list[int]:
    """Return the positions of the first and last id that overlap with an answer.

    Args:
        offsets: where each id of the context begins and ends, in characters.
        answer: the accepted answers; the first is used.

    Returns:
        Two positions in the ids of the context; [-1, -1] where there is no answer.
    """
    if answer.start < 0:
        return [-1, -1]
    begin = answer.start
    end = begin + len(answer.texts[0])

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
