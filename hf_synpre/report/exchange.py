"""The exchange rate of language modelling: how many natural tokens a start saves.

A random start reads T natural tokens and ends at a loss. An arm reads t natural tokens until it has
that loss, after s synthetic tokens of pre-training. Curves are made monotone (the lowest loss so
far) and are linear in log tokens between evaluations. The terms are those of the literature on
procedural pre-training (docs/experiments.md, "The report"):

- t / T, and (t + s) / T with the synthetic tokens counted as if they were natural;
- the net gain (T - t - s c) / T, where c is the FLOPs of a synthetic token over a natural one.

Arms are paired with random by seed. Nothing is extrapolated: an arm that does not get to the loss
has no rate. A rate that does not beat a control is not claimed.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from hf_synpre.report.cells import is_finite
from hf_synpre.report.costs import collect_runs
from hf_synpre.report.intervals import estimate
from hf_synpre.report.schema import RANDOM, ByArm, CellResult, Estimate, Exchange
from hf_synpre.report.seeds import Seeds, Shape, complete_grid, pair_seeds, seeds_of

# Arms whose gain is not due to what a task teaches: pre-training that has nothing to learn, weights
# out of order, random weights of a tuned scale. An arm is one of them where its name is such a
# word, or begins with it and a hyphen or an underscore.
CONTROLS = ("uniform", "permuted", "shuffled", "tuned")


class SeedRate(NamedTuple):
    """The rate of one seed."""

    natural: float  # t / T
    with_synthetic: float  # (t + s) / T
    net_gain: float  # (T - t - s c) / T; NaN where FLOPs are not known


def exchange_rates(by_arm: ByArm) -> dict[str, Exchange]:
    """Return the exchange rate of each arm of a task of language modelling, beside random.

    Args:
        by_arm: the finished cells of the task. Their curves are in a loss, lower is better.
    """
    baseline = {seeds_of(cell): cell for cell in by_arm.get(RANDOM, [])}
    rates: dict[str, Exchange] = {}
    of_seeds: dict[str, dict[Seeds, SeedRate | None]] = {}
    for arm, cells in by_arm.items():
        # The cells of random and of the arm with the same seeds, where both have a curve.
        by_seeds = {seeds_of(cell): cell for cell in cells}
        pairs = {}
        for seeds, (one, other) in pair_seeds(by_seeds, baseline).items():
            if has_curve(baseline[other]) and has_curve(by_seeds[one]):
                pairs[seeds] = (baseline[other], by_seeds[one])
        usable = {seeds: pairs[seeds] for seeds in complete_grid(pairs)[0]}
        if arm == RANDOM or not usable:
            continue
        of_seeds[arm] = {seed: seed_rate(*pair) for seed, pair in usable.items()}
        rates[arm] = summarize_rates(of_seeds[arm])
        rates[arm]["crossover"] = crossover(list(usable.values()))

    for arm, rate in rates.items():
        rate["controls"] = unbeaten_controls(arm, of_seeds)
    return rates


def has_curve(cell: CellResult) -> bool:
    """Say whether a cell has two evaluations or more, with their tokens."""
    return len(monotone_curve(cell)[0]) >= 2


def monotone_curve(cell: CellResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of a cell's evaluations and the lowest loss so far, [evaluations] each."""
    points = []
    for point in cell.get("curve") or []:
        tokens: Any = point.get("tokens")
        if is_finite(point["score"]) and is_finite(tokens) and tokens > 0:
            points.append((float(tokens), point["score"]))
    points.sort()
    tokens = np.array([tokens for tokens, _ in points])
    losses = np.array([loss for _, loss in points])
    return tokens, np.minimum.accumulate(losses) if len(losses) else losses


def tokens_until(cell: CellResult, loss: float) -> float | None:
    """Return the natural tokens after which a cell has a loss, None where it never does.

    Where the first evaluation is at the loss already, its tokens are returned, an upper bound.
    """
    tokens, losses = monotone_curve(cell)
    reached = np.flatnonzero(losses <= loss)
    if not len(reached):
        return None
    last = int(reached[0])
    if last == 0:
        return float(tokens[0])

    # Between two evaluations the loss falls in a line over log tokens.
    share = (losses[last - 1] - loss) / (losses[last - 1] - losses[last])
    before, after = math.log(tokens[last - 1]), math.log(tokens[last])
    return math.exp(before + share * (after - before))


def seed_rate(baseline: CellResult, cell: CellResult) -> SeedRate | None:
    """Return the rate of an arm's cell beside random's of the same seed, None if not reached."""
    all_tokens, losses = monotone_curve(baseline)
    total = float(all_tokens[-1])  # T
    natural = tokens_until(cell, float(losses[-1]))  # t
    if natural is None:
        return None

    # s synthetic tokens, and what they cost.
    runs = collect_runs([cell], "pretraining")
    synthetic = float(runs[0].get("tokens") or 0.0) if runs else 0.0
    net_gain = (total - natural) / total
    if synthetic:
        net_gain -= synthetic * flops_ratio(cell) / total
    return SeedRate(natural / total, (natural + synthetic) / total, net_gain)


