"""Layer 4: the downstream tasks, their ids on disk, and fine-tuning on one of them."""

from hf_synpre.downstream.data import (
    PreparedTask,
    TokenRows,
    check_vocab_size,
    prepare,
    task_texts,
    tested_texts,
    train_tokenizer,
)
from hf_synpre.downstream.finetuning import BestModel, FinetuningSpec, finetune
from hf_synpre.downstream.tasks import DOWNSTREAM, DownstreamTask, get_downstream

__all__ = [
    "DOWNSTREAM",
    "BestModel",
    "DownstreamTask",
    "FinetuningSpec",
    "PreparedTask",
    "TokenRows",
    "check_vocab_size",
    "finetune",
    "get_downstream",
    "prepare",
    "task_texts",
    "tested_texts",
    "train_tokenizer",
]
