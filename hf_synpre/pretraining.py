"""Layer 4: one pre-training run: a task or a corpus, a fresh model of any kind, a stop at competence or budget."""

import json
import math
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_synpre.collators import RowCollator
from hf_synpre.corpus import noise_counts
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import read_json, write_json
from hf_synpre.initialization import STATISTICS_FILE, ParameterStatistics, build, skeleton, tensor_generator
from hf_synpre.modeling import AUTO_CLASSES, accept_rows, kind_of, longest_input, t5x_weights
from hf_synpre.sources import check_source, open_source, rows_of
from hf_synpre.training import (
    SCHEDULES,
    CompetenceStop,
    SynpreTrainer,
    check_training,
    most_likely,
    teacher_forced,
    training_arguments,
)
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


@dataclass
class ModelSpec:
    """An architecture: `model_type` of transformers or `config_name` (folder or Hub id), fields changed by `overrides`.

    `attention` is transformers' attn_implementation ("eager", "sdpa"). None leaves the choice to it on a GPU and takes
    eager on a CPU, where sdpa's backward pass is slower (benchmarks/pretraining.py).
    """

    model_type: str = "t5"
    config_name: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    attention: str | None = None

    def __post_init__(self) -> None:
        config = self.config(Vocabulary.plain(64))
        try:
            skeleton(AUTO_CLASSES[kind_of(config)], config)
        except UsageError:
            raise
        except Exception as error:  # whatever the architecture raises on its own fields
            raise UsageError(
                f"The architecture with {self.overrides} cannot be built: {' '.join(str(error).split())}"
            ) from None

    def config(self, vocabulary: Vocabulary) -> PreTrainedConfig:
        """Return the config with this vocabulary's size and control ids. Raises UsageError on unknown fields."""
        try:
            config = AutoConfig.from_pretrained(self.config_name) if self.config_name else self._default()
        except UsageError:
            raise
        except (OSError, ValueError) as error:
            raise UsageError(f"config_name '{self.config_name}' cannot be read: {' '.join(str(error).split())}") from None
        for name, value in self.overrides.items():
            set_field(config, name, value)
        if not self.config_name:  # anew, for fields that follow from others
            config = self._default(**self.overrides)
        config.vocab_size = vocabulary.size
        for name, value in vars(config).copy().items():
            if name.endswith("_token_id") and isinstance(value, int) and value >= vocabulary.size:
                setattr(config, name, vocabulary.eos)  # the architecture's defaults are ids of another vocabulary
        config.pad_token_id, config.eos_token_id = vocabulary.pad, vocabulary.eos
        check_config(config)
        attention = self.attention or (None if torch.cuda.is_available() else "eager")
        if attention:
            config._attn_implementation = choose("attention", attention, ("eager", "sdpa"))
        if config.is_encoder_decoder:
            config.decoder_start_token_id = vocabulary.pad
        return config

    def _default(self, **fields: Any) -> PreTrainedConfig:
        return CONFIG_MAPPING[choose("model_type", self.model_type, CONFIG_MAPPING)](**fields)


def check_config(config: PreTrainedConfig) -> None:
    """Raise UsageError where the fields of a config contradict each other, as it would when it is saved."""
    try:
        config.validate()
    except Exception as error:  # the config's own validation
        raise UsageError(f"{type(config).__name__} refuses its fields: {' '.join(str(error).split())}") from None


def set_field(config: PreTrainedConfig, name: str, value: Any) -> None:
    """Set one field of a config. Raises UsageError on a name it has not, or a value it cannot have."""
    choose(f"field of {type(config).__name__}", name, set(config.to_dict()) | set(vars(config)) | set(config.attribute_map))
    if name == "vocab_size":
        raise UsageError("The field vocab_size follows from the vocabulary; leave it out.")
    if isinstance(value, int) and not isinstance(value, bool) and value < 1 and not name.endswith("_id"):
        raise UsageError(f"The field {name} is {value}; give an integer >= 1.")
    try:
        setattr(config, name, value)
    except Exception as error:  # the config's own validation
        raise UsageError(f"The field {name} is {value!r}: {' '.join(str(error).split())}") from None


# What the papers did (spec, section 3) and what reaches their 99 % soonest (benchmarks/recipe.py; examples/LOG.md).
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "batching": "padded",
        "batch_size": 128,
        "schedule": "rsqrt",
        "initial_weights": "t5x",
        "evaluations": 16,
        "validation_examples": 2560,
        "competence": 0.99,
        "training": {"max_steps": 80_000, "optim": "adafactor", "learning_rate": 1.0},
    },
    "fast": {
        "batching": "packed",
        "batch_size": 64,
        "evaluations": 80,
        "competence": 0.99,
        "training": {
            "max_steps": 8000,
            "optim": "adafactor",
            "learning_rate": 3e-2,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 50,
            "bf16": True,
        },
    },
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
INITIAL_WEIGHTS = {"transformers": None, "t5x": t5x_weights}


