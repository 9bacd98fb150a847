"""Long load: ten million rows of four streams, and an experiment of 2,000 cells in one folder.

    python benchmarks/long_load.py [--folder FOLDER] [--seconds 180] [--trained 500]
        -> results/long_load.json

`rows`: every row of four streams (three splits, and train with another seed) is hashed. A stream's
rows are those of 64-bit states, and so are the hashes: among 10^7 rows 2.7e-6 collisions of states
and as many of hashes are expected by chance.

`cells`: an experiment of tiny BERTs, each fine-tuned for one step, grows from 250 to 2,000 cells.
Up to `--trained` of them the runner trains them, one at a time; the cells of larger sizes are
copies of trained ones under other names, which the JSON says. At each size four commands are
measured in one fresh process: `synpre run --list` of a folder without cells, `synpre run --only
CELL` where nothing is missing, the table of progress, and `synpre report`: CPU seconds, and the
most memory that the process has had by then. A folder keeps what was done: the same command goes
on, `--seconds` ends it early.
"""

import argparse
import contextlib
import io
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import yaml

from hf_synpre.cli import main as synpre
from hf_synpre.config import build_spec
from hf_synpre.files import write_json, write_text
from hf_synpre.tasks import open_stream

RESULT = Path(__file__).parent / "results" / "long_load.json"

ROWS = 10_000_000
STREAMS = (("train", 0), ("validation", 0), ("test", 0), ("train", 1))
CHUNK = 50_000  # rows that are in memory at a time
# A task whose rows hold 32 of thousands of ids by chance: no two are equal for want of others.
TASK, LENGTHS = "identity", {"min_length": 32, "max_length": 32}
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

# Tasks, arms and seeds of the experiment at each size.
SIZES = ((5, 10, 5), (5, 10, 10), (10, 10, 10), (20, 10, 10))
PORTION_S = 60.0  # CPU seconds after which a process of cells ends
MEASURES = ("list", "only", "progress", "report")


# --- Rows -----------------------------------------------------------------------------------------


def hash_rows() -> dict[str, Any]:
    """Hash the rows of all streams; return how many are equal, the time and the memory."""
    began = time.process_time()
    count = ROWS // len(STREAMS)
    hashes = np.empty((len(STREAMS), count), np.uint64)
    for number, (split, seed) in enumerate(STREAMS):
        stream = open_stream(TASK, split=split, seed=seed, **LENGTHS)
        for start in range(0, count, CHUNK):
            ids, _, _, _ = stream.rows(np.arange(start, start + CHUNK))
            rows = ids.reshape(CHUNK, -1).astype(np.uint64)  # [rows, ids]; all are equally long
            hashes[number, start : start + CHUNK] = hash_each(rows)

    # Rows that two streams have in common, and rows that a stream has twice.
    between = {}
    for one in range(len(STREAMS)):
        for other in range(one + 1, len(STREAMS)):
            pair = f"{' '.join(map(str, STREAMS[one]))}, {' '.join(map(str, STREAMS[other]))}"
            between[pair] = len(np.intersect1d(hashes[one], hashes[other]))
    return {
        "rows": hashes.size,
        "task": f"{TASK}, {LENGTHS['min_length']} of {open_stream(TASK).vocabulary.size} ids a row",
        "equal_between_streams": between,
        "equal_within_a_stream": sum(count - len(np.unique(row)) for row in hashes),
        "expected_by_chance": 2 * hashes.size**2 / 2 / 2.0**64,
        "cpu_s": round(time.process_time() - began, 1),
        "peak_mb": peak_mb(),
    }


def hash_each(rows: np.ndarray) -> np.ndarray:
    """Return the hash of each row, uint64 [rows], of its ids, uint64 [rows, ids]."""
    hashes = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        hashes = (hashes ^ column) * MULTIPLIER
        hashes ^= hashes >> np.uint64(32)
    return hashes


# --- Cells ----------------------------------------------------------------------------------------


def write_experiment(folder: Path, tasks: int, arms: int, seeds: int) -> Path:
    """Write the rows of the tasks and the YAML of the experiment; return the YAML."""
    definitions = {}
    for task in range(tasks):
        rows = folder / "rows" / f"t{task}"
        for number, split in enumerate(("train", "validation", "test")):
            lines = []
            for i in range(16):
                text = f"task {task} row {1000 * number + i}"
                lines.append(json.dumps({"text": text, "label": ["even", "odd"][i % 2]}))
            write_text(rows / f"{split}.jsonl", "\n".join(lines) + "\n")
        definitions[f"t{task}"] = {
            "vocab_size": 300,
            "data_dir": str(rows),
            "define": {"head": "classes", "text": "text", "label": "label", "max_source": 16},
        }

    # Arms differ in a constant of their norms.
    constant = {"init": "statistics", "scheme": "constant_pre_attn_ln"}
    starts: dict[str, Any] = {"random": {}}
    starts |= {f"constant{arm}": {**constant, "value": 0.1 * arm} for arm in range(1, arms)}
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    shape |= {"intermediate_size": 8, "max_position_embeddings": 64}
    training = {"per_device_train_batch_size": 4, "use_cpu": True, "max_steps": 1}
    recipe = {"training": training, "evaluations": 1}
    experiment = {
        "name": "long_load",
        "model": {"model_type": "bert", "overrides": shape},
        "tasks": definitions,
        "arms": starts,
        "finetuning": {**recipe, "validation_examples": 8, "test_examples": 8},
        "seeds": list(range(seeds)),
        "jobs": 1,
    }
    file = folder / f"{tasks * arms * seeds}.yaml"
    write_text(file, yaml.safe_dump(experiment))
    return file


