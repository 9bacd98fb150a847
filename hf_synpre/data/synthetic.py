"""Synthetic datasets: a task's name and a size -> its rows, the same rows in three forms.

- SyntheticDataset: a map-style dataset that generates rows as they are asked for.
- load_synthetic: a `datasets.Dataset` in the Hugging Face cache, or an IterableDataset that
  generates as it is read.
- SyntheticBuilder: the builder behind it, for several splits or other ways to prepare it.
"""

import html
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, overload

import datasets
import numpy as np
import pyarrow as pa
from datasets.builder import Key

from hf_synpre.data.rows import SPLIT_SIZES, Row, RowsConfig
from hf_synpre.data.shards import BLOCK_ROWS
from hf_synpre.errors import UsageError, as_integer, in_message
from hf_synpre.tasks import RowStream, VocabularyLike, iter_row_blocks, open_stream
from hf_synpre.tasks.imports import task_files

FEATURES = datasets.Features(
    {name: datasets.List(datasets.Value("int32")) for name in ("input_ids", "labels")}
)
# What the description of a dataset says of its rows, by their layout.
LAYOUT_NOTES = {
    "seq2seq": "The rows hold no end-of-sequence id: append it to input_ids and labels, as "
    "hf_synpre.Seq2SeqCollator and hf_synpre.CausalCollator do.",
    "causal": "A row is one sequence for a decoder: input, end of sequence, target, end of "
    "sequence. labels are -100 before the target, so a Trainer needs nothing but padding.",
}
NOTE_ON_SEQUENCES = (
    "A row is one sequence. labels are as long, and -100 where a token is not scored, so a Trainer "
    "of a decoder needs nothing but padding."
)
# A notebook shows so many rows, and so many ids of each.
SHOWN_ROWS = 5
SHOWN_IDS = 16
# A streamed dataset is divided into parts, which are divided among workers. A part has at least
# PART_ROWS rows, few enough that a resumed stream skips them soon. There are at most MOST_PARTS, so
# that their list stays short.
PART_ROWS = 10_000
MOST_PARTS = 1024


