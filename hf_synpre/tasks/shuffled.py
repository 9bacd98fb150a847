"""A control of any task: its rows with their tokens in random order, `shuffled-TASK`.

The tokens of a row stay, and what tells them from each other goes: what pre-training on such rows
gives is due to which tokens stand together, not to the task. Of a row with a target, input and
target are permuted each by itself; a name at the start stays.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from hf_synpre.errors import UsageError
from hf_synpre.tasks import rng
from hf_synpre.tasks.base import (
    BayesLoss,
    Defaults,
    Ids,
    Parameters,
    SyntheticTask,
    VocabularyLike,
)
from hf_synpre.tasks.streams import Rows, Stream
from hf_synpre.tasks.task import Task
from hf_synpre.vocabulary import Vocabulary

PREFIX = "shuffled-"
# Text in the key by which the rows differ from those of the task.
SALT = "shuffled"


@dataclass(frozen=True, repr=False)
class Shuffled(SyntheticTask):
    """A task whose rows are those of another one with their tokens in random order."""

    task: Task

    @property
    def description(self) -> str:
        """What the rows are, then those of the task itself with its example row."""
        return (
            "Return nothing that follows from the input: this is a control.\n"
            f"The rows are those of {self.task.name} with their tokens in random order. That task: "
            f"{self.task.description}"
        )

    @property
    def components(self) -> tuple[Task, ...]:
        """The task whose rows they are."""
        return (self.task,)

    @property
    def parameters(self) -> Defaults:
        """The parameters of that task."""
        return self.task.parameters

    @property
    def is_sequence(self) -> bool:
        """Whether rows are sequences; see `SyntheticTask.is_sequence`."""
        return self.task.is_sequence

    @property
    def is_text(self) -> bool:
        """Whether rows are read as text; see `SyntheticTask.is_text`."""
        return self.task.is_text

    def resolve(self, parameters: Mapping[str, Any]) -> Parameters:
        """Return all parameters; see `SyntheticTask.resolve`."""
        return self.task.resolve(parameters)

    def bayes_loss(
        self, *, vocabulary: VocabularyLike = None, **parameters: int | str
    ) -> BayesLoss | None:
        """Return None: the lowest loss on rows in random order is not known."""
        return None

    def make_stream(
        self,
        parameters: Mapping[str, Any],
        vocabulary: Vocabulary,
        split: str,
        seed: int,
        curriculum_rows: int,
    ) -> "ShuffledStream":
        """Return the stream of checked arguments; see `SyntheticTask.make_stream`."""
        resolved = self.resolve(parameters)
        stream = Stream(self.task, resolved, vocabulary, split, seed, curriculum_rows, SALT)
        return ShuffledStream(self, stream)

    def solve(
        self, input_ids: Ids, *, vocabulary: VocabularyLike = None, **parameters: int | str
    ) -> np.ndarray:
        """Raise UsageError: rows in random order have no target that follows from them."""
        raise UsageError(
            f"The rows of {self.name} are in random order, so nothing follows from them; give the "
            f"task {self.task.name}."
        )

    def score(
        self,
        input_ids: Ids,
        answer_ids: Ids,
        *,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> bool:
        """Raise UsageError, as `solve` does."""
        self.solve(input_ids, vocabulary=vocabulary, **parameters)
        return False

    def text(
        self,
        ids: Ids,
        *,
        row: Ids | None = None,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> str:
        """Return ids of this task for people; see `SyntheticTask.text`."""
        return self.task.text(ids, row=row, vocabulary=vocabulary, **parameters)


def make_shuffled(task: SyntheticTask) -> Shuffled:
    """Return the control of a task. UsageError: the task is a mixture."""
    if not isinstance(task, Task):
        raise UsageError(
            f"{PREFIX}{task.name} would permute the rows of a mixture; give one of its tasks: "
            f"{', '.join(component.name for component in task.components)}."
        )
    return Shuffled(
        name=f"{PREFIX}{task.name}",
        version=task.version,
        paper=task.paper,
        function=task.function,
        task=task,
    )


@dataclass(frozen=True, repr=False)
class ShuffledStream:
    """The rows of a stream with their tokens in random order."""

    task: Shuffled
    # The stream of the task's own rows, whose key has a salt of its own.
    stream: Stream

    def __repr__(self) -> str:
        return f"ShuffledStream({self.stream!r})"

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the rows."""
        return self.stream.vocabulary

    @functools.cached_property
    def key(self) -> np.uint64:
        """The hash of all that names the stream."""
        named = {"of": int(self.stream.key)}
        return rng.stream_key(
            self.task.name, self.task.version, named, self.stream.split, self.stream.seed
        )

    @property
    def bounds(self) -> tuple[int, int]:
        """The tokens of the longest input row and of the longest target."""
        return self.stream.bounds

    def rows(self, indices: np.ndarray) -> Rows:
        """Return the rows at some indices; see `RowStream.rows`."""
        x, x_ends, y, y_ends = self.stream.rows(indices)
        with np.errstate(over="ignore"):  # random bits overflow where NUMBA_DISABLE_JIT is set
            shuffle_rows(self.key, indices, x, x_ends, len(self.stream.prefix))
            if not self.task.is_sequence:
                shuffle_rows(~self.key, indices, y, y_ends, 0)
        if not self.task.is_sequence:
            return x, x_ends, y, y_ends
        # The tokens that were scored stand elsewhere, so all tokens are.
        return x, x_ends, x.copy(), x_ends.copy()


@njit(cache=True)
def shuffle_rows(key, indices, ids, ends, kept):
    """Permute the ids of each row in place, but for the first `kept` ones."""
    state = np.empty(1, np.uint64)
    longest = 0
    for row in range(len(indices)):
        longest = max(longest, ends[row + 1] - ends[row])
    scratch = np.empty(longest, np.int32)
    for row in range(len(indices)):
        rng.start_row(state, key, indices[row])
        rng.shuffle(state, ids[ends[row] + kept : ends[row + 1]], scratch)
