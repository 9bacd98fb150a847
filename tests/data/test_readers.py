"""Readers: dialects of files, encodings, compression, splits of folders, bounds.

Run: pytest tests/data/test_readers.py
"""

import bz2
import contextlib
import gzip
import json
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from hf_synpre import UsageError
from hf_synpre.data import text_files
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.folders import split_files
from hf_synpre.data.splits import guess_columns, open_splits
from hf_synpre.data.text_spec import TextSpec
from hf_synpre.files import LFS_POINTER

POINTERS = ("a.csv", "a.txt", "a.jsonl", "a.parquet")
VIEWS_IN_A_STRUCT = pa.struct([("a", pa.list_view(pa.string_view()))])


def read(folder, name, content):
    """Write a file, and return its rows as columns."""
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_splits(str(file))["train"][:]


def zstandard(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


# --- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding, tmp_path):
    rows = read(tmp_path, "rows.csv", "text,label\nänder das,1\n".encode(encoding))
    assert rows == {"text": ["änder das"], "label": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one two\n".encode("utf-16-le"), "UTF-16 without a byte-order mark; save it as UTF-8"),
        ("Stra\xdfe\n".encode("latin-1"), "no utf-8 text .*, byte 0xdf.; save it as UTF-8"),
        ("text".encode("utf-16") + b"\0", "no utf-16"),
    ],
)
def test_bytes_that_are_no_text_are_refused(content, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, "rows.txt", content)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard)],
)
def test_compressed_text_is_read_and_half_of_it_refused(suffix, pack, tmp_path):
    content = "".join(f'{{"text": "line {i * 7919}"}}\n' for i in range(50)).encode()
    packed = pack(content)
    assert len(read(tmp_path, "rows.jsonl" + suffix, packed)["text"]) == 50
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path, "half.jsonl" + suffix, packed[: len(packed) // 2])


def test_what_a_file_unpacks_to_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MOST_BYTES", 100_000)
    with pytest.raises(UsageError, match="bytes and unpacks to more than 100,000"):
        read(tmp_path, "rows.txt.gz", gzip.compress(b"word " * 100_000))
    pq.write_table(pa.table({"text": ["word " * 1000] * 3000}), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=r"bytes and unpacks to more than [0-9,]+; give"):
        open_splits(str(tmp_path / "rows.parquet"))


# --- separated values -----------------------------------------------------------------------------


def test_words_for_nothing_are_text_among_text_and_missing_among_numbers(tmp_path):
    rows = read(
        tmp_path,
        "rows.csv",
        "label,count,share,date,flag,code\n"
        "None,1,1.5,1815-12-10,True,007\nNA,NA,nan,1816-01-01,false,10\n",
    )
    assert rows == {
        "label": ["None", "NA"],
        "count": [1, None],
        "share": [1.5, None],
        "date": ["1815-12-10", "1816-01-01"],
        "flag": [True, False],
        "code": ["007", "10"],
    }


@pytest.mark.parametrize(("name", "separator"), [("rows.tsv", "\t"), ("rows.csv", ",")])
def test_no_row_vanishes_between_two_quotation_marks(name, separator, tmp_path, caplog):
    lines = [f"row {i}{separator}{i}" for i in range(9)]
    lines[2], lines[6] = f'"one opens{separator}2', f'closes here"{separator}6'
    rows = read(tmp_path, name, f"text{separator}number\n" + "\n".join(lines))
    assert rows["number"] == list(range(9))
    assert rows["text"][2] == '"one opens'
    assert "quotation marks are read as characters" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.csv", 'text,n\n"a, b",0\n"two\nlines ""q""",1\n', ["a, b", 'two\nlines "q"']),
        ("b.csv", 'text,n\n"a \\"b\\", c",0\n"d",1\n', ['a "b", c', "d"]),
        ("c.tsv", 'text\tn\n"a\tb"\t0\n"two\nlines ""q"""\t1\n', ["a\tb", 'two\nlines "q"']),
        ("d.tsv", 'text\tn\n"Hello there."\t0\nhe "said" so\t1\n', None),
        ("e.tsv", '"text"\t"n"\n"Hello there."\t"0"\n', ["Hello there."]),
    ],
)
def test_quoted_escaped_and_plain_tables_are_told_apart(name, content, texts, tmp_path):
    rows = read(tmp_path, name, content)
    assert rows["text"] == (texts or ['"Hello there."', 'he "said" so'])
    assert rows["n"] == list(range(len(rows["text"])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text,n\n"a "b, c",0\n', "a quotation mark before line 2 is not closed or not doubled"),
        ("text,n\nabc\n", "line 2 and the header differ in their number of fields, 1 and 2"),
        ("text,text\na,b\n", "several columns named text"),
        ("3,Wall St. Bears Claw Back\n1,It goes on and on\n", "has no header: its first line is 3"),
        ("sep=,\na,b\n1,2\n", "has no header: its first line is sep="),
        ("<!DOCTYPE html>\n<html></html>\n", "has no header: its first line is <!DOCTYPE"),
    ],
)
def test_broken_tables_are_refused(content, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, "rows.csv", content)


