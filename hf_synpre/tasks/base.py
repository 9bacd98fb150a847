"""What every synthetic task can do, a single one or a mixture: the base `SyntheticTask`.

Parameters come in; a stream of rows goes out, and, of a row, its target, a score or text.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_synpre.errors import UsageError, as_integer, in_message
from hf_synpre.tasks.streams import RowStream
from hf_synpre.vocabulary import Tokenizer, Vocabulary, as_vocabulary

if TYPE_CHECKING:
    from hf_synpre.tasks.task import Task

# Compiled code multiplies the rows of a curriculum by lengths; the product must fit int64.
MOST_CURRICULUM_ROWS = 2**42

# A task's parameters by name: numbers, and choices as one of the words that are allowed.
Parameters = dict[str, Any]
# Their defaults: an integer, or for a choice the tuple of allowed words, of which the first is the
# default.
Defaults = Mapping[str, int | tuple[str, ...]]
# One row's ids as callers have them: a list, an array, or a value of a pyarrow list column.
Ids = Sequence[int] | np.ndarray | Any
# A vocabulary, or what `as_vocabulary` makes one of.
VocabularyLike = Vocabulary | Tokenizer | int | None


@dataclass(frozen=True)
class BayesLoss:
    """The lowest mean loss that any model can have on a task's rows, in nats per scored token."""

    value: float
    # The standard error of a value that was estimated on rows; 0 for one that is exact.
    standard_error: float = 0.0


def describe_loss(loss: BayesLoss | None) -> str:
    """Return the lowest loss that a model can have on a task, in words."""
    if loss is None:
        return "not known"
    if loss.value == 0:
        return "0: what is scored follows from what is read"
    error = f" ± {1.96 * loss.standard_error:.3f}" if loss.standard_error > 1e-9 else ""
    return f"{loss.value:.3f}{error} nats per scored token"


