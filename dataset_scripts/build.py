"""Build a published dataset: recipe -> Parquet shards -> card -> the Hub, if asked.

    python dataset_scripts/build.py set --config small --output_dir runs/datasets/set
    python dataset_scripts/build.py set --output_dir D --num_shards 8 --shard_index 3  # 1 of 8
    python dataset_scripts/build.py my.yaml --output_dir D --push_to_hub --repo_id me/my

TASK is the name of a recipe beside this script, or a YAML file of your own. Shards that are there
are not built again; the card appears with the last shard.
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
    if task.endswith((".yaml", ".yml")):
        file = Path(task)
    else:
        recipes = {file.stem: file for file in RECIPES.glob("*.yaml")}
        file = recipes[choose("dataset", task, recipes)]
    return build_spec(DatasetRecipe, read_yaml(file), str(file))


def count_rows(splits: dict[str, int], num_shards: int | None, shard_index: int | None) -> int:
    """Return how many rows the shards have that this call builds.

    Args:
        splits: split -> number of rows.
        num_shards: shards of every split, as in `shard_ranges`.
        shard_index: the number of the shards that are built; all of them without it.
    """
    count = 0
    for rows in splits.values():
        for shard, (start, stop) in enumerate(shard_ranges(rows, num_shards)):
            if shard_index in (None, shard):
                count += stop - start
    return count


def build(options: argparse.Namespace) -> int:
    """Build one configuration; write the card and push once all of it is there."""
    from hf_synpre import hub
    from hf_synpre.hub import cards

    # Check everything before anything is written.
    dataset = read_recipe(options.task)
    repo_id = options.repo_id or f"synpre/{Path(options.task).stem}"
    hub.check_repo_id(repo_id)
    recipe = dataset.configs[choose("configuration", options.config, dataset.configs)]
    sharding = {"num_shards": options.num_shards, "shard_index": options.shard_index}
    check_sharding(**sharding)

    # Build the shards.
    rows = count_rows(recipe.splits, **sharding)
    with tqdm(total=rows, unit=" rows", unit_scale=True, desc=options.config) as bar:
        files = build_shards(
            recipe, options.config, options.output_dir, progress=bar.update, **sharding
        )
    print(f"{len(files)} shards of {options.config} in {options.output_dir}")

    # Write the card and push.
    if options.config not in read_configs(options.output_dir):
        print("Other shards are still to come; the last one brings the card.")
        return 0
    cards.write_dataset_card(options.output_dir, repo_id)
    print(f'from datasets import load_dataset; load_dataset("{options.output_dir}")')
    if options.push_to_hub:
        print(hub.push(options.output_dir, repo_id, private=options.private or None))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 the push broke off, 2 bad input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("--config", default="default", help="a configuration of the recipe")
    parser.add_argument("--output_dir", required=True, help="folder of the dataset")
    parser.add_argument(
        "--num_shards", type=int, help="shards of every split; eight or more without it"
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
    options = parser.parse_args(argv)
    try:
        return build(options)
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
