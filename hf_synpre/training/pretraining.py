"""A pre-training spec and an architecture -> a folder with the trained model and pretraining.json.

`pretrain` is the whole run. The functions below it are its steps, in the order of their calls.
"""

import hashlib
import json
import logging
import math
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
)

from hf_synpre.config import stored_form
from hf_synpre.data.corpora import Corpus, open_corpus
from hf_synpre.errors import UsageError
from hf_synpre.files import held
from hf_synpre.models.electra import RTDModel
from hf_synpre.models.families import model_family
from hf_synpre.models.saving import append_end, complete_tokenizer
from hf_synpre.models.spec import ModelSpec
from hf_synpre.tasks.imports import task_files
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.callbacks import (
    divergence_warnings,
    evaluation_curve,
)
from hf_synpre.training.evaluations import plan_evaluations, warn_of_costly_evaluations
from hf_synpre.training.excess_loss import judge, lowest_loss
from hf_synpre.training.pretraining_data import loss_positions, rows_per_step
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import (
    batches_per_step,
    count_steps,
    fresh_model,
    pretraining_trainer,
)
from hf_synpre.training.resumable_trainer import ResumableTrainer
from hf_synpre.training.run_folder import (
    BUCKETS,
    RECIPE_FILE,
    RunResult,
    begin_or_resume,
    load_finished_run,
    read_result,
    tidy,
    write_finished_run,
)
from hf_synpre.versions import versions
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

logger = logging.getLogger(__name__)

# What torch.compile puts into the names of parameters.
COMPILED = "_orig_mod."
# Training arguments that a run sets itself. Rows come in their order, so that a resumed run reads
# on where the killed one was; the meter of the training cost is in the checkpoint.
PRETRAINING_ARGUMENTS = {
    "eval_strategy": "steps",
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
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "save_on_each_node",
    "resume_from_checkpoint",
    "disable_tqdm",
    *("report_to", "project", "run_name"),
    *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
}


def pretrain(
    spec: PretrainingSpec,
    model: ModelSpec,
    folder: Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    tokens: int | None = None,
    corpus: Corpus | None = None,
    start: Path | None = None,
    keep_checkpoints: int = 1,
    quiet: bool = True,
    title: str = "",
) -> RunResult:
    """Pre-train a model into a folder. A run that was killed goes on from its last checkpoint.

    All processes of a launcher call this together.

    Args:
        spec: the rows, the objective and the budget.
        model: the architecture.
        folder: where checkpoint-STEP folders go, and at the end the model,
            parameter_statistics.json and pretraining.json.
        tokenizer: whose ids the rows have, instead of those of `spec.vocabulary`; it is saved with
            the model. Text needs one.
        tokens: the budget in tokens, end-of-sequence ids included, instead of the spec's.
        corpus: the text, instead of what `spec.corpus` names.
        start: the folder of the finished run that `spec.start` names; its weights are the first.
        keep_checkpoints: how many checkpoints stay in the folder of a finished run, the newest
            ones, where `spec.training` has no save_total_limit.
        quiet: show no progress.
        title: what the warning of a task that was not learnt begins with, as "pre-training set,
            seed 0"; "" for a run that is alone.

    Returns:
        What pretraining.json holds. Where the folder holds this run already, nothing is done.

    Raises:
        UsageError: rows, weights or training arguments that do not fit each other, or a folder that
            was begun with another recipe.
        FloatingPointError: the loss was not finite.

    Examples:
        >>> spec = PretrainingSpec(task="set", vocabulary=128, training={"max_steps": 1000})
        >>> result = pretrain(spec, ModelSpec("t5"), Path("runs/set"))
        >>> result["accuracy"], result["stopped"]
    """
    # Check what only an opened stream or a built architecture shows.
    spec.validate()
    model.validate()
    chosen = {"disable_tqdm": quiet, "save_strategy": "steps"} | spec.training
    args = training_arguments(folder, chosen, **PRETRAINING_ARGUMENTS, seed=spec.seed)
    keep = None if args.save_total_limit else keep_checkpoints

    # Open the corpus and the vocabulary; divide the rows of a step among its batches.
    if corpus is None and spec.corpus is not None:
        corpus = open_corpus(spec.corpus, text=spec.text)
    if tokenizer is not None and spec.is_own("vocabulary"):
        raise UsageError(
            f"vocabulary is {spec.vocabulary} and a tokenizer of {len(tokenizer)} ids was given; "
            "the ids come from one of them, leave the other out."
        )
    vocabulary = as_vocabulary(tokenizer if tokenizer is not None else spec.vocabulary)
    family = model_family(model.config(vocabulary))
    objective = spec.objective_for(family)
    spec.check_options(objective, is_final=True)
    if spec.batch_size is not None:
        share_rows(rows_per_step(spec, family, vocabulary), args)

    # Gather the recipe, all that decides the weights; return the result of its run if there is one.
    recipe: dict[str, Any] = {
        "pretraining": stored_form(spec),
        "rows_a_step": args.per_device_train_batch_size * batches_per_step(args),
        "model": stored_form(model),
        "tokens": tokens,
    }
    for name in MACHINE_ARGUMENTS & spec.training.keys():
        del recipe["pretraining"]["training"][name]
    if spec.batching == "bucketed" and family != "seq2seq" and not spec.has_windows:
        recipe[BUCKETS] = "whole rows"
    if files := task_files(spec.task):
        recipe["task_files"] = files
    if corpus is not None:
        recipe["corpus"] = corpus.metadata
        recipe["tokenizer"] = tokenizer_metadata(tokenizer)
    finished = load_finished_run(folder, recipe)
    if finished is not None:
        if args.process_index == 0 and (folder / RECIPE_FILE).exists():
            # What a run that was killed at its very end left; another command may be there.
            with suppress(UsageError), held(folder / "checkpoints", shown=folder):
                tidy(folder, recipe, keep)
        return finished

    # Build the model and its Trainer, for as many steps as the budget pays for.
    if start is not None:
        spec = replace(spec, start=str(start))
    network = fresh_model(spec, model, vocabulary)
    args.max_steps = count_steps(spec, args, network, tokens)
    spec = plan_evaluations(spec, args)
    args.save_steps = spec.training.get("save_steps", args.eval_steps)
    trainer = pretraining_trainer(spec, network, vocabulary, args, corpus)
    trainer.recipe = recipe
    if tokenizer is not None:
        trainer.tokenizer = tokenizer_to_save(tokenizer, network)

    # One command at a time works on a folder; its first process holds the lock for all.
    with held(folder / "checkpoints", shown=folder) if args.process_index == 0 else nullcontext():
        with args.main_process_first(local=False, desc="checkpoints"):
            # Another command may have finished the run while this one built its model.
            finished = load_finished_run(folder, recipe)
            checkpoint = None
            if finished is None:
                checkpoint = begin_or_resume(folder, args, recipe)
        if finished is not None:
            if args.process_index == 0:
                tidy(folder, recipe, keep)
            return finished

        # Resume from the last checkpoint, and train to the end.
        if args.process_index == 0:
            warn_of_costly_evaluations(spec, args)
            if not quiet:
                threads = torch.get_num_threads()
                logger.warning("processes: %d, threads of each: %d", args.world_size, threads)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

        # Write the result: all processes gather the weights, the first one writes them.
        result = run_result(spec, trainer, recipe, start)
        result["loss_positions"] = loss_positions(spec, objective, vocabulary)
        speaks = trainer.is_world_process_zero()
        add_verdict(result, spec, objective, vocabulary, speaks=speaks, title=title)
        if tokenizer is not None and corpus is None:  # else it is in the recipe
            result["tokenizer"] = tokenizer_metadata(tokenizer)
        weights = {
            name.replace(COMPILED, ""): tensor
            for name, tensor in trainer.accelerator.get_state_dict(trainer.model_wrapped).items()
        }
        if trainer.is_world_process_zero():
            write_finished_run(trainer, weights, result, folder)
            tidy(folder, recipe, keep)
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


