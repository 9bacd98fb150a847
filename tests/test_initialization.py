"""Parameter statistics: measured, stored, sampled from; weights transferred whole but for the embeddings."""

import json

import pytest
import torch
from conftest import TINY
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.initialization import STATISTICS_FILE, build, embedding_names, tensor_generator

EMBEDDING = "shared.weight"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_config):
    """A saved model whose every parameter has moments of its own."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = build(AutoModelForSeq2SeqLM, tiny_config, {}, 0)
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.normal_(0.1 * i, 0.5 + 0.01 * i)
    model.save_pretrained(folder)
    return folder


def test_t5_small_has_131_parameters():
    with torch.device("meta"):
        small = T5ForConditionalGeneration(T5Config())
    assert len(list(small.named_parameters())) == 131
    assert embedding_names(small) == {
        "shared.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
    }


def test_moments_are_those_of_the_tensors_however_they_are_read(checkpoint, tmp_path):
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    measured = ParameterStatistics.from_model(model)
    for name, p in model.named_parameters():
        moments = measured.parameters[name]
        assert (moments.shape, moments.numel) == (tuple(p.shape), p.numel())
        assert moments.mean == pytest.approx(p.double().mean().item(), rel=1e-12)
        assert moments.sd == pytest.approx(p.double().std(correction=0).item(), rel=1e-12)
    assert ParameterStatistics.from_pretrained(checkpoint).parameters == measured.parameters
    measured.save(tmp_path / STATISTICS_FILE)
    assert ParameterStatistics.from_pretrained(tmp_path) == measured


def test_sampled_weights_have_the_moments_and_embeddings_stay_fresh(checkpoint, tiny_config):
    stats = ParameterStatistics.from_pretrained(checkpoint)
    model = StatisticsInit(AutoModelForSeq2SeqLM, seed=1).from_pretrained(checkpoint)
    fresh = build(AutoModelForSeq2SeqLM, tiny_config, {}, 1)
    for name, p in model.named_parameters():
        moments = stats.parameters[name]
        if name == EMBEDDING:
            assert torch.equal(p, fresh.get_input_embeddings().weight)
        elif p.numel() >= 1024:
            assert p.mean().item() == pytest.approx(moments.mean, abs=5 * moments.sd / p.numel() ** 0.5)
            assert p.std().item() == pytest.approx(moments.sd, rel=0.15)
    assert model.lm_head.weight is model.shared.weight


def test_numbers_depend_on_seed_and_name_only(checkpoint, tiny_config):
    stats = ParameterStatistics.from_pretrained(checkpoint)
    factory = StatisticsInit(T5ForConditionalGeneration, seed=5)
    one, two = (factory.from_config(tiny_config, stats).state_dict() for _ in range(2))
    other = StatisticsInit(T5ForConditionalGeneration, seed=6).from_config(tiny_config, stats).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not any(torch.equal(one[k], other[k]) for k in one)
    name = "encoder.block.0.layer.1.DenseReluDense.wi.weight"
    expected = torch.randn(one[name].shape, generator=tensor_generator(5, name)) * stats.parameters[name].sd
    torch.testing.assert_close(one[name], expected + stats.parameters[name].mean)


def test_initialising_leaves_the_global_generator_alone(checkpoint):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    StatisticsInit(AutoModelForSeq2SeqLM).from_pretrained(checkpoint)
    assert torch.equal(torch.rand(3), expected)


def test_round_trip_is_bit_equal(checkpoint, tmp_path):
    model = StatisticsInit(AutoModelForSeq2SeqLM).from_pretrained(checkpoint)
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("embeddings", ["fresh", "kept"])
def test_transfer_copies_all_weights_and_the_embeddings_only_if_kept(checkpoint, tiny_config, embeddings):
    model = transfer(AutoModelForSeq2SeqLM, checkpoint, tiny_config, embeddings=embeddings, seed=3)
    source = AutoModelForSeq2SeqLM.from_pretrained(checkpoint).state_dict()
    differing = {name for name, p in model.named_parameters() if not torch.equal(p, source[name])}
    assert differing == ({EMBEDDING} if embeddings == "fresh" else set())


def test_fresh_embeddings_may_have_another_vocabulary(checkpoint):
    config = T5Config(vocab_size=99, decoder_start_token_id=0, **TINY)
    model = transfer(AutoModelForSeq2SeqLM, checkpoint, config)
    assert model.shared.weight.shape == (99, 32)
    with pytest.raises(UsageError, match=r"shared.weight has shape \[64, 32\], the model wants \[99, 32\]"):
        transfer(AutoModelForSeq2SeqLM, checkpoint, config, embeddings="kept")


def test_statistics_of_another_depth_are_refused(checkpoint):
    config = T5Config(vocab_size=64, **(TINY | {"num_layers": 2}))
    with pytest.raises(UsageError, match=r"lack 8 parameters of the model, encoder.block.1"):
        StatisticsInit(AutoModelForSeq2SeqLM).from_config(config, ParameterStatistics.from_pretrained(checkpoint))


def test_an_unknown_scheme_is_named():
    with pytest.raises(UsageError, match="Did you mean 'per_param_mean_sd'"):
        StatisticsInit(AutoModelForSeq2SeqLM, scheme="per_param_mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "has format 9"),
        ({"parameters": [{"name": "w", "shape": [1], "numel": 1, "mean": 0.0, "sd": -1.0}]}, "sd >= 0"),
        ({"parameters": [{"name": "w"}]}, "is not a statistics file"),
        ({"parameters": [3]}, "is not a statistics file"),
        ({"parameters": [{"name": "w", "shape": [1], "numel": 1, "mean": "x", "sd": 1.0}]}, "is not a statistics file"),
        (None, "is not valid JSON"),
    ],
)
def test_broken_statistics_files_are_named(tmp_path, change, message):
    file = tmp_path / STATISTICS_FILE
    file.write_text("{" if change is None else json.dumps({"format": 1, "source": "x", "parameters": []} | change))
    with pytest.raises(UsageError, match=message):
        ParameterStatistics.from_pretrained(tmp_path)


def test_a_broken_safetensors_file_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(UsageError, match="is not a whole safetensors file"):
        ParameterStatistics.from_pretrained(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(UsageError, match="holds neither"):
        ParameterStatistics.from_pretrained(tmp_path)
