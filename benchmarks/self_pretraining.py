"""Useful tokens a second of MLM and RTD: ours beside a stock Trainer, at equal losses.

    python benchmarks/self_pretraining.py [--device cuda] [--shape electra-small] [--steps 6]
        [--rounds 3] [--threads 1]

Stock MLM is Trainer with DataCollatorForLanguageModeling over whole windows of the same text. Stock
RTD is the straightforward ELECTRA of the scripts around: logits at all positions, Gumbel noise for
all of them, word embeddings tied. Rounds alternate between the ways, so that a busy machine slows
all of them. The losses of both ways on one batch with the same weights are compared first. Writes
results/self_pretraining.json, with --device cuda ..._cuda.json.
"""

import argparse
import copy
import json
import platform
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback

from hf_synpre.data import stdlib
from hf_synpre.data.collators import RowCollator
from hf_synpre.data.masking import MaskedDataset, ReplacedRows
from hf_synpre.data.rows import IGNORED
from hf_synpre.data.tokenizers import train_encoder_tokenizer
from hf_synpre.data.windows import EncoderRows, FullWindows, encode_corpus
from hf_synpre.initialization import build
from hf_synpre.models.electra import build_rtd
from hf_synpre.models.electra_losses import rtd_loss
from hf_synpre.models.families import AUTO_CLASSES
from hf_synpre.models.masked_head import compute_masked_logits_only
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.losses import token_loss
from hf_synpre.training.trainer import SynpreTrainer
from hf_synpre.vocabulary import as_vocabulary

SMALL = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
}
SHAPES = {
    "small": {"electra": SMALL | {"embedding_size": 64}, "roberta": SMALL},
    "electra-small": {"electra": {}, "roberta": {}},
}
ROWS, LENGTH, VOCABULARY = 32, 128, 30_522


class Clock(TrainerCallback):
    """Counts seconds and useful tokens from the second step on (the first prepares kernels)."""

    def __init__(self):
        self.begun, self.seconds, self.steps = None, 0.0, 0

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.begun = self.begun or now
        self.seconds, self.steps = now - self.begun, state.global_step - 1


class StockElectra(torch.nn.Module):
    """ELECTRA as scripts have it: two models, logits and Gumbel noise at every position."""

    def __init__(self, pair):
        super().__init__()
        self.generator, self.discriminator = pair.generator, pair.discriminator
        self.config, self.accepts_loss_kwargs = pair.config, False

    def forward(self, input_ids, labels, attention_mask=None):
        logits = self.generator(input_ids=input_ids, attention_mask=attention_mask).logits
        hidden = labels != IGNORED
        noise = -torch.log(
            -torch.log(torch.rand_like(logits.detach().float()).clamp_(1e-9, 1 - 1e-7))
        )
        guesses = (logits.detach().float() + noise).argmax(-1)
        text = torch.where(hidden, labels, input_ids)
        corrupted = torch.where(hidden, guesses, input_ids)
        verdicts = self.discriminator(input_ids=corrupted, attention_mask=attention_mask).logits
        mlm = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)
        binary = binary_cross_entropy_with_logits(verdicts.float(), (corrupted != text).float())
        return {"loss": mlm + 50 * binary}


