"""Layer 4: the cells of an experiment: made once, by any number of workers, one JSON each."""

import contextlib
import ctypes
import fnmatch
import gc
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from filelock import Timeout
from joblib import Parallel, delayed, parallel_config
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from hf_synpre.config import build_spec, stored_form
from hf_synpre.data.corpora import Corpus, TextSpec, corpus_source, count_seen, open_corpus
from hf_synpre.errors import UsageError, choose
from hf_synpre.experiments.progress import Progress, shown, status
from hf_synpre.experiments.spec import SELF, ArmSpec, Cell, ExperimentSpec, lora_config, needs_run
from hf_synpre.files import content_digest, lock, read_json, write_json
from hf_synpre.finetuning import Head, PreparedTask, finetune, prepare
from hf_synpre.initialization import (
    StatisticsInit,
    build,
    bundled_checkpoints,
    embedding_names,
    find_config,
)
from hf_synpre.models.pretrained_weights import check_ids, take_weights
from hf_synpre.training.pretraining import (
    RESULT_FILE,
    accumulated_cost,
    pretrain,
    tokenizer_metadata,
)
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.versions import versions
from hf_synpre.vocabulary import as_vocabulary

FORMAT = 1
EXPERIMENT_FILE = "experiment.json"
BACKENDS = ("loky", "ray")


