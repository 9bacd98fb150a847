"""How far an experiment is: the files of its cells, and of what runs now -> a table or lines.

It reads only files, so it also shows what other processes compute.
"""

import platform
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psutil import pid_exists
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from hf_synpre.data.text_progress import clock
from hf_synpre.digits import write_number
from hf_synpre.errors import UsageError, counted
from hf_synpre.experiments.spec import Cell
from hf_synpre.files import read_json
from hf_synpre.training.progress import (
    LINE_EVERY_S,
    RunState,
    description,
    estimate,
    position,
    short,
)

# The file of a run on another machine is believed for so many seconds after its last change.
LONGEST_SILENCE_S = 600.0


def status(file: Path) -> dict[str, Any]:
    """Return the content of a cell's file, {} where there is none or it is broken."""
    try:
        content = read_json(file)
    except UsageError:
        return {}
    return content if isinstance(content, dict) else {}


def seconds_left(cells: list[Cell], seconds_of_done: dict[Cell, float], jobs: int) -> float | None:
    """Return how long the cells that are not done will take.

    A cell is expected to take the mean time of the cells of its arm and task that are done; if
    there are none, that of its task; if there are none, that of all.

    Args:
        cells: all cells.
        seconds_of_done: the wall time of each cell that is done.
        jobs: how many cells are computed at the same time.

    Returns:
        Seconds, None as long as no cell is done.
    """
    if not seconds_of_done:
        return None

    # The times of each arm and task, each task, and all; each cell is looked at once.
    similar: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for done, seconds in seconds_of_done.items():
        for group in ((done.task, done.arm), (done.task,), ()):
            similar[group].append(seconds)
    means = {group: sum(times) / len(times) for group, times in similar.items()}

    def expected(cell: Cell) -> float:
        groups = ((cell.task, cell.arm), (cell.task,), ())
        return next(means[group] for group in groups if group in means)

    total = sum(expected(cell) for cell in cells if cell not in seconds_of_done)
    return total / max(jobs, 1)


class Progress:
    """The state of the cells of a folder. A file is read again only when it has changed.

    Args:
        name: the name of the experiment.
        folder: the folder of the result files.
        cells: the cells that are shown.
        jobs: how many are computed at the same time, for the estimate of the time left.
        running: the folders of the files that say what runs now (`reported_in`).
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        cells: list[Cell],
        jobs: int,
        running: Sequence[Path] = (),
    ):
        self.name = name
        self.folder = folder
        self.cells = cells
        self.jobs = jobs
        self.running_folders = running
        self.started = time.monotonic()
        # cell -> when its file was last changed, and its content then
        self._read: dict[Cell, tuple[int, dict[str, Any]]] = {}

    def contents(self) -> dict[Cell, dict[str, Any]]:
        """Return the content of every cell's file, {} where there is none."""
        for cell in self.cells:
            file = self.folder / cell.file_name
            changed = file.stat().st_mtime_ns if file.exists() else 0
            if cell not in self._read or self._read[cell][0] != changed:
                self._read[cell] = changed, status(file)
        return {cell: content for cell, (_, content) in self._read.items()}

    def headline(self, contents: dict[Cell, dict[str, Any]]) -> str:
        """Return one line: cells done and failed, the time so far and the time left."""
        states = {cell: content.get("status") for cell, content in contents.items()}
        done = [cell for cell, state in states.items() if state == "done"]
        failed = [cell for cell, state in states.items() if state == "failed"]

        seconds_of_done = {cell: contents[cell].get("wall_s") or 0.0 for cell in done}
        expected = [cell for cell in self.cells if cell not in failed]
        left = self._seconds_left(expected, seconds_of_done)
        so_far = clock(time.monotonic() - self.started)

        count = f"{len(done)} of {counted(len(self.cells), 'cell')}"
        if failed:
            count += f", {len(failed)} failed"
        line = f"{self.name}: {count}, {so_far} so far"
        return line if left is None else f"{line}, about {clock(left)} left"

    def running(self) -> list[RunState]:
        """Return what runs now: pre-training runs, tasks that are prepared, cells."""
        names = {cell.name for cell in self.cells}
        states = []
        for folder in self.running_folders:
            for file in sorted(folder.glob("*.json")):
                state = read_state(file)
                # A work folder may be shared; cells of others are not shown.
                if state is not None and (state.name in names or "--" not in state.name):
                    states.append(state)
        return states

    def _seconds_left(self, cells: list[Cell], seconds_of_done: dict[Cell, float]) -> float | None:
        """Return how long the cells will take, and the pre-training runs that run now."""
        left = seconds_left(cells, seconds_of_done, self.jobs)
        if left is None:
            return None
        names = {cell.name for cell in self.cells}
        for state in self.running():
            if state.name not in names:
                left += (state.seconds_left or 0.0) / max(self.jobs, 1)
        return left

    def screen(self) -> Group:
        """Return all that is shown on a terminal: the table of cells, and that of what runs."""
        return Group(self.table(), running_table(self.running()))

    def table(self) -> Table:
        """Return a row for each arm and a column for each task: seeds done and their mean score."""
        contents = self.contents()
        tasks = list(dict.fromkeys(cell.task for cell in self.cells))
        arms = list(dict.fromkeys(cell.arm for cell in self.cells))

        table = Table(title=self.headline(contents), title_justify="left")
        table.add_column("arm", justify="left")
        for task in tasks:
            table.add_column(task, justify="right")
        for arm in arms:
            entries = []
            for task in tasks:
                entries.append(
                    summary([x for c, x in contents.items() if (c.task, c.arm) == (task, arm)])
                )
            table.add_row(arm, *entries)
        return table