# --- JSON and Arrow -------------------------------------------------------------------------------


def test_json_keeps_texts_as_they_are_written(tmp_path, caplog):
    rows = [{"text": "1815-12-10", "n": 1}, {"text": "1816-01-01"}]
    expected = {"text": ["1815-12-10", "1816-01-01"], "n": [1, None]}
    assert read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))) == expected
    assert read(tmp_path, "a.json", json.dumps(rows)) == expected
    assert read(tmp_path, "b.json", json.dumps(expected)) == expected
    assert read(tmp_path, "b.jsonl", '{"n": 1}\n{"n": "x"}\n') == {"n": ["1", "x"]}
    assert "column n has values of several types" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text"\n', "a.jsonl line 2 cannot be read as JSON"),
        ("a.jsonl", "[1]\n", "holds list; give an object a row"),
        ("a.jsonl", "[" * 50_000, "nested too deep"),
        ("a.json", "[" * 50_000, "nested too deep"),
        ("a.json", '{"version": 1, "data": [{"a": 1}]}', "whose key data has a list of objects"),
        ("a.json", '{"data": [{"a": 1}]}', "whose key data has a list of objects"),
        ("a.json", '{"text": {"0": "a"}, "n": {"0": 1}}', "holds an object of objects"),
        ("a.json", '{"columns": ["a"], "data": [["b"]]}', "columns apart from the rows"),
        *((name, f"{LFS_POINTER.decode()}v1\noid", "is a pointer of Git LFS") for name in POINTERS),
        ("a.jsonl", '{"text": "\\ud800"}', "half of a surrogate pair"),
        ("a.parquet", "x", "a.parquet cannot be read as a dataset"),
        ("a.xlsx", "x", "a.xlsx is no dataset; give a folder in Hub layout or a file"),
    ],
)
def test_other_broken_files_are_refused(name, content, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, name, content)


def test_arrows_types_of_text_and_lists_are_one_each(tmp_path):
    table = pa.table(
        {
            "view": pa.array(["x y", "z"], pa.string_view()),
            "large": pa.array(["x y", "z"], pa.large_string()),
            "category": pa.array(["x y", "z"]).dictionary_encode(),
            "pair": pa.array([["a", "b"]] * 2, pa.list_(pa.string(), 2)),
            "list": pa.array([["a"], ["b"]], pa.large_list(pa.string_view())),
            "list view": pa.array([["a"], ["b", "c"]], pa.list_view(pa.string_view())),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = open_splits(str(tmp_path / "rows.parquet"))["train"]
    types = [str(column.type) for column in rows.data.table.columns]
    assert types == ["string"] * 3 + ["list<item: string>"] * 3
    assert rows["list view"][:] == [["a"], ["b", "c"]]
    assert rows["view"][:] == rows["category"][:] == ["x y", "z"]


def test_a_column_of_a_type_that_is_not_known_is_left_out_and_the_others_are_read(tmp_path, caplog):
    views = pa.array(["x", "y"], pa.string_view())
    table = pa.table(
        {
            "category": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), views),
            "facts": pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int8())),
            "parts": pa.array([{"a": ["b", "c"]}] * 3, VIEWS_IN_A_STRUCT),
        }
    )
    feather.write_feather(table, str(tmp_path / "rows.arrow"))
    rows = open_splits(str(tmp_path / "rows.arrow"))["train"]
    assert rows.to_dict() == {"category": ["x", "y", "x"], "parts": [{"a": ["b", "c"]}] * 3}
    assert "the column facts is left out: Arrow type map" in caplog.text
    feather.write_feather(table.select(["facts"]), str(tmp_path / "rows.arrow"))
    with pytest.raises(UsageError, match=r"no column has a type that can be read; it has facts"):
        open_splits(str(tmp_path / "rows.arrow"))


