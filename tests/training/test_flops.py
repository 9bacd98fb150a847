"""The training cost: floating-point operations beside a count by hand, sums over processes.

Run: pytest tests/training/test_flops.py
"""

import pytest
from encoder_examples import ROBERTA
from small_models import BERT, DECODER
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)

from hf_synpre import UsageError
from hf_synpre.initialization import build
from hf_synpre.models.families import AUTO_CLASSES, longest_input, model_family
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


@pytest.mark.parametrize("model_type", ["bert", "mixtral"])
def test_counts_with_weights_are_those_without(monkeypatch, model_type):
    fields = DECODER | {"num_key_value_heads": 2, "num_local_experts": 4}
    config = AutoConfig.for_model(model_type, **fields)
    model = build(AUTO_CLASSES[model_family(config)], config, {}, 0).train()
    without = FlopCounter(model)
    assert without.model.device.type == "meta"
    experts = model.config._experts_implementation

    def fail(self, model):
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")

    monkeypatch.setattr(FlopCounter, "_without_weights", fail)
    with_weights = FlopCounter(model)
    assert with_weights(1, 32, 0) == without(1, 32, 0) > 0
    assert model.training
    assert model.config._experts_implementation == experts


def test_an_architecture_that_pads_its_inputs_is_counted_at_each_length():
    config = AutoConfig.for_model("longformer", **BERT | {"attention_window": 8})
    counter = FlopCounter(build(AUTO_CLASSES["mlm"], config, {}, 0))
    assert not counter.is_polynomial
    # The attention pads to a multiple of its window, the head does not.
    assert counter(1, 16, 0) < counter(1, 17, 0)
    grown = [counter(1, length + 1, 0) - counter(1, length, 0) for length in (17, 18)]
    assert grown[0] == grown[1]


def test_an_architecture_that_does_not_run_on_ids_is_refused_by_name():
    model = build(AUTO_CLASSES["mlm"], AutoConfig.for_model("bert", **BERT), {}, 0)
    model.__class__ = type("Pictures", (type(model),), {"forward": lambda self, pixels: None})
    with pytest.raises(
        UsageError,
        match=r"Pictures cannot be trained here: .* another architecture, or other fields of its",
    ):
        FlopCounter(model)


def test_relative_positions_without_a_table_have_no_longest_input():
    fields = {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32, "vocab_size": 40}
    model = build(AUTO_CLASSES["causal"], AutoConfig.for_model("xlnet", **fields), {}, 0)
    assert model.config.max_position_embeddings == -1
    assert longest_input(model) is None


def test_models_of_one_architecture_share_a_counter():
    config = AutoConfig.for_model("bert", **BERT)
    models = [build(AUTO_CLASSES["mlm"], config, {}, seed) for seed in (0, 1)]
    wider = AutoConfig.for_model("bert", **BERT | {"intermediate_size": 48})
    counters = [FlopCounter.of(model) for model in models]
    assert counters[0] is counters[1]
    assert FlopCounter.of(build(AUTO_CLASSES["mlm"], wider, {}, 0)) is not counters[0]
    assert compute_masked_logits_only(models[1])
    assert FlopCounter.of(models[1]) is not counters[0]
