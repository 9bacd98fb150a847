"""Layer 4: the downstream tasks (where the rows are, columns, lengths, metric) and fine-tuning on one of them."""

import hashlib
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback

from hf_synpre import stdlib
from hf_synpre.collators import IGNORED, Seq2SeqCollator
from hf_synpre.errors import UsageError, choose
from hf_synpre.files import read_json, whole_folder, write_json
from hf_synpre.metrics import METRICS
from hf_synpre.training import SynpreTrainer, check_training, most_likely, teacher_forced, training_arguments

SPLITS = {"train": ("train",), "validation": ("validation", "val", "dev", "valid"), "test": ("test",)}
SPECIAL = ["<pad>", "</s>", "<unk>"]
SENTINELS = 32


@dataclass(frozen=True)
class DownstreamTask:
    """A text-to-text task. `source` and `target` name the columns that may hold them, the first present is taken."""

    name: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    hub_id: str | None = None
    hub_revision: str | None = None
    only: tuple[str, str] | None = None
    metric: str = "exact_match"
    max_source: int = 512
    max_target: int = 512

    def load(self, data_dir: str | None = None) -> dict[str, pa.Table]:
        """Return train, validation and test as tables of source and target (strings), from a folder or the Hub.

        Raises UsageError where the folder, a split or a column is missing.
        """
        if self.hub_id is None and data_dir is None:
            return {k: t.rename_columns(["source", "target"]) for k, t in stdlib.syntax_trees().items()}
        with tempfile.TemporaryDirectory() as cache:
            loaded = self._open(data_dir, cache)
            return {split: self._columns(loaded, split, names) for split, names in SPLITS.items()}

    def _open(self, data_dir: str | None, cache: str) -> DatasetDict:
        if data_dir is None:
            return load_dataset(self.hub_id, revision=self.hub_revision)
        folder = Path(data_dir) / self.name if (Path(data_dir) / self.name).is_dir() else Path(data_dir)
        if not folder.is_dir():
            raise UsageError(f"There is no folder {data_dir}; give the folder of a dataset in Hub layout as --data_dir.")
        try:  # offline, the shared cache may give another folder of the same name
            return load_dataset(str(folder), cache_dir=cache)
        except (OSError, ValueError, TypeError, DatasetGenerationError) as error:
            raise UsageError(f"{folder} is not a dataset in Hub layout: {' '.join(str(error).split())}") from None

    def _columns(self, loaded: DatasetDict, split: str, names: tuple[str, ...]) -> pa.Table:
        found = [name for name in names if name in loaded]
        if not found:
            raise UsageError(f"{self.name} has no {split} split; it has {', '.join(loaded)}.")
        rows: Dataset = loaded[found[0]]
        if self.only and self.only[0] in rows.column_names:
            rows = rows.filter(lambda value: value == self.only[1], input_columns=self.only[0])
        picked = [self._column(rows, names) for names in (self.source, self.target)]
        columns = [rows.with_format("arrow")[:][name] for name in picked]
        for name, column in zip(picked, columns, strict=True):
            if (not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type)) or column.null_count:
                raise UsageError(
                    f"{self.name}: column {name} of {split} holds {column.type} or nulls; give text in every row."
                )
        return pa.table([column.cast(pa.string()) for column in columns], schema=TEXT_SCHEMA)

    def _column(self, rows: Dataset, names: tuple[str, ...]) -> str:
        for name in names:
            if name in rows.column_names:
                return name
        raise UsageError(
            f"{self.name}: column {' or '.join(names)} is not in the dataset; it has {', '.join(rows.column_names)}."
        )


TEXT_SCHEMA = pa.schema([("source", pa.string()), ("target", pa.string())])
DOWNSTREAM = {
    task.name: task
    for task in (
        DownstreamTask("stdlib_ast", ("source",), ("tree",), max_source=64, max_target=72),
        DownstreamTask(
            "retrosynthesis", ("product",), ("reactants",), "bisectgroup/USPTO_50K", max_source=256, max_target=256
        ),
        DownstreamTask("code_translation", ("java",), ("cs",), "google/code_x_glue_cc_code_to_code_trans"),
        DownstreamTask(
            "mtop",
            ("utterance", "question"),
            ("logical_form",),
            "tasksource/mtop",
            "refs/convert/parquet",
            only=("lang", "en"),
            max_source=1024,
            max_target=128,
        ),
    )
}


