"""StatisticsInit: numbers depend on (seed, name); transformers' keywords; refused options.

Run: pytest tests/initialization/test_statistics_init.py
"""

import shutil

import numpy as np
import pytest
import torch
from small_models import (
    BERT,
    DECODERS,
    EMBEDDING,
    SEQ2SEQ,
    assert_equal,
    t5,
    with_distinct_moments,
)
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    T5ForConditionalGeneration,
)

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.initialization import (
    SCHEMES,
    build,
    embedding_names,
    read_parameters,
    scale_layers,
    tensor_generator,
)
from hf_synpre.initialization.draws import Draws
from hf_synpre.initialization.unigrams import UNIGRAM_SCHEME


def test_numbers_depend_on_seed_and_name_only(t5_checkpoint):
    stats = ParameterStatistics.from_pretrained(t5_checkpoint)
    config = AutoConfig.from_pretrained(t5_checkpoint)

    def tensors(**options):
        init = StatisticsInit(T5ForConditionalGeneration, **options)
        return init.from_config(config, stats).state_dict()

    # The seed.
    one, two, other = tensors(seed=5), tensors(seed=5), tensors(seed=6)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)

    # The name.
    name = "encoder.block.0.layer.1.DenseReluDense.wi.weight"
    moments = stats.parameters[name]
    draws = torch.randn(one[name].shape, generator=tensor_generator(5, name))
    torch.testing.assert_close(one[name], draws * moments.sd + moments.mean)

    # Not what else is drawn; this holds for fresh numbers too.
    part = tensors(seed=5, include=["mlp"])
    assert torch.equal(part[name], one[name])
    assert torch.equal(part[EMBEDDING], one[EMBEDDING])
    smaller = build(AutoModelForSeq2SeqLM, t5(), {}, 5)
    assert torch.equal(smaller.shared.weight, one[EMBEDDING])


def test_a_body_has_the_same_numbers_under_any_head(tmp_path):
    config = AutoConfig.for_model("bert", **BERT)
    with_distinct_moments(build(AutoModelForMaskedLM, config, {}, 0)).save_pretrained(tmp_path)
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


def test_initialising_leaves_the_global_generator_alone(t5_checkpoint):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    SEQ2SEQ().from_pretrained(t5_checkpoint)
    assert torch.equal(torch.rand(3), expected)


def test_the_default_dtype_changes_no_number(llama_checkpoint):
    def draw():
        init = StatisticsInit(AutoModelForCausalLM)
        return init.from_pretrained(llama_checkpoint, dtype=torch.float32).state_dict()

    before = draw()
    torch.set_default_dtype(torch.float64)
    try:
        after = draw()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s != UNIGRAM_SCHEME])
