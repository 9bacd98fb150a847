"""Pre-training on a task: it learns, for every model family and batching, and ends by its budget.

Run: pytest tests/training/test_pretraining.py
"""

import json
import math

import pytest
import torch
from encoder_examples import ELECTRA, spec_of
from pretraining_runs import MODEL, RUNS, SPEC, run_of
from transformers import AutoModelForSeq2SeqLM

from hf_synpre import SyntheticDataset, UsageError
from hf_synpre.config import build_spec
from hf_synpre.data.buckets import MEGABATCH, LengthBuckets
from hf_synpre.initialization import build
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import as_vocabulary


def test_pretraining_learns_and_reports_its_cost(pretrained):
    _, result = pretrained
    assert result["curve"][-1]["loss"] < 0.8 * math.log(48)
    assert result["accuracy"] > 3 / 48
    assert result["stopped"] == "budget"
    examples = SyntheticDataset(
        "identity", size=4 * MEGABATCH * 64, vocabulary=48, min_length=2, max_length=4
    )
    buckets = LengthBuckets(examples, batch_size=64)
    rows_seen = [buckets[i] for i in range(200 * 64)]
    assert result["tokens"] == sum(len(r["input_ids"]) + len(r["labels"]) + 2 for r in rows_seen)
    assert result["positions"] >= result["tokens"]
    assert result["padding_share"] == pytest.approx(
        1 - result["tokens"] / result["positions"], abs=1e-3
    )
    assert result["flops"] > 0
    assert result["tokens_per_s"] > 0


def test_every_parameter_moves(pretrained):
    folder, _ = pretrained
    trained = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    fresh = build(
        AutoModelForSeq2SeqLM,
        MODEL.config(SyntheticDataset("set", vocabulary=48).stream.vocabulary),
        {},
        0,
    ).state_dict()
    assert [name for name in fresh if torch.equal(fresh[name], trained[name])] == []


def test_the_target_accuracy_ends_the_run(tmp_path):
    easy = PretrainingSpec(**{**vars(SPEC), "target_accuracy": 0.05, "evaluations": 20})
    result = pretrain(easy, MODEL, tmp_path / "easy")
    assert result["stopped"] == "competence"
    assert result["steps"] < 200


@pytest.mark.parametrize("name", RUNS)
def test_every_model_family_trains_with_every_batching(name, tmp_path):
    spec, model = run_of(name)
    result = pretrain(spec, model, tmp_path / "run")
    assert result["curve"][-1]["loss"] < result["curve"][0]["loss"]
    assert 0 < result["tokens"] <= result["positions"]
    assert result["flops"] > 0
    family = model_family(model.config(as_vocabulary(48)))
    _, report = AUTO_CLASSES[family].from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    stored = json.loads((tmp_path / "run" / "parameter_statistics.json").read_text())
    assert all(p["sd"] >= 0 for p in stored["parameters"])


def test_padding_is_small_where_rows_are_packed(tmp_path):
    result = pretrain(*run_of("t5 packed"), tmp_path / "run")
    assert result["padding_share"] < 0.07
    assert result["wait_share"] < 0.5


@pytest.mark.parametrize("model_type", ["qwen2", "albert", "distilbert", "bart"])
def test_other_architectures_train_and_are_saved(model_type, tmp_path):
    """Configs differ: qwen2 has a field a layer, albert no is_decoder, distilbert other names,
    bart position embeddings."""
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    overrides = {
        "qwen2": shape | {"num_key_value_heads": 2},
        "albert": shape | {"embedding_size": 16},
        "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2},
        "bart": {
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
        },
    }
    spec, _ = run_of("t5 packed", batching="bucketed", row_length=None)
    model = ModelSpec(model_type, overrides=overrides[model_type])
    result = pretrain(spec, model, tmp_path / "run")
    assert result["flops"] > 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_diverged_pretraining_is_an_error(tmp_path):
    spec, model = run_of("t5 packed")
    spec.training["learning_rate"] = 1e30
    with pytest.raises(FloatingPointError, match="give a smaller learning_rate"):
        pretrain(spec, model, tmp_path / "run")


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        ({"budget_tokens": 32 * 8 * 3}, 3),
        ({"budget_flops": None}, 20),
        ({"budget_seconds": 1e-6}, 1),
    ],
)
def test_budgets_of_every_kind(limit, steps, tmp_path, labelled_corpus, encoder_tokenizer):
    if "budget_flops" in limit:
        one = pretrain(
            spec_of("mlm", training={"max_steps": 1}),
            ELECTRA,
            tmp_path / "one",
            tokenizer=encoder_tokenizer,
            corpus=labelled_corpus,
        )
        limit = {"budget_flops": one["flops"] * steps}
    result = pretrain(
        spec_of("mlm", **limit),
        ELECTRA,
        tmp_path / "run",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
    )
    assert result["steps"] == steps
    assert result["curve"][-1]["step"] == steps


def test_a_budget_that_ends_in_warm_up_is_refused(tmp_path, labelled_corpus, encoder_tokenizer):
    spec = spec_of("mlm", budget_tokens=32 * 8 * 3, training={"warmup_steps": 10})
    with pytest.raises(
        UsageError,
        match=r"The budget in steps is 3 and warmup_steps is 10, so .*; give a smaller training\.",
    ):
        pretrain(
            spec, ELECTRA, tmp_path / "run", tokenizer=encoder_tokenizer, corpus=labelled_corpus
        )


def test_steps_that_end_in_warm_up_are_refused(tmp_path):
    """Also the warm-up of a preset."""
    given = {"task": "set", "preset": "fast", "vocabulary": 128, "training": {"max_steps": 50}}
    spec = build_spec(PretrainingSpec, given, "here")
    with pytest.raises(
        UsageError,
        match=r"^max_steps is 50 and warmup_steps is 50, so the learning rate would never",
    ):
        pretrain(spec, MODEL, tmp_path / "run")
    assert not list(tmp_path.iterdir())
