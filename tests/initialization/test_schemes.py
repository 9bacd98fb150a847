"""Groups of schemes are the papers', tensors have their moments; include, exclude; weights.

Run: pytest tests/initialization/test_schemes.py
"""

import pytest
import torch
from small_models import DECODER, EMBEDDING, SEQ2SEQ, llama, rewrite_weights, t5
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    T5Config,
)

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.initialization import SCHEMES, build, pool, tensor_generator
from hf_synpre.initialization.unigrams import UNIGRAM_SCHEME

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
    "permuted_weights": (130, 130),
    "permuted_rows": (130, 130),  # here and below not by Wu et al.
    "permuted_columns": (130, 130),
    "rescaled_weights": (130, 130),
    "generalized_gaussian": (130, 130),
    "per_head": (130, 130),
    "row_column_norms": (130, 130),
    "spectral": (130, 130),
    "mimetic": (72, 72),
    "symmetric_qk": (18, 18),
    "gamma": (96, 96),
}


@pytest.mark.parametrize("scheme", COUNTS)
def test_groups_of_t5_small_are_the_papers(scheme):
    assert {*COUNTS, UNIGRAM_SCHEME} == {*SCHEMES}  # which has a test file of its own
    groups = SEQ2SEQ(scheme=scheme).groups(T5Config())
    assert (len(groups), sum(map(len, groups.values()))) == COUNTS[scheme]


def test_group_sizes_of_pooled_schemes_are_the_papers():
    sizes = {s: sorted(map(len, SEQ2SEQ(scheme=s).groups(T5Config()).values())) for s in COUNTS}
    assert sizes["whole_model_scale"] == [2, 32, 96]
    assert sizes["across_layers_scale"] == [2, 2, 12, 18, 18, 18, 18, 18, 24]
    assert sizes["per_layer_scale"] == [1] * 4 + [2] * 6 + [3] * 6 + [6] * 6 + [10] * 6


def test_sampled_weights_have_the_moments_and_embeddings_stay_fresh(t5_checkpoint):
    stats = ParameterStatistics.from_pretrained(t5_checkpoint)
    model = SEQ2SEQ(seed=1).from_pretrained(t5_checkpoint)
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
def test_scale_schemes_keep_the_spread_of_their_group_and_drop_the_mean(t5_checkpoint, scheme):
    stats = ParameterStatistics.from_pretrained(t5_checkpoint)
    init = SEQ2SEQ(scheme=scheme)
    model = init.from_pretrained(t5_checkpoint)
    drawn = dict(model.named_parameters())
    source = dict(AutoModelForSeq2SeqLM.from_pretrained(t5_checkpoint).named_parameters())

    for names in init.groups(model.config).values():
        # The pooled moments are those of the group's tensors in the checkpoint, end to end.
        group = torch.cat([source[name].flatten() for name in names]).double()
        mean, sd = pool(stats.parameters[name] for name in names)
        assert mean == pytest.approx(group.mean().item(), rel=1e-12)
        assert sd == pytest.approx(group.std(correction=0).item(), rel=1e-12)

        for name in names:
            expected = torch.full_like(drawn[name], mean)
            if "layer_norm" not in name:
                expected.normal_(0, sd, generator=tensor_generator(0, name))
            assert torch.equal(drawn[name], expected)


def test_a_constant_needs_no_checkpoint():
    model = SEQ2SEQ(scheme="constant_pre_attn_ln").from_config(t5())
    gains = [p.unique().tolist() for name, p in model.named_parameters() if "layer_norm" in name]
    assert sum(values == [pytest.approx(0.4)] for values in gains) == 3
    assert sum(values == [1.0] for values in gains) == len(gains) - 3
    other = SEQ2SEQ(scheme="constant_pre_attn_ln", value=0.25).from_config(t5())
    assert other.encoder.block[0].layer[0].layer_norm.weight.unique().tolist() == [0.25]


def test_a_norm_that_is_added_to_one_gets_the_same_gain():
    config = AutoConfig.for_model("gemma", **DECODER, head_dim=8)
    factory = StatisticsInit(AutoModelForCausalLM, scheme="constant_pre_attn_ln", value=0.25)
    norm = factory.from_config(config).model.layers[0].input_layernorm
    assert norm.weight.tolist() == [-0.75] * 16
    ones = factory.from_config(llama()).model.layers[0].input_layernorm
    assert ones.weight.tolist() == [0.25] * 16
    rows = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(norm(rows), ones(rows), atol=1e-4)


