"""Singular values of a matrix -> a matrix of any size with such values and random vectors.

The values of a matrix of rank r, in ascending order, are read as a function of the place i / (r-1)
in 0..1, linear between them, so that another rank takes them at its own places. A statistics file
has that function at LEVELS, in thousandths of the root mean square of the values. That mean is not
stored, because it follows from the mean and deviation of the elements.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from hf_synpre.initialization.parameters import Parameter

# The places at which a statistics file has the values. The ends are the smallest and the largest.
LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
# Units of a root mean square.
UNITS = 1000
# Rows of a matrix that are multiplied at a time.
ROWS = 8192


def quick_singular_values(matrix: torch.Tensor) -> np.ndarray:
    """Return the singular values of a matrix, ascending, to 1e-8 of the largest.

    They are the roots of the eigenvalues of its smaller product with itself, in float64, which
    takes a quarter as long as a decomposition: seven seconds of a core for 4,096 x 4,096.

    Args:
        matrix: [rows, columns] of any floating-point type.

    Returns:
        [smaller of both] float64.
    """
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    product = torch.zeros(matrix.shape[1], matrix.shape[1], dtype=torch.float64)
    for rows in matrix.split(ROWS):
        rows = rows.double()
        product += rows.T @ rows
    return torch.linalg.eigvalsh(product).clamp(min=0).sqrt().numpy()


def all_singular_values(matrix: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return the places of a matrix's singular values, and the values, ascending, in float64."""
    values = torch.linalg.svdvals(matrix.double()).flip(0)
    return places(len(values)).tolist(), values.tolist()


def measure_spectrum(matrix: torch.Tensor) -> tuple[int, ...] | None:
    """Return the singular values of a matrix at LEVELS, in units of their root mean square.

    None for a matrix of zeros, or without elements.
    """
    if not matrix.numel() or not matrix.any():
        return None
    values = quick_singular_values(matrix)
    relative = values / np.sqrt(np.mean(values**2))
    at_levels = np.interp(LEVELS, places(len(values)), relative)
    return tuple(round(value * UNITS) for value in at_levels.tolist())


def is_spectrum(values: Sequence[int] | None) -> bool:
    """Say whether integers of a statistics file can be what `measure_spectrum` returns."""
    if values is None:
        return True
    is_rising = all(first <= second for first, second in pairwise(values))
    return len(values) == len(LEVELS) and values[0] >= 0 and values[-1] > 0 and is_rising


def places(rank: int) -> np.ndarray:
    """Return the places of the values of a matrix of some rank, [rank] in 0..1."""
    return np.linspace(0, 1, rank) if rank > 1 else np.full(1, 0.5)


def draw_with_values(
    parameter: Parameter,
    sources: Sequence[tuple[Sequence[float], Sequence[float]]],
    mean_square: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return a tensor whose maps have given singular values, and random singular vectors.

    W = Q diag(s) R^T with orthonormal columns in Q and R that are uniform (Haar): the QR
    decomposition of a normal matrix, with the signs of its R's diagonal. In float64; a map of
    4,096 x 4,096 takes a minute.

    Args:
        parameter: the parameter of the model, of two axes or more.
        sources: for each of its maps, places in 0..1 and the values there, in any unit. Of fewer
            sources than maps they are taken in turn.
        mean_square: the mean of the squares of all elements, which sets the unit.
        generator: the source of the vectors, on the CPU.
    """
    result = torch.empty(parameter.shape)
    maps = parameter.as_maps(result)  # [maps, outputs, inputs], a view
    outputs, inputs = maps.shape[1:]
    rank = min(outputs, inputs)
    spectra = [np.interp(places(rank), *source) for source in sources]
    spectra = [spectra[number % len(spectra)] for number in range(len(maps))]

    # The squares of the values of a map add up to those of its elements.
    squares = sum(float(np.sum(values**2)) for values in spectra)
    unit = (mean_square * maps.numel() / squares) ** 0.5 if squares else 0.0
    for target, values in zip(maps, spectra, strict=True):
        left = haar(outputs, rank, generator)  # [outputs, rank]
        right = haar(inputs, rank, generator)  # [inputs, rank]
        target.copy_((left * torch.from_numpy(values * unit)) @ right.T)
    return result


def haar(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """Return uniform orthonormal columns, [rows, columns] in float64, with rows >= columns."""
    normal = torch.empty(rows, columns, dtype=torch.float64).normal_(generator=generator)
    q, r = torch.linalg.qr(normal)
    return q * r.diagonal().sign()
