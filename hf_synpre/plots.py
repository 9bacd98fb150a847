"""Layer 5: the two plots of a report, drawn from its dict alone. Matplotlib is imported only when they are drawn."""

import math
import textwrap
from io import BytesIO

import numpy as np

RANDOM, NATURAL = "random", "natural"
COLOURS = {RANDOM: "#8A8A8A", NATURAL: "#0072B2", "synthetic": "#D55E00", "statistics": "#009E73", "self": "#CC79A7"}
SPARE_COLOURS = ("#E69F00", "#56B4E9", "#5D3A9B", "#8C510A", "#882255", "#44AA99", "#999933", "#DDCC77")  # Okabe & Ito, Tol
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
    """Return curves.png, curves.svg, benefit.png and benefit.svg as {name: bytes}; equal bytes for equal reports."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figures = {"curves": _curves(report), "benefit": _benefits(report) or _differences(report)}
        return {f"{name}.{kind}": _image(figure, kind) for name, figure in figures.items() for kind in ("png", "svg")}


def _image(figure, kind: str) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=300, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _grid(n: int, width: float, height: float, columns: int = 3):
    """Return a figure of `n` panels (inches each) and the panels."""
    from matplotlib.figure import Figure

    columns = min(n, columns)
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.3), layout="constrained")
    panels = [*figure.subplots(rows, columns, squeeze=False).flat]
    for panel in panels[n:]:
        panel.set_axis_off()
    return figure, panels[:n]


def _colours(report: dict) -> dict[str, str]:
    others = [arm for arm in report["arms"] if arm not in COLOURS]
    return COLOURS | {arm: SPARE_COLOURS[i % len(SPARE_COLOURS)] for i, arm in enumerate(others)}


def _legend(figure, report: dict, panels: list) -> None:
    """Name each arm that is drawn once, below all panels, in the order of the report."""
    drawn = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    arms = [arm for arm in report["arms"] if arm in drawn]
    if arms:
        rows = math.ceil(sum(0.28 + 0.065 * len(arm) for arm in arms) / figure.get_figwidth())  # inches, about
        look = {"ncols": math.ceil(len(arms) / rows), "handlelength": 1.2, "columnspacing": 1.0, "handletextpad": 0.5}
        figure.legend([drawn[arm] for arm in arms], arms, loc="outside lower center", **look)


def _axis(facts: dict, what: str) -> str:
    unit = " (%)" if facts["unit"] == "%" else ""
    return f"{what}{facts['metric'] or ''}{unit}" + ("\nlower is better" if facts["higher_is_better"] is False else "")


def _curves(report: dict):
    """One panel a task: validation score against fine-tuning step, a line and a band an arm."""
    figure, panels = _grid(len(report["tasks"]), 3.4 if len(report["tasks"]) == 1 else 2.6, 2.3)
    colours = _colours(report)
    for panel, (task, facts) in zip(panels, report["tasks"].items(), strict=True):
        scale = 100 if facts["unit"] == "%" else 1
        for arm, curve in report["curves"][task].items():
            mean, low, high = (scale * np.array(curve[key], dtype=float) for key in ("mean", "low", "high"))
            panel.fill_between(curve["step"], low, high, color=colours[arm], alpha=0.15, linewidth=0)
            panel.plot(curve["step"], mean, color=colours[arm], linewidth=1.4, label=arm)
        panel.set(title=task, xlabel="fine-tuning step", ylabel=_axis(facts, "validation "))
        panel.margins(x=0)
        if facts["unit"] == "%":
            panel.set_ylim(max(panel.get_ylim()[0], 0), min(panel.get_ylim()[1], 100))
    _legend(figure, report, panels)
    return figure


def _benefits(report: dict):
    """A group of bars a task, and both means over tasks: share of natural's gain over random. None where all are refused."""
    arms, tasks = [*report["benefits"]], [*report["tasks"]]
    means = {"mean of ratios": "mean_of_ratios", "ratio of means": "ratio_of_means"} if len(tasks) > 1 else {}
    shares = {(task, arm): report["benefits"][arm]["tasks"][task] for task in tasks for arm in arms}
    shares |= {(name, arm): report["benefits"][arm][key] for name, key in means.items() for arm in arms}
    if all(share["value"] is None for share in shares.values()):
        return None
    groups = [*tasks, *means]
    figure, [panel] = _grid(1, 3.4, _height(groups, arms))
    cut = _bars(panel, groups, arms, shares, 100, _colours(report), reach=100)
    for i, group in enumerate(groups):
        if all(shares[group, arm]["value"] is None for arm in arms):
            panel.text(2, i, "refused", va="center", color="#555555", style="italic")
    if means:
        panel.axhline(len(tasks) - 0.5, color="#BBBBBB", linewidth=0.6)
    panel.set_xlabel(f"% (0 = random, 100 = natural){cut}")
    known = any(share["low"] is not None for share in shares.values())
    figure.suptitle("Benefit of natural pre-training" + ("" if known else "\n(one seed: no intervals)"))
    _legend(figure, report, [panel])
    return figure


