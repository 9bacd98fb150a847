"""`synpre pretrain` and `synpre self-pretrain`: flags in, a pre-trained model in a folder out."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb, tokenizer_of_flag
from hf_synpre.cli.processes import say_if_alone
from hf_synpre.config import build_spec, option
from hf_synpre.errors import UsageError, choose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_synpre.data.corpora import Corpus
    from hf_synpre.data.text_spec import TextSpec

# The preset of `synpre pretrain` without --preset.
USUAL_PRESET = "small"
# A flag of these says how long a run of `synpre self-pretrain` is.
BUDGETS = ("preset", "budget_tokens", "budget_flops")
# The help of --preset, of which each verb has its own names.
PRESET_OF_TASKS = (
    "A named recipe; every other flag wins over it. paper: what the paper did, for days of a GPU. "
    "fast: what learns Set soonest. small: a small model (unless --config_name names one) on short "
    "examples, some minutes on a CPU. smoke: the same for 100 steps, to see that it runs."
)
PRESET_OF_TEXT = (
    "A named recipe; every other flag wins over it. electra or roberta: those of the papers, for "
    "days of a GPU. _tenth at their end: a tenth of the steps, for a GPU. _hundredth: a hundredth, "
    "with smaller steps and a small model (unless --config_name names one), about an hour on a "
    "CPU. _smoke: the same for 100 steps, to see that it runs, less than a minute."
)
# The help of --output_dir.
OUTPUT_DIR = (
    "Folder of the model, its statistics and pretraining.json. While the run goes on its last two "
    "checkpoints are in it (checkpoint-STEP, which from_pretrained loads); the last one stays. "
    "--save_total_limit N keeps the last N."
)
# What a result holds beside the numbers that are printed.
NOT_PRINTED = (
    *("curve", "recipe", "versions", "device", "accumulation", "tokenizer", "weights_sha256"),
)
TRAINING_FLAGS = "every training argument is a flag of its own"


# --- on a synthetic task or on text ---------------------------------------------------------------


@dataclass
class PretrainOptions:
    """What `synpre pretrain` takes beside the recipe and the architecture."""

    output_dir: str = option(OUTPUT_DIR, "runs/pretrained")
    tokenizer_name: str | None = option(
        "Folder or Hub id of a tokenizer whose ids are used, instead of --vocabulary.", None
    )
    push_to_hub: bool = option(
        "Publish the folder when the run is done; needs --hub_model_id.", False
    )
    hub_model_id: str | None = option("The repository on the Hub, namespace/name.", None)


def pretrain_flags() -> list[FlagSet]:
    """Return the flags of `synpre pretrain`."""
    from hf_synpre.models.spec import ModelSpec
    from hf_synpre.training.pretraining_spec import PretrainingSpec

    recipe = FlagSet(
        PretrainingSpec,
        "training",
        groups={
            "data": (
                *("task", "parameters", "vocabulary", "curriculum_steps", "corpus", "window"),
                *("batching", "row_length"),
            ),
            "model": ("initial_weights", "start", "start_embeddings", "generator_fraction"),
        },
        defaults={"task": "set, without --corpus", "preset": USUAL_PRESET},
        helps={"preset": PRESET_OF_TASKS},
        left_out={
            "text": "`synpre self-pretrain` has its fields",
            "pairs": "it needs text",
            "match_tokens_of": "it names another run of an experiment",
            "training": TRAINING_FLAGS,
        },
    )
    own = FlagSet(PretrainOptions, "output", groups={"data": ("tokenizer_name",)})
    model = FlagSet(ModelSpec, "model", names={"overrides": "config_overrides"})
    return [recipe, IMPORT_FLAG, model, own]


def pretrain(arguments: Arguments) -> int:
    """Pre-train into a folder, print what it took, and publish the folder if that is asked for."""
    from hf_synpre.hub import check_repo_id, push
    from hf_synpre.models.spec import ModelSpec
    from hf_synpre.training.presets import small_model
    from hf_synpre.training.pretraining import pretrain as pretrain_model
    from hf_synpre.training.pretraining_spec import PretrainingSpec
    from hf_synpre.training.run_folder import RESULT_FILE, check_run_folder

    # Flags that need or exclude each other.
    options = arguments.build(PretrainOptions)
    values = arguments.of(PretrainingSpec)
    if options.push_to_hub or options.hub_model_id is not None:
        check_repo_id(options.hub_model_id or "")
    if options.hub_model_id is not None and not options.push_to_hub:
        raise UsageError("--hub_model_id was given without --push_to_hub; give both or none.")
    if options.tokenizer_name is not None and "vocabulary" in values:
        raise UsageError(
            "--tokenizer_name and --vocabulary were given; the ids come from one of them, leave "
            "the other out."
        )

    # The recipe, and the model in the preset's size.
    if "corpus" not in values:
        values.setdefault("task", "set")
    is_usual = "preset" not in values
    values.setdefault("preset", USUAL_PRESET)
    values["training"] = dict(arguments.training)
    check_schedule(values)
    if options.tokenizer_name is not None:
        values["vocabulary"] = None  # not the preset's either
    spec = build_spec(PretrainingSpec, values, "options")
    model = build_spec(ModelSpec, small_model(spec.preset, arguments.of(ModelSpec)), "options")
    folder = Path(options.output_dir)
    check_run_folder(folder)
    say_if_alone()

    # The ids, where they are not those of --vocabulary.
    tokenizer = None
    if options.tokenizer_name is not None:
        tokenizer = tokenizer_of_flag(options.tokenizer_name, "tokenizer_name")

    # Train and save, then publish.
    remark = ""
    if is_usual and spec.task is not None:  # text has no short examples, and no paper's run here
        remark = (
            f"No --preset was given, so it is {USUAL_PRESET}: a small model and short examples, "
            "some minutes on a CPU. --preset smoke ends in a minute; "
            "--preset paper --config_name google-t5/t5-small is the paper's run, for a GPU."
        )
    was_finished = (folder / RESULT_FILE).exists()
    with shown(f"pre-training on {spec.task or spec.corpus}", remark):
        result = pretrain_model(spec, model, folder, tokenizer=tokenizer, quiet=not has_terminal())
    if was_finished:
        say_finished(folder)
    print_numbers(result)
    say_where(folder)
    if options.push_to_hub and is_first_process():
        print(push(folder, options.hub_model_id or ""))
    return 0


PRETRAIN = Verb(
    name="pretrain",
    summary="Pre-train a fresh model on a synthetic task or on text.",
    run=pretrain,
    flag_sets=pretrain_flags,
    positional="task",
    needs_positional=False,
    examples=(
        "sort --output_dir runs/sort",
        "--corpus stdlib --tokenizer_name t5-small --max_steps 2000",
    ),
    takes_training=True,
)


# --- on a dataset's own text ----------------------------------------------------------------------


@dataclass
class SelfPretrainOptions:
    """What `synpre self-pretrain` takes beside the recipe, the corpus and the architecture."""

    dataset: str = option(
        "A task's name or YAML file, a folder in Hub layout, a .csv, .jsonl, .parquet or .txt "
        "file, or a Hub id.",
        "",
    )
    data_dir: str | None = option("Folder of a local copy of the dataset in Hub layout.", None)
    tokenizer_name: str | None = option(
        "Folder or Hub id of a pre-trained tokenizer; one is trained on the corpus alone without "
        "it.",
        None,
    )
    vocab_size: int = option(
        "Ids of the tokenizer that is trained on the corpus: at least 300, or 291 for an "
        "encoder-decoder.",
        4096,
    )
    output_dir: str = option(OUTPUT_DIR, "runs/self-pretrained")


def self_pretrain_flags() -> list[FlagSet]:
    """Return the flags of `synpre self-pretrain`."""
    from hf_synpre.data.text_spec import TextSpec
    from hf_synpre.models.spec import ModelSpec
    from hf_synpre.training.pretraining_spec import PretrainingSpec

    synthetic = "it is of synthetic tasks"
    own = FlagSet(SelfPretrainOptions, "data", groups={"output": ("output_dir",)})
    text = FlagSet(
        TextSpec,
        "data",
        left_out={"seed": "runs of several seeds have one corpus, that of seed 0"},
    )
    model = FlagSet(
        ModelSpec,
        "model",
        names={"overrides": "config_overrides"},
        defaults={"model_type": "that of --start, else electra"},
    )
    recipe = FlagSet(
        PretrainingSpec,
        "training",
        groups={
            "data": ("window", "pairs"),
            "model": ("initial_weights", "start", "start_embeddings", "generator_fraction"),
        },
        defaults={"preset": "the _smoke of the model, without --max_steps or a budget"},
        helps={"preset": PRESET_OF_TEXT},
        left_out={
            **dict.fromkeys(("task", "parameters", "vocabulary", "curriculum_steps"), synthetic),
            **dict.fromkeys(("loss_on", "batching", "row_length"), synthetic),
            "corpus": "it is --dataset",
            "text": "its fields are flags",
            "match_tokens_of": "it names another run of an experiment",
            "training": TRAINING_FLAGS,
        },
    )
    return [own, text, model, recipe]


def self_pretrain(arguments: Arguments) -> int:
    """Pre-train on the text of a dataset's train split; print the corpus and what the run took."""
    from hf_synpre.data.text_spec import TextSpec
    from hf_synpre.models.families import model_family
    from hf_synpre.models.spec import ModelSpec
    from hf_synpre.training.presets import TEXT_PRESETS, small_model
    from hf_synpre.training.pretraining import pretrain as pretrain_model
    from hf_synpre.training.pretraining_spec import OBJECTIVES, PretrainingSpec
    from hf_synpre.training.run_folder import RESULT_FILE, check_run_folder
    from hf_synpre.vocabulary import Vocabulary

    options = arguments.build(SelfPretrainOptions)
    if not options.dataset:
        raise UsageError("No dataset was given; write `synpre self-pretrain FOLDER_OR_HUB_ID`.")
    if options.tokenizer_name is not None and "vocab_size" in arguments.of(SelfPretrainOptions):
        raise UsageError(
            "--tokenizer_name and --vocab_size were given; a tokenizer that is named is not "
            "trained, leave one out."
        )
    values = arguments.of(PretrainingSpec)
    if "preset" in values:
        choose("preset of synpre self-pretrain", values["preset"], TEXT_PRESETS)

    # The model: that of the checkpoint which the run goes on from, if another is not described.
    model_values = arguments.of(ModelSpec)
    expected_type = None
    if values.get("start") and "config_name" not in model_values:
        model_values["config_name"] = values["start"]
        expected_type = model_values.pop("model_type", None)
    if "config_name" not in model_values:
        model_values.setdefault("model_type", "electra")
    model = build_spec(ModelSpec, model_values, "options")
    config = model.config(Vocabulary.plain(64))
    if expected_type not in (None, config.model_type):
        raise UsageError(
            f"--model_type is {expected_type}, and --start {values['start']} is a "
            f"{config.model_type}; leave --model_type out."
        )
    family = model_family(config)

    # The recipe: the smallest preset where nothing says how long the run is. Then the model in the
    # preset's size.
    is_usual = "preset" not in values
    add_usual_recipe(values, arguments.training, is_electra=config.model_type == "electra")
    if family != "mlm":  # the presets are those of encoders
        values.setdefault("objective", OBJECTIVES[family].for_text)
    values["corpus"] = options.dataset
    values["text"] = arguments.of(TextSpec)
    values["training"] = dict(arguments.training)
    check_schedule(values)
    spec = build_spec(PretrainingSpec, values, "options")
    model = build_spec(ModelSpec, small_model(spec.preset, model_values), "options")
    if model.config_name is not None:
        model = replace(model, model_type="electra")  # as the recipes of such runs have it
    folder = Path(options.output_dir)
    check_run_folder(folder)
    say_if_alone()

    # The corpus and its tokenizer.
    corpus = open_dataset_corpus(options.dataset, options.data_dir, arguments.build(TextSpec))
    print_numbers(corpus.metadata)
    tokenizer = corpus_tokenizer(options, spec.start, spec.start_embeddings, family, corpus)

    # Train and save.
    remark = ""
    if is_usual and spec.preset is not None:
        remark = (
            f"Nothing says how long the run is, so --preset is {spec.preset}: a small model and "
            "100 steps, which show that it runs and teach it little."
        )
    was_finished = (folder / RESULT_FILE).exists()
    with shown(f"pre-training on {options.dataset}", remark):
        result = pretrain_model(
            spec,
            model,
            folder,
            tokenizer=tokenizer,
            corpus=corpus,
            quiet=not has_terminal(),
        )
    if was_finished:
        say_finished(folder)
    print_numbers(result)
    say_where(folder)
    return 0


