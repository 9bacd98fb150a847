"""Every architecture of transformers, very small -> what hf_synpre can do with it.

    python benchmarks/architectures.py [--seconds 180] [--only t5 bert ...]
        -> results/architectures.json and docs/architectures.md (about 25 minutes of CPU time)

Every model type of transformers is tried as a user would: it is pre-trained for two steps on a
synthetic task and saved, started again from the saved folder, built from the folder's statistics,
and fine-tuned for a step under each head. An error of one line (UsageError) is a refusal. Anything
else that is raised, and a process that is too large or takes too long, is a fault of hf_synpre.

Each architecture has a process of its own, forked from this one, with a limit of time and of
memory. Results are kept after each one; the command goes on with those that have none.
"""

import argparse
import gc
import inspect
import json
import math
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_synpre.config import build_spec
from hf_synpre.errors import UsageError
from hf_synpre.files import write_json, write_text
from hf_synpre.finetuning import (
    FinetuningSpec,
    PreparedTask,
    finetune,
    prepare,
    task_from_fields,
)
from hf_synpre.initialization import StatisticsInit, build
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.pretraining import PRETRAINING_ARGUMENTS, pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

RESULT = Path(__file__).parent / "results" / "architectures.json"
ROLES = Path(__file__).parent / "results" / "roles.json"
PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"

# The limits of one architecture.
MOST_CPU_SECONDS = 60
MOST_SECONDS = 300.0  # for one that sleeps
MOST_BYTES = 8 * 2**30  # of addresses; the libraries alone take about two

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
# Fields of architectures that are small only together with others.
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "axk1": {"n_group": 1, "topk_group": 1},
    "bamba": {"mamba_n_heads": 4, "mamba_d_head": 16, "attn_layer_indices": [1]},
    "codegen": {"n_head": 4, "rotary_dim": 4},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {"num_hidden_layers": 10, "num_kv_shared_layers": 5},
    "gpt_neo": {"attention_types": [[["global"], 2]]},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"mamba_n_heads": 4, "mamba_d_head": 16},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "qwen3_5_moe_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "reformer": {"axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16]},
}

PRETRAINING = {
    "task": "set",
    "vocabulary": 64,
    "parameters": {"min_length": 4, "max_length": 8},
    "validation_examples": 8,
    "evaluations": 1,
    "training": {"max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True},
}
FINETUNING = {
    "training": {
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "optim": "adamw_torch",
    },
    "evaluations": 1,
}
TEXT_ONLY = {"max_new_tokens": 4, "accept_unspellable": True}

# A task for each class of models with a head: its definition, and its row of a number.
ROW_TASKS: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "text": (
        {"source": "source", "target": "target", "max_source": 16, "max_target": 16},
        lambda i: {"source": f"row {i}", "target": f"{i}"},
    ),
    "classes": (
        {"head": "classes", "text": "text", "label": "label", "max_source": 16},
        lambda i: {"text": f"row {i}", "label": ["even", "odd"][i % 2]},
    ),
    "choices": (
        {"head": "choices", "text": "text", "label": "label", "choices": "ends", "max_source": 16},
        lambda i: {"text": f"row {i}", "ends": ["even", "odd"], "label": i % 2},
    ),
    "span": (
        {"head": "span", "text": ["text", "question"], "label": "answers", "max_source": 32},
        lambda i: {
            "text": f"row {i}",
            "question": "which",
            "answers": {"text": [f"{i}"], "answer_start": [4]},
        },
    ),
    "tags": (
        {"head": "tags", "text": "words", "label": "tags", "max_source": 16},
        lambda i: {"words": ["row", f"{i}"], "tags": ["O", "B-number"]},
    ),
}


# --- One architecture -----------------------------------------------------------------------------


