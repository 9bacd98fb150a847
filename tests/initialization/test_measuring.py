"""Moments of tensors and checkpoints: measured in chunks, pooled, again where weights change.

Run: pytest tests/initialization/test_measuring.py
"""

import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_models import EMBEDDING, SEQ2SEQ, WEIGHTS, assert_equal, query_sd, rewrite_weights
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from hf_synpre import ParameterStatistics, UsageError
from hf_synpre.initialization import (
    STATISTICS_FILE,
    Moments,
    checkpoints,
    embedding_names,
    measure,
    pool,
    statistics,
)


def test_t5_small_has_131_parameters():
    with torch.device("meta"):
        small = T5ForConditionalGeneration(T5Config())
    assert len(list(small.named_parameters())) == 131
    assert embedding_names(small) == {
        "shared.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
    }


def test_moments_are_those_of_the_tensors_however_they_are_read(t5_checkpoint):
    model = AutoModelForSeq2SeqLM.from_pretrained(t5_checkpoint)
    measured = ParameterStatistics.from_model(model)
    for name, p in model.named_parameters():
        moments = measured.parameters[name]
        assert (moments.shape, moments.numel) == (tuple(p.shape), p.numel())
        assert moments.mean == pytest.approx(p.double().mean().item(), rel=1e-12)
        assert moments.sd == pytest.approx(p.double().std(correction=0).item(), rel=1e-12)
    assert ParameterStatistics.from_pretrained(t5_checkpoint).parameters == measured.parameters
    assert (
        ParameterStatistics.load(t5_checkpoint / STATISTICS_FILE).parameters == measured.parameters
    )


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
)
def test_streaming_sees_every_element_of_every_dtype(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(statistics, "CHUNK", 1 << 12)
    tensors = {f"w{n}": (torch.rand(n) + 1).to(dtype) for n in (0, 1, 1023, 4096, 5000)}
    tensors["ids"] = torch.arange(3)
    save_file(tensors, tmp_path / "model.safetensors")
    measured = measure([tmp_path / "model.safetensors"])
    assert measured.keys() == tensors.keys() - {"ids"}
    for name, moments in measured.items():
        values = tensors[name].double().numpy()
        assert (moments.shape, moments.numel) == (values.shape, values.size)
        if values.size:
            assert moments.mean == pytest.approx(values.mean(), rel=1e-12)
            assert moments.sd == pytest.approx(values.std(), rel=1e-12)


def test_a_large_mean_does_not_swallow_a_small_spread():
    values = torch.from_numpy(np.random.default_rng(0).normal(1e6, 1e-3, 200_001))
    assert Moments.of(values).sd == pytest.approx(values.numpy().std(), rel=1e-6)
    assert Moments.of(torch.full((10_000,), 1e6)).sd == 0


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), min_size=1, max_size=5
    )
)
def test_pooled_moments_are_those_of_the_concatenated_tensors(parts):
    mean, sd = pool([Moments.of(torch.tensor(part)) for part in parts])
    concatenated = np.concatenate(parts)
    assert mean == pytest.approx(concatenated.mean(), rel=1e-9, abs=1e-9)
    assert sd == pytest.approx(concatenated.std(), rel=1e-9, abs=1e-9)


