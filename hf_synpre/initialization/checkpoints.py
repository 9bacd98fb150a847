"""Layer 3: where a checkpoint's files are: a folder, the statistics that the package carries, or the Hub."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig

from hf_synpre.errors import UsageError
from hf_synpre.files import read_json

STATISTICS_FILE = "parameter_statistics.json"
INDEX_FILE = "model.safetensors.index.json"
BUNDLED = (
    Path(__file__).parents[1] / "statistics"
)  # <id>/config.json and <id>/parameter_statistics.json
OWNER = "synpre/"
SMALL_FILES = (STATISTICS_FILE, "config.json", "generation_config.json")


def bundled_checkpoints() -> dict[str, Path]:
    """Return Hub id -> folder of the statistics that the package carries."""
    return {
        OWNER + file.parent.name: file.parent
        for file in sorted(BUNDLED.glob(f"*/{STATISTICS_FILE}"))
    }


def checkpoint_folder(
    name_or_path: str | Path, patterns: tuple[str, ...], subfolder: str = "", **hub: Any
) -> Path:
    """Return the local folder of a checkpoint: a path as it is, a Hub id downloaded (what fits the patterns).

    Raises UsageError where there is no such folder, and OSError, as transformers does, where the Hub does not give it.
    """
    if Path(name_or_path).is_dir():
        return Path(name_or_path, subfolder)
    if Path(name_or_path).is_absolute() or str(name_or_path).startswith("."):
        raise UsageError(
            f"There is no folder {name_or_path}; give a checkpoint folder or a Hub id."
        )
    wanted = [f"{subfolder}/{pattern}" if subfolder else pattern for pattern in patterns]
    try:
        return Path(snapshot_download(str(name_or_path), allow_patterns=wanted, **hub), subfolder)
    except (OSError, ValueError) as error:
        cause = released_hint(str(name_or_path)) + " ".join(str(error).split())
        raise OSError(
            f"'{name_or_path}' is no folder and could not be downloaded: {cause}"
        ) from None


def released_hint(name: str) -> str:
    """Return what to know of an id of ours: its weights are not released, or what the ids are; "" for another's."""
    if name in bundled_checkpoints():
        return (
            "only its statistics are released, not its weights; take init or scheme of statistics. "
        )
    return (
        f"statistics are released of {', '.join(bundled_checkpoints())}. "
        if name.startswith(OWNER)
        else ""
    )


def find_statistics(name_or_path: str | Path, **hub: Any) -> Path:
    """Return a folder with a checkpoint's statistics file and config; with its weights if it has no statistics."""
    folder = find_config(name_or_path, **hub)
    return folder if (folder / STATISTICS_FILE).exists() else find_weights(name_or_path, **hub)


def is_current(folder: Path, trusted: bool) -> bool:
    """Say whether a folder has a statistics file; where it is not `trusted`, one as young as the weights beside it."""
    file = folder / STATISTICS_FILE
    if not file.exists() or trusted:
        return file.exists()
    return all(
        last_change(weights) <= last_change(file) for weights in folder.glob("*.safetensors")
    )


def last_change(file: Path) -> int:
    """Return when a file was written or put in its place, whatever the time that it was copied with, ns."""
    return max(file.stat().st_mtime_ns, file.stat().st_ctime_ns)


def find_config(name_or_path: str | Path, **hub: Any) -> Path:
    """Return a folder with a checkpoint's config, and its statistics file if there is one; no weights are downloaded."""
    if (
        not Path(name_or_path).is_dir()
        and hub.get("revision") in (None, "main")
        and str(name_or_path) in bundled_checkpoints()
    ):
        return bundled_checkpoints()[str(name_or_path)]
    return checkpoint_folder(name_or_path, SMALL_FILES, **hub)


def find_weights(name_or_path: str | Path, **hub: Any) -> Path:
    """Return a folder with a checkpoint's safetensors."""
    return checkpoint_folder(name_or_path, ("*.safetensors", "*.json"), **hub)


def weight_files(folder: Path) -> list[Path]:
    """Return a checkpoint's safetensors files: those of its index, else model.safetensors, else all.

    Raises UsageError where there is none or one of the index's is missing.
    """
    if (folder / INDEX_FILE).exists():
        try:
            files = [
                folder / name
                for name in sorted(set(read_json(folder / INDEX_FILE)["weight_map"].values()))
            ]
        except (KeyError, TypeError, AttributeError):
            raise UsageError(
                f"{folder / INDEX_FILE} is no index of safetensors files; copy it again."
            ) from None
    else:
        whole = folder / "model.safetensors"
        files = [whole] if whole.exists() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(
            f"{folder} holds neither {STATISTICS_FILE} nor *.safetensors; give a checkpoint folder or Hub id."
        )
    if missing := [file for file in files if not file.exists()]:
        raise UsageError(
            f"{missing[0]} is missing, though {INDEX_FILE} names it; copy the checkpoint again."
        )
    return files


def broken_file(file: Path, cause: Any) -> UsageError:
    """Return the error of a safetensors file that cannot be read."""
    return UsageError(
        f"{file} is not a whole safetensors file ({' '.join(str(cause).split())}); copy it again."
    )


def open_tensors(file: Path) -> safe_open:
    """Return the reader of a safetensors file. Raises UsageError where it is broken."""
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise broken_file(file, error) from None


class StoredTensors:
    """name -> tensor of a checkpoint's safetensors files, each read when it is asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.readers = [open_tensors(file) for file in weight_files(folder)]
        self.home = {name: reader for reader in self.readers for name in reader.keys()}  # noqa: SIM118 - a reader, not a dict
        self.shapes = {
            name: tuple(reader.get_slice(name).get_shape()) for name, reader in self.home.items()
        }

    def stored(self, name: str) -> torch.Tensor:
        """Return one tensor as it is stored."""
        return self.home[name].get_tensor(name)

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return one tensor, (shape), float32, its own memory. Raises UsageError where it is quantised or not finite."""
        stored = self.stored(name)
        if not stored.is_floating_point():
            raise UsageError(
                f"{self.folder}: {name} is stored as {stored.dtype}; give a checkpoint that is not quantised."
            )
        tensor = stored.to(torch.float32, copy=True)
        if not torch.isfinite(tensor).all():
            raise UsageError(
                f"{self.folder}: {name} holds numbers that are not finite; give a checkpoint that was not broken."
            )
        return tensor


def read_config(folder: Path, overrides: dict[str, Any]) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """Return a checkpoint's config with the overrides that are fields of it, and the other keywords."""
    try:
        return AutoConfig.from_pretrained(folder, return_unused_kwargs=True, **overrides)
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{folder} holds no config.json of a transformers model ({cause}); give config=."
        ) from None
