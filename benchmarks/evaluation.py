"""What evaluation costs in a fine-tuning cell; generation beside transformers' own.

Both generate with the same trained model.

`python benchmarks/evaluation.py [--data_dir DIR TASK ...] [--steps N]`: stdlib_ast, which every
Python carries, without arguments. Merges into results/evaluation.json. The peer is `model.generate`
on the same rows, in the same precision, in batches of the order in which they stand, as
Trainer.predict does. Rows differ only where rounding, which depends on the batch, decides between
two ids: transformers' own results differ as much between two orders. Seconds to generate: CPU.
"""

import argparse
import dataclasses
import json
import platform
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSeq2SeqLM

from hf_synpre.config import build_spec, read_yaml
from hf_synpre.experiments import ExperimentSpec
from hf_synpre.finetuning import finetuning, prepare
from hf_synpre.finetuning.text_head import longest_target
from hf_synpre.finetuning.text_to_text import generate_ids
from hf_synpre.initialization import build
from hf_synpre.vocabulary import as_vocabulary

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "evaluation.json"


def measure(spec: ExperimentSpec, task: str, data_dir: str | None, folder: Path) -> dict:
    """Return the seconds of one cell's phases, their share, and the peer's generation."""
    given, recipe = spec.tasks[task], spec.finetuning_spec(task)
    data = prepare(
        spec.finetuning_task(task), folder / "data", data_dir=data_dir, vocab_size=given.vocab_size
    )
    model = build(AutoModelForSeq2SeqLM, spec.model.config(as_vocabulary(data.tokenizer)), {}, 0)

    # One cell, as an experiment computes it.
    outcome = finetuning.finetune(model, data, recipe, seed=0, output_dir=folder / "work")
    spent = outcome["spent"]
    evaluation = spent["validation_s"] + spent["test_s"]

    # Its figures, and those of the peers.
    facts = {
        name: spent[name]
        for name in ("steps", "train_s", "tokens", "flops", "validation_s", "test_s")
    }
    whole = spent["train_s"] + evaluation
    facts |= {
        "test_share": spent["test_s"] / whole,
        "evaluation_share": evaluation / whole,
        "score": outcome["score"],
    }
    facts |= {
        "steps_per_s": spent["steps"] / spent["train_s"],
        "test_examples": outcome["test_examples"],
    }
    return (
        facts
        | compare(model, data, recipe)
        | {"validation_batches_of_128_s": large_batches(model, data, recipe, folder)}
    )


def large_batches(
    model: torch.nn.Module, data: object, recipe: finetuning.FinetuningSpec, folder: Path
) -> float:
    """Return the CPU seconds of all validations of a cell by Trainer in batches of 128."""
    changed = dataclasses.replace(
        recipe, training=recipe.training | {"per_device_eval_batch_size": 128}
    )
    trainer = finetuning.finetuning_trainer(model, data, changed, 0, folder / "large")
    started = time.process_time()
    trainer.evaluate()
    return recipe.evaluations * (time.process_time() - started)


def compare(model: torch.nn.Module, data: object, recipe: finetuning.FinetuningSpec) -> dict:
    """Return the seconds of both ways to generate, and the share of rows on which they agree."""
    trainer = finetuning.finetuning_trainer(
        model, data, recipe, 0, Path(tempfile.gettempdir()) / "unused"
    )
    rows, limit = data.rows("test", recipe.test_examples), longest_target(data)

    # Ours, in batches that shrink.
    started = time.process_time()
    ours = generate_ids(model, rows, trainer.data_collator, limit=limit)
    middle = time.process_time()

    # Theirs, in batches of 128.
    theirs, end = [], model.config.eos_token_id
    for first in range(0, len(rows), 128):
        batch = trainer.data_collator([rows[i] for i in range(first, min(first + 128, len(rows)))])
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        theirs += model.generate(**inputs, max_new_tokens=limit, do_sample=False)[:, 1:].tolist()
    seconds = time.process_time() - middle

    # Rows agree up to the end of sequence.
    cut = [ids[: ids.index(end)] if end in ids else ids for ids in theirs]
    same = sum(a == b[: len(a)] for a, b in zip(ours, cut, strict=True)) / len(rows)
    return {
        "generate_s": middle - started,
        "transformers_generate_s": seconds,
        "same_rows": same,
        "longest": limit,
    }


def main() -> None:
    """Measure the tasks named on the command line and merge them into the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=["stdlib_ast"])
    parser.add_argument("--data_dir")
    parser.add_argument("--steps", type=int, help="instead of the campaign's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()

    # The campaign's tasks, with fewer steps where that is asked for.
    given = read_yaml(ROOT / "examples" / "campaign.yaml")
    kept = {name: given[name] for name in ("name", "model", "tasks", "finetuning")}
    for task in kept["tasks"].values() if options.steps else ():
        task["finetuning"]["training"]["max_steps"] = options.steps
    spec = build_spec(ExperimentSpec, kept | {"arms": {"random": {}}}, "campaign.yaml")

    # Each task is written as soon as it is measured.
    report = json.loads(RESULT.read_text()) if RESULT.exists() else {"tasks": {}}
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(spec, task, options.data_dir, Path(folder))
        report["tasks"][task] = {
            k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()
        }
        shown = {
            k: round(found[k], 3)
            for k in ("steps_per_s", "train_s", "validation_s", "test_s", "evaluation_share")
        }
        print(
            task,
            shown,
            {
                k: round(found[k], 3)
                for k in ("generate_s", "transformers_generate_s", "same_rows", "score")
            },
        )
        report |= {"torch": torch.__version__, "machine": platform.machine(), "threads": 1}
        RESULT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