class SyntheticDataset:
    """A map-style dataset of a task's rows: {"input_ids", "labels"}, int32 arrays.

    Rows have no end-of-sequence ids: `Seq2SeqCollator` and `CausalCollator` append them. Rows of
    the layout "causal" have theirs, and a decoder takes them as they are. Row i is the same in
    every process and for every size. Indices are those of a `datasets.Dataset`: an
    integer, negative ones counted from the end, gives a row; a slice or a list gives a dict of two
    columns, made in one compiled call.

    Args:
        task: a task's name, or a mixture with its weights, "set:2,identity:1".
        size: the number of rows.
        stream: the keywords of `hf_synpre.generate`: split, seed, vocabulary, layout, the task's
            parameters.

    Raises:
        UsageError: an unknown name, or a value that does not fit the task.
        IndexError: a row past the end is asked for.

    Examples:
        >>> dataset = SyntheticDataset("reverse", size=1000, vocabulary=64, max_length=20)
        >>> len(dataset), sorted(dataset[0])
        (1000, ['input_ids', 'labels'])
        >>> len(dataset[:3]["labels"]), len(dataset[[7, -1]]["labels"])
        (3, 2)
    """

    def __init__(self, task: str, *, size: int = 1_000_000, **stream: Any):
        rows = as_integer(size)
        if rows is None or not 0 < rows < 2**63:
            raise UsageError(f"size is {size!r}; give the number of rows, an integer >= 1.")
        self.stream = open_stream(task, **stream)
        self.size = rows

    @property
    def column_names(self) -> list[str]:
        """The names of the arrays of a row."""
        return list(FEATURES)

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return (
            "SyntheticDataset({\n"
            f"    rows: {self.stream},\n"
            f"    features: {self.column_names},\n"
            f"    num_rows: {self.size}\n"
            "})"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the first rows as a table."""
        columns = self[: min(SHOWN_ROWS, self.size)]
        lines = [f"<pre>{html.escape(repr(self))}</pre>", "<table>"]
        lines.append("<tr><th>row</th><th>input_ids</th><th>labels</th></tr>")
        for number, arrays in enumerate(zip(*columns.values(), strict=True)):
            cells = "".join(f"<td>{shown_ids(ids)}</td>" for ids in arrays)
            lines.append(f"<tr><td>{number}</td>{cells}</tr>")
        return "\n".join([*lines, "</table>"])

    @overload
    def __getitem__(self, index: int, /) -> Row: ...

    @overload
    def __getitem__(self, index: slice | Iterable[int], /) -> dict[str, list[np.ndarray]]: ...

    def __getitem__(self, index: Any, /) -> Any:
        number = as_integer(index)
        if number is not None:
            return self.__getitems__([number])[0]

        rows = self.__getitems__(self._row_numbers(index))
        return {name: [row[name] for row in rows] for name in self.column_names}

    def _row_numbers(self, index: Any) -> list[int]:
        """Return the numbers of the rows of a slice, list, range or array of integers.

        Raises UsageError on anything else.
        """
        if isinstance(index, slice):
            return list(range(*index.indices(self.size)))
        if isinstance(index, Iterable) and not isinstance(index, str | bytes):
            numbers = [as_integer(number) for number in index]
            if None not in numbers:
                return [number for number in numbers if number is not None]
        asked = " ".join(in_message(index).split())
        raise UsageError(
            f"The rows {asked} were asked for; give an integer, a slice, or a list of integers. "
            "Columns are made with their rows: write dataset[:100]['input_ids']."
        )

    def __getitems__(self, indices: list[int]) -> list[Row]:
        """Return the rows at `indices`, generated together."""
        numbers = np.asarray(indices, np.int64)
        outside = numbers[(numbers < -self.size) | (numbers >= self.size)]
        if len(outside):
            raise IndexError(f"Row {outside[0]} was asked for; the dataset has {self.size} rows.")

        x, x_ends, y, y_ends = self.stream.rows(numbers % self.size)
        rows = []
        for k in range(len(numbers)):
            inputs = x[x_ends[k] : x_ends[k + 1]]
            labels = y[y_ends[k] : y_ends[k + 1]]
            rows.append({"input_ids": inputs, "labels": labels})
        return rows


def shown_ids(ids: np.ndarray) -> str:
    """Return the first ids of a row as text, and how many it has where these are more."""
    text = " ".join(map(str, ids[:SHOWN_IDS].tolist()))
    return text if len(ids) <= SHOWN_IDS else f"{text} ... ({len(ids)} ids)"


@dataclass
class SyntheticConfig(RowsConfig, datasets.BuilderConfig):
    """The configuration of a SyntheticBuilder: which rows it makes.

    `vocabulary` is what `hf_synpre.generate` takes: None (the paper's T5 ids), a size, a tokenizer
    or a Vocabulary. The version of the configuration is the task's, and for a task of one's own has
    a digest of its definition, so that the cache never serves rows of another one.
    """

    def __post_init__(self) -> None:
        datasets.BuilderConfig.__post_init__(self)
        super().__post_init__()
        component_versions = sum(task.version for task in self.opened_task.components)
        definition = 0
        if files := task_files(self.task):
            definition = zlib.crc32(json.dumps(files).encode())
        self.version = datasets.Version(
            f"{self.opened_task.version}.{component_versions}.{definition}"
        )


class SyntheticBuilder(datasets.ArrowBasedBuilder):
    """A builder of generated rows for the Hugging Face cache.

    Examples:
        >>> builder = SyntheticBuilder(task="set", seed=1, splits={"train": 1000})  # doctest: +SKIP
        >>> builder.download_and_prepare()  # doctest: +SKIP
        >>> builder.as_dataset("train")  # doctest: +SKIP
    """

    BUILDER_CONFIG_CLASS = SyntheticConfig

    def _info(self) -> datasets.DatasetInfo:
        """Return the description and the features of the rows."""
        note = LAYOUT_NOTES[self.config.layout]
        if self.config.opened_task.is_sequence:
            note = NOTE_ON_SEQUENCES
        description = f"{self.config.opened_task.description}\n{note}"
        return datasets.DatasetInfo(description=description, features=FEATURES)

    def _split_generators(
        self, dl_manager: datasets.DownloadManager
    ) -> list[datasets.SplitGenerator]:
        """Return for each split its stream and the parts that it is cut in."""
        generators = []
        for split, rows in self.config.splits.items():
            arguments = {"stream": self.config.stream(split), "ranges": part_ranges(rows)}
            generators.append(datasets.SplitGenerator(split, arguments))
        return generators

    def _generate_tables(
        self, stream: RowStream, ranges: list[tuple[int, int]]
    ) -> Iterator[tuple[Key, pa.Table]]:
        """Yield the rows of parts of a split in blocks, each with its part's number and its own."""
        for part, (start, stop) in enumerate(ranges):
            blocks = iter_row_blocks(stream, start, stop, BLOCK_ROWS)
            for number, block in enumerate(blocks):
                yield Key(part, number), pa.Table.from_batches([block])


def part_ranges(rows: int) -> list[tuple[int, int]]:
    """Return (first row, one past the last) of every part of a split."""
    size = max(PART_ROWS, -(-rows // MOST_PARTS))
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


def load_synthetic(
    task: str,
    *,
    split: str = "train",
    size: int | None = None,
    seed: int = 0,
    vocabulary: VocabularyLike = None,
    streaming: bool = False,
    cache_dir: str | None = None,
    layout: str = "seq2seq",
    **parameters: int | str,
) -> datasets.Dataset | datasets.IterableDataset:
    """Return the rows of `hf_synpre.generate` as a Hugging Face dataset.

    Args:
        task: a task's name, or a mixture with its weights, "set:2,identity:1".
        split: train, validation or test; their rows are independent.
        size: the number of rows; without it the paper's, 1,000,000 for train and 10,000 for the
            others.
        seed: an integer >= 0; every seed is another stream.
        vocabulary: whose ids the rows have: None (the paper's T5 ids), a size, a tokenizer or a
            Vocabulary.
        streaming: generate rows as they are read, in place of a cache on disk.
        cache_dir: the folder of the cache; Hugging Face's own without it.
        layout: what a row holds, as for `hf_synpre.generate`: "seq2seq", or "causal" for a decoder.
        parameters: the task's parameters, where they differ from the paper's.

    Returns:
        A Dataset in the cache; with `streaming` an IterableDataset in shards, which goes on exactly
        where its state_dict says.

    Raises:
        UsageError: an unknown name, or a value that does not fit the task.

    Examples:
        >>> rows = load_synthetic("set", streaming=True, vocabulary=64)
        >>> sorted(next(iter(rows)))
        ['input_ids', 'labels']
    """
    if size is None:
        size = SPLIT_SIZES.get(split, SPLIT_SIZES["validation"])
    name = re.sub(r"[^A-Za-z0-9]+", "_", str(task))
    # Caches are named by what is given here: those of the usual layout keep their names.
    other_layout = {} if layout == "seq2seq" else {"layout": layout}
    builder = SyntheticBuilder(
        cache_dir=cache_dir,
        dataset_name=f"hf_synpre_{name}",
        task=task,
        parameters=parameters,
        vocabulary=vocabulary,
        seed=seed,
        splits={split: size},
        **other_layout,
    )

    if streaming:
        return builder.as_streaming_dataset(split)
    builder.download_and_prepare()
    return builder.as_dataset(split)
