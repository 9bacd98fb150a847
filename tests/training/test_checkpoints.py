"""Checkpoints in the output folder: how many stay, what loads them, from which a run goes on.

Run: pytest tests/training/test_checkpoints.py
"""

import json
import os
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from encoder_examples import ELECTRA, spec_of
from pretraining_runs import short_run
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from hf_synpre import UsageError
from hf_synpre.files import read_json
from hf_synpre.hub import plan_push
from hf_synpre.training import checkpoints, pretraining
from hf_synpre.training.checkpoints import recipe_differences
from hf_synpre.training.run_folder import begin_or_resume


def names(folder):
    """The names of the checkpoints in a folder, the oldest first."""
    return [entry.name for entry in reversed(checkpoints.by_step(folder))]


# --- how many stay --------------------------------------------------------------------------------


def test_two_checkpoints_are_kept_while_a_run_goes_on(unfinished):
    assert names(unfinished) == ["checkpoint-20", "checkpoint-30"]
    assert not (unfinished / "config.json").exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, ["checkpoint-6"]),
        ({"save_total_limit": 2}, ["checkpoint-4", "checkpoint-6"]),
        ({"save_total_limit": 9}, ["checkpoint-2", "checkpoint-4", "checkpoint-6"]),
        ({"keep_checkpoints": 0}, []),
        ({"save_strategy": "no"}, []),
        ({"save_strategy": False}, []),  # what YAML makes of the word no
    ],
    ids=str,
)
def test_in_a_finished_folder_as_many_stay_as_were_asked_for(tmp_path, given, kept):
    steps = {} if "save_strategy" in given else {"save_steps": 2}
    if "save_strategy" in given:
        steps = {"save_steps": 500}  # as if it was not given
    short_run(tmp_path / "run", **{"max_steps": 6} | steps | given)
    assert names(tmp_path / "run") == kept
    assert not (tmp_path / "run" / "recipe.json").exists()
    published = plan_push(tmp_path / "run", "me/run").files
    assert "model.safetensors" in published
    assert not [name for name in published if "checkpoint" in name]


def test_only_checkpoints_of_the_run_itself_count_and_go(tmp_path, unfinished):
    """Trainer's own rotation would delete all but the best at the end of such a run."""
    folder = tmp_path / "run"
    for name in ("checkpoint-2", "checkpoint-99"):
        shutil.copytree(unfinished / "checkpoint-20", folder / name)  # another recipe
    watched = {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "loss"}
    limits = {"max_steps": 8, "save_steps": 2, "save_total_limit": 1, "greater_is_better": True}
    short_run(folder, **limits | watched)
    assert names(folder) == ["checkpoint-2", "checkpoint-4", "checkpoint-8", "checkpoint-99"]
    state = read_json(folder / "checkpoint-8" / "trainer_state.json")
    assert state["best_model_checkpoint"] == str(folder / "checkpoint-4")


def test_a_checkpoint_that_somebody_else_made_keeps_its_name(tmp_path, caplog):
    (tmp_path / "run" / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-2" / "thesis.txt").write_text("precious")
    short_run(tmp_path / "run", max_steps=4, save_steps=2, save_total_limit=9)
    assert names(tmp_path / "run") == ["checkpoint-2", "checkpoint-4"]
    assert [entry.name for entry in (tmp_path / "run" / "checkpoint-2").iterdir()] == ["thesis.txt"]
    assert "was not made by this run and is left as it is; this step is not saved" in caplog.text


# --- what loads them ------------------------------------------------------------------------------


def test_a_checkpoint_loads_and_a_stock_trainer_goes_on_from_it(unfinished, tmp_path):
    checkpoint = unfinished / "checkpoint-30"
    model, report = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, output_loading_info=True)
    assert not report["missing_keys"]
    assert model.config.use_cache is True
    with pytest.raises(ValueError, match="tokenizer"):
        AutoTokenizer.from_pretrained(checkpoint)

    rows = [{"input_ids": torch.ones(4, dtype=int), "labels": torch.ones(4, dtype=int)}] * 64
    args = Seq2SeqTrainingArguments(
        str(tmp_path), max_steps=31, use_cpu=True, report_to=[], save_strategy="no"
    )
    trainer = Seq2SeqTrainer(model, args, train_dataset=rows)
    assert trainer.train(resume_from_checkpoint=str(checkpoint)).global_step == 31


