"""What users install: a wheel or a source archive, with what it needs; files that say versions.

Run: pytest tests/test_installation.py
"""

import ast
import re
import shutil
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from environments import install_alone, run_outside
from packaging.requirements import Requirement

from hf_synpre import __version__
from hf_synpre.config import read_yaml

ROOT = Path(__file__).parents[1]
# It reads every kind of file that is bundled: task tables, statistics, cards' templates.
SCRIPT = """
from pathlib import Path

from transformers import AutoModelForSeq2SeqLM

from hf_synpre import StatisticsInit, generate, list_tasks
from hf_synpre.hub.cards import model_card
from hf_synpre.initialization import bundled_checkpoints

assert len(list_tasks()) > 20
assert generate("nonsense_summary", 0, 2, split="train", seed=0).num_rows == 2
model = StatisticsInit(AutoModelForSeq2SeqLM, seed=0).from_pretrained("synpre/t5-mini-set")
assert all(tensor.isfinite().all() for tensor in model.parameters())
for name, folder in bundled_checkpoints().items():
    assert "## How to load" in model_card(folder, name)
assert (Path(__import__("hf_synpre").__file__).parent / "py.typed").exists()
"""


def test_the_source_archive_is_installed_and_has_the_commands(archives, tmp_path):
    commands = install_alone(archives["sdist"], tmp_path)
    assert "longest_word" in run_outside(str(commands / "synpre"), "tasks", cwd=tmp_path)


def test_an_installed_package_works_outside_of_the_clone(archives, tmp_path):
    commands = install_alone(archives["wheel"], tmp_path)
    uncompiled = {"NUMBA_DISABLE_JIT": "1"}
    run_outside(str(commands / "python"), "-c", SCRIPT, cwd=tmp_path, env=uncompiled)

    synpre = str(commands / "synpre")
    assert "longest_word" in run_outside(synpre, "tasks", cwd=tmp_path)
    results = shutil.copytree(ROOT / "results" / "quickstart", tmp_path / "quickstart")
    (results / "report.md").unlink()
    run_outside(synpre, "report", str(results), cwd=tmp_path)
    assert "| statistics |" in (results / "report.md").read_text(encoding="utf-8")


def test_both_archives_hold_the_same_package_and_no_weights(archives):
    wheel = set(zipfile.ZipFile(archives["wheel"]).namelist())
    with tarfile.open(archives["sdist"]) as file:
        source = {name.split("/", 1)[-1] for name in file.getnames()}
    package = {name for name in wheel if name.startswith("hf_synpre/")}
    assert package <= source
    assert not [name for name in wheel | source if name.endswith(".safetensors")]
    assert {"LICENSE", "README.md", "pyproject.toml"} <= source


@pytest.fixture(scope="module")
def metadata(archives):
    """What the wheel says of itself."""
    with zipfile.ZipFile(archives["wheel"]) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(file.read(name))


def test_the_lowest_constraints_are_the_lower_bounds_of_setup(metadata):
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    bounds = {
        f"{requirement.name}=={bound.version}".lower()
        for requirement in requirements
        for bound in requirement.specifier
        if requirement.marker is None and bound.operator == ">="
    }
    lines = (ROOT / "constraints-lowest.txt").read_text().lower().split()
    assert lines == sorted(lines)
    assert set(lines) == bounds


def test_pythons_and_versions_are_the_same_everywhere(metadata):
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    pythons = re.search(r"^PYTHONS = (\[.*\])$", noxfile, flags=re.M)
    pythons = ast.literal_eval(pythons[1])
    assert metadata["Requires-Python"] == f">={pythons[0]}"

    jobs = read_yaml(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    sessions = jobs["matrix"]["strategy"]["matrix"]["session"]
    assert sessions == [*(f"newest-{python}" for python in pythons), f"lowest-{pythons[0]}"]
    (setup,) = (step for step in jobs["matrix"]["steps"] if "setup-python@" in step.get("uses", ""))
    assert setup["with"]["python-version"].split() == pythons

    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == metadata["Version"] == __version__
    assert citation["license"] == metadata["License"]
    assert citation["abstract"].rstrip(".") == metadata["Summary"]


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=str)
def test_a_workflow_may_only_read_and_pins_its_actions(file):
    workflow = read_yaml(file)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            uses = step.get("uses")
            assert uses is None or re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", uses), uses


def test_other_files_of_the_repository_are_yaml_and_name_what_is_there():
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert {"name", "description", "body"} <= read_yaml(form).keys()
    (local,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [hook["id"] for hook in local["hooks"]] == ["ruff-format", "ruff", "mypy"]

    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    names = [name.removeprefix("!") for name in kept if name.startswith("!")]
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), flags=re.M)
    assert sorted(" ".join(copied).split()) == sorted(names)
    assert all((ROOT / name).exists() for name in names)
