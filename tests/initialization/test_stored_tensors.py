"""Checkpoints as they really lie on disks: wrapped, cut off, quantised, adapters, hostile.

Run: pytest tests/initialization/test_stored_tensors.py
"""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import SEQ2SEQ, WEIGHTS, assert_equal
from transformers import AutoModelForSeq2SeqLM

from hf_synpre import ParameterStatistics, UsageError
from hf_synpre.files import LFS_POINTER
from hf_synpre.initialization.stored_tensors import StoredTensors, block_side, spread_scale
from hf_synpre.initialization.weight_files import INDEX_FILE

QUERY = "encoder.block.0.layer.0.SelfAttention.q.weight"


def rewrite(folder, change):
    """Replace the tensors of a checkpoint by what `change` makes of all of them."""
    tensors = change(load_file(folder / WEIGHTS))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "module._orig_mod.", "base_model.model."),
        *("model.", "model.model.", "0.auto_model.", "actor.module."),
    ],
)
def test_what_a_wrapper_puts_before_names_is_taken_off(t5_checkpoint, prefix):
    before = ParameterStatistics.from_pretrained(t5_checkpoint)
    drawn = SEQ2SEQ().from_pretrained(t5_checkpoint)
    copied = AutoModelForSeq2SeqLM.from_pretrained(t5_checkpoint)
    rewrite(t5_checkpoint, lambda tensors: {prefix + k: v for k, v in tensors.items()})
    after = ParameterStatistics.from_pretrained(t5_checkpoint)
    if prefix in ("module.", "_orig_mod.", "base_model.model."):  # no model's own
        assert after.parameters == before.parameters
    assert_equal(SEQ2SEQ().from_pretrained(t5_checkpoint), drawn)
    assert_equal(SEQ2SEQ(scheme="weights").from_pretrained(t5_checkpoint), copied)


def test_wrappers_inside_a_name_are_taken_off_and_a_name_twice_is_refused(tmp_path):
    save_file(
        {"a._checkpoint_wrapped_module.b": torch.ones(2), "module": torch.ones(3)},
        tmp_path / WEIGHTS,
    )
    assert StoredTensors.in_folder(tmp_path).shapes == {"module": (3,), "a.b": (2,)}
    save_file({"_orig_mod.a": torch.ones(2), "a": torch.ones(2)}, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=r"holds a twice, as .* and .*; keep one of them"):
        StoredTensors.in_folder(tmp_path)


@pytest.mark.parametrize("end", ["_scale_inv", "_scale"])
@pytest.mark.parametrize("scales", [(1, 1), (), (32, 1), (32,), (2, 4)])
def test_float8_codes_are_multiplied_with_their_scales(t5_checkpoint, end, scales):
    true = load_file(t5_checkpoint / WEIGHTS)[QUERY]
    assert true.shape == (32, 32)
    scale = torch.rand(scales) + 0.5
    spread = spread_scale("q", scale, (32, 32))
    codes = (true / spread).to(torch.float8_e4m3fn)
    rewrite(t5_checkpoint, lambda tensors: tensors | {QUERY: codes, QUERY + end: scale})

    measured = ParameterStatistics.from_pretrained(t5_checkpoint)
    assert QUERY + end not in measured.parameters
    assert measured.parameters[QUERY].sd == pytest.approx(true.std().item(), rel=0.05)
    model = SEQ2SEQ(scheme="weights").from_pretrained(t5_checkpoint)
    assert torch.allclose(model.get_parameter(QUERY), codes.float() * spread)


def test_blocks_that_share_a_scale():
    sides = {(256, 2): 128, (200, 2): 128, (200, 4): 64, (7168, 56): 128, (5, 5): 1, (6, 3): 2}
    for (length, blocks), side in sides.items():
        assert block_side(length, blocks) == side
    assert block_side(7, 3) is None
    assert block_side(7, 0) is None
    with pytest.raises(UsageError, match=r"q has shape \[7, 7\] and scales of shape \[3, 3\]"):
        spread_scale("q", torch.ones(3, 3), (7, 7))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("q.qweight", torch.ones(2, dtype=torch.int32), "GPTQ or AWQ: q.qweight"),
        ("q.weight.absmax", torch.ones(2), "bitsandbytes in 4 bits: q.weight.absmax"),
        ("q.SCB", torch.ones(2), "bitsandbytes in 8 bits: q.SCB"),
        ("q.weight_packed", torch.ones(2, dtype=torch.int32), "compressed-tensors"),
        ("q.weight", torch.ones(2, dtype=torch.uint8), "codes of dtype U8: q.weight"),
        ("experts.gate_up_proj_blocks", torch.ones(2, dtype=torch.uint8), "MXFP4"),
    ],
)
def test_quantised_checkpoints_are_refused_by_name(tmp_path, name, tensor, message):
    scales = {name.replace("blocks", "scales"): torch.ones(2)}
    save_file(scales | {name: tensor}, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=f"is quantised \\(.*{message}.*not quantised, or"):
        ParameterStatistics.from_pretrained(tmp_path)


def test_float8_with_scales_of_an_unknown_name_is_refused_and_without_any_is_a_cast(tmp_path):
    codes = torch.ones(2, 2).to(torch.float8_e4m3fn)
    save_file({"q.weight": codes}, tmp_path / WEIGHTS)
    assert ParameterStatistics.measured(tmp_path, "x").parameters["q.weight"].mean == 1
    save_file({"q.weight": codes, "q.scale_weight": torch.ones(1)}, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=r"float8 without the scale of this tensor: q.weight"):
        ParameterStatistics.measured(tmp_path, "x")


