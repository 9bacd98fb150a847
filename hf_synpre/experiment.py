"""Layer 4: an experiment = arms x downstream tasks x seeds, one JSON a cell, resumable cell by cell."""

import contextlib
import ctypes
import gc
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from joblib import Parallel, delayed
from tqdm import tqdm
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

import hf_synpre
from hf_synpre.downstream import FinetuningSpec, PreparedTask, check_vocab_size, finetune, get_downstream, prepare
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import read_json, write_json
from hf_synpre.initialization import SCHEMES, StatisticsInit, build
from hf_synpre.pretraining import RESULT_FILE, ModelSpec, PretrainingSpec, pretrain
from hf_synpre.vocabulary import as_vocabulary

FORMAT = 1
EXPERIMENT_FILE = "experiment.json"
PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "numpy", "numba")


@dataclass
class ArmSpec:
    """A start of fine-tuning: random weights, a checkpoint's weights, or weights sampled from its statistics.

    `checkpoint` is the name of a pre-training run of the experiment, a folder or a Hub id; `embeddings` says whether the
    token embeddings come along ("kept") or stay random ("fresh").
    """

    init: str = "random"
    checkpoint: str | None = None
    scheme: str = "per_param_mean_sd"
    embeddings: str = "fresh"

    def __post_init__(self) -> None:
        choose("init of an arm", self.init, ("random", "weights", "statistics"))
        choose("embedding policy", self.embeddings, ("fresh", "kept"))
        choose("scheme", self.scheme, SCHEMES)
        scheme = SCHEMES[self.scheme] if self.init == "statistics" else None
        if (self.checkpoint is None) != (self.init == "random" or (scheme is not None and not scheme.needs_checkpoint)):
            raise UsageError(
                f"An arm with init {self.init} has checkpoint {self.checkpoint!r}; random and constant schemes take none, "
                "the others one."
            )
        if scheme is not None and (self.embeddings == "kept") != scheme.embeddings:
            wanted = "kept" if scheme.embeddings else "fresh"
            raise UsageError(f"An arm with scheme {self.scheme} has embeddings {self.embeddings}; give {wanted}.")


@dataclass
class TaskSpec:
    """A downstream task of an experiment: where its rows are and how they become ids."""

    data_dir: str | None = None
    tokenizer: str | None = None
    vocab_size: int = 1024
    max_source: int | None = None
    max_target: int | None = None

    def __post_init__(self) -> None:
        if self.data_dir is not None and not Path(self.data_dir).is_dir():
            raise UsageError(f"There is no folder {self.data_dir}; give the folder of a dataset in Hub layout.")
        if self.tokenizer is None:
            check_vocab_size(self.vocab_size)
        for name in ("max_source", "max_target"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"A downstream task has {name} {value}; give an integer >= 1.")


@dataclass
class ExperimentSpec:
    """What an experiment's YAML holds."""

    name: str
    tasks: dict[str, TaskSpec]
    arms: dict[str, ArmSpec]
    model: ModelSpec = field(default_factory=ModelSpec)
    pretraining: dict[str, PretrainingSpec] = field(default_factory=dict)
    finetuning: FinetuningSpec = field(default_factory=FinetuningSpec)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    jobs: int = 0

    def __post_init__(self) -> None:
        for name in (self.name, *self.tasks, *self.arms, *self.pretraining):
            if not re.fullmatch(r"\w+(-\w+)*", name):
                raise UsageError(f"The name '{name}' becomes a file name; use letters, digits, _ and single -.")
        for name in self.tasks:
            get_downstream(name)
        for what in ("tasks", "arms"):
            if not getattr(self, what):
                raise UsageError(f"{what} is empty; name at least one.")
        if (
            not self.seeds
            or min(self.seeds) < 0
            or max(self.seeds) >= 2**32
            or len(set(self.seeds)) != len(self.seeds)
            or self.jobs < 0
        ):
            raise UsageError(
                f"seeds is {self.seeds}, jobs {self.jobs}; give distinct seeds in 0..2**32-1 and jobs >= 0 (0: one a core)."
            )
        for name, run in self.pretraining.items():
            if run.budget_of is not None:
                choose(f"run that '{name}' takes its budget from", run.budget_of, set(self.pretraining) - {name})


@dataclass(frozen=True)
class Cell:
    """One fine-tuning of one arm on one task under one seed."""

    task: str
    arm: str
    seed: int

    @property
    def file_name(self) -> str:
        """The name of its result file."""
        return f"{self.task}--{self.arm}--{self.seed}.json"


