"""Results of experiments in a model's folder -> the scores of its card, after fine-tuning."""

from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult

from hf_synpre.digits import write_number
from hf_synpre.report import summarize
from hf_synpre.report.schema import CellResult, Estimate

# Keys of pretraining.json that a result file repeats. If all are equal, the result's fine-tuning
# started from this run.
RUN_IDENTITY = ("tokens", "flops", "accuracy", "train_s")


@dataclass(frozen=True)
class Score:
    """The test score of one arm on one task, over the seeds of an experiment."""

    experiment: str
    task: str
    arm: str
    init: str | None  # initialization of the arm: random, weights or statistics
    metric: str | None  # None where no fine-tuning is finished
    estimate: Estimate  # mean over seeds, without an interval for one seed
    from_this_run: bool  # whether the arm's fine-tuning runs started from the model of the card


def experiment_scores(cells: list[CellResult], run: dict[str, Any]) -> list[Score]:
    """Return the score of every task and arm of an experiment.

    Args:
        cells: the result files of the experiment's fine-tuning runs.
        run: the content of the model folder's pretraining.json; {} where there is none.
    """
    report = summarize(cells)
    scores = []
    for task, arms in report["scores"].items():
        for arm, estimate in arms.items():
            finished = [
                cell
                for cell in cells
                if (cell["task"], cell["arm"], cell["status"]) == (task, arm, "done")
            ]
            arm_config = (finished[0].get("config") or {}).get("arm") or {}
            score = Score(
                experiment=report["experiment"],
                task=task,
                arm=arm,
                init=arm_config.get("init"),
                metric=report["tasks"][task]["metric"],
                estimate=estimate,
                from_this_run=started_from(run, finished),
            )
            scores.append(score)
    return scores


def started_from(run: dict[str, Any], cells: list[CellResult]) -> bool:
    """Say whether the fine-tuning runs of all cells started from a pre-training run."""
    if not run.get("tokens"):
        return False
    for cell in cells:
        pretraining = (cell.get("phases") or {}).get("pretraining") or {}
        if any(pretraining.get(key) != run.get(key) for key in RUN_IDENTITY):
            return False
    return True


def model_index_entry(score: Score) -> EvalResult:
    """Return a score as an entry of the card's model index, which says that it was fine-tuned."""
    if score.init == "weights":
        start = "these weights"
    else:
        start = "weights sampled from these statistics"

    # A score is made of finished fine-tuning runs, which have a metric and a value.
    estimate = score.estimate
    assert score.metric is not None
    assert estimate["value"] is not None

    interval = ""
    low, high = estimate["low"], estimate["high"]
    if low is not None and high is not None:
        interval = f", 95 % interval {write_number(low, 4)} to {write_number(high, 4)}"

    return EvalResult(
        task_type="text2text-generation",
        task_name=f"{score.task}, fine-tuned from {start}",
        dataset_type=score.task,
        dataset_name=score.task,
        dataset_split="test",
        metric_type=score.metric,
        metric_name=f"{score.metric}, mean of {estimate['n']} fine-tunings{interval}",
        metric_value=float(write_number(estimate["value"], 4)),
        verified=False,
    )
