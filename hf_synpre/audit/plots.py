"""The numbers of an audit -> its plots as the bytes of PNG and SVG files, one for each finding."""

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_synpre.audit.schema import LawAudit, Plot, RowAudit
from hf_synpre.report.escapes import short_name
from hf_synpre.report.figures import COLOURS, SPARE_COLOURS, STYLE, set_title
from hf_synpre.report.plots import FORMATS, image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORDER = (*list(COLOURS.values())[1:], *SPARE_COLOURS)
DASHES = ("-", "--", "-.", ":")
SIZE = (5.4, 3.0)  # inches
BARS_WIDTH = 0.8  # of all bars at one place
# The name of the plot of rows.
ROWS = "rows"


def draw_audit(audit: LawAudit | RowAudit) -> dict[str, bytes]:
    """Return the plots of an audit as file name -> bytes, each as PNG and as SVG."""
    import matplotlib

    if "findings" in audit:
        plots = {
            finding["name"]: (finding["title"], finding["plot"]) for finding in audit["findings"]
        }
    else:
        title = f"{short_name(audit['data'])}: what zlib makes of its rows"
        plots = {ROWS: (title, compression_plot(audit))}

    files: dict[str, bytes] = {}
    with matplotlib.rc_context(STYLE):
        for name, (title, plot) in plots.items():
            figure = draw(title, plot)
            files |= {f"{name}.{form}": image(figure, form) for form in FORMATS}
    return files


def compression_plot(audit: RowAudit) -> Plot:
    """Return the plot of the rows' compression, beside that of noise."""
    places, ratios, noise = [], [], []
    for name, split in audit["splits"].items():
        for part, figures in split["parts"].items():
            if figures["compressed"] is None or figures["compressed_noise"] is None:
                continue
            places.append(f"{short_name(name)}\n{part}")
            ratios.append(figures["compressed"])
            noise.append(figures["compressed_noise"])
    return {
        "form": "bars",
        "x": places,
        "series": {"rows": ratios, "uniform noise of as many different tokens": noise},
        "x_label": "",
        "y_label": "bytes after / before",
    }


def draw(title: str, plot: Plot) -> "Figure":
    """Return the figure of a plot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    if plot["form"] == "lines":
        draw_lines(axes, plot)
    else:
        draw_bars(axes, plot)
    axes.set(xlabel=plot["x_label"], ylabel=plot["y_label"])
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    axes.set_axisbelow(True)

    if "reference" in plot:
        value, what = plot["reference"]
        axes.axhline(value, color="#222222", linewidth=0.8, linestyle=":", label=what)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    set_title(figure, title)
    return figure


def draw_lines(axes: "Axes", plot: Plot) -> None:
    """Draw a line for each series."""
    for number, (name, values) in enumerate(plot["series"].items()):
        style: dict[str, Any] = {"color": ORDER[number], "linestyle": DASHES[number % len(DASHES)]}
        axes.plot(plot["x"], np.array(values, float), linewidth=1.4, label=name, **style)
    # Powers of ten are written out: STYLE takes no formula in a text.
    if plot.get("log_x"):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    if plot.get("log_y"):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")


def draw_bars(axes: "Axes", plot: Plot) -> None:
    """Draw a group of bars at each place, a bar for each series; lone bars with their values."""
    places = np.arange(len(plot["x"]))
    width = BARS_WIDTH / len(plot["series"])
    for number, (name, values) in enumerate(plot["series"].items()):
        shift = (number + 0.5) * width - BARS_WIDTH / 2
        heights = np.array(values, float)  # None, which is not drawn, becomes NaN
        bars = axes.bar(places + shift, heights, 0.9 * width, color=ORDER[number], label=name)
        if len(plot["series"]) == 1:
            axes.bar_label(bars, fmt="{:.3g}")
    axes.set_xticks(places, [str(label) for label in plot["x"]])
