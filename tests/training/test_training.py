"""The Trainer both phases share: batches, exact loss under accumulation and processes, the meter, resuming."""

import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from processes import kill_after_a_checkpoint, rank
from small_models import TINY
from transformers import AutoModelForSeq2SeqLM

from hf_synpre import SyntheticDataset, UsageError
from hf_synpre.config import build_spec
from hf_synpre.data.collators import Seq2SeqCollator
from hf_synpre.data.masking import noise_counts
from hf_synpre.data.rows import IGNORED
from hf_synpre.initialization import build
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.flops import FlopCounter
from hf_synpre.training.pretraining import (
    fresh_model,
    last_whole_checkpoint,
    pretrain,
    pretraining_trainer,
)
from hf_synpre.training.pretraining_data import open_rows, rows_per_step
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.trainer import SynpreTrainer, token_loss
from hf_synpre.vocabulary import as_vocabulary

COLLATOR = Seq2SeqCollator(pad=0, eos=1, start=0)
STREAM = {"vocabulary": 64, "min_length": 4, "max_length": 12}
MODEL = ModelSpec(overrides=TINY)


def rows(*pairs):
    return [{"input_ids": np.array(x, np.int32), "labels": np.array(y, np.int32)} for x, y in pairs]


def test_collator_pads_shifts_and_ends_sequences():
    batch = Seq2SeqCollator(0, 1, 0, multiple=1)(rows(([5, 6, 7], [8]), ([9], [3, 4])))
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1], [9, 1, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[8, 1, IGNORED], [3, 4, 1]]
    assert batch["decoder_input_ids"].tolist() == [[0, 8, 0], [0, 3, 4]]


def test_lengths_are_multiples_so_that_shapes_are_few():
    batch = Seq2SeqCollator(0, 1, 0, max_target=12)(rows((range(9), range(9))))
    assert [batch[name].shape for name in ("input_ids", "labels")] == [(1, 16), (1, 16)]


