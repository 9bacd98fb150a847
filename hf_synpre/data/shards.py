"""Published datasets: a Recipe -> Parquet shards and the sha256 of their rows.

The shards have the same bytes whoever builds them.

The sha256 of a split is over its rows alone, however they are sharded, encoded or compressed: rows
are taken in blocks of 1,000 (the last may be shorter); of each block the lengths of the inputs,
their ids, the lengths of the labels and their ids, as little-endian int32, are hashed; the split's
sha256 is that of the blocks' 32-byte digests one after the other.

Every shard carries its recipe, the rows that it holds and its blocks' digests in its Parquet
footer, so a folder of shards describes itself: builders on several machines share nothing but the
recipe.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_synpre import __version__
from hf_synpre.data.recipes import RECIPE_KEYS, Recipe, config_folder
from hf_synpre.errors import UsageError
from hf_synpre.files import atomic_file, parse_json
from hf_synpre.tasks import SCHEMA, RowStream, iter_row_blocks
from hf_synpre.tasks.imports import task_files

# Rows that are generated and hashed together. Part of the definition of the sha256; every shard
# begins at a multiple of it.
BLOCK_ROWS = 1_000
# Blocks of a Parquet row group: what is in memory at once.
GROUP_BLOCKS = 10
# Where no number of shards is given, a shard has at most so many rows, and a split at least so many
# shards as it has blocks for: readers share a split by its shards, so that two processes with four
# workers each all have one.
SHARD_ROWS = 250_000
FEWEST_SHARDS = 8
# Names of files have five digits, see `shard_files`.
MOST_SHARDS = 99_999

# The key of a shard's footer in the Parquet metadata.
FOOTER_KEY = b"synpre"
ID_COLUMNS = ["input_ids.list.element", "labels.list.element"]
# Ids are below 2**16 or so: split into bytes, half of them are zeros. Fastest to write and smallest
# of those tried.
PARQUET = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": ID_COLUMNS}

Item = TypeVar("Item")


class ShardRows(TypedDict):
    """Which rows a shard holds."""

    split: str
    # Its number, and how many shards the split has.
    shard: int
    shards: int
    # Its first row in the split, and one past its last.
    start: int
    stop: int


class ShardFooter(ShardRows):
    """What a shard says of itself."""

    # The version of the package that built it.
    hf_synpre: str
    # The fields of its Recipe.
    recipe: dict[str, Any]
    # The digests of the files that define its task; absent for the tasks of hf_synpre.
    task_files: NotRequired[dict[str, str]]
    # The number of ids in all rows, inputs and labels.
    ids: int
    # The digests of its blocks as hex.
    blocks: list[str]


class SplitMetadata(TypedDict):
    """What a card says of a split."""

    rows: int
    ids: int
    shards: int
    sha256: str


# --- rows and their digests ---------------------------------------------------------------------


def stored_blocks(file: Path) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file in blocks of BLOCK_ROWS, whatever its row groups.

    Raises UsageError where it is no complete file of rows.
    """
    try:
        with pq.ParquetFile(file) as reader:
            # Rows that have been read and are not yet a block.
            pending = SCHEMA.empty_table()
            for batch in reader.iter_batches(GROUP_BLOCKS * BLOCK_ROWS, columns=SCHEMA.names):
                rows = pa.Table.from_batches([batch]).cast(SCHEMA)
                pending = pa.concat_tables([pending, rows])

                complete = len(pending) - len(pending) % BLOCK_ROWS
                for first in range(0, complete, BLOCK_ROWS):
                    yield pending.slice(first, BLOCK_ROWS)
                pending = pending.slice(complete).combine_chunks()
        if len(pending):
            yield pending
    except (pa.ArrowException, OSError) as error:
        cause = " ".join(str(error).split())
        raise UsageError(f"{file} is not a complete Parquet file of rows ({cause}).") from None


def block_digest(block: pa.RecordBatch | pa.Table) -> bytes:
    """Return the sha256 of a block: lengths of inputs, their ids, lengths of labels, their ids."""
    digest = hashlib.sha256()
    for column in block.columns:
        lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        lengths = pc.list_value_length(lists)
        for integers in (lengths, lists.flatten()):
            array = integers.to_numpy(zero_copy_only=False)
            digest.update(np.ascontiguousarray(array, "<i4").data)
    return digest.digest()


def split_digest(blocks: Iterable[bytes]) -> str:
    """Return the sha256 of a split from its blocks' digests in order."""
    return hashlib.sha256(b"".join(blocks)).hexdigest()


# --- shards -------------------------------------------------------------------------------------


