"""Which recipe learns Set to 99 % with the fewest FLOPs: the presets and what lost.

    python benchmarks/recipe.py [--only NAME ...] [--seeds 0 1 2] [--jobs 2] [--work_dir DIR]

The task is Set with 4 to 24 ids of 128, the model has 0.9 M parameters; every 100 steps 512
validation examples are judged. A killed run goes on where it was (give --work_dir). Writes
results/recipe.json: FLOPs, tokens and steps at which 99 % was reached (null: not within the steps),
for each seed.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
import transformers
from joblib import Parallel, delayed

from hf_synpre.config import build_spec
from hf_synpre.files import read_json, write_json
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.versions import commit

SHAPE = {
    "d_model": 128,
    "d_kv": 16,
    "num_heads": 8,
    "d_ff": 512,
    "num_layers": 2,
    "num_decoder_layers": 2,
}
TASK = {"task": "set", "vocabulary": 128, "parameters": {"min_length": 4, "max_length": 24}}
RESULT = Path(__file__).parent / "results" / "recipe.json"
# name -> (fields of the run, training arguments, dropout)
CANDIDATES = {
    "paper": ({"preset": "paper", "validation_examples": 512}, {"max_steps": 16_000}, 0.1),
    "fast": ({"preset": "fast"}, {}, 0.0),
    "fast, bucketed": ({"preset": "fast", "batching": "bucketed"}, {}, 0.0),
    "fast, bucketed, batch 32": (
        {"preset": "fast", "batching": "bucketed", "batch_size": 32},
        {},
        0.0,
    ),
    "fast, bucketed, batch 128, rate 2e-2": (
        {"preset": "fast", "batching": "bucketed", "batch_size": 128},
        {"learning_rate": 2e-2},
        0.0,
    ),
    "fast, bucketed, curriculum over 1000": (
        {"preset": "fast", "batching": "bucketed", "curriculum_steps": 1000},
        {},
        0.0,
    ),
    "fast, batch 128, rate 2e-2": (
        {"preset": "fast", "batch_size": 128},
        {"learning_rate": 2e-2},
        0.0,
    ),
    "fast, linear decay over 2400": (
        {"preset": "fast"},
        {"max_steps": 2400, "lr_scheduler_type": "linear"},
        0.0,
    ),
    "fast, dropout 0.1": ({"preset": "fast"}, {}, 0.1),
    "adamw 1e-3": ({"preset": "fast"}, {"optim": "adamw_torch", "learning_rate": 1e-3}, 0.0),
}


def measure(name: str, seed: int, folder: Path) -> dict:
    """Return where one candidate reached 99 % under one seed."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    fields, training, dropout = CANDIDATES[name]
    steps = training | {"use_cpu": True, "eval_steps": 100}
    spec = build_spec(PretrainingSpec, TASK | fields | {"seed": seed, "training": steps}, name)
    model = ModelSpec(overrides=SHAPE | {"dropout_rate": dropout}, attention="eager")
    result = pretrain(spec, model, folder / f"{name.replace(' ', '_')}-{seed}")
    reached = result["stopped"] == "competence"
    found = {k: result[k] if reached else None for k in ("flops", "tokens", "steps")}
    print(
        f"{name:32s} seed {seed}: {result['accuracy']:.3f} after {result['steps']} steps, "
        f"{result['flops']:.3g} FLOPs",
        flush=True,
    )
    found |= {
        "padding_share": result["padding_share"],
        "train_s": result["train_s"],
        "commit": commit(),
    }
    return {
        "candidate": name,
        "seed": seed,
        "accuracy": result["accuracy"],
        "spent_flops": result["flops"],
        **found,
    }


def main() -> None:
    """Measure what is asked for and write it beside what was measured before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), choices=CANDIDATES)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--work_dir", type=Path, default=Path(tempfile.gettempdir()) / "synpre-recipe"
    )
    options = parser.parse_args()
    pairs = [(name, seed) for name in options.only for seed in options.seeds]
    rows = Parallel(n_jobs=options.jobs)(
        delayed(measure)(*pair, options.work_dir) for pair in pairs
    )
    stored = read_json(RESULT)["runs"] if RESULT.exists() else []
    runs = {(r["candidate"], r["seed"]): r for r in [*stored, *rows]}
    medians = {
        name: statistics.median(
            r["flops"] or float("inf") for (n, _), r in runs.items() if n == name
        )
        for name in dict.fromkeys(name for name, _ in runs)
    }
    kept = {name: flops if flops < float("inf") else None for name, flops in medians.items()}
    write_json(
        RESULT, {"torch": torch.__version__, "median_flops": kept, "runs": list(runs.values())}
    )


if __name__ == "__main__":
    main()
