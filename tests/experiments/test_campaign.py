"""An experiment's runner: arms of every kind, cells chosen, listed and shared among workers.

Run: pytest tests/experiments/test_campaign.py
"""

import io
import json
import shlex
import subprocess
import sys
import time

import pytest
import torch
import yaml
from processes import Program
from small_models import TINY

from hf_synpre.cli import main
from hf_synpre.config import build_spec
from hf_synpre.data.text_progress import clock
from hf_synpre.errors import UsageError
from hf_synpre.experiments import Cell, Experiment, ExperimentSpec
from hf_synpre.experiments.cell import initial_model
from hf_synpre.experiments.progress import Progress, seconds_left

TRAINING = {"per_device_train_batch_size": 8, "use_cpu": True}
LORA = {"r": 2, "target_modules": ["q", "v"]}


def given(data_dir, **changes):
    run = {
        "task": "set",
        "vocabulary": 64,
        "parameters": {"min_length": 4, "max_length": 8},
        "evaluations": 1,
    }
    value = {
        "name": "campaign",
        "model": {"overrides": TINY},
        "pretraining": {"set": run | {"training": TRAINING | {"max_steps": 12}}},
        "tasks": {"mtop": {"vocab_size": 400, "max_target": 24}},
        "arms": {
            "random": {},
            "equal_compute": {"compute_of": "set"},
            "lora": {"lora": LORA},
            "synthetic_lora": {"init": "weights", "checkpoint": "set", "lora": LORA},
        },
        "finetuning": {
            "training": TRAINING | {"max_steps": 4},
            "evaluations": 2,
            "validation_examples": 8,
            "test_examples": 8,
        },
        "seeds": [0],
        "jobs": 1,
        "data_dir": str(data_dir),
    }
    return value | changes


def made(folder, data_dir, **changes):
    return Experiment(build_spec(ExperimentSpec, given(data_dir, **changes), "x"), folder)


