"""Padding and real tokens a second of a decoder and an encoder-decoder on Set, as batches are made.

    python benchmarks/batches.py [--steps 64] [--rounds 3] [--only "gpt2, small"]

`before` is how batches were made: buckets sorted by the input first, widths that are multiples of
8. `now` is what `synpre pretrain` does: buckets of a decoder sorted by the whole row, short rows
padded to smaller multiples. `parts` is `now` in parts of at most half a batch (tokens_per_batch).
Rounds alternate between the ways; seconds are those of the process on its core, and the first step
is left out. Writes results/batches.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from transformers import TrainerCallback

from hf_synpre import SyntheticDataset
from hf_synpre.data.buckets import LengthBuckets
from hf_synpre.data.collators import RowCollator
from hf_synpre.data.packing import RowDataset
from hf_synpre.data.rows import MULTIPLE
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.presets import small_model
from hf_synpre.training.pretraining_data import example_layout
from hf_synpre.training.pretraining_spec import OBJECTIVES, PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model
from hf_synpre.training.trainer import SynpreTrainer
from hf_synpre.vocabulary import as_vocabulary

ROWS = 8
# The lengths of the paper's Set, and those of the preset small.
LENGTHS = {"paper": {}, "small": {"min_length": 4, "max_length": 24}}
FAMILIES = {"gpt2": "causal", "t5": "seq2seq"}
WAYS = ("before", "now", "parts")


class Clock(TrainerCallback):
    """Counts the seconds of the process from the second step on."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.begun = time.process_time()
        self.seconds = time.process_time() - self.begun


def measure(model_type: str, lengths: str, way: str, steps: int) -> dict[str, float]:
    """Train some steps one way; return real tokens a second and the share of padding."""
    vocabulary, family = as_vocabulary(128), FAMILIES[model_type]
    spec = PretrainingSpec(
        task="set", parameters=LENGTHS[lengths], vocabulary=128, training={"max_steps": steps}
    )
    model = ModelSpec(**small_model("small", {"model_type": model_type}))
    network = fresh_model(spec, model, vocabulary)
    examples = SyntheticDataset("set", size=steps * ROWS, vocabulary=vocabulary, **LENGTHS[lengths])

    layout = example_layout(spec, OBJECTIVES[family].for_targets, vocabulary)
    is_old = way == "before"
    buckets = LengthBuckets(examples, ROWS, apart=is_old or family == "seq2seq")
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SynpreTrainer(
            network,
            training_arguments(
                folder,
                {"max_steps": steps, "per_device_train_batch_size": ROWS, "use_cpu": True},
                train_sampling_strategy="sequential",
                save_strategy="no",
            ),
            tokens_per_batch=half_a_batch(examples, layout) if way == "parts" else None,
            callbacks=[clock],
            train_dataset=RowDataset(buckets, layout),
            data_collator=RowCollator(
                vocabulary.pad,
                vocabulary.pad,
                multiple=MULTIPLE if is_old else None,
                alone=True,
            ),
        )
        trainer.train()
    cost = trainer.training_cost()
    return {
        "tokens_per_s": cost["tokens"] * (steps - 1) / steps / clock.seconds,
        "padding_share": cost["padding_share"],
    }


def half_a_batch(examples: SyntheticDataset, layout) -> int:
    """Return half of the positions of a batch of the longest examples."""
    sizes = [sum(layout.sizes(example)) for example in examples.__getitems__(list(range(ROWS)))]
    return max(sizes) * ROWS // 2


def main() -> None:
    """Measure every way, alternately, and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=64, help="of a megabatch: 64, or a multiple")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="cases to measure; the others stay as they are")
    options = parser.parse_args()

    file = Path(__file__).parent / "results" / "batches.json"
    results = json.loads(file.read_text())["median"] if file.exists() else {}
    for model_type in FAMILIES:
        for lengths in LENGTHS:
            case = f"{model_type}, {lengths}"
            if options.only and case not in options.only:
                continue
            rounds: dict[str, list] = {way: [] for way in WAYS}
            for _ in range(options.rounds):
                for way in WAYS:
                    rounds[way].append(measure(model_type, lengths, way, options.steps))
            medians = {}
            for way, figures in rounds.items():
                speed = statistics.median(figure["tokens_per_s"] for figure in figures)
                padding = figures[0]["padding_share"]
                medians[way] = {"tokens_per_s": round(speed), "padding_share": padding}
            results[case] = medians
            print(case, medians, flush=True)
            setting = {"rows": ROWS, "steps": options.steps, "rounds": options.rounds}
            file.write_text(json.dumps({**setting, "median": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
