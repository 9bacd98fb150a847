"""The numbers of a report -> its plots as the bytes of PNG and SVG files.

Equal reports give equal bytes. Matplotlib is imported only when something is drawn.
"""

import math
import textwrap
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_synpre.report.escapes import short_name
from hf_synpre.report.schema import NATURAL, RANDOM, Estimate, GainMatrix, Report, TaskSummary
from hf_synpre.report.transfer import matrix_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of the usual arms; other arms take the spare ones in turn (Okabe & Ito, Tol).
COLOURS = {
    RANDOM: "#8A8A8A",
    NATURAL: "#0072B2",
    "synthetic": "#D55E00",
    "statistics": "#009E73",
    "self": "#CC79A7",
}
SPARE_COLOURS = (
    "#E69F00",
    "#56B4E9",
    "#5D3A9B",
    "#8C510A",
    "#882255",
    "#44AA99",
    "#999933",
    "#DDCC77",
)
REFUSED_TEXT: dict[str, Any] = {
    "ha": "center",
    "va": "center",
    "color": "#777777",
    "style": "italic",
    "fontsize": 7,
}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "text.parse_math": False,  # names may hold a dollar sign
    "svg.hashsalt": "hf_synpre",  # fixes the ids inside an SVG, which are random otherwise
}
X_LABELS = {"step": "fine-tuning step", "flops": "FLOPs, pre-training included"}
FORMATS = ("png", "svg")

# Sizes of a panel in inches; a single panel is wider.
LONE_WIDTH, PANEL_WIDTH, CURVE_HEIGHT = 3.4, 2.4, 2.2


def draw_plots(report: Report) -> dict[str, bytes]:
    """Return the plots of a report as file name -> bytes.

    Args:
        report: the content of report.json.

    Returns:
        curves, compute and benefit as PNG and SVG, and gains for a report with a matrix of gains.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Letters that matplotlib's font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figures = {
            "curves": draw_curves(report, "step"),
            "compute": draw_curves(report, "flops"),
            "benefit": draw_benefits(report) or draw_differences(report),
        }
        if "transfer" in report and report["transfer"]["matrix"]["gains"]:
            figures["gains"] = draw_heat_map(report["transfer"]["matrix"])
        return {
            f"{name}.{file_format}": image(figure, file_format)
            for name, figure in figures.items()
            for file_format in FORMATS
        }


def image(figure: "Figure", file_format: str) -> bytes:
    """Return a figure as the bytes of a PNG or SVG file, without the current date."""
    metadata = {"Date": None} if file_format == "svg" else None
    buffer = BytesIO()
    figure.savefig(buffer, format=file_format, dpi=300, metadata=metadata)
    return buffer.getvalue()


# --- What all plots share -------------------------------------------------------------------------


def panel_grid(count: int, height: float, share_y: bool = False) -> tuple["Figure", list["Axes"]]:
    """Return a figure of panels in up to three columns, and the panels.

    Args:
        count: number of panels.
        height: height of a panel in inches.
        share_y: whether the panels have one y axis.
    """
    from matplotlib.figure import Figure

    width = LONE_WIDTH if count == 1 else PANEL_WIDTH
    columns = 2 if count == 4 else min(count, 3)
    rows = math.ceil(count / columns)
    size = (width * columns, height * rows + 0.3)  # 0.3 for the title or the legend
    figure = Figure(figsize=size, layout="constrained")
    panels = [*figure.subplots(rows, columns, squeeze=False, sharey=share_y).flat]
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


def arm_colours(report: Report) -> dict[str, str]:
    """Return arm -> its colour."""
    colours = dict(COLOURS)
    others = [arm for arm in report["arms"] if arm not in COLOURS]
    for i, arm in enumerate(others):
        colours[arm] = SPARE_COLOURS[i % len(SPARE_COLOURS)]
    return colours


def plot_label(name: str) -> str:
    """Return a name as a plot shows it; matplotlib hides labels that begin with "_"."""
    label = short_name(name)
    return f" {label}" if label.startswith("_") else label


def axis_label(task: TaskSummary, what: str) -> str:
    """Return the label of an axis that shows a task's metric; `what` comes before its name."""
    label = what + short_name(task["metric"] or "")
    if task["unit"] == "%":
        label += " (%)"
    if task["higher_is_better"] is False:
        label += "\nlower is better"
    return label


# --- Curves ---------------------------------------------------------------------------------------


