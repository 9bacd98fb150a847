"""Warming up: the layers of a fresh model learn a task, and nothing else of it changes.

Run: pytest tests/training/test_warm_up.py
"""

import copy
import json
import warnings

import pytest
import torch
from accelerate import debug_launcher
from processes import rank
from small_models import BERT, DECODER, assert_equal, llama, t5
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_synpre import UsageError, WarmUpCallback, warm_up
from hf_synpre.initialization import read_parameters

GPT2 = {"n_embd": 16, "n_head": 2, "n_layer": 2, "vocab_size": 300}
DYCK = {"length": 16, "types": 4, "max_depth": 4}
CAUSAL = {"parameters": DYCK, "symbols": 32, "seconds": None, "quiet": True}
MQAR = {"task": "mqar", "parameters": {"length": 12, "keys": 2}, "symbols": 64, "quiet": True}
MODELS = {
    "llama": (AutoModelForCausalLM, llama(vocab_size=300), CAUSAL),
    "gpt2": (AutoModelForCausalLM, AutoConfig.for_model("gpt2", **GPT2), CAUSAL),
    "gpt2 without head": (AutoModel, AutoConfig.for_model("gpt2", **GPT2), CAUSAL),
    "bert": (AutoModelForMaskedLM, AutoConfig.for_model("bert", **BERT), MQAR),
    "bert of classes": (
        AutoModelForSequenceClassification,
        AutoConfig.for_model("bert", **BERT),
        MQAR,
    ),
    "t5": (AutoModelForSeq2SeqLM, t5(vocab_size=300), MQAR),
}


def fresh(name="llama"):
    """Return a fresh model as transformers makes it, and the options of a short warm-up."""
    model_class, config, options = MODELS[name]
    set_seed(1)
    return model_class.from_config(copy.deepcopy(config)), options


def copied(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model, before):
    """Return the names of the parameters that differ from a state dict."""
    return {
        name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])
    }


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_trained_and_embeddings_heads_and_positions_are_not(name, monkeypatch):
    model, options = fresh(name)
    # The model itself is never computed: its head is as large as its vocabulary.
    monkeypatch.setattr(model, "forward", lambda *_, **__: pytest.fail("the large model ran"))
    before = copied(model)
    facts = warm_up(model, steps=3, **options)

    parameters = read_parameters(model)
    layers = {name for name, parameter in parameters.items() if parameter.layer is not None}
    tables = {
        name
        for name, parameter in parameters.items()
        if parameter.part in ("embedding", "head", "position")
    }
    moved = changed(model, before)
    # Biases of keys have no gradient: a softmax does not see them.
    assert {name for name in layers - tables - moved if "key.bias" not in name} == set()
    assert not moved & tables
    assert facts["kept"] >= len(layers - tables)
    assert facts["steps"] == 3
    assert facts["stopped"] == "steps"


def test_the_excess_loss_falls_and_the_facts_say_so():
    model, options = fresh()
    training = {"optim": "adamw_torch", "learning_rate": 1e-2}
    facts = warm_up(model, steps=60, training=training, **options)
    assert facts["task"] == "k_shuffle_dyck"
    assert facts["excess_before"] == pytest.approx(facts["loss_before"] - facts["bayes_loss"])
    assert facts["excess_loss"] < 0.5 * facts["excess_before"]
    assert facts["learnt"] is True
    assert json.dumps(facts)


def test_the_same_seed_gives_the_same_weights_and_callers_keep_their_random_numbers():
    one, options = fresh()
    two, _ = fresh()
    state = torch.get_rng_state()
    warm_up(one, steps=2, **options)
    assert torch.equal(torch.get_rng_state(), state)
    warm_up(two, steps=2, **options)
    assert_equal(one, two)
    other, _ = fresh()
    warm_up(other, steps=2, seed=5, **options)
    assert not torch.equal(other.model.norm.weight, one.model.norm.weight)


