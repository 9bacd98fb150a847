"""A language model -> its loss without its logits: the head at labelled positions, in chunks.

The logits of 100 rows over a vocabulary of 50,000 ids take more memory than all else, and many of
their positions have no label. A `ChunkedHead` lets the model's body run as ever. Of its last hidden
states it picks those at labelled positions and gives them to the head chunk by chunk. What is kept
of a chunk is the loss, in training its gradients, in evaluation the most likely ids; its logits are
not.

The head is whatever the model computes of its body's last hidden states. It runs by a call of the
model while the body returns the chunk instead of what it would compute. So the scales, biases, soft
caps and transforms of any architecture are its own, and nothing here knows them.
(torch.nn.functional.linear_cross_entropy has chunks too, for a weight and a bias alone, and gives
no most likely ids.)
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_synpre.data.rows import IGNORED
from hf_synpre.models.trial_rows import equal_logits, trial_ids

# The logits of a chunk on a CPU: 250 positions of 32,000 ids, 32 MB. Larger blocks of memory are
# fetched from the system anew for each chunk there.
CHUNK_LOGITS = 8_000_000
# On a GPU few large chunks are faster: the float32 logits of one take this share of its memory.
GPU_SHARE = 1 / 64
# The largest difference of logits that rounding explains, as a share of the largest logit: in
# float32, and in units of the type's precision where that is less.
TOLERANCE, ROUNDINGS = 1e-4, 4
# Positions of a chunk of the row on which a model is tried; they do not divide the row.
TRIAL_CHUNK = 5
# What stands at positions without a label.
EMPTY = {"losses": 0.0, "predictions": IGNORED, "samples": IGNORED}

Sampler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class SummedLoss(ModelOutput):
    """What a model returns instead of logits while a `ChunkedHead` is attached.

    Attributes:
        loss: the cross-entropy summed over labelled positions, in nats; a scalar. In training that
            of a mixture's router is in it.
        predictions: the most likely ids, IGNORED where there is no label, [rows, length]. None in
            training.
        losses: that of each position, 0 where there is no label, [rows, length]. They have a
            gradient in place of `loss` where the head was made with `each_loss`.
        samples: ids that were drawn, IGNORED where there is no label, [rows, length]. None where
            none are asked for.
    """

    loss: torch.Tensor = None  # ModelOutput asks for defaults
    predictions: torch.Tensor | None = None
    losses: torch.Tensor = None
    samples: torch.Tensor | None = None


class ChunkedHead:
    """The head of a language model, which runs at labelled positions only.

    Args:
        model: a language model whose head takes the last hidden states of its body.
        stages: the modules that compute these states, in their order.
        label_smoothing: the share of a target that is spread over all ids.
        sampler: draws ids by logits [positions, ids] and random numbers [positions].
        each_loss: the loss of the run weighs positions by all of their losses. Then the gradient is
            that of each loss, and the logits of a chunk are computed again in the backward pass.

    Examples:
        >>> head = chunked_head(model)
        >>> with head.attached():
        ...     outputs = model(input_ids=ids, targets=labels)  # without logits
        >>> (outputs.loss / (labels != -100).sum()).backward()
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stages: tuple[torch.nn.Module, ...],
        label_smoothing: float = 0.0,
        sampler: Sampler | None = None,
        each_loss: bool = False,
    ):
        self.model = model
        self.stages = stages
        self.label_smoothing = label_smoothing
        self.sampler = sampler
        self.each_loss = each_loss
        self.vocabulary = model.config.vocab_size  # the width of the logits
        self.output_classes: list[type[ModelOutput]] = []  # what each stage returns
        self._is_attached = False
        # Of the batch that is computed: its labels, its random numbers, the last hidden states.
        self._labels: torch.Tensor | None = None  # [rows, length]
        self._draws: torch.Tensor | None = None  # [rows, length]
        self._states: torch.Tensor | None = None  # [rows, length, width]

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the model's forward take `targets`: labels [rows, length] where its logits would be.

        With them it returns a SummedLoss; without them it is as it was. `draws` beside them, random
        numbers [rows, length], are for the sampler. Afterwards the model has nothing of this left.
        """
        with ExitStack() as stack:
            if not self._is_attached:
                model, body = self.model, self.stages[-1]
                for handle in (
                    model.register_forward_pre_hook(self._take_labels, with_kwargs=True),
                    body.register_forward_hook(self._keep_states),
                    # Before FSDP's own hook, which may take the weights away again.
                    model.register_forward_hook(self._compute_loss, prepend=True),
                ):
                    stack.callback(handle.remove)
                self._is_attached = True
                stack.callback(setattr, self, "_is_attached", False)
            yield

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the head's logits [positions, ids] of last hidden states [positions, width]."""
        # The model reads no ids, because its body does not run.
        ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
        inputs = {"input_ids": ids}
        if self.model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = ids
        outputs = [output(last_hidden_state=states[None]) for output in self.output_classes]
        with returning(self.stages, outputs):
            # Not by a call: hooks of the model belong to whole batches.
            return self.model.forward(**inputs).logits[0]

    def _take_labels(self, model: Any, args: Any, batch: dict[str, Any]) -> Any:
        """Take the labels and random numbers out of a batch."""
        batch = dict(batch)
        self._labels = batch.pop("targets", None)
        self._draws = batch.pop("draws", None)
        return args, batch

    def _keep_states(self, body: Any, args: Any, outputs: ModelOutput) -> ModelOutput | None:
        """Keep the body's last hidden states of a batch; the model's own head gets one of them."""
        if self._labels is None:
            return None
        self._states = outputs.last_hidden_state  # [rows, length, width]
        outputs.last_hidden_state = self._states[:1, :1]
        return outputs

    @torch.compiler.disable
    def _compute_loss(self, model: Any, args: Any, outputs: ModelOutput) -> SummedLoss | None:
        """Return the loss of a batch in place of the model's outputs."""
        if self._labels is None or self._states is None:
            return None
        shape = self._labels.shape
        columns = {"labels": self._labels.flatten()}  # [rows * length]
        if self._draws is not None:
            columns["draws"] = self._draws.flatten()
        states = self._states.flatten(0, 1)  # [rows * length, width]
        self._labels = self._draws = self._states = None

        # What belongs to positions with labels; without any to the first one, whose loss is 0.
        positions = (columns["labels"] != IGNORED).nonzero()[:, 0]  # [labelled]
        labelled = len(positions)
        if not labelled:
            positions = torch.zeros_like(columns["labels"][:1])
        picked = states.index_select(0, positions)  # [labelled, width]
        columns = {name: column[positions] for name, column in columns.items()}  # [labelled]

        in_training = torch.is_grad_enabled()
        if in_training and self.each_loss:
            of_positions = self._losses_in_chunks(picked, columns["labels"])  # [labelled]
            losses = torch.zeros(len(states), dtype=of_positions.dtype, device=states.device)
            losses = losses.index_put((positions,), of_positions).view(shape)  # [rows, length]
            return SummedLoss(losses.detach().sum(), losses=losses)

        # Chunk by chunk; the gradients of a chunk are computed before the next chunk is.
        gradients = Gradients(self.model)
        kept: dict[str, list[torch.Tensor]] = {"losses": [], "predictions": [], "samples": []}
        size = chunk_positions(states, self.vocabulary)
        for begin in range(0, len(positions), size):
            chunk = picked[begin : begin + size].detach().requires_grad_(in_training)
            part = {name: column[begin : begin + size] for name, column in columns.items()}
            logits = self.logits(chunk)  # [positions, ids]
            losses = self._losses(logits, part["labels"])  # [positions]
            if in_training:
                gradients.add(losses.sum(), chunk)
            else:
                kept["predictions"].append(logits.argmax(-1))
            if "draws" in part and self.sampler is not None:
                kept["samples"].append(self.sampler(logits.detach(), part["draws"]))
            kept["losses"].append(losses.detach())

        # The chunks put together.
        loss = torch.cat(kept["losses"]).sum()
        if in_training:
            loss = gradients.attach(loss, picked) + self._router_loss(outputs, labelled)
        whole = {}
        for name, chunks in kept.items():
            if chunks:
                column = torch.full(
                    (len(states),), EMPTY[name], dtype=chunks[0].dtype, device=states.device
                )
                column[positions] = torch.cat(chunks)
                whole[name] = column.view(shape)  # [rows, length]
        return SummedLoss(loss, **whole)

    def _losses_in_chunks(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropies [positions] of last hidden states [positions, width].

        The logits of a chunk are not kept for the backward pass, which computes them again.
        """

        def chunk_losses(states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return self._losses(self.logits(states), labels)

        size = chunk_positions(states, self.vocabulary)
        chunks = zip(states.split(size), labels.split(size), strict=True)
        return torch.cat(
            [checkpoint(chunk_losses, *chunk, use_reentrant=False) for chunk in chunks]
        )

    def _losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropies [positions] of logits [positions, ids]."""
        return cross_entropy(
            logits.float(),
            labels,  # [positions]
            ignore_index=IGNORED,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )

    def _router_loss(self, outputs: ModelOutput, labels: int) -> torch.Tensor | float:
        """Return the loss of a mixture's router as a sum over labels, 0 where there is none."""
        loss = outputs.get("aux_loss")
        if loss is None:
            return 0.0
        return self.model.config.router_aux_loss_coef * loss * labels


def chunk_positions(states: torch.Tensor, vocabulary: int) -> int:
    """Return how many positions a chunk has.

    In training they are at least as many as a state has numbers: then the logits of a chunk take
    what the gradient of the head's weights takes, which is made once a chunk.

    Args:
        states: last hidden states, [positions, width].
        vocabulary: the ids of a position's logits.
    """
    logits = CHUNK_LOGITS
    if states.device.type == "cuda":
        memory = torch.cuda.get_device_properties(states.device).total_memory  # in bytes
        logits = int(memory * GPU_SHARE) // torch.float32.itemsize
    least = states.shape[-1] if torch.is_grad_enabled() else 1
    return max(least, logits // vocabulary)


class Gradients:
    """Sums over chunks of a loss's gradients.

    Args:
        model: the model whose weights the loss may depend on.
    """

    def __init__(self, model: PreTrainedModel):
        self.weights = trained_tensors(model)
        self.of_states: list[torch.Tensor] = []  # [positions, width] of each chunk
        self.of_weights: list[torch.Tensor] = []  # as `weights`

    def add(self, loss: torch.Tensor, states: torch.Tensor) -> None:
        """Add the gradients of a chunk's loss by its states [positions, width] and all weights."""
        of_states, *of_weights = torch.autograd.grad(
            loss, [states, *self.weights], allow_unused=True
        )
        if not self.of_states:
            # The first chunk shows which weights are the head's.
            used = [(w, g) for w, g in zip(self.weights, of_weights, strict=True) if g is not None]
            self.weights = [weight for weight, _ in used]
            self.of_weights = [gradient.to(summing_type(gradient)) for _, gradient in used]
        else:
            for total, gradient in zip(self.of_weights, of_weights, strict=True):
                total += gradient
        self.of_states.append(of_states)

    def attach(self, loss: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return the sum of the losses with the gradients.

        Args:
            loss: the sum, a scalar.
            states: the states of all chunks, [labelled, width].
        """
        summed = [torch.cat(self.of_states)]
        for weight, gradient in zip(self.weights, self.of_weights, strict=True):
            summed.append(gradient.to(weight.dtype))
        return WithGradients.apply(loss, summed, states, *self.weights)


class WithGradients(torch.autograd.Function):
    """A number whose gradients are known already."""

    @staticmethod
    def forward(
        ctx: Any, value: torch.Tensor, gradients: list[torch.Tensor], *inputs: torch.Tensor
    ) -> torch.Tensor:
        """Return the value.

        Args:
            ctx: keeps the gradients for the backward pass.
            value: the number, a scalar.
            gradients: its gradient by each of the inputs.
            inputs: the tensors that it was computed of.
        """
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients by the inputs, once: they are scaled in place."""
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, *(gradient.mul_(upstream) for gradient in gradients)


def chunked_head(
    model: PreTrainedModel,
    label_smoothing: float = 0.0,
    sampler: Sampler | None = None,
    each_loss: bool = False,
) -> ChunkedHead | None:
    """Return the head of a language model, which runs at labelled positions in chunks.

    Args:
        model: the model, with its weights.
        label_smoothing: the share of a target that is spread over all ids.
        sampler: draws ids by logits [positions, ids] and random numbers [positions].
        each_loss: as for `ChunkedHead`.

    Returns:
        The head; None where chunks of a row of last hidden states do not have the logits that the
        model gives to the row. Then logits depend on more than these states.
    """
    was_training = model.training
    model.eval()
    try:
        for stages in possible_bodies(model):
            head = ChunkedHead(model, stages, label_smoothing, sampler, each_loss)
            if gives_the_models_logits(head):
                return head
        return None
    finally:
        model.train(was_training)


def gives_the_models_logits(head: ChunkedHead) -> bool:
    """Say whether a small row has the same logits in chunks as in the model."""
    try:
        with torch.no_grad():
            expected, computed = trial_logits(head)  # [12, ids] each
    except Exception:  # whatever an architecture raises where its body returns a chunk
        return False
    tolerance = max(TOLERANCE, ROUNDINGS * torch.finfo(expected.dtype).eps)
    return expected.shape == computed.shape and equal_logits(expected, computed, tolerance)


def trial_logits(head: ChunkedHead) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of a small row as a whole and in chunks, [positions, ids] each.

    The head remembers what its stages return, and the width of the logits.
    """
    ids = trial_ids(head.model)  # [1, 12]
    inputs = {"input_ids": ids}
    if head.model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids

    # The row as a whole.
    kept: list[ModelOutput] = []
    with ExitStack() as stack:
        for stage in head.stages:
            handle = stage.register_forward_hook(lambda _, args, outputs: kept.append(outputs))
            stack.callback(handle.remove)
        expected = head.model(**inputs).logits[0]  # [12, ids]

    # The row in chunks.
    head.output_classes = [type(outputs) for outputs in kept]
    head.vocabulary = expected.shape[-1]
    chunks = kept[-1].last_hidden_state[0].split(TRIAL_CHUNK)
    return expected, torch.cat([head.logits(chunk) for chunk in chunks])


def possible_bodies(model: PreTrainedModel) -> list[tuple[torch.nn.Module, ...]]:
    """Return the modules that may compute the last hidden states of a model, most likely first.

    Each is a tuple of modules that run in their order; the head takes what the last one returns.
    """
    if model.config.is_encoder_decoder:
        return [(model.get_encoder(), model.get_decoder())]
    # OPT calls the decoder inside its body, past the body itself.
    return [(body,) for body in (model.base_model, model.get_decoder()) if body is not model]


def constant(output: ModelOutput, *args: Any, **inputs: Any) -> ModelOutput:
    """Return an output whatever the inputs are."""
    return output


@contextmanager
def returning(modules: Sequence[torch.nn.Module], outputs: Sequence[ModelOutput]) -> Iterator[None]:
    """Let each of some modules return an output instead of what it would compute."""
    with ExitStack() as stack:
        for module, output in zip(modules, outputs, strict=True):
            if "forward" in vars(module):  # it was replaced before, as in masked_head.py
                stack.callback(setattr, module, "forward", module.forward)
            else:
                stack.callback(delattr, module, "forward")
            module.forward = functools.partial(constant, output)
        yield


def trained_tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return the tensors of all modules that need gradients, each once.

    Parameters, and what FSDP has in their places while a forward pass runs.
    """
    found = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *vars(module).values()):
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                found[id(tensor)] = tensor
    return list(found.values())


def summing_type(tensor: torch.Tensor) -> torch.dtype:
    """Return the type in which a sum over chunks is exact enough: float32 at least."""
    return torch.promote_types(tensor.dtype, torch.float32)
