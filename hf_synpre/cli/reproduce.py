"""`synpre reproduce`: a card in, the same rows or weights out, compared by their sha256."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb
from hf_synpre.config import option
from hf_synpre.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_synpre.data.corpora import Corpus
    from hf_synpre.hub.reproduce import PublishedRun


@dataclass
class ReproduceOptions:
    """What `synpre reproduce` takes."""

    source: str = option(
        "A folder with a card (README.md), or a dataset's or a model's id on the Hub.", ""
    )
    revision: str | None = option("Branch, tag or commit on the Hub.", None)
    output_dir: str | None = option(
        "A folder for the rows or the model; nothing is kept without it.", None
    )


@dataclass
class DatasetOptions:
    """What it takes of a dataset."""

    config: str | None = option("One configuration of the dataset; all without it.", None)


@dataclass
class ModelOptions:
    """What it takes of a model that was pre-trained on text or with a tokenizer."""

    corpus: str | None = option(
        "The text, a file, folder or Hub id, where it is not at the place that the card names.",
        None,
    )
    data_dir: str | None = option("Folder of a local copy of the corpus in Hub layout.", None)
    tokenizer_name: str | None = option(
        "Folder or Hub id of the tokenizer, where the model's folder or repository has none.", None
    )


def reproduce(arguments: Arguments) -> int:
    """Make a dataset's rows or a model's weights again; exit code 1 where they differ."""
    from hf_synpre.hub.reproduce import card_of, read_run

    options = arguments.build(ReproduceOptions)
    if not options.source:
        raise UsageError("reproduce needs a folder or a Hub id; write `synpre reproduce me/set`.")
    kind, entry = card_of(options.source, options.revision)
    if kind == "dataset":
        refuse_flags(arguments, ModelOptions, f"{options.source} is a dataset")
        return rebuild(options, arguments.build(DatasetOptions).config)
    refuse_flags(arguments, DatasetOptions, f"{options.source} is a model")

    run = read_run(options.source, entry)
    model_options = arguments.build(ModelOptions)
    if options.output_dir is not None:
        return retrain(run, model_options, Path(options.output_dir))
    with tempfile.TemporaryDirectory() as temporary:
        return retrain(run, model_options, Path(temporary) / "model")


def refuse_flags(arguments: Arguments, options: type, reason: str) -> None:
    """Raise UsageError where a flag was given that the other kind of card has."""
    for name in arguments.of(options):
        raise UsageError(f"--{name} was given, and {reason}; leave it out.")


def rebuild(options: ReproduceOptions, config: str | None) -> int:
    """Generate the rows of a dataset again and compare them; return the exit code."""
    from hf_synpre import hub

    is_equal = hub.rebuild(
        options.source,
        config=config,
        revision=options.revision,
        output_dir=options.output_dir,
    )
    return 0 if is_equal else 1


def retrain(run: "PublishedRun", options: ModelOptions, folder: Path) -> int:
    """Train a model again and compare its weights; return the exit code.

    Args:
        run: the run that the card describes.
        options: where its text and its tokenizer are.
        folder: where the model goes.
    """
    from hf_synpre.cli.pretrain import has_terminal, shown
    from hf_synpre.hub.reproduce import reproduce_weights
    from hf_synpre.training.run_folder import check_run_folder

    check_run_folder(folder)
    corpus = find_corpus(run, options)
    tokenizer = find_tokenizer(run, options, corpus)
    with shown(f"the run of {run.source}"):
        lines = reproduce_weights(
            run, folder, corpus=corpus, tokenizer=tokenizer, quiet=not has_terminal()
        )
    if not lines:
        print(f"equal: the weights have the card's sha256 {run.weights_sha256}")
        return 0
    print("\n".join(["different: " + lines[0], *[f"  {line}" for line in lines[1:]]]))
    return 1


def find_corpus(run: "PublishedRun", options: ModelOptions) -> "Corpus | None":
    """Return the text of a run, None for a run on a synthetic task.

    Raises:
        UsageError: the text is not here.
    """
    from hf_synpre.cli.self_pretrain import open_dataset_corpus
    from hf_synpre.data.corpora import open_corpus

    if run.spec.corpus is None:
        return None
    name = options.corpus or run.spec.corpus
    try:
        if run.spec.text is None:
            return open_corpus(name, options.data_dir)
        return open_dataset_corpus(name, options.data_dir, run.spec.text)
    except UsageError as error:
        raise run.cannot(
            f"the corpus {name} is missing here ({error}) --corpus names its place."
        ) from error


def find_tokenizer(
    run: "PublishedRun", options: ModelOptions, corpus: "Corpus | None"
) -> "PreTrainedTokenizerBase | None":
    """Return the tokenizer of a run, None for a run on plain ids.

    It is the one that is named, or that of the model's folder or repository, or it is trained on
    the corpus again.

    Raises:
        UsageError: it is none of these.
    """
    from hf_synpre.data.corpus_cache import stored_tokenizer
    from hf_synpre.data.tokenizers import CASE_KEPT, read_tokenizer
    from hf_synpre.models.families import model_family
    from hf_synpre.vocabulary import Vocabulary

    if run.tokenizer is None:
        return None
    if options.tokenizer_name is not None:
        return read_tokenizer(options.tokenizer_name)

    # One that hf_synpre trained on this corpus is trained again: a card alone is enough.
    if corpus is not None and run.tokenizer.get("origin") != "stock":
        family = model_family(run.model.config(Vocabulary.plain(64)))
        return stored_tokenizer(
            corpus,
            run.tokenizer["size"],
            encoder=family != "seq2seq",
            lowercase=not str(run.tokenizer.get("origin")).endswith(CASE_KEPT),
        )
    try:
        return read_tokenizer(run.source)
    except UsageError as error:
        raise run.cannot(
            "its tokenizer is missing here; --tokenizer_name names it, a folder or Hub id."
        ) from error


REPRODUCE = Verb(
    name="reproduce",
    summary="Make the rows of a dataset or the weights of a model again from its card; compare.",
    run=reproduce,
    flag_sets=lambda: [
        FlagSet(ReproduceOptions),
        FlagSet(DatasetOptions, "a dataset"),
        FlagSet(ModelOptions, "a model"),
        IMPORT_FLAG,
    ],
    positional="source",
    needs_positional=True,
    examples=("synpre/set --config small", "runs/self --output_dir runs/again"),
)
