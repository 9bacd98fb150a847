"""Training in bfloat16 on CPUs that have no instructions for it.

PyTorch multiplies matrices of bfloat16 with the instructions AVX-512 or AMX. On a CPU without them,
as in most laptops, its products take many times as long as in float32 (benchmarks/bfloat16.py).
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainingArguments

logger = logging.getLogger(__name__)

# The products that forward and backward passes of linear layers and of attention consist of.
PRODUCTS = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
}


class Float32Products(TorchDispatchMode):
    """Inside it, products of bfloat16 matrices are computed in float32 and rounded to bfloat16.

    That is what instructions for bfloat16 do too: they add in float32. Only the order of the
    additions differs.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute one operation of PyTorch."""
        kwargs = kwargs or {}
        if func not in PRODUCTS or args[0].dtype is not torch.bfloat16:
            return func(*args, **kwargs)
        wide = [arg.float() if isinstance(arg, torch.Tensor) else arg for arg in args]
        return func(*wide, **kwargs).bfloat16()


def fast_bfloat16(args: TrainingArguments) -> AbstractContextManager[Any]:
    """Return the context for a step of training or evaluation on this machine.

    Args:
        args: the training arguments. A compiled model keeps PyTorch's own products.
    """
    is_needed = args.bf16 and args.device.type == "cpu" and not args.torch_compile
    if not is_needed or has_bfloat16():
        return nullcontext()
    say_once()
    return Float32Products()


def has_bfloat16() -> bool:
    """Return whether this CPU has instructions for products of bfloat16 matrices."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@functools.cache
def say_once() -> None:
    """Tell that the products of this process are computed in float32."""
    logger.warning(
        "This CPU has no instructions for bfloat16: products of matrices are computed in float32 "
        "and rounded to bfloat16, which takes longer than training without bf16."
    )
