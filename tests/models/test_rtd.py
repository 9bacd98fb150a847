"""Replaced-token detection: logits at masked positions, losses, sampled tokens, metrics, ELECTRA's Adam and schedule.

Run: pytest tests/models/test_rtd.py
"""

import copy

import pytest
import torch
from selfpre import ELECTRA, ROBERTA, SHAPE, electra_pair, masked_batch, spec_of
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    ElectraConfig,
)

from hf_synpre import UsageError
from hf_synpre.config import build_spec
from hf_synpre.data.rows import IGNORED
from hf_synpre.initialization import build
from hf_synpre.models.electra import (
    DISCRIMINATOR_WEIGHT,
    DRAWS,
    RTDConfig,
    RTDOutput,
    build_rtd,
    evaluation_sums,
    put_tokens,
    rtd_loss,
    rtd_metrics,
    sample_tokens,
)
from hf_synpre.models.masked_head import compute_masked_logits_only
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.callbacks import divergence_warnings
from hf_synpre.training.optimizers import UncorrectedAdamW, electra, layer_groups
from hf_synpre.training.pretraining import fresh_model, pretraining_trainer
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.training.trainer import SynpreTrainer, token_loss
from hf_synpre.vocabulary import as_vocabulary

# Logits at masked positions only.


MORE = {
    "modernbert": {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "cls_token_id": 1,
        "sep_token_id": 1,
    },
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "electra": {"embedding_size": 16},
}


@pytest.mark.parametrize(
    "kind",
    ["bert", "roberta", "electra", "distilbert", "albert", "deberta-v2", "modernbert", "mpnet"],
)
def test_logits_at_masked_positions_are_those_of_all_logits(kind, tokenizer):
    config = AutoConfig.for_model(kind, **SHAPE | MORE.get(kind, {}))
    model = build(AutoModelForMaskedLM, config, {}, 0).eval()
    batch = masked_batch(tokenizer)
    labels, places = batch.pop("labels"), batch.pop("masked_positions")
    whole = model(**batch).logits
    picked = whole.gather(1, places[..., None].expand(-1, -1, whole.shape[-1]))
    wanted = token_loss(type("Outputs", (), {"logits": picked}), labels)
    wanted.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert compute_masked_logits_only(model)
    outputs = model(masked_positions=places, **batch)
    assert outputs.logits.shape == picked.shape
    torch.testing.assert_close(outputs.logits, picked)
    token_loss(outputs, labels).backward()
    for name, p in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model(**batch).logits, whole)


# Replaced-token detection.


def test_electra_small_has_the_published_number_of_parameters():
    model = build_rtd(ElectraConfig(pad_token_id=0), 0)
    assert sum(p.numel() for p in model.parameters()) == 14_196_219
    assert sum(p.numel() for p in model.generator.parameters()) == 4_620_026
    assert sum(p.numel() for p in model.discriminator.parameters()) == 13_549_057
    assert (
        model.generator.electra.embeddings.LayerNorm.weight
        is model.discriminator.electra.embeddings.LayerNorm.weight
    )
    assert (
        model.generator.generator_lm_head.weight
        is model.discriminator.get_input_embeddings().weight
    )


@pytest.mark.parametrize(
    ("fraction", "width", "heads"), [(0.25, 64, 1), (0.51, 130, 2), (1.0, 256, 4)]
)
def test_a_generators_heads_divide_its_width(fraction, width, heads):
    config = RTDConfig.around(ElectraConfig(), fraction).part("generator")
    assert (config.hidden_size, config.num_attention_heads) == (width, heads)


def straightforward(model, batch):
    """The loss of a pair with all logits, spelled out after the paper."""
    batch, labels = dict(batch), batch["labels"]
    shape = {
        "attention_mask": batch["attention_mask"],
        "token_type_ids": batch.get("token_type_ids"),
    }
    plain = copy.deepcopy(
        model
    )  # its generator's forward still gives all logits without masked_positions
    plain.load_state_dict(model.state_dict())
    logits = plain.generator(input_ids=batch["input_ids"], **shape).logits
    text, corrupted = batch["input_ids"].clone(), batch["input_ids"].clone()
    mlm, hidden = 0.0, 0
    for row in range(len(labels)):
        for k in range(labels.shape[1]):
            if labels[row, k] == IGNORED:
                continue
            place = batch["masked_positions"][row, k]
            mlm = mlm + cross_entropy(logits[row, place], labels[row, k])
            hidden += 1
            text[row, place] = labels[row, k]
            shares = logits[row, place].detach().softmax(-1).cumsum(-1)
            corrupted[row, place] = int(
                (shares < (batch["draws"][row, k] + 0.5) / DRAWS * shares[-1]).sum()
            )
    verdicts = plain.discriminator(input_ids=corrupted, **shape).logits
    real = batch["attention_mask"] > 0
    binary = binary_cross_entropy_with_logits(verdicts[real], (corrupted != text)[real].float())
    return mlm / hidden + 50 * binary, plain


