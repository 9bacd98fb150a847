"""The base of the heads of labelled tasks: texts and labels -> rows, logits -> scores."""

import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import (
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.data.collators import LabelCollator
from hf_synpre.data.corpora import Corpus, dataset_corpus
from hf_synpre.data.rows import MULTIPLE, padded_to_multiple
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.data.tokenizers import train_encoder_tokenizer
from hf_synpre.errors import UsageError
from hf_synpre.files import pack_fractions
from hf_synpre.finetuning.heads import EVALUATION_BATCH, Collator, Head, ReportedScores
from hf_synpre.finetuning.label_encoding import (
    IDS_OF_TEXTS,
    check_tags,
    column_texts,
    ids_digest,
    label_values,
    text_columns,
    tokenize_texts,
)
from hf_synpre.finetuning.label_names import LabelNames, class_number, positive_number
from hf_synpre.finetuning.label_rows import (
    LabelRows,
    SpecialTokensTemplate,
)
from hf_synpre.finetuning.scores import (
    CHECKS,
    ERROR_METRICS,
    SCORES,
    SCORINGS,
    Labels,
    Scores,
    prediction_notes,
)
from hf_synpre.initialization import skeleton
from hf_synpre.models.families import longest_input, reads_last_position, uses_token_types
from hf_synpre.training.trainer import SynpreTrainer
from hf_synpre.vocabulary import padding_and_end

if TYPE_CHECKING:
    from hf_synpre.finetuning.finetuning import FinetuningSpec
    from hf_synpre.finetuning.label_tasks import LabelTask
    from hf_synpre.finetuning.prepared import PreparedTask

logger = logging.getLogger(__name__)

SHOWN_LABELS = 5  # names of labels that a message lists at the most

# Logits of labels are small, so evaluation batches are larger than those of text.
LABEL_BATCH = 4 * EVALUATION_BATCH


class RowOrderTrainer(SynpreTrainer):
    """A SynpreTrainer that evaluates rows in their order, whatever the sampling of training."""

    def _get_eval_sampler(self, eval_dataset: LabelRows) -> SequentialSampler | None:
        # transformers returns None for rows without a length.
        if super()._get_eval_sampler(eval_dataset) is None:
            return None
        return SequentialSampler(eval_dataset)


class LabelHead(Head["LabelTask", LabelRows]):
    """The base of the heads of labelled tasks: an encoder, or a decoder, with a small layer on top.

    LikelihoodHead (likelihood_head.py) alone adds no layer.

    Weights are chosen by the reported score of the validation rows.
    """

    usual_model_type = "electra"
    adds_parameters = True
    trainer_class = RowOrderTrainer
    evaluation_batch = LABEL_BATCH
    watchable = ("loss", "score")
    training_arguments: ClassVar[dict[str, Any]] = {
        "label_names": ["labels"],
        "train_sampling_strategy": "group_by_length",
    }

    # The metrics that can judge the predictions, names of SCORES; the first is reported unless a
    # task names another.
    metrics: ClassVar[tuple[str, ...]]
    # transformers' name of the loss, if the class of models has several.
    problem_type: ClassVar[str | None] = None
    # The width of the logits where labels have no names.
    unnamed_outputs: ClassVar[int] = 1
    # The rows that a model takes, and whether each position of a row has a label.
    row_class: ClassVar[type[LabelRows]] = LabelRows
    labels_positions: ClassVar[bool] = False
    # Whether predictions are about positions of a row, which is then padded on the right.
    predicts_positions: ClassVar[bool] = False
    # Whether text columns must hold lists of words.
    reads_words: ClassVar[bool] = False
    # Whether results have the probability of every class, for ensembles.
    reports_probabilities: ClassVar[bool] = False

    # ---- The data.

    @abstractmethod
    def accepts_label_type(self, column_type: pa.DataType) -> bool:
        """Say whether a column of this Arrow type can hold the head's labels."""

    def texts_to_encode(self, task: "LabelTask", rows: Dataset, split: str) -> list[list[str]]:
        """Return the texts of each row that become ids.

        Args:
            task: the task, for its text columns.
            rows: the rows of a split.
            split: the name of the split, for messages.
        """
        return [list(texts) for texts in column_texts(task, rows)]

    def find_label_names(self, task: "LabelTask", train: Dataset) -> list[Any] | None:
        """Return the names of the labels in the order of their numbers, None without names."""
        return None

    def label_names(self, task: "LabelTask", train: Dataset) -> list[Any] | None:
        """Return the names of the labels. UsageError: entities are scored, and no tag marks one."""
        names = self.find_label_names(task, train)
        check_tags(task, names)
        return names

    def label_number(
        self, task: "LabelTask", value: Any, names: list[Any], split: str
    ) -> int | float | list[Any]:
        """Return a label of the dataset as a number or numbers.

        Args:
            task: the task, for messages.
            value: the label in the dataset.
            names: the names of the labels; empty if they have none.
            split: the name of the split, for messages.

        Raises:
            ValueError or TypeError: it is no label of this head.
        """
        return class_number(value, names)

    def label_remedy(self, names: list[Any]) -> str:
        """Return the end of the error that refuses a label."""
        return (
            ", which no row of train has; add one, or generate labels as text (--source, --target)"
        )

    def read_label(
        self, task: "LabelTask", value: Any, names: list[Any] | None, split: str
    ) -> int | float | list[Any]:
        """Return the label of a row as the number, or numbers, of the head.

        Args:
            task: the task, for messages.
            value: the label in the dataset.
            names: the names of the labels of the train split, None if they have none.
            split: the name of the split, for messages.

        Raises:
            UsageError: there is no label, or one that the train split does not have.
        """
        is_nan = value != value
        if value is None or is_nan:
            raise UsageError(
                f"{task.name}: a row of {split} has no label ({value}); give one in every row."
            )

        # A UsageError is a ValueError too; its text says more than the one below.
        try:
            return self.label_number(task, value, names or [], split)
        except UsageError:
            raise
        except (TypeError, ValueError) as error:
            remedy = self.label_remedy(names or [])
            raise UsageError(
                f"{task.name}: a row of {split} has the label {value!r}{remedy}."
            ) from error

    def train_tokenizer(
        self, task: "LabelTask", train: Dataset, vocab_size: int, corpus: Corpus | None
    ) -> tuple[PreTrainedTokenizerBase, str]:
        """Return a tokenizer that puts [CLS] and [SEP] around texts, and a line on its origin."""
        if corpus is not None:
            tokenizer = train_encoder_tokenizer(
                corpus.texts("train"),
                vocab_size,
                corpus.metadata["name"],
                lowercase=task.lowercase,
            )
        else:
            text = TextSpec(text_columns(task, train))
            train_text = dataset_corpus(train, text, task.name)
            tokenizer = train_encoder_tokenizer(
                train_text.texts("train"), vocab_size, lowercase=task.lowercase
            )
        return tokenizer, tokenizer.init_kwargs["origin"]

    def head_metadata(
        self, task: "LabelTask", label_names: list[Any] | None, data_dir: str | None
    ) -> dict[str, Any]:
        """Return the names of the labels and the dataset's Hub id."""
        metadata: dict[str, Any] = {"labels": label_names, "hub_id": task.hub_id}
        if isinstance(label_names, LabelNames) and not label_names.declared:
            metadata["labels_declared"] = False
        return metadata

    def encode(
        self,
        task: "LabelTask",
        rows: Dataset,
        label_names: list[Any] | None,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
    ) -> pa.Table:
        """Return `pieces`, the ids of every text of a row, and `label`."""
        texts = self.texts_to_encode(task, rows, split)
        pieces = tokenize_texts(tokenizer, texts, special_tokens=task.special_tokens)
        labels = []
        for value in label_values(task, rows, label_names):
            labels.append(self.read_label(task, value, label_names, split))
        return pa.table({"pieces": pa.array(pieces, IDS_OF_TEXTS), "label": labels})

    def digest(self, rows: Dataset, encoded: pa.Table) -> str:
        """Return the sha256 of a split's ids and labels."""
        return ids_digest(encoded)

    def make_rows(self, data: "PreparedTask[LabelTask]", encoded: pa.Table) -> LabelRows:
        """Return the rows of an encoded split, special tokens around the texts."""
        template = SpecialTokensTemplate.from_tokenizer(data.tokenizer, data.task.max_source)
        return self.row_class(encoded, template)

    # ---- The model.

    def accepts_config(self, config: PreTrainedConfig) -> bool:
        """Say whether the config is an encoder's or a decoder's, and has a model with this head."""
        has_class = type(config) in self.model_class._model_mapping
        return has_class and not config.is_encoder_decoder

    def refusal(self, task: "LabelTask", config: PreTrainedConfig) -> str:
        """Return why an encoder-decoder does not fit, or an architecture without the head."""
        if not config.is_encoder_decoder:
            return (
                f"{task.name} has the head {self.name}, and transformers has no "
                f"{self.model_class.__name__} of {config.model_type}; give another model_type or "
                "checkpoint, such as an encoder (electra, bert ...) or llama."
            )
        return (
            f"{task.name} has labels, which encoders and decoders answer, and {config.model_type} "
            "is an encoder-decoder; give a model_type or checkpoint of an encoder (electra, bert "
            "...) or decoder. An encoder-decoder answers data of your own with a target text "
            "(--source and --target)."
        )

    def configure(
        self, config: PreTrainedConfig, data: "PreparedTask[LabelTask]"
    ) -> PreTrainedConfig:
        """Return the config with the task's labels.

        Raises UsageError where rows are longer than the model's position embeddings.
        """
        self._check_positions(config, data)

        names = data.metadata["labels"]
        config.num_labels = len(names) if names else self.unnamed_outputs
        if names:
            config.id2label = {number: str(name) for number, name in enumerate(names)}
            config.label2id = {name: number for number, name in config.id2label.items()}
        config.problem_type = self.problem_type
        return config

    def _check_positions(self, config: PreTrainedConfig, data: "PreparedTask[LabelTask]") -> None:
        """Raise UsageError where rows are longer than the model's position embeddings."""
        positions = longest_input(skeleton(self.model_class, config))
        longest_possible = data.task.max_source + MULTIPLE - 1  # rows are padded to a multiple
        if positions is None or positions >= longest_possible:
            return

        # Read all rows only if the model's limit is below the task's: most rows are shorter.
        longest = self.longest_row(data)
        if positions < longest:
            raise UsageError(
                f"Rows of {data.task.name} take up to {longest} positions, the model has position "
                f"embeddings for {positions}; give a smaller max_source (of the task) or more "
                "position embeddings (of the config)."
            )

    def longest_row(self, data: "PreparedTask[LabelTask]") -> int:
        """Return the positions of the longest row of all splits, padded as the collator pads."""
        longest_text = 0
        for split in ("train", "validation", "test"):
            rows = data.rows(split, head=self)
            for example in range(len(rows.labels)):
                longest_text = max(longest_text, rows.text_length(example))

        template = rows.template
        special = len(template.before) + len(template.between) + len(template.after)
        longest = min(longest_text + special, template.length)
        return padded_to_multiple(longest)

    def collator(self, data: "PreparedTask[LabelTask]", config: PreTrainedConfig) -> Collator:
        """Return the collator that pads texts, and labels where positions have them."""
        pad, _ = padding_and_end(data.tokenizer)
        return LabelCollator(
            pad,
            tags=self.labels_positions,
            types=uses_token_types(config),
            left=reads_last_position(config) and not self.predicts_positions,
        )

    def higher_is_better(self, task: "LabelTask") -> bool:
        """Say whether a higher score is better: of errors the lower one is."""
        return task.metric_name not in ERROR_METRICS

    def criterion(self, task: "LabelTask") -> str:
        """Return the loss for errors, and for other metrics the reported score."""
        return "score" if self.higher_is_better(task) else "loss"

    def trainer_options(
        self, spec: "FinetuningSpec", data: "PreparedTask[LabelTask]"
    ) -> dict[str, Any]:
        """Return the loss, and how learning rates fall from layer to layer."""
        return {"loss": self.smoothed_loss(spec), "layer_decay": spec.layer_decay}

    def predictions(self, rows: Any, logits: Any, names: list[Any]) -> Any:
        """Return the predictions of the logits, one for each example, as score functions take them.

        Args:
            rows: the rows of the logits, in their order.
            logits: the model's logits, [rows, ...].
            names: the names of the labels; empty if they have none.
        """
        return logits.argmax(-1)  # [rows]

    def true_labels(self, rows: Any, names: list[Any]) -> Any:
        """Return the labels of each example, as the score functions take them."""
        return rows.true_labels

    def score(self, data: "PreparedTask[LabelTask]", rows: LabelRows, logits: Any) -> Scores:
        """Return the scores of a model's logits.

        Args:
            data: the task: its metric and the names of its labels.
            rows: the rows of the logits, in their order.
            logits: the model's logits, [rows, ...].

        Returns:
            The scores by name, the reported one first; and the reported score of each example, if
            it is a mean over examples.
        """
        names = data.metadata["labels"] or []
        predictions = self.predictions(rows, logits, names)
        return SCORES[data.task.metric_name](
            predictions, self.true_labels(rows, names), known_labels(data)
        )

    def label_notes(self, found: dict[str, dict[str, Any]]) -> list[str]:
        """Return what must be known of the labels before training, a sentence each.

        Args:
            found: split -> what `split_facts` found of it.
        """
        return unlearned_labels(found)

    def check_scoring(
        self, data: "PreparedTask[LabelTask]", spec: "FinetuningSpec"
    ) -> dict[str, Any]:
        """Return how labels are scored.

        UsageError: the metric cannot judge the labels of train or test, such as one class alone.
        """
        metric, known = data.task.metric_name, known_labels(data)
        notes = self.label_notes(data.metadata.get("found", {}))
        for split, fault in split_faults(data, known).items():
            if split == "validation":
                notes.append(f"{metric} cannot choose weights on the rows of validation: {fault}")
                continue
            remedy = f"give other rows of {split}"
            others = [name for name in self.metrics if name != metric]
            if others:
                remedy += f" or another metric ({', '.join(others)})"
            raise UsageError(
                f"{data.task.name}: {metric} cannot judge the rows of {split}: {fault}; {remedy}."
            )

        for note in notes:
            logger.warning("%s: %s.", data.task.name, note)
        checked: dict[str, Any] = {}
        if metric in SCORINGS:
            checked["scoring"] = SCORINGS[metric](known)
        if notes:
            checked["notes"] = notes
        return checked

    def validation_metrics(
        self, data: "PreparedTask[LabelTask]", rows: LabelRows
    ) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return the function that gives the reported score; weights are chosen by it too."""

        def scored(prediction: EvalPrediction) -> dict[str, float]:
            scores, _ = self.score(data, rows, prediction.predictions)
            return {"score": next(iter(scores.values()))}

        return scored

    def test(
        self,
        model: PreTrainedModel,
        data: "PreparedTask[LabelTask]",
        spec: "FinetuningSpec",
        trainer: SynpreTrainer,
    ) -> ReportedScores:
        """Predict the rows of the test split and score them."""
        rows = data.rows("test", spec.test_examples, self)
        trainer.compute_metrics = None  # that function is for the validation rows
        logits = trainer.predict(rows).predictions

        scores, example_scores = self.score(data, rows, logits)
        metric = next(iter(scores))
        tested: ReportedScores = {
            "metric": metric,
            "score": scores[metric],
            "scores": scores,
            "test_examples": len(rows.true_labels),
        }
        if example_scores is not None:
            tested["example_scores"] = pack_fractions(example_scores)
        predictions = self.predictions(rows, logits, data.metadata["labels"] or [])
        if notes := prediction_notes(data.task.metric_name, predictions):
            tested["notes"] = notes
            for note in notes:
                logger.warning("%s: %s.", data.task.name, note)
        if self.reports_probabilities:
            tested["probabilities"] = pack_fractions(softmax(logits))
            tested["truths"] = rows.true_labels.tolist()
        return tested


def unlearned_labels(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for each split with labels that no row of train has.

    Args:
        found: split -> what was found of it, with the rows or words of each label.
    """
    sentences = []
    in_train = found.get("train", {}).get("label_counts", {})
    for split in ("validation", "test"):
        counts = found.get(split, {}).get("label_counts", {})
        missing = [name for name, count in counts.items() if count and not in_train[name]]
        if missing:
            listed = ", ".join(missing[:SHOWN_LABELS])
            sentences.append(
                f"{split} has {len(missing)} labels that no row of train has, such as {listed}"
            )
    return sentences


def split_faults(data: "PreparedTask[LabelTask]", known: Labels) -> dict[str, str]:
    """Return for each split whose labels the task's metric cannot judge why that is so."""
    metadata = data.metadata
    check = CHECKS.get(data.task.metric_name)
    faults: dict[str, str] = {}
    if check is None:
        return faults
    for split, found in metadata.get("found", {}).items():
        fault = check(known, found, metadata["splits"][split]["rows"])
        if fault is not None:
            faults[split] = fault
    return faults


def known_labels(data: "PreparedTask[LabelTask]") -> Labels:
    """Return what the scores know of a task's labels: their names, and the positive class.

    Raises UsageError where F1 of two classes is scored and nothing says which one is positive.
    """
    metadata = data.metadata
    names = tuple(metadata["labels"] or ())
    if data.task.metric_name != "accuracy_f1" or len(names) != 2:
        return Labels(names)
    declared = metadata.get("labels_declared", True)
    return Labels(names, positive_number(data.task, names, declared))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, both [rows, classes]."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
