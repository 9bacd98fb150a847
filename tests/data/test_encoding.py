"""Encoding: special tokens that are spelled in a text; tokenizers with gaps or without a token.

Run: pytest tests/data/test_encoding.py
"""

import json

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from hf_synpre import UsageError, generate
from hf_synpre.config import stored_form
from hf_synpre.data import encoding
from hf_synpre.data.corpora import Corpus
from hf_synpre.data.encoding import encode_texts
from hf_synpre.data.masking import sentinel_ids
from hf_synpre.data.tokenizers import read_tokenizer, train_encoder_tokenizer, train_tokenizer
from hf_synpre.data.windows import encode_corpus
from hf_synpre.finetuning.label_heads import LABEL_HEADS
from hf_synpre.finetuning.label_tasks import LabelTask
from hf_synpre.finetuning.text_head import TextHead
from hf_synpre.finetuning.text_tasks import TextToTextTask, text_table
from hf_synpre.initialization.checkpoints import has_tokenizer
from hf_synpre.initialization.embedding_policy import check_ids
from hf_synpre.training.pretraining_data import open_rows
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import as_vocabulary, padding_and_end

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = "we hide [MASK] and [PAD], and end </s> with <extra_id_0>."
CORPUS = Corpus(lambda split: [TEXT * 20])


def words_tokenizer(ids, unknown="[UNK]", **special_tokens):
    """Return a tokenizer whose words are parted by blanks, with these ids."""
    words = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token=unknown, **special_tokens)


def test_case_is_kept_or_not():
    """Of SMILES the case of a letter tells its atom."""
    kept = train_encoder_tokenizer(["CC1CCCCC1 Cc1ccccc1"], 310)
    lower = train_encoder_tokenizer(["CC1CCCCC1 Cc1ccccc1"], 310, lowercase=True)
    assert kept("C")["input_ids"] != kept("c")["input_ids"]
    assert lower("C")["input_ids"] == lower("c")["input_ids"]
    assert kept.init_kwargs["origin"].endswith(" ids, case kept")
    assert lower.init_kwargs["origin"].endswith(" ids")


@pytest.fixture(scope="module", params=["t5", "bert", "byt5", "words"])
def tokenizer(request):
    if request.param == "t5":
        return train_tokenizer([TEXT], 400)
    if request.param == "bert":
        return train_encoder_tokenizer([TEXT], 400)
    if request.param == "byt5":
        return ByT5Tokenizer()
    # Its words are the special tokens too, whatever is encoded as text.
    words = {token: i for i, token in enumerate([*BERT, "and", "[", "MASK]"])}
    return words_tokenizer(words, pad_token="[PAD]", mask_token="[MASK]", sep_token="[SEP]")


def test_special_tokens_spelled_in_a_text_are_text(tokenizer):
    control = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    plain = "and so it ends."
    columns = encode_texts(tokenizer, [plain, TEXT])
    assert control.isdisjoint(columns["input_ids"][1])
    assert len(columns["input_ids"][1]) > 5
    assert columns["input_ids"][0] == tokenizer(plain, add_special_tokens=False)["input_ids"]
    _, eos = padding_and_end(tokenizer)
    ids = encode_corpus([TEXT] * 3, tokenizer, 10**6, eos)
    assert [token for token in ids if token in control] == [eos] * 3


def test_special_tokens_are_read_where_they_are_asked_for(tokenizer):
    asked = encode_texts(tokenizer, [TEXT], special_tokens=True)["input_ids"][0]
    assert asked == tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert not set(tokenizer.all_special_ids).isdisjoint(asked)


