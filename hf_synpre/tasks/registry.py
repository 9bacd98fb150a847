"""The synthetic tasks by name: the functions that register a task and find one.

`register_task` makes a `Task` (task.py) of a function and puts it in the registry;
`registered_task` and `list_tasks` give tasks out.
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from hf_synpre.errors import UsageError, as_integer, choose
from hf_synpre.tasks.base import Parameters, SyntheticTask
from hf_synpre.tasks.task import (
    CERTAIN,
    UNKNOWN,
    Task,
    any_length,
    nothing_to_check,
    one_regular_token,
    only_regular_tokens,
    same_length,
)
from hf_synpre.vocabulary import Vocabulary

# The modules of this room that register tasks, in the order in which they are listed.
FAMILIES = (
    *("functions", "lime", "nonsense", "languages", "brackets", "automata", "retrieval"),
    *("rewriting", "neural_automata", "recurrent", "lstm", "programs", "chomsky", "syntax"),
    *("graphs", "grammars"),
)

WHERE_TASKS_ARE = "A file with a task of your own is named by --import. See `synpre tasks`."


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


def check_names_in_key(names_in_key: Mapping[str, str], parameters: Iterable[str]) -> None:
    """Raise UsageError where names in the key of a stream are not one for each parameter.

    Args:
        names_in_key: of the new task; see `register_task`.
        parameters: the names of all its parameters.
    """
    for name in names_in_key:
        choose("parameter in names_in_key", name, parameters)
    used = [names_in_key.get(name, name) for name in parameters]
    twice = sorted({name for name in used if used.count(name) > 1})
    if twice:
        raise UsageError(
            f"Two parameters of the new task have the name {twice[0]} in the key of a stream; give "
            "each another one in names_in_key."
        )


def register_task(
    sampler: Callable,
    *,
    paper: str,
    version: int = 1,
    bounds: Callable[[Parameters], tuple[int, int]] = same_length,
    check_parameters: Callable[[Parameters], str | None] = nothing_to_check,
    lowest_min_length: int = 1,
    lowest_max_length: Callable[[Parameters], int] | None = any_length,
    regular_tokens: Callable[[Parameters], int] = one_regular_token,
    vocabulary_table: Callable[[Vocabulary, Parameters], np.ndarray] | None = None,
    row_check: Callable[[np.ndarray, Vocabulary, Parameters], str | None] = only_regular_tokens,
    score_function: Callable[[np.ndarray, np.ndarray, Vocabulary, Parameters], bool] | None = None,
    decode: Callable[[np.ndarray, np.ndarray, Vocabulary, Parameters], str] | None = None,
    named: bool = True,
    in_python: bool = False,
    sequence: bool = False,
    text_like: bool = False,
    surprisal: Callable | str | None = None,
    added_parameters: tuple[str, ...] = (),
    names_in_key: Mapping[str, str] | None = None,
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
        lowest_max_length: (parameters) -> the smallest max_length that works; None where the task
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
        sequence: a row is one sequence without a separate target, as a sentence of a language or a
            list of questions with their answers. The sampler draws all of it, and the function
            writes as many labels: the token at a position that is scored, -100 elsewhere. Such rows
            have no name.
        text_like: the rows are sentences, which pre-training joins and cuts into windows.
        surprisal: (x, out, p), compiled: writes -log p of each token given those before it to out,
            in nats; x is a sequence, or an input with its target behind it. "certain" where the
            scored tokens follow from those before; "unknown" where nobody has computed it. Without
            it "certain", or "unknown" where a score_function accepts several answers.
        added_parameters: the parameters that a version of the task did not have at first. Where
            one has its default, rows are those of before.
        names_in_key: parameter -> the name that it has in the key of a stream, where that is
            another: its name of before, so that rows stay those of before.
        parameters: the task's parameters and their defaults: an integer, or a tuple of words to
            choose from, its first the default. A task with a range of lengths has min_length=10 and
            max_length=220 where it names no others.

    Returns:
        A decorator, which returns the function as it is.

    Raises:
        UsageError: a task of that name is registered already, a parameter is neither an integer
            nor a tuple of words, two parameters have one name in the key, or a sequence has a name.

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
    if sequence and named:
        raise UsageError(
            "A task whose rows are sequences was registered with named=True, and labels lie beside "
            "the tokens of the row; give named=False."
        )
    if text_like and not sequence:
        raise UsageError(
            "A task was registered with text_like=True, and its rows have targets; give "
            "sequence=True, or leave text_like out."
        )
    if surprisal is None:
        surprisal = CERTAIN if score_function is None else UNKNOWN
    if not callable(surprisal):
        choose("surprisal of a task", surprisal, (CERTAIN, UNKNOWN))
    defaults: dict[str, int | tuple[str, ...]] = {}
    if lowest_max_length is not None:
        defaults |= {"min_length": 10, "max_length": 220}
    defaults |= parameters
    check_names_in_key(names_in_key or {}, defaults)

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
            sequence=sequence,
            text_like=text_like,
            surprisal=surprisal,
            added_parameters=added_parameters,
            names_in_key=names_in_key or {},
        )
        add_to_registry(task)
        return function

    return register
