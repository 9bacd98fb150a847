"""Layer 4: fine-tuning an encoder with a head: exact losses, the choice of weights, the test."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel

from hf_synpre.data.collators import LabelCollator
from hf_synpre.files import pack_fractions
from hf_synpre.finetuning.finetuning import EVAL_BATCH, FinetuningSpec, merge_adapters, train_best
from hf_synpre.finetuning.heads import LabelRows
from hf_synpre.finetuning.label_data import PreparedLabels
from hf_synpre.finetuning.scores import SCORES, Scored
from hf_synpre.models.families import uses_token_types
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.trainer import SynpreTrainer, token_loss

LONGEST_ANSWER = 30


def class_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the mean cross-entropy over the rows of the step."""
    return cross_entropy(outputs.logits.float(), labels, reduction="sum") / items(
        labels, num_items_in_batch
    )


def labels_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the mean binary cross-entropy over rows and labels."""
    total = binary_cross_entropy_with_logits(
        outputs.logits.float(), labels.float(), reduction="sum"
    )
    return total / items(labels, num_items_in_batch)


def number_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the mean squared error over the rows."""
    return mse_loss(outputs.logits[:, 0].float(), labels.float(), reduction="sum") / items(
        labels, num_items_in_batch
    )


def span_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the mean of the cross-entropies of first and last place."""
    ends = zip((outputs.start_logits, outputs.end_logits), labels.unbind(1), strict=True)
    total = sum(cross_entropy(logits.float(), places, reduction="sum") for logits, places in ends)
    return total / items(labels, num_items_in_batch)


def items(labels: torch.Tensor, given: Any) -> Any:
    """Return the number of labels of the step, or of this batch where that is not known."""
    return labels.numel() if given is None else given


LOSSES: dict[str, Callable] = {
    "classes": class_loss,
    "choices": class_loss,
    "labels": labels_loss,
    "number": number_loss,
    "span": span_loss,
    "tags": token_loss,
}


class LabelTrainer(SynpreTrainer):
    """A SynpreTrainer that evaluates rows in their order, whatever the order of training."""

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler | None:
        return super()._get_eval_sampler(eval_dataset) and SequentialSampler(eval_dataset)


def finetune_labels(
    model: PreTrainedModel,
    data: PreparedLabels,
    spec: FinetuningSpec,
    *,
    seed: int,
    output_dir: Path,
    extra_flops: float = 0.0,
) -> dict[str, Any]:
    """Fine-tune on a labelled task and return the curve, the test scores, and what was spent.

    The weights with the best validation score are the ones tested, on the test split, which is read once, at the end.
    """
    trainer = label_trainer(model, data, spec, seed, output_dir)
    best = train_best(trainer, model, spec, extra_flops)
    started = time.perf_counter()
    rows = data.rows("test", spec.test_examples)
    merge_adapters(model)
    trainer.compute_metrics = None
    logits = trainer.predict(rows).predictions
    scores, each = judge(data, rows, logits)
    main = next(iter(scores))
    tested = {
        "metric": main,
        "score": scores[main],
        "scores": scores,
        "test_examples": len(rows.truths),
    }
    tested |= {} if each is None else {"example_scores": pack_fractions(each)}
    if data.task.head in ("classes", "choices"):
        tested |= {"probabilities": pack_fractions(softmax(logits)), "truths": rows.truths.tolist()}
    seconds = {
        "validation_s": round(best.seconds, 4),
        "test_s": round(time.perf_counter() - started, 4),
        "stopped": best.stopped,
    }
    return tested | {
        "validation_score": best.chosen["score"],
        "curve": best.curve,
        "spent": trainer.training_cost() | seconds,
    }


def label_trainer(
    model: PreTrainedModel, data: PreparedLabels, spec: FinetuningSpec, seed: int, output_dir: Path
) -> LabelTrainer:
    """Return the Trainer of one fine-tuning."""
    head = data.task.head
    validation = data.rows("validation", spec.validation_examples)
    given = {
        "per_device_eval_batch_size": EVAL_BATCH * 4 // (4 if head in ("choices", "span") else 1)
    } | spec.training
    args = training_arguments(
        output_dir,
        given,
        seed=seed,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="no",
        label_names=["labels"],
        train_sampling_strategy="random" if head in ("choices", "span") else "group_by_length",
    )

    def judged(prediction: Any) -> dict[str, float]:
        scores, _ = judge(data, validation, prediction.predictions)
        return {"token_accuracy": (score := next(iter(scores.values()))), "score": score}

    return LabelTrainer(
        model,
        args,
        loss=LOSSES[head],
        layer_decay=spec.layer_decay,
        train_dataset=data.rows("train"),
        eval_dataset=validation,
        data_collator=LabelCollator(
            data.tokenizer.pad_token_id, head == "tags", uses_token_types(model.config)
        ),
        compute_metrics=judged,
    )


def judge(data: PreparedLabels, rows: LabelRows, logits: Any) -> Scored:
    """Return the scores of a model's logits on rows in their order, and those of each row where there are any."""
    head, names = data.task.head, data.facts["labels"]
    said, truths = answers(head, rows, logits, names), rows.truths
    if head == "tags":
        truths = [[str(names[tag]) for tag in tags] for tags in truths]
    return SCORES[data.task.score](said, truths)


def answers(head: str, rows: LabelRows, logits: Any, names: list | None) -> Any:
    """Return what a model says of each row: classes, numbers, tags or answers."""
    if head == "span":
        return best_answers(rows, *logits)
    if head == "tags":
        return [spoken(rows, i, found, names) for i, found in enumerate(logits.argmax(-1))]
    if head == "number":
        return logits[:, 0]
    return logits if head == "labels" else logits.argmax(-1)


def spoken(rows: Any, index: int, found: np.ndarray, names: list) -> list[str]:
    """Return the tags of all words of a row, "O" for those beyond its length."""
    words = rows.pieces(index)
    starts = rows.starts(words) + len(rows.frame.before)
    return [*(str(names[tag]) for tag in found[starts]), *["O"] * (len(words) - len(starts))]


def best_answers(rows: Any, starts: np.ndarray, ends: np.ndarray) -> list[str]:
    """Return for each example the text between the best pair of places over all its windows, at most 30 ids long."""
    best: dict[int, tuple[float, int, int]] = {}
    for index, window in enumerate(zip(starts, ends, strict=True)):
        example, begin, count, first = rows.context(index)
        for score, start, end in [best_span(*(logits[begin : begin + count] for logits in window))]:
            best[example] = max(
                best.get(example, (-math.inf, 0, 0)), (score, first + start, first + end)
            )
    return list(texts_between(rows, best))


def best_span(starts: np.ndarray, ends: np.ndarray) -> tuple[float, int, int]:
    """Return (score, first, last) of the best pair of places, first <= last < first + LONGEST_ANSWER."""
    found = (-math.inf, 0, 0)
    for more in range(min(LONGEST_ANSWER, len(starts))):
        sums = starts[: len(starts) - more] + ends[more:]
        place = int(sums.argmax())
        found = max(found, (float(sums[place]), place, place + more))
    return found


def texts_between(rows: Any, best: dict[int, tuple[float, int, int]]) -> Iterator[str]:
    """Yield the text of the context that each example's places mean."""
    contexts, offsets = rows.table["context"].to_pylist(), rows.table["offsets"].to_pylist()
    for example, context in enumerate(contexts):
        _, start, end = best[example]
        yield (
            context[offsets[example][2 * start] : offsets[example][2 * end + 1]].strip()
            if offsets[example]
            else ""
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, by row."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
