"""Memory that has run out -> an error of one line: what was computed, and what to make smaller."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hf_synpre.data.parts import computed_positions
from hf_synpre.errors import UsageError

# What torch's allocator for a CPU writes, and Linux where a process may have no more.
CPU_ALLOCATOR = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
# Bytes of a parameter in float32 and of its gradient; the state of the optimizer comes on top.
BYTES_A_PARAMETER = 8


class Computed:
    """What a run computes at the moment: a batch of training or evaluation, or nothing of these."""

    def __init__(self) -> None:
        self.phase, self.rows, self.positions = "", 0, 0

    def begin(self, phase: str, batch: dict[str, torch.Tensor]) -> None:
        """Remember that a batch is computed.

        Args:
            phase: "training" or "evaluation".
            batch: its arrays, [rows, width].
        """
        self.phase = phase
        self.rows, self.positions = len(batch["input_ids"]), computed_positions(batch)

    def end(self) -> None:
        """Remember that the batch is done."""
        self.phase = ""


@contextmanager
def memory_errors(computed: Computed, model: torch.nn.Module) -> Iterator[None]:
    """Raise UsageError where memory runs out in this block, of a GPU or of the machine.

    Args:
        computed: what the block computes when it happens.
        model: the model that is trained.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        cause = f"Memory ran out ({' '.join(str(error).split())[:120]})"
        raise UsageError(f"{cause} {advice(computed, model)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is that of memory which has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in CPU_ALLOCATOR)


def advice(computed: Computed, model: Any) -> str:
    """Return where memory ran out and what to make smaller, by how much as far as it is known."""
    if not computed.phase:
        parameters = sum(parameter.numel() for parameter in model.parameters())
        gigabytes = parameters * BYTES_A_PARAMETER / 1e9
        return (
            f"outside of batches: weights and gradients take {gigabytes:.1f} GB, and the state of "
            "the optimizer comes on top; give a smaller model, or optim adafactor, whose state is "
            "small."
        )
    batch = (
        f"in a batch of {computed.phase}, {computed.rows} rows of {computed.positions:,} positions"
    )
    if computed.phase == "evaluation":
        remedy = f"give per_device_eval_batch_size {max(1, computed.rows // 2)} or less"
    elif computed.rows > 1:
        remedy = (
            f"give tokens_per_batch {computed.positions // 2} or less to a pre-training, whose "
            "steps keep their rows and are computed in smaller parts; to a fine-tuning a smaller "
            "per_device_train_batch_size and more gradient_accumulation_steps"
        )
    else:
        remedy = "give shorter rows, a smaller model, bf16 or activation_checkpointing"
    return f"{batch}; {remedy}."
