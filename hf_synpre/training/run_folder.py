"""The folder of a pre-training run: what it may hold, how a run in it begins, goes on and ends.

While a run goes on: recipe.json, checkpoint-STEP folders, TensorBoard's runs/. When it is finished:
the model and its tokenizer, parameter_statistics.json, pretraining.json, and the checkpoints that
stay. Other files in it are left as they are.
"""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NotRequired

import torch
from safetensors import SafetensorError
from transformers import Seq2SeqTrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from hf_synpre.errors import UsageError
from hf_synpre.files import open_safetensors, read_object, temporary_name, write_json, writing
from hf_synpre.initialization import STATISTICS_FILE, Moments, ParameterStatistics
from hf_synpre.models.electra import RTDModel
from hf_synpre.models.verification import say_if_not_whole
from hf_synpre.provenance import tensors_sha256
from hf_synpre.training.checkpoints import (
    by_step,
    delete_oldest,
    delete_unfinished,
    last_whole_checkpoint,
    named_checkpoint,
    read_manifest,
    recipe_differences,
    step_of,
)
from hf_synpre.training.flops import TrainingCost
from hf_synpre.training.resumable_trainer import ResumableTrainer

logger = logging.getLogger(__name__)

RESULT_FILE = "pretraining.json"
RECIPE_FILE = "recipe.json"
# The key in the recipe of a decoder or encoder whose buckets are sorted by the length of the whole
# row. Runs that lack it were begun when rows were sorted by their input first.
BUCKETS = "buckets"
# TensorBoard's event files, where Trainer's callback writes them.
EVENTS_FOLDER = "runs"


class RunResult(TrainingCost):
    """What pretraining.json holds: the cost of the run, all its resumptions included, and these."""

    # How often the run has read its corpus; None where rows have no end, and where the run reads
    # the first ids of a longer corpus, whose length is not known then.
    epochs: float | None
    # How many ids of its corpus the run reads from, the first ones; None without a corpus.
    corpus_ids: int | None
    # What ended the run: "competence" where it reached the target accuracy, else "budget".
    stopped: str
    # The token accuracy of the last evaluation.
    accuracy: float | None
    # The evaluations; see `evaluation_curve`.
    curve: list[dict[str, Any]]
    # The warnings of `divergence_warnings` about the whole curve.
    alarms: list[str]
    # Which positions of the rows carry loss, in words; see `loss_positions`.
    loss_positions: NotRequired[str]
    # On a task whose law is known: the lowest possible loss, and how far the last evaluation is
    # above it, in nats per token.
    bayes_loss: NotRequired[float]
    excess_loss: NotRequired[float]
    # Of a run on a task: whether it was learnt (excess_loss.py); None where that is not judged, and
    # why it is not.
    learnt: NotRequired[bool | None]
    not_judged: NotRequired[str]
    # Tokens and FLOPs of the runs whose weights this one started from.
    before: dict[str, float]
    # What decides the weights: pretraining, rows_a_step, model, tokens; for text also corpus and
    # tokenizer.
    recipe: dict[str, Any]
    # The processes of the run, and the threads that each computes with on a CPU.
    processes: int
    threads: int
    # Where it was trained, as torch calls it: cpu, cuda ...
    device: NotRequired[str]
    # The batches whose gradients were added up for a step, in each process.
    accumulation: NotRequired[int]
    # What distinguishes the tokenizer of a run on a task, if it had one: see `tokenizer_metadata`.
    tokenizer: NotRequired[dict[str, Any] | None]
    # The digest of the weights (`tensors_sha256`), by which `synpre reproduce` knows them again.
    weights_sha256: NotRequired[str]
    # The versions of Python, of this package and of the libraries.
    versions: dict[str, str]
    # For a run that starts from a checkpoint: how many tensors were loaded from it, missing in it,
    # left over; see `LoadReport.as_json`.
    weights: NotRequired[dict[str, Any]]


