"""Datasets: the same rows whichever way they are asked for; span corruption partitions the text."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_synpre import SyntheticDataset, UsageError
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.masking import MaskedDataset, SpanCorruptionDataset, noise_counts
from hf_synpre.data.packing import LengthBuckets
from hf_synpre.data.rows import IGNORED
from hf_synpre.data.windows import NextTokenDataset, SentenceWindows, TextWindows


def test_length_buckets_permute_within_windows_and_save_padding():
    plain = SyntheticDataset("set", size=300, vocabulary=64, min_length=4, max_length=40)
    buckets = LengthBuckets(plain, batch_size=8, batches=16)

    def content(row):
        return tuple(row["input_ids"])

    order = [content(buckets[i]) for i in range(300)]
    rows = [content(plain[i]) for i in range(300)]
    assert sorted(order[:128]) == sorted(rows[:128])
    assert order[:128] != rows[:128]
    assert order[256:] == rows[256:]
    assert content(LengthBuckets(plain, 8, 16)[200]) == order[200], (
        "a row depends on its index only"
    )

    def padding(sequence):
        batches = [sequence[i : i + 8] for i in range(0, 256, 8)]
        return sum(8 * max(map(len, b)) - sum(map(len, b)) for b in batches)

    assert padding(order) < 0.5 * padding(rows)


def restore(row, sentinels):
    """Put the hidden spans back: an independent reading of T5's format."""
    spans, current = {}, None
    for token in row["labels"]:
        if token in sentinels:
            current = spans.setdefault(int(token), [])
        else:
            current.append(int(token))
    return [t for token in row["input_ids"] for t in spans.pop(int(token), [int(token)])]


def test_span_corruption_partitions_the_text():
    tokens = np.arange(5000, dtype=np.int32)
    dataset = SpanCorruptionDataset(TextWindows(tokens, size=10**9, length=100), sentinel=9999)
    noise, spans = noise_counts(100)
    assert (noise, spans) == (15, 5)
    starts = set()
    for index in (0, 1, 2, 999_999_999):
        row = dataset[index]
        text = restore(row, set(range(9990, 10000)))
        assert text == list(range(text[0], text[0] + 100))
        assert [t for t in row["labels"] if t > 5000] == [9999 - i for i in range(spans)]
        assert (len(row["input_ids"]), len(row["labels"])) == (100 - noise + spans, noise + spans)
        starts.add(text[0])
    assert len(starts) == 4


def test_span_lengths_of_the_spec():
    """Spec, section 2.4: 568 raw ids give 512 + 114, 284 give 256 + 58, end-of-sequence ids included."""
    for raw, source, target in ((568, 512, 114), (284, 256, 58)):
        noise, spans = noise_counts(raw)
        assert (raw - noise + spans + 1, noise + spans + 1) == (source, target)


def test_every_position_is_hidden_equally_often():
    tokens = np.arange(30, dtype=np.int32)
    dataset = SpanCorruptionDataset(TextWindows(tokens, size=4000, length=30), sentinel=99)
    hidden = np.zeros(30)
    for i in range(4000):
        labels = dataset[i]["labels"]
        hidden[labels[labels < 30]] += 1
    middle = hidden[2:] / 4000  # the first id is never hidden: T5's mask starts with kept text
    assert hidden[0] == 0
    assert abs(middle.mean() - noise_counts(30)[0] / 30) < 0.02


def test_a_corpus_shorter_than_a_window_is_refused():
    with pytest.raises(UsageError, match=r"5 ids, fewer than one window of 64"):
        TextWindows(np.arange(5, dtype=np.int32), size=1, length=64)


def test_masks_are_15_percent_80_10_10_and_dynamic():
    """Devlin et al. 2019: of the 15 % that are guessed, 80 % are masked, 10 % random, 10 % kept; end of sequence never."""
    tokens = np.tile(np.arange(2, 52, dtype=np.int32), 400)
    tokens[::50] = 1
    rows = MaskedDataset(
        NextTokenDataset(TextWindows(tokens, size=400, length=500)),
        mask=99,
        regular_tokens=(2, 50),
        special_tokens=(1, 0),
        split="train",
    )
    found = [rows[i] for i in range(400)]
    ids, labels = (np.concatenate([row[name] for row in found]) for name in ("input_ids", "labels"))
    chosen = labels != IGNORED
    assert chosen.mean() == pytest.approx(0.15 * 0.98, abs=0.003)
    assert not (labels[chosen] == 1).any()
    masked, kept = (ids[chosen] == 99).mean(), (ids[chosen] == labels[chosen]).mean()
    assert (masked, kept) == (pytest.approx(0.8, abs=0.01), pytest.approx(0.1 + 0.1 / 50, abs=0.01))
    assert (ids[~chosen] != 99).all()
    assert ((rows[0]["labels"] != IGNORED) != (rows[1]["labels"] != IGNORED)).any()
    assert all((rows[7][name] == found[7][name]).all() for name in found[7]), (
        "a row is a function of its index"
    )


def test_sentences_are_joined_end_to_end():
    sentences = SyntheticDataset("nesting_language", size=2**62, vocabulary=200)
    windows = SentenceWindows(sentences, size=1000, length=568)
    text = np.concatenate([windows[i] for i in range(16)])
    rows = np.concatenate(
        [row["input_ids"] for row in sentences.__getitems__(list(range(windows.examples)))]
    )
    assert (text == rows[: len(text)]).all()
    assert len(rows) < 1.3 * len(text), "little of a block is left out"
    assert (windows[17] == SentenceWindows(sentences, size=1000, length=568)[17]).all()


def test_streams_predict_the_next_id():
    row = NextTokenDataset(TextWindows(np.arange(9, dtype=np.int32), size=1, length=9))[0]
    assert row["input_ids"].tolist() == list(range(9))
    assert row["labels"].tolist() == [*range(1, 9), IGNORED]


@pytest.mark.parametrize("task", ["set", "lime", "identity"])
def test_buckets_waste_little(task):
    batches = LengthBuckets(SyntheticDataset(task, size=64 * 64), batch_size=64)
    rows = [batches[i] for i in range(64 * 64)]
    sizes = np.array([[len(row["input_ids"]), len(row["labels"])] for row in rows]).reshape(
        64, 64, 2
    )
    assert sizes.sum() / (64 * sizes.max(axis=1)).sum() > 0.88


def test_a_folder_of_parquet_is_a_corpus(tmp_path):
    (tmp_path / "data").mkdir()
    pq.write_table(
        pa.table({"id": [1, 2], "text": ["one", "two"]}), tmp_path / "data" / "train-0.parquet"
    )
    corpus = open_corpus(str(tmp_path))
    assert list(corpus.texts("train")) == ["one", "two"]
    with pytest.raises(UsageError, match=r"no data/validation\*\.parquet and no validation\*\.txt"):
        list(corpus.texts("validation"))
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "data" / "test-0.parquet")
    with pytest.raises(UsageError, match="has no column of text"):
        list(corpus.texts("test"))
