"""A whole experiment at miniature size through the command line: cells, kill and resume, report.

Run: pytest tests/experiments/test_experiment.py
"""

import json
import shutil
import signal
import subprocess
import time

import pyarrow.parquet as pq
import pytest
import yaml
from headed_models import write_corpus
from processes import Program, run_python
from small_models import TINY

from hf_synpre.cli import main
from hf_synpre.config import build_spec, read_yaml
from hf_synpre.experiments import Cell, Experiment, ExperimentSpec, artifacts
from hf_synpre.experiments.cell import initial_model
from hf_synpre.experiments.remarks import remarks

ARMS = {
    "random": {},
    "statistics": {"init": "statistics", "checkpoint": "set"},
    "synthetic": {"init": "weights", "checkpoint": "set"},
    "natural": {"init": "weights", "checkpoint": "text", "embeddings": "kept"},
}
SEEDS = [0, 1]
CELLS = {f"mtop--{arm}--{seed}.json" for arm in ARMS for seed in SEEDS}
# Workers of their own have the runs that are killed; others need none, and no time for them.
IN_THIS_PROCESS = ("--jobs", "1")
STABLE = ("task", "arm", "seed", "status", "score", "validation_score", "curve", "embeddings")


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_dataset):
    folder = tmp_path_factory.mktemp("config")
    texts = [f"document {i} has the words {i * 7 % 50} and {i * 3 % 40}" for i in range(600)]
    training = {"per_device_train_batch_size": 16, "use_cpu": True}
    value = {
        "name": "mini",
        "model": {"overrides": TINY},
        "pretraining": {
            "set": {
                "task": "set",
                "vocabulary": 64,
                "parameters": {"min_length": 4, "max_length": 8},
                "evaluations": 2,
                "training": training | {"max_steps": 30},
            },
            "text": {
                "corpus": str(write_corpus(folder, {"train": texts, "validation": texts[:9]})),
                "window": 32,
                "budget_of": "set",
                "evaluations": 2,
                "training": training,
            },
        },
        "tasks": {"mtop": {"data_dir": str(tiny_dataset), "vocab_size": 400, "max_target": 48}},
        "arms": ARMS,
        "finetuning": {
            "training": training | {"max_steps": 20},
            "evaluations": 2,
            "validation_examples": 20,
            "test_examples": 20,
        },
        "seeds": SEEDS,
        "jobs": 2,
    }
    file = folder / "mini.yaml"
    file.write_text(yaml.safe_dump(value))
    return file


def command(config, folder):
    """Return the words that run an experiment in a process of its own."""
    return ["-m", "hf_synpre", "run", config, "--output_dir", folder]


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mini"
    done = run_python(*command(config, folder), *IN_THIS_PROCESS)
    assert done.returncode == 0, done.stderr
    return folder, done


def cells_of(folder):
    return {f.name: json.loads(f.read_text()) for f in folder.glob("*--*--*.json")}


def test_one_json_for_each_cell_with_the_cost_of_each_phase(finished):
    folder, _ = finished
    cells = cells_of(folder)
    assert set(cells) == CELLS
    for cell in cells.values():
        assert cell["status"] == "done"
        assert 0 <= cell["score"] <= 1
        phases = [cell["phases"]["finetuning"]] + (
            [cell["phases"]["pretraining"]] if cell["arm"] != "random" else []
        )
        for phase in phases:
            assert {
                "tokens",
                "positions",
                "padding_share",
                "flops",
                "train_s",
                "tokens_per_s",
            } <= phase.keys()
            assert phase["flops"] > 0
        assert [point["step"] for point in cell["curve"]] == [10, 20]
        assert cell["data"]["splits"]["train"]["rows"] == 200
        assert cell["versions"]["torch"]
        assert cell["threads"] == 1


def test_natural_pretraining_gets_the_tokens_of_synthetic(finished):
    cells = cells_of(finished[0])
    natural, synthetic = (
        cells[f"mtop--{arm}--0.json"]["phases"]["pretraining"] for arm in ("natural", "synthetic")
    )
    one_step = 16 * (32 + 2 * 2 + 2)
    assert synthetic["tokens"] <= natural["tokens"] < synthetic["tokens"] + one_step


