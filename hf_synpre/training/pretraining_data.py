"""A pre-training spec, a model family and a vocabulary -> rows to train on and rows to evaluate on.

1. Tokens: examples of the task (`PretrainingSpec.open_task`), or windows of text (`text_windows`).
2. Rows of a task: examples laid out for the objective, padded, bucketed or packed (`task_rows`).
   Rows of text: windows made into rows by the objective's function (`text_rows`, `ROWS_OF_TEXT`).
3. Rows whose ids are to be guessed: some of them masked, or replaced (`masked_rows`).
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from hf_synpre.data.buckets import MEGABATCH, LengthBuckets, RowsByLength
from hf_synpre.data.corpora import Corpus, open_corpus
from hf_synpre.data.masking import (
    HiddenAnswers,
    MaskedAnswers,
    MaskedDataset,
    ReplacedRows,
    SpanCorruptionDataset,
    all_sentinels,
    never_masked,
    sentinel_ids,
)
from hf_synpre.data.packing import (
    CausalLayout,
    PackedDataset,
    RowDataset,
    Seq2SeqLayout,
    SequenceLayout,
)
from hf_synpre.data.rows import IGNORED, BatchDataset, MapDataset, Row
from hf_synpre.data.token_files import corpus_tokens
from hf_synpre.data.windows import (
    EncoderRows,
    FullWindows,
    NextTokenDataset,
    SentenceWindows,
    TextWindows,
)
from hf_synpre.errors import UsageError
from hf_synpre.tasks import get_task
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

Windows = TextWindows | FullWindows | SentenceWindows
Layout = Seq2SeqLayout | CausalLayout | SequenceLayout

# The size of a task's dataset that a run reads as far as it needs. No run needs so many rows, and
# they cost nothing, because each is generated from its index when it is read.
ENDLESS = 2**62
# Of 100 masked tokens, how many become the mask id and how many a random id; the others stay as
# they are. Masked language modelling after Devlin et al. 2019, replaced tokens after ELECTRA.
MASKING = {
    "mlm": {"masked_percent": 80, "random_percent": 10},
    "rtd": {"masked_percent": 85, "random_percent": 0},
}
# A corpus is read as far as a run needs it, but at least for so many windows, so that even a short
# run sees more than its first lines.
FEWEST_WINDOWS = 1000
# Examples by whose lengths a task is checked against the model's position embeddings.
PROBED_EXAMPLES = 4096


@dataclass(frozen=True)
class PretrainingRows:
    """The rows of a pre-training run, made for its objective: two map-style datasets."""

    train: MapDataset[Row]
    validation: MapDataset[Row]
    # Whether a train row holds several examples, which the model must be made to tell apart.
    packed: bool = False
    # How many train rows make an epoch of the corpus; None where rows are generated and have no
    # end, and where the run reads the first ids of a longer corpus.
    epoch_rows: float | None = None
    # How many ids of the corpus the rows are made of, the first ones; None without a corpus.
    corpus_ids: int | None = None


@dataclass(frozen=True)
class RowOptions:
    """What decides the rows of one split, beside their tokens."""

    spec: PretrainingSpec
    objective: str
    vocabulary: Vocabulary
    # "train" or "validation"; they draw different random numbers.
    split: str
    # Whether rows have labels for their masked positions only, because the head runs only there.
    compact: bool


def open_rows(
    spec: PretrainingSpec,
    model_family: str,
    vocabulary: Vocabulary,
    *,
    rows: int,
    batch_size: int,
    longest_input: int | None = None,
    positions_field: str = "max_position_embeddings",
    corpus: Corpus | None = None,
    compact: bool = False,
) -> PretrainingRows:
    """Return the rows of a run.

    Args:
        spec: what is pre-trained on.
        model_family: "seq2seq", "causal" or "mlm".
        vocabulary: whose ids the rows have; text needs one with a tokenizer.
        rows: how many the run trains on.
        batch_size: the rows of a step; buckets and the curriculum are made of steps.
        longest_input: how many positions the model has embeddings for; None for any number.
        positions_field: what the model's config calls that number, for messages.
        corpus: the text, instead of what `spec.corpus` names.
        compact: the model's head runs at masked positions only, so rows have labels for those only.

    Raises:
        UsageError: rows that are longer than the model's inputs, a text without a tokenizer, or an
            objective that this model or text cannot have.
    """
    if corpus is None and spec.corpus is not None:
        corpus = open_corpus(spec.corpus, text=spec.text)
    objective = spec.objective_for(model_family)

    # Windows of text are all equally long; a task's examples are not.
    if spec.reads_text or objective == "span_corruption":
        if longest_input is not None and spec.window > longest_input:
            raise UsageError(
                f"window is {spec.window}, the model has position embeddings for {longest_input}; "
                "give a shorter window or more of them "
                f"(--config_overrides {positions_field}=...)."
            )
        return text_rows(spec, objective, vocabulary, rows, corpus, compact)

    check_example_lengths(spec, objective, vocabulary, longest_input, positions_field)
    return task_rows(spec, objective, vocabulary, rows, batch_size, compact)


def rows_per_step(spec: PretrainingSpec, model_family: str, vocabulary: Vocabulary) -> int:
    """Return the rows of a step that has `spec.batch_size` examples.

    Packed rows hold several examples: there are as many rows as hold `spec.batch_size` examples,
    rounded to a multiple of 8.
    """
    assert spec.batch_size is not None, "the spec counts rows, not examples"
    if spec.batching != "packed" or spec.reads_text:
        return spec.batch_size
    objective = spec.objective_for(model_family)
    examples = open_examples(spec, objective, vocabulary, ENDLESS)
    layout = example_layout(spec, objective, vocabulary)
    packed = PackedDataset(examples, layout, size=1, length=spec.row_length)
    return max(1, round(spec.batch_size / packed.examples_per_row / 8)) * 8


# Rows of a task.


def task_rows(
    spec: PretrainingSpec,
    objective: str,
    vocabulary: Vocabulary,
    rows: int,
    batch_size: int,
    compact: bool,
) -> PretrainingRows:
    """Return a task's examples as rows; arguments as for `open_rows`."""
    layout = example_layout(spec, objective, vocabulary)

    # Training rows: several examples a row, or one; of similar lengths in a batch, or as they come.
    train: MapDataset[Row]
    if spec.batching == "packed":
        examples = open_examples(spec, objective, vocabulary, ENDLESS)
        train = PackedDataset(examples, layout, size=rows, length=spec.row_length)
    else:
        # Buckets are made of whole megabatches, so that the last steps have little padding too.
        is_bucketed = spec.batching == "bucketed"
        megabatch_rows = MEGABATCH * batch_size if is_bucketed else 1
        size = math.ceil(rows / megabatch_rows) * megabatch_rows
        curriculum_rows = spec.curriculum_steps * batch_size
        examples = open_examples(spec, objective, vocabulary, size, curriculum_rows=curriculum_rows)
        if is_bucketed:
            apart = isinstance(layout, Seq2SeqLayout)
            buckets = LengthBuckets(examples, batch_size, apart=apart, size=rows)
            train = RowDataset(buckets, layout)
        else:
            train = RowDataset(examples, layout)

    # Validation rows: one example each, always the same.
    examples = open_examples(
        spec, objective, vocabulary, spec.validation_examples, split="validation"
    )
    validation: MapDataset[Row] = RowDataset(examples, layout)

    if objective in MASKING:
        train = masked_rows(train, RowOptions(spec, objective, vocabulary, "train", compact))
        options = RowOptions(spec, objective, vocabulary, "validation", compact)
        validation = masked_rows(validation, options)
    return PretrainingRows(train, RowsByLength(validation), packed=spec.batching == "packed")


