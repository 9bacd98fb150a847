"""Safetensors files or a model -> mean and standard deviation of every parameter.

The statistics file, parameter_statistics.json, has the keys "format" (1), "source" (whose
statistics these are) and "parameters" (a list with name, shape, numel, mean and sd of each, and
where they were measured absolute, the mean absolute deviation, and spectrum, the singular values at
some places; see moments.py).
"""

import contextlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import parse_local_safetensors_file_metadata
from huggingface_hub.errors import SafetensorsParsingError
from transformers import PreTrainedModel

from hf_synpre.errors import UsageError, counted
from hf_synpre.files import read_json, write_text
from hf_synpre.initialization.checkpoints import (
    STATISTICS_FILE,
    bundled_checkpoints,
    find_config,
    find_weights,
    has_current_statistics,
)
from hf_synpre.initialization.load_report import html_table
from hf_synpre.initialization.moments import CHUNK, Moments, absolute_sum, accumulate, as_floats
from hf_synpre.initialization.spectra import is_spectrum, measure_spectrum
from hf_synpre.initialization.stored_tensors import DTYPES, StoredTensors
from hf_synpre.initialization.weight_files import broken_file

FORMAT = 1  # the version of the statistics file
LARGEST = torch.finfo(torch.float32).max  # the largest number that a parameter can hold
# What a statistics file may say of a parameter: more elements than any has, and axes.
MOST_ELEMENTS = 2**63
MOST_AXES = 64
LARGEST_FILE = 1 << 28  # bytes; a statistics file has about 150 a parameter
MOST_ROWS = 200  # parameters in the table of a notebook


