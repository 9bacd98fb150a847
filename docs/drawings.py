"""The drawings of the documents: `python docs/drawings.py` writes docs/images/*.svg."""

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

IMAGES = Path(__file__).parent / "images"
MEASURED = Path(__file__).parents[1] / "benchmarks" / "results"
BLUE, ORANGE, GREEN, GREY, INK = "#4C78A8", "#F58518", "#54A24B", "#E4E7EB", "#222222"


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty drawing of some inches, whose unit is a tenth of an inch."""
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set(xlim=(0, 10 * width), ylim=(0, 10 * height), aspect="equal")
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure, axes


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str) -> None:
    """Draw a rounded box with a text in its middle; (x, y) is its lower left corner."""
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.6", color=color
    )
    axes.add_patch(shape)
    ink = INK if color == GREY else "white"
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=ink, fontsize=10)


def arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    axes.add_patch(
        FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=12, color=INK, lw=1.2)
    )


def tokens(axes: Axes, x: float, y: float, symbols: str, color: str) -> float:
    """Draw a row of tokens; return where it ends."""
    for symbol in symbols.split():
        box(axes, x, y, 3.2, 3.6, symbol, color)
        x += 3.7
    return x


def synthetic_task() -> Figure:
    """A row of Set: what is drawn, what is computed, where the loss is."""
    figure, axes = canvas(8.4, 2.7)
    axes.text(1, 24.5, "row 17 of the task Set, seed 0", fontsize=11, weight="bold", color=INK)

    box(axes, 1, 14.5, 14, 5.5, "sampler", GREY)
    arrow(axes, (15.5, 17.2), (20, 17.2))
    end = tokens(axes, 20.8, 15.4, "k s s p k b s", BLUE)
    axes.text(20.8, 20.6, "input: random tokens", fontsize=10, color=INK)
    arrow(axes, (end + 0.3, 17.2), (end + 4.8, 17.2))
    box(axes, end + 5.5, 14.5, 14, 5.5, "function Set", GREY)
    arrow(axes, (end + 12.5, 14), (end + 12.5, 9.8))
    axes.text(end + 4, 6.9, "target: its distinct tokens", fontsize=10, color=INK, ha="right")
    tokens(axes, end + 4.8, 5.6, "k s p b", ORANGE)

    axes.text(1, 1.6, "The model reads the input", fontsize=10, color=BLUE)
    axes.text(22.5, 1.6, "and learns to write the target.", fontsize=10, color=ORANGE)
    axes.text(50, 1.6, "The loss counts the target alone.", fontsize=10, color=INK)
    return figure


def statistics() -> Figure:
    """A tensor of a pre-trained model, its two numbers, a tensor drawn from them."""
    rng = np.random.default_rng(0)
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(8.4, 2.5), gridspec_kw={"width_ratios": [3, 2, 3]}
    )
    bins = np.linspace(-0.6, 0.8, 40)
    learnt = np.concatenate([rng.laplace(0.1, 0.12, 6000), rng.normal(0.1, 0.05, 2000)])
    drawn = rng.normal(learnt.mean(), learnt.std(), 8000)
    for axes, values, color, title in (
        (left, learnt, BLUE, "a tensor of a pre-trained model"),
        (right, drawn, ORANGE, "the same tensor of a new model"),
    ):
        axes.hist(values, bins, color=color)
        axes.axvline(values.mean(), color=INK, lw=1.2)
        axes.set_title(title, fontsize=10)
        axes.set_yticks([])
        axes.set_xticks([-0.4, 0, 0.4])
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)

    middle.axis("off")
    middle.set(xlim=(0, 10), ylim=(0, 10))
    middle.text(5, 6.2, f"mean {learnt.mean():.2f}", ha="center", fontsize=11)
    middle.text(5, 4.6, f"standard deviation {learnt.std():.2f}", ha="center", fontsize=11)
    middle.text(5, 1.6, "two numbers a tensor\nare all that is kept", ha="center", fontsize=9)
    middle.annotate("", (10, 8.4), (0, 8.4), arrowprops={"arrowstyle": "-|>", "color": INK})
    figure.tight_layout()
    return figure


def benefit() -> Figure:
    """Scores of three starts, and the share that one has of the gain of another."""
    figure, axes = plt.subplots(figsize=(8.4, 2.4))
    scores = {"random": 20, "synthetic": 44, "natural": 56}
    for row, (name, color) in enumerate(zip(scores, (GREY, ORANGE, GREEN), strict=True)):
        axes.barh(-row, scores[name], height=0.62, color=color)
        axes.text(1, -row, name, va="center", fontsize=10, color=INK if row == 0 else "white")
    for x in scores.values():
        axes.axvline(x, color=INK, lw=0.8, ls=":")
    for y, end, text in ((0.78, 44, "arm - random: 24"), (1.5, 56, "natural - random: 36")):
        axes.annotate("", (end, y), (20, y), arrowprops={"arrowstyle": "<->", "color": INK})
        axes.text((20 + end) / 2, y + 0.12, text, ha="center", fontsize=9)
    axes.text(60, -1, "benefit of synthetic\n= 24 / 36 = 67 %", va="center", fontsize=11)
    axes.set(xlim=(0, 84), ylim=(-2.5, 2.1))
    axes.set_yticks([])
    axes.set_xticks([0, 20, 40, 60])
    axes.set_xlabel("score after fine-tuning, %", fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    return figure


def replaced_tokens() -> Figure:
    """The loss of ELECTRA's discriminators over the tokens that were read, and its floor."""
    measured = json.loads((MEASURED / "replaced_tokens.json").read_text())
    figure, axes = plt.subplots(figsize=(8.4, 3.2))
    for (name, run), color in zip(measured["runs"].items(), (BLUE, ORANGE, GREEN), strict=True):
        curve = run["curve"]
        tokens = [point["step"] * measured["tokens_a_step"] / 1e6 for point in curve]
        floors = [point["floor"] for point in curve]
        losses = [point["discriminator_loss"] for point in curve]
        axes.plot(tokens, floors, color=color, lw=1.2, ls="--")
        axes.plot(tokens, losses, color=color, lw=1.8, label=name)

    axes.plot([], [], color=INK, lw=1.2, ls="--", label="a guess that knows the share")
    axes.set_xlabel("million tokens of pre-training", fontsize=9)
    axes.set_ylabel("discriminator's loss, nats a token", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncols=2)
    figure.tight_layout()
    return figure


def main() -> None:
    """Write all drawings."""
    # Text stays text, and nothing in a file changes where the drawing does not.
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "hf_synpre"})
    IMAGES.mkdir(exist_ok=True)
    for drawing in (synthetic_task, statistics, benefit, replaced_tokens):
        figure = drawing()
        figure.savefig(IMAGES / f"{drawing.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
