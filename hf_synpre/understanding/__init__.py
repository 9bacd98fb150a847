"""Layer 4: fine-tuning with a head: classes, pairs, choices, spans and tags, on the datasets of self-pretraining."""

from hf_synpre.understanding.data import PreparedLabels
from hf_synpre.understanding.finetuning import finetune_labels
from hf_synpre.understanding.tasks import LABEL_TASKS, LabelTask

__all__ = ["LABEL_TASKS", "LabelTask", "PreparedLabels", "finetune_labels"]