def open_examples(
    spec: PretrainingSpec,
    objective: str,
    vocabulary: Vocabulary,
    size: int,
    *,
    split: str = "train",
    curriculum_rows: int = 0,
) -> BatchDataset:
    """Return a task's examples, as a model of the objective reads them.

    An encoder-decoder reads sequences with their scored tokens hidden; see `HiddenAnswers`. Other
    arguments and errors are those of `PretrainingSpec.open_task`.
    """
    examples = spec.open_task(vocabulary, size=size, split=split, curriculum_rows=curriculum_rows)
    if objective != "seq2seq" or not examples.stream.task.is_sequence:
        return examples
    sentinels = all_sentinels(vocabulary)
    return HiddenAnswers(examples, sentinels=sentinels, split=split, seed=spec.seed)


def example_layout(spec: PretrainingSpec, objective: str, vocabulary: Vocabulary) -> Layout:
    """Return how a task's examples lie in rows: as input and target, or one after the other."""
    if objective == "seq2seq":
        return Seq2SeqLayout(vocabulary.eos, vocabulary.pad)
    assert spec.task is not None, "a corpus has no examples"
    if get_task(spec.task).is_sequence:
        loss_on = spec.loss_on if objective == "causal" else "targets"
        return SequenceLayout(vocabulary.pad, loss_on=loss_on)
    # Masking replaces the labels, whatever they are.
    loss_on = spec.loss_on if objective == "causal" else "all"
    return CausalLayout(vocabulary.eos, vocabulary.pad, loss_on=loss_on)


