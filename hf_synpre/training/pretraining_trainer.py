"""A pre-training spec and an architecture -> the fresh model, its number of steps, its Trainer."""

import math
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedModel,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from hf_synpre.data.collators import RowCollator
from hf_synpre.data.corpora import Corpus
from hf_synpre.data.masking import noise_counts
from hf_synpre.data.parts import computed_positions
from hf_synpre.errors import UsageError
from hf_synpre.initialization import build, tensor_generator
from hf_synpre.initialization.embedding_policy import check_ids, matching_rows
from hf_synpre.initialization.load_report import joined
from hf_synpre.models.electra import RTDModel, build_rtd
from hf_synpre.models.electra_losses import evaluation_sums, rtd_loss, rtd_metrics
from hf_synpre.models.families import (
    AUTO_CLASSES,
    longest_input,
    model_family,
    positions_field,
    uses_token_types,
)
from hf_synpre.models.masked_head import compute_masked_logits_only
from hf_synpre.models.packed_forward import accept_packed_rows
from hf_synpre.models.pretrained_weights import take_weights
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.callbacks import (
    Deadline,
    DivergenceChecks,
    StopAtTargetAccuracy,
)
from hf_synpre.training.flops import FlopCounter
from hf_synpre.training.losses import TokenLoss, teacher_forced
from hf_synpre.training.pretraining_data import PretrainingRows, open_rows
from hf_synpre.training.pretraining_spec import INITIAL_WEIGHTS, PretrainingSpec
from hf_synpre.training.resumable_trainer import ResumableTrainer
from hf_synpre.vocabulary import Vocabulary


def batches_per_step(args: Seq2SeqTrainingArguments) -> int:
    """Return how many batches make an optimizer step, over processes and accumulation."""
    return args.gradient_accumulation_steps * args.world_size


def fresh_model(spec: PretrainingSpec, model: ModelSpec, vocabulary: Vocabulary) -> PreTrainedModel:
    """Return the model of a run before its first step.

    Args:
        spec: its objective, seed, initial weights and checkpoint to start from are used.
        model: the architecture.
        vocabulary: whose ids the embeddings are for.

    Returns:
        A language model of the architecture, or for objective rtd a generator and discriminator.
        The head of an encoder runs at masked positions alone, if the architecture allows that. A
        model that starts from a checkpoint has a `load_report`.

    Raises:
        UsageError: initial weights or a checkpoint that do not fit the architecture.
    """
    # A fresh model: the seed and a tensor's name decide its values.
    config = model.config(vocabulary)
    family = model_family(config)
    if spec.objective_for(family) == "rtd":
        network = build_rtd(config, spec.seed, spec.generator_fraction)
    else:
        network = build(AUTO_CLASSES[family], config, {}, spec.seed)
    draw_weights = INITIAL_WEIGHTS[spec.initial_weights]
    if draw_weights is not None:
        draw_weights(network, tensor_generator(spec.seed, spec.initial_weights))

    # The weights of a checkpoint. A run with objective rtd saved its generator in a folder beside
    # its discriminator.
    if spec.start is not None:
        same_ids = False
        if spec.start_embeddings == "kept" and vocabulary.tokenizer is not None:
            same_ids = check_ids(spec.start, vocabulary.tokenizer)
        same_rows = matching_rows(spec.start, vocabulary.tokenizer, spec.start_embeddings)
        if isinstance(network, RTDModel):
            parts = [(network.discriminator, spec.start)]
            generator = Path(spec.start) / "generator"
            if generator.is_dir():
                parts.append((network.generator, str(generator)))
        else:
            parts = [(network, spec.start)]
        reports = []
        for part, source in parts:
            report = take_weights(
                part,
                source,
                spec.start_embeddings,
                head=True,
                same_ids=same_ids,
                same_rows=same_rows,
            )
            reports.append(report)
        network.load_report = joined(reports)

    if family == "mlm" and not isinstance(network, RTDModel):
        compute_masked_logits_only(network)
    return network


def count_steps(
    spec: PretrainingSpec,
    args: Seq2SeqTrainingArguments,
    network: PreTrainedModel,
    tokens: int | None = None,
) -> int:
    """Return the steps of a run: as many as its budget pays for.

    Args:
        spec: its budget_tokens or budget_flops is the budget; without both it is args.max_steps.
        args: the rows of a step, the warm-up, and max_steps.
        network: the model, by which the FLOPs of a step are counted.
        tokens: the budget in tokens, instead of the spec's.

    Raises:
        UsageError: the run ends before the warm-up does.
    """
    rows = args.train_batch_size * batches_per_step(args)
    tokens = tokens or spec.budget_tokens
    steps, budget = args.max_steps, "max_steps is"
    if tokens is not None:
        # The tokens of a row: a window; span corruption adds sentinels to input and target, and an
        # end-of-sequence id to each.
        row_tokens = spec.window
        if network.config.is_encoder_decoder:
            _, spans = noise_counts(spec.window)
            row_tokens += 2 * spans + 2
        steps, budget = math.ceil(tokens / (rows * row_tokens)), "The budget in steps is"
    elif spec.budget_flops is not None:
        steps = math.ceil(spec.budget_flops / step_flops(spec, network, rows))
        budget = "The budget in steps is"

    warmup_steps = args.get_warmup_steps(steps)
    is_number = args.warmup_steps >= 1  # else it is a share, of which a short run has enough
    if spec.match_tokens_of is None and is_number and warmup_steps >= steps:
        raise UsageError(
            f"{budget} {steps} and warmup_steps is {warmup_steps}, so the learning rate would "
            "never be reached; give a smaller training.warmup_steps (below 1: a share)."
        )
    return steps


