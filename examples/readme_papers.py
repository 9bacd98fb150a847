"""The tables on the two papers and on the own task, from committed results: `make readme`.

1. `claims_of_wu`, `gains_of_wu`: the campaign beside the claims of Wu et al. 2022.
2. `claims_of_krishna`, `gains_of_krishna`: self-pretraining beside those of Krishna et al. 2022.
3. `scores_of_own_task`: the scores of docs/own_task.md.
"""

import json
from collections.abc import Iterator

from readme_results import (
    ROOT,
    ahead_of_random,
    count_of_seeds,
    made_by,
    markdown_table,
    read_report,
    star,
    with_interval,
)

from hf_synpre.report import read_cells
from hf_synpre.report.comparisons import comparison
from hf_synpre.report.schema import Estimate, Report

# The arms of the tables of gains, in their order.
ARMS_OF_WU = (
    *("synthetic", "identity", "lime", "statistics"),
    *("natural", "natural_128m", "equal_compute"),
)
ARMS_OF_KRISHNA = ("self", "natural", "on_ag_news", "on_hellaswag", "tapt", "synthetic")


# --- Tables of gains ------------------------------------------------------------------------------


def table_of_gains(name: str, arms: tuple[str, ...]) -> str:
    """Return the differences to random weights: a row for each task, a column for each arm."""
    report = read_report(name)
    rows = []
    for task, differences in report["differences"].items():
        random = report["scores"][task]["random"]["value"]
        row = [task, report["tasks"][task]["metric"].replace("_", " "), f"{100 * random:.1f}"]
        for arm in arms:
            difference = differences.get(arm)
            row.append(f"{with_sign(difference)}{star(difference)}")
        rows.append(row)
    head = ["task", "metric", "random, %", *arms]
    note = (
        f"Means over {count_of_seeds(report)}; * the 95 % interval of the difference to random "
        f"excludes zero. {made_by(report, name)}"
    )
    return f"{markdown_table(head, rows)}\n\n{note}"


def with_sign(difference: Estimate | None) -> str:
    """Write a difference in points, with its sign and without its interval."""
    return "–" if difference is None else f"{100 * difference['value']:+.1f}"


# --- Wu et al. 2022 -------------------------------------------------------------------------------


def claims_of_wu() -> str:
    """Return what the abstract of Wu et al. 2022 claims, and what the campaign found."""
    report = read_report("campaign")
    claims = {
        "LIME, the best synthetic task, gives 67 % of the benefit of natural pre-training": "lime",
        "Set, a simpler task, gives 65 %": "synthetic",
        "The parameter statistics of synthetic pre-training alone give 39 %": "statistics",
    }
    rows = []
    for claim, arm in claims.items():
        rows.append([claim, f"{ahead_of_random(report, arm)} ahead of random", shares(report, arm)])
    head = [
        "claim, as the mean over six tasks",
        "here",
        f"share of {report['reference']}'s benefit, %",
    ]
    return markdown_table(head, rows)


def shares(report: Report, arm: str) -> str:
    """Return the share of natural's benefit on each task where it is neither refused nor rough."""
    texts = []
    for task, share in report["benefits"][arm]["tasks"].items():
        if share["value"] is not None and not share["note"]:
            texts.append(f"{task} {with_interval(share)}")
    return ", ".join(texts) or "–"


def gains_of_wu() -> str:
    """Return the gains of the campaign."""
    return table_of_gains("campaign", ARMS_OF_WU)


# --- Krishna et al. 2022 --------------------------------------------------------------------------


def claims_of_krishna() -> str:
    """Return what the abstract of Krishna et al. 2022 claims, and what was found here."""
    electra = "self_pretraining"
    rows = [
        [
            "An ELECTRA that was pre-trained on the task's own text is ahead of one pre-trained on "
            "BookWiki on 7 of 10 tasks",
            against_natural(electra),
        ],
        [
            "A RoBERTa on 5 of 10 tasks",
            against_natural("self_pretraining_roberta"),
        ],
        [
            "Models that were pre-trained on another task's text often do well",
            "; ".join(
                ahead_of_random(read_report(electra), arm) for arm in ("on_ag_news", "on_hellaswag")
            )
            + " ahead of random",
        ],
        [
            "Commonsense inference often gets more than half of BookWiki's boost",
            f"HellaSwag: {share_of_natural(electra, 'self', 'hellaswag')}",
        ],
    ]
    return markdown_table(["claim", "here"], rows)


def against_natural(name: str) -> str:
    """Return on how many tasks self is ahead of natural by its mean, and by its interval."""
    leads = list(leads_of_self(name))
    ahead = [lead for lead in leads if lead["value"] > 0]
    clear = [lead for lead in leads if lead["excludes_zero"]]
    clearly_ahead = sum(lead["value"] > 0 for lead in clear)
    return (
        f"`self` has the higher mean on {len(ahead)} of {len(leads)} tasks. An interval excludes "
        f"zero on {len(clear)}: {clearly_ahead} for `self`, {len(clear) - clearly_ahead} for "
        "`natural`"
    )


def leads_of_self(name: str) -> Iterator[Estimate]:
    """Yield the score of self - the score of natural on each task of an experiment."""
    scores = read_report(name)["scores"]
    cells = read_cells(ROOT / "results" / name)
    for task, means in scores.items():
        by_arm: dict[str, list] = {arm: [] for arm in means}
        for cell in cells:
            if cell["task"] == task:
                by_arm[cell["arm"]].append(cell)
        yield comparison(by_arm, means)("self", "natural")


def share_of_natural(name: str, arm: str, task: str) -> str:
    """Return the share that an arm has of natural's benefit on a task, or that it has none."""
    share = read_report(name)["benefits"][arm]["tasks"][task]
    if share["value"] is None:
        return "refused, because natural and random are too close"
    return f"{with_interval(share)} %"


def gains_of_krishna() -> str:
    """Return the gains of self-pretraining."""
    return table_of_gains("self_pretraining", ARMS_OF_KRISHNA)


# --- The own task ---------------------------------------------------------------------------------


def scores_of_own_task() -> str:
    """Return the exact match of both starts of docs/own_task.md under both seeds."""
    rows = []
    for arm in ("random", "statistics"):
        row = [f"`{arm}`"]
        for seed in (0, 1):
            file = ROOT / "results" / "own_task" / arm / f"imports--{arm}--{seed}.json"
            row.append(f"{100 * json.loads(file.read_text())['score']:.1f} %")
        rows.append(row)
    return markdown_table(["start", "seed 0", "seed 1"], rows)
