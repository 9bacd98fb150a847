"""What a row is: a dict of int32 arrays; and what a map-style dataset of rows offers."""

from typing import Protocol, TypeVar

import numpy as np

# One row: name of an array -> int32[length]. Every dataset of this room says which names its rows have.
Row = dict[str, np.ndarray]

# The label of a position that no loss counts (transformers' own value).
IGNORED = -100

Item = TypeVar("Item", covariant=True)


class MapDataset(Protocol[Item]):
    """A dataset with a length whose item i depends on i alone."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class BatchDataset(MapDataset[Row], Protocol):
    """A map-style dataset that also makes many rows in one call, which is faster."""

    def __getitems__(self, indices: list[int], /) -> list[Row]: ...