def test_buffers_of_integers_are_no_codes(tmp_path):
    mask = torch.ones(1, 1, 4, 4, dtype=torch.uint8)
    save_file({"attn.bias": mask, "w": torch.ones(2)}, tmp_path / WEIGHTS)
    assert list(ParameterStatistics.from_pretrained(tmp_path).parameters) == ["w"]


def test_an_adapter_is_refused_and_names_its_base_model(tmp_path, t5_checkpoint):
    lora = {"base_model.model.q.lora_A.weight": torch.ones(2, 2)}
    save_file(lora, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"holds the adapter adapter_model.safetensors, not the"):
        ParameterStatistics.from_pretrained(tmp_path)
    save_file(lora, tmp_path / WEIGHTS)
    with pytest.raises(UsageError, match=r"q.lora_A.weight, a tensor of an adapter"):
        ParameterStatistics.from_pretrained(tmp_path)
    config = {"peft_type": "LORA", "base_model_name_or_path": str(t5_checkpoint)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"holds the LORA adapter adapter_config.json, not"):
        SEQ2SEQ().from_pretrained(tmp_path)
    with pytest.raises(UsageError, match=f"holds the LORA adapter .*; give {t5_checkpoint}, or"):
        ParameterStatistics.from_pretrained(tmp_path)


def test_weights_of_other_programs_and_of_git_lfs_are_named(t5_checkpoint):
    (t5_checkpoint / WEIGHTS).write_bytes(LFS_POINTER + b"v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UsageError, match=r"model.safetensors is a pointer of Git LFS"):
        ParameterStatistics.from_pretrained(t5_checkpoint)
    (t5_checkpoint / WEIGHTS).rename(t5_checkpoint / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"holds pytorch_model.bin and no \*.safetensors, which"):
        SEQ2SEQ().from_pretrained(t5_checkpoint)


def test_the_method_of_a_quantised_checkpoint_is_not_asked_for(t5_checkpoint):
    config = json.loads((t5_checkpoint / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (t5_checkpoint / "config.json").write_text(json.dumps(config))
    model = SEQ2SEQ(scheme="weights").from_pretrained(t5_checkpoint)
    assert not hasattr(model.config, "quantization_config")


def test_a_download_that_was_cut_off_is_refused(t5_checkpoint):
    tensors = load_file(t5_checkpoint / WEIGHTS)
    (t5_checkpoint / WEIGHTS).unlink()
    names = sorted(tensors)
    for shard, share in ((1, names[::2]), (2, names[1::2])):
        file = t5_checkpoint / f"model-0000{shard}-of-00002.safetensors"
        save_file({name: tensors[name].clone() for name in share}, file)

    # Both files without their index are the whole checkpoint.
    assert len(ParameterStatistics.from_pretrained(t5_checkpoint).parameters) == len(tensors)
    file.rename(t5_checkpoint / "elsewhere")
    with pytest.raises(UsageError, match=r"and model-00002-of-00002.safetensors is missing: half"):
        ParameterStatistics.measured(t5_checkpoint, "x")

    # An index names more tensors than the files hold.
    (t5_checkpoint / "elsewhere").rename(file)
    weight_map = dict.fromkeys(tensors, file.name) | {"w": file.name.replace("2-", "1-")}
    (t5_checkpoint / INDEX_FILE).write_text(
        json.dumps({"weight_map": weight_map | {"x": file.name}})
    )
    with pytest.raises(UsageError, match=r"names w, which is in none of its files"):
        ParameterStatistics.measured(t5_checkpoint, "x")


def test_a_whole_file_is_taken_before_a_stale_index(t5_checkpoint):
    expected = AutoModelForSeq2SeqLM.from_pretrained(t5_checkpoint)
    (t5_checkpoint / INDEX_FILE).write_text('{"weight_map": {"w": "gone.safetensors"}}')
    assert_equal(SEQ2SEQ(scheme="weights").from_pretrained(t5_checkpoint), expected)


@pytest.mark.parametrize("outside", ["../other.safetensors", "/etc/hostname", "a/../../b"])
def test_an_index_reads_nothing_outside_of_its_folder(tmp_path, outside):
    folder = tmp_path / "hostile"
    folder.mkdir()
    save_file({"secret": torch.ones(2)}, tmp_path / "other.safetensors")
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": {"secret": outside}}))
    with pytest.raises(UsageError, match=r"a file outside of its folder; it was not read"):
        ParameterStatistics.from_pretrained(folder)


@pytest.mark.parametrize(
    "weight_map", [None, [], {"w": 3}, {"w": ["a"]}, {"w": {}}, "model.safetensors"]
)
def test_what_is_no_index_is_said(tmp_path, weight_map):
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UsageError, match=r"is no index of safetensors files"):
        ParameterStatistics.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"[1, 2]",
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 7]}}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]}}',
        b'{"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}',
        b'{"w": ' + b"[" * 100_000,
        b'{"w": {"dtype": "F32", "shape": [9999999999, 9999999999], "data_offsets": [0, 8]}}',
    ],
)
def test_hostile_headers_are_one_line(tmp_path, header):
    content = struct.pack("<Q", len(header)) + header + b"\0" * 8
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(UsageError, match=r"is not a complete safetensors file") as error:
        ParameterStatistics.from_pretrained(tmp_path)
    assert len(str(error.value)) < 500


def test_a_folder_called_like_a_file_of_weights_is_said(tmp_path):
    (tmp_path / WEIGHTS).mkdir()
    with pytest.raises(UsageError, match=r"is not a complete safetensors file"):
        ParameterStatistics.from_pretrained(tmp_path)
