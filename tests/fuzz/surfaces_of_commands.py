"""Surfaces: experiments, flags, repo ids, parameters of tasks and ids of their rows."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from inputs import DOCUMENT, ODD_NUMBERS, SCALAR, TEXT, VALUE, as_json, edited
from surface import Surface, list_cells, nothing, run_command
from surfaces_of_files import json_lines, many_rows
from surfaces_of_models import HEADER, safetensors, write_checkpoint
from surfaces_of_results import CELLS, RUN, write_cells

from hf_synpre.cli.options import verb_flags
from hf_synpre.cli.verbs import VERBS
from hf_synpre.errors import UsageError
from hf_synpre.hub.checks import check_repo_id
from hf_synpre.tasks import generate, get_task, list_tasks, open_stream

# --- tasks ----------------------------------------------------------------------------------------

VOCABULARIES = (None, 19, 32, 64, 1000, 32128)


@st.composite
def task_parameters(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return a task, and parameters of it that are extreme."""
    name = draw(st.sampled_from(list_tasks()))
    parameters = {}
    for parameter, default in get_task(name).parameters.items():
        if draw(st.booleans()):
            usual = list(default) if isinstance(default, tuple) else [default, default * 10]
            parameters[parameter] = draw(st.sampled_from([*usual, 0, 1, 2, 3, 1000]) | SCALAR)
    return name, parameters


@st.composite
def task_rows(draw: st.DrawFn) -> tuple[Any, ...]:
    """Return a task with parameters, a vocabulary, a row and an answer, right or almost."""
    name, parameters = draw(task_parameters())
    if draw(st.booleans()):
        parameters = {}
    vocabulary = draw(st.sampled_from(VOCABULARIES))
    row, answer = [5, 6], [5]
    if draw(st.integers(0, 3)):
        row, answer = usual_row(name, vocabulary, draw(st.integers(0, 20)))
    if draw(st.booleans()):
        row = draw(edited(row))
    if draw(st.booleans()):
        answer = draw(edited(answer) | VALUE)
    return name, parameters, vocabulary, row, answer


@functools.cache
def usual_row(name: str, vocabulary: int | None, index: int) -> tuple[list[int], list[int]]:
    """Return the ids of a row of a task and of its target; any where there are none."""
    try:
        (row,) = generate(name, index, index + 1, vocabulary=vocabulary).to_pylist()
    except UsageError:
        return [5, 6, 7], [5]
    return row["input_ids"], row["labels"]


def solve(folder: Path, value: tuple[Any, ...]) -> None:
    """Solve a row, score an answer, and write both as text; all are tried."""
    name, parameters, vocabulary, row, answer = value
    task = get_task(name)
    given = {"vocabulary": vocabulary, **parameters}
    refusals = []
    for call in (
        lambda: task.solve(row, **given),
        lambda: task.score(row, answer, **given),
        lambda: task.text(answer, row=row, **given),
    ):
        try:
            call()
        except UsageError as refusal:
            refusals.append(refusal)
    if refusals:
        raise refusals[0]


def generate_rows(folder: Path, value: tuple[Any, ...]) -> None:
    """Generate two rows."""
    (name, parameters), vocabulary, seed, index = value
    stream = open_stream(name, seed=seed, vocabulary=vocabulary, **parameters)
    stream.rows(np.array([index, index + 1]))


# --- commands -------------------------------------------------------------------------------------

EXPERIMENT = {
    "name": "x",
    "tasks": {
        "mine": {
            "define": {"source": ["a"], "target": ["b"], "max_source": 8, "metric": "exact_match"},
            "vocab_size": 300,
            "max_target": 8,
            "finetuning": {"training": {"max_steps": 4}},
        },
        "cola": {"max_source": 16, "seeds": [3]},
    },
    "pretraining": {
        "set": {"task": "set", "vocabulary": 64, "parameters": {"max_length": 24}, "seed": 1,
                "training": {"max_steps": 4, "learning_rate": 0.01}, "evaluations": 2},
        "self": {"corpus": "self", "text": {"order": "shuffled_rows", "seed": 1}, "window": 16,
                 "budget_tokens": 1000},
    },
    "arms": {
        "random": {},
        "set": {"init": "weights", "checkpoint": "set"},
        "drawn": {"init": "statistics", "checkpoint": "set", "scheme": "mlp_scale"},
        "longer": {"match_flops_of": "set", "tasks": ["mine"]},
    },
    "model": {"model_type": "t5", "overrides": {"d_model": 8, "num_layers": 1}},
    "finetuning": {"evaluations": 1, "validation_examples": 5, "training": {"max_steps": 8}},
    "seeds": [0, 1],
    "jobs": 1,
}  # fmt: skip