def test_the_loss_and_gradients_are_those_of_a_straightforward_electra(tokenizer):
    model = electra_pair(tokenizer)
    batch = masked_batch(tokenizer, objective="rtd", pairs=True)
    assert len(set(batch["attention_mask"].sum(1).tolist())) > 1
    wanted, plain = straightforward(model, batch)
    wanted.backward()
    labels = batch.pop("labels")
    found = rtd_loss(model(**batch), labels)
    torch.testing.assert_close(found, wanted)
    found.backward()
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_no_gradient_of_the_discriminator_reaches_the_generator(tokenizer):
    model = electra_pair(tokenizer)
    batch = masked_batch(tokenizer, objective="rtd")
    outputs = model(**batch)
    outputs.discriminator_logits.sum().backward()
    own = [p for name, p in model.generator.named_parameters() if "embeddings." not in name]
    assert own
    assert all(p.grad is None for p in own)


def test_sampled_tokens_have_the_distribution_of_gumbel_argmax():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -30.0])
    many = logits.expand(1, 40_000, 5)
    uniform = (torch.arange(40_000) * (DRAWS // 40_000) + 7)[None]
    mine = torch.bincount(sample_tokens(many, uniform)[0], minlength=5)
    noise = -torch.log(
        -torch.log(torch.rand(40_000, 5, generator=torch.Generator().manual_seed(0)))
    )
    gumbel = torch.bincount((logits + noise).argmax(-1), minlength=5)
    torch.testing.assert_close(mine / 40_000, logits.softmax(-1), atol=1e-3, rtol=0)
    torch.testing.assert_close(mine / 40_000, gumbel / 40_000, atol=0.01, rtol=0)
    sharp = torch.bincount(sample_tokens(many, uniform, temperature=0.1)[0], minlength=5)
    assert sharp[0] > 39_900


def test_a_right_guess_counts_as_original(tokenizer):
    model = electra_pair(tokenizer).eval()
    batch = masked_batch(tokenizer, objective="rtd")
    with torch.no_grad():
        model.generator.generator_lm_head.bias.fill_(-30.0)
        model.generator.generator_lm_head.bias[7] = 30.0  # the generator always says 7
        replaced = model(**batch).replaced
    real = batch["labels"] != IGNORED
    assert replaced[batch["attention_mask"] == 0].eq(IGNORED).all()
    assert (replaced == 1).sum() == (real & (batch["labels"] != 7)).sum()


def test_the_first_position_is_filled_too():
    ids, places = (
        torch.tensor([[4, 5, 6, 4], [4, 8, 9, 4], [1, 2, 3, 4]]),
        torch.tensor([[0, 3, 0], [0, 0, 0], [0, 0, 0]]),
    )
    originals = torch.tensor([[7, 2, IGNORED], [3, IGNORED, IGNORED], [IGNORED] * 3])
    wanted = [[7, 5, 6, 2], [3, 8, 9, 4], [1, 2, 3, 4]]
    assert put_tokens(ids, places, originals, originals != IGNORED).tolist() == wanted


def test_rows_without_special_tokens_mask_their_first_token_too(tmp_path):
    given = {
        "task": "set",
        "vocabulary": 64,
        "parameters": {"min_length": 4, "max_length": 8},
        "corpus": None,
        "text": None,
    }
    spec = spec_of("rtd", **given)
    args = training_arguments(
        tmp_path, {"use_cpu": True, "max_steps": 4, "per_device_train_batch_size": 8}
    )
    trainer = pretraining_trainer(
        spec, fresh_model(spec, ELECTRA, as_vocabulary(64)), as_vocabulary(64), args
    )
    said = []
    for batch in trainer.get_train_dataloader():
        hidden = ((batch["masked_positions"] == 0) & (batch["labels"] != IGNORED)).any(1)
        said += trainer.model(**batch).replaced[hidden, 0].tolist()
    assert any(said)


def test_a_generator_without_embeddings_to_share_is_refused(tokenizer):
    with pytest.raises(UsageError, match="RobertaConfig has no embedding_size of its own"):
        build_rtd(ROBERTA.config(as_vocabulary(tokenizer)), 0)


def test_metrics_say_what_both_models_do():
    logits = torch.zeros(1, 2, 4)
    logits[0, 0, 3] = logits[0, 1, 2] = 5.0
    verdicts = torch.tensor([[4.0, -4.0, -4.0, 4.0, -4.0, 0.0]])
    replaced = torch.tensor([[1, 1, 0, 0, 0, IGNORED]])
    sums = evaluation_sums((logits, verdicts, replaced), torch.tensor([[3, 1]]))
    found = rtd_metrics(type("Prediction", (), {"predictions": sums.numpy()}))
    assert found["token_accuracy"] == 0.5
    assert found["replaced_recall"] == 0.5
    assert found["majority_floor"] == pytest.approx(0.6)
    assert found["discriminator_accuracy"] == pytest.approx(0.6)
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 2 / 3) / 2)
    both = RTDOutput(logits, verdicts, replaced)
    loss = rtd_loss(both, torch.tensor([[3, 1]])).item()
    assert loss == pytest.approx(
        found["generator_loss"] + DISCRIMINATOR_WEIGHT * found["discriminator_loss"], rel=1e-5
    )


