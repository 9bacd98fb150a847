"""Language modelling by masked models: fixed and fresh masks, the score, what is saved and refused.

Run: pytest tests/finetuning/test_masked_language_modelling.py
"""

import math

import numpy as np
import pytest
import torch
from headed_models import result_of, tiny_model, write_corpus
from small_models import BERT
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, pipeline

from hf_synpre.data.tokenizers import train_encoder_tokenizer
from hf_synpre.errors import UsageError
from hf_synpre.finetuning import FinetuningSpec, LanguageTask, finetune, prepare, save_model
from hf_synpre.finetuning.card import loading_code
from hf_synpre.finetuning.finetuning import finetuning_trainer

LENGTH = 16
TEXTS = {
    "train": ["to be or not to be, that is the question", "été " * 30, "a b c d e f g"] * 6,
    "validation": ["the question is not to be", "d"],
    "test": ["not to be or to be", "ünï", ""] * 4,
}
FIELDS = {
    "bert": BERT,
    "roberta": BERT | {"max_position_embeddings": 64},
    "modernbert": BERT | {"num_attention_heads": 2, "local_attention": 8},
    "electra": BERT | {"embedding_size": 16},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("plays"), TEXTS)


@pytest.fixture(scope="module")
def data(corpus, tmp_path_factory):
    """The task with the tokenizer that is trained on its text, whose first sentinel is the mask."""
    folder = tmp_path_factory.mktemp("prepared")
    task = LanguageTask("plays", max_source=LENGTH)
    return prepare(task, folder / "data", data_dir=str(corpus), vocab_size=300)


@pytest.fixture(scope="module")
def encoder_data(corpus, tmp_path_factory):
    """The task with a tokenizer of BERT's kind."""
    folder = tmp_path_factory.mktemp("encoder")
    train_encoder_tokenizer(TEXTS["train"], 300).save_pretrained(folder / "tokenizer")
    task = LanguageTask("plays", max_source=LENGTH)
    tokenizer = str(folder / "tokenizer")
    return prepare(task, folder / "data", data_dir=str(corpus), tokenizer=tokenizer)


def fresh(data, model_type="bert", seed=0, **fields):
    return tiny_model(data, model_type, FIELDS[model_type] | fields, seed)


def arranged(data, split, seed=0, limit=None):
    """Return the rows of a split as a BERT takes them; `limit` of its documents, or all."""
    head = data.head_for(fresh(data).config)
    return head.arrange(data, data.rows(split, limit), split, FinetuningSpec(), seed)


def listed(rows):
    return [{name: array.tolist() for name, array in rows[k].items()} for k in range(len(rows))]


def test_rows_are_framed_windows_whose_masked_tokens_are_the_labels(encoder_data):
    rows = arranged(encoder_data, "test")
    tokenizer = encoder_data.tokenizer
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    originals, masked = [], 0
    for row in listed(rows):
        ids, labels = np.array(row["input_ids"]), np.array(row["labels"])
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        is_masked = labels != -100
        assert not special & set(labels[is_masked])
        originals += np.where(is_masked, labels, ids)[1:-1].tolist()
        masked += is_masked.sum()
        assert len(ids) <= LENGTH

    # All of the text is there, in its order.
    assert originals == encoder_data.rows("test").ids[1:].tolist()
    candidates = len([token for token in originals if token not in special])
    assert masked / candidates == pytest.approx(0.15, abs=0.06)
    assert any(tokenizer.mask_token_id in row["input_ids"] for row in listed(rows))


def test_masks_are_fixed_in_evaluation_and_fresh_in_every_epoch_of_training(data, tmp_path):
    models = fresh(data, seed=0), fresh(data, "roberta", seed=1)
    spec = FinetuningSpec({"num_train_epochs": 2, "use_cpu": True}, 1)
    trainers = []
    for seed, model in enumerate(models):
        trainers.append(finetuning_trainer(model, data, spec, seed, tmp_path))
    one, other = [listed(trainer.eval_dataset) for trainer in trainers]
    assert one == other
    assert listed(arranged(data, "test", seed=0)) == listed(arranged(data, "test", seed=1))

    # Every epoch masks each row of train anew, and so does another seed.
    train = trainers[0].train_dataset
    first = listed(train)
    assert first != listed(trainers[1].train_dataset)
    trainers[0].train()
    second = listed(train)
    assert second != first
    assert int(train.epoch) == 1
    train.epoch.fill_(0)
    assert listed(train) == first


