"""Killed runs go on to the same weights, on any number of processes; a folder has one command.

Run: pytest tests/training/test_resuming.py
"""

import json
import shutil
import subprocess
import sys
from functools import partial

import pytest
import torch
from accelerate import debug_launcher
from encoder_examples import ELECTRA, spec_of
from pretraining_runs import run_of
from processes import kill_after_a_checkpoint, rank

from hf_synpre import UsageError
from hf_synpre.files import held
from hf_synpre.training.pretraining import last_whole_checkpoint, pretrain

# Programs of processes that are killed.
PRETRAIN_ON_A_TASK = """
import sys; sys.path[:0] = ["tests"]
import torch; torch.set_num_threads(1)
from pathlib import Path
from pretraining_runs import MODEL, SPEC
from hf_synpre.training.pretraining import pretrain
pretrain(SPEC, MODEL, Path(sys.argv[1]))
"""
PRETRAIN_ON_TEXT = """
import sys; sys.path[:0] = ["tests"]
import torch; torch.set_num_threads(1)
from pathlib import Path
from encoder_examples import *
from hf_synpre.training.pretraining import pretrain
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.tokenizers import train_encoder_tokenizer
corpus = open_corpus(sys.argv[2], text=TextSpec())
spec = spec_of("rtd", evaluations=6, training={"max_steps": 60})
tokenizer = train_encoder_tokenizer(corpus.texts("train"), 320)
pretrain(spec, ELECTRA_DROPPING, Path(sys.argv[1]), tokenizer=tokenizer, corpus=corpus)
"""


def test_a_run_killed_and_started_again_ends_with_the_same_weights(tmp_path, pretrained):
    folder, undisturbed = pretrained
    command = [sys.executable, "-c", PRETRAIN_ON_A_TASK, str(tmp_path / "killed")]
    kill_after_a_checkpoint(command, tmp_path / "killed")
    subprocess.run(command, check=True)
    resumed = json.loads((tmp_path / "killed" / "pretraining.json").read_text())
    assert (tmp_path / "killed" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    same = ("steps", "tokens", "positions", "flops", "curve", "accuracy")
    assert {k: resumed[k] for k in same} == {k: undisturbed[k] for k in same}


def pretrain_in_parts(folder, processes):
    """Pre-train 4 packed steps of 50 examples, 8 rows, over all processes.

    The number of processes must not matter.
    """
    torch.set_num_threads(1)
    gloo = {"ddp_backend": "gloo"} if processes > 1 else {}
    training = {"max_steps": 4, "learning_rate": 3e-2, "use_cpu": True, "logging_steps": 1} | gloo
    spec, model = run_of("t5 packed", batch_size=50, training=training, validation_examples=32)
    result = pretrain(spec, model, folder)
    if rank() == 0:
        (folder.parent / f"{folder.name}.json").write_text(json.dumps(result))


def test_two_processes_pretrain_what_one_does(tmp_path):
    pretrain_in_parts(tmp_path / "one", 1)
    debug_launcher(pretrain_in_parts, args=(tmp_path / "two", 2), num_processes=2)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert {k: two[k] for k in ("tokens", "positions", "flops")} == {
        k: one[k] for k in ("tokens", "positions", "flops")
    }
    assert two["accuracy"] == pytest.approx(one["accuracy"], abs=1e-3)
    for point, other in zip(one["curve"], two["curve"], strict=True):
        assert other["loss"] == pytest.approx(point["loss"], rel=1e-4)
    assert (tmp_path / "two" / "pretraining.json").exists()


def test_a_run_goes_on_with_another_number_of_processes(tmp_path, monkeypatch):
    """One process makes two of four steps, two processes the rest; the losses are those of one."""
    from hf_synpre.training import pretraining

    pretrain_in_parts(tmp_path / "one", 1)
    monkeypatch.setattr(pretraining, "run_result", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        pretrain_in_parts(tmp_path / "two", 1)
    shutil.rmtree(tmp_path / ".two.work" / "checkpoint-4")
    monkeypatch.undo()
    debug_launcher(pretrain_in_parts, args=(tmp_path / "two", 2), num_processes=2)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert two["curve"][0] == one["curve"][0], "the first two steps are the checkpoint's"
    assert {k: two[k] for k in ("tokens", "positions", "flops")} == {
        k: one[k] for k in ("tokens", "positions", "flops")
    }
    assert two["curve"][1]["loss"] == pytest.approx(one["curve"][1]["loss"], rel=1e-4)
    assert two["steps"] == one["steps"] == 4


def test_a_half_written_checkpoint_is_not_taken(tmp_path):
    for step, state in ((5, '{"global_step": 5}'), (10, '{"glob')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-15").mkdir()
    assert last_whole_checkpoint(tmp_path).endswith("checkpoint-5")


def test_a_killed_run_on_text_goes_on_to_the_same_weights(tmp_path, labelled_dataset):
    whole, killed = (
        [sys.executable, "-c", PRETRAIN_ON_TEXT, str(tmp_path / name), str(labelled_dataset)]
        for name in ("whole", "killed")
    )
    subprocess.run(whole, check=True)
    kill_after_a_checkpoint(killed, tmp_path / "killed")
    subprocess.run(killed, check=True)
    for file in ("model.safetensors", "generator/model.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    curves = [
        json.loads((tmp_path / name / "pretraining.json").read_text())["curve"]
        for name in ("whole", "killed")
    ]
    assert curves[0] == curves[1]


def test_a_broken_checkpoint_of_a_run_is_named(
    tmp_path, labelled_corpus, encoder_tokenizer, monkeypatch
):
    run = partial(
        pretrain,
        spec_of("mlm"),
        ELECTRA,
        tmp_path / "run",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
    )
    with monkeypatch.context() as patch:
        patch.setattr("hf_synpre.training.pretraining.run_result", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            run()
    last = max((tmp_path / ".run.work").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    file = last / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        UsageError, match=f"{last.name} cannot be read .*; delete it, and the run goes on"
    ):
        run()
    shutil.rmtree(last)
    assert run()["steps"] == 8


def test_two_commands_do_not_share_a_folder(tmp_path, labelled_corpus, encoder_tokenizer):
    with (
        held(tmp_path / ".run.work" / "run"),
        pytest.raises(UsageError, match="Another command is writing"),
    ):
        pretrain(
            spec_of("mlm"),
            ELECTRA,
            tmp_path / "run",
            tokenizer=encoder_tokenizer,
            corpus=labelled_corpus,
        )
