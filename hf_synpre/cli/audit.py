"""`synpre audit`: a task or a dataset in, what is wrong with its rows out; or published laws."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_synpre.cli.options import IMPORT_FLAG, Arguments, FlagSet, Verb
from hf_synpre.cli.tokenizer_flags import read_vocabulary
from hf_synpre.config import option
from hf_synpre.errors import UsageError


@dataclass
class AuditOptions:
    """What `synpre audit` takes."""

    data: str | None = option(
        "A synthetic task or a mixture; or a folder, a file or a Hub id, whose rows are token ids "
        "or text. Published generators are audited without it.",
        None,
    )
    rows: int | None = option(
        "Rows that are read: of a task's train, 10000 without it, and a tenth as many of its other "
        "splits; of each split of a dataset, 1000000 without it.",
        None,
    )
    output_dir: str | None = option("Where the page goes; runs/audit/NAME without it.", None)


@dataclass
class TaskRowsOptions:
    """Which rows of a task are audited."""

    seed: int = option("Seed of the rows; they are compared with those of the next one.", 0)
    vocabulary: str | None = option(
        "A plain vocabulary size, or a tokenizer's folder or Hub id; the paper's T5 ids without "
        "it.",
        None,
    )
    parameters: dict[str, Any] = option(
        "Parameters of the task, as min_length=4,max_length=24.", default_factory=dict
    )


@dataclass
class DatasetRowsOptions:
    """Which rows of a dataset are audited."""

    source: list[str] = option(
        "Columns of the inputs: one of token ids, or some of text; guessed without it.",
        default_factory=list,
    )
    target: list[str] = option(
        "Columns of the answers; guessed without --source, and none with it.", default_factory=list
    )
    config: str | None = option("The configuration of a dataset that has several.", None)
    revision: str | None = option("Branch, tag or commit of a dataset on the Hub.", None)


def audit(arguments: Arguments) -> int:
    """Audit rows, or published laws; write the page, print the figures."""
    options = arguments.build(AuditOptions)
    of_rows = {**arguments.of(TaskRowsOptions), **arguments.of(DatasetRowsOptions)}
    if options.data is None:
        given = [*of_rows, *(["rows"] if options.rows is not None else [])]
        if given:
            raise UsageError(
                f"--{given[0]} was given without rows to audit; write `synpre audit TASK` or "
                "`synpre audit FOLDER`, or leave it out."
            )
    from hf_synpre.audit import LawAudit, RowAudit, audit_laws, audit_rows, summary, write_audit

    name = "laws"
    result: LawAudit | RowAudit
    if options.data is None:
        print("Published laws are computed, which takes a minute or two.", file=sys.stderr)
        result = audit_laws()
    else:
        name = re.sub(r"[^\w.-]+", "-", options.data).strip("-.") or "rows"
        if "vocabulary" in of_rows:
            of_rows["vocabulary"] = read_vocabulary(of_rows["vocabulary"])
        result = audit_rows(options.data, rows=options.rows, **of_rows)

    folder = Path(options.output_dir or Path("runs") / "audit" / name)
    write_audit(result, folder)
    print(summary(result))
    print(f"\nPage: {folder / 'audit.md'}, and audit.html for a browser")
    return 0


AUDIT = Verb(
    name="audit",
    summary="Say what is wrong with the rows of a task or dataset, or what published laws give.",
    run=audit,
    flag_sets=lambda: [
        FlagSet(AuditOptions),
        FlagSet(TaskRowsOptions, "a synthetic task"),
        FlagSet(DatasetRowsOptions, "a dataset"),
        IMPORT_FLAG,
    ],
    positional="data",
    needs_positional=False,
    when_stopped="nothing was written, and the same command begins it again",
    examples=("delete --parameters max_length=64", "my_folder --source question --target answer"),
)
