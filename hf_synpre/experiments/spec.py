"""Layer 4: what an experiment's YAML holds."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_synpre.config import build_spec
from hf_synpre.data.tokenizers import check_vocab_size
from hf_synpre.errors import UsageError, as_integer, choose
from hf_synpre.finetuning import (
    PRESET_NAMES,
    FinetuningSpec,
    FinetuningTask,
    get_finetuning_task,
    task_from_fields,
)
from hf_synpre.initialization import RESIZE, SCHEMES
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining_spec import PretrainingSpec

SELF = "self"  # the corpus that is the train split of the task at hand


@dataclass
class ArmSpec:
    """A start of fine-tuning: random weights, a checkpoint's weights, or weights sampled from its statistics.

    `checkpoint` is the name of a pre-training run of the experiment, a folder or a Hub id; `embeddings` says whether the
    token embeddings come along ("kept") or stay random ("fresh"); `value` is the constant of constant_pre_attn_ln, `resize`
    StatisticsInit's rule for statistics of another size.
    `compute_of` names a run whose FLOPs a random start gets as further fine-tuning steps. `lora` holds fields of peft's
    LoraConfig: then only the adapters are trained, and fresh embeddings. `tasks` limits the arm to some tasks.
    """

    init: str = "random"
    checkpoint: str | None = None
    scheme: str = "per_param_mean_sd"
    embeddings: str = "fresh"
    value: float = 0.4
    resize: str = "fan_in"
    compute_of: str | None = None
    lora: dict[str, Any] | None = None
    tasks: list[str] | None = None

    def __post_init__(self) -> None:
        choose("init of an arm", self.init, ("random", "weights", "statistics"))
        choose("embedding policy", self.embeddings, ("fresh", "kept"))
        choose("scheme", self.scheme, SCHEMES)
        choose("resize", self.resize, RESIZE)
        scheme = SCHEMES[self.scheme] if self.init == "statistics" else None
        if (self.checkpoint is None) != (
            self.init == "random" or (scheme is not None and not scheme.needs_checkpoint)
        ):
            raise UsageError(
                f"An arm with init {self.init} has checkpoint {self.checkpoint!r}; random and constant schemes take none, "
                "the others one."
            )
        self._check_ignored(scheme)
        if scheme is not None and (self.embeddings == "kept") != scheme.embeddings:
            wanted = "kept" if scheme.embeddings else "fresh"
            raise UsageError(
                f"An arm with scheme {self.scheme} has embeddings {self.embeddings}; give {wanted}."
            )
        if self.compute_of is not None and self.init != "random":
            raise UsageError(
                f"An arm with init {self.init} has compute_of {self.compute_of!r}; only random takes it."
            )
        if self.lora is not None:
            lora_config(self.lora)
        if self.tasks == []:
            raise UsageError("An arm has tasks []; name at least one, or leave it out for all.")

    def _check_ignored(self, scheme: Any) -> None:
        """Raise UsageError on a field that this init does not read."""
        ignored = {
            "scheme": (scheme is None and self.scheme != "per_param_mean_sd", "init statistics"),
            "value": (
                self.value != 0.4 and (scheme is None or scheme.needs_checkpoint),
                "scheme constant_pre_attn_ln",
            ),
            "embeddings": (
                self.init == "random" and self.lora is None and self.embeddings != "fresh",
                "lora or a checkpoint",
            ),
        }
        for name, (found, reader) in ignored.items():
            if found:
                start = f"scheme {self.scheme}" if scheme is not None else f"init {self.init}"
                raise UsageError(
                    f"An arm with {start} has {name} {getattr(self, name)}, which only {reader} takes; leave it out."
                )


def lora_config(given: dict[str, Any]) -> Any:
    """Return peft's LoraConfig with these fields. Raises UsageError where peft is missing or refuses one."""
    try:
        from peft import LoraConfig
    except ImportError:
        raise UsageError(
            "An arm has lora, and peft is not installed; `pip install peft`."
        ) from None
    for name, value in given.items():
        choose("field of lora", name, LoraConfig.__dataclass_fields__)
        if name in ("r", "lora_alpha") and not (as_integer(value) or 0) > 0:
            raise UsageError(f"The field {name} of lora is {value!r}; give an integer >= 1.")
    try:
        return LoraConfig(**given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"lora {given} was refused: {' '.join(str(error).split())}") from None


