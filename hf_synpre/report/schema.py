"""The dicts of reports, a comment for each key: a cell's file, an estimate, report.json."""

from typing import Any, NotRequired, Required, TypedDict

import numpy as np

# The two arms that every other one is compared with.
RANDOM = "random"  # fine-tuned from random initial weights
NATURAL = "natural"  # fine-tuned from weights that were pre-trained on natural text


# What the validation curves of text-to-text tasks show, in the place of a metric: the share of rows
# whose every token is right when each is predicted after the right ones before it.
TEACHER_FORCED = "teacher-forced exact match"


class CurvePoint(TypedDict, total=False):
    """One evaluation during fine-tuning."""

    step: Required[int]  # optimizer steps taken
    score: Required[float]  # validation score, in the task's metric
    tokens: int  # tokens trained on so far, without padding
    flops: float  # FLOPs of fine-tuning so far


class CellResult(TypedDict, total=False):
    """A cell, one fine-tuning run of an arm on a task under a seed, as `read_cells` returns it."""

    format: Required[int]  # version of the file format
    experiment: Required[str]  # name of the experiment
    task: Required[str]  # name of the downstream task
    arm: Required[str]  # name of the arm: how the model was initialised
    seed: Required[int]  # seed of the fine-tuning run
    pretraining_seed: int  # what was added to the seed of its pre-training run; absent for 0
    status: Required[str]  # "done" or "failed"
    error: str | None  # why it failed
    metric: str  # name of the metric that `score` is in
    higher_is_better: bool
    score: Any  # test score of the checkpoint that validation chose; None where the cell failed
    scores: dict[str, float] | None  # every metric of the test split, `metric` among them
    validation_score: float | None  # validation score of that checkpoint
    notes: list[str]  # what must be known beside the scores, a sentence each
    test_examples: int | None  # how many test examples were scored
    example_scores: np.ndarray  # float64[test examples], scores in 0..1 whose mean is `score`
    probabilities: np.ndarray  # float64[test examples * labels], for labelled tasks
    truths: list[int]  # the right label of each test example, for labelled tasks
    curve: list[CurvePoint] | None  # evaluations during fine-tuning
    data: dict[str, Any] | None  # tokenizer, Hub id, labels, and rows and sha256 of each split
    weights: dict[str, Any]  # how many tensors came from the checkpoint, and which did not
    phases: dict[str, Any] | None  # cost of "pretraining" (None without one) and "finetuning"
    embeddings: str | None  # "fresh" or "kept": whether token embeddings came from the checkpoint
    config: dict[str, Any]  # specs of the arm, the task, the model and fine-tuning
    schedule: dict[str, Any]  # the highest learning rate, the type, warm-up and steps, as planned
    learning_rates: list[dict[str, Any]]  # the rates that were tried, with their best evaluations
    initial_scale: float  # the factor of the random weights of the layers, where the arm has one
    versions: dict[str, str] | None  # versions of the libraries and the commit
    device: str  # what it was computed on: cpu and its architecture, or the name of a GPU
    threads: int  # threads of a CPU; another number of them sums in another order
    wall_s: float  # seconds that the whole cell took
    file: str  # name of the cell's file
    sha256: str  # digest of the file's bytes


# The finished cells of one task (or of all), by arm, in the order of the report.
ByArm = dict[str, list[CellResult]]


class LeftOut(TypedDict):
    """A file of the folder that is no cell that could be used."""

    file: str
    reason: str
    remedy: str  # what to do about it


class Estimate(TypedDict):
    """A number with its 95 % interval, in the unit of the scores that it was made of."""

    value: float | None  # None where nothing can be said; `note` says why
    low: float | None  # lower end of the interval, None where there is none
    high: float | None  # upper end
    note: str | None  # a caveat, or the reason for a missing value
    se: NotRequired[float | None]  # standard error, None for one seed
    n: NotRequired[int]  # number of cells: of seeds, or of both kinds of seeds multiplied
    grid: NotRequired[list[int]]  # numbers of pre-training and fine-tuning seeds, of several
    df: NotRequired[float]  # degrees of freedom of the error over seeds, where there is a grid
    waiting: NotRequired[int]  # cells that are left out until their grid of seeds is complete
    se_seeds: NotRequired[float]  # the part of `se` that comes from seeds
    seeds: NotRequired[list[int]]  # the seeds of a score
    paired: NotRequired[bool]  # whether a difference was paired by seed
    excludes_zero: NotRequired[bool]  # whether a difference's interval leaves zero out


