"""`synpre self-pretrain`: the text of a dataset in, a model that was pre-trained on it out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_synpre.cli.options import Arguments, FlagSet, Verb
from hf_synpre.cli.pretrain import (
    OUTPUT_DIR,
    TRAINING_FLAGS,
    check_schedule,
    has_terminal,
    print_numbers,
    say,
    say_finished,
    say_where,
    shown,
)
from hf_synpre.cli.processes import say_if_alone
from hf_synpre.config import build_spec, option
from hf_synpre.errors import UsageError, choose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_synpre.data.corpora import Corpus
    from hf_synpre.data.text_spec import TextSpec

# A flag of these says how long a run of `synpre self-pretrain` is.
BUDGETS = ("preset", "budget_tokens", "budget_flops")
# The help of --preset.
PRESET_OF_TEXT = (
    "A named recipe; every other flag wins over it. electra or roberta: those of the papers, for "
    "days of a GPU. _tenth at their end: a tenth of the steps, for a GPU. _hundredth: a hundredth, "
    "with smaller steps and a small model (unless --config_name names one), about an hour on a "
    "CPU. _smoke: the same for 100 steps, to see that it runs, less than a minute."
)


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
    that is trained on the corpus. It keeps case, but for labelled tasks that say `lowercase`, as
    those of hf_synpre do.

    Args:
        options: the flags, of which the dataset, --tokenizer_name and --vocab_size are read.
        start: the checkpoint that the run goes on from.
        start_embeddings: what happens to its token embeddings.
        family: the model's family; an encoder-decoder takes T5's special tokens.
        corpus: the text.
    """
    from hf_synpre.data.corpus_cache import stored_tokenizer
    from hf_synpre.data.tokenizers import read_tokenizer
    from hf_synpre.finetuning.own_data import reads_lower_case
    from hf_synpre.initialization.checkpoints import has_tokenizer

    if options.tokenizer_name:
        return read_tokenizer(options.tokenizer_name)
    if start and start_embeddings == "kept" and has_tokenizer(start):
        return read_tokenizer(start)
    return stored_tokenizer(
        corpus,
        options.vocab_size,
        encoder=family != "seq2seq",
        lowercase=reads_lower_case(options.dataset, options.data_dir),
    )


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
