"""How far a run's loss is above the lowest possible one: whether its task was learnt."""

import logging
import math

import numpy as np

from hf_synpre.data.rows import IGNORED
from hf_synpre.tasks import get_task
from hf_synpre.tasks.base import BayesLoss
from hf_synpre.training.pretraining_data import has_answers
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

# Above this share of ln V a task counts as not learnt, where V is how many tokens may be answers.
LEARNT_SHARE = 0.2
# Why a lowest loss is not known where the tokens that carry loss are drawn, not given by the task.
HIDDEN_AT_RANDOM = (
    "the objective {objective} hides tokens at random, and how well these can be predicted from "
    "the tokens on both sides is not known"
)
# The rows in which they are counted.
COUNTED_ROWS = 1000


def lowest_loss(spec: PretrainingSpec, objective: str, vocabulary: Vocabulary) -> BayesLoss | str:
    """Return the lowest loss that the evaluations of a run could have, or why it is not known.

    Args:
        spec: the run.
        objective: its objective.
        vocabulary: of its rows.

    Returns:
        The Bayes loss of the task, in nats per token that carries loss. Where it is not known, the
        reason, which ends a sentence.
    """
    if spec.task is None:
        return "the lowest possible loss on text is not known"
    if spec.training.get("label_smoothing_factor"):
        return "label_smoothing_factor changes the loss, and its lowest value is not known"

    # Where the loss is not that of the task's scored tokens.
    task = get_task(spec.task)
    if objective == "causal":
        # Of sequences that are scored everywhere, "all" is the same.
        counts_more = spec.loss_on == "all" and not spec.reads_text
        if counts_more and (not task.is_sequence or has_answers(spec, vocabulary)):
            return "loss_on is all, and the loss counts tokens that do not follow from the task"
    elif task.is_sequence:
        if spec.reads_text or objective == "rtd" or not has_answers(spec, vocabulary):
            return HIDDEN_AT_RANDOM.format(objective=objective)
    elif objective != "seq2seq":
        return HIDDEN_AT_RANDOM.format(objective=objective)

    loss = task.bayes_loss(vocabulary=vocabulary, **spec.parameters)
    if loss is None:
        return f"nobody has computed the lowest possible loss of {spec.task}"
    # Another token may follow from the answers that are read before it, and not be hidden alone.
    if loss.value > 0 and task.is_sequence and objective != "causal":
        return (
            f"the lowest possible loss of {spec.task} is that of a model that reads from left to "
            f"right, and not known for the objective {objective}"
        )
    return loss


def answer_tokens(spec: PretrainingSpec, vocabulary: Vocabulary) -> int:
    """Return how many different tokens a task's rows have where they are scored, 2 or more."""
    stream = spec.open_task(vocabulary, size=COUNTED_ROWS, split="validation").stream
    labels = stream.rows(np.arange(COUNTED_ROWS))[2]
    return max(2, len(np.unique(labels[labels != IGNORED])))


def judge(
    spec: PretrainingSpec, loss: float, lowest: BayesLoss, vocabulary: Vocabulary, *, speaks: bool
) -> bool:
    """Say whether a run has learnt its task; log a warning where it has not.

    Args:
        spec: the run.
        loss: that of the last evaluation, in nats per token.
        lowest: the lowest possible one.
        vocabulary: of the rows.
        speaks: this process logs the warning.
    """
    tokens = answer_tokens(spec, vocabulary)
    most = LEARNT_SHARE * math.log(tokens)
    excess = loss - lowest.value
    if excess > most and speaks:
        logger.warning(
            "%s was not learnt: the loss %.2f is %.2f above the lowest possible one, %.2f, where "
            "%.2f is a fifth of the logarithm of the %d tokens that may be answers; train longer, "
            "with another learning rate or optimizer, or on shorter examples of fewer tokens",
            *(spec.task, loss, excess, lowest.value, most, tokens),
        )
    return excess <= most
