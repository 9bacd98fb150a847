"""The table of which tasks' statistics help, from results/which_statistics: `make readme`."""

import json

from readme_results import (
    ROOT,
    count_of_seeds,
    made_by,
    markdown_table,
    read_report,
    star,
    with_interval,
)

from hf_synpre.report.schema import RANDOM, Report

NAME = "which_statistics"


def which_statistics() -> str:
    """Return the gains over random weights: a row for each pre-training task, the best first."""
    report = read_report(NAME)
    rows = []
    for arm in sorted(report["arms"], key=lambda arm: relative_gain(report, arm), reverse=True):
        if arm == RANDOM:
            continue
        row = [f"`{arm}`", *learnt(report, arm)]
        for differences in report["differences"].values():
            difference = differences.get(arm)
            row.append(with_interval(difference) + star(difference))
        rows.append(row)

    random = {task: scores[RANDOM]["value"] for task, scores in report["scores"].items()}
    tasks = [f"{task} (random {100 * score:.1f} %)" for task, score in random.items()]
    head = ["statistics of a model of", "tokens of pre-training", "right tokens, %", *tasks]
    note = (
        f"Points above random weights with their 95 % intervals, over {count_of_seeds(report)} of "
        f"fine-tuning; * the interval excludes zero. {made_by(report, NAME)}"
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
