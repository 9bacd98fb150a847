"""Strings of random linear recurrent networks: random bits come in, sampled strings go out.

A network has a state h. Token x makes h <- A[x] + W h; the next token is drawn from the softmax of
C h. The first is uniform, because h is 0 before it. See docs/papers.md, "Tasks since 2022".

All numbers of compiled code are integers (exact_numbers.py), exponentials too: they are looked up
and shifted. So rows are equal on every processor, and the probabilities with which they are drawn
are known exactly.
"""

import functools
import math
from typing import Any

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.exact_numbers import UNIT, add_four, normal_quantiles
from hf_synpre.tasks.kernels import ARGUMENTS, FIRST_REGULAR
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, copy, fill_between, kernel, start_row
from hf_synpre.tasks.samplers import NO_TARGET
from hf_synpre.tasks.task import LONGEST_LENGTH
from hf_synpre.vocabulary import Vocabulary

PAPER = "Guo et al. 2026, arXiv 2605.10129"

# Where compiled code finds the parameters in `p`, and the tables behind them (`network_tables`).
LENGTH, TOKENS, HIDDEN, MODELS = range(ARGUMENTS, ARGUMENTS + 4)
POWERS = ARGUMENTS + 6
REFERENCE = "reference"

# A weight is an integer in 1 / 2**14, an entry of the state or of A in 1 / 2**20, and a product in
# 1 / 2**34. Weights are stored as float32, which holds integers below 2**24. States are held at
# 2**24, which is 16, on either side: that of a network whose radius is above one has no end.
WEIGHT_BITS, STATE_BITS, LARGEST_STATE = 14, 20, 2.0**24
SUM_BITS = WEIGHT_BITS + STATE_BITS
# Logits are to the base of two, in 1 / 2**12. What is more than 2**-LAST_SHIFT as likely as the
# likeliest token at the most does not come.
LOGIT_BITS, LAST_SHIFT = 12, 31
FRACTION = 2**LOGIT_BITS - 1
# The softmax's sum is below 2**31; a single exponential is at most 2**24.
SOFTMAX_BITS, MOST_POWER_BITS = 31, 24

LEVELS = 2**16  # values that a weight may have
RADIUS = 0.9  # the spectral radius of W
POWER_ITERATIONS = 50  # of the reference, for its estimate of the radius
DOUBLINGS = 12  # after which all but 0.9 ** 8192 of a stationary covariance is summed
# What LAPACK computes is rounded, by which it is equal on every machine.
ROUNDED = 2**20
MOST_HIDDEN, MOST_MODELS, LARGEST_SD, MOST_WEIGHTS = 256, 64, 1000, 2**24


# --- the network ----------------------------------------------------------------------------------


@kernel
def network(p, model):
    """Return the weights of a model, which are float32 views of `p`.

    A [tokens, hidden], W [hidden, hidden], C [hidden, tokens]: W[j] and C[j] are what entry j of
    the state adds to the next state and to the logits.
    """
    tokens, hidden = p[TOKENS], p[HIDDEN]
    size = hidden * (hidden + 2 * tokens)
    weights = p[POWERS + FRACTION + 1 :].view(np.float32)[model * size : (model + 1) * size]
    inputs = weights[: tokens * hidden].reshape(tokens, hidden)
    recurrent = weights[tokens * hidden : (tokens + hidden) * hidden].reshape(hidden, hidden)
    outputs = weights[(tokens + hidden) * hidden :].reshape(hidden, tokens)
    return inputs, recurrent, outputs


@kernel
def softmax(h, outputs, logits, out, p):
    """Write the exponentials of the logits to `out`, int64[tokens]; return their sum."""
    logits[:] = 0.0
    for j in range(0, len(h), 4):
        add_four(logits, h, outputs, j)

    highest = np.int64(-(2**62))
    for i in range(len(out)):
        out[i] = math.floor(logits[i] * 2.0 ** (LOGIT_BITS - SUM_BITS))
        highest = max(highest, out[i])
    total = 0
    for i in range(len(out)):
        less = highest - out[i]
        out[i] = p[POWERS + (less & FRACTION)] >> min(less >> LOGIT_BITS, LAST_SHIFT)
        total += out[i]
    return total


@kernel
def next_state(h, token, inputs, recurrent, sums):
    """Replace the state by the next one, after a token."""
    for i in range(len(h)):
        sums[i] = inputs[token, i] * 2.0**WEIGHT_BITS
    for j in range(0, len(h), 4):
        add_four(sums, h, recurrent, j)
    for i in range(len(h)):
        rounded = math.floor(sums[i] * 2.0**-WEIGHT_BITS + 0.5)
        h[i] = min(max(rounded, -LARGEST_STATE), LARGEST_STATE)