def check_example_lengths(
    spec: PretrainingSpec,
    objective: str,
    vocabulary: Vocabulary,
    longest_input: int | None,
    positions_field: str,
) -> None:
    """Raise UsageError where one of the task's first examples is longer than the model's inputs."""
    if longest_input is None:
        return
    layout = example_layout(spec, objective, vocabulary)
    examples = open_examples(spec, objective, vocabulary, PROBED_EXAMPLES)

    longest = 0
    for example in examples.__getitems__(list(range(PROBED_EXAMPLES))):
        longest = max(longest, *layout.sizes(example))
    if longest > longest_input:
        parameters = get_task(spec.task or "").parameters
        lengths = [f" {name}=..." for name in ("max_length", "length") if name in parameters]
        raise UsageError(
            f"Examples of {spec.task} take up to {longest} positions, the model has position "
            f"embeddings for {longest_input}; give shorter ones (--parameters{''.join(lengths)}) "
            f"or more embeddings (--config_overrides {positions_field}=...)."
        )


# Rows of text.


def text_rows(
    spec: PretrainingSpec,
    objective: str,
    vocabulary: Vocabulary,
    rows: int,
    corpus: Corpus | None,
    compact: bool,
) -> PretrainingRows:
    """Return text as rows; arguments as for `open_rows`. Without a corpus the task is the text."""
    # Before any text is read: a window may hide more spans than the vocabulary has sentinels.
    if objective == "span_corruption":
        sentinel_ids(vocabulary, spec.window)

    # The small split first: where it is missing that is said before the long reading of the other.
    validation_windows = text_windows(
        spec, objective, vocabulary, "validation", spec.validation_examples, corpus
    )
    train_windows = text_windows(spec, objective, vocabulary, "train", rows, corpus)

    # What is read of the corpus. Of a longer one nobody knows how many ids it has.
    epoch_rows, corpus_ids = None, None
    if not isinstance(train_windows, SentenceWindows):
        corpus_ids = len(train_windows.tokens)
        if corpus_ids < most_ids(spec, rows):
            epoch_rows = train_windows.epoch_rows

    make_rows = ROWS_OF_TEXT[objective]
    train = RowOptions(spec, objective, vocabulary, "train", compact)
    validation = RowOptions(spec, objective, vocabulary, "validation", compact)
    return PretrainingRows(
        make_rows(train_windows, train),
        make_rows(validation_windows, validation),
        epoch_rows=epoch_rows,
        corpus_ids=corpus_ids,
    )


