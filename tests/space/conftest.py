"""The modules of the page are those of the folder space/, as in a Space on the Hub."""

import sys
from pathlib import Path

import pytest

SPACE = Path(__file__).parents[2] / "space"
sys.path[:0] = [str(SPACE), str(SPACE.parent / "tests" / "hub")]  # the stand-in of the Hub


@pytest.fixture
def folder(tmp_path):
    """An empty folder, as a request gets it."""
    (tmp_path / "request").mkdir()
    return tmp_path / "request"
