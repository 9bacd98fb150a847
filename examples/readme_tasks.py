"""The table of what a small model learns of each task, from its JSON: `make readme`."""

import json
from typing import Any

from readme_results import ROOT, markdown_table

HEAD = (
    *("task", "parameters", "steps", "tokens", "minutes", "scored tokens right, %"),
    *("lowest loss", "excess loss", "limit", "learnt"),
)
WORDS = {True: "yes", False: "no", None: "not known"}
# What it would take to learn a task that was not learnt, as far as it is known.
WHAT_IT_TAKES = {
    "depo": "It is right as often as another word of the row, drawn at random. It would take more "
    "steps, or a model of more layers, which follow a chain further; neither was tried.",
    "brevo": "Its orders are those of a graph, which must be followed over several edges. It would "
    "take more steps, or a model of more layers; neither was tried.",
    "brainfuck": "Programs must be run step by step. It would take shorter programs, more steps, "
    "or a model of more layers; none was tried.",
    "chomsky": "The default language is parity, which transformers of the paper do not learn "
    "beyond chance on longer strings. It would take intermediate results in the row, which the "
    "task has not, or another `language`; others were not tried.",
}
# What the two losses are between which the lowest one lies, where nobody knows it.
BETWEEN = {
    "nca": "the loss of somebody who knows the rule ({low:.2f}) and that of somebody who "
    "remembers, from its start, where each surrounding of nine cells led to in the row "
    "({high:.2f})",
    "random_lstm": "the loss of somebody who knows the networks and the uniform tokens so far "
    "({low:.2f}) and that of somebody who counts which tokens followed which in the row "
    "({high:.2f})",
}
AFTER = (
    "- **{task}** starts from weights that learnt `{first}`, whose steps are counted. From random "
    "weights its loss stands still (examples/LOG.md)."
)
TRAINED = (
    "- **{task}** is trained with `{optim}` at {learning_rate}; with Adafactor it ends just above "
    "its limit after 1,500 steps (examples/LOG.md)."
)
UNKNOWN = "What it would take was not tried: more steps, a wider model or shorter rows."


def learnability() -> str:
    """Return a row for each task of the benchmark, and a sentence for each that was not learnt."""
    runs = json.loads((ROOT / "benchmarks" / "results" / "learning.json").read_text())
    # Those that were learnt come first, then those of which nobody can say it.
    order = (True, None, False)
    tasks = sorted(runs, key=lambda task: order.index(runs[task]["learnt"]))

    rows = [row_of(task, runs[task]) for task in tasks]
    sentences = [
        f"- **{task}** was not learnt. {WHAT_IT_TAKES.get(task, UNKNOWN)}"
        for task in tasks
        if runs[task]["learnt"] is False
    ]
    for task in tasks:
        if runs[task].get("first"):
            sentences.append(AFTER.format(task=task, first=runs[task]["first"]))
        if runs[task].get("training"):
            sentences.append(TRAINED.format(task=task, **runs[task]["training"]))
    sentences += [between(task, runs[task]) for task in tasks if runs[task]["bayes_loss"] is None]
    return "\n".join([markdown_table(list(HEAD), rows), "", *sentences]).rstrip("\n")


def row_of(task: str, run: dict[str, Any]) -> list[str]:
    """Return the row of a task."""
    parameters = ", ".join(f"{name}={value}" for name, value in run["parameters"].items())
    return [
        task,
        f"`{parameters}`" if parameters else "–",
        f"{run['steps']:,}",
        f"{run['tokens'] / 1e6:.1f} M",
        f"{run['minutes']:.1f}",
        f"{100 * run['accuracy']:.0f}",
        *in_nats(run),
        f"{run['limit']:.2f}",
        WORDS[run["learnt"]],
    ]


def in_nats(run: dict[str, Any]) -> tuple[str, str]:
    """Write the lowest loss and the excess loss of a run; both ends where they are not known."""
    if run["bayes_loss"] is not None:
        return f"{run['bayes_loss']:.2f}", f"{run['excess_loss']:.2f}"
    low, high = run["bounds"]
    least, most = max(0.0, run["loss"] - high), run["loss"] - low
    return f"{low:.2f} to {high:.2f}", f"{least:.2f} to {most:.2f}"


def between(task: str, run: dict[str, Any]) -> str:
    """Return what is known of a run whose lowest loss is not."""
    low, high = run["bounds"]
    place = "below" if run["loss"] < high else "not below"
    return (
        f"- **{task}**: nobody knows its lowest loss. It lies between "
        f"{BETWEEN[task].format(low=low, high=high)}, on the rows of the evaluation. "
        f"The model has {run['loss']:.2f}, {place} the latter."
    )