@pytest.mark.parametrize("model_type", FIELDS)
def test_the_score_is_the_mean_loss_of_masked_tokens(model_type, data, tmp_path):
    model = fresh(data, model_type)
    training = {"max_steps": 4, "use_cpu": True, "learning_rate": 1e-2}
    spec = FinetuningSpec({**training, "per_device_eval_batch_size": 4}, 2)
    outcome = finetune(model, data, spec, seed=0, output_dir=tmp_path)

    # Each row alone, without a batch.
    model.eval()
    rows, total, count = arranged(data, "test", limit=spec.test_examples), 0.0, 0
    for row in listed(rows):
        labels = torch.tensor(row["labels"])
        with torch.no_grad():
            logits = model(torch.tensor([row["input_ids"]])).logits[0]
        total += cross_entropy(logits, labels, reduction="sum").nan_to_num().item()
        count += int((labels != -100).sum())
    assert outcome["metric"] == "masked_loss"
    assert outcome["score"] == pytest.approx(total / count, rel=1e-3)
    assert outcome["scores"].keys() == {"masked_loss", "token_accuracy"}
    assert outcome["test_examples"] == len(TEXTS["test"])
    assert outcome["validation_score"] == min(point["score"] for point in outcome["curve"])
    assert outcome["curve"][0]["score"] < math.log(300) + 1


@pytest.mark.parametrize("kind", ["data", "encoder_data"])
def test_a_saved_model_fills_masks_in_the_frame_that_it_was_trained_with(kind, tmp_path, request):
    data = request.getfixturevalue(kind)
    model = fresh(data)
    spec = FinetuningSpec({"max_steps": 1, "use_cpu": True}, 1)
    outcome = finetune(model, data, spec, seed=0, output_dir=tmp_path / "trainer")
    result = result_of(outcome, "plays")
    save_model(model, data, spec, result, tmp_path / "model")

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    row = arranged(data, "test")[0]["input_ids"]
    ids = tokenizer(f"to be {tokenizer.mask_token}")["input_ids"]
    assert (ids[0], ids[-1]) == (row[0], row[-1])
    assert tokenizer.mask_token_id in ids
    assert tokenizer.padding_side == "right"
    card = (tmp_path / "model" / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card
    assert "type: masked_loss" in card

    code = loading_code(data, str(tmp_path / "model"), model.config, ["to be"])
    assert f'predict("to be {tokenizer.mask_token}")' in code
    predict = pipeline("fill-mask", model=str(tmp_path / "model"))
    assert len(predict(f"to be {tokenizer.mask_token}")) == 5


def test_what_cannot_be_masked_is_refused(data, corpus, tmp_path):
    tokenizer = data.tokenizer
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    task = LanguageTask("plays", max_source=LENGTH)
    name = str(tmp_path / "tokenizer")
    maskless = prepare(task, tmp_path / "data", data_dir=str(corpus), tokenizer=name)
    with pytest.raises(UsageError, match="bert learns masked tokens, and the tokenizer has no mas"):
        fresh(maskless)

    # RoBERTa has one position less for each id up to its padding.
    with pytest.raises(UsageError, match=r"sequences of 16 ids .* embeddings for 15; give a small"):
        fresh(data, "roberta", max_position_embeddings=16)
    short = prepare(LanguageTask("plays", max_source=2), data.folder)
    with pytest.raises(UsageError, match="of which bert needs 2 around the text; give a larger"):
        fresh(short)

    head = data.head_for(fresh(data).config)
    rows = data.rows("test")
    rows.ids = np.full(9, rows.ids[0], np.int32)
    with pytest.raises(UsageError, match="The text of test has no token that can be masked"):
        head.arrange(data, rows, "test", FinetuningSpec())