def test_include_and_exclude_take_parts_roles_and_names(t5_checkpoint):
    config = AutoConfig.from_pretrained(t5_checkpoint)

    def filled(**rules):
        return {name for names in SEQ2SEQ(**rules).groups(config).values() for name in names}

    body = filled()
    assert filled(include=["*"]) - body == {EMBEDDING} == filled(include=["embedding"])
    assert len(filled(include=["query", "key"])) == 12
    assert filled(exclude=["attention", "mlp"]) == filled(include=["norm", "position"])
    encoder = {name for name in body if name.startswith("encoder.")}
    without_norms = {name for name in encoder if "layer_norm" not in name}
    assert filled(include=["encoder.*"], exclude=["*layer_norm*"]) == without_norms
    attention = filled(scheme="attention_scale")
    in_decoder = {name for name in attention if name.startswith("decoder.")}
    assert filled(scheme="attention_scale", include=["decoder.*"]) == in_decoder

    # Embeddings that are named are drawn; the checkpoint's have mean 0 and sd 0.5.
    asked = SEQ2SEQ(include=["*"]).from_pretrained(t5_checkpoint)
    assert asked.shared.weight.mean().item() == pytest.approx(0, abs=0.1)
    assert asked.shared.weight.std().item() == pytest.approx(0.5, rel=0.1)

    with pytest.raises(UsageError, match="'atention' in include or exclude is no part"):
        filled(include=["atention"])
    with pytest.raises(UsageError, match=r"include is 'mlp'; give a list, as \['mlp'\]"):
        filled(include="mlp")


@pytest.mark.parametrize(
    "options",
    [{"include": []}, {"exclude": ["*"]}, {"scheme": "attention_scale", "include": ["mlp"]}],
)
def test_what_fills_nothing_is_an_error(options, llama_checkpoint):
    init = StatisticsInit(AutoModelForCausalLM, **options)
    message = "fills no parameter of LlamaForCausalLM; give another scheme"
    with pytest.raises(UsageError, match=message):
        init.from_pretrained(llama_checkpoint)


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if SCHEMES[s].fill == "weights"])
def test_weights_are_copied_all_or_by_part(t5_checkpoint, scheme):
    factory = SEQ2SEQ(scheme=scheme, seed=3)
    model = factory.from_pretrained(t5_checkpoint)
    source = dict(AutoModelForSeq2SeqLM.from_pretrained(t5_checkpoint).named_parameters())
    same = {name for name, p in model.named_parameters() if torch.equal(p, source[name])}
    assert same == {name for names in factory.groups(model.config).values() for name in names}
    with pytest.raises(UsageError, match="reads weights; give a checkpoint's folder"):
        factory.from_config(model.config, ParameterStatistics.from_pretrained(t5_checkpoint))


def test_a_copy_of_all_weights_has_the_buffers_too(tmp_path):
    config = AutoConfig.for_model(
        "resnet", embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=3
    )
    trained = build(AutoModelForImageClassification, config, {}, 0).train()
    trained(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    trained.save_pretrained(tmp_path)

    init = StatisticsInit(AutoModelForImageClassification, scheme="weights")
    copied = init.from_pretrained(tmp_path).state_dict()
    stored = trained.state_dict()
    assert any("running_mean" in name for name in stored)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in copied.items())


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
    config_fields = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "vocab_size": 40,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 1,
        "decoder_start_token_id": 1,
        "forced_eos_token_id": None,
    }
    model = build(auto, AutoConfig.for_model(model_type, **config_fields | fields), {}, 0)
    model.save_pretrained(tmp_path)
    for scheme in ("per_param_mean_sd", "weights"):
        made = StatisticsInit(auto, scheme=scheme, seed=1).from_pretrained(tmp_path)
        assert torch.equal(made.get_parameter(fixed), model.get_parameter(fixed)), scheme


def test_quantised_weights_are_not_taken_for_numbers(llama_checkpoint):
    def quantise(name, tensor):
        return tensor.to(torch.int8) if "up_proj" in name else tensor

    rewrite_weights(llama_checkpoint, quantise)
    init = StatisticsInit(AutoModelForCausalLM, scheme="weights")
    message = (
        r"is quantised \(codes of dtype I8: .*up_proj.weight\); give the checkpoint that is not"
    )
    with pytest.raises(UsageError, match=message):
        init.from_pretrained(llama_checkpoint)


def test_permuted_weights_are_the_values_of_each_tensor_in_another_order(t5_checkpoint):
    source = dict(AutoModelForSeq2SeqLM.from_pretrained(t5_checkpoint).named_parameters())
    models = [
        SEQ2SEQ(scheme="permuted_weights", seed=seed).from_pretrained(t5_checkpoint)
        for seed in (1, 1, 2)
    ]
    one, same, other = (dict(model.named_parameters()) for model in models)
    fresh = build(AutoModelForSeq2SeqLM, models[0].config, {}, 1)
    assert torch.equal(one.pop(EMBEDDING), fresh.get_input_embeddings().weight)
    for name, values in one.items():
        assert torch.equal(values, same[name])
        assert torch.equal(values.flatten().sort().values, source[name].flatten().sort().values)
        if values.numel() >= 100:
            assert not torch.equal(values, source[name])
            assert not torch.equal(values, other[name])
