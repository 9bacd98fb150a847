"""The heat map of differences to random: which arms, their order, colours, and what chance gives.

Run: pytest tests/report/test_heat_maps.py
"""

import pytest
from simulated_cells import make_experiment, save, summary

from hf_synpre.report import write_report
from hf_synpre.report.heat_maps import (
    MANY_ARMS,
    count_beyond_chance,
    difference_columns,
    draw_difference_map,
)
from hf_synpre.report.plots import image

# Statistics of many tasks: some help, some do nothing, and one harms.
MEANS = {"random": 0.2, "best": 0.6, "good": 0.4, "bad": 0.1} | {
    f"nothing_{number}": 0.2 for number in range(MANY_ARMS - 3)
}
TASKS = ("a", "b", "c")


def test_the_best_arms_come_first_and_colours_say_what_is_beyond_zero():
    report = summary(make_experiment(MEANS, tasks=TASKS, sd=0.005))
    columns, arms = difference_columns(report)
    assert arms[:2] == ["best", "good"]
    assert arms[-1] == "bad"
    assert [column.name for column in columns] == [*TASKS]
    assert columns[0].limit == pytest.approx(40, abs=2)  # points of the largest difference

    figure = draw_difference_map(report)
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == arms
    colours = panel.collections[0].get_array()  # [arms, tasks]
    assert colours[0].min() > 0.9
    assert -0.4 < colours[-1].max() < 0
    assert colours.mask[2:-1].mean() > 0.8  # white where nothing differs
    texts = [text.get_text() for text in panel.texts]
    assert texts[0].startswith("+4")
    assert texts[1].startswith("[+")
    assert image(figure, "png").startswith(b"\x89PNG")


def test_a_loss_is_better_where_it_is_lower():
    lower = {arm: 1 - mean for arm, mean in MEANS.items()}
    cells = make_experiment(lower, tasks=TASKS, sd=0.005, metric="loss", higher_is_better=False)
    _, arms = difference_columns(summary(cells))
    assert arms[0] == "best"
    (panel,) = draw_difference_map(summary(cells)).axes
    assert panel.collections[0].get_array()[0].min() > 0.9
    assert panel.texts[0].get_text().startswith("-0.")


def test_it_says_how_many_intervals_exclude_zero_and_how_many_would_by_chance(tmp_path, undrawn):
    cells = make_experiment(MEANS, tasks=TASKS, sd=0.005)
    report = write_report(save(tmp_path, cells))
    found, count = count_beyond_chance(report)
    assert count == MANY_ARMS * 3
    assert found >= 9
    said = f"{found} of {count}; about 1 would where nothing differs"
    assert said in " ".join(draw_difference_map(report).get_suptitle().split())
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"; {found} of {count} do, and about 1 would where nothing differs)" in text
    assert "](differences.png)" in text
    assert (tmp_path / "differences.png").is_file()
    assert "data:image/svg+xml" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_without_intervals_nothing_is_coloured_and_the_title_says_so():
    figure = draw_difference_map(summary(make_experiment(MEANS, tasks=TASKS, seeds=1)))
    assert "no difference has an interval" in " ".join(figure.get_suptitle().split())


def test_few_arms_and_single_tasks_have_the_plot_of_intervals_alone():
    few = dict(list(MEANS.items())[:MANY_ARMS])
    assert draw_difference_map(summary(make_experiment(few, tasks=TASKS))) is None
    assert draw_difference_map(summary(make_experiment(MEANS, tasks=("a",)))) is None
