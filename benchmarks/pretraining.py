"""Useful tokens a second of pre-training a T5: packed and bucketed rows beside Seq2SeqTrainer.

    python benchmarks/pretraining.py [--device cuda] [--shape t5-small] [--steps 6] [--rounds 3]

Useful tokens are those of examples, end-of-sequence ids included. Every way sees the same stream of
examples; rounds alternate between the ways, so that a busy machine slows all. Stock is as
transformers comes (sdpa attention). Writes results/pretraining.json, or with --device cuda
results/pretraining_cuda.json.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models
from torch.utils.data import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    TrainerCallback,
)

from hf_synpre import SyntheticDataset
from hf_synpre.data.buckets import LengthBuckets
from hf_synpre.data.collators import RowCollator
from hf_synpre.data.packing import PackedDataset, RowDataset, Seq2SeqLayout
from hf_synpre.initialization import build
from hf_synpre.models.packed_forward import accept_packed_rows
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.trainer import SynpreTrainer
from hf_synpre.vocabulary import as_vocabulary

SHAPES = {
    "8M": {
        "d_model": 256,
        "d_kv": 64,
        "num_heads": 4,
        "d_ff": 1024,
        "num_layers": 4,
        "num_decoder_layers": 4,
    },
    "t5-small": {},
}
VOCABULARY = {"8M": 1024, "t5-small": None}
EXAMPLES = 16  # a step of the ways that take one example a row
STOCK = {
    "512/512": ("max_length", "sequential"),
    "longest": (True, "sequential"),
    "grouped": (True, "group_by_length"),
}
OURS = {"bucketed": None, "packed 512": 512, "packed 1024": 1024}


class Rows(Dataset):
    """Examples as lists with end-of-sequence ids, as a stock collator wants them."""

    def __init__(self, examples, eos):
        self.examples, self.eos = examples, eos

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        row = self.examples[index]
        x, y = ([*ids.tolist(), self.eos][:512] for ids in (row["input_ids"], row["labels"]))
        return {"input_ids": x, "attention_mask": [1] * len(x), "labels": y, "length": len(x)}


class Clock(TrainerCallback):
    """Counts useful tokens and seconds from the second step on (the first prepares kernels)."""

    def __init__(self):
        self.tokens, self.seconds, self.begun = 0, 0.0, None

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.begun is None:
            self.begun, self.tokens = now, 0
        self.seconds = now - self.begun


def counted(trainer_class, clock):
    """Return the Trainer class with a count of the real tokens of each batch."""

    class Counted(trainer_class):
        def training_step(self, model, inputs, *args):
            mask = inputs["segments"] > 0 if "segments" in inputs else inputs["attention_mask"] > 0
            clock.tokens += int(mask.sum() + (inputs["labels"] != -100).sum())
            return super().training_step(model, inputs, *args)

    return Counted


def stock_tokenizer():
    """Return a tokenizer that only says which id pads."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0})),
        pad_token="<pad>",
        model_max_length=512,
    )


class MaxLength(DataCollatorForSeq2Seq):
    """Pads both sides to 512, as the reference does."""

    def __call__(self, features, return_tensors=None):
        for row in features:
            row["labels"] = row["labels"] + [-100] * (512 - len(row["labels"]))
        return super().__call__(features, return_tensors)


def measure(way: str, task: str, options) -> dict:
    """Train a few steps one way; return useful tokens a second and the share of padding."""
    vocabulary = as_vocabulary(VOCABULARY[options.shape])
    overrides = SHAPES[options.shape]
    attention = "sdpa" if way in STOCK else None  # transformers' default, and ours
    config = ModelSpec(overrides=overrides, attention=attention).config(vocabulary)
    model = build(transformers.AutoModelForSeq2SeqLM, config, {}, 0)

    # The recipe, which all ways share.
    clock = Clock()
    training = {
        "max_steps": options.steps + 1,
        "per_device_train_batch_size": EXAMPLES,
        "optim": "adamw_torch",
        "learning_rate": 1e-4,
        "use_cpu": options.device == "cpu",
        "bf16": True,
        "torch_compile": options.compile,
    }

    # The examples, which all ways share too: as many as the steps need, or an endless stream.
    stock = STOCK.get(way)
    strategy = stock[1] if stock else "sequential"
    length = OURS.get(way)
    stream = SyntheticDataset(
        task,
        size=2**20 if length or not stock else (options.steps + 1) * EXAMPLES,
        vocabulary=vocabulary,
    )

    with tempfile.TemporaryDirectory() as folder:
        # Transformers' own Trainer and collator.
        if stock:
            args = training_arguments(
                folder, training, train_sampling_strategy=strategy, save_strategy="no"
            )
            collator = (MaxLength if way == "512/512" else DataCollatorForSeq2Seq)(
                stock_tokenizer(), model, padding=stock[0], max_length=512
            )
            trainer = counted(Seq2SeqTrainer, clock)(
                model,
                args,
                train_dataset=Rows(stream, vocabulary.eos),
                data_collator=collator,
                callbacks=[clock],
            )
        else:
            # Ours: bucketed rows, or packed ones with as many examples a step.
            layout = Seq2SeqLayout(vocabulary.eos, vocabulary.pad)
            rows = RowDataset(LengthBuckets(stream, EXAMPLES), layout)
            if length:
                probe = PackedDataset(stream, layout, size=1, length=length)
                training["per_device_train_batch_size"] = max(
                    1, round(EXAMPLES / probe.examples_per_row)
                )
                rows = PackedDataset(
                    stream,
                    layout,
                    size=(options.steps + 1) * training["per_device_train_batch_size"],
                    length=length,
                )
                accept_packed_rows(model)
            args = training_arguments(
                folder, training, train_sampling_strategy=strategy, save_strategy="no"
            )
            collator = RowCollator(vocabulary.pad, config.decoder_start_token_id, alone=not length)
            trainer = counted(SynpreTrainer, clock)(
                model, args, train_dataset=rows, data_collator=collator, callbacks=(clock,)
            )
        trainer.train()

    # Ours says more of itself.
    found = {"tokens_per_s": clock.tokens / clock.seconds}
    return found | (
        {
            k: trainer.training_cost()[k]
            for k in ("padding_share", "wait_share", "mfu")
            if k in trainer.training_cost()
        }
        if not stock
        else {}
    )


def main() -> None:
    """Measure every way on Set and LIME, in turn, and write the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shape", default="8M", choices=SHAPES)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    results: dict[str, dict[str, list]] = {}
    for _ in range(options.rounds):
        for task in ("set", "lime"):
            for way in (*STOCK, *OURS):
                found = measure(way, task, options)
                results.setdefault(task, {}).setdefault(way, []).append(found)
                print(task, way, {k: round(v, 4) for k, v in found.items()}, flush=True)
    medians = {
        task: {
            way: {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}
            for way, rounds in ways.items()
        }
        for task, ways in results.items()
    }
    report = vars(options) | {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "median": medians,
    }
    name = "pretraining.json" if options.device == "cpu" else "pretraining_cuda.json"
    (Path(__file__).parent / "results" / name).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
