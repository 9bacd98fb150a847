"""Generalised normal numbers: a tensor's mean, deviation and shape -> numbers of the same.

The density is proportional to exp(-|x / a|^s): s = 2 is normal, 1 is Laplace, smaller has heavier
tails (arXiv 2506.00486). The shape follows from the deviation and the mean absolute deviation:
E|w - mu|^2 / (E|w - mu|)^2 = G(1/s) G(3/s) / G(2/s)^2 with the gamma function G.
"""

import math
from collections.abc import Collection

import torch

from hf_synpre.errors import UsageError
from hf_synpre.initialization.moments import Moments

# The shapes among which one is fitted; 20 is almost uniform.
SMALLEST_SHAPE, LARGEST_SHAPE = 0.2, 20.0
BISECTIONS = 60


def fitted_shape(sd: float, absolute: float) -> float:
    """Return the shape whose ratio of deviations is that of a tensor.

    Args:
        sd: the standard deviation, above 0.
        absolute: the mean absolute deviation, above 0.

    Returns:
        The shape by bisection, within SMALLEST_SHAPE and LARGEST_SHAPE.

    Examples:
        fitted_shape(1.0, math.sqrt(2 / math.pi))   # 2: normal
        fitted_shape(math.sqrt(2), 1.0)             # 1: Laplace
    """
    target = 2 * (math.log(sd) - math.log(absolute))
    low, high = SMALLEST_SHAPE, LARGEST_SHAPE
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        # The ratio falls as the shape rises.
        if log_ratio(middle) > target:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def log_ratio(shape: float) -> float:
    """Return log of E|w|^2 / (E|w|)^2 under a shape."""
    return math.lgamma(1 / shape) + math.lgamma(3 / shape) - 2 * math.lgamma(2 / shape)


def draw_generalized(
    shape: Collection[int],
    moments: Moments,
    scale: float,
    generator: torch.Generator,
    source: str,
) -> torch.Tensor:
    """Draw a tensor with the mean, the deviation and the shape of another one.

    |w - mu| = a G^(1/s) with G of the gamma distribution of shape 1/s, and a such that the
    deviation is that of the tensor.

    Args:
        shape: the shape of the new tensor.
        moments: of the checkpoint's tensor, with its mean absolute deviation.
        scale: the factor of mean and deviation that makes up for another fan-in.
        generator: the source of the numbers, on the CPU.
        source: whose statistics these are, for the error.

    Returns:
        float32 on the CPU.

    Raises:
        UsageError: the statistics lack the mean absolute deviation.
    """
    if moments.absolute is None:
        raise UsageError(
            "Scheme generalized_gaussian fits the shape from the mean absolute deviation, which "
            f"the statistics of {source} lack; give a checkpoint with weights, or a file of "
            "`synpre statistics CHECKPOINT --absolute`."
        )
    mean, sd = moments.mean * scale, moments.sd * scale
    if not moments.sd or not moments.absolute:
        return torch.full(tuple(shape), mean, dtype=torch.float32)

    inverse = 1 / fitted_shape(moments.sd, moments.absolute)
    a = sd * math.exp((math.lgamma(inverse) - math.lgamma(3 * inverse)) / 2)
    gammas = torch._standard_gamma(torch.full(tuple(shape), inverse), generator=generator)
    signs = torch.empty(tuple(shape)).uniform_(-1, 1, generator=generator).sign_()
    return signs.mul_(gammas.pow_(inverse)).mul_(a).add_(mean)
