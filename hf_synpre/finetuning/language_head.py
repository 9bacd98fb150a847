"""The head of language modelling: documents -> windows of ids -> bits per byte of a decoder.

The documents of a split are one stream of ids, an end-of-sequence id after each document. It is cut
end to end into windows of `max_source` ids. A decoder reads a window, begun with the id before it,
and predicts its ids, so that every id of the stream is predicted once.

Bits per byte are the negative log-likelihood of all these ids, ends of documents included, in bits,
over the bytes of the documents in UTF-8. They do not depend on how long tokens are, so models with
other tokenizers compare.
"""

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from transformers import (
    AutoModelForCausalLM,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.data.collators import RowCollator
from hf_synpre.data.corpora import Corpus, texts_digest
from hf_synpre.data.encoding import encode_texts
from hf_synpre.data.rows import Row, padded_to_multiple
from hf_synpre.errors import UsageError
from hf_synpre.finetuning.heads import Collator, ReportedScores, TokenHead
from hf_synpre.finetuning.language_tasks import BITS_PER_BYTE
from hf_synpre.models.families import is_decoder, positions_field
from hf_synpre.training.losses import teacher_forced
from hf_synpre.training.trainer import SynpreTrainer
from hf_synpre.vocabulary import padding_and_end

if TYPE_CHECKING:
    from hf_synpre.finetuning.finetuning import FinetuningSpec
    from hf_synpre.finetuning.language_tasks import LanguageTask
    from hf_synpre.finetuning.prepared import PreparedTask

logger = logging.getLogger(__name__)


class WindowRows:
    """Map-style rows {input_ids, labels, segments} of the documents of a split, end to end.

    Args:
        documents: the ids of each document, without an end.
        sizes: the bytes of each document.
        eos: the id after each document, and before the first.
        length: the ids that a row predicts; the last row may have fewer.

    Attributes:
        ids: the ids that are predicted, with one more before them, int32[targets + 1].
        documents: how many documents there are.
        bytes: the bytes of all documents.
    """

    def __init__(self, documents: pa.ChunkedArray, sizes: np.ndarray, eos: int, length: int):
        end = np.array([eos], np.int32)
        parts = [end]
        for document in documents:
            parts += [document.values.to_numpy(), end]
        self.ids = np.concatenate(parts)
        self.length = length
        self.documents = len(documents)
        self.bytes = int(sizes.sum())

    @property
    def targets(self) -> int:
        """How many ids are predicted."""
        return len(self.ids) - 1

    def __len__(self) -> int:
        return math.ceil(self.targets / self.length)

    def __getitem__(self, index: int) -> Row:
        window = self.ids[index * self.length : (index + 1) * self.length + 1]
        inputs = window[:-1]
        return {"input_ids": inputs, "labels": window[1:], "segments": np.ones_like(inputs)}


class LanguageHead(TokenHead["LanguageTask", WindowRows]):
    """The next token of text, predicted by a decoder. Validation and test are in bits per byte."""

    name = "lm"
    model_class = AutoModelForCausalLM
    usual_model_type = "llama"
    text_columns = ("text",)
    adds_parameters = False
    smooths_labels = False  # bits per byte are those of the text
    answer = "tokens"
    metric: ClassVar[str] = BITS_PER_BYTE  # what `score` gives

    def higher_is_better(self, task: "LanguageTask") -> bool:
        """Say that a lower score is better: bits per byte, or a loss."""
        return False

    def criterion(self, task: "LanguageTask") -> str:
        """Return the loss, by which weights are chosen."""
        return "loss"

    def train_tokenizer(
        self, task: "LanguageTask", train: pa.Table, vocab_size: int, corpus: Corpus | None
    ) -> tuple[PreTrainedTokenizerBase, str]:
        """Return that of all heads of tokens with a mask, for models that are trained on masks."""
        tokenizer, origin = super().train_tokenizer(task, train, vocab_size, corpus)
        tokenizer.mask_token = "<extra_id_0>"
        return tokenizer, origin

    def encode(
        self,
        task: "LanguageTask",
        rows: pa.Table,
        label_names: list[Any] | None,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
    ) -> pa.Table:
        """Return input_ids (list<int32>) and bytes of every document."""
        texts = rows["text"].to_pylist()
        ids = encode_texts(tokenizer, texts, special_tokens=task.special_tokens)["input_ids"]
        sizes = [len(text.encode()) for text in texts]
        return pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32())), "bytes": sizes})

    def digest(self, rows: pa.Table, encoded: pa.Table) -> str:
        """Return the sha256 of the documents in order."""
        return texts_digest(rows["text"].to_pylist())

    def split_facts(self, encoded: pa.Table, label_names: list[Any] | None) -> dict[str, Any]:
        """Return the bytes and the ids of a split; an end of sequence counts for each document."""
        lengths = [len(document) for document in encoded["input_ids"]]
        return {"bytes": sum(encoded["bytes"].to_pylist()), "ids": sum(lengths) + len(lengths)}

    def make_rows(self, data: "PreparedTask[LanguageTask]", encoded: pa.Table) -> WindowRows:
        """Return the windows of a split."""
        _, eos = padding_and_end(data.tokenizer)
        sizes = encoded["bytes"].to_numpy()
        return WindowRows(encoded["input_ids"], sizes, eos, data.task.max_source)

    def accepts_config(self, config: PreTrainedConfig) -> bool:
        """Say whether the config is a decoder's."""
        return is_decoder(config)

    def refusal(self, task: "LanguageTask", config: PreTrainedConfig) -> str:
        """Return why an encoder-decoder does not fit."""
        return (
            f"{task.name} is text whose tokens are predicted, the next one or masked ones, and "
            f"{config.model_type} does neither; give a decoder (model_type llama or gpt2) or a "
            "masked model (bert or roberta)."
        )

    def configure(
        self, config: PreTrainedConfig, data: "PreparedTask[LanguageTask]"
    ) -> PreTrainedConfig:
        """Return the config as it is. UsageError: it has too few position embeddings."""
        limit = getattr(config, "max_position_embeddings", None)
        field = positions_field(config)
        width = padded_to_multiple(data.task.max_source)
        if isinstance(limit, int) and 0 < limit < width:
            raise UsageError(
                f"{data.task.name} has sequences of {data.task.max_source} ids (max_source), in "
                f"batches {width} wide, and {config.model_type} has {limit} position embeddings; "
                f"give a smaller max_source, or a config with {field} of {width}."
            )
        return config

    def check_scoring(
        self, data: "PreparedTask[LanguageTask]", spec: "FinetuningSpec"
    ) -> dict[str, Any]:
        """Return how much of the text has the unknown id, which is easy to predict."""
        unknown = data.tokenizer.unk_token_id
        if unknown is None or unknown in padding_and_end(data.tokenizer):
            return {}
        rows = data.rows("validation", spec.validation_examples)
        share = float(np.mean(rows.ids[1:] == unknown))
        if share == 0:
            return {}
        note = (
            f"{share:.1%} of the validation ids are the tokenizer's unknown id, which stands for "
            f"any text: {self.metric} counts that text as predicted, and does not compare with "
            "another tokenizer's"
        )
        logger.warning("%s: %s.", data.task.name, note)
        return {"notes": [note]}

    def collator(self, data: "PreparedTask[LanguageTask]", config: PreTrainedConfig) -> Collator:
        """Return the collator, which pads the last window of a split."""
        pad, _ = padding_and_end(data.tokenizer)
        return RowCollator(pad, alone=True)

    def score(self, rows: WindowRows, loss: float) -> float:
        """Return the bits per byte of all rows, of their loss in nats per id."""
        return loss * rows.targets / math.log(2) / rows.bytes

    def validation_metrics(
        self, data: "PreparedTask[LanguageTask]", rows: WindowRows
    ) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return the function that gives the loss, the share of right ids, and the score."""

        def scored(prediction: EvalPrediction) -> dict[str, float]:
            metrics = teacher_forced(prediction)
            return metrics | {"score": self.score(rows, metrics["loss"])}

        return scored

    def test(
        self,
        model: PreTrainedModel,
        data: "PreparedTask[LanguageTask]",
        spec: "FinetuningSpec",
        trainer: SynpreTrainer,
    ) -> ReportedScores:
        """Return the score of the test text, the loss beside it and the share of right ids."""
        rows = data.rows("test", spec.test_examples)
        with torch.inference_mode():
            metrics = trainer.predict(self.arrange(data, rows, "test", spec)).metrics
        scores = {self.metric: self.score(rows, metrics["test_loss"])}
        if self.metric == BITS_PER_BYTE:  # the other score is the loss
            scores["loss"] = metrics["test_loss"]
        scores["token_accuracy"] = metrics["test_token_accuracy"]
        return {
            "metric": self.metric,
            "score": scores[self.metric],
            "scores": scores,
            "test_examples": rows.documents,
        }
