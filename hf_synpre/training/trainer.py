"""Model, rows and training arguments -> trained model: the Trainer of both phases."""

import functools
import logging
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    PreTrainedModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.optimization import Adafactor
from transformers.trainer_callback import PrinterCallback
from transformers.training_args import OptimizerNames

from hf_synpre.data.connection import one_line_cause
from hf_synpre.data.parts import cut_batch, fewest_parts
from hf_synpre.errors import UsageError
from hf_synpre.models.chunked_head import ChunkedHead, chunked_head
from hf_synpre.models.electra import RTDModel
from hf_synpre.models.electra_losses import rtd_loss
from hf_synpre.training.bfloat16 import fast_bfloat16
from hf_synpre.training.flops import FlopCounter, Meter, TrainingCost
from hf_synpre.training.losses import TokenLoss, token_loss
from hf_synpre.training.memory import Computed, memory_errors
from hf_synpre.training.optimizers import SCHEDULES, UncorrectedAdamW, layer_groups
from hf_synpre.training.progress import RunReporter, current_listener

logger = logging.getLogger(__name__)

# Adafactor of the papers: no momentum, update clipping at 1, steps relative to each tensor's size
# (docs/papers.md, "Pre-training").
ADAFACTOR = {
    "scale_parameter": True,
    "relative_step": False,
    "warmup_init": False,
    "clip_threshold": 1.0,
    "decay_rate": -0.8,
    "eps": (1e-30, 1e-3),
    "weight_decay": 0.0,
}
# An error of transformers is quoted up to so many characters.
LONGEST_CAUSE = 200
# The parts of a run's cost that go into Trainer's log beside the loss.
LOGGED = (
    *("tokens", "train_s", "flops", "padding_share", "tokens_per_s"),
    *("wait_share", "eval_share", "mfu"),
)


@functools.cache
def log_full_logits(name: str) -> None:
    """Say once that a class of models keeps the logits of all positions."""
    logger.warning(
        "%s: the logits of a whole batch are kept at once, because the head cannot run at labelled "
        "positions alone; where memory ends, give smaller batches.",
        name,
    )


def check_model(model: PreTrainedModel, args: Seq2SeqTrainingArguments) -> None:
    """Raise UsageError where a model cannot obey a training argument that was given.

    Args:
        model: the model to train.
        args: the training arguments.
    """
    name = type(model).__name__
    if args.activation_checkpointing and not model.supports_gradient_checkpointing:
        raise UsageError(
            f"{name} computes no activations anew in its backward pass, so gradient_checkpointing "
            "cannot apply; leave it out."
        )
    if args.neftune_noise_alpha is None:
        return

    # transformers adds the noise where the module of the input embeddings is called. T5 and others
    # call modules of their own that share its weight.
    if isinstance(model, RTDModel):
        others = True
    else:
        embeddings = model.get_input_embeddings()
        others = any(
            module is not embeddings and getattr(module, "weight", None) is embeddings.weight
            for module in model.modules()
            if isinstance(module, torch.nn.Embedding)
        )
    if others:
        raise UsageError(
            f"{name} has several modules of input embeddings, which NEFTune's noise does not "
            "reach; leave neftune_noise_alpha out."
        )


def check_router_loss(model: PreTrainedModel, adds_it: bool) -> None:
    """Raise UsageError where a model has a loss of its router that the run's would leave out.

    Args:
        model: the model to train.
        adds_it: whether the run adds it to the loss of a decoder.
    """
    config = model.config
    is_added = adds_it and not config.is_encoder_decoder and hasattr(config, "router_aux_loss_coef")
    if getattr(config, "output_router_logits", False) and not is_added:
        raise UsageError(
            f"The loss of {type(model).__name__}'s router cannot be added to the loss of the run; "
            "leave output_router_logits out."
        )


