"""Layer 5: pushes of datasets and models in one commit, and datasets rebuilt from their cards.

What is published holds no code and nothing that must be unpickled. Tokens are left to huggingface_hub: none is written
anywhere, and a file that holds one is not pushed.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_token,
    hf_hub_download,
    metadata_load,
    snapshot_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from hf_synpre import __version__
from hf_synpre.config import build_spec
from hf_synpre.data.shards import (
    BLOCK_ROWS,
    Recipe,
    block_digest,
    build_shards,
    config_folder,
    read_configs,
    read_footer,
    shard_files,
    split_digest,
    stored_blocks,
)
from hf_synpre.errors import UsageError, choose
from hf_synpre.hub.cards import CARD, dataset_card, model_card, write_dataset_card
from hf_synpre.tasks import iter_row_blocks
from hf_synpre.tasks.rng import SPLITS

MODEL_FILES = (
    *("*.safetensors", "*.json", "*.model", "merges.txt", "vocab.txt", CARD),
    *("results/*.json", "results/*/*.json"),
)
NOT_PUSHED = ("trainer_state.json",)
TOKEN = re.compile(r"hf_[A-Za-z0-9]{30,}")
REFUSALS = {
    401: "the Hub does not know you, or it is private or absent; log in with `hf auth login` or set HF_TOKEN",
    403: "your token may not do this; give one with write access to it",
    404: "the Hub has no such repository, revision or file",
    409: "somebody else changed it at the same time; run again",
    412: "somebody else changed it at the same time; run again",
}


class PushError(RuntimeError):
    """A transfer that broke off. The Hub has all of it or nothing; the same command goes on."""


# --- names, errors, secrets ----------------------------------------------------------------------------------------------


def check_repo_id(repo_id: str) -> str:
    """Return a repo id of the form namespace/name. Raises UsageError on anything else."""
    try:
        validate_repo_id(repo_id)
        if repo_id.count("/") == 1:
            return repo_id
    except HFValidationError:
        pass
    raise UsageError(
        f"The repo id {redact(repr(repo_id))} is no namespace/name of letters, digits, -, _ and .; give me/t5-set."
    )


def check_file_name(name: str) -> str:
    """Return a file's name in a repository: relative, below the top, nothing hidden. Raises UsageError otherwise."""
    parts = name.split("/")
    if (
        not name.isprintable()
        or "\\" in name
        or ":" in name
        or any(not part or part.startswith(".") for part in parts)
    ):
        raise UsageError(
            f"The file name {name!r} leads outside of the repository or is hidden; rename the file."
        )
    return name


def secrets(text: str, token: str | None = None) -> set[str]:
    """Return the access tokens that stand in a text: the caller's, huggingface_hub's own, and what looks like one."""
    return {secret for secret in (token, get_token()) if secret and secret in text} | set(
        TOKEN.findall(text)
    )


def redact(text: str, token: str | None = None) -> str:
    """Return the text in one line, without tokens."""
    for secret in secrets(text, token):
        text = text.replace(secret, "<token>")
    return " ".join(text.split())