# Verb -> the words that are always given.
USUAL_WORDS = {
    "tasks": (),
    "generate": ("set",),
    "audit": ("rows.jsonl",),
    "build": ("set",),
    "pretrain": ("set",),
    "warmup": ("gpt2", "--config_overrides", "n_embd=8,n_layer=1,n_head=1"),
    "self-pretrain": ("rows.jsonl",),
    "statistics": (".",),
    "init": ("t5", "--from", ".", "--config_overrides", "d_model=8,num_layers=1"),
    "finetune": ("rows.jsonl",),
    "run": ("e.yaml", "--list"),
    "report": (".",),
    "push": (".", "--repo_id", "me/x"),
    "reproduce": (".",),
}
# Flags that name what is written: they stay in the folder.
OUTPUT_NAMES = ("output", "output.jsonl", "output/a/b.parquet", "output\0", "output" * 60, "")


@st.composite
def command_line(draw: st.DrawFn) -> list[str]:
    """Return the words of a command with up to three flags of any values."""
    name = draw(st.sampled_from(list(VERBS)))
    verb = VERBS[name]
    words = [name, *USUAL_WORDS[name]]
    flags = [flag.name for flag in verb_flags(verb) if flag.name != "import"]
    if verb.takes_training:
        flags += TRAINING_FLAGS
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        flag = draw(st.sampled_from(flags))
        value = draw(st.integers(0, 9).map(str) | ODD_VALUES)
        if "output" in flag or flag in ("work_dir", "logging_dir"):
            value = draw(st.sampled_from(OUTPUT_NAMES))
        words.append(f"--{flag}={value}")
    return words


ODD_VALUES = TEXT | DOCUMENT | st.sampled_from(ODD_NUMBERS).map(as_json)
TRAINING_FLAGS = [
    *("max_steps", "learning_rate", "optim", "lr_scheduler_type", "warmup_steps", "weight_decay"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "seed"),
    *("save_steps", "eval_steps", "report_to", "bf16", "dataloader_num_workers", "logging_steps"),
    *("resume_from_checkpoint", "optim_args", "lr_scheduler_kwargs", "accelerator_config"),
]


def write_command_files(folder: Path, _: Any) -> None:
    """Write the files that commands are given."""
    (folder / "rows.jsonl").write_text(json_lines(many_rows()))
    (folder / "e.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    write_checkpoint(folder, safetensors(HEADER))
    (folder / "pretraining.json").write_text(json.dumps(RUN))
    write_cells(folder, CELLS)


# Name -> surface.
COMMANDS: dict[str, Surface] = {
    "experiments": Surface(
        edited(EXPERIMENT),
        lambda folder, value: (folder / "e.yaml").write_text(yaml.safe_dump(value)),
        list_cells,
    ),
    "flags": Surface(
        command_line(),
        write_command_files,
        lambda folder, words: run_command(*words),
        target="input/",
    ),
    "repo ids": Surface(
        TEXT | st.tuples(TEXT, TEXT).map("/".join) | st.from_regex(r"[\w.-]{1,9}/[\w.-]{1,9}"),
        nothing,
        lambda folder, name: check_repo_id(name),
    ),
    "parameters of tasks": Surface(
        st.tuples(
            task_parameters(),
            st.sampled_from(VOCABULARIES) | SCALAR,
            SCALAR,
            st.sampled_from([0, 5, 2**62]),
        ),
        nothing,
        generate_rows,
    ),
    "ids to solve": Surface(task_rows(), nothing, solve),
}
