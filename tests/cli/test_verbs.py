"""Verbs do what the library does: rows, definitions, pre-training, statistics, fine-tuning.

Run: pytest tests/cli/test_verbs.py
"""

import dataclasses
import json
import logging
import os
import resource
import signal
import subprocess
import sys

import numba
import pyarrow.parquet as pq
import pytest
from numba.core import caching

from hf_synpre import UsageError, generate
from hf_synpre.cli import main, pretrain
from hf_synpre.cli.verbs import VERBS
from hf_synpre.config import read_yaml
from hf_synpre.files import held
from hf_synpre.initialization import ParameterStatistics
from hf_synpre.tasks import iter_row_blocks


def test_yaml_reads_1e_3_as_a_number(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1e-3\nb: -2E+4\nc: 1e-3x\nd: 1.5e-3")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 0.001, "b": -20000.0, "c": "1e-3x", "d": 0.0015}


def test_generate_writes_the_rows_of_the_library(tmp_path, capsys):
    assert (
        main(
            [
                "generate",
                "set",
                "--start",
                "3",
                "--stop",
                "6",
                "--seed",
                "2",
                "--parameters",
                "max_length=12",
            ]
        )
        == 0
    )
    expected = generate("set", 3, 6, seed=2, max_length=12)
    assert [
        json.loads(line) for line in capsys.readouterr().out.splitlines()
    ] == expected.to_pylist()
    for name in ("rows.parquet", "rows.jsonl"):
        assert main(["generate", "set", "--stop", "4", "--output_file", str(tmp_path / name)]) == 0
    table = generate("set", 0, 4)
    assert pq.read_table(tmp_path / "rows.parquet").equals(table)
    assert [
        json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()
    ] == table.to_pylist()


def test_generate_survives_a_closed_pipe():
    command = f"{sys.executable} -m hf_synpre generate set --stop 20000 | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith('{"input_ids"')
    assert done.stderr == ""


@pytest.mark.parametrize("name", [None, "rows.jsonl", "rows.parquet"])
def test_generate_makes_rows_only_as_they_are_written(name, tmp_path, monkeypatch, capsys):
    made = []

    def count(stream, start, stop, size):
        for first in range(start, stop, size):
            made.append(first)
            if len(made) == 3:
                raise UsageError("three batches were made")
            yield next(iter_row_blocks(stream, first, first + 2, 2))

    monkeypatch.setattr("hf_synpre.tasks.iter_row_blocks", count)
    file = [] if name is None else ["--output_file", str(tmp_path / name)]
    assert main(["generate", "identity", "--stop", str(10**12), *file]) == 2
    out, error = capsys.readouterr()
    assert "three batches" in error
    assert out.count("\n") == (4 if name is None else 0), "two batches were written by then"
    assert list(tmp_path.iterdir()) == [], "no part of a file stays"


def test_output_that_cannot_be_written_is_one_line_and_exit_code_1(monkeypatch, capfd):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main(["tasks"]) == 1
    said = capfd.readouterr().err
    assert said.startswith("synpre: Cannot write the output (No space left on device); make room")
    assert said.count("\n") == 1


def test_no_more_open_files_is_one_line_and_the_same_command_goes_on(tmp_path, capsys):
    words = ["generate", "identity", "--stop", "4", "--output_file", str(tmp_path / "rows.jsonl")]
    assert main(words) == 0  # all modules are imported now
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert main(words) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    said = capsys.readouterr().err
    assert said.startswith("synpre: Cannot open ")
    assert said.endswith(
        "(Too many open files); allow more open files (ulimit -n), and the same command goes on.\n"
    )
    assert main(words) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_what_the_system_refuses_a_library_is_one_line(monkeypatch, capsys):
    def refuse(_):
        raise Exception("Too many open files (os error 24)")  # as tokenizers has it

    monkeypatch.setitem(VERBS, "tasks", dataclasses.replace(VERBS["tasks"], run=refuse))
    assert main(["tasks"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("synpre: Cannot open a file (Too many open files); allow more")
    assert said.count("\n") == 1


def test_a_signal_to_end_is_taken_as_ctrl_c(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    ended = dataclasses.replace(VERBS["tasks"], run=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setitem(VERBS, "tasks", ended)
    try:
        assert main(["tasks"]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err
    assert said == "synpre: stopped; the same command goes on from here.\n"


def test_a_stopped_fine_tuning_does_not_promise_to_go_on(monkeypatch, capsys):
    def stopped(arguments):
        raise KeyboardInterrupt

    stopped_verb = dataclasses.replace(VERBS["finetune"], run=stopped)
    monkeypatch.setitem(VERBS, "finetune", stopped_verb)
    assert main(["finetune"]) == 130
    said = capsys.readouterr().err
    assert said == (
        "synpre: stopped; a fine-tuning has no checkpoints, so the same command begins it again.\n"
    )


@pytest.mark.parametrize(("source", "is_said"), [(["set"], True), (["--corpus", "stdlib"], False)])
def test_the_usual_preset_is_named_where_a_task_is_trained_on(source, is_said, monkeypatch, capsys):
    def stopped(name, remark=""):
        assert remark.startswith("No --preset was given, so it is small") == is_said
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "shown", stopped)
    assert main(["pretrain", *source]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_what_is_logged_several_times_is_printed_once(monkeypatch, capsys):
    def logs(arguments):
        for folder in ("a", "b", "a"):
            logging.getLogger("hf_synpre.data.folders").warning("%s: a file is left out", folder)
        return 0

    monkeypatch.setitem(VERBS, "tasks", dataclasses.replace(VERBS["tasks"], run=logs))
    for _ in range(2):  # each command says it anew
        assert main(["tasks"]) == 0
        assert capsys.readouterr().err == "a: a file is left out\nb: a file is left out\n"


def test_no_place_for_compiled_code_is_one_line(monkeypatch, capsys):
    def compiles(arguments):
        numba.njit(cache=True)(lambda x: x)

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    monkeypatch.setitem(VERBS, "tasks", dataclasses.replace(VERBS["tasks"], run=compiles))
    assert main(["tasks"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("synpre: Compiled code cannot be kept: no file can be made beside")
    assert said.endswith("Set NUMBA_CACHE_DIR to a folder where you may write.\n")


def test_another_command_in_the_folder_may_pass_and_is_exit_code_1(monkeypatch, capsys, tmp_path):
    def busy(arguments):
        with held(tmp_path / "run"), held(tmp_path / "run"):
            pass

    tasks = dataclasses.replace(VERBS["tasks"], run=busy)
    monkeypatch.setitem(VERBS, "tasks", tasks)
    assert main(["tasks"]) == 1
    assert "Another command is writing" in capsys.readouterr().err


def test_tasks_lists_and_shows(capsys):
    assert main(["tasks"]) == 0
    listed = capsys.readouterr().out
    assert "set" in listed
    assert main(["tasks", "set"]) == 0
    assert "min_length" in capsys.readouterr().out


def test_pretrain_statistics_finetune_one_after_the_other(
    tmp_path, capsys, tiny_dataset, monkeypatch
):
    from transformers import AutoModelForSeq2SeqLM

    from hf_synpre import StatisticsInit

    tiny = "d_model=32,d_kv=16,num_heads=2,d_ff=64,num_layers=1,num_decoder_layers=1"
    checkpoint, result = str(tmp_path / "set"), tmp_path / "result"
    words = [
        "--vocabulary",
        "64",
        "--config_overrides",
        tiny,
        "--output_dir",
        checkpoint,
        "--max_steps",
        "4",
        "--use_cpu",
    ]
    assert main(["pretrain", "set", "--parameters", "min_length=4,max_length=8", *words]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.rindex("{\n") :])["steps"] == 4
    assert main(["statistics", checkpoint, "--output_file", str(tmp_path / "s.json")]) == 0
    assert len(json.loads((tmp_path / "s.json").read_text())["parameters"]) == 26
    assert main(["statistics", checkpoint, "--output_dir", str(tmp_path / "small")]) == 0
    assert {f.name for f in (tmp_path / "small").iterdir()} == {
        "config.json",
        "parameter_statistics.json",
    }
    StatisticsInit(AutoModelForSeq2SeqLM).from_pretrained(tmp_path / "small")

    def stop(*_):
        raise KeyboardInterrupt

    # Stopped between the two files: neither is there, and the same command makes both.
    words = ["statistics", checkpoint, "--output_dir", str(tmp_path / "stopped")]
    with monkeypatch.context() as patch:
        patch.setattr(ParameterStatistics, "save", stop)
        assert main(words) == 130
    assert not (tmp_path / "stopped").exists()
    assert main(words) == 0
    assert main(["statistics", checkpoint, "--output_dir", str(tmp_path / "small")]) == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("mine")
    assert main(["statistics", checkpoint, "--output_dir", str(tmp_path / "mine")]) == 2
    assert "mine holds something else than the statistics of" in capsys.readouterr().err
    assert (tmp_path / "mine" / "config.json").read_text() == "mine"
    words = [
        "--data_dir",
        str(tiny_dataset),
        "--vocab_size",
        "400",
        "--config_overrides",
        tiny,
        "--max_steps=4",
        "--use_cpu",
    ]
    words += ["--init", "statistics", "--checkpoint", checkpoint, "--output_dir", str(result)]
    assert main(["finetune", "mtop", *words]) == 0
    assert "exact_match 0.0000 on 40 test examples" in capsys.readouterr().out
    assert (
        json.loads((result / "mtop--statistics--0.json").read_text())["phases"]["pretraining"][
            "name"
        ]
        == checkpoint
    )
