"""Layer 3: the first two moments of every parameter: streamed from safetensors, pooled, stored, validated."""

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from huggingface_hub import parse_local_safetensors_file_metadata
from huggingface_hub.errors import SafetensorsParsingError
from transformers import PreTrainedModel

from hf_synpre.errors import UsageError
from hf_synpre.files import read_json, write_text
from hf_synpre.initialization.checkpoints import (
    STATISTICS_FILE,
    broken_file,
    find_statistics,
    is_current,
    weight_files,
)

FORMAT = 1
CHUNK = 1 << 22  # bytes read at a time
LARGEST = torch.finfo(torch.float32).max  # what a parameter can be
BLOCK = 4096  # elements that stay in the first-level cache for a second pass
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def accumulate(values, state):
    """Add values (n,) float32 or float64 to state = [count, mean, sum of squared deviations], all in float64.

    Blocks are merged as by Chan et al. 1979. Within a block the squares are summed in the pass that sums the values; where
    the mean is large beside the spread that would cancel, and a second pass over the block sums the deviations.
    """
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        total, raw = np.float64(0), np.float64(0)
        for i in range(
            len(block)
        ):  # by index: Numba makes vector instructions of this, not of `for value in block`
            total += np.float64(block[i])
            raw += np.float64(block[i]) ** 2
        mean = total / len(block)
        squares = raw - total * mean
        if not squares > 0.01 * raw:
            squares = np.float64(0)
            for i in range(len(block)):
                squares += (np.float64(block[i]) - mean) ** 2
        count = state[0] + len(block)
        delta = mean - state[1]
        state[2] += squares + delta * delta * state[0] * len(block) / count
        state[1] += delta * len(block) / count
        state[0] = count