def build_shards(
    recipe: Recipe,
    name: str,
    folder: str | Path,
    *,
    num_shards: int | Mapping[str, int] | None = None,
    shard_index: int | None = None,
    progress: Callable[[int], Any] = lambda rows: None,
    run_jobs: Callable[[dict[str, Callable[[], int]]], Iterable[int]] | None = None,
) -> list[Path]:
    """Write the shards of a configuration that a folder lacks, each completely or not at all.

    Args:
        recipe: which rows the configuration has.
        name: the configuration's name.
        folder: the folder of the dataset.
        num_shards: shards of every split, one number or one a split; as in `shard_ranges` without
            it.
        shard_index: write only the shards with this number, so that several machines can share the
            work.
        progress: called with the number of rows after every row group, and at once for a shard that
            exists already.
        run_jobs: runs jobs (file -> a function that writes it and returns its number of rows)
            elsewhere, as on a cluster, and yields what they return. Without it this process does.

    Returns:
        The files of the shards that this call was about.

    Raises:
        UsageError: the folder holds shards of another build, or a number of shards is out of
            bounds.
    """
    if isinstance(num_shards, Mapping):
        split_shards: Mapping[str, int | None] = num_shards
    else:
        split_shards = dict.fromkeys(recipe.splits, num_shards)
    for count in split_shards.values():
        check_sharding(count, shard_index)

    config_dir = Path(folder) / config_folder(name)
    files = {
        config_dir / file: rows for file, rows in shard_files(recipe.splits, split_shards).items()
    }
    refuse_other_files(config_dir, set(files))

    definition = task_files(recipe.task)
    built = []
    jobs: dict[str, Callable[[], int]] = {}
    for file, rows in files.items():
        if shard_index not in (None, rows["shard"]):
            continue
        identity: dict[str, Any] = {"hf_synpre": __version__, "recipe": recipe.as_dict(), **rows}
        if definition:
            identity["task_files"] = definition
        if file.exists():
            check_identity(file, identity)
            progress(rows["stop"] - rows["start"])
        elif run_jobs is None:
            write_shard(file, recipe.stream(rows["split"]), identity, progress)
        else:
            stream = recipe.stream(rows["split"])
            jobs[str(file)] = functools.partial(write_shard, file, stream, identity)
        built.append(file)
    for count in run_jobs(jobs) if run_jobs else ():
        progress(count)
    return built


