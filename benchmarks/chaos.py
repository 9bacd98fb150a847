"""A hundred kills, and other accidents: every command ends with what an undisturbed one makes.

    python benchmarks/chaos.py [--kills 100] [--only pretrain,build] [--seconds 500]

Each command is killed (kill -9) at a random moment, given again, killed again, and at last left to
its end. What it has left then must be byte-equal to what an undisturbed command leaves; after a
kill, readers must see nothing half, and no process may be left. Then come the other accidents:
SIGTERM, a small disk that is full, a folder that must not be written, no more open files, a clock
that was set back, a worker that the system kills, two commands at once. Each is to end in one line
that says what happened, and the same command must then end as if nothing had been.

It goes on where it stands: results/chaos.json has what was tried, runs/chaos/ the undisturbed runs.
"""

import argparse
import contextlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from chaos_commands import COMMANDS, ROOT, Ended, Place, half_visible

from hf_synpre.files import lock, read_json, write_json

RESULTS = ROOT / "benchmarks" / "results" / "chaos.json"
# The bytes of a small disk. Each is full at another kind of write: of locks and recipes, of data
# and tokenizers, of weights, of checkpoints.
DISKS = ("4k", "64k", "256k")


def problems_of(place: Place, name: str, out: Path, ended: Ended, codes: tuple) -> list[str]:
    """Return what is wrong with a command that was disturbed.

    Args:
        place: where it ran.
        name: its name.
        out: the folder of its result.
        ended: how it ended.
        codes: the exit codes that it may have.
    """
    problems = []
    if ended.code not in codes:
        problems.append(f"exit code {ended.code}: {ended.line or ended.said[-200:]}")
    if "Traceback" in ended.said:
        problems.append("traceback: " + ended.said.strip().splitlines()[-1][:200])
    if ended.left:
        problems.append(f"{ended.left} processes left")
    try:
        half = half_visible(place.undisturbed(name).files, place.files(name, out), out)
    except ValueError as error:
        half = [f"broken JSON: {error}"]
    if half:
        problems.append(f"half visible: {half[:4]}")
    return problems


def problems_at_the_end(place: Place, name: str, out: Path) -> list[str]:
    """Give a command again that was disturbed, and leave it to its end; return what is wrong."""
    ended = place.run(name, out)
    problems = problems_of(place, name, out, ended, codes=(0,))
    whole, made = place.undisturbed(name).files, place.files(name, out)
    different = sorted(file for file in made.keys() | whole if made.get(file) != whole.get(file))
    if different:
        problems.append(f"other results: {different[:4]}")
    return problems


def clean(out: Path) -> None:
    """Delete the folder of a result, and what its commands have said."""
    shutil.rmtree(out, ignore_errors=True)
    for file in out.parent.glob(f"{out.name}.*.said"):
        file.unlink()


# --- kills ----------------------------------------------------------------------------------------


def kill_round(place: Place, name: str, number: int, kills: int) -> dict[str, Any]:
    """Kill a command several times, then leave it to its end; return what happened.

    Args:
        place: where it runs.
        name: its name.
        number: the number of the round, which seeds the moments.
        kills: how often it is killed. It may come to its end before.
    """
    chance = random.Random(f"{name} {number}")
    whole = place.undisturbed(name)
    out = place.folder / f"round-{number}-{name}"
    clean(out)
    record: dict[str, Any] = {"command": name, "round": number, "killed_at": [], "problems": []}
    while len(record["killed_at"]) < kills:
        moment = chance.uniform(0.3, 1.0)
        running = place.start(name, out)
        is_at_work = running.until(moment * whole.cpu_s)
        ended = running.end(signal.SIGKILL)
        if not is_at_work:
            break
        record["killed_at"].append(round(moment, 3))
        record["problems"] += problems_of(place, name, out, ended, (-signal.SIGKILL, 0))
    record["problems"] += problems_at_the_end(place, name, out)
    if not record["problems"]:
        clean(out)
    return record