def test_a_corpus_and_a_task_may_ask_for_special_tokens():
    tokenizer = train_encoder_tokenizer([TEXT], 400)
    vocabulary = as_vocabulary(tokenizer)
    asked = encode_texts(tokenizer, [TEXT], special_tokens=True)["input_ids"][0]
    control = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id, vocabulary.eos}
    for special_tokens in (False, True):
        given = {"special_tokens": special_tokens, "window": 32}
        spec = PretrainingSpec(corpus="stdlib", training={"max_steps": 1}, **given)
        rows = open_rows(spec, "causal", vocabulary, rows=1, batch_size=1, corpus=CORPUS)
        assert (not control.isdisjoint(rows.train[0]["input_ids"].tolist())) == special_tokens
        assert ("special_tokens" in stored_form(spec)) == special_tokens

        task = TextToTextTask("own", ["a"], ["b"], special_tokens=special_tokens)
        encoded = TextHead().encode(task, text_table([TEXT], [TEXT]), None, tokenizer, "train")
        assert (encoded["labels"].to_pylist() == [asked]) == special_tokens
        assert ("special_tokens" in task.rows_recipe()) == special_tokens

        task = LabelTask("own", "number", [["a"]], [["b"]], special_tokens=special_tokens)
        rows = Dataset.from_dict({"a": [TEXT], "b": [0.5]})
        encoded = LABEL_HEADS["number"].encode(task, rows, None, tokenizer, "train")
        assert (encoded["pieces"].to_pylist() == [[asked]]) == special_tokens


def test_characters_that_are_a_special_token_alone_do_not_vanish():
    ids = {"[UNK]": 0, "a": 1, ".": 2}
    tokenizer = words_tokenizer(ids, eos_token=".")
    assert encode_texts(tokenizer, ["a . a"])["input_ids"] == [[1, 0, 1]]
    tokenizer.unk_token = None
    with pytest.raises(UsageError, match=r"special tokens alone for the characters 'a \.' of a"):
        encode_texts(tokenizer, ["a . a"])


def test_offsets_are_those_of_the_text():
    words = {token: i for i, token in enumerate([*BERT, "and", "[", "MASK]"])}
    tokenizer = words_tokenizer(words, mask_token="[MASK]")
    columns = encode_texts(tokenizer, ["and [MASK] and"], offsets=True)
    assert tokenizer.convert_ids_to_tokens(columns["input_ids"][0]) == ["and", "[", "MASK]", "and"]
    assert columns["offset_mapping"][0] == [(0, 3), (4, 5), (5, 10), (11, 14)]


def test_ids_with_gaps_are_those_of_tokens():
    ids = {token: i for i, token in enumerate(BERT)}
    ids |= {f"w{i}": 10 + i + 50 * (i >= 40) for i in range(140)}
    tokenizer = words_tokenizer(ids, pad_token="[PAD]", sep_token="[SEP]")
    vocabulary = as_vocabulary(tokenizer)
    assert vocabulary.size == 10 + 139 + 50 + 1
    assert (vocabulary.first_regular, vocabulary.regular_count) == (100, 100 - 13)
    rows = generate("set", 0, 50, vocabulary=tokenizer, min_length=4, max_length=8)
    assert {i for row in rows["input_ids"].to_pylist() for i in row} <= set(ids.values())


@pytest.mark.parametrize(
    ("ids", "special_tokens", "message"),
    [
        (
            {"[UNK]": 0, "[SEP]": 1} | {f"w{i}": 2 * i + 2 for i in range(50)},
            {"sep_token": "[SEP]"},
            "only 1 ordinary tokens with ids in a row; at least 17",
        ),
        (
            {"[UNK]": 0, "[SEP]": 1, "far": 300_000},
            {"sep_token": "[SEP]"},
            "has 3 tokens, and its largest id is 300000",
        ),
        (
            {"[UNK]": 0},
            {},
            "neither an end-of-sequence nor .* tokenizer_config.json with .*eos_token",
        ),
    ],
)
def test_tokenizers_that_no_task_can_use_are_refused(ids, special_tokens, message):
    with pytest.raises(UsageError, match=message):
        as_vocabulary(words_tokenizer(ids, **special_tokens))