def load_finished_run(folder: Path, recipe: dict[str, Any]) -> RunResult | None:
    """Return the result of a finished run, None where the run is still to be made.

    Args:
        folder: the folder of the run, which may not exist yet.
        recipe: the recipe of the run that is asked for.

    Raises:
        UsageError: the folder holds a run with another recipe, or something else.
    """
    check_run_folder(folder)
    result_file = folder / RESULT_FILE
    as_stored = json.loads(json.dumps(recipe))
    for begun in (result_file, folder / RECIPE_FILE):
        if not begun.exists():
            continue
        stored = read_object(begun).get("recipe")
        if begun == result_file and isinstance(stored, dict) and BUCKETS not in stored:
            as_stored.pop(BUCKETS, None)  # it was finished with another order of its rows
        if stored != as_stored:
            raise UsageError(
                f"{folder} was begun with another recipe "
                f"({recipe_differences(stored, as_stored)}); "
                "choose another folder or delete it."
            )
    if not result_file.exists():
        return None

    damage = damaged_weights(folder)
    if damage:
        raise UsageError(
            f"{folder} holds a finished run, but {damage}; choose another folder, or delete this "
            "one, and the same command makes it again."
        )
    return read_result(folder)


def read_result(folder: Path) -> RunResult:
    """Return what pretraining.json says of a finished run.

    Raises UsageError where it is not what a run writes: its cost is numbers.
    """
    file = folder / RESULT_FILE
    result = read_object(file)
    before = result.get("before") or {}
    numbers = [result.get("tokens"), result.get("flops")]
    if isinstance(before, dict):
        numbers += before.values()
    if not isinstance(before, dict) or not all(isinstance(n, int | float) for n in numbers):
        raise UsageError(
            f"{file} is not what a pre-training writes: its tokens and flops are no numbers. Make "
            "the run again, or give another checkpoint."
        )
    return result  # type: ignore[return-value]  # the keys that are computed with were checked


def check_run_folder(folder: Path) -> None:
    """Raise UsageError where a folder holds something else than a run of pre-training.

    It may hold checkpoints alone, as where they were copied to another machine.
    """
    if any((folder / name).exists() for name in (RESULT_FILE, RECIPE_FILE)):
        return
    is_taken = folder.exists() and not folder.is_dir()
    if folder.is_dir():
        for entry in folder.iterdir():
            is_part = entry.name == EVENTS_FOLDER or step_of(entry) is not None
            is_taken = is_taken or not (is_part or entry.name.startswith("."))
    if is_taken:
        raise UsageError(
            f"{folder} exists and holds no pre-training that was begun or finished; choose another "
            "folder."
        )


