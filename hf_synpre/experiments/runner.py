"""Runs of experiments: a spec and a folder -> the result files of its cells, made in parallel."""

import contextlib
import fnmatch
import gc
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from filelock import Timeout
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from hf_synpre.config import differences
from hf_synpre.data.connection import bound_waiting_for_hub
from hf_synpre.errors import TemporaryError, UsageError, choose
from hf_synpre.experiments.artifacts import PROGRESS_FOLDER, Artifacts
from hf_synpre.experiments.cell import (
    cell_header,
    check_heads,
    check_starts,
    compute_cell,
    experiment_recipe,
)
from hf_synpre.experiments.cluster import Job, cluster_cpus, joined_cluster, run_on_cluster
from hf_synpre.experiments.learning_rates import chosen_again, values_tried
from hf_synpre.experiments.progress import Progress, show_progress, status
from hf_synpre.experiments.spec import Cell, ExperimentSpec
from hf_synpre.experiments.stored_recipe import (
    keep_parts_in_use,
    narrowed_grid,
    parts_that_must_stay,
    read_stored_recipe,
    spec_of_recipe,
    without_grids,
)
from hf_synpre.experiments.workers import end_with_parent, failure_message, release_memory
from hf_synpre.files import lock, read_object, write_json
from hf_synpre.tasks.imports import TaskFile, check_workers_know, import_again, imported_files
from hf_synpre.training.progress import reported_in

EXPERIMENT_FILE = "experiment.json"
BACKENDS = ("loky", "ray")
# Python itself freezes fewer objects than this where it starts (3.12: 375).
FROZEN_BY_PYTHON = 10_000
# So often workers may be lost before the command gives up.
MOST_LOSSES = 3

logger = logging.getLogger(__name__)


