"""Steps in parts, so that they fit into memory; what is said where memory runs out.

Run: pytest tests/training/test_memory.py
"""

import dataclasses
import json
import os
import re
from types import SimpleNamespace

import pytest
import torch
from accelerate import debug_launcher
from pretraining_runs import run_of
from processes import rank
from transformers.training_args import OptimizerNames

from hf_synpre import UsageError
from hf_synpre.config import stored_form
from hf_synpre.data.parts import computed_positions
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.memory import is_out_of_memory
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_trainer import (
    fresh_model,
    limit_evaluation,
    pretraining_trainer,
)
from hf_synpre.training.trainer import SynpreTrainer
from hf_synpre.vocabulary import as_vocabulary

# Examples of 4 to 40 tokens, of which 16 make a step.
LONGER = {"parameters": {"min_length": 2, "max_length": 20}, "validation_examples": 16}
# What torch raises where memory has run out, on a GPU, on a CPU, and Python.
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
]


# Without dropout, which draws other numbers for parts of a batch.
NO_DROPOUT = {
    "t5": {},
    "gpt2": dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    "bert": dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0),
}


def first_step(family, folder, limit):
    """Return loss, gradient norm and the largest batch of the first step, of 16 rows in all."""
    torch.set_num_threads(1)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    training = {"max_steps": 1, "logging_steps": 1, "use_cpu": True, "learning_rate": 1e-2}
    changes = {"batching": "padded", "row_length": None, "training": training}
    spec, model = run_of(f"{family} packed", **LONGER, **changes, tokens_per_batch=limit)
    model = dataclasses.replace(model, overrides=model.overrides | NO_DROPOUT[family])
    args = training_arguments(
        folder,
        training
        | {
            "per_device_train_batch_size": 16 // processes,
            "ddp_backend": "gloo" if processes > 1 else None,
        },
        train_sampling_strategy="sequential",
        save_strategy="no",
    )
    vocabulary = as_vocabulary(48)
    trainer = pretraining_trainer(spec, fresh_model(spec, model, vocabulary), vocabulary, args)

    largest = []
    trainer.computed.begin = lambda phase, batch: largest.append(computed_positions(batch))
    trainer.train()
    log = trainer.state.log_history[0]
    return log["loss"], log["grad_norm"], max(largest)


@pytest.mark.parametrize("family", NO_DROPOUT)
def test_a_step_in_parts_has_the_same_loss_and_gradient(family, tmp_path):
    loss, norm, whole = first_step(family, tmp_path, None)
    limit = whole // 3
    loss_in_parts, norm_in_parts, largest = first_step(family, tmp_path, limit)
    assert largest <= limit
    assert (loss_in_parts, norm_in_parts) == pytest.approx((loss, norm), rel=1e-5)


def first_step_to_file(folder):
    outcome = first_step("t5", folder, 100)
    if rank() == 0:
        (folder / "outcome.json").write_text(json.dumps(outcome))


def test_parts_on_two_processes_change_neither_loss_nor_gradient(tmp_path):
    """Both compute as many parts, whatever each needs."""
    whole = first_step("t5", tmp_path, None)
    debug_launcher(first_step_to_file, args=(tmp_path,), num_processes=2)
    *outcome, largest = json.loads((tmp_path / "outcome.json").read_text())
    assert outcome == pytest.approx(whole[:2], rel=1e-5)
    assert largest <= 100


def test_rows_longer_than_a_batch_are_refused(tmp_path):
    spec, model = run_of("t5 packed", tokens_per_batch=4, batching="padded", row_length=None)
    with pytest.raises(
        UsageError,
        match="tokens_per_batch is 4, and rows of this run take up to 12 positions; give",
    ):
        pretrain(spec, model, tmp_path / "run")


def test_an_optimizer_that_updates_in_every_part_is_refused(tmp_path):
    args = SimpleNamespace(optim=OptimizerNames.ADALOMO)
    with pytest.raises(UsageError, match="optim adalomo updates the weights in every backward pa"):
        limit_evaluation(100, None, None, args)


def test_no_recipe_has_the_limit():
    spec, _ = run_of("t5 packed")
    assert stored_form(dataclasses.replace(spec, tokens_per_batch=80)) == stored_form(spec)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_memory_that_has_run_out_is_known_by_its_errors(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_where_memory_runs_out_a_line_says_what_to_lower(tmp_path, monkeypatch):
    """The same command goes on with the limit that the line names."""
    spec, model = run_of("gpt2 bucketed, all", batch_size=16, tokens_per_batch=1000)
    compute_loss, calls = SynpreTrainer.compute_loss, []

    def fail_later(self, network, batch, *args, **kwargs):
        calls.append(computed_positions(batch))
        if len(calls) > 10:
            raise OUT_OF_MEMORY[0]
        return compute_loss(self, network, batch, *args, **kwargs)

    monkeypatch.setattr(SynpreTrainer, "compute_loss", fail_later)
    with pytest.raises(UsageError) as refused:
        pretrain(spec, model, tmp_path / "run")
    monkeypatch.undo()
    line = str(refused.value)
    assert line.startswith("Memory ran out")
    advised = re.search(
        r"in a batch of training, 16 rows of (\d+) .*; give tokens_per_batch (\d+)", line
    )
    assert advised, line
    assert int(advised[2]) == int(advised[1]) // 2

    smaller = dataclasses.replace(spec, tokens_per_batch=int(advised[2]))
    assert pretrain(smaller, model, tmp_path / "run")["steps"] == 12


def test_memory_that_runs_out_elsewhere_is_said_too(tmp_path, monkeypatch):
    spec, model = run_of("t5 packed")
    for name, advice in (
        (
            "prediction_step",
            "in a batch of evaluation, .* rows of .*; give per_device_eval_batch_size 32",
        ),
        ("create_optimizer", "outside of batches: weights and gradients take 0.0 GB"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"transformers.Seq2SeqTrainer.{name}", out_of_memory)
            with pytest.raises(UsageError, match=f"^Memory ran out .* {advice}"):
                pretrain(spec, model, tmp_path / name)


def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory.")
