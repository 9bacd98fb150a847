"""The numbers of a report -> report.md, from templates/report.md.jinja."""

import shlex
from collections.abc import Collection
from functools import partial
from pathlib import Path

from hf_synpre.errors import counted
from hf_synpre.report.compute import crossing_sentence
from hf_synpre.report.escapes import MarkdownText, escape_markdown, markdown_code
from hf_synpre.report.exchange import is_control
from hf_synpre.report.fairness import (
    doubt_lines,
    is_longer_random,
    listed,
    schedule_sentence,
    untuned_rates,
)
from hf_synpre.report.findings import write_finding, write_findings
from hf_synpre.report.heat_maps import count_beyond_chance, expected_by_chance
from hf_synpre.report.natural import natural_tokens
from hf_synpre.report.render import (
    ABSENT_TEXT,
    TEMPLATES,
    Table,
    benefit_notes,
    format_count,
    format_interval,
    format_seeds,
    shares_of,
    task_heading,
    template_environment,
    without_empty,
)
from hf_synpre.report.schema import (
    NATURAL,
    RANDOM,
    TEACHER_FORCED,
    Estimate,
    Exchange,
    Fairness,
    Pair,
    Recipe,
    Report,
)
from hf_synpre.report.summary import are_fractions
from hf_synpre.report.transfer import matrix_columns, matrix_row

# Pairs of arms that the page shows of a task; all are in report.json.
MOST_PAIRS = 20
PAIR_HEAD = ("arms", "ensemble, %", "better one, %", "both wrong, %", "exactly one right, %")
EXCHANGE_HEAD = (
    "arm",
    "natural tokens, % of random's",
    "with its synthetic tokens, %",
    "net gain in FLOPs, %",
    "random is ahead again from",
    "claim",
)
# What the intervals of arms cover, by how their pre-training and fine-tuning seeds go together.
SHARED_RUN = (
    "A pre-training run is shared by the seeds of {}: the variance of pre-training is in no "
    "interval."
)
PAIRED_RUNS = (
    "Each seed of {} has a pre-training run of its own: the intervals hold the variance of "
    "pre-training and of fine-tuning."
)
CROSSED_RUNS = (
    "Each pre-training seed of {} is fine-tuned with each seed: the intervals hold the variance of "
    "both, as two random effects with an interaction (docs/experiments.md). With 3 × 3 seeds they "
    "cover 95 to 99 % in simulations (tests/report/test_seeds.py)."
)
RUNS_OF_ONE_SEED = (
    "The pre-training seeds of {} are fine-tuned with one seed: the intervals hold the variance of "
    "pre-training, and not that of fine-tuning."
)
COST_HEAD = (
    *("arm", "phase", "steps", "tokens", "FLOPs", "padding, %"),
    *("training, s", "tokens/s", "test, s", "stopped by", "token embeddings"),
)


def markdown(report: Report, directories: list[str], plots: Collection[str] = ()) -> str:
    """Return a report as Markdown, from templates/report.md.jinja.

    Args:
        report: the content of report.json.
        directories: the folders of the cells; the text gives the command that made it.
        plots: the names of the files of plots that lie beside the report.
    """
    environment = template_environment(TEMPLATES, finalize=escape_markdown)
    has_controls = any(map(is_control, report["arms"]))
    environment.globals |= {
        "summary": MarkdownText(" ".join(write_findings(report, escape_markdown))),
        "summaries": [
            MarkdownText(" ".join(write_finding(report, task, escape_markdown)))
            for task in report["findings"]
        ],
        "show": markdown_table,
        "plots": plots,
        "TEACHER_FORCED": TEACHER_FORCED,
        "tables": {
            "scores": score_table(report),
            "differences": difference_table(report),
            "benefits": benefit_table(report),
            "costs": cost_table(report),
            "gains": gain_table(report),
            "rates": rate_table(report),
            "compute": compute_table(report),
            "tokens": token_table(report),
        },
        "beyond_chance": beyond_chance(report),
        "baselines": baselines(report),
        "crossings": crossing_sentences(report),
        "untuned": untuned_rates(report),
        "doubts": doubt_lines(report),
        "schedule_sentence": schedule_sentence,
        "shows_benefits": report["reference"] in report["arms"] and report["benefits"],
        "by_default": report["reference"] == NATURAL,
        "beside_unit": beside_unit,
        "exchange_table": partial(exchange_table, has_controls=has_controls),
        "has_controls": has_controls,
        "seed_lines": seed_lines(report),
        "interval": markdown_interval,
        "pair_table": pair_table,
        "most_pairs": MOST_PAIRS,
        "notes": benefit_notes(report),
        "unfinished": [task for task, t in report["tasks"].items() if t["metric"] is None],
        "command": markdown_code(shlex.join(["synpre", "report", *map(shown_folder, directories)])),
        "origin_lines": origin_lines(report),
    }
    return environment.get_template("report.md.jinja").render(report)


