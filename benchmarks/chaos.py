"""A hundred kills, and other accidents: every command ends with what an undisturbed one makes.

    python benchmarks/chaos.py [--kills 100] [--only pretrain,build] [--seconds 500]

Commands are killed at random moments (kill -9; every fifth time SIGTERM) and given again. Then come
a disk that fills, a folder that must not be written, too few open files, a clock that was set back,
a worker that the system kills. It goes on where it was: results/chaos.json has what was tried.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hf_synpre.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "chaos.json"
T5 = "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=1,num_decoder_layers=1"
ELECTRA = (
    "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,"
    "embedding_size=32"
)
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
finetuning: {evaluations: 1, training: {max_steps: 40, per_device_train_batch_size: 4}}
seeds: [0, 1]
jobs: 2
"""
# Files that no result depends on: what was printed for people, plots, the state of the moment.
NOT_COMPARED = ("report.", "benefit.", "compute.", "curves.", ".png", ".svg", "tokenizer_config")
# Keys of JSON files that tell the time or the machine.
TIMES = ("_s", "seconds", "mfu", "wait_share", "runtime", "per_second", "versions", "date")
# Exit codes of a command that a signal ended.
ENDED_BY_SIGNAL = (-signal.SIGKILL, -signal.SIGTERM, 130)
# Bytes that a file may have where the disk is said to be full.
ROOM = (0, 2_000, 20_000, 60_000, 200_000)
# Nobody, who may write nothing that belongs to others.
NOBODY = 65534
NO_PROCESS_AFTER_S = 30.0


@dataclass
class Workload:
    """A command and where its result lies.

    Args:
        words: the words after `synpre`; OUT stands for the place of the result.
        needs: the workload whose undisturbed result it reads; IN stands for that place.
        variables: more variables of the environment.
    """

    words: list[str]
    needs: str = ""
    variables: dict[str, str] = field(default_factory=dict)


def words(text: str) -> list[str]:
    """Return the words of a command; TRAINING stands for what all trainings share."""
    training = "--per_device_train_batch_size 4 --use_cpu"
    return text.replace("TRAINING", training).split()


WORKLOADS = {
    "pretrain": Workload(
        words(
            "pretrain set --vocabulary 64 --parameters min_length=4,max_length=8 --max_steps 200 "
            "--save_steps 10 --evaluations 4 --validation_examples 8 --target_accuracy 2 TRAINING "
            f"--config_overrides {T5} --output_dir OUT/model"
        )
    ),
    "self-pretrain": Workload(
        words(
            "self-pretrain texts.csv --vocab_size 300 --window 16 --max_steps 60 --save_steps 5 "
            f"--evaluations 2 TRAINING --config_overrides {ELECTRA} --output_dir OUT/model"
        )
    ),
    "run": Workload(words("run chaos.yaml --output_dir OUT/results")),
    "build": Workload(words("build set --config small --num_shards 4 --output_dir OUT/data")),
    "statistics": Workload(
        words("statistics IN/model --output_dir OUT/statistics"), needs="pretrain"
    ),
    "finetune": Workload(
        words(
            "finetune texts.csv --text text --label label --init random --vocab_size 300 "
            f"--model_type electra --config_overrides {ELECTRA} --max_steps 40 --evaluations 1 "
            "TRAINING --output_dir OUT/finetuned"
        )
    ),
    "push": Workload(words("push IN/model --repo_id synpre/NAME"), needs="pretrain"),
}


