"""Packed and bucketed rows: nothing is lost or mixed, and a model sees each example alone.

Run: pytest tests/data/test_packing.py
"""

import numpy as np
import pytest
import torch
from small_models import TINY
from transformers import AutoConfig, BloomConfig

from hf_synpre import SyntheticDataset, UsageError
from hf_synpre.data.buckets import LengthBuckets
from hf_synpre.data.collators import RowCollator
from hf_synpre.data.packing import (
    CausalLayout,
    PackedDataset,
    RowDataset,
    Seq2SeqLayout,
)
from hf_synpre.data.rows import IGNORED
from hf_synpre.initialization import build, resolve_class
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.models.packed_forward import accept_packed_rows, restarted_positions
from hf_synpre.training.losses import token_loss

STREAM = {"vocabulary": 64, "min_length": 4, "max_length": 12}
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
}
ARCHITECTURES = {
    "t5": TINY,
    "umt5": TINY,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "llama": SMALL,
    "bert": SMALL,
    "roberta": SMALL | {"max_position_embeddings": 64},
    "electra": SMALL | {"embedding_size": 16},
}


def model_config(name, attention):
    own = {
        "vocab_size": 64,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    dropouts = {"dropout_rate": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    dropouts |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return AutoConfig.for_model(
        name, **dropouts | own | ARCHITECTURES[name], attn_implementation=attention
    )


def family_layout(kind):
    """Return the layout of a model family, with end of sequence 1."""
    if kind == "seq2seq":
        return Seq2SeqLayout(1)
    return CausalLayout(1, loss_on="targets" if kind == "causal" else "all")


def loss_and_gradients(model, dataset, count, start):
    """Return the loss of rows 0..count-1 as one batch and every parameter's gradient."""
    model.zero_grad()
    batch = RowCollator(0, start)([dataset[i] for i in range(count)])
    labels = batch.pop("labels")
    loss = token_loss(model(**batch), labels)
    loss.backward()
    return loss.item(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_packed_examples_give_the_loss_and_gradients_of_examples_alone(name, attention):
    config = model_config(name, attention)
    kind = model_family(config)
    model = accept_packed_rows(build(AUTO_CLASSES[kind], config, {}, 0))
    packed = PackedDataset(
        SyntheticDataset("set", size=10**6, **STREAM), family_layout(kind), size=10**4, length=64
    )
    examples = [example for row in packed._pack(0)[:3] for example in row]
    assert len(examples) > 9
    loss, gradients = loss_and_gradients(model, packed, 3, 0)
    expected, alone = loss_and_gradients(
        model, RowDataset(examples, family_layout(kind)), len(examples), 0
    )
    assert loss == pytest.approx(expected, rel=2e-6)
    assert gradients.keys() == alone.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, alone[parameter], rtol=1e-4, atol=2e-6, msg=lambda m, p=parameter: f"{p}: {m}"
        )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["t5", "gpt2", "roberta"])
def test_packed_logits_equal_those_of_the_unchanged_model(name, attention):
    """The reference is the untouched model with its own masks, one example at a time."""
    config = model_config(name, attention)
    kind = model_family(config)
    unchanged = build(AUTO_CLASSES[kind], config, {}, 0).eval()
    ours = accept_packed_rows(build(AUTO_CLASSES[kind], config, {}, 0)).eval()
    examples = SyntheticDataset("set", size=8, **STREAM).__getitems__(list(range(8)))
    row = RowCollator(0, 0)([family_layout(kind).row(examples)])
    labels = row.pop("labels")
    with torch.no_grad():
        together = ours(**row).logits[0]
        sides = row["target_segments" if kind == "seq2seq" else "segments"][0]
        for number, example in enumerate(examples):
            batch = RowCollator(0, 0, alone=True, multiple=1)([family_layout(kind).row([example])])
            assert (batch.pop("labels")[0] == labels[0][sides == number + 1]).all()
            torch.testing.assert_close(
                together[sides == number + 1], unchanged(**batch).logits[0], rtol=0, atol=2e-6
            )


def test_rows_of_a_model_that_cannot_take_them_are_refused():
    config = BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=4)
    with pytest.raises(
        UsageError, match=r'BloomForCausalLM cannot take several examples in a row .* "padded"'
    ):
        accept_packed_rows(resolve_class(AUTO_CLASSES["causal"], config)(config))


def contents(row, second="labels"):
    """Return the (input, target) ids of a packed row's examples, end-of-sequence ids cut off."""
    targets = row["target_segments"]
    return [
        (tuple(row["input_ids"][row["segments"] == n][:-1]), tuple(row[second][targets == n][:-1]))
        for n in range(1, row["segments"].max() + 1)
    ]


