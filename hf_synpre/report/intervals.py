"""Scores of a handful of seeds -> 95 % intervals of means, differences and benefits.

- Means and differences use Student's t: intervals of a percentile bootstrap over 3 to 5 seeds are
  too short.
- Where pre-training has several seeds, each of them fine-tuned with the same seeds, both kinds are
  random effects (`seed_error`). In simulations with 2 x 5 and 3 x 3 seeds 95 % intervals cover 95
  to 99 %.
- A benefit, the ratio (arm - random) / (natural - random), uses a parametric bootstrap with fixed
  random streams: every mean is drawn from mean + se * t(n - 1). Its intervals are rather too wide:
  in simulations with 3 to 5 seeds 95 % intervals cover 97 to 99 %. It is refused where
  |natural - random| is below 2 combined standard errors.
- Where the scores of single examples are known, all these intervals cover the choice of the test
  examples as well as the seeds.
- Where no seed and no example differs, such as 0 of 100 right under every seed, the spread of the
  scores says nothing, and an interval without width would claim certainty. A mean of fractions then
  has at least Wilson's interval for the number of test examples (Wilson 1927; recommended near 0
  and 1 by Brown, Cai & DasGupta 2001), and a difference that which follows from the intervals of
  both means (Newcombe 1998). Other scores have no interval.

Every result is an `Estimate`.
"""

import math
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hf_synpre.report.schema import NATURAL, Estimate
from hf_synpre.report.seeds import Seeds, Shape, complete_grid, pair_seeds
from hf_synpre.report.student import t_quantile

DRAWS = 10_000  # draws of the parametric bootstrap
LEVELS = (0.025, 0.975)  # the quantiles at the ends of a 95 % interval
LEAST_ERRORS = 2  # natural - random must be this many standard errors, or a benefit is refused

NORMAL_QUANTILE = 1.959963984540054  # of the normal distribution, at 0.975

# Ranges and variances below these are rounding errors.
LEAST_RANGE = 1e-12
LEAST_VARIANCE = 1e-24

ONE_SEED = "one seed: no interval"
NO_SPREAD = "the seeds do not differ: no interval"
ONE_FINETUNING_SEED = "one seed of fine-tuning: its variance is not covered"
WILSON = "hardly any spread: Wilson's interval for {} test examples"
REFUSED = "{} and random differ by less than 2 standard errors"
ROUGH = "rough: {} - random changes its sign in {:.0%} of the draws"


# --- Parts of an error ----------------------------------------------------------------------------


class ErrorPart(NamedTuple):
    """One source of error of a mean."""

    se: float  # its standard error
    df: float  # the degrees of freedom of the standard error

    @property
    def half_width(self) -> float:
        """Half the width of its 95 % interval."""
        return t_quantile(LEVELS[1], self.df) * self.se if self.se else 0.0


def _t_interval(value: float, parts: list[ErrorPart], n: int, note: str | None) -> Estimate:
    """Return a value with the interval that follows from independent parts of its error.

    The half width is the root of the parts' summed squares (MOVER: Zou & Donner 2008).
    """
    half = math.hypot(*(part.half_width for part in parts))
    se = math.hypot(*(part.se for part in parts))
    return {
        "value": value,
        "low": value - half,
        "high": value + half,
        "se": se,
        "note": note,
        "n": n,
    }


def _without_interval(value: float, n: int, note: str = ONE_SEED) -> Estimate:
    """Return a value of whose error nothing is known."""
    return {"value": value, "low": None, "high": None, "se": None, "note": note, "n": n}


# --- Means and differences ------------------------------------------------------------------------


def estimate(
    values: list[float], examples: np.ndarray | None = None, shape: Shape | None = None
) -> Estimate:
    """Return the mean of scores with its interval, in the scores' unit.

    Args:
        values: one score for each cell.
        examples: scores of single examples, [cells, examples]; `values` are their means. The
            interval then covers the choice of the examples too, and "se_seeds" is the error over
            seeds.
        shape: the numbers of pre-training and of fine-tuning seeds, whose grid `values` lists row
            by row; without it all values have independent seeds. An interval over several
            pre-training seeds and one of fine-tuning has a note, because it leaves the latter out.
    """
    n = len(values)
    mean = float(np.mean(values))
    if n == 1:
        return _without_interval(mean, n)
    seeds = seed_error(values, shape)
    result = _cover_examples(mean, n, seeds, examples)
    if shape is not None and shape.pretraining > 1:
        result["grid"] = [*shape]
        result["df"] = seeds.df
        if shape.finetuning == 1 and result["note"] is None:
            result["note"] = ONE_FINETUNING_SEED
    return result


