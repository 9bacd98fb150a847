"""log_unigram_head: a fresh model's logits are the logarithms of token frequencies, or a refusal.

Run: pytest tests/initialization/test_unigrams.py
"""

import json

import pytest
import torch
from small_models import BART, BERT, DECODER, DECODERS, t5
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from hf_synpre import StatisticsInit, UsageError
from hf_synpre.cli import main
from hf_synpre.data import encoding
from hf_synpre.experiments.arm import ArmSpec
from hf_synpre.initialization import unigrams
from hf_synpre.initialization.unigrams import log_unigrams

SCHEME = "log_unigram_head"
COUNTS = [0, 5, 90, 5]
EXPECTED = torch.tensor([1, 6, 91, 6]).div(104).log()
WORDS = ["<pad>", "</s>", "<unk>", "a", "b", "c", *(f"w{i}" for i in range(14))]


def made(auto, config, unigrams=COUNTS, **options):
    return StatisticsInit(auto, scheme=SCHEME, unigrams=unigrams, **options).from_config(config)


def with_special_tokens(model):
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **special)


def words_tokenizer():
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = with_special_tokens(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def padded(rows):
    """Return the logarithms with the smallest one for rows of no id."""
    return torch.cat([EXPECTED, EXPECTED.min().expand(rows - len(EXPECTED))])


@torch.no_grad()
def test_a_bias_of_the_output_layer_gets_the_logarithms():
    model = made(AutoModelForMaskedLM, AutoConfig.for_model("bert", **BERT))
    bias = model.get_output_embeddings().bias
    assert torch.allclose(bias, padded(len(bias)))
    assert len(model.load_report.loaded) == 1
    factory = StatisticsInit(AutoModelForMaskedLM, scheme=SCHEME, unigrams=COUNTS)
    assert ", unigrams=<4 counts>)" in repr(factory)
    logits = model.eval()(torch.arange(4)[None]).logits
    assert (logits - bias).abs().max() < 0.5  # fresh weights add little


@torch.no_grad()
def test_a_decoder_without_a_bias_gets_a_constant_coordinate():
    model = made(AutoModelForCausalLM, AutoConfig.for_model("gpt_neox", **DECODER)).eval()
    head, seen = model.get_output_embeddings(), []
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    logits = model(torch.arange(5)[None]).logits
    rest = seen[0][..., 1:] @ head.weight[:, 1:].T
    assert torch.allclose(logits - rest, padded(len(head.weight)).expand_as(logits), atol=1e-5)


def test_the_bias_beside_an_output_layer_is_saved(tmp_path):
    words_tokenizer().save_pretrained(tmp_path / "ids")
    (tmp_path / "text.txt").write_text("a a b\n\na c")
    fields = {key: value for key, value in BART.items() if key != "vocab_size"}
    AutoConfig.for_model("bart", **fields).save_pretrained(tmp_path / "config")
    words = ["--scheme", SCHEME, "--unigrams", str(tmp_path / "text.txt")]
    words += ["--tokenizer_name", str(tmp_path / "ids"), "-o", str(tmp_path / "start")]
    assert main(["init", str(tmp_path / "config"), *words]) == 0
    record = json.loads((tmp_path / "start" / "initialization.json").read_text())
    assert "unigrams='text.txt'" in record["start"]
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "start")
    expected = torch.tensor([1, 1, 1, 4, 2, 2]).div(5 + len(WORDS)).log()
    assert torch.allclose(model.final_logits_bias[0, :6], expected)


def test_a_text_is_counted_as_pretraining_reads_it(tmp_path, monkeypatch):
    (tmp_path / "text.jsonl").write_text('{"text": "a b </s>"}\n' * 9)  # the end is spelled out
    ids, calls = words_tokenizer(), []
    encode = unigrams.encode_texts
    monkeypatch.setattr(encoding, "CHARACTERS_A_CORE", 16)
    monkeypatch.setattr(encoding, "MOST_CORES", 1)
    monkeypatch.setattr(unigrams, "encode_texts", lambda *a: calls.append(a) or encode(*a))
    shares = log_unigrams(tmp_path / "text.jsonl", ids).exp()
    assert shares[ids.eos_token_id] == shares[0] < shares[ids.convert_tokens_to_ids("a")]
    assert [len(texts) for _, texts in calls] == [2, 2, 2, 2, 1]  # few characters at a time


def test_a_tokenizer_of_unigrams_stores_them(tmp_path):
    scores = [0.0, 0.0, 0.0, -1.0, -2.0, -3.0]
    model = models.Unigram(list(zip(WORDS, scores, strict=False)), unk_id=2)
    with_special_tokens(model).save_pretrained(tmp_path)
    expected = torch.tensor([-3.0, -3.0, -3.0, -1.0, -2.0, -3.0]).log_softmax(0)
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        assert torch.allclose(log_unigrams(source, None), expected)


def test_what_cannot_be_is_one_line(tmp_path):
    decoder, encoder = AutoModelForCausalLM, AutoConfig.for_model("bert", **BERT)
    words_tokenizer().save_pretrained(tmp_path / "words")
    (tmp_path / "text.txt").write_text("a b")
    (tmp_path / "empty.txt").write_text("")
    no_place = "the output layer of .* has no bias, and a constant coordinate needs a decoder"
    no_norm = {"exclude": ["final_norm"]}
    cases = [
        (decoder, AutoConfig.for_model("llama", **DECODER), {}, no_place),
        (decoder, AutoConfig.for_model("gpt2", **DECODERS["gpt2"]), {}, no_place),
        (AutoModelForSeq2SeqLM, t5(), {}, no_place),
        (AutoModel, encoder, {}, "BertModel has no output layer over tokens; give another scheme"),
        (decoder, AutoConfig.for_model("gpt_neox", **DECODER), no_norm, "nothing to fill in GPTNe"),
        (None, encoder, {"exclude": ["*bias"]}, "nothing to fill in BertForMaskedLM"),
        (None, encoder, {"unigrams": None}, "reads token frequencies; give unigrams"),
        (None, encoder, {"unigrams": [1, -1]}, r"unigrams is \[1, -1\]; give a count >= 0 for"),
        (None, encoder, {"unigrams": [1] * 999}, "are of 999 ids, and the output layer of BertF"),
        (None, encoder, {"unigrams": "none.txt"}, "and there is no such file; give a text"),
        (None, encoder, {"unigrams": tmp_path / "text.txt"}, "has no tokenizer to count its"),
        (None, encoder, {"unigrams": tmp_path}, "which has no tokenizer.json; give a file of te"),
        (None, encoder, {"unigrams": tmp_path / "words"}, "of the kind WordLevel, which stores no"),
        (
            None,
            encoder,
            {"unigrams": tmp_path / "empty.txt", "tokenizer": words_tokenizer()},
            "holds no tokens|is empty",
        ),
    ]
    for auto, config, options, message in cases:
        with pytest.raises(UsageError, match=message):
            made(auto or AutoModelForMaskedLM, config, **options)
    with pytest.raises(UsageError, match="and scheme gamma reads none; leave them out"):
        StatisticsInit(decoder, scheme="gamma", unigrams=COUNTS)
    with pytest.raises(UsageError, match="An arm has no token frequencies for scheme log_unigra"):
        ArmSpec(init="statistics", scheme=SCHEME, embeddings="fresh")
