"""Self-pretraining: the corpus and its leak guard, windows, hidden ids, both objectives, their losses, resuming, export."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from datasets import Dataset, DatasetDict
from processes import rank
from selfpre import ELECTRA, ROBERTA, labelled, sentence, spec_of, write_dataset
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ElectraConfig,
)

from hf_synpre import UsageError
from hf_synpre import texts as texts_module
from hf_synpre.cards import model_card
from hf_synpre.cli import main
from hf_synpre.collators import RowCollator
from hf_synpre.config import build_spec
from hf_synpre.corpus import EncoderRows, FullWindows, MaskedDataset, ReplacedRows
from hf_synpre.datasets import IGNORED
from hf_synpre.health import alarms
from hf_synpre.initialization import build
from hf_synpre.locks import held
from hf_synpre.modeling import accept_places
from hf_synpre.optimizers import UncorrectedAdamW, electra, layer_groups
from hf_synpre.pretraining import PRESETS, ModelSpec, PretrainingSpec, fresh_model, pretrain, pretraining_trainer, step_flops
from hf_synpre.rtd import DRAWS, WEIGHT, RTDConfig, RTDModel, RTDOutput, build_rtd, draw, filled, health, rtd_loss, tally
from hf_synpre.sources import open_source
from hf_synpre.starts import check_ids, take_weights
from hf_synpre.texts import TextSpec, dataset_corpus, guess_columns, open_corpus
from hf_synpre.tokenization import train_encoder_tokenizer
from hf_synpre.training import FlopCounter, Meter, SynpreTrainer, token_loss, training_arguments
from hf_synpre.vocabulary import as_vocabulary

# The corpus.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    test = labelled(200, 20)
    leaked = labelled(0, 200)
    leaked["text"][7] = "  ".join(test["text"][3].upper().split())  # a test row in other letters
    return write_dataset(tmp_path_factory.mktemp("sets") / "pets", train=leaked, test=test)


@pytest.fixture(scope="module")
def corpus(folder):
    return open_corpus(str(folder), text=TextSpec())


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return train_encoder_tokenizer(corpus.texts("train"), 320)


def test_a_corpus_is_the_train_split_without_rows_of_others(folder, corpus):
    facts, train = corpus.facts, corpus.texts("train")
    assert facts["columns"] == ["text"]
    assert facts["dropped_rows_of_other_splits"] == 1
    assert facts["checked_against"] == {"test": 20}
    assert facts["rows"] + facts["held_out_rows"] == 199
    assert facts["bytes"] == sum(map(len, train))
    said = {" ".join(text.casefold().split()) for text in train}
    assert not said & {" ".join(text.casefold().split()) for text in labelled(200, 20)["text"]}
    assert not set(corpus.texts("validation")) & set(train)


def test_the_guard_speaks_where_a_row_has_slipped_in(folder, monkeypatch):
    monkeypatch.setattr(texts_module, "hold_out", lambda rows, text: ([*rows, [labelled(200, 20)["text"][3]]], rows[:1]))
    with pytest.raises(UsageError, match="the corpus holds a row of another split: '"):
        open_corpus(str(folder), text=TextSpec())


def test_the_text_of_other_splits_comes_in_only_when_asked_and_is_named(folder, corpus):
    more = open_corpus(str(folder), text=TextSpec(with_test=True)).facts
    assert more["with_test"]
    assert more["rows"] + more["held_out_rows"] == 220
    assert more["checked_against"] == {}
    assert not corpus.facts["with_test"]


def test_columns_are_guessed_by_what_they_say():
    rows = Dataset.from_dict(
        {
            "id": ["a b c", "d e f"],
            "premise": ["it rains today", "we go home"],
            "endings": [["one two", "three four"], ["five six", "seven eight"]],
            "tokens": [["a", "cat"], ["a", "dog"]],
            "label": [0, 1],
            "kind": ["x", "y"],
        }
    )
    assert guess_columns(rows) == ["premise", "endings", "tokens"]
    found = dataset_corpus(DatasetDict(train=rows), TextSpec())
    all_texts = [*found.texts("train"), *found.texts("validation")]
    assert sorted(all_texts) == sorted(
        ["it rains today", "one two", "three four", "a cat", "we go home", "five six", "seven eight", "a dog"]
    )


def test_duplicates_and_orders():
    rows = Dataset.from_dict({"context": ["one two. three four."] * 20, "question": [f"what is {i}?" for i in range(20)]})
    once = dataset_corpus(rows, TextSpec(deduplicate=True))
    assert once.texts("train").count("one two. three four.") == 1
    assert once.facts["duplicates_dropped"] == once.facts["rows"] - 1
    natural, shuffled = (dataset_corpus(rows, TextSpec(order=o)).texts("train") for o in ("natural", "shuffled_rows"))
    assert natural != shuffled
    assert sorted(natural) == sorted(shuffled)
    sentences = dataset_corpus(rows, TextSpec(order="shuffled_sentences")).texts("train")
    assert sentences.count("three four.") == sentences.count("one two.") == once.facts["rows"]
    both = dataset_corpus(rows, TextSpec(order="shuffled_sentences", deduplicate=True))
    assert both.facts["duplicates_dropped"] == once.facts["duplicates_dropped"]
    assert dataset_corpus(rows, TextSpec(limit_mb=1e-4)).facts["bytes"] <= 200


def test_the_held_out_loss_is_of_texts_that_are_not_trained_on():
    contexts = [f"context {i // 5} of five" for i in range(100)]
    rows = Dataset.from_dict({"context": contexts, "question": [f"what is {i}?" for i in range(100)]})
    found = dataset_corpus(rows, TextSpec(held_out=0.1))
    assert len(found.texts("validation")) >= found.facts["held_out_rows"] == 10
    assert not set(found.texts("validation")) & set(found.texts("train"))


@pytest.mark.parametrize(
    ("splits", "text", "message"),
    [
        ({"test": labelled(0, 4)}, TextSpec(), "pets has no train split; it has test"),
        ({"train": {"label": [0, 1]}}, TextSpec(), "No column looks like text among label; name them as columns"),
        ({"train": labelled(0, 4)}, TextSpec(["txt"]), "Column txt is not in the dataset; it has text, label"),
        ({"train": labelled(0, 4)}, TextSpec(["label"]), "Column label holds int64; a corpus is made of text"),
        ({"train": {"text": ["", " "]}}, TextSpec(["text"]), "an empty corpus"),
        ({"train": {"text": ["all of it in one row", ""]}}, TextSpec(), "one row with text, and one is held out for a loss"),
    ],
)
def test_bad_datasets_are_refused_in_one_line(splits, text, message):
    splits = DatasetDict({name: Dataset.from_dict(columns) for name, columns in splits.items()})
    with pytest.raises(UsageError, match=message):
        dataset_corpus(splits, text, "pets")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": 0.0}, "held_out is 0.0; give the share"),
        ({"order": "shuffled"}, "Did you mean 'shuffled_rows'"),
        ({"limit_mb": -1.0}, "limit_mb is -1.0; give a number > 0"),
    ],
)
def test_bad_recipes_of_text_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        TextSpec(**fields)


def test_files_are_datasets_too(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{sentence(i)},{i % 2}\n" for i in range(30)))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": sentence(i)}) + "\n" for i in range(30)))
    sizes = {name: open_corpus(str(tmp_path / name), text=TextSpec()).facts["bytes"] for name in ("rows.csv", "rows.jsonl")}
    assert len(set(sizes.values())) == 1
    (tmp_path / "rows.xml").write_text("<a/>")
    with pytest.raises(UsageError, match=r"rows.xml is no dataset; give a folder in Hub layout or a file: .parquet, .csv"):
        open_corpus(str(tmp_path / "rows.xml"), text=TextSpec())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "cannot be read as a dataset: it is empty"),
        ("latin.txt", "Stra\xdfe\n".encode("latin-1") * 9, "latin.txt cannot be read as a dataset: .*utf-8"),
        ("ragged.csv", b"text,label\na b c,0,1\nd e f,1,0\n", "rows with more fields than the header"),
        ("other.csv", b"text;label\na b c;0\nd e f;1\n", "has the columns text;label: .* save it with commas"),
    ],
)
def test_files_that_are_no_table_of_text_say_why(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        open_corpus(str(tmp_path / name), text=TextSpec())


# Windows and hidden ids.


def test_every_id_comes_once_an_epoch_in_a_new_order():
    tokens = np.arange(1003, dtype=np.int32)
    windows = FullWindows(tokens, size=10_000, length=64)
    assert windows.count == 16
    epochs = [[windows[epoch * 16 + i] for i in range(16)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch).tolist()) == tokens.tolist()
        assert sorted(map(len, epoch)) == [43] + [64] * 15
    starts = [[int(window[0]) for window in epoch] for epoch in epochs]
    assert len({tuple(sorted(found)) for found in starts}) == 3
    again = FullWindows(tokens, size=20, length=64)
    assert all(np.array_equal(again[i], epochs[1][i - 16]) for i in (16, 19))
    whole = FullWindows(tokens, size=16, length=64, whole=True)
    assert {len(whole[i]) for i in range(16)} == {64}


def test_a_corpus_shorter_than_a_window_is_refused(corpus, tokenizer):
    with pytest.raises(UsageError, match=r"The corpus has 10 ids, fewer than one window of 64; give more text"):
        FullWindows(np.zeros(10, np.int32), size=1, length=64)


def test_rows_of_an_encoder_have_its_frame_and_two_segments():
    windows = FullWindows(np.arange(10, 510, dtype=np.int32), size=500, length=29)
    plain, pairs = (EncoderRows(windows, start=1, end=2, pairs=p) for p in (False, True))
    assert plain[0]["input_ids"].tolist() == [1, *windows[0].tolist(), 2]
    whole = 0
    for i in range(400):
        row = pairs[i]
        ids, types = row["input_ids"], row["token_type_ids"]
        assert ids[0] == 1
        assert ids[-1] == 2
        assert [t for t in ids.tolist() if t > 2] == windows[i].tolist()
        whole += not types.any()
        if types.any():
            assert ids[np.flatnonzero(types)[0] - 1] == 2
    assert 15 <= whole <= 70  # one in ten


@pytest.mark.parametrize(("masked", "random"), [(80, 10), (85, 0)])
def test_hidden_ids_are_fifteen_per_cent_anew_each_time(masked, random):
    ids = np.tile(np.arange(10, 60, dtype=np.int32), 4)
    ids[::20] = 2
    rows = [{"input_ids": ids, "segments": np.ones_like(ids)}] * 2000
    options = {"mask": 4, "content": (10, 50), "never": (2,), "masked": masked, "random": random}
    compact, full = (MaskedDataset(rows, places=places, **options) for places in (True, False))
    counts, kept, changed = [], 0, 0
    for i in range(2000):
        row = compact[i]
        places, labels = row["places"], row["labels"]
        counts.append(len(places))
        assert np.array_equal(ids[places], labels)
        assert (labels != 2).all()
        now = row["input_ids"][places]
        kept += int((now == labels).sum())
        changed += int(((now != labels) & (now != 4)).sum())
        if i < 20:
            assert np.array_equal(np.flatnonzero(full[i]["labels"] != IGNORED), places)
            assert np.array_equal(full[i]["input_ids"], row["input_ids"])
    assert set(counts) <= {28, 29}
    assert np.mean(counts) == pytest.approx(0.15 * 190, abs=0.05)
    total = sum(counts)
    assert changed / total == pytest.approx(random / 100 * 49 / 50, abs=0.006)
    assert kept / total == pytest.approx((100 - masked - random) / 100 + random / 100 / 50, abs=0.006)
    assert not np.array_equal(compact[0]["places"], compact[1]["places"])


# Logits at hidden ids alone.


def masked_batch(tokenizer, rows=6, objective="mlm", pairs=False, window=24):
    """Rows of hidden ids, of unequal lengths."""
    ids = np.array(tokenizer(" ".join(sentence(i) for i in range(80)), add_special_tokens=False)["input_ids"], np.int32)
    windows = FullWindows(ids[: 5 * window + 7], size=rows, length=window)
    framed = EncoderRows(windows, start=tokenizer.cls_token_id, end=tokenizer.sep_token_id, pairs=pairs)
    vocabulary = as_vocabulary(tokenizer)
    options = {"mask": tokenizer.mask_token_id, "content": (vocabulary.first, vocabulary.content)}
    data = MaskedDataset(framed, places=True, never=tuple(tokenizer.all_special_ids), **options)
    data = ReplacedRows(data) if objective == "rtd" else data
    return RowCollator(vocabulary.pad, alone=True)([data[i] for i in range(rows)])


SHAPE = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MORE = {
    "modernbert": {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "cls_token_id": 1, "sep_token_id": 1},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "electra": {"embedding_size": 16},
}


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert", "albert", "deberta-v2", "modernbert", "mpnet"])
def test_logits_at_hidden_places_are_those_of_all(kind, tokenizer):
    config = AutoConfig.for_model(kind, **SHAPE | MORE.get(kind, {}))
    model = build(AutoModelForMaskedLM, config, {}, 0).eval()
    batch = masked_batch(tokenizer)
    labels, places = batch.pop("labels"), batch.pop("places")
    whole = model(**batch).logits
    picked = whole.gather(1, places[..., None].expand(-1, -1, whole.shape[-1]))
    wanted = token_loss(type("Outputs", (), {"logits": picked}), labels)
    wanted.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert accept_places(model)
    outputs = model(places=places, **batch)
    assert outputs.logits.shape == picked.shape
    torch.testing.assert_close(outputs.logits, picked)
    token_loss(outputs, labels).backward()
    for name, p in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model(**batch).logits, whole)


# Replaced-token detection.


def test_electra_small_has_the_parameters_that_the_spec_counts():
    model = build_rtd(ElectraConfig(pad_token_id=0), 0)
    assert sum(p.numel() for p in model.parameters()) == 14_196_219
    assert sum(p.numel() for p in model.generator.parameters()) == 4_620_026
    assert sum(p.numel() for p in model.discriminator.parameters()) == 13_549_057
    assert model.generator.electra.embeddings.LayerNorm.weight is model.discriminator.electra.embeddings.LayerNorm.weight
    assert model.generator.generator_lm_head.weight is model.discriminator.get_input_embeddings().weight


@pytest.mark.parametrize(("fraction", "width", "heads"), [(0.25, 64, 1), (0.51, 130, 2), (1.0, 256, 4)])
def test_a_generators_heads_divide_its_width(fraction, width, heads):
    config = RTDConfig.around(ElectraConfig(), fraction).part("generator")
    assert (config.hidden_size, config.num_attention_heads) == (width, heads)


def electra_pair(tokenizer, seed=0):
    return build_rtd(ELECTRA.config(as_vocabulary(tokenizer)), seed)


def straightforward(model, batch):
    """The loss of a pair with all logits, spelled out after the paper."""
    batch, labels = dict(batch), batch["labels"]
    shape = {"attention_mask": batch["attention_mask"], "token_type_ids": batch.get("token_type_ids")}
    plain = copy.deepcopy(model)  # its generator's forward still knows how to look at all places
    plain.load_state_dict(model.state_dict())
    logits = plain.generator(input_ids=batch["input_ids"], **shape).logits
    text, corrupted = batch["input_ids"].clone(), batch["input_ids"].clone()
    mlm, hidden = 0.0, 0
    for row in range(len(labels)):
        for k in range(labels.shape[1]):
            if labels[row, k] == IGNORED:
                continue
            place = batch["places"][row, k]
            mlm = mlm + cross_entropy(logits[row, place], labels[row, k])
            hidden += 1
            text[row, place] = labels[row, k]
            shares = logits[row, place].detach().softmax(-1).cumsum(-1)
            corrupted[row, place] = int((shares < (batch["draws"][row, k] + 0.5) / DRAWS * shares[-1]).sum())
    verdicts = plain.discriminator(input_ids=corrupted, **shape).logits
    real = batch["attention_mask"] > 0
    binary = binary_cross_entropy_with_logits(verdicts[real], (corrupted != text)[real].float())
    return mlm / hidden + 50 * binary, plain


def test_the_loss_and_gradients_are_those_of_a_straightforward_electra(tokenizer):
    model = electra_pair(tokenizer)
    batch = masked_batch(tokenizer, objective="rtd", pairs=True)
    assert len(set(batch["attention_mask"].sum(1).tolist())) > 1
    wanted, plain = straightforward(model, batch)
    wanted.backward()
    labels = batch.pop("labels")
    found = rtd_loss(model(**batch), labels)
    torch.testing.assert_close(found, wanted)
    found.backward()
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_no_gradient_of_the_discriminator_reaches_the_generator(tokenizer):
    model = electra_pair(tokenizer)
    batch = masked_batch(tokenizer, objective="rtd")
    outputs = model(**batch)
    outputs.verdicts.sum().backward()
    own = [p for name, p in model.generator.named_parameters() if "embeddings." not in name]
    assert own
    assert all(p.grad is None for p in own)


def test_draws_have_the_law_of_gumbel_argmax():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -30.0])
    many = logits.expand(1, 40_000, 5)
    uniform = (torch.arange(40_000) * (DRAWS // 40_000) + 7)[None]
    mine = torch.bincount(draw(many, uniform)[0], minlength=5)
    noise = -torch.log(-torch.log(torch.rand(40_000, 5, generator=torch.Generator().manual_seed(0))))
    gumbel = torch.bincount((logits + noise).argmax(-1), minlength=5)
    torch.testing.assert_close(mine / 40_000, logits.softmax(-1), atol=1e-3, rtol=0)
    torch.testing.assert_close(mine / 40_000, gumbel / 40_000, atol=0.01, rtol=0)
    sharp = torch.bincount(draw(many, uniform, temperature=0.1)[0], minlength=5)
    assert sharp[0] > 39_900


def test_a_right_guess_counts_as_original(tokenizer):
    model = electra_pair(tokenizer).eval()
    batch = masked_batch(tokenizer, objective="rtd")
    with torch.no_grad():
        model.generator.generator_lm_head.bias.fill_(-30.0)
        model.generator.generator_lm_head.bias[7] = 30.0  # the generator always says 7
        replaced = model(**batch).replaced
    real = batch["labels"] != IGNORED
    assert replaced[batch["attention_mask"] == 0].eq(IGNORED).all()
    assert (replaced == 1).sum() == (real & (batch["labels"] != 7)).sum()


def test_a_place_that_is_first_is_filled_too():
    ids, places = torch.tensor([[4, 5, 6, 4], [4, 8, 9, 4], [1, 2, 3, 4]]), torch.tensor([[0, 3, 0], [0, 0, 0], [0, 0, 0]])
    originals = torch.tensor([[7, 2, IGNORED], [3, IGNORED, IGNORED], [IGNORED] * 3])
    wanted = [[7, 5, 6, 2], [3, 8, 9, 4], [1, 2, 3, 4]]
    assert filled(ids, places, originals, originals != IGNORED).tolist() == wanted


def test_rows_without_a_frame_hide_their_first_id_too(tmp_path):
    given = {"task": "set", "vocabulary": 64, "parameters": {"min_length": 4, "max_length": 8}, "corpus": None, "text": None}
    spec = spec_of("rtd", **given)
    args = training_arguments(tmp_path, {"use_cpu": True, "max_steps": 4, "per_device_train_batch_size": 8})
    trainer = pretraining_trainer(spec, ELECTRA, as_vocabulary(64), args)
    said = []
    for batch in trainer.get_train_dataloader():
        hidden = ((batch["places"] == 0) & (batch["labels"] != IGNORED)).any(1)
        said += trainer.model(**batch).replaced[hidden, 0].tolist()
    assert any(said)


def test_a_generator_without_embeddings_to_share_is_refused(tokenizer):
    with pytest.raises(UsageError, match="RobertaConfig has no embedding_size of its own"):
        build_rtd(ROBERTA.config(as_vocabulary(tokenizer)), 0)


def test_health_says_what_both_models_do():
    logits = torch.zeros(1, 2, 4)
    logits[0, 0, 3] = logits[0, 1, 2] = 5.0
    verdicts = torch.tensor([[4.0, -4.0, -4.0, 4.0, -4.0, 0.0]])
    replaced = torch.tensor([[1, 1, 0, 0, 0, IGNORED]])
    sums = tally((logits, verdicts, replaced), torch.tensor([[3, 1]]))
    found = health(type("Prediction", (), {"predictions": sums.numpy()}))
    assert found["token_accuracy"] == 0.5
    assert found["replaced_recall"] == 0.5
    assert found["majority_floor"] == pytest.approx(0.6)
    assert found["discriminator_accuracy"] == pytest.approx(0.6)
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 2 / 3) / 2)
    both = RTDOutput(logits, verdicts, replaced)
    loss = rtd_loss(both, torch.tensor([[3, 1]])).item()
    assert loss == pytest.approx(found["generator_loss"] + WEIGHT * found["discriminator_loss"], rel=1e-5)


def point(balanced, recall, loss=1.0):
    return {"loss": loss, "generator_loss": loss, "balanced_accuracy": balanced, "replaced_recall": recall}


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([point(0.5, 0.0), point(0.8, 0.7), point(0.5, 0.0)], "collapsed: balanced accuracy 0.500 after 0.800"),
        ([point(0.5, 0.0)] * 3, "still calls every token original"),
        ([point(0.7, 0.5, 1.0), point(0.7, 0.5, 2.5)], "risen by more than 1 nat"),
        ([point(0.7, 0.5, float("nan"))], "not finite"),
        ([point(0.5, 0.0), point(0.7, 0.5)], None),
        ([{"loss": 3.0}, {"loss": 2.0}], None),
    ],
)
def test_alarms(curve, message):
    found = alarms(curve)
    assert (message is None) == (not found)
    assert message is None or message in found[0]


# Optimizer and schedule.


def test_adam_without_correction_is_electras():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5))
    w, m, v = weight.detach().clone(), torch.zeros(5), torch.zeros(5)
    optimizer = UncorrectedAdamW([weight], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        weight.grad = torch.randn(5)
        m, v = 0.9 * m + 0.1 * weight.grad, 0.999 * v + 0.001 * weight.grad**2
        w = w - 1e-2 * (m / (v.sqrt() + 1e-6) + 0.1 * w)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), w)


def test_warm_up_and_decay_overlap():
    assert electra(5, 10, 100) == pytest.approx(0.5 * 0.95)
    assert electra(10, 10, 100) == pytest.approx(0.9)
    assert electra(100, 10, 100) == 0.0


def test_the_paper_preset_is_googles_recipe(tmp_path, tokenizer):
    spec = build_spec(PretrainingSpec, {"corpus": "x", "preset": "electra"}, "here")
    assert (spec.objective, spec.window, spec.batch_size, spec.pairs) == ("rtd", 128, 128, True)
    assert (spec.training["max_steps"], spec.training["warmup_steps"], spec.training["learning_rate"]) == (
        10**6,
        10**4,
        5e-4,
    )
    args = training_arguments(tmp_path, spec.training | {"use_cpu": True})
    trainer = SynpreTrainer(
        electra_pair(tokenizer), args, schedule=spec.schedule, bias_correction=spec.bias_correction, loss=rtd_loss
    )
    trainer.create_optimizer_and_scheduler(1_000_000)
    assert type(trainer.optimizer) is UncorrectedAdamW
    decayed, others = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert (decayed["betas"], decayed["eps"]) == ((0.9, 0.999), 1e-6)
    assert trainer.lr_scheduler.lr_lambdas[0](10_000) == pytest.approx(0.99)
    tenth = build_spec(PretrainingSpec, {"corpus": "x", "preset": "roberta_tenth"}, "here").training
    assert (tenth["max_steps"], tenth["warmup_steps"]) == (10_000, 600)


@pytest.mark.parametrize(("kind", "layers"), [("electra", 2), ("roberta", 2), ("distilbert", 2), ("gpt2", 2)])
def test_rates_fall_from_layer_to_layer(kind, layers):
    shape = SHAPE | MORE.get(kind, {}) if kind != "gpt2" else {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 320}
    config = AutoConfig.for_model(kind, num_labels=3, **shape)
    model = build(AutoModelForSequenceClassification, config, {}, 0)
    groups = layer_groups(model, [], lr=1.0, weight_decay=0.0, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert sorted(set(rates.values())) == [0.5 ** (layers + 1 - depth) for depth in range(layers + 2)]
    head = [p for name, p in model.named_parameters() if "classifier" in name or name.startswith("score")]
    assert head
    assert {rates[id(p)] for p in head} == {1.0}
    assert rates[id(model.get_input_embeddings().weight)] == 0.5 ** (layers + 1)


# Runs.

RUNS = {
    "electra rtd": (ELECTRA, "rtd", {"pairs": True, "schedule": "electra", "bias_correction": False}),
    "electra mlm": (ELECTRA, "mlm", {}),
    "roberta mlm": (ROBERTA, "mlm", {}),
    "gpt2 causal": (ModelSpec("gpt2", overrides={"n_embd": 32, "n_layer": 2, "n_head": 2}), "causal", {}),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_objective_learns_and_exports_a_plain_model(name, tmp_path, corpus, tokenizer):
    model, objective, changes = RUNS[name]
    spec = spec_of(objective, training={"max_steps": 30, "learning_rate": 1e-2, "warmup_steps": 5}, **changes)
    facts = pretrain(spec, model, tmp_path / "run", tokenizer=tokenizer, corpus=corpus)
    ignorance = np.log(len(tokenizer)) + (50 * np.log(2) if objective == "rtd" else 0)
    assert facts["curve"][-1]["loss"] < 0.8 * ignorance
    assert facts["recipe"]["corpus"]["bytes"] == corpus.facts["bytes"]
    assert facts["recipe"]["tokenizer"]["origin"].startswith("strict: trained on the corpus alone")
    assert facts["tokens"] <= facts["positions"]
    assert facts["flops"] > 0
    if objective == "rtd":
        assert {"replaced_recall", "majority_floor", "generator_loss"} <= facts["curve"][-1].keys()
    heads = [AutoModelForSequenceClassification]
    if objective != "causal":
        heads += [AutoModelForTokenClassification, AutoModelForQuestionAnswering, AutoModelForMultipleChoice]
    for head in heads:
        loaded, report = head.from_pretrained(tmp_path / "run", output_loading_info=True)
        body = loaded.base_model_prefix
        lacking = [key for key in report["missing_keys"] if key.startswith(f"{body}.") and "pooler" not in key]
        assert not lacking  # masked language modelling trains no pooler: it belongs to the head
    if objective == "rtd":
        _, report = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "generator", output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]


def test_span_corruption_takes_a_corpus_too(tmp_path, corpus):
    from conftest import TINY

    from hf_synpre.downstream import train_tokenizer

    spec, model, tokenizer = (
        spec_of("span_corruption"),
        ModelSpec(overrides=TINY),
        train_tokenizer(corpus.texts("train"), 400),
    )
    facts = pretrain(spec, model, tmp_path / "t5", tokenizer=tokenizer, corpus=corpus)
    assert facts["curve"][-1]["loss"] < facts["curve"][0]["loss"]
    assert facts["flops"] == facts["steps"] * step_flops(spec, fresh_model(spec, model, as_vocabulary(tokenizer)), 8)


def first_step(objective, batch_size, accumulation, folder, corpus, tokenizer):
    """Return loss and gradient norm of the first step of 16 rows of unequal lengths, cut as given."""
    torch.set_num_threads(1)
    size = int(os.environ.get("WORLD_SIZE", 1))
    training = {"max_steps": 1, "use_cpu": True, "gradient_accumulation_steps": accumulation, "logging_steps": 1}
    training |= {"per_device_train_batch_size": batch_size, "ddp_backend": "gloo" if size > 1 else None}
    spec = spec_of(objective, batch_size=None, training=training, pairs=objective == "rtd")
    args = training_arguments(folder, spec.training, train_sampling_strategy="sequential", save_strategy="no")
    short = texts_module.Corpus(lambda split: corpus.texts(split)[:30], {})  # an epoch has few windows, one of them short
    trainer = pretraining_trainer(spec, ELECTRA, as_vocabulary(tokenizer), args, short)
    assert trainer.train_dataset.rows.rows.windows.count < 16 if objective == "rtd" else True
    trainer.train()
    log = trainer.state.log_history[0]
    (folder / f"{rank()}.json").write_text(json.dumps([log["loss"], log["grad_norm"]]))


@pytest.mark.parametrize("objective", ["rtd", "mlm"])
def test_accumulation_and_processes_change_neither_loss_nor_gradient(objective, tmp_path, corpus, tokenizer):
    for name, batch, accumulation in (("whole", 16, 1), ("parts", 4, 4)):
        (tmp_path / name).mkdir()
        first_step(objective, batch, accumulation, tmp_path / name, corpus, tokenizer)
    (tmp_path / "two").mkdir()
    debug_launcher(first_step, args=(objective, 4, 2, tmp_path / "two", corpus, tokenizer), num_processes=2)
    whole, parts, two = (json.loads((tmp_path / name / "0.json").read_text()) for name in ("whole", "parts", "two"))
    assert parts == pytest.approx(whole, rel=1e-4)
    assert two == pytest.approx(whole, rel=1e-4)


def test_a_decoders_loss_counts_every_label(tmp_path, corpus, tokenizer):
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = ModelSpec("llama", overrides={"hidden_size": 32, "intermediate_size": 64} | shape)
    training = {"max_steps": 1, "use_cpu": True, "logging_steps": 1, "per_device_train_batch_size": 8}
    spec = spec_of("causal", batch_size=None, training=training)
    args = training_arguments(tmp_path, spec.training, train_sampling_strategy="sequential", save_strategy="no")
    trainer = pretraining_trainer(spec, model, as_vocabulary(tokenizer), args, corpus)
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        wanted = token_loss(trainer.model(**{k: v for k, v in batch.items() if k != "labels"}), batch["labels"])
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(wanted.item(), rel=1e-5)


KILLED = """
import sys; sys.path[:0] = ["tests"]
import torch; torch.set_num_threads(1)
from pathlib import Path
from selfpre import *
from hf_synpre.pretraining import pretrain
from hf_synpre.texts import open_corpus
from hf_synpre.tokenization import train_encoder_tokenizer
corpus = open_corpus(sys.argv[2], text=TextSpec())
spec = spec_of("rtd", evaluations=6, training={"max_steps": 60})
tokenizer = train_encoder_tokenizer(corpus.texts("train"), 320)
pretrain(spec, ELECTRA_DROPPING, Path(sys.argv[1]), tokenizer=tokenizer, corpus=corpus)
"""


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, folder):
    whole, killed = ([sys.executable, "-c", KILLED, str(tmp_path / name), str(folder)] for name in ("whole", "killed"))
    subprocess.run(whole, check=True)
    process = subprocess.Popen(killed)
    work = tmp_path / ".killed.work"
    while not list(work.glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    subprocess.run(killed, check=True)
    for file in ("model.safetensors", "generator/model.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    curves = [json.loads((tmp_path / name / "pretraining.json").read_text())["curve"] for name in ("whole", "killed")]
    assert curves[0] == curves[1]


def test_the_pair_round_trips_with_its_ties(tmp_path, tokenizer):
    model = electra_pair(tokenizer)
    model.save_pretrained(tmp_path)
    again, report = RTDModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert again.generator.electra.embeddings.LayerNorm.bias is again.discriminator.electra.embeddings.LayerNorm.bias
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_bf16_trains(tmp_path, corpus, tokenizer):
    spec = spec_of("rtd", training={"bf16": True, "max_steps": 4})
    facts = pretrain(spec, ELECTRA, tmp_path / "run", tokenizer=tokenizer, corpus=corpus)
    assert np.isfinite(facts["curve"][-1]["loss"])


def test_a_run_goes_on_from_another(tmp_path, corpus, tokenizer):
    first = pretrain(spec_of("rtd"), ELECTRA, tmp_path / "first", tokenizer=tokenizer, corpus=corpus)
    none = {"max_steps": 1, "learning_rate": 1e-12}
    spec = spec_of("rtd", start="first", training=none)
    second = pretrain(spec, ELECTRA, tmp_path / "second", tokenizer=tokenizer, corpus=corpus, start=tmp_path / "first")
    one, two = (AutoModelForTokenClassification.from_pretrained(tmp_path / name).electra for name in ("first", "second"))
    for (name, p), q in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name, atol=1e-6, rtol=1e-5)
    for name, head in (("", AutoModelForPreTraining), ("generator", AutoModelForMaskedLM)):
        before, after = (head.from_pretrained(tmp_path / run / name).state_dict() for run in ("first", "second"))
        for key in before:
            torch.testing.assert_close(before[key], after[key], msg=key, atol=1e-6, rtol=1e-5)
    assert second["before"] == {"tokens": first["tokens"], "flops": first["flops"]}
    head = build(AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(tokenizer)), {}, 3)
    fresh = head.get_input_embeddings().weight.clone()
    missing = take_weights(head, tmp_path / "first", "fresh")
    assert torch.equal(head.get_input_embeddings().weight, fresh)
    assert torch.equal(head.electra.encoder.layer[1].output.dense.weight, one.encoder.layer[1].output.dense.weight)
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
def test_a_start_that_does_not_fit_is_refused(source, message, tmp_path, tokenizer):
    build(AutoModelForMaskedLM, AutoConfig.for_model("electra", **SHAPE | {"vocab_size": 99}), {}, 0).save_pretrained(
        tmp_path / "other"
    )
    build(AutoModelForMaskedLM, ROBERTA.config(as_vocabulary(tokenizer)), {}, 0).save_pretrained(tmp_path / "roberta")
    model = build(AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(tokenizer)), {}, 0)
    model.save_pretrained(tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    nan = build(AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(tokenizer)), {}, 0)
    nan.electra.encoder.layer[0].output.dense.weight.data[0, 0] = float("nan")
    nan.save_pretrained(tmp_path / "broken")
    with pytest.raises(UsageError, match=message):
        take_weights(model, tmp_path / source)


def test_embeddings_are_not_kept_under_other_ids(tmp_path, corpus, tokenizer):
    pretrain(spec_of("mlm", training={"max_steps": 1}), ELECTRA, tmp_path / "first", tokenizer=tokenizer, corpus=corpus)
    check_ids(tmp_path / "first", tokenizer)
    other = train_encoder_tokenizer(["quite other words for quite other ids"] * 9, len(tokenizer))
    spec = spec_of("mlm", start=str(tmp_path / "first"), training={"max_steps": 1})
    with pytest.raises(UsageError, match=r'for the ids of its own tokenizer, which are others; .* or embeddings "fresh"'):
        pretrain(spec, ELECTRA, tmp_path / "second", tokenizer=other, corpus=corpus)
    fresh = replace(spec, start_embeddings="fresh")
    pretrain(fresh, ELECTRA, tmp_path / "third", tokenizer=other, corpus=corpus, start=tmp_path / "first")


def test_a_broken_checkpoint_of_a_run_is_named(tmp_path, corpus, tokenizer, monkeypatch):
    run = partial(pretrain, spec_of("mlm"), ELECTRA, tmp_path / "run", tokenizer=tokenizer, corpus=corpus)
    with monkeypatch.context() as patch:
        patch.setattr("hf_synpre.pretraining.run_facts", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            run()
    last = max((tmp_path / ".run.work").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    file = last / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match=f"{last.name} cannot be read .*; delete it, and the run goes on"):
        run()
    shutil.rmtree(last)
    assert run()["steps"] == 8


@pytest.mark.parametrize(
    ("limit", "steps"), [({"budget_tokens": 32 * 8 * 3}, 3), ({"budget_flops": None}, 20), ({"budget_seconds": 1e-6}, 1)]
)
def test_budgets_of_every_kind(limit, steps, tmp_path, corpus, tokenizer):
    if "budget_flops" in limit:
        one = pretrain(
            spec_of("mlm", training={"max_steps": 1}), ELECTRA, tmp_path / "one", tokenizer=tokenizer, corpus=corpus
        )
        limit = {"budget_flops": one["flops"] * steps}
    facts = pretrain(spec_of("mlm", **limit), ELECTRA, tmp_path / "run", tokenizer=tokenizer, corpus=corpus)
    assert facts["steps"] == steps
    assert facts["curve"][-1]["step"] == steps


def test_a_budget_that_ends_in_warm_up_is_refused(tmp_path, corpus, tokenizer):
    spec = spec_of("mlm", budget_tokens=32 * 8 * 3, training={"warmup_steps": 10})
    with pytest.raises(UsageError, match=r"The budget pays for 3 steps, warmup_steps is 10; give training\."):
        pretrain(spec, ELECTRA, tmp_path / "run", tokenizer=tokenizer, corpus=corpus)


def test_processes_agree_on_the_seconds_that_are_spent():
    meters = [Meter(), Meter()]
    meters[0].spent |= {"train_s": 1.0, "tokens": 3}
    meters[1].spent |= {"train_s": 2.0, "tokens": 4}
    sent = []
    for meter in meters:
        meter.totals(lambda sums: sent.append(sums) or sums)
    found = [meter.totals(lambda sums: sent[0] + sent[1]) for meter in meters]
    assert [(total["train_s"], total["tokens"]) for total in found] == [(1.5, 7)] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget_tokens": -1}, "budget_tokens is -1; give a number > 0"),
        ({"bias_correction": False, "training": {"optim": "adafactor"}}, "give training.optim adamw_torch"),
        ({"generator_fraction": 0.0}, "generator_fraction is 0.0"),
        ({"batching": "packed"}, "do not reach a discriminator"),
        ({"corpus": None, "task": "set", "budget_tokens": 9}, "rows of set have no fixed length, so budget_tokens"),
    ],
)
def test_bad_recipes_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        spec_of("rtd", **fields)


def test_windows_beyond_the_models_positions_are_refused(tmp_path, corpus, tokenizer):
    with pytest.raises(UsageError, match="window is 80, the model's table of positions has 64"):
        pretrain(spec_of("rtd", window=80), ELECTRA, tmp_path / "run", tokenizer=tokenizer, corpus=corpus)
    assert not Path(tmp_path / "run").exists()


@pytest.mark.parametrize(("order", "said"), [("natural", 1), ("shuffled_rows", 0)])
def test_a_run_says_that_it_reads_but_the_beginning(order, said, caplog, tokenizer):
    corpus = texts_module.Corpus(lambda split: (sentence(i) for i in range(400 if split == "train" else 9)))
    spec = spec_of("mlm", window=4, text=TextSpec(order=order))
    with caplog.at_level("WARNING"):
        open_source(spec, "mlm", as_vocabulary(tokenizer), rows=8, batch=8, corpus=corpus)
    assert sum("reads the first 4000 ids" in record.getMessage() for record in caplog.records) == said


def test_segments_for_a_model_that_has_none_are_refused(tmp_path, corpus, tokenizer):
    alone = ModelSpec("roberta", overrides=ROBERTA.overrides | {"type_vocab_size": 1})
    with pytest.raises(UsageError, match="rows of two segments, of which RobertaConfig knows none; leave pairs out"):
        pretrain(spec_of("mlm", pairs=True), alone, tmp_path / "run", tokenizer=tokenizer, corpus=corpus)


def test_flops_count_the_head_at_hidden_ids_alone(tokenizer):
    model = build(AutoModelForMaskedLM, ROBERTA.config(as_vocabulary(tokenizer)), {}, 0)
    whole = FlopCounter(model)(1, 32, 0)
    assert accept_places(model)
    counter, width, ids = FlopCounter(model), 32, len(tokenizer)
    head = 3 * 2 * (width * width + width * ids)
    assert counter(1, 32, 5) - counter(1, 32, 4) == head
    assert whole - counter(1, 32, 5) == (32 - 5) * head


# The command line.

SMALL = "hidden_size=32,embedding_size=16,num_hidden_layers=2,num_attention_heads=2,intermediate_size=64"


def test_the_verb_trains_on_a_folder_and_does_nothing_twice(tmp_path, folder, capsys):
    words = ["self-pretrain", folder, "--output_dir", tmp_path / "run", "--preset", "electra_smoke", "--vocab_size", 400]
    words += ["--config_overrides", SMALL, "--max_steps", 4, "--warmup_steps", 1, "--batch_size", 8, "--window", 32]
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
        f"{facts['recipe']['corpus']['bytes']:,} bytes, columns text. The tokenizer is strict: trained on the corpus" in card
    )
    assert 'AutoModelForPreTraining.from_pretrained("synpre/pets")' in card
    assert "krishna2023downstream" in card
    assert "knows no language" not in card
    stamp = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == stamp


def test_two_commands_do_not_share_a_folder(tmp_path, corpus, tokenizer):
    with held(tmp_path / ".run.work" / "run"), pytest.raises(UsageError, match="Another command is at work on"):
        pretrain(spec_of("mlm"), ELECTRA, tmp_path / "run", tokenizer=tokenizer, corpus=corpus)


def test_the_verb_goes_on_from_a_checkpoint_as_it_is(tmp_path, folder):
    """Its config and tokenizer are taken, and an ELECTRA replaces tokens unless told otherwise."""
    words = ["self-pretrain", folder, "--max_steps", 2, "--batch_size", 8, "--window", 32, "--validation_examples", 8]
    words += ["--evaluations", 1, "--use_cpu", "true", "--optim", "adamw_torch"]
    more = {"first": ["--config_overrides", SMALL, "--vocab_size", 400], "second": ["--start", tmp_path / "first"]}
    for name, flags in more.items():
        assert main([str(word) for word in (*words, *flags, "--output_dir", tmp_path / name)]) == 0
    first, second = (json.loads((tmp_path / name / "pretraining.json").read_text())["recipe"] for name in more)
    assert first["pretraining"]["objective"] == second["pretraining"]["objective"] == "rtd"
    assert first["tokenizer"] == second["tokenizer"]


@pytest.mark.parametrize(
    ("kind", "shape", "objective"),
    [
        ("t5", "d_model=32,num_layers=2,d_ff=64,num_heads=2,d_kv=16", "span_corruption"),
        ("gpt2", "n_embd=32,n_layer=2,n_head=2", "causal"),
        ("roberta", "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=64", "mlm"),
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
    words += ["--config_overrides", shape, "--batch_size", 2, "--evaluations", 1, "--validation_examples", 2]
    monkeypatch.setitem(PRESETS["roberta_smoke"]["training"], "max_steps", 2)
    assert main([str(word) for word in words]) == 0
    recipe = json.loads((tmp_path / "run" / "pretraining.json").read_text())["recipe"]["pretraining"]
    assert recipe["objective"] == objective
    assert (recipe["window"], recipe["preset"]) == (512, "roberta_smoke")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No dataset was given; write `synpre self-pretrain FOLDER_OR_HUB_ID`"),
        (["nowhere"], "Unknown corpus 'nowhere'. Allowed: stdlib, a folder"),
        (["FOLDER", "--columns", "title"], "Column title is not in the dataset; it has text, label"),
        (["FOLDER", "--columns", "label"], "Column label holds int64; a corpus is made of text"),
        (["FOLDER", "--preset", "elektra"], "Did you mean 'electra"),
        (["FOLDER", "--held_out", "2"], "held_out is 2.0; give the share"),
        (["FOLDER", "--vocab_size", "100"], "vocab_size is 100; a byte-level tokenizer of an encoder needs 300"),
        (["FOLDER", "--window", "4000"], "fewer than one window|the model's table of positions has 512"),
        (["FOLDER", "--limit_mb", "nan"], "limit_mb is nan; give a number > 0"),
        (["FOLDER", "--budget_flops", "inf"], "budget_flops is inf; give a number > 0"),
        (
            ["FOLDER", "--budget_seconds", "5"],
            "a limit of seconds alone, and its schedule no length; give training.max_steps",
        ),
        (["FOLDER", "--objective", "seq2seq"], "Unknown objective of a mlm model 'seq2seq'"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, folder, capsys):
    given = [str(folder) if word == "FOLDER" else word for word in words]
    code = main(["self-pretrain", *given, "--output_dir", str(tmp_path / "run"), "--config_overrides", SMALL])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert error.startswith("synpre: ")
    assert re.search(message, error), error