def test_broken_arrow_files_never_end_the_process(tmp_path):
    table = pa.table({"text": ["a b c", "d e f"] * 9, "numbers": [[1], [2, 3]] * 9})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pa.ipc.new_file(str(tmp_path / "rows.arrow"), table.schema) as writer:
        writer.write_table(table)
    draws = np.random.default_rng(0)
    for name in ("rows.parquet", "rows.arrow"):
        content = (tmp_path / name).read_bytes()
        for _ in range(60):
            broken = bytearray(content)
            for position in draws.integers(len(broken), size=3):
                broken[position] = draws.integers(256)
            with contextlib.suppress(UsageError):
                read(tmp_path, name, bytes(broken))
    twice = pa.table([["a"], ["b"]], names=["text", "text"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(UsageError, match="several columns named text"):
        open_splits(str(tmp_path / "twice.parquet"))
    # The datasets library ends a name at the character 0.
    (tmp_path / "rows.jsonl").write_text('{"a": {"": 1, "\\u0000b": 2}}\n')
    with pytest.raises(UsageError, match="no column has a type that can be read; it has a"):
        open_splits(str(tmp_path / "rows.jsonl"))


def test_text_without_blanks_between_words_is_text(tmp_path):
    lines = []
    for text, kind in (("今天天气很好，我们去公园玩。", "体育"), ("วันนี้อากาศดีมาก", "娱乐新闻")):
        lines.append(json.dumps({"body": text, "kind": kind}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert guess_columns(open_splits(str(tmp_path / "rows.jsonl"))["train"]) == ["body"]


# --- folders --------------------------------------------------------------------------------------


def make_folder(folder, *names, header=None):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text\nsome words here\n")
    if header:
        (folder / "README.md").write_text(f"---\n{header}\n---\n")


def found(folder, config=None):
    splits = split_files(folder, config)
    return {split: [file.name for file in files] for split, files in splits.items()}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("Train.csv", "Test.csv"), {"train": ["Train.csv"], "test": ["Test.csv"]}),
        (
            ("train_1.csv", "train_2.csv", "DEV.csv"),
            {"train": ["train_1.csv", "train_2.csv"], "validation": ["DEV.csv"]},
        ),
        (("trainData.csv", "testset.csv"), {"train": ["trainData.csv"], "test": ["testset.csv"]}),
        (("train/a.csv", "val/b.csv"), {"train": ["a.csv"], "validation": ["b.csv"]}),
        (
            ("data/train-00000-of-00001.csv", "data/matched-00000-of-00001.csv"),
            {
                "train": ["train-00000-of-00001.csv"],
                "matched": ["matched-00000-of-00001.csv"],
            },
        ),
        (
            ("train.csv", "._train.csv", ".ipynb_checkpoints/train-checkpoint.csv", ".DS_Store"),
            {"train": ["train.csv"]},
        ),
        (("rows[1].csv", "LICENSE.txt"), {"train": ["rows[1].csv"]}),
    ],
)
def test_names_of_files_say_their_split(names, splits, tmp_path):
    make_folder(tmp_path, *names)
    assert found(tmp_path) == splits


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("mytrain.csv", "mytest.csv"), "cannot be told from their names; call them train"),
        (("train.csv", "train.jsonl"), "files of several formats, train.csv, train.jsonl"),
        (("train.csv", "train.csv.gz"), "a file packed and unpacked"),
        (("train_vs_test.csv",), "named after the splits test and train"),
        (("a.md",), "has no file of data"),
    ],
)
def test_splits_that_cannot_be_told_are_refused(names, message, tmp_path):
    make_folder(tmp_path, *names)
    with pytest.raises(UsageError, match=message):
        split_files(tmp_path)


