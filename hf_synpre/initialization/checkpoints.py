"""A checkpoint's folder or Hub id -> its local folder and its config."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoConfig, PreTrainedConfig

from hf_synpre.data.connection import one_line_cause, read_error
from hf_synpre.errors import (
    CLOSE,
    MissingCheckpointError,
    TemporaryError,
    UsageError,
    similar_path,
)
from hf_synpre.files import read_json, read_object

STATISTICS_FILE = "parameter_statistics.json"
# What peft writes beside the weights of an adapter.
ADAPTER_FILE = "adapter_config.json"

CONFIG_FILE = "config.json"

# Fields of a config that count modules, and the most that a model may have: the deepest published
# one has 1,000 layers, the widest 2,048 experts.
COUNTS_OF_MODULES = re.compile(r"layers?$|experts$")
MOST_MODULES = 2048
# The most classes of a config, which lists their names.
MOST_LABELS = 1_000_000

# The files that tell a checkpoint's config and statistics without its weights.
SMALL_FILES = (STATISTICS_FILE, CONFIG_FILE, "generation_config.json", ADAPTER_FILE)

# The files by which a checkpoint has a tokenizer, and the classes that need none of them.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("vocab.txt", "vocab.json"),
)
TOKENIZERS_OF_BYTES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")

# The package's own files: ID/config.json, ID/parameter_statistics.json, ID/pretraining.json.
BUNDLED = Path(__file__).parents[1] / "statistics"
# The namespace of these checkpoints on the Hub.
NAMESPACE = "synpre/"


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


def find_weights(
    name_or_path: str | Path, patterns: tuple[str, ...] = ("*.safetensors", "*.json"), **hub: Any
) -> Path:
    """Return a folder with a checkpoint's safetensors and JSON files; a Hub id is downloaded."""
    return checkpoint_folder(name_or_path, patterns, **hub)


def checkpoint_config(name_or_path: str | Path, **hub: Any) -> PreTrainedConfig:
    """Return the config of a checkpoint.

    Args:
        name_or_path: a checkpoint's folder, a config file, the id of a checkpoint bundled with the
            package, or a Hub id. For the folder of an adapter of peft it is the config of the
            adapter's base model.
        **hub: where and how the Hub is asked: revision, token, cache_dir, subfolder,
            local_files_only ...

    Raises:
        UsageError: there is no such checkpoint, or no config of a transformers model in it.

    Examples:
        checkpoint_config("synpre/t5-mini-set").d_model   # needs no network
    """
    if Path(name_or_path).is_file():
        return read_config(Path(name_or_path), {})[0]
    folder = find_config(name_or_path, **hub)
    adapter = folder / ADAPTER_FILE
    if adapter.exists() and not (folder / CONFIG_FILE).exists():
        content = read_json(adapter)
        base = content.get("base_model_name_or_path") if isinstance(content, dict) else None
        if not base or not isinstance(base, str):
            raise UsageError(
                f"{adapter} names no base model, so the config is not known; give the folder of "
                "the base model."
            )
        folder = find_config(base)
    return read_config(folder, {})[0]


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
        TemporaryError: the Hub is busy or has a fault.
    """
    if not isinstance(name_or_path, str | Path):
        raise UsageError(f"The checkpoint is {name_or_path!r}; give a folder or a Hub id.")
    path = Path(name_or_path)
    if path.is_dir():
        return Path(name_or_path, subfolder)

    # A path on this machine, rather than a name on the Hub.
    slashes = str(name_or_path).count("/")
    is_in_folder = slashes == 1 and path.parent.is_dir()
    if path.is_absolute() or str(name_or_path).startswith(".") or slashes > 1 or is_in_folder:
        raise UsageError(
            f"There is no folder {name_or_path}; give a checkpoint folder or a Hub id."
            f"{similar_path(path)}"
        )

    refuse_short_name(str(name_or_path))
    if subfolder:
        patterns = tuple(f"{subfolder}/{pattern}" for pattern in patterns)
    try:
        repository = snapshot_download(str(name_or_path), allow_patterns=list(patterns), **hub)
    except (OSError, ValueError) as error:
        cause = released_hint(str(name_or_path)) + one_line_cause(error).rstrip(".")
        message = f"'{name_or_path}' is no folder and could not be downloaded: {cause}."
        told = read_error(message, error)
        if isinstance(told, TemporaryError):
            raise told from error
        if is_unknown_release(str(name_or_path)):
            raise MissingCheckpointError(unknown_release(str(name_or_path))) from error
        raise MissingCheckpointError(message + similar_path(path)) from error
    return Path(repository, subfolder)


def refuse_short_name(name: str) -> None:
    """Raise UsageError where a name is that of a bundled checkpoint without its namespace.

    A folder of this name is another matter, and is read.
    """
    whole = NAMESPACE + name
    if whole in bundled_checkpoints() and not Path(name).exists():
        raise UsageError(
            f"There is no folder {name}; give {whole}, whose statistics come with the package."
        )


def released_hint(name: str) -> str:
    """Return a hint on the weights of a checkpoint whose statistics are bundled; "" for others."""
    if name not in bundled_checkpoints():
        return ""
    return (
        "only its statistics are bundled, not its weights; give init statistics, a scheme that "
        "reads no weights, or its folder in model_cards/ of a clone. "
    )


def is_unknown_release(name: str) -> bool:
    """Say whether a name is one of this project's namespace, and of no bundled checkpoint."""
    return name.startswith(NAMESPACE) and name not in bundled_checkpoints()


