"""Models with their own vocabularies: the head at labelled positions beside the logits of all.

    python benchmarks/large_vocabulary.py [--only t5-small gpt2 bert-base]
        [--phases training evaluation] [--ways chunks "all logits" --gradients FOLDER]

T5-small and a T5 of one layer of width 64 (32,128 ids) and GPT-2 small (50,257 ids) on Set at the
paper's lengths, BERT-base (30,522 ids) on text. Each way trains and evaluates in a process of its
own, whose peak memory is that of the way. The rows and the weights are the same; so are the losses,
the accuracies and the gradients of the first step, which are compared. Seconds are those of a
processor's one core, which other programs on the machine do not change much; waiting for memory
that the system fetches is among them. Writes results/large_vocabulary.json; what --only, --phases
and --ways leave out keeps its figures.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import TrainerCallback

from hf_synpre.data import stdlib
from hf_synpre.data.tokenizers import train_encoder_tokenizer
from hf_synpre.files import write_json
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.vocabulary import as_vocabulary

RESULT = Path(__file__).parent / "results" / "large_vocabulary.json"
# Model -> its architecture, its ids, and the rows of a step and of an evaluation.
MODELS = {
    "t5 of width 64": ("t5", 32_128, 32, 64),
    "t5-small": ("t5", 32_128, 4, 128),
    "gpt2": ("gpt2", 50_257, 2, 8),
    "bert-base": ("bert", 30_522, 4, 8),
}
WIDTH_64 = {"d_model": 64, "d_ff": 128, "num_heads": 1, "num_layers": 1, "num_decoder_layers": 1}
WAYS = ("chunks", "all logits")
PHASES = ("training", "evaluation")
# Steps, of which the first prepares; evaluations; texts of the corpus of bert-base.
STEPS, EVALUATIONS, TEXTS = 2, 1, 60


class Clock(TrainerCallback):
    """Keeps the seconds of all steps but the first, whose gradients it writes to a file."""

    def __init__(self, gradients: Path):
        self.gradients, self.seconds, self.began = gradients, [], 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = time.process_time()

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.gradients.exists():
            torch.save({name: p.grad for name, p in model.named_parameters()}, self.gradients)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step > 1:
            self.seconds.append(time.process_time() - self.began)


def trainer_of(name: str, folder: str):
    """Return the Trainer of a model."""
    model_type, ids, rows, evaluated = MODELS[name]
    training = {
        "max_steps": STEPS,
        "per_device_train_batch_size": rows,
        "per_device_eval_batch_size": evaluated,
        "learning_rate": 1e-4,
        "optim": "adafactor",
        "logging_steps": 1,
        "use_cpu": True,
    }
    options = {"training": training, "validation_examples": evaluated}
    if name == "bert-base":
        texts = [text for text in stdlib.texts("train") if len(text) > 500][:TEXTS]
        tokenizer = train_encoder_tokenizer(texts, ids)
        tokenizer.add_tokens([f"<{i}>" for i in range(ids - len(tokenizer))])
        spec = PretrainingSpec(task=None, corpus="stdlib", window=128, **options)
        vocabulary = as_vocabulary(tokenizer)
    else:
        spec = PretrainingSpec(task="set", vocabulary=ids, batching="padded", **options)
        vocabulary = as_vocabulary(ids)
    overrides = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    if model_type == "t5":
        overrides = {"dropout_rate": 0.0}
    if name == "t5 of width 64":
        overrides |= WIDTH_64
    if model_type == "bert":
        overrides = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = fresh_model(spec, ModelSpec(model_type, overrides=overrides), vocabulary)
    args = training_arguments(
        folder, training, train_sampling_strategy="sequential", save_strategy="no"
    )
    return pretraining_trainer(spec, model, vocabulary, args)


def measure(name: str, way: str, phase: str, gradients: Path) -> dict:
    """Train or evaluate a model one way; its gradients are saved in a file."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(name, folder)
        if way == "all logits":
            trainer.chunked_head = None
        else:
            assert trainer.chunked_head is not None
        before = peak_megabytes()

        found = {}
        if phase == "training":
            clock = Clock(gradients)
            trainer.add_callback(clock)
            trainer.train()
            found["loss"] = trainer.state.log_history[0]["loss"]
            found["seconds"] = min(clock.seconds)
        else:
            seconds = []
            for _ in range(EVALUATIONS):
                began = time.process_time()
                metrics = trainer.evaluate()
                seconds.append(time.process_time() - began)
            found["loss"], found["accuracy"] = metrics["eval_loss"], metrics["eval_token_accuracy"]
            found["seconds"] = min(seconds)
    # The model and all libraries are in memory before.
    return found | {"peak_megabytes": peak_megabytes(), "megabytes_before": before}


def peak_megabytes() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def largest_difference(one: Path, two: Path) -> float:
    """Return the largest difference of two files of gradients, as a share of a tensor's largest.

    Gradients that are nothing but rounding are left out: the biases of BERT's keys have none.
    """
    first, second = torch.load(one, mmap=True), torch.load(two, mmap=True)
    assert first.keys() == second.keys()
    largest = {name: float(gradient.abs().max()) for name, gradient in first.items()}
    rounding = 1e-8 * max(largest.values())
    shares = []
    for name, gradient in first.items():
        if largest[name] > rounding:
            shares.append(float((gradient - second[name]).abs().max()) / largest[name])
    return max(shares)


def run_child(name: str, way: str, phase: str, gradients: Path) -> dict:
    """Measure a phase of a model one way, in a process of its own."""
    child = [sys.executable, __file__, "--child", name, way, phase, str(gradients)]
    printed = subprocess.run(child, check=True, capture_output=True, text=True).stdout
    figures = json.loads(printed.splitlines()[-1])
    print(name, phase, way, figures, flush=True)
    return figures


def compare(figures: dict) -> dict:
    """Return how both ways of a phase compare; they must have learnt the same."""
    chunks, whole = (figures[way] for way in WAYS)
    assert abs(chunks["loss"] / whole["loss"] - 1) < 1e-5, figures
    assert chunks.get("accuracy") == whole.get("accuracy"), figures
    added = [way["peak_megabytes"] - way["megabytes_before"] for way in (chunks, whole)]
    return {
        "times_as_fast": whole["seconds"] / chunks["seconds"],
        "share_of_memory": chunks["peak_megabytes"] / whole["peak_megabytes"],
        "share_of_added_memory": added[0] / added[1],
    }


def main() -> None:
    """Measure what is asked for, compare what is complete, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--phases", nargs="*", choices=PHASES, default=list(PHASES))
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--gradients", help="a folder that keeps them, for --ways one by one")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.child:
        name, way, phase, gradients = options.child
        print(json.dumps(measure(name, way, phase, Path(gradients))))
        return

    models = json.loads(RESULT.read_text())["models"] if RESULT.exists() else {}
    for name in options.only:
        for phase in options.phases:
            figures = models.setdefault(name, {}).setdefault(phase, {})
            with tempfile.TemporaryDirectory() as folder:
                files = {way: Path(options.gradients or folder) / f"{name} {way}" for way in WAYS}
                for way in options.ways:
                    figures[way] = run_child(name, way, phase, files[way])
                if all(way in figures for way in WAYS):
                    figures |= compare(figures)
                if all(file.exists() for file in files.values()) and phase == "training":
                    figures["gradient_difference"] = largest_difference(*files.values())
                    assert figures["gradient_difference"] < 1e-5, figures
            report = {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "machine": platform.machine(),
                "rows": {name: MODELS[name][2:] for name in models},
                "models": models,
            }
            write_json(RESULT, report)


if __name__ == "__main__":
    main()
