"""SynpreTrainer: an exact loss however a step is cut, the papers' optimizer and schedule, its log.

Run: pytest tests/training/test_trainer.py
"""

import copy
import json
import os
from contextlib import nullcontext

import pytest
import torch
from accelerate import debug_launcher
from encoder_examples import spec_of
from pretraining_runs import MODEL, run_of
from processes import rank
from safetensors.torch import load_file, save_file
from small_models import TINY, WEIGHTS
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hf_synpre import SyntheticDataset, UsageError
from hf_synpre.data.collators import Seq2SeqCollator
from hf_synpre.data.rows import IGNORED
from hf_synpre.initialization import build
from hf_synpre.models import chunked_head
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.losses import teacher_forced, token_loss
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.training.resumable_trainer import ResumableTrainer
from hf_synpre.training.trainer import SynpreTrainer, log_full_logits
from hf_synpre.vocabulary import as_vocabulary

COLLATOR = Seq2SeqCollator(pad=0, eos=1, start=0)


STREAM = {"vocabulary": 64, "min_length": 4, "max_length": 12}


def test_loss_is_the_mean_over_target_tokens(tiny_config):
    model = build(AutoModelForSeq2SeqLM, tiny_config, {}, 0).eval()
    batch = COLLATOR(SyntheticDataset("set", size=8, **STREAM).__getitems__(list(range(8))))
    labels = batch.pop("labels")
    ours = token_loss(model(**batch), labels)
    torch.testing.assert_close(
        ours,
        model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss,
    )
    torch.testing.assert_close(
        token_loss(model(**batch), labels, 10), ours * (labels != IGNORED).sum() / 10
    )


@pytest.mark.parametrize("change", ["lacks", "holds"])
def test_a_checkpoint_of_another_model_is_not_gone_on_from(tmp_path, tiny_config, change):
    """Tied tensors, which are stored once, are not missing."""
    model = build(AutoModelForSeq2SeqLM, tiny_config, {}, 0)
    args = training_arguments(tmp_path, {"max_steps": 1, "use_cpu": True})
    trainer = ResumableTrainer(model, args, data_collator=COLLATOR)
    model.save_pretrained(tmp_path)
    trainer._load_from_checkpoint(str(tmp_path))

    tensors = load_file(tmp_path / WEIGHTS)
    name = sorted(tensors)[0]
    if change == "lacks":
        del tensors[name]
    else:
        name = "a"
        tensors[name] = torch.ones(2)
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=f"that the run goes on from {change}.* {name} .1 tensors"):
        trainer._load_from_checkpoint(str(tmp_path))


def first_step(batch_size, accumulation, folder):
    """Return loss and gradient norm of the first step of 16 rows, cut as given."""
    torch.set_num_threads(1)
    size = int(os.environ.get("WORLD_SIZE", 1))
    args = training_arguments(
        folder,
        {
            "per_device_train_batch_size": batch_size,
            "gradient_accumulation_steps": accumulation,
            "max_steps": 1,
            "logging_steps": 1,
            "use_cpu": True,
            "ddp_backend": "gloo" if size > 1 else None,
        },
        train_sampling_strategy="sequential",
        save_strategy="no",
    )
    config = MODEL.config(SyntheticDataset("set", size=1, **STREAM).stream.vocabulary)
    trainer = SynpreTrainer(
        build(AutoModelForSeq2SeqLM, config, {}, 0),
        args,
        train_dataset=SyntheticDataset("set", size=16, **STREAM),
        data_collator=COLLATOR,
    )
    trainer.train()
    log = trainer.state.log_history[0]
    return {"loss": log["loss"], "grad_norm": log["grad_norm"]}


def first_step_to_file(folder):
    outcome = first_step(8, 1, folder)
    if rank() == 0:
        (folder / "outcome.json").write_text(json.dumps(outcome))


@pytest.fixture(scope="module")
def whole_step(tmp_path_factory):
    return first_step(16, 1, tmp_path_factory.mktemp("whole"))


def test_accumulation_changes_neither_loss_nor_gradient(tmp_path, whole_step):
    assert first_step(4, 4, tmp_path) == pytest.approx(whole_step, rel=1e-5)


def test_two_processes_change_neither_loss_nor_gradient(tmp_path, whole_step):
    debug_launcher(first_step_to_file, args=(tmp_path,), num_processes=2)
    assert json.loads((tmp_path / "outcome.json").read_text()) == pytest.approx(
        whole_step, rel=1e-5
    )


