"""Windows: a corpus cut end to end or anywhere, sentences joined, rows of decoders and encoders.

Run: pytest tests/data/test_windows.py
"""

import numpy as np
import pytest

from hf_synpre import SyntheticDataset, UsageError
from hf_synpre.data.rows import IGNORED
from hf_synpre.data.windows import (
    EncoderRows,
    FullWindows,
    NextTokenDataset,
    SentenceWindows,
    TextWindows,
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


def test_every_id_comes_once_an_epoch_in_a_new_order():
    tokens = np.arange(1003, dtype=np.int32)
    windows = FullWindows(tokens, size=10_000, length=64)
    assert windows.epoch_rows == 16
    epochs = [[windows[epoch * 16 + i] for i in range(16)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch).tolist()) == tokens.tolist()
        assert sorted(map(len, epoch)) == [43] + [64] * 15
    starts = [[int(window[0]) for window in epoch] for epoch in epochs]
    assert len({tuple(sorted(epoch)) for epoch in starts}) == 3
    again = FullWindows(tokens, size=20, length=64)
    assert all(np.array_equal(again[i], epochs[1][i - 16]) for i in (16, 19))
    wrapped = FullWindows(tokens, size=16, length=64, wrap=True)
    assert {len(wrapped[i]) for i in range(16)} == {64}


def test_a_corpus_shorter_than_a_random_window_is_refused():
    with pytest.raises(UsageError, match=r"5 ids, fewer than one window of 64"):
        TextWindows(np.arange(5, dtype=np.int32), size=1, length=64)


def test_a_corpus_shorter_than_a_window_is_refused():
    with pytest.raises(
        UsageError, match=r"The corpus has 10 ids, fewer than one window of 64; give more text"
    ):
        FullWindows(np.zeros(10, np.int32), size=1, length=64)


def test_rows_of_an_encoder_have_its_special_tokens_and_two_segments():
    windows = FullWindows(np.arange(10, 510, dtype=np.int32), size=500, length=29)
    plain, pairs = (EncoderRows(windows, start=1, end=2, pairs=p) for p in (False, True))
    assert plain[0]["input_ids"].tolist() == [1, *windows[0].tolist(), 2]
    one_segment = 0
    for i in range(400):
        row = pairs[i]
        ids, types = row["input_ids"], row["token_type_ids"]
        assert ids[0] == 1
        assert ids[-1] == 2
        assert [t for t in ids.tolist() if t > 2] == windows[i].tolist()
        one_segment += not types.any()
        if types.any():
            assert ids[np.flatnonzero(types)[0] - 1] == 2
    assert 15 <= one_segment <= 70  # one in ten


def test_labels_are_the_next_ids():
    row = NextTokenDataset(TextWindows(np.arange(9, dtype=np.int32), size=1, length=9))[0]
    assert row["input_ids"].tolist() == list(range(9))
    assert row["labels"].tolist() == [*range(1, 9), IGNORED]
