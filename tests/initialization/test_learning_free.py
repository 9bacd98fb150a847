"""Schemes beyond mean and deviation: the identity of each, on architectures of every layout.

Run: pytest tests/initialization/test_learning_free.py
"""

import math
from collections import Counter

import pytest
import torch
from safetensors.torch import save_file
from small_models import BART, BERT, DECODER, DECODERS, GROUPED, WEIGHTS, t5
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)

from hf_synpre import ParameterStatistics, StatisticsInit, UsageError
from hf_synpre.initialization import build, read_parameters, skeleton
from hf_synpre.initialization.attention_blocks import read_attention_blocks
from hf_synpre.initialization.generalized_gaussian import fitted_shape

# Name -> the Auto class and the config: grouped heads, norms of queries and keys, experts, one
# fused matrix (in order, or by head), an encoder, an encoder-decoder.
MODELS = {
    "llama": (AutoModelForCausalLM, AutoConfig.for_model("llama", **GROUPED)),
    "qwen3": (AutoModelForCausalLM, AutoConfig.for_model("qwen3", **GROUPED)),
    "mixtral": (AutoModelForCausalLM, AutoConfig.for_model("mixtral", **DECODERS["mixtral"])),
    "gpt2": (AutoModelForCausalLM, AutoConfig.for_model("gpt2", **DECODERS["gpt2"])),
    "gpt_neox": (AutoModelForCausalLM, AutoConfig.for_model("gpt_neox", **DECODER)),
    "phi3": (
        AutoModelForCausalLM,
        AutoConfig.for_model("phi3", **DECODER, num_key_value_heads=1, pad_token_id=0),
    ),
    "bert": (AutoModelForMaskedLM, AutoConfig.for_model("bert", **BERT)),
    "bart": (AutoModelForSeq2SeqLM, AutoConfig.for_model("bart", **BART)),
    "t5": (AutoModelForSeq2SeqLM, t5()),
}
over_models = pytest.mark.parametrize("name", MODELS)


def heads_of(model, cross=False):
    """Yield each attention block with its weights by role."""
    for block in read_attention_blocks(model, read_parameters(model)):
        if cross or not block.is_cross:
            weights = {
                role: view(model.get_parameter(view.parameter.name)).detach().double()
                for role, view in block.weights.items()
            }
            yield block, weights


