"""examples/which_statistics.yaml: the 21 tasks of the paper, its list of commands, a tiny version.

Run: pytest tests/experiments/test_which_statistics.py
"""

from pathlib import Path

from small_models import TINY

from hf_synpre.cli import main
from hf_synpre.config import build_spec, read_yaml
from hf_synpre.experiments import Experiment, ExperimentSpec
from hf_synpre.files import read_json
from hf_synpre.initialization import bundled_checkpoints
from hf_synpre.report import write_report
from hf_synpre.report.heat_maps import MANY_ARMS

FILE = Path(__file__).parents[2] / "examples" / "which_statistics.yaml"


def test_its_arms_are_the_statistics_of_the_21_tasks_of_the_paper():
    spec = build_spec(ExperimentSpec, read_yaml(FILE), FILE.name)
    arms = {name: arm for name, arm in spec.arms.items() if name != "random"}
    tasks = {}
    for name, arm in arms.items():
        assert arm.init == "statistics"
        facts = read_json(bundled_checkpoints()[arm.checkpoint] / "pretraining.json")
        tasks[name] = facts["recipe"]["pretraining"]["task"]
    assert tasks == {name: name for name in arms}
    assert len(tasks) == 21
    assert len(arms) >= MANY_ARMS  # so that the report has the heat map

    # The model and the fine-tuning are those of the campaign.
    campaign = build_spec(
        ExperimentSpec, read_yaml(FILE.with_name("campaign.yaml")), "campaign.yaml"
    )
    assert spec.model == campaign.model
    for task in spec.tasks:
        assert spec.finetuning_spec(task) == campaign.finetuning_spec(task)


def test_its_cells_are_listed(tmp_path, capsys):
    folder = tmp_path / "which_statistics"
    assert main(["run", str(FILE), "--list", "--output_dir", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22 * 3 * 3
    assert sum("mtop--set1_minus_set2--" in line for line in lines) == 3
    assert not folder.exists()  # a list writes nothing


def test_a_tiny_version_runs(tmp_path, tiny_dataset, undrawn):
    values = read_yaml(FILE)
    values["model"] = {"overrides": TINY}
    values["tasks"] = {"mtop": {"data_dir": str(tiny_dataset), "vocab_size": 400, "max_target": 48}}
    values["arms"] = {name: values["arms"][name] for name in ("random", "set", "count")}
    few = {"evaluations": 1, "validation_examples": 4, "test_examples": 4}
    values["finetuning"] = few | {"training": {"max_steps": 1, "use_cpu": True}}
    spec = build_spec(ExperimentSpec, values | {"seeds": [0], "jobs": 1}, "tiny")
    assert Experiment(spec, tmp_path / "tiny").run() == []
    report = write_report(tmp_path / "tiny")
    assert report["scores"]["mtop"].keys() == {"random", "set", "count"}
    assert report["phases"]["count"]["pretraining"]["names"] == ["synpre/t5-mini-count"]
