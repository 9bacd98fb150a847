"""The training cost: floating-point operations beside a count by hand, sums over processes.

Run: pytest tests/training/test_flops.py
"""

from encoder_examples import ROBERTA
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)

from hf_synpre.initialization import build
from hf_synpre.models.masked_head import compute_masked_logits_only
from hf_synpre.training.flops import FlopCounter, Meter
from hf_synpre.vocabulary import as_vocabulary


def test_flops_match_a_count_by_hand(tiny_config):
    d, inner, ff, vocabulary = 32, 32, 64, 64
    counter = FlopCounter(build(AutoModelForSeq2SeqLM, tiny_config, {}, 0))
    encoder = 4 * d * inner + 2 * d * ff
    decoder, cross = 4 * d * inner + 2 * d * inner + 2 * d * ff + d * vocabulary, 2 * d * inner
    scores = 4 * inner * (7 * 7 + 5 * 5 + 5 * 7)
    assert counter(3, 7, 5) == 3 * 3 * (2 * (encoder + cross) * 7 + 2 * decoder * 5 + scores)


def test_flops_count_the_head_at_masked_positions_alone(encoder_tokenizer):
    model = build(AutoModelForMaskedLM, ROBERTA.config(as_vocabulary(encoder_tokenizer)), {}, 0)
    whole = FlopCounter(model)(1, 32, 0)
    assert compute_masked_logits_only(model)
    counter, width, ids = FlopCounter(model), 32, len(encoder_tokenizer)
    head = 3 * 2 * (width * width + width * ids)
    assert counter(1, 32, 5) - counter(1, 32, 4) == head
    assert whole - counter(1, 32, 5) == (32 - 5) * head


def test_processes_agree_on_the_training_seconds():
    meters = [Meter(), Meter()]
    meters[0].cost |= {"train_s": 1.0, "tokens": 3}
    meters[1].cost |= {"train_s": 2.0, "tokens": 4}
    sent = []
    for meter in meters:
        meter.totals(lambda sums: sent.append(sums) or sums)
    totals = [meter.totals(lambda sums: sent[0] + sent[1]) for meter in meters]
    assert [(total["train_s"], total["tokens"]) for total in totals] == [(1.5, 7)] * 2
