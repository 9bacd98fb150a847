"""Layer 4: the architecture that a run asks for: a YAML's or flags' fields -> transformers' config."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_synpre.errors import UsageError, choose
from hf_synpre.initialization import skeleton
from hf_synpre.models.packed_forward import AUTO_CLASSES, kind_of
from hf_synpre.vocabulary import Vocabulary

# 512 places and two that RoBERTa never uses; transformers' default is 512.
PUBLISHED = {"roberta": {"max_position_embeddings": 514}}


@dataclass
class ModelSpec:
    """An architecture: `model_type` of transformers or `config_name` (folder or Hub id), fields changed by `overrides`.

    `attention` is transformers' attn_implementation ("eager", "sdpa"). None leaves the choice to it on a GPU and takes
    eager on a CPU, where sdpa's backward pass is slower (benchmarks/pretraining.py).
    """

    model_type: str = "t5"
    config_name: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    attention: str | None = None

    def __post_init__(self) -> None:
        config = self.config(Vocabulary.plain(64))
        try:
            skeleton(AUTO_CLASSES[kind_of(config)], config)
        except UsageError:
            raise
        except Exception as error:  # whatever the architecture raises on its own fields
            raise UsageError(
                f"The architecture with {self.overrides} cannot be built: {' '.join(str(error).split())}"
            ) from None

    def config(self, vocabulary: Vocabulary) -> PreTrainedConfig:
        """Return the config with this vocabulary's size and control ids. Raises UsageError on unknown fields."""
        try:
            config = (
                AutoConfig.from_pretrained(self.config_name)
                if self.config_name
                else self._default()
            )
        except UsageError:
            raise
        except (OSError, ValueError) as error:
            raise UsageError(
                f"config_name '{self.config_name}' cannot be read: {' '.join(str(error).split())}"
            ) from None
        for name, value in self.overrides.items():
            set_field(config, name, value)
        if not self.config_name:  # anew, for fields that follow from others
            config = self._default(**self.overrides)
        config.vocab_size = vocabulary.size
        for name, value in vars(config).copy().items():
            if name.endswith("_token_id") and isinstance(value, int) and value >= vocabulary.size:
                setattr(
                    config, name, vocabulary.eos
                )  # the architecture's defaults are ids of another vocabulary
        config.pad_token_id, config.eos_token_id = vocabulary.pad, vocabulary.eos
        check_config(config)
        attention = self.attention or (None if torch.cuda.is_available() else "eager")
        if attention:
            config._attn_implementation = choose("attention", attention, ("eager", "sdpa"))
        if config.is_encoder_decoder:
            config.decoder_start_token_id = vocabulary.pad
        return config

    def _default(self, **fields: Any) -> PreTrainedConfig:
        config = CONFIG_MAPPING[choose("model_type", self.model_type, CONFIG_MAPPING)]
        return config(**PUBLISHED.get(self.model_type, {}) | fields)


def check_config(config: PreTrainedConfig) -> None:
    """Raise UsageError where the fields of a config contradict each other, as it would when it is saved."""
    try:
        config.validate()
    except Exception as error:  # the config's own validation
        raise UsageError(
            f"{type(config).__name__} refuses its fields: {' '.join(str(error).split())}"
        ) from None


def set_field(config: PreTrainedConfig, name: str, value: Any) -> None:
    """Set one field of a config. Raises UsageError on a name it has not, or a value it cannot have."""
    choose(
        f"field of {type(config).__name__}",
        name,
        set(config.to_dict()) | set(vars(config)) | set(config.attribute_map),
    )
    if name == "vocab_size":
        raise UsageError("The field vocab_size follows from the vocabulary; leave it out.")
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and value < 1
        and not name.endswith("_id")
    ):
        raise UsageError(f"The field {name} is {value}; give an integer >= 1.")
    try:
        setattr(config, name, value)
    except Exception as error:  # the config's own validation
        raise UsageError(f"The field {name} is {value!r}: {' '.join(str(error).split())}") from None
