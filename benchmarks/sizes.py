"""Pre-training models of the sizes people use: seconds, memory and tokens a second.

    python benchmarks/sizes.py [--steps 10] [--rows 4] [--only GPT-2] [--seconds 200]
        [--device cuda]

Every line is a process of its own: a model, rows of the task Set at the paper's lengths or windows
of text, and a way. `stock` is transformers' Trainer with the model's own loss over all logits, its
default attention, and rows padded to the longest of a batch. `ours` is the Trainer of `synpre
pretrain` with its defaults. Both train the same examples in fp32 with AdamW; further lines change
one thing. On a CPU a second is one of the process on its core, so that other programs of the
machine do not count; the first step is left out. On a GPU (--device cuda, results/sizes_cuda.json)
all is bf16 and in one process, and as many steps as are timed come before, while the GPU loads its
kernels. MFU is the FLOPs of the real tokens (padding does
not count) over those of a large square matrix product in the same time, type and process. The
script writes results/sizes.json after every line and goes on with those that are missing.
"""

import argparse
import gc
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_synpre.data import stdlib
from hf_synpre.data.collators import RowCollator
from hf_synpre.data.corpora import Corpus
from hf_synpre.data.rows import IGNORED
from hf_synpre.data.tokenizers import train_encoder_tokenizer, train_tokenizer
from hf_synpre.initialization import skeleton
from hf_synpre.models.families import model_family
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.flops import FlopCounter
from hf_synpre.training.pretraining_data import open_rows
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.vocabulary import as_vocabulary

RESULTS = Path(__file__).parent / "results"
# Architectures with the ids of their own vocabulary.
MODELS = {
    "T5-small": (ModelSpec("t5", overrides={"dropout_rate": 0.0}), 32_128),
    "GPT-2": (ModelSpec("gpt2"), 50_257),
    "Llama": (
        ModelSpec(
            "llama",
            overrides={
                "hidden_size": 768,
                "intermediate_size": 2048,
                "num_hidden_layers": 14,
                "num_attention_heads": 12,
                "num_key_value_heads": 12,
                "max_position_embeddings": 2048,
            },
        ),
        32_000,
    ),
    "BERT-base": (ModelSpec("bert"), 30_522),
}
DATA = ("set", "text")
WAYS = {
    "stock": {},
    "ours": {},
    "stock, bf16": {"bf16": True},
    "ours, bf16": {"bf16": True},
    "ours, activation checkpointing": {"activation_checkpointing": True},
    "ours, torch.compile": {"torch_compile": True},
}
# The lines of all ways but the first two: one thing is changed, on Set.
CHANGED = {
    "stock, bf16": tuple(MODELS),
    "ours, bf16": tuple(MODELS),
    "ours, activation checkpointing": ("T5-small", "GPT-2"),
    "ours, torch.compile": ("T5-small",),
}
WINDOW = 128
# Ids of the tokenizer that is trained for the text; the model has those of its own vocabulary.
TRAINED_IDS = 4096
TEXTS = 400


class Clock(TrainerCallback):
    """Counts seconds and real tokens of the steps after the first ones, which prepare kernels."""

    def __init__(self, device: str, first: int):
        self.device, self.first = device, first
        self.count_flops: FlopCounter | None = None
        self.begun = self.seconds = 0.0
        self.steps = 0
        # Of every batch in its order: tokens, positions, FLOPs. Batches are made before their step.
        self.batches: list[tuple[int, int, float]] = []

    def on_step_end(self, args, state, control, **kwargs):
        if self.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter() if self.device == "cuda" else time.process_time()
        if state.global_step == self.first:
            self.begun = now
        elif state.global_step > self.first:
            self.seconds, self.steps = now - self.begun, self.steps + 1

    def count(self, batch: dict[str, torch.Tensor]) -> None:
        """Count a batch's tokens and positions, those of a decoder's targets too, and its FLOPs."""
        sources = (batch["attention_mask"] > 0).sum(-1).tolist()  # [rows]
        targets = (batch["labels"] != IGNORED).sum(-1).tolist()  # [rows]
        tokens, positions = sum(sources), batch["attention_mask"].numel()
        if self.count_flops.target_inputs:  # an encoder-decoder
            tokens += sum(targets)
            positions += batch["labels"].numel()
        flops = sum(map(self.count_flops, [1] * len(sources), sources, targets))
        self.batches.append((tokens, positions, flops))

    def totals(self) -> tuple[int, int, float]:
        """Return the tokens, positions and FLOPs of the steps that were timed."""
        timed = self.batches[self.first : self.first + self.steps]
        tokens, positions, flops = map(sum, zip(*timed, strict=True))
        return tokens, positions, flops


@dataclass
class StockCollator:
    """Batches as the models of transformers take them: labels that a decoder shifts itself."""

    collator: RowCollator
    shifts: bool
    clock: Clock

    def __call__(self, rows):
        batch = self.collator(rows)
        self.clock.count(batch)
        if self.shifts:
            labels = torch.full_like(batch["labels"], IGNORED)
            labels[:, 1:] = batch["labels"][:, :-1]
            batch["labels"] = labels
        return batch