def unknown_release(name: str) -> str:
    """Return what is said of a name that `is_unknown_release`: a guess, and all that there are.

    The guess is of the same architecture, where there is one.
    """
    known = list(bundled_checkpoints())
    architecture = name.partition("-")[0] + "-"
    same = [each for each in known if each.startswith(architecture)]
    close = difflib.get_close_matches(name, same or known, n=1, cutoff=CLOSE)
    guess = f"Did you mean {close[0]}? " if close else ""
    return f"The package has no checkpoint {name}. {guess}It has {', '.join(known)}."


def has_tokenizer(source: str | Path) -> bool:
    """Say whether a checkpoint, in a folder or on the Hub, has a tokenizer.

    Raises:
        UsageError: there is no such folder, or the Hub does not give its files.
    """
    if Path(source).is_file() or str(source) in bundled_checkpoints():
        return False
    folder = checkpoint_folder(source, (*TOKENIZER_FILES, "tokenizer_config.json"))
    if any((folder / file).exists() for file in TOKENIZER_FILES):
        return True
    config = folder / "tokenizer_config.json"
    fields = read_json(config) if config.exists() else {}
    return isinstance(fields, dict) and fields.get("tokenizer_class") in TOKENIZERS_OF_BYTES


def tokenizer_file(source: str | Path) -> Path | None:
    """Return the tokenizer.json of a checkpoint, None where it has none."""
    try:
        file = checkpoint_folder(source, ("tokenizer.json",)) / "tokenizer.json"
    except (OSError, UsageError):
        return None
    return file if file.exists() else None


def architecture(checkpoint: object, hub: Mapping[str, Any]) -> str | None:
    """Return the model_type in the config of a checkpoint, None where that is not known.

    Args:
        checkpoint: a folder or Hub id; anything else has no config.
        hub: where and how the Hub is asked.
    """
    if not isinstance(checkpoint, str | Path):
        return None
    try:
        fields = read_object(find_config(checkpoint, **hub) / CONFIG_FILE)
    except (OSError, UsageError):
        return None
    return str(fields["model_type"]) if "model_type" in fields else None


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
        UsageError: there is no config of a transformers model in the folder, or it has more layers
            or classes than any model.
    """
    file = folder if folder.is_file() else folder / CONFIG_FILE
    check_sizes(overrides)
    if file.exists():
        check_sizes(read_object(file))
    try:
        config, rest = AutoConfig.from_pretrained(
            folder, return_unused_kwargs=True, trust_remote_code=False, **overrides
        )
    except Exception as error:  # whatever a class of configs raises on what a file says
        cause = one_line_cause(error)[:200]
        raise UsageError(
            f"{folder} holds no config.json of a transformers model ({cause}); give config=."
        ) from error
    if hasattr(config, "quantization_config"):  # weights are read as the numbers that they mean
        del config.quantization_config
    return config, rest


def check_sizes(fields: Mapping[str, Any]) -> None:
    """Raise UsageError where fields of a config make a model that nobody can build.

    To make its modules, or the names of its classes, would take for ever.

    Args:
        fields: the fields, also nested ones of parts of a model.
    """
    for name, value in fields.items():
        if isinstance(value, Mapping):
            check_sizes(value)
        most = MOST_LABELS if name == "num_labels" else MOST_MODULES
        is_count = name == "num_labels" or COUNTS_OF_MODULES.search(str(name))
        if is_count and isinstance(value, int) and value > most:
            raise UsageError(f"The field {name} of a config is {value}; give at most {most:,}.")
