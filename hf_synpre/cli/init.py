"""`synpre init`: an architecture, a scheme and statistics in, an untrained model in a folder out.

The weights are drawn from the statistics of a checkpoint, or by a scheme that needs none. It takes
seconds, so it is the first thing to compare a warm-up with.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_synpre.cli.options import Arguments, FlagSet, Verb
from hf_synpre.cli.tokenizer_flags import tokenizer_of_flag
from hf_synpre.config import build_spec, option
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import atomic_folder, lock, write_json, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from hf_synpre.initialization import StatisticsInit

logger = logging.getLogger(__name__)

# The types in which weights may be saved -> the method that changes a model to it.
DTYPES = {"float32": "float", "bfloat16": "bfloat16", "float16": "half"}
# The scheme that reads --value.
CONSTANT_SCHEME = "constant_pre_attn_ln"


@dataclass
class InitOptions:
    """What `synpre init` takes."""

    model: str = option(
        "The architecture: transformers' model_type (llama, gpt2, t5 ...), which has transformers' "
        "default sizes (llama: 6.7 G parameters), or the folder, file or Hub id of a config. "
        "Without it that of --from, in its sizes.",
        "",
    )
    source: str | None = option(
        "The checkpoint whose statistics (or weights, as the scheme asks) are read: a folder, a "
        "Hub id, a checkpoint bundled with the package (synpre/t5-mini-set), or a statistics file.",
        None,
    )
    scheme: str = option(
        "What fills the weights.",
        "per_param_mean_sd",
    )
    seed: int = option("Decides every number.", 0)
    include: list[str] | None = option(
        "Which parameters are filled: parts (attention, mlp, norm ...), roles, or patterns of "
        "names with *. The others get the random weights of their architecture.",
        None,
    )
    exclude: list[str] | None = option("Which parameters are not filled, in the same ways.", None)
    embeddings: str | None = option(
        "Token embeddings and output layer: fresh (drawn anew), or rows of those of --from: kept "
        "(its ids are the same), by_token (of tokens that its tokenizer has too) or mean (by "
        "number, further ones their mean). Without it as --scheme, --include and --exclude say.",
        None,
    )
    value: float = option(f"The constant of scheme {CONSTANT_SCHEME}.", 0.4)
    unigrams: str | None = option(
        "The token frequencies of scheme log_unigram_head: a file of text, which the tokenizer "
        "cuts into tokens, or the folder of a Unigram tokenizer.",
        None,
    )
    scheme_options: dict[str, Any] = option(
        "Numbers of the schemes gamma and mimetic, as gamma=0.75 (docs/statistics.md).",
        default_factory=dict,
    )
    resize: str = option(
        "Statistics of a model of another size: fan_in (layers by relative depth, linear maps "
        "scaled by the root of the fan-in ratio), depth (no scaling) or none (the same layers).",
        "fan_in",
    )
    overrides: dict[str, Any] = option(
        "Fields of the config that are changed, as hidden_size=128,num_hidden_layers=2.",
        default_factory=dict,
    )
    tokenizer_name: str | None = option(
        "Folder or Hub id of the tokenizer that the model gets, which decides its ids. Without it "
        "that of MODEL or of --from, if one of them has a tokenizer.",
        None,
    )
    vocabulary: int | None = option(
        "Size of a plain vocabulary, in ids, for a model without a tokenizer; without it the size "
        "that the config has.",
        None,
    )
    dtype: str = option("The type of the saved weights: float32, bfloat16 or float16.", "float32")
    output_dir: str = option("The new folder of the model; -o is short for it.", "runs/start")

    def __post_init__(self) -> None:
        choose("dtype", self.dtype, DTYPES)
        if self.vocabulary is not None and self.tokenizer_name is not None:
            raise UsageError(
                "--tokenizer_name and --vocabulary were given; the ids come from one of them, "
                "leave the other out."
            )
        if not self.model and self.source is None:
            raise UsageError(
                "Neither an architecture nor --from was given; write `synpre init MODEL_OR_CONFIG "
                "--from CHECKPOINT -o DIR`, or one of both."
            )


def init(arguments: Arguments) -> int:
    """Make a model, and write it into a folder with its tokenizer and a card."""
    from hf_synpre.initialization import StatisticsInit, bundled_checkpoints
    from hf_synpre.initialization.build import check_memory
    from hf_synpre.models.families import AUTO_CLASSES, model_family

    options = arguments.build(InitOptions)
    if "value" in arguments.of(InitOptions) and options.scheme != CONSTANT_SCHEME:
        raise UsageError(
            f"--value was given, and scheme {options.scheme} has no constant; leave it out, or "
            f"give --scheme {CONSTANT_SCHEME}."
        )
    folder = Path(options.output_dir)
    check_new_folder(folder)

    # The architecture with its tokenizer, and what fills its weights.
    tokenizer = find_tokenizer(options)
    config = find_config(options, tokenizer)
    factory = StatisticsInit(
        AUTO_CLASSES[model_family(config)],
        scheme=options.scheme,
        seed=options.seed,
        include=options.include,
        exclude=options.exclude,
        embeddings=options.embeddings,
        tokenizer=tokenizer,
        value=options.value,
        unigrams=options.unigrams,
        scheme_options=options.scheme_options,
        resize=options.resize,
    )
    check_source(options, factory.scheme.needs_checkpoint)
    check_memory(factory.model_class, config, smaller_sizes(options))

    # The weights, drawn in float32.
    config.dtype = None
    try:
        model = factory.from_config(config, options.source)
    except OSError as error:  # from the Hub
        if options.source in bundled_checkpoints():
            raise no_weights(options, factory) from error
        raise UsageError(str(error)) from error

    with lock(folder):
        check_new_folder(folder)
        save_start(model, tokenizer, factory, options, folder)
    print(f"{folder}: {model.load_report}")
    print(f"{model.num_parameters():,} parameters. The model is not trained; train it with, say:")
    print(f"synpre finetune DATA --init weights --checkpoint {folder}")
    return 0


def check_source(options: InitOptions, is_needed: bool) -> None:
    """Raise UsageError where --from is missing, or given and not read."""
    from hf_synpre.initialization import SCHEMES

    free = [name for name, scheme in SCHEMES.items() if not scheme.needs_checkpoint]
    if options.source is None and is_needed:
        raise UsageError(
            f"Scheme {options.scheme} reads a checkpoint, and --from was not given; name one "
            "(a folder, a Hub id, or one of the package, as synpre/t5-mini-set), or give a scheme "
            f"that needs none: {', '.join(free)}."
        )
    if options.source is not None and not is_needed:
        raise UsageError(
            f"--from is {options.source}, and scheme {options.scheme} reads no checkpoint; leave "
            "one of them out."
        )


def no_weights(options: InitOptions, factory: "StatisticsInit") -> UsageError:
    """Return the error on weights that are read of a checkpoint of the package, which has none."""
    if factory.scheme.reads_weights:
        given, instead = f"--scheme {options.scheme}", "--scheme per_param_mean_sd"
    else:
        given, instead = f"--embeddings {options.embeddings}", "--embeddings fresh"
    return UsageError(
        f"{given} reads weights, and of {options.source} only its statistics are bundled; give "
        f"{instead}, or to --from the folder of its weights (model_cards/ of a clone has some)."
    )


def smaller_sizes(options: InitOptions) -> str:
    """Return what to do about a model that has no room in memory."""
    if options.model and options.source is not None:
        return (
            f"leave {options.model} out for the sizes of {options.source}, or give smaller ones "
            "with --config_overrides"
        )
    return "give smaller sizes with --config_overrides, or another architecture"


def check_new_folder(folder: Path) -> None:
    """Raise UsageError where a folder is not free."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there and holds something; give another --output_dir.")