# --- other accidents ------------------------------------------------------------------------------


def accidents() -> Iterator[tuple[str, str, Any]]:
    """Yield (what happens, the command, how much) for everything that is tried once."""
    for name in COMMANDS:
        yield "SIGTERM", name, 0.7
        yield "no more open files", name, 0.8
        yield "two commands at once", name, 2
        if name != "push":  # it writes nothing
            yield "a folder that must not be written", name, 0
            for size in DISKS:
                yield "a full disk", name, size
    yield "a clock that was set back", "pretrain", 0
    yield "a worker that the system kills", "run", 0


def accident(place: Place, what: str, name: str, amount: Any) -> dict[str, Any]:
    """Let one accident happen, then give the same command again; return what happened."""
    out = place.folder / f"accident-{name}"
    clean(out)
    record: dict[str, Any] = {"accident": what, "command": name, "amount": amount}
    place.undisturbed(name)
    codes: tuple[int, ...] = (0, 1, 2)
    try:
        if what == "SIGTERM":
            ended = at_a_moment(place, name, out, amount, psutil.Process.terminate)
            codes = (0, 130)
        elif what == "no more open files":
            ended = at_a_moment(place, name, out, amount, forbid_files)
        elif what == "two commands at once":
            ended = two_commands(place, name, out)
        elif what == "a folder that must not be written":
            ended = unwritable(place, name, out)
            codes = (2,)
        elif what == "a full disk":
            ended = full_disk(place, name, out, amount)
            codes = (0, 1)
        elif what == "a clock that was set back":
            ended = clock_set_back(place, name, out)
            codes = (0,)
        else:
            ended = worker_killed(place, name, out)
            codes = (0,)
    except OSError as error:  # not root, or a container without mounts
        return record | {"skipped": str(error), "problems": []}

    record |= {"exit_code": ended.code, "said": ended.line.replace(f"{ROOT}/", "")}
    problems = problems_of(place, name, out, ended, codes)
    if ended.code != 0 and not ended.line:
        problems.append("no line says what happened")
    record["problems"] = problems + problems_at_the_end(place, name, out)
    if not record["problems"]:
        clean(out)
    return record


def at_a_moment(place: Place, name: str, out: Path, moment: float, happens: Any) -> Ended:
    """Run a command, to whose process something happens after a share of its work."""
    running = place.start(name, out)
    if running.until(moment * place.undisturbed(name).cpu_s):
        for process in running.processes():
            if happens is forbid_files or process.pid == running.process.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    happens(process)
    return running.end()


def forbid_files(process: psutil.Process) -> None:
    """Let a process have no more files open than it has now."""
    _, most = process.rlimit(resource.RLIMIT_NOFILE)
    process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds(), most))


def two_commands(place: Place, name: str, out: Path) -> Ended:
    """Run a command twice at the same time; return how one of them ended, a failed one first."""
    both = [place.start(name, out) for _ in range(2)]
    ended = [running.end() for running in both]
    if all(one.code for one in ended):
        return Ended(3, f"both ended with an error: {ended[0].line}, {ended[1].line}", 0)
    return max(ended, key=lambda one: (one.code, one.left, len(one.line)))


def unwritable(place: Place, name: str, out: Path) -> Ended:
    """Run a command whose folder belongs to another user, who alone may write there."""
    if os.getuid() != 0:
        raise PermissionError("only root can become another user")
    out.mkdir(parents=True)
    return place.run(name, out, as_nobody=True)


def full_disk(place: Place, name: str, out: Path, size: str) -> Ended:
    """Run a command whose results go to a disk of a few bytes, in memory; keep what it left."""
    out.mkdir(parents=True)
    disk = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(out)]
    mounted = subprocess.run(disk, capture_output=True, text=True)
    if mounted.returncode:
        raise OSError(mounted.stderr.strip())
    kept = out.with_name(f"{out.name}-kept")
    shutil.rmtree(kept, ignore_errors=True)
    try:
        ended = place.run(name, out)
        shutil.copytree(out, kept, symlinks=True)
    finally:
        subprocess.run(["umount", str(out)], check=True)
    out.rmdir()
    kept.rename(out)
    return ended


