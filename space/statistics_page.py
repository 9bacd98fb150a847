"""A checkpoint's files -> the statistics of its parameters as plots and a table, by role and layer.

`read_upload` and `read_folder` run in a process of their own (limits.py): what they read may come
from anybody.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple

import transformers
from statistics_plots import MOST_GROUPS, OUTSIDE, Tensor, plots
from transformers import AutoModel, PreTrainedModel

from hf_synpre.errors import UsageError
from hf_synpre.initialization import (
    STATISTICS_FILE,
    Moments,
    ParameterStatistics,
    pool,
    read_config,
    read_parameters,
    skeleton,
)
from hf_synpre.initialization.matching import Matching

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
# A statistics file takes 150 bytes a parameter; a header of safetensors about as many.
MOST_JSON = 8 * 2**20
MOST_HEADER = 8 * 2**20
# Parameters that are read, and rows of the table.
MOST_PARAMETERS = 20_000
MOST_ROWS = 1000

HEAD = ["parameter", "role", "layer", "shape", "mean", "std. deviation"]


class CheckpointPage(NamedTuple):
    """What the page shows of a checkpoint."""

    summary: str  # HTML
    plots: str  # HTML
    rows: list[list[str]]  # of the table, under HEAD


# --- Files ----------------------------------------------------------------------------------------


def read_upload(folder: Path, files: list[str]) -> CheckpointPage:
    """Return the page of uploaded files.

    Args:
        folder: an empty folder, where the files get the names that a checkpoint has.
        files: a statistics file, or safetensors (several with their index); config.json beside them
            tells the roles.

    Raises:
        UsageError: they are other files, broken or too large.
    """
    for file in files:
        name = Path(file).name
        is_weights = name.endswith(".safetensors")
        if not is_weights and not name.endswith(".json"):
            raise UsageError(
                f"{name} is neither JSON nor safetensors; give {STATISTICS_FILE} or "
                "*.safetensors, with config.json beside it for the roles."
            )
        if not is_weights and name not in (CONFIG_FILE, INDEX_FILE):
            name = STATISTICS_FILE
        if (folder / name).exists():
            raise UsageError(f"Two files are {name}; give those of one checkpoint.")
        os.symlink(file, folder / name)
    return read_folder(folder, folder, "the upload")


def read_folder(_: Path, folder: Path, source: str) -> CheckpointPage:
    """Return the page of a checkpoint's folder.

    Args:
        folder: it holds a statistics file or safetensors, and config.json for the roles.
        source: what the page calls the checkpoint.

    Raises:
        UsageError: the files are broken or too large.
    """
    check_sizes(folder)
    if (folder / STATISTICS_FILE).exists():
        statistics = ParameterStatistics.load(folder / STATISTICS_FILE)
        source = source if source != "the upload" else statistics.source
    else:
        statistics = ParameterStatistics.measured(folder, source)
    if len(statistics.parameters) > MOST_PARAMETERS:
        raise UsageError(
            f"{source} has {len(statistics.parameters):,} parameters, and this page shows "
            f"{MOST_PARAMETERS:,}."
        )

    tensors: list[Tensor] = []
    note = f"no {CONFIG_FILE}, so tensors are grouped by the ends of their names"
    if (folder / CONFIG_FILE).exists():
        tensors, note = read_roles(folder, statistics.parameters)
    if not tensors:
        tensors = group_by_names(statistics.parameters)
    return CheckpointPage(summary(source, tensors, note), plots(tensors), table(tensors))


def check_sizes(folder: Path) -> None:
    """Raise UsageError where a file would take much memory to read."""
    for file in folder.iterdir():
        if file.suffix == ".json" and file.stat().st_size > MOST_JSON:
            raise UsageError(f"{file.name} is larger than {MOST_JSON >> 20} MB.")
        if file.suffix == ".safetensors":
            with file.open("rb") as stream:
                header = int.from_bytes(stream.read(8), "little")
            if header > MOST_HEADER:
                raise UsageError(
                    f"{file.name} is no safetensors file, or its header is larger than "
                    f"{MOST_HEADER >> 20} MB."
                )


# --- Roles ----------------------------------------------------------------------------------------


def read_roles(folder: Path, parameters: Mapping[str, Moments]) -> tuple[list[Tensor], str]:
    """Return the tensors with the roles that the model of the config gives them, and a note.

    Returns:
        No tensors where the config's model has none of the names; the note says so.
    """
    config, _ = read_config(folder, {})
    name = (getattr(config, "architectures", None) or [""])[0]
    model_class = getattr(transformers, str(name), None)
    if not (isinstance(model_class, type) and issubclass(model_class, PreTrainedModel)):
        model_class = AutoModel
    model = skeleton(model_class, config)
    shapes = {name: moments.shape for name, moments in parameters.items()}
    matching = Matching(model, read_parameters(model), shapes)

    tensors = []
    for source in matching.all_source_tensors():
        place = source.parameter
        stack = OUTSIDE if place.layer is None else place.stack
        moments = parameters[source.stored_name]
        tensors.append(
            Tensor(
                source.stored_name, place.role or "other", stack, place.layer, place.bias, moments
            )
        )
    if not tensors:
        return [], f"{type(model).__name__} of {CONFIG_FILE} has none of these names"
    note = f"roles are those of {type(model).__name__}"
    if matching.left_over:
        note += f"; {len(matching.left_over)} tensors belong to no parameter of it"
    return tensors, note


def group_by_names(parameters: Mapping[str, Moments]) -> list[Tensor]:
    """Return the tensors grouped by the last module of their names, and by the first number."""
    tensors = []
    for name, moments in parameters.items():
        path, _, attribute = name.rpartition(".")
        stack, layer = OUTSIDE, None
        numbered = re.match(r"(.*?)\.(\d{1,6})\.", f"{path}.")
        if numbered:
            stack, layer = numbered[1], int(numbered[2])
        role = path.rpartition(".")[2] if attribute in ("weight", "bias") else attribute
        tensors.append(Tensor(name, role, stack, layer, attribute == "bias", moments))

    # Many groups would have one colour each.
    usual = {role for role, _ in Counter(t.role for t in tensors).most_common(MOST_GROUPS - 1)}
    return [t if t.role in usual else t._replace(role="other") for t in tensors]


# --- What is shown --------------------------------------------------------------------------------


def summary(source: str, tensors: list[Tensor], note: str) -> str:
    """Return what the checkpoint holds in a line of HTML."""
    numbers = sum(tensor.moments.numel for tensor in tensors)
    mean, deviation = pool(tensor.moments for tensor in tensors)
    counts = f"{len(tensors):,} tensor{'s' if len(tensors) > 1 else ''}, {numbers:,} numbers"
    moments = f"mean {mean:.3g}, standard deviation {deviation:.3g}"
    sentence = escape(note[:1].upper() + note[1:])
    return f"<p><b>{escape(source)}</b>: {counts}; {moments}. {sentence}.</p>"


def table(tensors: list[Tensor]) -> list[list[str]]:
    """Return the rows of the table."""
    rows = []
    for tensor in tensors[:MOST_ROWS]:
        moments = tensor.moments
        shape = " × ".join(map(str, moments.shape)) or "a number"
        layer = "–" if tensor.layer is None else str(tensor.layer)
        numbers = [f"{moments.mean:.4g}", f"{moments.sd:.4g}"]
        rows.append([tensor.name, tensor.role, layer, shape, *numbers])
    return rows
