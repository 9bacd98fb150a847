"""The numbers of a report -> Markdown, a table for the terminal, LaTeX and model-index entries."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from hf_synpre.errors import counted, printable
from hf_synpre.report.cells import ABSENT
from hf_synpre.report.escapes import escape_latex, short_name
from hf_synpre.report.fairness import doubt_lines
from hf_synpre.report.findings import format_numbers, write_findings, write_interval
from hf_synpre.report.schema import (
    Benefit,
    Estimate,
    Report,
    TaskSummary,
)

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
AGGREGATES = {"mean_of_ratios": "mean of the ratios", "ratio_of_means": "ratio of the means"}
TABLE_WIDTH = 100  # of sentences in the terminal
TABLE_HEAD = (
    "arm",
    "seeds",
    "score",
    "difference to random",
    "benefit of {reference}, %",
    "pre-training tokens",
)
ABSENT_TEXT, REFUSED_TEXT = "–", "refused"  # in the place of an estimate without a value
EMPTY = (ABSENT_TEXT, REFUSED_TEXT)
# Powers of ten and their letters, in which counts are written.
SI_PREFIXES = {9: " G", 6: " M", 3: " k"}


# --- Numbers --------------------------------------------------------------------------------------


def is_absent(estimate: Estimate | None) -> bool:
    """Say whether an estimate is missing because no cell is finished, not because it is refused."""
    return estimate is None or (estimate["note"] or "").startswith(ABSENT)


def format_interval(estimate: Estimate | None, unit: str | None = "%", sign: str = "") -> str:
    """Write an estimate as 'mean [low, high]', with a star where the interval excludes zero."""
    if estimate is None or estimate["value"] is None:
        return ABSENT_TEXT if is_absent(estimate) else REFUSED_TEXT

    text = write_interval(estimate, unit, sign, with_unit=False)
    if estimate.get("excludes_zero"):
        text += " *"
    return text


def format_seeds(score: Estimate) -> str:
    """Write how many seeds a score has: 3, or 3 × 3 of pre-training and of fine-tuning."""
    return " × ".join(map(str, score.get("grid", [score["n"]])))


def format_count(value: float | None) -> str:
    """Write a count with three digits: 950, 12.3 k, 4.56 M, 7.89e+15; – if absent."""
    if value is None:
        return ABSENT_TEXT
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
    """Return one line for every refusal or caveat of benefits: what it is about, and the arms.

    An arm without a finished cell on a task has a dash there and no line.
    """
    arms_by_note: dict[tuple[str, str], list[str]] = {}  # (task or mean, note) -> arms
    for arm, benefit in report["benefits"].items():
        for where, share in shares_of(report, benefit).items():
            note = share["note"]
            if not note or is_absent(share):
                continue
            if share["value"] is None:
                note = f"the benefit is refused: {note}"
            arms_by_note.setdefault((where, note), []).append(arm)

    # Tasks with the same note for the same arms are one line.
    places_by_note: dict[tuple[str, str], list[str]] = {}  # (arms, note) -> tasks and means
    for (where, note), arms in arms_by_note.items():
        names = ", ".join(arms)
        if len(arms) == len(report["benefits"]):
            names = "all arms"
        places_by_note.setdefault((names, note), []).append(where)
    return [
        f"{', '.join(places)}, {arms}: {note}" for (arms, note), places in places_by_note.items()
    ]


def shares_of(report: Report, benefit: Benefit) -> dict[str, Estimate]:
    """Return the shares of a benefit by task, and its means where there are several tasks."""
    shares = dict(benefit["tasks"])
    if len(report["tasks"]) > 1:
        shares |= aggregates(benefit)
    return shares


def aggregates(benefit: Benefit) -> dict[str, Estimate]:
    """Return the name of each aggregate of a benefit over tasks, and its estimate."""
    return {
        AGGREGATES["mean_of_ratios"]: benefit["mean_of_ratios"],
        AGGREGATES["ratio_of_means"]: benefit["ratio_of_means"],
    }


# --- Templates and tables -------------------------------------------------------------------------


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


class Table(NamedTuple):
    """A table: its head, and rows with as many texts each. The first column is that of names."""

    head: list[str]
    rows: list[list[str]]


def without_empty(table: Table) -> Table | None:
    """Return a table without the rows and columns that hold no number, None if none does."""
    rows = [row for row in table.rows if any(text not in EMPTY for text in row[1:])]
    shown = [
        column
        for column in range(len(table.head))
        if column == 0 or any(row[column] not in EMPTY for row in rows)
    ]
    if not rows or len(shown) < 2:
        return None
    return Table(
        [table.head[column] for column in shown],
        [[row[column] for column in shown] for row in rows],
    )


# --- Table for the terminal -----------------------------------------------------------------------


def table(report: Report) -> str:
    """Return a report as plain text: what is found, a block for each task, means over tasks."""
    cells, failed = counted(len(report["cells"]), "cell"), len(report["failed"])
    lines = [
        f"{printable(report['experiment'])}: {cells} found, {failed} of them failed; "
        "mean [95 % interval over seeds], * = interval excludes zero"
    ]
    sentences = " ".join(write_findings(report, short_name))
    lines += ["", *textwrap.wrap(sentences, TABLE_WIDTH, break_on_hyphens=False)]

    # A block for each task.
    for task, summary in report["tasks"].items():
        rows = [table_row(report, task, arm) for arm in report["arms"]]
        head = [title.format(reference=short_name(report["reference"])) for title in TABLE_HEAD]
        scores = without_empty(Table(head, rows))
        if scores is None:
            continue
        heading = printable(task_heading(task, summary))
        lines += ["", heading, *align_columns([scores.head, *scores.rows])]

    # The means over tasks.
    if len(report["tasks"]) > 1:
        rows = []
        for arm, benefit in report["benefits"].items():
            shares = (format_interval(e) for e in aggregates(benefit).values())
            rows.append([short_name(arm), *shares])
        means = without_empty(Table(["arm", *AGGREGATES.values()], rows))
        if means is not None:
            lines += ["", f"benefit of {short_name(report['reference'])} over all tasks, %"]
            lines += align_columns([means.head, *means.rows])

    # Caveats and failures.
    remarks = doubt_lines(report) + benefit_notes(report)
    remarks += [f"failed: {cell['file']}: {cell['error']}" for cell in report["failed"]]
    remarks += [f"left out: {cell['file']} {cell['reason']}" for cell in report["left_out"]]
    if remarks:
        lines += ["", *map(printable, remarks)]
    return "\n".join(lines)


def table_row(report: Report, task: str, arm: str) -> list[str]:
    """Return the row of an arm in the terminal's table of a task."""
    unit = report["tasks"][task]["unit"]
    score = report["scores"][task].get(arm)
    difference = report["differences"][task].get(arm)
    share = None
    if arm in report["benefits"]:
        share = report["benefits"][arm]["tasks"][task]
    pretraining = report["phases"][arm]["pretraining"] or {}
    tokens = pretraining.get("tokens") if score else None
    return [
        short_name(arm),
        format_seeds(score) if score else ABSENT_TEXT,
        format_interval(score, unit),
        format_interval(difference, unit, "+"),
        format_interval(share),
        format_count(tokens),
    ]


def align_columns(rows: list[list[str]]) -> list[str]:
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
    has_natural = report["reference"] in report["arms"]
    shown_aggregates = AGGREGATES if len(tasks) > 1 and has_natural else {}
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
    mean_text, half_text = format_numbers([mean, half], unit)
    return rf"{mean_text} $\pm$ {half_text}"


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
