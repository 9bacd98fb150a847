"""Layer 4: a labelled dataset as ids on disk, made once, and its rows as a model with a head takes them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetDict, Sequence
from datasets.features import List
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
)

from hf_synpre.data.collators import MULTIPLE
from hf_synpre.data.corpora import Corpus, TextSpec, dataset_corpus, row_texts
from hf_synpre.data.tokenizers import read_tokenizer, train_encoder_tokenizer
from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, whole_folder, write_json
from hf_synpre.finetuning.heads import ChoiceRows, Frame, LabelRows, SpanRows, TagRows
from hf_synpre.finetuning.label_tasks import LabelTask
from hf_synpre.finetuning.prepared import prepare, task_texts, tested_texts
from hf_synpre.initialization import skeleton
from hf_synpre.models.families import longest_input

MODEL_CLASSES = {
    "choices": AutoModelForMultipleChoice,
    "span": AutoModelForQuestionAnswering,
    "tags": AutoModelForTokenClassification,
}
PROBLEMS = {
    "classes": "single_label_classification",
    "labels": "multi_label_classification",
    "number": "regression",
}


@dataclass(frozen=True)
class PreparedLabels:
    """A labelled task as ids on disk: <folder>/{train,validation,test}.parquet, tokenizer/, facts.json."""

    folder: Path
    task: LabelTask

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that made the ids."""
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer")

    @property
    def facts(self) -> dict[str, Any]:
        """Rows and sha256 of each split, the names of the labels, the tokenizer's origin."""
        return read_json(self.folder / "facts.json")

    @property
    def model_class(self) -> Any:
        """The Auto class of models with this head."""
        return MODEL_CLASSES.get(self.task.head, AutoModelForSequenceClassification)

    def configure(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return the config with this task's labels. Raises UsageError where the model does not fit the task or its rows."""
        if config.is_encoder_decoder:
            raise UsageError(
                f"{self.task.name} is answered by a head on an encoder, and {config.model_type} is an encoder-decoder; give "
                "model_type electra, bert, roberta ..."
            )
        table = longest_input(skeleton(self.model_class, config))
        if (
            table is not None
            and table < self.task.max_source + MULTIPLE - 1
            and table < (longest := self.longest())
        ):
            raise UsageError(
                f"Rows of {self.task.name} take up to {longest} positions, the model's table has {table}; give a smaller "
                "max_source (of the task) or a longer table (of the config)."
            )
        labels = self.facts["labels"]
        config.num_labels = len(labels) if labels else 2 if self.task.head == "span" else 1
        if labels:
            config.id2label = dict(enumerate(map(str, labels)))
            config.label2id = {name: i for i, name in config.id2label.items()}
        config.problem_type = PROBLEMS.get(self.task.head)
        return config

    def longest(self) -> int:
        """Return the positions of the longest row, padded as the collator pads."""
        found = [self.rows(split) for split in ("train", "validation", "test")]
        ids = max(rows.size(example) for rows in found for example in range(len(rows.labels)))
        frame = found[0].frame
        ids += len(frame.before) + len(frame.between) + len(frame.after)
        return -(-min(ids, frame.length) // MULTIPLE) * MULTIPLE

    def rows(self, split: str, limit: int | None = None) -> "LabelRows":
        """Return a split's rows; the first `limit` of a fixed shuffle when a limit is given."""
        table = pq.read_table(self.folder / f"{split}.parquet")
        if limit is not None:
            table = table.take(np.random.default_rng(0).permutation(len(table))[:limit])
        kind = {"span": SpanRows, "choices": ChoiceRows, "tags": TagRows}.get(
            self.task.head, LabelRows
        )
        return kind(table, Frame.of(self.tokenizer, self.task.max_source), train=split == "train")


@prepare.register
def prepare_labels(
    task: LabelTask,
    folder: Path,
    *,
    data_dir: str | None = None,
    tokenizer: str | None = None,
    vocab_size: int = 1024,
    corpus: Corpus | None = None,
) -> PreparedLabels:
    """Encode a labelled task into `folder`, once.

    `tokenizer` is a Hub id or folder; None trains one of `vocab_size` ids on the `corpus`, without it on the train split.
    """
    if not folder.exists():
        splits = task.load(data_dir)
        names = label_names(task, splits["train"])
        check_tags(task, names)
        coder = (
            read_tokenizer(tokenizer, data_dir)
            if tokenizer
            else own_tokenizer(task, splits["train"], vocab_size, corpus)
        )
        facts = {
            "tokenizer": tokenizer or coder.init_kwargs["origin"],
            "labels": names,
            "hub_id": task.hub_id,
            "splits": {},
        }
        with whole_folder(folder) as partial:
            coder.save_pretrained(partial / "tokenizer")
            for split, rows in splits.items():
                table = encode(task, rows, names, coder, split)
                pq.write_table(table, partial / f"{split}.parquet")
                facts["splits"][split] = {"rows": len(rows), "sha256": digest(table)}
            write_json(partial / "facts.json", facts)
    return PreparedLabels(folder, task)


def own_tokenizer(task: LabelTask, rows: Dataset, vocab_size: int, corpus: Corpus | None) -> Any:
    """Return a tokenizer trained on a corpus, or on the rows' text."""
    if corpus:
        return train_encoder_tokenizer(corpus.texts("train"), vocab_size, corpus.facts["name"])
    own = dataset_corpus(rows, TextSpec(text_columns(task, rows)), task.name)
    return train_encoder_tokenizer(own.texts("train"), vocab_size)


def text_columns(task: LabelTask, rows: Dataset) -> list[str]:
    """Return the columns of a task that hold text, those of its choices too: what is pre-trained on."""
    return [*task.columns(rows, "text"), *(task.columns(rows, "choices") if task.choices else ())]


@task_texts.register
def task_corpus(task: LabelTask, data_dir: str | None, text: TextSpec) -> Corpus:
    """Return the text of a task's train split, as it is fine-tuned on: what is held out for validation is not in it.

    A row of a split that is not used, as a hidden test, is not in it either. Where the task says so it is the text of
    another configuration of the dataset, of which no row of a split is taken.
    """
    found, others = task.all_splits(data_dir)
    whole = task.hub_corpus and data_dir is None
    train = (
        task.open(config=task.hub_corpus)["train"]
        if whole
        else task.chosen(found["train"], "train")
    )
    splits = found | others | {"train": train}
    columns = text.columns or text_columns(task, splits["train"])
    return dataset_corpus(DatasetDict(splits), replace(text, columns=columns), task.name)


@tested_texts.register
def tested_rows(task: LabelTask, data_dir: str | None) -> list[list[str]]:
    """Return the texts of every test row."""
    rows = task.load(data_dir)["test"]
    return row_texts(rows, text_columns(task, rows))


def label_names(task: LabelTask, rows: Dataset) -> list[str] | None:
    """Return the names of the labels, in the order of their numbers; None where the head has none."""
    if task.head in ("number", "choices", "span"):
        return None
    columns = task.columns(rows, "label")
    if task.head == "labels" and len(columns) > 1:
        return columns
    feature = rows.features[columns[0]]
    inner = feature.feature if isinstance(feature, Sequence | List) else feature
    if isinstance(inner, ClassLabel):
        return list(inner.names)
    values = rows[columns[0]]
    if task.head == "labels":
        return [str(k) for k in range(len(values[0]))]
    values = [tag for tags in values for tag in tags] if task.head == "tags" else list(values)
    found = sorted(
        {value for value in values if value is not None}, key=lambda v: (isinstance(v, str), v)
    )
    if len(found) == 1:
        raise UsageError(
            f"{task.name}: every row of train has the label {found[0]!r}; give rows of two labels or more."
        )
    return (
        task.label_names
        if task.label_names and all(isinstance(value, int) for value in found)
        else found
    )


def check_tags(task: LabelTask, names: list | None) -> None:
    """Raise UsageError where entities are to be found and no tag begins one: span_f1 would always be 0."""
    if task.score == "span_f1" and not any(
        str(name).startswith(("B-", "I-")) for name in names or ()
    ):
        raise UsageError(
            f"{task.name}: the tags {str(names)[:60]} are not BIO, as B-PER, I-PER, O; give label_names."
        )


def encode(
    task: LabelTask, rows: Dataset, names: list | None, tokenizer: Any, split: str
) -> pa.Table:
    """Return a split as a table: pieces (the ids of every text of a row), label, and what a span's answer needs."""
    text = [rows[name] for name in task.columns(rows, "text")]
    if task.head == "span":
        return encode_spans(task, rows, text, tokenizer)
    if task.head == "tags":
        words = [list(found) for found in text[0]]
        check_words(task, words, label_values(task, rows), split)
        pieces = encoded(tokenizer, [[f" {word}" for word in row] for row in words])
    elif task.head == "choices":
        choices = list(choice_texts(task, rows, text))
        check_choices(task, choices, label_values(task, rows), split)
        pieces = encoded(tokenizer, choices)
    else:
        pieces = encoded(tokenizer, [list(parts) for parts in zip(*text, strict=True)])
    labels = [label_of(task, value, names, split) for value in label_values(task, rows)]
    return pa.table({"pieces": pa.array(pieces, pa.list_(pa.list_(pa.int32()))), "label": labels})


def check_words(task: LabelTask, words: list[list], tags: Iterable[list], split: str) -> None:
    """Raise UsageError where a row has no words, or not a tag for each."""
    for row, found in zip(words, tags, strict=True):
        if not row or len(row) != len(found):
            raise UsageError(
                f"{task.name}: a row of {split} has {len(row)} words and {len(found)} tags; give a tag a word."
            )


def check_choices(
    task: LabelTask, rows: list[list[str]], labels: Iterable[Any], split: str
) -> None:
    """Raise UsageError where rows have different numbers of continuations, or a label that is none of them."""
    for row, label in zip(rows, labels, strict=True):
        if len(row) != len(rows[0]):
            counts = f"{len(rows[0]) - 1} and {len(row) - 1}"
            raise UsageError(
                f"{task.name}: rows of {split} have {counts} choices; give all as many."
            )
        if not str(label).isdigit() or int(label) >= len(row) - 1:
            raise UsageError(
                f"{task.name}: a row of {split} has the label {label!r} of {len(row) - 1} choices; give 0 or more."
            )


def choice_texts(task: LabelTask, rows: Dataset, text: list) -> Iterator[list[str]]:
    """Yield context and continuations; two columns of context are a context and the beginning of every continuation."""
    columns = [rows[name] for name in task.columns(rows, "choices")]
    for context, choices in zip(zip(*text, strict=True), zip(*columns, strict=True), strict=True):
        endings = list(choices[0]) if isinstance(choices[0], list) else list(choices)
        begin = f"{context[1]} " if len(context) > 1 else ""
        yield [context[0], *(begin + ending for ending in endings)]


def encoded(tokenizer: Any, rows: list[list[str]]) -> list[list[list[int]]]:
    """Return the ids of every text of every row; a text without any becomes the unknown id."""
    flat = [text or "" for row in rows for text in row]
    ids = tokenizer(flat, add_special_tokens=False, verbose=False)["input_ids"] if flat else []
    found = iter(part or [tokenizer.unk_token_id] for part in ids)
    return [[next(found) for _ in row] for row in rows]


def label_values(task: LabelTask, rows: Dataset) -> Iterator[Any]:
    """Yield the label of each row; a list of values where several columns hold it."""
    columns = task.columns(rows, "label")
    if len(columns) == 1:
        yield from rows[columns[0]]
    else:
        yield from (list(values) for values in zip(*(rows[name] for name in columns), strict=True))


def label_of(task: LabelTask, value: Any, names: list | None, split: str) -> Any:
    """Return a label as the number, or numbers, of its head. Raises UsageError on one that train does not have."""
    if value is None or value != value:
        raise UsageError(
            f"{task.name}: a row of {split} has no label ({value}); give one in every row."
        )
    try:
        if task.head == "choices":
            return int(value)
        if task.head == "number":
            return float(value)
        if task.head == "labels":
            return shares_of(task, [float(part) for part in value], names, split)
        if task.head == "tags":
            return [number_of(tag, names) for tag in value]
        return number_of(value, names)
    except UsageError:
        raise
    except (TypeError, ValueError):
        wanted = {
            "number": "give a number",
            "labels": f"give a list of {len(names or ())} times 0 or 1",
        }
        cause = (
            f"; {wanted[task.head]} in every row"
            if task.head in wanted
            else ", which no row of train has"
        )
        raise UsageError(f"{task.name}: a row of {split} has the label {value!r}{cause}.") from None


def shares_of(task: LabelTask, shares: list[float], names: list | None, split: str) -> list[float]:
    """Return what a row says of each label. Raises UsageError on another number of labels, or on no share of 1."""
    if len(shares) != len(names or ()) or not all(0 <= share <= 1 for share in shares):
        raise UsageError(
            f"{task.name}: a row of {split} has the labels {shares}; give {len(names or ())} of 0 or 1 in every row."
        )
    return shares


def number_of(value: Any, names: list) -> int:
    """Return the number of a label: its place among the names, or itself where the names are those of a ClassLabel."""
    if value in names:
        return names.index(value)
    if (
        isinstance(value, int)
        and 0 <= value < len(names)
        and all(isinstance(name, str) for name in names)
    ):
        return value
    raise ValueError(value)


def encode_spans(task: LabelTask, rows: Dataset, text: list, tokenizer: Any) -> pa.Table:
    """Return questions and contexts as ids, the answer as (first, last) id of the context, the offsets of the ids."""
    contexts, questions = (list(column) for column in text)
    coded = tokenizer(
        contexts, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    asked = tokenizer(questions, add_special_tokens=False, verbose=False)["input_ids"]
    answers = list(rows[task.columns(rows, "label")[0]])
    spans = [
        span_of(offsets, answer)
        for offsets, answer in zip(coded["offset_mapping"], answers, strict=True)
    ]
    columns = {
        "pieces": pa.array(
            [[a, c] for a, c in zip(asked, coded["input_ids"], strict=True)],
            pa.list_(pa.list_(pa.int32())),
        ),
        "label": spans,
        "context": contexts,
        "offsets": pa.array(
            [[end for pair in found for end in pair] for found in coded["offset_mapping"]],
            pa.list_(pa.int32()),
        ),
        "answers": [list(answer["text"]) for answer in answers],
    }
    return pa.table(columns)


def span_of(offsets: list[tuple[int, int]], answer: dict[str, list]) -> list[int]:
    """Return the first and last id that the first gold answer touches; [-1, -1] where there is none."""
    if not answer["text"]:
        return [-1, -1]
    begin, text = answer["answer_start"][0], answer["text"][0]
    touched = [i for i, (a, b) in enumerate(offsets) if a < begin + len(text) and b > begin]
    return [touched[0], touched[-1]] if touched else [-1, -1]


def digest(table: pa.Table) -> str:
    """Return the sha256 of a split's ids and labels."""
    found = hashlib.sha256()
    for row in zip(table["pieces"].to_pylist(), table["label"].to_pylist(), strict=True):
        found.update(json.dumps(row).encode())
    return found.hexdigest()
