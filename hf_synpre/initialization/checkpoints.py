"""A checkpoint's folder or Hub id -> its local folder, its config, its tensors."""

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

# The files that tell a checkpoint's config and statistics without its weights.
SMALL_FILES = (STATISTICS_FILE, "config.json", "generation_config.json")

# The package's own files: ID/config.json, ID/parameter_statistics.json, ID/pretraining.json.
BUNDLED = Path(__file__).parents[1] / "statistics"
# The namespace of these checkpoints on the Hub.
NAMESPACE = "synpre/"


class MissingCheckpointError(UsageError, OSError):
    """A checkpoint that is no folder and that the Hub does not give.

    It is bad input, and the OSError that transformers raises too.
    """


def bundled_checkpoints() -> dict[str, Path]:
    """Return Hub id -> folder of the checkpoints whose statistics are bundled with the package."""
    folders = sorted(file.parent for file in BUNDLED.glob(f"*/{STATISTICS_FILE}"))
    return {NAMESPACE + folder.name: folder for folder in folders}


def find_config(name_or_path: str | Path, **hub: Any) -> Path:
    """Return a folder with a checkpoint's config, and its statistics file if it has one.

    No weights are downloaded.

    Args:
        name_or_path: a folder, the id of a checkpoint bundled with the package, or a Hub id.
        **hub: where and how the Hub is asked: revision, token, cache_dir, subfolder,
            local_files_only ...

    Raises:
        UsageError: there is no such folder.
        MissingCheckpointError: the Hub does not give the files.
    """
    bundled = bundled_checkpoints().get(str(name_or_path))
    is_newest = hub.get("revision") in (None, "main")
    if bundled is not None and is_newest and not Path(name_or_path).is_dir():
        return bundled
    return checkpoint_folder(name_or_path, SMALL_FILES, **hub)


def find_weights(name_or_path: str | Path, **hub: Any) -> Path:
    """Return a folder with a checkpoint's safetensors and JSON files; a Hub id is downloaded."""
    return checkpoint_folder(name_or_path, ("*.safetensors", "*.json"), **hub)


