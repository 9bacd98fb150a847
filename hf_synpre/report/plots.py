"""Layer 5: the three plots of a report, drawn from its dict alone. Matplotlib is imported only when they are drawn."""

import math
import textwrap
from io import BytesIO

import numpy as np

RANDOM, NATURAL = "random", "natural"
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
)  # Okabe & Ito, Tol
REFUSED_LOOK = {
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
    "svg.hashsalt": "hf_synpre",
}


def plots(report: dict) -> dict[str, bytes]:
    """Return curves, compute and benefit as {name.png and name.svg: bytes}; equal bytes for equal reports."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figures = {
            name: _curves(report, x) for name, x in (("curves", "step"), ("compute", "flops"))
        }
        figures["benefit"] = _benefits(report) or _differences(report)
        return {
            f"{name}.{kind}": image(figure, kind)
            for name, figure in figures.items()
            for kind in ("png", "svg")
        }


def image(figure, kind: str) -> bytes:
    """Return a figure as the bytes of a file."""
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=300, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _grid(n: int, width: float, height: float, columns: int = 3, **shared):
    """Return a figure of `n` panels (inches each) and the panels."""
    from matplotlib.figure import Figure

    columns = min(n, columns if n != 4 else 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.3), layout="constrained")
    panels = [*figure.subplots(rows, columns, squeeze=False, **shared).flat]
    for panel in panels[n:]:
        panel.set_axis_off()
    return figure, panels[:n]


def _colours(report: dict) -> dict[str, str]:
    others = [arm for arm in report["arms"] if arm not in COLOURS]
    return COLOURS | {arm: SPARE_COLOURS[i % len(SPARE_COLOURS)] for i, arm in enumerate(others)}


def _legend(figure, report: dict, panels: list) -> None:
    """Name each arm that is drawn once, below all panels, in the order of the report."""
    drawn = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    arms = [arm for arm in report["arms"] if arm in drawn]
    if arms:
        rows = math.ceil(
            sum(0.28 + 0.065 * len(arm) for arm in arms) / figure.get_figwidth()
        )  # inches, about
        look = {
            "ncols": math.ceil(len(arms) / rows),
            "handlelength": 1.2,
            "columnspacing": 1.0,
            "handletextpad": 0.5,
        }
        figure.legend([drawn[arm] for arm in arms], arms, loc="outside lower center", **look)


def _axis(facts: dict, what: str) -> str:
    unit = " (%)" if facts["unit"] == "%" else ""
    return f"{what}{facts['metric'] or ''}{unit}" + (
        "\nlower is better" if facts["higher_is_better"] is False else ""
    )


XLABELS = {"step": "fine-tuning step", "flops": "FLOPs, pre-training included"}


def _curves(report: dict, x: str):
    """One panel a task: validation score against `x`, a line and a band an arm."""
    figure, panels = _grid(len(report["tasks"]), 3.4 if len(report["tasks"]) == 1 else 2.4, 2.2)
    colours = _colours(report)
    for panel, (task, facts) in zip(panels, report["tasks"].items(), strict=True):
        scale = 100 if facts["unit"] == "%" else 1
        for arm, curve in report["curves"][task].items():
            if x in curve:
                mean, low, high = (
                    scale * np.array(curve[key], dtype=float) for key in ("mean", "low", "high")
                )
                panel.fill_between(curve[x], low, high, color=colours[arm], alpha=0.12, linewidth=0)
                panel.plot(
                    curve[x],
                    mean,
                    color=colours[arm],
                    linewidth=1.3,
                    label=arm,
                    zorder=2 + (arm in (RANDOM, NATURAL)),
                )
        panel.set(title=task, xlabel=XLABELS[x], ylabel=_axis(facts, "validation "))
        panel.margins(x=0.02)
        if facts["unit"] == "%":
            panel.set_ylim(max(panel.get_ylim()[0], 0), min(panel.get_ylim()[1], 100))
    _legend(figure, report, panels)
    return figure


def _benefits(report: dict):
    """A panel a task, and one a mean over tasks: share of natural's gain over random, an arm a line. None if all refused."""
    arms, tasks = [*report["benefits"]], [*report["tasks"]]
    means = (
        {"mean of ratios": "mean_of_ratios", "ratio of means": "ratio_of_means"}
        if len(tasks) > 1
        else {}
    )
    groups = {task: {arm: report["benefits"][arm]["tasks"][task] for arm in arms} for task in tasks}
    groups |= {
        name: {arm: report["benefits"][arm][key] for arm in arms} for name, key in means.items()
    }
    if all(share["value"] is None for shares in groups.values() for share in shares.values()):
        return None
    figure, panels = _grid(
        len(groups), 3.4 if len(groups) == 1 else 2.4, _height(arms), sharey=True
    )
    for panel, (group, shares) in zip(panels, groups.items(), strict=True):
        cut = _lines(panel, arms, shares, 100, _colours(report), reach=100)
        panel.set_title(group, fontweight="bold" if group in means else None)
        panel.set_xlabel(f"% (0 = random, 100 = natural){cut}")
    known = any(share["low"] is not None for shares in groups.values() for share in shares.values())
    figure.suptitle(
        "Benefit of natural pre-training" + ("" if known else "\n(one seed: no intervals)")
    )
    return figure


