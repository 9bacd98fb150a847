"""What is shown of an experiment that runs: from the files of its workers, as a table or as lines.

Run: pytest tests/experiments/test_shown_progress.py
"""

import io
import json
import re

from hf_synpre.experiments import Cell
from hf_synpre.experiments.progress import Lines, Progress
from hf_synpre.training.progress import ProgressFile, RunState, current_listener, reported_in


def test_what_runs_is_shown_from_files(tmp_path, capsys):
    """Of other processes too; not of one that has ended, and not of another experiment's cells."""
    from rich.console import Console

    cells = [Cell("mtop", "random", 0), Cell("mtop", "random", 1)]
    progress = Progress("x", tmp_path, cells, 2, [tmp_path / "now"])
    state = RunState("pre-training set", "training", steps=400, step=7, parameters=936_000)
    with (
        reported_in(tmp_path / "now", "pre-training set"),
        reported_in(tmp_path / "now", "a--b--0"),
    ):
        ProgressFile(tmp_path / "now" / "pre-training-set.json", "pre-training set").begun(state)
        gone = json.loads((tmp_path / "now" / "pre-training-set.json").read_text())
        gone |= {"name": "gone", "pid": 2**22 + 1}
        (tmp_path / "now" / "gone.json").write_text(json.dumps(gone))
        (tmp_path / "now" / "broken.json").write_text("{")
        assert progress.running() == [state]

        # On a terminal.
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(progress.screen())
        assert re.search(r"pre-training set +936 k +0 +7 of 400", console.export_text())

        # Elsewhere: the score of a cell that has ended, then what runs.
        lines = Lines(progress, every_s=0.0)
        done = {"status": "done", "score": 0.25, "metric": "exact_match", "wall_s": 3.0}
        (tmp_path / cells[0].file_name).write_text(json.dumps(done))
        lines.update()
    shown = capsys.readouterr().err
    assert shown.startswith("mtop--random--0: exact_match 0.250\nx: 1 of 2 cells")
    assert "  pre-training set: step 7 of 400, ? left" in shown
    assert "parameters" not in shown
    assert progress.running() == []


def test_a_command_for_one_cell_says_what_its_run_is(tmp_path, capsys):
    cell = Cell("mtop", "random", 0)
    lines = Lines(Progress("x", tmp_path, [cell], 1, [tmp_path / "now"]))
    state = RunState(cell.name, "training", model="T5", steps=400, step=7, seconds_left=9.0)
    with reported_in(tmp_path / "now", cell.name):
        current_listener().begun(state)
        lines.update()
        lines.update()
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("mtop--random--0: T5 with 0 parameters, up to 400 steps")
    assert shown[1:] == ["mtop--random--0: about 9 s for all steps, by the first 7."]