@dataclass(frozen=True, repr=False)
class SyntheticTask(ABC):
    """A task of the registry: a single one (`Task`) or a mixture of several (`Mixture`)."""

    # The name in the registry; for a mixture that is not registered "set:2,identity:1".
    name: str
    # An integer that grows by one whenever the rows change.
    version: int
    # Where the task is defined: authors, year, arXiv number.
    paper: str
    # The function that was registered; its docstring describes the task and shows an example.
    function: Callable

    def __repr__(self) -> str:
        """Return the name, version, parameters with their defaults, and paper of the task."""
        parts = [repr(self.name), f"version={self.version}"]
        for name, default in self.parameters.items():
            parts.append(f"{name}={default[0] if isinstance(default, tuple) else default!r}")
        parts.append(f"paper={self.paper!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def __reduce__(self):
        # Functions do not pickle everywhere; every process has the task by its name, and imports
        # the file that defines it where that is not one of this package.
        from hf_synpre.tasks.imports import files_of_task, restored_task

        return restored_task, (self.name, files_of_task(self.name))

    @property
    def description(self) -> str:
        """The docstring of the registered function: what the target is, then an example row."""
        return self.function.__doc__ or ""

    @property
    def components(self) -> tuple["Task", ...]:
        """The tasks that a mixture draws from; none of a single task."""
        return ()

    @property
    @abstractmethod
    def is_sequence(self) -> bool:
        """Whether a row is one sequence, whose labels lie beside its tokens.

        Otherwise it has an input and a target.
        """

    @property
    @abstractmethod
    def is_text(self) -> bool:
        """Whether rows are sentences that pre-training joins and cuts into windows, as text."""

    @property
    def is_interactive(self) -> bool:
        """Whether a notebook, a script or exec defined it: no module that can be imported."""
        return self.function.__module__ in ("__main__", "__mp_main__", None)

    @property
    @abstractmethod
    def parameters(self) -> Defaults:
        """The parameters and their defaults; for a choice all words, the first the default."""

    @abstractmethod
    def resolve(self, parameters: Mapping[str, Any]) -> Parameters:
        """Return all parameters, defaults included.

        For a mixture these are the ones that all its tasks have with the same value.

        Args:
            parameters: the parameters that differ from their defaults.

        Raises:
            UsageError: a name is unknown, or a value impossible.
        """

    @abstractmethod
    def solve(
        self, input_ids: Ids, *, vocabulary: VocabularyLike = None, **parameters: int | str
    ) -> np.ndarray:
        """Return the target of one input row.

        Args:
            input_ids: the ids of the row, without end-of-sequence.
            vocabulary: the vocabulary that the row was made with: None (the paper's T5 ids), a
                size, a tokenizer or a Vocabulary.
            parameters: the task's parameters that the row was made with.

        Returns:
            The ids of the target, int32[target length], without end-of-sequence.

        Raises:
            UsageError: the row is malformed, or has no target.

        Examples:
            >>> get_task("reverse").solve([7211, 32099, 5, 6, 7]).tolist()
            [7, 6, 5]
        """

    @abstractmethod
    def score(
        self,
        input_ids: Ids,
        answer_ids: Ids,
        *,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> bool:
        """Return whether an answer to a row is right; a row may have several right answers.

        Args:
            input_ids: the ids of the row, without end-of-sequence.
            answer_ids: the ids of the answer, without end-of-sequence.
            vocabulary: the vocabulary that the row was made with, as in `solve`.
            parameters: the task's parameters that the row was made with.

        Raises:
            UsageError: the row is malformed.

        Examples:
            >>> get_task("reverse").score([7211, 32099, 5, 6, 7], [7, 6, 5])
            True
        """

    @abstractmethod
    def text(
        self,
        ids: Ids,
        *,
        row: Ids | None = None,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> str:
        """Return ids of this task for people.

        That is letters for regular tokens, signs for special ones, and words where the task has
        words.

        Args:
            ids: the ids of a row or of a target.
            row: the input row that a target belongs to (LIME names symbols by its header).
            vocabulary: the vocabulary that the row was made with, as in `solve`.
            parameters: the task's parameters that the row was made with.
        """

    @abstractmethod
    def bayes_loss(
        self, *, vocabulary: VocabularyLike = None, **parameters: int | str
    ) -> "BayesLoss | None":
        """Return the lowest mean loss that any model can have on the task's rows.

        Args:
            vocabulary: the vocabulary of the rows, as in `solve`.
            parameters: the task's parameters, where they differ from the defaults.

        Returns:
            The loss per token that is scored, as a decoder is trained: a target given its input, or
            of a sequence each scored token given those before. The first token of a sequence is not
            counted, because nothing predicts it. None where it is not known.

        Raises:
            UsageError: a value does not fit the task.

        Examples:
            >>> get_task("reverse").bayes_loss().value
            0.0
        """

    def open_stream(
        self,
        *,
        split: str = "train",
        seed: int = 0,
        vocabulary: VocabularyLike = None,
        curriculum_rows: int = 0,
        **parameters: int | str,
    ) -> RowStream:
        """Return the task's endless stream of rows.

        The arguments are those of `hf_synpre.tasks.open_stream`.
        """
        # `ramp` is the former name of curriculum_rows.
        given_rows = parameters.pop("ramp", curriculum_rows)
        rows = as_integer(given_rows)
        if rows is None or not 0 <= rows <= MOST_CURRICULUM_ROWS:
            raise UsageError(
                f"curriculum_rows is {in_message(given_rows)}; give the number of rows over which "
                "lengths grow, up to 2**42, or 0 for no curriculum."
            )
        return self.make_stream(parameters, as_vocabulary(vocabulary), split, seed, rows)

    @abstractmethod
    def make_stream(
        self,
        parameters: Mapping[str, Any],
        vocabulary: Vocabulary,
        split: str,
        seed: int,
        curriculum_rows: int,
    ) -> RowStream:
        """Return the stream of checked arguments.

        Raises UsageError where they do not fit the task.
        """


def flat_ids(task: str, what: str, ids: Ids) -> np.ndarray:
    """Return a list, array or pyarrow list of ids as int64[n].

    Args:
        task: the name of the task, for the error.
        what: what the ids are, for the error: "a row", "an answer".
        ids: the ids.

    Raises:
        UsageError: they are ragged, not flat or no integers.
    """
    values = ids.as_py() if hasattr(ids, "as_py") else ids
    try:
        vector = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"{task}: {what} is a flat list of ids; got a ragged one.") from error
    is_integer = len(vector.shape) == 1 and (
        len(vector) == 0 or np.issubdtype(vector.dtype, np.integer)
    )
    if not is_integer:
        raise UsageError(
            f"{task}: {what} is a flat list of ids; got shape {vector.shape} of {vector.dtype}."
        )
    return vector.astype(np.int64)
