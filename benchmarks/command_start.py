"""What a command costs beside its work: Python's usual searches for unused objects, and ours.

    python benchmarks/command_start.py -> results/command_start.json

Libraries make most objects of a command when they are imported, and they are used to its end. The
peer is the same command without `collect_seldom` (hf_synpre/cli/processes.py). Seconds are those of
a processor's core from the start of a process to its end, the lowest of several; the two ways take
turns.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hf_synpre.files import write_json
from hf_synpre.versions import versions

HERE = Path(__file__).parent
RESULT = HERE / "results" / "command_start.json"
MODEL = "n_embd=32,n_layer=1,n_head=2"
COMMANDS = {
    "init": ["init", "--from", "synpre/llama-mini-set"],
    "finetune": [
        *("finetune", str(HERE.parent / "examples" / "data" / "imports"), "--max_steps", "1"),
        *("--model_type", "gpt2", "--config_overrides", MODEL),
    ],
}
PROGRAM = "import sys; from hf_synpre.cli import verbs; {}; sys.exit(verbs.main())"
WAYS = {"python": "verbs.collect_seldom = lambda: None", "ours": "pass"}
REPEATS = 5


def seconds_of(command: list[str], way: str) -> float:
    """Return the seconds that a core spends on a command."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    # wait4 tells what this process alone has used.
    with tempfile.TemporaryDirectory() as folder:
        words = [*command, "--output_dir", f"{folder}/out"]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(WAYS[way]), *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)

    assert status == 0, f"{command[0]} has failed"
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure all commands both ways, and write the results."""
    commands = {}
    for name, command in COMMANDS.items():
        turns = [{way: seconds_of(command, way) for way in WAYS} for _ in range(REPEATS)]
        commands[name] = {way: round(min(turn[way] for turn in turns), 2) for way in WAYS}
        print(name, json.dumps(commands[name]), flush=True)
    write_json(RESULT, {"versions": versions(), "commands": commands})


if __name__ == "__main__":
    main()