@pytest.mark.parametrize(("keep", "part"), [("attention", "attention"), ("mlp", "mlp")])
def test_a_part_may_be_kept_alone(keep, part):
    model, options = fresh()
    before = copied(model)
    warm_up(model, steps=2, keep=keep, **options)
    parameters = read_parameters(model)
    assert {parameters[name].part for name in changed(model, before)} == {part}


def test_all_keeps_the_rows_of_the_drawn_ids_and_no_special_ones():
    model, options = fresh("t5")
    before = model.shared.weight.detach().clone()
    facts = warm_up(model, steps=2, keep="all", **options)
    rows = (model.shared.weight != before).any(1).nonzero()[:, 0].tolist()
    assert set(rows) <= set(facts["ids"])
    assert len(rows) > 10
    assert not {0, 1} & set(facts["ids"])
    assert model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr()


def test_a_warm_up_ends_by_seconds_or_by_its_excess_loss(monkeypatch):
    model, options = fresh()
    facts = warm_up(model, steps=500, **options | {"seconds": 0.2})
    assert facts["stopped"] == "seconds"
    assert 1 < facts["steps"] < 500

    monkeypatch.setattr("hf_synpre.training.warm_up.ENOUGH", 1.5)
    model, _ = fresh()
    facts = warm_up(model, steps=20, **options)
    assert (facts["stopped"], facts["steps"]) == ("excess loss", 1)


def test_a_task_that_was_not_learnt_says_so(caplog):
    model, options = fresh()
    assert warm_up(model, steps=1, **options)["learnt"] is False
    assert "k_shuffle_dyck was not learnt: the loss" in caplog.text
    assert "train longer, with another learning rate" in caplog.text


# --- what is refused ------------------------------------------------------------------------------


def frozen(model):
    model.model.layers[0].mlp.up_proj.weight.requires_grad = False
    return model


def trained(model):
    with torch.no_grad():
        model.model.norm.weight[0] = 1.01
    return model


def quantised(model):
    model.is_quantized = True
    return model


def quantised_by_torch(model):
    with warnings.catch_warnings():
        # PyTorch will remove its layers (https://github.com/pytorch/pytorch/issues/184982).
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor")
        model.model.layers[0].mlp.up_proj = torch.ao.nn.quantized.dynamic.Linear(16, 32)
    return model


