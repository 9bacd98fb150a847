"""What documents show: the README's snippet runs, the gallery and the results are up to date.

Run: pytest tests/test_examples.py
"""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from hf_synpre.config import build_spec, read_yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def load(file):
    """Import a script by its path; it finds the modules beside it, as under `python FILE`."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(file.parent))
        spec.loader.exec_module(module)
    return module


def test_readme_has_three_short_snippets():
    """A dataset, a model, a comparison; tests/test_snippets.py executes all blocks."""
    section = README.split("## Three snippets")[1].split("\n## ")[0]
    snippets = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
    assert [len(snippet.splitlines()) <= 6 for snippet in snippets] == [True] * 3
    names = ("load_synthetic(", "StatisticsInit(", "synpre run ")
    for snippet, name in zip(snippets, names, strict=True):
        assert name in snippet


PAGES = load(ROOT / "examples" / "readme.py").PAGES


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_the_committed_results(page):
    readme = load(ROOT / "examples" / "readme.py")
    assert readme.render(page) == (ROOT / page).read_text(encoding="utf-8"), "run `make readme`"


def test_the_pages_on_both_papers_and_the_own_task_are_made_from_results():
    papers = {"docs/wu_2022.md", "docs/krishna_2022.md"}
    assert papers | {"README.md", "results/README.md", "docs/own_task.md"} <= set(PAGES)


@pytest.mark.parametrize("arm", ["random", "statistics"])
def test_the_scores_of_the_own_task_are_those_of_its_commands(arm):
    """Made by the two commands of docs/own_task.md, with --seed 0 and 1, and --no_save_model."""
    for seed in (0, 1):
        file = ROOT / "results" / "own_task" / arm / f"imports--{arm}--{seed}.json"
        cell = json.loads(file.read_text())
        assert cell["test_examples"] == 200
        assert cell["phases"]["finetuning"]["steps"] == 1000


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_gallery_is_up_to_date():
    gallery = load(ROOT / "examples" / "gallery.py")
    assert gallery.render() == (ROOT / "examples" / "GALLERY.md").read_text(encoding="utf-8"), (
        "run `make gallery`"
    )


def test_the_pictures_of_the_gallery_are_of_rows_and_lie_beside_it():
    pictures = load(ROOT / "examples" / "gallery_pictures.py")
    files = {file for file, _ in pictures.PICTURES.values()}
    assert files == {path.name for path in pictures.FOLDER.iterdir()}
    assert pictures.partners(np.array([0, 1, 2, 0, 2, 3]), 2) == [(0, 2, 0), (3, 4, 0), (1, 5, 1)]

    # The frames of a picture are those of the row: patches of two by two cells, the first the unit.
    row = pictures.row_of("nca", 0, min_complexity=650, max_complexity=1000, vocabulary=10_100)
    cells = pictures.frames(0, 650, 1000, 2)
    assert cells.shape == (2, 12, 12)
    for frame, start in enumerate((0, 37)):
        corner = cells[frame, :2, 2:4].reshape(-1)
        assert row[start + 1] - 2 == corner @ [1, 10, 100, 1000]


def test_the_benchmark_s_summary_is_that_of_its_tasks():
    generation = load(ROOT / "benchmarks" / "generation.py")
    run = json.loads(generation.RESULT.read_text())
    summary = generation.speed_ups(run["per_task"], run["plain_nesting_rows_per_s_this_run"])
    assert summary.items() <= run["summary"].items()
    assert summary["least_speed_up_lean"] < summary["least_speed_up"]


EXPERIMENTS = sorted(
    p
    for p in (ROOT / "examples").glob("*.yaml")
    if p.stem not in ("own_task", "own_labels", "paper")
)


@pytest.mark.parametrize("name", ["own_task", "own_labels"])
def test_the_examples_of_own_tasks_are_short_and_have_their_data(name):
    from hf_synpre.finetuning.own_data import choose_task

    file = ROOT / "examples" / f"{name}.yaml"
    assert len([line for line in file.read_text().splitlines() if not line.startswith("#")]) <= 12
    choice = choose_task(str(file), {})
    assert choice.train_rows == 1600


@pytest.mark.parametrize(
    "model", [{}, {"config_name": "synpre/t5-mini-set"}], ids=["type", "config"]
)
@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_a_folder_of_an_experiment_is_read_again(file, model, tmp_path):
    from hf_synpre.experiments import ExperimentSpec
    from hf_synpre.experiments.cell import experiment_recipe
    from hf_synpre.experiments.stored_recipe import read_stored_recipe, spec_of_recipe

    values = read_yaml(file)
    spec = build_spec(ExperimentSpec, values | {"model": model or values["model"]}, file.name)
    stored = tmp_path / "experiment.json"
    stored.write_text(json.dumps(experiment_recipe(spec)))
    recipe = read_stored_recipe(stored)
    assert recipe["model"] == experiment_recipe(spec)["model"]
    assert spec_of_recipe(recipe, "recipe").arms == spec.arms


def test_the_paper_s_recipe_is_that_of_its_table(tmp_path):
    """Steps, rates and beams are those of docs/papers.md, "Fine-tuning"."""
    from hf_synpre.experiments import ExperimentSpec

    given = read_yaml(ROOT / "examples" / "paper.yaml") | {"model": {}}
    spec = build_spec(ExperimentSpec, given, "paper.yaml")
    found = {name: spec.finetuning_spec(name) for name in spec.tasks}
    assert {name: recipe.training["max_steps"] for name, recipe in found.items()} == {
        "cnn_dailymail_10k": 100_000,
        "mtop": 100_000,
        "webqsp": 50_000,
        "squad": 250_000,
        "code_translation": 150_000,
        "retrosynthesis": 400_000,
    }
    assert {recipe.num_beams for recipe in found.values()} == {4}
    assert {name for name, recipe in found.items() if recipe.training["learning_rate"] == 3e-3} == {
        "code_translation",
        "retrosynthesis",
    }
    lengths = {
        name: (spec.finetuning_task(name).max_source, spec.finetuning_task(name).max_target)
        for name in spec.tasks
    }
    assert (lengths["mtop"], lengths["webqsp"], lengths["squad"]) == (
        (1024, 128),
        (2048, 256),
        (512, 128),
    )


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda p: p.stem)
def test_examples_are_valid_experiments(file):
    from hf_synpre.experiments import ExperimentSpec

    spec = build_spec(ExperimentSpec, read_yaml(file), file.name)
    assert "random" in spec.arms
    assert len(spec.arms) > 2
    # The decoder's comparison is a first look, whose report says that one seed has no interval.
    assert len(spec.seeds) >= (1 if file.stem == "decoder_quickstart" else 3)


COMMITTED = sorted((ROOT / "results").glob("*/experiment.json"))
# Some cells of these are not computed yet; examples/LOG.md says which.
UNFINISHED = {"campaign", "which_statistics"}


@pytest.mark.parametrize("file", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_results_are_those_of_their_examples_so_that_nothing_is_computed_again(file):
    from hf_synpre.experiments import Experiment, ExperimentSpec
    from hf_synpre.experiments.cell import experiment_recipe
    from hf_synpre.experiments.stored_recipe import read_stored_recipe

    name = file.parent.name
    spec = build_spec(ExperimentSpec, read_yaml(ROOT / "examples" / f"{name}.yaml"), name)
    assert read_stored_recipe(file) == experiment_recipe(spec)
    experiment = Experiment(spec, file.parent)
    missing = {cell.file_name for cell in experiment.missing(experiment.cells())}
    if name in UNFINISHED:
        missing = {cell for cell in missing if (file.parent / cell).exists()}
    assert missing == set()


def nine_digits(number):
    """A number as every processor sums it: the last digits depend on the width of its vectors."""
    return float(f"{float(number):.9g}")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "results").glob("*/report.json")), ids=lambda p: p.parent.name
)
def test_committed_reports_are_those_of_their_cells(file):
    from hf_synpre.report import make_report
    from hf_synpre.report.cells import read_folder

    made = json.loads(json.dumps(make_report(*read_folder(file.parent))), parse_float=nine_digits)
    assert made == json.loads(file.read_text(), parse_float=nine_digits), "run `synpre report`"