def seed_error(values: list[float], shape: Shape | None = None) -> ErrorPart:
    """Return the error of a mean of scores that comes from their seeds.

    Independent seeds have the usual one. In a grid of P pre-training seeds and F seeds of
    fine-tuning (two random effects and their interaction, each pair computed once) the variance of
    the mean is (MS_P + MS_F - MS_PF) / (P F), with the degrees of freedom of Satterthwaite (1946)
    for MS_P + MS_F. With few seeds that interval is too short where one kind matters more than the
    other, so it is never narrower than those of each kind alone: MS_P / (P F) with P - 1 degrees of
    freedom, and MS_F / (P F) with F - 1. The spread of the means of the pre-training seeds alone
    would leave out what all of them share: the seeds of fine-tuning.

    Args:
        values: one score for each cell, row by row.
        shape: the numbers of seeds; see `estimate`.
    """
    n = len(values)
    if np.ptp(values) <= LEAST_RANGE:
        return ErrorPart(0.0, n - 1)
    if shape is None or not shape.is_crossed:
        return ErrorPart(float(np.std(values, ddof=1)) / math.sqrt(n), n - 1)

    # The mean squares of rows, columns and the rest.
    grid = np.array(values).reshape(shape)  # [P, F]
    rows, columns = grid.mean(1), grid.mean(0)
    rest = grid - rows[:, None] - columns + grid.mean()
    df_rows, df_columns = shape.pretraining - 1, shape.finetuning - 1
    ms_rows = float(shape.finetuning * rows.var(ddof=1))
    ms_columns = float(shape.pretraining * columns.var(ddof=1))
    ms_rest = float((rest**2).sum()) / (df_rows * df_columns)

    if max(ms_rows, ms_columns) / n <= LEAST_VARIANCE:  # both agree, and single cells do not
        return ErrorPart(math.sqrt(ms_rest / n), df_rows * df_columns)

    # Both kinds of seeds together, and each alone: the widest interval counts.
    variance = max(ms_rows + ms_columns - ms_rest, 0.0) / n
    df = (ms_rows + ms_columns) ** 2 / (ms_rows**2 / df_rows + ms_columns**2 / df_columns)
    parts = [
        ErrorPart(math.sqrt(variance), math.floor(100 * df) / 100),  # few quantiles to compute
        ErrorPart(math.sqrt(ms_rows / n), df_rows),
        ErrorPart(math.sqrt(ms_columns / n), df_columns),
    ]
    return max(parts, key=lambda part: part.half_width)


def _cover_examples(mean: float, n: int, seeds: ErrorPart, examples: np.ndarray | None) -> Estimate:
    """Return a mean of n scores with its interval over seeds and, where known, over examples."""
    se_seeds = seeds.se

    # Seeds alone.
    if examples is None or examples.shape[1] < 2:
        if not se_seeds:
            return _without_interval(mean, n, NO_SPREAD)
        return _t_interval(mean, [seeds], n, None)

    # Seeds and examples. Seeds that agree by chance get at least the error of chance.
    size = examples.shape[1]
    se_examples, se_rest = _example_errors(examples)
    rest = ErrorPart(se_rest, (n - 1) * (size - 1))
    widest = max(seeds, rest, key=lambda part: part.half_width)
    parts = [widest, ErrorPart(se_examples, size - 1)]
    if not any(part.se for part in parts):
        return _without_interval(mean, n, NO_SPREAD)
    result = _t_interval(mean, parts, n, None)
    result["se_seeds"] = max(se_seeds, se_rest)
    return result


