"""Score over total compute: arms beside random's line at equal FLOPs, crossings, plot and table.

Run: pytest tests/report/test_compute.py
"""

import numpy as np
import pytest
from simulated_cells import make_cell, save, summary, with_examples

from hf_synpre.report import draw_plots, write_report
from hf_synpre.report.compute import crossing, crossing_sentence, point_at, start_of

# Arm -> the options of its start, FLOPs of pre-training and of fine-tuning, and its mean score.
SET = {"init": "weights", "checkpoint": "set"}
ARMS = {
    "random": ({"init": "random"}, 0.0, 1e12, 0.1),
    "random_2x": ({"init": "random", "finetuning_budget": 2.0}, 0.0, 2e12, 0.2),
    "equal_compute": ({"init": "random", "match_flops_of": "set"}, 0.0, 4e12, 0.4),
    "synthetic": (SET, 1e12, 1e12, 0.3),
    "synthetic_2x": (SET | {"finetuning_budget": 2.0}, 1e12, 2e12, 0.25),
    "dear": (SET | {"checkpoint": "novels"}, 9e12, 1e12, 0.6),
}


def make_cells(names=tuple(ARMS), seeds=3, **changes):
    """Return cells of some arms, whose scores have small effects of their seeds."""
    cells = []
    for name in names:
        options, pretraining, finetuning, mean = ARMS[name]
        phases = {"pretraining": None, "finetuning": {"flops": finetuning}}
        if pretraining:
            phases["pretraining"] = {"name": "set", "flops": pretraining}
        for seed in range(seeds):
            score = mean + 0.004 * seed * (1 + len(name) % 3)
            cell = make_cell(arm=name, seed=seed, score=score, phases=phases, **changes)
            cells.append(cell | {"config": {"arm": options}})
    return cells


def test_arms_of_one_start_are_a_line_and_others_are_read_beside_it():
    compute = summary(make_cells())["compute"]["stdlib_ast"]
    assert compute["lines"] == {
        "random": ["random", "random_2x", "equal_compute"],
        "synthetic": ["synthetic", "synthetic_2x"],
        "dear": ["dear"],
    }
    assert compute["flops"]["synthetic_2x"] == 3e12
    # At 2e12 FLOPs random has 0.2, seed by seed.
    lead = compute["differences"]["synthetic"]
    assert lead["value"] == pytest.approx(0.3 - 0.2, abs=0.01)
    assert lead["paired"]
    # At 3e12 its line is between 0.2 and 0.4, linear in log FLOPs.
    expected = 0.25 - (0.2 + 0.2 * np.log(1.5) / np.log(2))
    assert compute["differences"]["synthetic_2x"]["value"] == pytest.approx(expected, abs=0.01)
    assert "dear" not in compute["differences"]  # beyond what random has spent


def test_a_line_is_read_at_its_own_points_and_nowhere_beyond():
    line = make_cells(["random", "equal_compute"], seeds=1)
    assert point_at(line, 2e12).of("score") == pytest.approx((0.1 + 0.4) / 2)
    assert point_at(line, 1e12).of("score") == pytest.approx(0.1)
    assert point_at(line, 4.04e12).of("score") == pytest.approx(0.4)  # a step beyond
    assert point_at(line, 5e12) is None
    assert point_at([], 1e12) is None


def test_examples_count_where_every_cell_has_them():
    of_seeds = summary(make_cells())["compute"]["stdlib_ast"]["differences"]["synthetic"]
    cells = [cell | {"example_scores": None} for cell in with_examples(make_cells())]
    for cell, drawn in zip(cells, with_examples(make_cells()), strict=True):
        cell["example_scores"] = (np.arange(400) < 400 * drawn["score"]).astype(float)
    with_them = summary(cells)["compute"]["stdlib_ast"]["differences"]["synthetic"]
    width = {id(one): one["high"] - one["low"] for one in (of_seeds, with_them)}
    assert width[id(with_them)] > width[id(of_seeds)]


def test_a_start_of_another_learning_rate_or_scale_is_another_line():
    tuned = make_cell() | {"config": {"arm": {"init": "random", "initial_scales": [2.0]}}}
    plain = make_cell() | {"config": {"arm": {"init": "random", "scheme": "x", "tasks": ["a"]}}}
    assert start_of(tuned) != start_of(plain) == start_of(make_cells(["equal_compute"])[0])
    old, new = (
        {"init": "statistics", "checkpoint": "set"} | more for more in ({}, {"resize": "fan_in"})
    )
    assert start_of(make_cell() | {"config": {"arm": old}}) == start_of(
        make_cell() | {"config": {"arm": new}}
    )


