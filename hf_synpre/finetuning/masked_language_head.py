"""The head of language modelling for masked models: windows of text -> the loss of masked tokens.

The text of a split is the stream of ids of language_head.py. It is cut end to end into windows,
each framed as an encoder's input. Of a window 15 % of the tokens are masked, as in self-pretraining
(hf_synpre/data/masking.py). In validation and test the masks are a function of the window's number:
every model and every run is asked for the same tokens. In training each epoch has others.

The score is the mean loss of a masked token, in nats. It compares models that have one tokenizer.
It is no loss of all the text, so it compares neither with models of other tokenizers nor with the
bits per byte of decoders.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    AutoModelForMaskedLM,
    PreTrainedConfig,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_synpre.data.masking import MaskedDataset, never_masked
from hf_synpre.data.rows import Row, padded_to_multiple
from hf_synpre.data.windows import EncoderRows
from hf_synpre.errors import UsageError
from hf_synpre.finetuning.language_head import LanguageHead, WindowRows
from hf_synpre.finetuning.language_tasks import MASKED_LOSS
from hf_synpre.initialization import skeleton
from hf_synpre.models.families import longest_input, model_family, positions_field
from hf_synpre.vocabulary import as_vocabulary, padding_and_end

if TYPE_CHECKING:
    from hf_synpre.finetuning.finetuning import FinetuningSpec
    from hf_synpre.finetuning.language_tasks import LanguageTask
    from hf_synpre.finetuning.prepared import PreparedTask

# The ids that frame a window.
FRAME = 2


class StreamWindows:
    """Windows of a stream of ids, cut end to end; the last may be shorter.

    An index beyond the last window begins again with the first one.

    Args:
        ids: the stream, int32[n].
        length: the most ids of a window.
    """

    def __init__(self, ids: np.ndarray, length: int):
        self.ids, self.length = ids, length

    def __len__(self) -> int:
        return -(-len(self.ids) // self.length)

    def __getitem__(self, index: int) -> np.ndarray:
        start = index % len(self) * self.length
        return self.ids[start : start + self.length]


class MaskedWindows:
    """Map-style rows {input_ids, segments, labels}: framed windows with masked tokens.

    Args:
        rows: the text of a split.
        tokenizer: the one that made its ids; it has a mask token.
        length: the most ids of a row, its frame counted.
        split: train, validation or test; each has masks of its own.
        seed: the seed of the masks.

    Raises:
        UsageError: the text has special tokens alone.
    """

    def __init__(
        self,
        rows: WindowRows,
        tokenizer: PreTrainedTokenizerBase,
        *,
        length: int,
        split: str,
        seed: int,
    ):
        self.documents = rows.documents
        start, end = frame_ids(tokenizer)
        vocabulary = as_vocabulary(tokenizer)
        special_tokens = never_masked(vocabulary)
        self.windows = StreamWindows(rows.ids[1:], length - FRAME)
        if np.isin(self.windows.ids, special_tokens).all():
            raise UsageError(
                f"The text of {split} has no token that can be masked; give more text."
            )
        self.masked = MaskedDataset(
            EncoderRows(self.windows, start=start, end=end),
            mask=tokenizer.mask_token_id,
            regular_tokens=(vocabulary.first_regular, vocabulary.regular_count),
            special_tokens=special_tokens,
            split=split,
            seed=seed,
        )
        # Which masks are drawn. Worker processes that live longer than an epoch see it too.
        self.epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        return self.masked[index + int(self.epoch) * len(self)]


class FreshMasks(TrainerCallback):
    """Draws other masks for the rows of training in every epoch.

    (accelerate tells a dataset its epoch in a single process only.)
    """

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Tell the rows the number of the epoch."""
        train_dataloader.dataset.epoch.fill_(round(state.epoch or 0))


class MaskedLanguageHead(LanguageHead):
    """Masked tokens of text, predicted by an encoder. Validation and test have fixed masks."""

    model_class = AutoModelForMaskedLM
    usual_model_type = "bert"
    metric = MASKED_LOSS

    def accepts_config(self, config: PreTrainedConfig) -> bool:
        """Say whether the config is that of a model with a masked-language head."""
        try:
            return model_family(config) == "mlm"
        except UsageError:  # transformers has no language model of this architecture
            return False

    def configure(
        self, config: PreTrainedConfig, data: "PreparedTask[LanguageTask]"
    ) -> PreTrainedConfig:
        """Return the config as it is.

        Raises:
            UsageError: the tokenizer has no mask token, or rows do not fit the position embeddings.
        """
        task = data.task
        if data.tokenizer.mask_token_id is None:
            raise UsageError(
                f"{task.name}: {config.model_type} learns masked tokens, and the tokenizer has no "
                "mask token; add one (tokenizer.add_special_tokens({'mask_token': '[MASK]'})) and "
                "save it, or give a decoder (model_type llama or gpt2)."
            )
        if task.max_source <= FRAME:
            raise UsageError(
                f"{task.name} has sequences of {task.max_source} ids (max_source), of which "
                f"{config.model_type} needs {FRAME} around the text; give a larger max_source."
            )
        positions = longest_input(skeleton(self.model_class, config))
        width = padded_to_multiple(task.max_source)
        if positions is not None and positions < width:
            raise UsageError(
                f"{task.name} has sequences of {task.max_source} ids (max_source), in batches "
                f"{width} wide, and {config.model_type} has position embeddings for {positions}; "
                f"give a smaller max_source, or a config with more {positions_field(config)}."
            )
        return config

    def trainer_options(
        self, spec: "FinetuningSpec", data: "PreparedTask[LanguageTask]"
    ) -> dict[str, Any]:
        """Return those of LanguageHead, and the callback by which masks are fresh."""
        return {**super().trainer_options(spec, data), "callbacks": [FreshMasks()]}

    def score(self, rows: WindowRows, loss: float) -> float:
        """Return the score of a loss in nats per masked token: the loss itself."""
        return loss

    def arrange(
        self,
        data: "PreparedTask[LanguageTask]",
        rows: WindowRows,
        split: str,
        spec: "FinetuningSpec",
        seed: int = 0,
    ) -> MaskedWindows:
        """Return the windows of a split with masked tokens; of train's alone the seed decides."""
        length = data.task.max_source
        if split != "train":
            seed = 0
        return MaskedWindows(rows, data.tokenizer, length=length, split=split, seed=seed)


def frame_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Return the ids before and after a window: [CLS] and [SEP], or ends of a sequence."""
    _, end = padding_and_end(tokenizer)
    start = getattr(tokenizer, "cls_token_id", None)
    return end if start is None else start, end
