"""Fine-tuning: a model, a prepared task and a recipe -> test scores, curve and cost."""

import itertools
import math
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_synpre.config import check_read, option
from hf_synpre.errors import UsageError
from hf_synpre.finetuning.heads import ReportedScores
from hf_synpre.finetuning.prepared import PreparedTask
from hf_synpre.training.argument_table import FINETUNING
from hf_synpre.training.arguments import check_training, training_arguments
from hf_synpre.training.callbacks import BestModel
from hf_synpre.training.flops import Meter, TrainingCost
from hf_synpre.training.trainer import SynpreTrainer

# Batches by whose mean the cost of a batch is estimated. Trainer groups so many batches by length,
# so that their mean length is that of the data.
PROBE_BATCHES = 50

# What a fine-tuning has so that it reads an option: `read_with` of the fields below.
GENERATED = "a task that is answered with generated text"
BEAMS = "num_beams above 1 and generated text"
LABELLED = "a labelled task"

# Fields of FinetuningSpec that are counts, at least 1.
COUNTS = ("evaluations", "validation_examples", "test_examples", "num_beams", "max_new_tokens")


@dataclass
class FinetuningSpec:
    """The recipe of fine-tuning; it does not depend on where the weights come from."""

    training: dict[str, Any] = option(
        "TrainingArguments of transformers, by name.", default_factory=dict
    )
    evaluations: int = option("Evaluations on the validation rows, at equal distances.", 5)
    validation_examples: int | None = option("Validation rows of an evaluation; null for all.", 500)
    test_examples: int | None = option("Test rows that are used; null for all.", 1000)
    num_beams: int = option("Beams of generation; 1 for greedy decoding.", 1, read_with=GENERATED)
    length_penalty: float = option(
        "A beam's score is divided by its length to this power.", 1.0, read_with=BEAMS
    )
    max_new_tokens: int | None = option(
        "Token ids that are generated at the most; without it as many as the longest train or "
        "validation target has.",
        None,
        read_with=GENERATED,
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

        check_training(self.training, FINETUNING)

    def options_read(self, answer: str) -> dict[str, bool]:
        """Return for each `read_with` of the fields whether a fine-tuning has it.

        Args:
            answer: what the task is answered with, `Head.answer`.
        """
        return {
            GENERATED: answer == "text",
            BEAMS: answer == "text" and self.num_beams > 1,
            LABELLED: answer == "labels",
        }

    def without_unread(self, answer: str) -> "FinetuningSpec":
        """Return the recipe with the defaults of the options that a fine-tuning does not read.

        Tasks of several kinds may share a recipe, of which each reads its part.

        Args:
            answer: what the task is answered with, `Head.answer`.
        """
        has = self.options_read(answer)
        defaults: dict[str, Any] = {}
        for field in fields(self):
            read_with = field.metadata["read_with"]
            if read_with is not None and not has[read_with]:
                defaults[field.name] = field.default
        return replace(self, **defaults)


class FinetuningCost(TrainingCost):
    """The cost of a fine-tuning run: that of training, and the time of evaluations and test."""

    validation_s: float  # seconds of all evaluations on validation rows
    test_s: float  # seconds of the test
    stopped: str  # what ended the run: "budget" or "patience"


class FinetuningResult(ReportedScores):
    """What `finetune` returns: the scores of the test, the curve of validation, and the cost."""

    validation_score: float  # the score of the evaluation whose weights were tested
    # The evaluations: step, tokens, flops, loss, token_accuracy and score of each.
    curve: list[dict[str, float]]
    spent: FinetuningCost  # the cost of training, evaluations and test


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

    Example:
        >>> data = prepare(get_finetuning_task("stdlib_ast"), Path("runs/stdlib_ast"))
        >>> config = ModelSpec("t5").config(as_vocabulary(data.tokenizer))
        >>> head = data.head_for(config)
        >>> model = head.model_class.from_config(head.configure(config, data))
        >>> spec = FinetuningSpec({"max_steps": 600})
        >>> finetune(model, data, spec, seed=0, output_dir=Path("runs/model"))["score"]
    """
    head = data.head_for(model.config)
    check_read(spec, spec.options_read(head.answer), what=f"the task {data.task.name}")
    checked = head.check_scoring(data, spec)
    trainer = finetuning_trainer(model, data, spec, seed, output_dir)

    # The number of steps, and of steps between evaluations.
    steps = planned_steps(trainer) + extra_steps(trainer, extra_flops)
    trainer.args.max_steps = steps
    trainer.args.eval_steps = math.ceil(steps / spec.evaluations)

    # Train, and keep the weights of the best evaluation.
    best = BestModel(trainer.training_cost, spec.patience, head.criterion)
    trainer.add_callback(best)
    trainer.train()
    if not all(math.isfinite(point["loss"]) for point in best.curve):
        raise FloatingPointError("the loss is not finite; give a smaller learning_rate")
    model.load_state_dict(best.weights)

    # Test them.
    test_start = time.perf_counter()
    merge_adapters(model)
    tested = head.test(model, data, spec, trainer)
    test_seconds = time.perf_counter() - test_start

    cost: FinetuningCost = {
        **trainer.training_cost(),
        "validation_s": round(best.seconds, 4),
        "test_s": round(test_seconds, 4),
        "stopped": best.stopped,
    }
    if "scoring" in checked:
        tested["scoring"] = checked["scoring"]
    if "notes" in checked:
        tested["notes"] = checked["notes"] + tested.get("notes", [])
    return {
        **tested,
        "validation_score": best.chosen["score"],
        "curve": best.curve,
        "spent": cost,
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
    train = data.rows("train")
    validation = data.rows("validation", spec.validation_examples)

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
    return head.trainer_class(
        model,
        arguments,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=head.collator(data, model.config),
        compute_metrics=head.validation_metrics(data, validation),
        **head.trainer_options(spec),
    )


def planned_steps(trainer: SynpreTrainer) -> int:
    """Return the steps of a fine-tuning: max_steps, or as many as num_train_epochs take."""
    args = trainer.args
    if args.max_steps > 0:
        return args.max_steps
    batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    steps_an_epoch = math.ceil(len(trainer.train_dataset) / batch_size)
    return math.ceil(args.num_train_epochs * steps_an_epoch)


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
