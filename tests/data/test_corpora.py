"""Corpora: the train split without rows of other splits, its orders, files and folders.

Run: pytest tests/data/test_corpora.py
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from encoder_examples import labelled, sentence

from hf_synpre import UsageError
from hf_synpre.data import cache, corpora
from hf_synpre.data.corpora import dataset_corpus, open_corpus
from hf_synpre.data.splits import guess_columns
from hf_synpre.data.text_spec import TextSpec


def test_a_corpus_is_the_train_split_without_rows_of_others(labelled_dataset, labelled_corpus):
    metadata, train = labelled_corpus.metadata, list(labelled_corpus.texts("train"))
    assert metadata["columns"] == ["text"]
    assert metadata["dropped_rows_of_other_splits"] == 1
    assert metadata["checked_against"] == {"test": 20}
    assert metadata["rows"] + metadata["held_out_rows"] == 199
    assert metadata["bytes"] == sum(map(len, train))
    documents = {" ".join(text.casefold().split()) for text in train}
    assert not documents & {" ".join(text.casefold().split()) for text in labelled(200, 20)["text"]}
    assert not set(labelled_corpus.texts("validation")) & set(train)


def test_a_leaked_row_is_an_error(labelled_dataset, monkeypatch):
    monkeypatch.setattr(
        corpora,
        "hold_out",
        lambda rows, hashes, text: (np.arange(len(hashes)), rows[:1]),  # row 7 is one of test
    )
    with pytest.raises(UsageError, match="the corpus holds a row of another split: '"):
        open_corpus(str(labelled_dataset), text=TextSpec())


def test_the_text_of_other_splits_comes_in_only_when_asked_and_is_named(
    labelled_dataset, labelled_corpus
):
    ablation = open_corpus(str(labelled_dataset), text=TextSpec(with_test=True)).metadata
    assert ablation["with_test"]
    assert ablation["rows"] + ablation["held_out_rows"] == 220
    assert ablation["checked_against"] == {}
    assert not labelled_corpus.metadata["with_test"]


def test_columns_that_look_like_text_are_guessed():
    rows = Dataset.from_dict(
        {
            "id": ["a b c", "d e f"],
            "premise": ["it rains today", "we go home"],
            "endings": [["one two", "three four"], ["five six", "seven eight"]],
            "tokens": [["a", "cat"], ["a", "dog"]],
            "label": [0, 1],
            "kind": ["x", "y"],
        }
    )
    assert guess_columns(rows) == ["premise", "endings", "tokens"]
    text = dataset_corpus(DatasetDict(train=rows), TextSpec())
    all_texts = [*text.texts("train"), *text.texts("validation")]
    assert sorted(all_texts) == sorted(
        [
            "it rains today",
            "one two",
            "three four",
            "a cat",
            "we go home",
            "five six",
            "seven eight",
            "a dog",
        ]
    )


def test_duplicates_and_orders(monkeypatch):
    rows = Dataset.from_dict(
        {"context": ["one two. three four."] * 20, "question": [f"what is {i}?" for i in range(20)]}
    )
    once = dataset_corpus(rows, TextSpec(deduplicate=True))
    assert list(once.texts("train")).count("one two. three four.") == 1
    assert once.metadata["duplicates_dropped"] == once.metadata["rows"] - 1
    natural, shuffled = (
        list(dataset_corpus(rows, TextSpec(order=o)).texts("train"))
        for o in ("natural", "shuffled_rows")
    )
    assert natural != shuffled
    assert sorted(natural) == sorted(shuffled)
    monkeypatch.setattr(corpora, "SENTENCES_A_TABLE", 7)
    monkeypatch.setattr(cache, "MOST_TABLE_BYTES", 300)
    sentences = list(dataset_corpus(rows, TextSpec(order="shuffled_sentences")).texts("train"))
    parts = [part for text in natural for part in text.replace(". ", ".|").split("|")]
    assert sentences == [parts[i] for i in np.random.default_rng(0).permutation(len(parts))]
    assert sentences.count("three four.") == sentences.count("one two.") == once.metadata["rows"]
    both = dataset_corpus(rows, TextSpec(order="shuffled_sentences", deduplicate=True))
    assert both.metadata["duplicates_dropped"] == once.metadata["duplicates_dropped"]
    first, any_rows = (
        dataset_corpus(rows, TextSpec(limit_mb=1e-4, order=o)) for o in ("natural", "shuffled_rows")
    )
    assert first.metadata["bytes"] <= 200
    assert list(first.texts("train"))[-1] < "what is 5?"
    assert set(first.texts("train")) != set(any_rows.texts("train"))  # shuffled before it is cut


def test_the_held_out_loss_is_of_texts_that_are_not_trained_on():
    contexts = [f"context {i // 5} of five" for i in range(100)]
    rows = Dataset.from_dict(
        {"context": contexts, "question": [f"what is {i}?" for i in range(100)]}
    )
    text = dataset_corpus(rows, TextSpec(held_out=0.1))
    assert len(list(text.texts("validation"))) >= text.metadata["held_out_rows"] == 10
    assert not set(text.texts("validation")) & set(text.texts("train"))


@pytest.mark.parametrize(
    ("splits", "text", "message"),
    [
        ({"test": labelled(0, 4)}, TextSpec(), "pets has no train split; it has test"),
        (
            {"train": {"label": [0, 1]}},
            TextSpec(),
            "No column looks like text among label; name them as columns",
        ),
        (
            {"train": labelled(0, 4)},
            TextSpec(["txt"]),
            "Column txt is not in the dataset; it has text, label",
        ),
        (
            {"train": labelled(0, 4)},
            TextSpec(["label"]),
            "Column label holds whole numbers; a corpus is made of text",
        ),
        ({"train": {"text": ["", " "]}}, TextSpec(["text"]), "an empty corpus"),
        (
            {"train": {"text": ["all of it in one row", ""]}},
            TextSpec(),
            "one row with text, and one is held out for a loss",
        ),
    ],
)
def test_bad_datasets_are_refused_in_one_line(splits, text, message):
    splits = DatasetDict({name: Dataset.from_dict(columns) for name, columns in splits.items()})
    with pytest.raises(UsageError, match=message):
        dataset_corpus(splits, text, "pets")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": 0.0}, "held_out is 0.0; give the share"),
        ({"order": "shuffled"}, "Did you mean 'shuffled_rows'"),
        ({"limit_mb": -1.0}, "limit_mb is -1.0; give a number > 0"),
        ({"columns": ["a", "a"]}, "columns is .*; name every column once"),
    ],
)
def test_bad_recipes_of_text_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        TextSpec(**fields)


def test_a_folder_of_parquet_is_a_corpus(tmp_path):
    (tmp_path / "data").mkdir()
    pq.write_table(
        pa.table({"id": [1, 2], "text": ["one", "two"]}), tmp_path / "data" / "train-0.parquet"
    )
    corpus = open_corpus(str(tmp_path))
    assert list(corpus.texts("train")) == ["one", "two"]
    message = r"has no validation split \(it has train\); put some of its files into a folder valid"
    for read in (lambda: list(corpus.texts("validation")), lambda: corpus.size("validation")):
        with pytest.raises(UsageError, match=message):
            read()
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "data" / "test-0.parquet")
    with pytest.raises(UsageError, match="the column id holds whole numbers, no text"):
        list(corpus.texts("test"))


def test_files_are_datasets_too(tmp_path):
    (tmp_path / "rows.csv").write_text(
        "text,label\n" + "".join(f"{sentence(i)},{i % 2}\n" for i in range(30))
    )
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"text": sentence(i)}) + "\n" for i in range(30))
    )
    sizes = {
        name: open_corpus(str(tmp_path / name), text=TextSpec()).metadata["bytes"]
        for name in ("rows.csv", "rows.jsonl")
    }
    assert len(set(sizes.values())) == 1
    (tmp_path / "rows.xml").write_text("<a/>")
    with pytest.raises(
        UsageError,
        match=r"rows.xml is no dataset; give a folder in Hub layout or a file: .parquet, .csv",
    ):
        open_corpus(str(tmp_path / "rows.xml"), text=TextSpec())


def test_an_empty_text_file_gives_no_text_and_is_named(tmp_path, caplog):
    texts = [f"line {i}" for i in range(100)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    (tmp_path / "b.txt").write_text("")
    corpus = open_corpus(str(tmp_path), text=TextSpec())
    assert set(corpus.texts("train")) <= set(texts)
    assert f"{tmp_path / 'b.txt'} is empty, so it gives no text." in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "empty.jsonl",
            b"",
            "cannot be read as a dataset: it is empty; give a file that has rows.",
        ),
        ("empty.csv", b"", "cannot be read as a dataset: it is empty; give a file that has rows."),
        (
            "latin.txt",
            "Stra\xdfe\n".encode("latin-1") * 9,
            "latin.txt cannot be read as a dataset: its bytes are no utf-8 text",
        ),
        (
            "ragged.csv",
            b"text,label\na b c,0,1\nd e f,1,0\n",
            "line 2 and the header differ in their number of fields, 3 and 2; save it",
        ),
        (
            "other.csv",
            b"text;label\na b c;0\nd e f;1\n",
            "has the columns text;label: .* save it with commas",
        ),
    ],
)
def test_files_that_are_no_table_of_text_say_why(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        open_corpus(str(tmp_path / name), text=TextSpec())
