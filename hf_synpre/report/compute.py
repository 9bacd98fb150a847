"""Score over total compute: an arm beside a random start that spent as many FLOPs.

Each arm is a point: the FLOPs of its pre-training and its fine-tuning, and its test score at the
end of a whole schedule. Arms with the same start and other budgets of fine-tuning
(`finetuning_budget`, `match_flops_of`) make a line. Between two budgets a line is linear in log
FLOPs; beyond its ends it is not extrapolated, so an arm that spent more than any random start is
compared with none.

An arm is compared with random's line at its own FLOPs, each of its cells with the line of the same
seed. Where two lines cross is read off their mean scores.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from hf_synpre.report.comparisons import stack_examples
from hf_synpre.report.costs import collect_runs, pretraining_flops
from hf_synpre.report.intervals import difference
from hf_synpre.report.schema import (
    RANDOM,
    ByArm,
    CellResult,
    Compute,
    Crossing,
    Estimate,
)
from hf_synpre.report.seeds import seeds_of

# Runs end on whole steps, so equal budgets differ by so much. So far beyond a line its end is read.
TOLERANCE = 1.02
# A difference of mean scores below this is a rounding error.
LEAST_LEAD = 1e-9
# What decides the start of an arm, by its init, and what a cell means that does not say it.
OF_EVERY_START = ("lora", "learning_rates", "initial_scales")
OF_STARTS = {
    "random": OF_EVERY_START,
    "weights": ("checkpoint", "embeddings", *OF_EVERY_START),
    "statistics": (
        *("checkpoint", "scheme", "value", "scheme_options", "resize", "embeddings"),
        *OF_EVERY_START,
    ),
}
DEFAULTS = {"resize": "fan_in"}


class Mixture(NamedTuple):
    """A point of a line between two cells of one seed: their shares add up to 1."""

    before: CellResult
    after: CellResult
    share: float  # of the cell after it

    def of(self, key: str) -> Any:
        """Return the mixed value of a key: a score, or an array of them."""
        before: Any = self.before
        after: Any = self.after
        return (1 - self.share) * before[key] + self.share * after[key]


def summarize_compute(by_arm: ByArm, means: dict[str, Estimate], higher: bool) -> Compute | None:
    """Return the scores of a task over total FLOPs, None where random's FLOPs are not known.

    Args:
        by_arm: the finished cells of the task.
        means: arm -> its mean score on the task.
        higher: whether a higher score is better.
    """
    flops = {arm: mean_flops(cells) for arm, cells in by_arm.items()}
    known = {arm: value for arm, value in flops.items() if math.isfinite(value) and value > 0}
    if RANDOM not in known:
        return None
    lines = lines_of(by_arm, known)

    # Each arm that is no random start beside random's line.
    baseline = lines[RANDOM]
    differences: dict[str, Estimate] = {}
    for arm in known:
        if arm not in baseline:
            lead = lead_over(by_arm, arm, baseline, means, flops)
            if lead is not None:
                differences[arm] = lead
    return {
        "flops": known,
        "pretraining": {
            arm: float(np.mean([pretraining_flops(cell) for cell in by_arm[arm]])) for arm in known
        },
        "lines": lines,
        "differences": differences,
        "crossings": {
            name: crossing(lines[name], baseline, known, means, higher)
            for name, arms in lines.items()
            if name != RANDOM and len(arms) > 1 and len(baseline) > 1
        },
    }


def total_flops(cell: CellResult) -> float:
    """Return the FLOPs of a cell's pre-training and fine-tuning, NaN where they are not known."""
    runs = collect_runs([cell], "finetuning")
    finetuning = runs[0].get("flops") if runs else None
    return pretraining_flops(cell) + (math.nan if finetuning is None else finetuning)


def mean_flops(cells: list[CellResult]) -> float:
    """Return the mean over an arm's cells of their total FLOPs."""
    return float(np.mean([total_flops(cell) for cell in cells]))


def start_of(cell: CellResult) -> str:
    """Return what two cells share that have one start, whatever their budgets of fine-tuning."""
    options = (cell.get("config") or {}).get("arm") or {}
    names = OF_STARTS.get(str(options.get("init")))
    if names is None:
        return cell["arm"]
    values = {name: options.get(name, DEFAULTS.get(name)) for name in ("init", *names)}
    return repr(values)


def lines_of(by_arm: ByArm, flops: dict[str, float]) -> dict[str, list[str]]:
    """Return the lines: the name of its first arm in the report -> its arms, by rising FLOPs."""
    arms_by_start: dict[str, list[str]] = {}
    for arm in flops:
        arms_by_start.setdefault(start_of(by_arm[arm][0]), []).append(arm)
    return {arms[0]: sorted(arms, key=lambda arm: flops[arm]) for arms in arms_by_start.values()}