@contextmanager
def plain_errors(repo_id: str, token: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line: UsageError where the Hub refuses, PushError where the line breaks."""
    try:
        yield
    except UsageError:
        raise
    except (OfflineModeIsEnabled, LocalEntryNotFoundError):
        raise UsageError(
            f"{repo_id}: the Hub cannot be reached and the cache has not got it; go online."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status >= 500:
            raise PushError(
                f"{repo_id}: the Hub answers {status}; nothing was published, run again later."
            ) from None
        reason = REFUSALS.get(status) or redact(str(error), token)
        raise UsageError(f"{repo_id}: {reason} (HTTP {status}).") from None
    except Exception as error:  # a broken connection, in whatever clothes the HTTP library gives it
        cause = redact(f"{error} {error.__cause__ or ''}", token)
        raise PushError(
            f"{repo_id}: the transfer broke off ({cause}); the Hub has all of it or nothing, run again."
        ) from None


def check_content(name: str, source: Path | bytes, token: str | None) -> None:
    """Raise UsageError on weights that are no safetensors, and on a text that holds a token."""
    if name.endswith(".safetensors"):
        try:
            with safe_open(source, framework="np"):
                return
        except (SafetensorError, OSError) as error:
            raise UsageError(
                f"{source} is not a whole safetensors file ({error}); save the model again."
            ) from None
    if name.endswith((".json", ".md", ".txt")):
        text = (source if isinstance(source, bytes) else source.read_bytes()).decode(
            "utf-8", "replace"
        )
        if secrets(text, token):
            raise UsageError(
                f"{name} holds an access token; take it out, and revoke it if it was ever published."
            )


# --- push ----------------------------------------------------------------------------------------------------------------


@dataclass
class Plan:
    """What a push would do: the files by their names in the repository, and what stays here."""

    repo_id: str
    repo_type: str
    files: dict[str, Path | bytes]
    left_out: list[str]
    configs: dict[str, dict[str, Any]]  # of a dataset

    def lines(self) -> list[str]:
        """Return the plan for people."""
        sizes = {
            n: len(s) if isinstance(s, bytes) else s.stat().st_size for n, s in self.files.items()
        }
        head = f"{self.repo_type} {self.repo_id}: {len(sizes)} files, {sum(sizes.values()):,} bytes in one commit"
        kept = [f"  stays here: {name}" for name in self.left_out]
        return [head, *(f"  {name}  {size:,} bytes" for name, size in sizes.items()), *kept]


def plan_push(folder: str | Path, repo_id: str, token: str | None = None) -> Plan:
    """Return what a push of a folder to `repo_id` would publish. Raises UsageError on what must not be published."""
    folder, repo_id = Path(folder), check_repo_id(repo_id)
    if not folder.is_dir():
        raise UsageError(
            f"There is no folder {folder}; give the folder of a model or of a built dataset."
        )
    if configs := read_configs(folder):
        names = [
            n
            for name in configs
            for n in sorted(folder.glob(f"{config_folder(name)}/*-of-*.parquet"))
        ]
        for file in names:
            check_rows(file)
        found, card = names, dataset_card(repo_id, configs).encode()
    else:
        patterns = sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern)})
        found = [
            file
            for file in patterns
            if file.name not in NOT_PUSHED and not file.name.startswith(".")
        ]
        if not any(
            file.name in ("pretraining.json", "parameter_statistics.json") for file in found
        ):
            raise UsageError(
                f"{folder} holds neither shards of a complete dataset nor pretraining.json or parameter_statistics.json; "
                "give what `synpre pretrain`, `synpre statistics` or dataset_scripts/build.py made."
            )
        card = (
            (folder / CARD).read_bytes()
            if (folder / CARD).exists()
            else model_card(folder, repo_id).encode()
        )
    files = {CARD: card} | {
        file.relative_to(folder).as_posix(): file for file in found if file != folder / CARD
    }
    for name, source in files.items():
        check_source(folder, check_file_name(name), source)
        check_content(name, source, token)
    rest = (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file())
    return Plan(
        repo_id,
        "dataset" if configs else "model",
        files,
        [name for name in rest if name not in files],
        configs,
    )


def check_rows(file: Path) -> None:
    """Raise UsageError where a shard's rows are not those that its footer has the digests of."""
    if [block_digest(block).hex() for block in stored_blocks(file)] != read_footer(file)["blocks"]:
        raise UsageError(
            f"{file} does not hold the rows that it was built with; delete it and build it again."
        )


def check_source(folder: Path, name: str, source: Path | bytes) -> None:
    """Raise UsageError where a file is a link that leads out of the folder."""
    if isinstance(source, Path) and not source.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{folder / name} is a link to a file outside of the folder; copy the file itself there."
        )


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    tag: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Publish a folder of a model or of a built dataset in one commit; return the commit's URL.

    A model's card is rendered unless the folder has one. What is already there is not sent again; shards of an older
    build go in the same commit. Raises UsageError where the folder or the Hub says no, PushError where the line breaks.
    """
    plan, api = plan_push(folder, repo_id, token), HfApi(token=token)
    where = {"repo_id": plan.repo_id, "repo_type": plan.repo_type}
    with plain_errors(plan.repo_id, token):
        api.create_repo(**where, private=private, exist_ok=True)
        head = api.repo_info(**where).sha
        stale = add_to_published(plan, api, head) if plan.repo_type == "dataset" else []
        operations = [CommitOperationAdd(name, source) for name, source in plan.files.items()]
        operations += [CommitOperationDelete(name) for name in stale]
        words = message or f"Published by hf_synpre {__version__}"
        commit = api.create_commit(
            **where, operations=operations, commit_message=words, parent_commit=head
        )
        if tag is not None:
            api.create_tag(**where, tag=tag, revision=commit.oid, exist_ok=True)
    return commit.commit_url


def add_to_published(plan: Plan, api: HfApi, head: str) -> list[str]:
    """Let the plan's card keep the configurations that only the Hub has; return the old shards of those it replaces."""
    where = {"repo_id": plan.repo_id, "repo_type": plan.repo_type, "revision": head}
    old, own = api.list_repo_files(**where), {Path(name).parts[0] for name in plan.files}
    if CARD in old:
        published = card_configs(api.hf_hub_download(filename=CARD, **where)) or {}
        kept = {name: facts for name, facts in published.items() if config_folder(name) not in own}
        plan.files[CARD] = dataset_card(plan.repo_id, kept | plan.configs).encode()
    return [
        n for n in old if Path(n).parts[0] in own and n.endswith(".parquet") and n not in plan.files
    ]


# --- datasets rebuilt from their cards -----------------------------------------------------------------------------------


def read_card(source: str | Path, revision: str | None = None) -> dict[str, dict[str, Any]]:
    """Return name -> facts of the configurations in a dataset's card, of a folder or a Hub id. Raises UsageError."""
    if Path(source).is_dir():
        file = Path(source) / CARD
    else:
        with plain_errors(check_repo_id(str(source))):
            file = Path(hf_hub_download(str(source), CARD, repo_type="dataset", revision=revision))
    configs = card_configs(file)
    if not configs:
        raise UsageError(
            f"{source} has no card with a recipe of hf_synpre; give a dataset that it built."
        )
    return configs


