"""The Markdown of a report -> report.html, one file that any browser shows without a network."""

import base64
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt

from hf_synpre.report.render import TEMPLATES

IMAGE = re.compile(r'<img src="([\w.]+)\.png"')


def html_page(title: str, text: str, plots: Mapping[str, bytes]) -> str:
    """Return the page of a report: its tables can be sorted, its plots are within the file.

    Args:
        title: the name of the experiment.
        text: report.md. HTML in it is shown, not obeyed.
        plots: the files of the plots, of which the SVGs are taken.
    """
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    values: dict[str, Any] = {"title": title, "body": report_body(text, plots)}
    return environment.get_template("report.html.jinja").render(values)


def report_body(text: str, plots: Mapping[str, bytes]) -> str:
    """Return what stands between head and foot of the page of a report.

    Args:
        text: report.md. HTML in it is shown, not obeyed.
        plots: the files of the plots, of which the SVGs are taken.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")

    def embedded(match: re.Match[str]) -> str:
        content = base64.b64encode(plots[f"{match[1]}.svg"]).decode()
        return f'<img src="data:image/svg+xml;base64,{content}"'

    return IMAGE.sub(embedded, reader.render(text))
