"""Shared pieces: no network, one thread, tiny models and data made on the spot."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]

# Libraries and tests are imported without searches for unused objects, which take seconds.
gc.disable()


def pytest_collection_finish():
    """Search for unused objects again, once all tests are imported."""
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _libraries_out_of_the_way():
    """Let searches for unused objects, of which each Trainer makes one, pass over the libraries.

    They have a million objects. What a file of tests makes itself is found and freed at its end.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_run(tmp_path_factory):
    """Keep token files apart from the user's; subprocesses of the tests use the same folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNPRE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.getbasetemp() / "trackio"))
        yield


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """The wheel and the source archive of a copy, as a zip file of the repository would give it."""
    folder = tmp_path_factory.mktemp("archives")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    cached = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "hf_synpre", folder / "hf_synpre", ignore=cached)
    command = [sys.executable, "setup.py", "-q", "sdist", "bdist_wheel"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    (source,) = (folder / "dist").glob("*.tar.gz")
    (file,) = (folder / "dist").glob("*.whl")
    return {"sdist": source, "wheel": file}


@pytest.fixture(scope="session")
def wheel(archives):
    """The wheel of the package."""
    return archives["wheel"]


@pytest.fixture(scope="session")
def tiny_config():
    from small_models import TINY
    from transformers import T5Config

    return T5Config(vocab_size=64, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **TINY)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """A folder in Hub layout with the columns of mtop."""
    folder = tmp_path_factory.mktemp("hub") / "mtop"
    (folder / "data").mkdir(parents=True)
    rules = "\n".join(
        f"  - split: {s}\n    path: data/{s}-*.parquet" for s in ("train", "validation", "test")
    )
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{rules}\n---\n"
    )
    words = ["alarm", "set", "call", "mum", "now", "weather", "play", "song"]
    for split, first, count in (("train", 0, 200), ("validation", 200, 40), ("test", 240, 40)):
        utterances = [
            " ".join(words[(i * k) % 8] for k in (1, 3, 5)) + f" {i}"
            for i in range(first, first + count)
        ]
        table = pa.table(
            {
                "utterance": utterances,
                "logical_form": [f"[IN:X [SL:Y {text} ] ]" for text in utterances],
            }
        )
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="session")
def labelled_dataset(tmp_path_factory):
    """A small labelled dataset; a row of its test is in its train split in other letters."""
    from encoder_examples import labelled, write_dataset

    test = labelled(200, 20)
    leaked = labelled(0, 200)
    leaked["text"][7] = "  ".join(test["text"][3].upper().split())
    return write_dataset(tmp_path_factory.mktemp("sets") / "pets", train=leaked, test=test)


@pytest.fixture(scope="session")
def labelled_corpus(labelled_dataset):
    from hf_synpre.data.corpora import open_corpus
    from hf_synpre.data.text_spec import TextSpec

    return open_corpus(str(labelled_dataset), text=TextSpec())


@pytest.fixture(scope="session")
def encoder_tokenizer(labelled_corpus):
    from hf_synpre.data.tokenizers import train_encoder_tokenizer

    return train_encoder_tokenizer(labelled_corpus.texts("train"), 320)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Every task of label_examples as ids: name -> PreparedTask."""
    from encoder_examples import write_dataset
    from label_examples import TASKS

    from hf_synpre.finetuning import prepare

    folder = tmp_path_factory.mktemp("tasks")
    made = {}
    for name, (task, rows, _) in TASKS.items():
        parts = {"train": rows(0, 192), "validation": rows(192, 32), "test": rows(224, 32)}
        write_dataset(folder / name, **parts)
        made[name] = prepare(task, folder / f"{name}.ids", data_dir=str(folder), vocab_size=400)
    return made


@pytest.fixture(scope="session")
def saved_t5(tmp_path_factory):
    """The folder of a saved T5 of two layers, weights only; its parameters differ in moments."""
    from small_models import t5, with_distinct_moments
    from transformers import AutoModelForSeq2SeqLM

    from hf_synpre.initialization import build

    folder = tmp_path_factory.mktemp("saved")
    model = build(AutoModelForSeq2SeqLM, t5(num_layers=2, num_decoder_layers=2), {}, 0)
    with_distinct_moments(model).save_pretrained(folder)
    return folder


@pytest.fixture
def t5_checkpoint(saved_t5, tmp_path):
    """A copy of the saved T5 that a test may change."""
    return shutil.copytree(saved_t5, tmp_path / "checkpoint")


@pytest.fixture
def llama_checkpoint(tmp_path):
    """The folder of a saved Llama of two layers with a random init."""
    from small_models import llama
    from transformers import AutoModelForCausalLM

    from hf_synpre.initialization import build

    build(AutoModelForCausalLM, llama(), {}, 0).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.fixture
def forgotten_tasks():
    """Tasks that the test imports or registers are forgotten when it ends."""
    from hf_synpre.tasks import imports, registry

    registry.load_families()
    before = dict(registry.REGISTRY)
    yield
    registry.REGISTRY.clear()
    registry.REGISTRY.update(before)
    imports.IMPORTED.clear()


@pytest.fixture
def undrawn(monkeypatch):
    """Let reports write files in place of plots, whose drawing takes seconds."""
    monkeypatch.setattr("hf_synpre.report.plots.image", lambda figure, kind: b"image")
