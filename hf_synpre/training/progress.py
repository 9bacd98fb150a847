"""A run while it trains -> what it is, how long it will take, how far it is: lines, or a file.

1. `reported_to(listener)`: a block in which every `SynpreTrainer` tells a listener how far it is.
2. `ProgressLines` prints, for a command that makes one run. `ProgressFile` writes a JSON file,
   for workers: whoever shows the work of many reads the files (`hf_synpre.experiments.progress`).
3. `description`, `estimate` and `position` make lines of a `RunState`.
"""

import dataclasses
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from hf_synpre.data.text_progress import clock
from hf_synpre.errors import UsageError, counted
from hf_synpre.files import write_json

# Steps that are not measured, because kernels are compiled in them.
WARM_UP_STEPS = 2
# The time of a run is estimated after so many further steps, or seconds.
MEASURED_STEPS = 5
MEASURED_S = 10.0
# Seconds between two lines of a run, and between two versions of its file.
LINE_EVERY_S = 30.0
FILE_EVERY_S = 1.0
# A run that takes longer than this many seconds is warned of.
LONG_S = 3600.0
# Rows by which the tokens of a run are estimated, out of so many first ones.
SAMPLED_ROWS = 64
SAMPLED_FROM = 4096


@dataclass
class RunState:
    """What a run is and how far it is; JSON holds the same."""

    name: str
    # "starting", "preparing data" or "training".
    phase: str = "starting"
    # What is trained, and on what.
    model: str = ""
    parameters: int = 0
    device: str = ""
    threads: int = 0
    processes: int = 1
    # The whole run. Tokens are estimated from some of its rows.
    steps: int = 0
    examples_a_step: int = 0
    tokens: int = 0
    # How far it is. `step` counts those before a resumption too.
    step: int = 0
    loss: float | None = None
    tokens_per_s: float | None = None
    seconds_left: float | None = None


class Listener(Protocol):
    """Whoever is told of a run."""

    # The name of the run that it is told of.
    name: str

    def begun(self, state: RunState) -> None:
        """Be told of a run before its first step."""

    def estimated(self, state: RunState) -> None:
        """Be told, once, when `seconds_left` is known from the first steps."""

    def advanced(self, state: RunState) -> None:
        """Be told after every step."""


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def reported_to(listener: Listener) -> Iterator[None]:
    """Tell a listener of all runs whose Trainer is made in this block."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def current_listener() -> Listener | None:
    """Return who is told of the runs that are begun here, None for nobody."""
    return _LISTENER.get()


class RunReporter(TrainerCallback):
    """Tells a listener what a run is, how long it will take, and after every step how far it is.

    Args:
        listener: who is told; in a run of several processes the first one tells.
        train_dataset: the rows, of which some are read for the number of tokens.
        count_tokens: returns how many tokens the model reads of a row, without padding.
    """

    def __init__(self, listener: Listener, train_dataset: Any, count_tokens: Callable[[Any], int]):
        self.listener = listener
        self.train_dataset = train_dataset
        self.count_tokens = count_tokens
        self.state = RunState(listener.name)
        # When the measured steps began, and how many steps the run had made then.
        self._measured_from: tuple[float, int] | None = None
        self._steps_here = 0
        self._is_estimated = False

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any, **kwargs: Any
    ) -> None:
        """Say what the run is, in the first process: model, device, steps, tokens."""
        if not state.is_world_process_zero:
            return

        # What a step reads; a packed row holds several examples.
        rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        examples_a_row = getattr(self.train_dataset, "examples_per_row", 1)
        tokens_a_row = mean_tokens(self.train_dataset, self.count_tokens)

        network = getattr(model, "module", model)
        self.state = RunState(
            self.listener.name,
            phase="training",
            model=type(network).__name__,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            device=str(args.device.type),
            threads=torch.get_num_threads(),
            processes=args.world_size,
            steps=state.max_steps,
            examples_a_step=round(rows * examples_a_row),
            tokens=round(state.max_steps * rows * tokens_a_row),
            step=state.global_step,
        )
        self.listener.begun(self.state)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the step, and estimate the time of all steps once the first ones are measured."""
        if not state.is_world_process_zero:
            return
        now = time.monotonic()
        self.state.step = state.global_step
        self._steps_here += 1
        if self._measured_from is None:
            if self._steps_here == WARM_UP_STEPS:
                self._measured_from = now, state.global_step
            return

        # The mean time of a step, evaluations included as soon as there were any.
        began, first_step = self._measured_from
        seconds, steps = now - began, state.global_step - first_step
        if steps >= MEASURED_STEPS or seconds >= MEASURED_S:
            self.state.seconds_left = seconds / steps * (state.max_steps - state.global_step)
            if not self._is_estimated:
                self._is_estimated = True
                self.listener.estimated(self.state)
        self.listener.advanced(self.state)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict, **kwargs: Any
    ) -> None:
        self.state.loss = logs.get("loss", self.state.loss)
        self.state.tokens_per_s = logs.get("tokens_per_s", self.state.tokens_per_s)