def lead_over(
    by_arm: ByArm,
    arm: str,
    baseline: list[str],
    means: dict[str, Estimate],
    flops: dict[str, float],
) -> Estimate | None:
    """Return the score of an arm less that of random's line at the same FLOPs.

    Args:
        by_arm: the finished cells of the task.
        arm: the arm.
        baseline: the arms of random's line.
        means: arm -> its mean score.
        flops: arm -> its mean FLOPs.

    Returns:
        The difference, over the seeds that random has too. None where there is none, or where a
        cell of the arm spent less or more than the line of its seed.
    """
    lines: dict[int, list[CellResult]] = {}
    for name in baseline:
        for cell in by_arm[name]:
            lines.setdefault(cell["seed"], []).append(cell)

    # Examples count where they are known of every cell.
    cells = [cell for name in (arm, *baseline) for cell in by_arm[name]]
    has_examples = stack_examples(cells) is not None

    # Each cell of the arm, and the point of random's line at its FLOPs.
    scores, references, examples, reference_examples = {}, {}, {}, {}
    for cell in by_arm[arm]:
        if cell["seed"] not in lines:
            continue
        point = point_at(lines[cell["seed"]], total_flops(cell))
        if point is None:
            return None
        seeds = seeds_of(cell)
        scores[seeds], references[seeds] = cell["score"], point.of("score")
        if has_examples:
            examples[seeds] = cell["example_scores"]
            reference_examples[seeds] = point.of("example_scores")

    if not scores:
        return None
    nearest = min(baseline, key=lambda name: abs(math.log(flops[name] / flops[arm])))
    return difference(
        scores, references, examples, reference_examples, (means[arm], means[nearest])
    )


def point_at(cells: list[CellResult], flops: float) -> Mixture | None:
    """Return the point of a line at some FLOPs, None where it does not reach so far.

    Args:
        cells: the cells of the line, of one seed.
        flops: the FLOPs.
    """
    line = sorted((cell for cell in cells if total_flops(cell) > 0), key=total_flops)
    ends = [total_flops(cell) for cell in line]
    if not ends or not ends[0] / TOLERANCE <= flops <= ends[-1] * TOLERANCE:
        return None
    for before, after in itertools.pairwise(line):
        low, high = total_flops(before), total_flops(after)
        if low <= flops <= high:
            share = math.log(flops / low) / math.log(high / low) if high > low else 0.0
            return Mixture(before, after, share)
    end = line[0] if flops < ends[0] else line[-1]
    return Mixture(end, end, 0.0)


def crossing(
    line: list[str],
    baseline: list[str],
    flops: dict[str, float],
    means: dict[str, Estimate],
    higher: bool,
) -> Crossing | None:
    """Return where a line and random's cross by their mean scores, None without common FLOPs.

    Args:
        line: the arms of the line, by rising FLOPs.
        baseline: those of random's line.
        flops: arm -> its mean FLOPs.
        means: arm -> its mean score.
        higher: whether a higher score is better.
    """
    first = max(flops[line[0]], flops[baseline[0]])
    last = min(flops[line[-1]], flops[baseline[-1]])
    if first >= last:
        return None

    # The leads of the line at both ends and at every budget between.
    knots = {flops[arm] for arm in (*line, *baseline) if first < flops[arm] < last}
    grid = np.log(sorted({first, last, *knots}))
    scores = []
    for arms in (line, baseline):
        values = [means[arm]["value"] or 0.0 for arm in arms]
        scores.append(np.interp(grid, np.log([flops[arm] for arm in arms]), values))
    leads = (scores[0] - scores[1]) * (1 if higher else -1)

    # Where the lead changes its sign. Points at which both are equal stand for neither of them.
    apart = np.flatnonzero(np.abs(leads) > LEAST_LEAD)
    at = []
    for one, other in itertools.pairwise(apart):
        low, high = leads[one], leads[other]
        if low * high < 0:
            at.append(math.exp(grid[one] + low / (low - high) * (grid[other] - grid[one])))
    ahead = bool(leads[apart[0]] > 0) if len(apart) else None
    return {"first": first, "last": last, "at": at, "ahead_at_first": ahead}


# --- In words -------------------------------------------------------------------------------------


def crossing_sentence(task: str, name: str, found: Crossing | None) -> str:
    """Return a sentence on where the line of an arm and random's cross on a task."""
    if found is None:
        return f"On {task} the lines of {name} and {RANDOM} have no common FLOPs."
    span = f"between {found['first']:.2g} and {found['last']:.2g} FLOPs"
    if found["ahead_at_first"] is None:
        return f"On {task} {name} and {RANDOM} have the same mean scores {span}."
    order = (name, RANDOM) if found["ahead_at_first"] else (RANDOM, name)
    if not found["at"]:
        return f"On {task} {order[0]} is ahead of {order[1]} {span}; the lines do not cross."
    places = " and ".join(f"{flops:.2g}" for flops in found["at"])
    return (
        f"On {task} the lines of {name} and {RANDOM} cross at {places} FLOPs ({span}): at first "
        f"{order[0]} is ahead."
    )
