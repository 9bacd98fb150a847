"""The reference of benefits, and natural pre-training of several sizes.

Run: pytest tests/report/test_natural.py
"""

import json

import pytest
from simulated_cells import make_experiment, save, summary

from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.experiments import Experiment, ExperimentSpec
from hf_synpre.report import draw_plots, write_report
from hf_synpre.report.markdown_page import markdown
from hf_synpre.report.natural import arms_beside, natural_tokens

MEANS = {
    "random": 0.1,
    "natural_4m": 0.2,
    "natural_128m": 0.5,
    "natural_16m": 0.3,
    "synthetic": 0.3,
    "uniform": 0.1,
}
TOKENS = {"natural_4m": 4e6, "natural_16m": 16e6, "natural_128m": 128e6}
REFERENCE = "natural_128m"


def make_cells(**changes):
    cells = make_experiment(MEANS, sd=0.005, tasks=("stdlib_ast", "mtop"), **changes)
    for cell in cells:
        if cell["arm"] in TOKENS:
            run = cell["phases"]["pretraining"] | {"tokens": TOKENS[cell["arm"]]}
            cell["phases"] = cell["phases"] | {"pretraining": run}
    return cells


def test_benefits_are_shares_of_the_arm_that_the_recipe_names():
    report = summary(make_cells(), reference=REFERENCE)
    assert report["arms"][-1] == REFERENCE
    shares = {arm: benefit["tasks"]["mtop"]["value"] for arm, benefit in report["benefits"].items()}
    assert shares.keys() == MEANS.keys() - {"random", REFERENCE}
    assert shares["natural_4m"] == pytest.approx(0.25, abs=0.05)
    assert shares["synthetic"] == pytest.approx(0.5, abs=0.05)
    # Without a name it is the arm called natural, of which there is none.
    without = summary(make_cells())
    note = without["benefits"]["synthetic"]["tasks"]["mtop"]["note"]
    assert note == "no finished cell of the arm 'natural'"


def test_a_refusal_names_the_benefit_and_the_reference():
    flat = make_experiment({"random": 0.1, REFERENCE: 0.1, "synthetic": 0.3}, tasks=("mtop",))
    page = markdown(summary(flat, reference=REFERENCE), "runs/x")
    refusal = f"the benefit is refused: {REFERENCE} and random differ by less than 2 standard"
    assert f"- mtop, all arms: {refusal} errors" in page
    assert "natural and random differ by less than 2 standard" not in page


def test_the_report_names_the_reference_and_shows_natural_by_its_tokens(tmp_path, undrawn):
    save(tmp_path, make_cells())
    (tmp_path / "experiment.json").write_text(json.dumps({"reference": REFERENCE}))
    report = write_report(tmp_path)
    assert report["reference"] == REFERENCE
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "100 is natural pre-training, which is the arm natural_128m." in text
    section = text.split("## Natural pre-training by its tokens")[1].split("\n## ")[0]
    rows = [line.split(" | ")[:2] for line in section.splitlines() if line.startswith("| natural")]
    assert rows == [
        ["| natural_4m", "4 M"],
        ["| natural_16m", "16 M"],
        ["| natural_128m", "128 M"],
    ]
    assert "](tokens.png)" in section
    assert (tmp_path / "tokens.svg").is_file()


def test_one_size_of_natural_has_no_section(tmp_path, undrawn):
    cells = [cell for cell in make_cells() if cell["arm"] not in ("natural_4m", "natural_16m")]
    assert natural_tokens(summary(cells)) == {}
    write_report(save(tmp_path, cells))
    assert "by its tokens" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert not (tmp_path / "tokens.png").exists()


def test_the_plot_has_natural_over_tokens_and_the_others_as_lines(monkeypatch):
    monkeypatch.setattr("hf_synpre.report.plots.image", lambda figure, kind: figure)
    report = summary(make_cells(), reference=REFERENCE)
    figure = draw_plots(report)["tokens.png"]
    panel = figure.axes[0]
    assert panel.get_xlabel() == "10⁶ natural tokens of pre-training\n(logarithmic)"
    curve = next(line for line in panel.lines if len(line.get_xdata()) == 3)
    assert [*curve.get_xdata()] == [4e6, 16e6, 128e6]
    assert [*curve.get_ydata()] == sorted(curve.get_ydata())
    assert arms_beside(report) == ["synthetic"]  # no control
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["natural text", "random", "synthetic"]
    report = summary([cell for cell in make_cells() if cell["arm"] in TOKENS])
    assert "tokens.png" in draw_plots(report)  # without random


# --- The recipe -----------------------------------------------------------------------------------


def spec_of(**changes):
    values = {
        "name": "sizes",
        "tasks": {"stdlib_ast": {}},
        "arms": {
            "random": {},
            "natural_4m": {"init": "statistics", "checkpoint": "synpre/t5-mini-set"},
        },
    }
    return build_spec(ExperimentSpec, values | changes, "x.yaml")


def test_the_reference_is_an_arm_and_may_be_named_in_a_folder_with_results(tmp_path):
    with pytest.raises(
        UsageError, match=r"Unknown arm as the reference 'natural_5m'. Did you mean"
    ):
        spec_of(reference="natural_5m")
    with pytest.raises(UsageError, match=r"Unknown arm as the reference 'random'. Allowed: natu"):
        spec_of(reference="random")
    arms = summary(make_cells(), reference="random")["arms"]  # of a recipe that was edited
    assert sorted(arms) == sorted(MEANS)
    Experiment(spec_of(), tmp_path).open_folder()
    assert "reference" not in json.loads((tmp_path / "experiment.json").read_text())
    (tmp_path / "stdlib_ast--random--0.json").write_text(json.dumps({"status": "done"}))
    Experiment(spec_of(reference="natural_4m"), tmp_path).open_folder()
    assert json.loads((tmp_path / "experiment.json").read_text())["reference"] == "natural_4m"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON"),
        ("[]", "is not the rec"),
        ('{"reference": 3}', "is not the recipe of an exp"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_said(tmp_path, content, message):
    save(tmp_path, make_cells())
    (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        write_report(tmp_path)
