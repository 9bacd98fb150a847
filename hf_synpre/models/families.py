"""Families of models: a config or model -> its family, token types, positions, longest input.

A *family* is what a model is pre-trained as: "seq2seq" (encoder-decoder, T5), "causal"
(decoder-only, GPT-2) or "mlm" (encoder-only, BERT).
"""

from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from hf_synpre.errors import UsageError

# family -> the Auto class of its language models
AUTO_CLASSES = {
    "seq2seq": AutoModelForSeq2SeqLM,
    "mlm": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
}


def model_family(config: PreTrainedConfig) -> str:
    """Return the family of the models of a config: "seq2seq", "mlm" or "causal".

    Raises:
        UsageError: transformers has no language model of this architecture.
    """
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if config.is_encoder_decoder:
        family = "seq2seq"
    elif masked and not getattr(config, "is_decoder", False):
        family = "mlm"
    else:
        family = "causal"

    if type(config) not in AUTO_CLASSES[family]._model_mapping:
        raise UsageError(
            f"{type(config).__name__} has no language model in transformers; "
            "give another model_type."
        )
    return family


def is_decoder(config: PreTrainedConfig) -> bool:
    """Say whether models of a config are decoder-only language models."""
    try:
        return model_family(config) == "causal"
    except UsageError:  # transformers has no language model of this architecture
        return False


def uses_token_types(config: PreTrainedConfig) -> bool:
    """Say whether a model tells two texts apart by token_type_ids.

    RoBERTa and decoders do not; GPT-2 would read token_type_ids as further token ids.
    """
    return (getattr(config, "type_vocab_size", None) or 0) > 1


def reads_last_position(config: PreTrainedConfig) -> bool:
    """Say whether a head on whole rows reads the last position, be it padding: XLNet's does.

    Rows are then padded on the left. The heads of decoders look for the last token.
    """
    return getattr(config, "summary_type", None) == "last"


def first_position(model: PreTrainedModel) -> int:
    """Return the position id of the first token: in RoBERTa the one after padding's, else 0."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings"):
            padding = getattr(module, "padding_idx", None)
            return 0 if padding is None else padding + 1
    return 0


def longest_input(model: PreTrainedModel) -> int | None:
    """Return for how many positions a model has position embeddings, None where it has no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:  # XLNet says -1: relative positions, without limit
        return None
    return limit - first_position(model)


def positions_field(config: PreTrainedConfig) -> str:
    """Return what a config calls the number of its position embeddings: GPT-2's, n_positions."""
    return config.attribute_map.get("max_position_embeddings", "max_position_embeddings")