def draw_curves(report: Report, x: str) -> "Figure":
    """Return a panel for each task: mean validation scores against `x`, a line for each arm.

    Args:
        report: the content of report.json.
        x: "step" or "flops"; an arm whose curve lacks it is left out.
    """
    figure, panels = panel_grid(len(report["tasks"]), CURVE_HEIGHT)
    colours = arm_colours(report)
    for panel, (task, summary) in zip(panels, report["tasks"].items(), strict=True):
        scale = 100 if summary["unit"] == "%" else 1
        for arm, curve in report["curves"][task].items():
            xs = curve["step"] if x == "step" else curve.get("flops")
            if xs is None:
                continue
            mean = scale * np.array(curve["mean"], dtype=float)
            low = scale * np.array(curve["low"], dtype=float)
            high = scale * np.array(curve["high"], dtype=float)
            colour = colours[arm]
            above_others = arm in (RANDOM, NATURAL)
            panel.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)
            panel.plot(xs, mean, color=colour, linewidth=1.3, label=arm, zorder=2 + above_others)

        panel.set(
            title=plot_label(task), xlabel=X_LABELS[x], ylabel=axis_label(summary, "validation ")
        )
        panel.margins(x=0.02)
        if summary["unit"] == "%":
            low_end, high_end = panel.get_ylim()
            panel.set_ylim(max(low_end, 0), min(high_end, 100))
    add_legend(figure, report, panels)
    return figure


def add_legend(figure: "Figure", report: Report, panels: list["Axes"]) -> None:
    """Name each arm that is drawn once, below all panels, in the order of the report."""
    drawn: dict[str, Any] = {}  # name of an arm -> a line or bar of it
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        drawn |= dict(zip(labels, handles, strict=True))
    arms = [arm for arm in report["arms"] if arm in drawn]
    if not arms:
        return

    # As many rows as the names need: about 0.28 inches for a line and 0.065 a letter.
    width = sum(0.28 + 0.065 * len(arm) for arm in arms)
    rows = math.ceil(width / figure.get_figwidth())
    figure.legend(
        [drawn[arm] for arm in arms],
        [plot_label(arm) for arm in arms],
        loc="outside lower center",
        ncols=math.ceil(len(arms) / rows),
        handlelength=1.2,
        columnspacing=1.0,
        handletextpad=0.5,
    )


# --- Benefits and differences ---------------------------------------------------------------------


def draw_benefits(report: Report) -> "Figure | None":
    """Return a panel for each task and each mean over tasks: the arms' shares of natural's gain.

    None if every share is refused.
    """
    arms = list(report["benefits"])
    benefits = report["benefits"]
    groups: dict[str, dict[str, Estimate]] = {}
    for task in report["tasks"]:
        groups[task] = {arm: benefits[arm]["tasks"][task] for arm in arms}
    means = {}
    if len(report["tasks"]) > 1:
        means["mean of ratios"] = {arm: benefits[arm]["mean_of_ratios"] for arm in arms}
        means["ratio of means"] = {arm: benefits[arm]["ratio_of_means"] for arm in arms}
    groups |= means
    shares = [share for group in groups.values() for share in group.values()]
    if all(share["value"] is None for share in shares):
        return None

    figure, panels = panel_grid(len(groups), intervals_height(arms), share_y=True)
    colours = arm_colours(report)
    for panel, (name, group) in zip(panels, groups.items(), strict=True):
        cut = draw_intervals(panel, arms, group, 100, colours, reference=100)
        panel.set_title(plot_label(name), fontweight="bold" if name in means else None)
        panel.set_xlabel(f"% (0 = random, 100 = natural){cut}")
    title = "Benefit of natural pre-training"
    if all(share["low"] is None for share in shares):
        title += "\n(one seed: no intervals)"
    figure.suptitle(title)
    return figure


def draw_differences(report: Report) -> "Figure":
    """Return a panel for each task: the arms' differences to random.

    The title says why there is no benefit to draw.
    """
    arms = [arm for arm in report["arms"] if arm != RANDOM]
    figure, panels = panel_grid(len(report["tasks"]), intervals_height(arms), share_y=True)
    colours = arm_colours(report)
    for panel, (task, summary) in zip(panels, report["tasks"].items(), strict=True):
        row = report["differences"][task]
        scale = 100 if summary["unit"] == "%" else 1
        cut = draw_intervals(panel, arms, row, scale, colours)
        panel.set(title=plot_label(task), xlabel=axis_label(summary, "difference in ") + cut)
    figure.suptitle("Score difference to random\n" + why_no_benefit(report))
    return figure


