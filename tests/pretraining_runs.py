"""Small pre-training runs that several tests make: specs and architectures, by name."""

from dataclasses import replace

from small_models import TINY

from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec

MODEL = ModelSpec(overrides=TINY)


SPEC = PretrainingSpec(
    task="identity",
    vocabulary=48,
    parameters={"min_length": 2, "max_length": 4},
    evaluations=4,
    validation_examples=64,
    target_accuracy=2.0,  # not reached: the run ends by its budget
    training={"max_steps": 200, "learning_rate": 5e-2, "use_cpu": True},
)


STREAM_MODELS = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "bert": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
}


MQAR = {"length": 24, "keys": 3}
RUNS = {
    "t5 packed": ({"batching": "packed", "row_length": 64}, {"overrides": TINY}),
    "t5 padded, paper's schedule and weights": (
        {"batching": "padded", "schedule": "rsqrt", "initial_weights": "t5x"},
        {"overrides": TINY},
    ),
    "gpt2 packed": (
        {"batching": "packed", "row_length": 64},
        {"model_type": "gpt2", "overrides": STREAM_MODELS["gpt2"]},
    ),
    "gpt2 bucketed, all": (
        {"loss_on": "all"},
        {"model_type": "gpt2", "overrides": STREAM_MODELS["gpt2"]},
    ),
    "bert packed": (
        {"batching": "packed", "row_length": 64},
        {"model_type": "bert", "overrides": STREAM_MODELS["bert"]},
    ),
    "t5 on nesting_language": (
        {"task": "nesting_language", "parameters": {}, "window": 40},
        {"overrides": TINY},
    ),
    "gpt2 on nesting_language": (
        {"task": "nesting_language", "parameters": {}, "window": 40},
        {"model_type": "gpt2", "overrides": STREAM_MODELS["gpt2"]},
    ),
    "t5 on mqar": ({"task": "mqar", "parameters": MQAR, "vocabulary": 80}, {"overrides": TINY}),
    "gpt2 packed on mqar": (
        {"task": "mqar", "parameters": MQAR, "batching": "packed", "row_length": 64},
        {"model_type": "gpt2", "overrides": STREAM_MODELS["gpt2"]},
    ),
    "bert on mqar": (
        {"task": "mqar", "parameters": MQAR},
        {"model_type": "bert", "overrides": STREAM_MODELS["bert"]},
    ),
    "bert on nesting_language": (
        {"task": "nesting_language", "parameters": {}, "window": 40},
        {"model_type": "bert", "overrides": STREAM_MODELS["bert"]},
    ),
}


def run_of(name, **changes):
    changed, model = RUNS[name]
    rate = 1.0 if "schedule" in changed else 3e-2
    training = {"max_steps": 12, "learning_rate": rate, "use_cpu": True}
    if "batch_size" not in changes:
        training["per_device_train_batch_size"] = 8
    spec = (
        {**vars(SPEC), "evaluations": 2, "training": training | {"logging_steps": 1}}
        | changed
        | changes
    )
    if spec["corpus"]:  # which has no task and no vocabulary of plain ids
        spec |= {"parameters": {}, "vocabulary": None, "batching": "bucketed", "row_length": None}
    return PretrainingSpec(**spec), ModelSpec(**model)


def short_run(folder, *, keep_checkpoints=1, **training):
    """Pre-train 30 steps with dropout and Adam, with a checkpoint every ten steps."""
    usual = {"max_steps": 30, "save_steps": 10, "optim": "adamw_torch", "learning_rate": 1e-3}
    spec, model = run_of("t5 packed", training=usual | {"use_cpu": True} | training)
    model = replace(model, overrides=model.overrides | {"dropout_rate": 0.1})
    return pretrain(spec, model, folder, keep_checkpoints=keep_checkpoints)
