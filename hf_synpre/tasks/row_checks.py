"""What is malformed in a row of the simple tasks, as a text, or None.

Each check gets the body of a row, its vocabulary and all parameters of its task.
"""

from collections.abc import Callable

import numpy as np

from hf_synpre.errors import counted
from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.task import only_regular_tokens
from hf_synpre.vocabulary import Vocabulary

# What is malformed in a row, or None: (body, vocabulary, parameters) -> text.
RowCheck = Callable[[np.ndarray, Vocabulary, Parameters], str | None]


def check_words(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Check a row of words: regular tokens with single word dividers between them."""
    divider = vocabulary.special_ids["word_divider"]
    dividers = np.flatnonzero(body == divider)
    edges = np.concatenate([[-1], dividers, [len(body)]])
    if (np.diff(edges) == 1).any():
        return f"an empty word beside the word divider {divider}."
    return only_regular_tokens(np.delete(body, dividers), vocabulary, parameters)


def check_two_arguments(wanted: str, lengths: range | None = None) -> RowCheck:
    """Return the check of rows of two arguments: regular tokens, one argument divider.

    Args:
        wanted: what the second argument is, for the error: "a query of at least one".
        lengths: the allowed lengths of the second argument; None allows any.
    """

    def check(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
        """Return what is wrong with the body of a row, or None."""
        divider = vocabulary.special_ids["argument_divider"]
        dividers = np.flatnonzero(body == divider)
        if len(dividers) != 1:
            return f"{len(dividers)} argument dividers ({divider}); give exactly one."
        second_length = len(body) - 1 - int(dividers[0])
        if lengths is not None and second_length not in lengths:
            return f"{counted(second_length, 'id')} after the argument divider; give {wanted}."
        return only_regular_tokens(np.delete(body, dividers), vocabulary, parameters)

    return check


AT_LEAST_ONE = range(1, 2**31)
check_query = check_two_arguments("a query of at least one", AT_LEAST_ONE)
check_two_parts = check_two_arguments("an order of at least one", AT_LEAST_ONE)


def check_order(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Check a row of a sequence and an order: every token of the sequence is in the order."""
    problem = check_two_parts(body, vocabulary, parameters)
    if problem:
        return problem
    divider = int(np.flatnonzero(body == vocabulary.special_ids["argument_divider"])[0])
    missing = np.setdiff1d(body[:divider], body[divider + 1 :])
    if len(missing):
        return f"id {missing[0]} of the sequence is not in the order."
    return None
