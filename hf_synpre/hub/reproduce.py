"""A model's card -> the same pre-training run, and whether its weights are the same.

The card alone is enough: its YAML has the recipe, the versions, and the sha256 of the weights. It
may come from anybody, so that every value in it is checked before it is used. `rebuild` does the
same for datasets; `card_of` tells the two apart.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from hf_synpre.config import build_spec, differences, read_header
from hf_synpre.data.corpora import Corpus
from hf_synpre.errors import PushError, UsageError, as_integer, in_message
from hf_synpre.files import read_object
from hf_synpre.hub.cards import CARD
from hf_synpre.hub.checks import check_repo_id, hub_errors, redact
from hf_synpre.models.spec import ModelSpec
from hf_synpre.provenance import tensors_sha256, without_local_paths
from hf_synpre.tasks.imports import task_files
from hf_synpre.training.pretraining import MACHINE_ARGUMENTS, pretrain, tokenizer_metadata
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.run_folder import RESULT_FILE
from hf_synpre.versions import versions

# What a card may say of the machine, and what it is where a card does not say it.
MACHINE = {"processes": 1, "threads": 1, "accumulation": 1}
MOST_THREADS = 1024
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PublishedRun:
    """A pre-training run as its card describes it."""

    # The folder or Hub id, for messages.
    source: str
    # All that decided the weights, checked.
    spec: PretrainingSpec
    model: ModelSpec
    recipe: dict[str, Any]
    # The digest of the weights (`tensors_sha256`).
    weights_sha256: str
    # Name -> version, of Python, hf_synpre and the libraries.
    versions: dict[str, str]
    # processes, threads, accumulation; device where it is known.
    machine: dict[str, Any]
    # What distinguishes the tokenizer, as `tokenizer_metadata` returns it; None without one.
    tokenizer: dict[str, Any] | None

    def cannot(self, cause: object) -> UsageError:
        """Return the error that says why the run cannot be made again."""
        return UsageError(f"The weights of {self.source} cannot be made again: {cause}")


# --- the card -------------------------------------------------------------------------------------


def card_of(source: str | Path, revision: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return the kind of a folder or repository, and what its card says for hf_synpre.

    Args:
        source: a folder with README.md, or with pretraining.json where it has no card; or the id
            of a model or a dataset on the Hub.
        revision: branch, tag or commit on the Hub.

    Returns:
        "dataset" or "model", and the entry `synpre` of the card's YAML.

    Raises:
        UsageError: there is no such folder or repository, or it has no recipe of hf_synpre.
        PushError: the download broke off.
    """
    folder = Path(source)
    if folder.is_dir():
        if not (folder / CARD).exists() and (folder / RESULT_FILE).exists():
            result = read_object(folder / RESULT_FILE)
            return kind_of(source, result | {"run": result})
        return kind_of(source, read_entry(folder / CARD))
    if str(source).startswith((".", "/", "~")):
        raise UsageError(
            f"There is no folder {source}, and it is no namespace/name of a repository on the Hub."
        )

    # A model and a dataset may have one name. The Hub is asked for both.
    repo_id = check_repo_id(str(source))
    cards, failures = [], []
    for repo_type in ("dataset", "model"):
        try:
            with hub_errors(repo_id):
                card = hf_hub_download(repo_id, CARD, repo_type=repo_type, revision=revision)
            cards.append(Path(card))
        except (UsageError, PushError) as error:
            failures.append(error)
    if not cards:
        # That it is not there is said where no other cause is known.
        is_missing = (RepositoryNotFoundError, EntryNotFoundError)
        failures.sort(key=lambda error: isinstance(error.__cause__, is_missing))
        failure = failures[0]
        raise type(failure)(f"There is no folder {source}; on the Hub: {failure}") from failure
    if len(cards) > 1:
        raise UsageError(
            f"{repo_id} is a dataset and a model on the Hub; download the one that is meant, and "
            "give its folder."
        )
    return kind_of(source, read_entry(cards[0]))


def read_entry(card: Path) -> Any:
    """Return the entry `synpre` of a card's YAML, None where there is no card or no such entry."""
    return read_header(card).get("synpre") if card.exists() else None


def kind_of(source: str | Path, entry: Any) -> tuple[str, dict[str, Any]]:
    """Return "dataset" or "model", and the entry that says it; see `card_of`."""
    if isinstance(entry, dict) and "configs" in entry:
        return "dataset", entry
    if isinstance(entry, dict) and isinstance(entry.get("recipe"), dict) and entry["recipe"]:
        return "model", entry
    raise UsageError(
        f"{source} has no card with a recipe of hf_synpre; give a dataset that it built, or a "
        "model that it pre-trained."
    )


