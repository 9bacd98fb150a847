"""Killed runs go on to the same weights, on any number of processes; a folder has one command.

Run: pytest tests/training/test_resuming.py
"""

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from accelerate import debug_launcher
from encoder_examples import ELECTRA, spec_of
from pretraining_runs import MODEL, SPEC, run_of, short_run
from processes import kill_after_a_checkpoint, rank

from hf_synpre import UsageError
from hf_synpre.errors import TemporaryError
from hf_synpre.files import held, read_json
from hf_synpre.training import checkpoints
from hf_synpre.training.checkpoints import last_whole_checkpoint
from hf_synpre.training.pretraining import pretrain

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
spec = spec_of("rtd", evaluations=6, training={"max_steps": 24})
tokenizer = train_encoder_tokenizer(corpus.texts("train"), 320)
pretrain(spec, ELECTRA_DROPPING, Path(sys.argv[1]), tokenizer=tokenizer, corpus=corpus)
"""


def test_a_run_killed_and_started_again_ends_with_the_same_weights(tmp_path, pretrained):
    folder, undisturbed = pretrained
    killed = ("-c", PRETRAIN_ON_A_TASK, tmp_path / "killed")
    kill_after_a_checkpoint(killed, tmp_path / "killed")
    pretrain(SPEC, MODEL, tmp_path / "killed")
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
    states = [file.name for file in (tmp_path / "two").glob("checkpoint-4/rng_state*")]
    assert sorted(states) == ["rng_state_0.pth", "rng_state_1.pth"]


def test_a_run_goes_on_with_another_number_of_processes(tmp_path, monkeypatch):
    """One process makes two of four steps, two processes the rest; the losses are those of one."""
    from hf_synpre.training import pretraining

    pretrain_in_parts(tmp_path / "one", 1)
    monkeypatch.setattr(pretraining, "run_result", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        pretrain_in_parts(tmp_path / "two", 1)
    shutil.rmtree(tmp_path / "two" / "checkpoint-4")
    monkeypatch.undo()
    debug_launcher(pretrain_in_parts, args=(tmp_path / "two", 2), num_processes=2)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert two["curve"][0] == one["curve"][0], "the first two steps are the checkpoint's"
    assert {k: two[k] for k in ("tokens", "positions", "flops")} == {
        k: one[k] for k in ("tokens", "positions", "flops")
    }
    assert two["curve"][1]["loss"] == pytest.approx(one["curve"][1]["loss"], rel=1e-4)
    assert two["steps"] == one["steps"] == 4


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b"")


def overwrite(file):
    """The size is right, the content is not: what a power cut leaves on some file systems."""
    file.write_bytes(b"\0" * file.stat().st_size)


FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
HARMS = [(name, harm) for name in FILES for harm in (cut, empty, overwrite, Path.unlink)]


@pytest.mark.parametrize(("name", "harm"), HARMS, ids=lambda x: getattr(x, "__name__", x))
def test_a_harmed_checkpoint_is_passed_over_and_that_is_said(
    tmp_path, unfinished, caplog, name, harm
):
    work = shutil.copytree(unfinished, tmp_path / "work")
    harm(work / "checkpoint-30" / name)
    assert last_whole_checkpoint(work) == work / "checkpoint-20"
    assert "checkpoint-30 is not used: " in caplog.text
    assert "The run goes on from checkpoint-20." in caplog.text
    assert (work / "checkpoint-30").is_dir(), "nothing is deleted"


@pytest.mark.parametrize(("name", "harm"), HARMS, ids=lambda x: getattr(x, "__name__", x))
def test_a_checkpoint_of_another_trainer_is_read_to_its_end(tmp_path, unfinished, name, harm):
    work = shutil.copytree(unfinished, tmp_path / "work")
    for manifest in work.glob("checkpoint-*/checkpoint.json"):
        manifest.unlink()
    assert last_whole_checkpoint(work, {"any": "recipe"}) is None, "it must be named"
    assert last_whole_checkpoint(work) == work / "checkpoint-30"
    harm(work / "checkpoint-30" / name)
    assert last_whole_checkpoint(work) == work / "checkpoint-20"


def test_a_harmed_run_ends_with_the_weights_of_one_that_was_not(
    tmp_path, unfinished, short_digest, caplog
):
    """The newest checkpoint lost its optimizer; what is not ours neither disturbs nor goes."""
    work = shutil.copytree(unfinished, tmp_path / "run")
    (work / "checkpoint-30" / "optimizer.pt").unlink()
    (work / "notes.txt").write_text("precious")
    (work / ".checkpoint-30.0123abcd.partial").mkdir()  # what a killed run was writing
    for name in ("checkpoint-best", "checkpoint-7-mine", "checkpoint-99"):
        (work / name).mkdir()
        (work / name / "thesis.txt").write_text("precious")
    (work / "checkpoint-25").write_text("a file")
    (work / "checkpoint-26").symlink_to(unfinished / "checkpoint-none")
    short_run(tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == short_digest
    assert "checkpoint-99 is not used: model*.safetensors is missing" in caplog.text
    assert sorted(entry.name for entry in work.iterdir() if "checkpoint" in entry.name) == [
        *("checkpoint-25", "checkpoint-26", "checkpoint-30", "checkpoint-7-mine", "checkpoint-99"),
        "checkpoint-best",
    ]
    assert (work / "checkpoint-99" / "thesis.txt").read_text() == "precious"
    assert (work / "notes.txt").read_text() == "precious"
    assert not list(work.glob(".*"))


def test_without_a_whole_checkpoint_a_run_starts_anew(tmp_path, unfinished, short_digest, caplog):
    work = shutil.copytree(unfinished, tmp_path / "run")
    for file in work.glob("checkpoint-*/scheduler.pt"):
        file.unlink()
    short_run(work)
    assert (work / "model.safetensors").read_bytes() == short_digest
    assert "scheduler.pt is missing, the schedule of the learning rate" in caplog.text
    assert "The run starts anew." in caplog.text


def test_random_numbers_of_another_number_of_processes_are_said(tmp_path, unfinished, caplog):
    newest = shutil.copytree(unfinished / "checkpoint-20", tmp_path / "checkpoint-20")
    (newest / "checkpoint.json").unlink()  # as another version leaves it
    (newest / "rng_state.pth").rename(newest / "rng_state_1.pth")
    assert checkpoints.fault(newest) == (
        "rng_state_0.pth is missing, the random numbers of a process"
    )
    shutil.copy(newest / "rng_state_1.pth", newest / "rng_state_0.pth")
    short_run(tmp_path / "run", resume_from_checkpoint=str(newest))
    assert "checkpoint-20 has no rng_state.pth, as it was saved by another number" in caplog.text


def test_a_checkpoint_of_another_run_is_not_taken(tmp_path, unfinished):
    work = shutil.copytree(unfinished, tmp_path / "work")
    manifest = work / "checkpoint-30" / "checkpoint.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"run": "0" * 32}))
    assert last_whole_checkpoint(work, content["recipe"]) == work / "checkpoint-20"


def test_the_newest_checkpoint_has_the_highest_step_whatever_the_clock_says(tmp_path, unfinished):
    work = shutil.copytree(unfinished, tmp_path / "work")
    os.utime(work / "checkpoint-30", (0, 0))
    assert last_whole_checkpoint(work) == work / "checkpoint-30"
    checkpoints.delete_oldest(work, read_json(work / "recipe.json")["recipe"], keep=1)
    assert [entry.name for entry in work.glob("checkpoint-*")] == ["checkpoint-30"]


def test_a_full_disk_at_a_checkpoint_is_one_line_and_leaves_no_half(
    tmp_path, short_digest, monkeypatch
):
    """The same command goes on once there is room, from the last whole checkpoint."""
    from hf_synpre.training.trainer import Seq2SeqTrainer

    real = Seq2SeqTrainer._save_rng_state

    def full(trainer, folder):
        if trainer.state.global_step == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(trainer, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Seq2SeqTrainer, "_save_rng_state", full)
        with pytest.raises(
            TemporaryError,
            match=r"Cannot write .*checkpoint-20 \(No space left on device\); "
            "make room on the disk, and the same command goes on",
        ):
            short_run(tmp_path / "run")
    left = sorted(entry.name for entry in (tmp_path / "run").iterdir())
    assert left == ["checkpoint-10", "recipe.json"]
    assert checkpoints.fault(tmp_path / "run" / "checkpoint-10") is None
    short_run(tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == short_digest


def test_a_run_that_ended_meanwhile_is_not_made_again(tmp_path, pretrained, monkeypatch):
    """The second of two commands looked before the first had ended, and got its lock after."""
    from hf_synpre.training import pretraining

    folder, result = pretrained
    real = pretraining.pretraining_trainer

    def slow(*args):
        shutil.copytree(folder, tmp_path / "run")  # the other command ends here
        return real(*args)

    monkeypatch.setattr(pretraining, "pretraining_trainer", slow)
    monkeypatch.setattr("hf_synpre.training.trainer.SynpreTrainer.train", None)
    assert pretrain(SPEC, MODEL, tmp_path / "run")["curve"] == result["curve"]
    assert not list((tmp_path / "run").glob(".*"))


def test_a_finished_folder_without_its_weights_is_refused(tmp_path, pretrained):
    folder = shutil.copytree(pretrained[0], tmp_path / "run")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"finished run, but model\.safetensors is damaged"):
        pretrain(SPEC, MODEL, folder)


def test_a_killed_run_on_text_goes_on_to_the_same_weights(tmp_path, labelled_dataset, monkeypatch):
    killed = ("-c", PRETRAIN_ON_TEXT, tmp_path / "killed", labelled_dataset)
    kill_after_a_checkpoint(killed, tmp_path / "killed")

    # Runs that are not killed need no process of their own.
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in ("whole", "killed"):
        monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / name), str(labelled_dataset)])
        exec(PRETRAIN_ON_TEXT, {})
    for file in ("model.safetensors", "generator/model.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    curves = [
        json.loads((tmp_path / name / "pretraining.json").read_text())["curve"]
        for name in ("whole", "killed")
    ]
    assert curves[0] == curves[1]


def test_two_commands_do_not_share_a_folder(tmp_path, labelled_corpus, encoder_tokenizer):
    with (
        held(tmp_path / "run" / "checkpoints"),
        pytest.raises(UsageError, match=r"Another command is writing .*/run; wait for it"),
    ):
        pretrain(
            spec_of("mlm"),
            ELECTRA,
            tmp_path / "run",
            tokenizer=encoder_tokenizer,
            corpus=labelled_corpus,
        )
