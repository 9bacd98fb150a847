"""Simulated experiments for the tests of reports: cells as `synpre run` writes them."""

import json

import numpy as np

from hf_synpre.files import pack_fractions
from hf_synpre.report import summarize
from hf_synpre.report.markdown_page import markdown
from hf_synpre.report.seeds import Seeds

# The true mean score of each arm.
MEANS = {"random": 0.12, "synthetic": 0.31, "statistics": 0.22, "natural": 0.5}
HIGHER = {"metric": "exact_match", "higher_is_better": True, "unit": "%"}


def make_cell(task="stdlib_ast", arm="random", seed=0, score=0.2, **changes) -> dict:
    """Return the content of a finished cell's file, with some keys changed."""
    finetuning = {
        "steps": 100,
        "tokens": 2e5,
        "positions": 2.1e5,
        "padding_share": 0.05,
        "flops": 2e12,
        "train_s": 30.0,
    }
    pretraining = None
    if arm != "random":
        pretraining = {
            **finetuning,
            "name": "set",
            "tokens": 12.3e6,
            "stopped": "competence",
            "accuracy": 0.99,
        }
    curve = [
        {
            "step": step,
            "tokens": 1e3 * step,
            "flops": 1e9 * step,
            "score": (score or 0) * step / 100,
        }
        for step in (0, 50, 100)
    ]
    return {
        "format": 1,
        "experiment": "quickstart",
        "task": task,
        "arm": arm,
        "seed": seed,
        "status": "done",
        "error": None,
        "metric": "exact_match",
        "higher_is_better": True,
        "score": score,
        "validation_score": score,
        "curve": curve,
        "test_examples": 1000,
        "embeddings": "fresh",
        "config": {},
        "versions": {"torch": "2.6", "hf_synpre": "0.1.0"},
        "phases": {"pretraining": pretraining, "finetuning": finetuning},
        **changes,
    }


def make_experiment(means=MEANS, seeds=3, tasks=("stdlib_ast",), sd=0.02, **changes) -> list[dict]:
    """Return a cell for each task, arm and seed: scores are normal around the arm's mean."""
    rng = np.random.default_rng(0)
    return [
        make_cell(task, arm, seed, score=round(means[arm] + sd * rng.normal(), 6), **changes)
        for task in tasks
        for arm in means
        for seed in range(seeds)
    ]


def save(directory, cells):
    """Write cells as files of a folder, and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        last = f"{cell['seed']}"
        if cell.get("pretraining_seed"):
            last += f"-p{cell['pretraining_seed']}"
        file = directory / f"{cell['task']}--{cell['arm']}--{last}.json"
        file.write_text(json.dumps(cell), encoding="utf-8")
    return directory


def equal_compute_cells():
    """Return cells of three seeds that end at different steps, as under equal compute."""
    cells = []
    for seed, last in enumerate((1351, 1329, 1336)):
        steps = [round(last * part / 5) for part in range(1, 6)]
        curve = [{"step": s, "score": s / 2000, "flops": 1e9 * s} for s in steps]
        cells.append(make_cell(arm="equal_compute", seed=seed, curve=curve))
    return cells


def by_seed(values, shift=0) -> dict:
    """Return values by the seeds of cells that have no pre-training seeds of their own."""
    return {Seeds(0, seed + shift): value for seed, value in enumerate(values)}


def make_crossed(means=MEANS, pretraining_seeds=3, seeds=3, of_pretraining=0.05, **changes):
    """Return cells whose arms but random have several pre-training seeds, each with an effect."""
    rng = np.random.default_rng(1)
    cells = []
    for arm, mean in means.items():
        for row in range(1 if arm == "random" else pretraining_seeds):
            effect = of_pretraining * rng.normal() if arm != "random" else 0.0
            for seed in range(seeds):
                score = round(mean + effect + 0.01 * rng.normal(), 6)
                cell = make_cell(arm=arm, seed=seed, score=score, **changes)
                if row:
                    cell["pretraining_seed"] = row
                if cell["phases"]["pretraining"]:
                    cell["phases"]["pretraining"]["recipe"] = {"pretraining": {"seed": row}}
                cells.append(cell)
    return cells


def numbered(cells) -> list[dict]:
    """Return cells as they are after reading: with the name and digest of a file."""
    return [cell | {"file": f"{i}.json", "sha256": ""} for i, cell in enumerate(cells)]


def summary(cells, **options) -> dict:
    """Return the report of cells that were never written."""
    return summarize(numbered(cells), **options)


def page(cells) -> str:
    """Return the report of such cells as Markdown, without plots, which take a second."""
    return markdown(summary(cells), ["runs/simulated"])


def simulate_scores(rng, seeds, means, size=200, seed_sd=0.03, example_sd=0.3, rest_sd=0.3):
    """Return arm -> scores, [seeds, examples].

    A score is a mean, an effect of the seed, one of the example that the arms share, and a rest.
    """
    of_examples = rng.normal(0, example_sd, size)
    scores = {}
    for arm, mean in means.items():
        of_seeds = rng.normal(0, seed_sd, (seeds, 1))
        rest = rng.normal(0, rest_sd, (seeds, size))
        scores[arm] = mean + of_seeds + of_examples + rest
    return scores


def with_examples(cells, size=400):
    """Return the cells with 0/1 scores of single examples, their means as scores."""
    hardness = np.random.default_rng(5).random(size)
    for cell in cells:
        hits = (hardness < cell["score"]).astype(float)
        yield cell | {
            "score": hits.mean(),
            "test_examples": size,
            "example_scores": pack_fractions(hits),
        }
