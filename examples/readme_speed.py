"""The table of the committed benchmarks, from their JSON: `make readme`.

`CLAIMS` says which function reads the figures of which script of benchmarks/; `speed` makes the
table.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from readme_results import markdown_table

ROOT = Path(__file__).parents[1]

# A line of the table of speeds: what was measured, and what it was measured against.
Claim = tuple[str, str]


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


def zoo() -> list[Claim]:
    """Return the figures of the tasks since 2022."""
    figures = measured("zoo")
    rates = ", ".join(
        f"{task} {row['tokens_per_s'] / 1e6:.{0 if row['tokens_per_s'] >= 1e7 else 1}f}"
        for task, row in figures["per_task"].items()
    )
    asked = (
        "50 (20 for mqar, chomsky, depo, brevo, mano, lano, 2 for nca, 3 without its band, 0.5 for "
        "linear_rnn and random_lstm), what was asked for"
    )
    claims = [(f"M tokens/s on one core: {rates}", asked)]
    presets = {
        "k_dyck": "its preset of 64 kinds and 2,048 tokens",
        "nca": "its preset paper_web_text, which has our grid, states and complexity",
    }
    for task, preset in presets.items():
        if figures["peer"] is not None and task in figures["peer"]:
            peer = figures["peer"][task]
            claims.append(
                (
                    f"{task}: {peer['times']:.0f} times the tokens/s",
                    f"{figures['peer']['package']}, {preset} "
                    f"({peer['peer_tokens_per_s'] / 1e6:.2g} M tokens/s)",
                )
            )
    return claims


def learning() -> list[Claim]:
    """Return how many of the tasks a small model learns."""
    runs = measured("learning")
    learnt = [task for task, run in runs.items() if run["learnt"]]
    known = sum(run["learnt"] is not None for run in runs.values())
    helped = [task for task in learnt if runs[task].get("first") or runs[task].get("training")]
    return [
        (
            f"a Llama of 0.6 M parameters, preset `small`, learns {len(learnt)} of {known} tasks, "
            f"{' and '.join(helped)} with a first task or another optimizer "
            "(docs/synthetic_tasks.md has them one by one)",
            "the lowest possible loss; learnt means less than a fifth of ln V above it",
        )
    ]


def warmup() -> list[Claim]:
    """Return how far the sweep of warm-ups has come, and what it found."""
    content = measured("warmup")
    counts, models = content["summary"], content["models"]
    used = {
        name: found
        for name, found in models.items()
        if "first_loss" in found and found["excess_loss"] is not None
    }
    by_task: dict[str, list[str]] = {}
    for name, found in used.items():
        losses = f"{name} {found['excess_before']:.2f} to {found['excess_loss']:.2f}"
        by_task.setdefault(found["task"], []).append(losses)
    excess = "; ".join(f"{task}: {', '.join(names)}" for task, names in by_task.items())
    return [
        (
            f"warmed up, saved and loaded bit-equal, embeddings untouched: "
            f"{counts['warmed_and_reloaded']} of {counts['tried']} architectures tried "
            f"(of {counts['of']}), the longest {counts['most_cpu_s']:.0f} s of one core",
            "the stored tensors, the draws of the initialiser",
        ),
        (
            f"the {counts['used_tried']} families that are used most: excess loss at most half in "
            f"{counts['used_halved']}, the task learnt by {counts['used_learnt']}, the loss of the "
            f"first real step ln V within 5 % in {counts['used_first_loss_near_ln_v']}",
            "before the first step; a guess among all ids",
        ),
        (f"the excess loss of a warm-up, in nats; {excess}", "before its first step"),
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


def starts() -> list[Claim]:
    """Return on how many models the schemes keep what they promise, and the size of cards."""
    figures = measured("starts")
    identities = figures["identities"]
    exact = ("permuted_rows", "row_column_norms", "spectral", "symmetric_qk", "mimetic")
    counts = [
        f"{name} {identities[name]['architectures'] - len(identities[name]['above_1e-5'])}"
        for name in exact
    ]
    limit = f"the {identities['architectures']} small models of transformers that were built"
    card = figures["card"]
    claims = [
        (f"schemes that keep their identity to 1e-5, by models: {', '.join(counts)}", limit),
        (
            f"the statistics file of a Llama of {card['parameters'] / 1e9:.1f} B parameters: "
            f"{card['bytes'] / 1000:.0f} kB, {card['bytes_with_both'] / 1000:.0f} kB with the mean "
            "absolute deviations and quantiles of the singular values",
            "64 KiB",
        ),
    ]
    memory = figures["memory"]
    if memory:
        made = f"a Llama of {memory['parameters_mb'] / 2**10:.1f} GiB made from a card in "
        claims.append((f"{made}{memory['ratio']:.2f} times its size in memory", "1.2 times"))
    return claims


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


def replaced_tokens() -> list[Claim]:
    """Return how far ELECTRA's objective gets below a guess, by size."""
    outcomes = []
    for name, run in measured("replaced_tokens")["runs"].items():
        end = run["curve"][-1]
        below = 1 - end["discriminator_loss"] / end["floor"]
        outcomes.append(
            f"{name}: loss {below:.1%} below, "
            f"{end['replaced_recall']:.1%} of the replaced tokens found"
        )
        tokens = run["tokens"] / 1e6
    claim = f"objective rtd after {tokens:.1f} M tokens, ELECTRAs; "
    return [(claim + "; ".join(outcomes), "a guess that knows the share of replaced tokens")]


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


def bfloat16() -> list[Claim]:
    """Return how fast bfloat16 is on a CPU without instructions for it."""
    figures = measured("bfloat16")
    assert not figures["has_bfloat16"], "measure it on a CPU without instructions for bfloat16"
    claims = []
    for model, ways in figures["models"].items():
        times = ways["pytorch"]["seconds"] / ways["ours"]["seconds"]
        claims.append(
            (
                f"training in bfloat16 on a CPU without instructions for it, a small {model}: "
                f"{times:.1f} times as fast, gradients {ways['ours']['difference']:.1%} apart",
                "PyTorch's own products of matrices; gradients of float32 are "
                f"{ways['float32']['difference']:.1%} apart from them",
            )
        )
    return claims


def command_start() -> list[Claim]:
    """Return what short commands cost."""
    claims = []
    for name, ways in measured("command_start")["commands"].items():
        claim = f"a short `synpre {name}`: {ways['ours']:.1f} s of a core, from start to end"
        peer = f"the same command with Python's searches for unused objects: {ways['python']:.1f} s"
        claims.append((claim, peer))
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
    "zoo": zoo,
    "learning": learning,
    "warmup": warmup,
    "pretraining": pretraining,
    "recipe": recipe,
    "resume": resume,
    "chaos": chaos,
    "fuzz": fuzz,
    "long_load": long_load,
    "dataset_build": dataset_build,
    "parameter_statistics": parameter_statistics,
    "roles": roles,
    "starts": starts,
    "self_pretraining": self_pretraining,
    "initial_weights": initial_weights,
    "replaced_tokens": replaced_tokens,
    "large_vocabulary": large_vocabulary,
    "corpora": corpora,
    "batches": batches,
    "bfloat16": bfloat16,
    "command_start": command_start,
    "sizes": sizes,
    "clients": clients,
}
