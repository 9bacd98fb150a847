"""Presets of pre-training: a name -> the fields of its recipe, and the size of its model.

`paper`, `fast`, `electra`, `roberta` and their `_tenth` leave the model as it is asked for. The
others are for the machine that they are typed on: they have a small model too (`small_model`).
"""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_synpre.errors import UsageError
from hf_synpre.models.spec import DROPOUTS
from hf_synpre.tasks import get_task, open_stream

# A task of a size that a CPU learns in some minutes.
SMALL_TASK: dict[str, Any] = {
    "vocabulary": 128,
    "parameters": {"min_length": 4, "max_length": 24},
    "target_accuracy": 0.99,
    "training": {
        "max_steps": 4000,
        "optim": "adafactor",
        "learning_rate": 3e-2,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 0.02,
    },
}
# The parameters of `small` and `smoke` for tasks without a range of lengths.
SMALL_PARAMETERS: dict[str, dict[str, int]] = {
    "k_shuffle_dyck": {"length": 64, "types": 16, "max_depth": 4},
    "k_dyck": {"length": 64, "types": 16},
    "eca": {"width": 16, "steps": 4},
    "nca": {
        **{"grid": 6, "states": 3, "frames": 12, "burn_in": 4},
        **{"min_complexity": 300, "max_complexity": 500},
    },
    "linear_rnn": {"length": 64, "tokens": 64, "hidden": 32},
    "random_lstm": {"length": 64, "tokens": 16},
    "needle": {"pairs": 8},
    "mqar": {"length": 48, "keys": 4},
    "verbatim": {"min_items": 2, "max_items": 8, "gap": 8},
    "stack": {"steps": 24},
    "depo": {
        **{"letters": 16, "max_word_length": 1, "max_nodes": 8},
        **{"max_hops": 2, "queries": 4},
    },
    "brevo": {"letters": 16, "max_nodes": 8},
    "mano": {"modulus": 7, "max_operations": 2},
    "lano": {"levels": 5},
}
# Presets for synthetic tasks: `paper` is what the papers did (docs/papers.md, "Pre-training"),
# `fast` what reaches their 99 % token accuracy soonest (benchmarks/recipe.py; examples/LOG.md).
# `small` is `synpre pretrain` without a preset; `smoke` shows that a run works.
TASK_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "batching": "padded",
        "batch_size": 128,
        "schedule": "rsqrt",
        "initial_weights": "t5x",
        "evaluations": 16,
        "validation_examples": 2560,
        "target_accuracy": 0.99,
        "training": {"max_steps": 80_000, "optim": "adafactor", "learning_rate": 1.0},
    },
    "fast": {
        "batching": "packed",
        "batch_size": 64,
        "evaluations": 80,
        "target_accuracy": 0.99,
        "training": {
            "max_steps": 8000,
            "optim": "adafactor",
            "learning_rate": 3e-2,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 50,
            "bf16": True,
        },
    },
    "small": SMALL_TASK | {"evaluations": 40},
    "smoke": SMALL_TASK
    | {"evaluations": 2, "training": {**SMALL_TASK["training"], "max_steps": 100}},
}

# Presets for a dataset's own text: ELECTRA-small and RoBERTa-base of Krishna et al. 2022
# (docs/papers.md, "Self-pretraining: recipes"). RoBERTa's betas, weight decay and epsilon are those
# of its paper.
SELF_PRETRAINING: dict[str, dict[str, Any]] = {
    "electra": {
        "objective": "rtd",
        "window": 128,
        "pairs": True,
        "batch_size": 128,
        "schedule": "electra",
        "bias_correction": False,
        "training": {
            "max_steps": 1_000_000,
            "warmup_steps": 10_000,
            "adam_epsilon": 1e-6,
            "weight_decay": 0.01,
        },
    },
    "roberta": {
        "objective": "mlm",
        "window": 512,
        "batch_size": 512,
        "training": {
            "max_steps": 100_000,
            "warmup_steps": 6_000,
            "lr_scheduler_type": "linear",
            "adam_beta2": 0.98,
            "adam_epsilon": 1e-6,
            "weight_decay": 0.01,
        },
    },
}
# Their shares of the steps, by the ending of the name: `_tenth` is for a GPU.
BUDGET_SHARES = {"": 1.0, "_tenth": 0.1, "_hundredth": 0.01}
# What a CPU trains on in a step, instead of the recipe's own: `_hundredth` and `_smoke`.
CPU_ROWS: dict[str, Any] = {"window": 128, "batch_size": 32}
# Steps of `_smoke`, and the few evaluations for which a minute has room.
SMOKE_STEPS = 100
SMOKE: dict[str, Any] = {"evaluations": 2, "validation_examples": 128}


