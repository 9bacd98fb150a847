"""Rebuilds: a dataset's card -> its rows, generated again and compared with the published shards.

A card may come from anybody: every name and type in it is checked before it is used.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download

from hf_synpre.config import build_spec
from hf_synpre.data.shards import (
    BLOCK_ROWS,
    RECIPE_KEYS,
    Recipe,
    block_digest,
    build_shards,
    config_folder,
    shard_files,
    split_digest,
    stored_blocks,
)
from hf_synpre.errors import UsageError, choose
from hf_synpre.hub.cards import CARD, read_card_configs, write_dataset_card
from hf_synpre.hub.checks import check_repo_id, hub_errors
from hf_synpre.tasks import iter_row_blocks
from hf_synpre.tasks.rng import SPLITS


def rebuild(
    source: str | Path,
    *,
    config: str | None = None,
    revision: str | None = None,
    output_dir: str | Path | None = None,
    say: Callable[[str], Any] = print,
) -> bool:
    """Generate the rows of a dataset's card again; compare them with the card and the shards.

    Args:
        source: a folder, or the dataset's id on the Hub.
        config: the name of one configuration; all configurations without it.
        revision: branch, tag or commit on the Hub.
        output_dir: a folder for the rebuilt dataset; nothing is written without it.
        say: called with a line for each difference, and for each split without any.

    Returns:
        Whether all rows are equal.

    Raises:
        UsageError: there is no card of hf_synpre, or its recipe cannot be built by this version.
        PushError: the download broke off.
    """
    # The recipes in the card.
    configs = read_dataset_card(source, revision)
    if config is not None:
        configs = {choose("configuration", config, configs): configs[config]}
    recipes = {name: card_recipe(source, name, entry) for name, entry in configs.items()}

    # The published shards.
    folder = Path(source)
    if not folder.is_dir():
        patterns = [f"{config_folder(name)}/*.parquet" for name in configs]
        with hub_errors(str(source)):
            downloaded = snapshot_download(
                str(source), repo_type="dataset", revision=revision, allow_patterns=patterns
            )
        folder = Path(downloaded)

    # Every split is compared, so that all differences are reported.
    all_equal = True
    for name, entry in configs.items():
        for split, metadata in entry["splits"].items():
            differences = compare_split(folder, name, split, recipes[name], metadata, say)
            all_equal = all_equal and not differences

    if output_dir is not None:
        for name, recipe in recipes.items():
            splits = configs[name]["splits"]
            num_shards = {split: metadata["shards"] for split, metadata in splits.items()}
            build_shards(recipe, name, output_dir, num_shards=num_shards)
        repo_id = str(source)
        if Path(source).is_dir():
            repo_id = f"synpre/{folder.resolve().name}"
        write_dataset_card(output_dir, repo_id)
    return all_equal


# --- the card -------------------------------------------------------------------------------------


def read_dataset_card(source: str | Path, revision: str | None) -> dict[str, dict[str, Any]]:
    """Return the configurations in a dataset's card, of a folder or a Hub id.

    Raises:
        UsageError: there is no such dataset, or its card holds no recipe of hf_synpre.
    """
    if Path(source).is_dir():
        card = Path(source) / CARD
    elif str(source).startswith((".", "/", "~")):
        raise UsageError(
            f"There is no folder {source}, and it is no namespace/name of a dataset on the Hub."
        )
    else:
        with hub_errors(check_repo_id(str(source))):
            card = Path(hf_hub_download(str(source), CARD, repo_type="dataset", revision=revision))

    configs = read_card_configs(card)
    if not configs:
        raise UsageError(
            f"{source} has no card with a recipe of hf_synpre; give a dataset that it built."
        )
    return configs


def card_recipe(source: str | Path, name: str, entry: dict[str, Any]) -> Recipe:
    """Return the recipe of one configuration of a card.

    Args:
        source: the folder or Hub id of the card, for messages.
        name: the name of the configuration.
        entry: the configuration in the card.

    Raises:
        UsageError: a name, a type or a value is not what hf_synpre writes.
    """
    config_folder(name)

    # Check the splits. Their rows are part of the recipe; shards and sha256 are compared later.
    rows = {}
    try:
        for split, metadata in entry["splits"].items():
            shards, sha256 = metadata["shards"], metadata["sha256"]
            is_count = isinstance(shards, int) and shards >= 1
            if not is_count or not re.fullmatch(r"[0-9a-f]{64}", sha256):
                raise UsageError(
                    f"The card of {source} has a split of {name} without a number of shards and a "
                    "sha256."
                )
            rows[split] = metadata["rows"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The card of {source} has no splits with rows, shards and sha256 in {name} ({error})."
        ) from error

    recipe = {key: entry[key] for key in RECIPE_KEYS if key in entry and key != "splits"}
    recipe["splits"] = rows
    return build_spec(Recipe, recipe, f"the card of {source}, {name}")


# --- the rows -------------------------------------------------------------------------------------


def compare_split(
    folder: Path,
    name: str,
    split: str,
    recipe: Recipe,
    metadata: dict[str, Any],
    say: Callable[[str], Any],
) -> list[str]:
    """Generate a split again and compare it with the card and with every shard in the folder.

    Args:
        folder: the dataset's folder.
        name: the configuration.
        split: train, validation or test.
        recipe: the configuration's recipe.
        metadata: what the card says of the split: rows, ids, shards and sha256.
        say: called with a line for each difference, or once if there is none.

    Returns:
        The differences, a line each.
    """
    rows = recipe.splits[choose("split", split, SPLITS)]
    blocks = iter_row_blocks(recipe.stream(split), 0, rows, BLOCK_ROWS)
    digests = [block_digest(block) for block in blocks]

    # All rows against the card.
    differences = []
    sha256 = split_digest(digests)
    if sha256 != metadata["sha256"]:
        differences.append(
            f"{name}/{split}: the rebuilt rows have sha256 {sha256}, the card says "
            f"{metadata['sha256']}"
        )

    # The rows of each shard, which begins at a multiple of BLOCK_ROWS.
    shards = {}
    for file_name, shard in shard_files({split: rows}, {split: metadata["shards"]}).items():
        shards[f"{config_folder(name)}/{file_name}"] = shard
    for file_name, shard in shards.items():
        first, last = shard["start"] // BLOCK_ROWS, -(-shard["stop"] // BLOCK_ROWS)
        difference = compare_shard(
            folder / file_name, file_name, shard["start"], digests[first:last]
        )
        if difference is not None:
            differences.append(difference)

    # Files that are no shards of the recipe: load_dataset would read them too.
    files = folder.glob(f"{config_folder(name)}/{split}-*.parquet")
    present = {file.relative_to(folder).as_posix() for file in files}
    for file_name in sorted(present - shards.keys()):
        differences.append(f"{file_name}: is no shard of the card's recipe")

    for line in differences:
        say(line)
    if not differences:
        say(
            f"{name}/{split}: {rows:,} rows rebuilt; they equal the card's sha256 {sha256} and "
            f"{len(shards)} shards"
        )
    return differences


def compare_shard(file: Path, name: str, start: int, rebuilt: list[bytes]) -> str | None:
    """Return a line that says how a shard differs from the rebuilt rows, None where it is equal.

    Args:
        file: the shard.
        name: its name in the repository.
        start: the row of the split that it begins with.
        rebuilt: the digests of its blocks of rows, generated again.
    """
    if not file.exists():
        return f"{name}: is missing"
    try:
        stored = [block_digest(block) for block in stored_blocks(file)]
    except UsageError as error:
        return str(error)
    if stored == rebuilt:
        return None

    # Find the first block that differs; if one list is only longer, the first that the other lacks.
    first_different = 0
    while (
        first_different < min(len(stored), len(rebuilt))
        and stored[first_different] == rebuilt[first_different]
    ):
        first_different += 1
    row = start + first_different * BLOCK_ROWS
    return f"{name}: differs from the rebuilt rows, first in the {BLOCK_ROWS:,} rows from {row:,}"
