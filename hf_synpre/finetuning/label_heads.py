"""The heads of labelled tasks: classes, labels, number, choices, span and tags.

A head reads the labels of a dataset as numbers, and makes predictions of the logits of a model. A
score function of scores.py compares predictions with labels. To add a head, write a class here and
add an object of it to LABEL_HEADS.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from hf_synpre.data.rows import IGNORED
from hf_synpre.data.splits import is_text
from hf_synpre.errors import UsageError
from hf_synpre.finetuning.heads import EVALUATION_BATCH, labels_of_step, token_cross_entropy
from hf_synpre.finetuning.label_encoding import (
    IDS_OF_TEXTS,
    check_choices,
    check_word_tags,
    choice_texts,
    column_texts,
    encode_spans,
    findable_rows,
    join_choices,
    label_values,
)
from hf_synpre.finetuning.label_head import LabelHead
from hf_synpre.finetuning.label_names import (
    LabelNames,
    class_names,
    class_number,
    declared_names,
    gold_splits,
)
from hf_synpre.finetuning.label_rows import ChoiceRows, SpanRows, TagRows
from hf_synpre.finetuning.number_head import NumberHead
from hf_synpre.finetuning.span_answers import extract_answers

if TYPE_CHECKING:
    from hf_synpre.finetuning.finetuning import FinetuningSpec
    from hf_synpre.finetuning.label_tasks import LabelTask
    from hf_synpre.finetuning.prepared import PreparedTask


# Training arguments of heads whose rows have no one length by which they could be grouped.
ROWS_AT_RANDOM: dict[str, Any] = {
    "label_names": ["labels"],
    "train_sampling_strategy": "random",
}


def class_loss(
    head: LabelHead,
    outputs: ModelOutput,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the mean cross-entropy over the rows of a step: the method `loss` of some heads.

    Args:
        head: the head.
        outputs: of the model; their logits are [rows, classes].
        labels: the number of the right class of each row, [rows].
        num_items_in_batch: the rows of the step over all batches and processes, if known.
        label_smoothing: the share of a label that is spread over all classes.
    """
    total = cross_entropy(
        outputs.logits.float(), labels, reduction="sum", label_smoothing=label_smoothing
    )
    return total / labels_of_step(labels, num_items_in_batch)


class ClassHead(LabelHead):
    """One of several classes, for a text or a pair of texts."""

    name = "classes"
    metrics = ("accuracy", "accuracy_f1", "matthews")
    model_class = AutoModelForSequenceClassification
    problem_type = "single_label_classification"
    reports_probabilities = True
    loss = class_loss

    def accepts_label_type(self, column_type: pa.DataType) -> bool:
        """Say whether the column holds integers, strings or booleans."""
        return is_class_type(column_type)

    def usable_splits(
        self, task: "LabelTask", splits: Mapping[str, Dataset]
    ) -> Mapping[str, Dataset]:
        """Return the rows with a gold label."""
        column = task.find_columns(splits["train"], "label")[0]
        return gold_splits(task, splits, column)

    def find_label_names(self, task: "LabelTask", train: Dataset) -> LabelNames:
        """Return the names of the classes."""
        column = task.find_columns(train, "label")[0]
        return class_names(task, train, column, train[column])

    def split_facts(self, encoded: pa.Table, label_names: list[Any] | None) -> dict[str, Any]:
        """Return how many rows each class has."""
        return {"label_counts": count_numbers(encoded["label"].to_numpy(), label_names)}


