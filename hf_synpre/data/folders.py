"""Folders: a folder of a dataset -> the files of each of its splits.

1. The README's `configs` name them (Hub layout); every file must be inside the folder.
2. Else files called NAME-00000-of-00001.parquet make a split NAME.
3. Else words in the names of files, then of folders: train, validation (val, valid, dev), test
   (eval), in small or capital letters.
4. Else all files are the split train.

Hidden files and folders, such as .DS_Store and .ipynb_checkpoints, are no data.
"""

import logging
import re
from collections import defaultdict
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from hf_synpre.config import read_header
from hf_synpre.data.readers import is_data_file
from hf_synpre.data.text_files import content_suffix
from hf_synpre.errors import UsageError

logger = logging.getLogger(__name__)

# Split -> words that name it; a word may be followed by "set" or "data".
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words}
# A file of the Hub's layout: its split, its number, and of how many.
SHARD = re.compile(r"(?P<split>.+)-[0-9]{5}-of-(?P<count>[0-9]{5})(\W.*)?$")
# Words of a name: letters, parted by anything else and where a capital follows a small letter.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Files that lie beside data and are none.
NO_DATA = re.compile(
    r"(readme|licen[cs]e|notice|citation|requirements|changelog|config|dataset_infos?|dataset_dict|"
    r"state|metadata|croissant|tokenizer|tokenizer_config|special_tokens_map|vocab|label_?(map|names)"
    r")\.(txt|json)",
    re.I,
)
# Keys of a configuration that do not change how files are read.
CONFIG_KEYS = {"config_name", "data_files", "data_dir", "default", "version", "description"}


def split_files(folder: Path, config: str | None = None) -> dict[str, list[Path]]:
    """Return split -> its files, in the order of their names.

    Args:
        folder: a folder of data files.
        config: the configuration, of a README that has several.

    Raises:
        UsageError: the README's files are missing or outside of the folder, there are no files of
            data, or what their splits are cannot be told.
    """
    configs = readme_configs(folder)
    if configs:
        return configured_files(folder, choose_config(folder, configs, config))
    if config is not None:
        raise UsageError(f"{folder} has no configurations, and {config} was given; leave it out.")

    files = data_files(folder)
    if not files:
        raise UsageError(
            f"{folder} has no file of data; give a folder with train and test files (.parquet, "
            ".csv, .tsv, .jsonl, .json, .txt)."
        )
    splits = named_splits(folder, files)
    check_formats(folder, splits)
    return splits


def data_files(folder: Path) -> list[Path]:
    """Return the files of a folder whose format can be read, without hidden ones, by name."""
    entries = sorted(folder.rglob("*"))
    return [file for file in entries if is_data(file.relative_to(folder)) and file.is_file()]


def is_data(path: PurePath) -> bool:
    """Say whether a path within a dataset is that of a file of data, by its name."""
    has_name = is_data_file(path) and not NO_DATA.fullmatch(path.name)
    return has_name and not is_hidden(path.parts)


def is_hidden(parts: tuple[str, ...]) -> bool:
    """Say whether a path within a folder has a part that is hidden, or is Python's cache."""
    return any(part.startswith((".", "__")) for part in parts)