def self_pretraining_preset(recipe: dict[str, Any], share: float) -> dict[str, Any]:
    """Return the preset of a recipe of SELF_PRETRAINING with a share of its steps and warm-up."""
    training = {"optim": "adamw_torch", "learning_rate": 5e-4, **recipe["training"]}
    for name in ("max_steps", "warmup_steps"):
        training[name] = round(training[name] * share)
    return {
        **recipe,
        "text": {},
        "target_accuracy": 1.1,  # token accuracy ends no run on text
        "evaluations": 20,
        "training": training,
    }


def self_pretraining_presets() -> dict[str, dict[str, Any]]:
    """Return the presets of both recipes: their shares, and `_smoke`."""
    presets = {}
    for name, recipe in SELF_PRETRAINING.items():
        for ending, share in BUDGET_SHARES.items():
            presets[name + ending] = self_pretraining_preset(recipe, share)
        presets[f"{name}_hundredth"] |= CPU_ROWS
        smoke = self_pretraining_preset(recipe, SMOKE_STEPS / recipe["training"]["max_steps"])
        presets[f"{name}_smoke"] = {**smoke, **CPU_ROWS, **SMOKE}
    return presets


TEXT_PRESETS = self_pretraining_presets()
PRESETS: dict[str, dict[str, Any]] = TASK_PRESETS | TEXT_PRESETS
# The presets that have a model of their own.
WITH_SMALL_MODEL = (
    *("small", "smoke", "electra_hundredth", "electra_smoke"),
    *("roberta_hundredth", "roberta_smoke"),
)

# The small model: the fields of the architectures of transformers -> their values. An architecture
# gets those that its config has.
SMALL_MODEL = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size"), 128),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("n_layer", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), 8),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 8),
    **dict.fromkeys(("num_key_value_heads",), 8),
    **dict.fromkeys(("d_kv", "head_dim"), 16),
    **dict.fromkeys(("intermediate_size", "d_ff", "hidden_dim", "ffn_dim"), 512),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 512),
}


def preset_fields(preset: str, task: str | None) -> dict[str, Any]:
    """Return the fields of a preset's recipe for a task, or for text.

    Args:
        preset: a name in PRESETS.
        task: the synthetic task; None for a run on a corpus. A corpus has no vocabulary of plain
            ids, some tasks need a larger one, and not every task has a range of lengths.
    """
    fields = dict(PRESETS[preset])
    if "vocabulary" not in fields:
        return fields

    known = get_task(task).parameters if task is not None else {}
    if not fields["parameters"].keys() <= known.keys():
        fields["parameters"] = SMALL_PARAMETERS.get(str(task).removeprefix("shuffled-"), {})
    if task is None or not fits_vocabulary(task, fields["vocabulary"], fields["parameters"]):
        del fields["vocabulary"]
    if not fields["parameters"]:
        del fields["parameters"]
    return fields


def fits_vocabulary(task: str, size: int, parameters: Mapping[str, Any]) -> bool:
    """Say whether a plain vocabulary has all the tokens that a task with parameters needs."""
    try:
        open_stream(task, vocabulary=size, **parameters)
    except UsageError:
        return False
    return True


def small_model(preset: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a ModelSpec: those that were given over those of a preset.

    Args:
        preset: the name of the run's preset. Only those of WITH_SMALL_MODEL change a model.
        given: fields of a ModelSpec; its overrides win one by one, and a model that a config names
            (`config_name`) is left as it is.

    Examples:
        >>> small_model("small", {"model_type": "gpt2", "overrides": {"n_layer": 4}})["overrides"]
        {'n_embd': 128, 'n_head': 8, 'resid_pdrop': 0.0, ..., 'n_layer': 4}
    """
    model_type = given.get("model_type", "t5")
    is_known = model_type in CONFIG_MAPPING
    if preset not in WITH_SMALL_MODEL or given.get("config_name") or not is_known:
        return dict(given)

    # The fields that the architecture has under these names, but for those that were given, under
    # whatever name.
    config: PreTrainedConfig = CONFIG_MAPPING[model_type]()
    overrides = given.get("overrides") or {}
    chosen = {config.attribute_map.get(name, name) for name in overrides}
    if "num_attention_heads" in chosen:  # as many for keys and values, where nothing else is said
        chosen.add("num_key_value_heads")
    wanted: dict[str, float] = dict(SMALL_MODEL)
    if preset in TASK_PRESETS:  # rows of a task have no end, so a model needs no dropout
        wanted |= dict.fromkeys(DROPOUTS, 0.0)
    fields = {}
    for name, value in wanted.items():
        if vars(config).get(name) is not None and name not in chosen:
            fields[name] = value

    # A few architectures want fields that these contradict; they keep their own size.
    try:
        CONFIG_MAPPING[model_type](**fields)
    except Exception:  # whatever the architecture raises on its own fields
        return dict(given)
    return {**given, "overrides": fields | overrides}
