"""Render the tables of three pages from JSON: `make readme`.

1. `demo`: the report of the quickstart -> the table and plot of README.md.
2. `results`: the reports of all committed experiments -> results/README.md.
3. `speed`: the figures of the committed benchmarks -> benchmarks/README.md.
4. `render`: a page -> the page with its block between its markers.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from hf_synpre.report.cells import ABSENT
from hf_synpre.report.escapes import escape_markdown
from hf_synpre.report.findings import write_findings
from hf_synpre.report.schema import Estimate, Report

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- {}: begin (made by `make readme`) -->\n", "<!-- {}: end -->\n"

# A line of the table of speeds: what was measured, and what it was measured against.
Claim = tuple[str, str]


# --- Results --------------------------------------------------------------------------------------


def with_interval(estimate: Estimate | None) -> str:
    """Write an estimate in percent with its interval."""
    if estimate is None or (estimate["value"] is None and estimate["note"].startswith(ABSENT)):
        return "–"
    if estimate["value"] is None:
        return "refused"
    text = f"{100 * estimate['value']:.1f}"
    if estimate["low"] is not None:
        text += f" [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
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

    head = ["start"]
    for task in tasks:
        head.append(f"{task}, {report['tasks'][task]['metric'].replace('_', ' ')}")
    if show_benefits:
        head.append("mean benefit of natural, %")

    rows = []
    for arm in arms:
        row = [arm]
        for task in tasks:
            score = report["scores"][task].get(arm)
            row.append(with_interval(score) + star(report["differences"][task].get(arm)))
        if show_benefits:
            row.append(with_interval(benefits.get(arm)))
        rows.append(row)
    return markdown_table(head, rows)


def provenance(report: Report, name: str) -> str:
    """Return which seeds and command made an experiment's table."""
    seeds = sorted({score["n"] for row in report["scores"].values() for score in row.values()})
    count = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    commits = ", ".join(sorted(report["versions"]["commit"]))
    return (
        f"Mean over {count} of fine-tuning with its 95 % interval; * the difference to random "
        f"excludes zero. Made by `synpre run examples/{name}.yaml` on two CPU cores at commit "
        f"{commits}."
    )


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
}


# Experiment -> the arms that README's table of findings names.
ARMS_OF_FINDINGS = {
    "quickstart": ["synthetic", "statistics", "natural"],
    "campaign": ["synthetic", "statistics", "natural"],
    "larger": ["statistics"],
    "self_pretraining": ["self", "synthetic", "natural"],
    "self_pretraining_roberta": ["self", "natural"],
}


def read_report(name: str) -> Report:
    """Return the report of a committed experiment."""
    return json.loads((ROOT / "results" / name / "report.json").read_text())


def demo() -> str:
    """Return the plot and the table of the quickstart."""
    report = read_report("quickstart")
    _, title, plot = SHOWN["quickstart"]
    parts = [
        f"**{title}**",
        f"![quickstart](results/quickstart/{plot})",
        finding(report),
        table_of_one_task(report),
        provenance(report, "quickstart"),
        "**All experiments in one table.**",
        table_of_findings(),
    ]
    return "\n\n".join(parts)


def table_of_findings() -> str:
    """Return a row for each experiment: what its starts gained, and what compute alone gives."""
    head = ["experiment", "ahead of random weights", "equal compute: random weights, tuned longer"]
    rows = []
    for name, arms in ARMS_OF_FINDINGS.items():
        report = read_report(name)
        title = SHOWN[name][1].removesuffix(".")
        gains = ", ".join(ahead_of_random(report, arm) for arm in arms)
        rows.append([f"[{title}](results/README.md)", gains, against_equal_compute(report)])
    return markdown_table(head, rows)


def ahead_of_random(report: Report, arm: str) -> str:
    """Return on how many tasks an arm is above random by an interval that excludes zero."""
    differences = [arms[arm] for arms in report["differences"].values() if arm in arms]
    ahead = [d for d in differences if d["excludes_zero"] and d["value"] > 0]
    return f"{arm} on {len(ahead)} of {len(differences)}"


