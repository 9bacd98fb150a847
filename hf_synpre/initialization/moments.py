"""Mean, standard deviation and mean absolute deviation of a tensor: measured, and pooled."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numba
import numpy as np
import torch

CHUNK = 1 << 22  # bytes read at a time
BLOCK = 4096  # elements that stay in the first-level cache for a second pass

# Where subtracting the mean leaves less than this share of the sum of squares, the difference has
# lost digits to cancellation.
CANCELLATION = 0.01


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def accumulate(values, state):
    """Add values to running moments, in float64.

    Blocks are merged as in Chan et al. 1979. Within a block one pass sums the values and their
    squares. Where the mean is large compared with the spread, the difference of the two sums would
    lose its digits, so a second pass over the block sums the squared deviations.

    Args:
        values: [n] float32 or float64.
        state: [3] float64, changed in place: count, mean, sum of squared deviations from the mean.
    """
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]  # [up to BLOCK]

        # Sum of the values and of their squares. By index: Numba makes vector instructions of this,
        # not of `for value in block`.
        total, raw = np.float64(0), np.float64(0)
        for i in range(len(block)):
            total += np.float64(block[i])
            raw += np.float64(block[i]) ** 2
        mean = total / len(block)

        # Sum of squared deviations.
        squares = raw - total * mean
        if not squares > CANCELLATION * raw:
            squares = np.float64(0)
            for i in range(len(block)):
                squares += (np.float64(block[i]) - mean) ** 2

        # Merge the block into the state.
        count = state[0] + len(block)
        delta = mean - state[1]
        state[2] += squares + delta * delta * state[0] * len(block) / count
        state[1] += delta * len(block) / count
        state[0] = count


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of one parameter's elements."""

    shape: tuple[int, ...]

    # Number of elements.
    numel: int

    mean: float

    # Population standard deviation: the squares are divided by numel.
    sd: float

    # Mean of |element - mean|, from which a shape is fitted (generalized_gaussian.py); None where
    # it was not measured.
    absolute: float | None = None

    # The singular values of a matrix at some places, relative to their root mean square
    # (spectra.py); None where they were not measured, and for other tensors.
    spectrum: tuple[int, ...] | None = None

    @classmethod
    def of(cls, tensor: torch.Tensor, absolute: bool = False) -> "Moments":
        """Measure a tensor in float64, its mean absolute deviation too if that is wanted."""
        state = np.zeros(3)
        chunks = tensor.detach().reshape(-1).split(CHUNK // 4)
        for chunk in chunks:
            accumulate(as_floats(chunk.cpu()), state)
        moments = cls.from_state(tuple(tensor.shape), state)
        if not absolute:
            return moments
        total = math.fsum(absolute_sum(chunk, moments.mean) for chunk in chunks)
        return replace(moments, absolute=total / max(moments.numel, 1))

    @classmethod
    def from_state(cls, shape: tuple[int, ...], state: np.ndarray) -> "Moments":
        """Return the moments that `accumulate` has gathered; 0 where there are no elements."""
        count, mean, squares = state.tolist()
        sd = 0.0
        if count:
            sd = math.sqrt(squares / count)
        return cls(shape, int(count), mean, sd)


def pool(parts: Iterable[Moments]) -> tuple[float, float]:
    """Return (mean, sd) of the elements of several tensors taken together.

    Args:
        parts: the moments of each tensor.

    Returns:
        The mean and the population standard deviation of the concatenated tensors, without reading
        them again.

    Examples:
        mean, sd = pool(statistics.parameters[name] for name in group)
    """
    parts = list(parts)
    count = sum(m.numel for m in parts) or 1
    mean = math.fsum(m.numel * m.mean for m in parts) / count

    # Spread within each tensor and of the tensors' means around the common one.
    squares = math.fsum(m.numel * (m.sd**2 + (m.mean - mean) ** 2) for m in parts)
    return mean, math.sqrt(squares / count)


def as_floats(tensor: torch.Tensor) -> np.ndarray:
    """Return a CPU tensor as `accumulate` takes it: float64 as it is, all else as float32."""
    if tensor.dtype != torch.float64:
        tensor = tensor.float()
    return tensor.numpy()


def absolute_sum(chunk: torch.Tensor, mean: float) -> float:
    """Return the sum of |element - mean| in float64, of a chunk of any floating-point dtype."""
    return (chunk.double() - mean).abs().sum().item()
