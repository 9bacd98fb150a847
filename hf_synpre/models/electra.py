"""Layer 3: replaced-token detection (ELECTRA, Clark et al. 2020): generator and discriminator as one model."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
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
from hf_synpre.models.packed_forward import heads_places_alone, look_at_places

WEIGHT = 50.0


class RTDConfig(PreTrainedConfig):
    """The configs of both models, as dicts with their model_type, and the temperature of the generator's draws."""

    model_type = "synpre_rtd"

    def __init__(
        self,
        generator: dict | None = None,
        discriminator: dict | None = None,
        sampling_temperature: float = 1.0,
        **more: Any,
    ):
        self.generator, self.discriminator = generator or {}, discriminator or {}
        self.sampling_temperature = sampling_temperature
        super().__init__(**{"tie_word_embeddings": True} | more)

    @classmethod
    def around(cls, config: PreTrainedConfig, fraction: float = 0.25) -> "RTDConfig":
        """Return the pair for a discriminator of this config: the generator has `fraction` of its width, all its layers."""
        generator = copy.deepcopy(config)
        width = max(1, round(config.hidden_size * fraction))
        generator.num_attention_heads = max(1, width // 64)
        generator.hidden_size = width - width % generator.num_attention_heads
        generator.intermediate_size = max(1, round(config.intermediate_size * fraction))
        attention = (
            {"attn_implementation": config._attn_implementation}
            if config._attn_implementation
            else {}
        )
        both = {"generator": generator.to_dict(), "discriminator": config.to_dict()}
        return cls(
            **both, **attention, vocab_size=config.vocab_size, pad_token_id=config.pad_token_id
        )

    def part(self, name: str) -> PreTrainedConfig:
        """Return the config of the "generator" or the "discriminator"."""
        given = getattr(self, name)
        config = CONFIG_MAPPING[given["model_type"]].from_dict(given)
        config._attn_implementation = self._attn_implementation
        return config


@dataclass
class RTDOutput(ModelOutput):
    """Generator logits [rows, hidden, ids], discriminator logits [rows, length], what is true (0, 1; IGNORED: padding)."""

    logits: torch.Tensor | None = None
    verdicts: torch.Tensor | None = None
    replaced: torch.Tensor | None = None


class RTDModel(PreTrainedModel):
    """A masked language model whose draws fill the gaps, and a discriminator that finds them; the embeddings are shared.

    Shared are all parameters of the embeddings that have one shape in both: word, position and segment embeddings with
    their layer norm where the config has an embedding_size. A config without one shares nothing and is refused.
    """

    config_class = RTDConfig
    _supports_sdpa = True
    second_inputs = ("masked_positions", "originals", "draws")

    def __init__(self, config: RTDConfig):
        super().__init__(config)
        self.generator = AutoModelForMaskedLM.from_config(config.part("generator"))
        self.discriminator = discriminator_of(config.part("discriminator"))
        look_at_places(self.generator)
        self._tied_weights_keys = shared_embeddings(self.generator, self.discriminator)
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave all to the parts, which have drawn their own weights."""

    def get_input_embeddings(self) -> torch.nn.Module:
        """Return the shared word embeddings."""
        return self.discriminator.get_input_embeddings()

    def forward(
        self,
        input_ids: torch.Tensor,
        masked_positions: torch.Tensor,
        originals: torch.Tensor,
        draws: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **_: Any,
    ) -> RTDOutput:
        """Guess, draw and judge. `masked_positions`, `originals`, `draws` are [rows, hidden]; rows with fewer have originals IGNORED.

        `labels` is there for Trainer, which takes it away for `rtd_loss`.
        """
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits = self.generator(
            input_ids=input_ids,
            attention_mask=attention_mask,
            masked_positions=masked_positions,
            **more,
        ).logits
        guesses = draw(logits.detach(), draws, self.config.sampling_temperature)
        text, corrupted = (
            filled(input_ids, masked_positions, values, originals != IGNORED)
            for values in (originals, guesses)
        )
        verdicts = self.discriminator(
            input_ids=corrupted, attention_mask=attention_mask, **more
        ).logits
        replaced = (corrupted != text).long()
        if attention_mask is not None:
            replaced = replaced.masked_fill(attention_mask == 0, IGNORED)
        return RTDOutput(logits, verdicts.reshape(replaced.shape), replaced)


def filled(
    ids: torch.Tensor, masked_positions: torch.Tensor, values: torch.Tensor, real: torch.Tensor
) -> torch.Tensor:
    """Return ids [rows, length] with values [rows, n] at those masked positions that are real; the real ones of a row come first.

    The others write the row's first value once more, or where it has none what is there: no place is written two ways.
    """
    masked_positions = torch.where(real, masked_positions, masked_positions[:, :1])
    values = torch.where(real, values, values[:, :1])
    return ids.scatter(
        1, masked_positions, torch.where(real[:, :1], values, ids.gather(1, masked_positions))
    )


def discriminator_of(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the model that judges every id: ELECTRA's own head, else a token classifier with one label."""
    if config.model_type == "electra":
        return AutoModelForPreTraining.from_config(config)
    config.num_labels = 1
    return AutoModelForTokenClassification.from_config(config)


def shared_embeddings(generator: PreTrainedModel, discriminator: PreTrainedModel) -> dict[str, str]:
    """Return generator's name -> discriminator's name of every embedding parameter they share. UsageError: none."""
    own = {name: p.shape for name, p in generator.named_parameters()}
    theirs = {
        name: p.shape for name, p in discriminator.named_parameters() if "embeddings." in name
    }
    shared = {
        f"generator.{n}": f"discriminator.{n}" for n, shape in theirs.items() if own.get(n) == shape
    }
    if not any("word_embeddings" in name for name in shared):
        raise UsageError(
            f"{type(discriminator.config).__name__} has no embedding_size of its own, so a narrower generator cannot share "
            "its embeddings; use model_type electra."
        )
    return shared


def draw(logits: torch.Tensor, draws: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return ids [rows, n] drawn from softmax(logits / temperature), the law of Gumbel-argmax.

    The number drawn for a position comes from its row (uniform integers below DRAWS), so a draw depends on neither the
    batch nor the process; the id is where the cumulated probabilities pass it. No gradient goes through.
    """
    with torch.no_grad():
        cumulated = (logits.float() / temperature).softmax(-1).cumsum(-1)
        uniform = (draws.float() + 0.5) / DRAWS * cumulated[..., -1]
        return torch.searchsorted(cumulated, uniform[..., None])[..., 0].clamp_(
            max=logits.shape[-1] - 1
        )


def build_rtd(config: PreTrainedConfig, seed: int, fraction: float = 0.25) -> RTDModel:
    """Return the pair around a discriminator of `config`, freshly initialised. UsageError where it cannot be paired."""
    if missing := [
        name
        for name in ("hidden_size", "intermediate_size", "num_attention_heads")
        if not hasattr(config, name)
    ]:
        raise UsageError(
            f"{type(config).__name__} has no {missing[0]}, so no generator can be derived; use electra."
        )
    pair = build(RTDModel, RTDConfig.around(config, fraction), {}, seed)
    if not heads_places_alone(pair.generator):
        raise UsageError(
            f"The head of {type(pair.generator).__name__} does not work position by position; use electra."
        )
    return pair


def rtd_loss(
    outputs: RTDOutput, labels: torch.Tensor, num_items_in_batch: Any = None
) -> torch.Tensor:
    """Return mean cross-entropy over hidden ids + WEIGHT x mean binary cross-entropy over real ids, of the whole step.

    `num_items_in_batch` is [hidden ids, real ids] of the step, all processes included; without it those of this batch.
    """
    guess, verdict = summed_losses(outputs, labels)
    counts = (
        num_items_in_batch
        if num_items_in_batch is not None
        else counted([labels, outputs.replaced])
    )
    return guess.sum() / counts[0] + WEIGHT * verdict.sum() / counts[1]


def counted(arrays: list[torch.Tensor]) -> torch.Tensor:
    """Return how many entries of each array are not ignored."""
    return torch.stack([(array != IGNORED).sum() for array in arrays])


def summed_losses(outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of both models summed over each row: [rows], [rows]."""
    logits, verdicts, replaced = outputs.logits, outputs.verdicts, outputs.replaced
    guess = cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    real = (replaced != IGNORED).float()
    truth = replaced.clamp(min=0).float()
    verdict = binary_cross_entropy_with_logits(
        verdicts.float(), truth, weight=real, reduction="none"
    )
    return guess.view(labels.shape).sum(1), verdict.sum(1)


TALLY = ("guess_loss", "verdict_loss", "hidden", "guessed", "real", "replaced", "found", "kept")


def tally(outputs: tuple, labels: torch.Tensor) -> torch.Tensor:
    """Return the sums of every row of an evaluation (float32 [rows, len(TALLY)]): all that the metrics need."""
    found = RTDOutput(*outputs)
    hidden, real = labels != IGNORED, found.replaced != IGNORED
    yes, replaced = found.verdicts > 0, found.replaced == 1
    counts = (
        hidden,
        (found.logits.argmax(-1) == labels) & hidden,
        real,
        replaced,
        yes & replaced,
        ~yes & real & ~replaced,
    )
    return torch.stack(
        [*summed_losses(found, labels), *(count.sum(1).float() for count in counts)], dim=1
    )


def health(prediction: Any) -> dict[str, float]:
    """Return what an evaluation says of both models.

    `majority_floor` is the accuracy of always saying "original"; `balanced_accuracy` the mean of the recall on replaced
    and on original ids, 0.5 for a discriminator that has learned nothing. token_accuracy is the generator's.
    """
    sums = dict(zip(TALLY, prediction.predictions.astype("float64").sum(0).tolist(), strict=True))
    original = sums["real"] - sums["replaced"]
    recall = sums["found"] / max(sums["replaced"], 1)
    accuracy = sums["guessed"] / max(sums["hidden"], 1)
    return {
        "token_accuracy": accuracy,
        "score": accuracy,
        "generator_loss": sums["guess_loss"] / max(sums["hidden"], 1),
        "discriminator_loss": sums["verdict_loss"] / max(sums["real"], 1),
        "replaced_share": sums["replaced"] / max(sums["real"], 1),
        "replaced_recall": recall,
        "discriminator_accuracy": (sums["found"] + sums["kept"]) / max(sums["real"], 1),
        "majority_floor": original / max(sums["real"], 1),
        "balanced_accuracy": (recall + sums["kept"] / max(original, 1)) / 2,
    }


def export(model: RTDModel, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the discriminator as a plain model of its architecture into `folder`, the generator into generator/."""
    for name, target in (("discriminator", folder), ("generator", folder / "generator")):
        own = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in weights.items()
            if key.startswith(f"{name}.")
        }
        getattr(model, name).save_pretrained(target, state_dict=own)