class MultiLabelHead(LabelHead):
    """Any number of several labels, for a text or a pair of texts."""

    name = "labels"
    metrics = ("auc",)
    smooths_labels = False
    model_class = AutoModelForSequenceClassification
    problem_type = "multi_label_classification"

    def accepts_label_type(self, column_type: pa.DataType) -> bool:
        """Say whether the column holds lists of labels, or one label of several columns."""
        is_number = pa.types.is_floating(column_type)
        return is_class_type(column_type) or is_number or pa.types.is_list(column_type)

    def split_facts(self, encoded: pa.Table, label_names: list[Any] | None) -> dict[str, Any]:
        """Return how many rows have each label."""
        present = np.array(encoded["label"].to_pylist()) > 0.5  # [rows, labels]
        counts = present.sum(axis=0).tolist()
        return {"label_counts": dict(zip(map(str, label_names or []), counts, strict=True))}

    def find_label_names(self, task: "LabelTask", train: Dataset) -> list[Any]:
        """Return the names of the labels: of the columns, of a ClassLabel, or their numbers."""
        columns = task.find_columns(train, "label")
        if len(columns) > 1:
            return columns
        if (names := declared_names(train, columns[0])) is not None:
            return names
        first_labels = train[columns[0]][0] or []
        return [str(number) for number in range(len(first_labels))]

    def label_number(
        self, task: "LabelTask", value: Any, names: list[Any], split: str
    ) -> list[float]:
        """Return the share of each label. UsageError: too few, too many, or outside of 0..1."""
        shares = [float(part) for part in value]
        if len(shares) != len(names) or not all(0 <= share <= 1 for share in shares):
            raise UsageError(
                f"{task.name}: a row of {split} has the labels {shares}; give {len(names)} of 0 or "
                "1 in every row."
            )
        return shares

    def label_remedy(self, names: list[Any]) -> str:
        """Return the end of the sentence that refuses a label."""
        return f"; give a list of {len(names)} numbers, 0 or 1, in every row"

    def loss(
        self,
        outputs: ModelOutput,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean binary cross-entropy over rows and labels."""
        total = binary_cross_entropy_with_logits(
            outputs.logits.float(), labels.float(), reduction="sum"
        )
        return total / labels_of_step(labels, num_items_in_batch)

    def predictions(self, rows: Any, logits: Any, names: list[Any]) -> np.ndarray:
        """Return the logits themselves: AUC compares their order."""
        return logits  # [rows, labels]


class ChoiceHead(LabelHead):
    """One of several continuations of a context."""

    name = "choices"
    metrics = ("accuracy",)
    model_class = AutoModelForMultipleChoice
    row_class = ChoiceRows
    reports_probabilities = True
    loss = class_loss
    evaluation_batch = EVALUATION_BATCH  # a row holds several texts
    training_arguments = ROWS_AT_RANDOM

    def accepts_label_type(self, column_type: pa.DataType) -> bool:
        """Say whether the column holds integers, strings or booleans."""
        return is_class_type(column_type)

    def usable_splits(
        self, task: "LabelTask", splits: Mapping[str, Dataset]
    ) -> Mapping[str, Dataset]:
        """Return the rows with a gold label."""
        column = task.find_columns(splits["train"], "label")[0]
        return gold_splits(task, splits, column, are_numbers=True)

    def texts_to_encode(self, task: "LabelTask", rows: Dataset, split: str) -> list[list[str]]:
        """Return the context and the continuations of each row."""
        texts = choice_texts(task, rows)
        check_choices(task, texts, label_values(task, rows), split)
        return texts

    def encode(
        self,
        task: "LabelTask",
        rows: Dataset,
        label_names: list[Any] | None,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
    ) -> pa.Table:
        """Return `pieces` and `label`, and for decoders `joined` and `starts` (`join_choices`)."""
        encoded = super().encode(task, rows, label_names, tokenizer, split)
        joined, starts = join_choices(task, rows, tokenizer)
        encoded = encoded.append_column("joined", pa.array(joined, IDS_OF_TEXTS))
        return encoded.append_column("starts", pa.array(starts, pa.list_(pa.int32())))

    def label_number(self, task: "LabelTask", value: Any, names: list[Any], split: str) -> int:
        """Return the number of the right continuation, from 0."""
        return int(value)


class SpanHead(LabelHead):
    """An answer that is a part of a context."""

    name = "span"
    metrics = ("f1",)
    smooths_labels = False
    model_class = AutoModelForQuestionAnswering
    unnamed_outputs = 2  # a logit for the first position of an answer, one for the last
    row_class = SpanRows
    predicts_positions = True
    evaluation_batch = EVALUATION_BATCH  # rows are long
    training_arguments = ROWS_AT_RANDOM

    def accepts_label_type(self, column_type: pa.DataType) -> bool:
        """Say whether the column holds answers as in SQuAD."""
        return pa.types.is_struct(column_type) or pa.types.is_list(column_type)

    def usable_splits(
        self, task: "LabelTask", splits: Mapping[str, Dataset]
    ) -> Mapping[str, Dataset]:
        """Return the splits without rows of train whose answer is not in their context."""
        return {**splits, "train": findable_rows(task, splits["train"])}

    def split_facts(self, encoded: pa.Table, label_names: list[Any] | None) -> dict[str, Any]:
        """Return how many questions have no answer, if there are any."""
        without = int((pc.list_value_length(encoded["answers"]).to_numpy() == 0).sum())
        return {"without_answer": without} if without else {}

    def check_scoring(
        self, data: "PreparedTask[LabelTask]", spec: "FinetuningSpec"
    ) -> dict[str, Any]:
        """Return that questions without an answer are scored as in SQuAD 2.0, if there are any."""
        facts = data.metadata
        without = facts.get("found", {}).get("test", {}).get("without_answer")
        if not without:
            return {}
        questions = facts["splits"]["test"]["rows"]
        rule = f"SQuAD 2.0: {without} of {questions} test questions have no answer, and are right "
        return {"scoring": {"f1": rule + "where nothing is predicted"}}

    def encode(
        self,
        task: "LabelTask",
        rows: Dataset,
        label_names: list[Any] | None,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
    ) -> pa.Table:
        """Return the ids of questions and contexts, the answers, and the characters of each id."""
        return encode_spans(task, rows, tokenizer)

    def loss(
        self,
        outputs: ModelOutput,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean of the cross-entropies of the first and the last position."""
        firsts, lasts = labels.unbind(1)  # [rows], [rows]
        total = cross_entropy(outputs.start_logits.float(), firsts, reduction="sum")
        total = total + cross_entropy(outputs.end_logits.float(), lasts, reduction="sum")
        return total / labels_of_step(labels, num_items_in_batch)

    def predictions(self, rows: Any, logits: Any, names: list[Any]) -> list[str]:
        """Return the most likely answer of each example."""
        start_logits, end_logits = logits  # [windows, positions] each
        return extract_answers(rows, start_logits, end_logits)


class TagHead(LabelHead):
    """A tag for each word, as for named entities."""

    name = "tags"
    metrics = ("span_f1", "tag_accuracy")
    model_class = AutoModelForTokenClassification
    row_class = TagRows
    labels_positions = True
    predicts_positions = True
    reads_words = True

    def accepts_label_type(self, column_type: pa.DataType) -> bool:
        """Say whether the column holds lists."""
        return pa.types.is_list(column_type)

    def find_label_names(self, task: "LabelTask", train: Dataset) -> list[Any]:
        """Return the names of the tags."""
        column = task.find_columns(train, "label")[0]
        all_tags = (tag for tags in train[column] for tag in tags)
        return class_names(task, train, column, all_tags)

    def split_facts(self, encoded: pa.Table, label_names: list[Any] | None) -> dict[str, Any]:
        """Return how many words each tag has."""
        numbers = encoded["label"].combine_chunks().values.to_numpy()
        return {"label_counts": count_numbers(numbers, label_names)}

    def texts_to_encode(self, task: "LabelTask", rows: Dataset, split: str) -> list[list[str]]:
        """Return the words of each row, each after a space."""
        words = [list(row_words) for row_words, *_ in column_texts(task, rows)]
        check_word_tags(task, words, label_values(task, rows), split)
        return [[f" {word}" for word in row_words] for row_words in words]

    def label_number(
        self, task: "LabelTask", value: Any, names: list[Any], split: str
    ) -> list[int]:
        """Return the number of each word's tag. UsageError: a word has none."""
        if IGNORED in value or None in value:
            raise UsageError(
                f"{task.name}: a row of {split} has words without a tag ({IGNORED} or null); give "
                "a tag for each word, such as O."
            )
        return [class_number(tag, names) for tag in value]

    loss = token_cross_entropy  # over the words of the step

    def predictions(self, rows: Any, logits: Any, names: list[Any]) -> list[list[str]]:
        """Return the tags of all words of each row, "O" for those beyond its length."""
        tagged = []
        for index, numbers in enumerate(logits.argmax(-1)):  # [positions]
            words = rows.pieces(index)
            positions = rows.word_positions(words)
            tags = [str(names[number]) for number in numbers[positions]]
            tags += ["O"] * (len(words) - len(tags))
            tagged.append(tags)
        return tagged

    def true_labels(self, rows: Any, names: list[Any]) -> list[list[str]]:
        """Return the true tags of each example by name."""
        return [[str(names[number]) for number in numbers] for numbers in rows.true_labels]


def is_class_type(column_type: pa.DataType) -> bool:
    """Say whether a column can hold the names or numbers of classes."""
    is_number = pa.types.is_integer(column_type) or pa.types.is_boolean(column_type)
    return is_number or is_text(column_type)


def count_numbers(numbers: np.ndarray, names: list[Any] | None) -> dict[str, int]:
    """Return how often each label occurs: name -> count.

    Args:
        numbers: the numbers of labels, int[labels].
        names: the names of the labels.
    """
    counts = np.bincount(numbers, minlength=len(names or [])).tolist()
    return dict(zip(map(str, names or []), counts, strict=True))


LABEL_HEADS: dict[str, LabelHead] = {
    head.name: head
    for head in (ClassHead(), MultiLabelHead(), NumberHead(), ChoiceHead(), SpanHead(), TagHead())
}
