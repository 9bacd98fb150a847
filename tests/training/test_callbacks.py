"""Warnings about a pre-training that diverges, from the metrics of its evaluations.

Run: pytest tests/training/test_callbacks.py
"""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from hf_synpre.initialization import build
from hf_synpre.training.callbacks import divergence_warnings


def evaluation(balanced_accuracy, replaced_recall, loss=1.0):
    """Return the metrics of one evaluation of a pair."""
    return {
        "loss": loss,
        "generator_loss": loss,
        "balanced_accuracy": balanced_accuracy,
        "replaced_recall": replaced_recall,
    }


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (
            [evaluation(0.5, 0.0), evaluation(0.8, 0.7), evaluation(0.5, 0.0)],
            "collapsed: balanced accuracy 0.500 after 0.800",
        ),
        ([evaluation(0.5, 0.0)] * 3, "still calls every token original"),
        ([evaluation(0.7, 0.5, 1.0), evaluation(0.7, 0.5, 2.5)], "risen by more than 1 nat"),
        ([evaluation(0.7, 0.5, float("nan"))], "not finite"),
        ([evaluation(0.5, 0.0), evaluation(0.7, 0.5)], None),
        ([{"loss": 3.0}, {"loss": 2.0}], None),
    ],
)
def test_divergence_warnings(curve, message):
    warnings = divergence_warnings(curve)
    if message is None:
        assert not warnings
    else:
        assert message in warnings[0]


def test_the_best_weights_are_the_ones_kept(tiny_config):
    from types import SimpleNamespace

    from hf_synpre.training.callbacks import BestModel

    model = build(AutoModelForSeq2SeqLM, tiny_config, {}, 0)
    best = BestModel(lambda: {"tokens": 1, "flops": 1})
    for step, accuracy in enumerate((0.2, 0.9, 0.5)):
        with torch.no_grad():
            model.shared.weight.fill_(step)
        metrics = {"eval_loss": 1.0, "eval_token_accuracy": accuracy, "eval_score": 0.0}
        best.on_evaluate(None, SimpleNamespace(global_step=step), None, metrics, model=model)
    assert best.weights["shared.weight"].unique().tolist() == [1.0]
    assert [point["step"] for point in best.curve] == [0, 1, 2]