class Experiment:
    """An experiment in a folder: results as JSON, the work (data, checkpoints) under work/ or in `work_dir`.

    What is in the work folder is named by the recipe that made it, so experiments may share one.
    """

    def __init__(self, spec: ExperimentSpec, folder: str | Path, work_dir: str | Path | None = None):
        self.spec, self.folder = spec, Path(folder)
        self.work = Path(work_dir) if work_dir else self.folder / "work"

    def claim(self) -> None:
        """Mark the folder as this experiment's. Raises UsageError where it holds something else."""
        mark, recipe = self.folder / EXPERIMENT_FILE, self.recipe()
        for place in (self.folder, self.work):
            if place.exists() and not place.is_dir():
                raise UsageError(f"{place} is a file; give a folder.")
        if not mark.exists() and self.folder.exists() and any(self.folder.iterdir()):
            raise UsageError(f"{self.folder} is not empty and holds no experiment; choose another --output_dir.")
        stored = read_json(mark) if mark.exists() else recipe
        if not isinstance(stored, dict):
            raise UsageError(f"{mark} is not an experiment's; choose another --output_dir.")
        differing = ", ".join(key for key in recipe if not agree(key, stored.get(key), recipe[key]))
        if differing and any(map(is_done, self.folder.glob("*--*--*.json"))):
            raise UsageError(
                f"{self.folder} holds results of another configuration ({differing}); choose another --output_dir."
            )
        write_json(mark, recipe)

    def recipe(self) -> dict[str, Any]:
        """Return what decides the results: the spec without the place of the data and the number of workers."""
        recipe = asdict(self.spec) | {"jobs": 0}
        for task in recipe["tasks"].values():
            del task["data_dir"]
        return recipe

    def cells(self) -> list[Cell]:
        """Return all cells, in an order that lets two workers stay busy: arms that wait for no pre-training come first."""
        free = [a for a, arm in self.spec.arms.items() if arm.init == "random"]
        bound = [a for a in self.spec.arms if a not in free]
        return [Cell(t, a, s) for arms in (free, bound) for t in self.spec.tasks for a in arms for s in self.spec.seeds]

    def missing(self) -> list[Cell]:
        """Return the cells without a finished result."""
        return [c for c in self.cells() if not is_done(self.folder / c.file_name)]

    def run(self) -> list[str]:
        """Compute what is missing; return one line for each cell that failed."""
        self.claim()
        cells = self.missing()
        jobs = self.spec.jobs or os.cpu_count() or 1
        work = [delayed(self.job)(self.prepare_run, name, task) for name, task in self.runs_needed(cells)]
        work += [delayed(self.job)(self.run_cell, cell) for cell in cells]
        order = interleave(work, len(cells), [c for c in cells if self.spec.arms[c.arm].init == "random"])
        with warnings.catch_warnings():  # joblib says so whenever it replaces a worker that has grown, which is no harm here
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
            results = Parallel(n_jobs=jobs, return_as="generator_unordered")(order)
            bar = tqdm(results, total=len(order), desc=self.spec.name, unit="job", disable=not order)
            return [line for line in bar if line]

    def runs_needed(self, cells: list[Cell]) -> list[tuple[str, str]]:
        """Return (pre-training run, task) pairs that these cells start from, a run's budget giver before it."""
        wanted: dict[tuple[str, str], None] = {}
        for cell in cells:
            name = self.spec.arms[cell.arm].checkpoint
            if name in self.spec.pretraining:
                giver = self.spec.pretraining[name].budget_of
                for run in filter(None, (giver, name)):
                    wanted.setdefault((run, "" if self.spec.pretraining[run].task else cell.task))
        return sorted(wanted, key=lambda run: self.spec.pretraining[run[0]].budget_of is not None)

    def prepare_run(self, name: str, task: str) -> str | None:
        """Make one pre-training run; return the line of its failure, if any (the cells that need it will say it too)."""
        failure = attempt(lambda: self.checkpoint(name, task))
        return failure and f"pre-training {name}: {failure}"

    def job(self, work: Callable[[Any], str | None], *arguments: Any) -> str | None:
        """Do one job of the experiment in a worker: one thread, no chatter."""
        torch.set_num_threads(1)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        try:
            return work(*arguments)
        finally:
            release_memory()

    def data(self, task: str) -> PreparedTask:
        """Return a downstream task as ids, made once."""
        given = self.spec.tasks[task]
        limits = {k: v for k in ("max_source", "max_target") if (v := getattr(given, k)) is not None}
        options = {"data_dir": given.data_dir, "tokenizer": given.tokenizer, "vocab_size": given.vocab_size}
        folder = self.work / "data" / recipe_name(task, options | limits)
        with lock(folder):
            return prepare(get_downstream(task, **limits), folder, **options)

    def checkpoint(self, name: str, task: str) -> Path:
        """Return the folder of a pre-training run, made once; a run on text is made anew in the ids of each task."""
        spec = self.spec.pretraining[name]
        recipe, tokens, tokenizer = [asdict(spec), asdict(self.spec.model)], None, None
        if spec.budget_of:
            tokens = read_json(self.checkpoint(spec.budget_of, task) / RESULT_FILE)["tokens"]
            recipe.append(tokens)
        if spec.corpus:
            data = self.data(task)
            tokenizer = data.tokenizer
            recipe.append(data.facts)
        folder = self.work / "pretraining" / recipe_name(name if spec.task else f"{name}-{task}", recipe)
        with lock(folder):
            pretrain(spec, self.spec.model, folder, tokenizer=tokenizer, tokens=tokens)
        return folder

    def model(self, cell: Cell, data: PreparedTask) -> tuple[PreTrainedModel, dict | None]:
        """Return the cell's model before fine-tuning, and the facts of its pre-training."""
        arm = self.spec.arms[cell.arm]
        config = self.spec.model.config(as_vocabulary(data.tokenizer))
        if arm.init == "random":
            return build(AutoModelForSeq2SeqLM, config, {}, cell.seed), None
        own = arm.checkpoint in self.spec.pretraining
        source = self.checkpoint(arm.checkpoint, cell.task) if own else arm.checkpoint
        facts = {"name": arm.checkpoint} | (read_json(source / RESULT_FILE) if own else {})
        scheme = {"fresh": "body_weights", "kept": "weights"}[arm.embeddings] if arm.init == "weights" else arm.scheme
        factory = StatisticsInit(AutoModelForSeq2SeqLM, scheme=scheme, seed=cell.seed)
        return factory.from_config(config, source), facts if source else None

    def run_cell(self, cell: Cell) -> str | None:
        """Compute one cell unless it is there; return the line of its failure, if any."""
        file = self.folder / cell.file_name
        with lock(self.folder / ".locks" / cell.file_name):
            if is_done(file):
                return None
            failure = attempt(lambda: write_json(file, self.result(cell)))
            if failure:
                write_json(file, self.header(cell) | {"status": "failed", "error": failure})
            return failure and f"{cell.file_name}: {failure}"

    def header(self, cell: Cell) -> dict[str, Any]:
        """Return what names a cell and how it was made."""
        return {
            "format": FORMAT,
            "experiment": self.spec.name,
            **asdict(cell),
            "embeddings": self.spec.arms[cell.arm].embeddings,
            "config": {
                "arm": asdict(self.spec.arms[cell.arm]),
                "task": self.recipe()["tasks"][cell.task],
                "model": asdict(self.spec.model),
                "finetuning": asdict(self.spec.finetuning),
            },
            "versions": versions(),
        }

    def result(self, cell: Cell) -> dict[str, Any]:
        """Fine-tune and return the content of the cell's file."""
        started = time.perf_counter()
        data = self.data(cell.task)
        model, pretraining = self.model(cell, data)
        outcome = finetune(
            model, data, self.spec.finetuning, seed=cell.seed, output_dir=self.work / "finetuning" / cell.file_name
        )
        phases = {"pretraining": pretraining, "finetuning": outcome.pop("spent")}
        facts = {"higher_is_better": True, "data": data.facts, "wall_s": round(time.perf_counter() - started, 1)}
        return self.header(cell) | {"status": "done", "error": None} | outcome | facts | {"phases": phases}


