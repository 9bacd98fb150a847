"""`--report_to trackio`: a run's curves go into trackio's file on this machine, without network.

Run: pytest tests/training/test_trackio.py
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_python
from transformers.integrations import integration_utils

from hf_synpre.cli import main

ROOT = Path(__file__).parents[2]
TINY = "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=1,num_decoder_layers=1"
WORDS = ["pretrain", "set", "--vocabulary", "64", "--config_overrides", TINY]
WORDS += ["--max_steps", "4", "--per_device_train_batch_size", "4", "--logging_steps", "1"]
WORDS += ["--report_to", "trackio", "--project", "mine", "--run_name", "first", "--use_cpu"]


def test_trackio_has_the_curves_of_a_run(tmp_path):
    pytest.importorskip("trackio", reason="pip install hf_synpre[track]")
    trackio = Path(sys.executable).with_name("trackio")
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": str(ROOT)}
    words = [*WORDS, "--output_dir", str(tmp_path / "set")]
    done = run_python("-m", "hf_synpre", *words, env=environment)
    assert done.returncode == 0, done.stderr

    asked = ["get", "metric", "--project", "mine", "--run", "first", "--metric", "train/tokens"]
    told = subprocess.run(
        [trackio, *asked, "--json"], env=environment, capture_output=True, text=True, check=True
    )
    values = [point["value"] for point in json.loads(told.stdout)["values"]]
    assert len(values) >= 4
    result = json.loads((tmp_path / "set" / "pretraining.json").read_text())
    assert values[-1] == result["tokens"]
    assert values == sorted(values)


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_without_trackio_a_line_says_what_to_install(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(integration_utils, "is_trackio_available", lambda: False)
    words = [*WORDS, "--output_dir", str(tmp_path / "set")]
    if verb == "finetune":
        shutil.copytree(ROOT / "examples" / "data" / "kinds", tmp_path / "kinds")
        words = ["finetune", str(tmp_path / "kinds"), "--report_to", "trackio"]
        words += ["--output_dir", str(tmp_path / "set"), "--max_steps", "2"]
    assert main(words) == 2
    assert not (tmp_path / "set").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "synpre: report_to is trackio, whose package is not installed; install it with `pip "
        "install trackio` (the extra track of hf_synpre), or give one of those that are: "
    )