class Experiment:
    """An experiment in a folder: results as JSON, the work (data, checkpoints) under work/ or in `work_dir`.

    What is in the work folder is named by the recipe that made it, so experiments may share one.
    """

    def __init__(
        self, spec: ExperimentSpec, folder: str | Path, work_dir: str | Path | None = None
    ):
        self.spec, self.folder = spec, Path(folder)
        self.work = Path(work_dir) if work_dir else self.folder / "work"

    def claim(self) -> None:
        """Mark the folder as this experiment's. Raises UsageError where it holds something else."""
        self.spec.model.validate()
        for run in self.spec.pretraining.values():
            run.validate()
        mark, recipe = self.folder / EXPERIMENT_FILE, recipe_of(self.spec)
        for place in (self.folder, self.work):
            if place.exists() and not place.is_dir():
                raise UsageError(f"{place} is a file; give a folder.")
        if not mark.exists() and self.folder.exists() and any(self.folder.iterdir()):
            raise UsageError(
                f"{self.folder} is not empty and holds no experiment; choose another --output_dir."
            )
        self._check_places()
        stored = stored_recipe(mark) if mark.exists() else recipe
        used = self.used()
        differing = ", ".join(
            key for key in recipe if not agree(stored.get(key), recipe[key], used.get(key))
        )
        if differing and used["tasks"]:
            raise UsageError(
                f"{self.folder} holds results of another configuration ({differing}); choose another --output_dir."
            )
        write_json(mark, recipe)

    def _check_places(self) -> None:
        """Raise UsageError where an arm's folder or a corpus is missing."""
        for arm in self.spec.arms.values():
            if arm.checkpoint and arm.checkpoint.startswith((".", "/")):
                find_config(arm.checkpoint)
        read = {(run.corpus, run.text is not None) for run in self.spec.pretraining.values()}
        read |= {
            (name, True)
            for task in self.spec.tasks.values()
            for name in task.tokenizer_corpora or ()
        }
        for name, files in sorted(read, key=str):
            if name not in (None, "stdlib", SELF, *self.spec.tasks):
                try:
                    corpus_source(name, self.spec.data_dir, files=files)
                except UsageError as error:
                    raise UsageError(
                        f"{error} Or a task of the experiment: {', '.join(self.spec.tasks)}."
                    ) from None

    def used(self) -> dict[str, set[str]]:
        """Return what finished cells stand on, and may not be changed: the names of tasks, arms and pre-training runs."""
        done = [
            cell
            for cell in map(status, self.folder.glob("*--*--*.json"))
            if cell.get("status") == "done"
        ]
        arms = {cell["arm"] for cell in done}
        runs = {
            needs_run(arm) for name, arm in self.spec.arms.items() if name in arms
        } & self.spec.pretraining.keys()
        lines = {run for name in runs for run in self.spec.line_of(name)}
        return {
            "tasks": {cell["task"] for cell in done},
            "arms": arms,
            "pretraining": lines,
            "seeds": set(),
        }

    def cells(self, only: Iterable[str] = ()) -> list[Cell]:
        """Return the cells, or those that one of the patterns of `only` fits ("mtop--*--0")."""
        cells = self.spec.cells()
        for pattern in only:
            if not any(fnmatch.fnmatchcase(cell.name, pattern) for cell in cells):
                choose("cell", pattern, [cell.name for cell in cells])
        return [
            c
            for c in cells
            if not only or any(fnmatch.fnmatchcase(c.name, pattern) for pattern in only)
        ]

    def missing(self, cells: list[Cell], retry: bool = False) -> list[Cell]:
        """Return those of the cells that have no result; a failure is one, unless it shall be tried again."""
        kept = ("done",) if retry else ("done", "failed")
        return [c for c in cells if status(self.folder / c.file_name).get("status") not in kept]

    def run(
        self, only: Iterable[str] = (), *, retry: bool = False, backend: str = "loky"
    ) -> list[str]:
        """Compute what is missing, failed cells too if `retry`; return one line for each cell that has failed.

        Cells that another process works on are left to it; what it has not finished in the end is waited for.
        """
        choose("backend", backend, BACKENDS)
        cells = self.cells(only)
        self.claim()
        self.check_rows(self.missing(cells, retry))
        jobs = self.spec.jobs or (-1 if backend == "ray" else os.cpu_count() or 1)
        with shown(
            Progress(self.spec.name, self.folder, cells, jobs if jobs > 0 else cluster_cpus())
        ):
            lines = self.compute(self.missing(cells, retry), False, jobs, backend)
            lines += self.compute(self.missing(cells), True, jobs, backend)
        found = {c.file_name: status(self.folder / c.file_name) for c in cells}
        failed = [
            f"{name}: {content['error']}"
            for name, content in found.items()
            if content.get("status") == "failed"
        ]
        return [line for line in lines if line.startswith("pre-training")] + failed

    def check_rows(self, cells: list[Cell]) -> None:
        """Raise UsageError where the rows of a task are not those that its finished cells have."""
        for task in dict.fromkeys(cell.task for cell in cells):
            done = next(filter(is_done, self.folder.glob(f"{task}--*--*.json")), None)
            if (
                done
                and read_json(done).get("data", {}).get("splits") != self.data(task).metadata["splits"]
            ):
                raise UsageError(
                    f"{self.folder} holds cells on other rows of {task} ({done.name}); choose another --output_dir, or "
                    "delete that task's cells."
                )

    def compute(self, cells: list[Cell], wait: bool, jobs: int, backend: str) -> list[str]:
        """Compute these cells and the pre-training that they need; return one line for each failure."""
        work = [
            delayed(self.job)(self.prepare_run, name, task)
            for name, task in self.runs_needed(cells)
        ]
        work += [delayed(self.job)(self.run_cell, cell, wait) for cell in cells]
        order = interleave(
            work, len(cells), [c for c in cells if not needs_run(self.spec.arms[c.arm])]
        )
        if backend == "ray":
            join_ray()
        with (
            warnings.catch_warnings()
        ):  # joblib says so whenever it replaces a worker that has grown, which is no harm here
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
            with parallel_config(backend=backend):
                return [line for line in Parallel(n_jobs=jobs)(order) if line]

    def runs_needed(self, cells: list[Cell]) -> list[tuple[str, str]]:
        """Return (pre-training run, task) pairs that these cells start from, a run's budget giver before it."""
        wanted: dict[tuple[str, str], None] = {}
        for cell in cells:
            name = needs_run(self.spec.arms[cell.arm])
            if name in self.spec.pretraining:
                for run in self.spec.line_of(name):
                    wanted.setdefault((run, "" if self.spec.pretraining[run].task else cell.task))
        return sorted(wanted, key=lambda run: len(self.spec.line_of(run[0])))

    def prepare_run(self, name: str, task: str) -> str | None:
        """Make one pre-training run; return the line of its failure, if any (the cells that need it will say it too)."""
        failure = attempt(lambda: self.checkpoint(name, task))
        return failure and f"pre-training {name}: {failure}"

    def job(self, work: Callable[..., str | None], *arguments: Any) -> str | None:
        """Do one job of the experiment in a worker: one thread, no chatter."""
        torch.set_num_threads(1)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        datasets.disable_progress_bars()
        try:
            return work(*arguments)
        finally:
            release_memory()

    def data(self, task: str) -> PreparedTask:
        """Return a downstream task as ids, made once."""
        given, downstream = self.spec.tasks[task], self.spec.downstream(task)
        options = {"tokenizer": given.tokenizer, "vocab_size": given.vocab_size}
        recipe = downstream.rows_recipe()
        shared = given.tokenizer_corpora or []
        folder = (
            self.work
            / "data"
            / recipe_name(task, [recipe, options, [self.rows_of(name) for name in (task, *shared)]])
        )
        with lock(folder):
            corpus = (
                Corpus(lambda split: self.joined(shared, split), {"name": ", ".join(shared)})
                if shared
                else None
            )
            return prepare(
                downstream, folder, data_dir=self.data_dir(task), corpus=corpus, **options
            )

    def rows_of(self, name: str) -> list[str | None]:
        """Return what tells the rows of a task or corpus: its name and, of a local copy, a digest of its files."""
        if name in self.spec.tasks:
            place = self.spec.downstream(name).data_folder(self.data_dir(name))
        else:
            place = (
                None
                if name == "stdlib"
                else Path(corpus_source(name, self.spec.data_dir, files=True))
            )
        return [name, content_digest(place) if place and place.exists() else None]

    def joined(self, names: list[str], split: str) -> Iterator[str]:
        """Yield the texts of several tasks or corpora, each read when its turn comes."""
        for name in names:
            yield from self.text(name, TextSpec()).texts(split)

    def data_dir(self, task: str) -> str | None:
        """Return where the rows of a task or a corpus are, None for the Hub."""
        given = self.spec.tasks.get(task)
        return (given.data_dir if given else None) or self.spec.data_dir

    def run_of(self, name: str, task: str) -> PretrainingSpec:
        """Return a pre-training run for a task, where "self" is the task: runs on one text are one run."""
        run = self.spec.pretraining[name]
        corpus = task if run.corpus == SELF else run.corpus
        return replace(
            run, corpus=corpus, text=run.text or (TextSpec() if corpus in self.spec.tasks else None)
        )

    def text(self, name: str, text: TextSpec | None) -> Corpus:
        """Return the text of a task's train split, or of a corpus by name."""
        if name in self.spec.tasks:
            return self.spec.downstream(name).corpus(self.data_dir(name), text)
        return open_corpus(name, self.spec.data_dir, text)

    def checkpoint(self, name: str, task: str) -> Path:
        """Return the folder of a pre-training run, made once for each corpus in each tokenizer's ids."""
        spec = self.run_of(name, task)
        recipe, options = [stored_form(spec), stored_form(self.spec.model)], {}
        if spec.match_tokens_of:
            options["tokens"] = read_json(
                self.checkpoint(spec.match_tokens_of, task) / RESULT_FILE
            )["tokens"]
            recipe.append(options["tokens"])
        if spec.start in self.spec.pretraining:
            options["start"] = self.checkpoint(spec.start, task)
            recipe.append(options["start"].name)
        if spec.corpus:
            options |= {
                "tokenizer": self.data(task).tokenizer,
                "corpus": self.text(spec.corpus, spec.text),
            }
            recipe += [options["corpus"].metadata, tokenizer_metadata(options["tokenizer"])]
            name = f"{spec.objective or 'text'}-{Path(spec.corpus).name}"
        folder = self.work / "pretraining" / recipe_name(name, recipe)
        with lock(folder):
            pretrain(spec, self.spec.model, folder, **options)
        return folder

    def test_rows_seen(self, name: str, task: str) -> dict[str, int]:
        """Return for each labelled dataset among the corpora of a run and of those before it how many test rows it holds.

        A task's own text is proved to hold no row whole; a text of another dataset is not, and here it is counted.
        """
        found = {}
        for run in (self.run_of(name, task) for name in self.spec.line_of(name)):
            if run.corpus in self.spec.tasks:
                rows = self.spec.downstream(task).test_texts(self.data_dir(task))
                whole = {"shuffled_sentences": "shuffled_rows"}.get(
                    run.text.order, run.text.order
                )  # the same rows, uncut
                found[run.corpus] = count_seen(
                    rows, self.text(run.corpus, replace(run.text, order=whole))
                )
        return found

    def model(
        self, cell: Cell, data: PreparedTask
    ) -> tuple[PreTrainedModel, dict | None]:
        """Return the cell's model before fine-tuning, and the facts of its pre-training."""
        arm = self.spec.arms[cell.arm]
        config = self.spec.model.config(as_vocabulary(data.tokenizer))
        head = data.head_for(config)
        config = head.configure(config, data)
        if arm.init == "random":
            return build(head.model_class, config, {}, cell.seed), None
        own = arm.checkpoint in self.spec.pretraining
        source = self.checkpoint(arm.checkpoint, cell.task) if own else arm.checkpoint
        if arm.embeddings == "kept":
            check_ids(source, data.tokenizer)
        facts = {"name": arm.checkpoint} | spent_on(source) if source else None
        facts = (
            facts | {"test_rows_seen": self.test_rows_seen(arm.checkpoint, cell.task)}
            if own
            else facts
        )
        if (
            arm.embeddings == "kept" and not own
        ):  # released embeddings may have more rows than their tokenizer has ids
            config.vocab_size = AutoConfig.from_pretrained(source).vocab_size
        return started(head, config, source, arm, cell.seed), facts

    def run_cell(self, cell: Cell, wait: bool = True) -> str | None:
        """Compute one cell unless it is done, or another process is at it and we do not wait; return its failure, if any."""
        file = self.folder / cell.file_name
        try:
            with lock(self.folder / ".locks" / cell.file_name, wait):
                if is_done(file):
                    return None
                failure = attempt(lambda: write_json(file, self.result(cell)))
                if failure:
                    write_json(file, self.header(cell) | {"status": "failed", "error": failure})
                return failure and f"{cell.file_name}: {failure}"
        except Timeout:
            return None

    def header(self, cell: Cell) -> dict[str, Any]:
        """Return what names a cell and how it was made."""
        return {
            "format": FORMAT,
            "experiment": self.spec.name,
            **asdict(cell),
            "embeddings": self.spec.arms[cell.arm].embeddings,
            "config": {
                "arm": stored_form(self.spec.arms[cell.arm]),
                "task": recipe_of(self.spec)["tasks"][cell.task],
                "model": stored_form(self.spec.model),
                "finetuning": stored_form(self.spec.finetuning_of(cell.task)),
            },
            "versions": versions(),
        }

    def result(self, cell: Cell) -> dict[str, Any]:
        """Fine-tune and return the content of the cell's file."""
        started = time.perf_counter()
        data, arm = self.data(cell.task), self.spec.arms[cell.arm]
        model, pretraining = self.model(cell, data)
        adapt(model, arm, cell.seed)
        given = self.checkpoint(arm.compute_of, cell.task) if arm.compute_of else None
        outcome = finetune(
            model,
            data,
            self.spec.finetuning_of(cell.task),
            seed=cell.seed,
            output_dir=self.work / "finetuning" / cell.file_name,
            extra_flops=accumulated_cost(given).get("flops", 0.0),
        )
        phases = {"pretraining": pretraining, "finetuning": outcome.pop("spent")}
        facts = {
            "higher_is_better": True,
            "data": data.metadata,
            "wall_s": round(time.perf_counter() - started, 1),
        }
        return (
            self.header(cell)
            | {"status": "done", "error": None}
            | outcome
            | facts
            | {"phases": phases}
        )


