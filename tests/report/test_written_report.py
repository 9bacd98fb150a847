"""The forms of a report: its files, the terminal's table, LaTeX, model-index and plots.

Run: pytest tests/report/test_written_report.py
"""

import hashlib
import json
import re
import subprocess
import sys

import pytest
from simulated_cells import (
    MEANS,
    equal_compute_cells,
    make_cell,
    make_experiment,
    numbered,
    page,
    save,
    summary,
)

from hf_synpre.report import (
    draw_plots,
    latex,
    make_report,
    model_index,
    table,
    write_report,
)
from hf_synpre.report.intervals import REFUSED
from hf_synpre.report.plots import MOST_TASKS
from hf_synpre.report.transfer import gain_matrix

# --- Files ----------------------------------------------------------------------------------------

CURVES = [f"{name}.{kind}" for name in ("compute", "curves") for kind in ("png", "svg")]
BENEFIT = ["benefit.png", "benefit.svg"]
PLOTS = [*BENEFIT, *CURVES]
TEXTS = ["model-index.yaml", "report.html", "report.json", "report.md", "report.tex"]
FILES = sorted([*PLOTS, *TEXTS])


def test_the_files_are_complete_and_the_same_again(tmp_path):
    failed = make_cell("mtop", "self", 7, status="failed", score=None, error="CUDA | out of memory")
    cells = [*make_experiment(tasks=("stdlib_ast", "mtop")), failed]
    first, second = save(tmp_path / "first", cells), save(tmp_path / "second", cells[::-1])
    result = write_report(first)
    write_report(second, tmp_path / "out")
    assert sorted(p.name for p in first.iterdir() if "--" not in p.name) == FILES
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES
    for name in set(FILES) - {"report.md", "report.html"}:  # they name the directory
        assert (first / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    assert json.loads((first / "report.json").read_text()) == result
    path = first / result["cells"][0]["file"]
    assert result["cells"][0]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert write_report(first) == result  # its own files are no cells


def test_the_markdown_says_everything(tmp_path):
    save(
        tmp_path,
        [
            *make_experiment(),
            make_cell(arm="self", seed=7, status="failed", score=None, error="a | b\nc"),
        ],
    )
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for part in (
        "`synpre report ",
        "stdlib_ast--self--7.json: a \\| b c",
        "torch: 2.6",
        "competence (3 of 3)",
        "12.3 M",
        "2.00e+12",
    ):
        assert part in text
    for part in (
        "fresh",
        "ratio of the means",
        "parametric bootstrap",
        "](curves.png)",
        "](benefit.png)",
        "13 cells found, 1 of them failed",
    ):
        assert part in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.count("|") == row.count("| ") + 1 and row.endswith("|") for row in rows)


def test_intervals_say_whether_they_hold_the_variance_of_pretraining():
    cells = make_experiment()
    for is_paired, sentence in (
        (False, "is shared by the seeds"),
        (True, "has a pre-training run"),
    ):
        for cell in cells:
            if cell["phases"]["pretraining"]:
                seed = cell["seed"] if is_paired else 0
                cell["phases"]["pretraining"]["recipe"] = {"pretraining": {"seed": seed}}
        assert sentence in page(cells)


