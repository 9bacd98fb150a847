"""Heads: each learns from a tiny dataset; losses, rows, windows, batches, models that do not fit.

Run: pytest tests/finetuning/test_label_heads.py
"""

import numpy as np
import pytest
import torch
from encoder_examples import ENCODER
from label_examples import MODEL, TASKS, TRAINING, fresh, headed, pairs_of

from hf_synpre import UsageError
from hf_synpre.data.collators import LabelCollator
from hf_synpre.finetuning import FinetuningSpec, find_head, finetune
from hf_synpre.finetuning.finetuning import finetuning_trainer, planned_steps
from hf_synpre.finetuning.label_encoding import Answers, span_ids
from hf_synpre.finetuning.label_rows import SpecialTokensTemplate, cut
from hf_synpre.finetuning.span_answers import best_span
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.flops import FlopCounter
from hf_synpre.training.progress import mean_tokens


@pytest.mark.parametrize("name", TASKS)
def test_every_head_learns(name, prepared, tmp_path):
    data, least = prepared[name], TASKS[name][2]
    slow = {"max_steps": 400, "learning_rate": 2e-3} if name == "labels" else {"max_steps": 160}
    spec = FinetuningSpec(TRAINING | slow, evaluations=4)
    outcome = finetune(fresh(data), data, spec, seed=0, output_dir=tmp_path)
    assert outcome["score"] >= least, outcome["scores"]
    assert outcome["metric"] == next(iter(outcome["scores"]))
    assert outcome["test_examples"] == 32
    assert outcome["spent"]["flops"] > 0
    assert 0 < outcome["spent"]["tokens"] <= outcome["spent"]["positions"]


def first_step(data, batch, accumulation, folder):
    training = TRAINING | {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
    }
    spec = FinetuningSpec(training | {"max_steps": 1, "logging_steps": 1})
    trainer = finetuning_trainer(fresh(data), data, spec, 0, folder)
    trainer.args.train_sampling_strategy = "sequential"
    trainer.train()
    return [trainer.state.log_history[0][name] for name in ("loss", "grad_norm")]


@pytest.mark.parametrize("name", TASKS)
def test_accumulation_changes_neither_loss_nor_gradient(name, prepared, tmp_path):
    whole, parts = (first_step(prepared[name], *cut_in, tmp_path) for cut_in in ((16, 1), (4, 4)))
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("name", ["classes", "labels", "number", "choices", "span", "tags"])
def test_losses_are_the_models_own(name, prepared):
    data = prepared[name]
    model, rows = fresh(data).eval(), data.rows("train")
    batch = LabelCollator(0, name == "tags")([rows[i] for i in range(8)])
    labels = batch.pop("labels")
    model_labels = {"labels": labels}
    if name == "span":
        model_labels = {"start_positions": labels[:, 0], "end_positions": labels[:, 1]}

    outputs = model(**batch)
    model_loss = model(**batch, **model_labels).loss
    torch.testing.assert_close(find_head(data.task.head).loss(outputs, labels), model_loss)


@pytest.mark.parametrize("name", TASKS)
def test_progress_counts_the_tokens_of_every_heads_rows(name, prepared):
    data = prepared[name]
    train, collate = data.rows("train"), LabelCollator(0, name == "tags")
    rows = [train[i] for i in range(8)]
    lengths = [np.size(part["input_ids"]) for row in rows for part in row.get("choices", [row])]
    count = FlopCounter.of(fresh(data)).tokens
    assert mean_tokens(rows, lambda row: int(count(collate([row])))) == sum(lengths) / 8


