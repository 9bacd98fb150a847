"""Layer 4: fine-tuning on one downstream task: the recipe, the choice of weights, the test."""

import itertools
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_synpre.data.collators import Seq2SeqCollator
from hf_synpre.errors import UsageError
from hf_synpre.files import pack_fractions
from hf_synpre.finetuning.metrics import METRICS
from hf_synpre.finetuning.prepared import PreparedTask
from hf_synpre.finetuning.text_to_text import generate_ids
from hf_synpre.training.arguments import check_training, training_arguments
from hf_synpre.training.callbacks import BestModel
from hf_synpre.training.flops import Meter
from hf_synpre.training.trainer import SynpreTrainer, most_likely, teacher_forced

# On a CPU large teacher-forced batches are slower a row, their logits leave the cache: benchmarks/evaluation.py.
EVAL_BATCH, GENERATION_BATCH = (128, 128) if torch.cuda.is_available() else (16, 64)
MEGABATCH = (
    50  # batches that Trainer's grouping by length sorts together: their mean is that of the data
)


@dataclass
class FinetuningSpec:
    """The recipe of fine-tuning, the same for every arm. `training` holds transformers' TrainingArguments by name.

    `patience` ends a run after so many evaluations without a better validation token accuracy (0: never); examples None
    means all; `max_new_tokens` None means the longest train or validation target; `layer_decay` multiplies the learning rate
    of each layer by that of the one above it.
    """

    training: dict[str, Any] = field(default_factory=dict)
    evaluations: int = 5
    validation_examples: int | None = 500
    test_examples: int | None = 1000
    num_beams: int = 1
    length_penalty: float = 1.0
    max_new_tokens: int | None = None
    patience: int = 0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "evaluations",
            "validation_examples",
            "test_examples",
            "num_beams",
            "max_new_tokens",
        ):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"finetuning: {name} is {value}; give an integer >= 1.")
        if self.patience < 0:
            raise UsageError(
                f"finetuning: patience is {self.patience}; give an integer >= 0 (0: no early stop)."
            )
        if not 0 < self.layer_decay <= 1:
            raise UsageError(
                f"finetuning: layer_decay is {self.layer_decay}; give a factor in 0..1, 1 for one rate."
            )
        check_training(self.training)


def finetune(
    model: PreTrainedModel,
    data: PreparedTask,
    spec: FinetuningSpec,
    *,
    seed: int,
    output_dir: Path,
    extra_flops: float = 0.0,
) -> dict[str, Any]:
    """Fine-tune on a task and return the curve, the test scores, and what was spent.

    Validation is teacher-forced; the weights with the best token accuracy (the paper's choice; spec, section 4) are the
    ones tested, by generation, on the test split, which is read once, at the end. `extra_flops` lengthens the run.
    """
    trainer = finetuning_trainer(model, data, spec, seed, output_dir)
    best = train_best(trainer, model, spec, extra_flops)
    tested = test_scores(model, data, spec, trainer)
    seconds = {
        "validation_s": round(best.seconds, 4),
        "test_s": tested.pop("seconds"),
        "stopped": best.stopped,
    }
    return tested | {
        "validation_score": best.chosen["score"],
        "curve": best.curve,
        "spent": trainer.training_cost() | seconds,
    }


def train_best(
    trainer: SynpreTrainer, model: PreTrainedModel, spec: FinetuningSpec, extra_flops: float
) -> BestModel:
    """Train, and leave the model with the weights that validation liked best. FloatingPointError where it diverged."""
    trainer.args.max_steps = steps_of(trainer) + extra_steps(trainer, extra_flops)
    trainer.args.eval_steps = math.ceil(trainer.args.max_steps / spec.evaluations)
    best = BestModel(trainer.training_cost, spec.patience)
    trainer.add_callback(best)
    trainer.train()
    if not all(math.isfinite(point["loss"]) for point in best.curve):
        raise FloatingPointError("the loss is not finite; give a smaller learning_rate")
    model.load_state_dict(best.weights)
    return best


def finetuning_trainer(
    model: PreTrainedModel, data: PreparedTask, spec: FinetuningSpec, seed: int, output_dir: Path
) -> SynpreTrainer:
    """Return the Trainer of one fine-tuning; its collator cuts both sides to the task's limits."""
    tokenizer, task = data.tokenizer, data.task
    args = training_arguments(
        output_dir,
        {"per_device_eval_batch_size": EVAL_BATCH} | spec.training,
        seed=seed,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="no",
        train_sampling_strategy="group_by_length",
    )
    start = model.config.decoder_start_token_id
    limits = task.max_source, task.max_target
    return SynpreTrainer(
        model,
        args,
        train_dataset=data.rows("train"),
        eval_dataset=data.rows("validation", spec.validation_examples),
        data_collator=Seq2SeqCollator(
            tokenizer.pad_token_id, tokenizer.eos_token_id, start, *limits
        ),
        compute_metrics=teacher_forced,
        preprocess_logits_for_metrics=most_likely,
    )


def steps_of(trainer: SynpreTrainer) -> int:
    """Return the steps of a fine-tuning: max_steps, or as many as num_train_epochs take."""
    args = trainer.args
    if args.max_steps > 0:
        return args.max_steps
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return math.ceil(args.num_train_epochs * math.ceil(len(trainer.train_dataset) / batch))


def extra_steps(trainer: SynpreTrainer, flops: float) -> int:
    """Return how many more steps of this fine-tuning cost `flops`, by the mean of its first batches."""
    if not flops:
        return 0
    probe = Meter()
    batches = list(itertools.islice(trainer.get_train_dataloader(), MEGABATCH))
    for batch in batches:
        probe.add(batch, trainer.count_flops)
    return round(
        flops / (probe.cost["flops"] / len(batches) * trainer.args.gradient_accumulation_steps)
    )


def test_scores(
    model: PreTrainedModel, data: PreparedTask, spec: FinetuningSpec, trainer: SynpreTrainer
) -> dict[str, Any]:
    """Generate the test split and return its scores: the reported one, all, and the reported one of each example."""
    started = time.perf_counter()
    rows, metric = (
        data.rows("test", spec.test_examples),
        METRICS[data.task.metric](keep_in_memory=True),
    )
    merge_adapters(model)
    if model._supports_sdpa:  # the faster one where nothing is propagated back
        model.set_attn_implementation("sdpa")
    ids = generate_ids(
        model,
        rows,
        trainer.data_collator,
        limit=spec.max_new_tokens or data.longest_target(),
        batch_size=GENERATION_BATCH,
        num_beams=spec.num_beams,
        length_penalty=spec.length_penalty,
        bf16=trainer.args.bf16 and model.device.type != "cpu",  # which gains nothing there
    )
    texts = data.tokenizer.batch_decode(ids, skip_special_tokens=True)
    references = rows.references.to_pylist()
    scores = metric.compute(predictions=texts, references=references)
    return {
        "metric": metric.main,
        "score": scores[metric.main],
        "scores": scores,
        "test_examples": len(rows),
        "example_scores": pack_fractions(metric.each(texts, references)[metric.main]),
        "seconds": round(time.perf_counter() - started, 4),
    }


def merge_adapters(model: PreTrainedModel) -> None:
    """Add LoRA's products to the weights, once training is over."""
    for module in model.modules():
        if hasattr(module, "lora_A") and isinstance(module.lora_A, torch.nn.ModuleDict):
            module.merge()