ODD = {
    "one seed": (make_experiment(seeds=1), PLOTS),
    "random": (make_experiment({"random": 0.1}), CURVES),
    "synthetic": (make_experiment({"synthetic": 0.1}), CURVES[2:]),
    "no middle": (make_experiment({"random": 0.1, "natural": 0.4}), PLOTS),
    "flat": (make_experiment(dict.fromkeys(MEANS, 0.0), sd=0), PLOTS),
    "loss": (
        make_experiment(metric="loss", higher_is_better=False, curve=[]),
        [*BENEFIT, *CURVES[:2]],
    ),
    "failed": ([make_cell(arm="synthetic", status="failed", score=None, error="x")], []),
    "bare": ([make_cell(versions=None, phases=None, curve=None, embeddings=None)], []),
    "many": (
        make_experiment(
            MEANS | {f"arm {i}": 0.3 for i in range(8)},
            tasks=[f"task {i}" for i in range(2)],
            seeds=2,
        ),
        [*PLOTS, "differences.png", "differences.svg"],
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_experiments_are_reported_too(tmp_path, name):
    cells, plots = ODD[name]
    save(tmp_path, cells)
    stale = tmp_path / "gains.png"
    stale.write_bytes(b"")
    result = write_report(tmp_path)
    files = [path.name for path in tmp_path.iterdir() if "--" not in path.name]
    assert sorted(files) == sorted([*plots, *TEXTS])
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for plot in PLOTS:
        assert (f"({plot})" in text) == (plot in plots and plot.endswith("png"))
    for form in (table(result), text):
        assert "nan" not in form
        assert "None" not in form
        assert "\n\n\n" not in form


def test_importing_the_report_stays_light():
    code = "import sys, hf_synpre.report; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "transformers", "datasets", "matplotlib"} & set(loaded)


# --- Other forms ----------------------------------------------------------------------------------


def test_the_terminal_table():
    text = table(summary(make_experiment(tasks=("stdlib_ast", "mtop"))))
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    lines = text.splitlines()
    begin = lines.index("stdlib_ast: exact_match in %") + 1
    assert [line.split()[0] for line in lines[begin : begin + 5]] == ["arm", *MEANS]
    assert "mean of the ratios" in text
    assert max(map(len, text.splitlines())) < 120
    assert "[" in rows["synthetic"]
    assert "12.3 M" in text
    assert " *" in text


def test_latex_rows_have_the_columns_of_the_head_and_escape_names():
    text = latex(summary(make_experiment(tasks=("stdlib_ast", "mtop"))))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(MEANS)
    assert {row.count(" & ") for row in rows} == {4}
    assert r"stdlib\_ast: exact\_match in \%" in rows[0]
    assert r"\textbf{" in text
    assert r"$\pm$" in text
    assert not any("_" in row.replace(r"\_", "") for row in rows)


HOSTILE = {
    "tex": r"\input{/etc/passwd}",
    "html": "<img src=x onerror=alert(1)>",
    "terminal": "\x1b]0;owned\x07\x1b[2J",
    "link": "[click](javascript:alert(1))",
    "math": r"$\frac{$",
    "table": "a | b\nc",
}


def test_names_and_errors_are_text_in_every_form(tmp_path):
    cells = [make_cell(seed=seed) for seed in range(2)]
    for name in HOSTILE.values():
        cells += [make_cell(arm=name, seed=seed) for seed in range(2)]
    cells.append(make_cell(arm="random", seed=9, status="failed", error="".join(HOSTILE.values())))
    tmp_path.mkdir(exist_ok=True)
    for i, cell in enumerate(cells):
        (tmp_path / f"t--a--{i}.json").write_text(json.dumps(cell))
    report = write_report(tmp_path)

    latex_text = (tmp_path / "report.tex").read_text()
    markdown_text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert r"\textbackslash{}input\{/etc/passwd\}" in latex_text
    assert r"\$\textbackslash{}frac" in latex_text
    assert "&lt;img src=x onerror=alert(1)&gt;" in markdown_text
    assert r"\[click\](javascript:alert(1))" in markdown_text
    for text in (table(report), latex_text, markdown_text):
        assert "\x1b" not in text
        assert "\x07" not in text
    rows = [line for line in markdown_text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[:9]}) == 1


def test_the_command_in_a_report_names_no_path_of_this_machine(tmp_path):
    folder = save(tmp_path / "my `results`", make_experiment(seeds=2))
    write_report(folder)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "`` synpre report 'my `results`' ``" in text


def test_model_index_is_what_the_hub_reads():
    from huggingface_hub.repocard_data import model_index_to_eval_results

    cells = [
        c | {"scores": {"exact_match": c["score"], "f1": 0.9}}
        for c in make_experiment(tasks=("mtop",))
    ]
    cells = [c | {"data": {"hub_id": "tasksource/mtop", "splits": {}}} for c in cells]
    report = summary(cells)
    for entry in model_index(report):
        name, results = model_index_to_eval_results([entry])
        assert name.startswith("quickstart-")
        assert {(r.dataset_type, r.metric_type) for r in results} == {
            ("tasksource/mtop", m) for m in ("exact_match", "f1")
        }
    assert report["beside"]["mtop"]["f1"]["random"]["value"] == pytest.approx(0.9)


# --- Plots ----------------------------------------------------------------------------------------


@pytest.fixture
def figures(monkeypatch):
    """Return a function that gives the figures of a report by name instead of their bytes."""
    monkeypatch.setattr("hf_synpre.report.plots.image", lambda figure, kind: figure)

    def draw(report):
        drawn = draw_plots(report)
        return {name.removesuffix(".png"): drawn[name] for name in drawn if name.endswith("png")}

    return draw


def words(figure):
    """Return the title of a figure on one line."""
    return " ".join(figure.get_suptitle().split())


def test_the_benefit_plot_falls_back_to_differences(figures):
    titles = []
    for means in (MEANS, {**MEANS, "natural": MEANS["random"]}, {"random": 0.1, "synthetic": 0.3}):
        titles.append(words(figures(summary(make_experiment(means, sd=0.001)))["benefit"]))
    point = "point: mean; line: 95 % interval"
    scale = "0 % is random, 100 % is natural"
    assert titles[0] == f"Benefit: share of natural's gain over random {scale} {point}"
    refused = f"(benefit refused on most tasks: {REFUSED.format('natural')})"
    assert titles[1] == f"Score difference to random {point} {refused}"
    assert titles[2] == f"Score difference to random {point} (no benefit: no arm 'natural')"


def test_what_100_per_cent_is_has_the_name_of_the_reference_arm(figures):
    cells = make_experiment(MEANS | {"much_text": 0.8}, sd=0.001)
    report = summary(cells, reference="much_text")
    figure = figures(report)["benefit"]
    scale = "0 % is random, 100 % is much_text"
    assert words(figure).startswith(f"Benefit: share of much_text's gain over random {scale} ")
    assert "benefit of much_text, %" in table(report)
    assert "benefit of natural, %" not in table(report)
    assert gain_matrix(report)["unit"] == "% of much_text's gain"


def test_panels_that_are_mostly_refused_are_not_drawn_and_named(figures):
    flat = {**MEANS, "natural": MEANS["random"]}
    cells = make_experiment(tasks=("a", "b")) + make_experiment(flat, tasks=("c",), sd=0.001)
    figure = figures(summary(cells))["benefit"]
    drawn = [panel.get_title() for panel in figure.axes if panel.get_title()]
    assert drawn == ["a", "b", "mean of ratios", "ratio of means"]
    assert words(figure).endswith("not drawn, as refused for most arms: c")


def test_an_arm_that_is_not_on_a_task_has_a_dash_there(figures):
    cells = make_experiment(tasks=("a", "b"))
    few = [cell for cell in cells if (cell["task"], cell["arm"]) != ("b", "statistics")]
    panels = {panel.get_title(): panel for panel in figures(summary(few))["benefit"].axes}
    assert [text.get_text() for text in panels["a"].texts] == []
    assert [text.get_text() for text in panels["b"].texts] == ["–"]


def test_curves_say_what_they_show_and_every_arm_is_in_them(figures):
    cells = [*make_experiment(), *equal_compute_cells()]
    figure = figures(summary(cells))["curves"]
    assert "band: 95 % interval over seeds" in words(figure)
    (panel,) = figure.axes
    assert panel.get_ylabel().split() == ["teacher-forced", "exact", "match", "(%)"]
    (legend,) = figure.legends
    assert "equal_compute" in [text.get_text() for text in legend.get_texts()]
    looks = {(line.get_color(), line.get_marker()) for line in panel.lines}
    assert len(looks) == len(panel.lines) == 5
    assert len({line.get_marker() for line in panel.lines}) == 5  # told apart in grey


def test_figures_of_very_many_tasks_show_the_first_and_say_so(figures):
    names = [f"task{i}" for i in range(MOST_TASKS + 2)]
    cells = [cell | {"data": {"labels": ["a", "b"]}} for cell in make_experiment(tasks=names)]
    drawn = figures(make_report(numbered(cells)))
    for name in ("curves", "compute", "benefit", "gains"):
        assert words(drawn[name]).endswith("2 more tasks are not drawn")
    assert [panel.get_title() for panel in drawn["curves"].axes if panel.get_title()] == names[:-2]


def test_the_map_of_gains_colours_only_what_excludes_zero(figures):
    cells = make_experiment({"random": 0.5, "self": 0.7}, tasks=("sure",), sd=0.001)
    cells += make_experiment({"random": 0.5, "self": 0.7}, tasks=("unsure",), sd=0.4)
    cells = [cell | {"data": {"labels": ["a", "b"]}, "metric": "accuracy"} for cell in cells]
    (panel,) = figures(make_report(numbered(cells)))["gains"].axes
    colours = panel.collections[0].get_array()  # [arms, tasks + 1]
    assert [bool(hidden) for hidden in colours.mask[0]][:2] == [False, True]
    texts = [text.get_text() for text in panel.texts]
    assert texts[0].startswith("+2")
    assert all(text.startswith("[") for text in texts[1::2])
