"""The sentences that open a report: the best arm, its lead, the controls.

Run: pytest tests/report/test_findings.py
"""

import re

from simulated_cells import MEANS, make_cell, make_experiment, summary

from hf_synpre.report import markdown, table
from hf_synpre.report.findings import NO_CONTROL, write_finding, write_findings

RUN = {"random": {"init": "random", "compute_of": None}}
RUN["synthetic"] = {"init": "weights", "checkpoint": "set"}
RUN["statistics"] = {"init": "statistics", "checkpoint": "set"}
RUN["natural"] = {"init": "weights", "checkpoint": "novels"}
RUN["equal_compute"] = {"init": "random", "compute_of": "set"}


def experiment(means, tasks=("stdlib_ast",), sd=0.002, **changes):
    """Return the cells of an experiment with the options of their arms."""
    cells = make_experiment(means, tasks=tasks, sd=sd, **changes)
    return [cell | {"config": {"arm": RUN[cell["arm"]]}} for cell in cells]


def test_one_task_says_which_arm_is_best_and_by_how_much():
    report = summary(experiment(MEANS))
    text = " ".join(write_findings(report))
    assert text.startswith("stdlib_ast: natural has the best exact match, 49.9 % [49.")
    assert "Its difference to random is +37.8 points [+37." in text
    assert "an interval that excludes zero. The next best is synthetic; the difference" in text
    assert text.endswith(NO_CONTROL)
    # The same sentences are in the table of the terminal and at the top of report.md.
    assert text in " ".join(table(report).split())
    assert markdown(report, "here").splitlines()[2] == text


def test_a_control_of_equal_compute_is_ahead_behind_or_not_told_apart():
    for score, outcome in ((0.6, "ahead of"), (0.2, "behind"), (0.31, "not told apart from")):
        report = summary(experiment(MEANS | {"equal_compute": score}))
        (control,) = report["findings"]["stdlib_ast"]["controls"]
        assert (control["flops_of"], control["against"]) == ("set", "synthetic")
        sentence = write_finding(report, "stdlib_ast")[-1]
        assert f"on longer fine-tuning, is {outcome} synthetic: the difference is" in sentence


def test_several_tasks_count_them():
    means = MEANS | {"equal_compute": 0.6}
    cells = experiment(means, tasks=("a", "b"))
    cells += experiment(means | {"equal_compute": 0.05}, tasks=("c",))
    text = " ".join(write_findings(summary(cells)))
    assert (
        "the best mean score is that of equal_compute on 2 (a and b) and natural on 1 (c)." in text
    )
    assert "Above random, by an interval that excludes zero: synthetic on 3 of 3 tasks" in text
    assert "Below random in the same way: equal_compute on 1 of 3 tasks." in text
    assert (
        "is ahead of the best arm that starts from that run on a and b and behind it on c." in text
    )


def test_what_is_not_known_is_said():
    one_seed = " ".join(write_findings(summary(make_experiment(seeds=1))))
    assert "points (no interval: one seed: no interval)" not in one_seed
    assert "points (one seed: no interval)" in one_seed
    unsure = " ".join(write_findings(summary(experiment(MEANS, sd=0.3))))
    assert "an interval that includes zero" in unsure
    failed = make_cell(status="failed", score=None, error="x")
    assert write_findings(summary([failed])) == [
        "No cell is finished, so there is nothing to compare."
    ]
    lone = " ".join(write_findings(summary(experiment({"random": 0.5, "synthetic": 0.1}))))
    assert "random has the best exact match" in lone
    assert "No other arm is above it." in lone


def test_equal_scores_have_no_best_arm():
    nothing = experiment({"random": 0.0, "synthetic": 0.0}, tasks=("mtop",), sd=0.0)
    assert write_findings(summary(nothing)) == [
        "mtop: all arms have the same exact match, 0.0 % [0.0, 0.4]."
    ]
    text = " ".join(write_findings(summary(nothing + experiment(MEANS, tasks=("other",)))))
    assert "On mtop all arms have the same mean score." in text
    assert "the best mean score is that of natural on 1 (other)" in text


def test_lower_is_better():
    cells = experiment({"random": 3.0, "synthetic": 2.0}, metric="loss", higher_is_better=False)
    text = " ".join(write_findings(summary(cells)))
    assert "synthetic has the best loss, 2.00" in text
    assert "Its difference to random is -1.00" in text


def test_small_scores_keep_their_digits_and_their_sign():
    means = {"random": 0.004, "synthetic": 0.003}
    report = summary(experiment(means, sd=0.0002, metric="rmse", higher_is_better=False))
    text = " ".join(write_findings(report))
    assert re.search(r"synthetic has the best rmse, 0\.00[23]\d\d \[0\.00\d{3}, 0\.00\d{3}\]", text)
    assert re.search(r"Its difference to random is -0\.00\d{3} \[-0\.00\d{3}, ", text)
    assert re.search(r"0\.00[23]\d\d \[", table(report))

    tiny = experiment({"random": 4e-6, "synthetic": 3e-6}, sd=0, metric="rmse")
    assert "3.00e-06" in table(summary(tiny))


def test_the_report_leaves_out_what_has_no_data():
    text = markdown(summary(experiment({"random": 0.5, "synthetic": 0.6})), "here")
    for part in ("## Failed", "## Left out", "| mean of the ratios", "](curves.png)", "tokens/s"):
        assert part not in text
    assert "## Difference to random" in text
    bare = make_cell(versions=None, phases=None, curve=None, embeddings=None)
    bare_text = markdown(summary([bare]), "here")
    for part in ("## Difference", "## Benefit", "## Training", "## Versions", "Test examples: "):
        assert (part in bare_text) == (part == "Test examples: ")
