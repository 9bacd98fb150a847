"""Every text architecture of transformers, very small -> what hf_synpre can do with it.

    python benchmarks/architectures.py [--only t5 bert ...]
        -> results/architectures.json and docs/architectures.md (about ten minutes for all)

For each architecture with a language model: it is built, a step's FLOPs are counted, it is
pre-trained for one step on a synthetic task and saved, and it is built under each head of
fine-tuning. Where a step ends in an error of one line (UsageError), the architecture is refused;
anything else that is raised is a fault of hf_synpre.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.files import write_json, write_text
from hf_synpre.initialization import skeleton
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.models.spec import ModelSpec, set_field
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import Vocabulary

RESULT = Path(__file__).parent / "results" / "architectures.json"
ROLES = Path(__file__).parent / "results" / "roles.json"
PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"

# Fields of configs that make a model small; those that a config has are set.
SMALL = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "emb_dim", "dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("intermediate_size", "d_ff", "d_inner", "ffn_dim", "hidden_dim"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size"), 64),
    **dict.fromkeys(("head_dim", "d_kv", "d_head"), 16),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token"), 2),
}
# The heads of fine-tuning -> the Auto class that builds their models.
HEADS = {
    "classes": transformers.AutoModelForSequenceClassification,
    "tags": transformers.AutoModelForTokenClassification,
    "spans": transformers.AutoModelForQuestionAnswering,
    "choices": transformers.AutoModelForMultipleChoice,
}


def small_fields(model_type: str) -> dict[str, Any]:
    """Return the fields that make an architecture small: those of SMALL that its config has."""
    config = CONFIG_MAPPING[model_type]()
    fields = {}
    for name, value in SMALL.items():
        # DeepSeek's heads have several widths, of which this is not one to choose.
        is_derived = name == "head_dim" and hasattr(config, "qk_rope_head_dim")
        if is_derived or not isinstance(getattr(config, name, None), int):
            continue
        try:
            set_field(config, config.attribute_map.get(name, name), value)
        except UsageError:  # the number of layers of some follows from other fields
            continue
        fields[config.attribute_map.get(name, name)] = value
    return fields


def attempt(model_type: str) -> dict[str, Any]:
    """Return what can be done with an architecture.

    Returns:
        "family"; "pretrains" (True, or why not); "fault" where the reason is no UsageError;
        "heads", those of fine-tuning that it has.
    """
    found: dict[str, Any] = {"family": None, "pretrains": None, "heads": []}
    try:
        found["family"] = model_family(CONFIG_MAPPING[model_type]())
    except Exception as error:  # whatever a config raises on its own defaults
        return found | {"pretrains": one_line(error)}

    try:
        model = build_spec(ModelSpec, {"model_type": model_type, **overrides_of(model_type)}, "x")
        config = model.config(Vocabulary.plain(64))
        spec = build_spec(PretrainingSpec, PRETRAINING, "x")
        with tempfile.TemporaryDirectory() as folder:
            pretrain(spec, model, Path(folder) / "run")
        found["pretrains"] = True
    except UsageError as error:
        found["pretrains"] = one_line(error)
        return found
    except Exception as error:  # a fault
        return found | {"pretrains": one_line(error), "fault": type(error).__name__}

    for name, auto_class in HEADS.items():
        if type(config) in auto_class._model_mapping:
            try:
                skeleton(auto_class, config)
                found["heads"].append(name)
            except Exception as error:  # a fault
                found["fault"] = f"{name}: {one_line(error)}"
    return found


PRETRAINING = {
    "task": "set",
    "vocabulary": 64,
    "parameters": {"min_length": 4, "max_length": 8},
    "validation_examples": 8,
    "evaluations": 1,
    "training": {"max_steps": 1, "per_device_train_batch_size": 4, "use_cpu": True},
}


def overrides_of(model_type: str) -> dict[str, Any]:
    """Return the overrides of a ModelSpec that make an architecture small."""
    return {"overrides": small_fields(model_type)}


def one_line(error: Exception) -> str:
    """Return the text of an error without line breaks, cut."""
    return " ".join(str(error).split())[:200]


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return docs/architectures.md."""
    untold = json.loads(ROLES.read_text())["untold"]
    done = sum(found["pretrains"] is True for found in results.values())
    lines = [
        "# Architectures",
        "",
        f"Made by `benchmarks/architectures.py` with transformers {transformers.__version__}: each "
        "architecture with a language model, very small, is pre-trained for one step on Set and "
        "built under each head of fine-tuning. "
        f"{done} of {len(results)} pre-train; the others are refused in a line before any work "
        "starts, which the last column quotes. "
        f"{len(language_models()) - len(results)} further ones were not tried yet "
        "(`--only model_type` adds one).",
        "",
        "*Schemes by role*: whether all schemes of parameter statistics work without `roles=`.",
        "",
        "| model_type | family | pre-trains | heads | schemes by role | refused with |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for model_type, found in sorted(results.items()):
        works = found["pretrains"] is True
        reason = "" if works else str(found["pretrains"]).replace("|", "\\|")
        lines.append(
            f"| {model_type} | {found['family']} | {'yes' if works else 'no'} "
            f"| {', '.join(found['heads'])} | {'no' if model_type in untold else 'yes'} "
            f"| {reason} |"
        )
    return "\n".join(lines) + "\n"


def language_models() -> list[str]:
    """Return the architectures that have a language model in one of the three families."""
    model_types = {
        model_type
        for auto in AUTO_CLASSES.values()
        for model_type in auto._model_mapping._model_mapping
    }
    return sorted(model_types)


def main() -> int:
    """Try all architectures and write the JSON and the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="model types; the others keep their results")
    only = parser.parse_args().only
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()

    results = {}
    if only:
        results = json.loads(RESULT.read_text())["architectures"]
    for model_type in only or language_models():
        results[model_type] = attempt(model_type)
        print(model_type, results[model_type], flush=True)
    results = dict(sorted(results.items()))
    write_json(RESULT, {"transformers": transformers.__version__, "architectures": results})
    write_text(PAGE, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