class TaskSummary(TypedDict):
    """What the cells of a task have in common."""

    metric: str | None  # None where no cell is finished
    higher_is_better: bool | None
    unit: str | None  # "%" for metrics that are fractions, else the metric's name
    test_examples: list[int]  # distinct sizes of the test split
    curve_score: str | None  # what validation curves show: TEACHER_FORCED or the metric
    covers_examples: bool  # whether intervals cover the choice of test examples beside seeds
    hub_id: list[str]  # where the rows came from on the Hub, if they did


class Curve(TypedDict):
    """The mean validation score of an arm on a task, one entry an evaluation."""

    step: list[int]
    seeds: int  # how many cells it is the mean of
    interpolated: NotRequired[bool]  # whether the cells were interpolated at common steps
    mean: list[float]
    low: list[float]  # end of the t-interval over seeds; with one or two seeds the lowest score
    high: list[float]
    flops: NotRequired[list[float]]  # mean FLOPs so far, pre-training included


class Control(TypedDict):
    """A control of equal compute beside an arm that had a pre-training."""

    arm: str  # the control: a random start whose fine-tuning got the FLOPs of a pre-training too
    flops_of: str  # the pre-training run that it matches
    against: str  # the best of the arms that start from that run
    lead: Estimate  # score of the control - score of that arm


class Finding(TypedDict):
    """What one task's scores say; numbers are in the metric's unit, fractions as fractions."""

    best: str  # the arm with the best mean score
    runner_up: str | None  # the next best arm
    lead: Estimate | None  # score of the best - score of the next best
    controls: list[Control]
    pretrained: bool  # whether any arm had a pre-training


class Benefit(TypedDict):
    """How much of natural's gain over random an arm reaches, as a share."""

    tasks: dict[str, Estimate]
    mean_of_ratios: Estimate  # mean of the shares of the tasks
    ratio_of_means: Estimate  # mean gain over mean gain of natural


class GainMatrix(TypedDict):
    """Gains of arms on tasks; they are shown multiplied by `scale`."""

    unit: str  # "% of natural's gain", of the reference arm's, or "points over random"
    scale: int
    gains: dict[str, dict[str, Estimate | None]]  # arm -> task -> gain
    means: dict[str, float | None]  # arm -> mean over tasks
    mean_estimates: dict[str, Estimate | None]  # the same with its interval


class Pair(TypedDict):
    """Two arms on one task, as an ensemble: means over the seeds that both have."""

    arms: list[str]
    seeds: int  # number of pairs of cells
    ensemble: float  # accuracy of the averaged probabilities
    better: float  # accuracy of the better one of the two
    both_wrong: float  # share of examples that neither has right
    one_right: float  # share of examples that exactly one has right


class Transfer(TypedDict):
    """What labelled tasks add to a report."""

    matrix: GainMatrix
    ensembles: dict[str, list[Pair]]  # task -> pairs of arms


class Recipe(TypedDict):
    """How an arm was fine-tuned on a task; lists hold distinct values, of all its cells."""

    rates: list[float]  # the highest learning rates of its cells
    tried: list[float]  # the grid that a rate was chosen from; [] without one
    edge: str | None  # "lowest" or "highest" where the rate is at that end of the grid
    schedules: list[str]
    steps: list[int]  # where the schedules end
    cut_short: int  # cells whose last evaluation is before that
    matches_flops: bool  # whether the arm got the FLOPs of a pre-training as further steps
    budget: NotRequired[float]  # how many times as many steps as the recipe has, unless 1
    is_random_too: NotRequired[bool]  # an arm of random weights, as random itself
    scale: NotRequired[float]  # the factor of its random weights, where it has one
    scale_edge: NotRequired[str]  # "lowest" or "highest" where the factor is at that end of a grid


