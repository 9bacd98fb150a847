"""Layer 1: the embedded data. Real Python source of the running interpreter's standard library, and its syntax trees."""

import ast
import sysconfig
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

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
HIDDEN_FIELDS = {"ctx", "type_comment", "kind", "type_params"}
SCHEMA = pa.schema([("source", pa.string()), ("tree", pa.string())])


def s_expression(node: object) -> str:
    """Write a syntax tree as an S-expression: `f(1)` is `(Call f [1] [])`; names and constants stand bare, None is `-`."""
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.AST):
        fields = [
            s_expression(getattr(node, f, None)) for f in node._fields if f not in HIDDEN_FIELDS
        ]
        return "(" + " ".join([type(node).__name__, *fields]) + ")"
    if isinstance(node, list):
        return "[" + " ".join(map(s_expression, node)) + "]"
    return "-" if node is None else str(node)


def source_files() -> list[Path]:
    """Return the standard library's source files that belong to no test suite, shuffled by the hashes of their names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return sorted(
        (p for p in root.rglob("*.py") if not SKIPPED_FOLDERS & set(p.relative_to(root).parts)),
        key=name_hash,
    )


def name_hash(path: Path) -> int:
    """Return the hash of a file's name within the library."""
    return zlib.crc32(path.relative_to(sysconfig.get_paths()["stdlib"]).as_posix().encode())


def texts(split: str) -> Iterator[str]:
    """Yield the text of every source file of a split (1 file in 12 is validation, 1 in 12 test); no other is read."""
    for path in source_files():
        if {0: "validation", 1: "test"}.get(name_hash(path) % 12, "train") == split:
            yield path.read_text(encoding="utf-8", errors="replace")


def fragments(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield the one-line statements and expressions of a module that have `shortest` to `longest` characters."""
    lines = text.encode().splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt | ast.expr) and node.lineno == node.end_lineno:
            piece = lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode(
                errors="replace"
            )
            if shortest <= len(piece) <= longest:
                yield piece


def parse_row(piece: str) -> tuple[str, str] | None:
    """Return (source, tree) of one fragment, or None where it does not stand alone or is a bare name or constant."""
    try:
        body = ast.parse(piece).body
    except (SyntaxError, ValueError):
        return None
    node = (
        body[0].value
        if len(body) == 1 and isinstance(body[0], ast.Expr)
        else body[0]
        if len(body) == 1
        else None
    )
    return (
        None
        if node is None or isinstance(node, ast.Name | ast.Constant | ast.JoinedStr)
        else (piece, s_expression(node))
    )


def syntax_trees(shortest: int = 8, longest: int = 60) -> dict[str, pa.Table]:
    """Return the rows (source, tree) of train, validation and test; a fragment of an earlier split is in no later one."""
    seen: set[str] = set()
    tables = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # the library's own old escapes
        for split in ("train", "validation", "test"):
            pieces = dict.fromkeys(
                piece for text in texts(split) for piece in fragments(text, shortest, longest)
            )
            rows = [row for row in map(parse_row, [p for p in pieces if p not in seen]) if row]
            tables[split] = pa.table(
                [pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=SCHEMA
            )
            seen.update(pieces)
    return tables