class Place:
    """The folder in which commands run, with their inputs; and the stand-in of the Hub."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "pairs").mkdir(parents=True)
        for split, rows in (("train", 60), ("validation", 12), ("test", 12)):
            lines = "".join(f"x{i},y{i}\n" for i in range(rows))
            (folder / "pairs" / f"{split}.csv").write_text("a,b\n" + lines)
        lines = "".join(
            f"the quick fox number {i} jumps over dog {i * 7},{'even' if i % 2 else 'odd'}\n"
            for i in range(300)
        )
        (folder / "texts.csv").write_text("text,label\n" + lines)
        (folder / "chaos.yaml").write_text(EXPERIMENT)

        # As `tests/hub` starts it; it prints its address.
        self.hub = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "hub" / "hub_server.py"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hub.stdout is not None
        self.address = self.hub.stdout.readline().strip()

    def close(self) -> None:
        """End the stand-in."""
        self.hub.kill()
        self.hub.wait()

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of a command; each has a cache of its own."""
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

    def start(
        self, name: str, out: Path, limit: Callable[[], None] | None = None
    ) -> subprocess.Popen[str]:
        """Start the command of a workload in a session of its own."""
        workload = WORKLOADS[name]
        command = [sys.executable, "-m", "hf_synpre"]
        for word in workload.words:
            word = word.replace("OUT", str(out)).replace("NAME", out.name)
            command.append(word.replace("IN", str(self.folder / "whole" / workload.needs)))
        # What it prints goes into files: a pipe would stay open as long as a worker lives.
        out.mkdir(parents=True, exist_ok=True)
        with (self.folder / "stderr").open("w") as errors:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(name),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
                start_new_session=True,
                preexec_fn=limit,
            )

    def run(self, name: str, out: Path, limit: Callable[[], None] | None = None) -> tuple[int, str]:
        """Run the command of a workload to its end; return its exit code and what it said."""
        code = self.start(name, out, limit).wait(timeout=400)
        return code, self.said()

    def said(self) -> str:
        """Return what the last command printed on standard error."""
        return (self.folder / "stderr").read_text(errors="replace")

    def outcome(self, name: str, out: Path) -> dict[str, str]:
        """Return the digests of the files that a command left, hidden ones left out."""
        if name == "push":
            return self.pushed(f"synpre/{out.name}")
        return digests(out)

    def pushed(self, repository: str) -> dict[str, str]:
        """Return the names and hashes of the files of a repository of the stand-in."""
        address = f"{self.address}/api/models/{repository}/tree/main?recursive=true"
        try:
            with urllib.request.urlopen(address) as answer:
                files = {entry["path"]: entry["oid"] for entry in json.load(answer)}
        except OSError:
            return {}
        files.pop("README.md", None)  # it has the name of the repository
        return files


def digests(folder: Path) -> dict[str, str]:
    """Return file -> digest of its content; times in JSON files are left out."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        is_hidden = any(part.startswith(".") for part in Path(name).parts)
        if not file.is_file() or is_hidden or any(part in file.name for part in NOT_COMPARED):
            continue
        content = file.read_bytes()
        if file.suffix == ".json":
            content = json.dumps(without_times(json.loads(content)), sort_keys=True).encode()
        if file.suffix == ".md":
            continue
        found[name] = hashlib.sha256(content).hexdigest()[:16]
    return found


def without_times(value: Any) -> Any:
    """Return a value of JSON without the keys that tell the time or the machine."""
    if isinstance(value, list):
        return [without_times(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {key: without_times(v) for key, v in value.items() if not key.endswith(TIMES)}


def processes_of(session: int) -> list[int]:
    """Return the processes of a session that still live."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def left_processes(session: int) -> int:
    """Wait for the processes of a session to end; kill those that do not, and count them."""
    until = time.monotonic() + NO_PROCESS_AFTER_S
    while processes_of(session) and time.monotonic() < until:
        time.sleep(0.2)
    left = processes_of(session)
    for process in left:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    return len(left)


def half_visible(whole: dict[str, str], seen: dict[str, str]) -> list[str]:
    """Return the files that a killed command left and that are not those of a finished one."""
    return [name for name, digest in seen.items() if whole.get(name, digest) != digest]


def last_line(said: str) -> str:
    """Return the last line that the command line itself printed."""
    lines = [line for line in said.splitlines() if "synpre: " in line]
    return lines[-1][lines[-1].index("synpre: ") :][:200] if lines else ""


# --- kills ----------------------------------------------------------------------------------------


