"""An option that nothing reads is refused by name, in Python as in YAML: a walk over all fields.

Run: pytest tests/experiments/test_unread_options.py
"""

import dataclasses
from pathlib import Path

import pytest
from datasets import Dataset

from hf_synpre.config import build_spec
from hf_synpre.data.corpora import dataset_corpus, open_corpus
from hf_synpre.data.splits import open_splits
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.errors import UsageError
from hf_synpre.experiments import ArmSpec, Experiment, ExperimentSpec, TaskSpec
from hf_synpre.experiments.cell import experiment_recipe
from hf_synpre.finetuning import FinetuningSpec
from hf_synpre.training.pretraining_spec import PretrainingSpec

ON_TASK = {"task": "set", "training": {"max_steps": 1}}
ON_TEXT = {"corpus": "stdlib", "training": {"max_steps": 1}}
ROWS = Dataset.from_dict({"text": ["one", "two", "three"]})
HERE = str(Path(__file__).parent)


def pretraining(run):
    return lambda option: PretrainingSpec(**run, **option)


def stdlib(option):
    open_corpus("stdlib", text=TextSpec(**option))


def arm(**fields):
    return lambda option: ArmSpec(**fields, **option)


def recipe(task, **fields):
    """A recipe of one task, in the YAML of an experiment."""

    def make(option):
        task_fields = {"finetuning": fields | option}
        experiment(tasks={task: task_fields})

    return make


def experiment(**changes):
    values = {"name": "x", "tasks": {"mtop": {}}, "arms": {"random": {}}} | changes
    return build_spec(ExperimentSpec, values, "x.yaml")


# Spec -> for each option that not everything reads: a value, and what does not read it.
UNREAD = {
    PretrainingSpec: {
        "parameters": ({"max_length": 9}, pretraining(ON_TEXT)),
        "vocabulary": (64, pretraining(ON_TEXT)),
        "curriculum_steps": (5, pretraining(ON_TEXT)),
        "text": (TextSpec(), pretraining(ON_TASK)),
        "window": (32, pretraining(ON_TASK)),
        "special_tokens": (True, pretraining(ON_TASK)),
        "pairs": (True, pretraining(ON_TASK)),
        "generator_fraction": (0.5, pretraining(ON_TASK)),
        "start_embeddings": ("fresh", pretraining(ON_TASK)),
        "loss_on": ("all", pretraining(ON_TEXT)),
        "batching": ("packed", pretraining(ON_TEXT)),
        "row_length": (32, pretraining(ON_TASK)),
    },
    TextSpec: {
        "columns": (["text"], stdlib),
        "order": ("shuffled_rows", stdlib),
        "deduplicate": (True, stdlib),
        "held_out": (0.5, stdlib),
        "limit_mb": (1.0, stdlib),
        "with_test": (True, lambda option: dataset_corpus(ROWS, TextSpec(**option))),
        "config": ("small", lambda option: dataset_corpus(ROWS, TextSpec(**option))),
        "seed": (1, lambda option: TextSpec(**option)),
    },
    ArmSpec: {
        "scheme": ("mlp_scale", arm(init="weights", checkpoint="x")),
        "embeddings": ("kept", arm()),
        "value": (0.5, arm(init="statistics", checkpoint="x")),
        "scheme_options": ({"gamma": 1}, arm(init="statistics", checkpoint="x")),
        "resize": ("none", arm(init="weights", checkpoint="x")),
        "match_flops_of": ("set", arm(init="weights", checkpoint="x")),
        "checkpoint": ("x", arm()),
        "initial_scales": ([0.5], arm(init="weights", checkpoint="x")),
        "pretraining_seeds": ([0], lambda option: experiment(arms={"random": option})),
    },
    TaskSpec: {
        "data_dir": (HERE, lambda option: experiment(tasks={"stdlib_ast": option})),
        "vocab_size": (512, lambda option: TaskSpec(tokenizer="x", **option)),
        "tokenizer_corpora": (["stdlib"], lambda option: TaskSpec(tokenizer="x", **option)),
        "chat_template": (True, lambda option: TaskSpec(**option)),
        "max_target": (9, lambda option: experiment(tasks={"cola": option})),
    },
    FinetuningSpec: {
        "num_beams": (4, recipe("cola")),
        "length_penalty": (0.5, recipe("mtop", num_beams=1)),
        "max_new_tokens": (9, recipe("cola")),
        "accept_unspellable": (True, recipe("cola")),
        "loss_on": ("all", recipe("cola")),
        "layer_decay": (0.5, recipe("mtop")),
    },
}
# Spec -> the options that all read.
ALWAYS_READ = {
    PretrainingSpec: (
        *("task", "preset", "corpus", "start", "objective", "batch_size", "schedule"),
        *("bias_correction", "initial_weights", "match_tokens_of", "budget_tokens"),
        *("budget_flops", "budget_seconds", "target_accuracy", "evaluations"),
        *("validation_examples", "seed", "training", "tokens_per_batch"),
    ),
    TextSpec: (),
    ArmSpec: ("init", "lora", "tasks", "learning_rates", "finetuning_budget"),
    TaskSpec: ("tokenizer", "max_source", "define", "finetuning", "seeds"),
    FinetuningSpec: (
        *("training", "evaluations", "validation_examples", "test_examples", "patience"),
        "learning_rates",
    ),
}