def why_no_benefit(report: Report) -> str:
    """Return, in brackets, why a report has no benefit to draw."""
    if not report["benefits"]:
        return "(no arm besides random and natural)"

    notes = {
        share["note"]
        for benefit in report["benefits"].values()
        for share in benefit["tasks"].values()
    }
    missing = [f"'{arm}'" for arm in (RANDOM, NATURAL) if arm not in report["arms"]]
    if missing:
        reason = f"no arm {' or '.join(missing)}"
    elif len(notes) == 1:
        reason = str(notes.pop())
    else:
        reason = "see the notes of the report"
    return textwrap.fill(f"(benefit not shown: {reason})", 52)


def intervals_height(arms: list[str]) -> float:
    """Return the height in inches of a panel with an interval an arm."""
    return 0.9 + 0.17 * max(len(arms), 2)


def draw_intervals(
    panel: "Axes",
    arms: list[str],
    estimates: dict[str, Estimate],
    scale: float,
    colours: dict[str, str],
    reference: float = 0,
) -> str:
    """Draw each arm's estimate as a point with its interval, the first arm on top.

    Args:
        panel: where to draw.
        arms: the arms, each a line of the panel.
        estimates: arm -> estimate; an arm without one gets a dash.
        scale: the factor of all values, 100 for %.
        colours: arm -> colour.
        reference: position of a second vertical line, beside that at 0, in scaled values.

    Returns:
        Text to add to the label of the x axis: a remark that long intervals are cut, or "".
    """
    # Points and intervals.
    for y, arm in enumerate(arms):
        share = estimates.get(arm)
        if share is None or share["value"] is None:
            text = "–" if share is None else "refused"
            panel.text(0.5, y, text, transform=panel.get_yaxis_transform(), **REFUSED_TEXT)
            continue
        panel.plot(scale * share["value"], y, "o", color=colours[arm], markersize=4)
        if share["low"] is not None and share["high"] is not None:
            ends = [scale * share["low"], scale * share["high"]]
            panel.plot(ends, [y, y], color=colours[arm], linewidth=1.4)

    # Axes.
    panel.set_yticks(range(len(arms)), [plot_label(arm) for arm in arms])
    panel.set_ylim(max(len(arms), 1) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines["left"].set_visible(False)
    panel.axvline(0, color="#222222", linewidth=0.8, zorder=0)
    if reference:
        panel.axvline(reference, color=COLOURS[NATURAL], linewidth=1, linestyle="--", zorder=0)

    drawn = [estimates[arm] for arm in arms if arm in estimates]
    return limit_x_axis(panel, drawn, scale, reference)


def limit_x_axis(panel: "Axes", estimates: list[Estimate], scale: float, reference: float) -> str:
    """Limit the x axis to the span of the points and as much on each side.

    Return the text to add to the label of the axis; see `draw_intervals`.
    """
    values = [scale * e["value"] for e in estimates if e["value"] is not None]
    if not values:
        return ""

    points = [*values, 0.0, reference]
    span = (max(points) - min(points)) or 1.0
    low, high = panel.get_xlim()
    new_low = max(low, min(points) - span)
    new_high = min(high, max(points) + span)
    panel.set_xlim(new_low, new_high)

    ends = [scale * end for e in estimates for end in (e["low"], e["high"]) if end is not None]
    if ends and (min(ends) < new_low or max(ends) > new_high):
        return "\n(long intervals are cut)"
    return ""


# --- The matrix of gains --------------------------------------------------------------------------


def draw_heat_map(matrix: GainMatrix) -> "Figure":
    """Return a heat map of gains: a row for each arm, a column for each task and for the mean."""
    from matplotlib.figure import Figure

    arms = list(matrix["gains"])
    tasks = list(matrix["gains"][arms[0]])
    values = np.array([matrix_row(matrix, arm, tasks) for arm in arms])  # [arms, tasks + 1]

    # The strongest colour is that of the largest gain, within 1 and 200.
    limit = float(np.nanmax(np.abs(values), initial=1.0))
    limit = min(limit, 200.0)

    size = (1.6 + 0.62 * (len(tasks) + 1), 1.1 + 0.3 * len(arms))
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()
    panel.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    columns = [*(plot_label(task) for task in tasks), "mean"]
    panel.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    panel.set_yticks(range(len(arms)), [plot_label(arm) for arm in arms])
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.0f}"
        colour = "white" if abs(value) > 0.6 * limit else "black"  # legible on a dark field
        panel.text(column, row, text, ha="center", va="center", color=colour)
    panel.set_title(f"Gain, {matrix['unit']}")
    return figure
