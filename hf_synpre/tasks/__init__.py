"""Layer 1: the synthetic tasks: `list_tasks`, `get_task`, `open_stream`, `generate`; see base.py for what a task is."""

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from hf_synpre.errors import UsageError, as_integer, choose
from hf_synpre.tasks.mixture import Mixture, make_mixture, read_mixture, register_mixture
from hf_synpre.tasks.registry import REGISTRY, Task, register_task
from hf_synpre.tasks.streams import MixtureStream, Rows, Stream
from hf_synpre.vocabulary import as_vocabulary

FAMILIES = ("functions", "lime", "nonsense", "languages")
CHUNK = 8192
SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
__all__ = [
    "SCHEMA",
    "generate",
    "get_task",
    "list_tasks",
    "open_stream",
    "record_batch",
    "register_mixture",
    "register_task",
]


@functools.cache
def _load_families() -> None:
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")


def list_tasks() -> list[str]:
    """Return the names of all registered tasks, family by family, those registered elsewhere last."""
    _load_families()
    return sorted(REGISTRY, key=_family)


def _family(name: str) -> int:
    home = REGISTRY[name].function.__module__.rpartition(".")[2]
    return FAMILIES.index(home) if home in FAMILIES else len(FAMILIES)


def get_task(name: str | Mapping[str, int]) -> Task | Mixture:
    """Return a task by name, or the mixture of {"set": 2, "identity": 1} or "set:2,identity:1".

    Raises UsageError with the closest name when there is none.
    """
    _load_families()
    if isinstance(name, str) and name not in REGISTRY and ("," in name or ":" in name):
        name = read_mixture(name)
    if isinstance(name, Mapping):
        return make_mixture(name)
    return REGISTRY[choose("task", name, REGISTRY)]


def open_stream(
    task: str | Mapping[str, int],
    *,
    split: str = "train",
    seed: int = 0,
    vocabulary: Any = None,
    ramp: int = 0,
    **parameters: int | str,
) -> Stream | MixtureStream:
    """Return the stream of a task or mixture; unknown names and impossible values raise UsageError."""
    found = get_task(task)
    rise = as_integer(ramp)
    if rise is None or not 0 <= rise <= 2**42:
        raise UsageError(
            f"ramp is {ramp!r}; give the number of rows of the curriculum, up to 2**42, 0 for none."
        )
    words = as_vocabulary(vocabulary)
    if isinstance(found, Mixture):
        return found.open(parameters, words, split, seed, rise)
    return Stream(found, found.resolve(parameters), words, split, seed, rise).validate()


def generate(
    task: str | Mapping[str, int],
    start: int,
    stop: int,
    *,
    split: str = "train",
    seed: int = 0,
    vocabulary: Any = None,
    ramp: int = 0,
    **parameters: int | str,
) -> pa.Table:
    """Return rows start .. stop-1 of a task's stream: pyarrow.Table of input_ids and labels, list<int32>, no EOS.

    `task` is a name or a mixture ({"set": 2, "identity": 1} or "set:2,identity:1"). T5 ids of the paper by default;
    `vocabulary` takes a size, a tokenizer or a Vocabulary. Raises UsageError on bad input.
    """
    stream = open_stream(
        task, split=split, seed=seed, vocabulary=vocabulary, ramp=ramp, **parameters
    )
    first, end = as_integer(start), as_integer(stop)
    if first is None or end is None or not 0 <= first <= end < 2**63:
        raise UsageError(
            f"Rows {start!r} to {stop!r} were asked for; give integers, 0 <= start <= stop < 2**63."
        )
    step = max(1, min(CHUNK, 2**25 // max(stream.bounds)))
    cuts = range(first, end, step)
    batches = [
        record_batch(stream.rows(np.arange(a, min(a + step, end), dtype=np.int64))) for a in cuts
    ]
    return pa.Table.from_batches(batches, schema=SCHEMA)


def record_batch(rows: Rows) -> pa.RecordBatch:
    """Return the rows of a stream as a batch of SCHEMA; nothing is copied."""
    x, x_ends, y, y_ends = rows
    columns = [
        pa.ListArray.from_arrays(pa.array(e), pa.array(v)) for e, v in ((x_ends, x), (y_ends, y))
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
