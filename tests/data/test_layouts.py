"""Rows for decoders: the layout "causal" of every way to get rows.

Run: pytest tests/data/test_layouts.py
"""

import re

import numpy as np
import pytest
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM

from hf_synpre import SyntheticDataset, generate, load_synthetic
from hf_synpre.cli import main
from hf_synpre.data.collators import CausalCollator, Seq2SeqCollator
from hf_synpre.data.recipes import DatasetRecipe, Recipe
from hf_synpre.errors import UsageError
from hf_synpre.tasks import get_task, list_tasks

EOS = 1
TASKS_WITH_TARGETS = [task for task in list_tasks() if not get_task(task).is_sequence]
SEQUENCES = [task for task in list_tasks() if get_task(task).is_sequence]


@pytest.mark.parametrize("task", [*TASKS_WITH_TARGETS, "set:2,identity:1"])
def test_a_row_is_input_end_target_end(task):
    rows = generate(task, 5, 25).to_pylist()
    causal = generate(task, 5, 25, layout="causal").to_pylist()
    for row, laid_out in zip(rows, causal, strict=True):
        prompt, target = [*row["input_ids"], EOS], [*row["labels"], EOS]
        assert laid_out["input_ids"] == prompt + target
        assert laid_out["labels"] == [-100] * len(prompt) + target


@pytest.mark.parametrize("task", SEQUENCES)
def test_a_sequence_has_its_labels_beside_it(task):
    rows = generate(task, 5, 25).to_pylist()
    causal = generate(task, 5, 25, layout="causal").to_pylist()
    for row, laid_out in zip(rows, causal, strict=True):
        assert laid_out["input_ids"] == row["input_ids"]
        assert laid_out["labels"] == [-100, *row["labels"][1:]]
        scored = [(id_, label) for id_, label in zip(*row.values(), strict=True) if label != -100]
        assert scored
        assert all(id_ == label for id_, label in scored)

    # The collator keeps what is scored, or has a loss at every token.
    row = SyntheticDataset(task, size=30, layout="causal")[5]
    batch = CausalCollator(pad=0, eos=EOS, multiple=1)([row])
    assert batch["input_ids"][0].tolist() == causal[0]["input_ids"]
    assert batch["labels"][0].tolist() == causal[0]["labels"]
    everywhere = CausalCollator(pad=0, eos=EOS, multiple=1, loss_on="all")([row])
    assert everywhere["labels"][0].tolist() == causal[0]["input_ids"]


def test_rows_are_those_of_the_collator_and_every_form_has_them(tmp_path):
    options = {"vocabulary": 64, "max_length": 20, "seed": 3}
    dataset = SyntheticDataset("reverse", size=100, layout="causal", **options)
    collate = CausalCollator(pad=0, eos=EOS, multiple=1)
    for index in (0, 7, 99):
        row = SyntheticDataset("reverse", size=100, **options)[index]
        batch = collate([row])
        assert dataset[index]["input_ids"].tolist() == batch["input_ids"][0].tolist()
        assert dataset[index]["labels"].tolist() == batch["labels"][0].tolist()
        laid_out = collate([dataset[index]])
        assert all(torch.equal(laid_out[name], batch[name]) for name in batch)

    arguments = {"layout": "causal", "size": 100, "cache_dir": str(tmp_path), **options}
    cached = load_synthetic("reverse", **arguments)
    streamed = list(load_synthetic("reverse", streaming=True, **arguments))
    assert "one sequence for a decoder" in cached.info.description
    assert cached[7] == streamed[7]
    assert cached[7]["labels"] == dataset[7]["labels"].tolist()
    usual = load_synthetic("reverse", size=100, cache_dir=str(tmp_path), **options)
    assert usual[7] != cached[7], "the cache gave rows of the other layout"


def test_the_lines_of_the_card_train_a_decoder(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "rows"
    recipe = tmp_path / "rows.yaml"
    recipe.write_text(
        "configs: {default: {task: first_token, vocabulary: 24, layout: causal, "
        "parameters: {min_length: 2, max_length: 4}, splits: {train: 1000, validation: 100}}}"
    )
    assert main(["build", str(recipe), "--output_dir", str(folder)]) == 0
    card = (folder / "README.md").read_text()
    assert "layout: causal" in card

    lines = re.findall(r"```python\n(.*?)```", card, flags=re.S)[1]
    lines = lines.replace("path/to/this/folder", str(folder)).replace("n_embd=128", "n_embd=16")
    lines = lines.replace("max_steps=2000", "max_steps=2, report_to='none', use_cpu=True")
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    row = load_dataset(str(folder), split="validation")[0]
    loss = model(torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
    assert np.isfinite(loss.item())

    # The card makes the same rows again.
    assert main(["generate", "--from-card", str(folder)]) == 0
    assert "differ" not in capsys.readouterr().out


def test_the_lines_of_the_card_of_sequences_train_a_decoder(tmp_path, monkeypatch):
    folder = tmp_path / "rows"
    recipe = tmp_path / "rows.yaml"
    recipe.write_text(
        "configs: {default: {task: mqar, vocabulary: 24, "
        "parameters: {length: 12, keys: 1}, splits: {train: 100, validation: 100}}}"
    )
    assert main(["build", str(recipe), "--output_dir", str(folder)]) == 0
    card = (folder / "README.md").read_text()
    assert "A row is one sequence" in card
    assert "`synpre pretrain mqar` trains" in card
    lines = re.findall(r"```python\n(.*?)```", card, flags=re.S)[1]
    lines = lines.replace("path/to/this/folder", str(folder)).replace("n_embd=128", "n_embd=16")
    lines = lines.replace("max_steps=2000", "max_steps=2, report_to='none', use_cpu=True")
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert (
        "A row is one sequence" in load_synthetic("mqar", size=9, streaming=True).info.description
    )


def test_the_usual_layout_is_in_no_recipe():
    assert "layout" not in Recipe("set").as_dict()
    assert Recipe("set", layout="causal").as_dict()["layout"] == "causal"


def test_what_is_no_layout_is_refused():
    with pytest.raises(UsageError, match=r"Unknown layout 'casual'\. Did you mean 'causal'"):
        generate("set", 0, 1, layout="casual")
    with pytest.raises(UsageError, match="have the layouts causal and seq2seq; give one"):
        DatasetRecipe({"default": Recipe("set"), "other": Recipe("set", layout="causal")})
    with pytest.raises(UsageError, match="rows with a target, others sequences; give tasks of one"):
        DatasetRecipe({"default": Recipe("set"), "other": Recipe("mqar")})
    rows = [SyntheticDataset("set", size=1, layout="causal")[0]]
    with pytest.raises(UsageError, match="The rows have the layout causal, one sequence"):
        Seq2SeqCollator(pad=0, eos=EOS, start=0)(rows)
    with pytest.raises(UsageError, match="Unknown layout"):
        SyntheticDataset("set", layout="mlm")
