"""Layer 4: what a pre-training run is asked for: its recipe, and the presets of both papers."""

import math
from dataclasses import dataclass, field
from typing import Any

from hf_synpre.data.corpora import TextSpec
from hf_synpre.errors import UsageError, choose
from hf_synpre.models.packed_forward import local_weights, t5x_weights
from hf_synpre.training.optimizers import SCHEDULES
from hf_synpre.training.pretraining_data import TEXT_TASKS, check_source
from hf_synpre.training.trainer import check_training

# What the papers did (spec, section 3) and what reaches their 99 % soonest (benchmarks/recipe.py; examples/LOG.md).
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "batching": "padded",
        "batch_size": 128,
        "schedule": "rsqrt",
        "initial_weights": "t5x",
        "evaluations": 16,
        "validation_examples": 2560,
        "competence": 0.99,
        "training": {"max_steps": 80_000, "optim": "adafactor", "learning_rate": 1.0},
    },
    "fast": {
        "batching": "packed",
        "batch_size": 64,
        "evaluations": 80,
        "competence": 0.99,
        "training": {
            "max_steps": 8000,
            "optim": "adafactor",
            "learning_rate": 3e-2,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 50,
            "bf16": True,
        },
    },
}
# ELECTRA-small and RoBERTa-base on a dataset's own text (Krishna et al. 2022; spec, sections 3.1 to 3.3) and parts of their
# budgets. RoBERTa's betas, weight decay and epsilon are those of its paper.
SELF_PRETRAINING: dict[str, dict[str, Any]] = {
    "electra": {
        "objective": "rtd",
        "window": 128,
        "pairs": True,
        "batch_size": 128,
        "schedule": "electra",
        "bias_correction": False,
        "training": {
            "max_steps": 1_000_000,
            "warmup_steps": 10_000,
            "adam_epsilon": 1e-6,
            "weight_decay": 0.01,
        },
    },
    "roberta": {
        "objective": "mlm",
        "window": 512,
        "batch_size": 512,
        "training": {
            "max_steps": 100_000,
            "warmup_steps": 6_000,
            "lr_scheduler_type": "linear",
            "adam_beta2": 0.98,
            "adam_epsilon": 1e-6,
            "weight_decay": 0.01,
        },
    },
}
BUDGETS = {"": 1.0, "_tenth": 0.1, "_hundredth": 0.01, "_smoke": 0.0001}


def part_of(recipe: dict[str, Any], share: float) -> dict[str, Any]:
    """Return a recipe with a share of its steps and of its warm-up."""
    steps = {
        name: round(recipe["training"][name] * share) for name in ("max_steps", "warmup_steps")
    }
    common = {"optim": "adamw_torch", "learning_rate": 5e-4}
    return recipe | {
        "text": {},
        "competence": 1.1,
        "evaluations": 20,
        "training": common | recipe["training"] | steps,
    }


PRESETS |= {
    name + part: part_of(recipe, share)
    for name, recipe in SELF_PRETRAINING.items()
    for part, share in BUDGETS.items()
}
INITIAL_WEIGHTS = {"transformers": None, "t5x": t5x_weights, "local": local_weights}


