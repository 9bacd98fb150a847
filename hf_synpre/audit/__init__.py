"""Audits: what published laws give, and what is wrong with rows. JSON and one page come out.

1. `audit_laws`: nothing -> a `LawAudit`. laws.py draws from published generators, written anew;
   findings.py says what each was taken for, what it gives, and how sure that is.
2. `audit_rows`: a synthetic task (task_rows.py) or a folder, file or Hub id (dataset_rows.py) -> a
   `RowAudit`. Its rows become `Row`s (rows.py), a `SplitCounter` makes figures of them
   (counter.py), and remarks.py says what a reader should worry about.
3. `write_audit`: either -> audit.json, audit.md, audit.html and the plots (page.py, plots.py).

schema.py documents the keys of these dicts.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hf_synpre.audit.counter import SplitCounter
from hf_synpre.audit.findings import audit_laws
from hf_synpre.audit.numbers import rounded
from hf_synpre.audit.page import summary, write_audit
from hf_synpre.audit.remarks import remarks_of_dataset, remarks_of_task
from hf_synpre.audit.schema import Finding, LawAudit, Overlap, RowAudit
from hf_synpre.audit.task_rows import is_task_name, open_task
from hf_synpre.errors import UsageError, as_integer, in_message
from hf_synpre.tasks import VocabularyLike

__all__ = ["Finding", "LawAudit", "RowAudit", "audit_laws", "audit_rows", "summary", "write_audit"]


def audit_rows(
    data: str,
    *,
    rows: int | None = None,
    seed: int = 0,
    vocabulary: VocabularyLike = None,
    parameters: Mapping[str, Any] | None = None,
    source: list[str] | None = None,
    target: list[str] | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> RowAudit:
    """Return what the rows of a task or a dataset hold, and what to worry about.

    Args:
        data: a synthetic task, a mixture "set:2,identity:1" or a control; or a folder, a file or
            a Hub id, whose rows are token ids or text.
        rows: how many rows are read: of a task's train (10,000 without it; of its other splits a
            tenth), of each split of a dataset (a million).
        seed: of a task: the seed of its rows, which are compared with those of the next one.
        vocabulary: of a task: that of its rows, as for `hf_synpre.generate`.
        parameters: of a task: those that differ from the paper's.
        source: of a dataset: the columns of the inputs; guessed without it.
        target: of a dataset: the columns of the answers; guessed where there is no `source` either.
        config: of a dataset: its configuration, where it has several.
        revision: of a dataset on the Hub: a branch, tag or commit.

    Raises:
        UsageError: there is no such task or dataset, or an argument does not fit it.

    Examples:
        >>> audit = audit_rows("delete", rows=1000)
        >>> [remark["name"] for remark in audit["remarks"]]  # doctest: +SKIP
        ['copies']
    """
    of_task = {"seed": seed or None, "vocabulary": vocabulary, "parameters": parameters}
    of_dataset = {"source": source, "target": target, "config": config, "revision": revision}
    is_task = is_task_name(data)
    for name, value in (of_dataset if is_task else of_task).items():
        if value:
            other = "a dataset" if is_task else "a synthetic task"
            raise UsageError(f"{name} was given for {data}, and belongs to {other}; leave it out.")
    if rows is not None and (as_integer(rows) or 0) < 1:
        raise UsageError(f"rows is {in_message(rows)}; give an integer >= 1.")

    if is_task:
        opened = open_task(data, rows, seed, vocabulary, parameters or {})
    else:
        # It brings the libraries of text, which tasks do not need.
        from hf_synpre.audit.dataset_rows import open_dataset

        opened = open_dataset(data, rows, source or [], target or [], config, revision)

    counters = {}
    for name, split in opened.splits.items():
        counters[name] = SplitCounter()
        for row in split.read():
            counters[name].add(row)
    splits = {
        name: counter.figures(opened.splits[name].all_rows) for name, counter in counters.items()
    }
    overlaps = overlaps_of({name: counter.row_hashes for name, counter in counters.items()})
    if is_task:
        remarks = remarks_of_task(splits["train"], overlaps, opened.bayes_loss)
    else:
        remarks = remarks_of_dataset(splits, overlaps)
    audit: RowAudit = {
        "data": data,
        "kind": opened.kind,
        "unit": opened.unit,
        "read": opened.facts,
        "splits": splits,
        "overlaps": overlaps,
        "bayes_loss": opened.bayes_loss,
        "remarks": remarks,
    }
    return rounded(audit)


def overlaps_of(hashes: Mapping[str, np.ndarray]) -> list[Overlap]:
    """Return how many rows of each split are rows of each one before it.

    Args:
        hashes: split -> the hashes of its rows.
    """
    names = list(hashes)
    overlaps: list[Overlap] = []
    for place, name in enumerate(names):
        for other in names[:place]:
            shared = np.isin(hashes[name], hashes[other]).sum()
            overlaps.append(
                {
                    "rows_of": name,
                    "within": other,
                    "rows": len(hashes[name]),
                    "shared": int(shared),
                }
            )
    return overlaps