def test_what_a_readme_names_is_read_and_only_inside_its_folder(tmp_path):
    config = "configs:\n- config_name: {}\n  data_files: {}"
    make_folder(tmp_path / "d", "a/x.csv", "b/y.csv", header=config.format("one", "a/*"))
    (tmp_path / "secret.csv").write_text("text\nsecret\n")
    assert found(tmp_path / "d") == {"train": ["x.csv"]}
    for outside in ("../secret.csv", tmp_path / "secret.csv", "a/../../secret.csv"):
        make_folder(tmp_path / "d", header=config.format("one", outside))
        with pytest.raises(UsageError, match="outside of its folder"):
            split_files(tmp_path / "d")
    two = "\n- config_name: two\n  data_files:\n  - split: dev\n    path: b/**"
    make_folder(tmp_path / "d", header=config.format("one", "a/x.csv") + two)
    assert found(tmp_path / "d", "two") == {"dev": ["y.csv"]}
    with pytest.raises(UsageError, match="has the configurations one, two; none was given"):
        split_files(tmp_path / "d")
    bomb = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9))
    make_folder(tmp_path / "d", header=f"a0: &a0 [1, 2]\n{bomb}")
    with pytest.raises(UsageError, match="has more than 50,000 values"):
        split_files(tmp_path / "d")


def test_a_split_of_a_readme_that_names_no_file_is_refused(tmp_path):
    header = "configs:\n- data_files: [{split: train, path: []}]"
    make_folder(tmp_path, "data/train.csv", header=header)
    with pytest.raises(UsageError, match="has no files of rows; name some, or leave the split"):
        open_splits(str(tmp_path))


def test_a_readmes_pattern_means_files_of_data_and_its_splits_may_have_capitals(tmp_path):
    names = ("x.csv", "config.json", "picture.jpg")
    make_folder(tmp_path, *names, header="configs:\n- data_files: {TRAIN: '**'}")
    assert found(tmp_path) == {"train": ["x.csv"]}


def test_types_that_a_readme_describes_are_kept(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na b,0\n")
    header = (
        "dataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n"
        "    dtype:\n      class_label:\n        names:\n          '0': neg\n          '1': pos"
    )
    make_folder(tmp_path, header=header)
    assert open_splits(str(tmp_path))["train"].features["label"].names == ["neg", "pos"]


def test_test_files_in_capitals_are_not_trained_on(tmp_path):
    for name, words in (("Train", "to train on"), ("Test", "kept apart")):
        lines = [f"sentence {i} {words}" for i in range(20)]
        (tmp_path / f"{name}.csv").write_text("text\n" + "\n".join(lines))
    metadata = open_corpus(str(tmp_path), text=TextSpec()).metadata
    assert metadata["rows"] + metadata["held_out_rows"] == 20
    assert metadata["checked_against"] == {"test": 20}


# --- corpora of documents -------------------------------------------------------------------------


def test_the_text_of_a_corpus_is_its_column_of_text(tmp_path, caplog):
    table = {
        "path": ["a.py", "b.py", "c.py"],
        "content": ["one two", None, ""],
    }  # only nulls are no documents
    pq.write_table(pa.table(table), tmp_path / "train-0.parquet")
    assert list(open_corpus(str(tmp_path)).texts("train")) == ["one two", ""]
    assert "the text is its column content" in caplog.text
    pq.write_table(pa.table({"path": ["a"], "code": ["b"]}), tmp_path / "train-0.parquet")
    with pytest.raises(UsageError, match=r"no column of text named text, .*; it has path, code\."):
        list(open_corpus(str(tmp_path)).texts("train"))


def test_a_folder_is_the_same_corpus_with_hidden_files(tmp_path):
    (tmp_path / "train.txt").write_bytes("eine Straße".encode("utf-16"))
    corpus = open_corpus(str(tmp_path))
    assert list(corpus.texts("train")) == ["eine Straße"]
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert open_corpus(str(tmp_path)).metadata == corpus.metadata
