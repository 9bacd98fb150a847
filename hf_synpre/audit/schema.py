"""The dicts of audit.json: what published laws give, and what rows hold. Ratios are fractions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, final

# --- what published laws give ---------------------------------------------------------------------


class Figure(TypedDict):
    """One number of a finding."""

    what: str
    value: float
    unit: Literal["", "%", "nats"]  # a value in % is written as a fraction
    # None: the number is exact.
    standard_error: float | None
    # How it was got: from how many rows or models, or "by the law".
    by: str


class Plot(TypedDict):
    """What the plot of a finding shows: a line or bars for each name of `series`.

    A value that is None is not drawn.
    """

    form: Literal["lines", "bars"]
    x: list[Any]
    series: Mapping[str, Sequence[float | None]]
    x_label: str
    y_label: str
    log_x: NotRequired[bool]
    log_y: NotRequired[bool]
    # A value at which a line is drawn, and what it is.
    reference: NotRequired[tuple[float, str]]


class Finding(TypedDict):
    """What a published law was taken for, and what it gives."""

    name: str
    title: str
    assumed: str
    figures: list[Figure]
    meaning: str
    source: str
    plot: Plot


@final
class LawAudit(TypedDict):
    """The content of audit.json where no rows were named."""

    findings: list[Finding]


# --- what rows hold -------------------------------------------------------------------------------


class Part(TypedDict):
    """One part of the rows of a split: inputs, answers, or sequences."""

    tokens: int
    shortest: int
    mean_length: float
    longest: int
    # Distinct tokens, and the entropies of a token alone and after the token before it, in nats.
    # The entropies are None where there are too few tokens for so many distinct ones.
    alphabet: int
    unigram_entropy: float | None
    bigram_entropy: float | None
    # Bytes after compression over bytes before, of the rows, and of uniform noise of the same
    # alphabet and length. None where there are no tokens.
    compressed: float | None
    compressed_noise: float | None


class Split(TypedDict):
    """The rows of a split."""

    rows: int
    all_rows: int | None  # how many there are; None for a task, which has no end
    distinct_rows: int
    parts: dict[str, Part]
    # Of rows with an answer: how many answers are copies of their input, are empty, and are the
    # commonest one; how many rows have an input that stands elsewhere with another answer.
    with_answer: int
    copied: int
    empty: int
    commonest: int
    contradicted: int


class Overlap(TypedDict):
    """How many rows of one split are rows of another one."""

    rows_of: str
    within: str
    rows: int
    shared: int


class Remark(TypedDict):
    """What a reader should worry about."""

    name: str
    text: str


class BayesLossFacts(TypedDict):
    """The lowest mean loss that any model can have, in nats per scored token."""

    value: float
    standard_error: float


@final
class RowAudit(TypedDict):
    """The content of audit.json for a task or a dataset."""

    data: str
    kind: Literal["task", "dataset"]
    unit: Literal["token", "byte"]
    # What was read: parameters and vocabulary of a task, columns of a dataset.
    read: dict[str, Any]
    splits: dict[str, Split]
    overlaps: list[Overlap]
    bayes_loss: BayesLossFacts | None
    remarks: list[Remark]