@dataclass
class PretrainingSpec:
    """What is pre-trained on, for how long. Exactly one of `task` (synthetic) and `corpus` (text: "stdlib" or a folder).

    `objective` is seq2seq, span_corruption, causal or mlm; the usual one of the model without it. `batching` is padded,
    bucketed (similar lengths together) or packed (rows of about `row_length` input positions, four mean examples without
    it). `batch_size` counts the examples of a step over all processes (packed: as many rows, a multiple of 8, as hold
    them); without it training.per_device_train_batch_size counts the rows of one. `budget_of` names another run whose
    token count this one gets; otherwise training.max_steps is the budget. `initial_weights` is transformers or t5x.
    """

    task: str | None = None
    preset: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    vocabulary: int | None = None
    ramp_steps: int = 0
    corpus: str | None = None
    window: int = 64
    objective: str | None = None
    loss_on: str = "targets"
    batching: str = "bucketed"
    row_length: int | None = None
    batch_size: int | None = None
    schedule: str | None = None
    initial_weights: str = "transformers"
    budget_of: str | None = None
    competence: float = 0.99
    evaluations: int = 10
    validation_examples: int = 512
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.task is None) == (self.corpus is None):
            raise UsageError(f"Pre-training has task {self.task!r} and corpus {self.corpus!r}; give exactly one of the two.")
        check_source(self)
        choose("initial_weights", self.initial_weights, INITIAL_WEIGHTS)
        if self.schedule is not None:
            choose("schedule", self.schedule, SCHEDULES)
        for name in ("window", "row_length", "batch_size", "evaluations", "validation_examples"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"pretraining: {name} is {value}; give an integer >= 1.")
        if not self.competence > 0 or not 0 <= self.seed < 2**32:
            raise UsageError(
                f"pretraining: competence is {self.competence}, seed {self.seed}; give a share above 0 "
                "(above 1: never stop) and 0 <= seed < 2**32."
            )
        if self.batch_size is not None and "per_device_train_batch_size" in self.training:
            raise UsageError(
                f"pretraining: batch_size is {self.batch_size} and per_device_train_batch_size is given too; leave one out "
                "(a preset brings batch_size)."
            )
        if (self.batch_size or 1) > 2**20:
            raise UsageError(f"pretraining: batch_size is {self.batch_size}; give at most {2**20}.")
        check_training(self.training)
        if self.budget_of is None and "max_steps" not in self.training:
            raise UsageError("pretraining has no budget; give training.max_steps >= 1 or budget_of.")

    @classmethod
    def defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return what is given over the fields of its preset, if it names one."""
        if given.get("preset") is None:
            return given
        preset = PRESETS[choose("preset", given["preset"], PRESETS)]
        return preset | given | {"training": preset["training"] | (given.get("training") or {})}


def pretrain(
    spec: PretrainingSpec,
    model: ModelSpec,
    folder: Path,
    *,
    tokenizer: Any = None,
    tokens: int | None = None,
    data_dir: str | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Pre-train into `folder`: weights, parameter_statistics.json, pretraining.json; a killed run goes on where it was.

    Runs in every process of a launcher. `tokens` (end-of-sequence included) replaces the budget in steps; `tokenizer`
    the ids of `spec.vocabulary`; `data_dir` is where a corpus is looked for. Returns the facts of the run.
    """
    work = folder.with_name(f".{folder.name}.work")
    args = training_arguments(work, spec.training | {"disable_tqdm": quiet}, **PRETRAINING_ARGUMENTS, seed=spec.seed)
    vocabulary = as_vocabulary(tokenizer if tokenizer is not None else spec.vocabulary)
    if spec.batch_size is not None:
        share_rows(rows_of(spec, kind_of(model.config(vocabulary)), vocabulary), args)
    steps = args.max_steps if tokens is None else steps_of(spec, args, tokens)
    recipe = recipe_of(spec, args) | {"model": asdict(model), "tokens": tokens}
    if done := already(folder, work, recipe):
        return done
    args.max_steps = steps
    args.eval_steps = spec.training.get("eval_steps", max(1, steps // spec.evaluations))
    args.save_steps = spec.training.get("save_steps", args.eval_steps)
    trainer = pretraining_trainer(spec, model, vocabulary, args, data_dir)
    with args.main_process_first(local=False, desc="checkpoints"):
        write_json(work / RECIPE_FILE, {"recipe": recipe})
        given = args.resume_from_checkpoint
        checkpoint = given if isinstance(given, str) else last_whole_checkpoint(work)
    trainer.train(resume_from_checkpoint=checkpoint)
    facts = run_facts(spec, trainer) | {"recipe": recipe, "versions": versions()}
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        finish(trainer, weights, facts, folder, work, tokenizer)
    trainer.accelerator.wait_for_everyone()
    return facts


def recipe_of(spec: PretrainingSpec, args: Any) -> dict[str, Any]:
    """Return what decides the weights: the spec without what a machine decides, and the rows of a step."""
    given = asdict(spec)
    given["training"] = {name: value for name, value in spec.training.items() if name not in MACHINE}
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {"pretraining": given, "rows_a_step": rows}


def already(folder: Path, work: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Return the facts of a finished run, None where it is to be made. Raises UsageError where a folder holds another."""
    for begun in (folder / RESULT_FILE, work / RECIPE_FILE):
        if begun.exists() and read_json(begun).get("recipe") != json.loads(json.dumps(recipe)):
            raise UsageError(f"{folder} was begun with another recipe ({begun}); choose another folder or delete it.")
    return read_json(folder / RESULT_FILE) if (folder / RESULT_FILE).exists() else None


def share_rows(rows: int, args: Any) -> None:
    """Give each process and accumulated batch its share of a step's rows. Raises UsageError where the shares are unequal."""
    shares = args.world_size * args.gradient_accumulation_steps
    if rows < 1 or rows % shares:
        raise UsageError(
            f"batch_size makes {rows} rows a step, over {args.world_size} processes x {args.gradient_accumulation_steps} "
            f"accumulated batches; give one that makes a multiple of {shares}."
        )
    args.per_device_train_batch_size = rows // shares


def steps_of(spec: PretrainingSpec, args: Any, tokens: int) -> int:
    """Return how many steps of text read `tokens` tokens."""
    row = spec.window + 2 * noise_counts(spec.window)[1] + 2
    return math.ceil(tokens / (args.world_size * args.gradient_accumulation_steps * args.train_batch_size * row))


def pretraining_trainer(
    spec: PretrainingSpec, model: ModelSpec, vocabulary: Vocabulary, args: Any, data_dir: str | None = None
) -> SynpreTrainer:
    """Return the Trainer of a run over a freshly initialised model."""
    fresh = fresh_model(spec, model, vocabulary)
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    source = open_source(
        spec,
        kind_of(fresh.config),
        vocabulary,
        rows=args.max_steps * batch,
        batch=batch,
        longest=longest_input(fresh),
        data_dir=data_dir,
    )
    if source.packed:
        accept_rows(fresh)
    try:
        return SynpreTrainer(
            fresh,
            args,
            schedule=spec.schedule,
            callbacks=(CompetenceStop(spec.competence),),
            train_dataset=source.train,
            eval_dataset=source.validation,
            data_collator=RowCollator(vocabulary.pad, vocabulary.pad, alone=not source.packed),
            compute_metrics=teacher_forced,
            preprocess_logits_for_metrics=most_likely,
        )
    except Exception as error:  # whatever the model or transformers has against these arguments
        cause = " ".join(str(error).split())[:200]
        raise UsageError(f"{type(fresh).__name__} cannot be trained with these arguments: {cause}") from None


def fresh_model(spec: PretrainingSpec, model: ModelSpec, vocabulary: Vocabulary) -> PreTrainedModel:
    """Return the model of a run before its first step."""
    config = model.config(vocabulary)
    fresh = build(AUTO_CLASSES[kind_of(config)], config, {}, spec.seed)
    if redraw := INITIAL_WEIGHTS[spec.initial_weights]:
        redraw(fresh, tensor_generator(spec.seed, spec.initial_weights))
    return fresh


def finish(trainer: SynpreTrainer, weights: dict, facts: dict[str, Any], folder: Path, work: Path, tokenizer: Any) -> None:
    """Write the finished run beside its folder, then move it there whole."""
    made = work / "model"
    trainer.accelerator.unwrap_model(trainer.model_wrapped).save_pretrained(made, state_dict=weights)
    if tokenizer is not None:
        tokenizer.save_pretrained(made)
    statistics = ParameterStatistics.from_pretrained(made)
    source = facts["recipe"]["pretraining"]
    replace(statistics, source=source["task"] or source["corpus"]).save(made / STATISTICS_FILE)
    write_json(made / RESULT_FILE, facts)
    made.rename(folder)
    shutil.rmtree(work)


def run_facts(spec: PretrainingSpec, trainer: SynpreTrainer) -> dict[str, Any]:
    """Return what a finished run spent and reached, and its curve of evaluations."""
    curve = [
        {"step": log["step"], "loss": log["eval_loss"], "token_accuracy": log["eval_token_accuracy"]}
        for log in trainer.state.log_history
        if "eval_loss" in log
    ]
    if not all(math.isfinite(point["loss"]) for point in curve):
        raise FloatingPointError("the loss is not finite; give a smaller learning_rate")
    reached = curve[-1]["token_accuracy"] if curve else None
    stopped = "competence" if reached is not None and reached >= spec.competence else "budget"
    return {**trainer.spent(), "stopped": stopped, "accuracy": reached, "curve": curve}


def last_whole_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that was written to its end (trainer_state.json comes last), or None."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[1])):
        try:
            read_json(checkpoint / "trainer_state.json")
            return str(checkpoint)
        except UsageError:
            shutil.rmtree(checkpoint)
    return None
