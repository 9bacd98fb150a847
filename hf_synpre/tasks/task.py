"""A task of one sampler and one function: parameters are checked, rows solved, scored, shown."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_synpre.errors import UsageError, as_integer, choose, counted, in_message
from hf_synpre.tasks.base import (
    BayesLoss,
    Defaults,
    Ids,
    Parameters,
    SyntheticTask,
    VocabularyLike,
    flat_ids,
)
from hf_synpre.tasks.kernels import (
    IGNORED,
    compile_function,
    compile_sampler,
    compile_surprisal,
    target_of_the_sampler,
)
from hf_synpre.tasks.streams import Stream
from hf_synpre.vocabulary import SPECIAL_TOKENS, Vocabulary, as_vocabulary

LENGTHS = ("min_length", "max_length")
# Limits of parameters: a length, and any other number, which compiled code may keep as int32.
LONGEST_LENGTH = 2**20
LARGEST_NUMBER = 2**31 - 1
# The rows by which a Bayes loss is estimated: those of the split validation under this seed.
ROWS_OF_LAW = 2000
SEED_OF_LAW = 0
# What a task says of its scored tokens in the place of a function of their surprisal.
CERTAIN, UNKNOWN = "certain", "unknown"


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
    # (parameters) -> the smallest max_length that works; None: the task has no range of lengths.
    lowest_max_length: Callable[[Parameters], int] | None
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
    # Whether a row is one sequence, with labels beside its tokens.
    sequence: bool
    # Whether rows are sentences that are joined and cut into windows.
    text_like: bool
    # (x, out, p), compiled: the surprisal of each token of a sequence, or of an input with its
    # target behind it, given those before; CERTAIN: of scored tokens it is 0; UNKNOWN.
    surprisal: Callable | str
    # Parameters that an earlier state of the version did not have; see `named_parameters`.
    added_parameters: tuple[str, ...]
    # The names that parameters had before they were renamed; see `named_parameters`.
    names_in_key: Mapping[str, str]

    @property
    def is_sequence(self) -> bool:
        """Whether a row is one sequence; see `SyntheticTask.is_sequence`."""
        return self.sequence

    @property
    def is_text(self) -> bool:
        """Whether rows are read as text; see `SyntheticTask.is_text`."""
        return self.text_like

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
        for name, default in self.defaults.items():
            resolved[name] = default[0] if isinstance(default, tuple) else default

        # Replace them by the given values, each checked alone, then all together.
        for name, value in parameters.items():
            choose(f"parameter of {self.name}", name, self.defaults)
            resolved[name] = self._parameter_value(name, value)
        problem = self._length_problem(resolved) or self.check_parameters(resolved)
        if problem:
            raise UsageError(f"{self.name}: {problem}")
        return resolved

    def _parameter_value(self, name: str, value: Any) -> int | str:
        """Return a parameter's value.

        Raises UsageError where it is no word of its choice, or no allowed number.
        """
        default = self.defaults[name]
        if isinstance(default, tuple):
            # YAML reads yes and no as true and false.
            if isinstance(value, bool) and set(default) == {"no", "yes"}:
                value = "yes" if value else "no"
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
        lowest = self.lowest_max_length(parameters)
        if high < lowest:
            return (
                f"max_length {high} is too short for min_length {low}; give max_length >= {lowest}."
            )
        return None

    def named_parameters(self, parameters: Parameters) -> Parameters:
        """Return the parameters by which the rows of a stream are named.

        So that rows of before stay what they were, a parameter that was renamed has its name of
        before, and one that was added to the version is left out where it has its default.
        """
        defaults = self.resolve({})
        named = dict(parameters)
        for name in self.added_parameters:
            if named[name] == defaults[name]:
                del named[name]
        return {self.names_in_key.get(name, name): value for name, value in named.items()}

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
                f"{self.name} draws from {counted(needed, 'regular token')} and the vocabulary has "
                f"{vocabulary.regular_count}; give a larger vocabulary or smaller parameters."
            )

        # Compiled code knows a choice by the number of its word.
        numbers = {}
        for name, value in parameters.items():
            choices = self.defaults[name]
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
        roomy = dict(resolved)
        if "max_length" in resolved:
            roomy["max_length"] = max(resolved["max_length"], len(body))
        room = max(self.bounds(roomy)[1], len(body))
        target = np.empty(room, np.int32)  # [longest target]
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

    def surprisals(
        self,
        input_ids: Ids,
        target_ids: Ids | None = None,
        *,
        vocabulary: VocabularyLike = None,
        **parameters: int | str,
    ) -> np.ndarray:
        """Return how unlikely each token of a sequence, or of a target, is given those before it.

        Args:
            input_ids: the ids of the row.
            target_ids: of a task whose rows have targets, the ids of a right one.
            vocabulary: the vocabulary that the row was made with, as in `solve`.
            parameters: the task's parameters that the row was made with.

        Returns:
            float64[ids], the surprisal -log p in nats of each token of the sequence or target. The
            loss of a perfect model at a token is the surprisal of that token.

        Raises:
            UsageError: the row is malformed, its target is wrong or missing, or the task has no
                function of surprisal.
        """
        vocabulary = as_vocabulary(vocabulary)
        resolved = self.resolve(parameters)
        if isinstance(self.surprisal, str):
            raise UsageError(
                f"{self.name} gives no probabilities of its tokens; see bayes_loss for its loss."
            )
        body = self._checked_body(input_ids, vocabulary, resolved)
        vector = self.parameter_vector(vocabulary, resolved)
        if self.sequence:
            return surprisals_of(self.surprisal, body, vector)

        # Behind the input stands its target.
        target = flat_ids(self.name, "a target", [] if target_ids is None else target_ids)
        if not self.score(input_ids, target, vocabulary=vocabulary, **parameters):
            raise UsageError(
                f"{self.name}: surprisals are those of a right target; the given one is not."
            )
        tokens = np.concatenate([body, target.astype(np.int32)])
        return surprisals_of(self.surprisal, tokens, vector)[len(body) :]

    def bayes_loss(
        self, *, vocabulary: VocabularyLike = None, **parameters: int | str
    ) -> BayesLoss | None:
        """Return the lowest mean loss of any model; see `SyntheticTask.bayes_loss`."""
        if self.surprisal == UNKNOWN:
            return None
        if self.surprisal == CERTAIN:
            self.parameter_vector(as_vocabulary(vocabulary), self.resolve(parameters))
            return BayesLoss(0.0)
        words = as_vocabulary(vocabulary)
        return estimated_loss(self.make_stream(parameters, words, "validation", SEED_OF_LAW, 0))

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
            return " ".join(
                "." if token == IGNORED else vocabulary.decode(token) for token in tokens.tolist()
            )
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


def surprisals_of(surprisal: Callable, tokens: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return what a function of surprisal writes, float64[ids].

    Args:
        surprisal: the function, (x, out, p).
        tokens: a sequence, or an input with its target behind it, int32[ids].
        p: the vector of parameters.
    """
    out = np.empty(len(tokens))
    compile_surprisal(surprisal)(tokens, out, p)
    return out


