"""The numbers of a report -> its plots as the bytes of PNG and SVG files.

Equal reports give equal bytes. Matplotlib is imported only when something is drawn.
"""

import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

from hf_synpre.report.cells import ABSENT
from hf_synpre.report.curve_plots import draw_compute, draw_curves, draw_tokens
from hf_synpre.report.figures import (
    COLOURS,
    STYLE,
    ArmStyle,
    arm_styles,
    axis_label,
    panel_grid,
    plot_label,
    set_title,
)
from hf_synpre.report.heat_maps import draw_difference_map, draw_heat_map
from hf_synpre.report.render import is_absent
from hf_synpre.report.schema import (
    NATURAL,
    RANDOM,
    Estimate,
    Report,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFUSED_TEXT: dict[str, Any] = {
    "ha": "center",
    "va": "center",
    "color": "#777777",
    "style": "italic",
    "fontsize": 7,
}
POINT = "point: mean; line: 95 % interval"
FORMATS = ("png", "svg")
PLOT_FILES = [
    f"{name}.{form}"
    for name in ("curves", "compute", "benefit", "differences", "gains", "tokens")
    for form in FORMATS
]
# Dots per inch, and dots of the longest side of a PNG: figures of very many tasks have fewer.
DPI, MOST_PIXELS = 300, 10_000
# Tasks of a plot; nobody tells the panels of more apart.
MOST_TASKS = 30


def draw_plots(report: Report) -> dict[str, bytes]:
    """Return the plots of a report as file name -> bytes.

    Args:
        report: the content of report.json.

    Returns:
        curves, compute and benefit as PNG and SVG; differences for a report of many arms, gains for
        one with a matrix of gains, tokens for one with several natural arms; without those for
        which the report has no numbers.
    """
    import matplotlib

    left_out = max(len(report["tasks"]) - MOST_TASKS, 0)
    report = first_tasks(report, MOST_TASKS)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Letters that matplotlib's font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matrix = report["transfer"]["matrix"] if "transfer" in report else None
        drawings = {
            "curves": lambda: draw_curves(report),
            "tokens": lambda: draw_tokens(report),
            "compute": lambda: draw_compute(report),
            "benefit": lambda: draw_benefits(report) or draw_differences(report),
            "differences": lambda: draw_difference_map(report),
            "gains": lambda: draw_heat_map(matrix) if matrix and matrix["gains"] else None,
        }

        # One figure at a time is in memory: that of many tasks is large.
        files: dict[str, bytes] = {}
        for name, draw in drawings.items():
            figure = draw()
            if figure is not None and left_out:
                figure.suptitle(f"{figure.get_suptitle()}\n{left_out} more tasks are not drawn")
            if figure is not None:
                files |= {f"{name}.{form}": image(figure, form) for form in FORMATS}
        return files


def first_tasks(report: Report, count: int) -> Report:
    """Return a report of the first tasks alone, as far as plots read it."""
    tasks = list(report["tasks"])[:count]

    def cut(by_task: dict[str, Any]) -> dict[str, Any]:
        return {task: by_task[task] for task in tasks if task in by_task}

    first: Any = dict(report)
    for key in ("tasks", "scores", "differences", "curves", "compute"):
        first[key] = cut(first[key])
    first["benefits"] = {
        arm: {**benefit, "tasks": cut(benefit["tasks"])}
        for arm, benefit in report["benefits"].items()
    }
    if "transfer" in report:
        matrix = report["transfer"]["matrix"]
        gains = {arm: cut(row) for arm, row in matrix["gains"].items()}
        first["transfer"] = {**report["transfer"], "matrix": {**matrix, "gains": gains}}
    return first


def image(figure: "Figure", file_format: str) -> bytes:
    """Return a figure as the bytes of a PNG or SVG file, without the current date."""
    metadata = {"Date": None} if file_format == "svg" else None
    longest_side = max(figure.get_size_inches())
    buffer = BytesIO()
    figure.savefig(
        buffer, format=file_format, dpi=min(DPI, MOST_PIXELS / longest_side), metadata=metadata
    )
    return buffer.getvalue()


# --- Benefits and differences ---------------------------------------------------------------------


def draw_benefits(report: Report) -> "Figure | None":
    """Return a panel for each task and each mean over tasks: shares of the reference arm's gain.

    A panel that is refused for most of its arms is left out. None if fewer than half of the tasks
    are left; `draw_differences` shows them then.
    """
    arms, benefits = list(report["benefits"]), report["benefits"]
    shares = {task: {arm: benefits[arm]["tasks"][task] for arm in arms} for task in report["tasks"]}
    groups = {task: group for task, group in shares.items() if mostly_known(group)}
    if not groups or 2 * len(groups) < len(shares):
        return None

    means = {}
    if len(shares) > 1:
        means["mean of ratios"] = {arm: benefits[arm]["mean_of_ratios"] for arm in arms}
        means["ratio of means"] = {arm: benefits[arm]["ratio_of_means"] for arm in arms}
    groups |= {name: group for name, group in means.items() if mostly_known(group)}

    natural = plot_label(report["reference"])
    figure, panels = panel_grid(len(groups), intervals_height(arms), share_y=True)
    styles = arm_styles(report)
    for panel, (name, group) in zip(panels, groups.items(), strict=True):
        cut = draw_intervals(panel, arms, group, 100, styles, reference=100)
        panel.set_title(plot_label(name), fontweight="bold" if name in means else None)
        panel.set_xlabel(f"%{cut}")

    remarks = [POINT]
    estimates = [share for group in groups.values() for share in group.values()]
    if all(share["low"] is None for share in estimates):
        remarks = ["one seed: no intervals"]
    refused = [name for name in (*shares, *means) if name not in groups]
    if refused:
        remarks.append(
            f"not drawn, as refused for most arms: {', '.join(map(plot_label, refused))}"
        )
    title = f"Benefit: share of {natural}'s gain over random"
    set_title(figure, title, f"0 % is random, 100 % is {natural}", *remarks)
    return figure


def mostly_known(estimates: dict[str, Estimate]) -> bool:
    """Say whether at least half of the estimates that are not absent have a value."""
    present = [
        estimate
        for estimate in estimates.values()
        if not (estimate["note"] or "").startswith(ABSENT)
    ]
    known = [estimate for estimate in present if estimate["value"] is not None]
    return bool(known) and 2 * len(known) >= len(present)


def draw_differences(report: Report) -> "Figure | None":
    """Return a panel for each task: the arms' differences to random. None if there are none.

    The title says why there is no benefit to draw.
    """
    rows = {task: row for task, row in report["differences"].items() if row}
    if not rows:
        return None

    arms = [arm for arm in report["arms"] if any(arm in row for row in rows.values())]
    figure, panels = panel_grid(len(rows), intervals_height(arms), share_y=True)
    styles = arm_styles(report)
    for panel, (task, row) in zip(panels, rows.items(), strict=True):
        summary = report["tasks"][task]
        scale = 100 if summary["unit"] == "%" else 1
        cut = draw_intervals(panel, arms, row, scale, styles)
        label = axis_label(summary, summary["metric"], "difference in ")
        panel.set(title=plot_label(task), xlabel=label + cut)
    set_title(figure, "Score difference to random", POINT, why_no_benefit(report))
    return figure


def why_no_benefit(report: Report) -> str:
    """Return, in brackets, why a report has no benefit to draw."""
    if not report["benefits"]:
        return f"(no benefit: no arm besides random and {plot_label(report['reference'])})"
    compared = (RANDOM, report["reference"])
    missing = [f"'{arm}'" for arm in compared if arm not in report["arms"]]
    if missing:
        return f"(no benefit: no arm {' or '.join(missing)})"

    shares = [
        share for benefit in report["benefits"].values() for share in benefit["tasks"].values()
    ]
    notes = {str(share["note"]) for share in shares if share["value"] is None}
    reasons = [note for note in sorted(notes) if not note.startswith(ABSENT)]
    return f"(benefit refused on most tasks: {'; '.join(reasons)})"


def intervals_height(arms: list[str]) -> float:
    """Return the height in inches of a panel with an interval an arm."""
    return 0.9 + 0.17 * max(len(arms), 2)


def draw_intervals(
    panel: "Axes",
    arms: list[str],
    estimates: dict[str, Estimate],
    scale: float,
    styles: dict[str, ArmStyle],
    reference: float = 0,
) -> str:
    """Draw each arm's estimate as a point with its interval, the first arm on top.

    Args:
        panel: where to draw.
        arms: the arms, each a line of the panel.
        estimates: arm -> estimate; an arm without one gets a dash.
        scale: the factor of all values, 100 for %.
        styles: arm -> how it is drawn.
        reference: position of a second vertical line, beside that at 0, in scaled values, for
            ratios; their long intervals are cut.

    Returns:
        Text to add to the label of the x axis: a remark that long intervals are cut, or "".
    """
    # Points and intervals.
    for y, arm in enumerate(arms):
        share = estimates.get(arm)
        if share is None or share["value"] is None:
            text = "–" if is_absent(share) else "refused"
            panel.text(0.5, y, text, transform=panel.get_yaxis_transform(), **REFUSED_TEXT)
            continue
        style = styles[arm]
        panel.plot(scale * share["value"], y, style.marker, color=style.color, markersize=4)
        if share["low"] is not None and share["high"] is not None:
            ends = [scale * share["low"], scale * share["high"]]
            panel.plot(ends, [y, y], color=style.color, linewidth=1.4)

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

    # Intervals of ratios have long tails.
    if not reference:
        return ""
    drawn = [estimates[arm] for arm in arms if arm in estimates]
    return limit_x_axis(panel, drawn, scale, reference)


def limit_x_axis(panel: "Axes", estimates: list[Estimate], scale: float, reference: float) -> str:
    """Limit the x axis to the span of the points and twice as much on each side.

    Return the text to add to the label of the axis; see `draw_intervals`.
    """
    values = [scale * e["value"] for e in estimates if e["value"] is not None]
    if not values:
        return ""

    points = [*values, 0.0, reference]
    span = (max(points) - min(points)) or 1.0
    low, high = panel.get_xlim()
    new_low = max(low, min(points) - 2 * span)
    new_high = min(high, max(points) + 2 * span)
    panel.set_xlim(new_low, new_high)

    ends = [scale * end for e in estimates for end in (e["low"], e["high"]) if end is not None]
    if ends and (min(ends) < new_low or max(ends) > new_high):
        return "\n(long intervals are cut)"
    return ""
