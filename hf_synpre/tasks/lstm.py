"""Random LSTMs: uniform tokens come in, what they became after a few random networks goes out.

A row starts as uniform tokens and is passed through r networks, one after the other. Each is an
LSTM of one layer with weights of its own, drawn for this row and this pass, which replaces every
token by the one with the highest score. r is geometric. See docs/papers.md, "Tasks since 2022".

All numbers of compiled code are integers (exact_numbers.py), and the gates are looked up in a table
of the logistic function. So rows are equal on every processor.
"""

import functools
import math

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.exact_numbers import UNIT, add_four, normal_quantiles
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR
from hf_synpre.tasks.recurrent import NETWORK_STRINGS, check_sizes
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, copy, fill_between, kernel
from hf_synpre.tasks.samplers import NO_TARGET
from hf_synpre.vocabulary import Vocabulary

PAPER = "Bloem 2025, arXiv 2506.20057"

# Where compiled code finds the parameters in `p`, and the tables behind them (`lstm_tables`).
LENGTH, TOKENS, HIDDEN, MEAN_DEPTH = range(ARGUMENTS, ARGUMENTS + 4)
LOGISTIC = ARGUMENTS + 6

# A weight is an integer in 1 / 2**14; a gate, a cell and an entry of the state in 1 / 2**12, and a
# product of a weight and an entry of the state in 1 / 2**26. No cell reaches 2**12, because no gate
# is above 4095 / 4096: so all sums are far below 2**53.
WEIGHT_BITS, STATE_BITS = 14, 12
SUM_BITS = WEIGHT_BITS + STATE_BITS
ONE = 2**STATE_BITS
# The logistic function is a table of 64 steps a unit, from -8 to 8; beyond, it has its end's value.
STEP_BITS, STEPS = 6, 1024
INPUT_WEIGHTS = LOGISTIC + STEPS

LEVELS = 4096  # values that a weight may have
RECURRENT_WEIGHTS, OUTPUT_WEIGHTS = INPUT_WEIGHTS + LEVELS, INPUT_WEIGHTS + 2 * LEVELS
GATES = 4
MOST_TOKENS, LARGEST_DEPTH, LARGEST_SD = 4096, 64, 1000


# --- the network ----------------------------------------------------------------------------------


@kernel
def draw_weights(state, weights, quantiles):
    """Fill an array with uniform choices among `quantiles`, int64[LEVELS]."""
    flat = weights.reshape(-1)
    for i in range(len(flat)):
        flat[i] = quantiles[below(state, LEVELS)]


@kernel
def logistic(number, p):
    """Return 1 / (1 + e**-number) in 1 / ONE, of a number in 1 / 2**SUM_BITS."""
    step = math.floor(number * 2.0 ** (STEP_BITS - SUM_BITS)) + STEPS // 2
    return p[LOGISTIC + min(max(step, 0), STEPS - 1)]


@kernel
def tanh(number, p):
    """Return the hyperbolic tangent in 1 / ONE, of a number in 1 / 2**SUM_BITS."""
    return 2 * logistic(2.0 * number, p) - ONE


@kernel
def next_state(h, cells, token, inputs, recurrent, sums, p):
    """Replace the state and the cells of an LSTM by those after a token; `sums` is scratch."""
    hidden = len(h)
    for i in range(len(sums)):
        sums[i] = inputs[token, i] * 2.0**STATE_BITS
    for j in range(0, hidden, 4):
        add_four(sums, h, recurrent, j)

    # The gates: forget, input, output; then what is new.
    for i in range(hidden):
        keep, take = logistic(sums[i], p), logistic(sums[hidden + i], p)
        show, new = logistic(sums[2 * hidden + i], p), tanh(sums[3 * hidden + i], p)
        cells[i] = math.floor((keep * cells[i] + take * new) * 2.0**-STATE_BITS + 0.5)
        shown = show * tanh(cells[i] * 2.0**WEIGHT_BITS, p)
        h[i] = math.floor(shown * 2.0**-STATE_BITS + 0.5)


@kernel
def likeliest(h, outputs, scores):
    """Return the token with the highest score; of equal ones the first. `scores` is scratch."""
    scores[:] = 0.0
    for j in range(0, len(h), 4):
        add_four(scores, h, outputs, j)
    best = 0
    for token in range(1, len(scores)):
        if scores[token] > scores[best]:
            best = token
    return best


