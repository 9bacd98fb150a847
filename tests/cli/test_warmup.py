"""`synpre warmup`: the config of a model in, a folder that from_pretrained loads out.

Run: pytest tests/cli/test_warmup.py
"""

import json
from types import SimpleNamespace

import pytest
import torch
from small_models import llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_synpre.cli import main
from hf_synpre.initialization import build

SMALL = ["--symbols", "32", "--parameters", "length=16,types=4,max_depth=4", "--batch_size", "8"]


def test_a_config_becomes_a_folder_that_from_pretrained_loads(tmp_path, capsys):
    config = llama(vocab_size=96)
    config.save_pretrained(tmp_path / "config")
    folder = tmp_path / "warm"
    words = [str(tmp_path / "config"), *SMALL, "--steps", "2", "-o", str(folder)]
    assert main(["warmup", *words]) == 1  # two steps teach nothing
    said = capsys.readouterr()
    assert "k_shuffle_dyck was NOT learnt" in said.err.splitlines()[-1]
    assert said.err.endswith("The exit code is 1.\n")
    assert "21 of 21 stored tensors equal those of the loaded LlamaForCausalLM" in said.err
    facts = json.loads((folder / "warmup.json").read_text())
    assert json.loads(said.out)["excess_loss"] == facts["excess_loss"]

    # The layers have changed, the embeddings are those of the seed.
    model = AutoModelForCausalLM.from_pretrained(folder)
    fresh = build(AutoModelForCausalLM, config, {}, 0)
    same = {n for n, t in model.state_dict().items() if torch.equal(t, fresh.state_dict()[n])}
    assert same == {"model.embed_tokens.weight", "lm_head.weight"}
    with pytest.raises(ValueError, match="tokenizer"):
        AutoTokenizer.from_pretrained(folder)

    # The same command again would write over it.
    assert main(["warmup", *words]) == 2
    assert "is there and holds something; give another --output_dir" in capsys.readouterr().err


def test_a_tokenizer_is_saved_with_the_model(tmp_path, encoder_tokenizer, capsys):
    encoder_tokenizer.save_pretrained(tmp_path / "tokenizer")
    folder = tmp_path / "warm"
    sizes = "hidden_size=16,intermediate_size=32,num_hidden_layers=1,num_attention_heads=2"
    words = ["bert", "--config_overrides", sizes, "--tokenizer_name", str(tmp_path / "tokenizer")]
    task = ["--task", "mqar", "--parameters", "length=12,keys=2", "--symbols", "64"]
    assert main(["warmup", *words, *task, "--steps", "1", "-o", str(folder)]) == 1
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == encoder_tokenizer.get_vocab()
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == len(encoder_tokenizer)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No model was given; write `synpre warmup MODEL_TYPE_OR_FOLDER`."),
        (["llama"], "has 6,738,415,616 parameters, which take 27.0 GB in float32, and 1.0 GB of"),
        (["vit"], "ViTConfig has no language model in transformers"),
        (["gpt2", "--vocabulary", "9"], "A vocabulary size is 9; give an integer from 19"),
        (["./none"], "There is no folder ./none; check its name."),
        (
            ["gpt2", "--config_overrides", "n_head=0"],
            "The field n_head is 0; give an integer >= 1.",
        ),
        (["gpt2", "-o", "a", "-o", "b"], "--output_dir was given twice; give it once."),
        (["gpt2", "-o", "a", "--output_dir", "b"], "--output_dir was given twice; give it once."),
    ],
)
def test_bad_input_is_refused_in_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    memory = SimpleNamespace(available=10**9)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    assert main(["warmup", *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1]
    assert not list(tmp_path.iterdir())
