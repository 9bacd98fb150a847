"""Layer 2: generated rows as Hugging Face datasets: a builder for the cache with any parameters, and `load_synthetic`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import datasets
import pyarrow as pa
from datasets.builder import Key

from hf_synpre.data.shards import SIZES, row_blocks
from hf_synpre.errors import UsageError, as_integer
from hf_synpre.tasks import RowStream, get_task, open_stream

FEATURES = datasets.Features(
    {name: datasets.List(datasets.Value("int32")) for name in ("input_ids", "labels")}
)
RANGE = 10_000  # rows a source shard: what a resumed stream may have to skip
MOST_RANGES = 1024


@dataclass
class SyntheticConfig(datasets.BuilderConfig):
    """What the rows are made of: the keywords of `generate`, and the number of rows of each split.

    The task's version is the configuration's, so that the cache never serves rows of another version.
    """

    task: str = "set"
    parameters: dict[str, Any] = field(default_factory=dict)
    vocabulary: Any = None
    seed: int = 0
    splits: dict[str, int] = field(default_factory=lambda: dict(SIZES))

    def __post_init__(self) -> None:
        super().__post_init__()
        task = get_task(self.task)
        self.version = datasets.Version(
            f"{task.version}.{sum(part.version for part in task.components)}.0"
        )
        for split, rows in self.splits.items():
            if as_integer(rows) is None or not 1 <= rows < 2**40:
                raise UsageError(f"size is {rows!r}; give the number of rows, an integer >= 1.")
            self.stream(split)

    def stream(self, split: str) -> RowStream:
        """Return the endless stream that the split's rows are the first of."""
        return open_stream(
            self.task, split=split, seed=self.seed, vocabulary=self.vocabulary, **self.parameters
        )


class SyntheticBuilder(datasets.ArrowBasedBuilder):
    """A builder of generated rows: SyntheticBuilder(task="set", seed=1).download_and_prepare(), then as_dataset()."""

    BUILDER_CONFIG_CLASS = SyntheticConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=get_task(self.config.task).function.__doc__ or "", features=FEATURES
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(
                split, {"stream": self.config.stream(split), "ranges": cut(rows)}
            )
            for split, rows in self.config.splits.items()
        ]

    def _generate_tables(
        self, stream: RowStream, ranges: list[tuple[int, int]]
    ) -> Iterator[tuple[Key, pa.Table]]:
        for shard, (start, stop) in enumerate(ranges):
            for number, block in enumerate(row_blocks(stream, start, stop)):
                yield Key(shard, number), pa.Table.from_batches([block])


def cut(rows: int) -> list[tuple[int, int]]:
    """Return the source shards of a split: ranges of at least RANGE rows, at most MOST_RANGES of them."""
    step = max(RANGE, -(-rows // MOST_RANGES))
    return [(first, min(first + step, rows)) for first in range(0, rows, step)]


def load_synthetic(
    task: str,
    *,
    split: str = "train",
    size: int | None = None,
    seed: int = 0,
    vocabulary: Any = None,
    streaming: bool = False,
    cache_dir: str | None = None,
    **parameters: int | str,
) -> datasets.Dataset | datasets.IterableDataset:
    """Return the first `size` rows of a task's stream (the paper's sizes by default), the rows of `generate`.

    A Dataset in the Hugging Face cache; with streaming an IterableDataset that generates as it is read, in shards, and
    goes on exactly where its state_dict says. Raises UsageError on bad input.
    """
    rows = SIZES.get(split, SIZES["validation"]) if size is None else size
    config = {
        "task": task,
        "parameters": parameters,
        "vocabulary": vocabulary,
        "seed": seed,
        "splits": {split: rows},
    }
    name = re.sub(r"[^A-Za-z0-9]+", "_", str(task))
    builder = SyntheticBuilder(cache_dir=cache_dir, dataset_name=f"hf_synpre_{name}", **config)
    if streaming:
        return builder.as_streaming_dataset(split)
    builder.download_and_prepare()
    return builder.as_dataset(split)
