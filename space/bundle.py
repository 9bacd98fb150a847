"""All that a Space on the Hub needs, in one folder: `python space/bundle.py FOLDER`.

`hf upload USER/NAME FOLDER --repo-type space` publishes it.
"""

import shutil
import sys
from pathlib import Path

from results_page import EXAMPLES

HERE = Path(__file__).parent
ROOT = HERE.parent
# What is of use in the repository alone.
LEFT_OUT = ("bundle.py", "screenshots.py", "__pycache__", ".mypy_cache")


def bundle(folder: Path) -> None:
    """Write the files of the page, the package and the examples of results into a new folder."""
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "hf_synpre", folder / "hf_synpre", ignore=ignored)
    for name in EXAMPLES:
        target = folder / "results" / name
        target.mkdir(parents=True)
        for cell in (ROOT / "results" / name).glob("*--*--*.json"):
            shutil.copy(cell, target)


if __name__ == "__main__":
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        sys.exit("Give the name of a new folder: python space/bundle.py FOLDER")
    bundle(Path(sys.argv[1]))
    print(f"{sys.argv[1]} is ready: hf upload USER/NAME {sys.argv[1]} --repo-type space")
