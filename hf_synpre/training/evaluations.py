"""A spec and its number of steps -> when a run is evaluated, and on how many rows.

The forward passes of all evaluations are at most a tenth of the computation of the training, whose
steps cost three forward passes an example. Short runs have fewer evaluations for that, and of the
last one left fewer examples. Numbers that were given by hand are obeyed, and a line in the log says
what they cost. The plan depends on counts alone, so that a run can be repeated.
"""

import logging
from dataclasses import replace

from transformers import Seq2SeqTrainingArguments

from hf_synpre.data.packing import EXAMPLES_A_ROW
from hf_synpre.errors import counted
from hf_synpre.training.flops import FlopCounter
from hf_synpre.training.pretraining_spec import PretrainingSpec

logger = logging.getLogger(__name__)

# The most that the evaluations of a run may cost, as a share of what its training costs.
LARGEST_SHARE = 0.1
# An evaluation of a short run has so many examples at least.
FEWEST_EXAMPLES = 64


def plan_evaluations(spec: PretrainingSpec, args: Seq2SeqTrainingArguments) -> PretrainingSpec:
    """Decide when a pre-training is evaluated and on how many examples, so that it costs little.

    Args:
        spec: its evaluations, validation_examples and training.eval_steps are read.
        args: of the run, with the rows of a step and the final max_steps; eval_steps is set.

    Returns:
        The spec with the validation_examples that are evaluated.
    """
    allowed = affordable_examples(args.max_steps * examples_a_step(spec, args))
    examples = spec.validation_examples

    # Fewer evaluations, but for numbers that were given; then fewer examples.
    if "eval_steps" in spec.training:
        args.eval_steps = spec.training["eval_steps"]
        evaluations = count_evaluations(args)
    else:
        evaluations = spec.evaluations
        if not spec.is_own("evaluations"):
            evaluations = min(evaluations, max(1, allowed // examples))
        args.eval_steps = max(1, args.max_steps // evaluations)
    if not spec.is_own("validation_examples"):
        examples = min(examples, max(FEWEST_EXAMPLES, allowed // evaluations))
    return replace(spec, validation_examples=examples)


def warn_of_costly_evaluations(spec: PretrainingSpec, args: Seq2SeqTrainingArguments) -> None:
    """Log a line where the evaluations of a planned pre-training cost more than they should.

    Args:
        spec: what `plan_evaluations` has returned.
        args: of the run, as `plan_evaluations` has left them.
    """
    trained = args.max_steps * examples_a_step(spec, args)
    warn_of_cost(count_evaluations(args), spec.validation_examples, trained)


def examples_a_step(spec: PretrainingSpec, args: Seq2SeqTrainingArguments) -> int:
    """Return how many examples a step of a pre-training reads."""
    rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if spec.batching == "packed" and not spec.has_windows:
        return spec.batch_size or rows * EXAMPLES_A_ROW
    return rows


def count_evaluations(args: Seq2SeqTrainingArguments) -> int:
    """Return how often a run is evaluated, whose eval_steps may be a share of its steps."""
    interval = args.eval_steps if args.eval_steps >= 1 else args.eval_steps * args.max_steps
    return max(1, int(args.max_steps / interval))


def affordable_examples(trained: int) -> int:
    """Return how many examples all evaluations of a run may read, of those that it trains on."""
    return int(LARGEST_SHARE * FlopCounter.STEP * trained)


def warn_of_cost(evaluations: int, examples: int, trained: int) -> None:
    """Log a line where evaluations cost more than their share of the training.

    Args:
        evaluations: how many there are.
        examples: how many examples each of them reads.
        trained: how many examples the training reads.
    """
    if trained == 0 or evaluations * examples <= affordable_examples(trained):
        return
    logger.warning(
        "%s of %s cost about %.0f %% of what the training costs; fewer evaluations or "
        "validation_examples cost less.",
        counted(evaluations, "evaluation"),
        counted(examples, "example"),
        100 * evaluations * examples / (FlopCounter.STEP * trained),
    )
