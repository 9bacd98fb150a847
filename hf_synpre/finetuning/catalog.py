"""The tables of heads and of downstream tasks: a name -> a head, or a task of hf_synpre.

Hub ids and columns are those of the datasets' cards. The text-to-text tasks are those of Wu et al.
2022 and three more; the ten classification datasets, SQuAD, SWAG, HellaSwag and CoNLL-2012 those of
Krishna et al. 2022. `--data_dir` takes a local copy of any dataset.
"""

from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from hf_synpre.errors import UsageError, choose
from hf_synpre.finetuning.completion_head import CompletionHead
from hf_synpre.finetuning.heads import Head
from hf_synpre.finetuning.label_heads import LABEL_HEADS
from hf_synpre.finetuning.label_tasks import LabelTask
from hf_synpre.finetuning.language_head import LanguageHead
from hf_synpre.finetuning.language_tasks import LanguageTask
from hf_synpre.finetuning.likelihood_head import LikelihoodHead
from hf_synpre.finetuning.masked_language_head import MaskedLanguageHead
from hf_synpre.finetuning.tasks import FinetuningTask
from hf_synpre.finetuning.text_head import TextHead
from hf_synpre.finetuning.text_tasks import TextToTextTask

# All heads. Heads of one name answer the same tasks, each with other families of models.
HEADS: tuple[Head[Any, Any], ...] = (
    TextHead(),
    CompletionHead(),
    LanguageHead(),
    MaskedLanguageHead(),
    *LABEL_HEADS.values(),
    LikelihoodHead(),  # after the encoders' head of choices, which some decoders have too
)


def find_head(name: str) -> Head[Any, Any]:
    """Return the first head of a name, which reads the data. UsageError: there is none."""
    choose("head", name, [head.name for head in HEADS])
    return next(head for head in HEADS if head.name == name)


def choose_head(task: FinetuningTask, config: PreTrainedConfig) -> Head[Any, Any]:
    """Return the head by which models of this config's family answer a task.

    Args:
        task: the task; its `head_name` is that of the head.
        config: the config of the model.

    Raises:
        UsageError: no head of the task takes such a model.
    """
    for head in HEADS:
        if head.name == task.head_name and head.accepts_config(config):
            return head
    raise UsageError(find_head(task.head_name).refusal(task, config))


# ---- Recipes of fine-tuning, for presets.


def paper_text_recipe(
    learning_rate: float, steps: int, batch_size: int, steps_a_period: int, max_new_tokens: int
) -> dict[str, Any]:
    """Return a recipe of Wu et al. 2022: constant rate, beam 4 (docs/papers.md, "Fine-tuning").

    T5X divides a beam's score by ((5 + length) / 6) ** 0.6; transformers divides it by
    length ** length_penalty.

    Args:
        learning_rate: the constant learning rate of Adafactor.
        steps: training steps.
        batch_size: rows of a step.
        steps_a_period: steps from one evaluation to the next.
        max_new_tokens: the most ids that are generated.
    """
    training = {
        "learning_rate": learning_rate,
        "max_steps": steps,
        "per_device_train_batch_size": batch_size,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
    }

    # All rows are evaluated and tested.
    finetuning = {
        "training": training,
        "evaluations": steps // steps_a_period,
        "num_beams": 4,
        "length_penalty": 0.6,
        "max_new_tokens": max_new_tokens,
        "validation_examples": None,
        "test_examples": None,
    }
    return {"finetuning": finetuning}


def small_text_recipe(
    steps: int, max_source: int, max_target: int, batch_size: int = 64
) -> dict[str, Any]:
    """Return a recipe for a small model on a CPU, which decodes greedily.

    Most rows are within these lengths with a tokenizer of 1,024 ids.

    Args:
        steps: training steps.
        max_source: the most ids of a source text.
        max_target: the most ids of a target text.
        batch_size: rows of a step.
    """
    training = {"max_steps": steps, "per_device_train_batch_size": batch_size}
    return {
        "max_source": max_source,
        "max_target": max_target,
        "finetuning": {"training": training},
    }


