"""Layer 1: mixtures of tasks: which task row i comes from is drawn from hash(key, i), so a mixture is pure in i too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_synpre.errors import UsageError, choose
from hf_synpre.tasks.registry import Task, enter, get_registered
from hf_synpre.tasks.streams import MixtureStream, Stream
from hf_synpre.vocabulary import Vocabulary


@dataclass(frozen=True)
class Mixture:
    """Several tasks with integer weights, in a Task's clothes: parameters, resolve, solve, score."""

    name: str
    version: int
    paper: str
    function: Callable
    tasks: tuple[Task, ...]
    weights: tuple[int, ...]

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that all component tasks share, with the first one's defaults."""
        first, *others = (task.parameters for task in self.tasks)
        return {
            name: value for name, value in first.items() if all(name in other for other in others)
        }

    def resolve(self, parameters: Mapping[str, Any]) -> dict[str, dict[str, int | str]]:
        """Return the full parameters of every component. Raises UsageError on a parameter that not all of them have."""
        for name in parameters:
            choose(f"parameter of {self.name}", name, self.parameters)
        return {task.name: task.resolve(parameters) for task in self.tasks}

    def open(
        self, parameters: Mapping[str, Any], words: Vocabulary, split: str, seed: int, ramp: int
    ) -> MixtureStream:
        """Return the mixture's stream; its components' streams are salted with its name and share no row with others."""
        full, named = self.resolve(parameters), {}
        for task in self.tasks:
            twin = named.setdefault(tuple(task.prefix(words)) or task.name, task.name)
            if twin != task.name:
                raise UsageError(
                    f"{twin} and {task.name} have the same name ids in this vocabulary; give a larger one."
                )
        salt = f"{self.name} {' '.join(map(str, self.weights))}"
        streams = tuple(
            Stream(t, full[t.name], words, split, seed, ramp, salt).validate() for t in self.tasks
        )
        return MixtureStream(self, full, words, streams, split, seed, ramp)

    def solve(
        self, input_ids: Any, *, vocabulary: Any = None, **parameters: int | str
    ) -> np.ndarray:
        """Return the target of a row of any component. Raises UsageError where no component accepts the row."""
        return self._first("solve", input_ids, vocabulary=vocabulary, **parameters)

    def score(
        self, input_ids: Any, answer_ids: Any, *, vocabulary: Any = None, **parameters: int | str
    ) -> bool:
        """Return True where `answer_ids` is a right answer to a row of any component."""
        return self._first("score", input_ids, answer_ids, vocabulary=vocabulary, **parameters)

    def text(
        self, ids: Any, *, row: Any = None, vocabulary: Any = None, **parameters: int | str
    ) -> str:
        """Return ids as the first component that can shows them."""
        return self._first("text", ids, row=row, vocabulary=vocabulary, **parameters)

    def _first(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        problems = []
        for task in self.tasks:
            try:
                return getattr(task, method)(*arguments, **keywords)
            except UsageError as problem:
                problems.append(str(problem))
        raise UsageError(f"{self.name}: no component accepts the row: {' | '.join(problems)}")


def register_mixture(
    tasks: Mapping[str, int], *, paper: str, version: int = 1
) -> Callable[[Callable], Callable]:
    """Register the mixture {task: weight} under the name of the decorated function, whose docstring describes it."""

    def register(function: Callable) -> Callable:
        name = function.__name__
        enter(name, Mixture(name, version, paper, function, *components(tasks)))
        return function

    return register


def of_its_task():
    """Return the target of the task that a row comes from."""


def make_mixture(tasks: Mapping[str, int]) -> Mixture:
    """Return the mixture of {task: weight}, weights integers >= 1. Raises UsageError on anything else."""
    found, weights = components(tasks)
    name = ",".join(f"{task.name}:{weight}" for task, weight in zip(found, weights, strict=True))
    return Mixture(
        name, 1, "; ".join(dict.fromkeys(task.paper for task in found)), of_its_task, found, weights
    )


def components(tasks: Mapping[str, int]) -> tuple[tuple[Task, ...], tuple[int, ...]]:
    """Return the tasks and weights of a mixture. Raises UsageError on a bad weight, an unknown task or a mixture."""
    if not tasks:
        raise UsageError("A mixture needs at least one task; give {'set': 2, 'identity': 1}.")
    for task, weight in tasks.items():
        if (
            isinstance(weight, bool)
            or not isinstance(weight, int | np.integer)
            or not 1 <= weight < 2**31
        ):
            raise UsageError(
                f"The weight of {task} is {weight!r}; give an integer from 1 to 2**31 - 1."
            )
    if sum(tasks.values()) >= 2**32:
        raise UsageError(
            f"The weights sum to {sum(tasks.values())}; give smaller ones, with a sum below 2**32."
        )
    found = tuple(get_registered(task) for task in tasks)
    if nested := next((task for task in found if isinstance(task, Mixture)), None):
        raise UsageError(
            f"'{nested.name}' is a mixture itself; give its tasks: {', '.join(t.name for t in nested.tasks)}."
        )
    return found, tuple(int(weight) for weight in tasks.values())


def read_mixture(text: str) -> dict[str, int]:
    """Return {task: weight} of a text such as `set:2,identity`; a weight left out is 1."""
    tasks = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition(":")
        if not (weight or "1").isdecimal() or name in tasks:
            raise UsageError(
                f"'{part}' in '{text}' is no new task with an integer weight; write set:2,identity:1."
            )
        tasks[name] = int(weight or 1)
    return tasks
