"""Statistics and weights in use: what is stale, fixed, quantised, raw or nothing at all, and where files may be written."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
)

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.cli import main
from hf_synpre.initialization import build, read_parameters, skeleton

LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 40,
}
WEIGHTS = "model.safetensors"


def llama(**fields):
    return AutoConfig.for_model("llama", **LLAMA | {"num_key_value_heads": 2} | fields)


@pytest.fixture
def folder(tmp_path):
    build(AutoModelForCausalLM, llama(), {}, 0).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    save_file(
        {name: change(name, tensor) for name, tensor in tensors.items()},
        folder / WEIGHTS,
        {"format": "pt"},
    )


def q_sd(folder):
    return (
        ParameterStatistics.from_pretrained(folder)
        .parameters["model.layers.0.self_attn.q_proj.weight"]
        .sd
    )


def test_weights_put_over_measured_ones_are_measured_again_whatever_their_date(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    rewrite(tmp_path / "other", lambda _, tensor: 3 * tensor)
    before = q_sd(folder)
    assert (folder / "parameter_statistics.json").exists()
    shutil.copy2(
        tmp_path / "other" / WEIGHTS, folder / WEIGHTS
    )  # with its date, which may be older than the statistics
    assert q_sd(folder) == pytest.approx(3 * before)


def test_the_verb_measures_anew_where_there_are_weights(folder, capsys):
    (folder / "parameter_statistics.json").write_text("{broken")
    assert main(["statistics", str(folder)]) == 0
    assert q_sd(folder) > 0


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_the_verb_replaces_no_other_file(folder, name, capsys):
    before = (folder / name).read_bytes()
    assert main(["statistics", str(folder), "--output_file", str(folder / name)]) == 2
    assert (
        "is there and holds something else; give another --output_file" in capsys.readouterr().err
    )
    assert (folder / name).read_bytes() == before


def test_statistics_of_another_model_are_not_put_beside_weights(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["statistics", "synpre/t5-mini-set"]) == 2
    assert "holds the weights of another model" in capsys.readouterr().err
    assert not (folder / "parameter_statistics.json").exists()


def test_whole_weights_bring_the_buffers_along(tmp_path):
    config = AutoConfig.for_model(
        "resnet", embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=3
    )
    trained = build(AutoModelForImageClassification, config, {}, 0).train()
    trained(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    trained.save_pretrained(tmp_path)
    found = StatisticsInit(AutoModelForImageClassification, scheme="weights").from_pretrained(
        tmp_path
    )
    stored = trained.state_dict()
    assert any("running_mean" in name for name in stored)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in found.state_dict().items())


def test_quantised_weights_are_not_taken_for_numbers(folder):
    rewrite(folder, lambda name, tensor: tensor.to(torch.int8) if "up_proj" in name else tensor)
    with pytest.raises(
        UsageError,
        match=r"up_proj.weight is stored as torch.int8; give a checkpoint that is not quantised",
    ):
        StatisticsInit(AutoModelForCausalLM, scheme="weights").from_pretrained(folder)


def test_raw_matrices_are_scaled_by_fan_in_where_both_sides_change_alike():
    def mixtral(width, inner):
        return AutoConfig.for_model(
            "mixtral",
            **LLAMA | {"hidden_size": width, "intermediate_size": inner},
            num_local_experts=2,
        )

    stats = ParameterStatistics.from_model(
        build(AutoModelForCausalLM, mixtral(16, 32), {}, 0), "small"
    )
    factory = StatisticsInit(AutoModelForCausalLM, scheme="per_param_scale")
    large = dict(factory.from_config(mixtral(64, 128), stats).named_parameters())
    for name in ("mlp.experts.down_proj", "mlp.experts.gate_up_proj", "self_attn.q_proj.weight"):
        name = f"model.layers.0.{name}"
        assert large[name].std().item() == pytest.approx(
            0.5 * stats.parameters[name].sd, rel=0.05
        ), name
    with pytest.raises(
        UsageError, match=r"experts.* nothing tells which side it sums over; give resize='depth'"
    ):
        factory.from_config(mixtral(64, 32), stats)


@pytest.mark.parametrize(
    ("auto", "model_type", "fields", "fixed"),
    [
        (
            AutoModelForSeq2SeqLM,
            "marian",
            {"decoder_vocab_size": 40, "pad_token_id": 0},
            "model.encoder.embed_positions.weight",
        ),
        (
            AutoModelForSpeechSeq2Seq,
            "whisper",
            {"num_mel_bins": 8},
            "model.encoder.embed_positions.weight",
        ),
    ],
)
def test_tables_of_sinusoids_are_computed_not_drawn(tmp_path, auto, model_type, fields, fixed):
    shape = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }
    shape |= {
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "vocab_size": 40,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    shape |= {"bos_token_id": 1, "decoder_start_token_id": 1, "forced_eos_token_id": None}
    model = build(auto, AutoConfig.for_model(model_type, **shape | fields), {}, 0)
    model.save_pretrained(tmp_path)
    for scheme in ("per_param_mean_sd", "weights"):
        made = StatisticsInit(auto, scheme=scheme, seed=1).from_pretrained(tmp_path)
        assert torch.equal(made.get_parameter(fixed), model.get_parameter(fixed)), scheme


@pytest.mark.parametrize(
    "given",
    [{"include": []}, {"exclude": ["*"]}, {"scheme": "attention_scale", "include": ["mlp"]}],
)
def test_what_fills_nothing_is_an_error(given, folder):
    with pytest.raises(
        UsageError, match="fills no parameter of LlamaForCausalLM; give another scheme"
    ):
        StatisticsInit(AutoModelForCausalLM, **given).from_pretrained(folder)


def test_a_norm_that_is_added_to_one_gets_the_same_gain():
    config = AutoConfig.for_model("gemma", **LLAMA, head_dim=8)
    factory = StatisticsInit(AutoModelForCausalLM, scheme="constant_pre_attn_ln", value=0.25)
    norm = factory.from_config(config).model.layers[0].input_layernorm
    assert norm.weight.tolist() == [-0.75] * 16
    ones = factory.from_config(llama()).model.layers[0].input_layernorm
    assert ones.weight.tolist() == [0.25] * 16
    rows = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(norm(rows), ones(rows), atol=1e-4)


def test_calls_of_transformers_own_form_work(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    factory = StatisticsInit(AutoModelForCausalLM, exclude=None, value=np.float32(0.4))
    assert factory.from_pretrained(pretrained_model_name_or_path=folder).config.hidden_size == 16
    ours = StatisticsInit(AutoModelForSeq2SeqLM, scheme="pre_attn_ln_scale")
    assert ours.from_pretrained("synpre/t5-mini-set", revision="main").config.d_model == 128


def test_the_default_dtype_changes_no_number(folder):
    def drawn():
        return (
            StatisticsInit(AutoModelForCausalLM)
            .from_pretrained(folder, dtype=torch.float32)
            .state_dict()
        )

    before = drawn()
    torch.set_default_dtype(torch.float64)
    try:
        after = drawn()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("synpre/t5-mini-set", "only its statistics are released"),
        ("synpre/t5-mini-sett", "statistics are released of synpre/t5"),
    ],
)
def test_weights_that_are_not_released_are_said_to_be(name, message):
    with pytest.raises(OSError, match=message):
        StatisticsInit(AutoModel, scheme="weights").from_pretrained(name, local_files_only=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roles": "x"}, "give a mapping of parameter names"),
        ({"include": [3]}, "include holds 3; give names of parts"),
    ],
)
def test_odd_options_are_named(options, message, folder):
    with pytest.raises(UsageError, match=message):
        StatisticsInit(AutoModelForCausalLM, **options).from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": 10**400}, "numbers that no parameter has"),
        ({"sd": 1e308}, "numbers that no parameter has"),
        ({"shape": [1.5, 1280]}, "numbers that no parameter has"),
        ({"name": ""}, "holds a parameter without a name"),
        ({"name": None}, "is not a statistics file"),
        (None, "holds no parameters in floating point"),
    ],
)
def test_statistics_that_no_model_has_are_refused(change, message, tmp_path):
    good = {"name": "w", "shape": [2, 3], "numel": 6, "mean": 0.0, "sd": 1.0}
    content = {"format": 1, "source": "x", "parameters": [] if change is None else [good | change]}
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        ParameterStatistics.load(tmp_path / "s.json")


def test_a_file_of_weights_is_no_statistics_file(folder):
    with pytest.raises(UsageError, match="is a file of weights; give its folder"):
        ParameterStatistics.from_pretrained(folder / WEIGHTS)


TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
PLACES = [
    (
        "vit",
        TINY | {"image_size": 8, "patch_size": 4},
        {"cls_token": "other", "position_embeddings": "position"},
    ),
    (
        "swin",
        {"embed_dim": 8, "depths": [1], "num_heads": [2], "image_size": 8},
        {"relative_position_bias_table": "position"},
    ),
    (
        "gpt_oss",
        TINY | {"num_key_value_heads": 1, "head_dim": 8, "num_local_experts": 2},
        {"sinks": "other"},
    ),
    ("wav2vec2", TINY, {"conv_layers.0.conv.weight": "projection", "masked_spec_embed": "other"}),
]


@pytest.mark.parametrize(
    ("model_type", "fields", "expected"),
    PLACES,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_modules_weight_is_a_position_or_by_itself(model_type, fields, expected):
    config = AutoConfig.for_model(model_type, **fields)
    places = read_parameters(skeleton(AutoModel, config))
    assert not [name for name, place in places.items() if place.role is None]
    for ending, role in expected.items():
        assert {place.role for name, place in places.items() if name.endswith(ending)} == {role}, (
            ending
        )
    others = {name for name, place in places.items() if place.role == "other"}
    for scheme in ("whole_model_scale", "across_layers_scale", "per_layer_scale"):
        pooled = [
            names
            for names in StatisticsInit(AutoModel, scheme=scheme).groups(config).values()
            if names[1:]
        ]
        assert pooled
        assert not [names for names in pooled if others & set(names)]