def add_usual_recipe(values: dict[str, Any], training: Mapping[str, Any], is_electra: bool) -> None:
    """Add a preset to the fields of a PretrainingSpec where nothing says how long the run is.

    Args:
        values: the fields that were given; they are changed.
        training: the training arguments that were given.
        is_electra: the model is an ELECTRA, whose objective is rtd.
    """
    has_budget = "max_steps" in training or "budget_seconds" in values
    has_budget = has_budget or any(name in values for name in BUDGETS)
    if not has_budget:
        values["preset"] = "electra_smoke" if is_electra else "roberta_smoke"
    elif is_electra and "preset" not in values:
        values.setdefault("objective", "rtd")


def open_dataset_corpus(name: str, data_dir: str | None, text: "TextSpec") -> "Corpus":
    """Return the text of a dataset's train split; that of files is made once for all runs.

    Args:
        name: a downstream task of hf_synpre, the YAML file of one, a folder, a file or a Hub id. A
            folder or file of a task's name is taken first.
        data_dir: folder of a local copy.
        text: what is taken from the split.

    Raises:
        UsageError: there is no such dataset, or it has no text.
    """
    from hf_synpre.data.corpora import corpus_source, open_corpus
    from hf_synpre.data.corpus_cache import stored_corpus
    from hf_synpre.finetuning import TASKS, own_corpus
    from hf_synpre.finetuning.own_data import YAML_SUFFIXES

    is_task = name in TASKS and not Path(name).exists()
    if name == "stdlib":
        return open_corpus(name, text=text)

    def make() -> "tuple[Corpus, list[str]]":
        if is_task:
            return TASKS[name].corpus(data_dir, text), []
        return own_corpus(name, data_dir, text)

    # The files that it is made of; those of a YAML file and of the Hub are not known here.
    place = data_dir
    if Path(name).suffix in YAML_SUFFIXES:
        place = None
    elif not is_task:
        place = corpus_source(name, data_dir, files=True)

    if place is None or not Path(place).exists():
        corpus, remarks = make()
    else:
        corpus, remarks = stored_corpus(Path(place), {"name": name, "text": asdict(text)}, make)
    for remark in remarks:
        say(remark)
    return corpus


