"""Layer 2: a recipe -> Parquet shards, the same bytes whoever builds them, and the sha256 of their rows.

The sha256 of a split is over its rows alone, however they are sharded, encoded or compressed: rows are taken in blocks of
1,000 (the last may be shorter); of each block the lengths of the inputs, their ids, the lengths of the labels and their
ids, as little-endian int32, are hashed; the split's sha256 is that of the blocks' 32-byte digests one after the other.

Every shard carries its recipe, its place and its blocks' digests in its Parquet footer, so a folder of shards describes
itself: builders on several machines share nothing but the recipe.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_synpre import __version__
from hf_synpre.errors import UsageError, as_integer, choose
from hf_synpre.files import whole_file
from hf_synpre.tasks import SCHEMA, RowStream, get_task, open_stream, record_batch
from hf_synpre.tasks.rng import SPLITS

BLOCK = 1_000  # rows generated and hashed together; every shard begins at a multiple of it
GROUP_BLOCKS = 10  # blocks in a Parquet row group: what is in memory at once
SHARD_ROWS = 250_000
SIZES = {"train": 1_000_000, "validation": 10_000}  # Wu et al. 2022, appendix
FOOTER = b"synpre"
ID_COLUMNS = ["input_ids.list.element", "labels.list.element"]
# Ids are below 2**16 or so: split into bytes, half of them are zeros. Fastest to write and smallest of those tried.
PARQUET = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": ID_COLUMNS}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
Item = TypeVar("Item")


@dataclass
class Recipe:
    """All that decides the rows of a dataset's configuration. Raises UsageError on what cannot be built.

    `vocabulary` is "t5" (the paper's ids) or a plain size. `version` may be left out; given, it must be the task's.
    `parameters` are completed with the task's defaults.
    """

    task: str
    version: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    vocabulary: int | str = "t5"
    seed: int = 0
    splits: dict[str, int] = field(default_factory=lambda: dict(SIZES))

    def __post_init__(self) -> None:
        version = get_task(self.task).version
        if self.version not in (None, version):
            raise UsageError(
                f"The recipe wants {self.task} version {self.version}, hf_synpre {__version__} makes version {version}; "
                "install the version of hf_synpre that the card names."
            )
        self.version, self.parameters = version, get_task(self.task).resolve(self.parameters)
        if isinstance(self.vocabulary, str):
            choose("vocabulary", self.vocabulary, ("t5",), do="Or give a plain size.")
        for split, rows in self.splits.items():
            choose("split", split, SPLITS)
            if as_integer(rows) is None or not 1 <= rows < 2**40:
                raise UsageError(
                    f"The split {split} has size {rows!r}; give a number of rows >= 1."
                )
            self.stream(split)
        if not self.splits:
            raise UsageError(
                f"The recipe of {self.task} has no splits; give splits: {{train: 1000}}."
            )

    def stream(self, split: str) -> RowStream:
        """Return the endless stream that the split's rows are the first of."""
        words = None if self.vocabulary == "t5" else self.vocabulary
        return open_stream(
            self.task, split=split, seed=self.seed, vocabulary=words, **self.parameters
        )


@dataclass
class DatasetRecipe:
    """The configurations of one published dataset by name; `default` is the one that load_dataset takes unasked."""

    configs: dict[str, Recipe]

    def __post_init__(self) -> None:
        for name in self.configs:
            config_folder(name)


def config_folder(name: str) -> str:
    """Return the folder of a configuration inside a dataset: data for default. UsageError on what is no plain name."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name == "data":
        raise UsageError(
            f"The configuration {name!r} becomes a folder's name; use letters, digits and _, and not data."
        )
    return "data" if name == "default" else name


# --- rows and their digests ----------------------------------------------------------------------------------------------


def row_blocks(stream: RowStream, start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Yield rows start .. stop-1 of a stream in blocks."""
    for first in range(start, stop, BLOCK):
        yield record_batch(stream.rows(np.arange(first, min(first + BLOCK, stop), dtype=np.int64)))


def stored_blocks(file: Path) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file in blocks, whatever its row groups. Raises UsageError where it is no such file."""
    try:
        waiting = SCHEMA.empty_table()
        with pq.ParquetFile(file) as reader:
            for batch in reader.iter_batches(GROUP_BLOCKS * BLOCK, columns=SCHEMA.names):
                waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch]).cast(SCHEMA)])
                whole = len(waiting) - len(waiting) % BLOCK
                yield from (waiting.slice(first, BLOCK) for first in range(0, whole, BLOCK))
                waiting = waiting.slice(whole).combine_chunks()
        if len(waiting):
            yield waiting
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            f"{file} is not a whole Parquet file of rows ({' '.join(str(error).split())})."
        ) from None


def block_digest(block: pa.RecordBatch | pa.Table) -> bytes:
    """Return the sha256 of a block: lengths of the inputs, their ids, lengths of the labels, their ids."""
    digest = hashlib.sha256()
    for column in block.columns:
        lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for part in (pc.list_value_length(lists), lists.flatten()):
            digest.update(np.ascontiguousarray(part.to_numpy(zero_copy_only=False), "<i4"))
    return digest.digest()


def split_digest(blocks: Iterable[bytes]) -> str:
    """Return the sha256 of a split from its blocks' digests in order."""
    return hashlib.sha256(b"".join(blocks)).hexdigest()


# --- shards --------------------------------------------------------------------------------------------------------------


def shard_ranges(rows: int, num_shards: int | None = None) -> list[tuple[int, int]]:
    """Return (first row, one past the last) of each shard: one in 250,000 rows by default, at most one a block."""
    blocks = -(-rows // BLOCK)
    shards = min(num_shards or -(-rows // SHARD_ROWS), blocks)
    cuts = [min(k * blocks // shards * BLOCK, rows) for k in range(shards + 1)]
    return list(itertools.pairwise(cuts))


def build_shards(
    recipe: Recipe,
    name: str,
    folder: str | Path,
    *,
    num_shards: int | Mapping[str, int] | None = None,
    shard_index: int | None = None,
    progress: Callable[[int], Any] = lambda rows: None,
) -> list[Path]:
    """Write the shards of configuration `name` that `folder` lacks, all or those with one index; return their files.

    `num_shards` is a number for all splits, or one a split; by default one shard in 250,000 rows. A shard is there whole or
    not at all. Raises UsageError where the folder holds shards of another build.
    """
    counts = (
        num_shards if isinstance(num_shards, Mapping) else dict.fromkeys(recipe.splits, num_shards)
    )
    for count in counts.values():
        check_sharding(count, shard_index)
    target = Path(folder) / config_folder(name)
    wanted = {target / file: place for file, place in shard_places(recipe.splits, counts).items()}
    refuse_others(target, set(wanted))
    own = {file: place for file, place in wanted.items() if shard_index in (None, place["shard"])}
    for file, place in own.items():
        identity = {"hf_synpre": __version__, "recipe": asdict(recipe), **place}
        if file.exists():
            check_identity(file, identity)
            progress(place["stop"] - place["start"])
        else:
            write_shard(file, recipe.stream(place["split"]), identity, progress)
    return list(own)


def shard_places(
    splits: Mapping[str, int], counts: Mapping[str, int | None]
) -> dict[str, dict[str, Any]]:
    """Return file name -> split, number and rows of every shard."""
    places = {}
    for split, rows in splits.items():
        ranges = shard_ranges(rows, counts[split])
        for k, (start, stop) in enumerate(ranges):
            place = {
                "split": split,
                "shard": k,
                "shards": len(ranges),
                "start": start,
                "stop": stop,
            }
            places[f"{split}-{k:05d}-of-{len(ranges):05d}.parquet"] = place
    return places


def check_sharding(num_shards: int | None, shard_index: int | None) -> None:
    """Raise UsageError on a number of shards below 1, or an index outside of it."""
    if num_shards is not None and not 1 <= num_shards < 100_000:
        raise UsageError(f"num_shards is {num_shards}; give 1 to 99999.")
    if shard_index is not None and (num_shards is None or not 0 <= shard_index < num_shards):
        raise UsageError(
            f"shard_index is {shard_index} with num_shards {num_shards}; give 0 <= shard_index < num_shards."
        )


def refuse_others(target: Path, wanted: set[Path]) -> None:
    """Raise UsageError where a folder holds Parquet files that are not of this build: a loader would read them too."""
    if strange := sorted(set(target.glob("*.parquet")) - wanted):
        raise UsageError(
            f"{strange[0]} is not of this build; choose another output_dir, or the same num_shards and splits."
        )


def check_identity(file: Path, identity: dict[str, Any]) -> None:
    """Raise UsageError where a shard that is there was made by another recipe or version."""
    footer = read_footer(file)
    for what, value in identity.items():
        if footer.get(what) != value:
            raise UsageError(
                f"{file} was built with another {what}; choose another output_dir or delete it."
            )


def write_shard(
    file: Path,
    stream: RowStream,
    identity: dict[str, Any],
    progress: Callable[[int], Any] = lambda rows: None,
) -> None:
    """Write one shard; the next row group is generated while one is written."""
    digests, ids = [], 0
    with whole_file(file) as partial, pq.ParquetWriter(partial, SCHEMA, **PARQUET) as writer:
        for group, parts in ahead(
            row_groups(row_blocks(stream, identity["start"], identity["stop"]))
        ):
            writer.write_table(group, row_group_size=GROUP_BLOCKS * BLOCK)
            digests += parts
            ids += sum(len(chunk.values) for column in group.columns for chunk in column.chunks)
            progress(len(group))
        footer = identity | {"ids": ids, "blocks": digests}
        writer.add_key_value_metadata({FOOTER: json.dumps(footer, sort_keys=True).encode()})


def row_groups(blocks: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.Table, list[str]]]:
    """Yield (table, digests of its blocks as hex) for every GROUP_BLOCKS blocks."""
    group: list[pa.RecordBatch] = []
    for block in blocks:
        group.append(block)
        if len(group) == GROUP_BLOCKS:
            yield pa.Table.from_batches(group), [block_digest(b).hex() for b in group]
            group = []
    if group:
        yield pa.Table.from_batches(group), [block_digest(b).hex() for b in group]


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items; a thread makes the next one meanwhile (writing and hashing leave Python's lock)."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


def read_footer(file: Path) -> dict[str, Any]:
    """Return what a shard says of itself. Raises UsageError where it is no shard of ours."""
    try:
        return json.loads(pq.read_metadata(file).metadata[FOOTER])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise UsageError(
            f"{file} is not a shard that hf_synpre built; delete it or choose another folder."
        ) from None


# --- a folder of shards --------------------------------------------------------------------------------------------------


def read_configs(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Return name -> facts of every complete configuration in a folder: recipe, and rows, shards, sha256 of its splits.

    A configuration with shards still to come is left out. Raises UsageError on shards that are not of one build.
    """
    found: dict[str, dict[str, list[dict]]] = {}
    for file in sorted(Path(folder).glob("*/*-of-*.parquet")):
        footer = read_footer(file)
        found.setdefault(file.parent.name, {}).setdefault(footer["split"], []).append(footer)
    names = {("default" if place == "data" else place): splits for place, splits in found.items()}
    facts = {
        name: config_facts(name, splits)
        for name, splits in sorted(names.items(), key=lambda i: i[0] != "default")
    }
    return {name: fact for name, fact in facts.items() if fact}


def config_facts(name: str, splits: dict[str, list[dict]]) -> dict[str, Any] | None:
    """Return the facts of a configuration from its shards' footers, None where shards are missing."""
    builds = [(f["hf_synpre"], f["recipe"]) for footers in splits.values() for f in footers]
    if any(build != builds[0] for build in builds):
        raise UsageError(
            f"The shards of {name} are not all of one recipe and version; build them anew."
        )
    package, recipe = builds[0]
    if any(
        len(splits.get(split, ())) < splits[split][0]["shards"]
        for split in recipe["splits"]
        if split in splits
    ):
        return None
    if recipe["splits"].keys() - splits.keys():
        return None
    facts = {key: recipe[key] for key in Recipe.__dataclass_fields__} | {"hf_synpre": package}
    return facts | {"splits": {split: split_facts(splits[split]) for split in recipe["splits"]}}


def split_facts(footers: list[dict]) -> dict[str, Any]:
    """Return rows, ids, shards and sha256 of a split from its shards' footers, in order."""
    blocks = (bytes.fromhex(block) for footer in footers for block in footer["blocks"])
    facts = {
        "rows": footers[-1]["stop"],
        "ids": sum(f["ids"] for f in footers),
        "shards": len(footers),
    }
    return facts | {"sha256": split_digest(blocks)}
