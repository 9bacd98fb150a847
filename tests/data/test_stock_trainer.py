"""transformers' own Trainer on a built dataset: the lines of its card end in a model that stops.

Run: pytest tests/data/test_stock_trainer.py
"""

import re
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GPT2Config, T5Config, set_seed

from hf_synpre import CausalCollator, Seq2SeqCollator, UsageError
from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import build_shards
from hf_synpre.hub import cards

ROOT = Path(__file__).parents[2]
EOS = 1
# The sizes in the card -> sizes for a test.
SMALLER = {
    "d_model=128": "d_model=48",
    "n_embd=128": "n_embd=48",
    "d_ff=512": "d_ff=96",
    "num_layers=2": "num_layers=1",
    "n_layer=2": "n_layer=1",
    "max_steps=2000": 'max_steps=30, report_to="none", disable_tqdm=True, use_cpu=True',
    "learning_rate=1e-3": "learning_rate=1e-2, per_device_train_batch_size=32",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A built dataset of short rows with its card."""
    folder = tmp_path_factory.mktemp("datasets") / "first_token"
    recipe = Recipe(
        "first_token",
        parameters={"min_length": 2, "max_length": 3},
        vocabulary=32,
        splits={"train": 5000, "validation": 500},
    )
    build_shards(recipe, "small", folder)
    cards.write_dataset_card(folder, "synpre/first_token")
    return folder


@pytest.fixture(scope="module")
def blocks(folder):
    """The card's lines of Python: to load, to train an encoder-decoder, to take a decoder."""
    text = (folder / "README.md").read_text().replace("path/to/this/folder", str(folder))
    for size, smaller in SMALLER.items():
        text = text.replace(size, smaller)
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


def with_decoder(lines, decoder):
    """Return the lines that train, with the model and the collator of other lines."""
    kept = [
        line
        for line in lines.splitlines()
        if not line.startswith(("config =", "model =", "collator ="))
    ]
    position = next(k for k, line in enumerate(kept) if line.startswith("arguments"))
    return "\n".join([*kept[:position], decoder, *kept[position:]])


@pytest.mark.parametrize("family", ["seq2seq", "causal"])
def test_the_lines_of_a_card_end_in_a_saved_model_that_ends_its_answers(
    family, blocks, tmp_path, monkeypatch
):
    _, train, decoder = blocks
    lines = train if family == "seq2seq" else with_decoder(train, decoder)
    monkeypatch.chdir(tmp_path)
    set_seed(0)
    names = {}
    exec(lines, names)

    auto = AutoModelForSeq2SeqLM if family == "seq2seq" else AutoModelForCausalLM
    model = auto.from_pretrained(tmp_path / "model").eval()
    row = names["rows"]["train"][0]
    start = torch.tensor([[*row["input_ids"], EOS]])
    answer = model.generate(start, max_new_tokens=12, do_sample=False)[0]
    written = answer[1:] if family == "seq2seq" else answer[start.shape[1] :]
    assert EOS in written.tolist(), "the model has not learnt to end its answer"


def test_the_collators_append_the_end_that_the_rows_lack(folder):
    rows = [load_dataset(str(folder), split="train")[k] for k in range(3)]
    assert not any(EOS in row["input_ids"] + row["labels"] for row in rows)

    batch = Seq2SeqCollator(pad=0, eos=EOS, start=0)(rows)
    for row, inputs, labels in zip(rows, batch["input_ids"], batch["labels"], strict=True):
        assert inputs[: len(row["input_ids"]) + 1].tolist() == [*row["input_ids"], EOS]
        assert labels[labels != -100].tolist() == [*row["labels"], EOS]

    for loss_on in ("targets", "all"):
        batch = CausalCollator(pad=0, eos=EOS, loss_on=loss_on)(rows)
        for k, row in enumerate(rows):
            sequence = [*row["input_ids"], EOS, *row["labels"], EOS]
            labels, mask = batch["labels"][k], batch["attention_mask"][k]
            assert batch["input_ids"][k][mask == 1].tolist() == sequence
            expected = sequence if loss_on == "all" else [*row["labels"], EOS]
            assert labels[labels != -100].tolist() == expected
            assert (labels[mask == 0] == -100).all()


def test_a_collator_takes_its_ids_from_the_config_or_names_what_it_lacks():
    config = T5Config(vocab_size=32, decoder_start_token_id=0)
    collator = Seq2SeqCollator.from_config(config, max_target=9)
    assert collator == Seq2SeqCollator(0, 1, 0, max_target=9, vocab_size=32)
    with pytest.raises(UsageError, match="rows hold the id 40 and the model's vocabulary has 32"):
        collator([{"input_ids": [4], "labels": [40]}])
    config.decoder_start_token_id = None
    with pytest.raises(UsageError, match=r"t5 has decoder_start_token_id None; .* Set config.deco"):
        Seq2SeqCollator.from_config(config)

    ids = {"bos_token_id": 1, "eos_token_id": 1}
    config = GPT2Config(vocab_size=32, n_positions=6, **ids)
    collator = CausalCollator.from_config(config)
    assert (collator.pad, collator.eos, collator.max_length) == (1, 1, 6)
    with pytest.raises(UsageError, match="A row takes 7 ids and the model has 6 positions; give"):
        collator([{"input_ids": [4, 5, 6], "labels": [7, 8]}])
    config.eos_token_id = 50256
    with pytest.raises(UsageError, match="eos_token_id 50256 and a vocabulary of 32 ids; set"):
        CausalCollator.from_config(config)


def test_a_card_says_that_the_end_is_not_in_the_rows(folder):
    from huggingface_hub import metadata_load

    said = metadata_load(folder / "README.md")["synpre"]["rows"]
    assert said == {"has_end_of_sequence": False, "eos_token_id": EOS, "pad_token_id": 0}


def test_a_local_card_loads_its_folder_and_a_published_one_the_repository(folder):
    configs = cards.read_configs(folder)
    assert "synpre/first_token" not in (folder / "README.md").read_text()
    assert 'load_dataset("synpre/first_token", "small")' in cards.dataset_card(
        "synpre/first_token", configs
    )


def test_four_workers_have_a_share_of_a_streamed_dataset_each(folder):
    rows = load_dataset(str(folder), split="train", streaming=True)
    shares = [len(list(rows.shard(num_shards=4, index=worker))) for worker in range(4)]
    assert sum(shares) == 5000
    assert min(shares) >= 1000


def test_the_page_of_pretraining_shows_the_lines_of_the_cards(folder):
    card = (folder / "README.md").read_text()
    card = card.replace("path/to/this/folder", "runs/datasets/set")
    card = card.replace("vocab_size=32,", "vocab_size=32100,").replace('("model"', '("runs/stock"')
    page = (ROOT / "docs" / "pretraining.md").read_text()
    for lines in re.findall(r"```python\n(.*?)```", page, flags=re.S):
        assert lines in card
