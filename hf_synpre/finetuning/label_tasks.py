"""Layer 4: labelled datasets: where their rows are, which columns hold text and labels, what judges an answer.

Hub ids and columns are those of the datasets' cards; the ten classification datasets, SQuAD, SWAG, HellaSwag and CoNLL-2012
are those of Krishna et al. 2022 (spec of self-pretraining, section 1.2). `--data_dir` takes a local copy of any.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict

from hf_synpre.data.corpora import READERS, is_list_of_text, is_text, open_splits
from hf_synpre.errors import UsageError, choose
from hf_synpre.finetuning.scores import SCORES
from hf_synpre.finetuning.text_tasks import check_rows, three_splits

# head -> metric that is reported unless a task says otherwise
HEADS = {
    "classes": "accuracy",
    "labels": "auc",
    "number": "pearson_spearman",
    "choices": "accuracy",
    "span": "f1",
    "tags": "span_f1",
}


@dataclass(frozen=True)
class LabelTask:
    """A task for an encoder with a head.

    `head` is classes (one of several), labels (any of several), number, choices (one of several continuations), span (of
    a context) or tags (one a word). `text` and `label` list alternatives: lists of columns, the first all of which are
    there is taken. Text is one column or two (a span's: context, question; choices: the context); `choices` the columns
    of the continuations. `splits` renames splits; `hub_corpus` is the configuration that is pre-trained on, if another.
    `kept_labels` leaves out rows with another label, `label_names` says what labels are called that are bare numbers.
    """

    name: str
    head: str
    text: list[list[str]]
    label: list[list[str]]
    choices: list[list[str]] = field(default_factory=list)
    hub_id: str | None = None
    hub_config: str | None = None
    hub_revision: str | None = None
    hub_corpus: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    kept_labels: list[Any] = field(default_factory=list)
    label_names: list[str] = field(default_factory=list)
    metric: str | None = None
    max_source: int = 128
    rows: dict[str, int] = field(default_factory=dict)
    presets: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choose("head", self.head, HEADS)
        choose("metric", self.score, SCORES)
        check_rows(self.name, self.rows)
        if (self.head == "choices") != bool(self.choices):
            raise UsageError(
                f"{self.name}: the head {self.head} and choices {self.choices} do not fit; choices need columns."
            )

    @property
    def score(self) -> str:
        """The metric that is reported."""
        return self.metric or HEADS[self.head]

    def load(self, data_dir: str | None = None) -> dict[str, Dataset]:
        """Return train, validation and test, from a folder or the Hub; a split without labels counts as absent.

        Raises UsageError where a folder, a split or a column is missing, or a column holds something else.
        """
        found = {
            split: self.chosen(rows, split) for split, rows in self.all_splits(data_dir)[0].items()
        }
        for split, rows in found.items():
            self.check(rows, split)
        return found

    def all_splits(
        self, data_dir: str | None = None
    ) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
        """Return train, validation and test with all their rows, and the splits that are none of them (a hidden test)."""
        loaded = self.open(data_dir)
        labelled = {split: rows for split, rows in loaded.items() if self._has_labels(rows, split)}
        found = three_splits(self.name, DatasetDict(labelled))
        used = [
            "train",
            *(
                name
                for name, rows in loaded.items()
                if any(rows is other for other in found.values())
            ),
        ]
        return found, {f"unused {name}": rows for name, rows in loaded.items() if name not in used}

    def chosen(self, rows: Dataset, split: str) -> Dataset:
        """Return the rows of a split that have a kept label, as many of them as `rows` says."""
        if self.kept_labels:
            values = rows[self.columns(rows, "label")[0]]
            rows = rows.select([i for i, value in enumerate(values) if value in self.kept_labels])
        if split in self.rows:
            rows = rows.select(np.random.default_rng(0).permutation(len(rows))[: self.rows[split]])
        return rows

    def open(self, data_dir: str | None = None, config: str | None = None) -> DatasetDict:
        """Return the splits as they are, by the names train, validation, test where `splits` renames them."""
        place = self.hub_id if data_dir is None else self.place(data_dir)
        if place is None:
            where = (
                f"{data_dir} holds no dataset {self.name}"
                if data_dir
                else f"{self.name} is on no Hub id"
            )
            raise UsageError(f"{where}; give the folder of a dataset in Hub layout as --data_dir.")
        local = data_dir is not None
        found = open_splits(
            str(place),
            None if local else config or self.hub_config,
            None if local else self.hub_revision,
        )
        renamed = {new: found[old] for new, old in self.splits.items() if old in found}
        return DatasetDict(
            {k: v for k, v in found.items() if k not in self.splits.values()} | renamed
        )

    def place(self, data_dir: str | None) -> Path | None:
        """Return where in a folder this dataset is: in one of its name, or itself; None: not there, or on the Hub."""
        if data_dir is None:
            return None
        folder = Path(data_dir)
        names = (self.name, (self.hub_id or self.name).rpartition("/")[2])
        found = [
            *(folder / name for name in names if (folder / name).exists()),
            *([folder] if is_dataset(folder) else []),
        ]
        return found[0] if found else None

    def _has_labels(self, rows: Dataset, split: str) -> bool:
        """Say whether a split's rows have labels: on the Hub those of a hidden test are all -1."""
        values = (
            rows.with_format("arrow")[:1000][self.columns(rows, "label")[0]].to_pylist()
            if len(rows)
            else []
        )
        unknown = all(value in (-1, None, "") for value in values)
        if unknown and split == "train":
            raise UsageError(
                f"{self.name}: the rows of train have no labels; give labels in every row."
            )
        return not unknown

    def columns(self, rows: Dataset, which: str) -> list[str]:
        """Return the columns that hold the "text", "label" or "choices". Raises UsageError where none of them is there."""
        alternatives, names = getattr(self, which), set(rows.column_names)
        for found in alternatives:
            if set(found) <= names:
                return found
        wanted = " or ".join(" + ".join(names) for names in alternatives)
        raise UsageError(
            f"{self.name}: column {wanted} is not in the dataset; it has {', '.join(rows.column_names)}."
        )

    def check(self, rows: Dataset, split: str) -> None:
        """Raise UsageError where a split is empty, or a column of text holds something else."""
        if not len(rows):
            raise UsageError(f"{self.name}: the split {split} has no rows.")
        table = rows.with_format("arrow")[:1]
        for name in [
            *self.columns(rows, "text"),
            *(self.columns(rows, "choices") if self.choices else ()),
        ]:
            kind = table[name].type
            wanted = (
                is_list_of_text(kind)
                if self.head == "tags"
                else is_text(kind) or is_list_of_text(kind)
            )
            if not wanted:
                what = "a list of words" if self.head == "tags" else "text"
                raise UsageError(
                    f"{self.name}: column {name} of {split} holds {kind}; give {what} in every row."
                )
        self._check_labels(table, split)

    def _check_labels(self, table: pa.Table, split: str) -> None:
        """Raise UsageError where a column of labels cannot be one of this head."""
        name = self.columns(Dataset(table), "label")[0]
        kind = table[name].type
        simple = pa.types.is_integer(kind) or is_text(kind) or pa.types.is_boolean(kind)
        fits = {
            "classes": simple,
            "choices": simple,
            "number": pa.types.is_floating(kind) or pa.types.is_integer(kind),
            "labels": simple or pa.types.is_floating(kind) or pa.types.is_list(kind),
            "span": pa.types.is_struct(kind) or pa.types.is_list(kind),
            "tags": pa.types.is_list(kind),
        }
        if not fits[self.head]:
            raise UsageError(
                f"{self.name}: column {name} of {split} holds {kind}, no labels of the head {self.head}."
            )


def is_dataset(place: Path) -> bool:
    """Say whether a folder is one dataset rather than a folder of several, which would be read as one."""
    names = (
        [place.name]
        if place.is_file()
        else [p.name for p in place.iterdir()]
        if place.is_dir()
        else []
    )
    return any(
        Path(name).suffix in READERS or name.startswith(("data", "train", "README"))
        for name in names
    )


def recipe(
    epochs: float, length: int, rate: float = 1e-4, layer_decay: float = 0.8
) -> dict[str, Any]:
    """Return google-research/electra's fine-tuning (spec, section 3.2): 10 % warm-up, rates that fall by layer, batch 32."""
    training = {
        "optim": "adamw_torch",
        "learning_rate": rate,
        "weight_decay": 0.01,
        "per_device_train_batch_size": 32,
    }
    schedule = {"lr_scheduler_type": "linear", "warmup_steps": 0.1, "num_train_epochs": epochs}
    rows = {"validation_examples": None, "test_examples": None}
    return {
        "max_source": length,
        "finetuning": {"training": training | schedule, "layer_decay": layer_decay} | rows,
    }


def glue(
    name: str, text: list[str], head: str = "classes", epochs: float = 3, **more: Any
) -> LabelTask:
    """Return a task of GLUE (Wang et al. 2018); its test has no labels, so validation is the test."""
    options = {
        "hub_id": "nyu-mll/glue",
        "hub_config": name,
        "presets": {"paper": recipe(epochs, 128)},
    }
    return LabelTask(name, head, [text], [["label"]], **options | more)


def classes(
    name: str, text: list[list[str]], hub_id: str, label: str = "label", **more: Any
) -> LabelTask:
    """Return a task of classification with one label."""
    return LabelTask(
        name, "classes", text, [[label], ["label"]], hub_id=hub_id, **{"presets": PAPER} | more
    )


PAPER = {"paper": recipe(3, 128)}
SENTENCES = [["sentence1", "sentence2"]]
TOXIC = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
# What the numbers of tner/ontonotes5 mean: its label.json.
ONTONOTES = """
    O B-CARDINAL B-DATE I-DATE B-PERSON I-PERSON B-NORP B-GPE I-GPE B-LAW I-LAW B-ORG I-ORG B-PERCENT I-PERCENT B-ORDINAL
    B-MONEY I-MONEY B-WORK_OF_ART I-WORK_OF_ART B-FAC B-TIME I-CARDINAL B-LOC B-QUANTITY I-QUANTITY I-NORP I-LOC B-PRODUCT
    I-TIME B-EVENT I-EVENT I-FAC B-LANGUAGE I-PRODUCT I-ORDINAL I-LANGUAGE
"""
LABEL_TASKS = {
    task.name: task
    for task in (
        classes("ag_news", [["text"]], "fancyzhx/ag_news"),
        classes("dbpedia_14", [["title", "content"], ["content"]], "fancyzhx/dbpedia_14"),
        classes(
            "yahoo_answers_topics",
            [["question_title", "best_answer"], ["text"]],
            "community-datasets/yahoo_answers_topics",
            "topic",
        ),
        classes("amazon_polarity", [["title", "content"], ["content"]], "fancyzhx/amazon_polarity"),
        classes(
            "sentiment140",
            [["text"]],
            "stanfordnlp/sentiment140",
            "sentiment",
            hub_revision="refs/convert/parquet",
            kept_labels=[0, 4],  # its test has neutral tweets too, 2, which train has not
        ),
        classes(
            "discovery",
            SENTENCES,
            "sileod/discovery",
            hub_config="discovery",
            hub_revision="refs/convert/parquet",
        ),
        classes(
            "paws",
            SENTENCES,
            "google-research-datasets/paws",
            hub_config="labeled_final",
            hub_corpus="unlabeled_final",
        ),
        LabelTask(
            "jigsaw",
            "labels",
            [["comment_text"], ["text"]],
            [TOXIC, ["labels"]],
            hub_id="google/jigsaw_toxicity_pred",
            presets=PAPER,
        ),
        glue("qqp", ["question1", "question2"], metric="accuracy_f1"),
        glue("mnli", ["premise", "hypothesis"], splits={"validation": "validation_matched"}),
        glue("sst2", ["sentence"]),
        glue("cola", ["sentence"], metric="matthews"),
        glue("mrpc", ["sentence1", "sentence2"], metric="accuracy_f1"),
        glue("qnli", ["question", "sentence"]),
        glue("rte", ["sentence1", "sentence2"], epochs=10),
        glue("wnli", ["sentence1", "sentence2"]),
        glue("stsb", ["sentence1", "sentence2"], "number", 10),
        LabelTask(
            "squad_span",
            "span",
            [["context", "question"]],
            [["answers"]],
            hub_id="rajpurkar/squad",
            max_source=384,
            presets={"paper": recipe(2, 512)},
        ),
        LabelTask(
            "swag",
            "choices",
            [["sent1", "sent2"], ["startphrase"]],
            [["label"]],
            [["ending0", "ending1", "ending2", "ending3"]],
            hub_id="allenai/swag",
            hub_config="regular",
            hub_revision="refs/convert/parquet",
            presets=PAPER,
        ),
        LabelTask(
            "hellaswag",
            "choices",
            [["ctx"]],
            [["label"]],
            [["endings"]],
            hub_id="Rowan/hellaswag",
            presets=PAPER,
        ),
        LabelTask(
            "conll2012",
            "tags",
            [["tokens"], ["words"]],
            [["ner_tags"], ["tags"]],
            hub_id="tner/ontonotes5",
            hub_revision="refs/convert/parquet",
            label_names=ONTONOTES.split(),
            presets=PAPER,
        ),
        LabelTask(
            "wnut_17",
            "tags",
            [["tokens"]],
            [["ner_tags"]],
            hub_id="leondz/wnut_17",
            hub_revision="refs/convert/parquet",
            presets=PAPER,
        ),
    )
}
