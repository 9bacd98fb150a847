"""Reading cells: what is unreadable or does not fit together is named, with what to do.

Run: pytest tests/report/test_cells.py
"""

import json

import numpy as np
import pytest
from simulated_cells import MEANS, make_cell, make_experiment, save, with_examples

from hf_synpre.errors import UsageError
from hf_synpre.files import pack_fractions, unpack_fractions
from hf_synpre.report import read_cells, write_report


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
