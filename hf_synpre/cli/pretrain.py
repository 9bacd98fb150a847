"""Layer 6: the verbs of models: pretrain, self-pretrain, statistics."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_synpre.cli.options import option, pairs, vocabulary_of
from hf_synpre.cli.push import attempt
from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError


@dataclass
class TrainOptions:
    """What every pre-training takes."""

    config_name: str | None = option("folder, file or Hub id of a config, instead of --model_type")
    config_overrides: str | None = option("fields of the config, as d_model=128,num_layers=2")
    attention: str | None = option(
        "eager or sdpa; without it eager on a CPU, transformers' choice on a GPU"
    )
    batch_size: int | None = option(
        "examples of a step over all processes, instead of --per_device_train_batch_size"
    )
    window: int | None = option("ids of a window of text, one row")
    initial_weights: str | None = option(
        "transformers (the default), t5x, or local for encoders with learned positions"
    )
    evaluations: int | None = option("evaluations in the whole run")
    validation_examples: int | None = option("examples of an evaluation")
    seed: int = option("seed of weights and data", 0)
    training: dict[str, Any] = field(default_factory=dict, init=False)

    def model(self) -> Any:
        """Return the model that the flags describe."""
        from hf_synpre.models.spec import ModelSpec

        overrides = pairs(self.config_overrides, "config_overrides")
        return ModelSpec(self.model_type, self.config_name, overrides, self.attention)


@dataclass
class PretrainOptions(TrainOptions):
    """Pre-train a fresh model on a synthetic task or on text. Every TrainingArguments flag of transformers works too."""

    output_dir: str = option(
        "folder of the model, its statistics and pretraining.json", "runs/pretrained"
    )
    task: str | None = option("the synthetic task; set without --corpus")
    corpus: str | None = option(
        "text instead of a task: stdlib, a Hub id, or a folder with train and validation, data/train*.parquet or train*.txt"
    )
    preset: str | None = option("paper or fast; every other flag overrides it")
    parameters: str | None = option("parameters of the task, as min_length=4,max_length=24")
    vocabulary: int | None = option("size of a plain vocabulary; the paper's T5 ids without it")
    tokenizer_name: str | None = option(
        "folder or Hub id of a tokenizer whose ids are used, instead of --vocabulary"
    )
    model_type: str = option("architecture, as in transformers", "t5")
    objective: str | None = option(
        "seq2seq, span_corruption, causal or mlm; the model's usual one without it"
    )
    loss_on: str | None = option("loss of a decoder-only model: targets (the default) or all")
    schedule: str | None = option(
        "rsqrt: 1/sqrt(max(step, 10000)) times the learning rate; --lr_scheduler_type without it"
    )
    batching: str | None = option("padded, bucketed (the default) or packed")
    row_length: int | None = option(
        "input positions of a packed row; four mean examples without it"
    )
    ramp_steps: int | None = option("steps of the curriculum by length")
    competence: float | None = option("validation token accuracy that ends the run")
    push_to_hub: bool = option(
        "publish the folder when the run is done; needs --hub_model_id", False
    )
    hub_model_id: str | None = option("namespace/name on the Hub")


MODEL_FLAGS = ("model_type", "config_name", "config_overrides", "attention")


RUN_FLAGS = set(PretrainOptions.__dataclass_fields__) - {
    *("output_dir", "tokenizer_name", "push_to_hub", "hub_model_id"),
    *MODEL_FLAGS,
}


def pretrain(options: PretrainOptions) -> int:
    """Pre-train into a folder and print what it took."""
    from hf_synpre.hub import check_repo_id, push
    from hf_synpre.training.pretraining import pretrain as run
    from hf_synpre.training.pretraining_spec import PretrainingSpec

    if options.push_to_hub or options.hub_model_id is not None:
        check_repo_id(options.hub_model_id or "")
    if options.hub_model_id is not None and not options.push_to_hub:
        raise UsageError("--hub_model_id was given without --push_to_hub; give both or none.")
    if options.tokenizer_name is not None and options.vocabulary is not None:
        raise UsageError(
            "--tokenizer_name and --vocabulary were given; the ids come from one of them, leave the other out."
        )
    given = {k: v for k, v in vars(options).items() if v is not None and k in RUN_FLAGS}
    given |= {"parameters": pairs(options.parameters, "parameters")}
    if options.corpus is None:
        given = {"task": "set"} | given
    if "max_steps" not in options.training and options.preset is None:
        given["training"] = {"max_steps": 1000} | options.training
    spec = build_spec(PretrainingSpec, given, "options")
    model = options.model()
    folder = finished_or_new(Path(options.output_dir))
    tokenizer = vocabulary_of(options.tokenizer_name, "tokenizer_name")
    code = trained(lambda: run(spec, model, folder, tokenizer=tokenizer, quiet=False))
    if code == 0 and options.push_to_hub and int(os.environ.get("RANK", 0)) == 0:
        return attempt(lambda: print(push(folder, options.hub_model_id)) or 0)
    return code


@dataclass
class SelfPretrainOptions(TrainOptions):
    """Pre-train a fresh model on a dataset's own train split. Every TrainingArguments flag of transformers works too."""

    dataset: str = option(
        "a task's name, a folder in Hub layout, a .csv, .jsonl, .parquet or .txt file, or a Hub id",
        "",
    )
    output_dir: str = option(
        "folder of the model, its statistics and pretraining.json", "runs/self-pretrained"
    )
    data_dir: str | None = option("folder of a local copy of the dataset in Hub layout")
    columns: str | None = option(
        "columns that hold the text, as premise,hypothesis; guessed without it"
    )
    config: str | None = option("configuration of a dataset on the Hub that has several")
    order: str | None = option("natural, shuffled_rows or shuffled_sentences")
    deduplicate: bool = option("keep a text of a column once", False)
    held_out: float | None = option("share of the rows kept for a loss")
    limit_mb: float | None = option("end the corpus after so many million bytes")
    with_test: bool = option(
        "add the text of the other splits: an ablation, which the result names", False
    )
    tokenizer_name: str | None = option(
        "folder or Hub id of a stock tokenizer; one is trained on the corpus alone without it"
    )
    vocab_size: int = option("ids of the tokenizer trained on the corpus", 4096)
    preset: str | None = option(
        "electra or roberta, _tenth, _hundredth or _smoke of it; every other flag goes before it"
    )
    model_type: str = option("architecture, as in transformers", "electra")
    objective: str | None = option(
        "rtd, mlm, causal or span_corruption; the model's usual one without it"
    )
    start: str | None = option(
        "folder or Hub id of a checkpoint to go on from (task-adaptive pre-training)"
    )
    start_embeddings: str | None = option("token embeddings of --start: kept or fresh")
    budget_tokens: int | None = option("tokens of the run, instead of --max_steps")
    budget_flops: float | None = option("FLOPs of the run, instead of --max_steps")
    budget_seconds: float | None = option(
        "seconds of training that end the run before its last step"
    )


