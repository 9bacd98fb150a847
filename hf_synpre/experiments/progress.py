"""How far an experiment is: the files of its cells -> a table or a line.

It reads only files, so it also shows cells that other processes compute.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from hf_synpre.errors import UsageError
from hf_synpre.experiments.spec import Cell
from hf_synpre.files import read_json

# Durations of so many seconds and more are shown in minutes.
LONGEST_IN_SECONDS = 90


def status(file: Path) -> dict[str, Any]:
    """Return the content of a cell's file, {} where there is none or it is broken."""
    if not file.exists():
        return {}
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

    def expected(cell: Cell) -> float:
        same_task = {c: s for c, s in seconds_of_done.items() if c.task == cell.task}
        same_arm = {c: s for c, s in same_task.items() if c.arm == cell.arm}
        similar = same_arm or same_task or seconds_of_done
        return sum(similar.values()) / len(similar)

    total = sum(expected(cell) for cell in cells if cell not in seconds_of_done)
    return total / max(jobs, 1)


def clock(seconds: float | None) -> str:
    """Write a duration: "45 s", "12 min", "3 h 05 min", "?" if it is not known."""
    if seconds is None:
        return "?"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    if seconds >= LONGEST_IN_SECONDS:
        return f"{minutes} min"
    return f"{round(seconds)} s"


class Progress:
    """The state of the cells of a folder. A file is read again only when it has changed.

    Args:
        name: the name of the experiment.
        folder: the folder of the result files.
        cells: the cells that are shown.
        jobs: how many are computed at the same time, for the estimate of the time left.
    """

    def __init__(self, name: str, folder: Path, cells: list[Cell], jobs: int):
        self.name = name
        self.folder = folder
        self.cells = cells
        self.jobs = jobs
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
        left = clock(seconds_left(expected, seconds_of_done, self.jobs))
        so_far = clock(time.monotonic() - self.started)

        count = f"{len(done)} of {len(self.cells)} cells"
        if failed:
            count += f", {len(failed)} failed"
        return f"{self.name}: {count}, {so_far} so far, about {left} left"

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


def summary(contents: list[dict[str, Any]]) -> str:
    """Return "done/all", the mean score and the failures of the cells of one arm on one task.

    Return "" if there are no cells.
    """
    if not contents:
        return ""
    scores = [content["score"] for content in contents if content.get("status") == "done"]
    failed = sum(content.get("status") == "failed" for content in contents)

    text = f"{len(scores)}/{len(contents)}"
    if scores:
        text += f" {sum(scores) / len(scores):.3f}"
    if failed:
        text += f" {failed} failed"
    return text


@contextmanager
def show_progress(progress: Progress, every: float = 1.0) -> Iterator[None]:
    """Show the progress while the block runs.

    On a terminal it is a table that is updated; elsewhere a line is printed whenever a cell has
    ended.

    Args:
        progress: the progress to show.
        every: the files are read again after so many seconds.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(get_renderable=progress.table, console=console, refresh_per_second=1 / every):
            yield
        return

    over = threading.Event()
    thread = threading.Thread(target=print_lines, args=(progress, over, every), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def print_lines(progress: Progress, over: threading.Event, every: float) -> None:
    """Print the headline whenever another cell has ended, until `over` is set."""
    printed = count_ended(progress.contents())
    while not over.wait(every) or count_ended(progress.contents()) != printed:
        contents = progress.contents()
        if count_ended(contents) != printed:
            printed = count_ended(contents)
            print(progress.headline(contents), file=sys.stderr, flush=True)


def count_ended(contents: dict[Cell, dict[str, Any]]) -> int:
    """Return how many cells are done or have failed."""
    return sum(bool(content) for content in contents.values())
