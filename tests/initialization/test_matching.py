"""A checkpoint's tensors in a model of another size, vocabulary or naming: fitted or refused.

Run: pytest tests/initialization/test_matching.py
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import BERT, DECODER, SEQ2SEQ, assert_equal, t5, with_distinct_moments
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.initialization import STATISTICS_FILE, build, pool, tensor_generator


def test_old_names_in_checkpoints_are_understood(tmp_path):
    config = AutoConfig.for_model("bert", **BERT)
    model = with_distinct_moments(build(AutoModelForMaskedLM, config, {}, 0))
    model.save_pretrained(tmp_path / "new")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        renamed[name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    (tmp_path / "old").mkdir()
    save_file(renamed, tmp_path / "old" / "model.safetensors")
    config.save_pretrained(tmp_path / "old")
    for scheme in ("per_param_mean_sd", "weights"):
        init = StatisticsInit(AutoModelForMaskedLM, scheme=scheme)
        old, new = init.from_pretrained(tmp_path / "old"), init.from_pretrained(tmp_path / "new")
        assert_equal(old, new)


def test_fresh_embeddings_may_have_another_vocabulary(t5_checkpoint):
    config = t5(vocab_size=99, num_layers=2, num_decoder_layers=2)
    model = SEQ2SEQ(scheme="body_weights").from_config(config, t5_checkpoint)
    assert model.shared.weight.shape == (99, 32)
    message = r"shared.weight has shape \[64, 32\] in the checkpoint and \[99, 32\] in"
    with pytest.raises(UsageError, match=message):
        SEQ2SEQ(scheme="weights").from_config(config, t5_checkpoint)


def test_a_larger_model_takes_layers_by_relative_depth_and_scales_by_fan_in(t5_checkpoint):
    stats = ParameterStatistics.from_pretrained(t5_checkpoint)
    config = t5(num_layers=5, num_decoder_layers=1, d_model=64)
    matrix = "encoder.block.{}.layer.1.DenseReluDense.wi.weight"
    norm = "encoder.block.{}.layer.0.layer_norm.weight"
    source_layers = [0, 0, 0, 1, 1]  # of the checkpoint's two, for each of the model's five

    for resize, factor in (("fan_in", 0.5**0.5), ("depth", 1.0)):
        model = SEQ2SEQ(scheme="per_param_scale", resize=resize).from_config(config, stats)
        drawn = dict(model.named_parameters())
        for layer, source_layer in enumerate(source_layers):
            name = matrix.format(layer)
            sd = stats.parameters[matrix.format(source_layer)].sd * factor
            draws = torch.empty(64, 64).normal_(0, sd, generator=tensor_generator(0, name))
            assert torch.equal(drawn[name], draws)
            mean = stats.parameters[norm.format(source_layer)].mean
            assert torch.equal(drawn[norm.format(layer)], torch.full((64,), mean))

    pooled = SEQ2SEQ(scheme="whole_model_scale").from_config(config, stats)
    mean, _ = pool(m for n, m in stats.parameters.items() if "layer_norm" in n)
    assert torch.equal(pooled.encoder.final_layer_norm.weight, torch.full((64,), mean))


def test_another_size_is_refused_where_asked_for_or_where_weights_are_copied(t5_checkpoint):
    deeper = t5(num_layers=3, num_decoder_layers=2)
    wider = t5(num_layers=2, num_decoder_layers=2, d_ff=128)
    shallower = t5(num_layers=1, num_decoder_layers=2)
    refusals = [
        (deeper, r"lacks? encoder.block.2.* and 7 more of the model's"),
        (wider, r"wi.weight has shape \[64, 32\] in the checkpoint and \[128, 32\] in the model"),
        (shallower, r"has 2 layers in encoder.block, the model 1; give a config"),
    ]
    for init in (SEQ2SEQ(resize="none"), SEQ2SEQ(scheme="body_weights")):
        for config, message in refusals:
            with pytest.raises(UsageError, match=message):
                init.from_config(config, t5_checkpoint)


def test_matrices_without_a_module_are_scaled_by_fan_in_where_both_sides_change_alike():
    def mixtral(width, inner):
        return AutoConfig.for_model(
            "mixtral",
            **DECODER | {"hidden_size": width, "intermediate_size": inner},
            num_local_experts=2,
        )

    small = build(AutoModelForCausalLM, mixtral(16, 32), {}, 0)
    stats = ParameterStatistics.from_model(small, "small")
    factory = StatisticsInit(AutoModelForCausalLM, scheme="per_param_scale")
    large = dict(factory.from_config(mixtral(64, 128), stats).named_parameters())
    for name in ("mlp.experts.down_proj", "mlp.experts.gate_up_proj", "self_attn.q_proj.weight"):
        name = f"model.layers.0.{name}"
        expected = 0.5 * stats.parameters[name].sd
        assert large[name].std().item() == pytest.approx(expected, rel=0.05), name

    message = r"experts.* nothing tells which side it sums over; give resize='depth'"
    with pytest.raises(UsageError, match=message):
        factory.from_config(mixtral(64, 32), stats)


def test_an_error_says_that_transformers_joins_tensors_on_loading():
    config = AutoConfig.for_model(
        "mixtral",
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
        vocab_size=40,
    )
    stats = ParameterStatistics.from_model(build(AutoModelForCausalLM, config, {}, 0), "loaded")
    StatisticsInit(AutoModelForCausalLM).from_config(config, stats)
    apart = {name: m for name, m in stats.parameters.items() if "experts" not in name}
    stored = ParameterStatistics("stored", apart)
    with pytest.raises(UsageError, match=r"lack .* and 1 more .*from_model\(the loaded model\)"):
        StatisticsInit(AutoModelForCausalLM).from_config(config, stored)


def edit_statistics(checkpoint, edit):
    """Replace the parameters in a checkpoint's statistics file by edit(parameters)."""
    ParameterStatistics.from_pretrained(checkpoint)
    stored = json.loads((checkpoint / STATISTICS_FILE).read_text())
    stored["parameters"] = edit(stored["parameters"])
    (checkpoint / STATISTICS_FILE).write_text(json.dumps(stored))


def test_statistics_that_do_not_fit_the_config_are_named(t5_checkpoint):
    def with_other_shapes(entries):
        for entry in entries:
            if entry["name"].endswith("0.SelfAttention.q.weight"):
                entry["shape"] = [8, 128]
        return entries

    def without_norms(entries):
        return [entry for entry in entries if "layer.2.layer_norm" not in entry["name"]]

    edit_statistics(t5_checkpoint, with_other_shapes)
    message = r"q.weight has shape \[8, 128\] in the checkpoint and \[32, 32\] in the model"
    with pytest.raises(UsageError, match=message):
        SEQ2SEQ().from_pretrained(t5_checkpoint)

    edit_statistics(t5_checkpoint, without_norms)
    message = (
        r"The statistics of .*/checkpoint lack decoder.block.0.layer.2.layer_norm.* and 1 more of"
    )
    with pytest.raises(UsageError, match=message):
        SEQ2SEQ().from_pretrained(t5_checkpoint)
