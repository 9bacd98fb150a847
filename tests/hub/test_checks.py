"""What is refused before anything is sent: names, links, pickles, tokens, bad argv.

Run: pytest tests/hub/test_checks.py
"""

import json
import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from hub_clients import WRITE
from safetensors.numpy import save_file

from hf_synpre import UsageError, hub
from hf_synpre.cli import main
from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import build_shards


def test_a_shard_whose_rows_were_changed_is_not_pushed(tmp_path):
    recipe = Recipe("set", vocabulary=64, splits={"train": 100})
    (file,) = build_shards(recipe, "default", tmp_path)
    hub.plan_push(tmp_path, "me/set")
    table = pq.read_table(file)
    changed = table.set_column(0, "input_ids", table["labels"]).replace_schema_metadata(
        pq.read_metadata(file).metadata
    )
    pq.write_table(changed, file)
    with pytest.raises(UsageError, match="does not hold the rows that it was built with"):
        hub.plan_push(tmp_path, "me/set")


@pytest.mark.parametrize(
    "repo_id",
    [
        "set",
        "a/b/c",
        "../set",
        "synpre/..",
        "/etc/passwd",
        "a b/c",
        "synpre/x.git",
        "",
        "http://x/y",
        "a/-b",
        "a/b\n",
    ],
)
def test_repo_ids_are_checked(repo_id, model, capsys):
    with pytest.raises(UsageError, match="is no namespace/name"):
        hub.check_repo_id(repo_id)
    assert main(["push", str(model), f"--repo_id={repo_id}", "--dry_run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "../x.json",
        "/etc/x.json",
        "a/../b.json",
        "a//b",
        ".git/config",
        "a/.hidden",
        "c:x",
        "a\\b",
        "a\nb",
        "",
    ],
)
def test_file_names_are_checked(name):
    with pytest.raises(UsageError, match="leads outside of the repository or is hidden"):
        hub.check_file_name(name)


def secret_link(folder):
    (folder.parent / "secret.json").write_text("{}")
    (folder / "more.json").symlink_to(folder.parent / "secret.json")


def no_safetensors(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


UNFIT = {
    "a link out of the folder": (
        secret_link,
        "more.json is a link to a file outside of the folder",
    ),
    "a pickle in disguise": (
        no_safetensors,
        "model.safetensors is not a complete safetensors file",
    ),
    "a token in a JSON": (
        lambda f: (f / "notes.json").write_text(json.dumps({"key": WRITE})),
        "notes.json holds an access token",
    ),
    "a token in the card": (
        lambda f: (f / "README.md").write_text(f"use {WRITE}"),
        "README.md holds an access token",
    ),
    "nothing to publish": (
        lambda f: [p.unlink() for p in f.glob("p*.json")],
        "holds neither shards of a complete dataset nor",
    ),
    "a broken pretraining.json": (
        lambda f: (f / "pretraining.json").write_text("{"),
        "pretraining.json is not valid JSON",
    ),
    "a pretraining.json with something else": (
        lambda f: (f / "pretraining.json").write_text("[1]"),
        "are not what hf_synpre writes",
    ),
    "an unknown task": (
        lambda f: (f / "pretraining.json").write_text(
            '{"recipe": {"pretraining": {"task": "sett"}}}'
        ),
        "Unknown task 'sett'",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_folders_that_must_not_be_published(what, model, tmp_path, capsys):
    spoil, message = UNFIT[what]
    folder = shutil.copytree(model, tmp_path / "m")
    spoil(folder)
    assert main(["push", str(folder), "--repo_id", "me/m"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert WRITE not in error
    assert error.count("\n") == 1


def test_only_safetensors_and_texts_leave(model, tmp_path, capsys):
    folder = shutil.copytree(model, tmp_path / "m")
    left = [
        "pytorch_model.bin",
        "training_args.bin",
        "a.pkl",
        "a.ckpt",
        "a.npy",
        "weights.h5",
        "code.py",
        ".env",
        "trainer_state.json",
    ]
    for name in left:
        (folder / name).write_bytes(pickle.dumps({}))
    save_file({"x": np.zeros(3)}, folder / "more.safetensors")
    plan = hub.plan_push(folder, "me/m")
    assert set(plan.files) == {
        *(
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "more.safetensors",
        ),
        *("parameter_statistics.json", "pretraining.json", "tokenizer_config.json"),
    }
    assert set(plan.left_out) == {*left, "optimizer.pt", "checkpoint-2/"}
    assert main(["push", str(folder), "--repo_id", "me/m", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "model me/m: 8 files" in out
    assert "stays here: pytorch_model.bin" in out
    assert not (folder / "README.md").exists(), "a dry run writes nothing"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "push needs a folder and a repository"),
        (["nowhere", "--repo_id", "me/x"], "There is no folder nowhere"),
        (["--from_card"], "expected one argument"),
    ],
)
def test_bad_arguments_of_push(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["generate" if "--from_card" in argv else "push", *argv]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--from-card", "./nowhere"], "is no namespace/name"),
        (["set", "--from-card", "x/y", "--seed", "3"], "leave --seed out"),
        (["set", "--config", "small"], "--config belongs to --from_card"),
        (["--from-card", "synpre/set"], "the Hub cannot be reached"),
    ],
)
def test_bad_arguments_of_generate_from_card(argv, message, capsys):
    assert main(["generate", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
