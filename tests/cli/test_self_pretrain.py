"""The verb self-pretrain: a folder in, a model out; presets fit every model family; bad input.

Run: pytest tests/cli/test_self_pretrain.py
"""

import json
import re

import pytest
from encoder_examples import sentence

from hf_synpre.cli import main
from hf_synpre.data import tokenizers
from hf_synpre.finetuning import own_data
from hf_synpre.hub.cards import model_card
from hf_synpre.training.presets import PRESETS

SMALL = (
    "hidden_size=32,embedding_size=16,num_hidden_layers=2,num_attention_heads=2,"
    "intermediate_size=64"
)


def test_the_verb_trains_on_a_folder_and_does_nothing_twice(
    tmp_path, labelled_dataset, capsys, monkeypatch
):
    words = [
        "self-pretrain",
        labelled_dataset,
        "--output_dir",
        tmp_path / "run",
        "--preset",
        "electra_smoke",
        "--vocab_size",
        400,
    ]
    words += [
        "--config_overrides",
        SMALL,
        "--max_steps",
        4,
        "--warmup_steps",
        1,
        "--batch_size",
        8,
        "--window",
        32,
    ]
    words += ["--evaluations", 2, "--validation_examples", 8, "--use_cpu", "true"]
    assert main([str(word) for word in words]) == 0
    shown, said = capsys.readouterr()
    assert '"dropped_rows_of_other_splits": 1' in shown
    assert '"bytes": ' in shown
    assert "parameters, up to 4 steps of 8 examples, about " in said
    assert f"finetune DATA --init weights --checkpoint {tmp_path / 'run'}`" in said
    result = json.loads((tmp_path / "run" / "pretraining.json").read_text())
    assert result["steps"] == 4
    assert result["recipe"]["pretraining"]["bias_correction"] is False
    assert result["recipe"]["tokenizer"]["origin"].startswith("strict")
    card = model_card(tmp_path / "run", "synpre/pets")
    size = f"{result['recipe']['corpus']['bytes']:,} bytes"
    assert f"{size}, columns text. The tokenizer is strict: trained on the corpus" in card
    assert 'AutoModelForPreTraining.from_pretrained("synpre/pets")' in card
    assert f"| epochs of the text | {result['epochs']:.4g} |" in card
    assert f"| ids of the text that are read | {result['corpus_ids']:,} |" in card
    assert "krishna2023downstream" in card
    assert "knows no language" not in card
    assert "already finished" not in said
    stamp = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert main([str(word) for word in words]) == 0
    assert f"{tmp_path / 'run'} holds this run already finished: nothing" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == stamp

    # Another run reads no row: the corpus and its tokenizer are known.
    monkeypatch.setattr(own_data, "open_splits", lambda *_: pytest.fail("rows are read again"))
    monkeypatch.setattr(tokenizers, "_train", lambda *_: pytest.fail("trained again"))
    words[3] = tmp_path / "again"
    assert main([str(word) for word in words]) == 0
    again = json.loads((tmp_path / "again" / "pretraining.json").read_text())
    assert again["recipe"] == result["recipe"]
    assert again["curve"] == result["curve"]


def test_the_verb_goes_on_from_a_checkpoint_as_it_is(tmp_path, labelled_dataset):
    """Its config and tokenizer are taken, and an ELECTRA replaces tokens unless told otherwise."""
    words = [
        "self-pretrain",
        labelled_dataset,
        "--max_steps",
        2,
        "--batch_size",
        8,
        "--window",
        32,
        "--validation_examples",
        8,
    ]
    words += ["--evaluations", 1, "--use_cpu", "true", "--optim", "adamw_torch"]
    more = {
        "first": ["--config_overrides", SMALL, "--vocab_size", 400],
        "second": ["--start", tmp_path / "first"],
    }
    for name, flags in more.items():
        assert main([str(word) for word in (*words, *flags, "--output_dir", tmp_path / name)]) == 0
    first, second = (
        json.loads((tmp_path / name / "pretraining.json").read_text())["recipe"] for name in more
    )
    assert first["pretraining"]["objective"] == second["pretraining"]["objective"] == "rtd"
    assert first["tokenizer"] == second["tokenizer"]


