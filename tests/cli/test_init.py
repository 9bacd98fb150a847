"""`synpre init`: a folder that transformers loads, from statistics or by a scheme without them.

Run: pytest tests/cli/test_init.py
"""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from small_models import assert_equal
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LlamaConfig,
)

from hf_synpre import StatisticsInit, UsageError
from hf_synpre.cli import main
from hf_synpre.hub import plan_push
from hf_synpre.initialization import SCHEMES, build, checkpoint_config, skeleton

T5 = "synpre/t5-mini-set"
LLAMA = "synpre/llama-mini-set"


def start(*words):
    assert main(["init", *words]) == 0


def refusal(capsys, *words):
    assert main(["init", *words]) == 2
    return capsys.readouterr().err


def test_a_name_without_its_namespace_is_said_whole(capsys, tmp_path):
    said = refusal(capsys, "--from", "llama-mini-set", "-o", str(tmp_path / "start"))
    assert "There is no folder llama-mini-set; give synpre/llama-mini-set, whose stat" in said


def test_a_folder_of_such_a_name_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start("--from", LLAMA, "-o", "llama-mini-set")
    start("--from", "./llama-mini-set", "--scheme", "per_param_mean_sd", "-o", "again")
    start("llama-mini-set", "--scheme", "mimetic", "-o", "alone")
    assert "alone: Scheme mimetic, without a checkpoint" in capsys.readouterr().out


def test_a_folder_that_is_called_as_an_architecture_is_read_by_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start("--from", LLAMA, "-o", "llama")
    start("--from", "llama", "--scheme", "per_param_mean_sd", "-o", "again")
    sizes = [checkpoint_config(f"./{name}") for name in ("llama", "again")]
    assert sizes[0].hidden_size == sizes[1].hidden_size
    small = ["--config_overrides", "hidden_size=32,num_hidden_layers=1,intermediate_size=32"]
    start("llama", *small, "--vocabulary", "64", "--scheme", "mimetic", "-o", "alone")
    said = capsys.readouterr().err
    assert "llama is taken for the architecture of transformers; write ./llama for the" in said


def test_the_folder_has_what_statistics_init_draws(tmp_path, capsys):
    folder = tmp_path / "start"
    start("--from", T5, "--seed", "3", "-o", str(folder))
    said = capsys.readouterr().out
    assert f"{folder}: {T5}: 46 tensors drawn" in said
    assert "The model is not trained" in said

    loaded, info = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    drawn = StatisticsInit(AutoModelForSeq2SeqLM, seed=3).from_config(checkpoint_config(T5), T5)
    assert_equal(loaded, drawn)

    # Its ids are those of no text; the card and the file say where the weights come from.
    with pytest.raises((OSError, ValueError)):
        AutoTokenizer.from_pretrained(folder)
    card = (folder / "README.md").read_text()
    assert f"A T5ForConditionalGeneration of {drawn.num_parameters():,} parameters" in card
    assert f"from `{T5}`, seed 3" in card
    assert "arXiv 2206.10139" in card
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata().items() >= {"scheme": "per_param_mean_sd", "tokens": "0"}.items()


def test_another_size_a_tokenizer_and_a_dtype(tmp_path, encoder_tokenizer, capsys):
    encoder_tokenizer.save_pretrained(tmp_path / "ids")
    fields = "hidden_size=32,intermediate_size=48,num_hidden_layers=1"
    fields += ",num_attention_heads=4,num_key_value_heads=2,head_dim=8"
    words = ("--config_overrides", fields, "--dtype", "bfloat16")
    words += ("--tokenizer_name", str(tmp_path / "ids"), "-o", str(tmp_path / "start"))
    start("llama", "--from", LLAMA, *words)

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "start")
    assert model.dtype == torch.bfloat16
    assert model.config.num_hidden_layers == 1
    assert model.config.vocab_size == len(encoder_tokenizer)
    stored = AutoTokenizer.from_pretrained(tmp_path / "start")
    assert stored.get_vocab() == encoder_tokenizer.get_vocab()
    record = json.loads((tmp_path / "start" / "initialization.json").read_text())
    assert record["from"] == LLAMA
    assert record["weights"]["other_shape"] > 0
    resized = r"(\d+) tensors drawn; \d+ of them in another size than the checkpoint's \(model"
    assert re.search(resized, capsys.readouterr().out)

    # The tokenizer of a start goes on into the next one.
    again = tmp_path / "again"
    start("--from", str(tmp_path / "start"), "--scheme", "permuted_weights", "-o", str(again))
    assert AutoTokenizer.from_pretrained(again).get_vocab() == encoder_tokenizer.get_vocab()
    assert AutoModelForCausalLM.from_pretrained(again).config.vocab_size == len(encoder_tokenizer)


