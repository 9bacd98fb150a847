"""Render README.md's tables from results/*/report.json and benchmarks/results/*.json: `make readme`."""

import json
from pathlib import Path

from hf_synpre.report.cells import ABSENT

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- {}: begin (made by `make readme`) -->\n", "<!-- {}: end -->\n"


def cell(estimate: dict | None) -> str:
    """Write an estimate in percent with its interval."""
    if estimate is None or estimate["value"] is None:
        return "–" if estimate is None or estimate["note"].startswith(ABSENT) else "refused"
    ends = (
        ""
        if estimate["low"] is None
        else f" [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
    )
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
        cells = [
            cell(report["scores"][task][arm]),
            cell(difference) + mark(difference),
            cell(benefit),
        ]
        rows.append([arm, *cells, f"{tokens / 1e6:.1f} M" if tokens else "–"])
    metric = report["tasks"][task]["metric"].replace("_", " ")
    return markdown(
        [
            f"start ({task})",
            f"{metric}, %",
            "difference to random",
            "benefit of natural, %",
            "pre-training tokens",
        ],
        rows,
    )


def matrix(report: dict) -> str:
    """Return a table with a row for each arm, a column for each task, the benefit if it is over all."""
    benefits = {arm: found["mean_of_ratios"] for arm, found in report["benefits"].items()}
    benefits = {arm: estimate for arm, estimate in benefits.items() if not estimate["note"]}
    known = any(estimate["value"] is not None for estimate in benefits.values())
    rows = []
    for arm in report["arms"]:
        cells = [
            short(report["scores"][t].get(arm)) + mark(report["differences"][t].get(arm))
            for t in report["tasks"]
        ]
        rows.append([arm, *cells, *([cell(benefits.get(arm))] * known)])
    heads = [
        f"{task}, {facts['metric'].replace('_', ' ')}" for task, facts in report["tasks"].items()
    ]
    return markdown(["start", *heads, *(["mean benefit of natural, %"] * known)], rows)


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
    "quickstart": (
        long_table,
        "The demo: 250 steps of fine-tuning a T5 of 0.9 M parameters on syntax trees.",
        "curves.png",
    ),
    "campaign": (
        matrix,
        "The same T5 on the papers' kind of tasks, every arm with the same fine-tuning.",
        "curves.png",
    ),
    "larger": (
        long_table,
        "A T5 of three times as many parameters from the statistics of the small one.",
        None,
    ),
    "self_pretraining": (
        matrix,
        "Self-pretraining an ELECTRA of two CPU cores' size.",
        "gains.png",
    ),
    "self_pretraining_roberta": (
        matrix,
        "Self-pretraining a RoBERTa with tokenizers of its own.",
        None,
    ),
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
    return "\n\n".join([*parts, caveat])