TEXT_FLAGS = ("config", "order", "deduplicate", "held_out", "limit_mb", "with_test")


def self_pretrain(options: SelfPretrainOptions) -> int:
    """Pre-train on a dataset's own text and print the corpus and what the run took."""
    from hf_synpre.data.corpora import TextSpec
    from hf_synpre.models.families import model_family
    from hf_synpre.training.pretraining import pretrain as run
    from hf_synpre.training.pretraining_spec import OBJECTIVES, PretrainingSpec
    from hf_synpre.vocabulary import Vocabulary

    if not options.dataset:
        raise UsageError("No dataset was given; write `synpre self-pretrain FOLDER_OR_HUB_ID`.")
    text = {
        name: getattr(options, name) for name in TEXT_FLAGS if getattr(options, name) is not None
    }
    text["columns"] = options.columns.split(",") if options.columns else None
    apart = (
        "dataset",
        "output_dir",
        "data_dir",
        "columns",
        "tokenizer_name",
        "vocab_size",
        *TEXT_FLAGS,
        *MODEL_FLAGS,
    )
    given = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name not in apart
    }
    if not {"max_steps", "preset", "budget_tokens", "budget_flops", "budget_seconds"} & {
        *options.training,
        *given,
    }:
        given["preset"] = "electra_smoke" if options.model_type == "electra" else "roberta_smoke"
    elif options.model_type == "electra" and "preset" not in given:
        given.setdefault("objective", "rtd")
    given |= {"corpus": options.dataset, "text": text}
    if options.start and options.config_name is None and options.config_overrides is None:
        options.config_name = options.start
    model = options.model()
    if (
        kind := model_family(model.config(Vocabulary.plain(64)))
    ) != "mlm":  # the presets are those of encoders
        given.setdefault("objective", OBJECTIVES[kind].for_text)
    spec = build_spec(PretrainingSpec, given, "options")
    folder = finished_or_new(Path(options.output_dir))
    corpus = named_corpus(options.dataset, options.data_dir, build_spec(TextSpec, text, "options"))
    print_facts(corpus.metadata)
    tokenizer = own_tokenizer(options, kind, corpus)
    return trained(
        lambda: run(spec, model, folder, tokenizer=tokenizer, corpus=corpus, quiet=False)
    )


def named_corpus(name: str, data_dir: str | None, text: Any) -> Any:
    """Return the text of the train split of a task of hf_synpre, or of any dataset."""
    from hf_synpre.data.corpora import open_corpus
    from hf_synpre.finetuning import TASKS

    if name in TASKS and not Path(name).exists():
        return TASKS[name].corpus(data_dir, text)
    return open_corpus(name, data_dir, text)


