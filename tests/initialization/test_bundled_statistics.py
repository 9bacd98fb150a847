"""The statistics bundled with the package: complete in a clone, in a zip file, in a wheel.

Run: pytest tests/initialization/test_bundled_statistics.py
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hf_synpre.initialization import bundled_checkpoints

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


def test_a_wheel_holds_all_files_that_the_package_reads(tmp_path):
    # A copy of what the wheel is made of, as a zip file of the repository would give it.
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HOME / name, tmp_path)
    cached = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HOME / "hf_synpre", tmp_path / "hf_synpre", ignore=cached)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("hf_synpre/")}
    files = {file for file in (tmp_path / "hf_synpre").rglob("*") if file.is_file()}
    assert {file.relative_to(tmp_path).as_posix() for file in files} <= packed
    for folder in bundled_checkpoints().values():
        assert {f"hf_synpre/statistics/{folder.name}/{name}" for name in FILES} <= packed
