"""Roles of parameters in fifteen model families and in odd modules; schemes on every family.

Run: pytest tests/initialization/test_roles.py
"""

from collections import Counter

import pytest
import torch
from small_models import BART, BERT, LLAMA, with_distinct_moments
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
)

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.initialization import SCHEMES, build, read_parameters, skeleton
from hf_synpre.initialization.unigrams import UNIGRAM_SCHEME

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
    parameters = read_parameters(skeleton(auto, config)).values()
    assert Counter(p.role for p in parameters if not p.bias) == counts


def test_every_scheme_starts_every_family(family, tmp_path):
    auto, config, _ = family
    source = with_distinct_moments(build(auto, config, {}, 0))
    source.save_pretrained(tmp_path)
    fresh = dict(build(auto, config, {}, 3).named_parameters())
    parameters = read_parameters(source)

    for name, scheme in SCHEMES.items():
        if name == UNIGRAM_SCHEME:  # it fills heads, by another rule
            continue
        init = StatisticsInit(auto, scheme=name, seed=3)
        groups = init.groups(config)

        # GPT-J has one norm a layer, so that schemes of the norm before the MLP fill nothing.
        if not groups:
            message = f"Scheme {name} under include and exclude fills no parameter of"
            with pytest.raises(UsageError, match=message):
                init.from_pretrained(tmp_path)
            continue

        filled = {parameter for group in groups.values() for parameter in group}
        expected = filled
        if scheme.fill == "scale":
            # A parameter of one number has sd 0 and is drawn as it was.
            expected = {p for p in filled if parameters[p].shape != (1,)}
        drawn = dict(init.from_pretrained(tmp_path).named_parameters())
        changed = {p for p in drawn if not torch.equal(drawn[p], fresh[p])}
        if scheme.fill == "start":  # attention to an encoder stays fresh, and biases stay 0
            assert changed, name
            assert changed <= expected, name
        else:
            assert changed == expected, name
        if not scheme.embeddings:
            assert "embedding" not in {parameters[p].part for p in filled}


def test_norms_beside_a_cross_attention_get_their_roles():
    config = AutoConfig.for_model(
        "gpt2", n_embd=16, n_head=2, n_layer=1, vocab_size=40, add_cross_attention=True
    )
    parameters = read_parameters(skeleton(AutoModelForCausalLM, config))
    norms = {name.split(".")[-2]: p.role for name, p in parameters.items() if "ln_" in name}
    assert norms == {
        "ln_1": "pre_attention_norm",
        "ln_2": "pre_mlp_norm",
        "ln_cross_attn": "pre_attention_norm",
        "ln_f": "final_norm",
    }


def test_a_model_with_unknown_roles_says_which_and_how_to_give_them():
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=2, vocab_size=40)
    stats = ParameterStatistics.from_model(build(AutoModelForCausalLM, config, {}, 0), "mamba")
    message = r"attention_scale needs the role .* backbone.layers.\*.mixer.A_log, .* roles=\{'b"
    with pytest.raises(UsageError, match=message):
        StatisticsInit(AutoModelForCausalLM, scheme="attention_scale").from_config(config, stats)

    # The default scheme needs no role.
    StatisticsInit(AutoModelForCausalLM).from_config(config, stats)

    roles = {"*mixer.*": "mlp", "*.norm.weight": "pre_mlp_norm"}
    factory = StatisticsInit(AutoModelForCausalLM, scheme="pre_mlp_ln_scale", roles=roles)
    assert list(factory.groups(config)) == [f"backbone.layers.{i}.norm.weight" for i in (0, 1)]

    for bad, message in (
        ({"*mixer.*": "mixer"}, "Unknown role 'mixer'"),
        ({"*mixture*": "mlp"}, "fits no parameter"),
    ):
        with pytest.raises(UsageError, match=message):
            StatisticsInit(AutoModelForCausalLM, roles=bad).from_config(config, stats)


ONE_LAYER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


OTHER_PARAMETERS = [
    (
        "vit",
        ONE_LAYER | {"image_size": 8, "patch_size": 4},
        {"cls_token": "other", "position_embeddings": "position"},
    ),
    (
        "swin",
        {"embed_dim": 8, "depths": [1], "num_heads": [2], "image_size": 8},
        {"relative_position_bias_table": "position"},
    ),
    (
        "gpt_oss",
        ONE_LAYER | {"num_key_value_heads": 1, "head_dim": 8, "num_local_experts": 2},
        {"sinks": "other"},
    ),
    (
        "wav2vec2",
        ONE_LAYER,
        {"conv_layers.0.conv.weight": "projection", "masked_spec_embed": "other"},
    ),
]


@pytest.mark.parametrize(
    ("model_type", "fields", "expected"),
    OTHER_PARAMETERS,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_modules_weight_is_a_position_or_by_itself(model_type, fields, expected):
    config = AutoConfig.for_model(model_type, **fields)
    roles = {name: p.role for name, p in read_parameters(skeleton(AutoModel, config)).items()}
    assert None not in roles.values()
    for ending, role in expected.items():
        assert {roles[name] for name in roles if name.endswith(ending)} == {role}, ending

    # No scheme pools the others.
    others = {name for name, role in roles.items() if role == "other"}
    for scheme in ("whole_model_scale", "across_layers_scale", "per_layer_scale"):
        groups = StatisticsInit(AutoModel, scheme=scheme).groups(config).values()
        pooled = [names for names in groups if len(names) > 1]
        assert pooled
        assert not [names for names in pooled if others & set(names)]