@pytest.mark.parametrize(
    ("train", "named"),
    [
        (train_tokenizer, {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}),
        (
            train_encoder_tokenizer,
            {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
        ),
    ],
)
def test_a_bare_tokenizer_json_says_by_names_what_its_special_tokens_are_for(
    train, named, tmp_path
):
    whole = train(["the cat sat on the mat"] * 9, 400)
    (tmp_path / "tokenizer.json").write_text(whole.backend_tokenizer.to_str())
    bare = read_tokenizer(str(tmp_path))
    assert {purpose: getattr(bare, purpose) for purpose in named} == named
    assert padding_and_end(bare) == padding_and_end(whole)
    assert as_vocabulary(bare).regular_count > 200


def test_sentinels_may_ascend():
    tokenizer = ByT5Tokenizer()
    ids = sentinel_ids(as_vocabulary(tokenizer), 64)
    assert tokenizer.convert_ids_to_tokens(ids[:2]) == ["<extra_id_0>", "<extra_id_1>"]
    spec = PretrainingSpec(corpus="stdlib", window=64, training={"max_steps": 1})
    rows = open_rows(spec, "seq2seq", as_vocabulary(tokenizer), rows=1, batch_size=1, corpus=CORPUS)
    labels = rows.train[0]["labels"]
    assert list(labels[np.isin(labels, ids)]) == ids


def test_no_sentinels_and_no_mask_token_are_refused_by_name():
    ids = {"<s>": 0} | {f"w{i}": i + 1 for i in range(50)}
    tokenizer = words_tokenizer(ids, unknown="<s>", eos_token="<s>")
    for family, message in (
        ("seq2seq", r"has fewer sentinels, 0 \(<extra_id_\*>\). Give a tokenizer that has them"),
        ("mlm", "The objective mlm needs a mask token, and the tokenizer has none; add one"),
    ):
        spec = PretrainingSpec(corpus="stdlib", window=64, training={"max_steps": 1})
        with pytest.raises(UsageError, match=message):
            open_rows(spec, family, as_vocabulary(tokenizer), rows=1, batch_size=1, corpus=CORPUS)


@pytest.mark.parametrize(
    "content",
    ['{"model": 3}', "[" * 50_000, "", '{"version": "1.0", "model": {"type": "BPE", "vocab": 1}}'],
)
def test_a_broken_tokenizer_is_one_line(content, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UsageError, match="cannot be read: ") as refusal:
        read_tokenizer(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_that_cannot_encode_is_one_line(tmp_path):
    words_tokenizer({"a": 0, "<s>": 1}, unknown="<s>", eos_token="<s>").save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": [1]}))
    with pytest.raises(UsageError, match="cannot be read: '>' not supported between"):
        read_tokenizer(str(tmp_path))


def test_a_folder_without_a_vocabulary_is_no_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="no tokens but special ones; its vocabulary's file"):
        read_tokenizer(str(tmp_path))
    assert not has_tokenizer(tmp_path)


def test_every_kind_of_tokenizer_of_a_checkpoint_is_seen(tmp_path):
    ByT5Tokenizer().save_pretrained(tmp_path / "bytes")
    assert has_tokenizer(tmp_path / "bytes")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join([*BERT, "and", "so"]))
    assert has_tokenizer(tmp_path / "bert")
    stored = read_tokenizer(str(tmp_path / "bert"))
    assert check_ids(tmp_path / "bert", stored)
    with pytest.raises(UsageError, match="has embeddings for the ids of another tokenizer"):
        check_ids(tmp_path / "bert", ByT5Tokenizer())

    # The bare files of a byte-level BPE are those of GPT-2.
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}')
    (tmp_path / "gpt2" / "merges.txt").write_text("#version: 0.2\na b\n")
    assert read_tokenizer(str(tmp_path / "gpt2"))("ab")["input_ids"] == [2]


def test_calls_have_work_for_every_core(monkeypatch):
    texts = ["a" * 1000] * 64
    monkeypatch.setattr(encoding, "CHARACTERS_A_CORE", 2000)
    for cores, counted in ((1, 1), (2, 2), (64, 16)):
        monkeypatch.setattr(encoding.os, "cpu_count", lambda cores=cores: cores)
        sizes = {len(batch) for batch in encoding.batched_by_size(texts)}
        assert sizes == {2 * counted}