@pytest.mark.parametrize(
    ("kind", "shape", "objective"),
    [
        ("t5", "d_model=32,num_layers=2,d_ff=64,num_heads=2,d_kv=16", "span_corruption"),
        ("gpt2", "n_embd=32,n_layer=2,n_head=2", "causal"),
        (
            "roberta",
            "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=64",
            "mlm",
        ),
    ],
)
def test_the_default_preset_fits_every_model_family(kind, shape, objective, tmp_path, monkeypatch):
    (tmp_path / "rows.txt").write_text("\n".join(f"{sentence(i)} {i}" for i in range(400)))
    words = [
        "self-pretrain",
        tmp_path / "rows.txt",
        "--output_dir",
        tmp_path / "run",
        "--model_type",
        kind,
        "--use_cpu",
        "true",
    ]
    words += [
        "--config_overrides",
        shape,
        "--batch_size",
        2,
        "--evaluations",
        1,
        "--validation_examples",
        2,
    ]
    short = PRESETS["roberta_smoke"]["training"] | {"max_steps": 2, "warmup_steps": 1}
    monkeypatch.setitem(PRESETS["roberta_smoke"], "training", short)
    assert main([str(word) for word in words]) == 0
    recipe = json.loads((tmp_path / "run" / "pretraining.json").read_text())["recipe"][
        "pretraining"
    ]
    assert recipe["objective"] == objective
    assert (recipe["window"], recipe["preset"]) == (128, "roberta_smoke")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No dataset was given; write `synpre self-pretrain FOLDER_OR_HUB_ID`"),
        (
            ["d/nope.csv"],
            "There is no file d/nope.csv; give one that exists, or a folder, or a Hub id",
        ),
        (["nowhere"], "Unknown corpus 'nowhere'. Allowed: stdlib, a folder"),
        (
            ["FOLDER", "--columns", "title"],
            "Column title is not in the dataset; it has text, label",
        ),
        (
            ["FOLDER", "--columns", "label"],
            "Column label holds whole numbers; a corpus is made of text",
        ),
        (["FOLDER", "--preset", "elektra"], "Did you mean 'electra"),
        (["FOLDER", "--preset", "fast"], "Unknown preset of synpre self-pretrain 'fast'"),
        (["FOLDER", "--held_out", "2"], "held_out is 2.0; give the share"),
        (
            ["FOLDER", "--vocab_size", "100"],
            "vocab_size is 100; a byte-level tokenizer of an encoder needs 300",
        ),
        (
            ["FOLDER", "--window", "4000"],
            "fewer than one window|the model has position embeddings for 512",
        ),
        (["FOLDER", "--limit_mb=-1"], "limit_mb is -1.0; give a number > 0"),
        (["FOLDER", "--budget_flops=0"], "budget_flops is 0.0; give a number > 0"),
        (["FOLDER", "--limit_mb", "nan"], "limit_mb is nan; give a finite number"),
        (["FOLDER", "--budget_flops", "inf"], "budget_flops is inf; give a finite number"),
        (
            ["FOLDER", "--budget_seconds", "5"],
            "no limit but budget_seconds, by which a schedule has no length; give",
        ),
        (["FOLDER", "--objective", "seq2seq"], "Unknown objective of a mlm model 'seq2seq'"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, labelled_dataset, capsys):
    given = [str(labelled_dataset) if word == "FOLDER" else word for word in words]
    code = main(
        [
            "self-pretrain",
            *given,
            "--output_dir",
            str(tmp_path / "run"),
            "--config_overrides",
            SMALL,
        ]
    )
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert error.startswith("synpre: ")
    assert re.search(message, error), error