def test_sharded_weights_give_the_same_statistics_and_model(t5_checkpoint, tmp_path):
    sharded = tmp_path / "sharded"
    model = AutoModelForSeq2SeqLM.from_pretrained(t5_checkpoint)
    model.save_pretrained(sharded, max_shard_size="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2

    # A file that the index does not name is not read.
    save_file({"stray": torch.ones(2)}, sharded / "consolidated.safetensors")

    statistics_of_shards = ParameterStatistics.from_pretrained(sharded)
    statistics_of_file = ParameterStatistics.from_pretrained(t5_checkpoint)
    assert statistics_of_shards.parameters == statistics_of_file.parameters
    for scheme in ("per_layer_scale", "weights"):
        init = SEQ2SEQ(scheme=scheme)
        assert_equal(init.from_pretrained(t5_checkpoint), init.from_pretrained(sharded))


def test_a_folder_is_measured_once_and_again_when_its_weights_change(t5_checkpoint, monkeypatch):
    first = ParameterStatistics.from_pretrained(t5_checkpoint)
    monkeypatch.setattr(statistics, "measure", lambda files: pytest.fail("measured twice"))
    assert ParameterStatistics.from_pretrained(t5_checkpoint) == first
    monkeypatch.undo()

    # Weights with another mean, written ten seconds after the statistics.
    rewrite_weights(t5_checkpoint, lambda _, tensor: tensor + 1)
    later = (t5_checkpoint / STATISTICS_FILE).stat().st_mtime + 10
    os.utime(t5_checkpoint / WEIGHTS, (later, later))
    second = ParameterStatistics.from_pretrained(t5_checkpoint)
    before, after = first.parameters[EMBEDDING].mean, second.parameters[EMBEDDING].mean
    assert after == pytest.approx(before + 1)


def test_weights_put_over_measured_ones_are_measured_again_whatever_their_date(
    llama_checkpoint, tmp_path
):
    shutil.copytree(llama_checkpoint, tmp_path / "other")
    rewrite_weights(tmp_path / "other", lambda _, tensor: 3 * tensor)
    before = query_sd(llama_checkpoint)
    assert (llama_checkpoint / "parameter_statistics.json").exists()

    # The copy keeps its date, which may be older than the statistics.
    shutil.copy2(tmp_path / "other" / WEIGHTS, llama_checkpoint / WEIGHTS)
    assert query_sd(llama_checkpoint) == pytest.approx(3 * before)


def test_a_folder_that_cannot_be_written_is_measured_all_the_same(t5_checkpoint, monkeypatch):
    def refuse(file, text):
        raise UsageError("read-only")

    monkeypatch.setattr(statistics, "write_text", refuse)
    assert len(ParameterStatistics.from_pretrained(t5_checkpoint).parameters) == 47
    assert not (t5_checkpoint / STATISTICS_FILE).exists()


def test_a_hub_id_without_statistics_is_measured_and_with_them_gets_no_weights(
    t5_checkpoint, tmp_path, monkeypatch
):
    downloads = []  # Hub id, whether weights were asked for, keywords

    def download(name, allow_patterns, **keywords):
        with_weights = "*.safetensors" in allow_patterns
        downloads.append((name, with_weights, keywords))
        ignored = None if with_weights else shutil.ignore_patterns("*.safetensors")
        cache = tmp_path / "cache"
        return str(shutil.copytree(t5_checkpoint, cache, ignore=ignored, dirs_exist_ok=True))

    # Without statistics: the weights are downloaded, and nothing is written beside them.
    monkeypatch.setattr(checkpoints, "snapshot_download", download)
    model = SEQ2SEQ().from_pretrained("someone/model", revision="v1", token="t")
    asked = {(name, keywords["revision"]) for name, _, keywords in downloads}
    assert asked == {("someone/model", "v1")}
    assert any(with_weights for _, with_weights, _ in downloads)
    assert not (tmp_path / "cache" / STATISTICS_FILE).exists()

    # With statistics.
    ParameterStatistics.from_pretrained(t5_checkpoint)
    shutil.rmtree(tmp_path / "cache")
    downloads.clear()
    assert_equal(model, SEQ2SEQ().from_pretrained("someone/model"))
    assert not any(with_weights for _, with_weights, _ in downloads)


def test_broken_checkpoints_are_named(tmp_path, t5_checkpoint):
    with pytest.raises(UsageError, match="holds neither"):
        ParameterStatistics.from_pretrained(tmp_path / "checkpoint", subfolder="nowhere")

    # A file of weights that was cut, or is another's.
    file = t5_checkpoint / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="is not a complete safetensors file"):
        ParameterStatistics.from_pretrained(t5_checkpoint)
    file.write_bytes(b"no")
    for init in (SEQ2SEQ(), SEQ2SEQ(scheme="weights")):
        with pytest.raises(UsageError, match="is not a complete safetensors file"):
            init.from_pretrained(t5_checkpoint)

    # An index of files that are not there, or no index.
    file.unlink()
    index = t5_checkpoint / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"w": "gone.safetensors"}}')
    message = r"gone.safetensors is missing, though the index of the checkpoint names it"
    with pytest.raises(UsageError, match=message):
        ParameterStatistics.from_pretrained(t5_checkpoint)
    index.write_text("[]")
    with pytest.raises(UsageError, match="is no index of safetensors files"):
        ParameterStatistics.from_pretrained(t5_checkpoint)


def test_weights_with_nan_and_doubled_names_are_named(tmp_path):
    save_file({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="w has mean nan"):
        ParameterStatistics.from_pretrained(tmp_path)
    for name in "ab":
        save_file({"w": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(UsageError, match="w is in both"):
        ParameterStatistics.from_pretrained(tmp_path)


def test_a_file_of_weights_is_no_statistics_file(llama_checkpoint):
    with pytest.raises(UsageError, match="is a file of weights; give its folder"):
        ParameterStatistics.from_pretrained(llama_checkpoint / WEIGHTS)
