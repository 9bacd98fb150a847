"""Saved weights say in their header what they were trained on; from_pretrained reads them as ever.

Run: pytest tests/training/test_weight_facts.py
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from encoder_examples import ELECTRA, spec_of
from pretraining_runs import SPEC, short_run
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, T5ForConditionalGeneration

from hf_synpre import __version__
from hf_synpre.cli import main
from hf_synpre.errors import UsageError
from hf_synpre.provenance import recipe_sha256, tensors_sha256, write_facts
from hf_synpre.tasks import get_task
from hf_synpre.training.pretraining import pretrain
from hf_synpre.versions import commit

ROOT = Path(__file__).parents[2]


def facts_of(file):
    with safe_open(file, framework="pt") as opened:
        return opened.metadata()


def test_weights_of_a_run_say_what_they_were_trained_on(pretrained):
    folder, result = pretrained
    task = get_task("identity")
    published = json.dumps(result["recipe"], sort_keys=True).encode()
    expected = {
        "format": "pt",
        "task": "identity",
        "version": str(task.version),
        "parameters": json.dumps(dict(task.parameters) | SPEC.parameters, sort_keys=True),
        "tokens": str(result["tokens"]),
        "commit": commit(),
        "hf_synpre": __version__,
        "recipe_sha256": hashlib.sha256(published).hexdigest(),
    }
    assert facts_of(folder / "model.safetensors") == expected
    (checkpoint,) = folder.glob("checkpoint-*/model.safetensors")
    assert facts_of(checkpoint) == expected, "it is that of the last step"
    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(loaded[name], tensor)


def test_a_checkpoint_has_seen_fewer_tokens_than_the_model(unfinished):
    early, late = (
        facts_of(unfinished / f"checkpoint-{step}" / "model.safetensors") for step in (20, 30)
    )
    assert 0 < int(early["tokens"]) < int(late["tokens"])


def test_both_models_of_a_pair_name_the_corpus(tmp_path, labelled_corpus, encoder_tokenizer):
    """Replaced-token detection saves the discriminator, and the generator in a folder beside it."""
    spec = spec_of("rtd", training={"max_steps": 1}, corpus="/home/me/here.csv")
    folder = tmp_path / "run"
    pretrain(spec, ELECTRA, folder, tokenizer=encoder_tokenizer, corpus=labelled_corpus)
    files = [folder / "model.safetensors", folder / "generator" / "model.safetensors"]
    assert {facts_of(file)["corpus"] for file in files} == {"here.csv"}


def test_facts_change_no_tensor_of_a_sharded_model(tiny_config, tmp_path):
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(tiny_config)
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    model.save_pretrained(whole)
    model.save_pretrained(sharded, max_shard_size="20KB")
    files = sorted(sharded.glob("*.safetensors"))
    assert len(files) > 1
    write_facts(sharded, {"task": "set", "tokens": 5, "note": None})
    for file in files:
        assert facts_of(file) == {"format": "pt", "task": "set", "tokens": "5"}
    assert tensors_sha256(sharded) == tensors_sha256(whole), "a digest knows no files"
    loaded = T5ForConditionalGeneration.from_pretrained(sharded).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_the_digest_sees_names_types_and_values(tmp_path):
    digests = set()
    for number, tensors in enumerate(
        (
            {"a": torch.zeros(4), "b": torch.ones(4)},
            {"a": torch.ones(4), "b": torch.zeros(4)},
            {"a": torch.zeros(2, 2), "b": torch.ones(4)},
            {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(4)},
            {"a": torch.zeros(4), "c": torch.ones(4)},
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        digests.add(tensors_sha256(folder))
    assert len(digests) == 5
    (tmp_path / "0" / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(UsageError, match=r"model.safetensors is not a complete safetensors file"):
        tensors_sha256(tmp_path / "0")


def test_the_hash_of_a_recipe_knows_no_folder_of_this_machine():
    here = {"pretraining": {"corpus": "/home/me/clients/letters.csv", "seed": 0}}
    there = {"pretraining": {"corpus": "letters.csv", "seed": 0}}
    assert recipe_sha256(here) == recipe_sha256(there)
    assert recipe_sha256(here) != recipe_sha256({"pretraining": {"corpus": "letters.csv"}})


def test_a_finetuned_model_says_it_too(tmp_path):
    words = ["finetune", str(ROOT / "examples" / "own_task.yaml"), "--max_steps", "2"]
    words += ["--config_name", "synpre/t5-mini-set", "--init", "statistics"]
    words += ["--checkpoint", "synpre/t5-mini-set", "--test_examples", "8", "--evaluations", "1"]
    assert main([*words, "--output_dir", str(tmp_path / "run")]) == 0
    (folder,) = (file.parent for file in tmp_path.rglob("model.safetensors"))
    facts = facts_of(folder / "model.safetensors")
    (cell,) = (json.loads(file.read_text()) for file in tmp_path.glob("run/*--0.json"))
    assert facts == {
        "format": "pt",
        "task": "imports",
        "start": "weights drawn from the statistics of synpre/t5-mini-set "
        "(scheme per_param_mean_sd)",
        "tokens": str(cell["phases"]["finetuning"]["tokens"]),
        "commit": commit(),
        "hf_synpre": __version__,
        "recipe_sha256": recipe_sha256(cell["config"]),
    }
    assert T5ForConditionalGeneration.from_pretrained(folder) is not None


def test_a_run_that_goes_on_saves_the_bytes_of_one_that_was_not_stopped(
    unfinished, short_digest, tmp_path
):
    folder = shutil.copytree(unfinished, tmp_path / "run")
    shutil.rmtree(folder / "checkpoint-30")
    short_run(folder)
    assert (folder / "model.safetensors").read_bytes() == short_digest


def test_released_weights_say_it():
    files = sorted(ROOT.glob("model_cards/*/model.safetensors"))
    assert files
    for file in files:
        run = ROOT / "hf_synpre" / "statistics" / file.parent.name / "pretraining.json"
        result, facts = json.loads(run.read_text()), facts_of(file)
        assert facts.get("task") == result["recipe"]["pretraining"]["task"], "run `make cards`"
        assert facts["tokens"] == str(result["tokens"])
        assert facts["commit"] == result["versions"]["commit"]
        assert facts["recipe_sha256"] == recipe_sha256(result["recipe"])
