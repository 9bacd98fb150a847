"""Corpora: the train split with its leak guard, windows cut end to end, hidden ids."""

import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from encoder_examples import labelled, sentence

from hf_synpre import UsageError
from hf_synpre.data import corpora as texts_module
from hf_synpre.data.corpora import TextSpec, dataset_corpus, open_corpus
from hf_synpre.data.masking import MaskedDataset
from hf_synpre.data.rows import IGNORED
from hf_synpre.data.splits import guess_columns
from hf_synpre.data.windows import EncoderRows, FullWindows


def test_a_corpus_is_the_train_split_without_rows_of_others(labelled_dataset, labelled_corpus):
    metadata, train = labelled_corpus.metadata, labelled_corpus.texts("train")
    assert metadata["columns"] == ["text"]
    assert metadata["dropped_rows_of_other_splits"] == 1
    assert metadata["checked_against"] == {"test": 20}
    assert metadata["rows"] + metadata["held_out_rows"] == 199
    assert metadata["bytes"] == sum(map(len, train))
    said = {" ".join(text.casefold().split()) for text in train}
    assert not said & {" ".join(text.casefold().split()) for text in labelled(200, 20)["text"]}
    assert not set(labelled_corpus.texts("validation")) & set(train)


def test_the_guard_speaks_where_a_row_has_slipped_in(labelled_dataset, monkeypatch):
    monkeypatch.setattr(
        texts_module,
        "hold_out",
        lambda rows, text: ([*rows, [labelled(200, 20)["text"][3]]], rows[:1]),
    )
    with pytest.raises(UsageError, match="the corpus holds a row of another split: '"):
        open_corpus(str(labelled_dataset), text=TextSpec())


def test_the_text_of_other_splits_comes_in_only_when_asked_and_is_named(
    labelled_dataset, labelled_corpus
):
    more = open_corpus(str(labelled_dataset), text=TextSpec(with_test=True)).metadata
    assert more["with_test"]
    assert more["rows"] + more["held_out_rows"] == 220
    assert more["checked_against"] == {}
    assert not labelled_corpus.metadata["with_test"]


def test_columns_are_guessed_by_what_they_say():
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
    found = dataset_corpus(DatasetDict(train=rows), TextSpec())
    all_texts = [*found.texts("train"), *found.texts("validation")]
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


def test_duplicates_and_orders():
    rows = Dataset.from_dict(
        {"context": ["one two. three four."] * 20, "question": [f"what is {i}?" for i in range(20)]}
    )
    once = dataset_corpus(rows, TextSpec(deduplicate=True))
    assert once.texts("train").count("one two. three four.") == 1
    assert once.metadata["duplicates_dropped"] == once.metadata["rows"] - 1
    natural, shuffled = (
        dataset_corpus(rows, TextSpec(order=o)).texts("train") for o in ("natural", "shuffled_rows")
    )
    assert natural != shuffled
    assert sorted(natural) == sorted(shuffled)
    sentences = dataset_corpus(rows, TextSpec(order="shuffled_sentences")).texts("train")
    assert sentences.count("three four.") == sentences.count("one two.") == once.metadata["rows"]
    both = dataset_corpus(rows, TextSpec(order="shuffled_sentences", deduplicate=True))
    assert both.metadata["duplicates_dropped"] == once.metadata["duplicates_dropped"]
    first, any_rows = (
        dataset_corpus(rows, TextSpec(limit_mb=1e-4, order=o)) for o in ("natural", "shuffled_rows")
    )
    assert first.metadata["bytes"] <= 200
    assert first.texts("train")[-1] < "what is 5?"
    assert set(first.texts("train")) != set(any_rows.texts("train"))  # shuffled before it is cut


