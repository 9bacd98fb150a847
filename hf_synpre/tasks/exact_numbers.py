"""Normal weights and their sums in compiled code, equal on every processor.

Weights are integers: entries of a table of quantiles, which is rounded far more coarsely than any
mathematical library errs. float64 holds integers below 2**53 exactly, so sums of such weights are
the same in any order, fused or not, and are as fast as floats are.
"""

import functools
import statistics

import numpy as np

from hf_synpre.tasks.rng import kernel

# How many parts of one standard deviation the quantiles count.
UNIT = 2**16


@functools.cache
def normal_quantiles(count: int, cut: float | None = None) -> np.ndarray:
    """Return the middles of `count` equally likely parts of a standard normal distribution.

    Args:
        count: how many there are; a uniform one of them is drawn as a normal number.
        cut: the distribution is cut off at so many standard deviations on either side, and not
            rescaled; None: it is not.

    Returns:
        int64[count], in 1 / UNIT of a standard deviation, ascending; not to be written to.
    """
    normal = statistics.NormalDist()
    cut_off = 0.0 if cut is None else normal.cdf(-cut)  # the probability at either end
    quantiles = np.empty(count, np.int64)
    for k in range(count):
        probability = cut_off + (1 - 2 * cut_off) * (k + 0.5) / count
        quantiles[k] = round(UNIT * normal.inv_cdf(probability))
    quantiles.setflags(write=False)
    return quantiles


@kernel
def add_four(out, weights, rows, k):
    """Add rows k to k + 3, each times its weight, to `out`: float64[n], weights[m], rows[m, n].

    `out` is read and written once for all four, which is what such a sum costs most.
    """
    w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
    for i in range(len(out)):
        upper = w0 * rows[k, i] + w1 * rows[k + 1, i]
        out[i] += upper + (w2 * rows[k + 2, i] + w3 * rows[k + 3, i])