def seed_lines(report: Report) -> list[str]:
    """Return a line for each design of seeds: the arms that have it, and what intervals cover."""
    arms_by_line: dict[str, list[str]] = {}
    for arm, phases in report["phases"].items():
        scores = [of_task[arm] for of_task in report["scores"].values() if arm in of_task]
        if not phases["pretraining"] or not scores:
            continue
        grids = [score["grid"] for score in scores if "grid" in score]  # [runs, seeds] of each task
        line = SHARED_RUN
        if grids:
            line = CROSSED_RUNS if any(seeds > 1 for _, seeds in grids) else RUNS_OF_ONE_SEED
        elif "seeds" in phases["pretraining"]:
            line = PAIRED_RUNS
        arms_by_line.setdefault(line, []).append(arm)
    lines = [line.format(", ".join(arms)) for line, arms in arms_by_line.items()]

    # Cells of grids that are not complete yet.
    for task, of_task in report["scores"].items():
        for arm, score in of_task.items():
            if "waiting" in score:
                verb = "is" if score["waiting"] == 1 else "are"
                lines.append(
                    f"{arm} on {task}: {counted(score['waiting'], 'cell')} {verb} left out until "
                    "each pre-training seed has the same seeds of fine-tuning."
                )
    return lines


def markdown_table(table: Table) -> MarkdownText:
    """Return a table as Markdown, its numbers aligned at the right."""
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)], *table.rows]
    return MarkdownText(
        "\n".join(f"| {' | '.join(map(escape_markdown, line))} |" for line in lines)
    )


def score_table(report: Report) -> Table | None:
    """Return the mean scores of all arms with their numbers of seeds, a column for each task."""
    rows = []
    for arm in report["arms"]:
        row = [arm]
        for task, summary in report["tasks"].items():
            score = report["scores"][task].get(arm)
            text = markdown_interval(score, summary["unit"])
            row.append(MarkdownText(f"{text} ({format_seeds(score)})") if score else text)
        rows.append(row)
    return without_empty(Table(["arm", *task_headings(report)], rows))


def difference_table(report: Report) -> Table | None:
    """Return the differences to random, a row for each other arm and a column for each task."""
    rows = []
    for arm in report["arms"]:
        row = [arm]
        for task, summary in report["tasks"].items():
            row.append(
                markdown_interval(report["differences"][task].get(arm), summary["unit"], "+")
            )
        rows.append(row)
    return without_empty(Table(["arm", *task_headings(report)], rows))


def origin_lines(report: Report) -> list[str]:
    """Return a line for each library, device and number of threads: its values in the cells.

    Where there are several, each has its number of cells and, unless all have it, their arms.
    """
    lines = [
        f"{name}: {' and '.join(values)}"
        for name, values in report["versions"].items()
        if name not in report["origins"]
    ]
    for name, of_values in report["origins"].items():
        parts = []
        for value, origin in of_values.items():
            part = f"{value} ({counted(origin['cells'], 'cell')}"
            if len(origin["arms"]) < len(report["arms"]):
                part += f" of {', '.join(origin['arms'])}"
            parts.append(f"{part})")
        lines.append(f"{name}: {' and '.join(parts)}")
    return sorted(lines)


def beyond_chance(report: Report) -> str:
    """Return how many intervals exclude zero, and how many would by chance; "" for a few arms."""
    found, count = count_beyond_chance(report)
    expected = expected_by_chance(count)
    if not expected:
        return ""
    return f"; {found} of {count} do, and about {expected} would where nothing differs"


def compute_table(report: Report) -> Table | None:
    """Return the differences to random at equal FLOPs; None where random has one budget."""
    rows = []
    for arm in report["arms"]:
        row = [arm, flops_ratio(report, arm)]
        for task, summary in report["tasks"].items():
            compute = report["compute"].get(task)
            lead = None
            if compute is not None and len(compute["lines"][RANDOM]) > 1:
                lead = compute["differences"].get(arm)
            row.append(markdown_interval(lead, summary["unit"], "+"))
        if any(text != ABSENT_TEXT for text in row[2:]):
            rows.append(row)
    return without_empty(Table(["arm", "FLOPs / random's", *task_headings(report)], rows))