def test_a_scheme_without_a_checkpoint_and_a_plain_vocabulary(tmp_path):
    words = ("--vocabulary", "64", "--config_overrides", "d_model=16,d_ff=16,num_layers=1,d_kv=8")
    words += ("--scheme", "constant_pre_attn_ln", "--value", "0.25", "-o", str(tmp_path / "start"))
    start("t5", *words)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "start")
    assert model.config.vocab_size == 64
    assert model.encoder.block[0].layer[0].layer_norm.weight.unique().tolist() == [0.25]
    assert ", without a checkpoint, seed 0" in (tmp_path / "start" / "README.md").read_text()


def test_a_start_is_pushed_with_its_card(tmp_path):
    start("--from", T5, "-o", str(tmp_path / "start"))
    plan = plan_push(tmp_path / "start", "me/t5-start")
    assert {"model.safetensors", "initialization.json", "README.md"} <= plan.files.keys()
    card = ModelCard(plan.files["README.md"].decode())
    assert 'from_pretrained("me/t5-start")' in card.text


def test_every_scheme_stands_in_the_help_and_in_the_error_of_an_unknown_one(capsys):
    with pytest.raises(SystemExit):
        main(["init", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    said = refusal(capsys, "t5", "--scheme", "none_such")
    for name in SCHEMES:
        assert f" {name}" in shown, name
        assert f" {name}" in said, name


def test_a_model_that_has_no_room_in_memory_is_refused_before_it_is_built(
    tmp_path, capsys, monkeypatch
):
    memory = SimpleNamespace(available=8 * 10**9)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    said = refusal(capsys, "llama", "--from", LLAMA, "-o", str(tmp_path / "start"))
    assert said == (
        "synpre: A llama of these sizes has 6,738,415,616 parameters, which take 27.0 GB in "
        "float32, and 8.0 GB of memory are free; leave llama out for the sizes of "
        "synpre/llama-mini-set, or give smaller ones with --config_overrides.\n"
    )
    said = refusal(capsys, "llama", "--scheme", "mimetic", "-o", str(tmp_path / "start"))
    assert "8.0 GB of memory are free; give smaller sizes with --config_overrides" in said

    # Pre-training and fine-tuning build their fresh models here.
    with pytest.raises(UsageError, match=r"27.0 GB in float32, .* smaller sizes with overrides"):
        build(AutoModelForCausalLM, LlamaConfig(), {}, seed=0)

    # Weights that just fit are no fault.
    memory.available = 4 * 40_000
    config = checkpoint_config(LLAMA)
    with pytest.raises(UsageError, match=r"0.0 GB of memory are free"):
        build(AutoModelForCausalLM, config, {}, seed=0)
    memory.available = 4 * skeleton(AutoModelForCausalLM, config).num_parameters()
    build(AutoModelForCausalLM, config, {}, seed=0)


def test_what_cannot_be_is_one_line(tmp_path, capsys):
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "a").write_text("b")
    free = ("-o", str(tmp_path / "start"))
    cases = [
        ((), "Neither an architecture nor --from was given; write `synpre init MODEL_OR_CONFIG"),
        (("t5", *free), "Scheme per_param_mean_sd reads a checkpoint, and --from was not given"),
        (
            ("t6", "--from", T5, *free),
            "Unknown model_type 't6'. Allowed: llama, gpt2, t5, bert, ",
        ),
        (("t5", "--from", T5, "--dtype", "int8", *free), "Unknown dtype 'int8'"),
        (("--from", T5, "--scheme", "per_parm", *free), "Did you mean 'per_param_scale'"),
        (("gpt2", "--from", T5, *free), f"The statistics of {T5} lack "),
        (
            ("gpt2", "--from", T5, *free),
            "; it has the architecture t5, the model has gpt2: use a config",
        ),
        (
            ("--from", T5, "--scheme", "body_weights", *free),
            f"--scheme body_weights reads weights, and of {T5} only its statistics are bundled; "
            "give --scheme per_param_mean_sd, or to --from the folder of its weights",
        ),
        (
            ("--from", T5, "--embeddings", "kept", *free),
            f"--embeddings kept reads weights, and of {T5} only its statistics are bundled; "
            "give --embeddings fresh",
        ),
        (("--from", T5, "-o", str(tmp_path / "held")), "held is there and holds something"),
        (
            ("t5", "--scheme", "constant_pre_attn_ln", "--from", T5, *free),
            "--from is synpre/t5-mini-set, and scheme constant_pre_attn_ln reads no checkpoint",
        ),
        (
            ("--from", T5, "--vocabulary", "64", "--tokenizer_name", "x", *free),
            "--tokenizer_name and --vocabulary were given",
        ),
    ]
    for words, message in cases:
        said = refusal(capsys, *words)
        assert message in said, words
        assert said.count("\n") == 1, words
    assert not (tmp_path / "start").exists()
