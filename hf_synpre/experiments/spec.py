"""Experiments: the keys of their YAML -> a checked ExperimentSpec, and its cells."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_synpre.config import build_spec, check_read, option
from hf_synpre.errors import UsageError, choose
from hf_synpre.experiments.arm import ArmSpec
from hf_synpre.experiments.task import TaskSpec, check_folder
from hf_synpre.finetuning import (
    PRESET_NAMES,
    FinetuningSpec,
    FinetuningTask,
    find_head,
    get_finetuning_task,
    task_from_fields,
)
from hf_synpre.finetuning.text_tasks import EMBEDDED_TASK, TextToTextTask
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import check_needs, given_training
from hf_synpre.training.pretraining_spec import PretrainingSpec

# The corpus with this name is the train split of the task that is fine-tuned on.
SELF = "self"
# The arm beside which the report sets all others.
RANDOM_ARM = "random"
# Names become parts of file names, TASK--ARM--SEED, so they have single hyphens only.
NAME_PATTERN = r"\w+(-\w+)*"
# An arm's checkpoint that is so similar to the name of a run, but no folder, is a typing error.
MISTYPED = 0.75
# The seed of the cells that choose a learning rate. No cell that is tested has it, so the choice
# favours none of them.
TRIAL_SEED = 2**32 - 1


@dataclass(frozen=True)
class Cell:
    """A fine-tuning run: one arm on one task with one seed.

    A cell with a rate is a trial: it tries this learning rate on the validation rows, and is not
    tested. In an arm with several initial_scales it has one of them. The pre-training seed is what
    is added to the seeds of the runs that it starts from, in an experiment with pretraining_seeds.
    """

    task: str
    arm: str
    seed: int
    rate: float | None = None
    scale: float | None = None
    pretraining_seed: int = 0

    @property
    def name(self) -> str:
        """The name of the cell on the command line: TASK--ARM--SEED.

        Of another pre-training seed than 0 it is TASK--ARM--SEED-pPRETRAINING_SEED, so cells keep
        their names where pre-training gets further seeds. That of a trial is TASK--ARM--lrRATE, or
        TASK--ARM--lrRATE-scaleSCALE. The report tells trials from results by this name.
        """
        last = str(self.seed) if self.rate is None else f"lr{self.rate}"
        if self.scale is not None:
            last += f"-scale{self.scale}"
        if self.pretraining_seed:
            last += f"-p{self.pretraining_seed}"
        return f"{self.task}--{self.arm}--{last}"

    @property
    def file_name(self) -> str:
        """The name of its result file."""
        return f"{self.name}.json"


@dataclass
class ExperimentSpec:
    """What an experiment's YAML holds.

    The recipe of fine-tuning on a task is `finetuning`, overridden by the task's preset, overridden
    by the task's key `finetuning`.

    Raises:
        UsageError: a value that is not allowed, or the name of a run or task that does not exist.
    """

    name: str = option("The name of the experiment, and of its folder under runs/.")
    tasks: dict[str, TaskSpec] = option("The downstream tasks by name.")
    arms: dict[str, ArmSpec] = option(
        "Where weights come from before fine-tuning, by name; the others are compared with random."
    )
    model: ModelSpec = option("The architecture of all models.", default_factory=ModelSpec)
    pretraining: dict[str, PretrainingSpec] = option(
        "The pre-training runs by name.", default_factory=dict
    )
    finetuning: FinetuningSpec = option(
        "The recipe of fine-tuning, the same for every arm.", default_factory=FinetuningSpec
    )
    preset: str | None = option(
        "The recipe and lengths that each task brings: small or paper.", None
    )
    seeds: list[int] = option(
        "Seeds of fine-tuning: of fresh weights, of the order of rows and of dropout.",
        default_factory=lambda: [0, 1, 2],
    )
    paired_pretraining: bool = option(
        "Cells with seed s start from runs of pre-training with s added to their seed, made for "
        "each seed, so that intervals hold the variance of pre-training too; without it all cells "
        "start from the same runs.",
        False,
        is_added=True,
    )
    pretraining_seeds: list[int] | None = option(
        "Numbers that are added to the seeds of the pre-training runs, such as [0, 1, 2]: each run "
        "is made with each of them, and each is fine-tuned with all seeds, so that intervals hold "
        "the variance of both. Without it [0].",
        None,
        is_added=True,
    )
    reference: str | None = option(
        "The arm whose gain over random is 100 % of the benefit that the report gives: the "
        "best-trained one on natural text. Without it the arm called natural.",
        None,
        is_added=True,
    )
    save_models: bool = option(
        "Keep the fine-tuned model of every cell with its tokenizer and card, in a folder of the "
        "cell's name beside its scores.",
        False,
    )
    jobs: int = option("Cells that are computed at the same time; 0 for one a core.", 0)
    data_dir: str | None = option(
        "A folder of local copies of the datasets in Hub layout, corpora too, relative to where "
        "the command runs; the Hub without it.",
        None,
    )
    imports: list[str] = option(
        "Your own Python files that register synthetic tasks, relative to this file "
        "(docs/synthetic_tasks.md).",
        default_factory=list,
    )

    def __post_init__(self) -> None:
        # Names.
        for name in (self.name, *self.tasks, *self.arms, *self.pretraining):
            if not re.fullmatch(NAME_PATTERN, name):
                raise UsageError(
                    f"The name '{name}' becomes a file name; use letters, digits, _ and single -."
                )
        check_folder(self.data_dir, "folder", "give the folder that holds the datasets")
        if self.preset is not None:
            choose("preset", self.preset, PRESET_NAMES)

        for key in ("tasks", "arms"):
            if not getattr(self, key):
                raise UsageError(f"{key} is empty; name at least one.")

        # Build every task with its lengths and its recipe, which checks them.
        for name in self.tasks:
            self.finetuning_spec(name)
            self._check_data_dir(name)
        self.check_recipe()

        if self.jobs < 0:
            raise UsageError(f"jobs is {self.jobs}; give jobs >= 0 (0: one a core).")
        self._check_seeds(self.seeds)
        for task in self.tasks.values():
            if task.seeds is not None:
                self._check_seeds(task.seeds)
        self._check_pretraining_seeds()
        self._check_references()
        self._check_trial_seed()

    def _check_data_dir(self, task: str) -> None:
        """Raise UsageError where the rows of a task are made here, and a folder is named."""
        folder = self.tasks[task].data_dir
        is_read = folder is None or self.finetuning_task(task).data_folder(folder) is not None
        if task == EMBEDDED_TASK and not is_read:
            raise UsageError(
                f"The rows of {task} are made of Python's standard library, and there is no folder "
                f"{task} of others in {folder}; leave data_dir out."
            )

    def check_recipe(self, decodes: bool | None = None) -> None:
        """Raise UsageError on an option of tasks and fine-tuning that the model does not read.

        Args:
            decodes: whether the model is a decoder; None where it is not known yet.
        """
        has: dict[str, bool | None] = {}
        for task in self.tasks:
            made = self.finetuning_task(task)
            if decodes is False and isinstance(made, TextToTextTask):
                made.check_chat(decodes)
            head = find_head(made.head_name)
            options = self.finetuning_spec(task, decodes).options_read(head.answer, decodes)
            for name, is_read in options.items():
                if is_read is not False:  # what is not known yet is not refused
                    has[name] = is_read
                has.setdefault(name, False)
        check_read(self.finetuning, has, what="this experiment")

    def _check_seeds(self, seeds: list[int], name: str = "seeds") -> None:
        """Raise UsageError on seeds that are not allowed."""
        allowed = bool(seeds) and min(seeds) >= 0 and max(seeds) < 2**32
        if not allowed or len(set(seeds)) != len(seeds):
            raise UsageError(f"{name} is {seeds}; give distinct seeds in 0..2**32-1.")

    def _check_pretraining_seeds(self) -> None:
        """Raise UsageError on pre-training seeds that are not allowed, or that nothing reads."""
        for seeds in (self.pretraining_seeds, *(a.pretraining_seeds for a in self.arms.values())):
            if seeds is None:
                continue
            self._check_seeds(seeds, "pretraining_seeds")
            if self.paired_pretraining:
                raise UsageError(
                    f"pretraining_seeds is {seeds}, and paired_pretraining gives each seed a "
                    "pre-training of its own; give one of them."
                )
        reads_runs = any(arm.needed_checkpoint in self.pretraining for arm in self.arms.values())
        if self.pretraining_seeds is not None and not reads_runs:
            raise UsageError(
                f"pretraining_seeds is {self.pretraining_seeds}, and no arm starts from a "
                "pre-training run of the experiment; leave it out."
            )
        if self.paired_pretraining and not reads_runs:
            raise UsageError(
                "paired_pretraining gives each seed pre-training runs of its own, and no arm "
                "starts from a pre-training run of the experiment; leave it out."
            )
        for name, arm in self.arms.items():
            if arm.pretraining_seeds is not None and arm.checkpoint not in self.pretraining:
                raise UsageError(
                    f"The arm '{name}' has pretraining_seeds and starts from no pre-training run "
                    "of the experiment; give the checkpoint of a run, or leave pretraining_seeds "
                    "out."
                )

    def _check_trial_seed(self) -> None:
        """Raise UsageError where a cell has the seed with which its learning rate is chosen."""
        for cell in self.cells():
            if cell.rate is None and cell.seed == TRIAL_SEED and self.trials(cell):
                raise UsageError(
                    f"The seed {TRIAL_SEED} is that with which learning rates are chosen; give "
                    "another one."
                )

    def _check_references(self) -> None:
        """Raise UsageError where a run or an arm names a run or a task that does not exist."""
        for name, run in self.pretraining.items():
            if run.text is not None and (run.corpus == SELF or run.corpus in self.tasks):
                run.text.check_options(f"the task of '{name}'", has_configs=False)
            if run.match_tokens_of is not None:
                others = set(self.pretraining) - {name}
                choose(f"run that '{name}' takes its budget from", run.match_tokens_of, others)
            self.dependencies(name)

        if self.reference is not None:
            possible = [name for name in self.arms if name != RANDOM_ARM]
            choose("arm as the reference", self.reference, possible)
        for name, arm in self.arms.items():
            for task in arm.tasks or ():
                choose(f"task of the arm '{name}'", task, self.tasks)
            if arm.match_flops_of is not None:
                choose(
                    f"run that '{name}' takes its compute from",
                    arm.match_flops_of,
                    self.pretraining,
                )
            self._check_mistyped(name, arm.checkpoint)

    def _check_mistyped(self, arm: str, checkpoint: str | None) -> None:
        """Raise UsageError where an arm's checkpoint is almost the name of a run, and no folder."""
        if checkpoint is None or checkpoint in self.pretraining or Path(checkpoint).exists():
            return
        close = difflib.get_close_matches(checkpoint, self.pretraining, n=1, cutoff=MISTYPED)
        if close:
            raise UsageError(
                f"The arm '{arm}' has checkpoint '{checkpoint}'; did you mean the run '{close[0]}'?"
            )

    def dependencies(self, run: str, needed_by: tuple[str, ...] = ()) -> list[str]:
        """Return the runs that must be made for a pre-training run, itself last.

        Those are the run that it starts from, and the run whose number of tokens it matches.

        Args:
            run: the name of the run.
            needed_by: the runs that need this one, in the recursion.

        Raises:
            UsageError: runs need each other.
        """
        if run in needed_by:
            raise UsageError(
                f"The runs {', '.join(needed_by)} need each other; "
                "start one of them from something else."
            )
        spec = self.pretraining[run]
        earlier: list[str] = []
        for name in (spec.match_tokens_of, spec.start):
            if name in self.pretraining:
                earlier += self.dependencies(name, (*needed_by, run))
        return [*dict.fromkeys(earlier), run]

    def added_seed(self, cell: Cell) -> int:
        """Return what is added to the seed of the pre-training runs that a cell starts from.

        A trial of a learning rate starts from the runs of the first seed, and an arm that gets the
        FLOPs of a run gets those of its first seed.
        """
        if not self.paired_pretraining:
            is_first = cell.rate is not None or self.arms[cell.arm].match_flops_of is not None
            return self._seeds_of_runs(cell.arm)[0] if is_first else cell.pretraining_seed
        if cell.rate is not None:
            return (self.tasks[cell.task].seeds or self.seeds)[0]
        return cell.seed

    def _seeds_of_runs(self, arm: str) -> list[int]:
        """Return what is added to the seeds of the pre-training runs that an arm reads."""
        if self.arms[arm].needed_checkpoint not in self.pretraining:
            return [0]
        return self.arms[arm].pretraining_seeds or self.pretraining_seeds or [0]

    def _pretraining_seeds(self, arm: str) -> list[int]:
        """Return the pre-training seeds of an arm's cells: 0 where it has no run of its own."""
        return self._seeds_of_runs(arm) if self.arms[arm].checkpoint is not None else [0]

    def preset_fields(self, task: str) -> Mapping[str, Any]:
        """Return the fields of TaskSpec that the experiment's preset gives a task.

        Raises:
            UsageError: the task has no such preset.
        """
        if self.preset is None:
            return {}
        presets = self._defined_task(task).presets
        return presets[choose(f"preset of {task}", self.preset, presets)]

    def finetuning_task(self, task: str) -> FinetuningTask:
        """Return a downstream task with the lengths that the YAML or the preset gives it."""
        spec = self.tasks[task]
        preset = self.preset_fields(task)
        made = self._defined_task(task).with_lengths(
            spec.max_source or preset.get("max_source"),
            spec.max_target or preset.get("max_target"),
        )
        if not spec.chat_template:
            return made
        if not isinstance(made, TextToTextTask):
            raise UsageError(f"The task {task} is not answered with text; leave chat_template out.")
        return replace(made, chat_template=True)

    def _defined_task(self, task: str) -> FinetuningTask:
        """Return the task of hf_synpre by this name, or the one that the YAML defines."""
        fields = self.tasks[task].define
        if fields is None:
            return get_finetuning_task(task)
        return task_from_fields(task, fields)

    def finetuning_spec(self, task: str, decodes: bool | None = None) -> FinetuningSpec:
        """Return the recipe of fine-tuning on a task.

        Args:
            task: the name of the task.
            decodes: whether the model is a decoder; None where it is not known yet.

        Raises:
            UsageError: a value that is not allowed, or one given for this task that its kind of
                answer does not read.
        """
        # Each layer wins over those before it; training arguments are merged one by one.
        merged: dict[str, Any] = {}
        training: dict[str, Any] = {}
        where = f"tasks.{task}.finetuning"
        own_training = given_training(self.tasks[task].finetuning, where)
        if {"max_steps", "num_train_epochs"} <= own_training.keys():
            raise UsageError(
                f"The fine-tuning on {task} has max_steps and num_train_epochs; give one of them."
            )
        for fields in (
            asdict(self.finetuning),
            self.preset_fields(task).get("finetuning", {}),
            self.tasks[task].finetuning,
        ):
            training.update(given_training(fields, where))
            merged.update(fields)
        if "num_train_epochs" in own_training:
            training.pop("max_steps", None)  # of a preset, which would win
        if merged.get("learning_rates"):
            if "learning_rate" in own_training:
                raise UsageError(
                    f"The fine-tuning on {task} has learning_rates and the training argument "
                    "learning_rate; give one of them (a list of one rate is not tuned)."
                )
            training.pop("learning_rate", None)  # of a preset
        merged["training"] = training
        check_needs({*own_training, *self.finetuning.training}, training)
        spec = build_spec(FinetuningSpec, merged, where)

        # Of what is given for this task all must be read.
        own = {**self.tasks[task].finetuning, "training": {}}
        head = find_head(self.finetuning_task(task).head_name)
        has = spec.options_read(head.answer, decodes)
        check_read(build_spec(FinetuningSpec, own, where), has, what=f"the task {task}")
        return spec

    def learning_rates(self, task: str, arm: str) -> list[float]:
        """Return the grid of an arm on a task, of which one rate is chosen; [] without a grid."""
        return self.arms[arm].learning_rates or self.finetuning_spec(task).learning_rates or []

    def trials(self, cell: Cell) -> list[Cell]:
        """Return the trials of a cell, which choose its learning rate and initial scale.

        There are none where it has one of each.
        """
        rates = self.learning_rates(cell.task, cell.arm)
        scales: Sequence[float | None] = self.arms[cell.arm].initial_scales or [None]
        if cell.rate is not None or (len(rates) < 2 and len(scales) < 2):
            return []
        if not rates:
            training = self.finetuning_spec(cell.task).training
            rates = [training.get("learning_rate", TrainingArguments.learning_rate)]
        return [
            Cell(cell.task, cell.arm, TRIAL_SEED, rate, scale) for rate in rates for scale in scales
        ]

    def recipe(self, cell: Cell, rate: float | None = None) -> FinetuningSpec:
        """Return the recipe of one cell, which has one learning rate.

        Args:
            cell: the cell; that of a trial is its own.
            rate: the rate that the cell's trials chose.
        """
        spec = self._stretched(self.finetuning_spec(cell.task), cell.arm)
        rates = self.learning_rates(cell.task, cell.arm)
        if not rates:
            return spec
        if len(rates) == 1:
            rate = rates[0]
        training = spec.training | {"learning_rate": cell.rate or rate}
        return replace(spec, training=training, learning_rates=None)

    def _stretched(self, spec: FinetuningSpec, arm: str) -> FinetuningSpec:
        """Return a recipe with as many steps or epochs as the budget of an arm asks for."""
        budget = self.arms[arm].finetuning_budget
        if budget == 1:
            return spec
        steps = spec.training.get("max_steps")
        if steps is not None:
            steps = max(round(steps * budget), min(steps, 1))
            return replace(spec, training=spec.training | {"max_steps": steps})
        epochs = spec.training.get("num_train_epochs", TrainingArguments.num_train_epochs)
        return replace(spec, training=spec.training | {"num_train_epochs": epochs * budget})

    def cells(self) -> list[Cell]:
        """Return all cells in the order of their computation.

        Arms that need no pre-training run come first, so that workers are busy while the first
        checkpoint is made. The trials of a cell stand before it.
        """
        independent = [name for name, arm in self.arms.items() if not arm.needed_checkpoint]
        dependent = [name for name in self.arms if name not in independent]
        cells = []
        for arms in (independent, dependent):
            tested = []
            for task, spec in self.tasks.items():
                for arm in arms:
                    if task in (self.arms[arm].tasks or self.tasks):
                        tested += [
                            Cell(task, arm, seed, pretraining_seed=added)
                            for added in self._pretraining_seeds(arm)
                            for seed in spec.seeds or self.seeds
                        ]
            trials = [trial for cell in tested for trial in self.trials(cell)]
            cells += [*dict.fromkeys(trials), *tested]
        return cells
