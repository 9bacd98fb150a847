"""A head in chunks at labelled positions: the loss, gradients and predictions of all logits.

Run: pytest tests/models/test_chunked_head.py
"""

from types import SimpleNamespace

import pytest
import torch
from accelerate import debug_launcher
from processes import rank
from small_models import BART, BERT, DECODER, LLAMA, TINY, WIDTH
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoConfig

from hf_synpre.data.rows import IGNORED
from hf_synpre.initialization import build
from hf_synpre.models import chunked_head as module
from hf_synpre.models.chunked_head import SummedLoss, chunk_positions, chunked_head
from hf_synpre.models.families import AUTO_CLASSES, model_family
from hf_synpre.training.losses import TokenLoss

IDS = 40
# The positions of a chunk, and the shape of the batch.
CHUNK, SHAPE = 4, (3, 12)
SMOOTHING = 0.1

T5 = TINY | {"vocab_size": IDS, "decoder_start_token_id": 0}
EXPERTS = LLAMA | {"num_local_experts": 2, "num_experts_per_tok": 1}
ENCODER = BERT | {"max_position_embeddings": 32, "pad_token_id": 0}
# One model for each way in which logits follow from the last hidden states.
MODELS = {
    "t5": T5,  # tied weights, whose states are scaled
    "t5 untied": T5,
    "mt5": T5 | {"tie_word_embeddings": False},
    "bart": BART | {"max_position_embeddings": 32},  # a bias of its own behind the head
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": IDS, "n_positions": 32},
    "opt": WIDTH | {"num_hidden_layers": 1, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "llama": LLAMA,
    "llama with a frozen head": LLAMA,
    "gemma2": LLAMA | {"final_logit_softcapping": 0.5},
    "gemma3_text": LLAMA | {"final_logit_softcapping": 0.5},
    "cohere": LLAMA | {"logit_scale": 0.3},
    "granite": LLAMA | {"logits_scaling": 3.0},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": IDS, "state_size": 4},
    "mixtral": EXPERTS,
    "mixtral with router loss": EXPERTS | {"output_router_logits": True},
    "bert": ENCODER,  # the heads of encoders transform the states
    "roberta": ENCODER | {"pad_token_id": 1},
    "electra": ENCODER | {"embedding_size": 8},
    "deberta-v2": ENCODER,
    "modernbert": DECODER | {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2},
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32, "vocab_size": IDS},
}


def model_of(name):
    """Return a model of MODELS without dropout, all of whose tensors are other than 0."""
    config = AutoConfig.for_model(name.split()[0], **MODELS[name])
    model = build(AUTO_CLASSES[model_family(config)], config, {}, 0).eval()
    if name == "t5 untied":
        model.lm_head.weight = torch.nn.Parameter(torch.randn(IDS, TINY["d_model"]))
    if "frozen" in name:
        for parameter in model.lm_head.parameters():
            parameter.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and not tensor.any():
            tensor.data.normal_(generator=generator)
    return model


def batch_of(model):
    """Return a batch, and its labels: a third of the positions has one."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, IDS, SHAPE, generator=generator)
    batch = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids.flip(1)
    has_label = torch.rand(SHAPE, generator=generator) < 1 / 3
    return batch, torch.where(has_label, ids.flip(0), IGNORED)


def gradients_of(model, loss):
    """Return the gradients of a loss by name; the model's own are empty again."""
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return gradients


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "chunk_positions", lambda *_: CHUNK)


@pytest.mark.parametrize("name", MODELS)
def test_chunks_have_the_loss_and_gradients_of_all_logits(name, monkeypatch):
    model = model_of(name)
    batch, labels = batch_of(model)
    is_labelled = labels != IGNORED
    token_loss = TokenLoss(SMOOTHING)

    # All logits.
    outputs = model(**batch)
    expected_ids = outputs.logits.argmax(-1)
    cross_entropy = expected_loss = token_loss(outputs, labels)
    if outputs.get("aux_loss") is not None:
        expected_loss = expected_loss + model.config.router_aux_loss_coef * outputs.aux_loss
    expected = gradients_of(model, expected_loss)

    # In chunks; the number of positions of each is kept.
    head = chunked_head(model, SMOOTHING)
    sizes = []
    logits_of = head.logits
    monkeypatch.setattr(
        head, "logits", lambda states: sizes.append(len(states)) or logits_of(states)
    )
    with head.attached():
        outputs = model(**batch, targets=labels)
        loss = token_loss(outputs, labels)
        computed = gradients_of(model, loss)
        assert isinstance(outputs, SummedLoss)
        assert max(sizes) <= CHUNK
        assert sum(sizes) == is_labelled.sum()
        with torch.no_grad():
            evaluated = model(**batch, targets=labels)

    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    evaluated_loss = token_loss(evaluated, labels)  # without that of a router
    torch.testing.assert_close(evaluated_loss, cross_entropy, rtol=1e-5, atol=0)
    assert torch.equal(evaluated.predictions[is_labelled], expected_ids[is_labelled])
    assert computed.keys() == expected.keys()
    for key, gradient in expected.items():
        largest = gradient.abs().max().item()
        torch.testing.assert_close(computed[key], gradient, rtol=0, atol=1e-5 * largest + 1e-8)

    # Nothing is left on the model.
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    for stage in (model, *head.stages):
        assert "forward" not in vars(stage)
        assert not stage._forward_hooks


def sharded_gradients(file):
    """Write the gradients of a batch into a file; each of two processes has half of a weight."""
    model = model_of("llama")
    batch, labels = batch_of(model)
    head = chunked_head(model)
    with head.attached():
        for module_ in (*model.model.layers, model):
            fully_shard(module_, mesh=init_device_mesh("cpu", (2,)))
        rows = slice(0, 2) if rank() == 0 else slice(2, None)
        model(input_ids=batch["input_ids"][rows], targets=labels[rows]).loss.backward()
    # FSDP takes the mean over processes.
    gradients = {name: 2 * p.grad.full_tensor() for name, p in model.named_parameters()}
    if rank() == 0:
        torch.save(gradients, file)


def test_weights_in_shards_have_the_gradients_of_whole_ones(tmp_path):
    model = model_of("llama")
    batch, labels = batch_of(model)
    logits = model(**batch).logits
    expected = gradients_of(model, TokenLoss()(SimpleNamespace(logits=logits), labels, 1))

    debug_launcher(sharded_gradients, args=(tmp_path / "gradients",), num_processes=2)
    computed = torch.load(tmp_path / "gradients")
    assert computed.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(computed[name], gradient, rtol=1e-4, atol=1e-6)


def test_chunks_are_bounded_by_the_memory_of_a_gpu_and_not_smaller_than_the_weights(monkeypatch):
    states = torch.empty(5, 700, device="meta")
    with torch.no_grad():
        assert chunk_positions(states, 50_000) == module.CHUNK_LOGITS // 50_000
        assert chunk_positions(states, 10**9) == 1
    assert chunk_positions(states, 50_000) == 700
    assert chunk_positions(states, 100) == module.CHUNK_LOGITS // 100

    properties = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    on_gpu = SimpleNamespace(device=torch.device("cuda"), shape=(5, 700))
    assert chunk_positions(on_gpu, 50_000) == 80 * 2**30 // 64 // 4 // 50_000
