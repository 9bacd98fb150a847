"""The synthetic tasks by name: what a task is, and the functions that register and find one.

A `Task` is one sampler and one function (kernels.py). `register_task` makes one of a function and
puts it in the registry; `registered_task` and `list_tasks` give tasks out.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_synpre.errors import UsageError, as_integer, choose, in_message
from hf_synpre.tasks.base import (
    Defaults,
    Ids,
    Parameters,
    SyntheticTask,
    VocabularyLike,
    flat_ids,
)
from hf_synpre.tasks.kernels import compile_function, compile_sampler, target_of_the_sampler
from hf_synpre.tasks.streams import Stream
from hf_synpre.vocabulary import SPECIAL_TOKENS, Vocabulary, as_vocabulary

# The modules of this room that register tasks, in the order in which they are listed.
FAMILIES = ("functions", "lime", "nonsense", "languages")

WHERE_TASKS_ARE = "A file with a task of your own is named by --import. See `synpre tasks`."

LENGTHS = ("min_length", "max_length")
# Limits of parameters: a length, and any other number, which compiled code may keep as int32.
LONGEST_LENGTH = 2**20
LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True, repr=False)
class Task(SyntheticTask):
    """A task of one sampler and one function; `register_task` makes one.

    `parameters` below are all parameters of the task, as `resolve` gives them.
    """

    # (state, x, y, p) -> (n, m): draws the body of an input (kernels.py).
    sampler: Callable
    # The parameters by name: a number, or words to choose from, the first being the default.
    defaults: Defaults
    # (parameters) -> the longest body and the longest target, in tokens.
    bounds: Callable[[Parameters], tuple[int, int]]
    # (parameters) -> what is wrong with them, or None.
    check_parameters: Callable[[Parameters], str | None]
    # The smallest min_length that works.
    lowest_min_length: int
    # (min_length) -> the smallest max_length that works; None: the task has no range of lengths.
    lowest_max_length: Callable[[int], int] | None
    # (parameters) -> how many regular tokens the task needs.
    regular_tokens: Callable[[Parameters], int]
    # (vocabulary, parameters) -> int64[...]: the table at the end of `p`; None: there is none.
    vocabulary_table: Callable[[Vocabulary, Parameters], np.ndarray] | None
    # (body, vocabulary, parameters) -> what is malformed in a row, or None.
    row_check: Callable[[np.ndarray, Vocabulary, Parameters], str | None]
    # (body, answer, vocabulary, parameters) -> whether it is right; None: only the target is.
    score_function: Callable[[np.ndarray, np.ndarray, Vocabulary, Parameters], bool] | None
    # (ids, their row, vocabulary, parameters) -> text; None: letters and signs.
    decode: Callable[[np.ndarray, np.ndarray, Vocabulary, Parameters], str] | None
    # Whether the rows start with the ids of the task's name and a divider.
    named: bool
    # Whether the function is function(body, vocabulary, parameters) -> ids, not compiled.
    in_python: bool

    @property
    def parameters(self) -> Defaults:
        """The parameters and their defaults; of a choice all words, the first the default."""
        return self.defaults

    @functools.cached_property
    def compiled(self) -> tuple[Callable, Callable]:
        """The sampler and the function in machine code."""
        function = target_of_the_sampler if self.in_python else self.function
        return compile_sampler(self.sampler), compile_function(function)

    def make_stream(
        self,
        parameters: Mapping[str, Any],
        vocabulary: Vocabulary,
        split: str,
        seed: int,
        curriculum_rows: int,
    ) -> Stream:
        """Return the stream of checked arguments.

        Raises UsageError where they do not fit the task.
        """
        return Stream(self, self.resolve(parameters), vocabulary, split, seed, curriculum_rows)

    def resolve(self, parameters: Mapping[str, Any]) -> Parameters:
        """Return all parameters, defaults included.

        Raises UsageError on an unknown name or an impossible value.
        """
        # The defaults: of a choice its first word.
        resolved: Parameters = {}
        for name, default in self.parameters.items():
            resolved[name] = default[0] if isinstance(default, tuple) else default

        # Replace them by the given values, each checked alone, then all together.
        for name, value in parameters.items():
            choose(f"parameter of {self.name}", name, self.parameters)
            resolved[name] = self._parameter_value(name, value)
        problem = self._length_problem(resolved) or self.check_parameters(resolved)
        if problem:
            raise UsageError(f"{self.name}: {problem}")
        return resolved

    def _parameter_value(self, name: str, value: Any) -> int | str:
        """Return a parameter's value.

        Raises UsageError where it is no word of its choice, or no allowed number.
        """
        default = self.parameters[name]
        if isinstance(default, tuple):
            return choose(f"{name} of {self.name}", value, default)
        number = as_integer(value)
        if number is None or number < 0:
            raise UsageError(f"{self.name}: {name} is {in_message(value)}; give an integer >= 0.")
        if number > LARGEST_NUMBER:
            raise UsageError(
                f"{self.name}: {name} is {in_message(value)}; give at most {LARGEST_NUMBER}."
            )
        return number

    def _length_problem(self, parameters: Parameters) -> str | None:
        """Return what is wrong with the range of lengths, or None."""
        if parameters.get("max_length", 0) > LONGEST_LENGTH:
            return f"max_length is {parameters['max_length']}; give at most {LONGEST_LENGTH}."
        if self.lowest_max_length is None:
            return None
        low, high = (parameters[name] for name in LENGTHS)
        if low > high:
            return f"min_length {low} exceeds max_length {high}; swap them."
        if low < self.lowest_min_length:
            return f"min_length is {low}; give at least {self.lowest_min_length}."
        lowest = self.lowest_max_length(low)
        if high < lowest:
            return (
                f"max_length {high} is too short for min_length {low}; give max_length >= {lowest}."
            )
        return None

    def prefix(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return the ids before the body, int32: the task's name and the divider, or none.

        See docs/papers.md, "Token ids".
        """
        if not self.named:
            return np.empty(0, np.int32)
        ids = (*vocabulary.name_ids(self.name), vocabulary.special_ids["name_divider"])
        return np.array(ids, np.int32)

    def parameter_vector(self, vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
        """Return the vector `p` of compiled code (kernels.py).

        Args:
            vocabulary: the vocabulary of the rows.
            parameters: all parameters, as `resolve` gives them.

        Returns:
            int64[ARGUMENTS + parameters besides the lengths + the task's table].

        Raises:
            UsageError: the vocabulary has too few regular tokens for the task.
        """
        needed = self.regular_tokens(parameters)
        if needed > vocabulary.regular_count:
            raise UsageError(
                f"{self.name} draws from {needed} regular tokens and the vocabulary has "
                f"{vocabulary.regular_count}; give a larger vocabulary or smaller parameters."
            )

        # Compiled code knows a choice by the number of its word.
        numbers = {}
        for name, value in parameters.items():
            choices = self.parameters[name]
            numbers[name] = choices.index(value) if isinstance(choices, tuple) else value

        lengths = [numbers.get(name, 0) for name in LENGTHS]
        special_ids = [vocabulary.special_ids[name] for name in SPECIAL_TOKENS]
        arguments = [number for name, number in numbers.items() if name not in LENGTHS]
        head = [vocabulary.first_regular, vocabulary.regular_count, *lengths]
        vector = np.array([*head, *special_ids, *arguments], np.int64)
        if self.vocabulary_table is None:
            return vector
        return np.concatenate([vector, self.vocabulary_table(vocabulary, parameters)])

    def solve(
        self, input_ids: Ids, *, vocabulary: VocabularyLike = None, **parameters: int | str
    ) -> np.ndarray:
        """Return the target of one input row, int32, without end-of-sequence.

        See `SyntheticTask.solve`.
        """
        vocabulary = as_vocabulary(vocabulary)
        resolved = self.resolve(parameters)
        body = self._checked_body(input_ids, vocabulary, resolved)
        if self.in_python:
            return np.array(self.function(body, vocabulary, resolved), np.int32)

        # A row longer than max_length is solved too: room and tables grow with it.
        longest = max(resolved.get("max_length", 0), len(body))
        roomy = resolved | {"max_length": longest}
        target = np.empty(self.bounds(roomy)[1], np.int32)  # [longest target]
        function = self.compiled[1]
        with np.errstate(over="ignore"):
            length = function(body, target, self.parameter_vector(vocabulary, roomy))
        if length == 0:
            return np.array([vocabulary.special_ids["empty"]], np.int32)
        return target[:length]

    def score(
        self,
        input_ids: Ids,
        answer_ids: Ids,
        *,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> bool:
        """Return whether an answer to a row is right; see `SyntheticTask.score`."""
        vocabulary = as_vocabulary(vocabulary)
        answer = flat_ids(self.name, "an answer", answer_ids)
        if self.score_function is None:
            target = self.solve(input_ids, vocabulary=vocabulary, **parameters)
            return np.array_equal(target, answer)
        resolved = self.resolve(parameters)
        body = self._checked_body(input_ids, vocabulary, resolved)
        return bool(self.score_function(body, answer, vocabulary, resolved))

    def text(
        self,
        ids: Ids,
        *,
        row: Ids | None = None,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> str:
        """Return ids of this task for people; see `SyntheticTask.text`."""
        vocabulary = as_vocabulary(vocabulary)
        resolved = self.resolve(parameters)
        tokens = flat_ids(self.name, "a row", ids)
        if self.decode is None:
            return " ".join(vocabulary.decode(token) for token in tokens.tolist())
        input_row = tokens if row is None else flat_ids(self.name, "a row", row)
        return self.decode(tokens, input_row, vocabulary, resolved)

    def _checked_body(
        self, input_ids: Ids, vocabulary: Vocabulary, parameters: Parameters
    ) -> np.ndarray:
        """Return the ids behind the prefix of a row, int32.

        Raises UsageError where the row is malformed.
        """
        ids = flat_ids(self.name, "a row", input_ids)
        prefix = self.prefix(vocabulary)
        start = ids[: len(prefix)]
        if not np.array_equal(start, prefix):
            raise UsageError(
                f"{self.name}: a row starts with {prefix.tolist()}; got {start.tolist()}."
            )
        if len(ids) == len(prefix) or ids.min() < 0 or ids.max() >= vocabulary.size:
            raise UsageError(
                f"{self.name}: a row needs a body of ids in 0..{vocabulary.size - 1} "
                f"after {prefix.tolist()}."
            )
        body = np.ascontiguousarray(ids[len(prefix) :], np.int32)
        if body[-1] == vocabulary.eos:
            raise UsageError(
                f"{self.name}: the row ends with the end-of-sequence id {vocabulary.eos}; "
                "give it without."
            )
        problem = self.row_check(body, vocabulary, parameters)
        if problem:
            raise UsageError(f"{self.name}: malformed row: {problem}")
        return body


def only_regular_tokens(
    body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str | None:
    """Check the row of most tasks: every id of the body is a regular token."""
    last = vocabulary.first_regular + vocabulary.regular_count - 1
    other = body[(body < vocabulary.first_regular) | (body > last)]
    if len(other):
        return f"id {other[0]} is no regular token ({vocabulary.first_regular}..{last})."
    return None


# Every task and every mixture with a name, in the order in which they were registered.
REGISTRY: dict[str, SyntheticTask] = {}


@functools.cache
def load_families() -> None:
    """Import the modules of this room that register tasks."""
    for family in FAMILIES:
        importlib.import_module(f"hf_synpre.tasks.{family}")


def list_tasks() -> list[str]:
    """Return the names of all registered tasks and mixtures.

    Returns:
        The names, family by family: simple functions, LIME, nonsense summaries, formal languages;
        those that other code registered come last.

    Examples:
        >>> list_tasks()[:3]
        ['identity', 'set', 'delete']
    """
    load_families()
    return sorted(REGISTRY, key=family_number)


def family_number(name: str) -> int:
    """Return the position of a task's family in FAMILIES; tasks of other modules come last."""
    module = REGISTRY[name].function.__module__
    for number, family in enumerate(FAMILIES):
        if module == f"hf_synpre.tasks.{family}":
            return number
    return len(FAMILIES)


def registered_task(name: str) -> SyntheticTask:
    """Return the task or mixture of a name.

    Raises UsageError with the closest name where there is none.
    """
    if name not in REGISTRY:
        load_families()
    return REGISTRY[choose("task", name, REGISTRY, do=WHERE_TASKS_ARE)]


def add_to_registry(task: SyntheticTask) -> None:
    """Put a task or a mixture in the registry. Raises UsageError where its name is taken.

    What a notebook or script defined, its cell that runs again may define anew.
    """
    earlier = REGISTRY.get(task.name)
    if earlier is not None and not (earlier.is_interactive and task.is_interactive):
        raise UsageError(f"A task '{task.name}' is registered already; choose another name.")
    REGISTRY[task.name] = task


def same_length(parameters: Parameters) -> tuple[int, int]:
    """Return the bounds of most tasks: body and target have at most max_length tokens."""
    return parameters["max_length"], parameters["max_length"]


def nothing_to_check(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of most tasks, beyond their lengths: nothing."""
    return None


def any_length(min_length: int) -> int:
    """Return the smallest max_length of most tasks: min_length itself."""
    return min_length


def one_regular_token(parameters: Parameters) -> int:
    """Return how many regular tokens most tasks need."""
    return 1


# Former keywords of register_task -> their names now. Unrefused, they would become parameters.
FORMER_KEYWORDS = {
    "check": "check_parameters",
    "judge": "score_function",
    "least": "lowest_min_length",
    "reader": "decode",
    "shortest": "lowest_max_length",
    "symbols": "regular_tokens",
    "table": "vocabulary_table",
}


def check_new_parameters(parameters: Mapping[str, int | tuple[str, ...]]) -> None:
    """Raise UsageError where the parameters of a new task are none, or former keywords."""
    for name, default in parameters.items():
        if name in FORMER_KEYWORDS:
            raise UsageError(
                f"register_task has no keyword {name}; it is now {FORMER_KEYWORDS[name]}. "
                "Give a parameter of the task another name."
            )
        is_choice = isinstance(default, tuple) and all(isinstance(word, str) for word in default)
        if not is_choice and as_integer(default) is None:
            raise UsageError(
                f"The parameter {name} of the new task is {default!r}; "
                "give an integer, or a tuple of words to choose from."
            )


def register_task(
    sampler: Callable,
    *,
    paper: str,
    version: int = 1,
    bounds: Callable[[Parameters], tuple[int, int]] = same_length,
    check_parameters: Callable[[Parameters], str | None] = nothing_to_check,
    lowest_min_length: int = 1,
    lowest_max_length: Callable[[int], int] | None = any_length,
    regular_tokens: Callable[[Parameters], int] = one_regular_token,
    vocabulary_table: Callable[[Vocabulary, Parameters], np.ndarray] | None = None,
    row_check: Callable[[np.ndarray, Vocabulary, Parameters], str | None] = only_regular_tokens,
    score_function: Callable[[np.ndarray, np.ndarray, Vocabulary, Parameters], bool] | None = None,
    decode: Callable[[np.ndarray, np.ndarray, Vocabulary, Parameters], str] | None = None,
    named: bool = True,
    in_python: bool = False,
    **parameters: int | tuple[str, ...],
) -> Callable[[Callable], Callable]:
    """Register the decorated function as a task.

    The function's name, with a trailing underscore dropped, is the task's; its docstring describes
    it.

    Args:
        sampler: draws the body of an input: sampler(state, x, y, p) -> (n, m), see kernels.py;
            samplers.py has the paper's.
        paper: where the task is defined: authors, year, arXiv number.
        version: counts up when the task's rows change.
        bounds: (parameters) -> the longest body and the longest target, in tokens.
        check_parameters: (parameters) -> what is wrong with them, or None.
        lowest_min_length: the smallest min_length that works.
        lowest_max_length: (min_length) -> the smallest max_length that works; None where the task
            has no range of lengths.
        regular_tokens: (parameters) -> how many regular tokens the task needs.
        vocabulary_table: (vocabulary, parameters) -> int64[...], what the task has to know of the
            vocabulary besides regular and special tokens; it is the end of `p`.
        row_check: (body, vocabulary, parameters) -> what is malformed in a row, or None.
        score_function: (body, answer, vocabulary, parameters) -> whether the answer is right; None
            where only the target is.
        decode: (ids, their row, vocabulary, parameters) -> text for people; None for letters and
            signs.
        named: whether the rows start with the ids of the task's name and a divider.
        in_python: the function is function(body, vocabulary, parameters) -> ids, in plain Python,
            and the sampler writes the targets. Otherwise it is function(x, y, p) -> m and is
            compiled, as the sampler is.
        parameters: the task's parameters and their defaults: an integer, or a tuple of words to
            choose from, its first the default. A task with a range of lengths has min_length=10 and
            max_length=220 where it names no others.

    Returns:
        A decorator, which returns the function as it is.

    Raises:
        UsageError: a task of that name is registered already, or a parameter is neither an integer
            nor a tuple of words.

    Examples:
        >>> @register_task(samplers.uniform, paper="where it is defined")
        ... def first_two(x, y, p):
        ...     '''Return the first two tokens.
        ...
        ...     input   a b c d
        ...     target  a b
        ...     '''
        ...     y[0], y[1] = x[0], x[1]
        ...     return 2
    """
    check_new_parameters(parameters)
    defaults: dict[str, int | tuple[str, ...]] = {}
    if lowest_max_length is not None:
        defaults |= {"min_length": 10, "max_length": 220}
    defaults |= parameters

    def register(function: Callable) -> Callable:
        """Register the task of a function, and return the function."""
        task = Task(
            name=function.__name__.rstrip("_"),
            version=version,
            paper=paper,
            function=function,
            sampler=sampler,
            defaults=defaults,
            bounds=bounds,
            check_parameters=check_parameters,
            lowest_min_length=lowest_min_length,
            lowest_max_length=lowest_max_length,
            regular_tokens=regular_tokens,
            vocabulary_table=vocabulary_table,
            row_check=row_check,
            score_function=score_function,
            decode=decode,
            named=named,
            in_python=in_python,
        )
        add_to_registry(task)
        return function

    return register
