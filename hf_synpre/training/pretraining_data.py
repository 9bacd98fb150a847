"""Layer 3: what a pre-training run reads: rows of a task or of text, laid out for an objective and a kind of model."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_synpre.data.corpora import Corpus, open_corpus
from hf_synpre.data.masking import (
    MaskedDataset,
    ReplacedRows,
    SpanCorruptionDataset,
    noise_counts,
)
from hf_synpre.data.packing import (
    CausalLayout,
    LengthBuckets,
    PackedDataset,
    RowDataset,
    Seq2SeqLayout,
)
from hf_synpre.data.synthetic import SyntheticDataset
from hf_synpre.data.windows import (
    EncoderRows,
    FullWindows,
    NextTokenDataset,
    SentenceWindows,
    TextWindows,
    encode_corpus,
)
from hf_synpre.errors import UsageError, choose
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

logger = logging.getLogger(__name__)
ENDLESS = 2**62
TEXT_TASKS = ("nesting_language",)
BATCHINGS = ("padded", "bucketed", "packed")
# kind of model -> objectives: the usual one for rows with a target, the usual one for text, others
OBJECTIVES = {
    "seq2seq": ("seq2seq", "span_corruption"),
    "causal": ("causal", "causal"),
    "mlm": ("mlm", "mlm", "rtd"),
}
MASKING = {
    "mlm": {"masked_percent": 80, "random_percent": 10},
    "rtd": {"masked_percent": 85, "random_percent": 0},
}


@dataclass
class Source:
    """Rows to pre-train on, rows to judge competence on, and whether they hold several examples (segments matter).

    `epoch_rows` are the rows that hold the corpus once, as far as the run reads it; None where rows are made without end.
    """

    train: Any
    validation: Any
    packed: bool = False
    epoch_rows: float | None = None


def objective_of(kind: str, given: str | None, is_text: bool) -> str:
    """Return the objective of a run: `given`, or the usual one of the kind of model. Raises UsageError."""
    allowed = dict.fromkeys(OBJECTIVES[kind])
    objective = (
        choose(f"objective of a {kind} model", given, allowed)
        if given
        else usual_objective(kind, is_text)
    )
    if objective == "seq2seq" and is_text:
        raise UsageError(
            "Text has no targets, so the objective seq2seq cannot apply; give span_corruption."
        )
    return objective


def usual_objective(kind: str, is_text: bool) -> str:
    """Return the objective that a kind of model usually has."""
    return OBJECTIVES[kind][is_text]


def open_source(
    spec: Any,
    kind: str,
    vocabulary: Vocabulary,
    *,
    rows: int,
    batch: int,
    longest: int | None = None,
    corpus: Corpus | None = None,
    compact: bool = False,
) -> Source:
    """Return the rows of a run: `rows` for training in batches of `batch`; `longest` is the model's table of positions.

    `corpus` is the text, what `spec.corpus` names without it; with `compact` the model looks at masked positions alone.
    """
    if corpus is None and spec.corpus is not None:
        corpus = open_corpus(spec.corpus, text=spec.text)
    is_text = spec.corpus is not None or spec.task in TEXT_TASKS
    objective = objective_of(kind, spec.objective, is_text)
    if is_text or objective == "span_corruption":
        if longest is not None and spec.window > longest:
            raise UsageError(
                f"window is {spec.window}, the model's table of positions has {longest}; give a shorter window or a longer "
                "table (max_position_embeddings)."
            )
        windows = [
            text_windows(spec, objective, vocabulary, *part, corpus) for part in parts(spec, rows)
        ]
        splits = zip(("train", "validation"), windows, strict=True)
        found = [text_rows(spec, objective, vocabulary, *part, compact) for part in splits]
        return Source(*found, epoch_rows=getattr(windows[0], "epoch_rows", None))
    layout = layout_of(spec, objective, vocabulary)
    refuse_longer(spec, layout, vocabulary, longest)
    size = ENDLESS if spec.batching == "packed" else rows
    examples = examples_of(spec, vocabulary, size=size, ramp=spec.curriculum_steps * batch)
    validation = examples_of(spec, vocabulary, size=spec.validation_examples, split="validation")
    train = arranged(spec, examples, layout, rows, batch)
    found = [
        masked(spec, data, vocabulary, split, objective, compact) if objective in MASKING else data
        for data, split in ((train, "train"), (RowDataset(validation, layout), "validation"))
    ]
    return Source(*found, packed=spec.batching == "packed")


def rows_of(spec: Any, kind: str, vocabulary: Vocabulary) -> int:
    """Return the rows of a step of `spec.batch_size` examples: as many, but for packed rows, of which a multiple of 8."""
    if spec.batching != "packed" or spec.corpus is not None or spec.task in TEXT_TASKS:
        return spec.batch_size
    layout = layout_of(spec, objective_of(kind, spec.objective, False), vocabulary)
    probe = PackedDataset(
        examples_of(spec, vocabulary, size=ENDLESS), layout, size=1, length=spec.row_length
    )
    return max(1, round(spec.batch_size / probe.examples_per_row / 8)) * 8


def examples_of(spec: Any, vocabulary: Vocabulary, **more: Any) -> SyntheticDataset:
    """Return the task's examples."""
    return SyntheticDataset(
        spec.task, vocabulary=vocabulary, seed=spec.seed, **spec.parameters, **more
    )


