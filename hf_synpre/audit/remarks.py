"""Figures of rows -> what a reader should worry about, in sentences for a newcomer."""

import math
from collections.abc import Mapping, Sequence

from hf_synpre.audit.rows import SEQUENCES
from hf_synpre.audit.schema import BayesLossFacts, Overlap, Part, Remark, Split

# A share of rows that is too small to be worth a remark; rows that leak are always worth one.
LEAST_SHARE = 0.01
# A task has few rows where so small a share of those that were read is distinct.
FEW_SHARE = 0.5
# A model that always gives one answer is worth a remark from here on.
COMMON_SHARE = 0.5
# Rows are like noise where they have so many tokens, and neither compression nor what is known of
# their loss is below such a share of noise's.
LEAST_TOKENS, NOISE_SHARE = 1000, 0.98


def remarks_of_dataset(splits: Mapping[str, Split], overlaps: Sequence[Overlap]) -> list[Remark]:
    """Return what a reader of a dataset should worry about; nothing of rows without a fault."""
    remarks = [*map(leak, overlaps)]
    for name, split in splits.items():
        remarks += [unread(name, split), repeats(name, split), *remarks_of_rows(name, split)]
    return [remark for remark in remarks if remark is not None]


def remarks_of_task(
    train: Split, overlaps: Sequence[Overlap], loss: BayesLossFacts | None
) -> list[Remark]:
    """Return what a reader of a task should worry about.

    Args:
        train: its split train, for all splits have one law.
        overlaps: the rows that splits share.
        loss: the lowest loss of a model, where it is known.
    """
    remarks = [few(train)]
    if remarks == [None]:
        within_train = [overlap for overlap in overlaps if overlap["within"] == "train"]
        remarks = [*map(leak, within_train), repeats("train", train)]
    remarks += remarks_of_rows("train", train, loss)
    return [remark for remark in remarks if remark is not None]


def remarks_of_rows(
    name: str, split: Split, loss: BayesLossFacts | None = None
) -> list[Remark | None]:
    """Return remarks on the rows of one split; the arguments are those of `remarks_of_task`."""
    return [
        contradictions(name, split),
        copies(name, split),
        empty(name, split),
        same_answer(name, split),
        noise(name, split["parts"].get(SEQUENCES), loss),
    ]


def few(train: Split) -> Remark | None:
    """Return a remark on a task that has few different rows."""
    if train["distinct_rows"] > FEW_SHARE * train["rows"]:
        return None
    return {
        "name": "few",
        "text": f"There are few different rows: {train['distinct_rows']:,} among the first "
        f"{train['rows']:,}. Other splits and seeds hold the same ones, so that no score on them "
        "tells what was learnt from what was learnt by heart.",
    }


def leak(overlap: Overlap) -> Remark | None:
    """Return a remark on rows of one split within another."""
    shared, rows, other = overlap["shared"], overlap["rows"], overlap["within"]
    if not shared:
        return None
    consequence = (
        f"A score on {overlap['rows_of']} also measures what was learnt by heart; take them out of "
        "one of the two."
    )
    if " of seed " in overlap["rows_of"]:
        consequence = "Runs with these two seeds share data, and are not independent."
    elif other != "train":
        consequence = "What is chosen by one split is tested on rows that chose it."
    stand = "stands" if shared == 1 else "stand"
    return {
        "name": "leak",
        "text": f"{shared:,} of the {rows:,} rows of {overlap['rows_of']} "
        f"({percent(shared / rows)}) also {stand} in {other}. {consequence}",
    }


def unread(name: str, split: Split) -> Remark | None:
    """Return a remark on rows that were not read."""
    if split["all_rows"] is None or split["rows"] == split["all_rows"]:
        return None
    return {
        "name": "unread",
        "text": f"Only the first {split['rows']:,} of the {split['all_rows']:,} rows of {name} "
        "were read: faults among the others are not seen. --rows reads more.",
    }


def repeats(name: str, split: Split) -> Remark | None:
    """Return a remark on rows that come again."""
    again = split["rows"] - split["distinct_rows"]
    if again < LEAST_SHARE * split["rows"] or not again:
        return None
    return {
        "name": "repeats",
        "text": f"{again:,} of the {split['rows']:,} rows of {name} are repeats: "
        f"{split['distinct_rows']:,} are distinct. One pass over them is several passes over some; "
        "count data by distinct rows.",
    }


def contradictions(name: str, split: Split) -> Remark | None:
    """Return a remark on inputs with several answers."""
    if split["contradicted"] < LEAST_SHARE * split["rows"] or not split["contradicted"]:
        return None
    return {
        "name": "contradictions",
        "text": f"{split['contradicted']:,} rows of {name} have an input that also stands there "
        "with another answer. No model can have all of them right by an exact match.",
    }


def copies(name: str, split: Split) -> Remark | None:
    """Return a remark on answers that are copies."""
    share = share_of_answers(split, split["copied"])
    if share < LEAST_SHARE:
        return None
    return {
        "name": "copies",
        "text": f"In {percent(share)} of the rows of {name} the answer is a copy of the input, or "
        "of half of it or more. A model that only copies has them right: score the other rows "
        "apart.",
    }


def empty(name: str, split: Split) -> Remark | None:
    """Return a remark on empty answers."""
    share = share_of_answers(split, split["empty"])
    if share < LEAST_SHARE:
        return None
    return {
        "name": "empty",
        "text": f"In {percent(share)} of the rows of {name} the answer is empty. They teach to "
        "answer nothing; leave them out if that is not meant.",
    }


def same_answer(name: str, split: Split) -> Remark | None:
    """Return a remark on an answer that is very common."""
    share = share_of_answers(split, split["commonest"])
    if share < COMMON_SHARE or split["with_answer"] < 2:
        return None
    return {
        "name": "same answer",
        "text": f"One answer is that of {percent(share)} of the rows of {name}. A model that gives "
        "no other has so many right; compare scores with that.",
    }


def noise(name: str, part: Part | None, loss: BayesLossFacts | None) -> Remark | None:
    """Return a remark on sequences that look like noise."""
    if part is None or part["tokens"] < LEAST_TOKENS or part["alphabet"] < 2:
        return None
    ratio, of_noise = part["compressed"], part["compressed_noise"]
    if ratio is None or of_noise is None or ratio < NOISE_SHARE * of_noise:
        return None

    # Compression sees short repeats alone; neighbours, and the law of a task, may say more.
    known = [part["unigram_entropy"], part["bigram_entropy"], loss["value"] if loss else None]
    losses = [value for value in known if value is not None]
    if losses and min(losses) < NOISE_SHARE * math.log(part["alphabet"]):
        return None
    return {
        "name": "noise",
        "text": f"The rows of {name} compress no better than uniform noise of "
        f"{part['alphabet']:,} ids ({ratio:.3f} and {of_noise:.3f} of their bytes). What there is "
        "to learn is not in short repeats or in how frequent a token is, or there is nothing: "
        "compare a gain with that of the task uniform.",
    }


def share_of_answers(split: Split, count: int) -> float:
    """Return which share of a split's answers so many are."""
    return count / split["with_answer"] if split["with_answer"] else 0.0


def percent(share: float) -> str:
    """Write a share in per cent."""
    return f"{100 * share:.1f} %"
