"""Layer 4: one pre-training run: a task or a corpus, a fresh model of any kind, a stop at competence or budget."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel

from hf_synpre.config import stored_form
from hf_synpre.data.collators import RowCollator
from hf_synpre.data.corpora import Corpus, open_corpus
from hf_synpre.data.masking import noise_counts
from hf_synpre.errors import UsageError
from hf_synpre.files import held, read_json, write_json
from hf_synpre.initialization import STATISTICS_FILE, ParameterStatistics, build, tensor_generator
from hf_synpre.models.electra import (
    RTDModel,
    build_rtd,
    evaluation_sums,
    rtd_loss,
    rtd_metrics,
    save_parts,
)
from hf_synpre.models.families import AUTO_CLASSES, longest_input, model_family, uses_token_types
from hf_synpre.models.masked_head import compute_masked_logits_only
from hf_synpre.models.packed_forward import accept_packed_rows
from hf_synpre.models.pretrained_weights import check_ids, take_weights
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.callbacks import (
    Deadline,
    DivergenceChecks,
    StopAtTargetAccuracy,
    divergence_warnings,
    evaluation_curve,
)
from hf_synpre.training.flops import FlopCounter
from hf_synpre.training.pretraining_data import TEXT_TASKS, objective_of, open_source, rows_of
from hf_synpre.training.pretraining_spec import INITIAL_WEIGHTS, PretrainingSpec
from hf_synpre.training.trainer import SynpreTrainer, most_likely, teacher_forced
from hf_synpre.versions import versions
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

RESULT_FILE = "pretraining.json"
RECIPE_FILE = "recipe.json"
PRETRAINING_ARGUMENTS = {
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "save_total_limit": 2,
    "train_sampling_strategy": "sequential",
    "restore_callback_states_from_checkpoint": True,
}
# Training arguments that may differ between the lives of one run.
MACHINE = {
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


def pretrain(
    spec: PretrainingSpec,
    model: ModelSpec,
    folder: Path,
    *,
    tokenizer: Any = None,
    tokens: int | None = None,
    corpus: Corpus | None = None,
    start: Path | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Pre-train into `folder`: weights, parameter_statistics.json, pretraining.json; a killed run goes on where it was.

    Runs in every process of a launcher. `tokens` (end-of-sequence included) replaces the budget in steps; `tokenizer`
    the ids of `spec.vocabulary`; `corpus` and `start` what the spec's names stand for. Returns the facts of the run.
    """
    model.validate()
    work = folder.with_name(f".{folder.name}.work")
    if corpus is None and spec.corpus is not None:
        corpus = open_corpus(spec.corpus, text=spec.text)
    args = training_arguments(
        work, spec.training | {"disable_tqdm": quiet}, **PRETRAINING_ARGUMENTS, seed=spec.seed
    )
    vocabulary = as_vocabulary(tokenizer if tokenizer is not None else spec.vocabulary)
    if spec.batch_size is not None:
        share_rows(rows_of(spec, model_family(model.config(vocabulary)), vocabulary), args)
    recipe = recipe_of(spec, args) | {"model": stored_form(model), "tokens": tokens}
    recipe |= {"corpus": corpus.metadata, "tokenizer": tokenizer_facts(tokenizer)} if corpus else {}
    if done := already(folder, work, recipe):
        return done
    spec = replace(spec, start=str(start)) if start else spec
    args.max_steps = steps = steps_of(
        spec, args, tokens, lambda: fresh_model(spec, model, vocabulary)
    )
    args.eval_steps = spec.training.get("eval_steps", max(1, steps // spec.evaluations))
    args.save_steps = spec.training.get("save_steps", args.eval_steps)
    trainer = pretraining_trainer(spec, model, vocabulary, args, corpus)
    with held(work / "run") if args.process_index == 0 else nullcontext():
        with args.main_process_first(local=False, desc="checkpoints"):
            write_json(work / RECIPE_FILE, {"recipe": recipe})
            given = args.resume_from_checkpoint
            checkpoint = given if isinstance(given, str) else last_whole_checkpoint(work)
        go_on(trainer, checkpoint)
        facts = run_facts(spec, trainer) | {
            "before": spent_before(start),
            "recipe": recipe,
            "versions": versions(),
        }
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            finish(trainer, weights, facts, folder, work, tokenizer)
        trainer.accelerator.wait_for_everyone()
    return facts


def go_on(trainer: SynpreTrainer, checkpoint: str | None) -> None:
    """Train to the end of the budget, from a checkpoint if there is one. Raises UsageError where that is broken."""
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except SafetensorError as error:
        raise UsageError(
            f"{checkpoint} cannot be read ({error}); delete it, and the run goes on from what is before."
        ) from None


def recipe_of(spec: PretrainingSpec, args: Any) -> dict[str, Any]:
    """Return what decides the weights: the spec without what a machine decides, and the rows of a step."""
    given = stored_form(spec)
    given["training"] = {
        name: value for name, value in spec.training.items() if name not in MACHINE
    }
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {"pretraining": given, "rows_a_step": rows}


def already(folder: Path, work: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Return the facts of a finished run, None where it is to be made. Raises UsageError where a folder holds another."""
    for begun in (folder / RESULT_FILE, work / RECIPE_FILE):
        if begun.exists() and read_json(begun).get("recipe") != json.loads(json.dumps(recipe)):
            raise UsageError(
                f"{folder} was begun with another recipe ({begun}); choose another folder or delete it."
            )
    return read_json(folder / RESULT_FILE) if (folder / RESULT_FILE).exists() else None


def spent_before(start: Path | None) -> dict[str, float]:
    """Return the tokens and FLOPs of a finished run and of those that it went on from; {} without one."""
    if start is None:
        return {}
    facts = read_json(start / RESULT_FILE)
    return {
        name: facts[name] + (facts.get("before") or {}).get(name, 0) for name in ("tokens", "flops")
    }


def tokenizer_facts(tokenizer: Any) -> dict[str, Any] | None:
    """Return what names a tokenizer: class, size, where it is from ("strict" ones say so), and a digest of its ids."""
    if tokenizer is None:
        return None
    words = json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    origin = tokenizer.init_kwargs.get("origin") or "stock"
    digest = hashlib.blake2b(words, digest_size=8).hexdigest()
    return {
        "class": type(tokenizer).__name__,
        "size": len(tokenizer),
        "origin": origin,
        "digest": digest,
    }


def share_rows(rows: int, args: Any) -> None:
    """Give each process and accumulated batch its share of a step's rows. Raises UsageError where the shares are unequal."""
    shares = args.world_size * args.gradient_accumulation_steps
    if rows < 1 or rows % shares:
        raise UsageError(
            f"batch_size makes {rows} rows a step, over {args.world_size} processes x {args.gradient_accumulation_steps} "
            f"accumulated batches; give one that makes a multiple of {shares}."
        )
    args.per_device_train_batch_size = rows // shares


def steps_of(
    spec: PretrainingSpec, args: Any, tokens: int | None, fresh: Callable[[], PreTrainedModel]
) -> int:
    """Return the number of steps: as many as `tokens` or the spec's budget pay for; `fresh` makes the model."""
    rows, tokens = (
        args.world_size * args.gradient_accumulation_steps * args.train_batch_size,
        tokens or spec.budget_tokens,
    )
    if tokens is not None:
        steps = math.ceil(tokens / (rows * row_tokens(spec, fresh)))
    elif spec.budget_flops is not None:
        steps = math.ceil(spec.budget_flops / step_flops(spec, fresh(), rows))
    else:
        return args.max_steps
    if spec.match_tokens_of is None and (warmup := args.get_warmup_steps(steps)) >= steps:
        raise UsageError(
            f"The budget pays for {steps} steps, warmup_steps is {warmup}; give training.warmup_steps (below 1: a share)."
        )
    return steps


def step_flops(spec: PretrainingSpec, model: PreTrainedModel, rows: int) -> float:
    """Return the FLOPs of a step of `rows` windows of text, as the run itself will count them; the model is changed."""
    noise, spans = noise_counts(spec.window)
    if model.config.is_encoder_decoder:  # sides are padded to multiples of 8
        return FlopCounter(model)(
            rows, *(-(-n // 8) * 8 for n in (spec.window - noise + spans + 1, noise + spans + 1))
        )
    if not isinstance(model, RTDModel) and model_family(model.config) == "mlm":
        compute_masked_logits_only(model)
    return FlopCounter(model)(rows, spec.window, noise)


def row_tokens(spec: PretrainingSpec, fresh: Callable[[], PreTrainedModel]) -> int:
    """Return the tokens of a row: a window's; span corruption has sentinels on both sides and two ends besides."""
    two = fresh().config.is_encoder_decoder
    return spec.window + (2 * noise_counts(spec.window)[1] + 2 if two else 0)


def pretraining_trainer(
    spec: PretrainingSpec,
    model: ModelSpec,
    vocabulary: Vocabulary,
    args: Any,
    corpus: Corpus | None = None,
) -> SynpreTrainer:
    """Return the Trainer of a run over a freshly initialised model."""
    fresh = fresh_model(spec, model, vocabulary)
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    config = part_config(fresh.config)
    rtd = isinstance(fresh, RTDModel)
    if spec.pairs and not uses_token_types(config):
        raise UsageError(
            f"pairs makes rows of two segments, of which {type(config).__name__} knows none; leave pairs out."
        )
    source = open_source(
        spec,
        model_family(config),
        vocabulary,
        rows=args.max_steps * batch,
        batch=batch,
        longest=longest_input(fresh.discriminator if rtd else fresh),
        corpus=corpus,
        compact=rtd or (model_family(config) == "mlm" and compute_masked_logits_only(fresh)),
    )
    if source.packed:
        accept_packed_rows(fresh)
    watches = (
        StopAtTargetAccuracy(spec.target_accuracy),
        DivergenceChecks(),
        *([Deadline(spec.budget_seconds)] if spec.budget_seconds else ()),
    )
    judges = {
        "loss": rtd_loss,
        "compute_metrics": rtd_metrics,
        "preprocess_logits_for_metrics": evaluation_sums,
    }
    try:
        trainer = SynpreTrainer(
            fresh,
            args,
            schedule=spec.schedule,
            bias_correction=spec.bias_correction,
            callbacks=watches,
            train_dataset=source.train,
            eval_dataset=source.validation,
            data_collator=RowCollator(vocabulary.pad, vocabulary.pad, alone=not source.packed),
            **judges
            if rtd
            else {"compute_metrics": teacher_forced, "preprocess_logits_for_metrics": most_likely},
        )
    except Exception as error:  # whatever the model or transformers has against these arguments
        cause = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{type(fresh).__name__} cannot be trained with these arguments: {cause}"
        ) from None
    trainer.epochs_a_step = batch / source.epoch_rows if source.epoch_rows else None
    return trainer


def part_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the config that says what kind of model this is: of a pair, the discriminator's."""
    return config.part("discriminator") if hasattr(config, "part") else config


def fresh_model(spec: PretrainingSpec, model: ModelSpec, vocabulary: Vocabulary) -> PreTrainedModel:
    """Return the model of a run before its first step: fresh, or with the weights that it starts from."""
    config = model.config(vocabulary)
    kind = model_family(config)
    if (
        objective_of(kind, spec.objective, spec.corpus is not None or spec.task in TEXT_TASKS)
        == "rtd"
    ):
        fresh = build_rtd(config, spec.seed, spec.generator_fraction)
        parts = {
            "discriminator": spec.start,
            "generator": spec.start and generator_folder(spec.start),
        }
    else:
        fresh = build(AUTO_CLASSES[kind], config, {}, spec.seed)
        parts = {None: spec.start}
    if redraw := INITIAL_WEIGHTS[spec.initial_weights]:
        redraw(fresh, tensor_generator(spec.seed, spec.initial_weights))
    if (
        spec.start is not None
        and spec.start_embeddings == "kept"
        and vocabulary.tokenizer is not None
    ):
        check_ids(spec.start, vocabulary.tokenizer)
    for name, source in parts.items():
        if source is not None:
            take_weights(
                getattr(fresh, name) if name else fresh, source, spec.start_embeddings, head=True
            )
    return fresh


def generator_folder(start: str) -> str | None:
    """Return the folder of the generator that a run has left beside its discriminator, None where there is none."""
    folder = Path(start) / "generator"
    return str(folder) if folder.is_dir() else None


def finish(
    trainer: SynpreTrainer,
    weights: dict,
    facts: dict[str, Any],
    folder: Path,
    work: Path,
    tokenizer: Any,
) -> None:
    """Write the finished run beside its folder, then move it there whole."""
    made = work / "model"
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    if isinstance(model, RTDModel):
        save_parts(model, weights, made)
    else:
        model.save_pretrained(made, state_dict=weights)
    if tokenizer is not None:
        tokenizer.save_pretrained(made)
    statistics = ParameterStatistics.from_pretrained(made)
    source = facts["recipe"]["pretraining"]
    replace(statistics, source=source["task"] or source["corpus"]).save(made / STATISTICS_FILE)
    write_json(made / RESULT_FILE, facts)
    made.rename(folder)
    shutil.rmtree(work)


def run_facts(spec: PretrainingSpec, trainer: SynpreTrainer) -> dict[str, Any]:
    """Return what a finished run spent and reached, its curve of evaluations, and what was wrong with it if anything."""
    curve = evaluation_curve(trainer.state.log_history)
    if not all(math.isfinite(point["loss"]) for point in curve):
        raise FloatingPointError("the loss is not finite; give a smaller learning_rate")
    reached = curve[-1]["token_accuracy"] if curve else None
    stopped = "competence" if reached is not None and reached >= spec.target_accuracy else "budget"
    epochs = trainer.epochs_a_step and trainer.state.global_step * trainer.epochs_a_step
    facts = {
        **trainer.training_cost(),
        "epochs": epochs,
        "stopped": stopped,
        "accuracy": reached,
        "curve": curve,
    }
    return facts | {"alarms": divergence_warnings(curve)}


def last_whole_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that was written to its end (trainer_state.json comes last), or None."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[1])):
        try:
            read_json(checkpoint / "trainer_state.json")
            return str(checkpoint)
        except UsageError:
            shutil.rmtree(checkpoint)
    return None