def against_equal_compute(report: Report) -> str:
    """Return where a control of equal compute is ahead of the pre-trained arms, and where not."""
    # Outcome -> the tasks that have it.
    tasks: dict[str, list[str]] = {"ahead": [], "behind": [], "not told apart": []}
    for task, found in report["findings"].items():
        for control in found["controls"]:
            lead = control["lead"]
            if not lead["excludes_zero"]:
                tasks["not told apart"].append(task)
            elif lead["value"] > 0:
                tasks["ahead"].append(task)
            else:
                tasks["behind"].append(task)

    outcomes = [f"{outcome} on {', '.join(names)}" for outcome, names in tasks.items() if names]
    return "; ".join(outcomes) or "not tried"


def results() -> str:
    """Return the tables and plots of all committed experiments."""
    parts = [same_tasks()]
    for name, (table, title, plot) in SHOWN.items():
        report = read_report(name)
        parts += [f"## {title.removesuffix('.')}", finding(report), recipe_of(name)]
        if plot:
            parts.append(f"![{name}]({name}/{plot})")
        parts += [table(report), f"{provenance(report, name)} Cells: [{name}]({name})."]
    return "\n\n".join(parts)


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

    head = ["task", "experiment", "model", "steps", "natural text", "random, %", "natural, %"]
    rows = []
    for task, names in experiments.items():
        for name in names if len(names) > 1 else []:
            recipe, scores = read_recipe(name), read_report(name)["scores"][task]
            arms = [with_interval(scores.get(arm)) for arm in ("random", "natural")]
            steps = str(steps_of(recipe, task))
            rows.append([task, name, model_of(recipe), steps, natural_text(recipe), *arms])
    return (
        "Some tasks are in several experiments. Their recipes differ, so scores are to be compared "
        f"only within one experiment:\n\n{markdown_table(head, rows)}"
    )