class Fairness(TypedDict):
    """What speaks against the comparison of an arm with random on a task, in words."""

    refused: list[str]  # for each reason no claim is made
    caveats: list[str]


class Exchange(TypedDict):
    """How many natural tokens an arm saves on a task of language modelling; see exchange.py."""

    reached: int  # seeds that reached the final loss of the random start of the same seed
    seeds: int
    natural: Estimate  # natural tokens until then, over those of random
    with_synthetic: Estimate  # the same with the tokens of the arm's pre-training
    net_gain: Estimate  # the share of random's FLOPs that is saved, pre-training paid
    crossover: float | None  # natural tokens from which random is ahead again
    controls: list[str]  # control arms that it does not beat


class Origin(TypedDict):
    """The cells that were computed with one version, on one device or with so many threads."""

    cells: int
    arms: list[str]


class Crossing(TypedDict):
    """Where the line of a start and random's cross over total FLOPs, by their mean scores."""

    first: float  # FLOPs from which both lines are known
    last: float  # FLOPs up to which they are
    at: list[float]  # FLOPs at which they cross
    ahead_at_first: bool | None  # whether the start is first the better one; None if never apart


class Compute(TypedDict):
    """The scores of a task over total FLOPs; see compute.py."""

    flops: dict[str, float]  # arm -> mean FLOPs of pre-training and fine-tuning
    pretraining: dict[str, float]  # arm -> those of pre-training alone
    lines: dict[str, list[str]]  # name -> arms of one start, by rising FLOPs
    differences: dict[str, Estimate]  # arm -> its score less that of random's line at its FLOPs
    crossings: dict[str, Crossing | None]  # line -> where it crosses random's


class Report(TypedDict):
    """The content of report.json: every number of a report, fractions as fractions."""

    format: int
    experiment: str
    arms: list[str]  # random first, the reference last
    reference: str  # the arm whose gain over random is 100 % of a benefit
    tasks: dict[str, TaskSummary]
    scores: dict[str, dict[str, Estimate]]  # task -> arm -> mean test score
    beside: dict[str, dict[str, dict[str, Estimate]]]  # task -> other metric -> arm -> mean
    differences: dict[str, dict[str, Estimate]]  # task -> arm -> difference to random
    benefits: dict[str, Benefit]  # arm -> its share of natural's gain
    curves: dict[str, dict[str, Curve]]  # task -> arm -> validation scores
    phases: dict[str, dict[str, dict[str, Any] | None]]  # arm -> phase -> mean cost of its runs
    findings: dict[str, Finding]  # task -> which arm is best; without tasks of no finished cell
    embeddings: dict[str, list[str]]  # arm -> "fresh" or "kept"
    versions: dict[str, list[str]]  # library -> its versions
    origins: dict[str, dict[str, Origin]]  # library, device, threads -> value -> its cells
    recipes: dict[str, dict[str, Recipe]]  # task -> arm -> how it was fine-tuned
    fairness: dict[str, dict[str, Fairness]]  # task -> arm -> doubts; arms without any are left out
    failed: list[dict[str, Any]]  # file, task, arm, seed and error of each failed cell
    left_out: list[LeftOut]  # files that were no usable cells
    cells: list[dict[str, Any]]  # file, sha256, status and scores of each cell
    compute: dict[str, Compute]  # task -> its scores over total FLOPs, where they are known
    constant: NotRequired[dict[str, dict[str, int]]]  # task -> arm -> cells with one prediction
    unlearnt: NotRequired[dict[str, dict[str, str]]]  # task -> arm -> a run that had not learnt
    transfer: NotRequired[Transfer]  # for labelled tasks
    exchange: NotRequired[dict[str, dict[str, Exchange]]]  # language modelling: task -> arm -> rate