def interleave(work: list, cells: int, free: list) -> list:
    """Return the jobs so that the first pre-training starts at once, beside cells that wait for none."""
    runs, jobs = work[: len(work) - cells], work[len(work) - cells :]
    return runs[:1] + jobs[: len(free)] + runs[1:] + jobs[len(free) :]


def release_memory() -> None:
    """Give freed memory back to the system where its C library can: joblib replaces workers that seem to leak."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def agree(key: str, stored: Any, wanted: Any) -> bool:
    """Say whether two configurations may share a folder: seeds, arms, tasks and runs may be added, not changed."""
    if key == "seeds":
        return True
    if key in ("arms", "tasks", "pretraining") and isinstance(stored, dict):
        return all(stored[name] == wanted[name] for name in stored.keys() & wanted.keys())
    return stored == wanted


def recipe_name(name: str, recipe: Any) -> str:
    """Return `name` with a hash of the recipe: the same recipe finds what was made, another never does."""
    return f"{name}-{hashlib.blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=4).hexdigest()}"


def lock(target: Path) -> FileLock:
    """Return the lock of one product of the experiment; the system releases it when its holder dies."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(target.with_name(f".{target.name}.lock"))


def attempt(job: Callable[[], Any]) -> str | None:
    """Run a job; return None, or one line that says how it failed. A UsageError goes through: it concerns all cells."""
    try:
        job()
    except UsageError:
        raise
    except Exception as error:  # a cell that fails must not take the others with it
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def is_done(file: Path) -> bool:
    """Say whether a cell's file holds a finished result; failed cells are computed again."""
    content = read_json(file) if file.exists() else None
    return isinstance(content, dict) and content.get("status") == "done"


def versions() -> dict[str, str]:
    """Return the versions that decide a result: interpreter, packages, and the commit where hf_synpre is a checkout."""
    found = {p: importlib.metadata.version(p) for p in PACKAGES}
    return {"python": platform.python_version(), "hf_synpre": hf_synpre.__version__, "commit": commit(), **found}


def commit() -> str:
    """Return the commit of the checkout that hf_synpre runs from, "+" where it was changed since, or "none"."""
    git = ["git", "-C", str(Path(hf_synpre.__file__).parent)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        return head + "+" * bool(subprocess.run([*git, "status", "--porcelain", "."], capture_output=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return "none"
