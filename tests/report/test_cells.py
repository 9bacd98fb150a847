"""Reading cells: what is unreadable or does not fit together is named, with what to do.

Run: pytest tests/report/test_cells.py
"""

import json
import os

import numpy as np
import pytest
from simulated_cells import MEANS, make_cell, make_experiment, save, with_examples

from hf_synpre.errors import UsageError
from hf_synpre.files import pack_fractions, unpack_fractions
from hf_synpre.report import read_cells, table, write_report
from hf_synpre.report.cells import read_folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON"),
        ("[]", "is not a cell of format 1"),
        (json.dumps(make_cell(format=2)), "is not a cell of format 1"),
        (json.dumps({k: v for k, v in make_cell().items() if k != "metric"}), "lacks metric"),
        (json.dumps(make_cell(seed=1)), "clash in their cell stdlib_ast, random, seed 1"),
        (json.dumps(make_cell(seed=2, metric="f1")), "clash in their metric of stdlib_ast"),
        (json.dumps(make_cell(seed=2, experiment="other")), "clash in their experiment"),
    ],
)
def test_bad_cells_are_named(tmp_path, content, message):
    save(tmp_path, [make_cell(seed=0), make_cell(seed=1)])
    (tmp_path / "x--y--0.json").write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_cells(tmp_path)
    assert "x--y--0.json" in str(caught.value)


DEEP = "[" * 100_000 + "]" * 100_000
WRONG_TYPES = {
    "seed": "1",
    "arm": ["random"],
    "task": "",
    "score": "0.5",
    "metric": 3,
    "higher_is_better": "yes",
    "scores": {"f1": "0.5"},
    "test_examples": -1,
    "curve": [{"step": "1", "score": 0.5}],
    "data": {"hub_id": ["a"]},
    "phases": {"pretraining": {"tokens": "many"}},
    "versions": ["2.6"],
    "threads": "two",
    "config": {"arm": 3},
    "truths": ["a"],
}


@pytest.mark.parametrize("key", WRONG_TYPES)
def test_a_cell_of_a_wrong_type_is_named_and_left_out(tmp_path, key):
    save(tmp_path, make_experiment(seeds=2))
    cell = make_cell(seed=9) | {key: WRONG_TYPES[key]}
    (tmp_path / "x--y--0.json").write_text(json.dumps(cell))
    cells, left_out, _ = read_folder(tmp_path)
    assert len(cells) == 8
    assert [bad["file"] for bad in left_out] == ["x--y--0.json"]
    assert left_out[0]["reason"].startswith(f"has {key} ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (DEEP, "is not readable JSON (it is nested too deep"),
        ("[" * 101 + "]" * 101, "more than 100 lists or objects inside each other"),
        (
            json.dumps(make_cell(seed=9, test_examples=3, example_scores=pack_fractions([1, 0]))),
            "2",
        ),
        (json.dumps(make_cell(seed=9, probabilities=pack_fractions([1, 0, 0]), truths=[0])), ""),
        (
            json.dumps(make_cell(seed=9, probabilities=pack_fractions([1, 0]))),
            "has 2 probabilities",
        ),
        ("1" * 5000, "is not readable JSON"),
    ],
    ids=["deep", "levels", "examples", "fits", "truths", "digits"],
)
def test_the_report_goes_on_without_a_file_that_it_cannot_use(tmp_path, content, reason):
    save(tmp_path, make_experiment(seeds=2))
    (tmp_path / "x--y--0.json").write_text(content)
    if not reason:
        assert read_folder(tmp_path).left_out == []
        return
    report = write_report(tmp_path)
    assert report["scores"]["stdlib_ast"]["random"]["n"] == 2
    assert f"left out: x--y--0.json {report['left_out'][0]['reason']}" in table(report)
    assert reason in report["left_out"][0]["reason"]
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "x--y--0.json" in text.split("## Left out")[1]
    with pytest.raises(UsageError, match=r"x--y--0\.json"):
        read_cells(tmp_path)


def test_a_pipe_with_a_cell_s_name_is_left_out(tmp_path):
    save(tmp_path, [make_cell()])
    os.mkfifo(tmp_path / "x--y--0.json")
    assert read_folder(tmp_path).left_out[0]["reason"] == "is not a file"


def test_numbers_that_overflow_are_no_scores(tmp_path):
    scores = (0.5, 1e300, 10**400)
    cells = [make_cell(seed=seed) | {"score": score} for seed, score in enumerate(scores)]
    result = write_report(save(tmp_path, cells))
    assert [cell["seed"] for cell in result["failed"]] == [1, 2]


def test_a_directory_without_cells_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"holds no cells .*synpre run"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="is not a directory"):
        write_report(tmp_path / "nowhere")
    save(tmp_path / "cells", make_experiment(seeds=1))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Cannot write "):
        write_report(tmp_path / "cells", tmp_path / "file")


def test_a_diverged_run_is_a_failed_cell(tmp_path):
    diverged = make_cell(arm="self", score=float("nan"))
    result = write_report(save(tmp_path, [*make_experiment(), diverged]))
    assert [f["error"] for f in result["failed"]] == ["the score is nan"]
    assert "the score is nan" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_cells_with_examples_widen_what_the_report_says_and_old_cells_are_read(tmp_path):
    cells = list(with_examples(make_experiment()))
    old_cells = [{k: v for k, v in cell.items() if k != "example_scores"} for cell in cells]
    new = write_report(save(tmp_path / "new", cells))
    old = write_report(save(tmp_path / "old", old_cells))
    assert new["tasks"]["stdlib_ast"]["covers_examples"]
    assert not old["tasks"]["stdlib_ast"]["covers_examples"]

    for arm in MEANS:
        with_draw, seeds_alone = (r["scores"]["stdlib_ast"][arm] for r in (new, old))
        assert with_draw["value"] == seeds_alone["value"]
        assert with_draw["se"] > seeds_alone["se"]

    share = new["benefits"]["synthetic"]["tasks"]["stdlib_ast"]
    assert share["value"] == pytest.approx(0.5, abs=0.1)
    text = (tmp_path / "new" / "report.md").read_text()
    assert "the draw of the test examples of stdlib_ast" in text


def test_a_text_that_unpacks_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("hf_synpre.files.MOST_FRACTIONS", 1000)
    assert len(unpack_fractions(pack_fractions(np.zeros(1000)))) == 1000
    with pytest.raises(ValueError, match="no end of the packed fractions after 1,000"):
        unpack_fractions(pack_fractions(np.zeros(1001)))


def test_scores_of_examples_that_cannot_be_unpacked_are_named(tmp_path):
    (cell,) = with_examples([make_cell()])
    save(tmp_path, [cell | {"example_scores": "AAAA"}])
    with pytest.raises(UsageError, match="example_scores that cannot be read"):
        read_cells(tmp_path)


@pytest.mark.parametrize("values", [[0.0, 1.0, 1.0], [1 / 3, 0.7058823529411765]])
def test_packed_fractions_come_back(values):
    assert unpack_fractions(pack_fractions(np.array(values))) == pytest.approx(
        np.array(values), abs=1e-5
    )
    assert len(pack_fractions(np.random.default_rng(0).random(1000) < 0.2)) < 400
