"""Speed of the tasks since 2022 on one core, beside pptrain at its own presets and NumPy's draws.

    python benchmarks/zoo.py [--rows 2048] [--repeats 10] [--only TASK,TASK] [--peer FOLDER]

The result is benchmarks/results/zoo.json, which keeps the tasks that are not timed again.

pptrain (MIT) is the one other library with such tasks, for decoders. It is downloaded from the
package index where --peer names no folder with it; without it the other figures are measured. Its
Dyck is timed at the preset paper_k64: 64 kinds, up to 2,048 tokens; its neural cellular automata at
paper_web_text: the grid, the states and the band of complexity that ours have by default. Each
figure is the best of several timings; of the peer's tasks and of slow ones it is that of many small
blocks of rows, in processor time.
"""

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from generation import measure

from hf_synpre.tasks import get_task, list_tasks, open_stream

RESULT = Path(__file__).parent / "results" / "zoo.json"
PEER = "pptrain==0.3.0"
PEER_DYCK, PEER_AUTOMATA = "paper_k64", "paper_web_text"
PEER_ROWS, PEER_BLOCKS = 5, 12
# Task -> the tokens a second on one core that issue and paper-sized rows ask for.
WANTED = {
    "k_shuffle_dyck": 50e6,
    "k_dyck": 50e6,
    "copy": 50e6,
    "stack": 50e6,
    "eca": 50e6,
    "needle": 50e6,
    "verbatim": 50e6,
    **dict.fromkeys(("mqar", "depo", "brevo", "mano", "lano"), 20e6),
    "nca": 2e6,
    "nca, all rules": 3e6,
    "linear_rnn": 0.5e6,
    "random_lstm": 0.5e6,
    "chomsky": 20e6,
    "mp_struct": 50e6,
}
# What is timed in blocks: name -> task and parameters.
SLOW_TASKS: dict[str, tuple[str, dict[str, int]]] = {
    "nca": ("nca", {}),
    "nca, all rules": ("nca", {"min_complexity": 0}),
    "linear_rnn": ("linear_rnn", {}),
    "random_lstm": ("random_lstm", {}),
}


def tasks_since_2022() -> list[str]:
    """Return the tasks whose papers are younger than the 21 of Wu et al. 2022, and the controls."""
    modules = (
        *("brackets", "automata", "retrieval", "rewriting", "programs", "chomsky", "syntax"),
        *("graphs", "grammars"),
    )
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


Block = Callable[[], int]  # makes some rows, and returns how many tokens they have


def our_blocks(task: str, rows: int, count: int, **parameters: int) -> list[Block]:
    """Return functions that make blocks of rows of a task of ours."""
    stream = open_stream(task, **parameters)

    def block(start: int) -> int:
        return len(stream.rows(np.arange(start, start + rows))[0])

    return [functools.partial(block, rows * number) for number in range(count)]


def peer_dyck() -> list[Block]:
    """Return functions that make rows of the peer's Dyck."""
    from pptrain.tasks.dyck import DYCK_PRESETS, DyckConfig, DyckTaskFamily

    (preset,) = (one for one in DYCK_PRESETS if one.name == PEER_DYCK)
    config = {key: preset.config[key] for key in preset.config if key in DyckConfig.__slots__}
    family = DyckTaskFamily(DyckConfig(**config))
    spec = family.tokenizer_spec()

    def block(seed: int) -> int:
        source = np.random.default_rng(seed)
        tasks = [family.execute_task(family.sample_task(source)) for _ in range(PEER_ROWS)]
        return sum(len(family.serialize_task(task, spec)) for task in tasks)

    return [functools.partial(block, seed) for seed in range(PEER_BLOCKS)]


def peer_automata() -> list[Block]:
    """Return functions that make rows of the peer's neural cellular automata, a rule a row."""
    from pptrain.tasks.nca.config import NCA_PRESETS, NCAConfig
    from pptrain.tasks.nca.task import NCATask

    (preset,) = (one for one in NCA_PRESETS if one.name == PEER_AUTOMATA)
    config = {key: preset.config[key] for key in preset.config if key in NCAConfig.__slots__}
    for name in ("sequence_count", "eval_sequence_count", "rule_count", "eval_rule_count"):
        config[name] = 1
    task = NCATask(NCAConfig(**config))

    def block(seed: int) -> int:
        # A row for training and one for evaluation.
        data = task.build_datasets(seed=seed)
        return sum(len(rows[0]["input_ids"]) for rows in (data.train_dataset, data.eval_dataset))

    return [functools.partial(block, seed) for seed in range(PEER_BLOCKS)]


def rate(blocks: list[Block], repeats: int) -> float:
    """Return the tokens a second of processor time of blocks of rows, each block at its best.

    It is processor time because a block of the peer's takes longer than the machine's other work
    lets one run at a time.
    """
    tokens = seconds = 0.0
    for block in blocks:
        tokens += block()
        times = []
        for _ in range(repeats):
            start = time.process_time()
            block()
            times.append(time.process_time() - start)
        seconds += min(times)
    return tokens / seconds


def compared(task: str, peer: list[Block], repeats: int) -> dict[str, float]:
    """Return the tokens a second of a task of ours and of the peer's."""
    ours, theirs = rate(our_blocks(task, 4, 64), repeats), rate(peer, repeats)
    return {
        "tokens_per_s": round(ours),
        "peer_tokens_per_s": round(theirs),
        "times": round(ours / theirs, 1),
    }


def main() -> None:
    """Measure all, print a table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", default=",".join([*tasks_since_2022(), *SLOW_TASKS]))
    parser.add_argument("--peer", help="a folder with the package pptrain")
    given = parser.parse_args()

    stored = json.loads(RESULT.read_text()) if RESULT.exists() else {"per_task": {}, "peer": {}}
    tasks, peer = stored["per_task"], stored["peer"] or {}
    timed = given.only.split(",")
    for name in [*tasks_since_2022(), *SLOW_TASKS]:
        # "nca, all rules" is timed where nca is.
        task, parameters = SLOW_TASKS.get(name, (name, {}))
        if task not in timed:
            continue
        if name in SLOW_TASKS:
            blocks = our_blocks(task, 4, 64, **parameters)
            tasks[name] = {"tokens_per_s": round(rate(blocks, 3 * given.repeats))}
        else:
            tasks[name] = {"rows": given.rows} | measure(task, given.rows, given.repeats)
            # Inputs alone count: the labels of a sequence repeat its tokens.
            if get_task(task).is_sequence:
                tasks[name]["tokens_per_s"] //= 2
        wanted = WANTED.get(name)
        if wanted:
            tasks[name]["of_wanted"] = round(tasks[name]["tokens_per_s"] / wanted, 2)
        print(f"{name:18}{tasks[name]['tokens_per_s'] / 1e6:>8.1f} M tokens/s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        place = given.peer or fetched_peer(folder)
        if place is not None:
            sys.path.insert(0, place)
            peer["package"] = PEER
            for task, blocks_of in (("k_dyck", peer_dyck), ("nca", peer_automata)):
                if task in timed:
                    peer[task] = compared(task, blocks_of(), 3 * given.repeats)
            print(json.dumps(peer))

    machine = {"processor": platform.machine(), "cores": 1}
    RESULT.write_text(
        json.dumps({"machine": machine, "per_task": tasks, "peer": peer or None}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