class SynpreTrainer(Seq2SeqTrainer):
    """A Seq2SeqTrainer with an exact loss, a meter of the training cost and the papers' Adafactor.

    Args:
        model: the model to train.
        args: as `training_arguments` makes them.
        callbacks: more callbacks, beside the meter.
        loss: a function (outputs, labels, number of items of the whole step) -> scalar.
        schedule: a name of `SCHEDULES`; None leaves transformers' own (`args.lr_scheduler_type`).
        bias_correction: without it Adam is that of BERT and ELECTRA (`UncorrectedAdamW`).
        layer_decay: the learning rate of a layer over that of the layer above it.
        tokens_per_batch: the most positions, padding included, that a process computes at once; the
            rows of a batch that take more are computed in parts. None for no limit.
        **kwargs: those of Seq2SeqTrainer: datasets, collator, metrics.

    Examples:
        >>> args = training_arguments("runs/mine", {"max_steps": 1000})
        >>> rows = SyntheticDataset("set", vocabulary=128)
        >>> collator = Seq2SeqCollator(pad=0, eos=1, start=0)
        >>> trainer = SynpreTrainer(model, args, train_dataset=rows, data_collator=collator)
        >>> trainer.train()
        >>> trainer.training_cost()["flops"]
    """

    # Trainer's own, which it makes when training begins.
    optimizer: torch.optim.Optimizer | None
    lr_scheduler: LambdaLR | None

    def __init__(
        self,
        model: PreTrainedModel,
        args: Seq2SeqTrainingArguments,
        *,
        callbacks: Sequence[TrainerCallback] = (),
        loss: Callable[..., torch.Tensor] = token_loss,
        schedule: str | None = None,
        bias_correction: bool = True,
        layer_decay: float = 1.0,
        tokens_per_batch: int | None = None,
        **kwargs: Any,
    ):
        # The share of an epoch that a step reads, set by a pre-training whose rows have an end.
        self.epochs_per_step: float | None = None
        # How many ids of a corpus its rows are made of, set by a pre-training on text.
        self.corpus_ids: int | None = None
        self.count_flops = FlopCounter.of(model)
        self.schedule = schedule
        self.layer_decay = layer_decay
        self.tokens_per_batch = tokens_per_batch
        # What is computed at the moment, for the error where memory runs out.
        self.computed = Computed()
        own_callbacks: list[TrainerCallback] = [Meter()]
        listener = current_listener()
        if listener is not None:
            collator = kwargs["data_collator"]

            def count_tokens(row: Any) -> int:
                return int(self.count_flops.tokens(collator([row])))

            own_callbacks.append(RunReporter(listener, kwargs.get("train_dataset"), count_tokens))
        check_model(model, args)
        try:
            super().__init__(
                model=model,
                args=args,
                compute_loss_func=loss,
                callbacks=[*own_callbacks, *callbacks],
                **kwargs,
            )
        except UsageError:
            raise
        except Exception as error:  # whatever the model or transformers raises on these arguments
            cause = textwrap.shorten(str(error), LONGEST_CAUSE, placeholder=" ...")
            raise UsageError(
                f"{type(model).__name__} cannot be trained with these arguments: {cause}"
            ) from error
        self.remove_callback(PrinterCallback)
        # Labels lie where their logits do, so that a decoder's first label counts too.
        self._loss_shifts_labels = False
        # The head that runs at labelled positions only, where the loss needs no others.
        self.chunked_head: ChunkedHead | None = None
        if isinstance(loss, TokenLoss):
            self.chunked_head = self._chunked_head(model, loss.label_smoothing)
        elif isinstance(model, RTDModel):
            self.chunked_head = self._chunked_head(model.generator, sampler=model.sample)
        check_router_loss(model, adds_it=isinstance(loss, TokenLoss) and bool(self.chunked_head))

        if args.optim == OptimizerNames.ADAFACTOR:
            self.optimizer_cls_and_kwargs = (Adafactor, ADAFACTOR | {"lr": args.learning_rate})
        elif not bias_correction:
            adam = {
                "lr": args.learning_rate,
                "betas": (args.adam_beta1, args.adam_beta2),
                "eps": args.adam_epsilon,
            }
            self.optimizer_cls_and_kwargs = (UncorrectedAdamW, adam)

    @property
    def meter(self) -> Meter:
        """The meter of the run; a resumed Trainer makes it anew from the checkpoint."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, Meter))

    def training_cost(self) -> TrainingCost:
        """Return the cost of the run so far (`Meter.summary`); all processes call this together."""

        def sum_over_processes(shares: torch.Tensor) -> torch.Tensor:
            return self.accelerator.reduce(shares.to(self.args.device))

        return self.meter.summary(sum_over_processes, self.args.world_size)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Return the schedule of this package that was named, or transformers' own."""
        if self.schedule is None:
            try:
                return super().create_scheduler(num_training_steps, optimizer)
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"lr_scheduler_type {self.args.lr_scheduler_type.value} refuses "
                    f"lr_scheduler_kwargs {self.args.lr_scheduler_kwargs}: {one_line_cause(error)}"
                ) from error
        if self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            rate = functools.partial(
                SCHEDULES[self.schedule], warmup=warmup, total=num_training_steps
            )
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, rate)
        return self.lr_scheduler

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return transformers' optimizer, or the same with a learning rate for each layer.

        Raises:
            UsageError: the optimizer refuses its options, or the model.
        """
        try:
            return self._optimizer(*args, **kwargs)
        except (TypeError, ValueError, ImportError) as error:
            raise UsageError(
                f"optim {self.args.optim.value} with optim_args {self.args.optim_args} refuses "
                f" {type(self.model).__name__}: {one_line_cause(error)}"
            ) from error

    def _optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return the optimizer that `create_optimizer` makes."""
        if self.layer_decay == 1.0 or self.optimizer is not None:
            return super().create_optimizer(*args, **kwargs)
        optimizer_class, options = (
            self.optimizer_cls_and_kwargs
            or self.get_optimizer_cls_and_kwargs(self.args, self.model)
        )

        groups = layer_groups(
            self.model,
            self.get_decay_parameter_names(self.model),
            lr=self.args.learning_rate,
            weight_decay=self.args.weight_decay,
            layer_decay=self.layer_decay,
        )
        self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the next batches and count how long that took."""
        began = time.perf_counter()
        batches = super().get_batch_samples(*args, **kwargs)
        self.meter.cost["wait_s"] += time.perf_counter() - began
        return batches

    def _get_num_items_in_batch(
        self, batches: list[dict[str, torch.Tensor]], device: torch.device
    ) -> torch.Tensor | int | None:
        """Return what the loss of a step is divided by, summed over processes.

        That is the number of labels; replaced-token detection has two losses, divided by
        [number of labels, number of tokens without padding].
        """
        labels = super()._get_num_items_in_batch(batches, device)
        if self.compute_loss_func is not rtd_loss or labels is None:
            return labels
        tokens = sum((batch["attention_mask"] > 0).sum() for batch in batches).to(device)
        if self.args.world_size > 1:
            tokens = self.accelerator.gather(tokens).sum()
        return torch.stack([labels, tokens.to(labels)])

    def _chunked_head(
        self, model: PreTrainedModel, *options: Any, **named: Any
    ) -> ChunkedHead | None:
        """Return a model's head for labelled positions, None where it needs all of them.

        Args:
            model: the model, or the part of it that has the head.
            *options: those of `chunked_head`.
            **named: those of `chunked_head`.
        """
        head = None
        if self.args.n_gpu <= 1:  # replicas of DataParallel would share the hooks of one model
            head = chunked_head(model, *options, **named)

        if head is None and self.args.process_index == 0:
            log_full_logits(type(model).__name__)
        return head

    def _head_in_chunks(self) -> AbstractContextManager[None]:
        """Let the model compute losses without logits, where it can."""
        return nullcontext() if self.chunked_head is None else self.chunked_head.attached()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as Trainer does; the model's head runs at labelled positions only.

        Raises:
            UsageError: memory has run out; the text says what to make smaller.
        """
        with memory_errors(self.computed, self.model), self._head_in_chunks():
            return super().train(*args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as Trainer does; the model's head runs at labelled positions only.

        Raises:
            UsageError: memory has run out; the text says what to make smaller.
        """
        # Each row counts once. Seq2SeqTrainer would count those twice with which the last batch is
        # filled up, so that all processes have as many rows.
        self.gather_function = self.accelerator.gather_for_metrics
        with memory_errors(self.computed, self.model), self._head_in_chunks():
            return super().evaluation_loop(*args, **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Return the loss of a batch; the model gets its labels as `targets` of its head."""
        if self.chunked_head is not None and "labels" in inputs:
            inputs = {"targets": inputs["labels"], **inputs}
        return super().compute_loss(model, inputs, *args, **kwargs)

    def training_step(
        self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Count the batch and train on it, in parts where it has more than `tokens_per_batch`.

        Returns:
            The loss of the batch, a scalar; the gradients of the parts are added up.
        """
        losses = []
        parts = self._parts(inputs)
        for number, part in enumerate(parts, start=1):
            self.meter.add(part, self.count_flops)
            self.computed.begin("training", part)
            # The processes exchange the gradients of the last part alone, which has them all.
            last = number == len(parts)
            apart = nullcontext() if last else self.accelerator.no_sync(model)
            with apart, fast_bfloat16(self.args):
                losses.append(super().training_step(model, part, num_items_in_batch))
        self.computed.end()
        return torch.stack(losses).sum()

    def _parts(self, batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """Return a batch as parts of at most `tokens_per_batch` positions, as many everywhere.

        A forward pass of FSDP is one of all processes, so all have as many parts.
        """
        if self.tokens_per_batch is None:
            return [batch]
        parts = fewest_parts(batch, self.tokens_per_batch)
        if self.args.world_size > 1:
            counts = torch.tensor([parts], device=self.args.device)
            parts = int(self.accelerator.gather(counts).max())
        return cut_batch(batch, parts)

    def prediction_step(
        self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> Any:
        """Evaluate a batch; remember which one, for the error where memory runs out."""
        self.computed.begin("evaluation", inputs)
        with fast_bfloat16(self.args):
            predicted = super().prediction_step(model, inputs, *args, **kwargs)
        self.computed.end()
        return predicted

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the training loss with the cost so far, the speed, and the seconds left."""
        step = self.state.global_step
        if "loss" in logs and step:
            cost: Mapping[str, Any] = self.training_cost()
            for name in LOGGED:
                if name in cost:
                    logs[name] = cost[name]
            steps_left_a_step = self.state.max_steps / step - 1
            seconds = cost["train_s"] + cost["wait_s"]
            logs["eta_s"] = round(steps_left_a_step * seconds, 1)
        super().log(logs, start_time)
