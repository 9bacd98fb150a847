"""Progress of a run: what it is before its first step, its time, lines and files on the way.

Run: pytest tests/training/test_progress.py
"""

import json

import pytest
from pretraining_runs import run_of

from hf_synpre.training import progress
from hf_synpre.training.pretraining import pretrain
from hf_synpre.training.progress import (
    ProgressFile,
    ProgressLines,
    RunState,
    description,
    estimate,
    position,
    reported_in,
    reported_to,
)

STATE = RunState(
    "pre-training set",
    phase="training",
    model="T5ForConditionalGeneration",
    parameters=935_936,
    device="cpu",
    threads=2,
    steps=4000,
    examples_a_step=64,
    tokens=6_400_000,
    step=7,
)


class Recorder:
    """A listener that keeps what it was told."""

    name = "a run"

    def __init__(self):
        self.told = []

    def begun(self, state):
        self.told.append(("begun", state.step, state))

    def estimated(self, state):
        self.told.append(("estimated", state.step, state))

    def advanced(self, state):
        self.told.append(("advanced", state.step, state))


@pytest.mark.parametrize("name", ["t5 packed", "gpt2 packed"])
def test_a_run_says_what_it_is_and_how_long_it_takes(name, tmp_path):
    spec, model = run_of(name)
    spec.training["max_steps"] = 12
    recorder = Recorder()
    with reported_to(recorder):
        result = pretrain(spec, model, tmp_path / "run")
    kinds = [kind for kind, _, _ in recorder.told]
    assert kinds[0] == "begun"
    assert kinds.count("begun") == kinds.count("estimated") == 1
    steps = [step for kind, step, _ in recorder.told if kind == "advanced"]
    assert steps == list(range(3, 13))
    _, estimated_at, state = recorder.told[kinds.index("estimated")]
    assert estimated_at == progress.WARM_UP_STEPS + progress.MEASURED_STEPS
    assert state.steps == 12
    assert state.tokens == pytest.approx(result["tokens"], rel=0.25)
    assert state.seconds_left == 0  # at its end
    assert state.parameters > 0


def test_nobody_is_told_outside_the_block(tmp_path):
    recorder = Recorder()
    with reported_to(recorder):
        pass
    assert progress.current_listener() is None


def test_lines_say_what_a_run_is():
    assert description(STATE) == (
        "pre-training set: T5ForConditionalGeneration with 936 k parameters, up to 4,000 steps of "
        "64 examples, about 6.4 M tokens; on cpu, 2 threads."
    )
    now = RunState(**{**vars(STATE), "seconds_left": 150.0, "loss": 1.5, "tokens_per_s": 14_700})
    assert estimate(now) == "pre-training set: about 2 min for all steps, by the first 7."
    printed = []
    lines = ProgressLines("set", None)
    lines._print = printed.append
    lines.estimated(now)
    lines.estimated(RunState(**{**vars(now), "step": now.steps}))  # nothing is left to say
    assert printed == [estimate(now)]
    assert position(now) == (
        "pre-training set: step 7 of 4,000, loss 1.500, 14.7 k tokens/s, 2 min left"
    )
    assert position(RunState("data of mtop", "preparing")) == "data of mtop: preparing"


def test_a_run_of_more_than_an_hour_is_warned_of():
    slow = RunState(**{**vars(STATE), "seconds_left": 7 * 3600.0})
    assert "about 7 h 00 min for all steps" in estimate(slow)
    assert "Warning: that is over an hour. For a shorter run give fewer steps" in estimate(slow)
    assert estimate(slow).endswith("Ctrl-C stops this one, and the same command goes on with it.")
    assert estimate(slow, has_checkpoints=False).endswith("the same command begins it again.")


@pytest.mark.parametrize(("every_s", "lines"), [(0.0, 2), (1e9, 0), (None, 0)])
def test_a_line_comes_after_some_seconds(every_s, lines, capsys):
    listener = ProgressLines("a run", every_s)
    listener.advanced(STATE)
    listener.advanced(STATE)
    assert capsys.readouterr().err.count("step 7 of 4,000") == lines


def test_a_file_is_there_while_the_block_runs(tmp_path):
    file = tmp_path / "pre-training-set.json"
    with reported_in(tmp_path, "pre-training set"):
        assert json.loads(file.read_text())["phase"] == "starting"
        progress.current_listener().begun(STATE)
        assert json.loads(file.read_text())["steps"] == 4000
    assert not file.exists()


def test_a_file_that_cannot_be_written_ends_no_run(tmp_path):
    (tmp_path / "no_folder").write_text("")
    ProgressFile(tmp_path / "no_folder" / "x.json", "x").begun(STATE)
