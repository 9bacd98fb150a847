"""The table of which tasks' statistics help, from results/which_statistics: `make readme`."""

import json

from readme_results import (
    ROOT,
    count_of_seeds,
    made_by,
    markdown_table,
    read_report,
    star,
)

from hf_synpre.report.schema import RANDOM, Report

NAME = "which_statistics"


def which_statistics() -> str:
    """Return the scores of each pre-training task's statistics, the best first, and of random."""
    report = read_report(NAME)
    rows = []
    starts = [arm for arm in report["arms"] if arm != RANDOM]
    for arm in sorted(starts, key=lambda arm: relative_gain(report, arm), reverse=True):
        row = [f"`{arm}`", *learnt(report, arm)]
        for task, scores in report["scores"].items():
            score, difference = scores.get(arm), report["differences"][task].get(arm)
            row.append(f"{100 * score['value']:.1f}{star(difference)}" if score else "–")
        rows.append(row)

    random = {task: scores[RANDOM]["value"] for task, scores in report["scores"].items()}
    rows.append(["random weights", "–", "–", *(f"{100 * score:.1f}" for score in random.values())])
    tasks = [f"{task}: exact match, %" for task in random]
    head = ["start", "tokens of pre-training", "right validation tokens at its end, %", *tasks]
    note = (
        f"Means over {count_of_seeds(report)} of fine-tuning, the best starts first; * the 95 % "
        "interval of the difference to random weights, over the same seeds, excludes zero. "
        f"{made_by(report, NAME)}"
    )
    return f"{markdown_table(head, rows)}\n\n{note}"


def relative_gain(report: Report, arm: str) -> float:
    """Return the mean over the tasks of an arm's gain, as a share of the best arm's gain there."""
    shares = []
    for differences in report["differences"].values():
        best = max(difference["value"] for difference in differences.values())
        if arm in differences:
            shares.append(differences[arm]["value"] / best)
    return sum(shares) / max(1, len(shares))


def learnt(report: Report, arm: str) -> list[str]:
    """Return how many tokens a released checkpoint was pre-trained on, and how well it learnt."""
    run = report["phases"][arm]["pretraining"]
    (name,) = run["names"]
    released = ROOT / "hf_synpre" / "statistics" / name.removeprefix("synpre/")
    accuracy = json.loads((released / "pretraining.json").read_text())["accuracy"]
    return [f"{run['tokens'] / 1e6:.1f} M", f"{100 * accuracy:.0f}"]