def get_downstream(name: str, **changes: Any) -> DownstreamTask:
    """Return a downstream task by name, with fields changed. Raises UsageError naming the closest."""
    return replace(DOWNSTREAM[choose("downstream task", name, DOWNSTREAM)], **changes)


def check_vocab_size(vocab_size: int) -> None:
    """Raise UsageError where a byte-level tokenizer does not fit."""
    least = len(SPECIAL) + 256 + SENTINELS
    if vocab_size < least:
        raise UsageError(f"vocab_size is {vocab_size}; a byte-level tokenizer needs {least} ids at least.")


def train_tokenizer(texts: Any, vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of `vocab_size` ids with T5's special tokens, trained on these texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(special) + len(alphabet) + SENTINELS:
        raise UsageError(
            f"vocab_size is {vocab_size}; a byte-level tokenizer needs {len(special) + len(alphabet) + SENTINELS}."
        )
    size = vocab_size - SENTINELS
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    )
    sentinels = [f"<extra_id_{SENTINELS - 1 - i}>" for i in range(SENTINELS)]  # <extra_id_0> is the last id, as in T5
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    tokenizer.add_special_tokens({"additional_special_tokens": sentinels})
    return tokenizer


@dataclass(frozen=True)
class PreparedTask:
    """A downstream task as ids on disk: <folder>/{train,validation,test}.parquet, tokenizer/, facts.json."""

    folder: Path
    task: DownstreamTask

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that made the ids."""
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer")

    @property
    def facts(self) -> dict[str, Any]:
        """Rows and sha256 of each split, the tokenizer's origin."""
        return read_json(self.folder / "facts.json")

    def rows(self, split: str, limit: int | None = None) -> "TokenRows":
        """Return a split's rows; the first `limit` of a fixed shuffle, short ones first, when a limit is given."""
        table = pq.read_table(self.folder / f"{split}.parquet")
        if limit is not None:
            chosen = np.random.default_rng(0).permutation(len(table))[:limit]
            table = table.take(chosen).sort_by("length")
        return TokenRows(table)


class TokenRows:
    """Map-style rows of ids from a table; `references` are the target texts."""

    def __init__(self, table: pa.Table):
        self.columns = {
            name: (column.combine_chunks().values.to_numpy(), column.combine_chunks().offsets.to_numpy())
            for name, column in ((c, table[c]) for c in ("input_ids", "labels"))
        }
        self.references = table["target"]

    def __len__(self) -> int:
        return len(self.references)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: values[ends[index] : ends[index + 1]] for name, (values, ends) in self.columns.items()}


def prepare(
    task: DownstreamTask, folder: Path, *, data_dir: str | None = None, tokenizer: str | None = None, vocab_size: int = 1024
) -> PreparedTask:
    """Tokenize a task into `folder`, once. `tokenizer` is a Hub id or folder; None trains one on the train split."""
    if not folder.exists():
        tables = task.load(data_dir)
        train = tables["train"]
        texts = (text.as_py() for column in ("source", "target") for text in train[column])
        coder = read_tokenizer(tokenizer) if tokenizer else train_tokenizer(texts, vocab_size)
        facts = {"tokenizer": tokenizer or f"byte-level BPE trained on the train split, {vocab_size} ids", "splits": {}}
        with whole_folder(folder) as partial:
            coder.save_pretrained(partial / "tokenizer")
            for split, table in tables.items():
                pq.write_table(encode(table, coder), partial / f"{split}.parquet")
                facts["splits"][split] = {"rows": len(table), "sha256": text_digest(table)}
            write_json(partial / "facts.json", facts)
    return PreparedTask(folder, task)


def read_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a folder or Hub id. Raises UsageError where there is none."""
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UsageError(f"tokenizer '{name}' cannot be read: {' '.join(str(error).split())}") from None


def encode(table: pa.Table, tokenizer: Any) -> pa.Table:
    """Return the ids of a table of texts: input_ids, labels (list<int32>, no EOS), target text, length in ids."""
    columns = {}
    for ids, text in (("input_ids", "source"), ("labels", "target")):
        encoded = tokenizer(table[text].to_pylist(), add_special_tokens=False)["input_ids"]
        columns[ids] = pa.array(encoded, pa.list_(pa.int32()))
    lengths = [len(x) + len(y) for x, y in zip(columns["input_ids"], columns["labels"], strict=True)]
    return pa.table({**columns, "target": table["target"], "length": lengths})


def text_digest(table: pa.Table) -> str:
    """Return the sha256 of a table's texts, row by row."""
    digest = hashlib.sha256()
    for row in zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True):
        digest.update("\t".join(row).encode() + b"\n")
    return digest.hexdigest()