def flops_ratio(report: Report, arm: str) -> str:
    """Return how many times the FLOPs of random an arm has, the mean over tasks."""
    ratios = [
        compute["flops"][arm] / compute["flops"][RANDOM]
        for compute in report["compute"].values()
        if arm in compute["flops"]
    ]
    return f"{sum(ratios) / len(ratios):.2g}" if ratios else ABSENT_TEXT


def baselines(report: Report) -> str:
    """Return the arms of random's line, of all tasks."""
    lines = [compute["lines"][RANDOM] for compute in report["compute"].values()]
    return ", ".join(dict.fromkeys(arm for line in lines for arm in line))


def crossing_sentences(report: Report) -> list[str]:
    """Return a sentence for each line of several budgets: where it crosses random's."""
    return [
        crossing_sentence(task, name, found)
        for task, compute in report["compute"].items()
        for name, found in compute["crossings"].items()
    ]


def token_table(report: Report) -> Table | None:
    """Return the scores of the arms on natural text, by the tokens that they read."""
    rows = []
    for arm, tokens in natural_tokens(report).items():
        row = [arm, format_count(tokens)]
        for task, summary in report["tasks"].items():
            row.append(markdown_interval(report["scores"][task].get(arm), summary["unit"]))
        rows.append(row)
    return without_empty(Table(["arm", "natural tokens", *task_headings(report)], rows))


def task_headings(report: Report) -> list[str]:
    """Return the heading of each task's column."""
    return [task_heading(task, summary) for task, summary in report["tasks"].items()]


def benefit_table(report: Report) -> Table | None:
    """Return the benefits of all arms, None if none is defined."""
    rows, head = [], ["arm"]
    for arm, benefit in report["benefits"].items():
        shares = shares_of(report, benefit)
        rows.append([arm, *(markdown_interval(share) for share in shares.values())])
        head = ["arm", *shares]
    return without_empty(Table(head, rows))


def cost_table(report: Report) -> Table | None:
    """Return what the phases of each arm cost, as means over runs."""
    rows = []
    for arm, runs in report["phases"].items():
        for phase, run in runs.items():
            if not run:
                continue
            padding = run.get("padding_share")
            reasons = [f"{reason} ({n} of {run['runs']})" for reason, n in run["stopped"].items()]
            rows.append(
                [
                    arm,
                    ": ".join([phase, ", ".join(run["names"])]) if run["names"] else phase,
                    format_count(run.get("steps")),
                    format_count(run.get("tokens")),
                    format_count(run.get("flops")),
                    format_count(None if padding is None else 100 * padding),
                    format_count(run.get("train_s")),
                    format_count(run.get("tokens_per_s")),
                    format_count(run.get("test_s")),
                    ", ".join(reasons) or ABSENT_TEXT,
                    ", ".join(report["embeddings"][arm]) or ABSENT_TEXT,
                ]
            )
    return without_empty(Table([*COST_HEAD], rows))


def gain_table(report: Report) -> Table | None:
    """Return the matrix of gains with intervals, None for a report without one."""
    if "transfer" not in report:
        return None
    matrix = report["transfer"]["matrix"]
    tasks, columns = matrix_columns(matrix)
    rows = []
    for arm in matrix["gains"]:
        gains = matrix_row(matrix, arm, tasks)[: len(columns)]
        rows.append([arm, *(markdown_interval(gain, "%", "+") for gain in gains)])
    return without_empty(Table(["arm", *columns], rows))


def rate_table(report: Report) -> Table | None:
    """Return the learning rate of each arm on each task, and the grid it was chosen from."""
    rows = []
    for arm in report["arms"]:
        row = [arm]
        for recipes in report["recipes"].values():
            row.append(rate_in_words(recipes[arm]) if arm in recipes else ABSENT_TEXT)
        rows.append(row)
    return without_empty(Table(["arm", *report["recipes"]], rows))


