"""Pushes: a model folder or a built dataset -> one commit on the Hub.

No code is published, and no file that must be unpickled.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from hf_synpre import __version__
from hf_synpre.data.recipes import config_folder
from hf_synpre.data.shards import block_digest, read_configs, read_footer, stored_blocks
from hf_synpre.errors import UsageError
from hf_synpre.hub.cards import CARD, dataset_card, model_card, read_card_configs
from hf_synpre.hub.checks import (
    check_file_content,
    check_file_name,
    check_inside_folder,
    check_repo_id,
    hub_errors,
)
from hf_synpre.hub.local_paths import published_card, published_content

# The files of a model folder that are published: weights, texts and results.
MODEL_FILES = (
    *("*.safetensors", "*.json", "*.model", "merges.txt", "vocab.txt", CARD),
    *("results/*.json", "results/*/*.json", ".eval_results/*.yaml"),
)
NOT_PUSHED = ("trainer_state.json",)
# What a folder of `synpre init` has beside its card.
STARTED_FILE = "initialization.json"
# A model folder must have one of these, from which its card is made, or be one that was fine-tuned.
DESCRIPTIONS = ("pretraining.json", "parameter_statistics.json", STARTED_FILE)
# What a folder of `synpre finetune` has beside its card, which names hf_synpre among its tags.
FINETUNED_FILES = ("config.json", "model.safetensors", CARD)
CARD_TAG = "hf_synpre"


@dataclass
class PushPlan:
    """What a push would do; `lines` describes it."""

    repo_id: str  # namespace/name
    repo_type: str  # dataset or model
    files: dict[str, Path | bytes]  # name in the repository -> the file, or its content
    left_out: list[str]  # files of the folder that are not published, and its checkpoints
    configs: dict[str, dict[str, Any]]  # for a dataset: configuration -> recipe and splits

    def lines(self) -> list[str]:
        """Return a headline, a line for each file with its size, and one for each file left out."""
        sizes = {}
        for name, content in self.files.items():
            sizes[name] = content.stat().st_size if isinstance(content, Path) else len(content)

        total = sum(sizes.values())
        lines = [
            f"{self.repo_type} {self.repo_id}: {len(sizes)} files, {total:,} bytes in one commit"
        ]
        lines += [f"  {name}  {size:,} bytes" for name, size in sizes.items()]
        lines += [f"  stays here: {name}" for name in self.left_out]
        return lines


def plan_push(folder: str | Path, repo_id: str, token: str | None = None) -> PushPlan:
    """Return what a push would publish; nothing is sent and nothing is written.

    Args:
        folder: the folder of a model or of a built dataset.
        repo_id: namespace/name on the Hub.
        token: the caller's access token, which no published file may hold.

    Raises:
        UsageError: the folder is no model and no dataset, or a file in it must not be published.
    """
    folder, repo_id = Path(folder), check_repo_id(repo_id)
    if not folder.is_dir():
        raise UsageError(
            f"There is no folder {folder}; give the folder of a model or of a built dataset."
        )

    # A folder of shards is a dataset; any other is taken for a model.
    configs = read_configs(folder)
    if configs:
        repo_type = "dataset"
        chosen = dataset_files(folder, list(configs))
        card = dataset_card(repo_id, configs).encode()
    else:
        repo_type = "model"
        chosen = model_files(folder)
        if (folder / CARD).exists():
            own_card = (folder / CARD).read_text(encoding="utf-8", errors="replace")
            if is_finetuned(folder) or (folder / STARTED_FILE).is_file():
                own_card = loaded_from(own_card, repo_id)
            card = published_card(own_card).encode()
        else:
            card = model_card(folder, repo_id).encode()

    # The name of each file in the repository; check that each may be published.
    files: dict[str, Path | bytes] = {CARD: card}
    for file in chosen:
        if file != folder / CARD:
            files[file.relative_to(folder).as_posix()] = file
    for name, content in files.items():
        check_inside_folder(folder, check_file_name(name), content)
        check_file_content(name, content, token)
        if repo_type == "model" and isinstance(content, Path):
            files[name] = published_content(content)

    present = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = [file.relative_to(folder).as_posix() for file in present]
    left_out = [name for name in names if name not in files]
    # A checkpoint of the run is one entry.
    left_out = [re.sub(r"^(checkpoint-[0-9]+/).*", r"\1", name) for name in left_out]
    left_out = list(dict.fromkeys(left_out))
    return PushPlan(repo_id, repo_type, files, left_out, configs)


def dataset_files(folder: Path, configs: list[str]) -> list[Path]:
    """Return the shards of a dataset's configurations, after a check of their rows.

    Raises:
        UsageError: the rows of a shard were changed.
    """
    files = []
    for name in configs:
        files += sorted(folder.glob(f"{config_folder(name)}/*-of-*.parquet"))
    for file in files:
        check_shard_rows(file)
    return files


def check_shard_rows(file: Path) -> None:
    """Raise UsageError where a shard's rows do not have the digests in its footer."""
    digests = [block_digest(block).hex() for block in stored_blocks(file)]
    if digests != read_footer(file)["blocks"]:
        raise UsageError(
            f"{file} does not hold the rows that it was built with; delete it and build it again."
        )


