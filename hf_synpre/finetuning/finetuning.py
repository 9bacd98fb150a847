"""Fine-tuning: a model, a prepared task and a recipe -> test scores, curve and cost."""

import itertools
import logging
import math
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from transformers import PreTrainedModel

from hf_synpre.config import check_read, option
from hf_synpre.errors import UsageError, choose
from hf_synpre.finetuning.heads import Head, ReportedScores
from hf_synpre.finetuning.prepared import PreparedTask
from hf_synpre.models.families import is_decoder
from hf_synpre.training.argument_table import FINETUNING
from hf_synpre.training.arguments import check_training, training_arguments
from hf_synpre.training.callbacks import BestModel
from hf_synpre.training.evaluations import affordable_examples, warn_of_cost
from hf_synpre.training.flops import Meter, TrainingCost
from hf_synpre.training.trainer import SynpreTrainer

logger = logging.getLogger(__name__)

# Batches by whose mean the cost of a batch is estimated. Trainer groups so many batches by length,
# so that their mean length is that of the data.
PROBE_BATCHES = 50

# What a fine-tuning has so that it reads an option: `read_with` of the fields below.
GENERATED = "a task that is answered with generated text"
BEAMS = "num_beams above 1 and generated text"
LABELLED = "a labelled task"
PROMPTED = "a decoder that generates text"

# Fields of FinetuningSpec that are counts, at least 1.
COUNTS = ("evaluations", "validation_examples", "test_examples", "num_beams", "max_new_tokens")


@dataclass
class FinetuningSpec:
    """The recipe of fine-tuning; it does not depend on where the weights come from."""

    training: dict[str, Any] = option(
        "TrainingArguments of transformers, by name.", default_factory=dict
    )
    evaluations: int = option(
        "Evaluations on the validation rows, at equal distances; without a number, short runs of "
        "head lm have fewer, so that they cost at most a tenth of the training.",
        5,
    )
    validation_examples: int | None = option("Validation rows of an evaluation; null for all.", 500)
    test_examples: int | None = option("Test rows that are used; null for all.", 1000)
    num_beams: int = option("Beams of generation; 1 for greedy decoding.", 1, read_with=GENERATED)
    loss_on: str = option(
        "Training loss of a decoder that generates text: targets, the completions, or all, their "
        "prompts too. Validation is on the targets.",
        "targets",
        read_with=PROMPTED,
        is_added=True,
    )
    length_penalty: float = option(
        "A beam's score is divided by its length to this power.", 1.0, read_with=BEAMS
    )
    max_new_tokens: int | None = option(
        "Token ids that are generated at the most; without it as many as the longest train or "
        "validation target has.",
        None,
        read_with=GENERATED,
    )
    learning_rates: list[float] | None = option(
        "A grid of learning rates, in an experiment: for each arm and task the best one on the "
        "validation rows is taken. It stands in the place of the training argument learning_rate.",
        None,
        is_added=True,
    )
    patience: int = option(
        "Evaluations without a better one after which the run ends; 0 for no early stop.", 0
    )
    layer_decay: float = option(
        "Learning rate of a layer over that of the layer above it; 1 for one rate.",
        1.0,
        read_with=LABELLED,
    )
    accept_unspellable: bool = option(
        "Fine-tune although the tokenizer cannot spell most of the targets, which no model can "
        "then get right.",
        False,
        read_with=GENERATED,
    )

    def __post_init__(self) -> None:
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"finetuning: {name} is {value}; give an integer >= 1.")

        # Numbers that may be zero or a fraction.
        if self.patience < 0:
            raise UsageError(
                f"finetuning: patience is {self.patience}; give an integer >= 0 (0: no early stop)."
            )
        if not 0 < self.layer_decay <= 1:
            raise UsageError(
                f"finetuning: layer_decay is {self.layer_decay}; give a factor in 0..1, 1 for one "
                "learning rate."
            )

        choose("loss_on", self.loss_on, ("targets", "all"))
        check_training(self.training, FINETUNING)
        if self.learning_rates is not None:
            check_learning_rates(self.learning_rates, "finetuning")
            if "learning_rate" in self.training:
                raise UsageError(
                    "finetuning has learning_rates and the training argument learning_rate; give "
                    "one of them."
                )
            if self.training.get("max_steps") == 0:
                raise UsageError(
                    "finetuning has learning_rates and max_steps 0, which trains nothing; leave "
                    "one of them out."
                )

    def options_read(self, answer: str, decodes: bool | None = None) -> dict[str, bool | None]:
        """Return for each `read_with` of the fields whether a fine-tuning has it.

        Args:
            answer: what the task is answered with, `Head.answer`.
            decodes: whether the model is a decoder; None where that is not known yet.
        """
        return {
            PROMPTED: answer == "text" and decodes,
            GENERATED: answer == "text",
            BEAMS: answer == "text" and self.num_beams > 1,
            LABELLED: answer == "labels",
        }

    def without_unread(self, answer: str, decodes: bool) -> "FinetuningSpec":
        """Return the recipe with the defaults of the options that a fine-tuning does not read.

        Tasks of several kinds may share a recipe, of which each reads its part.

        Args:
            answer: what the task is answered with, `Head.answer`.
            decodes: whether the model is a decoder.
        """
        has = self.options_read(answer, decodes)
        defaults: dict[str, Any] = {}
        for field in fields(self):
            read_with = field.metadata["read_with"]
            if read_with is not None and not has[read_with]:
                defaults[field.name] = field.default
        return replace(self, **defaults)


