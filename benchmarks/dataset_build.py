"""Building Parquet shards, beside pyarrow writing the same rows from arrays; peak memory.

    python benchmarks/dataset_build.py [--rows 200000] [--repeats 3]

The result is benchmarks/results/dataset_build.json.

pyarrow writes one file of rows that are in memory, with the settings of the shards and with its own
defaults (dictionary, snappy). Ours generates and hashes the rows besides: a thread does that while
the last row group is written, so a second core helps where one is free; `cores_that_ours_had` says
whether it was, and shares of processor time are given as well. All are timed in turn, the best of
several timings is kept. Peak memory is that of a fresh process, at three numbers of rows.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa
import pyarrow.parquet as pq

from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import BLOCK_ROWS, GROUP_BLOCKS, PARQUET, build_shards
from hf_synpre.tasks import SCHEMA, iter_row_blocks

RESULT = Path(__file__).parent / "results" / "dataset_build.json"
TASKS = ("set", "identity", "sort", "longest_word", "lime", "nonsense_summary", "nesting_language")
PEAK = """
import re, sys
from hf_synpre.data.recipes import Recipe
from hf_synpre.data.shards import build_shards
build_shards(Recipe(sys.argv[1], splits={"train": int(sys.argv[2])}), "default", sys.argv[3])
# Not getrusage, which counts the parent's memory too.
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1))
"""


def write_ready(table: pa.Table, file: Path, settings: dict) -> None:
    """What pyarrow does alone: write rows that are in memory."""
    with pq.ParquetWriter(file, SCHEMA, **settings) as writer:
        writer.write_table(table, row_group_size=GROUP_BLOCKS * BLOCK_ROWS)


def timed(call) -> tuple[float, float]:
    """Wall and processor seconds of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def measure(task: str, rows: int, repeats: int) -> dict[str, float]:
    """Rows a second of the three ways of writing, and ours as a share of pyarrow's."""
    recipe = Recipe(task, splits={"train": rows})
    table = pa.Table.from_batches(
        iter_row_blocks(recipe.stream("train"), 0, rows, BLOCK_ROWS)
    ).combine_chunks()

    # The same rows go three ways.
    ways = {
        "ours": lambda folder: build_shards(recipe, "default", folder, num_shards=1),
        "pyarrow": lambda folder: write_ready(table, Path(folder) / "ready.parquet", PARQUET),
        "pyarrow_defaults": lambda folder: write_ready(table, Path(folder) / "default.parquet", {}),
    }

    # In turn; the best of each counts.
    times: dict[str, list] = {name: [] for name in ways}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, way in ways.items():
                times[name].append(timed(lambda way=way, folder=folder: way(folder)))
            size = next(Path(folder).glob("data/*")).stat().st_size
    wall, processor = (
        {name: min(t[k] for t in taken) for name, taken in times.items()} for k in (0, 1)
    )

    # Rates, and shares of the peers'.
    facts = {f"{name}_rows_per_s": round(rows / seconds) for name, seconds in wall.items()}
    facts["cores_that_ours_had"] = round(processor["ours"] / wall["ours"], 2)
    for peer in ("pyarrow", "pyarrow_defaults"):
        facts[f"share_of_{peer}"] = round(wall[peer] / wall["ours"], 3)
        facts[f"share_of_{peer}_processor_time"] = round(processor[peer] / processor["ours"], 3)
    return facts | {
        "megabytes": round(size / 1e6, 1),
        "arrays_megabytes": round(table.nbytes / 1e6, 1),
    }


def peak(task: str, rows: int) -> float:
    """Peak memory in MB of a fresh process that builds so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", PEAK, task, str(rows), folder],
            capture_output=True,
            text=True,
            check=True,
        )
    return round(int(done.stdout) / 1024, 1)


def main() -> None:
    """Measure, write the JSON, print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    # Speed of every task, memory of one.
    tasks = {
        task: measure(task, given.rows // (5 if task == "nonsense_summary" else 1), given.repeats)
        for task in TASKS
    }
    peaks = {
        str(rows): peak("set", rows) for rows in (given.rows // 10, given.rows, 5 * given.rows)
    }

    # The summary.
    shares = (
        "share_of_pyarrow",
        "share_of_pyarrow_defaults",
        "share_of_pyarrow_processor_time",
        "cores_that_ours_had",
    )
    summary = {f"least_{share}": min(facts[share] for facts in tasks.values()) for share in shares}
    summary |= {f"set_{share}": tasks["set"][share] for share in shares} | {
        "peak_megabytes_by_rows_of_set": peaks
    }

    # Write it with the machine.
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    machine |= {"pyarrow": pa.__version__, "load_average": round(os.getloadavg()[0], 1)}
    result = {
        "summary": summary,
        "machine": machine,
        "rows": given.rows,
        "repeats": given.repeats,
        "per_task": tasks,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
