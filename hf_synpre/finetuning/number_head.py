"""The head that predicts a number: a molecule's boiling point, the similarity of two sentences.

A new layer begins with outputs near zero, and an optimizer moves it by steps of one size. Numbers
in the hundreds would take it thousands of steps, so it learns them standardised:

1. Before training, the last layer becomes a `StandardizedLinear`. It multiplies its outputs by the
   standard deviation of train's numbers and adds their mean.
2. The loss is the squared error over the variance of train's numbers: 1 for somebody who always
   says their mean.
3. After the test, mean and deviation move into the layer's weight and bias. What is saved is an
   ordinary model of transformers that predicts the numbers themselves.
"""

import logging
import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from torch import nn
from torch.nn.functional import mse_loss
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import ModelOutput

from hf_synpre.finetuning.heads import labels_of_step
from hf_synpre.finetuning.label_head import LabelHead
from hf_synpre.finetuning.label_names import gold_rows
from hf_synpre.finetuning.scores import ERROR_METRICS

if TYPE_CHECKING:
    from hf_synpre.finetuning.finetuning import FinetuningSpec
    from hf_synpre.finetuning.label_tasks import LabelTask
    from hf_synpre.finetuning.prepared import PreparedTask

logger = logging.getLogger(__name__)

# A mean of so many standard deviations is said where the last layer has no bias to hold it.
FAR_MEAN = 3.0


class StandardizedLinear(nn.Linear):
    """The last layer while it is trained: its parameters are those of standardised numbers."""

    mean: float
    deviation: float

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the numbers themselves, in float32: bfloat16 has no digits to spare for a mean.

        Args:
            states: hidden states, [..., width].
        """
        return super().forward(states).float() * self.deviation + self.mean  # [..., 1]


class NumberHead(LabelHead):
    """A number for a text or a pair of texts, such as their similarity."""

    name = "number"
    metrics = ("pearson_spearman", *ERROR_METRICS)
    smooths_labels = False
    model_class = AutoModelForSequenceClassification
    problem_type = "regression"

    # ---- The data.

    def accepts_label_type(self, column_type: pa.DataType) -> bool:
        """Say whether the column holds numbers."""
        return pa.types.is_floating(column_type) or pa.types.is_integer(column_type)

    def usable_splits(
        self, task: "LabelTask", splits: Mapping[str, Dataset]
    ) -> Mapping[str, Dataset]:
        """Return the rows with a number."""
        column = task.find_columns(splits["train"], "label")[0]
        usable = {}
        for split, rows in splits.items():
            usable[split] = gold_rows(task, rows, split, column, marks=set())
        return usable

    def split_facts(self, encoded: pa.Table, label_names: list[Any] | None) -> dict[str, Any]:
        """Return the lowest and the highest number."""
        numbers = encoded["label"].to_numpy()
        return {"lowest": float(numbers.min()), "highest": float(numbers.max())}

    def label_number(self, task: "LabelTask", value: Any, names: list[Any], split: str) -> float:
        """Return the number. ValueError: it is not finite."""
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(number)
        return number

    def label_remedy(self, names: list[Any]) -> str:
        """Return the end of the sentence that refuses a label."""
        return "; give a finite number in every row"

    # ---- The model.

    def prepare_model(self, model: PreTrainedModel, data: "PreparedTask[LabelTask]") -> None:
        """Standardise the outputs of the last layer, in place; say it where there is none."""
        mean, deviation = train_moments(data)
        layers = last_layers(model)
        if not layers:
            logger.warning(
                "%s: the last layer of this %s was not found, so its numbers are learnt as they "
                "are, %.4g in the mean with a standard deviation of %.2g; numbers with mean 0 and "
                "deviation 1 are learnt soonest.",
                data.task.name,
                model.config.model_type,
                mean,
                deviation,
            )

        for layer in layers:
            has_bias = layer.bias is not None
            if not has_bias and abs(mean) > FAR_MEAN * deviation:
                logger.warning(
                    "%s: the numbers of train are %.4g in the mean with a standard deviation of "
                    "%.2g, and the last layer of %s has no bias for their mean: it takes more "
                    "steps; give numbers around zero, or an encoder (electra, bert ...).",
                    data.task.name,
                    mean,
                    deviation,
                    model.config.model_type,
                )
            layer.__class__ = StandardizedLinear
            layer.mean = mean if has_bias else 0.0
            layer.deviation = deviation

    def complete_model(self, model: PreTrainedModel) -> None:
        """Move mean and deviation into the last layer, which predicts the same numbers then."""
        for layer in model.modules():
            if not isinstance(layer, StandardizedLinear):
                continue
            with torch.no_grad():
                layer.weight.mul_(layer.deviation)
                if layer.bias is not None:
                    layer.bias.mul_(layer.deviation).add_(layer.mean)
            layer.__class__ = nn.Linear
            del layer.mean, layer.deviation

    def trainer_options(
        self, spec: "FinetuningSpec", data: "PreparedTask[LabelTask]"
    ) -> dict[str, Any]:
        """Return those of all labelled tasks, with a loss that knows the deviation of train."""
        _, deviation = train_moments(data)
        options = super().trainer_options(spec, data)
        return options | {"loss": partial(options["loss"], deviation=deviation)}

    def loss(
        self,
        outputs: ModelOutput,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | None = None,
        deviation: float = 1.0,
    ) -> torch.Tensor:
        """Return the mean squared error over the rows, in units of the squared deviation."""
        predicted = outputs.logits[:, 0].float()  # [rows]
        total = mse_loss(predicted / deviation, labels.float() / deviation, reduction="sum")
        return total / labels_of_step(labels, num_items_in_batch)

    def predictions(self, rows: Any, logits: Any, names: list[Any]) -> np.ndarray:
        """Return the only logit of each row."""
        return logits[:, 0]  # [rows]


def train_moments(data: "PreparedTask[LabelTask]") -> tuple[float, float]:
    """Return mean and standard deviation of the numbers of train; a deviation of 1 instead of 0."""
    numbers = data.read_table("train", ["label"])["label"].to_numpy()
    return float(numbers.mean()), float(numbers.std()) or 1.0


def last_layers(model: PreTrainedModel) -> list[nn.Linear]:
    """Return the layers on top of a model's body that put out one number.

    There is one of them in each of 119 architectures of transformers (examples/LOG.md). Adapters
    keep a copy beside it. One that is wrapped in an adapter is none of them: its numbers are learnt
    as they are.
    """
    body = f"{model.base_model_prefix}."
    layers = []
    for name, module in model.named_modules():
        is_head = type(module) is nn.Linear and module.out_features == 1
        if is_head and not name.startswith(body) and not name.endswith("base_layer"):
            layers.append(module)
    return layers
