"""What published laws give, from the committed audit: `make readme`."""

import json
from pathlib import Path

from readme_results import markdown_table

from hf_synpre.audit.page import figure_table

ROOT = Path(__file__).parents[1]
# `synpre audit --output_dir results/audit` made it.
AUDIT = ROOT / "results" / "audit"


def audited_laws() -> str:
    """Return a section for each finding: what was assumed, what is measured, the plot."""
    sections = []
    for finding in json.loads((AUDIT / "audit.json").read_text())["findings"]:
        table = figure_table(finding["figures"])
        sections += [
            f"### {finding['title']}",
            f"Taken for: {finding['assumed']}",
            markdown_table(table.head, table.rows),
            f"![{finding['title']}](../results/audit/{finding['name']}.png)",
            f"{finding['meaning']} Source: {finding['source']}.",
        ]
    return "\n\n".join(sections)
