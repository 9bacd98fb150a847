"""Cells -> every number of a report, as one dict. It reads no files and never trains."""

from typing import Any

import numpy as np

from hf_synpre.report.cells import ABSENT, FORMAT, is_finite
from hf_synpre.report.comparisons import (
    comparison,
    examples_are_known,
    stack_examples,
)
from hf_synpre.report.compute import summarize_compute
from hf_synpre.report.costs import distinct, mean_curve, mean_run
from hf_synpre.report.exchange import exchange_rates
from hf_synpre.report.fairness import constant_cells, fairness, recipe_of, unlearnt_runs
from hf_synpre.report.findings import find
from hf_synpre.report.intervals import (
    draw_gains,
    estimate,
    fraction_estimate,
    keep_within,
    pool_gains,
    ratio,
    refuse,
    summarize_draws,
)
from hf_synpre.report.schema import (
    NATURAL,
    RANDOM,
    TEACHER_FORCED,
    Benefit,
    ByArm,
    CellResult,
    Estimate,
    Origin,
    Report,
    TaskSummary,
)
from hf_synpre.report.seeds import arranged

# Words in the names of metrics that are no fractions, even where their values are in 0..1.
CORRELATION = "corr"
NO_FRACTIONS = ("loss", "perplexity", "nll", "bits", "rmse", "mae", CORRELATION)
PHASES = ("pretraining", "finetuning")
# The metrics of language modelling: of decoders, and of masked models.
LANGUAGE_METRICS = ("bits_per_byte", "masked_loss")
FAILED_KEYS = ("file", "task", "arm", "seed", "error")
CELL_KEYS = ("file", "sha256", "status", "score", "validation_score")


def summarize(cells: list[CellResult], reference: str = NATURAL) -> Report:
    """Return every number of a report but those of `transfer`.

    Args:
        cells: the cells of one experiment, from `read_cells`.
        reference: the arm whose gain over random is 100 % of a benefit.

    Returns:
        The report. Fractions stay fractions; an estimate that is absent or refused has the value
        None.
    """
    finished = [cell for cell in cells if cell["status"] == "done"]
    failed = [cell for cell in cells if cell["status"] != "done"]
    arms = sort_arms(cells, reference)
    report: Report = {
        "format": FORMAT,
        "experiment": cells[0]["experiment"],
        "arms": arms,
        "reference": reference,
        "tasks": {},
        "scores": {},
        "beside": {},
        "differences": {},
        "benefits": {},
        "curves": {},
        "phases": {},
        "embeddings": {},
        "versions": collect_versions(finished),
        "compute": {},
        "origins": collect_origins(finished),
        "recipes": {},
        "fairness": {},
        "findings": {},
        "failed": [{key: cell.get(key) for key in FAILED_KEYS} for cell in failed],
        "left_out": [],
        "cells": [{key: cell.get(key) for key in CELL_KEYS} for cell in cells],
    }

    # Each task separately.
    by_task: dict[str, list[CellResult]] = {cell["task"]: [] for cell in cells}
    for cell in finished:
        by_task[cell["task"]].append(cell)
    example_means = {}
    leads = {}
    for task, cells_of_task in by_task.items():
        by_arm = group_by_arm(cells_of_task, arms)
        report["tasks"][task] = summarize_task(cells_of_task)
        unit = report["tasks"][task]["unit"]
        report["scores"][task] = {arm: mean_score(group, unit) for arm, group in by_arm.items()}
        report["beside"][task] = other_metrics(by_arm)
        report["differences"][task] = differences_to_random(by_arm, report["scores"][task])
        leads[task] = find(by_arm, report["scores"][task], report["tasks"][task])
        report["curves"][task] = {arm: mean_curve(group) for arm, group in by_arm.items()}
        example_means[task] = mean_examples(by_arm)
        higher = report["tasks"][task]["higher_is_better"] is not False
        compute = summarize_compute(by_arm, report["scores"][task], higher)
        if compute is not None:
            report["compute"][task] = compute
        recipes = {arm: recipe_of(group) for arm, group in by_arm.items()}
        report["recipes"][task] = recipes
        doubts = fairness(by_arm, recipes)
        if doubts:
            report["fairness"][task] = doubts
        if constant := constant_cells(by_arm):
            report.setdefault("constant", {})[task] = constant
        if unlearnt := unlearnt_runs(by_arm):
            report.setdefault("unlearnt", {})[task] = unlearnt
        if report["tasks"][task]["metric"] in LANGUAGE_METRICS:
            report.setdefault("exchange", {})[task] = exchange_rates(by_arm)

    report["findings"] = {task: lead for task, lead in leads.items() if lead is not None}

    # Each arm over all tasks.
    for arm, group in group_by_arm(finished, arms, keep_empty=True).items():
        if arm not in (RANDOM, reference):
            report["benefits"][arm] = benefit(
                arm, report["scores"], report["tasks"], example_means, reference
            )
        report["phases"][arm] = {phase: mean_run(group, phase) for phase in PHASES}
        report["embeddings"][arm] = distinct(cell.get("embeddings") for cell in group)
    return report