def small_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the overrides that make an architecture small: the fields of SMALL that it has.

    The parts of a config, such as that of its text, get those that they have.
    """
    stored = config.to_dict()
    fields: dict[str, Any] = {}
    for name, value in SMALL.items():
        # DeepSeek's heads have several widths, of which this is not one to choose.
        is_derived = name == "head_dim" and "qk_rope_head_dim" in stored
        if type(stored.get(name)) is int and not is_derived:
            fields[name] = value
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if isinstance(part, PreTrainedConfig):
            fields[name] = small_fields(part)
    return fields | OWN_FIELDS.get(config.model_type, {})


def try_architecture(model_type: str, work: Path, tell: Callable[[str, Any], None]) -> None:
    """Do with one architecture all that hf_synpre can do, and tell what came of each step.

    Args:
        model_type: its name.
        work: an empty folder.
        tell: takes the name of a step and its outcome: True, or why it was refused. An exception
            that is no UsageError leaves this function.
    """
    # The architecture and its family.
    try:
        model = build_spec(ModelSpec, {"model_type": model_type}, "architectures")
        config = model.config(Vocabulary.plain(64))
        family = model_family(config)
    except UsageError as error:
        tell("pretrain", str(error))
        return
    tell("family", family)
    model.overrides = small_fields(config)
    tell("overrides", model.overrides)

    # Pre-training: random weights, FLOPs, two steps, a saved folder.
    folder = work / "run"
    spec = build_spec(PretrainingSpec, PRETRAINING, "architectures")
    try:
        result = pretrain(spec, model, folder)
    except UsageError as error:
        tell("pretrain", str(error))
        return
    assert result["flops"] > 0
    tell("pretrain", True)

    check_reload(spec, model, folder, result["curve"][-1]["loss"])
    tell("reload", True)
    check_statistics(family, folder)
    tell("statistics", True)

    # Fine-tuning.
    for head in ROW_TASKS:
        try:
            finetune_head(head, model, work / head)
            tell(head, True)
        except UsageError as error:
            tell(head, str(error))


def check_reload(spec: PretrainingSpec, model: ModelSpec, folder: Path, loss: float) -> None:
    """Assert that a saved model is what was trained: nothing missing, and the same loss.

    Args:
        spec: the recipe of the run.
        model: its architecture.
        folder: its folder.
        loss: its last validation loss.
    """
    vocabulary = as_vocabulary(spec.vocabulary)
    config = model.config(vocabulary)
    loaded, report = AUTO_CLASSES[model_family(config)].from_pretrained(
        folder, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], (kind, sorted(report[kind])[:3])

    started = replace(spec, start=str(folder))
    network = fresh_model(started, model, vocabulary)
    network.config.use_cache = False  # as a Trainer has it after its first step
    for (name, one), (_, other) in zip(
        loaded.named_parameters(), network.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    args = training_arguments(
        folder.with_name("again"),
        {"disable_tqdm": True} | spec.training,
        **PRETRAINING_ARGUMENTS,
        seed=spec.seed,
    )
    again = pretraining_trainer(started, network, vocabulary, args).evaluate()["eval_loss"]
    assert math.isclose(again, loss, rel_tol=1e-3), (again, loss)


def check_statistics(family: str, folder: Path) -> None:
    """Assert that statistics of a saved model make one whose logits are numbers."""
    model = StatisticsInit(AUTO_CLASSES[family], seed=0).from_pretrained(folder)
    ids = torch.arange(8)[None] + 5  # [1, 8]
    inputs = {"input_ids": ids}
    if family == "seq2seq":
        inputs["decoder_input_ids"] = ids
    options = {}
    if "use_cache" in inspect.signature(model.forward).parameters:
        options["use_cache"] = False
    with torch.no_grad():
        assert model.eval()(**inputs, **options).logits.isfinite().all()


def finetune_head(head_name: str, model: ModelSpec, folder: Path) -> None:
    """Fine-tune an architecture for a step under a head, and test it. UsageError: it has none."""
    data = prepared(head_name)
    config = model.config(as_vocabulary(data.tokenizer))
    head = data.head_for(config)
    network = build(head.model_class, head.configure(config, data), {}, 0)
    options = FINETUNING | (TEXT_ONLY if head_name == "text" else {})
    result = finetune(network, data, FinetuningSpec(**options), seed=0, output_dir=folder)
    assert math.isfinite(result["score"])


@cache
def prepared(head: str) -> PreparedTask:
    """Return a head's task as ids on disk; the folder lives as long as this process."""
    definition, row = ROW_TASKS[head]
    folder = Path(tempfile.mkdtemp(prefix="architectures-"))
    for number, split in enumerate(("train", "validation", "test")):
        lines = [json.dumps(row(10 * number + i)) for i in range(8)]
        write_text(folder / "rows" / f"{split}.jsonl", "\n".join(lines) + "\n")
    task = task_from_fields(f"{head}_rows", definition)
    return prepare(task, folder / "ids", data_dir=str(folder / "rows"), vocab_size=300)