def started(
    head: Head,
    config: PreTrainedConfig,
    source: Any,
    arm: ArmSpec,
    seed: int,
) -> PreTrainedModel:
    """Return a model made from a checkpoint as the arm says; of weights, only the body's go below a head for labels."""
    if arm.init == "weights" and head.adds_parameters:
        model = build(head.model_class, config, {}, seed)
        take_weights(model, source, arm.embeddings)
        return model
    scheme = (
        {"fresh": "body_weights", "kept": "weights"}[arm.embeddings]
        if arm.init == "weights"
        else arm.scheme
    )
    factory = StatisticsInit(
        head.model_class, scheme=scheme, seed=seed, value=arm.value, resize=arm.resize
    )
    return factory.from_config(config, source)


def spent_on(source: str | Path) -> dict[str, Any]:
    """Return what the pre-training of a checkpoint took, where it says so: a folder that we made, or what we release."""
    file = (
        Path(source) if Path(source).is_dir() else bundled_checkpoints().get(str(source), Path())
    ) / RESULT_FILE
    return read_json(file) if file.exists() else {}


def adapt(model: PreTrainedModel, arm: ArmSpec, seed: int) -> None:
    """Put the arm's LoRA adapters into the model and freeze the rest but fresh token embeddings."""
    if arm.lora is None:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(lora_config(arm.lora))
    names = embedding_names(model) if arm.embeddings == "fresh" else set()
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(True)


