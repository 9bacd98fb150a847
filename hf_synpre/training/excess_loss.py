"""How far a run's loss is above the lowest possible one: whether its task was learnt."""

import logging
import math

import numpy as np

from hf_synpre.data.rows import IGNORED
from hf_synpre.tasks import RowStream, get_task, open_stream
from hf_synpre.tasks.base import BayesLoss
from hf_synpre.tasks.task import Task
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
# The rows in which they are counted, twice as many in all: the second ones show what is missing.
COUNTED_ROWS = 500


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
    """Return how many tokens may be the answers of a run's task, 2 or more.

    It depends on the task, its parameters and the vocabulary, and on nothing else of the run. The
    tokens are counted in 1,000 rows. Where the second half of them still has regular tokens that
    the first has not, rows do not show them all: then the answers may be any of the regular tokens
    that the task says it needs, or of all, where it has more than these.

    Args:
        spec: the run, on a task.
        vocabulary: of its rows.
    """
    assert spec.task is not None, "a run on a corpus has no task"
    stream = open_stream(
        spec.task, vocabulary=vocabulary, split="validation", seed=0, **spec.parameters
    )
    first, second = (
        scored_tokens(stream, start, start + COUNTED_ROWS) for start in (0, COUNTED_ROWS)
    )
    last_regular = vocabulary.first_regular + vocabulary.regular_count - 1

    def regular(tokens: set[int]) -> set[int]:
        return {token for token in tokens if vocabulary.first_regular <= token <= last_regular}

    found = first | second
    if not regular(second - first):
        return max(2, len(found))

    # A task alone knows how many it needs; a mixture may draw from all.
    task = get_task(spec.task)
    (part,) = task.components if len(task.components) == 1 else (task,)
    needed = part.regular_tokens(task.resolve(spec.parameters)) if isinstance(part, Task) else 0
    drawn = needed if len(regular(found)) <= needed else vocabulary.regular_count
    return drawn + len(found - regular(found))


def scored_tokens(stream: RowStream, start: int, end: int) -> set[int]:
    """Return the tokens that the rows from `start` to before `end` have where they are scored."""
    labels = stream.rows(np.arange(start, end))[2]
    return set(np.unique(labels[labels != IGNORED]).tolist())


def judge(
    spec: PretrainingSpec,
    loss: float,
    lowest: BayesLoss,
    vocabulary: Vocabulary,
    *,
    speaks: bool,
    title: str = "",
) -> bool:
    """Say whether a run has learnt its task; log a warning where it has not.

    Args:
        spec: the run.
        loss: that of the last evaluation, in nats per token.
        lowest: the lowest possible one.
        vocabulary: of the rows.
        speaks: this process logs the warning.
        title: which run of several it is, for the beginning of the warning; "" for one alone.
    """
    tokens = answer_tokens(spec, vocabulary)
    most = LEARNT_SHARE * math.log(tokens)
    excess = loss - lowest.value
    if excess > most and speaks:
        logger.warning(
            "%s%s was not learnt: the loss %.2f is %.2f above the lowest possible one, %.2f, where "
            "%.2f is a fifth of the logarithm of the %d tokens that may be answers; train longer, "
            "with another learning rate or optimizer, or on shorter examples of fewer tokens",
            *(f"{title}: " if title else "", spec.task, loss, excess, lowest.value, most, tokens),
        )
    return excess <= most
