"""How soon small encoders learn more of a text than frequencies, by their initial weights.

    python benchmarks/initial_weights.py [--jobs 2] [--work_dir DIR]

The text is the source code of Python's own library, 2,048 ids trained on it; a step hides 15 % of
4,000 ids, the models have two layers of width 128. The peer of the same run are transformers'
initial weights. A killed run goes on where it was (give --work_dir). Writes
results/initial_weights.json: held-out loss by step, and how many times fewer ids took the loss that
the same model with transformers' weights ended with.
"""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import torch
import transformers
from joblib import Parallel, delayed

from hf_synpre.data import stdlib
from hf_synpre.data.tokenizers import train_encoder_tokenizer
from hf_synpre.files import write_json
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.versions import commit

RESULT = Path(__file__).parent / "results" / "initial_weights.json"
SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 136,
}
PLAIN = SHAPE | {
    "intermediate_size": 512,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
MODELS = {
    "roberta": PLAIN,
    "modernbert": SHAPE | {"intermediate_size": 344},  # no learned table: rotary positions
}
RUNS = [
    (name, weights)
    for name in MODELS
    for weights in ("transformers", "local")
    if (name, weights) != ("modernbert", "local")
]
TRAINING = {
    "max_steps": 1000,
    "warmup_steps": 150,
    "lr_scheduler_type": "linear",
    "optim": "adamw_torch",
}
TRAINING |= {"learning_rate": 1e-3, "weight_decay": 0.01, "adam_beta2": 0.98, "adam_epsilon": 1e-6}


def measure(name: str, weights: str, folder: Path) -> list[dict]:
    """Return the evaluations of one run."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = train_encoder_tokenizer(islice(stdlib.texts("train"), 200), 2048)
    spec = PretrainingSpec(
        corpus="stdlib",
        objective="mlm",
        window=80,
        batch_size=50,
        target_accuracy=1.1,
        evaluations=30,
        validation_examples=256,
        initial_weights=weights,
        training=TRAINING | {"bf16": True, "use_cpu": True},
    )
    facts = pretrain(
        spec,
        ModelSpec(name, overrides=MODELS[name]),
        folder / f"{name}-{weights}",
        tokenizer=tokenizer,
    )
    print(
        f"{name:12s} {weights:14s} loss {facts['curve'][-1]['loss']:.3f}, {facts['train_s']:.0f} s",
        flush=True,
    )
    return [
        {key: point[key] for key in ("step", "loss", "token_accuracy")} for point in facts["curve"]
    ]


def sooner(local: list[dict], stock: list[dict]) -> float | None:
    """Return how many times fewer steps took the last loss of `stock`; None: no step did."""
    reached = [point["step"] for point in local if point["loss"] <= stock[-1]["loss"]]
    return stock[-1]["step"] / reached[0] if reached else None


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--work_dir", type=Path, default=Path(tempfile.gettempdir()) / "synpre-initial-weights"
    )
    options = parser.parse_args()
    curves = Parallel(n_jobs=options.jobs)(delayed(measure)(*run, options.work_dir) for run in RUNS)
    found = dict(zip(RUNS, curves, strict=True))
    times = {
        name: sooner(found[name, "local"], found[name, "transformers"])
        for name in MODELS
        if (name, "local") in found
    }
    named = {f"{name}, {weights}": curve for (name, weights), curve in found.items()}
    facts = {"torch": torch.__version__, "commit": commit(), "ids_a_step": 50 * 80}
    write_json(RESULT, facts | {"times_sooner": times, "curves": named})


if __name__ == "__main__":
    main()
