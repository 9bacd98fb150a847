"""A fresh model -> the same, whose layers have learnt a synthetic task: a pre-training of a minute.

1. The model's twin: a language model of the same config over some 128 symbols (`models/twin.py`).
2. The twin is trained as a pre-training trains (`pretraining_trainer`), until the steps or the
   seconds are over, or its excess loss is small.
3. What is kept of it is copied into the model. Embeddings, head and tables of positions stay as the
   model's own initialiser has drawn them.
"""

import math
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from tqdm import tqdm
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

import hf_synpre
from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError, as_integer, choose, in_message
from hf_synpre.models.families import model_family
from hf_synpre.models.twin import check_trainable, twin_of
from hf_synpre.tasks import get_task
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.callbacks import StopAtLoss, evaluation_curve
from hf_synpre.training.evaluations import plan_evaluations
from hf_synpre.training.excess_loss import judge, lowest_loss
from hf_synpre.training.presets import SMALL_PARAMETERS, preset_fields
from hf_synpre.training.pretraining import PRETRAINING_ARGUMENTS, share_rows
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import pretraining_trainer
from hf_synpre.training.progress import RunState, current_listener, reported_to
from hf_synpre.versions import commit
from hf_synpre.vocabulary import SMALLEST_SIZE, Vocabulary


@dataclass(frozen=True)
class Recipe:
    """What models of a family learn in a minute (benchmarks/warmup.py, examples/LOG.md)."""

    task: str
    parameters: dict[str, Any]
    optim: str


DYCK = Recipe("k_shuffle_dyck", SMALL_PARAMETERS["k_shuffle_dyck"], "adamw_torch")
MQAR = Recipe("mqar", {"length": 20, "keys": 4}, "adafactor")
RECIPES = {"causal": DYCK, "mlm": MQAR, "seq2seq": MQAR}
# Optimizer -> its learning rate, where none is given.
LEARNING_RATES = {"adamw_torch": 3e-3, "adafactor": 3e-2}
# The symbols of a task, padding and marks included.
SYMBOLS, MOST_SYMBOLS = 128, 2**16
STEPS = 500
SECONDS = 60.0
# Examples of a step over all processes.
BATCH_SIZE = 32
# The training of every warm-up, where `training` does not say otherwise.
TRAINING: dict[str, Any] = {
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 0.02,
    "save_strategy": "no",
    # The deadline is looked at where the run logs.
    "logging_steps": 1,
    "eval_on_start": True,
    "disable_tqdm": True,
}
# A warm-up ends when the excess loss is this share of that of a guess among all symbols.
ENOUGH = 0.05
# How often a warm-up is evaluated, each time on so many examples.
EVALUATIONS = 10
EXAMPLES = 128


