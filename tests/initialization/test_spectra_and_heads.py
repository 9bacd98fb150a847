"""spectral from a card alone and at other sizes; per_head where the numbers of heads differ.

Run: pytest tests/initialization/test_spectra_and_heads.py
"""

import json
import shutil

import pytest
import torch
from small_models import GROUPED
from transformers import AutoConfig, AutoModelForCausalLM

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.cli import main
from hf_synpre.initialization import STATISTICS_FILE, build, read_parameters
from hf_synpre.initialization.attention_blocks import read_attention_blocks
from hf_synpre.initialization.head_moments import matched_heads
from hf_synpre.initialization.spectra import LEVELS, UNITS

AUTO = AutoModelForCausalLM
SIZES = GROUPED | {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 96}


def llama(**fields):
    return AutoConfig.for_model("llama", **SIZES | fields)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model with a steep spectrum, and the folder of its weights."""
    model = build(AUTO, llama(), {}, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            factors = torch.linspace(0.1, 3, parameter.shape[-1])
            parameter.normal_(0, 0.3, generator=generator).mul_(factors)
    folder = tmp_path_factory.mktemp("steep")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def card(checkpoint, tmp_path_factory):
    """The statistics file of the checkpoint with quantiles, and nothing beside it."""
    file = tmp_path_factory.mktemp("card") / STATISTICS_FILE
    words = ["--spectrum", "true", "--output_file", str(file)]
    assert main(["statistics", str(checkpoint[1]), *words]) == 0
    return file


def matrices(model):
    for name, parameter in read_parameters(model).items():
        if parameter.part in ("attention", "mlp"):
            yield parameter, model.get_parameter(name).detach().double()


def relative(matrix):
    """Return the singular values of a matrix in units of their root mean square, ascending."""
    values = torch.linalg.svdvals(matrix).flip(0)
    return values / values.square().mean().sqrt()


# --- spectra --------------------------------------------------------------------------------------


def test_a_card_alone_gives_the_singular_values(checkpoint, card):
    source, _ = checkpoint
    model = StatisticsInit(AUTO, scheme="spectral").from_config(llama(), card)
    for parameter, matrix in matrices(model):
        expected = source.get_parameter(parameter.name).detach().double()
        assert matrix.norm().item() == pytest.approx(expected.norm().item(), rel=1e-4)
        error = (relative(matrix) - relative(expected)).abs().max()
        assert error < 0.15, parameter.name  # a normal matrix of its moments is 0.5 away
        assert not torch.allclose(matrix, expected)
    norm = model.model.norm.weight  # a vector: normal with its moments
    assert norm.std().item() == pytest.approx(source.model.norm.weight.std().item(), rel=0.5)


def test_the_file_has_quantiles_in_units_of_the_mean_square(checkpoint, card):
    source, _ = checkpoint
    entries = {entry["name"]: entry for entry in json.loads(card.read_text())["parameters"]}
    name = "model.layers.0.mlp.up_proj.weight"
    values = relative(source.get_parameter(name).detach().double())
    expected = torch.quantile(values, torch.tensor(LEVELS, dtype=torch.float64)) * UNITS
    assert entries[name]["spectrum"] == pytest.approx(expected.tolist(), abs=0.51)
    assert "spectrum" not in entries["model.norm.weight"]
    again = card.with_name("again.json")
    ParameterStatistics.load(card).save(again)
    assert again.read_bytes() == card.read_bytes()


@pytest.mark.parametrize("kind", ["card", "weights"])
def test_another_size_takes_the_values_at_the_same_places(checkpoint, card, kind):
    source, folder = checkpoint
    config = llama(hidden_size=96, intermediate_size=128)
    given = card if kind == "card" else folder
    model = StatisticsInit(AUTO, scheme="spectral").from_config(config, given)
    for parameter, matrix in matrices(model):
        original = source.get_parameter(parameter.name).detach().double()
        scale = (original.shape[1] / matrix.shape[1]) ** 0.5
        mean_squares = [each.square().mean().sqrt().item() for each in (matrix, original)]
        assert mean_squares[0] == pytest.approx(mean_squares[1] * scale, rel=1e-4)
        places = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        quantiles = [torch.quantile(relative(each), places) for each in (matrix, original)]
        assert torch.allclose(*quantiles, atol=0.12), parameter.name


@pytest.mark.parametrize(
    ("spectrum", "message"),
    [
        (None, "quantiles of singular values, which the statistics of .* lack; give a checkpoint"),
        ([1] * 8, "numbers that no parameter has"),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], "numbers that no parameter has"),
        ([-1, 2, 3, 4, 5, 6, 7, 8, 9], "numbers that no parameter has"),
        (["a"] * 9, "is not a statistics file"),
        (5, "is not a statistics file"),
    ],
)
def test_a_card_without_quantiles_or_with_broken_ones_is_one_line(
    card, tmp_path, spectrum, message
):
    content = json.loads(card.read_text())
    for entry in content["parameters"]:
        if entry.pop("spectrum", None) and spectrum is not None:
            entry["spectrum"] = spectrum
    (tmp_path / "old.json").write_text(json.dumps(content))
    factory = StatisticsInit(AUTO, scheme="spectral")
    with pytest.raises(UsageError, match=message):
        factory.from_config(llama(), tmp_path / "old.json")


def test_a_bundled_checkpoint_has_no_quantiles():
    factory = StatisticsInit(AUTO, scheme="spectral")
    with pytest.raises(UsageError, match="which the statistics of set lack; give a checkpoint wi"):
        factory.from_pretrained("synpre/llama-mini-set")


def test_measuring_the_deviations_keeps_the_quantiles(checkpoint, card, tmp_path):
    folder = tmp_path / "with_card"
    shutil.copytree(checkpoint[1], folder)
    shutil.copy(card, folder)
    assert not ParameterStatistics.from_pretrained(folder).has_absolute
    both = ParameterStatistics.from_pretrained(folder, absolute=True)
    assert both.has_absolute
    assert both.has_spectra


# --- heads ----------------------------------------------------------------------------------------


def test_heads_are_matched_by_their_deviation():
    sds = torch.tensor([0.3, 0.1, 0.2, 0.4])
    assert matched_heads(sds, 4).tolist() == [0, 1, 2, 3]
    assert matched_heads(sds, 2).tolist() == [2, 3]
    assert matched_heads(sds, 8).tolist() == [1, 1, 2, 2, 0, 0, 3, 3]


@pytest.mark.parametrize(("heads", "key_heads"), [(2, 1), (8, 4), (4, 4)])
def test_another_number_of_heads_takes_those_of_the_same_rank(tmp_path, heads, key_heads):
    wide = {"hidden_size": 64, "head_dim": 16, "num_key_value_heads": 2}
    source = build(AUTO, llama(**wide, num_attention_heads=4), {}, 0)
    sds = torch.tensor([0.3, 0.1, 0.2, 0.4])
    (block,) = read_attention_blocks(source, read_parameters(source))
    with torch.no_grad():
        for role, view in block.weights.items():
            tensor = view(source.get_parameter(view.parameter.name))
            tensor /= tensor.flatten(1).std(1, correction=0).view(-1, 1, 1)
            tensor *= sds[: len(tensor)].view(-1, 1, 1)
            assert len(tensor) == (2 if role in ("key", "value") else 4)
    source.save_pretrained(tmp_path)

    fields = wide | {"num_attention_heads": heads, "num_key_value_heads": key_heads}
    model = StatisticsInit(AUTO, scheme="per_head").from_config(llama(**fields), tmp_path)
    (block,) = read_attention_blocks(model, read_parameters(model))
    for role, view in block.weights.items():
        drawn = view(model.get_parameter(view.parameter.name)).detach().flatten(1)
        stored = sds[:2] if role in ("key", "value") else sds
        expected = stored[matched_heads(stored, len(drawn))]
        if role == "output":  # it has another number of inputs
            expected = expected * (4 / heads) ** 0.5
        assert torch.allclose(drawn.std(1), expected, rtol=0.12), role


def test_heads_of_another_kind_of_attention_are_one_line(checkpoint):
    config = AutoConfig.for_model("mistral", **SIZES)
    with pytest.raises(UsageError, match="is a llama, the model a mistral; give one architec"):
        StatisticsInit(AUTO, scheme="per_head").from_config(config, checkpoint[1])