def test_collator_cuts_after_the_end_of_sequence_is_appended():
    batch = Seq2SeqCollator(0, 1, 0, max_source=3, max_target=2, multiple=1)(
        rows(([5, 6, 7, 8], [8, 9, 2]), ([5], [6]))
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 1, 0]]
    assert batch["labels"].tolist() == [[8, 9], [6, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


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


def test_flops_match_a_count_by_hand(tiny_config):
    d, inner, ff, vocabulary = 32, 32, 64, 64
    counter = FlopCounter(build(AutoModelForSeq2SeqLM, tiny_config, {}, 0))
    encoder = 4 * d * inner + 2 * d * ff
    decoder, cross = 4 * d * inner + 2 * d * inner + 2 * d * ff + d * vocabulary, 2 * d * inner
    scores = 4 * inner * (7 * 7 + 5 * 5 + 5 * 7)
    assert counter(3, 7, 5) == 3 * 3 * (2 * (encoder + cross) * 7 + 2 * decoder * 5 + scores)


SPEC = PretrainingSpec(
    task="identity",
    vocabulary=48,
    parameters={"min_length": 2, "max_length": 4},
    evaluations=4,
    validation_examples=64,
    target_accuracy=2.0,  # not reached: the run ends by its budget
    training={"max_steps": 200, "learning_rate": 5e-2, "use_cpu": True},
)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "identity"
    return folder, pretrain(SPEC, MODEL, folder)


def test_pretraining_learns_and_says_what_it_spent(pretrained):
    _, facts = pretrained
    assert facts["curve"][-1]["loss"] < 0.8 * math.log(48)
    assert facts["accuracy"] > 3 / 48
    assert facts["stopped"] == "budget"
    rows_seen = [len(r["input_ids"]) + len(r["labels"]) + 2 for r in identity_rows(200 * 64)]
    assert facts["tokens"] == sum(rows_seen)
    assert facts["positions"] >= facts["tokens"]
    assert facts["padding_share"] == pytest.approx(
        1 - facts["tokens"] / facts["positions"], abs=1e-3
    )
    assert facts["flops"] > 0
    assert facts["tokens_per_s"] > 0


def identity_rows(count):
    return SyntheticDataset(
        "identity", size=count, vocabulary=48, min_length=2, max_length=4
    ).__getitems__(list(range(count)))


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


def test_competence_ends_the_run(tmp_path):
    easy = PretrainingSpec(**{**vars(SPEC), "target_accuracy": 0.05, "evaluations": 20})
    facts = pretrain(easy, MODEL, tmp_path / "easy")
    assert facts["stopped"] == "competence"
    assert facts["steps"] < 200


def test_a_run_killed_and_started_again_ends_with_the_same_weights(tmp_path, pretrained):
    folder, undisturbed = pretrained
    code = (
        "import torch; torch.set_num_threads(1); import sys; sys.path[:0] = ['tests', 'tests/training']\n"
        "from pathlib import Path; from test_training import *; pretrain(SPEC, MODEL, Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "killed")]
    kill_after_a_checkpoint(command, tmp_path / "killed")
    subprocess.run(command, check=True)
    resumed = json.loads((tmp_path / "killed" / "pretraining.json").read_text())
    assert (tmp_path / "killed" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    same = ("steps", "tokens", "positions", "flops", "curve", "accuracy")
    assert {k: resumed[k] for k in same} == {k: undisturbed[k] for k in same}


STREAM_MODELS = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "bert": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
}
RUNS = {
    "t5 packed": ({"batching": "packed", "row_length": 64}, {"overrides": TINY}),
    "t5 padded, paper's schedule and weights": (
        {"batching": "padded", "schedule": "rsqrt", "initial_weights": "t5x"},
        {"overrides": TINY},
    ),
    "gpt2 packed": (
        {"batching": "packed", "row_length": 64},
        {"model_type": "gpt2", "overrides": STREAM_MODELS["gpt2"]},
    ),
    "gpt2 bucketed, all": (
        {"loss_on": "all"},
        {"model_type": "gpt2", "overrides": STREAM_MODELS["gpt2"]},
    ),
    "bert packed": (
        {"batching": "packed", "row_length": 64},
        {"model_type": "bert", "overrides": STREAM_MODELS["bert"]},
    ),
    "t5 on nesting_language": (
        {"task": "nesting_language", "parameters": {}, "window": 40},
        {"overrides": TINY},
    ),
    "gpt2 on nesting_language": (
        {"task": "nesting_language", "parameters": {}, "window": 40},
        {"model_type": "gpt2", "overrides": STREAM_MODELS["gpt2"]},
    ),
    "bert on nesting_language": (
        {"task": "nesting_language", "parameters": {}, "window": 40},
        {"model_type": "bert", "overrides": STREAM_MODELS["bert"]},
    ),
}


def run_of(name, **changes):
    changed, model = RUNS[name]
    rate = 1.0 if "schedule" in changed else 3e-2
    training = {"max_steps": 12, "learning_rate": rate, "use_cpu": True}
    if "batch_size" not in changes:
        training["per_device_train_batch_size"] = 8
    spec = (
        {**vars(SPEC), "evaluations": 2, "training": training | {"logging_steps": 1}}
        | changed
        | changes
    )
    return PretrainingSpec(**spec), ModelSpec(**model)


@pytest.mark.parametrize("name", RUNS)
def test_every_kind_of_model_and_batch_trains(name, tmp_path):
    spec, model = run_of(name)
    facts = pretrain(spec, model, tmp_path / "run")
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]
    assert 0 < facts["tokens"] <= facts["positions"]
    assert facts["flops"] > 0
    kind = model_family(model.config(as_vocabulary(48)))
    _, report = AUTO_CLASSES[kind].from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    stored = json.loads((tmp_path / "run" / "parameter_statistics.json").read_text())
    assert all(p["sd"] >= 0 for p in stored["parameters"])


def test_padding_is_small_where_rows_are_packed(tmp_path):
    facts = pretrain(*run_of("t5 packed"), tmp_path / "run")
    assert facts["padding_share"] < 0.07
    assert facts["wait_share"] < 0.5


def test_text_in_a_folder_is_a_corpus(tmp_path):
    from hf_synpre.data.tokenizers import train_tokenizer

    (tmp_path / "text").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "text" / f"{split}-0.txt").write_text(
            "the quick brown fox jumps over the lazy dog\n" * 50
        )
    tokenizer = train_tokenizer(["the quick brown fox"], 400)
    spec, model = run_of(
        "t5 packed", task=None, corpus=str(tmp_path / "text"), batching="bucketed", window=24
    )
    facts = pretrain(spec, model, tmp_path / "run", tokenizer=tokenizer)
    assert facts["tokens"] == 12 * 8 * (24 + 2 * noise_counts(24)[1] + 2)
    assert (tmp_path / "run" / "tokenizer.json").exists()


def pretrain_in_parts(folder, processes):
    """Pre-train 4 packed steps of 50 examples, 8 rows, over all processes; the number of processes must not matter."""
    torch.set_num_threads(1)
    gloo = {"ddp_backend": "gloo"} if processes > 1 else {}
    training = {"max_steps": 4, "learning_rate": 3e-2, "use_cpu": True, "logging_steps": 1} | gloo
    spec, model = run_of("t5 packed", batch_size=50, training=training, validation_examples=32)
    facts = pretrain(spec, model, folder)
    if rank() == 0:
        (folder.parent / f"{folder.name}.json").write_text(json.dumps(facts))


def test_two_processes_pretrain_what_one_does(tmp_path):
    pretrain_in_parts(tmp_path / "one", 1)
    debug_launcher(pretrain_in_parts, args=(tmp_path / "two", 2), num_processes=2)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert {k: two[k] for k in ("tokens", "positions", "flops")} == {
        k: one[k] for k in ("tokens", "positions", "flops")
    }
    assert two["accuracy"] == pytest.approx(one["accuracy"], abs=1e-3)
    for point, other in zip(one["curve"], two["curve"], strict=True):
        assert other["loss"] == pytest.approx(point["loss"], rel=1e-4)
    assert (tmp_path / "two" / "pretraining.json").exists()


def test_a_run_goes_on_with_another_number_of_processes(tmp_path, monkeypatch):
    """One process makes two of four steps, two processes the rest: the losses are those of one process."""
    from hf_synpre.training import pretraining

    pretrain_in_parts(tmp_path / "one", 1)
    monkeypatch.setattr(pretraining, "run_result", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        pretrain_in_parts(tmp_path / "two", 1)
    shutil.rmtree(tmp_path / ".two.work" / "checkpoint-4")
    monkeypatch.undo()
    debug_launcher(pretrain_in_parts, args=(tmp_path / "two", 2), num_processes=2)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert two["curve"][0] == one["curve"][0], "the first two steps are the checkpoint's"
    assert {k: two[k] for k in ("tokens", "positions", "flops")} == {
        k: one[k] for k in ("tokens", "positions", "flops")
    }
    assert two["curve"][1]["loss"] == pytest.approx(one["curve"][1]["loss"], rel=1e-4)
    assert two["steps"] == one["steps"] == 4


@pytest.mark.parametrize("model_type", ["qwen2", "albert", "distilbert", "bart"])
def test_other_architectures_train_and_are_saved(model_type, tmp_path):
    """qwen2 has a field a layer, albert no is_decoder, distilbert names of its own, bart a table of positions."""
    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    own = {
        "qwen2": small | {"num_key_value_heads": 2},
        "albert": small | {"embedding_size": 16},
        "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2},
        "bart": {
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
        },
    }
    spec, _ = run_of("t5 packed", batching="bucketed")
    facts = pretrain(spec, ModelSpec(model_type, overrides=own[model_type]), tmp_path / "run")
    assert facts["flops"] > 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_tokenizer_without_end_of_sequence_reads_text(tmp_path):
    """BERT's has a separator instead."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {
        w: i
        for i, w in enumerate(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
        )
    }
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    named = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "cls_token": "[CLS]",
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    spec, model = run_of("bert packed", task=None, corpus="stdlib", batching="bucketed", window=16)
    pretrain(spec, model, tmp_path / "run", tokenizer=tokenizer)
    source = open_rows(spec, "mlm", as_vocabulary(tokenizer), rows=50, batch_size=1)
    ids = np.concatenate([source.train[i]["input_ids"] for i in range(50)])
    assert (ids == 4).mean() > 0.08, "hidden ids are [MASK]"


def test_a_diverged_pretraining_says_so(tmp_path):
    spec, model = run_of("t5 packed")
    spec.training["learning_rate"] = 1e30
    with pytest.raises(FloatingPointError, match="give a smaller learning_rate"):
        pretrain(spec, model, tmp_path / "run")


def test_a_config_file_is_an_architecture(tmp_path):
    MODEL.config(as_vocabulary(48)).save_pretrained(tmp_path)
    config = ModelSpec(
        config_name=str(tmp_path / "config.json"), overrides={"num_layers": 3}
    ).config(as_vocabulary(99))
    assert (config.d_model, config.num_layers, config.vocab_size) == (TINY["d_model"], 3, 99)


@pytest.mark.parametrize(("batching", "rows"), [("packed", 16), ("bucketed", 90)])
def test_batch_size_counts_examples(batching, rows):
    """Four mean examples a packed row, in multiples of eight rows."""
    spec, _ = run_of("t5 packed", batching=batching, batch_size=90, row_length=None)
    assert rows_per_step(spec, "seq2seq", as_vocabulary(48)) == rows


def test_rsqrt_is_the_schedule_of_t5x(tmp_path, tiny_config):
    """Spec, section 3: 0.01 for 10,000 steps, then one over the root of the step."""
    args = training_arguments(tmp_path, {"learning_rate": 1.0, "use_cpu": True})
    trainer = SynpreTrainer(
        build(AutoModelForSeq2SeqLM, tiny_config, {}, 0), args, schedule="rsqrt"
    )
    trainer.create_optimizer_and_scheduler(80_000)
    rate = trainer.lr_scheduler.lr_lambdas[0]
    assert [rate(n) for n in (0, 9_999, 10_000, 40_000)] == [0.01, 0.01, 0.01, 0.005]
    assert trainer.lr_scheduler.get_last_lr() == [0.01, 0.01]


def test_presets_are_what_the_paper_did_and_give_way():
    given = {"task": "set", "preset": "paper", "evaluations": 4, "training": {"max_steps": 10}}
    spec = build_spec(PretrainingSpec, given, "here")
    assert (spec.batch_size, spec.schedule, spec.initial_weights, spec.validation_examples) == (
        128,
        "rsqrt",
        "t5x",
        2560,
    )
    assert (spec.evaluations, spec.training) == (
        4,
        {"max_steps": 10, "optim": "adafactor", "learning_rate": 1.0},
    )


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


def test_a_half_written_checkpoint_is_not_taken(tmp_path):
    for step, state in ((5, '{"global_step": 5}'), (10, '{"glob')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-15").mkdir()
    assert last_whole_checkpoint(tmp_path).endswith("checkpoint-5")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rat": 1.0}, "Did you mean 'learning_rate'"),
        ({"eval_strategy": "no"}, "set by hf_synpre itself"),
        ({"lr_scheduler_type": "bogus"}, "were refused"),
    ],
)
def test_wrong_training_arguments_are_named(given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        training_arguments(tmp_path, given, eval_strategy="steps")


def test_adafactor_is_the_papers(tmp_path, tiny_config):
    """Spec, section 3: no momentum, clipping at 1, decay 0.8, steps relative to each tensor's size, no weight decay."""
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


def test_the_best_weights_are_the_ones_kept(tiny_config):
    from types import SimpleNamespace

    from hf_synpre.training.callbacks import BestModel

    model = build(AutoModelForSeq2SeqLM, tiny_config, {}, 0)
    best = BestModel(lambda: {"tokens": 1, "flops": 1})
    for step, accuracy in enumerate((0.2, 0.9, 0.5)):
        with torch.no_grad():
            model.shared.weight.fill_(step)
        metrics = {"eval_loss": 1.0, "eval_token_accuracy": accuracy, "eval_score": 0.0}
        best.on_evaluate(None, SimpleNamespace(global_step=step), None, metrics, model=model)
    assert best.weights["shared.weight"].unique().tolist() == [1.0]
    assert [point["step"] for point in best.curve] == [0, 1, 2]


def test_natural_text_never_comes_from_the_test_files(monkeypatch):
    from hf_synpre.data import stdlib
    from hf_synpre.data.tokenizers import train_tokenizer

    contents = {
        split: {text for text in stdlib.texts(split) if len(text) > 500}
        for split in ("train", "validation", "test")
    }
    assert not contents["train"] & contents["test"]
    assert not contents["train"] & contents["validation"]
    asked = []
    monkeypatch.setattr(stdlib, "texts", lambda split: asked.append(split) or ["x = 1\n" * 20_000])
    spec = PretrainingSpec(
        corpus="stdlib", window=32, training={"max_steps": 1}, validation_examples=8
    )
    source = open_rows(
        spec, "seq2seq", as_vocabulary(train_tokenizer(["x = f(1)"], 400)), rows=4, batch_size=4
    )
    assert (len(source.train), len(source.validation)) == (4, 8)
    assert asked == ["train", "validation"]


def test_a_diverged_run_says_so(tmp_path, tiny_dataset):
    from hf_synpre.finetuning import FinetuningSpec, finetune, get_finetuning_task, prepare

    data = prepare(
        get_finetuning_task("mtop", max_target=48),
        tmp_path / "data",
        data_dir=str(tiny_dataset),
        vocab_size=400,
    )
    config = MODEL.config(as_vocabulary(data.tokenizer))
    spec = FinetuningSpec({"max_steps": 6, "learning_rate": 1e30, "use_cpu": True}, 1, 8, 8)
    with pytest.raises(FloatingPointError, match="smaller learning_rate"):
        finetune(
            build(AutoModelForSeq2SeqLM, config, {}, 0),
            data,
            spec,
            seed=0,
            output_dir=tmp_path / "work",
        )


def test_evaluation_rows_are_a_fixed_shuffle(tmp_path, tiny_dataset):
    from hf_synpre.finetuning import get_finetuning_task, prepare

    data = prepare(
        get_finetuning_task("mtop"), tmp_path / "data", data_dir=str(tiny_dataset), vocab_size=400
    )
    chosen, again = (
        [r[0] for r in data.rows("train", 20).references.to_pylist()] for _ in range(2)
    )
    assert chosen == again
    assert set(chosen) != {r[0] for r in data.rows("train").references.to_pylist()[:20]}


def test_the_test_score_is_that_of_greedy_decoding(tmp_path, tiny_dataset):
    """Teacher forcing finds exactly the rows that greedy decoding gets right, in whatever order they are batched."""
    from hf_synpre.finetuning import FinetuningSpec, finetune, get_finetuning_task, prepare

    task = get_finetuning_task("mtop", max_target=48)
    data = prepare(task, tmp_path / "data", data_dir=str(tiny_dataset), vocab_size=400)
    for split in ("validation", "test"):
        (data.folder / f"{split}.parquet").write_bytes((data.folder / "train.parquet").read_bytes())
    config = ModelSpec(overrides=TINY | {"d_model": 64, "d_ff": 128}).config(
        as_vocabulary(data.tokenizer)
    )
    training = {
        "max_steps": 150,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 16,
        "use_cpu": True,
    }
    spec = FinetuningSpec(
        training | {"learning_rate": 5e-2}, evaluations=3, validation_examples=60, test_examples=60
    )
    outcome = finetune(
        build(AutoModelForSeq2SeqLM, config, {}, 0),
        data,
        spec,
        seed=0,
        output_dir=tmp_path / "work",
    )
    assert outcome["score"] == pytest.approx(outcome["validation_score"])
    assert outcome["score"] > 0.2


def test_windows_that_need_more_sentinels_than_the_tokenizer_has_are_refused():
    from hf_synpre.data.tokenizers import train_tokenizer

    tokenizer = train_tokenizer(["x = f(1)"], 400)
    spec = PretrainingSpec(corpus="stdlib", window=2000, training={"max_steps": 1})
    with pytest.raises(UsageError, match="A window of 2000 hides 100 spans"):
        open_rows(spec, "seq2seq", as_vocabulary(tokenizer), rows=1, batch_size=1)
