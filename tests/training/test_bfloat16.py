"""Training in bfloat16 on CPUs without instructions for it."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hf_synpre.data.collators import CausalCollator
from hf_synpre.data.synthetic import SyntheticDataset
from hf_synpre.training import bfloat16
from hf_synpre.training.arguments import training_arguments
from hf_synpre.training.bfloat16 import Float32Products, fast_bfloat16
from hf_synpre.training.trainer import SynpreTrainer

aten = torch.ops.aten
WIDTH = 32


def matrices(*shapes, seed=0):
    """Return random matrices in bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]


@pytest.mark.parametrize(
    ("product", "shapes"),
    [
        (aten.mm, [(5, 7), (7, 3)]),
        (aten.addmm, [(3,), (5, 7), (7, 3)]),
        (aten.bmm, [(2, 5, 7), (2, 7, 3)]),
        (aten.baddbmm, [(2, 5, 3), (2, 5, 7), (2, 7, 3)]),
    ],
)
def test_a_product_is_that_of_float32_rounded(product, shapes):
    rows = matrices(*shapes)
    wanted = product(*(row.float() for row in rows)).bfloat16()
    with Float32Products():
        assert torch.equal(product(*rows), wanted)
        assert product(*(row.double() for row in rows)).dtype == torch.double  # as it was


def step(folder, **chosen):
    """Return loss and gradient norm of a Llama's first step on 16 rows."""
    stream = SyntheticDataset("set", size=16, vocabulary=128, min_length=4, max_length=12)
    vocabulary = stream.stream.vocabulary
    config = AutoConfig.for_model(
        "llama",
        vocab_size=vocabulary.size,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    args = training_arguments(
        folder,
        {"per_device_train_batch_size": 16, "max_steps": 1, "logging_steps": 1, "use_cpu": True}
        | chosen,
        save_strategy="no",
    )
    trainer = SynpreTrainer(
        AutoModelForCausalLM.from_config(config),
        args,
        train_dataset=stream,
        eval_dataset=stream,
        data_collator=CausalCollator(pad=vocabulary.pad, eos=vocabulary.eos),
    )
    trainer.train()
    evaluated = trainer.evaluate()
    log = trainer.state.log_history[0]
    return log["loss"], log["grad_norm"], evaluated["eval_loss"]


@pytest.fixture
def wide_products(monkeypatch):
    """A list that grows by one with every product that is computed in float32."""
    computed = []

    class Counting(Float32Products):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in bfloat16.PRODUCTS and args[0].dtype is torch.bfloat16:
                computed.append(torch.is_grad_enabled())
            return super().__torch_dispatch__(func, types, args, kwargs)

    monkeypatch.setattr(bfloat16, "Float32Products", Counting)
    return computed


def test_a_step_and_an_evaluation_have_the_loss_of_bfloat16(
    tmp_path, monkeypatch, wide_products, caplog
):
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: True)
    wanted = step(tmp_path, bf16=True)
    full_precision = step(tmp_path)
    assert not wide_products

    bfloat16.say_once.cache_clear()
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: False)
    losses = step(tmp_path, bf16=True)
    assert len(wide_products) > 20
    assert False in wide_products  # in evaluations too
    assert caplog.text.count("This CPU has no instructions for bfloat16") == 1
    assert losses == pytest.approx(wanted, rel=5e-3)
    assert losses != pytest.approx(full_precision, rel=1e-6)  # so it is no float32


@pytest.mark.parametrize(("chosen", "has"), [({}, False), ({"bf16": True}, True)])
def test_other_steps_stay_pytorchs_own(tmp_path, monkeypatch, wide_products, chosen, has):
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: has)
    step(tmp_path, **chosen)
    assert not wide_products


def test_a_compiled_model_keeps_pytorchs_products(tmp_path, monkeypatch):
    monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: False)
    chosen = {"bf16": True, "use_cpu": True}
    assert isinstance(fast_bfloat16(training_arguments(tmp_path, chosen)), Float32Products)
    compiled = training_arguments(tmp_path, chosen | {"torch_compile": True})
    assert not isinstance(fast_bfloat16(compiled), Float32Products)