def test_experiments_may_share_their_work(finished, config, tmp_path):
    folder, _ = finished
    value = yaml.safe_load(config.read_text()) | {"seeds": [7]}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(value))
    made = {p: p.stat().st_mtime_ns for p in (folder / "work").glob("*/[a-z]*/*")}
    words = ["--output_dir", str(tmp_path / "other"), "--work_dir", str(folder / "work")]
    assert main(["run", str(tmp_path / "other.yaml"), *words, *IN_THIS_PROCESS]) == 0
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert len(cells_of(tmp_path / "other")) == len(ARMS)


def test_report_and_table(finished):
    folder, done = finished
    for name in (
        "report.md",
        "report.json",
        "curves.png",
        "curves.svg",
        "benefit.png",
        "benefit.svg",
    ):
        assert (folder / name).stat().st_size > 500
    assert all(arm in done.stdout for arm in ARMS)
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_a_second_run_computes_nothing(finished, config):
    folder, _ = finished
    before = {f: f.stat().st_mtime_ns for f in folder.glob("*--*.json")}
    assert main(["run", str(config), "--output_dir", str(folder)]) == 0
    assert {f: f.stat().st_mtime_ns for f in folder.glob("*--*.json")} == before


def test_a_run_that_was_ended_and_killed_ends_with_the_same_cells(finished, config, tmp_path):
    """Ended while its workers pre-train, and killed when the first cells are there."""
    folder = tmp_path / "ended"
    program = Program(*command(config, folder))
    wait_for(folder, "work/pretraining/set-*/recipe.json", program)
    program.send(signal.SIGTERM)
    ended = program.wait()
    assert "stopped; the same command goes on from here" in ended.stderr
    assert ended.returncode == 130
    workers = ["pgrep", "-s", str(program.pid), "-f", "popen_loky"]
    assert subprocess.run(workers, capture_output=True, text=True).stdout == ""

    program = Program(*command(config, folder), *IN_THIS_PROCESS)
    wait_for(folder, "*--*--*.json", program)
    program.send(signal.SIGKILL)
    program.wait()

    kept = {f.name: f.stat().st_mtime_ns for f in folder.glob("*--*--*.json")}
    assert main(["run", str(config), "--output_dir", str(folder), *IN_THIS_PROCESS]) == 0
    assert all((folder / name).stat().st_mtime_ns == stamp for name, stamp in kept.items()), (
        "finished cells were made again"
    )
    expected = cells_of(finished[0])
    assert {n: {k: c[k] for k in STABLE} for n, c in cells_of(folder).items()} == {
        n: {k: c[k] for k in STABLE} for n, c in expected.items()
    }


def wait_for(folder, pattern, program):
    """Wait until a file is there that a program writes."""
    while not list(folder.glob(pattern)):
        assert program.is_running()
        time.sleep(0.05)


def test_another_configuration_does_not_mix_with_finished_cells(finished, config, tmp_path, capsys):
    folder, _ = finished
    changed = tmp_path / "changed.yaml"
    changed.write_text(config.read_text().replace("max_steps: 20", "max_steps: 21"))
    assert main(["run", str(changed), "--output_dir", str(folder)]) == 2
    assert "holds results of another configuration (finetuning." in capsys.readouterr().err


