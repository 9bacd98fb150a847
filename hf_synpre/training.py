"""Layer 4: the Trainer that both phases use: an exact loss, a meter of what was spent, a stop at competence."""

import time
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    PreTrainedModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.optimization import Adafactor
from transformers.trainer_callback import ExportableState, PrinterCallback
from transformers.training_args import OptimizerNames

from hf_synpre.collators import IGNORED
from hf_synpre.config import fits
from hf_synpre.errors import UsageError, choose


def token_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the cross-entropy per target token (nats) of the whole step, however it is cut into batches and processes.

    The models' own losses are means of each part, which Trainer sums under accumulation and several processes
    (https://github.com/huggingface/transformers/issues/47688).
    """
    total = cross_entropy(outputs.logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


class FlopCounter:
    """Counts the floating-point operations of one training step of an encoder-decoder: 3 x forward, matrix products only."""

    def __init__(self, model: PreTrainedModel):
        if not hasattr(model.config, "d_kv"):
            raise UsageError(f"{type(model).__name__} is not of the T5 family; give model_type t5, mt5 or umt5.")
        sides = {"source": 0, "target": 0}
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                source = name.startswith("encoder") or ".EncDecAttention.k" in name or ".EncDecAttention.v" in name
                sides["source" if source else "target"] += module.weight.numel()
        self.weights = sides
        config = model.config
        self.width = config.num_heads * config.d_kv
        self.layers = config.num_layers, config.num_decoder_layers

    def __call__(self, rows: int, source: int, target: int) -> float:
        """Return the FLOPs of a batch of `rows` x (`source`, `target`) positions."""
        products = 2 * (self.weights["source"] * source + self.weights["target"] * target)
        scores = self.layers[0] * source * source + self.layers[1] * (target * target + target * source)
        return 3.0 * rows * (products + 4 * self.width * scores)


class Meter(TrainerCallback, ExportableState):
    """Adds up what a run spends: real tokens, computed positions, FLOPs, seconds of training; saved with checkpoints."""

    def __init__(self, spent: dict[str, float] | None = None):
        self.spent = spent or {"steps": 0, "tokens": 0, "positions": 0, "flops": 0.0, "train_s": 0.0}
        self._started = 0.0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"args": {"spent": self.spent}, "attributes": {}}

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.spent["train_s"] += time.perf_counter() - self._started
        self.spent["steps"] = state.global_step

    def add(self, inputs: dict[str, torch.Tensor], count_flops: FlopCounter) -> None:
        """Count one batch."""
        (rows, source), target = inputs["input_ids"].shape, inputs["labels"].shape[1]
        self.spent["tokens"] += int(inputs["attention_mask"].sum() + (inputs["labels"] != IGNORED).sum())
        self.spent["positions"] += rows * (source + target)
        self.spent["flops"] += count_flops(rows, source, target)

    def summary(self, processes: int = 1) -> dict[str, float]:
        """Return the facts that every result file carries; the sums are over `processes` equal shares."""
        total = {k: v * processes if k in ("tokens", "positions", "flops") else v for k, v in self.spent.items()}
        rate = {"padding_share": 0.0, "tokens_per_s": 0.0, "positions_per_s": 0.0}
        if total["positions"] and total["train_s"]:
            rate["padding_share"] = 1 - total["tokens"] / total["positions"]
            rate["tokens_per_s"] = total["tokens"] / total["train_s"]
            rate["positions_per_s"] = total["positions"] / total["train_s"]
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in (total | rate).items()}


class CompetenceStop(TrainerCallback):
    """Stops training once an evaluation reaches `threshold` of `metric` (Wu et al. 2022: 99 % token accuracy)."""

    def __init__(self, threshold: float, metric: str = "eval_token_accuracy"):
        self.threshold, self.metric = threshold, metric

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs: Any) -> None:
        if metrics[self.metric] >= self.threshold:
            control.should_training_stop = True


# The papers' Adafactor: no momentum, update clipping at 1, steps relative to each tensor's size (spec, section 3).
ADAFACTOR = {
    "scale_parameter": True,
    "relative_step": False,
    "warmup_init": False,
    "clip_threshold": 1.0,
    "decay_rate": -0.8,
    "eps": (1e-30, 1e-3),
    "weight_decay": 0.0,
}


class SynpreTrainer(Seq2SeqTrainer):
    """A Seq2SeqTrainer with the exact loss and a meter; `optim: adafactor` means the papers' Adafactor."""

    def __init__(self, model: PreTrainedModel, args: Seq2SeqTrainingArguments, *, callbacks: tuple = (), **kwargs: Any):
        self.count_flops = FlopCounter(model)
        super().__init__(model=model, args=args, compute_loss_func=token_loss, callbacks=[Meter(), *callbacks], **kwargs)
        self.remove_callback(PrinterCallback)
        if args.optim == OptimizerNames.ADAFACTOR:
            self.optimizer_cls_and_kwargs = (Adafactor, ADAFACTOR | {"lr": args.learning_rate})

    @property
    def meter(self) -> Meter:
        """The meter of the run; a resumed Trainer makes it anew from the checkpoint."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, Meter))

    def training_step(self, model: Any, inputs: dict, num_items_in_batch: Any = None) -> torch.Tensor:
        """Count the batch, then train on it."""
        self.meter.add(inputs, self.count_flops)
        return super().training_step(model, inputs, num_items_in_batch)

    def spent(self) -> dict[str, float]:
        """Return the facts of the run so far: tokens, positions, FLOPs, seconds, padding share, throughput."""
        return self.meter.summary(self.args.world_size)


def teacher_forced(prediction: Any) -> dict[str, float]:
    """Return the share of target tokens and, as the score, of whole targets predicted under teacher forcing.

    The end-of-sequence id counts. A whole target is right exactly where greedy decoding would give these ids.
    """
    real = prediction.label_ids != IGNORED
    right = (prediction.predictions == prediction.label_ids) | ~real
    return {"token_accuracy": float(right[real].mean()), "score": float(right.all(axis=1).mean())}


def most_likely(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return the ids of the highest logits: what token accuracy needs of them."""
    return (logits[0] if isinstance(logits, tuple) else logits).argmax(-1)


COUNTS = ("max_steps", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
TRAINING_DEFAULTS = {
    "optim": "adafactor",
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 128,
    "logging_steps": 50,
    "remove_unused_columns": False,
    "report_to": [],
    "disable_tqdm": True,
    "dataloader_pin_memory": torch.cuda.is_available(),
}


def training_arguments(output_dir: Any, given: dict[str, Any], **fixed: Any) -> Seq2SeqTrainingArguments:
    """Return transformers' training arguments: our defaults, `given` on top, `fixed` above all. UsageError on refusal."""
    check_training(given)
    for name in given:
        if name in fixed:
            raise UsageError(f"The training argument {name} is set by hf_synpre itself; leave it out.")
    try:
        return Seq2SeqTrainingArguments(output_dir=str(output_dir), **TRAINING_DEFAULTS | given | fixed)
    except (ValueError, TypeError) as error:
        raise UsageError(f"The training arguments {given} were refused: {' '.join(str(error).split())}") from None


def check_training(given: dict[str, Any]) -> None:
    """Raise UsageError on a name that is no training argument, or on a budget below one step."""
    fields = Seq2SeqTrainingArguments.__dataclass_fields__
    for name, value in given.items():
        default = fields[choose("training argument", name, fields)].default
        kind = bool if isinstance(default, bool) else int if isinstance(default, int) else float
        if isinstance(default, int | float) and not fits(kind, value):
            raise UsageError(f"The training argument {name} is {value!r}; give {kind.__name__}.")
        if name in COUNTS and value < 1:
            raise UsageError(f"{name} is {value}; give training.{name} >= 1.")
        if name == "learning_rate" and value <= 0:
            raise UsageError(f"learning_rate is {value}; give training.learning_rate > 0.")
