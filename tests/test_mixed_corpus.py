"""The campaign's longer natural text: novels and source code, mixed, in both splits.

Run: pytest tests/test_mixed_corpus.py
"""

import importlib.util
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hf_synpre.data import stdlib
from hf_synpre.data.corpora import open_corpus

SCRIPT = Path(__file__).parents[1] / "examples" / "mixed_corpus.py"


def test_novels_and_source_are_one_corpus(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    novels = {split: [f"{split} novel {i}" for i in range(20)] for split in ("train", "validation")}
    (tmp_path / "eltec_eng").mkdir()
    for split, texts in novels.items():
        pq.write_table(pa.table({"text": texts}), tmp_path / "eltec_eng" / f"{split}.parquet")
    monkeypatch.setattr(stdlib, "texts", lambda split: [f"{split} code {i}" for i in range(20)])

    monkeypatch.setattr("sys.argv", ["mixed_corpus.py", str(tmp_path)])
    script.main()

    corpus = open_corpus("novels_and_source", str(tmp_path))
    for split, texts in novels.items():
        mixed = list(corpus.texts(split))
        assert sorted(mixed) == sorted([*texts, *stdlib.texts(split)])
        # Both kinds stand in the first half: a run that reads only that reads both.
        assert {text.split()[1] for text in mixed[:20]} == {"novel", "code"}
    assert "train: 40 documents" in capsys.readouterr().out
