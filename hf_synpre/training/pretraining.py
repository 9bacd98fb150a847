"""A pre-training spec and an architecture -> a folder with the trained model and pretraining.json.

`pretrain` is the whole run. The functions below it are its steps, in the order of their calls.
"""

import hashlib
import json
import logging
import math
import shutil
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
)

from hf_synpre.config import differences, stored_form
from hf_synpre.data.corpora import Corpus, open_corpus
from hf_synpre.errors import UsageError
from hf_synpre.files import held, read_json, write_json, writing
from hf_synpre.initialization import STATISTICS_FILE, ParameterStatistics
from hf_synpre.models.electra import (
    RTDModel,
    save_parts,
)
from hf_synpre.models.families import model_family
from hf_synpre.models.saving import complete_tokenizer, refuse_tokenizer, restore_use_cache
from hf_synpre.models.spec import ModelSpec
from hf_synpre.tasks.imports import task_files
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.callbacks import (
    divergence_warnings,
    evaluation_curve,
)
from hf_synpre.training.checkpoints import (
    delete_work,
    fault,
    last_whole_checkpoint,
    read_manifest,
)
from hf_synpre.training.flops import TrainingCost
from hf_synpre.training.pretraining_data import rows_per_step
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import (
    batches_per_step,
    count_steps,
    fresh_model,
    pretraining_trainer,
)
from hf_synpre.training.trainer import SynpreTrainer
from hf_synpre.versions import versions
from hf_synpre.vocabulary import as_vocabulary

logger = logging.getLogger(__name__)

RESULT_FILE = "pretraining.json"
RECIPE_FILE = "recipe.json"
# What a run makes in its work folder beside checkpoints.
OWN_FILES = (RECIPE_FILE, "model", "runs", ".run.lock")
# What torch.compile puts into the names of parameters.
COMPILED = "_orig_mod."
# Training arguments that a run sets itself. Rows come in their order, so that a resumed run reads
# on where the killed one was; the meter of the training cost is in the checkpoint.
PRETRAINING_ARGUMENTS = {
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "save_total_limit": 2,
    "train_sampling_strategy": "sequential",
    "restore_callback_states_from_checkpoint": True,
}
# Training arguments that may change when a run is resumed: they do not decide the weights.
MACHINE_ARGUMENTS = {
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "ddp_backend",
    "use_cpu",
    "dataloader_num_workers",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "resume_from_checkpoint",
    "report_to",
    "disable_tqdm",
}


class RunResult(TrainingCost):
    """What pretraining.json holds: the cost of the run, all its resumptions included, and these."""

    # How often the run has read its corpus; None where rows have no end.
    epochs: float | None
    # What ended the run: "competence" where it reached the target accuracy, else "budget".
    stopped: str
    # The token accuracy of the last evaluation.
    accuracy: float | None
    # The evaluations; see `evaluation_curve`.
    curve: list[dict[str, Any]]
    # The warnings of `divergence_warnings` about the whole curve.
    alarms: list[str]
    # Tokens and FLOPs of the runs whose weights this one started from.
    before: dict[str, float]
    # What decides the weights: pretraining, rows_a_step, model, tokens; for text also corpus and
    # tokenizer.
    recipe: dict[str, Any]
    # The processes of the run, and the threads that each computes with on a CPU.
    processes: int
    threads: int
    # The versions of Python, of this package and of the libraries.
    versions: dict[str, str]
    # For a run that starts from a checkpoint: how many tensors were loaded from it, missing in it,
    # left over; see `LoadReport.as_json`.
    weights: NotRequired[dict[str, Any]]


