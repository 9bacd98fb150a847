"""Masking: span corruption parts the text without loss; shares of masked tokens are the papers'.

Run: pytest tests/data/test_masking.py
"""

import numpy as np
import pytest

from hf_synpre.data.masking import MaskedDataset, SpanCorruptionDataset, noise_counts
from hf_synpre.data.rows import IGNORED
from hf_synpre.data.windows import NextTokenDataset, TextWindows


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


def test_windows_that_fill_512_and_256_inputs():
    """As with T5: 568 ids give 512 + 114, 284 give 256 + 58, end of sequence included."""
    for raw, source, target in ((568, 512, 114), (284, 256, 58)):
        noise, spans = noise_counts(raw)
        assert (raw - noise + spans + 1, noise + spans + 1) == (source, target)


def test_every_position_is_masked_equally_often():
    tokens = np.arange(30, dtype=np.int32)
    dataset = SpanCorruptionDataset(TextWindows(tokens, size=4000, length=30), sentinel=99)
    hidden = np.zeros(30)
    for i in range(4000):
        labels = dataset[i]["labels"]
        hidden[labels[labels < 30]] += 1
    middle = hidden[2:] / 4000  # the first id is never hidden: T5's mask starts with kept text
    assert hidden[0] == 0
    assert abs(middle.mean() - noise_counts(30)[0] / 30) < 0.02


def test_masks_are_15_percent_80_10_10_and_dynamic():
    """Devlin et al. 2019: of the 15 % chosen 80 % become the mask, 10 % a random id, 10 % stay.

    The end of a sequence is never chosen.
    """
    tokens = np.tile(np.arange(2, 52, dtype=np.int32), 400)
    tokens[::50] = 1
    rows = MaskedDataset(
        NextTokenDataset(TextWindows(tokens, size=400, length=500)),
        mask=99,
        regular_tokens=(2, 50),
        special_tokens=(1, 0),
        split="train",
    )
    first_400 = [rows[i] for i in range(400)]
    ids = np.concatenate([row["input_ids"] for row in first_400])
    labels = np.concatenate([row["labels"] for row in first_400])
    chosen = labels != IGNORED
    assert chosen.mean() == pytest.approx(0.15 * 0.98, abs=0.003)
    assert not (labels[chosen] == 1).any()
    masked, kept = (ids[chosen] == 99).mean(), (ids[chosen] == labels[chosen]).mean()
    assert (masked, kept) == (pytest.approx(0.8, abs=0.01), pytest.approx(0.1 + 0.1 / 50, abs=0.01))
    assert (ids[~chosen] != 99).all()
    assert ((rows[0]["labels"] != IGNORED) != (rows[1]["labels"] != IGNORED)).any()
    assert all((rows[7][name] == first_400[7][name]).all() for name in first_400[7]), (
        "a row is a function of its index"
    )


@pytest.mark.parametrize(("masked", "random"), [(80, 10), (85, 0)])
def test_masked_tokens_are_fifteen_per_cent_and_drawn_each_time(masked, random):
    ids = np.tile(np.arange(10, 60, dtype=np.int32), 4)
    ids[::20] = 2
    rows = [{"input_ids": ids, "segments": np.ones_like(ids)}] * 2000
    options = {
        "mask": 4,
        "regular_tokens": (10, 50),
        "special_tokens": (2,),
        "masked_percent": masked,
        "random_percent": random,
    }
    compact, full = (MaskedDataset(rows, compact=value, **options) for value in (True, False))
    counts, kept, changed = [], 0, 0
    for i in range(2000):
        row = compact[i]
        positions, labels = row["masked_positions"], row["labels"]
        counts.append(len(positions))
        assert np.array_equal(ids[positions], labels)
        assert (labels != 2).all()
        now = row["input_ids"][positions]
        kept += int((now == labels).sum())
        changed += int(((now != labels) & (now != 4)).sum())
        if i < 20:
            assert np.array_equal(np.flatnonzero(full[i]["labels"] != IGNORED), positions)
            assert np.array_equal(full[i]["input_ids"], row["input_ids"])
    assert set(counts) <= {28, 29}
    assert np.mean(counts) == pytest.approx(0.15 * 190, abs=0.05)
    total = sum(counts)
    assert changed / total == pytest.approx(random / 100 * 49 / 50, abs=0.006)
    assert kept / total == pytest.approx(
        (100 - masked - random) / 100 + random / 100 / 50, abs=0.006
    )
    assert not np.array_equal(compact[0]["masked_positions"], compact[1]["masked_positions"])
