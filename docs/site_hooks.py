"""Hooks of mkdocs: pages of the repository that are outside of docs/ become pages of the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# Page of the site -> the file of the repository that it shows.
SHOWN = {
    "results.md": "results/README.md",
    "log.md": "examples/LOG.md",
    "speed.md": "benchmarks/README.md",
    "gallery.md": "examples/GALLERY.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of SHOWN, and the pictures outside of docs/ that any page shows."""
    pictures: set[Path] = set()
    for page, source in SHOWN.items():
        text = site_text(ROOT / source, pictures)
        files.append(File.generated(config, page, content=text))
    for page in DOCS.glob("*.md"):
        site_text(page, pictures)
    for picture in sorted(pictures):
        place = str(picture.relative_to(ROOT))
        files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Let the links of a page of docs/ lead to pages of the site."""
    if page.file.src_uri in SHOWN:
        return markdown
    return site_links(markdown, DOCS, set())


def site_text(file: Path, pictures: set[Path]) -> str:
    """Return the text of a file of the repository with the links of the site."""
    return site_links(file.read_text(encoding="utf-8"), file.parent, pictures)


def site_links(text: str, folder: Path, pictures: set[Path]) -> str:
    """Return a text whose links into the repository are links of the site.

    A link to a file that the site does not show becomes its path, which a reader of the repository
    finds.

    Args:
        text: Markdown.
        folder: the folder that its links start from.
        pictures: pictures that it shows are added.
    """
    pages = {(ROOT / source).resolve(): page for page, source in SHOWN.items()}

    def on_site(match: re.Match[str]) -> str:
        words, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path:
            return match[0]
        file = (folder / path).resolve()
        if file in pages:
            return f"{words}({pages[file]}{hash_}{anchor})"
        if file.is_relative_to(DOCS):
            return f"{words}({file.relative_to(DOCS)}{hash_}{anchor})"
        if words.startswith("!"):
            pictures.add(file)
            return f"{words}({file.relative_to(ROOT)})"
        return f"{words[1:-1]} (`{file.relative_to(ROOT)}`)"

    return LINK.sub(on_site, text)
