"""Text-to-text tasks: columns of every shape, splits, corpora, a task of one's own.

Run: pytest tests/finetuning/test_text_tasks.py
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_models import TINY

from hf_synpre.data.corpora import Corpus, open_corpus
from hf_synpre.errors import UsageError
from hf_synpre.finetuning import (
    TextToTextTask,
    get_finetuning_task,
    prepare,
)
from hf_synpre.finetuning.catalog import TEXT_TO_TEXT_TASKS

ROWS = {  # columns as the Hub and ../shared/data have them -> (source, gold texts)
    "retrosynthesis": ({"product": "CCO", "reactants": "CC.O"}, ("CCO", ["CC.O"])),
    "code_translation": ({"java": "int a;", "cs": "int A;"}, ("int a;", ["int A;"])),
    "mtop": (
        {"question": "call mum", "logical_form": "[IN:CALL ]", "lang": "en"},
        ("call mum", ["[IN:CALL ]"]),
    ),
    "webqsp": (
        {
            "question": "who",
            "topic_entity": "A B",
            "topic_mid": "m.1",
            "chain_form": "(JOIN r m.1)",
        },
        ("who entity: A B m.1", ["(JOIN r m.1)"]),
    ),
    "squad": (
        {
            "question": "Who?",
            "context": "It's I.",
            "answers": {"text": ["I.", "Me"], "answer_start": [5, 0]},
        },
        ("question: Who ? context: It ' s I .", ["I .", "Me"]),
    ),
    "cnn_dailymail_10k": (
        {"article": "Long\nText", "highlights": "One .\nTwo ."},
        ("long text", ["one . two ."]),
    ),
    "aeslc": ({"email_body": "a\nb", "subject_line": "Hi"}, ("a b", ["Hi"])),
    "scitldr": (
        {"source": ["One.", "Two."], "target": ["short", "brief"]},
        ("One. Two.", ["short", "brief"]),
    ),
}


def save(folder, splits):
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        pq.write_table(
            pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000-of-00001.parquet"
        )
    return folder


def test_every_task_has_an_example_here():
    assert set(ROWS) | {"stdlib_ast"} == {task.name for task in TEXT_TO_TEXT_TASKS}


@pytest.mark.parametrize("name", ROWS)
def test_columns_become_text(name, tmp_path):
    row, (source, references) = ROWS[name]
    splits = ("train", "validation") if name == "squad" else ("train", "validation", "test")
    tables = get_finetuning_task(name).load(
        str(save(tmp_path / name, dict.fromkeys(splits, [row] * 20)))
    )
    assert tables["test"].to_pylist()[0] == {
        "source": source,
        "target": references[0],
        "references": references,
    }
    assert [len(t) for t in tables.values()] == ([18, 2, 20] if name == "squad" else [20] * 3)


def test_a_task_without_a_hub_id_says_where_its_rows_go():
    with pytest.raises(
        UsageError, match="webqsp has no Hub id; give the folder of its rows as --data_dir"
    ):
        get_finetuning_task("webqsp").load()


def test_rows_that_are_no_text_are_named(tmp_path):
    row = {"source": "a", "target": []}
    rows = (row, {"source": "b", "target": ["c"]})
    folder = save(tmp_path / "mine", dict.fromkeys(("train", "validation", "test"), rows))
    task = TextToTextTask("mine", ["source"], ["target"])
    said = "1 of 2 rows of train have no text in column target, the first is row 1; give text in"
    with pytest.raises(UsageError, match=said):
        task.load(str(folder))

    rows = ({"source": "a", "target": 0.5}, {"source": "b", "target": 1.5})
    folder = save(tmp_path / "numbers", dict.fromkeys(("train", "validation", "test"), rows))
    with pytest.raises(
        UsageError, match="column target of train holds numbers; give text in every"
    ):
        task.load(str(folder))


def test_held_out_rows_are_in_no_other_split(tmp_path):
    rows = [{"source": f"s{i}", "target": "t"} for i in range(100)]
    task = TextToTextTask("mine", ["source"], ["target"], rows={"train": 50})
    tables = task.load(str(save(tmp_path / "mine", {"train": rows, "test": rows[:3]})))
    train, validation, test = (set(t["source"].to_pylist()) for t in tables.values())
    assert (len(train), len(validation), len(test)) == (50, 10, 3)
    assert not train & validation


def test_a_tokenizer_may_be_trained_on_another_corpus(tmp_path, tiny_dataset):
    corpus = Corpus(lambda split: ["quagga"] * 9, {"name": "zoo"})
    data = prepare(
        get_finetuning_task("mtop"),
        tmp_path / "ids",
        data_dir=str(tiny_dataset),
        vocab_size=300,
        corpus=corpus,
    )
    assert data.metadata["tokenizer"] == "byte-level BPE trained on zoo, 300 ids"
    assert len(data.tokenizer("quagga")["input_ids"]) == 1


def test_a_corpus_is_a_folder_or_says_what_is_missing(tmp_path):
    save(
        tmp_path / "novels",
        {"train": [{"text": "It was"}, {"text": "a night."}], "validation": [{"text": "x"}]},
    )
    corpus = open_corpus("novels", str(tmp_path))
    assert list(corpus.texts("train")) == ["It was", "a night."]
    assert list(open_corpus(str(tmp_path / "novels")).texts("validation")) == ["x"]
    (tmp_path / "novels" / "more.txt").write_text("edited")
    assert open_corpus("novels", str(tmp_path)).metadata != corpus.metadata
    with pytest.raises(UsageError, match=r"Unknown corpus 'novel'\. Allowed: stdlib, a folder in "):
        open_corpus("novel", str(tmp_path))
    with pytest.raises(UsageError, match=r"has no test split \(it has train, validation\)"):
        list(corpus.texts("test"))
    (tmp_path / "novel.txt").write_text("It was a night.")
    with pytest.raises(UsageError, match=r"corpus 'novel\.txt' is a file; give its folder"):
        open_corpus("novel.txt", str(tmp_path))


def test_a_task_of_one_s_own_from_the_command_line(tmp_path, capsys):
    """Several references a row, a metric of fractions; the result holds every example's score."""
    from hf_synpre.cli import main
    from hf_synpre.files import unpack_fractions

    rows = [{"word": f"say {i}", "said": [f"{i}", f"<{i}>"]} for i in range(40)]
    save(tmp_path / "rows", dict.fromkeys(("train", "validation", "test"), rows))
    (tmp_path / "task.yaml").write_text(
        'name: saying\nsource: ["{word}!"]\ntarget: [said]\nmetric: token_f1\nmax_target: 8\n'
    )
    words = [
        "--data_dir",
        str(tmp_path / "rows"),
        "--vocab_size",
        "300",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    words += ["--config_overrides", ",".join(f"{k}={v}" for k, v in TINY.items())]
    words += [
        "--max_steps=2",
        "--use_cpu",
        "--per_device_train_batch_size=8",
        "--lora",
        "r=2,target_modules=[q]",
    ]
    assert main(["finetune", str(tmp_path / "task.yaml"), *words]) == 0
    assert "f1 0." in capsys.readouterr().out
    cell = json.loads((tmp_path / "out" / "saying--random--0.json").read_text())
    assert (cell["metric"], cell["config"]["arm"]["lora"]) == (
        "f1",
        {"r": 2, "target_modules": ["q"]},
    )
    assert unpack_fractions(cell["example_scores"]).mean() == pytest.approx(cell["score"], abs=1e-4)
    assert len(unpack_fractions(cell["example_scores"])) == cell["test_examples"] == 40
    assert np.isfinite(cell["phases"]["finetuning"]["test_s"])