@dataclass
class PretrainingSpec:
    """What is pre-trained on, for how long. Exactly one of `task` (synthetic) and `corpus` (text; see texts.open_corpus).

    With `text` the corpus is a dataset's train split by that recipe, cut end to end into windows that every epoch has
    anew (`pairs`: of two segments, ELECTRA's); without, windows begin anywhere.
    `objective` is seq2seq, span_corruption, causal, mlm or rtd (replaced-token detection, its generator
    `generator_fraction` as wide); the usual one of the model without it. `batching` is padded,
    bucketed (similar lengths together) or packed (rows of about `row_length` input positions, four mean examples without
    it). `batch_size` counts the examples of a step over all processes (packed: as many rows, a multiple of 8, as hold
    them); without it training.per_device_train_batch_size counts the rows of one. `budget_of` names another run whose
    token count this one gets; otherwise training.max_steps, or as many steps as `budget_tokens` or `budget_flops` pay
    for, is the budget; `budget_seconds` of training end it before.
    `initial_weights` is transformers, t5x, or local (half the heads of an encoder with a learned table of positions
    attend to near ids first: it learns text much sooner; LOG.md); `start` a checkpoint (folder, Hub id, in an experiment
    another run) to go on from, its token embeddings "kept", and its head where it has that of this objective, or "fresh".
    """

    task: str | None = None
    preset: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    vocabulary: int | None = None
    ramp_steps: int = 0
    corpus: str | None = None
    text: TextSpec | None = None
    window: int = 64
    pairs: bool = False
    generator_fraction: float = 0.25
    start: str | None = None
    start_embeddings: str = "kept"
    objective: str | None = None
    loss_on: str = "targets"
    batching: str = "bucketed"
    row_length: int | None = None
    batch_size: int | None = None
    schedule: str | None = None
    bias_correction: bool = True
    initial_weights: str = "transformers"
    budget_of: str | None = None
    budget_tokens: int | None = None
    budget_flops: float | None = None
    budget_seconds: float | None = None
    competence: float = 0.99
    evaluations: int = 10
    validation_examples: int = 512
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.task is None) == (self.corpus is None):
            raise UsageError(
                f"Pre-training has task {self.task!r} and corpus {self.corpus!r}; give exactly one of the two."
            )
        check_source(self)
        choose("initial_weights", self.initial_weights, INITIAL_WEIGHTS)
        if self.schedule is not None:
            choose("schedule", self.schedule, SCHEDULES)
        for name in ("window", "row_length", "batch_size", "evaluations", "validation_examples"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"pretraining: {name} is {value}; give an integer >= 1.")
        if not self.competence > 0 or not 0 <= self.seed < 2**32:
            raise UsageError(
                f"pretraining: competence is {self.competence}, seed {self.seed}; give a share above 0 "
                "(above 1: never stop) and 0 <= seed < 2**32."
            )
        if self.batch_size is not None and "per_device_train_batch_size" in self.training:
            raise UsageError(
                f"pretraining: batch_size is {self.batch_size} and per_device_train_batch_size is given too; leave one out "
                "(a preset brings batch_size)."
            )
        if (self.batch_size or 1) > 2**20:
            raise UsageError(f"pretraining: batch_size is {self.batch_size}; give at most {2**20}.")
        check_training(self.training)
        if "num_train_epochs" in self.training:
            raise UsageError(
                "A run's rows have no end, so num_train_epochs cannot apply; give max_steps."
            )
        choose("embedding policy", self.start_embeddings, ("kept", "fresh"))
        if not 0 < self.generator_fraction <= 1:
            raise UsageError(
                f"generator_fraction is {self.generator_fraction}; give a share of the width, in 0..1."
            )
        if not self.bias_correction and not str(self.training.get("optim", "adafactor")).startswith(
            "adamw"
        ):
            raise UsageError(
                "Without bias_correction the optimizer is Adam; give training.optim adamw_torch."
            )
        self._check_budget()

    def _check_budget(self) -> None:
        limits = {
            name: getattr(self, name)
            for name in ("budget_tokens", "budget_flops", "budget_seconds")
        }
        for name, limit in limits.items():
            if limit is not None and not 0 < limit < math.inf:
                raise UsageError(f"pretraining: {name} is {limit}; give a number > 0.")
        windows = (
            self.corpus is not None
            or self.task in TEXT_TASKS
            or self.objective == "span_corruption"
        )
        if not windows and (limits["budget_tokens"] or limits["budget_flops"] or self.budget_of):
            raise UsageError(
                f"The rows of {self.task} have no fixed length, so budget_tokens, budget_flops and budget_of cannot apply; "
                "give training.max_steps or budget_seconds."
            )
        if (
            self.budget_of is None
            and "max_steps" not in self.training
            and limits["budget_tokens"] is limits["budget_flops"] is None
        ):
            cause = (
                "a limit of seconds alone, and its schedule no length"
                if limits["budget_seconds"]
                else "no budget"
            )
            raise UsageError(f"pretraining has {cause}; give training.max_steps >= 1 or budget_of.")

    @classmethod
    def defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return what is given over the fields of its preset, if it names one."""
        if given.get("preset") is None:
            return given
        preset = PRESETS[choose("preset", given["preset"], PRESETS)]
        return preset | given | {"training": preset["training"] | (given.get("training") or {})}
