"""Layer 5: the cells of an experiment -> report.json, report.md, two plots and a table. Reads JSON; never trains."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hf_synpre.errors import UsageError
from hf_synpre.files import write_bytes
from hf_synpre.intervals import difference, estimate, from_draws, gains, ratio, refusal
from hf_synpre.plots import NATURAL, RANDOM, plots

FORMAT = 1
AGGREGATES = {"mean_of_ratios": "mean of the ratios", "ratio_of_means": "ratio of the means"}
NO_PERCENT = ("loss", "perplexity", "nll", "bits", "corr")  # metrics that lie in 0..1 only by chance


def write_report(directory: str | Path, output_dir: str | Path | None = None) -> dict:
    """Write report.json, report.md and the plots of the cells in `directory` (to it by default); return the report."""
    cells = read_cells(directory)
    try:
        report = summarize(cells)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"The cells of '{directory}' do not fit together ({error!r}); delete what was edited, run again."
        ) from None
    files = {"report.json": (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()}
    files |= plots(report) | {"report.md": render(report, str(directory)).encode()}
    for name, content in files.items():
        write_bytes(Path(output_dir or directory) / name, content)
    return report


# --- cells -> dict -------------------------------------------------------------------------------------------------------


def read_cells(directory: str | Path) -> list[dict]:
    """Return the cells of `directory` by file name, with "file" and "sha256". UsageError: none, or one unreadable."""
    directory = Path(directory)
    paths = sorted(path for path in directory.glob("*--*--*.json") if not path.name.startswith("."))
    if not paths:
        what = "holds no cells <task>--<arm>--<seed>.json" if directory.is_dir() else "is not a directory"
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
        raise UsageError(f"'{path}' lacks {', '.join(missing)}. Delete it and run again: only missing cells run.")
    if cell["status"] == "done" and not _finite(cell["score"]):
        cell |= {"status": "failed", "error": f"the score is {cell['score']}", "score": None}
    cell["validation_score"] = cell.get("validation_score") if _finite(cell.get("validation_score")) else None
    return cell | {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def _finite(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _check_together(cells: list[dict]) -> None:
    """Refuse two cells of one place, two experiments, or two metrics of one task: their mean would mean nothing."""
    seen = {}
    for cell in cells:
        facts = {"experiment": cell["experiment"], f"cell {cell['task']}, {cell['arm']}, seed {cell['seed']}": cell["file"]}
        if cell["status"] == "done":
            facts[f"metric of {cell['task']}"] = (cell["metric"], cell["higher_is_better"])
            facts[f"data of {cell['task']}"] = (cell.get("data") or {}).get("splits")
        for what, fact in facts.items():
            first, file = seen.setdefault(what, (fact, cell["file"]))
            if first != fact:
                raise UsageError(f"'{file}' and '{cell['file']}' clash in their {what}. Move one of them elsewhere.")


def summarize(cells: list[dict]) -> dict:
    """Return every number of the report, a pure function of `cells`. Fractions stay fractions; absent or refused is None."""
    done = [cell for cell in cells if cell["status"] == "done"]
    arms = sorted(dict.fromkeys(c["arm"] for c in cells), key=lambda arm: (arm != RANDOM) + (arm == NATURAL))
    tasks = {task: _task([c for c in done if c["task"] == task]) for task in dict.fromkeys(c["task"] for c in cells)}
    runs = {t: {a: [c for c in done if (c["task"], c["arm"]) == (t, a)] for a in arms} for t in tasks}
    runs = {t: {a: group for a, group in row.items() if group} for t, row in runs.items()}
    scores = {t: {a: _score(group) for a, group in row.items()} for t, row in runs.items()}
    by_arm = {arm: [cell for cell in done if cell["arm"] == arm] for arm in arms}
    return {
        "format": FORMAT,
        "experiment": cells[0]["experiment"],
        "arms": arms,
        "tasks": tasks,
        "scores": scores,
        "differences": {t: _differences(row) for t, row in runs.items()},
        "benefits": {arm: benefit(arm, scores, tasks) for arm in arms if arm not in (RANDOM, NATURAL)},
        "curves": {t: {a: _curve(group) for a, group in row.items()} for t, row in runs.items()},
        "phases": {
            arm: {phase: _mean_run(group, phase) for phase in ("pretraining", "finetuning")} for arm, group in by_arm.items()
        },
        "embeddings": {arm: _distinct(c.get("embeddings") for c in group) for arm, group in by_arm.items()},
        "versions": _versions(done),
        "failed": [{k: c.get(k) for k in ("file", "task", "arm", "seed", "error")} for c in cells if c["status"] != "done"],
        "cells": [{k: c.get(k) for k in ("file", "sha256", "status", "score", "validation_score")} for c in cells],
    }


def _task(cells: list[dict]) -> dict:
    metric, higher = (cells[0]["metric"], cells[0]["higher_is_better"]) if cells else (None, None)
    percent = all(0 <= c["score"] <= 1 for c in cells) and not any(word in str(metric).lower() for word in NO_PERCENT)
    sizes = _distinct(c.get("test_examples") for c in cells)
    return {
        "metric": metric,
        "higher_is_better": higher,
        "unit": "%" if metric and percent else metric,
        "test_examples": sizes,
    }


def _score(cells: list[dict]) -> dict:
    return estimate([cell["score"] for cell in cells]) | {"seeds": [cell["seed"] for cell in cells]}


def _differences(row: dict) -> dict:
    by_seed = {arm: {cell["seed"]: cell["score"] for cell in cells} for arm, cells in row.items()}
    return {
        arm: difference(scores, by_seed[RANDOM]) for arm, scores in by_seed.items() if arm != RANDOM and RANDOM in by_seed
    }


def benefit(arm: str, scores: dict, tasks: dict) -> dict:
    """Return the share of natural's gain over random that `arm` has: estimates by task, and both AGGREGATES of them."""
    each, rows, draws = {}, [], []
    for task, facts in tasks.items():
        if absent := [name for name in (RANDOM, NATURAL, arm) if name not in scores[task]]:
            each[task] = refusal(f"no finished cell of the arm '{absent[0]}'")
            continue
        sign = 1 if facts["higher_is_better"] else -1
        ends = (arm, RANDOM, NATURAL)
        gain, room, error = gains(*(scores[task][name] for name in ends), [f"{task}--{name}" for name in ends])
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
            result["note"] = "; ".join(filter(None, [result["note"], f"over {used} of {len(tasks)} tasks"]))
    return {"tasks": each, "mean_of_ratios": mean, "ratio_of_means": pooled}


