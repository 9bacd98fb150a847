"""A checkpoint's safetensors files -> its tensors by name, as float32.

Three things that are stored in other ways than a model of transformers saves them:

- names that a wrapper has changed (a compiled model, DDP, FSDP, peft) lose what it added;
- float8 codes are multiplied with their scales, DeepSeek's in blocks or one a row or tensor;
- other quantised codes, and adapters, are refused by name.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from hf_synpre.errors import UsageError
from hf_synpre.files import refuse_pointer
from hf_synpre.initialization.weight_files import (
    INDEX_FILE,
    SINGLE_FILE,
    broken_file,
    read_index,
    weight_files,
)

logger = logging.getLogger(__name__)

# Parts of a name that wrappers of torch and lightning put anywhere in it.
WRAPPER_PARTS = frozenset(
    (
        "_orig_mod",
        "_fsdp_wrapped_module",
        "_fpw_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
    )
)
# What DDP, DataParallel and peft put before the names of all tensors.
WRAPPER_PREFIXES = ("module.", "base_model.model.")
# A module that holds a model puts so many parts of a name at most before the model's names.
MOST_OUTER_PARTS = 3

# How safetensors calls the floating-point dtypes; tensors of other dtypes have no moments.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
FLOAT8 = ("F8_E4M3", "F8_E5M2")
# The ends of names of the scales of float8 codes: the code is multiplied with them.
SCALES = ("_scale_inv", "_scale")
# Further numbers beside float8 codes: they concern activations and caches, not weights.
OTHER_SCALES = (".input_scale", ".activation_scale", ".k_scale", ".v_scale", ".output_scale")

# The ends of names that quantised tensors have -> who writes them.
QUANTISED = {
    ".SCB": "bitsandbytes in 8 bits",
    ".absmax": "bitsandbytes in 4 bits",
    ".quant_map": "bitsandbytes in 4 bits",
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".weight_packed": "compressed-tensors",
    ".weight_scale_2": "NVFP4",
    ".W_q": "HQQ",
    ".codebooks": "AQLM",
    ".Qidxs": "QuIP#",
    ".weight._data": "quanto",
}
# The parts of names that adapters of peft have.
ADAPTER_PARTS = frozenset(
    (
        "lora_A",
        "lora_B",
        "lora_E",
        "lora_down",
        "lora_up",
        "lora_embedding_A",
        "lora_embedding_B",
        "lora_magnitude_vector",
        "ia3_l",
        "hada_w1_a",
        "lokr_w1",
        "oft_r",
        "boft_R",
        "vera_lambda_b",
        "prompt_embeddings",
    )
)


class StoredTensors:
    """The tensors in a checkpoint's safetensors files by name; each is read when it is asked for.

    Args:
        files: the files of one checkpoint.
        source: what errors call it: its folder.

    Attributes:
        shapes: name -> shape of every tensor that is not the scale of another. The names are
            without what wrappers put into them.
        stored_names: name -> name in the files.
        files: name -> the file that holds the tensor.

    Raises:
        UsageError: a file is broken, two files hold a tensor of one name, or the tensors are those
            of an adapter or quantised otherwise than in float8.
    """

    def __init__(self, files: Iterable[Path], source: str):
        self.source = source
        self.readers: dict[str, safe_open] = {}  # name in the files -> the reader of its file
        self.dtypes: dict[str, str] = {}  # name in the files -> dtype, as safetensors calls it
        stored_shapes: dict[str, tuple[int, ...]] = {}
        stored_files: dict[str, Path] = {}
        for file in files:
            for name, reader in open_tensors(file).items():
                if name in self.readers:
                    raise UsageError(
                        f"{name} is in both {stored_files[name]} and {file}; "
                        "keep the files of one checkpoint."
                    )
                view = reader.get_slice(name)
                stored_shapes[name] = tuple(view.get_shape())
                self.dtypes[name] = view.get_dtype()
                self.readers[name] = reader
                stored_files[name] = file

        self.scales = find_scales(self.dtypes, stored_shapes)
        refuse_codes(source, self.dtypes, self.scales)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.files: dict[str, Path] = {}
        self.stored_names = plain_names(source, self.dtypes)
        belongs_to_codes = set(self.scales.values())
        if self.scales:
            belongs_to_codes |= {name for name in self.dtypes if name.endswith(OTHER_SCALES)}
        for name, stored_name in list(self.stored_names.items()):
            if stored_name in belongs_to_codes:
                del self.stored_names[name]
                continue
            self.shapes[name] = stored_shapes[stored_name]
            self.files[name] = stored_files[stored_name]

    @classmethod
    def in_folder(cls, folder: Path) -> "StoredTensors":
        """Open the safetensors files of a checkpoint's folder.

        Raises:
            UsageError: there are none, or one of them is missing or broken.
        """
        files = weight_files(folder)
        tensors = cls(files, str(folder))

        # What an index names must be there, if its files were taken.
        index = folder / INDEX_FILE
        if index.exists() and folder / SINGLE_FILE not in files:
            missing = sorted(read_index(index).keys() - tensors.readers.keys())
            if missing:
                raise UsageError(
                    f"{index} names {missing[0]}, which is in none of its files (so are "
                    f"{len(missing)} tensors in all); copy the checkpoint again."
                )
        return tensors

    def is_scaled(self, name: str) -> bool:
        """Say whether a tensor is stored as codes with a scale beside them."""
        return self.stored_names[name] in self.scales

    def is_floating(self, name: str) -> bool:
        """Say whether a tensor is stored in a floating-point dtype."""
        return self.dtypes[self.stored_names[name]] in DTYPES

    def stored(self, name: str) -> torch.Tensor:
        """Return one tensor in the dtype that it is stored in."""
        stored_name = self.stored_names[name]
        return self.readers[stored_name].get_tensor(stored_name)

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor in its own memory: float32, but buffers of integers as they are."""
        stored = self.stored(name)
        if not stored.is_floating_point():
            return stored.clone()
        tensor = stored.to(torch.float32, copy=True)
        scale_name = self.scales.get(self.stored_names[name])
        if scale_name is not None:
            scale = self.readers[scale_name].get_tensor(scale_name).float()
            tensor *= spread_scale(f"{self.source}: {name}", scale, tuple(tensor.shape))
        return tensor

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return one tensor, (shape), float32, in its own memory.

        Raises:
            UsageError: it holds integers, or numbers that are not finite.
        """
        tensor = self.read(name)
        if not tensor.is_floating_point():
            raise UsageError(
                f"{self.source}: {name} is stored as {tensor.dtype}; "
                "give a checkpoint that is not quantised."
            )
        if not torch.isfinite(tensor).all():
            raise UsageError(
                f"{self.source}: {name} holds numbers that are not finite; "
                "give a checkpoint that was not broken."
            )
        return tensor


def open_tensors(file: Path) -> dict[str, safe_open]:
    """Return the name of each tensor of a safetensors file -> the reader of the file.

    safetensors checks the header: its size, names, dtypes, shapes and offsets.

    Raises:
        UsageError: the file is broken.
    """
    refuse_pointer(file)
    try:
        reader = safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise broken_file(file, str(error)) from None
    return dict.fromkeys(reader.offset_keys(), reader)


def plain_names(source: str, stored_names: Iterable[str]) -> dict[str, str]:
    """Return the name of each tensor without what wrappers put into it -> its name in the files.

    Args:
        source: the checkpoint, for the error.
        stored_names: the names in the files.

    Raises:
        UsageError: two names are the same without what wrappers put into them.

    Examples:
        >>> plain_names("x", ["module._orig_mod.encoder.weight"])
        {'encoder.weight': 'module._orig_mod.encoder.weight'}
    """
    names = {}
    for stored_name in stored_names:
        parts = [part for part in stored_name.split(".") if part not in WRAPPER_PARTS]
        names[stored_name] = ".".join(parts)

    # A prefix is a wrapper's only if all names have it.
    prefix = common_wrapper(names.values())
    while prefix:
        names = {stored: name.removeprefix(prefix) for stored, name in names.items()}
        prefix = common_wrapper(names.values())

    plain: dict[str, str] = {}
    for stored_name, name in names.items():
        if name in plain:
            raise UsageError(
                f"{source} holds {name} twice, as {plain[name]} and {stored_name}; "
                "keep one of them."
            )
        plain[name] = stored_name
    return plain


def common_wrapper(names: Iterable[str]) -> str:
    """Return the prefix of a wrapper that all names have; "" where there is none."""
    names = list(names)
    for prefix in WRAPPER_PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return prefix
    return ""


def outer_prefix(source: str, names: Iterable[str], fits: Callable[[str], bool]) -> str:
    """Return what a module around the model put before its names; "" for nothing.

    Args:
        source: the checkpoint, for the error.
        names: the names of a checkpoint's tensors.
        fits: whether a name is one of the model's. A name may begin as a module's does without it.

    Raises:
        UsageError: the model is there several times, such as below teacher. and student.

    Examples:
        >>> outer_prefix("x", ["backbone.bert.pooler.bias"], "bert.pooler.bias".__eq__)
        'backbone.'
    """
    names = list(names)
    prefixes = [""]
    for name in names:
        parts = name.split(".")[:-1]
        for count in range(1, min(len(parts), MOST_OUTER_PARTS) + 1):
            is_layer = count > 1 and parts[count - 1].isdigit()
            if is_layer:
                break
            prefixes.append(".".join(parts[:count]) + ".")

    counts = {}
    for prefix in dict.fromkeys(prefixes):
        counts[prefix] = sum(fits(name.removeprefix(prefix)) for name in names)
    best = max(counts, key=lambda prefix: counts[prefix])  # the first of those with the most
    for prefix, count in counts.items():
        if best and count == counts[best] and not prefix.startswith(best):
            raise UsageError(
                f"{source} has the tensors of this model several times, below {best} and {prefix}; "
                "save the one that is meant as a checkpoint of its own."
            )
    if best:
        logger.warning("%s: the tensors of the model are those below %s", source, best)
    return best


def find_scales(dtypes: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Return the name of each float8 tensor that has a scale -> the name of its scale."""
    scales = {}
    for name, dtype in dtypes.items():
        if dtype not in FLOAT8:
            continue
        for end in SCALES:
            scale = dtypes.get(name + end)
            if scale in DTYPES and scale not in FLOAT8 and shapes[name]:
                scales[name] = name + end
                break
    return scales


