"""Weights before the first step: T5X's, and encoders whose heads attend to near positions.

Run: pytest tests/models/test_initial_weights.py
"""

import pytest
import torch
from encoder_examples import ELECTRA, ROBERTA, spec_of
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hf_synpre import UsageError
from hf_synpre.initialization import build
from hf_synpre.models.initial_weights import local_weights, t5x_weights
from hf_synpre.models.spec import ModelSpec
from hf_synpre.training.pretraining_trainer import fresh_model
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
    assert changed(model, t5x_weights) == {
        name
        for name, _ in model.named_parameters()
        if "DenseReluDense" in name or "relative_attention_bias" in name
    }

    after = dict(model.named_parameters())
    wo = after["encoder.block.0.layer.1.DenseReluDense.wo.weight"]
    assert wo.std().item() == pytest.approx(2048**-0.5, rel=0.01)
    assert wo.abs().max() < 2.3 * 2048**-0.5
    table = after["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    assert table.abs().max() <= (6 / sum(table.shape)) ** 0.5


def preference_for_near(body):
    """Return attention to the two ids on either side over that to far ids, [layers, heads]."""
    ids = torch.randint(
        8, body.config.vocab_size, (4, 30), generator=torch.Generator().manual_seed(0)
    )
    distance = (torch.arange(30)[:, None] - torch.arange(30)).abs()  # [length, length]
    is_near = (distance > 0) & (distance < 3)
    is_far = distance > 9

    with torch.no_grad():
        attentions = body.eval()(input_ids=ids, output_attentions=True).attentions
    mean_attention = torch.stack(attentions).mean(1)  # [layers, heads, length, length]
    return mean_attention[..., is_near].mean(-1) / mean_attention[..., is_far].mean(-1)


@pytest.mark.parametrize("name", ENCODERS)
def test_local_weights_let_half_the_heads_of_every_layer_attend_nearby(name, encoder_tokenizer):
    spec, objective = ENCODERS[name]
    fresh, local, again = (
        fresh_model(
            spec_of(objective, initial_weights=weights), spec, as_vocabulary(encoder_tokenizer)
        )
        for weights in ("transformers", "local", "local")
    )

    # The seed alone decides them, whatever numbers dropout draws elsewhere.
    for one, other in zip(local.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)

    # The first of two heads of each layer attends nearby, the second does not.
    for part in ("generator", "discriminator") if objective == "rtd" else ("base_model",):
        assert preference_for_near(getattr(fresh, part).base_model).max() < 1.5
        preference = preference_for_near(getattr(local, part).base_model)  # [layers, heads]
        assert preference[:, 0].min() > 2
        assert (preference[:, 1:] < 1.5).all()

    # Other weights stay as they were.
    drawn_anew = (
        "position_embeddings",
        "query.weight",
        "key.weight",
        "q_lin.weight",
        "k_lin.weight",
    )
    assert changed(fresh, local_weights) == {
        name for name, _ in fresh.named_parameters() if any(ending in name for ending in drawn_anew)
    }


def test_local_weights_need_learned_position_embeddings():
    model = build(AutoModelForSeq2SeqLM, AutoConfig.for_model("t5", **T5), {}, 0)
    with pytest.raises(
        UsageError,
        match=r"T5ForCond\w+ has no learned position embeddings .* give transformers\.",
    ):
        local_weights(model, torch.Generator())
