"""Heads: how models answer one kind of task, from the columns of its rows to its test scores.

`Head` is the interface. Its subclasses are in text_head.py, completion_head.py, language_head.py,
masked_language_head.py, label_heads.py and likelihood_head.py; the table HEADS of catalog.py has an
object of each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NotRequired, TypeAlias, TypedDict, TypeVar

import pyarrow as pa
import torch
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from hf_synpre.data.corpora import Corpus
from hf_synpre.data.rows import MapDataset
from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.errors import UsageError
from hf_synpre.training.arguments import WATCHABLE
from hf_synpre.training.losses import TokenLoss
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

# Rows of an evaluation batch. On a CPU a row takes longer in a large batch, whose logits do not fit
# into the cache (benchmarks/evaluation.py).
EVALUATION_BATCH = 128 if torch.cuda.is_available() else 16


class ReportedScores(TypedDict):
    """The scores of a model on the test split."""

    metric: str  # the name of the score that is reported
    score: float  # its value
    scores: dict[str, float]  # all scores by name
    # How some scores are made: which average, which words, which scheme of tags.
    scoring: NotRequired[dict[str, str]]
    notes: NotRequired[list[str]]  # what must be known beside the scores, a sentence each
    test_examples: int  # the examples that were scored
    # The reported score of each example, as files.pack_fractions writes it.
    example_scores: NotRequired[str]
    # The probability of each class of each example, row by row, as files.pack_fractions writes it.
    probabilities: NotRequired[str]
    truths: NotRequired[list[int]]  # the true class of each example


class Head(ABC, Generic[Task, Rows]):
    """One kind of answer to a downstream task: generated text, a class, a number, tags ...

    The first half of the methods reads the data and does not depend on the model; the second half
    is about the model. Heads have no state.
    """

    # The name of the head: the field `head` of a task's definition.
    name: ClassVar[str]
    # The Auto class of transformers that makes the models.
    model_class: ClassVar[Any]
    # The architecture that is used if none is given: a model_type of transformers.
    usual_model_type: ClassVar[str]
    # Whether the models have parameters that pre-trained models lack; then only the body of a
    # pre-trained model is loaded.
    adds_parameters: ClassVar[bool]

    # The class of the Trainer, the rows of its evaluation batches, and the arguments that the head
    # fixes.
    trainer_class: ClassVar[type[SynpreTrainer]] = SynpreTrainer
    evaluation_batch: ClassVar[int] = EVALUATION_BATCH
    training_arguments: ClassVar[dict[str, Any]] = {}
    # What the answer is: "labels", "text" that is generated, or "tokens" of a text.
    answer: ClassVar[str] = "labels"
    # Whether the loss obeys label_smoothing_factor of TrainingArguments.
    smooths_labels: ClassVar[bool] = True
    # What evaluations have, which a schedule may watch.
    watchable: ClassVar[tuple[str, ...]] = WATCHABLE

    # ---- The data: rows of a dataset -> ids on disk -> rows of a model.

    @abstractmethod
    def train_tokenizer(
        self, task: Task, train: SplitRows, vocab_size: int, corpus: Corpus | None
    ) -> tuple[PreTrainedTokenizerBase, str]:
        """Return a tokenizer for this kind of model, and a line on its origin.

        Args:
            task: the task.
            train: the rows of its train split, as `task.load` returns them.
            vocab_size: the number of ids of the tokenizer.
            corpus: the text that it is trained on; None for the texts of the train split.
        """

    def usable_splits(self, task: Task, splits: Mapping[str, SplitRows]) -> Mapping[str, SplitRows]:
        """Return the rows of each split that can be learned or scored; the others are said.

        Args:
            task: the task.
            splits: train, validation and test, as `task.load` returns them.

        Raises:
            UsageError: no row of a split is left.
        """
        return splits

    def split_facts(self, encoded: pa.Table, label_names: list[Any] | None) -> dict[str, Any]:
        """Return what results keep of a split beside its rows and digest, such as label counts.

        Args:
            encoded: the table of the split, as `encode` made it.
            label_names: the names of the labels of the train split, None if they have none.
        """
        return {}

    def label_names(self, task: Task, train: SplitRows) -> list[Any] | None:
        """Return the names of the labels in the order of their numbers, None if they have none.

        Args:
            task: the task.
            train: the rows of its train split, as `task.load` returns them.
        """
        return None

    @abstractmethod
    def head_metadata(
        self, task: Task, label_names: list[Any] | None, data_dir: str | None
    ) -> dict[str, Any]:
        """Return the keys of facts.json beside the tokenizer's origin and the splits.

        Args:
            task: the task.
            label_names: what the method `label_names` returned.
            data_dir: the folder that the rows came from; None for the Hub.
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
            label_names: the names of the labels of the train split, None if they have none.
            tokenizer: makes the ids. Special tokens are added later, by `make_rows`.
            split: the name of the split, for messages.

        Raises:
            UsageError: a row has no text or label, or a label that the train split does not have.
        """

    @abstractmethod
    def digest(self, rows: SplitRows, encoded: pa.Table) -> str:
        """Return the sha256 that identifies a split's rows in results.

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

    def arrange(
        self,
        data: "PreparedTask[Task]",
        rows: Rows,
        split: str,
        spec: "FinetuningSpec",
        seed: int = 0,
    ) -> Rows | MapDataset[Any]:
        """Return the rows of a split as models of this family take them: some ids masked, say.

        Args:
            data: the prepared task.
            rows: the rows, as `make_rows` returns them.
            split: train, validation or test.
            spec: the recipe.
            seed: that of the run, which may decide what is drawn for training, and nothing else.
        """
        return rows

    def order_sample(self, encoded: pa.Table) -> pa.Table:
        """Return the sampled rows of an evaluation in the order in which they are evaluated."""
        return encoded

    # ---- The model: config, batches, loss, validation, test.

    @abstractmethod
    def accepts_config(self, config: PreTrainedConfig) -> bool:
        """Say whether models of this config's family can have the head."""

    @abstractmethod
    def refusal(self, task: Task, config: PreTrainedConfig) -> str:
        """Return a sentence that says why a config's family does not fit, and which one does."""

    def configure(self, config: PreTrainedConfig, data: "PreparedTask[Task]") -> PreTrainedConfig:
        """Return the config of a model for the task, with its number of labels for example.

        Args:
            config: the architecture; it is changed in place.
            data: the prepared task.

        Raises:
            UsageError: the model cannot take the task's rows.
        """
        return config

    def prepare_model(self, model: PreTrainedModel, data: "PreparedTask[Task]") -> None:
        """Change a model in place before it is trained; `complete_model` takes that back."""

    def complete_model(self, model: PreTrainedModel) -> None:
        """Make a trained model an ordinary one of transformers again, in place."""

    @abstractmethod
    def collator(self, data: "PreparedTask[Task]", config: PreTrainedConfig) -> Collator:
        """Return the function that makes a batch of a list of rows.

        Args:
            data: the prepared task: its tokenizer, its lengths.
            config: the config of the model that takes the batches.
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
            num_items_in_batch: the number of labels of the step, over accumulated batches and
                processes; None for that of this batch.
        """

    def check_scoring(self, data: "PreparedTask[Task]", spec: "FinetuningSpec") -> dict[str, Any]:
        """Say what the metric cannot judge, before training.

        Args:
            data: the prepared task: its rows, its metric.
            spec: the recipe.

        Returns:
            Keys of the result: how predictions are scored ("scoring"), and what must be known
            beside the scores.

        Raises:
            UsageError: the scores would say nothing.
        """
        return {}

    def higher_is_better(self, task: Task) -> bool:
        """Say whether a higher test score is better."""
        return True

    def criterion(self, task: Task) -> str:
        """Return the validation metric by which weights are chosen.

        It is "token_accuracy" or "score", of which the highest is the best, or "loss", of which the
        lowest is.
        """
        return "token_accuracy"

    def trainer_options(self, spec: "FinetuningSpec", data: "PreparedTask[Task]") -> dict[str, Any]:
        """Return the Trainer's keywords beside its arguments, rows and collator."""
        return {"loss": self.smoothed_loss(spec)}

    def smoothed_loss(self, spec: "FinetuningSpec") -> Callable[..., torch.Tensor]:
        """Return the loss with the recipe's label_smoothing_factor."""
        factor = self.label_smoothing(spec)
        smoothed: Callable[..., torch.Tensor] = self.loss
        return partial(smoothed, label_smoothing=factor) if factor else smoothed

    def label_smoothing(self, spec: "FinetuningSpec") -> float:
        """Return the recipe's label_smoothing_factor.

        Raises UsageError if the factor is no share, or the loss cannot have one.
        """
        factor = spec.training.get("label_smoothing_factor", 0.0)
        if factor and not self.smooths_labels:
            raise UsageError(
                f"The head {self.name} has no loss with smoothed labels; leave "
                "label_smoothing_factor out."
            )
        if not 0 <= factor < 1:
            raise UsageError(
                f"label_smoothing_factor is {factor}; give a share of at least 0 and below 1."
            )
        return factor

    @abstractmethod
    def validation_metrics(
        self, data: "PreparedTask[Task]", rows: Rows
    ) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return the function that scores an evaluation (`compute_metrics` of a Trainer).

        It returns "score", which is reported, and where tokens are predicted "token_accuracy", by
        which weights are chosen there.

        Args:
            data: the prepared task.
            rows: the validation rows of the evaluation.
        """

    @abstractmethod
    def test(
        self,
        model: PreTrainedModel,
        data: "PreparedTask[Task]",
        spec: "FinetuningSpec",
        trainer: SynpreTrainer,
    ) -> ReportedScores:
        """Return the scores of a model on the test split, which is read only here.

        Args:
            model: the model with the weights that were chosen.
            data: the prepared task.
            spec: the number of test rows, and how text is generated.
            trainer: the Trainer that fine-tuned the model.
        """


def labels_of_step(
    labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
) -> torch.Tensor | int:
    """Return the number of labels of the step; that of this batch if it is not known."""
    return labels.numel() if num_items_in_batch is None else num_items_in_batch


def token_cross_entropy(
    head: Head[Any, Any],
    outputs: ModelOutput,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the cross-entropy per labelled position, in nats: the method `loss` of some heads."""
    return TokenLoss(label_smoothing)(outputs, labels, num_items_in_batch)


