"""The numbers of a report -> Markdown, a table for the terminal, LaTeX and model-index entries."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hf_synpre.report.cells import ABSENT
from hf_synpre.report.escapes import (
    MarkdownText,
    escape_latex,
    escape_markdown,
    markdown_code,
    printable,
    short_name,
)
from hf_synpre.report.schema import Benefit, Estimate, Pair, Report, TaskSummary
from hf_synpre.report.transfer import matrix_row

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
AGGREGATES = {"mean_of_ratios": "mean of the ratios", "ratio_of_means": "ratio of the means"}
TABLE_HEAD = (
    "arm",
    "seeds",
    "score",
    "difference to random",
    "benefit of natural, %",
    "pre-training tokens",
)
# Powers of ten and their letters, in which counts are written.
SI_PREFIXES = {9: " G", 6: " M", 3: " k"}


# --- Numbers --------------------------------------------------------------------------------------


def format_number(value: float, unit: str | None, sign: str = "") -> str:
    """Write a number in its unit: fractions in % with one digit, other numbers with three.

    Args:
        value: the number; a fraction where the unit is %.
        unit: "%" or the name of a metric.
        sign: "+" to write the sign of positive numbers too.
    """
    if unit == "%":
        return f"{100 * value:{sign}z.1f}"
    return f"{value:{sign}z.3f}"


def is_absent(estimate: Estimate | None) -> bool:
    """Say whether an estimate is missing because no cell is finished, not because it is refused."""
    return estimate is None or (estimate["note"] or "").startswith(ABSENT)


def format_interval(estimate: Estimate | None, unit: str | None = "%", sign: str = "") -> str:
    """Write an estimate as 'mean [low, high]', with a star where the interval excludes zero."""
    if estimate is None or estimate["value"] is None:
        return "–" if is_absent(estimate) else "refused"

    text = format_number(estimate["value"], unit, sign)
    if estimate["low"] is not None and estimate["high"] is not None:
        low = format_number(estimate["low"], unit, sign)
        high = format_number(estimate["high"], unit, sign)
        text += f" [{low}, {high}]"
    if estimate.get("excludes_zero"):
        text += " *"
    return text


def format_count(value: float | None) -> str:
    """Write a count with three digits: 950, 12.3 k, 4.56 M, 7.89e+15; – if absent."""
    if value is None:
        return "–"
    if value >= 1e12:
        return f"{value:.2e}"
    for power, letter in SI_PREFIXES.items():
        if value >= 0.9995 * 10**power:  # 999.5 k and more is written as 1 M
            return f"{value / 10**power:.3g}{letter}"
    return f"{value:.3g}"


def task_heading(task: str, summary: TaskSummary) -> str:
    """Return a task with its metric and unit."""
    text = f"{task}: {summary['metric'] or 'nothing finished'}"
    if summary["unit"] == "%":
        text += " in %"
    if summary["higher_is_better"] is False:
        text += ", lower is better"
    return text


def benefit_notes(report: Report) -> list[str]:
    """Return one line for every refusal or caveat of benefits, with the arms that it is about."""
    arms_by_note: dict[tuple[str, str], list[str]] = {}
    for arm, benefit in report["benefits"].items():
        shares = dict(benefit["tasks"])
        if len(report["tasks"]) > 1:
            shares |= aggregates(benefit)

        for where, share in shares.items():
            note = share["note"]
            if not note:
                continue
            if share["value"] is None and not is_absent(share):
                note = f"refused, {note}"
            arms_by_note.setdefault((where, note), []).append(arm)
    return [f"{where}, {', '.join(arms)}: {note}" for (where, note), arms in arms_by_note.items()]


def aggregates(benefit: Benefit) -> dict[str, Estimate]:
    """Return the name of each aggregate of a benefit over tasks, and its estimate."""
    return {
        AGGREGATES["mean_of_ratios"]: benefit["mean_of_ratios"],
        AGGREGATES["ratio_of_means"]: benefit["ratio_of_means"],
    }


# --- Markdown -------------------------------------------------------------------------------------


def template_environment(folder: Path, **options: Any) -> "Environment":
    """Return a Jinja environment in which an unknown name is an error and a block leaves no line.

    Args:
        folder: where the templates are.
        options: further arguments of jinja2.Environment.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def markdown(report: Report, directory: str) -> str:
    """Return a report as Markdown, from templates/report.md.jinja.

    Args:
        report: the content of report.json.
        directory: the folder of the cells; the text gives the command that made it.
    """
    environment = template_environment(TEMPLATES, finalize=escape_markdown)
    environment.globals |= {
        "interval": markdown_interval,
        "count": format_count,
        "heading": task_heading,
        "matrix_row": lambda arm: matrix_row_texts(report, arm),
        "pair_row": pair_row_texts,
        "notes": benefit_notes(report),
        "aggregates": AGGREGATES,
        "command": markdown_code(shlex.join(["synpre", "report", shown_folder(directory)])),
    }
    return environment.get_template("report.md.jinja").render(report)


