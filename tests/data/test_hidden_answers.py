"""Sequences with scored positions, for encoders and encoder-decoders: what is hidden comes back.

Run: pytest tests/data/test_hidden_answers.py
"""

import numpy as np
import pytest

from hf_synpre import SyntheticDataset, UsageError
from hf_synpre.data.masking import HiddenAnswers, MaskedAnswers
from hf_synpre.data.packing import RowDataset, SequenceLayout
from hf_synpre.data.rows import IGNORED

SETTINGS = {
    "mqar": {"length": 24, "keys": 3},
    "verbatim": {"min_items": 2, "max_items": 5, "gap": 6},
    "k_dyck": {"length": 24, "types": 4},
    "eca": {"width": 8, "steps": 3},
}
SENTINELS = list(range(200, 180, -1))


@pytest.mark.parametrize("task", SETTINGS)
def test_what_is_hidden_is_in_the_target(task):
    sequences = SyntheticDataset(task, size=50, vocabulary=64, **SETTINGS[task])
    hidden = HiddenAnswers(sequences, sentinels=SENTINELS)
    blocks = hidden.__getitems__(list(range(50)))
    for index, row in enumerate(blocks):
        again = hidden[index]
        assert all(np.array_equal(row[name], again[name]) for name in row)

        # Put the spans of the target in the place of their sentinels.
        spans, span = {}, None
        for token in row["labels"].tolist():
            if token in SENTINELS:
                span = spans.setdefault(token, [])
            else:
                span.append(token)
        restored = []
        for token in row["input_ids"].tolist():
            restored += spans.get(token, [token])
        assert restored == sequences[index]["input_ids"].tolist()
        assert list(spans) == SENTINELS[: len(spans)]

        # Of answers all are hidden, and nothing else.
        labels = sequences[index]["labels"]
        if task != "k_dyck":
            scored = labels[labels != IGNORED].tolist()
            assert [token for tokens in spans.values() for token in tokens] == scored


def test_all_answers_of_an_encoder_are_masked():
    sequences = SyntheticDataset("mqar", size=20, vocabulary=64, **SETTINGS["mqar"])
    rows = RowDataset(sequences, SequenceLayout())
    masked = MaskedAnswers(rows, mask=0)
    compact = MaskedAnswers(rows, mask=0, compact=True)
    for index in range(20):
        sequence, row = sequences[index], masked[index]
        is_scored = sequence["labels"] != IGNORED
        assert np.array_equal(row["labels"], sequence["labels"])
        assert (row["input_ids"][is_scored] == 0).all()
        assert np.array_equal(row["input_ids"][~is_scored], sequence["input_ids"][~is_scored])
        assert compact[index]["masked_positions"].tolist() == np.flatnonzero(is_scored).tolist()
        assert np.array_equal(compact[index]["labels"], sequence["labels"][is_scored])


def test_too_few_sentinels_are_an_error():
    sequences = SyntheticDataset("mqar", size=20, vocabulary=64, **SETTINGS["mqar"])
    hidden = HiddenAnswers(sequences, sentinels=SENTINELS[:2])
    with pytest.raises(UsageError, match="An example hides 3 spans, and the vocabulary has 2 sent"):
        hidden[0]


def test_labels_of_sequences_are_the_next_ids():
    sequences = SyntheticDataset("mqar", size=3, vocabulary=64, **SETTINGS["mqar"])
    row = SequenceLayout().row([sequences[0], sequences[1]])
    first, second = sequences[0]["labels"][1:], sequences[1]["labels"][1:]
    assert row["labels"].tolist() == [*first, IGNORED, *second, IGNORED]
    everywhere = SequenceLayout(loss_on="all").row([sequences[0]])
    assert everywhere["labels"].tolist() == [*sequences[0]["input_ids"][1:], IGNORED]
