"""Architectures of a run: fields of a YAML or flags, or a config file, become a config.

Run: pytest tests/models/test_model_spec.py
"""

import json

import pytest
from pretraining_runs import MODEL
from small_models import DECODER, TINY

from hf_synpre import UsageError
from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.models.spec import ModelSpec
from hf_synpre.vocabulary import as_vocabulary


def test_a_config_file_is_an_architecture(tmp_path):
    MODEL.config(as_vocabulary(48)).save_pretrained(tmp_path)
    config = ModelSpec(
        config_name=str(tmp_path / "config.json"), overrides={"num_layers": 3}
    ).config(as_vocabulary(99))
    assert (config.d_model, config.num_layers, config.vocab_size) == (TINY["d_model"], 3, 99)


def test_the_id_that_begins_a_text_is_the_tokenizers():
    """That of a new Llama's config is 1, whatever the tokenizer."""
    tokenizer = train_tokenizer(["a b c"], 300)
    model = ModelSpec("llama", overrides={"num_hidden_layers": 1})
    end = tokenizer.convert_tokens_to_ids("<unk>")
    tokenizer.eos_token = "<unk>"
    assert model.config(as_vocabulary(tokenizer)).bos_token_id == end
    tokenizer.bos_token = "a"
    begin = tokenizer.convert_tokens_to_ids("a")
    assert model.config(as_vocabulary(tokenizer)).bos_token_id == begin
    given = ModelSpec("llama", overrides={"bos_token_id": 7})
    assert given.config(as_vocabulary(tokenizer)).bos_token_id == 7
    assert not hasattr(ModelSpec("t5").config(as_vocabulary(tokenizer)), "bos_token_id")


def test_a_config_that_is_read_keeps_its_begin_where_the_tokenizer_has_none(tmp_path):
    ModelSpec("llama", overrides={"bos_token_id": 7}).config(as_vocabulary(48)).save_pretrained(
        tmp_path
    )
    config = ModelSpec(config_name=str(tmp_path)).config(as_vocabulary(99))
    assert config.bos_token_id == 7


@pytest.mark.parametrize(
    ("model_type", "overrides", "cause"),
    [
        ("bamba", {"hidden_size": 32}, "BambaConfig refuses its fields.*mamba_n_heads must divide"),
        ("gemma4_assistant", {}, "Gemma4AssistantConfig refuses its fields"),
        ("dbrx", {}, "architecture dbrx cannot be built.*give other fields, or another"),
        ("vit", {}, "ViTConfig has no language model in transformers; give another model_type"),
    ],
)
def test_architectures_that_do_not_fit_are_refused_by_name(model_type, overrides, cause):
    with pytest.raises(UsageError, match=cause):
        ModelSpec(model_type, overrides=overrides).validate()


def test_the_text_of_an_architecture_with_pictures_has_the_vocabulary():
    text = {name: size for name, size in DECODER.items() if name != "vocab_size"}
    config = ModelSpec("gemma3", overrides={"text_config": text}).config(as_vocabulary(48))
    assert config.text_config.vocab_size == 48
    assert config.text_config.num_hidden_layers == DECODER["num_hidden_layers"]
    ids = [config.text_config.pad_token_id, config.text_config.eos_token_id]
    assert max(ids) < 48


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_layers", 2**31 - 1),
        ("num_labels", 2**40),
        ("text_config", {"num_hidden_layers": 9999}),
    ],
)
def test_a_model_that_nobody_can_build_is_refused_before_it_is_begun(name, value, tmp_path):
    MODEL.config(as_vocabulary(48)).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    message = r"The field num_\w+ of a config is \d+; give at most"
    with pytest.raises(UsageError, match=message):
        ModelSpec(config_name=str(tmp_path)).validate()
    with pytest.raises(UsageError, match=message):
        ModelSpec("t5", overrides={name: value}).validate()
