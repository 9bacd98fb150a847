"""What a tensor becomes that is made from the values of the checkpoint's tensor, by scheme.

Each function takes the parameter, the checkpoint's values and the parameter's own generator; it
returns a new tensor of the same shape. Vectors (norms, biases) have no rows and columns: they are
permuted whole, or drawn from their mean and deviation.
"""

from collections.abc import Callable

import torch

from hf_synpre.initialization.build import USUAL_DEVIATION
from hf_synpre.initialization.parameters import Parameter

# Rounds in which row_column_norms rescales rows and columns, at the most, and the relative error of
# the norms at which it stops.
MOST_ROUNDS = 1000
SMALLEST_ERROR = 1e-9

ValueFill = Callable[[Parameter, torch.Tensor, torch.Generator], torch.Tensor]


def copied(
    parameter: Parameter,
    values: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the values as they are."""
    return values


def permuted(
    parameter: Parameter,
    values: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the same values in random order over the whole tensor."""
    order = torch.randperm(values.numel(), generator=generator)
    return values.flatten()[order].view(values.shape)


def permuted_rows(
    parameter: Parameter,
    values: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the values of each row, the weights of one output, in a random order of its own."""
    return permuted_along(-1, parameter, values, generator)


def permuted_columns(
    parameter: Parameter,
    values: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the values of each column, the weights of one input, in a random order of its own."""
    return permuted_along(-2, parameter, values, generator)


def permuted_along(
    axis: int, parameter: Parameter, values: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the values in random order along the inputs (-1) or outputs (-2) of a linear map."""
    if values.dim() < 2:
        return permuted(parameter, values, generator)
    result = values.clone(memory_format=torch.contiguous_format)
    maps = parameter.as_maps(result)  # [maps, outputs, inputs], a view
    order = torch.rand(maps.shape, generator=generator).argsort(axis)
    maps.copy_(maps.gather(axis, order))
    return result


def rescaled(
    parameter: Parameter,
    values: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the values of a matrix times a factor that makes their deviation USUAL_DEVIATION.

    It keeps the direction of a checkpoint and takes its scale away. Vectors keep their values.
    """
    sd = values.double().std(correction=0).item()
    if values.dim() < 2 or not sd > 0:
        return values
    return values * (USUAL_DEVIATION / sd)


def row_column_norms(
    parameter: Parameter,
    values: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return normal numbers whose rows and columns have the norms of the checkpoint's matrix.

    Rows and columns are rescaled in turn until both fit (Sinkhorn's iteration, on the squares).
    """
    if values.dim() < 2:
        return with_moments_of(values, generator)
    source = parameter.as_maps(values).double().square()  # [maps, outputs, inputs]
    of_rows = source.sum(-1, keepdim=True)  # [maps, outputs, 1]
    of_columns = source.sum(-2, keepdim=True)  # [maps, 1, inputs]

    result = torch.empty(values.shape).normal_(generator=generator)
    squares = parameter.as_maps(result).double().square()
    smallest = torch.finfo(torch.float64).tiny
    for _ in range(MOST_ROUNDS):
        squares *= of_columns / squares.sum(-2, keepdim=True).clamp(min=smallest)
        sums = squares.sum(-1, keepdim=True).clamp(min=smallest)
        squares *= of_rows / sums
        if ((sums - of_rows).abs() <= SMALLEST_ERROR * of_rows).all():
            break

    maps = parameter.as_maps(result)
    maps.copy_(squares.sqrt() * maps.sign())
    return result


def with_moments_of(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return normal numbers with the mean and deviation of a tensor, of its shape."""
    source = values.double()
    mean, sd = source.mean().item(), source.std(correction=0).item()
    return torch.empty(values.shape).normal_(mean, sd, generator=generator)


# What fills a tensor -> the function that makes it from the checkpoint's values.
VALUE_FILLS: dict[str, ValueFill] = {
    "weights": copied,
    "permuted": permuted,
    "permuted_rows": permuted_rows,
    "permuted_columns": permuted_columns,
    "rescaled": rescaled,
    "row_column_norms": row_column_norms,
}
