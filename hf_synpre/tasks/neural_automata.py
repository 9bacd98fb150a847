"""Neural cellular automata: random bits come in, the history of a torus goes out.

The rule of a row is a small convolutional network with random weights: of the nine cells around
each, FEATURES linear features; of these, UNITS units with ReLU; of those, a score for each state.
The next state is the one with the highest score, of equal ones the first. See docs/papers.md,
"Tasks since 2022".

Weights are integers, in 1 / WEIGHT_UNIT. All sums of their products are below 2**53, so float64
holds them exactly, in any order and on any processor.
"""

import functools
import math

import numpy as np

from hf_synpre.tasks.base import Parameters
from hf_synpre.tasks.exact_numbers import UNIT, add_four, normal_quantiles
from hf_synpre.tasks.kernels import (
    ARGUMENTS,
    FIRST_REGULAR,
    IGNORED,
    SEPARATOR,
    compile_sampler,
)
from hf_synpre.tasks.registry import register_task
from hf_synpre.tasks.rng import below, copy, fill_between, kernel
from hf_synpre.tasks.samplers import NO_TARGET
from hf_synpre.tasks.task import LARGEST_NUMBER, LONGEST_LENGTH
from hf_synpre.vocabulary import Vocabulary

PAPER = "Lee et al. 2026, arXiv 2603.10055"

# Where compiled code finds the parameters in `p`, and the table behind them (`weight_table`).
GRID, STATES, PATCH, FRAMES, BURN_IN, MIN_COMPLEXITY, MAX_COMPLEXITY, PADDED = range(
    ARGUMENTS, ARGUMENTS + 8
)
MOST_TRIES, SD_OF_FEATURES, SD_OF_UNITS, SD_OF_SCORES, QUANTILES = range(
    ARGUMENTS + 8, ARGUMENTS + 13
)

# The network: cells that are seen, their features, units.
SEEN, FEATURES, UNITS = 9, 4, 16
# Weights are from normal distributions that are cut at two standard deviations, and then have the
# variance 1 / inputs (JAX's lecun_normal). SD_OF_CUT is the standard deviation of a standard normal
# distribution that is cut.
CUT, SD_OF_CUT = 2.0, 0.87962566103423978
LEVELS = 4096  # values that a weight may have
WEIGHT_UNIT = 4096
# A quantile times a standard deviation is so many bits finer than a weight.
FINER, HALF = 32, 2**31

# The complexity of a row is that of its first frames.
JUDGED_FRAMES = 10
# Rules that are tried before a band of complexity counts as empty.
TRIAL, UNLIMITED = 500, 2**62
MOST_STATES, LARGEST_GRID, LONGEST_BURN_IN = 16, 32, 100
DIGITS = "0123456789abcdef"


# --- the network ----------------------------------------------------------------------------------


@kernel
def draw_weights(state, weights, sd, p):
    """Fill an array of weights; `sd` is the place of their standard deviation in `p`."""
    flat = weights.reshape(-1)
    for i in range(len(flat)):
        flat[i] = p[QUANTILES + below(state, LEVELS)] * p[sd] + HALF >> FINER


@kernel
def draw_rule(state, features, units, scores, p):
    """Draw the weights of a network, in this order.

    features  [SEEN, channels, FEATURES], a channel for each state
    units     [UNITS, FEATURES]
    scores    [states, UNITS]

    Padded channels are two more, as in the published code: the first state is seen in the channel
    behind the last too, and the last state in the channel before the first.
    """
    draw_weights(state, features, SD_OF_FEATURES, p)
    draw_weights(state, units, SD_OF_UNITS, p)
    draw_weights(state, scores, SD_OF_SCORES, p)
    if p[PADDED] == 0:
        return

    last = p[STATES] - 1
    for k in range(SEEN):
        for j in range(FEATURES):
            before, behind = features[k, 0, j], features[k, last + 2, j]
            for s in range(last + 1):
                features[k, s, j] = features[k, s + 1, j]
            features[k, 0, j] += behind
            features[k, last, j] += before