def check_learning_rates(rates: list[float], where: str) -> None:
    """Raise UsageError on a grid of learning rates that is not allowed.

    Args:
        rates: the grid.
        where: what has it, for the message.
    """
    allowed = bool(rates) and all(0 < rate < math.inf for rate in rates)
    if not allowed or len(set(rates)) < len(rates):
        raise UsageError(
            f"{where} has learning_rates {rates}; give distinct rates above 0, as "
            "[1e-3, 3e-3, 1e-2]."
        )


class FinetuningCost(TrainingCost):
    """The cost of a fine-tuning run: that of training, and the time of evaluations and test."""

    validation_s: float  # seconds of all evaluations on validation rows
    test_s: float  # seconds of the test
    stopped: str  # what ended the run: "budget" or "patience"


class Schedule(TypedDict):
    """The learning rate of a run, as it was planned."""

    learning_rate: float  # the highest
    type: str  # the lr_scheduler_type of transformers
    warmup_steps: int
    steps: int  # where the schedule ends; a run may have stopped before


class FinetuningResult(ReportedScores):
    """What `finetune` returns: the scores of the test, the curve of validation, and the cost."""

    validation_score: float  # the score of the evaluation whose weights were tested
    # The evaluations: step, tokens, flops, loss and score of each, token_accuracy where it has one.
    curve: list[dict[str, float]]
    schedule: Schedule
    spent: FinetuningCost  # the cost of training, evaluations and test


class ValidationResult(TypedDict):
    """What `validate` returns: the best evaluation, the curve of all, and the cost."""

    criterion: str  # what evaluations are compared by: "loss", "token_accuracy" or "score"
    best: dict[str, float]  # the best of the evaluations
    curve: list[dict[str, float]]
    schedule: Schedule
    spent: FinetuningCost


