"""Folders of several machines make one report; what contradicts is refused in one line.

Run: pytest tests/report/test_merge.py
"""

import json

import pytest
from simulated_cells import make_cell, make_experiment, page, save, summary

from hf_synpre.cli import main
from hf_synpre.errors import UsageError
from hf_synpre.report import write_report
from hf_synpre.report.merge import read_folders

RECIPE = {
    "name": "quickstart",
    "jobs": 0,
    "seeds": [0, 1, 2],
    "arms": {
        "random": {"init": "random"},
        "synthetic": {"init": "weights"},
        "reference": {"init": "weights"},  # an arm with the name of a key that may differ
    },
    "finetuning": {"evaluations": 5},
}


@pytest.fixture
def folders(tmp_path):
    """Return two folders of one experiment, with three cells in both, and all its cells."""
    cells = [cell | {"device": "cpu x86_64", "threads": 1} for cell in make_experiment()]
    halves = cells[:7], [cell | {"wall_s": 9.0} for cell in cells[4:]]
    paths = []
    for name, half in zip(("one", "other"), halves, strict=True):
        paths.append(save(tmp_path / name, half))
        (paths[-1] / "experiment.json").write_text(json.dumps(RECIPE | {"jobs": len(paths)}))
    return paths, cells


def test_each_cell_counts_once(folders, tmp_path, capsys, undrawn):
    paths, cells = folders
    whole = write_report(save(tmp_path / "whole", cells))
    merged = write_report(paths, tmp_path / "merged")
    for part in ("scores", "differences", "benefits", "curves"):
        assert merged[part] == whole[part]
    assert len(merged["cells"]) == len(cells)
    text = (tmp_path / "merged" / "report.md").read_text(encoding="utf-8")
    assert "Made by `synpre report one other`" in text
    assert not (paths[0] / "report.md").exists()

    words = [*map(str, paths), "--output_dir", str(tmp_path / "by command")]
    assert main(["report", *words]) == 0
    assert f"{len(cells)} cells found" in capsys.readouterr().out
    assert json.loads((tmp_path / "by command" / "report.json").read_text()) == merged


def test_a_finished_cell_wins_over_a_failed_one(folders):
    paths, cells = folders
    failed = make_cell(arm="random", seed=0, status="failed", score=None, error="out of memory")
    save(paths[1], [failed])
    found = read_folders(paths)
    assert [cell["status"] for cell in found.cells] == ["done"] * len(cells)
    assert [cell["status"] for cell in read_folders(paths[::-1]).cells] == ["done"] * len(cells)


def test_different_results_of_one_cell_are_refused(folders, tmp_path, capsys):
    paths, _ = folders
    save(paths[1], [make_cell(arm="random", seed=0, score=0.9)])
    words = ["report", *map(str, paths), "--output_dir", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "hold different results of the cell stdlib_ast, random, seed 0 (score: " in said
    assert " before, 0.9 now). Move one of them elsewhere." in said
    assert len(said.strip().splitlines()) == 1


def test_one_result_may_stand_in_folders_with_other_seeds(folders):
    paths, cells = folders
    for path, seeds in zip(paths, ([0, 1], [0, 2]), strict=True):
        save(path, [make_cell(arm="random", seed=0) | {"config": {"task": {"seeds": seeds}}}])
    assert len(read_folders(paths).cells) == len(cells)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetuning": {"evaluations": 9}}, "of different recipes .*evaluations.*; merge folders"),
        ({"arms": {"random": {"init": "statistics"}}}, "of different recipes .*init.*; merge fold"),
        ({"arms": {"reference": {"init": "random"}}}, "of different recipes .*init.*; merge fold"),
        ({"seeds": [7]}, None),
        ({"arms": None}, None),
        ({"arms": {"other": {"init": "statistics"}}}, None),
    ],
)
def test_folders_of_different_recipes_are_refused(folders, changes, message):
    paths, cells = folders
    (paths[1] / "experiment.json").write_text(json.dumps(RECIPE | changes))
    if message is None:
        assert len(read_folders(paths).cells) == len(cells)
        return
    with pytest.raises(UsageError, match=message):
        read_folders(paths)


def test_the_references_of_folders_agree(folders):
    paths, _ = folders
    (paths[0] / "experiment.json").write_text(json.dumps(RECIPE | {"reference": "synthetic"}))
    assert read_folders(paths).reference == "synthetic"
    (paths[1] / "experiment.json").write_text(json.dumps(RECIPE | {"reference": "random"}))
    with pytest.raises(UsageError, match=r"has the reference synthetic and .* random; give both"):
        read_folders(paths)


def test_several_folders_need_a_place_for_their_report(folders, capsys):
    paths, _ = folders
    with pytest.raises(UsageError, match="No folder was given; give the folder of an exp"):
        write_report([])
    with pytest.raises(UsageError, match=r"2 folders were given and no place for .*--output_dir"):
        write_report(paths)
    assert main(["report", str(paths[0]), "--directory", str(paths[1])]) == 2
    assert "--directory was given beside" in capsys.readouterr().err


def test_files_that_are_left_out_are_named_with_their_folder(folders):
    paths, _ = folders
    (paths[1] / "mtop--self--0.json").write_text("{")
    assert [one["file"] for one in read_folders(paths).left_out] == ["other/mtop--self--0.json"]


# --- Where cells were computed --------------------------------------------------------------------


def test_the_report_says_which_cells_were_computed_where():
    cells = make_experiment()
    for cell in cells:
        if cell["arm"] == "natural":
            cell |= {"device": "NVIDIA H100", "versions": {"torch": "2.7", "hf_synpre": "0.1.0"}}
        else:
            cell["device"] = "cpu x86_64"
    assert summary(cells)["origins"].keys() == {"device", "torch"}
    versions = page(cells).split("## Versions")[1]
    assert (
        "- device: NVIDIA H100 (3 cells of natural) and cpu x86_64 (9 cells of random, "
        "synthetic, statistics)"
    ) in versions
    assert "- torch: 2.6 (9 cells of random, synthetic, statistics) and 2.7 (3 cells" in versions
    assert "- hf_synpre: 0.1.0\n" in versions


def test_what_cells_do_not_say_is_unknown():
    cells = make_experiment({"random": 0.1, "synthetic": 0.2})
    cells[0]["device"] = "cpu x86_64"
    assert "cpu x86_64 (1 cell of random) and unknown (5 cells)" in page(cells)
