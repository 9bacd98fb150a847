"""The loss of a run above the lowest one that its task allows.

Run: pytest tests/training/test_excess_loss.py
"""

import math

import pytest
from pretraining_runs import run_of

from hf_synpre.tasks.base import BayesLoss
from hf_synpre.training.excess_loss import answer_tokens, judge, lowest_loss
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_data import loss_positions
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import Vocabulary

PLAIN = Vocabulary.plain(64)
DYCK = {"task": "k_dyck", "parameters": {"length": 24, "types": 4}}
MANO = {"task": "mano", "parameters": {"max_operations": 2}}
BREVO = {"task": "brevo", "parameters": {"letters": 12, "max_nodes": 6}}
MQAR = {"task": "mqar", "parameters": {"length": 24, "keys": 3}}


def spec_of(training=None, **fields):
    return PretrainingSpec(training={"max_steps": 1} | (training or {}), **fields)


def test_a_run_says_how_far_its_loss_is_above_the_lowest(tmp_path, caplog):
    spec, model = run_of("gpt2 packed on mqar")
    result = pretrain(spec, model, tmp_path / "run")
    assert result["bayes_loss"] == 0.0
    assert result["excess_loss"] == result["curve"][-1]["loss"]
    assert result["loss_positions"] == "the tokens that the task scores"
    assert "mqar was not learnt: the loss" in caplog.text
    assert "above the lowest possible one, 0.00, where" in caplog.text


def test_a_task_that_was_learnt_is_not_warned_of(caplog, tmp_path):
    spec, model = run_of("t5 packed")
    spec.training["max_steps"] = 120
    result = pretrain(spec, model, tmp_path / "run")
    assert result["excess_loss"] < 0.2 * math.log(33)
    assert "was not learnt" not in caplog.text


def test_a_run_of_an_experiment_is_named_with_its_seed(caplog):
    spec, lowest = spec_of(**DYCK), BayesLoss(0.0, 0.0)
    assert not judge(spec, 9.0, lowest, PLAIN, speaks=True, title="pre-training a, seed 3")
    assert caplog.messages[-1].startswith("pre-training a, seed 3: k_dyck was not learnt: the loss")
    judge(spec, 9.0, lowest, PLAIN, speaks=True)
    assert caplog.messages[-1].startswith("k_dyck was not learnt: the loss")


def test_the_limit_counts_the_tokens_that_may_be_answers():
    cells = {"task": "eca", "parameters": {"width": 8, "steps": 3}}
    assert answer_tokens(spec_of(**cells), PLAIN) == 3  # two states and the separator
    assert answer_tokens(spec_of(**DYCK), PLAIN) == 8
    assert answer_tokens(spec_of(task="identity"), PLAIN) == PLAIN.regular_count


def test_the_limit_is_that_of_the_task_whatever_the_run_draws():
    wide = Vocabulary.plain(8000)
    for seed in (0, 1):
        one = spec_of(task="set", seed=seed, parameters={"max_length": 8, "min_length": 4})
        assert answer_tokens(one, wide) == wide.regular_count
    # Few answers stay few, and what the task says of itself counts. Rows do not show all 7,000.
    assert answer_tokens(spec_of(**DYCK), wide) == 8
    assert answer_tokens(spec_of(task="chomsky"), wide) == 2
    recurrent = {"task": "linear_rnn", "parameters": {"length": 8, "tokens": 7000}}
    assert answer_tokens(spec_of(**recurrent), wide) == 7000


@pytest.mark.parametrize(
    ("run", "objective", "expected"),  # where it is not known, why
    [
        ({"task": "set"}, "causal", 0.0),
        ({"task": "set"}, "seq2seq", 0.0),
        ({"task": "set", "loss_on": "all"}, "causal", "loss_on is all"),
        ({"task": "set"}, "mlm", "the objective mlm hides tokens at random"),
        ({"task": "lime"}, "seq2seq", "nobody has computed the lowest possible loss of lime"),
        (MQAR, "mlm", 0.0),
        (MQAR, "seq2seq", 0.0),
        (MQAR | {"loss_on": "all"}, "causal", "loss_on is all"),
        (DYCK, "mlm", "the objective mlm hides tokens at random"),
        (DYCK, "seq2seq", "the objective seq2seq hides tokens at random"),
        ({"task": "uniform"}, "causal", math.log(49)),
        ({"task": "uniform"}, "mlm", "the objective mlm hides tokens at random"),
        (MANO, "causal", 0.0),
        (MANO, "seq2seq", 0.0),
        (BREVO | {"loss_on": "all"}, "causal", "loss_on is all"),
        (BREVO, "mlm", "the objective mlm hides tokens at random"),
        ({"corpus": "stdlib"}, "causal", "the lowest possible loss on text is not known"),
        (
            {"task": "set", "training": {"label_smoothing_factor": 0.1}},
            "causal",
            "label_smoothing_factor changes the loss",
        ),
    ],
)
def test_where_the_lowest_loss_is_known(run, objective, expected):
    loss = lowest_loss(spec_of(**run), objective, PLAIN)
    if isinstance(expected, str):
        assert loss.startswith(expected)
    else:
        assert loss.value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("run", "objective", "expected"),
    [
        ({"task": "set"}, "causal", "the target and its end"),
        ({"task": "set"}, "seq2seq", "the target and its end"),
        ({"task": "set", "loss_on": "all"}, "causal", "every token"),
        ({"task": "set"}, "mlm", "tokens that are masked at random"),
        (MQAR, "causal", "the tokens that the task scores"),
        (MQAR | {"loss_on": "all"}, "causal", "every token"),
        (MQAR, "mlm", "the tokens that the task scores, all masked"),
        (MQAR, "seq2seq", "the tokens that the task scores, all hidden"),
        (DYCK, "causal", "every token"),
        (DYCK, "seq2seq", "tokens that are hidden at random"),
        (DYCK, "rtd", "every token, original or replaced"),
        ({"corpus": "stdlib"}, "span_corruption", "tokens that are hidden at random"),
    ],
)
def test_positions_that_carry_loss_are_said(run, objective, expected):
    assert loss_positions(spec_of(**run), objective, PLAIN) == expected


def test_of_several_right_targets_the_lowest_loss_is_the_same_for_both_kinds_of_models():
    of_a_decoder, of_both = (
        lowest_loss(spec_of(**BREVO), one, PLAIN) for one in ("causal", "seq2seq")
    )
    assert of_a_decoder == of_both
    assert of_both.value > 0.01


def test_every_token_of_a_language_is_scored():
    targets = lowest_loss(spec_of(**DYCK), "causal", PLAIN)
    everywhere = lowest_loss(spec_of(**DYCK, loss_on="all"), "causal", PLAIN)
    assert targets == everywhere
    assert 0 < targets.value < math.log(8)
