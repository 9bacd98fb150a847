"""Exact resume: a run killed 20 times ends with the bytes and losses of an undisturbed one.

    python benchmarks/resume.py [--kills 20]

Writes results/resume.json.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hf_synpre.files import read_json, write_json

TINY = "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=1,num_decoder_layers=1"
WORDS = [
    "pretrain",
    "set",
    "--vocabulary",
    "64",
    "--parameters",
    "min_length=4,max_length=12",
    "--config_overrides",
    TINY,
]
WORDS += [
    "--batching",
    "packed",
    "--batch_size",
    "50",
    "--target_accuracy",
    "2",
    "--max_steps",
    "3000",
]
WORDS += [
    "--save_steps",
    "20",
    "--eval_steps",
    "200",
    "--learning_rate",
    "3e-2",
    "--use_cpu",
    "--output_dir",
]


def command(folder: Path) -> list[str]:
    """Return the command of the run into `folder`."""
    return [sys.executable, "-m", "hf_synpre", *WORDS, str(folder)]


def outcome(folder: Path) -> dict:
    """Return what must be equal: the weights' bytes, all losses, what was counted."""
    facts = read_json(folder / "pretraining.json")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return {"sha256": digest} | {
        k: facts[k] for k in ("curve", "steps", "tokens", "positions", "flops")
    }


def kill_often(folder: Path, kills: int) -> tuple[int, list[int]]:
    """Run, killed at random moments; return how often, and the checkpoints lives began from."""
    chance, begun = random.Random(0), []
    for kill in range(kills):
        process = subprocess.Popen(
            command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        begun.append(
            max((int(p.name.split("-")[1]) for p in folder.glob("checkpoint-*")), default=0)
        )
        try:
            process.wait(timeout=chance.uniform(4, 14))
            return kill, begun
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    subprocess.run(
        command(folder), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return kills, begun


def main() -> None:
    """Compare the two runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            command(Path(folder) / "whole"),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        kills, begun = kill_often(Path(folder) / "killed", options.kills)
        whole, killed = (outcome(Path(folder) / name) for name in ("whole", "killed"))
    report = {"kills": kills, "lives_began_at_step": begun, "equal": whole == killed}
    report |= {"seconds": round(time.perf_counter() - started), "sha256": whole["sha256"]}
    print(json.dumps(report, indent=1))
    write_json(Path(__file__).parent / "results" / "resume.json", report)
    sys.exit(0 if report["equal"] else 1)


if __name__ == "__main__":
    main()
