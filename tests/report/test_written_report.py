"""The forms of a report: its files, the terminal's table, LaTeX, model-index and plots.

Run: pytest tests/report/test_written_report.py
"""

import hashlib
import json
import re
import subprocess
import sys

import pytest
from simulated_cells import MEANS, make_cell, make_experiment, save, summary

from hf_synpre.report import draw_plots, latex, model_index, table, write_report
from hf_synpre.report.intervals import REFUSED

# --- Files ----------------------------------------------------------------------------------------

PLOTS = [f"{name}.{kind}" for name in ("benefit", "compute", "curves") for kind in ("png", "svg")]
FILES = sorted([*PLOTS, "model-index.yaml", "report.json", "report.md", "report.tex"])


def test_the_files_are_complete_and_the_same_again(tmp_path):
    failed = make_cell("mtop", "self", 7, status="failed", score=None, error="CUDA | out of memory")
    cells = [*make_experiment(tasks=("stdlib_ast", "mtop")), failed]
    first, second = save(tmp_path / "first", cells), save(tmp_path / "second", cells[::-1])
    result = write_report(first)
    write_report(second, tmp_path / "out")
    assert sorted(p.name for p in first.iterdir() if "--" not in p.name) == FILES
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES
    for name in set(FILES) - {"report.md"}:  # report.md names the directory
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


@pytest.mark.parametrize(
    "cells",
    [
        make_experiment(seeds=1),
        make_experiment({"random": 0.1}),
        make_experiment({"synthetic": 0.1}),
        make_experiment({"random": 0.1, "natural": 0.4}),
        make_experiment(dict.fromkeys(MEANS, 0.0), sd=0),
        make_experiment(metric="loss", higher_is_better=False, curve=[]),
        [make_cell(arm="synthetic", status="failed", score=None, error="x")],
        [make_cell(versions=None, phases=None, curve=None, embeddings=None)],
        make_experiment(
            MEANS | {f"arm {i}": 0.3 for i in range(8)},
            tasks=[f"task {i}" for i in range(2)],
            seeds=2,
        ),
    ],
    ids=["one seed", "random", "synthetic", "no middle", "flat", "loss", "failed", "bare", "many"],
)
def test_odd_experiments_are_reported_too(tmp_path, cells):
    result = write_report(save(tmp_path, cells))
    assert sorted(p.name for p in tmp_path.iterdir() if "--" not in p.name) == FILES
    assert "nan" not in table(result)
    assert "None" not in table(result)


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
    assert [line.split()[0] for line in text.splitlines()[3:8]] == ["arm", *MEANS]
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


def test_the_benefit_plot_falls_back_to_differences(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "hf_synpre.report.plots.image",
        lambda figure, kind: titles.append(figure.get_suptitle()) or b"",
    )
    for means in (MEANS, {**MEANS, "natural": MEANS["random"]}, {"random": 0.1, "synthetic": 0.3}):
        draw_plots(summary(make_experiment(means, sd=0.001)))
    title = [" ".join(t.split()) for t in titles if t][::2]
    assert title[0] == "Benefit of natural pre-training"
    assert title[1] == f"Score difference to random (benefit not shown: {REFUSED})"
    assert title[2] == "Score difference to random (benefit not shown: no arm 'natural')"