def test_seeds_and_arms_may_be_added_and_an_arm_be_kept_to_some_tasks(
    finished, config, tmp_path, capsys
):
    folder = tmp_path / "more"
    shutil.copytree(finished[0], folder)
    value = yaml.safe_load(config.read_text())
    value |= {
        "seeds": [0, 1, 2],
        "arms": {
            "random": {"tasks": ["mtop"]},
            "fresh_natural": {"init": "weights", "checkpoint": "text"},
        },
    }
    # Where it is computed is no part of an experiment: its runs and cells are found again.
    lines = yaml.safe_dump(value).splitlines()
    text = "\n".join(line for line in lines if "use_cpu" not in line)
    (tmp_path / "more.yaml").write_text(text)
    before = cells_of(folder)
    runs = sorted((folder / "work" / "pretraining").iterdir())
    words = ["--output_dir", str(folder), *IN_THIS_PROCESS]
    assert main(["run", str(tmp_path / "more.yaml"), *words]) == 0

    # Cells that are left over are named.
    left = "natural on mtop, statistics on mtop, synthetic on mtop"
    sentence = f"{folder} has 6 cells that the experiment has no more ({left}). The report shows"
    said = capsys.readouterr().err
    assert sentence in said
    assert "No arm starts from" not in said
    after = cells_of(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        "mtop--random--2.json",
        *(f"mtop--fresh_natural--{s}.json" for s in range(3)),
    }
    assert sorted((folder / "work" / "pretraining").iterdir()) == runs


def test_what_no_finished_cell_depends_on_may_be_changed(finished, config, tmp_path, capsys):
    folder = tmp_path / "changed"
    shutil.copytree(finished[0], folder)
    value = yaml.safe_load(config.read_text())
    value["pretraining"]["set"]["training"]["max_steps"] += 1
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(value))
    words = ["run", str(tmp_path / "changed.yaml"), "--output_dir", str(folder), "--list"]
    assert main(words) == 2
    assert "(pretraining.set.training.max_steps: 30 before, 31 now)" in capsys.readouterr().err
    for file in folder.glob("*--*--*.json"):
        if "--random--" not in file.name:
            file.unlink()
    stored = (folder / "experiment.json").read_text()
    assert main(words) == 0
    value["paired_pretraining"] = True
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(value))
    assert main(words) == 0
    assert (folder / "experiment.json").read_text() == stored  # a list writes nothing
    capsys.readouterr()
    value["tasks"]["mtop"]["max_source"] = 24
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(value))
    assert main(words) == 2
    assert "(tasks.mtop.max_source: None before, 24 now)" in capsys.readouterr().err


def test_a_pretraining_run_that_no_arm_reads_is_named(config, tmp_path):
    value = yaml.safe_load(config.read_text()) | {"arms": {"random": {}}}
    unread = remarks(build_spec(ExperimentSpec, value, "unread"), tmp_path)
    assert unread == [
        f"No arm starts from the pre-training run '{run}', so it is not made."
        for run in ("set", "text")
    ]


def test_a_task_that_left_the_yaml_does_not_come_back_with_other_options(
    finished, config, tmp_path, capsys
):
    folder = tmp_path / "changed"
    shutil.copytree(finished[0], folder)
    value = yaml.safe_load(config.read_text())
    file = tmp_path / "changed.yaml"
    words = ["run", str(file), "--output_dir", str(folder), "--list"]

    # The task and the run on text leave; then each comes back with another option.
    without = value | {"tasks": {"stdlib_ast": {}}, "arms": {"random": {}}, "pretraining": {}}
    file.write_text(yaml.safe_dump(without))
    assert main(words) == 0
    value["tasks"]["mtop"]["vocab_size"] += 1
    value["pretraining"]["text"]["window"] += 1
    file.write_text(yaml.safe_dump(value))
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "tasks.mtop.vocab_size: 400 before, 401 now" in message
    assert "pretraining.text.window: 32 before, 33 now" in message
    assert "stdlib_ast" not in message


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("./nope", "There is no folder ./nope; give a checkpoint folder or a Hub id"),
        ("t5-mini-set", "There is no folder t5-mini-set; give synpre/t5-mini-set, whose sta"),
    ],
)
def test_an_arm_from_a_folder_that_is_not_there_is_found_before_the_first_cell(
    config, tmp_path, capsys, checkpoint, message
):
    value = yaml.safe_load(config.read_text()) | {
        "arms": {"a": {"init": "weights", "checkpoint": checkpoint}}
    }
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump(value))
    assert (
        main(["run", str(tmp_path / "arms.yaml"), "--output_dir", str(tmp_path / "out"), "--list"])
        == 2
    )
    assert message in capsys.readouterr().err