def estimated_loss(stream: Stream) -> BayesLoss:
    """Return the mean surprisal of scored tokens over rows of a stream, with its standard error.

    Args:
        stream: rows of a task with a function of surprisal.
    """
    assert callable(stream.task.surprisal)
    x, x_ends, y, y_ends = stream.rows(np.arange(ROWS_OF_LAW))
    sums, counts = np.empty(ROWS_OF_LAW), np.empty(ROWS_OF_LAW)
    for row in range(ROWS_OF_LAW):
        tokens = x[x_ends[row] : x_ends[row + 1]]
        target = y[y_ends[row] : y_ends[row + 1]]
        if not stream.task.sequence:
            # The end of a target is scored too, and certain.
            tokens = np.concatenate([tokens, target])
            out = surprisals_of(stream.task.surprisal, tokens, stream.parameter_vector)
            sums[row], counts[row] = out[-len(target) :].sum(), len(target) + 1
            continue
        out = surprisals_of(stream.task.surprisal, tokens, stream.parameter_vector)
        is_scored = target != IGNORED
        # Nothing predicts the first token, unless a sentence stands before it.
        if not stream.task.is_text:
            is_scored[:1] = False
        sums[row], counts[row] = out[is_scored].sum(), is_scored.sum()

    # A mean over tokens is a ratio of two means over rows.
    mean = sums.sum() / counts.sum()
    residuals = sums - mean * counts  # [rows]
    error = residuals.std(ddof=1) / np.sqrt(ROWS_OF_LAW) / counts.mean()
    return BayesLoss(float(mean), float(error))


def only_regular_tokens(
    body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str | None:
    """Check the row of most tasks: every id of the body is a regular token."""
    last = vocabulary.first_regular + vocabulary.regular_count - 1
    other = body[(body < vocabulary.first_regular) | (body > last)]
    if len(other):
        return f"id {other[0]} is no regular token ({vocabulary.first_regular}..{last})."
    return None


def same_length(parameters: Parameters) -> tuple[int, int]:
    """Return the bounds of most tasks: body and target have at most max_length tokens."""
    return parameters["max_length"], parameters["max_length"]


def nothing_to_check(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters of most tasks, beyond their lengths: nothing."""
    return None


def any_length(parameters: Parameters) -> int:
    """Return the smallest max_length of most tasks: min_length itself."""
    return parameters["min_length"]


def one_regular_token(parameters: Parameters) -> int:
    """Return how many regular tokens most tasks need."""
    return 1