def string(state, x, y, p):
    """Draw a model, then one token after the other."""
    inputs, recurrent, outputs = network(p, below(state, p[MODELS]))
    h, sums = np.zeros(p[HIDDEN]), np.empty(p[HIDDEN])
    logits, shares = np.empty(p[TOKENS]), np.empty(p[TOKENS], np.int64)
    for i in range(p[LENGTH]):
        ticket = below(state, softmax(h, outputs, logits, shares, p))
        token = 0
        while ticket >= shares[token]:
            ticket -= shares[token]
            token += 1
        x[i] = p[FIRST_REGULAR] + token
        next_state(h, token, inputs, recurrent, sums)
    return p[LENGTH], NO_TARGET


def surprisal(x, out, p):
    """Write the surprisal of each token: the models are weighted by how well they told the others.

    It is infinite for a token that no model draws.
    """
    models = p[MODELS]
    h, sums = np.zeros((models, p[HIDDEN])), np.empty(p[HIDDEN])
    logits, shares = np.empty(p[TOKENS]), np.empty(p[TOKENS], np.int64)
    weights, chances = np.full(models, 1.0 / models), np.empty(models)
    for i in range(len(x)):
        token = x[i] - p[FIRST_REGULAR]
        for model in range(models):
            inputs, recurrent, outputs = network(p, model)
            total = softmax(h[model], outputs, logits, shares, p)
            chances[model] = weights[model] * shares[token] / total
            next_state(h[model], token, inputs, recurrent, sums)

        chance = chances.sum()
        out[i] = -math.log(chance) if chance > 0 else math.inf
        for model in range(models):
            weights[model] = chances[model] / chance if chance > 0 else 1.0 / models


# --- weights --------------------------------------------------------------------------------------


def normal_matrix(state: np.ndarray, shape: tuple[int, int], sd: float) -> np.ndarray:
    """Return a matrix of independent normal numbers, float64; `state` is that of `rng`."""
    numbers = np.empty(math.prod(shape), np.int64)
    with np.errstate(over="ignore"):  # random bits overflow where NUMBA_DISABLE_JIT is set
        fill_between(state, numbers, 0, LEVELS - 1)
    return normal_quantiles(LEVELS)[numbers].reshape(shape) * (sd / UNIT)


def spectral_radius(w: np.ndarray) -> float:
    """Return the largest modulus of the eigenvalues."""
    return float(np.abs(np.linalg.eigvals(w)).max())


def estimated_radius(w: np.ndarray, start: np.ndarray) -> float:
    """Return the reference's estimate: how much longer a vector gets after 50 power iterations.

    It is no limit where the largest eigenvalues are a complex pair, so most of its estimates are
    off by some per cent.
    """
    vector = start / np.linalg.norm(start)
    for _ in range(POWER_ITERATIONS):
        vector = w @ vector
        vector /= np.linalg.norm(vector)
    return float(np.linalg.norm(w @ vector))


def logit_sd(a: np.ndarray, w: np.ndarray, c: np.ndarray) -> float:
    """Return the standard deviation of logits over tokens, after many uniform tokens.

    Args:
        a: [hidden, tokens]; w: [hidden, hidden]; c: [tokens, hidden].
    """
    # The mean of the state, and its covariance: the sum of W^k Cov(A) W'^k over k.
    mean = np.linalg.solve(np.eye(len(w)) - w, a.mean(axis=1))
    covariance, power = np.cov(a, bias=True), w
    for _ in range(DOUBLINGS):
        covariance = covariance + power @ covariance @ power.T
        power = power @ power
    centred = c - c.mean(axis=0)
    moments = covariance + np.outer(mean, mean)
    return math.sqrt(np.trace(centred @ moments @ centred.T) / len(c))


def network_weights(model: int, tokens: int, hidden: int, sd: float | None) -> np.ndarray:
    """Return the integer weights of a model in the order of `network`, float32[...].

    Args:
        model: its number, which decides its random numbers.
        tokens: how many there are.
        hidden: entries of the state.
        sd: the standard deviation of the logits; None for the reference's law.
    """
    state = np.empty(1, np.uint64)
    with np.errstate(over="ignore"):
        start_row(state, np.uint64(hidden), model)
    a = normal_matrix(state, (hidden, tokens), tokens**-0.5)
    w = normal_matrix(state, (hidden, hidden), hidden**-0.5)
    c = normal_matrix(state, (tokens, hidden), hidden**-0.5)

    # The radius of W, and a factor of the logits.
    factor = 1.0
    if sd is None:
        start = normal_matrix(state, (1, hidden), 1.0)[0]
        w *= RADIUS / rounded(estimated_radius(w, start))
    else:
        w *= RADIUS / rounded(spectral_radius(w))
        factor = rounded(sd / logit_sd(a, w, c))

    parts = [
        np.round(a.T * 2.0**STATE_BITS),
        np.round(w.T * 2.0**WEIGHT_BITS),
        np.round(c.T * (factor * math.log2(math.e)) * 2.0**WEIGHT_BITS),
    ]
    return np.concatenate([part.astype(np.float32).reshape(-1) for part in parts])