@pytest.mark.parametrize("task", ["set", "lime_induct", "longest_word", "nonsense_summary"])
def test_packing_keeps_every_example_of_a_block_but_its_last(task):
    plain = SyntheticDataset(task, size=10**6)
    packed = PackedDataset(plain, Seq2SeqLayout(1), size=10**5)
    rows = [packed[i] for i in range(packed.block_rows, 2 * packed.block_rows)]
    found = [example for row in rows for example in contents(row)]
    limit = packed.layout.max_source - 1, packed.layout.max_target - 1
    wanted = [
        (tuple(r["input_ids"][: limit[0]]), tuple(r["labels"][: limit[1]]))
        for r in packed._examples(1)
    ]
    cut = [i for i, (x, y) in enumerate(wanted) if len(x) == limit[0] or len(y) == limit[1]]
    whole = {w for i, w in enumerate(wanted[: len(found)]) if i not in set(cut)}
    assert len(found) > 0.8 * packed.block_examples
    assert whole <= set(found), "what is left out is the end of the block, nothing in between"
    assert all(
        len(row["input_ids"]) == packed.shape[0] and len(row["labels"]) == packed.shape[1]
        for row in rows
    )


def test_what_is_left_out_does_not_depend_on_length():
    """Mean lengths of what is and is not trained on agree within 2.5 errors, over ten blocks."""
    plain = SyntheticDataset("set", size=10**6)
    packed = PackedDataset(plain, Seq2SeqLayout(1), size=10**5)
    kept, left = [], []
    for block in range(10):
        count = sum(map(len, packed._pack(block)))
        sizes = packed._sizes(packed._examples(block))
        kept.append(sizes[:count])
        left.append(sizes[count:])
    kept, left = np.concatenate(kept), np.concatenate(left)
    assert 0 < len(left) < 0.06 * len(kept)
    error = kept.std(axis=0) / np.sqrt(len(left))
    assert (np.abs(left.mean(axis=0) - kept.mean(axis=0)) < 2.5 * error).all()


@pytest.mark.parametrize(
    ("task", "length", "share"), [("set", 512, 0.95), ("lime", 1024, 0.95), ("identity", 512, 0.95)]
)
def test_rows_are_full_on_both_sides(task, length, share):
    packed = PackedDataset(
        SyntheticDataset(task, size=10**7), Seq2SeqLayout(1), size=10**5, length=length
    )
    rows = [packed[i] for i in range(3 * packed.block_rows)]
    for side in ("segments", "target_segments"):
        assert np.mean([(row[side] > 0).mean() for row in rows]) >= share


def test_a_row_is_a_function_of_its_index():
    first, second = (
        PackedDataset(SyntheticDataset("set", size=10**9), Seq2SeqLayout(1), size=10**5)
        for _ in range(2)
    )
    for index in (70_000, 3, 70_001, 3):
        again = second[index]
        assert all((first[index][name] == again[name]).all() for name in again)
    assert len({tuple(first[i]["input_ids"]) for i in range(50)}) == 50
    with pytest.raises(IndexError):
        first[10**5]


def test_a_dataset_with_too_few_examples_is_refused():
    with pytest.raises(
        UsageError, match=r"1000 packed rows take \d+ examples; the dataset has 100"
    ):
        PackedDataset(SyntheticDataset("set", size=100), Seq2SeqLayout(1), size=1000)


def test_positions_restart_with_every_segment():
    assert restarted_positions(torch.tensor([[1, 1, 1, 2, 2, 0, 0]])).tolist() == [
        [0, 1, 2, 0, 1, 0, 1]
    ]


def test_a_decoders_row_ends_inputs_and_targets_and_predicts_the_next_id():
    example = {"input_ids": np.array([5, 6], np.int32), "labels": np.array([7], np.int32)}
    row = CausalLayout(1).row([example, example])
    assert row["input_ids"].tolist() == [5, 6, 1, 7, 1] * 2
    assert row["labels"].tolist() == [IGNORED, IGNORED, 7, 1, IGNORED] * 2
    assert row["segments"].tolist() == [1] * 5 + [2] * 5
    assert CausalLayout(1, loss_on="all").row([example])["labels"].tolist() == [6, 1, 7, 1, IGNORED]


def test_length_buckets_permute_within_megabatches_and_save_padding():
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


@pytest.mark.parametrize("bounds", [{}, {"vocabulary": 128, "min_length": 4, "max_length": 24}])
def test_less_than_a_tenth_of_a_decoders_batches_is_padding(bounds):
    """Of the paper's Set and of the small one that `synpre pretrain` trains on."""
    layout = CausalLayout(1)
    examples = LengthBuckets(SyntheticDataset("set", size=64 * 64, **bounds), 64, apart=False)
    rows = RowDataset(examples, layout)
    collator = RowCollator(pad=0, multiple=None, alone=True)
    tokens = positions = 0
    for first in range(0, len(rows), 64):
        batch = collator([rows[i] for i in range(first, first + 64)])
        tokens += int(batch["attention_mask"].sum())
        positions += batch["attention_mask"].numel()
    assert 1 - tokens / positions < 0.07


@pytest.mark.parametrize("task", ["set", "lime", "identity"])
def test_buckets_waste_little(task):
    batches = LengthBuckets(SyntheticDataset(task, size=64 * 64), batch_size=64)
    rows = [batches[i] for i in range(64 * 64)]
    sizes = np.array([[len(row["input_ids"]), len(row["labels"])] for row in rows]).reshape(
        64, 64, 2
    )
    assert sizes.sum() / (64 * sizes.max(axis=1)).sum() > 0.88
