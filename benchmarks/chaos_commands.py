"""The commands that `chaos.py` disturbs: how each is started, and what it must leave."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from hf_synpre.files import lock, read_json, write_json
from hf_synpre.training.checkpoints import fault

ROOT = Path(__file__).resolve().parents[1]
PYTHON_MODULE = [sys.executable, "-m", "hf_synpre"]
T5 = "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=1,num_decoder_layers=1"
ELECTRA = (
    "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,"
    "embedding_size=32"
)
TRAINING = "--per_device_train_batch_size 4 --use_cpu"
# Two arms, two seeds and a pre-training run, computed by two workers.
EXPERIMENT = """name: chaos
tasks:
  mine: {vocab_size: 300, data_dir: pairs,
         define: {source: [a], target: [b], max_source: 8, max_target: 8}}
pretraining:
  set: {task: set, vocabulary: 64, parameters: {min_length: 2, max_length: 4},
        validation_examples: 8, evaluations: 4, target_accuracy: 2.0,
        training: {max_steps: 40, per_device_train_batch_size: 4}}
arms: {random: {}, set: {init: weights, checkpoint: set}}
model: {overrides: {d_model: 16, d_kv: 8, d_ff: 16, num_heads: 2, num_layers: 1,
                    num_decoder_layers: 1}}
