"""Publish what this repository releases: datasets of the recipes here, statistics of the package.

    python dataset_scripts/release.py             # prints the commands (make release)
    python dataset_scripts/release.py --publish   # runs them one by one (make release PUBLISH=1)

What is built or published already is not done again, so a release that stopped goes on.
"""

import argparse
import shlex
import subprocess
import sys

from build import RECIPES

from hf_synpre.cli.build import read_recipe
from hf_synpre.hub import check_repo_id, plan_push

HOME = RECIPES.parent
STATISTICS = "hf_synpre/statistics"
BUILD = ["python", "dataset_scripts/build.py"]
PUSH = ["python", "-m", "hf_synpre", "push"]


def commands(namespace: str, work_dir: str) -> list[list[str]]:
    """Return the commands of a release, in order.

    Args:
        namespace: user or organization on the Hub.
        work_dir: the folder of the built datasets.
    """
    release = []

    # The datasets: every configuration is built, then the folder is pushed.
    for recipe in sorted(RECIPES.glob("*.yaml")):
        folder, repo_id = f"{work_dir}/{recipe.stem}", f"{namespace}/{recipe.stem}"
        options = ["--output_dir", folder, "--repo_id", repo_id]
        for config in read_recipe(str(recipe)).configs:
            release.append([*BUILD, recipe.stem, *options, "--config", config])
        release.append([*PUSH, folder, "--repo_id", repo_id])

    # The statistics of checkpoints.
    for card in sorted((HOME / "model_cards").glob("*/README.md")):
        name = card.parent.name
        release.append([*PUSH, f"{STATISTICS}/{name}", "--repo_id", f"{namespace}/{name}"])
    return release


def count_rows() -> int:
    """Return how many rows the datasets of a release have."""
    count = 0
    for file in RECIPES.glob("*.yaml"):
        for config in read_recipe(str(file)).configs.values():
            count += sum(config.splits.values())
    return count


def main() -> int:
    """Print the commands, or run them until one fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--publish", action="store_true", help="run the commands")
    parser.add_argument("--namespace", default="synpre", help="user or organization on the Hub")
    parser.add_argument("--work_dir", default="runs/datasets", help="folder of the built datasets")
    options = parser.parse_args()
    check_repo_id(f"{options.namespace}/x")

    release = commands(options.namespace, options.work_dir)
    for command in release:
        print(shlex.join(command), flush=True)
        if options.publish:
            code = subprocess.run([sys.executable, *command[1:]], cwd=HOME).returncode
            if code:
                return code
        elif command[4].startswith(f"{STATISTICS}/"):
            # Their files are in the repository, so the plan of the push can be shown.
            print("\n".join(plan_push(HOME / command[4], command[-1]).lines()))
    if not options.publish:
        rows = count_rows()
        print(f"Nothing was done: {len(release)} commands, {rows:,} rows; --publish runs them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
