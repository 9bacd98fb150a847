"""What an ELECTRA pair returns for a batch -> the loss of both models, and their metrics."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import EvalPrediction

from hf_synpre.data.rows import IGNORED
from hf_synpre.models.electra import RTDOutput

# The weight of the discriminator's loss beside the generator's: the paper's.
DISCRIMINATOR_WEIGHT = 50.0


def rtd_loss(
    outputs: RTDOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the loss of both models in nats, exact over all batches and processes of a step.

    Args:
        outputs: what `RTDModel` returned.
        labels: the original tokens, [rows, masked]; IGNORED in rows with fewer.
        num_items_in_batch: masked tokens and tokens of the step over all batches and processes,
            [2]; without it those of this batch.

    Returns:
        The generator's mean cross-entropy over masked tokens + DISCRIMINATOR_WEIGHT x the
        discriminator's mean binary cross-entropy over tokens.
    """
    counts = num_items_in_batch
    if counts is None:
        counts = count_labels([labels, outputs.replaced])
    generator_loss = outputs.generator_loss / counts[0]
    # Weighted before it is divided: the other order rounds differently, and results would not be
    # those of runs that were made before.
    discriminator_loss = discriminator_losses(outputs).sum()
    return generator_loss + DISCRIMINATOR_WEIGHT * discriminator_loss / counts[1]


def count_labels(labels: list[torch.Tensor]) -> torch.Tensor:
    """Return how many entries of each tensor are not IGNORED, [number of tensors]."""
    return torch.stack([(tensor != IGNORED).sum() for tensor in labels])


def discriminator_losses(outputs: RTDOutput) -> torch.Tensor:
    """Return the discriminator's binary cross-entropies, summed over each row, [rows]."""
    is_token = (outputs.replaced != IGNORED).float()  # [rows, length]
    losses = binary_cross_entropy_with_logits(
        outputs.discriminator_logits.float(),
        outputs.replaced.clamp(min=0).float(),
        weight=is_token,
        reduction="none",
    )  # [rows, length]
    return losses.sum(1)


# The columns of `evaluation_sums`, in their order: sums over the tokens of a row.
SUMS = (
    "generator_loss",
    "discriminator_loss",
    "masked",  # masked tokens
    "guessed",  # masked tokens to which the generator gives the highest logit
    "tokens",  # all tokens but padding
    "replaced",  # tokens that the generator has replaced
    "replaced_found",  # replaced tokens that the discriminator calls replaced
    "originals_kept",  # original tokens that it calls original
)


def evaluation_sums(outputs: tuple, labels: torch.Tensor) -> torch.Tensor:
    """Reduce the outputs of an evaluation to sums (Trainer's preprocess_logits_for_metrics).

    Args:
        outputs: the fields of an RTDOutput.
        labels: the original tokens, [rows, masked].

    Returns:
        The sums named in SUMS for every row, float32 [rows, 8].
    """
    output = RTDOutput(*outputs)
    is_masked = labels != IGNORED  # [rows, masked]
    is_token = output.replaced != IGNORED  # [rows, length]
    is_replaced = output.replaced == 1
    called_replaced = output.discriminator_logits > 0

    sums = {
        "generator_loss": output.generator_losses.sum(1),  # [rows]
        "discriminator_loss": discriminator_losses(output),  # [rows]
    }
    counted = {
        "masked": is_masked,
        "guessed": is_masked & (output.predictions == labels),
        "tokens": is_token,
        "replaced": is_replaced,
        "replaced_found": is_replaced & called_replaced,
        "originals_kept": is_token & ~is_replaced & ~called_replaced,
    }
    for name, is_counted in counted.items():
        sums[name] = is_counted.sum(1).float()  # [rows]
    return torch.stack([sums[name] for name in SUMS], dim=1)  # [rows, 8]


def rtd_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return the metrics of an evaluation (Trainer's compute_metrics).

    Args:
        prediction: its predictions are the rows of `evaluation_sums`.

    Returns:
        `loss`: of both models, as in `rtd_loss`; Trainer takes it in place of its own.
        `token_accuracy` and `score`: both the generator's accuracy at masked tokens.
        `generator_loss`, `discriminator_loss`: in nats, a masked token and a token.
        `replaced_share`: the share of tokens that were replaced.
        `replaced_recall`: the share of replaced tokens that the discriminator finds.
        `discriminator_accuracy`: its accuracy over all tokens.
        `majority_floor`: the accuracy of always answering "original".
        `balanced_accuracy`: the mean of the recall on replaced and on original tokens; 0.5 for a
            discriminator that has learnt nothing.
    """
    sums = dict(zip(SUMS, prediction.predictions.astype("float64").sum(0).tolist(), strict=True))
    masked = max(sums["masked"], 1)
    tokens = max(sums["tokens"], 1)
    originals = sums["tokens"] - sums["replaced"]

    generator_loss = sums["generator_loss"] / masked
    discriminator_loss = sums["discriminator_loss"] / tokens
    generator_accuracy = sums["guessed"] / masked
    replaced_recall = sums["replaced_found"] / max(sums["replaced"], 1)
    originals_recall = sums["originals_kept"] / max(originals, 1)
    return {
        "loss": generator_loss + DISCRIMINATOR_WEIGHT * discriminator_loss,
        "token_accuracy": generator_accuracy,
        "score": generator_accuracy,
        "generator_loss": generator_loss,
        "discriminator_loss": discriminator_loss,
        "replaced_share": sums["replaced"] / tokens,
        "replaced_recall": replaced_recall,
        "discriminator_accuracy": (sums["replaced_found"] + sums["originals_kept"]) / tokens,
        "majority_floor": originals / tokens,
        "balanced_accuracy": (replaced_recall + originals_recall) / 2,
    }