def kill_round(place: Place, name: str, number: int, seconds: float, whole: dict) -> dict:
    """Kill a command up to four times, let it end, and compare; return what happened.

    Args:
        place: where it runs.
        name: the workload.
        number: the number of the round; it seeds the moments.
        seconds: how long the undisturbed command took.
        whole: the digests of its result.
    """
    chance = random.Random(f"{name} {number}")
    out = place.folder / f"round-{number}-{name}"
    record: dict[str, Any] = {"workload": name, "round": number, "moments_s": [], "problems": []}
    for life in range(4):
        moment = round(chance.uniform(0.3, 1.0) * seconds, 2)
        kind = signal.SIGTERM if life == 3 else signal.SIGKILL
        process = place.start(name, out)
        try:
            process.wait(timeout=moment)
            break  # it ended before it could be killed
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
            code = process.wait(timeout=60)
        record["moments_s"].append(moment)
        if code not in (*ENDED_BY_SIGNAL, 0):
            record["problems"].append(f"exit code {code}: {last_line(place.said())}")
        if "Traceback" in place.said():
            record["problems"].append(f"traceback after {kind.name}")
        if left := left_processes(process.pid):
            record["problems"].append(f"{left} processes left after {kind.name}")
        try:
            half = half_visible(whole, place.outcome(name, out))
        except ValueError as error:
            half = [f"broken JSON: {error}"]
        if half:
            record["problems"].append(f"half visible: {half[:3]}")

    code, said = place.run(name, out)
    if code != 0:
        record["problems"].append(f"the last life ended with {code}: {last_line(said)}")
    made = place.outcome(name, out)
    different = sorted(n for n in made.keys() | whole.keys() if made.get(n) != whole.get(n))
    if different:
        record["problems"].append(f"other results: {different[:5]}")
    shutil.rmtree(out, ignore_errors=True)
    return record


# --- other accidents ------------------------------------------------------------------------------


def accidents() -> Iterator[tuple[str, str, Any]]:
    """Yield (what happens, workload, how much) for everything that is tried once."""
    for room in ROOM:
        for name in WORKLOADS:
            if name != "push":  # it writes nothing
                yield "a disk that fills", name, room
    for name in WORKLOADS:
        if name not in ("push", "statistics"):
            yield "a disk of 1 MB", name, "1m"
            yield "a folder that must not be written", name, 0
    for files in (12, 24, 48):
        for name in WORKLOADS:
            yield "too few open files", name, files
    yield "a clock that was set back", "pretrain", 0
    yield "a worker that the system kills", "run", 0


def accident(place: Place, what: str, name: str, amount: Any, whole: dict) -> dict:
    """Let one accident happen, then give the same command again; return what happened."""
    out = place.folder / f"accident-{name}"
    shutil.rmtree(out, ignore_errors=True)
    record: dict[str, Any] = {"accident": what, "workload": name, "amount": amount}
    problems = record["problems"] = []
    try:
        if what == "a clock that was set back":
            code, said = clock_set_back(place, name, out)
        elif what == "a worker that the system kills":
            code, said = worker_killed(place, name, out)
        elif what == "a disk of 1 MB":
            code, said = small_disk(place, name, out, amount)
        else:
            code, said = place.run(name, out, limited(what, amount, out))
    except OSError as error:  # not root, or a container without mounts
        record["skipped"] = str(error)
        return record
    record |= {"exit_code": code, "said": last_line(said)}
    if code not in (0, 1, 2):
        problems.append(f"exit code {code}")
    if "Traceback" in said:
        problems.append("traceback: " + said.strip().splitlines()[-1][:160])
    if code in (1, 2) and not record["said"]:
        problems.append("no line says what happened")
    if "delete" in record["said"]:
        problems.append("it tells to delete")
    if code in (1, 2) and what != "a worker that the system kills":
        try:
            if half := half_visible(whole, place.outcome(name, out)):
                problems.append(f"half visible: {half[:3]}")
        except ValueError as error:
            problems.append(f"half visible: broken JSON, {error}")

    if out.exists():
        out.chmod(0o755)
    code, said = place.run(name, out)
    if code != 0:
        problems.append(f"the same command then ended with {code}: {last_line(said)}")
    elif place.outcome(name, out) != whole:
        problems.append("other results")
    shutil.rmtree(out, ignore_errors=True)
    return record


def limited(what: str, amount: int, out: Path) -> Callable[[], None]:
    """Return what a process does before it becomes the command: it takes a right from itself."""
    out.mkdir(parents=True, exist_ok=True)
    if what == "a folder that must not be written":
        if os.getuid() != 0:
            raise PermissionError("another user can be only who is root")
        out.chmod(0o555)
        return lambda: os.setuid(NOBODY)
    kind = resource.RLIMIT_FSIZE if what == "a disk that fills" else resource.RLIMIT_NOFILE
    return lambda: resource.setrlimit(kind, (amount, amount))


