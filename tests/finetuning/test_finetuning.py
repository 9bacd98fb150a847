"""Fine-tuning: generation beside transformers' own, early stopping, the test split read last.

Run: pytest tests/finetuning/test_finetuning.py
"""

import pytest
import torch
from small_models import TINY
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from hf_synpre.errors import UsageError
from hf_synpre.finetuning import (
    HEADS,
    FinetuningSpec,
    PreparedTask,
    catalog,
    finetune,
    get_finetuning_task,
    prepare,
)
from hf_synpre.finetuning.finetuning import finetuning_trainer
from hf_synpre.finetuning.text_head import TextHead
from hf_synpre.finetuning.text_to_text import generate_ids
from hf_synpre.initialization import build
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.callbacks import BestModel
from hf_synpre.vocabulary import as_vocabulary


@pytest.fixture(scope="module")
def mtop(tmp_path_factory, tiny_dataset):
    folder = tmp_path_factory.mktemp("mtop")
    return prepare(
        get_finetuning_task("mtop", max_target=48),
        folder / "data",
        data_dir=str(tiny_dataset),
        vocab_size=400,
    )


def fresh(data, seed=0):
    config = ModelSpec(overrides=TINY).config(as_vocabulary(data.tokenizer))
    return build(AutoModelForSeq2SeqLM, config, {}, seed)


@pytest.mark.parametrize("beams", [1, 2])
def test_generation_is_that_of_transformers(mtop, beams, tmp_path):
    """Rows of the model end at different steps: batches shrink, and the order of the rows stays."""
    model, rows = fresh(mtop), mtop.rows("test")

    # Weights large enough that what comes next differs from row to row, and ends come soon
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        model.shared.weight[1] *= 3

    spec = FinetuningSpec({"max_steps": 1, "use_cpu": True})
    collate = finetuning_trainer(model, mtop, spec, 0, tmp_path).data_collator
    generated = generate_ids(model, rows, collate, limit=12, batch_size=16, num_beams=beams)

    # transformers' generation, each row alone
    expected = []
    for i in range(len(rows)):
        batch = collate([rows[i]])
        ids = model.generate(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=12,
            num_beams=beams,
        )
        ids = ids[0, 1:].tolist()
        expected.append(ids[: ids.index(1)] if 1 in ids else ids)
    assert len({len(ids) for ids in generated}) > 2, "the rows end together: nothing shrinks"
    assert generated == expected


def test_patience_ends_a_run_that_gets_no_better():
    from types import SimpleNamespace

    best, control = (
        BestModel(lambda: {"tokens": 1, "flops": 1}, patience=2),
        SimpleNamespace(should_training_stop=False),
    )
    stopped = []
    for step, accuracy in enumerate((0.2, 0.5, 0.5, 0.4)):
        metrics = {"eval_loss": 1.0, "eval_token_accuracy": accuracy, "eval_score": 0.0}
        state = SimpleNamespace(global_step=step)
        best.on_evaluate(
            SimpleNamespace(max_steps=9), state, control, metrics, model=torch.nn.Linear(1, 1)
        )
        stopped.append(control.should_training_stop)
    assert stopped == [False, False, False, True]
    assert best.stopped == "patience"


def test_the_test_split_is_read_once_and_last(mtop, tmp_path, monkeypatch):
    seen, rows, evaluated = [], PreparedTask.rows, BestModel.on_evaluate
    monkeypatch.setattr(
        PreparedTask, "rows", lambda self, *a, **k: seen.append(a[0]) or rows(self, *a, **k)
    )
    monkeypatch.setattr(
        BestModel, "on_evaluate", lambda *a, **k: seen.append("evaluated") or evaluated(*a, **k)
    )
    training = {"max_steps": 4, "use_cpu": True, "per_device_train_batch_size": 8}
    outcome = finetune(
        fresh(mtop), mtop, FinetuningSpec(training, 2, 8, 8), seed=0, output_dir=tmp_path
    )
    assert seen == ["train", "validation", "evaluated", "evaluated", "test"]
    assert outcome["spent"]["stopped"] == "budget"
    assert {"validation_s", "test_s", "flops"} <= outcome["spent"].keys()


class EncoderHead(TextHead):
    """One more kind of answer to text-to-text tasks: that of encoders."""

    model_class = AutoModelForMaskedLM

    def accepts_config(self, config):
        return config.model_type == "bert"


def test_a_new_kind_of_head_is_one_object_in_one_table(mtop, monkeypatch):
    encoder_decoder = ModelSpec(overrides=TINY).config(as_vocabulary(mtop.tokenizer))
    encoder = ModelSpec("bert").config(as_vocabulary(mtop.tokenizer))
    with pytest.raises(UsageError, match="and bert is neither an encoder-decoder nor a decoder"):
        mtop.head_for(encoder)

    monkeypatch.setattr(catalog, "HEADS", (*HEADS, EncoderHead()))
    assert mtop.head_for(encoder).model_class is AutoModelForMaskedLM
    assert mtop.head_for(encoder_decoder).model_class is AutoModelForSeq2SeqLM
