"""Training steps in bfloat16 on this CPU: PyTorch's products of matrices, and ours in float32.

    python benchmarks/bfloat16.py -> results/bfloat16.json

The T5 of examples/campaign.yaml and the Llama of examples/decoder.yaml train on Set. Rows and first
weights are the same in all ways. Seconds are those that a processor's core spends on a step, the
lowest of four; other programs on the machine do not change them much. "difference" is that of the
first step's gradients from PyTorch's, as a share of their length; that of float32 is the peer,
which says what rounding to bfloat16 does.
"""

import json
import platform
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import TrainerCallback

from hf_synpre.config import read_yaml
from hf_synpre.files import write_json
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training import bfloat16
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.vocabulary import as_vocabulary

HERE = Path(__file__).parent
RESULT = HERE / "results" / "bfloat16.json"
MODELS = {"t5": "campaign", "llama": "decoder"}
# Way -> whether the training arguments ask for bfloat16.
WAYS = {"pytorch": True, "ours": True, "float32": False}
STEPS = 4


class Clock(TrainerCallback):
    """Keeps the seconds of all steps, and the gradients of the first."""

    def __init__(self):
        self.gradients, self.seconds, self.began = None, [], 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = time.process_time()

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.gradients is None:
            self.gradients = torch.cat([p.grad.flatten() for p in model.parameters()])

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.process_time() - self.began)


def train(model: str, way: str) -> Clock:
    """Train a model for some steps one way."""
    # The same recipe in all ways, but for bfloat16.
    training = {
        "max_steps": STEPS,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "bf16": WAYS[way],
    }
    spec = PretrainingSpec(
        task="set",
        vocabulary=128,
        parameters={"min_length": 4, "max_length": 24},
        training=training,
    )

    # The model of the example, and its steps.
    recipe = read_yaml(HERE.parent / "examples" / f"{MODELS[model]}.yaml")
    vocabulary = as_vocabulary(128)
    network = fresh_model(spec, ModelSpec(**recipe["model"]), vocabulary)
    bfloat16.has_bfloat16 = lambda: way == "pytorch"  # which leaves the products as they are
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        args = training_arguments(
            folder, training, train_sampling_strategy="sequential", save_strategy="no"
        )
        trainer = pretraining_trainer(spec, network, vocabulary, args)
        trainer.add_callback(clock)
        trainer.train()
    return clock


def main() -> None:
    """Measure all ways, and write the results."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    has_instructions = bfloat16.has_bfloat16()
    models = {}
    for model in MODELS:
        clocks = {way: train(model, way) for way in WAYS}
        wanted = clocks["pytorch"].gradients
        models[model] = {
            way: {
                "seconds": round(min(clock.seconds), 4),
                "difference": float((clock.gradients - wanted).norm() / wanted.norm()),
            }
            for way, clock in clocks.items()
        }
        print(model, json.dumps(models[model]), flush=True)

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    write_json(
        RESULT,
        {
            "machine": platform.processor() or platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "has_bfloat16": has_instructions,
            "versions": versions,
            "models": models,
        },
    )


if __name__ == "__main__":
    main()
