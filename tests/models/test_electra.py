"""Replaced-token detection: the pair's weights, sampled tokens, loss, gradients and metrics.

Run: pytest tests/models/test_electra.py
"""

import copy
from types import SimpleNamespace

import pytest
import torch
from encoder_examples import ELECTRA, ROBERTA, electra_pair, masked_batch, spec_of
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import ElectraConfig

from hf_synpre import UsageError
from hf_synpre.data.masking import DRAWS
from hf_synpre.data.rows import IGNORED
from hf_synpre.models import chunked_head
from hf_synpre.models.electra import RTDConfig, RTDOutput, build_rtd, put_tokens, sample_tokens
from hf_synpre.models.electra_losses import (
    DISCRIMINATOR_WEIGHT,
    evaluation_sums,
    rtd_loss,
    rtd_metrics,
)
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.pretraining_trainer import fresh_model, pretraining_trainer
from hf_synpre.vocabulary import as_vocabulary

# The pair.


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_electra_small_has_the_published_number_of_parameters():
    model = build_rtd(ElectraConfig(pad_token_id=0), 0)
    assert count(model) == 14_196_219
    assert count(model.generator) == 4_620_026
    assert count(model.discriminator) == 13_549_057

    # Generator and discriminator share their embeddings.
    generator, discriminator = model.generator.electra, model.discriminator.electra
    assert generator.embeddings.LayerNorm.weight is discriminator.embeddings.LayerNorm.weight
    word_embeddings = model.discriminator.get_input_embeddings()
    assert model.generator.generator_lm_head.weight is word_embeddings.weight


@pytest.mark.parametrize(
    ("fraction", "width", "heads"), [(0.25, 64, 1), (0.51, 130, 2), (1.0, 256, 4)]
)
def test_a_generators_heads_divide_its_width(fraction, width, heads):
    config = RTDConfig.for_discriminator(ElectraConfig(), fraction).part("generator")
    assert (config.hidden_size, config.num_attention_heads) == (width, heads)


def test_a_generator_without_embeddings_to_share_is_refused(encoder_tokenizer):
    with pytest.raises(UsageError, match="RobertaConfig has no embedding_size of its own"):
        build_rtd(ROBERTA.config(as_vocabulary(encoder_tokenizer)), 0)


# Loss and gradients.


def straightforward_loss(model, batch):
    """Return the loss of a pair with all logits, spelled out after the paper, and its model."""
    labels = batch["labels"]  # [rows, masked]
    positions = batch["masked_positions"]
    inputs = {
        "attention_mask": batch["attention_mask"],
        "token_type_ids": batch.get("token_type_ids"),
    }

    # The generator's forward still gives all logits where it gets no masked positions.
    pair = copy.deepcopy(model)
    pair.load_state_dict(model.state_dict())
    logits = pair.generator(input_ids=batch["input_ids"], **inputs).logits

    original = batch["input_ids"].clone()  # [rows, length]
    corrupted = batch["input_ids"].clone()
    generator_loss, masked_tokens = 0.0, 0
    for row in range(len(labels)):
        for k in range(labels.shape[1]):
            if labels[row, k] == IGNORED:
                continue
            position = positions[row, k]
            generator_loss = generator_loss + cross_entropy(logits[row, position], labels[row, k])
            masked_tokens += 1
            original[row, position] = labels[row, k]

            # The first token at which the cumulated probabilities pass the number drawn.
            cumulated = logits[row, position].detach().softmax(-1).cumsum(-1)
            uniform = (batch["draws"][row, k] + 0.5) / DRAWS * cumulated[-1]
            corrupted[row, position] = int((cumulated < uniform).sum())

    discriminator_logits = pair.discriminator(input_ids=corrupted, **inputs).logits
    is_token = batch["attention_mask"] > 0
    discriminator_loss = binary_cross_entropy_with_logits(
        discriminator_logits[is_token], (corrupted != original)[is_token].float()
    )
    return generator_loss / masked_tokens + 50 * discriminator_loss, pair


@pytest.mark.parametrize("in_chunks", [False, True])
def test_the_loss_and_gradients_are_those_of_a_straightforward_electra(
    encoder_tokenizer, in_chunks, monkeypatch
):
    """Also where the generator's logits are never in memory as a whole."""
    monkeypatch.setattr(chunked_head, "chunk_positions", lambda *_: 3)
    model = electra_pair(encoder_tokenizer)
    batch = masked_batch(encoder_tokenizer, objective="rtd", pairs=True)
    assert len(set(batch["attention_mask"].sum(1).tolist())) > 1

    expected_loss, expected_model = straightforward_loss(model, batch)
    expected_loss.backward()
    labels = batch.pop("labels")
    if in_chunks:
        head = chunked_head.chunked_head(model.generator, sampler=model.sample)
        with head.attached():
            outputs = model(**batch, targets=labels)
            with torch.no_grad():
                evaluated = model(**batch, targets=labels)
        assert torch.equal(evaluated.replaced, outputs.replaced)
        sums = evaluation_sums(evaluated.to_tuple(), labels)
        expected_sums = evaluation_sums(model(**batch).to_tuple(), labels)
        torch.testing.assert_close(sums, expected_sums)
    else:
        outputs = model(**batch)
    loss = rtd_loss(outputs, labels)
    torch.testing.assert_close(loss, expected_loss)

    loss.backward()
    parameters = zip(model.named_parameters(), expected_model.parameters(), strict=True)
    for (name, parameter), expected in parameters:
        if expected.grad is not None:
            torch.testing.assert_close(
                parameter.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=name
            )