@pytest.mark.parametrize(
    ("model_type", "shape", "has_types"),
    [
        ("roberta", {"type_vocab_size": 1}, False),
        ("gpt2", {}, False),
        ("electra", {"embedding_size": 16}, True),
    ],
)
def test_a_model_without_token_types_gets_none(model_type, shape, has_types, prepared, tmp_path):
    data = prepared["pairs"]
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2} if model_type == "gpt2" else ENCODER
    model = headed(data, ModelSpec(model_type, overrides=shape | sizes))
    spec = FinetuningSpec(TRAINING | {"max_steps": 1})
    trainer = finetuning_trainer(model, data, spec, 0, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    assert ("token_type_ids" in batch) == has_types
    assert torch.isfinite(trainer.compute_loss(model, batch))


def test_rows_have_the_special_tokens_that_the_tokenizer_gives_them(prepared):
    data = prepared["pairs"]
    tokenizer, row = data.tokenizer, data.rows("train")[3]
    text = pairs_of(3, 1)
    expected = tokenizer(text["sentence1"][0], text["sentence2"][0])
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert row[name].tolist() == expected[name]
    assert row["labels"] == 1
    short = SpecialTokensTemplate.from_tokenizer(tokenizer, 12).row(*data.rows("train").pieces(3))
    assert len(short["input_ids"]) == 12


@pytest.mark.parametrize(
    ("first", "second", "room", "expected"),
    [
        (100, 10, 50, (40, 10)),
        (10, 100, 50, (10, 40)),
        (100, 100, 50, (25, 25)),
        (5, 6, 50, (5, 6)),
        (30, 26, 51, (26, 25)),
    ],
)
def test_the_longer_text_is_cut_first(first, second, room, expected):
    assert tuple(map(len, cut(np.zeros(first), np.zeros(second), room))) == expected


def test_a_span_is_found_in_any_window(prepared):
    data = prepared["span"]
    rows = data.rows("test")
    logits = np.full((2, len(rows), 48), -10.0)  # [first or last, windows, positions]
    for i in range(len(rows)):
        logits[0, i, rows[i]["labels"][0]] = logits[1, i, rows[i]["labels"][1]] = 10.0
    scores, _ = find_head(data.task.head).score(data, rows, logits)
    assert scores == {"f1": 1.0, "exact_match": 1.0}

    # Rows that hold half of a context: the answer of every example is in one of its windows
    question, context = map(len, rows.pieces(0))
    length = 3 + question + context // 2 + 2
    narrow = type(rows)(rows.encoded, SpecialTokensTemplate.from_tokenizer(data.tokenizer, length))
    assert len(narrow) > len(rows)
    covered = {window.example for k, window in enumerate(narrow.windows) if narrow[k]["labels"][1]}
    assert covered == set(range(32))


def test_spans_of_offsets_and_logits_have_known_values():
    assert span_ids([(0, 3), (4, 7), (8, 11)], Answers(["def g"], 4)) == [1, 2]
    assert best_span(np.array([0.0, 5.0, 1.0]), np.array([9.0, 0.0, 2.0])) == (9.0, 0, 0)
    assert best_span(np.array([0.0, 5.0, 1.0]), np.array([1.0, 0.0, 3.0])) == (8.0, 1, 2)


def test_words_beyond_the_length_are_predicted_to_be_outside(prepared):
    data = prepared["tags"]
    whole = data.rows("test")
    rows = type(whole)(whole.encoded, SpecialTokensTemplate.from_tokenizer(data.tokenizer, 6))
    logits = np.zeros((32, 8, 2))
    logits[:, :, data.metadata["labels"].index("B-pet")] = 1.0
    scores, _ = find_head(data.task.head).score(data, rows, logits)
    assert scores["tag_accuracy"] < 0.7
    assert all(len(row) == 7 for row in rows.true_labels)


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        (
            "t5",
            {},
            "classes has labels, which encoders and decoders answer, and t5 is an encoder-decoder; "
            "give a model_type or checkpoint of an encoder",
        ),
        (
            "bamba",
            {},
            "classes has the head classes, and transformers has no AutoModelForSequenceClass.* of "
            "bamba; give another model_type",
        ),
        (
            "electra",
            {"max_position_embeddings": 8},
            r"Rows of classes take up to \d+ positions, the model has position embeddings for 8",
        ),
    ],
)
def test_models_that_do_not_fit_a_task_are_refused(model, overrides, message, prepared):
    with pytest.raises(UsageError, match=message):
        headed(prepared["classes"], ModelSpec(model, overrides=overrides))
    headed(prepared["classes"], MODEL)


def test_the_length_of_training_may_be_given_in_epochs(prepared, tmp_path):
    data = prepared["classes"]
    trainers = []
    for epochs in (1, 2):
        spec = FinetuningSpec(TRAINING | {"num_train_epochs": epochs})
        trainers.append(finetuning_trainer(fresh(data), data, spec, 0, tmp_path))
    assert [planned_steps(trainer) for trainer in trainers] == [12, 24]
    trainers[1].args.max_steps = 7
    assert planned_steps(trainers[1]) == 7
