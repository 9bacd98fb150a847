"""Layer 4: what a downstream task is: where its rows are, how they become text, how it is judged, how it is trained."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict

from hf_synpre.data import stdlib
from hf_synpre.data.corpora import open_splits
from hf_synpre.errors import UsageError, choose
from hf_synpre.finetuning.metrics import METRICS

SPLITS = {
    "train": ("train",),
    "validation": ("validation", "val", "dev", "valid"),
    "test": ("test",),
}
HELD_OUT = 1000  # rows taken from train, 1 in 10 at most, where a dataset lacks a split to choose weights on
FIELD = re.compile(r"\{([\w.]+)\}")
TEXT_SCHEMA = pa.schema(
    [("source", pa.string()), ("target", pa.string()), ("references", pa.list_(pa.string()))]
)
CLEAN: dict[str, Callable[[str], str]] = {
    "lowercase": str.lower,
    "one_line": lambda text: " ".join(text.split("\n")),
    "pad_punctuation": lambda text: " ".join(
        re.sub(r"([^\s\w])", r" \1 ", text).split()
    ),  # as T5 reads SQuAD
}
PRESETS = ("small", "paper")


@dataclass(frozen=True)
class DownstreamTask:
    """A text-to-text task.

    `source` and `target` list alternatives, columns or templates such as "question: {question}"; the first whose columns
    are there is taken; {a.b} is field b of a struct. A target column of lists holds several gold answers: the first is
    learned, all are accepted. `clean` names functions of CLEAN for both sides, `only` a value that a column must have,
    `rows` how many rows of a split (of a fixed shuffle) are used. A preset is what TaskSpec holds.
    """

    name: str
    source: list[str]
    target: list[str]
    hub_id: str | None = None
    hub_config: str | None = None
    hub_revision: str | None = None
    only: dict[str, str] = field(default_factory=dict)
    clean: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    metric: str = "exact_match"
    max_source: int = 512
    max_target: int = 512
    presets: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choose("metric", self.metric, METRICS)
        for name in self.clean:
            choose("cleaning of text", name, CLEAN)
        for name in self.presets:
            choose("preset", name, PRESETS)
        check_rows(self.name, self.rows)

    def load(self, data_dir: str | None = None) -> dict[str, pa.Table]:
        """Return train, validation and test as tables of source, target and all references, from a folder or the Hub.

        Without a test split, validation is the test; the rows to choose weights on are then held out of train. stdlib_ast is
        embedded: `data_dir` may hold the others of a campaign, or a folder stdlib_ast that takes its place.
        Raises UsageError where the folder, a split or a column is missing.
        """
        place = self.place(data_dir)
        if self.name == "stdlib_ast" and place is None:
            return {split: text_table(table.to_pydict()) for split, table in stdlib_texts().items()}
        loaded = three_splits(self.name, self._open(place))
        return {split: self._columns(rows, split) for split, rows in loaded.items()}

    def _open(self, place: Path | None) -> DatasetDict:
        if place is None:
            if self.hub_id is None:
                raise UsageError(
                    f"{self.name} is on no Hub id; give the folder of its rows as --data_dir."
                )
            return open_splits(self.hub_id, self.hub_config, self.hub_revision)
        if not place.is_dir():
            raise UsageError(
                f"There is no folder {place}; give the folder of a dataset in Hub layout as --data_dir."
            )
        return open_splits(str(place))

    def place(self, data_dir: str | None) -> Path | None:
        """Return the folder that holds the rows, None where they are on the Hub or embedded."""
        if data_dir is None:
            return None
        own = Path(data_dir) / self.name
        return own if own.is_dir() else None if self.name == "stdlib_ast" else Path(data_dir)

    def _columns(self, rows: Dataset, split: str) -> pa.Table:
        for name, value in self.only.items():
            if name in rows.column_names:
                rows = rows.filter(lambda found, value=value: found == value, input_columns=name)
        if split in self.rows:
            rows = rows.select(np.random.default_rng(0).permutation(len(rows))[: self.rows[split]])
        table = rows.with_format("arrow")[:].flatten()
        source, target = (self._texts(table, names, split) for names in (self.source, self.target))
        return text_table({"source": [" ".join(texts) for texts in source], "target": target})

    def _texts(self, table: pa.Table, alternatives: list[str], split: str) -> list[list[str]]:
        """Return the texts of each row by the first alternative whose columns are there."""
        for template in alternatives:
            names = FIELD.findall(template) or [template]
            if set(names) <= set(table.column_names):
                columns = [self._column(table[name], name, split) for name in names]
                if template in names:
                    return columns[0]
                return [
                    [fill(template, dict(zip(names, row, strict=True)))]
                    for row in zip(*columns, strict=True)
                ]
        raise UsageError(
            f"{self.name}: column {' or '.join(alternatives)} is not in the dataset; it has {', '.join(table.column_names)}."
        )

    def _column(self, column: pa.ChunkedArray, name: str, split: str) -> list[list[str]]:
        """Return the cleaned texts of a column, a list a row."""
        kind = column.type.value_type if pa.types.is_list(column.type) else column.type
        values = (
            column.to_pylist()
            if pa.types.is_list(column.type)
            else [[value] for value in column.to_pylist()]
        )
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not text or not all(values) or any(part is None for value in values for part in value):
            raise UsageError(
                f"{self.name}: column {name} of {split} holds {column.type}, nulls or empty lists; give text in every row."
            )
        return [[self._clean(text) for text in texts] for texts in values]

    def _clean(self, text: str) -> str:
        for name in self.clean:
            text = CLEAN[name](text)
        return text


def check_rows(task: str, rows: dict[str, int]) -> None:
    """Raise UsageError where the rows of a split that a task takes are no number, or the split is none."""
    for name, count in rows.items():
        if choose("split", name, SPLITS) and (not isinstance(count, int) or count < 1):
            raise UsageError(f"{task}: rows of {name} is {count!r}; give an integer >= 1.")


def fill(template: str, row: dict[str, list[str]]) -> str:
    """Return the template with every {column} replaced by the row's text; parts of a list stand one after the other."""
    return FIELD.sub(lambda found: " ".join(row[found[1]]), template)


