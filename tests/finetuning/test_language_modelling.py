"""Language modelling as a downstream task: windows, bits per byte, corpora, what is refused.

Run: pytest tests/finetuning/test_language_modelling.py
"""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from headed_models import tiny_model, write_corpus
from small_models import DECODER, DECODERS
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_synpre.errors import UsageError
from hf_synpre.finetuning import (
    FinetuningSpec,
    LanguageTask,
    choose_task,
    finetune,
    get_finetuning_task,
    prepare,
    task_from_fields,
)
from hf_synpre.finetuning.language_head import WindowRows
from hf_synpre.models.spec import ModelSpec
from hf_synpre.vocabulary import as_vocabulary

EOS = 1
TEXTS = {
    "train": ["to be or not to be, that is the question", "été " * 30, "a b c d e f g"] * 6,
    "validation": ["the question is not to be", "d"],
    "test": ["not to be or to be", "ünï", ""],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("plays"), TEXTS)


@pytest.fixture(scope="module")
def data(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return prepare(
        LanguageTask("plays", max_source=16), folder / "data", data_dir=str(corpus), vocab_size=300
    )


def fresh(data, **fields):
    return tiny_model(data, "llama", DECODERS["llama"] | fields)


def nats(model, ids):
    """Return the negative log-likelihood of ids[1:] after ids[:1]."""
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0]
    targets = torch.tensor(ids[1:], dtype=torch.int64)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()


