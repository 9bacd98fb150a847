"""What the scores of a report say, in sentences: the best arm, its lead, the controls."""

from collections.abc import Callable, Iterable

from hf_synpre.digits import write_number
from hf_synpre.errors import counted
from hf_synpre.report.cells import arm_option, finetuning_budget, matched_run
from hf_synpre.report.comparisons import comparison
from hf_synpre.report.intervals import excludes_zero
from hf_synpre.report.schema import (
    RANDOM,
    ByArm,
    Control,
    Estimate,
    Finding,
    Report,
    TaskSummary,
)

# Sentences name no more arms than this.
MOST_ARMS = 6


# --- Numbers --------------------------------------------------------------------------------------


def find(by_arm: ByArm, means: dict[str, Estimate], summary: TaskSummary) -> Finding | None:
    """Return what the scores of a task say, None where no cell is finished.

    Args:
        by_arm: the finished cells of the task.
        means: arm -> its mean score.
        summary: the task's metric and its direction.
    """
    if not by_arm:
        return None

    # Arms of other budgets of fine-tuning are points of a line (compute.py), and not ranked.
    usual = [arm for arm, cells in by_arm.items() if finetuning_budget(cells[0]) == 1]
    sign = 1 if summary["higher_is_better"] else -1
    ranked = sorted(usual or by_arm, key=lambda arm: -sign * (means[arm]["value"] or 0.0))
    compare = comparison(by_arm, means)
    runner_up = ranked[1] if len(ranked) > 1 else None
    return {
        "best": ranked[0],
        "runner_up": runner_up,
        "lead": compare(ranked[0], runner_up) if runner_up is not None else None,
        "controls": _controls(by_arm, ranked, compare),
        "pretrained": any(_has_pretraining(by_arm, arm) for arm in by_arm),
    }


def _controls(
    by_arm: ByArm, ranked: list[str], compare: Callable[[str, str], Estimate]
) -> list[Control]:
    """Return each control of equal compute beside the best arm from the run that it matches."""
    controls: list[Control] = []
    for arm in by_arm:
        matched = matched_run(by_arm[arm][0])
        if not matched:
            continue
        rivals = [
            other for other in ranked if arm_option(by_arm[other][0], "checkpoint") == matched
        ]
        if rivals:
            controls.append(
                {
                    "arm": arm,
                    "flops_of": matched,
                    "against": rivals[0],
                    "lead": compare(arm, rivals[0]),
                }
            )
    return controls


def _has_pretraining(by_arm: ByArm, arm: str) -> bool:
    """Say whether the first cell of an arm has the cost of a pre-training."""
    return bool((by_arm[arm][0].get("phases") or {}).get("pretraining"))


# --- Sentences ------------------------------------------------------------------------------------

# A function that writes a name, escaped for the form of the report.
WriteName = Callable[[str], str]


def write_findings(report: Report, name: WriteName = str) -> list[str]:
    """Return the sentences that open a report: over all tasks, or on its only one.

    Args:
        report: the content of report.json.
        name: a function that escapes a name.
    """
    findings = report["findings"]
    if not findings:
        return ["No cell is finished, so there is nothing to compare."]
    if len(findings) == 1:
        (task,) = findings
        return write_finding(report, task, name)
    return [
        *_best_by_task(report, name),
        *_against_random(report, name),
        *_controls_by_task(report, name),
    ]