# --- All of them, each in a process of its own ----------------------------------------------------


def attempt(model_type: str) -> dict[str, Any]:
    """Return what came of each step with an architecture, and "fault" where one did not end well.

    Keys: "family", "overrides", the steps "pretrain", "reload", "statistics" and the heads, each
    True or the line that refused it; "fault"; "seconds" and "peak_mb".
    """
    began = time.perf_counter()
    ours, theirs = multiprocessing.Pipe(duplex=False)
    outcomes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="architectures-") as work:
        child = multiprocessing.get_context("fork").Process(
            target=run_child, args=(model_type, Path(work), theirs), daemon=True
        )
        child.start()
        theirs.close()

        # Read what it tells, until it has ended or its time is over.
        try:
            while ours.poll(max(MOST_SECONDS - (time.perf_counter() - began), 0.0)):
                name, outcome = ours.recv()
                outcomes[name] = outcome
            outcomes["fault"] = f"it took longer than {MOST_SECONDS:.0f} s"
        except EOFError:
            pass
        child.kill()
        child.join()
    if "peak_mb" not in outcomes and "fault" not in outcomes:
        outcomes["fault"] = f"its process ended with exit code {child.exitcode}"
    return outcomes | {"seconds": round(time.perf_counter() - began, 1)}


def run_child(model_type: str, work: Path, connection: Connection) -> None:
    """Try an architecture in this process, which is a child; send what came of each step."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))

    def tell(name: str, outcome: Any) -> None:
        connection.send((name, one_line(outcome) if isinstance(outcome, str) else outcome))

    try:
        try_architecture(model_type, work, tell)
    except BaseException as error:  # whatever is raised is a fault
        if os.environ.get("SYNPRE_TRACEBACK"):
            traceback.print_exc()
        tell("fault", f"{type(error).__name__}: {error}")
    tell("peak_mb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def one_line(text: str) -> str:
    """Return a text without line breaks, cut."""
    return " ".join(text.split())[:600]


# --- The page -------------------------------------------------------------------------------------

FAMILIES = {
    "seq2seq": "Encoder-decoders",
    "causal": "Decoders",
    "mlm": "Encoders",
}


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return docs/architectures.md."""
    without_model = []
    for name, found in results.items():
        if "has no language model" in str(found.get("pretrain")):
            without_model.append(name)
    others = {name: found for name, found in results.items() if name not in without_model}
    refused = {
        name: found
        for name, found in others.items()
        if found.get("pretrain") is not True and "fault" not in found
    }
    faults = {name: found["fault"] for name, found in others.items() if "fault" in found}
    works = {
        name: found for name, found in others.items() if name not in refused and name not in faults
    }
    untold = json.loads(ROLES.read_text())["untold"]

    lines = [
        "# Architectures",
        "",
        f"Made by `benchmarks/architectures.py` with transformers {transformers.__version__}. Each "
        "architecture was made very small and tried as a user would: pre-trained for two steps on "
        "Set with its FLOPs counted, saved, started again from the saved folder with the same "
        "loss, built from its parameter statistics, and fine-tuned for a step under each head. "
        f"Of {len(results)} model types {len(others)} have a language model. {len(works)} of them "
        f"work; the others are refused in one line before work starts.{not_tried(results)}",
        "",
        "A head that is not named is refused by name too, mostly because transformers has no such "
        "model. `classes` stands for the heads classes, labels and number; decoders without a "
        "class for choices answer them by likelihood. *Roles*: whether the schemes of parameter "
        "statistics that need roles work without `roles=`.",
    ]
    for family, title in FAMILIES.items():
        of_family = {name: found for name, found in works.items() if found["family"] == family}
        lines += ["", f"## {title} ({len(of_family)})", "", "| model_type | heads | roles |"]
        lines += ["| --- | --- | --- |"]
        for name, found in sorted(of_family.items()):
            heads = ", ".join(head for head in ROW_TASKS if found.get(head) is True)
            lines.append(f"| {name} | {heads} | {'no' if name in untold else 'yes'} |")

    lines += ["", f"## Refused ({len(refused)})", ""]
    lines += [
        "In the small sizes that were tried, whose fields are in "
        "`benchmarks/results/architectures.json`. The published size of some may work.",
        "",
        "| model_type | refused with |",
        "| --- | --- |",
    ]
    for name, found in sorted(refused.items()):
        reason = reason_of(found).replace("|", "\\|")
        lines.append(f"| {name} | {reason} |")

    if faults:
        lines += ["", f"## Faults of hf_synpre ({len(faults)})", ""]
        lines += [f"- {name}: {fault}" for name, fault in sorted(faults.items())]

    lines += ["", f"## Without a language model ({len(without_model)})", ""]
    lines.append(
        "Architectures for pictures, sound and the like: " + ", ".join(without_model) + "."
    )
    return "\n".join(lines) + "\n"


