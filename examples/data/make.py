"""Write the data of own_task.yaml and own_labels.yaml from the names in Python's standard library.

The files depend on the version of Python; those here were made with 3.11.

Run: python examples/data/make.py
"""

import ast
import csv
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
LIBRARY = Path(sysconfig.get_path("stdlib"))
LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "__main__"}
# Split -> number of rows.
ROWS = {"train": 1600, "validation": 200, "test": 200}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name and the syntax tree of every module."""
    for file in sorted(LIBRARY.rglob("*.py")):
        parts = list(file.relative_to(LIBRARY).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if LEFT_OUT.isdisjoint(parts) and all(part.isidentifier() for part in parts):
            yield ".".join(parts), ast.parse(file.read_text(encoding="utf-8"))


def public_names() -> Iterator[tuple[str, str, str]]:
    """Yield module, name and kind of every public function, class, exception and constant."""
    for module, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found = [(node.name, "function")]
            elif isinstance(node, ast.ClassDef):
                is_exception = node.name.endswith(("Error", "Exception", "Warning"))
                found = [(node.name, "exception" if is_exception else "class")]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                found = [(name, "constant") for name in names if name.isupper()]
            else:
                found = []
            for name, kind in found:
                if not name.startswith("_"):
                    yield module, name, kind


def write_splits(folder: Path, columns: list[str], rows: list[tuple[str, str]]) -> None:
    """Write rows, each of which is different, as train.csv, validation.csv and test.csv."""
    rows = sorted(set(rows))
    random.Random(0).shuffle(rows)
    folder.mkdir(exist_ok=True)
    first = 0
    for split, count in ROWS.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows[first : first + count])
        first += count


def main() -> None:
    """Write both datasets."""
    names = list(public_names())
    imports = [
        (f"{module}.{name}", f"from {module} import {name}")
        for module, name, kind in names
        if kind in ("function", "class")
    ]
    write_splits(FOLDER / "imports", ["name", "statement"], imports)

    # A name that stands for things of two kinds has no right label.
    kinds: dict[str, set[str]] = {}
    for _, name, kind in names:
        kinds.setdefault(name, set()).add(kind)
    labels = [(name, min(kind)) for name, kind in kinds.items() if len(kind) == 1]
    write_splits(FOLDER / "kinds", ["name", "kind"], labels)


if __name__ == "__main__":
    main()