def _distinct(values: Iterable) -> list:
    return sorted({value for value in values if value is not None})


def _versions(cells: list[dict]) -> dict:
    versions = [cell.get("versions") or {} for cell in cells]
    return {name: _distinct(str(v.get(name, "unknown")) for v in versions) for name in sorted(set().union(*versions))}


def _curve(cells: list[dict]) -> dict:
    """Return the mean over seeds at each step that all of them evaluated, in a t-interval, or min-max below 3 seeds."""
    curves = [{p["step"]: p["score"] for p in c.get("curve") or [] if _finite(p["score"])} for c in cells]
    steps = sorted(set.intersection(*map(set, curves)))
    columns = [[curve[step] for curve in curves] for step in steps]
    bands = [estimate(column) if len(column) > 2 else {"low": min(column), "high": max(column)} for column in columns]
    ends = {end: [band[end] for band in bands] for end in ("low", "high")}
    return {"step": steps, "mean": [float(np.mean(column)) for column in columns]} | ends


def _mean_run(cells: list[dict], phase: str) -> dict | None:
    """Return the mean of each number that the runs of `phase` report, their names, and how often each stop reason came."""
    runs = [run for cell in cells if (run := (cell.get("phases") or {}).get(phase))]
    if not runs:
        return None
    numbers = {key: [run[key] for run in runs if _finite(run.get(key))] for key in sorted(set().union(*runs))}
    stopped = Counter(str(run["stopped"]) for run in runs if run.get("stopped"))
    texts = {
        "runs": len(runs),
        "names": _distinct(run.get("name") for run in runs),
        "stopped": dict(sorted(stopped.items())),
    }
    return {key: math.fsum(values) / len(values) for key, values in numbers.items() if values} | texts


# --- dict -> text --------------------------------------------------------------------------------------------------------


