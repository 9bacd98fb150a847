"""Build a published dataset: `synpre build` on a recipe of this folder, by its name.

    python dataset_scripts/build.py set --config small --output_dir runs/datasets/set

`synpre build --help` shows the options. The recipes here name the version of each task, so that a
dataset under a published name never changes with the code.
"""

import sys
from pathlib import Path

from hf_synpre.cli import main as synpre

RECIPES = Path(__file__).parent


def main(argv: list[str] | None = None) -> int:
    """Build with the words of a command line; return the exit code of `synpre build`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and (RECIPES / f"{words[0]}.yaml").exists():
        words[0] = str(RECIPES / f"{words[0]}.yaml")
    return synpre(["build", *words])


if __name__ == "__main__":
    sys.exit(main())