def electra_recipe(epochs: float, max_source: int) -> dict[str, Any]:
    """Return google-research/electra's fine-tuning (docs/papers.md, "Self-pretraining: recipes").

    Args:
        epochs: passes over the train split.
        max_source: the most ids of a row.
    """
    training = {
        "optim": "adamw_torch",
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "per_device_train_batch_size": 32,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,  # below 1: a share of all steps
        "num_train_epochs": epochs,
    }

    # All rows are evaluated and tested.
    finetuning = {
        "training": training,
        "layer_decay": 0.8,
        "validation_examples": None,
        "test_examples": None,
    }
    return {"max_source": max_source, "finetuning": finetuning}


SUMMARIES_PAPER = paper_text_recipe(1e-3, 100_000, 128, 10_000, 148)
CLASSIFICATION_PAPER = {"paper": electra_recipe(3, 128)}


# ---- The tasks that are answered with text.

TEXT_TO_TEXT_TASKS = (
    TextToTextTask(
        "stdlib_ast",
        ["source"],
        ["tree"],
        max_source=64,
        max_target=72,
        presets={"small": small_text_recipe(600, 64, 72)},
    ),
    TextToTextTask(
        "retrosynthesis",
        ["product"],
        ["reactants"],
        hub_id="bisectgroup/USPTO_50K",
        max_source=256,
        max_target=256,
        presets={
            "paper": paper_text_recipe(3e-3, 400_000, 128, 10_000, 256),
            "small": small_text_recipe(1200, 128, 128),
        },
    ),
    TextToTextTask(
        "code_translation",
        ["java"],
        ["cs"],
        hub_id="google/code_x_glue_cc_code_to_code_trans",
        metric="exact_match_bleu",
        max_source=1024,
        max_target=1024,
        presets={
            "paper": paper_text_recipe(3e-3, 150_000, 32, 10_000, 1024),
            "small": small_text_recipe(600, 192, 192, 32),
        },
    ),
    TextToTextTask(
        "mtop",
        ["utterance", "question"],
        ["logical_form"],
        hub_id="tasksource/mtop",
        hub_revision="refs/convert/parquet",
        only={"lang": "en"},
        metric="exact_match_f1",
        max_source=1024,
        max_target=128,
        presets={
            "paper": paper_text_recipe(1e-3, 100_000, 128, 10_000, 128),
            "small": small_text_recipe(800, 64, 96),
        },
    ),
    TextToTextTask(
        "webqsp",
        [
            "{question} entity: {topic_entity} {topic_mid}",
            "{question} entity: {topic_entity}",
            "question",
        ],
        ["chain_form", "s_expression"],
        metric="exact_match_f1",
        max_source=2048,
        max_target=256,
        presets={
            "paper": paper_text_recipe(1e-3, 50_000, 32, 5_000, 256),
            "small": small_text_recipe(600, 64, 64),
        },
    ),
    TextToTextTask(
        "squad",
        ["question: {question} context: {context}"],
        ["answers.text"],
        hub_id="rajpurkar/squad",
        clean=["pad_punctuation"],
        metric="squad",
        max_source=512,
        max_target=128,
        presets={
            "paper": paper_text_recipe(1e-3, 250_000, 128, 10_000, 128),
            "small": small_text_recipe(600, 320, 32, 32),
        },
    ),
    TextToTextTask(
        "cnn_dailymail_10k",
        ["article"],
        ["highlights"],
        hub_id="abisee/cnn_dailymail",
        hub_config="3.0.0",
        clean=["one_line", "lowercase"],
        rows={"train": 10_000, "validation": 1_000},
        metric="rouge1",
        max_source=512,
        max_target=256,
        presets={"paper": SUMMARIES_PAPER, "small": small_text_recipe(600, 256, 96, 32)},
    ),
    TextToTextTask(
        "aeslc",
        ["email_body"],
        ["subject_line"],
        hub_id="Yale-LILY/aeslc",
        clean=["one_line"],
        metric="rouge1",
        max_source=512,
        max_target=64,
        presets={"paper": SUMMARIES_PAPER, "small": small_text_recipe(600, 192, 32, 32)},
    ),
    TextToTextTask(
        "scitldr",
        ["source"],
        ["target"],
        hub_id="allenai/scitldr",
        hub_config="Abstract",
        hub_revision="refs/convert/parquet",
        metric="rouge1",
        max_source=512,
        max_target=128,
        presets={"paper": SUMMARIES_PAPER, "small": small_text_recipe(600, 320, 64, 32)},
    ),
)


