"""Mixtures of tasks: {task: weight} comes in, a `Mixture` goes out.

Which task row i comes from is drawn from hash(key, i), so a mixture's rows are pure in i too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_synpre.errors import UsageError, choose, in_message, read_integer
from hf_synpre.tasks.base import (
    BayesLoss,
    Defaults,
    Ids,
    Parameters,
    SyntheticTask,
    VocabularyLike,
)
from hf_synpre.tasks.registry import add_to_registry, registered_task
from hf_synpre.tasks.streams import MixtureStream, Stream
from hf_synpre.tasks.task import Task
from hf_synpre.vocabulary import Vocabulary

# A weighted draw is one draw below the sum of the weights, and draws are below 2**32 (rng.py).
MOST_WEIGHT = 2**31
MOST_WEIGHT_SUM = 2**32


@dataclass(frozen=True, repr=False)
class Mixture(SyntheticTask):
    """Several tasks with integer weights. Each row comes from one of them."""

    tasks: tuple[Task, ...]
    weights: tuple[int, ...]

    @property
    def components(self) -> tuple[Task, ...]:
        """The tasks that the mixture draws from."""
        return self.tasks

    @property
    def is_sequence(self) -> bool:
        """Whether rows are sequences; see `SyntheticTask.is_sequence`."""
        return self.tasks[0].is_sequence

    @property
    def is_text(self) -> bool:
        """Whether rows are read as text; see `SyntheticTask.is_text`."""
        return all(task.is_text for task in self.tasks)

    def bayes_loss(
        self, *, vocabulary: VocabularyLike = None, **parameters: int | str
    ) -> BayesLoss | None:
        """Return the lowest mean loss of any model; see `SyntheticTask.bayes_loss`.

        It is 0 where that of every task is. Else it is not known: it depends on how well the rows
        of one task can be told from those of another.
        """
        of_tasks = [task.bayes_loss(vocabulary=vocabulary, **parameters) for task in self.tasks]
        are_certain = all(loss is not None and loss.value == 0 for loss in of_tasks)
        return BayesLoss(0.0) if are_certain else None

    @property
    def parameters(self) -> Defaults:
        """The parameters that all tasks of the mixture have, with the defaults of the first."""
        first, *others = self.tasks
        shared = {}
        for name, default in first.parameters.items():
            if all(name in task.parameters for task in others):
                shared[name] = default
        return shared

    def resolve(self, parameters: Mapping[str, Any]) -> Parameters:
        """Return the parameters that all tasks of the mixture have with one value.

        See `SyntheticTask.resolve`.
        """
        first, *others = self.resolve_components(parameters).values()
        shared: Parameters = {}
        for name, value in first.items():
            if all(other.get(name) == value for other in others):
                shared[name] = value
        return shared

    def resolve_components(self, parameters: Mapping[str, Any]) -> dict[str, Parameters]:
        """Return all parameters of every task by its name.

        Raises UsageError on one that not all of them have.
        """
        for name in parameters:
            choose(f"parameter of {self.name}", name, self.parameters)
        return {task.name: task.resolve(parameters) for task in self.tasks}

    def make_stream(
        self,
        parameters: Mapping[str, Any],
        vocabulary: Vocabulary,
        split: str,
        seed: int,
        curriculum_rows: int,
    ) -> MixtureStream:
        """Return the stream of checked arguments.

        Raises UsageError where they do not fit the tasks.

        The keys of its tasks' streams contain the mixture's name (the salt), so that they share no
        rows with the streams of the tasks alone.
        """
        resolved = self.resolve_components(parameters)
        self._check_prefixes(vocabulary)
        salt = f"{self.name} {' '.join(map(str, self.weights))}"
        streams = []
        for task in self.tasks:
            full = resolved[task.name]
            streams.append(Stream(task, full, vocabulary, split, seed, curriculum_rows, salt))
        return MixtureStream(self, tuple(streams), vocabulary, split, seed)

    def _check_prefixes(self, vocabulary: Vocabulary) -> None:
        """Raise UsageError where two tasks start their rows with the same name ids."""
        task_of_prefix: dict[tuple[int, ...], str] = {}
        for task in self.tasks:
            prefix = tuple(task.prefix(vocabulary).tolist())
            if not prefix:
                continue
            other = task_of_prefix.setdefault(prefix, task.name)
            if other != task.name:
                raise UsageError(
                    f"{other} and {task.name} have the same name ids in this vocabulary; "
                    "give a larger one."
                )

    def solve(
        self, input_ids: Ids, *, vocabulary: VocabularyLike = None, **parameters: int | str
    ) -> np.ndarray:
        """Return the target of a row of any of the tasks; see `SyntheticTask.solve`."""
        return self._first_that_accepts(
            lambda task: task.solve(input_ids, vocabulary=vocabulary, **parameters)
        )

    def score(
        self,
        input_ids: Ids,
        answer_ids: Ids,
        *,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> bool:
        """Return whether an answer to a row of any of the tasks is right.

        See `SyntheticTask.score`.
        """
        return self._first_that_accepts(
            lambda task: task.score(input_ids, answer_ids, vocabulary=vocabulary, **parameters)
        )

    def text(
        self,
        ids: Ids,
        *,
        row: Ids | None = None,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> str:
        """Return ids as text, by the first task that accepts them; see `SyntheticTask.text`."""
        return self._first_that_accepts(
            lambda task: task.text(ids, row=row, vocabulary=vocabulary, **parameters)
        )

    def _first_that_accepts(self, call: Callable[[Task], Any]) -> Any:
        """Return what the first task that accepts a call answers.

        Raises UsageError where none does.
        """
        problems = []
        for task in self.tasks:
            try:
                return call(task)
            except UsageError as problem:
                problems.append(str(problem))
        raise UsageError(f"{self.name}: no component accepts the row: {' | '.join(problems)}")


def register_mixture(
    weights: Mapping[str, int], *, paper: str, version: int = 1
) -> Callable[[Callable], Callable]:
    """Register a mixture under the name of the decorated function, whose docstring describes it.

    Args:
        weights: the weight of every task, {"lime_induct": 1, "lime_deduct": 1}.
        paper: where the mixture is defined: authors, year, arXiv number.
        version: counts up when the mixture's rows change.

    Returns:
        A decorator, which returns the function as it is.

    Raises:
        UsageError: a weight is no integer >= 1, a task is unknown or a mixture itself, some tasks
            have targets and others sequences, or the name is taken.
    """
    tasks = mixture_components(weights)

    def register(function: Callable) -> Callable:
        """Register the task of a function, and return the function."""
        mixture = Mixture(
            name=function.__name__,
            version=version,
            paper=paper,
            function=function,
            tasks=tasks,
            weights=tuple(int(weight) for weight in weights.values()),
        )
        add_to_registry(mixture)
        return function

    return register


def of_its_task():
    """Return the target of the task that a row comes from."""


def make_mixture(weights: Mapping[str, int]) -> Mixture:
    """Return the mixture of {task: weight}.

    Raises UsageError on bad weights, unknown tasks and mixtures.
    """
    tasks = mixture_components(weights)
    names = [f"{task.name}:{weights[task.name]}" for task in tasks]
    papers = dict.fromkeys(task.paper for task in tasks)
    return Mixture(
        name=",".join(names),
        version=1,
        paper="; ".join(papers),
        function=of_its_task,
        tasks=tasks,
        weights=tuple(int(weight) for weight in weights.values()),
    )


def mixture_components(weights: Mapping[str, int]) -> tuple[Task, ...]:
    """Return the tasks of {task: weight}.

    Raises UsageError on bad weights, unknown tasks and mixtures.
    """
    if not weights:
        raise UsageError("A mixture needs at least one task; give {'set': 2, 'identity': 1}.")

    # Weights are whole numbers, and so is their sum.
    for name, weight in weights.items():
        is_integer = isinstance(weight, int | np.integer) and not isinstance(weight, bool)
        if not is_integer or not 1 <= weight < MOST_WEIGHT:
            raise UsageError(
                f"The weight of {name} is {in_message(weight)}; "
                "give an integer from 1 to 2**31 - 1."
            )
    if sum(weights.values()) >= MOST_WEIGHT_SUM:
        raise UsageError(
            f"The weights sum to {sum(weights.values())}; "
            "give smaller ones, with a sum below 2**32."
        )

    tasks = []
    for name in weights:
        task = registered_task(name)
        if not isinstance(task, Task):
            names = ", ".join(component.name for component in task.components)
            raise UsageError(f"'{task.name}' is a mixture itself; give its tasks: {names}.")
        tasks.append(task)
        if task.is_sequence != tasks[0].is_sequence:
            pair = sorted((task, tasks[0]), key=lambda one: one.is_sequence)
            raise UsageError(
                f"The rows of {pair[0].name} have a target and those of {pair[1].name} are "
                "sequences, which cannot be mixed; give tasks of one kind."
            )
    return tuple(tasks)


def read_mixture(text: str) -> dict[str, int]:
    """Return {task: weight} of a text such as `set:2,identity`; a weight left out is 1.

    Raises UsageError on others.
    """
    weights: dict[str, int] = {}
    for part in text.split(","):
        name, _, weight_text = part.strip().partition(":")
        weight = read_integer(weight_text or "1")
        if weight is None or name in weights:
            raise UsageError(
                f"'{part}' in '{text}' is no new task with an integer weight; "
                "write set:2,identity:1."
            )
        weights[name] = weight
    return weights
