"""Fine-tuning on downstream tasks: a task and a model -> test scores, a curve, the cost.

1. A task is one of the table TASKS (catalog.py), or defined by a user (`task_from_fields`,
   definitions.py): where its rows are, which columns hold text and labels, how it is scored.
   `TextToTextTask` (text_tasks.py) is answered with text, `LabelTask` (label_tasks.py) with
   classes, numbers, choices, spans or tags; of a `LanguageTask` (language_tasks.py) the tokens
   are predicted, the next one or masked ones.
2. `prepare(task, folder)` (prepared.py): rows -> ids on disk, with a tokenizer and facts.json.
   The `PreparedTask` opens its splits as rows.
3. `data.head_for(config)`: a prepared task and a model's config -> the head by which this family of
   models answers the task (heads.py; text_head.py, completion_head.py, language_head.py,
   masked_language_head.py, label_heads.py, likelihood_head.py): the class of the model, its config,
   the loss, the scores.
4. `finetune(model, data, spec)` (finetuning.py): a model of that class, a prepared task and a
   recipe, `FinetuningSpec` -> a `FinetuningResult`: test scores, curve and cost.
5. Scores: METRICS of generated texts (metrics.py), SCORES of labels (scores.py).
6. `save_model` (saving.py; card.py): a fine-tuned model -> a folder that `from_pretrained` and
   `pipeline` load.

`choose_task(data, fields)` (own_data.py; guess.py) finds the task that a user means by a name, a
YAML file, a folder or file of rows or a Hub id, and guesses the columns that were not given;
`own_corpus` gives the text of its train rows.
"""

from hf_synpre.finetuning.catalog import (
    HEADS,
    TASKS,
    choose_head,
    find_head,
    get_finetuning_task,
)
from hf_synpre.finetuning.definitions import task_from_fields, usual_model_type
from hf_synpre.finetuning.finetuning import (
    FinetuningResult,
    FinetuningSpec,
    check_learning_rates,
    finetune,
    validate,
)
from hf_synpre.finetuning.heads import Head
from hf_synpre.finetuning.label_tasks import LabelTask
from hf_synpre.finetuning.language_tasks import LanguageTask
from hf_synpre.finetuning.metrics import METRICS
from hf_synpre.finetuning.own_data import TaskChoice, choose_task, own_corpus
from hf_synpre.finetuning.prepared import PreparedTask, prepare
from hf_synpre.finetuning.saving import save_model
from hf_synpre.finetuning.scores import SCORES
from hf_synpre.finetuning.tasks import PRESET_NAMES, FinetuningTask
from hf_synpre.finetuning.text_tasks import TextToTextTask

__all__ = [
    "HEADS",
    "METRICS",
    "PRESET_NAMES",
    "SCORES",
    "TASKS",
    "FinetuningResult",
    "FinetuningSpec",
    "FinetuningTask",
    "Head",
    "LabelTask",
    "LanguageTask",
    "PreparedTask",
    "TaskChoice",
    "TextToTextTask",
    "check_learning_rates",
    "choose_head",
    "choose_task",
    "find_head",
    "finetune",
    "get_finetuning_task",
    "own_corpus",
    "prepare",
    "save_model",
    "task_from_fields",
    "usual_model_type",
    "validate",
]
