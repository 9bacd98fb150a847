"""The site of the documents: every page is in it, messages that pages quote are real, it builds.

Run: pytest tests/test_site.py
"""

import importlib.util
import os
import re
from pathlib import Path

import pytest
import yaml

import hf_synpre

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def pages_of(entries):
    """Return the files that a navigation of mkdocs names."""
    pages = []
    for entry in entries:
        for target in entry.values():
            pages += pages_of(target) if isinstance(target, list) else [target]
    return pages


def test_every_page_is_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text()
    assert {page.name for page in DOCS.glob("*.md")} <= set(pages_of(yaml.safe_load(config)["nav"]))


def test_the_reference_has_every_public_name():
    named = re.findall(r"^::: hf_synpre\.(\w+)$", (DOCS / "reference.md").read_text(), re.M)
    assert sorted(named) == hf_synpre.__all__


def test_messages_of_the_page_on_errors_are_those_of_the_package():
    sources = [file.read_text() for file in (ROOT / "hf_synpre").rglob("*.py")]
    # A message may be broken over several lines of source.
    joined = "\n".join(re.sub(r'"\s*\n\s*f?"', "", source) for source in sources)
    rows = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text(), re.M)
    assert len(rows) > 5
    assert [message for message in rows if message not in joined] == []


def test_drawings_are_those_of_their_script():
    pages = [page.read_text() for page in DOCS.glob("*.md")]
    used = {name for page in pages for name in re.findall(r"\(images/(\w+)\.svg\)", page)}
    drawn = set(
        re.findall(r"for drawing in \(([\w, ]+)\)", (DOCS / "drawings.py").read_text())[0].split(
            ", "
        )
    )
    assert used == drawn == {file.stem for file in (DOCS / "images").glob("*.svg")}


@pytest.fixture
def script():
    """docs/five_minutes.py as a module."""
    spec = importlib.util.spec_from_file_location("five_minutes", DOCS / "five_minutes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_five_minutes_shows_the_steps_of_its_script(script):
    page = (DOCS / "five_minutes.md").read_text()
    outputs = re.findall(r"^```text\n(.*?)\n```$", page, re.M | re.S)
    assert all(outputs)
    assert script.render(outputs) == page, "run `python docs/five_minutes.py`"


def test_five_minutes_shows_what_a_terminal_shows_but_for_the_time(tmp_path, script):
    lines = [
        "echo 'x: about 83 s for all steps, by the first 7.'",
        "echo ' \"train_s\": 44.4,'",
        "echo exact_match 0.25 >&2",
        "printf '%0120d' 7",
    ]
    step = script.Step("title", "before", "bash", "\n".join(lines))
    long = f"{'0' * script.COLUMNS}\n{'7':0>{120 - script.COLUMNS}}"
    assert script.record(step, tmp_path, dict(os.environ)) == f"exact_match 0.25\n{long}"

    failing = script.Step("title", "before", "bash", "echo why; exit 3")
    with pytest.raises(RuntimeError, match="why"):
        script.record(failing, tmp_path, dict(os.environ))


def test_the_site_builds_strictly(tmp_path, monkeypatch):
    build = pytest.importorskip("mkdocs.commands.build")
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path))
    try:
        build.build(config)
    except Abort as error:
        pytest.fail(str(error))
    assert "StatisticsInit" in (tmp_path / "reference.html").read_text()
    assert (tmp_path / "results" / "quickstart" / "curves.png").exists()