@dataclass
class TaskSpec:
    """A downstream task of an experiment: where its rows are, how they become ids, what differs in its fine-tuning.

    `tokenizer_corpora` names the tasks and corpora whose text the tokenizer of `vocab_size` ids is trained on, where it is
    not the task's own: with one vocabulary, one pre-training on a corpus serves all tasks.
    `define` holds the fields of a DownstreamTask for a task that is not in hf_synpre; `finetuning` fields of FinetuningSpec
    that win over the experiment's and the preset's; `seeds` replaces the experiment's.
    """

    data_dir: str | None = None
    tokenizer: str | None = None
    vocab_size: int = 1024
    tokenizer_corpora: list[str] | None = None
    max_source: int | None = None
    max_target: int | None = None
    define: dict[str, Any] | None = None
    finetuning: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] | None = None

    def __post_init__(self) -> None:
        check_folder(self.data_dir)
        if self.tokenizer is None:
            check_vocab_size(self.vocab_size)
        elif self.tokenizer_corpora is not None:
            raise UsageError(
                f"A task has the tokenizer '{self.tokenizer}' and tokenizer_corpora to train one on; leave one out."
            )
        if self.tokenizer_corpora == []:
            raise UsageError(
                "tokenizer_corpora is empty; name a task or a corpus, or leave it out."
            )
        for name in ("max_source", "max_target"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"A downstream task has {name} {value}; give an integer >= 1.")


@dataclass(frozen=True)
class Cell:
    """One fine-tuning of one arm on one task under one seed."""

    task: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """How the cell is named on the command line."""
        return f"{self.task}--{self.arm}--{self.seed}"

    @property
    def file_name(self) -> str:
        """The name of its result file."""
        return f"{self.name}.json"


