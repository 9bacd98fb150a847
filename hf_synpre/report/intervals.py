"""Layer 0: 95 % intervals of means, differences and benefits over a handful of seeds.

Means and differences use Student's t: a percentile bootstrap over 3-5 seeds under-covers. A benefit, the ratio
(arm - random) / (natural - random), uses a parametric bootstrap with fixed streams: every mean is drawn from
mean + se * t(n - 1), which errs on the wide side: in simulations its 95 % intervals cover 97-99 % at 3-5 seeds.
It is refused where |natural - random| is below 2 combined standard errors.
Where the scores of single examples are known, all of them cover the draw of the test examples as well as the seeds.
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


def estimate(values: list[float], examples: np.ndarray | None = None) -> dict:
    """Return the mean of `values` (one a seed) with its Student-t interval, in their units; no interval from one value.

    `examples` (seeds x examples) holds the scores that the values are means of: the interval then covers the draw of the
    examples too, and "se_seeds" tells the part of the seeds.
    """
    n = len(values)
    if n == 1:
        return _t_interval(float(np.mean(values)), None, ONE_SEED) | {"n": n}
    seeds = float(np.std(values, ddof=1)) / math.sqrt(n) if np.ptp(values) > 1e-12 else 0.0
    if examples is None or examples.shape[1] < 2:
        return _t_interval(
            float(np.mean(values)), [(seeds, n - 1)], None if seeds else "the seeds do not differ"
        ) | {"n": n}
    by_examples, rest = _example_errors(examples)
    floor = rest, (n - 1) * (examples.shape[1] - 1)
    parts = [max((seeds, n - 1), floor, key=half_width), (by_examples, examples.shape[1] - 1)]
    note = None if any(se for se, _ in parts) else "neither seeds nor examples differ"
    return _t_interval(float(np.mean(values)), parts, note) | {"n": n, "se_seeds": max(seeds, rest)}


def _example_errors(scores: np.ndarray) -> tuple[float, float]:
    """Return two standard errors of the mean of seeds x examples: by the examples' own differences, and by the rest alone.

    sqrt((MS_example - MS_rest) / (n N)), 0 where the examples differ less than the rest does, and sqrt(MS_rest / (n N)),
    below which the seeds' own falls by chance alone: the two-way random-effects model.
    """
    n, size = scores.shape
    seeds, examples = scores.mean(1), scores.mean(0)
    rest = float(((scores - seeds[:, None] - examples + scores.mean()) ** 2).sum()) / (
        (n - 1) * (size - 1)
    )
    rest = rest if rest > 1e-24 else 0.0
    return math.sqrt(max(float(n * examples.var(ddof=1)) - rest, 0.0) / (n * size)), math.sqrt(
        rest / (n * size)
    )


def _t_interval(value: float, parts: list[tuple[float, float]] | None, note: str | None) -> dict:
    """Return value -+ the root of the summed squares of the parts' half widths t(df) * se (Zou & Donner 2008: MOVER)."""
    half = None if parts is None else math.hypot(*map(half_width, parts))
    low, high = (None, None) if half is None else (value - half, value + half)
    se = None if parts is None else math.hypot(*(se for se, _ in parts))
    return {"value": value, "low": low, "high": high, "se": se, "note": note}


def half_width(part: tuple[float, float]) -> float:
    """Return half the width of the interval of a standard error with its degrees of freedom."""
    return t_quantile(LEVELS[1], part[1]) * part[0] if part[0] else 0.0


def difference(
    scores: dict, reference: dict, examples: dict | None = None, others: dict | None = None
) -> dict:
    """Return the estimate of mean scores - mean reference, both {seed: score}: paired if >= 2 are shared, else Welch.

    `examples` and `others` are {seed: the scores of the same examples} of the two, where they are known.
    """
    shared = sorted(scores.keys() & reference.keys())
    if len(shared) > 1:
        known = examples and others and all(seed in examples and seed in others for seed in shared)
        pairs = np.array([examples[seed] - others[seed] for seed in shared]) if known else None
        result = estimate([scores[seed] - reference[seed] for seed in shared], pairs) | {
            "paired": True
        }
    else:
        result = _welch(estimate([*scores.values()]), estimate([*reference.values()])) | {
            "paired": False
        }
    return result | {"excludes_zero": bool(result["se"]) and result["low"] * result["high"] > 0}


def _welch(a: dict, b: dict) -> dict:
    value, n = a["value"] - b["value"], min(a["n"], b["n"])
    if n < 2:
        return _t_interval(value, None, ONE_SEED) | {"n": n}
    variances = a["se"] ** 2, b["se"] ** 2
    spread = variances[0] ** 2 / (a["n"] - 1) + variances[1] ** 2 / (b["n"] - 1)
    df = sum(variances) ** 2 / spread if spread else n - 1
    return _t_interval(
        value, [(math.sqrt(sum(variances)), df)], "not paired: fewer than 2 shared seeds"
    ) | {"n": n}


def draw_mean(score: dict, stream: str) -> np.ndarray:
    """Return the value of an estimate, then DRAWS draws of it from value + se * t(n - 1), NaN for one seed."""
    draws = np.full(DRAWS + 1, np.nan)
    draws[0] = score["value"]
    if score["n"] > 1:
        rng = np.random.default_rng(zlib.crc32(stream.encode()))
        draws[1:] = score["value"] + seed_error(score) * rng.standard_t(score["n"] - 1, size=DRAWS)
    return draws


def seed_error(score: dict) -> float:
    """Return the standard error over seeds alone, NaN for one seed."""
    found = score.get("se_seeds", score["se"])
    return math.nan if found is None else found


def resampled(means: dict[str, np.ndarray], stream: str) -> dict[str, np.ndarray]:
    """Return, for arms whose scores of the same examples are given, DRAWS + 1 shifts of their means; the first is 0.

    The examples are drawn again, the same for all arms (their normal approximation: the arms' covariance over N).
    """
    values = np.array([*means.values()])
    covariance = np.atleast_2d(np.cov(values)) / values.shape[1]
    rng = np.random.default_rng(zlib.crc32(stream.encode()))
    shifts = rng.multivariate_normal(np.zeros(len(values)), covariance, size=DRAWS, method="eigh")
    return dict(zip(means, np.vstack([np.zeros(len(values)), shifts]).T, strict=True))


def gains(ends: list[dict], streams: list[str], examples: list[np.ndarray] | None = None) -> tuple:
    """Return draws of arm - random and of natural - random, and the standard error of the latter (NaN if not known).

    `ends` are the estimates of arm, random and natural over seeds; `examples` their mean scores of the same examples.
    """
    a, r, n = (draw_mean(score, stream) for score, stream in zip(ends, streams, strict=True))
    errors = [seed_error(score) for score in ends[1:]]
    if examples is not None:
        shifts = resampled(dict(zip("arn", examples, strict=True)), "--".join(streams))
        a, r, n = a + shifts["a"], r + shifts["r"], n + shifts["n"]
        errors.append(
            float(np.std(examples[2] - examples[1], ddof=1)) / math.sqrt(len(examples[1]))
        )
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
