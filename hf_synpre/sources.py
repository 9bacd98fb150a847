"""Layer 3: what a pre-training run reads: rows of a task or of text, laid out for an objective and a kind of model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_synpre import stdlib
from hf_synpre.corpus import (
    MaskedDataset,
    SentenceWindows,
    SpanCorruptionDataset,
    StreamDataset,
    TextWindows,
    encode_corpus,
    noise_counts,
)
from hf_synpre.datasets import LengthBuckets, SyntheticDataset
from hf_synpre.errors import UsageError, choose
from hf_synpre.packing import CausalLayout, PackedDataset, RowDataset, Seq2SeqLayout
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

ENDLESS = 2**62
TEXT_TASKS = ("nesting_language",)
BATCHINGS = ("padded", "bucketed", "packed")
# kind of model -> objectives, the usual one for rows with a target first, the usual one for text last
OBJECTIVES = {"seq2seq": ("seq2seq", "span_corruption"), "causal": ("causal",), "mlm": ("mlm",)}


@dataclass
class Source:
    """Rows to pre-train on, rows to judge competence on, and whether they hold several examples (segments matter)."""

    train: Any
    validation: Any
    packed: bool


def objective_of(kind: str, given: str | None, is_text: bool) -> str:
    """Return the objective of a run: `given`, or the usual one of the kind of model. Raises UsageError."""
    allowed = OBJECTIVES[kind]
    objective = choose(f"objective of a {kind} model", given, allowed) if given else allowed[-1 if is_text else 0]
    if objective == "seq2seq" and is_text:
        raise UsageError("Text has no targets, so the objective seq2seq cannot apply; give span_corruption.")
    return objective


def open_source(
    spec: Any,
    kind: str,
    vocabulary: Vocabulary,
    *,
    rows: int,
    batch: int,
    longest: int | None = None,
    data_dir: str | None = None,
) -> Source:
    """Return the rows of a run: `rows` for training in batches of `batch`; `longest` is the model's table of positions."""
    is_text = spec.corpus is not None or spec.task in TEXT_TASKS
    objective = objective_of(kind, spec.objective, is_text)
    if is_text or objective == "span_corruption":
        if longest is not None and spec.window > longest:
            raise UsageError(
                f"window is {spec.window}, the model's table of positions has {longest}; give a shorter window."
            )
        train, validation = (text_rows(spec, objective, vocabulary, data_dir, *part) for part in parts(spec, rows))
        return Source(train, validation, False)
    layout = layout_of(spec, objective, vocabulary)
    refuse_longer(spec, layout, vocabulary, longest)
    size = ENDLESS if spec.batching == "packed" else rows
    examples = examples_of(spec, vocabulary, size=size, ramp=spec.ramp_steps * batch)
    validation = examples_of(spec, vocabulary, size=spec.validation_examples, split="validation")
    train = arranged(spec, examples, layout, rows, batch)
    found = [
        masked(spec, data, vocabulary, split) if objective == "mlm" else data
        for data, split in ((train, "train"), (RowDataset(validation, layout), "validation"))
    ]
    return Source(*found, spec.batching == "packed")


def rows_of(spec: Any, kind: str, vocabulary: Vocabulary) -> int:
    """Return the rows of a step of `spec.batch_size` examples: as many, but for packed rows, of which a multiple of 8."""
    if spec.batching != "packed" or spec.corpus is not None or spec.task in TEXT_TASKS:
        return spec.batch_size
    layout = layout_of(spec, objective_of(kind, spec.objective, False), vocabulary)
    probe = PackedDataset(examples_of(spec, vocabulary, size=ENDLESS), layout, size=1, length=spec.row_length)
    return max(1, round(spec.batch_size / probe.examples_per_row / 8)) * 8


def examples_of(spec: Any, vocabulary: Vocabulary, **more: Any) -> SyntheticDataset:
    """Return the task's examples."""
    return SyntheticDataset(spec.task, vocabulary=vocabulary, seed=spec.seed, **spec.parameters, **more)


def parts(spec: Any, rows: int) -> Iterator[tuple[str, int]]:
    """Yield (split, rows) of training and validation."""
    yield from (("train", rows), ("validation", spec.validation_examples))


def refuse_longer(spec: Any, layout: Any, vocabulary: Vocabulary, longest: int | None) -> None:
    """Raise UsageError where one of the first 4,096 examples is longer than the model's table of positions."""
    if longest is None:
        return
    size = max(max(layout.sizes(e)) for e in examples_of(spec, vocabulary, size=4096).__getitems__(list(range(4096))))
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


def masked(spec: Any, rows: Any, vocabulary: Vocabulary, split: str) -> MaskedDataset:
    """Return rows for masked language modelling; where no id is a mask the padding id serves, unseen otherwise."""
    mask = getattr(vocabulary.tokenizer, "mask_token_id", None)
    content = vocabulary.first, vocabulary.content
    never = (vocabulary.eos, vocabulary.pad)
    return MaskedDataset(
        rows, mask=vocabulary.pad if mask is None else mask, content=content, never=never, split=split, seed=spec.seed
    )