def fraction_estimate(
    values: list[float],
    examples: np.ndarray | None,
    sizes: list[int],
    shape: Shape | None = None,
) -> Estimate:
    """Return the mean of scores that are fractions with its interval, which stays within 0..1.

    Args:
        values: one score for each cell, in 0..1.
        examples: scores of single examples, [cells, examples]; see `estimate`.
        sizes: the number of test examples, if known. Where seeds and examples do not differ the
            interval is Wilson's for the smallest of them, as if all seeds gave the same answers:
            more seeds on the same examples do not narrow it. Where less than one example is right,
            or wrong, in the mean over seeds, the interval is at least as wide.
        shape: the numbers of seeds; see `estimate`.
    """
    result = estimate(values, examples, shape)
    if result["n"] > 1 and sizes and min(sizes) > 0:
        _widen_to_wilson(result, min(sizes))

    keep_within(result, 0.0, 1.0)
    return result


def keep_within(mean: Estimate, lowest: float, highest: float) -> None:
    """Cut an interval to the values that a score can have: Student's t knows no bounds."""
    if mean["low"] is not None and mean["high"] is not None:
        mean["low"] = max(mean["low"], lowest)
        mean["high"] = min(mean["high"], highest)


def _widen_to_wilson(mean: Estimate, size: int) -> None:
    """Let Wilson's interval take the place of none; near 0 and 1 none is narrower than it."""
    share = mean["value"]
    assert share is not None
    low, high = wilson_interval(share, size)
    if mean["low"] is None or mean["high"] is None:
        mean["low"], mean["high"] = low, high
        mean["se"] = (high - low) / (2 * NORMAL_QUANTILE)
        mean["note"] = WILSON.format(size)
    elif min(share, 1 - share) * size < 1:
        mean["low"], mean["high"] = min(mean["low"], low), max(mean["high"], high)
        mean["note"] = WILSON.format(size)