def test_text_that_the_tokenizer_does_not_know_is_said(corpus, tmp_path, caplog):
    known = ["</s>", "<pad>", "?", "the", *(f"word{i}" for i in range(20))]
    ids = {token: i for i, token in enumerate(known)}
    words = Tokenizer(models.WordLevel(ids, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="?", pad_token="<pad>", eos_token="</s>"
    )
    tokenizer.save_pretrained(tmp_path / "words")
    data = prepare(
        LanguageTask("plays", max_source=16),
        tmp_path / "data",
        data_dir=str(corpus),
        tokenizer=str(tmp_path / "words"),
    )
    training = {"max_steps": 1, "per_device_train_batch_size": 2}
    outcome = finetune(fresh(data), data, FinetuningSpec(training), seed=0, output_dir=tmp_path)
    # "the question is not to be" and "d" are seven words and two ends; "the" is known.
    (note,) = outcome["notes"]
    assert "66.7% of the validation ids are the tokenizer's unknown id" in note
    assert note in caplog.text


def test_every_id_is_predicted_once():
    documents = pa.chunked_array([pa.array([[5, 6, 7], [], [8]], pa.list_(pa.int32()))])
    rows = WindowRows(documents, np.array([3, 0, 1]), EOS, length=3)
    assert rows.ids.tolist() == [EOS, 5, 6, 7, EOS, EOS, 8, EOS]
    assert (len(rows), rows.targets, rows.bytes) == (3, 7, 4)
    assert [rows[k]["labels"].tolist() for k in range(3)] == [[5, 6, 7], [EOS, EOS, 8], [EOS]]
    assert [rows[k]["input_ids"].tolist() for k in range(3)] == [[EOS, 5, 6], [7, EOS, EOS], [8]]


def test_scores_are_bits_of_the_model_over_bytes_of_the_text(data, tmp_path):
    model = fresh(data)
    training = {"max_steps": 4, "use_cpu": True, "learning_rate": 1e-2}
    spec = FinetuningSpec({**training, "per_device_eval_batch_size": 4}, 2)
    outcome = finetune(model, data, spec, seed=0, output_dir=tmp_path)

    # Each window alone, without a batch.
    rows = data.rows("test", spec.test_examples)
    total = 0.0
    for k in range(len(rows)):
        total += nats(model, [*rows[k]["input_ids"][:1].tolist(), *rows[k]["labels"].tolist()])
    size = len("".join(TEXTS["test"]).encode())
    assert rows.bytes == size
    assert outcome["score"] == pytest.approx(total / math.log(2) / size, rel=1e-4)
    assert outcome["scores"]["loss"] == pytest.approx(total / rows.targets, rel=1e-4)
    assert outcome["test_examples"] == 3

    # The weights of the lowest loss are tested, and the curve is in the same unit.
    assert outcome["curve"][1]["loss"] < outcome["curve"][0]["loss"]
    assert outcome["validation_score"] == min(point["score"] for point in outcome["curve"])


def test_a_short_run_is_evaluated_once_and_says_what_that_costs(data, tmp_path, caplog):
    """As in pre-training; a number of evaluations that was given is obeyed."""
    training = {"max_steps": 4, "use_cpu": True, "per_device_train_batch_size": 1}
    outcome = finetune(fresh(data), data, FinetuningSpec(training), seed=0, output_dir=tmp_path)
    assert [point["step"] for point in outcome["curve"]] == [4]
    windows = len(data.rows("validation"))
    said = f"1 evaluation of {windows} examples cost about {100 * windows / (3 * 4):.0f} % of what"
    assert said in caplog.text

    given = FinetuningSpec(training, evaluations=2)
    outcome = finetune(fresh(data), data, given, seed=0, output_dir=tmp_path)
    assert [point["step"] for point in outcome["curve"]] == [2, 4]
    assert f"2 evaluations of {windows} examples" in caplog.text


def test_corpora_of_every_kind_are_read(corpus, tmp_path):
    tables = LanguageTask("plays").load(str(corpus))
    assert {split: table["text"].to_pylist() for split, table in tables.items()} == TEXTS

    # Text files: a tenth of the documents is held out, one of each here.
    texts = tmp_path / "texts"
    texts.mkdir()
    for k in range(5):
        (texts / f"{k}.txt").write_text(f"document {k}")
    held_out = task_from_fields("mine", {"head": "lm", "hold_out": True}).load(str(texts))
    assert {split: len(table) for split, table in held_out.items()} == {
        "train": 3,
        "validation": 1,
        "test": 1,
    }

    # Of a lone document the end is held out, from the end of a line on.
    for k in range(1, 5):
        (texts / f"{k}.txt").unlink()
    (texts / "0.txt").write_text("".join(f"line {k}\n" for k in range(10)))
    lone = task_from_fields("mine", {"head": "lm", "hold_out": True}).load(str(texts))
    assert "".join(table["text"][0].as_py() for table in lone.values()) == (
        (texts / "0.txt").read_text()
    )
    assert lone["test"]["text"].to_pylist() == ["line 9\n"]
    assert lone["validation"]["text"].to_pylist() == ["line 8\n"]
    (texts / "0.txt").write_text("x" * 100)
    lone = task_from_fields("mine", {"head": "lm", "hold_out": True}).load(str(texts))
    assert lone["test"]["text"].to_pylist() == ["x" * 10]

    # One file, whose column is named.
    table = pa.table({"id": ["x"] * 9, "body": [f"text {k}" for k in range(9)]})
    pq.write_table(table, tmp_path / "mails.parquet")
    choice = choose_task(str(tmp_path / "mails.parquet"), {"head": "lm", "document": "body"})
    assert "documents: 7 of train, 1 of validation, 1 of test" in choice.remarks[0]
    assert choice.definition["document"] == "body"
    again = choose_task(str(tmp_path / "mails.parquet"), {"document": "body"})
    assert again.definition == choice.definition
    pq.write_table(table.rename_columns(["id", "brief"]), tmp_path / "letters.parquet")
    with pytest.raises(UsageError, match=r"columns id, brief, and .* clear; give --document id"):
        choose_task(str(tmp_path / "letters.parquet"), {"head": "lm"})

    embedded = get_finetuning_task("lm").load(None)
    assert sorted(embedded) == ["test", "train", "validation"]


@pytest.mark.parametrize("model_type", ["llama", "bert"])
def test_documents_of_one_token_are_modelled(model_type, tmp_path):
    write_corpus(tmp_path, dict.fromkeys(TEXTS, ("d",)))
    task = LanguageTask("letters", max_source=16)
    data = prepare(task, tmp_path / "data", data_dir=str(tmp_path), vocab_size=300)
    model = tiny_model(data, model_type, DECODER)
    spec = FinetuningSpec({"max_steps": 1, "use_cpu": True}, 1)
    outcome = finetune(model, data, spec, seed=0, output_dir=tmp_path / "trainer")
    assert 0 < outcome["score"] < 30


def test_what_cannot_be_modelled_is_refused(data, tmp_path):
    t5 = ModelSpec("t5").config(as_vocabulary(data.tokenizer))
    with pytest.raises(UsageError, match="next one or masked ones, and t5 does neither; give a"):
        data.head_for(t5)
    with pytest.raises(UsageError, match=r"sequences of 16 ids .* 8 position embeddings"):
        fresh(data, max_position_embeddings=8)
    odd = prepare(LanguageTask("plays", max_source=15), data.folder)
    with pytest.raises(UsageError, match=r"sequences of 15 ids \(max_source\), in batches 16 wide"):
        fresh(odd, max_position_embeddings=15)
    with pytest.raises(UsageError, match="max_source is 0; give the ids of a sequence"):
        LanguageTask("mine", max_source=0)
    with pytest.raises(UsageError, match="its key 'source' belongs to a text-to-text task"):
        task_from_fields("mine", {"head": "lm", "source": "a"})

    folder = tmp_path / "blank"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table({"text": [""]}), folder / f"{split}.parquet")
    with pytest.raises(UsageError, match="the split train has no text; give some"):
        LanguageTask("blank").load(str(folder))
