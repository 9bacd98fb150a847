"""Speed of the tasks since 2022 on one core, beside pptrain at its own presets and NumPy's draws.

    python benchmarks/zoo.py [--rows 2048] [--repeats 10] [--peer FOLDER]

The result is benchmarks/results/zoo.json.

pptrain (MIT) is the one other library with such tasks, for decoders. It is downloaded from the
package index where --peer names no folder with it; without it the other figures are measured. Its
Dyck is timed at the preset paper_k64: 64 kinds, up to 2,048 tokens. Each figure is the best of
several timings, ours and the peer's by turns.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from generation import best_seconds, measure

from hf_synpre.tasks import get_task, list_tasks, open_stream

RESULT = Path(__file__).parent / "results" / "zoo.json"
PEER = "pptrain==0.3.0"
PEER_PRESET = "paper_k64"
PEER_ROWS = 200
# Task -> the tokens a second on one core that issue and paper-sized rows ask for.
WANTED = {
    "k_shuffle_dyck": 50e6,
    "k_dyck": 50e6,
    "copy": 50e6,
    "stack": 50e6,
    "eca": 50e6,
    "needle": 50e6,
    "verbatim": 50e6,
    "mqar": 20e6,
}


def tasks_since_2022() -> list[str]:
    """Return the tasks whose papers are younger than the 21 of Wu et al. 2022, and the controls."""
    modules = ("brackets", "automata", "retrieval", "rewriting")
    return [
        name
        for name in list_tasks()
        if get_task(name).function.__module__.rpartition(".")[2] in modules
    ] + ["uniform", "zipf"]


def fetched_peer(folder: str) -> str | None:
    """Download the peer without what it depends on; return its folder, None where that fails."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PEER]
    if subprocess.run(command, capture_output=True).returncode:
        print(f"{PEER} cannot be downloaded; its figures are left out")
        return None
    for wheel in Path(folder).glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder)
    return folder


def peer_dyck():
    """Return a function that makes rows of the peer's Dyck, and the tokens that they have."""
    from pptrain.tasks.dyck import DYCK_PRESETS, DyckConfig, DyckTaskFamily

    (preset,) = (one for one in DYCK_PRESETS if one.name == PEER_PRESET)
    config = {key: preset.config[key] for key in preset.config if key in DyckConfig.__slots__}
    family = DyckTaskFamily(DyckConfig(**config))
    spec = family.tokenizer_spec()

    def rows() -> int:
        source = np.random.default_rng(0)
        return sum(
            len(family.serialize_task(family.execute_task(family.sample_task(source)), spec))
            for _ in range(PEER_ROWS)
        )

    return rows


def compared_dyck(repeats: int) -> dict[str, float]:
    """Return the tokens a second of our k_dyck and of the peer's, taken by turns."""
    stream, indices = open_stream("k_dyck"), np.arange(PEER_ROWS)
    rows = peer_dyck()
    tokens, peer_tokens = len(stream.rows(indices)[0]), rows()
    ours, peer = float("inf"), float("inf")
    for _ in range(repeats):
        ours = min(ours, best_seconds(lambda: stream.rows(indices), 3))
        peer = min(peer, best_seconds(rows, 1))
    return {
        "tokens_per_s": round(tokens / ours),
        "peer_tokens_per_s": round(peer_tokens / peer),
        "times": round(tokens / ours / (peer_tokens / peer), 1),
    }


def main() -> None:
    """Measure all, print a table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--peer", help="a folder with the package pptrain")
    given = parser.parse_args()

    tasks = {}
    for task in tasks_since_2022():
        tasks[task] = measure(task, given.rows, given.repeats)
        # Inputs alone count: the labels of a sequence repeat its tokens.
        if get_task(task).is_sequence:
            tasks[task]["tokens_per_s"] //= 2
        wanted = WANTED.get(task)
        if wanted:
            tasks[task]["of_wanted"] = round(tasks[task]["tokens_per_s"] / wanted, 2)
        print(f"{task:18}{tasks[task]['tokens_per_s'] / 1e6:>8.1f} M tokens/s")

    peer = None
    with tempfile.TemporaryDirectory() as folder:
        place = given.peer or fetched_peer(folder)
        if place is not None:
            sys.path.insert(0, place)
            peer = {"package": PEER, "k_dyck": compared_dyck(given.repeats)}
            print(json.dumps(peer))

    machine = {"processor": platform.machine(), "cores": 1, "rows": given.rows}
    RESULT.write_text(
        json.dumps({"machine": machine, "per_task": tasks, "peer": peer}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
