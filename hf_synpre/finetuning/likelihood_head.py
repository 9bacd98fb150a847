"""The head of tasks of choices for decoders: a context and continuations -> their likelihoods.

The score of a continuation is its log-likelihood after the context, in nats, over the number of its
tokens: the mean over its tokens of the log-probability of each. The continuation with the highest
score is chosen. The loss is the cross-entropy of these scores, as if they were the logits of the
continuations, so that what is trained is what chooses (Liu et al. 2022, "Few-Shot
Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", has the same loss
among others). The model is the language model itself and has no new parameters.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MultipleChoiceModelOutput
from transformers.utils import ModelOutput

from hf_synpre.data.rows import IGNORED
from hf_synpre.errors import UsageError
from hf_synpre.finetuning.label_head import RowOrderTrainer
from hf_synpre.finetuning.label_heads import ChoiceHead
from hf_synpre.finetuning.label_rows import LikelihoodRows, SpecialTokensTemplate
from hf_synpre.models.chunked_head import SummedLoss
from hf_synpre.models.families import is_decoder
from hf_synpre.vocabulary import padding_and_end

if TYPE_CHECKING:
    from hf_synpre.finetuning.finetuning import FinetuningSpec
    from hf_synpre.finetuning.label_tasks import LabelTask
    from hf_synpre.finetuning.prepared import PreparedTask


class LikelihoodTrainer(RowOrderTrainer):
    """A trainer of decoders whose logits are the scores of continuations, [rows, choices].

    Batches have input_ids, attention_mask and targets, [rows, choices, width], and labels [rows].
    """

    def __init__(self, model: PreTrainedModel, *args: Any, **options: Any):
        super().__init__(model, *args, **options)
        self.chunked_head = self._chunked_head(model, each_loss=True)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Return the loss of a batch, by the scores of its continuations."""

        def score(
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            targets: torch.Tensor,
            **_: Any,  # what Trainer tells a model of the loss
        ) -> MultipleChoiceModelOutput:
            """Return the scores of the continuations in place of a model's logits."""
            batch = {"input_ids": input_ids.flatten(0, 1)}  # [rows * choices, width]
            batch["attention_mask"] = attention_mask.flatten(0, 1)
            flat_targets = targets.flatten(0, 1)
            if self.chunked_head is not None:
                batch["targets"] = flat_targets
            losses = token_losses(model(**batch), flat_targets).view(targets.shape)
            return MultipleChoiceModelOutput(logits=mean_likelihoods(losses, targets))

        return super().compute_loss(score, inputs, *args, **kwargs)


def token_losses(outputs: ModelOutput, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each target, 0 where there is none, [rows, width].

    Args:
        outputs: of the model: a SummedLoss, or logits [rows, width, ids].
        targets: ids [rows, width]; IGNORED where there is none.
    """
    if isinstance(outputs, SummedLoss):
        return outputs.losses
    logits = outputs.logits.transpose(1, 2).float()  # [rows, ids, width]
    return cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")


def mean_likelihoods(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the log-likelihood of each continuation over its tokens, in nats, [rows, choices].

    Args:
        losses: the cross-entropy of each target, 0 where there is none, [rows, choices, width].
        targets: ids; IGNORED where there is none, [rows, choices, width].
    """
    return -losses.sum(-1) / (targets != IGNORED).sum(-1)


class LikelihoodHead(ChoiceHead):
    """One of several continuations of a context, by their likelihood under a decoder."""

    model_class = AutoModelForCausalLM
    trainer_class = LikelihoodTrainer
    adds_parameters: ClassVar[bool] = False

    def accepts_config(self, config: PreTrainedConfig) -> bool:
        """Say whether the config is a decoder's."""
        return is_decoder(config)

    def configure(
        self, config: PreTrainedConfig, data: "PreparedTask[LabelTask]"
    ) -> PreTrainedConfig:
        """Return the config as it is.

        Raises UsageError where rows are longer than the model's position embeddings.
        """
        self._check_positions(config, data)
        return config

    def make_rows(self, data: "PreparedTask[LabelTask]", encoded: pa.Table) -> LikelihoodRows:
        """Return the rows of an encoded split. UsageError: a continuation has no tokens."""
        if "joined" not in encoded.column_names:
            raise UsageError(
                f"{data.folder} was made by a version of hf_synpre that did not score choices by "
                "their likelihood; delete it, and it is made anew."
            )
        template = SpecialTokensTemplate.from_tokenizer(data.tokenizer, data.task.max_source)
        rows = LikelihoodRows(encoded, template, padding_and_end(data.tokenizer)[1])
        for index, starts in enumerate(rows.starts):
            ends = [len(ids) for ids in rows.pieces(index)]
            if any(start == end for start, end in zip(starts, ends, strict=True)):
                raise UsageError(
                    f"{data.task.name}: a row has a choice without text, which has no likelihood; "
                    "give text in every choice."
                )
        return rows

    def check_scoring(
        self, data: "PreparedTask[LabelTask]", spec: "FinetuningSpec"
    ) -> dict[str, Any]:
        """Return which choice counts as the answer."""
        checked = super().check_scoring(data, spec)
        rule = "the choice with the highest log-likelihood per token after its context"
        return {**checked, "scoring": {"accuracy": rule}}
