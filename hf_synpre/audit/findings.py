"""Findings: a published law -> what it was taken for, what it gives, and how sure that is.

`FINDINGS` has them all; `audit_laws` computes them. Equal calls give equal numbers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hf_synpre.audit import laws
from hf_synpre.audit.numbers import rounded, share_error, standard_error
from hf_synpre.audit.schema import Figure, Finding, LawAudit
from hf_synpre.tasks import generate

BY_LAW = "by the law"
# Models of the linear RNN's corpus; how many of the stable and of the exploding ones are also run,
# and into how many blocks of tokens a run is cut for its error.
MODELS, MODELS_RUN = laws.CORPUS_MODELS, 2
BLOCKS = 16
# Training rows of delete that are made: those of all validation seeds are among them.
DELETE_ROWS = 20_000
NOISE_STRINGS = 300
# Steps, rows and tokens a row of pre-pretraining on MP-STRUCT.
MP_TOKENS = 500 * 32 * 1024


def audit_laws() -> LawAudit:
    """Return what published laws give: every finding of FINDINGS, with all its numbers."""
    audit: LawAudit = {"findings": [make() for make in FINDINGS]}
    return rounded(audit)


def exactly(what: str, value: float, unit: Any = "", by: str = BY_LAW) -> Figure:
    """Return a number that has no error."""
    return {"what": what, "value": value, "unit": unit, "standard_error": None, "by": by}


def mp_struct() -> Finding:
    """How many sentences MP-STRUCT has."""
    core, full = laws.core_sentences(), laws.full_sentences()
    _, core_loss = laws.sentence_entropy(core)
    _, full_loss = laws.sentence_entropy(full)
    mean_length = sum(share * len(sentence) for sentence, share in core.items())
    numbers = [{word for word in sentence if word.startswith("DP")} for sentence in full]
    agreeing = sum(len(of_sentence) == 1 for of_sentence in numbers)

    draws = np.unique(np.logspace(0, 4, 41).astype(int))
    return {
        "name": "mp_struct",
        "title": "MP-STRUCT has 30 sentences, and its core 24",
        "assumed": "A formal language whose strings encode hierarchical composition, dependencies "
        "between features, and displacement over long distances.",
        "figures": [
            exactly("distinct sentences of MP-STRUCT-CORE", len(core)),
            exactly("distinct sentences of MP-STRUCT", len(full)),
            exactly("entropy of a token of the core's sentences", core_loss, "nats"),
            exactly("entropy of a token of MP-STRUCT's sentences", full_loss, "nats"),
            exactly(
                "sentences of MP-STRUCT whose nouns all have one number",
                agreeing / len(full),
                "%",
            ),
            exactly(
                "how often each sentence of the core is read in 500 steps of 32 rows of 1,024 "
                "tokens",
                MP_TOKENS / mean_length / len(core),
            ),
        ],
        "meaning": "A table of 24 or 30 sentences is all there is to learn. Gains after such "
        "pre-training are gains of a few sentences read thousands of times, and no evidence that "
        "agreement (both nouns have one number) or nesting of any depth was learnt.",
        "source": "Mita et al. 2026, arXiv 2605.16758; the default options of its generators",
        "plot": {
            "form": "lines",
            "x": draws.tolist(),
            "series": {
                "MP-STRUCT": laws.distinct_of(full, draws).tolist(),
                "MP-STRUCT-CORE": laws.distinct_of(core, draws).tolist(),
            },
            "x_label": "sentences read",
            "y_label": "distinct ones among them",
            "log_x": True,
        },
    }


def linear_rnn() -> Finding:
    """How far the linear RNNs of a corpus are from uniform noise, and how many explode."""
    matrices = np.stack([laws.corpus_model(number).recurrent for number in range(MODELS)])
    radii = laws.spectral_radii(matrices)
    explodes = radii > 1
    variances = laws.logit_variances(matrices[~explodes])
    low, median, high = np.percentile(variances, [5, 50, 95]) / 2  # nats, of small variances

    # Some of them are run.
    chosen = [*np.flatnonzero(~explodes)[:MODELS_RUN], *np.flatnonzero(explodes)[:MODELS_RUN]]
    runs = {}
    for number in map(int, chosen):
        (runs[number],) = laws.divergences(laws.corpus_model(number), 1, laws.ROW_LENGTH)
    positions = np.unique(np.logspace(0, np.log10(laws.ROW_LENGTH), 60).astype(int))
    series = {}
    for number, nats in runs.items():
        word = ", explodes" if explodes[number] else ""
        series[f"model {number}, radius {radii[number]:.3f}{word}"] = nats[positions - 1].tolist()

    models = f"{MODELS:,} models, by the seeds of the script"
    stable = f"the {int((~explodes).sum()):,} others, expected by the law"
    deviation = float(np.sqrt(2 * median))
    return {
        "name": "linear_rnn",
        "title": "A corpus of linear RNNs is uniform noise but for the models that explode",
        "assumed": "Structured strings of stable models: W is scaled to a spectral radius of 0.9. "
        "The radius is estimated by a power iteration, which fails where the largest eigenvalue is "
        "complex.",
        "figures": [
            exactly("models whose spectral radius is above 1", float(explodes.mean()), "%", models),
            exactly("median spectral radius", float(np.median(radii)), "", models),
            exactly("largest spectral radius", float(radii.max()), "", models),
            exactly("standard deviation of the logits, median", deviation, "", stable),
            exactly("distance of a token's law from uniform, 5 %", float(low), "nats", stable),
            exactly("the same, median", float(median), "nats", stable),
            exactly("the same, 95 %", float(high), "nats", stable),
            *(figure_of_run(number, nats, explodes[number]) for number, nats in runs.items()),
        ],
        "meaning": "A uniform token of 50,277 has 10.8 nats; a model that knew these laws by heart "
        "would save some hundred-thousandths of one. What can be learnt stands in the rows of the "
        "models that explode, in which each token becomes certain. Compare any gain with that of "
        "uniform noise.",
        "source": "Guo et al. 2026, arXiv 2605.10129; the generator, the script and its seeds in "
        "the paper's repository: 50,277 ids, 64 units",
        "plot": {
            "form": "lines",
            "x": positions.tolist(),
            "series": series,
            "x_label": "token of the row",
            "y_label": "distance from uniform, nats",
            "log_x": True,
            "log_y": True,
            "reference": (float(np.log(laws.VOCABULARY)), "one token is certain"),
        },
    }


def figure_of_run(number: int, nats: np.ndarray, explodes: bool) -> Figure:
    """Return how far a model is from uniform as it runs; of one that explodes at its last token.

    Args:
        number: the model.
        nats: the distance of each token's law, float64[tokens].
        explodes: whether its spectral radius is above 1.
    """
    by = f"one row of {len(nats):,} tokens"
    if explodes:
        what = f"distance of model {number}, which explodes, at its last token"
        return exactly(what, float(nats[-1]), "nats", by)

    # Neighbouring tokens are alike: means of blocks are nearly independent.
    blocks = nats[len(nats) % BLOCKS :].reshape(BLOCKS, -1).mean(axis=1)
    return {
        "what": f"distance of model {number}, as it runs",
        "value": float(nats.mean()),
        "unit": "nats",
        "standard_error": standard_error(blocks),
        "by": by,
    }


def seed_plus_index() -> Finding:
    """How many validation rows stand among the training rows where row i is seeded seed + i."""
    trained = {row.tobytes() for row in laws.delete_rows(laws.TRAIN_SEED, DELETE_ROWS)}
    validation = laws.delete_rows(laws.VALIDATION_SEED, laws.VALIDATION_ROWS)
    theirs = sum(row.tobytes() in trained for row in validation)
    neighbours = laws.delete_rows(laws.TRAIN_SEED + 1, 1000)
    shared = sum(row.tobytes() in trained for row in neighbours)

    ours = [
        {tuple(row["input_ids"]) for row in generate("delete", 0, rows, split=split).to_pylist()}
        for split, rows in (("train", DELETE_ROWS), ("validation", laws.VALIDATION_ROWS))
    ]
    leaked = len(ours[0] & ours[1])
    of_validation = f"{laws.VALIDATION_ROWS} rows, against {DELETE_ROWS:,} of training"
    return {
        "name": "seed_plus_index",
        "title": "Where row i is drawn from seed + i, validation rows are training rows",
        "assumed": "Training and validation have different seeds, so their rows are different.",
        "figures": [
            exactly(
                "validation rows that stand among the training rows",
                theirs / len(validation),
                "%",
                of_validation,
            ),
            exactly(
                "rows of seed 43 that are rows of seed 42", shared / 1000, "%", "the first 1,000"
            ),
            exactly(
                "validation rows among the training rows, hf_synpre's delete",
                leaked / laws.VALIDATION_ROWS,
                "%",
                of_validation,
            ),
        ],
        "meaning": "Training has the seeds 42 to 160,105 and validation 10,042 to 10,681, which "
        "are among them: validation accuracy measures rows that were trained on, and two runs with "
        "neighbouring seeds read the same rows. A stream's key has to be a hash of all that names "
        "it.",
        "source": "Jiang et al. 2026, arXiv 2601.21725; the code and configuration of its task "
        "delete",
        "plot": {
            "form": "bars",
            "x": ["validation", "seed 43", "hf_synpre, validation"],
            "series": {
                "rows that stand among the training rows, %": [
                    100 * theirs / len(validation),
                    shared / 10,
                    100 * leaked / laws.VALIDATION_ROWS,
                ]
            },
            "x_label": "",
            "y_label": "rows in training, %",
        },
    }


def nothing_to_delete() -> Finding:
    """How many rows of delete have nothing to delete."""
    rows = laws.delete_rows(laws.TRAIN_SEED, DELETE_ROWS)
    misses = ~(rows[:, :-1] == rows[:, -1:]).any(axis=1)
    lengths = np.arange(1, 257)
    by_law = (1 - 1 / laws.DELETE_SYMBOLS) ** lengths
    return {
        "name": "nothing_to_delete",
        "title": "Half of the rows of delete delete nothing",
        "assumed": "A model has to find a token and leave it out.",
        "figures": [
            exactly(
                "rows without the token that is to be deleted",
                float(by_law[laws.DELETE_LENGTH - 1]),
                "%",
            ),
            {
                "what": "the same, counted",
                "value": float(misses.mean()),
                "unit": "%",
                "standard_error": share_error(misses),
                "by": f"{DELETE_ROWS:,} rows",
            },
        ],
        "meaning": "The token is drawn from 99 whatever the row holds, and the row has 64: in "
        "these rows the answer is a copy, and a model that only copies has them right. What was "
        "learnt of deleting has to be scored on the others.",
        "source": "Jiang et al. 2026, arXiv 2601.21725; the code and configuration of its task "
        "delete",
        "plot": {
            "form": "lines",
            "x": lengths.tolist(),
            "series": {"by the law": (100 * by_law).tolist()},
            "x_label": "tokens of a row (64 there)",
            "y_label": "rows that delete nothing, %",
            "reference": (100 * float(misses.mean()), "counted at 64 tokens"),
        },
    }


def cut_brackets() -> Finding:
    """How many brackets are open where strings of k-Shuffle Dyck are cut."""
    settings = {
        "Hu et al., Guo et al. (opens with 51 %, depth 8)": (0.51, 8),
        "50 %, depth 8": (0.5, 8),
        "Jiang et al. (50 %, depth 16)": (0.5, 16),
    }
    figures, series = [], {}
    for name, (share, depth) in settings.items():
        at_cut = laws.open_brackets(laws.ROW_LENGTH, share, depth)
        mean = float(at_cut @ np.arange(depth + 1))
        figures.append(exactly(f"open brackets at the cut, {name}", mean))
        figures.append(exactly(f"strings that end balanced, {name}", float(at_cut[0]), "%"))
        series[name] = [*(100 * at_cut[::2]).tolist(), *[0.0] * ((16 - depth) // 2)]
    return {
        "name": "cut_brackets",
        "title": "Strings of k-Shuffle Dyck are cut with four to eight brackets open",
        "assumed": "Strings of a Dyck language, in which every bracket is closed.",
        "figures": figures,
        "meaning": "A row is the beginning of a string: one in eight or sixteen of them ends "
        "balanced, and that by chance. How many brackets stay open follows from the law alone; "
        "kinds do not matter.",
        "source": "Hu et al. 2025, arXiv 2502.19249; Jiang et al. 2026, arXiv 2601.21725; Guo et "
        "al. 2026, arXiv 2605.10129: 2,048 tokens",
        "plot": {
            "form": "bars",
            "x": list(range(0, 17, 2)),
            "series": series,
            "x_label": "open brackets after 2,048 tokens",
            "y_label": "strings, %",
        },
    }


def filler_keys() -> Finding:
    """In how many rows of MQAR a key stands again, as filler."""
    keys = [4, 8, 16, 32, 64]
    lengths = [64, 128, 256, 512]
    series: dict[str, list[float | None]] = {}
    for length in lengths:
        # Four tokens a pair have to fit.
        series[f"{length} tokens"] = [
            100 * laws.repeated_key_share(length, n) if 4 * n <= length else None for n in keys
        ]
    return {
        "name": "filler_keys",
        "title": "Filler of MQAR repeats keys with other tokens behind them",
        "assumed": "Each key stands once before it is asked for (the code says so), so that a "
        "question has one answer.",
        "figures": [
            exactly(
                "rows with filler that is a key, 4 pairs in 64 tokens",
                laws.repeated_key_share(64, 4),
                "%",
            ),
            exactly(
                "rows with filler that is a key, 64 pairs in 512 tokens",
                laws.repeated_key_share(512, 64),
                "%",
            ),
        ],
        "meaning": "Filler is drawn from the whole vocabulary, keys included. Where such filler "
        "stands before the question, two different tokens followed the key, and a model that "
        "answers with the later one, which is right without filler, is wrong.",
        "source": "Arora et al. 2023, arXiv 2312.04927; multiquery_ar of its repository, with its "
        "vocabulary of 8,192",
        "plot": {
            "form": "bars",
            "x": keys,
            "series": series,
            "x_label": "pairs of a key and a value",
            "y_label": "rows with such filler, %",
        },
    }


def gzip_of_noise() -> Finding:
    """What gzip makes of noise of several alphabets."""
    states = [2, 4, 8, 10]
    figures: list[Figure] = []
    for count in states:
        ratios = laws.noise_ratios(count, NOISE_STRINGS)
        figures.append(
            {
                "what": f"ratio of noise of {count} states",
                "value": float(ratios.mean()),
                "unit": "",
                "standard_error": standard_error(ratios),
                "by": f"{NOISE_STRINGS} strings",
            }
        )
    return {
        "name": "gzip_of_noise",
        "title": "A threshold of the gzip ratio means nothing across alphabets",
        "assumed": "A measure of how complex a rule is: those whose cells compress to more than "
        "half are for text and mathematics, those of 0.3 to 0.4 for code.",
        "figures": figures,
        "meaning": "Patches are stored as int32, of which fewer states fill fewer bits. Uniform "
        "noise, the most complex there is, does not reach 0.5 with four states or two, so that a "
        "search for such rules does not end; with ten states it has 0.67, and the threshold 0.5 is "
        "three quarters of noise. Divide by the ratio of noise.",
        "source": "Lee et al. 2026, arXiv 2603.10055; the filter of its generator: 360 patches of "
        "2 by 2 cells",
        "plot": {
            "form": "bars",
            "x": states,
            "series": {"uniform noise": [figure["value"] for figure in figures]},
            "x_label": "states of a cell",
            "y_label": "gzip ratio",
            "reference": (0.5, "threshold for text and mathematics"),
        },
    }


FINDINGS: tuple[Callable[[], Finding], ...] = (
    mp_struct,
    linear_rnn,
    seed_plus_index,
    nothing_to_delete,
    cut_brackets,
    filler_keys,
    gzip_of_noise,
)
