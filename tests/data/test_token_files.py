"""Token files: made once, whole or not at all, used again, and refused where they do not fit.

Run: pytest tests/data/test_token_files.py
"""

import errno
import itertools
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import arrow_dataset

from hf_synpre import UsageError
from hf_synpre.data import cache, encoding, readers, separated, text_progress, token_files
from hf_synpre.data.corpora import open_corpus
from hf_synpre.data.documents import ROWS_A_READ
from hf_synpre.data.encoding import document_parts
from hf_synpre.data.tokenizers import train_tokenizer
from hf_synpre.data.windows import FullWindows, TextWindows, encode_corpus
from hf_synpre.errors import TemporaryError
from hf_synpre.files import lock

DOCUMENTS = [f"the {i}th of two hundred short texts, {i * i} letters" for i in range(200)]
EOS = 1


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOCUMENTS, 400)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A corpus of a folder; a piece has ids of some documents, and a call encodes some of them."""
    monkeypatch.setenv("SYNPRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(token_files, "PIECE_IDS", 500)
    monkeypatch.setattr(encoding, "CHARACTERS_A_CORE", 300)
    monkeypatch.setattr(encoding, "MOST_CORES", 1)
    write_documents(tmp_path / "texts", DOCUMENTS)
    return tmp_path / "texts"


def write_documents(folder, documents):
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation"):
        pq.write_table(pa.table({"text": documents}), folder / f"{split}.parquet")


def read(corpus, tokenizer, enough=10**9):
    tokens = token_files.corpus_tokens(corpus, "train", tokenizer, EOS, enough)
    return tokens[: len(tokens)].tolist()


def expected(tokenizer, documents=DOCUMENTS):
    return encode_corpus(documents, tokenizer, 10**9, EOS).tolist()


def refuse(split):
    pytest.fail("the text is read again")


def pieces_of(tmp_path, suffix=".ds"):
    return sorted((tmp_path / "cache" / "tokens").glob(f"*/train_*{suffix}"))


def test_a_second_run_reads_no_text(tmp_path, folder, tokenizer):
    corpus = open_corpus(str(folder))
    assert read(corpus, tokenizer) == expected(tokenizer)
    assert read(replace(corpus, texts=refuse), tokenizer) == expected(tokenizer)
    assert len(pieces_of(tmp_path)) > 3

    # The format is that of datatrove.
    ids = np.concatenate([np.fromfile(file, "<u2") for file in pieces_of(tmp_path)])
    assert ids.tolist() == expected(tokenizer)
    ends = np.fromfile(pieces_of(tmp_path, ".index")[0], "<u8")
    assert ids[ends.astype(int) - 1].tolist() == [EOS] * len(ends)
    assert pieces_of(tmp_path, ".metadata")[0].read_text().split("\n")[0].endswith("|2")


def test_long_tokenising_says_how_far_it_is(tmp_path, folder, tokenizer, caplog, monkeypatch):
    monkeypatch.setattr(text_progress, "LINE_EVERY_S", 0.0)
    read(open_corpus(str(folder)), tokenizer)
    *lines, last = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"tokenising texts: 0 of about 0 MB, .* MB/s, about \d+ s left", lines[-1])
    assert last.startswith(f"texts: 0.0 million tokens are in {tmp_path / 'cache'}")


def test_only_what_a_run_reads_is_made_and_a_longer_run_goes_on(tmp_path, folder, tokenizer):
    corpus = open_corpus(str(folder))
    assert read(corpus, tokenizer, 700) == expected(tokenizer)[:700]
    few = pieces_of(tmp_path)
    stamps = [file.stat().st_mtime_ns for file in few]
    assert read(replace(corpus, texts=refuse), tokenizer, 600) == expected(tokenizer)[:600]
    assert read(corpus, tokenizer) == expected(tokenizer)
    assert [file.stat().st_mtime_ns for file in few] == stamps
    assert len(pieces_of(tmp_path)) > len(few)


def test_another_tokenizer_has_other_files(tmp_path, folder, tokenizer):
    other = train_tokenizer(DOCUMENTS, 500)
    corpus = open_corpus(str(folder))
    assert read(corpus, tokenizer) == expected(tokenizer)
    assert read(corpus, other) == expected(other) != expected(tokenizer)
    tokenizer("what a call sets is no other tokenizer", truncation=True, max_length=3)
    read(corpus, tokenizer)
    assert len(list((tmp_path / "cache" / "tokens").glob("texts-*"))) == 2


def test_a_killed_run_leaves_whole_pieces_and_the_next_goes_on(tmp_path, folder, tokenizer):
    corpus = open_corpus(str(folder))

    def killed(split):
        for number, text in enumerate(corpus.texts(split)):
            if number == 150:
                raise KeyboardInterrupt
            yield text

    with pytest.raises(KeyboardInterrupt):
        read(replace(corpus, texts=killed), tokenizer)
    done = pieces_of(tmp_path)
    assert done
    assert not list((tmp_path / "cache").rglob("*.partial"))

    # What is between a piece and its index is lost, and no more.
    last = pieces_of(tmp_path, ".index")[-1]
    last.unlink()
    half = last.with_name(".train_00009.ds.0123abcd.partial")
    half.write_bytes(b"what a process was writing when it was killed")
    stamps = [file.stat().st_mtime_ns for file in done[:-1]]
    assert read(corpus, tokenizer) == expected(tokenizer)
    assert [file.stat().st_mtime_ns for file in done[:-1]] == stamps
    assert not half.exists()


def cut(file):
    file.write_bytes(file.read_bytes()[:-8])


@pytest.mark.parametrize("suffix", [".ds", ".ds.index"])
@pytest.mark.parametrize("harm", [cut, os.truncate, os.unlink], ids=["cut", "empty", "lost"])
def test_a_piece_that_is_cut_short_is_made_again(tmp_path, folder, tokenizer, caplog, suffix, harm):
    corpus = open_corpus(str(folder))
    read(corpus, tokenizer)
    file = pieces_of(tmp_path, suffix)[1]
    harm(file, 0) if harm is os.truncate else harm(file)
    assert read(corpus, tokenizer) == expected(tokenizer)
    is_index_lost = suffix == ".ds.index" and harm is os.unlink  # as a killed run leaves it
    assert is_index_lost or "train_00001.ds is cut short or lost; it is made again" in caplog.text


def test_a_full_disk_keeps_what_was_made(tmp_path, folder, tokenizer, monkeypatch):
    corpus = open_corpus(str(folder))

    def encoded(*args, **options):
        for number, batch in enumerate(encoding.encoded_documents(*args, **options)):
            if number == 9:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(token_files, "encoded_documents", encoded)
        with pytest.raises(TemporaryError, match=r"Cannot write .*\.ds \(No space left on device"):
            read(corpus, tokenizer)
    done = len(pieces_of(tmp_path))
    assert done
    assert done == len(pieces_of(tmp_path, ".index"))
    assert read(corpus, tokenizer) == expected(tokenizer)


def test_files_that_change_are_tokenised_again_and_that_is_said(folder, tokenizer, caplog):
    read(open_corpus(str(folder)), tokenizer)
    write_documents(folder, DOCUMENTS[::-1])
    caplog.clear()
    assert read(open_corpus(str(folder)), tokenizer) == expected(tokenizer, DOCUMENTS[::-1])
    assert "texts has changed, so it is tokenised again; the tokens of its former" in caplog.text


def test_files_that_change_while_they_are_read_are_refused(tmp_path, folder, tokenizer):
    corpus = open_corpus(str(folder))
    write_documents(folder, DOCUMENTS[::-1])
    with pytest.raises(UsageError, match=r"texts changed while it was read; wait until"):
        read(corpus, tokenizer)
    assert not pieces_of(tmp_path)


def test_much_data_is_hashed_once(folder, monkeypatch):
    monkeypatch.setattr(cache, "LARGE_FOLDER", 10)
    monkeypatch.setattr(cache, "SETTLED_NS", 0)
    digest = cache.folder_digest(folder)
    monkeypatch.setattr(cache, "content_digest", lambda path: pytest.fail("hashed again"))
    assert cache.folder_digest(folder) == digest
    os.utime(folder / "train.parquet", (1, 1))
    with pytest.raises(pytest.fail.Exception):
        cache.folder_digest(folder)


def test_one_process_makes_them_and_the_others_wait(tmp_path, folder, tokenizer, monkeypatch):
    corpus = open_corpus(str(folder))
    read(corpus, tokenizer, 700)
    (target,) = (tmp_path / "cache" / "tokens").glob("texts-*")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNPRE_CACHE", str(tmp_path / "elsewhere"))
        read(corpus, tokenizer)
    (whole,) = (tmp_path / "elsewhere" / "tokens").glob("texts-*")

    # The second reader has seen too few ids, and stands before the lock.
    results = []
    waits = threading.Event()

    def lock_and_say(path):
        waits.set()
        return lock(path)

    monkeypatch.setattr(token_files, "lock", lock_and_say)
    waiting = threading.Thread(
        target=lambda: results.append(read(replace(corpus, texts=refuse), tokenizer))
    )
    with lock(target):
        waiting.start()
        assert waits.wait(60)
        shutil.rmtree(target)
        shutil.copytree(whole, target)
        assert not results
    waiting.join()
    assert results == [expected(tokenizer)]


def test_pieces_that_another_process_deletes_are_lost(tmp_path, folder, tokenizer, monkeypatch):
    corpus = open_corpus(str(folder))
    read(corpus, tokenizer)
    (file, *_) = pieces_of(tmp_path)
    exists = Path.exists

    def exists_no_longer(path):
        was_there = exists(path)
        path.unlink(missing_ok=True)
        return was_there

    monkeypatch.setattr(Path, "exists", exists_no_longer)
    assert token_files.read_piece(file, np.dtype("<u2")) is not None
    stored = token_files.StoredSplit(file.parent, "train", np.dtype("<u2"))
    assert stored.whole_pieces() == []
    assert not stored.is_enough([], 1)


def test_windows_of_token_files_are_those_of_an_array(folder, tokenizer):
    tokens = token_files.corpus_tokens(open_corpus(str(folder)), "train", tokenizer, EOS, 3000)
    array = np.array(expected(tokenizer)[:3000], np.int32)
    copy = pickle.loads(pickle.dumps(tokens))
    options = {"size": 200, "length": 700, "seed": 3}
    for make in (TextWindows, FullWindows, lambda *a, **o: FullWindows(*a, wrap=True, **o)):
        ours, theirs = make(copy, **options), make(array, **options)
        for i in range(200):
            assert ours[i].dtype == np.int32
            assert np.array_equal(ours[i], theirs[i])


def test_a_folder_of_token_files_is_a_corpus(tmp_path, folder, tokenizer):
    read(open_corpus(str(folder)), tokenizer)
    ready = tmp_path / "ready"
    ready.mkdir()
    for file in [*pieces_of(tmp_path), *pieces_of(tmp_path, ".index")]:
        shutil.copy(file, ready)
    corpus = open_corpus(str(ready))
    assert read(corpus, tokenizer) == expected(tokenizer)

    with pytest.raises(
        UsageError, match=r"token files \(\.ds\), and none whose name or folder says val"
    ):
        token_files.corpus_tokens(corpus, "validation", tokenizer, EOS, 10)
    with pytest.raises(UsageError, match="no text to train a tokenizer on; give --tokenizer_name"):
        corpus.texts("train")
    small = train_tokenizer(DOCUMENTS, 300)
    with pytest.raises(UsageError, match=r"ready has the id \d+, and the tokenizer has ids below"):
        read(corpus, small)
    (ready / "train_00001.ds.index").unlink()
    with pytest.raises(UsageError, match=r"train_00001\.ds is no whole token file of this token"):
        read(corpus, tokenizer)


def test_the_longest_documents_are_cut_at_the_end_of_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "LONGEST_DOCUMENT", 60)
    monkeypatch.setattr(encoding, "PART_CHARACTERS", 20)
    assert list(document_parts(["short ", "enough"])) == ["short enough"]
    assert list(document_parts([""])) == [""]
    long = "".join(f"line {i} of many\n" for i in range(9)) + "x" * 50
    parts = list(document_parts([long[:33], long[33:]]))
    assert "".join(parts) == long
    assert parts[:2] == ["line 0 of many\n", "line 1 of many\n"]
    assert max(map(len, parts)) == 20

    (tmp_path / "train.txt").write_text(long)
    assert list(open_corpus(str(tmp_path)).texts("train")) == parts


def test_lines_of_json_are_read_some_at_a_time(tmp_path):
    rows = [{"id": i, "text": text} for i, text in enumerate(DOCUMENTS)]
    rows[100:100] = [{"id": 7}, *({"text": None} for _ in range(2 * ROWS_A_READ))]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "train.jsonl").write_text(lines)
    texts = open_corpus(str(tmp_path)).texts("train")
    assert next(texts) == DOCUMENTS[0]
    assert list(texts) == DOCUMENTS[1:]


def test_large_tables_lie_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNPRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MOST_TABLE_BYTES", 1000)
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in DOCUMENTS))
    monkeypatch.setattr(readers, "ROWS_A_CHUNK", 10)
    monkeypatch.setattr(separated, "ROWS_A_CHUNK", 10)
    pq.write_table(pa.table({"text": DOCUMENTS}), tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("".join(f'"{t}"\n' for t in ["text", *DOCUMENTS]))
    (tmp_path / "rows.txt").write_text("\n".join(DOCUMENTS))
    # The datasets library would copy a table to hash it.
    monkeypatch.setattr(arrow_dataset, "generate_fingerprint", lambda _: pytest.fail("copied"))
    for name in ("rows.jsonl", "rows.parquet", "rows.csv", "rows.txt"):
        before = pa.total_allocated_bytes()
        rows = readers.read_file(tmp_path / name)
        assert pa.total_allocated_bytes() - before < 3000
        assert rows["text"][:] == DOCUMENTS
    assert not list((tmp_path / "cache").iterdir())


def test_datatrove_makes_the_same_files(tmp_path, folder, tokenizer):
    pytest.importorskip("datatrove", reason="datatrove is not installed (pip install datatrove)")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    script = Path(__file__).parents[2] / "examples" / "tokenize_corpus.py"
    flags = {"--texts": folder, "--tokenizer": tmp_path / "tokenizer", "--output": tmp_path / "out"}
    command = [sys.executable, script, *itertools.chain.from_iterable(flags.items())]
    subprocess.run([*map(str, command), "--tasks", "1", "--workers", "1"], check=True)
    assert read(open_corpus(str(tmp_path / "out")), tokenizer) == expected(tokenizer)