# ---- The tasks that are answered by a head on an encoder or a decoder.


def glue_task(
    name: str, text: list[str], head: str = "classes", epochs: float = 3, **options: Any
) -> LabelTask:
    """Return a task of GLUE (Wang et al. 2018).

    Its test split has no labels, so its validation split is the test.

    Args:
        name: the configuration of nyu-mll/glue, which is also the task's name.
        text: the columns of text.
        head: what is predicted.
        epochs: passes over the train split in the paper's recipe.
        options: further fields of the task.
    """
    return LabelTask(
        name,
        head,
        [text],
        [["label"]],
        hub_id="nyu-mll/glue",
        hub_config=name,
        presets={"paper": electra_recipe(epochs, 128)},
        **options,
    )


def class_task(
    name: str, text: list[list[str]], hub_id: str, label: str = "label", **options: Any
) -> LabelTask:
    """Return a task with one class for each row.

    Args:
        name: the task's name.
        text: lists of text columns; the first list that the dataset has is used.
        hub_id: the dataset on the Hub.
        label: the column of labels; a column called label is used if there is no such column.
        options: further fields of the task.
    """
    return LabelTask(
        name,
        "classes",
        text,
        [[label], ["label"]],
        hub_id=hub_id,
        presets=CLASSIFICATION_PAPER,
        **options,
    )


