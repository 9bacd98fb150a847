"""Targets that a tokenizer cannot spell, and targets that are cut: said before training.

Run: pytest tests/finetuning/test_spelling.py
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from small_models import TINY
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from hf_synpre import UsageError
from hf_synpre.finetuning import FinetuningSpec, finetune, get_finetuning_task, prepare
from hf_synpre.finetuning.spelling import Spelling, check_spelling, lost_characters, without_unknown
from hf_synpre.initialization import build
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.losses import teacher_forced
from hf_synpre.vocabulary import as_vocabulary


def words_tokenizer(*words, lower=False):
    """A tokenizer of whole words, which has no others."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def spelling(tokenizer, *targets, metric="exact_match"):
    ids = tokenizer(list(targets), add_special_tokens=False)["input_ids"]
    references = [[target] for target in targets]
    decode = partial(tokenizer.batch_decode, skip_special_tokens=True)
    return Spelling.of(decode, pa.table({"labels": ids, "references": references}), metric)


def test_targets_with_unknown_words_are_counted():
    tokenizer = words_tokenizer("▁int", "▁a")
    found = spelling(tokenizer, "int a", "int {", "{ a }")
    assert (found.rows, found.wrong_rows, found.ceiling) == (3, 2, pytest.approx(1 / 3))
    assert "a perfect model would score exact_match 0.333; it loses" in found.note()
    assert set(found.lost) >= {"{", "}"}
    with pytest.raises(UsageError, match=r"mine: the tokenizer cannot spell 2 of 3 .*'{'.*; give"):
        check_spelling("mine", found, accepted=False)
    check_spelling("mine", found, accepted=True)
    check_spelling("mine", spelling(tokenizer, "int a", "a {"), accepted=False)


def test_targets_that_change_without_an_unknown_word_count_too():
    """A tokenizer of lower case: exact match is lost, rouge is not."""
    tokenizer = words_tokenizer("▁int", "▁a", lower=True)
    assert spelling(tokenizer, "Int a").lost == ["I"]
    assert spelling(tokenizer, "Int a", metric="rouge1").wrong_rows == 0
    assert spelling(tokenizer, "", metric="rouge1").wrong_rows == 0  # no words, and rouge of 0
    assert lost_characters("a\nb", "a b") == {"\n"}
    assert lost_characters("a  b", "a b") == {" "}


def test_validation_counts_no_unknown_target_as_right():
    labels = np.array([[3, 4, 1], [3, 2, 1], [4, 1, -100]])
    predictions = labels.copy(), np.array([3.0, 2.0, 1.5])  # ids, and the loss of each row
    prediction = SimpleNamespace(predictions=predictions, label_ids=labels)
    tokenizer = words_tokenizer("a", "b")
    scored = without_unknown(teacher_forced, tokenizer)
    expected = {"loss": 6.5 / 8, "token_accuracy": 1.0, "score": pytest.approx(2 / 3)}
    assert scored(prediction) == expected
    assert teacher_forced(prediction)["score"] == 1

    # An unknown id that ends sequences too says nothing, and neither does a target without one
    tokenizer.unk_token = "</s>"
    assert without_unknown(teacher_forced, tokenizer) is teacher_forced


def test_cut_targets_are_in_the_result(tmp_path, tiny_dataset, caplog):
    task = get_finetuning_task("mtop", max_target=4)
    data = prepare(task, tmp_path / "data", data_dir=str(tiny_dataset), vocab_size=400)
    config = ModelSpec(overrides=TINY).config(as_vocabulary(data.tokenizer))
    spec = FinetuningSpec({"max_steps": 1, "use_cpu": True}, 1, 8, 8)
    model = build(AutoModelForSeq2SeqLM, config, {}, 0)
    outcome = finetune(model, data, spec, seed=0, output_dir=tmp_path / "model")
    (note,) = outcome["notes"]
    assert note.startswith("targets of more than 4 ids are cut (max_target): 100.0% of train")
    assert note in caplog.text