def renamed(model):
    model.model.blocks = model.model.layers
    del model.model.layers
    return model


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (frozen, {}, r"LlamaForCausalLM has frozen parameters \(1, the first is model\.layers\.0"),
        (trained, {}, r"has weights that its initialiser does not draw \(the first is model\.norm"),
        (quantised, {}, "LlamaForCausalLM is quantised"),
        (quantised_by_torch, {}, "LlamaForCausalLM is quantised"),
        (renamed, {}, "The head of LlamaForCausalLM cannot be found"),
        (lambda model: model.to("meta"), {}, "LlamaForCausalLM is on the meta device"),
        (torch.nn.Sequential, {}, "The model is a Sequential; give a PreTrainedModel"),
        (None, {"seconds": 1e-6}, r"seconds is 1e-06, and one step takes .* s; give more"),
        (None, {"seconds": 0}, "seconds is 0; give a number > 0, or None"),
        (None, {"steps": 0}, "steps is 0; give an integer >= 1"),
        (None, {"seed": -1}, "seed is -1; give 0 <= seed"),
        (None, {"keep": "head"}, "Unknown keep 'head'"),
        (None, {"task": "no_task"}, "Unknown task 'no_task'"),
        (None, {"task": "nesting_language", "parameters": {}}, "The rows of nesting_language are"),
        (None, {"symbols": 9}, "symbols is 9; give an integer from 19 to 65,536"),
        (None, {"symbols": "many"}, "symbols is 'many'; give an integer from 19"),
        (None, {"symbols": 2**17}, "symbols is 131072; give an integer from 19 to 65,536"),
        (None, {"symbols": 20}, "symbols is 20: k_shuffle_dyck draws from 8 regular tokens"),
        (None, {"parameters": {"types": 0}}, "^k_shuffle_dyck: types is 0"),
        (
            None,
            {"keep": "all", "symbols": 400, "parameters": None},
            "The vocabulary has 298 ids that are not special, and the task 398 sym",
        ),
        (None, {"training": {"optim": "sgd"}}, "optim is sgd, whose usual learning rate is not"),
        (None, {"training": {"learning": 1}}, "Unknown training argument 'learning'"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_the_model_is_untouched(change, options, message):
    model, usual = fresh()
    before = copied(model)
    given = model if change is None else change(model)
    if change is trained:
        before = copied(model)
    with pytest.raises(UsageError, match=message):
        warm_up(given, **{"steps": 4} | usual | options)
    if change in (None, frozen, trained, quantised):
        assert not changed(model, before)


def test_an_architecture_without_language_model_is_refused():
    config = AutoConfig.for_model("vit", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(UsageError, match="ViTConfig has no language model in transformers"):
        warm_up(AutoModel.from_config(config))


def test_a_trained_model_is_taken_by_force_and_a_loss_without_number_leaves_it_as_it_is():
    model, options = fresh()
    trained(model)
    before = copied(model)
    with pytest.raises(FloatingPointError, match="give a smaller learning_rate"):
        warm_up(model, steps=3, force=True, training={"learning_rate": 1e30}, **options)
    assert not changed(model, before)
    warm_up(model, steps=2, force=True, **options)
    assert changed(model, before)


# --- in a Trainer, on several processes -----------------------------------------------------------


class Rows(torch.utils.data.Dataset):
    """Eight rows of ids of the large vocabulary."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        ids = torch.arange(index, index + 6) + 200
        return {"input_ids": ids, "labels": ids}


def test_a_stock_trainer_warms_its_model_up_before_its_first_step(tmp_path):
    model, options = fresh()
    before = copied(model)
    callback = WarmUpCallback(steps=2, **options)
    args = TrainingArguments(
        tmp_path / "run",
        max_steps=2,
        learning_rate=0.0,  # what changes is the warm-up's
        bf16=True,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(model, args, train_dataset=Rows(), callbacks=[callback])
    trainer.train()
    assert callback.facts["steps"] == 2
    assert trainer.accelerator.mixed_precision == "bf16"
    moved = changed(model, before)
    assert "model.layers.0.self_attn.q_proj.weight" in moved
    assert not moved & {"model.embed_tokens.weight", "lm_head.weight"}

    # The weights are those of `warm_up`; a run that goes on is not warmed up again.
    other, _ = fresh()
    warm_up(other, steps=2, **options)
    assert_equal(model, other)
    trainer.state.global_step = 1
    callback.facts = None
    callback.on_train_begin(args, trainer.state, trainer.control, model=model)
    assert callback.facts is None


def weights_to_file(folder):
    torch.set_num_threads(1)
    model, options = fresh()
    training = {"use_cpu": True, "ddp_backend": "gloo"}
    facts = warm_up(model, steps=3, training=training, **options)
    torch.save((copied(model), facts["loss"]), folder / f"{rank()}.pt")


def test_two_processes_have_the_weights_of_one(tmp_path):
    model, options = fresh()
    facts = warm_up(model, steps=3, **options)
    debug_launcher(weights_to_file, args=(tmp_path,), num_processes=2)
    first, loss = torch.load(tmp_path / "0.pt")
    second, _ = torch.load(tmp_path / "1.pt")
    assert loss == pytest.approx(facts["loss"], rel=1e-5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], tensor, atol=1e-5), name


def test_a_subclass_of_ones_own_is_trained_as_itself():
    class Own(LlamaForCausalLM):
        pass

    set_seed(1)
    model = Own(llama(vocab_size=300))
    assert warm_up(model, steps=1, **CAUSAL)["steps"] == 1


assert DECODER["num_hidden_layers"] == 2  # of the models above


def test_the_callback_refuses_an_option_that_warm_up_does_not_have():
    with pytest.raises(UsageError, match=r"Unknown option of WarmUpCallback 'stepz'.*'steps'"):
        WarmUpCallback(stepz=2)
