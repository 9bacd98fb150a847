"""The downstream tasks, their rows as ids on disk, and fine-tuning on one of them."""

from hf_synpre.data.tokenizers import check_vocab_size, train_tokenizer
from hf_synpre.finetuning.finetuning import FinetuningSpec, finetune
from hf_synpre.finetuning.label_data import PreparedLabels
from hf_synpre.finetuning.label_finetuning import finetune_labels
from hf_synpre.finetuning.label_tasks import LABEL_TASKS, LabelTask
from hf_synpre.finetuning.prepared import (
    PreparedTask,
    TokenRows,
    prepare,
    task_texts,
    tested_texts,
)
from hf_synpre.finetuning.text_tasks import DOWNSTREAM, DownstreamTask, get_downstream

__all__ = [
    "DOWNSTREAM",
    "LABEL_TASKS",
    "DownstreamTask",
    "FinetuningSpec",
    "LabelTask",
    "PreparedLabels",
    "PreparedTask",
    "TokenRows",
    "check_vocab_size",
    "finetune",
    "finetune_labels",
    "get_downstream",
    "prepare",
    "task_texts",
    "tested_texts",
    "train_tokenizer",
]