def tokenizer_to_save(
    tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel
) -> PreTrainedTokenizerBase:
    """Return the tokenizer that a run saves beside its model: complete, with the end of its rows.

    Args:
        tokenizer: that of the run.
        network: the model that is trained; of a generator and discriminator the latter is saved.
    """
    served = network.discriminator if isinstance(network, RTDModel) else network
    complete = complete_tokenizer(tokenizer, served)
    # Programs that know T5 expect that its tokenizer ends a text, as its rows end.
    if served.config.is_encoder_decoder and tokenizer.num_special_tokens_to_add() == 0:
        append_end(complete)
    return complete


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


def run_result(
    spec: PretrainingSpec, trainer: ResumableTrainer, recipe: dict[str, Any], start: Path | None
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
        "corpus_ids": trainer.corpus_ids,
        "stopped": stopped,
        "accuracy": accuracy,
        "curve": curve,
        "alarms": divergence_warnings(curve),
        "before": accumulated_cost(start),
        "recipe": recipe,
        "processes": trainer.args.world_size,
        "threads": torch.get_num_threads(),
        "device": trainer.args.device.type,
        "accumulation": trainer.args.gradient_accumulation_steps,
        "versions": versions(),
    }
    report = getattr(trainer.model, "load_report", None)
    if report is not None:
        result["weights"] = report.as_json()
    return result


def add_verdict(
    result: RunResult,
    spec: PretrainingSpec,
    objective: str,
    vocabulary: Vocabulary,
    *,
    speaks: bool,
    title: str = "",
) -> None:
    """Add to a result whether the task was learnt, or why that is not judged. Text has no task.

    Args:
        result: of the run; it is changed.
        spec: the run.
        objective: its objective.
        vocabulary: of its rows.
        speaks: this process logs a warning where it was not learnt.
        title: what the warning begins with; see `pretrain`.
    """
    if spec.task is None:
        return
    lowest = lowest_loss(spec, objective, vocabulary)
    if not result["curve"]:
        lowest = "the run had no evaluation"
    if isinstance(lowest, str):
        result["learnt"] = None
        result["not_judged"] = lowest
        return
    loss = result["curve"][-1]["loss"]
    result["bayes_loss"] = lowest.value
    result["excess_loss"] = loss - lowest.value
    result["learnt"] = judge(spec, loss, lowest, vocabulary, speaks=speaks, title=title)


def accumulated_cost(run: Path | None) -> dict[str, float]:
    """Return the tokens and FLOPs of a finished run and of all runs that it started from.

    Args:
        run: the folder of the run; None for no run, which costs nothing.

    Returns:
        "tokens" and "flops"; an empty dict without a run.
    """
    if run is None:
        return {}
    result = read_result(run)
    earlier = result.get("before") or {}
    return {
        "tokens": result["tokens"] + earlier.get("tokens", 0),
        "flops": result["flops"] + earlier.get("flops", 0),
    }
