"""Python's standard library -> the text of its source files, and rows (source, syntax tree)."""

import ast
import sysconfig
import warnings
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa

# Folders of the library that hold no source of its own, or tests.
SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "__pycache__",
    "lib2to3",
    "config",
}
# Fields of syntax trees that the source does not show, or that not every Python version has.
HIDDEN_FIELDS = {"ctx", "type_comment", "kind", "type_params"}
# Of 12 files one is validation, one is test; the remainder of the hash of a file's name says which.
SPLIT_FILES = 12
SPLIT_OF_REMAINDER = {0: "validation", 1: "test"}
# What shows nothing of syntax.
SINGLE = ast.Name | ast.Constant | ast.JoinedStr
SCHEMA = pa.schema([("source", pa.string()), ("tree", pa.string())])


def s_expression(node: object) -> str:
    """Return a syntax tree as an S-expression: `f(1)` is `(Call f [1] [])`.

    Names and constants are written as they are, None as `-`.
    """
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.AST):
        parts = [type(node).__name__]
        for name in node._fields:
            if name not in HIDDEN_FIELDS:
                parts.append(s_expression(getattr(node, name, None)))
        return "(" + " ".join(parts) + ")"
    if isinstance(node, list):
        return "[" + " ".join(map(s_expression, node)) + "]"
    return "-" if node is None else str(node)


@cache
def source_files() -> dict[Path, int]:
    """Return the library's source files without its tests -> the hash of the name, in its order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    hashes = {}
    for file in root.rglob("*.py"):
        name = file.relative_to(root)
        if not SKIPPED_FOLDERS & set(name.parts):
            hashes[file] = zlib.crc32(name.as_posix().encode())
    return dict(sorted(hashes.items(), key=lambda item: item[1]))


def texts(split: str) -> Iterator[str]:
    """Yield the text of every source file of a split: train, validation or test."""
    for path, name_hash in source_files().items():
        remainder = name_hash % SPLIT_FILES
        if SPLIT_OF_REMAINDER.get(remainder, "train") == split:
            yield path.read_text(encoding="utf-8", errors="replace")


def fragments(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield the one-line statements and expressions of a module, but for single names and values.

    Args:
        text: the source of the module.
        shortest: the fewest characters of a fragment.
        longest: the most characters of a fragment.
    """
    lines = text.encode().splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt | ast.expr) or isinstance(node, SINGLE):
            continue
        if node.lineno != node.end_lineno:
            continue

        # Columns count bytes.
        line = lines[node.lineno - 1][node.col_offset : node.end_col_offset]
        fragment = line.decode(errors="replace")
        if shortest <= len(fragment) <= longest:
            yield fragment


def parse_row(fragment: str) -> tuple[str, str] | None:
    """Return (source, tree) of a fragment.

    Return None if it cannot be parsed alone, or is only a name, constant or f-string.
    """
    try:
        statements = ast.parse(fragment).body
    except (SyntaxError, ValueError):
        return None
    if len(statements) != 1:
        return None

    node: ast.AST = statements[0]
    if isinstance(node, ast.Expr):
        node = node.value
    if isinstance(node, SINGLE):
        return None
    return fragment, s_expression(node)


def syntax_trees(shortest: int = 8, longest: int = 60) -> dict[str, pa.Table]:
    """Return split -> rows (source, tree) of one-line fragments of the library.

    A fragment of an earlier split (train, validation, test) is in no later one.

    Args:
        shortest: the fewest characters of a fragment.
        longest: the most characters of a fragment.
    """
    tables = {}
    earlier: set[str] = set()
    with warnings.catch_warnings():
        # The library's own old escapes.
        warnings.simplefilter("ignore", SyntaxWarning)
        for split in ("train", "validation", "test"):
            # A dict keeps the order in which fragments come, each once.
            split_fragments: dict[str, None] = {}
            for text in texts(split):
                split_fragments.update(dict.fromkeys(fragments(text, shortest, longest)))

            rows = [parse_row(fragment) for fragment in split_fragments if fragment not in earlier]
            columns = zip(*[row for row in rows if row is not None], strict=True)
            arrays = [pa.array(column, pa.string()) for column in columns]
            tables[split] = pa.table(arrays, schema=SCHEMA)
            earlier.update(split_fragments)
    return tables
