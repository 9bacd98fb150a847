"""Token embeddings under another tokenizer: fresh, kept, by token, mean; the head tied or not.

Run: pytest tests/models/test_embedding_policy.py
"""

import json

import pytest
import torch
from small_models import BERT, DECODER, assert_equal, t5
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError, warm_up
from hf_synpre.cli import main
from hf_synpre.experiments.arm import ArmSpec
from hf_synpre.experiments.cell import model_from_checkpoint
from hf_synpre.finetuning import find_head
from hf_synpre.initialization import STATISTICS_FILE, build, embedding_names
from hf_synpre.initialization.embedding_policy import POLICIES, matching_rows
from hf_synpre.models.pretrained_weights import take_weights
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.pretraining_trainer import fresh_model
from hf_synpre.vocabulary import as_vocabulary

OLD = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(37))]  # 40 ids
LONGER = [*OLD, "new", "newer"]
# w5 and w3 at other ids, and 20 new tokens.
OTHER = ["<pad>", "</s>", "<unk>", "x", "w5", "w3", *(f"y{i}" for i in range(19))]
MODELS = {
    "bert": (AutoModelForMaskedLM, BERT),
    "llama": (AutoModelForCausalLM, DECODER | {"num_key_value_heads": 2}),
    "tied_llama": (
        AutoModelForCausalLM,
        DECODER | {"num_key_value_heads": 2, "tie_word_embeddings": True},
    ),
    "t5": (AutoModelForSeq2SeqLM, t5().to_dict()),
}
DECODER_FIELDS = {key: value for key, value in DECODER.items() if key != "vocab_size"}


