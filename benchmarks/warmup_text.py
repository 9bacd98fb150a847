"""Whether a warm-up helps a small decoder to learn source code, and what adds to its moments.

    python benchmarks/warmup_text.py [--seeds 2] [--only warm,slow]     -> results/warmup_text.json

A Llama of two layers learns the source of Python's standard library (1,024 tokens of its own
tokenizer, AdamW, a learning rate that warms up and then stays) from these starts: random weights;
the layers of a warm-up with its defaults; the same values in other places of each tensor
(`permuted`); draws of the mean and deviation of each tensor (`moments`); the layers of a warm-up on
the same rows in random order (`shuffled`); the attention of a warm-up alone (`attention`); the
layers of one at a learning rate of 5e-4 (`slow`). Embeddings and head are the same fresh ones in
all. The figures are held-out losses in nats per token. Results are kept after each run; the command
goes on with those that have none.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import transformers
from transformers import AutoModelForCausalLM

from hf_synpre import StatisticsInit, warm_up
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.files import lock, write_json
from hf_synpre.initialization import build
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import as_vocabulary

RESULT = Path(__file__).parent / "results" / "warmup_text.json"
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 256,
}
WARM_STEPS = 250
ARMS = ("random", "warm", "permuted", "moments", "shuffled", "attention", "slow")
# Arms whose warm-up is another one -> its options.
OPTIONS: dict[str, dict[str, Any]] = {
    "shuffled": {"task": "shuffled-k_shuffle_dyck"},
    "attention": {"keep": "attention"},
    "slow": {"training": {"learning_rate": 5e-4}},
}
# The schemes of StatisticsInit that make an arm of the weights of `warm`.
SCHEMES = {"permuted": "permuted_weights", "moments": "per_param_mean_sd"}


def start_of(arm: str, seed: int, model: ModelSpec, tokenizer: Any, work: Path) -> str | None:
    """Return the folder of the weights that an arm starts from, None for random ones.

    Args:
        arm: one of ARMS.
        seed: of the model and of the rows.
        model: the architecture.
        tokenizer: of the text.
        work: where the warmed-up models of the seed are; those that are missing are made.
    """
    if arm == "random":
        return None
    folder = work / (arm if arm in OPTIONS else "warm")
    if not folder.exists():
        config = model.config(as_vocabulary(tokenizer))
        network = build(AutoModelForCausalLM, config, {}, seed)
        options = {"steps": WARM_STEPS, "seconds": None, "quiet": True} | OPTIONS.get(arm, {})
        facts = warm_up(network, seed=seed, **options)
        network.save_pretrained(folder)
        print(arm, facts["steps"], "steps, loss", facts["loss"], flush=True)
    if arm not in SCHEMES:
        return str(folder)
    init = StatisticsInit(AutoModelForCausalLM, scheme=SCHEMES[arm], seed=seed)
    init.from_pretrained(folder).save_pretrained(work / arm)
    return str(work / arm)


def losses(arm: str, seed: int, steps: int, work: Path) -> dict[str, Any]:
    """Return the held-out losses of a run on text from an arm; `work` has the warm models."""
    tokenizer = train_tokenizer(list(open_corpus("stdlib").texts("train"))[:200], 1024)
    model = ModelSpec("llama", overrides=SIZES)
    spec = PretrainingSpec(
        corpus="stdlib",
        window=64,
        start=start_of(arm, seed, model, tokenizer, work / f"warm-{seed}"),
        start_embeddings="fresh" if arm != "random" else "kept",
        evaluations=6,
        validation_examples=256,
        target_accuracy=2.0,
        seed=seed,
        training={
            "max_steps": steps,
            "per_device_train_batch_size": 32,
            "optim": "adamw_torch",
            "learning_rate": 2e-3,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 0.1,
            "use_cpu": True,
        },
    )
    result = pretrain(spec, model, work / f"{arm}-{seed}", tokenizer=tokenizer)
    curve = {str(point["step"]): round(point["loss"], 4) for point in result["curve"]}
    return {"losses": curve, "tokens": result["tokens"]}


def stored() -> dict[str, Any]:
    """Return the runs that were made so far."""
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}


def main() -> int:
    """Make the runs that have no result, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--only", default=",".join(ARMS), help="arms")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as work:
        for seed in range(options.seeds):
            for arm in options.only.split(","):
                name = f"{arm} {seed} {options.steps}"
                if name in stored():
                    continue
                found = losses(arm, seed, options.steps, Path(work))
                print(name, found, flush=True)
                with lock(RESULT):
                    write_json(RESULT, stored() | {name: found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