def test_where_lines_cross_is_said():
    found = summary(make_cells())["compute"]["stdlib_ast"]["crossings"]["synthetic"]
    assert (found["first"], found["last"], found["ahead_at_first"]) == (2e12, 3e12, True)
    (at,) = found["at"]
    assert 2e12 < at < 3e12
    said = crossing_sentence("mtop", "synthetic", found)
    assert said.startswith("On mtop the lines of synthetic and random cross at 2.")
    assert said.endswith("at first synthetic is ahead.")
    apart = crossing_sentence("mtop", "synthetic", found | {"at": [], "ahead_at_first": False})
    assert apart == (
        "On mtop random is ahead of synthetic between 2e+12 and 3e+12 FLOPs; the lines do not "
        "cross."
    )
    assert "no common FLOPs" in crossing_sentence("mtop", "synthetic", None)


def test_lines_that_are_equal_somewhere_are_told_apart_elsewhere():
    flops = {"a": 1.0, "b": 10.0, "c": 100.0}

    def found(line, baseline):
        means = {
            name + arm: {"value": value}
            for name, values in (("", line), ("r", baseline))
            for arm, value in zip("abc", values, strict=True)
        }
        both = flops | {"r" + arm: value for arm, value in flops.items()}
        return crossing([*"abc"], ["ra", "rb", "rc"], both, means, True)

    touching = found((0.3, 0.5, 0.7), (0.2, 0.5, 0.8))  # they cross where both are known
    assert (touching["at"], touching["ahead_at_first"]) == ([pytest.approx(10)], True)
    later = found((0.0, 0.5, 0.7), (0.0, 0.4, 0.4))
    assert (later["at"], later["ahead_at_first"]) == ([], True)
    same = found((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    assert (same["at"], same["ahead_at_first"]) == ([], None)
    said = crossing_sentence("mtop", "synthetic", same)
    assert (
        said == "On mtop synthetic and random have the same mean scores between 1 and 1e+02 FLOPs."
    )


def test_a_seed_that_random_lacks_leaves_the_other_seeds_compared():
    cells = [c for c in make_cells() if c["seed"] != 2 or not c["arm"].startswith(("random", "eq"))]
    lead = summary(cells)["compute"]["stdlib_ast"]["differences"]["synthetic"]
    assert (lead["n"], lead["paired"]) == (2, True)


def test_lower_scores_may_be_better():
    cells = [c | {"score": 1 - c["score"], "higher_is_better": False} for c in make_cells()]
    found = summary(cells)["compute"]["stdlib_ast"]["crossings"]["synthetic"]
    assert found["ahead_at_first"]


def test_the_report_says_what_holds_at_equal_compute(tmp_path, undrawn):
    write_report(save(tmp_path, make_cells()))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    section = text.split("## Score over total compute")[1].split("\n## ")[0]
    rows = {line.split(" | ")[0][2:]: line for line in section.splitlines() if line[:2] == "| "}
    assert rows.keys() == {"arm", "---", "synthetic", "synthetic_2x"}
    assert rows["synthetic"].startswith("| synthetic | 2 | +")
    assert "The line of random goes through random, random_2x, equal_compute;" in section
    assert "the lines of synthetic and random cross at" in section
    assert "](compute.png)" in section

    write_report(save(tmp_path / "one", make_cells(["random", "synthetic"])))
    text = (tmp_path / "one" / "report.md").read_text(encoding="utf-8")
    assert "Random was fine-tuned with one budget, so nothing is said" in text


def test_arms_of_other_budgets_are_not_ranked_and_no_task_is_called_unfair():
    schedule = {"type": "linear", "learning_rate": 0.1}
    cells = make_cells([*ARMS][:-1])
    for cell in cells:
        cell["schedule"] = schedule | {"steps": round(cell["phases"]["finetuning"]["flops"] / 1e10)}
    report = summary(cells + [cell | {"task": "other"} for cell in cells])
    assert report["findings"]["other"]["best"] == "equal_compute"
    from hf_synpre.report.findings import write_findings

    said = " ".join(write_findings(report))
    assert "_2x" not in said
    assert "were not fine-tuned as random was" not in said


def test_the_plot_joins_budgets_and_fills_what_is_ahead(monkeypatch):
    monkeypatch.setattr("hf_synpre.report.plots.image", lambda figure, kind: figure)
    figure = draw_plots(summary(make_cells()))["compute.png"]
    (panel,) = figure.axes
    assert panel.get_xscale() == "log"
    assert panel.get_xlabel() == "10¹² FLOPs, pre-training included\n(logarithmic)"
    joined = [
        line for line in panel.lines if len(line.get_xdata()) > 1 and line.get_linewidth() > 1
    ]
    assert sorted(len(line.get_xdata()) for line in joined) == [2, 3]
    points = {
        line.get_xdata()[0]: line for line in panel.lines if line.get_marker() not in ("None", "")
    }
    filled = {x: point.get_markerfacecolor() != "white" for x, point in points.items()}
    assert filled[3e12] is False  # synthetic_2x
    assert filled[1e13] is False  # beyond random's budgets
    assert filled[4e12] is True  # random's own
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["random (3 budgets)", "synthetic (2 budgets)", "dear"]
    ticks = [tick.get_text() for tick in panel.get_xticklabels()]
    assert "2" in ticks
    assert not any("e" in tick for tick in ticks)
