"""`hf synpre ...` and `hf jobs uv run`: the command line of huggingface_hub runs ours.

Run: pytest tests/hub/test_hf_commands.py
"""

import os
import re
import sys
import tomllib
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hub_clients import HOME, READ, TINY
from huggingface_hub.cli.extensions import ExtensionManifest

JOB = HOME / "examples" / "jobs" / "pretrain_and_push.py"
HF = Path(sys.executable).with_name("hf")


def test_the_package_has_the_command_that_an_extension_must_have(wheel):
    """`hf extensions install OWNER/hf-synpre` installs the package and looks for this script."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        scripts = archive.read(name).decode()
    assert "hf-synpre = hf_synpre.cli:main" in scripts
    assert "synpre = hf_synpre.cli:main" in scripts


@pytest.fixture
def extension(server, tmp_path):
    """A home folder in which hf finds the extension, as its own install writes it."""
    folder = tmp_path / ".local" / "share" / "hf" / "extensions" / "hf-synpre"
    folder.mkdir(parents=True)
    executable = folder / "hf-synpre"
    executable.write_text(f'#!/bin/sh\nexec {sys.executable} -m hf_synpre "$@"\n')
    executable.chmod(0o755)
    ExtensionManifest(
        owner="me",
        repo="hf-synpre",
        repo_id="me/hf-synpre",
        short_name="synpre",
        executable_path=str(executable),
        type="python",
        installed_at=datetime.now(UTC),
        description="pre-training without a corpus",
    ).save(folder)
    return tmp_path


def test_hf_runs_the_extension_and_passes_on_its_exit_code(server, extension):
    environment = {"HOME": str(extension), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    done = server.run(HF, "synpre", "tasks", **environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^set +Return", done.stdout, flags=re.M)
    refused = server.run(HF, "synpre", "reproduce", "./nowhere", **environment)
    assert refused.returncode == 2
    assert refused.stderr == "synpre: There is no folder ./nowhere; check its name.\n"
    assert "synpre" in server.run(HF, "--help", **environment).stdout


def test_the_job_says_what_it_needs():
    """Its inline metadata (PEP 723) is TOML with what uv and hf read."""
    pattern = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
    (block,) = re.finditer(pattern, JOB.read_text())
    assert block["type"] == "script"
    lines = block["content"].splitlines()
    metadata = tomllib.loads("\n".join(line[2:] for line in lines))
    assert metadata["requires-python"] == ">=3.11"
    assert metadata["tool"]["hf-jobs"]["secrets"] == ["HF_TOKEN"], "without it nothing is pushed"


def test_hf_would_send_the_job(server):
    words = ["jobs", "uv", "run", "--dry-run", "--with", "hf_synpre @ git+https://example.org/x"]
    done = server.run(HF, *words, JOB, "synpre/t5-set", "set", "--preset", "smoke")
    assert done.returncode == 0, done.stderr
    for text in ("pretrain_and_push.py", "t4-small", "HF_TOKEN", "synpre/t5-set", "smoke"):
        assert text in done.stdout, done.stdout


def test_the_job_pushes_what_it_trained(server):
    tiny = ["--vocabulary", "64", "--config_overrides", TINY, "--max_steps", "1", "--use_cpu"]
    tiny += ["--per_device_train_batch_size", "4", "--output_dir", "job"]
    done = server.run(JOB, "synpre/t5-job", "reverse", *tiny)
    assert done.returncode == 0, done.stderr
    assert f"{server.address}/synpre/t5-job/commit/" in done.stdout
    files = server.files("models/synpre/t5-job")
    assert {"README.md", "model.safetensors", "pretraining.json"} <= set(files)


@pytest.mark.parametrize(
    ("words", "token", "message"),
    [
        (["synpre/late", "set"], READ, "your token does not allow this"),
        (["synpre/late", "set"], "", "you are not logged in"),
        (["late", "set"], READ, "is no namespace/name"),
        ([], READ, "give a repository and a task"),
    ],
)
def test_a_job_that_could_not_push_ends_before_it_trains(words, token, message, server):
    done = server.run(JOB, *words, "--output_dir", "late", token=token, home="late")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not os.path.exists(server.folder / "late" / "recipe.json")
