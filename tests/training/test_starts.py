"""Pre-training that starts from a checkpoint: its weights are loaded, or refused.

Run: pytest tests/training/test_starts.py
"""

from dataclasses import replace

import pytest
import torch
from encoder_examples import ELECTRA, ROBERTA, SHAPE, spec_of
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from hf_synpre import UsageError
from hf_synpre.data.tokenizers import train_encoder_tokenizer
from hf_synpre.initialization import build
from hf_synpre.initialization.embedding_policy import check_ids
from hf_synpre.models.pretrained_weights import take_weights
from hf_synpre.training.pretraining import pretrain
from hf_synpre.vocabulary import as_vocabulary


def test_a_run_goes_on_from_another(tmp_path, labelled_corpus, encoder_tokenizer):
    first = pretrain(
        spec_of("rtd"),
        ELECTRA,
        tmp_path / "first",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
    )
    none = {"max_steps": 1, "learning_rate": 1e-12}
    spec = spec_of("rtd", start="first", training=none)
    second = pretrain(
        spec,
        ELECTRA,
        tmp_path / "second",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
        start=tmp_path / "first",
    )
    one, two = (
        AutoModelForTokenClassification.from_pretrained(tmp_path / name).electra
        for name in ("first", "second")
    )
    for (name, p), q in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name, atol=1e-6, rtol=1e-5)
    for name, head in (("", AutoModelForPreTraining), ("generator", AutoModelForMaskedLM)):
        before, after = (
            head.from_pretrained(tmp_path / run / name).state_dict() for run in ("first", "second")
        )
        for key in before:
            torch.testing.assert_close(before[key], after[key], msg=key, atol=1e-6, rtol=1e-5)
    assert second["before"] == {"tokens": first["tokens"], "flops": first["flops"]}
    head = build(
        AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(encoder_tokenizer)), {}, 3
    )
    fresh = head.get_input_embeddings().weight.clone()
    report = take_weights(head, tmp_path / "first", "fresh")
    assert torch.equal(head.get_input_embeddings().weight, fresh)
    assert torch.equal(
        head.electra.encoder.layer[1].output.dense.weight, one.encoder.layer[1].output.dense.weight
    )
    assert report.missing == ()
    assert report.fresh == ("embeddings.word_embeddings.weight",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("other", "has shape"),
        ("roberta", "is a roberta, the model a electra"),
        ("nothing", "There is no folder"),
        ("cut", "is not a complete safetensors file"),
        ("broken", "holds numbers that are not finite"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(source, message, tmp_path, encoder_tokenizer):
    build(
        AutoModelForMaskedLM, AutoConfig.for_model("electra", **SHAPE | {"vocab_size": 99}), {}, 0
    ).save_pretrained(tmp_path / "other")
    build(
        AutoModelForMaskedLM, ROBERTA.config(as_vocabulary(encoder_tokenizer)), {}, 0
    ).save_pretrained(tmp_path / "roberta")
    model = build(
        AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(encoder_tokenizer)), {}, 0
    )
    model.save_pretrained(tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    nan = build(
        AutoModelForSequenceClassification, ELECTRA.config(as_vocabulary(encoder_tokenizer)), {}, 0
    )
    nan.electra.encoder.layer[0].output.dense.weight.data[0, 0] = float("nan")
    nan.save_pretrained(tmp_path / "broken")
    with pytest.raises(UsageError, match=message):
        take_weights(model, tmp_path / source)


def test_embeddings_are_not_kept_under_other_ids(tmp_path, labelled_corpus, encoder_tokenizer):
    pretrain(
        spec_of("mlm", training={"max_steps": 1}),
        ELECTRA,
        tmp_path / "first",
        tokenizer=encoder_tokenizer,
        corpus=labelled_corpus,
    )
    check_ids(tmp_path / "first", encoder_tokenizer)
    other = train_encoder_tokenizer(
        ["quite other words for quite other ids"] * 9, len(encoder_tokenizer)
    )
    spec = spec_of("mlm", start=str(tmp_path / "first"), training={"max_steps": 1})
    with pytest.raises(
        UsageError,
        match=r'for the ids of another tokenizer; .* or embeddings "fresh"',
    ):
        pretrain(spec, ELECTRA, tmp_path / "second", tokenizer=other, corpus=labelled_corpus)
    fresh = replace(spec, start_embeddings="fresh")
    pretrain(
        fresh,
        ELECTRA,
        tmp_path / "third",
        tokenizer=other,
        corpus=labelled_corpus,
        start=tmp_path / "first",
    )
