"""The checkpoints of a run: folders checkpoint-STEP in its output folder, beside others' files.

A checkpoint is written under a hidden name and gets its real one when it is whole. Its manifest has
the recipe of the run, and the size and digest of every file. Folders without the manifest of a run
are never changed by it: somebody else made them.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_synpre.config import differences
from hf_synpre.errors import UsageError
from hf_synpre.files import content_digest, open_safetensors, read_json, write_json

logger = logging.getLogger(__name__)

MANIFEST_FILE = "checkpoint.json"
# What a killed run was writing: a checkpoint, or the finished model.
UNFINISHED = re.compile(r"\.(checkpoint-[0-9]+|model)\.[0-9a-f]{8}\.partial")
# What a run needs to go on as if it had not been killed -> the names of the files, one of which a
# checkpoint must have. Those of DeepSpeed lie in folders global_step*, those of FSDP in optimizer*.
NEEDED = {
    "weights of the model": ("model*.safetensors", "pytorch_model*", "global_step*"),
    "optimizer": ("optimizer*", "global_step*"),
    "schedule of the learning rate": ("scheduler.pt", "global_step*"),
    "state of the random numbers": ("rng_state*.pth",),
    "number of the step": ("trainer_state.json",),
}


def step_of(checkpoint: Path) -> int | None:
    """Return the step of a folder named checkpoint-STEP, None for any other file or folder."""
    name = re.fullmatch(r"checkpoint-([0-9]+)", checkpoint.name)
    return int(name[1]) if name and checkpoint.is_dir() else None


def by_step(folder: Path) -> list[Path]:
    """Return the folders named checkpoint-STEP in a folder, the newest step first."""
    if not folder.is_dir():
        return []
    checkpoints = [entry for entry in folder.iterdir() if step_of(entry) is not None]
    return sorted(checkpoints, key=lambda checkpoint: step_of(checkpoint) or 0, reverse=True)


def recipe_digest(recipe: dict[str, Any]) -> str:
    """Return a digest of a recipe, by which a checkpoint is known as one of its run."""
    text = json.dumps(recipe, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_ours(checkpoint: Path, recipe: dict[str, Any]) -> bool:
    """Say whether a run with this recipe made a checkpoint."""
    if checkpoint.is_symlink():
        return False
    manifest = read_manifest(checkpoint)
    return manifest is not None and manifest.get("run") == recipe_digest(recipe)


def may_be_written(checkpoint: Path, recipe: dict[str, Any]) -> bool:
    """Say whether a checkpoint may get its name: nothing has it, or an earlier one of this run.

    Where somebody else's file or folder has it, that is logged.
    """
    is_taken = checkpoint.exists() or checkpoint.is_symlink()
    if is_taken and not is_ours(checkpoint, recipe):
        logger.warning(
            "%s was not made by this run and is left as it is; this step is not saved.", checkpoint
        )
        return False
    return True


def publish(written: Path, checkpoint: Path, recipe: dict[str, Any], processes: int) -> None:
    """Write the manifest of a checkpoint that has all its files, and give it its real name.

    Args:
        written: the folder, under its hidden name.
        checkpoint: the folder that it becomes; an earlier one of this run is replaced.
        recipe: all that decides the weights of the run.
        processes: how many processes trained; each has a file with its random numbers.
    """
    files = {}
    for file in sorted(written.rglob("*")):
        if file.is_file():
            name = str(file.relative_to(written))
            files[name] = [file.stat().st_size, content_digest(file)]
    manifest = {"run": recipe_digest(recipe), "processes": processes, "files": files}
    write_json(written / MANIFEST_FILE, manifest | {"recipe": recipe})

    if checkpoint.is_dir():  # of this run: `may_be_written` has looked
        shutil.rmtree(checkpoint)
    os.replace(written, checkpoint)


def delete_oldest(
    folder: Path, recipe: dict[str, Any], keep: int, spared: Collection[str] = ()
) -> None:
    """Delete the oldest checkpoints of a run, by their steps; the clock does not matter.

    Args:
        folder: the folder of the checkpoints.
        recipe: that of the run; checkpoints of others neither count nor go.
        keep: how many stay.
        spared: the names of checkpoints that stay in any case.
    """
    for checkpoint in [entry for entry in by_step(folder) if is_ours(entry, recipe)][keep:]:
        if checkpoint.name not in spared:
            shutil.rmtree(checkpoint)


def delete_unfinished(folder: Path) -> None:
    """Delete what killed runs were writing in a folder; hold its lock."""
    for entry in folder.iterdir():
        if UNFINISHED.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)


def read_manifest(checkpoint: Path) -> dict[str, Any] | None:
    """Return the manifest of a checkpoint; None where it has none that this package wrote."""
    try:
        manifest = read_json(checkpoint / MANIFEST_FILE)
    except UsageError:
        return None
    is_whole = isinstance(manifest, dict) and isinstance(manifest.get("files"), dict)
    return manifest if is_whole else None


def fault(checkpoint: Path, recipe: dict[str, Any] | None = None) -> str | None:
    """Return why a run cannot go on from a checkpoint, None where it can.

    Args:
        checkpoint: the folder. One that another Trainer made has no manifest: then each file is
            read, to see whether it has an end.
        recipe: that of the run; None for any run.
    """
    for what, patterns in NEEDED.items():
        if not any(next(checkpoint.glob(pattern), None) for pattern in patterns):
            return f"{patterns[0]} is missing, the {what}"
    of_processes = {file.name for file in checkpoint.glob("rng_state_*.pth")}
    for number in range(len(of_processes)):
        if f"rng_state_{number}.pth" not in of_processes:
            return f"rng_state_{number}.pth is missing, the random numbers of a process"

    manifest = read_manifest(checkpoint)
    if manifest is None:
        if (checkpoint / MANIFEST_FILE).exists():
            return f"{MANIFEST_FILE} is broken"
        return _unreadable_file(checkpoint)
    if recipe is not None and manifest.get("run") != recipe_digest(recipe):
        if "recipe" not in manifest:  # of a version that did not write it
            return "it is of another run"
        as_stored = json.loads(json.dumps(recipe))
        return f"it has another recipe ({recipe_differences(manifest['recipe'], as_stored)})"
    for name, stored in manifest["files"].items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if [file.stat().st_size, content_digest(file)] != stored:
            return f"{name} is not as it was written"
    return None


def recipe_differences(stored: Any, wanted: dict[str, Any]) -> str:
    """Return in which options two recipes of runs differ, or that the text has changed.

    Args:
        stored: the one that the run was begun with, as JSON holds it.
        wanted: the one that is asked for now, in the same form.
    """
    if not isinstance(stored, dict) or stored.get("pretraining") != wanted["pretraining"]:
        return differences(stored, wanted)
    before, now = stored.get("corpus"), wanted.get("corpus")
    if before is None or now is None or before == now:
        return differences(stored, wanted)

    # What is measured of a text or trained on it has changed with it.
    follows: dict[str, None] = {"corpus": None}
    if (wanted.get("tokenizer") or {}).get("origin") != "stock":
        follows["tokenizer"] = None
    changed = f"the text of {now['name']} is no longer that which the run was begun with"
    others = differences(stored | follows, wanted | follows)
    return f"{changed}; {others}" if others else changed


def _unreadable_file(checkpoint: Path) -> str | None:
    """Return which file of a checkpoint without a manifest is broken, None where none is."""
    try:
        state = read_json(checkpoint / "trainer_state.json")
    except UsageError:
        return "trainer_state.json is broken"
    step = state.get("global_step") if isinstance(state, dict) else None
    if step is None or step_of(checkpoint) not in (step, None):  # a copy may have any name
        return "trainer_state.json is of another step"

    for file in sorted(checkpoint.iterdir()):
        try:
            if file.suffix == ".safetensors":
                with open_safetensors(file):
                    pass  # its header says how long the file must be
            elif file.suffix in (".pt", ".pth"):  # torch's files are zip files with checksums
                with zipfile.ZipFile(file) as archive:
                    if archive.testzip() is not None:
                        return f"{file.name} is broken"
        except OSError:
            raise
        except Exception:  # whatever zipfile and safetensors raise on arbitrary bytes
            return f"{file.name} is broken"
    return None


def last_whole_checkpoint(
    folder: Path, recipe: dict[str, Any] | None = None, quiet: bool = False
) -> Path | None:
    """Return the newest checkpoint from which a run can go on, None where there is none.

    Args:
        folder: the folder of the checkpoints. What is in it is never deleted.
        recipe: that of the run, which the checkpoint must have in its manifest; None for any.
        quiet: say nothing about the checkpoints that are passed over.
    """
    passed_over = []
    whole = None
    for checkpoint in by_step(folder):
        cause = fault(checkpoint, recipe)
        if cause is None and recipe is not None and read_manifest(checkpoint) is None:
            cause = "nothing says by which recipe it was made (resume_from_checkpoint may name it)"
        if cause is None:
            whole = checkpoint
            break
        passed_over.append(f"{checkpoint.name} is not used: {cause}")
    if passed_over and not quiet:
        begin_at = f"The run goes on from {whole.name}." if whole else "The run starts anew."
        logger.warning("%s. %s", "; ".join(passed_over), begin_at)
    return whole


def named_checkpoint(checkpoint: Path, recipe: dict[str, Any]) -> Path:
    """Return the checkpoint that a run is told to go on from, once it is known to be whole.

    Raises:
        UsageError: it is not whole, or of a run with another recipe.
    """
    cause = fault(checkpoint, recipe)
    if cause is not None:
        remedy = "give another checkpoint, or leave resume_from_checkpoint out"
        if inner := [entry.name for entry in by_step(checkpoint)]:
            remedy = f"give one of the checkpoints in it: {', '.join(inner)}"
        raise UsageError(f"The run cannot go on from {checkpoint}: {cause}; {remedy}.")
    return checkpoint


@contextmanager
def loading(checkpoint: str | Path | None) -> Iterator[None]:
    """Say in one line where the block cannot load a checkpoint that looked whole."""
    try:
        yield
    except (OSError, UsageError):
        raise
    except Exception as error:  # whatever torch raises on the files of another run
        cause = " ".join(str(error).split())[:200]
        raise UsageError(
            f"The run cannot go on from {checkpoint} ({cause}); move that folder away, and the "
            "same command goes on from the checkpoint before it."
        ) from error
