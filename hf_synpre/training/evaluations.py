"""A pre-training spec and its number of steps -> when it is evaluated, and on how many rows."""

import logging
from dataclasses import replace

from transformers import Seq2SeqTrainingArguments

from hf_synpre.data.packing import EXAMPLES_A_ROW
from hf_synpre.training.flops import FlopCounter
from hf_synpre.training.pretraining_spec import PretrainingSpec

logger = logging.getLogger(__name__)

# The most that the evaluations of a run may cost, as a share of what its training costs.
LARGEST_SHARE = 0.1
# An evaluation of a short run has so many examples at least.
FEWEST_EXAMPLES = 64


def plan_evaluations(spec: PretrainingSpec, args: Seq2SeqTrainingArguments) -> PretrainingSpec:
    """Decide when a run is evaluated and on how many examples, so that it costs little.

    The forward passes of all evaluations are at most a tenth of the computation of the training,
    whose steps cost three forward passes an example. Short runs have fewer evaluations for that,
    and of the last one left fewer examples. Numbers that were given by hand are obeyed, and a line
    in the log says what they cost. The plan depends on counts alone, so that a run can be repeated.

    Args:
        spec: its evaluations, validation_examples and training.eval_steps are read.
        args: of the run, with the rows of a step and the final max_steps; eval_steps is set.

    Returns:
        The spec with the validation_examples that are evaluated.
    """
    # What the training costs, and how much of that the evaluations may: forward passes of examples.
    batches = args.gradient_accumulation_steps * args.world_size
    examples_a_step = args.train_batch_size * batches
    if spec.batching == "packed" and not spec.has_windows:
        examples_a_step = spec.batch_size or examples_a_step * EXAMPLES_A_ROW
    cost = FlopCounter.STEP * args.max_steps * examples_a_step
    allowed = int(LARGEST_SHARE * cost)

    # Fewer evaluations, but for numbers that were given; then fewer examples.
    evaluations, examples = spec.evaluations, spec.validation_examples
    if "eval_steps" in spec.training:
        args.eval_steps = spec.training["eval_steps"]
        interval = args.eval_steps if args.eval_steps >= 1 else args.eval_steps * args.max_steps
        evaluations = max(1, int(args.max_steps / interval))
    else:
        if not spec.is_own("evaluations"):
            evaluations = min(evaluations, max(1, allowed // examples))
        args.eval_steps = max(1, args.max_steps // evaluations)
    if not spec.is_own("validation_examples"):
        examples = min(examples, max(FEWEST_EXAMPLES, allowed // evaluations))

    if evaluations * examples > allowed:
        logger.warning(
            "%d evaluations of %d examples cost about %.0f %% of what the training costs; fewer "
            "evaluations or validation_examples cost less.",
            evaluations,
            examples,
            100 * evaluations * examples / cost,
        )
    return replace(spec, validation_examples=examples)
