"""Every architecture of transformers, small -> warmed up in a minute, saved, and loaded as it was.

    python benchmarks/warmup.py [--seconds 180] [--only t5 bert ...]     -> results/warmup.json

Every architecture that has a language model and whose roles are known is taken from its default
config, made small (at most two million parameters), drawn by transformers itself, and warmed up
with the defaults, which is to take 60 seconds of one core at the most. Then it is saved, and loaded
again bit by bit. The 20 families that are used most are warmed up for all 500 steps; their excess
loss is to fall by half, their embeddings to stay as the initialiser drew them, and the loss of the
first real step to be ln V within 5 %. The others are warmed up for 20 steps.

Seconds are CPU seconds of one thread, because the clock of a shared machine tells little. Each
architecture has a process of its own. Results are kept after each one; the command goes on with
those that have none.
"""

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from architectures import language_models_first, small_fields
from transformers import set_seed

from hf_synpre import verify_checkpoint, warm_up
from hf_synpre.errors import UsageError
from hf_synpre.files import lock, write_json
from hf_synpre.initialization import embedding_names, read_parameters
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.models.spec import ModelSpec

FOLDER = Path(__file__).parent / "results"
RESULT = FOLDER / "warmup.json"
MOST_USED = (
    *("llama", "gpt2", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "opt", "gpt_neox"),
    *("bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "modernbert"),
    *("t5", "bart", "mt5"),
)
STEPS, FEW_STEPS = 500, 20
# Ids of the model, and the row of the first real step.
VOCABULARY = 4096
ROWS, LENGTH = 8, 64
WIDTH = {32: 64, 64: 256}  # of the small models of architectures.py, for those of MOST_USED
MOST_SECONDS = 900.0


def small_config(model_type: str) -> transformers.PreTrainedConfig:
    """Return the default config of an architecture, made small."""
    spec = ModelSpec(model_type)
    fields = small_fields(spec.config(None))
    if model_type in MOST_USED:
        fields = {n: WIDTH.get(v, v) if isinstance(v, int) else v for n, v in fields.items()}
    config = ModelSpec(model_type, overrides=fields).config(None)
    config.vocab_size = VOCABULARY
    for name, value in vars(config).copy().items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= VOCABULARY:
            setattr(config, name, 1)
    return config


def attempt(model_type: str) -> dict[str, Any]:
    """Warm an architecture up; return what it took and whether it is as it should be."""
    torch.set_num_threads(1)
    config = small_config(model_type)
    set_seed(0)
    model = AUTO_CLASSES[model_family(config)].from_config(config)
    is_used = model_type in MOST_USED
    cold_loss = first_loss(model) if is_used else None
    names = embedding_names(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    # The warm-up.
    cpu = time.process_time()
    facts = warm_up(model, steps=STEPS if is_used else FEW_STEPS, seconds=None, quiet=True)
    figures: dict[str, Any] = {
        "parameters": model.num_parameters(),
        "task": facts["task"],
        "steps": facts["steps"],
        "stopped": facts["stopped"],
        "cpu_s": round(time.process_time() - cpu, 1),
        "learnt": facts["learnt"],
        "excess_before": facts.get("excess_before"),
        "excess_loss": facts.get("excess_loss"),
        "left": facts["left"],
    }

    # What has changed, and what has not.
    state = model.state_dict()
    figures["embeddings_kept"] = all(torch.equal(state[n], before[n]) for n in names if n in state)
    roles = read_parameters(model)
    layers = [name for name, parameter in roles.items() if parameter.layer is not None]
    figures["layers_changed"] = sum(not torch.equal(state[n], before[n]) for n in layers)
    figures["layers"] = len(layers)
    if is_used:
        figures["first_loss"] = first_loss(model)
        figures["first_loss_cold"] = cold_loss
        figures["ln_v"] = math.log(VOCABULARY)

    # Saved, and loaded.
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        report = verify_checkpoint(folder)
    figures["reloaded"] = report.is_whole
    if not report.is_whole:
        figures["report"] = str(report)
    return figures


def first_loss(model: transformers.PreTrainedModel) -> float:
    """Return the loss of a batch of uniform ids of the model's vocabulary, as of a first step."""
    ids = torch.randint(5, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with torch.no_grad():
        logits = model.eval()(**inputs).logits  # [rows, length, ids]
    model.train()
    targets = ids.roll(-1, 1)
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))


def in_a_process(model_type: str) -> dict[str, Any]:
    """Return what came of an architecture, in a process of its own."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=tell, args=(model_type, theirs), daemon=True
    )
    child.start()
    theirs.close()
    found: dict[str, Any] = {"fault": f"it took longer than {MOST_SECONDS:.0f} s"}
    try:
        if ours.poll(MOST_SECONDS):
            found = ours.recv()
    except EOFError:
        found = {"fault": "its process died"}
    child.kill()
    child.join()
    return found


def tell(model_type: str, connection: Any) -> None:
    """Send what came of an architecture."""
    try:
        found = attempt(model_type)
    except UsageError as error:
        found = {"refused": " ".join(str(error).split())[:300]}
    except Exception as error:  # whatever an architecture raises is a fault
        found = {"fault": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    connection.send(found)


def candidates() -> list[str]:
    """Return the architectures with a language model whose roles are known, most used first."""
    untold = json.loads((FOLDER / "roles.json").read_text())["untold"]
    tried = json.loads((FOLDER / "architectures.json").read_text())["architectures"]
    names = [
        name
        for name in language_models_first()
        if tried.get(name, {}).get("pretrain") is True and name not in untold
    ]
    return [*MOST_USED, *(name for name in names if name not in MOST_USED)]


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of the goals."""
    done = [found for found in results.values() if "steps" in found]
    used = [results[name] for name in MOST_USED if "steps" in results.get(name, {})]
    return {
        "tried": len(results),
        "of": len(candidates()),
        "warmed_and_reloaded": sum(found["reloaded"] for found in done),
        "embeddings_kept": sum(found["embeddings_kept"] for found in done),
        "most_cpu_s": max((found["cpu_s"] for found in done), default=None),
        "used_tried": len(used),
        "used_halved": sum(
            found["excess_loss"] <= 0.5 * found["excess_before"]
            for found in used
            if found["excess_loss"] is not None
        ),
        "used_learnt": sum(found["learnt"] is True for found in used),
        "used_first_loss_near_ln_v": sum(
            abs(found["first_loss"] / found["ln_v"] - 1) <= 0.05 for found in used
        ),
    }


def main() -> int:
    """Warm up the architectures that have no result, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="model types, which are tried again")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    def stored() -> dict[str, Any]:
        if not RESULT.exists():
            return {}
        content = json.loads(RESULT.read_text())
        return content["models"] if content["transformers"] == transformers.__version__ else {}

    began = time.perf_counter()
    missing = [name for name in candidates() if name not in stored()]
    for model_type in options.only or missing:
        if time.perf_counter() - began > options.seconds:
            break
        found = in_a_process(model_type)
        print(model_type, found, flush=True)
        with lock(RESULT):  # two of these scripts may run side by side
            models = stored() | {model_type: found}
            content = {"transformers": transformers.__version__, "summary": summary(models)}
            write_json(RESULT, content | {"models": models})
    return 0


if __name__ == "__main__":
    sys.exit(main())
