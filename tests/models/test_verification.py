"""What was saved is what is loaded: each stored tensor against that of the loaded model.

Run: pytest tests/models/test_verification.py
"""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import DECODERS, WEIGHTS, rewrite_weights, t5
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaForCausalLM,
)

from hf_synpre import StatisticsInit, UsageError, verify_checkpoint
from hf_synpre.initialization import build
from hf_synpre.models.verification import say_if_not_whole


class Redrawn(LlamaForCausalLM):
    """A class of the kind whose weights transformers v5 draws again after it has loaded them."""

    def __init__(self, config):
        super().__init__(config)
        # Which is in no file, so that the module does not count as loaded.
        self.lm_head.register_buffer("scale", torch.ones(1), persistent=False)

    def _init_weights(self, module):
        if isinstance(module, torch.nn.Linear):
            module.weight.data.normal_(0, 0.02)


def saved(folder, model_type, **fields):
    """Save a decoder of two layers with a random init; return its folder."""
    config = AutoConfig.for_model(model_type, **DECODERS[model_type], **fields)
    build(AutoModelForCausalLM, config, {}, 0).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("gpt2", {"vocab_size": 40}),
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("mixtral", {}),  # whose experts lie otherwise in files than in memory
    ],
)
def test_a_saved_model_is_what_is_loaded(tmp_path, model_type, fields):
    report = verify_checkpoint(saved(tmp_path / "model", model_type, **fields))
    assert report.is_whole
    assert set(report.equal) == load_file(tmp_path / "model" / WEIGHTS).keys()
    assert bool(report.tied) == (model_type == "gpt2" or bool(fields))


def test_tied_tensors_are_named(tmp_path):
    build(AutoModelForSeq2SeqLM, t5(), {}, 0).save_pretrained(tmp_path / "model")
    report = verify_checkpoint(tmp_path / "model")
    assert "lm_head.weight" in report.tied
    assert "3 tied to stored ones (encoder.embed_tokens.weight" in str(report)


def test_a_class_whose_weights_are_redrawn_is_found_out(tmp_path):
    folder = saved(tmp_path / "model", "llama")
    report = verify_checkpoint(folder, Redrawn)
    assert not report.is_whole
    assert report.different == ("lm_head.weight",)
    assert str(report).endswith("; 1 loaded with other numbers (lm_head.weight)")
    assert verify_checkpoint(folder).is_whole


def test_missing_and_left_over_tensors_are_named(tmp_path):
    folder = saved(tmp_path / "model", "llama")
    tensors = load_file(folder / WEIGHTS)
    tensors["model.extra.weight"] = tensors.pop("model.norm.weight")
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    report = verify_checkpoint(folder)
    assert (report.missing, report.left_over) == (("model.norm.weight",), ("model.extra.weight",))
    assert str(report).endswith(
        "20 of 21 stored tensors equal those of the loaded LlamaForCausalLM; "
        "1 with no place in the model (model.extra.weight); "
        "1 not stored, drawn at random (model.norm.weight)"
    )


def test_bfloat16_is_compared_exactly(tmp_path):
    folder = saved(tmp_path / "model", "llama")
    rewrite_weights(folder, lambda name, tensor: tensor.bfloat16() if "proj" in name else tensor)
    assert verify_checkpoint(folder).is_whole


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"There is no folder .*; give the folder of a saved model"
    ):
        verify_checkpoint(tmp_path / "none")
    folder = saved(tmp_path / "model", "llama")
    rewrite_weights(folder, lambda name, tensor: tensor[:2].contiguous())
    with pytest.raises(UsageError, match="cannot be loaded as LlamaForCausalLM"):
        verify_checkpoint(folder)


def test_weights_that_are_drawn_again_are_not_taken_in_silence(tmp_path):
    folder = saved(tmp_path / "model", "llama")
    init = StatisticsInit(Redrawn, scheme="weights")
    with pytest.raises(UsageError, match=r"lm_head\.weight was loaded with other numbers than"):
        init.from_pretrained(folder)
    StatisticsInit(LlamaForCausalLM, scheme="weights").from_pretrained(folder)


def test_a_finished_run_says_where_its_folder_is_loaded_otherwise(tmp_path, caplog):
    folder = saved(tmp_path / "model", "llama")
    say_if_not_whole(folder, LlamaForCausalLM)
    assert not caplog.text
    say_if_not_whole(folder, Redrawn)
    assert "What is loaded is not what was saved" in caplog.text
    rewrite_weights(folder, lambda name, tensor: tensor[:2].contiguous())
    say_if_not_whole(folder, LlamaForCausalLM)
    assert "What was saved cannot be loaded" in caplog.text