@pytest.mark.parametrize("spec", UNREAD)
def test_every_option_is_read_or_refused_by_name(spec):
    fields = dataclasses.fields(spec)
    assert {*UNREAD[spec], *ALWAYS_READ[spec]} == {field.name for field in fields}
    assert {field.name for field in fields if field.metadata["read_with"]} <= UNREAD[spec].keys()
    for name, (value, read) in UNREAD[spec].items():
        with pytest.raises(UsageError, match=rf"leave (the )?{name} out\.$"):
            read({name: value})


def test_what_another_kind_of_corpus_reads_is_refused():
    for corpus in ("self", "mtop"):
        run = ON_TEXT | {"corpus": corpus, "text": {"config": "small"}}
        with pytest.raises(UsageError, match=r"config is read with a dataset that has several"):
            experiment(pretraining={"run": run})
    with pytest.raises(UsageError, match="held_out is read with the rows of a dataset only, whic"):
        PretrainingSpec(**ON_TEXT, text=TextSpec(held_out=0.5))
    with pytest.raises(UsageError, match=r"resize is read with .* which an arm with init stat"):
        ArmSpec(init="statistics", checkpoint="x", scheme="mlp_weights", resize="none")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"config": "small"}, "has no configurations, and small was given; leave it out"),
        ({"revision": "main"}, "the revision main is one of the Hub; leave it out"),
    ],
)
def test_a_file_has_no_configuration_and_no_revision(chosen, message):
    with pytest.raises(UsageError, match=message):
        open_splits(__file__, **chosen)


def test_tasks_of_several_kinds_share_a_recipe_of_which_each_reads_its_part():
    shared = {"num_beams": 4, "length_penalty": 0.5, "layer_decay": 0.5}
    spec = experiment(tasks={"mtop": {}, "cola": {}}, finetuning=shared)
    text = spec.finetuning_spec("mtop").without_unread("text", False)
    labels = spec.finetuning_spec("cola").without_unread("labels", False)
    assert (text.num_beams, text.length_penalty, text.layer_decay) == (4, 0.5, 1.0)
    assert (labels.num_beams, labels.length_penalty, labels.layer_decay) == (1, 1.0, 0.5)


@pytest.mark.parametrize("where", ["shared", "of the task"])
def test_what_decoders_alone_read_is_refused_before_an_encoder_decoder_starts(where, tmp_path):
    changes = {"finetuning": {"loss_on": "all"}}
    if where == "of the task":
        changes = {"tasks": {"mtop": changes}}
    message = r"loss_on is read with a decoder that generates text only, .* leave loss_on out\.$"
    with pytest.raises(UsageError, match=message):
        Experiment(experiment(**changes), tmp_path / "t5").open_folder()
    with pytest.raises(UsageError, match="loss_on 'prompt'"):
        FinetuningSpec(loss_on="prompt")

    decoder = experiment(**changes, model={"model_type": "gpt2"})
    Experiment(decoder, tmp_path / "gpt2").open_folder()
    stored = experiment_recipe(decoder)["tasks" if where == "of the task" else "finetuning"]
    assert "loss_on" in str(stored)
    assert "loss_on" not in str(experiment_recipe(experiment()))


@pytest.mark.parametrize("name", ["num_beams", "layer_decay"])
def test_a_shared_option_that_no_task_reads_is_refused(name):
    value = UNREAD[FinetuningSpec][name][0]
    task = "cola" if name == "num_beams" else "mtop"
    with pytest.raises(UsageError, match=f"The option {name} is read with .* this experiment does"):
        experiment(tasks={task: {}}, finetuning={name: value})


def test_what_a_preset_gives_may_stay_unread():
    changes = {"preset": "paper", "tasks": {"mtop": {"finetuning": {"num_beams": 1}}}}
    recipe_of_task = experiment(**changes).finetuning_spec("mtop")
    assert recipe_of_task.without_unread("text", False).length_penalty == 1.0
