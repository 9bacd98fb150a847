"""Optimizers and schedules: ELECTRA's Adam without bias correction, its schedule, layer-wise rates.

Run: pytest tests/training/test_optimizers.py
"""

import pytest
import torch
from encoder_examples import SHAPE, SHAPE_CHANGES, electra_pair
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_synpre.config import build_spec
from hf_synpre.initialization import build
from hf_synpre.models.electra_losses import rtd_loss
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.optimizers import UncorrectedAdamW, electra, layer_groups
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.trainer import SynpreTrainer


def test_adam_without_correction_is_electras():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5))
    expected = weight.detach().clone()
    first_moment, second_moment = torch.zeros(5), torch.zeros(5)
    optimizer = UncorrectedAdamW([weight], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        weight.grad = torch.randn(5)
        first_moment = 0.9 * first_moment + 0.1 * weight.grad
        second_moment = 0.999 * second_moment + 0.001 * weight.grad**2
        update = first_moment / (second_moment.sqrt() + 1e-6)
        expected = expected - 1e-2 * (update + 0.1 * expected)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


def test_warm_up_and_decay_overlap():
    assert electra(5, 10, 100) == pytest.approx(0.5 * 0.95)
    assert electra(10, 10, 100) == pytest.approx(0.9)
    assert electra(100, 10, 100) == 0.0


def test_the_electra_preset_is_googles_recipe(tmp_path, encoder_tokenizer):
    spec = build_spec(PretrainingSpec, {"corpus": "x", "preset": "electra"}, "here")
    assert (spec.objective, spec.window, spec.batch_size, spec.pairs) == ("rtd", 128, 128, True)
    assert spec.training["max_steps"] == 10**6
    assert spec.training["warmup_steps"] == 10**4
    assert spec.training["learning_rate"] == 5e-4

    args = training_arguments(tmp_path, spec.training | {"use_cpu": True})
    trainer = SynpreTrainer(
        electra_pair(encoder_tokenizer),
        args,
        schedule=spec.schedule,
        bias_correction=spec.bias_correction,
        loss=rtd_loss,
    )
    trainer.create_optimizer_and_scheduler(1_000_000)
    assert type(trainer.optimizer) is UncorrectedAdamW
    decayed, not_decayed = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], not_decayed["weight_decay"]) == (0.01, 0.0)
    assert (decayed["betas"], decayed["eps"]) == ((0.9, 0.999), 1e-6)
    assert trainer.lr_scheduler.lr_lambdas[0](10_000) == pytest.approx(0.99)

    tenth = build_spec(PretrainingSpec, {"corpus": "x", "preset": "roberta_tenth"}, "here").training
    assert (tenth["max_steps"], tenth["warmup_steps"]) == (10_000, 600)


@pytest.mark.parametrize(
    ("model_type", "layers"), [("electra", 2), ("roberta", 2), ("distilbert", 2), ("gpt2", 2)]
)
def test_rates_fall_from_layer_to_layer(model_type, layers):
    shape = SHAPE | SHAPE_CHANGES.get(model_type, {})
    if model_type == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 320}
    config = AutoConfig.for_model(model_type, num_labels=3, **shape)
    model = build(AutoModelForSequenceClassification, config, {}, 0)

    groups = layer_groups(model, [], lr=1.0, weight_decay=0.0, layer_decay=0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert sorted(set(rates.values())) == [
        0.5 ** (layers + 1 - depth) for depth in range(layers + 2)
    ]

    # The head has the full rate, the embeddings the lowest.
    head = [
        parameter
        for name, parameter in model.named_parameters()
        if "classifier" in name or name.startswith("score")
    ]
    assert head
    assert {rates[id(parameter)] for parameter in head} == {1.0}
    assert rates[id(model.get_input_embeddings().weight)] == 0.5 ** (layers + 1)
