"""The notebooks of examples/ run from the first cell to the last, at a tiny size.

Run: pytest tests/test_notebooks.py
"""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder that looks like examples/notebooks, whose kernels and commands are of this clone."""
    (tmp_path / "data").symlink_to(ROOT / "examples" / "data")
    (tmp_path / "notebooks").mkdir()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", programs)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SYNPRE_TINY", "1")
    return tmp_path / "notebooks"


def printed(notebook):
    """Return all that a notebook shows as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs)


def test_there_are_two_notebooks():
    assert [file.stem for file in NOTEBOOKS] == ["compare_starts", "first_steps"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_committed_without_outputs(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("first_steps", ["input_ids", "right [", "wrong [", "test rows are exactly right"]),
        ("compare_starts", ["statistics", "points, 95 % interval", "<IPython.core.display.Image"]),
    ],
)
def test_a_notebook_runs(name, shown, workspace):
    notebook = nbformat.read(ROOT / "examples" / "notebooks" / f"{name}.ipynb", as_version=4)
    where = {"metadata": {"path": str(workspace)}}
    client = NotebookClient(notebook, timeout=300, startup_timeout=300, resources=where)
    client.execute()  # raises where a cell does
    text = printed(notebook)
    assert [part for part in shown if part not in text] == []