def refuse_codes(source: str, dtypes: Mapping[str, str], scales: Mapping[str, str]) -> None:
    """Raise UsageError where tensors are an adapter's, or codes whose values are not known.

    Args:
        source: the checkpoint, for the error.
        dtypes: the name of each tensor in the files -> its dtype.
        scales: the name of each float8 tensor -> the name of its scale.
    """
    has_other_scales = any("scale" in name.rpartition(".")[2] for name in dtypes)
    for name, dtype in dtypes.items():
        if ADAPTER_PARTS.intersection(name.split(".")):
            raise UsageError(
                f"{source} holds {name}, a tensor of an adapter (peft); merge the adapter into "
                "its base model (merge_and_unload) and give the folder where that is saved."
            )
        method = next((QUANTISED[end] for end in QUANTISED if name.endswith(end)), None)
        if name.endswith("_blocks") and name.removesuffix("blocks") + "scales" in dtypes:
            method = "MXFP4"
        if method is None and dtype not in DTYPES and is_weight(name):
            method = f"codes of dtype {dtype}"
        if method is None and dtype in FLOAT8 and has_other_scales and name not in scales:
            method = "float8 without the scale of this tensor"
        if method is not None:
            raise UsageError(
                f"{source} is quantised ({method}: {name}); give the checkpoint that is not "
                "quantised, or dequantise it first."
            )


