"""Texts from cells, such as names and errors, made harmless for a terminal, Markdown, LaTeX, plots.

Names in a folder of results may come from anywhere. In a report they are text and nothing else: no
control sequence of a terminal, no HTML, no link, no command of TeX.
"""

import re
from typing import Any

from hf_synpre.errors import printable

# A name in a plot or a table of the terminal is cut after as many letters.
LONGEST_NAME = 40

MARKDOWN_SPECIAL = re.compile(r"[\\`*\[\]|~$^]|(?<![^\W_])_|_(?![^\W_])|(?<!\w)#")
HTML_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # at the start of a row it would be an argument of the row before
        "]": "{]}",
        "–": "--",
        "−": "$-$",
    }
)


class MarkdownText(str):
    """A text that is Markdown already: `escape_markdown` leaves it as it is."""

    __slots__ = ()


def short_name(text: str) -> str:
    """Return a name for a plot or a column of the terminal: printable, and cut if it is long."""
    text = printable(text)
    if len(text) > LONGEST_NAME:
        text = text[: LONGEST_NAME - 1] + "…"
    return text


def escape_markdown(value: Any) -> Any:
    """Return a text escaped for a line or a table of Markdown; other values as they are."""
    if isinstance(value, MarkdownText) or not isinstance(value, str):
        return value
    escaped = MARKDOWN_SPECIAL.sub(r"\\\g<0>", printable(value))
    return MarkdownText(escaped.translate(HTML_ESCAPES))


def markdown_code(text: str) -> MarkdownText:
    """Return a text as a code span of Markdown, whatever it holds."""
    text = printable(text)
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return MarkdownText(f"{fence}{padding}{text}{padding}{fence}")


def escape_latex(text: str) -> str:
    """Return a text escaped for LaTeX."""
    return printable(text).translate(LATEX_ESCAPES)
