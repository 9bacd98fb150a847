"""Weights before the first step: T5X's, and encoders whose heads attend to near positions.

Run: pytest tests/models/test_initial_weights.py
"""

import pytest
import torch
from selfpre import ELECTRA, ROBERTA, spec_of
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hf_synpre import UsageError
from hf_synpre.initialization import build
from hf_synpre.models.initial_weights import local_weights, t5x_weights
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining import fresh_model
from hf_synpre.vocabulary import as_vocabulary

T5 = {
    "vocab_size": 64,
    "d_model": 512,
    "d_ff": 2048,
    "num_layers": 1,
    "num_heads": 8,
    "decoder_start_token_id": 0,
}
DISTILBERT = ModelSpec(
    "distilbert", overrides={"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
)
ENCODERS = {
    "electra": (ELECTRA, "mlm"),
    "pair": (ELECTRA, "rtd"),
    "roberta": (ROBERTA, "mlm"),
    "distilbert": (DISTILBERT, "mlm"),
}


def changed(model, change):
    """Return the names of the parameters that a change of the weights has changed."""
    before = {name: p.clone() for name, p in model.named_parameters()}
    change(model, torch.Generator().manual_seed(0))
    return {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}


def test_t5x_weights_have_the_distributions_of_the_paper():
    model = build(AutoModelForSeq2SeqLM, AutoConfig.for_model("t5", **T5), {}, 0)
    names = changed(model, t5x_weights)
    assert names == {
        n
        for n, _ in model.named_parameters()
        if "DenseReluDense" in n or "relative_attention_bias" in n
    }
    after = dict(model.named_parameters())
    wo = after["encoder.block.0.layer.1.DenseReluDense.wo.weight"]
    assert wo.std().item() == pytest.approx(2048**-0.5, rel=0.01)
    assert wo.abs().max() < 2.3 * 2048**-0.5
    table = after["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    assert table.abs().max() <= (6 / sum(table.shape)) ** 0.5


def nearness(body):
    """Return the attention to the two ids on either side over that to ids ten and more away: [layers, heads]."""
    ids = torch.randint(
        8, body.config.vocab_size, (4, 30), generator=torch.Generator().manual_seed(0)
    )
    away = (torch.arange(30)[:, None] - torch.arange(30)).abs()
    with torch.no_grad():
        found = torch.stack(body.eval()(input_ids=ids, output_attentions=True).attentions).mean(1)
    return found[..., (away > 0) & (away < 3)].mean(-1) / found[..., away > 9].mean(-1)


@pytest.mark.parametrize("name", ENCODERS)
def test_local_weights_let_half_the_heads_of_every_layer_attend_nearby(name, tokenizer):
    model, objective = ENCODERS[name]
    stock, local = (
        fresh_model(spec_of(objective, initial_weights=weights), model, as_vocabulary(tokenizer))
        for weights in ("transformers", "local")
    )
    for part in ("generator", "discriminator") if objective == "rtd" else ("base_model",):
        assert nearness(getattr(stock, part).base_model).max() < 1.5
        found = nearness(getattr(local, part).base_model)
        assert found[:, 0].min() > 2
        assert (found[:, 1:] < 1.5).all()
    words = ("position_embeddings", "query.weight", "key.weight", "q_lin.weight", "k_lin.weight")
    assert changed(stock, local_weights) == {
        n for n, _ in stock.named_parameters() if any(word in n for word in words)
    }


def test_local_weights_need_learned_position_embeddings():
    model = build(AutoModelForSeq2SeqLM, AutoConfig.for_model("t5", **T5), {}, 0)
    with pytest.raises(
        UsageError,
        match=r"T5ForConditionalGeneration has no learned position embeddings .* give transformers\.",
    ):
        local_weights(model, torch.Generator())
