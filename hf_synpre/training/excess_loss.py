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
# The rows in which they are counted.
COUNTED_ROWS = 1000


def lowest_loss(spec: PretrainingSpec, objective: str, vocabulary: Vocabulary) -> BayesLoss | None:
    """Return the lowest loss that the evaluations of a run could have.

    Args:
        spec: the run.
        objective: its objective.
        vocabulary: of its rows.

    Returns:
        The Bayes loss of the task, in nats per token that carries loss. None where it is not known:
        on a corpus; where tokens are masked or spans hidden at random; where the loss counts more
        than the task scores, or labels are smoothed.
    """
    if spec.task is None or spec.training.get("label_smoothing_factor"):
        return None
    task = get_task(spec.task)
    if objective == "causal":
        # Of sequences that are scored everywhere, "all" is the same.
        counts_more = spec.loss_on == "all" and not spec.reads_text
        if counts_more and (not task.is_sequence or has_answers(spec, vocabulary)):
            return None
    elif task.is_sequence:
        if spec.reads_text or objective == "rtd" or not has_answers(spec, vocabulary):
            return None
    elif objective != "seq2seq":
        return None

    loss = task.bayes_loss(vocabulary=vocabulary, **spec.parameters)
    # Another token may follow from the answers that are read before it, and not be hidden alone.
    if loss is not None and loss.value > 0 and task.is_sequence and objective != "causal":
        return None
    return loss


def answer_tokens(spec: PretrainingSpec, vocabulary: Vocabulary) -> int:
    """Return how many different tokens a task's rows have where they are scored, 2 or more."""
    stream = spec.open_task(vocabulary, size=COUNTED_ROWS, split="validation").stream
    labels = stream.rows(np.arange(COUNTED_ROWS))[2]
    return max(2, len(np.unique(labels[labels != IGNORED])))


def learnt_limit(spec: PretrainingSpec, vocabulary: Vocabulary) -> float:
    """Return the excess loss above which a task counts as not learnt, in nats per token."""
    return LEARNT_SHARE * math.log(answer_tokens(spec, vocabulary))


def say_if_not_learnt(
    spec: PretrainingSpec, loss: float, lowest: BayesLoss, vocabulary: Vocabulary
) -> None:
    """Log a warning where a run ended far above the lowest loss of its task.

    Args:
        spec: the run.
        loss: that of the last evaluation, in nats per token.
        lowest: the lowest possible one.
        vocabulary: of the rows.
    """
    tokens = answer_tokens(spec, vocabulary)
    most = learnt_limit(spec, vocabulary)
    excess = loss - lowest.value
    if excess > most:
        logger.warning(
            "%s was not learnt: the loss %.2f is %.2f above the lowest possible one, %.2f, where "
            "%.2f is a fifth of the logarithm of the %d tokens that may be answers; train longer, "
            "with another learning rate or optimizer, or on shorter examples of fewer tokens",
            *(spec.task, loss, excess, lowest.value, most, tokens),
        )