def finetune(
    model: PreTrainedModel,
    data: PreparedTask,
    spec: FinetuningSpec,
    *,
    seed: int,
    output_dir: Path,
    extra_flops: float = 0.0,
) -> FinetuningResult:
    """Fine-tune a model on a task, choose its weights on validation, and test them.

    For text-to-text tasks the weights with the best validation token accuracy are tested, as in Wu
    et al. 2022 (docs/papers.md, "Fine-tuning"); for labelled tasks those with the best score, for
    language modelling those with the lowest loss. The test split is read once, at the end.

    With max_steps 0 nothing is trained: the model is tested as it is.

    Args:
        model: a model of the head that answers the task (`data.head_for(config)`); it is trained.
        data: the task as ids.
        spec: the recipe.
        seed: decides the order of rows and dropout.
        output_dir: the folder of Trainer's files.
        extra_flops: the run gets as many more steps as cost so many FLOPs.

    Returns:
        Curve, test scores and cost.

    Raises:
        FloatingPointError: the loss is not finite.
        UsageError: the model's family does not fit the task, a row does not fit the model, or an
            option of the recipe is not read.

    Examples:
        >>> data = prepare(get_finetuning_task("stdlib_ast"), Path("runs/stdlib_ast"))
        >>> config = ModelSpec("t5").config(as_vocabulary(data.tokenizer))
        >>> head = data.head_for(config)
        >>> model = head.model_class.from_config(head.configure(config, data))
        >>> spec = FinetuningSpec({"max_steps": 600})
        >>> finetune(model, data, spec, seed=0, output_dir=Path("runs/model"))["score"]
    """
    head = head_of_recipe(model, data, spec)
    checked = head.check_scoring(data, spec)
    trainer, best = train(model, data, spec, seed, output_dir, extra_flops)

    # Test the weights of the best evaluation.
    model.load_state_dict(best.weights)
    test_start = time.perf_counter()
    merge_adapters(model)
    tested = head.test(model, data, spec, trainer)
    head.complete_model(model)
    test_seconds = time.perf_counter() - test_start

    if "scoring" in checked:
        tested["scoring"] = checked["scoring"]
    if "notes" in checked:
        tested["notes"] = checked["notes"] + tested.get("notes", [])
    return {
        **tested,
        "validation_score": best.chosen["score"],
        "curve": best.curve,
        "schedule": schedule_of(trainer),
        "spent": cost_of(trainer, best, test_seconds),
    }


def validate(
    model: PreTrainedModel,
    data: PreparedTask,
    spec: FinetuningSpec,
    *,
    seed: int,
    output_dir: Path,
    extra_flops: float = 0.0,
) -> ValidationResult:
    """Fine-tune a model on a task and evaluate it on the validation rows; the test is not read.

    It does what `finetune` does before the test, with the same arguments and errors.
    """
    head = head_of_recipe(model, data, spec)
    trainer, best = train(model, data, spec, seed, output_dir, extra_flops)
    head.complete_model(model)
    return {
        "criterion": best.criterion,
        "best": best.chosen,
        "curve": best.curve,
        "schedule": schedule_of(trainer),
        "spent": cost_of(trainer, best, test_seconds=0.0),
    }


def head_of_recipe(
    model: PreTrainedModel, data: PreparedTask, spec: FinetuningSpec
) -> Head[Any, Any]:
    """Return the head that answers a task.

    Raises UsageError where the model cannot, or an option of the recipe is not read.
    """
    head = data.head_for(model.config)
    has = spec.options_read(head.answer, is_decoder(model.config))
    check_read(spec, has, what=f"the task {data.task.name}")
    return head


def train(
    model: PreTrainedModel,
    data: PreparedTask,
    spec: FinetuningSpec,
    seed: int,
    output_dir: Path,
    extra_flops: float,
) -> tuple[SynpreTrainer, BestModel]:
    """Train a model on a task; the arguments and errors are those of `finetune`.

    Returns:
        The Trainer, and what holds the curve and the weights of the best evaluation.
    """
    if spec.learning_rates is not None:
        raise UsageError(
            f"learning_rates {spec.learning_rates} are the grid of an experiment, and one "
            "fine-tuning has one rate; give the training argument learning_rate."
        )
    head = data.head_for(model.config)
    trainer = finetuning_trainer(model, data, spec, seed, output_dir)

    # The number of steps, and of steps between evaluations.
    steps = planned_steps(trainer) + extra_steps(trainer, extra_flops)
    trainer.args.max_steps = steps
    warmup_steps = trainer.args.get_warmup_steps(steps)
    if steps and warmup_steps >= steps:
        logger.warning(
            "%s: %d steps of warm-up and %d steps in all: the learning rate never reaches its "
            "value; give a smaller warmup_steps (below 1: a share).",
            data.task.name,
            warmup_steps,
            steps,
        )
    evaluations = spec.evaluations
    if head.answer == "tokens":
        evaluations = language_evaluations(trainer, spec)
    trainer.args.eval_steps = math.ceil(steps / evaluations)

    # Train, and keep the weights of the best evaluation.
    if steps:
        head.prepare_model(model, data)
    best = BestModel(trainer.training_cost, spec.patience, head.criterion(data.task))
    trainer.add_callback(best)
    if steps:
        trainer.train()
    else:
        trainer.evaluate()
    if not all(math.isfinite(point["loss"]) for point in best.curve):
        raise FloatingPointError("the loss is not finite; give a smaller learning_rate")
    return trainer, best