def parts(spec: Any, rows: int) -> Iterator[tuple[str, int]]:
    """Yield (split, rows) of training and validation."""
    yield from (("train", rows), ("validation", spec.validation_examples))


def refuse_longer(spec: Any, layout: Any, vocabulary: Vocabulary, longest: int | None) -> None:
    """Raise UsageError where one of the first 4,096 examples is longer than the model's table of positions."""
    if longest is None:
        return
    size = max(
        max(layout.sizes(e))
        for e in examples_of(spec, vocabulary, size=4096).__getitems__(list(range(4096)))
    )
    if size > longest:
        raise UsageError(
            f"Examples of {spec.task} take up to {size} positions, the model's table has {longest}; give shorter ones "
            "(--parameters max_length=...) or a longer table (--config_overrides)."
        )


def layout_of(spec: Any, objective: str, vocabulary: Vocabulary) -> Any:
    """Return how examples lie in rows."""
    if objective == "seq2seq":
        return Seq2SeqLayout(vocabulary.eos, vocabulary.pad)
    loss_on = spec.loss_on if objective == "causal" else "all"
    return CausalLayout(vocabulary.eos, vocabulary.pad, loss_on=loss_on)


def arranged(spec: Any, dataset: Any, layout: Any, rows: int, batch: int) -> Any:
    """Return the training rows, batched as the run wants them."""
    if spec.batching == "packed":
        return PackedDataset(dataset, layout, size=rows, length=spec.row_length)
    dataset = LengthBuckets(dataset, batch) if spec.batching == "bucketed" else dataset
    return RowDataset(dataset, layout)


