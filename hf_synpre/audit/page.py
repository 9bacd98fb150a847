"""The numbers of an audit -> a summary for the terminal, audit.md and audit.html, all files."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

from hf_synpre.audit.plots import draw_audit
from hf_synpre.audit.schema import Figure, LawAudit, Part, RowAudit
from hf_synpre.errors import printable
from hf_synpre.files import write_bytes
from hf_synpre.report.escapes import escape_markdown
from hf_synpre.report.html_page import html_page
from hf_synpre.report.markdown_page import markdown_table
from hf_synpre.report.render import (
    ABSENT_TEXT,
    TABLE_WIDTH,
    Table,
    align_columns,
    template_environment,
)

TEMPLATES = Path(__file__).parent / "templates"
CLEAN = "Nothing to worry about was found."

# A row of the table of parts: its name, and what writes it.
PART_ROWS: tuple[tuple[str, Callable[[Part], str]], ...] = (
    ("{unit}s", lambda part: f"{part['tokens']:,}"),
    (
        "shortest, mean, longest",
        lambda part: f"{part['shortest']:,}, {part['mean_length']:.1f}, {part['longest']:,}",
    ),
    ("different {unit}s", lambda part: f"{part['alphabet']:,}"),
    ("entropy of a {unit}, nats", lambda part: nats(part["unigram_entropy"])),
    ("the same after the {unit} before it, nats", lambda part: nats(part["bigram_entropy"])),
    ("zlib: bytes after / before", lambda part: nats(part["compressed"])),
    ("the same of uniform noise", lambda part: nats(part["compressed_noise"])),
)


def write_audit(audit: LawAudit | RowAudit, folder: str | Path) -> None:
    """Write an audit as audit.json, audit.md, audit.html and plots.

    Args:
        audit: what `audit_laws` or `audit_rows` returned.
        folder: where the files go; those of the same names are replaced.

    Raises:
        UsageError: a file cannot be written.
    """
    plots = draw_audit(audit)
    text = page(audit)
    title = "What published laws give"
    if "findings" not in audit:
        title = f"Audit of {audit['data']}"
    texts = {
        "audit.json": json.dumps(audit, indent=1, allow_nan=False) + "\n",
        "audit.md": text,
        "audit.html": html_page(title, text, plots),
    }
    files = {name: content.encode() for name, content in texts.items()} | plots
    for name, content in files.items():
        write_bytes(Path(folder) / name, content)


def page(audit: LawAudit | RowAudit) -> str:
    """Return an audit as Markdown, from templates/."""
    environment = template_environment(TEMPLATES, finalize=escape_markdown)
    if "findings" in audit:
        tables = {
            finding["name"]: markdown_table(figure_table(finding["figures"]))
            for finding in audit["findings"]
        }
        template = environment.get_template("laws.md.jinja")
        return template.render(findings=audit["findings"], tables=tables)
    template = environment.get_template("rows.md.jinja")
    return template.render(
        audit=audit,
        clean=CLEAN,
        loss=describe_loss(audit),
        splits=markdown_table(split_table(audit)),
        parts=markdown_table(part_table(audit)),
        overlaps=markdown_table(overlap_table(audit)) if audit["overlaps"] else "",
    )


def summary(audit: LawAudit | RowAudit) -> str:
    """Return an audit as lines for the terminal."""
    lines = []
    if "findings" in audit:
        for finding in audit["findings"]:
            table = figure_table(finding["figures"])
            lines += ["", finding["title"], *align_columns(table.rows)]
        return "\n".join(lines[1:])

    for table in (split_table(audit), part_table(audit)):
        lines += [*align_columns([table.head, *table.rows]), ""]
    lines += [describe_loss(audit), ""]
    for remark in audit["remarks"]:
        text = printable(f"- {remark['text']}")
        lines += textwrap.wrap(text, TABLE_WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    if not audit["remarks"]:
        lines.append(CLEAN)
    return "\n".join(lines)


# --- tables ---------------------------------------------------------------------------------------


def figure_table(figures: list[Figure]) -> Table:
    """Return the figures of a finding as a table."""
    rows = [[figure["what"], written(figure), figure["by"]] for figure in figures]
    return Table(["", "measured", "by"], rows)


def written(figure: Figure) -> str:
    """Return a figure with its unit, and with its standard error where it has one."""
    factor = 100 if figure["unit"] == "%" else 1
    value, unit = factor * figure["value"], f" {figure['unit']}" if figure["unit"] else ""
    if figure["standard_error"] is None:
        return f"{short(value)}{unit}"
    return f"{short(value)} ± {factor * figure['standard_error']:.1g}{unit}"


def short(value: float) -> str:
    """Write a number with three digits; a whole one as it is."""
    if value == int(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def split_table(audit: RowAudit) -> Table:
    """Return the splits' rows and answers as a table."""
    rows = [["rows read"], ["distinct rows"], ["rows with an answer"], ["answers that are copies"]]
    rows += [["empty answers"], ["rows with the commonest answer"]]
    for split in audit["splits"].values():
        counts = (split["rows"], split["distinct_rows"], split["with_answer"])
        for row, count in zip(rows, counts, strict=False):
            row.append(f"{count:,}")
        of_answers = (split["copied"], split["empty"], split["commonest"])
        for row, count in zip(rows[len(counts) :], of_answers, strict=True):
            row.append(f"{count:,}" if split["with_answer"] else ABSENT_TEXT)
    return Table(["", *audit["splits"]], rows)


def part_table(audit: RowAudit) -> Table:
    """Return the figures of the parts of all splits as a table, a column for each part."""
    parts = {
        f"{name}: {part}": figures
        for name, split in audit["splits"].items()
        for part, figures in split["parts"].items()
    }
    rows = []
    for name, write in PART_ROWS:
        rows.append([name.format(unit=audit["unit"]), *map(write, parts.values())])
    return Table(["", *parts], rows)


def overlap_table(audit: RowAudit) -> Table:
    """Return the rows that splits share as a table."""
    rows = [
        [overlap["rows_of"], overlap["within"], f"{overlap['rows']:,}", f"{overlap['shared']:,}"]
        for overlap in audit["overlaps"]
    ]
    return Table(["rows of", "compared with", "rows", "that also stand there"], rows)


def nats(value: float | None) -> str:
    """Write a number with three digits after the point; a dash for one that is not known."""
    return ABSENT_TEXT if value is None else f"{value:.3f}"


def describe_loss(audit: RowAudit) -> str:
    """Return a sentence on the lowest loss that a model can have."""
    if audit["kind"] == "dataset":
        return "The lowest loss that a model can have is not known of a dataset."
    loss = audit["bayes_loss"]
    if loss is None:
        return "The lowest loss that a model can have on this task is not known."
    if loss["value"] == 0:
        return "The lowest loss of a model is 0: what is scored follows from what is read."
    error = loss["standard_error"]
    about = f" ± {error:.1g}" if error > 0 else ""
    return f"The lowest loss of a model is {loss['value']:.3f}{about} nats per scored token."
