"""Between which two losses the lowest possible one lies, where nobody knows it: nca, random_lstm.

    python benchmarks/yardsticks.py

It prints both for the rows of the preset `small`; benchmarks/learning.py keeps them beside a run.

The upper one is the loss of a predictor that reads the row from its start, as a model does, and
knows nothing of the task's networks. No perfect model has a higher loss.

- nca: it remembers where each surrounding of nine cells led to in this row. What it has not seen
  yet it guesses by how often a cell of that state became which, in this row.
- random_lstm: it counts which token followed the last none, one or two ones in this row, and mixes
  these counts by how well each has predicted so far.

The lower one is the loss of somebody who knows what the row hides. No model has a lower loss.

- nca: somebody who knows the rule knows all frames after the first one, so it is 0.
- random_lstm: somebody who knows the networks and the uniform tokens before a place knows with
  which probability each token comes out there. Open is only which uniform token goes in.
"""

import itertools
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numba import njit

from hf_synpre.config import build_spec
from hf_synpre.tasks import lstm
from hf_synpre.tasks.kernels import FIRST_REGULAR
from hf_synpre.tasks.rng import fill_between, start_row
from hf_synpre.tasks.streams import Stream
from hf_synpre.training.pretraining_spec import PretrainingSpec
from hf_synpre.vocabulary import Vocabulary, as_vocabulary

# How often each token counts before it was seen, and the tokens before a place that are looked at.
ADDED, ORDERS = (1 / 16, 1 / 4, 1.0), (0, 1, 2)

Bounds = tuple[float, float]


def bounds_of(spec: PretrainingSpec, vocabulary: Vocabulary) -> Bounds:
    """Return two losses between which the lowest one of a run's evaluations lies.

    They are in nats a scored token, on the very rows that the run is judged on.
    """
    rows = spec.validation_examples
    stream = spec.open_task(vocabulary, size=rows, split="validation").stream
    return YARDSTICKS[stream.task.name](stream, rows)


# --- nca ------------------------------------------------------------------------------------------