def recipe_of(spec: ExperimentSpec) -> dict[str, Any]:
    """Return what decides the results: the spec without the place of the data and the number of workers."""
    recipe = stored_form(spec) | {"jobs": 0, "data_dir": None}
    for task in recipe["tasks"].values():
        del task["data_dir"]
    return recipe


def stored_recipe(mark: Path) -> dict[str, Any]:
    """Return the recipe that a folder holds; what was written before an option existed has its default."""
    stored = read_json(mark)
    try:
        return recipe_of(build_spec(ExperimentSpec, stored, str(mark)))
    except UsageError as error:
        raise UsageError(
            f"{mark} is not an experiment's; choose another --output_dir. ({error})"
        ) from None


def join_ray() -> None:
    """Make Ray joblib's workers: the cluster of RAY_ADDRESS, else one on this machine. UsageError where it is missing."""
    try:
        from ray.util.joblib import register_ray
    except ImportError:
        raise UsageError(
            "backend is ray, which is not installed; `pip install hf_synpre[ray]`."
        ) from None
    register_ray()


def cluster_cpus() -> int:
    """Return the CPUs of the Ray cluster that this process belongs to, 1 where it does not yet."""
    import ray

    return int(ray.cluster_resources().get("CPU", 1)) if ray.is_initialized() else 1


def interleave(work: list, cells: int, free: list) -> list:
    """Return the jobs so that the first pre-training starts at once, beside cells that wait for none."""
    runs, jobs = work[: len(work) - cells], work[len(work) - cells :]
    return runs[:1] + jobs[: len(free)] + runs[1:] + jobs[len(free) :]


def release_memory() -> None:
    """Give freed memory back to the system where its C library can: joblib replaces workers that seem to leak."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def agree(stored: Any, wanted: Any, used: set[str] | None) -> bool:
    """Say whether a part of two configurations may share a folder; of `used` names only what both have must be equal."""
    if used is None:
        return stored == wanted
    return not isinstance(stored, dict) or all(
        stored[name] == wanted[name] for name in used & stored.keys() & wanted.keys()
    )


def recipe_name(name: str, recipe: Any) -> str:
    """Return `name` with a hash of the recipe: the same recipe finds what was made, another never does."""
    return f"{name}-{hashlib.blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=4).hexdigest()}"


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
    """Say whether a cell's file holds a finished result."""
    return status(file).get("status") == "done"
