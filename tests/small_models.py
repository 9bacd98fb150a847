"""Models of a few thousand parameters that tests share: configs, changes, how two are compared."""

from functools import partial

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSeq2SeqLM, T5Config

from hf_synpre import ParameterStatistics, StatisticsInit

# Fields of the config of a T5 of one layer.
TINY = {
    "d_model": 32,
    "d_kv": 16,
    "num_heads": 2,
    "d_ff": 64,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "dropout_rate": 0.0,
}

EMBEDDING = "shared.weight"  # T5's token embeddings
WEIGHTS = "model.safetensors"
SEQ2SEQ = partial(StatisticsInit, AutoModelForSeq2SeqLM)
WIDTH = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}
BERT = WIDTH | {"num_hidden_layers": 3}
DECODER = WIDTH | {"num_hidden_layers": 2}
GROUPED = DECODER | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
# A model_type of transformers -> the fields of a decoder of two layers.
DECODERS = {
    "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 2},
    "llama": DECODER | {"num_key_value_heads": 2},
    "qwen3": GROUPED,
    "gemma2": GROUPED | {"sliding_window": 8},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    "mixtral": GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "opt": {"hidden_size": 16, "word_embed_proj_dim": 16, "num_attention_heads": 2, "ffn_dim": 32},
}
LLAMA = BERT | {"num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
BART = {
    "d_model": 16,
    "vocab_size": 40,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


def t5(**changes):
    """Return the config of a T5; `changes` are fields of it."""
    fields = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return T5Config(**fields | TINY | changes)


def llama(**fields):
    """Return the config of a Llama of two layers; `fields` are further fields of it."""
    return AutoConfig.for_model("llama", **DECODER | {"num_key_value_heads": 2} | fields)


def with_distinct_moments(model):
    """Give every parameter moments of its own."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.normal_(0.1 * i, 0.5 + 0.01 * i)
    return model


def assert_equal(one, two):
    """Assert that two models have the same parameters, bit by bit."""
    for (name, p), (other, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(p, q), name


def rewrite_weights(folder, change):
    """Replace every tensor of a saved model by change(its name, the tensor)."""
    tensors = load_file(folder / WEIGHTS)
    changed = {name: change(name, tensor) for name, tensor in tensors.items()}
    save_file(changed, folder / WEIGHTS, {"format": "pt"})


def query_sd(folder):
    """Return the standard deviation of a saved Llama's first query matrix, from its statistics."""
    statistics = ParameterStatistics.from_pretrained(folder)
    return statistics.parameters["model.layers.0.self_attn.q_proj.weight"].sd