finetuning: {evaluations: 1, training: {max_steps: 20, per_device_train_batch_size: 4}}
seeds: [0, 1]
jobs: 2
"""

# What tells the time or the machine, and is not compared: files, by a part of their name, and keys
# of JSON, by their end.
TIMED_FILES = ("report.", "benefit.", "compute.", "curves.", ".png", "events.out.tfevents")
TIMED_FILES += ("trainer_state.json",)  # it logs the training loss since the command began
TIMED_KEYS = ("_s", "seconds", "mfu", "wait_share", "runtime", "per_second", "versions", "date")
TIMED_KEYS += ("trainer_state.json",)  # the digest of that file, in a checkpoint's manifest
# What a run that is not finished shows: its checkpoints, and its recipe.
UNFINISHED = re.compile(r"(^|/)(checkpoint-[0-9]+/|recipe\.json$)")

# Nobody may write nothing of others. The capability lets it read, as Python may be where root alone
# can look.
NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
AS_NOBODY += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]

# No command here takes as long, and no worker outlives its command for as long.
LONGEST_S = 500.0
PROCESSES_END_WITHIN_S = 30.0


@dataclass
class Command:
    """A command of `synpre`.

    Args:
        words: its words. OUT stands for the folder of its result, NAME for the name of that folder,
            IN for the result of `needs`.
        kills: how often of a hundred times it is killed.
        kills_a_round: how often at the most before it is left to its end.
        needs: the command whose undisturbed result it reads.
    """

    words: str
    kills: int
    kills_a_round: int = 2
    needs: str = ""


COMMANDS = {
    "build": Command(
        "build set --config small --num_shards 4 --output_dir OUT/data", kills=24, kills_a_round=4
    ),
    "push": Command(
        "push IN/model --repo_id synpre/NAME", kills=24, kills_a_round=4, needs="pretrain"
    ),
    "statistics": Command(
        "statistics IN/model --output_dir OUT/statistics",
        kills=18,
        kills_a_round=4,
        needs="pretrain",
    ),
    "finetune": Command(
        "finetune texts.csv --text text --label label --init random --vocab_size 300 "
        f"--model_type electra --config_overrides {ELECTRA} --max_steps 40 --evaluations 1 "
        f"{TRAINING} --output_dir OUT/finetuned",
        kills=12,
        kills_a_round=4,
    ),
    "run": Command("run chaos.yaml --output_dir OUT/results", kills=6),
    "pretrain": Command(
        "pretrain set --vocabulary 64 --parameters min_length=4,max_length=8 --max_steps 200 "
        f"--save_steps 10 --evaluations 4 --validation_examples 8 --target_accuracy 2 {TRAINING} "
        f"--config_overrides {T5} --output_dir OUT/model",
        kills=8,
    ),
    "self-pretrain": Command(
        "self-pretrain texts.csv --vocab_size 300 --window 16 --max_steps 60 --save_steps 5 "
        f"--evaluations 2 {TRAINING} --config_overrides {ELECTRA} --output_dir OUT/model",
        kills=8,
    ),
}


@dataclass
class Undisturbed:
    """What an undisturbed command came to: the seconds of the processor that it took, its files."""

    cpu_s: float
    files: dict[str, str]


@dataclass
class Ended:
    """How a command ended: its exit code, what it said, how many processes outlived it."""

    code: int
    said: str
    left: int

    @property
    def line(self) -> str:
        """The last line that the command line itself printed."""
        lines = [line for line in self.said.splitlines() if "synpre: " in line]
        return lines[-1][lines[-1].index("synpre: ") :][:250] if lines else ""


class Running:
    """A command at work, in a session of its own.

    Args:
        words: the words of the command.
        folder: the current folder.
        environment: its variables.
        errors: the file for what it says.
    """

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str], errors: Path):
        self.errors = errors
        # What it prints goes into a file: a pipe would stay open as long as a worker lives.
        with errors.open("w") as stream:
            self.process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """Return the processes of its session that live."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                is_ours = os.getsid(process.pid) == self.process.pid
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def cpu_s(self) -> float:
        """Return the seconds of the processor that it has taken so far, its workers' included."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])  # the last two are of children that ended
        return total

    def until(self, cpu_s: float) -> bool:
        """Wait until it has taken so much of the processor; say whether it is still at work.

        The load of the machine does not matter so.
        """
        while self.process.poll() is None:
            if self.cpu_s() >= cpu_s:
                return True
            time.sleep(0.05)
        return False

    def end(self, kind: int | None = None) -> Ended:
        """Send it a signal if one is given, wait for its end, and for that of its workers."""
        if kind is not None:
            self.process.send_signal(kind)
        try:
            code = self.process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = 124  # as `timeout` has it

        deadline = time.monotonic() + PROCESSES_END_WITHIN_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return Ended(code, self.errors.read_text(errors="replace"), len(left))


class Place:
    """A folder with the inputs of all commands and their undisturbed results, and a Hub.

    Args:
        folder: the folder. What an earlier call left there is used: a command runs undisturbed only
            once for a commit.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "pairs").mkdir(parents=True, exist_ok=True)
        for split, rows in (("train", 60), ("validation", 12), ("test", 12)):
            pairs = "".join(f"x{i},y{i}\n" for i in range(rows))
            (folder / "pairs" / f"{split}.csv").write_text("a,b\n" + pairs)
        lines = [
            f"the quick fox number {i} jumps over dog {i * 7},{'even' if i % 2 else 'odd'}"
            for i in range(300)
        ]
        (folder / "texts.csv").write_text("\n".join(["text,label", *lines, ""]))
        (folder / "chaos.yaml").write_text(EXPERIMENT)

        self.started: list[Running] = []

        # As `tests/hub` starts it; it prints its address.
        self.hub = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "hub" / "hub_server.py"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hub.stdout is not None
        self.address = self.hub.stdout.readline().strip()

        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD:hf_synpre"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.whole = folder / f"whole-{commit.stdout.strip()}"

    def close(self) -> None:
        """End the stand-in, and commands that are still at work because this one was stopped."""
        self.hub.kill()
        self.hub.wait()
        for running in self.started:
            for process in running.processes():
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of a command; all have a cache of the Hub of their own."""
        variables = {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HOME": str(self.folder / "home"),
            "HF_HUB_OFFLINE": "1",
        }
        if name == "push":
            sys.path.insert(0, str(ROOT / "tests" / "hub"))
            from hub_server import TOKENS

            variables |= {"HF_ENDPOINT": self.address, "HF_HUB_OFFLINE": "0"}
            variables |= {"HF_HUB_DISABLE_XET": "1", "HF_TOKEN": next(iter(TOKENS))}
            variables |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
        return os.environ | variables

    def start(self, name: str, out: Path, *, as_nobody: bool = False) -> Running:
        """Start a command.

        Args:
            name: its name in COMMANDS.
            out: the folder of its result.
            as_nobody: as the user who may write nothing of others.
        """
        source = self.whole / COMMANDS[name].needs
        text = COMMANDS[name].words.replace("OUT", str(out)).replace("NAME", out.name)
        words = PYTHON_MODULE + text.replace("IN", str(source)).split()
        environment = self.environment(name)
        if as_nobody:
            words = AS_NOBODY + words
            # Compiled code needs a folder that this user may write.
            compiled = self.folder / "nobody"
            compiled.mkdir(exist_ok=True)
            os.chown(compiled, NOBODY, NOBODY)
            environment["NUMBA_CACHE_DIR"] = str(compiled)
        out.mkdir(parents=True, exist_ok=True)
        errors = out.with_name(f"{out.name}.{time.monotonic_ns()}.said")
        self.started.append(Running(words, self.folder, environment, errors))
        return self.started[-1]

    def run(self, name: str, out: Path, **how: Any) -> Ended:
        """Run a command to its end."""
        return self.start(name, out, **how).end()

    def undisturbed(self, name: str) -> Undisturbed:
        """Return what the undisturbed command came to; it runs if it has not at this commit."""
        file, out = self.whole / f"{name}.json", self.whole / name
        if COMMANDS[name].needs:
            self.undisturbed(COMMANDS[name].needs)
        with lock(file):
            if not file.exists():
                shutil.rmtree(out, ignore_errors=True)
                running, cpu_s = self.start(name, out), 0.0
                while running.process.poll() is None:
                    cpu_s = max(cpu_s, running.cpu_s())
                    time.sleep(0.05)
                ended = running.end()
                assert ended.code == 0, (name, ended)
                write_json(file, {"cpu_s": round(cpu_s, 2), "files": self.files(name, out)})
        return Undisturbed(**read_json(file))

    def files(self, name: str, out: Path) -> dict[str, str]:
        """Return file -> digest of all that a command left for readers: hidden files are not."""
        if name == "push":
            return self.pushed(f"synpre/{out.name}")
        digests = {}
        for file in sorted(out.rglob("*")):
            relative = file.relative_to(out)
            is_hidden = any(part.startswith(".") for part in relative.parts)
            is_timed = any(part in file.name for part in TIMED_FILES)
            if file.is_file() and not (is_hidden or is_timed):
                content = comparable(file.read_bytes(), file.suffix, out)
                digests[str(relative)] = hashlib.sha256(content).hexdigest()[:16]
        return digests

    def pushed(self, repository: str) -> dict[str, str]:
        """Return file -> hash of a repository of the stand-in; {} where there is none."""
        address = f"{self.address}/api/models/{repository}/tree/main?recursive=true"
        try:
            with urllib.request.urlopen(address) as answer:
                files = {entry["path"]: entry["oid"] for entry in json.load(answer)}
        except OSError:
            return {}
        files.pop("README.md", None)  # it has the name of the repository
        return files


def comparable(content: bytes, suffix: str, out: Path) -> bytes:
    """Return the content of a file without its folder, the times and the machine.

    Raises ValueError where a file of JSON is broken.
    """
    content = content.replace(str(out).encode(), b"OUT")
    if suffix == ".json":
        return json.dumps(without_times(json.loads(content)), sort_keys=True).encode()
    return content


def without_times(value: Any) -> Any:
    """Return a value of JSON without the keys that tell the time or the machine."""
    if isinstance(value, list):
        return [without_times(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {key: without_times(v) for key, v in value.items() if not key.endswith(TIMED_KEYS)}


def half_visible(whole: dict[str, str], seen: dict[str, str], out: Path) -> list[str]:
    """Return what readers see and no finished command leaves so; whole checkpoints may be.

    Args:
        whole: the files that the undisturbed command leaves, with their digests.
        seen: those that are there.
        out: the folder of the result.
    """
    others = [name for name, digest in seen.items() if whole.get(name) != digest]
    half = [name for name in others if not UNFINISHED.search(name)]
    for checkpoint in out.rglob("checkpoint-*"):
        is_hidden = any(part.startswith(".") for part in checkpoint.relative_to(out).parts)
        cause = None if is_hidden else fault(checkpoint)
        if cause is not None:
            half.append(f"{checkpoint.name}: {cause}")
    return half
