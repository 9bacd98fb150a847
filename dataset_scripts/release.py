"""Publish everything that this repository releases: the datasets of the recipes here, and the statistics in the package.

    python dataset_scripts/release.py                 # prints the commands, does nothing      (make release)
    python dataset_scripts/release.py --publish       # runs them, one after the other         (make release PUBLISH=1)

What was built or published already is found again, so a release that stopped goes on.
"""

import argparse
import shlex
import subprocess
import sys

from build import RECIPES, read_recipe

from hf_synpre.hub import check_repo_id, plan_push

HOME = RECIPES.parent


def commands(namespace: str, work_dir: str) -> list[list[str]]:
    """Return the commands of a release, in order."""
    found = []
    for recipe in sorted(RECIPES.glob("*.yaml")):
        folder, repo_id = f"{work_dir}/{recipe.stem}", f"{namespace}/{recipe.stem}"
        build = [
            "python",
            "dataset_scripts/build.py",
            recipe.stem,
            "--output_dir",
            folder,
            "--repo_id",
            repo_id,
        ]
        found += [[*build, "--config", config] for config in read_recipe(recipe.stem).configs]
        found.append(["python", "-m", "hf_synpre", "push", folder, "--repo_id", repo_id])
    for card in sorted((HOME / "model_cards").glob("*/README.md")):
        folder = f"hf_synpre/statistics/{card.parent.name}"
        found.append(
            [
                "python",
                "-m",
                "hf_synpre",
                "push",
                folder,
                "--repo_id",
                f"{namespace}/{card.parent.name}",
            ]
        )
    return found


def rows() -> int:
    """Return how many rows the datasets of a release have."""
    recipes = (read_recipe(file.stem) for file in RECIPES.glob("*.yaml"))
    return sum(
        sum(config.splits.values()) for recipe in recipes for config in recipe.configs.values()
    )


def main() -> int:
    """Print the commands, or run them until one fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--publish", action="store_true", help="run the commands")
    parser.add_argument("--namespace", default="synpre", help="user or organization on the Hub")
    parser.add_argument("--work_dir", default="runs/datasets", help="folder of the built datasets")
    given = parser.parse_args()
    check_repo_id(f"{given.namespace}/x")
    todo = commands(given.namespace, given.work_dir)
    for command in todo:
        print(shlex.join(command), flush=True)
        if not given.publish and command[4].startswith("hf_synpre/statistics/"):
            print("\n".join(plan_push(HOME / command[4], command[-1]).lines()))
        if given.publish and (
            code := subprocess.run([sys.executable, *command[1:]], cwd=HOME).returncode
        ):
            return code
    if not given.publish:
        print(f"Nothing was done: {len(todo)} commands, {rows():,} rows; --publish runs them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
