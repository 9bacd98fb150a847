"""The tables of the committed experiments, from their reports: `make readme`.

1. `demo`, `table_of_findings`: the demo's plot, and all experiments in one table -> README.md.
2. `results`: the table of every experiment -> results/README.md.
"""

import json
from pathlib import Path
from typing import Any

from hf_synpre.report.cells import ABSENT
from hf_synpre.report.escapes import escape_markdown
from hf_synpre.report.exchange import is_control
from hf_synpre.report.findings import write_findings
from hf_synpre.report.markdown_page import exchange_table
from hf_synpre.report.render import task_heading
from hf_synpre.report.schema import Estimate, Report

ROOT = Path(__file__).parents[1]
ONE_SEED = "one seed"


def with_interval(estimate: Estimate | None, unit: str | None = "%") -> str:
    """Write an estimate with its interval, a fraction in percent, without its unit."""
    if estimate is None or (estimate["value"] is None and estimate["note"].startswith(ABSENT)):
        return "–"
    if estimate["value"] is None:
        return "refused"
    factor, digits = (100, 1) if unit == "%" else (1, 3)
    text = f"{factor * estimate['value']:.{digits}f}"
    if estimate["low"] is not None:
        text += f" [{factor * estimate['low']:.{digits}f}, {factor * estimate['high']:.{digits}f}]"
    return text


def finding(report: Report) -> str:
    """Return what an experiment found, in sentences, with a name as Markdown writes it."""
    return " ".join(write_findings(report, escape_markdown))


def star(difference: Estimate | None) -> str:
    """Return the star of a difference whose interval excludes zero."""
    return " **\\***" if difference and difference["excludes_zero"] else ""


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_of_one_task(report: Report) -> str:
    """Return a table with a row for each arm of an experiment on one task."""
    (task,) = report["tasks"]
    metric = report["tasks"][task]["metric"].replace("_", " ")
    head = [
        f"start ({task})",
        f"{metric}, %",
        "difference to random",
        "benefit of natural, %",
        "pre-training tokens",
    ]

    rows = []
    for arm in report["arms"]:
        score = report["scores"][task][arm]
        difference = report["differences"][task].get(arm)
        share = None
        if arm in report["benefits"]:
            share = report["benefits"][arm]["tasks"][task]
        tokens = (report["phases"][arm]["pretraining"] or {}).get("tokens")
        rows.append(
            [
                arm,
                with_interval(score),
                with_interval(difference) + star(difference),
                with_interval(share),
                f"{tokens / 1e6:.1f} M" if tokens else "–",
            ]
        )
    return markdown_table(head, rows)


def tables_of_many_tasks(report: Report) -> str:
    """Return tables with a row for each arm and a column for each task.

    Arms that are on all tasks come first; those on fewer tasks have a table of their own for each
    choice of tasks, so that no field is empty.
    """
    arms_by_tasks: dict[tuple[str, ...], list[str]] = {}
    for arm in report["arms"]:
        tasks = tuple(task for task in report["tasks"] if arm in report["scores"][task])
        arms_by_tasks.setdefault(tasks, []).append(arm)

    tables = []
    for tasks, arms in sorted(arms_by_tasks.items(), key=lambda item: -len(item[0])):
        table = table_of_tasks(report, list(tasks), arms)
        if len(tasks) < len(report["tasks"]):
            table = f"On {len(tasks)} of the {len(report['tasks'])} tasks:\n\n{table}"
        tables.append(table)
    return "\n\n".join(tables)


def table_of_tasks(report: Report, tasks: list[str], arms: list[str]) -> str:
    """Return the scores of some arms on some tasks.

    A last column holds the mean benefit of the arms for which it is over all tasks, if any is.
    """
    benefits = {arm: benefit["mean_of_ratios"] for arm, benefit in report["benefits"].items()}
    benefits = {arm: m for arm, m in benefits.items() if arm in arms and not m["note"]}
    show_benefits = any(mean["value"] is not None for mean in benefits.values())

    head = ["start", *(task_heading(task, report["tasks"][task]) for task in tasks)]
    if show_benefits:
        head.append("mean benefit of natural, %")

    rows = []
    for arm in arms:
        row = [arm]
        for task in tasks:
            score = report["scores"][task].get(arm)
            text = with_interval(score, report["tasks"][task]["unit"])
            row.append(text + star(report["differences"][task].get(arm)))
        if show_benefits:
            row.append(with_interval(benefits.get(arm)))
        rows.append(row)
    return markdown_table(head, rows)


def provenance(report: Report, name: str) -> str:
    """Return which seeds and command made an experiment's table."""
    if count_of_seeds(report) == ONE_SEED:
        return f"One seed of fine-tuning, so no interval. {made_by(report, name)}"
    return (
        f"Mean over {count_of_seeds(report)} of fine-tuning with its 95 % interval; * the "
        f"difference to random excludes zero. {made_by(report, name)}"
    )