def is_weight(name: str) -> bool:
    """Say whether a tensor is that of a linear map by its name; buffers of integers are not."""
    last_part = name.rpartition(".")[2]
    return "weight" in last_part or "proj" in last_part


def spread_scale(name: str, scale: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a scale as a tensor that can be multiplied with codes.

    Args:
        name: the tensor, for the error.
        scale: one number, one for each row [rows] or [rows, 1], or one for each block [a, b].
        shape: the shape of the codes.

    Raises:
        UsageError: the shape of the scale tells no blocks.
    """
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.dim() == 1 and len(scale) == shape[0]:
        return scale.reshape(-1, *(1 for _ in shape[1:]))

    # A scale for each block.
    fits = scale.dim() == len(shape)
    for axis, length in enumerate(shape if fits else ()):
        side = block_side(length, scale.shape[axis])
        if side is None:
            fits = False
            break
        scale = scale.repeat_interleave(side, axis).narrow(axis, 0, length)
    if not fits:
        raise UsageError(
            f"{name} has shape {list(shape)} and scales of shape {list(scale.shape)}, which tell "
            "no blocks; give the checkpoint that is not quantised."
        )
    return scale


def block_side(length: int, blocks: int) -> int | None:
    """Return how many elements along an axis share a scale, None where nothing tells.

    Sides are powers of two, of which at most one gives the number of blocks where there are
    several; else the axis is divided evenly.
    """
    side = 1
    while blocks and math.ceil(length / side) > blocks:
        side *= 2
    if blocks and math.ceil(length / side) == blocks:
        return side
    if blocks and length % blocks == 0:
        return length // blocks
    return None
