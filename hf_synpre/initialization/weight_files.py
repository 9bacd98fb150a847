"""A checkpoint's folder -> its files of weights, or what is wrong with them.

transformers takes model.safetensors where there is one, else the files that
model.safetensors.index.json names. A folder without both, as after a download that broke off, is
taken whole or refused.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hf_synpre.errors import UsageError
from hf_synpre.files import read_json
from hf_synpre.initialization.checkpoints import ADAPTER_FILE, STATISTICS_FILE

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Suffixes of files of weights that other programs and older versions write.
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf")
# What one of N files of a checkpoint is called.
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.safetensors")


def weight_files(folder: Path) -> list[Path]:
    """Return a checkpoint's safetensors files.

    These are model.safetensors, else the files that its index names, else all *.safetensors.

    Raises:
        UsageError: there are none, one is missing, or the folder holds an adapter.
    """
    refuse_adapter(folder)
    index, single = folder / INDEX_FILE, folder / SINGLE_FILE
    if single.exists():
        files = [single]
    elif index.exists():
        files = [folder / name for name in indexed_files(index)]
    else:
        files = sorted(folder.glob("*.safetensors"))
        check_shards(folder, files)

    if not files:
        others = [file.name for file in sorted(folder.glob("*")) if file.suffix in OTHER_WEIGHTS]
        if others:
            raise UsageError(
                f"{folder} holds {others[0]} and no *.safetensors, which alone are read; load it "
                "with transformers' from_pretrained, and give a folder of its save_pretrained."
            )
        raise UsageError(
            f"{folder} holds neither {STATISTICS_FILE} nor *.safetensors; "
            "give a checkpoint folder or Hub id."
        )
    check_files(files)
    return files


def check_files(files: Iterable[Path]) -> None:
    """Raise UsageError where a file that an index names is missing."""
    for file in files:
        if not file.exists():
            raise UsageError(
                f"{file} is missing, though the index of the checkpoint names it; copy the "
                "checkpoint again."
            )


def indexed_files(index: Path) -> list[str]:
    """Return the names of the files that an index names, sorted.

    Raises:
        UsageError: it is no index, or names a file outside of its folder.
    """
    names = set(read_index(index).values())
    for name in names:
        path = os.path.normpath(name)
        if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir:
            raise UsageError(
                f"{index} names {name!r}, a file outside of its folder; it was not read. "
                "Take the checkpoint from its origin."
            )
    return sorted(names)


def read_index(index: Path) -> dict[str, str]:
    """Return the name of each tensor -> its file, as an index has them. UsageError: it is none."""
    content = read_json(index)
    weight_map: Any = None
    if isinstance(content, dict):
        weight_map = content.get("weight_map")
    is_map = isinstance(weight_map, dict) and all(
        isinstance(name, str) for name in weight_map.values()
    )
    if not is_map:
        raise UsageError(f"{index} is no index of safetensors files; copy it again.")
    return weight_map


def check_shards(folder: Path, files: Iterable[Path]) -> None:
    """Raise UsageError where files are called "5 of 8" and not all eight are there."""
    for file in files:
        match = SHARD.fullmatch(file.name)
        if match is None:
            continue
        total = int(match["total"])
        names = (f"{match['stem']}-{n:05d}-of-{total:05d}.safetensors" for n in range(1, total + 1))
        missing = next((name for name in names if not (folder / name).exists()), None)
        if missing is not None:
            raise UsageError(
                f"{folder} holds {file.name}, and {missing} is missing: half a checkpoint; "
                "download it again."
            )


def refuse_adapter(folder: Path) -> None:
    """Raise UsageError where a folder holds an adapter of peft, not the weights of a model."""
    config = folder / ADAPTER_FILE
    files = [config] if config.exists() else sorted(folder.glob("adapter_model*"))
    is_model = (folder / SINGLE_FILE).exists() or (folder / INDEX_FILE).exists()
    if not files or (is_model and not config.exists()):
        return
    kind, base = "", "its base model"
    content = read_json(config) if config.exists() else {}
    if isinstance(content, dict):
        kind = f"{content.get('peft_type') or ''} "
        base = content.get("base_model_name_or_path") or base
    raise UsageError(
        f"{folder} holds the {kind.lstrip()}adapter {files[0].name}, not the weights of a model; "
        f"give {base}, or merge the adapter into it (merge_and_unload of peft) and give the folder "
        "where that is saved."
    )


def broken_file(file: Path, cause: str) -> UsageError:
    """Return the error of a safetensors file that cannot be read."""
    return UsageError(
        f"{file} is not a complete safetensors file ({' '.join(cause.split())[:200]}); "
        "copy it again."
    )
