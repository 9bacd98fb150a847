"""YAML keys or flags of a pre-training run -> a checked PretrainingSpec."""

import math
from dataclasses import dataclass
from typing import Any

from hf_synpre.config import check_read, option
from hf_synpre.data.synthetic import SyntheticDataset
from hf_synpre.data.text_spec import STDLIB, TextSpec, check_stdlib
from hf_synpre.errors import UsageError, choose
from hf_synpre.initialization.embedding_policy import POLICIES
from hf_synpre.models.initial_weights import local_weights, t5x_weights
from hf_synpre.tasks import get_task
from hf_synpre.training.argument_table import PRETRAINING
from hf_synpre.training.arguments import check_needs, check_training
from hf_synpre.training.optimizers import SCHEDULES
from hf_synpre.training.presets import PRESETS, preset_fields
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

BATCHINGS = ("padded", "bucketed", "packed")
# Objectives under which some ids are masked.
MASKED_OBJECTIVES = ("mlm", "rtd")
INITIAL_WEIGHTS = {"transformers": None, "t5x": t5x_weights, "local": local_weights}
# What a run has so that it reads an option: `read_with` of the fields below.
A_TASK = "a synthetic task"
EXAMPLES = "a synthetic task whose examples are rows"
PACKED = "batching packed"
DECODER = "a decoder-only model on a synthetic task (objective causal)"
TEXT = "text"
CORPUS = "a corpus"
DATASET = "a dataset's text under objective mlm or rtd"
RTD = "objective rtd"
START = "start"
BUDGETS = ("budget_tokens", "budget_flops", "match_tokens_of")
# Examples of a step: more than any run has, but a typing error may exceed it.
LARGEST_BATCH = 2**20