def wilson_interval(share: float, size: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share.

    It holds for a mean of any scores in 0..1, on the wide side: none of the same mean has a larger
    variance than zeros and ones.

    Args:
        share: the share of successes, in 0..1.
        size: of how many.
    """
    square = NORMAL_QUANTILE**2
    center = (share + square / (2 * size)) / (1 + square / size)
    spread = math.sqrt(share * (1 - share) / size + square / (4 * size**2))
    half = NORMAL_QUANTILE * spread / (1 + square / size)
    low = center - half if share > 0 else 0.0  # not a rounding error beside it
    high = center + half if share < 1 else 1.0
    return low, high


def _example_errors(scores: np.ndarray) -> tuple[float, float]:
    """Return two standard errors of the mean of scores, [seeds, examples].

    The first is that of differences between examples, sqrt((MS_example - MS_rest) / (n N)); it is 0
    where MS_example is below MS_rest. The second is that of the rest, sqrt(MS_rest / (n N)); the
    error over seeds is below it only by chance. Both are those of the two-way random-effects model
    with n seeds and N examples.
    """
    n, size = scores.shape
    seed_means, example_means = scores.mean(1), scores.mean(0)  # [seeds], [examples]

    # Mean squares of the two-way layout.
    residuals = scores - seed_means[:, None] - example_means + scores.mean()  # [seeds, examples]
    ms_rest = float((residuals**2).sum()) / ((n - 1) * (size - 1))
    if ms_rest <= LEAST_VARIANCE:
        ms_rest = 0.0
    ms_examples = float(n * example_means.var(ddof=1))

    se_examples = math.sqrt(max(ms_examples - ms_rest, 0.0) / (n * size))
    se_rest = math.sqrt(ms_rest / (n * size))
    return se_examples, se_rest


def difference(
    scores: dict[Seeds, float],
    reference: dict[Seeds, float],
    examples: dict[Seeds, np.ndarray] | None = None,
    reference_examples: dict[Seeds, np.ndarray] | None = None,
    means: tuple[Estimate, Estimate] | None = None,
) -> Estimate:
    """Return mean scores - mean reference with its interval: paired, or Welch's.

    Args:
        scores: the score of each cell of one arm, by its seeds.
        reference: the same of the other arm. If both have two cells in common (`pair_seeds`), the
            difference is paired.
        examples: the scores of single examples, [examples], of the first arm's cells, if known.
        reference_examples: those of the same examples of the other arm, if known.
        means: the mean scores of both arms. The interval follows from theirs where the differences
            themselves do not differ.
    """
    pairs = pair_seeds(scores, reference)
    grid, shape = complete_grid(pairs)
    if len(grid) > 1:
        shared = [pairs[seeds] for seeds in grid]
        of_examples = None  # [cells, examples]
        if examples and reference_examples:
            of_examples = np.array([examples[a] - reference_examples[b] for a, b in shared])
        result = estimate([scores[a] - reference[b] for a, b in shared], of_examples, shape)
        result["paired"] = True
    else:
        result = _welch(*(_estimate_of_cells(arm) for arm in (scores, reference)))
        result["paired"] = False

    if result["note"] == NO_SPREAD and means is not None:
        _take_interval_of_means(result, *means)
    result["excludes_zero"] = excludes_zero(result)
    return result


def _estimate_of_cells(scores: dict[Seeds, float]) -> Estimate:
    """Return the mean score of an arm over its seeds."""
    grid, shape = complete_grid(scores)
    return estimate([scores[seeds] for seeds in grid], shape=shape)


def excludes_zero(estimate: Estimate) -> bool:
    """Say whether an estimate has an interval that leaves zero out."""
    low, high = estimate["low"], estimate["high"]
    return low is not None and high is not None and low * high > 0


def _take_interval_of_means(difference: Estimate, one: Estimate, other: Estimate) -> None:
    """Give a difference the interval that follows from those of both means, if both have one.

    It is the hybrid score interval of Newcombe (1998), as if the means were independent.
    """
    value = difference["value"]
    assert value is not None
    ends = (one["value"], one["low"], one["high"], other["value"], other["low"], other["high"])
    if any(end is None for end in ends):
        return
    mean, low, high, other_mean, other_low, other_high = (end or 0.0 for end in ends)
    difference["low"] = value - math.hypot(mean - low, other_high - other_mean)
    difference["high"] = value + math.hypot(high - mean, other_mean - other_low)
    difference["note"] = "the differences of the seeds do not differ: from the means' intervals"


def _welch(a: Estimate, b: Estimate) -> Estimate:
    """Return the difference of two means of independent seeds, by Welch's t."""
    assert a["value"] is not None
    assert b["value"] is not None
    value = a["value"] - b["value"]
    n = min(a["n"], b["n"])
    if n < 2:
        return _without_interval(value, n)

    # The error of an arm whose seeds do not differ is not known, and left out.
    variances = (a["se"] or 0.0) ** 2, (b["se"] or 0.0) ** 2
    if not any(variances):
        return _without_interval(value, n, NO_SPREAD)
    spread = variances[0] ** 2 / _seed_df(a) + variances[1] ** 2 / _seed_df(b)
    df = sum(variances) ** 2 / spread
    part = ErrorPart(math.sqrt(sum(variances)), df)
    return _t_interval(value, [part], n, "not paired: fewer than 2 shared seeds")


# --- Benefits -------------------------------------------------------------------------------------


@dataclass
class GainDraws:
    """The two gains over random whose ratio is a benefit, on one task or averaged over several.

    Each array holds the value itself and then DRAWS draws of the bootstrap; the draws are NaN where
    they are not known.
    """

    gain: np.ndarray  # [1 + DRAWS], arm - random
    natural_gain: np.ndarray  # [1 + DRAWS], natural - random
    natural_error: float  # standard error of natural - random, NaN where it is not known


def draw_gains(
    scores: list[Estimate], streams: list[str], examples: list[np.ndarray] | None = None
) -> GainDraws:
    """Return draws of arm - random and natural - random on one task.

    Args:
        scores: the estimates over seeds of arm, random and natural, in this order.
        streams: three names, which seed the random numbers of their draws.
        examples: for each of the three the mean score over seeds of each test example, [examples].
            The draws then cover the choice of the examples too.
    """
    arm, random, natural = (
        _draw_mean(score, stream) for score, stream in zip(scores, streams, strict=True)
    )
    errors = [_seed_error(score) for score in scores[1:]]

    # The same draw of test examples shifts all three means.
    if examples is not None:
        shifts = _draw_example_shifts(examples, "--".join(streams))  # [3, 1 + DRAWS]
        arm = arm + shifts[0]
        random = random + shifts[1]
        natural = natural + shifts[2]
        by_example = examples[2] - examples[1]
        errors.append(float(np.std(by_example, ddof=1)) / math.sqrt(len(by_example)))

    return GainDraws(arm - random, natural - random, math.hypot(*errors))


def _seed_df(score: Estimate) -> float:
    """Return the degrees of freedom of an estimate's error over seeds."""
    return score.get("df", score["n"] - 1)


def _draw_mean(score: Estimate, stream: str) -> np.ndarray:
    """Return an estimate's value and DRAWS draws from value + se * t(n - 1), NaN for one seed."""
    draws = np.full(DRAWS + 1, np.nan)
    draws[0] = score["value"]
    if score["n"] > 1:
        rng = np.random.default_rng(zlib.crc32(stream.encode()))
        noise = rng.standard_t(_seed_df(score), size=DRAWS)
        draws[1:] = draws[0] + _seed_error(score) * noise
    return draws


def _seed_error(score: Estimate) -> float:
    """Return the standard error over seeds alone: NaN for one seed, 0 where seeds do not differ."""
    error = score.get("se_seeds", score["se"])
    if error is None:
        return math.nan if score["n"] == 1 else 0.0
    return error


def _draw_example_shifts(examples: list[np.ndarray], stream: str) -> np.ndarray:
    """Return how the means of arms shift when their common test examples are drawn again.

    Args:
        examples: for each arm its scores of the same examples, [examples].
        stream: a name, which seeds the random numbers.

    Returns:
        [arms, 1 + DRAWS], the first shift 0. It is the normal approximation of drawing examples
        with replacement: the arms' covariance over the number of examples.
    """
    scores = np.array(examples)  # [arms, examples]
    covariance = np.atleast_2d(np.cov(scores)) / scores.shape[1]  # [arms, arms]
    rng = np.random.default_rng(zlib.crc32(stream.encode()))
    none = np.zeros(len(scores))
    shifts = rng.multivariate_normal(none, covariance, size=DRAWS, method="eigh")  # [DRAWS, arms]
    return np.vstack([none, shifts]).T


def pool_gains(tasks: list[GainDraws]) -> GainDraws:
    """Return the mean over tasks of their gains."""
    return GainDraws(
        gain=np.mean([task.gain for task in tasks], axis=0),
        natural_gain=np.mean([task.natural_gain for task in tasks], axis=0),
        natural_error=math.hypot(*(task.natural_error for task in tasks)) / len(tasks),
    )


def ratio(gains: GainDraws, reference: str = NATURAL) -> tuple[Estimate, np.ndarray | None]:
    """Return gain / natural gain as an estimate, and its draws, [1 + DRAWS].

    Where natural - random is below 2 standard errors the ratio is refused and has no draws.

    Args:
        gains: the draws of both gains.
        reference: the arm that stands for natural pre-training, for the notes.
    """
    natural_gain = gains.natural_gain
    if abs(natural_gain[0]) <= LEAST_ERRORS * np.nan_to_num(gains.natural_error):
        return refuse(REFUSED.format(reference)), None

    draws = gains.gain / natural_gain
    sign_changes = np.mean(natural_gain[1:] * natural_gain[0] < 0)
    note = ROUGH.format(reference, sign_changes) if sign_changes > LEVELS[0] else None
    return summarize_draws(draws, note, reference), draws


def summarize_draws(
    draws: np.ndarray, note: str | None = None, reference: str = NATURAL
) -> Estimate:
    """Return an estimate from draws, [1 + DRAWS]: the first is its value, the rest its interval.

    Where the draws after the first are NaN there is no interval, and another note replaces `note`;
    it names the reference, the arm that stands for natural pre-training.
    """
    value = float(draws[0])
    low, high = (float(end) for end in np.quantile(draws[1:], LEVELS))
    if math.isnan(low):
        note = f"{ONE_SEED}, and {reference} - random was not tested"
        return {"value": value, "low": None, "high": None, "note": note}
    return {"value": value, "low": low, "high": high, "note": note}


def refuse(reason: str) -> Estimate:
    """Return an estimate without a value; its note is the reason."""
    return {"value": None, "low": None, "high": None, "note": reason}