class Whole(torch.utils.data.Dataset):
    """The windows as whole examples, which a stock collator masks."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"input_ids": self.rows[index]["input_ids"].tolist()}


class Setting:
    """Text, tokenizer and specs that all ways share."""

    def __init__(self, options):
        self.options = options
        texts = [text for text in stdlib.texts("train") if len(text) > 500]
        random.Random(0).shuffle(texts)
        self.tokenizer = train_encoder_tokenizer(texts[:200], VOCABULARY)
        extra = [f"<{i}>" for i in range(VOCABULARY - len(self.tokenizer))]
        self.tokenizer.add_tokens(extra)  # BERT's size, whatever the text gives
        self.vocabulary = as_vocabulary(self.tokenizer)
        self.ids = encode_corpus(texts[:60], self.tokenizer, 400_000, self.tokenizer.sep_token_id)

    def model(self, way):
        """Return a fresh model of a way."""
        objective, ours = way.split()[0], way.endswith("ours")
        kind = "roberta" if objective == "mlm" else "electra"
        overrides = SHAPES[self.options.shape][kind] | {"max_position_embeddings": 514}
        config = ModelSpec(kind, overrides=overrides).config(self.vocabulary)
        if objective == "rtd":
            pair = build_rtd(config, 0)
            return pair if ours else StockElectra(pair)
        model = build(AUTO_CLASSES["mlm"], config, {}, 0)
        if ours:
            assert compute_masked_logits_only(model)
        return model

    def rows(self, objective, ours, size):
        """Return the rows of a way: our own hide ids themselves."""
        windows = FullWindows(self.ids, size=size, length=LENGTH - 2, wrap=True)
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        framed = EncoderRows(windows, start=start, end=end)
        if not ours:
            return Whole(framed)
        kinds = {"masked_percent": 85, "random_percent": 0} if objective == "rtd" else {}
        content = self.vocabulary.first_regular, self.vocabulary.regular_count
        never = tuple(self.tokenizer.all_special_ids)
        rows = MaskedDataset(
            framed,
            mask=self.tokenizer.mask_token_id,
            regular_tokens=content,
            special_tokens=never,
            compact=True,
            **kinds,
        )
        return ReplacedRows(rows) if objective == "rtd" else rows

    def measure(self, way):
        """Train a few steps one way; return useful tokens a second."""
        objective, ours = way.split()[0], way.endswith("ours")
        clock, model = Clock(), self.model(way)
        rows = self.rows(objective, ours, (self.options.steps + 1) * ROWS)
        training = {
            "max_steps": self.options.steps + 1,
            "per_device_train_batch_size": ROWS,
            "optim": "adamw_torch",
            "learning_rate": 1e-4,
            "use_cpu": self.options.device == "cpu",
            "bf16": True,
        }
        with tempfile.TemporaryDirectory() as folder:
            args = training_arguments(
                folder, training, train_sampling_strategy="sequential", save_strategy="no"
            )
            if ours:
                loss = rtd_loss if objective == "rtd" else token_loss
                collator = RowCollator(self.vocabulary.pad, alone=True)
                trainer = SynpreTrainer(
                    model,
                    args,
                    loss=loss,
                    train_dataset=rows,
                    data_collator=collator,
                    callbacks=(clock,),
                )
            else:
                kinds = (
                    {"mask_replace_prob": 0.85, "random_replace_prob": 0.0}
                    if objective == "rtd"
                    else {}
                )
                collator = DataCollatorForLanguageModeling(
                    self.tokenizer, mlm_probability=0.15, seed=0, **kinds
                )
                trainer = Trainer(
                    model, args, train_dataset=rows, data_collator=collator, callbacks=[clock]
                )
            trainer.train()
        return clock.steps * ROWS * LENGTH / clock.seconds

    def losses(self, objective):
        """Return the loss of one batch, ours and with all logits, of the same weights and draws."""
        model = self.model(f"{objective} ours").eval()
        plain = copy.deepcopy(model)
        batch = RowCollator(self.vocabulary.pad, alone=True)(
            [self.rows(objective, True, 8)[i] for i in range(8)]
        )
        labels, places = batch.pop("labels"), batch["masked_positions"]
        with torch.no_grad():
            outputs = model(**batch)
            shape = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            whole = (plain.generator if objective == "rtd" else plain)(**shape).logits
            full = torch.full(whole.shape[:2], IGNORED).scatter(1, places, labels)
            wanted = cross_entropy(whole.flatten(0, 1), full.flatten(), ignore_index=IGNORED)
            if objective == "mlm":
                return token_loss(outputs, labels).item(), wanted.item()
            binary = binary_cross_entropy_with_logits(
                outputs.discriminator_logits.float(), outputs.replaced.float()
            )
            return rtd_loss(outputs, labels).item(), (wanted + 50 * binary).item()


def main() -> None:
    """Measure every way in turn and write the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shape", default="small", choices=SHAPES)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()

    # Both ways must have the same loss.
    setting = Setting(options)
    losses = {objective: setting.losses(objective) for objective in ("mlm", "rtd")}
    for objective, (ours, whole) in losses.items():
        assert np.isclose(ours, whole, rtol=1e-4), (objective, ours, whole)

    # In turn, so that both meet the same load of the machine.
    rates = {way: [] for way in ("mlm stock", "mlm ours", "rtd stock", "rtd ours")}
    for _ in range(options.rounds):
        for way, found in rates.items():
            found.append(setting.measure(way))
            print(way, round(found[-1]), flush=True)
    ratios = {
        o: [a / b for a, b in zip(rates[f"{o} ours"], rates[f"{o} stock"], strict=True)]
        for o in ("mlm", "rtd")
    }

    # Medians, with all that decides them.
    report = vars(options) | {
        "rows": ROWS,
        "length": LENGTH,
        "vocabulary": len(setting.tokenizer),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "loss_ours_and_whole": losses,
        "tokens_per_s": {way: statistics.median(found) for way, found in rates.items()},
        "ratio": {objective: statistics.median(found) for objective, found in ratios.items()},
        "ratios": ratios,
    }
    print(json.dumps(report, indent=1))
    name = "self_pretraining.json" if options.device == "cpu" else "self_pretraining_cuda.json"
    (Path(__file__).parent / "results" / name).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