def text_windows(
    spec: PretrainingSpec,
    objective: str,
    vocabulary: Vocabulary,
    split: str,
    size: int,
    corpus: Corpus | None,
) -> Windows:
    """Return windows of ids.

    Args:
        spec: its `window` is the length of a row, its `text` says that windows are cut end to end.
        objective: of the rows that the windows become.
        vocabulary: whose tokenizer makes ids of a corpus.
        split: "train" or "validation".
        size: how many windows; a validation split has each of its windows once, and may have fewer.
        corpus: the text; None for the sentences of `spec.task`.
    """
    # Sentences that a task generates.
    if corpus is None:
        sentences = spec.open_task(vocabulary, size=ENDLESS, split=split)
        return SentenceWindows(sentences, size=size, length=spec.window)

    # The ids of the corpus, as far as the run reads it.
    if vocabulary.tokenizer is None:
        raise UsageError(
            "Text needs a tokenizer; give --tokenizer_name (a folder or Hub id) instead of a "
            "vocabulary size."
        )
    most = most_ids(spec, size)
    ids = corpus_tokens(
        corpus,
        split,
        vocabulary.tokenizer,
        vocabulary.eos,
        most,
        special_tokens=spec.special_tokens,
    )
    if spec.text is None and len(ids) == most and split == "train":
        logger.warning(
            "windows come from the first %d ids of the text only; a longer run reads further",
            most,
        )
    if spec.text is None:
        return TextWindows(ids, size=size, length=spec.window, split=split, seed=spec.seed)
    if len(ids) == most and split == "train" and spec.text.order == "natural":
        logger.warning(
            "the run reads the first %d ids of its corpus only, in their order; "
            "give order shuffled_rows to read from all of it",
            most,
        )

    # Windows that are cut end to end, with room for the special tokens of an encoder's row.
    length = spec.window
    if objective in MASKING:
        length -= 3 if spec.pairs else 2
    if split == "validation":
        length = min(length, len(ids))
        size = min(size, -(-len(ids) // length))
    return FullWindows(
        ids,
        size=size,
        length=length,
        wrap=objective == "span_corruption",  # which needs windows of equal length
        split=split,
        seed=spec.seed,
    )


def most_ids(spec: PretrainingSpec, size: int) -> int:
    """Return how many ids of a corpus are read at the most, the first ones, for `size` windows."""
    return max(size, FEWEST_WINDOWS) * spec.window


def span_corruption_rows(windows: Windows, options: RowOptions) -> MapDataset[Row]:
    """Return windows as rows of an encoder-decoder: spans are hidden, the target lists them."""
    spec, vocabulary = options.spec, options.vocabulary
    rows = SpanCorruptionDataset(
        windows,
        sentinel=sentinel_ids(vocabulary, windows.length),
        split=options.split,
        seed=spec.seed,
    )
    return RowDataset(rows, Seq2SeqLayout(vocabulary.eos, vocabulary.pad))


def next_token_rows(windows: Windows, options: RowOptions) -> MapDataset[Row]:
    """Return windows as rows of a decoder: the label of a position is the next id."""
    return NextTokenDataset(windows)


def masked_text_rows(windows: Windows, options: RowOptions) -> MapDataset[Row]:
    """Return windows as rows of an encoder: some ids are masked, and replaced for objective rtd.

    Windows that are cut end to end get the special tokens of the encoder's inputs.
    """
    if not isinstance(windows, FullWindows):
        return masked_rows(NextTokenDataset(windows), options)

    spec, vocabulary = options.spec, options.vocabulary
    start = getattr(vocabulary.tokenizer, "cls_token_id", None)
    if start is None:
        start = vocabulary.eos
    rows = EncoderRows(
        windows,
        start=start,
        end=vocabulary.eos,
        pairs=spec.pairs,
        split=options.split,
        seed=spec.seed,
    )
    return masked_rows(rows, options)


# Objective -> the function that makes rows of windows of text.
ROWS_OF_TEXT: dict[str, Callable[[Windows, RowOptions], MapDataset[Row]]] = {
    "span_corruption": span_corruption_rows,
    "causal": next_token_rows,
    "mlm": masked_text_rows,
    "rtd": masked_text_rows,
}


def masked_rows(rows: MapDataset[Row], options: RowOptions) -> MapDataset[Row]:
    """Return rows with masked tokens, and for objective rtd with draws that replace them.

    A vocabulary without a mask token is masked by its padding id, which the rows of a task hold
    nowhere else.

    Raises:
        UsageError: a tokenizer has no mask token, and text is masked or its padding is also its end
            of sequence.
    """
    spec, vocabulary = options.spec, options.vocabulary
    mask = vocabulary.pad
    tokenizer = vocabulary.tokenizer
    if tokenizer is not None:
        mask_token = getattr(tokenizer, "mask_token_id", None)
        if mask_token is not None:
            mask = mask_token
        elif spec.corpus is not None or vocabulary.pad == vocabulary.eos:
            raise UsageError(
                f"The objective {options.objective} needs a mask token, and the tokenizer has "
                "none; add one (tokenizer.add_special_tokens({'mask_token': '[MASK]'})) and save "
                "it, or give --objective causal with a decoder."
            )

    masked: MapDataset[Row]
    if has_answers(spec, vocabulary):
        masked = MaskedAnswers(rows, mask=mask, compact=options.compact)
    else:
        masked = MaskedDataset(
            rows,
            mask=mask,
            regular_tokens=(vocabulary.first_regular, vocabulary.regular_count),
            special_tokens=never_masked(vocabulary),
            compact=options.compact,
            split=options.split,
            seed=spec.seed,
            **MASKING[options.objective],
        )
    if options.objective == "rtd":
        return ReplacedRows(masked, split=options.split, seed=spec.seed)
    return masked


def loss_positions(spec: PretrainingSpec, objective: str, vocabulary: Vocabulary) -> str:
    """Return which positions of a run's rows carry loss, in words, as results and cards have it."""
    if objective == "rtd":
        return "every token, original or replaced"
    task = None if spec.task is None or spec.reads_text else get_task(spec.task)

    # Targets stand behind their inputs, or in the decoder of an encoder-decoder.
    if task is not None and not task.is_sequence and objective in ("seq2seq", "causal"):
        is_all = objective == "causal" and spec.loss_on == "all"
        return "every token" if is_all else "the target and its end"

    # Sequences of which some tokens are scored.
    if task is not None and has_answers(spec, vocabulary):
        if objective == "causal":
            return "every token" if spec.loss_on == "all" else "the tokens that the task scores"
        done = "masked" if objective == "mlm" else "hidden"
        return f"the tokens that the task scores, all {done}"

    # Text, languages, and targets of an encoder.
    if objective == "causal":
        return "every token"
    return f"tokens that are {'masked' if objective == 'mlm' else 'hidden'} at random"


def has_answers(spec: PretrainingSpec, vocabulary: Vocabulary) -> bool:
    """Say whether the rows of a task are sequences of which some tokens alone are scored."""
    if spec.task is None or not get_task(spec.task).is_sequence:
        return False
    labels = spec.open_task(vocabulary, size=1)[0]["labels"]
    return bool((labels[1:] == IGNORED).any())