def damaged_weights(folder: Path) -> str | None:
    """Return what is wrong with the weights in the folder of a finished run, None if nothing is."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return "its weights are missing"
    for file in [*files, *folder.glob("generator/*.safetensors")]:
        try:
            with open_safetensors(file):
                pass  # its header says how long the file must be
        except SafetensorError as error:
            return f"{file.name} is damaged ({error})"
    return None


def begin_or_resume(
    folder: Path, args: Seq2SeqTrainingArguments, recipe: dict[str, Any]
) -> Path | None:
    """Write the recipe into the folder of a run; return the checkpoint that the run goes on from.

    All processes call it, the first one before the others.

    Args:
        folder: the folder of the run.
        args: its resume_from_checkpoint may name a checkpoint, or be True where there must be one.
        recipe: all that decides the weights.

    Returns:
        The checkpoint that was named, or the newest that is whole; None where there is none.

    Raises:
        UsageError: the checkpoint that was named is not whole or of another recipe, or there must
            be one and there is none.
    """
    is_first = args.process_index == 0
    named = args.resume_from_checkpoint
    checkpoint: Path | None
    if named is not None and named is not True:
        checkpoint = named_checkpoint(Path(named), recipe)
    else:
        checkpoint = last_whole_checkpoint(folder, recipe, quiet=not is_first)
        # Earlier versions kept checkpoints in a hidden folder beside the run's.
        former = folder.resolve().with_name(f".{folder.resolve().name}.work")
        if checkpoint is None and former.is_dir():
            checkpoint = last_whole_checkpoint(former, recipe, quiet=not is_first)
    if named is True and checkpoint is None:
        raise UsageError(
            f"{folder} has no checkpoint of this run to resume from; give the path of one, or "
            "leave resume_from_checkpoint out, and the run begins."
        )

    if is_first:
        if checkpoint is not None:
            say_where_it_goes_on(checkpoint, args)
        elif (folder / RECIPE_FILE).exists() and not by_step(folder):
            logger.warning("%s was begun and has no checkpoint yet: the run starts anew.", folder)
        write_json(folder / RECIPE_FILE, {"recipe": recipe})
        delete_unfinished(folder)
    return checkpoint


def say_where_it_goes_on(checkpoint: Path, args: Seq2SeqTrainingArguments) -> None:
    """Log the checkpoint and the step that a run goes on from, and what is unusual about them.

    Args:
        checkpoint: the checkpoint, which is whole.
        args: of the run, with its final max_steps.
    """
    step = read_object(checkpoint / TRAINER_STATE_NAME)["global_step"]
    logger.warning(
        "The run goes on from %s, after step %d of %d.", checkpoint, step, args.max_steps
    )
    processes = args.world_size
    manifest = read_manifest(checkpoint)
    if manifest is None:
        logger.warning("Nothing says by which recipe %s was made; it is taken.", checkpoint)
    elif manifest["processes"] != processes:
        # The random numbers belong to a process.
        logger.warning(
            "%s was saved by %d processes and goes on with %d: dropout draws other numbers than "
            "in a run that was not stopped.",
            checkpoint,
            manifest["processes"],
            processes,
        )


def write_finished_run(
    trainer: ResumableTrainer, weights: dict[str, torch.Tensor], result: RunResult, folder: Path
) -> None:
    """Write a trained model with its tokenizer, parameter statistics and result into a folder.

    Each file appears when it is whole, and pretraining.json last: by it the run is finished.

    Args:
        trainer: the Trainer of the finished run.
        weights: the model's state dict, gathered from all processes.
        result: what pretraining.json holds.
        folder: the folder of the run.
    """
    hidden = temporary_name(folder / "model")
    with writing(folder):
        try:
            # Saving takes the weights away.
            pretraining = result["recipe"]["pretraining"]
            source = pretraining["task"] or pretraining["corpus"]
            statistics = ParameterStatistics(source, measured_weights(trainer, weights))
            trainer.save_folder(hidden, weights)
            result["weights_sha256"] = tensors_sha256(hidden)
            statistics.save(hidden / STATISTICS_FILE)

            for entry in sorted(hidden.iterdir()):
                place = folder / entry.name
                if place.is_dir():  # generator/, of a run that was killed here
                    shutil.rmtree(place)
                os.replace(entry, place)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        write_json(folder / RESULT_FILE, result)
    network = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    served = network.discriminator if isinstance(network, RTDModel) else network
    say_if_not_whole(folder, type(served))


def measured_weights(
    trainer: ResumableTrainer, weights: dict[str, torch.Tensor]
) -> dict[str, Moments]:
    """Return the moments of a trained model by the names of its parameters, tied ones once.

    In the files those of some, such as the experts of a layer, are split into several tensors.

    Args:
        trainer: its model's names are read; of a generator and discriminator, the latter's.
        weights: the model's state dict, gathered from all processes.
    """
    network = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    served, prefix = network, ""
    if isinstance(network, RTDModel):
        served, prefix = network.discriminator, "discriminator."
    return {name: Moments.of(weights[prefix + name]) for name, _ in served.named_parameters()}


def tidy(folder: Path, recipe: dict[str, Any], keep: int | None) -> None:
    """Delete what a finished run does not need; hold its lock.

    Args:
        folder: the folder of the run.
        recipe: its recipe; only checkpoints of this recipe are deleted.
        keep: how many checkpoints stay, the newest ones; None for all that the run has kept.
    """
    delete_unfinished(folder)
    if keep is not None:
        delete_oldest(folder, recipe, keep)
    for name in (RECIPE_FILE, ".checkpoints.lock"):
        (folder / name).unlink(missing_ok=True)
