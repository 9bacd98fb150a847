"""The job array of examples/slurm: a task of the array computes the cell of its line.

Run: pytest tests/experiments/test_slurm.py
"""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm" / "cells.sh"


def test_a_task_of_the_array_executes_its_line(tmp_path):
    lines = [f'echo "cell {i} with $OMP_NUM_THREADS threads" > cell-{i}' for i in (1, 2, 3)]
    (tmp_path / "cells.txt").write_text("\n".join(lines))
    task = os.environ | {"SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "5"}
    subprocess.run(["bash", str(SCRIPT)], cwd=tmp_path, env=task, check=True)

    assert [file.name for file in tmp_path.glob("cell-*")] == ["cell-2"]
    assert (tmp_path / "cell-2").read_text() == "cell 2 with 5 threads\n"


def test_a_cell_that_fails_is_a_task_that_fails(tmp_path):
    (tmp_path / "cells.txt").write_text("exit 3\n")
    task = os.environ | {"SLURM_ARRAY_TASK_ID": "1"}
    assert subprocess.run(["bash", str(SCRIPT)], cwd=tmp_path, env=task).returncode == 3
