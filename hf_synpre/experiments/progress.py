"""Layer 4: how far an experiment is, read from its folder: the same whoever computes the cells."""

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


def status(file: Path) -> dict[str, Any]:
    """Return the content of a cell's file, {} where there is none or it is broken."""
    try:
        content = read_json(file) if file.exists() else {}
    except UsageError:
        return {}
    return content if isinstance(content, dict) else {}


def seconds_left(cells: list[Cell], walls: dict[Cell, float], jobs: int) -> float | None:
    """Return the seconds that the cells without a wall time will take `jobs` workers, None where nothing was timed.

    A cell takes the mean of its arm on its task, else of its task, else of all.
    """
    if not walls:
        return None

    def guess(cell: Cell) -> float:
        for same in (("task", "arm"), ("task",), ()):
            found = [
                s
                for other, s in walls.items()
                if all(getattr(other, k) == getattr(cell, k) for k in same)
            ]
            if found:
                return sum(found) / len(found)
        raise AssertionError("walls is not empty")

    return sum(guess(cell) for cell in cells if cell not in walls) / max(jobs, 1)


def clock(seconds: float | None) -> str:
    """Write a duration for people."""
    if seconds is None:
        return "?"
    hours, minutes = divmod(round(seconds / 60), 60)
    return (
        f"{hours} h {minutes:02d} min"
        if hours
        else f"{minutes} min"
        if seconds >= 90
        else f"{round(seconds)} s"
    )


class Progress:
    """The state of some cells of a folder; a file is read again only when it has changed."""

    def __init__(self, name: str, folder: Path, cells: list[Cell], jobs: int):
        self.name, self.folder, self.cells, self.jobs = name, folder, cells, jobs
        self.started = time.monotonic()
        self._read: dict[Cell, tuple[int, dict]] = {}

    def contents(self) -> dict[Cell, dict[str, Any]]:
        """Return the content of every cell's file."""
        for cell in self.cells:
            file = self.folder / cell.file_name
            stamp = file.stat().st_mtime_ns if file.exists() else 0
            if self._read.get(cell, (None,))[0] != stamp:
                self._read[cell] = stamp, status(file)
        return {cell: content for cell, (_, content) in self._read.items()}

    def headline(self, contents: dict[Cell, dict]) -> str:
        """Return how many cells are done, how many failed, what was spent and what is left."""
        done = [cell for cell, content in contents.items() if content.get("status") == "done"]
        failed = [cell for cell, content in contents.items() if content.get("status") == "failed"]
        walls = {cell: contents[cell].get("wall_s") or 0.0 for cell in done}
        left = seconds_left([cell for cell in self.cells if cell not in failed], walls, self.jobs)
        states = f"{len(done)} of {len(self.cells)} cells" + (
            f", {len(failed)} failed" if failed else ""
        )
        return f"{self.name}: {states}, {clock(time.monotonic() - self.started)} so far, about {clock(left)} left"

    def table(self) -> Table:
        """Return arms x tasks: how many seeds are done, and their mean score."""
        contents = self.contents()
        table = Table(title=self.headline(contents), title_justify="left")
        tasks, arms = (
            list(dict.fromkeys(getattr(c, what) for c in self.cells)) for what in ("task", "arm")
        )
        for column in ("arm", *tasks):
            table.add_column(column, justify="left" if column == "arm" else "right")
        for arm in arms:
            groups = [
                [x for c, x in contents.items() if (c.task, c.arm) == (task, arm)] for task in tasks
            ]
            table.add_row(arm, *map(summary, groups))
        return table


def summary(group: list[dict[str, Any]]) -> str:
    """Return "done/all mean score" of the cells of one arm on one task, failed ones marked."""
    scores = [content["score"] for content in group if content.get("status") == "done"]
    failed = sum(content.get("status") == "failed" for content in group)
    mean = f" {sum(scores) / len(scores):.3f}" if scores else ""
    return (
        (f"{len(scores)}/{len(group)}{mean}" + (f" {failed} failed" if failed else ""))
        if group
        else ""
    )


@contextmanager
def shown(progress: Progress, every: float = 1.0) -> Iterator[None]:
    """Show the table while the block runs: in place on a terminal, elsewhere one line whenever a cell has ended."""
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
    """Print the headline whenever another cell has ended, until `over`."""
    seen = ended(progress.contents())
    while not over.wait(every) or ended(progress.contents()) != seen:
        contents = progress.contents()
        if ended(contents) != seen:
            seen = ended(contents)
            print(progress.headline(contents), file=sys.stderr, flush=True)


def ended(contents: dict[Cell, dict]) -> int:
    """Return how many cells have a result, good or bad."""
    return sum(bool(content) for content in contents.values())