def shard_ranges(rows: int, num_shards: int | None = None) -> list[tuple[int, int]]:
    """Return (first row, one past the last) of each shard of a split.

    Args:
        rows: the rows of the split.
        num_shards: the number of shards, at most one a block of 1,000 rows; without it eight, or
            one in 250,000 rows where these are more.
    """
    blocks = -(-rows // BLOCK_ROWS)
    usual_shards = max(-(-rows // SHARD_ROWS), FEWEST_SHARDS)
    shards = min(num_shards or usual_shards, blocks)
    cuts = [min(k * blocks // shards * BLOCK_ROWS, rows) for k in range(shards + 1)]
    return list(itertools.pairwise(cuts))


def shard_files(
    splits: Mapping[str, int], split_shards: Mapping[str, int | None]
) -> dict[str, ShardRows]:
    """Return file name -> rows of every shard of a configuration.

    Args:
        splits: split -> number of rows.
        split_shards: split -> number of shards, as in `shard_ranges`.
    """
    files: dict[str, ShardRows] = {}
    for split, rows in splits.items():
        ranges = shard_ranges(rows, split_shards[split])
        for k, (start, stop) in enumerate(ranges):
            name = f"{split}-{k:05d}-of-{len(ranges):05d}.parquet"
            files[name] = ShardRows(
                split=split, shard=k, shards=len(ranges), start=start, stop=stop
            )
    return files


def check_sharding(num_shards: int | None, shard_index: int | None) -> None:
    """Raise UsageError on a number of shards, or of one shard, that is out of bounds.

    Args:
        num_shards: the number of shards of a split; None for the usual number.
        shard_index: the number of the one shard to build; None for all.
    """
    if num_shards is not None and not 1 <= num_shards <= MOST_SHARDS:
        raise UsageError(f"num_shards is {num_shards}; give 1 to {MOST_SHARDS}.")
    if shard_index is not None and (num_shards is None or not 0 <= shard_index < num_shards):
        raise UsageError(
            f"shard_index is {shard_index} with num_shards {num_shards}; "
            "give 0 <= shard_index < num_shards."
        )


def refuse_other_files(config_dir: Path, expected: set[Path]) -> None:
    """Raise UsageError where a folder holds Parquet files of another build.

    A loader would read them too.
    """
    others = sorted(set(config_dir.glob("*.parquet")) - expected)
    if others:
        raise UsageError(
            f"{others[0]} is not of this build; "
            "choose another output_dir, or the same num_shards and splits."
        )


def check_identity(file: Path, identity: Mapping[str, Any]) -> None:
    """Raise UsageError where an existing shard was made by another recipe or version.

    Args:
        file: the shard.
        identity: the keys that its footer must have, with their values.
    """
    footer = read_footer(file)
    for name, value in identity.items():
        if footer.get(name) != value:
            raise UsageError(
                f"{file} was built with another {name}; choose another output_dir or delete it."
            )


def write_shard(
    file: Path,
    stream: RowStream,
    identity: dict[str, Any],
    progress: Callable[[int], Any] = lambda rows: None,
) -> int:
    """Write one shard; the next row group is generated while one is written.

    Return its number of rows.

    Args:
        file: the shard's file.
        stream: the stream of its split.
        identity: the part of its footer that is known before: `hf_synpre`, `recipe` and the keys of
            ShardRows.
        progress: called with the number of rows after every row group.
    """
    digests: list[str] = []
    ids = 0
    blocks = iter_row_blocks(stream, identity["start"], identity["stop"], BLOCK_ROWS)
    with atomic_file(file) as partial, pq.ParquetWriter(partial, SCHEMA, **PARQUET) as writer:
        for group, group_digests in prefetched(row_groups(blocks)):
            writer.write_table(group, row_group_size=GROUP_BLOCKS * BLOCK_ROWS)
            digests += group_digests
            for column in group.columns:
                ids += sum(len(chunk.values) for chunk in column.chunks)
            progress(len(group))

        footer = json.dumps(identity | {"ids": ids, "blocks": digests}, sort_keys=True)
        writer.add_key_value_metadata({FOOTER_KEY: footer.encode()})
    return identity["stop"] - identity["start"]


def row_groups(blocks: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.Table, list[str]]]:
    """Yield (table, digests of its blocks as hex) for every GROUP_BLOCKS blocks."""
    while group := list(itertools.islice(blocks, GROUP_BLOCKS)):
        yield pa.Table.from_batches(group), [block_digest(block).hex() for block in group]


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items; a thread makes the next one meanwhile.

    It gains time because writing and hashing release Python's lock.
    """
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def read_footer(file: Path) -> ShardFooter:
    """Return what a shard says of itself. Raises UsageError where it is no shard of ours."""
    try:
        return parse_json(pq.read_metadata(file).metadata[FOOTER_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{file} is not a shard that hf_synpre built; delete it or choose another folder."
        ) from error


# --- a folder of shards -------------------------------------------------------------------------


def read_configs(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Return the metadata of every complete configuration in a folder, `default` first.

    Returns:
        Name -> the keys of its recipe, `hf_synpre` (the package's version), `task_files` (the
        digests of the files that define a task of one's own), and `splits`: split ->
        SplitMetadata. A configuration with shards still to come is left out.

    Raises:
        UsageError: shards that are not of one build.
    """
    # Footers by configuration and split, in the order of their numbers.
    footers: dict[str, dict[str, list[ShardFooter]]] = {}
    for file in sorted(Path(folder).glob("*/*-of-*.parquet")):
        footer = read_footer(file)
        name = "default" if file.parent.name == "data" else file.parent.name
        footers.setdefault(name, {}).setdefault(footer["split"], []).append(footer)

    configs = {}
    for name in sorted(footers, key=lambda name: (name != "default", name)):
        metadata = config_metadata(name, footers[name])
        if metadata:
            configs[name] = metadata
    return configs


def config_metadata(name: str, splits: dict[str, list[ShardFooter]]) -> dict[str, Any] | None:
    """Return the metadata of a configuration from its shards' footers.

    Args:
        name: the configuration's name.
        splits: split -> footers of its shards in order.

    Returns:
        As in `read_configs`; None where shards are missing.

    Raises:
        UsageError: shards that are not of one recipe and version.
    """
    builds = [
        (footer["hf_synpre"], footer["recipe"], footer.get("task_files"))
        for footers in splits.values()
        for footer in footers
    ]
    package_version, recipe, definition = builds[0]
    if any(build != builds[0] for build in builds):
        raise UsageError(
            f"The shards of {name} are not all of one recipe and version; build them anew."
        )

    for split in recipe["splits"]:
        footers = splits.get(split, [])
        if not footers or len(footers) < footers[0]["shards"]:
            return None

    metadata = {key: recipe[key] for key in RECIPE_KEYS if key in recipe}
    metadata["hf_synpre"] = package_version
    if definition:
        metadata["task_files"] = definition
    metadata["splits"] = {split: split_metadata(splits[split]) for split in recipe["splits"]}
    return metadata


def split_metadata(footers: list[ShardFooter]) -> SplitMetadata:
    """Return the metadata of a split from its shards' footers, in order."""
    blocks = [bytes.fromhex(block) for footer in footers for block in footer["blocks"]]
    return SplitMetadata(
        rows=footers[-1]["stop"],
        ids=sum(footer["ids"] for footer in footers),
        shards=len(footers),
        sha256=split_digest(blocks),
    )