def rounded(number: float) -> float:
    """Return a number in 1 / ROUNDED."""
    return round(number * ROUNDED) / ROUNDED


@functools.lru_cache(maxsize=8)
def tables(tokens: int, hidden: int, models: int, sd: float | None) -> np.ndarray:
    """Return the end of `p`: the powers 2 ** -f of fractions, and all models' weights."""
    bits = min(MOST_POWER_BITS, SOFTMAX_BITS - math.ceil(math.log2(tokens)))
    powers = [round(2.0 ** (bits - k / (FRACTION + 1))) for k in range(FRACTION + 1)]
    weights = [network_weights(model, tokens, hidden, sd) for model in range(models)]
    return np.concatenate([np.array(powers, np.int64), np.concatenate(weights).view(np.int64)])


def network_tables(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the tables of a task's parameters."""
    sd = None if parameters["weights"] == REFERENCE else parameters["logit_sd"] / 100
    return tables(parameters["tokens"], parameters["hidden"], parameters["models"], sd)


# --- strings of networks, also of lstm.py ---------------------------------------------------------


def check_sizes(parameters: Parameters) -> str | None:
    """Return what is wrong with the length of strings or the size of the state, or None."""
    length, hidden = parameters["length"], parameters["hidden"]
    if not 1 <= length <= LONGEST_LENGTH:
        return f"length is {length}; give 1 to {LONGEST_LENGTH}."
    if not 4 <= hidden <= MOST_HIDDEN or hidden % 4:
        return f"hidden is {hidden}; give a multiple of 4 up to {MOST_HIDDEN}."
    return None


def check_string(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row, or None."""
    first, last = vocabulary.first_regular, vocabulary.first_regular + parameters["tokens"] - 1
    wrong = body[(body < first) | (body > last)]
    if len(wrong):
        return f"id {wrong[0]} is no token of the networks ({first}..{last})."
    return None


# What tasks have in common whose rows are such strings, with a loss at every token.
NETWORK_STRINGS: dict[str, Any] = {
    "bounds": lambda parameters: (parameters["length"], parameters["length"]),
    "lowest_max_length": None,
    "regular_tokens": lambda parameters: parameters["tokens"],
    "row_check": check_string,
    "named": False,
    "sequence": True,
}


# --- the task -------------------------------------------------------------------------------------


def check_parameters(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    problem = check_sizes(parameters)
    if problem:
        return problem
    tokens, hidden = parameters["tokens"], parameters["hidden"]
    if tokens < 2:
        return f"tokens is {tokens}; give an integer >= 2."
    if not 1 <= parameters["models"] <= MOST_MODELS:
        return f"models is {parameters['models']}; give 1 to {MOST_MODELS}."
    if not 1 <= parameters["logit_sd"] <= LARGEST_SD:
        return f"logit_sd is {parameters['logit_sd']}; give 1 to {LARGEST_SD} hundredths."
    weights = parameters["models"] * hidden * (hidden + 2 * tokens)
    if weights > MOST_WEIGHTS:
        return f"all models have {weights} weights; give fewer models or tokens ({MOST_WEIGHTS})."
    return None


@register_task(
    string,
    paper=PAPER,
    check_parameters=check_parameters,
    vocabulary_table=network_tables,
    surprisal=surprisal,
    names_in_key={"weights": "law"},
    **NETWORK_STRINGS,
    length=256,
    tokens=128,
    hidden=64,
    models=1,
    logit_sd=200,
    weights=("scaled", REFERENCE),
)
def linear_rnn(x, y, p):
    """Return a string that a random linear recurrent network wrote, of `models` networks.
    Each token adds a random vector to a state, which a random matrix of the spectral radius 0.9 has
    turned and shortened; the next token is drawn from the softmax of random linear functions of the
    state, scaled to a standard deviation of logit_sd / 100. weights=reference has the published
    scales: its logits are near 0 and its strings near uniform noise. Every token is scored.

    input   c a d a b
    target  c a d a b
    """
    copy(x, y)
    return len(x)