def count_of_seeds(report: Report) -> str:
    """Return how many seeds the scores of an experiment have, as "3 to 5 seeds"."""
    seeds = sorted({score["n"] for row in report["scores"].values() for score in row.values()})
    if seeds == [1]:
        return ONE_SEED
    return f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"


def made_by(report: Report, name: str) -> str:
    """Return the command that computed an experiment, on what and at which commits."""
    commits = ", ".join(sorted(report["versions"]["commit"]))
    machines = "two CPU cores"
    for device, origin in report["origins"].get("device", {}).items():
        if not device.startswith("cpu") and device != "unknown":
            machines += f", {origin['cells']} of its cells on an {device}"
    return f"Made by `synpre run examples/{name}.yaml` on {machines}, at commit {commits}."


# Experiment -> the shape of its table, what stands above it, the plot beside it.
SHOWN = {
    "quickstart": (
        table_of_one_task,
        "The demo: 200 steps of fine-tuning a T5 of 0.9 M parameters on syntax trees.",
        "curves.png",
    ),
    "campaign": (
        tables_of_many_tasks,
        "The same T5 on the papers' kind of tasks, every arm with the same fine-tuning.",
        "curves.png",
    ),
    "which_statistics": (
        tables_of_many_tasks,
        "The statistics of models that learnt one of the paper's 21 tasks.",
        "differences.png",
    ),
    "larger": (
        table_of_one_task,
        "A T5 of three times as many parameters from the statistics of the small one.",
        None,
    ),
    "self_pretraining": (
        tables_of_many_tasks,
        "Self-pretraining an ELECTRA of two CPU cores' size.",
        "gains.png",
    ),
    "self_pretraining_roberta": (
        tables_of_many_tasks,
        "Self-pretraining a RoBERTa with tokenizers of its own.",
        None,
    ),
    "decoder": (
        tables_of_many_tasks,
        "A Llama of a million parameters, with the controls that a claim must beat.",
        "differences.png",
    ),
    "decoder_quickstart": (
        tables_of_many_tasks,
        "A first look at a decoder: a Llama of two layers, one seed.",
        None,
    ),
}


# Experiment -> the arms that README's table of findings names.
ARMS_OF_FINDINGS = {
    "quickstart": ["synthetic", "statistics", "natural"],
    "campaign": ["synthetic", "statistics", "natural", "natural_128m"],
    "larger": ["statistics"],
    "self_pretraining": ["self", "synthetic", "natural"],
    "self_pretraining_roberta": ["self", "natural"],
    "decoder": ["synthetic", "identity", "statistics", "natural"],
}


def read_report(name: str) -> Report:
    """Return the report of a committed experiment."""
    return json.loads((ROOT / "results" / name / "report.json").read_text())


def demo() -> str:
    """Return the plot of the quickstart with its scores."""
    report = read_report("quickstart")
    (scores,) = report["scores"].values()
    starts = ", ".join(f"`{arm}` {with_interval(score)}" for arm, score in scores.items())
    (seeds,) = {score["n"] for score in scores.values()}
    return (
        "![Scores during fine-tuning, by start](results/quickstart/curves.png)\n\n"
        "The demo: a T5 of 0.9 M parameters learns to write the syntax tree of Python code, from "
        "four [starts](#what-was-found). After 200 steps so many per cent of the test rows are "
        f"exactly right: {starts}; means over {seeds} seeds with 95 % intervals."
    )


def table_of_findings() -> str:
    """Return a row for each experiment: what its starts gained, and what compute alone gives."""
    head = [
        "experiment",
        "starts that are better than random weights",
        "and better than random weights that are fine-tuned for longer, at equal total compute?",
    ]
    rows = []
    for name, arms in ARMS_OF_FINDINGS.items():
        report = read_report(name)
        title = SHOWN[name][1].removesuffix(".")
        gains = ", ".join(ahead_of_random(report, arm) for arm in arms if arm in report["arms"])
        rows.append([f"[{title}](results/README.md)", gains, against_equal_compute(report)])
    return markdown_table(head, rows)


def ahead_of_random(report: Report, arm: str) -> str:
    """Return on how many tasks an arm is better than random by an interval that excludes zero."""
    tasks = [task for task, arms in report["differences"].items() if arm in arms]
    ahead = [task for task in tasks if outcome(report, task, report["differences"][task][arm]) > 0]
    noun = "task" if len(tasks) == 1 else "tasks"
    return f"`{arm}` on {len(ahead)} of {len(tasks)} {noun}"


def outcome(report: Report, task: str, difference: Estimate) -> int:
    """Return whether a difference is one for the better, 1, or the worse, -1.

    0 is a difference whose interval includes zero.
    """
    if not difference["excludes_zero"]:
        return 0
    is_better = (difference["value"] > 0) == report["tasks"][task]["higher_is_better"]
    return 1 if is_better else -1


