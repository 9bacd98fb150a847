"""The pictures of GALLERY.md, of rows of the tasks: examples/pictures/.

python examples/gallery_pictures.py        (make gallery)
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Arc

from hf_synpre.tasks import generate
from hf_synpre.vocabulary import Vocabulary

FOLDER = Path(__file__).with_name("pictures")
# Task -> its picture and what one sees there.
PICTURES = {
    "k_shuffle_dyck": ("brackets.svg", "Open brackets by position, and which bracket closes which"),
    "k_dyck": ("brackets.svg", "Open brackets by position, and which bracket closes which"),
    "eca": ("eca.png", "Histories of four rules, from the top down"),
    "nca": (
        "nca.png",
        "Five frames, from the top down, of four rules each of three bands of complexity",
    ),
}
# Okabe and Ito's colours, with two greys: states of cells, kinds of brackets.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9"),
    *("#CC79A7", "#F0E442", "#222222", "#999999", "#EEEEEE"),
)
INK = "#222222"


def row_of(task: str, index: int, **settings: int | Vocabulary) -> np.ndarray:
    """Return the ids of one row."""
    return np.array(generate(task, index, index + 1, **settings)["input_ids"][0].as_py())


def plain(axes: Axes, title: str) -> None:
    """Give axes a title and no ticks."""
    axes.set_title(title, fontsize=8, color=INK)
    axes.set(xticks=[], yticks=[])


# --- brackets -------------------------------------------------------------------------------------


def partners(kinds: np.ndarray, types: int) -> list[tuple[int, int, int]]:
    """Return (opening, closing, kind) of all brackets of a string; equal kinds close the last."""
    stacks: dict[int, list[int]] = {kind: [] for kind in range(types)}
    pairs = []
    for position, kind in enumerate(kinds.tolist()):
        if kind < types:
            stacks[kind].append(position)
        else:
            pairs.append((stacks[kind - types].pop(), position, kind - types))
    return pairs


def brackets() -> Figure:
    """Draw the depth of a long string and the pairs of a short one, of both languages."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    panels = figure.subplots(2, 2, sharey="row", height_ratios=(1.2, 1))
    for column, task in enumerate(("k_dyck", "k_shuffle_dyck")):
        words = Vocabulary.plain(160)
        kinds = row_of(task, 0, length=512, vocabulary=words) - words.first_regular
        depth = np.cumsum(np.where(kinds < 64, 1, -1))
        axes = panels[0, column]
        axes.plot(depth, lw=0.9, color=COLOURS[0])
        axes.set_title(f"{task}: open brackets", fontsize=8, color=INK)
        axes.set(xlim=(0, 512), ylim=(0, None))
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)

        # A short string of four kinds: an arc from each bracket to the one that closes it.
        words = Vocabulary.plain(40)
        kinds = row_of(task, 1, length=40, types=4, vocabulary=words) - words.first_regular
        axes = panels[1, column]
        for opening, closing, kind in partners(kinds, 4):
            width = closing - opening
            center = ((opening + closing) / 2, 0)
            arc = Arc(center, width, width, theta2=180, color=COLOURS[kind], lw=1.2)
            axes.add_patch(arc)
        axes.set(xlim=(-1, 40), ylim=(0, 17))
        plain(axes, f"pairs of a string of 40, a colour a kind: {('nested', 'crossing')[column]}")
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


# --- automata -------------------------------------------------------------------------------------


def eca() -> Figure:
    """Draw the histories of four rules from one first state."""
    rules = {110: "complex", 30: "chaotic", 90: "nested", 184: "traffic"}
    figure = Figure(figsize=(8.4, 2.1), layout="constrained")
    for axes, (rule, word) in zip(figure.subplots(1, 4), rules.items(), strict=True):
        words = Vocabulary.plain(40)
        row = row_of("eca", 0, width=96, steps=80, rule=rule, vocabulary=words)
        states = np.append(row, 0).reshape(81, 97)[:, :96] - words.first_regular
        axes.imshow(states, cmap=ListedColormap(["white", INK]), interpolation="nearest")
        plain(axes, f"rule {rule} ({word})")
    return figure


def frames(index: int, low: int, high: int, count: int) -> np.ndarray:
    """Return the first frames of a row of `nca` of some complexity, int64[count, 12, 12]."""
    words = Vocabulary.plain(10_100)
    row = row_of("nca", index, min_complexity=low, max_complexity=high, vocabulary=words)
    patches = np.append(row, 0).reshape(-1, 37)[:count, :36] - words.first_regular
    digits = patches[..., None] // 10 ** np.arange(4) % 10  # [count, patches, cells]
    blocks = digits.reshape(count, 6, 6, 2, 2)
    return blocks.transpose(0, 1, 3, 2, 4).reshape(count, 12, 12)


def nca() -> Figure:
    """Draw frames of rules of three bands of complexity."""
    bands = {"below 230": (0, 229), "440 to 540": (440, 540), "650 and more": (650, 1000)}
    count = 5
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    blocks = figure.subfigures(1, 3)
    for block, (name, (low, high)) in zip(blocks, bands.items(), strict=True):
        block.suptitle(f"complexity {name}", fontsize=8, color=INK)
        panels = block.subplots(count, 4).T
        for index, column in enumerate(panels):
            for axes, cells in zip(column, frames(index, low, high, count), strict=True):
                axes.imshow(cells, ListedColormap(COLOURS), vmin=0, vmax=9)
                plain(axes, "")
    return figure


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "hf_synpre"})
    for name in {file for file, _ in PICTURES.values()}:
        stem, form = name.split(".")
        drawing = {"brackets": brackets, "eca": eca, "nca": nca}[stem]
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        drawing().savefig(FOLDER / name, dpi=150, metadata=metadata)


if __name__ == "__main__":
    main()
