"""Objectives on a dataset's own text: each learns, exactly, and leaves a plain model.

Run: pytest tests/training/test_objectives.py
"""

import json
import os

import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from encoder_examples import ELECTRA, ROBERTA, electra_pair, spec_of
from processes import rank
from small_models import TINY
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from hf_synpre.data.corpora import Corpus
from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.data.windows import encode_corpus
from hf_synpre.models.electra import RTDModel, saved_pair
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer, step_flops
from hf_synpre.vocabulary import as_vocabulary

RUNS = {
    "electra rtd": (
        ELECTRA,
        "rtd",
        {"pairs": True, "schedule": "electra", "bias_correction": False},
    ),
    "electra mlm": (ELECTRA, "mlm", {}),
    "roberta mlm": (ROBERTA, "mlm", {}),
    "gpt2 causal": (
        ModelSpec("gpt2", overrides={"n_embd": 32, "n_layer": 2, "n_head": 2}),
        "causal",
        {},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_objective_learns_and_exports_a_plain_model(
    name, tmp_path, labelled_corpus, encoder_tokenizer
):
    model, objective, changes = RUNS[name]
    spec = spec_of(
        objective, training={"max_steps": 30, "learning_rate": 1e-2, "warmup_steps": 5}, **changes
    )
    result = pretrain(
        spec, model, tmp_path / "run", tokenizer=encoder_tokenizer, corpus=labelled_corpus
    )

    # It learns: the loss is below that of guessing.
    guessing = np.log(len(encoder_tokenizer))
    if objective == "rtd":
        guessing += 50 * np.log(2)
    assert result["curve"][-1]["loss"] < 0.8 * guessing
    assert result["recipe"]["corpus"]["bytes"] == labelled_corpus.metadata["bytes"]
    assert result["recipe"]["tokenizer"]["origin"].startswith("strict: trained on the corpus alone")
    assert result["tokens"] <= result["positions"]
    assert result["flops"] > 0
    ids = len(
        encode_corpus(
            labelled_corpus.texts("train"), encoder_tokenizer, 10**9, encoder_tokenizer.sep_token_id
        )
    )
    epochs = 30 * 8 * 32 / ids  # but for the special tokens of a row
    assert result["epochs"] == pytest.approx(epochs, rel=0.12)
    if objective == "rtd":
        assert {"replaced_recall", "majority_floor", "generator_loss"} <= result["curve"][-1].keys()

    # Its folder is a plain model of the architecture, for any head. Masked language modelling
    # trains no pooler: it belongs to the head.
    heads = [AutoModelForSequenceClassification]
    if objective != "causal":
        heads += [
            AutoModelForTokenClassification,
            AutoModelForQuestionAnswering,
            AutoModelForMultipleChoice,
        ]
    for head in heads:
        loaded, report = head.from_pretrained(tmp_path / "run", output_loading_info=True)
        body = loaded.base_model_prefix
        lacking = [
            key
            for key in report["missing_keys"]
            if key.startswith(f"{body}.") and "pooler" not in key
        ]
        assert not lacking
    if objective == "rtd":
        _, report = AutoModelForMaskedLM.from_pretrained(
            tmp_path / "run" / "generator", output_loading_info=True
        )
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]


def test_span_corruption_takes_a_corpus_too(tmp_path, labelled_corpus):
    spec, model = spec_of("span_corruption"), ModelSpec(overrides=TINY)
    tokenizer = train_tokenizer(labelled_corpus.texts("train"), 400)
    result = pretrain(spec, model, tmp_path / "t5", tokenizer=tokenizer, corpus=labelled_corpus)
    assert result["curve"][-1]["loss"] < result["curve"][0]["loss"]

    network = fresh_model(spec, model, as_vocabulary(tokenizer))
    assert result["flops"] == result["steps"] * step_flops(spec, network, 8)


def first_step(objective, batch_size, accumulation, folder, corpus, tokenizer):
    """Write loss and gradient norm of the first step of 16 rows of unequal lengths."""
    torch.set_num_threads(1)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    training = {
        "max_steps": 1,
        "use_cpu": True,
        "gradient_accumulation_steps": accumulation,
        "logging_steps": 1,
        "per_device_train_batch_size": batch_size,
        "ddp_backend": "gloo" if processes > 1 else None,
    }
    spec = spec_of(objective, batch_size=None, training=training, pairs=objective == "rtd")
    args = training_arguments(
        folder, spec.training, train_sampling_strategy="sequential", save_strategy="no"
    )

    # An epoch of a short corpus has few windows, one of them shorter than the others.
    short_corpus = Corpus(lambda split: list(corpus.texts(split))[:30], {})
    vocabulary = as_vocabulary(tokenizer)
    model = fresh_model(spec, ELECTRA, vocabulary)
    trainer = pretraining_trainer(spec, model, vocabulary, args, short_corpus)
    if objective == "rtd":
        assert trainer.train_dataset.rows.rows.windows.epoch_rows < 16
    trainer.train()
    log = trainer.state.log_history[0]
    (folder / f"{rank()}.json").write_text(json.dumps([log["loss"], log["grad_norm"]]))


@pytest.mark.parametrize("objective", ["rtd", "mlm"])
def test_accumulation_and_processes_change_neither_loss_nor_gradient(
    objective, tmp_path, labelled_corpus, encoder_tokenizer
):
    for name, batch, accumulation in (("whole", 16, 1), ("parts", 4, 4)):
        (tmp_path / name).mkdir()
        first_step(
            objective, batch, accumulation, tmp_path / name, labelled_corpus, encoder_tokenizer
        )
    (tmp_path / "two").mkdir()
    debug_launcher(
        first_step,
        args=(objective, 4, 2, tmp_path / "two", labelled_corpus, encoder_tokenizer),
        num_processes=2,
    )
    whole, parts, two = (
        json.loads((tmp_path / name / "0.json").read_text()) for name in ("whole", "parts", "two")
    )
    assert parts == pytest.approx(whole, rel=1e-4)
    assert two == pytest.approx(whole, rel=1e-4)


HEAD = "generator.generator_predictions.dense.weight"


def test_the_pair_round_trips_with_its_ties(tmp_path, encoder_tokenizer):
    model = electra_pair(encoder_tokenizer)
    model.save_pretrained(tmp_path)
    again = RTDModel(model.config)
    assert not torch.equal(again.state_dict()[HEAD], model.state_dict()[HEAD])
    report = again.load_state_dict(saved_pair(tmp_path), strict=False)
    assert not report.unexpected_keys
    assert (
        again.generator.electra.embeddings.LayerNorm.bias
        is again.discriminator.electra.embeddings.LayerNorm.bias
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize("name", RUNS)
def test_bf16_has_the_losses_of_fp32(name, tmp_path, labelled_corpus, encoder_tokenizer):
    model, objective, changes = RUNS[name]
    losses = {}
    for bf16 in (False, True):
        spec = spec_of(objective, evaluations=4, training={"bf16": bf16, "max_steps": 4}, **changes)
        result = pretrain(
            spec, model, tmp_path / str(bf16), tokenizer=encoder_tokenizer, corpus=labelled_corpus
        )
        losses[bf16] = [point["loss"] for point in result["curve"]]
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=2e-3)
