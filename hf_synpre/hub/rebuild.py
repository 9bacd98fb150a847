"""Rebuilds: a dataset's card -> its rows, generated again and compared with the published shards.

A card may come from anybody: every name and type in it is checked before it is used.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import hf_hub_download, snapshot_download

from hf_synpre.config import build_spec
from hf_synpre.data.recipes import RECIPE_KEYS, Recipe, config_folder
from hf_synpre.data.shards import (
    BLOCK_ROWS,
    MOST_SHARDS,
    ShardRows,
    block_digest,
    build_shards,
    shard_files,
    split_digest,
    stored_blocks,
)
from hf_synpre.errors import UsageError, as_integer, choose, counted
from hf_synpre.hub.cards import CARD, read_card_configs, write_dataset_card
from hf_synpre.hub.checks import check_repo_id, hub_errors
from hf_synpre.tasks import RowStream, iter_row_blocks

# How long a row takes is measured on more and more rows, until they take so many seconds.
LONGEST_TIMING = 0.1
# So many differences of a split are said.
MOST_DIFFERENCES = 100


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

    # The card is checked against the shards before a row is generated. A card alone, without any
    # shard, is compared with the rows that are generated.
    has_shards = any(
        True for name in configs for _ in folder.glob(f"{config_folder(name)}/*.parquet")
    )
    splits_to_compare = []
    for name, entry in configs.items():
        for split, metadata in entry["splits"].items():
            found = find_shards(folder, name, split, recipes[name], metadata, has_shards)
            splits_to_compare.append(found)
    say_cost(splits_to_compare, recipes, output_dir, say)

    # Every split is compared, so that all differences are reported.
    all_equal = True
    for found in splits_to_compare:
        differences = compare_split(folder, found, recipes[found.config], say)
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
            is_count = as_integer(shards) is not None and 1 <= shards <= MOST_SHARDS
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


@dataclass(frozen=True)
class FoundShards:
    """A split of a card, and what of it lies in the folder."""

    config: str
    split: str
    # What the card says of the split: rows, ids, shards and sha256.
    metadata: dict[str, Any]
    # Name in the repository -> rows, of the shards that are there with as many rows as they should;
    # of all shards where there is a card alone.
    shards: dict[str, ShardRows]
    # What can be told to differ before rows are generated, a line each.
    differences: list[str]
    # Whether shards lie beside the card.
    has_shards: bool = True

    @property
    def rows(self) -> int:
        """The rows that are generated to compare the split: those of its shards."""
        return sum(rows["stop"] - rows["start"] for rows in self.shards.values())


def find_shards(
    folder: Path,
    name: str,
    split: str,
    recipe: Recipe,
    metadata: dict[str, Any],
    has_shards: bool = True,
) -> FoundShards:
    """Return which shards of a split are in a folder; nothing is generated.

    Args:
        folder: the dataset's folder.
        name: the configuration.
        split: train, validation or test.
        recipe: the configuration's recipe.
        metadata: what the card says of the split.
        has_shards: whether shards lie beside the card; without any no file is looked for.
    """
    shards: dict[str, ShardRows] = {}
    differences: list[str] = []
    prefix = config_folder(name)
    expected = shard_files({split: recipe.splits[split]}, {split: metadata["shards"]})
    if not has_shards:
        shards = {f"{prefix}/{file_name}": rows for file_name, rows in expected.items()}
        return FoundShards(name, split, metadata, shards, differences, has_shards)
    for file_name, rows in expected.items():
        shard_name = f"{prefix}/{file_name}"
        difference = compare_size(folder / shard_name, shard_name, rows["stop"] - rows["start"])
        if difference is None:
            shards[shard_name] = rows
        else:
            differences.append(difference)

    # Files that are no shards of the recipe: load_dataset would read them too.
    for file in sorted(folder.glob(f"{prefix}/{split}-*.parquet")):
        if file.name not in expected:
            differences.append(f"{prefix}/{file.name}: is no shard of the card's recipe")
    return FoundShards(name, split, metadata, shards, differences)


def compare_size(file: Path, name: str, rows: int) -> str | None:
    """Return a line that says how a shard differs from its number of rows, None where it does not.

    Args:
        file: the shard.
        name: its name in the repository.
        rows: how many rows it has by the card.
    """
    if not file.exists():
        return f"{name}: is missing"
    try:
        stored = pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError) as error:
        cause = " ".join(str(error).split())
        return f"{name} is not a complete Parquet file of rows ({cause})"
    if stored != rows:
        return f"{name}: has {stored:,} rows, by the card {rows:,}"
    return None


def say_cost(
    splits: list[FoundShards],
    recipes: dict[str, Recipe],
    output_dir: str | Path | None,
    say: Callable[[str], Any],
) -> None:
    """Say how many rows will be generated, and how long that takes.

    Args:
        splits: the splits of the card.
        recipes: configuration -> its recipe.
        output_dir: where the whole dataset is written; None where it is only compared.
        say: called with the line, or two of them.
    """
    seconds_of_a_row = {name: time_a_row(recipe) for name, recipe in recipes.items()}

    compared = sum(found.rows for found in splits)
    if compared:
        seconds = sum(found.rows * seconds_of_a_row[found.config] for found in splits)
        say(f"{compared:,} rows are generated and compared; that takes about {in_words(seconds)}.")
    if output_dir is not None:
        written, seconds = 0, 0.0
        for name, recipe in recipes.items():
            rows = sum(recipe.splits.values())
            written += rows
            seconds += rows * seconds_of_a_row[name]
        say(f"{written:,} rows are written to {output_dir}; that takes about {in_words(seconds)}.")


def time_a_row(recipe: Recipe) -> float:
    """Return how many seconds a row of a recipe takes, measured on some of its first rows."""
    stream = recipe.stream(next(iter(recipe.splits)))
    generate_block(stream, 0, 1)  # the first row waits for the compiler

    size, seconds = 1, 0.0
    while size <= BLOCK_ROWS and seconds < LONGEST_TIMING:
        size *= 2
        began = time.perf_counter()
        generate_block(stream, size, size)
        seconds = time.perf_counter() - began
    return seconds / size


def generate_block(stream: RowStream, start: int, rows: int) -> None:
    """Generate rows of a stream at once, and forget them."""
    for _ in iter_row_blocks(stream, start, start + rows, rows):
        pass


def in_words(seconds: float) -> str:
    """Return a duration in one unit, such as 3 minutes."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}s"
    count = max(round(seconds), 1)
    return counted(count, "second")


