"""Build a published dataset: recipe -> Parquet shards -> card -> the Hub, if asked.

    python dataset_scripts/build.py set --config small --output_dir runs/datasets/set
    python dataset_scripts/build.py set --output_dir D --num_shards 8 --shard_index 3     # one of 8 machines
    python dataset_scripts/build.py my.yaml --output_dir D --push_to_hub --repo_id me/my

TASK is the name of a recipe beside this script, or a YAML file of your own. What is there already is not built again; the
card appears with the last shard.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from hf_synpre.config import build_spec, read_yaml
from hf_synpre.data.shards import (
    DatasetRecipe,
    build_shards,
    check_sharding,
    read_configs,
    shard_ranges,
)
from hf_synpre.errors import UsageError, choose

RECIPES = Path(__file__).parent


def read_recipe(task: str) -> DatasetRecipe:
    """Return the recipe of a published dataset by name, or of a YAML file."""
    names = {file.stem: file for file in RECIPES.glob("*.yaml")}
    file = Path(task) if task.endswith((".yaml", ".yml")) else names[choose("dataset", task, names)]
    return build_spec(DatasetRecipe, read_yaml(file), str(file))


def rows_of(splits: dict[str, int], num_shards: int | None, shard_index: int | None) -> int:
    """Return how many rows this call is about."""
    ranges = [shard_ranges(rows, num_shards) for rows in splits.values()]
    return sum(b - a for of in ranges for k, (a, b) in enumerate(of) if shard_index in (None, k))


def build(given: argparse.Namespace) -> int:
    """Build the configuration that was asked for; write the card and push once all of it is there."""
    from hf_synpre import hub
    from hf_synpre.hub import cards

    recipe, repo_id = read_recipe(given.task), given.repo_id or f"synpre/{Path(given.task).stem}"
    hub.check_repo_id(repo_id)
    one = recipe.configs[choose("configuration", given.config, recipe.configs)]
    sharding = {"num_shards": given.num_shards, "shard_index": given.shard_index}
    check_sharding(**sharding)
    with tqdm(
        total=rows_of(one.splits, **sharding), unit=" rows", unit_scale=True, desc=given.config
    ) as bar:
        files = build_shards(one, given.config, given.output_dir, progress=bar.update, **sharding)
    print(f"{len(files)} shards of {given.config} in {given.output_dir}")
    if given.config not in read_configs(given.output_dir):
        print("Other shards are still to come; the last one brings the card.")
        return 0
    cards.write_dataset_card(given.output_dir, repo_id)
    if given.push_to_hub:
        print(hub.push(given.output_dir, repo_id, private=given.private or None))
    return 0


def main(words: list[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 the push broke off, 2 bad input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("--config", default="default", help="a configuration of the recipe")
    parser.add_argument("--output_dir", required=True, help="folder of the dataset")
    parser.add_argument(
        "--num_shards", type=int, help="shards of every split; one in 250,000 rows without it"
    )
    parser.add_argument(
        "--shard_index", type=int, help="build these shards alone, 0 <= shard_index < num_shards"
    )
    parser.add_argument(
        "--push_to_hub", action="store_true", help="publish the folder when it is complete"
    )
    parser.add_argument("--repo_id", help="namespace/name on the Hub; synpre/TASK without it")
    parser.add_argument(
        "--private", action="store_true", help="a repository that is new becomes a private one"
    )
    given = parser.parse_args(words)
    try:
        return build(given)
    except UsageError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("build.py: stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except RuntimeError as error:  # hub.PushError
        print(f"build.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