def mean_tokens(dataset: Any, count_tokens: Callable[[Any], int]) -> float:
    """Return the mean number of tokens of a dataset's first rows, without padding.

    Args:
        dataset: a map-style dataset.
        count_tokens: returns how many tokens the model reads of a row.
    """
    size = min(len(dataset), SAMPLED_FROM)
    sampled = range(0, size, max(1, size // SAMPLED_ROWS))
    total = sum(count_tokens(dataset[index]) for index in sampled)
    return total / max(1, len(sampled))


# --- lines ----------------------------------------------------------------------------------------


class ProgressLines:
    """Prints what a run is, how long it takes, and every 30 seconds how far it is.

    Args:
        name: the name of the run.
        every_s: seconds between two lines; None for no lines on the way, because a bar shows it.
        remark: a line before the first, which a run that is refused does not print.
    """

    def __init__(self, name: str, every_s: float | None = LINE_EVERY_S, remark: str = ""):
        self.name = name
        self.every_s = every_s
        self.remark = remark
        self._printed = time.monotonic()

    def begun(self, state: RunState) -> None:
        """Print what the run is."""
        if self.remark:
            self._print(self.remark)
        self._print(description(state))

    def estimated(self, state: RunState) -> None:
        """Print how long it takes, unless it is over; warn where that is long."""
        if state.step < state.steps:
            self._print(estimate(state))

    def advanced(self, state: RunState) -> None:
        """Print how far the run is, if the last line is long ago."""
        if self.every_s is not None and time.monotonic() - self._printed >= self.every_s:
            self._print(position(state))

    def _print(self, line: str) -> None:
        self._printed = time.monotonic()
        print(f"synpre: {line}", file=sys.stderr, flush=True)


def description(state: RunState) -> str:
    """Return what a run is, in a line."""
    where = state.device
    if state.processes > 1:
        where += f", {state.processes} processes"
    where += f", {counted(state.threads, 'thread')}"
    return (
        f"{state.name}: {state.model} with {short(state.parameters)} parameters, "
        f"up to {counted(state.steps, 'step')} of {counted(state.examples_a_step, 'example')}, "
        f"about {short(state.tokens)} tokens; on {where}."
    )


def estimate(state: RunState, has_checkpoints: bool = True) -> str:
    """Return how long a run will take, in a line; where that is over an hour, what to do.

    Args:
        state: the run.
        has_checkpoints: whether it goes on from one after it was stopped.
    """
    seconds = state.seconds_left or 0.0
    line = f"{state.name}: about {clock(seconds)} for all steps, by the first {state.step}."
    if seconds > LONG_S:
        after = "goes on with it" if has_checkpoints else "begins it again"
        line += (
            " Warning: that is over an hour. For a shorter run give fewer steps (max_steps), a "
            "smaller model, or a preset for a CPU; Ctrl-C stops this one, and the same command "
            f"{after}."
        )
    return line


def position(state: RunState) -> str:
    """Return how far a run is, in a line."""
    if state.phase != "training":
        return f"{state.name}: {state.phase}"
    line = f"{state.name}: step {state.step:,} of {state.steps:,}"
    if state.loss is not None:
        line += f", loss {state.loss:.3f}"
    if state.tokens_per_s:
        line += f", {short(state.tokens_per_s)} tokens/s"
    return f"{line}, {clock(state.seconds_left)} left"


def short(number: float) -> str:
    """Return a number in three digits: "936 k", "60.5 M", "1.2 G"."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


# --- a file ---------------------------------------------------------------------------------------


class ProgressFile:
    """Writes how far a run is into a JSON file, at most once a second.

    Args:
        file: the file; it is written as a whole, so that a reader never sees a part.
        name: the name of the run.
    """

    def __init__(self, file: Path, name: str):
        self.file = file
        self.name = name
        self._written = 0.0

    def begun(self, state: RunState) -> None:
        """Write the file; where that fails, the run goes on."""
        self._written = time.monotonic()
        process = {"host": platform.node(), "pid": os.getpid()}
        with suppress(UsageError):
            write_json(self.file, {**dataclasses.asdict(state), **process})

    def estimated(self, state: RunState) -> None:
        """Write the file."""
        self.begun(state)

    def advanced(self, state: RunState) -> None:
        """Write the file, if its last version is a second old."""
        if time.monotonic() - self._written >= FILE_EVERY_S:
            self.begun(state)


@contextmanager
def reported_in(folder: Path, name: str, phase: str = "starting") -> Iterator[None]:
    """Tell in a file of a folder what is done in this block; the file is deleted at its end.

    Args:
        folder: the folder of the files of all runs.
        name: what is done, as "pre-training set".
        phase: what is done before a run trains, or instead of it.
    """
    file_name = name.replace(" ", "-").replace("/", "-")
    listener = ProgressFile(folder / f"{file_name}.json", name)
    listener.begun(RunState(name, phase))
    try:
        with reported_to(listener):
            yield
    finally:
        with suppress(OSError):
            listener.file.unlink()