def test_the_held_out_loss_is_of_texts_that_are_not_trained_on():
    contexts = [f"context {i // 5} of five" for i in range(100)]
    rows = Dataset.from_dict(
        {"context": contexts, "question": [f"what is {i}?" for i in range(100)]}
    )
    found = dataset_corpus(rows, TextSpec(held_out=0.1))
    assert len(found.texts("validation")) >= found.metadata["held_out_rows"] == 10
    assert not set(found.texts("validation")) & set(found.texts("train"))


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
            "Column label holds int64; a corpus is made of text",
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
    ],
)
def test_bad_recipes_of_text_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        TextSpec(**fields)


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "cannot be read as a dataset: it is empty"),
        (
            "latin.txt",
            "Stra\xdfe\n".encode("latin-1") * 9,
            "latin.txt cannot be read as a dataset: .*utf-8",
        ),
        (
            "ragged.csv",
            b"text,label\na b c,0,1\nd e f,1,0\n",
            "rows with more fields than the header",
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


# Windows and hidden ids.


def test_every_id_comes_once_an_epoch_in_a_new_order():
    tokens = np.arange(1003, dtype=np.int32)
    windows = FullWindows(tokens, size=10_000, length=64)
    assert windows.epoch_rows == 16
    epochs = [[windows[epoch * 16 + i] for i in range(16)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch).tolist()) == tokens.tolist()
        assert sorted(map(len, epoch)) == [43] + [64] * 15
    starts = [[int(window[0]) for window in epoch] for epoch in epochs]
    assert len({tuple(sorted(found)) for found in starts}) == 3
    again = FullWindows(tokens, size=20, length=64)
    assert all(np.array_equal(again[i], epochs[1][i - 16]) for i in (16, 19))
    whole = FullWindows(tokens, size=16, length=64, wrap=True)
    assert {len(whole[i]) for i in range(16)} == {64}


def test_a_corpus_shorter_than_a_window_is_refused(labelled_corpus, encoder_tokenizer):
    with pytest.raises(
        UsageError, match=r"The corpus has 10 ids, fewer than one window of 64; give more text"
    ):
        FullWindows(np.zeros(10, np.int32), size=1, length=64)


def test_rows_of_an_encoder_have_its_frame_and_two_segments():
    windows = FullWindows(np.arange(10, 510, dtype=np.int32), size=500, length=29)
    plain, pairs = (EncoderRows(windows, start=1, end=2, pairs=p) for p in (False, True))
    assert plain[0]["input_ids"].tolist() == [1, *windows[0].tolist(), 2]
    whole = 0
    for i in range(400):
        row = pairs[i]
        ids, types = row["input_ids"], row["token_type_ids"]
        assert ids[0] == 1
        assert ids[-1] == 2
        assert [t for t in ids.tolist() if t > 2] == windows[i].tolist()
        whole += not types.any()
        if types.any():
            assert ids[np.flatnonzero(types)[0] - 1] == 2
    assert 15 <= whole <= 70  # one in ten


@pytest.mark.parametrize(("masked", "random"), [(80, 10), (85, 0)])
def test_hidden_ids_are_fifteen_per_cent_anew_each_time(masked, random):
    ids = np.tile(np.arange(10, 60, dtype=np.int32), 4)
    ids[::20] = 2
    rows = [{"input_ids": ids, "segments": np.ones_like(ids)}] * 2000
    options = {
        "mask": 4,
        "regular_tokens": (10, 50),
        "special_tokens": (2,),
        "masked_percent": masked,
        "random_percent": random,
    }
    compact, full = (MaskedDataset(rows, compact=places, **options) for places in (True, False))
    counts, kept, changed = [], 0, 0
    for i in range(2000):
        row = compact[i]
        places, labels = row["masked_positions"], row["labels"]
        counts.append(len(places))
        assert np.array_equal(ids[places], labels)
        assert (labels != 2).all()
        now = row["input_ids"][places]
        kept += int((now == labels).sum())
        changed += int(((now != labels) & (now != 4)).sum())
        if i < 20:
            assert np.array_equal(np.flatnonzero(full[i]["labels"] != IGNORED), places)
            assert np.array_equal(full[i]["input_ids"], row["input_ids"])
    assert set(counts) <= {28, 29}
    assert np.mean(counts) == pytest.approx(0.15 * 190, abs=0.05)
    total = sum(counts)
    assert changed / total == pytest.approx(random / 100 * 49 / 50, abs=0.006)
    assert kept / total == pytest.approx(
        (100 - masked - random) / 100 + random / 100 / 50, abs=0.006
    )
    assert not np.array_equal(compact[0]["masked_positions"], compact[1]["masked_positions"])