def text_table(columns: dict[str, list]) -> pa.Table:
    """Return source, target and references of rows; a target is a text or a list of gold answers."""
    golds = [[gold] if isinstance(gold, str) else gold for gold in columns["target"]]
    values = {
        "source": columns["source"],
        "target": [gold[0] for gold in golds],
        "references": golds,
    }
    return pa.table(values, schema=TEXT_SCHEMA)


def stdlib_texts() -> dict[str, pa.Table]:
    """Return the embedded task's splits as source and target."""
    return {
        split: table.rename_columns(["source", "target"])
        for split, table in stdlib.syntax_trees().items()
    }


def three_splits(task: str, loaded: DatasetDict) -> dict[str, Dataset]:
    """Return train, validation and test; of the latter two one may be missing, then HELD_OUT rows of train stand in."""
    found = {
        split: loaded[name] for split, names in SPLITS.items() for name in names if name in loaded
    }
    if "train" not in found or len(found) < 2:
        missing = "train" if "train" not in found else "validation"
        raise UsageError(f"{task} has no {missing} split; it has {', '.join(loaded)}.")
    if len(found) == 3:
        return found
    train, test = found["train"], found.get("test", found.get("validation"))
    order = np.random.default_rng(0).permutation(len(train))
    held = min(HELD_OUT, len(train) // 10)
    return {
        "train": train.select(np.sort(order[held:])),
        "validation": train.select(order[:held]),
        "test": test,
    }


def paper(lr: float, steps: int, batch: int, period: int, decode: int) -> dict[str, Any]:
    """Return a fine-tuning recipe of the paper: constant rate, beam 4, an evaluation every `period` steps (spec, section 4).

    T5X divides a beam's score by ((5 + length) / 6) ** 0.6; transformers divides by length ** length_penalty.
    """
    training = {"learning_rate": lr, "max_steps": steps, "per_device_train_batch_size": batch}
    beams = {"num_beams": 4, "length_penalty": 0.6, "max_new_tokens": decode}
    rows = {"validation_examples": None, "test_examples": None}
    constant = {"lr_scheduler_type": "constant", "warmup_steps": 0}
    return {
        "finetuning": {"training": training | constant, "evaluations": steps // period}
        | beams
        | rows
    }


def small(steps: int, source: int, target: int, batch: int = 64) -> dict[str, Any]:
    """Return a recipe for a small model on a CPU: lengths that hold most rows of a 1,024-id tokenizer, greedy decoding."""
    training = {"max_steps": steps, "per_device_train_batch_size": batch}
    return {"max_source": source, "max_target": target, "finetuning": {"training": training}}


SUMMARIES = paper(1e-3, 100_000, 128, 10_000, 148)
DOWNSTREAM = {
    task.name: task
    for task in (
        DownstreamTask(
            "stdlib_ast",
            ["source"],
            ["tree"],
            max_source=64,
            max_target=72,
            presets={"small": small(600, 64, 72)},
        ),
        DownstreamTask(
            "retrosynthesis",
            ["product"],
            ["reactants"],
            "bisectgroup/USPTO_50K",
            max_source=256,
            max_target=256,
            presets={
                "paper": paper(3e-3, 400_000, 128, 10_000, 256),
                "small": small(1200, 128, 128),
            },
        ),
        DownstreamTask(
            "code_translation",
            ["java"],
            ["cs"],
            "google/code_x_glue_cc_code_to_code_trans",
            metric="exact_match_bleu",
            max_source=1024,
            max_target=1024,
            presets={
                "paper": paper(3e-3, 150_000, 32, 10_000, 1024),
                "small": small(600, 192, 192, 32),
            },
        ),
        DownstreamTask(
            "mtop",
            ["utterance", "question"],
            ["logical_form"],
            "tasksource/mtop",
            hub_revision="refs/convert/parquet",
            only={"lang": "en"},
            metric="exact_match_f1",
            max_source=1024,
            max_target=128,
            presets={"paper": paper(1e-3, 100_000, 128, 10_000, 128), "small": small(800, 64, 96)},
        ),
        DownstreamTask(
            "webqsp",
            [
                "{question} entity: {topic_entity} {topic_mid}",
                "{question} entity: {topic_entity}",
                "question",
            ],
            ["chain_form", "s_expression"],
            metric="exact_match_f1",
            max_source=2048,
            max_target=256,
            presets={"paper": paper(1e-3, 50_000, 32, 5_000, 256), "small": small(600, 64, 64)},
        ),
        DownstreamTask(
            "squad",
            ["question: {question} context: {context}"],
            ["answers.text"],
            "rajpurkar/squad",
            clean=["pad_punctuation"],
            metric="squad",
            max_source=512,
            max_target=128,
            presets={
                "paper": paper(1e-3, 250_000, 128, 10_000, 128),
                "small": small(600, 320, 32, 32),
            },
        ),
        DownstreamTask(
            "cnn_dailymail_10k",
            ["article"],
            ["highlights"],
            "abisee/cnn_dailymail",
            "3.0.0",
            clean=["one_line", "lowercase"],
            rows={"train": 10_000, "validation": 1_000},
            metric="rouge1",
            max_source=512,
            max_target=256,
            presets={"paper": SUMMARIES, "small": small(600, 256, 96, 32)},
        ),
        DownstreamTask(
            "aeslc",
            ["email_body"],
            ["subject_line"],
            "Yale-LILY/aeslc",
            clean=["one_line"],
            metric="rouge1",
            max_source=512,
            max_target=64,
            presets={"paper": SUMMARIES, "small": small(600, 192, 32, 32)},
        ),
        DownstreamTask(
            "scitldr",
            ["source"],
            ["target"],
            "allenai/scitldr",
            "Abstract",
            "refs/convert/parquet",
            metric="rouge1",
            max_source=512,
            max_target=128,
            presets={"paper": SUMMARIES, "small": small(600, 320, 64, 32)},
        ),
    )
}


def get_downstream(name: str, **changes: Any) -> DownstreamTask:
    """Return a downstream task by name, with fields changed. Raises UsageError naming the closest."""
    return replace(DOWNSTREAM[choose("downstream task", name, DOWNSTREAM)], **changes)