def rate_in_words(recipe: Recipe) -> str:
    """Return the learning rate of an arm on a task, and the grid that it was chosen from."""
    if not recipe["rates"]:
        return ABSENT_TEXT
    rate = listed(recipe["rates"])
    if "scale" in recipe:
        rate += f" with weights times {recipe['scale']}"
    if len(recipe["tried"]) < 2:
        return f"{rate}, not tuned"
    grid = ", ".join(map(str, recipe["tried"]))
    return f"{rate}, the {recipe['edge']} of {grid}" if recipe["edge"] else f"{rate} of {grid}"


def shown_folder(directory: str) -> str:
    """Return a folder as a report shows it: as it was given, but without a path of this machine."""
    path = Path(directory)
    return path.name if path.is_absolute() else directory


def markdown_interval(
    estimate: Estimate | None, unit: str | None = "%", sign: str = ""
) -> MarkdownText:
    """Write an estimate as `format_interval` does, for Markdown."""
    return MarkdownText(format_interval(estimate, unit, sign).replace("*", r"\*"))


def pair_table(pairs: list[Pair]) -> Table:
    """Return pairs of arms and their shares of examples in %; of many, the best ensembles."""
    if len(pairs) > MOST_PAIRS:
        pairs = sorted(pairs, key=lambda pair: -pair["ensemble"])[:MOST_PAIRS]
    rows = []
    for pair in pairs:
        shares = (pair["ensemble"], pair["better"], pair["both_wrong"], pair["one_right"])
        rows.append([" + ".join(pair["arms"]), *(f"{100 * share:.1f}" for share in shares)])
    return Table([*PAIR_HEAD], rows)


def beside_unit(metric: str, means: dict[str, Estimate]) -> str:
    """Return the unit of a metric that is reported beside a task's own: % or its name."""
    values = [mean["value"] for mean in means.values() if mean["value"] is not None]
    return "%" if are_fractions(metric, values) else metric


def exchange_table(
    rates: dict[str, Exchange],
    recipes: dict[str, Recipe],
    doubts: dict[str, Fairness],
    has_controls: bool,
) -> Table:
    """Return how many natural tokens the arms save on a task, a row for each.

    Args:
        rates: arm -> its rate.
        recipes: arm -> how it was fine-tuned.
        doubts: arm -> what speaks against its comparison with random.
        has_controls: whether a control is among the arms of the experiment.
    """
    rows = []
    for arm, rate in rates.items():
        row = [arm]

        # The tokens, where every seed reached the loss.
        if rate["reached"] < rate["seeds"]:
            row.append(f"not reached ({rate['reached']} of {rate['seeds']} seeds)")
            row += [ABSENT_TEXT, ABSENT_TEXT]
        else:
            row.append(markdown_interval(rate["natural"]))
            row.append(markdown_interval(rate["with_synthetic"]))
            row.append(markdown_interval(rate["net_gain"], sign="+"))

        # Where random is ahead again.
        if rate["crossover"]:
            row.append(f"{format_count(rate['crossover'])} tokens")
        else:
            row.append("never" if rate["reached"] == rate["seeds"] else ABSENT_TEXT)

        # What it lets one say.
        if recipes[arm]["matches_flops"]:
            row.append("a control of equal compute")
        elif is_longer_random(recipes[arm]):
            row.append(f"a control of {recipes[arm]['budget']:g} times the steps")
        else:
            doubt = doubts.get(arm, {"refused": [], "caveats": []})
            row.append(exchange_claim(arm, rate, doubt, has_controls))
        rows.append(row)
    return Table([*EXCHANGE_HEAD], rows)


def exchange_claim(arm: str, rate: Exchange, doubts: Fairness, has_controls: bool) -> str:
    """Return what a rate lets one say of an arm."""
    if is_control(arm):
        return "a control"
    if doubts["refused"]:
        return f"none: {doubts['refused'][0]}"

    # What the numbers do not carry.
    if rate["reached"] < rate["seeds"]:
        return "none: not every seed reached the loss"
    if rate["controls"]:
        return f"none: not ahead of {', '.join(rate['controls'])}"
    high = rate["natural"]["high"]
    if high is None and rate["seeds"] > 1:
        return "none: the loss was reached before the first evaluation; give more evaluations"
    if high is None:
        return "none: one seed has no interval"
    if high >= 1:
        return "none: the interval has 100 %"
    if not has_controls:
        return "none: no control was run"

    # What is claimed.
    net_gain = rate["net_gain"]["value"]
    costs_more = net_gain is not None and net_gain < 0
    claim = "saves natural tokens, not compute" if costs_more else "saves natural tokens"
    return "; but ".join([claim, *doubts["caveats"]])
