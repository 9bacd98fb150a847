"""The parameters of a checkpoint with their roles -> plots of their means and deviations."""

import base64
import math
import warnings
from collections import Counter, defaultdict
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from hf_synpre.initialization import ROLES, Moments, pool
from hf_synpre.report.figures import MARKERS, STYLE, plot_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Stacks of layers that have a panel, and groups that have a colour; the others share "other".
MOST_STACKS = 4
MOST_GROUPS = 12

OUTSIDE = "outside the layers"
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#5D3A9B", "#8C510A", "#000000", "#999933", "#7F7F7F", "#882255"),
)
# Below this a logarithmic axis is linear: deviations may be 0, and means have a sign.
LINEAR = {"sd": 1e-4, "mean": 1e-2}
MOST_TICKS = 7
LABELS = {"sd": "standard deviation", "mean": "mean"}


class Tensor(NamedTuple):
    """One parameter of a checkpoint."""

    name: str
    role: str
    stack: str  # the stack of layers, OUTSIDE for none
    layer: int | None
    bias: bool
    moments: Moments


def plots(tensors: list[Tensor]) -> str:
    """Return both plots as HTML: by role, and by layer where there are layers."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        drawn = image(plot_roles(tensors), "Mean and standard deviation of each tensor, by role")
        if stacks_of(tensors):
            drawn += image(plot_layers(tensors), "Mean and standard deviation by layer")
        return f'<div class="plots">{drawn}</div>'


def image(figure: Figure, text: str) -> str:
    """Return a figure as an image within HTML."""
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="plot" alt="{text}" src="data:image/svg+xml;base64,{content}">'


def colours(tensors: list[Tensor]) -> dict[str, str]:
    """Return role -> colour, in the order of the roles."""
    present = {tensor.role for tensor in tensors}
    roles = [role for role in ROLES if role in present] + sorted(present.difference(ROLES))
    return {role: COLOURS[i % len(COLOURS)] for i, role in enumerate(roles)}


def stacks_of(tensors: list[Tensor]) -> list[str]:
    """Return the stacks of layers, the largest MOST_STACKS of them, encoders first."""
    counts = Counter(tensor.stack for tensor in tensors if tensor.layer is not None)
    largest = [stack for stack, _ in counts.most_common(MOST_STACKS)]
    return sorted(largest, key=lambda stack: ("encoder" not in stack, stack))


def plot_roles(tensors: list[Tensor]) -> Figure:
    """Return a panel of deviations and one of means: a line for each role, a point for each tensor.

    The marker tells the stack of layers; biases are hollow.
    """
    roles, stacks = colours(tensors), stacks_of(tensors)
    figure = Figure(figsize=(7, 1.5 + 0.24 * len(roles)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw_points(left, tensors, "sd")
    draw_points(right, tensors, "mean")
    left.set_yticks(range(len(roles)), [plot_label(role) for role in roles])
    left.set_ylim(len(roles) - 0.5, -0.5)

    markers = [Line2D([], [], color="#555555", marker=m, ls="", ms=4) for m in MARKERS]
    handles, labels = markers[: len(stacks)], [plot_label(stack) for stack in stacks]
    if any(tensor.layer is None for tensor in tensors):
        handles.append(markers[len(stacks)])
        labels.append(OUTSIDE)
    if any(tensor.bias for tensor in tensors):
        handles.append(Line2D([], [], color="#555555", marker="o", ls="", ms=4, mfc="none"))
        labels.append("bias (hollow)")
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle("One point for each tensor, by role")
    return figure


def draw_points(panel: "Axes", tensors: list[Tensor], moment: str) -> None:
    """Draw a point for each tensor, its role as height; stacks lie side by side on the line."""
    roles, places = colours(tensors), [*stacks_of(tensors), OUTSIDE]
    lines = {role: y for y, role in enumerate(roles)}
    series = defaultdict(list)  # (role, place, bias) -> values
    for tensor in tensors:
        place = places.index(tensor.stack) if tensor.stack in places else len(places) - 1
        series[tensor.role, place, tensor.bias].append(getattr(tensor.moments, moment))
    for (role, place, bias), values in series.items():
        height = lines[role] + 0.5 * ((place + 0.5) / len(places) - 0.5)
        color = roles[role]
        panel.plot(
            values,
            [height] * len(values),
            MARKERS[place],
            color=color,
            markerfacecolor="none" if bias else color,
            markersize=4,
            alpha=0.75,
        )
    panel.set_xscale("symlog", linthresh=LINEAR[moment])
    panel.set_xlabel(LABELS[moment])
    panel.tick_params(axis="y", length=0)
    panel.grid(color="#E6E6E6", linewidth=0.6)
    panel.set_axisbelow(True)
    plain_ticks(panel.xaxis)


def plot_layers(tensors: list[Tensor]) -> Figure:
    """Return panels over the layers, a column for each stack: deviations above, means below.

    A line is a role: its weights in a layer taken together, without biases.
    """
    stacks = stacks_of(tensors)
    weights = [t for t in tensors if t.layer is not None and t.stack in stacks and not t.bias]
    present = {tensor.role for tensor in weights}
    roles = {role: color for role, color in colours(tensors).items() if role in present}
    size = (max(4.4, 3.5 * len(stacks)), 4.6 + 0.12 * len(roles))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(2, len(stacks), squeeze=False, sharex="col", sharey="row")
    for column, stack in enumerate(stacks):
        for row, moment in enumerate(("sd", "mean")):
            panel = panels[row, column]
            for i, (role, color) in enumerate(roles.items()):
                layers, values = by_layer(weights, stack, role, moment)
                panel.plot(layers, values, MARKERS[i % len(MARKERS)], ls="-", color=color, ms=4)
            panel.set_yscale("symlog", linthresh=LINEAR[moment])
            panel.grid(color="#E6E6E6", linewidth=0.6)
            panel.set_axisbelow(True)
            plain_ticks(panel.yaxis)
        panels[0, column].set_title(plot_label(stack))
        panels[1, column].set_xlabel("layer")
        panels[1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0, 0].set_ylabel(LABELS["sd"])
    panels[1, 0].set_ylabel(LABELS["mean"])

    handles = [
        Line2D([], [], color=color, marker=MARKERS[i % len(MARKERS)], ms=4)
        for i, color in enumerate(roles.values())
    ]
    names = [plot_label(role) for role in roles]
    figure.legend(handles, names, loc="outside lower center", ncols=2 if len(stacks) == 1 else 4)
    figure.suptitle("All weights of a role in a layer together, without biases")
    return figure


def by_layer(
    tensors: list[Tensor], stack: str, role: str, moment: str
) -> tuple[list[int], list[float]]:
    """Return the layers of a stack that have a role, and the role's mean or deviation in each."""
    parts = defaultdict(list)
    for tensor in tensors:
        if tensor.stack == stack and tensor.role == role and tensor.layer is not None:
            parts[tensor.layer].append(tensor.moments)
    layers = sorted(parts)
    pooled = [pool(parts[layer]) for layer in layers]
    return layers, [mean if moment == "mean" else sd for mean, sd in pooled]


def plain_ticks(axis: "Axis") -> None:
    """Write the numbers of a logarithmic axis plainly, and not more than there is room for."""
    low, high = sorted(axis.get_view_interval())
    shown = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
    step = math.ceil(len(shown) / MOST_TICKS) or 1
    axis.set_major_locator(FixedLocator(shown[::step]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