def cells_of(folder):
    return {f.name.split("--")[1]: json.loads(f.read_text()) for f in folder.glob("*--*--*.json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_dataset):
    one = made(tmp_path_factory.mktemp("campaign") / "out", tiny_dataset)
    assert one.run() == []
    return one


def test_equal_compute_gets_the_flops_of_the_pretraining_too(finished):
    cells = cells_of(finished.folder)
    (result,) = (finished.artifacts.folder / "pretraining").glob("set-*/pretraining.json")
    allowed = (
        cells["random"]["phases"]["finetuning"]["flops"] + json.loads(result.read_text())["flops"]
    )
    cost = cells["equal_compute"]["phases"]["finetuning"]
    assert cost["flops"] == pytest.approx(allowed, rel=0.1)
    assert cost["steps"] > cells["random"]["phases"]["finetuning"]["steps"]
    assert cells["equal_compute"]["curve"][-1]["step"] == cost["steps"]


def rows(tmp_path, names):
    folder = tmp_path / "rows" / "mine"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        lines = [
            json.dumps({"a": f"{name} {split} {i}", "b": name}) + "\n"
            for i in range(9)
            for name in names
        ]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder.parent


def test_edited_rows_are_read_again_and_do_not_join_finished_cells(tmp_path):
    changes = {
        "tasks": {"mine": {"define": {"source": ["a"], "target": ["b"]}, "vocab_size": 400}},
        "seeds": [0],
    }
    place = rows(tmp_path, ["ant", "bee"])
    one = made(tmp_path / "out", place, **changes, arms={"random": {}})
    assert one.run() == []
    first = one.artifacts.prepared_task("mine").metadata
    rows(tmp_path, ["fox", "owl"])
    again = made(tmp_path / "other", place, **changes, arms={"random": {}})
    again.artifacts.folder = one.artifacts.folder
    assert (
        again.artifacts.prepared_task("mine").metadata["splits"]["train"]["sha256"]
        != first["splits"]["train"]["sha256"]
    )
    more = made(tmp_path / "out", place, **changes | {"seeds": [0, 1]}, arms={"random": {}})
    with pytest.raises(
        UsageError,
        match=r"holds cells on other rows of mine.*choose another --output_dir, or delete",
    ):
        more.run()
    assert not (tmp_path / "out" / "mine--random--1.json").exists()
    (place / "mine" / "train.jsonl").write_text("")
    with pytest.raises(UsageError, match="cannot be read as a dataset"):
        made(tmp_path / "empty", place, **changes, arms={"random": {}}).run()
    assert not (tmp_path / "empty").exists()


def test_a_refused_experiment_leaves_nothing_behind_but_what_was_made(tmp_path, tiny_dataset):
    # A model that cannot answer the task is refused before anything is written.
    bert = {"model_type": "bert", "overrides": {"num_hidden_layers": 1}}
    with pytest.raises(UsageError, match="and bert is neither an encoder-decoder nor a decoder"):
        made(tmp_path / "bert", tiny_dataset, model=bert).run()
    assert not (tmp_path / "bert").exists()

    # What was made stays, and so does the folder that it is in.
    mine = {
        "data_dir": str(rows(tmp_path, ["ant"])),
        "define": {"source": ["nope"], "target": ["b"]},
    }
    tasks = {"mtop": {"vocab_size": 400, "max_target": 24}, "mine": mine}
    two = made(tmp_path / "two", tiny_dataset, tasks=tasks, arms={"random": {}})
    with pytest.raises(UsageError, match="column nope is not in the dataset"):
        two.run()
    assert (two.folder / "experiment.json").exists()
    assert (two.folder / "mtop--random--0.json").exists()


def test_an_arm_whose_checkpoint_does_not_fit_is_refused_before_the_first_cell(
    tmp_path, tiny_dataset
):
    wrong = {"init": "statistics", "checkpoint": "synpre/llama-mini-set"}
    arms = {"random": {}, "borrowed": wrong}
    message = "arm borrowed: The statistics of synpre/llama-mini-set lack .* architecture llama"
    with pytest.raises(UsageError, match=message):
        made(tmp_path / "all", tiny_dataset, arms=arms).run()
    assert not (tmp_path / "all").exists()

    # Weights of another size.
    released = {"init": "weights", "checkpoint": "model_cards/t5-mini-set"}
    with pytest.raises(UsageError, match="arm borrowed: "):
        made(tmp_path / "all", tiny_dataset, arms={"random": {}, "borrowed": released}).run()

    # Cells of other arms are computed where they alone are asked for.
    assert made(tmp_path / "one", tiny_dataset, arms=arms).run(["mtop--random--0"]) == []


def test_lora_trains_adapters_and_fresh_embeddings_only(finished):
    data = finished.artifacts.prepared_task("mtop")
    from hf_synpre.experiments.cell import add_adapters

    for embeddings, trained in (("fresh", {"shared.weight"}), ("kept", set())):
        arm = build_spec(
            type(finished.spec.arms["lora"]), {"lora": LORA} | ({"embeddings": embeddings}), "arm"
        )
        model, _ = initial_model(Cell("mtop", "random", 0), finished.spec, finished.artifacts, data)
        add_adapters(model, arm, 0)
        names = {name for name, p in model.named_parameters() if p.requires_grad}
        assert {name for name in names if "lora_" not in name} == trained
        assert any("lora_A" in name for name in names)
    assert {c["status"] for c in cells_of(finished.folder).values()} == {"done"}
    assert cells_of(finished.folder)["synthetic_lora"]["phases"]["pretraining"]["name"] == "set"


def test_merged_adapters_compute_the_same(finished):
    from hf_synpre.experiments.cell import add_adapters
    from hf_synpre.finetuning.finetuning import merge_adapters

    model, _ = initial_model(
        Cell("mtop", "random", 0),
        finished.spec,
        finished.artifacts,
        finished.artifacts.prepared_task("mtop"),
    )
    add_adapters(model, finished.spec.arms["lora"], 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ids = torch.arange(2, 10)[None]
    before = model(input_ids=ids, decoder_input_ids=ids).logits
    merge_adapters(model)
    assert not any(hasattr(m, "lora_A") and m.lora_A and not m.merged for m in model.modules())
    torch.testing.assert_close(
        model(input_ids=ids, decoder_input_ids=ids).logits, before, atol=1e-3, rtol=1e-3
    )


def test_released_embeddings_may_have_more_rows_than_the_tokenizer_has_ids(
    finished, tmp_path, tiny_dataset
):
    from transformers import T5Config, T5ForConditionalGeneration

    T5ForConditionalGeneration(T5Config(vocab_size=416, **TINY)).save_pretrained(
        tmp_path / "released"
    )
    arms = {
        "natural": {
            "init": "weights",
            "checkpoint": str(tmp_path / "released"),
            "embeddings": "kept",
        }
    }
    one = made(tmp_path / "out", tiny_dataset, arms=arms)
    model, pretraining_cost = initial_model(
        Cell("mtop", "natural", 0), one.spec, one.artifacts, one.artifacts.prepared_task("mtop")
    )
    assert model.shared.weight.shape[0] == 416
    assert pretraining_cost == {"name": str(tmp_path / "released")}


def test_arms_and_tasks_say_which_cells_there_are(tiny_dataset, tmp_path):
    tasks = {"mtop": {"seeds": [3, 4]}, "retrosynthesis": {}}
    one = made(
        tmp_path, tiny_dataset, tasks=tasks, arms={"random": {}, "more": {"tasks": ["mtop"]}}
    )
    assert {c.name for c in one.cells()} == {
        *(f"mtop--{arm}--{seed}" for arm in ("random", "more") for seed in (3, 4)),
        "retrosynthesis--random--0",
    }
    assert {c.name for c in one.cells(["*--more--*", "retro*"])} == {
        "retrosynthesis--random--0",
        "mtop--more--3",
        "mtop--more--4",
    }
    with pytest.raises(
        UsageError, match=r"Unknown cell 'mtop--random--5'. Did you mean 'mtop--random--[34]'"
    ):
        one.cells(["mtop--random--5"])


def test_listed_commands_compute_one_cell_each_and_only_makes_a_report_when_all_are_there(
    tmp_path, tiny_dataset, capsys
):
    file, out = tmp_path / "a b.yaml", tmp_path / "out"
    value = given(str(tiny_dataset), arms={"random": {}, "lora": {"lora": LORA}}, pretraining={})
    file.write_text(yaml.safe_dump(value))
    assert main(["run", str(file), "--output_dir", str(out), "--list"]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert {command[-1] for command in commands} == {"mtop--random--0", "mtop--lora--0"}
    for done, command in enumerate(commands, 1):
        assert command[:3] == [sys.executable, "-m", "hf_synpre"]
        assert main(command[3:]) == 0
        assert len(list(out.glob("*--*--*.json"))) == done
        assert (out / "report.md").exists() is (done == 2)
    capsys.readouterr()
    assert main(["run", str(file), "--output_dir", str(out), "--list"]) == 0
    assert capsys.readouterr().out == ""
    file.write_text(yaml.safe_dump(value | {"finetuning": {"training": {"max_steps": 5}}}))
    assert main(["run", str(file), "--output_dir", str(out), "--list"]) == 2
    assert "holds results of another configuration" in capsys.readouterr().err


def test_commands_are_listed_for_columns_that_are_there(tmp_path, tiny_dataset, capsys):
    file, out = tmp_path / "e.yaml", tmp_path / "out"
    task = {"source": "nope", "target": "statement", "max_source": 9, "max_target": 9}
    value = given(str(tiny_dataset), arms={"random": {}}, pretraining={})
    words = ["run", str(file), "--output_dir", str(out), "--list"]
    file.write_text(yaml.safe_dump(value | {"tasks": {"mine": {"define": task}}}))
    assert main(words) == 2
    assert "mine: column nope is not in the dataset; it has" in capsys.readouterr().err
    assert not out.exists()

    # Nothing is fetched from the Hub, and a line says so.
    del value["data_dir"]
    file.write_text(
        yaml.safe_dump(value | {"tasks": {"mine": {"define": task | {"hub_id": "me/it"}}}})
    )
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.err == "Columns of the Hub's data were not checked: mine.\n"
    assert said.out.endswith("--only mine--random--0\n")


def test_folders_from_before_an_option_existed_go_on(tmp_path):
    from pathlib import Path

    from hf_synpre.config import read_yaml
    from hf_synpre.experiments.cell import experiment_recipe
    from hf_synpre.experiments.stored_recipe import read_stored_recipe

    root = Path(__file__).parents[2]
    spec = build_spec(
        ExperimentSpec, read_yaml(root / "examples" / "quickstart.yaml"), "quickstart"
    )
    stored = json.loads((root / "results" / "quickstart" / "experiment.json").read_text())
    for arm in stored["arms"].values():
        arm.pop("lora")
        arm.pop("resize", None)
    stored["finetuning"].pop("patience")
    (tmp_path / "experiment.json").write_text(json.dumps(stored))
    assert read_stored_recipe(tmp_path / "experiment.json") == experiment_recipe(spec)


# A process that holds the lock of a cell until another cell is there.
HOLDER = """
import sys, time
from pathlib import Path
from hf_synpre.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    while not Path(sys.argv[2]).exists():
        time.sleep(0.05)
"""


def test_a_cell_that_another_process_computes_is_left_to_it_and_waited_for_in_the_end(
    tmp_path, tiny_dataset
):
    one = made(tmp_path / "out", tiny_dataset, arms={"random": {}}, pretraining={}, seeds=[0, 1])
    one.open_folder()
    cell, free = one.cells()
    files = [one.folder / ".locks" / cell.file_name, one.folder / free.file_name]
    command = [sys.executable, "-c", HOLDER, *files]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    assert one.compute_and_store(cell, wait=False) is None
    assert not (one.folder / cell.file_name).exists()
    assert one.run() == []
    stamps = {c.seed: (one.folder / c.file_name).stat().st_mtime_ns for c in one.cells()}
    assert stamps[1] < stamps[0], "the free cell first"
    other.communicate()


def test_two_processes_share_the_cells(tmp_path, tiny_dataset):
    file = tmp_path / "shared.yaml"
    value = given(str(tiny_dataset), arms={"random": {}}, pretraining={}, seeds=[0, 1, 2, 3])
    file.write_text(yaml.safe_dump(value))
    words = ("run", file, "--output_dir", tmp_path / "out", "--jobs", "1")
    both = [Program("-m", "hf_synpre", *words) for _ in range(2)]
    ended = [program.wait() for program in both]
    assert [one.returncode for one in ended] == [0, 0], [one.stderr for one in ended]
    walls = [
        c["wall_s"]
        for c in map(json.loads, (f.read_text() for f in (tmp_path / "out").glob("*--*--*.json")))
    ]
    assert len(walls) == 4


def test_the_time_left_is_that_of_cells_alike():
    cells = [Cell(t, a, s) for t in ("x", "y") for a in ("p", "q") for s in (0, 1)]
    walls = {Cell("x", "p", 0): 10.0, Cell("y", "p", 0): 100.0, Cell("y", "q", 0): 300.0}
    left = 10 + (10 + 10) + 100 + 300  # x--p--1, x--q--*, y--p--1, y--q--1
    assert seconds_left(cells, walls, 2) == left / 2
    assert seconds_left(cells, {}, 2) is None
    assert [clock(s) for s in (None, 12.3, 150, 7230)] == ["?", "12 s", "2 min", "2 h 00 min"]


def test_the_time_left_of_many_cells_takes_a_time_that_grows_with_their_number():
    cells = [Cell(f"t{i % 10}", "a", i) for i in range(20_000)]
    walls = dict.fromkeys(cells[::2], 2.0)
    started = time.process_time()
    assert seconds_left(cells, walls, 1) == 20_000
    assert time.process_time() - started < 2


def test_the_table_counts_what_is_there(finished, tmp_path):
    from rich.console import Console

    progress = Progress(
        "campaign", finished.folder, [*finished.cells(), Cell("mtop", "random", 1)], 1
    )
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(progress.table())
    text = console.export_text()
    assert "campaign: 4 of 5 cells" in text
    assert "1/2 0." in text
    (tmp_path / "mtop--random--0.json").write_text(json.dumps({"status": "failed"}))
    assert "0 of 1 cell, 1 failed" in Progress(
        "x", tmp_path, [Cell("mtop", "random", 0)], 1
    ).headline(Progress("x", tmp_path, [Cell("mtop", "random", 0)], 1).contents())