def small_disk(place: Place, name: str, out: Path, size: str) -> tuple[int, str]:
    """Run a command whose results go to a disk of a few bytes, in memory; keep what it left."""
    out.mkdir(parents=True, exist_ok=True)
    disk = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(out)]
    mounted = subprocess.run(disk, capture_output=True, text=True)
    if mounted.returncode:
        raise OSError(mounted.stderr.strip())
    kept = out.with_name("kept")
    try:
        ended = place.run(name, out)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(out, kept, symlinks=True)
    finally:
        subprocess.run(["umount", str(out)], check=True)
    out.rmdir()
    kept.rename(out)
    return ended


def clock_set_back(place: Place, name: str, out: Path) -> tuple[int, str]:
    """Kill a command after two checkpoints, date the newer one back, and give it again."""
    process = place.start(name, out)
    pattern = ".model.work/checkpoint-*/trainer_state.json"
    while process.poll() is None and len(list(out.glob(pattern))) < 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    for number, state in enumerate(sorted(out.glob(pattern), key=lambda file: -len(str(file)))):
        os.utime(state.parent, (number, number))
    return place.run(name, out)


def worker_killed(place: Place, name: str, out: Path) -> tuple[int, str]:
    """Kill a worker once a cell is done, as the system does where the memory runs out."""
    process = place.start(name, out)
    while process.poll() is None and not list(out.glob("results/mine--*.json")):
        time.sleep(0.1)
    for child in psutil.Process(process.pid).children():
        if "resource_tracker" not in " ".join(child.cmdline()):
            child.kill()
            break
    return process.wait(timeout=400), place.said()


# --- all of it ------------------------------------------------------------------------------------


def main() -> None:
    """Go on with the list of what is to be tried, and write what has happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="kills in all (100)")
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, by commas")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many seconds")
    parser.add_argument("--no_accidents", action="store_true", help="kills alone")
    options = parser.parse_args()
    names = options.only.split(",")
    began = time.monotonic()
    report = {"rounds": [], "accidents": []}
    if RESULTS.exists():
        report |= read_json(RESULTS)

    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        os.chmod(folder, 0o755)
        place = Place(Path(folder))
        try:
            whole: dict[str, tuple[float, dict]] = {}

            def undisturbed(name: str) -> tuple[float, dict]:
                """Return the seconds and the digests of the undisturbed command."""
                if name not in whole:
                    if WORKLOADS[name].needs:
                        undisturbed(WORKLOADS[name].needs)
                    start, out = time.monotonic(), place.folder / "whole" / name
                    code, said = place.run(name, out)
                    assert code == 0, (name, code, said[-1000:])
                    whole[name] = time.monotonic() - start, place.outcome(name, out)
                return whole[name]

            for record in steps(options, report, names, place, undisturbed):
                print(json.dumps(record), flush=True)
                write_json(RESULTS, summary(report))
                if time.monotonic() - began > options.seconds:
                    break
        finally:
            place.close()
    sys.exit(1 if summary(report)["problems"] else 0)


def steps(
    options: argparse.Namespace,
    report: dict[str, Any],
    names: list[str],
    place: Place,
    undisturbed: Callable[[str], tuple[float, dict]],
) -> Iterator[dict]:
    """Do what is not in the report yet, and add it; yield each record."""
    number = len(report["rounds"])
    while count_kills(report) < options.kills:
        name = names[number % len(names)]
        seconds, digest = undisturbed(name)
        report["rounds"].append(kill_round(place, name, number, seconds, digest))
        number += 1
        yield report["rounds"][-1]

    tried = {(r["accident"], r["workload"], r["amount"]) for r in report["accidents"]}
    for what, name, amount in accidents():
        if options.no_accidents or name not in names or (what, name, amount) in tried:
            continue
        record = accident(place, what, name, amount, undisturbed(name)[1])
        report["accidents"].append(record)
        yield record


def count_kills(report: dict[str, Any]) -> int:
    """Return how often commands were killed so far."""
    return sum(len(record["moments_s"]) for record in report["rounds"])


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report with its counts at the top."""
    records = [*report["rounds"], *report["accidents"]]
    return {
        "kills": count_kills(report),
        "accidents_tried": sum("skipped" not in record for record in report["accidents"]),
        "problems": sum(bool(record["problems"]) for record in records),
        "rounds": report["rounds"],
        "accidents": report["accidents"],
    }


if __name__ == "__main__":
    main()