def write_finding(report: Report, task: str, name: WriteName = str) -> list[str]:
    """Return what is found on one task, a sentence each.

    Args:
        report: the content of report.json.
        task: a task of which a cell is finished.
        name: a function that escapes a name.
    """
    finding, summary = report["findings"][task], report["tasks"][task]
    best, unit = finding["best"], summary["unit"]
    score = write_interval(report["scores"][task][best], unit)
    metric = name((summary["metric"] or "").replace("_", " "))
    if is_tie(report, task):
        return [f"{name(task)}: all arms have the same {metric}, {score}."]
    sentences = [f"{name(task)}: {name(best)} has the best {metric}, {score}."]

    over_random = report["differences"][task].get(best)
    if over_random is not None:
        sentences.append(f"Its difference to random is {_difference(over_random, unit)}.")
        sentences += _doubts(report, task, best)
    elif best == RANDOM and len(report["scores"][task]) > 1:
        sentences.append("No other arm is above it.")
    if finding["lead"] is not None and finding["runner_up"] != RANDOM:
        sentences.append(
            f"The next best is {name(finding['runner_up'] or '')}; the difference to it is "
            f"{_difference(finding['lead'], unit)}."
        )

    for control in finding["controls"]:
        outcome = _outcome(control["lead"], summary)
        sentences.append(
            f"{name(control['arm'])}, a random start that spent the FLOPs of the pre-training "
            f"{name(control['flops_of'])} on longer fine-tuning, is {outcome} "
            f"{name(control['against'])}: the difference is {_difference(control['lead'], unit)}."
        )
    if finding["pretrained"] and not finding["controls"]:
        sentences.append(NO_CONTROL)
    return sentences


def is_tie(report: Report, task: str) -> bool:
    """Say whether several arms were scored on a task, and all have the same mean."""
    scores = report["scores"][task]
    return len(scores) > 1 and len({score["value"] for score in scores.values()}) == 1


def _doubts(report: Report, task: str, arm: str) -> list[str]:
    """Return a sentence where something speaks against the comparison of an arm with random.

    Reports say below what it is (`fairness.doubt_lines`).
    """
    doubts = report["fairness"].get(task, {}).get(arm)
    if doubts is None:
        return []
    if doubts["refused"]:
        return [
            "But it is no fair comparison, because the arms were not fine-tuned alike (see below)."
        ]
    return ["But random may be better with another recipe (see below)."]


NO_CONTROL = (
    "No arm spent the FLOPs of pre-training on longer fine-tuning, so these numbers do not say "
    "what that would have given."
)
AHEAD, BEHIND, EQUAL = "ahead of", "behind", "not told apart from"


def _outcome(lead: Estimate, summary: TaskSummary) -> str:
    """Return where a difference puts the first of two arms."""
    if not excludes_zero(lead):
        return EQUAL
    better = ((lead["value"] or 0.0) > 0) == bool(summary["higher_is_better"])
    return AHEAD if better else BEHIND


def _difference(estimate: Estimate, unit: str | None) -> str:
    """Write a difference, its interval, and whether that excludes zero."""
    text = write_interval(estimate, unit, sign="+")
    if estimate["low"] is None:
        return f"{text} ({estimate['note']})"
    verdict = "excludes" if excludes_zero(estimate) else "includes"
    return f"{text}, an interval that {verdict} zero"


def write_interval(
    estimate: Estimate, unit: str | None, sign: str = "", *, with_unit: bool = True
) -> str:
    """Write a value and its interval: 35.9 % [31.8, 40.0], +34.4 points [...].

    Args:
        estimate: the value; an interval where it has one.
        unit: "%" or the name of a metric, which is not written.
        sign: "+" for a difference.
        with_unit: write % or points behind the value.
    """
    name = ""
    if unit == "%" and with_unit:
        name = " points" if sign else " %"
    value, low, high = estimate["value"] or 0.0, estimate["low"], estimate["high"]
    if low is None or high is None:
        return format_numbers([value], unit, sign)[0] + name
    text, low_text, high_text = format_numbers([value, low, high], unit, sign)
    return f"{text}{name} [{low_text}, {high_text}]"


def format_numbers(values: list[float], unit: str | None, sign: str = "") -> list[str]:
    """Write numbers that stand together: fractions in % with one decimal, others with three.

    Small numbers have as many decimals as the largest of them needs.

    Args:
        values: the numbers; fractions where the unit is %.
        unit: "%" or the name of a metric.
        sign: "+" to write the sign of positive numbers too.
    """
    if unit == "%":
        return [f"{100 * value:{sign}z.1f}" for value in values]
    return [write_number(value, sign=sign, beside=values) for value in values]