def pretrain(
    spec: PretrainingSpec,
    model: ModelSpec,
    folder: Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    tokens: int | None = None,
    corpus: Corpus | None = None,
    start: Path | None = None,
    quiet: bool = True,
) -> RunResult:
    """Pre-train a model into a folder. A run that was killed goes on from its last checkpoint.

    All processes of a launcher call this together.

    Args:
        spec: the rows, the objective and the budget.
        model: the architecture.
        folder: where the model, parameter_statistics.json and pretraining.json go. Until the run is
            finished its work lies beside it, in a hidden folder.
        tokenizer: whose ids the rows have, instead of those of `spec.vocabulary`; it is saved with
            the model. Text needs one.
        tokens: the budget in tokens, end-of-sequence ids included, instead of the spec's.
        corpus: the text, instead of what `spec.corpus` names.
        start: the folder of the finished run that `spec.start` names; its weights are the first.
        quiet: show no progress.

    Returns:
        What pretraining.json holds. Where the folder holds this run already, nothing is done.

    Raises:
        UsageError: rows, weights or training arguments that do not fit each other, or a folder that
            was begun with another recipe.
        FloatingPointError: the loss was not finite.

    Example:
        >>> spec = PretrainingSpec(task="set", vocabulary=128, training={"max_steps": 1000})
        >>> result = pretrain(spec, ModelSpec("t5"), Path("runs/set"))
        >>> result["accuracy"], result["stopped"]
    """
    # Check what only an opened stream or a built architecture shows.
    spec.validate()
    model.validate()
    work = folder.with_name(f".{folder.name}.work")
    args = training_arguments(
        work, {"disable_tqdm": quiet} | spec.training, **PRETRAINING_ARGUMENTS, seed=spec.seed
    )

    # Open the corpus and the vocabulary; divide the rows of a step among its batches.
    if corpus is None and spec.corpus is not None:
        corpus = open_corpus(spec.corpus, text=spec.text)
    vocabulary = as_vocabulary(tokenizer if tokenizer is not None else spec.vocabulary)
    family = model_family(model.config(vocabulary))
    spec.check_options(spec.objective_for(family), is_final=True)
    if spec.batch_size is not None:
        share_rows(rows_per_step(spec, family, vocabulary), args)

    # Gather the recipe, all that decides the weights; return the result of its run if there is one.
    pretraining = stored_form(spec)
    for name in MACHINE_ARGUMENTS & spec.training.keys():
        del pretraining["training"][name]
    recipe = {
        "pretraining": pretraining,
        "rows_a_step": args.per_device_train_batch_size * batches_per_step(args),
        "model": stored_form(model),
        "tokens": tokens,
    }
    if files := task_files(spec.task):
        recipe["task_files"] = files
    if corpus is not None:
        recipe["corpus"] = corpus.metadata
        recipe["tokenizer"] = tokenizer_metadata(tokenizer)
    finished = load_finished_run(folder, work, recipe)
    if finished is not None:
        if args.process_index == 0 and work.is_dir():
            # What a run that was killed at its very end left; another command may be there.
            with suppress(UsageError), held(work / "run"):
                delete_work(work, OWN_FILES)
        return finished

    # Build the model and its Trainer, for as many steps as the budget pays for.
    if start is not None:
        spec = replace(spec, start=str(start))
    network = fresh_model(spec, model, vocabulary)
    args.max_steps = count_steps(spec, args, network, tokens)
    args.eval_steps = spec.training.get("eval_steps", max(1, args.max_steps // spec.evaluations))
    args.save_steps = spec.training.get("save_steps", args.eval_steps)
    trainer = pretraining_trainer(spec, network, vocabulary, args, corpus)
    trainer.run_digest = recipe_digest(recipe)

    # One command at a time works on a folder; its first process holds the lock for all.
    with held(work / "run") if args.process_index == 0 else nullcontext():
        with args.main_process_first(local=False, desc="checkpoints"):
            # Another command may have finished the run while this one built its model.
            finished = load_finished_run(folder, work, recipe)
            checkpoint = None
            if finished is None:
                checkpoint = open_work(work, args, recipe, trainer.run_digest)
        if finished is not None:
            if args.process_index == 0:
                delete_work(work, OWN_FILES)
            return finished

        # Resume from the last checkpoint, and train to the end.
        if not quiet and args.process_index == 0:
            logger.warning(
                "processes: %d, threads of each: %d", args.world_size, torch.get_num_threads()
            )
        trainer.train(resume_from_checkpoint=checkpoint)

        # Write the result: all processes gather the weights, the first one writes them.
        result = run_result(spec, trainer, recipe, start)
        weights = {
            name.replace(COMPILED, ""): tensor
            for name, tensor in trainer.accelerator.get_state_dict(trainer.model_wrapped).items()
        }
        if trainer.is_world_process_zero():
            with writing(folder):
                write_model(trainer, weights, tokenizer, result, work / "model")
                if (work / "runs").exists():  # TensorBoard's event files
                    (work / "runs").rename(work / "model" / "runs")
                (work / "model").rename(folder)
            delete_work(work, OWN_FILES)
        trainer.accelerator.wait_for_everyone()
    return result


def share_rows(rows: int, args: Seq2SeqTrainingArguments) -> None:
    """Set the rows of a batch in `args`, so that a step has `rows`. UsageError: it cannot."""
    batches = batches_per_step(args)
    if rows < 1 or rows % batches:
        raise UsageError(
            f"batch_size makes {rows} rows a step, over {args.world_size} processes x "
            f"{args.gradient_accumulation_steps} accumulated batches; give one that makes a "
            f"multiple of {batches}."
        )
    args.per_device_train_batch_size = rows // batches


def tokenizer_metadata(tokenizer: PreTrainedTokenizerBase | None) -> dict[str, Any] | None:
    """Return what distinguishes a tokenizer: class, size, origin, and a digest of its ids.

    The origin is "stock" for a pre-trained tokenizer; one that this package trained says on what.
    """
    if tokenizer is None:
        return None
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return {
        "class": type(tokenizer).__name__,
        "size": len(tokenizer),
        "origin": tokenizer.init_kwargs.get("origin") or "stock",
        "digest": hashlib.blake2b(vocabulary.encode(), digest_size=8).hexdigest(),
    }


def load_finished_run(folder: Path, work: Path, recipe: dict[str, Any]) -> RunResult | None:
    """Return the result of a finished run, None where the run is still to be made.

    Args:
        folder: where the finished run would be.
        work: the hidden folder of a run that was begun and not finished.
        recipe: the recipe of the run that is asked for.

    Raises:
        UsageError: one of the folders holds a run with another recipe.
    """
    result_file = folder / RESULT_FILE
    as_stored = json.loads(json.dumps(recipe))
    for begun in (result_file, work / RECIPE_FILE):
        if not begun.exists():
            continue
        stored = read_json(begun).get("recipe")
        if stored != as_stored:
            raise UsageError(
                f"{folder} was begun with another recipe ({differences(stored, as_stored)}); "
                f"choose another folder or delete {begun.parent}."
            )
    if not result_file.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is not empty and holds no finished run; choose another.")
        return None

    damage = damaged_weights(folder)
    if damage:
        raise UsageError(
            f"{folder} holds a finished run, but {damage}; choose another folder, or delete this "
            "one, and the same command makes it again."
        )
    return read_json(result_file)


def damaged_weights(folder: Path) -> str | None:
    """Return what is wrong with the weights in the folder of a finished run, None if nothing is."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return "its weights are missing"
    for file in [*files, *folder.glob("generator/*.safetensors")]:
        try:
            with safe_open(file, framework="pt"):
                pass  # its header says how long the file must be
        except SafetensorError as error:
            return f"{file.name} is damaged ({error})"
    return None


def recipe_digest(recipe: dict[str, Any]) -> str:
    """Return a digest of a recipe, by which a checkpoint is known as one of its run."""
    text = json.dumps(recipe, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def open_work(
    work: Path, args: Seq2SeqTrainingArguments, recipe: dict[str, Any], digest: str
) -> str | None:
    """Write the recipe into the work folder; return the checkpoint that the run goes on from.

    All processes call it, the first one before the others.

    Args:
        work: the work folder.
        args: its resume_from_checkpoint may name a checkpoint.
        recipe: all that decides the weights.
        digest: that of the recipe.

    Returns:
        The checkpoint that was named, or the newest that is whole; None where there is none.

    Raises:
        UsageError: the checkpoint that was named is not whole.
    """
    is_first = args.process_index == 0
    if is_first:
        write_json(work / RECIPE_FILE, {"recipe": recipe})
        # A model that a killed run began to write; the event files may have been moved into it.
        if (work / "model" / "runs").exists() and not (work / "runs").exists():
            (work / "model" / "runs").rename(work / "runs")
        shutil.rmtree(work / "model", ignore_errors=True)

    named = args.resume_from_checkpoint
    if isinstance(named, str):
        cause = fault(Path(named))
        if cause is not None:
            raise UsageError(
                f"The run cannot go on from {named}: {cause}; give another checkpoint, or leave "
                "resume_from_checkpoint out."
            )
        return named
    checkpoint = last_whole_checkpoint(work, digest, quiet=not is_first)

    # The random numbers belong to a process.
    manifest = read_manifest(Path(checkpoint)) if checkpoint else None
    if is_first and manifest and manifest["processes"] != args.world_size:
        logger.warning(
            "%s was saved by %d processes and goes on with %d: dropout draws other numbers than "
            "in a run that was not stopped.",
            checkpoint,
            manifest["processes"],
            args.world_size,
        )
    return checkpoint


def run_result(
    spec: PretrainingSpec, trainer: SynpreTrainer, recipe: dict[str, Any], start: Path | None
) -> RunResult:
    """Return what pretraining.json says of a finished run.

    Args:
        spec: its target accuracy says whether the run ended early.
        trainer: the Trainer of the run, at its end.
        recipe: all that decided the weights.
        start: the folder of the run whose weights this one started from.

    Raises:
        FloatingPointError: an evaluation's loss was not finite.
    """
    curve = evaluation_curve(trainer.state.log_history)
    if not all(math.isfinite(point["loss"]) for point in curve):
        raise FloatingPointError("the loss is not finite; give a smaller learning_rate")

    accuracy = curve[-1]["token_accuracy"] if curve else None
    stopped = "budget"
    if accuracy is not None and accuracy >= spec.target_accuracy:
        stopped = "competence"
    epochs = None
    if trainer.epochs_per_step is not None:
        epochs = trainer.state.global_step * trainer.epochs_per_step

    result: RunResult = {
        **trainer.training_cost(),
        "epochs": epochs,
        "stopped": stopped,
        "accuracy": accuracy,
        "curve": curve,
        "alarms": divergence_warnings(curve),
        "before": accumulated_cost(start),
        "recipe": recipe,
        "processes": trainer.args.world_size,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    report = getattr(trainer.model, "load_report", None)
    if report is not None:
        result["weights"] = report.as_json()
    return result


def accumulated_cost(run: Path | None) -> dict[str, float]:
    """Return the tokens and FLOPs of a finished run and of all runs that it started from.

    Args:
        run: the folder of the run; None for no run, which costs nothing.

    Returns:
        "tokens" and "flops"; an empty dict without a run.
    """
    if run is None:
        return {}
    result = read_json(run / RESULT_FILE)
    earlier = result.get("before") or {}
    return {name: result[name] + earlier.get(name, 0) for name in ("tokens", "flops")}


def write_model(
    trainer: SynpreTrainer,
    weights: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
    result: RunResult,
    folder: Path,
) -> None:
    """Write a trained model with its tokenizer, parameter statistics and result into a folder.

    Args:
        trainer: the Trainer of the finished run.
        weights: the model's state dict, gathered from all processes.
        tokenizer: None where the ids are those of a plain vocabulary.
        result: what pretraining.json holds.
        folder: the folder to write, which does not exist yet.
    """
    network = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    restore_use_cache(network)
    served = network
    if isinstance(network, RTDModel):
        save_parts(network, weights, folder)
        served = network.discriminator
    else:
        network.save_pretrained(folder, state_dict=weights)
    if tokenizer is not None:
        complete_tokenizer(tokenizer, served).save_pretrained(folder)
    else:
        refuse_tokenizer(folder)

    pretraining = result["recipe"]["pretraining"]
    statistics = ParameterStatistics.from_pretrained(folder)
    statistics = replace(statistics, source=pretraining["task"] or pretraining["corpus"])
    statistics.save(folder / STATISTICS_FILE)
    write_json(folder / RESULT_FILE, result)