def not_tried(results: dict[str, dict[str, Any]]) -> str:
    """Return the sentence on the architectures that have no result yet."""
    missing = [name for name in language_models_first() if name not in results]
    if not missing:
        return ""
    return (
        f" {len(missing)} further ones were not tried yet (the command goes on with them): "
        f"{', '.join(missing)}."
    )


def reason_of(found: dict[str, Any]) -> str:
    """Return why an architecture is refused, without the fields that made it small."""
    reason = str(found.get("pretrain") or found.get("fault"))
    return re.sub(r" with \{.*\} cannot be built", " cannot be built", reason)


# --- The command ----------------------------------------------------------------------------------


def language_models_first() -> list[str]:
    """Return all model types, those with a language model in one of the three families first."""
    with_model = set()
    for auto_class in AUTO_CLASSES.values():
        with_model |= set(auto_class._model_mapping._model_mapping)
    return sorted(CONFIG_MAPPING, key=lambda name: (name not in with_model, name))


def main() -> int:
    """Try the architectures that have no result, and write the JSON and the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="model types, which are tried again")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for head in ROW_TASKS:
        prepared(head)

    gc.freeze()  # the libraries, for all children

    # Results of another transformers are made again.
    began = time.perf_counter()
    results: dict[str, Any] = {}
    if RESULT.exists():
        stored = json.loads(RESULT.read_text())
        if stored["transformers"] == transformers.__version__:
            results = stored["architectures"]
    missing = [name for name in language_models_first() if name not in results]
    for model_type in options.only or missing:
        if time.perf_counter() - began > options.seconds:
            break
        results[model_type] = attempt(model_type)
        print(model_type, results[model_type], flush=True)
        stored = {"transformers": transformers.__version__, "architectures": results}
        write_json(RESULT, stored)
    write_text(PAGE, page(dict(sorted(results.items()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
