"""Layer 4: the Trainer that both phases use: an exact loss, a meter of what was spent, a stop at competence."""

import copy
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
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

from hf_synpre.config import fits
from hf_synpre.data.rows import IGNORED
from hf_synpre.errors import UsageError, choose
from hf_synpre.initialization import skeleton
from hf_synpre.models.electra import rtd_loss
from hf_synpre.models.packed_forward import accept_places
from hf_synpre.training.optimizers import SCHEDULES, UncorrectedAdamW, layer_groups


def token_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the cross-entropy per target token (nats) of the whole step, however it is cut into batches and processes.

    The models' own losses are means of each part, which Trainer sums under accumulation and several processes
    (https://github.com/huggingface/transformers/issues/47688).
    """
    total = cross_entropy(
        outputs.logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
    return total / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


class FlopCounter:
    """Counts the floating-point operations of a training step of any model: 3 x forward, matrix products only.

    Torch counts a forward pass of the architecture without weights at a few lengths; in between the count is a
    polynomial: linear in the lengths for the weights, quadratic for the attention scores.
    """

    LENGTHS = (8, 8), (16, 8), (8, 16), (24, 8), (8, 24), (24, 16)

    def __init__(self, model: PreTrainedModel):
        config = copy.deepcopy(model.config)
        config._attn_implementation = (
            "eager"  # the others look into masks, which have no values here
        )
        self.model = skeleton(type(model), config)
        for module in filter(lambda m: hasattr(m, "config"), self.model.modules()):
            module.config.pad_token_id = (
                None  # else some models look for padding among ids that have no values
            )
        self.second = (
            ("decoder_input_ids",)
            if model.config.is_encoder_decoder
            else getattr(model, "second_inputs", ())
        )
        if self.second == ("places",):
            accept_places(self.model)
        self.choices = (1,) * (type(model) in MODEL_FOR_MULTIPLE_CHOICE_MAPPING.values())
        terms = np.array([self._terms(*lengths) for lengths in self.LENGTHS], np.float64)
        counts = np.array([self._forward(*lengths) for lengths in self.LENGTHS], np.float64)
        self.weights = np.linalg.lstsq(terms, counts, rcond=None)[0]

    def _terms(self, source: int, target: int) -> list[int]:
        target = target if self.second else 0
        return [source, target, source * source, target * target, source * target]

    def _forward(self, source: int, target: int) -> float:
        lengths = {"input_ids": source, **dict.fromkeys(self.second, target)}
        ids = {
            name: torch.zeros((1, *self.choices, n), dtype=torch.long, device="meta")
            for name, n in lengths.items()
        }
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.model(**ids, use_cache=False) if "decoder_input_ids" in ids else self.model(**ids)
        return counter.get_total_flops()

    def __call__(self, rows: int, source: int, target: int) -> float:
        """Return the FLOPs of a batch of `rows` x (`source`, `target`) positions.

        `target` counts the decoder's, or the hidden ids that a head looks at; it is ignored for other models.
        """
        return 3.0 * rows * round(float(np.dot(self._terms(source, target), self.weights)))


# Dense bf16 peak of devices, FLOP/s: the vendors' data sheets (without sparsity).
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "V100": 125e12}


def peak_flops() -> float | None:
    """Return the peak of the device that trains, or None where it is not known (any CPU)."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for device, peak in PEAK_FLOPS.items() if device in name), None)


SUMMED, TIMED = ("tokens", "positions", "flops"), ("train_s", "wait_s")


class Meter(TrainerCallback, ExportableState):
    """Adds up what a run spends: real tokens, computed positions, FLOPs, seconds of training and of waiting for rows.

    `before` are the totals of a run's earlier lives, over all of their processes; `spent` is this process's share of this
    life. `totals` brings them together; the last ones go into a checkpoint.
    """

    def __init__(self, before: dict[str, float] | None = None):
        start = {
            "steps": 0,
            "tokens": 0,
            "positions": 0,
            "flops": 0.0,
            "train_s": 0.0,
            "wait_s": 0.0,
        }
        self.before, self.spent = start | (before or {}), dict(start)
        self.last, self._started = self.before, 0.0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"args": {"before": self.last}, "attributes": {}}

    def totals(self, reduce: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Return the sums so far, of seconds the mean; `reduce` sums a tensor over the processes, all of which call this."""
        own = torch.tensor(
            [*(float(self.spent[k]) for k in (*SUMMED, *TIMED)), 1.0], dtype=torch.float64
        )
        *sums, processes = reduce(own).tolist()
        shared = dict(zip((*SUMMED, *TIMED), sums, strict=True))
        shared |= {k: shared[k] / processes for k in TIMED}
        total = {k: v + self.before[k] for k, v in (self.spent | shared).items()}
        self.last = total | {"steps": self.spent["steps"] or self.before["steps"]}
        self.last |= {k: int(self.last[k]) for k in ("tokens", "positions")}
        return self.last

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.perf_counter()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.spent["train_s"] += time.perf_counter() - self._started
        self.spent["steps"] = state.global_step

    def add(self, inputs: dict[str, torch.Tensor], count_flops: FlopCounter) -> None:
        """Count one batch; the tokens stay a tensor, so that no device is waited for."""
        *rows, source = inputs["input_ids"].shape
        labels, count = inputs["labels"], math.prod(rows)
        real = inputs["segments"] > 0 if "segments" in inputs else inputs["attention_mask"] > 0
        tokens, positions = real.sum(), count * source
        if "decoder_input_ids" in count_flops.second:
            tokens, positions = tokens + (labels != IGNORED).sum(), positions + labels.numel()
        self.spent["tokens"] = self.spent["tokens"] + tokens
        self.spent["positions"] += positions
        self.spent["flops"] += count_flops(count, source, labels.shape[-1])

    def summary(
        self, reduce: Callable[[torch.Tensor], torch.Tensor], processes: int
    ) -> dict[str, float]:
        """Return the facts that every result file carries; `reduce` sums over the `processes`."""
        total = self.totals(reduce)
        rate = {
            "padding_share": 0.0,
            "tokens_per_s": 0.0,
            "positions_per_s": 0.0,
            "wait_share": 0.0,
        }
        seconds = total["train_s"] + total["wait_s"]
        if total["positions"] and seconds:
            rate["padding_share"] = 1 - total["tokens"] / total["positions"]
            rate["tokens_per_s"] = total["tokens"] / seconds
            rate["positions_per_s"] = total["positions"] / seconds
            rate["wait_share"] = total["wait_s"] / seconds
            if peak := peak_flops():
                rate["mfu"] = total["flops"] / seconds / processes / peak
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in (total | rate).items()}


class CompetenceStop(TrainerCallback):
    """Stops training once an evaluation reaches `threshold` of `metric` (Wu et al. 2022: 99 % token accuracy)."""

    def __init__(self, threshold: float, metric: str = "eval_token_accuracy"):
        self.threshold, self.metric = threshold, metric

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs: Any
    ) -> None:
        if metrics[self.metric] >= self.threshold:
            control.should_training_stop = True


class Deadline(TrainerCallback):
    """Stops training, with an evaluation, once `seconds` of it are spent, those before a kill included.

    The seconds are those that all processes were told (see Meter.totals), so all of them stop at one step.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict, **kwargs: Any
    ) -> None:
        if logs.get("train_s", 0.0) >= self.seconds:
            control.should_training_stop = control.should_evaluate = True


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