def model_files(folder: Path) -> list[Path]:
    """Return the files of a model folder that are published.

    Raises:
        UsageError: no file of DESCRIPTIONS is among them, and it is no fine-tuned model.
    """
    matches = {file for pattern in MODEL_FILES for file in folder.glob(pattern)}
    files = [
        file
        for file in sorted(matches)
        if file.name not in NOT_PUSHED and not file.name.startswith(".")
    ]
    if not any(file.name in DESCRIPTIONS for file in files) and not is_finetuned(folder):
        raise UsageError(
            f"{folder} holds neither shards of a complete dataset nor pretraining.json, "
            "parameter_statistics.json or a fine-tuned model with its card; give what `synpre "
            "pretrain`, `synpre finetune`, `synpre statistics` or `synpre build` made."
        )
    return files


def is_finetuned(folder: Path) -> bool:
    """Say whether a folder is one that `synpre finetune` made: a model and its card."""
    if not all((folder / name).is_file() for name in FINETUNED_FILES):
        return False
    card = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    header = card.partition("\n---")[0]
    return f"\n- {CARD_TAG}\n" in header


def loaded_from(card: str, repo_id: str) -> str:
    """Return the card of a model in a folder with its code loading it from a repository."""
    code = re.compile(r'(model=|from_pretrained\()"[^"]*"')
    return code.sub(lambda found: f'{found[1]}"{repo_id}"', card)


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    tag: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Publish a folder in one commit.

    A model's card is rendered unless the folder has one. Files that the Hub already has are not
    sent again; shards of an older build are deleted in the same commit.

    Args:
        folder: the folder of a model or of a built dataset.
        repo_id: namespace/name on the Hub; the repository is made if it does not exist.
        private: whether a new repository is private; None leaves it to the account's settings.
        tag: a tag for the commit.
        token: an access token; without it that of huggingface_hub.
        message: the commit's message.

    Returns:
        The URL of the commit.

    Raises:
        UsageError: a file must not be published, or the Hub refuses the push.
        PushError: the transfer broke off.
    """
    plan = plan_push(folder, repo_id, token)
    api = HfApi(token=token)
    repository: dict[str, Any] = {"repo_id": plan.repo_id, "repo_type": plan.repo_type}

    with hub_errors(plan.repo_id, token):
        # The commit that this push builds on: if another commit comes first, the Hub refuses ours.
        api.create_repo(**repository, private=private, exist_ok=True)
        parent = api.repo_info(**repository).sha
        outdated = []
        if plan.repo_type == "dataset":
            outdated = merge_published_configs(plan, api, parent)

        # One commit, so that a reader sees the old files or the new ones.
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        operations += [CommitOperationAdd(name, content) for name, content in plan.files.items()]
        operations += [CommitOperationDelete(name) for name in outdated]
        commit = api.create_commit(
            **repository,
            operations=operations,
            commit_message=message or f"Published by hf_synpre {__version__}",
            parent_commit=parent,
        )

        if tag is not None:
            api.create_tag(**repository, tag=tag, revision=commit.oid, exist_ok=True)
    return commit.commit_url


def merge_published_configs(plan: PushPlan, api: HfApi, revision: str | None) -> list[str]:
    """Write the plan's card again, with the configurations that only the Hub has.

    Args:
        plan: the push of a dataset; its card is changed.
        api: a client of the Hub.
        revision: the commit that the push builds on.

    Returns:
        The published shards that the commit must delete: those of configurations that are pushed
        anew in other shards.
    """
    repository: dict[str, Any] = {
        "repo_id": plan.repo_id,
        "repo_type": plan.repo_type,
        "revision": revision,
    }
    published_files = api.list_repo_files(**repository)
    pushed_folders = {Path(name).parts[0] for name in plan.files}

    if CARD in published_files:
        card = api.hf_hub_download(filename=CARD, **repository)
        published = read_card_configs(card) or {}
        configs = {
            name: config
            for name, config in published.items()
            if config_folder(name) not in pushed_folders
        }
        configs.update(plan.configs)
        plan.files[CARD] = dataset_card(plan.repo_id, configs).encode()

    return [
        name
        for name in published_files
        if Path(name).parts[0] in pushed_folders
        and name.endswith(".parquet")
        and name not in plan.files
    ]
