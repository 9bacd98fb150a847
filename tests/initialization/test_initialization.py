"""Parameter statistics: measured, stored, grouped by role, sampled from at any size; weights copied whole or by part."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.initialization import (
    SCHEMES,
    STATISTICS_FILE,
    Moments,
    build,
    bundled_checkpoints,
    checkpoints,
    embedding_names,
    measure,
    pool,
    read_parameters,
    skeleton,
    statistics,
    tensor_generator,
)

EMBEDDING = "shared.weight"
SEQ2SEQ = partial(StatisticsInit, AutoModelForSeq2SeqLM)


def t5(**changes):
    return T5Config(
        **{"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
        | TINY
        | changes
    )


def with_own_moments(model):
    """Give every parameter moments of its own."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.normal_(0.1 * i, 0.5 + 0.01 * i)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model of two layers; weights only."""
    folder = tmp_path_factory.mktemp("saved")
    with_own_moments(
        build(AutoModelForSeq2SeqLM, t5(num_layers=2, num_decoder_layers=2), {}, 0)
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy of the saved model that a test may change."""
    return shutil.copytree(saved, tmp_path / "checkpoint")


def test_t5_small_has_131_parameters():
    with torch.device("meta"):
        small = T5ForConditionalGeneration(T5Config())
    assert len(list(small.named_parameters())) == 131
    assert embedding_names(small) == {
        "shared.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
    }


# measuring


def test_moments_are_those_of_the_tensors_however_they_are_read(checkpoint):
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    measured = ParameterStatistics.from_model(model)
    for name, p in model.named_parameters():
        moments = measured.parameters[name]
        assert (moments.shape, moments.numel) == (tuple(p.shape), p.numel())
        assert moments.mean == pytest.approx(p.double().mean().item(), rel=1e-12)
        assert moments.sd == pytest.approx(p.double().std(correction=0).item(), rel=1e-12)
    assert ParameterStatistics.from_pretrained(checkpoint).parameters == measured.parameters
    assert ParameterStatistics.load(checkpoint / STATISTICS_FILE).parameters == measured.parameters


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
)
def test_streaming_sees_every_element_of_every_dtype(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(statistics, "CHUNK", 1 << 12)
    tensors = {f"w{n}": (torch.rand(n) + 1).to(dtype) for n in (0, 1, 1023, 4096, 5000)} | {
        "ids": torch.arange(3)
    }
    save_file(tensors, tmp_path / "model.safetensors")
    measured = measure([tmp_path / "model.safetensors"])
    assert measured.keys() == tensors.keys() - {"ids"}
    for name, moments in measured.items():
        values = tensors[name].double().numpy()
        assert (moments.shape, moments.numel) == (values.shape, values.size)
        if values.size:
            assert moments.mean == pytest.approx(values.mean(), rel=1e-12)
            assert moments.sd == pytest.approx(values.std(), rel=1e-12)


def test_a_large_mean_does_not_swallow_a_small_spread():
    values = torch.from_numpy(np.random.default_rng(0).normal(1e6, 1e-3, 200_001))
    assert Moments.of(values).sd == pytest.approx(values.numpy().std(), rel=1e-6)
    assert Moments.of(torch.full((10_000,), 1e6)).sd == 0


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), min_size=1, max_size=5
    )
)
def test_pooled_moments_are_those_of_the_concatenated_tensors(parts):
    mean, sd = pool([Moments.of(torch.tensor(part)) for part in parts])
    whole = np.concatenate(parts)
    assert mean == pytest.approx(whole.mean(), rel=1e-9, abs=1e-9)
    assert sd == pytest.approx(whole.std(), rel=1e-9, abs=1e-9)


def test_sharded_weights_give_the_same_statistics_and_model(checkpoint, tmp_path):
    AutoModelForSeq2SeqLM.from_pretrained(checkpoint).save_pretrained(
        tmp_path / "sharded", max_shard_size="20KB"
    )
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    save_file({"stray": torch.ones(2)}, tmp_path / "sharded" / "consolidated.safetensors")
    sharded = ParameterStatistics.from_pretrained(tmp_path / "sharded")
    assert sharded.parameters == ParameterStatistics.from_pretrained(checkpoint).parameters
    for scheme in ("per_layer_scale", "weights"):
        one, two = (
            SEQ2SEQ(scheme=scheme).from_pretrained(folder)
            for folder in (checkpoint, tmp_path / "sharded")
        )
        assert_equal(one, two)


def test_a_folder_is_measured_once_and_again_when_its_weights_change(checkpoint, monkeypatch):
    first = ParameterStatistics.from_pretrained(checkpoint)
    monkeypatch.setattr(statistics, "measure", lambda files: pytest.fail("measured twice"))
    assert ParameterStatistics.from_pretrained(checkpoint) == first
    monkeypatch.undo()
    file = checkpoint / "model.safetensors"
    save_file(
        {name: tensor + 1 for name, tensor in load_file(file).items()}, file, {"format": "pt"}
    )
    later = (checkpoint / STATISTICS_FILE).stat().st_mtime + 10
    os.utime(file, (later, later))
    assert ParameterStatistics.from_pretrained(checkpoint).parameters[
        EMBEDDING
    ].mean == pytest.approx(first.parameters[EMBEDDING].mean + 1)


def test_a_folder_that_cannot_be_written_is_measured_all_the_same(checkpoint, monkeypatch):
    def refuse(file, text):
        raise UsageError("read-only")

    monkeypatch.setattr(statistics, "write_text", refuse)
    assert len(ParameterStatistics.from_pretrained(checkpoint).parameters) == 47
    assert not (checkpoint / STATISTICS_FILE).exists()


def test_a_hub_id_without_statistics_is_measured_and_with_them_gets_no_weights(
    checkpoint, tmp_path, monkeypatch
):
    asked = []

    def hub(name, allow_patterns, **keywords):
        asked.append((name, "*.safetensors" in allow_patterns, keywords))
        here = tmp_path / "cache"
        shutil.copytree(
            checkpoint, here, ignore=None if asked[-1][1] else weights_left_out, dirs_exist_ok=True
        )
        return str(here)

    weights_left_out = shutil.ignore_patterns("*.safetensors")
    monkeypatch.setattr(checkpoints, "snapshot_download", hub)
    model = SEQ2SEQ().from_pretrained("someone/model", revision="v1", token="t")
    assert {(name, keywords["revision"]) for name, _, keywords in asked} == {
        ("someone/model", "v1")
    }
    assert any(weights for _, weights, _ in asked)
    assert not (tmp_path / "cache" / STATISTICS_FILE).exists()
    ParameterStatistics.from_pretrained(checkpoint)
    shutil.rmtree(tmp_path / "cache")
    asked.clear()
    assert_equal(model, SEQ2SEQ().from_pretrained("someone/model"))
    assert not any(weights for _, weights, _ in asked)


def test_an_id_that_the_package_carries_needs_no_hub(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BUNDLED", tmp_path / "statistics")
    folder = tmp_path / "statistics" / "t5-tiny"
    folder.mkdir(parents=True)
    ParameterStatistics.from_pretrained(checkpoint).save(folder / STATISTICS_FILE)
    shutil.copy(checkpoint / "config.json", folder)
    assert bundled_checkpoints() == {"synpre/t5-tiny": folder}
    assert_equal(SEQ2SEQ().from_pretrained("synpre/t5-tiny"), SEQ2SEQ().from_pretrained(checkpoint))
    with pytest.raises(OSError, match="'synpre/t5-tiny' is no folder and could not be downloaded"):
        SEQ2SEQ(scheme="weights").from_pretrained("synpre/t5-tiny")


@pytest.mark.parametrize("name", sorted(bundled_checkpoints()))
def test_carried_statistics_make_a_model(name):
    model = StatisticsInit(AutoModel).from_pretrained(name)
    assert all(p.isfinite().all() for p in model.parameters())


# grouping


COUNTS = {  # Wu et al. 2022, on the 131 tensors of T5-small: groups, tensors
    "per_param_mean_sd": (130, 130),
    "per_param_scale": (130, 130),
    "whole_model_scale": (3, 130),
    "across_layers_scale": (9, 130),
    "per_layer_scale": (28, 130),
    "pre_attn_ln_scale": (18, 18),
    "pre_mlp_ln_scale": (12, 12),
    "attention_scale": (72, 72),
    "mlp_scale": (24, 24),
    "constant_pre_attn_ln": (18, 18),
    "weights": (131, 131),
    "body_weights": (130, 130),
    "attention_weights": (72, 72),
    "mlp_weights": (24, 24),
    "norm_weights": (32, 32),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_groups_of_t5_small_are_the_papers(scheme):
    groups = SEQ2SEQ(scheme=scheme).groups(T5Config())
    assert (len(groups), sum(map(len, groups.values()))) == COUNTS[scheme]


def test_group_sizes_of_pooled_schemes_are_the_papers():
    sizes = {s: sorted(map(len, SEQ2SEQ(scheme=s).groups(T5Config()).values())) for s in SCHEMES}
    assert sizes["whole_model_scale"] == [2, 32, 96]
    assert sizes["across_layers_scale"] == [2, 2, 12, 18, 18, 18, 18, 18, 24]
    assert sizes["per_layer_scale"] == [1] * 4 + [2] * 6 + [3] * 6 + [6] * 6 + [10] * 6


WIDTH = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}
BERT = WIDTH | {"num_hidden_layers": 3}
LLAMA = BERT | {"num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
BART = {
    "d_model": 16,
    "vocab_size": 40,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
FUSED, SPLIT = {"qkv": 3, "output": 3}, {"query": 3, "key": 3, "value": 3, "output": 3}
NORMS = {"pre_attention_norm": 3, "pre_mlp_norm": 3}
FAMILIES = {  # model type -> (Auto class, config, number of weights of each role, biases aside)
    "bert": (
        AutoModelForMaskedLM,
        BERT,
        SPLIT | NORMS | {"mlp": 6, "position": 2, "embedding_norm": 1, "head": 2},
    ),
    "roberta": (
        AutoModelForMaskedLM,
        BERT,
        SPLIT | NORMS | {"mlp": 6, "position": 2, "embedding_norm": 1, "head": 2},
    ),
    "electra": (
        AutoModelForPreTraining,
        BERT | {"embedding_size": 8},
        SPLIT | NORMS | {"mlp": 6, "position": 2, "embedding_norm": 1, "projection": 1, "head": 2},
    ),
    "gpt2": (
        AutoModelForCausalLM,
        {"n_embd": 16, "n_head": 2, "n_layer": 3, "vocab_size": 40},
        FUSED | NORMS | {"mlp": 6, "position": 1, "final_norm": 1},
    ),
    "llama": (
        AutoModelForCausalLM,
        LLAMA,
        SPLIT | NORMS | {"mlp": 9, "final_norm": 1, "embedding": 2},
    ),
    "mistral": (
        AutoModelForCausalLM,
        LLAMA,
        SPLIT | NORMS | {"mlp": 9, "final_norm": 1, "embedding": 2},
    ),
    "qwen3": (
        AutoModelForCausalLM,
        LLAMA,
        SPLIT | NORMS | {"mlp": 9, "qk_norm": 6, "final_norm": 1, "embedding": 2},
    ),
    "gemma2": (
        AutoModelForCausalLM,
        LLAMA,
        SPLIT | {"mlp": 9, "pre_attention_norm": 6, "pre_mlp_norm": 6, "final_norm": 1},
    ),
    "gpt_neox": (
        AutoModelForCausalLM,
        BERT,
        FUSED | NORMS | {"mlp": 6, "final_norm": 1, "embedding": 2},
    ),
    "gptj": (
        AutoModelForCausalLM,
        {"n_embd": 16, "n_head": 2, "n_layer": 3, "vocab_size": 40, "rotary_dim": 4},
        SPLIT | {"pre_attention_norm": 3, "mlp": 6, "final_norm": 1, "embedding": 2},
    ),
    "opt": (
        AutoModelForCausalLM,
        BERT | {"ffn_dim": 32, "word_embed_proj_dim": 16},
        SPLIT | NORMS | {"mlp": 6, "position": 1, "final_norm": 1},
    ),
    "bart": (
        AutoModelForSeq2SeqLM,
        BART,
        {
            "query": 6,
            "key": 6,
            "value": 6,
            "output": 6,
            "mlp": 8,
            "pre_attention_norm": 6,
            "pre_mlp_norm": 4,
        }
        | {"final_norm": 2, "position": 2},
    ),
    "deberta-v2": (
        AutoModelForMaskedLM,
        BERT,
        SPLIT | NORMS | {"mlp": 6, "position": 1, "embedding_norm": 1, "head": 2},
    ),
    "albert": (
        AutoModelForMaskedLM,
        BERT | {"embedding_size": 8},
        {
            "query": 1,
            "key": 1,
            "value": 1,
            "output": 1,
            "mlp": 2,
            "pre_attention_norm": 1,
            "pre_mlp_norm": 1,
        }
        | {"position": 2, "embedding_norm": 1, "projection": 1, "head": 2},
    ),
    "modernbert": (
        AutoModelForMaskedLM,
        BERT | {"pad_token_id": 0},
        FUSED
        | {
            "pre_attention_norm": 2,
            "pre_mlp_norm": 3,
            "mlp": 6,
            "embedding_norm": 1,
            "final_norm": 1,
            "head": 2,
        },
    ),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    auto, fields, counts = FAMILIES[request.param]
    return auto, AutoConfig.for_model(request.param, **fields), {"embedding": 1} | counts


def test_roles_are_read_from_modules(family):
    auto, config, counts = family
    found = {}
    for p in read_parameters(skeleton(auto, config)).values():
        if not p.bias:
            found[p.role] = found.get(p.role, 0) + 1
    assert found == counts


def test_every_scheme_starts_every_family(family, tmp_path):
    auto, config, _ = family
    source = with_own_moments(build(auto, config, {}, 0))
    source.save_pretrained(tmp_path)
    fresh, places = dict(build(auto, config, {}, 3).named_parameters()), read_parameters(source)
    for scheme, rule in SCHEMES.items():
        factory = StatisticsInit(auto, scheme=scheme, seed=3)
        if not factory.groups(config):  # GPT-J has one norm a layer
            with pytest.raises(
                UsageError, match=f"Scheme {scheme} under include and exclude fills no parameter of"
            ):
                factory.from_pretrained(tmp_path)
            continue
        changed = {
            name
            for name, p in factory.from_pretrained(tmp_path).named_parameters()
            if not torch.equal(p, fresh[name])
        }
        filled = {name for names in factory.groups(config).values() for name in names}
        assert changed == {n for n in filled if rule.fill != "scale" or places[n].shape != (1,)}, (
            scheme
        )  # one number: sd 0
        assert rule.embeddings or not {places[name].part for name in filled} & {"embedding"}


def test_norms_with_a_cross_attention_are_told_apart():
    config = AutoConfig.for_model(
        "gpt2", n_embd=16, n_head=2, n_layer=1, vocab_size=40, add_cross_attention=True
    )
    found = read_parameters(skeleton(AutoModelForCausalLM, config))
    norms = {name.split(".")[-2]: p.role for name, p in found.items() if "ln_" in name}
    expected = {
        "ln_1": "pre_attention_norm",
        "ln_2": "pre_mlp_norm",
        "ln_cross_attn": "pre_attention_norm",
    }
    assert norms == expected | {"ln_f": "final_norm"}


def test_a_model_whose_roles_cannot_be_told_says_which_and_how_to_tell_them():
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=2, vocab_size=40)
    stats = ParameterStatistics.from_model(build(AutoModelForCausalLM, config, {}, 0), "mamba")
    with pytest.raises(
        UsageError,
        match=r"attention_scale needs the role .* backbone.layers.\*.mixer.A_log, .* pass roles=\{'b",
    ):
        StatisticsInit(AutoModelForCausalLM, scheme="attention_scale").from_config(config, stats)
    StatisticsInit(AutoModelForCausalLM).from_config(config, stats)  # needs no role
    roles = {"*mixer.*": "mlp", "*.norm.weight": "pre_mlp_norm"}
    factory = StatisticsInit(AutoModelForCausalLM, scheme="pre_mlp_ln_scale", roles=roles)
    assert list(factory.groups(config)) == [f"backbone.layers.{i}.norm.weight" for i in (0, 1)]
    for bad, message in (
        ({"*mixer.*": "mixer"}, "Unknown role 'mixer'"),
        ({"*mixture*": "mlp"}, "fits no parameter"),
    ):
        with pytest.raises(UsageError, match=message):
            StatisticsInit(AutoModelForCausalLM, roles=bad).from_config(config, stats)


# sampling


def test_sampled_weights_have_the_moments_and_embeddings_stay_fresh(checkpoint):
    stats = ParameterStatistics.from_pretrained(checkpoint)
    model = SEQ2SEQ(seed=1).from_pretrained(checkpoint)
    fresh = build(AutoModelForSeq2SeqLM, model.config, {}, 1)
    for name, p in model.named_parameters():
        moments = stats.parameters[name]
        if name == EMBEDDING:
            assert torch.equal(p, fresh.get_input_embeddings().weight)
        elif p.numel() >= 1024:
            assert p.mean().item() == pytest.approx(
                moments.mean, abs=5 * moments.sd / p.numel() ** 0.5
            )
            assert p.std().item() == pytest.approx(moments.sd, rel=0.15)
    assert model.lm_head.weight is model.shared.weight
    assert not model.training


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s.endswith("_scale")])
def test_scale_schemes_keep_the_spread_of_their_group_and_drop_the_mean(checkpoint, scheme):
    stats, factory = ParameterStatistics.from_pretrained(checkpoint), SEQ2SEQ(scheme=scheme)
    model = factory.from_pretrained(checkpoint)
    own, source = (
        dict(model.named_parameters()),
        dict(AutoModelForSeq2SeqLM.from_pretrained(checkpoint).named_parameters()),
    )
    for names in factory.groups(model.config).values():
        whole = torch.cat([source[name].flatten() for name in names]).double()
        mean, sd = pool(stats.parameters[name] for name in names)
        assert (mean, sd) == pytest.approx(
            (whole.mean().item(), whole.std(correction=0).item()), rel=1e-12
        )
        for name in names:
            if "layer_norm" in name:
                assert torch.equal(own[name], torch.full_like(own[name], mean))
            else:
                expected = torch.empty(own[name].shape).normal_(
                    0, sd, generator=tensor_generator(0, name)
                )
                assert torch.equal(own[name], expected)


def test_a_constant_needs_no_checkpoint():
    model = SEQ2SEQ(scheme="constant_pre_attn_ln").from_config(t5())
    norms = {
        name: p.unique().tolist() for name, p in model.named_parameters() if "layer_norm" in name
    }
    assert sum(values == [pytest.approx(0.4)] for values in norms.values()) == 3
    assert sum(values == [1.0] for values in norms.values()) == len(norms) - 3
    other = SEQ2SEQ(scheme="constant_pre_attn_ln", value=0.25).from_config(t5())
    assert other.encoder.block[0].layer[0].layer_norm.weight.unique().tolist() == [0.25]


def test_numbers_depend_on_seed_and_name_only(checkpoint):
    stats = ParameterStatistics.from_pretrained(checkpoint)
    config = AutoConfig.from_pretrained(checkpoint)
    factory = StatisticsInit(T5ForConditionalGeneration, seed=5)
    one, two = (factory.from_config(config, stats).state_dict() for _ in range(2))
    other = (
        StatisticsInit(T5ForConditionalGeneration, seed=6).from_config(config, stats).state_dict()
    )
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not any(torch.equal(one[k], other[k]) for k in one)
    name = "encoder.block.0.layer.1.DenseReluDense.wi.weight"
    expected = (
        torch.randn(one[name].shape, generator=tensor_generator(5, name))
        * stats.parameters[name].sd
    )
    torch.testing.assert_close(one[name], expected + stats.parameters[name].mean)
    part = (
        StatisticsInit(T5ForConditionalGeneration, seed=5, include=["mlp"])
        .from_config(config, stats)
        .state_dict()
    )
    assert torch.equal(part[name], one[name])
    assert torch.equal(
        part[EMBEDDING], one[EMBEDDING]
    )  # fresh numbers neither depend on what else is drawn
    smaller = build(AutoModelForSeq2SeqLM, t5(), {}, 5)
    assert torch.equal(smaller.shared.weight, one[EMBEDDING])


def test_a_body_has_the_same_numbers_under_any_head(tmp_path):
    config = AutoConfig.for_model("bert", **BERT)
    with_own_moments(build(AutoModelForMaskedLM, config, {}, 0)).save_pretrained(tmp_path)
    bodies = [
        StatisticsInit(auto).from_pretrained(tmp_path).base_model
        for auto in (AutoModelForMaskedLM, AutoModel)
    ]
    classifier, info = StatisticsInit(AutoModelForSequenceClassification).from_pretrained(
        tmp_path, num_labels=5, output_loading_info=True
    )
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= info["missing_keys"]
    assert classifier.classifier.weight.shape == (5, 16)
    sampled = [dict(body.named_parameters()) for body in (*bodies, classifier.base_model)]
    for name, p in sampled[0].items():
        assert torch.equal(p, sampled[1][name]), name
        assert torch.equal(p, sampled[2][name]), name


def test_old_names_in_checkpoints_are_understood(tmp_path):
    config = AutoConfig.for_model("bert", **BERT)
    model = with_own_moments(build(AutoModelForMaskedLM, config, {}, 0))
    model.save_pretrained(tmp_path / "new")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    renamed = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for n, t in tensors.items()
    }
    (tmp_path / "old").mkdir()
    save_file(renamed, tmp_path / "old" / "model.safetensors")
    config.save_pretrained(tmp_path / "old")
    for scheme in ("per_param_mean_sd", "weights"):
        factory = StatisticsInit(AutoModelForMaskedLM, scheme=scheme)
        assert_equal(
            factory.from_pretrained(tmp_path / "old"), factory.from_pretrained(tmp_path / "new")
        )


def test_initialising_leaves_the_global_generator_alone(checkpoint):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    SEQ2SEQ().from_pretrained(checkpoint)
    assert torch.equal(torch.rand(3), expected)


def assert_equal(one, two):
    for (name, p), (other, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(p, q), name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_round_trip_is_bit_equal(checkpoint, tmp_path, scheme):
    model = SEQ2SEQ(scheme=scheme).from_pretrained(checkpoint)
    model.save_pretrained(tmp_path / "again")
    assert_equal(model, AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again"))


# the keywords of transformers


def test_bfloat16_is_the_rounded_float32(checkpoint):
    whole = SEQ2SEQ().from_pretrained(checkpoint)
    half = SEQ2SEQ().from_pretrained(checkpoint, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert_equal(whole.to(torch.bfloat16), half)
    config = AutoConfig.from_pretrained(checkpoint)
    config.dtype = torch.bfloat16
    assert_equal(half, SEQ2SEQ().from_config(config, checkpoint))
    config.save_pretrained(checkpoint)
    assert_equal(half, SEQ2SEQ().from_pretrained(checkpoint))
    assert SEQ2SEQ().from_config(config, checkpoint, dtype=torch.float32).dtype == torch.float32


def test_keywords_reach_transformers(checkpoint, tmp_path):
    (checkpoint / "generation_config.json").write_text(
        '{"max_new_tokens": 7, "decoder_start_token_id": 0}'
    )
    model, info = SEQ2SEQ().from_pretrained(
        checkpoint,
        attn_implementation="eager",
        device_map="cpu",
        dropout_rate=0.25,
        output_loading_info=True,
        local_files_only=True,
    )
    assert (model.config._attn_implementation, model.config.dropout_rate) == ("eager", 0.25)
    assert model.generation_config.max_new_tokens == 7
    assert info["missing_keys"] == {EMBEDDING}
    assert not info["unexpected_keys"]
    shutil.copytree(checkpoint, tmp_path / "repo" / "part")
    assert_equal(model, SEQ2SEQ().from_pretrained(tmp_path / "repo", subfolder="part"))
    assert_equal(model, SEQ2SEQ().from_pretrained(checkpoint, config=str(checkpoint)))
    with pytest.raises(UsageError, match="runs no remote code"):
        SEQ2SEQ().from_pretrained(checkpoint, trust_remote_code=True)


@pytest.mark.gpu
def test_an_accelerator_gets_the_same_numbers(checkpoint):
    assert_equal(
        SEQ2SEQ().from_pretrained(checkpoint),
        SEQ2SEQ().from_pretrained(checkpoint, device_map="cuda").cpu(),
    )


# parts, sizes, weights


def test_include_and_exclude_take_parts_roles_and_names(checkpoint):
    config = AutoConfig.from_pretrained(checkpoint)

    def taken(**rules):
        return {name for names in SEQ2SEQ(**rules).groups(config).values() for name in names}

    body = taken()
    assert taken(include=["*"]) - body == {EMBEDDING} == taken(include=["embedding"])
    assert len(taken(include=["query", "key"])) == 12
    assert taken(exclude=["attention", "mlp"]) == taken(include=["norm", "position"])
    assert taken(include=["encoder.*"], exclude=["*layer_norm*"]) == {
        n for n in body if n.startswith("encoder.") and "layer_norm" not in n
    }
    assert taken(scheme="attention_scale", include=["decoder.*"]) == {
        n for n in taken(scheme="attention_scale") if n.startswith("decoder.")
    }
    asked = SEQ2SEQ(include=["*"]).from_pretrained(checkpoint)
    assert asked.shared.weight.mean().item() == pytest.approx(0, abs=0.1)
    assert asked.shared.weight.std().item() == pytest.approx(0.5, rel=0.1)
    with pytest.raises(UsageError, match="'atention' in include or exclude is no part"):
        taken(include=["atention"])
    with pytest.raises(UsageError, match=r"include is 'mlp'; give a list, as \['mlp'\]"):
        taken(include="mlp")


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if "weights" in s])
def test_weights_are_copied_whole_or_by_part(checkpoint, scheme):
    factory = SEQ2SEQ(scheme=scheme, seed=3)
    model = factory.from_pretrained(checkpoint)
    source = dict(AutoModelForSeq2SeqLM.from_pretrained(checkpoint).named_parameters())
    same = {name for name, p in model.named_parameters() if torch.equal(p, source[name])}
    assert same == {name for names in factory.groups(model.config).values() for name in names}
    with pytest.raises(UsageError, match="copies values; give a checkpoint's folder"):
        factory.from_config(model.config, ParameterStatistics.from_pretrained(checkpoint))


def test_fresh_embeddings_may_have_another_vocabulary(checkpoint):
    config = t5(vocab_size=99, num_layers=2, num_decoder_layers=2)
    assert SEQ2SEQ(scheme="body_weights").from_config(config, checkpoint).shared.weight.shape == (
        99,
        32,
    )
    with pytest.raises(
        UsageError, match=r"shared.weight has shape \[64, 32\] in the checkpoint and \[99, 32\] in"
    ):
        SEQ2SEQ(scheme="weights").from_config(config, checkpoint)


def test_a_larger_model_takes_layers_by_relative_depth_and_scales_by_fan_in(checkpoint):
    stats = ParameterStatistics.from_pretrained(checkpoint)
    config = t5(num_layers=5, num_decoder_layers=1, d_model=64)
    name = "encoder.block.{}.layer.1.DenseReluDense.wi.weight"
    for resize, factor in (("fan_in", 0.5**0.5), ("depth", 1.0)):
        model = SEQ2SEQ(scheme="per_param_scale", resize=resize).from_config(config, stats)
        own = dict(model.named_parameters())
        for here, there in enumerate([0, 0, 0, 1, 1]):
            sd = stats.parameters[name.format(there)].sd * factor
            draws = torch.empty(64, 64).normal_(
                0, sd, generator=tensor_generator(0, name.format(here))
            )
            assert torch.equal(own[name.format(here)], draws)
            norm = own[f"encoder.block.{here}.layer.0.layer_norm.weight"]
            mean = stats.parameters[f"encoder.block.{there}.layer.0.layer_norm.weight"].mean
            assert torch.equal(norm, torch.full((64,), mean))
    pooled = SEQ2SEQ(scheme="whole_model_scale").from_config(config, stats)
    mean, _ = pool(m for n, m in stats.parameters.items() if "layer_norm" in n)
    assert torch.equal(pooled.encoder.final_layer_norm.weight, torch.full((64,), mean))


def test_another_size_is_refused_where_asked_for_or_where_weights_are_copied(checkpoint):
    deeper, wider = (
        t5(num_layers=3, num_decoder_layers=2),
        t5(num_layers=2, num_decoder_layers=2, d_ff=128),
    )
    for factory in (SEQ2SEQ(resize="none"), SEQ2SEQ(scheme="body_weights")):
        with pytest.raises(UsageError, match=r"lacks encoder.block.2.* and 7 more of the model's"):
            factory.from_config(deeper, checkpoint)
        with pytest.raises(
            UsageError, match=r"wi.weight has shape \[64, 32\] in the checkpoint and \[128, 32\] in"
        ):
            factory.from_config(wider, checkpoint)
        with pytest.raises(UsageError, match=r"has 2 layers in encoder.block, the model 1; give a config"):
            factory.from_config(t5(num_layers=1, num_decoder_layers=2), checkpoint)


# bad input


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scheme": "per_param_mean"}, "Did you mean 'per_param_mean_sd'"),
        ({"resize": "fan"}, "Unknown resize 'fan'"),
        ({"seed": -1}, "seed is -1; give an integer in 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"value": float("nan")}, "value is nan; give a finite number"),
    ],
)
def test_bad_options_are_named(given, message):
    with pytest.raises(UsageError, match=message):
        SEQ2SEQ(**given)


def test_a_scheme_without_its_statistics_is_named():
    with pytest.raises(UsageError, match="Scheme mlp_scale needs statistics; give them"):
        SEQ2SEQ(scheme="mlp_scale").from_config(t5())


def entry(**changes):
    return {"name": "w", "shape": [2, 3], "numel": 6, "mean": 0.0, "sd": 1.0} | changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "has format 9"),
        ({"parameters": [entry(sd=-1.0)]}, "w has mean 0.0, sd -1.0; both must be finite, sd >= 0"),
        ({"parameters": [entry(mean=float("nan"))]}, "w has mean nan, sd 1.0; both must be finite"),
        ({"parameters": [entry(numel=5)]}, r"w has shape \[2, 3\], which does not hold numel 5"),
        ({"parameters": [entry(shape=[-2, -3])]}, r"w has shape \[-2, -3\]"),
        ({"parameters": [entry(), entry()]}, "holds w twice"),
        ({"parameters": [{"name": "w"}]}, "is not a statistics file"),
        (
            {"parameters": [{k: v for k, v in entry().items() if k != "name"}]},
            r"is not a statistics file \('name'\)",
        ),
        ({"parameters": [3]}, "is not a statistics file"),
        ({"parameters": [entry(mean="x")]}, "is not a statistics file"),
        ({"parameters": None}, "is not a statistics file"),
        (None, "is not valid JSON"),
    ],
)
def test_broken_statistics_files_are_named(tmp_path, change, message):
    file = tmp_path / STATISTICS_FILE
    file.write_text(
        "{"
        if change is None
        else json.dumps({"format": 1, "source": "x", "parameters": []} | change)
    )
    with pytest.raises(UsageError, match=message):
        ParameterStatistics.from_pretrained(tmp_path)


def edited(checkpoint, edit):
    """Write the checkpoint's statistics file with its first parameter of the body changed."""
    ParameterStatistics.from_pretrained(checkpoint)
    stored = json.loads((checkpoint / STATISTICS_FILE).read_text())
    stored["parameters"] = edit(stored["parameters"])
    (checkpoint / STATISTICS_FILE).write_text(json.dumps(stored))
    return SEQ2SEQ().from_pretrained(checkpoint)


def test_a_statistics_file_stands_for_its_checkpoint(checkpoint, tmp_path):
    stats = ParameterStatistics.from_pretrained(checkpoint)
    stats.save(tmp_path / "mine.json")
    assert ParameterStatistics.from_pretrained(tmp_path / "mine.json") == stats


def test_tensors_that_are_joined_on_loading_are_said_to_be():
    config = AutoConfig.for_model(
        "mixtral", hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        num_local_experts=2, vocab_size=40,
    )  # fmt: skip
    stats = ParameterStatistics.from_model(build(AutoModelForCausalLM, config, {}, 0), "loaded")
    StatisticsInit(AutoModelForCausalLM).from_config(config, stats)
    apart = {name: m for name, m in stats.parameters.items() if "experts" not in name}
    with pytest.raises(UsageError, match=r"lacks .* and 1 more .*from_model\(the loaded model\)"):
        StatisticsInit(AutoModelForCausalLM).from_config(
            config, ParameterStatistics("stored", apart)
        )


def test_statistics_that_do_not_fit_the_config_are_named(checkpoint):
    with pytest.raises(
        UsageError, match=r"q.weight has shape \[8, 128\] in the checkpoint and \[32, 32\] in"
    ):
        edited(
            checkpoint,
            lambda ps: [
                p | {"shape": [8, 128]} if p["name"].endswith("0.SelfAttention.q.weight") else p
                for p in ps
            ],
        )
    with pytest.raises(
        UsageError,
        match=r"The statistics of .* lacks decoder.block.0.layer.2.layer_norm.weight and 1 more of",
    ):
        edited(checkpoint, lambda ps: [p for p in ps if "layer.2.layer_norm" not in p["name"]])


def test_broken_checkpoints_are_named(tmp_path, checkpoint):
    with pytest.raises(UsageError, match="holds neither"):
        ParameterStatistics.from_pretrained(tmp_path / "checkpoint", subfolder="nowhere")
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="is not a whole safetensors file"):
        ParameterStatistics.from_pretrained(checkpoint)
    file.write_bytes(b"no")
    for factory in (SEQ2SEQ(), SEQ2SEQ(scheme="weights")):
        with pytest.raises(UsageError, match="is not a whole safetensors file"):
            factory.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors.index.json").write_text(
        '{"weight_map": {"w": "gone.safetensors"}}'
    )
    with pytest.raises(
        UsageError,
        match=r"gone.safetensors is missing, though model.safetensors.index.json names it",
    ):
        ParameterStatistics.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UsageError, match="is no index of safetensors files"):
        ParameterStatistics.from_pretrained(checkpoint)


def test_weights_with_nan_and_doubled_names_are_named(tmp_path):
    save_file({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="w has mean nan"):
        ParameterStatistics.from_pretrained(tmp_path)
    for name in "ab":
        save_file({"w": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(UsageError, match="w is in both"):
        ParameterStatistics.from_pretrained(tmp_path)


def test_a_folder_without_a_config_is_named(tmp_path, checkpoint):
    (checkpoint / "config.json").unlink()
    with pytest.raises(UsageError, match=r"holds no config\.json of a transformers model"):
        SEQ2SEQ().from_pretrained(checkpoint)
    assert SEQ2SEQ().from_pretrained(
        checkpoint, config=t5(num_layers=2, num_decoder_layers=2)
    ).shared.weight.shape == (
        64,
        32,
    )