def warm_up(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    task: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    steps: int = STEPS,
    seconds: float | None = SECONDS,
    seed: int = 0,
    keep: str = "body",
    embeddings: str | None = None,
    symbols: int = SYMBOLS,
    training: Mapping[str, Any] | None = None,
    force: bool = False,
    quiet: bool | None = None,
) -> dict[str, Any]:
    """Teach the layers of a fresh model a synthetic task, in place, and return the facts.

    A language model of the same config over few symbols is trained, and its layers are copied into
    the model. So no head over the model's own vocabulary is computed, tied weights stay tied, and
    the model is untouched where anything fails. Random numbers of the caller are left as they were.
    All processes of a launcher call this together.

    Args:
        model: a decoder, encoder or encoder-decoder of transformers, with any head, on any device.
        tokenizer: names the ids that are no symbols; it is read with embeddings "kept" only.
        task: a synthetic task; without it the one that the model's family learns soonest.
        parameters: of the task; without them the small ones of the preset `small`.
        steps: the most steps.
        seconds: the most seconds of training; None for no limit.
        seed: of the rows, and of the twin's embeddings and head.
        keep: what the model keeps: "body" (all but embeddings, head and tables of positions),
            "attention" or "mlp" (their matrices), or "all": also the head and the tables of
            positions.
        embeddings: what becomes of token embeddings and of the output layer over tokens, tied or
            not: "fresh" (they stay as they are), "kept" (the rows of ids that the seed draws for
            the symbols are learnt) or "mean" (every row is the mean of the symbols' rows, a probe
            for what the layers alone have learnt). Without it "kept" with keep "all", else "fresh".
        symbols: how many ids the task has.
        training: transformers' training arguments by name, as learning_rate; batch_size, examples
            of a step over all processes, may stand among them.
        force: take a model that was trained before.
        quiet: show no progress bar; without it there is one on a terminal.

    Returns:
        task, version, parameters, symbols, steps, tokens, seconds, stopped ("steps", "seconds" or
        "excess loss"); loss_before, loss and, where the lowest possible loss of the task is known,
        bayes_loss, excess_before, excess_loss, in nats per scored token; learnt, None where that is
        not known, with the reason in not_judged; keep, kept and left (how many tensors were copied,
        the names of tensors of layers that were not trained), embeddings, ids (of embeddings
        "kept"), seed, hf_synpre, commit.

    Raises:
        UsageError: a model that cannot be trained or was trained before, a task that does not fit,
            or seconds that are too few for a step.
        FloatingPointError: the loss was not finite.

    Examples:
        >>> model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained("gpt2"))
        >>> facts = warm_up(model, seed=0)
        >>> facts["learnt"], facts["excess_before"], facts["excess_loss"]
    """
    check_trainable(model)
    check_limits(steps, seconds, symbols, seed)
    vocabulary = Vocabulary.plain(symbols)
    family = model_family(model.config)
    spec = warm_up_spec(family, task, parameters, symbols, steps, seconds, seed, training or {})
    special_ids = set(tokenizer.all_special_ids) if tokenizer is not None else set()

    with own_random_numbers(), own_processes(), tempfile.TemporaryDirectory() as folder:
        # The twin, and its Trainer.
        twin = twin_of(
            model,
            vocabulary,
            seed=seed,
            keep=keep,
            embeddings=embeddings,
            special_ids=special_ids,
            force=force,
        )
        run = WarmUp(spec, twin.network, vocabulary, Path(folder) / "run", quiet)

        # Train the twin; take its layers over.
        facts = run.train()
        twin.give_back()
    return facts | {
        "keep": keep,
        "kept": len(twin.kept) + len(twin.tables),
        "left": twin.left,
        "embeddings": twin.embeddings,
        "ids": list(twin.ids.values()),
        "seed": seed,
        "hf_synpre": hf_synpre.__version__,
        "commit": commit(),
    }


def check_limits(steps: int, seconds: float | None, symbols: int, seed: int) -> None:
    """Raise UsageError where steps, seconds, symbols or the seed are no such numbers."""
    if (as_integer(steps) or 0) < 1:
        raise UsageError(f"steps is {in_message(steps)}; give an integer >= 1.")
    if not SMALLEST_SIZE <= (as_integer(symbols) or 0) <= MOST_SYMBOLS:
        raise UsageError(
            f"symbols is {in_message(symbols)}; give an integer from {SMALLEST_SIZE} to "
            f"{MOST_SYMBOLS:,}: padding, the end, the marks of tasks, and the tokens."
        )
    number = as_integer(seed)
    if number is None or not 0 <= number < 2**32:
        raise UsageError(f"seed is {in_message(seed)}; give 0 <= seed < 2**32.")
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and seconds > 0):
        raise UsageError(f"seconds is {in_message(seconds)}; give a number > 0, or None.")