def test_a_checkpoint_of_replaced_token_detection_has_two_models_and_the_tokenizer(
    tmp_path, labelled_corpus, encoder_tokenizer
):
    """The run goes on from it to the bytes of one that was not stopped."""
    spec = spec_of("rtd", training={"max_steps": 4, "save_steps": 2, "use_cpu": True})
    data = {"tokenizer": encoder_tokenizer, "corpus": labelled_corpus}
    for name in ("whole", "killed"):
        folder = tmp_path / name
        pretraining.pretrain(spec, ELECTRA, folder, keep_checkpoints=2, **data)
        checkpoint = folder / "checkpoint-2"
        if name == "killed":
            shutil.copytree(tmp_path / "whole" / "checkpoint-2", checkpoint, dirs_exist_ok=True)

    assert AutoTokenizer.from_pretrained(checkpoint)("a cat")["input_ids"]
    for kind, part in ((AutoModelForPreTraining, "."), (AutoModelForMaskedLM, "generator")):
        _, report = kind.from_pretrained(checkpoint / part, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]


# --- from which a run goes on ---------------------------------------------------------------------


def as_any_folder(unfinished, folder):
    """A checkpoint was copied under another name, and is named."""
    shutil.copytree(unfinished / "checkpoint-20", folder.parent / "backup")
    return {"resume_from_checkpoint": str(folder.parent / "backup")}


def as_checkpoint(unfinished, folder):
    """A checkpoint was copied into an empty folder."""
    shutil.copytree(unfinished / "checkpoint-20", folder / "checkpoint-20")
    return {"resume_from_checkpoint": True}


def in_hidden_folder(unfinished, folder):
    """An earlier version began the run; its manifests do not have the recipe."""
    work = folder.with_name(f".{folder.name}.work")
    shutil.copytree(unfinished / "checkpoint-20", work / "checkpoint-20")
    manifest = work / "checkpoint-20" / "checkpoint.json"
    content = read_json(manifest)
    del content["recipe"]
    manifest.write_text(json.dumps(content))
    return {}


@pytest.mark.parametrize("copied", [as_any_folder, as_checkpoint, in_hidden_folder])
def test_a_run_goes_on_from_a_copied_checkpoint_to_the_same_weights(
    tmp_path, unfinished, short_digest, monkeypatch, caplog, copied
):
    begun_at = []
    real = pretraining.ResumableTrainer.train

    def train(trainer, resume_from_checkpoint):
        state = read_json(pretraining.Path(resume_from_checkpoint) / "trainer_state.json")
        begun_at.append(state["global_step"])
        return real(trainer, resume_from_checkpoint=resume_from_checkpoint)

    monkeypatch.setattr(pretraining.ResumableTrainer, "train", train)
    short_run(tmp_path / "run", **copied(unfinished, tmp_path / "run"))
    assert begun_at == [20]
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == short_digest
    assert re.search(r"goes on from .*(checkpoint-20|backup), after step 20 of 30\.", caplog.text)


def test_a_run_that_was_killed_before_its_first_checkpoint_says_that_it_starts_anew(
    tmp_path, caplog
):
    args = SimpleNamespace(process_index=0, resume_from_checkpoint=None, world_size=1, max_steps=3)
    for _ in range(2):
        assert begin_or_resume(tmp_path, args, {"seed": 0}) is None
    assert caplog.text.count("was begun and has no checkpoint yet: the run starts anew") == 1


