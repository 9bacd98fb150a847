"""Two processes train and evaluate as one does: with DDP and with FSDP, also in parts.

Run: pytest tests/training/test_two_processes.py
"""

import json

import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from pretraining_runs import STREAM_MODELS
from processes import rank
from small_models import DECODER, TINY

from hf_synpre.config import build_spec
from hf_synpre.models import chunked_head
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.vocabulary import as_vocabulary

VOCABULARY = 2000
NO_DROPOUT = {
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
MODELS = {
    "t5": TINY,
    "gpt2": STREAM_MODELS["gpt2"] | NO_DROPOUT["gpt2"],
    "llama": {name: value for name, value in DECODER.items() if name != "vocab_size"},
    "bert": STREAM_MODELS["bert"] | NO_DROPOUT["bert"],
}
# How two processes work together: training arguments, and tokens_per_batch, which makes parts of a
# step.
WAYS = {"ddp": ({}, None), "fsdp in parts": ({"fsdp": True, "fsdp_config": {"version": 2}}, 60)}


def figures(family, folder, processes=1, training=None, limit=None):
    """Return loss and gradient norm of two steps of 8 rows, then loss and accuracy of 13 rows."""
    training = {
        "max_steps": 2,
        "logging_steps": 1,
        "use_cpu": True,
        "optim": "adamw_torch",
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8 // processes,
        "per_device_eval_batch_size": 4,
        **(training or {}),
    }
    if processes > 1:
        training["ddp_backend"] = "gloo"
    fields = {
        "task": "set",
        "vocabulary": VOCABULARY,
        "parameters": {"min_length": 4, "max_length": 12},
        "validation_examples": 13,
        "tokens_per_batch": limit,
        "training": training,
    }
    spec = build_spec(PretrainingSpec, fields, "here")
    args = training_arguments(
        folder, training, train_sampling_strategy="sequential", save_strategy="no"
    )
    vocabulary = as_vocabulary(VOCABULARY)
    model = fresh_model(spec, ModelSpec(family, overrides=MODELS[family]), vocabulary)
    trainer = pretraining_trainer(spec, model, vocabulary, args)
    trainer.train()
    steps = [(log["loss"], float(log["grad_norm"])) for log in trainer.state.log_history[:2]]
    evaluated = trainer.evaluate()
    return [*steps[0], *steps[1], evaluated["eval_loss"], evaluated["eval_token_accuracy"]]


def figures_to_file(folder):
    torch.set_num_threads(1)
    found = {}
    for family in MODELS:
        for way, (training, limit) in WAYS.items():
            AcceleratorState._reset_state()  # which remembers FSDP
            found[f"{family} {way}"] = figures(family, folder, 2, training, limit)
    if rank() == 0:
        (folder / "figures.json").write_text(json.dumps(found))


def test_two_processes_have_the_figures_of_one(tmp_path, monkeypatch):
    """The head runs in several chunks; a row that fills up the last batch counts once."""
    monkeypatch.setattr(chunked_head, "chunk_positions", lambda *_: 20)
    expected = {family: figures(family, tmp_path) for family in MODELS}
    debug_launcher(figures_to_file, args=(tmp_path,), num_processes=2)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert len(found) == len(MODELS) * len(WAYS)
    for name, values in found.items():
        assert values == pytest.approx(expected[name.split()[0]], rel=1e-5), name
