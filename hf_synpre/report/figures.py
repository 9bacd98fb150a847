"""What all plots of a report share: panels, the look of arms, titles and labels.

Matplotlib is imported only when something is drawn.
"""

import math
import textwrap
from typing import TYPE_CHECKING, NamedTuple

from hf_synpre.report.escapes import short_name
from hf_synpre.report.schema import NATURAL, RANDOM, Report, TaskSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of the usual arms; other arms take the spare ones in turn (Okabe & Ito 2008, which colour-
# blind readers tell apart). Markers and dashes tell arms apart in grey too.
COLOURS = {
    RANDOM: "#000000",
    NATURAL: "#0072B2",
    "synthetic": "#D55E00",
    "statistics": "#009E73",
    "self": "#CC79A7",
}
SPARE_COLOURS = ("#E69F00", "#56B4E9", "#7F7F7F", "#8C510A", "#5D3A9B", "#999933", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
DASHES = ("-", "--", "-.", ":")
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
# Sizes of a panel in inches; a single panel is wider.
LONE_WIDTH, PANEL_WIDTH, CURVE_HEIGHT = 4.4, 2.5, 2.2
LETTERS_PER_INCH = 15  # of text of the usual size, on the safe side


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
    size = (width * columns, height * rows + 0.7)  # 0.7 for the title and the legend
    figure = Figure(figsize=size, layout="constrained")
    panels = [*figure.subplots(rows, columns, squeeze=False, sharey=share_y).flat]
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


class ArmStyle(NamedTuple):
    """How an arm is drawn."""

    color: str
    marker: str
    linestyle: str


def arm_styles(report: Report) -> dict[str, ArmStyle]:
    """Return arm -> how it is drawn, the same in all plots of a report."""
    others = [arm for arm in report["arms"] if arm not in COLOURS]
    styles = {}
    for i, arm in enumerate(report["arms"]):
        color, dash = COLOURS.get(arm), "-"
        if color is None:
            turn, place = divmod(others.index(arm), len(SPARE_COLOURS))
            color, dash = SPARE_COLOURS[place], DASHES[(turn + 1) % len(DASHES)]
        styles[arm] = ArmStyle(color, MARKERS[i % len(MARKERS)], dash)
    return styles


def set_title(figure: "Figure", title: str, *remarks: str) -> None:
    """Write the title of a figure, with remarks below it, wrapped to the figure's width."""
    letters = int(figure.get_figwidth() * LETTERS_PER_INCH)
    lines = [line for text in (title, *remarks) for line in textwrap.wrap(text, letters)]
    figure.suptitle("\n".join(lines))


def plot_label(name: str) -> str:
    """Return a name as a plot shows it; matplotlib hides labels that begin with "_"."""
    label = short_name(name)
    return f" {label}" if label.startswith("_") else label


def axis_label(task: TaskSummary, metric: str | None, what: str = "") -> str:
    """Return the label of an axis that shows scores of a task; `what` comes before the metric."""
    label = what + short_name(metric or "").replace("_", " ")
    if task["unit"] == "%":
        label += " (points)" if what else " (%)"
    label = "\n".join(textwrap.wrap(label, 34 if what else 26))  # x axes have more room
    if task["higher_is_better"] is False:
        label += "\nlower is better"
    return label