def measured(name: str) -> dict:
    """Return the committed figures of a benchmark."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def speed() -> str:
    """Return a table of the benchmarks: what was measured, against what, in the same run."""
    rows = [
        [claim, against, f"`benchmarks/{script}.py`"]
        for script, claims in CLAIMS.items()
        for claim, against in claims()
    ]
    return markdown(["measured", "against", "by"], rows)


def generation() -> list[tuple[str, str]]:
    """Return the figures of the generator."""
    found = measured("generation")
    summary, of_set = found["summary"], found["per_task"]["set"]
    borrowed = len(found["reference_figure_borrowed_from"])
    return [
        (
            f"Set: {of_set['rows_per_s'] / 1e6:.1f} M rows/s, {of_set['tokens_per_s'] / 1e6:.0f} M tokens/s on one core",
            f"NumPy ({summary['set_of_numpy']:.2f} of its speed)",
        ),
        (
            f"{summary['tasks']} tasks: {summary['geometric_mean_speed_up']:.0f} times (geometric mean), the slowest "
            f"{summary['least_speed_up']:.0f} times",
            f"the reference, measured elsewhere on a like machine ({borrowed} tasks take the figure of the nearest law); "
            f"with a leaner nesting language than its authors' {summary['geometric_mean_lean']:.0f} and "
            f"{summary['least_speed_up_lean']:.0f} times",
        ),
    ]


def pretraining() -> list[tuple[str, str]]:
    """Return the figures of batches."""
    lines = []
    for task, found in measured("pretraining")["median"].items():
        ours = found["bucketed"]["tokens_per_s"]
        times = [
            f"{ours / found[peer]['tokens_per_s']:.1f}"
            for peer in ("512/512", "longest", "grouped")
        ]
        lines.append(
            (
                f"useful tokens/s of {task}, buckets, a T5 of 7.6 M on one core: {', '.join(times)} times",
                "a stock Seq2SeqTrainer that pads to 512/512, pads to the longest, groups by length",
            )
        )
    return lines


def recipe() -> list[tuple[str, str]]:
    """Return the figures of the fast preset."""
    runs = [run for run in measured("recipe")["runs"] if run["flops"]]
    (paper,) = (run["flops"] for run in runs if run["candidate"] == "paper")
    times = sorted(paper / run["flops"] for run in runs if run["candidate"] == "fast")
    claim = f"99 % on Set with {times[0]:.1f} to {times[-1]:.1f} times fewer FLOPs ({len(times)} seeds of `fast`)"
    return [(claim, "the preset `paper`, one seed")]


def resume() -> list[tuple[str, str]]:
    """Return what a run came to that was killed."""
    found = measured("resume")
    return [
        (
            f"a run killed {found['kills']} times: {'equal' if found['equal'] else 'other'} bytes",
            "the run left in peace",
        )
    ]


def dataset_build() -> list[tuple[str, str]]:
    """Return the figures of writing datasets."""
    summary = measured("dataset_build")["summary"]
    memory = max(summary["peak_megabytes_by_rows_of_set"].values())
    return [
        (
            f"Parquet of Set at {summary['set_share_of_pyarrow']:.2f} of the speed, the slowest of seven tasks "
            f"{summary['least_share_of_pyarrow']:.2f}; {memory:.0f} MB at the most whatever the rows",
            "pyarrow writing ready arrays (ours has a second core for generating)",
        )
    ]


def parameter_statistics() -> list[tuple[str, str]]:
    """Return the figures of measuring a checkpoint."""
    found = measured("parameter_statistics")
    of = {
        (peer, k): [run[k][peer] for run in found["streaming"].values()]
        for peer in PEERS
        for k in ("cold", "warm")
    }
    added = max(run["peak_memory"]["added_mb"] for run in found["streaming"].values())
    init = found["init_t5_small"]["per_param_mean_sd"]["to_transformers"]
    places = {"cold": "from the disk", "warm": "from the page cache"}
    claims = [
        (
            f"statistics of 2 GB of shards {places[k]} in {min(to):.2f} to {max(to):.2f} times the time",
            PEERS[peer],
        )
        for (peer, k), to in of.items()
    ]
    return [
        *claims,
        (f"{added:.0f} MB above the largest tensor", "300 MB"),
        (f"T5-small from statistics in {init:.2f} of the time", "transformers' own random init"),
    ]


PEERS = {"to_tensors": "reading the tensors with safetensors", "to_bytes": "reading the bare bytes"}


def roles() -> list[tuple[str, str]]:
    """Return of how many models the roles are told."""
    found = measured("roles")
    limit = (
        f"the {found['built']} of transformers {found['transformers']} that a default config builds"
    )
    return [(f"the roles of all parameters told for {found['told']} models", limit)]


def self_pretraining() -> list[tuple[str, str]]:
    """Return the figures of the objectives of encoders."""
    found = measured("self_pretraining")["ratio"]
    return [
        (
            f"useful tokens/s of mlm {found['mlm']:.1f} times, rtd {found['rtd']:.1f} times, an encoder of width 128",
            "a stock Trainer with DataCollatorForLanguageModeling; heads at all ids, at equal losses",
        )
    ]


def initial_weights() -> list[tuple[str, str]]:
    """Return how soon small encoders learn text."""
    times = measured("initial_weights")["times_sooner"]
    claim = "; ".join(
        f"{name}: {factor:.1f} times fewer" if factor else f"{name}: none"
        for name, factor in times.items()
    )
    return [
        (
            f"ids to the same loss from initial weights `local`, two layers. {claim}",
            "transformers' initial weights",
        )
    ]


SPEEDS = (
    generation,
    pretraining,
    recipe,
    resume,
    dataset_build,
    parameter_statistics,
    roles,
    self_pretraining,
)
CLAIMS = {claims.__name__: claims for claims in (*SPEEDS, initial_weights)}


BLOCKS = {"results": results, "speed": speed}


def render(readme: str) -> str:
    """Return README.md with today's results and figures."""
    for name, block in BLOCKS.items():
        before, rest = readme.split(BEGIN.format(name))
        readme = (
            before
            + BEGIN.format(name)
            + block()
            + "\n"
            + END.format(name)
            + rest.split(END.format(name))[1]
        )
    return readme


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(render(file.read_text(encoding="utf-8")), encoding="utf-8")
