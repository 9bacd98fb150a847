"""Layer 5: the cells of an experiment -> every number of its report, as one dict. Reads JSON; never trains."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.files import unpack_fractions
from hf_synpre.report.intervals import difference, estimate, from_draws, gains, ratio, refusal
from hf_synpre.report.plots import NATURAL, RANDOM

FORMAT = 1
ABSENT = "no finished cell"
NO_PERCENT = (
    "loss",
    "perplexity",
    "nll",
    "bits",
    "corr",
)  # metrics that lie in 0..1 only by chance


def read_cells(directory: str | Path) -> list[dict]:
    """Return the cells of `directory` by file name, with "file" and "sha256". UsageError: none, or one unreadable."""
    directory = Path(directory)
    paths = sorted(path for path in directory.glob("*--*--*.json") if not path.name.startswith("."))
    if not paths:
        what = (
            "holds no cells <task>--<arm>--<seed>.json"
            if directory.is_dir()
            else "is not a directory"
        )
        raise UsageError(
            f"'{directory}' {what}. Give a directory results/<experiment> that `synpre run CONFIG.yaml` filled."
        )
    cells = [_read_cell(path) for path in paths]
    _check_together(cells)
    return cells


def _read_cell(path: Path) -> dict:
    try:
        content = path.read_bytes()
        cell = json.loads(content)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"'{path}' is not readable JSON ({error}). Delete it and run again: only missing cells run."
        ) from None
    if not isinstance(cell, dict) or cell.get("format") != FORMAT:
        raise UsageError(
            f"'{path}' is not a cell of format {FORMAT}. Use the hf_synpre that wrote it, or move it elsewhere."
        )
    needed = ["experiment", "task", "arm", "seed", "status"]
    needed += ["score", "metric", "higher_is_better"] if cell.get("status") == "done" else []
    if missing := [key for key in needed if key not in cell]:
        raise UsageError(
            f"'{path}' lacks {', '.join(missing)}. Delete it and run again: only missing cells run."
        )
    if cell["status"] == "done" and not _finite(cell["score"]):
        cell |= {"status": "failed", "error": f"the score is {cell['score']}", "score": None}
    for name in {"example_scores", "probabilities"} & cell.keys():
        try:
            cell[name] = unpack_fractions(cell[name])
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"'{path}' has {name} that cannot be read ({error}). Delete it and run again."
            ) from None
    cell["validation_score"] = (
        cell.get("validation_score") if _finite(cell.get("validation_score")) else None
    )
    return cell | {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def _finite(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _check_together(cells: list[dict]) -> None:
    """Refuse two cells of one place, two experiments, or two metrics of one task: their mean would mean nothing."""
    seen = {}
    for cell in cells:
        facts = {
            "experiment": cell["experiment"],
            f"cell {cell['task']}, {cell['arm']}, seed {cell['seed']}": cell["file"],
        }
        if cell["status"] == "done":
            facts[f"metric of {cell['task']}"] = (cell["metric"], cell["higher_is_better"])
            facts[f"data of {cell['task']}"] = (cell.get("data") or {}).get("splits")
        for what, fact in facts.items():
            first, file = seen.setdefault(what, (fact, cell["file"]))
            if first != fact:
                raise UsageError(
                    f"'{file}' and '{cell['file']}' clash in their {what}. Move one of them elsewhere."
                )


def summarize(cells: list[dict]) -> dict:
    """Return every number of the report, a pure function of `cells`. Fractions stay fractions; absent or refused is None."""
    done = [cell for cell in cells if cell["status"] == "done"]
    arms = sorted(
        dict.fromkeys(c["arm"] for c in cells), key=lambda arm: (arm != RANDOM) + (arm == NATURAL)
    )
    tasks = {
        task: _task([c for c in done if c["task"] == task])
        for task in dict.fromkeys(c["task"] for c in cells)
    }
    runs = {
        t: {a: [c for c in done if (c["task"], c["arm"]) == (t, a)] for a in arms} for t in tasks
    }
    runs = {t: {a: group for a, group in row.items() if group} for t, row in runs.items()}
    scores = {t: {a: _score(group) for a, group in row.items()} for t, row in runs.items()}
    examples = {t: _mean_examples(row) for t, row in runs.items()}
    by_arm = {arm: [cell for cell in done if cell["arm"] == arm] for arm in arms}
    return {
        "format": FORMAT,
        "experiment": cells[0]["experiment"],
        "arms": arms,
        "tasks": tasks,
        "scores": scores,
        "beside": {t: _beside(row) for t, row in runs.items()},
        "differences": {t: _differences(row) for t, row in runs.items()},
        "benefits": {
            arm: benefit(arm, scores, tasks, examples)
            for arm in arms
            if arm not in (RANDOM, NATURAL)
        },
        "curves": {t: {a: _curve(group) for a, group in row.items()} for t, row in runs.items()},
        "phases": {
            arm: {phase: _mean_run(group, phase) for phase in ("pretraining", "finetuning")}
            for arm, group in by_arm.items()
        },
        "embeddings": {
            arm: _distinct(c.get("embeddings") for c in group) for arm, group in by_arm.items()
        },
        "versions": _versions(done),
        "failed": [
            {k: c.get(k) for k in ("file", "task", "arm", "seed", "error")}
            for c in cells
            if c["status"] != "done"
        ],
        "cells": [
            {k: c.get(k) for k in ("file", "sha256", "status", "score", "validation_score")}
            for c in cells
        ],
    }


def _task(cells: list[dict]) -> dict:
    metric, higher = (cells[0]["metric"], cells[0]["higher_is_better"]) if cells else (None, None)
    percent = all(0 <= c["score"] <= 1 for c in cells) and not any(
        word in str(metric).lower() for word in NO_PERCENT
    )
    sizes = _distinct(c.get("test_examples") for c in cells)
    return {
        "metric": metric,
        "higher_is_better": higher,
        "unit": "%" if metric and percent else metric,
        "test_examples": sizes,
        "covers_examples": _examples(cells) is not None,
        "hub_id": _distinct((c.get("data") or {}).get("hub_id") for c in cells),
    }


def _examples(cells: list[dict]) -> np.ndarray | None:
    """Return the scores of single examples (cells x examples), None where a cell lacks them or has other examples."""
    found = [cell.get("example_scores") for cell in cells]
    known = found and all(f is not None for f in found) and len({len(f) for f in found}) == 1
    return np.array(found) if known else None


def _mean_examples(row: dict) -> dict:
    """Return arm -> the mean score over seeds of each example; {} unless all arms know the same examples."""
    if _examples([cell for cells in row.values() for cell in cells]) is None:
        return {}
    return {arm: _examples(cells).mean(0) for arm, cells in row.items()}


def _score(cells: list[dict]) -> dict:
    result = estimate([cell["score"] for cell in cells], _examples(cells))
    return result | {"seeds": [cell["seed"] for cell in cells]}


def _beside(row: dict) -> dict:
    """Return metric -> arm -> estimate of the scores that are not the reported one."""
    names = dict.fromkeys(
        name
        for cells in row.values()
        for c in cells
        for name in c.get("scores") or {}
        if name != c["metric"]
    )
    found = {
        n: {
            a: [c["scores"][n] for c in cells if n in (c.get("scores") or {})]
            for a, cells in row.items()
        }
        for n in names
    }
    return {
        name: {arm: estimate(values) for arm, values in arms.items() if values}
        for name, arms in found.items()
    }


def _differences(row: dict) -> dict:
    by_seed = {arm: {cell["seed"]: cell["score"] for cell in cells} for arm, cells in row.items()}
    known = _examples([cell for cells in row.values() for cell in cells]) is not None
    single = {
        arm: {c["seed"]: c["example_scores"] for c in cells} if known else None
        for arm, cells in row.items()
    }
    return {
        arm: difference(scores, by_seed[RANDOM], single[arm], single[RANDOM])
        for arm, scores in by_seed.items()
        if arm != RANDOM and RANDOM in by_seed
    }


def benefit(arm: str, scores: dict, tasks: dict, examples: dict | None = None) -> dict:
    """Return the share of natural's gain over random that `arm` has: estimates by task, and two aggregates of them.

    `examples` holds task -> arm -> mean score of each example, {} for a task where they are not known.
    """
    each, rows, draws = {}, [], []
    for task, facts in tasks.items():
        if absent := [name for name in (RANDOM, NATURAL, arm) if name not in scores[task]]:
            each[task] = refusal(f"{ABSENT} of the arm '{absent[0]}'")
            continue
        sign = 1 if facts["higher_is_better"] else -1
        ends = (arm, RANDOM, NATURAL)
        single = [examples[task][name] for name in ends] if (examples or {}).get(task) else None
        gain, room, error = gains(
            [scores[task][name] for name in ends], [f"{task}--{name}" for name in ends], single
        )
        rows.append((sign * gain, sign * room, error))
        each[task], ratios = ratio(rows[-1:])
        draws += [] if ratios is None else [ratios]
    reason = "; ".join(sorted({e["note"] for e in each.values() if e["value"] is None}))
    mean = from_draws(np.mean(draws, axis=0)) if draws else refusal(reason)
    pooled = ratio(rows)[0] if rows else refusal(reason)
    if len({tasks[task]["unit"] for task in tasks if tasks[task]["metric"]}) > 1:
        pooled = refusal("the metrics of the tasks have different units")
    for result, used in ((mean, len(draws)), (pooled, len(rows))):
        if result["value"] is not None and used < len(tasks):
            result["note"] = "; ".join(
                filter(None, [result["note"], f"over {used} of {len(tasks)} tasks"])
            )
    return {"tasks": each, "mean_of_ratios": mean, "ratio_of_means": pooled}


def _distinct(values: Iterable) -> list:
    return sorted({value for value in values if value is not None})


def _versions(cells: list[dict]) -> dict:
    versions = [cell.get("versions") or {} for cell in cells]
    return {
        name: _distinct(str(v.get(name, "unknown")) for v in versions)
        for name in sorted(set().union(*versions))
    }


def _curve(cells: list[dict]) -> dict:
    """Return the mean over seeds at each step that all of them evaluated, in a t-interval, or min-max below 3 seeds.

    "flops" is the mean of what was spent up to there, pre-training included; absent where a cell does not say.
    """
    points = [{p["step"]: p for p in c.get("curve") or [] if _finite(p["score"])} for c in cells]
    steps = sorted(set.intersection(*map(set, points)))
    columns = [[curve[step]["score"] for curve in points] for step in steps]
    bands = [
        estimate(column) if len(column) > 2 else {"low": min(column), "high": max(column)}
        for column in columns
    ]
    ends = {end: [band[end] for band in bands] for end in ("low", "high")}
    before = [[_before(cell)] for cell in cells]
    spent = before + np.array(
        [[curve[step].get("flops", math.nan) for step in steps] for curve in points]
    )
    flops = np.mean(spent, axis=0).tolist()
    known = {"flops": flops} if steps and all(map(math.isfinite, flops)) else {}
    return {"step": steps, "mean": [float(np.mean(column)) for column in columns]} | ends | known


def _before(cell: dict) -> float:
    """Return the FLOPs of a cell's pre-training: 0 without one, NaN where a released checkpoint does not tell."""
    run = _runs([cell], "pretraining")
    return run[0].get("flops", math.nan) if run else 0.0


def _runs(cells: list[dict], phase: str) -> list[dict]:
    """Return the facts of the runs of a phase; tokens and FLOPs with those of the runs that a run went on from."""
    found = [run for cell in cells if (run := (cell.get("phases") or {}).get(phase))]
    return [
        run
        | {
            name: run[name] + more
            for name, more in (run.get("before") or {}).items()
            if name in run
        }
        for run in found
    ]


def _mean_run(cells: list[dict], phase: str) -> dict | None:
    """Return the mean of each number that the runs of `phase` report, their names, and how often each stop reason came."""
    runs = _runs(cells, phase)
    if not runs:
        return None
    numbers = {
        key: [run[key] for run in runs if _finite(run.get(key))]
        for key in sorted(set().union(*runs))
    }
    stopped = Counter(str(run["stopped"]) for run in runs if run.get("stopped"))
    texts = {
        "runs": len(runs),
        "names": _distinct(run.get("name") for run in runs),
        "stopped": dict(sorted(stopped.items())),
    }
    return {
        key: math.fsum(values) / len(values) for key, values in numbers.items() if values
    } | texts
