"""Replaced-token detection (ELECTRA): a generator and a discriminator trained as one model.

Source: Clark et al. 2020.

A forward pass has three steps:

1. The generator, a small masked language model, gives logits at the masked positions.
2. `sample_tokens` draws a token for each of them; `put_tokens` writes the tokens into the row.
3. The discriminator says for every token of that row whether it was replaced.

electra_losses.py has the loss of both and the metrics. A pair is saved as two plain models;
`saved_pair` reads them.
"""

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import ModelOutput

from hf_synpre.data.masking import DRAWS
from hf_synpre.data.rows import IGNORED
from hf_synpre.errors import UsageError
from hf_synpre.initialization import build
from hf_synpre.initialization.weight_files import weight_files
from hf_synpre.models.chunked_head import SummedLoss
from hf_synpre.models.masked_head import add_masked_positions, head_works_by_position

# The width of one attention head of a generator, as in ELECTRA's own.
HEAD_WIDTH = 64


class RTDConfig(PreTrainedConfig):
    """The config of a pair.

    Args:
        generator: the generator's config as a dict, with its model_type.
        discriminator: the discriminator's.
        sampling_temperature: divides the generator's logits before a token is drawn.
        **fields: fields of any config.
    """

    model_type = "synpre_rtd"

    def __init__(
        self,
        generator: dict | None = None,
        discriminator: dict | None = None,
        sampling_temperature: float = 1.0,
        **fields: Any,
    ):
        self.generator = generator or {}
        self.discriminator = discriminator or {}
        self.sampling_temperature = sampling_temperature
        # Without this flag transformers would leave the shared embeddings apart.
        fields.setdefault("tie_word_embeddings", True)
        super().__init__(**fields)

    @classmethod
    def for_discriminator(cls, config: PreTrainedConfig, fraction: float = 0.25) -> "RTDConfig":
        """Return the config of a pair for a discriminator.

        Args:
            config: the discriminator's config.
            fraction: width of the generator as a share of the discriminator's; the depth is equal.
        """
        generator = copy.deepcopy(config)
        width = max(1, round(config.hidden_size * fraction))
        heads = max(1, width // HEAD_WIDTH)
        generator.num_attention_heads = heads
        generator.hidden_size = width - width % heads
        generator.intermediate_size = max(1, round(config.intermediate_size * fraction))

        fields = {"vocab_size": config.vocab_size, "pad_token_id": config.pad_token_id}
        if config._attn_implementation:
            fields["attn_implementation"] = config._attn_implementation
        return cls(generator=generator.to_dict(), discriminator=config.to_dict(), **fields)

    def part(self, name: str) -> PreTrainedConfig:
        """Return the config of the "generator" or the "discriminator"."""
        fields = getattr(self, name)
        config = CONFIG_MAPPING[fields["model_type"]].from_dict(fields)
        config._attn_implementation = self._attn_implementation
        return config


@dataclass
class RTDOutput(ModelOutput):
    """What a forward pass gives.

    Attributes:
        generator_loss: the generator's cross-entropy, summed over masked tokens; a scalar.
        discriminator_logits: above 0 where it takes a token for replaced, [rows, length].
        replaced: 1 at replaced tokens, 0 at others, IGNORED at padding, [rows, length].
        generator_losses: its cross-entropy at each masked token, without a gradient where it ran in
            chunks, [rows, masked].
        predictions: the tokens that the generator finds most likely, [rows, masked]. None in
            training in chunks.
    """

    # ModelOutput asks for defaults; `RTDModel.forward` gives them.
    generator_loss: torch.Tensor = None
    discriminator_logits: torch.Tensor = None
    replaced: torch.Tensor = None
    generator_losses: torch.Tensor = None
    predictions: torch.Tensor | None = None


class RTDModel(PreTrainedModel):
    """A generator and a discriminator that share their embeddings.

    They share all parameters of the embeddings that have one shape in both: word, position and
    token-type embeddings with their layer norm, where the config has an embedding_size. A config
    without one shares nothing and is refused.
    """

    config_class = RTDConfig
    _supports_sdpa = True
    # Inputs beside input_ids that a forward pass needs; all are [rows, masked]. training/flops.py
    # counts what a pass with them costs.
    target_inputs = ("masked_positions", "originals", "draws")

    def __init__(self, config: RTDConfig):
        super().__init__(config)
        self.generator = AutoModelForMaskedLM.from_config(
            config.part("generator"), trust_remote_code=False
        )
        self.discriminator = build_discriminator(config.part("discriminator"))
        add_masked_positions(self.generator)
        self._tied_weights_keys = shared_embeddings(self.generator, self.discriminator)
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave all weights as the two parts have drawn them."""

    def get_input_embeddings(self) -> torch.nn.Module:
        """Return the shared word embeddings."""
        return self.discriminator.get_input_embeddings()

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict[str, torch.Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Write two plain models: the discriminator, and the generator in generator/.

        Args:
            save_directory: where the discriminator goes.
            is_main_process: False writes nothing.
            state_dict: the tensors of the pair by name, where they are gathered from several
                processes.
            **options: those of `PreTrainedModel.save_pretrained`.
        """
        if state_dict is None:
            state_dict = self.state_dict()
        for name, folder in folders_of_parts(save_directory).items():
            prefix = f"{name}."
            part = {
                key.removeprefix(prefix): tensor
                for key, tensor in state_dict.items()
                if key.startswith(prefix)
            }
            getattr(self, name).save_pretrained(folder, is_main_process, state_dict=part, **options)

    def forward(
        self,
        input_ids: torch.Tensor,
        masked_positions: torch.Tensor,
        originals: torch.Tensor,
        draws: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        **_: Any,
    ) -> RTDOutput:
        """Replace masked tokens by the generator's, and let the discriminator find those replaced.

        Args:
            input_ids: rows with masked tokens, [rows, length].
            masked_positions: where they are, [rows, masked].
            originals: the tokens that stood there, [rows, masked]; IGNORED in rows with fewer.
            draws: a uniform integer below DRAWS for each, [rows, masked].
            attention_mask: 1 at tokens, 0 at padding, [rows, length].
            token_type_ids: which of two texts a token belongs to, [rows, length].
            labels: the originals once more; Trainer takes them away for `rtd_loss`.
            targets: the originals once more, where a `ChunkedHead` is attached to the generator;
                then its logits are never in memory as a whole.
        """
        shape = {"attention_mask": attention_mask}
        if token_type_ids is not None:
            shape["token_type_ids"] = token_type_ids

        # The generator guesses the masked tokens.
        masked = {"input_ids": input_ids, "masked_positions": masked_positions, **shape}
        if targets is not None:
            guess = self.generator(**masked, targets=targets, draws=draws)
        else:
            guess = self.guess(self.generator(**masked).logits, originals, draws)

        # The row as it was, and as the generator fills it; a right guess is no replacement.
        is_real = originals != IGNORED  # [rows, masked]
        text = put_tokens(input_ids, masked_positions, originals, is_real)  # [rows, length]
        corrupted = put_tokens(
            input_ids, masked_positions, guess.samples, is_real
        )  # [rows, length]
        replaced = (corrupted != text).long()
        if attention_mask is not None:
            replaced = replaced.masked_fill(attention_mask == 0, IGNORED)

        # The discriminator looks for the replaced tokens.
        discriminator_logits = self.discriminator(input_ids=corrupted, **shape).logits
        return RTDOutput(
            guess.loss,
            discriminator_logits.reshape(replaced.shape),
            replaced,
            guess.losses,
            guess.predictions,
        )

    def sample(self, logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Draw the generator's tokens; see `sample_tokens`."""
        return sample_tokens(logits, draws, self.config.sampling_temperature)

    def guess(
        self, logits: torch.Tensor, originals: torch.Tensor, draws: torch.Tensor
    ) -> SummedLoss:
        """Return the generator's loss and guesses.

        Args:
            logits: its logits at the masked positions, [rows, masked, vocabulary].
            originals: the tokens that stood there, [rows, masked]; IGNORED in rows with fewer.
            draws: a uniform integer below DRAWS for each, [rows, masked].
        """
        losses = cross_entropy(
            logits.flatten(0, 1).float(),  # [rows * masked, vocabulary]
            originals.flatten(),
            ignore_index=IGNORED,
            reduction="none",
        ).view(originals.shape)  # [rows, masked]
        return SummedLoss(
            loss=losses.sum(1).sum(),
            losses=losses,
            predictions=logits.argmax(-1),
            samples=self.sample(logits.detach(), draws),
        )


def folders_of_parts(folder: str | os.PathLike) -> dict[str, Path]:
    """Return where the two models of a saved pair lie, by their names in the pair."""
    return {"discriminator": Path(folder), "generator": Path(folder) / "generator"}


def saved_pair(folder: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Return the tensors of a pair by name, from the folder of its two plain models."""
    tensors = {}
    for name, part in folders_of_parts(folder).items():
        for file in weight_files(part):
            tensors.update({f"{name}.{key}": tensor for key, tensor in load_file(file).items()})
    return tensors


def put_tokens(
    ids: torch.Tensor,
    masked_positions: torch.Tensor,
    tokens: torch.Tensor,
    is_real: torch.Tensor,
) -> torch.Tensor:
    """Return rows with tokens written at their masked positions.

    Args:
        ids: rows, [rows, length].
        masked_positions: where to write, [rows, masked].
        tokens: what to write, [rows, masked].
        is_real: which entries are masked positions, [rows, masked]; those of a row come first. The
            others pad a row with fewer masked positions and change nothing.

    Returns:
        New rows, [rows, length].
    """
    # Padding writes the row's first entry once more, or where the row has none the token that is
    # already there. So no position is written with two values, whose order would be undefined.
    positions = torch.where(is_real, masked_positions, masked_positions[:, :1])
    tokens = torch.where(is_real, tokens, tokens[:, :1])
    has_any = is_real[:, :1]  # [rows, 1]
    tokens = torch.where(has_any, tokens, ids.gather(1, positions))
    return ids.scatter(1, positions, tokens)


def build_discriminator(config: PreTrainedConfig) -> PreTrainedModel:
    """Return ELECTRA's own discriminator, or for others a token classifier with one label."""
    if config.model_type == "electra":
        return AutoModelForPreTraining.from_config(config, trust_remote_code=False)
    config.num_labels = 1
    return AutoModelForTokenClassification.from_config(config, trust_remote_code=False)


def shared_embeddings(generator: PreTrainedModel, discriminator: PreTrainedModel) -> dict[str, str]:
    """Return the embedding parameters that both share: generator's name -> discriminator's name.

    Args:
        generator: the masked language model.
        discriminator: the model that is compared with it, parameter by parameter.

    Raises:
        UsageError: they share no word embeddings.
    """
    generator_shapes = {name: p.shape for name, p in generator.named_parameters()}
    shared = {}
    for name, parameter in discriminator.named_parameters():
        if "embeddings." in name and generator_shapes.get(name) == parameter.shape:
            shared[f"generator.{name}"] = f"discriminator.{name}"

    if not any("word_embeddings" in name for name in shared):
        raise UsageError(
            f"{type(discriminator.config).__name__} has no embedding_size of its own, so a "
            "narrower generator cannot share its embeddings; use model_type electra."
        )
    return shared


def sample_tokens(
    logits: torch.Tensor, draws: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Draw tokens from softmax(logits / temperature), the distribution of ELECTRA's Gumbel argmax.

    The number drawn for a position belongs to its row, so that a token depends on neither the batch
    nor the process.

    Args:
        logits: [rows, masked, vocabulary]; no gradient goes through.
        draws: uniform integers below DRAWS, [rows, masked].
        temperature: divides the logits.

    Returns:
        Token ids [rows, masked]: where the cumulated probabilities pass the number drawn.
    """
    with torch.no_grad():
        probabilities = (logits.float() / temperature).softmax(-1)
        cumulated = probabilities.cumsum(-1)  # [rows, masked, vocabulary]
        # Relative to the last sum, which rounding keeps from being 1.
        uniform = (draws.float() + 0.5) / DRAWS * cumulated[..., -1]  # [rows, masked]
        tokens = torch.searchsorted(cumulated, uniform[..., None])[..., 0]
        return tokens.clamp_(max=logits.shape[-1] - 1)


def build_rtd(config: PreTrainedConfig, seed: int, fraction: float = 0.25) -> RTDModel:
    """Return a freshly initialised pair.

    Args:
        config: the discriminator's config.
        seed: decides all weights.
        fraction: width of the generator as a share of the discriminator's.

    Raises:
        UsageError: no generator can be derived from this architecture.
    """
    for name in ("hidden_size", "intermediate_size", "num_attention_heads"):
        if not hasattr(config, name):
            raise UsageError(
                f"{type(config).__name__} has no {name}, so no generator can be derived; "
                "use model_type electra."
            )
    pair = build(RTDModel, RTDConfig.for_discriminator(config, fraction), {}, seed)
    if not head_works_by_position(pair.generator):
        raise UsageError(
            f"The head of {type(pair.generator).__name__} does not work position by position; "
            "use model_type electra."
        )
    return pair