class TokenHead(Head[Task, Rows]):
    """A head whose labels are tokens: the loss is their cross-entropy."""

    # The columns of a split's texts.
    text_columns: ClassVar[tuple[str, ...]]

    loss = token_cross_entropy

    def train_tokenizer(
        self, task: Task, train: pa.Table, vocab_size: int, corpus: Corpus | None
    ) -> tuple[PreTrainedTokenizerBase, str]:
        """Return a byte-level tokenizer with T5's special tokens, and a line on its origin."""
        if corpus is not None:
            texts, source = corpus.texts("train"), corpus.metadata["name"]
        else:
            texts = (text.as_py() for column in self.text_columns for text in train[column])
            source = "the train split"
        tokenizer = train_tokenizer(texts, vocab_size)
        return tokenizer, f"byte-level BPE trained on {source}, {vocab_size} ids"

    def head_metadata(
        self, task: Task, label_names: list[Any] | None, data_dir: str | None
    ) -> dict[str, Any]:
        """Return the Hub id, None if the rows came from a folder."""
        return {"hub_id": None if data_dir else task.hub_id}

    def trainer_options(self, spec: "FinetuningSpec", data: "PreparedTask[Task]") -> dict[str, Any]:
        """Return the loss, and the function by which an evaluation keeps no logits."""
        loss = TokenLoss(self.label_smoothing(spec))
        return {"loss": loss, "preprocess_logits_for_metrics": loss.by_row}