def test_round_trip_is_bit_equal(t5_checkpoint, tmp_path, scheme):
    model = SEQ2SEQ(scheme=scheme).from_pretrained(t5_checkpoint)
    model.save_pretrained(tmp_path / "again")
    assert_equal(model, AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again"))


def test_bfloat16_is_the_rounded_float32(t5_checkpoint):
    single = SEQ2SEQ().from_pretrained(t5_checkpoint)
    half = SEQ2SEQ().from_pretrained(t5_checkpoint, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert_equal(single.to(torch.bfloat16), half)

    # The config may ask for it too.
    config = AutoConfig.from_pretrained(t5_checkpoint)
    config.dtype = torch.bfloat16
    assert_equal(half, SEQ2SEQ().from_config(config, t5_checkpoint))
    config.save_pretrained(t5_checkpoint)
    assert_equal(half, SEQ2SEQ().from_pretrained(t5_checkpoint))
    assert SEQ2SEQ().from_config(config, t5_checkpoint, dtype=torch.float32).dtype == torch.float32


def test_keywords_reach_transformers(t5_checkpoint, tmp_path):
    (t5_checkpoint / "generation_config.json").write_text(
        '{"max_new_tokens": 7, "decoder_start_token_id": 0}'
    )
    model, info = SEQ2SEQ().from_pretrained(
        t5_checkpoint,
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

    shutil.copytree(t5_checkpoint, tmp_path / "repo" / "part")
    assert_equal(model, SEQ2SEQ().from_pretrained(tmp_path / "repo", subfolder="part"))
    assert_equal(model, SEQ2SEQ().from_pretrained(t5_checkpoint, config=str(t5_checkpoint)))
    with pytest.raises(UsageError, match="runs no remote code"):
        SEQ2SEQ().from_pretrained(t5_checkpoint, trust_remote_code=True)


def test_calls_of_transformers_own_form_work(llama_checkpoint, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    factory = StatisticsInit(AutoModelForCausalLM, exclude=None, value=np.float32(0.4))
    model = factory.from_pretrained(pretrained_model_name_or_path=llama_checkpoint)
    assert model.config.hidden_size == 16
    ours = StatisticsInit(AutoModelForSeq2SeqLM, scheme="pre_attn_ln_scale")
    assert ours.from_pretrained("synpre/t5-mini-set", revision="main").config.d_model == 128


@pytest.mark.gpu
def test_an_accelerator_gets_the_same_numbers(t5_checkpoint):
    assert_equal(
        SEQ2SEQ().from_pretrained(t5_checkpoint),
        SEQ2SEQ().from_pretrained(t5_checkpoint, device_map="cuda").cpu(),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "per_param_mean"}, "Did you mean 'per_param_mean_sd'"),
        ({"resize": "fan"}, "Unknown resize 'fan'"),
        ({"seed": -1}, "seed is -1; give an integer in 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"value": float("nan")}, "value is nan; give a finite number"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        SEQ2SEQ(**options)


def test_what_is_no_model_class_is_refused():
    with pytest.raises(UsageError, match="was given 'gpt2'; give a model class of transformers"):
        StatisticsInit("gpt2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roles": "x"}, "give a mapping of parameter names"),
        ({"include": [3]}, "include holds 3; give names of parts"),
    ],
)
def test_odd_options_are_named(options, message, llama_checkpoint):
    with pytest.raises(UsageError, match=message):
        StatisticsInit(AutoModelForCausalLM, **options).from_pretrained(llama_checkpoint)


def test_a_scheme_without_its_statistics_is_named():
    with pytest.raises(UsageError, match="Scheme mlp_scale needs statistics; give them"):
        SEQ2SEQ(scheme="mlp_scale").from_config(t5())


def test_a_folder_without_a_config_is_named(tmp_path, t5_checkpoint):
    (t5_checkpoint / "config.json").unlink()
    with pytest.raises(UsageError, match=r"holds no config\.json of a transformers model"):
        SEQ2SEQ().from_pretrained(t5_checkpoint)
    config = t5(num_layers=2, num_decoder_layers=2)
    model = SEQ2SEQ().from_pretrained(t5_checkpoint, config=config)
    assert model.shared.weight.shape == (64, 32)


@pytest.mark.parametrize("model_type", DECODERS)
def test_the_matrices_of_the_layers_are_scaled_and_nothing_else(model_type):
    config = AutoConfig.for_model(model_type, **DECODERS[model_type] | {"vocab_size": 40})
    model = build(AutoModelForCausalLM, config, {}, seed=0)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    scale_layers(model, 0.5)

    # A norm, a bias or a table has one axis, or lies outside of the layers.
    changed = {
        name for name, old in before.items() if not torch.equal(old, model.get_parameter(name))
    }
    parts = {p.part for name, p in read_parameters(model).items() if name in changed}
    assert parts
    assert parts <= {"attention", "mlp", "projection", None}
    for name in changed:
        assert before[name].dim() > 1
        assert torch.equal(before[name] * 0.5, model.get_parameter(name))
    assert not changed & embedding_names(model)
    wide = {name for name, old in before.items() if ".0." in name and old.dim() == 2 and old.any()}
    assert wide == {name for name in changed if ".0." in name and before[name].dim() == 2}


def test_every_tensor_is_made_once(llama_checkpoint, monkeypatch):
    made = []
    draw = Draws.tensor
    monkeypatch.setattr(Draws, "tensor", lambda self, name: made.append(name) or draw(self, name))
    model = StatisticsInit(AutoModelForCausalLM).from_pretrained(llama_checkpoint)
    assert sorted(made) == sorted(model.load_report.loaded)