LOGGED = ("tokens", "train_s", "flops", "padding_share", "tokens_per_s", "wait_share", "mfu")


class SynpreTrainer(Seq2SeqTrainer):
    """A Seq2SeqTrainer with an exact loss and a meter; `optim: adafactor` means the papers' Adafactor.

    `loss` takes (outputs, labels, items of the whole step); `schedule` is a name of SCHEDULES, None leaves transformers'
    own; without `bias_correction` Adam is ELECTRA's; `layer_decay` multiplies the rate of each layer by that of the next.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: Seq2SeqTrainingArguments,
        *,
        callbacks: tuple = (),
        loss: Callable = token_loss,
        schedule: str | None = None,
        bias_correction: bool = True,
        layer_decay: float = 1.0,
        **kwargs: Any,
    ):
        self.count_flops, self.schedule, self.layer_decay = (
            FlopCounter(model),
            schedule,
            layer_decay,
        )
        super().__init__(
            model=model,
            args=args,
            compute_loss_func=loss,
            callbacks=[Meter(), *callbacks],
            **kwargs,
        )
        self._loss_shifts_labels = (
            False  # ours lie where their logits do: a decoder's first label counts too
        )
        self.remove_callback(PrinterCallback)
        if args.optim == OptimizerNames.ADAFACTOR:
            self.optimizer_cls_and_kwargs = (Adafactor, ADAFACTOR | {"lr": args.learning_rate})
        elif not bias_correction:
            betas = args.adam_beta1, args.adam_beta2
            self.optimizer_cls_and_kwargs = (
                UncorrectedAdamW,
                {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon},
            )

    @property
    def meter(self) -> Meter:
        """The meter of the run; a resumed Trainer makes it anew from the checkpoint."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, Meter))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Return our schedule or transformers' own."""
        if self.schedule is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            rate = functools.partial(
                SCHEDULES[self.schedule], warmup=warmup, total=num_training_steps
            )
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, rate)
        return self.lr_scheduler

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Return transformers' optimizer, or the same with a rate for each layer."""
        if self.layer_decay == 1.0 or self.optimizer is not None:
            return super().create_optimizer(*args, **kwargs)
        made, options = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
            self.args, self.model
        )
        decayed = self.get_decay_parameter_names(self.model)
        rates = {
            "lr": self.args.learning_rate,
            "weight_decay": self.args.weight_decay,
            "layer_decay": self.layer_decay,
        }
        self.optimizer = made(layer_groups(self.model, decayed, **rates), **options)
        return self.optimizer

    def _get_num_items_in_batch(
        self, batches: list, device: torch.device
    ) -> torch.Tensor | int | None:
        """Return the labels of a step; for two losses [labels, real ids], each summed over processes as labels are."""
        labels = super()._get_num_items_in_batch(batches, device)
        if self.compute_loss_func is not rtd_loss or labels is None:
            return labels
        real = sum((batch["attention_mask"] > 0).sum() for batch in batches).to(device)
        if self.args.world_size > 1:
            real = self.accelerator.gather(real).sum()
        return torch.stack([labels, real.to(labels)])

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the next batches and count how long that took."""
        started = time.perf_counter()
        batches = super().get_batch_samples(*args, **kwargs)
        self.meter.spent["wait_s"] += time.perf_counter() - started
        return batches

    def training_step(
        self, model: Any, inputs: dict, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Count the batch, then train on it."""
        self.meter.add(inputs, self.count_flops)
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the training loss with what was spent so far, how fast, and the seconds that are left."""
        if "loss" in logs and self.state.global_step:
            spent = self.spent()
            left = self.state.max_steps / self.state.global_step - 1
            logs |= {name: spent[name] for name in LOGGED if name in spent}
            logs["eta_s"] = round(left * (spent["train_s"] + spent["wait_s"]), 1)
        super().log(logs, start_time)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.spent()  # every process takes part, and the checkpoint keeps what it found
        super()._save_checkpoint(*args, **kwargs)

    def spent(self) -> dict[str, float]:
        """Return the facts of the run so far: tokens, positions, FLOPs, seconds, padding share, throughput."""
        return self.meter.summary(
            lambda sums: self.accelerator.reduce(sums.to(self.args.device)), self.args.world_size
        )


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


COUNTS = (
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
)
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
    "use_cpu": not torch.accelerator.is_available(),  # bf16 is refused on a CPU that was not asked for
}


def training_arguments(
    output_dir: Any, given: dict[str, Any], **fixed: Any
) -> Seq2SeqTrainingArguments:
    """Return transformers' training arguments: our defaults, `given` on top, `fixed` above all. UsageError on refusal."""
    check_training(given)
    for name in given:
        if name in fixed:
            raise UsageError(
                f"The training argument {name} is set by hf_synpre itself; leave it out."
            )
    try:
        return Seq2SeqTrainingArguments(
            output_dir=str(output_dir), **TRAINING_DEFAULTS | given | fixed
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"The training arguments {given} were refused: {' '.join(str(error).split())}"
        ) from None