def find_tokenizer(options: InitOptions) -> "PreTrainedTokenizerBase | None":
    """Return the tokenizer that is named, else that of the architecture's or source's folder."""
    from hf_synpre.data.tokenizers import read_tokenizer
    from hf_synpre.initialization.checkpoints import has_tokenizer

    if options.vocabulary is not None:
        return None
    if options.tokenizer_name is not None:
        return tokenizer_of_flag(options.tokenizer_name, "tokenizer_name")
    if options.model and not is_architecture(options.model) and has_tokenizer(options.model):
        return read_tokenizer(options.model)
    if options.source is not None and has_tokenizer(options.source):
        return read_tokenizer(options.source)
    return None


def find_config(
    options: InitOptions, tokenizer: "PreTrainedTokenizerBase | None"
) -> "PreTrainedConfig":
    """Return the config of the model.

    Its ids are those of a tokenizer that is named, or that does not come with the config. Otherwise
    the config keeps its own: many checkpoints have more rows of embeddings than ids.
    """
    from hf_synpre.initialization.checkpoints import refuse_short_name
    from hf_synpre.models.spec import ModelSpec
    from hf_synpre.vocabulary import as_vocabulary

    place = options.model or str(options.source)
    refuse_short_name(place)
    is_type = bool(options.model) and is_architecture(place)
    if is_type and Path(place, "config.json").exists():
        logger.warning(
            "%s is taken for the architecture of transformers; write ./%s for the folder.",
            place,
            place,
        )
    if not options.model and Path(place).is_file():  # a statistics file lies beside its config
        place = str(Path(place).parent)

    values: dict[str, Any] = {"overrides": options.overrides}
    values["model_type" if is_type else "config_name"] = place
    spec = build_spec(ModelSpec, values, "options")

    if options.vocabulary is not None:
        return spec.config(as_vocabulary(options.vocabulary))
    has_own_ids = options.tokenizer_name is None and not is_type
    if tokenizer is None or has_own_ids:
        return spec.config(None)
    return spec.config(as_vocabulary(tokenizer))