def warm_up_spec(
    family: str,
    task: str | None,
    parameters: Mapping[str, Any] | None,
    symbols: int,
    steps: int,
    seconds: float | None,
    seed: int,
    training: Mapping[str, Any],
) -> PretrainingSpec:
    """Return the pre-training that a warm-up is.

    Args:
        family: the model's; the others are those of `warm_up`.

    Raises:
        UsageError: there is no such task, it needs more symbols, or it has no rows with targets.
    """
    # The task, in a small size.
    recipe = RECIPES[family]
    if parameters is None:
        parameters = recipe.parameters
        if task not in (None, recipe.task):
            parameters = preset_fields("small", task).get("parameters", {})

    # How it is learnt.
    training = TRAINING | {"optim": recipe.optim} | dict(training)
    if "learning_rate" not in training:
        if training["optim"] not in LEARNING_RATES:
            raise UsageError(
                f"optim is {training['optim']}, whose usual learning rate is not known here; give "
                "learning_rate too."
            )
        training["learning_rate"] = LEARNING_RATES[training["optim"]]
    batch_size = training.pop("batch_size", BATCH_SIZE)

    fields = {
        "task": task or recipe.task,
        "parameters": dict(parameters),
        "vocabulary": symbols,
        "seed": seed,
        "evaluations": EVALUATIONS,
        "validation_examples": EXAMPLES,
        "target_accuracy": 2.0,  # it is the excess loss that ends a warm-up
        "batch_size": batch_size,
        "budget_seconds": None if seconds is None else float(seconds),
        "training": training | {"max_steps": steps},
    }
    spec = build_spec(PretrainingSpec, fields, "warm_up")
    if spec.reads_text:
        raise UsageError(
            f"The rows of {spec.task} are text, which a warm-up does not read; give a task with "
            "targets, as mqar, or pre-train on it (`synpre pretrain`)."
        )

    # The task's rows, of these symbols.
    get_task(str(spec.task)).resolve(spec.parameters)
    try:
        spec.open_task(Vocabulary.plain(symbols), size=1)
    except UsageError as error:
        raise UsageError(f"symbols is {symbols}: {error}") from error
    spec.validate()
    return spec


