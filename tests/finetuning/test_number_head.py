"""Numbers of any size: learnt standardised, predicted and saved in their own units.

Run: pytest tests/finetuning/test_number_head.py
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_examples import ENCODER, write_dataset
from headed_models import headed
from label_examples import MODEL, TRAINING
from transformers import AutoModelForSequenceClassification

from hf_synpre import UsageError
from hf_synpre.experiments.arm import ArmSpec
from hf_synpre.experiments.cell import add_adapters
from hf_synpre.finetuning import FinetuningSpec, LabelTask, find_head, finetune, prepare
from hf_synpre.finetuning.number_head import StandardizedLinear, last_layers, train_moments
from hf_synpre.finetuning.saving import save_model
from hf_synpre.finetuning.scores import SCORES
from hf_synpre.models.spec import ModelSpec
from hf_synpre.report.summary import are_fractions

LLAMA = ModelSpec(
    "llama",
    overrides={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
)


def boiling_points(first, count, scale=40.0, shift=300.0):
    """Chains of up to five atoms; the label is 40 kelvin an atom, above 300."""
    lengths = [i % 6 for i in range(first, first + count)]
    return {
        "text": ["c " * n + "o" for n in lengths],
        "label": [shift + scale * n for n in lengths],
    }


def make_data(folder, metric=None, **how):
    """Return the boiling points as ids."""
    task = LabelTask("points", "number", [["text"]], [["label"]], metric=metric)
    parts = {"train": (0, 192), "validation": (192, 32), "test": (224, 32)}
    rows = {split: boiling_points(*part, **how) for split, part in parts.items()}
    write_dataset(folder / "points", **rows)
    return prepare(task, folder / "ids", data_dir=str(folder), vocab_size=400)


def train(data, model, folder, steps=160):
    spec = FinetuningSpec(TRAINING | {"max_steps": steps}, evaluations=4)
    return finetune(model, data, spec, seed=0, output_dir=folder), spec


@pytest.mark.parametrize(("shift", "scale"), [(300.0, 40.0), (-0.002, 1e-4)])
def test_numbers_of_any_size_are_learnt(shift, scale, tmp_path):
    data = make_data(tmp_path, shift=shift, scale=scale)
    outcome, _ = train(data, headed(data, MODEL), tmp_path)
    assert outcome["scores"]["pearson_corr"] > 0.95
    assert outcome["scores"]["rmse"] < 0.4 * 1.7 * scale  # 1.7 scales is the deviation of the rows
    assert outcome["curve"][-1]["loss"] < 0.2  # of the variance of train


def test_a_decoder_whose_last_layer_has_no_bias_learns_them_too(tmp_path):
    data = make_data(tmp_path, shift=0.0)
    outcome, _ = train(data, headed(data, LLAMA), tmp_path)
    assert outcome["scores"]["pearson_corr"] > 0.9


def test_a_mean_that_has_no_place_is_said(tmp_path, caplog):
    data = make_data(tmp_path, shift=3000.0)
    model = headed(data, LLAMA)
    find_head("number").prepare_model(model, data)
    assert "the last layer of llama has no bias for their mean" in caplog.text
    caplog.clear()
    find_head("number").prepare_model(headed(data, MODEL), data)
    assert caplog.text == ""


def test_a_last_layer_that_is_not_found_is_said(tmp_path, caplog):
    data = make_data(tmp_path)
    model = headed(data, LLAMA)
    model.score = torch.nn.Sequential(torch.nn.Linear(32, 1), torch.nn.Identity())
    find_head("number").prepare_model(model, data)
    assert caplog.text == ""  # inside of other modules it is found
    model.score = torch.nn.Identity()
    find_head("number").prepare_model(model, data)
    assert "the last layer of this llama was not found, so its numbers are learnt as" in caplog.text


@pytest.mark.parametrize("spec", [MODEL, LLAMA], ids=["bias", "no bias"])
def test_the_saved_model_is_an_ordinary_one_and_predicts_the_numbers(spec, tmp_path):
    data = make_data(tmp_path)
    model = headed(data, spec)
    head = find_head("number")
    batch = torch.tensor([[5, 6, 7, 8], [8, 7, 6, 5]])

    # The same numbers before and after.
    head.prepare_model(model, data)
    model.eval()
    (layer,) = (m for m in model.modules() if isinstance(m, StandardizedLinear))
    with torch.no_grad():
        before = model(batch).logits
        head.complete_model(model)
        after = model(batch).logits
    assert type(layer) is torch.nn.Linear
    torch.testing.assert_close(after, before)
    assert before.abs().max() > (200 if layer.bias is not None else 0)

    # What fine-tuning leaves is complete.
    outcome, recipe = train(data, model, tmp_path, steps=20)
    arm = asdict(ArmSpec(init="random"))
    result = outcome | {"task": "points", "seed": 0, "config": {"arm": arm}, "data": data.metadata}
    folder = Path(tmp_path / "saved")
    save_model(model, data, recipe, result, folder)
    loaded = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(batch).logits, model.eval()(batch).logits)


def test_a_model_that_is_not_trained_is_tested_as_it_is(tmp_path):
    data = make_data(tmp_path)
    model = headed(data, MODEL)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outcome, _ = train(data, model, tmp_path, steps=0)
    assert outcome["scores"]["rmse"] > 300  # it says about 0
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_bfloat16_keeps_the_digits_of_a_mean(tmp_path):
    data = make_data(tmp_path)
    model = headed(data, MODEL)
    find_head("number").prepare_model(model, data)
    batch = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model.eval()(batch).logits
    assert logits.dtype == torch.float32
    mean, deviation = train_moments(data)
    assert logits.item() == pytest.approx(mean, abs=deviation)


@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_errors_are_chosen_as_the_metric_and_lower_is_better(metric, tmp_path):
    data = make_data(tmp_path, metric)
    head = find_head("number")
    assert not head.higher_is_better(data.task)
    outcome, _ = train(data, headed(data, MODEL), tmp_path, steps=40)
    assert outcome["metric"] == metric
    assert outcome["score"] == outcome["scores"][metric]
    assert outcome["curve"][0].keys() == {"step", "tokens", "flops", "loss", "score"}
    losses = [point["loss"] for point in outcome["curve"]]
    best = outcome["curve"][int(np.argmin(losses))]
    assert outcome["validation_score"] == best["score"]
    assert not are_fractions(metric, [0.2, 0.3])


def test_a_schedule_watches_what_evaluations_of_labels_have(tmp_path):
    data = make_data(tmp_path)
    watching = {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "score"}
    spec = FinetuningSpec(TRAINING | watching | {"max_steps": 2}, evaluations=1)
    finetune(headed(data, MODEL), data, spec, seed=0, output_dir=tmp_path)
    spec.training["metric_for_best_model"] = "token_accuracy"
    with pytest.raises(UsageError, match=r"'token_accuracy'.*Allowed: loss, score"):
        finetune(headed(data, MODEL), data, spec, seed=0, output_dir=tmp_path)


def test_errors_are_those_of_the_definition():
    predictions, labels = np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 5.0])
    assert SCORES["rmse"](predictions, labels)[0]["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert SCORES["mae"](predictions, labels)[0]["mae"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("spec", "layer"),
    [(MODEL, {"classifier.dense", "classifier.out_proj"}), (LLAMA, {"score"})],
    ids=["electra", "llama"],
)
def test_the_last_layer_is_trained_beside_adapters(spec, layer, tmp_path):
    data = make_data(tmp_path, shift=0.0)
    model = headed(data, spec)
    add_adapters(model, ArmSpec(lora={"r": 4}, embeddings="kept"), 0, has_new_layer=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[0] for name in trained if "lora_" not in name} == layer

    outcome, _ = train(data, model, tmp_path, steps=60)
    assert outcome["scores"]["rmse"] < 100  # 130 for somebody who says 0
    assert not any(isinstance(module, StandardizedLinear) for module in model.modules())


def test_one_layer_is_the_last_one(tmp_path):
    data = make_data(tmp_path)
    for spec in (MODEL, LLAMA, ModelSpec("bert", overrides=ENCODER)):
        assert len(last_layers(headed(data, spec))) == 1
