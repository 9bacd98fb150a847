"""Pretrained weights: a model and a checkpoint -> the model with the checkpoint's weights."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from hf_synpre.errors import UsageError, choose
from hf_synpre.files import refuse_pointer
from hf_synpre.initialization import embedding_names, skeleton
from hf_synpre.initialization.build import body_name
from hf_synpre.initialization.checkpoints import checkpoint_config, find_weights
from hf_synpre.initialization.embedding_policy import MATCHED, POLICIES, match_rows
from hf_synpre.initialization.load_report import LoadReport, refuse_redrawn, tensor_sums
from hf_synpre.initialization.stored_tensors import StoredTensors, outer_prefix, plain_names
from hf_synpre.initialization.weight_files import check_files, indexed_files, refuse_adapter

# The files of a checkpoint that are downloaded to read its weights.
WEIGHT_PATTERNS = ("*.safetensors", "*.json", "pytorch_model*.bin")
# Keys below which training loops save the tensors of a model.
NESTED_KEYS = ("state_dict", "model_state_dict", "model", "module")


def take_weights(
    model: PreTrainedModel,
    source: str | Path,
    embeddings: str = "kept",
    *,
    head: bool = False,
    same_ids: bool = False,
    same_rows: Mapping[int, int] | None = None,
) -> LoadReport:
    """Copy the weights of a checkpoint into a model of the same architecture, in place.

    The counts of what was loaded and what was not are written into the log, and the report is the
    model's `load_report`.

    Args:
        model: the model that gets the weights.
        source: the checkpoint: a folder or a Hub id.
        embeddings: one of POLICIES (embedding_policy.py): "kept" copies the token embeddings too,
            "fresh" leaves the model's own, "by_token" and "mean" take the rows that fit.
        head: copy the head too, if the checkpoint has the same one and embeddings are kept, as for
            further pre-training. Otherwise the model keeps its own head, and its own pooler if the
            checkpoint was not trained with one.
        same_ids: the checkpoint's ids are known to be the model's. Then rows of its embeddings
            after the last id, which many checkpoints have for speed, are left out.
        same_rows: for embeddings "by_token", what `matching_rows` returns.

    Returns:
        What was loaded, and what was not.

    Raises:
        UsageError: the checkpoint cannot be read, is of another architecture, has no tensor of the
            model or one of another shape, or holds numbers that are not finite.
    """
    choose("embedding policy", embeddings, POLICIES)
    with_head = head and embeddings != "fresh"
    target = model if with_head else model_body(model)
    checkpoint_class = type(model) if with_head else AutoModel
    stored, missing, left_over = read_weights(source, target.config, checkpoint_class)

    # Choose the tensors that both have. With fresh embeddings these stay, and their biases.
    current = target.state_dict()
    token_modules = {name.rpartition(".")[0] for name in embedding_names(target)}
    fresh_modules = token_modules if embeddings == "fresh" else set()
    copied = {
        name: tensor
        for name, tensor in stored.items()
        if name in current and name.rpartition(".")[0] not in fresh_modules
    }
    if not copied:
        raise UsageError(
            f"{source}: none of its tensors belongs to a {type(target).__name__} "
            f"(the first is called {next(iter([*left_over, *stored]), 'nothing')}); give a "
            "checkpoint of this architecture."
        )
    if same_ids:
        copied = cut_padding(copied, current, token_modules)
    if embeddings in MATCHED:
        tables = {name: t for name, t in copied.items() if name.rpartition(".")[0] in token_modules}
        copied |= match_rows(tables, current, embeddings, same_rows)

    # Check all of them before the first is copied.
    for name, tensor in copied.items():
        shape = current[name].shape
        if shape != tensor.shape:
            remedy = "give a model of the same sizes"
            if name.rpartition(".")[0] in token_modules:
                remedy += ' and vocabulary, or embeddings "fresh"'
            raise UsageError(
                f"{source}: {name} has shape {list(tensor.shape)}, the model's has {list(shape)}; "
                f"{remedy}."
            )
        if not torch.isfinite(tensor).all():
            raise UsageError(
                f"{source}: {name} holds numbers that are not finite; "
                "give a checkpoint that was not broken."
            )
    with torch.no_grad():
        for name, tensor in copied.items():
            current[name].copy_(tensor)

    # What did not come from the checkpoint: it lacks it, or it was not to be taken.
    lacking = [name for name in current if name in missing]
    own = [name for name in current if name not in copied and name not in missing]
    report = LoadReport(
        source=str(source),
        loaded=tuple(copied),
        missing=tuple(lacking),
        left_over=tuple(left_over),
        fresh=tuple(own),
    )
    # Without the head, the checkpoint's own head is left over as a matter of course.
    is_complete = not lacking and not (with_head and left_over)
    model.load_report = report.log(logging.INFO if is_complete else logging.WARNING)
    return report


def cut_padding(
    stored: Mapping[str, torch.Tensor],
    current: Mapping[str, torch.Tensor],
    token_modules: Collection[str],
) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors without the rows of embeddings that the model has no ids for.

    Args:
        stored: name -> tensor of the checkpoint.
        current: name -> tensor of the model.
        token_modules: the modules that embed ids or map back to them.
    """
    cut = dict(stored)
    for name, tensor in stored.items():
        rows = current[name].shape[:1]
        has_more = bool(rows) and tensor.dim() > 0 and len(tensor) > rows[0]
        if has_more and name.rpartition(".")[0] in token_modules:
            cut[name] = tensor[: rows[0]]
    return cut