@kernel
def see(cells, grid, features, seen):
    """Write the features of all cells of a torus to `seen`, float64[FEATURES, cells]."""
    for row in range(grid):
        here = row * grid
        above = (grid if row == 0 else row) * grid - grid
        under = 0 if row == grid - 1 else here + grid
        for column in range(grid):
            left = (grid if column == 0 else column) - 1
            right = 0 if column == grid - 1 else column + 1
            a, b, c = cells[above + left], cells[above + column], cells[above + right]
            d, e, f = cells[here + left], cells[here + column], cells[here + right]
            g, h, i = cells[under + left], cells[under + column], cells[under + right]
            for j in range(FEATURES):
                upper = features[0, a, j] + features[1, b, j] + features[2, c, j]
                middle = features[3, d, j] + features[4, e, j] + features[5, f, j]
                lower = features[6, g, j] + features[7, h, j] + features[8, i, j]
                seen[j, here + column] = upper + middle + lower


@kernel
def step(cells, grid, features, units, scores, seen, activity, score, best):
    """Replace the states of all cells by the next ones; `seen` and what follows are scratch."""
    see(cells, grid, features, seen)

    # The units: activity [UNITS, cells].
    activity[:] = 0.0
    for unit in range(UNITS):
        add_four(activity[unit], units[unit], seen, 0)
        for i in range(len(cells)):
            activity[unit, i] = max(activity[unit, i], 0.0)

    # The state with the highest score; of equal ones the first stays.
    for s in range(len(scores)):
        score[:] = 0.0
        for unit in range(0, UNITS, 4):
            add_four(score, scores[s], activity, unit)
        for i in range(len(cells)):
            is_better = (s == 0) | (score[i] > best[i])
            best[i] = score[i] if is_better else best[i]
            cells[i] = s if is_better else cells[i]


# --- rows -----------------------------------------------------------------------------------------


@kernel
def write_frame(cells, x, p):
    """Write the token of each patch of cells to x: the digits of its number are its states.

    Rows of patches, and in a patch rows of cells, are read from the left; the first cell is the
    lowest digit.
    """
    grid, patch, n = p[GRID], p[PATCH], 0
    for row in range(0, grid, patch):
        for column in range(0, grid, patch):
            number, place = 0, 1
            for i in range(row, row + patch):
                for j in range(column, column + patch):
                    number += place * cells[i * grid + j]
                    place *= p[STATES]
            x[n] = p[FIRST_REGULAR] + number
            n += 1


@kernel
def count_phrases(x, separator):
    """Return the phrases of x by Lempel and Ziv 1978: each is the shortest that has not been yet.

    Separators are left out. A phrase is known by its slot in a hash table of (phrase, next token).
    """
    slots = 64
    while slots < 4 * len(x):
        slots *= 2
    table = np.zeros(slots, np.int64)

    phrases = phrase = 0
    for token in x:
        if token == separator:
            continue

        # The slot of the phrase with this token, or the free one where it belongs.
        key = np.int64(phrase << 32) + token + 1
        slot = (key * 2654435769 ^ key >> 17) & (slots - 1)
        while (table[slot] != 0) & (table[slot] != key):
            slot = (slot + 1) & (slots - 1)

        # A phrase that is new ends here.
        phrase = slot + 1
        if table[slot] == 0:
            table[slot] = key
            phrases += 1
            phrase = 0
    return phrases + (phrase != 0)