def against_equal_compute(report: Report) -> str:
    """Return where the best pre-trained arm is ahead of a control of equal compute."""
    # Answer -> the tasks that have it; the leads are those of the control.
    answers_of_outcomes = {-1: "yes", 1: "no", 0: "no clear difference"}
    tasks: dict[str, list[str]] = {answer: [] for answer in answers_of_outcomes.values()}
    for task, found in report["findings"].items():
        for control in found["controls"]:
            answer = answers_of_outcomes[outcome(report, task, control["lead"])]
            tasks[answer].append(task)

    answers = [f"{answer} on {', '.join(names)}" for answer, names in tasks.items() if names]
    return "; ".join(answers) or "not measured"


def results() -> str:
    """Return the tables and plots of all committed experiments."""
    parts = [same_tasks()]
    for name, (_, title, _) in SHOWN.items():
        parts += [f"## {title.removesuffix('.')}", *results_of(name, Path())]
    return "\n\n".join(parts)


def decoder() -> str:
    """Return the tables and the plot of the decoder's experiment."""
    return "\n\n".join(results_of("decoder", Path("../results")))


def results_of(name: str, folder: Path) -> list[str]:
    """Return the sentences, tables and the plot of a committed experiment.

    Args:
        name: the experiment.
        folder: the folder results as the page names it.
    """
    table, _, plot = SHOWN[name]
    report = read_report(name)
    parts = [finding(report), recipe_of(name)]
    if plot:
        parts.append(f"![{name}]({folder / name / plot})")
    parts += [table(report), f"{provenance(report, name)} Cells: [{name}]({folder / name})."]
    return parts + tables_of_saved_tokens(report)


def tables_of_saved_tokens(report: Report) -> list[str]:
    """Return how many natural tokens the arms save on each task of language modelling."""
    has_controls = any(map(is_control, report["arms"]))
    parts = []
    for task, rates in report.get("exchange", {}).items():
        recipes, doubts = report["recipes"][task], report["fairness"].get(task, {})
        table = exchange_table(rates, recipes, doubts, has_controls)
        parts.append(
            f"Natural tokens of {task} that a start reads until it has the loss with which random "
            "ends, in per cent of those that random reads. Both have the same steps of fine-tuning."
        )
        parts.append(markdown_table(table.head, [list(map(str, row)) for row in table.rows]))
    return parts


def read_recipe(name: str) -> dict[str, Any]:
    """Return the recipe of a committed experiment."""
    return json.loads((ROOT / "results" / name / "experiment.json").read_text())


def model_of(recipe: dict[str, Any]) -> str:
    """Return the architecture of an experiment: its kind, width and layers."""
    model, sizes = recipe["model"], recipe["model"]["overrides"]
    width = sizes.get("d_model") or sizes["hidden_size"]
    layers = str(sizes.get("num_layers") or sizes["num_hidden_layers"])
    if "num_decoder_layers" in sizes:
        layers += f" + {sizes['num_decoder_layers']}"
    return f"{model['model_type']} of width {width}, {layers} layers"


def steps_of(recipe: dict[str, Any], task: str) -> int:
    """Return the steps of fine-tuning on a task."""
    own = (recipe["tasks"][task]["finetuning"] or {}).get("training", {})
    return own.get("max_steps") or recipe["finetuning"]["training"]["max_steps"]


def natural_text(recipe: dict[str, Any]) -> str:
    """Return which run the arm natural starts from, – without that arm."""
    return (recipe["arms"].get("natural") or {}).get("checkpoint") or "–"


def recipe_of(name: str) -> str:
    """Return a sentence of an experiment's model, fine-tuning and natural text."""
    recipe = read_recipe(name)
    steps = sorted({steps_of(recipe, task) for task in recipe["tasks"]})
    count = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    text = f"Recipe: {model_of(recipe)}; {count} steps of fine-tuning"
    if natural_text(recipe) != "–":
        text += f"; `natural` starts from the run {natural_text(recipe)}"
    return f"{text}."


def same_tasks() -> str:
    """Return a table of the tasks that several experiments have, with what differs in them."""
    experiments: dict[str, list[str]] = {}
    for name in SHOWN:
        for task in read_report(name)["tasks"]:
            experiments.setdefault(task, []).append(name)

    head = ["task", "experiment", "model", "steps", "natural text", "random", "natural"]
    rows = []
    for task, names in experiments.items():
        for name in names if len(names) > 1 else []:
            recipe, report = read_recipe(name), read_report(name)
            summary, scores = report["tasks"][task], report["scores"][task]
            arms = [
                with_interval(scores.get(arm), summary["unit"]) for arm in ("random", "natural")
            ]
            steps, heading = str(steps_of(recipe, task)), task_heading(task, summary)
            rows.append([heading, name, model_of(recipe), steps, natural_text(recipe), *arms])
    return (
        "Some tasks are in several experiments. Their recipes differ, so scores are to be compared "
        f"only within one experiment:\n\n{markdown_table(head, rows)}"
    )
