"""Preparation: a downstream task and a tokenizer -> a folder of ids, which is made once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoTokenizer, PreTrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.data.corpora import Corpus
from hf_synpre.data.tokenizers import read_tokenizer
from hf_synpre.files import atomic_folder, read_json, write_json
from hf_synpre.finetuning.catalog import choose_head, find_head
from hf_synpre.finetuning.heads import Head, Task
from hf_synpre.finetuning.tasks import FinetuningTask

METADATA_FILE = "facts.json"


@dataclass(frozen=True)
class PreparedTask(Generic[Task]):
    """A task as ids in a folder: {train,validation,test}.parquet, tokenizer/ and facts.json.

    The ids do not depend on the model; `head_for` says how models of a family answer the task.
    """

    # The folder of the files.
    folder: Path
    # The task. Its lengths and metric may differ from those that it was prepared with.
    task: Task

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that made the ids."""
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer", trust_remote_code=False)

    @property
    def metadata(self) -> dict[str, Any]:
        """The content of facts.json: splits, tokenizer's origin, Hub id, names of labels if any."""
        return read_json(self.folder / METADATA_FILE)

    def head_for(self, config: PreTrainedConfig) -> Head[Any, Any]:
        """Return the head by which models of this config's family answer the task.

        Raises UsageError if no head of the task takes such a model.
        """
        return choose_head(self.task, config)

    def read_table(self, split: str, columns: list[str] | None = None) -> pa.Table:
        """Return the encoded rows of a split, with these columns or all."""
        return pq.read_table(self.folder / f"{split}.parquet", columns=columns)

    def rows(self, split: str, limit: int | None = None, head: Head[Any, Any] | None = None) -> Any:
        """Return a split as a map-style dataset of rows, as the head's collator takes them.

        Args:
            split: train, validation or test.
            limit: how many rows of a fixed shuffle are taken; None for all, in their order.
            head: the head that the rows are for; None for the first of the task.
        """
        head = head or find_head(self.task.head_name)
        table = self.read_table(split)
        if limit is not None:
            shuffled = np.random.default_rng(0).permutation(len(table))
            table = head.order_sample(table.take(shuffled[:limit]))
        return head.make_rows(self, table)


def prepare(
    task: FinetuningTask,
    folder: Path,
    *,
    data_dir: str | None = None,
    tokenizer: str | None = None,
    vocab_size: int = 1024,
    corpus: Corpus | None = None,
) -> PreparedTask:
    """Tokenize a task into a folder; a folder that exists is used as it is.

    Args:
        task: the task.
        folder: the folder of the files.
        data_dir: a local copy of the dataset, or a folder of copies; None for the Hub.
        tokenizer: the folder or Hub id of a tokenizer; None trains one.
        vocab_size: the number of ids of the tokenizer that is trained.
        corpus: the text that it is trained on; None for the task's train split.

    Raises:
        UsageError: the data or the tokenizer cannot be read, or a row does not fit the task.

    Examples:
        >>> prepare(get_finetuning_task("stdlib_ast"), Path("runs/stdlib_ast"), vocab_size=512)
    """
    if folder.exists():
        return PreparedTask(folder, task)
    head = find_head(task.head_name)

    # Read the rows, and the labels that train has.
    loaded = task.load(data_dir)
    splits = head.usable_splits(task, loaded)
    label_names = head.label_names(task, splits["train"])

    # Read a tokenizer or train one.
    if tokenizer:
        task_tokenizer, origin = read_tokenizer(tokenizer, data_dir), tokenizer
    else:
        task_tokenizer, origin = head.train_tokenizer(task, splits["train"], vocab_size, corpus)

    # Write ids, tokenizer and metadata. The folder appears only with all its files.
    metadata: dict[str, Any] = {"tokenizer": origin}
    metadata.update(head.head_metadata(task, label_names, data_dir))
    metadata["splits"] = {}
    with atomic_folder(folder) as partial:
        task_tokenizer.save_pretrained(partial / "tokenizer")
        for split, rows in splits.items():
            encoded = head.encode(task, rows, label_names, task_tokenizer, split)
            pq.write_table(encoded, partial / f"{split}.parquet")
            digest = head.digest(rows, encoded)
            metadata["splits"][split] = {"rows": len(rows), "sha256": digest}

            # What results keep beside them.
            found = head.split_facts(encoded, label_names)
            if len(rows) < len(loaded[split]):
                found["rows_left_out"] = len(loaded[split]) - len(rows)
            if found:
                metadata.setdefault("found", {})[split] = found
        write_json(partial / METADATA_FILE, metadata)
    return PreparedTask(folder, task)
