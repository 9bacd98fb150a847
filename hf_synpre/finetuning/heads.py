"""Heads: what a kind of task needs, from the columns of its rows to the scores of its test.

`Head` says what every kind gives. A kind is a subclass in a module of its own (text_head.py,
label_heads.py), and one object of it stands in the table HEADS of catalog.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NotRequired, TypeAlias, TypedDict, TypeVar

import pyarrow as pa
import torch
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from hf_synpre.data.corpora import Corpus
from hf_synpre.training.trainer import SynpreTrainer

if TYPE_CHECKING:
    from hf_synpre.finetuning.finetuning import FinetuningSpec
    from hf_synpre.finetuning.prepared import PreparedTask
    from hf_synpre.finetuning.tasks import FinetuningTask

# The class of the tasks that a head answers, and of the rows that its models take.
Task = TypeVar("Task", bound="FinetuningTask")
Rows = TypeVar("Rows")

# The rows of a split, as `task.load` returns them.
SplitRows: TypeAlias = pa.Table | Dataset

Batch = dict[str, torch.Tensor]
Collator = Callable[[list[Any]], Batch]

# Rows a batch of evaluation. On a CPU large batches are slower a row, as their logits leave the
# cache: benchmarks/evaluation.py.
EVALUATION_BATCH = 128 if torch.cuda.is_available() else 16


class ReportedScores(TypedDict):
    """What a head says of a model on the test split."""

    metric: str  # the name of the score that is reported
    score: float  # its value
    scores: dict[str, float]  # all scores by name
    test_examples: int  # the examples that were scored
    example_scores: NotRequired[str]  # the reported score of each, by files.pack_fractions
    probabilities: NotRequired[str]  # of each class of each example, packed row by row
    truths: NotRequired[list[int]]  # the true class of each example


class Head(ABC, Generic[Task, Rows]):
    """One kind of answer to a downstream task: generated text, a class, a number, tags ...

    The first half of the methods reads the data and does not depend on the model; the second half
    is the model's. Heads have no state.
    """

    # The name of the kind: the field `head` of a task's definition.
    name: ClassVar[str]
    # The Auto class of transformers that makes the models.
    model_class: ClassVar[Any]
    # The architecture where none is given: a model_type of transformers.
    usual_model_type: ClassVar[str]
    # Whether models have parameters that pre-training does not: then only its body is loaded.
    adds_parameters: ClassVar[bool]

    # The Trainer, the rows of its evaluation batches, the arguments that the head decides.
    trainer_class: ClassVar[type[SynpreTrainer]] = SynpreTrainer
    evaluation_batch: ClassVar[int] = EVALUATION_BATCH
    training_arguments: ClassVar[dict[str, Any]] = {}

    # ---- The data: rows of a dataset -> ids on disk -> rows of a model.

    @abstractmethod
    def train_tokenizer(
        self, task: Task, train: SplitRows, vocab_size: int, corpus: Corpus | None
    ) -> tuple[PreTrainedTokenizerBase, str]:
        """Return a tokenizer for this kind of model, and a line that says where it is from.

        Args:
            task: the task.
            train: the rows of its train split, as `task.load` returns them.
            vocab_size: the ids of the tokenizer.
            corpus: what it is trained on; None for the texts of the train split.
        """

    def label_names(self, task: Task, train: SplitRows) -> list[Any] | None:
        """Return the names of the labels in the order of their numbers, None without names.

        Args:
            task: the task.
            train: the rows of its train split, as `task.load` returns them.
        """
        return None

    @abstractmethod
    def head_metadata(
        self, task: Task, label_names: list[Any] | None, data_dir: str | None
    ) -> dict[str, Any]:
        """Return what facts.json holds beside the tokenizer's origin and the splits.

        Args:
            task: the task.
            label_names: as the method of this name returns them.
            data_dir: the folder that the rows are from; None for the Hub.
        """

    @abstractmethod
    def encode(
        self,
        task: Task,
        rows: SplitRows,
        label_names: list[Any] | None,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
    ) -> pa.Table:
        """Return the ids and labels of a split's rows as the table that is written to disk.

        Args:
            task: the task.
            rows: the rows of the split, as `task.load` returns them.
            label_names: the names of the labels of train, None without names.
            tokenizer: makes the ids; special tokens are added later, by `make_rows`.
            split: the name of the split, for messages.

        Raises:
            UsageError: where a row has no text or label, or a label that train does not have.
        """

    @abstractmethod
    def digest(self, rows: SplitRows, encoded: pa.Table) -> str:
        """Return the sha256 by which a split's rows are known again.

        Args:
            rows: the rows, as `task.load` returns them.
            encoded: the same rows, as `encode` returns them.
        """

    @abstractmethod
    def make_rows(self, data: "PreparedTask[Task]", encoded: pa.Table) -> Rows:
        """Return the rows of an encoded split as a map-style dataset, for the collator.

        Args:
            data: the prepared task: its tokenizer, its lengths.
            encoded: a split's table, as `encode` made it.
        """

    def order_sample(self, encoded: pa.Table) -> pa.Table:
        """Return the sampled rows of an evaluation in the order in which they are evaluated."""
        return encoded

    # ---- The model: config, batches, loss, validation, test.

    @abstractmethod
    def accepts_config(self, config: PreTrainedConfig) -> bool:
        """Say whether models of this config's family can have the head."""

    @abstractmethod
    def refusal(self, task: Task, config: PreTrainedConfig) -> str:
        """Return the sentence that says why a config's family does not fit, and what does."""

    def configure(self, config: PreTrainedConfig, data: "PreparedTask[Task]") -> PreTrainedConfig:
        """Return the config of a model for the task, as the number of labels.

        Args:
            config: the architecture, which is changed.
            data: the prepared task.

        Raises:
            UsageError: where the model cannot take the task's rows.
        """
        return config

    @abstractmethod
    def collator(self, data: "PreparedTask[Task]", config: PreTrainedConfig) -> Collator:
        """Return the function that makes a batch of a list of rows.

        Args:
            data: the prepared task: its tokenizer, its lengths.
            config: that of the model that takes the batches.
        """

    @abstractmethod
    def loss(
        self,
        outputs: ModelOutput,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean loss of a step.

        Args:
            outputs: what the model returned for the batch.
            labels: the batch's labels.
            num_items_in_batch: the labels of the whole step over accumulation and processes; None:
                those of this batch.
        """

    def trainer_options(self, spec: "FinetuningSpec") -> dict[str, Any]:
        """Return what the Trainer is given beside its arguments, its rows and its collator."""
        return {"loss": self.loss}

    @abstractmethod
    def validation_metrics(
        self, data: "PreparedTask[Task]", rows: Rows
    ) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return the function that scores an evaluation: `compute_metrics` of a Trainer.

        It gives "token_accuracy", by which weights are chosen, and "score", which is reported.

        Args:
            data: the prepared task.
            rows: the validation rows that are evaluated.
        """

    @abstractmethod
    def test(
        self,
        model: PreTrainedModel,
        data: "PreparedTask[Task]",
        spec: "FinetuningSpec",
        trainer: SynpreTrainer,
    ) -> ReportedScores:
        """Return the scores of a model on the test split, which is read here only.

        Args:
            model: the model with the weights that were chosen.
            data: the prepared task.
            spec: how many rows are tested, and how text is generated.
            trainer: the Trainer that fine-tuned the model.
        """