def measure(file: Path, run: Path) -> dict[str, Any]:
    """Return the CPU seconds of each command, and the memory after it, in this process."""
    # The libraries are loaded first: their time does not depend on the cells.
    import matplotlib.figure  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401

    from hf_synpre.experiments import ExperimentSpec
    from hf_synpre.experiments.progress import Progress

    spec = build_spec(ExperimentSpec, yaml.safe_load(file.read_text()), str(file))
    cells = spec.cells()
    words = ["run", str(file), "--output_dir"]
    commands: dict[str, Callable[[], Any]] = {
        "list": lambda: synpre([*words, f"{run}-empty", "--list"]),
        "only": lambda: synpre([*words, str(run), "--only", cells[0].name]),
        "progress": lambda: Progress("x", run, cells, 1).screen(),
        "report": lambda: synpre(["report", str(run)]),
    }
    figures: dict[str, Any] = {"libraries_mb": peak_mb()}
    for what, command in commands.items():
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            outcome = command()
        assert not isinstance(outcome, int) or outcome == 0
        seconds = time.process_time() - began
        figures[what] = {"cpu_s": round(seconds, 3), "peak_mb": peak_mb()}
    return figures


def compute(file: Path, run: Path) -> dict[str, Any]:
    """Compute missing cells, one task after the other, until a portion's time is over."""
    from hf_synpre.experiments import Experiment, ExperimentSpec

    spec = build_spec(ExperimentSpec, yaml.safe_load(file.read_text()), str(file))
    experiment = Experiment(spec, run)
    missing = experiment.missing(experiment.cells())
    began, computed = time.process_time(), 0
    for task in dict.fromkeys(cell.task for cell in missing):
        if time.process_time() - began > PORTION_S:
            break
        with contextlib.redirect_stderr(io.StringIO()):
            failures = experiment.run([f"{task}--*"])
        assert not failures, failures
        computed += sum(cell.task == task for cell in missing)
    seconds = time.process_time() - began
    return {"cells": computed, "cpu_s": round(seconds, 2), "peak_mb": peak_mb()}


def copy_cells(file: Path, run: Path) -> int:
    """Write the missing cells as copies of trained ones of their arm; return how many."""
    from hf_synpre.experiments import Experiment, ExperimentSpec

    spec = build_spec(ExperimentSpec, yaml.safe_load(file.read_text()), str(file))
    experiment = Experiment(spec, run)
    experiment.open_folder()
    missing = experiment.missing(experiment.cells())
    for cell in missing:
        content = json.loads((run / f"t0--{cell.arm}--{cell.seed % 5}.json").read_text())
        content |= {"task": cell.task, "seed": cell.seed}
        write_json(run / cell.file_name, content)
    return len(missing)


def peak_mb() -> int:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def in_process(*words: str) -> Any:
    """Return what a step of this benchmark returns that runs in a process of its own."""
    command = [sys.executable, __file__, "--step", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(sizes: dict[str, Any], what: str) -> float:
    """Return the power of the number of cells with which the seconds of a command grow.

    It is taken between the second and the last size, 500 and 2,000 cells.
    """
    first, last = list(sizes)[1], list(sizes)[-1]
    ratio = sizes[last][what]["cpu_s"] / sizes[first][what]["cpu_s"]
    return round(math.log(ratio) / math.log(int(last) / int(first)), 2)


def main() -> int:
    """Go on with what a folder holds, and write the JSON once all is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default="runs/long_load", help="of the cells")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--trained", type=int, default=500, help="no larger size is trained")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        what, *paths = options.step
        steps = {"rows": hash_rows, "compute": compute, "copy": copy_cells, "measure": measure}
        result = steps[what](*map(Path, paths))
        print(json.dumps(result))
        return 0

    began = time.perf_counter()
    state_file, run = options.folder / "state.json", options.folder / "run"
    state: dict[str, Any] = {"rows": None, "sizes": {}}
    if state_file.exists():
        state = json.loads(state_file.read_text())
    if state["rows"] is None:
        state["rows"] = in_process("rows")
        write_json(state_file, state)

    for tasks, arms, seeds in SIZES:
        cells = tasks * arms * seeds
        figures = state["sizes"].setdefault(str(cells), {"trained": 0, "trained_cpu_s": 0.0})
        file = write_experiment(options.folder, tasks, arms, seeds)
        while "report" not in figures:
            if time.perf_counter() - began > options.seconds:
                write_json(RESULT, state)
                return 1
            computed = {"cells": 0}
            if cells <= options.trained:
                computed = in_process("compute", str(file), str(run))
            if computed["cells"]:
                figures["trained"] += computed["cells"]
                figures["trained_cpu_s"] += computed["cpu_s"]
                figures["run_peak_mb"] = max(figures.get("run_peak_mb", 0), computed["peak_mb"])
            else:
                figures["copied"] = in_process("copy", str(file), str(run))
                figures.update(in_process("measure", str(file), str(run)))
            write_json(state_file, state)
            print(cells, figures, flush=True)

    sizes = state["sizes"]
    trained = sum(figures["trained"] for figures in sizes.values())
    seconds = sum(figures["trained_cpu_s"] for figures in sizes.values())
    result = {
        **state,
        "trained_cells": trained,
        "copied_cells": max(map(int, sizes)) - trained,
        "cpu_s_a_trained_cell": round(seconds / trained, 3),
        "growth_exponents": {what: exponent(sizes, what) for what in MEASURES},
    }
    write_json(RESULT, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