def read_run(source: str | Path, entry: dict[str, Any]) -> PublishedRun:
    """Return the run that a card describes.

    Args:
        source: the folder or Hub id, for messages.
        entry: the entry `synpre` of the card's YAML.

    Raises:
        UsageError: a name, a type or a value is not what hf_synpre writes, or the card has no
            sha256 of the weights.
    """
    where = f"the card of {source}"
    recipe, sha256, machine = entry["recipe"], entry.get("weights_sha256"), entry.get("run")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256) or not isinstance(machine, dict):
        raise UsageError(
            f"{where} has no sha256 of its weights, so nothing can be compared; it is of an "
            "earlier version of hf_synpre, or of a model that it did not pre-train."
        )
    numbers = {name: machine.get(name, usual) for name, usual in MACHINE.items()}
    for name, value in numbers.items():
        if as_integer(value) is None or not 1 <= value <= MOST_THREADS:
            raise UsageError(f"{where} has {name} {in_message(value)}; that is no number of them.")

    tokenizer = recipe.get("tokenizer") or machine.get("tokenizer")
    parts = {
        "corpus": recipe.get("corpus"),
        "task_files": recipe.get("task_files"),
        "tokenizer": tokenizer,
        "versions": entry.get("versions"),
    }
    for name, part in parts.items():
        if not isinstance(part, dict | None):
            raise UsageError(f"{where} has {name} {in_message(part)}, which has no keys.")
    for name, number in (("tokens", recipe.get("tokens")), ("size", (tokenizer or {}).get("size"))):
        if number is not None and as_integer(number) is None:
            raise UsageError(f"{where} has {name} {in_message(number)}, which is no number.")

    # What stands for nothing, or belongs to a machine, is left out; the rest is checked.
    model = recipe.get("model")
    if isinstance(model, dict) and model.get("config_name"):
        model = {key: value for key, value in model.items() if key != "model_type"}
    pretraining = recipe.get("pretraining")
    if isinstance(pretraining, dict) and isinstance(pretraining.get("training"), dict):
        training = pretraining["training"]
        training = {key: training[key] for key in training.keys() - MACHINE_ARGUMENTS}
        pretraining = pretraining | {"training": training}
    return PublishedRun(
        source=str(source),
        spec=build_spec(PretrainingSpec, pretraining, where),
        model=build_spec(ModelSpec, model, where),
        recipe=recipe,
        weights_sha256=sha256,
        versions=parts["versions"] or {},
        machine=numbers | {"device": machine.get("device")},
        tokenizer=tokenizer,
    )


# --- the weights ----------------------------------------------------------------------------------


def reproduce_weights(
    run: PublishedRun,
    folder: Path,
    *,
    corpus: Corpus | None = None,
    tokenizer: Any = None,
    quiet: bool = True,
) -> list[str]:
    """Train a published run again and compare its weights with the card's sha256.

    Args:
        run: the run, from `read_run`.
        folder: where it is trained; a run that was killed there goes on.
        corpus: the text of a run on text.
        tokenizer: its tokenizer, where the run had one.
        quiet: show no progress.

    Returns:
        Nothing where the weights are equal; else what differs, a line each: the sha256, and each
        version and part of the machine that is another one here.

    Raises:
        UsageError: the run cannot be made again: its corpus, tokenizer or task is another one here.
    """
    check_parts(run, corpus, tokenizer)

    # The batches of a step as they were; their sums are the same only then.
    accumulation = run.machine["accumulation"] * run.machine["processes"]
    training: dict[str, Any] = {"gradient_accumulation_steps": accumulation}
    if run.spec.batch_size is None:
        rows = as_integer(run.recipe.get("rows_a_step"))
        if rows is None or rows < 1 or rows % accumulation:
            raise run.cannot("its card has no number of rows of a step.")
        training["per_device_train_batch_size"] = rows // accumulation
    if run.machine["device"] == "cpu":
        training["use_cpu"] = True
    spec = replace(run.spec, training=run.spec.training | training)

    threads = torch.get_num_threads()
    torch.set_num_threads(run.machine["threads"])
    try:
        result = pretrain(
            spec,
            run.model,
            folder,
            tokenizer=tokenizer,
            tokens=run.recipe.get("tokens"),
            corpus=corpus,
            keep_checkpoints=0,
            quiet=quiet,
        )
    except UsageError as error:  # such as a checkpoint that it started from and that is not here
        raise run.cannot(error) from error
    finally:
        torch.set_num_threads(threads)

    sha256 = tensors_sha256(folder)
    if sha256 == run.weights_sha256:
        return []
    lines = [f"the weights have sha256 {sha256}, the card says {run.weights_sha256}"]
    causes = machine_differences(run, result)
    return lines + (causes or ["no version that the card names differs; the processor may"])


def check_parts(run: PublishedRun, corpus: Corpus | None, tokenizer: Any) -> None:
    """Raise UsageError where a part of a run is missing here, or another one.

    Args:
        run: the run.
        corpus: the text that is here.
        tokenizer: the tokenizer that is here.
    """
    # The name of a corpus is that of its folder, which may be another one here.
    if run.spec.corpus is not None:
        published = dict(run.recipe.get("corpus") or {})
        here = without_local_paths(dict(corpus.metadata if corpus else {}))
        published.pop("name", None)
        here.pop("name", None)
        if published != here:
            raise run.cannot(
                f"the corpus {run.spec.corpus} here is another one "
                f"({differences(published, here)}); --corpus names the place of the right one."
            )

    if run.tokenizer is not None:
        here = tokenizer_metadata(tokenizer) or {}
        for key in ("size", "digest"):
            if run.tokenizer.get(key) != here.get(key):
                raise run.cannot(
                    f"its tokenizer has {key} {run.tokenizer.get(key)}, the one here "
                    f"{here.get(key, 'none')}; --tokenizer_name names the right one."
                )

    files = run.recipe.get("task_files") or {}
    here = task_files(run.spec.task) or {}
    if files != here:
        raise run.cannot(
            f"the file of the task {run.spec.task} is another one here "
            f"({differences(files, here)}); --import names the author's."
        )


def machine_differences(run: PublishedRun, result: Any) -> list[str]:
    """Return what is another one here than where the run was made, a line each.

    Args:
        run: the published run.
        result: the content of pretraining.json of the run that was made here.
    """
    lines = []
    here = versions()
    for name, version in run.versions.items():
        if here.get(name) != version:
            was = redact(str(version))[:80]
            lines.append(f"{redact(str(name))[:80]} was {was}, here it is {here.get(name, 'none')}")
    for name in ("processes", "threads", "device"):
        value = run.machine.get(name)
        if value is not None and result.get(name) != value:
            lines.append(f"{name} was {redact(str(value))[:80]}, here it is {result.get(name)}")
    return lines