def started(name, scheme, **options):
    auto, config = MODELS[name]
    return StatisticsInit(auto, scheme=scheme, **options).from_config(config)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Architecture -> the folder of a model whose rows and columns have norms of their own."""
    folders = {}

    def folder_of(name):
        if name not in folders:
            auto, config = MODELS[name]
            model = build(auto, config, {}, 0)
            generator = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for parameter in model.parameters():
                    factors = torch.empty(parameter.shape[-1:]).uniform_(
                        0.5, 2, generator=generator
                    )
                    parameter.normal_(0.01, 0.3, generator=generator).mul_(factors)
            folders[name] = tmp_path_factory.mktemp(name)
            # As the model has them: save_pretrained would take experts apart.
            config.save_pretrained(folders[name])
            tensors = {key: tensor.clone() for key, tensor in model.state_dict().items()}
            save_file(tensors, folders[name] / WEIGHTS, {"format": "pt"})
        return folders[name]

    return folder_of


def made(name, scheme, saved, **options):
    """Return the model that a scheme makes of the saved one, and the saved one."""
    auto, _ = MODELS[name]
    model = StatisticsInit(auto, scheme=scheme, **options).from_pretrained(saved(name))
    return model, auto.from_pretrained(saved(name))


def drawn_maps(model, source):
    """Yield (parameter, the model's maps, the source's) of the matrices that are drawn."""
    for name, parameter in read_parameters(model).items():
        if parameter.part != "embedding" and len(parameter.shape) > 1:
            maps = (each.get_parameter(name).detach().double() for each in (model, source))
            yield parameter, *(parameter.as_maps(each) for each in maps)


# --- heads ----------------------------------------------------------------------------------------


@over_models
def test_every_attention_block_is_read_by_head(name):
    auto, config = MODELS[name]
    model = skeleton(auto, config)
    blocks = [block for block, _ in heads_of(model, cross=True)]
    layers = {"bert": 3, "bart": 6, "t5": 3}.get(name, 2)  # a decoder has two in a layer
    assert len(blocks) == layers
    assert Counter(block.is_cross for block in blocks)[True] == {"bart": 2, "t5": 1}.get(name, 0)
    for block in blocks:
        assert (block.heads, block.key_value_heads) in ((4, 2), (2, 2), (2, 1))


# Name -> the config of a base model whose blocks have other matrices beside those of the heads, or
# one matrix for them in an order of its own.
FOUR_HEADS = DECODER | {"num_attention_heads": 4}
LAYOUTS = {
    "falcon": AutoConfig.for_model("falcon", **FOUR_HEADS, multi_query=True),
    "falcon, by head": AutoConfig.for_model("falcon", **FOUR_HEADS, multi_query=False),
    "gpt_bigcode": AutoConfig.for_model("gpt_bigcode", **DECODERS["gpt2"], multi_query=True),
    "gpt_bigcode, by head": AutoConfig.for_model(
        "gpt_bigcode", **DECODERS["gpt2"], multi_query=False
    ),
    "openai-gpt": AutoConfig.for_model("openai-gpt", **DECODERS["gpt2"]),
    "opt": AutoConfig.for_model("opt", **DECODERS["opt"]),
    "deberta": AutoConfig.for_model("deberta", **BERT),
    "longformer": AutoConfig.for_model("longformer", **BERT, attention_window=4),
    "qwen3_5_text": AutoConfig.for_model(
        "qwen3_5_text", **GROUPED, layer_types=["full_attention"] * 2
    ),
    "afmoe": AutoConfig.for_model("afmoe", **GROUPED, num_experts=2, num_experts_per_tok=1),
}


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "phi3", *LAYOUTS])
def test_the_rows_of_a_head_are_those_that_the_model_uses(name):
    """A head whose values are zero gives zeros to the output, whatever the others do."""
    auto, config = MODELS.get(name) or (AutoModel, LAYOUTS[name])
    model = build(auto, config, {}, 0).eval()
    block = next(block for block, _ in heads_of(model))
    value, output = block.weights["value"], block.weights["output"]
    ids = torch.arange(2, 8)[None]
    with torch.no_grad():
        for view in (value, *([block.biases["value"]] if block.biases else [])):
            view(model.get_parameter(view.parameter.name))[0].zero_()
        before = model(ids)[0]
        served = output(model.get_parameter(output.parameter.name))[: block.group]
        served.normal_(0, 5, generator=torch.Generator().manual_seed(0))
        assert torch.equal(model(ids)[0], before)
        view = block.weights["query"]
        queries = view(model.get_parameter(view.parameter.name))
        queries[: block.group].mul_(-30)
        assert torch.equal(model(ids)[0], before)
        if block.key_value_heads > 1:
            queries[-1].mul_(-30)
            assert not torch.equal(model(ids)[0], before)


def test_gates_are_no_queries():
    model = build(AutoModel, LAYOUTS["qwen3_5_text"], {}, 0)
    block = next(block for block, _ in heads_of(model))
    view = block.weights["query"]
    matrix = model.get_parameter(view.parameter.name).detach()  # [heads * 2 * width, inputs]
    assert matrix.shape[0] == 4 * 2 * 8
    assert torch.equal(view(matrix), matrix.view(4, 2, 8, -1)[:, 0])  # [heads, width, inputs]


def test_a_config_whose_layers_differ_is_passed_over():
    """transformers refuses to read such a field, as num_attention_heads of some Gemma 4."""

    class Differing:
        @property
        def num_attention_heads(self):
            raise RuntimeError("'num_attention_heads' is a per-layer attribute")

    model = build(*MODELS["llama"], {}, 0)
    for layer in model.model.layers:
        layer.self_attn.config = Differing()
    assert [block.heads for block, _ in heads_of(model)] == [4, 4]


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
        ("codegen", {"n_ctx": 16, "rotary_dim": 4}),
        ("diffllama", {}),
        ("convbert", {}),
    ],
)
def test_a_block_whose_heads_cannot_be_told_apart_is_left_out(model_type, fields):
    model = skeleton(AutoModel, AutoConfig.for_model(model_type, **FOUR_HEADS | fields))
    assert read_attention_blocks(model, read_parameters(model)) == []


# --- without a checkpoint -------------------------------------------------------------------------


@over_models
def test_symmetric_keys_are_the_mean_of_the_queries_they_serve(name):
    model = started(name, "symmetric_qk", seed=3)
    fresh = build(*MODELS[name], {}, 3)
    for block, weights in heads_of(model):
        means = weights["query"].unflatten(0, (block.key_value_heads, block.group)).mean(1)
        assert torch.allclose(weights["key"], means, atol=1e-7)
        assert weights["key"].std() > 0
    filled = set(model.load_report.loaded)
    assert filled
    for key, parameter in model.named_parameters():
        if key not in filled:
            assert torch.equal(parameter, fresh.get_parameter(key)), key


@over_models
def test_mimetic_products_are_a_noisy_identity_of_low_rank(name):
    """With noise alone or the identity alone the products are known; with both they are near."""
    identity = {"query_key_noise": 0.0, "value_output_noise": 0.0}
    model = started(name, "mimetic", scheme_options=identity)
    for block, weights in heads_of(model):
        keys = weights["key"].repeat_interleave(block.group, 0)
        products = weights["query"].transpose(1, 2) @ keys  # [heads, inputs, inputs]
        rank = min(weights["query"].shape[1:])
        # A truncation of 0.7 I to a rank is 0.7 times a projection.
        assert torch.allclose(products @ products, 0.7 * products, atol=1e-5)
        traces = products.diagonal(dim1=1, dim2=2).sum(1)
        assert torch.allclose(traces, torch.full_like(traces, 0.7 * rank), atol=1e-5)

        values = weights["value"].repeat_interleave(block.group, 0)
        product = (weights["output"] @ values).sum(0)  # [outputs, inputs]
        rank = min(weights["value"].shape[0] * weights["value"].shape[1], len(product))
        assert torch.allclose(product @ product, -0.4 * product, atol=1e-5)
        assert product.trace().item() == pytest.approx(-0.4 * rank, abs=1e-4)

    model = started(name, "mimetic", seed=1)
    for block, weights in heads_of(model):
        keys = weights["key"].repeat_interleave(block.group, 0)
        assert (torch.linalg.svdvals(weights["query"].transpose(1, 2) @ keys)[:, 0] > 0.7).all()
        if block.group == 1:  # queries and keys share the singular values
            norms = [torch.linalg.svdvals(weights[role][0]) for role in ("query", "key")]
            assert torch.allclose(*norms, atol=1e-5)


@over_models
def test_gamma_draws_the_deviation_of_the_inputs(name):
    model = started(name, "gamma", scheme_options={"gamma": 0.75})
    parameters = read_parameters(model)
    assert model.load_report.loaded
    for key in model.load_report.loaded:
        tensor = model.get_parameter(key).detach()
        inputs = parameters[key].as_maps(tensor).shape[-1]
        assert tensor.std().item() * inputs**0.75 == pytest.approx(
            1, abs=4 / (2 * tensor.numel()) ** 0.5
        )
        assert abs(tensor.mean()) < 4 * tensor.std() / tensor.numel() ** 0.5
    matrices = {key for key, p in parameters.items() if p.part in ("attention", "mlp")}
    biases = {key for key in matrices if parameters[key].bias}
    assert matrices - biases <= set(model.load_report.loaded)


# --- from the values of a checkpoint --------------------------------------------------------------


@pytest.mark.parametrize("axis", ["permuted_rows", "permuted_columns"])
@over_models
def test_rows_or_columns_keep_their_values(name, axis, saved):
    model, source = made(name, axis, saved)
    kept, lost = (-1, -2) if axis == "permuted_rows" else (-2, -1)
    for parameter, maps, originals in drawn_maps(model, source):
        assert torch.equal(maps.sort(kept).values, originals.sort(kept).values), parameter.name
        if maps.shape[-1] > 2 and maps.shape[-2] > 2:
            assert not torch.equal(maps.sort(lost).values, originals.sort(lost).values)


@over_models
def test_rescaled_matrices_keep_their_direction_and_lose_their_scale(name, saved):
    model, source = made(name, "rescaled_weights", saved)
    for parameter, maps, originals in drawn_maps(model, source):
        assert maps.std(correction=0).item() == pytest.approx(0.02, rel=1e-5), parameter.name
        cosine = (maps * originals).sum() / (maps.norm() * originals.norm())
        assert cosine.item() == pytest.approx(1, abs=1e-6)


@over_models
def test_rows_and_columns_have_the_norms_of_the_checkpoint(name, saved):
    model, source = made(name, "row_column_norms", saved)
    for parameter, maps, originals in drawn_maps(model, source):
        for axis in (-1, -2):
            norms, expected = maps.norm(dim=axis), originals.norm(dim=axis)
            assert torch.allclose(norms, expected, rtol=1e-5), parameter.name
        assert not torch.equal(maps, originals)


@over_models
def test_singular_values_are_the_checkpoints(name, saved):
    model, source = made(name, "spectral", saved)
    for parameter, maps, originals in drawn_maps(model, source):
        values, expected = torch.linalg.svdvals(maps), torch.linalg.svdvals(originals)
        assert (values - expected).abs().max() < 1e-5 * expected.max(), parameter.name
        assert not torch.allclose(maps, originals)


def test_singular_vectors_are_uniform(saved):
    model, _ = made("llama", "spectral", saved)
    up = model.model.layers[0].mlp.up_proj.weight.detach().double()  # [32, 16]
    left, _, _ = torch.linalg.svd(up, full_matrices=False)
    # Of uniform orthonormal columns the mean of |Q_ij|^2 is 1 / rows in each row, with a deviation.
    assert left.square().mean(1).std() < 0.5 / 32
    assert abs(left.mean()) < 4 / (left.numel() * 32) ** 0.5


@over_models
def test_every_head_has_the_moments_of_its_own(name, saved):
    model, source = made(name, "per_head", saved)
    for (_, drawn), (_, originals) in zip(
        heads_of(model, True), heads_of(source, True), strict=True
    ):
        for role, heads in drawn.items():
            for head, original in zip(heads, originals[role], strict=True):
                error = 5 / head.numel() ** 0.5
                assert head.std().item() == pytest.approx(original.std().item(), rel=error)
                assert abs(head.mean() - original.mean()) < error * original.std()


def test_a_head_of_zeros_stays_one(tmp_path):
    auto, config = MODELS["gpt2"]
    model = build(auto, config, {}, 0)
    block, _ = next(heads_of(model))
    for role in ("query", "output"):
        view = block.weights[role]
        with torch.no_grad():
            view(model.get_parameter(view.parameter.name))[1].zero_()
    model.save_pretrained(tmp_path)
    drawn = StatisticsInit(auto, scheme="per_head").from_pretrained(tmp_path)
    _, weights = next(heads_of(drawn))
    for role in ("query", "output"):
        assert (weights[role][1] == 0).all()
        assert (weights[role][0] != 0).all()


# --- the shape of a distribution ------------------------------------------------------------------


def test_a_shape_is_found_again():
    assert fitted_shape(1.0, math.sqrt(2 / math.pi)) == pytest.approx(2, rel=1e-6)
    assert fitted_shape(math.sqrt(2), 1.0) == pytest.approx(1, rel=1e-6)


def test_generalised_normal_numbers_have_the_shape_of_the_checkpoint(tmp_path):
    auto = AutoModelForCausalLM
    fields = DECODER | {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
    config = AutoConfig.for_model("llama", **fields, head_dim=64)
    model = build(auto, config, {}, 0)
    generator = torch.Generator().manual_seed(0)
    laplace = torch.distributions.Laplace(0.0, 0.1)
    with torch.no_grad():
        weight = model.model.layers[0].mlp.up_proj.weight
        weight.copy_(laplace.icdf(torch.rand(weight.shape, generator=generator)))
    model.save_pretrained(tmp_path)

    # An old statistics file lies there: the weights are measured again, and the file has more.
    ParameterStatistics.from_pretrained(tmp_path)
    factory = StatisticsInit(auto, scheme="generalized_gaussian")
    drawn = factory.from_pretrained(tmp_path).model.layers[0].mlp
    statistics = ParameterStatistics.from_pretrained(tmp_path)
    assert statistics.has_absolute
    for name, shape in (("up_proj", 1), ("gate_proj", 2)):
        weight = drawn.get_parameter(f"{name}.weight").double()
        absolute = (weight - weight.mean()).abs().mean().item()
        assert fitted_shape(weight.std().item(), absolute) == pytest.approx(shape, rel=0.05)
        moments = statistics.parameters[f"model.layers.0.mlp.{name}.weight"]
        assert weight.std().item() == pytest.approx(moments.sd, rel=0.02)
    again = ParameterStatistics.load(tmp_path / "parameter_statistics.json")
    assert again == statistics


# --- bad input ------------------------------------------------------------------------------------


def test_what_cannot_be_is_one_line():
    auto, config = MODELS["llama"]
    cases = [
        ({"scheme": "spectral"}, None, "Scheme spectral needs statistics; give them, or a ch"),
        ({"scheme": "per_head"}, "synpre/t5-mini-set", "could not be downloaded|statistics are"),
        ({"scheme": "gamma", "scheme_options": {"gama": 1}}, None, "Did you mean 'gamma'"),
        ({"scheme": "gamma", "scheme_options": {"gamma": "x"}}, None, "gamma is 'x'; give a fin"),
        ({"scheme": "gamma", "scheme_options": {"gamma": -3}}, None, "gamma is -3, which makes"),
        ({"scheme": "mlp_scale", "scheme_options": {"a": 1}}, None, "mlp_scale has no options"),
        ({"scheme": "generalized_gaussian"}, "synpre/llama-mini-set", "mean absolute deviation"),
        ({"scheme": "mimetic", "include": ["mlp"]}, None, "fills no parameter"),
        ({"scheme": "mimetic", "include": ["query"]}, None, "finds nothing to fill in Llama"),
    ]
    for options, source, message in cases:
        with pytest.raises(UsageError, match=message):
            StatisticsInit(auto, **options).from_config(config, source)


def test_a_model_without_such_attention_is_refused():
    config = AutoConfig.for_model("mamba", **DECODERS["mamba"])
    roles = {"*mixer*": "mlp", "*norm.weight": "pre_mlp_norm", "*norm_f*": "final_norm"}
    factory = StatisticsInit(AutoModelForCausalLM, scheme="symmetric_qk", roles=roles)
    with pytest.raises(UsageError, match="symmetric_qk under include and exclude fills no param"):
        factory.from_config(config)
    compressed = AutoConfig.for_model("deepseek_v3", **DECODER)
    with pytest.raises(UsageError, match="finds nothing to fill in DeepseekV3ForCausalLM"):
        StatisticsInit(AutoModelForCausalLM, scheme="symmetric_qk").from_config(compressed)