def bounds_of_nca(stream: Stream, rows: int) -> Bounds:
    """Return 0, and the loss of a predictor that remembers surroundings."""
    parameters = stream.parameters
    patches = (parameters["grid"] // parameters["patch"]) ** 2
    loss = scored = 0.0
    for index in range(rows):
        row = stream.rows(np.array([index]))[0] - stream.vocabulary.first_regular
        frames = np.append(row, 0).reshape(-1, patches + 1)[:, :-1]
        loss += looked_up([grid_of(frame, parameters) for frame in frames], parameters["states"])
        scored += (len(frames) - 1) * patches
    return 0.0, loss / scored


def grid_of(frame: np.ndarray, parameters: dict[str, int]) -> np.ndarray:
    """Return the cells of a frame, int64[grid, grid], of its patches' numbers."""
    grid, patch, states = (parameters[name] for name in ("grid", "patch", "states"))
    across = grid // patch
    digits = frame[:, None] // states ** np.arange(patch**2) % states
    parts = digits.reshape(across, across, patch, patch)
    return parts.swapaxes(1, 2).reshape(grid, grid)


def looked_up(grids: list[np.ndarray], states: int) -> float:
    """Return the surprisal of all grids after the first, for a memory of surroundings."""
    known: dict[tuple[int, ...], int] = {}
    became = np.full((states, states), 0.5)
    total = 0.0
    for now, after in itertools.pairwise(grids):
        # The nine states around each cell, and what the cell was and became.
        around = [np.roll(now, (1 - i, 1 - j), axis=(0, 1)) for i in range(3) for j in range(3)]
        seen = np.stack(around, axis=-1).reshape(-1, 9).tolist()
        states_now, states_after = now.reshape(-1).tolist(), after.reshape(-1).tolist()

        # Known surroundings cost nothing; new ones cost what counting states so far makes likely.
        for cells, state, result in zip(map(tuple, seen), states_now, states_after, strict=True):
            if cells not in known:
                known[cells] = result
                total -= math.log(became[state, result] / became[state].sum())
                became[state, result] += 1
    return total


# --- random_lstm ----------------------------------------------------------------------------------


def bounds_of_random_lstm(stream: Stream, rows: int) -> Bounds:
    """Return the loss under known networks, and that of a predictor that counts."""
    length, tokens = stream.parameters["length"], stream.parameters["tokens"]
    first, p = stream.vocabulary.first_regular, stream.parameter_vector
    low = high = 0.0
    row, state = np.empty(length, np.int64), np.empty(1, np.uint64)
    for index in range(rows):
        start_row(state, stream.key, index)
        low += passed_entropy(state, row, p)
        assert (row == stream.rows(np.array([index]))[0]).all()
        high += counted((row - first).tolist(), tokens)
    return low / (rows * length), high / (rows * length)


@njit
def passed_entropy(state, row, p):
    """Draw a row as lstm.passed_string does, token by token; return the sum of its entropies.

    The entropy of a token is that of what the networks would put in the place of a uniform one,
    after those that they have read.
    """
    first, tokens, hidden = p[FIRST_REGULAR], p[lstm.TOKENS], p[lstm.HIDDEN]
    passes = lstm.depth(state, p[lstm.MEAN_DEPTH])
    fill_between(state, row, first, first + tokens - 1)

    # The weights of all networks, and their states.
    inputs = np.empty((passes, tokens, lstm.GATES * hidden), np.float32)
    recurrent = np.empty((passes, hidden, lstm.GATES * hidden), np.float32)
    outputs = np.empty((passes, hidden, tokens), np.float32)
    for k in range(passes):
        lstm.draw_weights(state, inputs[k], p[lstm.INPUT_WEIGHTS :])
        lstm.draw_weights(state, recurrent[k], p[lstm.RECURRENT_WEIGHTS :])
        lstm.draw_weights(state, outputs[k], p[lstm.OUTPUT_WEIGHTS :])
    h, cells = np.zeros((passes, hidden)), np.zeros((passes, hidden))
    trial_h, trial_cells = np.empty((passes, hidden)), np.empty((passes, hidden))
    sums, scores = np.empty(lstm.GATES * hidden), np.empty(tokens)

    total = 0.0
    counts = np.empty(tokens)
    for i in range(len(row)):
        # What each token would become, and last what the row's own one becomes.
        counts[:] = 0.0
        for candidate in range(tokens + 1):
            token = candidate if candidate < tokens else row[i] - first
            trial_h[:], trial_cells[:] = h, cells
            for k in range(passes):
                lstm.next_state(trial_h[k], trial_cells[k], token, inputs[k], recurrent[k], sums, p)
                token = lstm.likeliest(trial_h[k], outputs[k], scores)
            if candidate < tokens:
                counts[token] += 1.0
        h[:], cells[:] = trial_h, trial_cells
        row[i] = first + token
        for count in counts:
            if count > 0:
                total -= count / tokens * math.log(count / tokens)
    return total


def counted(row: list[int], tokens: int) -> float:
    """Return the surprisal of a row for counts of what followed the last tokens."""
    followed: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    weights = np.full(len(ADDED) * len(ORDERS), 1 / len(ADDED) / len(ORDERS))
    total = 0.0
    for i, token in enumerate(row):
        # Each context is its length and its tokens, so that those at the start are apart.
        contexts = [(order, *row[max(0, i - order) : i]) for order in ORDERS]
        chances = []
        for context in contexts:
            counts = followed[context]
            for added in ADDED:
                chances.append((counts[token] + added) / (counts.total() + added * tokens))
        weights *= chances
        total -= math.log(weights.sum())
        weights /= weights.sum()
        for context in contexts:
            followed[context][token] += 1
    return total


YARDSTICKS: dict[str, Callable[[Stream, int], Bounds]] = {
    "nca": bounds_of_nca,
    "random_lstm": bounds_of_random_lstm,
}


def main() -> None:
    """Print the bounds of both tasks."""
    for task in YARDSTICKS:
        spec = build_spec(PretrainingSpec, {"task": task, "preset": "small"}, "options")
        low, high = bounds_of(spec, as_vocabulary(spec.vocabulary))
        print(f"{task:12} the lowest loss is {low:.3f} to {high:.3f} nats a scored token")


if __name__ == "__main__":
    main()