def model_body(model: PreTrainedModel) -> PreTrainedModel:
    """Return the body of a model, or the model itself where it has no head."""
    return getattr(model, model.base_model_prefix, model)


def read_weights(
    source: str | Path, config: PreTrainedConfig, model_class: Any
) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """Read a checkpoint as a model class.

    Args:
        source: the checkpoint: a folder or a Hub id.
        config: the config of the model that takes the weights, of the checkpoint's model_type.
        model_class: the class, with or without a head, whose names the tensors get.

    Returns:
        The tensors in float32 by name; the names of the model's that the checkpoint lacks; the
        names of the checkpoint's that the model lacks.

    Raises:
        UsageError: it cannot be read, or is of another architecture.
    """
    folder = find_weights(source, WEIGHT_PATTERNS)
    stored_config = checkpoint_config(source)
    if stored_config.model_type != config.model_type:
        raise UsageError(
            f"{source} is a {stored_config.model_type}, the model a {config.model_type}; "
            "give one architecture."
        )
    tensors = stored_state(folder)

    # A wrapper may have put its name before all others, as "model." of a LightningModule.
    empty_model = skeleton(model_class, stored_config)
    known = {body_name(empty_model, name) for name in empty_model.state_dict()}
    prefix = outer_prefix(str(source), tensors, lambda name: body_name(empty_model, name) in known)
    tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}

    sums = tensor_sums(tensors)
    try:
        with quiet_loading():
            model, report = type(empty_model).from_pretrained(
                None,
                config=stored_config,
                state_dict=tensors,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UsageError(f"The checkpoint '{source}' cannot be read: {cause}") from error

    for name, stored_shape, shape in sorted(report["mismatched_keys"]):
        raise UsageError(
            f"{source}: {name} has shape {list(stored_shape)}, its config.json says {list(shape)}; "
            "give a checkpoint with the config that it was saved with."
        )
    refuse_redrawn(str(source), tensors, sums, model.state_dict())
    missing = set(report["missing_keys"])
    state = {name: t for name, t in model.state_dict().items() if name not in missing}
    return state, sorted(missing), sorted(report["unexpected_keys"])


def stored_state(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint by name, floating-point ones as float32.

    Args:
        folder: the local folder, with safetensors or else pytorch_model.bin.

    Raises:
        UsageError: there are neither, one is missing or broken, or they are an adapter's or a
            quantised model's.
    """
    refuse_adapter(folder)
    files = pickled_files(folder)
    if not files or any(folder.glob("*.safetensors")):
        stored = StoredTensors.in_folder(folder)
        return {name: stored.read(name) for name in stored.shapes}

    # Files of torch.save: only tensors are unpickled.
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        refuse_pointer(file)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a broken or hostile pickle makes torch raise
            cause = " ".join(str(error).split())[:200]
            raise UsageError(
                f"{file} cannot be read as tensors ({cause}); give a checkpoint with safetensors."
            ) from error
        tensors |= model_tensors(content, file)
    state = {}
    for name, stored_name in plain_names(str(folder), tensors).items():
        tensor = tensors[stored_name]
        state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def model_tensors(content: Any, file: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a model by name from what torch.save has written.

    A training loop may have put them beside the state of its optimizer and its step.

    Raises:
        UsageError: there are none.
    """
    for key in NESTED_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {}
    if isinstance(content, dict):
        tensors = {name: value for name, value in content.items() if torch.is_tensor(value)}
    if not tensors:
        raise UsageError(f"{file} holds no tensors by name; give a checkpoint with safetensors.")
    return tensors


def pickled_files(folder: Path) -> list[Path]:
    """Return a checkpoint's files of torch.save: pytorch_model.bin, or those of its index."""
    single, index = folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json"
    if single.exists():
        return [single]
    if index.exists():
        files = [folder / name for name in indexed_files(index)]
        check_files(files)
        return files
    return []


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' own report of a load out of the log: `LoadReport` says the same."""
    verbosity = transformers_logging.get_verbosity()
    has_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if has_bar:
            transformers_logging.enable_progress_bar()