def check_training(given: dict[str, Any]) -> None:
    """Raise UsageError on a name that is no training argument, or on a budget below one step."""
    fields = Seq2SeqTrainingArguments.__dataclass_fields__
    for name, value in given.items():
        if name == "output_dir":
            raise UsageError(
                "The training argument output_dir is set by hf_synpre itself; leave it out."
            )
        if name.startswith("hub_") or name == "push_to_hub":
            raise UsageError(
                f"The training argument {name} is not kept with a run; publish with `synpre push`."
            )
        default = fields[choose("training argument", name, fields)].default
        kind = bool if isinstance(default, bool) else int if isinstance(default, int) else float
        kind = float if name == "warmup_steps" else kind  # below 1 a share of all steps
        if isinstance(default, int | float) and not fits(kind, value):
            raise UsageError(f"The training argument {name} is {value!r}; give {kind.__name__}.")
        if name in COUNTS and value < 1:
            raise UsageError(f"{name} is {value}; give training.{name} >= 1.")
        if name == "dataloader_num_workers" and value < 0:
            raise UsageError(f"dataloader_num_workers is {value}; give 0 or more.")
        if name == "resume_from_checkpoint" and isinstance(value, str) and not Path(value).is_dir():
            raise UsageError(
                f"There is no checkpoint {value} to resume from; leave resume_from_checkpoint out."
            )
        if name == "learning_rate" and value <= 0:
            raise UsageError(f"learning_rate is {value}; give training.learning_rate > 0.")