def corpus_tokenizer(
    options: SelfPretrainOptions,
    start: str | None,
    start_embeddings: str,
    family: str,
    corpus: "Corpus",
) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a run on text.

    It is the one that is named, or that of the checkpoint whose token embeddings are kept, or one
    that is trained on the corpus.

    Args:
        options: the flags, of which --tokenizer_name and --vocab_size are read.
        start: the checkpoint that the run goes on from.
        start_embeddings: what happens to its token embeddings.
        family: the model's family; an encoder-decoder takes T5's special tokens.
        corpus: the text.
    """
    from hf_synpre.data.corpus_cache import stored_tokenizer
    from hf_synpre.data.tokenizers import read_tokenizer
    from hf_synpre.models.pretrained_weights import has_tokenizer

    if options.tokenizer_name:
        return read_tokenizer(options.tokenizer_name)
    if start and start_embeddings == "kept" and has_tokenizer(start):
        return read_tokenizer(start)
    return stored_tokenizer(corpus, options.vocab_size, encoder=family != "seq2seq")


SELF_PRETRAIN = Verb(
    name="self-pretrain",
    summary="Pre-train a fresh model on the text of a dataset's own train split.",
    run=self_pretrain,
    flag_sets=self_pretrain_flags,
    positional="dataset",
    needs_positional=True,
    examples=(
        "ag_news --preset electra_hundredth --output_dir runs/self",
        "texts.csv --columns title,body --max_steps 2000",
    ),
    takes_training=True,
)


# --- what both share ------------------------------------------------------------------------------


def is_first_process() -> bool:
    """Say whether this is the one process of a launcher that prints and publishes."""
    return int(os.environ.get("RANK", 0)) == 0


def has_terminal() -> bool:
    """Say whether people see standard error on a terminal, where transformers draws its bar."""
    return sys.stderr.isatty()


def check_schedule(values: Mapping[str, Any]) -> None:
    """Raise UsageError where --schedule and a flag of transformers' schedules were given."""
    for name in ("lr_scheduler_type", "lr_scheduler_kwargs"):
        if values.get("schedule") is not None and name in values["training"]:
            raise UsageError(
                f"--schedule and --{name} were given; the learning rate follows one schedule, "
                "leave one out."
            )


