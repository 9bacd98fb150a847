"""Layer 4: a downstream task as ids on disk, made once: tokenizer, splits, facts."""

import hashlib
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from hf_synpre.data.corpora import Corpus, TextSpec, dataset_corpus
from hf_synpre.data.tokenizers import read_tokenizer, train_tokenizer
from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, whole_folder, write_json
from hf_synpre.finetuning.text_tasks import DownstreamTask


@dataclass(frozen=True)
class PreparedTask:
    """A downstream task as ids on disk: <folder>/{train,validation,test}.parquet, tokenizer/, facts.json."""

    folder: Path
    task: DownstreamTask
    model_class = AutoModelForSeq2SeqLM

    def configure(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return the config of a model for this task: nothing depends on it. UsageError: a model of one stream."""
        if not config.is_encoder_decoder:
            raise UsageError(
                f"{self.task.name} is answered with generated text, for which a {config.model_type} has no decoder; give an "
                "encoder-decoder (model_type t5), or a labelled task (squad_span for squad)."
            )
        return config

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that made the ids."""
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer")

    @property
    def facts(self) -> dict[str, Any]:
        """Rows and sha256 of each split, the Hub id if they are from there, the tokenizer's origin."""
        return read_json(self.folder / "facts.json")

    def rows(self, split: str, limit: int | None = None) -> "TokenRows":
        """Return a split's rows; the first `limit` of a fixed shuffle, short ones first, when a limit is given."""
        table = pq.read_table(self.folder / f"{split}.parquet")
        if limit is not None:
            chosen = np.random.default_rng(0).permutation(len(table))[:limit]
            table = table.take(chosen).sort_by("length")
        return TokenRows(table)

    def longest_target(self) -> int:
        """Return the ids of the longest train or validation target, end of sequence included, within the task's limit."""
        columns = [
            pq.read_table(self.folder / f"{split}.parquet", columns=["labels"])[0]
            for split in ("train", "validation")
        ]
        longest = max(
            np.diff(chunk.offsets.to_numpy()).max()
            for column in columns
            for chunk in column.chunks
            if len(chunk)
        )
        return min(int(longest) + 1, self.task.max_target)


class TokenRows:
    """Map-style rows of ids from a table; `references` are the gold texts, a list a row."""

    def __init__(self, table: pa.Table):
        self.columns = {
            name: (
                column.combine_chunks().values.to_numpy(),
                column.combine_chunks().offsets.to_numpy(),
            )
            for name, column in ((c, table[c]) for c in ("input_ids", "labels"))
        }
        self.references = table["references"]

    def __len__(self) -> int:
        return len(self.references)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {
            name: values[ends[index] : ends[index + 1]]
            for name, (values, ends) in self.columns.items()
        }


@singledispatch
def prepare(
    task: DownstreamTask,
    folder: Path,
    *,
    data_dir: str | None = None,
    tokenizer: str | None = None,
    vocab_size: int = 1024,
    corpus: Corpus | None = None,
) -> PreparedTask:
    """Tokenize a task into `folder`, once.

    `tokenizer` is a Hub id or folder; None trains one of `vocab_size` ids on the `corpus`, without it on the train split.
    """
    if not folder.exists():
        tables = task.load(data_dir)
        train = tables["train"]
        own = (text.as_py() for column in ("source", "target") for text in train[column])
        texts, source = (
            (corpus.texts("train"), corpus.facts["name"]) if corpus else (own, "the train split")
        )
        coder = (
            read_tokenizer(tokenizer, data_dir) if tokenizer else train_tokenizer(texts, vocab_size)
        )
        facts = {
            "tokenizer": tokenizer or f"byte-level BPE trained on {source}, {vocab_size} ids",
            "splits": {},
        }
        with whole_folder(folder) as partial:
            coder.save_pretrained(partial / "tokenizer")
            for split, table in tables.items():
                pq.write_table(encode(table, coder), partial / f"{split}.parquet")
                facts["splits"][split] = {"rows": len(table), "sha256": text_digest(table)}
            write_json(
                partial / "facts.json", facts | {"hub_id": None if data_dir else task.hub_id}
            )
    return PreparedTask(folder, task)


@singledispatch
def task_texts(task: DownstreamTask, data_dir: str | None, text: TextSpec) -> Corpus:
    """Return the text of a task's train split, inputs and targets, by a recipe."""
    splits = {split: Dataset(table) for split, table in task.load(data_dir).items()}
    recipe = replace(text, columns=text.columns or ["source", "target"])
    return dataset_corpus(DatasetDict(splits), recipe, task.name)


@singledispatch
def tested_texts(task: DownstreamTask, data_dir: str | None) -> list[list[str]]:
    """Return the texts of every test row: its input."""
    return [[source] for source in task.load(data_dir)["test"]["source"].to_pylist()]


def encode(table: pa.Table, tokenizer: Any) -> pa.Table:
    """Return the ids of a table of texts: input_ids, labels (list<int32>, no EOS), gold texts, length in ids."""
    columns = {}
    for ids, text in (("input_ids", "source"), ("labels", "target")):
        encoded = tokenizer(table[text].to_pylist(), add_special_tokens=False)["input_ids"]
        columns[ids] = pa.array(encoded, pa.list_(pa.int32()))
    lengths = [
        len(x) + len(y) for x, y in zip(columns["input_ids"], columns["labels"], strict=True)
    ]
    return pa.table({**columns, "references": table["references"], "length": lengths})


def text_digest(table: pa.Table) -> str:
    """Return the sha256 of a table's texts, row by row: the source, then every gold answer."""
    digest = hashlib.sha256()
    for source, golds in zip(
        table["source"].to_pylist(), table["references"].to_pylist(), strict=True
    ):
        digest.update("\t".join([source, *golds]).encode() + b"\n")
    return digest.hexdigest()
