"""A saved model's folder -> whether the model that from_pretrained makes of it is what was saved.

transformers v5 runs the initialiser of a model's class after it has loaded the weights. A class
whose initialiser writes into tensors itself so gets random ones, without a word: in early versions
all of them, in 5.23 those of modules that also have a buffer which is not stored
(https://github.com/huggingface/transformers/issues/46620).
"""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

from hf_synpre.data.connection import one_line_cause
from hf_synpre.errors import UsageError
from hf_synpre.initialization import read_config
from hf_synpre.initialization.load_report import listed
from hf_synpre.initialization.stored_tensors import StoredTensors
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.models.pretrained_weights import quiet_loading

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointReport:
    """What became of the tensors of a folder when they were loaded.

    `str` gives one line with the first names.

    Examples:
        >>> print(verify_checkpoint("runs/set"))
        runs/set: 24 of 24 stored tensors equal those of the loaded T5ForConditionalGeneration; ...
    """

    # The folder, and the class of the loaded model.
    folder: str
    model: str

    # The stored tensors that equal those of the loaded model, bit by bit.
    equal: tuple[str, ...]

    # The stored tensors that the loaded model has with other numbers.
    different: tuple[str, ...] = ()

    # The stored tensors that the model has no place for.
    left_over: tuple[str, ...] = ()

    # The tensors of the model that are not stored: those that share their memory with stored ones,
    # and those that were drawn at random.
    tied: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the loaded model is what was saved: nothing different, left over or missing."""
        return not (self.different or self.left_over or self.missing)

    def __str__(self) -> str:
        stored = len(self.equal) + len(self.different) + len(self.left_over)
        parts = [
            f"{self.folder}: {len(self.equal)} of {stored} stored tensors equal those of the "
            f"loaded {self.model}"
        ]
        for names, what in (
            (self.different, "loaded with other numbers"),
            (self.left_over, "with no place in the model"),
            (self.missing, "not stored, drawn at random"),
            (self.tied, "tied to stored ones"),
        ):
            if names:
                parts.append(f"{len(names)} {what} ({listed(names)})")
        return "; ".join(parts)


def verify_checkpoint(
    folder: str | Path, model_class: type[PreTrainedModel] | None = None
) -> CheckpointReport:
    """Load a saved model and compare every stored tensor with that of the loaded model.

    Names and shapes may be others in memory than in files, as those of the experts of a mixture.
    So the loaded model is saved again, into a temporary folder, and what stands there is compared.

    Args:
        folder: what `save_pretrained` wrote: config.json and safetensors files.
        model_class: the class to load it as; without it the one that config.json names.

    Returns:
        Which tensors are equal, different, left over, missing and tied. `is_whole` says whether
        the loaded model is what was saved.

    Raises:
        UsageError: there is no such folder, or it cannot be loaded.

    Examples:
        >>> model.save_pretrained("runs/mine")
        >>> assert verify_checkpoint("runs/mine").is_whole
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"There is no folder {folder}; give the folder of a saved model.")
    config, _ = read_config(place, {})
    stored = StoredTensors.in_folder(place)
    tensors = {name: stored.stored(name) for name in stored.shapes}

    # Load the model, in a type that holds the stored numbers exactly.
    dtype = torch.float32
    for tensor in tensors.values():
        if tensor.is_floating_point():
            dtype = torch.promote_types(dtype, tensor.dtype)
    if model_class is None:
        names = getattr(config, "architectures", None) or [""]
        model_class = getattr(transformers, names[0], None)
    if model_class is None:
        model_class = AUTO_CLASSES[model_family(config)]
    try:
        with quiet_loading():
            model, info = model_class.from_pretrained(place, dtype=dtype, output_loading_info=True)
    except Exception as error:  # whatever a class of models raises on what a folder holds
        raise UsageError(
            f"{folder} cannot be loaded as {model_class.__name__}: {one_line_cause(error)}"
        ) from error

    # Save it again. Of tied tensors another one may be stored now.
    with tempfile.TemporaryDirectory() as again, quiet_loading():
        model.save_pretrained(again)
        resaved = StoredTensors.in_folder(Path(again))
        loaded = model.state_dict() | {name: resaved.stored(name) for name in resaved.shapes}

    # Compare.
    kinds: dict[str, list[str]] = {"equal": [], "different": [], "left_over": []}
    for name, tensor in tensors.items():
        if name not in loaded:
            kind = "left_over"
        elif torch.equal(tensor.to(loaded[name]), loaded[name].cpu()):
            kind = "equal"
        else:
            kind = "different"
        kinds[kind].append(name)

    # What the model has beside the stored tensors.
    state = model.state_dict()
    addresses = {state[name].data_ptr() for name in tensors if name in state}
    tied = [n for n in state if n not in tensors and state[n].data_ptr() in addresses]
    missing = sorted(set(info["missing_keys"]) - set(tied))
    return CheckpointReport(
        str(folder),
        type(model).__name__,
        **{kind: tuple(names) for kind, names in kinds.items()},
        tied=tuple(tied),
        missing=tuple(missing),
    )


def say_if_not_whole(folder: Path, model_class: type[PreTrainedModel]) -> None:
    """Log a warning where the model that from_pretrained makes of a folder is not what was saved.

    Args:
        folder: of a model that was just saved.
        model_class: its class.
    """
    try:
        report = verify_checkpoint(folder, model_class)
    except UsageError as error:
        logger.warning("What was saved cannot be loaded: %s", error)
        return
    if not report.is_whole:
        logger.warning("What is loaded is not what was saved. %s", report)
