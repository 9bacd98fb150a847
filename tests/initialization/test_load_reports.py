"""What a StatisticsInit says of its model: what was loaded, other vocabularies, names, texts.

Run: pytest tests/initialization/test_load_reports.py
"""

import logging

import pytest
import torch
from small_models import BERT, SEQ2SEQ, llama, t5
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    OpenAIGPTConfig,
)

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.initialization import SCHEMES, build, checkpoint_config


def test_a_model_says_what_came_from_the_checkpoint(llama_checkpoint, caplog):
    with caplog.at_level(logging.INFO, "hf_synpre"):
        model = StatisticsInit(AutoModelForSequenceClassification).from_pretrained(llama_checkpoint)
    report = model.load_report
    assert report.missing == ("score.weight",)
    assert report.fresh == ("model.embed_tokens.weight",)
    assert report.left_over == ("lm_head.weight",)
    assert len(report.loaded) == len(list(model.parameters())) - 2
    assert f"{len(report.loaded)} tensors drawn; 1 missing in the checkpoint (score" in caplog.text
    html = report._repr_html_()
    assert "<td>missing in the checkpoint</td><td>1</td><td>score.weight</td>" in html


def test_a_larger_model_says_which_tensors_have_another_shape(llama_checkpoint):
    config = llama(hidden_size=32, vocab_size=50)
    report = StatisticsInit(AutoModelForCausalLM).from_config(config, llama_checkpoint).load_report
    assert "model.norm.weight" in report.other_shape
    assert "model.layers.0.mlp.up_proj.weight" in report.as_json()["first_other_shape"]


def test_nothing_to_load_is_an_error(llama_checkpoint):
    init = StatisticsInit(AutoModelForSequenceClassification, include=["score*"])
    with pytest.raises(UsageError, match=r"lack score.weight of the model's parameters"):
        init.from_pretrained(llama_checkpoint)


@pytest.mark.parametrize(
    ("model_type", "auto"), [("llama", AutoModelForCausalLM), ("bert", AutoModelForMaskedLM)]
)
def test_another_vocabulary_has_fresh_embeddings_or_the_way_out_is_named(
    tmp_path, model_type, auto
):
    fields = BERT | {"num_key_value_heads": 2} if model_type == "llama" else BERT
    build(auto, AutoConfig.for_model(model_type, **fields), {}, 0).save_pretrained(tmp_path)
    config = AutoConfig.for_model(model_type, **fields | {"vocab_size": 56})
    for options in (
        {},
        {"scheme": "body_weights"},
        {"scheme": "weights", "exclude": ["embedding"]},
    ):
        model = StatisticsInit(auto, **options).from_config(config, tmp_path)
        assert len(model.get_input_embeddings().weight) == 56
        assert any("embed" in name for name in model.load_report.fresh)
    with pytest.raises(
        UsageError, match=r"\[40, 16\] in the checkpoint and \[56, 16\] .*body_weig"
    ):
        StatisticsInit(auto, scheme="weights").from_config(config, tmp_path)


def test_a_model_drawn_from_statistics_has_the_name_of_no_checkpoint(llama_checkpoint):
    init = StatisticsInit(AutoModelForCausalLM)
    config = AutoConfig.from_pretrained(llama_checkpoint)
    for model in (
        init.from_pretrained(llama_checkpoint),
        init.from_config(config, llama_checkpoint),
    ):
        assert (model.name_or_path, model.config._name_or_path) == ("", "")
    assert config._name_or_path == str(llama_checkpoint)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((t5(), 5), "statistics is 5; give a ParameterStatistics, or a checkpoint's folder"),
        (("x", "y"), "config is 'x'; give a config of transformers"),
        ((t5(), "./gone"), "There is no folder ./gone"),
    ],
)
def test_what_is_no_config_or_checkpoint_is_said(arguments, message):
    with pytest.raises(UsageError, match=message):
        SEQ2SEQ().from_config(*arguments)


@pytest.mark.parametrize("take", [SEQ2SEQ().from_pretrained, ParameterStatistics.from_pretrained])
def test_an_unknown_checkpoint_is_one_line(take):
    with pytest.raises(UsageError, match="The checkpoint is 5; give a folder or a Hub id"):
        take(5)
    with pytest.raises(
        UsageError, match=r"The package has no checkpoint synpre/none\. It has "
    ) as error:
        take("synpre/none", local_files_only=True)
    assert "\n" not in str(error.value)


def test_texts_say_what_the_objects_are(llama_checkpoint):
    stats = ParameterStatistics.from_pretrained(llama_checkpoint)
    assert repr(stats).startswith(f"<ParameterStatistics of {llama_checkpoint}: 21 parameters, ")
    assert "<td>model.norm.weight</td><td>16</td><td>1</td><td>0</td>" in stats._repr_html_()
    init = StatisticsInit(AutoModelForCausalLM, seed=3, exclude=["norm"], resize="none")
    assert repr(init) == (
        "StatisticsInit(AutoModelForCausalLM, scheme='per_param_mean_sd', seed=3, "
        "exclude=['norm'], resize='none')"
    )
    assert repr(SCHEMES["weights"]) == "<Scheme weights: the checkpoint's own values>"
    hostile = ParameterStatistics("<b>", stats.parameters)
    assert "<b>" not in hostile._repr_html_()


def test_the_config_of_a_checkpoint_of_the_package_and_of_an_adapter(tmp_path, llama_checkpoint):
    assert checkpoint_config("synpre/t5-mini-set").model_type == "t5"
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    content = f'{{"base_model_name_or_path": "{llama_checkpoint}"}}'
    (adapter / "adapter_config.json").write_text(content)
    assert checkpoint_config(adapter).model_type == "llama"
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="names no base model"):
        checkpoint_config(adapter)


def test_parameters_that_a_class_forgets_to_initialise_are_drawn(tmp_path):
    config = OpenAIGPTConfig(n_embd=32, n_layer=1, n_head=2, vocab_size=64)
    one, two = (build(AutoModelForCausalLM, config, {}, 0) for _ in range(2))
    for (name, parameter), other in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.isfinite(parameter).all(), name
        assert torch.equal(parameter, other)
    weight = one.transformer.h[0].attn.c_attn.weight
    assert weight.std().item() == pytest.approx(config.initializer_range, rel=0.1)
    assert not one.transformer.h[0].attn.c_attn.bias.any()
