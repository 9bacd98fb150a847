"""The architecture that a YAML or flags ask for: their fields -> transformers' config."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_synpre.config import option
from hf_synpre.data.connection import one_line_cause
from hf_synpre.errors import UsageError, choose
from hf_synpre.initialization import checkpoint_config, skeleton
from hf_synpre.initialization.checkpoints import check_sizes
from hf_synpre.models.families import AUTO_CLASSES, is_decoder, model_family
from hf_synpre.vocabulary import Vocabulary

# Fields in which the published models differ from their config's defaults. RoBERTa has 512
# positions, and two ids of positions that it never uses.
PUBLISHED_FIELDS = {"roberta": {"max_position_embeddings": 514}}
# The architectures that an error on an unknown one names first.
COMMON_ARCHITECTURES = ("llama", "gpt2", "t5", "bert")
# The vocabulary with which an architecture is tried out; any small one does.
TRIAL_VOCABULARY = 64
# What configs call the shares of dropout.
DROPOUTS = (
    *("dropout_rate", "hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "attention_dropout"),
)


@dataclass
class ModelSpec:
    """The architecture of a run: a type of transformers or a config, some of its fields changed.

    Examples:
        >>> spec = ModelSpec("gpt2", overrides={"n_layer": 2})
        >>> spec.config(Vocabulary.plain(128)).vocab_size
        128
    """

    model_type: str = option(
        "The architecture, by transformers' model_type: t5, gpt2, bert ...", "t5"
    )
    config_name: str | None = option(
        "The folder, file or Hub id of a config, or a checkpoint bundled with the package "
        "(synpre/t5-mini-set), instead of model_type.",
        None,
    )
    overrides: dict[str, Any] = option(
        "Fields of the config that are changed, as d_model=128,num_layers=2.", default_factory=dict
    )
    attention: str | None = option(
        "transformers' attention implementation: eager or sdpa. Without it eager on a CPU, where "
        "the backward pass of sdpa is slower, and transformers' choice on a GPU.",
        None,
    )

    @classmethod
    def defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return what is given. Raises UsageError where it names two architectures."""
        if given.get("config_name") and given.get("model_type"):
            raise UsageError(
                f"model_type {given['model_type']} and config_name {given['config_name']} were "
                "given; the architecture comes from one of them, leave the other out."
            )
        return given

    def validate(self) -> None:
        """Build the model without its weights: fields that contradict each other are found early.

        Raises:
            UsageError: an unknown field, a value that is not allowed, or fields with which the
                architecture cannot be built.
        """
        config = self.config(Vocabulary.plain(TRIAL_VOCABULARY))
        auto_class = AUTO_CLASSES[model_family(config)]
        try:
            skeleton(auto_class, config)
        except UsageError:
            raise
        except Exception as error:  # whatever the architecture raises on its own fields
            changed = f" with {self.overrides}" if self.overrides else ""
            raise UsageError(
                f"The architecture {config.model_type}{changed} cannot be built "
                f"({one_line_cause(error)}); give other fields, or another architecture."
            ) from error

    def is_decoder(self) -> bool:
        """Say whether the model is a decoder-only language model."""
        return is_decoder(self.config(Vocabulary.plain(TRIAL_VOCABULARY)))

    def config(self, vocabulary: Vocabulary | None) -> PreTrainedConfig:
        """Return the config for a vocabulary.

        Args:
            vocabulary: gives the config its size and the ids of padding and end of sequence. With
                None the config keeps its own.

        Returns:
            A new config, which the caller may change.

        Raises:
            UsageError: the config cannot be read, has no such field, or refuses a value.
        """
        check_sizes(self.overrides)
        if self.config_name:
            config = load_config(self.config_name)
            for name, value in self.overrides.items():
                set_field(config, name, value)
        else:
            config = make_config(self.model_type, self.overrides)
        if vocabulary is not None:
            fit_vocabulary(config, vocabulary)
            for part in config_parts(config):
                self._set_begin(part, vocabulary)
        check_config(config)

        attention = self.attention
        if attention is None and not torch.cuda.is_available():
            attention = "eager"  # benchmarks/pretraining.py
        if attention:
            config._attn_implementation = choose("attention", attention, ("eager", "sdpa"))
        return config

    def _set_begin(self, config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
        """Set the id that begins a text, where a config has one: the tokenizer's, else the end's.

        A config that was read keeps its own where the tokenizer has none; so do fields that were
        given.
        """
        if getattr(config, "bos_token_id", None) is None or "bos_token_id" in self.overrides:
            return
        begin = getattr(vocabulary.tokenizer, "bos_token_id", None)
        if begin is not None:
            config.bos_token_id = begin
        elif self.config_name is None:
            config.bos_token_id = vocabulary.eos


def config_parts(config: PreTrainedConfig) -> tuple[PreTrainedConfig, ...]:
    """Return a config, and that of its text where it is one of pictures and text."""
    text = getattr(config, "text_config", None)
    return (config,) if text is None else (config, text)


def fit_vocabulary(config: PreTrainedConfig, vocabulary: Vocabulary) -> None:
    """Give a config, in place, the size of a vocabulary and the ids of its special tokens.

    Those that an architecture has by default are ids of another vocabulary. The id that begins a
    text stays, where the vocabulary has it.
    """
    for part in config_parts(config):
        part.vocab_size = vocabulary.size
        if hasattr(part, "decoder_vocab_size"):  # Marian's, which is that of the encoder
            part.decoder_vocab_size = vocabulary.size
        for name, value in vars(part).copy().items():
            is_id = name.endswith("_token_id") and isinstance(value, int)
            if is_id and value >= vocabulary.size:
                setattr(part, name, vocabulary.eos)
        part.pad_token_id = vocabulary.pad
        part.eos_token_id = vocabulary.eos
    if config.is_encoder_decoder:
        config.decoder_start_token_id = vocabulary.pad


def load_config(name: str) -> PreTrainedConfig:
    """Return the config of a folder, file, bundled checkpoint or Hub id.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return checkpoint_config(name)
    except UsageError as error:
        raise UsageError(f"config_name '{name}' cannot be read: {error}") from error


def make_config(model_type: str, overrides: dict[str, Any]) -> PreTrainedConfig:
    """Return a new config of an architecture.

    Args:
        model_type: transformers' name of the architecture.
        overrides: the fields that differ from the published model's.

    Raises:
        UsageError: there is no such architecture or field, or the config refuses a value.
    """
    choose("model_type", model_type, CONFIG_MAPPING, common=COMMON_ARCHITECTURES)
    config_class = CONFIG_MAPPING[model_type]
    published = PUBLISHED_FIELDS.get(model_type, {})
    try:
        # A config's constructor takes any name, so the fields are checked on a trial config first.
        trial = config_class(**published)
        for name, value in overrides.items():
            set_field(trial, name, value)

        # The constructor gets all fields at once, because it derives some of them from others.
        return config_class(**(published | overrides))
    except UsageError:
        raise
    except Exception as error:  # whatever the architecture raises on its own fields
        raise refused_fields(config_class, error) from error


def check_config(config: PreTrainedConfig) -> None:
    """Let a config check its own fields, as it would when it is saved.

    Raises:
        UsageError: they contradict each other.
    """
    try:
        config.validate()
    except Exception as error:  # whatever the architecture raises on its own fields
        raise refused_fields(type(config), error) from error


def refused_fields(config_class: type, error: Exception) -> UsageError:
    """Return the error on fields that a config refuses."""
    return UsageError(f"{config_class.__name__} refuses its fields: {one_line_cause(error)}")


def set_field(config: PreTrainedConfig, name: str, value: Any) -> None:
    """Set one field of a config.

    Args:
        config: the config, changed in place.
        name: a field that the config has, or another name of one (`attribute_map`).
        value: its new value.

    Raises:
        UsageError: there is no such field, it is vocab_size, or the config refuses the value.
    """
    fields = {*config.to_dict(), *vars(config), *config.attribute_map}
    choose(f"field of {type(config).__name__}", name, fields)
    if name == "vocab_size":
        raise UsageError("The field vocab_size follows from the vocabulary; leave it out.")

    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if is_integer and value < 1 and not name.endswith("_id"):
        raise UsageError(f"The field {name} is {value}; give an integer >= 1.")
    try:
        setattr(config, name, value)
    except Exception as error:  # whatever the architecture raises on its own fields
        raise UsageError(f"The field {name} is {value!r}: {one_line_cause(error)}") from error
