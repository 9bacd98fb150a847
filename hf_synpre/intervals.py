"""Layer 0: 95 % intervals of means, differences and benefits over a handful of seeds.

Means and differences use Student's t: a percentile bootstrap over 3-5 seeds under-covers. A benefit, the ratio
(arm - random) / (natural - random), uses a parametric bootstrap with fixed streams: every mean is drawn from
mean + se * t(n - 1), which errs on the wide side: in simulations its 95 % intervals cover 97-99 % at 3-5 seeds.
It is refused where |natural - random| is below 2 combined standard errors.
Every result is a dict: value, low, high, note (a caveat, or why there is no value), and se where it is known.
"""

import math
import zlib
from functools import lru_cache

import numpy as np

DRAWS = 10_000
LEVELS = (0.025, 0.975)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
ONE_SEED = "one seed: no interval"
REFUSED = "natural and random differ by less than 2 standard errors"
ROUGH = "rough: natural - random changes its sign in {:.0%} of the draws"


@lru_cache
def t_quantile(probability: float, df: float) -> float:
    """Return the quantile of Student's t with `df` > 0 degrees of freedom, by bisection on t = sqrt(df) tan(angle)."""
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    low, high = -math.pi / 2, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        area = angle / 2 * np.sum(WEIGHTS * np.cos(angle * (NODES + 1) / 2) ** (df - 1))
        low, high = (angle, high) if 0.5 + constant * area < probability else (low, angle)
    return math.sqrt(df) * math.tan((low + high) / 2)


def estimate(values: list[float]) -> dict:
    """Return the mean of `values` (one a seed) with its Student-t interval, in their units; no interval from one value."""
    n = len(values)
    se = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 and np.ptp(values) > 1e-12 else 0.0
    note = ONE_SEED if n == 1 else "the seeds do not differ" if se == 0 else None
    return _t_interval(float(np.mean(values)), se if n > 1 else None, n - 1, note) | {"n": n}


def _t_interval(value: float, se: float | None, df: float, note: str | None) -> dict:
    half = None if se is None else (t_quantile(LEVELS[1], df) * se if se else 0.0)
    low, high = (None, None) if half is None else (value - half, value + half)
    return {"value": value, "low": low, "high": high, "se": se, "note": note}


def difference(scores: dict, reference: dict) -> dict:
    """Return the estimate of mean scores - mean reference, both {seed: score}: paired if >= 2 are shared, else Welch."""
    shared = sorted(scores.keys() & reference.keys())
    if len(shared) > 1:
        result = estimate([scores[seed] - reference[seed] for seed in shared]) | {"paired": True}
    else:
        result = _welch(estimate([*scores.values()]), estimate([*reference.values()])) | {"paired": False}
    return result | {"excludes_zero": bool(result["se"]) and result["low"] * result["high"] > 0}


def _welch(a: dict, b: dict) -> dict:
    value, n = a["value"] - b["value"], min(a["n"], b["n"])
    if n < 2:
        return _t_interval(value, None, 0, ONE_SEED) | {"n": n}
    variances = a["se"] ** 2, b["se"] ** 2
    spread = variances[0] ** 2 / (a["n"] - 1) + variances[1] ** 2 / (b["n"] - 1)
    df = sum(variances) ** 2 / spread if spread else n - 1
    return _t_interval(value, math.sqrt(sum(variances)), df, "not paired: fewer than 2 shared seeds") | {"n": n}


def draw_mean(score: dict, stream: str) -> np.ndarray:
    """Return the value of an estimate, then DRAWS draws of it from value + se * t(n - 1), NaN for one seed."""
    draws = np.full(DRAWS + 1, np.nan)
    draws[0] = score["value"]
    if score["n"] > 1:
        rng = np.random.default_rng(zlib.crc32(stream.encode()))
        draws[1:] = score["value"] + score["se"] * rng.standard_t(score["n"] - 1, size=DRAWS)
    return draws


def gains(arm: dict, random: dict, natural: dict, streams: tuple[str, str, str]) -> tuple[np.ndarray, np.ndarray, float]:
    """Return draws of arm - random and of natural - random, and the standard error of the latter (NaN if not known)."""
    a, r, n = (draw_mean(score, stream) for score, stream in zip((arm, random, natural), streams, strict=True))
    errors = (np.nan if score["se"] is None else score["se"] for score in (random, natural))
    return a - r, n - r, math.hypot(*errors)


def ratio(rows: list[tuple]) -> tuple[dict, np.ndarray | None]:
    """Return mean gain / mean room over `rows` (one `gains` a task; one row: its benefit), and its draws."""
    gain, room = (np.mean([row[i] for row in rows], axis=0) for i in (0, 1))
    error = math.hypot(*(row[2] for row in rows)) / len(rows)
    if abs(room[0]) <= 2 * np.nan_to_num(error):
        return refusal(REFUSED), None
    flips = np.mean(room[1:] * room[0] < 0)
    return from_draws(gain / room, ROUGH.format(flips) if flips > LEVELS[0] else None), gain / room


def from_draws(draws: np.ndarray, note: str | None = None) -> dict:
    """Return the first of `draws` as the value and the quantiles of the rest as its interval; none where they are NaN."""
    low, high = (float(x) for x in np.quantile(draws[1:], LEVELS))
    if math.isnan(low):
        low, high, note = None, None, ONE_SEED + ", and natural - random was not tested"
    return {"value": float(draws[0]), "low": low, "high": high, "note": note}


def refusal(reason: str) -> dict:
    """Return an estimate without a value, and why."""
    return {"value": None, "low": None, "high": None, "note": reason}
