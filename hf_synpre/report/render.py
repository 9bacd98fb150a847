"""Layer 5: the dict of a report -> Markdown, a table for the terminal, LaTeX, model-index entries."""

from pathlib import Path

import yaml

from hf_synpre.report.cells import ABSENT

AGGREGATES = {"mean_of_ratios": "mean of the ratios", "ratio_of_means": "ratio of the means"}


def _number(x: float, unit: str, sign: str = "") -> str:
    return f"{100 * x:{sign}z.1f}" if unit == "%" else f"{x:{sign}z.3f}"


def _interval(e: dict | None, unit: str = "%", sign: str = "") -> str:
    """Render an estimate as 'mean [low, high]', with a star where the interval excludes zero."""
    if e is None or e["value"] is None:
        return "–" if e is None or e["note"].startswith(ABSENT) else "refused"
    ends = (
        ""
        if e["low"] is None
        else f" [{_number(e['low'], unit, sign)}, {_number(e['high'], unit, sign)}]"
    )
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
        parts = result["tasks"] | (
            {AGGREGATES[k]: result[k] for k in AGGREGATES} if len(report["tasks"]) > 1 else {}
        )
        for where, e in parts.items():
            if e["note"]:
                refused = e["value"] is None and not e["note"].startswith(ABSENT)
                found.setdefault((where, "refused, " * refused + e["note"]), []).append(arm)
    return [f"{where}, {', '.join(arms)}: {note}" for (where, note), arms in found.items()]


def render(report: dict, directory: str) -> str:
    """Return the Markdown of `report`, from templates/report.md.jinja; `directory` is named in the command that made it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda x: (
            x.replace("\n", " ").replace("|", "\\|").replace("*", "\\*")
            if isinstance(x, str)
            else x
        ),
    )
    template = environment.from_string(
        (Path(__file__).parent / "templates" / "report.md.jinja").read_text(encoding="utf-8")
    )
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
    counts = f"{len(report['cells'])} cells found, {len(report['failed'])} of them failed"
    lines = [
        f"{report['experiment']}: {counts}; mean [95 % interval over seeds], * = interval excludes zero"
    ]
    for task, facts in report["tasks"].items():
        head = (
            "arm",
            "seeds",
            "score",
            "difference to random",
            "benefit of natural, %",
            "pre-training tokens",
        )
        lines += [
            "",
            _heading(task, facts),
            *_columns([head, *(_row(report, task, arm) for arm in report["arms"])]),
        ]
    if len(report["tasks"]) > 1:
        rows = [
            (arm, *(_interval(result[k]) for k in AGGREGATES))
            for arm, result in report["benefits"].items()
        ]
        lines += [
            "",
            "benefit of natural over all tasks, %",
            *_columns([("arm", *AGGREGATES.values()), *rows]),
        ]
    failed = [f"failed: {cell['file']}: {cell['error']}" for cell in report["failed"]]
    return "\n".join([*lines, *[""][: len(_notes(report) + failed)], *_notes(report), *failed])


def _row(report: dict, task: str, arm: str) -> tuple[str, ...]:
    score, unit = report["scores"][task].get(arm), report["tasks"][task]["unit"]
    share = report["benefits"][arm]["tasks"][task] if arm in report["benefits"] else None
    tokens = (report["phases"][arm]["pretraining"] or {}).get("tokens")
    gain = _interval(report["differences"][task].get(arm), unit, "+")
    return (
        arm,
        str(score["n"] if score else 0),
        _interval(score, unit),
        gain,
        _interval(share),
        _short(tokens),
    )


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


LATEX = str.maketrans({c: f"\\{c}" for c in "_%&#$"} | {"–": "--"})


def latex(report: dict) -> str:
    """Return the scores and benefits as a LaTeX table (booktabs): an arm a row; bold where the difference is significant."""
    tasks = report["tasks"]
    means = AGGREGATES if len(tasks) > 1 else {}
    head = [
        "start",
        *map(_heading, tasks, tasks.values()),
        *(f"benefit, {name}, %" for name in means.values()),
    ]
    rows = []
    for arm in report["arms"]:
        cells = [_latex_cell(report, task, arm) for task in tasks]
        benefits = report["benefits"].get(arm)
        rows.append(
            [
                arm.translate(LATEX),
                *cells,
                *(_pm(benefits[key] if benefits else None, "%") for key in means),
            ]
        )
    lines = [" & ".join(row) + r" \\" for row in ([h.translate(LATEX) for h in head], *rows)]
    note = (
        "% mean and half width of the 95 % interval; bold: the difference to random excludes zero"
    )
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    begin = r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}"
    return "\n".join([note, begin, *body, r"\end{tabular}"]) + "\n"


def _latex_cell(report: dict, task: str, arm: str) -> str:
    text = _pm(report["scores"][task].get(arm), report["tasks"][task]["unit"])
    clear = (report["differences"][task].get(arm) or {}).get("excludes_zero")
    return rf"\textbf{{{text}}}" if clear else text


def _pm(e: dict | None, unit: str) -> str:
    """Render an estimate as 'mean $\\pm$ half width'; an interval that is not symmetric as 'mean [low, high]'."""
    if e is None or e["value"] is None or e["low"] is None:
        return _interval(e, unit).translate(LATEX)
    half = (e["high"] - e["low"]) / 2
    if abs(e["high"] + e["low"] - 2 * e["value"]) > 0.01 * half:
        return _interval({k: e[k] for k in ("value", "low", "high")}, unit)
    return rf"{_number(e['value'], unit)} $\pm$ {_number(half, unit)}"


def model_index(report: dict) -> list[dict]:
    """Return the model-index entries of a model card, one an arm: the mean test score over seeds of every metric."""
    entries = []
    for arm in report["arms"]:
        results = [
            _result(report, task, arm) for task in report["tasks"] if arm in report["scores"][task]
        ]
        if results:
            entries.append({"name": f"{report['experiment']}-{arm}", "results": results})
    return entries


def _result(report: dict, task: str, arm: str) -> dict:
    facts, score = report["tasks"][task], report["scores"][task][arm]
    found = {facts["metric"]: score} | {
        n: arms[arm] for n, arms in report["beside"][task].items() if arm in arms
    }
    metrics = [
        {"type": n, "value": round(e["value"], 6), "name": f"{n}, mean of {e['n']} seeds"}
        for n, e in found.items()
    ]
    dataset = {"type": (facts["hub_id"] or [task])[0], "name": task, "split": "test"}
    return {
        "task": {"type": "text2text-generation", "name": task},
        "dataset": dataset,
        "metrics": metrics,
    }


def model_index_yaml(report: dict) -> str:
    """Return the entries as the YAML that a model card's front matter takes."""
    return yaml.safe_dump({"model-index": model_index(report)}, sort_keys=False)