def schedule_of(trainer: SynpreTrainer) -> Schedule:
    """Return the schedule of a Trainer whose number of steps is known."""
    args = trainer.args
    return {
        "learning_rate": args.learning_rate,
        "type": args.lr_scheduler_type.value,
        "warmup_steps": args.get_warmup_steps(args.max_steps),
        "steps": args.max_steps,
    }


def cost_of(trainer: SynpreTrainer, best: BestModel, test_seconds: float) -> FinetuningCost:
    """Return the cost of a run with its evaluations and its test."""
    return {
        **trainer.training_cost(),
        "validation_s": round(best.seconds, 4),
        "test_s": round(test_seconds, 4),
        "stopped": best.stopped,
    }


def finetuning_trainer(
    model: PreTrainedModel, data: PreparedTask, spec: FinetuningSpec, seed: int, output_dir: Path
) -> SynpreTrainer:
    """Return the Trainer of one fine-tuning.

    Args:
        model: a model of the head that answers the task.
        data: the task as ids.
        spec: the recipe.
        seed: decides the order of rows and dropout.
        output_dir: the folder of Trainer's files.
    """
    head = data.head_for(model.config)
    train = head.arrange(data, data.rows("train", head=head), "train", spec, seed)
    rows = data.rows("validation", spec.validation_examples, head)
    validation = head.arrange(data, rows, "validation", spec)

    # The recipe may replace the head's size of evaluation batches, but not the arguments that the
    # head fixes.
    chosen = {"per_device_eval_batch_size": head.evaluation_batch} | spec.training
    arguments = training_arguments(
        output_dir,
        chosen,
        seed=seed,
        eval_strategy="steps",
        eval_steps=1,  # until the budget is known
        save_strategy="no",
        **head.training_arguments,
    )
    if arguments.metric_for_best_model is not None:
        watched = arguments.metric_for_best_model.removeprefix("eval_")
        choose("metric_for_best_model", watched, head.watchable)
    return head.trainer_class(
        model,
        arguments,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=head.collator(data, model.config),
        compute_metrics=head.validation_metrics(data, rows),
        **head.trainer_options(spec, data),
    )


def planned_steps(trainer: SynpreTrainer) -> int:
    """Return the steps of a fine-tuning: max_steps, or as many as num_train_epochs take."""
    args = trainer.args
    if args.max_steps >= 0:  # -1 where it was not given
        return args.max_steps
    batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    steps_an_epoch = math.ceil(len(trainer.train_dataset) / batch_size)
    return math.ceil(args.num_train_epochs * steps_an_epoch)


def language_evaluations(trainer: SynpreTrainer, spec: FinetuningSpec) -> int:
    """Return how often language modelling is evaluated; log a line where that costs much.

    A window of text costs as much in an evaluation as in a pre-training, so the same rule holds:
    short runs have fewer evaluations, but for a number that was given.

    Args:
        trainer: its Trainer, with the final max_steps.
        spec: its evaluations are read.
    """
    args = trainer.args
    trained = args.max_steps * args.train_batch_size * args.gradient_accumulation_steps
    trained *= args.world_size
    windows = len(trainer.eval_dataset)

    evaluations = spec.evaluations
    if evaluations == FinetuningSpec.evaluations:
        evaluations = min(evaluations, max(1, affordable_examples(trained) // windows))
    warn_of_cost(evaluations, windows, trained)
    return evaluations


def extra_steps(trainer: SynpreTrainer, flops: float) -> int:
    """Return how many steps cost `flops`, by the mean cost of the first batches."""
    if not flops:
        return 0
    probe = Meter()
    batches = list(itertools.islice(trainer.get_train_dataloader(), PROBE_BATCHES))
    for batch in batches:
        probe.add(batch, trainer.count_flops)
    flops_a_batch = probe.cost["flops"] / len(batches)
    return round(flops / (flops_a_batch * trainer.args.gradient_accumulation_steps))


def merge_adapters(model: PreTrainedModel) -> None:
    """Add the products of LoRA's matrices to the weights, after training."""
    for module in model.modules():
        if hasattr(module, "lora_A") and isinstance(module.lora_A, torch.nn.ModuleDict):
            module.merge()