def clock_set_back(place: Place, name: str, out: Path) -> Ended:
    """Kill a command after two checkpoints, date the newer one back, and give it again."""
    running = place.start(name, out)
    pattern = "**/checkpoint-*/trainer_state.json"
    while running.process.poll() is None and len(list(out.glob(pattern))) < 2:
        time.sleep(0.01)
    running.end(signal.SIGKILL)
    newest_first = sorted(out.glob(pattern), key=lambda file: -int(file.parent.name[11:]))
    for number, state in enumerate(newest_first):
        os.utime(state.parent, (number, number))
    return place.run(name, out)


def worker_killed(place: Place, name: str, out: Path) -> Ended:
    """Kill a worker once a cell is done, as the system does where the memory runs out."""
    running = place.start(name, out)
    while running.process.poll() is None and not list(out.glob("results/mine--*.json")):
        time.sleep(0.1)
    for child in psutil.Process(running.process.pid).children():
        if "resource_tracker" not in " ".join(child.cmdline()):
            child.kill()
            break
    return running.end()


# --- all of it ------------------------------------------------------------------------------------


def main() -> None:
    """Go on with the list of what is to be tried, and write what has happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="kills in all (100)")
    parser.add_argument("--only", default=",".join(COMMANDS), help="commands, by commas")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many seconds")
    parser.add_argument("--no_accidents", action="store_true", help="kills alone")
    parser.add_argument("--no_kills", action="store_true", help="the other accidents alone")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    place = Place(ROOT / "runs" / "chaos")
    try:
        for kind, record in tries(place, options):
            add(place, kind, record)
            print(json.dumps(record), flush=True)
            if time.monotonic() - began > options.seconds:
                break
    finally:
        place.close()
    sys.exit(1 if report()["problems"] else 0)


def tries(place: Place, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("rounds" or "accidents", record) of everything that is not in the report yet."""
    names = options.only.split(",")
    missing = [] if options.no_kills else names
    while missing:
        for name in list(missing):
            rounds = [one for one in report()["rounds"] if one["command"] == name]
            kills = math.ceil(COMMANDS[name].kills * options.kills / 100)
            kills -= sum(len(one["killed_at"]) for one in rounds)
            if kills <= 0:
                missing.remove(name)
                continue
            number = max((one["round"] + 1 for one in rounds), default=0)
            yield (
                "rounds",
                kill_round(place, name, number, min(kills, COMMANDS[name].kills_a_round)),
            )

    for what, name, amount in accidents():
        tried = [(one["accident"], one["command"], one["amount"]) for one in report()["accidents"]]
        if name in names and not options.no_accidents and (what, name, amount) not in tried:
            yield "accidents", accident(place, what, name, amount)


def report() -> dict[str, Any]:
    """Return what was tried so far."""
    empty: dict[str, Any] = {"kills": 0, "accidents_tried": 0, "problems": 0}
    return read_json(RESULTS) if RESULTS.exists() else empty | {"rounds": [], "accidents": []}


def add(place: Place, kind: str, record: dict[str, Any]) -> None:
    """Add a record to the report, and count anew."""
    with lock(place.folder / "report"):  # others may work on other commands
        tried = report()
        tried[kind].append(record)
        tried["kills"] = sum(len(one["killed_at"]) for one in tried["rounds"])
        tried["accidents_tried"] = sum("skipped" not in one for one in tried["accidents"])
        records = [*tried["rounds"], *tried["accidents"]]
        tried["problems"] = sum(bool(one["problems"]) for one in records)
        write_json(RESULTS, tried)


if __name__ == "__main__":
    main()