@dataclass
class ExperimentSpec:
    """What an experiment's YAML holds.

    Fine-tuning follows `finetuning`, then the task's `preset` ("small" or "paper") if one is named, then the task's own.
    """

    name: str
    tasks: dict[str, TaskSpec]
    arms: dict[str, ArmSpec]
    model: ModelSpec = field(default_factory=ModelSpec)
    pretraining: dict[str, PretrainingSpec] = field(default_factory=dict)
    finetuning: FinetuningSpec = field(default_factory=FinetuningSpec)
    preset: str | None = None
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    jobs: int = 0
    data_dir: str | None = None

    def __post_init__(self) -> None:
        for name in (self.name, *self.tasks, *self.arms, *self.pretraining):
            if not re.fullmatch(r"\w+(-\w+)*", name):
                raise UsageError(
                    f"The name '{name}' becomes a file name; use letters, digits, _ and single -."
                )
        check_folder(self.data_dir)
        if self.preset is not None:
            choose("preset", self.preset, PRESET_NAMES)
        for name in self.tasks:
            self.finetuning_of(name)
            self.downstream(name)
        for what in ("tasks", "arms"):
            if not getattr(self, what):
                raise UsageError(f"{what} is empty; name at least one.")
        for seeds in (
            self.seeds,
            *(task.seeds for task in self.tasks.values() if task.seeds is not None),
        ):
            if (
                not seeds
                or min(seeds) < 0
                or max(seeds) >= 2**32
                or len(set(seeds)) != len(seeds)
                or self.jobs < 0
            ):
                raise UsageError(
                    f"seeds is {seeds}, jobs {self.jobs}; give distinct seeds in 0..2**32-1 and jobs >= 0 (0: one a core)."
                )
        self._check_names()

    def _check_names(self) -> None:
        for name, run in self.pretraining.items():
            if run.match_tokens_of is not None:
                choose(
                    f"run that '{name}' takes its budget from",
                    run.match_tokens_of,
                    set(self.pretraining) - {name},
                )
            self.line_of(name)
        for name, arm in self.arms.items():
            for task in arm.tasks or ():
                choose(f"task of the arm '{name}'", task, self.tasks)
            close = difflib.get_close_matches(arm.checkpoint or "", self.pretraining, 1, 0.75)
            if (
                close
                and arm.checkpoint not in self.pretraining
                and not Path(arm.checkpoint).exists()
            ):
                raise UsageError(
                    f"The arm '{name}' has checkpoint '{arm.checkpoint}'; did you mean the run '{close[0]}'?"
                )
            if arm.compute_of is not None:
                choose(
                    f"run that '{name}' takes its compute from", arm.compute_of, self.pretraining
                )

    def line_of(self, run: str, seen: tuple[str, ...] = ()) -> list[str]:
        """Return the runs that a run needs, itself last: what it starts from, what gives its budget. UsageError: a ring."""
        if run in seen:
            raise UsageError(
                f"The runs {', '.join(seen)} need each other; start one of them from something else."
            )
        spec = self.pretraining[run]
        needed = [name for name in (spec.match_tokens_of, spec.start) if name in self.pretraining]
        before = [name for need in needed for name in self.line_of(need, (*seen, run))]
        return [*dict.fromkeys(before), run]

    def preset_of(self, task: str) -> dict[str, Any]:
        """Return what the preset says about a task: fields of TaskSpec. Raises UsageError where the task has none."""
        if self.preset is None:
            return {}
        return definition(task, self.tasks[task]).presets[
            choose(f"preset of {task}", self.preset, self._presets(task))
        ]

    def _presets(self, task: str) -> Iterable[str]:
        return definition(task, self.tasks[task]).presets

    def downstream(self, task: str) -> FinetuningTask:
        """Return a downstream task with the lengths that the preset and the YAML give it."""
        given, preset = self.tasks[task], self.preset_of(task)
        return definition(task, given).with_lengths(
            given.max_source or preset.get("max_source"),
            given.max_target or preset.get("max_target"),
        )

    def finetuning_of(self, task: str) -> FinetuningSpec:
        """Return the recipe of fine-tuning on a task."""
        layers = [
            asdict(self.finetuning),
            self.preset_of(task).get("finetuning", {}),
            self.tasks[task].finetuning,
        ]
        training = {}
        for layer in layers:
            training |= layer.get("training") or {}
        merged = {name: value for layer in layers for name, value in layer.items()}
        return build_spec(
            FinetuningSpec, merged | {"training": training}, f"tasks.{task}.finetuning"
        )

    def cells(self) -> list[Cell]:
        """Return all cells, in an order that lets two workers stay busy: arms that wait for no pre-training come first."""
        free = [name for name, arm in self.arms.items() if not needs_run(arm)]
        bound = [name for name in self.arms if name not in free]
        return [
            Cell(task, arm, seed)
            for arms in (free, bound)
            for task, given in self.tasks.items()
            for arm in arms
            if task in (self.arms[arm].tasks or self.tasks)
            for seed in (given.seeds or self.seeds)
        ]


def needs_run(arm: ArmSpec) -> str | None:
    """Return the name of the checkpoint that must be there before an arm's cells can start, if any."""
    return arm.checkpoint or arm.compute_of


def check_folder(data_dir: str | None) -> None:
    """Raise UsageError where a folder of data is given and missing."""
    if data_dir is not None and not Path(data_dir).is_dir():
        raise UsageError(
            f"There is no folder {data_dir}; give the folder of a dataset in Hub layout."
        )


def definition(name: str, given: TaskSpec) -> FinetuningTask:
    """Return the task of hf_synpre by this name, or the one that the YAML defines."""
    if given.define is None:
        return get_finetuning_task(name)
    return task_from_fields(name, given.define)