def own_tokenizer(options: SelfPretrainOptions, kind: str, corpus: Any) -> Any:
    """Return the stock tokenizer that is named, or the start's, or one for this kind of model trained on the corpus."""
    from hf_synpre.data.tokenizers import (
        read_tokenizer,
        train_encoder_tokenizer,
        train_tokenizer,
    )
    from hf_synpre.models import pretrained_weights as starts

    stock = options.tokenizer_name
    if (
        stock is None
        and options.start
        and options.start_embeddings != "fresh"
        and starts.tokenizer_file(options.start)
    ):
        stock = options.start
    if stock:
        return read_tokenizer(stock)
    return (train_tokenizer if kind == "seq2seq" else train_encoder_tokenizer)(
        corpus.texts("train"), options.vocab_size
    )


def finished_or_new(folder: Path) -> Path:
    """Return the folder of a pre-training that is finished or not begun. Raises UsageError where it holds something else."""
    from hf_synpre.training.pretraining import RESULT_FILE

    if folder.exists() and not (folder / RESULT_FILE).exists():
        raise UsageError(
            f"{folder} exists and holds no finished pre-training; choose another --output_dir."
        )
    return folder


def trained(run: Callable[[], dict[str, Any]]) -> int:
    """Print what a run took; return 1, with one line on standard error, where its loss was not finite."""
    try:
        return print_facts(run())
    except FloatingPointError as error:
        print(f"synpre: {error}", file=sys.stderr)
        return 1


def print_facts(facts: dict[str, Any]) -> int:
    """Print what a run took, once for all processes of a launcher."""
    if int(os.environ.get("RANK", 0)) == 0:
        print(
            json.dumps(
                {k: v for k, v in facts.items() if k not in ("curve", "recipe", "versions")},
                indent=1,
            )
        )
    return 0


@dataclass
class StatisticsOptions:
    """Measure a checkpoint's parameter statistics."""

    checkpoint: str = option("folder or Hub id of a checkpoint with safetensors", "")
    output_file: str | None = option(
        "where to write parameter_statistics.json; into the checkpoint's folder, or here, without it"
    )
    output_dir: str | None = option(
        "a folder for the file and the config: all that StatisticsInit.from_pretrained needs"
    )


def statistics(options: StatisticsOptions) -> int:
    """Write the statistics file of a checkpoint."""
    from hf_synpre import initialization

    if not options.checkpoint:
        raise UsageError("No checkpoint was given; write `synpre statistics FOLDER_OR_HUB_ID`.")
    local = Path(options.checkpoint)
    try:
        if any(local.glob("*.safetensors")):
            stats = initialization.ParameterStatistics.measured(local, options.checkpoint)
        else:
            stats = initialization.ParameterStatistics.from_pretrained(options.checkpoint)
    except OSError as error:  # from the Hub
        raise UsageError(str(error)) from None
    if options.output_dir and options.output_file:
        raise UsageError(
            "--output_dir and --output_file were given; give one, a folder for config and statistics or a file."
        )
    folder = options.output_dir or (
        options.checkpoint if Path(options.checkpoint).is_dir() else "."
    )
    if options.output_dir:
        check_own(Path(folder), stats)
        initialization.read_config(initialization.find_config(options.checkpoint), {})[
            0
        ].save_pretrained(folder)
    file = Path(options.output_file or Path(folder) / initialization.STATISTICS_FILE)
    if file != local / initialization.STATISTICS_FILE:
        check_target(file, stats)
    stats.save(file)
    print(f"{file}: {len(stats.parameters)} parameters of {stats.source}")
    return 0


def check_target(file: Path, stats: Any) -> None:
    """Raise UsageError where writing statistics would replace another file or stand for the weights beside it."""
    if file.name == "parameter_statistics.json" and any(file.parent.glob("*.safetensors")):
        raise UsageError(
            f"{file.parent} holds the weights of another model; give another --output_file or --output_dir."
        )
    try:
        same = not file.exists() or type(stats).load(file).source == stats.source
    except UsageError:
        same = False
    if not same:
        raise UsageError(f"{file} is there and holds something else; give another --output_file.")


def check_own(folder: Path, stats: Any) -> None:
    """Raise UsageError where a folder holds anything but the statistics of this checkpoint."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output_dir is {folder}, a file; give a folder.")
    stored = folder / "parameter_statistics.json"
    if (
        folder.exists()
        and any(folder.iterdir())
        and not (stored.exists() and type(stats).load(stored).source == stats.source)
    ):
        raise UsageError(
            f"{folder} holds something else than the statistics of {stats.source}; choose another --output_dir."
        )