def checkpoint_folder(
    name_or_path: str | Path, patterns: tuple[str, ...], subfolder: str = "", **hub: Any
) -> Path:
    """Return the local folder of a checkpoint.

    Args:
        name_or_path: a folder or a Hub id.
        patterns: which files are downloaded for a Hub id: names, * stands for any text.
        subfolder: the folder of the checkpoint inside the folder or the repository.
        **hub: where and how the Hub is asked: revision, token, cache_dir, local_files_only ...

    Raises:
        UsageError: there is no such folder.
        MissingCheckpointError: the Hub does not give the files.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return Path(name_or_path, subfolder)

    # A path on this machine, rather than a name on the Hub.
    slashes = str(name_or_path).count("/")
    is_in_folder = slashes == 1 and path.parent.is_dir()
    if path.is_absolute() or str(name_or_path).startswith(".") or slashes > 1 or is_in_folder:
        raise UsageError(
            f"There is no folder {name_or_path}; give a checkpoint folder or a Hub id."
        )

    if subfolder:
        patterns = tuple(f"{subfolder}/{pattern}" for pattern in patterns)
    try:
        repository = snapshot_download(str(name_or_path), allow_patterns=list(patterns), **hub)
    except (OSError, ValueError) as error:
        cause = released_hint(str(name_or_path)) + " ".join(str(error).split())
        raise MissingCheckpointError(
            f"'{name_or_path}' is no folder and could not be downloaded: {cause}"
        ) from error
    return Path(repository, subfolder)


def released_hint(name: str) -> str:
    """Return a hint on the checkpoints of this project on the Hub; "" for other ids."""
    bundled = bundled_checkpoints()
    if name in bundled:
        return (
            "only its statistics are released, not its weights; give init statistics, or a scheme "
            "that reads no weights. "
        )
    if name.startswith(NAMESPACE):
        return f"statistics are released for {', '.join(bundled)}. "
    return ""


def has_current_statistics(folder: Path, trusted: bool) -> bool:
    """Say whether a folder has a statistics file that describes its weights.

    Args:
        folder: a local folder of a checkpoint.
        trusted: whether the statistics count whatever their age. Otherwise they must not be older
            than the weights.
    """
    file = folder / STATISTICS_FILE
    if not file.exists():
        return False
    if trusted:
        return True
    return all(
        last_change(weights) <= last_change(file) for weights in folder.glob("*.safetensors")
    )


def last_change(file: Path) -> int:
    """Return when a file was written or moved, in nanoseconds.

    A copy may keep the time at which the original was written; its metadata then has the later one.
    """
    return max(file.stat().st_mtime_ns, file.stat().st_ctime_ns)


def read_config(folder: Path, overrides: dict[str, Any]) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """Read a checkpoint's config.json.

    Args:
        folder: the local folder of the checkpoint.
        overrides: keywords; those that are fields of the config replace its values.

    Returns:
        The config, and the keywords that are no fields of it.

    Raises:
        UsageError: there is no config of a transformers model in the folder.
    """
    try:
        return AutoConfig.from_pretrained(folder, return_unused_kwargs=True, **overrides)
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{folder} holds no config.json of a transformers model ({cause}); give config=."
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """Return a checkpoint's safetensors files.

    These are the files that its index names, else model.safetensors, else all *.safetensors.

    Raises:
        UsageError: there are none, or one that the index names is missing.
    """
    index, single = folder / INDEX_FILE, folder / "model.safetensors"
    if index.exists():
        files = indexed_files(index)
    elif single.exists():
        files = [single]
    else:
        files = sorted(folder.glob("*.safetensors"))

    if not files:
        raise UsageError(
            f"{folder} holds neither {STATISTICS_FILE} nor *.safetensors; "
            "give a checkpoint folder or Hub id."
        )
    for file in files:
        if not file.exists():
            raise UsageError(
                f"{file} is missing, though {INDEX_FILE} names it; copy the checkpoint again."
            )
    return files


def indexed_files(index: Path) -> list[Path]:
    """Return the files that an index names, sorted. Raises UsageError where it is no index."""
    try:
        names = set(read_json(index)["weight_map"].values())
        return [index.parent / name for name in sorted(names)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{index} is no index of safetensors files; copy it again.") from error


def broken_file(file: Path, cause: str) -> UsageError:
    """Return the error of a safetensors file that cannot be read."""
    return UsageError(
        f"{file} is not a complete safetensors file ({' '.join(cause.split())}); copy it again."
    )


class StoredTensors:
    """The tensors in a checkpoint's safetensors files by name; each is read when it is asked for.

    Args:
        folder: the local folder of the checkpoint.

    Attributes:
        shapes: name -> shape of every tensor.

    Raises:
        UsageError: there are no safetensors files, or one is broken.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.readers: dict[str, safe_open] = {}  # name of a tensor -> the reader of its file
        for file in weight_files(folder):
            try:
                reader = safe_open(file, framework="pt")
            except SafetensorError as error:
                raise broken_file(file, str(error)) from None
            for name in reader.keys():  # noqa: SIM118 - a reader, not a dict
                self.shapes[name] = tuple(reader.get_slice(name).get_shape())
                self.readers[name] = reader

    def stored(self, name: str) -> torch.Tensor:
        """Return one tensor in the dtype that it is stored in."""
        return self.readers[name].get_tensor(name)

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return one tensor, (shape), float32, in its own memory.

        Raises:
            UsageError: it is quantised, or holds numbers that are not finite.
        """
        stored = self.stored(name)
        if not stored.is_floating_point():
            raise UsageError(
                f"{self.folder}: {name} is stored as {stored.dtype}; "
                "give a checkpoint that is not quantised."
            )
        tensor = stored.to(torch.float32, copy=True)
        if not torch.isfinite(tensor).all():
            raise UsageError(
                f"{self.folder}: {name} holds numbers that are not finite; "
                "give a checkpoint that was not broken."
            )
        return tensor
