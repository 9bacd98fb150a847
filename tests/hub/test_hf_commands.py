"""`hf synpre ...` and `hf jobs uv run`: the command line of huggingface_hub runs ours.

Run: pytest tests/hub/test_hf_commands.py
"""

import os
import re
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from hub_clients import HOME, READ, TINY

JOB = HOME / "examples" / "jobs" / "pretrain_and_push.py"
HF = Path(sys.executable).with_name("hf")


def test_the_package_has_the_command_that_an_extension_must_have(wheel):
    """`hf extensions install OWNER/hf-synpre` installs the package and looks for this script."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        scripts = archive.read(name).decode()
    assert "hf-synpre = hf_synpre.cli:main" in scripts
    assert "synpre = hf_synpre.cli:main" in scripts


# `hf extensions install me/hf-synpre`, with a wheel of this package in place of GitHub's archive
# and without the package's dependencies. All else is the code of huggingface_hub.
INSTALL = """
import subprocess, sys
import httpx2
from huggingface_hub.cli import extensions
from huggingface_hub.cli.hf import main

class Answer:
    text = "a" * 40 + " HEAD\\0"
    def json(self):
        raise ValueError

def github(method, url, **options):
    if url.startswith("https://raw.githubusercontent.com/"):
        raise httpx2.HTTPError("404")
    return Answer()

def run(command, **options):
    if command[-1] == "https://github.com/me/hf-synpre/archive/HEAD.zip":
        command = [*command[:-1], "--no-index", "--no-deps", {wheel!r}]
    return real_run(command, **options)

real_run, subprocess.run = subprocess.run, run
extensions._github_request = github
extensions.shutil.which = lambda name: None  # pip installs it, not uv
sys.argv = ["hf", "extensions", "install", "me/hf-synpre"]
main()
"""


@pytest.fixture
def extension(server, wheel, tmp_path):
    """A home folder in which `hf extensions install` has put the extension."""
    environment = {"HOME": str(tmp_path), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    done = server.run("-c", INSTALL.format(wheel=str(wheel)), **environment)
    assert done.returncode == 0, done.stderr
    assert "Python extension installed" in done.stdout

    # Its environment takes the dependencies from that of the tests.
    (packages,) = tmp_path.rglob("hf-synpre/venv/lib/*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def test_hf_runs_the_extension_and_passes_on_its_exit_code(server, extension):
    done = server.run(HF, "synpre", "tasks", **extension)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^set +Return", done.stdout, flags=re.M)
    refused = server.run(HF, "synpre", "reproduce", "./nowhere", **extension)
    assert refused.returncode == 2
    assert refused.stderr == "synpre: There is no folder ./nowhere; check its name.\n"
    assert "synpre" in server.run(HF, "--help", **extension).stdout


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