def flops_ratio(cell: CellResult) -> float:
    """Return c, the FLOPs of a synthetic token over those of a natural one; NaN if not known."""
    costs = []
    for phase in ("pretraining", "finetuning"):
        runs = collect_runs([cell], phase)
        tokens, flops = (runs[0].get(name) if runs else None for name in ("tokens", "flops"))
        if not tokens or not flops:
            return math.nan
        costs.append(flops / tokens)
    return costs[0] / costs[1]


def summarize_rates(rates: dict[Seeds, SeedRate | None]) -> Exchange:
    """Return the mean rate over seeds; without a value where a seed did not reach the loss."""
    reached = [rate for rate in rates.values() if rate is not None]
    exchange: Exchange = {
        "reached": len(reached),
        "seeds": len(rates),
        "natural": no_estimate("not reached"),
        "with_synthetic": no_estimate("not reached"),
        "net_gain": no_estimate("not reached"),
        "crossover": None,
        "controls": [],
    }
    if len(reached) < len(rates):
        return exchange
    _, shape = complete_grid(rates)
    exchange["natural"] = ratio_estimate([rate.natural for rate in reached], shape)
    exchange["with_synthetic"] = ratio_estimate([rate.with_synthetic for rate in reached], shape)
    gains = [rate.net_gain for rate in reached]
    if all(map(math.isfinite, gains)):
        exchange["net_gain"] = estimate(gains, shape=shape)
    else:
        exchange["net_gain"] = no_estimate("FLOPs are not known")
    return exchange


def no_estimate(note: str) -> Estimate:
    """Return an estimate without a value."""
    return {"value": None, "low": None, "high": None, "note": note}


def ratio_estimate(ratios: list[float], shape: Shape) -> Estimate:
    """Return the geometric mean of ratios over seeds with its interval: Student's t of logs."""
    result = estimate([math.log(ratio) for ratio in ratios], shape=shape)
    mean, low, high = result["value"], result["low"], result["high"]
    result["value"] = None if mean is None else math.exp(mean)
    result["low"] = None if low is None else math.exp(low)
    result["high"] = None if high is None else math.exp(high)
    return result


def is_control(arm: str) -> bool:
    """Say whether an arm is a control."""
    return any(arm == word or arm.startswith((f"{word}-", f"{word}_")) for word in CONTROLS)


def unbeaten_controls(arm: str, of_seeds: dict[str, dict[Seeds, SeedRate | None]]) -> list[str]:
    """Return the controls that an arm does not beat.

    It beats a control that does not reach the loss, and one that needs more tokens by an interval
    over the seeds of both which excludes zero.
    """
    unbeaten = []
    for control, rates in of_seeds.items():
        if is_control(arm) or not is_control(control):
            continue
        if any(rate is None for rate in of_seeds[arm].values()):
            continue
        if any(rate is None for rate in rates.values()):
            continue

        # The ratio of both arms' tokens, seed by seed.
        pairs = pair_seeds(of_seeds[arm], rates)
        grid, shape = complete_grid(pairs)
        logs = []
        for one, other in (pairs[seeds] for seeds in grid):
            rate, control_rate = of_seeds[arm][one], rates[other]
            assert rate is not None
            assert control_rate is not None
            logs.append(math.log(rate.natural / control_rate.natural))

        lead = estimate(logs, shape=shape) if logs else no_estimate("no common seed")
        if lead["high"] is None or lead["high"] >= 0:
            unbeaten.append(control)
    return unbeaten


def crossover(pairs: list[tuple[CellResult, CellResult]]) -> float | None:
    """Return the natural tokens from which random is ahead of an arm that was ahead of it.

    Args:
        pairs: the cells of random and of the arm, for each seed.

    Returns:
        The tokens by the mean curves of both; None where they do not cross so.
    """
    grid = np.unique(np.concatenate([monotone_curve(cell)[0] for pair in pairs for cell in pair]))
    first = max(monotone_curve(cell)[0][0] for pair in pairs for cell in pair)
    last = min(monotone_curve(cell)[0][-1] for pair in pairs for cell in pair)
    grid = grid[(grid >= first) & (grid <= last)]
    leads = np.zeros(len(grid))  # of the arm: random's loss less its own
    for baseline, cell in pairs:
        for sign, one in ((1, baseline), (-1, cell)):
            tokens, losses = monotone_curve(one)
            leads += sign * np.interp(np.log(grid), np.log(tokens), losses)

    ahead = np.flatnonzero(leads > 0)
    if not len(ahead):
        return None
    behind = np.flatnonzero(leads[ahead[-1] :] < 0)
    return float(grid[ahead[-1] + behind[0]]) if len(behind) else None