def compare_split(
    folder: Path, found: FoundShards, recipe: Recipe, say: Callable[[str], Any]
) -> list[str]:
    """Generate the rows of a split's shards again and compare them with the shards and the card.

    Args:
        folder: the dataset's folder.
        found: the split and its shards.
        recipe: the configuration's recipe.
        say: called with a line for each difference, or once if there is none.

    Returns:
        The differences, a line each.
    """
    differences = list(found.differences)
    digests: list[bytes] = []
    for file_name, rows in found.shards.items():
        blocks = iter_row_blocks(
            recipe.stream(found.split), rows["start"], rows["stop"], BLOCK_ROWS
        )
        rebuilt = [block_digest(block) for block in blocks]
        digests += rebuilt
        if found.has_shards:
            difference = compare_shard(folder / file_name, file_name, rows["start"], rebuilt)
            if difference is not None:
                differences.append(difference)

    # All rows against the card, where all of its shards are there.
    sha256 = split_digest(digests)
    all_rows = recipe.splits[found.split]
    if found.rows == all_rows and sha256 != found.metadata["sha256"]:
        differences.append(
            f"{found.config}/{found.split}: the rebuilt rows have sha256 {sha256}, the card says "
            f"{found.metadata['sha256']}"
        )

    for line in differences[:MOST_DIFFERENCES]:
        say(line)
    if len(differences) > MOST_DIFFERENCES:
        say(f"and {len(differences) - MOST_DIFFERENCES:,} more differences")
    if not differences:
        shards = "(no shard is there)"
        if found.has_shards:
            shards = f"and {counted(len(found.shards), 'shard')}"
        say(
            f"{found.config}/{found.split}: {all_rows:,} rows rebuilt; they equal the card's "
            f"sha256 {sha256} {shards}"
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
