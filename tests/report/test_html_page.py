"""report.html: one file without anything from elsewhere; names are shown, tables can be sorted.

Run: pytest tests/report/test_html_page.py
"""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from simulated_cells import make_cell, make_experiment, save

from hf_synpre.report import write_report

CHROMIUM = shutil.which("chromium")
HTML = "<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page with their attributes, and the texts of its cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data

    def attributes(self, name):
        """Return the values of an attribute on the page."""
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a report with an arm whose name is HTML."""
    cells = make_experiment({"random": 0.1, "natural": 0.4, "synthetic": 0.25})
    cells += [make_cell(arm=HTML, seed=seed, score=0.3) for seed in (0, 1)]
    folder = save(tmp_path_factory.mktemp("report"), cells)
    write_report(folder)
    return folder


def test_the_page_has_all_that_it_shows(report):
    text = (report / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    markdown = (report / "report.md").read_text(encoding="utf-8")
    images = page.attributes("src")
    assert len(images) == len(re.findall(r"!\[", markdown)) > 0
    assert all(image.startswith("data:image/svg+xml;base64,") for image in images)
    assert not page.attributes("href")
    assert [tag for tag, _ in page.tags].count("table") == len(
        re.findall(r"^\| ---", markdown, re.M)
    )


def test_a_name_that_is_html_is_shown_and_not_obeyed(report):
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    assert not page.attributes("onerror")
    assert HTML in [cell.strip() for cell in page.cells]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
def test_a_click_sorts_a_table(report, tmp_path):
    text = (report / "report.html").read_text(encoding="utf-8")
    click = "<script>document.querySelectorAll('th button')[1].click()</script></body>"
    (tmp_path / "clicked.html").write_text(text.replace("</body>", click), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    dom = subprocess.run(
        [*command, f"file://{tmp_path / 'clicked.html'}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    table = dom.split("</table>")[0]
    assert re.findall(r"<td>([^<]+)</td>", table)[0] == "natural"
    assert 'aria-sort="descending"' in table
