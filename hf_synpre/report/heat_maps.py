"""Heat maps of a report: the gains of arms on tasks, with their intervals.

Matplotlib is imported only when something is drawn.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hf_synpre.report.figures import plot_label, set_title
from hf_synpre.report.intervals import excludes_zero
from hf_synpre.report.schema import RANDOM, Estimate, GainMatrix, Report
from hf_synpre.report.transfer import matrix_columns, matrix_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# With so many arms beside random the differences to it are a heat map, which intervals side by side
# are no more.
MANY_ARMS = 8
# Of so many intervals one excludes zero where there is no difference.
ONE_BY_CHANCE = 20


class Column(NamedTuple):
    """A column of a heat map."""

    name: str
    estimates: list[Estimate | None]  # one for each row
    scale: float  # the factor of all values, 100 for %
    limit: float  # the scaled value of the darkest colour
    sign: int = 1  # -1 where lower is better; blue is better


def draw_heat_map(matrix: GainMatrix) -> "Figure":
    """Return a heat map of gains: a row for each arm, a column for each task and for the mean.

    A gain is coloured only where its interval excludes zero; its interval stands below it.
    """
    arms, (tasks, names) = list(matrix["gains"]), matrix_columns(matrix)
    rows = [matrix_row(matrix, arm, tasks) for arm in arms]
    scale = matrix["scale"]
    limit = max((darkest([*row[: len(names)]], scale) for row in rows), default=0.0)
    limit = min(max(limit, 1.0), 200.0)
    columns = [
        Column(name, [row[number] for row in rows], scale, limit)
        for number, name in enumerate(names)
    ]
    return draw_columns(
        arms,
        columns,
        f"Gain, {matrix['unit']}",
        "coloured where the 95 % interval, in brackets, excludes zero; not corrected for the "
        "number of comparisons",
    )


def draw_difference_map(report: Report) -> "Figure | None":
    """Return a heat map of the differences to random; None for few arms or one task.

    The arms are sorted by the mean over tasks of their difference, in units of the largest one on
    each task. Each column has its own colours, because tasks differ in how much any start gives.
    """
    columns, arms = difference_columns(report)
    if len(columns) < 2 or len(arms) < MANY_ARMS or "transfer" in report:
        return None
    found, count = count_beyond_chance(report)
    remark = (
        "coloured where the 95 % interval, in brackets, excludes zero: "
        f"{found} of {count}; about {expected_by_chance(count)} would where nothing differs"
    )
    if not count:
        remark = "no difference has an interval, so none is coloured"
    title = "Score difference to random; colours are scaled by task"
    return draw_columns(arms, columns, title, remark)


def difference_columns(report: Report) -> tuple[list[Column], list[str]]:
    """Return a column for each task with differences to random, and the arms, the best first."""
    arms = [arm for arm in report["arms"] if arm != RANDOM]
    columns = []
    for task, differences in report["differences"].items():
        if not differences:
            continue
        summary = report["tasks"][task]
        scale = 100.0 if summary["unit"] == "%" else 1.0
        estimates = [differences.get(arm) for arm in arms]
        known = [abs(one["value"]) for one in estimates if one and one["value"] is not None]
        largest = scale * max(known, default=0.0)
        sign = 1 if summary["higher_is_better"] else -1
        columns.append(Column(task, estimates, scale, largest or 1.0, sign))

    # The mean gain of an arm over the tasks on which it is known.
    means = []
    for row in range(len(arms)):
        gains = []
        for column in columns:
            estimate = column.estimates[row]
            if estimate is not None and estimate["value"] is not None:
                gains.append(column.sign * column.scale * estimate["value"] / column.limit)
        means.append(sum(gains) / len(gains) if gains else -np.inf)
    order = sorted(range(len(arms)), key=lambda row: -means[row])
    columns = [
        column._replace(estimates=[column.estimates[row] for row in order]) for column in columns
    ]
    return columns, [arms[row] for row in order]


def count_beyond_chance(report: Report) -> tuple[int, int]:
    """Return how many differences to random have an interval without zero, and how many one."""
    estimates = [one for of_task in report["differences"].values() for one in of_task.values()]
    return sum(map(excludes_zero, estimates)), sum(one["low"] is not None for one in estimates)


def expected_by_chance(count: int) -> int:
    """Return how many of some 95 % intervals exclude zero where nothing differs, rounded."""
    return round(count / ONE_BY_CHANCE)


# --- Drawing --------------------------------------------------------------------------------------


def darkest(estimates: list[Estimate | None], scale: float) -> float:
    """Return the largest scaled value of estimates whose interval excludes zero, 0 without any."""
    return max(
        (scale * abs(one["value"] or 0.0) for one in estimates if one and excludes_zero(one)),
        default=0.0,
    )


def field_colours(columns: list[Column], rows: int) -> np.ndarray:
    """Return the colour of each field, [rows, columns]: -1 to 1 of the darkest of its column.

    NaN, which is white, stands where there is no interval without zero.
    """
    colours = np.full((rows, len(columns)), np.nan)
    for (row, number), _ in np.ndenumerate(colours):
        column = columns[number]
        estimate = column.estimates[row]
        if estimate is not None and estimate["value"] is not None and excludes_zero(estimate):
            colours[row, number] = column.sign * column.scale * estimate["value"] / column.limit
    return colours


def draw_columns(arms: list[str], columns: list[Column], title: str, remark: str) -> "Figure":
    """Return a heat map: a row for each arm; fields whose interval includes zero stay white.

    Args:
        arms: the names of the rows.
        columns: the columns, with an estimate for each arm.
        title: the title of the figure.
        remark: what stands below it.
    """
    from matplotlib.figure import Figure

    # The fields, in a figure of the size that names and numbers need.
    colours = field_colours(columns, len(arms))
    names = max(len(plot_label(arm)) for arm in arms)
    size = (0.4 + 0.07 * names + 0.88 * len(columns), 1.5 + 0.36 * len(arms))
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.subplots()
    x_ends, y_ends = np.arange(len(columns) + 1) - 0.5, np.arange(len(arms) + 1) - 0.5
    fields = np.ma.masked_invalid(colours)  # [arms, columns]
    panel.pcolormesh(x_ends, y_ends, fields, cmap="RdBu", vmin=-1, vmax=1)
    panel.invert_yaxis()

    # Names at both sides, and lines between the fields.
    labels = [plot_label(column.name) for column in columns]
    panel.set_xticks(range(len(columns)), labels, rotation=40, ha="right")
    panel.set_yticks(range(len(arms)), map(plot_label, arms))
    panel.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    panel.set_yticks(np.arange(len(arms) - 1) + 0.5, minor=True)
    panel.grid(which="minor", color="#DDDDDD", linewidth=0.5)
    panel.tick_params(which="both", length=0)

    # The numbers.
    for (row, number), strength in np.ndenumerate(colours):
        column = columns[number]
        color = "white" if abs(strength) > 0.6 else "black"  # black for NaN
        write_gain(panel, number, row, column.estimates[row], column.scale, color)
    set_title(figure, title, remark)
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
    text = short_gain(estimate["value"], scale)
    if estimate["low"] is None or estimate["high"] is None:
        panel.text(x, y, text, ha="center", va="center", color=color)
        return
    interval = f"[{short_gain(estimate['low'], scale)}, {short_gain(estimate['high'], scale)}]"
    panel.text(x, y - 0.16, text, ha="center", va="center", color=color)
    panel.text(x, y + 0.24, interval, ha="center", va="center", color=color, fontsize=5.5)


def short_gain(value: float, scale: float) -> str:
    """Write a gain times a scale with its sign: in % with one digit below 10, others with two."""
    value *= scale
    if scale == 1 and abs(value) < 9.995:
        return f"{value:+z.2f}"
    return f"{value:+z.1f}" if abs(value) < 9.95 else f"{value:+.0f}"
