"""The matrix of gains and the pairs of arms that labelled tasks add to a report.

Run: pytest tests/report/test_transfer.py
"""

import numpy as np
import pytest

from hf_synpre.report.transfer import (
    ensembles,
    error_overlap,
    gain_matrix,
    mean_over_tasks,
    summarize_transfer,
)

CELL = {
    "status": "done",
    "task": "tags",
    "arm": "self",
    "seed": 0,
    "data": {"labels": ["O", "B-pet"]},
}


def gain(value, half=0.05):
    """Return the estimate of a difference."""
    return {"value": value, "low": value - half, "high": value + half}


def test_the_mean_over_tasks_has_the_interval_of_independent_tasks():
    mean = mean_over_tasks({"a": gain(0.3, 0.3), "b": gain(0.1, 0.4)})
    assert mean["value"] == pytest.approx(0.2)
    assert (mean["low"], mean["high"]) == pytest.approx((0.2 - 0.25, 0.2 + 0.25))  # 5 / 10 / 2
    assert mean_over_tasks({"a": gain(0.3), "b": None}) is None


def test_cells_of_other_examples_are_no_pair():
    cells = [
        {"task": "t", "arm": arm, "seed": 0, "status": "done", "truths": truths}
        | {"probabilities": np.array([0.9, 0.1] * len(truths))}
        for arm, truths in (("a", [0, 1]), ("b", [0, 1]), ("c", [0, 1, 1]))
    ]
    assert [pair["arms"] for pair in ensembles(cells)["t"]] == [["a", "b"]]


def test_tasks_without_probabilities_have_a_matrix_too():
    report = {
        "tasks": {"tags": {"unit": "%"}},
        "arms": ["random", "self"],
        "reference": "natural",
        "benefits": {"self": {"tasks": {"tags": {"value": None}}}},
        "differences": {"tags": {"self": gain(0.25)}},
    }
    transfer = summarize_transfer([CELL], report)
    assert transfer["matrix"]["means"] == {"self": 0.25}
    assert transfer["ensembles"] == {}
    assert summarize_transfer([CELL | {"data": {"tokenizer": "x"}}], report) is None


@pytest.mark.parametrize(("first_share", "arms"), [(None, {"self", "natural"}), (0.8, {"self"})])
def test_the_matrix_is_of_differences_where_most_shares_are_refused(first_share, arms):
    shares = {"a": {"value": first_share}, "b": {"value": None}}
    row = {"self": gain(0.2), "natural": gain(0.1)}
    report = {
        "tasks": {"a": {"unit": "%"}, "b": {"unit": "%"}},
        "arms": ["random", "self", "natural"],
        "reference": "natural",
        "benefits": {"self": {"tasks": shares, "mean_of_ratios": {"value": 0.8}}},
        "differences": {"a": row, "b": row},
    }
    assert gain_matrix(report)["gains"].keys() == arms


def test_a_mean_in_points_is_over_tasks_whose_scores_are_in_per_cent():
    report = {
        "tasks": {"a": {"unit": "%"}, "b": {"unit": "pearson_corr"}},
        "arms": ["random", "self"],
        "reference": "natural",
        "benefits": {"self": {"tasks": {"a": {"value": None}, "b": {"value": None}}}},
        "differences": {"a": {"self": gain(0.2)}, "b": {"self": gain(0.9)}},
    }
    matrix = gain_matrix(report)
    assert matrix["gains"] == {"self": {"a": gain(0.2)}}
    assert matrix["means"] == {"self": 0.2}


def test_a_pair_of_arms_has_known_overlap():
    labels = [0, 1, 1, 0]
    one = {
        "truths": labels,
        "probabilities": np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]).ravel(),
    }
    two = {
        "truths": labels,
        "probabilities": np.array([[0.6, 0.4], [0.05, 0.95], [0.6, 0.4], [0.45, 0.55]]).ravel(),
    }
    assert error_overlap(one, two) == {
        "ensemble": 0.75,
        "better": 0.5,
        "both_wrong": 0.25,
        "one_right": 0.5,
    }