def card_configs(file: str | Path) -> dict[str, dict[str, Any]] | None:
    """Return name -> facts of the configurations in a card, which may be anybody's; None where it has none of ours."""
    try:
        configs = (metadata_load(file) or {})["synpre"]["configs"]
        return {name: dict(facts) for name, facts in configs.items()}
    except Exception:  # whatever the YAML of somebody else's card holds
        return None


def card_recipe(source: str | Path, name: str, facts: dict[str, Any]) -> Recipe:
    """Return the recipe of a configuration of a card, which may come from anybody: every name and type is checked."""
    config_folder(name)
    try:
        rows = {split: of["rows"] for split, of in facts["splits"].items()}
        for of in facts["splits"].values():
            if (
                not isinstance(of["shards"], int)
                or of["shards"] < 1
                or not re.fullmatch(r"[0-9a-f]{64}", of["sha256"])
            ):
                raise UsageError(
                    f"The card of {source} has a split of {name} without a number of shards and a sha256."
                )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The card of {source} has no splits with rows, shards and sha256 in {name} ({error})."
        ) from None
    given = {
        key: facts[key]
        for key in ("task", "version", "parameters", "vocabulary", "seed")
        if key in facts
    }
    return build_spec(Recipe, given | {"splits": rows}, f"the card of {source}, {name}")


def rebuild(
    source: str | Path,
    *,
    config: str | None = None,
    revision: str | None = None,
    output_dir: str | Path | None = None,
    say: Callable[[str], Any] = print,
) -> bool:
    """Generate the rows of a dataset's card again and compare them with its sha256 and with the published shards.

    `source` is a folder or a Hub id; `output_dir` gets the rebuilt dataset. Says what differs; True where nothing does.
    """
    configs = read_card(source, revision)
    if config is not None:
        configs = {choose("configuration", config, configs): configs[config]}
    recipes = {name: card_recipe(source, name, facts) for name, facts in configs.items()}
    folder = Path(source)
    if not folder.is_dir():
        patterns = [f"{config_folder(name)}/*.parquet" for name in configs]
        with plain_errors(str(source)):
            folder = Path(
                snapshot_download(
                    str(source), repo_type="dataset", revision=revision, allow_patterns=patterns
                )
            )
    equal = [
        compare_split(folder, name, split, recipes[name], facts, say)
        for name, of in configs.items()
        for split, facts in of["splits"].items()
    ]
    if output_dir is not None:
        for name, recipe in recipes.items():
            shards = {split: of["shards"] for split, of in configs[name]["splits"].items()}
            build_shards(recipe, name, output_dir, num_shards=shards)
        write_dataset_card(
            output_dir,
            str(source) if not Path(source).is_dir() else f"synpre/{folder.resolve().name}",
        )
    return all(equal)


def compare_split(
    folder: Path, name: str, split: str, recipe: Recipe, facts: dict[str, Any], say: Callable
) -> bool:
    """Generate a split again, say whether it equals the card and every shard there, and return it."""
    rows = recipe.splits[choose("split", split, SPLITS)]
    blocks = [
        block_digest(block) for block in iter_row_blocks(recipe.stream(split), 0, rows, BLOCK_ROWS)
    ]
    places = shard_files({split: rows}, {split: facts["shards"]})
    names = {f"{config_folder(name)}/{file}": place for file, place in places.items()}
    differ = []
    if (made := split_digest(blocks)) != facts["sha256"]:
        differ.append(
            f"{name}/{split}: the rebuilt rows have sha256 {made}, the card says {facts['sha256']}"
        )
    for file, place in names.items():
        differ += compare_shard(
            folder / file,
            file,
            place["start"],
            blocks[place["start"] // BLOCK_ROWS : -(-place["stop"] // BLOCK_ROWS)],
        )
    present = {
        p.relative_to(folder).as_posix()
        for p in folder.glob(f"{config_folder(name)}/{split}-*.parquet")
    }
    differ += [
        f"{file}: is no shard of the card's recipe" for file in sorted(present - names.keys())
    ]
    for line in differ:
        say(line)
    if not differ:
        say(
            f"{name}/{split}: {rows:,} rows rebuilt; they equal the card's sha256 {made} and {len(names)} shards"
        )
    return not differ


def compare_shard(file: Path, name: str, start: int, blocks: list[bytes]) -> list[str]:
    """Return a line where the rows of a shard, from row `start` of its split on, are not those of `blocks`."""
    if not file.exists():
        return [f"{name}: is missing"]
    try:
        found = [block_digest(block) for block in stored_blocks(file)]
    except UsageError as error:
        return [str(error)]
    pairs = zip(found, blocks, strict=False)
    first = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(found), len(blocks)))
    if found == blocks:
        return []
    return [
        f"{name}: differs from the rebuilt rows, first in the {BLOCK_ROWS:,} rows from {start + first * BLOCK_ROWS:,}"
    ]
