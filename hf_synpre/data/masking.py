"""Masking: windows or rows of ids -> rows in which some ids are hidden and become the labels.

There are these objectives:

- Span corruption (Raffel et al. 2020), for encoder-decoders: SpanCorruptionDataset.
- Masked language modelling (Devlin et al. 2019), for encoders: MaskedDataset.
- The same at the scored positions of sequences: HiddenAnswers for encoder-decoders, MaskedAnswers
  for encoders.
- Replaced-token detection (Clark et al. 2020), for a generator and a discriminator: MaskedDataset,
  then ReplacedRows.

All draws of row i come from hash(key, i).
"""

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numba import njit

from hf_synpre.data.rows import IGNORED, MapDataset, Row
from hf_synpre.errors import UsageError
from hf_synpre.tasks import rng
from hf_synpre.vocabulary import Vocabulary

# The integers of ReplacedRows are below this: as many as float32 holds exactly.
DRAWS = 1 << 24
# Steps of the uniform fraction by which a number of tokens is rounded up or down.
ROUNDING_STEPS = 1 << 20


class EqualWindows(MapDataset[np.ndarray], Protocol):
    """Windows of ids that are all `length` long."""

    length: int


def noise_counts(length: int, density: float = 0.15, mean_span: float = 3.0) -> tuple[int, int]:
    """Return how much of a window span corruption hides, by T5's formula.

    Args:
        length: ids of the window.
        density: the share of the ids that is hidden.
        mean_span: the mean number of ids of a span.

    Returns:
        (ids hidden, spans).
    """
    noise = min(max(round(length * density), 1), length - 1)
    return noise, max(round(noise / mean_span), 1)


class SpanCorruptionDataset:
    """Rows of span corruption: {input_ids, labels}, all rows equally long.

    The input is a window with spans replaced by sentinels; the labels list each sentinel and the
    span that it stands for.

    Args:
        windows: the windows of ids.
        sentinel: the id of the first sentinel; those of the other spans descend from it. Or the ids
            of the sentinels of all spans, in order.
        split: train, validation or test; each has draws of its own.
        seed: the seed of the draws.
        density: the share of the ids that is hidden.
        mean_span: the mean number of ids of a span.
    """

    def __init__(
        self,
        windows: EqualWindows,
        *,
        sentinel: int | Sequence[int],
        split: str = "train",
        seed: int = 0,
        density: float = 0.15,
        mean_span: float = 3.0,
    ):
        self.windows = windows
        self.noise, self.spans = noise_counts(windows.length, density, mean_span)
        if isinstance(sentinel, int):
            sentinel = range(sentinel, sentinel - self.spans, -1)
        self.sentinels = np.array(sentinel, np.int32)
        recipe = {"length": windows.length, "density": density, "mean_span": mean_span}
        self.key = rng.stream_key("span_corruption", 2, recipe, split, seed)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Row:
        state = np.empty(1, np.uint64)
        x = np.empty(self.windows.length - self.noise + self.spans, np.int32)
        y = np.empty(self.noise + self.spans, np.int32)
        rng.start_row(state, self.key, index)
        corrupt_spans(state, self.windows[index], x, y, self.sentinels, self.noise)
        return {"input_ids": x, "labels": y}


@njit(cache=True)
def draw_lengths(state, lengths, total):
    """Fill `lengths` (int64[n]) with integers >= 1 that sum to `total`, all ways equally likely.

    Of the total - 1 gaps between `total` items n - 1 are drawn without replacement; they part the
    items.
    """
    lengths[:] = 1
    cuts_left, gaps = len(lengths) - 1, total - 1
    part = 0
    for gap in range(gaps):
        if rng.below(state, gaps - gap) < cuts_left:
            cuts_left -= 1
            part += 1
        else:
            lengths[part] += 1


