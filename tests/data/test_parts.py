"""Batches cut into parts: the same rows, no part above the limit, less padding.

Run: pytest tests/data/test_parts.py
"""

import numpy as np
import pytest
import torch

from hf_synpre import SyntheticDataset
from hf_synpre.data.collators import RowCollator
from hf_synpre.data.masking import MaskedDataset
from hf_synpre.data.packing import CausalLayout, PackedDataset, RowDataset, Seq2SeqLayout
from hf_synpre.data.parts import TARGETS, computed_positions, cut_batch, fewest_parts
from hf_synpre.data.rows import IGNORED, padded_width

EXAMPLES = SyntheticDataset("set", size=5000, vocabulary=64, min_length=4, max_length=90)
DECODER = RowDataset(EXAMPLES, CausalLayout(1))
MASKED = MaskedDataset(
    DECODER,
    mask=0,
    regular_tokens=(2, 40),
    special_tokens=(0, 1),
    compact=True,
    split="train",
    seed=0,
    masked_percent=80,
    random_percent=10,
)
ROWS = {
    "encoder-decoder": (RowDataset(EXAMPLES, Seq2SeqLayout(1)), True),
    "decoder": (DECODER, True),
    "masked positions": (MASKED, True),
    "packed": (PackedDataset(EXAMPLES, Seq2SeqLayout(1), size=24), False),
}


def batch_of(kind):
    rows, alone = ROWS[kind]
    return RowCollator(pad=0, start=0, alone=alone)([rows[i] for i in range(24)])


def contents(batch):
    """The rows of a batch as a sorted list, without padding."""
    is_real = batch["segments" if "segments" in batch else "attention_mask"] > 0
    has_targets = "decoder_input_ids" in batch or "masked_positions" in batch
    rows = []
    for row in range(len(is_real)):
        count, arrays = int(is_real[row].sum()), []
        for name in sorted(batch):
            if has_targets and name in TARGETS:
                kept = batch[name][row][batch["labels"][row] != IGNORED]
            else:
                kept = batch[name][row][:count]
            arrays.append((name, kept.tolist()))
        rows.append(arrays)
    return sorted(rows)


@pytest.mark.parametrize("kind", ROWS)
def test_parts_hold_the_rows_of_their_batch_and_stay_below_the_limit(kind):
    batch = batch_of(kind)
    limit = computed_positions(batch) // 5
    parts = cut_batch(batch, fewest_parts(batch, limit))
    assert len(parts) > 1
    assert all(computed_positions(part) <= limit for part in parts)
    assert sorted(row for part in parts for row in contents(part)) == contents(batch)
    if kind != "packed":
        assert sum(map(computed_positions, parts)) < 0.9 * computed_positions(batch)


def test_a_batch_within_the_limit_is_one_part_and_no_part_has_less_than_a_row():
    batch = batch_of("decoder")
    assert cut_batch(batch, fewest_parts(batch, computed_positions(batch)))[0] is batch
    assert fewest_parts(batch, 1) == 24


def test_answers_of_rows_go_with_their_rows():
    """Choices between texts, and answers that are as many numbers as a row has positions."""
    lengths = torch.tensor([[8, 3], [2, 2], [5, 8]])
    mask = (torch.arange(8) < lengths[..., None]).long()  # [rows, choices, positions]
    batch = {"input_ids": mask * 7, "attention_mask": mask, "labels": torch.rand(3, 8)}
    short, long = cut_batch(batch, 2)
    assert [part["input_ids"].shape for part in (short, long)] == [(2, 2, 8), (1, 2, 8)]
    assert torch.equal(short["labels"], batch["labels"][[1, 0]])


def test_one_label_a_row_is_none_of_positions():
    """Also where there are as many rows as positions."""
    mask = (torch.arange(8) < torch.tensor([3] * 6 + [8] * 2)[:, None]).long()  # [8, 8]
    batch = {"input_ids": mask * 7, "attention_mask": mask, "labels": torch.arange(8)}
    assert [len(part["labels"]) for part in cut_batch(batch, 2)] == [4, 4]
    assert cut_batch(batch, 2)[0]["input_ids"].shape == (4, 3)


def test_short_rows_are_padded_to_multiples_of_their_own():
    widths = {padded_width(longest) for longest in range(1, 513)}
    assert len(widths) == 15 + 8 + 8 + 57
    longest = np.arange(1, 513)
    added = np.array([padded_width(n) for n in longest]) / longest - 1
    assert added.min() == 0
    assert added.max() < 1 / 8
    assert [padded_width(n) for n in (63, 65)] == [64, 72]
