"""Render the results on README.md's first screen from results/*/report.json: `make readme`."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- results: begin (made by `make readme` from results/) -->\n", "<!-- results: end -->\n"
ORDER = ("quickstart", "retrosynthesis", "code_translation", "mtop")


def cell(estimate: dict | None) -> str:
    """Write an estimate in percent with its interval."""
    if estimate is None or estimate["value"] is None:
        return "–" if estimate is None else "refused"
    ends = "" if estimate["low"] is None else f" [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
    return f"{100 * estimate['value']:.1f}{ends}"


def rows(report: dict) -> list[str]:
    """Return a table row an arm of one experiment."""
    lines = []
    for task in report["tasks"]:
        for arm in report["arms"]:
            benefit = report["benefits"].get(arm, {}).get("tasks", {}).get(task)
            difference = report["differences"][task].get(arm)
            mark = " **\\***" if difference and difference["excludes_zero"] else ""
            tokens = (report["phases"][arm]["pretraining"] or {}).get("tokens")
            cells = [cell(report["scores"][task][arm]), cell(difference) + mark, cell(benefit)]
            lines.append(f"| {task} | {arm} | {' | '.join(cells)} | {f'{tokens / 1e6:.1f} M' if tokens else '–'} |")
    return lines


def results() -> str:
    """Return the Markdown of all committed experiments."""
    files = [ROOT / "results" / name / "report.json" for name in ORDER]
    reports = [json.loads(file.read_text()) for file in files if file.exists()]
    seeds = {s["n"] for r in reports for row in r["scores"].values() for s in row.values()}
    commits = sorted({c for r in reports for c in r["versions"]["commit"]})
    head = ["task", "start", "exact match, %", "difference to random", "benefit of natural, %", "pre-training tokens"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *(row for r in reports for row in rows(r))]
    counts = "–".join(map(str, sorted(seeds)))
    accuracies = {100 * r["phases"]["synthetic"]["pretraining"]["accuracy"] for r in reports}
    reached = "–".join(f"{a:.1f}" for a in sorted({min(accuracies), max(accuracies)}))
    note = (
        f"Mean [95 % interval, {counts} seeds of fine-tuning] on the test split; * the difference's interval excludes zero. "
        "Each pre-training is one run, shared by the seeds: the intervals leave its own variance out. Set ended at "
        f"{reached} % validation token accuracy; natural is as many tokens of Python source, far fewer than a released "
        "checkpoint has read. Every arm has the same short fine-tuning. Made by `synpre run examples/NAME.yaml --output_dir "
        f"results/NAME` on two CPU cores at commit {', '.join(commits)}; every cell is in [results/](results)."
    )
    table = "\n".join(lines)
    return f"![Learning curves](results/quickstart/curves.png)\n\n{table}\n\n{note}\n\n{generation()}\n"


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
