"""Whether a small model learns each task since 2022 in minutes, by its excess loss.

    python benchmarks/learning.py [--steps 1500] [--only TASK,TASK] [--parameters NAME=NUMBER]

The results are benchmarks/results/learning.json, which keeps the tasks that are not run again.
With --parameters a result is kept beside that of the preset's own parameters. A task of FIRST
starts from the weights of a run on another one, whose steps, tokens and minutes are counted too.

Each task is pre-trained on with the preset `small`: a model of two layers of width 128, 128 ids,
short rows, Adafactor at 3e-2, one thread. A run ends at 99 % token accuracy, or where its steps
end. The limit is a loss that is a fifth of ln V above the lowest possible one, for V tokens that
may be answers: what is above it does not count as learnt. Where nobody knows the lowest loss, as of
nca and random_lstm, two losses are given between which it lies (yardsticks.py, on the rows that the
run was judged on): the task counts as learnt, or as not learnt, where both of them say so.
"""

import argparse
import json
import logging
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from yardsticks import bounds_of

from hf_synpre.config import build_spec
from hf_synpre.files import lock, write_json
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.excess_loss import LEARNT_SHARE, answer_tokens
from hf_synpre.training.presets import small_model
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import as_vocabulary

RESULT = Path(__file__).parent / "results" / "learning.json"
TASKS = (
    *("mqar", "needle", "verbatim", "stack", "eca", "copy", "k_dyck", "k_shuffle_dyck"),
    *("set", "identity", "mp_struct", "chomsky", "nca", "linear_rnn", "random_lstm"),
    *("depo", "brevo", "mano", "lano", "brainfuck"),
)
# Task -> the task that its model is pre-trained on first.
FIRST = {"needle": "mqar"}
# Task -> what it is trained with instead of the preset's optimizer.
TRAINING: dict[str, dict[str, Any]] = {
    "stack": {"optim": "adamw_torch", "learning_rate": 2e-3, "weight_decay": 0.0}
}
VERDICTS = {True: "learnt", False: "not learnt", None: "not known"}


def learn(
    task: str, model_type: str, steps: int, parameters: dict[str, int] | None
) -> dict[str, Any]:
    """Pre-train a small model on a task; return what it took and how far it came."""
    # The recipe and the model of the preset.
    fields: dict[str, Any] = {"task": task, "preset": "small", "evaluations": 20}
    if parameters:
        fields["parameters"] = parameters
    training = {"max_steps": steps, "bf16": True, "use_cpu": True}
    fields["training"] = training | TRAINING.get(task, {})
    spec = build_spec(PretrainingSpec, fields, "options")
    model = ModelSpec(**small_model("small", {"model_type": model_type}))

    # The run, and the excess loss below which its task counts as learnt.
    cost = {"steps": 0, "tokens": 0, "seconds": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        if task in FIRST:
            first = build_spec(PretrainingSpec, fields | {"task": FIRST[task]}, "options")
            before = pretrain(first, model, Path(folder) / "first")
            add_cost(cost, before)
            spec = build_spec(PretrainingSpec, fields | {"start": f"{folder}/first"}, "options")
        result = pretrain(spec, model, Path(folder) / "run")
    add_cost(cost, result)
    vocabulary = as_vocabulary(spec.vocabulary)
    limit = LEARNT_SHARE * math.log(answer_tokens(spec, vocabulary))
    loss = result["curve"][-1]["loss"]

    # The lowest loss, or the two between which it lies.
    low = high = result.get("bayes_loss")
    if low is None:
        low, high = bounds_of(spec, vocabulary)
    learnt = {(True, True): True, (False, False): False}

    return {
        "model_type": model_type,
        "parameters": spec.parameters,
        "first": FIRST.get(task),
        "training": TRAINING.get(task),
        "steps": cost["steps"],
        "tokens": cost["tokens"],
        "minutes": round(cost["seconds"] / 60, 1),
        "accuracy": result["accuracy"],
        "loss": loss,
        "bayes_loss": result.get("bayes_loss"),
        "excess_loss": result.get("excess_loss"),
        "bounds": [low, high],
        "limit": limit,
        "learnt": learnt.get((loss - low < limit, loss - high < limit)),
    }


def add_cost(cost: dict[str, Any], result: Mapping[str, Any]) -> None:
    """Add what a run took."""
    cost["steps"] += result["steps"]
    cost["tokens"] += result["tokens"]
    cost["seconds"] += result["train_s"] + result["eval_s"]


def main() -> None:
    """Run the tasks, print a line each, write each result as it comes."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--model_type", default="llama")
    parser.add_argument("--parameters", help="of the task, as steps=12,symbols=8")
    given = parser.parse_args()
    parameters = None
    if given.parameters:
        pairs = (pair.split("=") for pair in given.parameters.split(","))
        parameters = {name: int(value) for name, value in pairs}
    for task in given.only.split(","):
        figures = learn(task, given.model_type, given.steps, parameters)
        low, high = figures["bounds"]
        verdict = f"loss {figures['loss']:.3f}, the lowest {low:.3f} to {high:.3f}, limit "
        verdict += f"{figures['limit']:.2f}: {VERDICTS[figures['learnt']]}"
        print(
            f"{task:16}{figures['steps']:>6} steps{figures['minutes']:>6} min"
            f"{figures['accuracy']:>8.1%}  {verdict}",
            flush=True,
        )
        # Two of these scripts may run side by side.
        with lock(RESULT):
            stored = json.loads(RESULT.read_text()) if RESULT.exists() else {}
            write_json(
                RESULT, stored | {f"{task}, {given.parameters}" if parameters else task: figures}
            )


if __name__ == "__main__":
    main()