def _number(x: float, unit: str, sign: str = "") -> str:
    return f"{100 * x:{sign}z.1f}" if unit == "%" else f"{x:{sign}z.3f}"


def _interval(e: dict | None, unit: str = "%", sign: str = "") -> str:
    """Render an estimate as 'mean [low, high]', with a star where the interval excludes zero."""
    if e is None or e["value"] is None:
        return "–" if e is None else "refused"
    ends = "" if e["low"] is None else f" [{_number(e['low'], unit, sign)}, {_number(e['high'], unit, sign)}]"
    return _number(e["value"], unit, sign) + ends + (" *" if e.get("excludes_zero") else "")


def _short(x: float | None) -> str:
    """Render a count with three digits: 950, 12.3 k, 4.56 M, 7.89e+15; – if absent."""
    if x is None or x >= 1e12:
        return "–" if x is None else f"{x:.2e}"
    power = next((p for p in (9, 6, 3) if x >= 0.9995 * 10**p), 0)
    return f"{x / 10**power:.3g}{({9: ' G', 6: ' M', 3: ' k'}).get(power, '')}"


def _heading(task: str, facts: dict) -> str:
    unit = " in %" if facts["unit"] == "%" else ""
    better = ", lower is better" if facts["higher_is_better"] is False else ""
    return f"{task}: {facts['metric'] or 'nothing finished'}{unit}{better}"


def _notes(report: dict) -> list[str]:
    """Return one line for every refusal or caveat of a benefit, naming the arms that it holds for."""
    found = {}
    for arm, result in report["benefits"].items():
        parts = result["tasks"] | ({AGGREGATES[k]: result[k] for k in AGGREGATES} if len(report["tasks"]) > 1 else {})
        for where, e in parts.items():
            if e["note"]:
                found.setdefault((where, ("refused, " if e["value"] is None else "") + e["note"]), []).append(arm)
    return [f"{where}, {', '.join(arms)}: {note}" for (where, note), arms in found.items()]


def render(report: dict, directory: str) -> str:
    """Return the Markdown of `report`, from templates/report.md.jinja; `directory` is named in the command that made it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda x: x.replace("\n", " ").replace("|", "\\|").replace("*", "\\*") if isinstance(x, str) else x,
    )
    template = environment.from_string((Path(__file__).parent / "templates" / "report.md.jinja").read_text(encoding="utf-8"))
    helpers = {
        "interval": _interval,
        "short": _short,
        "heading": _heading,
        "notes": _notes(report),
        "aggregates": AGGREGATES,
    }
    return template.render(report | helpers, directory=directory)


def table(report: dict) -> str:
    """Return the report as a plain-text table for a terminal: a block a task, then both aggregates if there are several."""
    counts = f"{len(report['cells']) - len(report['failed'])} of {len(report['cells'])} cells done"
    lines = [f"{report['experiment']}: {counts}; mean [95 % interval over seeds], * = interval excludes zero"]
    for task, facts in report["tasks"].items():
        head = ("arm", "seeds", "score", "difference to random", "benefit of natural, %", "pre-training tokens")
        lines += ["", _heading(task, facts), *_columns([head, *(_row(report, task, arm) for arm in report["arms"])])]
    if len(report["tasks"]) > 1:
        rows = [(arm, *(_interval(result[k]) for k in AGGREGATES)) for arm, result in report["benefits"].items()]
        lines += ["", "benefit of natural over all tasks, %", *_columns([("arm", *AGGREGATES.values()), *rows])]
    failed = [f"failed: {cell['file']}: {cell['error']}" for cell in report["failed"]]
    return "\n".join([*lines, *[""][: len(_notes(report) + failed)], *_notes(report), *failed])


def _row(report: dict, task: str, arm: str) -> tuple[str, ...]:
    score, unit = report["scores"][task].get(arm), report["tasks"][task]["unit"]
    share = report["benefits"][arm]["tasks"][task] if arm in report["benefits"] else None
    tokens = (report["phases"][arm]["pretraining"] or {}).get("tokens")
    gain = _interval(report["differences"][task].get(arm), unit, "+")
    return arm, str(score["n"] if score else 0), _interval(score, unit), gain, _interval(share), _short(tokens)


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