@dataclass
class FinetuningSpec:
    """The recipe of fine-tuning, the same for every arm. `training` holds transformers' TrainingArguments by name."""

    training: dict[str, Any] = field(default_factory=dict)
    evaluations: int = 5
    validation_examples: int = 500
    test_examples: int = 1000
    num_beams: int = 1

    def __post_init__(self) -> None:
        for name in ("evaluations", "validation_examples", "test_examples", "num_beams"):
            if getattr(self, name) < 1:
                raise UsageError(f"finetuning: {name} is {getattr(self, name)}; give an integer >= 1.")
        check_training(self.training)


class BestModel(TrainerCallback):
    """Keeps the weights with the best validation token accuracy in memory, and the curve of all evaluations."""

    def __init__(self, spent: Callable[[], dict]):
        self.spent = spent
        self.curve: list[dict[str, float]] = []
        self.weights: dict[str, Any] = {}

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict, model: Any = None, **kwargs: Any) -> None:
        point = {name: metrics[f"eval_{name}"] for name in ("loss", "token_accuracy", "score")}
        if point["token_accuracy"] > max((p["token_accuracy"] for p in self.curve), default=-1.0):
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        spent = self.spent()
        self.curve.append({"step": state.global_step, "tokens": spent["tokens"], "flops": spent["flops"]} | point)


def finetune(
    model: PreTrainedModel, data: PreparedTask, spec: FinetuningSpec, *, seed: int, output_dir: Path
) -> dict[str, Any]:
    """Fine-tune on a task and return the curve, the test score, and what was spent.

    Validation is teacher-forced; the weights with the best token accuracy (the paper's choice; spec, section 4) are the
    ones tested, by generation, on the test split, which is read once, at the end.
    """
    tokenizer, task = data.tokenizer, data.task
    args = training_arguments(
        output_dir,
        spec.training,
        seed=seed,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="no",
        generation_max_length=task.max_target,
        generation_num_beams=spec.num_beams,
        train_sampling_strategy="group_by_length",
    )
    args.eval_steps = math.ceil(args.max_steps / spec.evaluations)
    collator = Seq2SeqCollator(
        tokenizer.pad_token_id, tokenizer.eos_token_id, model.config.decoder_start_token_id, task.max_source, task.max_target
    )
    trainer = SynpreTrainer(
        model,
        args,
        train_dataset=data.rows("train"),
        eval_dataset=data.rows("validation", spec.validation_examples),
        data_collator=collator,
        compute_metrics=teacher_forced,
        preprocess_logits_for_metrics=most_likely,
    )
    best = BestModel(trainer.spent)
    trainer.add_callback(best)
    trainer.train()
    if not all(math.isfinite(point["loss"]) for point in best.curve):
        raise FloatingPointError("the loss is not finite; give a smaller learning_rate")
    model.load_state_dict(best.weights)
    test = data.rows("test", spec.test_examples)
    args.predict_with_generate, trainer.preprocess_logits_for_metrics = True, None
    args.train_sampling_strategy = "sequential"  # Trainer groups evaluation rows too; references go by order
    trainer.compute_metrics = text_metric(task.metric, tokenizer, test)
    score = trainer.predict(test).metrics[f"test_{task.metric}"]
    chosen = max(best.curve, key=lambda point: point["token_accuracy"])
    return {
        "metric": task.metric,
        "score": score,
        "validation_score": chosen["score"],
        "test_examples": len(test),
        "curve": best.curve,
        "spent": trainer.spent(),
    }


def text_metric(name: str, tokenizer: Any, rows: TokenRows) -> Callable[[Any], dict[str, float]]:
    """Return compute_metrics for generated ids against the full reference texts of `rows`, in order."""
    metric, references = METRICS[name](keep_in_memory=True), rows.references.to_pylist()

    def compute(prediction: Any) -> dict[str, float]:
        ids = np.where(prediction.predictions == IGNORED, tokenizer.pad_token_id, prediction.predictions)
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return metric.compute(predictions=texts, references=references)

    return compute
