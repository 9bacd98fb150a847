"""The house: imports run downwards, and what need not import torch does not."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_synpre"
LIGHT = {"numpy", "numba", "pyarrow", "yaml", "jinja2", "matplotlib"}
TEXT = LIGHT | {"datasets", "tokenizers"}
MODELS = TEXT | {"torch", "transformers", "safetensors", "huggingface_hub"}
ALL = MODELS | {"evaluate", "filelock", "joblib", "tqdm", "accelerate", "peft", "ray", "rich", "rouge_score", "sacrebleu"}
ALLOWED = {
    0: LIGHT,
    1: LIGHT,
    2: TEXT,
    3: MODELS,
    4: ALL,
    5: LIGHT | {"huggingface_hub", "safetensors"},
    6: LIGHT | {"transformers"},
}
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem not in ("__init__", "__main__"))


def layer(file):
    """The layer that a module's docstring claims; the tasks share one."""
    file = file.with_name("__init__.py") if file.parent.name == "tasks" else file
    found = re.match(r"Layer (\d)", ast.get_docstring(ast.parse(file.read_text())) or "")
    return int(found.group(1)) if found else pytest.fail(f"{file} does not say its layer")


def imported(file, top_only=False):
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", SOURCES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_downwards(file):
    own = layer(file)
    for name in imported(file):
        head, _, rest = name.partition(".")
        if head == "hf_synpre" and rest:
            module = PACKAGE.joinpath(*rest.split("."))
            target = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
            assert not target.exists() or layer(target) <= own, f"{file.name} imports {name} from a higher layer"
        elif head != "hf_synpre" and head not in sys.stdlib_module_names:
            assert head in ALLOWED[own], f"{file.name} (layer {own}) imports {head}"


def test_reports_need_no_torch():
    code = "import sys, hf_synpre.report, hf_synpre.cli; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_readme_tree_names_every_module():
    readme = (PACKAGE.parent / "README.md").read_text()
    missing = [p.name for p in PACKAGE.glob("*.py") if not p.name.startswith("__") and p.name not in readme]
    assert missing == []


def test_the_order_of_tasks_does_not_depend_on_what_was_imported_first():
    code = "import hf_synpre.tasks.{}; from hf_synpre import list_tasks; print(list_tasks())"
    orders = {
        subprocess.run([sys.executable, "-c", code.format(family)], capture_output=True, text=True, check=True).stdout
        for family in ("functions", "nonsense")
    }
    assert len(orders) == 1
    assert orders.pop().startswith("['identity', 'set', 'delete'")
