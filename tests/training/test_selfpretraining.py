"""Self-pretraining as a whole: every objective, exact steps, resuming, going on from a start,
budgets, the verb.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from encoder_examples import ELECTRA, ROBERTA, SHAPE, electra_pair, sentence, spec_of
from processes import kill_after_a_checkpoint, rank
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from hf_synpre import UsageError
from hf_synpre.cli import main
from hf_synpre.data import corpora as texts_module
from hf_synpre.data.corpora import TextSpec
from hf_synpre.data.tokenizers import train_encoder_tokenizer
from hf_synpre.data.windows import encode_corpus
from hf_synpre.files import held
from hf_synpre.hub.cards import model_card
from hf_synpre.initialization import build
from hf_synpre.models.electra import RTDModel
from hf_synpre.models.masked_head import compute_masked_logits_only
from hf_synpre.models.pretrained_weights import check_ids, take_weights
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.flops import FlopCounter, Meter
from hf_synpre.training.pretraining import fresh_model, pretrain, pretraining_trainer, step_flops
from hf_synpre.training.pretraining_data import open_rows
from hf_synpre.training.pretraining_spec import PRESETS
from hf_synpre.training.trainer import token_loss
from hf_synpre.vocabulary import as_vocabulary

# Runs.

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
    facts = pretrain(
        spec, model, tmp_path / "run", tokenizer=encoder_tokenizer, corpus=labelled_corpus
    )
    ignorance = np.log(len(encoder_tokenizer)) + (50 * np.log(2) if objective == "rtd" else 0)
    assert facts["curve"][-1]["loss"] < 0.8 * ignorance
    assert facts["recipe"]["corpus"]["bytes"] == labelled_corpus.metadata["bytes"]
    assert facts["recipe"]["tokenizer"]["origin"].startswith("strict: trained on the corpus alone")
    assert facts["tokens"] <= facts["positions"]
    assert facts["flops"] > 0
    ids = len(
        encode_corpus(
            labelled_corpus.texts("train"), encoder_tokenizer, 10**9, encoder_tokenizer.sep_token_id
        )
    )
    assert facts["epochs"] == pytest.approx(30 * 8 * 32 / ids, rel=0.12)  # up to the frame of a row
    if objective == "rtd":
        assert {"replaced_recall", "majority_floor", "generator_loss"} <= facts["curve"][-1].keys()
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
        assert not lacking  # masked language modelling trains no pooler: it belongs to the head
    if objective == "rtd":
        _, report = AutoModelForMaskedLM.from_pretrained(
            tmp_path / "run" / "generator", output_loading_info=True
        )
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]


def test_span_corruption_takes_a_corpus_too(tmp_path, labelled_corpus):
    from small_models import TINY

    from hf_synpre.data.tokenizers import train_tokenizer

    spec, model, tokenizer = (
        spec_of("span_corruption"),
        ModelSpec(overrides=TINY),
        train_tokenizer(labelled_corpus.texts("train"), 400),
    )
    facts = pretrain(spec, model, tmp_path / "t5", tokenizer=tokenizer, corpus=labelled_corpus)
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]
    assert facts["flops"] == facts["steps"] * step_flops(
        spec, fresh_model(spec, model, as_vocabulary(tokenizer)), 8
    )


def first_step(objective, batch_size, accumulation, folder, corpus, tokenizer):
    """Return loss and gradient norm of the first step of 16 rows of unequal lengths, cut as given."""
    torch.set_num_threads(1)
    size = int(os.environ.get("WORLD_SIZE", 1))
    training = {
        "max_steps": 1,
        "use_cpu": True,
        "gradient_accumulation_steps": accumulation,
        "logging_steps": 1,
    }
    training |= {
        "per_device_train_batch_size": batch_size,
        "ddp_backend": "gloo" if size > 1 else None,
    }
    spec = spec_of(objective, batch_size=None, training=training, pairs=objective == "rtd")
    args = training_arguments(
        folder, spec.training, train_sampling_strategy="sequential", save_strategy="no"
    )
    short = texts_module.Corpus(
        lambda split: corpus.texts(split)[:30], {}
    )  # an epoch has few windows, one of them short
    vocabulary = as_vocabulary(tokenizer)
    trainer = pretraining_trainer(
        spec, fresh_model(spec, ELECTRA, vocabulary), vocabulary, args, short
    )
    assert trainer.train_dataset.rows.rows.windows.epoch_rows < 16 if objective == "rtd" else True
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


KILLED = """
import sys; sys.path[:0] = ["tests"]
import torch; torch.set_num_threads(1)
from pathlib import Path
from encoder_examples import *
from hf_synpre.training.pretraining import pretrain
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.tokenizers import train_encoder_tokenizer
corpus = open_corpus(sys.argv[2], text=TextSpec())
spec = spec_of("rtd", evaluations=6, training={"max_steps": 60})
tokenizer = train_encoder_tokenizer(corpus.texts("train"), 320)
pretrain(spec, ELECTRA_DROPPING, Path(sys.argv[1]), tokenizer=tokenizer, corpus=corpus)
"""


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, labelled_dataset):
    whole, killed = (
        [sys.executable, "-c", KILLED, str(tmp_path / name), str(labelled_dataset)]
        for name in ("whole", "killed")
    )
    subprocess.run(whole, check=True)
    kill_after_a_checkpoint(killed, tmp_path / "killed")
    subprocess.run(killed, check=True)
    for file in ("model.safetensors", "generator/model.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    curves = [
        json.loads((tmp_path / name / "pretraining.json").read_text())["curve"]
        for name in ("whole", "killed")
    ]
    assert curves[0] == curves[1]


def test_the_pair_round_trips_with_its_ties(tmp_path, encoder_tokenizer):
    model = electra_pair(encoder_tokenizer)
    model.save_pretrained(tmp_path)
    again, report = RTDModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
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
        facts = pretrain(
            spec, model, tmp_path / str(bf16), tokenizer=encoder_tokenizer, corpus=labelled_corpus
        )
        losses[bf16] = [point["loss"] for point in facts["curve"]]
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=2e-3)


def test_a_run_goes_on_from_another(tmp_path, labelled_corpus, encoder_tokenizer):
    first = pretrain(
        spec_of("rtd"),
        ELECTRA,
        tmp_path / "first",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
    )
    none = {"max_steps": 1, "learning_rate": 1e-12}
    spec = spec_of("rtd", start="first", training=none)
    second = pretrain(
        spec,
        ELECTRA,
        tmp_path / "second",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
        start=tmp_path / "first",
    )
    one, two = (
        AutoModelForTokenClassification.from_pretrained(tmp_path / name).electra
        for name in ("first", "second")
    )
    for (name, p), q in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name, atol=1e-6, rtol=1e-5)
    for name, head in (("", AutoModelForPreTraining), ("generator", AutoModelForMaskedLM)):
        before, after = (
            head.from_pretrained(tmp_path / run / name).state_dict() for run in ("first", "second")
        )
        for key in before:
            torch.testing.assert_close(before[key], after[key], msg=key, atol=1e-6, rtol=1e-5)
    assert second["before"] == {"tokens": first["tokens"], "flops": first["flops"]}
    head = build(
        AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(encoder_tokenizer)), {}, 3
    )
    fresh = head.get_input_embeddings().weight.clone()
    missing = take_weights(head, tmp_path / "first", "fresh")
    assert torch.equal(head.get_input_embeddings().weight, fresh)
    assert torch.equal(
        head.electra.encoder.layer[1].output.dense.weight, one.encoder.layer[1].output.dense.weight
    )
    assert [name for name in missing if "word_embeddings" not in name] == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("other", "has shape"),
        ("roberta", "is a roberta, the model a electra"),
        ("nothing", "cannot be read"),
        ("cut", "cannot be read"),
        ("broken", "holds numbers that are not finite"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(source, message, tmp_path, encoder_tokenizer):
    build(
        AutoModelForMaskedLM, AutoConfig.for_model("electra", **SHAPE | {"vocab_size": 99}), {}, 0
    ).save_pretrained(tmp_path / "other")
    build(
        AutoModelForMaskedLM, ROBERTA.config(as_vocabulary(encoder_tokenizer)), {}, 0
    ).save_pretrained(tmp_path / "roberta")
    model = build(
        AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(encoder_tokenizer)), {}, 0
    )
    model.save_pretrained(tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    nan = build(
        AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(encoder_tokenizer)), {}, 0
    )
    nan.electra.encoder.layer[0].output.dense.weight.data[0, 0] = float("nan")
    nan.save_pretrained(tmp_path / "broken")
    with pytest.raises(UsageError, match=message):
        take_weights(model, tmp_path / source)


def test_embeddings_are_not_kept_under_other_ids(tmp_path, labelled_corpus, encoder_tokenizer):
    pretrain(
        spec_of("mlm", training={"max_steps": 1}),
        ELECTRA,
        tmp_path / "first",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
    )
    check_ids(tmp_path / "first", encoder_tokenizer)
    other = train_encoder_tokenizer(
        ["quite other words for quite other ids"] * 9, len(encoder_tokenizer)
    )
    spec = spec_of("mlm", start=str(tmp_path / "first"), training={"max_steps": 1})
    with pytest.raises(
        UsageError,
        match=r'for the ids of its own tokenizer, which are others; .* or embeddings "fresh"',
    ):
        pretrain(spec, ELECTRA, tmp_path / "second", tokenizer=other, corpus=labelled_corpus)
    fresh = replace(spec, start_embeddings="fresh")
    pretrain(
        fresh,
        ELECTRA,
        tmp_path / "third",
        tokenizer=other,
        corpus=labelled_corpus,
        start=tmp_path / "first",
    )


def test_a_broken_checkpoint_of_a_run_is_named(
    tmp_path, labelled_corpus, encoder_tokenizer, monkeypatch
):
    run = partial(
        pretrain,
        spec_of("mlm"),
        ELECTRA,
        tmp_path / "run",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
    )
    with monkeypatch.context() as patch:
        patch.setattr("hf_synpre.training.pretraining.run_result", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            run()
    last = max((tmp_path / ".run.work").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    file = last / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        UsageError, match=f"{last.name} cannot be read .*; delete it, and the run goes on"
    ):
        run()
    shutil.rmtree(last)
    assert run()["steps"] == 8


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
    facts = pretrain(
        spec_of("mlm", **limit),
        ELECTRA,
        tmp_path / "run",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
    )
    assert facts["steps"] == steps
    assert facts["curve"][-1]["step"] == steps


def test_a_budget_that_ends_in_warm_up_is_refused(tmp_path, labelled_corpus, encoder_tokenizer):
    spec = spec_of("mlm", budget_tokens=32 * 8 * 3, training={"warmup_steps": 10})
    with pytest.raises(
        UsageError, match=r"The budget pays for 3 steps, warmup_steps is 10; give training\."
    ):
        pretrain(
            spec, ELECTRA, tmp_path / "run", tokenizer=encoder_tokenizer, corpus=labelled_corpus
        )


def test_processes_agree_on_the_seconds_that_are_spent():
    meters = [Meter(), Meter()]
    meters[0].cost |= {"train_s": 1.0, "tokens": 3}
    meters[1].cost |= {"train_s": 2.0, "tokens": 4}
    sent = []
    for meter in meters:
        meter.totals(lambda sums: sent.append(sums) or sums)
    found = [meter.totals(lambda sums: sent[0] + sent[1]) for meter in meters]
    assert [(total["train_s"], total["tokens"]) for total in found] == [(1.5, 7)] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget_tokens": -1}, "budget_tokens is -1; give a number > 0"),
        (
            {"bias_correction": False, "training": {"optim": "adafactor"}},
            "give training.optim adamw_torch",
        ),
        ({"generator_fraction": 0.0}, "generator_fraction is 0.0"),
        ({"batching": "packed"}, "do not reach a discriminator"),
        (
            {"corpus": None, "task": "set", "budget_tokens": 9},
            "rows of set have no fixed length, so budget_tokens",
        ),
        (
            {"corpus": None, "task": "set", "match_tokens_of": "self"},
            "budget_flops and match_tokens_of cannot apply",
        ),
    ],
)
def test_bad_recipes_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        spec_of("rtd", **fields)


def test_windows_beyond_the_models_positions_are_refused(
    tmp_path, labelled_corpus, encoder_tokenizer
):
    with pytest.raises(UsageError, match="window is 80, the model has position embeddings for 64"):
        pretrain(
            spec_of("rtd", window=80),
            ELECTRA,
            tmp_path / "run",
            tokenizer=encoder_tokenizer,
            corpus=labelled_corpus,
        )
    assert not Path(tmp_path / "run").exists()


@pytest.mark.parametrize(("order", "said"), [("natural", 1), ("shuffled_rows", 0)])
def test_a_run_says_that_it_reads_but_the_beginning(order, said, caplog, encoder_tokenizer):
    corpus = texts_module.Corpus(
        lambda split: (sentence(i) for i in range(400 if split == "train" else 9))
    )
    spec = spec_of("mlm", window=4, text=TextSpec(order=order))
    with caplog.at_level("WARNING"):
        open_rows(
            spec, "mlm", as_vocabulary(encoder_tokenizer), rows=8, batch_size=8, corpus=corpus
        )
    assert (
        sum("reads the first 4000 ids" in record.getMessage() for record in caplog.records) == said
    )


def test_segments_for_a_model_that_has_none_are_refused(
    tmp_path, labelled_corpus, encoder_tokenizer
):
    alone = ModelSpec("roberta", overrides=ROBERTA.overrides | {"type_vocab_size": 1})
    with pytest.raises(
        UsageError, match="rows of two segments, of which RobertaConfig knows none; leave pairs out"
    ):
        pretrain(
            spec_of("mlm", pairs=True),
            alone,
            tmp_path / "run",
            tokenizer=encoder_tokenizer,
            corpus=labelled_corpus,
        )


def test_flops_count_the_head_at_hidden_ids_alone(encoder_tokenizer):
    model = build(AutoModelForMaskedLM, ROBERTA.config(as_vocabulary(encoder_tokenizer)), {}, 0)
    whole = FlopCounter(model)(1, 32, 0)
    assert compute_masked_logits_only(model)
    counter, width, ids = FlopCounter(model), 32, len(encoder_tokenizer)
    head = 3 * 2 * (width * width + width * ids)
    assert counter(1, 32, 5) - counter(1, 32, 4) == head
    assert whole - counter(1, 32, 5) == (32 - 5) * head


# The command line.

SMALL = "hidden_size=32,embedding_size=16,num_hidden_layers=2,num_attention_heads=2,intermediate_size=64"


def test_the_verb_trains_on_a_folder_and_does_nothing_twice(tmp_path, labelled_dataset, capsys):
    words = [
        "self-pretrain",
        labelled_dataset,
        "--output_dir",
        tmp_path / "run",
        "--preset",
        "electra_smoke",
        "--vocab_size",
        400,
    ]
    words += [
        "--config_overrides",
        SMALL,
        "--max_steps",
        4,
        "--warmup_steps",
        1,
        "--batch_size",
        8,
        "--window",
        32,
    ]
    words += ["--evaluations", 2, "--validation_examples", 8, "--use_cpu", "true"]
    assert main([str(word) for word in words]) == 0
    shown = capsys.readouterr().out
    assert '"dropped_rows_of_other_splits": 1' in shown
    assert '"bytes": ' in shown
    facts = json.loads((tmp_path / "run" / "pretraining.json").read_text())
    assert facts["steps"] == 4
    assert facts["recipe"]["pretraining"]["bias_correction"] is False
    assert facts["recipe"]["tokenizer"]["origin"].startswith("strict")
    card = model_card(tmp_path / "run", "synpre/pets")
    assert (
        f"{facts['recipe']['corpus']['bytes']:,} bytes, columns text. The tokenizer is strict: trained on the corpus"
        in card
    )
    assert 'AutoModelForPreTraining.from_pretrained("synpre/pets")' in card
    assert f"| epochs of the text | {facts['epochs']:.4g} |" in card
    assert "krishna2023downstream" in card
    assert "knows no language" not in card
    stamp = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == stamp


def test_two_commands_do_not_share_a_folder(tmp_path, labelled_corpus, encoder_tokenizer):
    with (
        held(tmp_path / ".run.work" / "run"),
        pytest.raises(UsageError, match="Another command is at work on"),
    ):
        pretrain(
            spec_of("mlm"),
            ELECTRA,
            tmp_path / "run",
            tokenizer=encoder_tokenizer,
            corpus=labelled_corpus,
        )


def test_the_verb_goes_on_from_a_checkpoint_as_it_is(tmp_path, labelled_dataset):
    """Its config and tokenizer are taken, and an ELECTRA replaces tokens unless told otherwise."""
    words = [
        "self-pretrain",
        labelled_dataset,
        "--max_steps",
        2,
        "--batch_size",
        8,
        "--window",
        32,
        "--validation_examples",
        8,
    ]
    words += ["--evaluations", 1, "--use_cpu", "true", "--optim", "adamw_torch"]
    more = {
        "first": ["--config_overrides", SMALL, "--vocab_size", 400],
        "second": ["--start", tmp_path / "first"],
    }
    for name, flags in more.items():
        assert main([str(word) for word in (*words, *flags, "--output_dir", tmp_path / name)]) == 0
    first, second = (
        json.loads((tmp_path / name / "pretraining.json").read_text())["recipe"] for name in more
    )
    assert first["pretraining"]["objective"] == second["pretraining"]["objective"] == "rtd"
    assert first["tokenizer"] == second["tokenizer"]


@pytest.mark.parametrize(
    ("kind", "shape", "objective"),
    [
        ("t5", "d_model=32,num_layers=2,d_ff=64,num_heads=2,d_kv=16", "span_corruption"),
        ("gpt2", "n_embd=32,n_layer=2,n_head=2", "causal"),
        (
            "roberta",
            "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=64",
            "mlm",
        ),
    ],
)
def test_the_default_preset_fits_every_kind_of_model(kind, shape, objective, tmp_path, monkeypatch):
    (tmp_path / "rows.txt").write_text("\n".join(f"{sentence(i)} {i}" for i in range(400)))
    words = [
        "self-pretrain",
        tmp_path / "rows.txt",
        "--output_dir",
        tmp_path / "run",
        "--model_type",
        kind,
        "--use_cpu",
        "true",
    ]
    words += [
        "--config_overrides",
        shape,
        "--batch_size",
        2,
        "--evaluations",
        1,
        "--validation_examples",
        2,
    ]
    monkeypatch.setitem(PRESETS["roberta_smoke"]["training"], "max_steps", 2)
    assert main([str(word) for word in words]) == 0
    recipe = json.loads((tmp_path / "run" / "pretraining.json").read_text())["recipe"][
        "pretraining"
    ]
    assert recipe["objective"] == objective
    assert (recipe["window"], recipe["preset"]) == (512, "roberta_smoke")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No dataset was given; write `synpre self-pretrain FOLDER_OR_HUB_ID`"),
        (
            ["d/nope.csv"],
            "There is no file d/nope.csv; give one that is there, or a folder, or a Hub id",
        ),
        (["nowhere"], "Unknown corpus 'nowhere'. Allowed: stdlib, a folder"),
        (
            ["FOLDER", "--columns", "title"],
            "Column title is not in the dataset; it has text, label",
        ),
        (["FOLDER", "--columns", "label"], "Column label holds int64; a corpus is made of text"),
        (["FOLDER", "--preset", "elektra"], "Did you mean 'electra"),
        (["FOLDER", "--held_out", "2"], "held_out is 2.0; give the share"),
        (
            ["FOLDER", "--vocab_size", "100"],
            "vocab_size is 100; a byte-level tokenizer of an encoder needs 300",
        ),
        (
            ["FOLDER", "--window", "4000"],
            "fewer than one window|the model has position embeddings for 512",
        ),
        (["FOLDER", "--limit_mb=-1"], "limit_mb is -1.0; give a number > 0"),
        (["FOLDER", "--budget_flops=0"], "budget_flops is 0.0; give a number > 0"),
        (["FOLDER", "--limit_mb", "nan"], "limit_mb is nan; give a finite number"),
        (["FOLDER", "--budget_flops", "inf"], "budget_flops is inf; give a finite number"),
        (
            ["FOLDER", "--budget_seconds", "5"],
            "a limit of seconds alone, and its schedule no length; give training.max_steps",
        ),
        (["FOLDER", "--objective", "seq2seq"], "Unknown objective of a mlm model 'seq2seq'"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, labelled_dataset, capsys):
    given = [str(labelled_dataset) if word == "FOLDER" else word for word in words]
    code = main(
        [
            "self-pretrain",
            *given,
            "--output_dir",
            str(tmp_path / "run"),
            "--config_overrides",
            SMALL,
        ]
    )
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert error.startswith("synpre: ")
    assert re.search(message, error), error