def _best_by_task(report: Report, name: WriteName) -> list[str]:
    """Say on which tasks each arm has the best mean score, and on which all have the same."""
    tasks_of_best: dict[str, list[str]] = {}
    ties = []
    for task, finding in report["findings"].items():
        if is_tie(report, task):
            ties.append(task)
        else:
            tasks_of_best.setdefault(finding["best"], []).append(task)
    sentences = []
    if ties:
        sentences.append(f"On {_join(map(name, ties))} all arms have the same mean score.")
    if not tasks_of_best:
        return sentences
    ranked = sorted(tasks_of_best.items(), key=lambda item: -len(item[1]))
    parts = [f"{name(arm)} on {len(tasks)} ({_join(map(name, tasks))})" for arm, tasks in ranked]
    tasks = counted(len(report["findings"]), "task")
    best = f"Over {tasks}, the best mean score is that of {_join(parts)}."
    return [best, *sentences]


def _against_random(report: Report, name: WriteName) -> list[str]:
    """Say on how many tasks each arm is above or below random by an interval without zero."""
    above, below = {}, {}
    for arm in report["arms"]:
        rows = {
            task: differences[arm]
            for task, differences in report["differences"].items()
            if arm in differences and "budget" not in report["recipes"][task][arm]
        }
        outcomes = [_outcome(row, report["tasks"][task]) for task, row in rows.items()]
        if AHEAD in outcomes:
            above[arm] = (outcomes.count(AHEAD), len(outcomes))
        if BEHIND in outcomes:
            below[arm] = (outcomes.count(BEHIND), len(outcomes))

    if not any(report["differences"].values()):
        return []
    if not above:
        sentences = ["No arm is above random by an interval that excludes zero."]
    else:
        sentences = [f"Above random, by an interval that excludes zero: {_shares(above, name)}."]
    if below:
        sentences.append(f"Below random in the same way: {_shares(below, name)}.")

    # Arms of random weights were fine-tuned otherwise on purpose: they ask what tuning gives.
    unfair = []
    for task, doubts in report["fairness"].items():
        recipes = report["recipes"][task]
        starts = [arm for arm, doubt in doubts.items() if doubt["refused"]]
        if any(not {"budget", "is_random_too"} & recipes[arm].keys() for arm in starts):
            unfair.append(task)
    if unfair:
        sentences.append(
            f"On {_join(map(name, unfair))} arms were not fine-tuned as random was, so these "
            "differences are not due to the start alone."
        )
    return sentences


def _shares(counts: dict[str, tuple[int, int]], name: WriteName) -> str:
    """Write arms with their number of tasks: synthetic on 7 of 7 tasks, identity on 6 of 7."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1][0], item[1][1]))
    parts = [f"{name(arm)} on {count} of {size} tasks" for arm, (count, size) in ranked]
    if len(parts) > MOST_ARMS:
        parts = [*parts[:MOST_ARMS], f"{len(parts) - MOST_ARMS} more arms on fewer or as many"]
    return _join(parts)


def _controls_by_task(report: Report, name: WriteName) -> list[str]:
    """Say on which tasks a control of equal compute is ahead of the best arm from its run."""
    outcomes: dict[tuple[str, str], dict[str, list[str]]] = {}
    for task, finding in report["findings"].items():
        for control in finding["controls"]:
            of_control = outcomes.setdefault((control["arm"], control["flops_of"]), {})
            outcome = _outcome(control["lead"], report["tasks"][task])
            of_control.setdefault(outcome, []).append(task)

    sentences = []
    for (arm, run), tasks_by_outcome in outcomes.items():
        parts: list[str] = []
        for outcome in (AHEAD, BEHIND, EQUAL):
            if outcome in tasks_by_outcome:
                rival = "it" if parts else "the best arm that starts from that run"
                tasks = _join(map(name, tasks_by_outcome[outcome]))
                parts.append(f"{outcome} {rival} on {tasks}")
        sentences.append(
            f"{name(arm)}, a random start that spent the FLOPs of the pre-training {name(run)} on "
            f"longer fine-tuning, is {_join(parts, '; ')}."
        )
    if not sentences and any(finding["pretrained"] for finding in report["findings"].values()):
        sentences.append(NO_CONTROL)
    return sentences


def _join(parts: Iterable[str], comma: str = ", ") -> str:
    """Return texts as a list in a sentence: a, b and c."""
    *first, last = parts
    return f"{comma.join(first)} and {last}" if first else last