def point(balanced, recall, loss=1.0):
    return {
        "loss": loss,
        "generator_loss": loss,
        "balanced_accuracy": balanced,
        "replaced_recall": recall,
    }


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (
            [point(0.5, 0.0), point(0.8, 0.7), point(0.5, 0.0)],
            "collapsed: balanced accuracy 0.500 after 0.800",
        ),
        ([point(0.5, 0.0)] * 3, "still calls every token original"),
        ([point(0.7, 0.5, 1.0), point(0.7, 0.5, 2.5)], "risen by more than 1 nat"),
        ([point(0.7, 0.5, float("nan"))], "not finite"),
        ([point(0.5, 0.0), point(0.7, 0.5)], None),
        ([{"loss": 3.0}, {"loss": 2.0}], None),
    ],
)
def test_divergence_warnings(curve, message):
    found = divergence_warnings(curve)
    assert (message is None) == (not found)
    assert message is None or message in found[0]


# Optimizer and schedule.


def test_adam_without_correction_is_electras():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5))
    w, m, v = weight.detach().clone(), torch.zeros(5), torch.zeros(5)
    optimizer = UncorrectedAdamW([weight], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        weight.grad = torch.randn(5)
        m, v = 0.9 * m + 0.1 * weight.grad, 0.999 * v + 0.001 * weight.grad**2
        w = w - 1e-2 * (m / (v.sqrt() + 1e-6) + 0.1 * w)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), w)


def test_warm_up_and_decay_overlap():
    assert electra(5, 10, 100) == pytest.approx(0.5 * 0.95)
    assert electra(10, 10, 100) == pytest.approx(0.9)
    assert electra(100, 10, 100) == 0.0


def test_the_electra_preset_is_googles_recipe(tmp_path, tokenizer):
    spec = build_spec(PretrainingSpec, {"corpus": "x", "preset": "electra"}, "here")
    assert (spec.objective, spec.window, spec.batch_size, spec.pairs) == ("rtd", 128, 128, True)
    assert (
        spec.training["max_steps"],
        spec.training["warmup_steps"],
        spec.training["learning_rate"],
    ) == (
        10**6,
        10**4,
        5e-4,
    )
    args = training_arguments(tmp_path, spec.training | {"use_cpu": True})
    trainer = SynpreTrainer(
        electra_pair(tokenizer),
        args,
        schedule=spec.schedule,
        bias_correction=spec.bias_correction,
        loss=rtd_loss,
    )
    trainer.create_optimizer_and_scheduler(1_000_000)
    assert type(trainer.optimizer) is UncorrectedAdamW
    decayed, others = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert (decayed["betas"], decayed["eps"]) == ((0.9, 0.999), 1e-6)
    assert trainer.lr_scheduler.lr_lambdas[0](10_000) == pytest.approx(0.99)
    tenth = build_spec(PretrainingSpec, {"corpus": "x", "preset": "roberta_tenth"}, "here").training
    assert (tenth["max_steps"], tenth["warmup_steps"]) == (10_000, 600)


@pytest.mark.parametrize(
    ("kind", "layers"), [("electra", 2), ("roberta", 2), ("distilbert", 2), ("gpt2", 2)]
)
def test_rates_fall_from_layer_to_layer(kind, layers):
    shape = (
        SHAPE | MORE.get(kind, {})
        if kind != "gpt2"
        else {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 320}
    )
    config = AutoConfig.for_model(kind, num_labels=3, **shape)
    model = build(AutoModelForSequenceClassification, config, {}, 0)
    groups = layer_groups(model, [], lr=1.0, weight_decay=0.0, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert sorted(set(rates.values())) == [
        0.5 ** (layers + 1 - depth) for depth in range(layers + 2)
    ]
    head = [
        p
        for name, p in model.named_parameters()
        if "classifier" in name or name.startswith("score")
    ]
    assert head
    assert {rates[id(p)] for p in head} == {1.0}
    assert rates[id(model.get_input_embeddings().weight)] == 0.5 ** (layers + 1)
