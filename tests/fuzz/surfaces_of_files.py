"""Surfaces: files of text and of rows, the READMEs of datasets, cards."""

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from inputs import DOCUMENT, NUMBER, TEXT, as_json, edited, torn
from surface import Surface, run_command, text_file, write_readme

from hf_synpre.config import read_header, read_yaml
from hf_synpre.data.folders import split_files
from hf_synpre.data.readers import read_file
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.files import read_json
from hf_synpre.finetuning import choose_task, own_corpus
from hf_synpre.hub import rebuild

TABLE_TEXT = st.lists(
    st.lists(TEXT | NUMBER.map(str), max_size=4).map("\t".join) | TEXT, max_size=6
).map("\n".join)
BYTES = (
    st.binary(max_size=80)
    | TABLE_TEXT
    | TABLE_TEXT.map(lambda text: text.replace("\t", ","))
    | TABLE_TEXT.map(lambda text: text.encode("utf-16", "surrogatepass"))
    | DOCUMENT
)


def packed(text: str) -> bytes:
    """Return a text packed with gzip."""
    return gzip.compress(text.encode("utf-8", "surrogatepass"), mtime=0)


ROWS = [
    {"text": "the first of a few short texts", "label": "x"},
    {"text": "a second one that is as long", "label": "y"},
    {"text": "and here is the third of them", "label": "x"},
    {"text": "the fourth text ends the table", "label": "y"},
]


def many_rows() -> list[dict[str, Any]]:
    """Return rows enough to be held out of: different texts, two labels."""
    return [
        {"text": f"text number {k} of some that are there", "label": "xy"[k % 2]} for k in range(40)
    ]


def json_lines(rows: Any) -> str:
    """Return rows as JSON, a row a line."""
    return "\n".join(as_json(row) for row in (rows if isinstance(rows, list) else [rows]))


# --- Parquet --------------------------------------------------------------------------------------

ARROW_TYPES = st.recursive(
    st.sampled_from(
        [
            *(pa.string(), pa.large_string(), pa.binary(), pa.bool_(), pa.int8(), pa.int64()),
            *(pa.uint64(), pa.float16(), pa.float64(), pa.date32(), pa.timestamp("ns", "UTC")),
            *(pa.decimal128(38, 2), pa.null(), pa.dictionary(pa.int8(), pa.string())),
            *(pa.duration("s"), pa.string_view()),
        ]
    ),
    lambda types: (
        types.map(pa.list_)
        | types.map(pa.large_list)
        | types.map(lambda part: pa.list_(part, 2))
        | types.map(lambda part: pa.struct([("a", part)]))
        | types.map(lambda part: pa.map_(pa.string(), part))
    ),
    max_leaves=2,
)


@st.composite
def parquet(draw: st.DrawFn) -> bytes:
    """Return the bytes of a Parquet file: columns of any types, whole or torn."""
    names = draw(
        st.lists(st.sampled_from(["text", "label", "input_ids", "", "a.b", "é"]), max_size=3)
    )
    count = draw(st.sampled_from([0, 1, 3, 200]))
    columns = []
    for _ in names:
        kind = draw(ARROW_TYPES)
        values = draw(st.sampled_from([["a b", "c"], [1, 2], [True], [None], [[1], []], [0.5]]))
        values = [values[i % len(values)] for i in range(count)]
        try:
            columns.append(pa.array(values, kind))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            columns.append(pa.nulls(count, kind if pa.types.is_string(kind) else pa.string()))
    output = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_arrays(columns, names), output)
    except (pa.ArrowException, ValueError):
        pq.write_table(pa.table({"text": ["a"] * count}), output)
    return draw(torn(output.getvalue()) | st.just(output.getvalue()))


# --- cards and READMEs ----------------------------------------------------------------------------

CARD = {
    "synpre": {
        "configs": {
            "default": {
                "task": "set",
                "version": 1,
                "vocabulary": 128,
                "seed": 0,
                "parameters": {"min_length": 4, "max_length": 8},
                "splits": {"train": {"rows": 5, "ids": 50, "shards": 1, "sha256": "0" * 64}},
            }
        }
    }
}
README = {
    "configs": [
        {"config_name": "default", "data_files": [{"split": "train", "path": "train.csv"}]},
        {"config_name": "other", "data_dir": "data"},
    ],
    "dataset_info": {
        "features": [
            {"name": "text", "dtype": "string"},
            {"name": "label", "dtype": {"class_label": {"names": {"0": "a", "1": "b"}}}},
        ]
    },
}


def write_described(folder: Path, value: Any) -> None:
    """Write a folder of data that a README describes."""
    (folder / "data").mkdir()
    (folder / "train.csv").write_text("text,label\nx y z,0\nu v w,1\nx y w,0\nu v z,1\n")
    write_readme(folder, value)


def read_described(folder: Path, _: Any) -> None:
    """Look for the splits of a folder, and read its text."""
    split_files(folder)
    own_corpus(str(folder), None, TextSpec())


# --- rows of one's own ----------------------------------------------------------------------------


def write_rows(folder: Path, rows: Any) -> None:
    """Write rows as JSON lines."""
    (folder / "rows.jsonl").write_text(json_lines(rows))


def guess(folder: Path, _: Any) -> None:
    """Guess the task of rows, and read it."""
    choice = choose_task("rows.jsonl", {}, None)
    run_command("finetune", "rows.jsonl", "--output_dir", "output")
    assert choice.name


# Name -> surface.
FILES: dict[str, Surface] = {
    "YAML": text_file("a.yaml", read_yaml, DOCUMENT),
    "headers of READMEs": text_file(
        "a.md", read_header, DOCUMENT.map(lambda text: f"---\n{text}\n---\n")
    ),
    "JSON": text_file("a.json", read_json, DOCUMENT),
    "CSV": text_file("a.csv", read_file, BYTES),
    "TSV": text_file("a.tsv", read_file, BYTES),
    "text": text_file("a.txt", read_file, BYTES),
    "JSON lines": text_file("a.jsonl", read_file, edited(ROWS).map(json_lines) | DOCUMENT | BYTES),
    "JSON of rows": text_file("a.json", read_file, edited({"rows": ROWS}).map(as_json) | DOCUMENT),
    "packed text": text_file(
        "a.csv.gz", read_file, BYTES | TABLE_TEXT.map(packed) | TABLE_TEXT.map(packed).flatmap(torn)
    ),
    "Parquet": text_file("a.parquet", read_file, parquet()),
    "rows of one's own": Surface(
        st.tuples(edited(ROWS[0]), edited(ROWS)).map(
            lambda drawn: [drawn[0], *drawn[1], *many_rows()] if drawn[1] else drawn
        ),
        write_rows,
        guess,
        share=0.3,
    ),
    "READMEs of datasets": Surface(edited(README), write_described, read_described),
    "cards": Surface(edited(CARD), write_readme, lambda folder, _: rebuild(folder, say=str)),
}
