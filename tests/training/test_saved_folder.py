"""What a pre-training leaves: a tokenizer that knows its model, or none; config and event files.

Run: pytest tests/training/test_saved_folder.py
"""

import json
from dataclasses import replace

import pytest
from pretraining_runs import SPEC, STREAM_MODELS
from small_models import DECODER, TINY
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

from hf_synpre import StatisticsInit
from hf_synpre.errors import UsageError
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training import pretraining

SHORT = replace(SPEC, training={"max_steps": 1, "use_cpu": True, "per_device_train_batch_size": 2})


@pytest.fixture
def tokenizer():
    """A tokenizer of words without a pad token and without a longest text."""
    ids = {"<unk>": 0, "<eos>": 1} | {f"w{i}": 2 + i for i in range(60)}
    words = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>")


@pytest.mark.parametrize(
    ("overrides", "longest"), [({"n_positions": 40}, 40), ({"n_positions": 16}, 16)]
)
def test_the_saved_tokenizer_says_what_the_config_does(overrides, longest, tokenizer, tmp_path):
    model = ModelSpec("gpt2", overrides=STREAM_MODELS["gpt2"] | overrides)
    spec = replace(SHORT, vocabulary=None)
    result = pretraining.pretrain(spec, model, tmp_path / "run", tokenizer=tokenizer)
    saved, config = (kind.from_pretrained(tmp_path / "run") for kind in (AutoTokenizer, AutoConfig))
    assert saved.pad_token_id == config.pad_token_id
    assert saved.pad_token is not None
    assert saved.model_max_length == longest
    assert len(saved("w1 " * 99, truncation=True)["input_ids"]) == longest
    assert tokenizer.pad_token is None, "the caller's is not changed"
    assert config.use_cache is True
    assert (result["processes"], result["threads"]) == (1, 1)


MODELS = {
    "t5": ModelSpec(overrides=TINY),
    "gpt2": ModelSpec("gpt2", overrides=STREAM_MODELS["gpt2"]),
}


@pytest.mark.parametrize(("name", "ends"), [("t5", [1]), ("gpt2", [])])
def test_the_saved_tokenizer_of_an_encoder_decoder_ends_a_text(name, ends, tokenizer, tmp_path):
    """Other programs train an encoder-decoder on what its tokenizer gives, as they train T5."""
    spec = replace(SHORT, vocabulary=None)
    pretraining.pretrain(spec, MODELS[name], tmp_path / "run", tokenizer=tokenizer)
    saved = AutoTokenizer.from_pretrained(tmp_path / "run")
    encoded = saved("w1 w2", text_target="w3")
    assert (encoded["input_ids"], encoded["labels"]) == ([3, 4, *ends], [5, *ends])
    assert tokenizer("w1")["input_ids"] == [3], "the caller's is not changed"


class EventFiles(TrainerCallback):
    """Writes what TensorBoard's callback would, where it would."""

    def on_train_begin(self, args, state, control, **kwargs):
        folder = pretraining.Path(args.output_dir) / "runs" / "today"
        folder.mkdir(parents=True)
        (folder / "events.out.tfevents.1").write_text("loss")


def test_event_files_stay_and_a_folder_without_tokenizer_is_refused(tmp_path, monkeypatch):
    make = pretraining.pretraining_trainer

    def with_event_files(*given):
        trainer = make(*given)
        trainer.add_callback(EventFiles())
        return trainer

    monkeypatch.setattr(pretraining, "pretraining_trainer", with_event_files)
    model = ModelSpec("bert", overrides=STREAM_MODELS["bert"])
    pretraining.pretrain(SHORT, model, tmp_path / "run")
    assert (tmp_path / "run" / "runs" / "today" / "events.out.tfevents.1").exists()
    note = json.loads((tmp_path / "run" / "tokenizer_config.json").read_text())["note"]
    assert "has no tokenizer" in note
    with pytest.raises(ValueError, match="tokenizer"):
        AutoTokenizer.from_pretrained(tmp_path / "run")


def test_statistics_of_experts_have_the_names_of_the_model(tmp_path):
    """Its files hold a tensor for each expert; transformers joins them when it loads them."""
    fields = DECODER | {"num_key_value_heads": 2, "num_local_experts": 4}
    del fields["vocab_size"]
    model = ModelSpec("mixtral", overrides=fields)
    spec = replace(SHORT, batching="padded", row_length=None)
    pretraining.pretrain(spec, model, tmp_path / "run")
    drawn = StatisticsInit(AutoModelForCausalLM, seed=0).from_pretrained(tmp_path / "run")
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    sds = {name: parameter.std().item() for name, parameter in trained.named_parameters()}
    for name, parameter in drawn.named_parameters():
        if "experts" in name and parameter.dim() == 3:
            assert parameter.std().item() == pytest.approx(sds[name], rel=0.1)


@pytest.mark.parametrize(
    "content", ['{"tokens": 1}', '{"tokens": 1, "flops": "x"}', '{"tokens": 1, "before": [2]}']
)
def test_a_result_without_its_cost_is_refused(content, tmp_path):
    (tmp_path / "pretraining.json").write_text(content)
    with pytest.raises(UsageError, match="is not what a pre-training writes: its tokens and flops"):
        pretraining.accumulated_cost(tmp_path)
