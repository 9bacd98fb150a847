"""`synpre build`: a task by its name has the recipe that is published; a card names the folder.

Run: pytest tests/cli/test_build.py
"""

from pathlib import Path

import pytest
from datasets import load_dataset

from hf_synpre import generate
from hf_synpre.cli import build, main
from hf_synpre.files import held

PUBLISHED = sorted((Path(__file__).parents[2] / "dataset_scripts").glob("*.yaml"))


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_a_task_by_name_has_the_recipe_that_is_published(file):
    assert build.read_recipe(file.stem).configs == build.read_recipe(str(file)).configs


def test_build_makes_a_dataset_that_load_dataset_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "SMALL_SPLITS", {"train": 30})
    assert main(["build", "reverse", "--config", "small"]) == 0
    folder = "runs/datasets/reverse"
    assert f'load_dataset("{folder}")' in capsys.readouterr().out
    rows = load_dataset(folder, "small", split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.to_list() == generate("reverse", 0, 30).to_pylist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "No task was given; write `synpre build TASK`"),
        (["set", "--push_to_hub"], "--push_to_hub was given without --repo_id"),
        (["sett"], "Unknown dataset 'sett'. Did you mean 'set'?"),
    ],
)
def test_bad_builds_are_one_line_and_leave_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["build", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_second_of_two_builds_into_a_folder_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "SMALL_SPLITS", {"train": 30})
    words = ["build", "reverse", "--config", "small", "--output_dir", str(tmp_path)]
    with held(tmp_path / "small"):
        assert main(words) == 1
        assert "Another command is writing" in capsys.readouterr().err
        assert main([*words, "--num_shards", "1", "--shard_index", "0"]) == 0
    assert main(words) == 0
