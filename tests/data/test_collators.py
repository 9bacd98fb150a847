"""Collators: padding, the end of a sequence, a decoder's inputs.

Run: pytest tests/data/test_collators.py
"""

import numpy as np

from hf_synpre.data.collators import Seq2SeqCollator
from hf_synpre.data.rows import IGNORED


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