@njit(cache=True)
def corrupt_spans(state, tokens, x, y, sentinels, noise):
    """Write a window's corrupted input to `x` and its target to `y`; return how many ids each has.

    `tokens` is cut in clean and noise spans by turns, beginning with a clean one; there are as many
    of each as `sentinels`, and the noise spans have `noise` ids together. In `x` span k is replaced
    by the id sentinels[k]; in `y` it follows that id.
    """
    spans = len(sentinels)
    clean_lengths, noise_lengths = np.empty(spans, np.int64), np.empty(spans, np.int64)
    draw_lengths(state, clean_lengths, len(tokens) - noise)
    draw_lengths(state, noise_lengths, noise)

    n = m = t = 0  # ids in x, in y, and of tokens already read
    for span in range(spans):
        # The clean span goes to the input.
        length = clean_lengths[span]
        x[n : n + length] = tokens[t : t + length]
        n, t = n + length, t + length

        # The sentinel goes to both.
        x[n] = y[m] = sentinels[span]
        n, m = n + 1, m + 1

        # The noise span goes to the target.
        length = noise_lengths[span]
        y[m : m + length] = tokens[t : t + length]
        m, t = m + length, t + length
    return n, m


def never_masked(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the ids of a vocabulary that no objective masks: end of sequence, padding and so on.

    Unknown words are words: they are masked as others are.
    """
    special_tokens = {vocabulary.eos, vocabulary.pad}
    tokenizer = vocabulary.tokenizer
    if tokenizer is not None:
        special_tokens |= {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    return tuple(sorted(special_tokens))


def all_sentinels(vocabulary: Vocabulary) -> list[int]:
    """Return the ids of all sentinels of a vocabulary, in order; see `sentinel_ids`."""
    tokenizer = vocabulary.tokenizer
    if tokenizer is None:
        first_free = vocabulary.first_regular + vocabulary.regular_count
        return list(range(vocabulary.size - 1, first_free - 1, -1))
    known = tokenizer.get_vocab()
    names = (f"<extra_id_{span}>" for span in itertools.count())
    return [known[name] for name in itertools.takewhile(known.__contains__, names)]


def sentinel_ids(vocabulary: Vocabulary, window: int) -> list[int]:
    """Return the ids of the sentinels of a window's spans, in order.

    A tokenizer has sentinels, <extra_id_0> and so on. In a plain vocabulary the last ids serve as
    sentinels, those of them that are no regular tokens.

    Raises:
        UsageError: there are too few for the spans of a window of so many ids.
    """
    _, spans = noise_counts(window)
    sentinels = all_sentinels(vocabulary)
    count = len(sentinels)
    if count < spans:
        advice = "Give a shorter window."
        if not count:
            advice = "Give a tokenizer that has them, as T5's, or another objective."
        raise UsageError(
            f"A window of {window} hides {spans} spans; the vocabulary has fewer sentinels, "
            f"{count} (<extra_id_*>). {advice}"
        )
    return sentinels[:spans]


class MaskedDataset:
    """Rows for masked language modelling: 15 % of a row's ids are masked, drawn for every index.

    A masked token becomes the mask id, a random id, or stays: 80, 10 and 10 % (Devlin et al. 2019;
    chosen anew as in Liu et al. 2019), or 85, 0 and 15 % (Clark et al. 2020). A row of n candidates
    has 0.15 n masked tokens, rounded up or down at random, as in fairseq; ELECTRA rounds to the
    nearest, of all ids of a row, and may draw a position twice.

    Args:
        rows: rows with input_ids.
        mask: the mask id.
        regular_tokens: (first id, number of ids) of the range from which random ids are drawn.
        special_tokens: ids that are never masked: end of sequence, padding and the like.
        compact: rows have masked_positions and labels [masked]: the positions of the masked tokens,
            ascending, and their ids. Without it labels are [length], IGNORED where no token is
            masked.
        masked_percent: how many of 100 masked tokens become the mask id.
        random_percent: how many of 100 become a random id.
        split: train, validation or test; each has draws of its own.
        seed: the seed of the draws.
        density: the share of the candidates that is masked.
    """

    def __init__(
        self,
        rows: MapDataset[Row],
        *,
        mask: int,
        regular_tokens: tuple[int, int],
        special_tokens: tuple[int, ...],
        compact: bool = False,
        masked_percent: int = 80,
        random_percent: int = 10,
        split: str = "train",
        seed: int = 0,
        density: float = 0.15,
    ):
        self.rows, self.mask, self.compact, self.density = rows, mask, compact, density
        self.regular_tokens = regular_tokens
        self.special_tokens = np.array(special_tokens, np.int32)
        self.masked_percent, self.random_percent = masked_percent, random_percent
        recipe = {"density": density, "masked": masked_percent, "random": random_percent}
        self.key = rng.stream_key("masked_language_model", 2, recipe, split, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        state = np.empty(1, np.uint64)
        rng.start_row(state, self.key, index)

        ids = row["input_ids"].copy()
        positions = mask_tokens(
            state,
            ids,
            self.special_tokens,
            self.density,
            self.mask,
            self.masked_percent,
            self.masked_percent + self.random_percent,
            *self.regular_tokens,
        )
        return masked_row(row, ids, positions, self.compact)


def masked_row(row: Row, ids: np.ndarray, positions: np.ndarray, compact: bool) -> Row:
    """Return a row with masked ids, and its former ids at the masked positions as labels.

    Args:
        row: the row before masking.
        ids: its ids after it, int32[length].
        positions: the masked positions, ascending, int64[masked].
        compact: give masked_positions and labels [masked], not labels [length].
    """
    originals = row["input_ids"][positions]
    masked = row | {"input_ids": ids}
    if compact:
        return masked | {"masked_positions": positions.astype(np.int32), "labels": originals}
    labels = np.full_like(ids, IGNORED)
    labels[positions] = originals
    return masked | {"labels": labels}


class MaskedAnswers:
    """Rows for an encoder of sequences whose scored tokens follow from the others: all are masked.

    Args:
        rows: rows of a SequenceLayout, with input_ids and the next ids of scored positions.
        mask: the mask id.
        compact: rows have masked_positions and labels, as those of MaskedDataset.
    """

    def __init__(self, rows: MapDataset[Row], *, mask: int, compact: bool = False):
        self.rows, self.mask, self.compact = rows, mask, compact

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        # The label before a position is its id, where it is scored.
        positions = np.flatnonzero(row["labels"][:-1] != IGNORED) + 1
        ids = row["input_ids"].copy()
        ids[positions] = self.mask
        return masked_row(row, ids, positions, self.compact)


class HiddenAnswers:
    """Sequences as examples of an encoder-decoder: scored tokens are hidden, the target lists them.

    Each run of scored tokens is replaced by a sentinel in the input; the target has that sentinel
    and then the run, as in span corruption. Of a sequence whose tokens are all scored, spans are
    drawn as span corruption draws them.

    Args:
        examples: sequences with input_ids and labels beside them.
        sentinels: the ids of the sentinels, in order.
        split: train, validation or test; each has draws of its own.
        seed: the seed of the draws.

    Raises:
        UsageError: an example that is read has more runs than there are sentinels.
    """

    def __init__(
        self,
        examples: MapDataset[Row],
        *,
        sentinels: Sequence[int],
        split: str = "train",
        seed: int = 0,
    ):
        self.examples = examples
        self.sentinels = np.array(sentinels, np.int32)
        self.key = rng.stream_key("hidden_answers", 1, {}, split, seed)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Row:
        return self._hidden(index, self.examples[index])

    def __getitems__(self, indices: list[int]) -> list[Row]:
        """Return the examples at `indices`."""
        read_many = getattr(self.examples, "__getitems__", None)
        if read_many is None:
            return [self[index] for index in indices]
        return [
            self._hidden(index, example)
            for index, example in zip(indices, read_many(indices), strict=True)
        ]

    def _hidden(self, index: int, example: Row) -> Row:
        """Return an example with its scored tokens hidden."""
        ids, labels = example["input_ids"], example["labels"]
        is_scored = labels != IGNORED
        if is_scored[1:].all():
            return self._corrupted(index, ids)

        # Runs of scored tokens: where each begins, and where it ends.
        edges = np.diff(is_scored.astype(np.int8), prepend=0, append=0)
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        self._check_sentinels(len(starts))
        source, target = [], []
        read = 0
        for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            sentinel = self.sentinels[number : number + 1]
            source += [ids[read:start], sentinel]
            target += [sentinel, ids[start:end]]
            read = end
        source.append(ids[read:])
        return {
            "input_ids": np.concatenate(source).astype(np.int32),
            "labels": np.concatenate(target).astype(np.int32),
        }

    def _corrupted(self, index: int, ids: np.ndarray) -> Row:
        """Return a sequence with random spans hidden."""
        noise, spans = noise_counts(len(ids))
        self._check_sentinels(spans)
        state = np.empty(1, np.uint64)
        x = np.empty(len(ids) - noise + spans, np.int32)
        y = np.empty(noise + spans, np.int32)
        rng.start_row(state, self.key, index)
        corrupt_spans(state, ids, x, y, self.sentinels[:spans], noise)
        return {"input_ids": x, "labels": y}

    def _check_sentinels(self, spans: int) -> None:
        """Raise UsageError where an example hides more spans than there are sentinels."""
        if spans > len(self.sentinels):
            raise UsageError(
                f"An example hides {spans} spans, and the vocabulary has {len(self.sentinels)} "
                "sentinels (<extra_id_*>) to mark them; give shorter examples, another vocabulary, "
                "or a decoder, which needs no sentinels."
            )


@njit(cache=True)
def mask_tokens(state, ids, special, density, mask, masked_below, changed_below, first, count):
    """Mask a share of `ids` (int32[length]) in place; return the masked positions (int64[masked]).

    The positions are ascending. No id of `special` is masked. Of 100 masked tokens `masked_below`
    become the id `mask`, those from there to `changed_below` one of the `count` regular ids from
    `first` on, and the others stay. At least one token is masked, unless all are special.
    """
    # Candidates: the positions of all ids that are not special.
    candidates = np.empty(len(ids), np.int64)
    n = 0
    for position in range(len(ids)):
        is_candidate = True
        for token in special:
            is_candidate &= ids[position] != token
        candidates[n] = position
        n += is_candidate

    # How many: density * n, rounded up with the probability of its fraction.
    fraction = rng.below(state, ROUNDING_STEPS) / ROUNDING_STEPS
    masked = min(n, max(1, int(density * n + fraction)))

    # Which: the first steps of a shuffle.
    for i in range(masked):
        j = i + rng.below(state, n - i)
        candidates[i], candidates[j] = candidates[j], candidates[i]
    positions = np.sort(candidates[:masked])

    # What each becomes.
    for position in positions:
        percent = rng.below(state, 100)
        if percent < masked_below:
            ids[position] = mask
        elif percent < changed_below:
            ids[position] = first + rng.below(state, count)
    return positions


class ReplacedRows:
    """Rows for replaced-token detection: compact masked rows with `originals` and `draws`.

    `originals` are the ids of the masked tokens; `draws` are integers below DRAWS, by which the
    generator's guesses are drawn. Both are int32[masked].

    Args:
        rows: rows of a MaskedDataset that is compact.
        split: train, validation or test; each has draws of its own.
        seed: the seed of the draws.
    """

    def __init__(self, rows: MapDataset[Row], *, split: str = "train", seed: int = 0):
        self.rows = rows
        self.key = rng.stream_key("replaced_tokens", 1, {}, split, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        state = np.empty(1, np.uint64)
        draws = np.empty(len(row["masked_positions"]), np.int64)
        rng.start_row(state, self.key, index)
        rng.fill_between(state, draws, 0, DRAWS - 1)
        return row | {"originals": row["labels"], "draws": draws.astype(np.int32)}