@dataclass(frozen=True)
class Moments:
    """Mean and population standard deviation of one parameter's `numel` elements."""

    shape: tuple[int, ...]
    numel: int
    mean: float
    sd: float

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Moments":
        """Measure a tensor in float64."""
        state = np.zeros(3)
        for chunk in tensor.detach().reshape(-1).split(CHUNK // 4):
            accumulate(as_floats(chunk.cpu()), state)
        return cls.from_state(tuple(tensor.shape), state)

    @classmethod
    def from_state(cls, shape: tuple[int, ...], state: np.ndarray) -> "Moments":
        """Return the moments that `accumulate` has gathered; of no elements, mean and sd 0."""
        count, mean, squares = state.tolist()
        return cls(shape, int(count), mean, math.sqrt(squares / count) if count else 0.0)


def pool(parts: Iterable[Moments]) -> tuple[float, float]:
    """Return mean and sd of the parts' elements taken together: those of the concatenated tensors."""
    parts = list(parts)
    count = sum(m.numel for m in parts) or 1
    mean = math.fsum(m.numel * m.mean for m in parts) / count
    return mean, math.sqrt(
        math.fsum(m.numel * (m.sd**2 + (m.mean - mean) ** 2) for m in parts) / count
    )


def as_floats(tensor: torch.Tensor) -> np.ndarray:
    """Return a CPU tensor as the array that `accumulate` takes: float64 as it is, all else as float32."""
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()


def read_chunks(file: Path) -> Iterator[tuple[str, tuple[int, ...], torch.Tensor]]:
    """Yield (name, shape, part of its elements) of a safetensors file's floating-point tensors.

    Two buffers of CHUNK bytes take turns: a part is valid until the next but one is asked for.
    """
    try:
        tensors = parse_local_safetensors_file_metadata(file).tensors
    except (SafetensorsParsingError, ValueError) as error:
        raise broken_file(file, error) from None
    buffers = [torch.empty(CHUNK, dtype=torch.uint8) for _ in range(2)]
    with open(file, "rb") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
        for name, info in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
            first, last = info.data_offsets
            stream.seek(start + first)
            for offset in range(first, max(last, first + 1), CHUNK) if info.dtype in DTYPES else ():
                buffers.reverse()
                part = buffers[0][: min(CHUNK, last - offset)]
                if stream.readinto(part.numpy()) < len(part):
                    raise broken_file(file, "it ends too early")
                yield name, tuple(info.shape), part.view(DTYPES[info.dtype])


def measure(files: Iterable[Path]) -> dict[str, Moments]:
    """Return name -> moments of the tensors in safetensors files; one part is read while the last one is summed."""
    states: dict[str, tuple[tuple[int, ...], np.ndarray, Path]] = {}
    pending: Future | None = None
    with ThreadPoolExecutor(1) as worker:
        for file in files:
            for name, shape, part in read_chunks(file):
                _, state, origin = states.setdefault(name, (shape, np.zeros(3), file))
                if origin != file:
                    raise UsageError(
                        f"{name} is in both {origin} and {file}; keep the files of one checkpoint."
                    )
                task = worker.submit(
                    lambda values, state: accumulate(as_floats(values), state), part, state
                )
                if pending:
                    pending.result()
                pending = task
    return {name: Moments.from_state(shape, state) for name, (shape, state, _) in states.items()}


@dataclass(frozen=True)
class ParameterStatistics:
    """The first two moments of every parameter of a model: what is left of it when the values are thrown away."""

    source: str
    parameters: dict[str, Moments]

    def __post_init__(self) -> None:
        if not self.parameters:
            raise UsageError(
                f"{self.source} holds no parameters in floating point; give the checkpoint of a model."
            )
        for name, m in self.parameters.items():
            if not (abs(m.mean) <= LARGEST and 0 <= m.sd <= LARGEST):
                raise UsageError(
                    f"{self.source}: {name} has mean {m.mean}, sd {m.sd}; both must be finite, sd >= 0."
                )
            if m.numel != math.prod(m.shape) or min(m.shape, default=1) < 0:
                raise UsageError(
                    f"{self.source}: {name} has shape {list(m.shape)}, which does not hold numel {m.numel}."
                )

    @classmethod
    def from_model(cls, model: PreTrainedModel, source: str = "") -> "ParameterStatistics":
        """Measure a model; tied parameters count once, under their first name."""
        return cls(
            source or model.name_or_path,
            {name: Moments.of(p) for name, p in model.named_parameters()},
        )

    @classmethod
    def measured(cls, folder: Path, source: str) -> "ParameterStatistics":
        """Measure a folder's safetensors, whatever statistics are beside them."""
        return cls(source, measure(weight_files(folder)))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **hub: Any) -> "ParameterStatistics":
        """Read a checkpoint's statistics file, or measure its safetensors; `hub` goes to the Hub (revision, token ...).

        A local folder that may be written to gets the file; the path of a statistics file is read as it is. Raises
        UsageError where there is neither.
        """
        if Path(name_or_path).is_file():
            if Path(name_or_path).suffix == ".safetensors":
                raise UsageError(f"{name_or_path} is a file of weights; give its folder.")
            return cls.load(name_or_path)
        folder, local = find_statistics(name_or_path, **hub), Path(name_or_path).is_dir()
        if is_current(folder, trusted=not local):
            return cls.load(folder / STATISTICS_FILE)
        measured = cls.measured(folder, str(name_or_path))
        if local:
            with contextlib.suppress(UsageError):  # a read-only place: measured again next time
                measured.save(folder / STATISTICS_FILE)
        return measured

    @classmethod
    def load(cls, file: str | Path) -> "ParameterStatistics":
        """Read a statistics file. Raises UsageError with what is wrong in it."""
        stored = read_json(file)
        try:
            if stored["format"] != FORMAT:
                raise UsageError(
                    f"{file} has format {stored['format']}; this version reads format {FORMAT}."
                )
            entries = [(p["name"], as_moments(p)) for p in stored["parameters"]]
            source = str(stored["source"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{file} is not a statistics file ({error}); make one with `synpre statistics`."
            ) from None
        if not all(name for name, _ in entries):
            raise UsageError(
                f"{file} holds a parameter without a name; make it again with `synpre statistics`."
            )
        names = [name for name, _ in entries]
        if doubled := sorted(
            {name for name in names if names.count(name) > 1}
            if len(set(names)) < len(names)
            else ()
        ):
            raise UsageError(
                f"{file} holds {doubled[0]} twice; make it again with `synpre statistics`."
            )
        try:
            return cls(source, dict(entries))
        except UsageError as error:
            raise UsageError(f"{file} is broken: {error}") from None

    def save(self, file: str | Path) -> None:
        """Write the statistics file (format 1: source, and name, shape, numel, mean, sd of each parameter), a line each."""
        lines = ",\n".join(
            json.dumps({"name": name, **asdict(m)}, allow_nan=False)
            for name, m in self.parameters.items()
        )
        head = f'"format": {FORMAT},\n"source": {json.dumps(self.source)}'
        write_text(file, f'{{\n{head},\n"parameters": [\n{lines}\n]\n}}\n')


def as_moments(entry: dict[str, Any]) -> Moments:
    """Return one parameter of a statistics file. Raises KeyError or TypeError where a field lacks or is no number."""
    values = {field.name: entry[field.name] for field in fields(Moments)}
    numbers = [values["numel"], values["mean"], values["sd"], *values["shape"]]
    whole = [values["numel"], *values["shape"]]
    if not isinstance(entry["name"], str) or any(
        isinstance(v, bool) or not isinstance(v, int | float) for v in numbers
    ):
        raise TypeError(f"{entry['name']} has {values}")
    if any(not isinstance(v, int) for v in whole) or any(abs(v) > LARGEST for v in numbers):
        raise TypeError(f"{entry['name']} has numbers that no parameter has")
    return Moments(**values | {"shape": tuple(values["shape"])})
