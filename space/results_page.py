"""A folder of results, or a zip file of one -> the report of hf_synpre.report as HTML.

Both run in a process of their own (limits.py): the cells may come from anybody.
"""

import base64
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from hf_synpre.errors import UsageError, in_message
from hf_synpre.report import draw_plots, make_report, markdown
from hf_synpre.report.cells import read_folder
from hf_synpre.report.html_page import html_page, report_body

# The experiments of this project that the page can show.
EXAMPLES = ("quickstart", "larger", "decoder_quickstart", "campaign", "self_pretraining_roberta")

SAVE = "Save as one HTML file"

# What a zip file may hold: entries, and bytes of all cells together.
MOST_ENTRIES = 20_000
MOST_CELLS = 2_000
MOST_BYTES = 128 * 2**20


def report_of_zip(folder: Path, file: str) -> str:
    """Return the report of the cells in a zip file as HTML.

    Args:
        folder: an empty folder, into which the cells and nothing else are unpacked.
        file: the zip file.
    """
    unpack_cells(folder, Path(file))
    return report_of_folder(folder, folder, Path(file).name)


def report_of_folder(_: Path, folder: Path, name: str) -> str:
    """Return the report of a folder of cells as HTML, with a link that saves it as a page.

    Args:
        folder: the output folder of `synpre run`.
        name: what the report calls the folder.

    Raises:
        UsageError: it holds no usable cells, or cells that do not fit together.
    """
    cells, left_out, reference = read_folder(folder)
    try:
        report = make_report(cells, left_out, reference)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise UsageError(f"The cells of {name} do not fit together ({error!r}).") from error
    plots = draw_plots(report)
    text = markdown(report, [name], plots)
    page = base64.b64encode(html_page(report["experiment"], text, plots).encode()).decode()
    link = f'<a download="report.html" href="data:text/html;base64,{page}">{SAVE}</a>'
    return f"<p>{link}</p>{report_body(text, plots)}"


def unpack_cells(folder: Path, file: Path) -> None:
    """Write the cells of a zip file into a folder, each under its own name.

    Nothing else of the file is unpacked, and no path in it is followed.

    Raises:
        UsageError: it is no zip file, holds no cells or those of several folders, or too much.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            left = MOST_BYTES
            for entry in entries_of_cells(archive):
                with archive.open(entry) as stream:
                    content = stream.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise UsageError(
                        f"{file.name} unpacks to more than {MOST_BYTES >> 20} MB of cells."
                    )
                (folder / PurePosixPath(entry.filename).name).write_bytes(content)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UsageError(f"{file.name} is no zip file that can be read ({error}).") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or of another compression
        raise UsageError(f"{file.name} cannot be unpacked ({error}).") from None


def entries_of_cells(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the entries of a zip file that are cells by their names.

    Raises UsageError where there are none, too many, or those of several folders.
    """
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise UsageError(f"The zip file has {len(entries):,} entries; give {MOST_ENTRIES:,}.")
    cells, folders = [], set()
    for entry in entries:
        path = PurePosixPath(entry.filename)
        is_hidden = path.name.startswith(".") or "__MACOSX" in path.parts
        if path.match("*--*--*.json") and not is_hidden:
            cells.append(entry)
            folders.add(path.parent)

    if not cells:
        raise UsageError(
            "The zip file holds no cells <task>--<arm>--<seed>.json; zip the output folder of "
            "`synpre run CONFIG.yaml`."
        )
    if len(folders) > 1:
        names = in_message(sorted(map(str, folders)))
        raise UsageError(f"The zip file holds cells in several folders ({names}); zip one of them.")
    if len(cells) > MOST_CELLS:
        raise UsageError(f"The zip file holds {len(cells):,} cells; give up to {MOST_CELLS:,}.")
    return cells