def sort_arms(cells: list[CellResult], reference: str) -> list[str]:
    """Return the arms of cells in their order, but random first and the reference last."""
    arms = dict.fromkeys(cell["arm"] for cell in cells)
    others = [arm for arm in arms if arm not in (RANDOM, reference)]
    return [
        *(arm for arm in arms if arm == RANDOM),
        *others,
        *(arm for arm in arms if arm == reference != RANDOM),
    ]


def group_by_arm(cells: list[CellResult], arms: list[str], keep_empty: bool = False) -> ByArm:
    """Return the cells of each arm, in the order of `arms`; arms without any only on demand."""
    groups: ByArm = {arm: [] for arm in arms}
    for cell in cells:
        groups[cell["arm"]].append(cell)
    if keep_empty:
        return groups
    return {arm: group for arm, group in groups.items() if group}


# --- A task ---------------------------------------------------------------------------------------


def summarize_task(cells: list[CellResult]) -> TaskSummary:
    """Return what the finished cells of a task have in common."""
    metric, higher_is_better = None, None
    if cells:
        metric, higher_is_better = cells[0]["metric"], cells[0]["higher_is_better"]

    # Fractions are shown in %.
    fractions = are_fractions(metric, [cell["score"] for cell in cells])
    return {
        "metric": metric,
        "higher_is_better": higher_is_better,
        "unit": "%" if fractions else metric,
        "test_examples": example_counts(cells),
        "curve_score": curve_score(cells),
        "covers_examples": stack_examples(cells) is not None,
        "hub_id": distinct((cell.get("data") or {}).get("hub_id") for cell in cells),
    }


def curve_score(cells: list[CellResult]) -> str | None:
    """Return what the validation curves of a task show, None where no cell is finished.

    Labelled tasks and language modelling are validated by their metric. For text-to-text tasks it
    is the share of rows whose every token is right, each predicted after the right ones before it.
    """
    if not cells:
        return None
    metric = cells[0]["metric"]
    labelled = any("labels" in (cell.get("data") or {}) for cell in cells)
    return metric if labelled or metric in LANGUAGE_METRICS else TEACHER_FORCED


def are_fractions(metric: str | None, values: list[float]) -> bool:
    """Say whether scores are fractions: by the name of their metric, and all within 0..1."""
    if metric is None or any(word in metric.lower() for word in NO_FRACTIONS):
        return False
    return all(0 <= value <= 1 for value in values)


def mean_examples(by_arm: ByArm) -> dict[str, np.ndarray]:
    """Return arm -> mean score over seeds of each example, [examples]; {} unless all are known."""
    if not examples_are_known(by_arm):
        return {}
    return {
        arm: np.array([cell["example_scores"] for cell in arranged(group)[0]]).mean(0)
        for arm, group in by_arm.items()
    }


def mean_score(cells: list[CellResult], unit: str | None) -> Estimate:
    """Return the mean test score of an arm's cells on a task, with their seeds.

    Of several pre-training seeds the cells of a complete grid count; "waiting" are the others.
    """
    used, shape = arranged(cells)
    scores = [cell["score"] for cell in used]
    if unit == "%":
        result = fraction_estimate(scores, stack_examples(used), example_counts(used), shape)
    else:
        result = estimate(scores, stack_examples(used), shape)
    if unit is not None and CORRELATION in unit:
        keep_within(result, -1.0, 1.0)
    if len(used) < len(cells):
        result["waiting"] = len(cells) - len(used)
    result["seeds"] = [cell["seed"] for cell in used]
    return result


def example_counts(cells: list[CellResult]) -> list[int]:
    """Return the distinct numbers of test examples of cells, of those that say it."""
    return distinct(cell.get("test_examples") for cell in cells)


def other_metrics(by_arm: ByArm) -> dict[str, dict[str, Estimate]]:
    """Return metric -> arm -> mean of the scores in every metric but the task's own."""
    scored: dict[str, dict[str, list[CellResult]]] = {}
    for arm, group in by_arm.items():
        for cell in group:
            for metric, score in (cell.get("scores") or {}).items():
                if metric != cell["metric"] and is_finite(score):
                    scored.setdefault(metric, {}).setdefault(arm, []).append(cell)

    means: dict[str, dict[str, Estimate]] = {}
    for metric, arms in scored.items():
        means[metric] = {}
        for arm, cells in arms.items():
            used, shape = arranged(cells)
            scores = [(cell["scores"] or {})[metric] for cell in used]
            if are_fractions(metric, scores):
                counts = example_counts(by_arm[arm])
                means[metric][arm] = fraction_estimate(scores, None, counts, shape)
            else:
                means[metric][arm] = estimate(scores, shape=shape)
            if CORRELATION in metric:
                keep_within(means[metric][arm], -1.0, 1.0)
    return means