class WarmUp:
    """The training of a warm-up.

    Args:
        spec: the pre-training.
        network: the model that is trained, over the symbols of the task.
        vocabulary: of these symbols.
        folder: a folder that does not exist yet; nothing is kept there.
        quiet: show no progress bar; None shows one on a terminal.

    Raises:
        UsageError: rows or training arguments that do not fit the model, or a launcher that would
            shard it.
    """

    def __init__(
        self,
        spec: PretrainingSpec,
        network: PreTrainedModel,
        vocabulary: Vocabulary,
        folder: Path,
        quiet: bool | None,
    ):
        # The rows of a step, and when the run is evaluated.
        args = training_arguments(folder, spec.training, **PRETRAINING_ARGUMENTS, seed=spec.seed)
        assert spec.batch_size is not None  # warm_up_spec sets it
        share_rows(spec.batch_size, args)
        self.spec = plan_evaluations(spec, args)
        self.vocabulary = vocabulary

        # The lowest possible loss, where it is known, and the loss that is enough.
        objective = spec.objective_for(model_family(network.config))
        self.lowest = lowest_loss(spec, objective, vocabulary)
        enough = -math.inf
        if not isinstance(self.lowest, str):
            guess = math.log(vocabulary.size)
            enough = self.lowest.value + ENOUGH * (guess - self.lowest.value)
        self.stop = StopAtLoss(enough)

        # The Trainer. Whoever listens already shows how far it is.
        self.bar = None
        if current_listener() is None:
            lowest = 0.0 if isinstance(self.lowest, str) else self.lowest.value
            self.bar = Bar(self.spec, lowest, quiet)
        with nullcontext() if self.bar is None else reported_to(self.bar):
            self.trainer = pretraining_trainer(self.spec, network, vocabulary, args)
        self.trainer.add_callback(self.stop)
        if self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled:
            raise UsageError(
                "The launcher shards models (FSDP or DeepSpeed), which a warm-up cannot copy from; "
                "warm the model up in one process with `synpre warmup`, and load it here."
            )

    def train(self) -> dict[str, Any]:
        """Train; return what was learnt and what it took. A line is logged where it is too little.

        Raises:
            UsageError: there was time for one step only, or memory has run out.
            FloatingPointError: an evaluation's loss was not finite.
        """
        try:
            self.trainer.train()
        finally:
            if self.bar is not None:
                self.bar.close()
        curve = evaluation_curve(self.trainer.state.log_history)
        if not all(math.isfinite(point["loss"]) for point in curve):
            raise FloatingPointError("the loss is not finite; give a smaller learning_rate")

        # What ended it.
        cost = self.trainer.training_cost()
        steps, stopped = self.trainer.state.global_step, "steps"
        if self.stop.has_stopped:
            stopped = "excess loss"
        elif steps < self.trainer.args.max_steps:
            stopped = "seconds"
        if stopped == "seconds" and steps == 1:
            raise UsageError(
                f"seconds is {self.spec.budget_seconds:g}, and one step takes "
                f"{cost['train_s']:.2g} s; give more, or a smaller batch_size or shorter examples."
            )

        task = get_task(str(self.spec.task))
        return {
            "task": task.name,
            "version": task.version,
            "parameters": task.resolve(self.spec.parameters),
            "symbols": self.vocabulary.size,
            "steps": steps,
            "tokens": int(cost["tokens"]),
            "seconds": cost["train_s"],
            "stopped": stopped,
            **self._learnt(curve[0]["loss"], curve[-1]["loss"]),
            "curve": curve,
        }

    def _learnt(self, before: float, loss: float) -> dict[str, Any]:
        """Return the facts on the first and the last loss, in nats per scored token."""
        facts: dict[str, Any] = {"loss_before": before, "loss": loss, "learnt": None}
        if isinstance(self.lowest, str):
            return facts | {"not_judged": self.lowest}
        speaks = self.trainer.is_world_process_zero()
        return facts | {
            "bayes_loss": self.lowest.value,
            "excess_before": before - self.lowest.value,
            "excess_loss": loss - self.lowest.value,
            "learnt": judge(self.spec, loss, self.lowest, self.vocabulary, speaks=speaks),
        }


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Leave the global random numbers of Python, NumPy and torch as they were before the block."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def own_processes() -> Iterator[None]:
    """Leave accelerate's state as it was before the block, in which a Trainer of ours sets its own.

    A Trainer that was made before, whose precision may be another, goes on with its own.
    """
    shared = [state._shared_state for state in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    try:
        yield
    finally:
        for state, content in zip(shared, before, strict=True):
            state.clear()
            state.update(content)


class Bar:
    """Shows a warm-up as a bar, with its excess loss and the seconds left.

    Args:
        spec: what is learnt.
        lowest: the lowest possible loss, in nats per token; 0 where it is not known.
        quiet: show no bar; None shows it on a terminal only.
    """

    def __init__(self, spec: PretrainingSpec, lowest: float, quiet: bool | None):
        self.name = f"warming up on {spec.task}"
        self.lowest = lowest
        self.limit = spec.budget_seconds
        self.quiet = quiet
        self.bar: tqdm | None = None

    def begun(self, state: RunState) -> None:
        """Show an empty bar."""
        self.bar = tqdm(total=state.steps, desc=self.name, disable=self.quiet, unit="step")
        self.began = time.monotonic()

    def estimated(self, state: RunState) -> None:
        """Do nothing: `advanced` shows the seconds left."""

    def advanced(self, state: RunState) -> None:
        """Show how far the warm-up is."""
        assert self.bar is not None  # a run has begun before it advances
        shown = {}
        if state.loss is not None:
            shown["excess loss"] = f"{state.loss - self.lowest:.3f}"
        if state.seconds_left is not None:
            left = state.seconds_left
            if self.limit is not None:
                left = min(left, max(0.0, self.limit - (time.monotonic() - self.began)))
            shown["seconds left"] = f"{left:.0f}"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(state.step - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()


class WarmUpCallback(TrainerCallback):
    """Warms the model of a stock Trainer up before its first step.

    A run that goes on from a checkpoint is not warmed up again.

    Args:
        **options: those of `warm_up`.

    Raises:
        UsageError: `warm_up` has no such option.

    Attributes:
        facts: what `warm_up` has returned; None before it.

    Examples:
        >>> trainer = Trainer(model, args, train_dataset=rows, callbacks=[WarmUpCallback()])
        >>> trainer.train()
    """

    def __init__(self, **options: Any):
        for name in options:
            choose("option of WarmUpCallback", name, set(signature(warm_up).parameters) - {"model"})
        self.options = options
        self.facts: dict[str, Any] | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        """Warm the model up, unless the run goes on from a checkpoint."""
        if state.global_step > 0 or model is None:
            return
        options = dict(self.options)
        if isinstance(processing_class, PreTrainedTokenizerBase):
            options.setdefault("tokenizer", processing_class)
        self.facts = warm_up(model, **options)
