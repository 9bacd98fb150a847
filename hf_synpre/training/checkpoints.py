"""The checkpoints of a run: marked as its own, checked before it goes on, deleted in their order.

A checkpoint that is begun gets a manifest at once, so that it is known as ours. When it is whole,
the manifest gets the size and digest of every file. Folders without a manifest are never changed:
somebody else made them, or an older version of this package.
"""

import logging
import re
import shutil
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from hf_synpre.errors import UsageError
from hf_synpre.files import content_digest, read_json, write_json

logger = logging.getLogger(__name__)

MANIFEST_FILE = "checkpoint.json"
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


def is_ours(checkpoint: Path) -> bool:
    """Say whether this package began a checkpoint, whole or not."""
    return (checkpoint / MANIFEST_FILE).is_file() and not checkpoint.is_symlink()


def begin(checkpoint: Path) -> None:
    """Make the folder of a checkpoint, and mark it as ours; what a killed run left is deleted.

    A file or folder of the same name that is not ours is left as it is, and said.
    """
    if is_ours(checkpoint):
        shutil.rmtree(checkpoint)
    if checkpoint.exists() or checkpoint.is_symlink():
        logger.warning(
            "%s was not made by this run and is left as it is; this step is not saved.", checkpoint
        )
        return
    checkpoint.mkdir(parents=True)
    write_json(checkpoint / MANIFEST_FILE, {"files": None})


def seal(checkpoint: Path, run: str, processes: int) -> None:
    """Write the manifest of a whole checkpoint: the size and digest of every file.

    Args:
        checkpoint: the folder, which `begin` has made.
        run: what distinguishes the run (`SynpreTrainer.run_digest`).
        processes: how many processes trained; each has a file with its random numbers.
    """
    files = {}
    for file in sorted(checkpoint.rglob("*")):
        if file.is_file() and file.name != MANIFEST_FILE:
            name = str(file.relative_to(checkpoint))
            files[name] = [file.stat().st_size, content_digest(file)]
    write_json(checkpoint / MANIFEST_FILE, {"run": run, "processes": processes, "files": files})


def delete_oldest(folder: Path, keep: int, spared: Collection[str] = ()) -> None:
    """Delete the oldest checkpoints of a run, by their steps; the clock does not matter.

    Args:
        folder: the folder of the checkpoints. Only those that this package made count.
        keep: how many stay.
        spared: the names of checkpoints that stay in any case.
    """
    for checkpoint in [entry for entry in by_step(folder) if is_ours(entry)][keep:]:
        if checkpoint.name not in spared:
            shutil.rmtree(checkpoint)


def read_manifest(checkpoint: Path) -> dict[str, Any] | None:
    """Return the manifest of a sealed checkpoint; None where it has none or is not sealed."""
    try:
        manifest = read_json(checkpoint / MANIFEST_FILE)
    except UsageError:
        return None
    is_sealed = isinstance(manifest, dict) and isinstance(manifest.get("files"), dict)
    return manifest if is_sealed else None


def fault(checkpoint: Path, run: str | None = None) -> str | None:
    """Return why a run cannot go on from a checkpoint, None where it can.

    Args:
        checkpoint: the folder. One that another version or another Trainer made has no manifest:
            then each file is read, to see whether it has an end.
        run: what distinguishes the run (`SynpreTrainer.run_digest`); None for any run.
    """
    for what, patterns in NEEDED.items():
        if not any(next(checkpoint.glob(pattern), None) for pattern in patterns):
            return f"{patterns[0]} is missing, the {what}"
    of_processes = {file.name for file in checkpoint.glob("rng_state_*.pth")}
    for number in range(len(of_processes)):
        if f"rng_state_{number}.pth" not in of_processes:
            return f"rng_state_{number}.pth is missing, the random numbers of a process"

    if not is_ours(checkpoint):
        return _unreadable_file(checkpoint)
    manifest = read_manifest(checkpoint)
    if manifest is None:
        return "it was not written to its end"
    if run is not None and manifest.get("run") != run:
        return "it is of another run"
    for name, stored in manifest["files"].items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if [file.stat().st_size, content_digest(file)] != stored:
            return f"{name} is not as it was written"
    return None


def _unreadable_file(checkpoint: Path) -> str | None:
    """Return which file of a checkpoint without a manifest is broken, None where none is."""
    try:
        state = read_json(checkpoint / "trainer_state.json")
    except UsageError:
        return "trainer_state.json is broken"
    if not isinstance(state, dict) or state.get("global_step") != step_of(checkpoint):
        return "trainer_state.json is of another step"

    for file in sorted(checkpoint.iterdir()):
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt"):
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


def last_whole_checkpoint(folder: Path, run: str | None = None, quiet: bool = False) -> str | None:
    """Return the newest checkpoint from which a run can go on, None where there is none.

    Args:
        folder: the folder of the checkpoints. What is in it is never deleted.
        run: what distinguishes the run (`SynpreTrainer.run_digest`); None for any run.
        quiet: say nothing about the checkpoints that are passed over.
    """
    passed_over = []
    whole = None
    for checkpoint in by_step(folder):
        cause = fault(checkpoint, run)
        if cause is None:
            whole = checkpoint
            break
        passed_over.append(f"{checkpoint.name} is not used: {cause}")
    if passed_over and not quiet:
        begin_at = f"The run goes on from {whole.name}." if whole else "The run starts anew."
        logger.warning("%s. %s", "; ".join(passed_over), begin_at)
    return str(whole) if whole else None


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


def delete_work(folder: Path, own: Collection[str]) -> None:
    """Delete the work folder of a finished run, but nothing that the run did not make.

    Args:
        folder: the work folder; where something else is in it, it is left and that is said.
        own: the names of the files and folders that the run made beside its checkpoints.
    """
    if not folder.is_dir():
        return
    for entry in list(folder.iterdir()):
        is_checkpoint = step_of(entry) is not None and is_ours(entry)
        if entry.is_symlink() or not (is_checkpoint or entry.name in own):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()

    left = sorted(entry.name for entry in folder.iterdir())
    if left:
        logger.warning("%s stays: this run did not make %s.", folder, ", ".join(left))
    else:
        folder.rmdir()
