"""Layer 5: the cells of an experiment -> report.json, report.md, report.tex, model-index.yaml, plots and a table."""

import json
from pathlib import Path

from hf_synpre.errors import UsageError
from hf_synpre.files import write_bytes
from hf_synpre.report.cells import benefit, read_cells, summarize
from hf_synpre.report.plots import plots
from hf_synpre.report.render import latex, model_index, model_index_yaml, render, table
from hf_synpre.report.transfer import transfer, transfer_plots, transfer_text

__all__ = [
    "benefit",
    "latex",
    "model_index",
    "plots",
    "read_cells",
    "render",
    "report_of",
    "summarize",
    "table",
    "write_report",
]


def report_of(cells: list[dict]) -> dict:
    """Return all that a report says of cells: report.json's content."""
    report = summarize(cells)
    return report | transfer(cells, report)


def write_report(directory: str | Path, output_dir: str | Path | None = None) -> dict:
    """Write the report of the cells in `directory` (to it by default) in all its forms; return report.json's content."""
    cells = read_cells(directory)
    try:
        report = report_of(cells)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"The cells of '{directory}' do not fit together ({error!r}); delete what was edited, run again."
        ) from None
    texts = {
        "report.json": json.dumps(report, indent=1, allow_nan=False) + "\n",
        "report.md": render(report, str(directory)) + transfer_text(report),
        "report.tex": latex(report),
        "model-index.yaml": model_index_yaml(report),
    }
    for name, content in (
        {name: text.encode() for name, text in texts.items()}
        | plots(report)
        | transfer_plots(report)
    ).items():
        write_bytes(Path(output_dir or directory) / name, content)
    return report
