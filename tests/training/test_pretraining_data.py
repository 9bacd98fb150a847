"""The rows of a pre-training: how many make a step, where text comes from, which are refused.

Run: pytest tests/training/test_pretraining_data.py
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
from encoder_examples import ELECTRA, ROBERTA, sentence, spec_of
from pretraining_runs import run_of

from hf_synpre import UsageError
from hf_synpre.data import corpora, stdlib
from hf_synpre.data.corpora import Corpus
from hf_synpre.data.masking import noise_counts
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training import pretraining_data
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_data import open_rows, rows_per_step
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import as_vocabulary


@pytest.mark.parametrize(("batching", "rows"), [("packed", 16), ("bucketed", 90)])
def test_batch_size_counts_examples(batching, rows):
    """Four mean examples a packed row, in multiples of eight rows."""
    spec, _ = run_of("t5 packed", batching=batching, batch_size=90, row_length=None)
    assert rows_per_step(spec, "seq2seq", as_vocabulary(48)) == rows


def test_a_short_run_has_the_rows_of_a_long_one_and_as_little_padding():
    spec, _ = run_of("gpt2 bucketed, all", parameters={"min_length": 10, "max_length": 200})
    vocabulary = as_vocabulary(48)
    short, long = (
        open_rows(spec, "causal", vocabulary, rows=rows, batch_size=8).train for rows in (40, 600)
    )
    lengths = np.array([len(short[i]["input_ids"]) for i in range(40)]).reshape(5, 8)
    assert len(short) == 40
    assert lengths.tolist() == [
        [len(long[8 * i + j]["input_ids"]) for j in range(8)] for i in range(5)
    ]
    padding = 1 - lengths.sum() / (8 * lengths.max(axis=1)).sum()
    assert padding < 0.05


def test_natural_text_never_comes_from_the_test_files(monkeypatch):
    contents = {
        split: {text for text in stdlib.texts(split) if len(text) > 500}
        for split in ("train", "validation", "test")
    }
    assert not contents["train"] & contents["test"]
    assert not contents["train"] & contents["validation"]
    asked = []
    monkeypatch.setattr(stdlib, "texts", lambda split: asked.append(split) or ["x = 1\n" * 20_000])
    monkeypatch.setattr(corpora, "stdlib_digest", lambda: "of assignments")
    spec = PretrainingSpec(
        corpus="stdlib", window=32, training={"max_steps": 1}, validation_examples=8
    )
    rows = open_rows(
        spec, "seq2seq", as_vocabulary(train_tokenizer(["x = f(1)"], 400)), rows=4, batch_size=4
    )
    assert (len(rows.train), len(rows.validation)) == (4, 8)
    assert set(asked) == {"train", "validation"}


@pytest.mark.parametrize("text", [None, TextSpec(order="shuffled_rows")])
def test_epochs_are_those_of_a_corpus_that_is_read_as_a_whole(text, monkeypatch):
    """Of a longer one nobody knows how many ids it has; those that are read are counted."""
    monkeypatch.setattr(pretraining_data, "FEWEST_WINDOWS", 4)
    tokenizer = train_tokenizer(["x = f(1)"], 400)
    spec = PretrainingSpec(
        corpus="mine", window=16, text=text, training={"max_steps": 1}, validation_examples=2
    )

    def rows_of(documents):
        texts = {"train": ["x = f(1)"] * documents, "validation": ["f(1)"] * 50}
        corpus = Corpus(texts.__getitem__, {"name": "mine"})
        return open_rows(
            spec, "causal", as_vocabulary(tokenizer), rows=8, batch_size=4, corpus=corpus
        )

    short, long = rows_of(10), rows_of(1000)
    ids = len(tokenizer("x = f(1)").input_ids) + 1
    assert short.corpus_ids == 10 * ids
    assert short.epoch_rows == pytest.approx(10 * ids / 16, abs=1)
    assert (long.corpus_ids, long.epoch_rows) == (8 * 16, None)


def test_windows_that_need_more_sentinels_than_the_tokenizer_has_are_refused():
    tokenizer = train_tokenizer(["x = f(1)"], 400)
    spec = PretrainingSpec(corpus="stdlib", window=2000, training={"max_steps": 1})
    with pytest.raises(UsageError, match="A window of 2000 hides 100 spans"):
        open_rows(spec, "seq2seq", as_vocabulary(tokenizer), rows=1, batch_size=1)


def test_a_tokenizer_without_end_of_sequence_reads_text(tmp_path, monkeypatch):
    """BERT's has a separator instead."""
    some_texts = list(itertools.islice(stdlib.texts("train"), 40))
    monkeypatch.setattr(stdlib, "texts", lambda split: some_texts)
    monkeypatch.setattr(corpora, "stdlib_digest", lambda: "of some texts")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    ids_by_token = {token: i for i, token in enumerate(tokens)}
    letters = Tokenizer(models.WordLevel(ids_by_token, unk_token="[UNK]"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    special_tokens = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "cls_token": "[CLS]",
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, **special_tokens)
    spec, model = run_of("bert packed", task=None, corpus="stdlib", window=16)
    pretrain(spec, model, tmp_path / "run", tokenizer=tokenizer)
    rows = open_rows(spec, "mlm", as_vocabulary(tokenizer), rows=50, batch_size=1)
    ids = np.concatenate([rows.train[i]["input_ids"] for i in range(50)])
    assert (ids == 4).mean() > 0.08, "masked tokens are [MASK]"


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
    result = pretrain(spec, model, tmp_path / "run", tokenizer=tokenizer)
    assert result["tokens"] == 12 * 8 * (24 + 2 * noise_counts(24)[1] + 2)
    assert (tmp_path / "run" / "tokenizer.json").exists()


def test_a_vocabulary_beside_a_tokenizer_is_refused(tmp_path, encoder_tokenizer):
    """Whether it is larger or smaller."""
    spec, model = run_of("bert packed")
    ids = len(encoder_tokenizer)
    with pytest.raises(
        UsageError, match=f"vocabulary is 48 and a tokenizer of {ids} ids was given; the ids come"
    ):
        pretrain(spec, model, tmp_path / "run", tokenizer=encoder_tokenizer)


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


@pytest.mark.parametrize(("order", "warnings"), [("natural", 1), ("shuffled_rows", 0)])
def test_a_run_warns_that_it_reads_only_the_beginning(order, warnings, caplog, encoder_tokenizer):
    corpus = Corpus(lambda split: (sentence(i) for i in range(400 if split == "train" else 9)))
    spec = spec_of("mlm", window=4, text=TextSpec(order=order))
    with caplog.at_level("WARNING"):
        open_rows(
            spec, "mlm", as_vocabulary(encoder_tokenizer), rows=8, batch_size=8, corpus=corpus
        )
    messages = [record.getMessage() for record in caplog.records]
    assert sum("reads the first 4000 ids" in message for message in messages) == warnings


def test_segments_for_a_model_that_has_none_are_refused(
    tmp_path, labelled_corpus, encoder_tokenizer
):
    alone = ModelSpec("roberta", overrides=ROBERTA.overrides | {"type_vocab_size": 1})
    with pytest.raises(
        UsageError,
        match="rows of two segments, which RobertaConfig cannot tell apart; leave pairs out",
    ):
        pretrain(
            spec_of("mlm", pairs=True),
            alone,
            tmp_path / "run",
            tokenizer=encoder_tokenizer,
            corpus=labelled_corpus,
        )


def test_a_short_run_says_that_it_reads_the_beginning_of_its_text_only(tmp_path, caplog):
    from hf_synpre.data.tokenizers import train_tokenizer

    text = "\n".join(f"line {i} of a text" for i in range(4000))
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text(text)
    vocabulary = as_vocabulary(train_tokenizer([text], 300))
    for rows, is_said in ((10, True), (10_000, False)):
        spec = PretrainingSpec(corpus=str(tmp_path), window=8, training={"max_steps": 1})
        caplog.clear()
        open_rows(spec, "causal", vocabulary, rows=rows, batch_size=1)
        assert ("windows come from the first" in caplog.text) == is_said


def test_a_missing_validation_split_is_said_before_train_is_tokenised(tmp_path, caplog):
    from hf_synpre.data.tokenizers import train_tokenizer

    (tmp_path / "train.txt").write_text("a text\n" * 500)
    spec = PretrainingSpec(corpus=str(tmp_path), window=8, training={"max_steps": 1})
    vocabulary = as_vocabulary(train_tokenizer(["a text"], 300))
    with pytest.raises(UsageError, match="has no validation split"):
        open_rows(spec, "causal", vocabulary, rows=10, batch_size=1)
    assert "windows come from" not in caplog.text