def is_architecture(name: str) -> bool:
    """Say whether a name is a model_type of transformers, and no folder or Hub id."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return name in CONFIG_MAPPING or not ("/" in name or Path(name).exists())


def save_start(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase | None",
    factory: "StatisticsInit",
    options: InitOptions,
    folder: Path,
) -> None:
    """Write a model that was made without training; the folder appears with all its files at once.

    Args:
        model: the model, in float32, with its load_report.
        tokenizer: its tokenizer; None leaves a folder that AutoTokenizer refuses.
        factory: what made the model.
        options: where its weights came from, and their dtype.
        folder: the folder.
    """
    from hf_synpre.hub.cards import CARD
    from hf_synpre.hub.start_card import RECORD_FILE, start_card
    from hf_synpre.initialization.schemes import FILLS
    from hf_synpre.models.saving import complete_tokenizer, refuse_tokenizer
    from hf_synpre.provenance import without_local_paths, write_facts
    from hf_synpre.versions import versions

    made_with = versions()
    record = without_local_paths(
        {
            "start": repr(factory),
            "scheme": options.scheme,
            "fill": FILLS[factory.scheme.fill],
            "paper": factory.scheme.paper,
            "seed": options.seed,
            "from": options.source,
            "parameters": model.num_parameters(),
            "weights": model.load_report.as_json(),
            "versions": made_with,
        }
    )
    facts = {name: record[name] for name in ("scheme", "seed", "from") if record[name] is not None}
    facts |= {"tokens": 0, "commit": made_with["commit"], "hf_synpre": made_with["hf_synpre"]}

    getattr(model, DTYPES[options.dtype])()
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial)
        write_facts(partial, facts)
        if tokenizer is None:
            refuse_tokenizer(partial)
        else:
            complete_tokenizer(tokenizer, model).save_pretrained(partial)
        write_json(partial / RECORD_FILE, record)
        write_text(partial / CARD, start_card(partial, folder.name))


def scheme_help() -> str:
    """Return the help of --scheme, which lists all schemes."""
    from hf_synpre.initialization import SCHEMES

    reading = [name for name, scheme in SCHEMES.items() if scheme.needs_checkpoint]
    free = [name for name, scheme in SCHEMES.items() if not scheme.needs_checkpoint]
    return (
        f"What fills the weights (docs/statistics.md). With --from: {', '.join(reading)}. Without: "
        f"{', '.join(free)}."
    )


INIT = Verb(
    name="init",
    summary="Write a model that starts from statistics or another scheme, without training.",
    run=init,
    flag_sets=lambda: [
        FlagSet(
            InitOptions,
            names={"source": "from", "overrides": "config_overrides"},
            helps={"scheme": scheme_help()},
        )
    ],
    positional="model",
    needs_positional=False,
    examples=(
        "t5 --from synpre/t5-mini-set --config_overrides d_model=256 -o runs/t5-start",
        "--from runs/set --scheme permuted_weights -o runs/permuted",
    ),
    when_stopped="nothing was written",
)
