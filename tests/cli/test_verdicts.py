"""Whether a task was learnt: the last line of a run, its exit code, and runs that cannot tell.

Run: pytest tests/cli/test_verdicts.py
"""

import json

import pytest

from hf_synpre.cli import main

TINY = [
    *("--config_overrides", "n_embd=16,n_layer=1,n_head=2", "--model_type", "gpt2"),
    *("--vocabulary", "64", "--use_cpu", "--max_steps", "2", "--batch_size", "4"),
    *("--evaluations", "1", "--validation_examples", "4"),
]
# Of an encoder, which hides tokens at random.
TINY_BERT = [
    *("--config_overrides", "hidden_size=16,intermediate_size=32,num_hidden_layers=1"),
    *("--model_type", "bert", *TINY[4:]),
]
SET = ["pretrain", "set", "--parameters", "min_length=4,max_length=8"]
NCA = ["--parameters", "grid=4,states=2,patch=2,frames=4,min_complexity=0"]


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_a_run_that_has_not_learnt_its_task_says_so_last(tmp_path, capsys):
    words = [*SET, *TINY, "--output_dir", str(tmp_path / "run")]
    assert main(words) == 0
    said = last_line(capsys)
    assert said.startswith("synpre: set was NOT learnt: the loss ended ")
    assert said.endswith("The exit code is 0, and --require_learnt makes it 1.")
    assert json.loads((tmp_path / "run" / "pretraining.json").read_text())["learnt"] is False

    # The same command with the flag: nothing is computed, and it fails.
    assert main([*words, "--require_learnt"]) == 1
    assert last_line(capsys).endswith("The exit code is 1.")


def test_a_run_that_has_learnt_its_task_is_no_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_synpre.training.excess_loss.LEARNT_SHARE", 9.0)
    words = [*SET, *TINY, "--output_dir", str(tmp_path / "run"), "--require_learnt"]
    assert main(words) == 0
    assert last_line(capsys).startswith("synpre: set was learnt: the loss ended ")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["set", *SET[2:], *TINY_BERT], "the objective mlm hides tokens at random, and how"),
        (["nca", *NCA, *TINY], "nobody has computed the lowest possible loss of nca"),
    ],
)
def test_where_nothing_is_judged_the_last_line_says_why(words, reason, tmp_path, capsys):
    folder = tmp_path / "run"
    refused = ["pretrain", *words, "--output_dir", str(folder), "--require_learnt"]
    assert main(refused) == 2
    said = last_line(capsys)
    assert f"--require_learnt was given, and whether {words[0]} is learnt is not judged" in said
    assert not folder.exists()

    assert main(refused[:-1]) == 0
    assert f"Whether {words[0]} was learnt is not judged: {reason}" in last_line(capsys)
    result = json.loads((folder / "pretraining.json").read_text())
    assert result["learnt"] is None
    assert result["not_judged"].startswith(reason)