def masked(
    spec: Any, rows: Any, vocabulary: Vocabulary, split: str, objective: str, compact: bool
) -> Any:
    """Return rows with hidden ids; where no id is a mask the padding id serves, unseen otherwise."""
    tokenizer = vocabulary.tokenizer
    mask = getattr(tokenizer, "mask_token_id", None)
    special = (
        set() if tokenizer is None else {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    )
    rows = MaskedDataset(
        rows,
        mask=vocabulary.pad if mask is None else mask,
        regular_tokens=(vocabulary.first_regular, vocabulary.regular_count),
        special_tokens=tuple(sorted(special | {vocabulary.eos, vocabulary.pad})),
        compact=compact,
        split=split,
        seed=spec.seed,
        **MASKING[objective],
    )
    return ReplacedRows(rows, split=split, seed=spec.seed) if objective == "rtd" else rows


def text_windows(
    spec: Any, objective: str, vocabulary: Vocabulary, split: str, size: int, corpus: Corpus | None
) -> TextWindows | FullWindows | SentenceWindows:
    """Return `size` windows of ids, natural or drawn; a corpus is read as far as the run goes (but 1,000 at least)."""
    if corpus is None:
        sentences = examples_of(spec, vocabulary, size=ENDLESS, split=split)
        return SentenceWindows(sentences, size=size, length=spec.window)
    if vocabulary.tokenizer is None:
        raise UsageError(
            "Text needs a tokenizer; give --tokenizer_name (a folder or Hub id) instead of a vocabulary size."
        )
    enough = max(size, 1000) * spec.window
    ids = encode_corpus(corpus.texts(split), vocabulary.tokenizer, enough, vocabulary.eos)
    if spec.text is None:
        return TextWindows(ids, size=size, length=spec.window, split=split, seed=spec.seed)
    if len(ids) == enough and split == "train" and spec.text.order == "natural":
        logger.warning(
            "the run reads the first %d ids of its corpus, in their order; else order shuffled_rows",
            enough,
        )
    return full_windows(spec, objective, split, size, ids)


def full_windows(spec: Any, objective: str, split: str, size: int, ids: np.ndarray) -> FullWindows:
    """Return the windows of a corpus cut end to end, with room for a frame; validation has each once, and short ones too."""
    length = spec.window - (2 + spec.pairs if objective in MASKING else 0)
    if split == "validation":
        length = min(length, len(ids))
        size = min(size, -(-len(ids) // length))
    return FullWindows(
        ids,
        size=size,
        length=length,
        wrap=objective == "span_corruption",
        split=split,
        seed=spec.seed,
    )


def text_rows(
    spec: Any, objective: str, vocabulary: Vocabulary, split: str, windows: Any, compact: bool
) -> Any:
    """Return windows of text as rows of the objective; those cut end to end get a frame where ids are hidden."""
    if objective == "span_corruption":
        return span_rows(spec, vocabulary, windows, split)
    if objective == "causal":
        return NextTokenDataset(windows)
    framed = isinstance(windows, FullWindows)
    rows = encoder_rows(spec, vocabulary, windows, split) if framed else NextTokenDataset(windows)
    return masked(spec, rows, vocabulary, split, objective, compact)


def encoder_rows(
    spec: Any, vocabulary: Vocabulary, windows: FullWindows, split: str
) -> EncoderRows:
    """Return windows between the ids that an encoder's inputs begin and end with."""
    start = vocabulary.tokenizer.cls_token_id
    start = vocabulary.eos if start is None else start
    return EncoderRows(
        windows, start=start, end=vocabulary.eos, pairs=spec.pairs, split=split, seed=spec.seed
    )


def span_rows(spec: Any, vocabulary: Vocabulary, windows: Any, split: str) -> RowDataset:
    """Return windows as rows of span corruption."""
    first = sentinels(vocabulary, noise_counts(spec.window)[1], spec.window)
    rows = SpanCorruptionDataset(windows, sentinel=first, split=split, seed=spec.seed)
    return RowDataset(rows, Seq2SeqLayout(vocabulary.eos, vocabulary.pad))


def sentinels(vocabulary: Vocabulary, spans: int, window: int) -> int:
    """Return the first sentinel id of `spans` descending ones. Raises UsageError where the vocabulary has too few."""
    tokenizer = vocabulary.tokenizer
    if tokenizer is None:
        first, last = vocabulary.size - 1, vocabulary.size - spans
        enough = last >= vocabulary.first_regular + vocabulary.regular_count
    else:
        first, last = tokenizer.convert_tokens_to_ids(["<extra_id_0>", f"<extra_id_{spans - 1}>"])
        enough = first not in (None, tokenizer.unk_token_id) and last == first - (spans - 1)
    if not enough:
        raise UsageError(
            f"A window of {window} hides {spans} spans; the vocabulary has not so many sentinels (<extra_id_*>). "
            "Give a shorter window."
        )
    return first


def check_source(spec: Any) -> None:
    """Raise UsageError where a run's rows cannot be made, as far as that shows before the model is known."""
    choose("batching", spec.batching, BATCHINGS)
    choose("loss_on", spec.loss_on, ("targets", "all"))
    if spec.window < 4:
        raise UsageError(f"window is {spec.window}; give 4 ids or more.")
    if spec.curriculum_steps < 0:
        raise UsageError(
            f"curriculum_steps is {spec.curriculum_steps}; give 0 (no curriculum) or more."
        )
    if spec.objective == "rtd" and spec.batching == "packed":
        raise UsageError(
            "Rows of several examples (batching packed) do not reach a discriminator; give padded or bucketed."
        )
    if spec.batching == "packed" and spec.curriculum_steps:
        raise UsageError(
            "Packed rows have one shape, so a curriculum by length (curriculum_steps) cannot apply; give one or the other."
        )
    if spec.task is not None:
        examples_of(spec, as_vocabulary(spec.vocabulary), size=1, ramp=spec.curriculum_steps)