def test_a_corpus_without_a_validation_split_is_found_before_the_first_cell(
    config, tmp_path, capsys
):
    value = yaml.safe_load(config.read_text())
    write_corpus(tmp_path, {"train": ["some words"]})
    value["pretraining"]["text"]["corpus"] = str(tmp_path)
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(value))
    words = ["run", str(tmp_path / "one.yaml"), "--output_dir", str(tmp_path / "out"), "--list"]
    assert main(words) == 2
    assert f"corpus '{tmp_path}' has no validation split (it has train)" in capsys.readouterr().err


def test_cells_of_different_data_do_not_mix(finished, tmp_path, capsys):
    folder = tmp_path / "mixed"
    shutil.copytree(finished[0], folder)
    file = folder / "mtop--random--0.json"
    cell = json.loads(file.read_text())
    cell["data"]["splits"]["train"]["rows"] = 7
    file.write_text(json.dumps(cell))
    assert main(["report", str(folder)]) == 2
    assert "clash in their data of mtop" in capsys.readouterr().err


def test_embeddings_are_kept_or_fresh_as_the_arm_says(finished, config):
    from safetensors.torch import load_file

    value = read_yaml(config)
    value["arms"]["fresh"] = {"init": "weights", "checkpoint": "text"}
    experiment = Experiment(build_spec(ExperimentSpec, value, "config"), finished[0])
    folder = experiment.artifacts.checkpoint("text", "mtop")  # finished: it is only found
    stored, data = (
        load_file(folder / "model.safetensors"),
        experiment.artifacts.prepared_task("mtop"),
    )
    for arm, same in (("natural", True), ("fresh", False)):
        model, _ = initial_model(Cell("mtop", arm, 0), experiment.spec, experiment.artifacts, data)
        assert bool((model.shared.weight == stored["shared.weight"]).all()) is same
        name = "encoder.block.0.layer.0.SelfAttention.q.weight"
        assert bool((model.get_parameter(name) == stored[name]).all())


def test_paired_seeds_start_from_pretraining_runs_of_their_own(config, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        artifacts,
        "pretrain",
        lambda spec, model, folder, **options: made.append((spec.seed, folder)),
    )
    fields = read_yaml(config)
    for is_paired, needed, seeds in ((False, {0}, [0, 0]), (True, {0, 1}, [0, 1])):
        spec = build_spec(ExperimentSpec, fields | {"paired_pretraining": is_paired}, "paired")
        experiment = Experiment(spec, tmp_path / str(is_paired))
        cells = [Cell("mtop", "synthetic", seed) for seed in (0, 1)]
        runs = experiment._runs_needed(cells)
        assert {seed for run, _, seed in runs if run == "set"} == needed

        made.clear()
        for cell in cells:
            experiment.artifacts.checkpoint("set", "mtop", spec.added_seed(cell))
        assert [seed for seed, _ in made] == seeds
        assert len({folder for _, folder in made}) == len(needed)


def test_a_failing_cell_is_kept_reported_and_tried_again(config, tmp_path, capsys):
    value = yaml.safe_load(config.read_text())
    value["arms"] = {"random": {}, "natural": {"init": "weights", "checkpoint": "nobody/nothing"}}
    value |= {"pretraining": {}, "seeds": [0]}
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump(value))
    failed = tmp_path / "broken" / "mtop--natural--0.json"
    stamps = []
    for more in ([], [], ["--retry"]):
        words = ["--output_dir", str(tmp_path / "broken"), *IN_THIS_PROCESS, *more]
        assert main(["run", str(broken), *words]) == 1
        said = capsys.readouterr().err
        assert "mtop--natural--0.json: " in said
        assert "with --retry computes them again" in said
        assert "Traceback" not in said
        stamps.append(failed.stat().st_mtime_ns)
    assert stamps[0] == stamps[1] < stamps[2], "kept, and computed again on demand only"
    cells = cells_of(tmp_path / "broken")
    assert {c["arm"]: c["status"] for c in cells.values()} == {
        "random": "done",
        "natural": "failed",
    }
    assert "Failed cells" in (tmp_path / "broken" / "report.md").read_text()