@kernel
def is_in_band(x, p):
    """Return whether the phrases in 1000 tokens of the frames x are in the band."""
    if p[MIN_COMPLEXITY] == 0 and p[MAX_COMPLEXITY] == 1000:
        return True
    patches = (p[GRID] // p[PATCH]) ** 2
    tokens = (len(x) + 1) // (patches + 1) * patches
    permille = 1000 * count_phrases(x, p[SEPARATOR]) // tokens
    return p[MIN_COMPLEXITY] <= permille <= p[MAX_COMPLEXITY]


def history(state, x, y, p):
    """Draw a rule and a uniform state of each cell until the frames are in the band.

    Nothing is written, n = 0, where p[MOST_TRIES] rules had no such frames.
    """
    grid, states, frames = p[GRID], p[STATES], p[FRAMES]
    cells = y[: grid * grid]
    length = (grid // p[PATCH]) ** 2 + 1  # of a frame and the separator behind it

    # The network and its scratch.
    features = np.empty((SEEN, states + 2 * p[PADDED], FEATURES))
    units, scores = np.empty((UNITS, FEATURES)), np.empty((states, UNITS))
    seen, activity = np.empty((FEATURES, grid * grid)), np.empty((UNITS, grid * grid))
    score, best = np.empty(grid * grid), np.empty(grid * grid)

    for _ in range(p[MOST_TRIES]):
        draw_rule(state, features, units, scores, p)
        fill_between(state, cells, 0, states - 1)
        for _ in range(p[BURN_IN]):
            step(cells, grid, features, units, scores, seen, activity, score, best)

        for frame in range(frames):
            if frame > 0:
                step(cells, grid, features, units, scores, seen, activity, score, best)
                x[frame * length - 1] = p[SEPARATOR]
            write_frame(cells, x[frame * length :], p)
            is_judged = frame + 1 == min(frames, JUDGED_FRAMES)
            if is_judged and not is_in_band(x[: (frame + 1) * length - 1], p):
                break
        else:
            return frames * length - 1, NO_TARGET
    return 0, NO_TARGET


# --- parameters -----------------------------------------------------------------------------------


def weight_table(vocabulary: Vocabulary, parameters: Parameters) -> np.ndarray:
    """Return the end of `p`: how many rules are tried, standard deviations, quantiles; int64."""
    channels = parameters["states"] + 2 * (parameters["channel_padding"] == "yes")
    scales = []
    for inputs in (SEEN * channels, FEATURES, UNITS):
        sd = math.sqrt(1 / inputs) / SD_OF_CUT
        scales.append(round(2**FINER * WEIGHT_UNIT / UNIT * sd))
    return np.concatenate([[UNLIMITED, *scales], normal_quantiles(LEVELS, CUT)])


@functools.cache
def has_rules(*arguments: int) -> bool:
    """Say whether one of TRIAL rules has frames in the band.

    Args:
        arguments: the parameters in their order, a choice as its number.
    """
    names = ("states", "channel_padding")
    values = (arguments[STATES - ARGUMENTS], ("no", "yes")[arguments[PADDED - ARGUMENTS]])
    table = weight_table(Vocabulary.t5(), dict(zip(names, values, strict=True)))
    p = np.concatenate([np.zeros(ARGUMENTS, np.int64), arguments, table])
    p[[SEPARATOR, MOST_TRIES]] = -1, TRIAL
    p[FRAMES] = min(p[FRAMES], JUDGED_FRAMES)
    x = np.empty(p[FRAMES] * (p[GRID] ** 2 + 1), np.int32)
    y = np.empty(p[GRID] ** 2, np.int32)
    with np.errstate(over="ignore"):  # random bits overflow where NUMBA_DISABLE_JIT is set
        return compile_sampler(history)(np.zeros(1, np.uint64), x, y, p)[0] > 0


def check_parameters(parameters: Parameters) -> str | None:
    """Return what is wrong with the parameters, or None."""
    grid, states, patch = (parameters[name] for name in ("grid", "states", "patch"))
    if not 3 <= grid <= LARGEST_GRID:
        return f"grid is {grid}; give 3 to {LARGEST_GRID} cells a side."
    if not 2 <= states <= MOST_STATES:
        return f"states is {states}; give 2 to {MOST_STATES}."
    if patch < 1 or grid % patch:
        return f"patch is {patch}; give a divisor of grid, which is {grid}."
    if patch_tokens(parameters) > LARGEST_NUMBER:
        return f"patch is {patch}: its cells of {states} states have too many tokens; give less."
    if parameters["burn_in"] > LONGEST_BURN_IN:
        return f"burn_in is {parameters['burn_in']}; give at most {LONGEST_BURN_IN} steps."
    if parameters["frames"] < 2:
        return f"frames is {parameters['frames']}; give an integer >= 2."
    if longest(parameters)[0] > LONGEST_LENGTH:
        return f"a row has {longest(parameters)[0]} tokens; give fewer frames or a larger patch."

    # The band. Whether it is empty can be seen by trying alone.
    low, high = parameters["min_complexity"], parameters["max_complexity"]
    if not low <= high <= 1000:
        return (
            f"min_complexity is {low} and max_complexity {high}; give phrases in 1000 tokens, "
            "0 <= min_complexity <= max_complexity <= 1000."
        )
    arguments = [*parameters.values()][:-1]
    if not has_rules(*arguments, int(parameters["channel_padding"] == "yes")):
        return (
            f"none of {TRIAL} rules has a complexity of {low} to {high}; give a wider band "
            "(fewer states and smaller patches have less of it), or 0 and 1000 for all rules."
        )
    return None


def longest(parameters: Parameters) -> tuple[int, int]:
    """Return the length of a row, and room for its labels and for the cells."""
    grid = parameters["grid"]
    n = parameters["frames"] * ((grid // parameters["patch"]) ** 2 + 1) - 1
    return n, max(n, grid**2)


def check_history(body: np.ndarray, vocabulary: Vocabulary, parameters: Parameters) -> str | None:
    """Return what is malformed in a row, or None."""
    patches = (parameters["grid"] // parameters["patch"]) ** 2
    separator, first = vocabulary.special_ids["separator"], vocabulary.first_regular
    if (len(body) + 1) % (patches + 1):
        return f"it has {len(body)} ids; frames have {patches}, with a separator between them."
    frames = np.append(body, separator).reshape(-1, patches + 1)
    if (frames[:, patches] != separator).any():
        return f"a separator is missing behind a frame of {patches} patches."
    last = first + patch_tokens(parameters) - 1
    wrong = frames[:, :patches][(frames[:, :patches] < first) | (frames[:, :patches] > last)]
    if len(wrong):
        return f"id {wrong[0]} is no patch ({first}..{last})."
    return None


def patch_tokens(parameters: Parameters) -> int:
    """Return how many different patches there are."""
    return parameters["states"] ** (parameters["patch"] ** 2)


def decode_history(
    ids: np.ndarray, row: np.ndarray, vocabulary: Vocabulary, parameters: Parameters
) -> str:
    """Return patches as the digits of their cells; bars stand between frames, dots are unscored."""
    states, cells = parameters["states"], parameters["patch"] ** 2
    separator = vocabulary.special_ids["separator"]
    words = []
    for token in ids.tolist():
        number = token - vocabulary.first_regular
        if token == IGNORED:
            words.append(".")
        elif token == separator:
            words.append("|")
        elif 0 <= number < states**cells:
            words.append("".join(DIGITS[number // states**i % states] for i in range(cells)))
        else:
            words.append(vocabulary.decode(token))
    return " ".join(words)


@register_task(
    history,
    paper=PAPER,
    bounds=longest,
    check_parameters=check_parameters,
    lowest_max_length=None,
    regular_tokens=patch_tokens,
    vocabulary_table=weight_table,
    row_check=check_history,
    decode=decode_history,
    named=False,
    sequence=True,
    surprisal="unknown",
    grid=12,
    states=10,
    patch=2,
    frames=27,
    burn_in=10,
    min_complexity=650,
    max_complexity=1000,
    channel_padding=("no", "yes"),
)
def nca(x, y, p):
    """Return the history of a neural cellular automaton on a torus, a frame a step.
    Each row has a rule of its own, which must be inferred from its frames: a random network that
    maps the nine cells around each to its next state. A token is a patch of patch x patch cells,
    read as a number of as many digits. The first burn_in steps are left out. Rules are drawn until
    the first ten frames have min_complexity to max_complexity phrases in 1000 tokens (Lempel, Ziv
    1978). All patches after the first frame are scored.

    input   0110 2011 | 1100 0121
    target  . . . 1100 0121
    """
    copy(x, y)
    frame = (p[GRID] // p[PATCH]) ** 2
    for i in range(len(x)):
        if i < frame or i % (frame + 1) == frame:
            y[i] = IGNORED
    return len(x)
