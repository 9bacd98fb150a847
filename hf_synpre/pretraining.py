"""Layer 4: one pre-training run: a synthetic task or a text corpus, a fresh model, a stop at competence or budget."""

import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_synpre import stdlib
from hf_synpre.collators import Seq2SeqCollator
from hf_synpre.corpus import SpanCorruptionDataset, encode_corpus, noise_counts
from hf_synpre.datasets import LengthBuckets, SyntheticDataset
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import read_json, write_json
from hf_synpre.initialization import STATISTICS_FILE, ParameterStatistics, build, skeleton
from hf_synpre.training import (
    CompetenceStop,
    FlopCounter,
    SynpreTrainer,
    check_training,
    most_likely,
    teacher_forced,
    training_arguments,
)
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

RESULT_FILE = "pretraining.json"
RECIPE_FILE = "recipe.json"
TEXT_TASKS = ("nesting_language",)
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

    `attention` is transformers' attn_implementation ("eager", "sdpa"); None leaves the choice to it.
    """

    model_type: str = "t5"
    config_name: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    attention: str | None = None

    def __post_init__(self) -> None:
        config = self.config(Vocabulary.plain(64))
        try:
            FlopCounter(skeleton(AutoModelForSeq2SeqLM, config))
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
        except (OSError, ValueError) as error:
            raise UsageError(f"config_name '{self.config_name}' cannot be read: {' '.join(str(error).split())}") from None
        for name, value in self.overrides.items():
            set_field(config, name, value)
        config.vocab_size, config.pad_token_id, config.eos_token_id = vocabulary.size, vocabulary.pad, vocabulary.eos
        if self.attention:
            config._attn_implementation = choose("attention", self.attention, ("eager", "sdpa"))
        if config.is_encoder_decoder:
            config.decoder_start_token_id = vocabulary.pad
        return config

    def _default(self) -> PreTrainedConfig:
        return CONFIG_MAPPING[choose("model_type", self.model_type, CONFIG_MAPPING)]()


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


@dataclass
class PretrainingSpec:
    """What is pre-trained on, for how long. Exactly one of `task` (synthetic) and `corpus` (natural text: "stdlib").

    `budget_of` names another run whose token count this one gets; otherwise training.max_steps is the budget.
    """

    task: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    vocabulary: int | None = None
    ramp_steps: int = 0
    corpus: str | None = None
    window: int = 64
    budget_of: str | None = None
    competence: float = 0.99
    evaluations: int = 10
    validation_examples: int = 512
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.task is None) == (self.corpus is None):
            raise UsageError(f"Pre-training has task {self.task!r} and corpus {self.corpus!r}; give exactly one of the two.")
        if self.corpus is not None:
            choose("corpus", self.corpus, ("stdlib",))
        if self.task in TEXT_TASKS:
            raise UsageError(f"{self.task} is text for span corruption, which rows do not get yet; give another task.")
        if self.task is not None:
            synthetic_source(self, 1, 1)
        for name in ("window", "evaluations", "validation_examples"):
            if getattr(self, name) < 1:
                raise UsageError(f"pretraining: {name} is {getattr(self, name)}; give an integer >= 1.")
        check_training(self.training)
        if self.budget_of is None and "max_steps" not in self.training:
            raise UsageError("pretraining has no budget; give training.max_steps >= 1 or budget_of.")


@dataclass
class Source:
    """Rows to pre-train on, rows to judge competence on, and the ids they are made of."""

    train: Any
    validation: Any
    vocabulary: Vocabulary


def synthetic_source(spec: PretrainingSpec, steps: int, batch_size: int) -> Source:
    """Return the rows of a synthetic task for `steps` batches, batched by length."""
    vocabulary = as_vocabulary(spec.vocabulary)
    stream = {"vocabulary": vocabulary, "seed": spec.seed, **spec.parameters}
    rows = SyntheticDataset(spec.task, size=steps * batch_size, ramp=spec.ramp_steps * batch_size, **stream)
    validation = SyntheticDataset(spec.task, size=spec.validation_examples, split="validation", **stream)
    return Source(LengthBuckets(rows, batch_size), validation, vocabulary)


def text_source(spec: PretrainingSpec, tokenizer: Any, steps: int, batch_size: int) -> Source:
    """Return span-corruption rows of the corpus in the ids of `tokenizer`; files of the test split are never read.

    As much text is taken as the run reads once (but 1,000 windows at least).
    """
    spans = noise_counts(spec.window)[1]
    sentinel, last = tokenizer.convert_tokens_to_ids(["<extra_id_0>", f"<extra_id_{spans - 1}>"])
    if sentinel in (None, tokenizer.unk_token_id) or last != sentinel - (spans - 1):
        raise UsageError(
            f"A window of {spec.window} hides {spans} spans; the tokenizer has not so many <extra_id_*> tokens."
        )
    rows = {
        split: SpanCorruptionDataset(
            encode_corpus(stdlib.texts(split), tokenizer, max(size, 1000) * spec.window),
            size=size,
            length=spec.window,
            sentinel=sentinel,
            split=split,
            seed=spec.seed,
        )
        for split, size in (("train", steps * batch_size), ("validation", spec.validation_examples))
    }
    return Source(rows["train"], rows["validation"], as_vocabulary(tokenizer))


def pretrain(
    spec: PretrainingSpec,
    model: ModelSpec,
    folder: Path,
    *,
    tokenizer: Any = None,
    tokens: int | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Pre-train into `folder`: weights, parameter_statistics.json, pretraining.json; a killed run goes on where it was.

    `tokens` (input + target, end-of-sequence included) replaces the budget in steps. Returns the facts of the run.
    """
    work = folder.with_name(f".{folder.name}.work")
    recipe = {"pretraining": asdict(spec), "model": asdict(model), "tokens": tokens}
    for begun in (folder / RESULT_FILE, work / RECIPE_FILE):
        if begun.exists() and read_json(begun).get("recipe") != recipe:
            raise UsageError(f"{folder} was begun with another recipe ({begun}); choose another folder or delete it.")
    if (folder / RESULT_FILE).exists():
        return read_json(folder / RESULT_FILE)
    write_json(work / RECIPE_FILE, {"recipe": recipe})
    args = training_arguments(work, spec.training | {"disable_tqdm": quiet}, **PRETRAINING_ARGUMENTS, seed=spec.seed)
    steps, batch = args.max_steps, args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if tokens is not None:
        spans = noise_counts(spec.window)[1]
        steps = math.ceil(tokens / (batch * (spec.window + 2 * spans + 2)))
    args.max_steps, args.eval_steps = steps, max(1, steps // spec.evaluations)
    args.save_steps = args.eval_steps
    source = synthetic_source(spec, steps, batch) if spec.task else text_source(spec, tokenizer, steps, batch)
    trainer = pretraining_trainer(spec, model, source, args)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    facts = run_facts(spec, trainer) | {"recipe": recipe}
    trainer.model.save_pretrained(work / "model")
    ParameterStatistics.from_model(trainer.model, source=spec.task or spec.corpus).save(work / "model" / STATISTICS_FILE)
    write_json(work / "model" / RESULT_FILE, facts)
    (work / "model").rename(folder)
    shutil.rmtree(work)
    return facts


def pretraining_trainer(spec: PretrainingSpec, model: ModelSpec, source: Source, args: Any) -> SynpreTrainer:
    """Return the Trainer of a run over a freshly initialised model."""
    vocabulary = source.vocabulary
    fresh = build(AutoModelForSeq2SeqLM, model.config(vocabulary), {}, spec.seed)
    return SynpreTrainer(
        fresh,
        args,
        callbacks=(CompetenceStop(spec.competence),),
        train_dataset=source.train,
        eval_dataset=source.validation,
        data_collator=Seq2SeqCollator(vocabulary.pad, vocabulary.eos, fresh.config.decoder_start_token_id),
        compute_metrics=teacher_forced,
        preprocess_logits_for_metrics=most_likely,
    )


def run_facts(spec: PretrainingSpec, trainer: SynpreTrainer) -> dict[str, Any]:
    """Return what a finished run spent and reached, and its curve of evaluations."""
    curve = [
        {"step": log["step"], "loss": log["eval_loss"], "token_accuracy": log["eval_token_accuracy"]}
        for log in trainer.state.log_history
        if "eval_loss" in log
    ]
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
