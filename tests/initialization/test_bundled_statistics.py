"""The statistics bundled with the package: complete in a clone, in a zip file, in a wheel.

Run: pytest tests/initialization/test_bundled_statistics.py
"""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from small_models import SEQ2SEQ, assert_equal
from transformers import AutoModel

from hf_synpre import ParameterStatistics, StatisticsInit
from hf_synpre.initialization import STATISTICS_FILE, bundled_checkpoints, checkpoints

HOME = Path(__file__).parents[2]
FILES = ("config.json", "parameter_statistics.json", "pretraining.json")


def test_every_card_has_its_three_files_in_the_package():
    released = {card.parent.name for card in HOME.glob("model_cards/*/README.md")}
    assert {folder.name for folder in bundled_checkpoints().values()} == released
    for folder in bundled_checkpoints().values():
        assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)


def test_the_repository_tracks_no_symbolic_link():
    if not (HOME / ".git").exists():
        pytest.skip("no clone")
    listed = subprocess.run(
        ["git", "ls-files", "-s"], cwd=HOME, capture_output=True, text=True, check=True
    ).stdout
    assert [line for line in listed.splitlines() if line.startswith("120000")] == []


def test_a_wheel_holds_all_files_that_the_package_reads(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("hf_synpre/")}
    source = HOME / "hf_synpre"
    files = {file.relative_to(HOME).as_posix() for file in source.rglob("*") if file.is_file()}
    assert {name for name in files if "__pycache__" not in name} <= packed
    for folder in bundled_checkpoints().values():
        assert {f"hf_synpre/statistics/{folder.name}/{name}" for name in FILES} <= packed


def test_an_id_that_is_bundled_with_the_package_needs_no_hub(t5_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BUNDLED", tmp_path / "statistics")
    folder = tmp_path / "statistics" / "t5-tiny"
    folder.mkdir(parents=True)
    ParameterStatistics.from_pretrained(t5_checkpoint).save(folder / STATISTICS_FILE)
    shutil.copy(t5_checkpoint / "config.json", folder)
    assert bundled_checkpoints() == {"synpre/t5-tiny": folder}
    assert_equal(
        SEQ2SEQ().from_pretrained("synpre/t5-tiny"), SEQ2SEQ().from_pretrained(t5_checkpoint)
    )
    with pytest.raises(OSError, match="'synpre/t5-tiny' is no folder and could not be downloaded"):
        SEQ2SEQ(scheme="weights").from_pretrained("synpre/t5-tiny")


@pytest.mark.parametrize("name", sorted(bundled_checkpoints()))
def test_bundled_statistics_make_a_model(name):
    model = StatisticsInit(AutoModel).from_pretrained(name)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("synpre/t5-mini-set", "only its statistics are bundled, .* its folder in model_cards/"),
        (
            "synpre/t5-mini-sett",
            r"The package has no checkpoint synpre/t5-mini-sett. Did you mean synpre/t5-mini-set\? "
            "It has synpre/gpt2-mini-identity, .*synpre/t5-mini-sort, ",
        ),
        # The guess is one of the same architecture.
        ("synpre/gpt2-mini-sort", r"gpt2-mini-sort. Did you mean synpre/gpt2-mini-set\? "),
        ("synpre/lama-mini-set", r"lama-mini-set. Did you mean synpre/llama-mini-set\? "),
    ],
)
def test_an_error_says_that_weights_are_not_bundled(name, message):
    with pytest.raises(OSError, match=message):
        StatisticsInit(AutoModel, scheme="weights").from_pretrained(name, local_files_only=True)
