"""Batches of a run -> its training cost: tokens, positions, FLOPs and seconds."""

import copy
import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_callback import ExportableState

from hf_synpre.data.rows import IGNORED
from hf_synpre.errors import UsageError
from hf_synpre.initialization import skeleton
from hf_synpre.models.masked_head import compute_masked_logits_only


class FlopCounter:
    """Counts the floating-point operations of a training step of any model.

    Only matrix products count. A step costs as much as three forward passes: its forward pass, and
    a backward pass that costs two. The head counts at all target positions of a batch, also where
    it runs at labelled ones alone (models/chunked_head.py): like padding, the others are part of
    the batch. Torch counts forward passes of the architecture, without its
    weights, at six pairs of lengths. A polynomial through them gives the count at any lengths: it
    is linear in the lengths for the weights and quadratic for the attention scores. Architectures
    that pad or cut their inputs follow no polynomial; their passes are counted at each pair of
    lengths that comes. Those that read values in a forward pass are counted with their weights.

    Args:
        model: the model that is trained. It is not changed, and its weights are not copied.

    Raises:
        UsageError: no forward pass of the architecture can be counted.
    """

    # Input and target positions of the passes that are counted: enough of them to determine the
    # five coefficients of the polynomial.
    LENGTHS = ((8, 8), (16, 8), (8, 16), (24, 8), (8, 24), (24, 16))
    # Of the pass on which the polynomial is tried.
    TRIAL = (40, 32)
    STEP = 3.0  # a step costs as much as so many forward passes

    def __init__(self, model: PreTrainedModel):
        # Inputs beside input_ids that a forward pass needs, all [rows, target positions]. Models
        # whose head runs at masked positions alone name theirs (models/masked_head.py, electra.py).
        self.target_inputs: tuple[str, ...]
        if model.config.is_encoder_decoder:
            self.target_inputs = ("decoder_input_ids",)
        else:
            self.target_inputs = getattr(model, "target_inputs", ())
        multiple_choice = type(model) in MODEL_FOR_MULTIPLE_CHOICE_MAPPING.values()
        self.row_shape = (1, 1) if multiple_choice else (1,)  # [rows] or [rows, choices]

        # The passes that determine the polynomial: of the architecture alone, else of the model.
        self.counted: dict[tuple[int, int], float] = {}  # passes at each pair of lengths
        terms = [self._terms(*lengths) for lengths in self.LENGTHS]  # [passes, 5]
        self.model = model
        try:
            self.model = self._without_weights(model)
            counts = [self._count(*lengths) for lengths in self.LENGTHS]  # [passes]
        except Exception:  # whatever an architecture raises where tensors have no values
            self.model = model
            self.counted.clear()
            counts = [self._count(*lengths) for lengths in self.LENGTHS]

        # Solve for its coefficients, and try it on one more pass.
        solution = np.linalg.lstsq(
            np.array(terms, np.float64), np.array(counts, np.float64), rcond=None
        )
        self.coefficients = solution[0]  # [5]
        self.is_polynomial = self._predicts_trial()

    @classmethod
    def of(cls, model: PreTrainedModel) -> "FlopCounter":
        """Return the counter of a model; models of one architecture share it in a process."""
        config = model.config.to_json_string(use_diff=False)
        key = type(model), config, getattr(model, "target_inputs", ())
        counter = COUNTERS.get(key) or cls(model)
        if counter.model.device.type == "meta":  # it keeps no weights in memory
            COUNTERS[key] = counter
        return counter

    @property
    def reads_targets(self) -> bool:
        """Whether a decoder reads the labels beside the inputs."""
        return "decoder_input_ids" in self.target_inputs

    def tokens(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return how many tokens the model reads of a batch, without padding.

        Args:
            batch: input_ids and labels, with segments or attention_mask.
        """
        is_real = batch["segments" if "segments" in batch else "attention_mask"] > 0
        if self.reads_targets:
            return is_real.sum() + (batch["labels"] != IGNORED).sum()
        return is_real.sum()

    def _without_weights(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the architecture of a model on the meta device: tensors with shapes, no values.

        Eager attention and no padding id, because other implementations, and a search for padding,
        read values. Experts multiply in batches, because a loop over them reads which are chosen.
        """
        config = copy.deepcopy(model.config)
        config._attn_implementation = "eager"
        architecture = skeleton(type(model), config)
        if architecture._can_set_experts_implementation():
            architecture.set_experts_implementation("batched_mm")
        for module in architecture.modules():
            if hasattr(module, "config"):
                module.config.pad_token_id = None
        if self.target_inputs == ("masked_positions",):
            compute_masked_logits_only(architecture)
        return architecture

    def _count_with_weights(self, source: int, target: int) -> float:
        """Return the FLOPs of a forward pass of the model itself, which is left as it was.

        Raises:
            UsageError: its forward pass takes other inputs, or these lengths are too short for it.
        """
        was_training = self.model.training
        try:
            self.model.eval()
            with counted_implementations(self.model):
                return self._count_forward(source, target)
        except Exception as error:  # whatever an architecture raises
            cause = " ".join(str(error).split())[:200]
            raise UsageError(
                f"{type(self.model).__name__} cannot be trained here: a forward pass on ids alone "
                f"fails ({cause}); give another architecture, or other fields of its config "
                "(--config_overrides, or a config.json as --config_name)."
            ) from error
        finally:
            self.model.train(was_training)

    def _predicts_trial(self) -> bool:
        """Say whether the polynomial gives the count of one more pass."""
        predicted = float(np.dot(self._terms(*self.TRIAL), self.coefficients))
        try:
            counted = self._count(*self.TRIAL)
        except Exception:  # it is too long for the model
            return True
        return math.isclose(predicted, counted, rel_tol=1e-6)

    def __call__(self, rows: int, source: int, target: int) -> float:
        """Return the FLOPs of a training step on one batch.

        Args:
            rows: rows of the batch; for multiple choice rows times choices.
            source: input positions of a row.
            target: target positions of a row: a decoder's, or the masked positions where the head
                runs at those alone. Other models ignore it.
        """
        if self.is_polynomial:
            forward = round(float(np.dot(self._terms(source, target), self.coefficients)))
        else:
            forward = round(self._count(source, target))
        return self.STEP * rows * forward

    def _count(self, source: int, target: int) -> float:
        """Return the FLOPs of a forward pass of one row at these lengths, counted once."""
        if not self.target_inputs:
            target = 0
        lengths = (source, target)
        if lengths not in self.counted:
            is_bare = self.model.device.type == "meta"
            count = self._count_forward if is_bare else self._count_with_weights
            self.counted[lengths] = count(source, target)
        return self.counted[lengths]

    def _terms(self, source: int, target: int) -> list[int]:
        """Return the five terms of the polynomial at two lengths."""
        if not self.target_inputs:
            target = 0
        return [source, target, source * source, target * target, source * target]

    def _count_forward(self, source: int, target: int) -> float:
        """Return the FLOPs of a forward pass of one row, counted by torch."""
        lengths = {"input_ids": source}
        for name in self.target_inputs:
            lengths[name] = target

        inputs: dict[str, Any] = {}
        for name, length in lengths.items():
            shape = (*self.row_shape, length)
            inputs[name] = torch.zeros(shape, dtype=torch.long, device=self.model.device)
        # As in training; but some decoders without values need a cache, or they look for packed
        # rows in their positions.
        accepted = inspect.signature(type(self.model).forward).parameters
        is_bare_decoder = self.model.device.type == "meta" and "decoder_input_ids" not in inputs
        if "use_cache" in accepted and not is_bare_decoder:
            inputs["use_cache"] = False
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.model(**inputs)
        return counter.get_total_flops()


# The counters of the architectures that this process has trained: class of the model, its config
# as JSON and its further inputs -> the counter.
COUNTERS: dict[tuple[type, str, tuple[str, ...]], FlopCounter] = {}


@contextmanager
def counted_implementations(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute attention and experts by matrix products, which torch counts.

    It does not count those inside fused attention on a CPU and of experts' grouped matrices.
    """
    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    before = []
    for config in configs.values():
        before.append((config, config._attn_implementation, config._experts_implementation))
    try:
        for config in configs.values():
            config._attn_implementation = config._experts_implementation = "eager"
        yield
    finally:
        for config, attention, experts in before:
            config._attn_implementation = attention
            config._experts_implementation = experts


# Dense bf16 peak of devices, FLOP/s: the vendors' data sheets (without sparsity).
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "V100": 125e12}


def peak_flops() -> float | None:
    """Return the peak of the training device in FLOP/s, None where it is not known (any CPU)."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    for device, peak in PEAK_FLOPS.items():
        if device in name:
            return peak
    return None


class TrainingCost(TypedDict):
    """The cost of a run: over all its processes, and over all its resumptions after a kill."""

    # Optimizer steps.
    steps: int
    # Real tokens of all rows: inputs, and a decoder's targets.
    tokens: int
    # Positions that were computed: tokens and padding.
    positions: int
    # Floating-point operations, by `FlopCounter`.
    flops: float
    # Seconds of training steps, of waiting for rows, and of evaluations.
    train_s: float
    wait_s: float
    eval_s: float
    # 1 - tokens / positions.
    padding_share: float
    # Tokens and positions per second of training and waiting.
    tokens_per_s: float
    positions_per_s: float
    # The share of those seconds that was spent waiting.
    wait_share: float
    # The share of the time of the whole run, training, waiting and evaluations, that these took.
    eval_share: float
    # The share of the devices' peak FLOP/s that was reached, where the peak is known.
    mfu: NotRequired[float]


class Meter(TrainerCallback, ExportableState):
    """Adds up the cost of a run, over all its processes and over all its resumptions after a kill.

    Args:
        before: the totals of the run up to the checkpoint that it is resumed from, over all
            processes. Trainer passes what the checkpoint holds.

    Attributes:
        cost: the cost of this process since the run was begun or resumed: steps, tokens, positions,
            flops, train_s, wait_s, eval_s.
        last: the totals when they were last computed; a checkpoint holds them.
    """

    SUMMED = ("tokens", "positions", "flops")  # over processes
    AVERAGED = ("train_s", "wait_s", "eval_s")  # over processes, which train at the same time

    def __init__(self, before: dict[str, float] | None = None):
        nothing: dict[str, Any] = {
            "steps": 0,
            "tokens": 0,  # real ones, of inputs and of a decoder's targets
            "positions": 0,  # computed ones: tokens and padding
            "flops": 0.0,
            "train_s": 0.0,  # seconds of training steps
            "wait_s": 0.0,  # seconds of waiting for rows
            "eval_s": 0.0,  # seconds of evaluations
        }
        self.before = nothing | (before or {})
        self.cost = dict(nothing)
        self.last = self.before
        self._step_began = 0.0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: the arguments of the Meter of a resumed run."""
        return {"args": {"before": self.last}, "attributes": {}}

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step_began = time.perf_counter()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.cost["train_s"] += time.perf_counter() - self._step_began
        self.cost["steps"] = state.global_step

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs: Any
    ) -> None:
        self.cost["eval_s"] += metrics.get("eval_runtime", 0.0)

    def add(self, batch: dict[str, torch.Tensor], count_flops: FlopCounter) -> None:
        """Count one batch. The tokens stay a tensor, so that no device is waited for.

        Args:
            batch: input_ids [rows, length], or [rows, choices, length], with labels and segments or
                attention_mask.
            count_flops: the counter of the model that is trained on it.
        """
        *row_shape, length = batch["input_ids"].shape
        rows, labels = math.prod(row_shape), batch["labels"]

        positions = rows * length
        if count_flops.reads_targets:
            positions += labels.numel()

        self.cost["tokens"] = self.cost["tokens"] + count_flops.tokens(batch)
        self.cost["positions"] += positions
        self.cost["flops"] += count_flops(rows, length, labels.shape[-1])

    def totals(self, reduce: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
        """Return the cost of the whole run so far: sums over processes, but means of seconds.

        Args:
            reduce: sums a tensor over the processes, all of which call this.
        """
        # All numbers in one tensor, so that the processes wait for each other once. Each adds a 1,
        # so that the last sum is the number of processes.
        names = (*self.SUMMED, *self.AVERAGED)
        shares = [float(self.cost[name]) for name in names]
        *sums, processes = reduce(torch.tensor([*shares, 1.0], dtype=torch.float64)).tolist()
        since_resumed = dict(zip(names, sums, strict=True))
        for name in self.AVERAGED:
            since_resumed[name] /= processes

        totals: dict[str, Any] = {"steps": self.cost["steps"] or self.before["steps"]}
        for name in names:
            totals[name] = since_resumed[name] + self.before[name]
        for name in ("tokens", "positions"):
            totals[name] = int(totals[name])
        self.last = totals
        return totals

    def summary(
        self, reduce: Callable[[torch.Tensor], torch.Tensor], processes: int
    ) -> TrainingCost:
        """Return the totals with rates, as result files hold them.

        Args:
            reduce: sums a tensor over the processes, all of which call this.
            processes: the number of processes; the peak FLOP/s is that of all their devices.
        """
        totals = self.totals(reduce)
        rates = {
            "padding_share": 0.0,
            "tokens_per_s": 0.0,
            "positions_per_s": 0.0,
            "wait_share": 0.0,
            "eval_share": 0.0,
        }
        seconds = totals["train_s"] + totals["wait_s"]
        if totals["positions"] and seconds:
            rates["padding_share"] = 1 - totals["tokens"] / totals["positions"]
            rates["tokens_per_s"] = totals["tokens"] / seconds
            rates["positions_per_s"] = totals["positions"] / seconds
            rates["wait_share"] = totals["wait_s"] / seconds
            rates["eval_share"] = totals["eval_s"] / (seconds + totals["eval_s"])
            peak = peak_flops()
            if peak is not None:
                rates["mfu"] = totals["flops"] / seconds / processes / peak

        summary: Any = totals | rates
        for name, value in summary.items():
            if isinstance(value, float):
                summary[name] = round(value, 4)
        return summary
