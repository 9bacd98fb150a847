"""A corpus of files and its tokenizer are made once, and again where anything of them changes.

Run: pytest tests/data/test_corpus_cache.py
"""

from dataclasses import asdict

import pytest
from encoder_examples import labelled, write_dataset

from hf_synpre import UsageError
from hf_synpre.data import corpus_cache, text_progress
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.corpus_cache import stored_corpus, stored_tokenizer
from hf_synpre.data.text_progress import TextProgress
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.data.token_files import tokenizer_digest


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNPRE_CACHE", str(tmp_path / "cache"))
    return write_dataset(tmp_path / "pets", train=labelled(0, 60), test=labelled(60, 20))


def stored(folder, text=None, calls=None):
    """Return the stored corpus of a folder; `calls` gets an entry whenever it is made."""
    text = text or TextSpec()

    def make():
        if calls is not None:
            calls.append(text)
        return open_corpus(str(folder), text=text), ["a remark"]

    return stored_corpus(folder, {"text": asdict(text)}, make)


def test_a_second_run_reads_no_text_until_it_needs_some(pets):
    calls = []
    corpus, remarks = stored(pets, calls=calls)
    again, same_remarks = stored(pets, calls=calls)
    assert (again.metadata, again.source, same_remarks) == (corpus.metadata, corpus.source, remarks)
    assert again.size("train") == corpus.metadata["bytes"]
    assert len(calls) == 1
    for split in ("train", "validation", "train"):
        assert list(again.texts(split)) == list(corpus.texts(split))
    assert len(calls) == 2


def test_what_decides_a_corpus_makes_another(pets):
    calls = []
    stored(pets, calls=calls)
    stored(pets, TextSpec(held_out=0.3), calls)
    write_dataset(pets / "more", train=labelled(80, 1))  # a file more
    stored(pets, calls=calls)
    assert len(calls) == 3


def test_files_that_change_while_they_are_read_are_refused(pets):
    corpus, _ = stored(pets)
    again, _ = stored(pets)
    train = pets / "data" / "train-00000-of-00001.parquet"
    train.write_bytes((pets / "data" / "test-00000-of-00001.parquet").read_bytes())
    with pytest.raises(UsageError, match="pets changed while it was read; wait until its files"):
        again.texts("train")

    def make():
        train.write_bytes(train.read_bytes() + b" ")
        return corpus, []

    with pytest.raises(UsageError, match="pets changed while it was read"):
        stored_corpus(pets, {}, make)
    assert stored_corpus(pets, {}, lambda: (corpus, ["made"]))[1] == ["made"]


@pytest.mark.parametrize("encoder", [True, False])
def test_a_tokenizer_is_trained_once(pets, encoder, monkeypatch, caplog):
    monkeypatch.setattr(text_progress, "LINE_EVERY_S", 0.0)
    corpus, _ = stored(pets)
    name = "train_encoder_tokenizer" if encoder else "train_tokenizer"
    train = getattr(corpus_cache, name)
    expected = train(corpus.texts("train"), 320)
    first = stored_tokenizer(corpus, 320, encoder=encoder)
    assert "reading pets for a tokenizer: 0 of about 0 MB, " in caplog.text
    other = stored_tokenizer(corpus, 330, encoder=encoder)
    monkeypatch.setattr(corpus_cache, name, lambda *_: pytest.fail("trained again"))
    again = stored_tokenizer(corpus, 320, encoder=encoder)
    assert tokenizer_digest(first) == tokenizer_digest(again) == tokenizer_digest(expected)
    assert tokenizer_digest(other) != tokenizer_digest(first)
    assert again.init_kwargs.get("origin") == expected.init_kwargs.get("origin")


def test_long_reading_says_how_far_it_is(monkeypatch, caplog):
    """A text of a million bytes takes two seconds; those before the first ids do not count."""
    seconds = iter(range(0, 1000, 2))
    monkeypatch.setattr(text_progress.time, "monotonic", lambda: next(seconds))
    progress = TextProgress("tokenising books", 40_000_000)
    for number, _ in enumerate(progress.read(["é" * 500_000] * 14), start=1):
        if number == 8:
            progress.reach(0.2)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "tokenising books: 3 of about 40 MB, 0.5 MB/s, about 74 s left"
    assert lines[-1] == "tokenising books: 14 of about 40 MB, 0.5 MB/s, about 61 s left"
    assert progress.was_shown

    caplog.clear()
    list(TextProgress("reading little").read(["a few words"] * 2))
    assert not caplog.records
