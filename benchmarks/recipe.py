"""How soon a small T5 learns Set under candidate recipes, one core each: why the examples train as they do.

Every candidate gets the same rows, 500 steps of 64; the first is the one that the examples use. Writes results/recipe.json.
"""

import json
import platform
import tempfile
from pathlib import Path

import torch
import transformers

from hf_synpre.pretraining import ModelSpec, PretrainingSpec, pretrain

SHAPE = {
    "d_model": 128,
    "d_kv": 16,
    "num_heads": 8,
    "d_ff": 512,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "dropout_rate": 0.0,
}
TRAINING = {
    "max_steps": 500,
    "learning_rate": 3e-2,
    "lr_scheduler_type": "linear",
    "warmup_steps": 50,
    "bf16": True,
    "use_cpu": True,
}
CANDIDATES = {
    "adafactor 3e-2, eager, bf16": ({}, {}, {}),
    "adafactor 1e-2 (the papers' rate)": ({"learning_rate": 1e-2}, {}, {}),
    "adafactor 1e-1": ({"learning_rate": 1e-1}, {}, {}),
    "adamw 1e-3": ({"learning_rate": 1e-3, "optim": "adamw_torch"}, {}, {}),
    "curriculum by length over 250 steps": ({}, {"ramp_steps": 250}, {}),
    "sdpa attention": ({}, {}, {"attention": "sdpa"}),
    "fp32": ({"bf16": False}, {}, {}),
}


def measure(training: dict, spec: dict, model: dict, folder: Path) -> dict:
    """Return accuracy, loss, seconds of training and tokens of one candidate."""
    run = PretrainingSpec(
        task="set",
        vocabulary=128,
        parameters={"min_length": 4, "max_length": 24},
        evaluations=5,
        training=TRAINING | training,
        **spec,
    )
    facts = pretrain(run, ModelSpec(overrides=SHAPE, **{"attention": "eager", **model}), folder)
    kept = ("accuracy", "train_s", "tokens", "tokens_per_s", "padding_share", "flops", "curve")
    return {key: facts[key] for key in kept}


def main() -> None:
    """Measure all candidates one after the other."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, changes) in enumerate(CANDIDATES.items()):
            results[name] = measure(*changes, Path(folder) / str(i))
            print(f"{name:36s} accuracy {results[name]['accuracy']:.3f}  {results[name]['train_s']:6.1f} s", flush=True)
    report = {"steps": 500, "torch": torch.__version__, "machine": platform.machine(), "candidates": results}
    (Path(__file__).parent / "results" / "recipe.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