def test_adafactor_is_the_papers(tmp_path, tiny_config):
    """No momentum, clipping at 1, decay 0.8, steps relative to each tensor's size, no weight decay
    (docs/papers.md, "Pre-training")."""
    args = training_arguments(tmp_path, {"learning_rate": 0.01, "use_cpu": True})
    trainer = SynpreTrainer(
        build(AutoModelForSeq2SeqLM, tiny_config, {}, 0), args, data_collator=COLLATOR
    )
    trainer.create_optimizer()
    wanted = {
        "beta1": None,
        "clip_threshold": 1.0,
        "decay_rate": -0.8,
        "scale_parameter": True,
        "weight_decay": 0.0,
    }
    wanted |= {"relative_step": False, "warmup_init": False, "eps": (1e-30, 1e-3), "lr": 0.01}
    assert type(trainer.optimizer).__name__ == "Adafactor"
    for group in trainer.optimizer.param_groups:
        assert {name: group[name] for name in wanted} == wanted


def test_rsqrt_is_the_schedule_of_t5x(tmp_path, tiny_config):
    """0.01 for 10,000 steps, then one over the root (docs/papers.md, "Pre-training")."""
    args = training_arguments(tmp_path, {"learning_rate": 1.0, "use_cpu": True})
    trainer = SynpreTrainer(
        build(AutoModelForSeq2SeqLM, tiny_config, {}, 0), args, schedule="rsqrt"
    )
    trainer.create_optimizer_and_scheduler(80_000)
    rate = trainer.lr_scheduler.lr_lambdas[0]
    assert [rate(n) for n in (0, 9_999, 10_000, 40_000)] == [0.01, 0.01, 0.01, 0.005]
    assert trainer.lr_scheduler.get_last_lr() == [0.01, 0.01]


def test_logs_say_how_fast_and_how_long(tmp_path):
    spec, model = run_of("t5 packed")
    args = training_arguments(
        tmp_path, spec.training, save_strategy="no", train_sampling_strategy="sequential"
    )
    trainer = pretraining_trainer(
        spec, fresh_model(spec, model, as_vocabulary(48)), as_vocabulary(48), args
    )
    trainer.train()
    first, last = (
        log for log in trainer.state.log_history if "loss" in log and log["step"] in (1, 12)
    )
    for name in ("tokens", "tokens_per_s", "flops", "padding_share", "wait_share", "eta_s"):
        assert first[name] >= 0
    assert last["eta_s"] == 0
    assert last["tokens"] > first["tokens"] > 0


def test_a_decoders_loss_counts_every_label(tmp_path, labelled_corpus, encoder_tokenizer):
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = ModelSpec("llama", overrides={"hidden_size": 32, "intermediate_size": 64} | shape)
    training = {
        "max_steps": 1,
        "use_cpu": True,
        "logging_steps": 1,
        "per_device_train_batch_size": 8,
    }
    spec = spec_of("causal", batch_size=None, training=training)
    args = training_arguments(
        tmp_path, spec.training, train_sampling_strategy="sequential", save_strategy="no"
    )
    vocabulary = as_vocabulary(encoder_tokenizer)
    trainer = pretraining_trainer(
        spec, fresh_model(spec, model, vocabulary), vocabulary, args, labelled_corpus
    )
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        wanted = token_loss(
            trainer.model(**{k: v for k, v in batch.items() if k != "labels"}), batch["labels"]
        )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_tied_weights_are_no_missing_keys(tiny_config, tmp_path, caplog):
    """safetensors store a tensor with two names once; the Trainer would name the other one."""
    from collections import namedtuple

    from transformers import T5ForConditionalGeneration

    from hf_synpre.training.arguments import training_arguments

    model = T5ForConditionalGeneration(tiny_config)
    trainer = ResumableTrainer(model, training_arguments(tmp_path, {"max_steps": 1}))
    keys = namedtuple("keys", ["missing_keys", "unexpected_keys"])
    tied = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    trainer._issue_warnings_after_load(keys(tied, []))
    assert caplog.text == ""
    with pytest.raises(UsageError, match=r"goes on from lacks .* .4 tensors in all"):
        trainer._issue_warnings_after_load(keys([*tied, "shared.weight", "lm_head.weight"], []))


