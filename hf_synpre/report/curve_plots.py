"""Plots of a report with lines: scores over fine-tuning steps, and over total FLOPs.

Matplotlib is imported only when something is drawn.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from hf_synpre.report.figures import (
    COLOURS,
    CURVE_HEIGHT,
    ArmStyle,
    arm_styles,
    axis_label,
    panel_grid,
    plot_label,
    set_title,
)
from hf_synpre.report.intervals import excludes_zero
from hf_synpre.report.natural import arms_beside, natural_tokens
from hf_synpre.report.schema import (
    NATURAL,
    RANDOM,
    Compute,
    Curve,
    Report,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = "line: mean over seeds; band: 95 % interval over seeds (of one or two seeds: their range)"
COMPUTE = (
    "test scores with 95 % intervals; line: one start, several budgets; filled: ahead of random at "
    "equal FLOPs (the interval excludes zero)"
)


def draw_curves(report: Report) -> "Figure | None":
    """Return a panel for each task: mean validation scores during fine-tuning, a line an arm.

    None if there is no curve.
    """
    drawn: dict[str, dict[str, Curve]] = {}  # task -> arm -> curve
    for task, curves in report["curves"].items():
        known = {arm: curve for arm, curve in curves.items() if curve["step"]}
        if known:
            drawn[task] = known
    if not drawn:
        return None

    figure, panels = panel_grid(len(drawn), CURVE_HEIGHT)
    styles = arm_styles(report)
    for panel, (task, curves) in zip(panels, drawn.items(), strict=True):
        summary = report["tasks"][task]
        scale = 100 if summary["unit"] == "%" else 1
        for arm, curve in curves.items():
            is_above = arm in (RANDOM, report["reference"])
            draw_curve(panel, curve, scale, styles[arm], above=is_above)
        panel.set(title=plot_label(task), ylabel=axis_label(summary, summary["curve_score"]))
        panel.set_xlabel("fine-tuning step")
        panel.margins(x=0.03)
        keep_in_percent(panel, summary["unit"])

    arms = [arm for arm in report["arms"] if any(arm in curves for curves in drawn.values())]
    add_legend(figure, {arm: plot_label(arm) for arm in arms}, styles)
    set_title(figure, "Scores on validation rows during fine-tuning", BAND)
    return figure


def draw_curve(panel: "Axes", curve: Curve, scale: float, style: ArmStyle, above: bool) -> None:
    """Draw one arm's curve with its band."""
    steps = np.array(curve["step"], dtype=float)
    mean, low, high = (scale * np.array(curve[key]) for key in ("mean", "low", "high"))
    panel.fill_between(steps, low, high, color=style.color, alpha=0.12, linewidth=0)
    panel.plot(
        steps,
        mean,
        color=style.color,
        linestyle=style.linestyle,
        linewidth=1.2,
        marker=style.marker,
        markersize=3,
        markevery=max(len(mean) // 6, 1),
        zorder=3 if above else 2,
    )


def keep_in_percent(panel: "Axes", unit: str | None) -> None:
    """Let the y axis of fractions end at 0 and 100 %."""
    if unit == "%":
        low_end, high_end = panel.get_ylim()
        panel.set_ylim(max(low_end, 0), min(high_end, 100))


# --- Scores over total FLOPs ----------------------------------------------------------------------


def draw_compute(report: Report) -> "Figure | None":
    """Return a panel for each task: test scores over total FLOPs, a line for each start.

    None if no FLOPs are known.
    """
    drawn = report["compute"]
    if not drawn:
        return None
    figure, panels = panel_grid(len(drawn), CURVE_HEIGHT + 0.3)
    styles = arm_styles(report)
    largest = max(max(of_task["flops"].values()) for of_task in drawn.values())
    exponent = 3 * int(math.log10(largest) // 3) if largest >= 1 else 0
    for panel, (task, compute) in zip(panels, drawn.items(), strict=True):
        summary = report["tasks"][task]
        scale = 100 if summary["unit"] == "%" else 1
        for name, arms in compute["lines"].items():
            if name != RANDOM:
                draw_line(panel, report, task, arms, scale, styles[name])
        draw_line(panel, report, task, compute["lines"][RANDOM], scale, styles[RANDOM], band=True)
        panel.set(title=plot_label(task), ylabel=axis_label(summary, summary["metric"]))
        set_log_axis(panel, exponent, "FLOPs, pre-training included")
        keep_in_percent(panel, summary["unit"])

    add_legend(figure, line_labels(report), styles)
    remarks = [COMPUTE]
    if not any(is_line(compute) for compute in drawn.values()):
        remarks = ["test scores with 95 % intervals; random has one budget: no comparison"]
    set_title(figure, "Score over total compute", *remarks)
    return figure


def is_line(compute: Compute) -> bool:
    """Say whether random has several budgets on a task."""
    return len(compute["lines"][RANDOM]) > 1


def line_labels(report: Report) -> dict[str, str]:
    """Return the name of each line of a report, with its number of budgets where it has several."""
    budgets: dict[str, int] = {}
    for compute in report["compute"].values():
        for name, arms in compute["lines"].items():
            budgets[name] = max(budgets.get(name, 0), len(arms))
    return {
        arm: plot_label(arm) + (f" ({budgets[arm]} budgets)" if budgets[arm] > 1 else "")
        for arm in report["arms"]
        if arm in budgets
    }


def draw_line(
    panel: "Axes",
    report: Report,
    task: str,
    arms: list[str],
    scale: float,
    style: ArmStyle,
    band: bool = False,
) -> None:
    """Draw the arms of one start over their FLOPs: a point with its interval each, joined.

    Args:
        panel: where to draw.
        report: the content of report.json.
        task: the task.
        arms: the arms, by rising FLOPs.
        scale: the factor of scores, 100 for %.
        style: how they are drawn.
        band: whether intervals are a band and all points filled, as those of random.
    """
    compute, scores = report["compute"][task], report["scores"][task]
    flops = [compute["flops"][arm] for arm in arms]
    values = [scale * (scores[arm]["value"] or 0.0) for arm in arms]
    ends = [(scores[arm]["low"], scores[arm]["high"]) for arm in arms]
    panel.plot(flops, values, color=style.color, linestyle=style.linestyle, linewidth=1.2)
    known = [scale * np.array([low, high]) for low, high in ends if None not in (low, high)]
    if band and len(known) == len(arms) > 1:
        low_ends, high_ends = np.array(known).T
        panel.fill_between(flops, low_ends, high_ends, color=style.color, alpha=0.12, linewidth=0)
    for x, value, (low, high), arm in zip(flops, values, ends, arms, strict=True):
        if low is not None and high is not None:
            panel.plot([x, x], [scale * low, scale * high], color=style.color, linewidth=0.8)
        is_filled = band or is_ahead(report, task, arm)
        panel.plot(
            x,
            value,
            marker=style.marker,
            color=style.color,
            markerfacecolor=style.color if is_filled else "white",
            markersize=4,
            zorder=4,
        )


def is_ahead(report: Report, task: str, arm: str) -> bool:
    """Say whether an arm is ahead of random's line at the same FLOPs."""
    lead = report["compute"][task]["differences"].get(arm)
    if lead is None or not excludes_zero(lead):
        return False
    higher = report["tasks"][task]["higher_is_better"] is not False
    return ((lead["value"] or 0.0) > 0) == higher


# --- Natural pre-training by its tokens -----------------------------------------------------------


def draw_tokens(report: Report) -> "Figure | None":
    """Return a panel for each task: the scores of natural arms over their tokens, others as lines.

    None for a report with less than two natural arms.
    """
    tokens, beside = natural_tokens(report), arms_beside(report)
    tasks = [
        task
        for task, scores in report["scores"].items()
        if sum(arm in scores for arm in tokens) > 1
    ]
    if not tasks:
        return None

    figure, panels = panel_grid(len(tasks), CURVE_HEIGHT)
    styles = arm_styles(report) | {NATURAL: ArmStyle(COLOURS[NATURAL], "o", "-")}
    flat = {
        arm: styles[arm]._replace(marker="", linestyle="--")
        for arm in (RANDOM, *beside)
        if arm in styles
    }
    exponent = 3 * int(math.log10(max(tokens.values())) // 3)
    for panel, task in zip(panels, tasks, strict=True):
        summary = report["tasks"][task]
        draw_natural(panel, report, task, tokens, styles[NATURAL])
        draw_levels(panel, report, task, flat)
        panel.set(title=plot_label(task), ylabel=axis_label(summary, summary["metric"]))
        set_log_axis(panel, exponent, "natural tokens of pre-training")
        keep_in_percent(panel, summary["unit"])

    labels = {NATURAL: "natural text"} | {arm: plot_label(arm) for arm in flat}
    add_legend(figure, labels, styles | flat)
    set_title(
        figure,
        "Test scores by the natural tokens of pre-training",
        "with 95 % intervals; dashed: the mean of another arm",
    )
    return figure


def draw_natural(
    panel: "Axes", report: Report, task: str, tokens: dict[str, float], style: ArmStyle
) -> None:
    """Draw the scores of natural arms on a task over their tokens, with their intervals.

    Args:
        panel: where to draw.
        report: the content of report.json.
        task: the task.
        tokens: natural arm -> the tokens that it read, which rise.
        style: how they are drawn.
    """
    scores = report["scores"][task]
    scale = 100 if report["tasks"][task]["unit"] == "%" else 1
    known = {arm: count for arm, count in tokens.items() if arm in scores}
    values = [scale * (scores[arm]["value"] or 0.0) for arm in known]
    panel.plot([*known.values()], values, linewidth=1.2, markersize=4, **style._asdict())
    for arm, count in known.items():
        low, high = scores[arm]["low"], scores[arm]["high"]
        if low is not None and high is not None:
            panel.plot(
                [count, count], [scale * low, scale * high], color=style.color, linewidth=0.8
            )


def draw_levels(panel: "Axes", report: Report, task: str, styles: dict[str, ArmStyle]) -> None:
    """Draw the mean score of each arm in `styles` on a task as a horizontal line."""
    scores = report["scores"][task]
    scale = 100 if report["tasks"][task]["unit"] == "%" else 1
    for arm, style in styles.items():
        if arm in scores:
            value = scale * (scores[arm]["value"] or 0.0)
            panel.axhline(value, color=style.color, linestyle=style.linestyle, linewidth=1)


# --- Axes and legends -----------------------------------------------------------------------------


def superscript(number: int) -> str:
    """Return a whole number in raised digits."""
    return str(number).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))


def set_log_axis(panel: "Axes", exponent: int, quantity: str) -> None:
    """Make the x axis logarithmic and say so; its ticks are in units of a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    panel.set_xlabel(f"10{superscript(exponent)} {quantity}\n(logarithmic)")
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    decades = math.log10(high / low)
    parts: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    if decades > 0.6:
        parts = (1.0,) if decades > 2.2 else (1.0, 2.0, 5.0)
    panel.xaxis.set_major_locator(LogLocator(subs=parts, numticks=20))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 10.0**exponent:g}"))


def add_legend(figure: "Figure", labels: dict[str, str], styles: dict[str, ArmStyle]) -> None:
    """Name each arm once, below all panels; `labels` maps arms to their names there."""
    from matplotlib.lines import Line2D

    # As many rows as the names need: about 0.4 inches for a line and 0.07 a letter.
    columns = int(figure.get_figwidth() / (0.4 + 0.07 * max(map(len, labels.values()))))
    figure.legend(
        [Line2D([], [], markersize=3, linewidth=1.2, **styles[arm]._asdict()) for arm in labels],
        [*labels.values()],
        loc="outside lower center",
        ncols=min(max(columns, 1), len(labels)),
        handlelength=2.2,
        columnspacing=1.0,
        handletextpad=0.5,
    )