def test_stdlib_ast_rows_are_real_and_disjoint():
    from hf_synpre.data.stdlib import parse_row, s_expression, syntax_trees

    tables = syntax_trees()
    rows = {split: table["source"].to_pylist() for split, table in tables.items()}
    assert len(rows["train"]) > 40_000
    assert min(len(rows["validation"]), len(rows["test"])) > 2_000
    everything = [text for texts in rows.values() for text in texts]
    assert len(set(everything)) == len(everything)
    assert all(8 <= len(text) <= 60 for text in everything)
    for source, tree in zip(rows["test"][:500], tables["test"]["tree"].to_pylist(), strict=False):
        assert parse_row(source) == (source, tree)
    assert parse_row("f(x, 1)") == ("f(x, 1)", "(Call f [x 1] [])")
    assert parse_row("return None") == ("return None", "(Return None)")
    assert parse_row("x =") is None
    assert s_expression([None, 3]) == "[- 3]"


def test_prepared_data_is_written_once_and_splits_stay_apart(finished):
    (data,) = (finished[0] / "work" / "data").glob("mtop-*")
    tables = {
        split: pq.read_table(data / f"{split}.parquet") for split in ("train", "validation", "test")
    }
    assert [len(t) for t in tables.values()] == [200, 40, 40]
    train, test = (
        {row[0] for row in tables[split]["references"].to_pylist()} for split in ("train", "test")
    )
    assert not train & test


def test_an_arm_may_have_any_scheme(config, finished, tmp_path):
    from hf_synpre.initialization import SCHEMES

    checkpoint = str(next((finished[0] / "work" / "pretraining").glob("set-*")))
    arms = {
        name: {"init": "statistics", "scheme": name}
        | ({"checkpoint": checkpoint} if scheme.needs_checkpoint else {})
        | {"embeddings": "kept" if scheme.embeddings else "fresh"}
        for name, scheme in SCHEMES.items()
        # another vocabulary, and what an arm has no frequencies for
        if name not in ("weights", "log_unigram_head")
    }
    value = yaml.safe_load(config.read_text()) | {"arms": {"random": {}} | arms}
    one = Experiment(build_spec(ExperimentSpec, value, "test"), tmp_path, finished[0] / "work")
    data = one.artifacts.prepared_task("mtop")
    models = {
        arm: initial_model(Cell("mtop", arm, 0), one.spec, one.artifacts, data)
        for arm in one.spec.arms
    }
    fresh = dict(models["random"][0].named_parameters())
    for arm, (model, cost) in models.items():
        changed = sum(not p.equal(fresh[name]) for name, p in model.named_parameters())
        assert (changed > 0) == (arm != "random")
        is_free = arm == "random" or not SCHEMES[arm].needs_checkpoint
        assert (cost is None) == is_free
        assert cost is None or cost["tokens"] > 0  # from its pretraining.json


def test_arms_of_another_size_differ_by_the_rule_of_resizing(config, finished, tmp_path):

    arm = {
        "init": "statistics",
        "checkpoint": str(next((finished[0] / "work" / "pretraining").glob("set-*"))),
    }
    value = yaml.safe_load(config.read_text()) | {
        "arms": {"fan_in": arm, "depth": arm | {"resize": "depth"}}
    }
    value["model"] = {
        "overrides": TINY | {"d_model": 4 * TINY["d_model"], "num_layers": TINY["num_layers"] + 1}
    }
    one = Experiment(build_spec(ExperimentSpec, value, "test"), tmp_path, finished[0] / "work")
    models = [
        initial_model(
            Cell("mtop", name, 0), one.spec, one.artifacts, one.artifacts.prepared_task("mtop")
        )[0]
        for name in ("fan_in", "depth")
    ]
    scaled, unscaled = (m.encoder.block[-1].layer[0].SelfAttention.q.weight for m in models)
    assert unscaled.allclose(2 * scaled)