def read_state(file: Path) -> RunState | None:
    """Return what a file says of a run, None where its process has gone or the file is broken."""
    content = status(file)
    host, pid = content.pop("host", None), content.pop("pid", None)
    if content.keys() != RunState.__dataclass_fields__.keys():
        return None
    if host == platform.node() and isinstance(pid, int):
        is_alive = pid_exists(pid)
    else:
        is_alive = time.time() - file.stat().st_mtime < LONGEST_SILENCE_S
    return RunState(**content) if is_alive else None


def running_table(states: list[RunState]) -> Table:
    """Return a row for each run: how far it is, how fast, and how long it still takes."""
    table = Table(box=None)
    table.add_column("now", justify="left")
    for title in ("parameters", "threads", "step", "loss", "tokens/s", "left"):
        table.add_column(title, justify="right")
    for state in states:
        if state.phase != "training":
            table.add_row(state.name, "", "", state.phase)
            continue
        table.add_row(
            state.name,
            short(state.parameters),
            str(state.threads),
            f"{state.step:,} of {state.steps:,}",
            "" if state.loss is None else f"{state.loss:.3f}",
            "" if not state.tokens_per_s else short(state.tokens_per_s),
            clock(state.seconds_left),
        )
    return table


def summary(contents: list[dict[str, Any]]) -> str:
    """Return "done/all", the mean score and the failures of the cells of one arm on one task.

    Return "" if there are no cells.
    """
    if not contents:
        return ""
    finished = [content for content in contents if content.get("status") == "done"]
    scores = [content["score"] for content in finished if "score" in content]  # trials have none
    failed = sum(content.get("status") == "failed" for content in contents)

    text = f"{len(finished)}/{len(contents)}"
    if scores:
        text += f" {write_number(sum(scores) / len(scores))}"
    if failed:
        text += f" {failed} failed"
    return text


@contextmanager
def show_progress(progress: Progress, every: float = 1.0) -> Iterator[None]:
    """Show the progress while the block runs.

    On a terminal these are tables that are updated. Elsewhere a line is printed whenever a cell has
    ended, and every 30 seconds lines on what runs.

    Args:
        progress: the progress to show.
        every: the files are read again after so many seconds.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(get_renderable=progress.screen, console=console, refresh_per_second=1 / every):
            yield
        return

    over = threading.Event()
    lines = Lines(progress)

    def watch() -> None:
        while not over.wait(every):
            lines.update()
        lines.update()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Lines:
    """Prints lines on the progress of an experiment, where there is no terminal.

    Args:
        progress: the progress.
        every_s: seconds after which what runs is printed, if nothing else was.
    """

    def __init__(self, progress: Progress, every_s: float = LINE_EVERY_S):
        self.progress = progress
        self.every_s = every_s
        self._ended = set(ended(progress.contents()))
        # Runs of which it was said what they are, and how long they take.
        self._described: set[str] = set()
        self._estimated: set[str] = set()
        self._printed = time.monotonic()

    def update(self) -> None:
        """Print what has changed since the last call."""
        contents = self.progress.contents()
        running = self.progress.running()
        for cell, content in ended(contents).items():
            if cell not in self._ended:
                self._ended.add(cell)
                self._print(f"{cell.name}: {outcome(content)}")
                self._print(self.progress.headline(contents))

        # A command for one cell says what its run is; of many runs that would be too much.
        if len(self.progress.cells) == 1:
            self._announce(running)
        if time.monotonic() - self._printed >= self.every_s:
            self._print(self.progress.headline(contents))
            for state in running:
                self._print(f"  {position(state)}")

    def _announce(self, running: list[RunState]) -> None:
        """Print, once for each run, what it is and how long it takes."""
        for state in running:
            if state.steps and state.name not in self._described:
                self._described.add(state.name)
                self._print(description(state))
            is_estimated = state.seconds_left is not None and state.step < state.steps
            if is_estimated and state.name not in self._estimated:
                self._estimated.add(state.name)
                is_cell = any(state.name == cell.name for cell in self.progress.cells)
                self._print(estimate(state, has_checkpoints=not is_cell))

    def _print(self, line: str) -> None:
        self._printed = time.monotonic()
        print(line, file=sys.stderr, flush=True)


def ended(contents: dict[Cell, dict[str, Any]]) -> dict[Cell, dict[str, Any]]:
    """Return the cells that are done or have failed, with the content of their files."""
    return {cell: content for cell, content in contents.items() if content}


def outcome(content: dict[str, Any]) -> str:
    """Return the score of a cell's file, or how it failed."""
    if content.get("status") != "done":
        return f"failed: {content.get('error')}"
    if "learning_rate" in content:
        best, criterion = content["best"], content.get("criterion")
        if best is None:
            return "the loss is not finite"
        return f"{criterion} {write_number(best[criterion])}"
    return f"{content.get('metric')} {write_number(content['score'])}"