def step_flops(spec: PretrainingSpec, network: PreTrainedModel, rows: int) -> float:
    """Return the FLOPs of a step on text, as the run itself will count them.

    Args:
        spec: its `window` is the length of a row.
        network: the model.
        rows: rows of the step.
    """
    hidden, spans = noise_counts(spec.window)
    if network.config.is_encoder_decoder:
        # Each span becomes a sentinel, and an end-of-sequence id is appended.
        source, target = spec.window - hidden + spans + 1, spans + hidden + 1
        return FlopCounter.of(network)(rows, source, target)
    # As many tokens are masked as span corruption hides.
    return FlopCounter.of(network)(rows, spec.window, hidden)


def pretraining_trainer(
    spec: PretrainingSpec,
    network: PreTrainedModel,
    vocabulary: Vocabulary,
    args: Seq2SeqTrainingArguments,
    corpus: Corpus | None = None,
) -> ResumableTrainer:
    """Return the Trainer of a run.

    Args:
        spec: the rows and the objective.
        network: the model, as `fresh_model` makes it. For packed rows its forward is replaced.
        vocabulary: whose ids the rows have.
        args: the training arguments, with the final max_steps.
        corpus: the text, instead of what `spec.corpus` names.

    Raises:
        UsageError: rows that the model cannot read, or arguments that it cannot be trained with.
    """
    # Of a generator and its discriminator, the discriminator is the model that is wanted.
    is_pair = isinstance(network, RTDModel)
    pretrained = network.discriminator if is_pair else network
    if spec.pairs and not uses_token_types(pretrained.config):
        raise UsageError(
            f"pairs makes rows of two segments, which {type(pretrained.config).__name__} cannot "
            "tell apart; leave pairs out."
        )

    # Rows.
    batch_size = args.train_batch_size * batches_per_step(args)
    rows = open_rows(
        spec,
        model_family(pretrained.config),
        vocabulary,
        rows=args.max_steps * batch_size,
        batch_size=batch_size,
        longest_input=longest_input(pretrained),
        positions_field=positions_field(pretrained.config),
        corpus=corpus,
        compact="masked_positions" in getattr(network, "target_inputs", ()),
    )
    if rows.packed:
        accept_packed_rows(network)
    collator = RowCollator(
        pad=vocabulary.pad,
        start=vocabulary.pad,  # a decoder's input begins with the padding id, as its config says
        multiple=1 if spec.has_windows else None,  # windows are all equally long
        alone=not rows.packed,
    )
    if spec.tokens_per_batch is not None:
        limit_evaluation(spec.tokens_per_batch, rows, collator, args)

    # Callbacks, loss and metrics.
    callbacks: list[TrainerCallback] = [
        StopAtTargetAccuracy(spec.target_accuracy),
        DivergenceChecks(),
    ]
    if spec.budget_seconds:
        callbacks.append(Deadline(spec.budget_seconds))
    loss = TokenLoss(args.label_smoothing_factor)
    options: dict[str, Any] = {
        "loss": loss,
        "compute_metrics": teacher_forced,
        "preprocess_logits_for_metrics": loss.by_row,
    }
    if is_pair:
        options = {
            "loss": rtd_loss,
            "compute_metrics": rtd_metrics,
            "preprocess_logits_for_metrics": evaluation_sums,
        }

    # The folder, once nothing else can be refused but what the Trainer finds.
    folder = Path(args.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"Cannot write {folder.parent} ({error.strerror}); give another folder."
        ) from error
    trainer = ResumableTrainer(
        network,
        args,
        schedule=spec.schedule,
        bias_correction=spec.bias_correction,
        tokens_per_batch=spec.tokens_per_batch,
        callbacks=callbacks,
        train_dataset=rows.train,
        eval_dataset=rows.validation,
        data_collator=collator,
        **options,
    )
    trainer.corpus_ids = rows.corpus_ids
    if rows.epoch_rows:
        trainer.epochs_per_step = batch_size / rows.epoch_rows
    return trainer


def limit_evaluation(
    limit: int, rows: PretrainingRows, collator: RowCollator, args: Seq2SeqTrainingArguments
) -> None:
    """Set the rows of an evaluated batch in `args`, so that it has at most `limit` positions.

    Raises:
        UsageError: a row alone has more, or the optimizer cannot add up the gradients of parts.
    """
    if "lomo" in args.optim.value:
        raise UsageError(
            f"optim {args.optim.value} updates the weights in every backward pass, so a step "
            "cannot be computed in parts; leave tokens_per_batch out, or give another optimizer."
        )
    longest = computed_positions(collator([rows.train[0]]))
    for row in range(len(rows.validation)):
        longest = max(longest, computed_positions(collator([rows.validation[row]])))
    if longest > limit:
        raise UsageError(
            f"tokens_per_batch is {limit}, and rows of this run take up to {longest} positions; "
            "give as many or more."
        )
    args.per_device_eval_batch_size = min(args.per_device_eval_batch_size, limit // longest)