def read_chunks(file: Path, names: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield tensors of a safetensors file in chunks.

    Two buffers of CHUNK bytes are used in turn: a chunk stays valid while the next one is read.

    Args:
        file: the safetensors file.
        names: which of its tensors are read, of floating-point dtypes.

    Yields:
        Name, and some of the tensor's elements in their order, [n] in the dtype that they are
        stored in. A tensor without elements yields one empty chunk.

    Raises:
        UsageError: the file is broken.
    """
    try:
        tensors = parse_local_safetensors_file_metadata(file).tensors
    except (SafetensorsParsingError, ValueError) as error:
        raise broken_file(file, str(error)) from None

    # The file is the length of its header in 8 bytes, the header, the tensors' bytes.
    buffer = torch.empty(CHUNK, dtype=torch.uint8)
    other_buffer = torch.empty(CHUNK, dtype=torch.uint8)
    with open(file, "rb") as stream:
        data_start = 8 + int.from_bytes(stream.read(8), "little")
        for name in sorted(names, key=lambda name: tensors[name].data_offsets):
            info = tensors[name]
            first, last = info.data_offsets
            stream.seek(data_start + first)
            for offset in range(first, max(last, first + 1), CHUNK):
                buffer, other_buffer = other_buffer, buffer
                chunk = buffer[: min(CHUNK, last - offset)]  # [bytes]
                if stream.readinto(chunk.numpy()) < len(chunk):
                    raise broken_file(file, "it ends too early")
                yield name, chunk.view(DTYPES[info.dtype])


def measure(files: Iterable[Path]) -> dict[str, Moments]:
    """Return the moments of every floating-point tensor in a checkpoint's safetensors files.

    Args:
        files: the files of one checkpoint. No more than two chunks of a file are in memory at a
            time, but for tensors stored as float8 codes with scales: those are read whole.

    Returns:
        Name of the tensor, without what a wrapper put into it -> its moments.

    Raises:
        UsageError: a file is broken, two files hold a tensor of the same name, or the tensors are
            those of an adapter or of a quantised model.

    Examples:
        moments = measure([Path("runs/pretrained/model.safetensors")])
    """
    files = list(files)
    source = "The checkpoint"
    if files:
        source = str(files[0].parent)
    return measure_tensors(StoredTensors(files, source))


def measure_tensors(
    stored: StoredTensors, absolute: bool = False, spectrum: bool = False
) -> dict[str, Moments]:
    """Return the moments of every floating-point tensor of an open checkpoint; see `measure`.

    Args:
        stored: the checkpoint.
        absolute: the mean absolute deviations too.
        spectrum: the singular values of matrices too; one tensor is in memory at a time.
    """
    # The tensors of each file that can be read in chunks: name in the file -> name.
    streamed: dict[Path, dict[str, str]] = defaultdict(dict)
    scaled = []
    for name, stored_name in stored.stored_names.items():
        if stored.is_scaled(name):
            scaled.append(name)
        elif stored.is_floating(name):
            streamed[stored.files[name]][stored_name] = name
    states = {}  # count, mean, sum of squared deviations
    for names in streamed.values():
        for name in names.values():
            states[name] = np.zeros(3)
    each_chunk(streamed, lambda name, chunk: accumulate(as_floats(chunk), states[name]))

    # In the order of the names in the files, as they were found.
    moments = {}
    for name, state in states.items():
        moments[name] = Moments.from_state(stored.shapes[name], state)
    for name in scaled:
        moments[name] = Moments.of(stored[name], absolute)
    if spectrum:
        for name, measured in moments.items():
            if len(measured.shape) == 2:
                values = measure_spectrum(stored[name])
                moments[name] = replace(measured, spectrum=values)
    if not absolute:
        return moments

    # The files once more, now that the means are known.
    sums = dict.fromkeys(states, 0.0)

    def add(name: str, chunk: torch.Tensor) -> None:
        sums[name] += absolute_sum(chunk, moments[name].mean)

    each_chunk(streamed, add)
    for name, total in sums.items():
        moments[name] = replace(moments[name], absolute=total / max(moments[name].numel, 1))
    return moments


def each_chunk(
    streamed: Mapping[Path, Mapping[str, str]], use: Callable[[str, torch.Tensor], None]
) -> None:
    """Read tensors in chunks; one is read while a thread uses the one before it.

    Args:
        streamed: file -> name in the file -> name of the tensor.
        use: takes the name of a tensor and some of its elements, [n] of any floating-point dtype.
    """
    pending: Future | None = None
    with ThreadPoolExecutor(1) as worker:
        for file, names in streamed.items():
            for stored_name, chunk in read_chunks(file, names):
                submitted = worker.submit(use, names[stored_name], chunk)
                if pending:
                    pending.result()
                pending = submitted
        if pending:
            pending.result()


@dataclass(frozen=True, repr=False)
class ParameterStatistics:
    """Mean and standard deviation of every parameter of a model.

    Raises:
        UsageError: there are no parameters, or a number cannot be that of a parameter.

    Examples:
        statistics = ParameterStatistics.from_pretrained("google-t5/t5-small")
        statistics.parameters["encoder.final_layer_norm.weight"].mean
        statistics.save("t5-small/parameter_statistics.json")
    """

    # Whose statistics these are: a Hub id, a folder, the task of the pre-training.
    source: str

    # Name of each parameter -> its moments.
    parameters: dict[str, Moments]

    def __post_init__(self) -> None:
        if not self.parameters:
            raise UsageError(
                f"{self.source} holds no parameters in floating point; "
                "give the checkpoint of a model."
            )
        for name, m in self.parameters.items():
            if not (abs(m.mean) <= LARGEST and 0 <= m.sd <= LARGEST):
                raise UsageError(
                    f"{self.source}: {name} has mean {m.mean}, sd {m.sd}; "
                    "both must be finite, sd >= 0."
                )
            if m.absolute is not None and not 0 <= m.absolute <= LARGEST:
                raise UsageError(
                    f"{self.source}: {name} has the mean absolute deviation {m.absolute}; it must "
                    "be finite, and >= 0."
                )
            if m.numel != math.prod(m.shape) or min(m.shape, default=1) < 0:
                raise UsageError(
                    f"{self.source}: {name} has shape {list(m.shape)}, "
                    f"which does not hold numel {m.numel}."
                )

    def __repr__(self) -> str:
        """Return whose statistics they are and of how many parameters and numbers."""
        numbers = sum(moments.numel for moments in self.parameters.values())
        return (
            f"<ParameterStatistics of {self.source}: {counted(len(self.parameters), 'parameter')}, "
            f"{numbers:,} numbers>"
        )

    def _repr_html_(self) -> str:
        rows = []
        for name, moments in list(self.parameters.items())[:MOST_ROWS]:
            shape = " x ".join(str(size) for size in moments.shape)
            rows.append((name, shape, f"{moments.mean:.4g}", f"{moments.sd:.4g}"))
        if len(self.parameters) > MOST_ROWS:
            rows.append((f"and {len(self.parameters) - MOST_ROWS} more", "", "", ""))
        return html_table(repr(self)[1:-1], ("parameter", "shape", "mean", "sd"), rows)

    @classmethod
    def from_model(cls, model: PreTrainedModel, source: str = "") -> "ParameterStatistics":
        """Measure a model in memory; tied parameters count once, under their first name.

        Args:
            model: a model of transformers on any device.
            source: whose statistics these are; the model's name or path without it.
        """
        moments = {name: Moments.of(p) for name, p in model.named_parameters()}
        return cls(source or model.name_or_path, moments)

    @classmethod
    def measured(
        cls, folder: Path, source: str, absolute: bool = False, spectrum: bool = False
    ) -> "ParameterStatistics":
        """Measure the safetensors files in a folder, even where it has a statistics file.

        Args:
            folder: a local folder with model.safetensors or shards of it.
            source: whose statistics these are.
            absolute: measure the mean absolute deviations too; the files are read twice.
            spectrum: measure the singular values of matrices too (spectra.py says how long it
                takes).

        Raises:
            UsageError: there are no such files, or one is broken.
        """
        return cls(source, measure_tensors(StoredTensors.in_folder(folder), absolute, spectrum))

    @property
    def has_absolute(self) -> bool:
        """Whether the mean absolute deviation of every parameter is known."""
        return all(moments.absolute is not None for moments in self.parameters.values())

    @property
    def has_spectra(self) -> bool:
        """Whether singular values were measured."""
        return any(moments.spectrum is not None for moments in self.parameters.values())

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, absolute: bool = False, **hub: Any
    ) -> "ParameterStatistics":
        """Read a checkpoint's statistics file, or measure its safetensors where it has none.

        For a Hub id with a statistics file no weights are downloaded. A measured local folder gets
        the file, if it can be written to; it is measured again when its weights are newer.

        Args:
            name_or_path: a checkpoint's folder, its Hub id, or the path of a statistics file.
            absolute: measure the weights, if they are there, where the statistics file lacks the
                mean absolute deviations.
            **hub: where and how the Hub is asked: revision, token, cache_dir, subfolder,
                local_files_only ...

        Returns:
            The statistics, under the names of the checkpoint's files.

        Raises:
            UsageError: there is neither a statistics file nor safetensors, or they are broken.
            OSError: the Hub does not give the files.
        """
        if not isinstance(name_or_path, str | Path) or not Path(name_or_path).is_file():
            folder = find_config(name_or_path, **hub)
            return cls.of_checkpoint(name_or_path, folder, absolute=absolute, **hub)
        if Path(name_or_path).suffix == ".safetensors":
            raise UsageError(f"{name_or_path} is a file of weights; give its folder.")
        return cls.load(name_or_path)

    @classmethod
    def of_checkpoint(
        cls, name_or_path: str | Path, folder: Path, *, absolute: bool = False, **hub: Any
    ) -> "ParameterStatistics":
        """Read or measure the statistics of a checkpoint whose folder is known.

        Args:
            name_or_path: the checkpoint's folder or Hub id.
            folder: what find_config returns for it.
            absolute: whether the mean absolute deviations are wanted, see from_pretrained.
            **hub: where and how the Hub is asked for weights, if they are needed.
        """
        is_local = Path(name_or_path).is_dir()
        spectrum = False  # what the file has is kept
        if not (folder / STATISTICS_FILE).exists():
            folder = find_weights(name_or_path, **hub)
        if has_current_statistics(folder, trusted=not is_local):
            stored = cls.load(folder / STATISTICS_FILE)
            is_enough = stored.has_absolute or not absolute
            if is_enough or not any(folder.glob("*.safetensors")):
                return stored
            spectrum = stored.has_spectra

        statistics = cls.measured(folder, str(name_or_path), absolute, spectrum)
        if is_local:
            # A folder that cannot be written to is measured again next time.
            with contextlib.suppress(UsageError):
                statistics.save(folder / STATISTICS_FILE)
        return statistics

    @classmethod
    def load(cls, file: str | Path) -> "ParameterStatistics":
        """Read a statistics file.

        Raises:
            UsageError: the file is missing or broken; the text says what is wrong in it.
        """
        if Path(file).is_file() and Path(file).stat().st_size > LARGEST_FILE:
            raise UsageError(
                f"{file} is larger than {LARGEST_FILE >> 20} MB, which no statistics file is; make "
                "one with `synpre statistics`."
            )
        content = read_json(file)
        try:
            if content["format"] != FORMAT:
                raise UsageError(
                    f"{file} has format {content['format']}; this version reads format {FORMAT}."
                )
            names = [entry["name"] for entry in content["parameters"]]
            moments = [parse_entry(entry) for entry in content["parameters"]]
            source = str(content["source"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{file} is not a statistics file ({error}); make one with `synpre statistics`."
            ) from error

        if not all(names):
            raise UsageError(
                f"{file} holds a parameter without a name; make it again with `synpre statistics`."
            )
        doubled = sorted(name for name, count in Counter(names).items() if count > 1)
        if doubled:
            raise UsageError(
                f"{file} holds {doubled[0]} twice; make it again with `synpre statistics`."
            )

        try:
            return cls(source, dict(zip(names, moments, strict=True)))
        except UsageError as error:
            raise UsageError(f"{file} is broken: {error}") from None

    def save(self, file: str | Path) -> None:
        """Write the statistics file, a line for each parameter."""
        lines = []
        for name, moments in self.parameters.items():
            entry = {"name": name, **asdict(moments)}
            for key in ("absolute", "spectrum"):
                if entry[key] is None:
                    del entry[key]
            # Without spaces: the file of a model of 7 B parameters stays below 64 KiB.
            lines.append(json.dumps(entry, allow_nan=False, separators=(",", ":")))
        entries = ",\n".join(lines)
        head = f'"format": {FORMAT},\n"source": {json.dumps(self.source)}'
        write_text(file, f'{{\n{head},\n"parameters": [\n{entries}\n]\n}}\n')


def open_spectra(
    name_or_path: str | Path, hub: Mapping[str, Any]
) -> ParameterStatistics | StoredTensors:
    """Return what the scheme spectral reads: weights in a local folder, else a card with spectra.

    Args:
        name_or_path: a checkpoint's folder, its Hub id, or the path of a statistics file.
        hub: where and how the Hub is asked.

    Raises:
        UsageError: there are neither weights nor statistics.
    """
    if Path(name_or_path).is_file():
        return ParameterStatistics.from_pretrained(name_or_path)
    folder = find_config(name_or_path, **hub)
    card = folder / STATISTICS_FILE
    has_weights = Path(name_or_path).is_dir() and any(folder.glob("*.safetensors"))
    if card.exists() and not has_weights:
        statistics = ParameterStatistics.load(card)
        if statistics.has_spectra or str(name_or_path) in bundled_checkpoints():
            return statistics
    return StoredTensors.in_folder(find_weights(name_or_path, **hub))


def shortened(value: Any) -> str:
    """Return a value of a broken file for an error, cut where it is long."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def parse_entry(entry: dict[str, Any]) -> Moments:
    """Return the moments of one parameter of a statistics file.

    Raises KeyError where a field is missing, TypeError where one is not a number that a parameter
    can have.
    """
    values = {name: entry[name] for name in ("shape", "numel", "mean", "sd")}
    integers = [values["numel"], *values["shape"]]
    numbers = [*integers, values["mean"], values["sd"]]
    if "absolute" in entry:  # files of older versions have none
        values["absolute"] = entry["absolute"]
        numbers.append(entry["absolute"])
    if "spectrum" in entry:
        values["spectrum"] = tuple(entry["spectrum"])
        integers += values["spectrum"]
        numbers += values["spectrum"]

    if not isinstance(entry["name"], str):
        raise TypeError(f"{shortened(entry['name'])} has {shortened(values)}")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"{entry['name']} has {shortened(values)}")

    possible = all(isinstance(number, int) for number in integers)
    possible = possible and len(values["shape"]) <= MOST_AXES
    possible = possible and all(abs(number) <= MOST_ELEMENTS for number in integers)
    possible = possible and is_spectrum(values.get("spectrum"))
    if not possible or any(abs(number) > LARGEST for number in numbers):
        raise TypeError(f"{entry['name']} has numbers that no parameter has")

    values["shape"] = tuple(values["shape"])
    return Moments(**values)