class Experiment:
    """An experiment in a folder: a JSON file for each cell.

    Args:
        spec: the experiment.
        folder: the folder of the result files.
        work_dir: the folder of tokenized data and checkpoints, which experiments may share; work/
            in `folder` without it.
        threads: the threads that each worker computes with on a CPU; None for those of this
            process. The last bits of results depend on their number.

    Examples:
        >>> fields = read_yaml("examples/quickstart.yaml")
        >>> spec = build_spec(ExperimentSpec, fields, "quickstart.yaml")
        >>> failures = Experiment(spec, "runs/quickstart").run()
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        folder: str | Path,
        work_dir: str | Path | None = None,
        threads: int | None = 1,
    ):
        self.spec = spec
        self.threads = threads or torch.get_num_threads()
        self.folder = Path(folder)
        self.artifacts = Artifacts(spec, Path(work_dir) if work_dir else self.folder / "work")
        for path in (self.folder, self.artifacts.folder):
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path} is a file; give a folder.")

    def run(
        self, only: Iterable[str] = (), *, retry: bool = False, backend: str = "loky"
    ) -> list[str]:
        """Compute the cells that are missing.

        Cells that another process is computing are left to it at first. In the end this process
        waits for them, and computes those that the other one did not finish.

        Args:
            only: patterns of cell names, such as "mtop--*--0"; without any, all cells.
            retry: compute failed cells again.
            backend: "loky" for processes on this machine, "ray" for a cluster.

        Returns:
            A line for each pre-training run and each cell that has failed.

        Raises:
            UsageError: the experiment cannot be run, or the folder holds another experiment.
        """
        choose("backend", backend, BACKENDS)
        cells = self.cells(only)
        is_new = not (self.folder / EXPERIMENT_FILE).exists()
        self.open_folder()
        try:
            return self._run(cells, retry, backend)
        except UsageError:
            if is_new:
                self._leave_nothing()
            raise

    def _run(self, cells: list[Cell], retry: bool, backend: str) -> list[str]:
        """Compute the cells that are missing, in a folder that is open; see `run`."""
        missing = self.missing(cells, retry)
        self._check_finished_rows(missing)
        check_starts(missing, self.spec)
        for cell in missing:
            if cell.rate is not None:  # cells that wait for a trial must not see how it failed
                (self.folder / cell.file_name).unlink(missing_ok=True)

        # First leave cells that others compute to them, then wait for whatever is still missing.
        with contextlib.ExitStack() as stack:
            if backend == "ray":
                stack.enter_context(joined_cluster())
            workers = self._workers(backend)
            running = [self.folder / PROGRESS_FOLDER, self.artifacts.progress_folder]
            progress = Progress(self.spec.name, self.folder, cells, workers, running)
            stack.enter_context(show_progress(progress))
            failures = self._compute_missing(cells, retry, False, backend)
            failures += self._compute_missing(cells, False, True, backend)

        lines = [line for line in failures if line.startswith("pre-training")]
        for cell in cells:
            content = status(self.folder / cell.file_name)
            if content.get("status") == "failed":
                lines.append(f"{cell.file_name}: {content['error']}")
        return lines

    def _leave_nothing(self) -> None:
        """Remove a folder that was made for a run which was refused, where nothing was done."""
        files = [file for file in self.folder.rglob("[!.]*") if file.is_file()]
        if files == [self.folder / EXPERIMENT_FILE]:
            shutil.rmtree(self.folder)

    def open_folder(self) -> None:
        """Check the experiment (`check_folder`) and write it into its folder."""
        write_json(self.folder / EXPERIMENT_FILE, self.check_folder())

    def check_folder(self) -> dict[str, Any]:
        """Check the experiment and its folder; nothing is written.

        Returns:
            The content of the folder's experiment.json.

        Raises:
            UsageError: the model cannot be built or cannot answer a task, a folder or corpus is
                missing, or the folder holds something else.
        """
        self.spec.model.validate()
        self.spec.check_recipe(decodes=self.spec.model.is_decoder())
        for run in self.spec.pretraining.values():
            run.validate()
            if self.spec.jobs != 1:
                check_workers_know(run.task)
        self.artifacts.validate()
        check_heads(self.spec)

        # The folder must be new, empty, or that of an experiment.
        file = self.folder / EXPERIMENT_FILE
        # The files are looked for first: another process may write the recipe, then its cells.
        has_files = self.folder.exists() and any(self.folder.glob("[!.]*"))
        if has_files and not file.exists():
            raise UsageError(
                f"{self.folder} is not empty and holds no experiment; choose another --output_dir."
            )

        # The recipe of finished cells must not change.
        recipe = experiment_recipe(self.spec)
        if file.exists():
            stored = read_stored_recipe(file)
            in_use = self._names_in_use(stored)
            before = without_grids(parts_that_must_stay(stored, recipe, in_use))
            now = without_grids(parts_that_must_stay(recipe, stored, in_use))
            if before != now and in_use["tasks"]:
                grid = narrowed_grid(before, now)
                remedy = "choose another --output_dir."
                if grid is not None:
                    remedy = f"give {grid} two values or more, as before, or {remedy}"
                raise UsageError(
                    f"{self.folder} holds results of another configuration "
                    f"({differences(before, now)}); {remedy}"
                )
            keep_parts_in_use(recipe, stored, in_use)
        if not recipe["task_files"]:
            del recipe["task_files"]
        return recipe

    def check_columns(self, cells: Iterable[Cell]) -> list[str]:
        """Check that the tasks of some cells find their columns in the folders and files of rows.

        Returns:
            The tasks whose rows are on the Hub; they are not looked at.

        Raises:
            UsageError: a folder, a split or a column is missing.
        """
        on_the_hub = []
        for name in dict.fromkeys(cell.task for cell in cells):
            task, data_dir = self.spec.finetuning_task(name), self.artifacts.data_dir(name)
            if data_dir is None and task.hub_id is not None:
                on_the_hub.append(name)
            else:
                task.check_columns(data_dir)
        return on_the_hub

    def cells(self, only: Iterable[str] = ()) -> list[Cell]:
        """Return the experiment's cells, or those whose name fits one of the patterns.

        The trials of their learning rates are among them.

        Raises:
            UsageError: a pattern fits no cell.
        """
        cells = self.spec.cells()
        patterns = list(only)
        if not patterns:
            return cells

        chosen = set()
        for pattern in patterns:
            fitting = [cell for cell in cells if fnmatch.fnmatchcase(cell.name, pattern)]
            if not fitting:
                choose("cell", pattern, [cell.name for cell in cells])
            chosen.update(fitting)
            for cell in fitting:
                chosen.update(self.spec.trials(cell))
        return [cell for cell in cells if cell in chosen]

    def missing(self, cells: list[Cell], retry: bool = False) -> list[Cell]:
        """Return the cells without a result.

        A failure is a result, unless it is to be tried again. Where models are kept, a result
        without its model is none.
        """
        missing = []
        for cell in cells:
            state = status(self.folder / cell.file_name).get("status")
            is_failure = state == "failed" and not retry
            if not is_failure and not self._is_done(cell):
                missing.append(cell)
        return missing

    def model_folder(self, cell: Cell) -> Path | None:
        """Return where the fine-tuned model of a cell is kept; None where none is."""
        is_kept = self.spec.save_models and cell.rate is None
        return self.folder / cell.name if is_kept else None

    def _is_done(self, cell: Cell) -> bool:
        """Say whether a cell has its result, chosen from today's grid, and its model if kept."""
        content = status(self.folder / cell.file_name)
        if content.get("status") != "done":
            return False
        grid = {(trial.rate, trial.scale) for trial in self.spec.trials(cell)}
        model = self.model_folder(cell)
        return values_tried(content) == grid and (model is None or model.is_dir())

    def compute_and_store(self, cell: Cell, wait: bool = True) -> str | None:
        """Compute a cell and write its file, unless it is done.

        Args:
            cell: the cell.
            wait: wait if another process is computing the cell; without it the cell is left to that
                process.

        Returns:
            A line if the cell failed, which its file has too; else None.
        """
        # First the trials of its learning rate; one that others compute is waited for later.
        for trial in self.spec.trials(cell):
            if not status(self.folder / trial.file_name):
                self.compute_and_store(trial, wait)
            if not status(self.folder / trial.file_name):
                return None

        file = self.folder / cell.file_name
        try:
            with lock(self.folder / ".locks" / cell.file_name, wait):
                if self._is_done(cell):
                    return None

                def compute() -> None:
                    model = self.model_folder(cell)
                    trials = self._trials(cell)
                    result = None
                    if model is None or model.is_dir():
                        result = chosen_again(status(file), cell_header(cell, self.spec), trials)
                    if result is None:
                        with reported_in(self.folder / PROGRESS_FOLDER, cell.name):
                            result = compute_cell(cell, self.spec, self.artifacts, model, trials)
                    write_json(file, result)

                failure = failure_message(compute)
                if failure is None:
                    return None
                if is_done(file):
                    raise UsageError(f"{cell.file_name} is kept, its model failed: {failure}")
                header = cell_header(cell, self.spec)
                write_json(file, {**header, "status": "failed", "error": failure})
                return f"{cell.file_name}: {failure}"
        except Timeout:
            return None

    def _trials(self, cell: Cell) -> list[dict[str, Any]]:
        """Return the contents of the trials that choose a cell's learning rate.

        Raises RuntimeError where one has failed.
        """
        trials = []
        for trial in self.spec.trials(cell):
            content = status(self.folder / trial.file_name)
            if content.get("status") != "done":
                raise RuntimeError(
                    f"the learning rate was not chosen, because {trial.file_name} failed: "
                    f"{content.get('error')}"
                )
            trials.append(content)
        return trials

    def _check_finished_rows(self, cells: list[Cell]) -> None:
        """Raise UsageError where a task has other rows than its finished cells had."""
        for task in dict.fromkeys(cell.task for cell in cells):
            finished = [file for file in self.folder.glob(f"{task}--*--*.json") if is_done(file)]
            if not finished:
                continue
            data = read_object(finished[0]).get("data")
            splits = self.artifacts.prepared_task(task).metadata["splits"]
            if not isinstance(data, dict) or data.get("splits") != splits:
                raise UsageError(
                    f"{self.folder} holds cells on other rows of {task} ({finished[0].name}); "
                    "choose another --output_dir, or delete that task's cells."
                )

    def _names_in_use(self, stored: dict[str, Any]) -> dict[str, set[str]]:
        """Return the tasks, arms and pre-training runs that finished cells depend on.

        Args:
            stored: the recipe in the folder.
        """
        names = [
            file.stem.split("--") for file in self.folder.glob("*--*--*.json") if is_done(file)
        ]
        arms = {name[1] for name in names}
        runs: set[str] = set()
        for spec in (self.spec, spec_of_recipe(stored, EXPERIMENT_FILE)):
            for name, arm in spec.arms.items():
                run = arm.needed_checkpoint
                if name in arms and run in spec.pretraining:
                    runs.update(spec.dependencies(run))
        return {
            "tasks": {name[0] for name in names},
            "arms": arms,
            "pretraining": runs,
            "task_files": runs,
            "seeds": set(),
            "pretraining_seeds": set(),
            "reference": set(),
        }

    def _workers(self, backend: str) -> int:
        """Return how many cells are computed at the same time."""
        if self.spec.jobs > 0:
            return self.spec.jobs
        return cluster_cpus() if backend == "ray" else os.cpu_count() or 1

    def _compute_missing(
        self, cells: list[Cell], retry: bool, wait: bool, backend: str
    ) -> list[str]:
        """Compute the missing cells. If a worker is lost, compute those again that it held.

        Return a line for each failure. Raises TemporaryError where workers are lost again and
        again.
        """
        for _ in range(MOST_LOSSES):
            try:
                return self._compute(self.missing(cells, retry), wait, backend)
            except TerminatedWorkerError:
                logger.warning(
                    "A worker process was killed, perhaps because the memory ran out; the finished "
                    "cells stay, those that were being computed are computed again."
                )
        raise TemporaryError(
            f"Worker processes were killed {MOST_LOSSES} times, perhaps because the memory ran "
            "out; the finished cells stay. Give a smaller --jobs: the same command goes on."
        )

    def _compute(self, cells: list[Cell], wait: bool, backend: str) -> list[str]:
        """Compute cells and the pre-training runs that they need, in workers.

        Return a line for each failure.
        """
        if not cells:
            return []
        files = imported_files()
        runs: list[tuple[str, Job]] = []
        for run, task, seed in self._runs_needed(cells):
            name = f"pre-training {run}, {task}, {seed}"
            runs.append((name, partial(self._work, files, self._pretrain, run, task, seed)))
        independent: list[tuple[str, Job]] = []
        dependent: list[tuple[str, Job]] = []
        for cell in cells:
            job = partial(self._work, files, self.compute_and_store, cell, wait)
            needs_run = self.spec.arms[cell.arm].needed_checkpoint
            if needs_run:
                dependent.append((cell.name, job))
            else:
                independent.append((cell.name, job))

        # The first pre-training run starts at once, beside the cells that need no run.
        order = dict(runs[:1] + independent + runs[1:] + dependent)
        if backend == "ray":
            return [line for line in run_on_cluster(order, self.spec.jobs or -1) if line]

        # One worker is this process itself. What `release_memory` freezes here is let go at the
        # end, unless somebody had frozen objects before.
        was_frozen = gc.get_freeze_count() > FROZEN_BY_PYTHON

        # Each worker watches this process from its start.
        watching = {"initializer": end_with_parent, "initargs": (os.getpid(),)}
        with warnings.catch_warnings(), parallel_config(backend=backend, **watching):
            # joblib warns whenever it replaces a worker that has grown, which does no harm here.
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
            workers = self._workers(backend)
            calls = (delayed(job)() for job in order.values())
            try:
                return [line for line in Parallel(n_jobs=workers)(calls) if line]
            finally:
                if not was_frozen:
                    gc.unfreeze()

    def _runs_needed(self, cells: list[Cell]) -> list[tuple[str, str, int]]:
        """Return the pre-training runs that these cells need, each after those that it needs.

        Returns:
            Triples of a run, the task that it is made for ("" for runs on synthetic tasks), and
            what is added to its seed.
        """
        needed: dict[tuple[str, str, int], None] = {}  # a dict keeps the order
        for cell in cells:
            checkpoint = self.spec.arms[cell.arm].needed_checkpoint
            if checkpoint not in self.spec.pretraining:
                continue
            for run in self.spec.dependencies(checkpoint):
                task = "" if self.spec.pretraining[run].task else cell.task
                needed[run, task, self.spec.added_seed(cell)] = None
        return sorted(needed, key=lambda needs: len(self.spec.dependencies(needs[0])))

    def _pretrain(self, run: str, task: str, seed: int) -> str | None:
        """Make one pre-training run. Return a line if it failed; cells that need it fail too."""
        failure = failure_message(lambda: self.artifacts.checkpoint(run, task, seed))
        return f"pre-training {run}: {failure}" if failure else None

    def _work(
        self,
        files: list[TaskFile],
        job: Callable[..., str | None],
        *arguments: Any,
    ) -> str | None:
        """Run one job in a worker: with its threads, without progress bars; release its memory.

        Args:
            files: the files with tasks that the command had imported; the worker imports them.
            job: what to compute.
            *arguments: those of the job.
        """
        import_again(files)
        bound_waiting_for_hub()
        torch.set_num_threads(self.threads)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        datasets.disable_progress_bars()
        try:
            return job(*arguments)
        finally:
            release_memory()


def is_done(file: Path) -> bool:
    """Say whether a cell's file holds a finished result."""
    return status(file).get("status") == "done"
