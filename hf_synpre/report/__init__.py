"""Reports: the cells of an experiment -> tables and plots. It reads JSON, without torch.

1. `read_folder`: the folder of an experiment -> its cells, one checked dict for each, and the
   files that are no usable cells. `read_cells` gives the cells alone and refuses such files.
   `merge.read_folders`: the same of several folders.
2. `summarize`: cells -> a `Report`, a dict with every number. `intervals` estimates means,
   differences and benefits; `findings` says which arm is best, and writes the sentences about it.
3. `summarize_transfer`: cells of labelled tasks -> the matrix of gains and pairs of arms.
4. `markdown`, `latex`, `model_index`, `table`, `draw_plots`: a report -> texts and images.
5. `html_page`: report.md and the plots -> one page that a browser shows.
6. `write_report`: all of it, a folder -> report.json, report.md, report.html, report.tex,
   model-index.yaml and the plots.

schema.py documents the keys of all these dicts.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from hf_synpre.errors import UsageError
from hf_synpre.files import write_bytes
from hf_synpre.report.cells import read_cells
from hf_synpre.report.html_page import html_page
from hf_synpre.report.markdown_page import markdown
from hf_synpre.report.merge import read_folders
from hf_synpre.report.plots import PLOT_FILES, draw_plots
from hf_synpre.report.render import latex, model_index, model_index_yaml, table
from hf_synpre.report.schema import NATURAL, CellResult, LeftOut, Report
from hf_synpre.report.summary import benefit, summarize
from hf_synpre.report.transfer import summarize_transfer

__all__ = [
    "CellResult",
    "Report",
    "benefit",
    "draw_plots",
    "latex",
    "make_report",
    "markdown",
    "model_index",
    "read_cells",
    "summarize",
    "table",
    "write_report",
]


def make_report(
    cells: list[CellResult], left_out: Sequence[LeftOut] = (), reference: str = NATURAL
) -> Report:
    """Return the content of report.json: every number of the report on these cells.

    Args:
        cells: the cells of one experiment.
        left_out: the files of its folder that are no usable cells.
        reference: the arm whose gain over random is 100 % of a benefit.
    """
    report = summarize(cells, reference)
    report["left_out"] = [*left_out]
    labelled = summarize_transfer(cells, report)
    if labelled:
        report["transfer"] = labelled
    return report


def write_report(
    directory: str | Path | Sequence[str | Path], output_dir: str | Path | None = None
) -> Report:
    """Write the report of an experiment in all its forms.

    Args:
        directory: the folder of the cells, or several folders of one recipe.
        output_dir: the folder of the report's files; the folder of the cells by default, where it
            is one.

    Returns:
        The content of report.json.

    Raises:
        UsageError: the folder holds no usable cells, or some that do not fit together.
    """
    directories = [directory] if isinstance(directory, str | Path) else [*directory]
    if not directories:
        raise UsageError("No folder was given; give the folder of an experiment's results.")
    if len(directories) > 1 and output_dir is None:
        raise UsageError(
            f"{len(directories)} folders were given and no place for their report; give "
            "--output_dir."
        )
    named = "', '".join(map(str, directories))
    cells, left_out, reference = read_folders(directories)
    try:
        report = make_report(cells, left_out, reference)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"The cells of '{named}' do not fit together ({error!r}); delete those that were "
            "edited, and run again."
        ) from error

    plots = draw_plots(report)
    text = markdown(report, [*map(str, directories)], plots)
    texts = {
        "report.json": json.dumps(report, indent=1, allow_nan=False) + "\n",
        "report.md": text,
        "report.html": html_page(report["experiment"], text, plots),
        "report.tex": latex(report),
        "model-index.yaml": model_index_yaml(report),
    }
    files = {name: text.encode() for name, text in texts.items()} | plots
    folder = Path(output_dir or directories[0])
    for name, content in files.items():
        write_bytes(folder / name, content)

    # A plot of an earlier report, for which these cells have no numbers.
    for name in PLOT_FILES:
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    return report
