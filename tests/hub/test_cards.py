"""Cards say what the JSON files beside them say; the release prints what it would do.

Run: pytest tests/hub/test_cards.py
"""

import json
import os
import shutil

import pytest
from hub_clients import HOME
from processes import run_python

from hf_synpre.errors import UsageError
from hf_synpre.hub import cards
from hf_synpre.hub.scores import RUN_IDENTITY


@pytest.fixture
def rendered(monkeypatch):
    monkeypatch.syspath_prepend(str(HOME / "model_cards"))
    import render

    return render.cards


def test_committed_cards_are_what_their_json_says(rendered):
    assert {file: file.read_text() for file in rendered()} == rendered(), "run `make cards`"


def scores_of_quickstart():
    return json.loads((HOME / "results" / "quickstart" / "report.json").read_text())["scores"][
        "stdlib_ast"
    ]


def test_a_model_card_says_what_its_json_says(model, rendered, tmp_path):
    home = tmp_path / "model_cards"
    folder = shutil.copytree(model, home / "t5-tiny-set")
    result = json.loads((folder / "pretraining.json").read_text())
    results = folder / "results" / "demo"
    results.mkdir(parents=True)
    for file in (HOME / "results" / "quickstart").glob("stdlib_ast--*.json"):
        cell = json.loads(file.read_text())
        if cell["arm"] == "statistics":
            cell["phases"]["pretraining"] |= {key: result[key] for key in RUN_IDENTITY}
        (results / file.name).write_text(json.dumps(cell))
    text = rendered(home, home)[folder / "README.md"]
    assert f"| tokens (input and target, without padding) | {result['tokens']:,} |" in text
    excess = cards.format_value(result["excess_loss"])
    for row in (
        "| positions that carry loss | the target and its end |",
        "| lowest possible loss of a model (nats a scored token) | 0 |",
        f"| excess loss, of the last evaluation above it | {excess} |",
        "| the task was learnt | no |",
    ):
        assert row in text
    score, random = (scores_of_quickstart()[arm] for arm in ("statistics", "random"))
    mean = f"{score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}]"
    assert (
        f"| quickstart | stdlib_ast | statistics: **from here** | exact_match | {mean} | 3 |"
        in text
    )
    assert f"| quickstart | stdlib_ast | random | exact_match | {random['value']:.4f}" in text
    (folder / "README.md").write_text(text)
    from huggingface_hub import ModelCard

    entries = ModelCard.load(folder / "README.md").data.eval_results
    assert [(e.task_name, e.metric_value, e.verified) for e in entries] == [
        (
            "stdlib_ast, fine-tuned from weights sampled from these statistics",
            round(score["value"], 4),
            False,
        )
    ], "only what started from this checkpoint"
    (folder / "model.safetensors").unlink()
    assert "holds the statistics of the weights" in rendered(home, home)[folder / "README.md"]


@pytest.mark.parametrize(
    ("task", "objective", "is_shown"),
    [("set", None, True), ("set", "span_corruption", False), ("k_dyck", None, False)],
)
def test_a_card_shows_prompts_of_runs_that_answered_some(task, objective, is_shown, tmp_path):
    shutil.copytree(HOME / "hf_synpre" / "statistics" / "llama-mini-set", tmp_path / "model")
    run = json.loads((tmp_path / "model" / "pretraining.json").read_text())
    run["recipe"]["pretraining"] |= {"task": task, "objective": objective, "parameters": {}}
    (tmp_path / "model" / "pretraining.json").write_text(json.dumps(run))
    (tmp_path / "model" / "model.safetensors").touch()
    text = cards.model_card(tmp_path / "model", "me/model")
    assert ("the model goes on with `labels`" in text) == is_shown


def test_the_release_prints_what_it_would_do(monkeypatch, tmp_path):
    done = run_python(
        HOME / "dataset_scripts" / "release.py",
        env=os.environ | {"PYTHONPATH": str(HOME)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    recipes = [path.read_text() for path in (HOME / "dataset_scripts").glob("*.yaml")]
    assert "python -m hf_synpre push runs/datasets/lime --repo_id synpre/lime" in lines
    assert sum(" push runs/datasets/" in line for line in lines) == len(recipes)
    assert sum("--config small" in line for line in lines) == sum("small:" in r for r in recipes)
    assert sum("build.py lime " in line for line in lines) == 5
    assert lines[-1].startswith("Nothing was done")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"recipe": {"pretraining": {"corpus": "\ud800", "text": {}}}}, "half of a character"),
        ({"recipe": {"pretraining": {"seed": [0]}}}, "are not what hf_synpre writes"),
    ],
)
def test_a_card_of_json_that_nobody_writes_is_refused(run, message, tmp_path):
    (tmp_path / "pretraining.json").write_text(json.dumps(run))
    with pytest.raises(UsageError, match=message):
        cards.model_card(tmp_path, "me/x")
