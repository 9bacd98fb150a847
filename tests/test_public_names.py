"""The names of `from hf_synpre import ...`: editors see them, they import only what they need.

Run: pytest tests/test_public_names.py
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hf_synpre

PACKAGE = Path(hf_synpre.__file__).parent
# What works on arrays alone; the others need torch.
WITHOUT_TORCH = ["UsageError", "Vocabulary", "generate", "get_task", "list_tasks", "register_task"]


def names_for_type_checkers():
    """Return name -> module of the imports that only type checkers see."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_editors_see_the_names_that_are_imported_lazily():
    assert names_for_type_checkers() == hf_synpre._MODULES
    assert sorted(hf_synpre._MODULES) == hf_synpre.__all__
    assert set(hf_synpre.__all__) <= set(dir(hf_synpre))


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()
    assert '"py.typed"' in (PACKAGE.parent / "setup.py").read_text()


@pytest.mark.parametrize("name", hf_synpre.__all__)
def test_every_name_is_there(name):
    assert callable(getattr(hf_synpre, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hf_synpre' has no attribute 'generat'"):
        hf_synpre.generat  # noqa: B018


def test_names_for_arrays_import_no_torch():
    code = (
        f"import sys; from hf_synpre import {', '.join(WITHOUT_TORCH)}; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_import_paths_that_documents_have_shown_go_on_to_work():
    from hf_synpre.cli import main
    from hf_synpre.report.cells import ABSENT
    from hf_synpre.tasks import generate
    from hf_synpre.tasks.mixture import Mixture
    from hf_synpre.vocabulary import Vocabulary

    assert all([main, ABSENT, generate, Mixture, Vocabulary])