# --- rows -----------------------------------------------------------------------------------------


@kernel
def depth(state, mean):
    """Return how many networks a row passes: geometric, at least one, `mean` in the mean."""
    passes = 1
    while below(state, mean) > 0:
        passes += 1
    return passes


def passed_string(state, x, y, p):
    """Draw uniform tokens and how many networks they pass; then the weights of each, and pass."""
    first, tokens, hidden = p[FIRST_REGULAR], p[TOKENS], p[HIDDEN]
    row = x[: p[LENGTH]]
    passes = depth(state, p[MEAN_DEPTH])
    fill_between(state, row, first, first + tokens - 1)

    # What a token and an entry of the state add to the gates, and an entry to the scores.
    inputs = np.empty((tokens, GATES * hidden), np.float32)
    recurrent = np.empty((hidden, GATES * hidden), np.float32)
    outputs = np.empty((hidden, tokens), np.float32)
    h, cells = np.empty(hidden), np.empty(hidden)
    sums, scores = np.empty(GATES * hidden), np.empty(tokens)

    for _ in range(passes):
        draw_weights(state, inputs, p[INPUT_WEIGHTS:])
        draw_weights(state, recurrent, p[RECURRENT_WEIGHTS:])
        draw_weights(state, outputs, p[OUTPUT_WEIGHTS:])
        h[:] = 0.0
        cells[:] = 0.0
        for i in range(len(row)):
            next_state(h, cells, row[i] - first, inputs, recurrent, sums, p)
            row[i] = first + likeliest(h, outputs, scores)
    return len(row), NO_TARGET


# --- parameters -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def tables(hidden: int, input_sd: int, recurrent_sd: int) -> np.ndarray:
    """Return the end of `p`: the logistic function, the quantiles of inputs, W and outputs."""
    middles = (np.arange(STEPS) - STEPS // 2 + 0.5) / 2**STEP_BITS
    curve = [round(ONE / (1 + math.exp(-middle))) for middle in middles.tolist()]
    parts = [np.array(curve, np.int64)]
    for sd in (input_sd / 100, recurrent_sd / 100 / math.sqrt(hidden), 1.0):
        scaled = normal_quantiles(LEVELS) * (sd * 2**WEIGHT_BITS / UNIT)
        parts.append(np.round(scaled).astype(np.int64))
    return np.concatenate(parts)


def lstm_tables(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the tables of a task's parameters."""
    return tables(*(parameters[name] for name in ("hidden", "input_sd", "recurrent_sd")))


def check_parameters(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    problem = check_sizes(parameters)
    if problem:
        return problem
    if not 2 <= parameters["tokens"] <= MOST_TOKENS:
        return f"tokens is {parameters['tokens']}; give 2 to {MOST_TOKENS}."
    if not 1 <= parameters["mean_depth"] <= LARGEST_DEPTH:
        return f"mean_depth is {parameters['mean_depth']}; give 1 to {LARGEST_DEPTH} networks."
    for name in ("input_sd", "recurrent_sd"):
        if not 1 <= parameters[name] <= LARGEST_SD:
            return f"{name} is {parameters[name]}; give 1 to {LARGEST_SD} hundredths."
    return None


@register_task(
    passed_string,
    paper=PAPER,
    check_parameters=check_parameters,
    vocabulary_table=lstm_tables,
    surprisal="unknown",
    **NETWORK_STRINGS,
    length=256,
    tokens=32,
    hidden=8,
    mean_depth=4,
    input_sd=25,
    recurrent_sd=200,
)
def random_lstm(x, y, p):
    """Return what uniform tokens became in r random LSTMs; r is geometric, mean_depth its mean.
    Each network reads the tokens and puts in the place of each the one with the highest score. One
    network leaves noise, several leave runs and cycles: rows range from noise to simple strings.
    input_sd and recurrent_sd are how much a token and the state add to the gates, in hundredths.
    All networks are drawn anew in each row and every token is scored, so a model has to infer from
    the row what goes on in it, and the lowest loss is unknown. With one fixed network and its input
    beside the row answers would be certain, but all rows would be of one function.

    input   c c a d d a
    target  c c a d d a
    """
    copy(x, y)
    return len(x)