def tokenizer(words):
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def make(name, words, seed):
    auto, fields = MODELS[name]
    model_type = fields.get("model_type", name.removeprefix("tied_"))
    fields = {key: value for key, value in fields.items() if key != "model_type"}
    fields |= {"vocab_size": len(words), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    return build(auto, AutoConfig.for_model(model_type, **fields), {}, seed)


@pytest.fixture(params=MODELS)
def checkpoint(request, tmp_path):
    """The name of an architecture, a model of the old tokenizer, and its folder."""
    model = make(request.param, OLD, 1)
    with torch.no_grad():
        for name in embedding_names(model):  # biases too, which would be 0 in both
            model.get_parameter(name).normal_(generator=torch.Generator().manual_seed(len(name)))
    model.save_pretrained(tmp_path)
    tokenizer(OLD).save_pretrained(tmp_path)
    return request.param, model, tmp_path


def taken(checkpoint, words, policy):
    """Return a model of other ids with the checkpoint's weights, and its fresh token tables."""
    name, _, folder = checkpoint
    model = make(name, words, 2)
    fresh = {key: model.get_parameter(key).detach().clone() for key in embedding_names(model)}
    rows = matching_rows(folder, tokenizer(words), policy)
    report = take_weights(model, folder, policy, head=True, same_rows=rows)
    assert report.missing == report.left_over == ()
    return model, fresh


def test_rows_follow_their_tokens(checkpoint):
    _, source, _ = checkpoint
    model, fresh = taken(checkpoint, OTHER, "by_token")
    assert fresh
    for name, own in fresh.items():
        table, old = model.get_parameter(name), source.get_parameter(name)
        for id_, word in enumerate(OTHER):
            expected = old[OLD.index(word)] if word in OLD else own[id_]
            assert torch.equal(table[id_], expected), (name, word)
    assert tables_are_tied(model) == tables_are_tied(source)


def test_further_rows_are_the_mean(checkpoint):
    _, source, _ = checkpoint
    model, fresh = taken(checkpoint, LONGER, "mean")
    for name in fresh:
        table, old = model.get_parameter(name), source.get_parameter(name)
        assert torch.equal(table[: len(OLD)], old)
        assert torch.allclose(table[len(OLD) :], old.mean(0).expand_as(table[len(OLD) :]))
    assert tables_are_tied(model) == tables_are_tied(source)


def test_kept_and_fresh_are_what_they_were(checkpoint):
    _, source, _ = checkpoint
    kept, fresh = taken(checkpoint, OLD, "kept")
    for name in fresh:
        assert torch.equal(kept.get_parameter(name), source.get_parameter(name))
    name, _, folder = checkpoint
    model = make(name, OTHER, 2)
    own = model.get_input_embeddings().weight.clone()
    take_weights(model, folder, "fresh", head=True)
    assert torch.equal(model.get_input_embeddings().weight, own)


def tables_are_tied(model):
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


# --- who uses it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["per_param_mean_sd", "permuted_weights", "weights"])
def test_statistics_init_takes_the_same_rows(checkpoint, scheme):
    name, source, folder = checkpoint
    auto, _ = MODELS[name]
    for policy, words in (("by_token", OTHER), ("mean", LONGER), ("kept", OLD)):
        expected, fresh = taken(checkpoint, words, policy)
        factory = StatisticsInit(
            auto, scheme=scheme, seed=2, embeddings=policy, tokenizer=tokenizer(words)
        )
        model = factory.from_config(expected.config, folder)
        for key in fresh:
            assert torch.equal(model.get_parameter(key), expected.get_parameter(key)), key
        assert model.load_report.fresh == ()
        assert tables_are_tied(model) == tables_are_tied(source)

    # The body is the scheme's, as without a policy.
    body = StatisticsInit(auto, scheme=scheme, seed=2, exclude=["embedding"])
    plain = body.from_config(expected.config, folder)
    for key, parameter in plain.named_parameters():
        if key not in fresh:
            assert torch.equal(model.get_parameter(key), parameter), key
    own = StatisticsInit(auto, scheme=scheme, seed=2, embeddings="fresh")
    assert_equal(own.from_config(expected.config, folder), plain)


def test_a_tied_table_is_the_output_layer_of_an_untied_model(tmp_path):
    tied = make("tied_llama", OLD, 1)
    tied.save_pretrained(tmp_path)
    untied = make("llama", OLD, 2)
    factory = StatisticsInit(AutoModelForCausalLM, embeddings="kept")
    model = factory.from_config(untied.config, tmp_path)
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert torch.equal(table.weight, tied.get_input_embeddings().weight)

    # And the other way the table of the inputs, not of the outputs, is taken.
    untied.save_pretrained(tmp_path)
    again = factory.from_config(tied.config, tmp_path).get_output_embeddings().weight
    assert torch.equal(again, untied.get_input_embeddings().weight)


def test_synpre_init_matches_tokens_and_says_how_many(tmp_path, capsys):
    source = make("llama", OLD, 1)
    source.save_pretrained(tmp_path / "old")
    tokenizer(OLD).save_pretrained(tmp_path / "old")
    tokenizer(OTHER).save_pretrained(tmp_path / "other")
    words = ["--from", str(tmp_path / "old"), "--tokenizer_name", str(tmp_path / "other")]
    new = tmp_path / "new"
    assert main(["init", *words, "--embeddings", "by_token", "-o", str(new)]) == 0
    table = AutoModelForCausalLM.from_pretrained(new).get_output_embeddings().weight
    old = source.get_output_embeddings().weight
    assert len(table) == len(OTHER)
    assert torch.equal(table[OTHER.index("w5")], old[OLD.index("w5")])
    assert "embeddings='by_token'" in (new / "initialization.json").read_text()

    # The screen, the record and the card say how many tokens matched; no table counts as drawn.
    same = len({*OLD} & {*OTHER})
    sentence = (
        f"{same} of {len(OTHER)} tokens have the checkpoint's rows, {len(OTHER) - same} fresh ones"
    )
    drawn = len(list(source.parameters())) - 2
    tables = "2 tables of token embeddings copied (model.embed_tokens.weight, lm_head.weight)"
    assert f": {drawn} tensors drawn; {tables}: {sentence}\n" in capsys.readouterr().out
    weights = json.loads((new / "initialization.json").read_text())["weights"]
    assert weights["loaded"] == drawn
    counts = {"tensors": 2, "kept": same, "tokens": len(OTHER), "text": sentence}
    assert weights["embeddings"] == counts
    assert f"| token embeddings: {sentence} | 2 |" in (new / "README.md").read_text()


def test_a_report_says_how_many_tokens_have_the_mean(tmp_path):
    make("llama", OLD, 1).save_pretrained(tmp_path)
    longer = make("llama", LONGER, 2).config
    init = StatisticsInit(AutoModelForCausalLM, embeddings="mean")
    report = init.from_config(longer, tmp_path).load_report
    more = len(LONGER) - len(OLD)
    said = f"{len(OLD)} of {len(LONGER)} tokens have the checkpoint's rows, "
    said += f"{more} the mean of its rows"
    assert str(report).endswith(said)

    # A checkpoint without a tokenizer: which tokens its rows were of is not known.
    init = StatisticsInit(AutoModelForCausalLM, embeddings="mean", tokenizer=tokenizer(LONGER))
    report_of_numbers = str(init.from_config(longer, tmp_path).load_report)
    assert "have the checkpoint's rows by number, as it has no tokenizer, " in report_of_numbers
    assert f"<td>copied: {said.replace(chr(39), '&#x27;')}</td><td>2</td>" in report._repr_html_()


def test_what_statistics_init_cannot_copy_is_one_line(tmp_path):
    auto, config = AutoModelForCausalLM, make("llama", OLD, 0).config
    make("llama", LONGER, 1).save_pretrained(tmp_path)
    statistics = ParameterStatistics.from_pretrained(tmp_path)
    cases = [
        ({"embeddings": "keep"}, tmp_path, "Unknown embedding policy 'keep'"),
        ({"embeddings": "kept"}, statistics, "and of .* only the statistics were given; give"),
        ({"embeddings": "kept"}, tmp_path / STATISTICS_FILE, "only the statistics were given"),
        ({"embeddings": "kept"}, "synpre/llama-mini-set", "only its statistics are bundled"),
        ({"embeddings": "kept"}, tmp_path, "for other ids give embeddings 'by_token'"),
        ({"embeddings": "by_token"}, tmp_path, "and the checkpoint .* has none; give"),
        ({"embeddings": "mean", "include": ["embedding"]}, tmp_path, "give one of them, or excl"),
        ({"embeddings": "mean", "scheme": "gamma"}, None, "scheme gamma reads no checkpoint; gi"),
    ]
    for options, source, message in cases:
        with pytest.raises(UsageError, match=message):
            StatisticsInit(auto, **options).from_config(config, source)


@pytest.mark.parametrize("name", MODELS)
def test_a_warm_up_gives_every_token_the_mean_of_its_symbols(name):
    model = make(name, OLD, 1)
    body = {key: t.detach().clone() for key, t in model.named_parameters()}
    options = {"symbols": 24, "training": {"batch_size": 4, "use_cpu": True}, "seconds": None}
    parameters = {"length": 12, "keys": 2}
    facts = warm_up(
        model, task="mqar", parameters=parameters, steps=2, embeddings="mean", **options
    )
    assert (facts["embeddings"], facts["ids"]) == ("mean", [])
    for key in embedding_names(model):
        table = model.get_parameter(key)
        assert torch.equal(table, table[:1].expand_as(table))
        assert not torch.equal(table, body.get(key, body[next(iter(body))]))
    assert tables_are_tied(model) == (name != "llama")
    with pytest.raises(UsageError, match=r"the symbols of a warm-up are of none; give fresh, kep"):
        warm_up(model, embeddings="by_token")


def test_an_arm_and_a_start_match_tokens(tmp_path):
    spec = ModelSpec("llama", overrides=DECODER_FIELDS)
    source = build(AutoModelForCausalLM, spec.config(as_vocabulary(tokenizer(OLD))), {}, 1)
    source.save_pretrained(tmp_path)
    tokenizer(OLD).save_pretrained(tmp_path)
    other = tokenizer(OTHER)
    config = spec.config(as_vocabulary(other))

    arm = ArmSpec(init="weights", checkpoint=str(tmp_path), embeddings="by_token")
    by_arm = model_from_checkpoint(find_head("lm"), config, tmp_path, arm, 3, other)
    run = PretrainingSpec(
        corpus="stdlib", start=str(tmp_path), start_embeddings="by_token", training={"max_steps": 1}
    )
    by_start = fresh_model(run, spec, as_vocabulary(other))
    drawn = ArmSpec(init="statistics", checkpoint=str(tmp_path), embeddings="by_token")
    by_statistics = model_from_checkpoint(find_head("lm"), config, tmp_path, drawn, 3, other)
    for model in (by_arm, by_start, by_statistics):
        table = model.get_input_embeddings().weight
        old = source.get_input_embeddings().weight
        assert torch.equal(table[OTHER.index("w3")], old[OLD.index("w3")])
        layer = "model.layers.1.mlp.up_proj.weight"
        if model is by_statistics:
            continue
        assert torch.equal(model.get_parameter(layer), source.get_parameter(layer))


@pytest.mark.parametrize("checkpoint", ["bert"], indirect=True)
def test_what_cannot_be_is_one_line(checkpoint):
    _, _, folder = checkpoint
    reordered = tokenizer(["<pad>", "</s>", "w3", "<unk>"])  # w3 was 6
    nothing_shared = tokenizer(["a", "b"])
    for other, policy, message in (
        (None, "by_token", "match the tokens of two tokenizers, and the model has none"),
        (reordered, "mean", r"by number, and the token '<unk>' is 2 in .* and 3 in the model; giv"),
        (nothing_shared, "by_token", "no token of the model is one of"),
    ):
        with pytest.raises(UsageError, match=message):
            matching_rows(folder, other, policy)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"and the checkpoint .* has none; give one"):
        matching_rows(folder, reordered, "by_token")
    with pytest.raises(UsageError, match="Unknown embedding policy 'bytoken'"):
        take_weights(make("bert", OLD, 0), folder, "bytoken")
    with pytest.raises(UsageError, match="has embeddings mean; give fresh"):
        ArmSpec(init="statistics", scheme="gamma", embeddings="mean")
    with pytest.raises(UsageError, match="has embeddings fresh; give kept or by_token or mean"):
        ArmSpec(init="statistics", scheme="weights", checkpoint="x")
    assert [*POLICIES] == ["fresh", "kept", "by_token", "mean"]