@dataclass(frozen=True)
class Objectives:
    """The pre-training objectives of one model family."""

    # The usual one for rows with a target, and the usual one for text.
    for_targets: str
    for_text: str
    others: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Return all of them, the usual ones first."""
        return list(dict.fromkeys([self.for_targets, self.for_text, *self.others]))


# By model family: encoder-decoder, decoder-only, encoder-only.
OBJECTIVES = {
    "seq2seq": Objectives(for_targets="seq2seq", for_text="span_corruption"),
    "causal": Objectives(for_targets="causal", for_text="causal"),
    "mlm": Objectives(for_targets="mlm", for_text="mlm", others=("rtd",)),
}


@dataclass
class PretrainingSpec:
    """What a model is pre-trained on, and for how long.

    The rows are those of a synthetic `task` or windows of a text `corpus`: exactly one of the two
    is named. The budget is one of `training.max_steps`, `budget_tokens`, `budget_flops` and
    `match_tokens_of`; `budget_seconds` may end the run before. Each field has its help beside it;
    `synpre pretrain --help` shows the same texts.

    Raises:
        UsageError: a value that is not allowed, or two that exclude each other.

    Examples:
        >>> spec = PretrainingSpec(task="set", vocabulary=128, training={"max_steps": 1000})
        >>> spec = build_spec(PretrainingSpec, {"task": "set", "preset": "fast"}, "options")
    """

    task: str | None = option(
        "The synthetic task whose examples are the rows (see `synpre tasks`), instead of a corpus.",
        None,
    )
    preset: str | None = option(
        "A named recipe that sets defaults for the other fields. For tasks: paper, fast, small or "
        "smoke. For a dataset's own text: electra or roberta, or _tenth, _hundredth or _smoke of "
        "them. In an experiment the model is that of `model`, whatever the preset.",
        None,
    )
    parameters: dict[str, Any] = option(
        "Parameters of the task, as min_length=4,max_length=24.",
        default_factory=dict,
        read_with=A_TASK,
    )
    vocabulary: int | None = option(
        "Size of a plain vocabulary, in ids; without it the T5 vocabulary of the paper, or that of "
        "a tokenizer that is given.",
        None,
        read_with=A_TASK,
    )
    curriculum_steps: int = option(
        "Steps over which the task's examples grow to their full length; 0 for no curriculum.",
        0,
        former="ramp_steps",
        read_with=EXAMPLES,
    )
    corpus: str | None = option(
        "The text whose windows are the rows, instead of a task: stdlib, a Hub id, or a folder "
        "with train and validation, data/train*.parquet or train*.txt.",
        None,
    )
    text: TextSpec | None = option(
        "How the corpus is made from the train split of a dataset. Its windows are then cut one "
        "after the other, at other ids in every epoch. Without it windows begin anywhere in the "
        "corpus.",
        None,
        read_with=CORPUS,
    )
    window: int = option("Ids of a window of text, one row.", 64, read_with=TEXT)
    special_tokens: bool = option(
        "Read special tokens that the corpus spells out, such as <|im_end|>, as these tokens; "
        "without it they are text.",
        False,
        read_with=CORPUS,
        is_added=True,
    )
    pairs: bool = option(
        "Make rows of two segments out of a dataset's text, as ELECTRA has them.",
        False,
        read_with=DATASET,
    )
    generator_fraction: float = option(
        "Width of the generator of objective rtd, as a share of the discriminator's, in 0..1.",
        0.25,
        read_with=RTD,
    )
    start: str | None = option(
        "A checkpoint to go on from (task-adaptive pre-training): a folder, a Hub id, or in an "
        "experiment the name of another run.",
        None,
    )
    start_embeddings: str = option(
        "Token embeddings of `start`: kept (with the head, if it is that of this objective), "
        "fresh, by_token or mean (docs/statistics.md).",
        "kept",
        read_with=START,
    )
    objective: str | None = option(
        "What is learned: seq2seq, span_corruption, causal, mlm or rtd (replaced-token detection); "
        "the model's usual one without it.",
        None,
    )
    loss_on: str = option(
        "Loss of a decoder-only model on a task: targets or all ids.", "targets", read_with=DECODER
    )
    batching: str = option(
        "How the task's examples fill rows: padded, bucketed (similar lengths together) or packed "
        "(several examples a row).",
        "bucketed",
        read_with=EXAMPLES,
    )
    row_length: int | None = option(
        "Input positions of a packed row, approximately; without it room for four examples of mean "
        "length.",
        None,
        read_with=PACKED,
    )
    batch_size: int | None = option(
        "Examples of a step over all processes. A step of packed rows has as many rows, a multiple "
        "of 8, as hold so many examples. Without it training.per_device_train_batch_size counts "
        "the rows of one process.",
        None,
    )
    tokens_per_batch: int | None = option(
        "The most positions, padding included, that a process computes at once; memory grows with "
        "them. A step keeps its rows (batch_size, per_device_train_batch_size): where these have "
        "more, it is computed in parts of rows of similar length, with the same result but for "
        "rounding. It may change when a run goes on. Without it all rows of a batch are computed "
        "at once.",
        None,
        is_stored=False,
    )
    schedule: str | None = option(
        "Learning-rate schedule: rsqrt (1/sqrt(max(step, 10000)) times the learning rate) or "
        "electra (warm-up times linear decay); training.lr_scheduler_type without it.",
        None,
    )
    bias_correction: bool = option(
        "Correct the bias of Adam's moments. BERT and ELECTRA were trained without.", True
    )
    initial_weights: str = option(
        "Weights before the first step: transformers, t5x, or local (for encoders with learned "
        "position embeddings: half the heads attend to near ids first, so that text is learned "
        "much sooner; examples/LOG.md).",
        "transformers",
    )
    match_tokens_of: str | None = option(
        "In an experiment: another run whose number of tokens is the budget of this one.",
        None,
        former="budget_of",
    )
    budget_tokens: int | None = option("Tokens of the run, instead of training.max_steps.", None)
    budget_flops: float | None = option("FLOPs of the run, instead of training.max_steps.", None)
    budget_seconds: float | None = option(
        "Seconds of training that end the run before its last step.", None
    )
    target_accuracy: float = option(
        "Validation token accuracy, a share, that ends the run; above 1 nothing ends it early.",
        0.99,
        former="competence",
    )
    evaluations: int = option(
        "Evaluations in the whole run. If it is not given a short run has fewer, so that all of "
        "them cost at most a tenth of its training.",
        10,
    )
    validation_examples: int = option(
        "Examples (of text: windows) of an evaluation; fewer in a short run, if it is not given.",
        512,
    )
    seed: int = option("Seed of weights and data, 0 <= seed < 2**32.", 0)
    training: dict[str, Any] = option(
        "transformers' TrainingArguments by name: max_steps, learning_rate, optim ...",
        default_factory=dict,
    )

    def __post_init__(self) -> None:
        if (self.task is None) == (self.corpus is None):
            raise UsageError(
                f"Pre-training has task {self.task!r} and corpus {self.corpus!r}; give exactly one "
                "of the two."
            )
        if self.task is not None:
            get_task(self.task)

        if self.corpus == STDLIB:
            check_stdlib(self.text)
        self._check_names()
        self.check_options(self.objective)
        self._check_numbers()
        self._check_rows()
        check_training(self.training, PRETRAINING)
        self._check_needs()
        self._check_optimizer()
        self._check_budget()

    @classmethod
    def defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return what is given over the fields of its preset, if it names one."""
        if given.get("preset") is None:
            return given
        choose("preset", given["preset"], PRESETS)
        preset = preset_fields(given["preset"], given.get("task"))
        given_training = given.get("training") or {}
        # The other ways to say what a preset says.
        if "lr_scheduler_type" in given_training:
            preset.pop("schedule", None)
        if "eval_steps" in given_training:
            preset.pop("evaluations", None)
        if "per_device_train_batch_size" in given_training:
            preset.pop("batch_size", None)
        training = preset["training"] | given_training
        return {**preset, **given, "training": training}

    @property
    def reads_text(self) -> bool:
        """Whether rows are made of text: of a corpus, or of a task whose rows are sentences."""
        return self.corpus is not None or (self.task is not None and get_task(self.task).is_text)

    @property
    def has_windows(self) -> bool:
        """Whether rows are windows of one length, and not the examples of a task."""
        return self.reads_text or self.objective == "span_corruption"

    def objective_for(self, model_family: str) -> str:
        """Return the objective of the run: `objective`, or the usual one of a model family.

        Args:
            model_family: "seq2seq", "causal" or "mlm".

        Raises:
            UsageError: an objective that this family, or text, cannot have.
        """
        allowed = OBJECTIVES[model_family]
        if self.objective:
            what = f"objective of a {model_family} model"
            objective = choose(what, self.objective, allowed.names())
        elif self.reads_text:
            objective = allowed.for_text
        else:
            objective = allowed.for_targets

        if objective == "seq2seq" and self.reads_text:
            raise UsageError(
                "Text has no targets, so the objective seq2seq cannot apply; give span_corruption."
            )
        return objective

    def open_task(
        self, vocabulary: Vocabulary, *, size: int, split: str = "train", curriculum_rows: int = 0
    ) -> SyntheticDataset:
        """Return the task's examples, each with input_ids and labels.

        Args:
            vocabulary: whose ids they have.
            size: how many.
            split: "train" or "validation"; their examples are independent.
            curriculum_rows: over so many first examples the lengths grow; 0 for no curriculum.

        Raises:
            UsageError: the task refuses the parameters.
        """
        assert self.task is not None, "a run on a corpus has no task"
        return SyntheticDataset(
            self.task,
            size=size,
            vocabulary=vocabulary,
            seed=self.seed,
            split=split,
            curriculum_rows=curriculum_rows,
            **self.parameters,
        )

    def check_options(self, objective: str | None, is_final: bool = False) -> None:
        """Raise UsageError on an option that the run does not read.

        Args:
            objective: that of the run; None where it depends on a model that is not known yet.
            is_final: `text` is that of the run; an experiment may still add it.
        """
        is_text = self.reads_text or objective == "span_corruption"
        has_dataset = self.corpus not in (None, STDLIB) and objective in (None, *MASKED_OBJECTIVES)
        if is_final:
            has_dataset = has_dataset and self.text is not None
        is_decoder = None if objective is None else objective == "causal" and not is_text
        has = {
            A_TASK: self.task is not None,
            EXAMPLES: not is_text,
            PACKED: self.batching == "packed" and not is_text,
            DECODER: False if is_text else is_decoder,
            TEXT: is_text,
            CORPUS: self.corpus is not None,
            DATASET: has_dataset,
            RTD: objective == "rtd",  # which is no model's usual one
            START: self.start is not None,
        }
        check_read(self, has, self._preset())

    def validate(self) -> None:
        """Open the task's stream, which raises UsageError on parameters that the task refuses.

        A run calls this once, where it starts, before it makes anything.
        """
        if self.task is not None:
            vocabulary = as_vocabulary(self.vocabulary)
            self.open_task(vocabulary, size=1, curriculum_rows=self.curriculum_steps)

    def _preset(self) -> dict[str, Any]:
        return PRESETS[self.preset] if self.preset else {}

    def is_own(self, name: str) -> bool:
        """Say whether a field was given: it is neither at its default nor at the preset's value."""
        default = PretrainingSpec.__dataclass_fields__[name].default
        return getattr(self, name) not in (default, self._preset().get(name, default))

    def _own_training(self) -> list[str]:
        """Return the names of the training arguments that are not the preset's.

        Those of a preset that a flag makes needless are not wrong.
        """
        usual = self._preset().get("training", {})
        return [
            name
            for name, value in self.training.items()
            if name not in usual or value != usual[name]
        ]

    def _check_needs(self) -> None:
        """Raise UsageError on training arguments that the run does not read."""
        training = dict(self.training)
        if self.schedule is not None:  # in place of transformers' own
            training["lr_scheduler_type"] = self.schedule
        check_needs(self._own_training(), training)

    def _check_names(self) -> None:
        choose("batching", self.batching, BATCHINGS)
        choose("loss_on", self.loss_on, ("targets", "all"))
        choose("initial_weights", self.initial_weights, INITIAL_WEIGHTS)
        if self.schedule is not None:
            choose("schedule", self.schedule, SCHEDULES)
        choose("embedding policy", self.start_embeddings, POLICIES)

    def _check_numbers(self) -> None:
        counts = ("row_length", "batch_size", "tokens_per_batch", "evaluations")
        for name in (*counts, "validation_examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"pretraining: {name} is {value}; give an integer >= 1.")

        # Numbers with bounds of their own.
        if self.window < 4:
            raise UsageError(f"pretraining: window is {self.window}; give 4 token ids or more.")
        if self.curriculum_steps < 0:
            raise UsageError(
                f"curriculum_steps is {self.curriculum_steps}; give 0 (no curriculum) or more."
            )
        if not self.target_accuracy > 0:  # nan is not above 0 either
            raise UsageError(
                f"pretraining: target_accuracy is {self.target_accuracy}; give a share above 0 "
                "(above 1: never stop)."
            )
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"pretraining: seed is {self.seed}; give 0 <= seed < 2**32.")
        if self.batch_size is not None and self.batch_size > LARGEST_BATCH:
            raise UsageError(
                f"pretraining: batch_size is {self.batch_size}; give at most {LARGEST_BATCH}."
            )
        if not 0 < self.generator_fraction <= 1:
            raise UsageError(
                f"generator_fraction is {self.generator_fraction}; give a share of the width, in "
                "0..1."
            )

    def _check_rows(self) -> None:
        """Raise UsageError where two options about rows exclude each other."""
        if self.batching == "packed" and self.objective == "rtd":
            raise UsageError(
                "Rows of several examples (batching packed) do not reach a discriminator; give "
                "padded or bucketed."
            )
        if self.batching == "packed" and self.curriculum_steps:
            raise UsageError(
                "Packed rows have one shape, so a curriculum by length (curriculum_steps) cannot "
                "apply; give one or the other."
            )
        if self.batch_size is not None and "per_device_train_batch_size" in self.training:
            raise UsageError(
                f"pretraining: batch_size is {self.batch_size} and per_device_train_batch_size is "
                "given too; leave one out."
            )

    def _check_optimizer(self) -> None:
        if self.objective == "rtd" and self.training.get("label_smoothing_factor"):
            raise UsageError(
                "The losses of objective rtd have no smoothed labels; leave "
                "label_smoothing_factor out."
            )
        optimizer = str(self.training.get("optim", "adafactor"))
        if not self.bias_correction and not optimizer.startswith("adamw"):
            raise UsageError(
                "Without bias_correction the optimizer is Adam; give training.optim adamw_torch."
            )

    def _check_budget(self) -> None:
        for name in ("budget_tokens", "budget_flops", "budget_seconds"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise UsageError(f"pretraining: {name} is {limit}; give a number > 0.")

        # Tokens and FLOPs pay for steps only where all rows are equally long.
        if not self.has_windows and (
            self.budget_tokens or self.budget_flops or self.match_tokens_of
        ):
            raise UsageError(
                f"The rows of {self.task} have no fixed length, so budget_tokens, budget_flops and "
                "match_tokens_of cannot apply; give training.max_steps or budget_seconds."
            )

        # A schedule needs the number of steps, which seconds do not give.
        gives_steps = (
            self.match_tokens_of is not None
            or "max_steps" in self.training
            or self.budget_tokens is not None
            or self.budget_flops is not None
        )
        if not gives_steps:
            cause = "no budget"
            if self.budget_seconds:
                cause = "no limit but budget_seconds, by which a schedule has no length"
            raise UsageError(
                f"pretraining has {cause}; give training.max_steps >= 1 or match_tokens_of."
            )

        # One of these is the budget, and one of those says when the run is evaluated.
        budgets = [n for n in BUDGETS if getattr(self, n) is not None]
        if "max_steps" in self._own_training():
            budgets.append("training.max_steps")
        if len(budgets) > 1:
            raise UsageError(
                f"pretraining has the budgets {' and '.join(budgets)}; give one of them."
            )
        if self.is_own("evaluations") and "eval_steps" in self.training:
            raise UsageError(
                f"pretraining: evaluations is {self.evaluations} and training.eval_steps is given "
                "too; leave one out."
            )
        if self.budget_seconds and self.training.get("logging_strategy", "steps") != "steps":
            raise UsageError(
                "budget_seconds is looked at where the run logs; leave logging_strategy out."
            )
