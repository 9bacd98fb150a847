"""Render the tables of pages from JSON: `make readme`.

1. `PAGES`: each page, its blocks, and what makes them.
2. `render`: a page -> the page with today's text between the markers of its blocks.
"""

from pathlib import Path

from readme_audit import audited_laws
from readme_papers import (
    claims_of_krishna,
    claims_of_wu,
    gains_of_krishna,
    gains_of_wu,
    scores_of_own_task,
)
from readme_results import decoder, demo, results, table_of_findings
from readme_speed import speed
from readme_statistics import which_statistics
from readme_tasks import learnability

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- {}: begin (made by `make readme`) -->\n", "<!-- {}: end -->\n"

# Page -> the names of its blocks, and what makes each.
PAGES = {
    "README.md": {"demo": demo, "findings": table_of_findings},
    "results/README.md": {"results": results},
    "benchmarks/README.md": {"speed": speed},
    "docs/audit.md": {"laws": audited_laws},
    "docs/synthetic_tasks.md": {"learnability": learnability},
    "docs/decoders.md": {"decoder": decoder},
    "docs/statistics.md": {"which": which_statistics},
    "docs/own_task.md": {"scores": scores_of_own_task},
    "docs/wu_2022.md": {"claims": claims_of_wu, "gains": gains_of_wu},
    "docs/krishna_2022.md": {"claims": claims_of_krishna, "gains": gains_of_krishna},
}


def render(page: str) -> str:
    """Return the text of a page with today's blocks between their markers."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, block in PAGES[page].items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = before + begin + block() + "\n" + end + after
    return text


if __name__ == "__main__":
    for page in PAGES:
        rendered = render(page)
        (ROOT / page).write_text(rendered, encoding="utf-8")
