"""Logits at masked positions only: the same logits and gradients as those of the whole row.

Run: pytest tests/models/test_masked_head.py
"""

from types import SimpleNamespace

import pytest
import torch
from encoder_examples import SHAPE, SHAPE_CHANGES, masked_batch
from transformers import AutoConfig, AutoModelForMaskedLM

from hf_synpre.initialization import build
from hf_synpre.models.masked_head import compute_masked_logits_only
from hf_synpre.training.losses import token_loss


@pytest.mark.parametrize(
    "model_type",
    ["bert", "roberta", "electra", "distilbert", "albert", "deberta-v2", "modernbert", "mpnet"],
)
def test_logits_at_masked_positions_are_those_of_all_logits(model_type, encoder_tokenizer):
    config = AutoConfig.for_model(model_type, **SHAPE | SHAPE_CHANGES.get(model_type, {}))
    model = build(AutoModelForMaskedLM, config, {}, 0).eval()
    batch = masked_batch(encoder_tokenizer)
    labels = batch.pop("labels")
    positions = batch.pop("masked_positions")  # [rows, masked]

    # Logits of the whole row, of which those at masked positions are picked.
    all_logits = model(**batch).logits  # [rows, length, vocabulary]
    index = positions[..., None].expand(-1, -1, all_logits.shape[-1])
    expected_logits = all_logits.gather(1, index)  # [rows, masked, vocabulary]
    token_loss(SimpleNamespace(logits=expected_logits), labels).backward()
    expected_gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad()

    # Logits at masked positions only.
    assert compute_masked_logits_only(model)
    outputs = model(masked_positions=positions, **batch)
    assert outputs.logits.shape == expected_logits.shape
    torch.testing.assert_close(outputs.logits, expected_logits)
    token_loss(outputs, labels).backward()
    for name, parameter in model.named_parameters():
        if name in expected_gradients:
            torch.testing.assert_close(
                parameter.grad, expected_gradients[name], rtol=1e-4, atol=1e-6
            )

    # Without positions the model is as before.
    torch.testing.assert_close(model(**batch).logits, all_logits)
