"""Cells of one task -> the differences between two of its arms."""

from collections.abc import Callable

import numpy as np

from hf_synpre.report.intervals import difference
from hf_synpre.report.schema import ByArm, CellResult, Estimate
from hf_synpre.report.seeds import Seeds, seeds_of


def stack_examples(cells: list[CellResult]) -> np.ndarray | None:
    """Return scores of single examples, [cells, examples]; None unless all cells have as many."""
    examples = [cell.get("example_scores") for cell in cells]
    known = [scores for scores in examples if scores is not None]
    if not known or len(known) < len(cells) or len({len(scores) for scores in known}) > 1:
        return None
    return np.array(known)


def examples_are_known(by_arm: ByArm) -> bool:
    """Say whether all cells of a task have scores of the same examples."""
    return stack_examples([cell for group in by_arm.values() for cell in group]) is not None


def comparison(by_arm: ByArm, means: dict[str, Estimate]) -> Callable[[str, str], Estimate]:
    """Return the function of two arms that gives the difference between their mean scores.

    Args:
        by_arm: the cells of a task.
        means: arm -> its mean score on the task.
    """
    scores = {arm: {seeds_of(c): c["score"] for c in group} for arm, group in by_arm.items()}
    examples: dict[str, dict[Seeds, np.ndarray]] = {}
    if examples_are_known(by_arm):
        for arm, group in by_arm.items():
            examples[arm] = {seeds_of(c): c["example_scores"] for c in group}

    def compare(one: str, other: str) -> Estimate:
        return difference(
            scores[one],
            scores[other],
            examples.get(one),
            examples.get(other),
            (means[one], means[other]),
        )

    return compare
