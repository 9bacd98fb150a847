"""Heads: what a kind of task needs, from the columns of its rows to the scores of its test.

`Head` says what every kind gives. A kind is a subclass in a module of its own (text_head.py,
label_heads.py), and one object of it stands in the table HEADS of catalog.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NotRequired, TypedDict, TypeVar

import pyarrow as pa
import torch
from torch.utils.data import Dataset as TorchDataset
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.training.trainer import SynpreTrainer

if TYPE_CHECKING:
    from hf_synpre.finetuning.finetuning import FinetuningSpec
    from hf_synpre.finetuning.prepared import PreparedTask
    from hf_synpre.finetuning.tasks import FinetuningTask

Task = TypeVar("Task", bound="FinetuningTask")

Batch = dict[str, torch.Tensor]
Collator = Callable[[list[Any]], Batch]

# Rows a batch of evaluation. On a CPU large batches are slower a row, as their logits leave the
# cache: benchmarks/evaluation.py.
EVALUATION_BATCH = 128 if torch.cuda.is_available() else 16


class TestScores(TypedDict):
    """What a head says of a model on the test split."""

    metric: str  # the name of the score that is reported
    score: float  # its value
    scores: dict[str, float]  # all scores by name
    test_examples: int  # the examples that were scored
    example_scores: NotRequired[str]  # the reported score of each, by files.pack_fractions
    probabilities: NotRequired[str]  # of each class of each example, packed row by row
    truths: NotRequired[list[int]]  # the true class of each example


class Head(Generic[Task]):
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

    def train_tokenizer(
        self, task: Task, train: Any, vocab_size: int, corpus: Any
    ) -> tuple[PreTrainedTokenizerBase, str]:
        """Return a tokenizer of `vocab_size` ids for this kind of model, and a line on its origin.

        It is trained on the corpus, or on the texts of the train split where that is None.
        """
        raise NotImplementedError

    def label_names(self, task: Task, train: Any) -> list[Any] | None:
        """Return the names of the labels in the order of their numbers, None without names."""
        return None

    def metadata(
        self, task: Task, label_names: list[Any] | None, data_dir: str | None
    ) -> dict[str, Any]:
        """Return what facts.json holds beside the tokenizer's origin and the splits."""
        raise NotImplementedError

    def encode(
        self,
        task: Task,
        rows: Any,
        label_names: list[Any] | None,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
    ) -> pa.Table:
        """Return the ids and labels of a split's rows as the table that is written to disk."""
        raise NotImplementedError

    def digest(self, rows: Any, encoded: pa.Table) -> str:
        """Return the sha256 by which a split's rows are known again."""
        raise NotImplementedError

    def make_rows(self, data: "PreparedTask[Task]", encoded: pa.Table) -> Any:
        """Return the rows of an encoded split as a map-style dataset, as the collator takes them."""
        raise NotImplementedError

    def order_sample(self, encoded: pa.Table) -> pa.Table:
        """Return the sampled rows of an evaluation in the order in which they are evaluated."""
        return encoded

    # ---- The model: config, batches, loss, validation, test.

    def takes(self, config: PreTrainedConfig) -> bool:
        """Say whether models of this config's family can have the head."""
        raise NotImplementedError

    def refusal(self, task: Task, config: PreTrainedConfig) -> str:
        """Return the sentence that says why a config's family does not fit, and what does."""
        raise NotImplementedError

    def configure(self, config: PreTrainedConfig, data: "PreparedTask[Task]") -> PreTrainedConfig:
        """Return the config with what the task decides. Raises UsageError where rows do not fit."""
        return config

    def collator(self, data: "PreparedTask[Task]", config: PreTrainedConfig) -> Collator:
        """Return the function that makes a batch of rows for a model of this config."""
        raise NotImplementedError

    def loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the mean loss of a step.

        Args:
            outputs: what the model returned for the batch.
            labels: the batch's labels.
            num_items_in_batch: the labels of the whole step over accumulation and processes; None:
                those of this batch.
        """
        raise NotImplementedError

    def trainer_options(self, spec: "FinetuningSpec") -> dict[str, Any]:
        """Return what the Trainer is given beside its arguments, its rows and its collator."""
        return {"loss": self.loss}

    def validation_metrics(
        self, data: "PreparedTask[Task]", rows: TorchDataset
    ) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return the function that scores an evaluation on the validation rows.

        It gives "token_accuracy", by which weights are chosen, and "score", which is reported.
        """
        raise NotImplementedError

    def test(
        self,
        model: PreTrainedModel,
        data: "PreparedTask[Task]",
        spec: "FinetuningSpec",
        trainer: SynpreTrainer,
    ) -> TestScores:
        """Return the scores of a fine-tuned model on the test split, which is read here only."""
        raise NotImplementedError