def trained_step(folder, model, collator, rows, chunked=True):
    """Return the logs of one step and its evaluation, the head at labelled positions or not."""
    training = {"max_steps": 1, "logging_steps": 1, "use_cpu": True}
    args = training_arguments(
        folder, training, eval_strategy="steps", eval_steps=1, save_strategy="no"
    )
    trainer = SynpreTrainer(
        model,
        args,
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=collator,
        compute_metrics=teacher_forced,
        preprocess_logits_for_metrics=token_loss.by_row,
    )
    if not chunked:
        trainer.chunked_head = None
    trainer.train()
    step, evaluation, *_ = trainer.state.log_history
    names = ("eval_loss", "eval_token_accuracy", "eval_score")
    return [step["loss"], step["grad_norm"], *(evaluation[name] for name in names)]


def test_a_head_at_labelled_positions_changes_no_figure(tmp_path, tiny_config, monkeypatch):
    """Neither loss, gradient nor accuracy; and the model is a stock one again afterwards."""
    rows = SyntheticDataset("set", size=8, **STREAM)
    model = build(AutoModelForSeq2SeqLM, tiny_config, {}, 0)
    seen = []
    model.lm_head.register_forward_hook(lambda _, args, logits: seen.append(logits[..., 0].numel()))
    with_all = trained_step(tmp_path, copy.deepcopy(model), COLLATOR, rows, chunked=False)
    most = max(seen)
    seen.clear()

    monkeypatch.setattr(chunked_head, "chunk_positions", lambda *_: 16)
    assert trained_step(tmp_path, model, COLLATOR, rows) == pytest.approx(with_all, rel=1e-5)
    assert max(seen) <= 16 < most
    assert "forward" not in vars(model)
    assert not model._forward_pre_hooks
    batch = COLLATOR([rows[0]])
    assert model(**batch).loss > 0


@pytest.mark.parametrize(
    "name", ["t5 packed", "gpt2 packed", "bert packed", "bert on nesting_language"]
)
def test_chunks_take_packed_and_masked_rows(tmp_path, name, monkeypatch):
    """The head runs behind the forwards for several examples a row and for masked positions."""
    monkeypatch.setattr(chunked_head, "chunk_positions", lambda *_: 16)
    spec, model = run_of(name)
    args = training_arguments(tmp_path, spec.training, save_strategy="no")
    vocabulary = as_vocabulary(48)
    network = fresh_model(spec, model, vocabulary)
    trainer = pretraining_trainer(spec, network, vocabulary, args)
    batch = next(iter(trainer.get_train_dataloader()))

    figures = []
    for head in (trainer.chunked_head, None):
        trainer.chunked_head = head
        network.eval()  # without dropout
        with head.attached() if head else nullcontext():
            loss, outputs = trainer.compute_loss(network, dict(batch), return_outputs=True)
        assert ("logits" in outputs) == (head is None)
        loss.backward()
        gradients = [p.grad.norm().item() for p in network.parameters() if p.grad is not None]
        figures.append([loss.item(), *gradients])
        network.zero_grad()
    assert figures[0] == pytest.approx(figures[1], rel=1e-4, abs=1e-7)


def test_a_head_that_needs_more_than_states_keeps_all_logits(tmp_path, caplog):
    """ProphetNet's head takes the states of its n-grams. The log says so once."""
    log_full_logits.cache_clear()
    shape = {"hidden_size": 16, "num_encoder_layers": 1, "num_decoder_layers": 1, "dropout": 0.0}
    heads = {"num_encoder_attention_heads": 2, "num_decoder_attention_heads": 2}
    ids = {"vocab_size": 64, "decoder_start_token_id": 0}
    config = AutoConfig.for_model("prophetnet", **shape, **heads, **ids)
    rows = SyntheticDataset("set", size=8, **STREAM)
    for _ in range(2):
        model = build(AutoModelForSeq2SeqLM, config, {}, 0)
        assert trained_step(tmp_path, model, COLLATOR, rows)[0] > 0
    (record,) = (r for r in caplog.records if "logits of a whole batch" in r.getMessage())
    assert "ProphetNetForConditionalGeneration" in record.getMessage()


def test_a_routers_loss_is_not_left_out(tmp_path):
    config = AutoConfig.for_model(
        "switch_transformers", **TINY, vocab_size=64, num_experts=2, output_router_logits=True
    )
    model = build(AutoModelForSeq2SeqLM, config, {}, 0)
    with pytest.raises(UsageError, match=r"loss of Switch.*'s router cannot be added"):
        SynpreTrainer(model, training_arguments(tmp_path, {"max_steps": 1, "use_cpu": True}))