def differences_to_random(by_arm: ByArm, means: dict[str, Estimate]) -> dict[str, Estimate]:
    """Return arm -> its mean score minus that of the arm random; {} without that arm.

    Args:
        by_arm: the cells of a task.
        means: arm -> its mean score on the task.
    """
    if RANDOM not in by_arm:
        return {}
    compare = comparison(by_arm, means)
    return {arm: compare(arm, RANDOM) for arm in by_arm if arm != RANDOM}


# --- Benefits -------------------------------------------------------------------------------------


def benefit(
    arm: str,
    scores: dict[str, dict[str, Estimate]],
    tasks: dict[str, TaskSummary],
    examples: dict[str, dict[str, np.ndarray]] | None = None,
    reference: str = NATURAL,
) -> Benefit:
    """Return the share of natural's gain over random that an arm has, by task and over all tasks.

    Args:
        arm: name of the arm.
        scores: task -> arm -> mean score over seeds.
        tasks: task -> its metric, unit and direction.
        examples: task -> arm -> mean score over seeds of each test example, [examples]; {} for a
            task where they are not known.
        reference: the arm that stands for natural pre-training.
    """
    shares: dict[str, Estimate] = {}
    task_gains, share_draws = [], []
    compared = (arm, RANDOM, reference)
    for task, summary in tasks.items():
        absent = [name for name in (RANDOM, reference, arm) if name not in scores[task]]
        if absent:
            shares[task] = refuse(f"{ABSENT} of the arm '{absent[0]}'")
            continue

        # Gains over random, positive where the score is better than that of random.
        known_examples = None
        if examples and examples.get(task):
            known_examples = [examples[task][name] for name in compared]
        gains = draw_gains(
            [scores[task][name] for name in compared],
            [f"{task}--{name}" for name in compared],
            known_examples,
        )
        if not summary["higher_is_better"]:
            gains.gain = -gains.gain
            gains.natural_gain = -gains.natural_gain

        shares[task], draws = ratio(gains, reference)
        task_gains.append(gains)
        if draws is not None:
            share_draws.append(draws)

    # Both aggregates over tasks. If every task is refused they are refused, for the same reasons.
    reasons = {share["note"] for share in shares.values() if share["value"] is None}
    reason = "; ".join(sorted(note for note in reasons if note))
    mean_of_ratios = ratio_of_means = refuse(reason)
    if share_draws:
        mean_of_ratios = summarize_draws(np.mean(share_draws, axis=0), reference=reference)
    if task_gains:
        ratio_of_means, _ = ratio(pool_gains(task_gains), reference)
    units = {summary["unit"] for summary in tasks.values() if summary["metric"]}
    if len(units) > 1:
        ratio_of_means = refuse("the metrics of the tasks have different units")

    _note_missing_tasks(mean_of_ratios, len(share_draws), len(tasks))
    _note_missing_tasks(ratio_of_means, len(task_gains), len(tasks))
    return {"tasks": shares, "mean_of_ratios": mean_of_ratios, "ratio_of_means": ratio_of_means}


def _note_missing_tasks(aggregate: Estimate, used: int, tasks: int) -> None:
    """Add to the note of an aggregate how many of the tasks it covers, unless it covers all."""
    if aggregate["value"] is None or used == tasks:
        return
    missing = f"over {used} of {tasks} tasks"
    aggregate["note"] = f"{aggregate['note']}; {missing}" if aggregate["note"] else missing


# --- Versions -------------------------------------------------------------------------------------


def collect_versions(cells: list[CellResult]) -> dict[str, list[str]]:
    """Return library -> its versions in the cells, "unknown" where a cell does not say."""
    versions = [cell.get("versions") or {} for cell in cells]
    names = sorted({name for of_cell in versions for name in of_cell})
    return {
        name: distinct(str(of_cell.get(name, "unknown")) for of_cell in versions) for name in names
    }


def collect_origins(cells: list[CellResult]) -> dict[str, dict[str, Origin]]:
    """Return each library, the device and the threads that differ between cells, by their values.

    A value is "unknown" where a cell does not say it.
    """
    properties: list[dict[str, Any]] = []
    for cell in cells:
        machine = {name: cell[name] for name in ("device", "threads") if cell.get(name)}
        properties.append(machine | (cell.get("versions") or {}))

    origins: dict[str, dict[str, Origin]] = {}
    for name in sorted({name for of_cell in properties for name in of_cell}):
        of_values: dict[str, Origin] = {}
        for cell, of_cell in zip(cells, properties, strict=True):
            origin = of_values.setdefault(
                str(of_cell.get(name, "unknown")), {"cells": 0, "arms": []}
            )
            origin["cells"] += 1
            if cell["arm"] not in origin["arms"]:
                origin["arms"].append(cell["arm"])
        if len(of_values) > 1:
            origins[name] = dict(sorted(of_values.items()))
    return origins
