"""Surfaces: what lies in the folder of a checkpoint."""

import json
import struct
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from inputs import as_json, edited, torn
from surface import Surface, write_json

from hf_synpre import ParameterStatistics, StatisticsInit
from hf_synpre.data.tokenizers import read_tokenizer
from hf_synpre.initialization.stored_tensors import StoredTensors
from hf_synpre.initialization.weight_files import indexed_files
from hf_synpre.models.spec import ModelSpec
from hf_synpre.tasks import generate
from hf_synpre.vocabulary import as_vocabulary

T5 = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "d_model": 8,
    "d_kv": 4,
    "d_ff": 8,
    "num_heads": 2,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "vocab_size": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
WIDTH = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 64}
CONFIGS = [
    T5,
    {"model_type": "bert", "num_hidden_layers": 1, "max_position_embeddings": 16, **WIDTH},
    {"model_type": "electra", "num_hidden_layers": 1, "embedding_size": 8, **WIDTH},
    {"model_type": "llama", "num_hidden_layers": 1, "rms_norm_eps": 1e-6, **WIDTH},
    {"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 64},
]
HEADER = {
    "__metadata__": {"format": "pt"},
    "encoder.block.0.layer.0.SelfAttention.q.weight": {
        "dtype": "F32",
        "shape": [2, 2],
        "data_offsets": [0, 16],
    },
    "b": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [16, 20]},
    "b_scale": {"dtype": "F32", "shape": [], "data_offsets": [20, 24]},
}
DTYPES = ("F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E8M0", "F4", "I64", "I4", "U8", "BOOL", "C64")


def safetensors(header: Any) -> bytes:
    """Return the bytes of a safetensors file with this header."""
    text = as_json(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(24))


SAFETENSORS = (
    edited(HEADER).map(safetensors)
    | st.sampled_from(DTYPES).map(
        lambda dtype: safetensors({"w": {**HEADER["b_scale"], "dtype": dtype, "shape": [1]}})
    )
    | torn(safetensors(HEADER))
)


def write_checkpoint(folder: Path, weights: bytes) -> None:
    """Write a checkpoint's config and weights."""
    (folder / "config.json").write_text(json.dumps(T5))
    (folder / "model.safetensors").write_bytes(weights)


def read_tensors(folder: Path, _: Any) -> None:
    """Measure a checkpoint, and read each of its tensors."""
    ParameterStatistics.measured(folder, "x")
    tensors = StoredTensors.in_folder(folder)
    for name in tensors.shapes:
        tensors.read(name)


def read_architecture(folder: Path, _: Any) -> None:
    """Build the skeleton of a model of a config.json."""
    ModelSpec(config_name=str(folder)).validate()


STATISTICS = {
    "format": 1,
    "source": "x",
    "parameters": [
        {
            "name": f"{part}.layer_norm.weight",
            "shape": [8],
            "numel": 8,
            "mean": 0.0,
            "sd": 1.0,
        }
        for part in (
            "encoder.block.0.layer.0",
            "decoder.block.0.layer.0",
            "decoder.block.0.layer.1",
        )
    ],
}


def read_statistics(folder: Path, _: Any) -> None:
    """Load a statistics file, and draw a model from it."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    statistics = ParameterStatistics.load(folder / "statistics.json")
    factory = StatisticsInit(AutoModelForSeq2SeqLM, scheme="pre_attn_ln_scale")
    factory.from_config(AutoConfig.for_model(**T5), statistics)


TOKENIZER = {
    "version": "1.0",
    "added_tokens": [
        {
            "id": number,
            "content": token,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for number, token in enumerate(("<pad>", "</s>", "<unk>"))
    ],
    "normalizer": {"type": "NFKC"},
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {
        "type": "WordLevel",
        "vocab": {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"w{k}": 3 + k for k in range(40)},
        "unk_token": "<unk>",
    },
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "model_max_length": 64,
}


def write_tokenizer(folder: Path, files: tuple[Any, Any]) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    (folder / "tokenizer.json").write_text(as_json(files[0]))
    (folder / "tokenizer_config.json").write_text(as_json(files[1]))


def use_tokenizer(folder: Path, _: Any) -> None:
    """Read a tokenizer, and generate rows of its ids."""
    tokenizer = read_tokenizer(str(folder))
    as_vocabulary(tokenizer)
    generate("length", 0, 2, vocabulary=tokenizer)


# Name -> surface.
MODELS: dict[str, Surface] = {
    "safetensors": Surface(SAFETENSORS, write_checkpoint, read_tensors),
    "indexes": Surface(
        edited({"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}),
        write_json("model.safetensors.index.json"),
        lambda folder, _: indexed_files(folder / "model.safetensors.index.json"),
    ),
    "config.json": Surface(
        st.sampled_from(CONFIGS).flatmap(edited), write_json("config.json"), read_architecture
    ),
    "statistics": Surface(edited(STATISTICS), write_json("statistics.json"), read_statistics),
    "tokenizers": Surface(
        st.tuples(edited(TOKENIZER), edited(TOKENIZER_CONFIG)), write_tokenizer, use_tokenizer
    ),
}