def test_no_gradient_of_the_discriminator_reaches_the_generator(encoder_tokenizer):
    model = electra_pair(encoder_tokenizer)
    batch = masked_batch(encoder_tokenizer, objective="rtd")
    model(**batch).discriminator_logits.sum().backward()
    not_shared = [
        parameter
        for name, parameter in model.generator.named_parameters()
        if "embeddings." not in name
    ]
    assert not_shared
    assert all(parameter.grad is None for parameter in not_shared)


# Replaced tokens.


def test_sampled_tokens_have_the_distribution_of_gumbel_argmax():
    count = 40_000
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -30.0])
    repeated = logits.expand(1, count, 5)
    draws = (torch.arange(count) * (DRAWS // count) + 7)[None]
    sampled = torch.bincount(sample_tokens(repeated, draws)[0], minlength=5) / count

    uniform = torch.rand(count, 5, generator=torch.Generator().manual_seed(0))
    noise = -torch.log(-torch.log(uniform))
    gumbel = torch.bincount((logits + noise).argmax(-1), minlength=5) / count
    torch.testing.assert_close(sampled, logits.softmax(-1), atol=1e-3, rtol=0)
    torch.testing.assert_close(sampled, gumbel, atol=0.01, rtol=0)

    sharp = torch.bincount(sample_tokens(repeated, draws, temperature=0.1)[0], minlength=5)
    assert sharp[0] > 39_900


def test_a_right_guess_counts_as_original(encoder_tokenizer):
    model = electra_pair(encoder_tokenizer).eval()
    batch = masked_batch(encoder_tokenizer, objective="rtd")
    with torch.no_grad():
        # The generator always answers token 7.
        model.generator.generator_lm_head.bias.fill_(-30.0)
        model.generator.generator_lm_head.bias[7] = 30.0
        replaced = model(**batch).replaced
    is_masked = batch["labels"] != IGNORED
    assert replaced[batch["attention_mask"] == 0].eq(IGNORED).all()
    assert (replaced == 1).sum() == (is_masked & (batch["labels"] != 7)).sum()


def test_the_first_position_is_filled_too():
    ids = torch.tensor([[4, 5, 6, 4], [4, 8, 9, 4], [1, 2, 3, 4]])
    positions = torch.tensor([[0, 3, 0], [0, 0, 0], [0, 0, 0]])
    originals = torch.tensor([[7, 2, IGNORED], [3, IGNORED, IGNORED], [IGNORED] * 3])
    filled = put_tokens(ids, positions, originals, originals != IGNORED)
    assert filled.tolist() == [[7, 5, 6, 2], [3, 8, 9, 4], [1, 2, 3, 4]]


def test_rows_without_special_tokens_mask_their_first_token_too(tmp_path):
    spec = spec_of(
        "rtd",
        task="set",
        vocabulary=64,
        parameters={"min_length": 4, "max_length": 8},
        corpus=None,
        text=None,
    )
    args = training_arguments(
        tmp_path, {"use_cpu": True, "max_steps": 4, "per_device_train_batch_size": 8}
    )
    vocabulary = as_vocabulary(64)
    model = fresh_model(spec, ELECTRA, vocabulary)
    trainer = pretraining_trainer(spec, model, vocabulary, args)

    replaced_at_first = []
    for batch in trainer.get_train_dataloader():
        masks_first = (batch["masked_positions"] == 0) & (batch["labels"] != IGNORED)
        replaced = trainer.model(**batch).replaced  # [rows, length]
        replaced_at_first += replaced[masks_first.any(1), 0].tolist()
    assert any(replaced_at_first)


# Metrics.


def test_metrics_say_what_both_models_do():
    logits = torch.zeros(1, 2, 4)  # [rows, masked, vocabulary]
    logits[0, 0, 3] = logits[0, 1, 2] = 5.0
    discriminator_logits = torch.tensor([[4.0, -4.0, -4.0, 4.0, -4.0, 0.0]])
    replaced = torch.tensor([[1, 1, 0, 0, 0, IGNORED]])
    labels = torch.tensor([[3, 1]])

    losses = cross_entropy(logits[0], labels[0], reduction="none")[None]  # [rows, masked]
    outputs = RTDOutput(losses.sum(), discriminator_logits, replaced, losses, logits.argmax(-1))
    sums = evaluation_sums(outputs.to_tuple(), labels)
    metrics = rtd_metrics(SimpleNamespace(predictions=sums.numpy()))
    assert metrics["token_accuracy"] == 0.5
    assert metrics["replaced_recall"] == 0.5
    assert metrics["majority_floor"] == pytest.approx(0.6)
    assert metrics["discriminator_accuracy"] == pytest.approx(0.6)
    assert metrics["balanced_accuracy"] == pytest.approx((0.5 + 2 / 3) / 2)

    loss = rtd_loss(outputs, labels).item()
    weighted = DISCRIMINATOR_WEIGHT * metrics["discriminator_loss"]
    assert loss == pytest.approx(metrics["generator_loss"] + weighted, rel=1e-5)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
