"""Render the results on README.md's first screen from results/*/report.json: `make readme`."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- results: begin (made by `make readme` from results/) -->\n", "<!-- results: end -->\n"


def cell(estimate: dict | None) -> str:
    """Write an estimate in percent with its interval."""
    if estimate is None or estimate["value"] is None:
        return "–" if estimate is None else "refused"
    ends = "" if estimate["low"] is None else f" [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
    return f"{100 * estimate['value']:.1f}{ends}"


def mark(difference: dict | None) -> str:
    """Return the star of a difference whose interval excludes zero."""
    return " **\\***" if difference and difference["excludes_zero"] else ""


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def long_table(report: dict) -> str:
    """Return a table with a row for each arm of an experiment on one task."""
    (task,) = report["tasks"]
    rows = []
    for arm in report["arms"]:
        benefit = report["benefits"].get(arm, {}).get("tasks", {}).get(task)
        difference = report["differences"][task].get(arm)
        tokens = (report["phases"][arm]["pretraining"] or {}).get("tokens")
        cells = [cell(report["scores"][task][arm]), cell(difference) + mark(difference), cell(benefit)]
        rows.append([arm, *cells, f"{tokens / 1e6:.1f} M" if tokens else "–"])
    metric = report["tasks"][task]["metric"].replace("_", " ")
    return markdown(
        [f"start ({task})", f"{metric}, %", "difference to random", "benefit of natural, %", "pre-training tokens"], rows
    )


def matrix(report: dict) -> str:
    """Return a table with a row for each arm, a column for each task, and the benefit over all tasks."""
    rows = []
    for arm in report["arms"]:
        cells = [short(report["scores"][t].get(arm)) + mark(report["differences"][t].get(arm)) for t in report["tasks"]]
        rows.append([arm, *cells, cell(report["benefits"].get(arm, {}).get("mean_of_ratios"))])
    heads = [f"{task}, {facts['metric'].replace('_', ' ')}" for task, facts in report["tasks"].items()]
    return markdown(["start", *heads, "mean benefit of natural, %"], rows)


def short(estimate: dict | None) -> str:
    """Write an estimate in percent with half the width of its interval."""
    if estimate is None or estimate["value"] is None:
        return "–"
    half = "" if estimate["low"] is None else f" ±{50 * (estimate['high'] - estimate['low']):.1f}"
    return f"{100 * estimate['value']:.1f}{half}"


def made(report: dict, name: str) -> str:
    """Return which seeds, cells and command made an experiment's table."""
    seeds = sorted({s["n"] for row in report["scores"].values() for s in row.values()})
    commits = ", ".join(sorted(report["versions"]["commit"]))
    count = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return (
        f"Mean over {count} of fine-tuning with its 95 % interval; * the difference to random excludes zero. "
        f"`synpre run examples/{name}.yaml` on two CPU cores at commit {commits}; cells in [results/{name}](results/{name})."
    )


# experiment -> the shape of its table, what stands above it, the plot beside it
SHOWN = {
    "quickstart": (long_table, "The demo: 250 steps of fine-tuning a T5 of 0.9 M parameters on syntax trees.", "curves.png"),
    "campaign": (matrix, "The same T5 on the papers' kind of tasks, every arm with the same fine-tuning.", "benefit.png"),
    "larger": (long_table, "A T5 of three times as many parameters from the statistics of the small one.", None),
    "self_pretraining": (matrix, "Self-pretraining an ELECTRA of two CPU cores' size.", "gains.png"),
    "self_pretraining_roberta": (matrix, "Self-pretraining a RoBERTa with tokenizers of its own.", None),
}


def results() -> str:
    """Return the Markdown of all committed experiments."""
    parts = []
    for name, (table, title, plot) in SHOWN.items():
        file = ROOT / "results" / name / "report.json"
        if file.exists():
            report = json.loads(file.read_text())
            image = [f"![{name}](results/{name}/{plot})"] if plot else []
            parts += [f"**{title}**", *image, table(report), made(report, name)]
    caveat = (
        "Each pre-training is one run, shared by the seeds: the intervals leave its own variance out. Natural text is as "
        "many tokens as Set took, far fewer than a released checkpoint has read."
    )
    return "\n\n".join([*parts, caveat, generation()]) + "\n"


def generation() -> str:
    """Return the figures of benchmarks/generation.py in a sentence."""
    measured = json.loads((ROOT / "benchmarks" / "results" / "generation.json").read_text())
    summary, rows_of_set = measured["summary"], measured["per_task"]["set"]
    borrowed = len(measured["reference_figure_borrowed_from"])
    return (
        f"Rows are generated on the fly: Set at {rows_of_set['rows_per_s'] / 1e6:.1f} M rows/s = "
        f"{rows_of_set['tokens_per_s'] / 1e6:.0f} M tokens/s on one core; over the paper's {summary['tasks']} tasks "
        f"{summary['geometric_mean_speed_up']:.0f} times the reference's rate (geometric mean; the slowest "
        f"{summary['least_speed_up']:.0f} times). The reference was measured elsewhere on a machine of the same kind, "
        f"{borrowed} of the tasks take the figure of the nearest law; with a leaner baseline for the "
        f"nesting language than its authors' it is {summary['geometric_mean_lean']:.0f} and "
        f"{summary['least_speed_up_lean']:.0f} times: "
        "`benchmarks/generation.py`."
    )


def render(readme: str) -> str:
    """Return README.md with the results of today's results/."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + results() + END + rest.split(END)[1]


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(render(file.read_text(encoding="utf-8")), encoding="utf-8")
