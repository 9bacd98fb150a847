"""When a pre-training is evaluated, on how many examples, what that costs, and its exact loss.

Run: pytest tests/training/test_evaluations.py
"""

from types import SimpleNamespace

import pytest
from encoder_examples import ELECTRA, spec_of
from pretraining_runs import run_of

from hf_synpre.config import build_spec
from hf_synpre.models.families import model_family
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.evaluations import plan_evaluations, warn_of_costly_evaluations
from hf_synpre.training.presets import PRESETS
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.pretraining_data import open_rows
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.vocabulary import as_vocabulary


def plan(caplog, steps, rows, **given):
    """Return (eval_steps, examples, logged line) of a run of `steps` steps of `rows` examples."""
    given = {"task": "set", "training": {}, **given}
    given["training"] = {"max_steps": steps, **given["training"]}
    spec = build_spec(PretrainingSpec, given, "here")
    args = SimpleNamespace(
        train_batch_size=rows, gradient_accumulation_steps=1, world_size=1, max_steps=steps
    )
    caplog.clear()
    planned = plan_evaluations(spec, args)
    assert not caplog.text  # a run may still be refused
    warn_of_costly_evaluations(planned, args)
    return args.eval_steps, planned.validation_examples, caplog.text


@pytest.mark.parametrize(
    ("steps", "rows", "planned"),
    [
        (2000, 64, (200, 512)),  # ten evaluations of 512 examples: what is usual
        (200, 64, (28, 512)),  # seven
        (20, 64, (20, 384)),  # one, of a tenth of 3 x 20 x 64
        (1, 8, (1, 64)),  # the fewest
    ],
)
def test_evaluations_cost_at_most_a_tenth_of_the_training(steps, rows, planned, caplog):
    *numbers, line = plan(caplog, steps, rows)
    assert tuple(numbers) == planned
    assert ("% of what the training costs" in line) == (steps == 1)


def test_what_is_given_by_hand_is_obeyed_and_its_cost_is_said(caplog):
    steps, examples, line = plan(caplog, 20, 64, evaluations=5, validation_examples=500)
    assert (steps, examples) == (4, 500)
    assert "5 evaluations of 500 examples cost about 65 % of what the training costs" in line

    line = plan(caplog, 20, 64, evaluations=1, validation_examples=500)[2]
    assert "1 evaluation of 500 examples cost" in line

    # What is not given still gives way.
    assert plan(caplog, 20, 64, evaluations=5)[:2] == (4, 76)
    assert plan(caplog, 20, 64, training={"eval_steps": 10})[:2] == (10, 192)
    assert plan(caplog, 20, 64, training={"eval_steps": 0.25})[:2] == (0.25, 96)
    assert plan(caplog, 200, 64, validation_examples=1024)[:2] == (66, 1024)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_as_they_are_stay_below_a_tenth(preset, caplog):
    fields = PRESETS[preset]
    source = {"corpus": "stdlib"} if "text" in fields else {"task": "set"}
    spec = build_spec(PretrainingSpec, {**source, "preset": preset}, "here")
    args = SimpleNamespace(
        train_batch_size=spec.batch_size or 64,
        gradient_accumulation_steps=1,
        world_size=1,
        max_steps=spec.training["max_steps"],
    )
    assert plan_evaluations(spec, args).validation_examples == spec.validation_examples
    warn_of_costly_evaluations(spec, args)
    assert args.eval_steps == pytest.approx(args.max_steps / spec.evaluations, rel=0.12)
    assert not caplog.text


def test_the_result_says_how_much_of_the_time_evaluations_took(tmp_path):
    result = pretrain(*run_of("t5 packed"), tmp_path / "run")
    assert result["eval_s"] > 0
    whole = result["train_s"] + result["wait_s"] + result["eval_s"]
    assert result["eval_share"] == pytest.approx(result["eval_s"] / whole, abs=1e-3)


@pytest.mark.parametrize("name", ["t5 packed", "gpt2 bucketed, all", "bert packed", "rtd"])
def test_the_loss_of_an_evaluation_does_not_depend_on_its_batches(
    name, tmp_path, labelled_corpus, encoder_tokenizer
):
    """Each target token counts as much, however many its batch has; also where logits are kept."""
    if name == "rtd":
        spec, model, corpus = spec_of("rtd"), ELECTRA, labelled_corpus
        vocabulary = as_vocabulary(encoder_tokenizer)
    else:
        (spec, model), corpus, vocabulary = run_of(name), None, as_vocabulary(48)

    losses = []
    for size, keeps_logits in ((64, False), (5, False), (5, True)):
        training = spec.training | {"per_device_eval_batch_size": size}
        args = training_arguments(tmp_path, training, save_strategy="no")
        network = fresh_model(spec, model, vocabulary)
        trainer = pretraining_trainer(spec, network, vocabulary, args, corpus)
        if keeps_logits:
            trainer.chunked_head = None
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


@pytest.mark.parametrize("name", ["t5 packed", "gpt2 bucketed, all", "bert packed"])
def test_the_rows_of_an_evaluation_come_by_length(name):
    """So that its batches have little padding."""
    spec, model = run_of(name)
    family = model_family(model.config(as_vocabulary(48)))
    rows = open_rows(spec, family, as_vocabulary(48), rows=8, batch_size=8).validation
    lengths = [len(row["input_ids"]) + len(row["labels"]) for row in rows]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 1
    assert len(rows) == spec.validation_examples
