"""Documents: what docstrings and CONTRIBUTING point to is in the repository.

Run: pytest tests/test_documents.py
"""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "hf_synpre").rglob("*.py"))


def headings(page):
    return set(re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), flags=re.M))


def test_every_cited_heading_is_on_its_page():
    cited = set()
    for file in SOURCES:
        # A citation may be broken over two lines of a docstring or comment.
        text = re.sub(r"\n\s*#?\s*", " ", file.read_text())
        cited |= set(re.findall(r'(docs/\w+\.md), "([^"]+)"', text))
    assert cited, "no docstring cites docs/papers.md; the test looks for the wrong form"
    missing = [f"{page}, {heading}" for page, heading in cited if heading not in headings(page)]
    assert missing == []


def test_no_docstring_cites_a_document_that_is_not_here():
    pattern = r"\bspec, sections? \S+|(?<!examples/)LOG\.md"
    pointers = [
        f"{file.name}: {match}"
        for file in SOURCES
        for match in re.findall(pattern, file.read_text())
    ]
    assert pointers == []


def test_the_paths_that_contributing_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(
        r"`((?:hf_synpre|tests|docs|examples|benchmarks|dataset_scripts|model_cards)/[\w./-]*)`",
        text,
    )
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_page_of_options_is_made_from_the_dataclasses():
    spec = importlib.util.spec_from_file_location("options", ROOT / "docs" / "options.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render() == (ROOT / "docs" / "options.md").read_text(), "run `make options`"


def test_links_between_documents_lead_to_files():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