def measured(name: str) -> dict[str, Any]:
    """Return the committed figures of a benchmark."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def speed() -> str:
    """Return a table of the benchmarks: what was measured, against what, in the same run."""
    rows = []
    for script, claims in CLAIMS.items():
        for claim, against in claims():
            rows.append([claim, against, f"`benchmarks/{script}.py`"])
    return markdown_table(["measured", "against", "by"], rows)


def generation() -> list[Claim]:
    """Return the figures of the generator."""
    figures = measured("generation")
    summary, of_set = figures["summary"], figures["per_task"]["set"]
    borrowed = len(figures["reference_figure_borrowed_from"])
    return [
        (
            f"Set: {of_set['rows_per_s'] / 1e6:.1f} M rows/s, "
            f"{of_set['tokens_per_s'] / 1e6:.0f} M tokens/s on one core",
            f"NumPy ({summary['set_of_numpy']:.2f} of its speed)",
        ),
        (
            f"{summary['tasks']} tasks: {summary['geometric_mean_speed_up']:.0f} times (geometric "
            f"mean), the slowest {summary['least_speed_up']:.0f} times",
            "the reference, measured elsewhere on a like machine "
            f"({borrowed} tasks take the figure of the nearest law); with a leaner nesting "
            f"language than its authors' {summary['geometric_mean_lean']:.0f} and "
            f"{summary['least_speed_up_lean']:.0f} times",
        ),
    ]


def pretraining() -> list[Claim]:
    """Return the figures of batches."""
    claims = []
    for task, speeds in measured("pretraining")["median"].items():
        bucketed = speeds["bucketed"]["tokens_per_s"]
        peers = ("512/512", "longest", "grouped")
        times = ", ".join(f"{bucketed / speeds[peer]['tokens_per_s']:.1f}" for peer in peers)
        claims.append(
            (
                f"useful tokens/s of {task}, buckets, a T5 of 7.6 M on one core: {times} times",
                "a stock Seq2SeqTrainer that pads to 512/512, pads to the longest, groups by "
                "length",
            )
        )
    return claims


def recipe() -> list[Claim]:
    """Return the figures of the fast preset."""
    runs = [run for run in measured("recipe")["runs"] if run["flops"]]
    (paper,) = (run["flops"] for run in runs if run["candidate"] == "paper")
    times = sorted(paper / run["flops"] for run in runs if run["candidate"] == "fast")
    claim = (
        f"99 % on Set with {times[0]:.1f} to {times[-1]:.1f} times fewer FLOPs "
        f"({len(times)} seeds of `fast`)"
    )
    return [(claim, "the preset `paper`, one seed")]


def resume() -> list[Claim]:
    """Return what a run came to that was killed."""
    figures = measured("resume")
    outcome = "equal" if figures["equal"] else "other"
    claim = f"a run killed {figures['kills']} times: {outcome} bytes"
    return [(claim, "the run left in peace")]


def chaos() -> list[Claim]:
    """Return what commands came to that were killed, or met another accident."""
    figures = measured("chaos")
    kills: Counter[str] = Counter()
    for one in figures["rounds"]:
        kills[one["command"]] += len(one["killed_at"])
    commands = ", ".join(f"{command} {count}" for command, count in kills.most_common())
    kinds = ", ".join(dict.fromkeys(one["accident"] for one in figures["accidents"]))
    killed = sum(bool(one["problems"]) for one in figures["rounds"])
    met = sum(bool(one["problems"]) for one in figures["accidents"])
    return [
        (
            f"{figures['kills']} kills ({commands}): {len(figures['rounds']) - killed} of "
            f"{len(figures['rounds'])} results with equal bytes, nothing half visible",
            "the commands left in peace",
        ),
        (
            f"{figures['accidents_tried']} other accidents ({kinds}): one line, and the same "
            f"command goes on, in {figures['accidents_tried'] - met}",
            "the commands left in peace",
        ),
    ]


def fuzz() -> list[Claim]:
    """Return what became of broken and hostile inputs."""
    figures = measured("fuzz")
    total = figures["total"]
    claim = (
        f"{total['examples']:,} broken or hostile inputs of {len(figures['surfaces'])} kinds: "
        f"{total['read']:,} read, {total['refused']:,} refused in one clear line, "
        f"{total['failed']} tracebacks, hangs or changed files; {total['peak_mb']} MB"
    )
    return [(claim, "20 s and 4 GB an input")]


def long_load() -> list[Claim]:
    """Return the figures of many rows and of many cells."""
    figures = measured("long_load")
    rows = figures["rows"]
    common = sum(rows["equal_between_streams"].values())
    row_claim = (
        f"{rows['rows'] / 1e6:.0f} M rows of four streams (splits and seeds): {common} in two of "
        f"them, {rows['equal_within_a_stream']} twice in one; {rows['peak_mb']} MB",
        f"{rows['expected_by_chance']:.1e} equal ones expected by chance",
    )

    # Each command at the largest size, and how its time grows, once all sizes were measured.
    if "growth_exponents" not in figures:
        return [row_claim]
    words = {"list": "listed", "only": "found complete", "report": "reported"}
    most, last = list(figures["sizes"].items())[-1]
    times = [f"{word} in {last[what]['cpu_s']:.1f} s" for what, word in words.items()]
    growth = [f"{word} {figures['growth_exponents'][what]:.2f}" for what, word in words.items()]
    peak = max(last[what]["peak_mb"] for what in words)
    cell_claim = (
        f"{int(most):,} cells of one folder (CPU): {', '.join(times)}, with at most {peak} MB",
        "a quarter of the cells; the time grows with their number to the power: "
        f"{', '.join(growth)} ({figures['copied_cells']:,} of the cells are copies of the "
        f"{figures['trained_cells']} that were trained, {figures['cpu_s_a_trained_cell']:.2f} s "
        "each)",
    )
    return [row_claim, cell_claim]


def dataset_build() -> list[Claim]:
    """Return the figures of writing datasets."""
    summary = measured("dataset_build")["summary"]
    memory = max(summary["peak_megabytes_by_rows_of_set"].values())
    return [
        (
            f"Parquet of Set at {summary['set_share_of_pyarrow']:.2f} of the speed, the slowest of "
            f"seven tasks {summary['least_share_of_pyarrow']:.2f}; {memory:.0f} MB at the most "
            "whatever the rows",
            "pyarrow writing ready arrays (ours has a second core for generating)",
        )
    ]


def parameter_statistics() -> list[Claim]:
    """Return the figures of measuring a checkpoint."""
    figures = measured("parameter_statistics")
    peers = {
        "to_tensors": "reading the tensors with safetensors",
        "to_bytes": "reading the bare bytes",
    }
    caches = {"cold": "from the disk", "warm": "from the page cache"}

    claims = []
    for peer, against in peers.items():
        for cache, source in caches.items():
            times = [run[cache][peer] for run in figures["streaming"].values()]
            claim = (
                f"statistics of 2 GB of shards {source} in {min(times):.2f} to {max(times):.2f} "
                "times the time"
            )
            claims.append((claim, against))

    added = max(run["peak_memory"]["added_mb"] for run in figures["streaming"].values())
    claims.append((f"{added:.0f} MB above the largest tensor", "300 MB"))
    share = figures["init_t5_small"]["per_param_mean_sd"]["to_transformers"]
    claims.append(
        (f"T5-small from statistics in {share:.2f} of the time", "transformers' own random init")
    )
    return claims


def roles() -> list[Claim]:
    """Return of how many models the roles are told."""
    figures = measured("roles")
    limit = (
        f"the {figures['built']} of transformers {figures['transformers']} that a default config "
        "builds"
    )
    return [(f"the roles of all parameters told for {figures['told']} models", limit)]


def self_pretraining() -> list[Claim]:
    """Return the figures of the objectives of encoders."""
    ratios = measured("self_pretraining")["ratio"]
    return [
        (
            f"useful tokens/s of mlm {ratios['mlm']:.1f} times, rtd {ratios['rtd']:.1f} times, an "
            "encoder of width 128",
            "a stock Trainer with DataCollatorForLanguageModeling; heads at all ids, at equal "
            "losses",
        )
    ]


def initial_weights() -> list[Claim]:
    """Return how soon small encoders learn text."""
    outcomes = []
    for name, factor in measured("initial_weights")["times_sooner"].items():
        outcomes.append(f"{name}: {factor:.1f} times fewer" if factor else f"{name}: none")
    claim = "ids to the same loss from initial weights `local`, two layers. " + "; ".join(outcomes)
    return [(claim, "transformers' initial weights")]


def large_vocabulary() -> list[Claim]:
    """Return the figures of heads that run at labelled positions only."""
    claims = []
    for model, phases in measured("large_vocabulary")["models"].items():
        outcomes = []
        for phase, figures in phases.items():
            chunks, whole = (figures[way]["peak_megabytes"] for way in ("chunks", "all logits"))
            outcomes.append(
                f"{phase} {figures['times_as_fast']:.1f} times as fast in "
                f"{chunks / 1024:.1f} instead of {whole / 1024:.1f} GB"
            )
        claim = f"{model}, the head at labelled positions in chunks: {', '.join(outcomes)}"
        claims.append((claim, "the logits of all positions, at equal losses and gradients"))
    return claims


def corpora() -> list[Claim]:
    """Return the figures of a large corpus that becomes token files."""
    figures = measured("corpora")["summary"]
    claim = (
        f"{figures['text_megabytes'] / 1000:.1f} GB of text made into token files at "
        f"{figures['share_of_encode_batch']:.2f} of the speed; "
        f"{figures['peak_anonymous_megabytes']:,} MB at the most; the first step of a second run "
        f"after {figures['first_step_of_second_run_s']:.1f} s"
    )
    peer = f"tokenizers.encode_batch on {figures['sample_megabytes']:.0f} MB of the same text"
    return [(claim, peer)]


def sizes() -> list[Claim]:
    """Return the figures of models of usual sizes, on each device."""
    return [*sizes_on("sizes"), *sizes_on("sizes_cuda")]


def sizes_on(name: str) -> list[Claim]:
    """Return the figures of models of usual sizes on one device."""
    results = measured(name)
    by_line = {(line["model"], line["data"], line["way"]): line for line in results["lines"]}
    claims = []
    for (model, data, way), own in by_line.items():
        if not way.startswith("ours"):
            continue
        stock = by_line[model, data, "stock, bf16" if way == "ours, bf16" else "stock"]
        claim = (
            f"{model} ({own['parameters'] / 1e6:.0f} M) on {data}{way.removeprefix('ours')}, "
            f"{results['device']}: {own['seconds_a_step']:.2g} s a step of {own['rows']} rows, "
            f"{own['tokens_per_s'] / stock['tokens_per_s']:.2f} times the tokens/s, "
            f"{own['peak_gb']:.1f} instead of {stock['peak_gb']:.1f} GB, MFU "
            f"{100 * own['mfu']:.0f} instead of {100 * stock['mfu']:.0f} %"
        )
        claims.append((claim, f"transformers' Trainer ({stock['way']}), the same examples"))
    return claims


def batches() -> list[Claim]:
    """Return the figures of how batches are made."""
    claims = []
    for case, ways in measured("batches")["median"].items():
        before, now, parts = (ways[way] for way in ("before", "now", "parts"))
        times = [way["tokens_per_s"] / before["tokens_per_s"] for way in (now, parts)]
        claim = (
            f"{case} lengths of Set: padding {100 * now['padding_share']:.1f} instead of "
            f"{100 * before['padding_share']:.1f} %, {times[0]:.2f} times the tokens/s "
            f"({times[1]:.2f} in parts of half a batch)"
        )
        claims.append((claim, "buckets sorted by the input, widths that are multiples of 8"))
    return claims


def clients() -> list[Claim]:
    """Return how many comparisons with other people's programs agree."""
    outcomes = measured("clients")["clients"]
    names = []
    for name, outcome in outcomes.items():
        names.append(f"{name} {outcome.get('version', 'could not be installed')}")

    checks = [check for outcome in outcomes.values() for check in outcome.get("checks", [])]
    agree = sum(check["passed"] for check in checks)
    controls = sum(check["control"] is not None for check in checks)
    return [
        (
            f"unmodified clients on our models and rows ({', '.join(names)}): {agree} of "
            f"{len(checks)} figures are ours",
            f"hf_synpre's own figures; {controls} of them also beside a control that must differ",
        )
    ]


# Script of benchmarks/ -> what is said of it.
CLAIMS = {
    "generation": generation,
    "pretraining": pretraining,
    "recipe": recipe,
    "resume": resume,
    "chaos": chaos,
    "fuzz": fuzz,
    "long_load": long_load,
    "dataset_build": dataset_build,
    "parameter_statistics": parameter_statistics,
    "roles": roles,
    "self_pretraining": self_pretraining,
    "initial_weights": initial_weights,
    "large_vocabulary": large_vocabulary,
    "corpora": corpora,
    "batches": batches,
    "sizes": sizes,
    "clients": clients,
}


# --- Pages ----------------------------------------------------------------------------------------

# Page -> the name of its block, and what makes it.
PAGES = {
    "README.md": ("demo", demo),
    "results/README.md": ("results", results),
    "benchmarks/README.md": ("speed", speed),
}


def render(page: str) -> str:
    """Return the text of a page with today's block between its markers."""
    name, block = PAGES[page]
    text = (ROOT / page).read_text(encoding="utf-8")
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return before + begin + block() + "\n" + end + after


if __name__ == "__main__":
    for page in PAGES:
        rendered = render(page)
        (ROOT / page).write_text(rendered, encoding="utf-8")