def shown_folder(directory: str) -> str:
    """Return a folder as a report shows it: as it was given, but without a path of this machine."""
    path = Path(directory)
    return path.name if path.is_absolute() else directory


def markdown_interval(
    estimate: Estimate | None, unit: str | None = "%", sign: str = ""
) -> MarkdownText:
    """Write an estimate as `format_interval` does, for Markdown."""
    return MarkdownText(format_interval(estimate, unit, sign).replace("*", r"\*"))


def matrix_row_texts(report: Report, arm: str) -> list[str]:
    """Return an arm's gains on all tasks and their mean as text."""
    gains = matrix_row(report["transfer"]["matrix"], arm, list(report["tasks"]))
    return [f"{gain:.1f}" if gain == gain else "–" for gain in gains]  # NaN differs from itself


def pair_row_texts(pair: Pair) -> list[str]:
    """Return a pair of arms and its shares of examples in %."""
    shares = (pair["ensemble"], pair["better"], pair["both_wrong"], pair["one_right"])
    return [" + ".join(pair["arms"]), *(f"{100 * share:.1f}" for share in shares)]


# --- Table for the terminal -----------------------------------------------------------------------


def table(report: Report) -> str:
    """Return a report as plain text: a block for each task, then the means over several tasks."""
    cells, failed = len(report["cells"]), len(report["failed"])
    lines = [
        f"{printable(report['experiment'])}: {cells} cells found, {failed} of them failed; "
        "mean [95 % interval over seeds], * = interval excludes zero"
    ]

    # A block for each task.
    for task, summary in report["tasks"].items():
        rows = [table_row(report, task, arm) for arm in report["arms"]]
        heading = printable(task_heading(task, summary))
        lines += ["", heading, *align_columns([TABLE_HEAD, *rows])]

    # The means over tasks.
    if len(report["tasks"]) > 1:
        rows = []
        for arm, benefit in report["benefits"].items():
            shares = (format_interval(e) for e in aggregates(benefit).values())
            rows.append((short_name(arm), *shares))
        head = ("arm", *AGGREGATES.values())
        lines += ["", "benefit of natural over all tasks, %", *align_columns([head, *rows])]

    # Caveats and failures.
    remarks = benefit_notes(report)
    remarks += [f"failed: {cell['file']}: {cell['error']}" for cell in report["failed"]]
    remarks += [f"left out: {cell['file']} {cell['reason']}" for cell in report["left_out"]]
    if remarks:
        lines += ["", *map(printable, remarks)]
    return "\n".join(lines)


def table_row(report: Report, task: str, arm: str) -> tuple[str, ...]:
    """Return the row of an arm in the terminal's table of a task."""
    unit = report["tasks"][task]["unit"]
    score = report["scores"][task].get(arm)
    difference = report["differences"][task].get(arm)
    share = None
    if arm in report["benefits"]:
        share = report["benefits"][arm]["tasks"][task]
    pretraining = report["phases"][arm]["pretraining"] or {}
    return (
        short_name(arm),
        str(score["n"] if score else 0),
        format_interval(score, unit),
        format_interval(difference, unit, "+"),
        format_interval(share),
        format_count(pretraining.get("tokens")),
    )