def _differences(report: dict):
    """A panel a task: the difference to random, where no benefit is defined. The title says why."""
    arms = [arm for arm in report["arms"] if arm != RANDOM]
    figure, panels = _grid(
        len(report["tasks"]), 3.4 if len(report["tasks"]) == 1 else 2.4, _height(arms), sharey=True
    )
    for panel, (task, facts) in zip(panels, report["tasks"].items(), strict=True):
        values = {arm: report["differences"][task].get(arm) for arm in arms}
        cut = _lines(panel, arms, values, 100 if facts["unit"] == "%" else 1, _colours(report))
        panel.set(title=task, xlabel=_axis(facts, "difference in ") + cut)
    figure.suptitle("Score difference to random\n" + _why(report))
    return figure


def _why(report: dict) -> str:
    reasons = sorted(
        {e["note"] for result in report["benefits"].values() for e in result["tasks"].values()}
    )
    if missing := [f"'{arm}'" for arm in (RANDOM, NATURAL) if arm not in report["arms"]]:
        reasons = [f"no arm {' or '.join(missing)}"]
    reason = reasons[0] if len(reasons) == 1 else "see the notes of the report"
    return (
        textwrap.fill(f"(benefit not shown: {reason})", 52)
        if report["benefits"]
        else "(no arm besides random and natural)"
    )


def _height(arms: list[str]) -> float:
    return 0.9 + 0.17 * max(len(arms), 2)


def _lines(
    panel, arms: list[str], values: dict, scale: float, colours: dict, reach: float = 0
) -> str:
    """Draw values[arm] * scale as a point with its interval, the first arm on top, and a line at `reach`; see _limit."""
    for y, arm in enumerate(arms):
        e = values[arm]
        if not e or e["value"] is None:
            panel.text(
                0.5,
                y,
                "refused" if e else "–",
                transform=panel.get_yaxis_transform(),
                **REFUSED_LOOK,
            )
            continue
        panel.plot(scale * e["value"], y, "o", color=colours[arm], markersize=4)
        if e["low"] is not None:
            panel.plot(
                [scale * e["low"], scale * e["high"]], [y, y], color=colours[arm], linewidth=1.4
            )
    panel.set_yticks(range(len(arms)), arms)
    panel.set_ylim(max(len(arms), 1) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines["left"].set_visible(False)
    panel.axvline(0, color="#222222", linewidth=0.8, zorder=0)
    if reach:
        panel.axvline(reach, color=COLOURS[NATURAL], linewidth=1, linestyle="--", zorder=0)
    return _limit(panel, [e for e in values.values() if e and e["value"] is not None], scale, reach)


def _limit(panel, found: list[dict], scale: float, reach: float) -> str:
    """Keep the axis within one span of the points on each side, however long an interval; return what its label adds."""
    if not found:
        return ""
    points = [scale * e["value"] for e in found] + [0.0, reach]
    span = (max(points) - min(points)) or 1.0
    low, high = panel.get_xlim()
    new = max(low, min(points) - span), min(high, max(points) + span)
    panel.set_xlim(*new)
    ends = [scale * e[end] for e in found for end in ("low", "high") if e["low"] is not None]
    return (
        "\n(long intervals are cut)" if ends and (min(ends) < new[0] or max(ends) > new[1]) else ""
    )