def text_rows(spec: Any, objective: str, vocabulary: Vocabulary, data_dir: str | None, split: str, size: int) -> Any:
    """Return `size` rows of text, natural or drawn; a corpus is read as far as the run goes (but 1,000 windows at least)."""
    if spec.corpus is None:
        sentences = examples_of(spec, vocabulary, size=ENDLESS, split=split)
        windows: Any = SentenceWindows(sentences, size=size, length=spec.window)
    elif corpus_place(spec.corpus, data_dir) and vocabulary.tokenizer is None:
        raise UsageError("Text needs a tokenizer; give --tokenizer_name (a folder or Hub id) instead of a vocabulary size.")
    else:
        ids = encode_corpus(
            corpus_texts(spec.corpus, split, data_dir), vocabulary.tokenizer, max(size, 1000) * spec.window, vocabulary.eos
        )
        windows = TextWindows(ids, size=size, length=spec.window, split=split, seed=spec.seed)
    if objective == "span_corruption":
        first = sentinels(vocabulary, noise_counts(spec.window)[1], spec.window)
        rows = SpanCorruptionDataset(windows, sentinel=first, split=split, seed=spec.seed)
        return RowDataset(rows, Seq2SeqLayout(vocabulary.eos, vocabulary.pad))
    rows = StreamDataset(windows)
    return masked(spec, rows, vocabulary, split) if objective == "mlm" else rows


def sentinels(vocabulary: Vocabulary, spans: int, window: int) -> int:
    """Return the first sentinel id of `spans` descending ones. Raises UsageError where the vocabulary has too few."""
    tokenizer = vocabulary.tokenizer
    if tokenizer is None:
        first, last = vocabulary.size - 1, vocabulary.size - spans
        enough = last >= vocabulary.first + vocabulary.content
    else:
        first, last = tokenizer.convert_tokens_to_ids(["<extra_id_0>", f"<extra_id_{spans - 1}>"])
        enough = first not in (None, tokenizer.unk_token_id) and last == first - (spans - 1)
    if not enough:
        raise UsageError(
            f"A window of {window} hides {spans} spans; the vocabulary has not so many sentinels (<extra_id_*>). "
            "Give a shorter window."
        )
    return first


def corpus_place(corpus: str, data_dir: str | None = None) -> str:
    """Return where a corpus is: "stdlib", the folder of that name (in `data_dir`), or a Hub id. UsageError: nowhere."""
    if Path(corpus).is_file():
        raise UsageError(f"corpus '{corpus}' is a file; give its folder, with train*.txt and validation*.txt.")
    folders = [folder for folder in (Path(data_dir or ".") / corpus, Path(corpus)) if folder.is_dir()]
    if corpus != "stdlib" and not folders and corpus.count("/") != 1:
        where = f"a folder in {data_dir}" if data_dir else "a folder (see --data_dir)"
        raise UsageError(f"Unknown corpus '{corpus}'. Allowed: stdlib, {where}, a Hub id NAMESPACE/NAME.")
    return str(folders[0]) if folders and corpus != "stdlib" else corpus


def corpus_texts(corpus: str, split: str, data_dir: str | None = None) -> Iterator[str]:
    """Yield the documents of a split of a corpus; see corpus_place. Raises UsageError where it has none.

    A folder holds data/SPLIT*.parquet with a column text (else its first of strings) or SPLIT*.txt, a document a file.
    """
    place = corpus_place(corpus, data_dir)
    if place == "stdlib":
        yield from stdlib.texts(split)
    elif Path(place).is_dir():
        yield from folder_texts(Path(place), split)
    else:
        yield from hub_texts(place, split)


def folder_texts(folder: Path, split: str) -> Iterator[str]:
    """Yield the documents of a local folder. Raises UsageError where it holds none of the split."""
    tables, files = sorted(folder.glob(f"data/{split}*.parquet")), sorted(folder.glob(f"{split}*.txt"))
    if not tables and not files:
        raise UsageError(
            f"corpus '{folder}' has no data/{split}*.parquet and no {split}*.txt; give stdlib or a folder that has one."
        )
    for table in tables:
        reader = pq.ParquetFile(table)
        strings = [f.name for f in reader.schema_arrow if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        if not strings:
            raise UsageError(f"{table} has no column of text.")
        for batch in reader.iter_batches(batch_size=8, columns=["text" if "text" in strings else strings[0]]):
            yield from batch.column(0).to_pylist()
    for file in files:
        yield file.read_text(encoding="utf-8", errors="replace")


def hub_texts(repo_id: str, split: str) -> Iterator[str]:
    """Yield the column text of a split of a dataset on the Hub. Raises UsageError where there is none."""
    from datasets import load_dataset

    try:
        yield from (row["text"] for row in load_dataset(repo_id, split=split, streaming=True))
    except (OSError, ValueError, KeyError) as error:
        cause = " ".join(str(error).split())
        raise UsageError(f"corpus '{repo_id}': no column text of a split {split} could be read ({cause})") from None


def check_source(spec: Any) -> None:
    """Raise UsageError where a run's rows cannot be made, as far as that shows before the model is known."""
    choose("batching", spec.batching, BATCHINGS)
    choose("loss_on", spec.loss_on, ("targets", "all"))
    if spec.window < 4:
        raise UsageError(f"window is {spec.window}; give 4 ids or more.")
    if spec.ramp_steps < 0:
        raise UsageError(f"ramp_steps is {spec.ramp_steps}; give 0 (no curriculum) or more.")
    if spec.batching == "packed" and spec.ramp_steps:
        raise UsageError(
            "Packed rows have one shape, so a curriculum by length (ramp_steps) cannot apply; give one or the other."
        )
    if spec.task is not None:
        examples_of(spec, as_vocabulary(spec.vocabulary), size=1, ramp=spec.ramp_steps)
