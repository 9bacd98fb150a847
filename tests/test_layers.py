"""The house: rooms import downwards only, and what need not import torch does not.

Run: pytest tests/test_layers.py
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_synpre"

# What each room may import from outside the standard library.
ARRAYS = {"numpy", "numba", "pyarrow", "yaml"}
DATA = ARRAYS | {"datasets", "huggingface_hub", "tokenizers", "torch", "transformers"}
MODELS = DATA | {"safetensors"}
TRAINING = MODELS | {"accelerate", "evaluate", "peft", "rouge_score", "sacrebleu", "tqdm"}

# The rooms and flat modules from the lowest to the highest: each imports itself and what stands
# before it.
ROOMS = {
    "errors": set(),
    "digits": set(),
    "config": {"yaml"},
    "files": {"numpy", "filelock", "safetensors"},
    "versions": set(),
    "provenance": {"safetensors"},
    "vocabulary": ARRAYS,
    "tasks": ARRAYS,
    "data": DATA,
    "initialization": MODELS | {"psutil"},
    "models": MODELS,
    "training": TRAINING,
    "finetuning": TRAINING,
    "experiments": TRAINING | {"joblib", "rich", "ray", "filelock", "psutil"},
    "report": {"numpy", "jinja2", "markdown_it", "matplotlib", "yaml"},
    "audit": ARRAYS | {"datasets", "matplotlib"},
    "hub": ARRAYS | {"huggingface_hub", "jinja2", "safetensors", "torch", "transformers"},
    "cli": {"joblib", "tqdm", "yaml", "pyarrow", "transformers"},
}
ORDER = list(ROOMS)
# The report and the Hub's room read files that runs wrote; what they import of the house needs no
# torch.
WITHOUT_TORCH = {"report", "hub"}
TORCH_ROOMS = {"initialization", "models", "training", "finetuning", "experiments"}

SOURCES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
)


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> list[str]:
    """Return the full names of all modules that a file imports, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
            if node.module == "hf_synpre":
                names += [f"hf_synpre.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("file", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_downwards(file):
    own_room = room(file)
    for name in imported(file):
        head, _, rest = name.partition(".")
        if head == "hf_synpre":
            imported_room = rest.partition(".")[0]
            if imported_room in ROOMS:
                assert ORDER.index(imported_room) <= ORDER.index(own_room), (
                    f"{file.name} imports {name}, which stands above {own_room}"
                )
        elif head not in sys.stdlib_module_names:
            assert head in ROOMS[own_room], f"{file.name} in {own_room} imports {head}"


@pytest.mark.parametrize("own_room", sorted(WITHOUT_TORCH))
def test_rooms_that_read_files_import_no_room_of_models(own_room):
    for file in (PACKAGE / own_room).rglob("*.py"):
        # One runs inside a Trainer, the other trains: there torch is needed anyhow.
        if file.name in ("callback.py", "reproduce.py"):
            continue
        rooms = {name.split(".")[1] for name in imported(file) if name.startswith("hf_synpre.")}
        assert not rooms & TORCH_ROOMS, f"{file.name} imports {rooms & TORCH_ROOMS}"


def test_reports_and_the_command_line_need_no_torch():
    code = (
        "import sys, hf_synpre.report, hf_synpre.cli; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_readme_tree_names_every_room_and_flat_module():
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    for name in ROOMS:
        written = f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py"
        assert written in page, f"the tree of CONTRIBUTING.md lacks {written}"


def test_there_are_eleven_rooms_and_a_few_flat_modules():
    entries = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    rooms = {name for name in entries if (PACKAGE / name / "__init__.py").exists()}
    assert len(rooms) == 11
    assert {name.removesuffix(".py") for name in entries} <= {*ROOMS, "statistics", "py.typed"}


def test_no_file_is_longer_than_500_lines():
    files = [*SOURCES, *PACKAGE.parent.glob("tests/**/*.py")]
    lengths = {file.name: len(file.read_text().splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_the_order_of_tasks_does_not_depend_on_what_was_imported_first():
    code = "import hf_synpre.tasks.{}; from hf_synpre import list_tasks; print(list_tasks())"
    orders = {
        subprocess.run(
            [sys.executable, "-c", code.format(family)], capture_output=True, text=True, check=True
        ).stdout
        for family in ("functions", "nonsense")
    }
    assert len(orders) == 1
    assert orders.pop().startswith("['identity', 'set', 'delete'")