def named_splits(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Return split -> its files, by the names of the files. UsageError: they fit two splits."""
    # Files of the Hub's layout say their split in full.
    splits: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        shard = SHARD.match(file.name)
        if shard:
            splits[usual_case(shard["split"])].append(file)
    if splits:
        say_missing_shards(folder, splits)
        return in_order(splits)

    # The nearest name with a word of a split decides: the file's, then its folders'.
    unnamed = []
    for file in files:
        split = split_of(file, folder)
        if split is None:
            unnamed.append(file)
        else:
            splits[split].append(file)
    if not splits:
        check_unnamed(folder, files)
        return {"train": files}

    if unnamed:
        logger.warning(
            "%s: no split is in the names of %s; they are left out",
            folder,
            names_of(unnamed, folder),
        )
    for split, split_list in splits.items():
        if len(split_list) > 1:
            logger.warning("%s: the split %s is %s", folder, split, names_of(split_list, folder))
    return in_order(splits)


def usual_case(split: str) -> str:
    """Return the name of a split; train, validation and test in small letters."""
    return split.lower() if split.lower() in SPLIT_WORDS else split


def say_missing_shards(folder: Path, splits: dict[str, list[Path]]) -> None:
    """Log a warning where a split has fewer files than their names say."""
    for split, files in splits.items():
        counts: dict[tuple[Path, str], int] = defaultdict(int)
        for file in files:
            shard = SHARD.match(file.name)
            if shard:
                counts[file.parent, shard["count"]] += 1
        for (_, count), there in counts.items():
            if there < int(count):
                logger.warning(
                    "%s: %d of the %d files of the split %s are there; only these are read",
                    folder,
                    there,
                    int(count),
                    split,
                )


def in_order(splits: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Return splits with train, validation and test first."""
    names = [name for name in SPLIT_WORDS if name in splits]
    names += [name for name in splits if name not in SPLIT_WORDS]
    return {name: splits[name] for name in names}


def split_of(file: Path, folder: Path) -> str | None:
    """Return the split that a file's name or the nearest of its folders' names says, or None.

    Raises UsageError where a name says several.
    """
    parts = file.relative_to(folder).parts
    for name in (name_stem(file), *reversed(parts[:-1])):
        found = {split for word in WORD.findall(name) if (split := split_of_word(word))}
        if len(found) > 1:
            raise UsageError(
                f"{folder}: {'/'.join(parts)} is named after the splits "
                f"{' and '.join(sorted(found))}; give files names with one of train, validation "
                "and test."
            )
        if found:
            return found.pop()
    return None


def split_of_word(word: str) -> str | None:
    """Return the split that a word names: train for Train, TRAINING or trainset."""
    plain = word.lower()
    for ending in ("", "set", "data", "file"):
        if plain.endswith(ending) and plain.removesuffix(ending) in SPLIT_OF_WORD:
            return SPLIT_OF_WORD[plain.removesuffix(ending)]
    return None


def name_stem(file: Path) -> str:
    """Return a file's name without the suffixes of its packing and format."""
    return file.name[: file.name.lower().rfind(content_suffix(file))]


def check_unnamed(folder: Path, files: list[Path]) -> None:
    """Raise UsageError where files without words of splits cannot all be the split train.

    Names such as mytraining1 and mytesting1 may say splits; and text beside a table may be none.
    """
    if len(files) == 1:
        return
    hinted = [file for file in files if re.search(r"train|test|valid|dev", file.name, re.I)]
    if hinted:
        raise UsageError(
            f"{folder}: the splits of {names_of(files, folder)} cannot be told from their names; "
            "call them train, validation and test, as in train.csv."
        )
    logger.warning(
        "%s: no split is in the names of %s; all are the split train",
        folder,
        names_of(files, folder),
    )


def check_formats(folder: Path, splits: dict[str, list[Path]]) -> None:
    """Raise UsageError where a split has files of several formats: copies, or something else."""
    for split, files in splits.items():
        if len({content_suffix(file) for file in files}) > 1:
            raise UsageError(
                f"{folder}: the split {split} has files of several formats, "
                f"{names_of(files, folder)}; keep those of one format."
            )
        stems = [file.with_name(name_stem(file)) for file in files]
        if len(set(stems)) < len(stems):
            raise UsageError(
                f"{folder}: the split {split} has a file packed and unpacked, "
                f"{names_of(files, folder)}; keep one of them."
            )


def names_of(files: list[Path], folder: Path) -> str:
    """Return the names of files within a folder, the first ten of them."""
    names = [file.relative_to(folder).as_posix() for file in files]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


# --- the README's configurations ------------------------------------------------------------------


def readme_configs(folder: Path) -> list[dict[str, Any]]:
    """Return the `configs` of a folder's README that name data files.

    Raises UsageError where its header is no YAML, or out of bounds.
    """
    readme = folder / "README.md"
    metadata = read_header(readme)
    configs = metadata.get("configs") if isinstance(metadata, dict) else None
    if configs is None:
        return []
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        raise UsageError(f"{readme}: configs is no list of configurations with data_files.")
    return [config for config in configs if "data_files" in config or "data_dir" in config]


def choose_config(folder: Path, configs: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    """Return the configuration of a name; without one the only one, or the default.

    Raises UsageError where there is none.
    """
    by_name = {str(config.get("config_name", "default")): config for config in configs}
    if name is None:
        defaults = [config for config in configs if config.get("default") is True]
        if len(by_name) == 1:
            defaults = list(by_name.values())
        elif "default" in by_name:
            defaults = [by_name["default"]]
        if len(defaults) == 1:
            return defaults[0]
    elif name in by_name:
        return by_name[name]
    raise UsageError(
        f"{folder} has the configurations {', '.join(sorted(by_name)[:10])}; "
        f"{name or 'none'} was given; name one of them."
    )


def configured_files(folder: Path, config: dict[str, Any]) -> dict[str, list[Path]]:
    """Return split -> its files, as a README's configuration names them.

    Raises UsageError where a file is missing or outside of the folder, or the configuration has
    options of reading.
    """
    readme = folder / "README.md"
    check_options(folder, config)
    base = config.get("data_dir") or ""
    patterns = split_patterns(readme, config.get("data_files"))
    if not patterns:
        return split_files_below(folder, str(base), readme)

    splits = {}
    for split, split_list in patterns.items():
        files: list[Path] = []
        for pattern in split_list:
            files += matching_files(folder, str(PurePosixPath(str(base)) / pattern), readme)
        splits[split] = list(dict.fromkeys(files))
    return splits


def configured_patterns(folder: Path, name: str | None) -> list[str] | None:
    """Return the names and patterns of files that a configuration of a README has.

    Args:
        folder: the folder of the README.
        name: the configuration; None where it has only one or a default.

    Returns:
        The patterns; None where the README has no configurations.

    Raises:
        UsageError: there is no such configuration, or it has options of reading.
    """
    configs = readme_configs(folder)
    if not configs and name is None:
        return None
    config = choose_config(folder, configs, name)
    check_options(folder, config)
    base = PurePosixPath(str(config.get("data_dir") or ""))
    patterns = split_patterns(folder / "README.md", config.get("data_files"))
    names = [pattern for paths in patterns.values() for pattern in paths] or ["*"]
    return [str(base / name) for name in names]


def check_options(folder: Path, config: dict[str, Any]) -> None:
    """Raise UsageError where a configuration of a README has options of reading."""
    others = sorted(str(key) for key in set(config) - CONFIG_KEYS)
    if others:
        raise UsageError(
            f"{folder / 'README.md'}: its configuration has {', '.join(others)}, which only the "
            "datasets library reads; save the data as .parquet or .jsonl."
        )


def split_files_below(folder: Path, base: str, readme: Path) -> dict[str, list[Path]]:
    """Return the splits of a folder within a folder, which a README names as data_dir."""
    check_inside(folder, base, readme)
    files = data_files(folder / base)
    if not files:
        raise UsageError(f"{readme}: there is no file of data in its data_dir {base}.")
    return named_splits(folder / base, files)


def split_patterns(readme: Path, value: Any) -> dict[str, list[str]]:
    """Return split -> patterns of files from any way in which a README may write them.

    They are a pattern, a list of patterns, a list of {split, path}, or splits with patterns.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        value = [value]
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        pairs = [(entry.get("split"), entry.get("path")) for entry in value]
    else:
        pairs = [("train", value)]

    patterns: dict[str, list[str]] = {}
    for split, paths in pairs:
        paths = [paths] if isinstance(paths, str) else paths
        are_names = isinstance(paths, list) and all(isinstance(path, str) for path in paths)
        if not isinstance(split, str) or not are_names:
            raise UsageError(f"{readme}: data_files of its configs are no splits with paths.")
        patterns.setdefault(usual_case(split), []).extend(paths)
    return patterns


def matching_files(folder: Path, pattern: str, readme: Path) -> list[Path]:
    """Return the files of a folder that a name or pattern of its README means, by name.

    Raises UsageError where there is none, or one is outside of the folder.
    """
    check_inside(folder, pattern, readme)

    # In pathlib ** stands for folders alone.
    whole = f"{pattern}/*" if pattern.endswith("**") else pattern
    try:
        if (folder / pattern).is_file():
            return [folder / pattern]
        found = sorted(folder.glob(whole))
    # IndexError is pathlib's answer to the pattern ".", OSError to a name that is too long.
    except (ValueError, NotImplementedError, IndexError, OSError) as error:
        raise UsageError(f"{readme} names {pattern}, which is no pattern ({error}).") from error
    files = []
    for file in found:
        if is_data(file.relative_to(folder)) and file.is_file():
            files.append(file)
    if not files:
        raise UsageError(f"{readme} names {pattern}, and no such file is in {folder}.")
    return files


def check_inside(folder: Path, name: str, readme: Path) -> None:
    """Raise UsageError where a name in a README leads out of its folder."""
    path = PurePosixPath(name)
    is_outside = path.is_absolute() or ".." in path.parts or "://" in name
    if is_outside:
        raise UsageError(
            f"{readme} names {name}, which is outside of its folder; its data must be inside."
        )
