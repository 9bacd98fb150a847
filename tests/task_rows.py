"""Rows of the synthetic tasks for tests: pairs, what the oracles say of them, statistics."""

import math

import numpy as np
import oracles

from hf_synpre.tasks import generate, get_task, list_tasks, open_stream
from hf_synpre.vocabulary import Vocabulary

TASKS = list_tasks()
# The tasks with a range of lengths: neither mixtures nor those whose lengths follow from other
# parameters.
RANGED = [name for name in TASKS if getattr(get_task(name), "lowest_max_length", None)]
SET_OPERATIONS = list(oracles.REFERENCE_ORDER)

SMALL = Vocabulary.plain(90)
SHORT = {"min_length": 10, "max_length": 30}


def pairs(task, start=0, stop=200, **settings):
    """Return rows of a task as (input ids, target ids)."""
    table = generate(task, start, stop, **settings)
    return list(zip(table["input_ids"].to_pylist(), table["labels"].to_pylist(), strict=True))


def flat_rows(task, indices, **settings):
    """Return rows as a stream gives them: (inputs, offsets, targets, offsets), flat."""
    return open_stream(task, **settings).rows(np.asarray(indices, np.int64))


def body_of(task, row, vocabulary):
    """Return a row without the ids of the task's name."""
    task = get_task(task)
    return row if task.components else row[len(task.prefix(vocabulary)) :]


def is_right(task, row, target, vocabulary):
    """Return whether a target is what the oracle says."""
    body = body_of(task, row, vocabulary)
    if task == "nonsense_summary":
        text = get_task(task).text
        summaries = oracles.summaries(text(body, vocabulary=vocabulary))
        return text(target, vocabulary=vocabulary) in summaries
    if task in oracles.ACCEPTS:
        return oracles.ACCEPTS[task](body, target, vocabulary)
    expected = oracles.ORACLES[task](body, vocabulary)
    return target == (expected or [vocabulary.special_ids["empty"]])


def lengths(task, rows=20_000, **settings):
    """Return the lengths of the first inputs and targets, and the flat inputs and targets."""
    x, x_ends, y, y_ends = flat_rows(task, range(rows), **settings)
    return np.diff(x_ends), np.diff(y_ends), x, y


def critical(freedom, z=4.0):
    """Return Wilson and Hilferty's chi-square quantile at z standard deviations (one in 30,000)."""
    return freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3


def chi_square(counts, expected):
    """Assert that counts are a sample of the expected ones."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < critical(len(counts) - 1)


def same_distribution(a, b, bins):
    """Assert that two samples of integers are alike: a chi-square over bins of their quantiles."""
    edges = np.unique(np.quantile(np.concatenate([a, b]), np.linspace(0, 1, bins + 1)))
    left, right = (np.histogram(sample, edges)[0] for sample in (a, b))
    scale = math.sqrt(len(b) / len(a))
    filled = left + right > 0
    statistic = ((left * scale - right / scale) ** 2 / (left + right))[filled].sum()
    assert statistic < critical(max(filled.sum() - 1, 1))