SENTENCE_PAIR = [["sentence1", "sentence2"]]
TOXICITY_COLUMNS = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
# What the numbers of tner/ontonotes5 mean: its label.json.
ONTONOTES_TAGS = """
    O B-CARDINAL B-DATE I-DATE B-PERSON I-PERSON B-NORP B-GPE I-GPE B-LAW I-LAW B-ORG I-ORG
    B-PERCENT I-PERCENT B-ORDINAL B-MONEY I-MONEY B-WORK_OF_ART I-WORK_OF_ART B-FAC B-TIME
    I-CARDINAL B-LOC B-QUANTITY I-QUANTITY I-NORP I-LOC B-PRODUCT I-TIME B-EVENT I-EVENT I-FAC
    B-LANGUAGE I-PRODUCT I-ORDINAL I-LANGUAGE
"""
# In lower case, as uncased ELECTRA reads them.
LABEL_TASKS = tuple(
    replace(task, lowercase=True)
    for task in (
        class_task("ag_news", [["text"]], "fancyzhx/ag_news"),
        class_task("dbpedia_14", [["title", "content"], ["content"]], "fancyzhx/dbpedia_14"),
        class_task(
            "yahoo_answers_topics",
            [["question_title", "best_answer"], ["text"]],
            "community-datasets/yahoo_answers_topics",
            "topic",
        ),
        class_task(
            "amazon_polarity", [["title", "content"], ["content"]], "fancyzhx/amazon_polarity"
        ),
        class_task(
            "sentiment140",
            [["text"]],
            "stanfordnlp/sentiment140",
            "sentiment",
            hub_revision="refs/convert/parquet",
            kept_labels=[
                0,
                4,
            ],  # the test split has neutral tweets (2) too, the train split has none
        ),
        class_task(
            "discovery",
            SENTENCE_PAIR,
            "sileod/discovery",
            hub_config="discovery",
            hub_revision="refs/convert/parquet",
        ),
        class_task(
            "paws",
            SENTENCE_PAIR,
            "google-research-datasets/paws",
            hub_config="labeled_final",
            hub_corpus="unlabeled_final",
        ),
        LabelTask(
            "jigsaw",
            "labels",
            [["comment_text"], ["text"]],
            [TOXICITY_COLUMNS, ["labels"]],
            hub_id="google/jigsaw_toxicity_pred",
            presets=CLASSIFICATION_PAPER,
        ),
        glue_task("qqp", ["question1", "question2"], metric="accuracy_f1"),
        glue_task("mnli", ["premise", "hypothesis"], splits={"validation": "validation_matched"}),
        glue_task("sst2", ["sentence"]),
        glue_task("cola", ["sentence"], metric="matthews"),
        glue_task("mrpc", ["sentence1", "sentence2"], metric="accuracy_f1"),
        glue_task("qnli", ["question", "sentence"]),
        glue_task("rte", ["sentence1", "sentence2"], epochs=10),
        glue_task("wnli", ["sentence1", "sentence2"]),
        glue_task("stsb", ["sentence1", "sentence2"], "number", 10),
        LabelTask(
            "squad_span",
            "span",
            [["context", "question"]],
            [["answers"]],
            hub_id="rajpurkar/squad",
            max_source=384,
            presets={"paper": electra_recipe(2, 512)},
        ),
        LabelTask(
            "swag",
            "choices",
            [["sent1", "sent2"], ["startphrase"]],
            [["label"]],
            [["ending0", "ending1", "ending2", "ending3"]],
            hub_id="allenai/swag",
            hub_config="regular",
            hub_revision="refs/convert/parquet",
            presets=CLASSIFICATION_PAPER,
        ),
        LabelTask(
            "hellaswag",
            "choices",
            [["ctx"]],
            [["label"]],
            [["endings"]],
            hub_id="Rowan/hellaswag",
            presets=CLASSIFICATION_PAPER,
        ),
        LabelTask(
            "conll2012",
            "tags",
            [["tokens"], ["words"]],
            [["ner_tags"], ["tags"]],
            hub_id="tner/ontonotes5",
            hub_revision="refs/convert/parquet",
            label_names=ONTONOTES_TAGS.split(),
            presets=CLASSIFICATION_PAPER,
        ),
        LabelTask(
            "wnut_17",
            "tags",
            [["tokens"]],
            [["ner_tags"]],
            hub_id="leondz/wnut_17",
            hub_revision="refs/convert/parquet",
            presets=CLASSIFICATION_PAPER,
        ),
    )
)


# ---- The tasks whose answers are the tokens of text.

# 700 steps of 4,096 ids.
SMALL_LANGUAGE_RECIPE = {
    "finetuning": {
        "training": {
            "max_steps": 700,
            "per_device_train_batch_size": 16,
            "optim": "adamw_torch",
            "learning_rate": 2e-3,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
        },
        "evaluations": 10,
        "validation_examples": None,
        "test_examples": None,
    }
}
LANGUAGE_TASKS = (LanguageTask("lm", presets={"small": SMALL_LANGUAGE_RECIPE}),)

# All downstream tasks of hf_synpre by name.
TASKS: dict[str, FinetuningTask] = {
    task.name: task for task in (*TEXT_TO_TEXT_TASKS, *LABEL_TASKS, *LANGUAGE_TASKS)
}


def get_finetuning_task(name: str, **changes: Any) -> FinetuningTask:
    """Return a downstream task by name.

    Args:
        name: a name of TASKS.
        changes: fields of the task with other values.

    Raises:
        UsageError: there is no such task; the text names the closest one.

    Examples:
        >>> get_finetuning_task("mtop", max_target=48).max_target
        48
    """
    return replace(TASKS[choose("downstream task", name, TASKS)], **changes)