def align_columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


# --- LaTeX ----------------------------------------------------------------------------------------


def latex(report: Report) -> str:
    """Return scores and benefits as a LaTeX table (booktabs), a row for each arm.

    A score is bold where the interval of its difference to random excludes zero.
    """
    tasks = report["tasks"]
    shown_aggregates = AGGREGATES if len(tasks) > 1 else {}
    head = ["start", *(task_heading(task, summary) for task, summary in tasks.items())]
    head += [f"benefit, {name}, %" for name in shown_aggregates.values()]

    # The row of an arm: its score on each task, then its benefits over tasks.
    rows = [[escape_latex(text) for text in head]]
    for arm in report["arms"]:
        row = [escape_latex(arm)]
        row += [latex_score(report, task, arm) for task in tasks]
        if shown_aggregates and arm in report["benefits"]:
            row += [latex_estimate(e, "%") for e in aggregates(report["benefits"][arm]).values()]
        elif shown_aggregates:
            row += [latex_estimate(None, "%") for _ in shown_aggregates]
        rows.append(row)

    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "l" + "r" * (len(head) - 1)
    return "\n".join(
        [
            "% mean and half width of the 95 % interval; "
            "bold: the difference to random excludes zero",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def latex_score(report: Report, task: str, arm: str) -> str:
    """Return an arm's score on a task, bold where it differs from random."""
    score, difference = report["scores"][task].get(arm), report["differences"][task].get(arm)
    text = latex_estimate(score, report["tasks"][task]["unit"])
    if difference and difference["excludes_zero"]:
        return rf"\textbf{{{text}}}"
    return text


def latex_estimate(estimate: Estimate | None, unit: str | None) -> str:
    r"""Write an estimate as 'mean $\pm$ half width', or 'mean [low, high]' if not symmetric."""
    if estimate is None or estimate["value"] is None:
        return escape_latex(format_interval(estimate, unit))
    mean, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low is None or high is None:
        return escape_latex(format_interval(estimate, unit))

    # Half a percent of the width counts as symmetric.
    half = (high - low) / 2
    if abs(high + low - 2 * mean) > 0.01 * half:
        return format_interval({"value": mean, "low": low, "high": high, "note": None}, unit)
    return rf"{format_number(mean, unit)} $\pm$ {format_number(half, unit)}"


# --- model-index ----------------------------------------------------------------------------------


def model_index(report: Report) -> list[dict[str, Any]]:
    """Return the model-index entries of a model card, one for each arm.

    Their values are mean test scores over seeds, in every metric.
    """
    entries = []
    for arm in report["arms"]:
        results = [
            index_entry(report, task, arm)
            for task in report["tasks"]
            if arm in report["scores"][task]
        ]
        if results:
            entries.append({"name": f"{report['experiment']}-{arm}", "results": results})
    return entries


def index_entry(report: Report, task: str, arm: str) -> dict[str, Any]:
    """Return the scores of an arm on a task as an entry of a model-index."""
    # The task's metric, then the others.
    summary = report["tasks"][task]
    scores: dict[str | None, Estimate] = {summary["metric"]: report["scores"][task][arm]}
    for other_metric, arms in report["beside"][task].items():
        if arm in arms:
            scores[other_metric] = arms[arm]

    metrics = []
    for metric, score in scores.items():
        assert score["value"] is not None
        name = f"{metric}, mean of {score['n']} seeds"
        metrics.append({"type": metric, "value": round(score["value"], 6), "name": name})

    source = summary["hub_id"][0] if summary["hub_id"] else task
    return {
        "task": {"type": "text2text-generation", "name": task},
        "dataset": {"type": source, "name": task, "split": "test"},
        "metrics": metrics,
    }


def model_index_yaml(report: Report) -> str:
    """Return the entries as the YAML that a model card's front matter takes."""
    return yaml.safe_dump({"model-index": model_index(report)}, sort_keys=False)