def _differences(report: dict):
    """A panel a unit, a group of bars a task: the difference to random, where no benefit is defined. The title says why."""
    arms = [arm for arm in report["arms"] if arm != RANDOM]
    units = {}
    for task, facts in report["tasks"].items():
        units.setdefault((facts["unit"], facts["higher_is_better"] is False), []).append(task)
    figure, panels = _grid(len(units), 3.4, max(_height(tasks, arms) for tasks in units.values()), columns=1)
    for panel, tasks in zip(panels, units.values(), strict=True):
        facts = report["tasks"][tasks[0]]
        values = {(task, arm): report["differences"][task].get(arm) for task in tasks for arm in arms}
        cut = _bars(panel, tasks, arms, values, 100 if facts["unit"] == "%" else 1, _colours(report))
        panel.set_xlabel(_axis(facts, "difference in ") + cut)
    figure.suptitle("Score difference to random\n" + _why(report))
    _legend(figure, report, panels)
    return figure


def _why(report: dict) -> str:
    reasons = sorted({e["note"] for result in report["benefits"].values() for e in result["tasks"].values()})
    if missing := [f"'{arm}'" for arm in (RANDOM, NATURAL) if arm not in report["arms"]]:
        reasons = [f"no arm {' or '.join(missing)}"]
    reason = reasons[0] if len(reasons) == 1 else "see the notes of the report"
    return (
        textwrap.fill(f"(benefit not shown: {reason})", 52) if report["benefits"] else "(no arm besides random and natural)"
    )


def _height(groups: list[str], arms: list[str]) -> float:
    return 0.9 + len(groups) * (0.12 + 0.13 * len(arms))


def _bars(panel, groups: list[str], arms: list[str], values: dict, scale: float, colours: dict, reach: float = 0) -> str:
    """Draw values[group, arm] * scale as bars with intervals and a line at `reach`, the first group on top; see _limit."""
    height = 0.8 / max(len(arms), 1)
    for j, arm in enumerate(arms):
        found = [(i, e) for i, group in enumerate(groups) if (e := values[group, arm]) and e["value"] is not None]
        y = [i + (j - (len(arms) - 1) / 2) * height for i, _ in found]
        panel.barh(y, [scale * e["value"] for _, e in found], 0.85 * height, color=colours[arm], label=arm)
        for at, (_, e) in zip(y, found, strict=True):
            if e["low"] is not None:
                panel.plot([scale * e["low"], scale * e["high"]], [at, at], color="#222222", linewidth=0.9)
    panel.set_yticks(range(len(groups)), groups)
    panel.set_ylim(len(groups) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.axvline(0, color="#222222", linewidth=0.8)
    if reach:
        panel.axvline(reach, color=COLOURS[NATURAL], linewidth=1, linestyle="--", zorder=0)
    return _limit(panel, [e for e in values.values() if e and e["value"] is not None], scale, reach)


def _limit(panel, found: list[dict], scale: float, reach: float) -> str:
    """Keep the axis within one span of the bars on each side, however long an interval; return what to add to its label."""
    if not found:
        return ""
    bars = [scale * e["value"] for e in found] + [0.0, reach]
    span = (max(bars) - min(bars)) or 1.0
    low, high = panel.get_xlim()
    new = max(low, min(bars) - span), min(high, max(bars) + span)
    panel.set_xlim(*new)
    ends = [scale * e[end] for e in found for end in ("low", "high") if e["low"] is not None]
    return "\n(long intervals are cut)" if ends and (min(ends) < new[0] or max(ends) > new[1]) else ""
