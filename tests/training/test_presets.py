"""Presets: their recipes, the small model of those for a CPU, and the work that `_smoke` makes.

Run: pytest tests/training/test_presets.py
"""

import pytest

from hf_synpre.config import build_spec
from hf_synpre.initialization import skeleton
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.models.spec import ModelSpec
from hf_synpre.tasks import list_tasks, open_stream
from hf_synpre.training.presets import (
    PRESETS,
    TASK_PRESETS,
    WITH_SMALL_MODEL,
    preset_fields,
    small_model,
)
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

# What two cores of a CPU do in less than a minute, by measurement: about 10**11 FLOP/s each.
FLOPS_OF_SMOKE = 5e12
# Ids of the tokenizer that `synpre self-pretrain` trains.
TEXT_IDS = 4096


def spec_of(preset, **fields):
    source = {"task": "set"} if preset in TASK_PRESETS else {"corpus": "x"}
    return build_spec(PretrainingSpec, {**source, **fields, "preset": preset}, "here")


def parameters_of(model, ids):
    config = model.config(Vocabulary.plain(ids))
    network = skeleton(AUTO_CLASSES[model_family(config)], config)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("preset", "model_type"),
    [
        ("smoke", "t5"),
        ("smoke", "gpt2"),
        ("electra_smoke", "electra"),
        ("roberta_smoke", "roberta"),
    ],
)
def test_smoke_is_less_than_a_minute_of_two_cores(preset, model_type):
    """Six FLOPs a parameter and token of training, two of evaluations."""
    spec = spec_of(preset)
    model = ModelSpec(**small_model(preset, {"model_type": model_type}))
    ids = spec.vocabulary or TEXT_IDS
    # A row of a task is at most its input, its target, and their ends.
    row = spec.window if spec.reads_text else 2 * spec.parameters["max_length"] + 4
    rows = spec.batch_size or 64
    tokens = spec.training["max_steps"] * rows * row
    evaluated = spec.evaluations * spec.validation_examples * row
    assert parameters_of(model, ids) * (6 * tokens + 2 * evaluated) < FLOPS_OF_SMOKE


def test_the_presets_for_a_cpu_are_those_with_a_small_model():
    ends = ("small", "smoke", "hundredth")
    assert sorted(WITH_SMALL_MODEL) == sorted(name for name in PRESETS if name.endswith(ends))


@pytest.mark.parametrize("task", list_tasks())
@pytest.mark.parametrize("preset", ["small", "smoke"])
def test_every_task_takes_the_presets_for_a_cpu(preset, task):
    spec = spec_of(preset, task=task)
    spec.validate()
    # Rows are short, so that a run is one of minutes.
    if task not in (*("lime", "lime_induct", "lime_deduct", "lime_abduct"), "nonsense_summary"):
        stream = open_stream(task, vocabulary=spec.vocabulary, **spec.parameters)
        assert max(stream.bounds) <= 128


@pytest.mark.parametrize(
    ("model_type", "field"),
    [
        *(("t5", "d_model"), ("gpt2", "n_embd"), ("bart", "d_model"), ("distilbert", "dim")),
        *(("llama", "hidden_size"), ("electra", "hidden_size"), ("modernbert", "hidden_size")),
    ],
)
def test_every_architecture_becomes_small(model_type, field):
    model = ModelSpec(**small_model("small", {"model_type": model_type}))
    model.validate()
    assert model.overrides[field] == 128
    assert parameters_of(model, 128) < 1.5e6


def test_what_is_given_of_a_model_wins():
    given = {"model_type": "gpt2", "overrides": {"hidden_size": 64, "n_layer": 3}}
    fields = small_model("smoke", given)["overrides"]
    assert (fields["hidden_size"], fields["n_layer"], fields["n_head"]) == (64, 3, 8)
    assert "n_embd" not in fields  # the same field under its other name
    named = {"config_name": "google-t5/t5-small"}
    assert small_model("smoke", named) == named
    assert small_model("paper", given) == small_model(None, given) == given


def test_heads_that_are_given_are_those_of_keys_and_values_too():
    given = {"model_type": "llama", "overrides": {"hidden_size": 32, "num_attention_heads": 2}}
    fields = small_model("smoke", given)["overrides"]
    assert "num_key_value_heads" not in fields
    model = ModelSpec(**small_model("smoke", given))
    assert model.config(as_vocabulary(64)).num_key_value_heads == 2


def test_a_model_that_cannot_be_small_keeps_its_size():
    assert small_model("small", {"model_type": "gpt_neo"}) == {"model_type": "gpt_neo"}


def test_a_corpus_has_no_plain_ids_and_a_task_only_the_lengths_that_it_knows():
    assert not {"vocabulary", "parameters"} & preset_fields("small", None).keys()
    assert preset_fields("small", "set")["parameters"] == {"min_length": 4, "max_length": 24}
    assert "parameters" not in preset_fields("small", "lime_induct")
    assert "vocabulary" not in preset_fields("small", "nonsense_summary")


def test_rows_of_a_process_replace_the_batch_size_of_a_preset():
    spec = spec_of("fast", training={"per_device_train_batch_size": 8})
    assert spec.batch_size is None
    assert spec.training["per_device_train_batch_size"] == 8