def shown(name: str, remark: str = "") -> AbstractContextManager[None]:
    """Print what the run in this block is, how long it takes and, without a bar, how far it is.

    Args:
        name: the name of the run.
        remark: a line before the first.
    """
    import transformers

    from hf_synpre.training.progress import LINE_EVERY_S, ProgressLines, reported_to

    if not has_terminal():
        transformers.utils.logging.disable_progress_bar()
    every_s = None if has_terminal() else LINE_EVERY_S
    return reported_to(ProgressLines(name, every_s, remark))


def say_finished(folder: Path) -> None:
    """Say that a run was finished by an earlier command, and nothing is computed."""
    say(f"{folder} holds this run already finished: nothing was computed. These are its numbers.")


def say_where(folder: Path) -> None:
    """Say where a finished run lies, and what may come next."""
    say(
        f"The model, its statistics and pretraining.json are in {folder}. Next: "
        f"`synpre finetune DATA --init weights --checkpoint {folder}` (encoder-decoders "
        "and decoders answer with a target text, encoders and decoders with labels), "
        f"`synpre push {folder} --repo_id NAMESPACE/NAME`."
    )


def say(line: str) -> None:
    """Print a line for people on standard error, in the first process."""
    if is_first_process():
        print(f"synpre: {line}", file=sys.stderr, flush=True)


def print_numbers(result: Mapping[str, Any]) -> None:
    """Print what a corpus or a run is as JSON, in the first process, without its long parts."""
    if is_first_process():
        shown = {name: value for name, value in result.items() if name not in NOT_PRINTED}
        print(json.dumps(shown, indent=1))