def measure(model_name: str, data: str, way: str, steps: int, rows: int, device: str) -> dict:
    """Train some steps one way; return seconds a step, tokens a second, the peak of memory."""
    model, ids = MODELS[model_name]
    is_stock = way.startswith("stock")
    first = steps if device == "cuda" else 1
    training = {
        "max_steps": first + steps,
        "per_device_train_batch_size": rows,
        "optim": "adamw_torch",
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "use_cpu": device == "cpu",
        **WAYS[way],
    }
    spec = PretrainingSpec(
        **{"task": "set"} if data == "set" else {"corpus": "stdlib", "window": WINDOW},
        batching="padded" if is_stock and data == "set" else "bucketed",
        validation_examples=1,
        training=training,
    )

    # The vocabulary: plain ids for the task, those of a tokenizer for text, as many as the model's.
    vocabulary, corpus = as_vocabulary(ids), None
    family = model_family(model.config(vocabulary))
    if data == "text":
        corpus = Corpus(lambda split: list(stdlib.texts(split))[:TEXTS])
        train = train_encoder_tokenizer if family == "mlm" else train_tokenizer
        tokenizer = train(corpus.texts("train"), TRAINED_IDS)
        vocabulary = replace(as_vocabulary(tokenizer), size=ids)

    clock = Clock(device, first)
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        if is_stock:
            model = replace(model, attention="sdpa")
            network = fresh_model(spec, model, vocabulary)
            vars(network).pop("forward", None)  # its head at all positions
            clock.count_flops = FlopCounter(skeleton(type(network), network.config))
            all_rows = (first + steps) * rows
            train_rows = open_rows(
                spec, family, vocabulary, rows=all_rows, batch_size=rows, corpus=corpus
            ).train
            collator = RowCollator(vocabulary.pad, vocabulary.pad, multiple=1, alone=True)
            trainer = Trainer(
                network,
                TrainingArguments(
                    folder,
                    train_sampling_strategy="sequential",
                    save_strategy="no",
                    remove_unused_columns=False,
                    report_to=[],
                    disable_tqdm=True,
                    **training,
                ),
                train_dataset=train_rows,
                data_collator=StockCollator(collator, family == "causal", clock),
                callbacks=[clock],
            )
        else:
            args = training_arguments(
                folder, training, train_sampling_strategy="sequential", save_strategy="no"
            )
            network = fresh_model(spec, model, vocabulary)
            clock.count_flops = FlopCounter(skeleton(type(network), network.config))
            trainer = pretraining_trainer(spec, network, vocabulary, args, corpus)
            trainer.add_callback(clock)
            collate = trainer.data_collator

            def counted(batch_rows):
                batch = collate(batch_rows)
                clock.count(batch)
                return batch

            trainer.data_collator = counted
        trainer.train()

    tokens, positions, flops = clock.totals()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return {
        "model": model_name,
        "data": data,
        "way": way,
        "parameters": network.num_parameters(),
        "rows": rows,
        "steps": clock.steps,
        "seconds_a_step": clock.seconds / clock.steps,
        "tokens_per_s": tokens / clock.seconds,
        "padding_share": 1 - tokens / positions,
        "peak_gb": peak / 1e9,
        "mfu": flops / clock.seconds / matmul_flops(device, bool(training.get("bf16"))),
        "loss": trainer.state.log_history[-1]["train_loss"],
    }


def matmul_flops(device: str, is_bf16: bool) -> float:
    """Return the FLOP/s of a square matrix product, the best of some, after one to warm up."""
    size = 8192 if device == "cuda" else 2048
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(5):
        begun = time.perf_counter() if device == "cuda" else time.process_time()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter() if device == "cuda" else time.process_time()
        seconds.append(now - begun)
    return 2 * size**3 / min(seconds[1:])


def all_lines(device: str) -> list[tuple[str, str, str]]:
    """Return (model, data, way) of every line; ours follows its peer."""
    if device == "cuda":
        ways = ("stock, bf16", "ours, bf16")
        return [(model, data, way) for model in MODELS for data in DATA for way in ways]
    lines = [(model, data, way) for model in MODELS for data in DATA for way in ("stock", "ours")]
    for way, models in CHANGED.items():
        lines += [(model, "set", way) for model in models]
    return lines


def main() -> None:
    """Measure the lines that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=list(MODELS), help="models to measure")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no line after so long")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--line", nargs=3, help="measure this line only, and print it")
    options = parser.parse_args()
    if options.line:
        figures = measure(*options.line, options.steps, options.rows, options.device)
        print(json.dumps(figures))
        return

    file = RESULTS / ("sizes_cuda.json" if options.device == "cuda" else "sizes.json")
    began = time.monotonic()
    for line in all_lines(options.device):
        if line in measured(file) or line[0] not in options.only:
            continue
        if time.monotonic() - began > options.seconds:
            break
        flags = ["--steps", options.steps, "--rows", options.rows, "--device", options.device]
        command = [sys.executable, __file__, "--line", *line, *map(str, flags)]
        if options.device == "cuda":
            measurement = measure(*line, options.steps, options.rows, options.device)
        else:
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            measurement = json.loads(ran.stdout.splitlines()[-1])
        figures = measured(file) | {line: measurement}
        print(figures[line], flush=True)
        device = platform.machine()
        if options.device == "cuda":
            device = torch.cuda.get_device_name()
        in_order = [figures[known] for known in all_lines(options.device) if known in figures]
        results = {"device": device, "threads": torch.get_num_threads(), "lines": in_order}
        file.write_text(json.dumps(results, indent=1) + "\n")


def measured(file: Path) -> dict[tuple[str, str, str], dict]:
    """Return (model, data, way) -> figures of the lines that a file of results holds."""
    lines = json.loads(file.read_text())["lines"] if file.exists() else []
    return {(line["model"], line["data"], line["way"]): line for line in lines}


if __name__ == "__main__":
    main()
