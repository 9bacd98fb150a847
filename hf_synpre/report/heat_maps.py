"""Heat maps of a report: the gains of arms on tasks, with their intervals.

Matplotlib is imported only when something is drawn.
"""

from typing import TYPE_CHECKING

import numpy as np

from hf_synpre.report.figures import plot_label, set_title
from hf_synpre.report.intervals import excludes_zero
from hf_synpre.report.schema import Estimate, GainMatrix
from hf_synpre.report.transfer import matrix_columns, matrix_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_heat_map(matrix: GainMatrix) -> "Figure":
    """Return a heat map of gains: a row for each arm, a column for each task and for the mean.

    A gain is coloured only where its interval excludes zero; its interval stands below it.
    """
    from matplotlib.figure import Figure

    arms, (tasks, columns) = list(matrix["gains"]), matrix_columns(matrix)
    estimates = [matrix_row(matrix, arm, tasks) for arm in arms]
    scale = matrix["scale"]

    # Colours: NaN, which is white, where the interval includes zero or there is none.
    colours = np.full((len(arms), len(columns)), np.nan)
    for (row, column), _ in np.ndenumerate(colours):
        estimate = estimates[row][column]
        if estimate is not None and estimate["value"] is not None and excludes_zero(estimate):
            colours[row, column] = scale * estimate["value"]
    limit = 1.0
    if not np.isnan(colours).all():
        limit = min(max(float(np.nanmax(np.abs(colours))), 1.0), 200.0)

    names = max(len(plot_label(arm)) for arm in arms)
    size = (0.4 + 0.07 * names + 0.88 * len(columns), 1.5 + 0.36 * len(arms))
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()
    x_ends, y_ends = np.arange(len(columns) + 1) - 0.5, np.arange(len(arms) + 1) - 0.5
    fields = np.ma.masked_invalid(colours)  # [arms, columns]
    panel.pcolormesh(x_ends, y_ends, fields, cmap="RdBu", vmin=-limit, vmax=limit)
    panel.invert_yaxis()
    panel.set_xticks(range(len(columns)), map(plot_label, columns), rotation=40, ha="right")
    panel.set_yticks(range(len(arms)), map(plot_label, arms))
    panel.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    panel.set_yticks(np.arange(len(arms) - 1) + 0.5, minor=True)
    panel.grid(which="minor", color="#DDDDDD", linewidth=0.5)
    panel.tick_params(which="both", length=0)
    for (row, column), strength in np.ndenumerate(colours):
        dark = abs(strength) > 0.6 * limit  # False for NaN
        write_gain(panel, column, row, estimates[row][column], scale, "white" if dark else "black")
    set_title(
        figure,
        f"Gain, {matrix['unit']}",
        "coloured where the 95 % interval, in brackets, excludes zero; not corrected for the "
        "number of comparisons",
    )
    return figure


def write_gain(
    panel: "Axes", x: int, y: int, estimate: Estimate | None, scale: float, color: str
) -> None:
    """Write a gain and its interval into a field of the heat map."""
    if estimate is None or estimate["value"] is None:
        panel.text(x, y, "–", ha="center", va="center", color="#777777")
        return
    if not excludes_zero(estimate):
        color = "#555555"
    text = short_gain(scale * estimate["value"])
    if estimate["low"] is None or estimate["high"] is None:
        panel.text(x, y, text, ha="center", va="center", color=color)
        return
    low, high = short_gain(scale * estimate["low"]), short_gain(scale * estimate["high"])
    interval = f"[{low}, {high}]"
    panel.text(x, y - 0.16, text, ha="center", va="center", color=color)
    panel.text(x, y + 0.24, interval, ha="center", va="center", color=color, fontsize=5.5)


def short_gain(value: float) -> str:
    """Write a gain with its sign, with one digit after the point below 10."""
    return f"{value:+z.1f}" if abs(value) < 9.95 else f"{value:+.0f}"
