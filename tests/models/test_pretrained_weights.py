"""A checkpoint's weights in a model: wrapped names, padded embeddings, what was not loaded.

Run: pytest tests/models/test_pretrained_weights.py
"""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import BERT, WEIGHTS
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from hf_synpre import UsageError
from hf_synpre.initialization import build, skeleton
from hf_synpre.models.pretrained_weights import take_weights

QUERY = "bert.encoder.layer.0.attention.self.query.weight"


def bert(seed, model_class=AutoModelForMaskedLM, **fields):
    return build(model_class, AutoConfig.for_model("bert", **BERT | fields), {}, seed)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "base_model.model.", "backbone."])
@pytest.mark.parametrize("pickled", [None, "weights", "state_dict", "model"])
def test_weights_are_found_under_a_wrappers_names(tmp_path, prefix, pickled):
    bert(1).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    (tmp_path / WEIGHTS).unlink()
    wrapped = {prefix + name: tensor for name, tensor in tensors.items()}
    if pickled:
        nested = {pickled: wrapped, "optimizer": {"lr": 1.0}, "step": 3}
        content = wrapped if pickled == "weights" else nested
        torch.save(content, tmp_path / "pytorch_model.bin")
    else:
        save_file(wrapped, tmp_path / WEIGHTS)

    model = bert(2)
    report = take_weights(model, tmp_path, head=True)
    assert (report.missing, report.left_over, report.fresh) == ((), (), ())
    assert torch.equal(model.get_parameter(QUERY), tensors[QUERY])


def test_a_checkpoint_of_which_nothing_fits_is_an_error(tmp_path):
    bert(1).save_pretrained(tmp_path)
    save_file({"student.x": torch.ones(2)}, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=r"none of its tensors belongs to a BertForMaskedLM .the"):
        take_weights(bert(2), tmp_path, head=True)


def test_a_padding_id_that_an_architecture_cannot_have_is_named():
    fields = {**BERT, "max_position_embeddings": 24, "vocab_size": 64, "pad_token_id": 50}
    config = AutoConfig.for_model("roberta", **fields)
    with pytest.raises(UsageError, match=r"roberta cannot be built .* 50 is padding"):
        build(AutoModelForMaskedLM, config, {}, 1)
    with pytest.raises(UsageError, match=r"roberta cannot be built .* 50 is padding"):
        skeleton(AutoModelForMaskedLM, config)


def test_a_checkpoint_with_the_model_twice_is_refused(tmp_path):
    bert(1).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    twice = {f"{who}.{k}": v.clone() for who in ("student", "teacher") for k, v in tensors.items()}
    save_file(twice, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=r"several times, below student. and teacher.; save the"):
        take_weights(bert(2), tmp_path, head=True)


def test_what_was_not_loaded_is_counted_and_in_the_log(tmp_path, caplog):
    bert(1).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    del tensors[QUERY]
    save_file(tensors | {"extra.weight": torch.ones(2)}, tmp_path / WEIGHTS)
    with caplog.at_level(logging.INFO, "hf_synpre"):
        report = take_weights(bert(2), tmp_path, "fresh")
    assert report.missing == (QUERY.removeprefix("bert."),)
    assert "extra.weight" in report.left_over
    assert report.fresh == ("embeddings.word_embeddings.weight",)
    assert caplog.records[-1].levelname == "WARNING"
    assert f"1 missing in the checkpoint ({report.missing[0]})" in caplog.text
    content = report.as_json()
    assert (content["missing"], content["first_missing"]) == (1, [report.missing[0]])
    assert content["loaded"] == len(report.loaded) > 30


def test_rows_of_padding_are_left_out_where_the_ids_are_the_same(tmp_path):
    padded = bert(1, vocab_size=48)
    padded.save_pretrained(tmp_path)
    model = bert(2)
    with pytest.raises(UsageError, match='the same sizes and vocabulary, or embeddings "fresh"'):
        take_weights(model, tmp_path, head=True)
    take_weights(model, tmp_path, head=True, same_ids=True)
    assert torch.equal(
        model.get_input_embeddings().weight, padded.get_input_embeddings().weight[:40]
    )
    assert torch.equal(model.cls.predictions.bias, padded.cls.predictions.bias[:40])


def test_a_tensor_of_another_shape_than_its_config_says_is_named(tmp_path):
    bert(1).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file(tensors | {QUERY: torch.ones(3, 3)}, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=r"has shape \[3, 3\], its config.json says \[16, 16\]"):
        take_weights(bert(2, AutoModelForSequenceClassification), tmp_path)


@pytest.mark.parametrize("content", [b"no pickle", b"\x80\x04c__builtin__\nprint\n."])
def test_a_pickle_that_is_not_of_tensors_is_one_line(tmp_path, content):
    bert(1).save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot be read as tensors"):
        take_weights(bert(2), tmp_path)


def test_a_pickle_without_tensors_and_files_that_are_missing_are_one_line(tmp_path):
    bert(1).save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    torch.save({"epoch": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="holds no tensors by name"):
        take_weights(bert(2), tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    index = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match=r"00002.bin is missing, though the index of the"):
        take_weights(bert(2), tmp_path)