def test_a_checkpoint_that_is_named_must_be_whole_and_of_the_recipe(tmp_path, unfinished):
    (tmp_path / "mine").mkdir()
    refused = {
        tmp_path / "mine": r"mine: model.* is missing, the weights of the model; give another",
        unfinished: r"is missing.*give one of the checkpoints in it: checkpoint-30, checkpoint-20",
    }
    for checkpoint, message in refused.items():
        with pytest.raises(UsageError, match=message):
            short_run(tmp_path / "run", resume_from_checkpoint=str(checkpoint))

    named = str(unfinished / "checkpoint-30")
    message = (
        r"cannot go on from .*checkpoint-30: it has another recipe "
        r"\(pretraining.training.learning_rate: 0.001 before, 0.01 now\); give another"
    )
    with pytest.raises(UsageError, match=message):
        short_run(tmp_path / "run", resume_from_checkpoint=named, learning_rate=0.01)
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == []

    message = "has no checkpoint of this run to resume from; give the path of one"
    with pytest.raises(UsageError, match=message):
        short_run(tmp_path / "run", resume_from_checkpoint=True)


def test_changed_text_is_said_in_plain_words():
    stored = {
        "pretraining": {"corpus": "plays", "window": 64},
        "corpus": {"name": "plays", "digest": "a1", "rows": 9},
        "tokenizer": {"origin": "strict: trained on the corpus", "digest": "b1"},
        "rows_a_step": 8,
    }
    changed = {
        **stored,
        "corpus": {"name": "plays", "digest": "a2", "rows": 10},
        "tokenizer": {"origin": "strict: trained on the corpus", "digest": "b2"},
    }
    plain = "the text of plays is no longer that which the run was begun with"
    assert recipe_differences(stored, changed) == plain
    more = recipe_differences(stored, changed | {"rows_a_step": 4})
    assert more == f"{plain}; rows_a_step: 8 before, 4 now"

    # A tokenizer that was given is another option, and so is what is taken of the text.
    named = {"tokenizer": {"origin": "stock", "digest": "b3"}}
    assert "tokenizer.digest" in recipe_differences(stored, changed | named)
    other = changed | {"pretraining": {"corpus": "plays", "window": 32}}
    assert recipe_differences(stored, other).startswith("pretraining.window: 64 before, 32 now")


def test_the_checkpoint_that_a_command_names_is_there_for_the_same_command(tmp_path, unfinished):
    folder = shutil.copytree(unfinished, tmp_path / "run")
    named = {"resume_from_checkpoint": str(folder / "checkpoint-20")}
    short_run(folder, save_total_limit=1, **named)
    assert names(folder) == ["checkpoint-20", "checkpoint-30"]


def test_a_checkpoint_without_manifest_is_named_as_such(tmp_path, unfinished, short_digest, caplog):
    copy = shutil.copytree(unfinished / "checkpoint-30", tmp_path / "copy")
    (copy / "checkpoint.json").unlink()
    short_run(tmp_path / "run", resume_from_checkpoint=str(copy))
    assert f"Nothing says by which recipe {copy} was made; it is taken" in caplog.text
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == short_digest


def test_a_run_killed_while_its_model_is_written_is_not_finished(
    tmp_path, unfinished, short_digest, monkeypatch
):
    folder = shutil.copytree(unfinished, tmp_path / "run")
    real = os.replace

    def killed_at_the_weights(source, target):
        if str(target) == str(folder / "model.safetensors"):
            pytest.fail("killed")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_at_the_weights)
        with pytest.raises(pytest.fail.Exception):
            short_run(folder)
    assert (folder / "config.json").exists()
    assert not (folder / "pretraining.json").exists()
    short_run(folder)
    assert (folder / "model.safetensors").read_bytes() == short_digest
    assert not list(folder.glob(".*"))


def test_what_a_run_killed_at_its_very_end_left_is_deleted(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "tidy", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            short_run(tmp_path / "run", max_steps=4, save_steps=2)
    assert names(tmp_path / "run") == ["checkpoint-2", "checkpoint-4"]
    short_run(tmp_path / "run", max_steps=4, save_steps=2)
    assert names(tmp_path / "run") == ["checkpoint-4"]
    assert not (tmp_path / "run" / "recipe.json").exists()
